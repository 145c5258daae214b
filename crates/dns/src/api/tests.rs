use super::secret::tests::secret;
use super::*;
use crate::mark::{Mark, Owner};
use crate::plan::{Plan, plan};
use mail_failover_core::model::{DnsApi, DnsBackendRecords, DnsProvider, ObjectKey};
use std::time::Duration;

pub(super) const NOW: u64 = 1_796_036_400;

pub(super) fn sets(backend: &str) -> Vec<DnsRecordSet> {
    let mx = DnsData::Mx(10, format!("mx.{backend}.example").into());
    let spf = DnsData::Txt(format!("v=spf1 include:{backend}.example -all").into());
    vec![
        DnsRecordSet { name: "bounce.shop.example".into(), record_type: DnsRecordType::Mx, data: vec![mx] },
        DnsRecordSet { name: "shop.example".into(), record_type: DnsRecordType::Txt, data: vec![spf] },
    ]
}

pub(super) fn output(service: &DnsService) -> DnsOutput {
    let backends = ["a", "b"].map(|backend| DnsBackendRecords { backend: backend.into(), sets: sets(backend) });
    let api = DnsApi { service: service.clone(), secret: "api".into(), ca: None };
    DnsOutput {
        zone: "shop.example".into(),
        name: "bounce.shop.example".into(),
        backends: backends.into(),
        ttl: 60,
        provider: DnsProvider::Api(api),
        authorities: vec![],
        timeout: Duration::from_secs(5),
        is_awaited: false,
    }
}

fn owner() -> Owner {
    Owner { operator: "eu".into(), route: ObjectKey::new("shop", "orders") }
}

pub(super) fn token() -> DnsApiSecret {
    secret(&[("token", "hunter2")])
}

pub(super) fn answer(status: u16, body: &str) -> ApiAnswer {
    ApiAnswer { status, retry_after: None, body: body.as_bytes().to_vec() }
}

/// A token as a provider gives it.
pub(super) fn access_token() -> AccessToken {
    token::given(&answer(200, r#"{"access_token": "ya29.hunter2", "expires_in": 3599, "token_type": "Bearer"}"#), NOW)
        .unwrap()
}

pub(super) fn mark(sequence: u64) -> String {
    Mark { owner: owner(), sequence }.to_string()
}

/// The targets of the looks, and the changes that lead to backend b after these answers.
pub(super) fn led(
    service: &DnsService,
    secret: &DnsApiSecret,
    answers: &[ApiAnswer],
) -> (Vec<String>, Vec<ApiRequest>) {
    let output = output(service);
    let access = access_token();
    let zone = ApiZone::new(service, &output, secret, NOW).with_token(&access);
    let looks = zone.looks(&sets("b")).unwrap().into_iter().map(|look| look.target).collect();
    let mut seen = SeenRows::default();
    for answer in answers {
        zone.see(answer, &mut seen).unwrap();
    }
    let observed = seen.observed(&sets("b")).unwrap();
    let changes = match plan(&output, "b", &owner(), &observed).unwrap() {
        Plan::Write(update) => zone.changes(update.changes(), &seen).unwrap(),
        Plan::InPlace => vec![],
        Plan::Conflict(conflicts) => panic!("{conflicts:?}"),
    };
    (looks, changes)
}

pub(super) fn body(request: &ApiRequest) -> serde_json::Value {
    serde_json::from_str(&request.body).unwrap()
}

const POWER_DNS: &str = r#"{"name": "shop.example.", "rrsets": [
    {"name": "shop.example.", "type": "SOA", "ttl": 60, "records": [{"content": "ns1. h. 1 2 3 4 5", "disabled": false}]},
    {"name": "shop.example.", "type": "TXT", "ttl": 60, "records": [{"content": "\"v=spf1 include:a.example -all\"", "disabled": false}]},
    {"name": "bounce.shop.example.", "type": "MX", "ttl": 60, "records": [
        {"content": "10 mx.a.example.", "disabled": false}, {"content": "99 mx.old.example.", "disabled": true}]}]}"#;

fn power_dns() -> DnsService {
    DnsService::PowerDns { url: "http://pdns.example:8081/proxied/".into(), server: "localhost".into() }
}

#[test]
fn power_dns_replaces_sets_and_marks_in_one_transaction() {
    let (looks, changes) = led(&power_dns(), &token(), &[answer(200, POWER_DNS)]);
    let zone = "/proxied/api/v1/servers/localhost/zones/shop.example.";
    assert_eq!(looks.len(), 4);
    assert_eq!(looks[0], format!("{zone}?rrsets=true&rrset_name=_mail-failover-mx.bounce.shop.example."));
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.method, change.target.as_str()), ("PATCH", zone));
    assert!(change.headers.contains(&("X-API-Key", "hunter2".to_owned())));
    assert!(!format!("{change:?}").contains("hunter2"));
    let body = body(change);
    let sets = body["rrsets"].as_array().unwrap();
    assert_eq!(sets[0]["name"], "bounce.shop.example.");
    assert_eq!(sets[0]["records"][0]["content"], "10 mx.b.example.");
    assert_eq!((&sets[0]["changetype"], &sets[0]["ttl"]), (&"REPLACE".into(), &60.into()));
    assert_eq!(sets[1]["name"], "_mail-failover-mx.bounce.shop.example.");
    assert_eq!(sets[1]["records"][0]["content"], format!("\"{}\"", mark(1)));
    assert_eq!(sets.len(), 4);
    let zone = output(&power_dns());
    let whole = ApiZone::new(&DnsService::DeSec, &zone, &token(), NOW).see(&answer(404, ""), &mut SeenRows::default());
    assert_eq!(whole, Ok(Sight::Part), "deSEC says so of a name without records");
    let secret = token();
    let service = power_dns();
    let zone = ApiZone::new(&service, &zone, &secret, NOW);
    assert_eq!(zone.see(&answer(200, POWER_DNS), &mut SeenRows::default()), Ok(Sight::Whole), "the whole zone");
}

#[test]
fn desec_replaces_sets_in_one_transaction() {
    let mx = r#"[{"name": "bounce.shop.example.", "type": "MX", "ttl": 60, "records": ["10 mx.a.example."]}]"#;
    let (looks, changes) = led(&DnsService::DeSec, &token(), &[answer(200, mx), answer(200, "[]"), answer(404, "")]);
    assert_eq!(looks[3], "/api/v1/domains/shop.example/rrsets/?subname=", "the apex");
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.method, change.target.as_str()), ("PATCH", "/api/v1/domains/shop.example/rrsets/"));
    assert!(change.headers.contains(&("Authorization", "Token hunter2".to_owned())));
    let body = body(change);
    assert_eq!(
        body[0],
        serde_json::json!({"subname": "bounce", "type": "MX", "ttl": 60, "records": ["10 mx.b.example."]})
    );
    assert_eq!((&body[2]["subname"], &body[2]["type"]), (&"".into(), &"TXT".into()));
}

#[test]
fn cloudflare_replaces_records_by_their_ids_in_one_batch() {
    let mx = r#"{"result": [{"id": "m1", "name": "bounce.shop.example", "type": "MX", "content": "mx.a.example", "priority": 10, "ttl": 60}]}"#;
    let mark = format!(
        r#"{{"result": [{{"id": "t1", "name": "_mail-failover-mx.bounce.shop.example", "type": "TXT", "content": "\"{}\"", "ttl": 60}}]}}"#,
        mark(7)
    );
    let service = DnsService::Cloudflare { zone_id: "z1".into() };
    let (looks, changes) = led(&service, &token(), &[answer(200, mx), answer(200, &mark)]);
    assert_eq!(looks[2], "/client/v4/zones/z1/dns_records?name.exact=bounce.shop.example&per_page=100");
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.method, change.target.as_str()), ("POST", "/client/v4/zones/z1/dns_records/batch"));
    let body = body(change);
    assert_eq!(body["deletes"], serde_json::json!([{"id": "m1"}, {"id": "t1"}]));
    let post = serde_json::json!({"name": "bounce.shop.example", "type": "MX", "ttl": 60, "content": "mx.b.example", "priority": 10});
    assert_eq!(body["posts"][0], post);
    assert!(body["posts"][1]["content"].as_str().unwrap().contains("mail-failover/sequence=8"));
    let zone = output(&service);
    let secret = token();
    let zone = ApiZone::new(&service, &zone, &secret, NOW);
    assert_eq!(zone.changed(&answer(404, "")), Err(ApiError::Overtaken), "a record that is gone");
}

#[test]
fn digital_ocean_adds_before_it_removes() {
    let mx = r#"{"domain_records": [{"id": 5, "type": "MX", "name": "bounce", "data": "mx.a.example", "priority": 10, "ttl": 60}]}"#;
    let (looks, changes) = led(&DnsService::DigitalOcean, &token(), &[answer(200, mx)]);
    assert_eq!(looks[3], "/v2/domains/shop.example/records?name=shop.example&per_page=200");
    let told: Vec<_> = changes.iter().map(|change| format!("{} {}", change.method, change.target)).collect();
    assert_eq!(
        told,
        [
            // Both marks, which are new.
            "POST /v2/domains/shop.example/records",
            "POST /v2/domains/shop.example/records",
            "POST /v2/domains/shop.example/records",
            "DELETE /v2/domains/shop.example/records/5",
            "POST /v2/domains/shop.example/records",
        ]
    );
    let post = serde_json::json!({"type": "MX", "name": "bounce", "ttl": 60, "data": "mx.b.example.", "priority": 10});
    assert_eq!(body(&changes[2]), post);
    assert_eq!(body(&changes[4])["name"], "@");
}

fn route53() -> (DnsService, DnsApiSecret) {
    let service = DnsService::Route53 { zone_id: "Z123".into(), url: None };
    (service, secret(&[("access-key-id", "AKIA"), ("secret-access-key", "hunter2"), ("session-token", "session")]))
}

#[test]
fn route_53_deletes_what_was_seen_so_that_a_late_change_is_refused() {
    let (service, secret) = route53();
    let mx = "<ListResourceRecordSetsResponse><ResourceRecordSets><ResourceRecordSet><Name>bounce.shop.example.</Name><Type>MX</Type><TTL>300</TTL><ResourceRecords><ResourceRecord><Value>10 mx.a.example</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></ResourceRecordSets></ListResourceRecordSetsResponse>";
    let (looks, changes) = led(&service, &secret, &[answer(200, mx)]);
    assert_eq!(looks[2], "/2013-04-01/hostedzone/Z123/rrset?maxitems=20&name=bounce.shop.example.");
    let [change] = &changes[..] else { panic!("{changes:?}") };
    let deleted = "<Action>DELETE</Action><ResourceRecordSet><Name>bounce.shop.example.</Name><Type>MX</Type><TTL>300</TTL><ResourceRecords><ResourceRecord><Value>10 mx.a.example.</Value>";
    let created = "<Action>CREATE</Action><ResourceRecordSet><Name>bounce.shop.example.</Name><Type>MX</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>10 mx.b.example.</Value>";
    assert!(change.body.contains(deleted) && change.body.contains(created), "{}", change.body);
    assert_eq!(change.body.matches("<Action>DELETE").count(), 1);
    assert_eq!(change.body.matches("<Action>CREATE").count(), 4);
    let header = |name: &str| change.headers.iter().find(|(key, _)| *key == name).unwrap().1.clone();
    assert_eq!(
        (header("x-amz-security-token"), header("x-amz-date")),
        ("session".to_owned(), "20261130T110000Z".to_owned())
    );
    let authorization = header("authorization");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIA/20261130/us-east-1/route53/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature="), "{authorization}");
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let refused = "<ErrorResponse><Error><Code>InvalidChangeBatch</Code><Message>Tried to delete resource record set but the values provided do not match the current values</Message></Error></ErrorResponse>";
    assert_eq!(zone.changed(&answer(400, refused)), Err(ApiError::Overtaken));
    assert_eq!(zone.changed(&answer(400, "<ErrorResponse/>")), Err(ApiError::Records(400)));
    let unsigned = token();
    let zone = ApiZone::new(&service, &output, &unsigned, NOW);
    assert_eq!(zone.looks(&sets("a")), Err(ApiError::NoCredential("access-key-id")));
}

#[test]
fn a_set_that_an_alias_of_aws_stands_for_is_not_taken_for_nothing() {
    let (service, secret) = route53();
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let alias = "<R><ResourceRecordSet><Name>bounce.shop.example.</Name><Type>MX</Type><AliasTarget><DNSName>a.</DNSName></AliasTarget></ResourceRecordSet></R>";
    let mut seen = SeenRows::default();
    zone.see(&answer(200, alias), &mut seen).unwrap();
    assert!(matches!(seen.observed(&sets("a")), Err(ApiError::Malformed(_))));
}

#[test]
fn refusals_are_told_apart_and_nothing_of_an_answer_is_quoted() {
    let service = power_dns();
    let (output, secret) = (output(&service), token());
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let throttled = ApiAnswer { status: 429, retry_after: Some(30), body: vec![] };
    for (answer, error) in [
        (answer(401, "hunter2"), ApiError::Credentials(401)),
        (answer(404, "hunter2"), ApiError::NoZone),
        (answer(422, "hunter2"), ApiError::Records(422)),
        (answer(500, "hunter2"), ApiError::Status(500)),
        (throttled, ApiError::Throttled { status: 429, retry_after: Some(30) }),
    ] {
        assert_eq!(zone.changed(&answer), Err(error.clone()));
        assert!(!error.to_string().contains("hunter2"));
    }
    assert_eq!(zone.see(&answer(200, "<html>"), &mut SeenRows::default()), Err(ApiError::Malformed("it is no JSON")));
    assert_eq!(ApiError::Throttled { status: 429, retry_after: Some(30) }.retry_after(), Some(30));
}

#[test]
fn a_token_is_given_for_a_while_and_shown_nowhere() {
    let token = access_token();
    assert_eq!((token.as_str(), token.expires_at()), ("ya29.hunter2", NOW + 3599));
    assert!(token.is_usable(NOW + 3400) && !token.is_usable(NOW + 3500), "not up to its end");
    assert!(!format!("{token:?}").contains("hunter2"));
    let throttled = ApiAnswer { status: 429, retry_after: Some(3), body: vec![] };
    for (answer, error) in [
        (answer(400, r#"{"error": "invalid_grant", "error_description": "hunter2"}"#), ApiError::Credentials(400)),
        (answer(401, r#"{"error": "invalid_client"}"#), ApiError::Credentials(401)),
        (throttled, ApiError::Throttled { status: 429, retry_after: Some(3) }),
        (answer(500, ""), ApiError::Status(500)),
        (answer(200, r#"{"expires_in": 3599}"#), ApiError::Malformed("it has no access_token")),
        (
            answer(200, r#"{"access_token": "a b", "expires_in": 3599}"#),
            ApiError::Malformed("its access_token is none for a header"),
        ),
        (answer(200, r#"{"access_token": "a"}"#), ApiError::Malformed("it has no expires_in")),
    ] {
        assert_eq!(token::given(&answer, NOW), Err(error), "{}", answer.status);
    }
}
