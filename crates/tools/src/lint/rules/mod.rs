//! Rules that the API server does not check and a mail operator would.
//!
//! One pure function per rule, over parsed objects; each file holds the rules of one subject.

mod agents;
mod capacity;
mod connections;
mod dns;
mod drills;
mod holds;
mod notifications;
mod outputs;
mod redundancy;
mod references;
mod replies;
mod thresholds;
mod webhooks;

use std::time::Duration;

use super::finding::ManifestFindings;
use super::schema;
use super::set::{self, ObjectSet};
use mail_failover_runtime::findings::Rule;

/// All rules, by subject.
pub const RULES: [&Rule; 79] = [
    &schema::UNKNOWN_FIELD,
    &schema::SCHEMA_VIOLATION,
    &schema::VALIDATION_RULE,
    &schema::UNKNOWN_KIND,
    &schema::INVALID_NAME,
    &set::DUPLICATE_OBJECT,
    &set::UNUSABLE,
    &references::MISSING_POLICY,
    &references::MISSING_BACKEND,
    &references::MISSING_SERVICE,
    &references::MISSING_CA,
    &references::UNUSED_BACKEND,
    &references::UNUSED_POLICY,
    &references::UNKNOWN_REGION,
    &references::REQUEST_IN_MANIFEST,
    &references::UNKNOWN_ANNOTATION,
    &redundancy::SINGLE_BACKEND,
    &redundancy::NO_STANDBY,
    &redundancy::NOBODY_IN_SERVICE,
    &redundancy::SENDER_DOMAIN_NOT_COVERED,
    &redundancy::ONE_FAILURE_DOMAIN,
    &redundancy::SAME_DESTINATION,
    &capacity::CAPACITY_SHORT,
    &capacity::NO_SPARE_CAPACITY,
    &capacity::WEIGHT_ABOVE_LIMIT,
    &capacity::WEIGHT_ABOVE_LIMIT_WITHOUT_ONE,
    &capacity::SHARED_LIMITS,
    &capacity::LIMITS_WITHOUT_TRAFFIC,
    &thresholds::WINDOW_NEVER_FIRES,
    &thresholds::WINDOW_ADDS_NOTHING,
    &thresholds::LATENCY_NEVER_FIRES,
    &thresholds::LATENCY_OF_ONE_DIALOGUE,
    &thresholds::RECOVERY_EASIER_THAN_FAILURE,
    &thresholds::OBJECTIVE_IMPOSSIBLE,
    &thresholds::OBJECTIVE_MISSED_BY_PROBE,
    &thresholds::OBJECTIVE_UNMEASURED,
    &holds::FAILBACK_BEFORE_RECOVERY,
    &holds::RAMP_OUTLASTS_WINDOW,
    &holds::WINDOW_SELDOM_OPENS,
    &holds::BUDGET_BELOW_ROUND_TRIP,
    &holds::FLAPPING,
    &holds::PREFERRED_DESPITE_MANUAL,
    &outputs::OUTPUT_CLAIMED_TWICE,
    &outputs::OUTPUT_EXISTS,
    &outputs::MAIL_LOOP,
    &outputs::SERVICE_MIXES_IDENTITIES,
    &connections::LOOPBACK_HOST,
    &connections::PROBES_TOO_FAST,
    &connections::TLS_NOT_VERIFIED,
    &connections::TLS_MODE_AGAINST_PORT,
    &connections::PORT_25,
    &connections::TIMEOUT_BELOW_DELAYS,
    &connections::SHALLOW_PROBES,
    &replies::INVALID_REPLY_RULE,
    &replies::REPLY_RULE_NEVER_DECIDES,
    &replies::REPLY_RULE_VAGUE,
    &agents::NEXT_HOP_SHARED,
    &agents::AUTH_UNUSED,
    &agents::CONNECTION_LIMIT_UNUSED,
    &agents::SECRET_WITHOUT_LOGIN,
    &agents::BREAKER_UNUSED,
    &agents::ALTERNATE_LEFT_OUT,
    &agents::SUBMISSION_WITHOUT_AUTH,
    &agents::PASSWORD_READABLE,
    &webhooks::SECRET_NOT_FOR_WEBHOOK,
    &webhooks::NO_WEBHOOK_AWAITED,
    &dns::SECRET_NOT_FOR_TSIG,
    &dns::SECRET_NOT_FOR_DNS_API,
    &dns::DNS_CLAIMED_TWICE,
    &dns::TTL_OUTLASTS_OBJECTIVE,
    &dns::LONG_TTL,
    &dns::NO_DNS_AWAITED,
    &notifications::SECRET_NOT_FOR_RECEIVER,
    &notifications::RECEIVER_BACKEND_MISSING,
    &notifications::NOBODY_HEARS_OF_OUTAGES,
    &notifications::OCCASION_NEVER_TOLD,
    &drills::DRILL_CANNOT_PASS,
    &drills::DRILLS_BEYOND_BUDGET,
    &drills::DRILL_STOPS_BEFORE_LOGIN,
];

/// Checks every rule against the objects.
pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    references::check(set, findings);
    redundancy::check(set, findings);
    capacity::check(set, findings);
    thresholds::check(set, findings);
    thresholds::unmeasured(set, findings);
    holds::check(set, findings);
    outputs::check(set, findings);
    connections::check(set, findings);
    replies::check(set, findings);
    agents::check(set, findings);
    webhooks::check(set, findings);
    dns::check(set, findings);
    notifications::check(set, findings);
    drills::check(set, findings);
}

/// Number of names that a message lists at most.
const TOLD: usize = 3;

/// Joins names for a message: `a, b, c and 97 more`.
pub(super) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let told: Vec<_> = names.iter().take(TOLD).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(TOLD) {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// Formats a duration as Kubernetes does: `1h30m`, `10s`, `500ms`.
fn span(duration: Duration) -> String {
    let whole = duration.as_secs();
    let parts =
        [(whole / 3600, "h"), (whole / 60 % 60, "m"), (whole % 60, "s"), (duration.subsec_millis().into(), "ms")];
    let written = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}"));
    let text = written.collect::<Vec<_>>().concat();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_lists_are_written_briefly() {
        assert_eq!(span(Duration::from_millis(5_400_500)), "1h30m500ms");
        assert_eq!(span(Duration::ZERO), "0s");
        assert_eq!(listed(&["a", "b", "c"]), "a, b, c");
        assert_eq!(listed(&["a", "b", "c", "d"]), "a, b, c and 1 more");
    }
}
