use proptest::prelude::*;

use super::*;
use mail_failover_core::model::Timestamp;

pub(in crate::observers) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

pub(in crate::observers) fn verdicts(thresholds: &str, health: Health) -> Verdicts {
    Verdicts::from([(thresholds.into(), observer_verdict(health))])
}

fn observer_verdict(health: Health) -> ObserverVerdict {
    ObserverVerdict {
        health,
        since: Timestamp::from_micros(1_700_000_000_123_456),
        class: EvidenceClass::ConnectionRefused,
        first_failure_at: Some(Timestamp::from_micros(1_700_000_000_000_001)),
        confirms: [].into(),
        runs: [].into(),
        message: "connection refused".into(),
    }
}

fn failing(count: usize, name: &str) -> BackendVerdicts {
    (0..count).map(|n| (key(&format!("{name}{n}")), verdicts("6/10", Health::Unhealthy))).collect()
}

#[test]
fn a_report_looks_like_this() {
    let mut reported = BackendVerdicts::from([(key("ses"), verdicts("6/10", Health::Unhealthy))]);
    reported.insert(key("new"), Verdicts::new());
    for (is_complete, reported, want) in [
        (false, &reported, r#"{"complete":false}"#.to_owned()),
        (true, &BackendVerdicts::new(), r#"{"complete":true}"#.to_owned()),
        (
            true,
            &reported,
            concat!(
                r#"{"complete":true,"backends":{"shop/new":{},"shop/ses":{"6/10":{"health":"Unhealthy","#,
                r#""since":"2023-11-14T22:13:20.123456Z","class":"ConnectionRefused","#,
                r#""firstFailureAt":"2023-11-14T22:13:20.000001Z","message":"connection refused"}}}}"#
            )
            .to_owned(),
        ),
    ] {
        assert_eq!(ObserverReport::of(is_complete.then(Namespaces::new).as_ref(), reported, None).0, want);
    }
}

#[test]
fn what_does_not_fit_is_not_told() {
    let long = "x".repeat(200);
    let complete = |verdicts, crowded| Extent::Complete { verdicts, awaited: 0, crowded };
    for (what, reported, want) in [
        ("nothing", BackendVerdicts::new(), complete(0, 0)),
        ("the most", failing(MAX_VERDICTS, "b"), complete(MAX_VERDICTS, 0)),
        ("one more", failing(MAX_VERDICTS + 1, "b"), complete(0, 1)),
        ("too many bytes", failing(MAX_VERDICTS - 1, &long), complete(0, 1)),
        (
            "too many of which nothing is known",
            (0..=MAX_VERDICTS).map(|n| (key(&n.to_string()), Verdicts::new())).collect(),
            complete(0, 1),
        ),
    ] {
        let (text, extent) = ObserverReport::of(Some(&Namespaces::new()), &reported, None);
        assert_eq!(extent, want, "{what}");
        assert!(text.len() <= MAX_BYTES, "{what}: {}", text.len());
        let report = ObserverReport::parse(&text).expect("we wrote it");
        let ObserverReport::Complete { silent, .. } = report else { panic!("{what}: {report:?}") };
        assert_eq!(silent.is_empty(), want != complete(0, 1), "{what}");
    }
}

/// So many failing backends in each namespace.
fn failing_in(namespaces: &[(&str, usize)]) -> BackendVerdicts {
    let backends = namespaces.iter().flat_map(|(namespace, count)| (0..*count).map(move |n| (*namespace, n)));
    backends
        .map(|(namespace, n)| (ObjectKey::new(namespace, format!("b{n}")), verdicts("6/10", Health::Unhealthy)))
        .collect()
}

fn names(namespaces: &[&str]) -> Namespaces {
    namespaces.iter().map(|name| Arc::from(*name)).collect()
}

#[test]
fn no_namespace_takes_the_room_of_another() {
    for (what, namespaces, told, crowded) in [
        ("one tenant's thousand failures", vec![("evil", 1100), ("shop", 2)], 2, vec!["evil"]),
        ("what is left is for who comes next", vec![("evil", 900), ("shop", 2)], 902, vec![]),
        ("the largest goes first", vec![("evil", 600), ("house", 500), ("shop", 2)], 502, vec!["evil"]),
    ] {
        let reported = failing_in(&namespaces);
        let (text, extent) = ObserverReport::of(Some(&Namespaces::new()), &reported, None);
        assert_eq!(extent, Extent::Complete { verdicts: told, awaited: 0, crowded: crowded.len() }, "{what}");
        let report = ObserverReport::parse(&text).expect("we wrote it");
        let ObserverReport::Complete { reported, silent, .. } = report else { panic!("{what}: {report:?}") };
        assert_eq!(silent, names(&crowded), "{what}");
        assert!(reported.contains_key(&key("b0")), "{what}");
        assert!(reported.keys().all(|key| !silent.contains(&key.namespace)), "{what}");
    }
}

#[test]
fn votes_come_before_runs_where_there_is_no_room_for_both() {
    let run = SharedRun { probe: "login".into(), is_failing: false, count: 1, contradicts: true };
    let healthy = ObserverVerdict { runs: [run].into(), ..observer_verdict(Health::Healthy) };
    let of_healthy = |n| (key(&format!("h{n}")), Verdicts::from([("6/10".into(), healthy.clone())]));
    let mut reported: BackendVerdicts = (0..MAX_VERDICTS).map(of_healthy).collect();
    reported.extend(failing(2, "b"));
    let (text, extent) = ObserverReport::of(Some(&Namespaces::new()), &reported, None);
    assert_eq!(extent, Extent::Complete { verdicts: 2, awaited: 0, crowded: 0 });
    let Ok(ObserverReport::Complete { reported, silent, .. }) = ObserverReport::parse(&text) else { panic!("{text}") };
    assert_eq!((reported.len(), silent.is_empty()), (2, true));
}

#[test]
fn a_namespace_that_is_not_observed_yet_keeps_no_other_out() {
    let reported = failing_in(&[("evil", 3), ("shop", 2)]);
    let (text, extent) = ObserverReport::of(Some(&names(&["evil"])), &reported, None);
    assert_eq!(extent, Extent::Complete { verdicts: 2, awaited: 1, crowded: 0 });
    let Ok(ObserverReport::Complete { reported, silent, .. }) = ObserverReport::parse(&text) else { panic!("{text}") };
    assert_eq!((reported.len(), silent), (2, names(&["evil"])));
    // A version that knows no `silent` must not take that for health.
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["complete"], false);
    let (text, _) = ObserverReport::of(Some(&Namespaces::new()), &failing_in(&[("evil", 1100)]), None);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["complete"], &document["truncated"]), (&true.into(), &true.into()));
}

#[test]
fn without_room_for_the_names_of_namespaces_nothing_counts() {
    let many: Vec<_> = (0..4000).map(|n| format!("{n:0>63}")).collect();
    let awaited: Namespaces = many.iter().map(|name| Arc::from(name.as_str())).collect();
    let (text, extent) = ObserverReport::of(Some(&awaited), &BackendVerdicts::new(), None);
    assert_eq!((text.as_str(), extent), (r#"{"complete":false}"#, Extent::Incomplete));
    let pairs: Vec<_> = many.iter().map(|name| (name.as_str(), 1)).collect();
    let (text, extent) = ObserverReport::of(Some(&Namespaces::new()), &failing_in(&pairs), None);
    assert_eq!(extent, Extent::Truncated);
    assert_eq!(ObserverReport::parse(&text).unwrap(), ObserverReport::Truncated);
}

#[test]
fn what_cannot_be_a_report_is_refused() {
    let too_many: Vec<_> = (0..=MAX_VERDICTS).map(|n| format!(r#""a/{n}":{{}}"#)).collect();
    let too_many = format!(r#"{{"complete":true,"backends":{{{}}}}}"#, too_many.join(","));
    for (text, why) in [
        ("", "EOF"),
        ("[1]", "invalid"),
        (r#"{"complete":"yes"}"#, "invalid type"),
        (r#"{"complete":true,"backends":{"ses":{}}}"#, "is not the namespace and the name"),
        (r#"{"complete":true,"backends":{"a/b/c":{}}}"#, "is not the namespace and the name"),
        (r#"{"complete":true,"backends":{"/b":{}}}"#, "is not the namespace and the name"),
        (r#"{"complete":true,"backends":{"a/b":{"6/10":{}}}}"#, "missing field"),
        (&too_many, "1001 verdicts"),
        (&" ".repeat(MAX_BYTES + 1), "200001 bytes"),
    ] {
        let error = ObserverReport::parse(text).expect_err(text).to_string();
        assert!(error.contains(why), "{error:?} does not say {why:?}");
    }
}

#[test]
fn another_version_may_say_what_this_one_does_not_know() {
    let text = r#"{"complete":true,"region":"eu","backends":{"shop/ses":{"6/10":{"health":"Glowing",
        "since":"2023-11-14T22:13:20Z","class":"Haunted","mood":1}}}}"#;
    let Ok(ObserverReport::Complete { reported, known_up_to: None, .. }) = ObserverReport::parse(text) else {
        panic!("{:?}", ObserverReport::parse(text))
    };
    let Seen::As(verdict) = seen(&reported, &key("ses"), "6/10") else { panic!("{reported:?}") };
    assert_eq!((verdict.health, verdict.class), (Health::Unknown, EvidenceClass::Inconclusive));
    assert_eq!(ObserverReport::parse("{}").expect("a report"), ObserverReport::Incomplete);
}

#[test]
fn silence_means_healthy_only_where_the_writer_judges() {
    let reported = BackendVerdicts::from([
        (
            key("ses"),
            [
                ("6/10".into(), observer_verdict(Health::Unhealthy)),
                ("20/20".into(), observer_verdict(Health::Degraded)),
            ]
            .into(),
        ),
        (key("new"), Verdicts::new()),
    ]);
    for (backend, thresholds, want) in [
        ("relay", "6/10", "healthy"),
        ("ses", "6/10", "Unhealthy"),
        ("ses", "20/20", "Degraded"),
        ("ses", "3/3", "abstains"),
        ("new", "6/10", "abstains"),
    ] {
        let said = match seen(&reported, &key(backend), thresholds) {
            Seen::Healthy => "healthy",
            Seen::Abstains => "abstains",
            Seen::As(verdict) => verdict.health.as_str(),
        };
        assert_eq!(said, want, "{backend} {thresholds}");
    }
}

fn any_sighting() -> impl Strategy<Value = ObserverVerdict> {
    // A year around 1970 and one around 2100: what MicroTime holds and people use.
    let time = (-31_536_000_000_000..4_102_444_800_000_000_i64).prop_map(Timestamp::from_micros);
    let health = prop::sample::select(ALL_HEALTH.to_vec());
    let class = prop::sample::select(EvidenceClass::ALL.to_vec());
    let confirms = prop::collection::vec("[a-z]{1,8}".prop_map(Arc::from), 0..3);
    let run =
        ("[a-z]{1,8}", any::<bool>(), 1..100_u32, any::<bool>()).prop_map(|(probe, is_failing, count, contradicts)| {
            SharedRun { probe: probe.into(), is_failing, count, contradicts }
        });
    let runs = prop::collection::vec(run, 0..3);
    (health, time.clone(), class, prop::option::of(time), confirms, runs, "[a-z :é]{0,20}").prop_map(
        |(health, since, class, first_failure_at, confirms, runs, message)| ObserverVerdict {
            health,
            since,
            class,
            first_failure_at,
            confirms: confirms.into(),
            runs: runs.into(),
            message: message.into(),
        },
    )
}

fn any_verdicts() -> impl Strategy<Value = Verdicts> {
    let verdicts = prop::collection::btree_map(".{0,20}", any_sighting(), 0..4);
    verdicts.prop_map(|verdicts| verdicts.into_iter().map(|(thresholds, one)| (thresholds.into(), one)).collect())
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        reported in prop::collection::btree_map("[a-z0-9-]{1,10}", any_verdicts(), 0..20),
        version in prop::option::of(1_u64..),
    ) {
        let reported: BackendVerdicts = reported.into_iter().map(|(name, verdicts)| (key(&name), verdicts)).collect();
        let known_up_to = version.map(|version| ResourceVersion::parse(Some(&version.to_string())).unwrap());
        let (text, _) = ObserverReport::of(Some(&Namespaces::new()), &reported, known_up_to.as_ref());
        prop_assert_eq!(ObserverReport::parse(&text).unwrap(), ObserverReport::Complete { reported, known_up_to, silent: Namespaces::new() });
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = ObserverReport::parse(&text);
    }

    #[test]
    fn no_damaged_report_makes_the_parser_panic(
        verdicts in any_verdicts(), at in any::<prop::sample::Index>(), with in any::<char>()
    ) {
        let (text, _) = ObserverReport::of(Some(&Namespaces::new()), &BackendVerdicts::from([(key("ses"), verdicts)]), None);
        let mut letters: Vec<_> = text.chars().collect();
        let at = at.index(letters.len());
        letters[at] = with;
        let _ = ObserverReport::parse(&letters.iter().collect::<String>());
        letters.truncate(at);
        let _ = ObserverReport::parse(&letters.into_iter().collect::<String>());
    }
}
