use super::*;
use crate::core::log_event::LogEvent;

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
        assert_eq!(class(&reader.read(at(seconds), &line)), EvidenceClass::Inconclusive, "{process} {seconds} {host}");
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
    assert!(reader.doubt(at(0)).unwrap().contains("none of the last 200 lines is one of Postfix's"));
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
