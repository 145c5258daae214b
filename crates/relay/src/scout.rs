//! Scout: learns what backends offer before a message needs it, and tries backends that have failed before a message is
//! sent there again. It leaves the connections in the pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_contract::routing::RouteBackend;
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::clock::Clock;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::backend::{Learnt, Pool};
use crate::core::route_mark::RouteMark;
use crate::core::transaction::{Evidence, OperationFailure};
use crate::driver::EvidenceOf;
use crate::server::target;

/// Pauses between two attempts at a backend that is not reached.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Pause between two looks for backends that were never seen.
const LOOK: Duration = Duration::from_secs(1);
/// Backends that are asked at a time.
const AT_A_TIME: usize = 10;

/// Parts that the scout works with.
pub struct Scout {
    /// Answers in force.
    pub answers: watch::Receiver<Option<Arc<Answers>>>,
    /// Connections to backends.
    pub pool: Pool,
    /// Extensions of backends.
    pub learnt: Arc<Learnt>,
    /// Logins at backends.
    pub credentials: Credentials,
    /// Bound on one attempt.
    pub patience: Duration,
    /// Failed trials, for breakers and reports.
    pub evidence: mpsc::Sender<EvidenceOf>,
    /// Source of the time.
    pub clock: Clock,
    /// Number of the next attempt. Messages have smaller ones.
    pub attempts: u64,
}

/// Number of the first attempt that is no message.
pub const FIRST_ATTEMPT: u64 = 1 << 63;

impl Scout {
    /// Asks backends that were never seen, for ever.
    pub async fn run(mut self) {
        let mut pauses: BTreeMap<Arc<str>, (Backoff, Instant)> = BTreeMap::new();
        loop {
            let answers = self.answers.borrow_and_update().clone();
            if let Some(answers) = answers {
                self.learnt.keep_those_of(&answers);
                let names: Vec<_> = answers.routing.backends.iter().map(|backend| backend.name.clone()).collect();
                self.pool.keep_those_of(&names);
                pauses.retain(|name, _| names.contains(name));
                self.ask(&answers, &mut pauses).await;
                self.prepare_trials(&answers).await;
            }
            tokio::select! {
                changed = self.answers.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn ask(&self, answers: &Answers, pauses: &mut BTreeMap<Arc<str>, (Backoff, Instant)>) {
        let now = Instant::now();
        let mut asked = JoinSet::new();
        for backend in answers.usable_backends().filter(|_| !answers.routing.is_withdrawn) {
            let is_due = pauses.get(&backend.name).is_none_or(|(_, at)| *at <= now);
            let is_due = is_due && !answers.is_refused(&backend.name);
            if !is_due || !self.learnt.is_unknown(&backend.name) || asked.len() >= AT_A_TIME {
                continue;
            }
            let (backoff, at) =
                pauses.entry(backend.name.clone()).or_insert_with(|| (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), now));
            *at = now + self.patience + backoff.after_failure();
            let mark = RouteMark::of(&answers.routing);
            let parts = (self.pool.clone(), self.credentials.clone(), mark);
            asked.spawn(learn(parts, backend.clone(), now + self.patience));
        }
        asked.join_all().await;
    }

    /// Makes a session with each backend that a message may try again. A trial whose session fails has failed.
    // ADR-0158: A trial begins with a session and not with a message.
    async fn prepare_trials(&mut self, answers: &Answers) {
        let mut tried = JoinSet::new();
        let trials = answers.trials.iter().filter(|trial| !answers.is_refused(trial.backend()));
        for trial in trials.filter(|trial| !trial.is_taken() && !trial.is_prepared()).take(AT_A_TIME) {
            let mut backends = answers.routing.backends.iter();
            let Some(backend) = backends.find(|backend| backend.name == *trial.backend()).cloned() else { continue };
            self.attempts += 1;
            let (trial, attempt, since) = (trial.clone(), self.attempts, Instant::now());
            let parts = (self.pool.clone(), self.credentials.clone(), RouteMark::of(&answers.routing));
            let deadline = since + self.patience;
            tried.spawn(async move {
                match visit(&parts, &backend, deadline).await {
                    Ok(()) => {
                        trial.prepare();
                        None
                    }
                    // Of ours nobody knows if it would have answered.
                    Err(failure) => {
                        (!failure.is_own && trial.take(attempt)).then_some((backend, attempt, since, failure))
                    }
                }
            });
        }
        for (backend, message, since, failure) in tried.join_all().await.into_iter().flatten() {
            let evidence = EvidenceOf {
                backend: backend.name.clone(),
                next_hop: backend.next_hop,
                message,
                at: self.clock.now(),
                took: since.elapsed(),
                evidence: Evidence::of_session(failure, since),
            };
            // A full queue has more to tell than this.
            let _ = self.evidence.try_send(evidence);
        }
    }
}

/// Connections, logins at backends, and the route whose relays are no backends.
type Parts = (Pool, Credentials, RouteMark);

async fn learn(parts: Parts, backend: RouteBackend, deadline: Instant) {
    if let Err(failure) = visit(&parts, &backend, deadline).await {
        tracing::info!(backend = %backend.name, summary = %failure.summary, "what this backend offers is not known yet");
    }
}

/// Makes a connection and leaves it in the pool, which notes what the server offers.
async fn visit(
    (pool, credentials, mark): &Parts,
    backend: &RouteBackend,
    deadline: Instant,
) -> Result<(), OperationFailure> {
    let target = target(credentials, backend, *mark).await?;
    let checked_out = pool.check_out(backend, &target, false, deadline).await?;
    pool.give_back(checked_out, true);
    Ok(())
}
