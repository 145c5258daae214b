use std::collections::BTreeMap;

use serde::Serialize;

use super::run::{Simulation, SimulationResult};
use super::timeline::{RouteChange, RouteView, TimelineChange};
use mail_failover_core::model::Timestamp;

/// Version of the format. It increases when a field changes its meaning or goes; a new field does not increase it.
const FORMAT: u8 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimelineDocument<'a> {
    format: u8,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    start: String,
    end: String,
    seed: u64,
    observers: Vec<&'a str>,
    warnings: &'a [String],
    timeline: Vec<EntryDocument<'a>>,
    routes: BTreeMap<String, SummaryDocument<'a>>,
    expectations: Vec<ExpectationDocument<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryDocument<'a> {
    at: String,
    /// Time since the start, in seconds.
    after: f64,
    #[serde(flatten)]
    what: ChangeDocument<'a>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
enum ChangeDocument<'a> {
    Event { event: usize, is_over: bool, text: &'a str },
    Verdict { backend: String, health: &'static str, class: &'static str, is_throttled: bool, message: &'a str },
    Route(Box<RouteDocument<'a>>),
    Storm { is_storm: bool },
    Suspects { observers: Vec<String> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteDocument<'a> {
    #[serde(rename = "route")]
    name: String,
    state: &'static str,
    shares: Vec<ShareDocument<'a>>,
    unplaced_percent: u8,
    hold: Option<HoldDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drill: Option<DrillDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transition: Option<TransitionDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerDocument<'a>>,
    reasons: Vec<String>,
    prospects: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShareDocument<'a> {
    backend: &'a str,
    percent: u8,
    overflow: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HoldDocument {
    reason: &'static str,
    until: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DrillDocument<'a> {
    mode: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TransitionDocument<'a> {
    kind: &'static str,
    from: &'a str,
    to: &'a str,
    reason: &'static str,
    first_evidence_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnswerDocument<'a> {
    id: &'a str,
    action: &'a str,
    is_done: bool,
    message: &'a str,
}

/// Summary of a route, with times in seconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryDocument<'a> {
    failovers: usize,
    failbacks: usize,
    slowest_failover: Option<f64>,
    none_healthy: f64,
    refused: f64,
    unplaced: f64,
    drills: &'a BTreeMap<&'static str, usize>,
    shares: BTreeMap<&'a str, f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExpectationDocument<'a> {
    line: u64,
    expected: &'a str,
    is_met: bool,
    found: &'a str,
}

/// Formats everything that a simulation shows, for programs. docs/simulate.md describes the format.
///
/// # Errors
/// Never in practice: nothing in it cannot be written as JSON.
pub fn json(simulation: &Simulation, outcome: &SimulationResult) -> serde_json::Result<String> {
    let document = TimelineDocument {
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
            .map(|entry| EntryDocument {
                at: instant(entry.at),
                after: entry.at.since(simulation.start).as_secs_f64(),
                what: told(simulation, &entry.what),
            })
            .collect(),
        routes: outcome
            .summaries
            .iter()
            .enumerate()
            .map(|(route, summary)| {
                let told = SummaryDocument {
                    failovers: summary.failovers,
                    failbacks: summary.failbacks,
                    slowest_failover: summary.slowest_failover.map(|slowest| slowest.as_secs_f64()),
                    none_healthy: summary.none_healthy.as_secs_f64(),
                    refused: summary.refused.as_secs_f64(),
                    unplaced: summary.unplaced.as_secs_f64(),
                    drills: &summary.drills,
                    shares: summary.shares.iter().map(|(name, part)| (&**name, *part)).collect(),
                };
                (simulation.fleet.route_name(route), told)
            })
            .collect(),
        expectations: outcome
            .checked
            .iter()
            .map(|checked| ExpectationDocument {
                line: checked.line,
                expected: &checked.expected,
                is_met: checked.is_met,
                found: &checked.found,
            })
            .collect(),
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

fn told<'a>(simulation: &'a Simulation, what: &'a TimelineChange) -> ChangeDocument<'a> {
    match what {
        TimelineChange::Event { event, is_over } => {
            ChangeDocument::Event { event: *event, is_over: *is_over, text: &simulation.event_texts[*event] }
        }
        TimelineChange::Verdict(change) => ChangeDocument::Verdict {
            backend: simulation.fleet.backend_name(change.backend),
            health: change.health.as_str(),
            class: change.class.as_str(),
            is_throttled: change.is_throttled,
            message: &change.message,
        },
        TimelineChange::Route(change) => ChangeDocument::Route(Box::new(route(simulation, change))),
        TimelineChange::Storm(is_storm) => ChangeDocument::Storm { is_storm: *is_storm },
        TimelineChange::Suspects(suspects) => {
            ChangeDocument::Suspects { observers: simulation.observer_names(suspects) }
        }
    }
}

fn route<'a>(simulation: &Simulation, change: &'a RouteChange) -> RouteDocument<'a> {
    let RouteView { state, shares, hold, unplaced, drill } = &change.view;
    RouteDocument {
        name: simulation.fleet.route_name(change.route),
        state: state.as_str(),
        shares: shares
            .iter()
            .map(|share| ShareDocument { backend: &share.backend, percent: share.percent, overflow: share.is_overflow })
            .collect(),
        unplaced_percent: *unplaced,
        hold: hold.map(|hold| HoldDocument { reason: hold.reason.as_str(), until: hold.until.map(instant) }),
        drill: drill.as_ref().map(|drill| DrillDocument {
            mode: drill.mode.as_str(),
            state: drill.state(),
            reason: drill.result.as_ref().map(|result| &*result.reason),
            message: drill.result.as_ref().map(|result| result.message.as_str()),
        }),
        transition: change.transition.as_ref().map(|transition| TransitionDocument {
            kind: transition.kind.as_str(),
            from: &transition.from,
            to: &transition.to,
            reason: transition.reason.as_str(),
            first_evidence_at: transition.first_evidence_at.map(instant),
        }),
        answer: change.answer.as_ref().map(|answer| AnswerDocument {
            id: &answer.id,
            action: &answer.action,
            is_done: answer.is_done,
            message: &answer.message,
        }),
        reasons: change.explanation.reasons.iter().map(ToString::to_string).collect(),
        prospects: change.explanation.next_changes.iter().map(ToString::to_string).collect(),
    }
}

/// Formats a time as RFC 3339 with microseconds.
fn instant(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::MAX);
    format!("{at:.6}")
}
