//! Trials of a backend that takes so many messages a second: a queue leaves at that pace.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::mail::load::{Account, Load, LoadOptions, Stored};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::mta::setup::{Demands, SENDER, STANDBY};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

use crate::robustness::System;

/// The limit of the standby, in messages a second: that of a new account at Amazon SES.
const PER_SECOND: usize = 14;
/// The time in which arrivals are counted. Sessions begin evenly; a busy machine ends them in bursts.
const WINDOW: Duration = Duration::from_secs(3);
/// Messages in [`WINDOW`] at most: 1.2 times the limit.
const IN_A_WINDOW: usize = PER_SECOND * 3 * 12 / 10;

pub fn trials() -> Vec<Trial> {
    let sentence = "a queue leaves by a standby at the pace that its limit allows, and it takes all of it";
    vec![trial(sentence, queue_at_a_pace).listens()]
}

async fn queue_at_a_pace(env: Arc<TestEnv>) -> Result<()> {
    let messages = exhaustive(120, 3_000);
    let system = System::start(env, Demands::default()).await?;
    let (postfix, primary, standby) = (&system.mta.postfix, &system.providers.primary, &system.providers.standby);
    let limits = format!(r#"{{"spec": {{"limits": {{"messagesPerSecond": {PER_SECOND}}}}}}}"#);
    system.env.kubectl(&["patch", "sendingbackend", STANDBY, "--type=merge", "-p", &limits]).await?;
    system.told(r#""leastIntervalMilliseconds":71"#).await?;

    primary.set_fault(Fault::Refuse).await?;
    standby.set_fault(Fault::Refuse).await?;
    let sent = Load::start(LoadOptions::new(postfix.address(), messages, SENDER)).finish(WAIT_TIMEOUT * 4).await?;
    ensure!(sent.unknown == 0, "{} of unknown fate", sent.unknown);
    eventually(WAIT_TIMEOUT, "all to be deferred", async || {
        let queue = postfix.queue()?;
        let deferred = queue.iter().filter(|message| message.queue_name == "deferred").count();
        ensure!(deferred == messages, "{deferred} of {messages}");
        Ok(Some(()))
    })
    .await?;

    let repaired = Instant::now();
    standby.repair().await?;
    let within = Duration::from_secs(1) * u32::try_from(messages / PER_SECOND)? + WAIT_TIMEOUT * 3;
    standby.wait_for_received(messages, within).await?;
    let took = repaired.elapsed();
    let stored = Stored::by(&[primary, standby]);
    let account = Account::of(&sent.accepted, &stored, &postfix.log()?.bounced(), &BTreeSet::new());
    ensure!(account.delivered == messages && account.extra_copies == 0, "{account:?}");
    let most = most_in_a_window(stored.iter().map(|copy| copy.at).collect());
    println!("{messages} messages in {took:?}; {most} in {WINDOW:?} at most");
    ensure!(most <= IN_A_WINDOW, "{most} within {WINDOW:?}, of {IN_A_WINDOW}");
    Ok(())
}

/// Returns the largest number of these times within one window.
fn most_in_a_window(mut times: Vec<Instant>) -> usize {
    times.sort();
    let within =
        |(at, first): (usize, &Instant)| times[at..].iter().take_while(|time| **time < *first + WINDOW).count();
    times.iter().enumerate().map(within).max().unwrap_or(0)
}
