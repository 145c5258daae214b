//! Trials of new versions of everything, while mail flows and while it cannot.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::fixture::events;
use mail_failover_e2e::helm::CHART;
use mail_failover_e2e::in_cluster::installation::{self, DEPLOYMENT, NAMESPACE, RELEASE, ensure_installed, helm};
use mail_failover_e2e::in_cluster::shop::{Outage, Shop};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

/// Messages that are queued when Postfix is updated.
const QUEUED: usize = 150;
const QUEUED_EXHAUSTIVELY: usize = 500;
/// The least number of messages in `make test-all`.
const EXHAUSTIVELY: usize = 6_000;
/// Messages sent per second.
const PER_SECOND: u32 = 25;

pub fn of_postfix() -> Vec<Trial> {
    vec![
        trial("a rolling update of Postfix with full queues, both providers dead, leaves no mail behind", postfix)
            .needs_own_node(),
    ]
}

pub fn of_operator() -> Vec<Trial> {
    vec![
        trial(
            "an operator that is updated amid a failover, upgraded, rolled back and uninstalled makes one decision, and mail flows on",
            operator,
        )
        .needs_own_node(),
    ]
}

async fn postfix(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let shop = Shop::open(env).await?;
    let application = shop.start_application(PER_SECOND).await?;
    shop.wait_stored("a", 50).await?;
    for provider in ["a", "b"] {
        shop.break_provider(provider, Outage::Refuses).await?;
    }
    let mut queued = 0;
    while queued < exhaustive(QUEUED, QUEUED_EXHAUSTIVELY) {
        sleep(Duration::from_secs(1)).await;
        queued = shop.queued().await?;
    }
    shop.env.kubectl(&["rollout", "restart", "statefulset/postfix"]).await?;
    // The first pod cannot empty its queue before it ends: its successor finds the queue.
    sleep(Duration::from_secs(20)).await;
    let kept = shop.spooled()?;
    ensure!(kept >= queued / 2, "{queued} were queued, and {kept} are on the volumes");
    for provider in ["a", "b"] {
        shop.repair(provider, Outage::Refuses).await?;
    }
    shop.wait_rolled_out("statefulset/postfix").await?;
    let said = application.finish(0).await?;
    shop.wait_drained().await?;
    sleep(Duration::from_secs(1)).await;
    let account = shop.account()?;
    eprintln!("{queued} queued when the update began; {said:?}; {account:?}");
    ensure!(account.accepted == said.accepted && account.delivered == said.accepted, "{account:?}");
    ensure!(account.lost.is_empty(), "{account:?}");
    Ok(())
}

async fn operator(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let shop = Shop::open(env).await?;
    let application = shop.start_application(PER_SECOND).await?;
    shop.wait_stored("a", 50).await?;

    // A restart during a failover.
    let restart = ["--namespace", NAMESPACE, "rollout", "restart", DEPLOYMENT];
    let (broken, restarted) = tokio::join!(shop.break_provider("a", Outage::Hung), shop.env.kubectl(&restart));
    broken?;
    restarted?;
    let status = shop.wait_active("b").await?;
    shop.wait_stored("b", 50).await?;
    shop.wait_rolled_out_in(NAMESPACE, DEPLOYMENT).await?;
    let one = status.last_transition.context("a transition")?.id;
    ensure!(one == 1, "the failover is transition {one}");
    shop.repair("a", Outage::Hung).await?;
    let status = shop.wait_active("a").await?;
    ensure!(status.last_transition.is_some_and(|last| last.id == 2), "a failback is one more transition");
    let told = events(&shop.env, "orders").await?;
    ensure!(told.iter().filter(|reason| *reason == "FailedOver").count() == 1, "{told:?}");
    ensure!(told.iter().filter(|reason| *reason == "FailedBack").count() == 1, "{told:?}");

    // A new version, and the old one again, each while a provider breaks.
    helm(&shop.env, &["upgrade", RELEASE, CHART], &["log.level=debug"]).await?;
    shop.break_provider("a", Outage::Refuses).await?;
    shop.wait_active("b").await?;
    let deadline = Duration::from_mins(4);
    let rollback = ["rollback", RELEASE, "1", "--namespace", NAMESPACE, "--wait", "--timeout=3m"];
    shop.env.helm()?.run(deadline, &rollback).await?;
    let arguments = shop.env.kubectl(&["--namespace", NAMESPACE, "get", DEPLOYMENT, "--output=yaml"]).await?;
    ensure!(!arguments.contains("debug"), "rolled back to:\n{arguments}");
    shop.repair("a", Outage::Refuses).await?;
    shop.wait_active("a").await?;

    // Without an operator: definitions and objects stay, the last answer stays in force, and the agents leave a dead
    // provider by themselves.
    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=3m"];
    shop.env.helm()?.run(deadline, &uninstall).await?;
    installation::forget().await;
    let kept = shop.env.kubectl(&["get", "mailroutes,sendingbackends,failoverpolicies", "--output=name"]).await?;
    ensure!(kept.lines().count() == 4, "{kept}");
    shop.break_provider("a", Outage::Refuses).await?;
    shop.wait_stored("b", 50).await?;
    shop.repair("a", Outage::Refuses).await?;
    let said = application.finish(exhaustive(0, EXHAUSTIVELY)).await?;
    // The operator is installed again.
    ensure_installed(&shop.env).await?;
    shop.wait_active("a").await?;
    shop.wait_drained().await?;
    sleep(Duration::from_secs(1)).await;
    let account = shop.account()?;
    eprintln!("{said:?}; {account:?}");
    ensure!(said.refusals == 0, "{said:?}");
    ensure!(account.delivered == said.accepted && account.lost.is_empty(), "{account:?}");
    Ok(())
}
