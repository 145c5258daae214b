//! The message under way: its ways, the connection to the backend that carries it, and what breakers are told.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use mail_failover_contract::routing::RouteBackend;
use mail_failover_core::model::{EvidenceClass, Login, Stage};
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_runtime::random;

use super::Application;
use crate::backend::{CheckedOut, Target};
use crate::core::answer::Answer;
use crate::core::choice;
use crate::core::route_mark::RouteMark;
use crate::core::transaction::{Evidence, Operation, OperationFailure, OperationResult, Way};
use crate::driver::EvidenceOf;

/// Connection to the backend that carries the message now.
pub(super) struct Carrier {
    pub(super) checked_out: CheckedOut,
    pub(super) way: Way,
    /// Position of the way.
    at: usize,
}

impl Application {
    pub(super) fn plan(&mut self, domain: Option<&str>) -> Result<Vec<Way>, Answer> {
        let answers = self.relay.answers.borrow().clone();
        let Some(answers) = answers else { return Err(Answer::own(451, "4.3.0 the relay has no document yet")) };
        let number = self.relay.messages.fetch_add(1, Ordering::Relaxed);
        self.number = number;
        self.message = random::word(12);
        self.attempts = 0;
        // No user of the lock can leave the turns half changed.
        let mut rotation = self.relay.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        self.ways = choice::ways(&answers, &mut rotation, domain, number);
        drop(rotation);
        if self.ways.is_empty() {
            let text = match domain {
                _ if answers.routing.is_withdrawn => "4.3.2 nobody may carry the mail of this route now".to_owned(),
                Some(domain) => {
                    let without_share = choice::without_share(&answers, domain);
                    match without_share.as_slice() {
                        [] => format!("4.7.1 no backend of this route may send for {domain}"),
                        names => format!(
                            "4.7.1 no backend that mail goes to now may send for {domain}; {} may, without a share of it",
                            names.join(", ")
                        ),
                    }
                }
                None => "4.3.2 no backend may carry the mail of this route now".to_owned(),
            };
            return Err(Answer::own(451, text));
        }
        self.answers = Some(answers);
        Ok(self.ways.clone())
    }

    pub(super) async fn perform(&mut self, operation: Operation, deadline: Instant) -> OperationResult {
        let begun = Instant::now();
        let (stage, result) = match operation {
            Operation::Connect { way, is_fresh, is_again } => {
                return self.connect(way, (is_fresh, is_again), deadline).await;
            }
            Operation::Command(line) => {
                let Some(at) = self.backend.as_ref().map(|carrier| carrier.at) else { return lost() };
                let opened = self.breaker_opened(at);
                let Some(carrier) = &mut self.backend else { return lost() };
                let reply = tokio::select! {
                    biased;
                    reply = carrier.checked_out.connection.command(&line, deadline, &carrier.way.rulebook) => reply,
                    () = opened => Err(left()),
                };
                ("command", reply.map(OperationResult::Reply))
            }
            Operation::Content => ("content", self.carry(deadline).await),
            Operation::End => {
                let Some(carrier) = &mut self.backend else { return lost() };
                let awaited = self.relay.awaited.begin(&carrier.way.backend, begun);
                let reply = carrier.checked_out.connection.end(deadline, &carrier.way.rulebook).await;
                if reply.is_ok() {
                    awaited.answered(Instant::now());
                }
                ("end", reply.map(OperationResult::Reply))
            }
        };
        if let Some(carrier) = &self.backend {
            self.relay.backend_metrics.took(&carrier.way.backend, stage, begun.elapsed());
        }
        result.unwrap_or_else(OperationResult::Failed)
    }

    async fn connect(&mut self, way: usize, (is_fresh, is_again): (bool, bool), deadline: Instant) -> OperationResult {
        self.backend = None;
        self.silence = Duration::ZERO;
        let at = way;
        let Some(way) = self.ways.get(at).cloned() else { return lost() };
        if !is_again {
            self.attempts += 1;
            if self.attempts > 1 {
                self.relay.backend_metrics.replayed(&way.backend);
            }
        }
        let Some(backend) = self.route_backend(&way.backend) else { return lost() };
        let Some(answers) = self.answers.as_deref() else { return lost() };
        answers.session_begins(&backend.name);
        let mark = RouteMark::of(&answers.routing);
        let known = match known_target(&self.relay.credentials, &backend, mark) {
            Some(known) => known,
            None => match target(&self.relay.credentials, &backend, mark).await {
                Ok(target) => target,
                Err(failure) => return OperationResult::Failed(failure),
            },
        };
        if !is_again && let Some(failure) = self.await_turn(&backend, deadline).await {
            return OperationResult::Failed(failure);
        }
        if !is_fresh && let Some(checked_out) = self.relay.pool.reuse(&backend, &known) {
            return self.carried_by(checked_out, way, at);
        }
        // A new session logs in as the files have it now.
        let target = match target(&self.relay.credentials, &backend, mark).await {
            Ok(target) => target,
            Err(failure) => return OperationResult::Failed(failure),
        };
        let opened = self.breaker_opened(at);
        let found = tokio::select! {
            biased;
            found = self.relay.pool.check_out(&backend, &target, is_fresh, deadline) => found,
            () = opened => Err(left()),
        };
        match found {
            Ok(checked_out) => self.carried_by(checked_out, way, at),
            Err(failure) => OperationResult::Failed(failure),
        }
    }

    fn carried_by(&mut self, checked_out: CheckedOut, way: Way, at: usize) -> OperationResult {
        let (capabilities, is_reused) = (checked_out.connection.capabilities(), checked_out.is_reused);
        self.backend = Some(Carrier { checked_out, way, at });
        OperationResult::Ready { capabilities, is_reused }
    }

    /// Waits until the breaker of the way at this position opens that was closed when the ways were chosen. For ever if no
    /// other way follows.
    // What waits there for a place, a connection or a reply would meet what the messages before it have met.
    fn breaker_opened(&self, at: usize) -> impl Future<Output = ()> + use<> {
        let backend = self.ways.get(at).map(|way| way.backend.clone()).unwrap_or_default();
        let was_open = self.answers.as_deref().is_none_or(|answers| is_open(answers, &backend));
        let is_last = self.ways.iter().skip(at + 1).all(|way| way.after_refusal);
        let mut answers = self.relay.answers.clone();
        async move {
            let opens =
                answers.wait_for(|answers| answers.as_deref().is_some_and(|answers| is_open(answers, &backend)));
            if was_open || is_last || opens.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for the message's turn at a backend with a limit of messages a second. `Some` if it is too far away.
    // ADR-0126: The pace of a backend is kept where a session begins.
    async fn await_turn(&self, backend: &RouteBackend, deadline: Instant) -> Option<OperationFailure> {
        let interval = backend.interval?;
        let now = Instant::now();
        // The rest of the time is for the connection.
        let longest = deadline.saturating_duration_since(now) / 2;
        let Some(wait) = self.relay.paces.take(&backend.name, interval, longest, now) else {
            self.relay.backend_metrics.out_of_turn(&backend.name);
            return Some(own_failure(
                Stage::Connect,
                "more messages wait for it than limits.messagesPerSecond lets through",
            ));
        };
        if wait.is_zero() {
            return None;
        }
        self.relay.backend_metrics.paced(&backend.name);
        let has_come = self.relay.paces.wait(wait).await;
        (!has_come).then(|| own_failure(Stage::Connect, "the relay ends"))
    }

    fn route_backend(&self, name: &str) -> Option<RouteBackend> {
        let answers = self.answers.as_ref()?;
        answers.routing.backends.iter().find(|backend| *backend.name == *name).cloned()
    }

    pub(super) fn release(&mut self, is_in_step: bool) {
        if let Some(Carrier { checked_out, .. }) = self.backend.take() {
            self.relay.pool.give_back(checked_out, is_in_step);
        }
    }

    pub(super) fn tell(&self, evidence: Evidence) {
        let Some(way) = self.ways.get(evidence.way) else { return };
        self.relay.backend_metrics.evidence(&way.backend, &evidence);
        let Some(backend) = self.route_backend(&way.backend) else { return };
        if evidence.class != EvidenceClass::Ok {
            tracing::info!(id = self.message, backend = %way.backend, class = evidence.class.as_str(), summary = %evidence.summary, "a backend has not taken a message");
        }
        let told = EvidenceOf {
            backend: backend.name.clone(),
            next_hop: backend.next_hop,
            // A number, and nothing of the message.
            message: self.number,
            at: self.relay.clock.now(),
            took: evidence.since.elapsed(),
            evidence,
        };
        if self.relay.evidence.try_send(told).is_err() {
            self.relay.backend_metrics.lost();
        }
    }
}

/// True if the breaker of this backend is open.
fn is_open(answers: &Answers, backend: &str) -> bool {
    let mut known = answers.routing.backends.iter().zip(&answers.open);
    known.any(|(known, is_open)| *is_open && *known.name == *backend)
}

/// The server and the login of a backend.
pub(crate) async fn target(
    credentials: &Credentials,
    backend: &RouteBackend,
    route: RouteMark,
) -> Result<Target, OperationFailure> {
    let login = match &backend.secret {
        Some(secret) => {
            let login = credentials.login(secret).await;
            // Applications are told this, and no path of ours. The log has it.
            Some(login.map_err(|_| own_failure(Stage::Auth, "its login cannot be read; the relay's log says why"))?)
        }
        None => None,
    };
    Ok(target_with(login, backend, route))
}

/// The same by the login that is known, without a look at its files. `None` if none is.
fn known_target(credentials: &Credentials, backend: &RouteBackend, route: RouteMark) -> Option<Target> {
    let login = match &backend.secret {
        Some(secret) => Some(credentials.known(secret)?),
        None => None,
    };
    Some(target_with(login, backend, route))
}

fn target_with(login: Option<Arc<Login>>, backend: &RouteBackend, route: RouteMark) -> Target {
    Target { next_hop: backend.next_hop.clone(), tls: backend.tls.clone(), login, route }
}

pub(super) fn own_failure(stage: Stage, what: &str) -> OperationFailure {
    OperationFailure { class: EvidenceClass::Inconclusive, stage, refusal: None, summary: what.into(), is_own: true }
}

/// The message goes on to the next backend before this one has failed it.
fn left() -> OperationFailure {
    own_failure(Stage::Mail, "its breaker has opened while the message waited for it")
}

/// The connection is not there any more, by a mistake of ours.
pub(super) fn lost() -> OperationResult {
    OperationResult::Failed(own_failure(Stage::Connect, "the connection is lost"))
}
