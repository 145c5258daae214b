//! Tables of the results.

use std::collections::BTreeMap;
use std::time::Duration;

use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};

use crate::case::Case;
use crate::round::{BOUND, Round};

/// All rounds of one contender.
pub type Rounds = BTreeMap<Case, Vec<Round>>;

const NONE: &str = "-";

/// The failover times beside the goal and the peer, and true if every goal is met.
pub fn failovers(ours: &Rounds, peer: Option<&Rounds>) -> (String, bool) {
    let mut columns = vec![("FAULT", Align::Left)];
    columns.extend(
        ["N", "P50", "P99", "MAX", "GOAL P99", "MET", "PEER N", "P50", "P99", "MAX", "RATIO P50", "P99"].map(right),
    );
    let mut table = Table::new(&columns);
    let mut all_met = true;
    for case in Case::ALL {
        let Some(rounds) = ours.get(&case) else { continue };
        let summary = summary(rounds, |round| round.failover);
        let met = missed(rounds) == 0 && summary.is_some_and(|summary| summary.p99 <= case.goal());
        all_met &= met;
        let mut cells = vec![case.name().to_owned(), rounds.len().to_string()];
        cells.extend(times(rounds, summary.as_ref()));
        cells.extend([human(case.goal()), if met { "yes" } else { "NO" }.to_owned()]);
        match peer.and_then(|peer| peer.get(&case)) {
            Some(theirs) => {
                let of_peer = self::summary(theirs, |round| round.failover);
                cells.push(theirs.len().to_string());
                cells.extend(times(theirs, of_peer.as_ref()));
                cells.push(ratio(summary.map(|summary| summary.p50), of_peer.map(|summary| summary.p50)));
                cells.push(ratio(summary.map(|summary| summary.p99), of_peer.map(|summary| summary.p99)));
            }
            None => cells.extend([NONE; 6].map(str::to_owned)),
        }
        table.row(cells);
    }
    (table.to_string(), all_met)
}

/// The times in the status of each failover, and the account of the mail.
pub fn details(ours: &Rounds, peer: Option<&Rounds>) -> String {
    let mut columns = vec![("FAULT", Align::Left)];
    columns.extend(
        ["DETECTION P50", "P99", "WRITE P50", "P99", "SENT", "LOST", "TWICE", "PEER SENT", "LOST", "TWICE"].map(right),
    );
    let mut table = Table::new(&columns);
    for case in Case::ALL {
        let Some(rounds) = ours.get(&case) else { continue };
        let mut cells = vec![case.name().to_owned()];
        for part in [summary(rounds, |round| round.detection), summary(rounds, |round| round.write)] {
            let shown = |time: Option<Duration>| time.map_or_else(|| NONE.to_owned(), human);
            cells.extend([shown(part.map(|part| part.p50)), shown(part.map(|part| part.p99))]);
        }
        cells.extend(fates(rounds));
        match peer.and_then(|peer| peer.get(&case)) {
            Some(theirs) => cells.extend(fates(theirs)),
            None => cells.extend([NONE; 3].map(str::to_owned)),
        }
        table.row(cells);
    }
    table.to_string()
}

/// The number of lost messages.
pub fn lost(rounds: &Rounds) -> usize {
    rounds.values().flatten().map(|round| round.lost).sum()
}

fn right(name: &str) -> (&str, Align) {
    (name, Align::Right)
}

fn summary(rounds: &[Round], of: impl Fn(&Round) -> Option<Duration>) -> Option<Summary> {
    Summary::of(rounds.iter().filter_map(of))
}

fn missed(rounds: &[Round]) -> usize {
    rounds.iter().filter(|round| round.failover.is_none()).count()
}

/// The median, the 99th percentile and the longest time. Rounds without a failover count as longer
/// than any other.
fn times(rounds: &[Round], summary: Option<&Summary>) -> [String; 3] {
    match (summary, missed(rounds)) {
        (None, _) => ["never".to_owned(), "never".to_owned(), format!("> {}", human(BOUND))],
        (Some(summary), 0) => [summary.p50, summary.p99, summary.max].map(human),
        (Some(summary), missed) => [human(summary.p50), human(summary.p99), format!("{missed} never")],
    }
}

fn ratio(ours: Option<Duration>, theirs: Option<Duration>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if !theirs.is_zero() => format!("{:.2}", ours.as_secs_f64() / theirs.as_secs_f64()),
        _ => NONE.to_owned(),
    }
}

fn fates(rounds: &[Round]) -> [String; 3] {
    let sum = |of: fn(&Round) -> usize| rounds.iter().map(of).sum::<usize>().to_string();
    [sum(|round| round.sent), sum(|round| round.lost), sum(|round| round.duplicated)]
}
