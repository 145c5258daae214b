use super::Case;
use crate::object::Kind;

/// The name of the case, the spec, and a part of the message.
pub const BACKENDS: &[(&str, &str, &str)] = &[
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
    (
        "with port 0 of a Service",
        "{service: {name: relay, port: 0}}",
        "spec.service.port in body should be greater than or equal to 1",
    ),
    (
        "with port 65536 of a Service",
        "{service: {name: relay, port: 65536}}",
        "spec.service.port in body should be less than or equal to 65535",
    ),
    (
        "with an empty name of a Service's port",
        "{service: {name: relay, port: ''}}",
        "spec.service.port in body should be at least 1 chars long",
    ),
    (
        "with upper case in a Service's port",
        "{service: {name: relay, port: SMTP}}",
        "spec.service.port in body should match",
    ),
    (
        "with a Service's port's name that is too long",
        "{service: {name: relay, port: @16}}",
        "spec.service.port: Too long: may not be more than 15",
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
        "with a probe of the name of what agents say",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: deliveries, smtp: {}}]}",
        "spec.probes[].name must not be deliveries: under that name status.probes tells what agents say of real mail",
    ),
    (
        "with a probe of unknown depth",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: STARTTLS}}]}",
        "spec.probes[0].smtp.depth: Unsupported value: \"STARTTLS\": supported values: \"Connect\", \"Banner\", \"Ehlo\", \"StartTLS\"",
    ),
    (
        "whose probe needs TLS while its host has none",
        "{smtp: {host: mx.example, port: 2525}, probes: [{name: a, smtp: {depth: StartTLS}}]}",
        "spec.probes[].smtp.depth StartTLS needs a tls.mode other than None, which is the default of ports other than 25, 465 and 587: there is no TLS to probe",
    ),
    (
        "whose probe needs TLS while its Service has none",
        "{service: {name: relay, port: 25, tls: {mode: None}}, probes: [{name: a, smtp: {depth: StartTLS}}]}",
        "spec.probes[].smtp.depth StartTLS needs a tls.mode other than None, which is the default of ports other than 25, 465 and 587: there is no TLS to probe",
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
        "with a timeout above 60s in the operator's process",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 1h, timeout: 61s, smtp: {}}]}",
        "spec.probes[].timeout must be at most 60s without job: a dialogue that hangs holds a place among those of all namespaces",
    ),
    (
        "with a timeout above ten intervals",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 1s, timeout: 10001ms, smtp: {}}]}",
        "spec.probes[].timeout must be at most ten times the interval: no more rounds of one probe may overlap",
    ),
    // Idle sessions.
    (
        "whose Job is to keep an idle session",
        "{service: {name: relay, port: 25}, probes: [{name: a, smtp: {idleSession: true}, job: {}}]}",
        "spec.probes[].smtp.idleSession has no effect with job: the pod ends with its round",
    ),
    (
        "that is to keep an idle session and says no EHLO",
        "{service: {name: relay, port: 25}, probes: [{name: a, smtp: {depth: Banner, idleSession: true}}]}",
        "spec.probes[].smtp.idleSession needs a depth of Ehlo or deeper: the session is idle after EHLO",
    ),
    // Jobs of probes.
    (
        "whose Job runs too often",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, interval: 29s, smtp: {}, job: {}}]}",
        "spec.probes[].interval must be at least 30s with job: each round starts a pod",
    ),
    (
        "whose Job has an empty service account's name",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {}, job: {serviceAccountName: ''}}]}",
        "spec.probes[0].job.serviceAccountName in body should be at least 1 chars long",
    ),
    (
        "whose Job has a service account's name that is too long",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {}, job: {serviceAccountName: @254}}]}",
        "spec.probes[0].job.serviceAccountName: Too long: may not be more than 253",
    ),
    (
        "whose Job has a service account of another namespace",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {}, job: {serviceAccountName: other/mail}}]}",
        "spec.probes[0].job.serviceAccountName in body should match",
    ),
    (
        "whose Job has an unknown field",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {}, job: {image: mine}}]}",
        "unknown field \"spec.probes[0].job.image\"",
    ),
    // How deep probes go.
    (
        "whose probe logs in with nothing",
        "{smtp: {host: mx.example, port: 587, tls: {mode: StartTLS}}, probes: [{name: a, smtp: {depth: Auth}}]}",
        "spec.probes[].smtp.depth Auth needs auth.secretRef of smtp or service: there is nothing to log in with",
    ),
    (
        "outside whose probe logs in too often",
        "{smtp: {host: mx.example, port: 587, tls: {mode: StartTLS}, auth: {secretRef: {name: a}}}, probes: [{name: a, interval: 29s, smtp: {depth: Auth}}]}",
        "spec.probes[].interval must be at least 30s for smtp.depth Auth, MailFrom and RcptTo, unless the backend is a Service: providers count log-ins",
    ),
    (
        "whose probe has no sender",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: MailFrom}}]}",
        "spec.probes[].smtp.from is needed for depth MailFrom and RcptTo: the address that MAIL FROM names",
    ),
    (
        "whose probe has no recipient",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: RcptTo, from: a@shop.example}}]}",
        "spec.probes[].smtp.to is needed for depth RcptTo: the address that RCPT TO names",
    ),
    (
        "whose probe has a sender that it does not name",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {from: a@shop.example}}]}",
        "spec.probes[].smtp.from has an effect for depth MailFrom and RcptTo only",
    ),
    (
        "whose probe has a recipient that it does not name",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: MailFrom, from: a@shop.example, to: b@shop.example}}]}",
        "spec.probes[].smtp.to has an effect for depth RcptTo only",
    ),
    (
        "whose probe has a sender with too long a local part",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: MailFrom, from: @65@shop.example}}]}",
        "spec.probes[].smtp.from and to must have at most 64 characters before the @ (RFC 5321)",
    ),
    (
        "whose probe has an empty sender",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: MailFrom, from: ''}}]}",
        "spec.probes[0].smtp.from in body should be at least 3 chars long",
    ),
    (
        "whose probe has a sender that is too long",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: MailFrom, from: @255}}]}",
        "spec.probes[0].smtp.from: Too long: may not be more than 254",
    ),
    (
        "whose probe would say more than a sender",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: MailFrom, from: \"a@shop.example>\\r\\nDATA\"}}]}",
        "spec.probes[0].smtp.from in body should match",
    ),
    (
        "whose probe has an empty recipient",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: RcptTo, from: a@shop.example, to: ''}}]}",
        "spec.probes[0].smtp.to in body should be at least 3 chars long",
    ),
    (
        "whose probe has a recipient that is too long",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: RcptTo, from: a@shop.example, to: @255}}]}",
        "spec.probes[0].smtp.to: Too long: may not be more than 254",
    ),
    (
        "whose probe has a recipient with a display name",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {depth: RcptTo, from: a@shop.example, to: 'Sink <b@shop.example>'}}]}",
        "spec.probes[0].smtp.to in body should match",
    ),
    (
        "with a word for suspended",
        "{smtp: {host: mx.example, port: 25}, suspended: 'yes'}",
        "spec.suspended in body must be of type boolean",
    ),
];

/// Contents of `tls`, the same for a host and a Service: the name of the case, `tls`, and the
/// message after the path of `tls`.
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
        "exactly one of caRef.configMap and caRef.secret must be set",
    ),
    (
        "with an authority from two places",
        "{mode: StartTLS, caRef: {secret: ca, configMap: ca}}",
        "exactly one of caRef.configMap and caRef.secret must be set",
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

/// Contents of `auth` beside `tls`, the same for a host and a Service: the name of the case, both
/// fields, and the message after the path of `auth`.
const AUTH: &[(&str, &str, &str)] = &[
    ("without a Secret", "tls: {mode: StartTLS}, auth: {}", ".secretRef: Required value"),
    ("with a Secret without a name", "tls: {mode: StartTLS}, auth: {secretRef: {}}", ".secretRef.name: Required value"),
    (
        "with a Secret of an empty name",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ''}}",
        ".secretRef.name in body should be at least 1 chars long",
    ),
    (
        "with a Secret whose name is too long",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: @254}}",
        ".secretRef.name: Too long: may not be more than 253",
    ),
    (
        "with a path for a Secret",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ../ses}}",
        ".secretRef.name in body should match",
    ),
    (
        "with a user name's key that is empty",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ses, usernameKey: ''}}",
        ".secretRef.usernameKey in body should be at least 1 chars long",
    ),
    (
        "with a user name's key that is too long",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ses, usernameKey: @254}}",
        ".secretRef.usernameKey: Too long: may not be more than 253",
    ),
    (
        "with a path for a user name's key",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ses, usernameKey: ../user}}",
        ".secretRef.usernameKey in body should match",
    ),
    (
        "with a password's key that is empty",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ses, passwordKey: ''}}",
        ".secretRef.passwordKey in body should be at least 1 chars long",
    ),
    (
        "with a password's key that is too long",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ses, passwordKey: @254}}",
        ".secretRef.passwordKey: Too long: may not be more than 253",
    ),
    (
        "with a hidden file for a password's key",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ses, passwordKey: .key}}",
        ".secretRef.passwordKey in body should match",
    ),
    (
        "with one key for both parts",
        "tls: {mode: StartTLS}, auth: {secretRef: {name: ses, usernameKey: password}}",
        "auth.secretRef.usernameKey and passwordKey must be two keys",
    ),
    ("with a password", "tls: {mode: StartTLS}, auth: {secretRef: {name: ses}, password: x}", ".password\""),
    ("over no TLS", "auth: {secretRef: {name: ses}}", READABLE),
    ("over TLS of mode None", "tls: {mode: None}, auth: {secretRef: {name: ses}}", READABLE),
    ("over TLS that is not verified", "tls: {mode: Opportunistic}, auth: {secretRef: {name: ses}}", READABLE),
    ("where nobody allows plaintext", "auth: {secretRef: {name: ses}, allowPlaintext: false}", READABLE),
];
const READABLE: &str = " needs tls.mode StartTLS or Implicit (the defaults of the ports 587 and 465), or whoever sits between reads the password; set auth.allowPlaintext to true if that is meant";

const PARENTS: [(&str, &str, &str); 2] =
    [("a host's", "smtp", "host: mx.example, port: 2525"), ("a Service's", "service", "name: relay, port: 25")];

pub fn auth() -> Vec<Case> {
    let mut cases = Vec::new();
    for (whose, field, rest) in PARENTS {
        for (what, auth, expected) in AUTH {
            cases.push(Case {
                kind: Kind::Backend,
                what: format!("with {whose} login {what}"),
                spec: format!("{{{field}: {{{rest}, {auth}}}}}"),
                expected: if expected.starts_with(['.', ' ']) {
                    format!("spec.{field}.auth{expected}")
                } else {
                    (*expected).to_owned()
                },
            });
        }
    }
    cases
}

pub fn tls() -> Vec<Case> {
    let mut cases = Vec::new();
    for (whose, field, rest) in PARENTS {
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
