//! Trials of an application that sends through the relay's chart on a real node: while a provider fails, while all that
//! the relay stands on is replaced, and while relays are killed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::helm::RELAY_CHART;
use mail_failover_e2e::in_cluster::installation::ensure_installed;
use mail_failover_e2e::in_cluster::relay::{RELAY, RELAY_DEPLOYMENT, RelayShop};
use mail_failover_e2e::in_cluster::shop::{Outage, PASSWORD, process_with_variable};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;

/// Messages sent per second.
const PER_SECOND: u32 = 25;
/// Messages between two changes, and as many in `make test-all`.
const MEANWHILE: (usize, usize) = (50, 500);
/// The login after the rotation.
const NEW_PASSWORD: &str = "kestrel-Quartz-72-lantern";
/// A time limit for the kubelet to write a Secret that has changed into the pods.
const MOUNTED: Duration = Duration::from_mins(4);
/// Time without a message after which a provider gets none any more.
const QUIET: Duration = Duration::from_secs(8);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an application's mail leaves through the relay's chart while providers fail, its login and certificate are replaced and it is rolled out: no message is refused; and while its pods are killed: none is lost",
            upkeep,
        )
        .needs_own_node(),
    ]
}

async fn upkeep(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let relay = RelayShop::open(env, PASSWORD).await?;
    let shop = &relay.shop;
    let meanwhile = exhaustive(MEANWHILE.0, MEANWHILE.1);
    // As most libraries send, and so that each pod gets its part.
    let application = shop.start_application_before(RELAY, PER_SECOND, &["--connection-each"]).await?;
    shop.wait_stored("a", meanwhile).await?;
    for outage in [Outage::Refuses, Outage::RefusesLogins] {
        let what = || format!("{outage:?}");
        shop.break_provider("a", outage).await.with_context(what)?;
        shop.wait_stored("b", meanwhile).await.with_context(what)?;
        shop.repair("a", outage).await.with_context(what)?;
        shop.wait_stored("a", meanwhile).await.with_context(what)?;
    }
    rotate(&relay, meanwhile).await.context("the login and the certificate are replaced")?;
    relay.helm(&["upgrade", RELAY, RELAY_CHART], &["log.level=debug"]).await?;
    shop.wait_rolled_out(RELAY_DEPLOYMENT).await?;
    // As a drain of the node does it.
    let (pod, _) = relay.pods().await?.pop().context("a pod")?;
    shop.env.kubectl_for(Duration::from_mins(2), &["delete", "pod", &pod]).await?;
    shop.wait_rolled_out(RELAY_DEPLOYMENT).await?;
    shop.wait_stored("a", meanwhile).await?;
    let said = application.finish(0).await?;
    eprintln!("{said:?}");
    ensure!(said.is_smooth(), "{said:?}");

    let application = shop.start_application_before(RELAY, PER_SECOND, &["--connection-each"]).await?;
    shop.wait_stored("a", meanwhile).await?;
    for (pod, _) in relay.pods().await? {
        kill_process(process_with_variable(&format!("HOSTNAME={pod}"))?, Signal::KILL)?;
        shop.wait_stored("a", meanwhile).await.with_context(|| format!("{pod} was killed"))?;
        shop.wait_rolled_out(RELAY_DEPLOYMENT).await?;
    }
    for outage in [Outage::Hung, Outage::Killed] {
        let what = || format!("{outage:?}");
        shop.break_provider("a", outage).await.with_context(what)?;
        shop.wait_stored("b", meanwhile).await.with_context(what)?;
        shop.repair("a", outage).await.with_context(what)?;
        shop.wait_stored("a", meanwhile).await.with_context(what)?;
    }
    let said = application.finish(0).await?;
    // Providers record a message before they acknowledge it.
    sleep(Duration::from_secs(1)).await;
    let account = shop.account()?;
    eprintln!("{said:?}; {account:?}");
    ensure!(account.delivered == account.accepted && account.lost.is_empty(), "{account:?}");
    // What nobody knew to be taken was sent again as another message.
    ensure!(account.extra_copies == 0, "{account:?}");
    Ok(())
}

/// Replaces the login of both providers and of the relay, and the relay's certificate. One of the providers always knows
/// the login that a relay has: each takes the one that it finds at its start.
async fn rotate(relay: &RelayShop, meanwhile: usize) -> Result<()> {
    let shop = &relay.shop;
    let before = relay.served().await?;
    relay.set_login(NEW_PASSWORD).await?;
    relay.renew_certificate().await?;
    shop.env.kubectl(&["delete", "pods", "--selector=provider=b"]).await?;
    shop.wait_rolled_out("deployment/b").await?;
    relay.wait_renewed(&before, MOUNTED).await?;
    // With its new login a relay is refused by `a`.
    let mut seen = usize::MAX;
    let mut waited = Duration::ZERO;
    while shop.record("a")?.len() != seen {
        ensure!(waited < MOUNTED, "relays still log in at a by the old login");
        seen = shop.record("a")?.len();
        sleep(QUIET).await;
        waited += QUIET;
    }
    shop.wait_stored("b", meanwhile).await?;
    shop.env.kubectl(&["delete", "pods", "--selector=provider=a"]).await?;
    shop.wait_rolled_out("deployment/a").await?;
    shop.wait_stored("a", meanwhile).await
}
