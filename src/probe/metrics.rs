//! Metrics of the prober. Labels are closed sets and name no backend, so ten thousand backends cost no more than one.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use mail_failover_runtime::dial_guard::DialRule;
use mail_failover_runtime::telemetry::metrics::{register, registered};

use mail_failover_core::model::{DelayCause, Effect, EvidenceClass};
use mail_failover_smtp::dialogue::IdleEnd;

/// The prober's metrics. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    rounds: Family<ClassLabel, Counter>,
    round_duration: Family<ResultLabel, Histogram>,
    lookups: Family<ResultLabel, Counter>,
    /// Dialogues whose connection is open.
    pub(super) dialogues: Gauge,
    /// Number of probes under schedule.
    pub(super) targets: Gauge,
    /// Number of probes under schedule that differ.
    pub(super) distinct_targets: Gauge,
    /// Looks beside those at the interval.
    pub(super) looks: Counter,
    place_waits: Family<CauseLabel, Counter>,
    place_wait: Histogram,
    late_rounds: Family<CauseLabel, Counter>,
    /// Rounds that were not started because ten of the same probe were under way.
    pub(super) skipped_rounds: Counter,
    /// Reports that had to wait for room in the queue.
    pub(super) report_waits: Counter,
    /// Rounds that were ended because nobody asked for them any more.
    pub(super) cancelled_rounds: Counter,
    /// Addresses that a round left out because the destination has more than [`super::MAX_ADDRESSES`].
    pub(super) skipped_addresses: Counter,
    /// Dialogues whose deadlines this process looked at too late to blame the backend.
    pub(super) starved_dialogues: Counter,
    /// Rounds that ended before AUTH because the backend had called the log-ins too many.
    pub(super) postponed_logins: Counter,
    /// Idle sessions that are open.
    pub(super) idle_sessions: Gauge,
    idle_session_ends: Family<EndLabel, Counter>,
    /// Idle sessions that found no place.
    pub(super) idle_session_refusals: Counter,
    /// Idle sessions that could not be opened.
    pub(super) idle_session_failures: Counter,
    /// Ends of idle sessions for which there was no look, because their target had had too many.
    pub(super) idle_looks_left_out: Counter,
    refused_destinations: Family<RuleLabel, Counter>,
    start_lag: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabel {
    rule: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: &'static str,
}

/// Result of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupResult {
    Addresses,
    Negative,
    Unanswered,
    /// Not begun because too many were under way. The last known addresses served.
    Skipped,
}

fn duration_histogram() -> Histogram {
    // From a relay in the same cluster to the longest dialogue.
    Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0])
}

impl Metrics {
    /// Creates the metrics and registers them under `mail_failover_probe_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover_probe");
        Self {
            rounds: register(registry, "rounds", "Probe rounds that are over, by what they say"),
            round_duration: registered(
                registry,
                "round_duration_seconds",
                "How long a round took, from look-up to verdict, by result (ok, neutral, failed)",
                Family::new_with_constructor(duration_histogram),
            ),
            lookups: register(
                registry,
                "lookups",
                "DNS look-ups by result (addresses, negative, unanswered, skipped: too many under way)",
            ),
            dialogues: register(registry, "dialogues", "Dialogues under way"),
            targets: register(registry, "targets", "Probes under schedule"),
            distinct_targets: register(
                registry,
                "distinct_targets",
                "Probes under schedule that differ: identical ones are made once",
            ),
            looks: register(
                registry,
                "looks",
                "Rounds beside those at the interval, to confirm a failure or a standby, or after the end of an idle session",
            ),
            place_waits: register(
                registry,
                "place_waits",
                "Dialogues that waited for their turn, by the bound that was reached",
            ),
            place_wait: registered(
                registry,
                "place_wait_seconds",
                "How long dialogues waited for their turn, of those that waited",
                duration_histogram(),
            ),
            late_rounds: register(
                registry,
                "late_rounds",
                "Rounds whose dialogues waited for half an interval or longer for their turn, by the bound that was reached",
            ),
            skipped_rounds: register(
                registry,
                "skipped_rounds",
                "Rounds not started because ten of the same probe were under way",
            ),
            report_waits: register(
                registry,
                "report_waits",
                "Reports that waited because the queue to the controller was full",
            ),
            cancelled_rounds: register(
                registry,
                "cancelled_rounds",
                "Rounds that were ended because their target was changed or removed meanwhile",
            ),
            skipped_addresses: register(
                registry,
                "skipped_addresses",
                "Addresses left out of a round because the destination has more than a round tries",
            ),
            starved_dialogues: register(
                registry,
                "starved_dialogues",
                "Dialogues that say nothing because this process looked at a deadline too late: it needs more processor time",
            ),
            postponed_logins: register(
                registry,
                "postponed_logins",
                "Rounds that ended before AUTH because the backend had refused a log-in as one too many",
            ),
            idle_sessions: register(registry, "idle_sessions", "Idle sessions that are open"),
            idle_session_ends: register(
                registry,
                "idle_session_ends",
                "Idle sessions that a server has ended, by how (Closed, Reset, ServiceNotAvailable, OutOfTurn, Broken)",
            ),
            idle_session_refusals: register(
                registry,
                "idle_session_refusals",
                "Idle sessions that were not opened because the places for them are taken",
            ),
            idle_session_failures: register(
                registry,
                "idle_session_failures",
                "Idle sessions that could not be opened with an address that answers",
            ),
            idle_looks_left_out: register(
                registry,
                "idle_looks_left_out",
                "Ends of idle sessions without a look, because the target had had three at once and one in an interval",
            ),
            refused_destinations: register(
                registry,
                "refused_destinations",
                "Addresses that no dialogue was begun with, by the rule that refuses them (loopback, link_local, metadata, …)",
            ),
            start_lag: registered(
                registry,
                "start_lag_seconds",
                "How much later than scheduled rounds start",
                Histogram::new([0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]),
            ),
        }
    }

    pub(super) fn round(&self, class: EvidenceClass, took: Duration) {
        self.rounds.get_or_create(&ClassLabel { class: class.as_str() }).inc();
        let result = match class.effect() {
            Effect::Success => "ok",
            Effect::Neutral => "neutral",
            Effect::Failure => "failed",
        };
        self.round_duration.get_or_create(&ResultLabel { result }).observe(took.as_secs_f64());
    }

    /// Takes note of a dialogue that has to wait.
    pub(super) fn place_waits(&self, cause: DelayCause) {
        self.place_waits.get_or_create(&CauseLabel { cause: cause.as_str() }).inc();
    }

    /// Takes note of the end of such a wait.
    pub(super) fn place_wait(&self, waited: Duration) {
        self.place_wait.observe(waited.as_secs_f64());
    }

    /// Takes note of a round that is late for such waits.
    pub(super) fn late_round(&self, cause: DelayCause) {
        self.late_rounds.get_or_create(&CauseLabel { cause: cause.as_str() }).inc();
    }

    pub(super) fn lookup(&self, result: LookupResult) {
        let result = match result {
            LookupResult::Addresses => "addresses",
            LookupResult::Negative => "negative",
            LookupResult::Unanswered => "unanswered",
            LookupResult::Skipped => "skipped",
        };
        self.lookups.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn idle_session_end(&self, end: IdleEnd) {
        self.idle_session_ends.get_or_create(&EndLabel { end: end.as_str() }).inc();
    }

    pub(super) fn refused_destination(&self, rule: DialRule) {
        self.refused_destinations.get_or_create(&RuleLabel { rule: rule.as_str() }).inc();
    }

    pub(super) fn start_lag(&self, lag: Duration) {
        self.start_lag.observe(lag.as_secs_f64());
    }
}
