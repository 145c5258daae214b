//! Trials of an agent that is killed, at each step of a switch and at any moment: the next one
//! finishes what was left undone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::mta::fault::{FaultKind, Point};
use mail_failover_e2e::mta::round::run_round_and;
use mail_failover_e2e::mta::setup::Demands;
use mail_failover_e2e::strace::{TracedStep, Tracer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

use crate::robustness::{System, no_complaints, plan};

/// A step of a switch: its name, its system call, the file of the agent's state that it concerns,
/// its number, and a part of strace's line. No other call of the agent matches: without reports it
/// connects to nothing but Postfix once its watch is open, and it sends no other signal.
type Named = (&'static str, &'static str, Option<&'static str>, usize, &'static str);

/// The steps in the order of a switch. Later flushes come only while anything is queued, and a
/// missing one undoes nothing.
const STEPS: [Named; 5] = [
    ("before it keeps that a breaker is open", "/^rename", Some("memory.new"), 1, "/memory\""),
    ("before the reload", "kill", None, 1, "SIGHUP"),
    ("between the reload and the flush", "connect", None, 1, "public/qmgr"),
    ("between the flush and the next one", "connect", None, 2, "public/qmgr"),
    ("before it keeps that the switch is done", "/^rename", Some("switched.new"), 1, "/switched\""),
];

/// The time in which the switch at the agent's start ends. Its last flushes come 10 s and 31 s
/// later, if anything is queued then.
const AFTER_THE_START: Duration = Duration::from_secs(12);
/// The time without an agent. Postfix refuses new mail meanwhile (451), and the load offers it
/// again.
const ABSENCE: Duration = Duration::from_millis(300);

pub fn trials() -> Vec<Trial> {
    let steps = STEPS.into_iter().map(|named| {
        let sentence = format!("an agent that is killed {} loses no mail", named.0);
        trial(sentence, async move |env| killed_at(env, named).await).listens().needs_strace()
    });
    // At moments between the steps, from the break on.
    let moments = [0, 40, 400].into_iter().map(|millis| {
        let sentence = format!("an agent that is killed {millis} ms after the break loses no mail");
        trial(sentence, async move |env| killed_after(env, Duration::from_millis(millis)).await).listens()
    });
    steps.chain(moments).collect()
}

async fn killed_at(env: Arc<TestEnv>, (_, call, file, when, about): Named) -> Result<()> {
    let system = System::start_with(env, Demands::default(), |options| {
        // Calls are counted by thread.
        options.starter = ["env", "TOKIO_WORKER_THREADS=1"].map(Into::into).to_vec();
    })
    .await?;
    sleep(AFTER_THE_START).await;
    let agent = system.agent()?;
    let path = file.map(|file| agent.state_directory().join(file));
    let step = TracedStep { call, path, when, about };
    let tracer = Tracer::attach(agent.id()?, step, system.env.folder()).await?;
    let plan = plan(Point::Mail, FaultKind::Temporary);
    let outcome = run_round_and(&system.mta, &system.providers, &plan, async || {
        eventually(WAIT_TIMEOUT, "the agent to die", async || Ok(agent.ended())).await?;
        tracer.confirm()?;
        sleep(ABSENCE).await;
        agent.start_again()?;
        agent.wait_ready(WAIT_TIMEOUT).await
    })
    .await?;
    no_complaints(&outcome)?;
    let switch = agent.status().await?.last_switch.context("what it does at its start")?;
    ensure!(switch.troubles.is_empty(), "{switch:?}");
    Ok(())
}

async fn killed_after(env: Arc<TestEnv>, after: Duration) -> Result<()> {
    let system = System::start(env, Demands::default()).await?;
    let agent = system.agent()?;
    let plan = plan(Point::Mail, FaultKind::Temporary);
    let outcome = run_round_and(&system.mta, &system.providers, &plan, async || {
        sleep(after).await;
        agent.kill();
        sleep(ABSENCE).await;
        agent.start_again()?;
        agent.wait_ready(WAIT_TIMEOUT).await
    })
    .await?;
    no_complaints(&outcome)
}
