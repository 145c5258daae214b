//! A sound set of objects is clean; each rule has a set that breaks it, and one just inside.

// JSON is matched for the kinds that matter here.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Linter, RULES, Report, Severity};
use crate::manifests::parse;
use crate::model::Timestamp;

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
            "smtp": {"host": format!("smtp.{name}.example"), "port": 587, "tls": {"mode": "StartTLS", "caRef": {"configMap": "ca"}}},
            "probes": [{"name": "smtp", "interval": "10s", "timeout": "5s", "smtp": {}},
                {"name": "banner", "interval": "10s", "timeout": "5s", "smtp": {"depth": "Banner"}}],
            "location": {"region": region, "jurisdiction": "EU", "failureDomain": name},
            "limits": {"messagesPerSecond": 20, "messagesPerDay": 100_000,
                "warmUp": {"startedAt": "2026-11-20T00:00:00Z", "schedule": [100_000, 100_000]}},
            "senderDomains": [{"domain": "shop.example"}, {"domain": "news.example"}]}})
    };
    let ca = include_str!("../../tests/data/ca.pem");
    json!({
        "a": backend("a", "north"),
        "b": backend("b", "south"),
        "policy": {"apiVersion": api, "kind": "FailoverPolicy", "metadata": meta("calm"), "spec": {
            "failure": {"consecutive": 3, "window": {"duration": "5m", "minimumSamples": 20, "failurePercent": 50},
                "latency": {"percentile": 95, "above": "3s", "for": "2m"}, "immediately": ["AccountPaused"]},
            "recovery": {"consecutive": 5, "stableFor": "1m"},
            "hold": {"cooldown": "10m", "minimumStay": "1m", "budget": {"switches": 4, "per": "1h"}},
            "whenNoneHealthy": "Hold",
            "failback": {"mode": "Automatic", "after": "10m",
                "windows": [{"schedule": "0 2 * * *", "timeZone": "Europe/Berlin", "duration": "2h"}],
                "ramp": [{"percent": 10, "for": "30m"}, {"percent": 50, "for": "30m"}]},
            "objectives": {"recoveryTime": "1m"}}},
        "route": {"apiVersion": api, "kind": "MailRoute", "metadata": meta("orders"), "spec": {
            "policyRef": {"name": "calm"}, "strategy": "ActiveActive",
            "backends": [{"name": "a", "weight": 100}, {"name": "b", "weight": 100}],
            "traffic": {"messagesPerDay": 50_000, "peakPerSecond": 10},
            "residency": {"jurisdictions": ["EU"]}, "preferredRegions": ["south", "north"],
            "senderDomains": ["Shop.example"],
            "outputs": [{"service": {"name": "mail", "ports": [{"name": "smtp", "port": 25}]}},
                {"configMap": {"name": "mail-env", "format": "Env"}}]}},
        "ca": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("ca"), "data": {"ca.crt": ca}},
        "mta": {"apiVersion": "v1", "kind": "Service", "metadata": meta("mta"), "spec": {"ports": [{"name": "smtp", "port": 25}]}},
        "deployment": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("app")},
    })
}

fn report(objects: &Value) -> Report {
    reported(&Linter::new().unwrap(), objects)
}

fn reported(linter: &Linter, objects: &Value) -> Report {
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

type Changes = Vec<(&'static str, Value)>;

/// Code, what breaks the rule, and what is just inside.
fn cases() -> Vec<(&'static str, Changes, Changes)> {
    let none = || vec![];
    let passive = |mut changes: Changes| {
        changes.extend([
            ("/route/spec/strategy", json!("ActivePassive")),
            ("/route/spec/backends", json!([{"name": "a"}, {"name": "b"}])),
        ]);
        changes
    };
    vec![
        ("UnknownField", vec![("/route/spec/wieghts", json!(1))], none()),
        (
            "UnknownField",
            vec![("/route/metadata/labls", json!({}))],
            vec![("/route/metadata/labels", json!({"a": "b"}))],
        ),
        ("UnknownField", vec![("/route/sepc", json!({}))], vec![("/route/status", json!({"observedGeneration": -1}))]),
        ("SchemaViolation", vec![("/a/spec/smtp/port", json!(65536))], vec![("/a/spec/smtp/port", json!(65535))]),
        ("SchemaViolation", vec![("/a/spec/smtp/host", Value::Null)], none()),
        ("SchemaViolation", vec![("/a/spec/probes/0/interval", json!("soon"))], none()),
        ("SchemaViolation", vec![("/policy/spec/whenNoneHealthy", json!("Never"))], none()),
        ("SchemaViolation", vec![("/route/spec/senderDomains", json!(["a.example", "a.example"]))], none()),
        ("SchemaViolation", vec![("/a/spec/senderDomains/-", json!({"domain": "shop.example"}))], none()),
        ("SchemaViolation", vec![("/a/spec", Value::Null)], none()),
        (
            "ValidationRule",
            vec![("/policy/spec/hold/cooldown", json!("169h"))],
            vec![("/policy/spec/hold/cooldown", json!("168h"))],
        ),
        ("UnknownKind", vec![("/route/apiVersion", json!("mailfailover.io/v1"))], none()),
        ("UnknownKind", vec![("/route/kind", json!("Route"))], none()),
        ("InvalidName", vec![("/a/metadata/name", json!("A"))], vec![("/deployment/metadata/name", json!("A"))]),
        ("InvalidName", vec![("/a/metadata/name", Value::Null)], none()),
        ("InvalidName", vec![("/a/metadata/namespace", json!("sh.op"))], none()),
        ("DuplicateObject", vec![("/b/metadata/name", json!("a"))], vec![("/mta/metadata/name", json!("ca"))]),
        ("Unusable", vec![("/policy/spec/failback/windows/0/timeZone", json!("Europe/Atlantis"))], none()),
        ("Unusable", vec![("/ca/data/ca.crt", json!("none"))], none()),
        (
            "Unusable",
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mta", "port": 26}))],
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mta", "port": "smtp"}))],
        ),
        (
            "MissingPolicy",
            vec![("/route/spec/policyRef/name", json!("mild"))],
            vec![("/route/spec/policyRef", Value::Null)],
        ),
        (
            "MissingBackend",
            vec![("/route/spec/backends/-", json!({"name": "c"}))],
            // Malformed is not missing.
            vec![("/a/spec/smtp/port", json!(0))],
        ),
        (
            "MissingService",
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mat", "port": 25}))],
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mta", "port": 25}))],
        ),
        ("MissingCA", vec![("/a/spec/smtp/tls/caRef/configMap", json!("other"))], none()),
        ("UnusedBackend", vec![("/route/spec/backends/1", json!({"name": "c"}))], vec![("/route", Value::Null)]),
        ("UnusedPolicy", vec![("/route/spec/policyRef", Value::Null)], vec![("/route", Value::Null)]),
        (
            "UnknownRegion",
            vec![("/route/spec/preferredRegions/0", json!("South"))],
            vec![("/route/spec/backends/-", json!({"name": "c"})), ("/route/spec/preferredRegions/0", json!("South"))],
        ),
        (
            "RequestInManifest",
            vec![("/route/metadata/annotations", json!({"mailfailover.io/request": "{}"}))],
            vec![
                ("/route/metadata/annotations", json!({"mailfailover.io/request": "{}"})),
                ("/route/status", json!({})),
            ],
        ),
        ("SingleBackend", vec![("/route/spec/backends", json!([{"name": "a"}]))], none()),
        ("NoStandby", vec![("/a/spec/suspended", json!(true))], vec![("/a/spec/suspended", json!(false))]),
        (
            "NoStandby",
            vec![("/b/spec/location/jurisdiction", Value::Null)],
            vec![("/b/spec/location/jurisdiction", Value::Null), ("/route/spec/residency", Value::Null)],
        ),
        (
            "NobodyInService",
            vec![("/route/spec/residency/jurisdictions", json!(["US"]))],
            vec![("/route/spec/residency/jurisdictions", json!(["US", "EU"]))],
        ),
        (
            "NobodyInService",
            vec![("/a/spec/suspended", json!(true)), ("/b/spec/location/jurisdiction", json!("US"))],
            none(),
        ),
        (
            "SenderDomainNotCovered",
            vec![("/route/spec/senderDomains/-", json!("blog.example"))],
            vec![("/route/spec/senderDomains/-", json!("NEWS.example"))],
        ),
        (
            "OneFailureDomain",
            vec![("/b/spec/location/failureDomain", json!("a"))],
            // Unknown is not the same.
            vec![("/b/spec/location/failureDomain", Value::Null)],
        ),
        (
            "SameDestination",
            vec![("/b/spec/smtp/host", json!("SMTP.a.example")), ("/b/spec/smtp/port", json!(2525))],
            none(),
        ),
        (
            "CapacityShort",
            vec![("/route/spec/traffic/messagesPerDay", json!(200_001))],
            vec![("/route/spec/traffic/messagesPerDay", json!(200_000))],
        ),
        (
            "NoSpareCapacity",
            vec![("/route/spec/traffic/messagesPerDay", json!(100_001))],
            vec![("/route/spec/traffic/messagesPerDay", json!(100_000))],
        ),
        (
            "NoSpareCapacity",
            vec![("/route/spec/traffic/peakPerSecond", json!(21))],
            vec![("/route/spec/traffic/peakPerSecond", json!(20))],
        ),
        // The fifth day is today: 24 November.
        (
            "NoSpareCapacity",
            vec![("/b/spec/limits/warmUp/schedule", json!([1000, 1000, 1000, 1000, 1000]))],
            vec![("/b/spec/limits/warmUp/schedule", json!([1000, 1000, 1000, 1000, 50_000]))],
        ),
        (
            "WeightAboveLimit",
            vec![("/route/spec/backends/0/weight", json!(401)), ("/a/spec/limits/messagesPerDay", json!(40_000))],
            vec![("/route/spec/backends/0/weight", json!(400)), ("/a/spec/limits/messagesPerDay", json!(40_000))],
        ),
        (
            "WeightAboveLimit",
            vec![("/route/spec/traffic/peakPerSecond", json!(30)), ("/route/spec/backends/0/weight", json!(300))],
            passive(vec![("/route/spec/traffic/peakPerSecond", json!(30))]),
        ),
        (
            "WeightAboveLimitWithoutOne",
            vec![("/a/spec/limits/messagesPerDay", json!(40_000))],
            vec![("/a/spec/limits/messagesPerDay", json!(50_000))],
        ),
        (
            "SharedLimits",
            vec![("/news", second_route("news-mail")), ("/news/spec/traffic", json!({"messagesPerDay": 50_001}))],
            vec![("/news", second_route("news-mail"))],
        ),
        (
            "LimitsWithoutTraffic",
            vec![("/route/spec/traffic", Value::Null)],
            vec![
                ("/route/spec/traffic", Value::Null),
                ("/a/spec/limits", Value::Null),
                ("/b/spec/limits", Value::Null),
            ],
        ),
        // 300 s / 9.5 s are 31 samples, and one.
        (
            "WindowNeverFires",
            vec![("/policy/spec/failure/window/minimumSamples", json!(33))],
            vec![("/policy/spec/failure/window/minimumSamples", json!(32))],
        ),
        (
            "WindowAddsNothing",
            vec![("/policy/spec/failure/window/failurePercent", json!(100))],
            vec![("/policy/spec/failure/window/failurePercent", json!(99))],
        ),
        (
            "LatencyNeverFires",
            vec![("/policy/spec/failure/latency/above", json!("5s"))],
            vec![("/policy/spec/failure/latency/above", json!("4999ms"))],
        ),
        (
            "LatencyOfOneDialogue",
            vec![("/policy/spec/failure/latency/for", json!("19s"))],
            vec![("/policy/spec/failure/latency/for", json!("20s"))],
        ),
        (
            "RecoveryEasierThanFailure",
            vec![("/policy/spec/recovery", json!({"consecutive": 2}))],
            vec![("/policy/spec/recovery", json!({"consecutive": 3}))],
        ),
        (
            "RecoveryEasierThanFailure",
            vec![("/policy/spec/recovery", json!({"consecutive": 2, "stableFor": "29s"}))],
            vec![("/policy/spec/recovery", json!({"consecutive": 2, "stableFor": "30s"}))],
        ),
        // 3 × 10 s + 5 s + 1 s.
        (
            "ObjectiveImpossible",
            vec![("/policy/spec/objectives/recoveryTime", json!("35s"))],
            vec![("/policy/spec/objectives/recoveryTime", json!("36s"))],
        ),
        (
            "ObjectiveMissedByProbe",
            vec![("/a/spec/probes/1/interval", json!("19s"))],
            vec![("/a/spec/probes/1/interval", json!("18s"))],
        ),
        // 4 more successes after the first, and 1 m.
        (
            "FailbackBeforeRecovery",
            vec![("/policy/spec/failback/after", json!("59s"))],
            vec![("/policy/spec/failback/after", json!("60s"))],
        ),
        (
            "FailbackBeforeRecovery",
            vec![("/policy/spec/failback/after", json!("60s")), ("/policy/spec/recovery/consecutive", json!(8))],
            vec![("/policy/spec/failback/after", json!("60s")), ("/policy/spec/recovery/consecutive", json!(7))],
        ),
        (
            "RampOutlastsWindow",
            vec![("/policy/spec/failback/windows/0/duration", json!("59m"))],
            vec![("/policy/spec/failback/windows/0/duration", json!("60m"))],
        ),
        (
            "WindowSeldomOpens",
            vec![("/policy/spec/failback/windows/0/schedule", json!("0 2 26 12 *"))],
            vec![("/policy/spec/failback/windows/0/schedule", json!("0 2 25 12 *"))],
        ),
        (
            "BudgetBelowRoundTrip",
            vec![("/policy/spec/hold/budget/switches", json!(1))],
            vec![("/policy/spec/hold/budget/switches", json!(2))],
        ),
        // 3 × 10 s + 60 s + after.
        (
            "Flapping",
            vec![
                ("/policy/spec/hold/cooldown", json!("0s")),
                ("/policy/spec/failback/windows", json!([])),
                ("/policy/spec/failback/after", json!("209s")),
            ],
            vec![
                ("/policy/spec/hold/cooldown", json!("0s")),
                ("/policy/spec/failback/windows", json!([])),
                ("/policy/spec/failback/after", json!("210s")),
            ],
        ),
        (
            "PreferredDespiteManual",
            vec![("/policy/spec/whenNoneHealthy", json!("Preferred")), ("/policy/spec/failback/mode", json!("Manual"))],
            vec![("/policy/spec/whenNoneHealthy", json!("Preferred"))],
        ),
        (
            "OutputClaimedTwice",
            vec![("/news", second_route("mail"))],
            vec![("/news", second_route("mail")), ("/news/metadata/namespace", json!("other"))],
        ),
        (
            "OutputExists",
            vec![("/route/spec/outputs/1/configMap/name", json!("ca"))],
            vec![
                ("/route/spec/outputs/1/configMap/name", json!("ca")),
                (
                    "/ca/metadata/ownerReferences",
                    json!([{"apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute", "name": "orders", "uid": "1"}]),
                ),
            ],
        ),
        (
            "MailLoop",
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mail", "port": 25}))],
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mta", "port": 25}))],
        ),
        (
            "ProbesTooFast",
            vec![("/a/spec/probes/0/interval", json!("999ms"))],
            vec![("/a/spec/probes/0/interval", json!("1s"))],
        ),
        (
            "ProbesTooFast",
            vec![("/a/spec/probes/0/interval", json!("999ms"))],
            vec![("/a/spec/probes/0/interval", json!("999ms")), ("/a/spec/smtp/host", json!("10.0.0.1"))],
        ),
        (
            "TLSNotVerified",
            vec![("/a/spec/smtp/tls", json!({"mode": "Opportunistic"}))],
            vec![
                ("/a/spec/smtp/tls", json!({"mode": "Opportunistic"})),
                ("/a/spec/smtp/host", json!("relay.corp.internal")),
            ],
        ),
        ("TLSNotVerified", vec![("/a/spec/smtp/tls", Value::Null)], none()),
        (
            "TLSModeAgainstPort",
            vec![("/a/spec/smtp/port", json!(465))],
            vec![("/a/spec/smtp/port", json!(465)), ("/a/spec/smtp/tls/mode", json!("Implicit"))],
        ),
        (
            "TLSModeAgainstPort",
            vec![("/a/spec/smtp/tls/mode", json!("Implicit"))],
            vec![("/a/spec/smtp/port", json!(2525))],
        ),
        (
            "Port25",
            vec![("/a/spec/smtp/port", json!(25))],
            vec![("/a/spec/smtp/port", json!(25)), ("/a/spec/smtp/host", json!("10.0.0.1"))],
        ),
        (
            "ShallowProbes",
            vec![("/a/spec/probes/0/smtp/depth", json!("Ehlo"))],
            vec![("/a/spec/probes/0/smtp/depth", json!("StartTLS"))],
        ),
        (
            "ShallowProbes",
            vec![
                ("/a/spec/smtp/port", json!(465)),
                ("/a/spec/smtp/tls/mode", json!("Implicit")),
                ("/a/spec/probes", json!([{"name": "a", "smtp": {"depth": "Connect"}}])),
            ],
            vec![
                ("/a/spec/smtp/port", json!(465)),
                ("/a/spec/smtp/tls/mode", json!("Implicit")),
                ("/a/spec/probes", json!([{"name": "a", "smtp": {"depth": "Banner"}}])),
            ],
        ),
    ]
}

#[test]
fn each_rule_finds_what_breaks_it_and_nothing_just_inside() {
    let linter = Linter::new().unwrap();
    let codes = |objects: &Value| -> BTreeSet<&'static str> {
        reported(&linter, objects).findings.iter().map(|finding| finding.rule.code).collect()
    };
    let mut broken = BTreeSet::new();
    for (code, breaking, inside) in cases() {
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
    let github = report.render(super::Format::Github);
    assert!(github.starts_with("::warning file=a%2Cb.yaml,line=8,title=TLSModeAgainstPort SendingBackend default/relay::spec.smtp.port: on port 465"), "{github}");
    let json: Value = serde_json::from_str(&report.render(super::Format::Json)).unwrap();
    assert_eq!(json["findings"][0]["code"], "TLSModeAgainstPort");
    assert_eq!(json["findings"][0]["line"], 8);
    assert!(report.has(Severity::Warning) && !report.has(Severity::Error));
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
