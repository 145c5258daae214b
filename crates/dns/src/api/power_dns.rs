//! The API of a `PowerDNS` Authoritative Server (`/api/v1`).
//!
//! A PATCH of a zone replaces several record sets in one transaction. It knows no condition.

use serde_json::{Value, json};

use super::presentation::{read, written};
use super::{ApiError, ApiRequest, ApiZone, Row, bare, json, json_request};
use crate::plan::SetChange;

fn target(zone: &ApiZone<'_>, url: &str, server: &str) -> String {
    // The path of the URL stays: the API may lie behind a proxy.
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap_or_default();
    format!("{}/api/v1/servers/{server}/zones/{}.", path.trim_end_matches('/'), zone.zone)
}

pub(super) fn looks(
    zone: &ApiZone<'_>,
    url: &str,
    server: &str,
    names: &[String],
) -> Result<Vec<ApiRequest>, ApiError> {
    let key = ("X-API-Key", zone.token()?.to_owned());
    let target = target(zone, url, server);
    let looks = names.iter().map(|name| format!("{target}?rrsets=true&rrset_name={name}."));
    Ok(looks.map(|target| json_request("GET", target, key.clone(), String::new())).collect())
}

/// The records of an answer, and true if it has the whole zone: versions before 4.8 know no `rrset_name`.
pub(super) fn rows(body: &[u8]) -> Result<(Vec<Row>, bool), ApiError> {
    let answer = json(body)?;
    let sets = answer["rrsets"].as_array().ok_or(ApiError::Malformed("it has no rrsets"))?;
    let mut rows = vec![];
    let (mut names, mut has_soa) = (std::collections::BTreeSet::new(), false);
    for set in sets {
        let (Some(name), Some(record_type)) = (set["name"].as_str(), set["type"].as_str()) else {
            return Err(ApiError::Malformed("a set without name or type"));
        };
        let ttl = set["ttl"].as_u64().and_then(|ttl| u32::try_from(ttl).ok()).ok_or(ApiError::Malformed("no ttl"))?;
        has_soa |= record_type == "SOA";
        names.insert(name);
        for record in set["records"].as_array().into_iter().flatten() {
            if record["disabled"] == Value::Bool(true) {
                continue;
            }
            let content = record["content"].as_str().ok_or(ApiError::Malformed("a record without content"))?;
            let data = read(record_type, content);
            rows.push(Row { name: bare(name), record_type: record_type.to_owned(), ttl, data, id: String::new() });
        }
    }
    Ok((rows, has_soa && names.len() > 1))
}

pub(super) fn changes(
    zone: &ApiZone<'_>,
    url: &str,
    server: &str,
    changes: &[SetChange],
) -> Result<Vec<ApiRequest>, ApiError> {
    let mut sets = vec![];
    for SetChange { name, record_type, ttl, data } in changes {
        let mut records = vec![];
        for one in data {
            records.push(json!({ "content": written(one)?, "disabled": false }));
        }
        let change = if records.is_empty() { "DELETE" } else { "REPLACE" };
        sets.push(json!({ "name": format!("{name}."), "type": record_type.as_str(), "ttl": ttl,
            "changetype": change, "records": records }));
    }
    let key = ("X-API-Key", zone.token()?.to_owned());
    let body = json!({ "rrsets": sets }).to_string();
    Ok(vec![json_request("PATCH", target(zone, url, server), key, body)])
}
