use super::super::secret::tests::{parsed, secret};
use super::super::tests::{NOW, access_token, answer, body, led, mark, output, sets};
use super::super::{ApiAnswer, DnsApiSecret, SeenRows};
use super::*;
use mail_failover_core::model::DnsService;

/// The private key of RFC 7515, appendix A.2, which signs nothing but examples.
const EXAMPLE_KEY: &str = include_str!("../../testdata/rfc7515-a2.pem");

/// A key file as Google makes it.
fn key_file() -> Value {
    json!({
        "type": "service_account", "project_id": "mail", "private_key_id": "k1", "private_key": EXAMPLE_KEY,
        "client_email": "dns@mail.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
}

fn account() -> DnsApiSecret {
    secret(&[("service-account.json", &key_file().to_string())])
}

fn service() -> DnsService {
    DnsService::Google { project: "mail".into(), zone: "shop-example".into(), url: None }
}

const MX: &str = r#"{"kind": "dns#resourceRecordSetsListResponse", "rrsets": [
    {"kind": "dns#resourceRecordSet", "name": "bounce.shop.example.", "type": "MX", "ttl": 300, "signatureRrdatas": [],
     "rrdatas": ["10 mx.a.example."]}]}"#;

#[test]
fn what_was_seen_is_deleted_to_the_letter_so_that_a_late_change_is_refused() {
    let text = r#"{"rrsets": [{"name": "shop.example.", "type": "TXT", "ttl": 60, "rrdatas": ["v=spf1\u0020include:a.example\u0020-all"]}]}"#;
    let nothing = answer(200, r#"{"kind": "dns#resourceRecordSetsListResponse"}"#);
    let (looks, changes) = led(&service(), &account(), &[answer(200, MX), nothing, answer(200, text)]);
    let zone = "/dns/v1/projects/mail/managedZones/shop-example";
    assert_eq!(looks[2], format!("{zone}/rrsets?name=bounce.shop.example."));
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.method, &change.target), ("POST", &format!("{zone}/changes")));
    assert!(change.headers.contains(&("Authorization", "Bearer ya29.hunter2".to_owned())));
    assert!(!format!("{change:?}").contains("hunter2"));
    let body = body(change);
    let deletions = json!([
        {"name": "bounce.shop.example.", "type": "MX", "ttl": 300, "rrdatas": ["10 mx.a.example."]},
        // Without quotation marks, as it was read.
        {"name": "shop.example.", "type": "TXT", "ttl": 60, "rrdatas": ["v=spf1 include:a.example -all"]},
    ]);
    assert_eq!(body["deletions"], deletions);
    let additions = body["additions"].as_array().unwrap();
    let created = json!({"name": "bounce.shop.example.", "type": "MX", "ttl": 60, "rrdatas": ["10 mx.b.example."]});
    assert_eq!((&additions[0], additions.len()), (&created, 4));
    assert_eq!(additions[1]["rrdatas"][0], format!("\"{}\"", mark(1)));
}

#[test]
fn a_set_with_a_routing_policy_is_not_taken_for_nothing() {
    let (service, secret, access) = (service(), account(), access_token());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW).with_token(&access);
    let policy =
        r#"{"rrsets": [{"name": "bounce.shop.example.", "type": "MX", "ttl": 60, "routingPolicy": {"wrr": {}}}]}"#;
    let mut seen = SeenRows::default();
    zone.see(&answer(200, policy), &mut seen).unwrap();
    assert!(matches!(seen.observed(&sets("a")), Err(ApiError::Malformed(_))));
}

#[test]
fn a_signature_is_that_of_the_example_of_rfc_7515() {
    let secret = account();
    let text = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    assert_eq!(secret.service_account().unwrap().signature(text).unwrap(), signature);
}

#[test]
fn a_token_is_asked_with_an_assertion_of_the_service_account() {
    let (service, secret) = (service(), account());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW);
    let request = zone.token_request().unwrap().unwrap();
    assert_eq!(request.origin.as_deref(), Some("https://oauth2.googleapis.com"));
    assert_eq!((request.method, request.target.as_str()), ("POST", "/token"));
    assert!(request.headers.contains(&("Content-Type", "application/x-www-form-urlencoded".to_owned())));
    let form: Vec<_> = form_urlencoded::parse(request.body.as_bytes()).into_owned().collect();
    assert_eq!(form[0], ("grant_type".into(), "urn:ietf:params:oauth:grant-type:jwt-bearer".into()));
    let (name, assertion) = &form[1];
    assert_eq!((name.as_str(), form.len()), ("assertion", 2));
    let parts: Vec<_> = assertion.split('.').collect();
    let part = |index: usize| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(parts[index]).unwrap()).unwrap();
    assert_eq!(part(0), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let claims = json!({
        "iss": "dns@mail.iam.gserviceaccount.com", "scope": "https://www.googleapis.com/auth/ndev.clouddns.readwrite",
        "aud": "https://oauth2.googleapis.com/token", "iat": NOW, "exp": NOW + 3600,
    });
    assert_eq!(part(1), claims);
    let signed = assertion.rsplit_once('.').unwrap();
    assert_eq!(secret.service_account().unwrap().signature(signed.0).unwrap(), signed.1);
    // A token is not asked for again under another time, and is another one for another account.
    let key = zone.token_key().unwrap();
    assert_eq!(ApiZone::new(&service, &output, &secret, NOW + 1).token_key().unwrap(), key);
    let mut other = key_file();
    other["client_email"] = "other@mail.iam.gserviceaccount.com".into();
    let other = super::super::secret::tests::secret(&[("service-account.json", &other.to_string())]);
    assert_ne!(ApiZone::new(&service, &output, &other, NOW).token_key().unwrap(), key);
    // Without it nothing is sent.
    assert_eq!(zone.looks(&sets("a")), Err(ApiError::NoToken));
}

#[test]
fn refusals_are_told_apart() {
    let (service, secret, access) = (service(), account(), access_token());
    let output = output(&service);
    let zone = ApiZone::new(&service, &output, &secret, NOW).with_token(&access);
    let reason = |reason: &str| json!({"error": {"code": 403, "errors": [{"reason": reason}]}}).to_string();
    let throttled = ApiAnswer { status: 429, retry_after: Some(30), body: vec![] };
    for (answer, error) in [
        (answer(401, ""), ApiError::Credentials(401)),
        (answer(403, &reason("forbidden")), ApiError::Credentials(403)),
        (answer(403, &reason("rateLimitExceeded")), ApiError::Throttled { status: 403, retry_after: None }),
        (answer(403, &reason("quotaExceeded")), ApiError::Throttled { status: 403, retry_after: None }),
        (throttled, ApiError::Throttled { status: 429, retry_after: Some(30) }),
        // What is to be deleted is not there any more, is another one, or what is to be added is there.
        (answer(404, ""), ApiError::Overtaken),
        (answer(412, ""), ApiError::Overtaken),
        (answer(409, ""), ApiError::Overtaken),
        (answer(400, ""), ApiError::Records(400)),
        (answer(502, ""), ApiError::Status(502)),
    ] {
        assert_eq!(zone.changed(&answer), Err(error), "{}", answer.status);
    }
    assert_eq!(zone.changed(&answer(200, r#"{"status": "pending"}"#)), Ok(None));
    assert_eq!(zone.see(&answer(404, ""), &mut SeenRows::default()), Err(ApiError::NoZone));
}

#[test]
fn a_key_file_that_is_none_is_told_of_without_a_word_of_it() {
    for (field, value, told) in [
        ("type", json!("authorized_user"), "its type is not service_account"),
        ("client_email", Value::Null, "it has no client_email"),
        ("private_key_id", Value::Null, "it has no private_key_id"),
        ("private_key", Value::Null, "it has no private_key"),
        ("private_key", json!("hunter2"), "its private_key is no PEM of PKCS #8"),
        (
            "private_key",
            json!("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"),
            "its private_key is no usable RSA key",
        ),
        ("token_uri", json!("http://oauth2.googleapis.com/token"), "its token_uri does not begin with https://"),
        ("token_uri", json!("https://oauth2.googleapis.com"), "its token_uri is no place"),
        ("token_uri", json!("https://hunter2@oauth2.googleapis.com/token"), "its token_uri is no place"),
    ] {
        let mut file = key_file();
        file[field] = value;
        let error = parsed(&[("service-account.json", &file.to_string())]).unwrap_err();
        assert_eq!(error, DnsApiSecretError::ServiceAccount(told));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = parsed(&[("service-account.json", "hunter2")]).unwrap_err();
    assert_eq!(error, DnsApiSecretError::ServiceAccount("it is no JSON"));
}
