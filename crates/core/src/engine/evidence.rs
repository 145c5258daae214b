use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::observers::{ObserverVotes, OwnVote, Suspicion};
use super::shared_rounds::SharedRounds;
use super::verdict::{answered_at, confirmed_at};
use super::{ConfirmationRule, Deliveries, Health, Judgement, News, Observation, Observer, ObserverVerdict, Verdict};
use crate::model::{
    AddressOutcome, Agent, DeliveryStage, DeliveryVerdict, Effect, EvidenceClass, Outcome, Probe, ProbeReport,
    Resolution, Stage, Thresholds, Timestamp, Vantage,
};

/// A probe's judgement is stale after three intervals, its timeout and this long.
// Long enough to ride out a change of leader or a busy minute.
// ADR-0012: Silence is not failure.
const STALE_GRACE: Duration = Duration::from_secs(30);
/// Staleness grace of probes in Jobs.
// The pod has to be scheduled and started first.
const STALE_GRACE_OF_JOBS: Duration = Duration::from_secs(90);
/// Evidence about an address is forgotten after this long in which neither DNS nor a round has named it.
// Answers that rotate through a pool name each address again within minutes.
const ADDRESS_MEMORY: Duration = Duration::from_mins(10);
/// Most addresses of one probe that evidence is kept about; the one that was named last longest ago goes first.
const MAX_ADDRESSES: usize = 256;

/// Evidence about one backend, judged once for each set of thresholds in use.
///
/// Routes with equal thresholds share a judgement; ten thousand backends under one policy keep one each.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    judged: BTreeMap<Thresholds, JudgedEvidence>,
    suspicion: Suspicion,
    /// Verdict about deliveries, the same under all thresholds.
    // Agents judge by thresholds of their own.
    deliveries: Deliveries,
}

#[derive(Clone, Debug, Default)]
struct JudgedEvidence {
    probes: BTreeMap<Arc<str>, Judgement>,
    /// Judgements of single addresses.
    // Kept only for backends with several addresses, to leave failing ones out of a Service while others work.
    addresses: BTreeMap<(Arc<str>, SocketAddr), AddressJudgement>,
    votes: ObserverVotes,
    /// Rounds of the probes that the replicas share out; `None` without any.
    // Boxed: most have none, and there are many of these.
    shared: Option<Box<SharedRounds>>,
}

/// Judgement of one address of a backend.
#[derive(Clone, Debug)]
struct AddressJudgement {
    judgement: Judgement,
    /// Latest time at which DNS named the address or a round tried it.
    named_at: Timestamp,
}

/// Inputs that count beside the probes, under all thresholds alike.
#[derive(Clone, Copy)]
struct SharedInputs<'a> {
    suspicion: &'a Suspicion,
    deliveries: Option<&'a Judgement>,
}

impl Evidence {
    /// Sets the thresholds and probes in use. New ones start from the earlier verdict; unused ones are dropped.
    /// Returns true if anything changed: the caller then has to record the verdicts of the other observers again.
    pub fn track(&mut self, thresholds: &BTreeSet<Thresholds>, probes: &[Probe], now: Timestamp) -> bool {
        let unchanged = self.judged.keys().eq(thresholds.iter())
            && self.judged.iter().all(|(thresholds, judged)| {
                judged.probes.len() == probes.len()
                    && probes.iter().all(|probe| {
                        let known = judged.probes.get(&probe.name);
                        known.is_some_and(|judgement| is_watched_as(judgement, thresholds, probe))
                            && judged.is_shared_as(probe)
                    })
            });
        if unchanged {
            return false;
        }
        let before = self.judged.values().next().cloned();
        self.judged.retain(|key, _| thresholds.contains(key));
        for key in thresholds {
            let judged = self.judged.entry(*key).or_default();
            let shared = SharedInputs { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
            judged.change(shared, now, |judged| judged.use_probes(key, probes, before.as_ref(), now));
        }
        true
    }

    /// Restores an earlier leader's persisted judgement of a probe.
    pub fn adopt_probe(&mut self, probe: &str, earlier: &Judgement, now: Timestamp) {
        let shared = SharedInputs { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        for judged in self.judged.values_mut() {
            judged.change(shared, now, |judged| {
                if let Some(judgement) = judged.probes.get_mut(probe) {
                    judgement.adopt(earlier, now);
                }
            });
        }
    }

    /// Restores an earlier leader's persisted verdict for a route with these thresholds, unless the probes already
    /// give the same. Among several observers it is the verdict that stands while their votes are equal. `lease` is the
    /// duration of the replicas' Lease.
    pub fn adopt_verdict(&mut self, thresholds: Thresholds, earlier: &Judgement, lease: Duration, now: Timestamp) {
        let shared = SharedInputs { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        let Some(judged) = self.judged.get_mut(&thresholds) else { return };
        let own = judged.own(shared.deliveries, now);
        let is_same = own.as_ref().is_some_and(|own| (own.health, own.since) == (earlier.health, earlier.since));
        judged.change(shared, now, |judged| {
            if !is_same {
                judged.probes.values_mut().for_each(|judgement| judgement.adopt(earlier, now));
            }
            judged.votes.adopt(earlier, own.map_or(Health::Unknown, |own| own.health), lease, now);
        });
    }

    /// Forgets everything because the backend is another host now. The caller has to record the
    /// verdicts of the other observers again.
    pub fn reset(&mut self, now: Timestamp) {
        self.deliveries = Deliveries::default();
        for judged in self.judged.values_mut() {
            judged.addresses.clear();
            judged.votes = ObserverVotes::default();
            judged.shared.iter_mut().for_each(|shared| shared.reset());
            for judgement in judged.probes.values_mut() {
                let (stale_after, may_wait) = (judgement.stale_after(), judgement.may_wait());
                let must_last = judgement.must_last();
                *judgement = Judgement::unknown(now);
                judgement.watch(stale_after, may_wait, now);
                judgement.demand(must_last);
            }
        }
    }

    /// Takes the report of a probe's round.
    pub fn observe(&mut self, report: &ProbeReport, now: Timestamp) -> News {
        let mut news = News::Nothing;
        let shared = SharedInputs { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        for (thresholds, judged) in &mut self.judged {
            news = news
                .max(judged.change(shared, now, |judged| judged.observe(thresholds, report, shared.suspicion, now)));
            if judged.observe_addresses(thresholds, report) {
                news = News::Turned;
            }
        }
        if report.outcome.class.effect() == Effect::Success && self.deliveries.awaited_stage().is_some() {
            let (stage, started_at) = (report.outcome.stage, report.started_at);
            if self.change_deliveries(now, |deliveries| deliveries.probe_succeeded(stage, started_at, now)) {
                news = News::Turned;
            }
        }
        news
    }

    /// Takes an agent's verdict about its deliveries. Returns true if that turns the verdict about deliveries.
    pub fn record_agent(
        &mut self,
        agent: &Agent,
        verdict: DeliveryVerdict,
        cooldown: Duration,
        now: Timestamp,
    ) -> bool {
        self.change_deliveries(now, |deliveries| deliveries.record(agent, verdict, cooldown, now))
    }

    /// Brings the verdict about deliveries up to date. Returns true if it has turned.
    pub fn handle_timeout(&mut self, now: Timestamp) -> bool {
        self.change_deliveries(now, |deliveries| deliveries.handle_timeout(now))
    }

    /// Restores an earlier leader's persisted verdict about deliveries.
    pub fn adopt_deliveries(
        &mut self,
        earlier: &Judgement,
        stage: Option<DeliveryStage>,
        cooldown: Duration,
        now: Timestamp,
    ) {
        self.change_deliveries(now, |deliveries| deliveries.adopt(earlier, stage, cooldown, now));
    }

    /// Trusts the backend again by a person's word, whatever real mail has met there. Returns true if that changes the
    /// verdict about deliveries.
    // ADR-0119: Acquit at the depth of the accusation.
    pub fn acquit(&mut self, now: Timestamp) -> bool {
        self.change_deliveries(now, |deliveries| deliveries.acquit(now))
    }

    /// Returns the stage of real mail at which a success is awaited before the backend is trusted again.
    pub fn awaited_stage(&self) -> Option<DeliveryStage> {
        self.deliveries.awaited_stage()
    }

    /// Returns true if real mail alone condemns the backend: single messages may try it.
    pub fn awaits_trial(&self, thresholds: Thresholds, now: Timestamp) -> bool {
        let probes = self.judged.get(&thresholds).and_then(|judged| Verdict::of(&judged.probes, None, now));
        let is_answering = probes.is_some_and(|verdict| matches!(verdict.health, Health::Healthy | Health::Degraded));
        is_answering && self.awaited_stage().is_some()
    }

    /// Returns the time since which a person has to say that the backend is trusted again: real mail condemns it, and
    /// no message has tried it for a day. It may lie in the future.
    pub fn needs_person_at(&self) -> Option<Timestamp> {
        self.deliveries.needs_person_at()
    }

    /// Returns the verdict about deliveries, if there is one.
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
        for judged in self.judged.values_mut().filter(|judged| !judged.votes.is_alone()) {
            judged.settle(SharedInputs { suspicion: &self.suspicion, deliveries: before.as_ref() }, now);
            judged.settled(SharedInputs { suspicion: &self.suspicion, deliveries: after }, now);
        }
        true
    }

    /// Takes another observer's verdict under these thresholds. Returns true if it is new. Verdicts under thresholds
    /// that are not tracked are dropped.
    pub fn record_peer(
        &mut self,
        observer: &Arc<str>,
        thresholds: Thresholds,
        verdict: ObserverVerdict,
        now: Timestamp,
    ) -> bool {
        let shared = SharedInputs { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        let Some(judged) = self.judged.get_mut(&thresholds) else { return false };
        if judged.votes.has_recorded(observer, &verdict) {
            return false;
        }
        judged.change_voters(shared, now, |judged| {
            if let Some(rounds) = &mut judged.shared {
                rounds.hear(&mut judged.probes, observer, &verdict.runs, shared.suspicion.others(), now);
            }
            judged.votes.record(observer, verdict, now);
        });
        true
    }

    /// Forgets another observer's verdicts. Returns true if it had any.
    pub fn forget_observer(&mut self, observer: &str, now: Timestamp) -> bool {
        let shared = SharedInputs { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() };
        let mut was_known = false;
        for judged in self.judged.values_mut() {
            was_known |= judged.change_voters(shared, now, |judged| {
                judged.shared.iter_mut().for_each(|shared| shared.forget(observer));
                judged.votes.forget(observer)
            });
        }
        was_known
    }

    /// Sets the observers whose votes do not count for now (`FailureDomains::suspects`). Returns
    /// true if the set changed.
    pub fn suspect(&mut self, suspects: &BTreeSet<Observer>, now: Timestamp) -> bool {
        let suspicion = Suspicion::of(suspects, &self.suspicion, now);
        if suspicion == self.suspicion {
            return false;
        }
        let deliveries = self.deliveries.judgement();
        for judged in self.judged.values_mut() {
            judged.change_voters(SharedInputs { suspicion: &self.suspicion, deliveries }, now, |_| ());
            judged.change_voters(SharedInputs { suspicion: &suspicion, deliveries }, now, |_| ());
        }
        self.suspicion = suspicion;
        true
    }

    /// The thresholds that are tracked.
    pub fn thresholds(&self) -> impl Iterator<Item = Thresholds> {
        self.judged.keys().copied()
    }

    /// Returns true if every probe of this process has reported at least once.
    // Probes in Jobs are left out: a tenant whose Jobs never run must not keep a replica from having a vote.
    pub fn is_observed(&self) -> bool {
        self.judged.values().all(|judged| !judged.probes.values().any(Judgement::is_awaited))
    }

    /// Returns the verdict under these thresholds; `None` if they are not tracked.
    pub fn verdict(&self, thresholds: Thresholds, now: Timestamp) -> Option<Verdict> {
        self.judged.get(&thresholds)?.verdict(self.shared(), now)
    }

    /// Returns the verdict of this process alone under these thresholds, as it is reported to other replicas.
    pub fn own_verdict(&self, thresholds: Thresholds, now: Timestamp) -> Option<ObserverVerdict> {
        self.judged.get(&thresholds)?.own(self.deliveries.judgement(), now)
    }

    /// The looks that the thresholds in use ask for after a first failure of a probe with this interval.
    pub fn confirmation_rule(&self, interval: Duration) -> ConfirmationRule {
        ConfirmationRule::of(self.judged.keys(), interval)
    }

    /// Returns true if the backend has answered a probe of this process that was begun at `since` or later, and that
    /// probe has not failed after it.
    pub fn has_answered_since(&self, since: Timestamp) -> bool {
        // Answers are the same under all thresholds.
        let judged = self.judged.values().next();
        judged.and_then(|judged| confirmed_at(&judged.probes)).is_some_and(|at| at >= since)
    }

    fn shared(&self) -> SharedInputs<'_> {
        SharedInputs { suspicion: &self.suspicion, deliveries: self.deliveries.judgement() }
    }

    /// Returns the worst verdict under any thresholds in use, with the judgement of each probe, stale or not.
    pub fn worst(&self, now: Timestamp) -> Option<(Verdict, &BTreeMap<Arc<str>, Judgement>)> {
        self.judged
            .values()
            .filter_map(|judged| judged.verdict(self.shared(), now).map(|verdict| (verdict, &judged.probes)))
            .max_by_key(|(verdict, _)| verdict.health)
    }

    /// Returns the next time at which a verdict may change without input: a probe goes stale, an agent's verdict
    /// lapses, or a persisted failure ends by what other replicas go on saying.
    pub fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let probes = self.judged.values().flat_map(|judged| judged.probes.values());
        let stale = probes.map(Judgement::stale_at).filter(|at| *at > now);
        let adopted = self.judged.values().filter_map(|judged| judged.votes.next_timeout(now));
        stale.chain(adopted).chain(self.deliveries.next_timeout(now)).min()
    }

    /// Returns true if the address is one of several and known to fail.
    pub fn is_failing_address(&self, thresholds: Thresholds, address: SocketAddr) -> bool {
        self.judged.get(&thresholds).is_some_and(|judged| {
            let mut known = judged.addresses.iter().filter(|((_, at), _)| *at == address);
            known.any(|(_, known)| known.judgement.health == Health::Unhealthy)
        })
    }
}

impl JudgedEvidence {
    fn use_probes(&mut self, thresholds: &Thresholds, probes: &[Probe], before: Option<&Self>, now: Timestamp) {
        let names: BTreeSet<&Arc<str>> = probes.iter().map(|probe| &probe.name).collect();
        self.probes.retain(|name, _| names.contains(name));
        self.addresses.retain(|(name, _), _| names.contains(name));
        for probe in probes {
            let judgement = self.probes.entry(probe.name.clone()).or_insert_with(|| {
                let earlier = before.and_then(|before| before.probes.get(&probe.name));
                earlier.map_or_else(|| Judgement::unknown(now), Judgement::carried_over)
            });
            judgement.watch(stale_after(probe), probe.vantage == Vantage::Job, now);
            judgement.demand(must_last(thresholds, probe));
        }
        let mut shared = self.shared.take().unwrap_or_default();
        self.shared = shared.track(thresholds, probes).then_some(shared);
    }

    fn is_shared_as(&self, probe: &Probe) -> bool {
        self.shared.as_deref().map_or(probe.sharers <= 1, |shared| shared.is_tracked_as(probe))
    }

    fn observe_addresses(&mut self, thresholds: &Thresholds, report: &ProbeReport) -> bool {
        let (probe, now) = (&report.key.probe, report.finished_at);
        let resolved: &[SocketAddr] = match &report.resolution {
            Resolution::Addresses(addresses) => addresses,
            Resolution::NotNeeded | Resolution::Negative(_) | Resolution::Unanswered(_) | Resolution::NameSilent(_) => {
                &[]
            }
        };
        for address in resolved {
            if let Some(known) = self.addresses.get_mut(&(probe.clone(), *address)) {
                known.named_at = known.named_at.max(now);
            }
        }
        self.addresses.retain(|(of, _), known| of != probe || now.since(known.named_at) < ADDRESS_MEMORY);
        let is_known = |at: &AddressOutcome| self.addresses.contains_key(&(probe.clone(), at.address));
        if report.addresses.len() < 2 && !report.addresses.iter().any(is_known) {
            return false;
        }
        let mut changed = false;
        let must_last = self.probes.get(probe).map(Judgement::must_last).unwrap_or_default();
        for at in &report.addresses {
            let known = self.addresses.entry((probe.clone(), at.address)).or_insert_with(|| AddressJudgement {
                judgement: Judgement::unknown(report.started_at),
                named_at: now,
            });
            known.named_at = known.named_at.max(now);
            known.judgement.demand(must_last);
            let news = known.judgement.observe(thresholds, observation(report, &at.outcome, false));
            changed |= news == News::Turned;
        }
        self.bound_addresses(probe);
        changed
    }

    /// Drops the addresses of a probe that were named longest ago, beyond [`MAX_ADDRESSES`].
    fn bound_addresses(&mut self, probe: &Arc<str>) {
        let of_probe = self.addresses.iter().filter(|((of, _), _)| of == probe);
        let mut named: Vec<_> = of_probe.map(|(key, known)| (known.named_at, key.1)).collect();
        if named.len() <= MAX_ADDRESSES {
            return;
        }
        named.sort_unstable();
        for (_, address) in &named[..named.len() - MAX_ADDRESSES] {
            self.addresses.remove(&(probe.clone(), *address));
        }
    }

    /// The verdict of this process alone.
    fn own(&self, deliveries: Option<&Judgement>, now: Timestamp) -> Option<ObserverVerdict> {
        let own = ObserverVerdict::of(&self.probes, deliveries, now)?;
        let Some(shared) = &self.shared else { return Some(own) };
        Some(ObserverVerdict { runs: shared.told(&self.probes, now), ..own })
    }

    fn own_vote(&self, deliveries: Option<&Judgement>, now: Timestamp) -> Option<OwnVote> {
        let verdict = self.own(deliveries, now)?;
        Some(OwnVote { verdict, answered_at: answered_at(&self.probes, now), counted_at: now })
    }

    /// Applies a change to our own vote.
    // The votes before the change become the standing verdict, then those after it.
    fn change<T>(&mut self, shared: SharedInputs<'_>, now: Timestamp, change: impl FnOnce(&mut Self) -> T) -> T {
        if self.votes.is_alone() { change(self) } else { self.change_voters(shared, now, change) }
    }

    /// Applies a change of the voters.
    // The verdict before the change stands while votes are equal after it.
    fn change_voters<T>(&mut self, shared: SharedInputs<'_>, now: Timestamp, change: impl FnOnce(&mut Self) -> T) -> T {
        self.settle(shared, now);
        let changed = change(self);
        self.settled(shared, now);
        changed
    }

    /// Makes the present result of the votes the standing verdict.
    fn settle(&mut self, shared: SharedInputs<'_>, now: Timestamp) {
        if let Some(own) = self.own_vote(shared.deliveries, now) {
            self.votes.settle(&own, shared.suspicion, turned_at(&own.verdict, now));
        }
    }

    /// Makes the result of the votes after a change the standing verdict.
    fn settled(&mut self, shared: SharedInputs<'_>, now: Timestamp) {
        if let Some(own) = self.own_vote(shared.deliveries, now) {
            self.votes.settle(&own, shared.suspicion, now);
            self.votes.leave_alone();
        }
    }

    /// Takes a round into account at its probe.
    fn observe(
        &mut self,
        thresholds: &Thresholds,
        report: &ProbeReport,
        suspicion: &Suspicion,
        now: Timestamp,
    ) -> News {
        let name = &report.key.probe;
        let Some(judgement) = self.probes.get_mut(name) else { return News::Nothing };
        let was_stale = judgement.is_stale(now);
        let told = self.shared.as_deref().and_then(|shared| shared.told_of(name, judgement, now));
        let before = (judgement.health, told);
        let mut news = judgement.observe(thresholds, observation(report, &report.outcome, true));
        if let Some(shared) = &mut self.shared
            && shared.note(judgement, report, before, suspicion.others(), now)
        {
            news = News::Turned;
        }
        if was_stale == judgement.is_stale(now) { news } else { News::Turned }
    }

    fn verdict(&self, shared: SharedInputs<'_>, now: Timestamp) -> Option<Verdict> {
        let own = Verdict::of(&self.probes, shared.deliveries, now)?;
        let ours = OwnVote { verdict: own.as_reported(), answered_at: answered_at(&self.probes, now), counted_at: now };
        let turned_at = turned_at(&ours.verdict, now);
        let merged = self.votes.merged(own, &ours, shared.suspicion, turned_at);
        Some(merged.with_answers(&self.probes, self.shared.as_deref(), shared.deliveries, now))
    }
}

/// Returns the time at which the votes turned, if they have changed by time alone.
fn turned_at(own: &ObserverVerdict, now: Timestamp) -> Timestamp {
    if own.class == EvidenceClass::Stale { own.since } else { now }
}

/// Returns true if a judgement is watched as this probe asks for.
fn is_watched_as(judgement: &Judgement, thresholds: &Thresholds, probe: &Probe) -> bool {
    judgement.stale_after() == stale_after(probe) && judgement.demands(must_last(thresholds, probe))
}

/// Returns the time that failures in a row of this probe must span.
fn must_last(thresholds: &Thresholds, probe: &Probe) -> Duration {
    match (probe.vantage, thresholds.lasting) {
        // Jobs never start sooner than their interval, and none starts when the time is over.
        (Vantage::Job, None) => Duration::ZERO,
        (Vantage::Job, Some(lasting)) => lasting,
        (Vantage::Operator, _) => thresholds.must_last(probe.interval),
    }
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
        is_before_login: outcome.stage < Stage::Auth,
        is_extra: report.is_extra,
        message: if is_whole { &outcome.message } else { "" },
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "evidence_property_tests.rs"]
mod property_tests;
