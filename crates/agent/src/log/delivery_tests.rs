use super::*;
use EvidenceClass as Class;

/// Log of a real Postfix 3.7.11 with a fault at each port of its server; one message for each port, all flushed once.
const LOG: &str = include_str!("../../tests/data/postfix/faults.log");

fn deliveries(port: u16) -> Vec<Delivery> {
    let events = LOG.lines().flat_map(log_events);
    let deliveries = events.filter_map(|event| match event {
        LogEvent::Delivery(delivery) => Some(delivery),
        LogEvent::Suspended | LogEvent::PossibleDuplicate(_) => None,
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
    let ports = LOG.lines().flat_map(log_events).filter_map(|event| match event {
        LogEvent::PossibleDuplicate(place) => place.port,
        LogEvent::Suspended | LogEvent::Delivery(_) => None,
    });
    assert_eq!(ports.collect::<Vec<_>>(), [2514, 2516, 2515, 2514, 2516]);
}

#[test]
fn what_the_queue_manager_suspends_is_no_evidence() {
    let suspended = LOG.lines().filter(|line| line.contains("delivery temporarily suspended"));
    let seen: Vec<_> = suspended.map(log_events).collect();
    assert!(!seen.is_empty() && seen.iter().all(|seen| *seen == [LogEvent::Suspended]), "{seen:?}");
}

#[test]
fn how_long_an_attempt_took_is_read() {
    let hung = &deliveries(2515)[0];
    assert!(hung.took.as_secs_f64() > 6.0 && hung.took.as_secs_f64() < 6.5, "{:?}", hung.took);
}

#[test]
fn no_mail_address_leaves() {
    for event in LOG.lines().flat_map(log_events) {
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
    let place = Place { host: "relay.invalid".into(), port: None };
    for (answer, class) in [("Host not found", Class::Unresolvable), ("Host not found, try again", Class::Inconclusive)]
    {
        let seen = log_events(&line(answer, "4.4.4"));
        let [LogEvent::Delivery(delivery)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((&delivery.place, delivery.class), (&place, class));
    }
}
