use super::*;
use mail_failover_contract::routing::parse;

/// Backends `a`, `b`, … with these shares.
fn answers(percents: &[u8]) -> Answers {
    let backend = |(name, percent)| serde_json::json!({"name": name, "percent": percent, "standby": true, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
    let backends: Vec<_> = ["a", "b", "c"].into_iter().zip(percents).map(backend).collect();
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": backends,
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    });
    Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()))
}

fn choices(answers: &Answers) -> Vec<Arc<str>> {
    let choose = |number| answers.backend_for(&format!("user{number}@example.net"), |_| true).unwrap().name.clone();
    (0..10_000).map(choose).collect()
}

#[test]
fn each_backend_gets_its_share_of_the_recipients() {
    for percents in [[100, 0, 0], [50, 50, 0], [10, 20, 70], [1, 0, 99]] {
        let chosen = choices(&answers(&percents));
        for (name, percent) in ["a", "b", "c"].into_iter().zip(percents) {
            let count = chosen.iter().filter(|chosen| ***chosen == *name).count();
            let expected = usize::from(percent) * 100;
            assert!(count.abs_diff(expected) <= 150, "{name} of {percents:?}: {count}, expected {expected}");
        }
    }
}

#[test]
fn when_a_backend_is_left_only_its_mail_moves() {
    let before = choices(&answers(&[40, 40, 20]));
    let after = choices(&answers(&[50, 50, 0]));
    assert!(before.iter().zip(&after).all(|(before, after)| **before == *"c" || before == after));
}

#[test]
fn the_case_of_an_address_does_not_matter() {
    let answers = answers(&[50, 50, 0]);
    for number in 0..100 {
        let (lower, upper) = (format!("user{number}@example.net"), format!("USER{number}@Example.NET"));
        assert_eq!(answers.backend_for(&lower, |_| true), answers.backend_for(&upper, |_| true));
    }
}

#[test]
fn a_backend_that_may_not_is_passed_over() {
    let answers = answers(&[50, 50, 0]);
    assert_eq!(&*answers.backend_for("x@example.net", |backend| *backend.name != *"a").unwrap().name, "b");
    assert_eq!(answers.backend_for("x@example.net", |_| false), None);
}

/// Answers of three backends, of which some have refused a message to Ann.
fn avoiding(usable: [bool; 3], refused: &[&str]) -> Answers {
    let names = refused.iter().map(|name| Arc::from(*name)).collect();
    let avoided = [(recipient_hash("ann@example.net"), names)].into();
    let learnt = Arc::new(LearntRefusals { avoided, ..LearntRefusals::default() });
    Answers { usable: usable.to_vec(), learnt, ..answers(&[100, 0, 0]) }
}

/// A routing of backends with these fields beside the usual ones, for these senders.
fn with_alternates(backends: &[serde_json::Value], senders: &[&str]) -> Answers {
    let mut all = vec![];
    for (number, fields) in backends.iter().enumerate() {
        let name = format!("b{number}");
        let mut backend = serde_json::json!({"name": name, "percent": 0, "standby": true, "alternate": true, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
        backend.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all.push(backend);
    }
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": all, "senderDomains": senders,
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    });
    Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()))
}

fn names(ways: &[&RouteBackend]) -> Vec<String> {
    ways.iter().map(|backend| backend.name.to_string()).collect()
}

#[test]
fn the_decided_backend_comes_first_and_then_the_standbys_that_may_carry_each_message() {
    let json = |text: &str| serde_json::from_str(text).unwrap();
    let answers = with_alternates(
        &[
            json("{}"),
            json(r#"{"percent": 100, "alternate": false}"#),
            json(r#"{"alternate": false}"#),
            json(r#"{"standby": false}"#),
            json("{}"),
        ],
        &[],
    );
    assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b1", "b0", "b4"]);
    assert_eq!(names(&answers.ways_for_sender("app@shop.example")), ["b1", "b0", "b4"]);
    let left = Answers { usable: vec![false, true, true, false, true], ..answers };
    assert_eq!(names(&left.ways_for_recipient("x@example.net")), ["b1", "b4"]);
}

#[test]
fn each_share_begins_with_its_own_backend() {
    let half = serde_json::json!({"percent": 50});
    let answers = with_alternates(&[half.clone(), half, serde_json::json!({})], &[]);
    let mut firsts = BTreeSet::new();
    for number in 0..100 {
        let recipient = format!("user{number}@example.net");
        let ways = names(&answers.ways_for_recipient(&recipient));
        assert_eq!(ways[0], *answers.backend_for_recipient(&recipient).unwrap().name);
        assert_eq!((ways.len(), &*ways[2]), (3, "b2"));
        firsts.insert(ways[0].clone());
    }
    assert_eq!(firsts.len(), 2);
}

#[test]
fn an_alternate_fits_every_sender_of_the_route_or_the_sender_of_the_message() {
    let restricted = serde_json::json!({"senderDomains": ["shop.example", "news.example"]});
    let only_shop = serde_json::json!({"senderDomains": ["shop.example"]});
    let first = serde_json::json!({"percent": 100});
    let backends = [first, restricted, only_shop];
    for (senders, by_recipient) in [
        (&[][..], &["b0"][..]),
        (&["shop.example", "news.example"], &["b0", "b1"]),
        (&["shop.example"], &["b0", "b1", "b2"]),
    ] {
        let answers = with_alternates(&backends, senders);
        assert_eq!(names(&answers.ways_for_recipient("x@example.net")), by_recipient, "{senders:?}");
    }
    let answers = with_alternates(&backends, &[]);
    assert_eq!(names(&answers.ways_for_sender("a@Shop.example")), ["b0", "b1", "b2"]);
    assert_eq!(names(&answers.ways_for_sender("a@news.example")), ["b0", "b1"]);
    assert_eq!(names(&answers.ways_for_sender("<>")), ["b0"]);
}

#[test]
fn backends_with_tls_from_the_first_byte_share_no_list_with_others() {
    let implicit = serde_json::json!({"tls": {"mode": "Implicit"}});
    let start_tls = serde_json::json!({"percent": 100, "tls": {"mode": "StartTLS"}});
    let answers = with_alternates(&[implicit.clone(), start_tls, serde_json::json!({}), implicit], &[]);
    assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b1", "b2"]);
    let moved = Answers { percents: vec![100, 0, 0, 0], ..answers };
    assert_eq!(names(&moved.ways_for_recipient("x@example.net")), ["b0", "b3"]);
}

#[test]
fn a_backend_whose_breaker_is_open_comes_last_and_one_message_at_a_time_tries_it_first() {
    let decided = serde_json::json!({"percent": 100});
    let answers = with_alternates(&[decided, serde_json::json!({}), serde_json::json!({})], &[]);
    let open = Answers { open: vec![true, false, false], ..answers };
    assert_eq!(names(&open.ways_for_recipient("x@example.net")), ["b1", "b2", "b0"]);
    let tried = Answers { trials: vec![Arc::new(Trial::new("b0".into(), 1))], ..open.clone() };
    assert_eq!(names(&tried.ways_for_recipient("x@example.net")), ["b0", "b1", "b2"]);
    assert_eq!(names(&tried.ways_for_recipient("y@example.net")), ["b1", "b2", "b0"], "one at a time");
    for _ in 1..QUESTIONS {
        assert_eq!(names(&tried.ways_for_recipient("X@example.net")), ["b0", "b1", "b2"], "the same message");
    }
    assert_eq!(names(&tried.ways_for_recipient("x@example.net")), ["b1", "b2", "b0"], "a stream does not follow");
    let all = Answers { open: vec![true; 3], ..open };
    assert_eq!(names(&all.ways_for_recipient("x@example.net")), ["b0", "b1", "b2"]);
}

#[test]
fn one_message_tries_what_real_mail_has_condemned_and_the_next_backend_follows() {
    let condemned = serde_json::json!({"alternate": false, "standby": false, "trial": true});
    let decided = serde_json::json!({"percent": 100});
    let trials = vec![Arc::new(Trial::new("b0".into(), 1))];
    let answers = with_alternates(&[condemned.clone(), decided.clone(), serde_json::json!({})], &[]);
    let tried = Answers { trials: trials.clone(), ..answers };
    assert_eq!(names(&tried.ways_for_recipient("x@example.net")), ["b0", "b1", "b2"]);
    assert_eq!(names(&tried.ways_for_recipient("y@example.net")), ["b1", "b2"], "one at a time");
    // One that no other backend could follow in the same list is not tried.
    let implicit = serde_json::json!({"percent": 100, "tls": {"mode": "Implicit"}});
    let apart = Answers { trials: trials.clone(), ..with_alternates(&[condemned, implicit], &[]) };
    assert_eq!(names(&apart.ways_for_recipient("x@example.net")), ["b1"]);
    let unmarked = serde_json::json!({"alternate": false, "standby": false});
    let answers = Answers { trials, ..with_alternates(&[unmarked, decided], &[]) };
    assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b1"], "the operator does not want it");
}

#[test]
fn a_backend_that_is_set_apart_by_its_tls_takes_over_from_an_open_one() {
    let decided = serde_json::json!({"percent": 100, "tls": {"mode": "StartTLS"}});
    let implicit = serde_json::json!({"tls": {"mode": "Implicit"}});
    let answers = with_alternates(&[decided, implicit], &[]);
    assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b0"]);
    let open = Answers { open: vec![true, false], ..answers };
    assert_eq!(names(&open.ways_for_recipient("x@example.net")), ["b1"]);
}

#[test]
fn one_attempt_tries_a_bounded_number_of_backends() {
    let mut backends = vec![serde_json::json!({}); 20];
    backends[7] = serde_json::json!({"percent": 100});
    let answers = with_alternates(&backends, &[]);
    assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b7", "b0", "b1", "b2", "b3"]);
}

#[test]
fn a_backend_that_has_taken_its_messages_of_the_day_is_no_alternate() {
    let answers = with_alternates(&[serde_json::json!({"percent": 100}), serde_json::json!({})], &[]);
    assert_eq!((answers.use_of("b0"), answers.use_of("b1")), (BackendUse::First, BackendUse::SpillOver));
    let spent = Answers { spent: vec![true, true], ..answers };
    assert_eq!(names(&spent.ways_for_recipient("x@example.net")), ["b0"], "where the route leads is no alternate");
    assert_eq!((spent.use_of("b0"), spent.use_of("b1")), (BackendUse::First, BackendUse::Spent));
    let open = Answers { open: vec![true, false], ..spent.clone() };
    assert_eq!((open.carried(), open.is_bypassed(0)), (vec![100, 0], false), "it does not take over");
    let open = Answers { spent: vec![false, false], ..open };
    assert_eq!(open.use_of("b1"), BackendUse::First, "it takes over");
}

#[test]
fn a_backend_that_has_refused_the_message_is_no_alternate_for_it() {
    let answers = with_alternates(&[serde_json::json!({"percent": 100}), serde_json::json!({})], &[]);
    let avoided = [(recipient_hash("ann@example.net"), ["b0".into()].into())].into();
    let learnt = Arc::new(LearntRefusals { avoided, ..LearntRefusals::default() });
    let answers = Answers { learnt, ..answers };
    assert_eq!(names(&answers.ways_for_recipient("ann@example.net")), ["b1"]);
    assert_eq!(names(&answers.ways_for_recipient("bob@example.net")), ["b0", "b1"]);
}

#[test]
fn a_recipient_goes_where_it_was_not_refused_while_such_a_place_is_usable() {
    let chosen = |answers: &Answers, recipient| answers.backend_for_recipient(recipient).unwrap().name.to_string();
    assert_eq!(chosen(&avoiding([true; 3], &["a"]), "Ann@example.net"), "b");
    assert_eq!(chosen(&avoiding([true; 3], &["a"]), "bob@example.net"), "a");
    assert_eq!(chosen(&avoiding([true; 3], &["a", "b"]), "ann@example.net"), "c");
    assert_eq!(chosen(&avoiding([true, false, true], &["a"]), "ann@example.net"), "c");
    assert_eq!(chosen(&avoiding([true, false, false], &["a"]), "ann@example.net"), "a", "there is nowhere else");
}
