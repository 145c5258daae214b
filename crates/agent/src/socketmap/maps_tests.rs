//! Tests by tables of questions and answers.

use mail_failover_contract::routing::parse;
use serde_json::{Value, json};

use super::*;
use crate::authorities::AuthorityError;

fn document(backends: &Value) -> Routing {
    let document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": backends,
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    });
    parse(&document.to_string()).unwrap()
}

fn view(backends: &Value) -> SocketmapView {
    SocketmapView::default().next(Arc::new(Answers::as_decided(Arc::new(document(backends)))), AuthorityFiles::new())
}

fn two() -> Value {
    json!([
        {"name": "a", "percent": 100, "standby": true, "host": "a.example", "port": 587, "tls": {"mode": "StartTLS"}, "secret": "a-login"},
        {"name": "b", "percent": 0, "standby": true, "host": "2001:DB8::1", "port": 465, "tls": {"mode": "Implicit", "serverName": "b.example", "ca": "PEM"}},
    ])
}

fn fixed() -> MapSettings {
    let shield =
        |_: &Answers, _: &[RouteBackend], status: &str| status.strip_prefix("5.").map(|rest| format!("4.{rest}"));
    MapSettings { local_domains: LocalDomains::new(&["local.example".to_owned()]), shield, intake: Intake::default() }
}

/// Returns the answer as it stands in a reply, or `login SECRET`.
fn asked(view: &SocketmapView, request: &str) -> String {
    match answer(view, &fixed(), &[], &mut ReplyLines::default(), request.as_bytes()).1 {
        MapAnswer::Login(secret) => format!("login {secret}"),
        MapAnswer::Reply(reply) => {
            let mut out = vec![];
            reply.encode(&mut out);
            let text = String::from_utf8(out).unwrap();
            text.split_once(':').unwrap().1.trim_end_matches(',').to_owned()
        }
    }
}

#[test]
fn the_list_ends_before_a_backend_that_takes_no_more_at_present() {
    let view = view(&json!([
        {"name": "a", "percent": 100, "standby": true, "host": "a.example", "port": 587, "tls": {"mode": "StartTLS"}},
        {"name": "b", "percent": 0, "standby": true, "alternate": true, "host": "b.example", "port": 25, "tls": {"mode": "None"}},
        {"name": "c", "percent": 0, "standby": true, "alternate": true, "host": "c.example", "port": 25, "tls": {"mode": "None"}},
    ]));
    for (spent, want) in [
        (&[][..], "smtp:[a.example]:587, [b.example]:25, [c.example]:25"),
        (&["b"], "smtp:[a.example]:587, [c.example]:25"),
        (&["a", "b", "c"], "smtp:[a.example]:587"),
    ] {
        let spent: Vec<Arc<str>> = spent.iter().map(|name| Arc::from(*name)).collect();
        for request in [&b"transport x@example.net"[..], b"sender-transport app@shop.example"] {
            let (_, answer) = answer(&view, &fixed(), &spent, &mut ReplyLines::default(), request);
            assert_eq!(answer, MapAnswer::Reply(MapReply::Found(want.to_owned())));
        }
    }
}

#[test]
fn each_map_answers_its_own_keys() {
    let view = view(&two());
    for (request, want) in [
        ("transport x@example.net", "OK smtp:[a.example]:587"),
        ("transport \"a@b c\"@example.net", "OK smtp:[a.example]:587"),
        ("transport x@local.example", "NOTFOUND "),
        ("transport x+ext@LOCAL.example", "NOTFOUND "),
        ("transport x@sub.local.example", "OK smtp:[a.example]:587"),
        ("transport *", "NOTFOUND "),
        ("transport <>", "NOTFOUND "),
        ("transport ", "NOTFOUND "),
        ("transport root", "NOTFOUND "),
        ("transport @example.net", "NOTFOUND "),
        ("transport x@", "NOTFOUND "),
        ("sender-transport x@shop.example", "OK smtp:[a.example]:587"),
        ("sender-transport <>", "OK smtp:[a.example]:587"),
        ("sasl a.example", "NOTFOUND "),
        ("sasl [a.example]:587", "login a-login"),
        ("sasl [A.example]:587", "login a-login"),
        ("sasl [a.example]:25", "NOTFOUND "),
        ("sasl [ipv6:2001:db8::1]:465", "NOTFOUND "),
        ("tls-policy [a.example]:587", "OK secure match=a.example"),
        ("tls-policy a.example", "NOTFOUND "),
        ("tls-policy [ipv6:2001:db8::1]:465", "TEMP mail-failover agent: the authority of b is not written yet"),
        ("delivery-status 5.1.1 no such user", "OK 4.1.1 no such user"),
        ("delivery-status 2.0.0 ok", "NOTFOUND "),
        (
            "relay x@example.net",
            "PERM there is no such map; the maps are transport, sender-transport, sasl, tls-policy, delivery-status, reply-filter, intake",
        ),
        ("transport", "PERM a request is the name of a map, a blank and a key"),
        ("", "PERM a request is the name of a map, a blank and a key"),
    ] {
        assert_eq!(asked(&view, request), want, "{request}");
    }
}

#[test]
fn an_address_or_a_reply_with_any_byte_in_it_is_answered() {
    let view = view(&two());
    let answered = |request: &[u8]| answer(&view, &fixed(), &[], &mut ReplyLines::default(), request).1;
    let found = |text: &str| MapAnswer::Reply(MapReply::Found(text.to_owned()));
    assert_eq!(answered(b"transport caf\xe9@example.net"), found("smtp:[a.example]:587"));
    assert_eq!(answered(b"sender-transport caf\xe9@shop.example"), found("smtp:[a.example]:587"));
    assert_eq!(answered(b"transport caf\xe9@local.example"), MapAnswer::Reply(MapReply::NotFound));
    assert_eq!(answered(b"delivery-status 5.1.1 <caf\xe9@x>"), found("4.1.1 <caf\u{fffd}@x>"));
}

#[test]
fn an_answer_lists_the_alternates_after_the_decided_backend() {
    let backend = |name: &str, percent: u8, mode: &str| {
        json!({"name": name, "percent": percent, "standby": true, "alternate": true, "host": format!("{name}.example"), "port": 587,
            "tls": {"mode": mode}, "secret": format!("{name}-login")})
    };
    let document = json!([backend("a", 0, "StartTLS"), backend("b", 100, "None"), backend("c", 0, "Implicit")]);
    let view = view(&document);
    assert_eq!(asked(&view, "transport x@example.net"), "OK smtp:[b.example]:587, [a.example]:587");
    assert_eq!(asked(&view, "sender-transport x@shop.example"), "OK smtp:[b.example]:587, [a.example]:587");
    let paused = "554 5.7.1 Your account has been suspended";
    let kept = format!("OK 454 (kept by mail-failover) {paused}");
    assert_eq!(asked(&view, &format!("reply-filter {paused}")), kept);
    assert_eq!(asked(&view, "reply-filter 550 5.1.1 no such user"), "NOTFOUND ");
    assert_eq!(asked(&SocketmapView::default(), &format!("reply-filter {paused}")), "NOTFOUND ");
    assert_eq!(asked(&view, "sasl [a.example]:587"), "login a-login", "each has its own login");
    assert_eq!(asked(&view, "tls-policy [a.example]:587"), "OK secure match=a.example", "and its own TLS");
}

#[test]
fn tls_is_spoken_as_the_backend_says() {
    let backend = |tls: Value| json!([{"name": "a", "percent": 100, "standby": true, "host": "a.example", "port": 25, "tls": tls}]);
    for (tls, transport, policy) in [
        (json!({"mode": "None"}), "smtp", "OK none"),
        (json!({"mode": "Opportunistic"}), "smtp", "OK may"),
        (json!({"mode": "StartTLS", "serverName": "mx.example"}), "smtp", "OK secure match=mx.example"),
        (json!({"mode": "Implicit"}), "mail-failover-smtps", "OK secure match=a.example"),
        (json!({"mode": "StartTLS", "ca": "PEM"}), "smtp", "OK secure match=a.example tafile=mail-failover/ca/1.pem"),
        (
            json!({"mode": "StartTLS", "ca": "BAD"}),
            "smtp",
            "TEMP mail-failover agent: the authority of a: the disk does not answer",
        ),
    ] {
        let mut view = view(&backend(tls.clone()));
        view.authorities.insert("PEM".into(), Ok("mail-failover/ca/1.pem".into()));
        view.authorities.insert("BAD".into(), Err(AuthorityError::Deadline));
        assert_eq!(asked(&view, "tls-policy [a.example]:25"), policy, "{tls}");
        assert_eq!(asked(&view, "transport x@example.net"), format!("OK {transport}:[a.example]:25"), "{tls}");
    }
}

#[test]
fn before_a_document_only_local_mail_goes_on() {
    let view = SocketmapView { waiting_for: "no document yet".to_owned(), ..SocketmapView::default() };
    for (request, want) in [
        ("transport x@example.net", "TEMP mail-failover agent: no document yet"),
        ("sasl [a.example]:587", "TEMP mail-failover agent: no document yet"),
        ("tls-policy [a.example]:587", "TEMP mail-failover agent: no document yet"),
        ("transport x@local.example", "NOTFOUND "),
        ("transport *", "NOTFOUND "),
    ] {
        assert_eq!(asked(&view, request), want, "{request}");
    }
}

#[test]
fn mail_waits_when_nobody_has_a_share() {
    let mut view = view(&two());
    let routing = view.answers.as_ref().unwrap().routing.clone();
    view.answers = Some(Arc::new(Answers { percents: vec![0, 0], ..Answers::as_decided(routing) }));
    let want = "TEMP mail-failover agent: no backend of shop/orders has a share at present";
    assert_eq!(asked(&view, "transport x@example.net"), want);
    assert_eq!(asked(&view, "sender-transport x@example.net"), want);
    assert_eq!(asked(&view, "sasl [a.example]:587"), "login a-login", "mail on its way still needs it");
}

#[test]
fn mail_that_nobody_may_carry_is_kept_by_postfix_and_mail_on_its_way_still_finds_its_login() {
    let before = view(&two());
    let mut routing = document(&json!([mail_failover_contract::document::Backend::nowhere()]));
    routing.is_withdrawn = true;
    let view = before.next(Arc::new(Answers::as_decided(Arc::new(routing))), AuthorityFiles::new());
    let want = "OK retry:4.7.1 nobody may carry the mail of shop/orders at present";
    for request in ["transport x@example.net", "sender-transport x@example.net", "sender-transport <>"] {
        assert_eq!(asked(&view, request), want, "{request}");
    }
    assert_eq!(asked(&view, "transport x@local.example"), "NOTFOUND ", "Postfix delivers it by its own rules");
    assert_eq!(asked(&view, "sasl [a.example]:587"), "login a-login");
}

#[test]
fn a_backend_sends_only_for_domains_that_it_may_send_for() {
    let backend = |name: &str, percent: u8, domains: &[&str]| {
        json!({"name": name, "percent": percent, "standby": true, "host": format!("{name}.example"), "port": 25,
            "tls": {"mode": "None"}, "senderDomains": domains})
    };
    let view = view(&json!([backend("a", 50, &["Shop.example"]), backend("b", 50, &["shop.example", "news.example"])]));
    for number in 0..50 {
        let answer = asked(&view, &format!("sender-transport x{number}@NEWS.example"));
        assert_eq!(answer, "OK smtp:[b.example]:25");
        assert!(asked(&view, &format!("sender-transport x{number}@shop.example")).starts_with("OK smtp:["));
    }
    assert!(asked(&view, "sender-transport <>").starts_with("OK smtp:["), "bounces are of no domain");
}

#[test]
fn a_sender_waits_for_a_backend_that_may_send_for_it_and_not_for_one_that_does_not_exist() {
    let backend = |name: &str, percent: u8, domain: &str| {
        json!({"name": name, "percent": percent, "standby": false, "host": format!("{name}.example"), "port": 25,
            "tls": {"mode": "None"}, "senderDomains": [domain]})
    };
    let mut view = view(&json!([backend("a", 100, "shop.example"), backend("b", 0, "news.example")]));
    let unknown = "OK error:5.7.1 no backend of shop/orders may send for this domain";
    assert_eq!(asked(&view, "sender-transport root@host.example"), unknown);
    let want = "TEMP mail-failover agent: no backend of shop/orders with a share may send for this domain";
    assert_eq!(asked(&view, "sender-transport x@News.example"), want);
    let routing = view.answers.as_ref().unwrap().routing.clone();
    view.answers = Some(Arc::new(Answers { percents: vec![0, 0], ..Answers::as_decided(routing) }));
    assert_eq!(asked(&view, "sender-transport root@host.example"), unknown);
    assert!(asked(&view, "sender-transport x@shop.example").starts_with("TEMP "), "it may come back");
}

#[test]
fn what_was_removed_is_still_spoken_to_as_before() {
    let first = view(&two());
    let only = |host: &str| {
        let backend =
            json!([{"name": host, "percent": 100, "standby": true, "host": host, "port": 25, "tls": {"mode": "None"}}]);
        Arc::new(Answers::as_decided(Arc::new(document(&backend))))
    };
    let second = first.next(only("c.example"), AuthorityFiles::new());
    assert_eq!(asked(&second, "sasl [a.example]:587"), "login a-login");
    assert_eq!(asked(&second, "tls-policy [a.example]:587"), "OK secure match=a.example");
    assert_eq!(asked(&second, "transport x@example.net"), "OK smtp:[c.example]:25");
    let mut view = second;
    for number in 0..300 {
        view = view.next(only(&format!("n{number}.example")), AuthorityFiles::new());
    }
    assert_eq!(view.retired.len(), MAX_RETIRED);
    assert_eq!(&*view.retired[0].next_hop.host, "n298.example", "the latest are kept");
    let again = view.next(only("n298.example"), AuthorityFiles::new());
    assert!(again.retired.iter().all(|backend| *backend.next_hop.host != *"n298.example"));
}

#[test]
fn what_a_removed_backend_refuses_is_asked_of_the_shield_with_it() {
    let first = view(&two());
    let only = json!([{"name": "c", "percent": 100, "standby": true, "host": "c.example", "port": 25, "tls": {"mode": "None"}}]);
    let second = first.next(Arc::new(Answers::as_decided(Arc::new(document(&only)))), AuthorityFiles::new());
    let hosts = |_: &Answers, retired: &[RouteBackend], _: &str| {
        Some(retired.iter().map(|backend| &*backend.next_hop.host).collect::<Vec<_>>().join(" "))
    };
    let settings = MapSettings { shield: hosts, ..fixed() };
    let (_, answer) = answer(&second, &settings, &[], &mut ReplyLines::default(), b"delivery-status 5.0.0 x");
    let MapAnswer::Reply(MapReply::Found(hosts)) = answer else { panic!("{answer:?}") };
    assert_eq!(hosts, "a.example 2001:db8::1");
}

#[test]
fn messages_are_accepted_until_the_intake_is_closed() {
    let fixed = fixed();
    let intake = |fixed: &MapSettings| {
        answer(&SocketmapView::default(), fixed, &[], &mut ReplyLines::default(), b"intake localhost")
    };
    assert_eq!(intake(&fixed), (Some(Map::Intake), MapReply::Found("DUNNO".to_owned()).into()));
    fixed.intake.close();
    let (_, MapAnswer::Reply(MapReply::Found(action))) = intake(&fixed) else { panic!() };
    assert!(action.starts_with("421 4.3.2 "), "{action}");
}
