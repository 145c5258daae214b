//! The task that watches the other observers' Leases and reports their verdicts, and their end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::liveness::{Liveness, Version};
use super::metrics::Standing;
use super::report::Report;
use super::sweep::sweep;
use super::{ENDPOINT_ANNOTATION, Hearing, Metrics, REPORT_ANNOTATION, Settings, endpoint, name};
use crate::leader::Leadership;
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::kubernetes::{
    FIRST_BACKOFF, Guarded, LONGEST_BACKOFF, PAGE, RECOVERED_AFTER, WATCH_SECONDS, WatchProblem,
};

/// The last valid report of one observer.
#[derive(Debug)]
struct Voice {
    standing: Standing,
    /// Text of the report.
    // A renewal with the same text is no news.
    text: Box<str>,
}

/// Tracker of the other observers, from events about their Leases. No I/O; time is an argument.
#[derive(Debug)]
pub(super) struct Ear {
    own: String,
    lease_name: String,
    liveness: Liveness,
    voices: BTreeMap<Arc<str>, Voice>,
    /// Endpoints at which they take agents' reports.
    endpoints: BTreeMap<Arc<str>, OperatorEndpoint>,
    /// Latest time of the first list; `None` once it is here, or was given up.
    list_expected_by: Option<Instant>,
    metrics: Metrics,
}

impl Ear {
    pub(super) fn new(now: Instant, settings: &Settings, metrics: Metrics) -> Self {
        Self {
            own: settings.own_name(),
            lease_name: settings.lease_name.clone(),
            liveness: Liveness::default(),
            voices: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            list_expected_by: Some(now + settings.lease_duration),
            metrics,
        }
    }

    /// Returns the time to call [`Self::handle_timeout`].
    fn wake_at(&self) -> Option<Instant> {
        self.liveness.wake_at().into_iter().chain(self.list_expected_by).min()
    }

    /// Takes an event of the watch.
    fn take(&mut self, now: Instant, event: Event<Guarded<Lease>>, out: &mut Vec<Hearing>) {
        match event {
            Event::Init => self.liveness.begin_list(),
            Event::InitApply(lease) | Event::Apply(lease) => self.take_lease(now, &lease, out),
            Event::InitDone => {
                for name in self.liveness.end_list() {
                    self.forget(&name, out);
                }
                if self.list_expected_by.take().is_some() {
                    out.push(Hearing::Listed);
                }
            }
            Event::Delete(lease) => {
                let name: Arc<str> = lease.name_any().into();
                self.liveness.gone(&name);
                self.forget(&name, out);
            }
        }
        self.metrics.standings(self.voices.values().map(|voice| voice.standing));
    }

    fn take_lease(&mut self, now: Instant, lease: &Guarded<Lease>, out: &mut Vec<Hearing>) {
        let name = lease.name_any();
        if name == self.own {
            return;
        }
        let name: Arc<str> = name.into();
        let version = Version {
            uid: lease.uid().unwrap_or_default(),
            resource_version: lease.resource_version().unwrap_or_default(),
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
                // Otherwise one replica could have several voices.
                let is_its_own = !identity.is_empty() && *name == *name::of_observer(&self.lease_name, identity);
                let endpoint = lease.annotations().get(ENDPOINT_ANNOTATION).filter(|_| is_its_own);
                self.note_endpoint(&name, endpoint.and_then(|text| endpoint::parse(text)), out);
                let text = lease.annotations().get(REPORT_ANNOTATION).map_or("", String::as_str);
                self.listen(
                    &name,
                    if is_its_own { Ok(text) } else { Err("its Lease is not named after its holder") },
                    out,
                );
            }
        }
    }

    /// Returns the name that tells the owner of this Lease from the others: without the prefix that all of them have.
    // A Lease with another prefix is never heard.
    fn observer(&self, lease: &str) -> Arc<str> {
        lease.strip_prefix(&name::prefix(&self.lease_name)).unwrap_or(lease).into()
    }

    fn note_endpoint(&mut self, name: &Arc<str>, endpoint: Option<OperatorEndpoint>, out: &mut Vec<Hearing>) {
        if self.endpoints.get(name) == endpoint.as_ref() {
            return;
        }
        match &endpoint {
            Some(endpoint) => self.endpoints.insert(name.clone(), endpoint.clone()),
            None => self.endpoints.remove(name),
        };
        out.push(Hearing::TakesReports { observer: self.observer(name), endpoint });
    }

    /// Takes the report of an observer that is alive.
    fn listen(&mut self, name: &Arc<str>, text: Result<&str, &str>, out: &mut Vec<Hearing>) {
        let known = self.voices.get(name);
        let says = text.unwrap_or_default();
        if known.is_some_and(|voice| voice.standing != Standing::Silent && *voice.text == *says) {
            return;
        }
        let report = text.map_err(str::to_owned).and_then(Report::parse);
        let (standing, hearing) = match report {
            Ok(Report::Complete(sightings)) => {
                let hearing = Hearing::Heard { observer: self.observer(name), sightings: Arc::new(sightings) };
                (Standing::Heard, Some(hearing))
            }
            Ok(Report::Incomplete) => (Standing::Incomplete, None),
            Ok(Report::Truncated) => (Standing::Truncated, None),
            Err(error) => {
                tracing::debug!(lease = &**name, error, "the report of an observer cannot be read");
                (Standing::Malformed, None)
            }
        };
        let before = self.set_standing(name.clone(), standing, Some(says));
        let was_heard = before == Some(Standing::Heard);
        out.extend(hearing.or_else(|| was_heard.then(|| Hearing::Lost { observer: self.observer(name) })));
    }

    fn set_standing(&mut self, name: Arc<str>, standing: Standing, text: Option<&str>) -> Option<Standing> {
        match self.voices.entry(name) {
            Entry::Vacant(vacant) => {
                tracing::debug!(lease = &**vacant.key(), state = standing.as_str(), "an observer is here");
                vacant.insert(Voice { standing, text: text.unwrap_or_default().into() });
                None
            }
            Entry::Occupied(mut known) => {
                let before = known.get().standing;
                if before != standing {
                    let (was, is) = (before.as_str(), standing.as_str());
                    tracing::debug!(lease = &**known.key(), was, is, "an observer stands otherwise");
                }
                let voice = known.get_mut();
                voice.standing = standing;
                if let Some(text) = text {
                    voice.text = text.into();
                }
                Some(before)
            }
        }
    }

    fn forget(&mut self, name: &Arc<str>, out: &mut Vec<Hearing>) {
        self.note_endpoint(name, None, out);
        if let Some((name, voice)) = self.voices.remove_entry(name) {
            tracing::debug!(lease = &*name, was = voice.standing.as_str(), "an observer is gone");
            if voice.standing == Standing::Heard {
                out.push(Hearing::Lost { observer: self.observer(&name) });
            }
        }
    }

    /// Takes note that time has passed. Returns the Leases that should be deleted.
    fn wake(&mut self, now: Instant, out: &mut Vec<Hearing>) -> Vec<(Arc<str>, Version)> {
        for name in self.liveness.silenced(now) {
            if self.set_standing(name.clone(), Standing::Silent, None) == Some(Standing::Heard) {
                out.push(Hearing::Lost { observer: self.observer(&name) });
            }
        }
        if self.list_expected_by.is_some_and(|by| now >= by) {
            self.list_expected_by = None;
            tracing::warn!(
                "the Leases of the other observers cannot be listed; this replica decides without them until they can"
            );
            out.push(Hearing::Listed);
        }
        self.metrics.standings(self.voices.values().map(|voice| voice.standing));
        // Nothing that somebody else has named is deleted.
        let prefix = name::prefix(&self.lease_name);
        self.liveness.garbage(now).into_iter().filter(|(name, _)| name.starts_with(&prefix)).collect()
    }
}

/// Watches and reports until the receiver of the events is gone.
pub(super) async fn run(
    client: Client,
    calls: Client,
    settings: Settings,
    leadership: Leadership,
    hearings: Sender<Hearing>,
    metrics: Metrics,
) {
    let api = Api::<Guarded<Lease>>::namespaced(client, &settings.namespace);
    let leases = Api::<Lease>::namespaced(calls, &settings.namespace);
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    config.label_selector = Some(settings.selector());
    let mut events = watcher(api.clone(), config.clone()).boxed();
    let mut ear = Ear::new(Instant::now(), &settings, metrics.clone());
    let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
    let mut failed_at: Option<Instant> = None;
    // While a failure is waited out the watch is not polled; silence is noticed all the same.
    let mut resumed_at: Option<Instant> = None;
    let mut sweeps = JoinSet::new();
    let mut out = vec![];
    loop {
        let wake_at = ear.wake_at().into_iter().chain(resumed_at).min();
        tokio::select! {
            () = async { if let Some(at) = wake_at { sleep_until(at).await } else { std::future::pending().await } } => {
                let now = Instant::now();
                resumed_at = resumed_at.filter(|at| now < *at);
                let garbage = ear.wake(now, &mut out);
                // One at a time; what is left out comes again.
                if !garbage.is_empty() && sweeps.is_empty() {
                    sweeps.spawn(sweep(leases.clone(), leadership.clone(), metrics.clone(), garbage));
                }
            }
            Some(_ended) = sweeps.join_next(), if !sweeps.is_empty() => {}
            event = events.next(), if resumed_at.is_none() => match event {
                Some(Ok(event)) => {
                    if !matches!(event, Event::Init) && failed_at.take().is_some() {
                        backoff.reset();
                        tracing::info!("the watch of the other observers works again");
                    }
                    ear.take(Instant::now(), event, &mut out);
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
                        events = watcher(api.clone(), config.clone()).boxed();
                    }
                    resumed_at = Some(Instant::now() + backoff.after_failure());
                }
                None => return,
            },
        }
        for hearing in out.drain(..) {
            if let Err(TrySendError::Full(hearing)) = hearings.try_send(hearing) {
                metrics.waited();
                if hearings.send(hearing).await.is_err() {
                    return;
                }
            }
        }
        if hearings.is_closed() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
