use mail_failover_core::model::EvidenceClass;

use super::*;
use crate::core::log_event::Place;

const MINUTE: Duration = Duration::from_mins(1);

fn at(minutes: u32) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000) + MINUTE * minutes
}

/// A delivery of a message, with the text of its refusal if it was kept.
fn delivery(message: u64, disposition: Disposition, text: Option<u64>) -> Delivery {
    Delivery {
        place: Place { host: "a.example".into(), port: Some(25), backend: None },
        class: EvidenceClass::Permanent,
        disposition,
        took: Duration::from_millis(10),
        message,
        recipient: message + 1000,
        age: MINUTE,
        refusal: text.map(|text| MessageRefusal { about: About::Unknown, text }),
        summary: "".into(),
        logged: None,
        stage: None,
    }
}

#[derive(Default)]
struct Setting {
    refusals: Refusals,
}

impl Setting {
    fn refuses(&mut self, minutes: u32, backend: &str, message: u64, text: u64) {
        self.refusals.handle(at(minutes), &backend.into(), &delivery(message, Disposition::Deferred, Some(text)));
    }

    fn carries(&mut self, minutes: u32, backend: &str, message: u64) {
        self.refusals.handle(at(minutes), &backend.into(), &delivery(message, Disposition::Sent, None));
    }

    fn learnt(&self) -> LearntRefusals {
        self.refusals.learnt(&[state("a"), state("b")])
    }
}

fn state(name: &str) -> BackendState {
    BackendState { name: name.into(), is_usable: true, failures: 1 }
}

/// Backends, each with a text.
fn readings(readings: &[(&str, u64)]) -> BTreeSet<(Arc<str>, u64)> {
    readings.iter().map(|(name, text)| (Arc::from(*name), *text)).collect()
}

fn avoids(recipient: u64, backends: &[&str]) -> BTreeMap<u64, BTreeSet<Arc<str>>> {
    [(recipient, backends.iter().map(|name| Arc::from(*name)).collect())].into()
}

#[test]
fn a_message_is_offered_elsewhere_once_its_backend_has_carried_another_one() {
    let mut setting = Setting::default();
    setting.refuses(0, "a", 1, 7);
    assert_eq!(setting.learnt(), LearntRefusals::default(), "the backend may refuse everything");
    setting.carries(1, "b", 2);
    setting.carries(1, "a", 1);
    assert_eq!(setting.learnt(), LearntRefusals::default(), "another backend; the same message");
    setting.refuses(2, "a", 1, 7);
    setting.carries(3, "a", 2);
    assert_eq!(setting.learnt().avoided, avoids(1001, &["a"]));
    assert_eq!(setting.learnt().of_messages, readings(&[("a", 7)]));
    assert_eq!(setting.learnt().settled, readings(&[]), "b may take it");
    setting.carries(4, "b", 1);
    assert_eq!(setting.learnt(), LearntRefusals::default(), "b has taken it");
    assert_eq!(setting.refusals.view(), None);
}

#[test]
fn what_every_usable_backend_refuses_stands_where_other_mail_is_carried() {
    let mut setting = Setting::default();
    setting.refuses(0, "a", 1, 7);
    setting.carries(1, "a", 2);
    setting.refuses(2, "b", 1, 8);
    let learnt = setting.learnt();
    assert_eq!((learnt.avoided, learnt.settled), (BTreeMap::new(), readings(&[("a", 7)])));
    setting.carries(3, "b", 3);
    assert_eq!(setting.learnt().settled, readings(&[("a", 7), ("b", 8)]));
    let bounced = delivery(1, Disposition::Bounced, Some(7));
    setting.refusals.handle(at(4), &"a".into(), &bounced);
    assert_eq!(setting.learnt(), LearntRefusals::default(), "each message has its own chance");
}

#[test]
fn a_single_backend_that_carries_other_mail_refuses_the_message_for_itself() {
    let mut setting = Setting::default();
    setting.refuses(0, "a", 1, 7);
    setting.carries(1, "a", 2);
    let alone = [state("a"), BackendState { is_usable: false, ..state("b") }];
    let learnt = setting.refusals.learnt(&alone);
    assert_eq!((learnt.avoided, learnt.settled), (BTreeMap::new(), readings(&[("a", 7)])));
}

#[test]
fn a_backend_that_fails_says_nothing_about_single_messages() {
    let mut setting = Setting::default();
    setting.refuses(0, "a", 1, 7);
    setting.carries(1, "a", 2);
    setting.refuses(2, "b", 1, 8);
    let failing = [BackendState { failures: UNSTEADY, ..state("a") }, state("b")];
    assert_eq!(setting.refusals.learnt(&failing), LearntRefusals::default());
    assert!(is_turn(UNSTEADY - 1, UNSTEADY) && is_turn(UNSTEADY, 0) && !is_turn(0, 1));
}

#[test]
fn a_second_refusal_is_enough_to_offer_it_elsewhere() {
    let mut setting = Setting::default();
    setting.refuses(0, "a", 1, 7);
    setting.refuses(0, "a", 1, 7);
    assert_eq!(setting.learnt(), LearntRefusals::default(), "recipients of one attempt");
    setting.refuses(1, "a", 1, 7);
    assert_eq!(setting.learnt(), LearntRefusals { avoided: avoids(1001, &["a"]), ..LearntRefusals::default() });
}

#[test]
fn what_is_offered_nowhere_else_stands_after_an_hour() {
    let mut setting = Setting::default();
    setting.refuses(0, "a", 1, 7);
    setting.carries(1, "a", 2);
    assert_eq!(setting.refusals.next_timeout(), Some(at(60)));
    assert!(!setting.refusals.handle_timeout(at(59)));
    assert!(setting.refusals.handle_timeout(at(60)));
    assert_eq!(setting.learnt().settled, readings(&[("a", 7)]));
}

#[test]
fn kept_messages_are_counted_with_the_age_of_the_oldest_and_forgotten_when_they_are_gone() {
    let mut setting = Setting::default();
    setting.refuses(10, "a", 1, 7);
    setting.refuses(12, "a", 2, 7);
    setting.refuses(13, "b", 1, 8);
    let KeptView { mail, by_about } = setting.refusals.view().unwrap();
    assert_eq!((mail.messages, mail.oldest_at, &*mail.about, &*mail.backend), (2, at(9), "Unknown", "b"));
    assert_eq!(by_about, [(About::Unknown, 2)].into());
    assert!(setting.refusals.gone(1) && !setting.refusals.gone(1));
    assert_eq!(setting.refusals.view().unwrap().mail.messages, 1);
    assert!(setting.refusals.handle_timeout(at(12) + FOLLOWED));
    assert_eq!((setting.refusals.view(), setting.refusals.alone.len()), (None, 0));
}

#[test]
fn no_number_of_messages_takes_more_memory() {
    let mut setting = Setting::default();
    for message in 0..10_000 {
        setting.refuses(0, "a", message, 7);
    }
    assert_eq!((setting.refusals.kept.len(), setting.refusals.alone.len()), (MAX_MESSAGES, MAX_MESSAGES));
}
