//! Times and changes in words, for people.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::run::Simulation;
use super::timeline::{DrillResultView, DrillView, RouteChange, TimelineChange, VerdictChange};
use mail_failover_core::engine::{Hold, TransitionKind};
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Formats the time since the start: `0:01:25.3`, `2d 03:04:05`.
pub(super) fn clock(passed: Duration) -> String {
    let tenths = passed.as_millis() / 100;
    let (seconds, tenth) = (tenths / 10, tenths % 10);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let mut text = if days > 0 { format!("{days}d {hours:02}") } else { hours.to_string() };
    let _ = write!(text, ":{minutes:02}:{:02}", seconds % 60);
    if tenth > 0 {
        let _ = write!(text, ".{tenth}");
    }
    text
}

/// Formats a duration: `5m`, `1h 2m 3s`, `250ms`.
pub(super) fn length(of: Duration) -> String {
    if of < Duration::from_secs(1) {
        return format!("{}ms", of.as_millis());
    }
    let seconds = of.as_secs() + u64::from(of.subsec_millis() >= 500);
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts: Vec<_> =
        units.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    parts.join(" ")
}

/// Entry of the timeline in words: its subject, the news and the reason.
pub(super) struct Line {
    pub(super) subject: String,
    pub(super) change: String,
    pub(super) why: String,
}

impl Simulation {
    /// Formats the time that has passed since the start.
    pub(super) fn after(&self, at: Timestamp) -> String {
        clock(at.since(self.start))
    }

    /// Puts an entry into words.
    pub(super) fn line(&self, what: &TimelineChange) -> Line {
        match what {
            TimelineChange::Event { event, is_over } => Line {
                subject: "scenario".to_owned(),
                change: match (is_over, self.is_lasting[*event]) {
                    (true, _) => "ends".to_owned(),
                    (false, true) => "begins".to_owned(),
                    (false, false) => "happens".to_owned(),
                },
                why: self.event_texts[*event].clone(),
            },
            TimelineChange::Verdict(VerdictChange { backend, health, class, is_throttled, message }) => Line {
                subject: self.fleet.backend_name(*backend),
                change: if *is_throttled {
                    format!("{}, throttled", health.as_str())
                } else {
                    health.as_str().to_owned()
                },
                why: if *class == EvidenceClass::Ok {
                    message.to_string()
                } else if message.is_empty() {
                    class.as_str().to_owned()
                } else {
                    format!("{}: {message}", class.as_str())
                },
            },
            TimelineChange::Route(change) => Line {
                subject: format!("route {}", self.fleet.route_name(change.route)),
                change: self.route_change(change),
                why: self.relative(&change.why().join("; ")),
            },
            TimelineChange::Storm(is_storm) => Line {
                subject: "fleet".to_owned(),
                change: if *is_storm { "storm".to_owned() } else { "storm is over".to_owned() },
                why: if *is_storm {
                    "every failure domain fails at once: our own network is suspect".to_owned()
                } else {
                    String::new()
                },
            },
            TimelineChange::Suspects(suspects) if suspects.is_empty() => {
                Line { subject: "fleet".to_owned(), change: "nobody is suspect".to_owned(), why: String::new() }
            }
            TimelineChange::Suspects(suspects) => Line {
                subject: "fleet".to_owned(),
                change: format!("{} suspect", self.observer_names(suspects).join(", ")),
                why: "sees everything fail and others do not".to_owned(),
            },
        }
    }

    /// Returns the observers by name; the one that decides has an empty name in the timeline.
    pub(super) fn observer_names(&self, names: &[Arc<str>]) -> Vec<String> {
        names.iter().map(|name| if name.is_empty() { &self.observers[0] } else { name }.to_string()).collect()
    }

    fn route_change(&self, change: &RouteChange) -> String {
        let mut parts = vec![];
        if let Some(answer) = &change.answer {
            parts.push(format!("{} {}", answer.action, if answer.is_done { "granted" } else { "refused" }));
        }
        if let Some(transition) = &change.transition {
            let kind = match transition.kind {
                TransitionKind::Failover => "failover",
                TransitionKind::Failback => "failback",
            };
            parts.push(format!("{kind} {} → {}", transition.from, transition.to));
        }
        let before = change.before.as_ref();
        if before.is_none_or(|before| before.state != change.view.state) {
            parts.push(change.view.state.as_str().to_owned());
        }
        if before.is_none_or(|before| (&before.shares, before.unplaced) != (&change.view.shares, change.view.unplaced))
        {
            parts.push(change.view.shares_text());
        }
        if before.is_none_or(|before| before.drill != change.view.drill) {
            parts.extend(change.view.drill.as_ref().map(|drill| self.drill(drill)));
        }
        if before.map_or(change.view.hold.is_some(), |before| before.hold != change.view.hold) {
            parts.push(self.hold(change.view.hold));
        }
        parts.join("; ")
    }

    fn drill(&self, drill: &DrillView) -> String {
        let mode = drill.mode.as_str();
        match &drill.result {
            None => format!("drill ({mode}) begins"),
            Some(DrillResultView { id: _, outcome, reason, message }) => {
                format!("drill ({mode}) {}, {reason}: {}", outcome.as_str(), self.relative(message))
            }
        }
    }

    fn hold(&self, hold: Option<Hold>) -> String {
        match hold {
            None => "no hold".to_owned(),
            Some(Hold { reason, until: None }) => format!("hold {}", reason.as_str()),
            Some(Hold { reason, until: Some(until) }) => {
                format!("hold {} until {}", reason.as_str(), self.after(until))
            }
        }
    }

    /// Replaces calendar times of the engine's explanation by times since the start, which are easier to compare with
    /// the first column.
    fn relative(&self, text: &str) -> String {
        let mut words = vec![];
        for word in text.split(' ') {
            let bare = word.trim_end_matches([':', ',', ';']);
            match bare.parse::<jiff::Timestamp>() {
                Ok(at) if bare.ends_with('Z') => {
                    let at = Timestamp::from_micros(at.as_microsecond());
                    words.push(format!("{}{}", self.after(at), &word[bare.len()..]));
                }
                Ok(_) | Err(_) => words.push(word.to_owned()),
            }
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_lengths_are_short() {
        let cases = [
            (0, "0:00:00", "0ms"),
            (85_340, "0:01:25.3", "1m 25s"),
            (36_000_000, "10:00:00", "10h"),
            (183_845_000, "2d 03:04:05", "2d 3h 4m 5s"),
            (250, "0:00:00.2", "250ms"),
        ];
        for (millis, since, long) in cases {
            assert_eq!(
                (clock(Duration::from_millis(millis)), length(Duration::from_millis(millis))),
                (since.into(), long.into())
            );
        }
    }
}
