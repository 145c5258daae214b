//! Wiring of `mail-failover relay run`, and the order in which its parts end:
//!
//! 1. It is not ready any more. New connections are still taken for a while, until nobody leads to it.
//! 2. The ports are closed. Transactions end; every other command gets 421, and at last every application that is silent.
//! 3. Idle connections to backends get QUIT. The driver ends, then the writer of the state and HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mail_failover_core::model::LoginReference;
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::core::AgentCore;
use mail_failover_dataplane::drill_metrics::DrillMetrics;
use mail_failover_dataplane::pacing::Paces;
use mail_failover_dataplane::program::{LAST_TASKS, Program, ProgramSettings};
use mail_failover_dataplane::source;
use mail_failover_dataplane::store::FolderInUse;
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_runtime::kubernetes::ConnectError;
use mail_failover_runtime::places::Places;
use mail_failover_runtime::process::{hostname, raise_limit_of_open_files};
use mail_failover_runtime::tasks::Tasks;
use mail_failover_runtime::telemetry::{self, ListenError, LogError};
use mail_failover_smtp::tls::TlsSetups;
use prometheus_client::metrics::gauge::Gauge;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::{Accounts, AccountsError, ReadAccounts, UserError};
use crate::arguments::{ArgumentError, RelayArguments};
use crate::awaited::AwaitedAnswers;
use crate::backend::{Connector, Learnt, Pool, PoolBounds, Resolver};
use crate::buffer::{BufferBounds, BufferError, Buffers};
use crate::certificate::{CertificateError, CertificateFollower};
use crate::core::choice::Rotation;
use crate::core::session::SessionSettings;
use crate::core::transaction::TransactionBounds;
use crate::driver::{Driver, DriverOutputs};
use crate::listener::SmtpListener;
use crate::metrics::{BackendMetrics, PREFIX, ServerMetrics};
use crate::scout::{FIRST_ATTEMPT, Scout};
use crate::server::{ClientBounds, Endings, Relay};

/// Results that wait for the driver.
const RESULT_QUEUE: usize = 8192;
/// Pause between two looks at the logins of applications.
const LOGINS_PAUSE: Duration = Duration::from_secs(5);
/// Bounds on waiting for applications.
const CLIENT_BOUNDS: ClientBounds =
    ClientBounds { command: Duration::from_mins(5), pause: Duration::from_mins(1), content: Duration::from_mins(10) };

/// Time for the last answers to applications that are silent within a transaction at the end.
const FAREWELL: Duration = Duration::from_secs(1);

const DRIVER: &str = "the driver";
/// Readiness condition that a relay that ends does not meet any more.
const STAYING: &str = "staying";

/// Error of a relay that could not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The logs cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The arguments do not fit together.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// There is no way to reach an API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// An address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Another process keeps its state in the folder.
    #[error(transparent)]
    State(#[from] FolderInUse),
    /// The certificate cannot be used.
    #[error("--certificate-directory: {0}")]
    Certificate(#[from] CertificateError),
    /// The users cannot be read.
    #[error("--users-directory: {0}")]
    Accounts(#[from] AccountsError),
    /// No content can be kept in files.
    #[error("--buffer-directory {folder}: {source}; name a folder in which the relay may write")]
    Buffer {
        /// The folder.
        folder: String,
        /// Error of a file in it.
        source: BufferError,
    },
    /// The operating system refused something at start.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A part without which the relay must not go on.
    #[error("{0} has ended unexpectedly; the process ends so that it is started again")]
    Ended(&'static str),
}

/// Runs a relay until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`] when it could not start, or when a part of it ended by itself.
pub fn run(arguments: &RelayArguments) -> Result<(), RunError> {
    arguments.check()?;
    telemetry::init_logs(&arguments.log, arguments.log_format)?;
    raise_limit_of_open_files();
    // Before anything speaks TLS: with two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // Before anything else: a signal that comes at once must end us in order.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(arguments, told, |_| {}).await
    })
}

/// Addresses of a relay that has started, with the real ports where 0 was asked for.
#[derive(Clone, Debug)]
pub struct RelayAddresses {
    /// SMTP.
    pub smtp: Vec<SocketAddr>,
    /// SMTP inside TLS.
    pub smtps: Vec<SocketAddr>,
    /// Metrics.
    pub metrics: SocketAddr,
    /// Liveness and readiness.
    pub health: SocketAddr,
}

/// Runs a relay until `told`, and says where it listens once it has `started`.
///
/// # Errors
/// [`RunError`] when it could not start, or when a part of it ended by itself.
pub async fn serve(
    arguments: &RelayArguments,
    told: impl Future<Output = ()>,
    started: impl FnOnce(RelayAddresses),
) -> Result<(), RunError> {
    arguments.check()?;
    // At the first reply it would keep everything else waiting.
    drop(tokio::task::spawn_blocking(mail_failover_replies::rules));
    let (shutdown, end) = (CancellationToken::new(), CancellationToken::new());
    let settings = ProgramSettings {
        prefix: PREFIX,
        credentials_directory: arguments.credentials_directory.clone(),
        state_directory: arguments.state_directory.clone(),
        listen_address: arguments.listen_address,
        health_listen_address: arguments.health_listen_address,
        name: arguments.name.clone(),
        token_file: arguments.token_file.clone(),
        // ADR-0157: The relay is told of every account.
        tells_accounts_apart: true,
    };
    let mut program = Program::begin(settings, &end).await?;
    let (clock, credentials, readiness) = (program.clock, program.credentials.clone(), program.readiness.clone());
    let backend_metrics = BackendMetrics::new(program.registry.sub_registry_with_prefix(PREFIX));
    let server_metrics = ServerMetrics::new(program.registry.sub_registry_with_prefix(PREFIX));

    let mut addresses = RelayAddresses {
        smtp: vec![],
        smtps: vec![],
        metrics: program.metrics_address(),
        health: program.health_address(),
    };
    let mut listeners = vec![];
    for (wanted, is_implicit, flag) in
        [(&arguments.smtp_address, false, "--smtp-address"), (&arguments.smtps_address, true, "--smtps-address")]
    {
        for address in wanted {
            let listener = SmtpListener::bind(*address, is_implicit);
            let listener = listener.map_err(ListenError::of(*address, flag))?;
            let address = listener.local_addr()?;
            tracing::info!(%address, implicit_tls = is_implicit, "listening");
            if is_implicit {
                addresses.smtps.push(address);
            } else {
                addresses.smtp.push(address);
            }
            listeners.push(listener);
        }
    }

    let mut tasks = Tasks::default();
    let certificate = match arguments.certificate_directory.clone() {
        Some(folder) => {
            let (follower, certificate) = CertificateFollower::new(folder)?;
            tasks.spawn("the follower of the certificate", follower.follow());
            Some(certificate)
        }
        None => None,
    };
    let accounts = match arguments.users_directory.clone() {
        Some(folder) => {
            let (sender, accounts) = watch::channel(Arc::default());
            let mut users = Users::new(folder, sender, server_metrics.unusable_users.clone());
            users.take(Accounts::read(&users.folder)?);
            tasks.spawn("the follower of users", users.follow());
            Some(accounts)
        }
        None => None,
    };

    let (answers, answered) = watch::channel(None);
    let (evidence, results) = mpsc::channel(RESULT_QUEUE);
    let (source_events, found) = mpsc::channel(source::QUEUE);
    let outputs = DriverOutputs {
        answers,
        reporter: program.reporter.clone(),
        state_writer: program.state_writer.clone(),
        heartbeat: program.heartbeat.clone(),
        readiness: readiness.clone(),
        metrics: backend_metrics.clone(),
        drills: DrillMetrics::new(program.registry.sub_registry_with_prefix(PREFIX)),
    };
    let awaited = AwaitedAnswers::new(arguments.answer_timeout);
    let mut driver = Driver::new(AgentCore::new(program.memory()), clock, awaited.clone(), outputs);
    if let Some((source, document)) = program.saved_document() {
        driver.begin_with(&source, document);
    }
    arguments.source.follow(&source_events, &mut tasks, &mut program.registry).await?;
    drop(source_events);

    let learnt = Arc::new(Learnt::default());
    let name: Arc<str> = arguments.hostname.clone().unwrap_or_else(hostname).into();
    let guard = DialGuard { allow_destinations: arguments.allow_destinations.clone(), ..DialGuard::default() };
    let connector =
        Connector { hostname: name.clone(), resolver: Resolver::default(), guard, tls: TlsSetups::default() };
    let bounds = PoolBounds {
        connections: arguments.backend_connections,
        messages: arguments.backend_messages,
        idle: arguments.backend_idle_timeout,
    };
    let pool = Pool::new(connector, bounds, learnt.clone(), backend_metrics.clone());
    let buffer_bounds = BufferBounds {
        message: arguments.message_memory,
        memory: arguments.buffer_memory,
        disk: arguments.buffer_disk,
        folder: arguments.buffer_directory.clone(),
    };
    buffer_bounds
        .check()
        .map_err(|source| RunError::Buffer { folder: arguments.buffer_directory.display().to_string(), source })?;
    let relay = Arc::new(Relay {
        settings: Arc::new(SessionSettings {
            hostname: name,
            has_certificate: certificate.is_some(),
            requires_tls: arguments.require_tls,
            has_logins: accounts.is_some(),
            login_without_tls: arguments.login_without_tls,
            max_message: arguments.max_message_size,
            max_recipients: arguments.max_recipients,
            bounds: TransactionBounds {
                total: arguments.transaction_timeout,
                stage: arguments.stage_timeout,
                answer: arguments.answer_timeout,
                ambiguity: arguments.when_ambiguous.into(),
            },
        }),
        client_bounds: CLIENT_BOUNDS,
        answers: answered.clone(),
        rotation: Mutex::new(Rotation::default()),
        pool: pool.clone(),
        paces: Paces::new(end.clone()),
        learnt: learnt.clone(),
        awaited,
        buffers: Buffers::new(buffer_bounds, server_metrics.clone()),
        credentials: credentials.clone(),
        accounts,
        certificate,
        networks: arguments.allow_networks.clone(),
        proxies: arguments.proxy_from.clone(),
        evidence: evidence.clone(),
        backend_metrics,
        server_metrics: server_metrics.clone(),
        clock,
        logs_addresses: arguments.log_addresses,
        messages: AtomicU64::new(0),
    });
    let scout = Scout {
        answers: answered.clone(),
        pool: pool.clone(),
        learnt,
        credentials: credentials.clone(),
        patience: arguments.stage_timeout,
        evidence,
        clock,
        attempts: FIRST_ATTEMPT,
    };
    tasks.spawn(DRIVER, driver.run(found, results, shutdown.clone()));
    tasks.spawn("the scout", scout.run());
    tasks.spawn("the pool of connections", pool.clone().look_after_idle(end.clone()));
    tasks.spawn("the reader of logins", credentials.look_after(answered, |answers| logins_of(answers.as_deref())));
    program.serve(axum::Router::new(), &mut tasks, &end);

    let places = Arc::new(Places::new(arguments.max_connections, server_metrics.gave_way.clone()));
    let (connections, closing, endings) = (TaskTracker::new(), CancellationToken::new(), Endings::default());
    let mut ports = tokio::task::JoinSet::new();
    for listener in listeners {
        ports.spawn(listener.serve(
            relay.clone(),
            places.clone(),
            connections.clone(),
            closing.clone(),
            endings.clone(),
        ));
    }
    drop(relay);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the relay has started");
    started(addresses);
    let ended = tokio::select! {
        () = told => None,
        name = tasks.next_end() => Some(name),
    };
    tracing::info!(cause = ended.unwrap_or("as told"), "the relay ends");
    readiness.expect(STAYING);
    readiness.hindered(STAYING, "the relay is shutting down");
    tokio::time::sleep(arguments.drain_delay).await;
    closing.cancel();
    ports.join_all().await;
    endings.drain.cancel();
    connections.close();
    if timeout(arguments.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "transactions were under way for longer than --drain-timeout");
        endings.last.cancel();
        drop(timeout(FAREWELL, connections.wait()).await);
    }
    pool.close().await;
    tasks.stop(&shutdown, &[DRIVER]).await;
    tasks.stop(&end, &LAST_TASKS).await;
    ended.map_or(Ok(()), |name| Err(RunError::Ended(name)))
}

/// The logins at backends that messages may need.
fn logins_of(answers: Option<&Answers>) -> Vec<LoginReference> {
    let backends = answers.into_iter().flat_map(|answers| &answers.routing.backends);
    backends.filter_map(|backend| backend.secret.clone()).collect()
}

/// Follower of the users, who are read again and again.
struct Users {
    folder: PathBuf,
    known: watch::Sender<Arc<Accounts>>,
    unusable: Gauge,
    /// Trouble that the log has.
    told: String,
}

impl Users {
    fn new(folder: PathBuf, known: watch::Sender<Arc<Accounts>>, unusable: Gauge) -> Self {
        Self { folder, known, unusable, told: String::new() }
    }

    fn take(&mut self, read: ReadAccounts) {
        let ReadAccounts { accounts, unusable } = read;
        self.unusable.set(i64::try_from(unusable.len()).unwrap_or(i64::MAX));
        let trouble = if unusable.is_empty() && accounts.is_empty() {
            format!("{} has no users", self.folder.display())
        } else {
            unusable.iter().map(UserError::to_string).collect::<Vec<_>>().join("; ")
        };
        if !trouble.is_empty() && trouble != self.told {
            tracing::warn!(trouble, "these users cannot log in");
        }
        self.told = trouble;
        self.known.send_if_modified(|known| {
            let is_new = **known != accounts;
            if is_new {
                tracing::info!("the users have changed");
                *known = Arc::new(accounts);
            }
            is_new
        });
    }

    /// Follows them for as long as somebody asks. While the folder cannot be read, the last ones stay.
    async fn follow(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOGINS_PAUSE) => {}
                () = self.known.closed() => return,
            }
            let looked_at = self.folder.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || Accounts::read(&looked_at)).await else { return };
            match read {
                Ok(read) => self.take(read),
                Err(error) if error.to_string() != self.told => {
                    self.told = error.to_string();
                    tracing::warn!(%error, "the users cannot be read; the last ones stay");
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mail_failover_core::model::Login;

    use super::*;

    #[test]
    fn the_last_user_whose_file_is_gone_is_known_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (known, seen) = watch::channel(Arc::default());
        let mut users = Users::new(folder.path().to_owned(), known, Gauge::default());
        let is_known = || seen.borrow().knows(&Login::new("shop", "hunter2"));
        std::fs::write(folder.path().join("shop"), "hunter2").unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        users.take(Accounts::read(folder.path()).unwrap());
        assert_eq!((is_known(), users.unusable.get()), (true, 1));
        assert!(users.told.contains("/empty: it is empty"), "{}", users.told);
        for name in ["shop", "empty"] {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
        users.take(Accounts::read(folder.path()).unwrap());
        assert_eq!((is_known(), users.unusable.get()), (false, 0));
        assert!(users.told.contains("has no users"), "{}", users.told);
    }
}
