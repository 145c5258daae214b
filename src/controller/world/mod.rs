//! Everything the controller knows, and what follows from it. No I/O: time and inputs are arguments, steps are returned.

mod agenda;
mod agents;
#[cfg(test)]
mod agents_tests;
#[cfg(test)]
mod deliveries_tests;
mod jobs;
#[cfg(test)]
mod jobs_tests;
#[cfg(test)]
mod logins_tests;
mod objects;
mod others;
#[cfg(test)]
mod others_tests;
mod outcomes;
mod resources;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use agenda::Agenda;
use agents::Agents;
use jobs::Jobs;
use kube::{Resource, ResourceExt};
use others::Others;

use crate::controller::backend::{BackendEntry, ProbeChange};
use crate::controller::backoff::Backoff;
use crate::controller::facts::Facts;
use crate::controller::input::Input;
use crate::controller::known::Known;
use crate::controller::metrics::Metrics;
use crate::controller::policy::PolicyEntry;
use crate::controller::references::{Reference, References};
use crate::controller::route::{Next, RouteEntry, Surroundings};
use crate::controller::step::{Step, Subject, SubjectKind, Task};
use crate::observers;
use crate::output::{Observed, OutputKey};
use crate::reports;
use crate::watch::{Change, Source};
use mail_failover_api::{FailoverPolicyStatus, Health, MailRouteStatus, SendingBackendStatus};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::engine::DELIVERIES;
use mail_failover_core::model::{ObjectKey, ProbeReport, Timestamp};
use mail_failover_resolve::{self as resolve, CaKey};

pub use jobs::JobSettings;

/// So many steps may be under way at once; a part of them is kept for routes, which must not wait behind ten thousand backends.
const MAX_STEPS: usize = 48;
const MAX_STEPS_OF_OTHERS: usize = 16;

/// What holds for the whole process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How this replica is named in Events.
    pub instance: String,
    /// The cluster's DNS domain: `cluster.local`.
    pub cluster_domain: String,
    /// Where this replica takes reports of agents, if they are to know.
    pub reports: Option<OperatorEndpoint>,
    /// How probes are made as Jobs, if they are.
    pub jobs: Option<JobSettings>,
}

/// What is to be done outside.
#[derive(Debug, Default)]
pub struct Effects {
    /// Steps to carry out, at most one per subject; each is answered with [`Input::Done`].
    pub steps: Vec<Task>,
    /// What to probe and what no more.
    pub probes: Vec<ProbeChange>,
    /// Which certificates to read and which no more.
    pub cas: Vec<ReadChange<CaKey>>,
    /// Which logins to read and which no more.
    pub logins: Vec<ReadChange<ObjectKey>>,
    /// What this replica sees otherwise than before, for the others.
    pub sightings: Vec<observers::BackendChange>,
    /// Whether this replica has observed every backend once: before that the others do not count on it.
    pub is_complete: bool,
    /// Who may report on which route from now on.
    pub admissions: Vec<reports::Change>,
}

/// What is needed of what is read by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadChange<K> {
    /// Read this and keep it fresh.
    Use(K),
    /// Nobody needs this any more.
    Drop(K),
}

/// What a step will have made of the status once it is done.
#[derive(Debug)]
enum Written {
    Policy(FailoverPolicyStatus),
    /// With the health before the step began: the echo of the write may be here before its answer.
    Backend {
        before: Option<Health>,
        after: Box<SendingBackendStatus>,
    },
    /// With the status before the step began.
    Route {
        before: Box<Option<MailRouteStatus>>,
        after: Box<MailRouteStatus>,
    },
}

/// Everything the controller knows.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    metrics: Metrics,
    synced: BTreeSet<Source>,
    is_leading: bool,
    backends: BTreeMap<ObjectKey, BackendEntry>,
    policies: BTreeMap<ObjectKey, PolicyEntry>,
    routes: BTreeMap<ObjectKey, RouteEntry>,
    routes_by_uid: BTreeMap<String, ObjectKey>,
    claims: BTreeMap<OutputKey, BTreeSet<ObjectKey>>,
    facts: Facts,
    references: References,
    observed: Observed,
    agenda: Agenda,
    others: Others,
    agents: Agents,
    jobs: Jobs,
    /// Objects that cannot be read and about which people have been told: the object's version counts, not ours.
    told: BTreeMap<Subject, (String, i64, String)>,
    pending: Effects,
}

impl World {
    /// A world in which nothing is known.
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        let agents = Agents::new(settings.reports.clone());
        Self {
            facts: Facts::new(&settings.cluster_domain),
            settings,
            metrics,
            synced: BTreeSet::new(),
            is_leading: false,
            backends: BTreeMap::new(),
            policies: BTreeMap::new(),
            routes: BTreeMap::new(),
            routes_by_uid: BTreeMap::new(),
            claims: BTreeMap::new(),
            references: References::default(),
            observed: Observed::default(),
            agenda: Agenda::default(),
            others: Others::default(),
            agents,
            jobs: Jobs::default(),
            told: BTreeMap::new(),
            pending: Effects::default(),
        }
    }

    /// Whether everything that decisions rest on has been listed once.
    pub fn is_synced(&self) -> bool {
        Source::ESSENTIAL.iter().all(|source| self.synced.contains(source))
    }

    /// When to call [`World::settle`] again although nothing happened.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.agenda.wake_at().into_iter().chain(self.others.wake_at()).min()
    }

    /// Takes something that happened into account.
    pub fn take(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Backend(change) => self.take_backend(now, change),
            Input::Policy(change) => self.take_policy(now, change),
            Input::Route(change) => self.take_route(now, change),
            Input::Service(change) => self.take_service(now, change),
            Input::EndpointSlice(change) => self.take_slice(now, change),
            Input::ConfigMap(change) => self.take_config_map(change),
            Input::Job(change) => self.take_job(now, change),
            Input::Pod(change) => self.take_pod(now, change),
            Input::Synced(source) => self.take_synced(now, source),
            Input::Report(report) => self.take_report(now, &report),
            Input::AgentReport(report) => self.take_agent_report(now, &report),
            Input::Observer(hearing) => self.take_hearing(now, hearing),
            Input::Ca(key, answer) => {
                let reference = Reference::Ca(key.clone());
                if self.references.is_used(&reference) {
                    self.facts.note_ca(key, answer);
                    self.resolve_users(now, &reference);
                }
            }
            Input::Login(key, answer) => {
                let reference = Reference::Login(key.clone());
                if self.references.is_used(&reference) {
                    self.facts.note_login(key, answer);
                    self.resolve_users(now, &reference);
                }
            }
            Input::Leading(is_leading) => self.take_leading(now, is_leading),
            Input::Done(done) => self.take_done(now, *done),
        }
    }

    /// What is to be done now.
    pub fn settle(&mut self, now: Timestamp) -> Effects {
        self.agenda.wake(now);
        // Every replica tells what it sees, whether it leads or not.
        if self.is_synced() {
            self.weigh_observers(now);
        }
        if self.is_leading && self.is_synced() && self.others.is_listed {
            // Routes first: a status of a backend can wait, mail cannot.
            for kind in [SubjectKind::Route, SubjectKind::Backend, SubjectKind::Policy] {
                self.settle_kind(now, kind);
            }
        }
        self.metrics.waiting_subjects.set(i64::try_from(self.agenda.len()).unwrap_or(i64::MAX));
        std::mem::take(&mut self.pending)
    }

    fn settle_kind(&mut self, now: Timestamp, kind: SubjectKind) {
        let limit = if kind == SubjectKind::Route { MAX_STEPS } else { MAX_STEPS_OF_OTHERS };
        let mut last = None;
        while let Some(subject) = self.agenda.next_of(kind, last) {
            if self.agenda.steps_under_way() >= limit {
                self.metrics.step_limit_reached.inc();
                self.agenda.add(subject);
                return;
            }
            self.look_at(now, &subject);
            last = Some(subject);
        }
    }

    fn look_at(&mut self, now: Timestamp, subject: &Subject) {
        if let Some(until) = self.backoff_of(subject).and_then(|backoff| backoff.until(now)) {
            self.agenda.set_timer(subject, until);
            return;
        }
        if let Some(unreadable) = self.unreadable(subject) {
            if let Some(step) = self.tell_unreadable(now, subject, &unreadable) {
                self.begin(subject, step, None);
            }
            return;
        }
        match subject.kind {
            SubjectKind::Policy => {
                let Some(entry) = self.policies.get(&subject.key) else { return };
                let users = self.references.users(&Reference::Policy(subject.key.clone()));
                if let Some((step, status)) = entry.next_step(users, now) {
                    self.begin(subject, step, status.map(Written::Policy));
                }
            }
            SubjectKind::Backend => {
                let Some(entry) = self.backends.get(&subject.key) else { return };
                if let Some(at) = entry.evidence.next_timeout(now) {
                    self.agenda.set_timer(subject, at);
                }
                if let Some((step, status)) = entry.next_step(subject, &self.settings.instance, now) {
                    let before = entry.health();
                    self.begin(subject, step, status.map(|after| Written::Backend { before, after: Box::new(after) }));
                } else if let Some(step) = self.next_job(now, subject) {
                    self.begin(subject, step, None);
                }
            }
            SubjectKind::Route => {
                // Taken out while it is looked at, so that it may change while the rest of the world is read.
                let Some(mut entry) = self.routes.remove(&subject.key) else { return };
                let age = entry_age(&entry);
                let before = entry.status().cloned();
                let Next { step, wake_at } = entry.next(
                    subject,
                    &Surroundings {
                        now,
                        instance: &self.settings.instance,
                        backends: &self.backends,
                        observed: &self.observed,
                        is_storm: self.others.is_storm(),
                        operators: self.agents.operators(),
                        rival: &|key| self.rival(&subject.key, &age, key),
                    },
                );
                self.routes.insert(subject.key.clone(), entry);
                if let Some(at) = wake_at {
                    self.agenda.set_timer(subject, at);
                }
                if let Some((step, status)) = step {
                    let written =
                        status.map(|after| Written::Route { before: Box::new(before), after: Box::new(after) });
                    self.begin(subject, step, written);
                }
            }
        }
    }

    fn begin(&mut self, subject: &Subject, step: Step, written: Option<Written>) {
        self.pending.steps.push(self.agenda.begin(subject, step, written));
    }

    fn take_synced(&mut self, now: Timestamp, source: Source) {
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
        self.agenda.extend(self.policies.keys().map(|key| subject(SubjectKind::Policy, key)));
    }

    /// What the last leader wrote down holds on: before anything is observed, all of it, so that a soak goes on where it was; afterwards,
    /// since when the same verdict stands, so that a change of leaders rewrites no status.
    fn adopt_persisted(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(entry) = self.backends.get_mut(key) else { return };
        self.others.mark(key);
        let status = entry.object.as_ref().and_then(Known::readable).and_then(|object| object.status.clone());
        let users = self.references.users(&Reference::Backend(key.clone()));
        let cooldown = users.filter_map(|user| Some(self.routes.get(&user.key)?.cooldown())).max().unwrap_or_default();
        for probe in status.iter().flat_map(|status| &status.probes) {
            match resolve::persisted_probe(probe) {
                Some(judgement) if probe.name == DELIVERIES => {
                    entry.evidence.adopt_deliveries(&judgement, cooldown, now);
                }
                Some(judgement) => entry.evidence.adopt_probe(&probe.name, &judgement, now),
                None => {}
            }
        }
        for user in self.references.users(&Reference::Backend(key.clone())) {
            let Some(route) = self.routes.get(&user.key) else { continue };
            let persisted = route.object.as_ref().and_then(Known::readable).and_then(|route| route.status.as_ref());
            let of_backend = persisted.and_then(|status| status.backends.iter().find(|of| *of.name == *key.name));
            if let Some(judgement) = of_backend.and_then(|of| resolve::persisted_verdict(of, status.as_ref())) {
                entry.evidence.adopt_verdict(route.thresholds(), &judgement, now);
            }
        }
    }

    fn take_report(&mut self, now: Timestamp, report: &ProbeReport) {
        let key = &report.key.backend;
        let Some(entry) = self.backends.get_mut(key) else { return };
        if entry.observe(report, now) {
            self.others.mark(key);
            self.touch_users(&Reference::Backend(key.clone()));
            self.agenda.add(subject(SubjectKind::Backend, key));
        } else {
            let awaits = |user: &Subject| self.routes.get(&user.key).is_some_and(|route| route.awaits_confirmation);
            let awaiting: Vec<_> =
                self.references.users(&Reference::Backend(key.clone())).filter(|user| awaits(user)).cloned().collect();
            self.agenda.extend(awaiting);
        }
    }

    fn take_leading(&mut self, now: Timestamp, is_leading: bool) {
        self.is_leading = is_leading;
        if is_leading && self.is_synced() {
            for key in self.backends.keys().cloned().collect::<Vec<_>>() {
                self.adopt_persisted(now, &key);
            }
        }
        // What an earlier term has begun is worked out again; its answers, should they still come, are no harm.
        self.agenda.abandon_steps();
        for entry in self.routes.values_mut() {
            entry.is_confirmed = false;
        }
        self.agenda.extend(self.routes.keys().map(|key| subject(SubjectKind::Route, key)));
        self.agenda.extend(self.backends.keys().map(|key| subject(SubjectKind::Backend, key)));
        self.agenda.extend(self.policies.keys().map(|key| subject(SubjectKind::Policy, key)));
    }

    /// Replaces what a subject refers to; what has to be read for it now, or no more, is asked for.
    fn set_references(&mut self, subject: &Subject, references: BTreeSet<Reference>) -> Vec<Reference> {
        let changed = self.references.set(subject, references);
        for reference in &changed {
            let is_used = self.references.is_used(reference);
            match reference {
                Reference::Ca(key) if is_used => self.pending.cas.push(ReadChange::Use(key.clone())),
                Reference::Ca(key) => {
                    self.facts.forget_ca(key);
                    self.pending.cas.push(ReadChange::Drop(key.clone()));
                }
                Reference::Login(key) if is_used => self.pending.logins.push(ReadChange::Use(key.clone())),
                Reference::Login(key) => {
                    self.facts.forget_login(key);
                    self.pending.logins.push(ReadChange::Drop(key.clone()));
                }
                Reference::Backend(_) | Reference::Policy(_) | Reference::Service(_) => {}
            }
        }
        changed
    }

    fn users(&self, reference: &Reference) -> Vec<Subject> {
        self.references.users(reference).cloned().collect()
    }

    fn touch_users(&mut self, reference: &Reference) {
        let users = self.users(reference);
        self.agenda.extend(users);
    }

    fn resolve_users(&mut self, now: Timestamp, reference: &Reference) {
        if self.is_synced() {
            for user in self.users(reference) {
                self.refresh_backend(now, &user.key);
            }
        }
    }

    fn backoff_of(&self, subject: &Subject) -> Option<&Backoff> {
        match subject.kind {
            SubjectKind::Policy => self.policies.get(&subject.key).map(|entry| &entry.backoff),
            SubjectKind::Backend => self.backends.get(&subject.key).map(|entry| &entry.backoff),
            SubjectKind::Route => self.routes.get(&subject.key).map(|entry| &entry.backoff),
        }
    }

    fn backoff_mut(&mut self, subject: &Subject) -> Option<&mut Backoff> {
        match subject.kind {
            SubjectKind::Policy => self.policies.get_mut(&subject.key).map(|entry| &mut entry.backoff),
            SubjectKind::Backend => self.backends.get_mut(&subject.key).map(|entry| &mut entry.backoff),
            SubjectKind::Route => self.routes.get_mut(&subject.key).map(|entry| &mut entry.backoff),
        }
    }
}

/// Who came first: creation time in seconds, then uid.
type Age = (Option<i64>, String);

fn entry_age(entry: &RouteEntry) -> Age {
    let Some(known) = &entry.object else { return (None, String::new()) };
    let created = known.readable().and_then(|route| route.metadata.creation_timestamp.as_ref());
    (created.map(|created| created.0.as_second()), known.uid().to_owned())
}

fn subject(kind: SubjectKind, key: &ObjectKey) -> Subject {
    Subject { kind, key: key.clone() }
}

fn object_key<K: Resource>(object: &K) -> Option<ObjectKey> {
    Some(ObjectKey::new(object.namespace()?, object.name_any()))
}

/// The key of what changed, and what it is now; `None` when it is gone.
fn identified<K: Resource>(change: Change<K>) -> Option<(ObjectKey, Option<Known<K>>)> {
    match change {
        Change::Applied(object) => Some((object_key(&*object)?, Some(Known::Readable(object)))),
        Change::Unreadable(unreadable) => Some((unreadable.key.clone(), Some(Known::Unreadable(unreadable)))),
        Change::Deleted(key) => Some((key, None)),
    }
}
