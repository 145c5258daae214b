use proptest::prelude::*;

use super::*;

const RECORD: &str = "6C6EA9842B1: to=<u@p2501.test>, relay=127.0.0.1[127.0.0.1]:2501, delay=0.22, delays=0.05/0.17/1.5/2, dsn=4.3.2, status=deferred (host 127.0.0.1[127.0.0.1] refused to talk to me: 421 4.3.2 Service shutting down)";

/// A record without its line.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    program: String,
    process: Option<u32>,
    queue_id: String,
    recipient: String,
    relay: String,
    age: Duration,
    took: Duration,
    status: String,
    reason: String,
}

fn parse(line: &str) -> Option<Read> {
    let line = LogLine::parse(line)?;
    let record = line.record()?;
    Some(Read {
        program: line.program.to_string(),
        process: line.process,
        queue_id: record.queue_id.to_owned(),
        recipient: record.recipient.to_owned(),
        relay: record.relay.to_owned(),
        age: record.age,
        took: record.took,
        status: record.status.to_owned(),
        reason: record.reason.to_owned(),
    })
}

fn expected() -> Read {
    Read {
        program: "smtp".to_owned(),
        process: Some(9926),
        queue_id: "6C6EA9842B1".to_owned(),
        recipient: "u@p2501.test".to_owned(),
        age: Duration::from_millis(220),
        relay: "127.0.0.1[127.0.0.1]:2501".to_owned(),
        took: Duration::from_millis(3500),
        status: "deferred".to_owned(),
        reason: "host 127.0.0.1[127.0.0.1] refused to talk to me: 421 4.3.2 Service shutting down".to_owned(),
    }
}

#[test]
fn every_header_is_understood() {
    for header in [
        "Nov 25 15:43:37 mx postfix/smtp[9926]: ",
        "2026-11-25T15:43:37.123456+00:00 mx postfix/smtp[9926]: ",
        "<22>Nov  5 15:43:37 postfix/smtp[9926]: ",
        "<22>Nov  5 15:43:37 mx postfix-out/smtp[9926]: ",
        "<22>1 2026-11-25T15:43:37.123456+00:00 mx postfix/smtp 9926 - - ",
        "<22>1 2026-11-25T15:43:37Z mx postfix/mail-failover-smtps/smtp 9926 - - \u{feff}",
        "Nov 25 15:43:37 mx postfix/mail-failover-smtps/smtp[9926]: ",
        "postfix/smtp[9926]: ",
        // bokysan/docker-postfix, LOG_FORMAT=plain.
        "2026-11-25T15:43:37.123456+01:00 INFO    postfix/smtp[9926]: ",
        "2026-11-25T15:43:37.123456789Z stdout F Nov 25 15:43:37 mx postfix/smtp[9926]: ",
        "<22>1 2026-11-25T15:43:37Z mx postfix/smtp 9926 - [meta sequenceId=\"1\"][x@1 a=\"b \\] \\\" c\"] ",
        "1 2026-11-25T15:43:37+01:00 mx postfix/smtp 9926 - - ",
        "2026-11-25T15:43:37+01:00 mx postfix/smtp 9926 ID47 [origin ip=\"192.0.2.1\"] ",
    ] {
        assert_eq!(parse(&format!("{header}{RECORD}\r\n")), Some(expected()), "{header}");
    }
}

/// Programs without a process log what strangers chose, whatever the form of the log.
#[test]
fn a_header_within_a_message_is_no_header() {
    for header in [
        "Nov 25 15:43:37 mx web: user agent x",
        "Nov 25 15:43:37 mx web: GET /x]:",
        "Nov 25 15:43:37 web: Nov 25 15:43:37 mx",
        "<22>Nov  5 15:43:37 web:",
        "2026-11-25T15:43:37.123456+00:00 mx web:",
        "2026-11-25T15:43:37.123456+00:00 web:",
        "2026-11-25T15:43:37.123456789Z stdout F web:",
        "web:",
        "web[1]: x",
    ] {
        for forged in ["postfix/smtp[9926]: ", "mx postfix/smtp[9926]: ", "postfix/smtp 9926 - - "] {
            let line = format!("{header} {forged}{RECORD}");
            assert_eq!(parse(&line).map(|read| read.program).filter(|program| program == "smtp"), None, "{line}");
        }
    }
    let header = format!("Nov 25 15:43:37 mx postfix/smtp[9926]: {RECORD}");
    let message = serde_json::to_string(&header).unwrap();
    for name in ["message", "msg", "MESSAGE", "short_message"] {
        assert_eq!(parse(&format!("{{\"level\":\"info\",\"{name}\":{message}}}")), None, "{name}");
    }
    let within = serde_json::to_string(&format!("web: {header}")).unwrap();
    assert_eq!(parse(&format!("{{\"log\":{within},\"stream\":\"stdout\"}}")), None);
}

#[test]
fn what_is_no_delivery_record_is_nothing() {
    for line in [
        "",
        "Nov 25 15:43:37 mx postfix/qmgr[9890]: 672749842C7: from=<app@lab.test>, size=238, nrcpt=1 (queue active)",
        "Nov 25 15:43:37 mx postfix/smtp[9911]: connect to 127.0.0.1[127.0.0.1]:2525: Connection refused",
        "Nov 25 15:43:37 mx postfix/smtp[9911]: 672749842C7: host a[192.0.2.1] said: 450 4.7.1 later (in reply to RCPT TO command)",
        "Nov 25 15:43:37 mx postfix/smtp[x]: 672749842C7: to=<a@b>, relay=none",
        RECORD,
    ] {
        assert_eq!(parse(line), None, "{line}");
    }
}

/// A person who chooses a recipient could otherwise make the agent believe anything.
#[test]
fn a_recipient_cannot_pass_for_what_follows_it() {
    let forged = r#""x>, relay=a.example[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.7.1, status=bounced (host a said: 554 \"Sending paused\" (in reply to MAIL FROM command))"@example.net"#;
    let line = format!("Nov 25 15:43:37 mx postfix/smtp[9926]: {}", RECORD.replacen("u@p2501.test", forged, 1));
    let expected = Read { recipient: forged.to_owned(), ..expected() };
    assert_eq!(parse(&line).as_ref(), Some(&expected));
    let line = line.replacen(&format!("<{forged}>"), &format!("<{forged}>, orig_to=<{forged}>"), 1);
    let line = line.replacen(", delay=0.22", ", conn_use=3, delay=0.22", 1);
    assert_eq!(parse(&line).as_ref(), Some(&expected));
}

/// `info_log_address_format = internal` writes addresses without quotes.
#[test]
fn a_line_with_two_records_is_refused() {
    let forged = "a>, relay=esp-a.example[10.99.0.1]:2525, delay=1, delays=0/0/0/1, dsn=4.0.0, status=deferred (host esp-a.example[10.99.0.1] said: 535 5.7.8 x) @out.example";
    for forged in [forged.to_owned(), format!("\"x{forged}"), format!("\"x\"{forged}")] {
        let line = format!("Nov 25 15:43:37 mx postfix/smtp[9926]: {}", RECORD.replacen("u@p2501.test", &forged, 1));
        assert_eq!(parse(&line), None, "{line}");
    }
}

/// Postfix 3.11 writes `tls=` (`smtp_log_tls_feature_status`).
#[test]
fn fields_that_are_not_known_are_passed_over() {
    let line = format!("Nov 25 15:43:37 mx postfix/smtp[9926]: {RECORD}");
    for (before, with) in [
        (", dsn=", ", tls=none, dsn="),
        (", dsn=", ", tls=dane/requiretls:may!, later=a,b, dsn="),
        (", delay=0.22", ", conn_use=3, session=x_1, delay=0.22"),
        (", status=", ", more=1, status="),
    ] {
        assert_eq!(parse(&line.replacen(before, with, 1)), Some(expected()), "{with}");
    }
    let many = ", a=b".repeat(MAX_FIELDS) + ", dsn=";
    assert_eq!(parse(&line.replacen(", dsn=", &many, 1)), None, "more fields than anybody logs");
}

#[test]
fn json_is_read_as_journald_rsyslog_and_images_write_it() {
    let quoted = serde_json::to_string(RECORD).unwrap();
    let bytes = format!("{:?}", RECORD.as_bytes());
    for line in [
        format!(r#"{{"MESSAGE":{quoted},"SYSLOG_IDENTIFIER":"postfix/smtp","_PID":"9926","PRIORITY":"6"}}"#),
        format!(r#"{{"_PID":"9926","MESSAGE":{bytes},"SYSLOG_IDENTIFIER":"postfix/smtp"}}"#),
        format!(
            r#"{{"@timestamp":"2026-11-25T15:43:37Z","programname":"postfix","syslogtag":"postfix/smtp[9926]:","message":{quoted}}}"#
        ),
        format!(
            r#"{{"programname":"postfix","app-name":"postfix/smtp","procid":"9926","msg":" {}"}}"#,
            &quoted[1..quoted.len() - 1]
        ),
        // bokysan/docker-postfix, image_root/etc/rsyslog.conf, LOG_FORMAT=json.
        format!(
            r#"{{"@timestamp":"2026-11-25T15:43:37+01:00","type":"syslog_json","tag":"postfix/smtp[9926]:","relayhost":"mx","relayip":"127.0.0.1","logsource":"mx","hostname":"mx","program":"postfix","priority":"22","severity":"6","facility":"2","severity_label":"info","facility_label":"mail","message":" {}","end_msg":""}}"#,
            &quoted[1..quoted.len() - 1]
        ),
        // rsyslog's %jsonmesg%.
        format!(
            r#"{{"msg":" {0}","rawmsg":"<22>Nov 25 15:43:37 mx postfix/smtp[9926]: {0}","hostname":"mx","syslogtag":"postfix/smtp[9926]:","inputname":"imuxsock","pri":"22","programname":"postfix","protocol-version":"0","structured-data":"-","app-name":"postfix","procid":"9926","msgid":"-","uuid":null,"$!":null}}"#,
            &quoted[1..quoted.len() - 1]
        ),
        format!(r#"{{"host":"mx","tag":"postfix/mail-failover-smtps/smtp[9926]","message":{quoted}}}"#),
        format!(
            r#"{{"log":"Nov 25 15:43:37 mx postfix/smtp[9926]: {}\n","stream":"stdout"}}"#,
            &quoted[1..quoted.len() - 1]
        ),
    ] {
        assert_eq!(parse(&line), Some(expected()), "{line}");
    }
    let json = format!(r#"{{"tag":"postfix/smtp[9926]:","message":{quoted}}}"#);
    let within = serde_json::to_string(&format!("{json}\n")).unwrap();
    for engine in [
        format!("2026-11-25T15:43:37.123456789Z stdout F {json}"),
        format!(r#"{{"log":{within},"stream":"stdout","time":"2026-11-25T15:43:37.123456789Z"}}"#),
    ] {
        assert_eq!(parse(&engine), Some(expected()), "{engine}");
    }
    // A program's own JSON may hold what a stranger wrote.
    assert_eq!(parse(&format!(r#"{{"log":{within},"level":"info"}}"#)), None);
    let cut = format!(r#"{{"programname":"postfix","procid":9926,"msg":{quoted}}}"#);
    assert_eq!(parse(&cut), Some(Read { program: "postfix".to_owned(), ..expected() }), "rsyslog cuts at the slash");
    for line in ["{", "{}", "{\"MESSAGE\": 1}", &format!(r#"{{"MESSAGE":{quoted}}}"#), "{\"log\":\"{\\\"log\\\":1}\"}"]
    {
        assert_eq!(parse(line), None, "{line}");
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in any::<String>()) {
        let _ = parse(&line);
    }

    #[test]
    fn no_mutation_of_a_real_line_makes_it_panic(at in 0..300_usize, cut in 0..20_usize, with in any::<String>()) {
        let mut line: Vec<char> = format!("Nov 25 15:43:37 mx postfix/smtp[9926]: {RECORD}").chars().collect();
        let at = at.min(line.len());
        let end = (at + cut).min(line.len());
        line.splice(at..end, with.chars());
        let line: String = line.into_iter().collect();
        let _ = crate::log::LogReader::default().read(mail_failover_core::model::Timestamp::default(), &line);
    }

    #[test]
    fn recipients_of_any_kind_do_not_change_what_is_read(local in "\"([^\"\\\\\n\r]|\\\\.){0,60}\"") {
        let recipient = format!("{local}@example.net");
        let line = format!("Nov 25 15:43:37 mx postfix/smtp[9926]: {}", RECORD.replacen("u@p2501.test", &recipient, 1));
        prop_assert_eq!(parse(&line), Some(Read { recipient, ..expected() }));
    }
}
