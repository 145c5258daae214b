//! Schedule of the rounds: one task with one queue of timers for all targets, and a short-lived task per round.
//!
//! A new target starts within [`FIRST_SPREAD`], sooner if there are few targets. A changed target starts at once,
//! unless its last round began less than half an interval ago (a rolling update changes endpoints every few seconds).
//! Then every round starts one interval after the one before, shifted by up to 5 %. Half of the shift is drawn once per
//! target, so that targets that started together drift apart in proportion to time and not to its square root.
//!
//! Rounds of one probe may overlap if a dialogue outlasts its interval. Their sequence numbers tell the order.
//!
//! Rounds keep to the interval also while the backend calls log-ins too many: most of them then end before AUTH, so that
//! a dead backend is seen all the same.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use super::login_pace::LoginPace;
use super::metrics::Metrics;
use super::resolve::{KnownAddresses, StartError};
use super::round::Rounds;
use super::{ProbeTarget, Settings};
use mail_failover_core::model::{ProbeKey, ProbeReport};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::random;

/// Most rounds of one probe under way. The schema lets a timeout be ten times the interval.
const MAX_IN_FLIGHT: usize = 10;
/// Shortest interval that is kept, far below the 100 ms that the schema allows.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Longest interval that is kept, the longest that the schema allows.
const MAX_INTERVAL: Duration = Duration::from_hours(24);
/// Bound on the first start of a new target, beside a tenth of its interval.
const FIRST_SPREAD: Duration = Duration::from_secs(2);
/// Widening of the first spread by each target under schedule: 5,000 starts a second.
const SPREAD_PER_TARGET: Duration = Duration::from_micros(200);
/// Bound on the start of a changed target, beside a tenth of its interval.
const CHANGED_SPREAD: Duration = Duration::from_millis(50);
/// Each of the two parts of an interval's shift. Together they are 4.5 %, so that a timer's resolution of 1 ms fits
/// into 5 %.
const SHIFT: f64 = 0.0225;

/// Terms of one round.
#[derive(Clone, Debug)]
pub struct RoundTerms {
    /// Number of the round, from 1.
    pub sequence: u64,
    /// Reason for which it ends before its log-in.
    pub postponed_login: Option<Arc<str>>,
}

/// Runner of rounds. A trait, so that the schedule is tested without a network.
pub trait Runner: Send + Sync + 'static {
    /// A target with everything that stays the same from round to round.
    type Prepared: Send + Sync + 'static;
    /// Prepares a target. Never blocks.
    fn prepare(&self, target: ProbeTarget) -> Self::Prepared;
    /// The target of a prepared one.
    fn target(prepared: &Self::Prepared) -> &ProbeTarget;
    /// Runs one round, and reports it.
    fn run(
        &self,
        prepared: &Self::Prepared,
        terms: RoundTerms,
        known: &Mutex<KnownAddresses>,
    ) -> impl Future<Output = ProbeReport> + Send;
}

/// Handle of the running prober. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prober {
    changes: Arc<PendingChanges>,
}

/// Changes that the scheduler has not seen yet: at most one per probe, the latest.
#[derive(Debug, Default)]
struct PendingChanges {
    pending: Mutex<HashMap<ProbeKey, Option<ProbeTarget>>>,
    notify: Notify,
}

impl Prober {
    /// Starts the prober on the current tokio runtime. It runs until `shutdown`; rounds under way then end without a
    /// report.
    ///
    /// # Errors
    /// The DNS configuration or the name for EHLO cannot be used.
    pub fn start(
        settings: &Settings,
        clock: Clock,
        metrics: Metrics,
        reports: Sender<ProbeReport>,
        shutdown: CancellationToken,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let rounds = Rounds::new(settings, clock, metrics.clone())?;
        Ok(Self::start_with(rounds, metrics, reports, shutdown))
    }

    fn start_with<R: Runner>(
        runner: R,
        metrics: Metrics,
        reports: Sender<ProbeReport>,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let changes = Arc::<PendingChanges>::default();
        let scheduler = Scheduler {
            runner: Arc::new(runner),
            changes: changes.clone(),
            metrics,
            reports,
            entries: HashMap::new(),
            timers: DelayQueue::new(),
            rounds: JoinSet::new(),
            sequence_floor: 0,
        };
        (Self { changes }, tokio::spawn(scheduler.run(shutdown)))
    }

    /// Adds a target, or replaces the one with the same key. Rounds under way report nothing unless the revision is the
    /// same.
    pub fn set(&self, target: ProbeTarget) {
        self.change(target.key.clone(), Some(target));
    }

    /// Removes a target. Reports of its rounds under way are dropped.
    pub fn remove(&self, key: &ProbeKey) {
        self.change(key.clone(), None);
    }

    fn change(&self, key: ProbeKey, target: Option<ProbeTarget>) {
        self.changes.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(key, target);
        self.changes.notify.notify_one();
    }
}

struct Scheduler<R: Runner> {
    runner: Arc<R>,
    changes: Arc<PendingChanges>,
    metrics: Metrics,
    reports: Sender<ProbeReport>,
    entries: HashMap<ProbeKey, ScheduledTarget<R>>,
    timers: DelayQueue<ProbeKey>,
    rounds: JoinSet<()>,
    /// Highest sequence number of all removed targets. A target that comes back continues from there.
    sequence_floor: u64,
}

struct ScheduledTarget<R: Runner> {
    prepared: Arc<R::Prepared>,
    shared: Arc<RevisionState>,
    timer: delay_queue::Key,
    due: Instant,
    sequence: u64,
    last_start: Option<Instant>,
    /// The target's own part of the shift, from -1 to 1.
    drift: f64,
}

/// State that a revision of a target shares with its rounds.
#[derive(Debug, Default)]
struct RevisionState {
    in_flight: AtomicUsize,
    known: Mutex<KnownAddresses>,
    login_pace: Mutex<LoginPace>,
    is_stale: AtomicBool,
}

struct RoundInFlight(Arc<RevisionState>);

impl Drop for RoundInFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<R: Runner> Scheduler<R> {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let has_timers = !self.timers.is_empty();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changes.notify.notified() => self.take_changes(),
                expired = poll_fn(|context| self.timers.poll_expired(context)), if has_timers => {
                    if let Some(expired) = expired {
                        self.start_round(expired.into_inner());
                    }
                }
                _ = self.rounds.join_next(), if !self.rounds.is_empty() => {}
            }
            while self.rounds.try_join_next().is_some() {}
        }
    }

    fn take_changes(&mut self) {
        let pending = std::mem::take(&mut *self.changes.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let known = pending.len() + self.entries.len();
        for (key, target) in pending {
            match target {
                Some(target) => self.set(key, target, known),
                None => self.remove(&key),
            }
        }
        self.metrics.targets.set(i64::try_from(self.entries.len()).unwrap_or(i64::MAX));
    }

    fn set(&mut self, key: ProbeKey, target: ProbeTarget, targets: usize) {
        let now = Instant::now();
        let Some(entry) = self.entries.get_mut(&key) else {
            let crowd = SPREAD_PER_TARGET.saturating_mul(u32::try_from(targets).unwrap_or(u32::MAX));
            let due = now + random_below((interval(&target) / 10).min(FIRST_SPREAD).min(crowd));
            let entry = ScheduledTarget {
                prepared: Arc::new(self.runner.prepare(target)),
                shared: Arc::default(),
                timer: self.timers.insert_at(key.clone(), due),
                due,
                sequence: self.sequence_floor,
                last_start: None,
                drift: shift(),
            };
            self.entries.insert(key, entry);
            return;
        };
        let before = R::target(&entry.prepared);
        if before == &target {
            return;
        }
        if before.revision != target.revision {
            entry.shared.is_stale.store(true, Ordering::Relaxed);
            let known = if before.destination == target.destination {
                entry.shared.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
            } else {
                KnownAddresses::default()
            };
            let login_pace = if before.destination == target.destination && before.login == target.login {
                entry.shared.login_pace.lock().unwrap_or_else(PoisonError::into_inner).clone()
            } else {
                LoginPace::default()
            };
            let (known, login_pace) = (Mutex::new(known), Mutex::new(login_pace));
            entry.shared = Arc::new(RevisionState { known, login_pace, ..RevisionState::default() });
        }
        let promptly = now + random_below((interval(&target) / 10).min(CHANGED_SPREAD));
        entry.due = match entry.last_start {
            Some(last_start) => promptly.max(last_start + interval(&target) / 2),
            None => promptly.min(entry.due),
        };
        // `reset_at` would panic if the timer were gone.
        self.timers.try_remove(&entry.timer);
        entry.timer = self.timers.insert_at(key, entry.due);
        entry.prepared = Arc::new(self.runner.prepare(target));
    }

    fn remove(&mut self, key: &ProbeKey) {
        if let Some(entry) = self.entries.remove(key) {
            entry.shared.is_stale.store(true, Ordering::Relaxed);
            self.timers.try_remove(&entry.timer);
            self.sequence_floor = self.sequence_floor.max(entry.sequence);
        }
    }

    fn start_round(&mut self, key: ProbeKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let now = Instant::now();
        self.metrics.start_lag(now.saturating_duration_since(entry.due));
        let interval = interval(R::target(&entry.prepared));
        // From the actual start: two rounds are never closer than an interval less 5 %, even when this one is late.
        entry.due = now + interval.mul_f64(1.0 + SHIFT * (entry.drift + shift()));
        entry.timer = self.timers.insert_at(key, entry.due);
        if entry.shared.in_flight.load(Ordering::Relaxed) >= MAX_IN_FLIGHT {
            self.metrics.skipped_rounds.inc();
            return;
        }
        entry.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        entry.sequence += 1;
        entry.last_start = Some(now);
        let in_flight = RoundInFlight(entry.shared.clone());
        let postponed_login = in_flight.0.login_pace.lock().unwrap_or_else(PoisonError::into_inner).postponed(now);
        let logs_in = postponed_login.is_none();
        if !logs_in {
            self.metrics.postponed_logins.inc();
        }
        let terms = RoundTerms { sequence: entry.sequence, postponed_login };
        let (runner, prepared) = (self.runner.clone(), entry.prepared.clone());
        let (reports, metrics) = (self.reports.clone(), self.metrics.clone());
        self.rounds.spawn(async move {
            let mut report = runner.run(&prepared, terms, &in_flight.0.known).await;
            if logs_in {
                let mut pace = in_flight.0.login_pace.lock().unwrap_or_else(PoisonError::into_inner);
                pace.observe(now, Instant::now(), interval, &mut report.outcome);
            }
            if in_flight.0.is_stale.load(Ordering::Relaxed) {
                metrics.stale_reports.inc();
                return;
            }
            match reports.try_send(report) {
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(report)) => {
                    metrics.report_waits.inc();
                    // `send` fails only during shutdown, when the receiver is gone.
                    let _ = reports.send(report).await;
                }
            }
        });
    }
}

/// The target's interval, within bounds.
fn interval(target: &ProbeTarget) -> Duration {
    // An interval of zero would be a busy loop; one of centuries would overflow an `Instant`.
    target.interval.clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// Random number from -1 to 1.
fn shift() -> f64 {
    random::unit().mul_add(2.0, -1.0)
}

fn random_below(bound: Duration) -> Duration {
    bound.mul_f64(random::unit())
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
