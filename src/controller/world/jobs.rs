//! Probes that run as Jobs: when the next one is due, and what the last one said.
//!
//! Every replica hears what Jobs say, by watching them and their pods, so that each has a vote by the same evidence and a new leader
//! knows at once. Only the leader creates them: one at a time for each probe, under a name that only one can have, and so many over all.
//! When one is due follows from when the one before was created, which the API server keeps.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::ResourceExt;

use super::{World, object_key, subject};
use crate::controller::step::{Step, Subject, SubjectKind};
use crate::probe::printable;
use crate::probe_job::manifest::{self, BACKEND_ANNOTATION, CONTAINER, JobParameters, PROBE_LABEL};
use crate::probe_job::report;
use crate::watch::{Change, Source};
use mail_failover_core::model::{
    EvidenceClass, ObjectKey, Outcome, ProbeKey, ProbeReport, Resolution, Stage, Timestamp,
};

/// While so many Jobs as may be are under way, it is looked again after this.
const PATIENCE: Duration = Duration::from_secs(1);

/// How Jobs are made.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// The operator's own image.
    pub image: String,
    /// How their probes introduce themselves in EHLO; the pod's name, when absent.
    pub ehlo_name: Option<String>,
    /// So many may be under way at a time, over all backends.
    pub limit: usize,
}

/// Every Job of a probe that there is, with its pods.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    known: BTreeMap<ObjectKey, SeenJob>,
    pods: BTreeMap<ObjectKey, SeenPod>,
    /// Probes whose Job the API server refused, until when they are left alone.
    refused: BTreeMap<ProbeKey, Timestamp>,
    /// Of what was heard last: in the order of being heard, for there is one Job at a time.
    sequence: u64,
}

#[derive(Debug)]
struct SeenJob {
    uid: String,
    probe: ProbeKey,
    created: Timestamp,
    arguments: Vec<String>,
    end: Option<End>,
    is_going: bool,
    /// What was wrong with its pod last.
    trouble: Option<String>,
    /// What it has to say is taken into account.
    is_heard: bool,
    /// What was told of its end without a result; its pod's trouble may come after it.
    told: Option<String>,
}

#[derive(Debug)]
enum End {
    Complete,
    Failed(String),
}

#[derive(Debug)]
struct SeenPod {
    job_uid: String,
    /// The line that its container left, and when.
    result: Option<(String, Timestamp)>,
}

impl Jobs {
    fn under_way(&self) -> usize {
        self.known.values().filter(|job| job.end.is_none()).count()
    }
}

impl World {
    pub(super) fn take_job(&mut self, now: Timestamp, change: Change<Job>) {
        match change {
            Change::Applied(job) => {
                let Some((key, mut seen)) = seen_job(&job) else { return };
                let backend = seen.probe.backend.clone();
                if let Some(before) = self.jobs.known.remove(&key).filter(|before| before.uid == seen.uid) {
                    (seen.trouble, seen.is_heard, seen.told) = (before.trouble, before.is_heard, before.told);
                }
                self.jobs.refused.remove(&seen.probe);
                self.jobs.known.insert(key.clone(), seen);
                self.settle_job(now, &key);
                self.agenda.add(subject(SubjectKind::Backend, &backend));
            }
            Change::Deleted(key) => {
                if let Some(gone) = self.jobs.known.remove(&key) {
                    self.agenda.add(subject(SubjectKind::Backend, &gone.probe.backend));
                }
            }
            Change::Unreadable(unreadable) => return self.metrics.unreadable(Source::Jobs, &unreadable),
        }
        self.metrics.jobs_under_way.set(i64::try_from(self.jobs.under_way()).unwrap_or(i64::MAX));
    }

    pub(super) fn take_pod(&mut self, now: Timestamp, change: Change<Pod>) {
        match change {
            Change::Applied(pod) => {
                let Some(key) = object_key(&*pod) else { return };
                let Some(OwnerReference { name, uid, .. }) = owner(pod.owner_references(), "Job") else { return };
                let job = key.sibling(name.as_str());
                let (result, trouble) = said(&pod, now);
                self.jobs.pods.insert(key, SeenPod { job_uid: uid.clone(), result });
                if let Some(known) = self.jobs.known.get_mut(&job).filter(|known| known.uid == *uid) {
                    known.trouble = trouble.or(known.trouble.take());
                }
                self.settle_job(now, &job);
            }
            Change::Deleted(key) => {
                self.jobs.pods.remove(&key);
            }
            Change::Unreadable(unreadable) => self.metrics.unreadable(Source::Pods, &unreadable),
        }
    }

    /// A backend is gone; the garbage collector takes its Jobs.
    pub(super) fn forget_refusals_of(&mut self, backend: &ObjectKey) {
        self.jobs.refused.retain(|probe, _| probe.backend != *backend);
    }

    /// What the Jobs of a backend have said before it, or its present spec, was known.
    pub(super) fn settle_jobs_of(&mut self, now: Timestamp, backend: &ObjectKey) {
        let of_backend = self.jobs.known.iter().filter(|(_, job)| job.probe.backend == *backend);
        for key in of_backend.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.settle_job(now, &key);
        }
    }

    /// Takes what a Job says into account, once, if it is about the present spec.
    fn settle_job(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(job) = self.jobs.known.get(key).filter(|job| !job.is_heard) else { return };
        let Some(entry) = self.backends.get(&job.probe.backend) else { return };
        let settings = self.job_settings();
        let orders = entry.orders(&job.probe.backend, &settings);
        let order = orders.iter().find(|order| order.probe.name == job.probe.probe && job.is_of(order, key));
        let Some(order) = order else { return };
        if manifest::arguments_of(&manifest::job(order)) != Some(&job.arguments) {
            // Of an earlier spec; the next one will say more.
            return;
        }
        let result = self.jobs.pods.values().filter(|pod| pod.job_uid == job.uid).find_map(|pod| pod.result.as_ref());
        let (outcome, finished_at, told) = match (result, &job.end) {
            (Some((line, at)), _) => {
                (report::outcome(line).unwrap_or_else(|error| blocked(&error.to_string())), *at, None)
            }
            (None, Some(End::Failed(why))) => {
                let trouble = job.trouble.as_ref().map(|trouble| format!("; its pod: {trouble}")).unwrap_or_default();
                let told = format!("the Job {} ended without a result: {why}{trouble}", key.name);
                if job.told.as_ref() == Some(&told) {
                    return;
                }
                (blocked(&told), now, Some(told))
            }
            (None, Some(End::Complete) | None) => return,
        };
        let (probe, is_first) = (job.probe.clone(), job.told.is_none());
        if is_first {
            self.metrics.job_ended(told.is_none());
        }
        if let Some(job) = self.jobs.known.get_mut(key) {
            (job.is_heard, job.told) = (told.is_none(), told);
        }
        self.hear_job(now, probe, outcome, finished_at);
    }

    fn hear_job(&mut self, now: Timestamp, key: ProbeKey, outcome: Outcome, finished_at: Timestamp) {
        let Some(entry) = self.backends.get(&key.backend) else { return };
        let finished_at = finished_at.min(now);
        self.jobs.sequence += 1;
        let report = ProbeReport {
            revision: entry.revision(),
            sequence: self.jobs.sequence,
            started_at: finished_at - outcome.elapsed,
            finished_at,
            resolution: Resolution::NotNeeded,
            addresses: vec![],
            outcome,
            key,
        };
        self.take_report(now, &report);
    }

    /// The next Job of a backend, if one is due.
    pub(super) fn next_job(&mut self, now: Timestamp, subject: &Subject) -> Option<Step> {
        let settings = self.job_settings();
        let entry = self.backends.get(&subject.key)?;
        let orders = entry.orders(&subject.key, &settings);
        let mut hindered = vec![];
        let mut next = None;
        for order in &orders {
            let probe = ProbeKey { backend: subject.key.clone(), probe: order.probe.name.clone() };
            if self.settings.jobs.is_none() {
                hindered.push(probe);
                continue;
            }
            if !self.synced.contains(&Source::Jobs) || !self.synced.contains(&Source::Pods) {
                self.agenda.set_timer(subject, now + PATIENCE);
                continue;
            }
            let job = manifest::name(order.uid, order.key, &order.probe.name);
            let last = self.jobs.known.get(&subject.key.sibling(job));
            if last.is_some_and(|last| last.end.is_none() || last.is_going) {
                // The watch will say when it is over.
                continue;
            }
            let due = last.map_or(now, |last| last.created + jittered(order.probe.interval, &last.uid));
            let due = due.max(self.jobs.refused.get(&probe).copied().unwrap_or(now));
            if due > now {
                self.agenda.set_timer(subject, due);
            } else if self.jobs.under_way() + self.agenda.jobs_under_way() >= settings.limit {
                self.metrics.job_limit_reached.inc();
                self.agenda.set_timer(subject, now + PATIENCE);
            } else if next.is_none() {
                let replaces = last.map(|last| last.uid.clone());
                next = Some(Step::RunJob { probe: probe.probe.clone(), replaces, job: Box::new(manifest::job(order)) });
            }
        }
        for probe in hindered {
            let what = "the operator runs no probe Jobs; start it with --probe-image (probeJobs.enabled in its chart), or take job away";
            self.hear_job(now, probe, blocked(what), now);
        }
        next
    }

    /// The API server does not take a Job: quota, admission, a name in other hands.
    pub(super) fn job_refused(&mut self, now: Timestamp, subject: &Subject, probe: &str, message: &str) {
        self.metrics.job_refused();
        let probe = ProbeKey { backend: subject.key.clone(), probe: probe.into() };
        let usable = self.backends.get(&subject.key).and_then(|entry| entry.usable.as_deref());
        let interval = usable.and_then(|usable| usable.probes.iter().find(|known| known.name == probe.probe));
        if let Some(interval) = interval.map(|probe| probe.interval) {
            self.jobs.refused.insert(probe.clone(), now + interval);
            self.hear_job(now, probe, blocked(&format!("the Job is refused: {message}")), now);
        }
    }

    fn job_settings(&self) -> JobSettings {
        // Without any, manifests are made for comparison alone.
        let none = || JobSettings { image: String::new(), ehlo_name: None, limit: 0 };
        self.settings.jobs.clone().unwrap_or_else(none)
    }
}

impl SeenJob {
    fn is_of(&self, order: &JobParameters<'_>, key: &ObjectKey) -> bool {
        *key.name == manifest::name(order.uid, order.key, &self.probe.probe)
    }
}

/// A Job of a probe, as far as it matters.
fn seen_job(job: &Job) -> Option<(ObjectKey, SeenJob)> {
    let key = object_key(job)?;
    owner(job.owner_references(), "SendingBackend")?;
    let backend = job.annotations().get(BACKEND_ANNOTATION)?;
    let probe = job.labels().get(PROBE_LABEL)?;
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let end = conditions.filter(|condition| condition.status == "True").find_map(|condition| match &*condition.type_ {
        "Complete" => Some(End::Complete),
        "Failed" => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            Some(End::Failed(printable(&format!("{}: {}", text(&condition.reason), text(&condition.message)))))
        }
        _ => None,
    });
    let seen = SeenJob {
        uid: job.uid()?,
        probe: ProbeKey { backend: key.sibling(backend.as_str()), probe: probe.as_str().into() },
        created: timestamp(job.metadata.creation_timestamp.as_ref()?),
        arguments: manifest::arguments_of(job)?.clone(),
        end,
        is_going: job.metadata.deletion_timestamp.is_some(),
        trouble: None,
        is_heard: false,
        told: None,
    };
    Some((key, seen))
}

/// The result that a pod's container left, with when; and what is wrong with it.
fn said(pod: &Pod, now: Timestamp) -> (Option<(String, Timestamp)>, Option<String>) {
    let Some(status) = &pod.status else { return (None, None) };
    let containers = status.container_statuses.iter().flatten();
    let state = containers.filter(|container| container.name == CONTAINER).find_map(state);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(terminated) = state.and_then(|state| state.terminated.as_ref()) {
        let at = terminated.finished_at.as_ref().map_or(now, timestamp);
        let line = terminated.message.clone().filter(|line| !line.trim().is_empty());
        let trouble = format!("{} (exit code {})", text(&terminated.reason), terminated.exit_code);
        return (line.map(|line| (line, at)), Some(printable(&trouble)));
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let waiting = waiting.map(|waiting| format!("{} {}", text(&waiting.reason), text(&waiting.message)));
    let unscheduled = status.conditions.iter().flatten();
    let unscheduled = unscheduled.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let unscheduled = unscheduled.map(|condition| format!("{} {}", text(&condition.reason), text(&condition.message)));
    (None, waiting.or(unscheduled.into_iter().next()).map(|trouble| printable(&trouble)))
}

fn state(container: &ContainerStatus) -> Option<&k8s_openapi::api::core::v1::ContainerState> {
    container.state.as_ref()
}

fn owner<'a>(owners: &'a [OwnerReference], kind: &str) -> Option<&'a OwnerReference> {
    owners.iter().find(|owner| owner.kind == kind && owner.controller == Some(true))
}

fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_micros(time.0.as_microsecond())
}

/// Up to a twentieth sooner or later, another for each Job, the same for each leader.
fn jittered(interval: Duration, uid: &str) -> Duration {
    let sum = uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    interval.mul_f64(0.95 + f64::from(sum % 1000) / 10_000.0)
}

fn blocked(what: &str) -> Outcome {
    Outcome {
        class: EvidenceClass::ProbeBlocked,
        stage: Stage::Resolve,
        message: printable(what),
        certificate_not_after: None,
        elapsed: Duration::ZERO,
    }
}
