use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::observers::{Panel, Suspicion};
use super::{Deliveries, Health, Judgement, News, Observation, Observer, Sighting, Verdict};
use crate::model::{Agent, Effect, EvidenceClass, Outcome, Probe, ProbeReport, Thresholds, Timestamp, Vantage, Word};

/// Silence of a probe for three intervals, its timeout and this makes its judgement stale: a leader's change or a busy minute does not.
const STALE_GRACE: Duration = Duration::from_secs(30);
/// A Job's pod has to be scheduled and started first.
const STALE_GRACE_OF_JOBS: Duration = Duration::from_secs(90);

/// What is known of one backend, judged once for each set of thresholds in use.
///
/// Routes with equal thresholds share a judgement; ten thousand backends under one policy keep one each.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    judged: BTreeMap<Thresholds, Judged>,
    suspicion: Suspicion,
    /// The same under all thresholds: the agents have thresholds of their own.
    deliveries: Deliveries,
}

#[derive(Clone, Debug, Default)]
struct Judged {
    probes: BTreeMap<Arc<str>, Judgement>,
    /// Kept only for backends with several addresses, to leave out of a Service those that fail while others work.
    addresses: BTreeMap<(Arc<str>, SocketAddr), Judgement>,
    panel: Panel,
}

/// What counts beside the probes, under all thresholds alike.
#[derive(Clone, Copy)]
struct Beside<'a> {
    suspicion: &'a Suspicion,
    deliveries: Option<&'a Judgement>,
}

impl Evidence {
    /// Says which thresholds and probes are in use. Thresholds and probes that are new start from the verdict that stood before;
    /// those no longer in use are forgotten. Returns whether anything changed: then others must be heard again.
    pub fn track(&mut self, thresholds: &BTreeSet<Thresholds>, probes: &[Probe], now: Timestamp) -> bool {
        let unchanged = self.judged.keys().eq(thresholds.iter())
            && self.judged.values().all(|judged| {
                judged.probes.len() == probes.len()
                    && probes.iter().all(|probe| {
                        let known = judged.probes.get(&probe.name);
                        known.is_some_and(|judgement| judgement.stale_after() == stale_after(probe))
                    })
            });
        if unchanged {
            return false;
        }
        let before = self.judged.values().next().cloned();
        self.judged.retain(|key, _| thresholds.contains(key));
        for key in thresholds {
            let judged = self.judged.entry(*key).or_default();
            let beside = Beside { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
            judged.change(beside, now, |judged| judged.use_probes(probes, before.as_ref(), now));
        }
        true
    }

    /// Takes over what an earlier leader wrote down about a probe.
    pub fn adopt_probe(&mut self, probe: &str, earlier: &Judgement, now: Timestamp) {
        let beside = Beside { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        for judged in self.judged.values_mut() {
            judged.change(beside, now, |judged| {
                if let Some(judgement) = judged.probes.get_mut(probe) {
                    judgement.adopt(earlier);
                }
            });
        }
    }

    /// Takes over the verdict that an earlier leader wrote down for a route with these thresholds, unless what is known of the probes says
    /// the same already. Among several observers it is what stands while their votes are equal.
    pub fn adopt_verdict(&mut self, thresholds: Thresholds, earlier: &Judgement, now: Timestamp) {
        let beside = Beside { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        let Some(judged) = self.judged.get_mut(&thresholds) else { return };
        let own = judged.own(beside.deliveries, now);
        let is_same = own.is_some_and(|own| (own.health, own.since) == (earlier.health, earlier.since));
        judged.change(beside, now, |judged| {
            if !is_same {
                judged.probes.values_mut().for_each(|judgement| judgement.adopt(earlier));
            }
            judged.panel.adopt(earlier.health, earlier.since);
        });
    }

    /// Forgets everything: the backend is another host now. Others must be heard again.
    pub fn reset(&mut self, now: Timestamp) {
        self.deliveries = Deliveries::default();
        for judged in self.judged.values_mut() {
            judged.addresses.clear();
            judged.panel = Panel::default();
            for judgement in judged.probes.values_mut() {
                let (stale_after, may_wait) = (judgement.stale_after(), judgement.may_wait());
                *judgement = Judgement::unknown(now);
                judgement.watch(stale_after, may_wait, now);
            }
        }
    }

    /// Takes a round into account.
    pub fn observe(&mut self, report: &ProbeReport, now: Timestamp) -> News {
        let mut news = News::Nothing;
        let beside = Beside { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        for (thresholds, judged) in &mut self.judged {
            news = news.max(judged.change(beside, now, |judged| judged.observe(thresholds, report, now)));
            if judged.observe_addresses(thresholds, report) {
                news = News::Turned;
            }
        }
        news
    }

    /// Notes what an agent says of its deliveries. Returns whether that turns the verdict about them.
    pub fn hear_agent(&mut self, agent: &Agent, word: Word, cooldown: Duration, now: Timestamp) -> bool {
        self.change_deliveries(now, |deliveries| deliveries.hear(agent, word, cooldown, now))
    }

    /// Brings the verdict about deliveries up to date. Returns whether it has turned.
    pub fn settle_deliveries(&mut self, now: Timestamp) -> bool {
        self.change_deliveries(now, |deliveries| deliveries.settle(now))
    }

    /// Takes over the verdict about deliveries that an earlier leader wrote down.
    pub fn adopt_deliveries(&mut self, earlier: &Judgement, cooldown: Duration, now: Timestamp) {
        self.change_deliveries(now, |deliveries| deliveries.adopt(earlier, cooldown, now));
    }

    /// The verdict about deliveries, if there is one.
    pub fn deliveries(&self) -> Option<&Judgement> {
        self.deliveries.judgement()
    }

    fn change_deliveries(&mut self, now: Timestamp, change: impl FnOnce(&mut Deliveries)) -> bool {
        let before = self.deliveries.judgement().cloned();
        change(&mut self.deliveries);
        let after = self.deliveries.judgement();
        if before.as_ref() == after {
            return false;
        }
        for judged in self.judged.values_mut().filter(|judged| !judged.panel.is_alone()) {
            judged.settle(Beside { suspicion: &self.suspicion, deliveries: before.as_ref() }, now);
            judged.settled(Beside { suspicion: &self.suspicion, deliveries: after }, now);
        }
        true
    }

    /// Notes what another observer says under these thresholds. Returns whether that is news. Nothing is noted for thresholds that are
    /// not tracked.
    pub fn hear(&mut self, observer: &Arc<str>, thresholds: Thresholds, sighting: Sighting, now: Timestamp) -> bool {
        let beside = Beside { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        let Some(judged) = self.judged.get_mut(&thresholds) else { return false };
        if judged.panel.has_heard(observer, sighting) {
            return false;
        }
        judged.change_voters(beside, now, |judged| judged.panel.hear(observer, sighting));
        true
    }

    /// Forgets what another observer said. Returns whether it had said anything.
    pub fn forget_observer(&mut self, observer: &str, now: Timestamp) -> bool {
        let beside = Beside { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        let forget = |judged: &mut Judged| judged.change_voters(beside, now, |judged| judged.panel.forget(observer));
        self.judged.values_mut().fold(false, |known, judged| forget(judged) | known)
    }

    /// Says whose votes do not count for now: see `Fleet::suspects`. Returns whether that is news.
    pub fn suspect(&mut self, suspects: &BTreeSet<Observer>, now: Timestamp) -> bool {
        let suspicion = Suspicion::of(suspects, &self.suspicion, now);
        if suspicion == self.suspicion {
            return false;
        }
        let deliveries = self.deliveries.judgement();
        for judged in self.judged.values_mut() {
            judged.change_voters(Beside { suspicion: &self.suspicion, deliveries }, now, |_| ());
            judged.change_voters(Beside { suspicion: &suspicion, deliveries }, now, |_| ());
        }
        self.suspicion = suspicion;
        true
    }

    /// The thresholds that are tracked.
    pub fn thresholds(&self) -> impl Iterator<Item = Thresholds> {
        self.judged.keys().copied()
    }

    /// Whether every probe that this process makes itself has been heard of since it began. What Jobs say comes when it comes: a tenant
    /// whose Jobs never run must not keep a replica from having a vote.
    pub fn is_observed(&self) -> bool {
        self.judged.values().all(|judged| !judged.probes.values().any(Judgement::is_awaited))
    }

    /// The verdict under these thresholds; `None` when they are not tracked.
    pub fn verdict(&self, thresholds: Thresholds, now: Timestamp) -> Option<Verdict> {
        self.judged.get(&thresholds)?.verdict(self.beside(), now)
    }

    /// What this process alone would say under these thresholds: what it tells others.
    pub fn sighting(&self, thresholds: Thresholds, now: Timestamp) -> Option<Sighting> {
        self.judged.get(&thresholds)?.own(self.deliveries.judgement(), now)
    }

    fn beside(&self) -> Beside<'_> {
        Beside { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() }
    }

    /// The worst verdict under any thresholds in use, with what stands for each probe, stale or not.
    pub fn worst(&self, now: Timestamp) -> Option<(Verdict, &BTreeMap<Arc<str>, Judgement>)> {
        self.judged
            .values()
            .filter_map(|judged| judged.verdict(self.beside(), now).map(|verdict| (verdict, &judged.probes)))
            .max_by_key(|(verdict, _)| verdict.health)
    }

    /// When a verdict may change without any further input: when the next probe goes stale, or an agent's word lapses.
    pub fn next_change_at(&self, now: Timestamp) -> Option<Timestamp> {
        let probes = self.judged.values().flat_map(|judged| judged.probes.values());
        probes.map(Judgement::stale_at).filter(|at| *at > now).chain(self.deliveries.next_change_at(now)).min()
    }

    /// Whether an address is known to fail although it is one of several.
    pub fn is_failing_address(&self, thresholds: Thresholds, address: SocketAddr) -> bool {
        self.judged.get(&thresholds).is_some_and(|judged| {
            judged.addresses.iter().any(|((_, at), judgement)| *at == address && judgement.health == Health::Unhealthy)
        })
    }
}

impl Judged {
    fn use_probes(&mut self, probes: &[Probe], before: Option<&Self>, now: Timestamp) {
        let is_used = |name: &Arc<str>| probes.iter().any(|probe| probe.name == *name);
        self.probes.retain(|name, _| is_used(name));
        self.addresses.retain(|(name, _), _| is_used(name));
        for probe in probes {
            let judgement = self.probes.entry(probe.name.clone()).or_insert_with(|| {
                let earlier = before.and_then(|before| before.probes.get(&probe.name));
                earlier.map_or_else(|| Judgement::unknown(now), Judgement::carried_over)
            });
            judgement.watch(stale_after(probe), probe.vantage == Vantage::Job, now);
        }
    }

    fn observe_addresses(&mut self, thresholds: &Thresholds, report: &ProbeReport) -> bool {
        let probe = &report.key.probe;
        let present = |address: &SocketAddr| report.addresses.iter().any(|outcome| outcome.address == *address);
        self.addresses.retain(|(of, address), _| of != probe || present(address));
        if report.addresses.len() < 2 {
            return false;
        }
        let mut changed = false;
        for at in &report.addresses {
            let judgement = self
                .addresses
                .entry((probe.clone(), at.address))
                .or_insert_with(|| Judgement::unknown(report.started_at));
            changed |= judgement.observe(thresholds, observation(report, &at.outcome, false)) == News::Turned;
        }
        changed
    }

    /// What this process alone says.
    fn own(&self, deliveries: Option<&Judgement>, now: Timestamp) -> Option<Sighting> {
        Sighting::of(&self.probes, deliveries, now)
    }

    /// Changes what our own vote rests on.
    fn change<T>(&mut self, beside: Beside<'_>, now: Timestamp, change: impl FnOnce(&mut Self) -> T) -> T {
        if self.panel.is_alone() { change(self) } else { self.change_voters(beside, now, change) }
    }

    /// Changes who votes, or how: what stood at the last moment before stands while votes are equal after it.
    fn change_voters<T>(&mut self, beside: Beside<'_>, now: Timestamp, change: impl FnOnce(&mut Self) -> T) -> T {
        self.settle(beside, now);
        let changed = change(self);
        self.settled(beside, now);
        changed
    }

    /// What the votes say before anything changes is what stands.
    fn settle(&mut self, beside: Beside<'_>, now: Timestamp) {
        if let Some(own) = self.own(beside.deliveries, now) {
            self.panel.settle(own, beside.suspicion, turned_at(own, now));
        }
    }

    /// And what they say after it.
    fn settled(&mut self, beside: Beside<'_>, now: Timestamp) {
        if let Some(own) = self.own(beside.deliveries, now) {
            self.panel.settle(own, beside.suspicion, now);
            self.panel.leave_alone();
        }
    }

    /// Takes a round into account at one of the probes.
    fn observe(&mut self, thresholds: &Thresholds, report: &ProbeReport, now: Timestamp) -> News {
        let Some(judgement) = self.probes.get_mut(&report.key.probe) else { return News::Nothing };
        let was_stale = judgement.is_stale(now);
        let news = judgement.observe(thresholds, observation(report, &report.outcome, true));
        if was_stale == judgement.is_stale(now) { news } else { News::Turned }
    }

    fn verdict(&self, beside: Beside<'_>, now: Timestamp) -> Option<Verdict> {
        let own = Verdict::of(&self.probes, beside.deliveries, now)?;
        let turned_at = turned_at(own.sighting(), now);
        Some(self.panel.merged(own, beside.suspicion, turned_at))
    }
}

/// When the votes came to be as they are, if they have changed by time alone.
fn turned_at(own: Sighting, now: Timestamp) -> Timestamp {
    if own.class == EvidenceClass::Stale { own.since } else { now }
}

fn stale_after(probe: &Probe) -> Duration {
    let grace = match probe.vantage {
        Vantage::Operator => STALE_GRACE,
        Vantage::Job => STALE_GRACE_OF_JOBS,
    };
    let whole = probe.interval.saturating_mul(3).saturating_add(probe.timeout).saturating_add(grace);
    // As a judgement keeps it.
    u64::try_from(whole.as_micros()).map_or(Duration::MAX, Duration::from_micros)
}

fn observation<'a>(report: &ProbeReport, outcome: &'a Outcome, is_whole: bool) -> Observation<'a> {
    Observation {
        sequence: report.sequence,
        started_at: report.started_at,
        finished_at: report.finished_at,
        class: outcome.class,
        latency: (is_whole && outcome.class.effect() == Effect::Success).then_some(outcome.elapsed),
        message: if is_whole { &outcome.message } else { "" },
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "evidence_property_tests.rs"]
mod property_tests;
