//! Reads the certificates of private authorities from the `ConfigMaps` and Secrets that backends name.
//!
//! By name and from time to time, not by watch: a watch would need the permission to list every Secret of the cluster, and would hold
//! them all in memory. Each is read at once when it comes into use and about every 30 s after that, every 5 s while it is missing or
//! malformed (somebody is waiting for it), and with a backoff when the API server fails. There are at most `CONCURRENT` reads under
//! way and about `READS_PER_SECOND` begun in a second; with more than 600 CAs each is read less often.
//!
//! An [`Input::Ca`] is sent when the answer is another than before, never else. While the API server fails, the last good answer
//! stands. What a Secret holds appears in no error, log or metric, and of it only certificates leave this module.

mod metrics;
mod pem;
mod schedule;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::input::Input;
use super::resolve::{CaKey, CaKind, CaProblem};
use crate::kubernetes::describe;
pub use metrics::Metrics;
pub(crate) use pem::certificates;
use schedule::{Outcome, Schedule};

/// How many reads are under way at a time.
const CONCURRENT: usize = 8;
/// How many reads are begun in a second, on average.
const READS_PER_SECOND: u32 = 20;

/// Says which CAs are in use. Never blocks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CaReader(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    used: Mutex<BTreeSet<CaKey>>,
    changed: Notify,
}

impl CaReader {
    /// This CA is in use from now on; again and again is the same as once. The first answer follows as an [`Input::Ca`].
    pub fn use_(&self, key: CaKey) {
        if self.used().insert(key) {
            self.0.changed.notify_one();
        }
    }

    /// This CA is not in use any more, whoever used it: there is no counting. Once it is used again, it is answered again.
    pub fn drop_(&self, key: &CaKey) {
        if self.used().remove(key) {
            self.0.changed.notify_one();
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<CaKey>> {
        // No user of the lock can leave the set half changed.
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads CAs until `shutdown`. That the task ends earlier is a defect.
///
/// The client must give each call a deadline and must not retry by itself (see `kubernetes::Purpose::Call`).
pub fn spawn(
    client: Client,
    inputs: Sender<Input>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> (CaReader, JoinHandle<()>) {
    let reader = CaReader::default();
    let task = run(reader.clone(), client, inputs, metrics);
    let task = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = task => {}
        }
    });
    (reader, task)
}

async fn run(reader: CaReader, client: Client, inputs: Sender<Input>, metrics: Metrics) {
    let mut schedule = Schedule::new(READS_PER_SECOND);
    let mut reads = JoinSet::new();
    while !inputs.is_closed() {
        let now = Instant::now();
        schedule.use_only(&reader.used(), now);
        metrics.used(schedule.len());
        while reads.len() < CONCURRENT
            && let Some(read) = schedule.next(now)
        {
            let client = client.clone();
            reads.spawn(async move {
                let outcome = fetch(client, &read.key).await;
                (read, outcome)
            });
        }
        // While every place is taken, what is due waits for an answer and not for the clock.
        let due = schedule.due().filter(|_| reads.len() < CONCURRENT);
        let (read, outcome) = tokio::select! {
            () = reader.0.changed.notified() => continue,
            () = async { if let Some(due) = due { sleep_until(due).await } else { std::future::pending().await } } => continue,
            Some(read) = reads.join_next() => match read {
                Ok(read) => read,
                // Reading does not panic, and nobody aborts it; should it happen all the same, the task ends and the process with it.
                Err(error) => {
                    tracing::error!(%error, "reading a CA ended without an answer");
                    return;
                }
            },
        };
        metrics.read(&outcome);
        if let Outcome::Failed { error, .. } = &outcome {
            tracing::debug!(kind = read.key.kind.as_str(), object = %read.key.object, error, "a CA could not be read");
        }
        if let Some(answer) = schedule.answered(&read, Instant::now(), outcome) {
            metrics.changed();
            if let Err(TrySendError::Full(input)) = inputs.try_send(Input::Ca(read.key, answer)) {
                metrics.waited();
                if inputs.send(input).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn fetch(client: Client, key: &CaKey) -> Outcome {
    let (namespace, name) = (&key.object.namespace, &key.object.name);
    let data = match key.kind {
        CaKind::ConfigMap => Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await.map(|object| {
            let ConfigMap { data, binary_data, .. } = object?;
            let text = data.and_then(|mut data| data.remove(&*key.data_key)).map(String::into_bytes);
            text.or_else(|| binary_data.and_then(|mut data| data.remove(&*key.data_key)).map(|bytes| bytes.0))
        }),
        CaKind::Secret => Api::<Secret>::namespaced(client, namespace)
            .get_opt(name)
            .await
            .map(|object| object?.data?.remove(&*key.data_key).map(|bytes| bytes.0)),
    };
    match data {
        Ok(None) => Outcome::Answer(Err(CaProblem::NotFound)),
        Ok(Some(bytes)) => Outcome::Answer(pem::certificates(&bytes).map(Arc::from).map_err(CaProblem::Malformed)),
        Err(error) => {
            let denied = matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
            Outcome::Failed { error: describe(&error), denied }
        }
    }
}

/// Up to a fifth sooner or later, so that replicas and CAs do not march in step.
fn jittered(duration: Duration) -> Duration {
    crate::kubernetes::jittered(duration, 0.2)
}

#[cfg(test)]
mod tests;
