use std::collections::BTreeSet;

use proptest::prelude::*;

use super::testing::{Act, BUSY, NO_USER, PAUSED, Server, Trial, bounds, recipient, ways};
use super::*;

fn broken_at(step: usize, act: Act) -> Server {
    let mut server = Server::default();
    match step {
        0 => server.connect = Some(act),
        1 => server.mail = Some(act),
        2 => server.recipients = vec![Some(act)],
        3 => server.recipients = vec![None, Some(act)],
        4 => server.data = Some(act),
        5 => server.content = Some(act),
        _ => server.end = Some(act),
    }
    server
}

#[test]
fn a_failure_at_any_stage_before_the_end_is_not_seen_by_the_application() {
    for step in 0..6 {
        for act in [Act::Close, Act::Hang, PAUSED, BUSY] {
            if step == 0 && matches!(act, Act::Reply(..)) {
                continue;
            }
            let mut trial = Trial::of(vec![broken_at(step, act.clone()), Server::default()]);
            assert_eq!(trial.send(&["0@x", "1@x"]), [250, 250, 250, 250], "{step} {act:?}");
            assert_eq!(trial.taken(), [0, 1], "{step} {act:?}");
            assert_eq!(trial.servers[1].taken[0], ["0@x", "1@x"]);
            let fates: Vec<_> = trial.evidence.iter().map(|evidence| evidence.fate).collect();
            assert_eq!(fates, [Fate::PassedOn, Fate::Accepted], "{step} {act:?}");
        }
    }
}

#[test]
fn a_definite_refusal_at_the_end_goes_on_and_silence_does_not() {
    for act in [PAUSED, BUSY, Act::Reply(421, "4.3.2 shutting down")] {
        let mut trial = Trial::of(vec![broken_at(6, act), Server::default()]);
        assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 250], vec![0, 1]));
    }
    for act in [Act::TakeAndClose, Act::Close, Act::Hang, Act::Reply(354, "go on")] {
        let mut trial = Trial::of(vec![broken_at(6, act.clone()), Server::default()]);
        let codes = trial.send(&["0@x"]);
        assert_eq!((codes, trial.taken()[1]), (vec![250, 250, 451], 0), "{act:?}: no second copy");
        assert!(trial.evidence.last().unwrap().is_ambiguous);
        let text = &trial.answers.last().unwrap().text;
        assert!(text.contains("b0 may have accepted the message"), "{text}");
        let mut trial = Trial::new(
            vec![broken_at(6, act), Server::default()],
            bounds(Ambiguity::Retry),
            "MAIL FROM:<a@example.net>",
        );
        assert_eq!((trial.send(&["0@x"]), trial.taken()[1]), (vec![250, 250, 250], 1), "by wish");
        assert!(trial.evidence[0].is_ambiguous);
    }
}

#[test]
fn what_is_about_the_message_is_told_as_it_is() {
    let large = Act::Reply(552, "5.3.4 Message size exceeds file system imposed limit");
    let trial = Trial::of(vec![broken_at(1, large), Server::default()]);
    assert_eq!((trial.answers[0].code, trial.transaction.is_over()), (552, true));
    let mut trial = Trial::of(vec![broken_at(3, NO_USER), Server::default()]);
    assert_eq!(trial.send(&["0@x", "1@x", "2@x"]), [250, 250, 550, 250, 250]);
    assert_eq!(trial.answers[2].text, "5.1.1 no such user");
    assert_eq!(trial.servers[0].taken, [["0@x", "2@x"]]);
    let mut trial = Trial::of(vec![broken_at(6, Act::Reply(552, "5.3.4 message too big")), Server::default()]);
    assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 552], vec![0, 0]));
}

#[test]
fn a_sender_that_one_backend_does_not_know_is_offered_to_the_next_one() {
    let unknown = Act::Reply(553, "5.7.1 Sender address rejected: not owned by user x");
    let mut trial = Trial::of(vec![broken_at(1, unknown.clone()), Server::default()]);
    assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 250], vec![0, 1]));
    assert_eq!(trial.evidence[0].class, EvidenceClass::RecipientLevel, "it is no failure of the backend");
    let trial = Trial::of(vec![broken_at(1, unknown.clone()), broken_at(1, unknown)]);
    assert_eq!((trial.answers[0].code, trial.transaction.is_over()), (553, true), "nobody knows it");
}

#[test]
fn a_recipient_that_was_accepted_stays_so_or_the_transaction_ends_and_says_so() {
    let first = broken_at(6, PAUSED);
    let second = broken_at(3, NO_USER);
    let mut trial = Trial::of(vec![first, second, Server::default()]);
    assert_eq!(trial.send(&["0@x", "1@x"]), [250, 250, 250, 451]);
    let text = &trial.answers[3].text;
    assert!(
        text.contains("a recipient that was accepted before is refused by b1") && text.contains("no such user"),
        "{text}"
    );
    assert_eq!(trial.taken(), [0, 0, 0]);
    // The same during the replay for a later recipient: everything that follows is told, too.
    let first = Server { recipients: vec![None, Some(Act::Close)], ..Server::default() };
    let mut trial = Trial::of(vec![first, broken_at(2, NO_USER)]);
    assert_eq!(trial.send(&["0@x", "1@x", "2@x"]), [250, 250, 451, 451]);
    assert_eq!(trial.transaction.answer_to_data().code, 451);
}

#[test]
fn with_every_way_down_the_application_is_told_at_once_and_why() {
    let mut trial = Trial::of(vec![broken_at(0, Act::Close), broken_at(1, PAUSED)]);
    assert_eq!(trial.answers.len(), 1);
    let Answer { code, text } = &trial.answers[0];
    assert_eq!(*code, 451);
    assert!(text.contains("b0: ConnectionLost; b1: 554 Message rejected: Sending paused"), "{text}");
    assert!(trial.transaction.is_over());
    assert_eq!(trial.evidence.last().unwrap().fate, Fate::Deferred);
    // What waits for us to mend it must not be bounced, though each backend says 5xx.
    trial = Trial::of(vec![broken_at(1, PAUSED)]);
    assert_eq!(trial.answers[0].code, 451);
    // What nobody takes, for whatever reason, is told as it is.
    let refusal = Act::Reply(550, "5.7.1 relaying denied");
    trial = Trial::of(vec![broken_at(1, refusal.clone()), broken_at(1, refusal)]);
    assert_eq!(trial.answers[0], Answer { code: 550, text: "5.7.1 relaying denied".to_owned() });
    // A 4yz is passed on as it is, but for 421, which would say that we close the connection.
    assert_eq!(Trial::of(vec![broken_at(1, BUSY)]).answers[0].text, "4.3.0 internal error");
    assert_eq!(Trial::of(vec![broken_at(1, Act::Reply(421, "bye"))]).answers[0].code, 451);
}

#[test]
fn one_backend_that_refuses_one_recipient_goes_on_with_the_others() {
    let refusal = Act::Reply(554, "5.7.1 relaying denied");
    let server = Server { recipients: vec![None, Some(refusal)], ..Server::default() };
    let mut trial = Trial::of(vec![server]);
    assert_eq!(trial.send(&["0@x", "1@x", "2@x"]), [250, 250, 554, 250, 250]);
    assert_eq!(trial.servers[0].taken, [["0@x", "2@x"]]);
}

#[test]
fn a_standby_gets_what_another_one_has_refused_and_nothing_else() {
    let ways = || {
        let mut ways = ways(2);
        ways[1].after_refusal = true;
        ways
    };
    let servers = |act| vec![broken_at(1, act), Server::default()];
    let begun = |act| Trial::on(ways(), servers(act), bounds(Ambiguity::Refuse), "MAIL FROM:<a@example.net>");
    assert_eq!(begun(PAUSED).answers[0].code, 250);
    assert_eq!(begun(Act::Close).answers[0].code, 451);
    assert_eq!(begun(BUSY).answers[0].code, 451);
}

#[test]
fn a_connection_that_was_closed_while_idle_is_made_anew_and_blames_nobody() {
    let server = Server { is_idle_closed: true, ..Server::default() };
    let mut trial = Trial::of(vec![server, Server::default()]);
    assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 250], vec![1, 0]));
    assert_eq!(trial.evidence.len(), 1, "the accepted message");
    // And one that the server closed while the application thought.
    let mut trial = Trial::of(vec![Server::default(), Server::default()]);
    trial.recipient("0@x");
    trial.now += Duration::from_mins(5);
    trial.servers[0].data = Some(Act::Close);
    let before = trial.performed;
    trial.transaction.handle(trial.now, TransactionInput::Content(10));
    let actions = trial.transaction.poll();
    let [TransactionAction::Perform { operation: Operation::Command(_), deadline }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let result = trial.perform(&Operation::Command("DATA".to_owned()), *deadline);
    trial.servers[0].data = None;
    trial.transaction.handle(trial.now, TransactionInput::Done(result));
    trial.work();
    assert_eq!((trial.taken(), trial.performed > before), (vec![1, 0], true));
    assert_eq!(trial.servers[0].taken, [["0@x"]]);
}

#[test]
fn a_backend_that_lacks_what_the_message_uses_is_passed_by() {
    let able = Capabilities { size: Some(5000), eight_bit: true, utf8: true, ..Capabilities::default() };
    let line = "MAIL FROM:<ü@example.net> SMTPUTF8";
    let servers = vec![Server::default(), Server { capabilities: able, ..Server::default() }];
    let mut trial = Trial::new(servers, bounds(Ambiguity::Refuse), line);
    assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 250], vec![0, 1]));
    assert_eq!(trial.evidence.len(), 1, "it is no failure");
    let trial = Trial::new(vec![Server::default()], bounds(Ambiguity::Refuse), line);
    assert_eq!(trial.answers[0].code, 553);
    // If another one could, and is down, it is worth another try.
    let down = Server { connect: Some(Act::Close), ..Server::default() };
    let trial = Trial::new(vec![Server::default(), down], bounds(Ambiguity::Refuse), line);
    assert_eq!(trial.answers[0].code, 451);
    // The size counts when it is known.
    let small = Server { capabilities: Capabilities { size: Some(500), ..able }, ..Server::default() };
    let mut trial = Trial::of(vec![small.clone(), Server { capabilities: able, ..Server::default() }]);
    assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 250], vec![0, 1]));
    let mut trial = Trial::of(vec![small]);
    assert_eq!(trial.send(&["0@x"]), [250, 250, 552]);
}

#[test]
fn all_waits_together_stay_within_the_bound() {
    let silent = || broken_at(0, Act::Hang);
    let start = Instant::now();
    let trial = Trial::of(vec![silent(), silent(), silent(), silent(), silent()]);
    assert!(trial.now - start <= Duration::from_secs(16), "{:?}", trial.now - start);
    assert_eq!(trial.answers[0].code, 451);
    let text = &trial.answers[0].text;
    assert!(text.contains("no backend took the message in time"), "{text}");
    // Whoever had less than its stage is not accused of silence.
    assert_eq!(trial.evidence.len(), 3);
    // A silent end takes the rest and no more.
    let mut trial = Trial::of(vec![broken_at(0, Act::Hang), broken_at(6, Act::Hang)]);
    assert_eq!(trial.send(&["0@x"]), [250, 250, 451]);
    assert!(trial.now - start <= Duration::from_secs(26));
    // Waits for the application cost nothing.
    let mut trial = Trial::of(vec![Server::default()]);
    trial.recipient("0@x");
    trial.now += Duration::from_mins(10);
    assert_eq!(trial.content().code, 250);
}

#[test]
fn an_acceptance_before_the_final_dot_is_none() {
    for early in [Act::Reply(250, "2.0.0 ok"), Act::Reply(354, "go on")] {
        let mut trial = Trial::of(vec![broken_at(5, early), Server::default()]);
        assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 250], vec![0, 1]));
        assert_eq!(trial.evidence[0].class, EvidenceClass::ProtocolError);
        assert!(!trial.evidence[0].is_ambiguous, "it has not had the whole message");
    }
    let mut trial = Trial::of(vec![broken_at(5, Act::Reply(250, "2.0.0 ok"))]);
    assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 451], vec![0]));
    // A refusal before it is one, and the connection is of no use: RSET would be a part of the content.
    for (early, codes) in [
        (Act::Reply(552, "5.3.4 message too big"), [250, 250, 552]),
        (Act::Reply(421, "4.3.2 bye"), [250, 250, 250]),
        (BUSY, [250, 250, 250]),
    ] {
        let mut trial = Trial::of(vec![broken_at(5, early), Server::default()]);
        assert_eq!(trial.send(&["0@x"]), codes);
        assert!(!trial.released[0], "not in step");
    }
}

#[test]
fn content_that_the_bound_on_all_waits_cuts_off_accuses_nobody() {
    // Steady and slow: no pause of a stage, and no end in time.
    let slow = || Server { is_slow: true, ..Server::default() };
    let start = Instant::now();
    let mut trial = Trial::of(vec![slow(), Server::default()]);
    assert_eq!((trial.send(&["0@x"]), trial.taken()), (vec![250, 250, 451], vec![0, 0]));
    assert!(trial.answers[2].text.contains("no backend took the message in time"), "{:?}", trial.answers);
    assert_eq!(trial.evidence, []);
    assert!(trial.now - start <= Duration::from_secs(16));
    // A pause of a stage does accuse.
    let mut trial = Trial::of(vec![broken_at(5, Act::Hang), Server::default()]);
    trial.send(&["0@x"]);
    assert_eq!(trial.evidence[0].class, EvidenceClass::NoAnswer);
}

#[test]
fn a_recipient_that_no_backend_takes_with_its_wishes_is_refused_alone() {
    let able = Capabilities { notifications: true, ..Capabilities::default() };
    let wish = |trial: &mut Trial| {
        let wanted = recipient("RCPT TO:<1@x> NOTIFY=NEVER");
        trial.transaction.handle(trial.now, TransactionInput::Recipient(wanted));
        trial.work();
        trial.answers.last().unwrap().clone()
    };
    for servers in [vec![Server::default()], vec![Server::default(), Server::default(), Server::default()]] {
        let mut trial = Trial::of(servers);
        trial.recipient("0@x");
        for _ in 0..2 {
            let answer = wish(&mut trial);
            assert!(answer.code == 555 && answer.text.starts_with("5.5.4 no backend"), "{answer:?}");
        }
        assert_eq!((trial.recipient("2@x").code, trial.transaction.answer_to_data().code), (250, 354));
        assert_eq!((trial.content().code, trial.taken()[0]), (250, 1));
        assert_eq!(trial.servers[0].taken, [["0@x", "2@x"]]);
    }
    // Another one could, and is down: later perhaps.
    let down = Server { connect: Some(Act::Close), capabilities: able, ..Server::default() };
    let mut trial = Trial::of(vec![Server::default(), down]);
    trial.recipient("0@x");
    let answer = wish(&mut trial);
    assert_eq!((answer.code, trial.content().code), (451, 250));
    // Another one could, and does not take a recipient that was accepted before.
    let other = Server { recipients: vec![Some(NO_USER)], capabilities: able, ..Server::default() };
    let mut trial = Trial::of(vec![Server::default(), other]);
    trial.recipient("0@x");
    assert_eq!((wish(&mut trial).code, trial.content().code, trial.taken()), (451, 250, vec![1, 0]));
    // Another one takes it, and the others with it.
    let mut trial = Trial::of(vec![Server::default(), Server { capabilities: able, ..Server::default() }]);
    trial.recipient("0@x");
    assert_eq!((wish(&mut trial).code, trial.content().code, trial.taken()), (250, 250, vec![0, 1]));
}

#[test]
fn one_code_is_told_of_a_transaction_that_is_broken() {
    let first = Server { recipients: vec![None, Some(Act::Close)], ..Server::default() };
    let mut trial = Trial::of(vec![first, broken_at(1, Act::Reply(550, "5.7.1 relaying denied"))]);
    trial.send(&["0@x", "1@x"]);
    let text = trial.transaction.answer_to_data().text;
    assert!(text.starts_with("4.") && !text[6..].starts_with("5."), "{text}");
    assert_eq!(failures::without_enhanced("5.5.4 no backend"), "no backend");
    for text in ["no backend", "5.5 x", "a.b.c x", "..", "5.5.4"] {
        assert_eq!(failures::without_enhanced(text), text);
    }
}

#[test]
fn doubt_is_told_whatever_the_next_backend_says() {
    for act in [NO_USER, PAUSED, BUSY, Act::Reply(552, "5.3.4 message too big"), Act::Close, Act::Hang] {
        for step in [0, 1, 2, 4, 6] {
            if step == 0 && matches!(act, Act::Reply(..)) {
                continue;
            }
            let servers = vec![broken_at(6, Act::TakeAndClose), broken_at(step, act.clone())];
            let mut trial = Trial::new(servers, bounds(Ambiguity::Retry), "MAIL FROM:<a@example.net>");
            assert_eq!(trial.send(&["0@x"]), [250, 250, 451], "{step} {act:?}");
            let text = &trial.answers[2].text;
            assert!(text.starts_with("4.4.2 b0 may have accepted the message"), "{text}");
            assert!(trial.evidence.iter().all(|evidence| evidence.fate != Fate::Refused), "no bounce");
        }
    }
    let servers = vec![broken_at(6, Act::Close), broken_at(6, NO_USER)];
    let mut trial = Trial::new(servers, bounds(Ambiguity::Retry), "MAIL FROM:<a@example.net>");
    trial.send(&["0@x"]);
    assert!(trial.answers[2].text.contains("after that: 550 5.1.1 no such user"), "{:?}", trial.answers[2]);
}

#[test]
fn a_connection_that_was_given_away_is_replaced_where_the_message_is() {
    let mut trial = Trial::of(vec![Server::default(), Server::default()]);
    let give = |trial: &mut Trial| {
        trial.transaction.yield_connection();
        trial.work();
        trial.now += Duration::from_mins(3);
    };
    give(&mut trial);
    assert_eq!(trial.recipient("0@x").code, 250);
    give(&mut trial);
    assert_eq!(trial.recipient("1@x").code, 250);
    give(&mut trial);
    assert_eq!((trial.content().code, trial.taken()), (250, vec![1, 0]));
    assert_eq!(trial.servers[0].taken, [["0@x", "1@x"]]);
    assert_eq!(trial.evidence.len(), 1);
    // It is replayed on the next way if that one fails meanwhile.
    let mut trial = Trial::of(vec![Server::default(), Server::default()]);
    trial.recipient("0@x");
    give(&mut trial);
    trial.servers[0].connect = Some(Act::Close);
    assert_eq!((trial.content().code, trial.taken()), (250, vec![0, 1]));
}

fn act() -> impl Strategy<Value = Option<Act>> {
    prop_oneof![
        6 => Just(None),
        1 => Just(Some(Act::Close)),
        1 => Just(Some(Act::Hang)),
        1 => Just(Some(PAUSED)),
        1 => Just(Some(BUSY)),
        1 => Just(Some(NO_USER)),
        1 => Just(Some(Act::Reply(354, "go"))),
        1 => Just(Some(Act::Reply(421, "4.3.2 bye"))),
        1 => Just(Some(Act::Reply(250, "ok"))),
    ]
}

fn server() -> impl Strategy<Value = Server> {
    let connect = act().prop_map(|act| act.filter(|act| matches!(act, Act::Close | Act::Hang)));
    let end = prop_oneof![4 => act(), 1 => Just(Some(Act::TakeAndClose))];
    let recipients =
        prop::collection::vec(act().prop_map(|act| act.filter(|act| !matches!(act, Act::Reply(250, _)))), 3);
    (connect, act(), recipients, act(), act(), end, any::<bool>()).prop_map(
        |(connect, mail, recipients, data, content, end, is_idle_closed)| Server {
            connect,
            mail,
            recipients,
            data,
            content,
            end,
            is_idle_closed,
            ..Server::default()
        },
    )
}

proptest! {
    #[test]
    fn an_accepted_message_is_at_one_backend_for_the_recipients_that_were_told_so(
        servers in prop::collection::vec(server(), 1..5),
        yields in prop::collection::vec(any::<bool>(), 4),
    ) {
        let start = Instant::now();
        let mut trial = Trial::of(servers);
        let names = ["0@x", "1@x", "2@x"];
        let mut told = BTreeSet::new();
        let mut is_accepted = false;
        if !trial.transaction.is_over() {
            for (name, yields) in names.into_iter().zip(&yields) {
                if *yields {
                    trial.transaction.yield_connection();
                    trial.work();
                }
                let answer = trial.recipient(name);
                if answer.code < 300 {
                    told.insert(name.to_owned());
                }
            }
            prop_assert_eq!(trial.transaction.recipients(), told.len());
            if yields[3] {
                trial.transaction.yield_connection();
                trial.work();
            }
            if trial.transaction.answer_to_data().code == 354 {
                is_accepted = trial.content().code < 300;
                prop_assert!(trial.transaction.is_over());
            }
        }
        let taken: Vec<_> = trial.servers.iter().flat_map(|server| &server.taken).collect();
        let is_ambiguous = trial.evidence.iter().any(|evidence| evidence.is_ambiguous);
        if is_accepted {
            prop_assert_eq!(taken.len(), 1);
            prop_assert_eq!(taken[0].iter().cloned().collect::<BTreeSet<_>>(), told);
        } else {
            prop_assert!(taken.len() <= usize::from(is_ambiguous), "{:?}", taken);
        }
        let accepted = trial.evidence.iter().filter(|evidence| evidence.fate == Fate::Accepted).count();
        prop_assert_eq!(accepted, usize::from(is_accepted));
        prop_assert!(trial.now - start <= Duration::from_secs(26));
        prop_assert!(trial.answers.iter().all(|answer| answer.code != 421 && answer.code != 354));
    }

    #[test]
    fn with_one_sound_backend_at_the_end_every_message_gets_through_unless_it_is_refused_itself(
        servers in prop::collection::vec(server(), 0..3),
    ) {
        let mut servers: Vec<Server> = servers;
        for server in &mut servers {
            // Nothing that is about the message, or that nobody can know.
            for act in [&mut server.connect, &mut server.mail, &mut server.data, &mut server.content, &mut server.end]
                .into_iter()
                .chain(&mut server.recipients)
            {
                let is_told = matches!(act, Some(Act::Reply(550, _) | Act::Hang));
                if is_told {
                    *act = None;
                }
            }
            if !matches!(server.end, Some(Act::Reply(250 | 421 | 451 | 554, _))) {
                server.end = Some(BUSY);
            }
        }
        servers.push(Server::default());
        let mut trial = Trial::of(servers);
        prop_assert_eq!(trial.send(&["0@x", "1@x", "2@x"]), [250; 5]);
        prop_assert_eq!(trial.taken().iter().sum::<usize>(), 1);
    }
}
