//! Real clients as applications: Python's smtplib, curl, swaks and msmtp, as far as they are installed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Ending, Fault, SessionStage};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::fixture::{Relay, SHORT, SOON, backend, server};

/// A program that sends a message with this id.
#[derive(Clone, Copy, Debug)]
enum Program {
    Smtplib,
    Curl,
    Swaks,
    Msmtp,
}

const PROGRAMS: [Program; 4] = [Program::Smtplib, Program::Curl, Program::Swaks, Program::Msmtp];

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

impl Program {
    fn is_there(self) -> bool {
        let name = match self {
            Self::Smtplib => "python3",
            Self::Curl => "curl",
            Self::Swaks => "swaks",
            Self::Msmtp => "msmtp",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
        if !is_there {
            assert!(std::env::var_os("E2E_REQUIRE_ALL").is_none(), "{name} is not installed");
            println!("skipped: {name} is not installed");
        }
        is_there
    }

    /// Sends a message without TLS. Returns true if the program says that it is accepted, and its output.
    async fn send(self, address: SocketAddr, id: &str) -> (bool, String) {
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
                command.args([
                    "--silent",
                    "--show-error",
                    "--max-time",
                    "60",
                    "--url",
                    &format!("smtp://{address}/shop.example"),
                ]);
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
                command.args([
                    "--host",
                    &host,
                    "--port",
                    &port,
                    "--from",
                    "app@shop.example",
                    "--tls=off",
                    "--auth=off",
                ]);
                command.args(["one@example.net", "two@example.net"]);
                command
            }
        };
        run(&mut command, message.as_bytes()).await
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_see_no_outage_that_the_relay_can_get_around() {
    let faults = [
        (Fault::None, Some(0)),
        (Fault::Refuse, Some(1)),
        (Fault::reply(SessionStage::Mail, 421, "4.3.2 Shutting down"), Some(1)),
        (Fault::reply(SessionStage::Rcpt, 454, "4.7.0 Throttling failure: Daily message quota exceeded"), Some(1)),
        (Fault::reply(SessionStage::EndOfData, 554, "Message rejected: Sending paused for this account"), Some(1)),
        (Fault::Silent, Some(1)),
        // Nobody can get around it without a second copy.
        (Fault::AcceptWithoutReply(Ending::Reset), None),
    ];
    for program in PROGRAMS.into_iter().filter(|program| program.is_there()) {
        for (fault, at) in &faults {
            let servers = [server("first").await, server("second").await];
            servers[0].set_fault(fault.clone()).await.expect("the fault");
            let relay = Relay::start(&[backend(&servers[0], 100), backend(&servers[1], 0)], &SHORT).await;
            let (is_accepted, said) = program.send(relay.address(), "m1").await;
            let counts = servers.each_ref().map(|server| server.received_by_id().get("m1").copied().unwrap_or(0));
            let Some(at) = at else {
                assert!(!is_accepted, "{program:?}, {fault}: {said}");
                assert_eq!(counts, [1, 0], "{program:?}, {fault}: no second copy");
                continue;
            };
            assert!(is_accepted, "{program:?}, {fault}: {said}");
            assert_eq!(counts, [usize::from(*at == 0), usize::from(*at == 1)], "{program:?}, {fault}");
            let stored = &servers[*at].received()[0];
            let content = String::from_utf8_lossy(&stored.content);
            // swaks adds an empty line.
            assert!(content.trim_end().ends_with("\r\n.a dot\r\nbody"), "{program:?}: {content}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_log_in_inside_tls() {
    if !Program::Smtplib.is_there() {
        return;
    }
    let only = server("only").await;
    let authority = Authority::new().expect("an authority");
    let identity = authority.issue(&["localhost"], Validity::Valid).expect("a certificate");
    let fill = |folder: &std::path::PathBuf| {
        write_identity(folder, &authority);
        std::fs::create_dir(folder.join("users")).expect("a folder");
        std::fs::write(folder.join("users/shop"), "hunter2\n").expect("written");
    };
    drop(identity);
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
    let (is_accepted, said) = Program::Smtplib.send(relay.address(), "m9").await;
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
