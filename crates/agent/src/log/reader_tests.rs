use super::*;
use mail_failover_dataplane::core::log_event::{Delivery, Disposition, LogEvent};

fn at(seconds: u64) -> Timestamp {
    Timestamp::default() + Duration::from_secs(seconds)
}

const V4: &str = "Nov 25 15:43:37 mx postfix/smtp[7]: connect to relay.example[192.0.2.41]:587: Connection timed out";
const V6: &str =
    "Nov 25 15:43:37 mx postfix/smtp[7]: connect to relay.example[2001:db8::1]:587: Network is unreachable";

fn record(process: u32, reason: &str) -> String {
    format!(
        "Nov 25 15:43:37 mx postfix/smtp[{process}]: A: to=<u@x.test>, relay=none, delay=1, delays=0/0/0/1, dsn=4.4.1, status=deferred ({reason})"
    )
}

fn unreachable(process: u32) -> String {
    record(process, "connect to relay.example[2001:db8::1]:587: Network is unreachable")
}

fn class(events: &[LogEvent]) -> EvidenceClass {
    let [LogEvent::Delivery(delivery)] = events else { panic!("{events:?}") };
    delivery.class
}

#[test]
fn an_address_family_that_we_lack_does_not_hide_that_the_other_address_fails() {
    let mut reader = LogReader::default();
    assert_eq!(reader.read(at(0), V4), []);
    assert_eq!(reader.read(at(1), V6), []);
    let seen = reader.read(at(1), &unreachable(7));
    assert_eq!(class(&seen), EvidenceClass::NoAnswer);
    let LogEvent::Delivery(delivery) = &seen[0] else { panic!() };
    assert!(delivery.summary.contains("192.0.2.41"), "{}", delivery.summary);
    assert_eq!(class(&reader.read(at(2), &unreachable(7))), EvidenceClass::Inconclusive, "each record has its own");
}

#[test]
fn a_server_that_hung_at_one_address_is_not_hidden_by_the_next_either() {
    let mut reader = LogReader::default();
    let hung = "Nov 25 15:43:37 mx postfix/smtp[7]: A: conversation with relay.example[192.0.2.41] timed out while receiving the initial server greeting";
    reader.read(at(0), hung);
    assert_eq!(class(&reader.read(at(1), &unreachable(7))), EvidenceClass::NoAnswer);
}

#[test]
fn an_attempt_counts_for_its_own_process_its_own_host_and_for_a_while() {
    for (process, seconds, host) in [(8, 1, "relay.example"), (7, 901, "relay.example"), (7, 1, "other.example")] {
        let mut reader = LogReader::default();
        reader.read(at(0), V4);
        let line = unreachable(process).replace("relay.example", host);
        // An attempt at another host is an event of its own, before that of the record.
        let events = reader.read(at(seconds), &line);
        assert_eq!(class(&events[events.len() - 1..]), EvidenceClass::Inconclusive, "{process} {seconds} {host}");
    }
}

#[test]
fn what_the_last_server_says_is_not_replaced() {
    let mut reader = LogReader::default();
    reader.read(at(0), V4);
    let said = record(7, "host relay.example[192.0.2.42] said: 550 5.1.1 no such user (in reply to RCPT TO command)")
        .replace("relay=none", "relay=relay.example[192.0.2.42]:587");
    assert_eq!(class(&reader.read(at(1), &said)), EvidenceClass::RecipientLevel);
}

#[test]
fn attempts_without_end_are_forgotten() {
    let mut reader = LogReader::default();
    for process in 0..10_000 {
        reader.read(at(process), &V4.replace("[7]", &format!("[{process}]")));
    }
    assert_eq!(reader.attempts.len(), MAX_PROCESSES);
    assert!(reader.attempts.contains_key(&9_999) && !reader.attempts.contains_key(&0));
}

#[test]
fn a_log_that_is_not_understood_is_told_with_the_remedy() {
    let mut reader = LogReader::default();
    for number in 0..UNKNOWN_LINES {
        assert_eq!(reader.doubt(at(0)), None, "after {number} lines");
        reader.read(at(0), "a form that nobody knows");
    }
    assert!(reader.doubt(at(0)).unwrap().starts_with("200 lines have no known form, and none of Postfix"));
    reader.read(at(0), "Nov 25 15:43:37 mx sshd[7]: Connection closed by 192.0.2.7");
    assert!(reader.doubt(at(0)).is_some(), "another program's line says nothing about Postfix's");
    reader.read(at(0), V4);
    assert_eq!(reader.doubt(at(0)), None);
    for _ in 0..UNREAD_RECORDS {
        reader.read(at(0), &unreachable(7).replace("delay=", "lateness="));
    }
    assert!(reader.doubt(at(0)).unwrap().contains("upgrade the agent"));
    reader.read(at(0), &unreachable(7));
    assert_eq!(reader.doubt(at(0)), None);
}

#[test]
fn other_programs_in_the_same_log_are_no_reason_for_doubt() {
    let mut reader = LogReader::default();
    for number in 0..10 * UNKNOWN_LINES {
        reader.read(at(number), "Nov 25 15:43:37 mx sshd[7]: Connection closed by 192.0.2.7");
        reader.read(at(number), "Nov 25 15:43:37 mx cron: a job");
    }
    assert_eq!(reader.doubt(at(9999)), None);
}

#[test]
fn mail_that_flows_without_a_line_of_postfix_is_told_however_little_it_is() {
    let mut reader = LogReader::default();
    reader.note_ways(at(0), 0);
    for minutes in 0..=31 {
        // Of a message in ten minutes nothing is understood, and another program goes on.
        reader.read(at(60 * minutes), "a form that nobody knows");
        reader.read(at(60 * minutes), "Nov 25 15:43:37 mx sshd[7]: Connection closed by 192.0.2.7");
        reader.note_ways(at(60 * minutes), 2 * (1 + minutes / 10));
        assert_eq!(reader.doubt(at(60 * minutes)).is_some(), minutes >= 30, "after {minutes} min");
    }
    let doubt = reader.doubt(at(1860)).unwrap();
    assert!(doubt.starts_with("Postfix has asked 8 times for a way within 31 min"), "{doubt}");
    reader.read(at(1861), V4);
    reader.note_ways(at(1862), 10);
    assert_eq!(reader.doubt(at(9999)), None, "Postfix is understood");
    reader.note_ways(at(1863), 10 + UNSEEN_WAYS - 1);
    assert_eq!(reader.doubt(at(9999)), None, "so few may have been refused before they became a message");
}

#[test]
fn a_message_without_a_delivery_record_is_told() {
    let mut reader = LogReader::default();
    let active = "Nov 25 15:43:37 mx postfix/qmgr[1]: A: from=<u@x.test>, size=1, nrcpt=1 (queue active)";
    reader.read(at(0), active);
    reader.read(at(1000), active);
    assert_eq!(reader.doubt(at(1799)), None);
    assert!(reader.doubt(at(1800)).unwrap().starts_with("Postfix has been sending messages for 30 min"));
    reader.read(at(1800), &unreachable(7));
    assert_eq!(reader.doubt(at(9999)), None);
}

/// Log of a real Postfix 3.7.11 whose messages each had a list of two next hops: a server with a fault, and
/// 127.0.0.99, which takes everything.
const LISTS: &str = include_str!("../../tests/data/postfix/lists.log");

/// What the log says of the message of this name: of each host that was tried, in order.
fn hops(name: &str) -> Vec<(String, Option<u16>, Disposition, EvidenceClass)> {
    let mut reader = LogReader::default();
    let recipient = mail_failover_dataplane::answers::recipient_hash(&format!("{name}@out.example"));
    let mut hops = vec![];
    for line in LISTS.lines() {
        for event in reader.read(at(0), line) {
            if let LogEvent::Delivery(delivery) = event
                && delivery.recipient == recipient
            {
                let Delivery { place, disposition, class, .. } = delivery;
                hops.push((place.host.to_string(), place.port, disposition, class));
            }
        }
    }
    hops
}

#[test]
fn each_failed_hop_of_a_list_is_evidence_about_that_hop() {
    use EvidenceClass as Class;
    for (name, host, port, class) in [
        ("421banner", "127.0.0.11", None, Class::Temporary),
        ("554banner", "127.0.0.12", None, Class::Permanent),
        ("hang", "127.0.0.13", None, Class::NoAnswer),
        ("hangehlo", "127.0.0.14", None, Class::NoAnswer),
        ("reset", "127.0.0.15", None, Class::ConnectionLost),
        ("garbage", "127.0.0.16", Some(2525), Class::TlsFailed),
        ("untrusted", "127.0.0.17", Some(2525), Class::CertificateInvalid),
        ("nostarttls", "127.0.0.18", None, Class::TlsFailed),
        ("auth535", "127.0.0.19", None, Class::AuthenticationRefused),
        ("mail454", "127.0.0.20", None, Class::Throttled),
        ("data421", "127.0.0.25", None, Class::Temporary),
        ("dot451", "127.0.0.26", None, Class::Temporary),
        ("rstmail", "127.0.0.28", None, Class::ConnectionLost),
        ("rstdot", "127.0.0.29", None, Class::ConnectionLost),
        ("refused", "127.0.0.90", Some(2525), Class::ConnectionRefused),
    ] {
        let expected = [
            (host.to_owned(), port, Disposition::PassedOn, class),
            ("127.0.0.99".to_owned(), Some(2525), Disposition::Sent, Class::Ok),
        ];
        assert_eq!(hops(name), expected, "{name}");
    }
    // A greylisting is the recipient's and no fault; without the reply filter a 5xx is the end of the list.
    assert_eq!(hops("rcpt451")[0].2, Disposition::PassedOn);
    let bounced = ("127.0.0.21".to_owned(), Some(2525), Disposition::Bounced, Class::AccountPaused);
    assert_eq!(hops("mail554"), [bounced]);
}

#[test]
fn a_hop_that_may_have_taken_the_message_is_told_though_the_next_one_took_it() {
    let mut reader = LogReader::default();
    let events: Vec<_> = LISTS.lines().flat_map(|line| reader.read(at(0), line)).collect();
    let unsure: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            LogEvent::PossibleDuplicate(place) => Some(&*place.host),
            LogEvent::Delivery(_) | LogEvent::Suspended | LogEvent::Gone(_) => None,
        })
        .collect();
    assert_eq!(unsure, ["127.0.0.29"]);
}

#[test]
fn the_hosts_of_one_delivery_that_are_remembered_are_bounded() {
    let mut reader = LogReader::default();
    for number in 0..100 {
        let line = format!(
            "Nov 25 15:43:37 mx postfix/smtp[7]: connect to h{number}.example[192.0.2.1]:25: Connection refused"
        );
        reader.read(at(0), &line);
    }
    assert_eq!(reader.read(at(1), &record(7, "no host here at all")).len(), MAX_HOSTS);
}
