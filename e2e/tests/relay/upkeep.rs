//! What is changed while mail flows: logins are rotated, certificates renewed, a provider breaks, and relays are killed,
//! ended and started again.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::sender::{Outcome, Sender, SenderOptions, Step, fixed};
use mail_failover_e2e::mail::server::{Fault, Logins, Options, SmtpServer};
use mail_failover_e2e::operator;
use mail_failover_e2e::process::Process;
use rustix::process::Signal;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::client::send;
use super::fixture::{ANY, SHORT, SOON, backend, document};

/// Messages that are accepted between two changes, at least.
const MEANWHILE: (usize, usize) = (40, 400);
/// Time for anything that is followed within seconds.
const FOLLOWED: Duration = Duration::from_mins(1);

/// A relay in a process of its own.
struct RelayProcess {
    smtp: SocketAddr,
    smtps: SocketAddr,
    folder: TempDir,
    process: Option<Process>,
}

async fn free_address() -> SocketAddr {
    TcpListener::bind(ANY).await.expect("a port").local_addr().expect("its address")
}

impl RelayProcess {
    async fn start(document: &str, authority: &Authority) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("agent.json"), document).expect("a document");
        for part in ["credentials/login", "tls"] {
            std::fs::create_dir_all(folder.path().join(part)).expect("a folder");
        }
        let mut relay = Self { smtp: free_address().await, smtps: free_address().await, folder, process: None };
        relay.write_login("one");
        relay.write_certificate(authority);
        relay.run().await;
        relay
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write_login(&self, user: &str) {
        replace(&self.path("credentials/login/username"), user);
        replace(&self.path("credentials/login/password"), "hunter2");
    }

    fn write_certificate(&self, authority: &Authority) {
        let (certificate, key) = authority.issue_pem(&["localhost"]).expect("a certificate");
        replace(&self.path("tls/tls.crt"), &certificate);
        replace(&self.path("tls/tls.key"), &key);
    }

    /// Starts the process, and waits until it takes mail.
    async fn run(&mut self) {
        let mut command = Command::new(operator::program().expect("the program"));
        command.args(["relay", "run", "--listen-address", "127.0.0.1:0", "--health-listen-address", "127.0.0.1:0"]);
        command.args(["--hostname", "relay.example", "--allow-destinations", "127.0.0.0/8"]).args(SHORT);
        command.args(["--smtp-address", &self.smtp.to_string(), "--smtps-address", &self.smtps.to_string()]);
        for (flag, name) in [
            ("--config-file", "agent.json"),
            ("--credentials-directory", "credentials"),
            ("--certificate-directory", "tls"),
            ("--state-directory", "state"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        self.process = Some(Process::start("a relay", &mut command, &self.path("relay.log")).expect("it starts"));
        let until = Instant::now() + FOLLOWED;
        while TcpStream::connect(self.smtp).await.is_err() || !send(self.smtp, "first").await.starts_with("250") {
            assert!(Instant::now() < until, "it takes mail");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The certificate that it serves.
    async fn served(&self, config: &Arc<ClientConfig>) -> Option<CertificateDer<'static>> {
        let stream = TcpStream::connect(self.smtps).await.ok()?;
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(config.clone()).connect(name, stream).await.ok()?;
        tls.get_ref().1.peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
    }
}

/// Replaces a file as a whole, as the kubelet does.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(new, file).expect("renamed");
}

async fn provider(name: &str, authority: &Authority) -> SmtpServer {
    let identity = authority.issue(&["localhost"], Validity::Valid).expect("a certificate");
    // The provider knows both logins while one replaces the other.
    let logins = ["one", "two"].map(|user| (user.to_owned(), "hunter2".to_owned()));
    let options = Options::new(name, ANY).start_tls(identity).logins(Logins::Only(logins.to_vec()));
    SmtpServer::start(options).await.expect("a server")
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + FOLLOWED;
    while !is_so().await {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until further messages are accepted.
async fn further(sender: &Sender) {
    let enough = sender.totals().accepted + exhaustive(MEANWHILE.0, MEANWHILE.1);
    sender.wait_for("further messages", FOLLOWED * 2, |totals| totals.accepted >= enough).await.expect("they are");
}

/// The user by whom a provider got the latest message.
fn last_user(server: &SmtpServer) -> Option<String> {
    server.received().last().and_then(|message| message.user.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upkeep_under_load_refuses_no_message_and_a_killed_relay_loses_none() {
    operator::build().expect("the program");
    let authority = Authority::new().expect("an authority");
    let config = authority.client_config().expect("a configuration");
    let (first, second) = (provider("first", &authority).await, provider("second", &authority).await);
    let backends = [(&first, 100), (&second, 0)].map(|(server, percent)| {
        let mut backend = backend(server, percent);
        backend["tls"] = json!({"mode": "StartTLS", "serverName": "localhost", "ca": authority.pem()});
        backend["secret"] = json!("login");
        backend
    });
    let document = document(1, &backends);
    let mut relays =
        [RelayProcess::start(&document, &authority).await, RelayProcess::start(&document, &authority).await];
    let mut options =
        SenderOptions::new(Duration::from_millis(40), fixed(relays.each_ref().map(|relay| relay.smtp).to_vec()));
    // Longer than the relay's own bound.
    options.attempt_timeout = SOON;
    options.connect_timeout = Duration::from_secs(5);
    let sender = Sender::start(options.start_tls(config.clone(), "localhost").expect("TLS"));
    further(&sender).await;
    assert_eq!(last_user(&first).as_deref(), Some("one"));

    // None of this is seen by the application.
    let before = [relays[0].served(&config).await, relays[1].served(&config).await];
    assert!(before.iter().all(Option::is_some));
    for relay in &relays {
        relay.write_login("two");
        relay.write_certificate(&authority);
    }
    until("the login is followed", async || last_user(&first).as_deref() == Some("two")).await;
    for (relay, before) in relays.iter().zip(&before) {
        until("the certificate is followed", async || {
            let served = relay.served(&config).await;
            served.is_some() && served != *before
        })
        .await;
    }
    first.set_fault(Fault::Refuse).await.expect("the fault");
    first.cut_sessions();
    further(&sender).await;
    first.repair().await.expect("repaired");
    further(&sender).await;
    let totals = sender.totals();
    assert_eq!(totals.failed_attempts, 0, "{totals:?}");

    // A relay that is killed takes what it was carrying along, and the application sends that again.
    relays[0].process.take().expect("a process").kill();
    further(&sender).await;
    relays[0].run().await;
    further(&sender).await;
    // One that is told to end finishes what it carries.
    let ending = relays[1].process.take().expect("a process");
    let at = Instant::now();
    ending.signal(Signal::TERM).expect("told");
    let status = ending.wait(FOLLOWED).await.expect("it ends");
    assert!(status.success(), "{status}");
    further(&sender).await;
    relays[1].run().await;
    further(&sender).await;

    let journal = sender.stop(FOLLOWED).await;
    let delivery = journal.delivery(&[&first, &second]);
    assert!(delivery.vanished.is_empty() && delivery.lost == 0, "{delivery:?}");
    let is_unknown = |outcome: &Outcome| {
        matches!(outcome, Outcome::Broken { step: Step::EndOfData, .. } | Outcome::Unanswered { step: Step::EndOfData })
    };
    let unknown: Vec<_> = journal.attempts().filter(|attempt| is_unknown(&attempt.outcome)).collect();
    assert!(delivery.extra_copies <= unknown.len(), "{delivery:?}, {} without an answer", unknown.len());
    // Those are the killed one's: the other one has answered every message that it had.
    assert!(unknown.iter().all(|attempt| attempt.finished < at), "{unknown:?}");
}
