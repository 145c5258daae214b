//! The task that takes part in the election.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::SignedDuration;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::claim::{Publisher, channel};
use super::lease::{Call, Machine, Record, Then, Timing, Write};
use super::metrics::Outcome;
use super::{Leadership, Metrics, Settings, SettingsError};
use mail_failover_resolve::time::micro_time;
use mail_failover_runtime::backoff::{Backoff, jittered};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::kubernetes::describe;

/// How many calls may follow each other without a pause; conflict, read, write and one more of each are plausible.
const CALLS_AT_ONCE: u32 = 5;
/// How many calls vacating may take: a renewal that was under way makes two of them necessary that bring nothing.
const VACATE_CALLS: u32 = 6;
/// `metadata.managedFields` name of the lease's writer.
const FIELD_MANAGER: &str = "mail-failover-leader";

/// Takes part in the election until `release`, which must be cancelled only when the last write under a claim is over: the task then
/// vacates the lease, so that another replica takes over at once, and ends. That it ends, or panics, earlier is a defect that must end the
/// process. The client must not retry by itself (see `kubernetes::Purpose::Lease`).
///
/// # Errors
/// [`SettingsError`] when two replicas with these settings could lead at the same time.
pub fn start(
    client: Client,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    release: CancellationToken,
) -> Result<(Leadership, JoinHandle<()>), SettingsError> {
    settings.validate()?;
    let (publisher, leadership) = channel();
    let timing = Timing { lease_duration: settings.lease_duration, renew_deadline: settings.renew_deadline };
    let election = Election {
        api: Api::namespaced(client, &settings.namespace),
        machine: Machine::new(settings.identity.clone(), timing),
        origin: Instant::now(),
        lease: None,
        publisher,
        backoff: Backoff::new(settings.retry_period / 8, settings.retry_period),
        leads: false,
        tried: false,
        failing: false,
        leaving: false,
        settings,
        clock,
        metrics,
    };
    Ok((leadership, tokio::spawn(election.run(release))))
}

struct Election {
    api: Api<Lease>,
    settings: Settings,
    clock: Clock,
    machine: Machine,
    /// The machine's time zero.
    origin: Instant,
    /// The lease as last seen, so that a write keeps what others have put there.
    lease: Option<Lease>,
    publisher: Publisher,
    backoff: Backoff,
    leads: bool,
    /// Whether the lease may be ours, whatever we know of it.
    tried: bool,
    failing: bool,
    leaving: bool,
    metrics: Metrics,
}

/// A call that brought no record.
#[derive(Debug)]
enum Failure {
    Conflict,
    Timeout(Duration),
    Api(kube::Error),
}

impl Election {
    async fn run(mut self, release: CancellationToken) {
        let mut next = Instant::now();
        loop {
            let now = self.now();
            let wake = self.machine.held(now).map_or(next, |held| next.min(self.origin + held.deadline));
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

    /// One read or write and what must follow it at once. Returns when the next turn is.
    async fn turn(&mut self) -> Instant {
        for _ in 0..CALLS_AT_ONCE {
            let begun = Instant::now();
            let now = self.now();
            let call = self.machine.call(now);
            let then = match call {
                Call::Read => self.read().await,
                Call::Write(write) => self.write(&write).await,
            };
            self.publish();
            match then {
                Ok(Then::Later) => {
                    self.succeeded();
                    return begun + jittered(self.settings.retry_period, 0.1);
                }
                // A conflict: somebody else was first, or has changed something about the lease. Look what.
                Ok(Then::Now) | Err(Failure::Conflict) => {}
                Err(Failure::Timeout(after)) => return self.failed(&format!("no answer within {after:?}")),
                Err(Failure::Api(error)) => return self.failed(&describe(&error)),
            }
        }
        self.failed("somebody else keeps changing it")
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            tracing::info!("the lease can be reached again");
        }
    }

    fn failed(&mut self, error: &str) -> Instant {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                namespace = self.settings.namespace,
                lease = self.settings.name,
                leads = self.leads,
                error,
                "the lease cannot be read or written; trying on"
            );
        }
        Instant::now() + self.backoff.after_failure()
    }

    async fn read(&mut self) -> Result<Then, Failure> {
        let allowed = self.allowed();
        let result = outcome(allowed, self.api.get_opt(&self.settings.name)).await;
        self.count("read", &result);
        let lease = result?;
        let record = lease.as_ref().map(record);
        self.lease = lease;
        Ok(self.machine.read(self.now(), record))
    }

    async fn write(&mut self, write: &Write) -> Result<Then, Failure> {
        let call = match (write.takes, write.holder.is_empty()) {
            (true, _) => "take",
            (false, false) => "renew",
            (false, true) => "vacate",
        };
        let lease = self.desired(write);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let allowed = self.allowed();
        self.tried |= write.takes;
        let sent = self.now();
        let result = match write.over {
            None => outcome(allowed, self.api.create(&parameters, &lease)).await,
            Some(_) => match outcome(allowed, self.api.replace(&self.settings.name, &parameters, &lease)).await {
                Err(Failure::Api(kube::Error::Api(status))) if status.code == 404 => Err(Failure::Conflict),
                result => result,
            },
        };
        let now = self.now();
        self.count(call, &result);
        match result {
            Ok(lease) => {
                if call == "renew" {
                    self.metrics.renewed(now.saturating_sub(sent));
                }
                let record = record(&lease);
                self.lease = Some(lease);
                Ok(self.machine.written(sent, now, write, record))
            }
            Err(failure) => {
                // A write that failed in any other way may have been accepted, and what was seen be outdated by our own doing.
                self.machine.outdated();
                Err(failure)
            }
        }
    }

    /// The lease with this write done to it.
    fn desired(&self, write: &Write) -> Lease {
        let mut lease = match (&write.over, &self.lease) {
            (Some((uid, resource_version)), Some(lease)) => {
                let mut lease = lease.clone();
                lease.metadata.uid = Some(uid.clone());
                lease.metadata.resource_version = Some(resource_version.clone());
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
        // The API server makes no new version of an object that does not change, and candidates would not see the renewal.
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

    /// How long a call may take: a holder has less than what is left of its claim, and time for a second attempt.
    fn allowed(&mut self) -> Duration {
        let now = self.now();
        let attempt = self.settings.renew_deadline / 2;
        self.machine.held(now).map_or(attempt, |held| held.deadline.saturating_sub(now).min(attempt))
    }

    fn count<T>(&self, call: &'static str, result: &Result<T, Failure>) {
        self.metrics.call(
            call,
            match result {
                Ok(_) => Outcome::Ok,
                Err(Failure::Conflict) => Outcome::Conflict,
                Err(Failure::Timeout(_)) => Outcome::Timeout,
                Err(Failure::Api(_)) => Outcome::Error,
            },
        );
    }

    /// Tells everyone how the claim stands.
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

    /// Gives the leadership back. If the API server cannot be reached, the others take over after a lease duration.
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
            Ok(Err(error)) => tracing::warn!(lease = self.settings.name, error, "the lease could not be vacated"),
            Err(_elapsed) => tracing::warn!(lease = self.settings.name, "the lease could not be vacated in time"),
        }
    }

    async fn try_to_vacate(&mut self) -> Result<(), String> {
        for _ in 0..VACATE_CALLS {
            let result = match self.machine.vacate() {
                Some(write) => self.write(&write).await.map(|_then| true),
                // A write of ours was under way: what came of it?
                None => self.read().await.map(|_then| self.machine.vacate().is_none()),
            };
            match result {
                Ok(true) => return Ok(()),
                Ok(false) | Err(Failure::Conflict) => {}
                Err(Failure::Timeout(after)) => return Err(format!("no answer within {after:?}")),
                Err(Failure::Api(error)) => return Err(describe(&error)),
            }
        }
        Err("somebody else keeps changing it".to_owned())
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

async fn outcome<T>(allowed: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match timeout(allowed, call).await {
        Ok(Ok(value)) => Ok(value),
        // It exists already, or is another version or another object.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failure::Conflict),
        Ok(Err(error)) => Err(Failure::Api(error)),
        Err(_elapsed) => Err(Failure::Timeout(allowed)),
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        uid: lease.metadata.uid.clone().unwrap_or_default(),
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.as_microsecond()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
