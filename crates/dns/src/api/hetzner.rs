//! The zones of Hetzner's Cloud API (`/v1`).
//!
//! A record set is created, or all of its records are replaced, by one request. A set that is to be new must not be there;
//! else there is no condition. Changes are carried out a moment after the answer, and an action says so.

use serde_json::{Value, json};

use super::presentation::{read_below, written};
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, bearer, json, json_request, relative_or_at, ttl, whole};
use crate::plan::SetChange;

fn sets(zone: &ApiZone<'_>) -> String {
    format!("/v1/zones/{}/rrsets", zone.zone)
}

pub(super) fn looks(zone: &ApiZone<'_>, names: &[String]) -> Result<Vec<ApiRequest>, ApiError> {
    let (token, sets) = (bearer(zone.token()?), sets(zone));
    let looks = names.iter().map(|name| format!("{sets}?name={}&per_page=50", relative_or_at(name, zone.zone)));
    Ok(looks.map(|target| json_request("GET", target, token.clone(), String::new())).collect())
}

pub(super) fn rows(zone: &str, body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let answer = json(body)?;
    let sets = answer["rrsets"].as_array().ok_or(ApiError::Malformed("it has no rrsets"))?;
    let mut rows = vec![];
    for set in sets {
        let (Some(name), Some(record_type)) = (set["name"].as_str(), set["type"].as_str()) else {
            return Err(ApiError::Malformed("a set without name or type"));
        };
        // Without a TTL of its own it has the zone's, which is as good as another one.
        let ttl = ttl(&set["ttl"]).unwrap_or_default();
        for record in set["records"].as_array().into_iter().flatten() {
            let value = record["value"].as_str().ok_or(ApiError::Malformed("a record without value"))?;
            let data = read_below(record_type, value, zone);
            let record_type = record_type.to_owned();
            rows.push(Row { name: whole(name, zone), record_type, ttl, data, id: String::new() });
        }
    }
    Ok(rows)
}

pub(super) fn changes(zone: &ApiZone<'_>, changes: &[SetChange], seen: &SeenRows) -> Result<Vec<ApiRequest>, ApiError> {
    let (token, sets) = (bearer(zone.token()?), sets(zone));
    let mut requests = vec![];
    let mut push = |method, target: String, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        requests.push(json_request(method, target, token.clone(), body));
    };
    for SetChange { name, record_type, ttl, data } in changes {
        let mut records = vec![];
        for one in data {
            records.push(json!({ "value": written(one)? }));
        }
        let (relative, type_name) = (relative_or_at(name, zone.zone), record_type.as_str());
        let set = format!("{sets}/{relative}/{type_name}");
        let present: Vec<_> = seen.of(name, *record_type).collect();
        match (present.is_empty(), records.is_empty()) {
            (true, true) => {}
            (true, false) => {
                let body = json!({ "name": relative, "type": type_name, "ttl": ttl, "records": records });
                push("POST", sets.clone(), body);
            }
            (false, true) => push("DELETE", set, Value::Null),
            (false, false) => {
                push("POST", format!("{set}/actions/set_records"), json!({ "records": records }));
                if present.iter().any(|row| row.ttl != *ttl) {
                    push("POST", format!("{set}/actions/change_ttl"), json!({ "ttl": ttl }));
                }
            }
        }
    }
    Ok(requests)
}

/// The request that asks again after the action of an answer; `None` once it is over.
pub(super) fn still_running(zone: &ApiZone<'_>, body: &[u8]) -> Result<Option<ApiRequest>, ApiError> {
    let answer = json(body)?;
    let action = &answer["action"];
    match (action["status"].as_str(), action["id"].as_u64()) {
        (Some("success"), _) => Ok(None),
        (Some("running"), Some(id)) => {
            let target = format!("/v1/actions/{id}");
            Ok(Some(json_request("GET", target, bearer(zone.token()?), String::new())))
        }
        (Some("error"), _) => Err(ApiError::NotCarriedOut),
        (_, _) => Err(ApiError::Malformed("it has no action")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, body, led, mark, output, token};
    use super::super::{ApiAnswer, SeenRows, Sight};
    use super::*;
    use mail_failover_core::model::DnsService;

    const MX: &str = r#"{"rrsets": [{"id": "bounce/MX", "name": "bounce", "type": "MX", "ttl": 300, "labels": {},
        "protection": {"change": false}, "records": [{"value": "10 mx.a.example.", "comment": ""}], "zone": 42}],
        "meta": {"pagination": {"page": 1, "per_page": 50, "last_page": 1, "total_entries": 1}}}"#;

    #[test]
    fn sets_are_replaced_or_created_each_before_its_mark() {
        let (looks, changes) = led(&DnsService::Hetzner, &token(), &[answer(200, MX)]);
        let sets = "/v1/zones/shop.example/rrsets";
        assert_eq!(looks[0], format!("{sets}?name=_mail-failover-mx.bounce&per_page=50"));
        assert_eq!(looks[3], format!("{sets}?name=@&per_page=50"));
        let told: Vec<_> = changes.iter().map(|change| format!("{} {}", change.method, change.target)).collect();
        assert_eq!(
            told,
            [
                format!("POST {sets}/bounce/MX/actions/set_records"),
                format!("POST {sets}/bounce/MX/actions/change_ttl"),
                format!("POST {sets}"),
                format!("POST {sets}"),
                format!("POST {sets}"),
            ]
        );
        assert!(changes[0].headers.contains(&("Authorization", "Bearer hunter2".to_owned())));
        assert_eq!(body(&changes[0]), json!({"records": [{"value": "10 mx.b.example."}]}));
        assert_eq!(body(&changes[1]), json!({"ttl": 60}));
        let quoted = format!("\"{}\"", mark(1));
        let created =
            json!({"name": "_mail-failover-mx.bounce", "type": "TXT", "ttl": 60, "records": [{"value": quoted}]});
        assert_eq!(body(&changes[2]), created);
        assert_eq!(body(&changes[3])["name"], "@");
    }

    #[test]
    fn a_host_without_a_dot_lies_below_the_zone() {
        let rows = rows("shop.example", MX.replace("mx.a.example.", "mx").as_bytes()).unwrap();
        assert_eq!(rows[0].data.as_ref().unwrap().to_string(), "10 mx.shop.example");
        assert_eq!((rows[0].name.as_str(), rows[0].ttl), ("bounce.shop.example", 300));
    }

    #[test]
    fn an_action_is_followed_to_its_end_and_refusals_are_told_apart() {
        let (service, secret) = (DnsService::Hetzner, token());
        let output = output(&service);
        let zone = ApiZone::new(&service, &output, &secret, 0);
        let running = answer(201, r#"{"rrset": {}, "action": {"id": 7, "status": "running", "progress": 80}}"#);
        let again = zone.changed(&running).unwrap().unwrap();
        assert_eq!((again.method, again.target.as_str()), ("GET", "/v1/actions/7"));
        assert_eq!(zone.changed(&answer(200, r#"{"action": {"id": 7, "status": "success"}}"#)), Ok(None));
        let throttled = ApiAnswer { status: 429, retry_after: Some(9), body: vec![] };
        for (answer, error) in [
            (answer(200, r#"{"action": {"id": 7, "status": "error"}}"#), ApiError::NotCarriedOut),
            (answer(200, "{}"), ApiError::Malformed("it has no action")),
            (answer(401, r#"{"error": {"code": "unauthorized"}}"#), ApiError::Credentials(401)),
            (answer(403, r#"{"error": {"code": "forbidden"}}"#), ApiError::Credentials(403)),
            // It was created, or deleted, since.
            (answer(409, r#"{"error": {"code": "uniqueness_error"}}"#), ApiError::Overtaken),
            (answer(404, r#"{"error": {"code": "not_found"}}"#), ApiError::Overtaken),
            (answer(422, r#"{"error": {"code": "invalid_input"}}"#), ApiError::Records(422)),
            (answer(423, r#"{"error": {"code": "locked"}}"#), ApiError::Locked),
            (throttled, ApiError::Throttled { status: 429, retry_after: Some(9) }),
        ] {
            assert_eq!(zone.changed(&answer), Err(error), "{}", answer.status);
        }
        let mut seen = SeenRows::default();
        assert_eq!(zone.see(&answer(404, ""), &mut seen), Err(ApiError::NoZone));
        assert_eq!(zone.see(&answer(200, MX), &mut seen), Ok(Sight::Part));
    }
}
