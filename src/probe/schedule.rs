//! Schedule of the rounds: one task with one queue of timers for all targets, and a short-lived task per round.
//!
//! Targets that are identical but for their object and interval are one target here, made at the shortest interval, and
//! all their objects hear of it ([`Subscribers`]).
//!
//! A new target starts within 2 s, sooner if there are few targets, and later if there are many at its place.
//! A changed target starts at once, unless its last round began less than half an interval ago (a rolling update changes
//! endpoints every few seconds). Less than an interval after its last log-in it is looked at instead, without a log-in;
//! the round with the next one comes when the interval is over.
//!
//! Then every round starts one interval after the one before, shifted by up to 5 %. Half of the shift is drawn once per
//! target, so that targets that started together drift apart in proportion to time and not to its square root.
//!
//! Rounds of one target may overlap if a dialogue outlasts its interval. Their sequence numbers tell the order. Rounds of a
//! target that nobody asks for any more are ended at once, with their dialogues and whatever waits for a place.
//!
//! Looks come beside the rounds: to confirm a first failure or a silence ([`Confirmation`]), where the controller asks
//! for one, and where an idle session has ended ([`super::idle`]).
//!
//! Rounds keep to the interval also while the backend calls log-ins too many: most of them then end before AUTH, so that
//! a dead backend is seen all the same.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::time::{DelayQueue, delay_queue};

use super::identity::{ProbeIdentity, ProbedPlace};
use super::idle::{EndedSessions, IdleDriver, IdleNews, IdleTerms};
use super::login_pace::LoginPace;
use super::metrics::Metrics;
use super::resolve::{KnownAddresses, StartError};
use super::round::Rounds;
use super::runner::{RoundTerms, Runner};
use super::subscribers::{Subscriber, Subscribers, Taker};
use super::timing::{SHIFT, first_delay, promptly, shift};
use super::{ProbeTarget, Settings};
use mail_failover_core::engine::{AnswerTime, Confirmation, Look};
use mail_failover_core::model::{Depth, Destination, Effect, ProbeKey, ProbeLogin, ProbeReport, Stage};
use mail_failover_runtime::clock::Clock;

/// Most rounds of one target under way. The schema lets a timeout be ten times the interval.
const MAX_IN_FLIGHT: usize = 10;
/// Shortest time between two looks at a target that are asked for, unless its interval is shorter.
// As often as a probe looks by default. A probe that looks every quarter of an hour must not keep mail waiting as long.
const LOOKS_APART: Duration = Duration::from_secs(10);

/// Handle of the running prober. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prober {
    changes: Arc<PendingChanges>,
}

/// Changes that the scheduler has not seen yet: at most one per probe, the latest.
#[derive(Debug, Default)]
struct PendingChanges {
    pending: Mutex<HashMap<ProbeKey, Option<ProbeTarget>>>,
    /// Probes that are to look at once.
    looks: Mutex<HashSet<ProbeKey>>,
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
        let runner = Arc::new(runner);
        let (idle, ended_sessions) = (Arc::<IdleNews<R::Prepared>>::default(), Arc::<EndedSessions>::default());
        let driver = IdleDriver::new(runner.clone(), idle.clone(), ended_sessions.clone(), metrics.clone());
        let scheduler = Scheduler {
            runner,
            idle,
            ended_sessions,
            changes: changes.clone(),
            metrics,
            reports,
            targets: HashMap::new(),
            by_identity: HashMap::new(),
            by_key: HashMap::new(),
            at_places: HashMap::new(),
            timers: DelayQueue::new(),
            tasks: JoinSet::new(),
            numbers: 0,
            sequence_floor: 0,
        };
        let driving = tokio::spawn(driver.run(shutdown.clone()));
        let task = async move {
            scheduler.run(shutdown).await;
            // Its sessions end with QUIT.
            let _ = driving.await;
        };
        (Self { changes }, tokio::spawn(task))
    }

    /// Adds a target, or replaces the one with the same key. Rounds under way report nothing unless they are rounds of the
    /// new target as well.
    pub fn set(&self, target: ProbeTarget) {
        self.change(target.key.clone(), Some(target));
    }

    /// Removes a target. Its rounds under way end, unless another object asks for the same.
    pub fn remove(&self, key: &ProbeKey) {
        self.change(key.clone(), None);
    }

    /// Looks at a target at once, beside its interval; at most once in [`LOOKS_APART`], or in an interval if that is
    /// shorter.
    pub fn look(&self, key: ProbeKey) {
        self.changes.looks.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.changes.notify.notify_one();
    }

    fn change(&self, key: ProbeKey, target: Option<ProbeTarget>) {
        self.changes.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(key, target);
        self.changes.notify.notify_one();
    }
}

struct Scheduler<R: Runner> {
    runner: Arc<R>,
    /// What the driver of idle sessions is told.
    idle: Arc<IdleNews<R::Prepared>>,
    /// What it tells.
    ended_sessions: Arc<EndedSessions>,
    changes: Arc<PendingChanges>,
    metrics: Metrics,
    reports: Sender<ProbeReport>,
    /// Targets by number.
    targets: HashMap<u64, ScheduledTarget<R>>,
    by_identity: HashMap<Arc<ProbeIdentity>, u64>,
    by_key: HashMap<ProbeKey, u64>,
    /// Number of targets at each place.
    at_places: HashMap<ProbedPlace, usize>,
    timers: DelayQueue<u64>,
    /// Rounds, and deliveries that wait for room in the queue.
    tasks: JoinSet<Option<RoundEnd>>,
    /// Number of the latest target.
    numbers: u64,
    /// Highest sequence number of all removed subscribers. One that comes back continues from there.
    sequence_floor: u64,
}

struct ScheduledTarget<R: Runner> {
    identity: Arc<ProbeIdentity>,
    prepared: Arc<R::Prepared>,
    subscribers: Subscribers,
    known: Arc<Mutex<KnownAddresses>>,
    login_pace: LoginPace,
    in_flight: Arc<AtomicUsize>,
    /// Ends the rounds under way when the target is dropped.
    end: CancellationToken,
    _end_on_drop: DropGuard,
    timer: delay_queue::Key,
    /// Start of the next round at the interval.
    due: Instant,
    confirmation: Confirmation<Instant>,
    /// Time that answers usually take.
    usual: AnswerTime,
    /// Start of the latest look that was asked for.
    looked_at: Option<Instant>,
    /// True if it has changed since the last round.
    is_changed: bool,
    sequence: u64,
    /// Start of the latest round, or of the look that was made in its place.
    last_start: Option<Instant>,
    /// Start of the latest round that came to a log-in, or may still come to one.
    logged_in_at: Option<Instant>,
    /// Start and report of the latest round that is over.
    latest: Option<(Instant, ProbeReport)>,
    /// The target's own part of the shift, from -1 to 1.
    drift: f64,
}

/// End of a round.
struct RoundEnd {
    /// Number of the target.
    target: u64,
    /// Start by the schedule.
    started: Instant,
    /// Start by the report.
    began: Instant,
    takers: Vec<Taker>,
    /// True if it came beside those at the interval.
    is_look: bool,
    logs_in: bool,
    report: ProbeReport,
    in_flight: RoundInFlight,
}

/// A round that is under way, or whose reports wait for room in the queue.
struct RoundInFlight(Arc<AtomicUsize>);

impl RoundInFlight {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for RoundInFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<R: Runner> Scheduler<R> {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let has_timers = !self.timers.is_empty();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changes.notify.notified() => self.take_changes(),
                ended = self.ended_sessions.next() => {
                    for target in ended {
                        self.look_after_session(target);
                    }
                }
                expired = poll_fn(|context| self.timers.poll_expired(context)), if has_timers => {
                    if let Some(expired) = expired {
                        self.handle_timer(expired.into_inner());
                    }
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    self.end_round(ended.ok().flatten());
                    while let Some(ended) = self.tasks.try_join_next() {
                        self.end_round(ended.ok().flatten());
                    }
                }
            }
        }
    }

    fn take_changes(&mut self) {
        let pending = std::mem::take(&mut *self.changes.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let known = pending.len() + self.targets.len();
        for (key, target) in pending {
            match target {
                Some(target) => self.set(target, known),
                None => self.remove(&key),
            }
        }
        let looks = std::mem::take(&mut *self.changes.looks.lock().unwrap_or_else(PoisonError::into_inner));
        for key in looks {
            self.look(&key);
        }
        self.metrics.targets.set(i64::try_from(self.by_key.len()).unwrap_or(i64::MAX));
        self.metrics.distinct_targets.set(i64::try_from(self.targets.len()).unwrap_or(i64::MAX));
    }

    fn set(&mut self, target: ProbeTarget, crowd: usize) {
        let key = target.key.clone();
        let identity = ProbeIdentity::of(&target);
        let Some(before) = self.by_key.get(&key).copied() else {
            return self.subscribe(Subscriber::new(&target, self.sequence_floor), target, identity, None, crowd);
        };
        let is_same = self.targets.get(&before).is_some_and(|scheduled| *scheduled.identity == identity);
        if is_same {
            return self.update(before, target);
        }
        if let Some((subscriber, left)) = self.unsubscribe(&key) {
            self.subscribe(subscriber.moved(&target), target, identity, Some(left), crowd);
        }
    }

    /// Takes over what may change of a target without making another one of it.
    fn update(&mut self, number: u64, target: ProbeTarget) {
        let Some(scheduled) = self.targets.get_mut(&number) else { return };
        let mut is_changed = scheduled.subscribers.update(&target);
        is_changed |= scheduled.follow(target, &*self.runner);
        if !scheduled.subscribers.want_idle_sessions() {
            self.idle.end(number);
        } else if is_changed && let Destination::Service(service) = &R::target(&scheduled.prepared).destination {
            self.idle.endpoints(number, &service.endpoints);
        }
        if is_changed {
            scheduled.is_changed = true;
            let interval = scheduled.subscribers.interval();
            let promptly = promptly(interval);
            let due = match scheduled.last_start {
                // Not later than without the change: what keeps changing is probed at its interval all the same.
                Some(last_start) => promptly.max(last_start + interval / 2).min(scheduled.due.max(promptly)),
                None => promptly.min(scheduled.due),
            };
            scheduled.set_due(number, due, &mut self.timers);
        }
    }

    /// Adds a subscriber to the target of this identity, which is made if there is none; `left` is the one that it comes
    /// from.
    fn subscribe(
        &mut self,
        subscriber: Subscriber,
        target: ProbeTarget,
        identity: ProbeIdentity,
        left: Option<LeftTarget>,
        crowd: usize,
    ) {
        let key = target.key.clone();
        if let Some(number) = self.by_identity.get(&identity).copied()
            && let Some(scheduled) = self.targets.get_mut(&number)
        {
            self.by_key.insert(key.clone(), number);
            scheduled.subscribers.add(key.clone(), subscriber);
            scheduled.follow(target, &*self.runner);
            let interval = scheduled.subscribers.interval_of(&key);
            let is_recent = |(started, _): &&(Instant, ProbeReport)| started.elapsed() < interval;
            if let Some((started, latest)) = scheduled.latest.as_ref().filter(is_recent) {
                let reports = scheduled.subscribers.reports(&[], *started, latest);
                self.deliver(reports, None);
            } else if let Some(last_start) = scheduled.last_start.filter(|_| scheduled.rounds_under_way() == 0) {
                let due = scheduled.due.min(promptly(interval).max(last_start + interval / 2));
                scheduled.set_due(number, due, &mut self.timers);
            }
            // With a shorter interval than all others have.
            if let Some(scheduled) = self.targets.get_mut(&number)
                && let Some(last_start) = scheduled.last_start
            {
                let due = scheduled.due.min(last_start + interval);
                scheduled.set_due(number, due, &mut self.timers);
            }
            return;
        }
        let place = self.at_places.entry(identity.place.clone()).or_default();
        *place += 1;
        let mut subscribers = Subscribers::default();
        subscribers.add(key.clone(), subscriber);
        let interval = subscribers.interval();
        let changed = left.as_ref().and_then(|left| left.last_start);
        let due = match changed {
            Some(last_start) => promptly(interval).max(last_start + interval / 2),
            None if left.is_some() => promptly(interval),
            None => Instant::now() + first_delay(interval, crowd, *place),
        };
        self.numbers += 1;
        let number = self.numbers;
        let is_same_place = left.as_ref().is_some_and(|left| left.identity.place == identity.place);
        let known = left.as_ref().filter(|_| is_same_place).map(|left| left.known.clone()).unwrap_or_default();
        let has_left = left.is_some();
        let of_same_login = left.filter(|left| left.identity.shares_login_with(&identity));
        let logged_in_at = of_same_login.as_ref().and_then(|left| left.logged_in_at);
        let login_pace = of_same_login.map(|left| left.login_pace);
        let end = CancellationToken::new();
        let identity = Arc::new(identity);
        let scheduled = ScheduledTarget {
            identity: identity.clone(),
            prepared: Arc::new(self.runner.prepare(target)),
            subscribers,
            known: Arc::new(Mutex::new(known)),
            login_pace: login_pace.unwrap_or_default(),
            in_flight: Arc::default(),
            _end_on_drop: end.clone().drop_guard(),
            end,
            timer: self.timers.insert_at(number, due),
            due,
            confirmation: Confirmation::default(),
            usual: AnswerTime::default(),
            looked_at: None,
            is_changed: has_left,
            sequence: 0,
            last_start: changed,
            logged_in_at,
            latest: None,
            drift: shift(),
        };
        self.targets.insert(number, scheduled);
        self.by_identity.insert(identity, number);
        self.by_key.insert(key, number);
    }

    fn remove(&mut self, key: &ProbeKey) {
        if let Some((subscriber, _)) = self.unsubscribe(key) {
            self.sequence_floor = self.sequence_floor.max(subscriber.sequence());
        }
    }

    /// Takes a subscriber from its target, and ends the target if it was the last.
    fn unsubscribe(&mut self, key: &ProbeKey) -> Option<(Subscriber, LeftTarget)> {
        let number = self.by_key.remove(key)?;
        let scheduled = self.targets.get_mut(&number)?;
        let subscriber = scheduled.subscribers.remove(key)?;
        let left = LeftTarget {
            identity: scheduled.identity.clone(),
            known: scheduled.known.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            login_pace: scheduled.login_pace.clone(),
            last_start: scheduled.last_start,
            logged_in_at: scheduled.logged_in_at,
        };
        if scheduled.subscribers.is_empty() {
            self.timers.try_remove(&scheduled.timer);
            self.by_identity.remove(&scheduled.identity);
            if let Some(count) = self.at_places.get_mut(&scheduled.identity.place) {
                *count -= 1;
                if *count == 0 {
                    self.at_places.remove(&scheduled.identity.place);
                }
            }
            self.idle.end(number);
            self.metrics.cancelled_rounds.inc_by(scheduled.rounds_under_way() as u64);
            // Its rounds end with it.
            self.targets.remove(&number);
        }
        Some((subscriber, left))
    }

    /// Makes a look that was asked for.
    fn look(&mut self, key: &ProbeKey) {
        let Some(number) = self.by_key.get(key).copied() else { return };
        let Some(scheduled) = self.targets.get_mut(&number) else { return };
        let (now, interval) = (Instant::now(), scheduled.subscribers.interval());
        let apart = interval.min(LOOKS_APART);
        if scheduled.looked_at.is_none_or(|at| now >= at + apart) {
            scheduled.looked_at = Some(now);
            self.begin_look(number, now);
        }
    }

    /// Makes a look since an idle session has ended, unless the target is known to fail.
    // ADR-0180: The end of a session is no evidence, it only asks for some.
    fn look_after_session(&mut self, number: u64) {
        if self.targets.get(&number).is_some_and(|scheduled| !scheduled.confirmation.is_failing()) {
            self.begin_look(number, Instant::now());
        }
    }

    fn handle_timer(&mut self, number: u64) {
        let Some(scheduled) = self.targets.get_mut(&number) else { return };
        let (now, due) = (Instant::now(), scheduled.due);
        let is_planned = scheduled.confirmation.next().is_some_and(|look| look <= now);
        scheduled.confirmation.begin(now);
        if due <= now {
            return self.start_round(number, now);
        }
        // Unless an answer has come since the timer was set for a look.
        scheduled.set_due(number, due, &mut self.timers);
        if is_planned {
            self.begin_look(number, now);
        }
    }

    fn begin_look(&mut self, number: u64, now: Instant) {
        let Some(scheduled) = self.targets.get_mut(&number) else { return };
        if scheduled.rounds_under_way() >= MAX_IN_FLIGHT {
            self.metrics.skipped_rounds.inc();
            return;
        }
        self.metrics.looks.inc();
        let takers = scheduled.subscribers.begin_look();
        self.spawn_round(number, now, takers, true);
    }

    fn start_round(&mut self, number: u64, now: Instant) {
        let Some(scheduled) = self.targets.get_mut(&number) else { return };
        self.metrics.start_lag(now.saturating_duration_since(scheduled.due));
        if let Some(next_login) = scheduled.next_login().filter(|next| scheduled.is_changed && now < *next) {
            // ADR-0112: Nothing from AUTH on is tried faster than the interval: accounts are locked for less.
            scheduled.last_start = Some(now);
            scheduled.set_due(number, next_login, &mut self.timers);
            return self.begin_look(number, now);
        }
        let interval = scheduled.subscribers.interval();
        let is_full = scheduled.rounds_under_way() >= MAX_IN_FLIGHT;
        let is_changed = std::mem::take(&mut scheduled.is_changed);
        let takers = if is_full { vec![] } else { scheduled.subscribers.begin_round(now, is_changed) };
        // From the actual start: two rounds are never closer than an interval less 5 %, even when this one is late.
        let shift = SHIFT * (scheduled.drift + shift());
        let regular = now + interval.mul_f64(1.0 + shift);
        let due = match scheduled.subscribers.next_start(shift).filter(|_| !is_full) {
            Some(next) => next.clamp(now + interval / 20, regular),
            None => regular,
        };
        if let Some(patience) = scheduled.patience().filter(|_| !is_full) {
            let rule = scheduled.subscribers.confirmation();
            scheduled.confirmation.suspect(&rule, interval, now + patience);
        }
        scheduled.set_due(number, due, &mut self.timers);
        if is_full {
            self.metrics.skipped_rounds.inc();
            return;
        }
        scheduled.last_start = Some(now);
        self.spawn_round(number, now, takers, false);
    }

    fn spawn_round(&mut self, number: u64, now: Instant, takers: Vec<Taker>, is_look: bool) {
        let Some(scheduled) = self.targets.get_mut(&number) else { return };
        scheduled.sequence += 1;
        let postponed_login = scheduled.login_pace.postponed(now);
        let logs_in = postponed_login.is_none() && !is_look;
        if !logs_in && !is_look {
            self.metrics.postponed_logins.inc();
        }
        if logs_in && has_login(R::target(&scheduled.prepared)) {
            scheduled.logged_in_at = Some(now);
        }
        let terms = RoundTerms {
            sequence: scheduled.sequence,
            postponed_login,
            namespaces: scheduled.subscribers.namespaces(),
            is_used: scheduled.subscribers.are_used(),
            interval: scheduled.subscribers.interval(),
            is_look,
        };
        let (runner, prepared, known) = (self.runner.clone(), scheduled.prepared.clone(), scheduled.known.clone());
        let (end, in_flight) = (scheduled.end.clone(), RoundInFlight::begin(&scheduled.in_flight));
        self.tasks.spawn(async move {
            // Not before the report says that it has started, however long this task waited.
            let began = Instant::now();
            let report = end.run_until_cancelled(runner.run(&prepared, terms, &known)).await?;
            Some(RoundEnd { target: number, started: now, began, takers, is_look, logs_in, report, in_flight })
        });
    }

    fn end_round(&mut self, ended: Option<RoundEnd>) {
        let Some(RoundEnd { target, started, began, takers, is_look, logs_in, mut report, in_flight }) = ended else {
            return;
        };
        let Some(scheduled) = self.targets.get_mut(&target) else { return };
        if logs_in {
            let interval = scheduled.subscribers.interval();
            scheduled.login_pace.observe(started, Instant::now(), interval, &mut report.outcome);
            let has_logged_in = report.addresses.iter().any(|at| at.outcome.stage >= Stage::Auth);
            if !has_logged_in && scheduled.logged_in_at == Some(started) {
                scheduled.logged_in_at = None;
            }
        }
        let look = Look { started: began, effect: report.outcome.class.effect(), stage: report.outcome.stage };
        if look.effect == Effect::Success {
            scheduled.usual.observe(report.outcome.elapsed);
        }
        let (rule, interval) = (scheduled.subscribers.confirmation(), scheduled.subscribers.interval());
        scheduled.confirmation.observe(&rule, interval, look, Instant::now());
        if scheduled.subscribers.want_idle_sessions() {
            let terms = IdleTerms {
                namespaces: scheduled.subscribers.namespaces(),
                is_used: scheduled.subscribers.are_used(),
                interval,
            };
            self.idle.found(target, (scheduled.prepared.clone(), terms), began, &report);
        }
        if look.effect == Effect::Failure {
            let due = scheduled.due;
            scheduled.set_due(target, due, &mut self.timers);
        }
        if is_look {
            // It may have gone less deep than a round.
            let reports = scheduled.subscribers.reports_to(&takers, &report);
            return self.deliver(reports, Some(in_flight));
        }
        let reports = scheduled.subscribers.reports(&takers, started, &report);
        if scheduled.latest.as_ref().is_none_or(|(latest, _)| *latest < started) {
            scheduled.latest = Some((started, report));
        }
        self.deliver(reports, Some(in_flight));
    }

    /// Hands the reports of a round to the controller. What finds no room waits in a task of its own, and the round counts
    /// as under way for as long.
    fn deliver(&mut self, reports: Vec<ProbeReport>, in_flight: Option<RoundInFlight>) {
        let mut reports = reports.into_iter();
        let mut refused = None;
        for report in reports.by_ref() {
            match self.reports.try_send(report) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(report)) => {
                    refused = Some(report);
                    break;
                }
            }
        }
        let Some(refused) = refused else { return };
        let queue = self.reports.clone();
        let waiting: Vec<_> = std::iter::once(refused).chain(reports).collect();
        self.metrics.report_waits.inc_by(waiting.len() as u64);
        self.tasks.spawn(async move {
            for report in waiting {
                // `send` fails only during shutdown, when the receiver is gone.
                queue.send(report).await.ok()?;
            }
            drop(in_flight);
            None
        });
    }
}

/// State that a subscriber takes from the target that it leaves.
struct LeftTarget {
    identity: Arc<ProbeIdentity>,
    known: KnownAddresses,
    login_pace: LoginPace,
    last_start: Option<Instant>,
    logged_in_at: Option<Instant>,
}

impl<R: Runner> ScheduledTarget<R> {
    fn rounds_under_way(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Follows the endpoints of a Service. Returns true if they are others now.
    fn follow(&mut self, target: ProbeTarget, runner: &R) -> bool {
        let is_elsewhere = R::target(&self.prepared).destination != target.destination;
        if is_elsewhere {
            self.prepared = Arc::new(runner.prepare(target));
        }
        is_elsewhere
    }

    /// Earliest time of the next log-in after a change; `None` if any time will do.
    fn next_login(&self) -> Option<Instant> {
        Some(self.logged_in_at? + self.subscribers.interval())
    }

    /// Time after which a round without a result is suspect; `None` if its timeout ends it before.
    fn patience(&self) -> Option<Duration> {
        self.usual.patience(R::target(&self.prepared).timeout)
    }

    fn set_due(&mut self, number: u64, due: Instant, timers: &mut DelayQueue<u64>) {
        let due = self.confirmation.align(due, self.subscribers.interval());
        self.due = due;
        let next = self.confirmation.next().map_or(due, |look| look.min(due));
        // `reset_at` would panic if the timer were gone.
        timers.try_remove(&self.timer);
        self.timer = timers.insert_at(number, next);
    }
}

/// Returns true if rounds of a target log in.
fn has_login(target: &ProbeTarget) -> bool {
    match target.login {
        ProbeLogin::With(_) => target.depth >= Depth::Auth,
        ProbeLogin::None | ProbeLogin::Missing { .. } => false,
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
