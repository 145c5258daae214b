//! Trials of further failures of the agent, of Postfix and of what they depend on: mail flows by
//! the last good answer, and nothing is lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mail_failover_e2e::agent::{Agent, Options};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT};
use mail_failover_e2e::mail::load::{Load, LoadOptions};
use mail_failover_e2e::mta::fault::{Cell, FaultKind, Point};
use mail_failover_e2e::mta::round::{Plan, RoundOutcome, run_round, run_round_and};
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, SECRET, SENDER, config_map};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::postfix::{PostfixTimeouts, group_id};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::sleep;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a switch survives Postfix being restarted amid it", restarted_postfix).listens(),
        trial("an outage of the operator's is survived by the agent alone", without_operator).listens(),
        trial(
            "an outage of the API server's is survived by the agent alone, also by one that starts in it",
            without_api_server,
        )
        .listens()
        .stops_api_server(),
        trial("a full disk keeps no mail from flowing, and is told", full_disk).listens(),
        trial(
            "garbage, an older document and an empty one leave the last good answer in force, and are told",
            bad_documents,
        )
        .listens(),
        trial(
            "an agent that is root without any capability, with the groups postfix and postdrop, moves the queue",
            without_capabilities,
        )
        .listens(),
        trial("a Secret that is removed leaves its last credentials in force, and is told", removed_secret).listens(),
    ]
}

/// Limit of deliveries to one destination at a time (`default_destination_concurrency_limit`, postconf(5)).
const SENDERS: usize = 20;

/// The whole system, with mail that leaves by the primary.
pub struct System {
    pub env: Arc<TestEnv>,
    pub providers: Providers,
    pub mta: Mta,
    operator: Operator,
}

impl System {
    pub async fn start(env: Arc<TestEnv>, demands: Demands) -> Result<Self> {
        Self::start_with(env, demands, |_| ()).await
    }

    /// Starts the system with changed options of the agent.
    pub async fn start_with(env: Arc<TestEnv>, demands: Demands, adjust: impl FnOnce(&mut Options)) -> Result<Self> {
        let providers = Providers::start(&env, demands).await?;
        let operator = env.start_own_operator("operator", &QUICK_LEASE).await?;
        operator.wait_ready(WAIT_TIMEOUT).await?;
        let mta = Mta::with_agent(&env, &providers, PostfixTimeouts::Lowered, "", |options| {
            adjust(options);
            Ok(())
        })
        .await?;
        Ok(Self { env, providers, mta, operator })
    }

    pub fn agent(&self) -> Result<&Agent> {
        self.mta.agent.as_ref().context("there is an agent")
    }

    async fn send(&self, messages: usize) -> Result<()> {
        let sent =
            Load::start(LoadOptions::new(self.mta.postfix.address(), messages, SENDER)).finish(WAIT_TIMEOUT).await?;
        ensure!(sent.unknown == 0, "{} of unknown fate", sent.unknown);
        Ok(())
    }

    /// Waits until `/status` contains this text.
    pub async fn told(&self, text: &str) -> Result<()> {
        let agent = self.agent()?;
        eventually(WAIT_TIMEOUT, &format!("{text:?} in /status"), async || {
            let status = serde_json::to_string(&agent.status().await?)?;
            if status.contains(text) { Ok(Some(())) } else { bail!("{status}") }
        })
        .await
    }
}

pub fn plan(point: Point, kind: FaultKind) -> Plan {
    let cell = Cell { point, kind };
    Plan { cell, messages: 200, recipients: 1, per_second: 100, break_after: 50, within: Duration::from_secs(90) }
}

pub fn no_complaints(outcome: &RoundOutcome) -> Result<()> {
    ensure!(outcome.complaints().is_empty(), "{}\n{outcome:?}", outcome.complaints().join("; "));
    Ok(())
}

async fn restarted_postfix(env: Arc<TestEnv>) -> Result<()> {
    let system = System::start(env, Demands::default()).await?;
    let postfix = &system.mta.postfix;
    let plan = plan(Point::Mail, FaultKind::Temporary);
    let mut outcome = run_round_and(&system.mta, &system.providers, &plan, async || {
        sleep(Duration::from_millis(50)).await;
        postfix.stop().await?;
        postfix.start_again().await
    })
    .await?;
    // A stop kills smtp(8). What a backend has taken and its smtp(8) has not yet noted is delivered once more.
    outcome.interrupted = SENDERS;
    no_complaints(&outcome)
}

async fn without_operator(env: Arc<TestEnv>) -> Result<()> {
    let system = System::start(env, Demands::default()).await?;
    system.operator.kill();
    let outcome = run_round(&system.mta, &system.providers, &plan(Point::Connect, FaultKind::Refuse)).await?;
    no_complaints(&outcome)
}

async fn without_api_server(env: Arc<TestEnv>) -> Result<()> {
    let system = System::start(env, Demands::default()).await?;
    let (control, agent) = (system.env.control()?, system.agent()?);
    control.stop_api_server();
    let survived = async {
        agent.kill();
        agent.start_again()?;
        agent.wait_ready(WAIT_TIMEOUT).await?;
        let outcome = run_round(&system.mta, &system.providers, &plan(Point::Connect, FaultKind::Refuse)).await?;
        no_complaints(&outcome)
    }
    .await;
    control.start_api_server().await?;
    survived
}

async fn full_disk(env: Arc<TestEnv>) -> Result<()> {
    let state = env.folder().join("small");
    fs::create_dir(&state)?;
    let _disk = SmallDisk::mount(&state)?;
    let providers = Providers::start(&env, Demands::default()).await?;
    let operator = env.start_own_operator("operator", &QUICK_LEASE).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    let folder = state.clone();
    let mta = Mta::with_agent(&env, &providers, PostfixTimeouts::Lowered, "", |options| {
        options.state_directory = folder;
        Ok(())
    })
    .await?;
    let system = System { env, providers, mta, operator };
    // Until nothing more fits.
    let filler = state.join("filler");
    let mut bytes = vec![0_u8; 1024 * 1024];
    while fs::write(&filler, &bytes).is_err() && bytes.len() > 1 {
        bytes.truncate(bytes.len() / 2);
    }
    for number in 0..64 {
        if fs::write(state.join(format!("filler-{number}")), [0; 4096]).is_err() {
            break;
        }
    }
    let outcome = run_round(&system.mta, &system.providers, &plan(Point::Connect, FaultKind::Refuse)).await?;
    no_complaints(&outcome)?;
    system.told("No space left on device").await
}

async fn without_capabilities(env: Arc<TestEnv>) -> Result<()> {
    let providers = Providers::start(&env, Demands::default()).await?;
    let operator = env.start_own_operator("operator", &QUICK_LEASE).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    let groups = [group_id("postfix")?, group_id("postdrop")?];
    let mta = Mta::with_agent(&env, &providers, PostfixTimeouts::Lowered, "", |options| {
        let in_queue = options.queue_directory.join("mail-failover");
        fs::create_dir(&in_queue)?;
        // The socket gets the group of the folder that it is in.
        chown(&in_queue, None, Some(groups[0]))?;
        fs::set_permissions(&in_queue, fs::Permissions::from_mode(0o2750))?;
        let numbers = groups.map(|group| group.to_string()).join(",");
        let rights = ["setpriv", "--groups", &numbers, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"];
        options.starter = rights.into_iter().map(Into::into).collect();
        Ok(())
    })
    .await?;
    let outcome = run_round(&mta, &providers, &plan(Point::Connect, FaultKind::Refuse)).await?;
    no_complaints(&outcome)?;
    let switch = mta.agent.as_ref().context("there is an agent")?.status().await?.last_switch.context("a switch")?;
    ensure!(switch.troubles.is_empty(), "{switch:?}");
    Ok(())
}

/// A file system of 64 KiB in memory.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Result<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(at).status()?;
        ensure!(mounted.success(), "no small disk at {}", at.display());
        Ok(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // The mount ends with our mount namespace at the latest.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

async fn bad_documents(env: Arc<TestEnv>) -> Result<()> {
    let system = System::start(env, Demands::default()).await?;
    // Otherwise the operator would write the right document again at once.
    system.operator.kill();
    system.send(10).await?;
    let map = config_map("");
    let good = system.env.kubectl(&["get", "configmap", &map, "-o", "jsonpath={.data.agent\\.json}"]).await?;
    let mut older: serde_json::Value = serde_json::from_str(&good)?;
    older["decision"]["transition"] = json!(-1);
    let bad = [
        ("garbage", "no valid JSON", "\u{0}\u{1}{not json".replace('\u{0}', "?")),
        ("an older one", "older", older.to_string()),
        ("an empty one", "empty", String::new()),
    ];
    for (what, told, text) in bad {
        let patch = json!({ "data": { "agent.json": text } }).to_string();
        system.env.kubectl(&["patch", "configmap", &map, "--type=merge", "-p", &patch]).await?;
        system.told(told).await.with_context(|| format!("{what} is not told"))?;
        system.send(10).await.with_context(|| format!("with {what}"))?;
    }
    system.env.kubectl(&["delete", "configmap", &map]).await?;
    system.send(10).await.context("without a ConfigMap")?;
    // Mail still goes on by the other backend.
    let outcome = run_round(&system.mta, &system.providers, &plan(Point::Connect, FaultKind::Refuse)).await?;
    no_complaints(&outcome)
}

async fn removed_secret(env: Arc<TestEnv>) -> Result<()> {
    let system = System::start(env, Demands { tls: true, login: true }).await?;
    system.send(10).await?;
    let folder = system.env.folder().join("agent").join("credentials").join(SECRET);
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    system.told("LastGood").await?;
    let outcome = run_round(&system.mta, &system.providers, &plan(Point::Auth, FaultKind::AccountRefused)).await?;
    no_complaints(&outcome)
}
