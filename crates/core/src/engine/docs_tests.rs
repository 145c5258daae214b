//! `docs/how-it-decides.md` says what the code does: its tables and its diagram are generated from here and checked.
//!
//! `UPDATE_DOCS=1 cargo test -p mail-failover-core --lib docs_tests` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::histories::{any_history, play};
use super::{HoldReason, State, TIMERS, TransitionReason};
use crate::model::{Effect, EvidenceClass};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-it-decides.md");
/// Random histories, enough to show every change of state.
const HISTORIES: usize = 3000;

fn table(header: [&str; 3], rows: impl IntoIterator<Item = [String; 3]>) -> String {
    let mut text = format!("| {} |\n|---|---|---|\n", header.join(" | "));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn timers() -> String {
    table(
        ["timer", "starts when", "ends"],
        TIMERS.map(|timer| [timer.name, timer.starts, timer.ends].map(str::to_owned)),
    )
}

fn reasons() -> String {
    let hold = |reason: HoldReason| [format!("`{}`", reason.as_str()), "holds".into(), reason.meaning().into()];
    let transition = |reason: TransitionReason| {
        [format!("`{}`", reason.as_str()), "moves".into(), reason.meaning().unwrap_or_default().into()]
    };
    let class = |class: EvidenceClass| {
        let counts = match class.effect() {
            Effect::Success => "success",
            Effect::Failure => "failure; moves",
            Effect::Neutral => "neither",
        };
        let counts = if class == EvidenceClass::Slow { "success; moves if it lasts" } else { counts };
        [format!("`{}`", class.as_str()), counts.into(), class.meaning().into()]
    };
    let rows = HoldReason::ALL.iter().copied().map(hold);
    let rows =
        rows.chain(TransitionReason::OTHERS.map(transition)).chain(EvidenceClass::ALL.iter().copied().map(class));
    table(["reason", "what it does", "meaning"], rows)
}

fn states() -> String {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut changes = BTreeSet::new();
    for _ in 0..HISTORIES {
        let history = any_history().new_tree(&mut runner).unwrap().current();
        let mut before = State::Unknown;
        play(history, |decision| {
            let after = decision.memory.state;
            if before != after {
                changes.insert((before, after));
            }
            before = after;
            decision.memory.clone()
        });
    }
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> Unknown\n".to_owned();
    for state in State::ALL.iter().copied() {
        let _ = writeln!(text, "    {0}: {0} – {1}", state.as_str(), state.meaning());
    }
    for (before, after) in changes {
        let _ = writeln!(text, "    {} --> {}", before.as_str(), after.as_str());
    }
    text + "```\n"
}

#[test]
fn the_page_on_decisions_says_what_the_code_does() {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut expected = page.clone();
    for (name, text) in [("timers", timers()), ("reasons", reasons()), ("states", states())] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- {name}: end -->"));
        let from = expected.find(&begin).unwrap() + begin.len();
        let to = expected.find(&end).unwrap();
        expected.replace_range(from..to, &format!("\n{text}\n"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/how-it-decides.md has drifted: UPDATE_DOCS=1 cargo test -p mail-failover-core --lib docs_tests"
    );
}
