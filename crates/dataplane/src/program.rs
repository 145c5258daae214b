//! The parts that every program on the document has, in the order in which they start: HTTP, the state that survives a
//! restart, and reports.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::process::hostname;
use mail_failover_runtime::tasks::Tasks;
use mail_failover_runtime::telemetry::{
    self, HealthServer, HealthState, Heartbeat, ListenError, Readiness, TelemetryServer,
};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::core::CoreMemory;
use super::credentials::Credentials;
use super::reporter::{self, Reporter, ReporterMetrics};
use super::source::DocumentSource;
use super::state_writer::{Records, StateMetrics, StateWriter, restore};
use super::store::{FolderInUse, FolderLock, StateRecord, StateStore};

/// Age of the last heartbeat at which the loop counts as stuck. It turns every second at least.
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(15);

/// Pauses between attempts to listen at an address that was taken.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Names of the tasks that end last.
pub const LAST_TASKS: [&str; 3] = [STATE_WRITER, HTTP_SERVER, HEALTH_SERVER];
const STATE_WRITER: &str = "the writer of the state";
const HTTP_SERVER: &str = "the HTTP server";
const HEALTH_SERVER: &str = "the health server";

/// Settings of the common parts.
#[derive(Clone, Debug)]
pub struct ProgramSettings {
    /// Prefix of the program's metrics.
    pub prefix: &'static str,
    /// Folder with a folder for each Secret of a login.
    pub credentials_directory: PathBuf,
    /// Folder of the state that survives a restart.
    pub state_directory: PathBuf,
    /// Address that serves metrics.
    pub listen_address: SocketAddr,
    /// Address that serves liveness and readiness.
    pub health_listen_address: SocketAddr,
    /// Name in reports; that of the host if absent.
    pub name: Option<String>,
    /// File with the token for reports. Without one nothing is reported.
    pub token_file: Option<PathBuf>,
    /// True if two accounts at one host and port are told apart.
    pub tells_accounts_apart: bool,
}

/// Server that can listen at an address.
trait Listens: Sized {
    /// Listens for the first time after the metrics of the process were registered.
    fn listen(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send;
}

// The registry of the process is served by then and takes nothing more: their connections are not counted.
impl Listens for TelemetryServer {
    async fn listen(address: SocketAddr) -> io::Result<Self> {
        Self::bind(address, &mut Registry::default()).await
    }
}

impl Listens for HealthServer {
    async fn listen(address: SocketAddr) -> io::Result<Self> {
        Self::bind(address, &mut Registry::default()).await
    }
}

/// Server at an address, which may be taken at the start. Mail does not wait for it: any user of a machine can take a
/// port before a restart, and a program that ended for that would stop all mail.
#[derive(Debug)]
struct LateServer<S> {
    /// Name of the server for people.
    what: &'static str,
    address: SocketAddr,
    server: Option<S>,
}

impl<S> LateServer<S> {
    /// Takes a server that listens, or notes and tells why it does not yet.
    fn of(
        what: &'static str,
        flag: &'static str,
        address: SocketAddr,
        bound: io::Result<S>,
        readiness: &Readiness,
    ) -> Self {
        let server = match bound.map_err(ListenError::of(address, flag)) {
            Ok(server) => Some(server),
            Err(error) => {
                tracing::warn!(%error, "{what} cannot be served; mail goes on, and it is tried again");
                readiness.remark(what, Some(error.to_string()));
                None
            }
        };
        Self { what, address, server }
    }

    /// Waits until it listens. `None` at the `end`.
    async fn listening(self, readiness: &Readiness, end: &CancellationToken) -> Option<S>
    where
        S: Listens,
    {
        let Self { what, address, server } = self;
        if server.is_some() {
            return server;
        }
        let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        loop {
            tokio::select! {
                () = end.cancelled() => return None,
                () = tokio::time::sleep(backoff.after_failure()) => {}
            }
            if let Ok(server) = S::listen(address).await {
                tracing::info!(%address, "{what} is served");
                readiness.remark(what, None);
                return Some(server);
            }
        }
    }
}

/// Servers and tasks of a program that has begun and does not serve yet.
#[derive(Debug)]
pub struct Program {
    /// Metrics of the program.
    pub registry: Registry,
    /// Clock of the program.
    pub clock: Clock,
    /// Logins at backends.
    pub credentials: Credentials,
    /// Heartbeat of the driver's loop.
    pub heartbeat: Heartbeat,
    /// Readiness of the program.
    pub readiness: Readiness,
    /// Reporter to the operator.
    pub reporter: Reporter,
    /// Writer of the state.
    pub state_writer: StateWriter,
    http: LateServer<TelemetryServer>,
    health: LateServer<HealthServer>,
    store: StateStore,
    lock: Option<FolderLock>,
    saved: Records,
    writing: JoinHandle<()>,
    reporting: JoinHandle<()>,
}

impl Program {
    /// Binds HTTP, restores the state, and begins to write it and to report, until `end`. An address that is taken is tried
    /// again later.
    ///
    /// # Errors
    /// When another process keeps its state in the folder.
    pub async fn begin(settings: ProgramSettings, end: &CancellationToken) -> Result<Self, FolderInUse> {
        let ProgramSettings {
            prefix,
            credentials_directory,
            state_directory,
            listen_address,
            health_listen_address,
            name,
            token_file,
            tells_accounts_apart,
        } = settings;
        let (mut registry, clock) = (telemetry::registry(), Clock::system());
        let credentials = Credentials::new(credentials_directory, registry.sub_registry_with_prefix(prefix));
        let store = StateStore::new(state_directory);
        let lock = store.lock()?;
        let readiness = Readiness::default();
        let http = TelemetryServer::bind(listen_address, &mut registry).await;
        let http = LateServer::of("metrics", "--listen-address", listen_address, http, &readiness);
        let health = HealthServer::bind(health_listen_address, &mut registry).await;
        let health = LateServer::of("health", "--health-listen-address", health_listen_address, health, &readiness);

        let state_metrics = StateMetrics::new(registry.sub_registry_with_prefix(prefix));
        let saved = restore(&store, &state_metrics);
        let (state_writer, writing) = StateWriter::start(store.clone(), saved.clone(), state_metrics, end.clone());
        let agent = name.unwrap_or_else(hostname);
        let (reporter, reporting) = Reporter::start(
            reporter::Settings { agent, token_file, heartbeat: reporter::HEARTBEAT, tells_accounts_apart },
            clock,
            ReporterMetrics::new(registry.sub_registry_with_prefix(prefix)),
            end.clone(),
        );
        Ok(Self {
            registry,
            clock,
            credentials,
            heartbeat: Heartbeat::new(HEARTBEAT_PAUSE),
            readiness,
            reporter,
            state_writer,
            http,
            health,
            store,
            lock,
            saved,
            writing,
            reporting,
        })
    }

    /// Returns the address of metrics, with the real port where 0 was asked for.
    pub fn metrics_address(&self) -> SocketAddr {
        let real = self.http.server.as_ref().and_then(|server| server.local_addr().ok());
        real.unwrap_or(self.http.address)
    }

    /// Returns the address of liveness and readiness, with the real port where 0 was asked for.
    pub fn health_address(&self) -> SocketAddr {
        let real = self.health.server.as_ref().and_then(|server| server.local_addr().ok());
        real.unwrap_or(self.health.address)
    }

    /// The core's memory of an earlier process.
    pub fn memory(&self) -> Option<CoreMemory> {
        let parsed = serde_json::from_str(self.saved.get(&StateRecord::Memory)?);
        // The memory of another version is dropped: backends that still fail come last again soon enough.
        parsed.inspect_err(|error| tracing::warn!(%error, "what an earlier process remembered is ignored")).ok()
    }

    /// The last good document of an earlier process.
    pub fn saved_document(&self) -> Option<(DocumentSource, &str)> {
        let document = self.saved.get(&StateRecord::Document)?;
        Some((DocumentSource::Disk(self.store.path(StateRecord::Document).display().to_string()), &**document))
    }

    /// Serves HTTP with the `further` routes until `end`, and watches over the common tasks.
    pub fn serve(self, further: axum::Router, tasks: &mut Tasks, end: &CancellationToken) {
        let Self { heartbeat, readiness, registry, http, health, lock, writing, reporting, .. } = self;
        let state = HealthState { heartbeat, readiness: readiness.clone() };
        tasks.spawn(STATE_WRITER, async move {
            drop(writing.await);
            // The next process may have the folder once nothing is written there any more.
            drop(lock);
        });
        tasks.add("the reporter", reporting);
        let until = end.clone();
        tasks.spawn(HTTP_SERVER, async move {
            if let Some(server) = http.listening(&readiness, &until).await {
                server.serve(registry, further, until).await;
            }
        });
        let until = end.clone();
        tasks.spawn(HEALTH_SERVER, async move {
            if let Some(server) = health.listening(&state.readiness, &until).await {
                server.serve(state, until).await;
            }
        });
    }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
