//! `mail-failover explain` on dumps of clusters: each `tests/data/explain/*.yaml` with the text that it gives, beside
//! it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use mail_failover_core::model::Timestamp;
use mail_failover_tools::explain::{self, ExplainCommand};
use serde_json::Value;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    what: ExplainCommand,
}

fn run(arguments: &[&str]) -> Result<String, String> {
    run_on("route", arguments)
}

fn run_on(kind: &str, arguments: &[&str]) -> Result<String, String> {
    let line = ["explain", kind].into_iter().chain(arguments.iter().copied());
    let what = Line::try_parse_from(line).unwrap().what;
    let mut out = vec![];
    explain::run(&what, Timestamp::from_micros(0), &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/explain").join(name)
}

/// A dump, read as of eight o'clock.
fn explained(file: &Path, more: &[&str]) -> Result<String, String> {
    let file = file.to_str().unwrap();
    run(&[&["orders", "--at", "2026-11-24T08:00:00Z", "--file", file], more].concat())
}

#[test]
fn a_dump_is_explained_as_the_text_beside_it() {
    let mut dumps: Vec<_> = fs::read_dir(data("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    dumps.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    assert!(dumps.len() >= 4);
    for dump in dumps {
        let expected = fs::read_to_string(dump.with_extension("txt")).unwrap_or_default();
        let text = explained(&dump, &[]).unwrap();
        assert!(text == expected, "{} gives another text than the one beside it:\n{text}", dump.display());
    }
}

#[test]
fn as_json_it_says_the_same() {
    let text = explained(&data("soaking.yaml"), &["-o", "json"]).unwrap();
    let account: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(account["active"][0]["backend"], "sendgrid");
    assert_eq!(account["hold"]["reason"], "Soak");
    assert_eq!(account["hold"]["until"], "2026-11-24T08:27:00Z");
    assert_eq!(account["backends"][0]["certificateNotAfter"], "2027-02-01T12:00:00Z");
    assert_eq!(account["prospects"][0], "Soak ends at 2026-11-24T08:27:00Z");
    assert_eq!(account["isObserved"], true);
}

#[test]
fn a_route_that_is_not_there_is_answered_with_those_that_are() {
    let file = data("soaking.yaml");
    let file = file.to_str().unwrap();
    assert_eq!(
        run(&["ordres", "--file", file]).unwrap_err(),
        "there is no MailRoute ordres in these files; there is shop/orders"
    );
    assert_eq!(
        run(&["orders", "-n", "default", "--file", file]).unwrap_err(),
        "there is no MailRoute orders of namespace default in these files; there is shop/orders"
    );
    let twice = run(&["orders", "--file", file, data("behind.yaml").to_str().unwrap()]).unwrap_err();
    assert!(twice.contains("choose one with --namespace"), "{twice}");
    assert!(run(&["orders", "--file", "/nowhere.yaml"]).unwrap_err().contains("/nowhere.yaml"));
}

/// A status can be written by whoever has the right to, and annotations by even more.
#[test]
fn an_explanation_obeys_nobody_who_writes_a_status() {
    let dump = fs::read_to_string(data("soaking.yaml")).unwrap();
    let hostile = r"sendgrid\x1b[2J\u202e\nWhy";
    let changed = dump.replace("backend: sendgrid", &format!("backend: \"{hostile}\""));
    assert_ne!(changed, dump, "the status names it");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-status.yaml");
    fs::write(&file, changed).unwrap();
    for more in [&[][..], &["-o", "json"]] {
        let text = explained(&file, more).unwrap();
        assert!(text.contains("[2J") && !text.contains(['\x1b', '\u{202e}']), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.starts_with("Why")).count(), usize::from(more.is_empty()), "{text}");
    }
}

/// A rule of a backend's `spec.replies` is named where it has decided.
#[test]
fn the_rule_that_has_decided_is_named() {
    let dump = fs::read_to_string(data("failed-over.yaml")).unwrap();
    let decided = "MAIL: 554 5.7.1 no more letters this week (by spec.replies[house-quota])";
    let changed = dump.replace("Connect: no answer within 5s", decided).replace("NoAnswer", "QuotaExhausted");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("own-rule.yaml");
    fs::write(&file, changed).unwrap();
    let text = explained(&file, &[]).unwrap();
    let reason = format!("  - ses-eu is Unhealthy (QuotaExhausted) since 2026-11-24T07:45:00Z: {decided}\n");
    assert!(text.contains(&reason), "{text}");
}

#[test]
fn a_backend_is_explained_with_its_probes_its_users_and_the_commands() {
    let file = data("failed-over.yaml");
    let file = file.to_str().unwrap();
    let text = run_on("backend", &["ses-eu", "--at", "2026-11-24T08:00:00Z", "--file", file]).unwrap();
    assert!(
        text.starts_with("SendingBackend shop/ses-eu, as of 2026-11-24T08:00:00Z\n\nUnhealthy (NoAnswer)"),
        "{text}"
    );
    assert!(text.contains("route orders: carries none of its mail"), "{text}");
    let command = r#"kubectl -n shop patch sendingbackend ses-eu --type merge -p '{"spec":{"suspended":true}}'"#;
    assert!(text.contains(command), "{text}");
    let text = run_on("backend", &["sendgrid", "--file", file]).unwrap();
    assert!(text.contains("route orders: carries 100 % of its mail"), "{text}");
    let json = run_on("backend", &["ses-eu", "--file", file, "-o", "json"]).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["health"], &json["reason"]), (&"Unhealthy".into(), &"NoAnswer".into()));
    let missing = run_on("backend", &["ses", "--file", file]).unwrap_err();
    assert!(missing.contains("there is no SendingBackend ses in these files; there is shop/"), "{missing}");
}

#[test]
fn a_policy_is_explained_with_the_values_in_force_and_the_command_for_each() {
    let policy = "apiVersion: mailfailover.io/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: calm, namespace: shop}\n\
        spec: {hold: {cooldown: 5m}}\n";
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("calm.yaml");
    fs::write(&file, policy).unwrap();
    let text = run_on("policy", &["calm", "--file", file.to_str().unwrap()]).unwrap();
    for line in [
        "failure.consecutive: 6 (default), failures in a row that make a backend Unhealthy",
        "hold.cooldown: 5m, pause after a move, before an unforced one",
        r#"hold.budget: {"per":"1h","switches":6} (default), most moves in a time"#,
        "no route of the namespace uses it",
        r#"kubectl -n shop patch failoverpolicy calm --type merge -p '{"spec":{"failback":{"mode":"Automatic"}}}'"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
