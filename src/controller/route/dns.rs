//! The DNS records of one route: where each zone is to lead, and the next attempt.
//!
//! An attempt looks at the zone, changes it if it is not as it should be, and looks at every authority. The same attempt
//! is repeated from time to time, so that what somebody else has changed is put right; in a steady state it writes
//! nothing. One attempt of an output is under way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::progress::{DesiredState, OutputCallFailure, Progress, ProgressState, remembered};
use super::{Claimed, RouteContext, RouteEntry};
use crate::dns::{DnsAccess, DnsError, DnsRequest, Led};
use mail_failover_api::conditions::reason;
use mail_failover_api::{MailRouteStatus, OutputShare, OutputStatus};
use mail_failover_core::engine::Memory;
use mail_failover_core::model::{DnsOutput, DnsProvider, Route, Timestamp, Uid};
use mail_failover_dns::mark::{Owner, mark_name};
use mail_failover_dns::plan::summary;
use mail_failover_resolve::text::truncated;
use mail_failover_resolve::{Rejection, dns_ca_key};

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

/// Progress of one output, and the looks at records that are in place.
#[derive(Debug)]
struct DnsProgress {
    records: Progress<DesiredRecords>,
    /// Time of the next look; `None` for at once.
    look_at: Option<Timestamp>,
    /// True if records were seen that are not the wanted ones, and the latest attempt has not put that right.
    is_contradicted: bool,
    /// Number of looks in a row that found the records changed.
    repairs: u32,
}

/// Records that a zone is to have.
#[derive(Clone, Debug, PartialEq)]
struct DesiredRecords {
    backend: Arc<str>,
    summary: String,
    output: Arc<DnsOutput>,
}

/// An attempt to begin.
#[derive(Debug)]
pub(in crate::controller) struct PlannedDnsCall {
    pub(in crate::controller) request: DnsRequest,
    records: DesiredRecords,
}

/// Freshness of the records that senders see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DnsFreshness {
    /// Longest time for which caches may keep the records before.
    pub(super) ttl: Duration,
    /// True if every authority has been seen to answer with them; what external-dns publishes is not always looked at.
    pub(super) is_seen: bool,
    /// Names of outputs whose records stay when the route is deleted.
    pub(super) staying: Vec<String>,
}

impl DesiredState for DesiredRecords {
    fn name(&self) -> String {
        self.summary.clone()
    }

    fn active(&self) -> Vec<OutputShare> {
        vec![OutputShare { backend: self.backend.to_string(), percent: 100 }]
    }
}

impl DnsFreshness {
    /// The freshness of all records of a route once they are applied.
    pub(super) fn of(route: &Route) -> Self {
        let (mut ttl, mut is_seen, mut staying) = (0, true, vec![]);
        for output in &route.dns {
            ttl = ttl.max(output.ttl);
            is_seen &= !matches!(output.provider, DnsProvider::ExternalDns(_)) || !output.authorities.is_empty();
            if !matches!(&output.provider, DnsProvider::ExternalDns(object) if object.goes_with_route) {
                staying.push(output.name.to_string());
            }
        }
        Self { ttl: Duration::from_secs(u64::from(ttl)), is_seen, staying }
    }
}

impl DnsProgress {
    /// The progress that a status remembers.
    fn restored(before: Option<&OutputStatus>) -> Self {
        let fresh = Progress::new(FIRST_PAUSE, LONGEST_PAUSE);
        let records = match before {
            Some(before) => fresh.restored(before, reason::DNS_FAILING),
            None => fresh,
        };
        let is_contradicted = records.failure().is_some();
        Self { records, look_at: None, is_contradicted, repairs: 0 }
    }

    fn is_applied(&self) -> bool {
        self.records.wanted().is_none() || (self.records.is_applied() && !self.is_contradicted)
    }

    /// Notes that every authority has been seen to have these records.
    fn succeed(&mut self, now: Timestamp, records: &DesiredRecords, is_changed: bool, look_at: Option<Timestamp>) {
        let is_known = self.records.reached() == Some(records.summary.as_str());
        if !is_known || is_changed {
            self.records.reach(now, records);
        }
        self.repairs = if is_known && is_changed { self.repairs.saturating_add(1) } else { 0 };
        self.records.succeed();
        self.is_contradicted = false;
        self.look_at = look_at;
        if self.repairs >= REPAIRS_TOLD {
            let message = format!(
                "somebody else keeps changing the records: {} looks in a row have found others; give each operator an --dns-owner of its own, and let nobody else write them",
                self.repairs
            );
            self.records.fail(now, reason::DNS_CONFLICT, &message).retry_at = look_at;
        }
    }

    /// Returns true if nothing is to be done or told until the next look.
    fn is_settled(&self) -> bool {
        self.is_applied() && self.records.failure().is_none()
    }

    /// Returns true if people are to be told of a failure.
    fn is_told(&self, failure: &OutputCallFailure, now: Timestamp) -> bool {
        // What somebody else owns does not go away by waiting, nor does what is not installed.
        matches!(failure.reason, reason::DNS_CONFLICT | reason::DNS_ENDPOINT_UNAVAILABLE)
            || failure.calls.has_lasted(self.failing_after(), now)
    }

    /// Time that attempts fail before people are told.
    fn failing_after(&self) -> Duration {
        match self.records.wanted().map(|wanted| &wanted.output.provider) {
            Some(DnsProvider::ExternalDns(_)) => UNTAKEN_AFTER,
            // Its name servers may follow a minute after its API.
            Some(DnsProvider::Api(_)) => PROPAGATED_AFTER,
            Some(DnsProvider::Rfc2136(_)) | None => FAILING_AFTER,
        }
    }

    /// The end of the pause before the next attempt; `None` if it may begin now.
    fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.records.failure() {
            Some(failure) => failure.calls.paused_until(now),
            None => self.look_at.filter(|at| *at > now),
        }
    }
}

impl DnsRecords {
    /// Notes where each zone is to lead after a decision, and forgets outputs that left the spec.
    pub(super) fn want(&mut self, route: &Route, memory: &Memory, before: Option<&MailRouteStatus>) {
        self.progress.retain(|name, _| route.dns.iter().any(|output| output.name == *name));
        let backend = largest(memory);
        for output in &route.dns {
            let progress = self.progress.entry(output.name.clone());
            let progress = progress.or_insert_with(|| DnsProgress::restored(remembered(before, KIND, &output.name)));
            let Some(backend) = &backend else { continue };
            let known = progress.records.wanted();
            if known.is_some_and(|known| known.backend == *backend && *known.output == *output) {
                continue;
            }
            let summary = status_text(&summary(output, backend));
            let output = Arc::new(output.clone());
            progress.records.want(DesiredRecords { backend: backend.clone(), summary, output });
            // A new decision waits for no look either.
            progress.look_at = None;
            progress.repairs = 0;
            progress.records.reset_backoff();
        }
    }

    /// Plans the attempts to begin now. Returns the time at which more may be possible, or is to be told.
    pub(super) fn plan(&mut self, cx: &RouteContext<'_>, uid: &Uid, route: &Route) -> Option<Timestamp> {
        self.planned.clear();
        let mut next_timeout: Option<Timestamp> = None;
        for output in &route.dns {
            let Some(progress) = self.progress.get_mut(&output.name) else { continue };
            let failing_after = progress.failing_after();
            let failure = progress.records.failure();
            let told_at = failure.and_then(|failure| failure.calls.lasts_at(failing_after, cx.now));
            let paused_until = progress.paused_until(cx.now);
            next_timeout = next_timeout.into_iter().chain(told_at).chain(paused_until).min();
            if progress.records.is_under_way() || paused_until.is_some() {
                continue;
            }
            let Some(records) = progress.records.wanted().cloned() else { continue };
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
                    progress.records.fail(cx.now, reason, &message);
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
            progress.records.begun(number, call.records.clone());
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
        let Some(sent) = progress.records.ended(number) else { return };
        let is_latest = progress.records.wanted() == Some(&sent);
        // Records that have overtaken these wait for nothing but what the provider asks for.
        let retry_at = if is_latest { progress.records.next_attempt(now, random) } else { now };
        let not_before = outcome.as_ref().err().and_then(DnsError::retry_after);
        let not_before = not_before.map(|pause| now + pause.min(LONGEST_ASKED));
        let (reason, message) = match outcome {
            Ok(led) if led.late.is_empty() => {
                let look_at = is_latest.then(|| now + LOOK_EVERY.mul_f64(1.0 + 0.2 * random));
                return progress.succeed(now, &sent, led.is_changed, look_at);
            }
            Ok(led) => {
                progress.is_contradicted = true;
                (reason::DNS_FAILING, led.late.join("; "))
            }
            Err(error @ (DnsError::Conflict(_) | DnsError::Occupied(_))) => {
                progress.is_contradicted = true;
                (reason::DNS_CONFLICT, error.to_string())
            }
            Err(error @ (DnsError::NoDefinition | DnsError::Forbidden { .. })) => {
                (reason::DNS_ENDPOINT_UNAVAILABLE, error.to_string())
            }
            // What the zone says is not known, or as good as before.
            Err(error) => (reason::DNS_FAILING, error.to_string()),
        };
        progress.records.fail(now, reason, &message).pause(retry_at, not_before);
    }

    /// The entries of `status.outputs`.
    pub(super) fn statuses(&self, route: &Route) -> Vec<OutputStatus> {
        let mut statuses = vec![];
        for output in &route.dns {
            if let Some(progress) = self.progress.get(&output.name) {
                statuses.push(progress.records.status(KIND, &output.name, truncated(&destination(output), 300)));
            }
        }
        statuses
    }

    /// The state of all outputs, or of those that are awaited only.
    pub(super) fn state(&self, route: &Route, now: Timestamp, is_awaited_only: bool) -> ProgressState {
        let (mut pending, mut failing) = (vec![], vec![]);
        for output in route.dns.iter().filter(|output| output.is_awaited || !is_awaited_only) {
            let Some(progress) = self.progress.get(&output.name) else { continue };
            if progress.is_settled() || (is_awaited_only && progress.is_applied()) {
                continue;
            }
            match progress.records.failure().filter(|failure| progress.is_told(failure, now)) {
                Some(failure) => {
                    let field = format!("spec.outputs[].dns ({})", output.name);
                    failing.push(Rejection::new(failure.reason, &field, &failure.calls.message));
                }
                // A look that fails once says nothing about the records.
                None if progress.is_applied() => {}
                None => pending.push(output.name.to_string()),
            }
        }
        ProgressState::of(pending, failing)
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

/// Records and marks, or the object, of an output that stay when the route is deleted.
fn staying_records(output: &DnsOutput) -> Vec<String> {
    if let DnsProvider::ExternalDns(object) = &output.provider {
        return if object.goes_with_route { vec![] } else { vec![destination(output)] };
    }
    let mut names = vec![];
    for set in output.backends.first().iter().flat_map(|records| &records.sets) {
        names.push(format!("{} {}", set.name, set.record_type.as_str()));
        names.push(format!("{} TXT", mark_name(&set.name, set.record_type)));
    }
    names
}

/// Publisher of the records of an output, with the credentials for it; `None` while an object that it needs has not been
/// read yet.
fn access(cx: &RouteContext<'_>, uid: &Uid, output: &DnsOutput) -> Result<Option<DnsAccess>, Rejection> {
    match &output.provider {
        DnsProvider::Rfc2136(updates) => {
            let key = cx.secret(&updates.secret, "rfc2136.tsigSecretRef")?;
            Ok(key.map(|key| DnsAccess::Updates(updates.clone(), key)))
        }
        DnsProvider::Api(api) => {
            let Some(secret) = cx.secret(&api.secret, "api.secretRef")? else { return Ok(None) };
            let trust = cx.trust(dns_ca_key(&cx.resource.key, output), "api.caRef")?;
            Ok(trust.map(|trust| DnsAccess::Api(api.clone().into(), Box::new(secret), trust)))
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

impl RouteEntry {
    /// Forgets what this process remembers of DNS records: another leader may have gone on.
    pub(in crate::controller) fn forget_dns(&mut self) {
        self.dns = DnsRecords::default();
    }

    /// Names and types of the records and marks, and the objects, that stay when the route is deleted.
    pub(in crate::controller) fn staying_records(&self) -> Vec<String> {
        self.usable.iter().flat_map(|route| &route.dns).flat_map(staying_records).collect()
    }

    /// The DNS records, for the attempts that begin and end.
    pub(in crate::controller) fn dns_mut(&mut self) -> &mut DnsRecords {
        &mut self.dns
    }
}
