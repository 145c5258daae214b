//! Tests of `agent run` as a process with a real Postfix: as its entry point, beside it, with fewer rights than usual,
//! and killed.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use mail_failover_agent::SHIELD;
use mail_failover_agent::mta::{Master, QueueDepth, depth_on_disk};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::instance::{Instance, possible};
use crate::peers::{Behaviour, Sink, send};

/// Address of its own for a server that fails: Postfix's log names the host of a failed hop, and its port seldom.
const PRIMARY: &str = "127.0.0.6";
const PROGRAM: &str = env!("CARGO_BIN_EXE_mail-failover");
/// Limit for a wait, long enough for a busy machine.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// An agent of an instance: its document, state and output lie in the instance's folder.
pub struct Agent<'a> {
    process: Child,
    http: String,
    instance: &'a Instance,
}

impl<'a> Agent<'a> {
    pub fn start(instance: &'a Instance, flags: &[&str], command: &[&str]) -> Self {
        Self::start_with(Command::new(PROGRAM), instance, flags, command)
    }

    /// Starts an agent with a program that becomes the agent.
    fn start_with(mut program: Command, instance: &'a Instance, flags: &[&str], command: &[&str]) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let output = fs::File::options().create(true).append(true).open(output_of(instance)).unwrap();
        program.args(["agent", "run", "--listen-address", &http, "--health-listen-address", "127.0.0.1:0"]);
        program.arg("--config-file").arg(document_of(instance));
        program.arg("--queue-directory").arg(instance.queue()).arg("--postfix-config-directory").arg(instance.etc());
        program.arg("--state-directory").arg(instance.folder().join("state")).args(flags);
        if !command.is_empty() {
            program.arg("--").args(command);
        }
        let process = program.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        let agent = Self { process, http, instance };
        agent.until("the agent answers", || agent.status().contains("Decision"));
        agent
    }

    /// Returns the output of the agent and of the command that it started.
    pub fn output(&self) -> String {
        fs::read_to_string(output_of(self.instance)).unwrap_or_default()
    }

    pub fn status(&self) -> String {
        let output = Command::new(PROGRAM).args(["agent", "status", "--address", &self.http]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            let log = fs::read_to_string(self.instance.mail_log()).unwrap_or_default();
            assert!(begun.elapsed() < WAIT_TIMEOUT, "{what}: not within {WAIT_TIMEOUT:?}\n{}\n{log}", self.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells it to end, and does something meanwhile.
    fn terminated(mut self, meanwhile: impl FnOnce()) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        meanwhile();
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status, self.output());
            }
            assert!(begun.elapsed() < WAIT_TIMEOUT, "it does not end\n{}", self.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn output_of(instance: &Instance) -> PathBuf {
    instance.folder().join("output")
}

fn document_of(instance: &Instance) -> PathBuf {
    instance.folder().join("agent.json")
}

/// Sends all mail to the first of these servers; the second is a standby and no alternate, so that mail waits until the
/// route moves.
fn decide(instance: &Instance, transition: i64, [first, second]: [(&str, &Sink); 2]) {
    let backend = |(name, sink): (&str, &Sink), percent: u8| json!({"name": name, "percent": percent, "standby": true, "host": sink.host, "port": sink.port, "tls": {"mode": "None"}});
    let document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition}, "backends": [backend(first, 100), backend(second, 0)],
    });
    tell(instance, &document);
}

/// Sends all mail to the first of these servers, by a document of an operator of the first release: its standbys are
/// alternates.
fn decide_as_the_first_release(instance: &Instance, transition: i64, [first, second]: [(&str, &Sink); 2]) {
    let backend = |(name, sink): (&str, &Sink), percent: u8| json!({"name": name, "percent": percent, "standby": true, "host": sink.host, "port": sink.port, "tls": {"mode": "None"}});
    let document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition}, "backends": [backend(first, 100), backend(second, 0)],
        "reflex": {"consecutive": 3, "lastingMilliseconds": 0, "immediately": ["AccountPaused"],
                   "cooldownMilliseconds": 600_000, "switches": 6, "perMilliseconds": 3_600_000},
    });
    tell(instance, &document);
}

/// Sends all mail to the first of these servers, by the default policy; both are alternates.
pub fn decide_by_default(instance: &Instance, transition: i64, [first, second]: [(&str, &Sink); 2]) {
    let backend = |(name, sink): (&str, &Sink), percent: u8| json!({"name": name, "percent": percent, "standby": true, "alternate": true, "host": sink.host, "port": sink.port, "tls": {"mode": "None"}});
    let document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition}, "backends": [backend(first, 100), backend(second, 0)],
        "breaker": {"consecutive": 3, "firstPauseMilliseconds": 5000, "longestPauseMilliseconds": 60_000},
        "deliveries": {"consecutive": 10, "lastingMilliseconds": 50_000, "immediately": ["AccountPaused", "AuthenticationRefused", "QuotaExhausted"],
                   "cooldownMilliseconds": 600_000},
    });
    tell(instance, &document);
}

fn tell(instance: &Instance, document: &serde_json::Value) {
    let new = instance.folder().join("new");
    fs::write(&new, document.to_string()).unwrap();
    fs::rename(new, document_of(instance)).unwrap();
}

/// Hands messages in, with a recipient each. Returns those that were accepted.
pub fn submit(instance: &Instance, name: &str, count: usize) -> BTreeSet<String> {
    let recipients = (0..count).map(|number| format!("{name}{number}@example.net"));
    recipients.filter(|to| send(instance.at(), to).starts_with("250")).collect()
}

pub fn is_up(instance: &Instance) -> bool {
    Master::find(&instance.queue()).is_ok() && std::net::TcpStream::connect(instance.at()).is_ok()
}

pub fn all_of(sink: &Sink) -> BTreeSet<String> {
    sink.received().into_iter().collect()
}

#[test]
fn an_entry_point_leaves_a_dead_primary_and_ends_with_an_empty_queue() {
    if !possible() {
        return;
    }
    let (primary, standby) = (Sink::at(PRIMARY, Behaviour::TurnsAway), Sink::start(Duration::from_millis(200)));
    let instance = Instance::listening();
    decide_as_the_first_release(&instance, 1, [("primary", &primary), ("standby", &standby)]);
    let etc = instance.etc();
    let command = ["postfix", "-c", etc.to_str().unwrap(), "start-fg"];
    let agent = Agent::start(&instance, &["--drain-timeout", "60s"], &command);
    agent.until("Postfix listens", || is_up(&instance));

    let mut accepted = submit(&instance, "before", 30);
    assert_eq!(accepted.len(), 30, "{}", agent.output());
    agent.until("all by the standby", || all_of(&standby) == accepted);
    agent.until("the breaker is open", || agent.status().contains("breaker open since"));

    accepted.append(&mut submit(&instance, "late", 40));
    assert_eq!(accepted.len(), 70);
    let (status, output) = agent.terminated(|| {
        std::thread::sleep(Duration::from_secs(1));
        let reply = send(instance.at(), "refused@example.net");
        assert!(reply.starts_with("421 4.3.2 "), "{reply}");
    });
    assert!(status.success(), "{status}: {output}");
    assert_eq!(all_of(&standby), accepted);
    assert_eq!(standby.received().len(), 70, "none twice");
    assert_eq!(depth_on_disk(&instance.queue()).unwrap(), QueueDepth::default());
    assert!(Master::find(&instance.queue()).is_err());
    // Postfix asks until its end, and the socketmap answers until then.
    for complaint in ["lookup error", "table lookup problem", "Temporary lookup failure", "mail transport unavailable"]
    {
        assert!(!output.contains(complaint), "{complaint}: {output}");
    }
    let at = |text: &str| output.find(text).unwrap_or_else(|| panic!("{text}: {output}"));
    assert!(at("no mail is left in the queue") < at("the agent ends"), "{output}");
    assert_eq!(output.matches("mail goes another way as soon as Postfix runs").count(), 1, "{output}");
}

#[test]
fn beside_postfix_it_reads_the_log_drains_when_it_is_told_to_and_leaves_postfix_alone() {
    if !possible() {
        return;
    }
    let (primary, standby) = (Sink::at(PRIMARY, Behaviour::TurnsAway), Sink::start(Duration::from_millis(200)));
    let instance = Instance::beside_an_agent();
    decide_as_the_first_release(&instance, 1, [("primary", &primary), ("standby", &standby)]);
    let log = instance.mail_log();
    let agent = Agent::start(&instance, &["--mail-log", log.to_str().unwrap(), "--drain-timeout", "60s"], &[]);
    // As the first of a pod's containers it waits for Postfix.
    std::thread::sleep(Duration::from_secs(3));
    instance.start();
    agent.until("Postfix listens", || is_up(&instance));
    let mut accepted = submit(&instance, "before", 30);
    agent.until("all by the standby", || all_of(&standby) == accepted);
    agent.until("the breaker is open", || agent.status().contains("breaker open since"));

    accepted.append(&mut submit(&instance, "late", 40));
    let (status, output) = agent.terminated(|| std::thread::sleep(Duration::from_secs(1)));
    assert!(status.success(), "{status}: {output}");
    assert_eq!(all_of(&standby), accepted);
    assert_eq!(accepted.len(), 70);
    assert!(output.contains("the queue is empty after"), "{output}");
    assert_eq!(output.matches("mail goes another way as soon as Postfix runs").count(), 1, "{output}");
    assert!(output.contains("Postfix runs and is reloaded"), "{output}");
    assert!(is_up(&instance), "the end of the agent is not the end of Postfix");
    assert!(send(instance.at(), "x@example.net").starts_with("451"), "nobody says where mail goes");
}

#[test]
fn a_paused_account_bounces_nothing_even_while_the_agent_is_dead_and_an_unknown_recipient_bounces() {
    if !possible() {
        return;
    }
    let (paused, standby) =
        (Sink::at(PRIMARY, Behaviour::Paused(Duration::from_secs(3))), Sink::start(Duration::from_millis(10)));
    let instance = Instance::beside_an_agent();
    decide_by_default(&instance, 1, [("paused", &paused), ("standby", &standby)]);
    let log = || fs::read_to_string(instance.mail_log()).unwrap_or_default();
    let flags = ["--mail-log", &instance.mail_log().display().to_string()];
    let mut agent = Agent::start(&instance, &flags, &[]);
    assert!(instance.queue().join(SHIELD).exists());
    instance.start();
    agent.until("Postfix listens", || is_up(&instance));

    let mut accepted = submit(&instance, "dead", 3);
    assert_eq!(accepted.len(), 3);
    agent.until("they are being refused", || paused.offered() == 3);
    agent.process.kill().unwrap();
    agent.process.wait().unwrap();
    // Without an agent each refusal leads to the next backend, or the message waits.
    let ended = || log().matches("status=deferred").count() + log().matches("status=sent").count();
    agent.until("they wait or are out", || ended() >= 3);
    drop(agent);

    let agent = Agent::start(&instance, &flags, &[]);
    accepted.append(&mut submit(&instance, "alive", 20));
    assert_eq!(accepted.len(), 23);
    agent.until("all by the standby", || all_of(&standby) == accepted);
    assert!(!log().contains("status=bounced"), "{}", log());
    let status = agent.status();
    assert!(status.contains("breaker open since") && status.contains("AccountPaused"), "{status}");

    assert!(send(instance.at(), "unknown@example.net").starts_with("250"));
    agent.until("it bounces", || log().contains("status=bounced"));
    agent.until("its sender is told", || standby.received().contains(&"a@example.com".to_owned()));
    assert_eq!(log().matches("status=bounced").count(), 1, "{}", log());
}

/// Returns the number of a group.
fn group(name: &str) -> String {
    let entry = Command::new("getent").args(["group", name]).output().unwrap();
    String::from_utf8(entry.stdout).unwrap().split(':').nth(2).unwrap().to_owned()
}

/// Returns this program as a command with Postfix's groups and without any capability.
fn without_capabilities(user: u32, instance: &Instance) -> Command {
    // Whoever that is must be able to read it.
    let copy = instance.folder().join("mail-failover");
    fs::copy(PROGRAM, &copy).unwrap();
    let (postfix, postdrop) = (group("postfix"), group("postdrop"));
    let mut program = Command::new("setpriv");
    program.args(["--reuid", &user.to_string(), "--regid", &postfix, "--groups", &format!("{postfix},{postdrop}")]);
    program.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]).arg(copy);
    program
}

#[test]
fn root_without_a_capability_is_enough() {
    if !possible() {
        return;
    }
    let (old, new) = (Sink::that(Behaviour::TurnsAway), Sink::start(Duration::ZERO));
    let instance = Instance::beside_an_agent();
    decide(&instance, 1, [("old", &old), ("new", &new)]);
    instance.start();
    let log = instance.mail_log();
    let flags = ["--mail-log", log.to_str().unwrap()];
    let agent = Agent::start_with(without_capabilities(0, &instance), &instance, &flags, &[]);
    agent.until("Postfix listens", || is_up(&instance));
    assert!(send(instance.at(), "x@example.net").starts_with("250"), "{}", agent.output());
    agent.until("it waits", || fs::read_to_string(&log).unwrap().contains("closed for today"));
    let switched = Instant::now();
    decide(&instance, 2, [("new", &new), ("old", &old)]);
    agent.until("it goes the new way", || new.received() == ["x@example.net"]);
    println!("with a reload it went the new way after {:?}", switched.elapsed());
    assert!(switched.elapsed() < Duration::from_secs(20), "{:?}", switched.elapsed());
    agent.until("the queue is counted", || agent.status().contains("queue 1 → 0"));
    for complaint in ["cannot use the socket", "is not reloaded", "cannot be flushed"] {
        assert!(!agent.output().contains(complaint), "{}", agent.output());
    }
}

const USER: u32 = 10_001;

/// The agent runs as another user, without a capability: Postfix's last answer goes the old way for 30 s, and nothing
/// else is lost.
#[test]
fn an_agent_that_may_not_reload_flushes_when_postfix_has_forgotten() {
    if !possible() {
        return;
    }
    let (old, new) = (Sink::that(Behaviour::TurnsAway), Sink::start(Duration::ZERO));
    let instance = Instance::beside_an_agent();
    decide(&instance, 1, [("old", &old), ("new", &new)]);
    let log = instance.mail_log();
    fs::create_dir(instance.folder().join("state")).unwrap();
    fs::write(&log, "").unwrap();
    for mine in [&instance.queue().join("mail-failover"), &instance.folder().join("state"), &log] {
        chown(mine, Some(USER), None).unwrap();
    }
    instance.start();
    let agent = Agent::start_with(
        without_capabilities(USER, &instance),
        &instance,
        &["--mail-log", log.to_str().unwrap()],
        &[],
    );
    agent.until("Postfix listens", || is_up(&instance));

    assert!(send(instance.at(), "x@example.net").starts_with("250"), "{}", agent.output());
    agent.until("it waits", || fs::read_to_string(&log).unwrap().contains("closed for today"));
    let switched = Instant::now();
    decide(&instance, 2, [("new", &new), ("old", &old)]);
    agent.until("the new decision is in force", || agent.status().contains("Decision   2"));
    agent.until("it goes the new way", || new.received() == ["x@example.net"]);
    println!(
        "without a reload the message that Postfix had asked about last went the new way after {:?}",
        switched.elapsed()
    );
    assert!(switched.elapsed() < Duration::from_secs(45), "{:?}", switched.elapsed());
    let (status, output) = (agent.status(), agent.output());
    assert!(status.contains("run the agent as the user root"), "{status}");
    assert_eq!(output.matches("what it asked last goes the old way for up to 30 s").count(), 1, "{output}");
    assert!(!output.contains("cannot use the socket"), "{output}");
}
