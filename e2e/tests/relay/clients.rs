//! Real clients as applications, as far as they are installed: Python's smtplib, curl, swaks, msmtp, Go's net/smtp,
//! nodemailer, lettre and Postfix. With `E2E_EXHAUSTIVE` they meet the whole matrix of faults, and Angus Mail is one of
//! them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::{SmtpTransport, Transport};
use mail_failover_e2e::control_plane::binaries::cache_folder;
use mail_failover_e2e::environment::is_exhaustive;
use mail_failover_e2e::helm::repository;
use mail_failover_e2e::mail::certificates::Authority;
use mail_failover_e2e::mail::server::{Ending, Fault, SessionStage, SmtpServer};
use mail_failover_e2e::postfix::{Options, Postfix, PostfixTimeouts};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use super::client;
use super::fixture::{ANY, Relay, SOON, backend, server};
use super::matrix::{self, Sees};

/// A program or library that sends a message with this id.
#[derive(Clone, Copy, Debug)]
enum Program {
    Smtplib,
    Curl,
    Swaks,
    Msmtp,
    /// Go's net/smtp.
    Go,
    Nodemailer,
    Lettre,
    AngusMail,
}

const PROGRAMS: [Program; 8] = [
    Program::Smtplib,
    Program::Curl,
    Program::Swaks,
    Program::Msmtp,
    Program::Go,
    Program::Nodemailer,
    Program::Lettre,
    Program::AngusMail,
];

const SMTPLIB: &str = r#"
import smtplib, ssl, sys
port, identity, tls, authority = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
context = ssl.create_default_context(cafile=authority) if authority else None
if tls == "implicit":
    client = smtplib.SMTP_SSL("localhost", port, timeout=60, context=context)
else:
    client = smtplib.SMTP("localhost", port, timeout=60)
with client:
    if tls == "starttls":
        client.starttls(context=context)
    if tls:
        client.login("shop", "hunter2")
    client.sendmail("app@shop.example", ["one@example.net", "two@example.net"],
                    f"X-Message-Id: {identity}\r\nSubject: test\r\n\r\n.a dot\r\nbody\r\n")
"#;

/// The sources of clients in other languages.
fn sources(language: &str) -> PathBuf {
    repository("e2e/tools/smtp-clients").join(language)
}

impl Program {
    fn is_there(self) -> bool {
        let name = match self {
            Self::Lettre => return true,
            Self::AngusMail if !is_exhaustive() => return false,
            Self::Smtplib => "python3",
            Self::Curl => "curl",
            Self::Swaks => "swaks",
            Self::Msmtp => "msmtp",
            Self::Go => "go",
            Self::Nodemailer => "npm",
            Self::AngusMail => "mvn",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
        if !is_there {
            assert!(std::env::var_os("E2E_REQUIRE_ALL").is_none(), "{name} is not installed");
            println!("skipped: {name} is not installed");
        }
        is_there
    }

    /// Builds what has to be built, into `folder`, and downloads what is not in the cache folder. Both are pinned.
    async fn prepare(self, folder: &Path) {
        match self {
            Self::Smtplib | Self::Curl | Self::Swaks | Self::Msmtp | Self::Lettre => {}
            Self::Go => {
                let mut command = Command::new("go");
                command.args(["build", "-o"]).arg(folder.join("go-client")).arg(".").current_dir(sources("go"));
                prepared(command).await;
            }
            Self::Nodemailer => {
                let library = library(self);
                if !library.join("node_modules/nodemailer").is_dir() {
                    std::fs::create_dir_all(&library).expect("a folder");
                    for file in ["package.json", "package-lock.json"] {
                        std::fs::copy(sources("node").join(file), library.join(file)).expect("copied");
                    }
                    let mut command = Command::new("npm");
                    command.args(["ci", "--no-audit", "--no-fund"]).current_dir(&library);
                    prepared(command).await;
                }
            }
            Self::AngusMail => {
                let mut command = Command::new("mvn");
                command.args(["-q", "-B", "-f"]).arg(sources("java").join("pom.xml"));
                command.arg("dependency:copy-dependencies");
                command.arg(format!("-DoutputDirectory={}", library(self).display()));
                if !library(self).is_dir() {
                    prepared(command).await;
                }
            }
        }
    }

    /// Sends a message without TLS. Returns true if the program says that it is accepted, and its output.
    async fn send(self, address: SocketAddr, id: &str, folder: &Path) -> (bool, String) {
        let message = format!("X-Message-Id: {id}\r\nSubject: test\r\n\r\n.a dot\r\nbody\r\n");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = match self {
            Self::Smtplib => {
                let mut command = Command::new("python3");
                command.args(["-c", SMTPLIB, &port, id, "", ""]);
                command
            }
            Self::Curl => {
                let mut command = Command::new("curl");
                let url = format!("smtp://{address}/shop.example");
                command.args(["--silent", "--show-error", "--max-time", "60", "--url", &url]);
                command.args(["--mail-from", "app@shop.example", "--mail-rcpt", "one@example.net"]);
                command.args(["--mail-rcpt", "two@example.net", "--upload-file", "-"]);
                command
            }
            Self::Swaks => {
                let mut command = Command::new("swaks");
                command.args(["--server", &host, "--port", &port, "--from", "app@shop.example", "--timeout", "60s"]);
                command.args(["--to", "one@example.net,two@example.net", "--data", "-"]);
                command
            }
            Self::Msmtp => {
                let mut command = Command::new("msmtp");
                command.args(["--host", &host, "--port", &port, "--from", "app@shop.example"]);
                command.args(["--tls=off", "--auth=off", "one@example.net", "two@example.net"]);
                command
            }
            Self::Go => {
                let mut command = Command::new(folder.join("go-client"));
                command.arg(address.to_string());
                command
            }
            Self::Nodemailer => {
                let mut command = Command::new("node");
                command.arg(sources("node").join("send.js")).args([&host, &port]);
                command.env("NODE_PATH", library(self).join("node_modules"));
                command
            }
            Self::AngusMail => {
                let mut command = Command::new("java");
                command.arg("-cp").arg(library(self).join("*")).arg(sources("java").join("Send.java"));
                command.args([&host, &port]);
                command
            }
            Self::Lettre => return by_lettre(address, message).await,
        };
        run(&mut command, message.as_bytes()).await
    }
}

/// The folder of a library that was downloaded.
fn library(program: Program) -> PathBuf {
    let is_java = matches!(program, Program::AngusMail);
    let name = if is_java { "angus-mail-2.0.4" } else { "nodemailer-10.6.1" };
    cache_folder().expect("a cache folder").join(name)
}

async fn prepared(mut command: Command) {
    let output = timeout(SOON * 30, command.kill_on_drop(true).output()).await.expect("in time").expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn by_lettre(address: SocketAddr, message: String) -> (bool, String) {
    let sent = tokio::task::spawn_blocking(move || {
        let recipients = ["one@example.net", "two@example.net"].map(|to| to.parse().expect("an address"));
        let from = "app@shop.example".parse().expect("an address");
        let envelope = Envelope::new(Some(from), recipients.to_vec()).expect("an envelope");
        let transport = SmtpTransport::builder_dangerous(address.ip().to_string()).port(address.port());
        transport.timeout(Some(Duration::from_mins(1))).build().send_raw(&envelope, message.as_bytes())
    });
    match sent.await.expect("no panic") {
        Ok(response) => (response.is_positive(), format!("{response:?}")),
        Err(error) => (false, format!("{error:?}")),
    }
}

async fn run(command: &mut Command, input: &[u8]) -> (bool, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input");
    // A program that does not read it is not waited for.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = timeout(SOON * 3, child.wait_with_output()).await.expect("in time").expect("it ran");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Faults of the first backend: one of each kind, or the whole matrix.
fn faults() -> Vec<Fault> {
    if is_exhaustive() {
        return matrix::all_faults();
    }
    vec![
        Fault::Refuse,
        Fault::reply(SessionStage::Mail, 421, "4.3.2 Shutting down"),
        Fault::reply(SessionStage::Rcpt, 454, "4.7.0 Throttling failure: Daily message quota exceeded"),
        Fault::reply(SessionStage::EndOfData, 554, "Message rejected: Sending paused for this account"),
        Fault::Silent,
        Fault::AcceptWithoutReply(Ending::Reset),
    ]
}

/// The copies of the message `m1` at each of these servers.
fn copies(servers: &[SmtpServer; 2]) -> [usize; 2] {
    servers.each_ref().map(|server| server.received_by_id().get("m1").copied().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_see_no_outage_that_the_relay_can_get_around() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new().expect("an authority");
    for program in PROGRAMS.into_iter().filter(|program| program.is_there()) {
        program.prepare(folder.path()).await;
        let (servers, relay) = matrix::relay_before(&Fault::None, &authority).await;
        let (is_accepted, said) = program.send(relay.address(), "m1", folder.path()).await;
        assert!(is_accepted && copies(&servers) == [1, 0], "{program:?}: {said}");
        let content = String::from_utf8_lossy(&servers[0].received()[0].content).into_owned();
        // swaks adds an empty line.
        assert!(content.trim_end().ends_with("\r\n.a dot\r\nbody"), "{program:?}: {content}");
        for fault in faults() {
            let (servers, relay) = matrix::relay_before(&fault, &authority).await;
            let (is_accepted, said) = program.send(relay.address(), "m1", folder.path()).await;
            let counts = copies(&servers);
            matrix::expected(&fault).check(is_accepted, counts, &format!("{program:?}, {fault}: {said}; {counts:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postfix_delivers_through_the_relay_and_keeps_what_it_does_not_take() {
    let missing = Postfix::missing().or_else(|| (!rustix::process::geteuid().is_root()).then(|| "no root".to_owned()));
    if let Some(missing) = missing {
        assert!(std::env::var_os("E2E_REQUIRE_ALL").is_none(), "{missing}");
        println!("skipped: {missing}");
        return;
    }
    let authority = Authority::new().expect("an authority");
    for fault in faults() {
        let (servers, relay) = matrix::relay_before(&fault, &authority).await;
        let (postfix, _folder) = postfix_before(&relay).await;
        let answer = client::send(postfix.address(), "m1").await;
        assert!(answer.starts_with("250"), "{answer}");
        // Doubt is a 451, so that the message stays in the queue.
        let sees = matrix::expected(&fault);
        let within = if sees == Sees::Nothing { SOON } else { Duration::from_secs(4) };
        let is_drained = postfix.drained(within).await.expect("the queue");
        let counts = copies(&servers);
        sees.check(is_drained, counts, &format!("{fault}: {counts:?}"));
    }
}

/// A Postfix whose only way out is the relay.
async fn postfix_before(relay: &Relay) -> (Postfix, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let free = TcpListener::bind(ANY).await.expect("a port").local_addr().expect("its address");
    let next_hop = format!("[{}]:{}", relay.address().ip(), relay.address().port());
    let mut options = Options::new(free, folder.path().join("mail.log")).with("relayhost", next_hop);
    options.timeouts = PostfixTimeouts::Defaults;
    (Postfix::start(options).await.expect("Postfix"), folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_log_in_inside_tls() {
    if !Program::Smtplib.is_there() {
        return;
    }
    let only = server("only").await;
    let authority = Authority::new().expect("an authority");
    let fill = |folder: &std::path::PathBuf| {
        write_identity(folder, &authority);
        std::fs::create_dir(folder.join("users")).expect("a folder");
        std::fs::write(folder.join("users/shop"), "hunter2\n").expect("written");
    };
    let arguments = [
        "--smtps-address",
        "127.0.0.1:0",
        "--certificate-directory",
        "FOLDER/tls",
        "--users-directory",
        "FOLDER/users",
        "--allow-network",
        "192.0.2.0/24",
    ];
    let relay = Relay::with(fill, &[backend(&only, 100)], &arguments).await;
    let authority_file = relay.folder.path().join("ca.crt").display().to_string();
    for (number, (tls, port)) in
        [("starttls", relay.address().port()), ("implicit", relay.addresses.smtps[0].port())].into_iter().enumerate()
    {
        let mut command = Command::new("python3");
        command.args(["-c", SMTPLIB, &port.to_string(), &format!("m{number}"), tls, &authority_file]);
        let (is_accepted, said) = run(&mut command, b"").await;
        assert!(is_accepted, "{tls}: {said}");
        assert_eq!(only.received_count(), number + 1);
    }
    // Without a login nobody sends from here.
    let (is_accepted, said) = Program::Smtplib.send(relay.address(), "m9", relay.folder.path()).await;
    assert!(!is_accepted && said.contains("530"), "{said}");
}

/// Writes a certificate as cert-manager does, and the authority's.
fn write_identity(folder: &Path, authority: &Authority) {
    std::fs::create_dir_all(folder.join("tls")).expect("a folder");
    let (certificate, key) = authority.issue_pem(&["localhost"]).expect("a certificate");
    std::fs::write(folder.join("tls/tls.crt"), certificate).expect("written");
    std::fs::write(folder.join("tls/tls.key"), key).expect("written");
    std::fs::write(folder.join("ca.crt"), authority.pem()).expect("written");
}
