//! Metrics of the log, of real mail, and of the work on the MTA. Labels are closed sets, or names of the route's
//! backends, of which there are at most 100.

use mail_failover_contract::routing::Routing;
use mail_failover_runtime::telemetry::metrics::{register, registered};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use mail_failover_core::model::Timestamp;
use mail_failover_replies::About;

use mail_failover_dataplane::core::{BackendView, CoreView, Disposition, LogEvent};

/// Prefix of the names of all metrics here.
pub(super) const PREFIX: &str = "mail_failover_agent";

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
        let log = registry.sub_registry_with_prefix("mail_failover_agent_log");
        Self {
            lines: register(log, "lines", "Lines of the MTA's log that were read"),
            cut: register(log, "cut_lines", "Lines that were longer than is read of one"),
            lost: register(log, "lost", "Deliveries that were dropped because the agent was too slow"),
            reopened: register(log, "reopened", "How often the log was found rotated or truncated"),
            failures: register(log, "failures", "How often the log could not be read"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryClassLabels {
    backend: String,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AboutLabel {
    about: &'static str,
}

/// Metrics of real mail, and of the core's conclusions.
#[derive(Clone, Debug, Default)]
pub struct TrafficMetrics {
    deliveries: Family<DeliveryClassLabels, Counter>,
    passed_on: Family<BackendLabel, Counter>,
    breaker_open: Family<BackendLabel, Gauge>,
    stalls: Family<BackendLabel, Counter>,
    elsewhere: Counter,
    suspended: Counter,
    possible_duplicates: Counter,
    kept_refusals: Family<AboutLabel, Counter>,
    kept: Family<AboutLabel, Gauge>,
    oldest_kept: Gauge,
    unfollowed_refusals: Counter,
}

impl TrafficMetrics {
    /// Metrics registered under `mail_failover_agent_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let agent = registry.sub_registry_with_prefix(PREFIX);
        Self {
            deliveries: register(agent, "deliveries", "Deliveries seen in the log, by backend and what they say"),
            passed_on: register(
                agent,
                "passed_on_deliveries",
                "Failed attempts after which the message went on to another backend within the same delivery, by the backend that failed",
            ),
            breaker_open: register(
                agent,
                "breaker_open",
                "1 while messages try the backend last, because it costs time or keeps failing",
            ),
            stalls: register(
                agent,
                "stalls",
                "Times that sessions were begun with a backend and nothing was heard of them for ten seconds",
            ),
            elsewhere: register(agent, "deliveries_elsewhere", "Deliveries to none of the backends"),
            suspended: register(
                agent,
                "suspended_deliveries",
                "Messages that the MTA did not try to send because it keeps away from a next hop",
            ),
            possible_duplicates: register(
                agent,
                "possible_duplicates",
                "Messages that a backend may have taken without our learning it, and that are sent again",
            ),
            kept_refusals: register(
                agent,
                "kept_refusals",
                "Replies by 5xx after which a message was kept instead of bounced, by what they are about",
            ),
            kept: register(
                agent,
                "kept_messages",
                "Messages that a backend refuses by 5xx and that wait, by what the latest reply is about",
            ),
            oldest_kept: register(
                agent,
                "oldest_kept_message_age_seconds",
                "Time since the oldest message came in that a backend refuses by 5xx and that waits; 0 without one",
            ),
            unfollowed_refusals: register(
                agent,
                "unfollowed_refusals",
                "Replies by 5xx after which more messages were kept than the agent follows, so that one of them is followed no more",
            ),
        }
    }

    /// Counts an event of the log.
    pub fn observe(&self, event: &LogEvent, routing: Option<&Routing>) {
        match event {
            LogEvent::Suspended => _ = self.suspended.inc(),
            LogEvent::Gone(_) => {}
            LogEvent::PossibleDuplicate(_) => _ = self.possible_duplicates.inc(),
            LogEvent::Delivery(delivery) => {
                let at = routing.and_then(|routing| Some((routing, delivery.place.position_in(routing)?)));
                let Some((routing, at)) = at else {
                    self.elsewhere.inc();
                    return;
                };
                let backend = &routing.backends[at];
                let delivery = delivery.read_by(&backend.rulebook);
                if let (Some(refusal), Disposition::Deferred) = (&delivery.refusal, delivery.disposition) {
                    self.kept_refusals.get_or_create(&AboutLabel { about: refusal.about.as_str() }).inc();
                }
                if delivery.disposition == Disposition::PassedOn {
                    self.passed_on.get_or_create(&BackendLabel { backend: backend.name.to_string() }).inc();
                }
                let labels = DeliveryClassLabels { backend: backend.name.to_string(), class: delivery.class.as_str() };
                self.deliveries.get_or_create(&labels).inc();
            }
        }
    }

    /// Shows the messages that are kept.
    pub fn set_kept(&self, CoreView { kept, unfollowed_refusals, .. }: &CoreView, now: Timestamp) {
        let kept = kept.as_ref();
        self.unfollowed_refusals.inc_by(unfollowed_refusals.saturating_sub(self.unfollowed_refusals.get()));
        for about in About::ALL {
            let count = kept.and_then(|kept| kept.by_about.get(&about)).copied().unwrap_or(0);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.kept.get_or_create(&AboutLabel { about: about.as_str() }).set(count);
        }
        let age = kept.map_or(0, |kept| now.since(kept.mail.oldest_at).as_secs());
        self.oldest_kept.set(i64::try_from(age).unwrap_or(i64::MAX));
    }

    /// Counts a stall.
    pub fn stalled(&self, backend: &str) {
        self.stalls.get_or_create(&BackendLabel { backend: backend.to_owned() }).inc();
    }

    /// Shows the breakers of all backends.
    pub fn set_breakers(&self, backends: &[BackendView]) {
        for backend in backends {
            let label = BackendLabel { backend: backend.name.to_string() };
            self.breaker_open.get_or_create(&label).set(i64::from(backend.breaker.is_some()));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MtaStepLabels {
    step: &'static str,
    result: &'static str,
}

/// Metrics of the work on the MTA.
#[derive(Clone, Debug)]
pub struct MtaMetrics {
    switches: Family<CauseLabel, Counter>,
    steps: Family<MtaStepLabels, Counter>,
    /// Time from an order to the end of reload and first flush, in seconds.
    pub switch_duration: Histogram,
    /// Switches that had to wait because there were many of late.
    pub delayed: Counter,
    /// Orders that a later one replaced.
    pub superseded: Counter,
    /// Messages in the MTA's queue when they were counted last.
    pub queued: Gauge,
    /// Age of the oldest of them, in seconds; 0 without one.
    pub oldest_queued: Gauge,
    /// Counts of the queue that stopped at their bound or deadline.
    pub incomplete_counts: Counter,
    /// Flushes that were left out because a backend asks for less mail.
    pub spared_flushes: Counter,
}

impl MtaMetrics {
    /// Metrics registered under `mail_failover_agent_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let durations = [0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
        let agent = registry.sub_registry_with_prefix(PREFIX);
        Self {
            switches: register(agent, "switches", "Switches that were carried out, by cause"),
            steps: register(agent, "mta_steps", "Reloads and flushes of the MTA, by how they went"),
            switch_duration: registered(
                agent,
                "switch_duration_seconds",
                "From the order of a switch until the MTA was reloaded and told to flush",
                Histogram::new(durations),
            ),
            delayed: register(agent, "delayed_switches", "Switches that waited because there were many"),
            superseded: register(agent, "superseded_switches", "Orders that a later one overtook"),
            queued: register(agent, "queued_messages", "Messages in the MTA's queue when last counted"),
            oldest_queued: register(
                agent,
                "oldest_queued_message_age_seconds",
                "Time since the oldest message in the MTA's queue came in, when last looked at; 0 without one",
            ),
            incomplete_counts: register(
                agent,
                "incomplete_queue_counts",
                "Counts of the queue that stopped at their bound or deadline",
            ),
            spared_flushes: register(
                agent,
                "spared_flushes",
                "Flushes after a switch that were left out because a backend of the messages asks for less mail",
            ),
        }
    }

    /// Counts a switch that is done.
    pub fn switched(&self, cause: &'static str, seconds: f64) {
        self.switches.get_or_create(&CauseLabel { cause }).inc();
        self.switch_duration.observe(seconds);
    }

    /// Counts a step, with its result.
    pub fn step(&self, step: &'static str, result: &'static str) {
        self.steps.get_or_create(&MtaStepLabels { step, result }).inc();
    }
}
