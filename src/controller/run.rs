//! The loop that feeds the world and carries out what follows.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::applier::Applier;
use super::backend::ProbeChange;
use super::ca::Ca;
use super::input::Input;
use super::login::LoginSecret;
use super::metrics::Metrics;
use super::read::Reader;
use super::step::Done;
use super::world::{Effects, ReadChange, World};
use crate::observers::{LocalReport, PeerEvent};
use crate::probe::Prober;
use crate::reports::Directory;
use crate::watch::WatchEvent;
use mail_failover_core::model::{AgentReport, ProbeReport, Timestamp};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::telemetry::Heartbeat;

/// So many inputs are taken before anything is decided about them.
const BATCH: usize = 256;
/// The loop turns at least this often, so that its heartbeat tells of a stall and not of quiet.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Steps under way get so long to end when the process does.
const DRAIN: Duration = Duration::from_secs(6);

/// What the loop is connected to.
#[derive(Debug)]
pub struct Connections {
    /// Events of the watches.
    pub watched: mpsc::Receiver<WatchEvent>,
    /// What the readers of certificates and logins say.
    pub inputs: mpsc::Receiver<Input>,
    /// What the probes say.
    pub reports: mpsc::Receiver<ProbeReport>,
    /// What the other replicas say.
    pub peer_events: mpsc::Receiver<PeerEvent>,
    /// What agents say.
    pub agent_reports: mpsc::Receiver<AgentReport>,
    /// Where it stands who may report.
    pub directory: Directory,
    /// Where this replica's own part is told.
    pub local_report: LocalReport,
    /// Whether this replica leads, by term.
    pub leading: watch::Receiver<Option<u64>>,
    /// Who carries out steps.
    pub applier: Applier,
    /// Who probes.
    pub prober: Prober,
    /// Who reads certificates.
    pub ca_reader: Reader<Ca>,
    /// Who reads logins.
    pub login_reader: Reader<LoginSecret>,
    /// Whom to tell that the loop turns.
    pub heartbeat: Heartbeat,
    /// What time it is.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
}

/// Runs until `shutdown`, then lets the steps under way end.
///
/// # Errors
/// When a step panicked: nobody would know any more what it has done.
pub async fn run(mut world: World, connections: Connections, shutdown: CancellationToken) -> Result<(), JoinError> {
    let Connections {
        mut watched,
        mut inputs,
        mut reports,
        mut peer_events,
        mut agent_reports,
        directory,
        local_report,
        mut leading,
        applier,
        prober,
        ca_reader,
        login_reader,
        heartbeat,
        clock,
        metrics,
    } = connections;
    let mut steps: JoinSet<Done> = JoinSet::new();
    let (mut input_batch, mut report_batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut watched_batch = Vec::with_capacity(BATCH);
    let mut agent_batch = Vec::with_capacity(BATCH);
    let mut term = *leading.borrow_and_update();
    world.take(clock.now(), Input::Leading(term.is_some()));
    loop {
        heartbeat.beat();
        let now = clock.now();
        let Effects { steps: tasks, probes, cas, logins, sightings, is_complete, admissions } = world.settle(now);
        local_report.note(sightings, is_complete);
        directory.note(admissions);
        for change in probes {
            match change {
                ProbeChange::Set(target) => prober.set(*target),
                ProbeChange::Remove(key) => prober.remove(&key),
            }
        }
        for change in cas {
            match change {
                ReadChange::Use(key) => ca_reader.use_(key),
                ReadChange::Drop(key) => ca_reader.drop_(&key),
            }
        }
        for change in logins {
            match change {
                ReadChange::Use(key) => login_reader.use_(key),
                ReadChange::Drop(key) => login_reader.drop_(&key),
            }
        }
        for task in tasks {
            let applier = applier.clone();
            steps.spawn(async move { applier.carry_out(task).await });
        }
        metrics.input_queue.set(i64::try_from(watched.len() + inputs.len() + reports.len()).unwrap_or(i64::MAX));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            changed = leading.changed() => {
                if changed.is_err() {
                    break;
                }
                let newest = *leading.borrow_and_update();
                // A term that ended and another that began between two looks are still a change.
                if newest != term {
                    term = newest;
                    world.take(clock.now(), Input::Leading(term.is_some()));
                }
            }
            Some(done) = steps.join_next(), if !steps.is_empty() => {
                world.take(clock.now(), Input::Done(Box::new(done?)));
                while let Some(done) = steps.try_join_next() {
                    world.take(clock.now(), Input::Done(Box::new(done?)));
                }
            }
            peer_event = peer_events.recv() => {
                let Some(peer_event) = peer_event else { break };
                world.take(clock.now(), Input::Observer(peer_event));
            }
            count = agent_reports.recv_many(&mut agent_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for report in agent_batch.drain(..) {
                    world.take(now, Input::AgentReport(Box::new(report)));
                }
            }
            count = reports.recv_many(&mut report_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for report in report_batch.drain(..) {
                    world.take(now, Input::Report(Box::new(report)));
                }
            }
            count = watched.recv_many(&mut watched_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for event in watched_batch.drain(..) {
                    world.take(now, event.into());
                }
            }
            count = inputs.recv_many(&mut input_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for input in input_batch.drain(..) {
                    world.take(now, input);
                }
            }
            () = tokio::time::sleep(sleep_for(clock.now(), world.wake_at())) => {}
        }
    }
    let drained = tokio::time::timeout(DRAIN, async { while steps.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("steps were still under way when the process ended; the next leader works them out again");
    }
    Ok(())
}

fn sleep_for(now: Timestamp, wake_at: Option<Timestamp>) -> Duration {
    wake_at.map_or(LONGEST_SLEEP, |at| at.since(now).min(LONGEST_SLEEP))
}
