//! `docs/replies.md` has the table of consequences and the list of rules: both are generated from here and checked.
//!
//! `UPDATE_DOCS=1 cargo test -p mail-failover-replies --test docs` writes them anew.

use std::fmt::Write;
use std::fs;

use mail_failover_replies::{About, Answered, Consequences, providers, rules};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/replies.md");

fn consequences() -> String {
    let mut text = "| about | is | counts as a failure | moves a route at once | a 5xx waits for a standby | and without one | seen as throttling | blamed on us |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    let yes = |value: bool| if value { "yes" } else { "no" };
    for about in About::ALL {
        let row = about.consequences();
        let _ = writeln!(
            text,
            "| {about} | {} | {} | {} | {} | {} | {} | {} |",
            about.meaning(),
            yes(row.counts),
            at_once(about),
            yes(row.deferred),
            yes(row.waits),
            yes(row.throttling),
            yes(row.our_own)
        );
    }
    text
}

/// The classes of a refusal by which `failure.immediately` names it: by 5xx, and by 4xx where that is another one.
fn at_once(about: About) -> String {
    let Consequences { counts, immediate, .. } = about.consequences();
    let class = about.class(Some(Answered::Data), 550).as_str();
    let by_4yz = about.class(Some(Answered::Data), 450).as_str();
    match (counts, immediate) {
        (_, true) => format!("yes: `{class}` is named by default"),
        (true, false) if by_4yz == class => format!("no, but `failure.immediately` may name `{class}`"),
        // A policy names no class of what is in trouble for the moment.
        (true, false) if by_4yz == "Temporary" => format!("no, but `failure.immediately` may name `{class}` (by 5xx)"),
        (true, false) => format!("no, but `failure.immediately` may name `{class}` (by 5xx) and `{by_4yz}` (by 4xx)"),
        (false, false) => "never".to_owned(),
    }
}

fn hosts() -> String {
    let mut text = "| provider | known by the host |\n|---|---|\n".to_owned();
    for provider in providers() {
        let hosts = rules().hosts().filter(|(_, of)| *of == provider);
        let hosts: Vec<_> = hosts.map(|(pattern, _)| format!("`{pattern}`")).collect();
        let _ = writeln!(text, "| {provider} | {} |", if hosts.is_empty() { "–".to_owned() } else { hosts.join(", ") });
    }
    text
}

fn list_of_rules() -> String {
    let mut text = "| rule | about | follows | for example |\n|---|---|---|---|\n".to_owned();
    for rule in rules().iter() {
        let example = rule.examples().first().map_or("", String::as_str).replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {} | {} | `{example}` |", rule.id(), rule.about(), rule.source());
    }
    text
}

#[test]
fn the_page_says_what_the_rules_do() {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut expected = page.clone();
    for (name, table) in [("consequences", consequences()), ("hosts", hosts()), ("rules", list_of_rules())] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- {name}: end -->"));
        let start = expected.find(&begin).unwrap_or_else(|| panic!("no mark {begin}")) + begin.len();
        let stop = start + expected[start..].find(&end).unwrap_or_else(|| panic!("no mark {end}"));
        expected.replace_range(start..stop, &format!("\n{table}\n"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &expected).unwrap();
    }
    assert!(
        page == expected || std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/replies.md: run UPDATE_DOCS=1 cargo test -p mail-failover-replies --test docs"
    );
}
