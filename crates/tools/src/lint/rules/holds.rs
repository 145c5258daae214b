//! Rules about holds and failback: a route returns, and not too often.

use std::time::Duration;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::{JudgedPolicy, ObjectSet};
use mail_failover_core::model::{FailbackMode, Timestamp, WhenNoneHealthy};
use mail_failover_runtime::findings::{Rule, Severity};

use super::span;

pub(super) const FAILBACK_BEFORE_RECOVERY: Rule = Rule {
    code: "FailbackBeforeRecovery",
    severity: Severity::Warning,
    broken_when: "failback.after is shorter than a recovery takes: mail returns sooner than the verdict was reached",
};
pub(super) const RAMP_OUTLASTS_WINDOW: Rule = Rule {
    code: "RampOutlastsWindow",
    severity: Severity::Warning,
    broken_when: "the steps of failback.ramp take longer than a failback window is open: the return ends outside it",
};
pub(super) const WINDOW_SELDOM_OPENS: Rule = Rule {
    code: "WindowSeldomOpens",
    severity: Severity::Warning,
    broken_when: "no failback window opens within 31 days",
};
pub(super) const BUDGET_BELOW_ROUND_TRIP: Rule = Rule {
    code: "BudgetBelowRoundTrip",
    severity: Severity::Warning,
    broken_when: "hold.budget allows fewer transitions than a failover and its failback",
};
pub(super) const FLAPPING: Rule = Rule {
    code: "Flapping",
    severity: Severity::Warning,
    broken_when: "hold.cooldown is 0s, and a backend that comes and goes can drive a route to and fro every few minutes",
};
pub(super) const PREFERRED_DESPITE_MANUAL: Rule = Rule {
    code: "PreferredDespiteManual",
    severity: Severity::Warning,
    broken_when: "whenNoneHealthy is Preferred and failback.mode Manual: when nobody is healthy the route returns without a person",
};

/// Longest pause between two failback windows. A rarer window keeps mail away from its preferred backend for too long.
const SELDOM: Duration = Duration::from_hours(31 * 24);
/// Shortest round trip to a standby and back that is not flapping.
const ROUND_TRIP: Duration = Duration::from_mins(5);

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for judged in set.judged() {
        after(&judged, findings);
        windows(&judged, set.at, findings);
        budget(&judged, findings);
        flapping(&judged, findings);
        none_healthy(&judged, findings);
    }
}

/// Returns the duration of a recovery by the slowest probe; `None` if no probe is known.
fn recovery(judged: &JudgedPolicy<'_>) -> Option<Duration> {
    let slowest = judged.probes().map(|(_, probe)| probe.interval).max()?;
    let thresholds = &judged.policy.thresholds;
    Some((slowest * thresholds.recovery.saturating_sub(1)).max(thresholds.stable_for))
}

fn after(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let after = judged.policy.failback.after;
    if let Some(recovery) = recovery(judged).filter(|recovery| after < *recovery) {
        let message = format!(
            "mail returns {} after a backend turned Healthy, which itself takes {}",
            span(after),
            span(recovery)
        );
        let remedy = format!("use {} or more", span(recovery));
        findings.add(&FAILBACK_BEFORE_RECOVERY, judged.manifest, "spec.failback.after", message, remedy);
    }
}

fn windows(judged: &JudgedPolicy<'_>, at: Timestamp, findings: &mut ManifestFindings) {
    let failback = &judged.policy.failback;
    let ramp: Duration = failback.ramp.iter().map(|step| step.duration).sum();
    let specs = judged.spec.failback.iter().flat_map(|failback| &failback.windows);
    for (index, spec) in specs.enumerate() {
        let open: Duration = spec.duration.into();
        if ramp > open {
            let message = format!("the ramp takes {}, and this window is open for {}", span(ramp), span(open));
            let remedy = "lengthen the window, or shorten the steps";
            let field = format!("spec.failback.windows[{index}].duration");
            findings.add(&RAMP_OUTLASTS_WINDOW, judged.manifest, &field, message, remedy);
        }
    }
    let is_open = failback.windows.iter().any(|window| window.open_until(at).is_some());
    let next = failback.windows.iter().filter_map(|window| window.next_opening(at)).min();
    if let Some(next) = next.filter(|next| !is_open && next.since(at) > SELDOM) {
        let days = next.since(at).as_secs() / 86_400;
        let message = format!("the next window opens at {next}, in {days} days: so long mail stays where it fled to");
        findings.add(&WINDOW_SELDOM_OPENS, judged.manifest, "spec.failback.windows", message, "add a window");
    }
}

fn budget(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let budget = judged.policy.hold.budget;
    if budget.switches < 2 {
        let message = format!(
            "{} transition per {} does not pay for a failover and its failback: mail returns {} later at the earliest",
            budget.switches,
            span(budget.per),
            span(budget.per)
        );
        let field = "spec.hold.budget.switches";
        findings.add(&BUDGET_BELOW_ROUND_TRIP, judged.manifest, field, message, "allow 2 or more");
    }
}

fn flapping(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let policy = judged.policy;
    let Some(recovery) = recovery(judged) else { return };
    let fastest = judged.probes().map(|(_, probe)| probe.interval).min().unwrap_or_default();
    let failure = policy.thresholds.lasting.unwrap_or(fastest * policy.thresholds.failure);
    let round_trip = failure + recovery + policy.failback.after.max(policy.hold.minimum_stay);
    if policy.hold.cooldown.is_zero()
        && policy.failback.mode == FailbackMode::Automatic
        && policy.failback.windows.is_empty()
        && round_trip < ROUND_TRIP
    {
        let message = format!(
            "a backend that comes and goes drives its routes to and fro every {}, until hold.budget is spent",
            span(round_trip)
        );
        let remedy = "set a cooldown, such as the default of 10m, or lengthen failback.after";
        findings.add(&FLAPPING, judged.manifest, "spec.hold.cooldown", message, remedy);
    }
}

fn none_healthy(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let policy = judged.policy;
    if policy.when_none_healthy == WhenNoneHealthy::Preferred && policy.failback.mode == FailbackMode::Manual {
        let message = "a return waits for a person, except when nobody is healthy: then the route returns by itself";
        let remedy = "use whenNoneHealthy: Hold, or failback.mode: Automatic";
        findings.add(&PREFERRED_DESPITE_MANUAL, judged.manifest, "spec.whenNoneHealthy", message, remedy);
    }
}
