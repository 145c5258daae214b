//! Trials of `make cluster-up`, `cluster-shell` and `cluster-down`. Nothing of a node is left on
//! the machine, in whatever way it ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Completion, Trial};
use mail_failover_e2e::environment;
use mail_failover_e2e::node::packages;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The time limit for the kernel to end the processes of a namespace.
const GONE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial =
        Trial::ignorable_test(
            "a cluster that is up is entered, ended, killed and cleaned up after",
            || match missing() {
                Some(why) if environment::is_set("E2E_REQUIRE_ALL") => {
                    Err(format!("may not be skipped (E2E_REQUIRE_ALL), but: {why}").into())
                }
                Some(why) => Ok(Completion::ignored_with(why)),
                None => run_scenario().map(|()| Completion::Completed).map_err(|error| format!("{error:#}").into()),
            },
        );
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn missing() -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    if is_root { packages::missing() } else { Some("a node needs root".to_owned()) }
}

fn run_scenario() -> Result<()> {
    let commands = Commands { state: tempfile::tempdir()?, temporary: tempfile::tempdir()? };
    let before = Traces::look()?;

    commands.run(&["up"])?;
    let again = commands.output(&["up"])?;
    ensure!(!again.status.success() && text(&again).contains("up already"), "{}", text(&again));
    let nodes = text(&commands.run(&["shell", "kubectl", "get", "nodes"])?);
    ensure!(nodes.contains("Ready"), "{nodes}");
    let helm = text(&commands.run(&["shell", "helm", "version"])?);
    ensure!(helm.contains("v4."), "{helm}");
    let mut names = commands.names();
    ensure!(!control_groups(&names).is_empty(), "a node has control groups, which this does not see");

    // Like a power cut for the process that would clean up.
    let service = fs::read_to_string(commands.state.path().join("service.pid"))?;
    let service = service.trim().parse().ok().and_then(Pid::from_raw).context("a process id")?;
    kill_process(service, Signal::KILL)?;
    commands.await_no_processes()?;
    commands.run(&["up"])?;
    let folders = entries(commands.temporary.path());
    ensure!(folders.len() == 1, "the folder of the killed one is still there: {folders:?}");
    names.extend(commands.names());

    commands.run(&["down"])?;
    commands.await_no_processes()?;
    let groups = control_groups(&names);
    ensure!(groups.is_empty(), "control groups are left: {groups:?}");
    await_nothing_beside(&before)?;
    let files = entries(commands.temporary.path());
    ensure!(files.is_empty(), "files are left: {files:?}");
    let none = commands.output(&["down"])?;
    ensure!(none.status.success() && text(&none).contains("There is no cluster"), "{}", text(&none));
    Ok(())
}

/// The program `cluster`, with a state of its own.
struct Commands {
    state: TempDir,
    temporary: TempDir,
}

impl Commands {
    fn output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
        command.args(arguments).env("MAIL_FAILOVER_CLUSTER", self.state.path()).env("TMPDIR", self.temporary.path());
        Ok(command.output()?)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.output(arguments)?;
        if !output.status.success() {
            let log = fs::read_to_string(self.state.path().join("cluster.log")).unwrap_or_default();
            bail!("cluster {}: {}\n{}\n{log}", arguments.join(" "), output.status, text(&output));
        }
        Ok(output)
    }

    /// The names of the folders, and so of the control groups, of nodes that this program has
    /// started.
    fn names(&self) -> BTreeSet<String> {
        let folders = entries(self.temporary.path()).into_iter();
        folders.filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())).collect()
    }

    /// Waits until no process of a node is left. Every such process has this temporary folder in
    /// its environment or its arguments.
    fn await_no_processes(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let left = processes_with(self.temporary.path())?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < GONE, "processes are left: {left:?}");
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        let _ = self.output(&["down"]);
    }
}

/// The control groups with these names, in every hierarchy.
fn control_groups(names: &BTreeSet<String>) -> BTreeSet<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = entries(root).into_iter().chain([root.to_owned()]);
    let groups =
        hierarchies.flat_map(|hierarchy| names.iter().map(move |name| hierarchy.join(name)).collect::<Vec<_>>());
    groups.filter(|group| group.exists()).collect()
}

/// Waits until the machine has nothing that it did not have before. Traces of other programs on
/// this machine come and go.
fn await_nothing_beside(before: &Traces) -> Result<()> {
    let begun = Instant::now();
    loop {
        let left = Traces::look()?.beside(before);
        if left == Traces::default() {
            return Ok(());
        }
        ensure!(begun.elapsed() < GONE, "left behind: {left:?}");
        sleep(Duration::from_millis(500));
    }
}

/// Traces that a node could leave on the machine, beside its control groups.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    pods: BTreeSet<PathBuf>,
    mounts: BTreeSet<String>,
    network_namespaces: BTreeSet<PathBuf>,
    interfaces: BTreeSet<PathBuf>,
    fixed_places: BTreeSet<PathBuf>,
    settings: BTreeSet<String>,
}

impl Traces {
    fn look() -> Result<Self> {
        let mut pods = BTreeSet::new();
        for hierarchy in entries(Path::new("/sys/fs/cgroup")).into_iter().chain([PathBuf::from("/sys/fs/cgroup")]) {
            pods.extend(entries(&hierarchy).into_iter().filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("kubepods")
            }));
        }
        let settings = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"];
        let settings = settings.map(|name| {
            format!("{name}={}", fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default().trim())
        });
        let places = ["/run", "/var/lib", "/var/log", "/var/lib/kubelet", "/var/lib/cni", "/etc/cni", "/opt"];
        Ok(Self {
            pods,
            mounts: fs::read_to_string("/proc/self/mountinfo")?.lines().map(ToOwned::to_owned).collect(),
            network_namespaces: entries(Path::new("/run/netns")),
            interfaces: entries(Path::new("/sys/class/net")),
            fixed_places: places.iter().flat_map(|place| entries(Path::new(place))).collect(),
            settings: settings.into(),
        })
    }

    /// The traces that were not there before.
    fn beside(self, before: &Self) -> Self {
        fn new<T: Ord + Clone>(now: &BTreeSet<T>, before: &BTreeSet<T>) -> BTreeSet<T> {
            now.difference(before).cloned().collect()
        }
        Self {
            pods: new(&self.pods, &before.pods),
            mounts: new(&self.mounts, &before.mounts),
            network_namespaces: new(&self.network_namespaces, &before.network_namespaces),
            interfaces: new(&self.interfaces, &before.interfaces),
            fixed_places: new(&self.fixed_places, &before.fixed_places),
            settings: new(&self.settings, &before.settings),
        }
    }
}

fn entries(folder: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn read_or_empty(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Processes, other than this one, whose environment or arguments name this folder.
fn processes_with(folder: &Path) -> Result<Vec<String>> {
    let name = folder.to_str().context("UTF-8")?;
    let mut found = Vec::new();
    for process in entries(Path::new("/proc")) {
        if process.ends_with(std::process::id().to_string()) || process.ends_with("self") {
            continue;
        }
        let command_line = read_or_empty(&process.join("cmdline"));
        if read_or_empty(&process.join("environ")).contains(name) || command_line.contains(name) {
            found.push(format!("{} {}", process.display(), command_line.replace('\0', " ")));
        }
    }
    Ok(found)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
