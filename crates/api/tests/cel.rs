//! Every CEL rule of the resource definitions, evaluated as the API server does: each has a spec that breaks it, and a sound one passes.

// JSON is matched for the kinds that matter here.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;

use kube_cel::Validator;
use mail_failover_api::crds;
use serde_json::{Value, json};

fn schema(kind: &str) -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// The refusals of the API server for this spec.
fn refusals(kind: &str, spec: &Value) -> Vec<String> {
    let object = json!({ "metadata": { "name": "x" }, "spec": spec });
    match Validator::new().validate(&schema(kind), &object, None) {
        Ok(()) => vec![],
        Err(errors) => errors.iter().map(|error| error.message.clone()).collect(),
    }
}

fn backend() -> Value {
    json!({"smtp": {"host": "relay.example", "port": 587, "tls": {"mode": "StartTLS", "caRef": {"configMap": "ca"}}, "auth": {"secretRef": {"name": "relay"}}},
        "probes": [{"name": "submit", "interval": "10s", "timeout": "5s", "smtp": {"depth": "StartTLS"}}]})
}

fn policy() -> Value {
    json!({"failure": {"window": {"duration": "24h", "minimumSamples": 20, "failurePercent": 50}, "latency": {"percentile": 95, "above": "5m", "for": "1s"}},
        "recovery": {"stableFor": "168h"},
        "hold": {"cooldown": "168h", "minimumStay": "0s", "budget": {"switches": 3, "per": "1s"}},
        "failback": {"after": "10m", "windows": [{"schedule": "0 2 * * *", "duration": "1m"}],
            "ramp": [{"percent": 10, "for": "1s"}, {"percent": 50, "for": "168h"}]},
        "notifications": {"receivers": [{"name": "chat", "type": "Slack", "secretRef": {"name": "chat"}},
            {"name": "am", "type": "Alertmanager", "url": "http://am.example:9093"},
            {"name": "bot", "type": "Telegram", "secretRef": {"name": "bot"}, "chat": "-1001"},
            {"name": "post", "type": "Mail", "mail": {"from": "a@b.example", "to": ["c@b.example"], "backends": ["a"]}}]},
        "objectives": {"recoveryTime": "24h", "deliveryTime": "1s", "successPercent": 99, "availability": "99.99", "window": "2160h"}, "breaker": {"consecutive": 1, "firstPause": "1s", "longestPause": "1h"},
        "drills": {"schedule": "0 4 * * 1", "timeZone": "Europe/Berlin", "within": "1h", "mode": "Blocked", "stay": "59m", "longest": "1h",
            "budget": {"drills": 5, "per": "2160h"}}})
}

fn route() -> Value {
    json!({"strategy": "ActiveActive", "backends": [{"name": "a", "weight": 2}, {"name": "b"}],
        "traffic": {"peakPerSecond": 5}, "preferredRegions": ["eu-west-1", "eu-west-2"],
        "outputs": [{"service": {"name": "mail", "ports": [{"name": "smtp", "port": 25}]}}, {"configMap": {"name": "mail", "format": "Env"}}, {"agent": {"configMap": "agent"}}]})
}

fn webhook() -> Value {
    json!({"name": "flags", "url": "https://flags.example/hook", "secretRef": {"name": "flags"}})
}

fn dns() -> Value {
    json!({"zone": "shop.example", "name": "bounce.Shop.example",
        "mx": [{"backend": "a", "host": "mx.a.example"}, {"backend": "b", "host": "mx.b.example"}],
        "records": [{"name": "em.shop.example", "type": "CNAME", "values": ["{{ backend }}.example"]}],
        "rfc2136": {"servers": ["ns1.shop.example", "192.0.2.53:5353"], "tsigSecretRef": {"name": "tsig"}}})
}

/// The route with DNS records, one place of which is changed.
fn with_dns(pointer: &str, value: Value) -> Value {
    with(route(), "/outputs/-", json!({"dns": with(dns(), pointer, value)}))
}

/// A sound spec with one place changed.
fn with(mut spec: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap() {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        parent if value.is_null() => {
            parent.as_object_mut().unwrap().remove(key);
        }
        parent => parent[key] = value,
    }
    spec
}

#[test]
fn sound_specs_pass() {
    let addresses = ["192.0.2.7", "2001:db8::7", "relay-1.example", "mail"];
    for address in addresses {
        assert_eq!(
            refusals("SendingBackend", &with(backend(), "/smtp/host", json!(address))),
            Vec::<String>::new(),
            "{address}"
        );
    }
    let readable =
        json!({"service": {"name": "relay", "port": 25, "auth": {"secretRef": {"name": "a"}, "allowPlaintext": true}}});
    assert_eq!(refusals("SendingBackend", &readable), Vec::<String>::new());
    let service = json!({"service": {"name": "relay", "port": "smtp", "tls": {"mode": "StartTLS"}}, "probes": [{"name": "a", "smtp": {"depth": "StartTLS"}}]});
    let quick = json!({"service": {"name": "relay", "port": 25, "auth": {"secretRef": {"name": "a"}, "allowPlaintext": true}},
        "probes": [{"name": "a", "interval": "200ms", "timeout": "1s", "smtp": {"depth": "Auth"}}]});
    assert_eq!(refusals("SendingBackend", &quick), Vec::<String>::new());
    for probe in [
        json!({"name": "a", "interval": "30s", "smtp": {"depth": "Auth"}}),
        json!({"name": "a", "smtp": {"depth": "Auth"}, "job": {}}),
        json!({"name": "a", "smtp": {"depth": "Ehlo", "idleSession": true}}),
        json!({"name": "a", "smtp": {"depth": "Connect", "idleSession": false}}),
        json!({"name": "a", "smtp": {"idleSession": false}, "job": {}}),
        json!({"name": "a", "smtp": {"depth": "MailFrom", "from": format!("{}@shop.example", "x".repeat(64))}}),
        json!({"name": "a", "smtp": {"depth": "RcptTo", "from": "probe@shop.example", "to": "sink@inbox.example"}}),
    ] {
        assert_eq!(
            refusals("SendingBackend", &with(backend(), "/probes/0", probe.clone())),
            Vec::<String>::new(),
            "{probe}"
        );
    }
    assert_eq!(refusals("SendingBackend", &service), Vec::<String>::new());
    let replies = json!([
        {"name": "house", "about": "Quota", "words": ["limit of [0-9]+ letters", "(?:spent|used up)$"]},
        {"name": "gone", "about": "Message", "stages": ["MAIL", "RCPT", "DATA"], "codes": ["5xx", "450-452"], "enhancedCodes": ["x.7.*", "none"]},
        {"name": "early", "about": "Account", "stages": ["CONN", "AUTH"], "codes": ["554"]},
    ]);
    let ruled = with(with(backend(), "/replies", replies), "/provider", json!("SES"));
    assert_eq!(refusals("SendingBackend", &ruled), Vec::<String>::new());
    assert_eq!(refusals("FailoverPolicy", &policy()), Vec::<String>::new());
    assert_eq!(refusals("FailoverPolicy", &json!({})), Vec::<String>::new());
    assert_eq!(refusals("FailoverPolicy", &json!({"failback": {"ramp": []}, "objectives": {}})), Vec::<String>::new());
    assert_eq!(refusals("MailRoute", &route()), Vec::<String>::new());
    let alone = with(route(), "/messages", json!({"alternates": false}));
    assert_eq!(refusals("MailRoute", &alone), Vec::<String>::new());
}

#[test]
fn every_rule_refuses_what_breaks_it_in_words_that_name_the_field() {
    let port = json!({"name": "smtp", "port": 2525});
    let broken: Vec<(&str, Value, &str)> = vec![
        (
            "SendingBackend",
            with(backend(), "/smtp", Value::Null),
            "exactly one of spec.smtp and spec.service must be set",
        ),
        (
            "SendingBackend",
            with(backend(), "/service", json!({"name": "a", "port": 25})),
            "exactly one of spec.smtp and spec.service must be set",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/tls", json!({"mode": "None"})),
            "depth StartTLS needs a tls.mode other than None",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/-", json!({"name": "submit", "smtp": {}})),
            "spec.probes[].name must be unique",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/-", json!({"name": "deliveries", "smtp": {}})),
            "spec.probes[].name must not be deliveries",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0", json!({"name": "a", "smtp": {"idleSession": true}, "job": {}})),
            "idleSession has no effect with job",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0", json!({"name": "a", "smtp": {"depth": "Banner", "idleSession": true}})),
            "idleSession needs a depth of Ehlo or deeper",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/host", json!("relay.example:587")),
            "spec.smtp.host must be a DNS name or an IP address",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/host", json!("192.0.2.999")),
            "spec.smtp.host must be a DNS name or an IP address",
        ),
        ("SendingBackend", with(backend(), "/smtp/host", json!("127.0.0.1")), "must not be a loopback"),
        ("SendingBackend", with(backend(), "/smtp/host", json!("fe80::1")), "must not be a loopback"),
        (
            "SendingBackend",
            with(backend(), "/smtp/tls/mode", json!("Opportunistic")),
            "tls.caRef has an effect with mode StartTLS or Implicit only",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/tls", json!({"mode": "None", "serverName": "a"})),
            "tls.serverName has no effect with mode None",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/tls/caRef", json!({})),
            "exactly one of caRef.configMap and caRef.secret",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/tls/caRef/secret", json!("a")),
            "exactly one of caRef.configMap and caRef.secret",
        ),
        (
            "SendingBackend",
            with(backend(), "/replies", json!([{"name": "all", "about": "Quota", "stages": ["DATA"]}])),
            "spec.replies[] needs codes, enhancedCodes or words",
        ),
        (
            "SendingBackend",
            with(
                backend(),
                "/replies",
                json!([{"name": "early", "about": "Message", "codes": ["5xx"], "stages": ["DATA", "HELO"]}]),
            ),
            "spec.replies[].stages must be among MAIL, RCPT and DATA for about Recipient, Message and Destination",
        ),
        (
            "SendingBackend",
            with(backend(), "/replies", json!([{"name": "empty", "about": "Quota", "words": ["spent", "x*"]}])),
            "must not match the empty text",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0/interval", json!("99ms")),
            "spec.probes[].interval must be between 100ms and 24h",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0/interval", json!("25h")),
            "spec.probes[].interval must be between 100ms and 24h",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0/timeout", json!("49ms")),
            "spec.probes[].timeout must be between 50ms and 5m",
        ),
        ("SendingBackend", with(backend(), "/probes/0/timeout", json!("101s")), "at most ten times the interval"),
        (
            "SendingBackend",
            with(backend(), "/probes/0", json!({"name": "a", "interval": "29s", "smtp": {}, "job": {}})),
            "spec.probes[].interval must be at least 30s with job",
        ),
        (
            "SendingBackend",
            with(
                with(backend(), "/smtp/auth", Value::Null),
                "/probes/0",
                json!({"name": "a", "smtp": {"depth": "Auth"}}),
            ),
            "spec.probes[].smtp.depth Auth needs auth.secretRef",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0", json!({"name": "a", "interval": "29s", "smtp": {"depth": "Auth"}})),
            "spec.probes[].interval must be at least 30s",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0", json!({"name": "a", "smtp": {"depth": "MailFrom"}})),
            "spec.probes[].smtp.from is needed",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0", json!({"name": "a", "smtp": {"depth": "RcptTo", "from": "a@shop.example"}})),
            "spec.probes[].smtp.to is needed",
        ),
        (
            "SendingBackend",
            with(backend(), "/probes/0", json!({"name": "a", "smtp": {"depth": "Auth", "from": "a@shop.example"}})),
            "spec.probes[].smtp.from has an effect",
        ),
        (
            "SendingBackend",
            with(
                backend(),
                "/probes/0",
                json!({"name": "a", "smtp": {"depth": "MailFrom", "from": "a@shop.example", "to": "b@shop.example"}}),
            ),
            "spec.probes[].smtp.to has an effect",
        ),
        (
            "SendingBackend",
            with(
                backend(),
                "/probes/0",
                json!({"name": "a", "smtp": {"depth": "MailFrom", "from": format!("{}@shop.example", "x".repeat(65))}}),
            ),
            "must have at most 64 characters before the @",
        ),
        ("FailoverPolicy", with(policy(), "/hold/cooldown", json!("169h")), "spec.hold.cooldown must be at most 168h"),
        (
            "FailoverPolicy",
            with(policy(), "/hold/minimumStay", json!("200h")),
            "spec.hold.minimumStay must be at most 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failback/after", json!("200h")),
            "spec.failback.after must be at most 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/lasting", json!("1h1s")),
            "spec.failure.lasting must be at most 1h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/window/duration", json!("999ms")),
            "spec.failure.window.duration must be between 1s and 24h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/window/duration", json!("24h1s")),
            "spec.failure.window.duration must be between 1s and 24h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/latency/above", json!("0s")),
            "spec.failure.latency.above must be more than 0s and at most 5m",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/latency/above", json!("5m1s")),
            "spec.failure.latency.above must be more than 0s and at most 5m",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/latency/for", json!("999ms")),
            "spec.failure.latency.for must be between 1s and 24h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/latency/for", json!("24h1s")),
            "spec.failure.latency.for must be between 1s and 24h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/recovery/stableFor", json!("168h1s")),
            "spec.recovery.stableFor must be at most 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/hold/budget/per", json!("999ms")),
            "spec.hold.budget.per must be between 1s and 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/hold/budget/per", json!("168h1s")),
            "spec.hold.budget.per must be between 1s and 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failback/windows/0/duration", json!("59s")),
            "spec.failback.windows[].duration must be between 1m and 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failback/windows/0/duration", json!("168h1s")),
            "spec.failback.windows[].duration must be between 1m and 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failback/ramp/0/for", json!("999ms")),
            "spec.failback.ramp[].for must be between 1s and 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failback/ramp/0/for", json!("168h1s")),
            "spec.failback.ramp[].for must be between 1s and 168h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failback/ramp/0/percent", json!(50)),
            "spec.failback.ramp[].percent must increase from step to step",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failback/ramp/0/percent", json!(51)),
            "spec.failback.ramp[].percent must increase from step to step",
        ),
        (
            "MailRoute",
            with(
                with(route(), "/outputs", json!([{"configMap": {"name": "mail", "format": "Env"}}])),
                "/messages",
                json!({}),
            ),
            "spec.messages has an effect with an output agent only: add one to spec.outputs, or take spec.messages away",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/failure/deliveries", json!({"lasting": "1h1s"})),
            "spec.failure.deliveries.lasting must be at most 1h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/breaker/firstPause", json!("500ms")),
            "spec.breaker.firstPause must be between 1s and 10m",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/breaker/longestPause", json!("1h1s")),
            "spec.breaker.longestPause must be between 1s and 1h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/breaker", json!({"firstPause": "2m"})),
            "spec.breaker.firstPause must not exceed spec.breaker.longestPause (default 1m)",
        ),
        (
            "SendingBackend",
            with(with(backend(), "/smtp/tls", Value::Null), "/smtp/port", json!(25)),
            "spec.smtp.auth needs tls.mode StartTLS or Implicit",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/auth/secretRef", json!({"name": "relay", "passwordKey": "username"})),
            "auth.secretRef.usernameKey and passwordKey must be two keys",
        ),
        (
            "SendingBackend",
            with(backend(), "/smtp/tls", json!({"mode": "Opportunistic"})),
            "spec.smtp.auth needs tls.mode StartTLS or Implicit",
        ),
        (
            "SendingBackend",
            json!({"service": {"name": "a", "port": 25, "auth": {"secretRef": {"name": "a"}, "allowPlaintext": false}}}),
            "spec.service.auth needs tls.mode StartTLS or Implicit",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/objectives/recoveryTime", json!("999ms")),
            "spec.objectives.recoveryTime must be between 1s and 24h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/objectives/recoveryTime", json!("24h1s")),
            "spec.objectives.recoveryTime must be between 1s and 24h",
        ),
        (
            "FailoverPolicy",
            with(
                policy(),
                "/notifications/receivers/-",
                json!({"name": "chat", "type": "Slack", "secretRef": {"name": "x"}}),
            ),
            "spec.notifications.receivers[].name must be unique",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/1/url", Value::Null),
            "spec.notifications.receivers[].url must be set for Webhook and Alertmanager",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/0/url", json!("https://x.example/")),
            "spec.notifications.receivers[].url has no effect for this type: Slack, Teams, Discord and GoogleChat have it in their Secret, under the key url",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/2/url", json!("http://x.example")),
            "spec.notifications.receivers[].url must begin with https://; only Alertmanager may be http://",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/1/secretRef", json!({"name": "am"})),
            "spec.notifications.receivers[].secretRef and caRef have no effect with http://, which sends no secret: use https://",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/0/secretRef", Value::Null),
            "spec.notifications.receivers[].secretRef must be set for this type",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/3/secretRef", json!({"name": "x"})),
            "spec.notifications.receivers[].secretRef and caRef have no effect for Mail: the SendingBackend has them",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/3/mail", Value::Null),
            "spec.notifications.receivers[].mail must be set for Mail, and for no other type",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/notifications/receivers/0/chat", json!("1")),
            "spec.notifications.receivers[].chat must be set for Telegram, and for no other type",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/objectives/deliveryTime", json!("999ms")),
            "spec.objectives.deliveryTime must be between 1s and 24h",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/objectives/availability", json!("49.99")),
            "spec.objectives.availability must be at least 50 and below 100: 100 leaves no error budget",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/objectives/window", json!("2161h")),
            "spec.objectives.window must be between 1h and 2160h (90 days)",
        ),
        (
            "FailoverPolicy",
            json!({"objectives": {"window": "720h"}}),
            "spec.objectives.window alone measures nothing: add an objective",
        ),
        (
            "FailoverPolicy",
            json!({"drills": {"schedule": "0 4 * * 1", "within": "59s", "longest": "50s", "stay": "1s"}}),
            "spec.drills.within must be between 1m and 168h",
        ),
        ("FailoverPolicy", json!({"drills": {"longest": "61m"}}), "spec.drills.longest must be between 1s and 1h"),
        (
            "FailoverPolicy",
            with(policy(), "/drills/stay", json!("1h")),
            "spec.drills.stay (default 1m) must be shorter than spec.drills.longest (default 10m)",
        ),
        (
            "FailoverPolicy",
            json!({"drills": {"stay": "10m"}}),
            "spec.drills.stay (default 1m) must be shorter than spec.drills.longest (default 10m)",
        ),
        (
            "FailoverPolicy",
            json!({"drills": {"schedule": "0 4 * * 1", "within": "9m"}}),
            "spec.drills.longest (default 10m) must not exceed spec.drills.within (default 1h): a drill ends within its window",
        ),
        (
            "FailoverPolicy",
            json!({"drills": {"timeZone": "UTC"}}),
            "spec.drills.timeZone and spec.drills.within belong to spec.drills.schedule: add it, or leave them out",
        ),
        (
            "FailoverPolicy",
            with(policy(), "/drills/budget/per", json!("999ms")),
            "spec.drills.budget.per must be between 1s and 2160h (90 days)",
        ),
        (
            "MailRoute",
            with(route(), "/strategy", json!("ActivePassive")),
            "spec.backends[].weight has an effect with strategy ActiveActive only",
        ),
        (
            "MailRoute",
            with(route(), "/strategy", json!(null)),
            "spec.backends[].weight has an effect with strategy ActiveActive only",
        ),
        ("MailRoute", with(route(), "/preferredRegions/-", json!("eu-west-1")), "spec.preferredRegions must be unique"),
        (
            "MailRoute",
            with(route(), "/traffic", json!({})),
            "at least one of spec.traffic.messagesPerDay and spec.traffic.peakPerSecond must be set",
        ),
        ("MailRoute", with(route(), "/backends/-", json!({"name": "a"})), "spec.backends[].name must be unique"),
        (
            "MailRoute",
            with(route(), "/outputs/-", route()["outputs"][0].clone()),
            "spec.outputs[].service.name must be unique",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/-", route()["outputs"][1].clone()),
            "spec.outputs[].configMap.name must be unique",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/-", json!({})),
            "exactly one of spec.outputs[].service, spec.outputs[].configMap, spec.outputs[].agent, spec.outputs[].webhook and spec.outputs[].dns must be set",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/2/service", json!({"name": "other", "ports": [port.clone()]})),
            "exactly one of spec.outputs[].service, spec.outputs[].configMap, spec.outputs[].agent, spec.outputs[].webhook and spec.outputs[].dns must be set",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/-", route()["outputs"][2].clone()),
            "spec.outputs[].agent.configMap must be unique",
        ),
        (
            "MailRoute",
            with(
                with(route(), "/outputs/-", json!({"webhook": webhook()})),
                "/outputs/-",
                json!({"webhook": webhook()}),
            ),
            "spec.outputs[].webhook.name must be unique",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/-", json!({"webhook": with(webhook(), "/timeout", json!("31s"))})),
            "spec.outputs[].webhook.timeout must be between 100ms and 30s",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/-", json!({"webhook": with(webhook(), "/contentType", json!("text/plain"))})),
            "spec.outputs[].webhook.contentType has an effect with body only: without one the body is a CloudEvent",
        ),
        (
            "MailRoute",
            with(
                route(),
                "/outputs/-",
                json!({"webhook": with(webhook(), "/headers", json!([
                {"name": "X-Key", "value": "a"}, {"name": "x-key", "value": "b"}]))}),
            ),
            "spec.outputs[].webhook.headers[].name must be unique, in any case",
        ),
        (
            "MailRoute",
            with(
                route(),
                "/outputs/-",
                json!({"webhook": with(webhook(), "/headers", json!([
                {"name": "Webhook-Id", "value": "a"}]))}),
            ),
            "spec.outputs[].webhook.headers[].name must not be one that the operator sets: Host, Content-Type (see contentType), Content-Length, webhook-…, or one of the connection",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/-", json!({"agent": {"configMap": "mail"}})),
            "spec.outputs[].agent.configMap must be unique",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/0/service/ports/-", port),
            "spec.outputs[].service.ports[].name must be unique",
        ),
        (
            "MailRoute",
            with(route(), "/outputs/0/service/ports/-", json!({"name": "b", "port": 25})),
            "spec.outputs[].service.ports[].port must be unique",
        ),
        (
            "MailRoute",
            with(with_dns("/mode", json!("Reorder")), "/outputs/-", json!({"dns": with(dns(), "/mx", Value::Null)})),
            "spec.outputs[].dns.name must be unique",
        ),
        (
            "MailRoute",
            with(with_dns("/mx", Value::Null), "/outputs/3/dns/records", Value::Null),
            "at least one of spec.outputs[].dns.mx and spec.outputs[].dns.records must be set",
        ),
        (
            "MailRoute",
            with_dns("/rfc2136", Value::Null),
            "exactly one of spec.outputs[].dns.rfc2136, spec.outputs[].dns.dnsEndpoint and spec.outputs[].dns.api must be set",
        ),
        (
            "MailRoute",
            with_dns("/dnsEndpoint", json!({"name": "bounce"})),
            "exactly one of spec.outputs[].dns.rfc2136, spec.outputs[].dns.dnsEndpoint and spec.outputs[].dns.api must be set",
        ),
        (
            "MailRoute",
            with(with_dns("/api", json!({"secretRef": {"name": "s"}})), "/outputs/3/dns/rfc2136", Value::Null),
            "exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh of spec.outputs[].dns.api must be set",
        ),
        (
            "MailRoute",
            with(
                with_dns("/api", json!({"deSec": {}, "digitalOcean": {}, "secretRef": {"name": "s"}})),
                "/outputs/3/dns/rfc2136",
                Value::Null,
            ),
            "exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh of spec.outputs[].dns.api must be set",
        ),
        (
            "MailRoute",
            with(
                with_dns("/api", json!({"hetzner": {}, "ovh": {}, "secretRef": {"name": "s"}})),
                "/outputs/3/dns/rfc2136",
                Value::Null,
            ),
            "exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh of spec.outputs[].dns.api must be set",
        ),
        (
            "MailRoute",
            with_dns("/name", json!("bounce.other.example")),
            "spec.outputs[].dns.name must be the zone or lie below it",
        ),
        (
            "MailRoute",
            with_dns("/name", json!("workshop.example")),
            "spec.outputs[].dns.name must be the zone or lie below it",
        ),
        (
            "MailRoute",
            with_dns("/records/0/name", json!("em.other.example")),
            "spec.outputs[].dns.records[].name must be the zone or lie below it",
        ),
        (
            "MailRoute",
            with_dns("/records/-", json!({"name": "EM.shop.example", "type": "CNAME", "values": ["a.example"]})),
            "spec.outputs[].dns.records[] must be unique by name and type",
        ),
        (
            "MailRoute",
            with(with_dns("/mode", json!("Swap")), "/outputs/3/dns/mx", Value::Null),
            "spec.outputs[].dns.mode has an effect with mx only",
        ),
        (
            "MailRoute",
            with_dns("/ttl", json!("1500ms")),
            "spec.outputs[].dns.ttl must be whole seconds between 1s and 24h",
        ),
        (
            "MailRoute",
            with_dns("/ttl", json!("25h")),
            "spec.outputs[].dns.ttl must be whole seconds between 1s and 24h",
        ),
        ("MailRoute", with_dns("/timeout", json!("31s")), "spec.outputs[].dns.timeout must be between 1s and 30s"),
        (
            "MailRoute",
            with_dns("/mx", json!([{"backend": "a", "host": "mx.a.example"}])),
            "spec.outputs[].dns.mx must name a host for every backend of spec.backends",
        ),
        (
            "MailRoute",
            with_dns("/mx/-", json!({"backend": "c", "host": "mx.c.example"})),
            "spec.outputs[].dns.mx[].backend must be one of spec.backends",
        ),
    ];
    let mut tried = BTreeSet::new();
    for (kind, spec, expected) in broken {
        let refusals = refusals(kind, &spec);
        assert!(refusals.iter().any(|refusal| refusal.contains(expected)), "{expected}: {refusals:?} for {spec}");
        tried.extend(refusals);
    }
    let untried: Vec<_> = messages().difference(&tried).cloned().collect();
    assert_eq!(untried, Vec::<String>::new(), "rules that no case of this test breaks");
}

/// The message of every rule there is.
fn messages() -> BTreeSet<String> {
    fn collect(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(map) => {
                for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                    found.insert(rule["message"].as_str().expect("a rule without a message").to_owned());
                }
                map.values().for_each(|value| collect(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for kind in ["SendingBackend", "FailoverPolicy", "MailRoute"] {
        collect(&schema(kind), &mut found);
    }
    found
}
