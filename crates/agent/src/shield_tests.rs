use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mail_failover_contract::routing::parse;
use mail_failover_core::model::{ReplyRule, ReplyRules};

use super::*;

fn answers(second_is_standby: bool) -> Answers {
    let backend = |name: &str, percent: u8, standby: bool| serde_json::json!({"name": name, "percent": percent, "standby": standby, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": [backend("a", 100, true), backend("b", 0, second_is_standby)],
        "reflex": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000, "switches": 6, "perMilliseconds": 3_600_000},
    });
    Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()))
}

/// Keys as Postfix asks for them. The flags: the agent keeps the message, the static table keeps it.
const KEYS: &[(&str, bool, bool)] = &[
    (
        "5.0.0 host a.example[192.0.2.1] said: 554 Message rejected: Sending paused for this account. For more information, please check the inbox of the email address associated with your AWS account. (in reply to end of DATA command)",
        true,
        true,
    ),
    (
        "5.7.1 host a.example[192.0.2.1] said: 554 5.7.1 Your account has been suspended (in reply to MAIL FROM command)",
        true,
        true,
    ),
    (
        "5.0.0 host a.example[192.0.2.1] said: 554 5.0.0 Daily sending quota exceeded (in reply to end of DATA command)",
        true,
        true,
    ),
    (
        "5.7.0 host A.example[192.0.2.1] said: 530 5.7.0 Authentication Required. (in reply to MAIL FROM command)",
        true,
        true,
    ),
    (
        "5.0.0 host a.example[192.0.2.1] said: 550 Unauthenticated senders not allowed (in reply to MAIL FROM command)",
        true,
        // A group or a domain can be "unauthenticated", too: the table, which knows no stages, lets it be.
        false,
    ),
    (
        "5.7.1 host a.example[192.0.2.1] said: 550 5.7.1 likely suspicious due to the very low reputation of the sending IP address (in reply to end of DATA command)",
        true,
        false,
    ),
    (
        "5.7.1 host a.example[192.0.2.1] said: 554 5.7.1 <u@example.net>: Relay access denied (in reply to RCPT TO command)",
        true,
        false,
    ),
    (
        "5.5.1 host a.example[192.0.2.1] said: 503 5.5.1 Say MAIL and RCPT first (in reply to RCPT TO command)",
        true,
        false,
    ),
    (
        "5.1.1 host a.example[192.0.2.1] said: 550 5.1.1 <u@example.net>: no such user (in reply to RCPT TO command)",
        false,
        false,
    ),
    ("5.2.2 host a.example[192.0.2.1] said: 552 5.2.2 Mailbox full (in reply to RCPT TO command)", false, false),
    (
        "5.2.1 host a.example[192.0.2.1] said: 550 5.2.1 The email account that you tried to reach is disabled. (in reply to RCPT TO command)",
        false,
        false,
    ),
    ("5.3.4 host a.example[192.0.2.1] said: 552 5.3.4 message too big (in reply to end of DATA command)", false, false),
    (
        "5.7.1 host a.example[192.0.2.1] said: 554 5.7.1 message content rejected, your account has been suspended (in reply to end of DATA command)",
        true,
        true,
    ),
    (
        "5.1.8 host a.example[192.0.2.1] said: 553 5.1.8 Sender address rejected: Domain not found (in reply to MAIL FROM command)",
        // About the sender's identity at this backend: a standby may take it.
        true,
        false,
    ),
    ("5.4.6 mail for a.example loops back to myself", false, false),
    ("5.4.4 Host or domain name not found. Name service error for name=a.example type=A: Host not found", true, false),
    (
        "5.4.4 Host or domain name not found. Name service error for name=mx.example.net type=A: Host not found",
        false,
        false,
    ),
    ("2.0.0 250 2.0.0 sending paused for your account said: 554 no", false, false),
    ("4.7.0 host a.example[192.0.2.1] said: 454 4.7.0 Sending paused (in reply to MAIL FROM command)", false, false),
];

#[test]
fn what_is_about_us_waits_and_what_is_about_the_recipient_bounces() {
    for (key, kept, _) in KEYS {
        let answer = replacement(key, &answers(true));
        assert_eq!(answer, kept.then(|| format!("4{}", &key[1..])), "{key}");
        assert_eq!(replacement(key, &answers(false)), None, "there is nowhere else: {key}");
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
        eprintln!("skipped: there is no postmap on this machine");
        std::fs::remove_dir_all(&folder).unwrap();
        return;
    };
    let keys = KEYS.iter().fold(String::new(), |keys, (key, ..)| keys + key + "\n");
    child.stdin.take().unwrap().write_all(keys.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let said = String::from_utf8(output.stdout).unwrap();
    let kept: Vec<&str> = said.lines().map(|line| line.split_once('\t').unwrap().1).collect();
    let expected: Vec<String> =
        KEYS.iter().filter(|(.., kept)| *kept).map(|(key, ..)| format!("4{}", &key[1..])).collect();
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
