use std::collections::BTreeMap;

use mail_failover_core::model::Severity;

use super::*;
use crate::message::testing::{failback, failover};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_796_000_100 + seconds) * 1_000_000)
}

fn receiver(name: &str, kind: ReceiverKind) -> Receiver {
    let occasions = Occasion::selectable();
    Receiver { name: name.into(), kind, secret: None, ca: None, occasions, minimum: Severity::Info }
}

fn chat_and_pager() -> Vec<Receiver> {
    vec![
        receiver("chat", ReceiverKind::Slack),
        receiver("pager", ReceiverKind::PagerDuty { url: "https://p.example".into() }),
    ]
}

fn alertmanager() -> Vec<Receiver> {
    vec![receiver("am", ReceiverKind::Alertmanager { url: "http://am:9093".into() })]
}

fn numbered(number: usize) -> QueuedNotification {
    QueuedNotification { id: format!("mf-{number}"), ..failover() }
}

/// A queue, and the status that was written last.
struct Trial {
    receivers: Vec<Receiver>,
    deliveries: Deliveries,
    persisted: NotificationsStatus,
    number: u64,
    /// Receivers by message, for each call.
    calls: Vec<(String, String)>,
}

impl Trial {
    fn new(receivers: Vec<Receiver>) -> Self {
        let mut deliveries = Deliveries::default();
        deliveries.tidy(at(0), &receivers, |_| true);
        Self { receivers, deliveries, persisted: NotificationsStatus::default(), number: 0, calls: vec![] }
    }

    fn push(&mut self, message: QueuedNotification) {
        self.deliveries.push(message, &self.receivers);
    }

    fn persist(&mut self) {
        self.persisted = self.deliveries.status(&self.receivers);
    }

    /// Begins what is planned; returns the calls with their numbers.
    fn begin(&mut self, seconds: i64) -> Vec<(u64, PlannedDelivery)> {
        let (planned, _) = self.deliveries.plan(at(seconds), &self.receivers, Some(&self.persisted), |_| false);
        let mut begun = vec![];
        for one in planned {
            self.number += 1;
            self.deliveries.begun(self.number, &one);
            let id = one.message.as_ref().map(|message| message.id.clone()).unwrap_or_default();
            self.calls.push((one.receiver.to_string(), id));
            begun.push((self.number, one));
        }
        begun
    }

    fn end(&mut self, seconds: i64, call: &(u64, PlannedDelivery), outcome: &DeliveryOutcome) -> Option<DropReason> {
        let dropped = self.deliveries.ended(at(seconds), 1.0, call.0, &call.1.receiver, outcome);
        self.deliveries.tidy(at(seconds), &self.receivers, |_| false);
        dropped
    }

    fn restart(&mut self) {
        self.deliveries = Deliveries::restored(Some(&self.persisted));
        self.deliveries.tidy(at(0), &self.receivers, |_| false);
    }
}

fn failed(is_doubtful: bool) -> DeliveryOutcome {
    let message = "no answer within 10.0 s".to_owned();
    DeliveryOutcome::Failed(FailedDelivery { message, is_doubtful, ..FailedDelivery::default() })
}

#[test]
fn nothing_is_told_before_it_stands_in_the_status_and_each_receiver_is_told_once() {
    let mut trial = Trial::new(chat_and_pager());
    trial.push(failover());
    assert!(trial.begin(0).is_empty());
    trial.persist();
    let calls = trial.begin(0);
    assert_eq!(calls.len(), 2);
    assert!(trial.begin(1).is_empty(), "one at a time");
    for call in &calls {
        trial.end(1, call, &DeliveryOutcome::Accepted);
    }
    assert!(trial.begin(2).is_empty());
    let status = trial.deliveries.status(&trial.receivers);
    assert!(status.queue.is_empty() && status.dropped.is_none());
    assert!(status.receivers.iter().all(|one| one.delivered.as_deref() == Some("mf-0123456789abcdef")));
    assert_eq!(trial.deliveries.state(at(2)), DeliveryState::Delivered);
}

#[test]
fn a_receiver_is_told_in_order_and_one_that_fails_holds_up_no_other() {
    let mut trial = Trial::new(chat_and_pager());
    trial.push(numbered(1));
    trial.push(numbered(2));
    trial.persist();
    let calls = trial.begin(0);
    trial.end(0, &calls[0], &DeliveryOutcome::Accepted);
    trial.end(0, &calls[1], &failed(false));
    let next = trial.begin(0);
    trial.end(0, &next[0], &DeliveryOutcome::Accepted);
    assert!(trial.begin(0).is_empty(), "a pause first");
    let again = trial.begin(2);
    assert_eq!(trial.calls[3], ("pager".to_owned(), "mf-1".to_owned()));
    assert!(!again[0].1.is_repeated, "it did not arrive");
    trial.end(2, &again[0], &DeliveryOutcome::Accepted);
    trial.begin(2);
    assert_eq!(trial.calls[4], ("pager".to_owned(), "mf-2".to_owned()));
}

#[test]
fn after_a_lost_answer_or_a_restart_the_same_message_is_told_again_and_counted() {
    let mut trial = Trial::new(chat_and_pager());
    trial.push(numbered(1));
    trial.persist();
    let calls = trial.begin(0);
    trial.end(0, &calls[0], &failed(true));
    let again = trial.begin(2);
    assert_eq!((again.len(), again[0].1.is_repeated), (1, true));
    trial.end(2, &again[0], &DeliveryOutcome::Accepted);
    trial.persist();
    trial.restart();
    // The pager's call was under way.
    let calls = trial.begin(3);
    assert_eq!((calls.len(), &*calls[0].1.receiver, calls[0].1.is_repeated), (1, "pager", true));
    assert_eq!(calls[0].1.message.as_ref().unwrap().id, "mf-1");
}

#[test]
fn a_receiver_that_asks_for_patience_has_it_over_a_restart_too() {
    let mut trial = Trial::new(chat_and_pager());
    trial.push(numbered(1));
    trial.persist();
    let calls = trial.begin(0);
    let busy = FailedDelivery { retry_after: Some(Duration::from_mins(2)), ..FailedDelivery::default() };
    for call in &calls {
        trial.end(0, call, &DeliveryOutcome::Failed(busy.clone()));
    }
    trial.persist();
    trial.restart();
    assert!(trial.begin(119).is_empty());
    assert_eq!(trial.begin(120).len(), 2);
}

#[test]
fn a_failure_is_told_after_a_while_and_pauses_grow() {
    let mut trial = Trial::new(chat_and_pager()[..1].to_vec());
    trial.push(numbered(1));
    trial.persist();
    let mut attempts = vec![];
    for second in 0..1000 {
        for call in trial.begin(second) {
            attempts.push(second);
            trial.end(second, &call, &failed(true));
        }
    }
    assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]);
    assert_eq!(trial.deliveries.state(at(20)), DeliveryState::Pending(vec!["chat".to_owned()]));
    let failing = DeliveryState::Failing(vec![("chat".to_owned(), "no answer within 10.0 s".to_owned())]);
    assert_eq!(trial.deliveries.state(at(30)), failing);
}

#[test]
fn what_people_are_told_is_bounded_in_rate_and_nothing_is_lost_by_that() {
    let mut trial = Trial::new(chat_and_pager()[..1].to_vec());
    for number in 0..20 {
        trial.push(numbered(number));
    }
    trial.persist();
    let mut told = BTreeMap::new();
    for second in 0..300 {
        while let Some(call) = trial.begin(second).pop() {
            *told.entry(second).or_insert(0) += 1;
            trial.end(second, &call, &DeliveryOutcome::Accepted);
        }
    }
    assert_eq!(told.get(&0), Some(&10));
    assert_eq!(told.values().sum::<i32>(), 20);
    assert_eq!(told.keys().nth(1), Some(&20));
}

#[test]
fn the_queue_has_a_bound_and_the_oldest_is_given_up_and_counted() {
    let mut trial = Trial::new(chat_and_pager());
    for number in 0..MAX_QUEUE + 3 {
        let dropped = trial.deliveries.make_room();
        assert_eq!(dropped.is_some(), number >= MAX_QUEUE, "{number}");
        assert!(!trial.deliveries.is_full());
        trial.push(numbered(number));
    }
    let status = trial.deliveries.status(&trial.receivers);
    assert_eq!((status.queue.len(), status.dropped, status.queue[0].id.as_str()), (MAX_QUEUE, Some(3), "mf-3"));
    // What routes have not dropped yet keeps its place: it must not be told a second time.
    let mut trial = Trial::new(chat_and_pager());
    for number in 0..MAX_QUEUE {
        trial.push(QueuedNotification { members: vec![number.to_string()], ..numbered(number) });
    }
    assert_eq!(trial.deliveries.make_room(), Some(DropReason::QueueFull));
    assert!(trial.deliveries.is_full() && trial.deliveries.tells("0"));
}

#[test]
fn a_message_stays_until_the_routes_have_dropped_what_it_tells() {
    let mut trial = Trial::new(chat_and_pager()[..1].to_vec());
    trial.push(QueuedNotification { members: vec!["m".to_owned()], ..failover() });
    trial.persist();
    let call = trial.begin(0).remove(0);
    trial.deliveries.ended(at(0), 0.0, call.0, "chat", &DeliveryOutcome::Accepted);
    trial.deliveries.tidy(at(1), &trial.receivers, |member| member == "m");
    assert!(trial.deliveries.tells("m") && trial.begin(1).is_empty());
    trial.deliveries.tidy(at(2), &trial.receivers, |_| false);
    assert!(trial.deliveries.status(&trial.receivers).queue.is_empty());
}

#[test]
fn a_message_that_is_refused_or_a_day_old_keeps_no_other_waiting() {
    let mut trial = Trial::new(chat_and_pager()[..1].to_vec());
    trial.push(numbered(1));
    trial.push(numbered(2));
    trial.persist();
    let refused = DeliveryOutcome::Failed(FailedDelivery { is_refusal: true, ..FailedDelivery::default() });
    let mut dropped = vec![];
    for second in [0, 2, 5] {
        let call = trial.begin(second).remove(0);
        dropped.extend(trial.end(second, &call, &refused));
    }
    assert_eq!(dropped, [DropReason::Refused]);
    assert_eq!(trial.begin(20)[0].1.message.as_ref().unwrap().id, "mf-2");
    let mut trial = Trial::new(chat_and_pager());
    trial.push(failover());
    let day = 24 * 3600;
    assert!(trial.deliveries.tidy(at(day - 100), &trial.receivers, |_| false).is_empty());
    assert_eq!(trial.deliveries.tidy(at(day), &trial.receivers, |_| false), [DropReason::TooOld]);
    assert_eq!(trial.deliveries.status(&trial.receivers).dropped, Some(1));
}

#[test]
fn one_that_knows_resolving_is_told_beginnings_and_ends_and_nothing_else() {
    let mut trial = Trial::new(chat_and_pager());
    trial.push(failover());
    trial.push(failback());
    trial.push(QueuedNotification {
        about: None,
        incident: None,
        resolved: false,
        id: "mf-2".to_owned(),
        ..failback()
    });
    let waiting: Vec<_> = trial.deliveries.status(&trial.receivers).queue.into_iter().map(|one| one.waiting).collect();
    assert_eq!(waiting, [vec!["chat", "pager"], vec!["chat", "pager"], vec!["chat"]]);
}

#[test]
fn an_alertmanager_is_told_again_each_minute_while_something_lasts() {
    let mut trial = Trial::new(alertmanager());
    let mut told = vec![];
    for second in 0..200 {
        let lasts = second < 150;
        let (planned, _) = trial.deliveries.plan(at(second), &trial.receivers, Some(&trial.persisted), |_| lasts);
        for one in planned {
            assert_eq!(one.message, None);
            trial.number += 1;
            trial.deliveries.begun(trial.number, &one);
            trial.deliveries.ended(at(second), 0.0, trial.number, "am", &DeliveryOutcome::Accepted);
            told.push(second);
        }
    }
    assert_eq!(told, [0, 60, 120]);
    assert_eq!(trial.deliveries.status(&trial.receivers).receivers[0].delivered, None, "no write for it");
}

#[test]
fn a_test_is_answered_for_each_receiver_after_one_attempt() {
    let mut trial = Trial::new(chat_and_pager());
    let message = crate::group::test_message(at(0), &crate::message::testing::policy(), "t1");
    assert!(trial.deliveries.test(at(0), "t1", message.clone(), &trial.receivers));
    assert!(!trial.deliveries.test(at(1), "t1", message, &trial.receivers));
    trial.persist();
    let calls = trial.begin(0);
    trial.end(0, &calls[0], &DeliveryOutcome::Accepted);
    trial.end(0, &calls[1], &failed(true));
    let status = trial.deliveries.status(&trial.receivers);
    let results = status.test.unwrap().results;
    assert_eq!(results[0], TestResultStatus { receiver: "chat".to_owned(), accepted: true, message: String::new() });
    assert_eq!((results[1].accepted, results[1].message.as_str()), (false, "no answer within 10.0 s"));
    assert!(status.queue.is_empty() && status.dropped.is_none());
}

#[test]
fn a_test_that_the_queue_has_no_room_for_is_answered_with_who_blocks_it() {
    let mut trial = Trial::new(chat_and_pager());
    for number in 0..MAX_QUEUE {
        trial.push(numbered(number));
    }
    for message in &mut trial.deliveries.queue {
        message.waiting = vec!["pager".to_owned()];
    }
    let message = |id: &str| crate::group::test_message(at(0), &crate::message::testing::policy(), id);
    assert!(!trial.deliveries.test(at(0), "t1", message("t1"), &trial.receivers));
    let status = trial.deliveries.status(&trial.receivers);
    assert_eq!(status.queue.len(), MAX_QUEUE, "nothing of routes is given up for it");
    let test = status.test.unwrap();
    assert_eq!((test.id.as_str(), test.results.len()), ("t1", 2));
    let why = "not tried: the queue is full, 32 messages wait for pager; once it is shorter, ask under another id";
    assert!(test.results.iter().all(|one| !one.accepted && one.message == why), "{:?}", test.results);
    trial.deliveries.queue.truncate(1);
    assert!(!trial.deliveries.test(at(1), "t1", message("t1"), &trial.receivers), "answered");
    assert!(trial.deliveries.test(at(1), "t2", message("t2"), &trial.receivers));
}

#[test]
fn a_test_waits_for_routes_to_drop_what_fills_the_queue_when_no_receiver_does() {
    let mut trial = Trial::new(chat_and_pager());
    for number in 0..MAX_QUEUE {
        trial.push(numbered(number));
    }
    for message in &mut trial.deliveries.queue {
        message.waiting.clear();
        message.members = vec!["m".to_owned()];
    }
    let message = || crate::group::test_message(at(0), &crate::message::testing::policy(), "t1");
    assert!(!trial.deliveries.test(at(0), "t1", message(), &trial.receivers));
    assert_eq!(trial.deliveries.status(&trial.receivers).test, None);
    trial.deliveries.tidy(at(1), &trial.receivers, |_| false);
    assert!(trial.deliveries.test(at(1), "t1", message(), &trial.receivers));
}

#[test]
fn a_receiver_that_left_the_spec_is_not_waited_for() {
    let mut trial = Trial::new(chat_and_pager());
    trial.push(failover());
    trial.receivers.truncate(1);
    trial.deliveries.tidy(at(0), &trial.receivers, |_| false);
    assert_eq!(trial.deliveries.status(&trial.receivers).queue[0].waiting, ["chat"]);
    trial.receivers.clear();
    trial.deliveries.tidy(at(0), &trial.receivers, |_| false);
    assert!(trial.deliveries.status(&trial.receivers).queue.is_empty());
}

#[test]
fn a_call_that_cannot_be_made_is_told_and_tried_again() {
    let mut trial = Trial::new(chat_and_pager()[..1].to_vec());
    trial.push(failover());
    trial.persist();
    let (planned, _) = trial.deliveries.plan(at(0), &trial.receivers, Some(&trial.persisted), |_| false);
    trial.deliveries.not_begun(at(0), 1.0, &planned[0], "secretRef: Secret s: it does not exist");
    assert!(trial.begin(0).is_empty());
    let failure = trial.deliveries.status(&trial.receivers).receivers[0].failure.clone().unwrap();
    assert_eq!(failure.message, "secretRef: Secret s: it does not exist");
    let call = trial.begin(1).remove(0);
    trial.end(1, &call, &DeliveryOutcome::Accepted);
    assert_eq!(trial.deliveries.status(&trial.receivers).receivers[0].failure, None);
}
