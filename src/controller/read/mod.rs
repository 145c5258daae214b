//! Reads objects that backends name from the API server: by name and from time to time, not by watch.
//!
//! A watch would need the permission to list every Secret of the cluster, and would hold them all in memory. Each
//! object is read at once when it comes into use and about every 30 s after that, every 5 s while it is missing or
//! malformed (somebody is waiting for it), and with a backoff when the API server fails. Of each kind there are at most
//! `CONCURRENT` reads under way and about `READS_PER_SECOND` begun in a second, of which each namespace has an equal
//! share; with more than 600 objects in one namespace each is read less often.
//!
//! An input is sent only if the answer is another than before. While the API server fails, the last good answer stands;
//! it is given up only if the API server keeps refusing. What a Secret holds appears in no error, log or metric.

mod metrics;
mod schedule;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::input::Input;
use mail_failover_core::model::ObjectKey;
use mail_failover_runtime::kubernetes::CallError;
pub use metrics::Metrics;
use schedule::Schedule;
pub use schedule::{Answer, Namespaced, ReadOutcome};

/// Bound on the reads under way.
pub(super) const CONCURRENT: usize = 8;
/// Average number of reads begun in a second.
const READS_PER_SECOND: u32 = 20;

/// A kind of object that is read by name.
pub trait Readable: Debug + Default + Send + Sync + 'static {
    /// Key of one object.
    type Key: Clone + Ord + Namespaced + Debug + Send + Sync + 'static;
    /// Content of one object.
    type Value: Clone + PartialEq + Send + Sync + 'static;

    /// One word for metrics: `ca`.
    const NAME: &'static str;

    /// The Kubernetes kind and the name of the object.
    fn object(key: &Self::Key) -> (&'static str, &ObjectKey);

    /// Reads an object once.
    fn fetch(client: Client, key: &Self::Key) -> impl Future<Output = ReadOutcome<Self::Value>> + Send;

    /// The answer as an input of the controller.
    fn input(key: Self::Key, answer: Answer<Self::Value>) -> Input;
}

/// Registry of the objects in use. Never blocks. Cheap to clone.
#[derive(Debug)]
pub struct Reader<R: Readable>(Arc<Shared<R>>);

impl<R: Readable> Clone for Reader<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<R: Readable> {
    used: Mutex<BTreeSet<R::Key>>,
    changed: Notify,
}

impl<R: Readable> Reader<R> {
    /// Puts an object into use, which may be repeated. The first answer follows as an [`Input`].
    pub fn use_(&self, key: R::Key) {
        if self.used().insert(key) {
            self.0.changed.notify_one();
        }
    }

    /// Puts an object out of use: uses are not counted. Once it is used again, it is answered again.
    pub fn drop_(&self, key: &R::Key) {
        if self.used().remove(key) {
            self.0.changed.notify_one();
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<R::Key>> {
        // The set is never half changed, so that a panic elsewhere does no harm to it.
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until `shutdown`. If the task ends earlier, that is a defect.
///
/// The client must give each call a deadline and must not retry by itself (see `kubernetes::Purpose::Call`).
pub fn spawn<R: Readable>(
    client: Client,
    inputs: Sender<Input>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> (Reader<R>, JoinHandle<()>) {
    let reader = Reader::<R>(Arc::new(Shared { used: Mutex::default(), changed: Notify::new() }));
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

async fn run<R: Readable>(reader: Reader<R>, client: Client, inputs: Sender<Input>, metrics: Metrics) {
    let mut schedule = Schedule::<R::Key, R::Value>::new(READS_PER_SECOND);
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
                let outcome = R::fetch(client, &read.key).await;
                (read, outcome)
            });
        }
        // While every place is taken, the next read waits for an answer and not for the clock.
        let due = schedule.due().filter(|_| reads.len() < CONCURRENT);
        let (read, outcome) = tokio::select! {
            () = reader.0.changed.notified() => continue,
            () = async { if let Some(due) = due { sleep_until(due).await } else { std::future::pending().await } } => continue,
            Some(read) = reads.join_next() => match read {
                Ok(read) => read,
                // Reading does not panic and is not aborted; if it happens all the same, the task ends and the process
                // with it.
                Err(error) => {
                    tracing::error!(%error, what = R::NAME, "a read ended without an answer");
                    return;
                }
            },
        };
        metrics.read(&outcome);
        if let ReadOutcome::Failed { error, .. } = &outcome {
            let (kind, object) = R::object(&read.key);
            tracing::debug!(kind, %object, %error, what = R::NAME, "it could not be read");
        }
        if let Some(answer) = schedule.answered(&read, Instant::now(), outcome) {
            metrics.changed();
            if let Err(TrySendError::Full(input)) = inputs.try_send(R::input(read.key, answer)) {
                metrics.waited();
                if inputs.send(input).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The outcome of a read that failed.
pub(super) fn failed<V>(error: kube::Error) -> ReadOutcome<V> {
    let error = CallError::from(error);
    // The text alone: the cause of an answer that is not understood may quote a Secret.
    ReadOutcome::Failed { denied: error.is_denied(), error: error.to_string().into() }
}

/// A duration up to a fifth shorter or longer.
// The reads of replicas and objects must not coincide.
fn jittered(duration: Duration) -> Duration {
    mail_failover_runtime::backoff::jittered(duration, 0.2)
}
