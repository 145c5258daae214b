//! A sound set of objects is clean; each rule has a set that breaks it, and one just inside.

// JSON is matched for the kinds that matter here.
#![allow(clippy::wildcard_enum_match_arm)]

mod cases;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{LintFormat, LintReport, Linter, RULES, Severity};
use crate::manifests::parse;
use mail_failover_core::model::Timestamp;

/// Tuesday 24 November 2026, 12:00 UTC.
fn noon() -> Timestamp {
    Timestamp::from_micros("2026-11-24T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// Two providers, a policy with every field, a route that uses them.
fn sound() -> Value {
    let meta = |name: &str| json!({"name": name, "namespace": "shop"});
    let api = "mailfailover.io/v1alpha1";
    let backend = |name: &str, region: &str| {
        json!({"apiVersion": api, "kind": "SendingBackend", "metadata": meta(name), "spec": {
            "smtp": {"host": format!("smtp.{name}.example"), "port": 587, 
                "tls": {"mode": "StartTLS", "serverName": "smtp.shop.example", "caRef": {"configMap": "ca"}},
                "auth": {"secretRef": {"name": "a"}}},
            "probes": [{"name": "smtp", "interval": "10s", "timeout": "10s", "smtp": {}},
                {"name": "banner", "interval": "10s", "timeout": "10s", "smtp": {"depth": "Banner"}}],
            "location": {"region": region, "jurisdiction": "EU", "failureDomain": name},
            "limits": {"messagesPerSecond": 20, "messagesPerDay": 100_000,
                "warmUp": {"startedAt": "2026-11-20T00:00:00Z", "schedule": [100_000, 100_000]}},
            "senderDomains": [{"domain": "shop.example"}, {"domain": "news.example"}]}})
    };
    let ca = include_str!("../../../tests/data/ca.pem");
    json!({
        "a": backend("a", "north"),
        "b": backend("b", "south"),
        "policy": {"apiVersion": api, "kind": "FailoverPolicy", "metadata": meta("calm"), "spec": {
            "failure": {"consecutive": 3, "window": {"duration": "5m", "minimumSamples": 20, "failurePercent": 50},
                "latency": {"percentile": 95, "above": "3s", "for": "2m"}, "immediately": ["AccountPaused"],
                "deliveries": {"consecutive": 10, "lasting": "50s"}},
            "recovery": {"consecutive": 5, "stableFor": "1m"},
            "hold": {"cooldown": "10m", "minimumStay": "1m", "budget": {"switches": 4, "per": "1h"}},
            "whenNoneHealthy": "Hold",
            "failback": {"mode": "Automatic", "after": "10m",
                "windows": [{"schedule": "0 2 * * *", "timeZone": "Europe/Berlin", "duration": "2h"}],
                "ramp": [{"percent": 10, "for": "30m"}, {"percent": 50, "for": "30m"}]},
            "notifications": {"receivers": [{"name": "chat", "type": "Slack", "secretRef": {"name": "chat"}},
                {"name": "post", "type": "Mail", "mail": {"from": "ops@shop.example", "to": ["a@shop.example"], "backends": ["a", "b"]}}]},
            "objectives": {"recoveryTime": "1m", "deliveryTime": "2m", "successPercent": 98, "availability": "99.9", "window": "720h"}, "breaker": {"consecutive": 3, "firstPause": "5s", "longestPause": "1m"}}},
        "route": {"apiVersion": api, "kind": "MailRoute", "metadata": meta("orders"), "spec": {
            "policyRef": {"name": "calm"}, "strategy": "ActiveActive",
            "backends": [{"name": "a", "weight": 100}, {"name": "b", "weight": 100}],
            "traffic": {"messagesPerDay": 50_000, "peakPerSecond": 10},
            "residency": {"jurisdictions": ["EU"]}, "preferredRegions": ["south", "north"],
            "senderDomains": ["Shop.example"],
            "outputs": [{"service": {"name": "mail", "ports": [{"name": "smtp", "port": 25}]}},
                {"configMap": {"name": "mail-env", "format": "Env"}},
                {"agent": {"configMap": "mail-agent"}}]}},
        "ca": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("ca"), "data": {"ca.crt": ca}},
        "mta": {"apiVersion": "v1", "kind": "Service", "metadata": meta("mta"), "spec": {"ports": [{"name": "smtp", "port": 25}]}},
        "deployment": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("app")},
    })
}

fn report(objects: &Value) -> LintReport {
    reported(&Linter::new().unwrap(), objects)
}

fn reported(linter: &Linter, objects: &Value) -> LintReport {
    let texts: Vec<_> = objects.as_object().unwrap().values().map(ToString::to_string).collect();
    linter.lint(&parse("mail.yaml", &texts.join("\n---\n")).unwrap(), noon())
}

/// The sound set with places changed: `null` takes something out, `-` adds to a list.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut objects = sound();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match objects.pointer_mut(parent).unwrap_or_else(|| panic!("{parent}")) {
            Value::Array(list) if key == "-" => list.push(value.clone()),
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
            parent if value.is_null() => {
                parent.as_object_mut().unwrap().remove(key).unwrap_or_else(|| panic!("{pointer}"));
            }
            parent => parent[key] = value.clone(),
        }
    }
    objects
}

/// A copy of the route under another name, with outputs of its own.
fn second_route(service: &str) -> Value {
    let mut route = sound()["route"].clone();
    route["metadata"]["name"] = json!("news");
    route["spec"]["outputs"] = json!([{"service": {"name": service, "ports": [{"name": "smtp", "port": 25}]}}]);
    route
}

#[test]
fn a_sound_set_is_clean() {
    let report = report(&sound());
    assert_eq!(report.findings, vec![]);
    assert_eq!((report.checked, report.referred, report.skipped), (4, 2, 1));
    assert_eq!(
        report.to_string(),
        "4 objects checked: 0 errors, 0 warnings, 0 hints; 1 object of other kinds skipped\n"
    );
}

/// What everybody copies first.
#[test]
fn the_resources_of_the_readme_are_sound() {
    let readme = include_str!("../../../../../README.md");
    let examples = readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let examples: Vec<_> = examples.collect();
    assert_eq!(examples.len(), 3);
    let report = Linter::new().unwrap().lint(&parse("README.md", &examples.join("---\n")).unwrap(), noon());
    assert_eq!((report.checked, report.has(Severity::Warning)), (4, false), "{report}");
}

#[test]
fn each_rule_finds_what_breaks_it_and_nothing_just_inside() {
    let linter = Linter::new().unwrap();
    let codes = |objects: &Value| -> BTreeSet<&'static str> {
        reported(&linter, objects).findings.iter().map(|finding| finding.rule.code).collect()
    };
    let mut broken = BTreeSet::new();
    for (code, breaking, inside) in cases::cases() {
        let found = codes(&with(&breaking));
        assert!(found.contains(code), "{code} is not among {found:?} with {breaking:?}");
        let found = codes(&with(&inside));
        assert!(!found.contains(code), "{code} is found with {inside:?}");
        broken.insert(code);
    }
    let all: BTreeSet<_> = RULES.iter().map(|rule| rule.code).collect();
    assert_eq!(all.len(), RULES.len(), "codes are unique");
    assert_eq!(all.difference(&broken).collect::<Vec<_>>(), Vec::<&&str>::new(), "rules that no case breaks");
    assert_eq!(broken.difference(&all).collect::<Vec<_>>(), Vec::<&&str>::new(), "rules that are not in the table");
}

#[test]
fn a_finding_says_where_what_and_what_to_do() {
    let text = "apiVersion: mailfailover.io/v1alpha1\nkind: SendingBackend\nmetadata:\n  name: relay\nspec:\n  smtp:\n    host: relay.example\n    port: 465\n    tls:\n      mode: StartTLS\n";
    let report = Linter::new().unwrap().lint(&parse("a,b.yaml", text).unwrap(), noon());
    assert_eq!(
        report.to_string(),
        "a,b.yaml:8: warning TLSModeAgainstPort: SendingBackend default/relay: spec.smtp.port\n    \
         on port 465 servers speak TLS from the first byte: without it they stay silent\n    \
         → use tls.mode Implicit, or port 587\n1 object checked: 0 errors, 1 warning, 0 hints\n"
    );
    let github = report.render(super::LintFormat::Github);
    assert!(github.starts_with("::warning file=a%2Cb.yaml,line=8,title=TLSModeAgainstPort SendingBackend default/relay::spec.smtp.port: on port 465"), "{github}");
    let json: Value = serde_json::from_str(&report.render(super::LintFormat::Json)).unwrap();
    assert_eq!(json["findings"][0]["code"], "TLSModeAgainstPort");
    assert_eq!(json["findings"][0]["line"], 8);
    assert!(report.has(Severity::Warning) && !report.has(Severity::Error));
}

#[test]
fn a_value_that_is_none_of_the_choices_is_answered_with_all_of_them() {
    let report = report(&with(&[("/a/spec/smtp/tls/mode", json!("starttls"))]));
    let finding = report.findings.iter().find(|finding| finding.field == "spec.smtp.tls.mode").unwrap();
    assert_eq!(finding.message, r#""starttls" is none of the choices"#);
    assert_eq!(finding.remedy, "use one of None, Opportunistic, StartTLS, Implicit");
}

#[test]
fn a_field_that_was_renamed_is_found_with_its_new_name() {
    let report = report(&with(&[("/policy/spec/reflex", json!({"consecutive": 3, "lasting": "1s"}))]));
    let text = report.to_string();
    assert!(text.contains("spec.reflex") && text.contains("it is spec.failure.deliveries now"), "{text}");
}

#[test]
fn words_of_a_rule_about_replies_are_named_by_their_index() {
    for (word, code) in
        [("x*", "ValidationRule"), ("(x", "ValidationRule"), (".+", "InvalidReplyRule"), ("a@b.c", "InvalidReplyRule")]
    {
        let rules = json!([{"name": "a", "about": "Quota", "words": ["spent"]}, {"name": "b", "about": "Quota", "words": ["used up", word]}]);
        let found: Vec<_> = report(&with(&[("/a/spec/replies", rules)]))
            .findings
            .into_iter()
            .filter(|finding| finding.field.starts_with("spec.replies"))
            .map(|finding| (finding.rule.code, finding.field))
            .collect();
        assert_eq!(found, [(code, "spec.replies[1].words[1]".to_owned())], "{word}");
    }
}

#[test]
fn capacity_is_told_with_its_numbers() {
    let warming = with(&[("/b/spec/limits/warmUp/schedule", json!([1, 1, 1, 1, 1000]))]);
    let report = report(&warming);
    let finding = report.findings.iter().find(|finding| finding.rule.code == "NoSpareCapacity").unwrap();
    assert_eq!(
        finding.message,
        "the route carries 50000 messages a day, and what is left takes 1000 without a \
         (b warms up: 1000 a day until 2026-11-25T00:00:00Z)"
    );
}

#[test]
fn a_secret_is_never_quoted() {
    let mut objects = with(&[("/a/spec/smtp/tls/caRef", json!({"secret": "key"}))]);
    objects["key"] = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "shop"}, "data": {"ca.crt": "hunter2 hunter2"}});
    let text = report(&objects).to_string();
    assert!(text.contains("CAMalformed") && !text.contains("hunter2"), "{text}");
}

/// Names in a pull request's manifests are anybody's.
#[test]
fn no_report_holds_what_a_terminal_or_a_workflow_would_obey() {
    let hostile = "a\x1b[2J\u{202e}\n::error file=x::pwned";
    let changes = [("/route/metadata/name", json!(hostile)), ("/route/spec/backends/0/name", json!(hostile))];
    let report = report(&with(&changes));
    for format in [LintFormat::Text, LintFormat::Json, LintFormat::Github] {
        let text = report.render(format);
        assert!(text.contains("pwned"), "{format:?}: {text}");
        assert!(!text.contains(['\x1b', '\u{202e}']), "{format:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("::error file=x")), "{format:?}: {text}");
    }
}
