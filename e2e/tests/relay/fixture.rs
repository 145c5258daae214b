//! A relay in this process, its document, and its backends.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_relay::{RelayAddresses, RelayCommand, RunError, serve};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A time limit for anything that comes over loopback.
pub const SOON: Duration = Duration::from_secs(20);
/// Any port of this host.
pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Bounds that are short enough for a matrix, and long enough for a busy machine.
pub const SHORT: [&str; 6] = ["--transaction-timeout", "9s", "--stage-timeout", "2s", "--answer-timeout", "3s"];

#[derive(Debug, Parser)]
struct RelayLine {
    #[command(subcommand)]
    command: RelayCommand,
}

/// A relay that runs until this is dropped.
pub struct Relay {
    pub addresses: RelayAddresses,
    pub folder: TempDir,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

/// A server of this name that takes everything.
pub async fn server(name: &str) -> SmtpServer {
    SmtpServer::start(Options::new(name, ANY)).await.expect("a server")
}

/// The backend of a document, without TLS.
pub fn backend(server: &SmtpServer, percent: u8) -> Value {
    json!({
        "name": server.name(), "percent": percent, "standby": true, "alternate": true,
        "host": server.address().ip().to_string(), "port": server.address().port(), "tls": {"mode": "None"},
    })
}

/// A document with these backends.
pub fn document(transition: i64, backends: &[Value]) -> String {
    let document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1",
        "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition}, "backends": backends,
    });
    document.to_string()
}

impl Relay {
    /// Starts a relay with these backends and further arguments, and waits until it is ready.
    pub async fn start(backends: &[Value], arguments: &[&str]) -> Self {
        Self::with(|_| {}, backends, arguments).await
    }

    /// The same, after its folder was filled. `FOLDER` in arguments stands for the path of the folder.
    pub async fn with(fill: impl FnOnce(&PathBuf), backends: &[Value], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        std::fs::write(path.join("agent.json"), document(1, backends)).expect("a document");
        fill(&path);
        let place = path.display().to_string();
        let fixed = [
            "relay",
            "run",
            "--config-file",
            "FOLDER/agent.json",
            "--state-directory",
            "FOLDER/state",
            "--credentials-directory",
            "FOLDER/credentials",
            "--listen-address",
            "127.0.0.1:0",
            "--health-listen-address",
            "127.0.0.1:0",
            "--smtp-address",
            "127.0.0.1:0",
            "--hostname",
            "relay.example",
            "--allow-destinations",
            "127.0.0.0/8",
        ];
        let line = fixed.iter().chain(arguments).map(|argument| argument.replace("FOLDER", &place));
        let RelayCommand::Run(arguments) = RelayLine::try_parse_from(line).expect("arguments").command;
        let (stop, (started, starting)) = (CancellationToken::new(), oneshot::channel());
        let told = stop.clone();
        let task = tokio::spawn(async move {
            serve(&arguments, told.cancelled_owned(), |addresses| drop(started.send(addresses))).await
        });
        let addresses = timeout(SOON, starting).await.expect("in time").expect("it starts");
        let relay = Self { addresses, folder, stop, task };
        relay.until_ready().await;
        relay
    }

    /// The address of SMTP.
    pub fn address(&self) -> SocketAddr {
        self.addresses.smtp[0]
    }

    /// Puts another document in force.
    pub fn follow(&self, text: &str) {
        std::fs::write(self.folder.path().join("agent.json"), text).expect("a document");
    }

    /// The text of this path over HTTP.
    pub async fn get(&self, address: SocketAddr, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    /// The value of a metric with its labels, 0 if there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get(self.addresses.metrics, "/metrics").await;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    async fn until_ready(&self) {
        for _ in 0..400 {
            if self.get(self.addresses.health, "/readyz").await.starts_with("HTTP/1.1 200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}", self.get(self.addresses.health, "/readyz").await);
    }

    /// Tells it to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for its end.
    pub async fn ended(self) {
        timeout(SOON, self.task).await.expect("in time").expect("no panic").expect("in order");
    }
}
