//! What the API server accepts, and what it fills in.

use anyhow::{Context, Result, bail};
use mail_failover_e2e::suite::{Trial, trial};
use serde_json::{Value, json};

use super::object::{Kind, create, object};

/// (kind, what, spec): "a `SendingBackend` … is accepted".
const CASES: &[(Kind, &str, &str)] = &[
    (
        Kind::Backend,
        "by host name",
        "{smtp: {host: email-smtp.eu-west-1.amazonaws.com, port: 587, tls: {mode: StartTLS}}}",
    ),
    (Kind::Backend, "by IPv4 address", "{smtp: {host: 192.0.2.7, port: 25}}"),
    (Kind::Backend, "by IPv6 address", "{smtp: {host: '2001:db8::7', port: 25}}"),
    (Kind::Backend, "whose host name looks like a number and a word", "{smtp: {host: 1and1.example, port: 25}}"),
    (Kind::Backend, "by a Service's named port", "{service: {name: relay, port: smtp}}"),
    (Kind::Backend, "by a Service's numbered port", "{service: {name: relay, port: 25}}"),
    (
        Kind::Backend,
        "with a private authority",
        "{smtp: {host: mx.example, port: 465, tls: {mode: Implicit, serverName: mail.example, caRef: {secret: ca, key: root.pem}}}}",
    ),
    (
        Kind::Backend,
        "with probes at both ends of what is allowed",
        "{service: {name: relay, port: 25, tls: {mode: Opportunistic}}, suspended: true, probes: [\
         {name: fast, interval: 100ms, timeout: 50ms, smtp: {depth: Connect}}, \
         {name: slow, interval: 24h, timeout: 5m, smtp: {depth: StartTLS}}, \
         {name: overlapping, interval: 500ms, timeout: 5s, smtp: {depth: Banner}}, \
         {name: fractions, interval: 1m1.5s, smtp: {}}]}",
    ),
    (Kind::Policy, "that says nothing", "{}"),
    (
        Kind::Policy,
        "that says everything",
        "{failure: {consecutive: 3}, recovery: {consecutive: 1000}, hold: {cooldown: 168h, minimumStay: 0s}, \
         whenNoneHealthy: Preferred, failback: {mode: Manual, after: 1h30m}}",
    ),
    (
        Kind::Route,
        "with every kind of output",
        "{policyRef: {name: default}, strategy: ActivePassive, backends: [{name: a}, {name: b}], outputs: [\
         {service: {name: mail, ports: [{name: smtp, port: 25}, {name: submission, port: 587}]}}, \
         {configMap: {name: mail, format: Postfix}}, {configMap: {name: mail.env, format: Env}}]}",
    ),
];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = CASES
        .iter()
        .map(|(kind, what, spec)| {
            trial(format!("a {} {what} is accepted", kind.name()), async |stage| {
                let created = create(&stage, *kind, &object(*kind, "accepted", spec)?).await?;
                let created = created.map_err(anyhow::Error::msg)?;
                // Nothing is filled in, pruned or rewritten: GitOps tools compare what they sent with what they get.
                same(&created["spec"], &object(*kind, "accepted", spec)?["spec"])
            })
        })
        .collect();
    trials.push(trial("a MailRoute with 100 backends, 16 outputs and 8 ports each is accepted", async |stage| {
        let backends: Vec<Value> =
            (0..100).map(|number| json!({ "name": format!("{number}-{}", "b".repeat(250)) })).collect();
        let ports: Vec<Value> = (1..=8).map(|port| json!({ "name": format!("port-{port}"), "port": port })).collect();
        let outputs: Vec<Value> =
            (0..16).map(|number| json!({ "service": { "name": format!("s{number}"), "ports": ports } })).collect();
        let mut route = object(Kind::Route, "largest", "{}")?;
        route["spec"] = json!({ "backends": backends, "outputs": outputs });
        // The rules compare every name with every other; this is the most they have to.
        let created = create(&stage, Kind::Route, &route).await?.map_err(anyhow::Error::msg)?;
        same(&created["spec"], &route["spec"])
    }));
    trials.push(trial("a new object says that nobody has looked at it yet", async |stage| {
        let new = [
            (Kind::Backend, "{smtp: {host: mx.example, port: 25}}"),
            (Kind::Policy, "{}"),
            (Kind::Route, "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}"),
        ];
        for (kind, spec) in new {
            let mut object = object(kind, "new", spec)?;
            // A status that a user writes along is no news either.
            object["status"] = json!({ "observedGeneration": 1 });
            let created = create(&stage, kind, &object).await?.map_err(anyhow::Error::msg)?;
            same(&created["status"], &json!({ "observedGeneration": -1 })).context(kind.name())?;
            same(&created["metadata"]["generation"], &json!(1)).context(kind.name())?;
        }
        Ok(())
    }));
    trials
}

fn same(actual: &Value, expected: &Value) -> Result<()> {
    if actual != expected {
        bail!("expected {expected}\n     got {actual}");
    }
    Ok(())
}
