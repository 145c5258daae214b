use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{Routing, parse};
use mail_failover_core::model::{EvidenceClass, ReplyRule, ReplyRules, Timestamp};

use super::*;
use mail_failover_dataplane::answers::{LearntRefusals, Trial};
use mail_failover_dataplane::core::{AgentCore, CoreInput, Delivery, Disposition, LogEvent, Place};
use mail_failover_dataplane::refused::RefusedBackends;

fn replacement(key: &str, answers: &Answers) -> Option<String> {
    super::replacement(key, answers, &[])
}

fn answers(second_is_standby: bool) -> Answers {
    let backend = |name: &str, percent: u8, standby: bool| serde_json::json!({"name": name, "percent": percent, "standby": standby, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": [backend("a", 100, true), backend("b", 0, second_is_standby)],
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    });
    Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()))
}

/// Fate of a refused message: true if it waits.
struct Kept {
    while_standby: bool,
    without_standby: bool,
    by_table: bool,
}

const ALWAYS: Kept = Kept { while_standby: true, without_standby: true, by_table: true };
/// As far as the agent runs: the table knows neither stages nor backends.
const WHILE_THE_AGENT_RUNS: Kept = Kept { while_standby: true, without_standby: true, by_table: false };
const WHILE_STANDBY: Kept = Kept { while_standby: true, without_standby: false, by_table: false };
const NEVER: Kept = Kept { while_standby: false, without_standby: false, by_table: false };

/// Keys as Postfix asks for them.
const KEYS: &[(&str, Kept)] = &[
    // The account, the allowance, the login.
    (
        "5.0.0 host a.example[192.0.2.1] said: 554 Message rejected: Sending paused for this account. For more information, please check the inbox of the email address associated with your AWS account. (in reply to end of DATA command)",
        ALWAYS,
    ),
    (
        "5.7.1 host a.example[192.0.2.1] said: 554 5.7.1 Your account has been suspended (in reply to MAIL FROM command)",
        ALWAYS,
    ),
    (
        "5.7.1 host a.example[192.0.2.1] said: 554 5.7.1 message content rejected, your account has been suspended (in reply to end of DATA command)",
        ALWAYS,
    ),
    (
        "5.0.0 host a.example[192.0.2.1] said: 554 5.0.0 Daily sending quota exceeded (in reply to end of DATA command)",
        ALWAYS,
    ),
    (
        "5.7.0 host A.example[192.0.2.1] said: 530 5.7.0 Authentication Required. (in reply to MAIL FROM command)",
        ALWAYS,
    ),
    // A group or a domain can be "unauthenticated", too.
    (
        "5.0.0 host a.example[192.0.2.1] said: 550 Unauthenticated senders not allowed (in reply to MAIL FROM command)",
        WHILE_THE_AGENT_RUNS,
    ),
    // Our address, our rate.
    (
        "5.7.1 host a.example[192.0.2.1] said: 550 5.7.1 likely suspicious due to the very low reputation of the sending IP address (in reply to end of DATA command)",
        WHILE_THE_AGENT_RUNS,
    ),
    // What another backend may take: our identity there, its service, what nobody knows.
    (
        "5.1.8 host a.example[192.0.2.1] said: 553 5.1.8 Sender address rejected: Domain not found (in reply to MAIL FROM command)",
        WHILE_STANDBY,
    ),
    (
        "5.0.0 host a.example[192.0.2.1] said: 550 From header sender domain not verified (in reply to end of DATA command)",
        WHILE_STANDBY,
    ),
    (
        "5.7.1 host a.example[192.0.2.1] said: 554 5.7.1 <u@example.net>: Relay access denied (in reply to RCPT TO command)",
        WHILE_STANDBY,
    ),
    (
        "5.5.1 host a.example[192.0.2.1] said: 503 5.5.1 Say MAIL and RCPT first (in reply to RCPT TO command)",
        WHILE_STANDBY,
    ),
    ("5.0.0 host a.example[192.0.2.1] said: 554 gobbledygook (in reply to end of DATA command)", WHILE_STANDBY),
    // Cut off before the command: nothing says that it is about the recipient.
    ("5.0.0 host a.example[192.0.2.1] said: 554 gobbledygook and", WHILE_STANDBY),
    // The recipient, the message, the destination, also in words of ours or of another server.
    (
        "5.1.1 host a.example[192.0.2.1] said: 550 5.1.1 <u@example.net>: no such user (in reply to RCPT TO command)",
        NEVER,
    ),
    (
        "5.1.1 host a.example[192.0.2.1] said: 550 5.1.1 <k7x2@privaterelay.example>: Recipient address rejected: undeliverable address (in reply to RCPT TO command)",
        NEVER,
    ),
    (
        "5.1.1 host a.example[192.0.2.1] said: 550 5.1.1 <u@example.net>: Recipient address rejected: undeliverable address: host mx.example.net[192.0.2.66] said: 550 5.1.1 your account is suspended (in reply to RCPT TO command) (in reply to RCPT TO command)",
        NEVER,
    ),
    ("5.2.2 host a.example[192.0.2.1] said: 552 5.2.2 Mailbox full (in reply to RCPT TO command)", NEVER),
    (
        "5.2.1 host a.example[192.0.2.1] said: 550 5.2.1 The email account that you tried to reach is disabled. (in reply to RCPT TO command)",
        NEVER,
    ),
    ("5.3.4 host a.example[192.0.2.1] said: 552 5.3.4 message too big (in reply to end of DATA command)", NEVER),
    ("5.4.6 mail for a.example loops back to myself", NEVER),
    // What another server said.
    (
        "5.0.0 host a.example[192.0.2.1] said: 554 5.0.0 SMTP error from remote mail server: host mx.x.example: 550 5.7.1 Your account has been suspended (in reply to RCPT TO command)",
        NEVER,
    ),
    (
        "5.1.1 host a.example[192.0.2.1] said: 550 mx.x.example answered 550 5.7.1 Sending paused for this account (in reply to end of DATA command)",
        NEVER,
    ),
    (
        "5.0.0 host a.example[192.0.2.1] said: 550-The next server 550-said \"550 Sending paused for this account\" 550 no (in reply to RCPT TO command)",
        NEVER,
    ),
    // A backend without an address has refused nothing.
    (
        "5.4.4 Host or domain name not found. Name service error for name=a.example type=A: Host not found",
        WHILE_THE_AGENT_RUNS,
    ),
    ("5.4.4 unable to look up host A.example: Name or service not known", WHILE_THE_AGENT_RUNS),
    ("5.4.4 unable to look up host mx.example.net: Name or service not known", NEVER),
    ("5.4.4 Host or domain name not found. Name service error for name=mx.example.net type=A: Host not found", NEVER),
    ("2.0.0 250 2.0.0 sending paused for your account said: 554 no", NEVER),
    ("4.7.0 host a.example[192.0.2.1] said: 454 4.7.0 Sending paused (in reply to MAIL FROM command)", NEVER),
];

#[test]
fn what_is_about_us_waits_and_what_is_about_the_recipient_bounces() {
    for (key, kept) in KEYS {
        let temporary = |is_kept: bool| is_kept.then(|| format!("4{}", &key[1..]));
        assert_eq!(replacement(key, &answers(true)), temporary(kept.while_standby), "{key}");
        assert_eq!(replacement(key, &answers(false)), temporary(kept.without_standby), "there is nowhere else: {key}");
    }
}

/// Answers of an agent whose standby has refused connections since then, while the other backend works. No message is
/// on trial.
fn with_a_dead_standby(since: Duration) -> Answers {
    let mut routing = Routing::clone(&with_alternate().routing);
    routing.deliveries.cooldown = Duration::from_mins(10);
    let mut core = AgentCore::new(None);
    let start = Timestamp::from_micros(1_700_000_000_000_000);
    core.handle(start, CoreInput::Routing(routing));
    for message in 0..10 {
        let refused = Delivery {
            place: Place { host: "b.example".into(), port: Some(25), backend: None },
            class: EvidenceClass::ConnectionRefused,
            disposition: Disposition::Deferred,
            took: Duration::from_millis(10),
            message,
            recipient: message,
            age: Duration::from_millis(10),
            refusal: None,
            summary: "Connection refused".into(),
            logged: None,
            stage: None,
        };
        core.handle(start, CoreInput::LogEvent(LogEvent::Delivery(refused)));
    }
    core.handle_timeout(start + since);
    let answers = core.answers().unwrap();
    assert_eq!(answers.open, [false, true]);
    Answers { trials: vec![], ..Answers::clone(&answers) }
}

#[test]
fn a_standby_that_the_agent_has_left_is_none() {
    let identity = "5.0.0 host a.example[192.0.2.1] said: 550 From header sender domain not verified (in reply to end of DATA command)";
    let account = "5.7.1 host a.example[192.0.2.1] said: 554 5.7.1 Your account has been suspended (in reply to MAIL FROM command)";
    let line = "554 gobbledygook";
    let blip = with_a_dead_standby(Duration::from_secs(119));
    assert!(replacement(identity, &blip).is_some(), "it may be a blip, and a bounce cannot be taken back");
    assert!(filtered(&[line], &blip)[0].is_some());
    let lost = with_a_dead_standby(Duration::from_mins(2));
    assert_eq!(replacement(identity, &lost), None);
    assert_eq!(filtered(&[line], &lost), [None], "the standby would make the refusal a temporary failure");
    assert!(replacement(account, &lost).is_some(), "it waits for the account");
    // What the standby says to a message that nobody else has taken is no message's last word.
    assert!(replacement(&identity.replace("a.example", "b.example"), &lost).is_some());
    // The message of a trial goes on from the standby to the other one.
    let tried = Answers { trials: vec![Arc::new(Trial::new("b".into(), 1))], ..lost };
    assert!(filtered(&[line], &tried)[0].is_some());
    assert_eq!(replacement(identity, &tried), None);
}

#[test]
fn a_standby_that_has_its_messages_of_the_day_is_none_and_one_that_a_drill_refuses_is_one() {
    let key = "5.0.0 host a.example[192.0.2.1] said: 554 gobbledygook (in reply to end of DATA command)";
    let spent = Answers { spent: vec![false, true], ..with_alternate() };
    assert_eq!((replacement(key, &spent), filtered(&["554 gobbledygook"], &spent)), (None, vec![None]));
    // One that has a share takes messages all the same.
    let spent = Answers { spent: vec![true, false], ..with_alternate() };
    assert!(replacement(&key.replace("a.example", "b.example"), &spent).is_some());
    let refused = Some(Arc::new(RefusedBackends::new("d".into(), vec!["b".into()])));
    assert!(replacement(key, &Answers { refused, ..with_alternate() }).is_some(), "a drill costs no mail");
}

/// Knowledge of this reason of backend `a`.
fn learnt(reason: &str, is_settled: bool) -> Arc<LearntRefusals> {
    let reading = (Arc::from("a"), Quoted::within(reason).unwrap().fingerprint());
    let settled = if is_settled { [reading.clone()].into() } else { std::collections::BTreeSet::new() };
    Arc::new(LearntRefusals { of_messages: [reading].into(), settled, ..LearntRefusals::default() })
}

#[test]
fn what_no_backend_takes_while_they_carry_other_mail_stands() {
    let said = |text: &str| format!("host a.example[192.0.2.1] said: {text} (in reply to end of DATA command)");
    let address = "550 5.7.1 very low reputation of the sending IP address";
    for (text, is_settled, standby, is_kept) in [
        ("554 gobbledygook 1a2b", false, true, true),
        ("554 gobbledygook 1a2b", true, true, false),
        (address, false, true, true),
        (address, true, true, false),
        (address, false, false, false),
        // A used-up allowance may let some mail pass.
        ("554 5.0.0 Daily sending quota exceeded", true, true, true),
        ("554 5.0.0 Daily sending quota exceeded", true, false, true),
    ] {
        let answers = Answers { learnt: learnt(&said(text), is_settled), ..answers(standby) };
        let key = format!("5.0.0 {}", said(&text.replace("1a2b", "3c4d")));
        assert_eq!(replacement(&key, &answers).is_some(), is_kept, "{key} {is_settled} {standby}");
        let other = format!("5.0.0 {}", said("554 balderdash"));
        assert_eq!(replacement(&other, &answers).is_some(), standby, "another text is another matter");
    }
}

#[test]
fn what_a_backend_says_that_was_just_removed_waits_for_those_that_are_left() {
    let before = answers(true);
    let retired = &before.routing.backends[..1];
    let routing = Routing { backends: before.routing.backends[1..].to_vec(), ..(*before.routing).clone() };
    let after = Answers::as_decided(Arc::new(routing));
    for (key, kept) in KEYS.iter().filter(|(key, _)| key.contains(" a.example[")) {
        let temporary = kept.while_standby.then(|| format!("4{}", &key[1..]));
        assert_eq!(super::replacement(key, &after, retired), temporary, "{key}");
        assert_eq!(replacement(key, &after), None, "a host that is nobody's: {key}");
    }
}

#[test]
fn what_another_host_says_is_left_alone() {
    let (key, ..) = KEYS[0];
    assert_eq!(replacement(&key.replace("a.example", "mx.example.net"), &answers(true)), None);
}

/// Checks the table with Postfix's own `postmap`, which reads a table as `smtp(8)` does.
#[test]
fn the_static_table_keeps_nothing_that_the_agent_would_not() {
    let folder = std::env::temp_dir().join(format!("mail-failover-shield-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let table = folder.join("shield.regexp");
    std::fs::write(&table, regexp_table()).unwrap();
    std::fs::write(folder.join("main.cf"), "compatibility_level = 3.6\n").unwrap();
    let mut command = Command::new("postmap");
    command.arg("-c").arg(&folder).args(["-q", "-"]).arg(format!("regexp:{}", table.display()));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("E2E_REQUIRE_ALL").is_none(), "there is no postmap on this machine");
        eprintln!("skipped: there is no postmap on this machine");
        std::fs::remove_dir_all(&folder).unwrap();
        return;
    };
    let keys = KEYS.iter().fold(String::new(), |keys, (key, _)| keys + key + "\n");
    child.stdin.take().unwrap().write_all(keys.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let said = String::from_utf8(output.stdout).unwrap();
    let kept: Vec<&str> = said.lines().map(|line| line.split_once('\t').unwrap().1).collect();
    let expected: Vec<String> =
        KEYS.iter().filter(|(_, kept)| kept.by_table).map(|(key, _)| format!("4{}", &key[1..])).collect();
    assert_eq!(kept, expected);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_rules_of_the_backend_that_spoke_decide() {
    let mut answers = answers(true);
    let mut routing = (*answers.routing).clone();
    let rule = |name: &str, about: &str, words: &str| ReplyRule {
        name: name.into(),
        about: about.into(),
        stages: vec![],
        codes: vec![],
        enhanced_codes: vec![],
        words: vec![words.into()],
    };
    let rules = vec![rule("house", "Quota", "letters of this week"), rule("form", "Message", "sending paused")];
    let (rulebook, problems) = Rulebook::new(&ReplyRules { rules, ..ReplyRules::default() });
    assert_eq!(problems, []);
    let kept =
        "5.1.1 host a.example[192.0.2.1] said: 550 5.1.1 no more letters of this week (in reply to RCPT TO command)";
    assert_eq!(replacement(kept, &answers), None, "without a rule of the user");
    routing.backends[0].rulebook = Arc::new(rulebook);
    answers.routing = Arc::new(routing);
    assert_eq!(replacement(kept, &answers), Some(format!("4{}", &kept[1..])));
    let bounced = "5.0.0 host a.example[192.0.2.1] said: 554 Sending paused (in reply to end of DATA command)";
    assert_eq!(replacement(bounced, &answers), None, "the user says that it is about the message");
}

/// What Postfix is answered about each line of a reply.
fn filtered(lines: &[&str], answers: &Answers) -> Vec<Option<String>> {
    let mut reply = ReplyLines::default();
    let mut filtered = vec![];
    for line in lines {
        filtered.push(reply.take(line).and_then(|whole| passed_on(line, &whole, answers)));
    }
    filtered
}

/// Answers with `b` as an alternate.
fn with_alternate() -> Answers {
    let answers = answers(true);
    let mut routing = mail_failover_contract::routing::Routing::clone(&answers.routing);
    routing.backends[1].alternate = true;
    Answers { routing: Arc::new(routing), ..answers }
}

#[test]
fn a_refusal_that_another_backend_may_not_share_is_made_temporary_on_its_last_line() {
    let answers = with_alternate();
    for (line, expected) in [
        ("554 Message rejected: Sending paused for this account.", Some("454")),
        ("554 5.7.1 Your account has been suspended", Some("454")),
        ("554 gobbledygook", Some("454")),
        // Unknown words at RCPT are the recipient's, and this may be RCPT.
        ("550 gobbledygook", None),
        ("550 5.1.1 no such user", None),
        ("552 5.2.2 Mailbox full", None),
        ("451 4.3.0 later", None),
        ("250 2.0.0 sending paused for your account", None),
        ("354 go", None),
        ("5", None),
        ("", None),
    ] {
        let expected = expected.map(|code| format!("{code} (kept by mail-failover) {line}"));
        assert_eq!(filtered(&[line], &answers), [expected], "{line}");
    }
    let lines = ["554-Message rejected: Sending paused", "554 for this account."];
    let last = "454 (kept by mail-failover) 554 for this account.".to_owned();
    assert_eq!(filtered(&lines, &answers), [None, Some(last)]);
    // The first line says that it is the recipient's.
    let lines = [
        "550-5.1.1 The email account that you tried to reach does not exist.",
        "550 5.1.1 See https://mail.example/help",
    ];
    assert_eq!(filtered(&lines, &answers), [None, None]);
    for alone in [self::answers(true), Answers { usable: vec![true, false], ..with_alternate() }] {
        assert_eq!(
            filtered(&["554 5.7.1 Your account has been suspended"], &alone),
            [None],
            "there is nowhere to go on to"
        );
    }
}

#[test]
fn what_the_reply_filter_has_changed_is_decided_by_the_last_reply() {
    let answers = with_alternate();
    let said = |text: &str| format!("host b.example[192.0.2.2] said: {text} (in reply to end of DATA command)");
    for (text, original, expected) in [
        (
            "454 (kept by mail-failover) 554 5.7.1 Your account has been suspended",
            "554 5.7.1 Your account has been suspended",
            "4.7.1",
        ),
        ("450 (kept by mail-failover) 550 gobbledygook", "550 gobbledygook", "4.0.0"),
        (
            "552 5.3.4 message too big 452 (kept by mail-failover) 552 5.3.4 really",
            "552 5.3.4 message too big 552 5.3.4 really",
            "5.3.4",
        ),
    ] {
        let expected = format!("{expected} {}", said(original));
        assert_eq!(replacement(&format!("4.0.0 {}", said(text)), &answers), Some(expected), "{text}");
    }
    // What the greeting of a backend refuses was never permanent.
    let greeting = "4.0.0 host b.example[192.0.2.2] refused to talk to me: 450 (kept by mail-failover) 550 5.1.1 no";
    assert_eq!(
        replacement(greeting, &answers).unwrap(),
        "4.1.1 host b.example[192.0.2.2] refused to talk to me: 550 5.1.1 no"
    );
    // Mail to a host that is no backend is not the agent's.
    let elsewhere = "4.0.0 host mx.example.net[192.0.2.9] said: 450 (kept by mail-failover) 550 gobbledygook (in reply to DATA command)";
    assert_eq!(
        replacement(elsewhere, &answers).unwrap(),
        "5.0.0 host mx.example.net[192.0.2.9] said: 550 gobbledygook (in reply to DATA command)"
    );
}

#[test]
fn the_lines_of_a_reply_take_bounded_memory() {
    let mut reply = ReplyLines::default();
    for _ in 0..10_000 {
        assert_eq!(reply.take("550-x"), None);
    }
    assert!(reply.0.len() < MAX_REPLY + 8);
    assert!(reply.take("550 y").is_some() && reply.0.is_empty());
}
