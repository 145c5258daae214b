//! Trials of an agent that is killed, at the step of a breaker, at each step of a switch and at any
//! moment: the next one finishes what was left undone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::mta::fault::{Cell, FaultKind, Point};
use mail_failover_e2e::mta::round::run_round_and;
use mail_failover_e2e::mta::setup::Demands;
use mail_failover_e2e::strace::{TracedStep, Tracer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

use crate::robustness::{System, no_complaints, plan};

/// A step at which the agent is killed.
///
/// No other call of the agent matches: without reports it connects to nothing but Postfix once its
/// watch is open, and it sends no other signal. It looks at the queue when it starts and 30 s later.
#[derive(Clone, Copy)]
struct KilledAt {
    name: &'static str,
    /// The system call.
    call: &'static str,
    /// The file of the agent's state that the call concerns.
    file: Option<&'static str>,
    /// The number of the call.
    when: usize,
    /// A part of strace's line.
    about: &'static str,
    /// The fault of the primary that leads to this step.
    fault: Cell,
}

/// The fault that only messages meet: the breaker opens, and the route stays, because no probe goes
/// as far and this agent does not report.
const SEEN_BY_MESSAGES: Cell = Cell { point: Point::Mail, kind: FaultKind::Temporary };
/// The fault that the operator's probes meet, too: the route moves, and the agent switches.
const SEEN_BY_PROBES: Cell = Cell { point: Point::Connect, kind: FaultKind::Refuse };

/// The steps: that of a breaker, and those of a switch in their order. Later flushes come only while
/// anything is queued, and a missing one undoes nothing.
const STEPS: [KilledAt; 5] = [
    KilledAt {
        name: "before it keeps that a breaker is open",
        call: "/^rename",
        file: Some("memory.new"),
        when: 1,
        about: "/memory\"",
        fault: SEEN_BY_MESSAGES,
    },
    KilledAt { name: "before the reload", call: "kill", file: None, when: 1, about: "SIGHUP", fault: SEEN_BY_PROBES },
    KilledAt {
        name: "between the reload and the flush",
        call: "connect",
        file: None,
        when: 1,
        about: "public/qmgr",
        fault: SEEN_BY_PROBES,
    },
    KilledAt {
        name: "between the flush and the next one",
        call: "connect",
        file: None,
        when: 2,
        about: "public/qmgr",
        fault: SEEN_BY_PROBES,
    },
    KilledAt {
        name: "before it keeps that the switch is done",
        call: "/^rename",
        file: Some("switched.new"),
        when: 1,
        about: "/switched\"",
        fault: SEEN_BY_PROBES,
    },
];

/// The time in which the switch at the agent's start ends. Its last flushes come 10 s and 31 s
/// later, if anything is queued then.
const AFTER_THE_START: Duration = Duration::from_secs(12);
/// The time without an agent. Postfix refuses new mail meanwhile (451), and the load offers it
/// again.
const ABSENCE: Duration = Duration::from_millis(300);

pub fn trials() -> Vec<Trial> {
    let steps = STEPS.into_iter().map(|step| {
        let sentence = format!("an agent that is killed {} loses no mail", step.name);
        trial(sentence, async move |env| killed_at(env, step).await).listens().needs_strace()
    });
    // At moments around the breaker's opening, from the break on.
    let moments = [0, 40, 400].into_iter().map(|millis| {
        let sentence = format!("an agent that is killed {millis} ms after the break loses no mail");
        trial(sentence, async move |env| killed_after(env, Duration::from_millis(millis)).await).listens()
    });
    steps.chain(moments).collect()
}

async fn killed_at(env: Arc<TestEnv>, step: KilledAt) -> Result<()> {
    let KilledAt { name: _, call, file, when, about, fault } = step;
    let system = System::start_with(env, Demands::default(), |options| {
        // Calls are counted by thread.
        options.starter = ["env", "TOKIO_WORKER_THREADS=1"].map(Into::into).to_vec();
    })
    .await?;
    sleep(AFTER_THE_START).await;
    let agent = system.agent()?;
    let path = file.map(|file| agent.state_directory().join(file));
    let traced = TracedStep { call, path, when, about };
    let tracer = Tracer::attach(agent.id()?, traced, system.env.folder()).await?;
    let plan = plan(fault.point, fault.kind);
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
    // A flush can meet the queue manager between its end and its start; those after it do the work.
    let unexpected = switch.troubles.iter().filter(|trouble| !trouble.starts_with("flush: ")).count();
    ensure!(unexpected == 0, "{switch:?}");
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
