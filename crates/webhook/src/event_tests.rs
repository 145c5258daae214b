use std::time::Duration;

use mail_failover_core::engine::{Share, Transition, TransitionKind, TransitionReason};
use mail_failover_core::model::{EvidenceClass, WebhookMethod};
use serde_json::{Value, json};

use super::*;

fn uid(text: &str) -> Uid {
    Uid::parse(Some(text)).unwrap()
}

fn output() -> WebhookOutput {
    WebhookOutput {
        name: "flags".into(),
        url: "https://flags.example/hook".into(),
        method: WebhookMethod::Post,
        secret: "flags".into(),
        ca: None,
        headers: vec![("X-A".into(), "b".into())],
        content_type: None,
        body: None,
        timeout: Duration::from_secs(10),
        is_awaited: false,
    }
}

fn share(backend: &str, percent: u8) -> Share {
    Share { backend: backend.into(), percent, is_overflow: false }
}

fn memory(shares: &[(&str, u8)], transition: Option<i64>) -> Memory {
    let mut memory = Memory { since: Timestamp::from_micros(1_000_000), ..Memory::default() };
    memory.shares = shares.iter().map(|(backend, percent)| share(backend, *percent)).collect();
    memory.history = transition
        .map(|id| Transition {
            id,
            kind: TransitionKind::Failover,
            from: "ses".into(),
            to: "sendgrid".into(),
            reason: TransitionReason::Failed(EvidenceClass::NoAnswer),
            first_evidence_at: None,
            decided_at: Timestamp::from_micros(1_800_000_000_123_456),
        })
        .into_iter()
        .collect();
    memory
}

#[test]
fn an_id_is_the_same_for_the_same_decision_and_request() {
    let moved = memory(&[("sendgrid", 100)], Some(3));
    let first = digest(&uid("u"), &output(), &moved);
    assert_eq!(first, digest(&uid("u"), &output(), &moved.clone()));
    let mut other_secret = output();
    (other_secret.secret, other_secret.timeout, other_secret.is_awaited) = ("new".into(), Duration::ZERO, true);
    assert_eq!(first, digest(&uid("u"), &other_secret, &moved), "what does not change the request does not count");
    let mut differing = vec![
        first,
        digest(&uid("v"), &output(), &moved),
        digest(&uid("u"), &output(), &memory(&[("sendgrid", 100)], Some(4))),
        digest(&uid("u"), &output(), &memory(&[("sendgrid", 60), ("ses", 40)], Some(3))),
        digest(&uid("u"), &output(), &memory(&[], Some(3))),
    ];
    for change in [
        |output: &mut WebhookOutput| output.url = "https://flags.example/other".into(),
        |output: &mut WebhookOutput| output.name = "other".into(),
        |output: &mut WebhookOutput| output.method = WebhookMethod::Put,
        |output: &mut WebhookOutput| output.headers = vec![("X-Ab".into(), "".into())],
        |output: &mut WebhookOutput| output.body = Some("".into()),
        |output: &mut WebhookOutput| output.content_type = Some("".into()),
    ] {
        let mut changed = output();
        change(&mut changed);
        differing.push(digest(&uid("u"), &changed, &moved));
    }
    let distinct: std::collections::BTreeSet<_> = differing.iter().collect();
    assert_eq!(distinct.len(), differing.len(), "{differing:?}");
}

#[test]
fn numbers_grow_and_what_is_said_again_has_another_number() {
    let digests = ["a".repeat(24), "b".repeat(24)].map(Arc::<str>::from);
    let at = Timestamp::from_micros(1_800_000_000_123_456);
    let first = EventId::following(None, &digests[0], at);
    assert_eq!(first.sequence, 1_800_000_000_123);
    assert_eq!(EventId::following(Some(&first), &digests[0], at), first);
    let second = EventId::following(Some(&first), &digests[1], at);
    let third = EventId::following(Some(&second), &digests[0], at);
    assert_eq!((second.sequence, third.sequence), (first.sequence + 1, first.sequence + 2));
    assert_ne!(first, third);
    for id in [&first, &second, &third] {
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert!(!id.to_string().contains('.'));
    }
    let later = EventId::following(Some(&EventId { sequence: 7, ..first.clone() }), &digests[1], at);
    assert_eq!(later.sequence, first.sequence, "of a route that was there before");
    assert_eq!(EventId::following(None, &digests[0], Timestamp::default()).sequence, 1);
    for text in ["", "mf-1", "mf-x-aaaaaaaaaaaaaaaaaaaaaaaa", "mf-1-aa", "xx-1-aaaaaaaaaaaaaaaaaaaaaaaa"] {
        assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text}");
    }
}

#[test]
fn an_event_is_a_cloud_event_with_the_decision_as_its_data() {
    let memory = memory(&[("sendgrid", 70), ("ses", 30)], Some(3));
    let id = EventId::following(None, &digest(&uid("u"), &output(), &memory), decided_at(&memory));
    let event = WebhookEvent::of(&id, &ObjectKey::new("shop", "orders"), "flags", &memory);
    let json: Value = serde_json::from_slice(&event.cloud_event()).unwrap();
    assert_eq!(
        json,
        json!({
            "specversion": "1.0",
            "id": id.to_string(),
            "source": "/apis/mailfailover.io/v1alpha1/namespaces/shop/mailroutes/orders",
            "type": "io.mailfailover.route.failover",
            "time": "2027-01-15T08:00:00.123456Z",
            "sequence": "00000001800000000123",
            "datacontenttype": "application/json",
            "data": {
                "namespace": "shop", "route": "orders", "output": "flags",
                "transition": {"id": 3, "kind": "Failover", "from": "ses", "to": "sendgrid", "reason": "NoAnswer",
                    "decidedAt": "2027-01-15T08:00:00.123456Z"},
                "backend": "sendgrid",
                "active": [{"backend": "sendgrid", "percent": 70}, {"backend": "ses", "percent": 30}],
            },
        })
    );
}

#[test]
fn before_the_first_transition_and_without_a_carrier_there_is_an_event_too() {
    let id = EventId::following(None, &"a".repeat(24).into(), Timestamp::default());
    let of = |memory: &Memory| WebhookEvent::of(&id, &ObjectKey::new("shop", "orders"), "flags", memory);
    let first = of(&memory(&[("ses", 100)], None));
    assert_eq!(
        (first.type_, first.transition.kind, first.transition.id),
        ("io.mailfailover.route.initial", "Initial", 0)
    );
    assert_eq!(first.transition.to.as_deref(), Some("ses"));
    let withdrawn = of(&memory(&[], Some(3)));
    assert_eq!((withdrawn.backend, withdrawn.active), (None, vec![]));
}
