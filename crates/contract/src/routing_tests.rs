//! Tests of refused documents, with their texts, and of ignored fields.

use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    json!({
        "apiVersion": API_VERSION,
        "route": { "namespace": "shop", "name": "orders", "uid": "u" },
        "decision": { "transition": 2, "summary": "" },
        "backends": [
            { "name": "a", "host": "a.example", "port": 25, "percent": 100, "standby": true, "tls": { "mode": "None" }, "secret": null,
              "usernameKey": null, "passwordKey": null },
            { "name": "b", "host": "b.example", "port": 25, "percent": 0, "standby": true, "tls": { "mode": "None" }, "senderDomains": [], "rate": null, "messagesPerDay": null,
              "connections": null, "messagesPerConnection": null },
        ],
        "breaker": { "consecutive": 3, "firstPauseMilliseconds": 1000, "longestPauseMilliseconds": 9000 },
        "deliveries": { "consecutive": 5, "lastingMilliseconds": 0, "immediately": ["AccountPaused"], "cooldownMilliseconds": 0 },
    })
}

fn with(pointer: &str, value: Value) -> String {
    let mut document = document();
    *document.pointer_mut(pointer).unwrap() = value;
    document.to_string()
}

#[test]
fn a_refusal_names_the_field_and_what_is_wrong_with_it() {
    let whole = document().to_string();
    for (text, want) in [
        ("  \n".to_owned(), "it is empty"),
        ("}{".to_owned(), "it is no valid JSON: expected value at line 1 column 1"),
        (whole[..whole.len() / 2].to_owned(), "it is no valid JSON: EOF while parsing"),
        (with("/apiVersion", json!("x/v9")), "apiVersion \"x/v9\" is not \"agent.mailfailover.io/v1alpha1\""),
        (with("/backends/1/port", json!("25")), "it cannot be read: backends[1].port: invalid type: string \"25\""),
        (with("/backends/1/port", json!(0)), "backends[1].port: 0 is no port"),
        (with("/backends/1/percent", json!(20)), "backends[].percent: they add up to 120, not to 100"),
        (with("/backends/1/name", json!("a")), "backends[1].name: a is not unique"),
        (with("/backends/1/host", json!("A.example")), "backends[1].host: another backend is [a.example]:25 as well"),
        (
            with("/backends/0/host", json!("a]:1,b")),
            "backends[0].host: \"a]:1,b\" is neither a host name nor an address",
        ),
        (with("/backends/0/secret", json!("../x")), "backends[0].secret: \"../x\" is no name of a Secret"),
        (
            with("/backends/0/usernameKey", json!("../x")),
            "backends[0].usernameKey: \"../x\" is no key of a Secret with a login",
        ),
        (
            with("/backends/0/passwordKey", json!("")),
            "backends[0].passwordKey: \"\" is no key of a Secret with a login",
        ),
        (
            with("/backends/1/rate", json!({"messages": 0, "perMilliseconds": 1000})),
            "backends[1].rate.messages: it is 0; leave the rate out for any",
        ),
        (
            with("/backends/1/rate", json!({"messages": 14, "perMilliseconds": 0})),
            "backends[1].rate.perMilliseconds: it is 0",
        ),
        (with("/backends/1/messagesPerDay", json!(0)), "backends[1].messagesPerDay: 0 lets nothing through"),
        (with("/backends/1/connections", json!(0)), "backends[1].connections: 0 lets nothing through"),
        (
            with("/backends/1/messagesPerConnection", json!(0)),
            "backends[1].messagesPerConnection: 0 lets nothing through",
        ),
        (with("/backends", json!([])), "backends: there is none"),
        (with("/deliveries/consecutive", json!(0)), "deliveries.consecutive: at least 1 is needed"),
        (with("/breaker/consecutive", json!(0)), "breaker.consecutive: at least 1 is needed"),
        (with("/breaker/firstPauseMilliseconds", json!(0)), "breaker.firstPauseMilliseconds: at least 1 is needed"),
        (
            with("/breaker/longestPauseMilliseconds", json!(999)),
            "breaker.longestPauseMilliseconds: it is shorter than breaker.firstPauseMilliseconds, 1000",
        ),
    ] {
        let refusal = parse(&text).unwrap_err().to_string();
        assert!(refusal.starts_with(want), "{refusal}\nwants {want}");
    }
}

#[test]
fn a_byte_order_mark_before_a_document_is_passed_over() {
    let text = document().to_string();
    assert_eq!(parse(&format!("\u{feff}{text}")), parse(&text));
    assert!(parse(&text).is_ok());
    assert_eq!(parse("\u{feff}").unwrap_err(), Refusal::Empty);
}

#[test]
fn a_drill_names_its_backends_and_has_an_end() {
    let with_drill = |drill: Value| {
        let mut text = document();
        text["drill"] = drill;
        parse(&text.to_string()).map(|routing| routing.drill.unwrap()).map_err(|refusal| refusal.to_string())
    };
    let sound = json!({"id": "drill-7", "backends": ["nobody"], "forSeconds": 90});
    let expected = RouteDrill { id: "drill-7".into(), backends: vec!["nobody".into()], lasts: Duration::from_secs(90) };
    assert_eq!(with_drill(sound.clone()), Ok(expected));
    assert_eq!(parse(&document().to_string()).unwrap().drill, None);
    for (field, value) in [
        ("id", json!("")),
        ("id", json!("x".repeat(129))),
        ("id", json!("two words")),
        ("backends", json!([])),
        ("forSeconds", json!(0)),
        ("forSeconds", json!(86_401)),
    ] {
        let mut wrong = sound.clone();
        wrong[field] = value;
        let refusal = with_drill(wrong).unwrap_err();
        assert!(refusal.starts_with(&format!("drill.{field}: ")), "{refusal}");
    }
}

#[test]
fn a_rate_is_the_time_between_two_messages() {
    let mut text = document();
    text["backends"][1]["rate"] = json!({"messages": 14, "perMilliseconds": 3000});
    text["agents"] = json!(3);
    let routing = parse(&text.to_string()).unwrap();
    assert_eq!(routing.backends[1].interval, Some(Duration::from_secs(3) / 14));
    assert_eq!((routing.backends[0].interval, routing.ignored), (None, vec![]));
}

#[test]
fn an_older_decision_of_the_same_route_is_refused() {
    let known = parse(&document().to_string()).unwrap();
    let older = parse(&with("/decision/transition", json!(1))).unwrap();
    let refusal = may_replace(&known, &older).unwrap_err().to_string();
    assert!(refusal.starts_with("decision.transition: 1 is older than 2, which is in force"), "{refusal}");
    assert_eq!(may_replace(&known, &known), Ok(()));
    assert_eq!(may_replace(&known, &Routing { route_uid: "made anew".into(), ..older }), Ok(()));
}

#[test]
fn what_is_misspelt_or_newer_is_used_without_and_named() {
    assert_eq!(parse(&document().to_string()).unwrap().ignored, Vec::<Arc<str>>::new());
    let mut text = document();
    text["backends"][1]["sercet"] = json!("login");
    text["newer"] = json!({ "of": 1 });
    text["deliveries"]["immediately"] = json!(["AcountPaused", "AccountPaused"]);
    let mut ignored = parse(&text.to_string()).unwrap().ignored;
    ignored.sort();
    assert_eq!(ignored, ["backends[1].sercet", "deliveries.immediately: AcountPaused", "newer"].map(Arc::from));
}

#[test]
fn the_users_rules_about_replies_are_in_force_and_those_of_a_newer_operator_are_named_and_left_out() {
    let mut text = document();
    text["backends"][0]["provider"] = json!("SES");
    text["backends"][0]["replies"] = json!([
        { "name": "spent", "about": "Quota", "words": ["spent"] },
        { "name": "newer", "about": "Weather", "words": ["rain"] },
        { "name": "richer", "about": "Rate", "words": ["slow"], "until": "noon" },
        { "name": "broken", "about": "Rate", "words": ["("] },
    ]);
    text["backends"][1]["provider"] = json!("Acme");
    let routing = parse(&text.to_string()).unwrap();
    let names = |index: usize| -> Vec<_> {
        routing.backends[index].rulebook.source().rules.iter().map(|rule| rule.name.to_string()).collect()
    };
    assert_eq!((names(0), names(1)), (vec!["spent".to_owned(), "richer".to_owned()], vec![]));
    let provider = |index: usize| routing.backends[index].rulebook.source().provider.clone();
    assert_eq!((provider(0).as_deref(), provider(1)), (Some("SES"), None));
    for (index, start) in [
        "backends[0].replies[2].until",
        "backends[0].replies[newer].about: Weather is no subject",
        "backends[0].replies[broken].words[0]: it is no regular expression",
        "backends[1].provider: Acme has no rules of its own",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(routing.ignored[index].starts_with(start), "{:?}", routing.ignored);
    }
    assert_eq!(routing.ignored.len(), 4);
}

/// Fields of a backend that an agent knew before there were rules about replies.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct EarlierBackend {
    name: String,
    host: String,
}

#[test]
fn an_agent_from_before_these_rules_reads_the_document_as_ever() {
    let mut text = document();
    text["backends"][0]["provider"] = json!("SES");
    text["backends"][0]["replies"] = json!([{ "name": "spent", "about": "Quota", "words": ["spent"] }]);
    let backend: EarlierBackend = from_json(&text["backends"][0].to_string()).unwrap();
    assert_eq!((backend.name.as_str(), backend.host.as_str()), ("a", "a.example"));
    // And the fields are no reason to switch: the next hops and shares are the same.
    let plain = parse(&document().to_string()).unwrap();
    let ruled = parse(&text.to_string()).unwrap();
    assert_eq!(ruled.backends[0].next_hop, plain.backends[0].next_hop);
    assert_eq!(may_replace(&plain, &ruled), Ok(()));
}

/// A document by which nobody may carry the mail, as the operator writes it.
fn withdrawn() -> Value {
    let mut text = document();
    text["withdrawn"] = json!(true);
    text["backends"] = json!([document::Backend::nowhere()]);
    text
}

#[test]
fn a_document_can_say_that_nobody_may_carry_the_mail() {
    assert!(!parse(&document().to_string()).unwrap().is_withdrawn);
    let routing = parse(&withdrawn().to_string()).unwrap();
    assert_eq!((routing.is_withdrawn, routing.ignored), (true, vec![]));
    assert!(document::schema_json().contains("\"withdrawn\""));
    // A document without the field stays as it was, byte by byte.
    let plain: Document = serde_json::from_value(document()).unwrap();
    assert!(!serde_json::to_string(&plain).unwrap().contains("withdrawn"));
}

/// A reader from before the field drops it, and checks the rest as ever.
#[test]
fn an_older_agent_sends_withdrawn_mail_to_an_address_that_nobody_can_connect_to() {
    let mut text = withdrawn();
    text.as_object_mut().unwrap().remove("withdrawn");
    let routing = parse(&text.to_string()).unwrap();
    assert_eq!(routing.backends.len(), 1, "there is no other way out, not even for a message to one recipient");
    let nowhere = &routing.backends[0];
    assert_eq!((nowhere.percent, nowhere.standby), (100, false));
    assert_eq!(nowhere.next_hop.to_string(), "[255.255.255.255]:25");
    assert_eq!(may_replace(&parse(&document().to_string()).unwrap(), &routing), Ok(()), "it is not refused as older");
    let refused = std::net::TcpStream::connect_timeout(
        &std::net::SocketAddr::new(nowhere.next_hop.host.parse().unwrap(), nowhere.next_hop.port),
        Duration::from_secs(5),
    );
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable, "the kernel sends nothing");
}

#[test]
fn alternates_and_sender_domains_are_read_and_a_document_from_before_them_has_none() {
    let earlier = parse(&document().to_string()).unwrap();
    assert!(earlier.backends.iter().all(|backend| !backend.alternate) && earlier.sender_domains.is_empty());
    let mut text = document();
    text["senderDomains"] = json!(["Shop.example"]);
    text["backends"][0]["alternate"] = json!(false);
    text["backends"][1]["alternate"] = json!(true);
    let routing = parse(&text.to_string()).unwrap();
    assert_eq!(routing.sender_domains, [Arc::from("shop.example")]);
    assert_eq!(routing.backends.iter().map(|backend| backend.alternate).collect::<Vec<_>>(), [false, true]);
    assert_eq!(routing.ignored, Vec::<Arc<str>>::new());
    // For an earlier agent these are fields of a newer operator, and the rest is what it was.
    let backend: EarlierBackend = from_json(&text["backends"][1].to_string()).unwrap();
    assert_eq!((backend.name.as_str(), backend.host.as_str()), ("b", "b.example"));
    assert_eq!(may_replace(&earlier, &routing), Ok(()));
}

/// Rules that an operator of the first release writes, which knows no breaker.
fn reflex() -> Value {
    json!({ "consecutive": 7, "lastingMilliseconds": 2000, "immediately": ["QuotaExhausted"], "cooldownMilliseconds": 4000,
            "switches": 6, "perMilliseconds": 1 })
}

/// The document without its thresholds, with these fields.
fn without_thresholds(fields: &[(&str, Value)]) -> Routing {
    let mut document = document();
    let all = document.as_object_mut().unwrap();
    all.remove("breaker");
    all.remove("deliveries");
    all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    parse(&document.to_string()).unwrap()
}

fn alternates(routing: &Routing) -> Vec<bool> {
    routing.backends.iter().map(|backend| backend.alternate).collect()
}

#[test]
fn a_document_of_an_operator_that_knows_no_breaker_is_followed_with_its_standbys_as_alternates() {
    let routing = without_thresholds(&[("reflex", reflex())]);
    let DeliveryPolicy { consecutive, lasting, immediately, cooldown } = routing.deliveries;
    assert_eq!((consecutive, lasting, cooldown), (7, Duration::from_secs(2), Duration::from_secs(4)));
    assert_eq!(immediately.iter().collect::<Vec<_>>(), [EvidenceClass::QuotaExhausted]);
    assert_eq!((routing.breaker, alternates(&routing)), (BreakerPolicy::default(), vec![true, true]));
    assert_eq!(routing.ignored, Vec::<Arc<str>>::new());
}

#[test]
fn an_operator_that_knows_breakers_says_who_is_an_alternate() {
    let breaker = json!({ "consecutive": 3, "firstPauseMilliseconds": 1000, "longestPauseMilliseconds": 9000 });
    let both = without_thresholds(&[("reflex", reflex()), ("breaker", breaker)]);
    assert_eq!((both.deliveries.consecutive, alternates(&both)), (7, vec![false, false]));
}

#[test]
fn a_document_without_thresholds_has_those_of_a_policy_that_says_nothing() {
    let (routing, default) = (without_thresholds(&[]), Policy::default());
    assert_eq!(routing.breaker, default.breaker);
    assert_eq!(
        (routing.deliveries.consecutive, routing.deliveries.lasting, routing.deliveries.cooldown),
        (default.deliveries.consecutive, default.deliveries.lasting, default.hold.cooldown)
    );
    assert_eq!(alternates(&routing), [false, false]);
}

#[test]
fn a_reader_that_goes_by_names_knows_each_account_of_one_host_and_port() {
    let mut text = document();
    let mut second = text["backends"][0].clone();
    second["name"] = json!("second");
    second["percent"] = json!(30);
    let mut first = text["backends"][0].clone();
    first["percent"] = json!(70);
    text["accounts"] = json!([first, second, text["backends"][1].clone()]);
    let names = |routing: &Routing| routing.backends.iter().map(|backend| backend.name.to_string()).collect::<Vec<_>>();
    let (by_name, by_next_hop) = (parse_accounts(&text.to_string()).unwrap(), parse(&text.to_string()).unwrap());
    assert_eq!(
        (names(&by_name), names(&by_next_hop)),
        (vec!["a".into(), "second".into(), "b".into()], vec!["a".into(), "b".into()])
    );
    assert_eq!((by_name.backends[1].percent, by_next_hop.backends[0].percent), (30, 100));
    assert_eq!((by_name.ignored.len(), by_next_hop.ignored.len()), (0, 0));
    // Without accounts it is the same list.
    assert_eq!(names(&parse_accounts(&document().to_string()).unwrap()), ["a", "b"]);
    text["accounts"][1]["name"] = json!("a");
    assert_eq!(parse_accounts(&text.to_string()).unwrap_err().to_string(), "accounts[1].name: a is not unique");
}
