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
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
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
    metrics: SocketAddr,
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
        Self::with(&[backend], arguments).await
    }

    /// A relay with these backends, `a` and the others in their order, and with these arguments.
    async fn with(backends: &[SocketAddr], arguments: &str) -> Self {
        let backends = backends.iter().zip(["a", "b"]).map(|(backend, name)| {
            json!({
                "name": name, "percent": if name == "a" { 100 } else { 0 }, "standby": true, "alternate": true,
                "host": backend.ip().to_string(), "port": backend.port(), "tls": {"mode": "None"},
            })
        });
        let folder = tempfile::tempdir().unwrap();
        let document = json!({
            "apiVersion": "agent.mailfailover.io/v1alpha1",
            "route": {"namespace": "shop", "name": "orders", "uid": "u"}, "decision": {"transition": 1},
            "backends": backends.collect::<Vec<_>>(),
        });
        std::fs::write(folder.path().join("agent.json"), document.to_string()).unwrap();
        write_certificate(folder.path());
        let line = format!(
            "relay run --config-file FOLDER/agent.json --state-directory FOLDER/state --credentials-directory FOLDER \
             --listen-address 127.0.0.1:0 --health-listen-address 127.0.0.1:0 --smtp-address 127.0.0.1:0 \
             --hostname relay.example {arguments}"
        );
        // Backends are on this host.
        let is_told = line.contains("--allow-destinations");
        let line = if is_told { line } else { format!("{line} --allow-destinations 127.0.0.0/8") };
        let line = line.replace("FOLDER", &folder.path().display().to_string());
        let RelayCommand::Run(arguments) = RelayLine::try_parse_from(line.split_whitespace()).unwrap().command;
        let (stop, (started, starting)) = (CancellationToken::new(), oneshot::channel());
        let told = stop.clone();
        let task = tokio::spawn(async move {
            serve(&arguments, told.cancelled_owned(), |addresses| drop(started.send(addresses))).await
        });
        let addresses = timeout(SOON, starting).await.unwrap().unwrap();
        Self { smtp: addresses.smtp[0], metrics: addresses.metrics, stop, task, _folder: folder }
    }

    /// The value of a metric with its labels, 0 if there is none.
    async fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// What is heard of a session that is sent at once, with the end of the side behind it.
    async fn half_closed(&self, session: &str) -> String {
        let mut stream = TcpStream::connect(self.smtp).await.unwrap();
        stream.write_all(session.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = String::new();
        timeout(SOON, stream.read_to_string(&mut heard)).await.expect("in time").unwrap();
        heard
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

/// What a backend says. It is silent where the text is empty.
#[derive(Clone, Copy, Debug)]
struct Script {
    mail: &'static str,
    data: &'static str,
    /// What it says a moment after its answer to DATA, before it reads the content.
    early: &'static str,
    /// Time that it takes for the message.
    works: Duration,
    end: &'static str,
}

const SOUND: Script = Script { mail: "250 ok\r\n", data: GO, early: "", works: Duration::ZERO, end: QUEUED };

/// A backend that says this to DATA and that to the final dot, and counts the messages.
async fn backend(data: &'static str, end: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    scripted(Script { data, end, ..SOUND }).await
}

async fn scripted(script: Script) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, messages) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = messages.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_backend(Peer(BufReader::new(stream)), script, counted.clone()));
        }
    });
    (address, messages)
}

async fn serve_backend(mut peer: Peer, script: Script, messages: Arc<AtomicUsize>) {
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
                tokio::time::sleep(script.works).await;
                peer.say(script.end).await;
            }
            _ if is_in_content => {}
            "DATA" => {
                is_in_content = true;
                peer.say(script.data).await;
                if !script.early.is_empty() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    peer.say(script.early).await;
                }
            }
            line if line.starts_with("MAIL") => peer.say(script.mail).await,
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
        let (address, messages) = scripted(Script { early, end: "554 5.6.0 no\r\n", ..SOUND }).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_leads_to_where_nothing_is_connected_to_is_left_for_the_next_one() {
    let guarded = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
    let (sound, messages) = backend(GO, QUEUED).await;
    let relay = Relay::with(&[guarded.local_addr().unwrap(), sound], "--allow-destinations 127.0.0.1").await;
    let mut application = begin(&relay).await;
    assert_eq!(application.codes(&["RCPT TO:<b@example.net>", "DATA", "x\r\n."]).await, ["250", "354", "250"]);
    assert_eq!(messages.load(Ordering::Relaxed), 1);
    assert!(relay.metric("mail_failover_relay_backend_connects_total{backend=\"a\",result=\"refused\"}").await > 0.5);
    let connected = timeout(Duration::from_millis(100), guarded.accept()).await;
    assert!(connected.is_err(), "nobody has connected to it");
}

#[tokio::test]
async fn a_folder_for_content_that_is_not_there_is_told_at_the_start() {
    let line = "relay run --config-file f --buffer-directory /nowhere/at/all --listen-address 127.0.0.1:0 \
                --health-listen-address 127.0.0.1:0 --smtp-address 127.0.0.1:0";
    let RelayCommand::Run(arguments) = RelayLine::try_parse_from(line.split_whitespace()).unwrap().command;
    let error = serve(&arguments, std::future::pending(), |_| {}).await.unwrap_err().to_string();
    assert!(error.starts_with("--buffer-directory /nowhere/at/all: "), "{error}");
}

/// A whole message up to the final dot, sent at once.
const WHOLE: &str =
    "EHLO x\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_its_side_with_its_last_octets_hears_all_answers() {
    let (address, messages) = scripted(Script { works: Duration::from_millis(1500), ..SOUND }).await;
    let relay = Relay::start(address, "").await;
    drop(begin(&relay).await);
    for (number, (rest, last)) in [("QUIT\r\n", "221 "), ("", QUEUED), ("MAIL FROM:<", QUEUED)].into_iter().enumerate()
    {
        let heard = relay.half_closed(&format!("{WHOLE}{rest}")).await;
        assert!(heard.contains(QUEUED), "{heard}");
        assert!(heard.lines().last().is_some_and(|line| line.starts_with(last.trim_end())), "{heard}");
        assert_eq!(messages.load(Ordering::Relaxed), number + 1);
    }
    // What takes long lets it wait, too.
    let (silent, _) = scripted(Script { data: "", ..SOUND }).await;
    let bounds = "--transaction-timeout 12s --stage-timeout 3s --answer-timeout 4s";
    let relay = Relay::with(&[silent, address], bounds).await;
    drop(begin(&relay).await);
    let heard = relay.half_closed(WHOLE).await;
    assert!(heard.contains(QUEUED), "{heard}");
    assert_eq!(messages.load(Ordering::Relaxed), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_its_side_within_a_message_has_sent_none() {
    let (address, messages) = backend(GO, QUEUED).await;
    let relay = Relay::start(address, "").await;
    drop(begin(&relay).await);
    let aborted = relay.metric("mail_failover_relay_transactions_aborted_total").await;
    let begun = WHOLE.strip_suffix("x\r\n.\r\n").unwrap();
    for rest in ["x", "x\r\n", "x\r\n.", "x\r\n.\r"] {
        let heard = relay.half_closed(&format!("{begun}{rest}")).await;
        assert!(heard.lines().last().is_some_and(|line| line.starts_with("354 ")), "{heard}");
    }
    let chunked = begun.replace("DATA\r\nSubject: x\r\n\r\n", "BDAT 20 LAST\r\nSubject: x\r\n\r\n");
    let heard = relay.half_closed(&chunked).await;
    assert!(heard.lines().last().is_some_and(|line| line.starts_with("250 ")), "{heard}");
    assert_eq!(messages.load(Ordering::Relaxed), 0);
    assert!(relay.metric("mail_failover_relay_transactions_aborted_total").await - aborted > 4.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_patience_takes_its_message_along() {
    let (silent, _) = scripted(Script { data: "", ..SOUND }).await;
    let (address, messages) = backend(GO, QUEUED).await;
    let bounds = "--transaction-timeout 20s --stage-timeout 6s --answer-timeout 6s";
    let relay = Relay::with(&[silent, address], bounds).await;
    drop(begin(&relay).await);
    let aborted = relay.metric("mail_failover_relay_transactions_aborted_total").await;
    let mut stream = TcpStream::connect(relay.smtp).await.unwrap();
    stream.write_all(WHOLE.as_bytes()).await.unwrap();
    // Long after its last octets, and before the second backend's turn.
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(stream);
    let until = tokio::time::Instant::now() + SOON;
    while relay.metric("mail_failover_relay_transactions_aborted_total").await - aborted < 0.5 {
        assert!(tokio::time::Instant::now() < until, "the transaction ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(messages.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_leads_back_to_a_relay_of_the_route_is_none() {
    let (sound, messages) = backend(GO, QUEUED).await;
    let reserved = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let own = reserved.local_addr().unwrap();
    drop(reserved);
    let port = format!("--smtp-address {own}");
    // The other relay is a replica: it has the same route, and would carry the message.
    let replica = Relay::start(sound, "").await;
    for (address, arguments) in [(own, port.as_str()), (replica.smtp, "")] {
        let relay = Relay::with(&[address, sound], arguments).await;
        drop(begin(&relay).await);
        let before = messages.load(Ordering::Relaxed);
        let (mut application, _) = Peer::connect(&relay).await;
        assert_eq!(application.message().await, ["250", "250", "250", "354", "250"]);
        assert_eq!(messages.load(Ordering::Relaxed), before + 1);
        assert!(relay.metric("mail_failover_relay_backend_loops_total{backend=\"a\"}").await > 0.5);
        assert!(relay.metric("mail_failover_relay_breaker_open{backend=\"a\"}").await < 0.5);
        // Nobody else is there to take it.
        relay.stop.cancel();
        timeout(SOON, relay.task).await.unwrap().unwrap().unwrap();
        let relay = Relay::start(address, arguments).await;
        let mut told = String::new();
        while !told.starts_with("451 4.4.1 ") {
            let (mut application, _) = Peer::connect(&relay).await;
            application.ask("EHLO x").await;
            told = application.ask("MAIL FROM:<a@shop.example>").await;
            assert!(told.starts_with("451 "), "{told}");
        }
        assert!(told.contains("(a: EHLO: ") && told.contains(" is a relay of this route; "), "{told}");
    }
    assert!(replica.metric("mail_failover_relay_transactions_total{code=\"250\"}").await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_owes_final_answers_gets_no_further_message_while_they_are_waited_for() {
    let (silent, taken) = scripted(Script { end: "", ..SOUND }).await;
    let (sound, messages) = backend(GO, QUEUED).await;
    let bounds = "--transaction-timeout 18s --stage-timeout 2s --answer-timeout 3s";
    let relay = Relay::with(&[silent, sound], bounds).await;
    drop(begin(&relay).await);
    let mut waiting = vec![];
    for _ in 0..2 {
        let (mut application, _) = Peer::connect(&relay).await;
        waiting.push(tokio::spawn(async move { application.message().await.pop() }));
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(15);
    while relay.metric("mail_failover_relay_breaker_open{backend=\"a\"}").await < 0.5 {
        assert!(tokio::time::Instant::now() < until, "the breaker opens");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut application, _) = Peer::connect(&relay).await;
    assert_eq!(application.message().await, ["250", "250", "250", "354", "250"]);
    assert_eq!((taken.load(Ordering::Relaxed), messages.load(Ordering::Relaxed)), (2, 1));
    // They had all their time, and were told of the doubt.
    assert!(waiting.iter().all(|task| !task.is_finished()));
    for task in waiting {
        assert_eq!(task.await.unwrap().as_deref(), Some("451"));
    }
    assert!(relay.metric("mail_failover_relay_backend_stalls_total{backend=\"a\"}").await > 0.5);
    assert_eq!(messages.load(Ordering::Relaxed), 1, "no second copy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_silent_backend_goes_on_when_its_breaker_opens() {
    let (silent, _) = scripted(Script { mail: "", ..SOUND }).await;
    let (sound, messages) = backend(GO, QUEUED).await;
    let bounds = "--transaction-timeout 40s --stage-timeout 8s --answer-timeout 8s --backend-connections 2";
    let relay = Relay::with(&[silent, sound], bounds).await;
    // Once it has its document, it says something else than 451 at once.
    let until = tokio::time::Instant::now() + SOON;
    while relay.metric("mail_failover_relay_backend_connects_total{backend=\"a\",result=\"connected\"}").await < 0.5 {
        assert!(tokio::time::Instant::now() < until, "the scout has been there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut applications = vec![];
    for number in 0..6_u64 {
        let (mut application, _) = Peer::connect(&relay).await;
        applications.push(tokio::spawn(async move {
            // The last ones begin in the middle of the first ones' wait, and their own would end much later.
            tokio::time::sleep(Duration::from_secs(number)).await;
            application.message().await
        }));
    }
    for application in applications {
        assert_eq!(application.await.unwrap(), ["250", "250", "250", "354", "250"]);
    }
    assert_eq!(messages.load(Ordering::Relaxed), 6);
    // The breaker opens after 9 s, when two have waited for 8 s. By themselves the last ones would have got no place.
    assert!(relay.metric("mail_failover_relay_backend_waits_total{backend=\"a\"}").await > 0.5);
    assert!(relay.metric("mail_failover_relay_backend_full_total{backend=\"a\"}").await < 0.5);
}
