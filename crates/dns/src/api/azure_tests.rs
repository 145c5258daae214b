use super::super::secret::tests::secret;
use super::super::tests::{NOW, access_token, answer, body, led, mark, output, sets};
use super::super::{ApiAnswer, DnsApiSecret, SeenRows, Sight};
use super::*;
use mail_failover_core::model::DnsService;

fn service() -> DnsService {
    let (tenant, subscription, resource_group) = ("t1".into(), "s1".into(), "mail".into());
    DnsService::Azure { cloud: AzureCloud::Public, tenant, subscription, resource_group }
}

fn application() -> DnsApiSecret {
    secret(&[("client-id", "c1"), ("client-secret", "hunter2~+/")])
}

const ZONE: &str = "/subscriptions/s1/resourceGroups/mail/providers/Microsoft.Network/dnsZones/shop.example";

/// A record set as the API shows it.
fn shown(name: &str, record_type: &str, properties: &Value) -> ApiAnswer {
    let set = json!({
        "id": format!("{ZONE}/{record_type}/{name}"), "name": name,
        "type": format!("Microsoft.Network/dnszones/{record_type}"), "etag": "a1b2-c3", "properties": properties,
    });
    answer(200, &set.to_string())
}

fn mx() -> ApiAnswer {
    let records = json!([{"preference": 10, "exchange": "mx.a.example."}]);
    shown("bounce", "MX", &json!({"TTL": 60, "fqdn": "bounce.shop.example.", "MXRecords": records}))
}

/// What is said of a record set that is not there.
fn no_set() -> ApiAnswer {
    answer(
        404,
        r#"{"code": "NotFound", "message": "The resource record 'x' does not exist in resource group 'mail'."}"#,
    )
}

#[test]
fn each_set_is_changed_on_the_condition_that_it_is_as_it_was_seen() {
    let (looks, changes) = led(&service(), &application(), &[mx(), no_set()]);
    let query = "?api-version=2018-05-01";
    assert_eq!(
        looks,
        [
            format!("{ZONE}/TXT/_mail-failover-mx.bounce{query}"),
            format!("{ZONE}/TXT/_mail-failover-txt{query}"),
            format!("{ZONE}/CNAME/bounce{query}"),
            format!("{ZONE}/MX/bounce{query}"),
            format!("{ZONE}/CNAME/@{query}"),
            format!("{ZONE}/TXT/@{query}"),
        ]
    );
    let told: Vec<_> = changes.iter().map(|change| format!("{} {}", change.method, change.target)).collect();
    assert_eq!(told[0], format!("PUT {ZONE}/MX/bounce{query}"));
    assert_eq!(told[1], format!("PUT {ZONE}/TXT/_mail-failover-mx.bounce{query}"));
    assert_eq!(told.len(), 4);
    assert!(changes[0].headers.contains(&("If-Match", "a1b2-c3".to_owned())));
    assert!(changes[0].headers.contains(&("Authorization", "Bearer ya29.hunter2".to_owned())));
    assert!(changes[1].headers.contains(&("If-None-Match", "*".to_owned())));
    let records = json!([{"preference": 10, "exchange": "mx.b.example"}]);
    assert_eq!(body(&changes[0]), json!({"properties": {"TTL": 60, "MXRecords": records}}));
    assert_eq!(body(&changes[1]), json!({"properties": {"TTL": 60, "TXTRecords": [{"value": [mark(1)]}]}}));
}

#[test]
fn a_set_without_records_keeps_its_tag_and_an_alias_is_not_taken_for_nothing() {
    let (service, secret, access) = (service(), application(), access_token());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW).with_token(&access);
    let mut seen = SeenRows::default();
    assert_eq!(zone.see(&shown("bounce", "MX", &json!({"TTL": 60, "MXRecords": []})), &mut seen), Ok(Sight::Part));
    assert_eq!(seen.tag("bounce.shop.example", DnsRecordType::Mx), Some("a1b2-c3"));
    assert!(seen.observed(&sets("a")).unwrap()[0].records.is_empty());
    let alias = json!({"TTL": 60, "targetResource": {"id": "/subscriptions/s1/…"}, "ARecords": []});
    zone.see(&shown("em", "A", &alias), &mut seen).unwrap();
    let set = DnsRecordSet { name: "em.shop.example".into(), record_type: DnsRecordType::A, data: vec![] };
    assert!(matches!(seen.observed(&[set]), Err(ApiError::Malformed(_))));
}

#[test]
fn data_of_every_type_is_the_same_after_it_was_written_and_read() {
    let long = "v=spf1 ".to_owned() + &"include:x.example ".repeat(30);
    for (record_type, texts) in [
        (DnsRecordType::A, vec!["192.0.2.1", "192.0.2.2"]),
        (DnsRecordType::Aaaa, vec!["2001:db8::1"]),
        (DnsRecordType::Cname, vec!["u1.esp.example"]),
        (DnsRecordType::Mx, vec!["10 mx.a.example", "20 mx.b.example"]),
        (DnsRecordType::Txt, vec![&*long, "b"]),
    ] {
        let data: Vec<_> = texts.iter().map(|text| DnsData::parse(record_type, text).unwrap()).collect();
        let written = properties(record_type, 60, &data).unwrap();
        let answer = shown("em", record_type.as_str(), &written.into());
        let (tag, rows) = rows("shop.example", &answer.body).unwrap();
        assert_eq!((tag.name.as_str(), tag.record_type.as_str()), ("em.shop.example", record_type.as_str()));
        assert_eq!(rows.into_iter().map(|row| row.data.unwrap()).collect::<Vec<_>>(), data);
    }
}

#[test]
fn a_token_is_asked_with_the_secret_of_the_application() {
    let (service, secret) = (service(), application());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let request = zone.token_request().unwrap().unwrap();
    assert_eq!(request.origin.as_deref(), Some("https://login.microsoftonline.com"));
    assert_eq!((request.method, request.target.as_str()), ("POST", "/t1/oauth2/v2.0/token"));
    assert_eq!(
        request.body,
        "grant_type=client_credentials&client_id=c1&client_secret=hunter2%7E%2B%2F&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
    );
    assert!(!format!("{request:?}").contains("hunter2"));
    let without = secret_of_another_provider();
    assert_eq!(ApiZone::new(&service, &output, &without, NOW).token_key(), Err(ApiError::NoCredential("client-id")));
}

fn secret_of_another_provider() -> DnsApiSecret {
    secret(&[("token", "hunter2")])
}

#[test]
fn refusals_are_told_apart() {
    let (service, secret, access) = (service(), application(), access_token());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW).with_token(&access);
    let throttled = ApiAnswer { status: 429, retry_after: Some(17), body: vec![] };
    for (answer, error) in [
        (answer(401, r#"{"error": {"code": "ExpiredAuthenticationToken"}}"#), ApiError::Credentials(401)),
        (answer(403, r#"{"error": {"code": "AuthorizationFailed"}}"#), ApiError::Credentials(403)),
        (answer(412, r#"{"code": "PreconditionFailed"}"#), ApiError::Overtaken),
        (answer(400, r#"{"code": "BadRequest"}"#), ApiError::Records(400)),
        (throttled, ApiError::Throttled { status: 429, retry_after: Some(17) }),
    ] {
        assert_eq!(zone.changed(&answer), Err(error), "{}", answer.status);
    }
    assert_eq!(zone.changed(&answer(201, "{}")), Ok(None));
    let mut seen = SeenRows::default();
    assert_eq!(zone.see(&no_set(), &mut seen), Ok(Sight::Part));
    for body in [
        r#"{"error": {"code": "ParentResourceNotFound"}}"#,
        r#"{"error": {"code": "ResourceGroupNotFound"}}"#,
        r#"{"error": {"code": "SubscriptionNotFound"}}"#,
        "",
    ] {
        assert_eq!(zone.see(&answer(404, body), &mut seen), Err(ApiError::NoZone), "{body}");
    }
}
