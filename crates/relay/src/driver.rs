//! Loop that owns the core: documents, results of messages, timers. It publishes the answers in force, saves the last
//! good document, and reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_contract::routing::{self, NextHop, Refusal};
use mail_failover_core::model::Timestamp;
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::core::{
    AgentCore, CoreAction, CoreInput, Delivery, Disposition, LogEvent, LoggedReply, Place, SwitchProgress,
};
use mail_failover_dataplane::delivery_counters::DeliveryCounters;
use mail_failover_dataplane::drill_metrics::DrillMetrics;
use mail_failover_dataplane::reading::Sender;
use mail_failover_dataplane::reporter::Reporter;
use mail_failover_dataplane::source::{DocumentSource, SourceEvent, SourceMessage};
use mail_failover_dataplane::state_writer::StateWriter;
use mail_failover_dataplane::store::StateRecord;
use mail_failover_replies::without_addresses;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::telemetry::{Heartbeat, Readiness};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::awaited::AwaitedAnswers;
use crate::core::transaction::{Evidence, Fate};
use crate::metrics::BackendMetrics;

/// Readiness condition of the relay: it has a document.
pub const DOCUMENT: &str = "document";
/// The loop turns at least so often.
const TICK: Duration = Duration::from_secs(1);
/// Results that are taken in one turn.
const RESULTS: usize = 256;
/// Most characters of a description.
const MAX_SUMMARY: usize = 200;

/// Result of a message at a backend, with its place.
#[derive(Clone, Debug)]
pub struct EvidenceOf {
    /// Name of the backend.
    pub backend: Arc<str>,
    /// Host and port of the server.
    pub next_hop: NextHop,
    /// Number of the message.
    pub message: u64,
    /// Time of the result.
    pub at: Timestamp,
    /// Time since the beginning of the attempt.
    pub took: Duration,
    /// The result.
    pub evidence: Evidence,
}

impl EvidenceOf {
    // ADR-0157: The relay is told of every account.
    fn place(&self) -> Place {
        let NextHop { host, port } = &self.next_hop;
        Place { host: host.clone(), port: Some(*port), backend: Some(self.backend.clone()) }
    }

    fn delivery(&self) -> Delivery {
        let Evidence { class, stage, reply, summary, fate, .. } = &self.evidence;
        let logged = reply.as_ref().filter(|(_, reply)| reply.code >= 400).map(|(answered, reply)| LoggedReply {
            answered: Some(*answered),
            code: reply.code,
            text: without_addresses(reply.code, &reply.text).into(),
            sender: Sender::Other,
        });
        Delivery {
            place: self.place(),
            class: *class,
            disposition: match fate {
                Fate::Accepted => Disposition::Sent,
                Fate::PassedOn => Disposition::PassedOn,
                Fate::Deferred => Disposition::Deferred,
                Fate::Refused => Disposition::Bounced,
            },
            took: self.took,
            message: self.message,
            recipient: self.message,
            age: self.took,
            // Nothing is kept here: the application is told.
            refusal: None,
            summary: without_addresses(0, summary).chars().take(MAX_SUMMARY).collect::<String>().into(),
            logged,
            stage: Some(*stage),
        }
    }
}

/// Outputs of the driver.
pub struct DriverOutputs {
    /// Answers in force.
    pub answers: watch::Sender<Option<Arc<Answers>>>,
    /// Reporter to the operator.
    pub reporter: Reporter,
    /// Writer of the state that survives a restart.
    pub state_writer: StateWriter,
    /// Heartbeat of the loop, for liveness.
    pub heartbeat: Heartbeat,
    /// Readiness of the relay.
    pub readiness: Readiness,
    /// Metrics of backends.
    pub metrics: BackendMetrics,
    /// Metrics of drills.
    pub drills: DrillMetrics,
}

/// Owner of the core.
pub struct Driver {
    core: AgentCore,
    clock: Clock,
    awaited: AwaitedAnswers,
    outputs: DriverOutputs,
    counters: DeliveryCounters,
}

impl Driver {
    /// A driver of this core, which learns of backends whose final answers do not come.
    pub fn new(core: AgentCore, clock: Clock, awaited: AwaitedAnswers, outputs: DriverOutputs) -> Self {
        outputs.readiness.expect(DOCUMENT);
        Self { core, clock, awaited, outputs, counters: DeliveryCounters::default() }
    }

    /// Begins with the saved document, so that mail flows before any source is reached.
    pub fn begin_with(&mut self, source: &DocumentSource, text: &str) {
        let now = self.clock.now();
        if let Err(refusal) = self.offer(now, text) {
            tracing::warn!(%source, %refusal, "what was kept is not used");
        }
        self.act(now);
    }

    /// Drives until `shutdown`.
    pub async fn run(
        mut self,
        mut sources: mpsc::Receiver<SourceMessage>,
        mut results: mpsc::Receiver<EvidenceOf>,
        shutdown: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(RESULTS);
        loop {
            self.outputs.heartbeat.beat();
            let is_tick = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some((source, event)) = sources.recv() => {
                    self.source(&source, event);
                    false
                }
                _ = tick.tick() => true,
                count = results.recv_many(&mut batch, RESULTS) => {
                    if count == 0 {
                        // All connections are gone: the process ends.
                        tick.tick().await;
                    }
                    for result in batch.drain(..) {
                        self.result(&result);
                    }
                    false
                }
            };
            let now = self.clock.now();
            // Trials and verdicts lapse; an early call does no harm.
            if is_tick || self.core.next_timeout().is_some_and(|at| at <= now) {
                self.core.handle_timeout(now);
            }
            if is_tick {
                self.note_stalls(now);
            }
            self.act(now);
            if is_tick {
                self.report();
                self.show_drill();
            }
        }
    }

    fn source(&mut self, source: &DocumentSource, event: SourceEvent) {
        let now = self.clock.now();
        match event {
            SourceEvent::Document(text) => {
                if let Err(refusal) = self.offer(now, &text) {
                    tracing::warn!(%source, %refusal, "a document is not used; the last good one stays in force");
                    self.outputs
                        .readiness
                        .hindered(DOCUMENT, &format!("the document of {source} is refused: {refusal}"));
                }
            }
            SourceEvent::Missing(why) => {
                tracing::warn!(%source, %why, "there is no document; the last good one stays in force");
                self.outputs.readiness.hindered(DOCUMENT, &format!("{source}: {why}"));
            }
            SourceEvent::Unreachable(why) => {
                tracing::warn!(%source, %why, "the source of documents is not reached; the last good one stays in force");
                self.outputs.readiness.hindered(DOCUMENT, &format!("{source}: {why}"));
            }
            SourceEvent::ReachedAgain => tracing::info!(%source, "the source of documents is reached again"),
        }
    }

    fn offer(&mut self, now: Timestamp, text: &str) -> Result<(), Refusal> {
        let routing = routing::parse_accounts(text)?;
        self.core.accepts(&routing)?;
        for field in &routing.ignored {
            tracing::warn!(%field, "a field of the document is not known to this relay");
        }
        self.counters.keep_those_of(&routing);
        self.core.handle(now, CoreInput::Routing(routing));
        self.outputs.state_writer.keep(StateRecord::Document, text);
        self.outputs.readiness.met(DOCUMENT);
        Ok(())
    }

    fn result(&mut self, result: &EvidenceOf) {
        let Some(answers) = self.core.answers() else { return };
        let delivery = LogEvent::Delivery(result.delivery());
        self.counters.count(&delivery, &answers);
        self.core.handle(result.at, CoreInput::LogEvent(delivery));
        if result.evidence.is_ambiguous {
            let duplicate = LogEvent::PossibleDuplicate(result.place());
            self.counters.count(&duplicate, &answers);
            self.core.handle(result.at, CoreInput::LogEvent(duplicate));
        }
    }

    /// Tells the core of backends that have messages and do not answer.
    fn note_stalls(&mut self, now: Timestamp) {
        for (backend, messages) in self.awaited.take_stalled(Instant::now()) {
            tracing::info!(%backend, messages, "the final answers of a backend do not come");
            self.outputs.metrics.stalled(&backend);
            self.core.handle(now, CoreInput::Stalled { backend, sessions: messages });
        }
    }

    /// Carries out the core's actions.
    fn act(&mut self, now: Timestamp) {
        loop {
            let actions = self.core.poll();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    CoreAction::Publish(answers) => {
                        self.outputs.answers.send_replace(Some(answers));
                    }
                    CoreAction::Switch(order) => {
                        tracing::info!(cause = %order.cause, "messages go another way");
                        // Nothing is held anywhere: the next message takes the new way.
                        let progress = SwitchProgress {
                            queued_before: Some(0),
                            queued_after: Some(0),
                            ..SwitchProgress::begun(order.number)
                        };
                        self.core.handle(now, CoreInput::SwitchProgress(progress));
                    }
                    CoreAction::Remember(memory) => {
                        // It holds strings and numbers only, so this cannot fail.
                        if let Ok(text) = serde_json::to_string(&memory) {
                            self.outputs.state_writer.keep(StateRecord::Memory, &text);
                        }
                    }
                    CoreAction::Report => self.report(),
                }
            }
            self.show_drill();
        }
    }

    fn show_drill(&mut self) {
        let view = self.core.view();
        self.outputs.drills.show(view.as_ref().and_then(|view| view.drill.as_ref()));
    }

    fn report(&self) {
        let (Some(answers), Some(view)) = (self.core.answers(), self.core.view()) else { return };
        self.outputs.metrics.view(&view, &answers.routing);
        self.outputs.reporter.publish(self.counters.report(&answers.routing, &view, &self.core.verdicts(), None));
    }
}
