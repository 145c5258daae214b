use super::super::secret::tests::secret;
use super::super::tests::{NOW, answer, body, led, output, sets};
use super::super::{ApiAnswer, DnsApiSecret, SeenRows, Sight};
use super::*;
use mail_failover_core::model::{DnsRecordType, DnsService, OvhEndpoint};

const ZONE: &str = "/1.0/domain/zone/shop.example";

fn keys() -> DnsApiSecret {
    secret(&[("application-key", "ak"), ("application-secret", "as"), ("consumer-key", "ck")])
}

fn mx() -> ApiAnswer {
    let record = json!({"id": 11, "zone": "shop.example", "subDomain": "bounce", "fieldType": "MX", "ttl": 60, "target": "10 mx.a.example."});
    answer(200, &record.to_string())
}

#[test]
fn records_are_looked_at_one_by_one_and_changed_before_the_zone_is_refreshed() {
    let service = DnsService::Ovh(OvhEndpoint::Eu);
    let (looks, changes) = led(&service, &keys(), &[answer(200, "[11]"), mx(), answer(200, "[]")]);
    assert_eq!(looks[2], format!("{ZONE}/record?subDomain=bounce"));
    assert_eq!(looks[3], format!("{ZONE}/record?subDomain="), "the apex");
    let told: Vec<_> = changes.iter().map(|change| format!("{} {}", change.method, change.target)).collect();
    assert_eq!(
        told,
        [
            // Both marks, which are new.
            format!("POST {ZONE}/record"),
            format!("POST {ZONE}/record"),
            format!("POST {ZONE}/record"),
            format!("DELETE {ZONE}/record/11"),
            format!("POST {ZONE}/record"),
            format!("POST {ZONE}/refresh"),
        ]
    );
    let created = json!({"fieldType": "MX", "subDomain": "bounce", "ttl": 60, "target": "10 mx.b.example."});
    assert_eq!(body(&changes[2]), created);
    assert_eq!(body(&changes[4])["subDomain"], "");
}

#[test]
fn ids_lead_to_records_and_a_name_has_a_bounded_number_of_them() {
    let (service, secret) = (DnsService::Ovh(OvhEndpoint::Eu), keys());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let mut seen = SeenRows::default();
    let Ok(Sight::More(places)) = zone.see(&answer(200, "[11, 12]"), &mut seen) else { panic!("no places") };
    let targets: Vec<_> = places.iter().map(|place| place.target.as_str()).collect();
    assert_eq!(targets, [format!("{ZONE}/record/11"), format!("{ZONE}/record/12")]);
    assert_eq!(zone.see(&mx(), &mut seen), Ok(Sight::Part));
    assert_eq!(seen.observed(&sets("a")).unwrap()[0].records.len(), 1);
    let many = json!((0..65).collect::<Vec<_>>()).to_string();
    assert!(matches!(zone.see(&answer(200, &many), &mut seen), Err(ApiError::Malformed(_))));
}

#[test]
fn text_records_of_the_control_panel_are_text_records() {
    let (service, secret) = (DnsService::Ovh(OvhEndpoint::Eu), keys());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let mut seen = SeenRows::default();
    let record = json!({"id": 12, "subDomain": "bounce", "fieldType": "SPF", "ttl": 60, "target": "\"v=spf1 -all\""});
    assert_eq!(zone.see(&answer(200, &record.to_string()), &mut seen), Ok(Sight::Part));
    assert_eq!(seen.of("bounce.shop.example", DnsRecordType::Txt).count(), 1);
}

#[test]
fn a_request_is_signed_by_the_digest_that_ovh_documents() {
    let (service, secret) = (DnsService::Ovh(OvhEndpoint::Eu), keys());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let looks = zone.looks(&sets("a")).unwrap();
    let header = |name: &str| looks[2].headers.iter().find(|(key, _)| *key == name).unwrap().1.as_str();
    assert_eq!((header("X-Ovh-Application"), header("X-Ovh-Consumer")), ("ak", "ck"));
    assert_eq!(header("X-Ovh-Timestamp"), NOW.to_string());
    // By OpenSSL, of "as+ck+GET+https://eu.api.ovh.com/1.0/domain/zone/shop.example/record?subDomain=bounce++1796036400".
    assert_eq!(header("X-Ovh-Signature"), "$1$71c49b6af975fc4586fdb40afb9a04cefda6a26e");
    assert!(!format!("{:?}", looks[2]).contains("ck"));
}

#[test]
fn refusals_are_told_apart() {
    let (service, secret) = (DnsService::Ovh(OvhEndpoint::Ca), keys());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let throttled = ApiAnswer { status: 429, retry_after: Some(5), body: vec![] };
    for (answer, error) in [
        (answer(401, r#"{"class": "Client::Unauthorized"}"#), ApiError::Credentials(401)),
        (answer(403, r#"{"errorCode": "INVALID_CREDENTIAL"}"#), ApiError::Credentials(403)),
        // OVH answers 400 to a wrong secret and to a clock that is off.
        (answer(400, r#"{"errorCode": "QUERY_TIME_OUT"}"#), ApiError::Credentials(400)),
        (answer(400, r#"{"errorCode": "INVALID_SIGNATURE"}"#), ApiError::Credentials(400)),
        // The record is gone.
        (answer(404, r#"{"class": "Client::NotFound"}"#), ApiError::Overtaken),
        (answer(409, r#"{"class": "Client::Conflict"}"#), ApiError::Overtaken),
        (answer(400, r#"{"class": "Client::BadRequest"}"#), ApiError::Records(400)),
        (throttled, ApiError::Throttled { status: 429, retry_after: Some(5) }),
    ] {
        assert_eq!(zone.changed(&answer), Err(error), "{}", answer.status);
    }
    assert_eq!(zone.see(&answer(404, ""), &mut SeenRows::default()), Err(ApiError::NoZone));
    let refresh = zone.publication().unwrap().unwrap();
    assert_eq!((refresh.method, refresh.target.as_str()), ("POST", "/1.0/domain/zone/shop.example/refresh"));
}
