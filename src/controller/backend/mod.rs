//! One `SendingBackend`: from its spec and its evidence to its probes and its status.

mod status;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::cached::Cached;
use super::dependencies::{DependencyCache, WithoutEndpoints};
use super::events::EventReason;
use super::retry::WriteBudget;
use super::turns::Turns;
use crate::observers::Verdicts;
use crate::probe::{Admitted, ProbeTarget, admit, outcome_over};
use crate::probe_job::JobSettings;
use crate::probe_job::manifest::JobParameters;
use mail_failover_api::conditions::reason;
use mail_failover_api::{self as api, SendingBackend, SendingBackendStatus};
use mail_failover_core::engine::{Evidence, Health, News, ObserverVerdict, WholeRound};
use mail_failover_core::model::{
    AddressOutcome, Backend, Destination, Effect, EvidenceClass, NotAfter, ObjectKey, Probe, ProbeDelay, ProbeKey,
    ProbeLogin, ProbeReport, Resolution, ResourceVersion, Stage, Thresholds, Timestamp, Vantage,
};
use mail_failover_resolve::{self as resolve, Rejection, Unresolved};
use mail_failover_runtime::dial_guard::DialGuard;

pub(super) use status::{BackendContext, api_health, is_status_of_present_place};

/// Age after which a certificate that was not served again is replaced by one that expires later.
// Providers serve several certificates under one name.
const CERTIFICATE_MEMORY: Duration = Duration::from_mins(10);
/// Rounds in a row that must be in time before a probe no longer counts as delayed.
const IN_TIME_AGAIN: u32 = 5;

/// State of one backend.
#[derive(Debug, Default)]
pub(super) struct BackendEntry {
    /// `None` once it is deleted.
    // The entry is kept while a route's mail still goes there.
    pub(super) object: Option<Cached<SendingBackend>>,
    /// Its `resourceVersion` when it appeared while we watched; `None` if it was there before us.
    pub(super) appeared_at: Option<ResourceVersion>,
    /// Last good version of the spec.
    pub(super) usable: Option<Arc<Backend>>,
    /// Defect of the present version of the spec.
    problem: Option<Unresolved>,
    /// Reason for which the Service that it names has no endpoints for it; everything else of it is in force.
    service_rejection: Option<Rejection>,
    /// Defect of a part of it, a login or a rule about replies; everything else of it is in force.
    partial_rejection: Option<Rejection>,
    pub(super) evidence: Evidence,
    /// Number of the spec that is probed. Endpoints of a Service do not count: a round under way
    /// goes on while they change.
    revision: u64,
    /// Latest answer of the name service that held addresses.
    resolved: Option<Vec<SocketAddr>>,
    /// Changes of these addresses that outputs may still follow.
    address_budget: Option<WriteBudget>,
    certificates: BTreeMap<Arc<str>, Certificate>,
    /// Name of the Event that warned of an expiry last.
    // After a restart the same warning is published under the same name.
    expiry_warning: Option<String>,
    /// Name of the Event that asked for a person last.
    person_wanted: Option<String>,
    /// Findings of a probe that count neither way, until the probe says anything about the backend again: a refused
    /// recipient, a log-in too many, silence of DNS, a missing route from here.
    refusals: BTreeMap<Arc<str>, (EvidenceClass, String)>,
    probed: BTreeSet<Arc<str>>,
    /// True if a route uses it.
    is_used: bool,
    /// Start of the latest round of each probe that went to its full depth, and what has failed in it.
    whole_rounds: BTreeMap<Arc<str>, (Timestamp, Option<Arc<str>>)>,
    /// Probes that wait for their turn for too long.
    delays: BTreeMap<Arc<str>, Delayed>,
    /// True if the prober knows the present revision and endpoints.
    are_targets_set: bool,
    published: BTreeSet<String>,
    turns: Turns,
}

#[derive(Debug)]
struct Certificate {
    not_after: NotAfter,
    seen_at: Timestamp,
}

/// State of a probe that waited for its turn for too long.
#[derive(Debug)]
struct Delayed {
    /// The first such wait.
    // Later ones differ by seconds, which nobody needs a write for.
    delay: ProbeDelay,
    /// Rounds in a row that were in time since.
    in_time: u32,
}

/// Changes by a round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundNews {
    /// True if anything that status or outputs show may have changed.
    pub(super) is_changed: bool,
    /// True if a backend that answered fails now, before any login.
    pub(super) began_to_fail: bool,
}

/// A change of the probes to make.
#[derive(Clone, Debug)]
pub enum ProbeChange {
    /// Makes a probe, in place of the one that the key stood for before.
    Set(Box<ProbeTarget>),
    /// Ends the probe of this key.
    Remove(ProbeKey),
    /// Looks at once, beside the interval.
    Look(ProbeKey),
}

impl BackendEntry {
    /// Parses the spec again, as one of so many replicas that share what providers count.
    pub(super) fn resolve(&mut self, key: &ObjectKey, lookup: &DependencyCache, replicas: u32, now: Timestamp) {
        let Some(object) = &self.object else { return };
        let resolved = match object.readable_or_rejected() {
            Ok(object) => resolve::backend(key, &object.spec, lookup),
            Err(rejection) => Err(Unresolved::Rejected(rejection)),
        };
        match resolved {
            Ok(backend) => self.adopt(backend.shared_out_among(replicas), None, now),
            Err(Unresolved::Rejected(rejection)) if is_of_service(&rejection) => {
                // The API server itself says that there is nothing behind that name: no endpoints,
                // whatever was known before. ADR-0087: A Service that is gone has no endpoints.
                // Of one that may not be read nothing is known, see `is_unseen`.
                let object = object.readable_or_rejected();
                let presumed = object
                    .map_err(Unresolved::Rejected)
                    .and_then(|object| resolve::backend(key, &object.spec, &WithoutEndpoints(lookup)));
                match presumed {
                    Ok(backend) => self.adopt(backend.shared_out_among(replicas), Some(rejection), now),
                    Err(problem) => self.problem = Some(problem),
                }
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn adopt(&mut self, backend: Backend, service_rejection: Option<Rejection>, now: Timestamp) {
        self.problem = None;
        let (was_missing, was_unseen) = (self.service_rejection.is_some(), self.is_unseen());
        self.service_rejection = service_rejection;
        let is_missing = self.service_rejection.is_some();
        // The endpoints may be the same by then: none.
        self.are_targets_set &= was_unseen == self.is_unseen();
        self.partial_rejection = partial_rejection(&backend);
        let Some(before) = self.usable.as_deref() else {
            self.revision += 1;
            self.are_targets_set = false;
            self.usable = Some(Arc::new(backend));
            return;
        };
        if *before == backend {
            return;
        }
        let is_elsewhere = is_elsewhere(&before.destination, &backend.destination, was_missing || is_missing);
        if is_elsewhere || !is_probed_alike(before, &backend) {
            self.revision += 1;
            self.are_targets_set = false;
        }
        self.are_targets_set &= before.destination == backend.destination;
        if is_elsewhere {
            self.evidence.reset(now);
            self.resolved = None;
            self.certificates.clear();
            self.refusals.clear();
            self.delays.clear();
            self.whole_rounds.clear();
        }
        self.usable = Some(Arc::new(backend));
    }

    /// Sets the thresholds that judge this backend. Returns true if anything changed.
    pub(super) fn track(&mut self, thresholds: &BTreeSet<Thresholds>, now: Timestamp) -> bool {
        let Some(usable) = &self.usable else { return false };
        let probes: Vec<_> = usable.probes.iter().map(|probe| probe.name.clone()).collect();
        self.certificates.retain(|probe, _| probes.contains(probe));
        self.delays.retain(|probe, _| probes.contains(probe));
        self.whole_rounds.retain(|probe, _| probes.contains(probe));
        self.evidence.track(thresholds, &usable.probes, now)
    }

    /// Notes if a route uses it. Returns true if that is new.
    pub(super) fn set_used(&mut self, is_used: bool) -> bool {
        std::mem::replace(&mut self.is_used, is_used) != is_used
    }

    /// Returns true if a route uses it.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Keys of its probes in this process.
    pub(super) fn probe_keys<'a>(&'a self, key: &'a ObjectKey) -> impl Iterator<Item = ProbeKey> + use<'a> {
        self.probed.iter().map(|name| probe_key(key, name))
    }

    /// Notes that the prober has to be told of the probes again, although they are the same.
    pub(super) fn tell_targets_again(&mut self) {
        self.are_targets_set = false;
    }

    /// The probes to set or remove for the present revision and endpoints.
    pub(super) fn probe_changes(&mut self, key: &ObjectKey) -> Vec<ProbeChange> {
        let Some(usable) = self.usable.clone() else { return vec![] };
        if std::mem::replace(&mut self.are_targets_set, true) {
            return vec![];
        }
        // A probe of what may not be seen would find no endpoint, and call that a failure.
        let seen = usable.probes.iter().filter(|_| !self.is_unseen());
        let own: Vec<_> = seen.filter(|probe| probe.vantage == Vantage::Operator).collect();
        let names: BTreeSet<_> = own.iter().map(|probe| probe.name.clone()).collect();
        let mut changes: Vec<_> =
            self.probed.difference(&names).map(|name| ProbeChange::Remove(probe_key(key, name))).collect();
        changes.extend(own.into_iter().map(|probe| ProbeChange::Set(Box::new(self.target(key, &usable, probe)))));
        self.probed = names;
        changes
    }

    fn target(&self, key: &ObjectKey, usable: &Backend, probe: &Probe) -> ProbeTarget {
        ProbeTarget {
            key: probe_key(key, &probe.name),
            revision: self.revision,
            destination: usable.destination.clone(),
            tls: usable.tls.clone(),
            interval: probe.interval,
            timeout: probe.timeout,
            depth: probe.depth,
            envelope: probe.envelope.clone(),
            login: usable.login.clone(),
            replies: usable.replies.clone(),
            is_used: self.is_used,
            confirmation: self.evidence.confirmation_rule(probe.interval),
            idle_session: probe.idle_session,
        }
    }

    /// The Jobs of its probes; none while the present spec is not in force.
    pub(super) fn orders<'a>(
        &'a self,
        key: &'a ObjectKey,
        settings: &'a JobSettings,
        guard: &'a DialGuard,
    ) -> Vec<JobParameters<'a>> {
        let cached = self.object.as_ref().filter(|_| self.problem.is_none() && self.service_rejection.is_none());
        let object = cached.and_then(|cached| Some((cached.uid(), cached.readable()?)));
        let (Some((uid, object)), Some(backend)) = (object, self.usable.as_deref()) else { return vec![] };
        let mut orders = vec![];
        for spec in object.spec.probes.iter().flatten() {
            let probe = backend.probes.iter().find(|probe| *probe.name == *spec.name);
            if let (Some(job), Some(probe)) = (&spec.job, probe) {
                orders.push(JobParameters {
                    key,
                    uid: uid.as_str(),
                    backend,
                    probe,
                    job,
                    ca: resolve::ca_key(key, &object.spec),
                    image: &settings.image,
                    ehlo_name: settings.ehlo_name.as_deref(),
                    guard,
                });
            }
        }
        orders
    }

    /// Takes note of its health, for people who are told how often it has turned.
    pub(super) fn note_health(&mut self, now: Timestamp) {
        let worst = self.evidence.worst(now);
        self.turns.note(now, worst.map_or(Health::Unknown, |(verdict, _)| verdict.health));
    }

    /// Number of the spec that is probed; it grows with every change that concerns probes.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The end of all its probes.
    pub(super) fn all_probes_gone(&self, key: &ObjectKey) -> Vec<ProbeChange> {
        self.probed.iter().map(|name| ProbeChange::Remove(probe_key(key, name))).collect()
    }

    /// Takes a round into account.
    pub(super) fn observe(&mut self, report: &ProbeReport, now: Timestamp) -> RoundNews {
        if report.revision != self.revision {
            return RoundNews::default();
        }
        let Some(report) = self.about_present_endpoints(report) else { return RoundNews::default() };
        let report = &*report;
        let was_observed = self.evidence.is_observed();
        let news = self.evidence.observe(report, now);
        let mut changed = news == News::Turned;
        changed |= was_observed != self.evidence.is_observed();
        changed |= self.note_addresses(&report.resolution, now);
        changed |= self.note_certificate(report);
        changed |= self.note_refusal(report);
        changed |= self.note_delay(report);
        self.note_whole_round(report);
        // A look at another backend goes no further than to the login, and would say nothing about what fails from there on.
        let is_failure = report.outcome.class.effect() == Effect::Failure && report.outcome.stage < Stage::Auth;
        RoundNews { is_changed: changed, began_to_fail: is_failure && matches!(news, News::Doubted | News::Turned) }
    }

    /// The part of a round that is about endpoints that are still there; `None` if there is none.
    // A server that hangs while its endpoints change would otherwise never be seen to hang. Silence
    // at every address counts even if all of them are gone: it took a whole deadline, and nobody
    // knows what the new ones do.
    fn about_present_endpoints<'a>(&self, report: &'a ProbeReport) -> Option<Cow<'a, ProbeReport>> {
        let Some(Destination::Service(service)) = self.usable.as_deref().map(|backend| &backend.destination) else {
            return Some(Cow::Borrowed(report));
        };
        let is_present = |at: &AddressOutcome| service.endpoints.contains(&at.address);
        let is_silence = report.addresses.iter().all(|at| at.outcome.class == EvidenceClass::NoAnswer);
        if report.addresses.iter().all(is_present) {
            return Some(Cow::Borrowed(report));
        }
        let addresses: Vec<_> = report.addresses.iter().filter(|at| is_present(at)).cloned().collect();
        let outcome = if is_silence { Some(report.outcome.clone()) } else { outcome_over(&addresses) };
        Some(Cow::Owned(ProbeReport { outcome: outcome?, addresses, ..report.clone() }))
    }

    /// Keeps the reply that refused a recipient, or a log-in as one too many, or the reason why nothing could be found.
    // It counts neither way, but people should see it while nothing else is known of the probe.
    fn note_refusal(&mut self, report: &ProbeReport) -> bool {
        let (probe, outcome) = (&report.key.probe, &report.outcome);
        if report.is_extra {
            return false;
        }
        let is_of_login = outcome.class == EvidenceClass::Throttled && outcome.stage == Stage::Auth;
        let counts_neither_way =
            is_of_login || matches!(outcome.class, EvidenceClass::RecipientLevel | EvidenceClass::Inconclusive);
        if counts_neither_way {
            // The first words stay, so that no status follows every round; another kind of finding replaces them.
            let is_known = self.refusals.get(probe).is_some_and(|(class, _)| *class == outcome.class);
            if !is_known {
                self.refusals.insert(probe.clone(), (outcome.class, outcome.message.clone()));
            }
            return !is_known;
        }
        outcome.class.effect() != Effect::Neutral && self.refusals.remove(probe).is_some()
    }

    /// Keeps the latest round that went to the full depth of its probe.
    fn note_whole_round(&mut self, report: &ProbeReport) {
        let ProbeReport { key, outcome, started_at, is_extra, .. } = report;
        let failure = match outcome.class.effect() {
            _ if *is_extra => return,
            Effect::Neutral => return,
            Effect::Success => None,
            Effect::Failure => Some(format!("{}: {}", outcome.class.as_str(), outcome.message).into()),
        };
        self.whole_rounds.insert(key.probe.clone(), (*started_at, failure));
    }

    /// The latest round of each probe that went to its full depth.
    pub(super) fn whole_rounds(&self) -> Vec<WholeRound> {
        let probes = self.usable.iter().flat_map(|usable| &usable.probes);
        let rounds = probes.map(|probe| WholeRound {
            probe: probe.name.clone(),
            period: match probe.vantage {
                // The shift of rounds is a twentieth of the interval.
                Vantage::Operator => probe.interval + probe.interval / 10 + probe.timeout,
                // Every replica hears of the same Job.
                Vantage::Job => Duration::ZERO,
            },
            latest: self.whole_rounds.get(&probe.name).cloned(),
        });
        rounds.collect()
    }

    /// Keeps that a probe waits for its turn, until some rounds in a row were in time.
    fn note_delay(&mut self, report: &ProbeReport) -> bool {
        let probe = &report.key.probe;
        match (report.delay, self.delays.get_mut(probe)) {
            (Some(_), Some(delayed)) => {
                delayed.in_time = 0;
                false
            }
            (Some(delay), None) => {
                self.delays.insert(probe.clone(), Delayed { delay, in_time: 0 });
                true
            }
            (None, Some(delayed)) => {
                delayed.in_time += 1;
                let is_over = delayed.in_time >= IN_TIME_AGAIN;
                if is_over {
                    self.delays.remove(probe);
                }
                is_over
            }
            (None, None) => false,
        }
    }

    /// Keeps the addresses of an answer. An empty or missing answer leaves the last known ones.
    // ADR-0009: Addresses follow DNS exactly.
    // The evidence, not the name service, says if mail can leave there.
    /// Answers that rotate are followed in a burst, then once a minute; all are followed while the backend is Unhealthy.
    // Every address of such answers works. Whoever has failed may have been replaced.
    fn note_addresses(&mut self, resolution: &Resolution, now: Timestamp) -> bool {
        match resolution {
            Resolution::Addresses(addresses) if !addresses.is_empty() && self.resolved.as_ref() != Some(addresses) => {
                let is_dead = self.evidence.worst(now).is_some_and(|(verdict, _)| verdict.health == Health::Unhealthy);
                let budget = self.address_budget.get_or_insert_with(|| WriteBudget::of_addresses(now));
                if budget.take(now).is_err() && !is_dead {
                    return false;
                }
                self.resolved = Some(addresses.clone());
                true
            }
            Resolution::Addresses(_)
            | Resolution::NotNeeded
            | Resolution::Negative(_)
            | Resolution::Unanswered(_)
            | Resolution::NameSilent(_) => false,
        }
    }

    fn note_certificate(&mut self, report: &ProbeReport) -> bool {
        let served = report.addresses.iter().filter_map(|at| at.outcome.certificate_not_after.as_ref()).min();
        // A Job reports its round as a whole.
        let Some(not_after) = served.or(report.outcome.certificate_not_after.as_ref()).cloned() else { return false };
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

    /// The addresses that outputs may lead to, and those that they may not; `None` while they are not known.
    // ADR-0107: Outputs lead nowhere that probes may not go.
    pub(super) fn addresses(&self, guard: &DialGuard) -> Option<Admitted> {
        if self.is_unseen() {
            return None;
        }
        let destination = &self.usable.as_deref()?.destination;
        let addresses = match destination {
            Destination::Service(service) => service.endpoints.clone(),
            Destination::Host(host) => match host.host.parse::<IpAddr>() {
                Ok(address) => vec![SocketAddr::new(address, host.port)],
                Err(_) => self.resolved.clone()?,
            },
        };
        Some(admit(guard, destination, &addresses))
    }

    /// The addresses, each with true if it works.
    pub(super) fn working(&self, addresses: &[SocketAddr], thresholds: Thresholds) -> Vec<(SocketAddr, bool)> {
        let mut working = vec![];
        for address in addresses {
            working.push((*address, !self.evidence.is_failing_address(thresholds, *address)));
        }
        working
    }

    /// Returns true if its Service exists, or it names none.
    // Without it the port is not known under which clients reach the backend.
    pub(super) fn is_place_known(&self) -> bool {
        self.service_rejection.is_none()
    }

    /// Returns true if its Service or the endpoints of that may not be read: it is not probed, and nothing is known of it.
    pub(super) fn is_unseen(&self) -> bool {
        self.service_rejection.as_ref().is_some_and(|rejection| rejection.reason == reason::SERVICE_UNREADABLE)
    }

    /// Reason for which the present spec, or a part of it, is not in force.
    pub(super) fn rejection(&self) -> Option<&Rejection> {
        match &self.problem {
            Some(Unresolved::Rejected(rejection)) => Some(rejection),
            Some(Unresolved::Pending) => None,
            None => self.service_rejection.as_ref().or(self.partial_rejection.as_ref()),
        }
    }

    /// Returns true if an object that it refers to has not been read yet.
    pub(super) fn is_pending(&self) -> bool {
        self.problem == Some(Unresolved::Pending)
    }

    /// Returns true if it is or will soon be probed, and some probe has not ended its first round.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_pending() || (self.usable.is_some() && !self.is_unseen() && !self.evidence.is_observed())
    }

    /// The verdicts of this replica's own probes, for its peers: all if one of them is not Healthy, or there is a run at a
    /// probe that the replicas share out; empty while the
    /// present spec is not observed; `None` if all are Healthy.
    // ADR-0030: Evidence from peers is never passed on.
    pub(super) fn own_verdicts(&self, thresholds: &[(Thresholds, String)], now: Timestamp) -> Option<Verdicts> {
        if self.problem.is_some() || self.usable.is_none() || !self.evidence.is_observed() {
            return Some(Verdicts::new());
        }
        let mut verdicts = Verdicts::new();
        for (of, text) in thresholds {
            if let Some(verdict) = self.evidence.own_verdict(*of, now) {
                verdicts.insert(text.as_str().into(), verdict);
            }
        }
        // What the replicas share out they also count together.
        let is_news = |verdict: &ObserverVerdict| verdict.health != Health::Healthy || !verdict.runs.is_empty();
        verdicts.values().any(is_news).then_some(verdicts)
    }

    /// The health in its cached status.
    pub(super) fn health(&self) -> Option<api::Health> {
        self.object.as_ref()?.readable()?.status.as_ref()?.health
    }

    /// Takes note of Events that were published.
    pub(super) fn events_published(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if name.ends_with(&EventReason::CertificateExpiring.as_str().to_lowercase()) {
                self.expiry_warning = Some(name.clone());
            }
            if name.ends_with(&EventReason::TrialWanted.as_str().to_lowercase()) {
                self.person_wanted = Some(name.clone());
            }
            self.published.insert(name);
        }
    }

    /// Takes over a status that was written.
    pub(super) fn status_written(&mut self, resource_version: &ResourceVersion, status: SendingBackendStatus) {
        if let Some(object) = self.object.as_mut().and_then(|cached| cached.superseded_by(resource_version)) {
            let still: BTreeSet<_> = status.pending_events.iter().map(|event| event.name.clone()).collect();
            self.published.retain(|name| still.contains(name));
            object.status = Some(status);
        }
    }
}

/// Returns true if a rejection is about the Service that a backend names.
fn is_of_service(rejection: &Rejection) -> bool {
    let reasons = [
        reason::SERVICE_NOT_FOUND,
        reason::SERVICE_PORT_NOT_FOUND,
        reason::SERVICE_IS_EXTERNAL_NAME,
        reason::SERVICE_UNREADABLE,
    ];
    reasons.contains(&rejection.reason)
}

/// The parts of a backend that are not in force.
fn partial_rejection(backend: &Backend) -> Option<Rejection> {
    let rules = (!backend.replies.rejected.is_empty())
        .then(|| Rejection { reason: reason::INVALID_REPLY_RULE, message: backend.replies.rejected.join("; ") });
    match (&backend.login, rules) {
        (ProbeLogin::Missing { reason: _, message }, Some(rules)) => {
            Some(Rejection { message: format!("{}; {message}", rules.message), ..rules })
        }
        (ProbeLogin::Missing { reason, message }, None) => Some(Rejection { reason, message: message.to_string() }),
        (ProbeLogin::None | ProbeLogin::With(_), rules) => rules,
    }
}

/// Returns true if two versions of a backend at the same place are probed in the same way.
fn is_probed_alike(a: &Backend, b: &Backend) -> bool {
    a.tls == b.tls && a.login == b.login && a.probes == b.probes && a.replies == b.replies
}

fn probe_key(backend: &ObjectKey, probe: &Arc<str>) -> ProbeKey {
    ProbeKey { backend: backend.clone(), probe: probe.clone() }
}

/// Returns true if evidence about one destination says nothing about the other.
// A Service stays the same destination while its endpoints change, and while it or its port is gone for a time.
fn is_elsewhere(before: &Destination, after: &Destination, is_port_unknown: bool) -> bool {
    match (before, after) {
        (Destination::Host(before), Destination::Host(after)) => before != after,
        (Destination::Service(before), Destination::Service(after)) => {
            before.dns_name != after.dns_name || (before.port != after.port && !is_port_unknown)
        }
        (Destination::Host(_), Destination::Service(_)) | (Destination::Service(_), Destination::Host(_)) => true,
    }
}
