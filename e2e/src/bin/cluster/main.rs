//! A cluster with one node for people: `up`, `down`, and a `shell` inside.
//!
//! `up` starts this program again as a service (`serve`), which lives in the namespaces of a node
//! until it is told to end.

mod serve;
mod state;

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use mail_failover_e2e::control_plane::binaries::on_path;
use mail_failover_e2e::control_plane::{Binaries, Program};
use mail_failover_e2e::node::{Node, packages};
use rustix::process::{Signal, kill_process};

use crate::state::ClusterState;

/// The time limit of a start, once everything is built.
const START: Duration = Duration::from_mins(5);
const STOP: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(100);

/// A Kubernetes cluster with one node, in namespaces of its own. Takes root.
#[derive(Debug, Parser)]
struct ClusterArguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start the cluster and wait until it is ready.
    Up,
    /// End the cluster and remove everything of it.
    Down,
    /// Open a shell inside, with kubectl, helm and KUBECONFIG; or run a command there.
    Shell {
        /// The command and its arguments, instead of a shell.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run the cluster in the foreground until a signal comes.
    #[command(hide = true)]
    Serve,
}

fn main() -> ExitCode {
    let result = match ClusterArguments::parse().task {
        Task::Up => up(),
        Task::Down => down(),
        Task::Shell { command } => shell(&command),
        Task::Serve => return serve::serve(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up() -> Result<ExitCode> {
    let state = ClusterState::open()?;
    if let Some(id) = state.service()? {
        bail!(
            "the cluster is up already (process {id}); `make cluster-shell` leads inside, `make cluster-down` ends it"
        );
    }
    if let Some(missing) = packages::missing() {
        bail!("{missing}");
    }
    // Built in this process, so that the person sees the progress.
    Node::prepare()?;
    state.clear()?;
    let log = OpenOptions::new().create(true).append(true).open(state.log())?;
    let mut service = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in this terminal must not end the service.
        .process_group(0)
        .spawn()
        .context("cannot start the cluster")?;
    let begun = Instant::now();
    let mut shown = 0;
    loop {
        let log = std::fs::read_to_string(state.log()).unwrap_or_default();
        // Whole lines only.
        let end = log.rfind('\n').map_or(0, |end| end + 1);
        eprint!("{}", log.get(shown..end).unwrap_or_default());
        shown = end;
        if let Some(status) = service.try_wait()? {
            bail!("the cluster ended ({status}); its log: {}", state.log().display());
        }
        if let Some(ready) = state.ready() {
            println!("The cluster is up after {:.1} s.", begun.elapsed().as_secs_f64());
            println!("KUBECONFIG={} (valid inside)", ready.kubeconfig.display());
            println!("make cluster-shell   a shell inside, with kubectl and helm");
            println!("make cluster-down    ends it and removes all of it");
            return Ok(ExitCode::SUCCESS);
        }
        if begun.elapsed() > START {
            let _ = kill_process(rustix::process::Pid::from_child(&service), Signal::TERM);
            bail!("the cluster was not ready within {START:?}; its log: {}", state.log().display());
        }
        sleep(LOOK);
    }
}

fn down() -> Result<ExitCode> {
    let state = ClusterState::open()?;
    let Some(id) = state.service()? else {
        println!("There is no cluster.");
        return Ok(ExitCode::SUCCESS);
    };
    kill_process(id, Signal::TERM).with_context(|| format!("cannot end the process {id}"))?;
    let begun = Instant::now();
    while state.service()?.is_some() {
        if begun.elapsed() > STOP {
            bail!("the process {id} did not end within {STOP:?}; its log: {}", state.log().display());
        }
        sleep(LOOK);
    }
    state.clear()?;
    println!("The cluster is gone after {:.1} s.", begun.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn shell(command: &[String]) -> Result<ExitCode> {
    let state = ClusterState::open()?;
    let service = state.service()?.context("there is no cluster; `make cluster-up` starts one")?;
    let ready = state.ready().context("the cluster is not ready yet")?;
    let inside = state::process_inside(service).context("the process inside was not found")?;
    let binaries = Binaries::locate(&[Program::Kubectl, Program::Helm, Program::Ctr])?;
    let mut folders = Vec::new();
    for program in [Program::Kubectl, Program::Helm, Program::Ctr] {
        folders.extend(binaries.path(program)?.parent());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.into_iter().map(ToOwned::to_owned).chain(std::env::split_paths(&path)))?;
    let nsenter = on_path("nsenter").context("`nsenter` is not installed; it comes with util-linux")?;
    let mut entering = Command::new(nsenter);
    entering.args(["--target", &inside.to_string(), "--mount", "--net", "--pid", "--"]);
    // nsenter itself would enter the folder of the outer mount namespace.
    entering.arg("env").arg(format!("--chdir={}", std::env::current_dir()?.display()));
    entering.env("KUBECONFIG", &ready.kubeconfig).env("PATH", path);
    match command.split_first() {
        Some((program, arguments)) => entering.arg(program).args(arguments),
        None => entering.arg(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())),
    };
    let status = entering.status().context("cannot start nsenter")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
