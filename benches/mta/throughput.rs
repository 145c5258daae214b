//! Cost of the agent without a fault: the same load through Postfix with it and without, in turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::bench::Arguments;
use mail_failover_e2e::mail::load::{Load, LoadOptions};
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, SENDER, Setup, forget};
use mail_failover_e2e::postfix::PostfixTimeouts;
use mail_failover_e2e::test_env::TestEnv;

use crate::yes_or_no;

/// The time limit of a load.
const WITHIN: Duration = Duration::from_mins(3);
/// The least share of plain Postfix's throughput that the agent may leave.
const RATIO: f64 = 0.95;

/// The suffix of the agent's objects.
const SUFFIX: &str = "-throughput";
/// The contenders. By the agent's lines for main.cf, Postfix verifies providers' certificates. Each
/// of its processes then needs time to load the public authorities, as in any Postfix that verifies
/// a provider.
const CONTENDERS: [(&str, Setup, &str); 3] = [
    ("plain Postfix without TLS", Setup::Direct, "-throughput-bare"),
    ("plain Postfix, set up for TLS", Setup::DirectTrusting, "-throughput-trusting"),
    ("with the agent", Setup::Agent, SUFFIX),
];

/// Measures all contenders, and returns true if the goal is met.
pub async fn measure(env: &TestEnv, arguments: Arguments) -> Result<bool> {
    let (messages, rounds) = if arguments.quick { (500, 3) } else { (5000, 7) };
    println!(
        "\nThroughput, from the first message sent to the last delivered: {rounds} rounds of {messages} messages each, in turns"
    );
    let mut contenders = Vec::new();
    for (name, setup, suffix) in CONTENDERS {
        let providers = Providers::start(env, Demands::default()).await?;
        let mta = Mta::start(env, setup, &providers, PostfixTimeouts::Defaults, suffix).await?;
        // A first load that is not measured, since it starts Postfix's processes.
        round(&mta, &providers, 200).await.context(name)?;
        contenders.push((name, mta, providers, Vec::new()));
    }
    for _ in 0..rounds {
        for (name, mta, providers, rates) in &mut contenders {
            rates.push(round(mta, providers, messages).await.context(*name)?);
        }
    }
    forget(env, SUFFIX).await?;
    let mut medians = Vec::new();
    for (name, _, _, rates) in contenders {
        let (least, median, most) = spread(rates);
        println!("  {name}: {median:.0} messages a second (median; {least:.0} to {most:.0})");
        medians.push(median);
    }
    let [bare, trusting, agent] = medians[..] else { unreachable!("as many medians as contenders") };
    println!("  the agent beside plain Postfix without TLS: {:.1} %", agent / bare * 100.0);
    let ratio = agent / trusting;
    println!(
        "  goal: at least {:.0} % of plain Postfix that is set up for TLS as the agent's is: {:.1} %, {}",
        RATIO * 100.0,
        ratio * 100.0,
        yes_or_no(ratio >= RATIO)
    );
    Ok(ratio >= RATIO)
}

/// Runs one load, and returns the messages per second.
pub async fn round(mta: &Mta, providers: &Providers, messages: usize) -> Result<f64> {
    let mut options = LoadOptions::new(mta.postfix.address(), messages, SENDER);
    options.connections = 20;
    let before = providers.primary.received_count();
    let begun = Instant::now();
    Load::start(options).finish(WITHIN).await?;
    providers.primary.wait_for_received(before + messages, WITHIN).await?;
    let took = begun.elapsed();
    ensure!(mta.postfix.drained(WITHIN).await?, "{} are still queued", mta.postfix.queued()?);
    ensure!(providers.primary.received_count() == before + messages, "more arrived than was sent");
    let messages = u32::try_from(messages).context("a load that can be counted")?;
    Ok(f64::from(messages) / took.as_secs_f64())
}

/// The least, the median and the most.
pub fn spread(mut rates: Vec<f64>) -> (f64, f64, f64) {
    rates.sort_by(f64::total_cmp);
    let at = |index: usize| rates.get(index).copied().unwrap_or_default();
    (at(0), at(rates.len() / 2), at(rates.len().saturating_sub(1)))
}
