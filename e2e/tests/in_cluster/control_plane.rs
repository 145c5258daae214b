//! Trials of a failover while the operator's leader, or what it depends on, is gone: mail flows,
//! one decision is made, and there is one Event of each kind.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use mail_failover_api::{FailoverPolicy, MailRouteStatus};
use mail_failover_e2e::assertions::{api, change};
use mail_failover_e2e::command;
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::route_status;
use mail_failover_e2e::in_cluster::installation::{DEPLOYMENT, NAMESPACE, ensure_installed};
use mail_failover_e2e::in_cluster::shop::{Door, Shop, WAIT_TIMEOUT};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::operator::get;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::process::Command;
use tokio::sync::OwnedRwLockWriteGuard;
use tokio::time::{Instant, sleep, sleep_until};

use super::replicas::{Replica, leader, replicas, wait_led_by_another};

/// The least number of messages in `make test-all`.
const EXHAUSTIVELY: usize = 3_000;
const USUALLY: usize = 300;
/// Messages sent per second.
const PER_SECOND: u32 = 20;
/// Messages that `a` carries before it breaks, and `b` before `a` is repaired.
const MEANWHILE: usize = 50;
/// The outage of the API server: longer than the Lease of production and than every timeout of the
/// operator and the agent.
const API_SERVER_GONE: Duration = Duration::from_secs(45);
const API_SERVER_GONE_EXHAUSTIVELY: Duration = Duration::from_mins(2);
const ETCD_PAUSED: Duration = Duration::from_secs(30);
/// The time after the recovery in which nothing more may be decided or reported.
const QUIET: Duration = Duration::from_secs(10);
/// The operator's `--lease-renew-deadline`, and an allowance for a busy machine.
const STEPS_DOWN: Duration = Duration::from_secs(20);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the operator's leader is deleted at a failover: mail flows, one decision is made and told once", deleted)
            .needs_own_node(),
        trial(
            "the leader's network is cut at a failover: it stops, the other replica decides once, and it comes back without a word",
            cut_off,
        )
        .needs_own_node(),
        trial(
            "the API server is away at a failover: agents move the mail by themselves, and the operator agrees once",
            api_server_gone,
        )
        .needs_own_node()
        .needs_control(),
        trial(
            "etcd stands still for half a minute at a failover: agents move the mail by themselves, and the operator agrees once",
            etcd_paused,
        )
        .needs_own_node()
        .needs_control(),
    ]
}

async fn deleted(env: Arc<TestEnv>) -> Result<()> {
    let fixture = FailoverFixture::create(env).await?;
    let env = &fixture.shop.env;
    let before = leader(env).await?;
    let arguments = ["delete", "pod", &before.pod, "--namespace", NAMESPACE, "--force", "--grace-period=0"];
    tokio::try_join!(env.kubectl(&arguments), fixture.break_a())?;
    wait_led_by_another(env, &before).await?;
    fixture.check_failed_over().await?;
    fixture.end().await
}

async fn cut_off(env: Arc<TestEnv>) -> Result<()> {
    let fixture = FailoverFixture::create(env).await?;
    let env = &fixture.shop.env;
    let before = leader(env).await?;
    cut(env, &before, "--insert").await?;
    let failed_over = async {
        fixture.break_a().await?;
        let begun = Instant::now();
        eventually(STEPS_DOWN, "the leader that is cut off to stop", async || {
            Ok(before.leads().await.map(|leads| !leads)?.then_some(()))
        })
        .await?;
        let stopped = begun.elapsed();
        let now = wait_led_by_another(env, &before).await?;
        eprintln!("the leader stopped {stopped:.1?} after the cut, and the next one led after {:.1?}", begun.elapsed());
        fixture.check_failed_over().await?;
        anyhow::Ok(now)
    }
    .await;
    cut(env, &before, "--delete").await?;
    let now = failed_over?;
    eventually(WAIT_TIMEOUT, "the one that was cut off to be heard of again", async || {
        get(before.health(), "/readyz").await?;
        let known = replicas(env).await?.into_iter().find(|replica| replica.uid == before.uid);
        ensure!(known.as_ref() == Some(&before), "{known:?}, once {before:?}");
        Ok(Some(()))
    })
    .await?;
    // Late writes of the old leader would happen now.
    sleep(QUIET).await;
    ensure!(!before.leads().await? && leader(env).await?.uid == now.uid, "the one that was cut off leads again");
    fixture.check_failed_over().await?;
    fixture.end().await
}

async fn api_server_gone(env: Arc<TestEnv>) -> Result<()> {
    let fixture = FailoverFixture::create(env).await?;
    let control = fixture.shop.env.node()?.control_plane();
    let end = Instant::now() + exhaustive(API_SERVER_GONE, API_SERVER_GONE_EXHAUSTIVELY);
    control.stop_api_server();
    let moved = fixture.check_agents_move_the_mail().await;
    sleep_until(end).await;
    control.start_api_server().await?;
    moved?;
    fixture.check_failed_over().await?;
    fixture.shop.wait_stored("b", MEANWHILE).await.context("after the API server's return")?;
    fixture.end().await
}

async fn etcd_paused(env: Arc<TestEnv>) -> Result<()> {
    let fixture = FailoverFixture::create(env).await?;
    let control = fixture.shop.env.node()?.control_plane();
    let end = Instant::now() + ETCD_PAUSED;
    control.pause_etcd()?;
    let moved = fixture.check_agents_move_the_mail().await;
    sleep_until(end).await;
    control.resume_etcd()?;
    moved?;
    // A busy API server may have given up by now; a node's would be started again.
    control.start_api_server().await?;
    fixture.check_failed_over().await?;
    fixture.end().await
}

/// Drops the packets of a replica on the node, except those of the kubelet's probes and of this
/// program.
async fn cut(env: &TestEnv, replica: &Replica, action: &str) -> Result<()> {
    let address = replica.address.to_string();
    let port = env.control()?.port().to_string();
    let rules: [&[&str]; 3] = [
        &["FORWARD", "--source", &address],
        &["FORWARD", "--destination", &address],
        // To the API server, which is on the node itself.
        &["INPUT", "--source", &address, "--protocol", "tcp", "--dport", &port],
    ];
    for rule in rules {
        let mut iptables = Command::new("iptables");
        iptables.args(["--wait", action]).args(rule).args(["--jump", "DROP"]);
        command::output(&mut iptables, "iptables", "", Duration::from_secs(20)).await?;
    }
    Ok(())
}

/// A shop whose mail leaves by `a`, which is about to break. Shops are created side by side; then
/// each has the cluster to itself.
struct FailoverFixture {
    _alone: OwnedRwLockWriteGuard<()>,
    shop: Shop,
    a: Door,
    /// The id of the latest transition before the break.
    decided: i64,
    /// Reasons of the Events about the route, and about `a`, before the break.
    told: [Vec<String>; 2],
}

impl FailoverFixture {
    async fn create(env: Arc<TestEnv>) -> Result<Self> {
        ensure_installed(&env).await?;
        let shop = Shop::open(env.clone()).await?;
        let alone = env.alone().await;
        // An earlier trial may have disturbed the replicas.
        let rolled_out = ["rollout", "status", DEPLOYMENT, "--namespace", NAMESPACE, "--timeout=110s"];
        env.kubectl_for(WAIT_TIMEOUT, &rolled_out).await?;
        // An agent's verdict counts for the cooldown: without one, for a second.
        let hold = json!({ "spec": { "hold": { "cooldown": "30s" } } });
        change::<FailoverPolicy>(&shop.env, "providers", &hold).await?;
        let decided = decided(&shop.wait_active("a").await?);
        let a = shop.door("a").await?;
        shop.start_application(PER_SECOND).await?;
        shop.wait_stored("a", MEANWHILE).await?;
        let mut fixture = Self { _alone: alone, shop, a, decided, told: Default::default() };
        fixture.told = [fixture.told("MailRoute", "orders").await?, fixture.told("SendingBackend", "a").await?];
        Ok(fixture)
    }

    async fn break_a(&self) -> Result<()> {
        self.a.set_fault(&Fault::Refuse).await
    }

    /// Breaks `a` while nothing can be written to the API server, and checks that agents move the
    /// mail.
    async fn check_agents_move_the_mail(&self) -> Result<()> {
        // A decision may be in progress at the break, or not.
        sleep(Duration::from_millis(fastrand::u64(0..2000))).await;
        let broken = SystemTime::now();
        self.break_a().await?;
        self.shop.wait_stored("b", MEANWHILE).await.context("without the operator")?;
        let times = self.shop.record("b")?.into_iter().map(|entry| SystemTime::UNIX_EPOCH + entry.at);
        let first = times.min().context("a message by b")?.duration_since(broken)?;
        eprintln!("the first message by b {:.2} s after the break, without the operator", first.as_secs_f64());
        Ok(())
    }

    /// Checks that there is one decision more than before the break, one Event of it, and one of
    /// the backend's failure.
    async fn check_failed_over(&self) -> Result<()> {
        let status = self.shop.wait_active("b").await?;
        self.check(&status, 1, &["FailedOver"], &["BackendUnhealthy"]).await
    }

    async fn check(&self, status: &MailRouteStatus, more: i64, of_route: &[&str], of_backend: &[&str]) -> Result<()> {
        let history: Vec<_> = status.history.iter().map(|one| (one.id, &one.from, &one.to, &one.reason)).collect();
        ensure!(decided(status) == self.decided + more, "{} before; {history:?}", self.decided);
        let subjects = [("MailRoute", "orders", of_route), ("SendingBackend", "a", of_backend)];
        for ((kind, name, expected), before) in subjects.into_iter().zip(&self.told) {
            // They are written after the decision.
            eventually(WAIT_TIMEOUT, &format!("the Events of {name} to be {expected:?}"), async || {
                let told = self.told(kind, name).await?;
                ensure!(
                    told.strip_prefix(before.as_slice()).is_some_and(|new| new == expected),
                    "{told:?}, {before:?} before"
                );
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// The reasons of the operator's Events about an object, oldest first.
    async fn told(&self, kind: &str, name: &str) -> Result<Vec<String>> {
        let mut events = api::<Event>(&self.shop.env).list(&ListParams::default()).await?.items;
        events.retain(|event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|of| of.kind.as_deref() == Some(kind) && of.name.as_deref() == Some(name))
        });
        events.sort_by(|one, other| one.event_time.cmp(&other.event_time));
        Ok(events.into_iter().filter_map(|event| event.reason).collect())
    }

    /// Repairs `a`, and checks that mail returns and every message has arrived.
    async fn end(self) -> Result<()> {
        let Self { shop, a, .. } = &self;
        shop.wait_stored("b", MEANWHILE).await?;
        a.set_fault(&Fault::None).await?;
        shop.wait_active("a").await?;
        let said = shop.application(PER_SECOND).finish(exhaustive(USUALLY, EXHAUSTIVELY)).await?;
        shop.wait_drained().await?;
        sleep(QUIET).await;
        let status = route_status(&shop.env, "orders").await?;
        ensure!(status.pending_events.is_empty(), "{:?}", status.pending_events);
        self.check(&status, 2, &["FailedOver", "FailedBack"], &["BackendUnhealthy", "BackendRecovered"]).await?;
        let account = shop.account()?;
        eprintln!("{said:?}; {account:?}");
        ensure!(said.is_smooth(), "{said:?}");
        ensure!(account.delivered == said.accepted && account.lost.is_empty(), "{account:?}");
        // What is refused is not stored.
        ensure!(account.extra_copies == 0, "{account:?}");
        Ok(())
    }
}

fn decided(status: &MailRouteStatus) -> i64 {
    status.last_transition.as_ref().map_or(0, |last| last.id)
}
