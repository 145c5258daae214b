//! Scout: learns what backends offer before a message needs it, and leaves the connections in the pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_contract::routing::RouteBackend;
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_runtime::backoff::Backoff;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backend::{Learnt, Pool};
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
}

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
            if !is_due || !self.learnt.is_unknown(&backend.name) || asked.len() >= AT_A_TIME {
                continue;
            }
            let (backoff, at) =
                pauses.entry(backend.name.clone()).or_insert_with(|| (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), now));
            *at = now + self.patience + backoff.after_failure();
            asked.spawn(visit(self.pool.clone(), self.credentials.clone(), backend.clone(), now + self.patience));
        }
        asked.join_all().await;
    }
}

/// Makes a connection and leaves it in the pool, which notes what the server offers.
async fn visit(pool: Pool, credentials: Credentials, backend: RouteBackend, deadline: Instant) {
    let visited = match target(&credentials, &backend).await {
        Ok(target) => pool.check_out(&backend.name, &target, &backend.rulebook, false, deadline).await,
        Err(failure) => Err(failure),
    };
    match visited {
        Ok(checked_out) => pool.give_back(checked_out, true),
        Err(failure) => {
            tracing::info!(backend = %backend.name, summary = %failure.summary, "what this backend offers is not known yet");
        }
    }
}
