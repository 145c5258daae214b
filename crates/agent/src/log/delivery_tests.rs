use mail_failover_core::model::Timestamp;

use super::super::LogReader;
use super::*;
use EvidenceClass as Class;

/// Log of a real Postfix 3.7.11 with a fault at each port of its server; one message for each port, all flushed once.
const LOG: &str = include_str!("../../tests/data/postfix/faults.log");

/// The events of a log that is read line by line within one second.
fn events(log: &str) -> Vec<LogEvent> {
    let mut reader = LogReader::default();
    log.lines().flat_map(|line| reader.read(Timestamp::default(), line)).collect()
}

fn deliveries(port: u16) -> Vec<Delivery> {
    let deliveries = events(LOG).into_iter().filter_map(|event| match event {
        LogEvent::Delivery(delivery) => Some(delivery),
        LogEvent::Suspended | LogEvent::PossibleDuplicate(_) | LogEvent::Gone(_) => None,
    });
    deliveries.filter(|delivery| delivery.place.port == Some(port)).collect()
}

#[test]
fn every_fault_that_postfix_meets_has_the_class_that_a_postmaster_would_give_it() {
    let expected = [
        (2500, "healthy", Class::Ok),
        (2501, "421 in the banner", Class::Temporary),
        (2502, "554 in the banner", Class::Permanent),
        (2503, "no banner", Class::NoAnswer),
        (2504, "no answer to EHLO", Class::NoAnswer),
        (2505, "535 to AUTH", Class::AuthenticationRefused),
        (2506, "suspended at MAIL", Class::AccountPaused),
        (2507, "throttled at MAIL", Class::Throttled),
        (2508, "no such user", Class::RecipientLevel),
        (2509, "451 at RCPT", Class::Temporary),
        (2510, "451 at DATA", Class::Temporary),
        (2511, "paused at the end of data", Class::AccountPaused),
        (2512, "message too big", Class::RecipientLevel),
        (2513, "closed after MAIL", Class::ConnectionLost),
        (2514, "closed at the end of data", Class::ConnectionLost),
        (2515, "no answer at the end of data", Class::NoAnswer),
        (2516, "reset in the data", Class::ConnectionLost),
        (2518, "no STARTTLS", Class::TlsFailed),
        (2519, "garbage for a handshake", Class::TlsFailed),
        (2520, "credits exceeded at AUTH", Class::QuotaExhausted),
        (2521, "paused at RCPT", Class::AccountPaused),
        (2522, "relay denied", Class::Permanent),
        (2523, "reset before the banner", Class::ConnectionLost),
        (2524, "421 at MAIL", Class::Temporary),
        (2525, "refused", Class::ConnectionRefused),
        (2526, "reputation, on two lines", Class::Reputation),
        (2527, "certificate of an unknown authority", Class::CertificateInvalid),
        (2528, "daily quota", Class::QuotaExhausted),
    ];
    for (port, fault, class) in expected {
        let deliveries = deliveries(port);
        assert!(!deliveries.is_empty(), "nothing about {fault} ({port})");
        for delivery in deliveries {
            assert_eq!(delivery.class, class, "{fault}: {}", delivery.summary);
        }
    }
}

#[test]
fn a_message_that_may_have_arrived_is_counted_where_the_reply_was_lost() {
    let ports = events(LOG).into_iter().filter_map(|event| match event {
        LogEvent::PossibleDuplicate(place) => place.port,
        LogEvent::Suspended | LogEvent::Delivery(_) | LogEvent::Gone(_) => None,
    });
    assert_eq!(ports.collect::<Vec<_>>(), [2514, 2516, 2515, 2514, 2516]);
}

#[test]
fn what_the_queue_manager_suspends_is_no_evidence() {
    let suspended = LOG.lines().filter(|line| line.contains("delivery temporarily suspended"));
    let seen: Vec<_> = suspended.map(events).collect();
    assert!(!seen.is_empty() && seen.iter().all(|seen| *seen == [LogEvent::Suspended]), "{seen:?}");
}

#[test]
fn how_long_an_attempt_took_is_read() {
    let hung = &deliveries(2515)[0];
    assert!(hung.took.as_secs_f64() > 6.0 && hung.took.as_secs_f64() < 6.5, "{:?}", hung.took);
}

#[test]
fn no_mail_address_leaves() {
    for event in events(LOG) {
        assert!(!format!("{event:?}").contains('@'), "{event:?}");
    }
}

#[test]
fn a_name_without_addresses_is_attributed_by_the_name_and_one_that_dns_cannot_tell_is_no_evidence() {
    let line = |answer: &str, dsn: &str| {
        format!(
            "Nov 25 15:43:37 mx postfix/smtp[1]: 0C425984024: to=<u@dns.test>, relay=none, delay=0.01, delays=0.01/0/0/0, dsn={dsn}, status=deferred (Host or domain name not found. Name service error for name=Relay.Invalid type=A: {answer})"
        )
    };
    let place = Place { host: "relay.invalid".into(), port: None, backend: None };
    for (answer, class) in [("Host not found", Class::Unresolvable), ("Host not found, try again", Class::Inconclusive)]
    {
        let seen = events(&line(answer, "4.4.4"));
        let [LogEvent::Delivery(delivery)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((&delivery.place, delivery.class), (&place, class));
    }
}

/// A record of smtp(8) for a backend with this reason.
fn record(dsn: &str, status: &str, reason: &str) -> String {
    format!(
        "Nov 25 15:43:37 mx postfix/smtp[1]: 0C425984024: to=<u@dns.test>, relay=none, delay=0.01, delays=0.01/0/0/0, dsn={dsn}, status={status} ({reason})"
    )
}

/// A record of a backend that has said this.
fn said(reply: &str, command: &str) -> String {
    let reason = format!("host relay.example[192.0.2.1] said: {reply} (in reply to {command} command)");
    record("5.0.0", "deferred", &reason).replace("relay=none", "relay=relay.example[192.0.2.1]:587")
}

fn class_of(line: &str) -> Option<(Option<u16>, Class)> {
    match &events(line)[..] {
        [LogEvent::Delivery(delivery)] => Some((delivery.place.port, delivery.class)),
        [] => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_words_of_either_c_library_are_read() {
    for (words, class) in [
        ("Connection timed out", Class::NoAnswer),
        ("Operation timed out", Class::NoAnswer),
        ("No route to host", Class::ConnectionRefused),
        ("Host is unreachable", Class::ConnectionRefused),
        ("Network is unreachable", Class::Inconclusive),
        ("Network unreachable", Class::Inconclusive),
        ("Cannot assign requested address", Class::Inconclusive),
        ("Address not available", Class::Inconclusive),
        ("Operation not permitted", Class::Inconclusive),
        ("words of a library that nobody knows", Class::Inconclusive),
    ] {
        let line = record("4.4.1", "deferred", &format!("connect to relay.example[2001:db8::1]:587: {words}"));
        assert_eq!(class_of(&line), Some((Some(587), class)), "{words}");
    }
}

#[test]
fn a_name_that_the_system_does_not_know_is_unresolvable_and_a_silent_resolver_is_ours() {
    for (words, dsn, class) in [
        ("Name or service not known", "5.4.4", Class::Unresolvable),
        ("Name does not resolve", "5.4.4", Class::Unresolvable),
        ("Temporary failure in name resolution", "4.4.3", Class::Inconclusive),
        ("Try again", "4.4.3", Class::Inconclusive),
    ] {
        let line = record(dsn, "bounced", &format!("unable to look up host Relay.example: {words}"));
        let seen = events(&line);
        let [LogEvent::Delivery(delivery)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((&*delivery.place.host, delivery.place.port, delivery.class), ("relay.example", None, class));
    }
}

#[test]
fn what_this_postfix_lacks_is_not_the_backends_fault() {
    for reason in [
        "TLS is required, but our TLS engine is unavailable",
        "SASL authentication failed; cannot authenticate to server relay.example[192.0.2.1]: no mechanism available",
    ] {
        let line = record("4.7.5", "deferred", reason).replace("relay=none", "relay=relay.example[192.0.2.1]:587");
        assert_eq!(class_of(&line), Some((Some(587), Class::Inconclusive)), "{reason}");
    }
    let line = record("4.7.4", "deferred", "TLS is required, but was not offered by host relay.example[192.0.2.1]")
        .replace("relay=none", "relay=relay.example[192.0.2.1]:587");
    assert_eq!(class_of(&line), Some((Some(587), Class::TlsFailed)));
}

#[test]
fn a_reply_whose_command_was_cut_off_accuses_as_little_as_it_can() {
    for (text, class) in [
        ("550-This account has been suspended, more text", Class::RecipientLevel),
        ("550 no", Class::RecipientLevel),
        ("554 Message rejected: Sending paused for this account.", Class::AccountPaused),
    ] {
        let line = said(text, "RCPT TO").replace(" (in reply to RCPT TO command)", "");
        assert_eq!(class_of(&line), Some((Some(587), class)), "{text}");
    }
}

/// A server may write what Postfix writes at the end, and make its reply so long that Postfix cuts there.
#[test]
fn a_command_counts_at_the_very_end_only_and_a_line_that_was_cut_counts_for_nothing() {
    let forged = "550 5.7.1 Client host rejected (in reply to MAIL FROM command) for this recipient";
    assert_eq!(class_of(&said(forged, "RCPT TO")), class_of(&said("550 5.7.1 Client host rejected", "RCPT TO")));
    let refused = "550 5.7.1 Your account has been suspended (in reply to MAIL FROM command)";
    let line = said(refused, "RCPT TO");
    for cut in [
        line.replace(" (in reply to RCPT TO command))", " (in reply"),
        said(&format!("550 5.7.1 Your account has been suspended {}", "x".repeat(2000)), "MAIL FROM"),
    ] {
        assert_eq!(class_of(&cut), None, "{cut}");
    }
    let within = "host a[192.0.2.1] said: 550 x (in reply to MAIL FROM command) y";
    assert_eq!(Quoted::within(within).unwrap().answered, None);
}

#[test]
fn what_another_server_said_counts_for_nothing() {
    for reply in [
        "550 5.1.1 <u@x.test>: Recipient address rejected: 550 5.7.1 Your account has been suspended",
        "550-5.1.1 <u@x.test>: no such user 550 5.1.1 mx.x.test[192.0.2.66] said 554 Sending paused for this account",
    ] {
        assert_eq!(class_of(&said(reply, "RCPT TO")), Some((Some(587), Class::RecipientLevel)), "{reply}");
    }
    let of_lines = said("550-Your account 550 has been suspended", "MAIL FROM");
    assert_eq!(class_of(&of_lines), Some((Some(587), Class::AccountPaused)), "further lines are its own");
}

#[test]
fn a_refusal_of_the_sender_of_one_message_is_that_messages() {
    for (reply, class) in [
        ("501 Invalid MAIL FROM address provided", Class::RecipientLevel),
        ("553 5.7.1 <x@example.org>: Sender address rejected: not owned by user", Class::RecipientLevel),
        ("555 5.5.4 Unsupported option: SMTPUTF8", Class::RecipientLevel),
        ("550 5.1.8 Sender domain not found", Class::RecipientLevel),
        ("552 5.3.4 Message size exceeds fixed limit", Class::RecipientLevel),
        ("553 5.7.1 Your account has been suspended", Class::AccountPaused),
        ("550 something that nobody knows", Class::Permanent),
    ] {
        assert_eq!(class_of(&said(reply, "MAIL FROM")), Some((Some(587), class)), "{reply}");
    }
}

/// Amazon SES and others take no mail from `<>`.
#[test]
fn a_refusal_of_a_bounce_accuses_nobody() {
    let refused = said("550 something that nobody knows", "MAIL FROM");
    for (sender, class) in [("", Class::RecipientLevel), ("shop@example.org", Class::Permanent)] {
        let active =
            format!("Nov 25 15:43:37 mx postfix/qmgr[1]: 0C425984024: from=<{sender}>, size=9, nrcpt=1 (queue active)");
        assert_eq!(class_of(&format!("{active}\n{refused}")), Some((Some(587), class)), "<{sender}>");
    }
}

fn refusal_in(reply: &str, command: &str) -> Option<MessageRefusal> {
    match events(&said(reply, command)).pop() {
        Some(LogEvent::Delivery(delivery)) => delivery.refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kept_refusal_is_told_by_its_subject_and_its_words() {
    let paused = refusal_in("554 Message rejected: Sending paused for this account. 0102-7f", "end of DATA").unwrap();
    assert_eq!(paused.about, mail_failover_replies::About::Account);
    assert_eq!(
        Some(paused),
        refusal_in("554 Message rejected: Sending paused for this account. 0304-8a", "end of DATA")
    );
    assert_ne!(Some(paused), refusal_in("554 Message rejected: something else", "end of DATA"));
    assert_eq!(refusal_in("454 4.7.0 Sending paused", "MAIL FROM"), None, "Postfix keeps it anyway");
    assert_eq!(refusal_in("535 5.7.8 no", "AUTH LOGIN"), None, "no message is refused");
}

#[test]
fn a_message_that_leaves_the_queue_unsent_is_told() {
    let id = "0C425984024";
    for (line, is_gone) in [
        ("postfix/postsuper[1]: 0C425984024: removed", true),
        ("postfix/qmgr[1]: 0C425984024: from=<x@example.org>, status=expired, returned to sender", true),
        ("postfix/qmgr[1]: 0C425984024: from=<x@example.org>, status=force-expired, returned to sender", true),
        ("postfix/qmgr[1]: 0C425984024: removed", false),
    ] {
        let expected = if is_gone { vec![LogEvent::Gone(message(id))] } else { vec![] };
        assert_eq!(events(&format!("Nov 25 15:43:37 mx {line}")), expected, "{line}");
    }
}
