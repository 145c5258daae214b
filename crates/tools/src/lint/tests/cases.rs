use serde_json::{Value, json};

use super::second_route;

/// Pointers into the sound set, and what comes there.
pub(super) type Changes = Vec<(&'static str, Value)>;

/// An output that is no agent's.
fn other_output() -> Value {
    json!({"configMap": {"name": "mail-postfix", "format": "Postfix"}})
}

/// The Secret that `a` names.
fn secret(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "shop"}, "data": data})
}

/// A probe that logs in.
fn login_probe() -> Value {
    json!({"name": "smtp", "interval": "30s", "timeout": "10s", "smtp": {"depth": "Auth"}})
}

/// A sound webhook, whose Secret is `mta`.
fn webhook() -> Value {
    json!({"webhook": {"name": "w", "url": "https://w.example/", "secretRef": {"name": "mta"}}})
}

/// Sound DNS records, whose Secret is `mta`.
fn dns() -> Value {
    json!({"dns": {"zone": "shop.example", "mx": [{"backend": "a", "host": "mx.a.example"}, {"backend": "b", "host": "mx.b.example"}],
        "rfc2136": {"servers": ["ns1.shop.example"], "tsigSecretRef": {"name": "mta"}}}})
}

/// The same by an API, whose Secret is `mta`.
fn by_api() -> Value {
    let mut output = dns();
    output["dns"].as_object_mut().unwrap().remove("rfc2136");
    output["dns"]["api"] = json!({"deSec": {}, "secretRef": {"name": "mta"}});
    output
}

/// The same by the API of OVH.
fn by_ovh() -> Value {
    let mut output = by_api();
    output["dns"]["api"] = json!({"ovh": {}, "secretRef": {"name": "mta"}});
    output
}

/// The same by an object of external-dns.
fn endpoint(object: &str) -> Value {
    let mut output = dns();
    output["dns"].as_object_mut().unwrap().remove("rfc2136");
    output["dns"]["dnsEndpoint"] = json!({"name": object});
    output
}

/// The same with another TTL.
fn dns_for(ttl: &str) -> Value {
    let mut output = dns();
    output["dns"]["ttl"] = ttl.into();
    output
}

fn receivers(receivers: &Value) -> Value {
    json!({"receivers": receivers})
}

/// A sound receiver, whose Secret is `mta`.
fn chat() -> Value {
    json!({"name": "chat", "type": "Slack", "secretRef": {"name": "mta"}})
}

/// A chat that hears of outages, and a pager with these occasions.
fn chat_and_pager(occasions: &[&str]) -> Value {
    receivers(
        &json!([chat(), {"name": "pager", "type": "PagerDuty", "secretRef": {"name": "mta"}, "occasions": occasions}]),
    )
}

/// A chat of this minimum that is told of a failover and its end.
fn chat_of_failovers(minimum: &str) -> Value {
    let mut chat = chat();
    chat["occasions"] = json!(["Failover", "Failback"]);
    chat["minimum"] = minimum.into();
    receivers(&json!([chat]))
}

/// A receiver whose mail leaves by a backend.
fn post(backend: &str) -> Value {
    json!({"name": "post", "type": "Mail", "mail": {"from": "ops@shop.example", "to": ["a@shop.example"], "backends": [backend]}})
}

/// Code, what breaks the rule, and what is just inside.
pub(super) fn cases() -> Vec<(&'static str, Changes, Changes)> {
    let none = || vec![];
    let passive = |mut changes: Changes| {
        changes.extend([
            ("/route/spec/strategy", json!("ActivePassive")),
            ("/route/spec/backends", json!([{"name": "a"}, {"name": "b"}])),
        ]);
        changes
    };
    vec![
        ("UnknownField", vec![("/policy/spec/reflex", json!({"consecutive": 3}))], none()),
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
        (
            "UnusedPolicy",
            vec![("/route/spec/policyRef", Value::Null), ("/policy/spec/notifications", Value::Null)],
            // It may be the one whose receivers are told of all routes.
            vec![("/route/spec/policyRef", Value::Null)],
        ),
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
        (
            "UnknownAnnotation",
            vec![("/route/metadata/annotations", json!({"mailfailover.io/requests": "{}"}))],
            vec![("/route/metadata/annotations", json!({"example.com/requests": "{}"}))],
        ),
        (
            "UnknownAnnotation",
            vec![("/a/metadata/annotations", json!({"mailfailover.io/request": "{}"}))],
            vec![("/route/metadata/annotations", json!({"mailfailover.io/request": "{}"}))],
        ),
        ("UnknownAnnotation", vec![("/policy/metadata/annotations", json!({"mail-failover.io/x": ""}))], none()),
        (
            "ServiceMixesIdentities",
            vec![("/b/spec/smtp/auth/secretRef/name", json!("b"))],
            vec![("/b/spec/smtp/auth/secretRef/name", json!("b")), ("/route/spec/outputs/0", other_output())],
        ),
        (
            "ServiceMixesIdentities",
            vec![("/b/spec/smtp/tls/serverName", json!("smtp.b.example"))],
            vec![
                ("/a/spec/smtp/tls/mode", json!("Opportunistic")),
                ("/b/spec/smtp/tls/serverName", json!("smtp.b.example")),
            ],
        ),
        (
            "ObjectiveUnmeasured",
            vec![("/route/spec/outputs/2", other_output())],
            vec![
                ("/route/spec/outputs/2", other_output()),
                ("/policy/spec/objectives/deliveryTime", Value::Null),
                ("/policy/spec/objectives/successPercent", Value::Null),
            ],
        ),
        (
            "LoopbackHost",
            vec![("/a/spec/smtp/host", json!("LocalHost"))],
            vec![("/a/spec/smtp/host", json!("localhost.example"))],
        ),
        (
            "InvalidReplyRule",
            vec![(
                "/a/spec/replies",
                json!([{"name": "x", "about": "Quota", "codes": ["4xx"], "enhancedCodes": ["5.7.1"]}]),
            )],
            vec![(
                "/a/spec/replies",
                json!([{"name": "x", "about": "Quota", "codes": ["5xx"], "enhancedCodes": ["5.7.1"]}]),
            )],
        ),
        (
            "ReplyRuleNeverDecides",
            vec![(
                "/a/spec/replies",
                json!([{"name": "x", "about": "Quota", "words": ["spent", "used up"]}, {"name": "y", "about": "Rate", "codes": ["554"], "words": ["used up"]}]),
            )],
            vec![(
                "/a/spec/replies",
                json!([{"name": "y", "about": "Rate", "codes": ["554"], "words": ["used up"]}, {"name": "x", "about": "Quota", "words": ["spent", "used up"]}]),
            )],
        ),
        (
            "ReplyRuleVague",
            vec![("/a/spec/replies", json!([{"name": "x", "about": "Quota", "words": ["quota spent. pay"]}]))],
            vec![("/a/spec/replies", json!([{"name": "x", "about": "Quota", "words": ["quota spent\\. pay"]}]))],
        ),
        (
            "SecretNotForWebhook",
            vec![("/route/spec/outputs/-", webhook()), ("/mta/kind", json!("Secret"))],
            vec![
                ("/route/spec/outputs/-", webhook()),
                ("/mta/kind", json!("Secret")),
                ("/mta/type", json!("mailfailover.io/webhook")),
                ("/mta/stringData", json!({"signing-secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})),
            ],
        ),
        (
            "NoWebhookAwaited",
            vec![("/route/spec/outputs", json!([webhook()]))],
            vec![("/route/spec/outputs", json!([webhook(), {"configMap": {"name": "mail-env", "format": "Env"}}]))],
        ),
        (
            "SecretNotForTsig",
            vec![("/route/spec/outputs/-", dns()), ("/mta/kind", json!("Secret"))],
            vec![
                ("/route/spec/outputs/-", dns()),
                ("/mta/kind", json!("Secret")),
                ("/mta/type", json!("mailfailover.io/tsig")),
                ("/mta/stringData", json!({"name": "mail-failover", "secret": "c2l4dGVlbiBieXRlcyBhdCBsZWFzdA=="})),
            ],
        ),
        (
            "SecretNotForDnsApi",
            vec![("/route/spec/outputs/-", by_api()), ("/mta/kind", json!("Secret"))],
            vec![
                ("/route/spec/outputs/-", by_api()),
                ("/mta/kind", json!("Secret")),
                ("/mta/type", json!("mailfailover.io/dns-api")),
                ("/mta/stringData", json!({"token": "hunter2"})),
            ],
        ),
        (
            "SecretNotForDnsApi",
            vec![
                ("/route/spec/outputs/-", by_ovh()),
                ("/mta/kind", json!("Secret")),
                ("/mta/type", json!("mailfailover.io/dns-api")),
                ("/mta/stringData", json!({"token": "hunter2"})),
            ],
            vec![
                ("/route/spec/outputs/-", by_ovh()),
                ("/mta/kind", json!("Secret")),
                ("/mta/type", json!("mailfailover.io/dns-api")),
                (
                    "/mta/stringData",
                    json!({"token": "hunter2", "application-key": "a", "application-secret": "hunter2", "consumer-key": "c"}),
                ),
            ],
        ),
        (
            "DnsClaimedTwice",
            vec![
                ("/route/spec/outputs/-", endpoint("bounce")),
                ("/news", second_route("news-mail")),
                ("/news/spec/outputs/-", endpoint("other")),
            ],
            vec![
                ("/route/spec/outputs/-", endpoint("bounce")),
                ("/news", second_route("news-mail")),
                ("/news/spec/outputs/-", dns()),
            ],
        ),
        (
            "TtlOutlastsObjective",
            vec![("/route/spec/outputs/-", dns_for("61s"))],
            vec![("/route/spec/outputs/-", dns_for("60s"))],
        ),
        (
            "LongTtl",
            vec![("/route/spec/outputs/-", dns_for("301s")), ("/policy/spec/objectives", Value::Null)],
            vec![("/route/spec/outputs/-", dns_for("300s")), ("/policy/spec/objectives", Value::Null)],
        ),
        (
            "NoDnsAwaited",
            vec![("/route/spec/outputs", json!([dns()]))],
            vec![("/route/spec/outputs", json!([dns(), {"configMap": {"name": "mail-env", "format": "Env"}}]))],
        ),
        (
            "SecretNotForReceiver",
            vec![("/policy/spec/notifications", receivers(&json!([chat()]))), ("/mta/kind", json!("Secret"))],
            vec![
                ("/policy/spec/notifications", receivers(&json!([chat()]))),
                ("/mta/kind", json!("Secret")),
                ("/mta/type", json!("mailfailover.io/notification")),
                ("/mta/stringData", json!({"url": "https://hooks.slack.com/services/x"})),
            ],
        ),
        (
            "ReceiverBackendMissing",
            vec![("/policy/spec/notifications", receivers(&json!([chat(), post("nobody")])))],
            vec![("/policy/spec/notifications", receivers(&json!([chat(), post("a")])))],
        ),
        (
            "NobodyHearsOfOutages",
            vec![("/policy/spec/notifications", receivers(&json!([post("a")])))],
            vec![("/policy/spec/notifications", receivers(&json!([chat(), post("a")])))],
        ),
        (
            "OccasionNeverTold",
            vec![("/policy/spec/notifications", chat_and_pager(&["Failover", "DrillFailed"]))],
            vec![("/policy/spec/notifications", chat_and_pager(&["Failover", "Failback"]))],
        ),
        (
            "OccasionNeverTold",
            vec![("/policy/spec/notifications", chat_and_pager(&["Failback"]))],
            vec![("/policy/spec/notifications", receivers(&json!([chat()])))],
        ),
        (
            "OccasionNeverTold",
            vec![("/policy/spec/notifications", chat_of_failovers("Warning"))],
            vec![("/policy/spec/notifications", chat_of_failovers("Info"))],
        ),
        (
            "Unusable",
            vec![(
                "/route/spec/outputs/-",
                json!({"webhook": {"name": "w", "url": "https://w.example/", "secretRef": {"name": "mta"}, "body": "{{ nobody }}"}}),
            )],
            vec![("/route/spec/outputs/-", webhook())],
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
            vec![("/policy/spec/failure/latency/above", json!("55s"))],
            vec![("/policy/spec/failure/latency/above", json!("54999ms"))],
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
        // 3 × 10 s + 10 s + 1 s.
        (
            "ObjectiveImpossible",
            vec![("/policy/spec/objectives/recoveryTime", json!("40s"))],
            vec![("/policy/spec/objectives/recoveryTime", json!("41s"))],
        ),
        (
            "ObjectiveMissedByProbe",
            vec![("/a/spec/probes/1/interval", json!("17s"))],
            vec![("/a/spec/probes/1/interval", json!("16s"))],
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
            "OutputExists",
            vec![("/route/spec/outputs/2/agent/configMap", json!("ca"))],
            vec![("/route/spec/outputs/2/agent/configMap", json!("mail"))],
        ),
        (
            "MailLoop",
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mail", "port": 25}))],
            vec![("/b/spec/smtp", Value::Null), ("/b/spec/service", json!({"name": "mta", "port": 25}))],
        ),
        (
            "ProbesTooFast",
            // A longer timeout is refused with this interval.
            vec![("/a/spec/probes/0/interval", json!("999ms")), ("/a/spec/probes/0/timeout", json!("9s"))],
            vec![("/a/spec/probes/0/interval", json!("1s"))],
        ),
        (
            "ProbesTooFast",
            // A longer timeout is refused with this interval.
            vec![("/a/spec/probes/0/interval", json!("999ms")), ("/a/spec/probes/0/timeout", json!("9s"))],
            vec![
                ("/a/spec/probes/0/interval", json!("999ms")),
                ("/a/spec/probes/0/timeout", json!("9s")),
                ("/a/spec/smtp/host", json!("10.0.0.1")),
            ],
        ),
        (
            "TimeoutBelowDelays",
            vec![("/a/spec/probes/0/timeout", json!("9999ms"))],
            vec![("/a/spec/probes/0/timeout", Value::Null)],
        ),
        // A relay of one's own is known to its owner, and a connection waits for no greeting.
        (
            "TimeoutBelowDelays",
            vec![("/a/spec/probes/1/timeout", json!("5s"))],
            vec![("/a/spec/probes/1/timeout", json!("5s")), ("/a/spec/smtp/host", json!("10.0.0.1"))],
        ),
        (
            "TimeoutBelowDelays",
            vec![("/a/spec/probes/1/timeout", json!("5s"))],
            vec![("/a/spec/probes/1/timeout", json!("5s")), ("/a/spec/probes/1/smtp/depth", json!("Connect"))],
        ),
        (
            "TLSNotVerified",
            vec![("/a/spec/smtp/tls", json!({"mode": "Opportunistic"})), ("/a/spec/smtp/auth", Value::Null)],
            vec![
                ("/a/spec/smtp/auth", Value::Null),
                ("/a/spec/smtp/tls", json!({"mode": "Opportunistic"})),
                ("/a/spec/smtp/host", json!("relay.corp.internal")),
            ],
        ),
        (
            "TLSNotVerified",
            vec![("/a/spec/smtp/tls", json!({"mode": "None"})), ("/a/spec/smtp/auth", Value::Null)],
            // The default of the port.
            vec![("/a/spec/smtp/tls", Value::Null), ("/a/spec/smtp/auth", Value::Null)],
        ),
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
            "NextHopShared",
            vec![("/b/spec/smtp/host", json!("smtp.A.example"))],
            vec![("/b/spec/smtp/host", json!("smtp.A.example")), ("/b/spec/smtp/port", json!(2525))],
        ),
        (
            "NextHopShared",
            vec![("/b/spec/smtp/host", json!("smtp.a.example"))],
            vec![("/b/spec/smtp/host", json!("smtp.a.example")), ("/route/spec/outputs/2", other_output())],
        ),
        (
            "AuthUnused",
            vec![("/route/spec/outputs/2", other_output())],
            vec![
                ("/route/spec/outputs/2", other_output()),
                ("/a/spec/smtp/auth", Value::Null),
                ("/b/spec/smtp/auth", Value::Null),
            ],
        ),
        (
            "AuthUnused",
            vec![("/route/spec/outputs/2", other_output())],
            vec![
                ("/route/spec/outputs/2", other_output()),
                ("/a/spec/probes/-", json!({"name": "login", "smtp": {"depth": "Auth"}})),
                ("/b/spec/probes/-", json!({"name": "login", "smtp": {"depth": "Auth"}})),
            ],
        ),
        (
            "ConnectionLimitUnused",
            vec![("/a/spec/limits/connections", json!(5)), ("/route/spec/outputs/2", other_output())],
            vec![("/a/spec/limits/connections", json!(5))],
        ),
        (
            "ConnectionLimitUnused",
            vec![("/a/spec/limits/messagesPerConnection", json!(5)), ("/route/spec/outputs/2", other_output())],
            vec![("/a/spec/limits/messagesPerConnection", json!(5))],
        ),
        (
            "SecretWithoutLogin",
            vec![("/secret", secret(&json!({"username": "c2hvcA=="})))],
            vec![("/secret", secret(&json!({"username": "c2hvcA==", "password": "aHVudGVyMg=="})))],
        ),
        (
            "BreakerUnused",
            vec![("/route/spec/outputs/2", other_output())],
            vec![
                ("/route/spec/outputs/2", other_output()),
                ("/policy/spec/breaker", Value::Null),
                ("/policy/spec/failure/deliveries", Value::Null),
            ],
        ),
        (
            "AlternateLeftOut",
            vec![("/a/spec/smtp/port", json!(465)), ("/a/spec/smtp/tls/mode", json!("Implicit"))],
            vec![
                ("/a/spec/smtp/port", json!(465)),
                ("/a/spec/smtp/tls/mode", json!("Implicit")),
                ("/b/spec/smtp/port", json!(465)),
                ("/b/spec/smtp/tls/mode", json!("Implicit")),
            ],
        ),
        (
            "AlternateLeftOut",
            vec![("/route/spec/senderDomains", Value::Null)],
            vec![("/route/spec/senderDomains", Value::Null), ("/route/spec/messages", json!({"alternates": false}))],
        ),
        (
            "SubmissionWithoutAuth",
            vec![("/a/spec/smtp/auth", Value::Null)],
            vec![("/a/spec/smtp/auth", Value::Null), ("/a/spec/smtp/host", json!("10.0.0.1"))],
        ),
        (
            "PasswordReadable",
            vec![
                ("/a/spec/smtp/tls", json!({"mode": "Opportunistic"})),
                ("/a/spec/smtp/auth/allowPlaintext", json!(true)),
            ],
            vec![
                ("/a/spec/smtp/tls", json!({"mode": "Opportunistic"})),
                ("/a/spec/smtp/auth/allowPlaintext", json!(true)),
                ("/a/spec/smtp/host", json!("relay.corp.internal")),
            ],
        ),
        (
            "DrillCannotPass",
            vec![("/policy/spec/drills", json!({"mode": "Observed", "stay": "30s", "longest": "50s"}))],
            vec![("/policy/spec/drills", json!({"mode": "Observed", "stay": "30s", "longest": "51s"}))],
        ),
        (
            "DrillCannotPass",
            // Rounds every ten seconds, each a second late at most, of ten seconds at most.
            vec![("/policy/spec/drills", json!({"schedule": "0 4 * * 1", "stay": "1s", "longest": "20s"}))],
            vec![("/policy/spec/drills", json!({"schedule": "0 4 * * 1", "stay": "1s", "longest": "21s"}))],
        ),
        (
            "DrillStopsBeforeLogin",
            vec![("/policy/spec/drills", json!({"mode": "Shadow"})), ("/a/spec/probes/0", login_probe())],
            vec![
                ("/policy/spec/drills", json!({"mode": "Shadow"})),
                ("/a/spec/probes/0", login_probe()),
                ("/b/spec/probes/0", login_probe()),
            ],
        ),
        (
            "DrillsBeyondBudget",
            vec![("/policy/spec/drills", json!({"schedule": "0 */6 * * *"}))],
            vec![("/policy/spec/drills", json!({"schedule": "0 */8 * * *"}))],
        ),
        (
            "ValidationRule",
            vec![("/policy/spec/drills", json!({"stay": "10m"}))],
            vec![("/policy/spec/drills", json!({"stay": "9m59s"}))],
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
