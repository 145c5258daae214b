//! The rules against their own examples, against a table of replies, and against hostile input.

use std::time::{Duration, Instant};

use mail_failover_core::model::{ReplyRule, ReplyRules};
use mail_failover_replies::{About, Answered, Reply, Rulebook, Rules, rules, subject, without_addresses};

fn parse(line: &str) -> Reply<'_> {
    let (stage, text) = line.split_once([' ', '\t']).unwrap();
    Reply::parse(Some(stage.parse().unwrap()), text).unwrap()
}

#[test]
fn every_rule_decides_its_own_examples() {
    let mut wrong = vec![];
    for rule in rules().iter() {
        for example in rule.examples() {
            // With the rules of every provider, and with those of its own.
            for provider in [None, rule.provider()] {
                let decided = rules().decide(&parse(example), provider).map(mail_failover_replies::Rule::id);
                if decided != Some(rule.id()) {
                    wrong.push(format!("{}: {example:?} is decided by {decided:?} for {provider:?}", rule.id()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Pairs of rules with different subjects that both fit a reply of ours, in their order: here the order decides.
fn overlaps() -> String {
    let table = include_str!("replies.tsv").lines().filter(|line| !line.starts_with('#'));
    let table = table.filter_map(|line| line.split_once('\t')).map(|(_, reply)| reply);
    let examples = rules().iter().flat_map(|rule| rule.examples().iter().map(String::as_str));
    let mut pairs = std::collections::BTreeSet::new();
    for reply in examples.chain(table) {
        let applying = rules().all_that_apply(&parse(reply));
        let Some((first, others)) = applying.split_first() else { continue };
        // What decides by codes alone is there for what no other rule knows.
        let others = others.iter().filter(|other| other.about() != first.about() && !other.id().starts_with("codes/"));
        pairs.extend(others.map(|other| format!("{} before {}\n", first.id(), other.id())));
    }
    pairs.into_iter().collect()
}

#[test]
fn where_the_order_of_rules_decides_is_written_down() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/overlaps.txt");
    let found = overlaps();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, &found).unwrap();
    }
    let declared = std::fs::read_to_string(file).unwrap();
    let news: Vec<_> = found.lines().filter(|line| !declared.lines().any(|known| known == *line)).collect();
    assert!(
        declared == found,
        "tests/overlaps.txt: look at each new pair, then run UPDATE_DOCS=1 cargo test -p mail-failover-replies: {news:#?}"
    );
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
        "RCPT 550 No such user: sending-paused",
        "RCPT 550 no such user your_account_suspended",
        "DATA 550 5.7.1 no such user daily-quota-exceeded",
        "RCPT 550 unknown user not-logged-in",
        "RCPT 550 Unknown local part \"payment\" in this domain",
        "RCPT 550 No user invoice here",
        "RCPT 550 5.1.1 <\"a> your account is suspended <b\"@a.example>: user unknown",
        "RCPT 550 <\"a> your account is suspended <b\"@a.example>: user unknown",
        "RCPT 550 \"a\\\" your account is suspended \\\"b\"@a.example unknown",
        "RCPT 501 Bad address syntax: x@a.example/your/account/suspended",
        "RCPT 550 Mailbox 'dmarc-reports' unknown",
    ];
    for case in cases {
        assert_eq!(subject(&parse(case), None).0, About::Recipient, "{case}");
    }
}

/// Forms in which relays, gateways and callouts hand on what the next server said; `{}` is its reply.
const QUOTING: &[&str] = &[
    "RCPT 550-Callout verification failed: 550 {}",
    "RCPT 550-Called: 192.0.2.66 550-Sent: RCPT TO:<x@a.example> 550-Response: {} 550 no",
    "RCPT 550 5.1.351 Remote server returned unknown recipient -> {}",
    "DATA 550 permanent failure for one or more recipients (x@a.example:{})",
    "RCPT 554 5.0.0 SMTP error from remote mail server after RCPT TO:<x@a.example>: host mx.a.example [192.0.2.66]: {}",
    "RCPT 550 response to \"RCPT TO\" from mx.a.example [192.0.2.66] was: {}",
    "DATA 451 4.4.0 Primary target IP address responded with: \"{}.\"",
    "DATA 554 Remote server returned '{}'",
    "RCPT 550 mx.a.example \u{2192} {}",
    "RCPT 550 mx.a.example => {}",
    "RCPT 550 Remote host said : {}",
    "RCPT 550 Remote host said '{}'",
    "RCPT 550 Remote host said {}",
    "RCPT 550 5.1.1 Invalid recipient <x@a.example> (#5.1.1): {}",
    "RCPT 550 <x@a.example>: Recipient address rejected: {}",
    "DATA 550 Failed <<< {}",
    "DATA 550 Diagnostic-Code: smtp; {}",
    "RCPT 550 recipient verify failed: {}",
    "RCPT 550 downstream: {}",
    "RCPT 550 mx.a.example replied {}",
    "RCPT 550 mx.a.example[192.0.2.66] {}",
    "DATA 550-The next server at mx.a.example 550-replied {} 550 Giving up",
    "RCPT 550 smtp={}; giving up",
    "RCPT 450 4.1.1 <x@a.example>: Recipient address rejected: unverified address: host mx.a.example[192.0.2.1] said: {}",
];

#[test]
fn what_another_server_said_neither_moves_nor_counts_in_whatever_form_it_is_quoted() {
    let said = [
        "550 5.7.1 Your account has been suspended",
        "550-5.7.1 Your account has been suspended 550 5.7.1 Sending paused",
        "550 Sending quota exceeded for your account",
        "535 5.7.8 Authentication required",
        "554 Your IP is blacklisted at zen.spamhaus.org",
        "421 4.3.2 Service not available",
        "500 messages: your account has been suspended",
    ];
    for form in QUOTING {
        for said in said {
            let reply = form.replace("{}", said);
            let about = subject(&parse(&reply), None).0;
            assert!(!about.consequences().counts && !about.consequences().immediate, "{about}: {reply}");
            let parsed = parse(&reply);
            let kept = without_addresses(parsed.code, parsed.text);
            assert!(!kept.contains("your account") && !kept.contains("sending"), "{kept}");
        }
    }
}

#[test]
fn what_stands_before_a_quotation_is_the_servers_own() {
    let reply = "DATA 550 Your account has been suspended. Last answer of the filter: 550 5.7.1 abuse";
    assert_eq!(subject(&parse(reply), None).0, About::Account);
}

#[test]
fn a_number_of_what_is_counted_begins_no_quotation() {
    for reply in [
        "RCPT 550 5.7.1 You have exceeded 500 messages a day",
        "MAIL 452 4.5.3 Your quota: 500 messages per day",
        "RCPT 550 Over the limit of 400 recipients per day",
    ] {
        assert_eq!(subject(&parse(reply), None).0, About::Quota, "{reply}");
    }
}

#[test]
fn a_number_that_names_something_and_the_own_code_again_begin_no_quotation() {
    for reply in [
        "RCPT 550 Error 550: Your account has been suspended",
        "DATA 554 status 554 5.7.1 Your account has been suspended",
        "RCPT 550 Case 512: Your account has been suspended",
    ] {
        assert_eq!(subject(&parse(reply), None).0, About::Account, "{reply}");
    }
    // Exim repeats to DATA what it said to each RCPT.
    let own = "DATA 503-All RCPT commands were rejected with this error: 503-Your account has been suspended 503 Valid RCPT \
               command must precede DATA";
    assert_eq!(subject(&parse(own), None).0, About::Account);
    // What leads to somebody else's code does.
    for reply in [
        "RCPT 550 Verify failed, error 550: Your account has been suspended",
        "RCPT 550 Error 554: Your account has been suspended",
        "RCPT 550 The next one said in case 550: Your account has been suspended",
    ] {
        assert!(!subject(&parse(reply), None).0.consequences().counts, "{reply}");
    }
}

#[test]
fn no_phrase_goes_across_a_colon() {
    let reply = "DATA 552 quota exceeded: your message is too large for this mailbox";
    assert!(!subject(&parse(reply), None).0.consequences().immediate, "{reply}");
}

#[test]
fn a_phrase_in_quotes_is_no_word_about_us() {
    for quotes in ["''", "\"\"", "`'", "\u{201c}\u{201d}", "\u{ab}\u{bb}"] {
        let mut quotes = quotes.chars();
        let (open, close) = (quotes.next().unwrap(), quotes.next().unwrap());
        let reply = format!("DATA 554 5.7.1 Rejected: line {open}your account has been suspended{close} is not wanted");
        assert!(!subject(&parse(&reply), None).0.consequences().immediate, "{reply}");
    }
    let all = "DATA 550 \"Your account has been suspended\"";
    assert_eq!(subject(&parse(all), None).0, About::Account, "the server says nothing else");
}

#[test]
fn a_reply_of_several_lines_is_read_as_one() {
    let reply = "DATA 550-5.7.26 Unauthenticated email from example.com is not accepted due to domain's 550-5.7.26 DMARC policy. 550 5.7.26 See";
    assert_eq!(subject(&parse(reply), None).0, About::Identity);
    for reply in [
        // The first word of a line counts, too.
        "DATA 554-Message refused 554-Daily 554 quota of messages is used up",
        "MAIL 550-Your 550-account 550 is suspended",
    ] {
        assert!(subject(&parse(reply), None).0.consequences().immediate, "{reply}");
    }
    let split = "RCPT 550-no such 550 user here";
    assert_eq!(subject(&parse(split), None).0, About::Recipient);
}

#[test]
fn a_word_belongs_to_the_sentence_that_it_begins() {
    // `user` and `not exist` stand in one sentence, though what is before them ends with a full stop.
    assert_eq!(subject(&parse("RCPT 554 5.7.1 <x@a.example>... User not exist here"), None).0, About::Recipient);
    // `ip` and `blocked` do not.
    let reply = "RCPT 554 5.7.1 Attachment blocked. Your message came from 192.0.2.1";
    assert_ne!(subject(&parse(reply), None).0, About::Address);
}

#[test]
fn a_rule_may_ask_for_one_word_beside_another() {
    let file = "rules:\n- {id: a, about: Account, source: s, words: [house, home], with: [shut], unless: [open], examples: [\"MAIL 550 x\"]}\n";
    let rules = Rules::read(&[("f", file)]).unwrap();
    let applies = |reply: &str| rules.decide(&parse(reply), None).is_some();
    assert!(applies("MAIL 550 the home is shut") && applies("MAIL 550 shut: the house"));
    for reply in
        ["MAIL 550 the house", "MAIL 550 shut", "MAIL 550 the house. It is shut", "MAIL 550 house shut, open later"]
    {
        assert!(!applies(reply), "{reply}");
    }
    let regex = regex::bytes::RegexBuilder::new(&rules.iter().next().unwrap().words_as_regex())
        .case_insensitive(true)
        .unicode(false)
        .build();
    let regex = regex.unwrap();
    assert!(regex.is_match(b"The House was Shut") && regex.is_match(b"shut (home)") && !regex.is_match(b"the house"));
    let alone = file.replace("words: [house, home], ", "codes: [5xx], ");
    assert!(Rules::read(&[("f", &alone)]).unwrap_err().to_string().contains("with: it needs words"));
    let misplaced = file.replace("shut", "shut* now");
    assert!(Rules::read(&[("f", &misplaced)]).unwrap_err().to_string().contains("a last *"));
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

/// A user's rules that look at everything there is.
fn rulebook() -> Rulebook {
    let rule = |name: &str, words: &str| ReplyRule {
        name: name.into(),
        about: "Quota".into(),
        stages: vec![],
        codes: vec![],
        enhanced_codes: vec![],
        words: vec![words.into()],
    };
    let rules = vec![rule("a", "(sent|received) [0-9]+ of [0-9]+ letters"), rule("b", "(a|b|ab)*z{3}$")];
    let (book, problems) = Rulebook::new(&ReplyRules { provider: None, rules, rejected: vec![] });
    assert_eq!(problems, []);
    book
}

/// Time that no short reply takes to be read, without optimizations and on a busy machine. It takes microseconds.
const LONG: Duration = Duration::from_millis(20);

#[test]
fn mutated_replies_neither_panic_nor_take_long() {
    let inputs: usize = std::env::var("REPLY_FUZZ_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let table = include_str!("replies.tsv").lines().filter(|line| !line.starts_with('#'));
    let table = table.filter_map(|line| Some(line.split_once('\t')?.1.replacen('\t', " ", 1)));
    let seeds: Vec<_> = rules().iter().flat_map(|rule| rule.examples().iter().cloned()).chain(table).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let stages = [
        Answered::Connection,
        Answered::Hello,
        Answered::StartTls,
        Answered::Auth,
        Answered::Mail,
        Answered::Recipient,
        Answered::Data,
    ];
    let splices =
        ["<", ">", "\"@", "@", "said: ", "unverified address: ", "550-", "é", "\u{0}", "://", "[", "]", ". ", "𝔘"];
    let book = rulebook();
    let mut known = 0_usize;
    for _ in 0..inputs {
        let mut text = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let at = boundary(&text, random.below(text.len() + 1));
            match random.below(4) {
                0 => text.truncate(at),
                1 => {
                    let other = &seeds[random.below(seeds.len())];
                    text.replace_range(at.., &other[boundary(other, at)..]);
                }
                _ => text.insert_str(at, splices[random.below(splices.len())]),
            }
        }
        let stage = (random.below(8) > 0).then(|| stages[random.below(stages.len())]);
        if let Ok(reply) = Reply::parse(stage, text.split_once(' ').map_or("", |(_, reply)| reply)) {
            let begun = Instant::now();
            let reading = book.read(&reply);
            if begun.elapsed() > LONG {
                // The machine may have done something else meanwhile.
                let again = shortest_time_to_read(&book, &reply);
                assert!(again <= LONG, "{again:?}: {text}");
            }
            known += usize::from(reading.rule.is_some());
            let _ = without_addresses(reply.code, reply.text);
        }
    }
    assert!(known > inputs / 4, "{known} of {inputs} mutated replies are known to a rule: the seeds are worth little");
}

/// The last place in a text, at most this, at which a letter begins.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[test]
fn a_reply_without_its_addresses_is_read_as_the_reply_itself() {
    for line in include_str!("replies.tsv").lines().filter(|line| !line.starts_with('#')) {
        let reply = parse(line.split_once('\t').unwrap().1);
        let kept = without_addresses(reply.code, reply.text);
        let read = |text: &str| Rulebook::default().read(&Reply { text, ..reply.clone() }).about;
        assert_eq!(read(&kept), read(reply.text), "{line}: {kept}");
        assert!(!kept.contains('@'), "{kept}");
    }
}

/// The shortest of several times that it takes to read a text.
fn time_to_read(book: &Rulebook, text: &str) -> Duration {
    shortest_time_to_read(book, &Reply::parse(Some(Answered::Data), text).unwrap())
}

/// The shortest of several times that it takes to read a reply.
fn shortest_time_to_read(book: &Rulebook, reply: &Reply<'_>) -> Duration {
    let times = (0..20).map(|_| {
        let begun = Instant::now();
        book.read(reply);
        begun.elapsed()
    });
    times.min().unwrap()
}

#[test]
fn sixty_four_times_as_long_a_reply_takes_no_more_than_in_proportion() {
    let book = rulebook();
    for piece in
        ["<", "\"@a ", "a@b ", "said ", "your account ", "a. ", "550-", "<a ", "ab", "quota exceeded for ", "@"]
    {
        let of_length = |length: usize| format!("550 {}", piece.repeat(length / piece.len()));
        let (short, long) = (time_to_read(&book, &of_length(1024)), time_to_read(&book, &of_length(64 * 1024)));
        // Generous: 64 times as long, and four for what else the machine does; a quadratic case takes 4,096 times as
        // long.
        assert!(
            long < short * 64 * 4 + Duration::from_millis(2),
            "{piece:?}: {short:?} for 1 KiB, {long:?} for 64 KiB"
        );
    }
}
