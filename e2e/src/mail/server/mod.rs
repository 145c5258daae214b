//! An SMTP server that fails on demand, in the role of providers and relays.
//!
//! The dialogue is a real one (RFC 5321 with PIPELINING, 8BITMIME, SIZE, ENHANCEDSTATUSCODES,
//! STARTTLS and AUTH). The server records what it stores, so that a test can tell delivered,
//! duplicated and lost mail apart. It delivers nothing, and connects to nothing but, for
//! [`Fault::Blackhole`], itself.

mod command;
mod faults;
mod listening;
mod login;
mod received;
mod session;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use faults::{Action, Ending, Extension, Fault, SessionStage};
pub use login::Logins;
pub use received::{Counters, MAX_KEPT_CONTENT, MAX_MESSAGES, Received};

use self::faults::Listening;
use self::listening::Port;
use self::received::Ledger;
use self::session::Session;
use super::certificates::Identity;
use super::record::Record;
use super::{Context, Error, Result, lock};

/// The number of tries with another port if the one that was free at the first address is taken at
/// the next.
const PORT_ATTEMPTS: usize = 16;

/// Settings of a server.
#[derive(Clone)]
pub struct Options {
    /// The name that it uses in its banner and when it accepts a message.
    pub name: String,
    /// The addresses at which it listens. Port 0 means any port, the same at all addresses.
    pub addresses: Vec<SocketAddr>,
    /// The certificate; without one there is no TLS.
    pub tls: Option<Identity>,
    /// TLS from the first byte (RFC 8314) instead of STARTTLS.
    pub implicit_tls: bool,
    /// The clients that may send.
    pub logins: Logins,
    /// The size in bytes above which messages are refused (552).
    pub max_message_size: usize,
    /// The time limit for a client's next input.
    pub idle_timeout: Duration,
    /// The number of sessions beyond which connections are turned away (reset).
    pub max_sessions: usize,
    /// The file that each stored message is recorded in before the client learns of it.
    pub record: Option<PathBuf>,
}

impl Options {
    /// A server without TLS that lets everybody send.
    pub fn new(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            addresses: vec![address],
            tls: None,
            implicit_tls: false,
            logins: Logins::None,
            max_message_size: 10 * 1024 * 1024,
            idle_timeout: Duration::from_mins(1),
            max_sessions: 4096,
            record: None,
        }
    }

    /// Adds another address.
    #[must_use]
    pub fn and_address(mut self, address: SocketAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Adds STARTTLS.
    #[must_use]
    pub fn start_tls(mut self, identity: Identity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Adds implicit TLS.
    #[must_use]
    pub fn implicit_tls(mut self, identity: Identity) -> Self {
        self.tls = Some(identity);
        self.implicit_tls = true;
        self
    }

    /// Restricts sending to these logins.
    #[must_use]
    pub fn logins(mut self, logins: Logins) -> Self {
        self.logins = logins;
        self
    }
}

/// The state that all sessions of a server share.
struct ServerState {
    name: String,
    implicit_tls: bool,
    logins: Mutex<Logins>,
    max_message_size: usize,
    idle_timeout: Duration,
    fault: watch::Sender<Fault>,
    /// The time at which the current fault first affected a connected client.
    first_struck: Mutex<Option<Instant>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    ledger: Ledger,
    connections: AtomicU64,
    /// The number of the last connection whose session ends where its next message would begin.
    retired: AtomicU64,
    sessions: Arc<Semaphore>,
    /// Cancelled, and replaced, to cut the present sessions.
    cut: Mutex<CancellationToken>,
}

/// A running server. It stops soon after being dropped.
pub struct SmtpServer {
    shared: Arc<ServerState>,
    addresses: Vec<SocketAddr>,
    /// The state of the listeners; `None` if the last change failed halfway.
    ports: tokio::sync::Mutex<(Option<Listening>, Vec<Port>)>,
}

impl SmtpServer {
    /// Starts a server, which listens when this returns.
    pub async fn start(options: Options) -> Result<Self> {
        let Options {
            name,
            addresses,
            tls,
            implicit_tls,
            logins,
            max_message_size,
            idle_timeout,
            max_sessions,
            record,
        } = options;
        let tls = tls.map(|identity| identity.server_config()).transpose()?;
        let ports = reserve(&addresses)?;
        let shared = Arc::new(ServerState {
            name,
            implicit_tls,
            logins: Mutex::new(logins),
            max_message_size,
            idle_timeout,
            fault: watch::Sender::new(Fault::None),
            first_struck: Mutex::default(),
            tls: watch::Sender::new(tls),
            ledger: Ledger::new(record.as_deref().map(Record::open).transpose()?),
            connections: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            sessions: Arc::new(Semaphore::new(max_sessions)),
            cut: Mutex::new(CancellationToken::new()),
        });
        let addresses = ports.iter().map(Port::address).collect();
        let server = Self { shared, addresses, ports: tokio::sync::Mutex::new((None, ports)) };
        server.listen(Listening::Open).await?;
        Ok(server)
    }

    /// The name that it uses in its banner.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The first address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Breaks or repairs ([`Fault::None`]) the server. The fault is in force when this returns: for
    /// new connections, and for established sessions from their next stage on. A session that a
    /// fault made hang still hangs after the repair.
    pub async fn set_fault(&self, fault: Fault) -> Result<()> {
        let listening = fault.listening();
        *lock(&self.shared.first_struck) = None;
        self.shared.fault.send_replace(fault);
        self.listen(listening).await
    }

    /// The fault in force.
    pub fn fault(&self) -> Fault {
        self.shared.fault.borrow().clone()
    }

    /// The time at which the current fault first affected a connected client. A refused connection
    /// is the kernel's doing and is not seen.
    pub fn first_struck(&self) -> Option<Instant> {
        *lock(&self.shared.first_struck)
    }

    /// Resets every established session.
    pub fn cut_sessions(&self) {
        std::mem::take(&mut *lock(&self.shared.cut)).cancel();
    }

    /// Resets every established session where its next message would begin. A client that keeps
    /// connections for reuse meets this once a server is gone, without a message in progress whose
    /// fate is unknown.
    pub fn retire_sessions(&self) {
        self.shared.retired.store(self.shared.connections.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Acts as a crash of the process does: connections are refused, and established sessions
    /// reset.
    pub async fn crash(&self) -> Result<()> {
        let refused = self.set_fault(Fault::Refuse).await;
        self.cut_sessions();
        refused
    }

    /// Stops the server. Its addresses are free again when this returns.
    pub async fn stop(self) {
        for port in &mut self.ports.lock().await.1 {
            port.stop().await;
        }
    }

    /// Removes the fault.
    pub async fn repair(&self) -> Result<()> {
        self.set_fault(Fault::None).await
    }

    /// Changes the clients that may send, from the next command on, like a password that was
    /// changed at the provider.
    pub fn set_logins(&self, logins: Logins) {
        *lock(&self.shared.logins) = logins;
    }

    /// Changes the certificate, from the next handshake on: expired, for another name, of another
    /// authority.
    pub fn set_certificate(&self, identity: &Identity) -> Result<()> {
        self.shared.tls.send_replace(Some(identity.server_config()?));
        Ok(())
    }

    /// Every stored message, in the order of storage.
    pub fn received(&self) -> Vec<Received> {
        self.shared.ledger.received()
    }

    /// The number of copies stored of each id.
    pub fn received_by_id(&self) -> HashMap<String, usize> {
        self.shared.ledger.received_by_id()
    }

    /// The number of stored messages.
    pub fn received_count(&self) -> usize {
        *self.shared.ledger.stored().borrow()
    }

    /// Waits until `count` messages are stored.
    pub async fn wait_for_received(&self, count: usize, within: Duration) -> Result<()> {
        let mut stored = self.shared.ledger.stored();
        let waited = timeout(within, stored.wait_for(|stored| *stored >= count)).await;
        if matches!(waited, Ok(Ok(_))) {
            return Ok(());
        }
        let seen = format!("{} stored", self.received_count());
        Err(Error::Timeout { what: format!("{count} messages stored by {}", self.name()), within, seen })
    }

    /// Forgets every stored message; counters stay.
    pub fn forget_received(&self) {
        self.shared.ledger.forget();
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        self.shared.ledger.counters()
    }

    async fn listen(&self, listening: Listening) -> Result<()> {
        let mut ports = self.ports.lock().await;
        let (current, ports) = &mut *ports;
        if *current == Some(listening) {
            return Ok(());
        }
        *current = None;
        for port in ports {
            let shared = self.shared.clone();
            let set = port.set(listening, move |stream, peer| accepted(&shared, stream, peer)).await;
            set.context(|| format!("listening on {}", port.address()))?;
        }
        *current = Some(listening);
        Ok(())
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.cut_sessions();
    }
}

fn accepted(shared: &Arc<ServerState>, stream: TcpStream, peer: SocketAddr) {
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let Ok(permit) = shared.sessions.clone().try_acquire_owned() else {
        shared.ledger.count(|counters| {
            counters.connections += 1;
            counters.turned_away += 1;
        });
        let _ = stream.set_zero_linger();
        return;
    };
    shared.ledger.count(|counters| {
        counters.connections += 1;
        counters.open += 1;
        counters.most_open = counters.most_open.max(counters.open);
    });
    let cut = lock(&shared.cut).clone();
    let open = Open { shared: shared.clone(), _permit: permit };
    let mut session = Session::new(shared.clone(), stream, peer, connection);
    tokio::spawn(async move {
        let _open = open;
        let run = cut.run_until_cancelled(session.run()).await;
        if run.is_none() {
            session.reset();
        }
    });
}

/// A session that is counted as open until this is dropped.
struct Open {
    shared: Arc<ServerState>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.ledger.count(|counters| counters.open -= 1);
    }
}

/// Reserves all addresses, with one port for those with port 0.
fn reserve(addresses: &[SocketAddr]) -> Result<Vec<Port>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut ports: Vec<Port> = vec![];
        let mut failed = None;
        for address in addresses {
            let mut address = *address;
            if address.port() == 0 {
                address.set_port(ports.first().map_or(0, |first| first.address().port()));
            }
            match Port::reserve(address) {
                Ok(port) => ports.push(port),
                Err(error) => {
                    failed = Some((address, error));
                    break;
                }
            }
        }
        let Some((address, error)) = failed else { return Ok(ports) };
        if attempt == PORT_ATTEMPTS || addresses.iter().all(|address| address.port() != 0) {
            return Err(error).context(|| format!("binding {address}"));
        }
    }
}
