//! Rules about thresholds: a verdict can change as the policy says.

use std::time::Duration;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::{JudgedPolicy, ObjectSet};
use mail_failover_core::model::{Probe, Thresholds};
use mail_failover_runtime::findings::{Rule, Severity};
use mail_failover_smtp::client::SessionTimeouts;

use super::{listed, span};

pub(super) const WINDOW_NEVER_FIRES: Rule = Rule {
    code: "WindowNeverFires",
    severity: Severity::Error,
    broken_when: "failure.window wants more samples than a probe can deliver in its duration",
};
pub(super) const WINDOW_ADDS_NOTHING: Rule = Rule {
    code: "WindowAddsNothing",
    severity: Severity::Hint,
    broken_when: "failure.window wants nothing but failures, and so many that failure.consecutive is reached before",
};
pub(super) const LATENCY_NEVER_FIRES: Rule = Rule {
    code: "LatencyNeverFires",
    severity: Severity::Error,
    broken_when: "failure.latency.above is no less than a probe's longest dialogue: what is so slow has failed already",
};
pub(super) const LATENCY_OF_ONE_DIALOGUE: Rule = Rule {
    code: "LatencyOfOneDialogue",
    severity: Severity::Warning,
    broken_when: "failure.latency.for is shorter than two intervals of a probe: a single slow dialogue decides",
};
pub(super) const RECOVERY_EASIER_THAN_FAILURE: Rule = Rule {
    code: "RecoveryEasierThanFailure",
    severity: Severity::Warning,
    broken_when: "a recovery takes less evidence than a failure: what fails now and then seems healthy most of the time",
};
pub(super) const OBJECTIVE_IMPOSSIBLE: Rule = Rule {
    code: "ObjectiveImpossible",
    severity: Severity::Error,
    broken_when: "objectives.recoveryTime is shorter than failure.consecutive × interval (with failure.lasting: the interval and that time) + timeout + 1s of every probe of a backend",
};
pub(super) const OBJECTIVE_UNMEASURED: Rule = Rule {
    code: "ObjectiveUnmeasured",
    severity: Severity::Warning,
    broken_when: "objectives.deliveryTime or successPercent is set, and no route that uses the policy has an output `agent`: nobody reports deliveries",
};
pub(super) const OBJECTIVE_MISSED_BY_PROBE: Rule = Rule {
    code: "ObjectiveMissedByProbe",
    severity: Severity::Hint,
    broken_when: "objectives.recoveryTime is kept by a backend's fastest probe only: what just the others see takes longer",
};

/// Shortest distance of two rounds of a probe, in percent of its interval (`probe/schedule.rs`).
const LEAST_INTERVAL: u32 = 95;
/// Time from a verdict to written outputs, as the operator promises it.
const ACTUATION: Duration = Duration::from_secs(1);

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for judged in set.judged() {
        window(&judged, findings);
        latency(&judged, findings);
        recovery(&judged, findings);
        objective(&judged, findings);
    }
}

/// Names a probe for a message: `smtp of relay-a (every 10s)`.
fn named(backend: &str, probe: &Probe) -> String {
    format!("{} of {backend} (every {})", probe.name, span(probe.interval))
}

/// Returns the largest number of results that a probe delivers in a window.
fn largest_sample(window: Duration, probe: &Probe) -> u128 {
    window.as_nanos() / (probe.interval * LEAST_INTERVAL / 100).as_nanos().max(1) + 1
}

fn window(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let Thresholds { failure, window: Some(window), .. } = judged.policy.thresholds else { return };
    let never: Vec<_> = judged
        .probes()
        .map(|(backend, probe)| (backend, probe, largest_sample(window.duration, probe)))
        .filter(|(.., most)| *most < u128::from(window.minimum_samples))
        .map(|(backend, probe, most)| format!("{} delivers at most {most}", named(backend, probe)))
        .collect();
    if !never.is_empty() {
        let (samples, duration) = (window.minimum_samples, span(window.duration));
        let message = format!("it wants {samples} samples in {duration}: {}", listed(&never));
        let remedy = "lower minimumSamples, or lengthen the duration";
        findings.add(&WINDOW_NEVER_FIRES, judged.manifest, "spec.failure.window.minimumSamples", message, remedy);
    } else if window.failure_percent == 100 && window.minimum_samples >= failure {
        let message = format!(
            "{} failures of {} are a run of failures, and failure.consecutive ends the wait after {failure}",
            window.minimum_samples, window.minimum_samples
        );
        let remedy = "lower failurePercent or minimumSamples, or take the window out";
        findings.add(&WINDOW_ADDS_NOTHING, judged.manifest, "spec.failure.window", message, remedy);
    }
}

fn latency(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let Some(limit) = judged.policy.thresholds.latency else { return };
    let never = named_probes(judged, |probe| limit.above >= longest_dialogue(probe));
    if !never.is_empty() {
        let least = judged.probes().map(|(_, probe)| longest_dialogue(probe)).min().unwrap_or_default();
        let message = format!(
            "no dialogue takes {} without failing at its timeout: {}; the shortest has failed after {}",
            span(limit.above),
            listed(&never),
            span(least)
        );
        let remedy = "lower it below the timeouts, or raise those";
        findings.add(&LATENCY_NEVER_FIRES, judged.manifest, "spec.failure.latency.above", message, remedy);
    }
    let seldom = named_probes(judged, |probe| limit.held_for < probe.interval * 2);
    if !seldom.is_empty() {
        let message = format!("in {} there is one dialogue or none: {}", span(limit.held_for), listed(&seldom));
        let remedy = "lengthen it to some intervals";
        findings.add(&LATENCY_OF_ONE_DIALOGUE, judged.manifest, "spec.failure.latency.for", message, remedy);
    }
}

/// Returns the time after which a dialogue has failed, however quick the backend is at each step.
fn longest_dialogue(probe: &Probe) -> Duration {
    SessionTimeouts::of_probe(probe.timeout).session
}

fn named_probes(judged: &JudgedPolicy<'_>, is_named: impl Fn(&Probe) -> bool) -> Vec<String> {
    judged.probes().filter(|(_, probe)| is_named(probe)).map(|(backend, probe)| named(backend, probe)).collect()
}

fn recovery(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let Thresholds { failure, recovery, stable_for, .. } = judged.policy.thresholds;
    // Successes that must span some time are as good as so many more of them.
    let slowest = judged.probes().map(|(_, probe)| probe.interval).max();
    let is_stable = slowest.is_some_and(|interval| stable_for >= interval * failure);
    if recovery < failure && !is_stable {
        let message = format!("{recovery} successes end what {failure} failures began");
        let remedy = format!("set recovery.consecutive to {failure} or more, or recovery.stableFor");
        findings.add(&RECOVERY_EASIER_THAN_FAILURE, judged.manifest, "spec.recovery", message, remedy);
    }
}

/// Returns the time from the first evidence to written outputs, by this probe.
fn takes(thresholds: &Thresholds, probe: &Probe) -> Duration {
    let in_a_row = in_a_row(thresholds, probe);
    let by_window = thresholds.window.map(|window| {
        let share = window.duration * u32::from(window.failure_percent) / 100;
        share.max(probe.interval * window.minimum_samples * u32::from(window.failure_percent) / 100)
    });
    by_window.map_or(in_a_row, |by_window| by_window.min(in_a_row)) + probe.timeout + ACTUATION
}

/// Returns the time until failures in a row are enough: so many intervals, or the first one and the time that they span.
fn in_a_row(thresholds: &Thresholds, probe: &Probe) -> Duration {
    probe.interval + thresholds.must_last(probe.interval)
}

/// Formats the time that a probe takes, with its computation.
fn formula(backend: &str, probe: &Probe, thresholds: &Thresholds, takes: Duration) -> String {
    let (count, interval, timeout) = (thresholds.failure, span(probe.interval), span(probe.timeout));
    let in_a_row = match thresholds.lasting {
        None => format!("{count} × {interval}"),
        Some(lasting) => format!("{interval} + {}", span(lasting)),
    };
    let formula = format!("{in_a_row} + {timeout} + {}", span(ACTUATION));
    format!("{} takes {} ({formula})", named(backend, probe), span(takes))
}

/// Checks that somebody reports what the objectives are about. A policy without a route is another rule's.
pub(super) fn unmeasured(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, entry) in &set.policies {
        let Some(objectives) = entry.model.as_ref().map(|policy| policy.objectives) else { continue };
        let mut users = set.users(key).peekable();
        if users.peek().is_none() || users.any(|view| !view.route.agents.is_empty()) {
            continue;
        }
        for (field, is_set) in
            [("deliveryTime", objectives.delivery_time.is_some()), ("successPercent", objectives.success.is_some())]
        {
            if is_set {
                let message = "agents and relays report deliveries, and no route that uses this policy has any";
                let remedy = "add an output `agent`, or take the objective out";
                findings.add(
                    &OBJECTIVE_UNMEASURED,
                    entry.manifest,
                    &format!("spec.objectives.{field}"),
                    message,
                    remedy,
                );
            }
        }
    }
}

fn objective(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let Some(objective) = judged.policy.objectives.recovery_time else { return };
    let thresholds = &judged.policy.thresholds;
    let (mut impossible, mut missed) = (vec![], vec![]);
    for (backend, probes) in &judged.backends {
        let times: Vec<_> = probes.iter().map(|probe| (takes(thresholds, probe), probe)).collect();
        match times.iter().min_by_key(|(takes, _)| *takes) {
            Some((takes, probe)) if *takes > objective => impossible.push(formula(backend, probe, thresholds, *takes)),
            Some(_) => {
                for (takes, probe) in times.iter().filter(|(takes, _)| *takes > objective) {
                    missed.push(formula(backend, probe, thresholds, *takes));
                }
            }
            None => {}
        }
    }
    let remedy = "set failure.lasting, which confirms a failure at once, or probe more often, or allow more time";
    for (rule, late) in [(&OBJECTIVE_IMPOSSIBLE, impossible), (&OBJECTIVE_MISSED_BY_PROBE, missed)] {
        if !late.is_empty() {
            let message = format!("a switch shall take no more than {}: {}", span(objective), listed(&late));
            findings.add(rule, judged.manifest, "spec.objectives.recoveryTime", message, remedy);
        }
    }
}
