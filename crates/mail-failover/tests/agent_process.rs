//! Tests of `mail-failover agent` as a process, asked by Postfix's own programs where they are installed.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mail-failover");
/// Limit for a wait, long enough for a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("mail-failover-process-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Agent {
    process: Child,
    folder: Folder,
    http: SocketAddr,
    health: SocketAddr,
}

impl Agent {
    fn start(folder: Folder) -> Self {
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [http, health] = free.map(|listener| listener.local_addr().unwrap());
        fs::create_dir_all(folder.join("queue")).unwrap();
        let process = Command::new(PROGRAM)
            .args(["agent", "run", "--local-domain", "local.example", "--config-file"])
            .arg(folder.join("agent.json"))
            .arg("--credentials-directory")
            .arg(folder.join("credentials"))
            .arg("--queue-directory")
            .arg(folder.join("queue"))
            // The machine's own Postfix is none of the test's business.
            .arg("--postfix-config-directory")
            .arg(folder.join("postfix"))
            .arg("--state-directory")
            .arg(folder.join("state"))
            .args(["--listen-address", &http.to_string(), "--health-listen-address", &health.to_string()])
            .stderr(fs::File::options().create(true).append(true).open(folder.join("log")).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut agent = Self { process, folder, http, health };
        // The socket of one that was killed exists still.
        let listens =
            |agent: &Self| TcpStream::connect(agent.http).is_ok() && UnixStream::connect(agent.socket()).is_ok();
        agent.eventually("it listens", listens);
        agent
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("queue/mail-failover/socketmap")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn eventually(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(self.process.try_wait().unwrap().is_none(), "{what}: the agent has ended\n{}", self.log());
            assert!(begun.elapsed() < WAIT_TIMEOUT, "{what}, not within {WAIT_TIMEOUT:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the answer to a request, on a connection of its own.
    fn asked(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        stream.write_all(format!("{}:{request},", request.len()).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once(':').unwrap().1.trim_end_matches(',').to_owned()
    }

    fn status(&self, arguments: &[&str]) -> Output {
        let address = self.http.to_string();
        Command::new(PROGRAM).args(["agent", "status", "--address", &address]).args(arguments).output().unwrap()
    }

    fn get(&self, path: &str) -> String {
        let is_health = ["/livez", "/readyz"].contains(&path);
        let mut stream = TcpStream::connect(if is_health { self.health } else { self.http }).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn offer(&self, text: &str) {
        fs::write(self.folder.join("new"), text).unwrap();
        fs::rename(self.folder.join("new"), self.folder.join("agent.json")).unwrap();
    }

    fn login(&self, username: &str, password: &str) {
        write_login(&self.folder, username, password);
    }

    /// Kills the agent by SIGKILL, at any moment.
    fn kill(mut self) -> Folder {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.folder, Folder::new())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write_login(folder: &Folder, username: &str, password: &str) {
    let secret = folder.join("credentials/ses-login");
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join("username"), username).unwrap();
    fs::write(secret.join("password"), password).unwrap();
}

fn document(transition: i64, host: &str) -> String {
    let tls = json!({"mode": "StartTLS"});
    json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition, "summary": "Failover"},
        "backends": [{"name": "ses", "percent": 100, "standby": true, "host": host, "port": 587, "tls": tls, "secret": "ses-login"}],
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    })
    .to_string()
}

#[test]
fn from_nothing_to_an_answer_and_through_a_crash() {
    let mut agent = Agent::start(Folder::new());
    let answer = agent.asked("transport x@example.net");
    assert!(answer.starts_with("TEMP mail-failover agent: no document yet: file "), "{answer}");
    assert_eq!(agent.asked("transport x@local.example"), "NOTFOUND ");
    assert!(agent.get("/readyz").starts_with("HTTP/1.1 503"));
    assert!(agent.get("/livez").starts_with("HTTP/1.1 200"));
    let status = agent.status(&[]);
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stderr).contains("is not ready: no document yet"), "{status:?}");

    agent.offer(&document(2, "ses.example"));
    agent.eventually("it answers", |agent| agent.asked("transport x@example.net") == "OK smtp:[ses.example]:587");
    assert!(agent.get("/readyz").starts_with("HTTP/1.1 200"));
    let missing = agent.asked("sasl [ses.example]:587");
    assert!(
        missing.starts_with("TEMP mail-failover agent: the login in Secret ses-login cannot be read: "),
        "{missing}"
    );
    agent.login("user", "hunter2");
    assert_eq!(agent.asked("sasl [ses.example]:587"), "OK user:hunter2", "the next query sees it");

    for refused in ["", "garbage", &document(1, "old.example")] {
        agent.offer(refused);
        agent.eventually("it is refused", |agent| {
            String::from_utf8_lossy(&agent.status(&[]).stdout).contains("its latest document is refused")
        });
        assert_eq!(agent.asked("transport x@example.net"), "OK smtp:[ses.example]:587");
        agent.offer(&document(2, "ses.example"));
        agent.eventually("it is used again", |agent| {
            !String::from_utf8_lossy(&agent.status(&[]).stdout).contains("refused")
        });
    }
    let page = agent.status(&[]);
    assert_eq!(page.status.code(), Some(0), "{page:?}");
    assert!(String::from_utf8_lossy(&page.stdout).contains("Decision   2: Failover"), "{page:?}");
    let json: serde_json::Value = serde_json::from_slice(&agent.status(&["-o", "json"]).stdout).unwrap();
    assert_eq!(json["document"]["transition"], 2);
    assert_eq!(json["backends"][0]["credentials"]["state"], "Loaded");

    let folder = agent.kill();
    assert!(folder.join("queue/mail-failover/socketmap").exists(), "the premise: a killed process leaves its socket");
    fs::remove_file(folder.join("agent.json")).unwrap();
    let mut agent = Agent::start(folder);
    assert_eq!(agent.asked("transport x@example.net"), "OK smtp:[ses.example]:587", "at once, from disk");
    agent.offer(&document(1, "old.example"));
    agent.eventually("an older one is refused", |agent| agent.log().contains("older than 2"));

    for text in [agent.log(), agent.get("/metrics"), agent.get("/status")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    for file in ["document", "memory"] {
        let kept = fs::read_to_string(agent.folder.join("state").join(file)).unwrap_or_default();
        assert!(!kept.contains("hunter2"), "{kept}");
    }
    let damaged = agent.folder.join("state/document");
    let folder = agent.kill();
    fs::write(&damaged, "garbage").unwrap();
    let mut agent = Agent::start(folder);
    assert!(agent.log().contains("what was kept is ignored"), "{}", agent.log());
    // With nothing kept, what the file offers (transition 1) is no longer older than anything.
    agent.eventually("it takes what it is offered", |agent| {
        agent.asked("transport x@example.net") == "OK smtp:[old.example]:587"
    });
    assert!(agent.get("/metrics").contains("mail_failover_agent_state_damaged_total{record=\"document\"} 1"));
}

#[test]
fn an_agent_that_is_not_there_is_said_to_be_so() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let status = Command::new(PROGRAM).args(["agent", "status", "--address", &free.to_string()]).output().unwrap();
    assert_eq!(status.status.code(), Some(2));
    let told = String::from_utf8_lossy(&status.stderr);
    assert!(told.contains(&free.to_string()) && told.contains("is `mail-failover agent run` running"), "{told}");
}

#[test]
fn it_ends_in_order_when_it_is_told_to() {
    let mut agent = Agent::start(Folder::new());
    agent.offer(&document(2, "ses.example"));
    agent.eventually("it answers", |agent| agent.asked("transport x@example.net").starts_with("OK"));
    let pid = rustix::process::Pid::from_child(&agent.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = agent.process.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < WAIT_TIMEOUT, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{}", agent.log());
    assert!(!agent.socket().exists());
    assert!(agent.folder.join("state/document").exists());
}

/// The test asks by Postfix's own client of socketmaps.
#[test]
fn postmap_understands_every_answer() {
    let postmap = Path::new("/usr/sbin/postmap");
    if !postmap.exists() {
        assert!(std::env::var_os("E2E_REQUIRE_ALL").is_none(), "there is no {}", postmap.display());
        println!("skipped: there is no {}; apt-get install postfix", postmap.display());
        return;
    }
    let mut agent = Agent::start(Folder::new());
    agent.login("user", "hunter2");
    agent.offer(&document(2, "ses.example"));
    agent.eventually("it answers", |agent| agent.asked("transport x@example.net").starts_with("OK"));
    fs::create_dir(agent.folder.join("postfix")).unwrap();
    fs::write(agent.folder.join("postfix/main.cf"), "compatibility_level = 3.6\n").unwrap();
    let asked = |map: &str, key: &str| {
        let table = format!("socketmap:unix:{}:{map}", agent.socket().display());
        let output = Command::new(postmap)
            .arg("-c")
            .arg(agent.folder.join("postfix"))
            .args(["-q", key, &table])
            .output()
            .unwrap();
        let (found, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        format!("{}{}", found.trim_end(), errors.trim_end())
    };
    for (map, key, want) in [
        ("transport", "user@example.net", "smtp:[ses.example]:587"),
        ("transport", "user@local.example", ""),
        ("transport", "*", ""),
        ("sender-transport", "<>", "smtp:[ses.example]:587"),
        ("sasl", "[ses.example]:587", "user:hunter2"),
        ("sasl", "ses.example", ""),
        ("tls-policy", "[ses.example]:587", "secure match=ses.example"),
        ("tls-policy", "[other.example]:587", ""),
    ] {
        assert_eq!(asked(map, key), want, "{map} {key}");
    }
    assert!(asked("nothing", "x").contains("socketmap"), "an error is told as such: {}", asked("nothing", "x"));
}
