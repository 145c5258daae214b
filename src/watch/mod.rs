//! Watches of the cluster, as a stream of events for the controller.
//!
//! One task watches each kind, per namespace where the operator is limited to some, with a backoff of its own. A kind
//! that cannot be watched (no permission, no CRD yet), or that comes back slowly after an outage, therefore delays no
//! other. An object that cannot be read is reported as such and stalls nothing.
//!
//! A watch lists the objects in pages and follows them from there. The API server is asked to end each watch after
//! `WATCH_SECONDS`, and kube's `watcher` gives up one that brings nothing for 5 s longer, not even its end. A frozen
//! API server or a vanished connection is therefore noticed after this time at the latest;
//! `mail_failover_api_watch_contact_timestamp_seconds` shows it. Streaming lists (KEP-3157) are not used: kube does not
//! fall back to a list where they are turned off.
//!
//! With `--namespaces`, one namespace whose objects may not be read (it is deleted, or its Role is gone) must not stop
//! the others. After `FORBIDDEN_GRACE` nothing waits for it any more, as long as another namespace can be read. Its
//! watches go on trying; `mail_failover_watch_forbidden` and the log name it. [`Access`] says before that what is not
//! seen there: a Service that may not be read is not known to be gone.
//!
//! This module never decides, never writes and keeps no objects. It keeps the keys and versions that it has reported,
//! so that after a new list it reports what has vanished, and nothing twice.

mod event;
mod kinds;
mod metrics;
mod scope;
mod tracker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::runtime::watcher;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use event::{Access, Change, Identified, Source, Unreadable, WatchEvent};
use kinds::Watched;
pub use kinds::strip_metadata;
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::kubernetes::{
    FIRST_BACKOFF, Guarded, LONGEST_BACKOFF, PAGE, RECOVERED_AFTER, WATCH_SECONDS, WatchProblem,
};
use mail_failover_runtime::telemetry::Readiness;
pub use metrics::WatchMetrics;
use scope::ScopePart;
pub use scope::{InvalidNamespace, Namespace, WatchScope};
use tracker::Tracker;

/// Time for which the first list of a namespace may be forbidden before nothing waits for it any more.
// An API server that has just started forbids everything until it has read its own rules.
const FORBIDDEN_GRACE: Duration = Duration::from_secs(10);

/// Settings and connections of the watches, apart from the client.
#[derive(Clone, Debug)]
pub struct Context {
    /// Queue of events; when it is full the watches wait.
    pub events: Sender<WatchEvent>,
    /// Readiness of the process. It expects each source that decisions wait for, until that has listed everything once.
    pub readiness: Readiness,
    /// True if Jobs of probes and their pods are watched.
    pub watches_jobs: bool,
    /// Metrics of the watches.
    pub metrics: WatchMetrics,
    /// Token that ends the watches.
    pub shutdown: CancellationToken,
}

/// Watches every [`Source`] in this scope until `shutdown`, or until the receiver of the inputs is gone. A task that
/// ends earlier is a defect.
///
/// The client must not retry by itself (see `kubernetes::Purpose::Watch`).
pub fn spawn(client: &Client, scope: &WatchScope, context: &Context) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let parts = scope.parts();
    let of_jobs = Source::OF_JOBS.into_iter().filter(|_| context.watches_jobs);
    for source in Source::ESSENTIAL.into_iter().chain(of_jobs) {
        context.metrics.synced(source, false);
        let unlisted = Unlisted::new(parts.len());
        for part in &parts {
            if Source::ESSENTIAL.contains(&source) {
                context.readiness.expect(part.describe(source.as_str()));
            }
            let (client, part, unlisted, context) = (client.clone(), part.clone(), unlisted.clone(), context.clone());
            match source {
                Source::Backends => tasks.spawn(watch::<SendingBackend>(client, part, unlisted, context)),
                Source::Policies => tasks.spawn(watch::<FailoverPolicy>(client, part, unlisted, context)),
                Source::Routes => tasks.spawn(watch::<MailRoute>(client, part, unlisted, context)),
                Source::Services => tasks.spawn(watch::<Service>(client, part, unlisted, context)),
                Source::EndpointSlices => tasks.spawn(watch::<EndpointSlice>(client, part, unlisted, context)),
                Source::ConfigMaps => tasks.spawn(watch::<ConfigMap>(client, part, unlisted, context)),
                Source::Jobs => tasks.spawn(watch::<Job>(client, part, unlisted, context)),
                Source::Pods => tasks.spawn(watch::<Pod>(client, part, unlisted, context)),
            };
        }
    }
    tasks
}

/// Watches of a kind that have not yet listed everything once. The kind is known when the last of them has.
#[derive(Clone, Debug)]
struct Unlisted(Arc<ListProgress>);

#[derive(Debug)]
struct ListProgress {
    /// Watches that have neither listed everything nor are given up.
    left: AtomicUsize,
    /// True once one of them has listed everything.
    has_list: AtomicBool,
}

impl Unlisted {
    fn new(watches: usize) -> Self {
        Self(Arc::new(ListProgress { left: AtomicUsize::new(watches), has_list: AtomicBool::new(false) }))
    }

    /// Counts one watch down. Returns true if it was the last. Its objects, and those of the others, are in the queue
    /// of inputs by then.
    fn listed(&self) -> bool {
        self.0.has_list.store(true, Ordering::Release);
        self.0.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Counts one watch down that is forbidden. Returns true if it was the last.
    fn given_up(&self) -> bool {
        self.0.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Returns true if a watch of the kind has listed everything, so that the operator has a right somewhere.
    fn has_list(&self) -> bool {
        self.0.has_list.load(Ordering::Acquire)
    }
}

/// The right to read a kind in a namespace, as the API server's answers tell it.
#[derive(Debug)]
struct Answers {
    /// Time of the first of the refusals in a row.
    forbidden_since: Option<Instant>,
    /// True if the watch has been counted down in [`Unlisted`].
    is_counted: bool,
    /// True if it was so by refusals, and no list has come since.
    is_given_up: bool,
}

impl Answers {
    /// Notes a refusal. Returns true, once, if nothing waits for the namespace from now on.
    fn gives_up(&mut self, now: Instant, unlisted: &Unlisted) -> bool {
        let since = *self.forbidden_since.get_or_insert(now);
        let counts = !self.is_counted && now.duration_since(since) >= FORBIDDEN_GRACE && unlisted.has_list();
        self.is_counted |= counts;
        self.is_given_up |= counts;
        counts
    }
}

async fn watch<K: Watched>(client: Client, part: ScopePart, unlisted: Unlisted, context: Context) {
    let shutdown = context.shutdown.clone();
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = follow::<K>(client, part, unlisted, context) => {}
    }
}

async fn follow<K: Watched>(client: Client, part: ScopePart, unlisted: Unlisted, context: Context) {
    let Context { events: sender, readiness, metrics, shutdown: _, watches_jobs: _ } = context;
    let api = part.api::<Guarded<K>>(client);
    let (kind, namespace, name) = (K::SOURCE.as_str(), part.namespace(), part.describe(K::SOURCE.as_str()));
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    config.label_selector = K::selector();
    let mut events = watcher(api.clone(), config.clone()).boxed();
    let mut tracker = Tracker::<K>::default();
    let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
    let mut failed_at: Option<Instant> = None;
    let mut access = Answers { forbidden_since: None, is_counted: false, is_given_up: false };
    let mut out = vec![];
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // `Init` says that a list is about to be asked for: no sign of life.
                if let watcher::Event::Init = event {
                    metrics.listing(K::SOURCE);
                } else if failed_at.take().is_some() {
                    backoff.reset();
                    tracing::info!(kind, namespace, "the watch works again");
                    if let Some(namespace) = namespace.filter(|_| access.forbidden_since.take().is_some()) {
                        metrics.forbidden(K::SOURCE, namespace, false);
                    }
                }
                let known = tracker.len();
                if let Err(error) = tracker.handle(event, &mut out) {
                    // The API server gives every object an identity.
                    tracing::error!(kind, namespace, %error, "an object is ignored");
                }
                metrics.objects(K::SOURCE, known, tracker.len());
                for input in out.drain(..) {
                    if let WatchEvent::Synced(source) = input {
                        readiness.met(&name);
                        if let Some(namespace) = namespace.filter(|_| std::mem::take(&mut access.is_given_up))
                            && send(&sender, access_event::<K>(namespace, false), K::SOURCE, &metrics).await.is_err()
                        {
                            return;
                        }
                        if std::mem::replace(&mut access.is_counted, true) || !unlisted.listed() {
                            continue;
                        }
                        metrics.synced(source, true);
                    }
                    if send(&sender, input, K::SOURCE, &metrics).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let problem = WatchProblem::of(&error);
                metrics.failed(K::SOURCE, problem.label);
                readiness.hindered(&name, &problem.text);
                let recovered = failed_at.is_none_or(|at| at.elapsed() > RECOVERED_AFTER);
                failed_at = Some(Instant::now());
                if recovered {
                    backoff.reset();
                    tracing::warn!(kind, namespace, error = problem.text, "the watch failed; trying on");
                }
                if let Some(namespace) = namespace.filter(|_| problem.is_forbidden) {
                    metrics.forbidden(K::SOURCE, namespace, true);
                    if access.gives_up(Instant::now(), &unlisted) {
                        readiness.met(&name);
                        tracing::error!(
                            kind,
                            namespace,
                            error = problem.text,
                            "nothing waits for the namespace any more: its objects may not be read; grant the rights, or take it from --namespaces"
                        );
                        if send(&sender, access_event::<K>(namespace, true), K::SOURCE, &metrics).await.is_err() {
                            return;
                        }
                        if unlisted.given_up() {
                            metrics.synced(K::SOURCE, true);
                            if send(&sender, WatchEvent::Synced(K::SOURCE), K::SOURCE, &metrics).await.is_err() {
                                return;
                            }
                        }
                    }
                }
                if problem.lists_anew {
                    events = watcher(api.clone(), config.clone()).boxed();
                }
                tokio::time::sleep(backoff.after_failure()).await;
            }
        }
    }
}

fn access_event<K: Watched>(namespace: &str, is_forbidden: bool) -> WatchEvent {
    WatchEvent::Access(Access { source: K::SOURCE, namespace: namespace.into(), is_forbidden })
}

async fn send(
    inputs: &Sender<WatchEvent>,
    input: WatchEvent,
    source: Source,
    metrics: &WatchMetrics,
) -> Result<(), ()> {
    match inputs.try_send(input) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(input)) => {
            metrics.waited(source);
            inputs.send(input).await.map_err(|_closed| ())
        }
        Err(TrySendError::Closed(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests;
