use std::collections::BTreeMap;

use serde::Serialize;

use super::run::{Outcome, Simulation};
use super::timeline::{RouteChange, RouteView, What};
use mail_failover_core::model::Timestamp;

/// Increases when a field changes its meaning or goes; new ones may come without.
const FORMAT: u8 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    format: u8,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    start: String,
    end: String,
    seed: u64,
    observers: Vec<&'a str>,
    warnings: &'a [String],
    timeline: Vec<Entry<'a>>,
    routes: BTreeMap<String, Summary<'a>>,
    expectations: Vec<Expectation<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    at: String,
    /// Seconds since the start.
    after: f64,
    #[serde(flatten)]
    what: Told<'a>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
enum Told<'a> {
    Event { event: usize, is_over: bool, text: &'a str },
    Verdict { backend: String, health: &'static str, class: &'static str, is_throttled: bool, message: &'a str },
    Route(Box<Route<'a>>),
    Storm { is_storm: bool },
    Suspects { observers: Vec<String> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Route<'a> {
    #[serde(rename = "route")]
    name: String,
    state: &'static str,
    shares: Vec<Share<'a>>,
    unplaced_percent: u8,
    hold: Option<Hold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transition: Option<Transition<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answer<'a>>,
    reasons: Vec<String>,
    prospects: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Share<'a> {
    backend: &'a str,
    percent: u8,
    overflow: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hold {
    reason: &'static str,
    until: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transition<'a> {
    kind: &'static str,
    from: &'a str,
    to: &'a str,
    reason: &'static str,
    first_evidence_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    id: &'a str,
    action: &'a str,
    is_done: bool,
    message: &'a str,
}

/// Times in seconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    failovers: usize,
    failbacks: usize,
    slowest_failover: Option<f64>,
    none_healthy: f64,
    refused: f64,
    unplaced: f64,
    shares: BTreeMap<&'a str, f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Expectation<'a> {
    line: u64,
    expected: &'a str,
    is_met: bool,
    found: &'a str,
}

/// Everything that a simulation shows, for programs. The format is described in docs/simulate.md.
///
/// # Errors
/// Never in practice: nothing in it cannot be written as JSON.
pub fn json(simulation: &Simulation, outcome: &Outcome) -> serde_json::Result<String> {
    let entry = |entry: &'_ super::Entry| {
        let after = entry.at.since(simulation.start).as_secs_f64();
        (instant(entry.at), after)
    };
    let document = Document {
        format: FORMAT,
        title: &simulation.title,
        description: simulation.description.as_deref(),
        start: instant(simulation.start),
        end: instant(simulation.end),
        seed: simulation.seed,
        observers: simulation.observers.iter().map(|name| &**name).collect(),
        warnings: &simulation.warnings,
        timeline: outcome
            .timeline
            .entries
            .iter()
            .map(|of| {
                let (at, after) = entry(of);
                Entry { at, after, what: told(simulation, &of.what) }
            })
            .collect(),
        routes: outcome
            .summaries
            .iter()
            .enumerate()
            .map(|(route, summary)| {
                let told = Summary {
                    failovers: summary.failovers,
                    failbacks: summary.failbacks,
                    slowest_failover: summary.slowest_failover.map(|slowest| slowest.as_secs_f64()),
                    none_healthy: summary.none_healthy.as_secs_f64(),
                    refused: summary.refused.as_secs_f64(),
                    unplaced: summary.unplaced.as_secs_f64(),
                    shares: summary.shares.iter().map(|(name, part)| (&**name, *part)).collect(),
                };
                (simulation.fleet.route_name(route), told)
            })
            .collect(),
        expectations: outcome
            .checked
            .iter()
            .map(|checked| Expectation {
                line: checked.line,
                expected: &checked.expected,
                is_met: checked.is_met,
                found: &checked.found,
            })
            .collect(),
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

fn told<'a>(simulation: &'a Simulation, what: &'a What) -> Told<'a> {
    match what {
        What::Event { event, is_over } => {
            Told::Event { event: *event, is_over: *is_over, text: &simulation.event_texts[*event] }
        }
        What::Verdict(change) => Told::Verdict {
            backend: simulation.fleet.backend_name(change.backend),
            health: change.health.as_str(),
            class: change.class.as_str(),
            is_throttled: change.is_throttled,
            message: &change.message,
        },
        What::Route(change) => Told::Route(Box::new(route(simulation, change))),
        What::Storm(is_storm) => Told::Storm { is_storm: *is_storm },
        What::Suspects(suspects) => Told::Suspects { observers: simulation.observer_names(suspects) },
    }
}

fn route<'a>(simulation: &Simulation, change: &'a RouteChange) -> Route<'a> {
    let RouteView { state, shares, hold, unplaced } = &change.view;
    Route {
        name: simulation.fleet.route_name(change.route),
        state: state.as_str(),
        shares: shares
            .iter()
            .map(|share| Share { backend: &share.backend, percent: share.percent, overflow: share.is_overflow })
            .collect(),
        unplaced_percent: *unplaced,
        hold: hold.map(|hold| Hold { reason: hold.reason.as_str(), until: hold.until.map(instant) }),
        transition: change.transition.as_ref().map(|transition| Transition {
            kind: transition.kind.as_str(),
            from: &transition.from,
            to: &transition.to,
            reason: transition.reason.as_str(),
            first_evidence_at: transition.first_evidence_at.map(instant),
        }),
        answer: change.answer.as_ref().map(|answer| Answer {
            id: &answer.id,
            action: &answer.action,
            is_done: answer.is_done,
            message: &answer.message,
        }),
        reasons: change.explanation.reasons.iter().map(ToString::to_string).collect(),
        prospects: change.explanation.next_changes.iter().map(ToString::to_string).collect(),
    }
}

/// RFC 3339 with microseconds.
fn instant(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::MAX);
    format!("{at:.6}")
}
