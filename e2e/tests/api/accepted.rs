//! Objects that the API server accepts, and the defaults that it fills in.

use anyhow::{Context, Result, bail};
use kube::api::{Api, PostParams};
use mail_failover_api::{MailRoute, MailRouteStatus};
use mail_failover_e2e::helm::{objects, repository};
use mail_failover_e2e::suite::{Trial, trial};
use serde_json::{Value, json};

use super::object::{Kind, create, object};

/// Kind, name of the case and spec, for "a `SendingBackend` … is accepted".
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
         {name: slow, interval: 24h, timeout: 60s, smtp: {depth: StartTLS}}, \
         {name: elsewhere, interval: 24h, timeout: 5m, smtp: {depth: StartTLS}, job: {}}, \
         {name: overlapping, interval: 500ms, timeout: 5s, smtp: {depth: Banner}}, \
         {name: fractions, interval: 1m1.5s, smtp: {}}]}",
    ),
    (
        Kind::Backend,
        "that says where it is, how much it takes and for whom",
        "{smtp: {host: mx.example, port: 25}, location: {region: eu-west-1, jurisdiction: EU, failureDomain: aws}, \
         limits: {messagesPerSecond: 1, messagesPerDay: 1000000000, connections: 1, messagesPerConnection: 1000000, warmUp: {startedAt: '2026-11-01T00:00:00.5+01:00', schedule: [200, 500, 1000]}}, \
         senderDomains: [{domain: shop.example}, {domain: xn--bcher-kva.Example}]}",
    ),
    (
        Kind::Backend,
        "with rules about replies",
        "{smtp: {host: mx.example, port: 25}, provider: cPanel, replies: [\
         {name: house, about: Quota, words: ['limit of [0-9]+ letters', '(?:spent|used up)$']}, \
         {name: gone, about: Message, stages: [MAIL, RCPT, DATA], codes: [5xx, 450-452], enhancedCodes: [x.7.*, none]}, \
         {name: early, about: OurSide, stages: [CONN, HELO, STARTTLS, AUTH], codes: ['554']}]}",
    ),
    (
        Kind::Backend,
        "with a login over verified TLS",
        "{smtp: {host: mx.example, port: 465, tls: {mode: Implicit}, auth: {secretRef: {name: ses-smtp.eu}}}}",
    ),
    (
        Kind::Backend,
        "with a login under keys of its own",
        "{smtp: {host: mx.example, port: 465, auth: {secretRef: {name: mail, usernameKey: ses_user.1, passwordKey: SES-KEY}}}}",
    ),
    (
        Kind::Backend,
        "with a login that others may read",
        "{service: {name: relay, port: 25, auth: {secretRef: {name: relay}, allowPlaintext: true}}}",
    ),
    (
        Kind::Backend,
        "with deep probes as often as is allowed",
        "{smtp: {host: mx.example, port: 587, tls: {mode: StartTLS}, auth: {secretRef: {name: ses}}}, probes: [\
         {name: login, interval: 30s, smtp: {depth: Auth}}, {name: sender, smtp: {depth: MailFrom, from: probe+1@shop.example}}, \
         {name: recipient, smtp: {depth: RcptTo, from: probe@shop.example, to: sink@inbox.example}}]}",
    ),
    (
        Kind::Backend,
        "in the cluster with a quick probe that logs in",
        "{service: {name: relay, port: 25, auth: {secretRef: {name: relay}, allowPlaintext: true}}, \
         probes: [{name: login, interval: 200ms, timeout: 1s, smtp: {depth: Auth}}]}",
    ),
    (
        Kind::Backend,
        "with idle sessions where somebody wishes them, and without where somebody does not",
        "{smtp: {host: relay.example, port: 25}, probes: [{name: a, smtp: {idleSession: true}}, \
         {name: b, smtp: {depth: Connect, idleSession: false}}, {name: c, smtp: {idleSession: false}, job: {}}]}",
    ),
    (
        Kind::Backend,
        "with a probe that runs as a Job",
        "{smtp: {host: mx.example, port: 25}, probes: [{name: a, smtp: {}, job: {}}, {name: b, interval: 30s, smtp: {}, \
         job: {serviceAccountName: mail-probe, nodeSelector: {topology.kubernetes.io/zone: b}, \
         tolerations: [{key: mail, operator: Equal, value: only, effect: NoExecute, tolerationSeconds: 5}]}}]}",
    ),
    (Kind::Policy, "that says nothing", "{}"),
    (
        Kind::Policy,
        "that says everything",
        "{failure: {consecutive: 3, window: {duration: 1m, minimumSamples: 20, failurePercent: 50}, latency: {percentile: 95, above: 1ms, for: 24h}, \
         immediately: [AuthenticationRefused, AccountPaused, QuotaExhausted, Reputation, Permanent, CertificateInvalid, Unresolvable], \
         deliveries: {consecutive: 1000, lasting: 1h}}, \
         recovery: {consecutive: 1000, stableFor: 0s}, hold: {cooldown: 168h, minimumStay: 0s, budget: {switches: 10, per: 168h}}, \
         whenNoneHealthy: Preferred, failback: {mode: Manual, after: 1h30m, windows: [{schedule: '0 2 * * *', timeZone: Europe/Berlin, duration: 2h}, \
         {schedule: '*/15 0-6,22-23 1 JAN-MAR MON', timeZone: America/Argentina/Buenos_Aires, duration: 168h}, {schedule: '0  3  *  *  5#1', duration: 1m}], \
         ramp: [{percent: 1, for: 1s}, {percent: 99, for: 168h}]}, objectives: {recoveryTime: 30s}, breaker: {consecutive: 1000, firstPause: 1s, longestPause: 1h}}",
    ),
    (
        Kind::Policy,
        "whose lists are empty",
        "{failure: {immediately: [], deliveries: {lasting: 0s}}, failback: {windows: [], ramp: []}, objectives: {}, breaker: {}}",
    ),
    (
        Kind::Route,
        "that says what mail it is",
        "{strategy: ActiveActive, backends: [{name: a, weight: 1000}, {name: b}], traffic: {messagesPerDay: 20000, peakPerSecond: 5}, \
         residency: {jurisdictions: [EU, CH]}, preferredRegions: [eu-west-2, eu-west-1], senderDomains: [shop.example, News.Example], \
         outputs: [{configMap: {name: c, format: Env}}]}",
    ),
    (
        Kind::Route,
        "with every kind of output",
        "{policyRef: {name: default}, strategy: ActivePassive, backends: [{name: a}, {name: b}], messages: {alternates: false}, outputs: [\
         {service: {name: mail, ports: [{name: smtp, port: 25}, {name: submission, port: 587}]}}, \
         {configMap: {name: mail, format: Postfix}}, {configMap: {name: mail.env, format: Env}}, \
         {agent: {configMap: mail-agent}}, {agent: {configMap: mail-agent.2, serviceAccountName: mta}}, \
         {webhook: {name: a, url: 'https://a.example', secretRef: {name: a}}}, \
         {webhook: {name: b, url: 'https://[2001:db8::1]:8443/x?y=z', method: PATCH, secretRef: {name: b.c}, caRef: {secret: ca, key: root.pem}, \
         headers: [{name: Authorization, value: 'Bearer {{ secret.token }}'}], body: '{{ active }}', contentType: application/json; charset=utf-8, \
         timeout: 30s, await: true}}, \
         {webhook: {name: c, url: 'https://a.example', secretRef: {name: a}, body: '{{ active }}', contentType: application/json; domain-model=launchdarkly.semanticpatch;charset=utf-8}}, \
         {dns: {zone: shop.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example, preference: 65535}], \
         rfc2136: {servers: ['[2001:db8::53]:5353', ns1], tsigSecretRef: {name: tsig}}}}, \
         {dns: {zone: shop.example, name: _x.bounce.shop.example, records: [{name: bounce.shop.example, type: AAAA, values: ['{{ backend }}']}], \
         ttl: 24h, timeout: 30s, await: true, rfc2136: {servers: [ns1], authorities: [ns1, ns2], tsigSecretRef: {name: tsig}}}}, \
         {dns: {zone: other.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example}], \
         dnsEndpoint: {name: other.example, labels: {team: mail}, annotations: {a.example/b: c}, onDelete: Remove, authorities: [ns1]}}}]}",
    ),
    (
        Kind::Route,
        "whose records are led by the APIs of providers",
        "{backends: [{name: a}, {name: b}], outputs: [\
         {dns: {zone: g.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example}], api: {google: {project: 'example.com:mail', managedZone: shop-example, url: 'https://dns-mail.p.googleapis.com'}, secretRef: {name: s}}}}, \
         {dns: {zone: z.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example}], api: {azure: {tenantId: 00000000-0000-0000-0000-000000000000, subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: 'mail_(eu).dns', cloud: China}, secretRef: {name: s}}}}, \
         {dns: {zone: h.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example}], api: {hetzner: {}, secretRef: {name: s}}}}, \
         {dns: {zone: o.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example}], api: {ovh: {}, secretRef: {name: s}}}}, \
         {dns: {zone: u.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example}], api: {ovh: {endpoint: US}, secretRef: {name: s}}}}]}",
    ),
];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = CASES
        .iter()
        .map(|(kind, what, spec)| {
            trial(format!("a {} {what} is accepted", kind.name()), async |env| {
                let created = create(&env, *kind, &object(*kind, "accepted", spec)?).await?;
                let created = created.map_err(anyhow::Error::msg)?;
                // Nothing is filled in, pruned or rewritten: GitOps tools compare what they sent with what they get.
                same(&created["spec"], &object(*kind, "accepted", spec)?["spec"])
            })
        })
        .collect();
    trials.push(trial("a SendingBackend with the most and the longest rules about replies is accepted", async |env| {
        let words: Vec<Value> = (0..8).map(|number| json!(format!("{number}{}", "(a|b)".repeat(39)))).collect();
        let rules: Vec<Value> =
            (0..32).map(|number| json!({ "name": format!("r{number}"), "about": "Quota", "words": words })).collect();
        let mut backend = object(Kind::Backend, "most-rules", "{}")?;
        backend["spec"] = json!({ "smtp": { "host": "mx.example", "port": 25 }, "replies": rules });
        // Each regular expression is tried on the empty text; this is the most there can be.
        let created = create(&env, Kind::Backend, &backend).await?.map_err(anyhow::Error::msg)?;
        same(&created["spec"], &backend["spec"])
    }));
    trials.push(trial("a MailRoute with 100 backends, 16 outputs and 8 ports each is accepted", async |env| {
        let backends: Vec<Value> =
            (0..100).map(|number| json!({ "name": format!("{number}-{}", "b".repeat(250)) })).collect();
        let ports: Vec<Value> = (1..=8).map(|port| json!({ "name": format!("port-{port}"), "port": port })).collect();
        let outputs: Vec<Value> =
            (0..16).map(|number| json!({ "service": { "name": format!("s{number}"), "ports": ports } })).collect();
        let mut route = object(Kind::Route, "largest", "{}")?;
        route["spec"] = json!({ "backends": backends, "outputs": outputs });
        // The rules compare every name with every other; these lists have the maximal length.
        let created = create(&env, Kind::Route, &route).await?.map_err(anyhow::Error::msg)?;
        same(&created["spec"], &route["spec"])
    }));
    trials.push(trial("the README's examples are accepted as they stand", async |env| {
        let readme = std::fs::read_to_string(repository("README.md"))?;
        let examples: Vec<_> = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let mut kinds = vec![];
        for mut example in objects(&examples.join("---\n"))? {
            // Each trial has a namespace of its own.
            example["metadata"].as_object_mut().context("metadata")?.remove("namespace");
            let kind =
                [Kind::Backend, Kind::Policy, Kind::Route].into_iter().find(|kind| example["kind"] == kind.name());
            let kind = kind.with_context(|| format!("{example}"))?;
            create(&env, kind, &example).await?.map_err(anyhow::Error::msg).with_context(|| format!("{example}"))?;
            kinds.push(kind.name());
        }
        if kinds != ["SendingBackend", "SendingBackend", "FailoverPolicy", "MailRoute"] {
            bail!("the README shows {kinds:?}");
        }
        Ok(())
    }));
    trials.push(trial("a new object says that nobody has looked at it yet", async |env| {
        let new = [
            (Kind::Backend, "{smtp: {host: mx.example, port: 25}}"),
            (Kind::Policy, "{}"),
            (Kind::Route, "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}"),
        ];
        for (kind, spec) in new {
            let mut object = object(kind, "new", spec)?;
            // A status in a user's manifest is ignored, too.
            object["status"] = json!({ "observedGeneration": 1 });
            let created = create(&env, kind, &object).await?.map_err(anyhow::Error::msg)?;
            same(&created["status"], &json!({ "observedGeneration": -1 })).context(kind.name())?;
            same(&created["metadata"]["generation"], &json!(1)).context(kind.name())?;
        }
        Ok(())
    }));
    trials.push(trial("the status of a route keeps everything that is written there", async |env| {
        let route = object(Kind::Route, "kept", "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}")?;
        let mut created = create(&env, Kind::Route, &route).await?.map_err(anyhow::Error::msg)?;
        let written = json!({
            "observedGeneration": 1, "strategy": "ActiveActive", "state": "FailingBack", "unplacedPercent": 100,
            "active": [{"backend": "a", "percent": 0}, {"backend": "b", "percent": 100, "overflow": true}],
            "ramp": {"to": ["a", "b"], "step": 8, "since": AT},
            "switch": {"to": "a", "until": AT, "forced": true},
            "pause": {"since": AT, "until": AT},
            "approvedAt": AT,
            "request": {"id": "i".repeat(64), "action": "ApproveFailback", "outcome": "Refused", "message": "m".repeat(1024),
                "reason": "r".repeat(256), "digest": "d".repeat(32), "at": AT},
            "objectives": {"at": AT, "window": "2160h", "possibleDuplicates": 3,
                "results": [{"objective": "Availability", "state": "Missed", "target": "99.9%", "measured": "98%", "errorBudgetPercent": -1900}],
                "record": vec![json!({"since": AT, "undeliverableMillis": 1, "accepted": 2, "deferred": 3, "possibleDuplicates": 4}); 40]},
            "earlierRequestIds": vec!["i".repeat(64); 20],
            "explanation": vec!["e".repeat(512); 32],
            "backends": [{"name": "a", "health": "Degraded", "reason": "Slow", "since": AT}],
            "history": vec![json!({"id": 1, "kind": "Failback", "from": "b", "to": "a", "reason": "Recovered", "decidedAt": AT}); 10],
        });
        // The operator's own types lose nothing when they read the object and write it.
        let status: MailRouteStatus = serde_json::from_value(written.clone())?;
        same(&serde_json::to_value(&status)?, &written)?;
        created["status"] = written.clone();
        let routes: Api<MailRoute> = Api::namespaced(env.client(), env.namespace());
        let kept = routes.replace_status("kept", &PostParams::default(), &serde_json::from_value(created)?).await?;
        same(&serde_json::to_value(kept.status)?, &written)
    }));
    trials
}

const AT: &str = "2026-11-01T00:00:00.000001Z";

fn same(actual: &Value, expected: &Value) -> Result<()> {
    if actual != expected {
        bail!("expected {expected}\n     got {actual}");
    }
    Ok(())
}
