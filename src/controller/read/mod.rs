//! Reads objects that backends name from the API server: by name and from time to time, not by watch.
//!
//! A watch would need the permission to list every Secret of the cluster, and would hold them all in memory. Each object is read at
//! once when it comes into use and about every 30 s after that, every 5 s while it is missing or malformed (somebody is waiting for
//! it), and with a backoff when the API server fails. Of each kind there are at most `CONCURRENT` reads under way and about
//! `READS_PER_SECOND` begun in a second; with more than 600 objects each is read less often.
//!
//! An input is sent when the answer is another than before, never else. While the API server fails, the last good answer stands; it is
//! given up only when the API server keeps refusing. What a Secret holds appears in no error, log or metric.

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
use mail_failover_runtime::kubernetes::describe;
pub use metrics::Metrics;
use schedule::Schedule;
pub use schedule::{Answer, Outcome};

/// How many reads are under way at a time.
pub(super) const CONCURRENT: usize = 8;
/// How many reads are begun in a second, on average.
const READS_PER_SECOND: u32 = 20;

/// What can be read.
pub trait Readable: Debug + Default + Send + Sync + 'static {
    /// Which.
    type Key: Clone + Ord + Debug + Send + Sync + 'static;
    /// What it holds.
    type Value: Clone + PartialEq + Send + Sync + 'static;

    /// One word for metrics: `ca`.
    const NAME: &'static str;

    /// The Kubernetes kind and the name of the object.
    fn object(key: &Self::Key) -> (&'static str, &ObjectKey);

    /// Reads it once.
    fn fetch(client: Client, key: &Self::Key) -> impl Future<Output = Outcome<Self::Value>> + Send;

    /// The answer, for the controller.
    fn input(key: Self::Key, answer: Answer<Self::Value>) -> Input;
}

/// Says what is in use. Never blocks. Cheap to clone.
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
    /// This is in use from now on; again and again is the same as once. The first answer follows as an [`Input`].
    pub fn use_(&self, key: R::Key) {
        if self.used().insert(key) {
            self.0.changed.notify_one();
        }
    }

    /// This is not in use any more, whoever used it: there is no counting. Once it is used again, it is answered again.
    pub fn drop_(&self, key: &R::Key) {
        if self.used().remove(key) {
            self.0.changed.notify_one();
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<R::Key>> {
        // No user of the lock can leave the set half changed.
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until `shutdown`. That the task ends earlier is a defect.
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
        // While every place is taken, what is due waits for an answer and not for the clock.
        let due = schedule.due().filter(|_| reads.len() < CONCURRENT);
        let (read, outcome) = tokio::select! {
            () = reader.0.changed.notified() => continue,
            () = async { if let Some(due) = due { sleep_until(due).await } else { std::future::pending().await } } => continue,
            Some(read) = reads.join_next() => match read {
                Ok(read) => read,
                // Reading does not panic, and nobody aborts it; should it happen all the same, the task ends and the process with it.
                Err(error) => {
                    tracing::error!(%error, what = R::NAME, "a read ended without an answer");
                    return;
                }
            },
        };
        metrics.read(&outcome);
        if let Outcome::Failed { error, .. } = &outcome {
            let (kind, object) = R::object(&read.key);
            tracing::debug!(kind, %object, error, what = R::NAME, "it could not be read");
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

/// A read that brought no answer.
pub(super) fn failed<V>(error: &kube::Error) -> Outcome<V> {
    let denied = matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
    Outcome::Failed { error: describe(error), denied }
}

/// Up to a fifth sooner or later, so that replicas and objects do not march in step.
fn jittered(duration: Duration) -> Duration {
    mail_failover_runtime::backoff::jittered(duration, 0.2)
}
