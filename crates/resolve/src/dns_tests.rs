use serde_json::{Value, json};

use super::*;
use mail_failover_core::model::{DnsService, ObjectKey};

fn members() -> Vec<Member> {
    ["ses", "sendgrid"].map(|name| Member { name: name.into(), weight: 1 }).into()
}

fn least() -> Value {
    json!({
        "zone": "Shop.example",
        "name": "bounce.shop.example",
        "mx": [{"backend": "ses", "host": "Feedback.ses.example"}, {"backend": "sendgrid", "host": "mx.sendgrid.example"}],
        "rfc2136": {"servers": ["ns1.shop.example"], "tsigSecretRef": {"name": "tsig"}},
    })
}

fn resolved(json: &Value) -> Result<DnsOutput, Rejection> {
    dns(&serde_json::from_value(json.clone()).unwrap(), &members())
}

/// The record sets that lead to a backend, as text.
fn sets(output: &DnsOutput, backend: &str) -> Vec<String> {
    output.sets_of(backend).unwrap().iter().map(text).collect()
}

fn text(set: &DnsRecordSet) -> String {
    let data: Vec<_> = set.data.iter().map(ToString::to_string).collect();
    format!("{} {} {}", set.name, set.record_type.as_str(), data.join(", "))
}

#[test]
fn a_zone_has_defaults_and_each_backend_its_exchangers() {
    let output = resolved(&least()).unwrap();
    assert_eq!((&*output.zone, &*output.name, output.ttl), ("shop.example", "bounce.shop.example", 60));
    assert_eq!((output.timeout, output.is_awaited), (Duration::from_secs(5), false));
    let DnsProvider::Rfc2136(updates) = &output.provider else { panic!("{:?}", output.provider) };
    assert_eq!(updates.servers[0].to_string(), "ns1.shop.example:53");
    assert_eq!(sets(&output, "ses"), ["bounce.shop.example MX 10 feedback.ses.example"]);
    assert_eq!(sets(&output, "sendgrid"), ["bounce.shop.example MX 10 mx.sendgrid.example"]);
}

#[test]
fn reordered_exchangers_are_those_of_every_backend_by_tens() {
    let mut json = least();
    json["mode"] = "Reorder".into();
    let output = resolved(&json).unwrap();
    assert_eq!(sets(&output, "ses"), ["bounce.shop.example MX 10 feedback.ses.example, 20 mx.sendgrid.example"]);
    assert_eq!(sets(&output, "sendgrid"), ["bounce.shop.example MX 10 mx.sendgrid.example, 20 feedback.ses.example"]);
    json["mx"] = json!([
        {"backend": "ses", "host": "b.ses.example", "preference": 20},
        {"backend": "ses", "host": "a.ses.example", "preference": 5},
        {"backend": "ses", "host": "c.ses.example", "preference": 5},
        {"backend": "sendgrid", "host": "a.ses.example"},
        {"backend": "sendgrid", "host": "mx.sendgrid.example"},
    ]);
    let output = resolved(&json).unwrap();
    assert_eq!(
        sets(&output, "ses"),
        ["bounce.shop.example MX 10 a.ses.example, 10 c.ses.example, 20 b.ses.example, 30 mx.sendgrid.example"]
    );
    assert_eq!(
        sets(&output, "sendgrid"),
        ["bounce.shop.example MX 10 a.ses.example, 10 mx.sendgrid.example, 20 c.ses.example, 30 b.ses.example"]
    );
}

#[test]
fn further_records_are_rendered_for_every_backend() {
    let mut json = least();
    json["records"] = json!([
        {"name": "em.shop.example", "type": "CNAME",
         "values": ["{{ {\"ses\": \"a.ses.example\", \"sendgrid\": \"u1.wl.sendgrid.example.\"}[backend] }}"]},
        {"name": "bounce.shop.example", "type": "TXT", "values": ["v=spf1 include:{{ backend }}.example -all"]},
        {"name": "in.shop.example", "type": "A",
         "values": ["192.0.2.2", "{% if backend == \"ses\" %}192.0.2.1{% endif %}"]},
    ]);
    let output = resolved(&json).unwrap();
    assert_eq!(
        sets(&output, "ses")[1..],
        [
            "em.shop.example CNAME a.ses.example",
            "bounce.shop.example TXT \"v=spf1 include:ses.example -all\"",
            "in.shop.example A 192.0.2.1, 192.0.2.2",
        ]
    );
    assert_eq!(
        sets(&output, "sendgrid")[1..],
        [
            "em.shop.example CNAME u1.wl.sendgrid.example",
            "bounce.shop.example TXT \"v=spf1 include:sendgrid.example -all\"",
            "in.shop.example A 192.0.2.2",
        ]
    );
}

#[test]
fn what_cannot_be_a_record_is_refused_with_its_field() {
    let record =
        |name: &str, record_type: &str, value: &str| json!([{"name": name, "type": record_type, "values": [value]}]);
    for (key, value, wrong) in [
        (
            "name",
            json!("shop.other"),
            "spec.outputs[].dns.name (shop.other): shop.other is neither the zone shop.example",
        ),
        (
            "mx",
            json!([{"backend": "ses", "host": "a.example"}]),
            "spec.outputs[].dns.mx (bounce.shop.example): backend sendgrid has no host",
        ),
        (
            "mx",
            json!([{"backend": "nobody", "host": "a.example"}]),
            "spec.outputs[].dns.mx[].backend (bounce.shop.example): nobody is none of",
        ),
        ("ttl", json!("25h"), "spec.outputs[].dns.ttl (bounce.shop.example): 90000s is not between"),
        (
            "records",
            record("em.other.example", "A", "192.0.2.1"),
            "spec.outputs[].dns.records[].name (bounce.shop.example): em.other.example is neither",
        ),
        (
            "records",
            record("_mail-failover-mx.shop.example", "TXT", "a"),
            "spec.outputs[].dns.records[].name (bounce.shop.example): _mail-failover-mx.shop.example begins as",
        ),
        (
            "records",
            record("em.shop.example", "A", "{{ backend }}"),
            "spec.outputs[].dns.records[em.shop.example A].values (bounce.shop.example): \"ses\", for backend ses: it is no IPv4",
        ),
        (
            "records",
            record("em.shop.example", "A", "{{ {\"ses\": \"192.0.2.1\"}[backend] }}"),
            "spec.outputs[].dns.records[em.shop.example A].values (bounce.shop.example): for backend sendgrid: line 1",
        ),
        (
            "records",
            record("bounce.shop.example", "CNAME", "a.example"),
            "spec.outputs[].dns.records[] (bounce.shop.example): bounce.shop.example has a CNAME",
        ),
        (
            "rfc2136",
            json!({"servers": ["ns1:0"], "tsigSecretRef": {"name": "t"}}),
            "spec.outputs[].dns.rfc2136.servers (bounce.shop.example): ns1:0: use a name",
        ),
    ] {
        let mut json = least();
        json[key] = value;
        let rejection = resolved(&json).unwrap_err();
        assert_eq!(rejection.reason, reason::INVALID_SPEC);
        assert!(rejection.message.starts_with(wrong), "{}", rejection.message);
    }
}

#[test]
fn no_two_outputs_lead_the_same_records() {
    let first = resolved(&least()).unwrap();
    let mut json = least();
    json["name"] = "other.shop.example".into();
    let other = resolved(&json).unwrap();
    assert_eq!(check_disjoint(&[first.clone(), other]), Ok(()));
    assert!(check_disjoint(&[first.clone(), first]).is_err());
}

#[test]
fn external_dns_publishes_the_records_by_an_object() {
    let mut json = least();
    json.as_object_mut().unwrap().remove("rfc2136");
    json["dnsEndpoint"] = json!({"name": "bounce", "labels": {"team": "mail"}, "authorities": ["ns1.shop.example"]});
    let output = resolved(&json).unwrap();
    let DnsProvider::ExternalDns(object) = &output.provider else { panic!("{:?}", output.provider) };
    assert_eq!((&*object.name, object.labels["team"].as_str(), object.goes_with_route), ("bounce", "mail", false));
    assert_eq!(output.authorities[0].to_string(), "ns1.shop.example:53");
    json["dnsEndpoint"]["onDelete"] = "Remove".into();
    let removed = resolved(&json).unwrap();
    assert!(matches!(&removed.provider, DnsProvider::ExternalDns(object) if object.goes_with_route));
    assert!(check_disjoint(&[removed.clone(), DnsOutput { name: "b".into(), backends: vec![], ..removed }]).is_err());

    json["dnsEndpoint"]["labels"] = json!({"app.kubernetes.io/managed-by": "me"});
    let rejection = resolved(&json).unwrap_err();
    assert!(rejection.message.contains("dnsEndpoint.labels (bounce.shop.example)"), "{}", rejection.message);
    json["dnsEndpoint"] = json!({"name": "bounce"});
    json["rfc2136"] = least()["rfc2136"].clone();
    assert!(resolved(&json).unwrap_err().message.contains("exactly one of rfc2136, dnsEndpoint and api"));
}

#[test]
fn the_api_of_one_provider_publishes_the_records() {
    let mut json = least();
    json.as_object_mut().unwrap().remove("rfc2136");
    json["api"] = json!({"powerDns": {"url": "https://pdns.example"}, "secretRef": {"name": "pdns"},
        "caRef": {"configMap": "ca"}, "authorities": ["ns1.shop.example"]});
    let output = resolved(&json).unwrap();
    let DnsProvider::Api(api) = &output.provider else { panic!("{:?}", output.provider) };
    let service = DnsService::PowerDns { url: "https://pdns.example".into(), server: "localhost".into() };
    assert_eq!((&api.service, &*api.secret, output.authorities.len()), (&service, "pdns", 1));
    let ca = super::super::dns_ca_key(&ObjectKey::new("shop", "orders"), &output).unwrap();
    assert_eq!((ca.object, &*ca.data_key), (ObjectKey::new("shop", "ca"), "ca.crt"));
    for (key, value, url) in [
        ("route53", json!({"zoneId": "Z1"}), "https://route53.amazonaws.com"),
        ("cloudflare", json!({"zoneId": "z1"}), "https://api.cloudflare.com"),
        ("digitalOcean", json!({}), "https://api.digitalocean.com"),
        ("deSec", json!({}), "https://desec.io"),
        ("hetzner", json!({}), "https://api.hetzner.cloud"),
        ("google", json!({"project": "mail", "managedZone": "shop"}), "https://dns.googleapis.com"),
        (
            "google",
            json!({"project": "mail", "managedZone": "shop", "url": "https://dns-mail.p.googleapis.com"}),
            "https://dns-mail.p.googleapis.com",
        ),
        (
            "azure",
            json!({"tenantId": "t", "subscriptionId": "s", "resourceGroup": "mail"}),
            "https://management.azure.com",
        ),
        (
            "azure",
            json!({"tenantId": "t", "subscriptionId": "s", "resourceGroup": "mail", "cloud": "UsGovernment"}),
            "https://management.usgovcloudapi.net",
        ),
        (
            "azure",
            json!({"tenantId": "t", "subscriptionId": "s", "resourceGroup": "mail", "cloud": "China"}),
            "https://management.chinacloudapi.cn",
        ),
        ("ovh", json!({}), "https://eu.api.ovh.com"),
        ("ovh", json!({"endpoint": "CA"}), "https://ca.api.ovh.com"),
        ("ovh", json!({"endpoint": "US"}), "https://api.us.ovhcloud.com"),
    ] {
        json["api"] = json!({"secretRef": {"name": "s"}});
        json["api"][key] = value;
        let output = resolved(&json).unwrap();
        let DnsProvider::Api(api) = &output.provider else { panic!("{:?}", output.provider) };
        assert_eq!(api.service.url(), url);
        json["api"]["powerDns"] = json!({"url": "https://pdns.example"});
        assert!(resolved(&json).unwrap_err().message.contains("exactly one of powerDns"), "{key}");
    }
    json["api"] = json!({"secretRef": {"name": "s"}, "route53": {"zoneId": "Z1", "url": "http://route53.example"}});
    assert!(resolved(&json).unwrap_err().message.contains("must begin with https://"));
}
