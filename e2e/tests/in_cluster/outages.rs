//! Trials of providers that break while mail flows.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::in_cluster::shop::Outage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

use super::flow;

/// The least number of messages in `make test-all`, and the messages per second.
const EXHAUSTIVELY: (usize, u32) = (20_000, 120);
const USUALLY: (usize, u32) = (2_000, 40);
/// Messages that `b` carries before `a` is repaired, and `a` before it breaks again.
const MEANWHILE: usize = 100;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an application's mail leaves through Postfix and the agent while a provider is killed, hangs, is cut off and refuses logins: no message is refused or lost",
            outages,
        )
        .needs_own_node(),
    ]
}

async fn outages(env: Arc<TestEnv>) -> Result<()> {
    let shop = flow::open(env, |_| ()).await?;
    let (messages, per_second) = exhaustive(USUALLY, EXHAUSTIVELY);
    let application = shop.start_application(per_second).await?;
    for outage in [Outage::Killed, Outage::Hung, Outage::CutOff, Outage::RefusesLogins] {
        let what = || format!("{outage:?}");
        shop.wait_stored("a", MEANWHILE).await.with_context(what)?;
        let broken = SystemTime::now();
        shop.break_provider("a", outage).await.with_context(what)?;
        let status = shop.wait_active("b").await.with_context(what)?;
        shop.wait_stored("b", MEANWHILE).await.with_context(what)?;
        let first =
            shop.record("b")?.into_iter().map(|entry| SystemTime::UNIX_EPOCH + entry.at).find(|at| *at > broken);
        shop.repair("a", outage).await.with_context(what)?;
        shop.wait_active("a").await.with_context(what)?;
        let first = first.context("a message by b")?.duration_since(broken)?;
        let reason = status.last_transition.map(|last| last.reason).unwrap_or_default();
        eprintln!("{outage:?}: the first message by b {:.2} s after the break began ({reason})", first.as_secs_f64());
    }
    shop.wait_stored("a", MEANWHILE).await?;
    // Only messages in transit when their provider vanished may arrive twice: at most the sessions
    // of two Postfixes, four times.
    flow::finish(&shop, application, messages, 200).await
}
