//! The task that takes part in the election.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::SignedDuration;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::claim::{ClaimPublisher, channel};
use super::lease::{LeaseAction, LeaseEvent, LeaseMachine, LeaseRecord, LeaseWrite, Then, Timing};
use super::{Leadership, Metrics, Settings, SettingsError};
use mail_failover_core::model::MissingIdentity;
use mail_failover_resolve::time::micro_time;
use mail_failover_runtime::backoff::{Backoff, jittered};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::kubernetes::{CallError, identity, status_code};

/// Most calls in a row without a pause.
// Conflict, read, write and one more of each are plausible.
const CALLS_AT_ONCE: u32 = 5;
/// Most calls of vacating.
// A renewal that was under way costs two of them.
const VACATE_CALLS: u32 = 6;
/// `metadata.managedFields` name of the lease's writer.
const FIELD_MANAGER: &str = "mail-failover-leader";

/// Starts taking part in the election, until `release`. The task then vacates the lease, so that another replica takes
/// over at once, and ends.
///
/// `successor` names the replica that is fitter to lead than this one, if there is one.
///
/// `release` must be cancelled only when the last write under a claim is over. A task that ends or panics earlier is a
/// defect that must end the process. The client must not retry by itself (see `kubernetes::Purpose::Lease`).
///
/// # Errors
/// [`SettingsError`] if two replicas with these settings could lead at the same time.
pub fn start(
    client: Client,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    successor: watch::Receiver<Option<Arc<str>>>,
    release: CancellationToken,
) -> Result<(Leadership, JoinHandle<()>), SettingsError> {
    settings.validate()?;
    let (publisher, leadership) = channel();
    let timing = Timing { lease_duration: settings.lease_duration, renew_deadline: settings.renew_deadline };
    let election = Election {
        api: Api::namespaced(client, &settings.namespace),
        machine: LeaseMachine::new(settings.identity.clone(), timing),
        origin: Instant::now(),
        lease: None,
        publisher,
        backoff: Backoff::new(settings.retry_period / 8, settings.retry_period),
        leads: false,
        tried: false,
        failing: false,
        leaving: false,
        successor,
        settings,
        clock,
        metrics,
    };
    Ok((leadership, tokio::spawn(election.run(release))))
}

struct Election {
    api: Api<Lease>,
    settings: Settings,
    machine: LeaseMachine,
    /// Zero of the machine's time.
    origin: Instant,
    /// The lease as last seen.
    // A write keeps the fields that others have set.
    lease: Option<Lease>,
    publisher: ClaimPublisher,
    backoff: Backoff,
    leads: bool,
    /// True if the lease may be ours although no answer has said so.
    tried: bool,
    failing: bool,
    leaving: bool,
    /// Replica that is fitter to lead.
    successor: watch::Receiver<Option<Arc<str>>>,
    /// Wall clock for times that people read.
    clock: Clock,
    metrics: Metrics,
}

/// Failed call for the lease.
#[derive(Debug, thiserror::Error)]
enum LeaseCallError {
    #[error("somebody else has written it")]
    Conflict,
    #[error("somebody else keeps changing it")]
    Contended,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Incomplete(#[from] MissingIdentity),
}

impl LeaseCallError {
    /// Returns the label in metrics.
    fn category(&self) -> &'static str {
        match self {
            Self::Conflict | Self::Contended => "conflict",
            Self::Call(error) => error.category(),
            Self::Incomplete(_) => "malformed",
        }
    }
}

impl Election {
    async fn run(mut self, release: CancellationToken) {
        let mut next = Instant::now();
        loop {
            self.machine.handle_timeout(self.now());
            let wake = self.machine.next_timeout().map_or(next, |deadline| next.min(self.origin + deadline));
            tokio::select! {
                biased;
                () = release.cancelled() => break,
                () = sleep_until(wake) => {}
            }
            self.publish();
            if Instant::now() < next {
                continue;
            }
            let turn = self.turn();
            next = tokio::select! {
                biased;
                () = release.cancelled() => break,
                next = turn => next,
            };
            self.publish();
        }
        self.vacate().await;
    }

    /// Makes one call and handles its result. Returns the time of the next turn.
    async fn turn(&mut self) -> Instant {
        for _ in 0..CALLS_AT_ONCE {
            let begun = Instant::now();
            let now = self.now();
            self.machine.set_successor(now, self.successor.borrow().as_deref());
            let action = self.machine.poll(now);
            // Before the lease is given away, nobody may count on the claim any more.
            self.publish();
            let then = match action {
                LeaseAction::Read => self.read().await,
                LeaseAction::Write(write) => self.write(write).await,
            };
            self.publish();
            match then {
                Ok(Then::Later) => {
                    self.succeeded();
                    return begun + jittered(self.settings.retry_period, 0.1);
                }
                // A conflict: somebody else was first, or has changed something about the lease. Read it again.
                Ok(Then::Now) | Err(LeaseCallError::Conflict) => {}
                Err(error) => return self.failed(&error),
            }
        }
        self.failed(&LeaseCallError::Contended)
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            tracing::info!("the lease can be reached again");
        }
    }

    fn failed(&mut self, error: &LeaseCallError) -> Instant {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                namespace = self.settings.namespace,
                lease = self.settings.name,
                leads = self.leads,
                %error,
                "the lease cannot be read or written; trying on"
            );
        }
        Instant::now() + self.backoff.after_failure()
    }

    async fn read(&mut self) -> Result<Then, LeaseCallError> {
        let allowed = self.allowed();
        let result = outcome(allowed, self.api.get_opt(&self.settings.name)).await;
        let result = result.and_then(|lease| Ok((lease.as_ref().map(record).transpose()?, lease)));
        self.count("read", &result);
        let (record, lease) = result?;
        self.lease = lease;
        Ok(self.machine.handle(self.now(), LeaseEvent::Read(record)))
    }

    async fn write(&mut self, write: LeaseWrite) -> Result<Then, LeaseCallError> {
        let call = match &*write.holder {
            _ if write.takes => "take",
            "" => "vacate",
            holder if holder == self.settings.identity => "renew",
            successor => {
                let identity = &self.settings.identity;
                tracing::warn!(
                    identity,
                    successor,
                    "this replica reaches no backend; it gives the lease to another one"
                );
                "give"
            }
        };
        let lease = self.desired(&write);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let allowed = self.allowed();
        self.tried |= write.takes;
        let sent = self.now();
        let result = match write.over {
            None => outcome(allowed, self.api.create(&parameters, &lease)).await,
            Some(_) => match outcome(allowed, self.api.replace(&self.settings.name, &parameters, &lease)).await {
                Err(LeaseCallError::Call(error)) if error.category() == "not_found" => Err(LeaseCallError::Conflict),
                result => result,
            },
        };
        let result = result.and_then(|lease| Ok((record(&lease)?, lease)));
        let now = self.now();
        self.count(call, &result);
        match result {
            Ok((record, lease)) => {
                if call == "renew" {
                    self.metrics.renewed(now.saturating_sub(sent));
                }
                self.lease = Some(lease);
                Ok(self.machine.handle(now, LeaseEvent::Written { sent, write, record }))
            }
            Err(error) => {
                // A write that failed in any other way may have been accepted, which outdates the record as well.
                self.machine.handle(now, LeaseEvent::Outdated);
                Err(error)
            }
        }
    }

    /// Returns the lease with this write done to it.
    fn desired(&self, write: &LeaseWrite) -> Lease {
        let mut lease = match (&write.over, &self.lease) {
            (Some((uid, resource_version)), Some(lease)) => {
                let mut lease = lease.clone();
                lease.metadata.uid = Some(uid.to_string());
                lease.metadata.resource_version = Some(resource_version.to_string());
                lease.metadata.managed_fields = None;
                lease
            }
            (Some(_), None) | (None, _) => Lease {
                metadata: ObjectMeta {
                    name: Some(self.settings.name.clone()),
                    namespace: Some(self.settings.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: None,
            },
        };
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        // The API server makes no new version of an object that does not change, and candidates would not see the
        // renewal.
        let after_last = spec.renew_time.as_ref().map(|last| last.0.saturating_add(SignedDuration::from_micros(1)));
        let now = micro_time(self.clock.now()).0;
        let renew_time = MicroTime(after_last.and_then(Result::ok).map_or(now, |after_last| now.max(after_last)));
        if write.takes {
            spec.acquire_time = Some(renew_time.clone());
        }
        spec.renew_time = Some(renew_time);
        spec.holder_identity = Some(write.holder.clone());
        spec.lease_transitions = Some(write.transitions);
        spec.lease_duration_seconds = i32::try_from(self.settings.lease_duration.as_secs()).ok();
        lease
    }

    /// Returns the limit of a call: a holder takes less than the rest of its claim, which leaves time for a second
    /// attempt.
    fn allowed(&mut self) -> Duration {
        let now = self.now();
        let attempt = self.settings.renew_deadline / 2;
        self.machine.held(now).map_or(attempt, |held| held.deadline.saturating_sub(now).min(attempt))
    }

    fn count<T>(&self, call: &'static str, result: &Result<T, LeaseCallError>) {
        self.metrics.call(call, result.as_ref().map_or_else(LeaseCallError::category, |_| "ok"));
    }

    /// Publishes the claim to its readers.
    fn publish(&mut self) {
        let now = self.now();
        let held = self.machine.held(now);
        let accepted = self.publisher.publish(self.origin, held);
        if !accepted {
            self.machine.forfeit();
        }
        let leads = accepted && held.is_some();
        if leads != self.leads {
            self.leads = leads;
            self.metrics.leading(leads);
            let transitions = held.map(|held| held.transitions);
            let identity = &self.settings.identity;
            if leads {
                tracing::info!(identity, transitions, "this replica leads");
            } else if self.leaving {
                tracing::info!(identity, "this replica gives the leadership back");
            } else {
                tracing::warn!(identity, "this replica does not lead any more; it is a candidate again");
            }
        }
    }

    /// Gives the leadership back.
    // If the API server cannot be reached, the others take over after a lease duration.
    async fn vacate(mut self) {
        self.leaving = true;
        self.machine.forfeit();
        self.publish();
        if !self.tried {
            return;
        }
        let allowed = self.settings.renew_deadline / 2;
        match timeout(allowed, self.try_to_vacate()).await {
            Ok(Ok(())) => tracing::debug!(lease = self.settings.name, "the lease is not ours (any more)"),
            Ok(Err(error)) => tracing::warn!(lease = self.settings.name, %error, "the lease could not be vacated"),
            Err(_elapsed) => tracing::warn!(lease = self.settings.name, "the lease could not be vacated in time"),
        }
    }

    async fn try_to_vacate(&mut self) -> Result<(), LeaseCallError> {
        for _ in 0..VACATE_CALLS {
            let result = match self.machine.vacate() {
                Some(write) => self.write(write).await.map(|_then| true),
                // A write of ours may have been under way: read its result.
                None => self.read().await.map(|_then| self.machine.vacate().is_none()),
            };
            match result {
                Ok(true) => return Ok(()),
                Ok(false) | Err(LeaseCallError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LeaseCallError::Contended)
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

async fn outcome<T>(
    allowed: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, LeaseCallError> {
    match timeout(allowed, call).await {
        Ok(Ok(value)) => Ok(value),
        // It exists already, or is another version or another object.
        Ok(Err(error)) if status_code(&error) == Some(409) => Err(LeaseCallError::Conflict),
        Ok(Err(error)) => Err(CallError::from(error).into()),
        Err(_elapsed) => Err(CallError::Timeout(allowed).into()),
    }
}

fn record(lease: &Lease) -> Result<LeaseRecord, MissingIdentity> {
    let identity = identity(&lease.metadata)?;
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(LeaseRecord {
        uid: identity.uid,
        resource_version: identity.resource_version,
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.as_microsecond()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
    })
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
