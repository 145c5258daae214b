//! Metrics of the log, of real mail, and of the work on the MTA. Labels are closed sets, or names of the route's
//! backends, of which there are at most 100.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::core::{Held, Sighting, Why};
use mail_failover_contract::routing::Routing;

/// Metrics of reading the MTA's log.
#[derive(Clone, Debug, Default)]
pub struct LogMetrics {
    /// Lines that were read.
    pub lines: Counter,
    /// Lines that were too long and were cut.
    pub cut: Counter,
    /// Events that were dropped because the queue was full.
    pub lost: Counter,
    /// Times that the file was found rotated or truncated.
    pub reopened: Counter,
    /// Times that the log could not be read.
    pub failures: Counter,
}

impl LogMetrics {
    /// Metrics registered under `mail_failover_agent_log_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("mail_failover_agent_log");
        registry.register("lines", "Lines of the MTA's log that were read", metrics.lines.clone());
        registry.register("cut_lines", "Lines that were longer than is read of one", metrics.cut.clone());
        registry.register("lost", "Deliveries that were dropped because the agent was too slow", metrics.lost.clone());
        registry.register("reopened", "How often the log was found rotated or truncated", metrics.reopened.clone());
        registry.register("failures", "How often the log could not be read", metrics.failures.clone());
        metrics
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    backend: String,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

/// Metrics of real mail, and of the core's conclusions.
#[derive(Clone, Debug, Default)]
pub struct TrafficMetrics {
    deliveries: Family<DeliveryLabels, Counter>,
    elsewhere: Counter,
    suspended: Counter,
    possible_duplicates: Counter,
    held: Family<WhyLabel, Gauge>,
}

impl TrafficMetrics {
    /// Metrics registered under `mail_failover_agent_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("mail_failover_agent");
        registry.register(
            "deliveries",
            "Deliveries seen in the log, by backend and what they say",
            metrics.deliveries.clone(),
        );
        registry.register("deliveries_elsewhere", "Deliveries to none of the backends", metrics.elsewhere.clone());
        let help = "Messages that the MTA did not try to send because it keeps away from a next hop";
        registry.register("suspended_deliveries", help, metrics.suspended.clone());
        let help = "Messages that a backend may have taken without our learning it, and that are sent again";
        registry.register("possible_duplicates", help, metrics.possible_duplicates.clone());
        let help = "1 while a backend should be left and is not, by the reason";
        registry.register("reflex_held", help, metrics.held.clone());
        metrics
    }

    /// Counts an event of the log.
    pub fn observe(&self, sighting: &Sighting, routing: Option<&Routing>) {
        match sighting {
            Sighting::Suspended => _ = self.suspended.inc(),
            Sighting::PossibleDuplicate(_) => _ = self.possible_duplicates.inc(),
            Sighting::Delivery(delivery) => {
                let at = routing.and_then(|routing| Some((routing, delivery.place.position_in(routing)?)));
                let Some((routing, at)) = at else {
                    self.elsewhere.inc();
                    return;
                };
                let backend = routing.backends[at].name.to_string();
                self.deliveries.get_or_create(&DeliveryLabels { backend, class: delivery.class.as_str() }).inc();
            }
        }
    }

    /// Shows the reason for which a backend is not left.
    pub fn set_held(&self, held: Option<&Held>) {
        for why in [Why::BudgetSpent, Why::NoStandby] {
            let holds = held.is_some_and(|held| held.why == why);
            self.held.get_or_create(&WhyLabel { why: why.as_str() }).set(i64::from(holds));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
    result: &'static str,
}

/// Metrics of the work on the MTA.
#[derive(Clone, Debug)]
pub struct MtaMetrics {
    switches: Family<CauseLabel, Counter>,
    steps: Family<StepLabels, Counter>,
    /// Time from an order to the end of reload and first flush, in seconds.
    pub switch_duration: Arc<Histogram>,
    /// Switches that had to wait because there were many of late.
    pub delayed: Counter,
    /// Orders that a later one replaced.
    pub superseded: Counter,
    /// Messages in the MTA's queue when they were counted last.
    pub queued: Gauge,
    /// Counts of the queue that stopped at their bound or deadline.
    pub incomplete_counts: Counter,
}

impl MtaMetrics {
    /// Metrics registered under `mail_failover_agent_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let durations = [0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
        let metrics = Self {
            switches: Family::default(),
            steps: Family::default(),
            switch_duration: Arc::new(Histogram::new(durations)),
            delayed: Counter::default(),
            superseded: Counter::default(),
            queued: Gauge::default(),
            incomplete_counts: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("mail_failover_agent");
        registry.register("switches", "Switches that were carried out, by cause", metrics.switches.clone());
        registry.register("mta_steps", "Reloads and flushes of the MTA, by how they went", metrics.steps.clone());
        let help = "From the order of a switch until the MTA was reloaded and told to flush";
        registry.register("switch_duration_seconds", help, (*metrics.switch_duration).clone());
        registry.register("delayed_switches", "Switches that waited because there were many", metrics.delayed.clone());
        registry.register("superseded_switches", "Orders that a later one overtook", metrics.superseded.clone());
        registry.register("queued_messages", "Messages in the MTA's queue when last counted", metrics.queued.clone());
        let help = "Counts of the queue that stopped at their bound or deadline";
        registry.register("incomplete_queue_counts", help, metrics.incomplete_counts.clone());
        metrics
    }

    /// A switch is done.
    pub fn switched(&self, cause: &'static str, seconds: f64) {
        self.switches.get_or_create(&CauseLabel { cause }).inc();
        self.switch_duration.observe(seconds);
    }

    /// A step went so.
    pub fn step(&self, step: &'static str, result: &'static str) {
        self.steps.get_or_create(&StepLabels { step, result }).inc();
    }
}
