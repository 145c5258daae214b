//! The reports of this replica for its peers, the peers' reports, and the observers that are believed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ControllerState;
use crate::controller::action::ResourceRef;
use crate::controller::backend::BackendEntry;
use crate::controller::input::Unfit;
use crate::controller::references::Reference;
use crate::controller::timers::KeyedTimers;
use crate::observers::report::{Seen, seen};
use crate::observers::{BackendChange, BackendVerdicts, Namespaces, PeerEvent, Verdicts};
use mail_failover_core::engine::{FailureDomains, Health, Observer, ObserverVerdict, ThresholdsOfNamespace, Verdict};
use mail_failover_core::model::{Backend, EvidenceClass, ObjectKey, ResourceVersion, Thresholds, Timestamp};

/// Most backends of which a report says that they have answered since another one began to fail.
// One is enough for a move. With a hundred in a route that all fail the report would not fit.
const MAX_CONFIRMED: usize = 16;
/// Most routes of one backend for which a report names the most preferred standby that has answered.
const MAX_CONFIRMED_FIRST: usize = 256;

/// State of all observers: this replica, as its peers see it, and the peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// True once every peer that was there at the start was heard, or cannot be.
    pub(super) is_listed: bool,
    /// Namespaces in which not every backend was observed once since the start; `None` before all backends are known.
    awaited: Option<Namespaces>,
    /// Reason for which this replica's own evidence does not count.
    unfit: Option<Unfit>,
    /// True once this replica has known any backend to be alive, by status or by its own probes.
    // Before that everything starts for the first time, which alarms nobody.
    has_reached: bool,
    by_identity: BTreeMap<Arc<str>, PeerState>,
    fleet: FailureDomains,
    is_fleet_changed: bool,
    /// Observers that see everything fail that another one sees work.
    suspects: BTreeSet<Observer>,
    /// Observers whose votes do not count: the suspects, and this replica while it is unfit.
    ignored: BTreeSet<Observer>,
    /// True if this replica sees everything fail that another one sees work.
    is_cut_off: bool,
    storms: BTreeSet<ThresholdsOfNamespace>,
    /// Backends that some observer, this one included, may see otherwise now.
    due: BTreeSet<ObjectKey>,
    /// Times at which a verdict of this replica changes by time alone.
    timers: KeyedTimers<ObjectKey>,
    unobserved: BTreeSet<ObjectKey>,
    /// Highest `resourceVersion` of the backends that this replica knows.
    known_up_to: Option<ResourceVersion>,
    /// Verdicts that the peers know, or will know as soon as they can be written.
    last_reported: BTreeMap<ObjectKey, Verdicts>,
}

/// Latest report of a peer.
#[derive(Debug)]
struct PeerState {
    /// Its name in the election.
    identity: Arc<str>,
    reported: Arc<BackendVerdicts>,
    /// Highest `resourceVersion` of the backends that it knows.
    known_up_to: Option<ResourceVersion>,
    /// Namespaces of which it says nothing.
    silent: Arc<Namespaces>,
    /// Time of the first report: the peer has seen healthy, for at least so long, every backend that it does not name.
    since: Timestamp,
    /// Times at which it ceased to name a backend, or began to know it.
    recovered: BTreeMap<ObjectKey, Timestamp>,
}

impl PeerState {
    /// The peer's verdict about a backend, by these thresholds.
    // Its silence about a backend that it does not know yet was once taken for health since before the backend existed.
    fn verdict(&self, backend: &ObjectKey, entry: &BackendEntry, thresholds: &str) -> ObserverVerdict {
        let (health, class) = match seen(&self.reported, backend, thresholds) {
            Seen::As(verdict) => return verdict,
            Seen::Healthy if self.silent.contains(&backend.namespace) => (Health::Unknown, EvidenceClass::Inconclusive),
            Seen::Healthy if knows(self.known_up_to.as_ref(), entry) => (Health::Healthy, EvidenceClass::Ok),
            Seen::Healthy | Seen::Abstains => (Health::Unknown, EvidenceClass::Inconclusive),
        };
        let since = self.recovered.get(backend).copied().unwrap_or(self.since);
        ObserverVerdict {
            health,
            since,
            class,
            first_failure_at: None,
            confirms: [].into(),
            runs: [].into(),
            message: Arc::default(),
        }
    }

    /// Takes over a report. Returns those backends that exist and of which it says something new.
    fn update(
        &mut self,
        reported: Arc<BackendVerdicts>,
        known_up_to: Option<ResourceVersion>,
        silent: Arc<Namespaces>,
        now: Timestamp,
        backends: &BTreeMap<ObjectKey, BackendEntry>,
    ) -> Vec<ObjectKey> {
        let before = std::mem::replace(&mut self.reported, reported);
        let known_before = std::mem::replace(&mut self.known_up_to, known_up_to);
        let silent_before = std::mem::replace(&mut self.silent, silent);
        let mut changed = vec![];
        for (key, entry) in backends {
            let was_known = knows(known_before.as_ref(), entry) && !silent_before.contains(&key.namespace);
            let is_known = knows(self.known_up_to.as_ref(), entry) && !self.silent.contains(&key.namespace);
            if is_known && !was_known {
                self.recovered.insert(key.clone(), now);
            }
            if is_known != was_known {
                changed.push(key.clone());
            }
        }
        for key in before.keys().filter(|key| !self.reported.contains_key(*key) && backends.contains_key(*key)) {
            self.recovered.insert(key.clone(), now);
            changed.push(key.clone());
        }
        for (key, verdicts) in self.reported.iter() {
            self.recovered.remove(key);
            if before.get(key) != Some(verdicts) && backends.contains_key(key) {
                changed.push(key.clone());
            }
        }
        changed
    }
}

/// Returns true if an observer that knows the backends up to this version knows this one.
fn knows(known_up_to: Option<&ResourceVersion>, entry: &BackendEntry) -> bool {
    let versions = entry.appeared_at.as_ref().zip(known_up_to);
    versions.is_none_or(|(appeared_at, known)| !appeared_at.is_newer_than(known))
}

impl Peers {
    /// Notes the version of a backend that this replica has seen.
    pub(super) fn note_version(&mut self, version: &ResourceVersion) {
        if self.known_up_to.as_ref().is_none_or(|known| version.is_newer_than(known)) {
            self.known_up_to = Some(version.clone());
        }
    }

    /// Notes a backend that has just appeared: no peer has seen it for longer.
    pub(super) fn appeared(&mut self, now: Timestamp, backend: &ObjectKey) {
        for peer in self.by_identity.values_mut() {
            peer.recovered.insert(backend.clone(), now);
        }
    }

    /// Number of the replicas that share what providers count: this one and the peers whose evidence counts.
    pub(super) fn replicas(&self) -> u32 {
        u32::try_from(self.by_identity.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Returns the name in the election of a replica that is fitter to lead: its report is fresh, and it is believed while
    /// this replica is not.
    // ADR-0101: A suspect leader gives its Lease away.
    fn successor(&self) -> Option<Arc<str>> {
        if !self.is_cut_off {
            return None;
        }
        let mut believed = self.by_identity.iter();
        let (_, peer) = believed.find(|(name, _)| !self.suspects.contains(&Observer::Other((*name).clone())))?;
        Some(peer.identity.clone())
    }

    /// The namespaces in which not every backend was observed once since the start. None is added later.
    // A backend that is new to an observed namespace is reported as unknown.
    fn note_awaited(&mut self) -> Namespaces {
        if self.awaited.as_ref().is_none_or(|awaited| !awaited.is_empty()) {
            let unobserved: Namespaces = self.unobserved.iter().map(|key| key.namespace.clone()).collect();
            self.awaited = Some(match self.awaited.take() {
                Some(awaited) => awaited.intersection(&unobserved).cloned().collect(),
                None => unobserved,
            });
        }
        self.awaited.clone().unwrap_or_default()
    }

    /// Marks a backend that some observer may see otherwise now.
    pub(super) fn mark(&mut self, backend: &ObjectKey) {
        self.due.insert(backend.clone());
    }

    /// Returns true if the failures that routes of this namespace and these thresholds meet are rather those of our own
    /// network.
    pub(super) fn is_storm(&self, namespace: &Arc<str>, thresholds: Thresholds) -> bool {
        !self.storms.is_empty() && self.storms.contains(&(namespace.clone(), thresholds))
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.next_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(backend) = self.timers.pop_ended(now) {
            self.due.insert(backend);
        }
    }

    fn set_timer(&mut self, key: &ObjectKey, at: Option<Timestamp>) {
        match at {
            // An earlier timer stays, so that evidence that puts a change off moves no timer.
            Some(at) => self.timers.set(key, at),
            None => self.timers.clear(key),
        }
    }

    /// Forgets a backend. Returns the change that the peers have to be told.
    fn forget(&mut self, key: &ObjectKey) -> Option<BackendChange> {
        self.timers.clear(key);
        self.unobserved.remove(key);
        self.is_fleet_changed |= self.fleet.leave_out(key);
        for peer in self.by_identity.values_mut() {
            peer.recovered.remove(key);
        }
        self.report(key, None)
    }

    /// Notes verdicts about a backend for the peers. Returns the change, if they do not know it yet.
    fn report(&mut self, key: &ObjectKey, verdicts: Option<Verdicts>) -> Option<BackendChange> {
        if self.last_reported.get(key) == verdicts.as_ref() {
            return None;
        }
        match &verdicts {
            Some(verdicts) => self.last_reported.insert(key.clone(), verdicts.clone()),
            None => self.last_reported.remove(key),
        };
        Some(BackendChange { backend: key.clone(), verdicts })
    }

    /// Notes the observers that see a backend fail.
    // A backend out of service says nothing about any network.
    fn note_in_fleet(
        &mut self,
        key: &ObjectKey,
        entry: &BackendEntry,
        thresholds: &[(Thresholds, String)],
        now: Timestamp,
    ) {
        let usable = entry.usable.as_deref().filter(|usable| entry.object.is_some() && !usable.suspended);
        let Some(usable) = usable else {
            self.is_fleet_changed |= self.fleet.leave_out(key);
            return;
        };
        let domain = usable.location.failure_domain.as_ref();
        let mut own = vec![];
        for (of, _) in thresholds {
            own.extend(entry.evidence.own_verdict(*of, now).map(|verdict| (*of, verdict)));
        }
        self.has_reached |= own.iter().any(|(_, own)| matches!(own.health, Health::Healthy | Health::Degraded));
        let own = own.iter().map(|(of, verdict)| (*of, verdict));
        self.is_fleet_changed |= self.fleet.note(key, domain, &Observer::Own, own);
        for (name, peer) in &self.by_identity {
            let mut theirs = vec![];
            for (of, text) in thresholds {
                theirs.push((*of, peer.verdict(key, entry, text)));
            }
            let theirs = theirs.iter().map(|(of, verdict)| (*of, verdict));
            self.is_fleet_changed |= self.fleet.note(key, domain, &Observer::Other(name.clone()), theirs);
        }
    }

    /// Returns true if the peers know that this replica sees a backend fail.
    fn is_reported_failing(&self, key: &ObjectKey) -> bool {
        let reported = self.last_reported.get(key);
        reported.is_some_and(|verdicts| verdicts.values().any(|verdict| verdict.health == Health::Unhealthy))
    }
}

impl ControllerState {
    pub(super) fn handle_peer_event(&mut self, now: Timestamp, event: PeerEvent) {
        match event {
            PeerEvent::Listed => self.peers.is_listed = true,
            PeerEvent::TakesReports { observer, endpoint } => self.handle_endpoint(observer, endpoint),
            PeerEvent::Report { observer, identity, reported, known_up_to, silent } => {
                self.handle_peer_report(now, observer, identity, (reported, known_up_to, silent));
            }
            PeerEvent::Lost { observer } => self.handle_peer_loss(now, observer),
        }
    }

    fn handle_peer_report(
        &mut self,
        now: Timestamp,
        observer: Arc<str>,
        identity: Arc<str>,
        (reported, known_up_to, silent): (Arc<BackendVerdicts>, Option<ResourceVersion>, Arc<Namespaces>),
    ) {
        if let Some(peer) = self.peers.by_identity.get_mut(&observer) {
            let changed = peer.update(reported, known_up_to, silent, now, &self.backends);
            self.peers.due.extend(changed);
            return;
        }
        tracing::info!(observer = &*observer, "another replica's evidence counts");
        let peer = PeerState { identity, reported, known_up_to, silent, since: now, recovered: BTreeMap::new() };
        self.peers.by_identity.insert(observer, peer);
        self.peers.is_fleet_changed = true;
        self.peers.due.extend(self.backends.keys().cloned());
        self.share_out_probes(now);
    }

    fn handle_peer_loss(&mut self, now: Timestamp, observer: Arc<str>) {
        if self.peers.by_identity.remove(&observer).is_none() {
            return;
        }
        tracing::info!(observer = &*observer, "another replica's evidence does not count any more");
        for entry in self.backends.values_mut() {
            entry.evidence.forget_observer(&observer, now);
        }
        self.peers.is_fleet_changed |= self.peers.fleet.forget_observer(&Observer::Other(observer));
        self.requeue_all_verdicts();
        self.share_out_probes(now);
    }

    /// Shares what providers count out among more replicas than before, or fewer.
    // ADR-0034: Replicas take turns in probes that log in.
    fn share_out_probes(&mut self, now: Timestamp) {
        let mut shared = vec![];
        for (key, entry) in &self.backends {
            if entry.usable.as_deref().is_some_and(Backend::is_shared_out) {
                shared.push(key.clone());
            }
        }
        for key in shared {
            self.refresh_backend(now, &key);
        }
    }

    /// Brings everything up to date that depends on the verdicts of observers.
    pub(super) fn weigh_observers(&mut self, now: Timestamp) {
        while let Some(key) = self.peers.due.pop_first() {
            self.weigh(now, &key);
        }
        if std::mem::take(&mut self.peers.is_fleet_changed) {
            self.judge_observers(now);
        }
        let awaited = self.peers.note_awaited();
        // The others do not count on its verdicts while it is unfit.
        self.pending.awaited = Some(awaited).filter(|_| self.peers.unfit.is_none());
        self.pending.successor = self.peers.successor();
        self.pending.known_up_to.clone_from(&self.peers.known_up_to);
    }

    fn weigh(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(entry) = self.backends.get_mut(key) else {
            self.pending.report_changes.extend(self.peers.forget(key));
            return;
        };
        let thresholds: Vec<_> = entry.evidence.thresholds().map(|of| (of, of.to_string())).collect();
        let before = verdicts(entry, &thresholds, now);
        entry.evidence.handle_timeout(now);
        entry.evidence.suspect(&self.peers.ignored, now);
        for (observer, peer) in &self.peers.by_identity {
            for (of, text) in &thresholds {
                let verdict = peer.verdict(key, entry, text);
                entry.evidence.record_peer(observer, *of, verdict, now);
            }
        }
        let mut is_turned = verdicts(entry, &thresholds, now) != before;
        if entry.is_awaited() {
            self.peers.unobserved.insert(key.clone());
        } else {
            self.peers.unobserved.remove(key);
        }
        self.peers.set_timer(key, entry.evidence.next_timeout(now));
        self.peers.note_in_fleet(key, entry, &thresholds, now);
        let mut own = entry.own_verdicts(&thresholds, now);
        for verdict in own.iter_mut().flat_map(|verdicts| verdicts.values_mut()) {
            verdict.confirms = self.confirmed(key, verdict);
        }
        if let Some(change) = self.peers.report(key, own) {
            // A verdict that changed by time alone is news here, too.
            is_turned = true;
            self.pending.report_changes.push(change);
        }
        if let Some(entry) = self.backends.get_mut(key) {
            entry.note_health(now);
        }
        if is_turned {
            self.requeue_users(&Reference::Backend(key.clone()));
            self.queue.add(ResourceRef::backend(key));
        }
    }

    /// Marks the backends that this replica sees fail, of the routes of a backend that may have answered: the peers are
    /// to hear of the answer.
    // ADR-0081: Peers confirm a standby for the failure that they see.
    pub(super) fn mark_failing_neighbours(&mut self, key: &ObjectKey) {
        if self.peers.last_reported.is_empty() {
            return;
        }
        let mut failing = self.neighbours(key);
        failing.retain(|neighbour| self.peers.is_reported_failing(neighbour));
        self.peers.due.extend(failing);
    }

    /// Returns the other backends of the routes of a backend.
    fn neighbours(&self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let users = self.references.users(&Reference::Backend(key.clone()));
        let routes = users.filter_map(|user| self.routes.get(&user.key)?.usable.as_deref());
        let members = routes.flat_map(|route| &route.backends).filter(|member| member.name != key.name);
        members.map(|member| key.sibling(member.name.clone())).collect()
    }

    /// Returns backends of its routes that this replica has seen answer since a backend began to fail: the most preferred
    /// one of each route, and a few more.
    fn confirmed(&self, key: &ObjectKey, verdict: &ObserverVerdict) -> Arc<[Arc<str>]> {
        let Some(since) = verdict.first_failure_at else { return [].into() };
        let has_answered = |name: &Arc<str>| {
            let entry = self.backends.get(&key.sibling(name.clone()));
            *name != key.name && entry.is_some_and(|entry| entry.evidence.has_answered_since(since))
        };
        let users = self.references.users(&Reference::Backend(key.clone()));
        let routes = users.filter_map(|user| self.routes.get(&user.key)?.usable.as_deref());
        let (mut first, mut more) = (BTreeSet::new(), BTreeSet::new());
        for route in routes {
            let mut confirmed = route.backends.iter().map(|member| member.name.clone()).filter(&has_answered);
            first.extend(confirmed.next());
            more.extend(confirmed);
        }
        let others = more.difference(&first).take(MAX_CONFIRMED.saturating_sub(first.len())).cloned();
        let mut confirmed: Vec<_> = first.iter().take(MAX_CONFIRMED_FIRST).cloned().chain(others).collect();
        confirmed.sort_unstable();
        confirmed.into()
    }

    /// Takes over if this replica's own evidence counts.
    // ADR-0102: A replica that lags has no vote.
    pub(super) fn handle_unfit(&mut self, now: Timestamp, unfit: Option<Unfit>) {
        if self.peers.unfit.is_some() == unfit.is_some() {
            return;
        }
        if let Some(why) = &unfit {
            tracing::warn!(%why, "the votes of this replica do not count");
        } else {
            tracing::info!("the votes of this replica count again");
        }
        self.metrics.has_vote.set(i64::from(unfit.is_none()));
        self.peers.unfit = unfit;
        self.judge_observers(now);
    }

    fn judge_observers(&mut self, now: Timestamp) {
        let suspects = self.peers.fleet.suspects();
        self.peers.is_cut_off = suspects.contains(&Observer::Own);
        let mut ignored = suspects.clone();
        // A replica that is alone has nobody else to believe.
        if self.peers.unfit.is_some() && !self.peers.by_identity.is_empty() {
            ignored.insert(Observer::Own);
        }
        if suspects != self.peers.suspects {
            self.replace_suspects(suspects);
        }
        if ignored != self.peers.ignored {
            self.ignore_votes(now, ignored);
        }
        let storms = self.peers.fleet.storms();
        if storms != self.peers.storms {
            self.replace_storms(storms);
        }
    }

    fn replace_storms(&mut self, storms: BTreeSet<ThresholdsOfNamespace>) {
        let before = std::mem::replace(&mut self.peers.storms, storms);
        let after = &self.peers.storms;
        let changed = before.symmetric_difference(after).map(|(namespace, _)| namespace);
        let changed: BTreeSet<_> = changed.cloned().collect();
        match (before.is_empty(), after.is_empty()) {
            (true, false) if !self.peers.has_reached => tracing::info!(?changed, "no backend has answered yet"),
            (true, false) => tracing::warn!(?changed, "no replica reaches any backend of these namespaces"),
            (false, true) => tracing::info!("in every namespace some backend is reached"),
            (true, true) | (false, false) => {}
        }
        self.metrics.storm.set(i64::from(!after.is_empty()));
        let concerned = self.routes.keys().filter(|route| changed.contains(&route.namespace));
        self.queue.extend(concerned.map(ResourceRef::route));
    }

    /// Takes note of the observers that have lost their network.
    // That this replica lags is another matter, which `handle_unfit` tells.
    fn replace_suspects(&mut self, suspects: BTreeSet<Observer>) {
        if suspects.is_empty() {
            tracing::info!("no replica sees all backends fail any more while another one reaches some");
        } else {
            let names = suspects.iter().map(|suspect| match suspect {
                Observer::Own => "this replica",
                Observer::Other(name) => name,
            });
            let suspects = names.collect::<Vec<_>>().join(", ");
            let message = "a replica sees all backends fail while another one reaches some; its votes are ignored";
            if self.peers.has_reached {
                tracing::warn!(suspects, "{message}");
            } else {
                tracing::info!(suspects, "{message}");
            }
        }
        self.metrics.suspects.set(i64::try_from(suspects.len()).unwrap_or(i64::MAX));
        self.peers.suspects = suspects;
    }

    /// Leaves out the votes of these observers, and of no other.
    fn ignore_votes(&mut self, now: Timestamp, ignored: BTreeSet<Observer>) {
        for entry in self.backends.values_mut() {
            entry.evidence.suspect(&ignored, now);
        }
        self.peers.ignored = ignored;
        self.requeue_all_verdicts();
    }

    fn requeue_all_verdicts(&mut self) {
        self.queue.extend(self.routes.keys().map(ResourceRef::route));
        self.queue.extend(self.backends.keys().map(ResourceRef::backend));
    }
}

/// The verdicts about a backend, one for each of the thresholds.
fn verdicts(entry: &BackendEntry, thresholds: &[(Thresholds, String)], now: Timestamp) -> Vec<Option<Verdict>> {
    thresholds.iter().map(|(of, _)| entry.evidence.verdict(*of, now)).collect()
}
