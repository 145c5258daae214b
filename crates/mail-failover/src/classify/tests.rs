use std::fs;

use clap::Parser;
use mail_failover_replies::Rulebook;
use serde_json::{Value, json};

use super::command::{ClassifyError, Judge, run};
use super::{ClassifyArguments, Format};

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    classify: ClassifyArguments,
}

fn classify(arguments: &[&str]) -> Result<(bool, String), ClassifyError> {
    let arguments = [&["classify"], arguments].concat();
    let mut out = Vec::new();
    let all = run(&CommandLine::try_parse_from(arguments).unwrap().classify, &mut out)?;
    Ok((all, String::from_utf8(out).unwrap()))
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_line_gives_one_object_in_order_and_a_line_without_a_reply_says_what_is_wrong() {
    let judge = Judge { rulebook: Rulebook::default(), format: Format::Json };
    let lines = "RCPT\t550 5.1.1 user unknown\nRCPT 550 no tab\n\nQUIT\t221 bye\nDATA\tbye\nMAIL\t554 Sending paused for this account\nAUTH\t235 fine\n";
    let mut out = Vec::new();
    assert!(!judge.lines(lines.as_bytes(), false, &mut out).unwrap());
    let found = objects(&String::from_utf8(out).unwrap());
    let brief: Vec<_> = found
        .iter()
        .map(|object| match object.get("error") {
            Some(error) => json!([object["line"], error]),
            None => json!([
                object["about"],
                object["class"],
                object["counts"],
                object["immediate"],
                object["defer"],
                object["rule"]
            ]),
        })
        .collect();
    assert_eq!(
        brief,
        [
            json!(["Recipient", "RecipientLevel", false, false, false, "mailbox/no-such-address"]),
            json!([2, "no tab: a line is STAGE<TAB>REPLY"]),
            json!([3, "no tab: a line is STAGE<TAB>REPLY"]),
            json!([4, "\"QUIT\" is no stage; use CONN, HELO, STARTTLS, AUTH, MAIL, RCPT or DATA"]),
            json!([5, "no SMTP reply: it must begin with a code of three digits between 200 and 599"]),
            json!(["Account", "AccountPaused", true, true, true, "ses/paused"]),
            json!(["Unknown", "Ok", false, false, false, null]),
        ]
    );
}

#[test]
fn a_line_of_any_length_is_one_line() {
    let judge = Judge { rulebook: Rulebook::default(), format: Format::Json };
    let lines = format!("RCPT\t550 5.1.1 {}\nRCPT\t550 5.1.1 user unknown", "x ".repeat(100_000));
    let mut out = Vec::new();
    assert!(judge.lines(lines.as_bytes(), false, &mut out).unwrap());
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2);
}

#[test]
fn a_file_is_named_with_or_without_an_option() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("replies.tsv");
    fs::write(&file, "CONN\t421 4.3.2 busy\nRCPT\t550 5.1.1 no such user\n").unwrap();
    let file = file.to_str().unwrap();
    let (all, by_position) = classify(&[file, "-o", "json"]).unwrap();
    assert!(all);
    assert_eq!(objects(&by_position).len(), 2);
    assert_eq!(classify(&["--file", file, "-o", "json"]).unwrap().1, by_position);
    let missing = classify(&["/nowhere/replies.tsv"]).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/replies.tsv: "), "{missing}");
}

#[test]
fn a_backends_own_rules_are_tried_before_they_are_applied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backend.yaml");
    let manifest = "apiVersion: mailfailover.io/v1alpha1\nkind: SendingBackend\nmetadata: {name: house}\nspec:\n  smtp: {host: mx.example, port: 25}\n  replies:\n  - {name: spent, about: Quota, words: ['letters of (this|the) week']}\n";
    fs::write(&file, manifest).unwrap();
    let path = file.to_str().unwrap();
    let (_, text) =
        classify(&["--backend-file", path, "DATA", "554 no more Letters of\u{a0}this week for <ann@a.example>"])
            .unwrap();
    assert_ne!(text, "");
    let (_, text) =
        classify(&["--backend-file", path, "DATA", "554 no more Letters of this week for <ann@a.example>"]).unwrap();
    assert!(text.contains("about Quota (QuotaExhausted)"), "{text}");
    assert!(text.contains("rule spec.replies[spent], after the backend's own rules"), "{text}");
    assert!(text.contains("look in: no more letters of this week for addr"), "{text}");
    let other = manifest.replace("name: house", "name: other");
    fs::write(&file, format!("{manifest}---\n{other}")).unwrap();
    let ambiguous = classify(&["--backend-file", path, "DATA", "554 x"]).unwrap_err().to_string();
    assert!(ambiguous.ends_with("has several SendingBackends: house, other; choose one with --backend"), "{ambiguous}");
    assert!(classify(&["--backend-file", path, "--backend", "other", "DATA", "554 x"]).is_ok());
    fs::write(&file, manifest.replace("(this", "((this")).unwrap();
    let rejected = classify(&["--backend-file", path, "DATA", "554 x"]).unwrap_err().to_string();
    assert!(rejected.starts_with("SendingBackend house: spec.replies[spent].words[0]: it is no regular"), "{rejected}");
}

#[test]
fn the_bounds_of_the_resource_definition_hold_for_a_manifest_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backend.yaml");
    let manifest = |rules: &str| {
        format!(
            "apiVersion: mailfailover.io/v1alpha1\nkind: SendingBackend\nmetadata: {{name: house}}\nspec:\n  smtp: {{host: mx.example, port: 25}}\n  replies:\n{rules}"
        )
    };
    let rule = |name: &str, word: &str| format!("  - {{name: '{name}', about: Quota, words: [\"{word}\"]}}\n");
    let many: String = (0..33).map(|number| rule(&format!("r{number}"), &format!("spent {number}"))).collect();
    for (rules, field) in [
        (many, "spec.replies"),
        (rule(&"n".repeat(64), "spent"), "spec.replies[0].name"),
        (rule("Upper", "spent"), "spec.replies[0].name"),
        (rule("a", &"spent".repeat(50)), "spec.replies[0].words[0]"),
    ] {
        fs::write(&file, manifest(&rules)).unwrap();
        let refused = classify(&["--backend-file", file.to_str().unwrap(), "DATA", "554 x"]).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("SendingBackend house: {field}")), "{refused} is not about {field}");
    }
}

fn of_log(log: &str) -> (bool, Vec<Value>) {
    let judge = Judge { rulebook: Rulebook::default(), format: Format::Json };
    let mut out = Vec::new();
    let all = judge.lines(log.as_bytes(), true, &mut out).unwrap();
    (all, objects(&String::from_utf8(out).unwrap()))
}

#[test]
fn a_log_is_read_as_the_agent_reads_it() {
    let record = |said: &str| {
        format!(
            "Nov 25 15:43:37 mx postfix/smtp[1]: 0C425984024: to=<u@x.test>, relay=relay.example[192.0.2.1]:587, delay=0.01, delays=0.01/0/0/0, dsn=5.0.0, status=bounced (host relay.example[192.0.2.1] said: {said}\n"
        )
    };
    let (all, found) = of_log(&record(
        "553 5.7.1 <a@b.test>: Sender address rejected: not owned by user (in reply to MAIL FROM command))",
    ));
    assert!(all);
    assert_eq!((&found[0]["about"], &found[0]["class"]), (&json!("Identity"), &json!("RecipientLevel")));
    assert_eq!(found[0]["counts"], false, "it is the message's sender");
    let unknown = record("550 something that nobody knows (in reply to MAIL FROM command))");
    assert_eq!(of_log(&unknown).1[0]["counts"], true);
    let active = "Nov 25 15:43:37 mx postfix/qmgr[1]: 0C425984024: from=<>, size=9, nrcpt=1 (queue active)\n";
    assert_eq!(of_log(&(active.to_owned() + &unknown)).1[0]["counts"], false, "a bounce");
    let (_, no_stage) = of_log(&record("550 5.1.1 user unknown)"));
    assert_eq!(no_stage[0]["stage"], Value::Null);
    let (all, cut) = of_log(&record("550 5.7.1 Your account has been suspended, and"));
    assert!(!all && cut[0]["error"].as_str().unwrap().starts_with("Postfix has cut this record off"), "{cut:?}");
    let (all, unread) = of_log(&format!("a form of nobody\n{}", unknown.replace("delay=", "lateness=")));
    assert!(!all);
    assert_eq!((&unread[0]["line"], &unread[1]["line"]), (&json!(1), &json!(2)));
    assert!(of_log("Nov 25 15:43:37 mx sshd[7]: Connection closed\n").0, "other programs share the log");
}

/// One whose reader has gone.
struct Gone;

impl std::io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn it_ends_in_peace_when_nobody_reads_on() {
    let judge = Judge { rulebook: Rulebook::default(), format: Format::Json };
    assert!(judge.lines("RCPT\t550 5.1.1 user unknown\nno reply\n".as_bytes(), false, &mut Gone).unwrap());
}

#[test]
fn what_is_missing_on_the_command_line_or_in_a_line_is_told() {
    let refused = |arguments: &[&str]| classify(arguments).unwrap_err().to_string();
    let stage = refused(&["550 5.1.1 user unknown"]);
    assert!(stage.starts_with("STAGE is missing before the reply") && stage.contains("RCPT '550 5.1.1"), "{stage}");
    let reply = refused(&["RCPT"]);
    assert!(reply.starts_with("the reply to RCPT is missing"), "{reply}");
    let folder = tempfile::tempdir().unwrap();
    let directory = refused(&[folder.path().to_str().unwrap()]);
    assert!(directory.contains(" is a directory; name a file"), "{directory}");
    let judge = Judge { rulebook: Rulebook::default(), format: Format::Text };
    let mut out = Vec::new();
    assert!(!judge.lines("550 5.1.1 user unknown\n".as_bytes(), false, &mut out).unwrap());
    assert!(String::from_utf8(out).unwrap().starts_with("line 1: no STAGE before the reply"));
}

#[test]
fn a_refusal_of_an_unknown_command_is_kept_as_the_shield_keeps_it() {
    let said = "550 gobbledygook of nobody)";
    let line = format!(
        "Nov 25 15:43:37 mx postfix/smtp[1]: 0C425984024: to=<u@x.test>, relay=relay.example[192.0.2.1]:587, delay=0.01, delays=0.01/0/0/0, dsn=5.0.0, status=bounced (host relay.example[192.0.2.1] said: {said}\n"
    );
    let verdict = &of_log(&line).1[0];
    assert_eq!((&verdict["counts"], &verdict["defer"]), (&json!(false), &json!(true)), "{verdict}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let judge = Judge { rulebook: Rulebook::default(), format: Format::Json };
    let mut out = Vec::new();
    assert!(judge.lines("\u{feff}RCPT\t550 5.1.1 user unknown\n".as_bytes(), false, &mut out).unwrap());
}

#[test]
fn a_reply_and_a_log_do_not_go_together() {
    let refused = classify(&["--postfix-log", "DATA", "554 x"]).unwrap_err().to_string();
    assert!(refused.starts_with("--postfix-log reads lines of a log"), "{refused}");
}
