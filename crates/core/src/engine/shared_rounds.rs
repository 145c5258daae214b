//! Rounds of a probe that the replicas share out: what each of them has seen of late, and what that comes to together.
//!
//! No time of another machine counts: a run of another replica begins when it is first heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Health, Judgement, ObserverVerdict};
use crate::model::{Effect, Probe, ProbeReport, Thresholds, Timestamp};

/// Results in a row of one replica at a probe that the replicas share out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRun {
    /// Name of the probe.
    pub probe: Arc<str>,
    /// True if the results are failures.
    pub is_failing: bool,
    /// Number of results, up to that which turns a verdict.
    pub count: u32,
    /// True if a result of this kind was begun after the replica had heard of another one's run of the other kind.
    pub contradicts: bool,
}

/// Rounds of the probes of one backend that the replicas share out.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedRounds(BTreeMap<Arc<str>, SharedProbe>);

/// Rounds of one probe.
#[derive(Clone, Debug)]
struct SharedProbe {
    thresholds: Thresholds,
    /// Number of replicas, at least 2.
    sharers: u32,
    /// Time between two rounds of one replica.
    interval: Duration,
    /// Runs of the other replicas, by name.
    others: BTreeMap<Arc<str>, HeardRun>,
    /// Start of this process's latest round with a result that counts.
    latest_at: Option<Timestamp>,
    /// Description of this process's latest failure.
    message: Arc<str>,
    /// Number of successes up to which it is told that the backend has recovered by them.
    told_until: u32,
}

#[derive(Clone, Debug)]
struct HeardRun {
    run: SharedRun,
    /// Time at which a run of this kind was first heard of.
    since: Timestamp,
    /// Time at which its latest result was heard of.
    latest_at: Timestamp,
}

/// Results in a row of several replicas.
struct Together {
    count: u32,
    began_at: Timestamp,
}

impl SharedRounds {
    /// Sets the probes that are shared out. Returns true if there are any.
    pub(super) fn track(&mut self, thresholds: &Thresholds, probes: &[Probe]) -> bool {
        let shared = || probes.iter().filter(|probe| probe.sharers > 1);
        self.0.retain(|name, _| shared().any(|probe| probe.name == *name));
        for probe in shared() {
            let known = self.0.entry(probe.name.clone()).or_insert_with(|| SharedProbe::new(thresholds, probe));
            (known.sharers, known.interval) = (probe.sharers, probe.interval);
        }
        !self.0.is_empty()
    }

    /// Returns true if the probe is shared out among so many replicas.
    pub(super) fn is_tracked_as(&self, probe: &Probe) -> bool {
        self.0.get(&probe.name).map_or(1, |known| known.sharers) == probe.sharers.max(1)
    }

    /// Takes a round of this process into account, after its judgement. Returns true if the other replicas are to hear
    /// of it, or the verdict turned.
    pub(super) fn note(
        &mut self,
        judgement: &mut Judgement,
        report: &ProbeReport,
        before: (Health, Option<SharedRun>),
        suspects: &BTreeSet<Arc<str>>,
        now: Timestamp,
    ) -> bool {
        let Some(known) = self.0.get_mut(&report.key.probe) else { return false };
        match report.outcome.class.effect() {
            // It went less deep.
            Effect::Success if report.is_extra => {}
            Effect::Success => known.latest_at = Some(report.started_at),
            Effect::Failure => {
                known.latest_at = Some(report.started_at);
                known.message = report.outcome.message.as_str().into();
                known.told_until = 0;
            }
            Effect::Neutral => {}
        }
        let (health, told) = before;
        if health == Health::Unhealthy && judgement.health == Health::Healthy {
            known.tell_of_recovery(judgement);
        }
        let turned = known.turn(judgement, suspects, now);
        turned || known.told(&report.key.probe, judgement, now) != told
    }

    /// Takes the runs of another replica into account.
    pub(super) fn hear(
        &mut self,
        probes: &mut BTreeMap<Arc<str>, Judgement>,
        observer: &Arc<str>,
        runs: &[SharedRun],
        suspects: &BTreeSet<Arc<str>>,
        now: Timestamp,
    ) {
        for (name, known) in &mut self.0 {
            let run = runs.iter().find(|run| run.probe == *name);
            if known.hear(observer, run, now)
                && let Some(judgement) = probes.get_mut(name)
            {
                known.turn(judgement, suspects, now);
            }
        }
    }

    /// Forgets another replica.
    pub(super) fn forget(&mut self, observer: &str) {
        self.0.values_mut().for_each(|known| drop(known.others.remove(observer)));
    }

    /// Forgets all results.
    pub(super) fn reset(&mut self) {
        for known in self.0.values_mut() {
            known.others.clear();
            (known.latest_at, known.told_until) = (None, 0);
        }
    }

    /// Returns the run of this process at a probe, as the other replicas are told.
    pub(super) fn told_of(&self, probe: &Arc<str>, judgement: &Judgement, now: Timestamp) -> Option<SharedRun> {
        self.0.get(probe)?.told(probe, judgement, now)
    }

    /// Returns the runs of this process, as the other replicas are told.
    pub(super) fn told(&self, probes: &BTreeMap<Arc<str>, Judgement>, now: Timestamp) -> Arc<[SharedRun]> {
        let told = self.0.iter().filter_map(|(name, known)| known.told(name, probes.get(name)?, now));
        told.collect()
    }

    /// Returns the time at which another replica was last heard to have been answered at a probe; `None` if any replica
    /// sees it fail.
    pub(super) fn heard_answer_at(&self, probe: &str) -> Option<Timestamp> {
        let others = &self.0.get(probe)?.others;
        let is_failing = others.values().any(|heard| heard.run.is_failing);
        others.values().map(|heard| heard.latest_at).max().filter(|_| !is_failing)
    }
}

impl SharedProbe {
    fn new(thresholds: &Thresholds, probe: &Probe) -> Self {
        Self {
            thresholds: *thresholds,
            sharers: probe.sharers,
            interval: probe.interval,
            others: BTreeMap::new(),
            latest_at: None,
            message: Arc::default(),
            told_until: 0,
        }
    }

    /// Takes the run of another replica. Returns true if it is news.
    fn hear(&mut self, observer: &Arc<str>, run: Option<&SharedRun>, now: Timestamp) -> bool {
        let Some(run) = run else { return self.others.remove(observer).is_some() };
        let before = self.others.get(observer).filter(|heard| heard.run.is_failing == run.is_failing);
        if before.is_some_and(|heard| heard.run == *run) {
            return false;
        }
        let same_count = before.filter(|heard| heard.run.count == run.count);
        let heard = HeardRun {
            run: run.clone(),
            since: before.map_or(now, |heard| heard.since),
            latest_at: same_count.map_or(now, |heard| heard.latest_at),
        };
        self.others.insert(observer.clone(), heard);
        true
    }

    /// Turns the judgement if the results of all replicas together suffice. Returns true if it turned.
    fn turn(&mut self, judgement: &mut Judgement, suspects: &BTreeSet<Arc<str>>, now: Timestamp) -> bool {
        let has_turned = if judgement.failures() > 0 {
            let enough = self.together(judgement, true, suspects).filter(|together| {
                together.count >= self.thresholds.failure && now.since(together.began_at) >= self.lasting()
            });
            enough.is_some_and(|together| judgement.fail_together(together.began_at, self.message.clone(), now))
        } else {
            let enough = self.together(judgement, false, suspects).filter(|together| {
                together.count >= self.thresholds.recovery && now.since(together.began_at) >= self.thresholds.stable_for
            });
            enough.is_some() && judgement.recover_together(now)
        };
        if has_turned && judgement.health == Health::Healthy {
            self.tell_of_recovery(judgement);
        }
        has_turned
    }

    /// Adds the runs of the other replicas to our own. `None` if we have none of that kind, or if a replica has seen the
    /// opposite since it heard of one.
    // A run that began more than a round before ours is not the same one: we have seen the opposite in between. No replica
    // counts for more than we do.
    fn together(&self, judgement: &Judgement, is_failing: bool, suspects: &BTreeSet<Arc<str>>) -> Option<Together> {
        let (own, began_at) = judgement.run(is_failing)?;
        let round = self.interval + self.interval / 4;
        let mut together = Together { count: own, began_at };
        for (_, heard) in self.others.iter().filter(|(observer, _)| !suspects.contains(*observer)) {
            if heard.run.is_failing != is_failing {
                if heard.run.contradicts {
                    return None;
                }
                continue;
            }
            let distance = heard.since.since(began_at).max(began_at.since(heard.since));
            if distance <= round {
                together.count = together.count.saturating_add(heard.run.count.min(own + 1));
                together.began_at = together.began_at.min(heard.since);
            }
        }
        Some(together)
    }

    /// Returns the time that failures of all replicas together must span: what the policy says, otherwise as long as
    /// whole turns of all replicas take, less what rounds come early.
    fn lasting(&self) -> Duration {
        let failures = self.thresholds.failure.saturating_sub(1);
        let asked_for = self.interval / self.sharers;
        let turns = asked_for.saturating_mul(failures / self.sharers * self.sharers);
        let half = asked_for.saturating_mul(failures) / 2;
        self.thresholds.lasting.unwrap_or(turns.max(half) / 20 * 19)
    }

    /// Goes on telling of successes that have made the backend Healthy, so that the others count them, too.
    fn tell_of_recovery(&mut self, judgement: &Judgement) {
        self.told_until = judgement.successes().saturating_add(1);
    }

    fn told(&self, probe: &Arc<str>, judgement: &Judgement, now: Timestamp) -> Option<SharedRun> {
        if judgement.blocked().is_some() || judgement.is_stale(now) {
            return None;
        }
        let is_failing = judgement.failures() > 0;
        let opposite = self.others.values().filter(|heard| heard.run.is_failing != is_failing);
        let opposite_since = opposite.map(|heard| heard.since).min();
        let contradicts = opposite_since.is_some_and(|since| self.latest_at.is_some_and(|at| at >= since));
        let (failures, successes) = (judgement.failures(), judgement.successes());
        let count = if is_failing {
            failures.min(self.thresholds.failure.max(1))
        } else if successes > 0 && (judgement.health == Health::Unhealthy || successes <= self.told_until) {
            successes.min(self.thresholds.recovery.max(1))
        } else if successes > 0 && contradicts {
            1
        } else {
            return None;
        };
        Some(SharedRun { probe: probe.clone(), is_failing, count, contradicts })
    }
}

impl ObserverVerdict {
    /// Returns true if the verdicts differ in their runs at most.
    pub(super) fn is_same_but_for_runs(&self, other: &Self) -> bool {
        Self { runs: other.runs.clone(), ..self.clone() } == *other
    }
}

#[cfg(test)]
#[path = "shared_rounds_tests.rs"]
mod tests;
