//! Supervision of Postfix, as the entry point of a container or beside it: start, watch, drain, end.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `init` | the first process: reaps orphans, passes signals on | no |
//! | `command` | the command, and its output | no |
//! | `intake` | the switch for new mail | yes |
//! | `drain` | the next step while the queue is emptied | yes |
//!
//! A command that ends is not started again: the agent ends with its code. A restart inside the container would hide a
//! crash loop from everyone who watches restarts, and Kubernetes and systemd know better how long to wait. This module
//! never kills Postfix before it was asked to end and had time for it, and never touches a message.

mod command;
mod drain;
pub mod init;
mod intake;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

pub use command::LineReader;
pub use drain::{Drain, DrainStep};
pub use intake::Intake;

use super::mta::{Postfix, QueueDepth, depth_on_disk};
use command::Running;
use mail_failover_runtime::clock::Clock;

/// Pause between two looks at the queue while it is emptied. A long queue is looked at less often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Least ratio of a pause to the look before it, so that looks at a long queue do not keep Postfix busy.
const LOOK_SHARE: u32 = 5;

/// Settings for ending Postfix.
#[derive(Clone, Debug)]
pub struct StopSettings {
    /// Postfix that is ended.
    pub postfix: Postfix,
    /// Limit for refusing new mail and emptying the queue. `None` skips both.
    pub drain: Option<Duration>,
    /// Time between asking Postfix to end and killing it.
    pub stop: Duration,
}

/// Signals to the agent, in order.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<SignalMeaning>);

/// Meaning of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalMeaning {
    /// End the agent: SIGTERM, SIGINT.
    Stop,
    /// Reload Postfix: SIGHUP.
    Reload,
}

/// Limit of the signals that wait. More of them say nothing new.
const SIGNAL_QUEUE: usize = 8;

impl Signals {
    /// Signals of this process, from now on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn of_this_process() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (sender, signals) = Self::channel();
        tokio::spawn(async move {
            loop {
                let told = tokio::select! {
                    _ = terminate.recv() => SignalMeaning::Stop,
                    _ = interrupt.recv() => SignalMeaning::Stop,
                    _ = hangup.recv() => SignalMeaning::Reload,
                };
                if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(told) {
                    return;
                }
            }
        });
        Ok(signals)
    }

    /// Signals that are sent by hand, for tests.
    pub fn channel() -> (mpsc::Sender<SignalMeaning>, Self) {
        let (sender, receiver) = mpsc::channel(SIGNAL_QUEUE);
        (sender, Self(receiver))
    }

    /// Waits for the next signal; for ever, if there can be none. Safe to cancel.
    pub async fn next(&mut self) -> SignalMeaning {
        match self.0.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

/// End of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// The command ended by itself, which is a failure whatever its code is. The code is 128 and the signal's number if
    /// a signal ended it.
    ByItself(u8),
    /// The command ended as it was told to.
    AsTold,
}

impl CommandEnd {
    /// The code with which the agent ends.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::ByItself(code) => code,
            Self::AsTold => 0,
        }
    }
}

/// Supervises a command with [`run`]. Without a command, waits to be told to end, and drains if that is asked for.
/// Returns the exit code.
///
/// # Errors
/// As [`run`].
pub async fn supervise(
    command: Vec<OsString>,
    settings: StopSettings,
    intake: Intake,
    lines: LineReader,
    mut signals: Signals,
) -> io::Result<u8> {
    if command.is_empty() {
        while signals.next().await != SignalMeaning::Stop {
            reload(&settings.postfix).await;
        }
        drain(&settings, &intake, &mut signals).await;
        return Ok(0);
    }
    Ok(run(&command, &settings, &intake, &lines, &mut signals).await?.exit_code())
}

/// Starts a command that runs Postfix in the foreground and watches it, until it ends or the agent is told to end.
/// SIGHUP reloads Postfix; a second SIGTERM or SIGINT cuts the drain short.
///
/// # Errors
/// When the command cannot be started or its status cannot be had.
pub async fn run(
    command: &[OsString],
    settings: &StopSettings,
    intake: &Intake,
    lines: &LineReader,
    signals: &mut Signals,
) -> io::Result<CommandEnd> {
    let mut running = Running::start(command, lines)?;
    loop {
        tokio::select! {
            status = running.ended() => return by_itself(status?, settings).await,
            told = signals.next() => match told {
                SignalMeaning::Reload => reload(&settings.postfix).await,
                SignalMeaning::Stop => break,
            },
        }
    }
    tokio::select! {
        status = running.ended() => return by_itself(status?, settings).await,
        _ = drain(settings, intake, signals) => {}
    }
    stop(&mut running, settings).await?;
    tell_what_is_left(settings);
    Ok(CommandEnd::AsTold)
}

async fn reload(postfix: &Postfix) {
    match postfix.reload().await {
        Ok(_) => info!("SIGHUP: Postfix reads its configuration again"),
        Err(error) => warn!("SIGHUP was not passed on: {error}"),
    }
}

/// Handles a command that has ended without being told to.
// Master may outlive the script that started it. It must not outlive us.
async fn by_itself(status: ExitStatus, settings: &StopSettings) -> io::Result<CommandEnd> {
    error!("the command has ended by itself ({status}), and so does the agent");
    if let Ok(master) = settings.postfix.master() {
        let _ = master.stop();
        let deadline = Instant::now() + settings.stop;
        while master.is_alive() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        if master.is_alive() {
            let _ = master.kill();
        }
    }
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    // It was not asked to end, so that 0 is a failure too.
    let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX).max(1);
    Ok(CommandEnd::ByItself(code))
}

/// Refuses new mail and has the queue sent, until it is empty, time is over, or another signal to stop comes. Does
/// nothing if no time is given for it. Returns the depth that was seen last, if it could be seen.
pub async fn drain(settings: &StopSettings, intake: &Intake, signals: &mut Signals) -> Option<QueueDepth> {
    let timeout = settings.drain?;
    intake.close();
    info!("new mail is refused, and the queue is emptied for up to {timeout:?}; another SIGTERM ends that");
    let mut depth = None;
    tokio::select! {
        () = empty(settings, timeout, &mut depth) => {}
        () = told_to_stop(signals) => info!("told again to end: the queue is left as it is"),
    }
    depth
}

async fn told_to_stop(signals: &mut Signals) {
    while signals.next().await != SignalMeaning::Stop {}
}

async fn empty(settings: &StopSettings, timeout: Duration, seen: &mut Option<QueueDepth>) {
    let clock = Clock::system();
    let started = Instant::now();
    let mut drain = Drain::new(clock.now(), timeout);
    loop {
        let looked = Instant::now();
        let depth = settings.postfix.depth().await;
        let took = looked.elapsed();
        *seen = depth.as_ref().ok().copied();
        if !settings.postfix.is_running().await {
            let waiting = seen.map_or_else(String::new, |depth| format!(", and {} messages wait", depth.waiting));
            let directory = settings.postfix.queue_directory.display();
            return warn!("Postfix does not run in {directory}{waiting}: nothing can be sent");
        }
        match drain.looked(clock.now(), *seen) {
            DrainStep::Flush => {
                if let Err(error) = settings.postfix.flush().await {
                    warn!("the queue cannot be flushed: {error}");
                }
            }
            DrainStep::Wait => {}
            DrainStep::Empty => return info!("the queue is empty after {:?}", started.elapsed()),
            DrainStep::Expired => {
                return match depth {
                    Ok(depth) => warn!("{} messages wait after {timeout:?}, and there is no more time", depth.waiting),
                    Err(error) => warn!("the queue cannot be read, so nobody knows if messages wait: {error}"),
                };
            }
        }
        sleep(LOOK_EVERY.max(took * LOOK_SHARE)).await;
    }
}

/// Ends Postfix: asked first, then by force.
async fn stop(running: &mut Running, settings: &StopSettings) -> io::Result<()> {
    let master = settings.postfix.master().ok();
    let asked = match (master, running.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))) {
        (Some(master), _) => master.stop(),
        // Not Postfix, or not yet.
        (None, Some(command)) => kill_process(command, Signal::TERM),
        (None, None) => Ok(()),
    };
    if let Err(error) = asked {
        warn!("Postfix cannot be asked to end: {error}");
    }
    if let Ok(status) = timeout(settings.stop, running.ended()).await {
        status?;
        return Ok(());
    }
    warn!("Postfix has not ended within {:?} and is killed", settings.stop);
    if let Some(master) = master {
        let _ = master.kill();
    }
    running.kill();
    running.ended().await?;
    Ok(())
}

/// Logs the messages that are left, after the end of Postfix.
fn tell_what_is_left(settings: &StopSettings) {
    let directory = &settings.postfix.queue_directory;
    match depth_on_disk(directory) {
        Ok(QueueDepth { waiting: 0, held: 0 }) => info!("no mail is left in the queue"),
        Ok(QueueDepth { waiting, held }) => warn!(
            "{waiting} messages are left in {}, and {held} that were put on hold: they are sent when Postfix runs there again",
            directory.display()
        ),
        Err(error) => warn!("the queue cannot be read, so nobody knows if messages are left: {error}"),
    }
}
