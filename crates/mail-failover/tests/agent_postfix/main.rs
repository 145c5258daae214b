//! Tests of the agent's parts that touch Postfix, against a real one: `agent postfix-config`, and the start, drain and
//! end of Postfix.
//!
//! They need root, because Postfix starts as root and becomes `postfix`, and the package. Each says so when it skips.

mod alternates;
mod instance;
mod kills;
mod peers;
mod process;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use instance::{Instance, possible};
use mail_failover_agent::metrics::MtaMetrics;
use mail_failover_agent::mta::{Master, Postfix, QueueDepth, depth_on_disk};
use mail_failover_agent::supervise::{self, CommandEnd, Intake, LineReader, SignalMeaning, Signals, StopSettings};
use peers::{Sink, send, serve_socketmap};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

fn agent(arguments: &[&str], instance: &Instance) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mail-failover"))
        .args(["agent", "postfix-config"])
        .args(arguments)
        .env("MAIL_CONFIG", instance.etc())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn postfix_takes_the_printed_commands_and_then_nothing_is_found() {
    if !possible() {
        return;
    }
    let instance = Instance::stock();
    let (code, found) = agent(&["--check"], &instance);
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains("error RoutingNotAsked: transport_maps"), "{found}");

    let (code, commands) = agent(&["--format", "commands"], &instance);
    assert_eq!(code, Some(0), "{commands}");
    let shell = Command::new("sh").args(["-ec", &commands]).env("MAIL_CONFIG", instance.etc()).output().unwrap();
    assert!(shell.status.success() && shell.stderr.is_empty(), "{}", String::from_utf8_lossy(&shell.stderr));
    assert_eq!(
        agent(&["--check", "--fail-on", "hint"], &instance),
        (Some(0), "0 errors, 0 warnings, 0 hints\n".to_owned())
    );
    let check = Command::new("postfix").arg("check").env("MAIL_CONFIG", instance.etc()).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    // Per-domain routes beside the agent's map: the text file of the table is read, by the check as by an agent.
    let table = instance.etc().join("transport");
    std::fs::write(&table, "corp.example smtp:[internal.corp.example]:25\n").unwrap();
    let table = format!("hash:{}", table.display());
    let ours = "socketmap:unix:mail-failover/socketmap:transport";
    for both in [format!("{ours}, {table}"), format!("{table}, {ours}")] {
        instance.set(&format!("transport_maps = {both}"));
        let (code, found) = agent(&["--check"], &instance);
        assert_eq!(code, Some(1), "{found}");
        assert!(found.starts_with("error TransportsBypassed: transport_maps\n    corp.example in hash:"), "{found}");
        for flags in [["--local-domain", "corp.example"], ["--local-domains-from", table.as_str()]] {
            let line: Vec<&str> = ["--check", "--fail-on", "hint"].into_iter().chain(flags).collect();
            let (code, found) = agent(&line, &instance);
            assert_eq!(code, Some(0), "{found}");
        }
    }
    let (code, found) = agent(&["--check", "--local-domains-from", "hash:/nowhere"], &instance);
    assert_eq!(code, Some(2), "{found}");
    instance.set(&format!("transport_maps = {ours}"));

    instance.set("smtp_helo_timeout = 300s");
    let (code, found) = agent(&["--check", "--output", "json"], &instance);
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains("GreetingTimeoutLong"), "{found}");
    let (main_cf, master_cf) = (instance.etc().join("main.cf"), instance.etc().join("master.cf"));
    let files = ["--check", "--main-cf", main_cf.to_str().unwrap(), "--master-cf", master_cf.to_str().unwrap()];
    let (code, found) = agent(&files, &instance);
    assert_eq!(code, Some(1), "{found}");
    assert!(found.starts_with("error GreetingTimeoutLong: smtp_helo_timeout\n"), "{found}");
    assert!(found.ends_with("1 error, 0 warnings, 0 hints\n"), "{found}");
}

/// A Postfix that a supervisor runs, and a sink that it delivers to.
struct Supervised {
    instance: Instance,
    sink: Sink,
    tell: mpsc::Sender<SignalMeaning>,
    lines: mpsc::UnboundedReceiver<String>,
    ended: JoinHandle<std::io::Result<CommandEnd>>,
}

impl Supervised {
    /// Starts both and waits until Postfix is up. The sink waits for this long before it says that it has a message.
    async fn start(sink_delay: Duration, drain: Duration) -> Self {
        let sink = Sink::start(sink_delay);
        let instance = Instance::listening();
        let intake = Intake::default();
        serve_socketmap(&instance.queue().join("mail-failover/socketmap"), sink.port, intake.clone());
        let postfix = Postfix {
            config_directory: instance.etc(),
            queue_directory: instance.queue(),
            metrics: MtaMetrics::new(&mut Registry::default()),
        };
        let settings = StopSettings { postfix, drain: Some(drain), stop: Duration::from_secs(10) };
        let (tell, mut signals) = Signals::channel();
        let (line, lines) = mpsc::unbounded_channel();
        let lines_reader: LineReader =
            Arc::new(move |text: &[u8]| drop(line.send(String::from_utf8_lossy(text).into_owned())));
        let command = ["postfix", "-c", instance.etc().to_str().unwrap(), "start-fg"].map(Into::into);
        let ended =
            tokio::spawn(
                async move { supervise::run(&command, &settings, &intake, &lines_reader, &mut signals).await },
            );
        let supervised = Self { instance, sink, tell, lines, ended };
        supervised.until("Postfix listens", || std::net::TcpStream::connect(supervised.instance.at()).is_ok()).await;
        supervised
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: not within 20s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends this number of messages with recipients of their own. Returns those that were accepted.
    async fn submit(&self, count: usize) -> BTreeSet<String> {
        let at = self.instance.at();
        let recipients = (0..count).map(|number| format!("r{number}@example.net"));
        let sending = tokio::task::spawn_blocking(move || recipients.map(|to| (send(at, &to), to)).collect::<Vec<_>>());
        let replies = sending.await.unwrap();
        replies.into_iter().filter(|(reply, _)| reply.starts_with("250")).map(|(_, to)| to).collect()
    }

    fn on_disk(&self) -> QueueDepth {
        depth_on_disk(&self.instance.queue()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_to_a_slow_server_takes_no_mail_and_loses_none() {
    if !possible() {
        return;
    }
    let mut supervised = Supervised::start(Duration::from_millis(400), Duration::from_mins(1)).await;
    let accepted = supervised.submit(100).await;
    assert_eq!(accepted.len(), 100);
    supervised.tell.send(SignalMeaning::Stop).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let at = supervised.instance.at();
    let reply = tokio::task::spawn_blocking(move || send(at, "late@example.net")).await.unwrap();
    assert!(reply.starts_with("421 4.3.2 "), "{reply}");
    assert!(!supervised.ended.is_finished(), "it waits for the queue");
    assert_eq!((&mut supervised.ended).await.unwrap().unwrap(), CommandEnd::AsTold);
    assert_eq!(supervised.sink.received().into_iter().collect::<BTreeSet<_>>(), accepted);
    assert_eq!(supervised.sink.received().len(), 100, "none twice");
    assert_eq!(supervised.on_disk(), QueueDepth::default());
    assert!(Master::find(&supervised.instance.queue()).is_err());
    let lines: Vec<String> = std::iter::from_fn(|| supervised.lines.try_recv().ok()).collect();
    assert_eq!(lines.iter().filter(|line| line.contains("status=sent")).count(), 100, "the log is handed on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_the_queue_on_disk() {
    if !possible() {
        return;
    }
    let mut supervised = Supervised::start(Duration::from_mins(1), Duration::from_mins(1)).await;
    let accepted = supervised.submit(5).await;
    let begun = Instant::now();
    supervised.tell.send(SignalMeaning::Stop).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!supervised.ended.is_finished());
    supervised.tell.send(SignalMeaning::Stop).await.unwrap();
    assert_eq!((&mut supervised.ended).await.unwrap().unwrap(), CommandEnd::AsTold);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(supervised.on_disk(), QueueDepth { waiting: accepted.len() as u64, held: 0 });
}

/// Waits for a line with these words.
async fn said(lines: &mut mpsc::UnboundedReceiver<String>, words: &str) {
    let line = async { while !lines.recv().await.expect("it runs").contains(words) {} };
    tokio::time::timeout(Duration::from_secs(20), line).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_postfix() {
    if !possible() {
        return;
    }
    let mut supervised = Supervised::start(Duration::ZERO, Duration::from_secs(5)).await;
    // It listens before it minds signals.
    said(&mut supervised.lines, "daemon started").await;
    supervised.tell.send(SignalMeaning::Reload).await.unwrap();
    said(&mut supervised.lines, "reload -- version").await;
    supervised.tell.send(SignalMeaning::Stop).await.unwrap();
    assert_eq!((&mut supervised.ended).await.unwrap().unwrap(), CommandEnd::AsTold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postfix_that_dies_ends_the_agent_with_its_code() {
    if !possible() {
        return;
    }
    let mut supervised = Supervised::start(Duration::ZERO, Duration::from_secs(5)).await;
    Master::find(&supervised.instance.queue()).unwrap().kill().unwrap();
    assert_eq!((&mut supervised.ended).await.unwrap().unwrap(), CommandEnd::ByItself(137));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_outlives_the_script_that_started_it_is_ended() {
    if !possible() {
        return;
    }
    let mut supervised = Supervised::start(Duration::ZERO, Duration::from_secs(5)).await;
    let script = supervised.instance.parent_of_master();
    rustix::process::kill_process(script, rustix::process::Signal::KILL).unwrap();
    assert_eq!((&mut supervised.ended).await.unwrap().unwrap(), CommandEnd::ByItself(137));
    assert!(Master::find(&supervised.instance.queue()).is_err());
}

/// The test runs a container's first process in a process namespace of its own: orphans are reaped, and signals reach
/// the agent.
#[test]
fn the_first_process_reaps_orphans_and_ends_with_its_command() {
    if !possible() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("mail-failover-agent-init-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("mail-failover")).unwrap();
    let run = |command: &str, then: &str| {
        let agent = format!(
            "exec {} agent run --config-file {folder}/none.json --queue-directory {folder} --state-directory {folder} \
             --listen-address 127.0.0.1:0 --health-listen-address 127.0.0.1:0 -- sh -c '{command}'",
            env!("CARGO_BIN_EXE_mail-failover"),
            folder = folder.display(),
        );
        let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"];
        // The shell becomes the agent, and so process 1; what comes after runs beside it.
        let script = format!("({then}) & {agent}");
        let output = Command::new("unshare").args(unshare).arg(script).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let orphans = "for i in 1 2 3 4 5; do (sleep 0.1 & exit 0); done; sleep 1; cat /proc/[0-9]*/status | grep -c \"^State:.Z\"; exit 7";
    let (code, output, errors) = run(orphans, "true");
    assert_eq!(code, Some(7), "{errors}");
    assert_eq!(output, "0\n", "zombies: {errors}");

    let begun = Instant::now();
    let (code, _, errors) = run("sleep 60", "sleep 1; kill -TERM 1");
    assert_eq!(code, Some(0), "{errors}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: {errors}", begun.elapsed());
    assert!(errors.contains("is not running") || errors.contains("does not run"), "{errors}");
    std::fs::remove_dir_all(folder).unwrap();
}
