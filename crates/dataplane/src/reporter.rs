//! Reporter to every replica of the operator: it sends the results of deliveries at once when they are news, and every
//! ten seconds.
//!
//! Each replica has a task, a backoff and a deadline of its own, so that a dead one delays no other. A report always
//! holds the whole latest state: nothing is queued, and the next report makes good for a lost one. Without a replica or
//! a token nothing is sent, and the status says so; mail flows all the same. This module decides nothing and never
//! waits for a reply before mail goes on.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode, header};
use futures::future::pending;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use mail_failover_contract::document::{API_VERSION, OperatorEndpoint, RouteReference};
use mail_failover_contract::{SERVER_NAME, report};
use mail_failover_core::model::{
    BackendDeliveries, DeliveryVerdict, DrillState, DrilledMail, EvidenceClass, FailingDeliveries, KeptMail,
    QueuedMail, SwitchedMail, ThrottledDeliveries, Timestamp,
};
use mail_failover_runtime::backoff::{Backoff, jittered};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::random;
use mail_failover_runtime::telemetry::metrics::register;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::pinned;

/// Pause between two reports without news.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// Pause after news, so that further news goes out in the same report.
const COALESCE: Duration = Duration::from_millis(20);
/// The least pause between two reports to one replica.
const PAUSE: Duration = Duration::from_millis(100);
/// Limit for one report, connection and answer included.
const DEADLINE: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// Bytes that are read of a refusal.
const LONGEST_REFUSAL: usize = 1024;
/// Bytes that are read of a token file.
const LONGEST_TOKEN: u64 = 8192;
/// Limit of the replicas that are told: the document's bound.
const MAX_OPERATORS: usize = 16;

/// Settings of the reporter.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the agent, unique among those of its route: the pod's, or the host's.
    pub agent: String,
    /// File with the service account's token. It is read for each report, because the kubelet renews it. Without one
    /// nothing is reported.
    pub token_file: Option<PathBuf>,
    /// Pause between two reports without news: [`HEARTBEAT`].
    pub heartbeat: Duration,
    /// True if backends of one host and port are told apart here, as in a relay.
    pub tells_accounts_apart: bool,
}

/// State that is reported to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportState {
    /// Route whose mail it is.
    pub route: RouteReference,
    /// Replicas of the operator that are told.
    pub operators: Vec<OperatorEndpoint>,
    /// Deliveries of each backend, by its name. Times are those of the clock that the reporter was started with.
    pub backends: BTreeMap<Arc<str>, BackendDeliveries>,
    /// Latest switch, if there was one.
    pub last_switch: Option<SwitchedMail>,
    /// Messages that backends refuse by a 5xx and that wait, if there are any.
    pub kept: Option<KeptMail>,
    /// Mail in the queue; `None` if it is not known.
    pub queue: Option<QueuedMail>,
    /// Latest drill, if there was one.
    pub drill: Option<DrilledMail>,
}

impl ReportState {
    /// Returns true if this must be told at once, given the state that was told before. Counts alone can wait, and so
    /// can a further failure of a run.
    fn is_news_after(&self, before: &Self) -> bool {
        self.route != before.route
            || self.urgent() != before.urgent()
            || self.first_delivery() != before.first_delivery()
            || self.drill_news() != before.drill_news()
    }

    /// Returns the parts of each backend's deliveries of which a change is news.
    fn urgent(&self) -> BTreeMap<&Arc<str>, (Option<EvidenceClass>, bool, bool)> {
        let mut urgent = BTreeMap::new();
        for (name, deliveries) in &self.backends {
            let (class, passes) = match &deliveries.verdict {
                DeliveryVerdict::Failing(failing) => (Some(failing.class), false),
                DeliveryVerdict::Throttled(_) => (Some(EvidenceClass::Throttled), false),
                DeliveryVerdict::Passing => (None, true),
                DeliveryVerdict::Silent => (None, false),
            };
            urgent.insert(name, (class, passes, deliveries.is_bypassed));
        }
        urgent
    }

    fn first_delivery(&self) -> Option<(Option<i64>, bool)> {
        self.last_switch.as_ref().map(|switch| (switch.transition, switch.first_delivery_at.is_some()))
    }

    /// Returns the parts of the drill of which a change is news.
    fn drill_news(&self) -> Option<(&Arc<str>, DrillState, bool)> {
        self.drill.as_ref().map(|drill| (&drill.id, drill.state, drill.first_delivery_after.is_some()))
    }

    /// Returns the report as of now.
    fn report(&self, settings: &Settings, process: &str, sequence: u64, now: Timestamp) -> report::DeliveryReport {
        report::DeliveryReport {
            api_version: API_VERSION.to_owned(),
            route: self.route.clone(),
            agent: settings.agent.clone(),
            process: process.to_owned(),
            sequence,
            tells_accounts_apart: settings.tells_accounts_apart,
            backends: self.backends.iter().map(|(name, deliveries)| backend_report(name, deliveries, now)).collect(),
            last_switch: self.last_switch.as_ref().map(|switch| switch_report(switch, now)),
            kept: self.kept.as_ref().map(|kept| report::KeptReport {
                messages: kept.messages,
                oldest_milliseconds: milliseconds(now.since(kept.oldest_at)),
                about: kept.about.to_string(),
                backend: kept.backend.to_string(),
            }),
            queue: self.queue.map(|queue| report::QueueReport {
                messages: queue.messages,
                oldest_milliseconds: queue.oldest_at.map(|at| milliseconds(now.since(at))),
            }),
            drill: self.drill.as_ref().map(|drill| drill_report(drill, now)),
        }
    }
}

fn drill_report(drill: &DrilledMail, now: Timestamp) -> report::DrillReport {
    let DrilledMail { id, state, refused, carried, let_through, began_at, first_delivery_after } = drill;
    report::DrillReport {
        id: id.to_string(),
        state: state.as_str().to_owned(),
        refused: *refused,
        carried: *carried,
        let_through: *let_through,
        begun_milliseconds: milliseconds(now.since(*began_at)),
        first_delivery_milliseconds: first_delivery_after.map(milliseconds),
    }
}

fn backend_report(name: &str, deliveries: &BackendDeliveries, now: Timestamp) -> report::BackendReport {
    let BackendDeliveries { verdict, is_bypassed, sent, deferred, bounced, possible_duplicates, diverted } = deliveries;
    let (mut failure, mut throttling) = (None, None);
    let verdict = match verdict {
        DeliveryVerdict::Failing(failing) => {
            failure = Some(failure_report(failing, now));
            report::ReportedVerdict::Failing
        }
        DeliveryVerdict::Throttled(throttled) => {
            throttling = Some(throttling_report(throttled, now));
            report::ReportedVerdict::Silent
        }
        DeliveryVerdict::Passing => report::ReportedVerdict::Passing,
        DeliveryVerdict::Silent => report::ReportedVerdict::Silent,
    };
    report::BackendReport {
        name: name.to_owned(),
        verdict,
        failure,
        throttling,
        bypassed: *is_bypassed,
        deliveries: report::DeliveryCounts {
            sent: *sent,
            deferred: *deferred,
            bounced: *bounced,
            possible_duplicates: *possible_duplicates,
            diverted: *diverted,
        },
    }
}

fn failure_report(failing: &FailingDeliveries, now: Timestamp) -> report::FailureReport {
    report::FailureReport {
        class: failing.class.as_str().to_owned(),
        message: report::printable(&failing.message),
        first_milliseconds: milliseconds(now.since(failing.first_failure_at)),
        last_milliseconds: milliseconds(now.since(failing.last_failure_at)),
        stage: failing.stage.map(|stage| stage.as_str().to_owned()),
    }
}

fn throttling_report(throttled: &ThrottledDeliveries, now: Timestamp) -> report::ThrottlingReport {
    report::ThrottlingReport {
        message: report::printable(&throttled.message),
        first_milliseconds: milliseconds(now.since(throttled.first_at)),
        last_milliseconds: milliseconds(now.since(throttled.last_at)),
    }
}

fn switch_report(switch: &SwitchedMail, now: Timestamp) -> report::ReportedSwitch {
    report::ReportedSwitch {
        transition: switch.transition,
        queue_before: switch.queue_before,
        queue_after: switch.queue_after,
        first_delivery: switch.first_delivery_at.map(|at| report::FirstDelivery {
            after_milliseconds: milliseconds(switch.first_delivery_after.unwrap_or_default()),
            age_milliseconds: milliseconds(now.since(at)),
        }),
        possible_duplicates: switch.possible_duplicates,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// State of reporting to all replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReporterStatus {
    /// Reason why nothing is reported at all.
    pub nothing_sent: Option<String>,
    /// State of each replica, by its address.
    pub replicas: BTreeMap<String, ReplicaReporting>,
}

/// State of reporting to one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaReporting {
    /// Time at which the latest report was accepted.
    pub accepted_at: Option<Timestamp>,
    /// Error since then, if there was one.
    pub error: Option<String>,
}

/// Takes the state to be reported. Cheap to clone, never waits.
#[derive(Clone, Debug)]
pub struct Reporter {
    state: watch::Sender<Option<Arc<Published>>>,
    status: Arc<Mutex<ReporterStatus>>,
}

#[derive(Debug)]
struct Published {
    state: ReportState,
    /// Number of the latest news. It increases with each piece of news.
    news: u64,
}

impl Reporter {
    /// Starts reporting, until `shutdown`. The task ends by itself only when it panics.
    pub fn start(
        settings: Settings,
        clock: Clock,
        metrics: ReporterMetrics,
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

    /// Publishes the present state.
    pub fn publish(&self, state: ReportState) {
        self.state.send_modify(|published| {
            let before = published.as_deref();
            let is_news = before.is_none_or(|before| state.is_news_after(&before.state));
            let news = before.map_or(0, |before| before.news) + u64::from(is_news);
            *published = Some(Arc::new(Published { state, news }));
        });
    }

    /// Returns the state of reporting.
    pub fn status(&self) -> ReporterStatus {
        // No holder of the lock can leave it half changed.
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Parts that the tasks share.
struct Sender {
    settings: Settings,
    process: String,
    clock: Clock,
    metrics: ReporterMetrics,
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
            // ADR-0048: Agents report to every replica.
            for (key, endpoint) in wanted {
                tasks.entry(key).or_insert_with(|| {
                    let (sender, published) = (sender.clone(), published.clone());
                    let sending = tell(sender, endpoint, token_file.clone(), published);
                    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(sending))
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
            // Further news in the meantime goes into the same report.
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
        let result = self.deliver(endpoint, token_file, state, sequence).await;
        self.metrics.count(result.as_ref().map_or_else(SendError::outcome, |()| "sent"));
        self.note(|status| {
            let replica = status.replicas.entry(endpoint.address.clone()).or_default();
            match &result {
                Ok(()) => *replica = ReplicaReporting { accepted_at: Some(self.clock.now()), error: None },
                Err(error) => replica.error = Some(error.to_string()),
            }
        });
        result
    }

    async fn deliver(
        &self,
        endpoint: &OperatorEndpoint,
        token_file: &Path,
        state: &ReportState,
        sequence: u64,
    ) -> Result<(), SendError> {
        let token = token(token_file.to_owned()).await?;
        let sending = async {
            let stream = connect(endpoint).await?;
            // Only now: a busy machine takes long for a TLS handshake, and ages count from here.
            let report = state.report(&self.settings, &self.process, sequence, self.clock.now());
            let body = serde_json::to_vec(&report).map_err(ConnectionError::from)?;
            exchange(stream, &token, body.into()).await
        };
        timeout(DEADLINE, sending).await.unwrap_or(Err(SendError::Deadline))
    }
}

/// Error of a report that did not arrive. No text of it holds a token.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The token cannot be read.
    #[error("the token {file} cannot be read: {source}")]
    Token {
        /// Path of the token file.
        file: String,
        /// Error of reading it.
        source: TokenError,
    },
    /// No server answers there, or not the expected one.
    #[error("it cannot be reached: {0}")]
    Connection(#[from] ConnectionError),
    /// The exchange took too long.
    #[error("no answer within {DEADLINE:?}")]
    Deadline,
    /// The operator does not take it.
    #[error("the operator answers {status}: {text}")]
    Refused {
        /// Status code of the answer.
        status: u16,
        /// Text of the answer.
        text: String,
    },
}

impl SendError {
    /// Returns the outcome for the metric.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Token { .. } => "no_token",
            Self::Refused { .. } => "refused",
            Self::Connection(_) | Self::Deadline => "failed",
        }
    }
}

/// Error of a token that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The reading task has panicked.
    #[error(transparent)]
    Task(#[from] JoinError),
    /// The file is empty.
    #[error("it is empty")]
    Empty,
}

/// Error of the way to the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The report cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The token cannot be sent. The library's own error would quote it.
    #[error("the token is no header value")]
    TokenHeader,
    /// The server's name is none. It is a constant.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// No connection, or none with the expected certificate.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The HTTP exchange failed.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReportOutcomeLabel {
    outcome: &'static str,
}

/// Metrics of the reports to the operator. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ReporterMetrics {
    reports: Family<ReportOutcomeLabel, Counter>,
}

impl ReporterMetrics {
    /// Registers the metrics in this registry, which has the prefix of the program.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            reports: register(
                registry,
                "reports",
                "Reports to replicas of the operator by outcome: sent, refused, failed, or no_token",
            ),
        }
    }

    fn count(&self, outcome: &'static str) {
        self.reports.get_or_create(&ReportOutcomeLabel { outcome }).inc();
    }
}

async fn token(file: PathBuf) -> Result<String, SendError> {
    let name = file.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_token(&file)).await.unwrap_or_else(|error| Err(error.into()));
    read.map_err(|source| SendError::Token { file: name, source })
}

fn read_token(file: &Path) -> Result<String, TokenError> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(LONGEST_TOKEN).read_to_string(&mut text)?;
    let token = text.trim();
    if token.is_empty() { Err(TokenError::Empty) } else { Ok(token.to_owned()) }
}

/// Sends one report.
///
/// # Errors
/// When it was not accepted within the deadline.
pub async fn post(endpoint: &OperatorEndpoint, token: &str, body: Bytes) -> Result<(), SendError> {
    let sending = async { exchange(connect(endpoint).await?, token, body).await };
    timeout(DEADLINE, sending).await.unwrap_or(Err(SendError::Deadline))
}

async fn exchange(stream: TlsStream<TcpStream>, token: &str, body: Bytes) -> Result<(), SendError> {
    let request = Request::post(report::PATH)
        .header(header::HOST, SERVER_NAME)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(|_| ConnectionError::TokenHeader)?;
    let (mut sender, driving) = handshake(TokioIo::new(stream)).await.map_err(ConnectionError::from)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(ConnectionError::from)?;
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
        // The connection has to be driven. When it ends, the answer says how.
        _never = async { drop(driving.await); pending::<()>().await } => Err(SendError::Deadline),
    }
}

async fn connect(endpoint: &OperatorEndpoint) -> Result<TlsStream<TcpStream>, ConnectionError> {
    let config = pinned::client(&endpoint.certificate_sha256)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    let stream = TcpStream::connect(&endpoint.address).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

#[cfg(test)]
#[path = "reporter_tests.rs"]
mod tests;
