//! The queue of a policy: which message goes to which receiver when, and what has become of it.
//!
//! Messages of a receiver are told in their order, one at a time, and only those that stand in the policy's status: a
//! process that begins afterwards goes on under the same ids.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_api::{
    NotificationsStatus, QueuedNotification, ReceiverStatus, TestNotificationStatus, TestResultStatus,
};
use mail_failover_core::model::{Occasion, Receiver, ReceiverKind, Timestamp};
use mail_failover_resolve::CallFailure;
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::{micro_time, timestamp};
use mail_failover_runtime::backoff::Backoff;

use super::message::{about, occasion};

/// The API's bound on the messages that wait.
pub const MAX_QUEUE: usize = 32;
/// Time after which a message is given up.
const TOO_OLD: Duration = Duration::from_hours(24);
/// Time that calls of a receiver fail before people are told.
const FAILING_AFTER: Duration = Duration::from_secs(30);
/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Messages that a receiver is told at once, and the time in which one more becomes possible.
// ADR-0146: What people are told is grouped, and bounded in rate.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(20);
/// Attempts of a message that its receiver refuses as it is.
const REFUSALS: u32 = 3;
/// Pause between two tellings of what lasts.
const RETELL: Duration = Duration::from_mins(1);

/// The queue of a policy.
#[derive(Debug, Default)]
pub struct Deliveries {
    queue: Vec<QueuedNotification>,
    progress: BTreeMap<Arc<str>, Progress>,
    dropped: i64,
    test: Option<TestNotificationStatus>,
}

/// Progress of one receiver.
#[derive(Debug)]
struct Progress {
    delivered: Option<(String, Timestamp)>,
    under_way: Option<UnderWay>,
    failure: Option<CallFailure>,
    backoff: Backoff,
    tokens: u32,
    refilled_at: Option<Timestamp>,
    /// A message whose answer was lost.
    doubtful: Option<String>,
    /// Refusals of the message at the head.
    refusals: u32,
    retold_at: Option<Timestamp>,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    /// The message; `None` when what lasts is told again.
    id: Option<String>,
}

/// A call to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedDelivery {
    /// Name of the receiver.
    pub receiver: Arc<str>,
    /// The message; `None` when what lasts is to be told again.
    pub message: Option<QueuedNotification>,
    /// True if an earlier attempt may have arrived.
    pub is_repeated: bool,
}

/// End of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver has taken the message.
    Accepted,
    /// It has not, or nobody knows.
    Failed(FailedDelivery),
}

/// Failure of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedDelivery {
    /// Reason for people.
    pub message: String,
    /// Pause that the receiver asks for.
    pub retry_after: Option<Duration>,
    /// True if the receiver does not take this message as it is.
    pub is_refusal: bool,
    /// True if the message may have arrived all the same.
    pub is_doubtful: bool,
}

/// Reason for which a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// More wait than there is room for.
    QueueFull,
    /// It was a day old.
    TooOld,
    /// The receiver does not take it as it is.
    Refused,
}

impl DropReason {
    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooOld => "too_old",
            Self::Refused => "refused",
        }
    }
}

/// State of all receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Nothing waits.
    Delivered,
    /// Names of the receivers that a message waits for.
    Pending(Vec<String>),
    /// Names and failures of the receivers that have failed for a while.
    Failing(Vec<(String, String)>),
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            delivered: None,
            under_way: None,
            failure: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            tokens: BURST,
            refilled_at: None,
            doubtful: None,
            refusals: 0,
            retold_at: None,
        }
    }
}

impl Progress {
    fn restored(status: &ReceiverStatus) -> Self {
        let delivered = status.delivered.clone().zip(status.delivered_at.as_ref().map(timestamp));
        let failure = status.failure.as_ref().map(CallFailure::restored);
        Self { delivered, failure, ..Self::default() }
    }

    /// Time at which a further message may be told; `None` if it may now.
    fn limited_until(&mut self, now: Timestamp) -> Option<Timestamp> {
        let refilled_at = *self.refilled_at.get_or_insert(now);
        let intervals = now.since(refilled_at).as_secs() / REFILL.as_secs();
        if intervals > 0 {
            let more = u32::try_from(intervals).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(more).min(BURST);
            self.refilled_at = Some(refilled_at + REFILL.saturating_mul(more));
        }
        (self.tokens == 0).then_some(refilled_at + REFILL).map(|at| at.max(now + Duration::from_millis(1)))
    }

    fn fail(&mut self, now: Timestamp, random: f64, failed: &FailedDelivery) {
        let not_before = failed.retry_after.map(|pause| now + pause);
        let retry_at = now + self.backoff.after_failure_with(random);
        let failure = CallFailure::following(self.failure.as_ref(), now, &failed.message);
        self.failure.insert(failure).pause(retry_at, not_before);
    }

    fn succeed(&mut self) {
        self.failure = None;
        self.refusals = 0;
        self.backoff.reset();
    }
}

impl Deliveries {
    /// The queue that a status remembers.
    pub fn restored(status: Option<&NotificationsStatus>) -> Self {
        let Some(NotificationsStatus { receivers, queue, dropped, test }) = status else { return Self::default() };
        let mut progress = BTreeMap::new();
        for receiver in receivers {
            let mut restored = Progress::restored(receiver);
            // What was on its way when an earlier process ended, nobody knows; only the first one can have been.
            let first = queue.iter().find(|message| message.waiting.contains(&receiver.name));
            restored.doubtful = first.map(|message| message.id.clone());
            progress.insert(receiver.name.as_str().into(), restored);
        }
        Self { queue: queue.clone(), progress, dropped: dropped.unwrap_or_default(), test: test.clone() }
    }

    /// Returns true if a message tells a notification of a route.
    pub fn tells(&self, member: &str) -> bool {
        self.queue.iter().any(|message| message.members.iter().any(|one| one == member))
    }

    /// Adds a message for the receivers that want it.
    pub fn push(&mut self, mut message: QueuedNotification, receivers: &[Receiver]) {
        let about = about(&message).filter(|_| message.incident.is_some());
        let occasion = occasion(&message);
        let wanting = receivers.iter().filter(|receiver| receiver.wants(occasion, about));
        message.waiting = wanting.map(|receiver| receiver.name.to_string()).collect();
        self.queue.push(message);
    }

    /// Gives up the oldest message that is not under way if there is no room for another one. Returns the reason if
    /// one was given up.
    pub fn make_room(&mut self) -> Option<DropReason> {
        if !self.is_full() {
            return None;
        }
        let under_way: Vec<_> = self.progress.values().filter_map(|one| one.under_way.as_ref()?.id.clone()).collect();
        let mut droppable = self.queue.iter_mut().filter(|one| !one.waiting.is_empty() && !under_way.contains(&one.id));
        droppable.next()?.waiting.clear();
        self.dropped += 1;
        // Its members stay until the routes have dropped them.
        self.queue.retain(|message| !message.waiting.is_empty() || !message.members.is_empty());
        Some(DropReason::QueueFull)
    }

    /// Returns true if the queue takes no further message now.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= MAX_QUEUE
    }

    /// Begins a test, unless that of this id was begun already. Returns true if it has begun. While there is no room the
    /// answer says so.
    pub fn test(&mut self, now: Timestamp, id: &str, message: QueuedNotification, receivers: &[Receiver]) -> bool {
        if self.test.as_ref().is_some_and(|test| test.id == id) {
            return false;
        }
        self.queue.retain(|message| occasion(message) != Occasion::Test);
        if self.is_full() {
            self.refuse_test(now, id, receivers);
            return false;
        }
        self.test = Some(TestNotificationStatus { id: id.to_owned(), at: Some(micro_time(now)), results: vec![] });
        self.push(message, receivers);
        true
    }

    /// Answers a test that there is no room for.
    // No message of routes is given up for one.
    fn refuse_test(&mut self, now: Timestamp, id: &str, receivers: &[Receiver]) {
        let mut blocking = vec![];
        for receiver in receivers {
            let waiting =
                self.queue.iter().filter(|message| message.waiting.iter().any(|name| **name == *receiver.name));
            let count = waiting.count();
            if count > 0 {
                blocking.push(format!("{count} messages wait for {}", receiver.name));
            }
        }
        if blocking.is_empty() {
            // Routes are about to drop what all of it tells. That makes room, and the test begins then.
            return;
        }
        let why =
            format!("not tried: the queue is full, {}; once it is shorter, ask under another id", blocking.join(", "));
        let results = receivers.iter().map(|receiver| TestResultStatus {
            receiver: receiver.name.to_string(),
            accepted: false,
            message: truncated(&why, MAX_MESSAGE),
        });
        let results = results.collect();
        self.test = Some(TestNotificationStatus { id: id.to_owned(), at: Some(micro_time(now)), results });
    }

    /// Forgets receivers that left the spec, members that routes have dropped, and messages that are done or too old.
    /// Returns the reasons for which messages were given up.
    pub fn tidy(
        &mut self,
        now: Timestamp,
        receivers: &[Receiver],
        is_pending: impl Fn(&str) -> bool,
    ) -> Vec<DropReason> {
        self.progress.retain(|name, _| receivers.iter().any(|receiver| receiver.name == *name));
        for receiver in receivers {
            self.progress.entry(receiver.name.clone()).or_default();
        }
        let mut dropped = vec![];
        for message in &mut self.queue {
            message.waiting.retain(|name| receivers.iter().any(|receiver| *receiver.name == **name));
            message.members.retain(|member| is_pending(member));
            if timestamp(&message.at) + TOO_OLD <= now && !message.waiting.is_empty() {
                message.waiting.clear();
                dropped.push(DropReason::TooOld);
            }
        }
        self.queue.retain(|message| !message.waiting.is_empty() || !message.members.is_empty());
        self.dropped += i64::try_from(dropped.len()).unwrap_or_default();
        dropped
    }

    /// The calls to begin now, of messages that stand in `persisted`, and the time at which more may be possible or is
    /// to be told. `lasts` looks up if something lasts that an Alertmanager is to be told again.
    pub fn plan(
        &mut self,
        now: Timestamp,
        receivers: &[Receiver],
        persisted: Option<&NotificationsStatus>,
        lasts: impl Fn(&Receiver) -> bool,
    ) -> (Vec<PlannedDelivery>, Option<Timestamp>) {
        let (mut planned, mut next_timeout) = (vec![], None);
        for receiver in receivers {
            let Some(progress) = self.progress.get_mut(&receiver.name) else { continue };
            if progress.under_way.is_some() {
                continue;
            }
            let head = self.queue.iter().find(|message| message.waiting.iter().any(|name| **name == *receiver.name));
            let retells = matches!(receiver.kind, ReceiverKind::Alertmanager { .. }) && lasts(receiver);
            let retell_at = progress.retold_at.map_or(now, |at| at + RETELL);
            if head.is_none() && !retells {
                continue;
            }
            if let Some(failure) = &progress.failure {
                let paused_until = failure.paused_until(now);
                let told_at = failure.lasts_at(FAILING_AFTER, now);
                next_timeout = next_timeout.into_iter().chain(told_at).chain(paused_until).min();
                if paused_until.is_some() {
                    continue;
                }
            }
            let Some(message) = head else {
                if retell_at <= now {
                    planned.push(PlannedDelivery {
                        receiver: receiver.name.clone(),
                        message: None,
                        is_repeated: false,
                    });
                } else {
                    next_timeout = next_timeout.into_iter().chain([retell_at]).min();
                }
                continue;
            };
            let is_persisted = persisted.is_some_and(|status| status.queue.iter().any(|one| one.id == message.id));
            if !is_persisted {
                continue;
            }
            if let Some(until) = progress.limited_until(now) {
                next_timeout = next_timeout.into_iter().chain([until]).min();
                continue;
            }
            let is_repeated = progress.doubtful.as_ref() == Some(&message.id);
            planned.push(PlannedDelivery {
                receiver: receiver.name.clone(),
                message: Some(message.clone()),
                is_repeated,
            });
        }
        (planned, next_timeout)
    }

    /// Notes that a planned call has begun.
    pub fn begun(&mut self, number: u64, planned: &PlannedDelivery) {
        let Some(progress) = self.progress.get_mut(&planned.receiver) else { return };
        let id = planned.message.as_ref().map(|message| message.id.clone());
        if id.is_some() {
            progress.tokens = progress.tokens.saturating_sub(1);
        }
        progress.under_way = Some(UnderWay { number, id });
    }

    /// Notes that a planned call could not be made, for a reason of our own.
    pub fn not_begun(&mut self, now: Timestamp, random: f64, planned: &PlannedDelivery, message: &str) {
        let failed = FailedDelivery { message: message.to_owned(), ..FailedDelivery::default() };
        let id = planned.message.as_ref().map(|message| message.id.clone());
        self.failed(now, random, &planned.receiver, id.as_deref(), &failed);
    }

    /// Notes the end of a call. `random` is a number from 0 to 1. Returns the reason if the message was given up.
    pub fn ended(
        &mut self,
        now: Timestamp,
        random: f64,
        number: u64,
        receiver: &str,
        outcome: &DeliveryOutcome,
    ) -> Option<DropReason> {
        let progress = self.progress.get_mut(receiver)?;
        let under_way = progress.under_way.take_if(|under_way| under_way.number == number)?;
        match (outcome, under_way.id) {
            (DeliveryOutcome::Accepted, id) => {
                progress.succeed();
                progress.retold_at = Some(now);
                if let Some(id) = id {
                    self.accepted(now, receiver, &id);
                }
                None
            }
            (DeliveryOutcome::Failed(failed), id) => self.failed(now, random, receiver, id.as_deref(), failed),
        }
    }

    fn accepted(&mut self, now: Timestamp, receiver: &str, id: &str) {
        if let Some(progress) = self.progress.get_mut(receiver) {
            progress.delivered = Some((id.to_owned(), now));
            progress.doubtful = None;
        }
        self.no_longer_waits(receiver, id, true, "");
    }

    fn failed(
        &mut self,
        now: Timestamp,
        random: f64,
        receiver: &str,
        id: Option<&str>,
        failed: &FailedDelivery,
    ) -> Option<DropReason> {
        let progress = self.progress.get_mut(receiver)?;
        progress.fail(now, random, failed);
        let id = id?;
        if failed.is_doubtful {
            progress.doubtful = Some(id.to_owned());
        }
        progress.refusals = if failed.is_refusal { progress.refusals + 1 } else { 0 };
        let is_given_up = progress.refusals >= REFUSALS;
        if is_given_up {
            progress.refusals = 0;
        }
        let is_test = self.queue.iter().any(|message| message.id == id && occasion(message) == Occasion::Test);
        if is_test {
            // Who has asked waits for an answer.
            self.no_longer_waits(receiver, id, false, &failed.message);
            return None;
        }
        if is_given_up {
            self.no_longer_waits(receiver, id, false, "");
            self.dropped += 1;
        }
        is_given_up.then_some(DropReason::Refused)
    }

    fn no_longer_waits(&mut self, receiver: &str, id: &str, is_accepted: bool, why: &str) {
        let Some(message) = self.queue.iter_mut().find(|message| message.id == id) else { return };
        message.waiting.retain(|name| name != receiver);
        if let (Occasion::Test, Some(test)) = (occasion(message), &mut self.test) {
            let message = truncated(why, MAX_MESSAGE);
            test.results.push(TestResultStatus { receiver: receiver.to_owned(), accepted: is_accepted, message });
        }
    }

    /// The state of all receivers.
    pub fn state(&self, now: Timestamp) -> DeliveryState {
        let (mut pending, mut failing) = (vec![], vec![]);
        for (name, progress) in &self.progress {
            let failure = progress.failure.as_ref().filter(|failure| failure.has_lasted(FAILING_AFTER, now));
            if let Some(failure) = failure {
                failing.push((name.to_string(), failure.message.clone()));
            } else if self.queue.iter().any(|message| message.waiting.iter().any(|waiting| **waiting == **name)) {
                pending.push(name.to_string());
            }
        }
        match (failing.is_empty(), pending.is_empty()) {
            (false, _) => DeliveryState::Failing(failing),
            (true, false) => DeliveryState::Pending(pending),
            (true, true) => DeliveryState::Delivered,
        }
    }

    /// Number of the messages that wait for a receiver.
    pub fn waiting(&self) -> usize {
        self.queue.iter().filter(|message| !message.waiting.is_empty()).count()
    }

    /// The part of a policy's status.
    pub fn status(&self, receivers: &[Receiver]) -> NotificationsStatus {
        let receivers = receivers.iter().filter_map(|receiver| {
            let progress = self.progress.get(&receiver.name)?;
            Some(ReceiverStatus {
                name: receiver.name.to_string(),
                delivered: progress.delivered.as_ref().map(|(id, _)| id.clone()),
                delivered_at: progress.delivered.as_ref().map(|(_, at)| micro_time(*at)),
                failure: progress.failure.as_ref().map(CallFailure::status),
            })
        });
        NotificationsStatus {
            receivers: receivers.collect(),
            queue: self.queue.clone(),
            dropped: Some(self.dropped).filter(|dropped| *dropped > 0),
            test: self.test.clone(),
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
