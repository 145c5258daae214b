//! Tells every replica of the operator what deliveries meet: at once when that is news, and every ten seconds.
//!
//! Each replica has a task, a backoff and a deadline of its own, so that a dead one delays no other. What is sent is always the latest state as a
//! whole: nothing is queued, and a report that was lost is made good by the next. Without a replica or a token nothing is sent, and the
//! status says so; mail flows all the same. This module decides nothing and never waits for a reply before mail goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode, header};
use futures::future::pending;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::pinned;
use mail_failover_contract::document::{API_VERSION, OperatorEndpoint, RouteReference};
use mail_failover_contract::{SERVER_NAME, report};
use mail_failover_core::model::{BackendDeliveries, FailingDeliveries, SwitchedMail, Timestamp, Word};
use mail_failover_runtime::backoff::{Backoff, jittered};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::random;

/// How often a report goes out although nothing is new.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// What becomes news at about the same time goes out together.
const COALESCE: Duration = Duration::from_millis(20);
/// The least pause between two reports to one replica.
const PAUSE: Duration = Duration::from_millis(100);
/// No report takes longer, connection and answer included.
const DEADLINE: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// So much of a refusal is read.
const LONGEST_REFUSAL: usize = 1024;
/// So much of a token file is read.
const LONGEST_TOKEN: u64 = 8192;
/// More replicas are not told: the document's bound.
const MAX_OPERATORS: usize = 16;

/// Who reports, and with which token.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's name, unique among those of its route: the pod's, or the host's.
    pub agent: String,
    /// The file with the service account's token; it is read for each report, because the kubelet renews it. Without one nothing is reported.
    pub token_file: Option<PathBuf>,
    /// How often a report goes out although nothing is new: [`HEARTBEAT`].
    pub heartbeat: Duration,
}

/// All that there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportState {
    /// Whose mail it is.
    pub route: RouteReference,
    /// Whom to tell.
    pub operators: Vec<OperatorEndpoint>,
    /// What is known of each backend, by its name; times are those of the clock that the reporter was started with.
    pub backends: BTreeMap<Arc<str>, BackendDeliveries>,
    /// The latest switch.
    pub last_switch: Option<SwitchedMail>,
}

impl ReportState {
    /// Whether this must be told at once, given what was told before. Counts alone can wait, and so can a further failure of a run.
    fn is_news_after(&self, before: &Self) -> bool {
        let told = |deliveries: &BackendDeliveries| match &deliveries.word {
            Word::Failing(failing) => (Some(failing.class), false, deliveries.is_left),
            Word::Passing => (None, true, deliveries.is_left),
            Word::Silent => (None, false, deliveries.is_left),
        };
        let all = |state: &Self| -> BTreeMap<_, _> {
            state.backends.iter().map(|(name, deliveries)| (name.clone(), told(deliveries))).collect()
        };
        let first_delivery = |state: &Self| {
            state.last_switch.as_ref().map(|switch| (switch.transition, switch.first_delivery_at.is_some()))
        };
        self.route != before.route || all(self) != all(before) || first_delivery(self) != first_delivery(before)
    }

    /// The report as of now.
    fn report(&self, agent: &str, process: &str, sequence: u64, now: Timestamp) -> report::Report {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let failure = |failing: &FailingDeliveries| report::FailureReport {
            class: failing.class.as_str().to_owned(),
            message: report::printable(&failing.message),
            first_milliseconds: milliseconds(now.since(failing.first_failure_at)),
            last_milliseconds: milliseconds(now.since(failing.last_failure_at)),
        };
        let backend = |(name, deliveries): (&Arc<str>, &BackendDeliveries)| {
            let BackendDeliveries { word, is_left, sent, deferred, bounced, possible_duplicates } = deliveries;
            let (word, failure) = match word {
                Word::Failing(failing) => (report::Word::Failing, Some(failure(failing))),
                Word::Passing => (report::Word::Passing, None),
                Word::Silent => (report::Word::Silent, None),
            };
            report::BackendReport {
                name: name.to_string(),
                word,
                failure,
                left: *is_left,
                deliveries: report::DeliveryCounts {
                    sent: *sent,
                    deferred: *deferred,
                    bounced: *bounced,
                    possible_duplicates: *possible_duplicates,
                },
            }
        };
        report::Report {
            api_version: API_VERSION.to_owned(),
            route: self.route.clone(),
            agent: agent.to_owned(),
            process: process.to_owned(),
            sequence,
            backends: self.backends.iter().map(backend).collect(),
            last_switch: self.last_switch.as_ref().map(|switch| report::SwitchReport {
                transition: switch.transition,
                queue_before: switch.queue_before,
                queue_after: switch.queue_after,
                first_delivery: switch.first_delivery_at.map(|at| report::FirstDelivery {
                    after_milliseconds: milliseconds(switch.first_delivery_after.unwrap_or_default()),
                    age_milliseconds: milliseconds(now.since(at)),
                }),
                possible_duplicates: switch.possible_duplicates,
            }),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Counters of the reporter; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    reports: Family<Outcome, Counter>,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "mail_failover_agent_reports",
            "Reports to replicas of the operator by outcome: sent, refused, failed, or no_token",
            metrics.reports.clone(),
        );
        metrics
    }

    fn count(&self, outcome: &'static str) {
        self.reports.get_or_create(&Outcome { outcome }).inc();
    }
}

/// How reporting fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReporterStatus {
    /// Why nothing is reported at all, if so.
    pub nothing_sent: Option<String>,
    /// By the replica's address.
    pub replicas: BTreeMap<String, ReplicaStatus>,
}

/// How reporting to one replica fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// When the latest report was accepted.
    pub accepted_at: Option<Timestamp>,
    /// What has gone wrong since.
    pub error: Option<String>,
}

/// Takes what is to be told. Cheap to clone, never waits.
#[derive(Clone, Debug)]
pub struct Reporter {
    state: watch::Sender<Option<Arc<Published>>>,
    status: Arc<Mutex<ReporterStatus>>,
}

#[derive(Debug)]
struct Published {
    state: ReportState,
    /// Increases with each piece of news.
    news: u64,
}

impl Reporter {
    /// Starts reporting, until `shutdown`. The task ends by itself only when it panics.
    pub fn start(
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (state, published) = watch::channel(None);
        let status = Arc::new(Mutex::new(ReporterStatus {
            nothing_sent: Some(match &settings.token_file {
                None => "--token-file is not given".to_owned(),
                Some(_) => "there is no document yet".to_owned(),
            }),
            replicas: BTreeMap::new(),
        }));
        let process = random::word(12);
        let sender = Sender { settings, process, clock, metrics, status: status.clone() };
        let task = tokio::spawn(run(Arc::new(sender), published, shutdown));
        (Self { state, status }, task)
    }

    /// This is how things are now.
    pub fn publish(&self, state: ReportState) {
        self.state.send_modify(|published| {
            let before = published.as_deref();
            let is_news = before.is_none_or(|before| state.is_news_after(&before.state));
            let news = before.map_or(0, |before| before.news) + u64::from(is_news);
            *published = Some(Arc::new(Published { state, news }));
        });
    }

    /// How reporting fares.
    pub fn status(&self) -> ReporterStatus {
        // No user of the lock can leave it half changed.
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the tasks share.
struct Sender {
    settings: Settings,
    process: String,
    clock: Clock,
    metrics: Metrics,
    status: Arc<Mutex<ReporterStatus>>,
}

/// Keeps one task for each replica that the document names.
async fn run(sender: Arc<Sender>, mut published: watch::Receiver<Option<Arc<Published>>>, shutdown: CancellationToken) {
    let mut tasks: BTreeMap<(String, String), tokio_util::task::AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        let operators = published.borrow_and_update().as_deref().map(|published| published.state.operators.clone());
        if let (Some(operators), Some(token_file)) = (operators, &sender.settings.token_file) {
            let wanted: BTreeMap<_, _> = operators
                .into_iter()
                .take(MAX_OPERATORS)
                .map(|endpoint| ((endpoint.address.clone(), endpoint.certificate_sha256.clone()), endpoint))
                .collect();
            tasks.retain(|key, _| wanted.contains_key(key));
            sender.note(|status| {
                status.replicas.retain(|address, _| wanted.keys().any(|(known, _)| known == address));
                status.nothing_sent = wanted
                    .is_empty()
                    .then(|| "the document names no replica of the operator that takes reports".to_owned());
            });
            for (key, endpoint) in wanted {
                tasks.entry(key).or_insert_with(|| {
                    let (sender, published) = (sender.clone(), published.clone());
                    let telling = tell(sender, endpoint, token_file.clone(), published);
                    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(telling))
                });
            }
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            changed = published.changed() => if changed.is_err() { return },
        }
    }
}

/// Tells one replica, for as long as it is named.
async fn tell(
    sender: Arc<Sender>,
    endpoint: OperatorEndpoint,
    token_file: PathBuf,
    mut published: watch::Receiver<Option<Arc<Published>>>,
) {
    let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
    let (mut earliest, mut heartbeat) = (Instant::now(), Instant::now());
    let mut told = 0;
    let mut sequence = 0;
    let mut is_failing = false;
    loop {
        let news = published.borrow_and_update().as_deref().map_or(0, |published| published.news);
        let due = if news == told { heartbeat.max(earliest) } else { (Instant::now() + COALESCE).max(earliest) };
        if news == told {
            tokio::select! {
                () = sleep_until(due) => {}
                changed = published.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        } else {
            // Further news in the meantime goes along.
            sleep_until(due).await;
        }
        let Some(latest) = published.borrow_and_update().clone() else { return };
        sequence += 1;
        let begun = Instant::now();
        match sender.send(&endpoint, &token_file, &latest.state, sequence).await {
            Ok(()) => {
                backoff.reset();
                told = latest.news;
                earliest = begun + PAUSE;
                heartbeat = begun + jittered(sender.settings.heartbeat, 0.1);
                if std::mem::take(&mut is_failing) {
                    tracing::info!(replica = endpoint.address, "the operator takes reports again");
                }
            }
            Err(error) => {
                earliest = Instant::now() + backoff.after_failure();
                heartbeat = earliest;
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(replica = endpoint.address, %error, "a report did not reach the operator; trying on");
                }
            }
        }
    }
}

impl Sender {
    fn note(&self, change: impl FnOnce(&mut ReporterStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn send(
        &self,
        endpoint: &OperatorEndpoint,
        token_file: &Path,
        state: &ReportState,
        sequence: u64,
    ) -> Result<(), SendError> {
        let sent = async {
            let token = token(token_file.to_owned()).await?;
            let report = state.report(&self.settings.agent, &self.process, sequence, self.clock.now());
            let body = serde_json::to_vec(&report).map_err(|error| SendError::Connection(error.to_string()))?;
            post(endpoint, &token, body.into()).await
        };
        let result = sent.await;
        self.metrics.count(match &result {
            Ok(()) => "sent",
            Err(SendError::Token { .. }) => "no_token",
            Err(SendError::Refused { .. }) => "refused",
            Err(SendError::Connection(_) | SendError::Deadline) => "failed",
        });
        self.note(|status| {
            let replica = status.replicas.entry(endpoint.address.clone()).or_default();
            match &result {
                Ok(()) => *replica = ReplicaStatus { accepted_at: Some(self.clock.now()), error: None },
                Err(error) => replica.error = Some(error.to_string()),
            }
        });
        result
    }
}

/// Why a report did not arrive. No text of it holds a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The token cannot be read.
    #[error("the token {file} cannot be read: {reason}")]
    Token {
        /// Its file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Nobody answers there, or not the one who is expected.
    #[error("it cannot be reached: {0}")]
    Connection(String),
    /// It took too long.
    #[error("no answer within {DEADLINE:?}")]
    Deadline,
    /// The operator does not take it.
    #[error("the operator answers {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The operator's words.
        text: String,
    },
}

fn connection(error: impl fmt::Display) -> SendError {
    SendError::Connection(error.to_string())
}

async fn token(file: PathBuf) -> Result<String, SendError> {
    let name = file.display().to_string();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::fs::File::open(file)?.take(LONGEST_TOKEN).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text.trim().to_owned())
    });
    let problem = |reason: String| SendError::Token { file: name.clone(), reason };
    let token = read.await.map_err(|error| problem(error.to_string()))?.map_err(|error| problem(error.to_string()))?;
    if token.is_empty() { Err(problem("it is empty".to_owned())) } else { Ok(token) }
}

/// Sends one report.
///
/// # Errors
/// When it was not accepted within the deadline.
pub async fn post(endpoint: &OperatorEndpoint, token: &str, body: Bytes) -> Result<(), SendError> {
    timeout(DEADLINE, exchange(endpoint, token, body)).await.unwrap_or(Err(SendError::Deadline))
}

async fn exchange(endpoint: &OperatorEndpoint, token: &str, body: Bytes) -> Result<(), SendError> {
    let request = Request::post(report::PATH)
        .header(header::HOST, SERVER_NAME)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        // The error would quote the header.
        .map_err(|_| SendError::Connection("the token is no header value".to_owned()))?;
    let config = pinned::client(&endpoint.certificate_sha256).map_err(connection)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(connection)?;
    let stream = TcpStream::connect(&endpoint.address).await.map_err(connection)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(connection)?;
    let (mut sender, driving) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(connection)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(connection)?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(());
        }
        let text = to_bytes(Body::new(response.into_body()), LONGEST_REFUSAL).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ");
        Err(SendError::Refused { status: status.as_u16(), text })
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        // The connection has to be driven; when it ends, the answer says how.
        _never = async { drop(driving.await); pending::<()>().await } => Err(SendError::Deadline),
    }
}

#[cfg(test)]
#[path = "reporter_tests.rs"]
mod tests;
