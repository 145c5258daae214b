//! What the API server refuses, and the words that a user reads.

use anyhow::bail;
use mail_failover_e2e::suite::{Trial, trial};

use super::object::{Kind, create, object};

/// A spec that is refused.
pub struct Case {
    pub kind: Kind,
    /// "a `SendingBackend` … is refused".
    pub what: String,
    pub spec: String,
    /// A part of the message.
    pub expected: String,
}

pub fn trials() -> Vec<Trial> {
    cases().into_iter().map(refusal).collect()
}

fn refusal(case: Case) -> Trial {
    trial(format!("a {} {} is refused", case.kind.name(), case.what), async move |stage| {
        match create(&stage, case.kind, &object(case.kind, "refused", &case.spec)?).await? {
            Ok(_) => bail!("accepted: {}", case.spec),
            Err(message) if message.contains(&case.expected) => Ok(()),
            Err(message) => bail!("the message lacks\n  {}\nit is\n  {message}", case.expected),
        }
    })
}

/// All of them. `coverage` checks that no rule and no bound of a spec is left out.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind: Kind, rows: &[(&str, &str, &str)]| {
        cases.extend(rows.iter().map(|(what, spec, expected)| Case {
            kind,
            what: (*what).to_owned(),
            spec: (*spec).to_owned(),
            expected: (*expected).to_owned(),
        }));
    };
    add(Kind::Backend, BACKENDS);
    add(Kind::Policy, POLICIES);
    add(Kind::Route, ROUTES);
    cases.extend(tls());
    cases.extend(many());
    cases
}

const BACKENDS: &[(&str, &str, &str)] = &[
    // Exactly one of two.
    ("with neither host nor Service", "{}", "exactly one of spec.smtp and spec.service must be set"),
    (
        "with both host and Service",
        "{smtp: {host: mx.example, port: 25}, service: {name: relay, port: smtp}}",
        "exactly one of spec.smtp and spec.service must be set",
    ),
    // Unknown fields.
    ("with an unknown field", "{smtp: {host: mx.example, port: 25}, weight: 3}", "unknown field \"spec.weight\""),
    (
        "with a misspelt field deep inside",
        "{smtp: {host: mx.example, port: 25, tls: {mode: StartTLS, servername: mx.example}}}",
        "unknown field \"spec.smtp.tls.servername\"",
    ),
    // The host.
    ("without a host", "{smtp: {port: 25}}", "spec.smtp.host: Required value"),
    ("with an empty host", "{smtp: {host: '', port: 25}}", "spec.smtp.host in body should be at least 1 chars long"),
    (
        "with a host that is too long",
        "{smtp: {host: @254, port: 25}}",
        "spec.smtp.host: Too long: may not be more than 253",
    ),
    ("with a URL as host", "{smtp: {host: 'smtp://mx.example', port: 25}}", "spec.smtp.host in body should match"),
    (
        "with a bracketed address as host",
        "{smtp: {host: '[2001:db8::7]', port: 25}}",
        "spec.smtp.host in body should match",
    ),
    (
        "with a port in its host",
        "{smtp: {host: 'mx.example:25', port: 25}}",
        "spec.smtp.host must be a DNS name or an IP address, without scheme, brackets or port",
    ),
    (
        "with half an address as host",
        "{smtp: {host: 192.0.2, port: 25}}",
        "spec.smtp.host must be a DNS name or an IP address, without scheme, brackets or port",
    ),
    (
        "at an IPv4 loopback address",
        "{smtp: {host: 127.0.0.1, port: 25}}",
        "spec.smtp.host must not be a loopback, link-local or unspecified address: a Service cannot lead there",
    ),
    (
        "at the IPv6 loopback address",
        "{smtp: {host: '::1', port: 25}}",
        "spec.smtp.host must not be a loopback, link-local or unspecified address: a Service cannot lead there",
    ),
    (
        "at a link-local address",
        "{smtp: {host: 'fe80::1', port: 25}}",
        "spec.smtp.host must not be a loopback, link-local or unspecified address: a Service cannot lead there",
    ),
    (
        "at an IPv4 link-local address",
        "{smtp: {host: 169.254.0.7, port: 25}}",
        "spec.smtp.host must not be a loopback, link-local or unspecified address: a Service cannot lead there",
    ),
    (
        "at a link-local multicast address",
        "{smtp: {host: 224.0.0.5, port: 25}}",
        "spec.smtp.host must not be a loopback, link-local or unspecified address: a Service cannot lead there",
    ),
    (
        "at the unspecified address",
        "{smtp: {host: 0.0.0.0, port: 25}}",
        "spec.smtp.host must not be a loopback, link-local or unspecified address: a Service cannot lead there",
    ),
    // The port.
    ("without a port", "{smtp: {host: mx.example}}", "spec.smtp.port: Required value"),
    ("at port 0", "{smtp: {host: mx.example, port: 0}}", "spec.smtp.port in body should be greater than or equal to 1"),
    (
        "at port 65536",
        "{smtp: {host: mx.example, port: 65536}}",
        "spec.smtp.port in body should be less than or equal to 65535",
    ),
    ("with a word as port", "{smtp: {host: mx.example, port: smtp}}", "spec.smtp.port in body must be of type integer"),
    // The Service.
    ("without a Service's name", "{service: {port: smtp}}", "spec.service.name: Required value"),
    (
        "with an empty Service's name",
        "{service: {name: '', port: smtp}}",
        "spec.service.name in body should be at least 1 chars long",
    ),
    (
        "with a Service's name that is too long",
        "{service: {name: @64, port: smtp}}",
        "spec.service.name: Too long: may not be more than 63",
    ),
    (
        "with a Service's full DNS name",
        "{service: {name: relay.shop.svc, port: smtp}}",
        "spec.service.name in body should match",
    ),
    ("without a Service's port", "{service: {name: relay}}", "spec.service.port: Required value"),
    // Probes.
    (
        "with an empty list of probes",
        "{smtp: {host: mx.example, port: 25}, probes: []}",
        "spec.probes in body should have at least 1 items",
    ),
    (
        "with a probe that has no name",
        "{smtp: {host: mx.example, port: 25}, probes: [{smtp: {}}]}",
        "spec.probes[0].name: Required value",
    ),
    (
        "with a probe that has no kind",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a}]}",
        "spec.probes[0].smtp: Required value",
    ),
    (
        "with an empty name of a probe",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: '', smtp: {}}]}",
        "spec.probes[0].name in body should be at least 1 chars long",
    ),
    (
        "with a probe's name that is too long",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: @64, smtp: {}}]}",
        "spec.probes[0].name: Too long: may not be more than 63",
    ),
    (
        "with upper case in a probe's name",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: Banner, smtp: {}}]}",
        "spec.probes[0].name in body should match",
    ),
    (
        "with two probes of one name",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {}}, {name: a, smtp: {}}]}",
        "spec.probes[].name must be unique",
    ),
    (
        "with a probe of unknown depth",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: STARTTLS}}]}",
        "spec.probes[0].smtp.depth: Unsupported value: \"STARTTLS\": supported values: \"Connect\", \"Banner\", \"Ehlo\", \"StartTLS\"",
    ),
    (
        "whose probe needs TLS while its host has none",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: StartTLS}}]}",
        "spec.probes[].smtp.depth StartTLS needs a tls.mode other than None: there is no TLS to probe",
    ),
    (
        "whose probe needs TLS while its Service has none",
        "{service: {name: relay, port: 25, tls: {mode: None}}, probes: [{name: a, smtp: {depth: StartTLS}}]}",
        "spec.probes[].smtp.depth StartTLS needs a tls.mode other than None: there is no TLS to probe",
    ),
    // Intervals and timeouts.
    (
        "with an interval without a unit",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: '10', smtp: {}}]}",
        "spec.probes[0].interval in body should match",
    ),
    (
        "with an interval that is a number",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 10, smtp: {}}]}",
        "spec.probes[0].interval in body must be of type string",
    ),
    (
        "with an interval of too many letters",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 10000000000000000000ms, smtp: {}}]}",
        "spec.probes[0].interval: Too long: may not be more than 20",
    ),
    (
        "with an interval below 100ms",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 99ms, timeout: 50ms, smtp: {}}]}",
        "spec.probes[].interval must be between 100ms and 24h",
    ),
    (
        "with an interval above 24h",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 24h1s, smtp: {}}]}",
        "spec.probes[].interval must be between 100ms and 24h",
    ),
    (
        "with a negative timeout",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, timeout: -1s, smtp: {}}]}",
        "spec.probes[0].timeout in body should match",
    ),
    (
        "with a timeout of too many letters",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, timeout: 10000000000000000000ms, smtp: {}}]}",
        "spec.probes[0].timeout: Too long: may not be more than 20",
    ),
    (
        "with a timeout below 50ms",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, timeout: 49ms, smtp: {}}]}",
        "spec.probes[].timeout must be between 50ms and 5m",
    ),
    (
        "with a timeout above 5m",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 1h, timeout: 5m1s, smtp: {}}]}",
        "spec.probes[].timeout must be between 50ms and 5m",
    ),
    (
        "with a timeout above ten intervals",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 1s, timeout: 10001ms, smtp: {}}]}",
        "spec.probes[].timeout must be at most ten times the interval: no more rounds of one probe may overlap",
    ),
    (
        "whose interval is too short for the default timeout",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 499ms, smtp: {}}]}",
        "spec.probes[].timeout must be at most ten times the interval: no more rounds of one probe may overlap",
    ),
    (
        "with a word for suspended",
        "{smtp: {host: mx.example, port: 25}, suspended: 'yes'}",
        "spec.suspended in body must be of type boolean",
    ),
];

const POLICIES: &[(&str, &str, &str)] = &[
    ("with an unknown field", "{failback: {mode: Manual, afer: 10m}}", "unknown field \"spec.failback.afer\""),
    (
        "with 0 failures",
        "{failure: {consecutive: 0}}",
        "spec.failure.consecutive in body should be greater than or equal to 1",
    ),
    (
        "with 1001 failures",
        "{failure: {consecutive: 1001}}",
        "spec.failure.consecutive in body should be less than or equal to 1000",
    ),
    (
        "with 0 successes",
        "{recovery: {consecutive: 0}}",
        "spec.recovery.consecutive in body should be greater than or equal to 1",
    ),
    (
        "with 1001 successes",
        "{recovery: {consecutive: 1001}}",
        "spec.recovery.consecutive in body should be less than or equal to 1000",
    ),
    ("with half a failure", "{failure: {consecutive: 1.5}}", "spec.failure.consecutive in body must be of type int32"),
    ("with a cooldown in days", "{hold: {cooldown: 1d}}", "spec.hold.cooldown in body should match"),
    (
        "with a cooldown of too many letters",
        "{hold: {cooldown: 10000000000000000000ms}}",
        "spec.hold.cooldown: Too long: may not be more than 20",
    ),
    ("with a cooldown above a week", "{hold: {cooldown: 168h1s}}", "spec.hold.cooldown must be at most 168h"),
    ("with a minimum stay in days", "{hold: {minimumStay: 1d}}", "spec.hold.minimumStay in body should match"),
    (
        "with a minimum stay of too many letters",
        "{hold: {minimumStay: 10000000000000000000ms}}",
        "spec.hold.minimumStay: Too long: may not be more than 20",
    ),
    ("with a minimum stay above a week", "{hold: {minimumStay: 168h1s}}", "spec.hold.minimumStay must be at most 168h"),
    ("with a soak in days", "{failback: {after: 1d}}", "spec.failback.after in body should match"),
    (
        "with a soak of too many letters",
        "{failback: {after: 10000000000000000000ms}}",
        "spec.failback.after: Too long: may not be more than 20",
    ),
    ("with a soak above a week", "{failback: {after: 168h1s}}", "spec.failback.after must be at most 168h"),
    (
        "with an unknown way of failback",
        "{failback: {mode: automatic}}",
        "spec.failback.mode: Unsupported value: \"automatic\": supported values: \"Automatic\", \"Manual\"",
    ),
    (
        "with an unknown answer to none healthy",
        "{whenNoneHealthy: Drop}",
        "spec.whenNoneHealthy: Unsupported value: \"Drop\": supported values: \"Hold\", \"Preferred\"",
    ),
];

const ROUTES: &[(&str, &str, &str)] = &[
    (
        "with an unknown field",
        "{backends: [{name: a, weight: 2}], outputs: [{configMap: {name: c, format: Env}}]}",
        "unknown field \"spec.backends[0].weight\"",
    ),
    // Backends.
    ("without backends", "{outputs: [{configMap: {name: c, format: Env}}]}", "spec.backends: Required value"),
    (
        "with 0 backends",
        "{backends: [], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends in body should have at least 1 items",
    ),
    (
        "that lists a backend twice",
        "{backends: [{name: a}, {name: b}, {name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[].name must be unique: a backend cannot stand in for itself",
    ),
    (
        "with a nameless backend",
        "{backends: [{}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].name: Required value",
    ),
    (
        "with an empty backend's name",
        "{backends: [{name: ''}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].name in body should be at least 1 chars long",
    ),
    (
        "with a backend's name that is too long",
        "{backends: [{name: @254}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].name: Too long: may not be more than 253",
    ),
    // Policy and strategy.
    (
        "whose policy has no name",
        "{policyRef: {}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.policyRef.name: Required value",
    ),
    (
        "whose policy has an empty name",
        "{policyRef: {name: ''}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.policyRef.name in body should be at least 1 chars long",
    ),
    (
        "with a policy's name that is too long",
        "{policyRef: {name: @254}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.policyRef.name: Too long: may not be more than 253",
    ),
    (
        "with an unknown strategy",
        "{strategy: Weighted, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.strategy: Unsupported value: \"Weighted\": supported values: \"ActivePassive\"",
    ),
    // Outputs.
    ("without outputs", "{backends: [{name: a}]}", "spec.outputs: Required value"),
    ("with 0 outputs", "{backends: [{name: a}], outputs: []}", "spec.outputs in body should have at least 1 items"),
    (
        "with an empty output",
        "{backends: [{name: a}], outputs: [{}]}",
        "exactly one of spec.outputs[].service and spec.outputs[].configMap must be set",
    ),
    (
        "with an output that is both",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}]}, configMap: {name: c, format: Env}}]}",
        "exactly one of spec.outputs[].service and spec.outputs[].configMap must be set",
    ),
    (
        "with two outputs into one Service",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}]}}, {service: {name: s, ports: [{name: smtp, port: 587}]}}]}",
        "spec.outputs[].service.name must be unique",
    ),
    (
        "with two outputs into one ConfigMap",
        "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}, {configMap: {name: c, format: Postfix}}]}",
        "spec.outputs[].configMap.name must be unique",
    ),
    // Service outputs.
    (
        "with a nameless Service",
        "{backends: [{name: a}], outputs: [{service: {ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name: Required value",
    ),
    (
        "with an empty Service's name",
        "{backends: [{name: a}], outputs: [{service: {name: '', ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name in body should be at least 1 chars long",
    ),
    (
        "with a Service's name that is too long",
        "{backends: [{name: a}], outputs: [{service: {name: @64, ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name: Too long: may not be more than 63",
    ),
    (
        "with a Service's name that starts with a digit",
        "{backends: [{name: a}], outputs: [{service: {name: 1st, ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name in body should match",
    ),
    (
        "with a Service without ports",
        "{backends: [{name: a}], outputs: [{service: {name: s}}]}",
        "spec.outputs[0].service.ports: Required value",
    ),
    (
        "with a Service with 0 ports",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: []}}]}",
        "spec.outputs[0].service.ports in body should have at least 1 items",
    ),
    (
        "with two ports of one name",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}, {name: smtp, port: 587}]}}]}",
        "spec.outputs[].service.ports[].name must be unique",
    ),
    (
        "with two ports of one number",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}, {name: submission, port: 25}]}}]}",
        "spec.outputs[].service.ports[].port must be unique",
    ),
    (
        "with a nameless port",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name: Required value",
    ),
    (
        "with an empty name of a port",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: '', port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name in body should be at least 1 chars long",
    ),
    (
        "with a port's name that is too long",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: @16, port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name: Too long: may not be more than 15",
    ),
    (
        "with upper case in a port's name",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: SMTP, port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name in body should match",
    ),
    (
        "with a port without a number",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp}]}}]}",
        "spec.outputs[0].service.ports[0].port: Required value",
    ),
    (
        "with a Service at port 0",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 0}]}}]}",
        "spec.outputs[0].service.ports[0].port in body should be greater than or equal to 1",
    ),
    (
        "with a Service at port 65536",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 65536}]}}]}",
        "spec.outputs[0].service.ports[0].port in body should be less than or equal to 65535",
    ),
    // ConfigMap outputs.
    (
        "with a nameless ConfigMap",
        "{backends: [{name: a}], outputs: [{configMap: {format: Env}}]}",
        "spec.outputs[0].configMap.name: Required value",
    ),
    (
        "with an empty ConfigMap's name",
        "{backends: [{name: a}], outputs: [{configMap: {name: '', format: Env}}]}",
        "spec.outputs[0].configMap.name in body should be at least 1 chars long",
    ),
    (
        "with a ConfigMap's name that is too long",
        "{backends: [{name: a}], outputs: [{configMap: {name: @254, format: Env}}]}",
        "spec.outputs[0].configMap.name: Too long: may not be more than 253",
    ),
    (
        "with upper case in a ConfigMap's name",
        "{backends: [{name: a}], outputs: [{configMap: {name: Mail, format: Env}}]}",
        "spec.outputs[0].configMap.name in body should match",
    ),
    (
        "with a ConfigMap without a format",
        "{backends: [{name: a}], outputs: [{configMap: {name: c}}]}",
        "spec.outputs[0].configMap.format: Required value",
    ),
    (
        "with a ConfigMap of unknown format",
        "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Exim}}]}",
        "spec.outputs[0].configMap.format: Unsupported value: \"Exim\": supported values: \"Postfix\", \"Env\"",
    ),
];

/// What stands in `tls`, which a host and a Service have alike: (what, tls, the message after the path of `tls`).
const TLS: &[(&str, &str, &str)] = &[
    ("without a mode", "{}", ".mode: Required value"),
    (
        "of unknown mode",
        "{mode: Required}",
        ".mode: Unsupported value: \"Required\": supported values: \"None\", \"Opportunistic\", \"StartTLS\", \"Implicit\"",
    ),
    (
        "with a server name and mode None",
        "{mode: None, serverName: mx.example}",
        "tls.serverName has no effect with mode None",
    ),
    (
        "with an empty server name",
        "{mode: StartTLS, serverName: ''}",
        ".serverName in body should be at least 1 chars long",
    ),
    (
        "with a server name that is too long",
        "{mode: StartTLS, serverName: @254}",
        ".serverName: Too long: may not be more than 253",
    ),
    (
        "with a space in its server name",
        "{mode: StartTLS, serverName: 'mx example'}",
        ".serverName in body should match",
    ),
    (
        "with an authority that nothing is verified against",
        "{mode: Opportunistic, caRef: {secret: ca}}",
        "tls.caRef has an effect with mode StartTLS or Implicit only: None and Opportunistic verify nothing",
    ),
    (
        "with an authority from nowhere",
        "{mode: StartTLS, caRef: {key: ca.crt}}",
        "exactly one of tls.caRef.configMap and tls.caRef.secret must be set",
    ),
    (
        "with an authority from two places",
        "{mode: StartTLS, caRef: {secret: ca, configMap: ca}}",
        "exactly one of tls.caRef.configMap and tls.caRef.secret must be set",
    ),
    (
        "with an empty ConfigMap's name",
        "{mode: StartTLS, caRef: {configMap: ''}}",
        ".caRef.configMap in body should be at least 1 chars long",
    ),
    (
        "with a ConfigMap's name that is too long",
        "{mode: StartTLS, caRef: {configMap: @254}}",
        ".caRef.configMap: Too long: may not be more than 253",
    ),
    (
        "with an empty Secret's name",
        "{mode: StartTLS, caRef: {secret: ''}}",
        ".caRef.secret in body should be at least 1 chars long",
    ),
    (
        "with a Secret's name that is too long",
        "{mode: StartTLS, caRef: {secret: @254}}",
        ".caRef.secret: Too long: may not be more than 253",
    ),
    (
        "with an empty key",
        "{mode: StartTLS, caRef: {secret: ca, key: ''}}",
        ".caRef.key in body should be at least 1 chars long",
    ),
    (
        "with a key that is too long",
        "{mode: StartTLS, caRef: {secret: ca, key: @254}}",
        ".caRef.key: Too long: may not be more than 253",
    ),
    (
        "with a slash in its key",
        "{mode: StartTLS, caRef: {secret: ca, key: tls/ca.crt}}",
        ".caRef.key in body should match",
    ),
];

fn tls() -> Vec<Case> {
    let parents =
        [("a host's", "smtp", "host: mx.example, port: 587"), ("a Service's", "service", "name: relay, port: smtp")];
    let mut cases = Vec::new();
    for (whose, field, rest) in parents {
        for (what, tls, expected) in TLS {
            let expected =
                if expected.starts_with('.') { format!("spec.{field}.tls{expected}") } else { (*expected).to_owned() };
            cases.push(Case {
                kind: Kind::Backend,
                what: format!("with {whose} TLS {what}"),
                spec: format!("{{{field}: {{{rest}, tls: {tls}}}}}"),
                expected,
            });
        }
    }
    cases
}

/// One more than may be.
fn many() -> Vec<Case> {
    let list = |length: usize, item: &str| {
        (0..length).map(|number| item.replace('#', &number.to_string())).collect::<Vec<_>>().join(", ")
    };
    let case = |kind, what: &str, spec: String, expected: &str| Case {
        kind,
        what: what.to_owned(),
        spec,
        expected: expected.to_owned(),
    };
    vec![
        case(
            Kind::Route,
            "with 101 backends",
            format!("{{backends: [{}], outputs: [{{configMap: {{name: c, format: Env}}}}]}}", list(101, "{name: b#}")),
            "spec.backends: Too many: 101: must have at most 100 items",
        ),
        case(
            Kind::Route,
            "with 17 outputs",
            format!("{{backends: [{{name: a}}], outputs: [{}]}}", list(17, "{configMap: {name: c#, format: Env}}")),
            "spec.outputs: Too many: 17: must have at most 16 items",
        ),
        case(
            Kind::Route,
            "with 9 ports of a Service",
            format!(
                "{{backends: [{{name: a}}], outputs: [{{service: {{name: s, ports: [{}]}}}}]}}",
                list(9, "{name: p#, port: 2#}")
            ),
            "spec.outputs[0].service.ports: Too many: 9: must have at most 8 items",
        ),
        case(
            Kind::Backend,
            "with 9 probes",
            format!("{{smtp: {{host: mx.example, port: 25}}, probes: [{}]}}", list(9, "{name: p#, smtp: {}}")),
            "spec.probes: Too many: 9: must have at most 8 items",
        ),
    ]
}

/// What [`Case::expected`] of all cases says, with the numbers of list items left out: `spec.probes[].name`.
pub fn expectations(kind: Kind) -> Vec<String> {
    let without_numbers = |text: &str| -> String {
        let mut result = String::new();
        for (index, part) in text.split('[').enumerate() {
            if index > 0 {
                result.push('[');
            }
            result.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        }
        result
    };
    cases().iter().filter(|case| case.kind == kind).map(|case| without_numbers(&case.expected)).collect()
}
