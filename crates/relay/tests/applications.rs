//! A relay in this process, applications that behave badly, and backends that do: who is silent keeps nothing from the
//! others, and an acceptance is of the whole message.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use mail_failover_relay::{RelayCommand, RunError, serve};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A bound on anything that comes over loopback.
const SOON: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct RelayLine {
    #[command(subcommand)]
    command: RelayCommand,
}

struct Relay {
    smtp: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
    _folder: TempDir,
}

fn write_certificate(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
}

impl Relay {
    /// A relay with one backend and these arguments. `FOLDER` stands for its folder.
    async fn start(backend: SocketAddr, arguments: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let document = json!({
            "apiVersion": "agent.mailfailover.io/v1alpha1",
            "route": {"namespace": "shop", "name": "orders", "uid": "u"}, "decision": {"transition": 1},
            "backends": [{
                "name": "a", "percent": 100, "standby": true, "alternate": true,
                "host": backend.ip().to_string(), "port": backend.port(), "tls": {"mode": "None"},
            }],
        });
        std::fs::write(folder.path().join("agent.json"), document.to_string()).unwrap();
        write_certificate(folder.path());
        let line = format!(
            "relay run --config-file FOLDER/agent.json --state-directory FOLDER/state --credentials-directory FOLDER \
             --listen-address 127.0.0.1:0 --health-listen-address 127.0.0.1:0 --smtp-address 127.0.0.1:0 \
             --hostname relay.example {arguments}"
        );
        let line = line.replace("FOLDER", &folder.path().display().to_string());
        let RelayCommand::Run(arguments) = RelayLine::try_parse_from(line.split_whitespace()).unwrap().command;
        let (stop, (started, starting)) = (CancellationToken::new(), oneshot::channel());
        let told = stop.clone();
        let task = tokio::spawn(async move {
            serve(&arguments, told.cancelled_owned(), |addresses| drop(started.send(addresses))).await
        });
        let smtp = timeout(SOON, starting).await.unwrap().unwrap().smtp[0];
        Self { smtp, stop, task, _folder: folder }
    }
}

/// One side of a connection that speaks SMTP.
struct Peer(BufReader<TcpStream>);

impl Peer {
    /// An application that was greeted.
    async fn connect(relay: &Relay) -> (Self, String) {
        let mut peer = Self(BufReader::new(TcpStream::connect(relay.smtp).await.unwrap()));
        let greeting = peer.line().await;
        (peer, greeting)
    }

    async fn say(&mut self, text: &str) {
        // Who has closed the connection says so by what is read.
        drop(self.0.get_mut().write_all(text.as_bytes()).await);
    }

    /// The next line without its end. Empty at the end of the connection.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        drop(timeout(SOON, self.0.read_line(&mut line)).await.expect("in time"));
        line.trim_end().to_owned()
    }

    /// The last line of the reply to this command.
    async fn ask(&mut self, command: &str) -> String {
        self.say(&format!("{command}\r\n")).await;
        loop {
            let line = self.line().await;
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// The codes of the replies to these commands.
    async fn codes(&mut self, commands: &[&str]) -> Vec<String> {
        let mut codes = vec![];
        for command in commands {
            codes.push(self.ask(command).await.chars().take(3).collect());
        }
        codes
    }

    /// The codes of a whole message, sent once the relay has its document.
    async fn message(&mut self) -> Vec<String> {
        self.codes(&["EHLO x", "MAIL FROM:<a@shop.example>", "RCPT TO:<b@example.net>", "DATA", "x\r\n."]).await
    }
}

/// A backend that says this to DATA and that to the final dot, and counts the messages.
async fn backend(data: &'static str, end: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    hasty_backend(data, "", end).await
}

/// A backend that says something else a moment after its answer to DATA, before it reads the content.
async fn hasty_backend(data: &'static str, early: &'static str, end: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, messages) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = messages.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_backend(Peer(BufReader::new(stream)), [data, early, end], counted.clone()));
        }
    });
    (address, messages)
}

async fn serve_backend(mut peer: Peer, [data, early, end]: [&str; 3], messages: Arc<AtomicUsize>) {
    peer.say("220 a.example\r\n").await;
    let mut is_in_content = false;
    loop {
        let mut line = String::new();
        if peer.0.read_line(&mut line).await.is_ok_and(|octets| octets == 0) || line.is_empty() {
            return;
        }
        match line.trim_end() {
            "." if is_in_content => {
                is_in_content = false;
                messages.fetch_add(1, Ordering::Relaxed);
                peer.say(end).await;
            }
            _ if is_in_content => {}
            "DATA" => {
                is_in_content = true;
                peer.say(data).await;
                if !early.is_empty() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    peer.say(early).await;
                }
            }
            _ => peer.say("250 ok\r\n").await,
        }
    }
}

const GO: &str = "354 go\r\n";
const QUEUED: &str = "250 2.0.0 queued\r\n";

/// An application whose MAIL was accepted.
async fn begin(relay: &Relay) -> Peer {
    for _ in 0..100 {
        let (mut peer, _) = Peer::connect(relay).await;
        if peer.codes(&["EHLO x", "MAIL FROM:<a@shop.example>"]).await == ["250", "250"] {
            return peer;
        }
        // The document is not read yet.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no document")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_tls_and_takes_none_gives_its_place_to_others() {
    let (address, _) = backend(GO, QUEUED).await;
    let relay = Relay::start(address, "--certificate-directory FOLDER --max-connections 2").await;
    let mut strangers = vec![];
    for _ in 0..2 {
        let (mut stranger, _) = Peer::connect(&relay).await;
        assert_eq!(stranger.codes(&["EHLO x", "STARTTLS"]).await, ["250", "220"]);
        strangers.push(stranger);
    }
    // The handshake has begun a moment after its 220 was sent.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (_, greeting) = Peer::connect(&relay).await;
    assert!(greeting.starts_with("220 "), "{greeting}");
    assert_eq!(strangers[0].line().await, "", "the older one is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_silent_within_a_message_keeps_no_backend_from_others() {
    let (address, messages) = backend(GO, QUEUED).await;
    let bounds = "--transaction-timeout 20s --stage-timeout 8s --answer-timeout 4s";
    let relay = Relay::start(address, &format!("--backend-connections 1 {bounds}")).await;
    let mut silent = begin(&relay).await;
    let (mut other, _) = Peer::connect(&relay).await;
    assert_eq!(other.message().await, ["250", "250", "250", "354", "250"]);
    // The silent one goes on, and is silent again where the backend waits for content.
    assert_eq!(silent.codes(&["RCPT TO:<b@example.net>", "DATA"]).await, ["250", "354"]);
    let trickle = tokio::spawn(async move {
        for _ in 0..20 {
            silent.say("x").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        silent.ask("\r\n.").await
    });
    assert_eq!(other.message().await[4], "250");
    assert_eq!(messages.load(Ordering::Relaxed), 2);
    assert!(trickle.await.unwrap().starts_with("250 "));
    assert_eq!(messages.load(Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_the_connection_of_a_message_that_has_ended() {
    let (address, messages) = backend(GO, QUEUED).await;
    let relay = Relay::start(address, "--backend-connections 1").await;
    drop(begin(&relay).await);
    let mut applications = vec![];
    for _ in 0..8 {
        let (mut application, _) = Peer::connect(&relay).await;
        applications.push(tokio::spawn(async move { application.message().await.last().cloned() }));
    }
    for application in applications {
        assert_eq!(application.await.unwrap().as_deref(), Some("250"));
    }
    assert_eq!(messages.load(Ordering::Relaxed), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_says_before_the_final_dot_is_no_acceptance() {
    let (address, messages) = backend("354 go\r\n250 2.0.0 accepted\r\n", "554 5.6.0 no\r\n").await;
    let relay = Relay::start(address, "").await;
    let mut application = begin(&relay).await;
    let codes = application.codes(&["RCPT TO:<b@example.net>", "DATA", "x\r\n."]).await;
    assert_eq!(codes, ["250", "354", "451"]);
    assert_eq!(messages.load(Ordering::Relaxed), 0, "it was not given the final dot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_says_while_content_comes_is_a_refusal_or_nothing() {
    // More than the kernel takes while the backend does not read.
    let content = format!("\r\n{}", format!("{}\r\n", "x".repeat(998)).repeat(20_000));
    for (early, told) in [("250 2.0.0 accepted\r\n", "451"), ("552 5.3.4 message too big\r\n", "552")] {
        let (address, messages) = hasty_backend(GO, early, "554 5.6.0 no\r\n").await;
        let relay = Relay::start(address, "").await;
        let mut application = begin(&relay).await;
        assert_eq!(application.codes(&["RCPT TO:<b@example.net>", "DATA"]).await, ["250", "354"]);
        let answer = application.ask(&format!("{content}.")).await;
        assert!(answer.starts_with(told), "{answer}");
        assert!(told != "451" || answer.contains("250 before the end of the content"), "{answer}");
        assert_eq!(messages.load(Ordering::Relaxed), 0, "it was not given the final dot");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_who_is_silent_within_a_message_is_told_so() {
    let (address, _) = backend(GO, QUEUED).await;
    let relay = Relay::start(address, "--drain-timeout 1s").await;
    let mut silent = begin(&relay).await;
    relay.stop.cancel();
    let line = silent.line().await;
    assert!(line.starts_with("421 4.3.2 "), "{line:?}");
    timeout(SOON, relay.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_folder_for_content_that_is_not_there_is_told_at_the_start() {
    let line = "relay run --config-file f --buffer-directory /nowhere/at/all --listen-address 127.0.0.1:0 \
                --health-listen-address 127.0.0.1:0 --smtp-address 127.0.0.1:0";
    let RelayCommand::Run(arguments) = RelayLine::try_parse_from(line.split_whitespace()).unwrap().command;
    let error = serve(&arguments, std::future::pending(), |_| {}).await.unwrap_err().to_string();
    assert!(error.starts_with("--buffer-directory /nowhere/at/all: "), "{error}");
}
