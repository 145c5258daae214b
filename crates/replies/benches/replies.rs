//! Accuracy and speed of the classification of replies (`make bench-replies`).
//!
//! `REPLIES=FILE` names a table, tab-separated with a header line, with at least the columns
//! `stage`, `code`, `text` and `expected`. Without it the repository's own examples are read, which
//! are right by construction. The bench prints how it reads `expected` as a subject.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{env, fs};

use mail_failover_replies::{About, Reply, rules, subject};

/// Subjects that are right for a value of `expected`; none for a value that the table itself calls
/// contested.
fn subjects(expected: &str) -> Vec<About> {
    match expected {
        "RecipientLevel" => vec![About::Recipient],
        "RecipientLevel(message)" => vec![About::Message],
        "RecipientLevel(destination policy)" => vec![About::Destination],
        _ if expected.starts_with("contested") => vec![],
        _ => {
            let identity = expected.contains("sender identity");
            let mut all = vec![];
            for class in expected.split(['|', '(']) {
                match class {
                    "Throttled" => all.push(About::Rate),
                    "QuotaExhausted" => all.push(About::Quota),
                    "AccountPaused" => all.push(About::Account),
                    "AuthenticationRefused" => all.push(About::Login),
                    "Reputation" if !identity => all.push(About::Address),
                    "Temporary" => all.push(About::Service),
                    "Permanent" if !identity => all.extend([About::Service, About::OurSide, About::Identity]),
                    "TlsFailed" => all.push(About::Tls),
                    _ => {}
                }
            }
            if identity {
                all.push(About::Identity);
            }
            all
        }
    }
}

/// True if taking `about` for the subject harms mail or people where `right` would be right.
fn harms(about: About, right: &[About], code: u16) -> bool {
    let (got, want) = (about.consequences(), right.iter().map(|about| about.consequences()));
    let is_5xx = code >= 500;
    !want.into_iter().any(|want| {
        (got.counts == want.counts) && (!is_5xx || got.deferred == want.deferred) && (!got.immediate || want.immediate)
    })
}

fn main() {
    let rows = match env::var("REPLIES") {
        Ok(file) => table(&fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))),
        Err(_) => own_examples(),
    };
    let (mut judged, mut same, mut harmless, mut at_once, mut counted, mut neutral, mut bounced) =
        (0, 0, 0, 0, 0, 0, 0);
    let mut mapping: BTreeMap<&str, (usize, usize, Vec<About>)> = BTreeMap::new();
    for Row { stage, reply, expected, right } in &rows {
        if right.is_empty() {
            continue;
        }
        let Ok(parsed) = Reply::parse(stage.parse().ok(), reply) else { continue };
        let (about, rule) = subject(&parsed, None);
        judged += 1;
        let is_same = right.contains(&about);
        let is_harmful = harms(about, right, parsed.code);
        same += usize::from(is_same);
        harmless += usize::from(!is_harmful);
        if right.iter().any(|about| matches!(about, About::Recipient | About::Message | About::Destination)) {
            neutral += 1;
            at_once += usize::from(about.consequences().immediate);
            counted += usize::from(about.consequences().counts);
        }
        let is_ours = right.iter().all(|about| about.consequences().immediate);
        bounced += usize::from(is_ours && parsed.code >= 500 && !about.consequences().deferred);
        let row = mapping.entry(expected).or_insert((0, 0, right.clone()));
        row.0 += 1;
        row.1 += usize::from(is_same);
        if is_harmful || !is_same {
            let which = if is_harmful { "harm " } else { "other" };
            let id = rule.map_or("-", mail_failover_replies::Rule::id);
            println!("{which} {expected}: {about} by {id}: {stage} {reply}");
        }
    }
    println!("\n| expected | read as | replies | same subject |\n|---|---|---|---|");
    for (expected, (count, same, right)) in &mapping {
        let right: Vec<_> = right.iter().map(|about| about.as_str()).collect();
        println!("| {} | {} | {count} | {same} |", expected.replace('|', "\\|"), right.join(", "));
    }
    println!(
        "\n{judged} uncontested replies: without harm {:.1} %, same subject {:.1} %",
        percent(harmless, judged),
        percent(same, judged)
    );
    println!(
        "of {neutral} about a recipient, a message or a destination: {at_once} move a route at once, {counted} count ({:.1} %)",
        percent(counted, neutral)
    );
    println!("{bounced} replies about account, login or quota bounce while a standby exists");
    let parsed: Vec<_> = rows.iter().filter_map(|row| Reply::parse(row.stage.parse().ok(), &row.reply).ok()).collect();
    let known = parsed.iter().filter(|reply| subject(reply, None).1.is_some()).count();
    let nanoseconds = fastest(&parsed, |reply| {
        std::hint::black_box(subject(reply, None));
    });
    let peer = nanoseconds_of_a_regex_set(&parsed);
    println!("one RegexSet of all rules' words, which knows neither order nor stage: {peer} ns a reply");
    println!(
        "{nanoseconds} ns a reply ({} rules, {:.1} % of the replies known to one)",
        rules().iter().count(),
        percent(known, parsed.len())
    );
    assert_eq!(at_once, 0, "replies about recipients, messages or destinations that move a route at once");
    assert_eq!(bounced, 0, "replies about account, login or quota that bounce");
    assert!(percent(harmless, judged) >= 98.0 && percent(same, judged) >= 90.0 && percent(counted, neutral) <= 1.0);
}

/// A peer: what the words alone cost, as `KumoMTA`'s bounce classifier looks for them, in one set of regular expressions.
fn nanoseconds_of_a_regex_set(replies: &[Reply<'_>]) -> u128 {
    let words = rules().iter().map(mail_failover_replies::Rule::words_as_regex).filter(|words| !words.is_empty());
    let set = regex::bytes::RegexSetBuilder::new(words)
        .case_insensitive(true)
        .unicode(false)
        .size_limit(1 << 30)
        .dfa_size_limit(1 << 28)
        .build()
        .unwrap_or_else(|error| panic!("the rules as a set: {error}"));
    fastest(replies, |reply| {
        std::hint::black_box(set.matches(reply.text.as_bytes()).iter().count());
    })
}

/// Nanoseconds a reply: for every few replies the fastest of many rounds, which other work on the machine has disturbed
/// least.
fn fastest(replies: &[Reply<'_>], read: impl Fn(&Reply<'_>)) -> u128 {
    let mut sum = Duration::ZERO;
    for few in replies.chunks(16) {
        // The first rounds fill caches.
        let times = (0..50).map(|_| {
            let begun = Instant::now();
            few.iter().for_each(&read);
            begun.elapsed()
        });
        sum += times.min().unwrap_or_default();
    }
    sum.as_nanos() / replies.len().max(1) as u128
}

fn percent(part: usize, of: usize) -> f64 {
    let exact = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    100.0 * exact(part) / exact(of.max(1))
}

struct Row {
    stage: String,
    reply: String,
    expected: String,
    right: Vec<About>,
}

fn table(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap_or_default().split('\t').collect();
    let column =
        |name: &str| header.iter().position(|column| *column == name).unwrap_or_else(|| panic!("no column {name}"));
    let (stage, code, reply, expected) = (column("stage"), column("code"), column("text"), column("expected"));
    lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|fields| Row {
            stage: fields[stage].to_owned(),
            reply: format!("{} {}", fields[code], fields[reply]),
            expected: fields[expected].to_owned(),
            right: subjects(fields[expected]),
        })
        .collect()
}

fn own_examples() -> Vec<Row> {
    let examples = rules().iter().flat_map(|rule| rule.examples().iter().map(move |example| (rule.about(), example)));
    examples
        .map(|(about, example)| {
            let (stage, reply) = example.split_once(' ').unwrap_or_default();
            Row {
                stage: stage.to_owned(),
                reply: reply.to_owned(),
                expected: about.as_str().to_owned(),
                right: vec![about],
            }
        })
        .collect()
}
