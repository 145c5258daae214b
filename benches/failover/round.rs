//! One failover and the way back: a fresh client, a break at a random moment, a repair.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use mail_failover_api::{TransitionKind, TransitionStatus};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{WAIT_TIMEOUT, route_status};
use mail_failover_e2e::haproxy::DownLog;
use mail_failover_e2e::mail::certificates::Identity;
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::mail::sender::{Sender, SenderOptions, fixed};
use mail_failover_e2e::mail::server::SmtpServer;
use mail_failover_e2e::test_env::TestEnv;
use rustls::ClientConfig;
use tokio::time::sleep;

use crate::case::Case;

/// The name in the certificates.
pub const SERVER_NAME: &str = "relay.bench.test";
/// The time between two messages.
pub const PACE: Duration = Duration::from_millis(50);
/// The time until a failed message is sent again. Together with the limit of messages in progress
/// it keeps failing mail of many routes from starving what is measured.
const RETRY: Duration = Duration::from_millis(100);
const OUTSTANDING: usize = 64;
/// A failover that takes longer counts as none.
pub const BOUND: Duration = Duration::from_secs(10);
/// The time limit of the messages in progress at the end.
const GRACE: Duration = Duration::from_secs(10);

/// Two servers of one route.
pub struct Pair {
    pub primary: SmtpServer,
    pub standby: SmtpServer,
    pub tls: Option<Tls>,
}

/// The certificates of the servers, and the client's trust.
#[derive(Clone)]
pub struct Tls {
    pub good: Identity,
    pub expired: Identity,
    pub client: Arc<ClientConfig>,
}

impl Pair {
    async fn break_primary(&self, case: Case) -> Result<()> {
        match (case.fault(), &self.tls) {
            (Some(_), _) if case == Case::Killed => self.primary.crash().await?,
            (Some(fault), _) => self.primary.set_fault(fault).await?,
            (None, tls) => self.primary.set_certificate(&tls.as_ref().context("a pair without TLS")?.expired)?,
        }
        Ok(())
    }

    async fn repair_primary(&self) -> Result<()> {
        self.primary.repair().await?;
        if let Some(tls) = &self.tls {
            self.primary.set_certificate(&tls.good)?;
        }
        Ok(())
    }
}

/// The contender.
pub enum Setup {
    /// The operator: the client follows a Service.
    Operator { env: Arc<TestEnv>, route: String, endpoints: ServiceEndpoints },
    /// A proxy in between: the client always connects to it. What it notes of this server is its detection.
    Proxy { frontend: SocketAddr, noted: Option<(Arc<DownLog>, String)> },
}

impl Setup {
    fn sender(&self, tls: Option<&Tls>) -> Result<Sender> {
        let endpoints = match self {
            Self::Operator { endpoints, .. } => endpoints.receiver(),
            Self::Proxy { frontend, .. } => fixed(vec![*frontend]),
        };
        let mut options = SenderOptions::new(PACE, endpoints);
        (options.retry_after, options.max_concurrent) = (RETRY, OUTSTANDING);
        if let Some(tls) = tls {
            options = options.start_tls(tls.client.clone(), SERVER_NAME)?;
        }
        Ok(Sender::start(options))
    }

    /// Waits until mail leaves by the primary, which had stored `before` messages when it was repaired.
    async fn wait_for_primary(&self, pair: &Pair, before: usize) -> Result<()> {
        match self {
            Self::Operator { endpoints, .. } => {
                endpoints.wait_for(WAIT_TIMEOUT, |now| *now == [pair.primary.address()]).await?;
            }
            Self::Proxy { .. } => pair.primary.wait_for_received(before + 1, WAIT_TIMEOUT).await?,
        }
        Ok(())
    }
}

/// The results of a round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// The client's failover time; `None` if there was no failover within [`BOUND`].
    pub failover: Option<Duration>,
    /// The time from the first evidence to the decision.
    pub detection: Option<Duration>,
    /// The time from the break to the decision; with a proxy, to the log's line that it left the server.
    pub decided: Option<Duration>,
    /// The time from the decision to the last output written.
    pub write: Option<Duration>,
    pub sent: usize,
    /// Messages given up, or accepted and gone.
    pub lost: usize,
    pub duplicated: usize,
}

/// Runs one round. The phase of the probes at the break is random over this interval.
pub async fn run_scenario(pair: &Pair, setup: &Setup, case: Case, interval: Duration) -> Result<Round> {
    let sender = setup.sender(pair.tls.as_ref())?;
    sender.wait_for("first accepted messages", WAIT_TIMEOUT, |totals| totals.accepted >= 3).await?;
    sleep(Duration::from_millis(100) + interval.mul_f64(fastrand::f64())).await;

    let (broken, wall) = (Instant::now(), SystemTime::now());
    pair.break_primary(case).await?;
    let seen = sender.wait_for_failover(broken, BOUND).await.is_ok();
    sleep(Duration::from_millis(100)).await;
    let before = pair.primary.received_count();
    pair.repair_primary().await?;
    setup.wait_for_primary(pair, before).await.with_context(|| format!("no way back after {}", case.name()))?;
    let journal = sender.stop(GRACE).await;

    let delivery = journal.delivery(&[&pair.primary, &pair.standby]);
    let totals = journal.totals();
    pair.primary.forget_received();
    pair.standby.forget_received();
    let mut round = Round {
        failover: journal.failover_after(broken).filter(|_| seen).map(|failover| failover.took()),
        sent: totals.sent,
        lost: delivery.lost + delivery.lost_but_delivered + delivery.vanished.len(),
        duplicated: delivery.duplicated,
        ..Round::default()
    };
    if let Setup::Proxy { noted: Some((log, server)), .. } = setup {
        round.decided = log.first_since(server, broken).map(|at| at - broken);
    }
    if let (Setup::Operator { env, route, .. }, true) = (setup, seen) {
        let transition = transition(env, route, wall).await?;
        let since = |from: SystemTime, until: SystemTime| until.duration_since(from).ok();
        let decided = SystemTime::from(transition.decided_at.0);
        round.decided = since(wall, decided);
        round.detection = transition.first_evidence_at.and_then(|evidence| since(evidence.0.into(), decided));
        round.write = transition.applied_at.and_then(|applied| since(decided, applied.0.into()));
    }
    Ok(round)
}

/// The failover since `broken`, as recorded in the status.
async fn transition(env: &TestEnv, route: &str, broken: SystemTime) -> Result<TransitionStatus> {
    eventually(WAIT_TIMEOUT, &format!("the failover in the history of {route}"), async || {
        let status = route_status(env, route).await?;
        let found = status.last_transition.into_iter().chain(status.history).find(|transition| {
            transition.kind == TransitionKind::Failover
                && transition.applied_at.is_some()
                && SystemTime::from(transition.decided_at.0) >= broken
        });
        Ok(found)
    })
    .await
}
