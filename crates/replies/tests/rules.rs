//! The rules against their own examples, against a table of replies, and against hostile input.

use mail_failover_replies::{About, Reply, Rules, Stage, rules, subject};

fn parse(line: &str) -> Reply<'_> {
    let (stage, text) = line.split_once([' ', '\t']).unwrap();
    Reply::parse(Some(stage.parse().unwrap()), text).unwrap()
}

#[test]
fn every_rule_decides_its_own_examples() {
    let mut wrong = vec![];
    for rule in rules().iter() {
        for example in rule.examples() {
            let decided = rules().decide(&parse(example), None).map(mail_failover_replies::Rule::id);
            if decided != Some(rule.id()) {
                wrong.push(format!("{}: {example:?} is decided by {decided:?}", rule.id()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_several_rules_claim_goes_to_the_first_and_they_differ_in_few_cases() {
    // An example that also fits a later rule of another subject shows that their order matters; each such pair is wanted.
    let mut pairs = std::collections::BTreeSet::new();
    for rule in rules().iter() {
        for example in rule.examples() {
            for other in rules().all_that_apply(&parse(example)) {
                if other.about() != rule.about() {
                    pairs.insert((rule.id(), other.id()));
                }
            }
        }
    }
    for (first, _) in &pairs {
        assert!(rules().iter().any(|rule| rule.id() == *first));
    }
    assert!(pairs.len() < 80, "the order of rules decides too much: {pairs:#?}");
}

#[test]
fn replies_are_about_what_people_would_say() {
    let table = include_str!("replies.tsv");
    let mut wrong = vec![];
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (expected, reply) = line.split_once('\t').unwrap();
        let (about, rule) = subject(&parse(reply), None);
        if about.as_str() != expected {
            wrong.push(format!("{reply}: {about} by {:?}, not {expected}", rule.map(mail_failover_replies::Rule::id)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_a_stranger_wrote_decides_nothing() {
    let cases = [
        "RCPT 450 4.1.1 <x@a.example>: Recipient address rejected: unverified address: host mx.a.example[192.0.2.1] said: 550 Sending paused",
        "RCPT 550 5.1.1 <x@a.example>: Recipient address rejected: undeliverable address: host mx.a.example said: 554 your account is suspended",
        "RCPT 550 5.1.1 <\"sending paused\"@a.example>: user unknown",
        "RCPT 550 <relay-access-denied@a.example>: no such user",
        "RCPT 550 5.1.1 your.account.suspended@a.example: user unknown",
    ];
    for case in cases {
        assert_eq!(subject(&parse(case), None).0, About::Recipient, "{case}");
    }
}

#[test]
fn a_reply_of_several_lines_is_read_as_one() {
    let reply = "DATA 550-5.7.26 Unauthenticated email from example.com is not accepted due to domain's 550-5.7.26 DMARC policy. 550 5.7.26 See";
    assert_eq!(subject(&parse(reply), None).0, About::Identity);
    let split = "RCPT 550-no such 550 user here";
    assert_eq!(subject(&parse(split), None).0, About::Recipient);
}

#[test]
fn without_a_stage_only_rules_for_every_stage_decide() {
    let reply = Reply::parse(None, "550 user unknown").unwrap();
    assert_eq!(subject(&reply, None).0, About::Unknown, "at MAIL this would be the sender");
    let reply = Reply::parse(None, "554 Message rejected: Sending paused for this account.").unwrap();
    assert_eq!(subject(&reply, None).0, About::Account);
}

#[test]
fn a_rule_that_cannot_work_is_refused_with_its_name_and_field() {
    let file = "rules:\n- {id: a, about: Account, source: s, words: [UPPER], examples: [\"MAIL 550 x\"]}\n";
    let error = Rules::read(&[("f", file)]).unwrap_err().to_string();
    assert!(error.contains("f/a") && error.contains("words"), "{error}");
    let file = "rules:\n- {id: a, about: Account, source: s, examples: [\"MAIL 550 x\"]}\n";
    assert!(Rules::read(&[("f", file)]).unwrap_err().to_string().contains("no condition"));
    let file = "rules:\n- {id: a, about: Nobody, source: s, words: [x], examples: [\"MAIL 550 x\"]}\n";
    assert!(Rules::read(&[("f", file)]).unwrap_err().to_string().starts_with("f: "));
}

/// A small generator, seeded: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[test]
fn mutated_replies_neither_panic_nor_take_long() {
    let inputs: usize = std::env::var("REPLY_FUZZ_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let seeds: Vec<_> = rules().iter().flat_map(|rule| rule.examples().iter().cloned()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let stages = [Stage::Connection, Stage::Hello, Stage::Auth, Stage::Mail, Stage::Recipient, Stage::Data];
    let splices =
        ["<", ">", "\"@", "@", "said: ", "unverified address: ", "550-", "é", "\u{0}", "://", "[", "]", ". ", "𝔘"];
    for _ in 0..inputs {
        let mut text = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let mut at = random.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.insert_str(at, splices[random.below(splices.len())]);
        }
        let stage = (random.below(7) > 0).then(|| stages[random.below(stages.len())]);
        if let Ok(reply) = Reply::parse(stage, text.split_once(' ').map_or("", |(_, reply)| reply)) {
            subject(&reply, None);
        }
    }
}

#[test]
fn a_long_reply_takes_time_in_proportion() {
    for piece in ["<", "\"@a ", "a@b ", "said ", "your account ", "a. ", "550-"] {
        let text = format!("550 {}", piece.repeat(200_000));
        let begun = std::time::Instant::now();
        subject(&Reply::parse(Some(Stage::Data), &text).unwrap(), None);
        // Generous: a quadratic case takes minutes.
        assert!(begun.elapsed().as_secs() < 2, "{piece:?}: {:?}", begun.elapsed());
    }
}
