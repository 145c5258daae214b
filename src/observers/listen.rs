//! The task that watches the other observers' Leases and reports their verdicts, and their end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::liveness::{LeaseVersion, Liveness};
use super::metrics::PeerStatus;
use super::report::{ObserverReport, ReportError};
use super::sweep::sweep;
use super::{ENDPOINT_ANNOTATION, Metrics, PeerEvent, REPORT_ANNOTATION, Settings, endpoint, name};
use crate::leader::Leadership;
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::kubernetes::{
    FIRST_BACKOFF, Guarded, LONGEST_BACKOFF, PAGE, RECOVERED_AFTER, WATCH_SECONDS, WatchProblem, identity,
};

/// The last valid report of one observer.
#[derive(Debug)]
struct PeerReport {
    status: PeerStatus,
    /// Text of the report.
    // A renewal with the same text is no news.
    text: Box<str>,
}

/// Changes since the last [`PeerTracker::poll`].
#[derive(Debug, Default)]
pub(super) struct PeerActions {
    pub(super) events: Vec<PeerEvent>,
    /// Leases that should be deleted.
    pub(super) garbage: Vec<(Arc<str>, LeaseVersion)>,
}

/// Tracker of the other observers, from events about their Leases. No I/O; time is an argument.
#[derive(Debug)]
pub(super) struct PeerTracker {
    own: String,
    lease_name: String,
    liveness: Liveness,
    reports: BTreeMap<Arc<str>, PeerReport>,
    /// Endpoints at which they take agents' reports.
    endpoints: BTreeMap<Arc<str>, OperatorEndpoint>,
    /// Latest time of the first list; `None` once it is here, or was given up.
    list_expected_by: Option<Instant>,
    actions: PeerActions,
    metrics: Metrics,
}

impl PeerTracker {
    pub(super) fn new(now: Instant, settings: &Settings, metrics: Metrics) -> Self {
        Self {
            own: settings.own_name(),
            lease_name: settings.lease_name.clone(),
            liveness: Liveness::default(),
            reports: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            list_expected_by: Some(now + settings.lease_duration),
            actions: PeerActions::default(),
            metrics,
        }
    }

    /// Returns the time to call [`Self::handle_timeout`].
    fn next_timeout(&self) -> Option<Instant> {
        self.liveness.next_timeout().into_iter().chain(self.list_expected_by).min()
    }

    /// Returns the changes since the last call.
    fn poll(&mut self) -> PeerActions {
        std::mem::take(&mut self.actions)
    }

    /// Takes an event of the watch.
    fn handle(&mut self, now: Instant, event: Event<Guarded<Lease>>) {
        match event {
            Event::Init => self.liveness.begin_list(),
            Event::InitApply(lease) | Event::Apply(lease) => self.handle_lease(now, &lease),
            Event::InitDone => {
                for name in self.liveness.end_list() {
                    self.forget(&name);
                }
                if self.list_expected_by.take().is_some() {
                    self.actions.events.push(PeerEvent::Listed);
                }
            }
            Event::Delete(lease) => {
                let name: Arc<str> = lease.name_any().into();
                self.liveness.gone(&name);
                self.forget(&name);
            }
        }
        self.metrics.peers(self.reports.values().map(|report| report.status));
    }

    fn handle_lease(&mut self, now: Instant, lease: &Guarded<Lease>) {
        let name = lease.name_any();
        if name == self.own {
            return;
        }
        let name: Arc<str> = name.into();
        let version = match identity(lease.meta()) {
            Ok(identity) => LeaseVersion { uid: identity.uid, resource_version: identity.resource_version },
            Err(error) => {
                tracing::debug!(lease = &*name, %error, "the Lease of an observer is ignored");
                return;
            }
        };
        let spec = lease.0.as_ref().ok().and_then(|lease| lease.spec.as_ref());
        let seconds = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok()).unwrap_or_default();
        match self.liveness.seen(now, &name, version, Duration::from_secs(seconds)) {
            None => {
                self.metrics.ignored();
                tracing::debug!(lease = &*name, "there are too many observers; this one is ignored");
            }
            Some(false) => {}
            Some(true) => {
                let identity = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
                // Otherwise one replica could have several votes.
                let is_its_own = !identity.is_empty() && *name == *name::of_observer(&self.lease_name, identity);
                let endpoint = lease.annotations().get(ENDPOINT_ANNOTATION).filter(|_| is_its_own);
                self.note_endpoint(&name, endpoint.and_then(|text| endpoint::parse(text)));
                let text = lease.annotations().get(REPORT_ANNOTATION).map_or("", String::as_str);
                let text = if is_its_own { Ok(text) } else { Err(ReportError::ForeignLease) };
                self.handle_report(&name, identity, text);
            }
        }
    }

    /// Returns the name that tells the owner of this Lease from the others: without the prefix that all of them have.
    // A Lease with another prefix is never heard.
    fn observer(&self, lease: &str) -> Arc<str> {
        lease.strip_prefix(&name::prefix(&self.lease_name)).unwrap_or(lease).into()
    }

    fn note_endpoint(&mut self, name: &Arc<str>, endpoint: Option<OperatorEndpoint>) {
        if self.endpoints.get(name) == endpoint.as_ref() {
            return;
        }
        match &endpoint {
            Some(endpoint) => self.endpoints.insert(name.clone(), endpoint.clone()),
            None => self.endpoints.remove(name),
        };
        let observer = self.observer(name);
        self.actions.events.push(PeerEvent::TakesReports { observer, endpoint });
    }

    /// Takes the report of an observer that is alive.
    fn handle_report(&mut self, name: &Arc<str>, identity: &str, text: Result<&str, ReportError>) {
        let says = *text.as_ref().unwrap_or(&"");
        let known = self.reports.get(name);
        if known.is_some_and(|known| known.status != PeerStatus::Silent && *known.text == *says) {
            return;
        }
        let (status, complete) = match text.and_then(ObserverReport::parse) {
            Ok(ObserverReport::Complete { reported, known_up_to, silent }) => {
                (PeerStatus::Heard, Some((Arc::new(reported), known_up_to, Arc::new(silent))))
            }
            Ok(ObserverReport::Incomplete) => (PeerStatus::Incomplete, None),
            Ok(ObserverReport::Truncated) => (PeerStatus::Truncated, None),
            Err(error) => {
                tracing::debug!(lease = &**name, %error, "the report of an observer cannot be read");
                (PeerStatus::Malformed, None)
            }
        };
        let before = self.set_status(name.clone(), status, Some(says));
        match complete {
            Some((reported, known_up_to, silent)) => {
                let observer = self.observer(name);
                let identity = identity.into();
                self.actions.events.push(PeerEvent::Report { observer, identity, reported, known_up_to, silent });
            }
            None if before == Some(PeerStatus::Heard) => self.lose(name),
            None => {}
        }
    }

    fn set_status(&mut self, name: Arc<str>, status: PeerStatus, text: Option<&str>) -> Option<PeerStatus> {
        match self.reports.entry(name) {
            Entry::Vacant(vacant) => {
                tracing::debug!(lease = &**vacant.key(), state = status.as_str(), "an observer is here");
                vacant.insert(PeerReport { status, text: text.unwrap_or_default().into() });
                None
            }
            Entry::Occupied(mut known) => {
                let before = known.get().status;
                if before != status {
                    let (was, is) = (before.as_str(), status.as_str());
                    tracing::debug!(lease = &**known.key(), was, is, "the status of an observer has changed");
                }
                let report = known.get_mut();
                report.status = status;
                if let Some(text) = text {
                    report.text = text.into();
                }
                Some(before)
            }
        }
    }

    fn lose(&mut self, name: &str) {
        let observer = self.observer(name);
        self.actions.events.push(PeerEvent::Lost { observer });
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.note_endpoint(name, None);
        if let Some((name, report)) = self.reports.remove_entry(name) {
            tracing::debug!(lease = &*name, was = report.status.as_str(), "an observer is gone");
            if report.status == PeerStatus::Heard {
                self.lose(&name);
            }
        }
    }

    /// Takes note of observers that have fallen silent, and of Leases that nobody renews any more.
    fn handle_timeout(&mut self, now: Instant) {
        for name in self.liveness.silenced(now) {
            if self.set_status(name.clone(), PeerStatus::Silent, None) == Some(PeerStatus::Heard) {
                self.lose(&name);
            }
        }
        // ADR-0028: Without the right to list Leases the leader decides alone.
        if self.list_expected_by.is_some_and(|by| now >= by) {
            self.list_expected_by = None;
            tracing::warn!(
                "the Leases of the other observers cannot be listed; this replica decides without them until they can"
            );
            self.actions.events.push(PeerEvent::Listed);
        }
        self.metrics.peers(self.reports.values().map(|report| report.status));
        // Leases that are not named after an observer are never deleted.
        let prefix = name::prefix(&self.lease_name);
        let garbage = self.liveness.garbage(now).into_iter().filter(|(name, _)| name.starts_with(&prefix));
        self.actions.garbage.extend(garbage);
    }
}

/// Watches and reports until the receiver of the events is gone.
pub(super) async fn run(
    client: Client,
    calls: Client,
    settings: Settings,
    leadership: Leadership,
    peer_events: Sender<PeerEvent>,
    metrics: Metrics,
) {
    let api = Api::<Guarded<Lease>>::namespaced(client, &settings.namespace);
    let leases = Api::<Lease>::namespaced(calls, &settings.namespace);
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    config.label_selector = Some(settings.selector());
    let mut watch = watcher(api.clone(), config.clone()).boxed();
    let mut tracker = PeerTracker::new(Instant::now(), &settings, metrics.clone());
    let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
    let mut failed_at: Option<Instant> = None;
    // During a backoff the watch is not polled, but silent observers are still noticed.
    let mut resumed_at: Option<Instant> = None;
    let mut sweeps = JoinSet::new();
    loop {
        let wake_at = tracker.next_timeout().into_iter().chain(resumed_at).min();
        tokio::select! {
            () = async { if let Some(at) = wake_at { sleep_until(at).await } else { std::future::pending().await } } => {
                let now = Instant::now();
                resumed_at = resumed_at.filter(|at| now < *at);
                tracker.handle_timeout(now);
            }
            Some(_ended) = sweeps.join_next(), if !sweeps.is_empty() => {}
            event = watch.next(), if resumed_at.is_none() => match event {
                Some(Ok(event)) => {
                    if !matches!(event, Event::Init) && failed_at.take().is_some() {
                        backoff.reset();
                        tracing::info!("the watch of the other observers works again");
                    }
                    tracker.handle(Instant::now(), event);
                }
                Some(Err(error)) => {
                    let problem = WatchProblem::of(&error);
                    metrics.watch_failed(problem.label);
                    let recovered = failed_at.is_none_or(|at| at.elapsed() > RECOVERED_AFTER);
                    failed_at = Some(Instant::now());
                    if recovered {
                        backoff.reset();
                        tracing::warn!(error = problem.text, "the watch of the other observers failed; trying on");
                    }
                    if problem.lists_anew {
                        watch = watcher(api.clone(), config.clone()).boxed();
                    }
                    resumed_at = Some(Instant::now() + backoff.after_failure());
                }
                None => return,
            },
        }
        let PeerActions { events, garbage } = tracker.poll();
        // One sweep at a time; the Leases that are left out come again.
        if !garbage.is_empty() && sweeps.is_empty() {
            sweeps.spawn(sweep(leases.clone(), leadership.clone(), metrics.clone(), garbage));
        }
        for event in events {
            if let Err(TrySendError::Full(event)) = peer_events.try_send(event) {
                metrics.waited();
                if peer_events.send(event).await.is_err() {
                    return;
                }
            }
        }
        if peer_events.is_closed() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
