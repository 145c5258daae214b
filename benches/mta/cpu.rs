//! Processor time of a message in health: that of all processes of Postfix and of the agent, beside
//! the same Postfix with a fixed `relayhost`, and what a connection for each message costs.

use std::time::Duration;

use anyhow::{Context, Result};
use mail_failover_e2e::bench::{Arguments, cpu_with_children};
use mail_failover_e2e::mail::statistics::{Align, Table, human};
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, Setup, forget};
use mail_failover_e2e::postfix::PostfixTimeouts;
use mail_failover_e2e::test_env::TestEnv;

use crate::{throughput, verdict};

/// Multiple of plain Postfix's time that a message may take with the agent.
const RATIO: f64 = 1.02;
/// Messages of a first load that is not measured, since it starts Postfix's processes.
const FIRST: usize = 200;

/// The contenders, all with the agent's settings for TLS.
const CONTENDERS: [(&str, Setup); 3] = [
    ("fixed relayhost, a connection for each message", Setup::DirectUncached),
    ("agent, by default", Setup::AgentByDefault),
    ("fixed relayhost, connections cached", Setup::DirectTrusting),
];

/// Demands of the providers, their names, and the part of objects' names for them.
const DEMANDS: [(&str, Demands, &str); 2] = [
    ("no TLS", Demands { tls: false, login: false }, "plain"),
    ("STARTTLS and a login", Demands { tls: true, login: true }, "tls"),
];

/// Measures all contenders, and returns true if the goal is met.
pub async fn measure(env: &TestEnv, arguments: Arguments) -> Result<bool> {
    let (messages, rounds) = if arguments.quick { (500, 3) } else { (2000, 7) };
    println!(
        "\nProcessor time of a message in health, of Postfix's processes and the agent: {rounds} rounds of {messages} messages each, in turns, as fast as \
         Postfix takes them\n"
    );
    let mut table = Table::new(&[
        ("PROVIDERS", Align::Left),
        ("WAY", Align::Left),
        ("MEDIAN", Align::Right),
        ("LEAST", Align::Right),
        ("MOST", Align::Right),
        ("TO THE FIRST", Align::Right),
        ("GOAL", Align::Left),
    ]);
    let mut all_met = true;
    for (name, demands, part) in DEMANDS {
        let all = measure_with(env, demands, part, messages, rounds).await.context(name)?;
        let mut first = None;
        for ((way, setup), times) in CONTENDERS.into_iter().zip(all) {
            let (least, median, most) = throughput::spread(times);
            let ratio = median / *first.get_or_insert(median);
            let is_met = ratio <= RATIO;
            let goal = (setup == Setup::AgentByDefault).then(|| format!("at most {RATIO}: {}", verdict(is_met)));
            all_met &= goal.is_none() || is_met;
            let [median, least, most] = [median, least, most].map(|seconds| human(Duration::from_secs_f64(seconds)));
            table.row([
                name.to_owned(),
                way.to_owned(),
                median,
                least,
                most,
                format!("{ratio:.3}"),
                goal.unwrap_or_default(),
            ]);
        }
    }
    print!("{table}");
    println!("What connections for each message cost is the first row of each pair of providers beside its third.");
    Ok(all_met)
}

/// Seconds of the processor for a message, by contender and round.
async fn measure_with(
    env: &TestEnv,
    demands: Demands,
    part: &str,
    messages: usize,
    rounds: usize,
) -> Result<Vec<Vec<f64>>> {
    let mut contenders = Vec::new();
    for (number, (way, setup)) in CONTENDERS.into_iter().enumerate() {
        let suffix = format!("-cpu-{part}-{number}");
        let providers = Providers::start(env, demands).await?;
        let mta = Mta::start(env, setup, &providers, PostfixTimeouts::Defaults, &suffix).await.context(way)?;
        throughput::round(&mta, &providers, FIRST).await.context(way)?;
        contenders.push((way, setup, suffix, mta, providers, Vec::new()));
    }
    for _ in 0..rounds {
        for (way, _, _, mta, providers, times) in &mut contenders {
            times.push(of_a_message(mta, providers, messages).await.context(*way)?);
        }
    }
    let mut all = Vec::new();
    for (_, setup, suffix, _, _, times) in contenders {
        if setup == Setup::AgentByDefault {
            forget(env, &suffix).await?;
        }
        all.push(times);
    }
    Ok(all)
}

/// Seconds of the processor for each message of a load.
async fn of_a_message(mta: &Mta, providers: &Providers, messages: usize) -> Result<f64> {
    let before = used(mta)?;
    throughput::round(mta, providers, messages).await?;
    let used = used(mta)?.saturating_sub(before);
    let messages = u32::try_from(messages).context("a load that can be counted")?;
    Ok(used.as_secs_f64() / f64::from(messages))
}

/// Processor time of Postfix and the agent until now.
fn used(mta: &Mta) -> Result<Duration> {
    // All daemons of Postfix are children of its master.
    let postfix = cpu_with_children(mta.postfix.master_id()?)?;
    let agent = match &mta.agent {
        Some(agent) => cpu_with_children(agent.id()?)?,
        None => Duration::ZERO,
    };
    Ok(postfix + agent)
}
