//! State of the controller, and everything that follows from it. No I/O: time and inputs are arguments, actions are
//! returned.

#[cfg(test)]
mod acquittal_tests;
mod agents;
#[cfg(test)]
mod agents_tests;
mod call_places;
mod calls;
#[cfg(test)]
mod delays_tests;
#[cfg(test)]
mod deliveries_tests;
mod dns_claims;
#[cfg(test)]
mod dns_endpoint_tests;
#[cfg(test)]
mod dns_tests;
mod drills;
#[cfg(test)]
mod drills_tests;
mod effects;
mod evidence;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod held_tests;
mod installations;
#[cfg(test)]
mod installations_tests;
mod jobs;
#[cfg(test)]
mod jobs_tests;
mod lane_queue;
#[cfg(test)]
mod lanes_tests;
#[cfg(test)]
mod logins_tests;
mod loops;
#[cfg(test)]
mod losses_tests;
mod notifications;
#[cfg(test)]
mod notifications_tests;
#[cfg(test)]
mod objectives_tests;
mod objects;
mod pace;
mod peers;
#[cfg(test)]
mod peers_tests;
mod reconcile;
mod resources;
mod results;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod webhooks_tests;
mod work_queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agents::Agents;
use call_places::CallPlaces;
use dns_claims::DnsClaims;
pub use effects::{Effects, ReadChange};
use installations::Installations;
use jobs::Jobs;
use peers::Peers;
use reconcile::PendingStatus;
use results::ReportedUnreadable;
use work_queue::WorkQueue;

use crate::controller::action::{ResourceKind, ResourceRef};
use crate::controller::backend::BackendEntry;
use crate::controller::cached::Cached;
use crate::controller::dependencies::DependencyCache;
use crate::controller::input::Input;
use crate::controller::lane::Lane;
use crate::controller::metrics::Metrics;
use crate::controller::policy::PolicyEntry;
use crate::controller::references::{Reference, References};
use crate::controller::route::RouteEntry;
use crate::output::{Observed, OutputKey};
use crate::probe_job::JobSettings;
use crate::watch::{Change, Source};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::engine::DrillTurns;
use mail_failover_core::model::{ClockDrift, ObjectKey, Timestamp, Uid};
use mail_failover_runtime::dial_guard::DialGuard;

/// Change of the wall clock's drift that is taken into account, in microseconds.
const DRIFT_STEP: u64 = 1_000_000;

/// Settings of the whole process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this replica in Events.
    pub instance: String,
    /// Name of the installation in the statuses of routes: namespace and name of its Lease.
    pub installation: Arc<str>,
    /// The cluster's DNS domain: `cluster.local`.
    pub cluster_domain: String,
    /// Duration of the replicas' Lease.
    pub lease_duration: Duration,
    /// Guard on the addresses that outputs and Jobs of probes lead to.
    pub guard: DialGuard,
    /// Address at which this replica takes reports of agents; `None` if they are not to know of it.
    pub reports: Option<OperatorEndpoint>,
    /// Settings of the probes that run as Jobs; `None` if none do.
    pub jobs: Option<JobSettings>,
    /// Name of this operator in the marks of DNS records.
    pub dns_owner: Arc<str>,
    /// The policy whose receivers are told of routes whose own policy has none.
    pub default_notifications: Option<ObjectKey>,
}

/// State of the controller.
#[derive(Debug)]
pub struct ControllerState {
    settings: Settings,
    metrics: Metrics,
    /// Random numbers for jitter, seeded by the replica's name.
    // Replicas differ, and the same inputs have the same effects.
    random: fastrand::Rng,
    synced: BTreeSet<Source>,
    is_leading: bool,
    drift: ClockDrift,
    backends: BTreeMap<ObjectKey, BackendEntry>,
    policies: BTreeMap<ObjectKey, PolicyEntry>,
    routes: BTreeMap<ObjectKey, RouteEntry>,
    routes_by_uid: BTreeMap<Uid, ObjectKey>,
    /// The routes that want to own an output, by output.
    claims: BTreeMap<OutputKey, BTreeSet<ObjectKey>>,
    dns_claims: DnsClaims,
    dependencies: DependencyCache,
    references: References,
    observed: Observed,
    queue: WorkQueue,
    peers: Peers,
    agents: Agents,
    jobs: Jobs,
    drills: DrillTurns,
    installations: Installations,
    webhook_calls: CallPlaces,
    dns_calls: CallPlaces,
    notification_calls: CallPlaces,
    /// Routes that have something to tell.
    routes_to_tell: BTreeSet<ObjectKey>,
    /// Unreadable objects already reported in status.
    reported: BTreeMap<ResourceRef, ReportedUnreadable>,
    pending: Effects,
}

impl ControllerState {
    /// The state of a process that has just begun.
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        let agents = Agents::new(settings.reports.clone());
        let (load, limit) = (metrics.webhook_calls_under_way.clone(), metrics.webhook_limit_reached.clone());
        let webhook_calls = CallPlaces::new(calls::MAX_WEBHOOK_CALLS, load, limit);
        let (load, limit) = (metrics.dns_calls_under_way.clone(), metrics.dns_limit_reached.clone());
        let dns_calls = CallPlaces::new(calls::MAX_DNS_CALLS, load, limit);
        let told = &metrics.notifications;
        let notification_calls =
            CallPlaces::new(notifications::MAX_CALLS, told.calls_under_way.clone(), told.limit_reached.clone());
        Self {
            random: fastrand::Rng::with_seed(seed(&settings.instance)),
            dependencies: DependencyCache::new(&settings.cluster_domain),
            settings,
            metrics,
            synced: BTreeSet::new(),
            is_leading: false,
            drift: ClockDrift::default(),
            backends: BTreeMap::new(),
            policies: BTreeMap::new(),
            routes: BTreeMap::new(),
            routes_by_uid: BTreeMap::new(),
            claims: BTreeMap::new(),
            dns_claims: DnsClaims::default(),
            references: References::default(),
            observed: Observed::default(),
            queue: WorkQueue::default(),
            peers: Peers::default(),
            agents,
            jobs: Jobs::default(),
            drills: DrillTurns::default(),
            installations: Installations::default(),
            webhook_calls,
            dns_calls,
            notification_calls,
            routes_to_tell: BTreeSet::new(),
            reported: BTreeMap::new(),
            pending: Effects::default(),
        }
    }

    /// Returns true once everything that decisions rest on was listed.
    pub fn is_synced(&self) -> bool {
        Source::ESSENTIAL.iter().all(|source| self.synced.contains(source))
    }

    /// Takes an input into account.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Backend(change) => self.handle_backend(now, change),
            Input::Policy(change) => self.handle_policy(now, change),
            Input::Route(change) => self.handle_route(now, change),
            Input::Service(change) => self.handle_service(now, change),
            Input::EndpointSlice(change) => self.handle_slice(now, change),
            Input::ConfigMap(change) => self.handle_config_map(change),
            Input::Job(change) => self.handle_job(now, change),
            Input::Pod(change) => self.handle_pod(now, change),
            Input::Synced(source) => self.handle_synced(now, source),
            Input::Access(access) => self.handle_access(now, &access),
            Input::Report(report) => self.handle_report(now, &report),
            Input::AgentReport(report) => self.handle_agent_report(now, &report),
            Input::Observer(event) => self.handle_peer_event(now, event),
            Input::Ca(key, answer) => {
                let reference = Reference::Ca(key.clone());
                if self.references.is_used(&reference) {
                    self.dependencies.cache_ca(key, answer);
                    self.resolve_users(now, &reference);
                }
            }
            Input::Login(key, answer) => {
                let reference = Reference::Login(key.clone());
                if self.references.is_used(&reference) {
                    self.dependencies.cache_login(key, answer);
                    self.resolve_users(now, &reference);
                }
            }
            Input::Secret(key, answer) => {
                let reference = Reference::Secret(key.clone());
                if self.references.is_used(&reference) {
                    self.dependencies.cache_secret(key, answer);
                    self.resolve_users(now, &reference);
                }
            }
            Input::Webhook(result) => self.handle_webhook_result(now, &result),
            Input::Dns(result) => self.handle_dns_result(now, &result),
            Input::Notification(result) => self.handle_notification_result(now, &result),
            Input::Leading(is_leading) => self.handle_leading(now, is_leading),
            Input::Drift(drift) => self.handle_drift(drift),
            Input::Unfit(unfit) => self.handle_unfit(now, unfit),
            Input::Result(result) => self.handle_result(now, *result),
        }
    }

    /// Takes over the drift of the wall clock, in steps of a second at least.
    // A clock that is slewed drifts by microseconds all the time.
    fn handle_drift(&mut self, drift: ClockDrift) {
        if drift.as_micros().abs_diff(self.drift.as_micros()) >= DRIFT_STEP {
            self.drift = drift;
            self.queue.extend(self.routes.keys().map(ResourceRef::route));
        }
    }

    /// Handles the timers that have ended.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.queue.handle_timeout(now);
        self.peers.handle_timeout(now);
    }

    /// Time at which to call [`ControllerState::handle_timeout`] and [`ControllerState::poll`] if nothing happens
    /// before.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.queue.next_timeout().into_iter().chain(self.peers.next_timeout()).min()
    }

    /// The effects of everything that was handled since the last poll.
    pub fn poll(&mut self, now: Timestamp) -> Effects {
        // Every replica tells its peers what it sees, if it leads or not.
        if self.is_synced() {
            self.weigh_observers(now);
        }
        if self.is_leading && self.is_synced() && self.peers.is_listed {
            self.grant_job_places();
            // Who waits in a lane comes before who is new to it.
            for lane in Lane::ALL {
                while let Some(resource) = self.queue.pop_waiting(now, lane) {
                    self.reconcile(now, &resource);
                }
            }
            for resource in self.endangered_routes(now) {
                if self.queue.take_due(&resource) {
                    self.reconcile(now, &resource);
                }
            }
            let mut last = None;
            while let Some(resource) = self.queue.pop_due(last.as_ref()) {
                self.reconcile(now, &resource);
                last = Some(resource);
            }
        }
        self.metrics.waiting_resources.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        for lane in Lane::ALL {
            self.metrics.set_load(lane, self.queue.load(lane));
        }
        std::mem::take(&mut self.pending)
    }

    fn handle_synced(&mut self, now: Timestamp, source: Source) {
        let was_synced = self.is_synced();
        self.synced.insert(source);
        if was_synced || !self.is_synced() {
            return;
        }
        for key in self.routes.keys().cloned().collect::<Vec<_>>() {
            self.refresh_route(now, &key);
        }
        for key in self.backends.keys().cloned().collect::<Vec<_>>() {
            self.refresh_backend(now, &key);
            self.adopt_persisted(now, &key);
        }
        for key in self.policies.keys().cloned().collect::<Vec<_>>() {
            self.refresh_receivers(&key);
        }
        self.note_default_notifications();
    }

    fn handle_leading(&mut self, now: Timestamp, is_leading: bool) {
        self.is_leading = is_leading;
        if is_leading && self.is_synced() {
            for key in self.backends.keys().cloned().collect::<Vec<_>>() {
                self.adopt_persisted(now, &key);
            }
        }
        // The actions of an earlier term are worked out again; results that still arrive are ignored.
        self.queue.abandon_actions();
        self.jobs.forget_waits();
        self.webhook_calls.abandon();
        self.dns_calls.abandon();
        self.notification_calls.abandon();
        self.forget_all_installations();
        for entry in self.policies.values_mut() {
            entry.forget_notifications();
        }
        for key in self.routes.keys().cloned().collect::<Vec<_>>() {
            self.forget_drill(&key);
            self.adopt_drill(&key);
        }
        for entry in self.routes.values_mut() {
            entry.is_confirmed = false;
            entry.forget_webhooks();
            entry.forget_dns();
            entry.forget_objectives();
        }
        self.queue.extend(self.routes.keys().map(ResourceRef::route));
        self.queue.extend(self.backends.keys().map(ResourceRef::backend));
        self.queue.extend(self.policies.keys().map(ResourceRef::policy));
    }

    /// Replaces the references of a resource, and requests or ends the reads that follow. Returns those that are new or
    /// gone.
    fn set_references(&mut self, resource: &ResourceRef, references: BTreeSet<Reference>) -> Vec<Reference> {
        let changed = self.references.set(resource, references);
        for reference in &changed {
            let is_used = self.references.is_used(reference);
            match reference {
                Reference::Ca(key) if is_used => self.pending.cas.push(ReadChange::Use(key.clone())),
                Reference::Ca(key) => {
                    self.dependencies.forget_ca(key);
                    self.pending.cas.push(ReadChange::Drop(key.clone()));
                }
                Reference::Login(key) if is_used => self.pending.logins.push(ReadChange::Use(key.clone())),
                Reference::Login(key) => {
                    self.dependencies.forget_login(key);
                    self.pending.logins.push(ReadChange::Drop(key.clone()));
                }
                Reference::Secret(key) if is_used => self.pending.secrets.push(ReadChange::Use(key.clone())),
                Reference::Secret(key) => {
                    self.dependencies.forget_secret(key);
                    self.pending.secrets.push(ReadChange::Drop(key.clone()));
                }
                Reference::Backend(_) | Reference::Policy(_) | Reference::Service(_) => {}
            }
        }
        changed
    }

    fn users(&self, reference: &Reference) -> Vec<ResourceRef> {
        self.references.users(reference).cloned().collect()
    }

    fn requeue_users(&mut self, reference: &Reference) {
        self.queue.extend(self.references.users(reference).cloned());
    }

    fn resolve_users(&mut self, now: Timestamp, reference: &Reference) {
        if self.is_synced() {
            for user in self.users(reference) {
                match user.kind {
                    ResourceKind::Backend => self.refresh_backend(now, &user.key),
                    // What its webhooks, DNS records or receivers need.
                    ResourceKind::Route | ResourceKind::Policy => self.queue.add(user),
                }
            }
        }
    }
}

/// Order of age: the creation time in seconds, then the uid.
type Age = (Option<i64>, Option<Uid>);

fn entry_age(entry: &RouteEntry) -> Age {
    let Some(cached) = &entry.object else { return (None, None) };
    let created = cached.readable().and_then(|route| route.metadata.creation_timestamp.as_ref());
    (created.map(|created| created.0.as_second()), Some(cached.uid().clone()))
}

/// A number that follows from a name (FNV-1a).
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The key of a resource that changed, and the resource as it is now; `None` if it is gone.
fn cached<K>(change: Change<K>) -> (ObjectKey, Option<Cached<K>>) {
    let cached = match change {
        Change::Applied(applied) => Cached::readable_from(applied),
        Change::Unreadable(unreadable) => Cached::unreadable_from(unreadable),
        Change::Deleted(key) => return (key, None),
    };
    (cached.identity().key.clone(), Some(cached))
}
