//! Loop that owns the core. It takes events of the sources, of the MTA's log and of timers, and carries out the core's
//! actions in their order.
//!
//! Nothing slow happens here. Files of authorities are written within a deadline; everything else is handed on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{self, Refusal, RouteBackend, Routing};
use mail_failover_core::model::{QueuedMail, Timestamp};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::telemetry::{Heartbeat, Readiness};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::authorities::{self, AuthorityError, AuthorityFiles};
use super::driver_metrics::DriverMetrics;
use super::log::follow::Reading;
use super::metrics::TrafficMetrics;
use super::sessions::BegunSessions;
use super::socketmap::SocketmapView;
use super::status::{
    BackendStatus, CredentialsStatus, DocumentStatus, DrillStatus, KeptStatus, MailLogStatus, QueueStatus,
    ReportsStatus, SourceState, SourceStatus, StateStatus, Status, SwitchStatus, milliseconds, rfc_3339,
};
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::core::{AgentCore, Cause, CoreAction, CoreInput, LogEvent, SwitchOrder, SwitchProgress};
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_dataplane::delivery_counters::DeliveryCounters;
use mail_failover_dataplane::drill_metrics::DrillMetrics;
use mail_failover_dataplane::reporter::Reporter;
use mail_failover_dataplane::source::{DocumentSource, SourceEvent, SourceMessage};
use mail_failover_dataplane::state_writer::StateWriter;
use mail_failover_dataplane::store::StateRecord;

/// Readiness condition of the agent: it has a document.
pub const DOCUMENT: &str = "document";
/// The loop turns at least so often.
const TICK: Duration = Duration::from_secs(1);
/// Limit for writing the files of authorities.
const AUTHORITIES_DEADLINE: Duration = Duration::from_secs(2);
/// A file of an authority that could not be written is tried again so often.
const AUTHORITIES_PAUSE: Duration = Duration::from_secs(10);
/// Limit of the events that are taken in one turn, so that a flood of them delays nothing else.
const LOG_EVENTS: usize = 256;

/// Inputs of the driver.
#[derive(Debug)]
pub struct DriverInputs {
    /// Events of the sources.
    pub source_events: mpsc::Receiver<SourceMessage>,
    /// Events from the MTA's log.
    pub log_events: mpsc::Receiver<LogEvent>,
    /// Progress of the switches, from the executor.
    pub switch_progress: mpsc::Receiver<SwitchProgress>,
    /// Requests for the status.
    pub questions: mpsc::Receiver<oneshot::Sender<Status>>,
}

/// Outputs of the driver.
#[derive(Debug)]
pub struct DriverOutputs {
    /// View from which the socketmap answers the MTA.
    pub view: watch::Sender<Arc<SocketmapView>>,
    /// The latest switch to carry out.
    pub switch_orders: watch::Sender<Option<SwitchOrder>>,
    /// True while a backend that messages try first asks for less mail, for the executor of switches.
    pub throttling: watch::Sender<bool>,
    /// Reporter to the operator.
    pub reporter: Reporter,
    /// Writer of the state that survives a restart.
    pub state_writer: StateWriter,
    /// Heartbeat of the loop, for liveness.
    pub heartbeat: Heartbeat,
    /// Readiness of the agent, which needs a document.
    pub readiness: Readiness,
    /// Metrics of the driver.
    pub metrics: DriverMetrics,
    /// Metrics of real mail.
    pub traffic: TrafficMetrics,
    /// Metrics of drills.
    pub drills: DrillMetrics,
}

/// Settings of the driver, and the parts that its status reads.
#[derive(Debug)]
pub struct DriverSettings {
    /// Queue directory of Postfix.
    pub queue_directory: PathBuf,
    /// State directory, for the status.
    pub state_directory: PathBuf,
    /// Source of the time.
    pub clock: Clock,
    /// Logins, for their state in the status.
    pub credentials: Credentials,
    /// Place of the MTA's log, for the status; empty if there is none.
    pub mail_log_source: String,
    /// State of reading the log, for the status.
    pub mail_log: Reading,
    /// Sessions that Postfix has begun, of which nothing was heard yet.
    pub sessions: BegunSessions,
    /// Mail in the queue when it was last looked at; `None` if it is not known.
    pub queue: watch::Receiver<Option<QueuedMail>>,
}

/// A source and its latest events.
#[derive(Debug)]
struct TrackedSource {
    source: DocumentSource,
    state: SourceState,
    message: String,
    since: Timestamp,
    /// Latest document of the source.
    text: Option<String>,
    /// Reason why that document is not used.
    refused: Option<String>,
}

impl TrackedSource {
    fn new(source: DocumentSource, since: Timestamp) -> Self {
        Self { source, state: SourceState::Waiting, message: String::new(), since, text: None, refused: None }
    }

    /// Returns the state in words, for those who wait for a document.
    fn in_words(&self) -> String {
        let Self { source, state, message, refused, .. } = self;
        match (state, refused) {
            (SourceState::Waiting, _) => format!("{source} has not been read yet"),
            (SourceState::Following, Some(refused)) => format!("the document of {source} is refused: {refused}"),
            (SourceState::Following, None) => format!("{source} is read"),
            (SourceState::Missing | SourceState::Unreachable, _) => format!("{source}: {message}"),
        }
    }
}

/// Owner of the core; the module describes it.
#[derive(Debug)]
pub struct Driver {
    core: AgentCore,
    settings: DriverSettings,
    outputs: DriverOutputs,
    sources: Vec<TrackedSource>,
    /// Source of the document in force, and the time at which it came.
    origin: Option<(DocumentSource, Timestamp)>,
    authorities_tried: Option<Instant>,
    counters: DeliveryCounters,
    /// Time to the first delivery on the new way, as the operator was last told.
    first_delivery: Option<Duration>,
    /// True if the log has been called not understood.
    is_log_doubted: bool,
}

impl Driver {
    /// A driver of this core that knows of these sources.
    pub fn new(
        core: AgentCore,
        settings: DriverSettings,
        outputs: DriverOutputs,
        sources: Vec<DocumentSource>,
    ) -> Self {
        let since = settings.clock.now();
        outputs.readiness.expect(DOCUMENT);
        let sources = sources.into_iter().map(|source| TrackedSource::new(source, since)).collect();
        let mut driver = Self {
            core,
            settings,
            outputs,
            sources,
            origin: None,
            authorities_tried: None,
            counters: DeliveryCounters::default(),
            first_delivery: None,
            is_log_doubted: false,
        };
        driver.say_what_is_waited_for();
        driver
    }

    /// Begins with the saved document, so that mail flows before any source is reached.
    pub async fn begin_with(&mut self, source: DocumentSource, text: &str) {
        let now = self.settings.clock.now();
        match self.offer(now, text) {
            Ok(()) => self.in_force(source, now),
            Err(refusal) => {
                self.outputs.metrics.refused(&source, &refusal);
                tracing::warn!(%source, %refusal, "what was kept is not used");
            }
        }
        self.act().await;
    }

    /// Drives until `shutdown`. The turn under way is finished.
    pub async fn run(mut self, mut inputs: DriverInputs, shutdown: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut log_events = Vec::with_capacity(LOG_EVENTS);
        loop {
            self.outputs.heartbeat.beat();
            let timer = self.next_timeout();
            let timer = async {
                match timer {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some((source, event)) = inputs.source_events.recv() => self.source_says(&source, event),
                Some(progress) = inputs.switch_progress.recv() => {
                    self.core.handle(self.settings.clock.now(), CoreInput::SwitchProgress(progress));
                }
                Some(question) = inputs.questions.recv() => drop(question.send(self.status())),
                () = timer => self.core.handle_timeout(self.settings.clock.now()),
                _ = tick.tick() => {
                    self.retry_authorities().await;
                    self.note_stalls();
                    self.doubt_log();
                    self.show_kept();
                    self.show_drill();
                    self.report();
                }
                count = inputs.log_events.recv_many(&mut log_events, LOG_EVENTS), if !inputs.log_events.is_closed() || !inputs.log_events.is_empty() => {
                    self.log_says(log_events.drain(..count));
                }
            }
            self.act().await;
            self.tell_throttling();
        }
    }

    fn log_says(&mut self, events: impl Iterator<Item = LogEvent>) {
        let now = self.settings.clock.now();
        for event in events {
            let answers = self.core.answers();
            let routing = answers.as_ref().map(|answers| &*answers.routing);
            self.outputs.traffic.observe(&event, routing);
            if let (LogEvent::Delivery(delivery), Some(routing)) = (&event, routing)
                && let Some(at) = delivery.place.position_in(routing)
            {
                self.settings.sessions.heard_of(&routing.backends[at].name);
            }
            if let Some(answers) = &answers {
                self.counters.count(&event, answers);
            }
            self.core.handle(now, CoreInput::LogEvent(event));
        }
        if self.core.first_delivery() != self.first_delivery {
            self.first_delivery = self.core.first_delivery();
            if let Some(after) = self.first_delivery {
                self.outputs.metrics.first_delivery(after);
            }
            self.report();
        }
    }

    /// Tells the core of backends with which sessions are begun and of which nothing is heard.
    fn note_stalls(&mut self) {
        // Where the log is not read, nothing is ever heard of a session.
        if self.settings.mail_log.problem().is_some() {
            self.settings.sessions.forget_all();
            return;
        }
        for (backend, sessions) in self.settings.sessions.take_stalled(std::time::Instant::now()) {
            self.outputs.traffic.stalled(&backend);
            self.core.handle(self.settings.clock.now(), CoreInput::Stalled { backend, sessions });
        }
    }

    /// Shows the age of what is kept, which grows by itself.
    fn show_kept(&self) {
        let now = self.settings.clock.now();
        if let Some(view) = self.core.view() {
            self.outputs.traffic.set_kept(&view, now);
        }
    }

    /// Shows the counts of a drill, which grow by themselves.
    fn show_drill(&mut self) {
        let view = self.core.view();
        self.outputs.drills.show(view.as_ref().and_then(|view| view.drill.as_ref()));
    }

    /// Tells once if the log is read and not understood.
    fn doubt_log(&mut self) {
        let now = self.settings.clock.now();
        self.settings.mail_log.note_ways(now, self.settings.sessions.ways());
        let doubt = self.settings.mail_log.doubt(now);
        self.outputs.metrics.log_doubted(doubt.is_some());
        if let (Some(why), false) = (&doubt, self.is_log_doubted) {
            tracing::warn!(source = self.settings.mail_log_source, why, "the mail log is read and not understood");
        }
        self.is_log_doubted = doubt.is_some();
    }

    fn next_timeout(&self) -> Option<Instant> {
        let wait = self.core.next_timeout()?.since(self.settings.clock.now());
        // At most a day: longer timers of tokio are of no use.
        Some(Instant::now() + wait.min(Duration::from_hours(24)))
    }

    fn source_says(&mut self, source: &DocumentSource, event: SourceEvent) {
        let now = self.settings.clock.now();
        let Some(at) = self.sources.iter().position(|heard| heard.source == *source) else { return };
        let heard = &mut self.sources[at];
        let (state, message, text) = match event {
            SourceEvent::Document(text) => (SourceState::Following, String::new(), Some(text)),
            SourceEvent::Missing(why) => (SourceState::Missing, why.to_string(), None),
            SourceEvent::Unreachable(error) => (SourceState::Unreachable, error.to_string(), None),
            SourceEvent::ReachedAgain if heard.text.is_some() => (SourceState::Following, String::new(), None),
            SourceEvent::ReachedAgain => (SourceState::Waiting, String::new(), None),
        };
        if heard.state != state {
            heard.since = now;
            match state {
                SourceState::Following => tracing::info!(%source, "the source is followed"),
                SourceState::Missing => {
                    tracing::warn!(%source, why = message, "the source has no document; the last good one stays");
                }
                SourceState::Unreachable => {
                    tracing::warn!(%source, why = message, "the source is not reached; the last good document stays");
                }
                SourceState::Waiting => {}
            }
        }
        heard.state = state;
        heard.message = message;
        if state == SourceState::Missing {
            // If the same document comes back, it is news.
            heard.text = None;
            heard.refused = None;
        }
        self.outputs.metrics.source(source, state);
        if let Some(text) = text.filter(|text| heard.text.as_ref() != Some(text)) {
            self.offered(at, text, now);
        }
        if self.origin.is_none() {
            self.say_what_is_waited_for();
        }
    }

    fn offered(&mut self, at: usize, text: String, now: Timestamp) {
        let source = self.sources[at].source.clone();
        match self.offer(now, &text) {
            Ok(()) => {
                self.outputs.state_writer.keep(StateRecord::Document, &text);
                self.sources[at].refused = None;
                self.in_force(source, now);
            }
            Err(refusal) => {
                self.outputs.metrics.refused(&source, &refusal);
                tracing::warn!(%source, %refusal, "a document is refused; the last good one stays");
                self.sources[at].refused = Some(refusal.to_string());
            }
        }
        self.sources[at].text = Some(text);
    }

    /// Gives a document to the core, if that takes it.
    fn offer(&mut self, now: Timestamp, text: &str) -> Result<(), Refusal> {
        let routing = routing::parse(text)?;
        self.core.accepts(&routing)?;
        self.core.handle(now, CoreInput::Routing(routing));
        Ok(())
    }

    fn in_force(&mut self, source: DocumentSource, now: Timestamp) {
        self.outputs.metrics.accepted(&source);
        self.outputs.readiness.met(DOCUMENT);
        if let Some(view) = self.core.view() {
            let (route, transition, summary) = (&*view.route, view.transition, &*view.summary);
            tracing::info!(%source, route, transition, summary, "a document is in force");
        }
        if let Some(ignored) = self.core.answers().map(|answers| answers.routing.ignored.clone())
            && !ignored.is_empty()
        {
            tracing::warn!(%source, ?ignored, "this agent does not know all that the document says: misspelt, or of a newer operator");
        }
        self.origin = Some((source, now));
    }

    /// Tells those who ask before there is a document.
    fn say_what_is_waited_for(&mut self) {
        let waiting = self.waiting_for();
        self.outputs.readiness.hindered(DOCUMENT, &waiting);
        self.outputs.view.send_if_modified(|view| {
            let is_news = view.answers.is_none() && view.waiting_for != waiting;
            if is_news {
                *view = Arc::new(SocketmapView { waiting_for: waiting, ..SocketmapView::default() });
            }
            is_news
        });
    }

    fn waiting_for(&self) -> String {
        let sources: Vec<_> = self.sources.iter().map(TrackedSource::in_words).collect();
        format!("no document yet: {}", sources.join("; "))
    }

    /// Carries out the core's actions until there are no more.
    async fn act(&mut self) {
        loop {
            let actions = self.core.poll();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    CoreAction::Publish(answers) => self.publish(answers).await,
                    CoreAction::Switch(order) => self.order(order),
                    CoreAction::Remember(memory) => {
                        // It holds strings and numbers only, so this cannot fail.
                        if let Ok(json) = serde_json::to_string(&memory) {
                            self.outputs.state_writer.keep(StateRecord::Memory, &json);
                        }
                    }
                    // Below, with whatever else is new.
                    CoreAction::Report => {}
                }
            }
            let now = self.settings.clock.now();
            if let Some(view) = self.core.view() {
                self.outputs.metrics.view(&view);
                self.outputs.traffic.set_breakers(&view.backends);
                self.outputs.traffic.set_kept(&view, now);
            }
            self.show_drill();
            // An action may be news to the operator. A report without news waits for the next heartbeat.
            self.report();
        }
    }

    /// Tells the executor of switches if a backend asks for less mail.
    fn tell_throttling(&self) {
        let is_throttled = self.core.is_throttled(self.settings.clock.now());
        self.outputs.throttling.send_if_modified(|told| std::mem::replace(told, is_throttled) != is_throttled);
    }

    fn report(&mut self) {
        let (Some(view), Some(answers)) = (self.core.view(), self.core.answers()) else {
            return;
        };
        self.counters.keep_those_of(&answers.routing);
        let queue = *self.settings.queue.borrow();
        self.outputs.reporter.publish(self.counters.report(&answers.routing, &view, &self.core.verdicts(), queue));
    }

    async fn publish(&mut self, answers: Arc<Answers>) {
        let view = self.outputs.view.borrow().clone();
        let next = view.next(answers, BTreeMap::new());
        let authorities = self.authorities(&view, next.backends().cloned().collect()).await;
        self.outputs.view.send_replace(Arc::new(SocketmapView { authorities, ..next }));
    }

    /// Provides the files of the authorities of these backends. Files that are there already are not looked at again.
    async fn authorities(&mut self, view: &SocketmapView, backends: Vec<RouteBackend>) -> AuthorityFiles {
        let wanted = authorities::of(backends.iter());
        if wanted.iter().all(|pem| matches!(view.authorities.get(pem), Some(Ok(_)))) {
            let known = view.authorities.iter().filter(|(pem, _)| wanted.contains(*pem));
            return known.map(|(pem, file)| (pem.clone(), file.clone())).collect();
        }
        self.authorities_tried = Some(Instant::now());
        let (queue_directory, pems) = (self.settings.queue_directory.clone(), wanted.clone());
        let writing = tokio::task::spawn_blocking(move || authorities::provide(&queue_directory, &pems));
        let provided = match timeout(AUTHORITIES_DEADLINE, writing).await {
            Ok(Ok(provided)) => provided,
            Ok(Err(error)) => failed(wanted, &AuthorityError::Task(Arc::new(error))),
            Err(_elapsed) => failed(wanted, &AuthorityError::Deadline),
        };
        for error in provided.values().filter_map(|file| file.as_ref().err()) {
            tracing::warn!(%error, "mail for the backends of a private authority waits");
        }
        provided
    }

    async fn retry_authorities(&mut self) {
        let view = self.outputs.view.borrow().clone();
        let is_due = self.authorities_tried.is_some_and(|at| at.elapsed() >= AUTHORITIES_PAUSE);
        if !is_due || view.authorities.values().all(Result::is_ok) {
            return;
        }
        let authorities = self.authorities(&view, view.backends().cloned().collect()).await;
        self.outputs.view.send_replace(Arc::new(SocketmapView { authorities, ..SocketmapView::clone(&view) }));
    }

    fn order(&mut self, order: SwitchOrder) {
        let SwitchOrder { number, cause, gained, lost, .. } = &order;
        let text = "Postfix is reloaded and its queue flushed, so that messages go where they may now";
        match cause {
            Cause::Opened { .. } => tracing::warn!(number, %cause, ?gained, ?lost, "{text}"),
            Cause::Start | Cause::Operator | Cause::Drill { .. } => {
                tracing::info!(number, %cause, ?gained, ?lost, "{text}");
            }
        }
        self.outputs.metrics.ordered(&order);
        self.outputs.switch_orders.send_replace(Some(order));
    }

    fn status(&self) -> Status {
        let now = self.settings.clock.now();
        let view = self.core.view();
        let published = self.outputs.view.borrow().clone();
        let routing = published.answers.as_ref().map(|answers| answers.routing.clone());
        let backends = view.iter().flat_map(|view| &view.backends).map(|backend| {
            let status = BackendStatus::of(backend);
            match routing.as_deref().and_then(|routing| named(routing, &backend.name)) {
                Some(backend) => self.with_files(status, backend, &published),
                None => status,
            }
        });
        let sources = self.sources.iter().map(|heard| SourceStatus {
            source: heard.source.to_string(),
            state: heard.state,
            message: heard.message.clone(),
            since: rfc_3339(heard.since),
            refused: heard.refused.clone(),
        });
        let missing = self.outputs.readiness.missing();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: rfc_3339(now),
            ready: missing.is_empty(),
            waiting_for: missing.into_iter().next().map(|(_, why)| why),
            document: view.as_ref().zip(self.origin.as_ref()).map(|(view, (source, since))| DocumentStatus {
                route: view.route.to_string(),
                transition: view.transition,
                summary: view.summary.to_string(),
                source: source.to_string(),
                since: rfc_3339(*since),
                ignored: routing.iter().flat_map(|routing| &routing.ignored).map(ToString::to_string).collect(),
            }),
            sources: sources.collect(),
            backends: backends.collect(),
            mail_log: MailLogStatus {
                source: self.settings.mail_log_source.clone(),
                problem: self.settings.mail_log.problem(),
                warning: self.settings.mail_log.doubt(now),
            },
            last_switch: view.as_ref().and_then(|view| view.last_switch.as_ref()).map(SwitchStatus::of),
            possible_duplicates: view.as_ref().map_or(0, |view| view.possible_duplicates),
            kept: view.as_ref().and_then(|view| view.kept.as_ref()).map(KeptStatus::of),
            drill: view.as_ref().and_then(|view| view.drill.as_ref()).map(DrillStatus::of),
            queue: self.settings.queue.borrow().map(QueueStatus::of),
            diverted: self.counters.diverted(),
            not_served: self.outputs.readiness.remarks().iter().map(|(what, why)| format!("{what}: {why}")).collect(),
            reports: ReportsStatus::of(self.outputs.reporter.status()),
            state: StateStatus {
                directory: self.settings.state_directory.display().to_string(),
                problem: self.outputs.state_writer.trouble(),
            },
        }
    }

    fn with_files(&self, status: BackendStatus, backend: &RouteBackend, published: &SocketmapView) -> BackendStatus {
        let credentials = backend.secret.as_ref();
        let authority = authorities::of(std::iter::once(backend)).into_iter().next();
        let file = authority.and_then(|pem| published.authorities.get(&pem).cloned());
        BackendStatus {
            credentials: credentials
                .map(|secret| CredentialsStatus::of(secret, self.settings.credentials.state(secret))),
            authority_problem: file.and_then(Result::err).map(|error| error.to_string()),
            least_interval_milliseconds: backend.interval.map(milliseconds),
            messages_per_day: backend.messages_per_day,
            ..status
        }
    }
}

fn failed(authorities: BTreeSet<Arc<str>>, error: &AuthorityError) -> AuthorityFiles {
    authorities.into_iter().map(|pem| (pem, Err(error.clone()))).collect()
}

fn named<'a>(routing: &'a Routing, name: &str) -> Option<&'a RouteBackend> {
    routing.backends.iter().find(|backend| *backend.name == *name)
}

#[cfg(test)]
mod tests;
