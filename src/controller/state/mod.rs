//! State of the controller, and everything that follows from it. No I/O: time and inputs are arguments, actions are
//! returned.

#[cfg(test)]
mod acquittal_tests;
mod agents;
#[cfg(test)]
mod agents_tests;
mod call_places;
#[cfg(test)]
mod delays_tests;
#[cfg(test)]
mod deliveries_tests;
mod dns;
mod dns_claims;
#[cfg(test)]
mod dns_endpoint_tests;
#[cfg(test)]
mod dns_tests;
mod drills;
#[cfg(test)]
mod drills_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod guard_tests;
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
mod resources;
mod results;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod webhooks;
#[cfg(test)]
mod webhooks_tests;
mod work_queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agents::Agents;
use call_places::CallPlaces;
use dns_claims::DnsClaims;
use drills::Drills;
use jobs::Jobs;
use peers::Peers;
use results::ReportedUnreadable;
use work_queue::WorkQueue;

use crate::controller::action::{Action, ActionRequest, ResourceKind, ResourceRef};
use crate::controller::backend::{BackendContext, BackendEntry, ProbeChange, RoundNews, is_status_of_present_place};
use crate::controller::cached::Cached;
use crate::controller::dependencies::DependencyCache;
use crate::controller::input::Input;
use crate::controller::lane::{Lane, Slot};
use crate::controller::metrics::Metrics;
use crate::controller::policy::PolicyEntry;
use crate::controller::reconcile::{PlannedAction, Publishing, Reconciled};
use crate::controller::references::{Reference, References};
use crate::controller::route::{RouteContext, RouteEntry};
use crate::controller::secrets::SecretKey;
use crate::dns::DnsCall;
use crate::notification::NotificationCall;
use crate::observers;
use crate::output::{Observed, OutputKey};
use crate::probe_job::JobSettings;
use crate::reports;
use crate::watch::{Change, Source};
use crate::webhook::WebhookCall;
use mail_failover_api::{FailoverPolicyStatus, Health, MailRouteStatus, SendingBackendStatus};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::engine::DELIVERIES;
use mail_failover_core::model::{ClockDrift, ObjectKey, ProbeReport, ResourceVersion, Timestamp, Uid};
use mail_failover_resolve::{self as resolve, CaKey, LoginKey};
use mail_failover_runtime::dial_guard::DialGuard;

/// Change of the wall clock's drift that is taken into account, in microseconds.
const DRIFT_STEP: u64 = 1_000_000;

/// Settings of the whole process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this replica in Events.
    pub instance: String,
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

/// Effects on the rest of the process.
#[derive(Debug, Default)]
pub struct Effects {
    /// Actions to carry out; each is answered with [`Input::Result`].
    pub actions: Vec<ActionRequest>,
    /// Probes to make or to end.
    pub probes: Vec<ProbeChange>,
    /// Certificates to read or not to read any more.
    pub cas: Vec<ReadChange<CaKey>>,
    /// Logins to read or not to read any more.
    pub logins: Vec<ReadChange<LoginKey>>,
    /// Secrets of outputs and receivers to read or not to read any more.
    pub secrets: Vec<ReadChange<SecretKey>>,
    /// Receivers to tell; each call is answered with [`Input::Notification`].
    pub notification_calls: Vec<NotificationCall>,
    /// Webhooks to call; each call is answered with [`Input::Webhook`].
    pub webhook_calls: Vec<WebhookCall>,
    /// Attempts to lead zones; each is answered with [`Input::Dns`].
    pub dns_calls: Vec<DnsCall>,
    /// Changes of this replica's verdicts, for its peers.
    pub report_changes: Vec<observers::BackendChange>,
    /// Namespaces in which this replica has not observed every backend once since its start; `None` before it knows
    /// all backends.
    // Its peers do not count on its verdicts there.
    pub awaited: Option<observers::Namespaces>,
    /// Highest `resourceVersion` of the backends that this replica knows.
    // Its silence about a later one says nothing to its peers.
    pub known_up_to: Option<ResourceVersion>,
    /// Name in the election of a replica that is fitter to lead, while there is one.
    pub successor: Option<Arc<str>>,
    /// Changes of the service accounts that may report on a route.
    pub admissions: Vec<reports::AgentsChange>,
}

/// A change of the objects that are read by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadChange<K> {
    /// Reads an object, and keeps it fresh.
    Use(K),
    /// Ends reading an object.
    Drop(K),
}

/// The status that a resource has once its action is done.
#[derive(Debug)]
enum PendingStatus {
    Policy(Box<FailoverPolicyStatus>),
    /// With the health before the write.
    // The watch event of our write can arrive before its response.
    Backend {
        before: Option<Health>,
        after: Box<SendingBackendStatus>,
    },
    /// With the status before the write.
    Route {
        before: Box<Option<MailRouteStatus>>,
        after: Box<MailRouteStatus>,
    },
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
    drills: Drills,
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
            drills: Drills::default(),
            webhook_calls: CallPlaces::new(webhooks::MAX_CALLS),
            dns_calls: CallPlaces::new(dns::MAX_CALLS),
            notification_calls: CallPlaces::new(notifications::MAX_CALLS),
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

    fn reconcile(&mut self, now: Timestamp, resource: &ResourceRef) {
        if let Some(until) = self.queue.paused_until(now, resource, Slot::Write) {
            self.queue.set_timer(resource, until);
            return;
        }
        if let Some((identity, unreadable)) = self.unreadable(resource) {
            return self.report_unreadable(now, resource, &identity, &unreadable);
        }
        match resource.kind {
            ResourceKind::Policy => self.reconcile_policy(now, resource),
            ResourceKind::Backend => self.reconcile_backend(now, resource),
            ResourceKind::Route => self.reconcile_route(now, resource),
        }
    }

    fn reconcile_policy(&mut self, now: Timestamp, resource: &ResourceRef) {
        let to_tell = self.to_tell(&resource.key);
        // Taken out of the map, so that it may change while the rest of the state is read.
        let Some(mut entry) = self.policies.remove(&resource.key) else { return };
        let mut next_timeout = None;
        if entry.notifies() {
            if !entry.is_confirmed {
                self.policies.insert(resource.key.clone(), entry);
                // The watch may lag behind what an earlier leader has told.
                let confirm = PlannedAction::new(Lane::Notifications, Action::Confirm);
                return self.begin_next(now, resource, confirm.into(), PendingStatus::Policy);
            }
            let grouped_at = self.queue_messages(now, &resource.key, &mut entry, &to_tell);
            let called_at = self.begin_notification_calls(now, resource, &mut entry, &to_tell);
            next_timeout = grouped_at.into_iter().chain(called_at).min();
        }
        let users = self.references.users(&Reference::Policy(resource.key.clone()));
        let reconciled = entry.reconcile(users, now).and_at(next_timeout);
        self.policies.insert(resource.key.clone(), entry);
        self.begin_next(now, resource, reconciled, PendingStatus::Policy);
    }

    fn reconcile_backend(&mut self, now: Timestamp, resource: &ResourceRef) {
        let Some(entry) = self.backends.get(&resource.key) else { return };
        let before = entry.health();
        let reconciled = entry.reconcile(&BackendContext {
            now,
            resource,
            instance: &self.settings.instance,
            publishing: self.publishing(now, resource),
        });
        let is_idle = reconciled.action.is_none();
        self.begin_next(now, resource, reconciled, |after| PendingStatus::Backend { before, after });
        if let Some(until) = self.queue.paused_until(now, resource, Slot::Job) {
            self.queue.set_timer(resource, until);
        } else if is_idle && !self.queue.is_under_way(resource, Slot::Job) {
            match self.run_job(now, resource) {
                Some(action) => {
                    self.begin_or_wait(now, resource, Lane::Jobs, action, None);
                }
                None => self.queue.leave(resource, Slot::Job),
            }
        }
    }

    fn reconcile_route(&mut self, now: Timestamp, resource: &ResourceRef) {
        // Taken out of the map, so that it may change while the rest of the state is read.
        let Some(mut entry) = self.routes.remove(&resource.key) else { return };
        let age = entry_age(&entry);
        let before = Box::new(entry.status().cloned());
        let loops = self.loops(&resource.key, &entry);
        let bypassed_by_agents = self.bypassed_by_agents(now, &resource.key, &entry);
        let is_mail_stuck = self.is_mail_stuck(now, resource);
        let drill = self.drill_context(now, &resource.key, &entry);
        let (agents, senders) = self.senders(now, &resource.key, &entry);
        let notifying = self.notifying_policy(&resource.key, &entry).and_then(|key| self.policies.get(&key));
        let is_taken = |id: &str| notifying.is_some_and(|policy| policy.has_taken(id));
        let reconciled = entry.reconcile(&RouteContext {
            now,
            drift: self.drift,
            resource,
            instance: &self.settings.instance,
            dns_owner: &self.settings.dns_owner,
            publishing: self.publishing(now, resource),
            backends: &self.backends,
            observed: &self.observed,
            guard: &self.settings.guard,
            is_storm: self.peers.is_storm(&resource.key.namespace, entry.thresholds()),
            operators: self.agents.operators(),
            agents,
            senders: &senders,
            loops: &loops,
            bypassed_by_agents: &bypassed_by_agents,
            dependencies: &self.dependencies,
            is_mail_stuck,
            drill: &drill,
            is_taken: notifying.is_some().then_some(&is_taken as &dyn Fn(&str) -> bool),
            rival: &|key| self.rival(&resource.key, &age, key),
            dns_rival: &|output| self.dns_rival(&resource.key, &age, output),
        });
        self.note_drill(resource, &entry);
        let calls = entry.webhooks_mut().take_planned();
        let dns_calls = entry.dns_mut().take_planned();
        self.routes.insert(resource.key.clone(), entry);
        self.begin_webhook_calls(resource, calls);
        self.begin_dns_calls(resource, dns_calls);
        self.begin_next(now, resource, reconciled, |after| PendingStatus::Route { before, after });
    }

    /// The Events of a resource that are being published.
    fn publishing(&self, now: Timestamp, resource: &ResourceRef) -> Publishing {
        Publishing {
            is_under_way: self.queue.is_under_way(resource, Slot::Events),
            has_failed: self.queue.has_failed(resource, Slot::Events),
            paused_until: self.queue.paused_until(now, resource, Slot::Events),
        }
    }

    /// Begins what a reconcile found to do, as far as its lane has room, and sets the timer of the next one.
    fn begin_next<S>(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        reconciled: Reconciled<S>,
        status: impl FnOnce(Box<S>) -> PendingStatus,
    ) {
        let Reconciled { action, publication, next_timeout } = reconciled;
        if let Some(at) = next_timeout {
            self.queue.set_timer(resource, at);
        }
        let mut is_published_now = false;
        if let Some(publication) = publication {
            is_published_now = self.begin_or_wait(now, resource, Lane::Events, publication, None);
        } else {
            self.queue.leave(resource, Slot::Events);
        }
        // The rest of a route's status waits for its Events, so that one write says all; but not
        // for a second attempt, and not for their turn.
        let is_first_attempt = is_published_now && !self.queue.has_failed(resource, Slot::Events);
        match action.filter(|planned| !(is_first_attempt && planned.lane == Lane::RouteStatus)) {
            Some(planned) => {
                let has_failed = self.queue.has_failed(resource, Slot::Write);
                let lane = if has_failed { planned.lane.after_failure() } else { planned.lane };
                self.begin_or_wait(now, resource, lane, planned.action, planned.status.map(status));
            }
            None => self.queue.leave(resource, Slot::Write),
        }
    }

    /// Begins an action if its lane has room; lets the resource wait there otherwise. Returns true if it began.
    fn begin_or_wait(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        lane: Lane,
        action: Action,
        status: Option<PendingStatus>,
    ) -> bool {
        if let Some((until, is_new)) = self.queue.put_off_until(now, resource, lane) {
            if is_new {
                self.metrics.put_off(lane);
            }
            self.queue.leave(resource, lane.slot());
            self.queue.set_timer(resource, until);
            return false;
        }
        if self.queue.has_room(now, resource, lane) {
            self.pending.actions.push(self.queue.begin(now, resource, lane, action, status));
            return true;
        }
        if self.queue.wait(resource, lane) {
            self.metrics.limit_reached(lane);
        }
        false
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

    /// Restores the verdicts about a backend from status.
    /// Before the first observation it restores all of them; after it only the times since which equal verdicts stand.
    // ADR-0029: A new replica votes by status until its probes disagree.
    // So a soak continues, and a change of leaders writes nothing.
    fn adopt_persisted(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(entry) = self.backends.get_mut(key) else { return };
        self.peers.mark(key);
        let object = entry.object.as_ref().and_then(Cached::readable);
        // A verdict about another host says nothing of this one.
        let status =
            object.filter(|object| is_status_of_present_place(object)).and_then(|object| object.status.clone());
        let users = self.references.users(&Reference::Backend(key.clone()));
        let cooldown = users.filter_map(|user| Some(self.routes.get(&user.key)?.cooldown())).max().unwrap_or_default();
        for probe in status.iter().flat_map(|status| &status.probes) {
            match resolve::persisted_probe(probe) {
                Some(judgement) if probe.name == DELIVERIES => {
                    let stage = resolve::persisted_stage(probe);
                    entry.evidence.adopt_deliveries(&judgement, stage, cooldown, now);
                }
                Some(judgement) => entry.evidence.adopt_probe(&probe.name, &judgement, now),
                None => {}
            }
        }
        if status.is_none() {
            return;
        }
        for user in self.references.users(&Reference::Backend(key.clone())) {
            let Some(route) = self.routes.get(&user.key) else { continue };
            let verdicts = route.status().map(|status| status.backends.as_slice()).unwrap_or_default();
            let of_backend = verdicts.iter().find(|verdict| *verdict.name == *key.name);
            if let Some(judgement) = of_backend.and_then(|of| resolve::persisted_verdict(of, status.as_ref())) {
                entry.evidence.adopt_verdict(route.thresholds(), &judgement, self.settings.lease_duration, now);
            }
        }
    }

    fn handle_report(&mut self, now: Timestamp, report: &ProbeReport) {
        let key = &report.key.backend;
        let Some(entry) = self.backends.get_mut(key) else { return };
        let RoundNews { is_changed, began_to_fail } = entry.observe(report, now);
        self.mark_failing_neighbours(key);
        if began_to_fail {
            self.look_at_standbys(key);
        }
        if is_changed {
            self.peers.mark(key);
            self.requeue_users(&Reference::Backend(key.clone()));
            self.queue.add(ResourceRef::backend(key));
            return;
        }
        for user in self.references.users(&Reference::Backend(key.clone())) {
            if self.routes.get(&user.key).is_some_and(|route| route.awaits_answer) {
                self.queue.add(user.clone());
            }
        }
    }

    /// Looks at the backends that could take over from one that fails, so that they have answered by the time that they
    /// are needed.
    // ADR-0015: A standby must have answered since the failure began.
    fn look_at_standbys(&mut self, failing: &ObjectKey) {
        let mut looks = BTreeSet::new();
        for user in self.references.users(&Reference::Backend(failing.clone())) {
            let Some(route) = self.routes.get(&user.key) else { continue };
            for member in route.usable.iter().flat_map(|usable| &usable.backends) {
                let key = failing.sibling(member.name.clone());
                if let Some(entry) = self.backends.get(&key).filter(|_| key != *failing) {
                    looks.extend(entry.probe_keys(&key));
                }
            }
        }
        self.pending.probes.extend(looks.into_iter().map(ProbeChange::Look));
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
