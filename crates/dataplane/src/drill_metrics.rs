//! Metrics of the latest drill, and the log of its turns.

use mail_failover_core::model::{DrillState, DrilledMail};
use mail_failover_runtime::telemetry::metrics::register;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::core::DrillView;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfBackend {
    backend: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

/// Metrics of drills.
#[derive(Debug)]
pub struct DrillMetrics {
    refusing: Family<OfBackend, Gauge>,
    turns: Family<OfState, Counter>,
    refused: Counter,
    carried: Counter,
    let_through: Counter,
    /// The drill as it was shown last.
    shown: Option<DrilledMail>,
}

impl DrillMetrics {
    /// Registers the metrics in this registry, which has the prefix of the program.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            refusing: register(registry, "drill_refusing", "1 while a drill refuses the backend although it works"),
            turns: register(
                registry,
                "drill_turns",
                "Turns of drills by their new state: Refusing, Idle (no other backend may carry the mail), Lifted (every other one fails for real) or Over",
            ),
            refused: register(
                registry,
                "drill_refused_attempts",
                "Messages of a relay, or answers to an MTA, that left out a backend because a drill refuses it",
            ),
            carried: register(registry, "drill_carried_messages", "Messages that other backends took during drills"),
            let_through: register(
                registry,
                "drill_let_through_messages",
                "Messages that a backend took while a drill refused it, because nothing else was left for them",
            ),
            shown: None,
        }
    }

    /// Shows the latest drill, and logs its turn if it has taken one since it was shown.
    pub fn show(&mut self, view: Option<&DrillView>) {
        self.refusing.clear();
        let Some(DrillView { mail, backends, .. }) = view else { return };
        for backend in backends {
            let is_refusing = mail.state == DrillState::Refusing;
            self.refusing.get_or_create(&OfBackend { backend: backend.to_string() }).set(is_refusing.into());
        }
        let shown = self.shown.as_ref().filter(|shown| shown.id == mail.id);
        let counted = shown.map_or((0, 0, 0), |shown| (shown.refused, shown.carried, shown.let_through));
        self.refused.inc_by(mail.refused.saturating_sub(counted.0));
        self.carried.inc_by(mail.carried.saturating_sub(counted.1));
        self.let_through.inc_by(mail.let_through.saturating_sub(counted.2));
        if shown.is_none_or(|shown| shown.state != mail.state) {
            self.turns.get_or_create(&OfState { state: mail.state.as_str() }).inc();
            log(mail, backends);
        }
        self.shown = Some(mail.clone());
    }
}

fn log(mail: &DrilledMail, backends: &[std::sync::Arc<str>]) {
    let DrilledMail { id, state, refused, carried, let_through, .. } = mail;
    match state {
        DrillState::Refusing => tracing::warn!(drill = %id, ?backends, "a drill refuses backends that work"),
        DrillState::Idle => {
            tracing::warn!(drill = %id, ?backends, "a drill refuses nothing, because no other backend may carry the mail");
        }
        DrillState::Lifted => tracing::warn!(
            drill = %id, ?backends, refused, carried, let_through,
            "a drill is lifted for good, because every other backend fails for real"
        ),
        DrillState::Over => {
            tracing::info!(drill = %id, ?backends, refused, carried, let_through, "a drill is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mail_failover_core::model::Timestamp;
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn counts_add_up_over_drills_and_a_drill_that_is_shown_again_counts_once() {
        let mut registry = Registry::default();
        let mut metrics = DrillMetrics::new(&mut registry);
        let view = |id: &str, state, carried| {
            let mail = DrilledMail {
                id: id.into(),
                state,
                refused: carried,
                carried,
                let_through: 0,
                began_at: Timestamp::default(),
                first_delivery_after: None,
            };
            DrillView { mail, backends: vec![Arc::from("a")], ends_at: Timestamp::default() }
        };
        for (id, state, carried) in [
            ("1", DrillState::Refusing, 0),
            ("1", DrillState::Refusing, 3),
            ("1", DrillState::Over, 4),
            ("1", DrillState::Over, 4),
            ("2", DrillState::Refusing, 2),
        ] {
            metrics.show(Some(&view(id, state, carried)));
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "drill_refusing{backend=\"a\"} 1",
            "drill_turns_total{state=\"Refusing\"} 2",
            "drill_turns_total{state=\"Over\"} 1",
            "drill_carried_messages_total 6",
            "drill_refused_attempts_total 6",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
