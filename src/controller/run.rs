//! The loop that feeds the state and carries out the effects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::action::ActionResult;
use super::applier::Applier;
use super::backend::ProbeChange;
use super::ca::Ca;
use super::input::{Input, Unfit};
use super::login::LoginSecret;
use super::metrics::Metrics;
use super::read::Reader;
use super::secret_reader::SecretsByName;
use super::state::{ControllerState, Effects, ReadChange};
use crate::dns::{DnsClient, DnsResult};
use crate::notification::{NotificationClient, NotificationResult};
use crate::observers::{LocalReport, PeerEvent};
use crate::probe::Prober;
use crate::reports::Directory;
use crate::watch::WatchEvent;
use crate::webhook::{WebhookClient, WebhookResult};
use mail_failover_core::model::{AgentReport, ProbeReport, Timestamp};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::kubernetes::WatchContacts;
use mail_failover_runtime::telemetry::Heartbeat;

/// Bound on the inputs that are handled before the next poll.
const BATCH: usize = 256;
/// Longest time between two iterations.
// A missing heartbeat must mean a stall, and not quiet.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Time that the actions under way have to end when the process does.
const DRAIN: Duration = Duration::from_secs(6);

/// Time without a turn of the loop after which the process was starved, or frozen.
const LAG: Duration = Duration::from_secs(10);
/// Time after a lag in which this replica's evidence does not count.
// Rounds that began before it are over by then, and a full one has followed with the default probes.
const LATE_FOR: Duration = Duration::from_secs(30);
/// Silence of a watch after which its objects may be outdated.
// A request lasts 45 s, and the next one is a contact.
const WATCH_SILENCE: Duration = Duration::from_mins(3);
/// Resources by which backends are observed.
const OBSERVED_BY: [&str; 5] = ["sendingbackends", "failoverpolicies", "mailroutes", "services", "endpointslices"];

/// Everything that the loop is connected to.
#[derive(Debug)]
pub struct Connections {
    /// Events of the watches.
    pub watched: mpsc::Receiver<WatchEvent>,
    /// Answers of the readers of certificates and logins.
    pub inputs: mpsc::Receiver<Input>,
    /// Results of this replica's probes.
    pub reports: mpsc::Receiver<ProbeReport>,
    /// Reports of the peers.
    pub peer_events: mpsc::Receiver<PeerEvent>,
    /// Reports of agents about real mail.
    pub agent_reports: mpsc::Receiver<AgentReport>,
    /// Directory of the service accounts that may report.
    pub directory: Directory,
    /// The part of this replica in what peers are told.
    pub local_report: LocalReport,
    /// Latest contacts by watches.
    pub watch_contacts: WatchContacts,
    /// Replica that is fitter to lead, for the election.
    pub successor: watch::Sender<Option<Arc<str>>>,
    /// Number of the term in which this replica leads.
    pub leading: watch::Receiver<Option<u64>>,
    /// Writes to the API server.
    pub applier: Applier,
    /// Probes backends from this process.
    pub prober: Prober,
    /// Reads certificates of private authorities.
    pub ca_reader: Reader<Ca>,
    /// Reads logins of probes.
    pub login_reader: Reader<LoginSecret>,
    /// Reads Secrets of outputs and receivers.
    pub secret_reader: Reader<SecretsByName>,
    /// Calls webhooks.
    pub webhook_client: WebhookClient,
    /// Leads zones.
    pub dns_client: DnsClient,
    /// Tells receivers.
    pub notification_client: NotificationClient,
    /// Liveness heartbeat; beaten once per iteration.
    pub heartbeat: Heartbeat,
    /// Source of the present time.
    pub clock: Clock,
    /// Counters and gauges of the controller.
    pub metrics: Metrics,
}

/// Runs until `shutdown`, then lets the actions under way end.
///
/// # Errors
/// An action panicked: its effect is unknown.
pub async fn run(
    mut state: ControllerState,
    connections: Connections,
    shutdown: CancellationToken,
) -> Result<(), JoinError> {
    let Connections {
        mut watched,
        mut inputs,
        mut reports,
        mut peer_events,
        mut agent_reports,
        directory,
        local_report,
        watch_contacts,
        successor,
        mut leading,
        applier,
        prober,
        ca_reader,
        login_reader,
        secret_reader,
        webhook_client,
        dns_client,
        notification_client,
        heartbeat,
        clock,
        metrics,
    } = connections;
    let mut actions: JoinSet<ActionResult> = JoinSet::new();
    let mut webhook_calls: JoinSet<WebhookResult> = JoinSet::new();
    let mut dns_calls: JoinSet<DnsResult> = JoinSet::new();
    let mut notifications: JoinSet<NotificationResult> = JoinSet::new();
    let (mut input_batch, mut report_batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut watched_batch = Vec::with_capacity(BATCH);
    let mut agent_batch = Vec::with_capacity(BATCH);
    let mut fitness = Fitness::default();
    let mut term = *leading.borrow_and_update();
    state.handle(clock.now(), Input::Leading(term.is_some()));
    loop {
        heartbeat.beat();
        let (now, drift) = (clock.now(), clock.drift());
        metrics.clock_drift(drift);
        state.handle(now, Input::Unfit(fitness.look(Instant::now(), &watch_contacts)));
        state.handle(now, Input::Drift(drift));
        state.handle_timeout(now);
        let Effects {
            actions: requests,
            probes,
            cas,
            logins,
            secrets,
            notification_calls,
            webhook_calls: calls,
            dns_calls: attempts,
            report_changes,
            awaited,
            known_up_to,
            successor: fitter,
            admissions,
        } = state.poll(now);
        local_report.note(report_changes, awaited, known_up_to);
        successor.send_if_modified(|known| {
            let is_news = *known != fitter;
            *known = fitter;
            is_news
        });
        directory.note(admissions);
        for change in probes {
            match change {
                ProbeChange::Set(target) => prober.set(*target),
                ProbeChange::Remove(key) => prober.remove(&key),
                ProbeChange::Look(key) => prober.look(key),
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
        for change in secrets {
            match change {
                ReadChange::Use(key) => secret_reader.use_(key),
                ReadChange::Drop(key) => secret_reader.drop_(&key),
            }
        }
        for call in attempts {
            let client = dns_client.clone();
            dns_calls.spawn(async move { client.carry_out(call).await });
        }
        for call in notification_calls {
            let client = notification_client.clone();
            notifications.spawn(async move { client.carry_out(call).await });
        }
        for call in calls {
            let client = webhook_client.clone();
            webhook_calls.spawn(async move { client.carry_out(call).await });
        }
        for request in requests {
            let applier = applier.clone();
            actions.spawn(async move { applier.carry_out(request).await });
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
                // One term may have ended and another begun between two iterations.
                if newest != term {
                    term = newest;
                    state.handle(clock.now(), Input::Leading(term.is_some()));
                }
            }
            Some(result) = actions.join_next(), if !actions.is_empty() => {
                state.handle(clock.now(), Input::Result(Box::new(result?)));
                while let Some(result) = actions.try_join_next() {
                    state.handle(clock.now(), Input::Result(Box::new(result?)));
                }
            }
            Some(result) = webhook_calls.join_next(), if !webhook_calls.is_empty() => {
                state.handle(clock.now(), Input::Webhook(Box::new(result?)));
            }
            Some(result) = dns_calls.join_next(), if !dns_calls.is_empty() => {
                state.handle(clock.now(), Input::Dns(Box::new(result?)));
            }
            Some(result) = notifications.join_next(), if !notifications.is_empty() => {
                state.handle(clock.now(), Input::Notification(Box::new(result?)));
            }
            event = peer_events.recv() => {
                let Some(event) = event else { break };
                state.handle(clock.now(), Input::Observer(event));
            }
            count = agent_reports.recv_many(&mut agent_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for report in agent_batch.drain(..) {
                    state.handle(now, Input::AgentReport(Box::new(report)));
                }
            }
            count = reports.recv_many(&mut report_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for report in report_batch.drain(..) {
                    state.handle(now, Input::Report(Box::new(report)));
                }
            }
            count = watched.recv_many(&mut watched_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for event in watched_batch.drain(..) {
                    state.handle(now, event.into());
                }
            }
            count = inputs.recv_many(&mut input_batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now = clock.now();
                for input in input_batch.drain(..) {
                    state.handle(now, input);
                }
            }
            () = tokio::time::sleep(sleep_for(clock.now(), state.next_timeout())) => {}
        }
    }
    let drained = tokio::time::timeout(DRAIN, async { while actions.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("actions were still under way when the process ended; the next leader works them out again");
    }
    Ok(())
}

/// Looks at this process: has it turned as often as it should, and do its watches hear anything.
#[derive(Debug, Default)]
struct Fitness {
    looked_at: Option<Instant>,
    /// The latest lag, and its end.
    late: Option<(Duration, Instant)>,
}

impl Fitness {
    fn look(&mut self, now: Instant, contacts: &WatchContacts) -> Option<Unfit> {
        let lag = self.looked_at.replace(now).map(|last| now.duration_since(last).saturating_sub(LONGEST_SLEEP));
        if let Some(lag) = lag.filter(|lag| *lag >= LAG) {
            self.late = Some((lag, now));
        }
        self.late = self.late.filter(|(_, at)| now.duration_since(*at) < LATE_FOR);
        if let Some((lag, _)) = self.late {
            return Some(Unfit::Late(lag));
        }
        let (resource, silence) = contacts.stalest(&OBSERVED_BY, now)?;
        (silence >= WATCH_SILENCE).then_some(Unfit::Outdated { resource, silence })
    }
}

fn sleep_for(now: Timestamp, timeout: Option<Timestamp>) -> Duration {
    timeout.map_or(LONGEST_SLEEP, |at| at.since(now).min(LONGEST_SLEEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_had_no_processor_for_long_is_unfit_for_a_while() {
        let (mut fitness, contacts) = (Fitness::default(), WatchContacts::default());
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(fitness.look(begun, &contacts), None);
        assert_eq!(fitness.look(begun + 10 * second, &contacts), None, "a busy machine");
        assert_eq!(fitness.look(begun + 21 * second, &contacts), Some(Unfit::Late(10 * second)));
        for after in 22..51 {
            assert_eq!(fitness.look(begun + after * second, &contacts), Some(Unfit::Late(10 * second)), "{after}");
        }
        assert_eq!(fitness.look(begun + 51 * second, &contacts), None);
    }

    #[test]
    fn a_process_whose_watch_of_one_namespace_is_silent_is_unfit_though_others_are_heard() {
        let (mut fitness, contacts) = (Fitness::default(), WatchContacts::default());
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        contacts.note("services", Some("shop"), begun);
        contacts.note("jobs", Some("shop"), begun);
        for after in 0..180 {
            contacts.note("services", Some("billing"), begun + after * second);
            assert_eq!(fitness.look(begun + after * second, &contacts), None, "{after}");
        }
        let outdated = Unfit::Outdated { resource: "services in shop".to_owned(), silence: WATCH_SILENCE };
        assert_eq!(fitness.look(begun + 180 * second, &contacts), Some(outdated));
        contacts.note("services", Some("shop"), begun + 181 * second);
        assert_eq!(fitness.look(begun + 181 * second, &contacts), None, "what no backend is observed by may be silent");
    }
}
