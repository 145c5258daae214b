//! Probes that run as Jobs: the time of the next one, and the result of the last one.
//!
//! Every replica watches Jobs and their pods: each has a vote by the same evidence, and a new leader knows the results
//! at once. Only the leader creates Jobs: one at a time for each probe, under a name that only one can have, and a
//! limited number over all. The time of the next Job follows from the creation of the one before, which the API server
//! keeps.
//!
//! Places for Jobs are shared by namespace: none takes more of them than it leaves free, and namespaces that wait take
//! turns. A quarter of the places is a floor: it is kept for backends that a route uses, one place each. A Job counts if
//! it is that of a backend which is there, by owner and name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::ResourceExt;

use super::ControllerState;
use super::lane_queue::{LaneQueue, Urgency};
use crate::controller::action::{Action, ResourceKind, ResourceRef};
use crate::controller::backend::BackendEntry;
use crate::controller::lane::Lane;
use crate::probe::{MAX_LOGIN_PAUSE, printable};
use crate::probe_job::manifest::{self, BACKEND_ANNOTATION, CONTAINER, JobParameters, PROBE_LABEL};
use crate::probe_job::{JobSettings, report};
use crate::watch::{Change, Identified, Source};
use mail_failover_api as api;
use mail_failover_core::model::{
    EvidenceClass, ObjectIdentity, ObjectKey, Outcome, ProbeKey, ProbeReport, Resolution, Stage, Timestamp, Uid,
};

/// Pause before another attempt to create a Job while Jobs have not been listed.
const LIST_RETRY: Duration = Duration::from_secs(1);
/// Wait for a place after which people are told of it.
const LONG_WAIT: Duration = Duration::from_secs(30);

/// Every Job of a probe that exists, with its pods.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    cached: BTreeMap<ObjectKey, CachedJob>,
    pods: BTreeMap<ObjectKey, CachedPod>,
    /// Probes whose Job the API server refused, with the end of their pauses.
    refused: BTreeMap<ProbeKey, Timestamp>,
    /// Sequence number of the last Job result.
    // Numbering by arrival is safe: a probe has one Job at a time.
    sequence: u64,
    /// Log-ins that were too many, by probe.
    login_pauses: BTreeMap<ProbeKey, LoginPause>,
    /// Backends that wait for a place.
    waiting: LaneQueue,
    /// Those among them that may also have a place of the floor.
    waiting_for_floor: LaneQueue,
    /// Backends that hold a place of the floor.
    on_floor: BTreeSet<ResourceRef>,
    /// Beginnings of these waits, with true once it was told of.
    waiting_since: BTreeMap<ResourceRef, (Timestamp, bool)>,
    /// Backends that have been given a place for their next Job.
    granted: BTreeSet<ResourceRef>,
}

/// Time between two log-ins of a probe, once the server has called them too many.
#[derive(Clone, Copy, Debug)]
struct LoginPause {
    pause: Duration,
    /// Earliest time of the next log-in.
    next: Timestamp,
}

/// Places for Jobs: those that all share, and those that are kept for backends that a route uses.
#[derive(Clone, Copy, Debug)]
struct JobPlaces {
    shared: usize,
    floor: usize,
}

#[derive(Debug)]
struct CachedJob {
    uid: Uid,
    /// `metadata.uid` of the backend that owns it.
    backend_uid: String,
    probe: ProbeKey,
    created: Timestamp,
    arguments: Vec<String>,
    end: Option<JobEnd>,
    is_being_deleted: bool,
    /// Latest trouble of its pod.
    trouble: Option<String>,
    /// True once its result is taken into account.
    is_heard: bool,
    /// Message that was reported of its end without a result; the trouble of its pod may come later.
    reported: Option<String>,
}

#[derive(Debug)]
enum JobEnd {
    Complete,
    Failed(String),
}

#[derive(Debug)]
struct CachedPod {
    job_uid: Uid,
    result: Option<PodResult>,
}

/// The line that a pod's container left, and the time at which it ended.
#[derive(Clone, Debug)]
struct PodResult {
    line: String,
    at: Timestamp,
}

impl JobPlaces {
    fn of(limit: usize) -> Self {
        let floor = limit / 4;
        Self { shared: limit - floor, floor }
    }
}

impl Jobs {
    /// Forgets all waits for a place.
    pub(super) fn forget_waits(&mut self) {
        self.waiting.clear();
        self.waiting_for_floor.clear();
        self.on_floor.clear();
        self.waiting_since.clear();
        self.granted.clear();
    }

    /// Takes out the next backend that may have a place.
    fn pop_waiting(&mut self, places: JobPlaces) -> Option<ResourceRef> {
        if let Some(resource) = self.waiting.pop(places.shared, |_| true) {
            self.waiting.take(&resource.key.namespace);
            self.waiting_for_floor.leave(&resource);
            return Some(resource);
        }
        let on_floor = &self.on_floor;
        let resource = self.waiting_for_floor.pop(places.floor, |resource| !on_floor.contains(resource))?;
        self.waiting.leave(&resource);
        self.take_floor(&resource);
        Some(resource)
    }

    fn take_floor(&mut self, resource: &ResourceRef) {
        self.waiting_for_floor.take(&resource.key.namespace);
        self.on_floor.insert(resource.clone());
    }

    /// Returns true if a backend may have a place of the floor now.
    fn has_room_on_floor(&self, resource: &ResourceRef, places: JobPlaces) -> bool {
        self.waiting_for_floor.has_room(places.floor, &resource.key.namespace) && !self.on_floor.contains(resource)
    }

    /// Ends the wait of a backend for a place.
    fn stop_waiting(&mut self, resource: &ResourceRef) {
        self.waiting.leave(resource);
        self.waiting_for_floor.leave(resource);
        self.waiting_since.remove(resource);
        self.granted.remove(resource);
    }

    fn result_of(&self, job: &CachedJob) -> Option<&PodResult> {
        self.pods.values().filter(|pod| pod.job_uid == job.uid).find_map(|pod| pod.result.as_ref())
    }
}

impl ControllerState {
    pub(super) fn handle_job(&mut self, now: Timestamp, change: Change<Job>) {
        match change {
            Change::Applied(job) => {
                let Some((key, mut job)) = cached_job(&job.identity, &job.object) else { return };
                let backend = job.probe.backend.clone();
                if let Some(before) = self.jobs.cached.remove(&key).filter(|before| before.uid == job.uid) {
                    (job.trouble, job.is_heard, job.reported) = (before.trouble, before.is_heard, before.reported);
                }
                self.jobs.refused.remove(&job.probe);
                self.jobs.cached.insert(key.clone(), job);
                self.handle_end_of_job(now, &key);
                self.queue.add(ResourceRef::backend(&backend));
            }
            Change::Deleted(key) => {
                if let Some(gone) = self.jobs.cached.remove(&key) {
                    self.queue.add(ResourceRef::backend(&gone.probe.backend));
                }
            }
            Change::Unreadable(unreadable) => return self.metrics.unreadable(Source::Jobs, &unreadable),
        }
        let under_way: usize = self.jobs_under_way().values().sum();
        self.metrics.jobs_under_way.set(i64::try_from(under_way).unwrap_or(i64::MAX));
    }

    /// Number of the Jobs that are not over, by backend.
    fn jobs_under_way(&self) -> BTreeMap<ResourceRef, usize> {
        let mut under_way = BTreeMap::new();
        for (key, job) in self.jobs.cached.iter().filter(|(_, job)| job.end.is_none()) {
            let owner = self.backends.get(&job.probe.backend).and_then(|entry| entry.object.as_ref());
            // Whoever may create Jobs can give one our labels.
            let is_ours = owner.is_some_and(|owner| owner.uid().as_str() == job.backend_uid)
                && *key.name == manifest::name(&job.backend_uid, &job.probe.backend, &job.probe.probe);
            if is_ours {
                *under_way.entry(ResourceRef::backend(&job.probe.backend)).or_default() += 1;
            }
        }
        under_way
    }

    /// Gives places to backends that wait, in turn.
    pub(super) fn grant_job_places(&mut self) {
        let Some(limit) = self.settings.jobs.as_ref().map(|settings| settings.limit) else { return };
        if self.jobs.waiting.waiting() == 0 {
            return;
        }
        let places = self.count_job_places(limit);
        while let Some(resource) = self.jobs.pop_waiting(places) {
            self.jobs.granted.insert(resource.clone());
            self.queue.add(resource);
        }
    }

    /// Counts the places that each namespace has taken. Returns the places there are.
    fn count_job_places(&mut self, limit: usize) -> JobPlaces {
        let places = JobPlaces::of(limit);
        let under_way = self.jobs_under_way();
        let begun: Vec<_> = self.queue.resources_under_way(Lane::Jobs).chain(&self.jobs.granted).cloned().collect();
        let (mut shared, mut on_floor) = (BTreeMap::<Arc<str>, usize>::new(), BTreeMap::<Arc<str>, usize>::new());
        self.jobs.on_floor.retain(|resource| under_way.contains_key(resource) || begun.contains(resource));
        for (resource, count) in &under_way {
            // One of them is on the floor, unless that is still being made.
            let of_floor = usize::from(self.jobs.on_floor.contains(resource) && !begun.contains(resource));
            *shared.entry(resource.key.namespace.clone()).or_default() += count.saturating_sub(of_floor);
        }
        // More than its share counts as its share: others' places are not lost to Jobs that somebody made by hand.
        for count in shared.values_mut() {
            *count = (*count).min(places.shared.div_ceil(2));
        }
        for resource in &begun {
            if !self.jobs.on_floor.contains(resource) {
                *shared.entry(resource.key.namespace.clone()).or_default() += 1;
            }
        }
        for resource in &self.jobs.on_floor {
            *on_floor.entry(resource.key.namespace.clone()).or_default() += 1;
        }
        // A new leader takes all that are under way for shared ones. The limit holds all the same.
        let over = shared.values().sum::<usize>().saturating_sub(places.shared);
        self.jobs.waiting.set_taken(shared);
        self.jobs.waiting_for_floor.set_taken(on_floor);
        JobPlaces { floor: places.floor.saturating_sub(over), ..places }
    }

    /// Returns true if a backend may create a Job now. It waits for its turn otherwise.
    fn takes_job_place(&mut self, now: Timestamp, resource: &ResourceRef, limit: usize) -> bool {
        if self.jobs.granted.remove(resource) {
            self.jobs.waiting_since.remove(resource);
            return true;
        }
        let is_used = self.backends.get(&resource.key).is_some_and(BackendEntry::is_used);
        let is_first = self.jobs.waiting.waiting() == 0;
        if is_first || (is_used && self.jobs.waiting_for_floor.waiting() == 0) {
            let places = self.count_job_places(limit);
            if is_first && self.jobs.waiting.has_room(places.shared, &resource.key.namespace) {
                return true;
            }
            if is_used && self.jobs.has_room_on_floor(resource, places) {
                self.jobs.stop_waiting(resource);
                self.jobs.take_floor(resource);
                return true;
            }
        }
        if is_used {
            self.jobs.waiting_for_floor.wait(resource);
        } else {
            self.jobs.waiting_for_floor.leave(resource);
        }
        let urgency = if is_used { Urgency::Used } else { Urgency::Usual };
        if self.jobs.waiting.wait_by(resource, urgency) {
            self.metrics.job_limit_reached.inc();
            self.jobs.waiting_since.insert(resource.clone(), (now, false));
        }
        false
    }

    /// Tells that probes have waited for a place for long.
    fn tell_of_long_wait(&mut self, now: Timestamp, resource: &ResourceRef, probes: Vec<Arc<str>>, limit: usize) {
        let Some((since, is_told)) = self.jobs.waiting_since.get_mut(resource) else { return };
        let told_at = *since + LONG_WAIT;
        if *is_told || probes.is_empty() {
            return;
        }
        if now < told_at {
            return self.queue.set_timer(resource, told_at);
        }
        *is_told = true;
        let message = format!(
            "all places for probe Jobs are taken ({limit} in all, --max-probe-jobs); it waits for its namespace's turn"
        );
        for probe in probes {
            let probe = ProbeKey { backend: resource.key.clone(), probe };
            self.handle_job_outcome(now, probe, blocked(&message), now);
        }
    }

    pub(super) fn handle_pod(&mut self, now: Timestamp, change: Change<Pod>) {
        match change {
            Change::Applied(Identified { identity: ObjectIdentity { key, .. }, object: pod }) => {
                let Some(OwnerReference { name, uid, .. }) = owner(pod.owner_references(), "Job") else { return };
                let Ok(job_uid) = Uid::parse(Some(uid)) else { return };
                let job = key.sibling(name.as_str());
                if let Some(cached) = self.jobs.cached.get_mut(&job).filter(|cached| cached.uid == job_uid) {
                    cached.trouble = pod.status.as_ref().and_then(pod_trouble).or(cached.trouble.take());
                }
                let result = pod.status.as_ref().and_then(|status| pod_result(status, now));
                self.jobs.pods.insert(key, CachedPod { job_uid, result });
                self.handle_end_of_job(now, &job);
            }
            Change::Deleted(key) => {
                self.jobs.pods.remove(&key);
            }
            Change::Unreadable(unreadable) => self.metrics.unreadable(Source::Pods, &unreadable),
        }
    }

    /// Forgets the refusals of a backend that is gone; the garbage collector takes its Jobs.
    pub(super) fn forget_refusals_of(&mut self, backend: &ObjectKey) {
        self.jobs.stop_waiting(&ResourceRef::backend(backend));
        self.jobs.refused.retain(|probe, _| probe.backend != *backend);
        self.jobs.login_pauses.retain(|probe, _| probe.backend != *backend);
    }

    /// Takes the results of a backend's Jobs into account that came before the backend, or its present spec, was known.
    pub(super) fn handle_ends_of_jobs(&mut self, now: Timestamp, backend: &ObjectKey) {
        let of_backend = self.jobs.cached.iter().filter(|(_, job)| job.probe.backend == *backend);
        for key in of_backend.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.handle_end_of_job(now, &key);
        }
    }

    /// Takes the result of a Job into account, once, if it is about the present spec.
    fn handle_end_of_job(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(job) = self.jobs.cached.get(key).filter(|job| !job.is_heard) else { return };
        if !self.is_of_present_spec(key, job) {
            return;
        }
        let (outcome, finished_at, reported) = match (self.jobs.result_of(job), &job.end) {
            (Some(PodResult { line, at }), _) => {
                (report::outcome(line).unwrap_or_else(|why| blocked(&why.to_string())), *at, None)
            }
            (None, Some(JobEnd::Failed(why))) => {
                let trouble = job.trouble.as_ref().map_or_else(String::new, |trouble| format!("; its pod: {trouble}"));
                let message = format!("the Job {} ended without a result: {why}{trouble}", key.name);
                if job.reported.as_ref() == Some(&message) {
                    return;
                }
                (blocked(&message), now, Some(message))
            }
            (None, Some(JobEnd::Complete) | None) => return,
        };
        let (probe, is_first) = (job.probe.clone(), job.reported.is_none());
        if is_first {
            self.metrics.job_ended(reported.is_none());
        }
        if let Some(job) = self.jobs.cached.get_mut(key) {
            (job.is_heard, job.reported) = (reported.is_none(), reported);
        }
        self.handle_job_outcome(now, probe, outcome, finished_at);
    }

    /// Returns true if a Job has the manifest of its backend's present spec.
    fn is_of_present_spec(&self, key: &ObjectKey, job: &CachedJob) -> bool {
        let Some(entry) = self.backends.get(&job.probe.backend) else { return false };
        let settings = self.job_settings();
        let orders = entry.orders(&job.probe.backend, &settings, &self.settings.guard);
        let order = orders.iter().find(|order| order.probe.name == job.probe.probe && job.is_of(order, key));
        order.is_some_and(|order| manifest::arguments_of(&manifest::job(order)) == Some(&job.arguments))
    }

    fn handle_job_outcome(&mut self, now: Timestamp, key: ProbeKey, outcome: Outcome, finished_at: Timestamp) {
        let finished_at = finished_at.min(now);
        self.pace_logins(&key, &outcome, finished_at);
        let Some(entry) = self.backends.get(&key.backend) else { return };
        self.jobs.sequence += 1;
        let report = ProbeReport {
            revision: entry.revision(),
            sequence: self.jobs.sequence,
            started_at: finished_at - outcome.elapsed,
            finished_at,
            resolution: Resolution::NotNeeded,
            addresses: vec![],
            outcome,
            delay: None,
            is_extra: false,
            key,
        };
        self.handle_report(now, &report);
    }

    /// Takes the outcome of a log-in into account. Each that the server calls one too many doubles the time to the next,
    /// until one is accepted.
    // As `LoginPace` does it for probes in process. A new process begins again at twice the interval, with the result of
    // the Job that it finds.
    fn pace_logins(&mut self, probe: &ProbeKey, outcome: &Outcome, finished_at: Timestamp) {
        let is_accepted = outcome.stage > Stage::Auth || outcome.class == EvidenceClass::Ok;
        let (Some(interval), true) = (self.interval_of(probe), outcome.stage >= Stage::Auth) else { return };
        if is_accepted {
            self.jobs.login_pauses.remove(probe);
            return;
        }
        let mut pause = self.jobs.login_pauses.get(probe).map(|known| known.pause);
        if outcome.class == EvidenceClass::Throttled {
            let longest = MAX_LOGIN_PAUSE.max(interval);
            pause = Some(pause.unwrap_or(interval).saturating_mul(2).min(longest));
        }
        // Refused for another reason. Only one that is accepted shows that they are no longer too many.
        if let Some(pause) = pause {
            self.jobs.login_pauses.insert(probe.clone(), LoginPause { pause, next: finished_at + pause });
        }
    }

    /// The earliest time of a probe's next log-in; `None` if they were not too many, or those of another spec were.
    fn login_paused_until(&self, probe: &ProbeKey, last: &CachedJob, order: &JobParameters<'_>) -> Option<Timestamp> {
        let LoginPause { next, .. } = self.jobs.login_pauses.get(probe)?;
        (manifest::arguments_of(&manifest::job(order)) == Some(&last.arguments)).then_some(*next)
    }

    fn interval_of(&self, probe: &ProbeKey) -> Option<Duration> {
        let usable = self.backends.get(&probe.backend)?.usable.as_deref()?;
        usable.probes.iter().find(|known| known.name == probe.probe).map(|known| known.interval)
    }

    /// The next Job of a backend, if one is due.
    pub(super) fn run_job(&mut self, now: Timestamp, resource: &ResourceRef) -> Option<Action> {
        let settings = self.job_settings();
        let entry = self.backends.get(&resource.key)?;
        let orders = entry.orders(&resource.key, &settings, &self.settings.guard);
        if self.settings.jobs.is_none() {
            let probes: Vec<_> = orders.iter().map(|order| order.probe.name.clone()).collect();
            for probe in probes {
                let message = "the operator runs no probe Jobs; start it with --probe-image (probeJobs.enabled in its chart), or take job away";
                let probe = ProbeKey { backend: resource.key.clone(), probe };
                self.handle_job_outcome(now, probe, blocked(message), now);
            }
            return None;
        }
        let are_jobs_listed = self.synced.contains(&Source::Jobs) && self.synced.contains(&Source::Pods);
        if !(orders.is_empty() || are_jobs_listed) {
            self.queue.set_timer(resource, now + LIST_RETRY);
            return None;
        }
        let mut due_orders = vec![];
        for order in &orders {
            let probe = ProbeKey { backend: resource.key.clone(), probe: order.probe.name.clone() };
            let job = manifest::name(order.uid, order.key, &order.probe.name);
            let last = self.jobs.cached.get(&resource.key.sibling(job));
            if last.is_some_and(|last| last.end.is_none() || last.is_being_deleted) {
                // The watch will say when it is over.
                continue;
            }
            let due = last.map_or(now, |last| last.created + jittered(order.probe.interval, &last.uid));
            let due = due.max(self.jobs.refused.get(&probe).copied().unwrap_or(now));
            let paused_until = last.and_then(|last| self.login_paused_until(&probe, last, order));
            let due = paused_until.map_or(due, |until| due.max(until));
            if due > now {
                self.queue.set_timer(resource, due);
            } else {
                let replaces = last.map(|last| last.uid.clone());
                due_orders.push((last.is_none(), probe.probe, replaces, Box::new(manifest::job(order))));
            }
        }
        if due_orders.is_empty() {
            self.jobs.stop_waiting(resource);
            return None;
        }
        if self.takes_job_place(now, resource, settings.limit) {
            let (_, probe, replaces, job) = due_orders.swap_remove(0);
            return Some(Action::RunJob { probe, replaces, job });
        }
        // One that has had a Job keeps the verdict of it.
        let unheard = due_orders.into_iter().filter(|(is_first, ..)| *is_first).map(|(_, probe, ..)| probe).collect();
        self.tell_of_long_wait(now, resource, unheard, settings.limit);
        None
    }

    /// Handles a Job that the API server refuses: for its quota, for admission, or because the name has another owner.
    pub(super) fn job_refused(&mut self, now: Timestamp, resource: &ResourceRef, probe: &str, message: &str) {
        self.metrics.job_refused();
        let probe = ProbeKey { backend: resource.key.clone(), probe: probe.into() };
        if let Some(interval) = self.interval_of(&probe) {
            self.jobs.refused.insert(probe.clone(), now + interval);
            self.handle_job_outcome(now, probe, blocked(&format!("the Job is refused: {message}")), now);
        }
    }

    fn job_settings(&self) -> JobSettings {
        match &self.settings.jobs {
            Some(settings) => settings.clone(),
            // Without any, manifests are made for comparison alone.
            None => JobSettings { image: String::new(), ehlo_name: None, limit: 0 },
        }
    }
}

impl CachedJob {
    fn is_of(&self, order: &JobParameters<'_>, key: &ObjectKey) -> bool {
        *key.name == manifest::name(order.uid, order.key, &self.probe.probe)
    }
}

/// The parts of a probe's Job that matter; `None` for any other Job.
fn cached_job(identity: &ObjectIdentity, job: &Job) -> Option<(ObjectKey, CachedJob)> {
    let key = identity.key.clone();
    let owner = owner(job.owner_references(), ResourceKind::Backend.as_str())?;
    if owner.api_version.split_once('/').is_none_or(|(group, _)| group != api::GROUP) {
        return None;
    }
    let backend = job.annotations().get(BACKEND_ANNOTATION)?;
    let probe = job.labels().get(PROBE_LABEL)?;
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let cached = CachedJob {
        uid: identity.uid.clone(),
        backend_uid: owner.uid.clone(),
        probe: ProbeKey { backend: key.sibling(backend.as_str()), probe: probe.as_str().into() },
        created: timestamp(job.metadata.creation_timestamp.as_ref()?),
        arguments: manifest::arguments_of(job)?.clone(),
        end: conditions.filter(|condition| condition.status == "True").find_map(end),
        is_being_deleted: job.metadata.deletion_timestamp.is_some(),
        trouble: None,
        is_heard: false,
        reported: None,
    };
    Some((key, cached))
}

fn end(condition: &JobCondition) -> Option<JobEnd> {
    match &*condition.type_ {
        "Complete" => Some(JobEnd::Complete),
        "Failed" => {
            let (reason, message) = (text(condition.reason.as_ref()), text(condition.message.as_ref()));
            Some(JobEnd::Failed(printable(&format!("{reason}: {message}"))))
        }
        _ => None,
    }
}

/// The result that a pod's container left.
fn pod_result(status: &PodStatus, now: Timestamp) -> Option<PodResult> {
    let terminated = container_state(status)?.terminated.as_ref()?;
    let line = terminated.message.clone().filter(|line| !line.trim().is_empty())?;
    Some(PodResult { line, at: terminated.finished_at.as_ref().map_or(now, timestamp) })
}

/// The reason for which a pod's container has ended, or has not begun.
fn pod_trouble(status: &PodStatus) -> Option<String> {
    let state = container_state(status);
    if let Some(terminated) = state.and_then(|state| state.terminated.as_ref()) {
        let trouble = format!("{} (exit code {})", text(terminated.reason.as_ref()), terminated.exit_code);
        return Some(printable(&trouble));
    }
    let (reason, message) = if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        (&waiting.reason, &waiting.message)
    } else {
        let mut conditions = status.conditions.iter().flatten();
        let unscheduled =
            conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
        (&unscheduled.reason, &unscheduled.message)
    };
    Some(printable(&format!("{} {}", text(reason.as_ref()), text(message.as_ref()))))
}

fn container_state(status: &PodStatus) -> Option<&ContainerState> {
    let mut containers = status.container_statuses.iter().flatten();
    containers.find(|ContainerStatus { name, .. }| name == CONTAINER)?.state.as_ref()
}

fn text(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

fn owner<'a>(owners: &'a [OwnerReference], kind: &str) -> Option<&'a OwnerReference> {
    owners.iter().find(|owner| owner.kind == kind && owner.controller == Some(true))
}

fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_micros(time.0.as_microsecond())
}

/// An interval up to a twentieth shorter or longer, different for each Job, the same for each leader.
fn jittered(interval: Duration, uid: &Uid) -> Duration {
    let sum = uid.as_str().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    interval.mul_f64(0.95 + f64::from(sum % 1000) / 10_000.0)
}

fn blocked(message: &str) -> Outcome {
    Outcome {
        // ADR-0037: A Job without a result is Unknown at once.
        class: EvidenceClass::ProbeBlocked,
        stage: Stage::Resolve,
        message: printable(message),
        certificate_not_after: None,
        elapsed: Duration::ZERO,
    }
}
