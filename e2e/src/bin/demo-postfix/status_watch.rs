//! The events of the agent as its `/status` shows them. It is read often, since the agent keeps
//! only the latest switch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use mail_failover_agent::status::{Status, SwitchStatus};
use mail_failover_e2e::agent::{self, Agent};
use mail_failover_e2e::story::{Ink, Timeline};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The time between two reads.
const PAUSE: Duration = Duration::from_millis(10);

/// The events so far.
#[derive(Default)]
struct StatusHistory {
    /// The first failures, by backend and their time.
    failing: BTreeMap<(String, String), String>,
    /// Backends whose breaker opened, with the time.
    opened: BTreeSet<(String, String)>,
    /// Switches by their time, in their latest version.
    switches: BTreeMap<String, SwitchStatus>,
}

/// A background task that reads the agent's status.
pub struct StatusWatch {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<StatusHistory>,
}

impl StatusWatch {
    /// Starts reading.
    pub fn start(agent: &Agent) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, watching: tokio::spawn(watch(agent.listen_address(), stopped)) }
    }

    /// Stops reading, and adds everything to a timeline.
    ///
    /// # Errors
    /// When the agent gives a time that is none.
    pub async fn report(self, timeline: &mut Timeline) -> Result<()> {
        // The task ends before its next read.
        let _ = self.stop.send(());
        let StatusHistory { failing, opened, switches } = self.watching.await?;
        for ((backend, at), message) in failing {
            timeline.reported(&time(&at)?, Some(Ink::Bad), format!("the first delivery by {backend} fails: {message}"));
        }
        for (backend, at) in opened {
            let told = format!("its breaker opens: messages try {backend} last; the route stays");
            timeline.reported(&time(&at)?, Some(Ink::Good), told);
        }
        for (at, switch) in switches {
            let SwitchStatus { cause, took_milliseconds, first_delivery_milliseconds, queued_before, .. } = switch;
            let decided = time(&at)?;
            timeline.reported(&decided, None, format!("switch: {cause}; Postfix gets other answers from now on"));
            if let Some(flushed) = after(&decided, took_milliseconds) {
                let queued =
                    queued_before.map_or_else(String::new, |queued| format!("; {queued} messages were queued"));
                timeline.reported(&flushed, None, format!("Postfix is reloaded and its queue flushed{queued}"));
            }
            if let Some(delivered) = after(&decided, first_delivery_milliseconds) {
                timeline.reported(&delivered, Some(Ink::Good), "the agent sees the first delivery after the switch");
            }
        }
        Ok(())
    }
}

/// The time that is so many milliseconds after a decision.
fn after(decided: &MicroTime, milliseconds: Option<u64>) -> Option<MicroTime> {
    let after = jiff::SignedDuration::from_millis(i64::try_from(milliseconds?).ok()?);
    Some(MicroTime(decided.0.checked_add(after).ok()?))
}

async fn watch(at: SocketAddr, mut stopped: oneshot::Receiver<()>) -> StatusHistory {
    let mut history = StatusHistory::default();
    let known = agent::status(at).await.ok().and_then(|status| status.last_switch).map(|switch| switch.at);
    while matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
        if let Ok(Status { backends, last_switch, .. }) = agent::status(at).await {
            for backend in backends {
                if let Some(failing) = backend.failing {
                    history.failing.entry((backend.name.clone(), failing.since)).or_insert(failing.message);
                }
                if let Some(breaker) = backend.breaker {
                    history.opened.insert((backend.name, breaker.open_since));
                }
            }
            if let Some(switch) = last_switch.filter(|switch| known.as_ref() != Some(&switch.at)) {
                history.switches.insert(switch.at.clone(), switch);
            }
        }
        sleep(PAUSE).await;
    }
    history
}

fn time(text: &str) -> Result<MicroTime> {
    let time: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is no time"))?;
    Ok(MicroTime(time))
}
