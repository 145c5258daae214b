//! Rules about drills: one can pass, as many as are due may begin, and one in shadow sees the login.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::{JudgedPolicy, ObjectSet};
use mail_failover_core::model::{CronWindow, DrillMode, Timestamp};
use mail_failover_runtime::findings::{Rule, Severity};

use super::{listed, span};

pub(super) const DRILL_CANNOT_PASS: Rule = Rule {
    code: "DrillCannotPass",
    severity: Severity::Warning,
    broken_when: "drills.longest is shorter than the policy takes to detect a failure, with drills.stay: every drill that moves mail fails; or in shadow than a round of each probe takes to come",
};
pub(super) const DRILLS_BEYOND_BUDGET: Rule = Rule {
    code: "DrillsBeyondBudget",
    severity: Severity::Warning,
    broken_when: "drills.schedule opens more often than drills.budget allows drills: some are skipped each time",
};

pub(super) const DRILL_STOPS_BEFORE_LOGIN: Rule = Rule {
    code: "DrillStopsBeforeLogin",
    severity: Severity::Hint,
    broken_when: "drills are in shadow, and no probe of a backend with a login logs in: a login that is refused stays unseen",
};

/// Most openings that are looked at.
const OPENINGS: usize = 20;

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for judged in set.judged() {
        duration(&judged, findings);
        budget(&judged, set.at, findings);
    }
    login(set, findings);
}

fn duration(judged: &JudgedPolicy<'_>, findings: &mut ManifestFindings) {
    let Some(spec) = &judged.spec.drills else { return };
    let drills = &judged.policy.drills;
    if drills.mode == DrillMode::Shadow {
        // As long as the operator waits for the other replicas: the shift of rounds is a twentieth of the interval.
        let rounds = judged.probes().map(|(_, probe)| probe.interval + probe.interval / 10 + probe.timeout);
        let needed = rounds.max().unwrap_or_default();
        if drills.longest < needed {
            let message = format!(
                "a round of every probe has come after {}, and a drill in shadow ends after {}",
                span(needed),
                span(drills.longest)
            );
            let remedy = format!("use {} or more, or probe more often", span(needed));
            findings.add(&DRILL_CANNOT_PASS, judged.manifest, "spec.drills.longest", message, remedy);
            return;
        }
        if spec.schedule.is_some() {
            return;
        }
    }
    let thresholds = &judged.policy.thresholds;
    let Some(detected) = judged.probes().map(|(_, probe)| thresholds.must_last(probe.interval)).max() else { return };
    let needed = detected + drills.stay;
    if drills.longest <= needed {
        let message = format!(
            "a failure is detected after {}, mail stays with the standby for {}, and a drill ends after {}",
            span(detected),
            span(drills.stay),
            span(drills.longest)
        );
        let remedy = format!("use more than {}", span(needed));
        findings.add(&DRILL_CANNOT_PASS, judged.manifest, "spec.drills.longest", message, remedy);
    }
}

fn budget(judged: &JudgedPolicy<'_>, at: Timestamp, findings: &mut ManifestFindings) {
    let drills = &judged.policy.drills;
    let Some(window) = &drills.window else { return };
    let due = most_openings(window, at, drills.budget.per);
    if due > usize::from(drills.budget.drills) {
        let message = format!(
            "drills are due {due} times in {}, and the budget allows {}",
            span(drills.budget.per),
            drills.budget.drills
        );
        let remedy = "schedule fewer, or raise drills.budget";
        findings.add(&DRILLS_BEYOND_BUDGET, judged.manifest, "spec.drills.schedule", message, remedy);
    }
}

fn login(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, entry) in &set.policies {
        let (Some(policy), Some(_)) = (&entry.model, &entry.spec.drills) else { continue };
        if policy.drills.mode != DrillMode::Shadow {
            continue;
        }
        let mut unseen = BTreeSet::new();
        for view in set.users(key) {
            for placed in &view.backends {
                let logs_in = placed.backend.probes.iter().any(|probe| probe.depth.is_counted());
                if placed.backend.secret.is_some() && !logs_in {
                    unseen.insert(placed.member.name.clone());
                }
            }
        }
        let unseen: Vec<_> = unseen.into_iter().collect();
        if !unseen.is_empty() {
            let message =
                format!("no probe of {} logs in, so no drill in shadow sees a login that is refused", listed(&unseen));
            let remedy = "set smtp.depth of one of its probes to Auth, or use the mode Observed";
            findings.add(&DRILL_STOPS_BEFORE_LOGIN, entry.manifest, "spec.drills.mode", message, remedy);
        }
    }
}

/// Number of openings in the time after one of them, that one included.
fn most_openings(window: &CronWindow, at: Timestamp, per: Duration) -> usize {
    let Some(first) = window.next_opening(at) else { return 0 };
    let (mut count, mut latest) = (1, first);
    while let Some(next) = window.next_opening(latest).filter(|next| next.since(first) < per && count < OPENINGS) {
        (count, latest) = (count + 1, next);
    }
    count
}
