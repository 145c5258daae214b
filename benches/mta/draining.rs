//! A queue full of deferred mail, once there is a way out: sent by plain Postfix when a person
//! flushes the queue, and by the agent's switch when the operator finds the standby healthy.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::bench::Arguments;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{WAIT_TIMEOUT, route_status};
use mail_failover_e2e::mail::load::{Load, LoadOptions};
use mail_failover_e2e::mail::server::SmtpServer;
use mail_failover_e2e::mail::statistics::human;
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, SENDER, Setup, forget};
use mail_failover_e2e::postfix::{Postfix, PostfixTimeouts};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

use crate::yes_or_no;

/// The time limit of sending the whole queue.
const WITHIN: Duration = Duration::from_mins(5);
/// The limit of the switch's cost, relative to plain Postfix that is set up for TLS as well (see
/// `throughput`).
const RATIO: f64 = 1.2;
/// The time limit from the switch to the first message of the queue.
const FIRST: Duration = Duration::from_secs(1);

/// Times from the moment at which mail can leave.
struct Drained {
    first: Duration,
    last: Duration,
}

/// Measures both, and returns true if the goals are met.
pub async fn measure(env: &TestEnv, arguments: Arguments) -> Result<bool> {
    let messages = if arguments.quick { 1000 } else { 10_000 };
    println!("\nA queue of {messages} deferred messages, from the moment mail could go by the standby:");
    let bare = plain(env, messages, Setup::Direct, "-drain-bare").await.context("plain Postfix without TLS")?;
    let trusting = plain(env, messages, Setup::DirectTrusting, "-drain-trusting").await.context("plain Postfix")?;
    println!("  from `postqueue -f`, a second after `postfix reload`, its relay repaired:");
    for (name, drained) in [("without TLS", &bare), ("set up for TLS, as the agent's is", &trusting)] {
        println!("    plain Postfix, {name}: first {}, last {}", human(drained.first), human(drained.last));
    }
    let agent = by_agent(env, messages).await.context("with the agent")?;
    let beside = |plain: &Drained| agent.last.as_secs_f64() / plain.last.as_secs_f64();
    let ratio = beside(&trusting);
    println!(
        "  with the agent, from the operator's decision: first {}, last {}",
        human(agent.first),
        human(agent.last)
    );
    let met = [agent.first <= FIRST, ratio <= RATIO];
    println!(
        "  goal: first within {}: {}; last within {RATIO} times plain Postfix (without TLS: {:.2}): {ratio:.2}, {}",
        human(FIRST),
        yes_or_no(met[0]),
        beside(&bare),
        yes_or_no(met[1])
    );
    Ok(met == [true, true])
}

async fn plain(env: &TestEnv, messages: usize, setup: Setup, suffix: &str) -> Result<Drained> {
    let providers = Providers::start(env, Demands::default()).await?;
    let mta = Mta::start(env, setup, &providers, PostfixTimeouts::Defaults, suffix).await?;
    providers.primary.crash().await?;
    fill(&mta.postfix, messages).await?;
    providers.primary.repair().await?;
    // As a person would: a reload, then a flush. Without the reload, Postfix remembers for a while
    // that the relay is dead.
    mta.postfix.reload()?;
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    mta.postfix.flush()?;
    drained(&mta.postfix, &providers.primary, messages, begun).await
}

async fn by_agent(env: &TestEnv, messages: usize) -> Result<Drained> {
    let suffix = "-drain";
    let providers = Providers::start(env, Demands::default()).await?;
    let mta = Mta::start(env, Setup::Agent, &providers, PostfixTimeouts::Defaults, suffix).await?;
    providers.primary.crash().await?;
    providers.standby.crash().await?;
    fill(&mta.postfix, messages).await?;
    let repaired = SystemTime::now();
    providers.standby.repair().await?;
    // The decision's time is on this machine's wall clock. The agent may have switched to the standby before it.
    let decided = eventually(WAIT_TIMEOUT, "mail to be led to the standby", async || {
        let status = route_status(env, &format!("orders{suffix}")).await?;
        let is_there = status.active.first().is_some_and(|active| active.backend.starts_with("standby"));
        let decided = status.last_transition.map(|transition| SystemTime::from(transition.decided_at.0));
        Ok(is_there.then_some(decided).flatten())
    })
    .await?;
    let decided = decided.max(repaired);
    let begun = Instant::now()
        .checked_sub(SystemTime::now().duration_since(decided).unwrap_or_default())
        .context("a decision before this machine")?;
    let drained = drained(&mta.postfix, &providers.standby, messages, begun).await;
    forget(env, suffix).await?;
    drained
}

/// Sends messages until every one has been tried and deferred.
async fn fill(postfix: &Postfix, messages: usize) -> Result<()> {
    let mut options = LoadOptions::new(postfix.address(), messages, SENDER);
    options.connections = 20;
    Load::start(options).finish(WITHIN).await?;
    eventually(WITHIN, "all mail to be deferred", async || {
        let active = postfix.queue()?.iter().filter(|message| message.queue_name != "deferred").count();
        ensure!(active == 0, "{active} are not");
        Ok(Some(()))
    })
    .await?;
    ensure!(postfix.queued()? == messages, "{} of {messages} are in the queue", postfix.queued()?);
    Ok(())
}

async fn drained(postfix: &Postfix, server: &SmtpServer, messages: usize, begun: Instant) -> Result<Drained> {
    server.wait_for_received(messages, WITHIN).await?;
    ensure!(postfix.drained(WAIT_TIMEOUT).await?, "{} are still queued", postfix.queued()?);
    let times: Vec<_> = server.received().iter().map(|message| message.at.saturating_duration_since(begun)).collect();
    let (first, last) = (times.iter().min(), times.iter().max());
    Ok(Drained { first: *first.context("nothing arrived")?, last: *last.context("nothing arrived")? })
}
