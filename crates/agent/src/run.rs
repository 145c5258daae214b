//! Wiring of `mail-failover agent run`, and the order in which its parts end:
//!
//! 1. Postfix is drained and ended, if the agent is its entry point.
//! 2. The driver finishes its turn: nothing new is decided.
//! 3. Together: the writer of the state, the socketmap and HTTP. The socketmap is not to end earlier: without it
//!    Postfix refuses mail.
//!
//! Sources, the reader of the log and the rest end with the process.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_failover_runtime::kubernetes::ConnectError;
use mail_failover_runtime::process::raise_limit_of_open_files;
use mail_failover_runtime::tasks::Tasks;
use mail_failover_runtime::telemetry::{self, LogError, Readiness};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::arguments::AgentRunArguments;
use super::domain_files::{self, DomainFileError};
use super::driver::{Driver, DriverInputs, DriverOutputs, DriverSettings};
use super::driver_metrics::DriverMetrics;
use super::log::follow as log;
use super::log::follow::{Reading, Sink};
use super::metrics::{LogMetrics, MtaMetrics, PREFIX, TrafficMetrics};
use super::mta::switch::Executor;
use super::mta::{self, Postfix};
use super::sessions::BegunSessions;
use super::socketmap::{self, BindError, LocalDomains, MapSettings, Responder, SocketmapView};
use super::supervise::{self, Intake, LineReader, Signals};
use super::{folder, http, queue_watch, shield};
use mail_failover_core::model::LoginReference;
use mail_failover_dataplane::core::AgentCore;
use mail_failover_dataplane::drill_metrics::DrillMetrics;
use mail_failover_dataplane::pacing::Paces;
use mail_failover_dataplane::program::{LAST_TASKS, Program, ProgramSettings};
use mail_failover_dataplane::source;
use mail_failover_dataplane::store::FolderInUse;

/// Limit of the reports about switches that wait for the driver. The executor waits when there are more.
const REPORT_QUEUE: usize = 16;

/// Names of the tasks that end in an order, and of those that come several times.
const DRIVER: &str = "the driver";
const SOCKETMAP: &str = "the socketmap";
const LOG_READER: &str = "the reader of Postfix's log";

/// Readiness condition of an agent that starts Postfix: Postfix runs.
const POSTFIX: &str = "postfix";
/// Pause between two looks for Postfix.
const POSTFIX_PAUSE: Duration = Duration::from_millis(250);

/// Error of an agent that could not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The logs cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no way to reach an API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The socketmap cannot be served.
    #[error(transparent)]
    Socketmap(#[from] BindError),
    /// Another process keeps its state in the folder.
    #[error(transparent)]
    State(#[from] FolderInUse),
    /// A file with domains that Postfix delivers itself cannot be read.
    #[error(transparent)]
    Domains(#[from] DomainFileError),
    /// The operating system refused something at start.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A part without which the agent must not go on.
    #[error("{0} has ended unexpectedly; the process ends so that it is started again")]
    Ended(&'static str),
}

/// Runs an agent until SIGTERM or SIGINT, or until the command that it started ends. Returns the exit code.
///
/// # Errors
/// [`RunError`] when it could not start, or when a part of it ended by itself.
pub fn run(arguments: AgentRunArguments) -> Result<u8, RunError> {
    if !arguments.command.is_empty() && !supervise::init::is_supervised() {
        return Ok(supervise::init::run()?.0);
    }
    telemetry::init_logs(&arguments.log, arguments.log_format)?;
    raise_limit_of_open_files();
    // Before anything speaks TLS: with two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run_agent(arguments))
}

async fn run_agent(arguments: AgentRunArguments) -> Result<u8, RunError> {
    // Before anything else: a signal that comes at once must end us in order.
    let signals = Signals::of_this_process()?;
    // At the first reply it would keep everything else waiting.
    drop(tokio::task::spawn_blocking(mail_failover_replies::rules));
    let intake = Intake::default();
    let (shutdown, end) = (CancellationToken::new(), CancellationToken::new());
    let settings = ProgramSettings {
        prefix: PREFIX,
        credentials_directory: arguments.credentials_directory.clone(),
        state_directory: arguments.state_directory.clone(),
        listen_address: arguments.listen_address,
        health_listen_address: arguments.health_listen_address,
        name: arguments.name.clone(),
        token_file: arguments.token_file.clone(),
        tells_accounts_apart: false,
    };
    let mut program = Program::begin(settings, &end).await?;
    let (clock, credentials, readiness) = (program.clock, program.credentials.clone(), program.readiness.clone());
    let metrics = DriverMetrics::new(&mut program.registry);

    let (view, views) = watch::channel(Arc::new(SocketmapView::default()));
    let (source_events, found) = mpsc::channel(source::QUEUE);
    let (sink, logged) = Sink::new(LogMetrics::new(&mut program.registry), clock);
    let (switch_orders, ordered) = watch::channel(None);
    let (throttling, throttled) = watch::channel(false);
    let (switch_progress, reported) = mpsc::channel(REPORT_QUEUE);
    let (questions, asked) = mpsc::channel(http::QUEUE);
    let mta_metrics = MtaMetrics::new(&mut program.registry);
    let sessions = BegunSessions::default();
    let (queue_looks, queue) = watch::channel(None);

    let (mail_log_source, mail_log) = mail_log(&arguments, &sink);
    let settings = DriverSettings {
        mail_log_source,
        mail_log,
        queue_directory: arguments.queue_directory.clone(),
        state_directory: arguments.state_directory.clone(),
        clock,
        credentials: credentials.clone(),
        sessions: sessions.clone(),
        queue,
    };
    let outputs = DriverOutputs {
        view,
        switch_orders,
        throttling,
        reporter: program.reporter.clone(),
        state_writer: program.state_writer.clone(),
        heartbeat: program.heartbeat.clone(),
        readiness: readiness.clone(),
        metrics,
        traffic: TrafficMetrics::new(&mut program.registry),
        drills: DrillMetrics::new(program.registry.sub_registry_with_prefix(PREFIX)),
    };
    let mut driver = Driver::new(AgentCore::new(program.memory()), settings, outputs, arguments.source.sources());
    if let Some((source, document)) = program.saved_document() {
        driver.begin_with(source, document).await;
    }

    // Only now that there may be answers: until then Postfix waits for a socket, as it would for an answer.
    let fixed = fixed(&arguments, intake.clone())?;
    let local_domains = fixed.local_domains.clone();
    let socketmap_metrics = socketmap::SocketmapMetrics::new(&mut program.registry);
    let paces = Paces::new(end.clone());
    let responder =
        Responder::new(views.clone(), fixed, credentials.clone(), socketmap_metrics, sessions.clone(), paces);
    let server = socketmap::SocketmapServer::bind(&listening(&arguments).await).await?;
    if let Err(error) = folder::provide_shield(&arguments.queue_directory) {
        tracing::warn!(
            %error,
            "without this table Postfix bounces what a paused account refuses while the agent is down"
        );
    }
    let mut tasks = Tasks::default();
    arguments.source.follow(&source_events, &mut tasks, &mut program.registry).await?;
    drop(source_events);
    let postfix = Postfix {
        config_directory: arguments.postfix_config_directory.clone(),
        queue_directory: arguments.queue_directory.clone(),
        metrics: mta_metrics.clone(),
    };
    let done = arguments.state_directory.join("switched");
    let executor = Executor::new(postfix.clone(), done, ordered, throttled, switch_progress, mta_metrics);
    tasks.spawn("the executor of switches", executor.run());
    let domain_tables = arguments.domain_tables();
    if !domain_tables.is_empty() {
        tasks.spawn("the reader of domains", domain_files::follow(domain_tables, local_domains));
    }
    tasks.spawn("the watch on the queue", queue_watch::watch_queue(postfix.clone(), clock, queue_looks));
    let printed = sink.clone();
    read_log(&arguments, sink, &mut tasks);
    let inputs = DriverInputs { source_events: found, log_events: logged, switch_progress: reported, questions: asked };
    tasks.spawn(DRIVER, driver.run(inputs, shutdown.clone()));
    tasks.spawn(SOCKETMAP, server.serve(responder, end.clone()));
    tasks.spawn("the reader of logins", credentials.look_after(views, |view| logins_of(view)));
    program.serve(http::router(questions), &mut tasks, &end);
    let socket = arguments.socket();
    tracing::info!(socket = %socket.display(), http = %arguments.listen_address, version = env!("CARGO_PKG_VERSION"), "the agent has started");
    if !arguments.command.is_empty() {
        // A Service sends mail to this host as soon as the pod is ready.
        readiness.expect(POSTFIX);
        tokio::spawn(await_postfix(postfix.clone(), readiness));
    }
    let lines: LineReader = Arc::new(move |line: &[u8]| printed.take(line));
    let settings = supervise::StopSettings { postfix, drain: arguments.drain(), stop: arguments.stop_timeout };
    let supervising = tokio::spawn(supervise::supervise(arguments.command, settings, intake, lines, signals));
    run_until_told(tasks, supervising, &shutdown, &end).await
}

/// Waits until the Postfix that the agent starts is ready, and makes that a part of the agent's readiness. Postfix ends
/// with the agent, so it is not looked at again.
async fn await_postfix(postfix: Postfix, readiness: Readiness) {
    let mut looks = tokio::time::interval(POSTFIX_PAUSE);
    loop {
        looks.tick().await;
        match postfix.master() {
            Ok(master) if master.is_ready() => break,
            Ok(_) => readiness.hindered(POSTFIX, "Postfix is starting"),
            Err(why) => readiness.hindered(POSTFIX, &format!("Postfix does not run: {why}")),
        }
    }
    // It listens a moment after it catches signals.
    looks.tick().await;
    readiness.met(POSTFIX);
}

const NO_MAIL_LOG: &str = "neither --mail-log nor --mail-log-socket is given";

/// Returns the place of Postfix's log, for people, and the state of reading it.
fn mail_log(arguments: &AgentRunArguments, sink: &Sink) -> (String, Reading) {
    match arguments.mail_log.as_ref().or(arguments.mail_log_socket.as_ref()) {
        Some(path) => (path.display().to_string(), sink.reading()),
        None if arguments.command.is_empty() => (String::new(), Reading::hindered(NO_MAIL_LOG)),
        None => ("its command's output".to_owned(), sink.reading()),
    }
}

fn read_log(arguments: &AgentRunArguments, sink: Sink, tasks: &mut Tasks) {
    if let Some(path) = arguments.mail_log_socket.clone() {
        tasks.spawn(LOG_READER, read_socket(path, sink));
    } else if let Some(path) = arguments.mail_log.clone() {
        if is_pipe(&path) {
            tasks.spawn(LOG_READER, read_pipe(path, sink));
        } else {
            tasks.spawn(LOG_READER, log::file(path, sink));
        }
    } else if arguments.command.is_empty() {
        tracing::warn!(
            "Postfix's log is not read, {NO_MAIL_LOG}: the agent follows the operator and leaves no backend by itself"
        );
    }
}

fn is_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

async fn read_socket(path: PathBuf, sink: Sink) {
    let ended = log::syslog_socket(&path, &sink).await;
    tracing::error!(path = %path.display(), ?ended, "the socket for the mail log cannot be used");
}

async fn read_pipe(path: PathBuf, sink: Sink) {
    let ended = log::named_pipe(&path, &sink).await;
    tracing::error!(path = %path.display(), ?ended, "the named pipe of the mail log cannot be read");
}

fn fixed(arguments: &AgentRunArguments, intake: Intake) -> Result<MapSettings, DomainFileError> {
    let of_files = domain_files::load(&arguments.domain_tables())?;
    Ok(MapSettings {
        local_domains: LocalDomains::new(&arguments.local_domains).with_files(of_files),
        shield: |answers, retired, status| shield::replacement(status, answers, retired),
        intake,
    })
}

async fn listening(arguments: &AgentRunArguments) -> socketmap::ListenSettings {
    socketmap::ListenSettings {
        socket: arguments.socket(),
        mode: arguments.socket_mode,
        owner: mta::mail_owner(&arguments.queue_directory, &arguments.postfix_config_directory).await,
        address: arguments.socketmap_address,
    }
}

/// The logins that Postfix may ask for.
fn logins_of(view: &SocketmapView) -> Vec<LoginReference> {
    view.backends().filter_map(|backend| backend.secret.clone()).collect()
}

/// Waits for a signal or for the end of any task, then ends them all in order.
async fn run_until_told(
    mut tasks: Tasks,
    mut supervising: JoinHandle<io::Result<u8>>,
    shutdown: &CancellationToken,
    end: &CancellationToken,
) -> Result<u8, RunError> {
    let mut code = Ok(0);
    let ended = tokio::select! {
        supervised = &mut supervising => match supervised {
            Ok(result) => {
                code = result;
                None
            }
            Err(_) => Some("the supervisor"),
        },
        name = tasks.next_end() => Some(name),
    };
    tracing::info!(cause = ended.unwrap_or("as told, or with its command"), "the agent ends");
    tasks.stop(shutdown, &[DRIVER]).await;
    let [writer, http, health] = LAST_TASKS;
    tasks.stop(end, &[writer, SOCKETMAP, http, health]).await;
    ended.map_or(Ok(code?), |name| Err(RunError::Ended(name)))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
