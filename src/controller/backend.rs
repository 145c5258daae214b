//! One `SendingBackend`: from its spec and its evidence to its probes and its status.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Retry;
use super::events::{self, Telling};
use super::known::{Known, unreadable_rejection};
use super::status::{Conditions, condition_message, is_true, joined, patch};
use super::step::{Step, Subject};
use super::world::JobSettings;
use crate::observers::Verdicts;
use crate::probe::ProbeTarget;
use crate::probe_job::manifest::JobParameters;
use mail_failover_api::{self as api, BackendType, SendingBackend, SendingBackendStatus};
use mail_failover_core::engine::{DELIVERIES, Evidence, Health, Judgement, News, Verdict};
use mail_failover_core::model::{
    Backend, Destination, Effect, EvidenceClass, ObjectKey, ProbeKey, ProbeLogin, ProbeReport, Resolution, Thresholds,
    Timestamp, Vantage,
};
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::micro_time;
use mail_failover_resolve::{self as resolve, Lookup, Rejection, Unresolved};

/// A certificate that was not served again for so long gives way to one that expires later: providers serve several.
const CERTIFICATE_MEMORY: Duration = Duration::from_mins(10);

/// Everything known about one backend.
#[derive(Debug, Default)]
pub(super) struct BackendEntry {
    /// `None` once it is deleted and kept only because a route's mail still goes there.
    pub(super) object: Option<Known<SendingBackend>>,
    /// The last good version.
    pub(super) usable: Option<Arc<Backend>>,
    /// What is wrong with the present version.
    problem: Option<Unresolved>,
    /// Why its probes cannot log in; everything else of it is in force.
    login_rejection: Option<Rejection>,
    pub(super) evidence: Evidence,
    revision: u64,
    /// What the name service said last, while it said anything.
    resolved: Option<Vec<SocketAddr>>,
    certificates: BTreeMap<Arc<str>, Certificate>,
    /// Probes whose recipient was refused since they last told anything about the backend, with the reply.
    refused_recipients: BTreeMap<Arc<str>, String>,
    probed: BTreeSet<Arc<str>>,
    /// The revision that is being probed.
    probed_revision: Option<u64>,
    published: BTreeSet<String>,
    pub(super) backoff: Retry,
}

#[derive(Debug)]
struct Certificate {
    not_after: Timestamp,
    seen_at: Timestamp,
}

/// What is to be probed from now on.
#[derive(Clone, Debug)]
pub enum ProbeChange {
    /// Probe this, or this instead of what the probe's key stood for before.
    Set(Box<ProbeTarget>),
    /// Probe this no more.
    Remove(ProbeKey),
}

impl BackendEntry {
    /// Parses the spec again, with what it refers to as it is now, as one of so many replicas.
    pub(super) fn resolve(&mut self, key: &ObjectKey, lookup: &impl Lookup, replicas: u32, now: Timestamp) {
        let resolved = match &self.object {
            None => return,
            Some(Known::Unreadable(unreadable)) => Err(Unresolved::Rejected(unreadable_rejection(unreadable))),
            Some(Known::Readable(object)) => resolve::backend(key, &object.spec, lookup),
        };
        match resolved {
            Ok(backend) => {
                self.problem = None;
                self.adopt(backend.shared_out_among(replicas), now);
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn adopt(&mut self, backend: Backend, now: Timestamp) {
        self.login_rejection = match &backend.login {
            ProbeLogin::Missing { reason, message } => Some(Rejection { reason, message: message.to_string() }),
            ProbeLogin::None | ProbeLogin::With(_) => None,
        };
        let Some(before) = self.usable.as_deref() else {
            self.revision += 1;
            self.usable = Some(Arc::new(backend));
            return;
        };
        if *before == backend {
            return;
        }
        let what = |backend: &Backend| {
            (backend.destination.clone(), backend.tls.clone(), backend.login.clone(), backend.probes.clone())
        };
        if what(before) != what(&backend) {
            self.revision += 1;
        }
        if is_elsewhere(&before.destination, &backend.destination) {
            self.evidence.reset(now);
            self.resolved = None;
            self.certificates.clear();
            self.refused_recipients.clear();
        }
        self.usable = Some(Arc::new(backend));
    }

    /// Says which thresholds judge this backend. Returns whether anything changed.
    pub(super) fn track(&mut self, thresholds: &BTreeSet<Thresholds>, now: Timestamp) -> bool {
        let Some(usable) = &self.usable else { return false };
        let probes: Vec<_> = usable.probes.iter().map(|probe| probe.name.clone()).collect();
        self.certificates.retain(|probe, _| probes.contains(probe));
        self.evidence.track(thresholds, &usable.probes, now)
    }

    /// The probes that have to be set or removed for what is known now.
    pub(super) fn probe_changes(&mut self, key: &ObjectKey) -> Vec<ProbeChange> {
        let Some(usable) = self.usable.clone() else { return vec![] };
        if self.probed_revision == Some(self.revision) {
            return vec![];
        }
        self.probed_revision = Some(self.revision);
        let own = || usable.probes.iter().filter(|probe| probe.vantage == Vantage::Operator);
        let names: BTreeSet<_> = own().map(|probe| probe.name.clone()).collect();
        let gone = self.probed.difference(&names).map(|name| ProbeChange::Remove(probe_key(key, name)));
        let set = own().map(|probe| {
            ProbeChange::Set(Box::new(ProbeTarget {
                key: probe_key(key, &probe.name),
                revision: self.revision,
                destination: usable.destination.clone(),
                tls: usable.tls.clone(),
                interval: probe.interval,
                timeout: probe.timeout,
                depth: probe.depth,
                envelope: probe.envelope.clone(),
                login: usable.login.clone(),
            }))
        });
        let changes = gone.chain(set).collect();
        self.probed = names;
        changes
    }

    /// What Jobs are to be made of; nothing while the present spec is not in force.
    pub(super) fn orders<'a>(&'a self, key: &'a ObjectKey, settings: &'a JobSettings) -> Vec<JobParameters<'a>> {
        let object = self.object.as_ref().and_then(Known::readable).filter(|_| self.problem.is_none());
        let (Some(object), Some(backend)) = (object, self.usable.as_deref()) else { return vec![] };
        let specs = object.spec.probes.iter().flatten();
        let with_job = specs.filter_map(|spec| {
            let job = spec.job.as_ref()?;
            let probe = backend.probes.iter().find(|probe| *probe.name == *spec.name)?;
            Some(JobParameters {
                key,
                uid: object.metadata.uid.as_deref().unwrap_or_default(),
                backend,
                probe,
                job,
                ca: resolve::ca_key(key, &object.spec),
                image: &settings.image,
                ehlo_name: settings.ehlo_name.as_deref(),
            })
        });
        with_job.collect()
    }

    /// Which version of it is probed.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// What stops being probed when the backend is forgotten.
    pub(super) fn all_probes_gone(&self, key: &ObjectKey) -> Vec<ProbeChange> {
        self.probed.iter().map(|name| ProbeChange::Remove(probe_key(key, name))).collect()
    }

    /// Takes a round into account. Returns whether anything that status or outputs show may have changed.
    pub(super) fn observe(&mut self, report: &ProbeReport, now: Timestamp) -> bool {
        if report.revision != self.revision {
            return false;
        }
        let was_observed = self.evidence.is_observed();
        let mut changed = self.evidence.observe(report, now) == News::Turned;
        changed |= was_observed != self.evidence.is_observed();
        changed |= self.note_addresses(&report.resolution);
        changed |= self.note_certificate(report);
        changed |= self.note_recipient(report);
        changed
    }

    /// A recipient that is refused counts neither way; while nothing else is known of a probe, people are to see why.
    fn note_recipient(&mut self, report: &ProbeReport) -> bool {
        let (probe, outcome) = (&report.key.probe, &report.outcome);
        if outcome.class == EvidenceClass::RecipientLevel {
            let is_known = self.refused_recipients.contains_key(probe);
            self.refused_recipients.entry(probe.clone()).or_insert_with(|| outcome.message.clone());
            return !is_known;
        }
        outcome.class.effect() != Effect::Neutral && self.refused_recipients.remove(probe).is_some()
    }

    /// An empty or missing answer leaves the last known addresses: whether mail can leave there is for the evidence to say.
    fn note_addresses(&mut self, resolution: &Resolution) -> bool {
        match resolution {
            Resolution::Addresses(addresses) if !addresses.is_empty() && self.resolved.as_ref() != Some(addresses) => {
                self.resolved = Some(addresses.clone());
                true
            }
            Resolution::Addresses(_) | Resolution::NotNeeded | Resolution::Negative(_) | Resolution::Unanswered(_) => {
                false
            }
        }
    }

    fn note_certificate(&mut self, report: &ProbeReport) -> bool {
        let served = report.addresses.iter().filter_map(|at| at.outcome.certificate_not_after).min();
        let Some(not_after) = served else { return false };
        let seen_at = report.finished_at;
        let probe = report.key.probe.clone();
        match self.certificates.get_mut(&probe) {
            Some(known) if known.not_after == not_after => {
                known.seen_at = seen_at;
                false
            }
            Some(known) if known.not_after < not_after && seen_at.since(known.seen_at) < CERTIFICATE_MEMORY => false,
            Some(_) | None => {
                self.certificates.insert(probe, Certificate { not_after, seen_at });
                true
            }
        }
    }

    /// Where outputs may lead for this backend, and whether each address is in working order; `None` while that is not known.
    pub(super) fn addresses(&self, thresholds: Thresholds) -> Option<Vec<(SocketAddr, bool)>> {
        let addresses = match &self.usable.as_deref()?.destination {
            Destination::Service(service) => service.endpoints.clone(),
            Destination::Host(host) => match host.host.parse::<IpAddr>() {
                Ok(address) => vec![SocketAddr::new(address, host.port)],
                Err(_) => self.resolved.clone()?,
            },
        };
        let works = |address| !self.evidence.is_failing_address(thresholds, address);
        Some(addresses.into_iter().map(|address| (address, works(address))).collect())
    }

    /// Why the present spec, or a part of it, is not in force, if so.
    pub(super) fn rejection(&self) -> Option<&Rejection> {
        match &self.problem {
            Some(Unresolved::Rejected(rejection)) => Some(rejection),
            Some(Unresolved::Pending) => None,
            None => self.login_rejection.as_ref(),
        }
    }

    /// Whether something it refers to has not been read yet.
    pub(super) fn is_pending(&self) -> bool {
        self.problem == Some(Unresolved::Pending)
    }

    /// Whether it is, or will soon be, probed and no round of every probe is over yet.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_pending() || (self.usable.is_some() && !self.evidence.is_observed())
    }

    /// What this replica's own probes say of it, for the other replicas: every verdict if one of them is not Healthy, none if nothing is known
    /// of what its present spec says.
    pub(super) fn own_sightings(&self, thresholds: &[(Thresholds, String)], now: Timestamp) -> Option<Verdicts> {
        if self.problem.is_some() || self.usable.is_none() || !self.evidence.is_observed() {
            return Some(Verdicts::new());
        }
        let sighting =
            |(of, text): &(Thresholds, String)| Some((text.as_str().into(), self.evidence.sighting(*of, now)?));
        let verdicts: Verdicts = thresholds.iter().filter_map(sighting).collect();
        verdicts.values().any(|sighting| sighting.health != Health::Healthy).then_some(verdicts)
    }

    /// The health that its status says.
    pub(super) fn health(&self) -> Option<api::Health> {
        self.object.as_ref()?.readable()?.status.as_ref()?.health
    }

    /// These Events are published.
    pub(super) fn events_published(&mut self, names: impl IntoIterator<Item = String>) {
        self.published.extend(names);
    }

    /// A status was written: what is known is now this.
    pub(super) fn status_written(&mut self, resource_version: &str, status: SendingBackendStatus) {
        if let Some(object) = self.object.as_mut().and_then(|known| known.superseded_by(resource_version)) {
            let still: BTreeSet<_> = status.pending_events.iter().map(|event| event.name.clone()).collect();
            self.published.retain(|name| still.contains(name));
            object.status = Some(status);
        }
    }

    /// The next missing step, with the status that it leads to.
    pub(super) fn next_step(
        &self,
        subject: &Subject,
        instance: &str,
        now: Timestamp,
    ) -> Option<(Step, Option<SendingBackendStatus>)> {
        let object = self.object.as_ref()?.readable()?;
        if self.is_pending() || (self.usable.is_some() && self.problem.is_none() && !self.evidence.is_observed()) {
            return None;
        }
        let before = object.status.clone().unwrap_or_default();
        let outstanding: Vec<_> =
            before.pending_events.iter().filter(|event| !self.published.contains(&event.name)).collect();
        if !outstanding.is_empty() {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            let events = outstanding.into_iter().map(|event| events::event(subject, uid, instance, event)).collect();
            return Some((Step::PublishEvents(events), None));
        }
        let status = self.status(subject, object, &before, now);
        let patch = patch(&before, &status)?;
        let resource_version = object.metadata.resource_version.clone().unwrap_or_default();
        Some((Step::WriteStatus { resource_version, patch }, Some(status)))
    }

    fn status(
        &self,
        subject: &Subject,
        object: &SendingBackend,
        before: &SendingBackendStatus,
        now: Timestamp,
    ) -> SendingBackendStatus {
        let generation = object.metadata.generation.unwrap_or_default();
        let worst = self.usable.as_ref().and_then(|_| self.evidence.worst(now));
        let verdict = worst.as_ref().map(|(verdict, _)| verdict);
        let suspended = object.spec.suspended.unwrap_or(false);
        let rejections: Vec<_> = self.rejection().cloned().into_iter().collect();

        let mut conditions = Conditions::new(&before.conditions, generation, now);
        match rejections.first() {
            Some(rejection) => conditions.set("Ready", Some(false), rejection.reason, &joined(&rejections)),
            None => conditions.set("Ready", Some(true), "Observed", "accepted, and observed by every probe"),
        }
        match verdict {
            Some(Verdict { health: Health::Healthy, .. }) => {
                conditions.set("Healthy", Some(true), EvidenceClass::Ok.as_str(), "mail can leave this way");
            }
            Some(Verdict { health: Health::Degraded, class, message, .. }) => {
                let message = format!("mail can leave this way, slower than it should: {message}");
                conditions.set("Healthy", Some(true), class.as_str(), &message);
            }
            Some(Verdict { health: Health::Unhealthy, class, message, .. }) => {
                conditions.set("Healthy", Some(false), class.as_str(), message);
            }
            Some(Verdict { health: Health::Unknown, class: class @ EvidenceClass::ProbeBlocked, message, .. }) => {
                conditions.set("Healthy", None, class.as_str(), message);
            }
            Some(Verdict { health: Health::Unknown, class, .. }) => {
                conditions.set("Healthy", None, class.as_str(), "not enough evidence yet");
            }
            None => conditions.set("Healthy", None, EvidenceClass::Inconclusive.as_str(), "not observed"),
        }
        if rejections.iter().any(Rejection::is_of_spec) {
            conditions.set_stalled(&rejections);
        }

        let mut pending_events: Vec<_> =
            before.pending_events.iter().filter(|event| !self.published.contains(&event.name)).cloned().collect();
        for (telling, note) in self.tellings(before, verdict, suspended) {
            events::push(&mut pending_events, events::pending(subject, telling, now, None, &note));
        }

        let name = Arc::from(DELIVERIES);
        let deliveries = self.evidence.deliveries().filter(|_| worst.is_some()).map(|judgement| (&name, judgement));
        let (r#type, host) = place(&object.spec);
        let (reason, message) = match (verdict, rejections.first()) {
            (Some(verdict), _) => (verdict.class.as_str(), &*verdict.message),
            (None, Some(rejection)) => (rejection.reason, rejection.message.as_str()),
            (None, None) => (EvidenceClass::Inconclusive.as_str(), ""),
        };
        SendingBackendStatus {
            observed_generation: Some(generation),
            r#type,
            host,
            health: Some(api_health(verdict.map_or(Health::Unknown, |verdict| verdict.health))),
            since: verdict.map(|verdict| micro_time(verdict.since)).or_else(|| before.since.clone()),
            reason: Some(reason.to_owned()),
            message: Some(truncated(message, MAX_MESSAGE)).filter(|message| !message.is_empty()),
            certificate_not_after: self.certificates.values().map(|c| c.not_after).min().map(micro_time),
            probes: worst
                .iter()
                .flat_map(|(_, probes)| probes.iter())
                .chain(deliveries)
                .map(|said| self.probe_status(said))
                .collect(),
            pending_events,
            conditions: conditions.build(),
        }
    }

    fn probe_status(&self, (name, judgement): (&Arc<str>, &Judgement)) -> api::ProbeStatus {
        let told = probe_status(name, judgement);
        match self.refused_recipients.get(name) {
            Some(message) if told.reason == EvidenceClass::Inconclusive.as_str() => api::ProbeStatus {
                reason: EvidenceClass::RecipientLevel.as_str().to_owned(),
                message: Some(message.clone()),
                ..told
            },
            Some(_) | None => told,
        }
    }

    /// What people should hear of, compared with what they have been told.
    fn tellings(
        &self,
        before: &SendingBackendStatus,
        verdict: Option<&Verdict>,
        suspended: bool,
    ) -> Vec<(Telling, String)> {
        let mut tellings = vec![];
        if let Some(verdict) = verdict.filter(|_| !suspended) {
            match (before.health, verdict.health) {
                (Some(api::Health::Unhealthy), Health::Healthy | Health::Degraded) => {
                    tellings.push((Telling::BackendRecovered, "mail can leave this way again".to_owned()));
                }
                (
                    None | Some(api::Health::Healthy | api::Health::Degraded | api::Health::Unknown),
                    Health::Unhealthy,
                ) => {
                    let note = format!("{}: {}", verdict.class.as_str(), verdict.message);
                    tellings.push((Telling::BackendUnhealthy, note));
                }
                (
                    None | Some(api::Health::Healthy | api::Health::Degraded | api::Health::Unknown),
                    Health::Healthy | Health::Degraded | Health::Unknown,
                )
                | (Some(api::Health::Unhealthy), Health::Unhealthy | Health::Unknown) => {}
            }
        }
        if let Some(rejection) = self.rejection() {
            let known = !is_true(&before.conditions, "Ready")
                && condition_message(&before.conditions, "Ready") == rejection.message;
            if !known {
                tellings.push((Telling::ConfigurationRejected, rejection.message.clone()));
            }
        }
        tellings
    }
}

/// What it is and where, for people, as the spec has it.
fn place(spec: &api::SendingBackendSpec) -> (Option<BackendType>, Option<String>) {
    match (&spec.smtp, &spec.service) {
        (Some(smtp), _) if smtp.host.contains(':') => {
            (Some(BackendType::Smtp), Some(format!("[{}]:{}", smtp.host, smtp.port)))
        }
        (Some(smtp), _) => (Some(BackendType::Smtp), Some(format!("{}:{}", smtp.host, smtp.port))),
        (None, Some(service)) => {
            (Some(BackendType::Service), Some(format!("{}:{}", service.name, resolve::port_text(&service.port))))
        }
        (None, None) => (None, None),
    }
}

fn probe_key(backend: &ObjectKey, probe: &Arc<str>) -> ProbeKey {
    ProbeKey { backend: backend.clone(), probe: probe.clone() }
}

/// Whether evidence about the one says nothing about the other. Endpoints of a Service come and go; it stays the same way out.
fn is_elsewhere(before: &Destination, after: &Destination) -> bool {
    match (before, after) {
        (Destination::Host(before), Destination::Host(after)) => before != after,
        (Destination::Service(before), Destination::Service(after)) => {
            (&before.dns_name, before.port) != (&after.dns_name, after.port)
        }
        (Destination::Host(_), Destination::Service(_)) | (Destination::Service(_), Destination::Host(_)) => true,
    }
}

fn probe_status(name: &Arc<str>, judgement: &Judgement) -> api::ProbeStatus {
    if let Some(blocked) = judgement.blocked() {
        return api::ProbeStatus {
            name: name.to_string(),
            health: api::Health::Unknown,
            since: micro_time(blocked.since),
            reason: EvidenceClass::ProbeBlocked.as_str().to_owned(),
            message: Some(truncated(&blocked.message, MAX_MESSAGE)),
        };
    }
    api::ProbeStatus {
        name: name.to_string(),
        health: api_health(judgement.health),
        since: micro_time(judgement.since),
        reason: judgement.class.as_str().to_owned(),
        message: Some(truncated(&judgement.message, MAX_MESSAGE)).filter(|message| !message.is_empty()),
    }
}

pub(super) fn api_health(health: Health) -> api::Health {
    match health {
        Health::Healthy => api::Health::Healthy,
        Health::Degraded => api::Health::Degraded,
        Health::Unhealthy => api::Health::Unhealthy,
        Health::Unknown => api::Health::Unknown,
    }
}
