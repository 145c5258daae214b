//! Specs that the API server refuses, and the words that a user reads.

mod backends;
mod dns;
mod dns_api;
mod drills;
mod limits;
mod notifications;
mod policies;
mod replies;
mod routes;

use anyhow::bail;
use mail_failover_e2e::suite::{Trial, trial};

use super::object::{Kind, create, object};
use backends::{BACKENDS, auth, tls};
use dns::{DNS, long_lists};
use dns_api::DNS_API;
use drills::DRILLS;
use limits::LIMITS;
use notifications::NOTIFICATIONS;
use policies::POLICIES;
use replies::REPLIES;
use routes::ROUTES;

/// A spec that is refused.
pub struct Case {
    pub kind: Kind,
    /// The name of the case, for "a `SendingBackend` … is refused".
    pub what: String,
    pub spec: String,
    /// A part of the message.
    pub expected: String,
}

pub fn trials() -> Vec<Trial> {
    cases().into_iter().map(refusal).collect()
}

fn refusal(case: Case) -> Trial {
    trial(format!("a {} {} is refused", case.kind.name(), case.what), async move |env| {
        match create(&env, case.kind, &object(case.kind, "refused", &case.spec)?).await? {
            Ok(_) => bail!("accepted: {}", case.spec),
            Err(message) if message.contains(&case.expected) => Ok(()),
            Err(message) => bail!("the message lacks\n  {}\nit is\n  {message}", case.expected),
        }
    })
}

/// All cases. `coverage` checks that no rule and no bound of a spec is left out.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, rows) in [
        (Kind::Backend, BACKENDS),
        (Kind::Backend, LIMITS),
        (Kind::Backend, REPLIES),
        (Kind::Policy, POLICIES),
        (Kind::Policy, DRILLS),
        (Kind::Policy, NOTIFICATIONS),
        (Kind::Route, ROUTES),
        (Kind::Route, DNS),
        (Kind::Route, DNS_API),
    ] {
        cases.extend(rows.iter().map(|(what, spec, expected)| case(kind, what, (*spec).to_owned(), expected)));
    }
    cases.extend(tls());
    cases.extend(auth());
    cases.extend(many());
    cases.extend(long_lists());
    cases
}

fn case(kind: Kind, what: &str, spec: String, expected: &str) -> Case {
    Case { kind, what: what.to_owned(), spec, expected: expected.to_owned() }
}

/// A list of items whose `#` is replaced by their number.
fn list(length: usize, item: &str) -> String {
    (0..length).map(|number| item.replace('#', &number.to_string())).collect::<Vec<_>>().join(", ")
}

/// Lists and maps with one entry more than allowed.
fn many() -> Vec<Case> {
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
            "with 17 headers of a webhook",
            format!(
                "{{backends: [{{name: a}}], outputs: [{{webhook: {{name: w, url: 'https://a.example', secretRef: {{name: s}}, headers: [{}]}}}}]}}",
                list(17, "{name: X-#, value: x}")
            ),
            "spec.outputs[0].webhook.headers: Too many: 17: must have at most 16 items",
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
        case(
            Kind::Route,
            "with 33 jurisdictions",
            format!(
                "{{residency: {{jurisdictions: [{}]}}, backends: [{{name: a}}], outputs: [{{configMap: {{name: c, format: Env}}}}]}}",
                list(33, "J#")
            ),
            "spec.residency.jurisdictions: Too many: 33: must have at most 32 items",
        ),
        case(
            Kind::Route,
            "with 33 regions",
            format!(
                "{{preferredRegions: [{}], backends: [{{name: a}}], outputs: [{{configMap: {{name: c, format: Env}}}}]}}",
                list(33, "r#")
            ),
            "spec.preferredRegions: Too many: 33: must have at most 32 items",
        ),
        case(
            Kind::Route,
            "with 65 sender domains",
            format!(
                "{{senderDomains: [{}], backends: [{{name: a}}], outputs: [{{configMap: {{name: c, format: Env}}}}]}}",
                list(65, "d#.example")
            ),
            "spec.senderDomains: Too many: 65: must have at most 64 items",
        ),
        case(
            Kind::Backend,
            "with 65 sender domains",
            format!("{{smtp: {{host: mx.example, port: 25}}, senderDomains: [{}]}}", list(65, "{domain: d#.example}")),
            "spec.senderDomains: Too many: 65: must have at most 64 items",
        ),
        case(
            Kind::Backend,
            "with 33 rules about replies",
            format!(
                "{{smtp: {{host: mx.example, port: 25}}, replies: [{}]}}",
                list(33, "{name: r#, about: Quota, codes: ['554']}")
            ),
            "spec.replies: Too many: 33: must have at most 32 items",
        ),
        case(
            Kind::Backend,
            "with a rule about replies of 17 codes",
            format!(
                "{{smtp: {{host: mx.example, port: 25}}, replies: [{{name: a, about: Quota, codes: [{}]}}]}}",
                list(17, "'4#'")
            ),
            "spec.replies[0].codes: Too many: 17: must have at most 16 items",
        ),
        case(
            Kind::Backend,
            "with a rule about replies of 17 enhanced codes",
            format!(
                "{{smtp: {{host: mx.example, port: 25}}, replies: [{{name: a, about: Quota, enhancedCodes: [{}]}}]}}",
                list(17, "x.7.#")
            ),
            "spec.replies[0].enhancedCodes: Too many: 17: must have at most 16 items",
        ),
        case(
            Kind::Backend,
            "with a rule about replies of 9 words",
            format!(
                "{{smtp: {{host: mx.example, port: 25}}, replies: [{{name: a, about: Quota, words: [{}]}}]}}",
                list(9, "x#")
            ),
            "spec.replies[0].words: Too many: 9: must have at most 8 items",
        ),
        case(
            Kind::Backend,
            "with 91 days of warm-up",
            format!(
                "{{smtp: {{host: mx.example, port: 25}}, limits: {{warmUp: {{startedAt: '2026-11-01T00:00:00Z', schedule: [{}]}}}}}}",
                list(91, "200#")
            ),
            "spec.limits.warmUp.schedule: Too many: 91: must have at most 90 items",
        ),
        case(
            Kind::Backend,
            "whose Job has 17 tolerations",
            format!(
                "{{smtp: {{host: mx.example, port: 25}}, probes: [{{name: a, smtp: {{}}, job: {{tolerations: [{}]}}}}]}}",
                list(17, "{key: k#}")
            ),
            "spec.probes[0].job.tolerations: Too many: 17: must have at most 16 items",
        ),
        case(
            Kind::Policy,
            "with 9 failback windows",
            format!("{{failback: {{windows: [{}]}}}}", list(9, "{schedule: '# 2 * * *', duration: 2h}")),
            "spec.failback.windows: Too many: 9: must have at most 8 items",
        ),
        case(
            Kind::Policy,
            "with 17 receivers",
            format!(
                "{{notifications: {{receivers: [{}]}}}}",
                list(17, "{name: r#, type: Slack, secretRef: {name: s}}")
            ),
            "spec.notifications.receivers: Too many: 17: must have at most 16 items",
        ),
        case(
            Kind::Policy,
            "with 9 steps of a ramp",
            format!("{{failback: {{ramp: [{}]}}}}", list(9, "{percent: 1#, for: 5m}")),
            "spec.failback.ramp: Too many: 9: must have at most 8 items",
        ),
    ]
}

fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    for (index, part) in text.split('[').enumerate() {
        if index > 0 {
            result.push('[');
        }
        result.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    }
    result
}

/// The expected messages of all cases, without the numbers of list items: `spec.probes[].name`.
pub fn expectations(kind: Kind) -> Vec<String> {
    cases().iter().filter(|case| case.kind == kind).map(|case| without_numbers(&case.expected)).collect()
}
