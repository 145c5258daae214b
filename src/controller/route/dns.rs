//! The DNS records of one route: where each zone is to lead, the next attempt, and what was said of it.
//!
//! An attempt looks at the zone, changes it if it is not as it should be, and looks at every authority. The same attempt
//! is repeated from time to time, so that what somebody else has changed is put right; in a steady state it writes
//! nothing. One attempt of an output is under way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Claimed, RouteContext, RouteEntry};
use crate::dns::{DnsAccess, DnsError, DnsRequest, Led};
use mail_failover_api::conditions::reason;
use mail_failover_api::{MailRouteStatus, OutputFailure, OutputShare, OutputStatus};
use mail_failover_core::engine::Memory;
use mail_failover_core::model::{DnsOutput, DnsProvider, Route, Timestamp, TrustAnchors, Uid};
use mail_failover_dns::mark::Owner;
use mail_failover_dns::plan::summary;
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::{micro_time, timestamp};
use mail_failover_resolve::{ReadProblem, Rejection, dns_ca_key};
use mail_failover_runtime::backoff::Backoff;

/// The `kind` of DNS records in `status.outputs`.
pub(in crate::controller) const KIND: &str = "DNS";
/// Time that attempts fail before people are told.
// A restart of a server, and a slow secondary, take less.
const FAILING_AFTER: Duration = Duration::from_secs(30);
/// The same where external-dns publishes the records.
// It looks once a minute by default.
const UNTAKEN_AFTER: Duration = Duration::from_mins(3);
/// The same where a provider publishes them.
const PROPAGATED_AFTER: Duration = Duration::from_mins(2);
/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Longest pause that a provider may ask for.
const LONGEST_ASKED: Duration = Duration::from_mins(10);
/// Pause before the next look at records that are in place, by up to a fifth more.
const LOOK_EVERY: Duration = Duration::from_secs(50);
/// Number of looks in a row that find the records changed before people are told.
const REPAIRS_TOLD: u32 = 3;
/// The schema's bound on records in status, in bytes.
const MAX_RECORDS: usize = 512;

/// DNS outputs of a route, by name.
#[derive(Debug, Default)]
pub(in crate::controller) struct DnsRecords {
    progress: BTreeMap<Arc<str>, DnsProgress>,
    /// Attempts to begin now.
    planned: Vec<PlannedDnsCall>,
}

/// Progress of one output.
#[derive(Debug)]
struct DnsProgress {
    wanted: Option<WantedRecords>,
    applied: Option<AppliedRecords>,
    /// The attempt under way.
    under_way: Option<SentRecords>,
    failure: Option<DnsFailure>,
    backoff: Backoff,
    /// Time of the next look; `None` for at once.
    look_at: Option<Timestamp>,
    /// True if records were seen that are not the wanted ones, and the latest attempt has not put that right.
    is_contradicted: bool,
    /// Number of looks in a row that found the records changed.
    repairs: u32,
}

/// Records that a zone is to have.
#[derive(Clone, Debug, PartialEq)]
struct WantedRecords {
    backend: Arc<str>,
    summary: String,
    output: Arc<DnsOutput>,
}

/// Records that every authority has been seen to have.
#[derive(Clone, Debug)]
struct AppliedRecords {
    backend: Arc<str>,
    summary: String,
    at: Timestamp,
}

/// Records that an attempt under way is for.
#[derive(Debug)]
struct SentRecords {
    number: u64,
    records: WantedRecords,
}

#[derive(Debug)]
struct DnsFailure {
    since: Timestamp,
    message: String,
    reason: &'static str,
    /// End of the pause after it; `None` while it waits for an object.
    retry_at: Option<Timestamp>,
}

/// An attempt to begin.
#[derive(Debug)]
pub(in crate::controller) struct PlannedDnsCall {
    pub(in crate::controller) request: DnsRequest,
    records: WantedRecords,
}

/// State of all DNS outputs of a route.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DnsState {
    /// The records are those of the active backend, or there is nothing to lead yet.
    Applied {
        /// Longest time for which caches may keep the records before.
        ttl: Duration,
        /// True if every authority has been seen to answer with them; what external-dns publishes is not always looked at.
        is_seen: bool,
    },
    /// Names of outputs of which that has not been seen.
    Pending(Vec<String>),
    /// Outputs that have failed for a while.
    Failing(Vec<Rejection>),
}

impl Default for DnsProgress {
    fn default() -> Self {
        Self {
            wanted: None,
            applied: None,
            under_way: None,
            failure: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            look_at: None,
            is_contradicted: false,
            repairs: 0,
        }
    }
}

impl DnsProgress {
    /// The progress that a status remembers.
    fn restored(status: &OutputStatus) -> Self {
        let applied = status.applied.clone().zip(status.applied_at.as_ref()).map(|(summary, at)| AppliedRecords {
            backend: status.active.first().map(|share| share.backend.as_str()).unwrap_or_default().into(),
            summary,
            at: timestamp(at),
        });
        let failure = status.failure.as_ref().map(|failure| DnsFailure {
            since: timestamp(&failure.since),
            message: failure.message.clone(),
            reason: reason::DNS_FAILING,
            retry_at: None,
        });
        let is_contradicted = failure.is_some();
        Self { applied, failure, is_contradicted, ..Self::default() }
    }

    fn is_applied(&self) -> bool {
        let Some(wanted) = &self.wanted else { return true };
        let is_seen = self.applied.as_ref().is_some_and(|applied| applied.summary == wanted.summary);
        is_seen && !self.is_contradicted
    }

    /// Notes that every authority has been seen to have these records.
    fn succeed(&mut self, now: Timestamp, records: WantedRecords, is_changed: bool, look_at: Option<Timestamp>) {
        let is_known = self.applied.as_ref().is_some_and(|known| known.summary == records.summary);
        let WantedRecords { backend, summary, output: _ } = records;
        if !is_known || is_changed {
            self.applied = Some(AppliedRecords { backend, summary, at: now });
        }
        self.repairs = if is_known && is_changed { self.repairs.saturating_add(1) } else { 0 };
        self.failure = None;
        self.is_contradicted = false;
        self.look_at = look_at;
        if self.repairs >= REPAIRS_TOLD {
            let message = format!(
                "somebody else keeps changing the records: {} looks in a row have found others; give each operator an --dns-owner of its own, and let nobody else write them",
                self.repairs
            );
            self.fail(now, reason::DNS_CONFLICT, &message, look_at);
        }
    }

    fn fail(&mut self, now: Timestamp, reason: &'static str, message: &str, retry_at: Option<Timestamp>) {
        let since = self.failure.as_ref().map_or(now, |failure| failure.since);
        self.failure = Some(DnsFailure { since, message: truncated(message, MAX_MESSAGE), reason, retry_at });
    }

    /// Returns true if nothing is to be done or told until the next look.
    fn is_settled(&self) -> bool {
        self.is_applied() && self.failure.is_none()
    }

    /// Returns true if people are to be told of the failure.
    fn is_told(&self, now: Timestamp) -> bool {
        let after = self.failing_after();
        self.failure.as_ref().is_some_and(|failure| {
            // What somebody else owns does not go away by waiting, nor does what is not installed.
            matches!(failure.reason, reason::DNS_CONFLICT | reason::DNS_ENDPOINT_UNAVAILABLE)
                || failure.since + after <= now
        })
    }

    /// Time that attempts fail before people are told.
    fn failing_after(&self) -> Duration {
        match self.wanted.as_ref().map(|wanted| &wanted.output.provider) {
            Some(DnsProvider::ExternalDns(_)) => UNTAKEN_AFTER,
            // Its name servers may follow a minute after its API.
            Some(DnsProvider::Api(_)) => PROPAGATED_AFTER,
            Some(DnsProvider::Rfc2136(_)) | None => FAILING_AFTER,
        }
    }

    fn status(&self, output: &DnsOutput) -> OutputStatus {
        let applied = self.applied.as_ref();
        let active = applied.map(|applied| OutputShare { backend: applied.backend.to_string(), percent: 100 });
        OutputStatus {
            kind: KIND.to_owned(),
            name: output.name.to_string(),
            active: active.into_iter().collect(),
            destination: Some(truncated(&destination(output), 300)),
            wanted: self.wanted.as_ref().map(|wanted| wanted.summary.clone()),
            applied: applied.map(|applied| applied.summary.clone()),
            applied_at: applied.map(|applied| micro_time(applied.at)),
            failure: self.failure.as_ref().map(|failure| OutputFailure {
                since: micro_time(failure.since),
                message: failure.message.clone(),
                not_before: None,
            }),
        }
    }

    /// The end of the pause before the next attempt; `None` if it may begin now.
    fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = match &self.failure {
            Some(failure) => failure.retry_at,
            None => self.look_at,
        };
        until.filter(|until| *until > now)
    }
}

impl DnsRecords {
    /// Notes where each zone is to lead after a decision, and forgets outputs that left the spec.
    pub(super) fn want(&mut self, route: &Route, memory: &Memory, before: Option<&MailRouteStatus>) {
        self.progress.retain(|name, _| route.dns.iter().any(|output| output.name == *name));
        let backend = largest(memory);
        for output in &route.dns {
            let progress = self.progress.entry(output.name.clone()).or_insert_with(|| {
                let outputs = before.into_iter().flat_map(|before| &before.outputs);
                let mut remembered = outputs.filter(|one| one.kind == KIND && *one.name == *output.name);
                remembered.next().map(DnsProgress::restored).unwrap_or_default()
            });
            let Some(backend) = &backend else { continue };
            let is_known =
                progress.wanted.as_ref().is_some_and(|known| known.backend == *backend && *known.output == *output);
            if !is_known {
                let summary = status_text(&summary(output, backend));
                progress.wanted =
                    Some(WantedRecords { backend: backend.clone(), summary, output: Arc::new(output.clone()) });
                // A new decision waits for no pause.
                progress.look_at = None;
                progress.repairs = 0;
                progress.backoff.reset();
                if let Some(failure) = &mut progress.failure {
                    failure.retry_at = None;
                }
            }
        }
    }

    /// Plans the attempts to begin now. Returns the time at which more may be possible, or is to be told.
    pub(super) fn plan(&mut self, cx: &RouteContext<'_>, uid: &Uid, route: &Route) -> Option<Timestamp> {
        self.planned.clear();
        let mut next_timeout: Option<Timestamp> = None;
        for output in &route.dns {
            let Some(progress) = self.progress.get_mut(&output.name) else { continue };
            let told_at = progress.failure.as_ref().map(|failure| failure.since + progress.failing_after());
            let told_at = told_at.filter(|at| *at > cx.now);
            let paused_until = progress.paused_until(cx.now);
            next_timeout = next_timeout.into_iter().chain(told_at).chain(paused_until).min();
            if progress.under_way.is_some() || paused_until.is_some() {
                continue;
            }
            let Some(records) = progress.wanted.clone() else { continue };
            match access(cx, uid, output) {
                Ok(Some(access)) => {
                    let owner = Owner { operator: cx.dns_owner.clone(), route: cx.resource.key.clone() };
                    let request =
                        DnsRequest { output: records.output.clone(), backend: records.backend.clone(), owner, access };
                    self.planned.push(PlannedDnsCall { request, records });
                }
                Ok(None) => {}
                Err(Rejection { reason, message }) => {
                    progress.is_contradicted |= reason == reason::DNS_CONFLICT;
                    // Repeated when the Secret is read again, or another route has changed.
                    progress.fail(cx.now, reason, &message, None);
                }
            }
        }
        next_timeout
    }

    /// Takes the attempts to begin now.
    pub(in crate::controller) fn take_planned(&mut self) -> Vec<PlannedDnsCall> {
        std::mem::take(&mut self.planned)
    }

    /// Notes that an attempt has begun.
    pub(in crate::controller) fn begun(&mut self, number: u64, call: &PlannedDnsCall) {
        if let Some(progress) = self.progress.get_mut(&call.records.output.name) {
            progress.under_way = Some(SentRecords { number, records: call.records.clone() });
        }
    }

    /// Notes the end of an attempt. `random` is a number from 0 to 1.
    pub(in crate::controller) fn ended(
        &mut self,
        now: Timestamp,
        random: f64,
        number: u64,
        output: &str,
        outcome: &Result<Led, DnsError>,
    ) {
        let Some(progress) = self.progress.get_mut(output) else { return };
        let Some(sent) = progress.under_way.take_if(|sent| sent.number == number) else { return };
        let is_latest = progress.wanted.as_ref() == Some(&sent.records);
        let retry_at = is_latest.then(|| now + progress.backoff.after_failure_with(random));
        let asked = outcome.as_ref().err().and_then(DnsError::retry_after).map(|pause| now + pause.min(LONGEST_ASKED));
        let retry_at = retry_at.map(|at| asked.map_or(at, |asked| asked.max(at)));
        match outcome {
            Ok(led) if led.late.is_empty() => {
                progress.backoff.reset();
                let look_at = is_latest.then(|| now + LOOK_EVERY.mul_f64(1.0 + 0.2 * random));
                progress.succeed(now, sent.records, led.is_changed, look_at);
            }
            Ok(led) => {
                progress.is_contradicted = true;
                progress.fail(now, reason::DNS_FAILING, &led.late.join("; "), retry_at);
            }
            Err(error @ (DnsError::Conflict(_) | DnsError::Occupied(_))) => {
                progress.is_contradicted = true;
                progress.fail(now, reason::DNS_CONFLICT, &error.to_string(), retry_at);
            }
            Err(error @ (DnsError::NoDefinition | DnsError::Forbidden { .. })) => {
                progress.fail(now, reason::DNS_ENDPOINT_UNAVAILABLE, &error.to_string(), retry_at);
            }
            // What the zone says is not known, or as good as before.
            Err(error) => progress.fail(now, reason::DNS_FAILING, &error.to_string(), retry_at),
        }
    }

    /// The entries of `status.outputs`.
    pub(super) fn statuses(&self, route: &Route) -> Vec<OutputStatus> {
        let mut statuses = vec![];
        for output in &route.dns {
            if let Some(progress) = self.progress.get(&output.name) {
                statuses.push(progress.status(output));
            }
        }
        statuses
    }

    /// The state of all outputs, or of those that are awaited only.
    pub(super) fn state(&self, route: &Route, now: Timestamp, is_awaited_only: bool) -> DnsState {
        let (mut pending, mut failing, mut ttl, mut is_seen) = (vec![], vec![], 0, true);
        for output in route.dns.iter().filter(|output| output.is_awaited || !is_awaited_only) {
            ttl = ttl.max(output.ttl);
            is_seen &= !matches!(output.provider, DnsProvider::ExternalDns(_)) || !output.authorities.is_empty();
            let Some(progress) = self.progress.get(&output.name) else { continue };
            if progress.is_settled() || (is_awaited_only && progress.is_applied()) {
                continue;
            }
            match progress.failure.as_ref().filter(|_| progress.is_told(now)) {
                Some(failure) => {
                    let field = format!("spec.outputs[].dns ({})", output.name);
                    failing.push(Rejection::new(failure.reason, &field, &failure.message));
                }
                // A look that fails once says nothing about the records.
                None if progress.is_applied() => {}
                None => pending.push(output.name.to_string()),
            }
        }
        match (failing.is_empty(), pending.is_empty()) {
            (false, _) => DnsState::Failing(failing),
            (true, false) => DnsState::Pending(pending),
            (true, true) => DnsState::Applied { ttl: Duration::from_secs(u64::from(ttl)), is_seen },
        }
    }
}

/// The backend with the largest share, the first of equals; `None` while nobody may carry the mail. Records stay as they
/// are then.
// ADR-0141: Records outlive the route, and a route that nobody may carry.
fn largest(memory: &Memory) -> Option<Arc<str>> {
    let largest = memory.shares.iter().rev().max_by_key(|share| share.percent);
    largest.map(|share| share.backend.clone())
}

/// Records within the bound of the schema. What is cut off is told apart by a number.
fn status_text(summary: &str) -> String {
    if summary.len() <= MAX_RECORDS {
        return summary.to_owned();
    }
    // FNV-1a.
    let hash = summary.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{} #{hash:08x}", truncated(summary, MAX_RECORDS - 10))
}

/// Destination of an output, for people.
fn destination(output: &DnsOutput) -> String {
    match &output.provider {
        DnsProvider::Rfc2136(updates) => updates.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        DnsProvider::ExternalDns(object) => format!("DNSEndpoint {}", object.name),
        DnsProvider::Api(api) => api.service.url().to_owned(),
    }
}

/// Publisher of the records of an output, with the credentials for it; `None` while an object that it needs has not been
/// read yet.
fn access(cx: &RouteContext<'_>, uid: &Uid, output: &DnsOutput) -> Result<Option<DnsAccess>, Rejection> {
    match &output.provider {
        DnsProvider::Rfc2136(updates) => {
            let secret = cx.resource.key.sibling(updates.secret.clone());
            match cx.dependencies.secret(&secret) {
                Ok(key) => Ok(Some(DnsAccess::Updates(updates.clone(), key))),
                Err(ReadProblem::Pending) => Ok(None),
                Err(problem) => {
                    Err(unreadable("rfc2136.tsigSecretRef", &format!("Secret {}", updates.secret), &problem))
                }
            }
        }
        DnsProvider::Api(api) => {
            let secret = match cx.dependencies.secret(&cx.resource.key.sibling(api.secret.clone())) {
                Ok(secret) => secret,
                Err(ReadProblem::Pending) => return Ok(None),
                Err(problem) => {
                    return Err(unreadable("api.secretRef", &format!("Secret {}", api.secret), &problem));
                }
            };
            let trust = match dns_ca_key(&cx.resource.key, output) {
                None => TrustAnchors::WellKnown,
                Some(ca) => match cx.dependencies.webhook_ca(&ca) {
                    Ok(pem) => TrustAnchors::Pem(pem),
                    Err(ReadProblem::Pending) => return Ok(None),
                    Err(problem) => {
                        let object = format!("key {} of {} {}", ca.data_key, ca.kind.as_str(), ca.object.name);
                        return Err(unreadable("api.caRef", &object, &problem));
                    }
                },
            };
            Ok(Some(DnsAccess::Api(api.clone(), secret, trust)))
        }
        DnsProvider::ExternalDns(object) => match (cx.dns_rival)(output) {
            Some(Claimed { set, rival }) => {
                let message = format!(
                    "{set} is led by MailRoute {rival}, which is older; choose another name, or delete that output"
                );
                Err(Rejection { reason: reason::DNS_CONFLICT, message })
            }
            None => Ok(Some(DnsAccess::Endpoint(object.clone(), uid.clone()))),
        },
    }
}

fn unreadable(field: &str, object: &str, problem: &ReadProblem) -> Rejection {
    let reason = match problem {
        ReadProblem::Pending | ReadProblem::NotFound => reason::SECRET_NOT_FOUND,
        ReadProblem::Malformed(_) => reason::SECRET_MALFORMED,
        ReadProblem::Unreadable(_) => reason::SECRET_UNREADABLE,
    };
    Rejection { reason, message: format!("{field}: {object}: {problem}") }
}

impl RouteEntry {
    /// Forgets what this process remembers of DNS records: another leader may have gone on.
    pub(in crate::controller) fn forget_dns(&mut self) {
        self.dns = DnsRecords::default();
    }

    /// The DNS records, for the attempts that begin and end.
    pub(in crate::controller) fn dns_mut(&mut self) -> &mut DnsRecords {
        &mut self.dns
    }
}
