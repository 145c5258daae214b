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

    fn refuses_for(&mut self, minutes: u32, backend: &str, message: u64, about: About) {
        let refused = delivery(message, Disposition::Deferred, Some(7));
        let refused = Delivery { refusal: Some(MessageRefusal { about, text: 7 }), ..refused };
        self.refusals.handle(at(minutes), &backend.into(), &refused);
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
    // An idle standby may refuse everything: the message ends at the backend that carries other mail.
    assert_eq!((learnt.avoided, learnt.settled), (avoids(1001, &["b"]), readings(&[("a", 7)])));
    setting.carries(3, "b", 3);
    let learnt = setting.learnt();
    assert_eq!((learnt.avoided, learnt.settled), (BTreeMap::new(), readings(&[("a", 7), ("b", 8)])));
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
fn what_an_idle_standby_refuses_is_not_settled_for_the_mail_of_others() {
    let mut setting = Setting::default();
    for message in 1..4 {
        setting.refuses(0, "a", message, 7);
        setting.refuses(0, "b", message, 8);
    }
    setting.carries(1, "a", 9);
    let states = [state("a"), BackendState { failures: UNSTEADY, ..state("b") }];
    for minutes in [1, 60] {
        setting.refusals.handle_timeout(at(minutes));
        let learnt = setting.refusals.learnt(&states);
        assert_eq!(learnt.settled, readings(&[("a", 7)]), "b may refuse everything: {minutes}");
        assert_eq!(learnt.avoided.len(), 3, "each message ends at a: {minutes}");
    }
    // Another message, which the healthy way has not refused, is led nowhere and stands with nobody.
    setting.refuses(61, "b", 10, 8);
    assert!(!setting.refusals.learnt(&states).avoided.contains_key(&1010));
}

#[test]
fn what_every_backend_refuses_of_a_quiet_stream_stands_after_an_hour() {
    for failures in [1, UNSTEADY] {
        let mut setting = Setting::default();
        setting.refuses(0, "a", 1, 7);
        setting.refuses(0, "b", 1, 8);
        let states = [BackendState { failures, ..state("a") }, BackendState { failures, ..state("b") }];
        setting.refusals.handle_timeout(at(59));
        assert_eq!(setting.refusals.learnt(&states), LearntRefusals::default(), "{failures}");
        setting.refusals.handle_timeout(at(60));
        let learnt = setting.refusals.learnt(&states);
        assert_eq!(learnt.settled, readings(&[("a", 7), ("b", 8)]), "{failures}");
        assert_eq!((learnt.avoided, learnt.of_messages), (BTreeMap::new(), BTreeSet::new()), "{failures}");
        // One that is not asked yet may take it.
        let with_another = [states[0].clone(), states[1].clone(), state("c")];
        assert_eq!(setting.refusals.learnt(&with_another).settled, readings(&[]), "{failures}");
    }
}

#[test]
fn what_one_backend_refuses_for_a_reason_of_ours_waits_for_it() {
    for about in [About::Account, About::Quota, About::Login, About::Address, About::Rate] {
        let mut setting = Setting::default();
        setting.refuses(0, "a", 1, 7);
        setting.refuses_for(0, "b", 1, about);
        setting.refusals.handle_timeout(at(60));
        assert_eq!(setting.learnt(), LearntRefusals::default(), "nobody carries anything: {about}");
        setting.carries(61, "a", 2);
        assert_eq!(setting.learnt().avoided, BTreeMap::new(), "b is not passed over: {about}");
        assert_eq!(setting.learnt().settled, readings(&[("a", 7)]), "{about}");
    }
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
    assert_eq!(setting.refusals.unfollowed(), 10_000 - MAX_MESSAGES as u64);
}

#[test]
fn beyond_the_limit_the_message_that_has_waited_longest_makes_room_after_its_hour() {
    let mut setting = Setting::default();
    setting.refuses(0, "a", 1, 7);
    for message in 2..=MAX_MESSAGES as u64 {
        setting.refuses(1, "a", message, 7);
    }
    let is_followed = |setting: &Setting, message: u64| {
        setting.refusals.kept.contains_key(&MessageKey { message, recipient: message + 1000 })
    };
    setting.refuses(2, "a", 5000, 8);
    assert!(is_followed(&setting, 1) && !is_followed(&setting, 5000), "each has its hour");
    setting.refusals.handle_timeout(at(61));
    setting.refuses(62, "a", 5000, 8);
    assert!(!is_followed(&setting, 1) && is_followed(&setting, 2) && is_followed(&setting, 5000));
    setting.carries(63, "a", 6000);
    assert_eq!(setting.learnt().avoided[&6000], avoids(6000, &["a"])[&6000], "it is led elsewhere like any other");
    assert_eq!(setting.refusals.unfollowed(), 2);
}
