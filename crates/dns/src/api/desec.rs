//! The API of `deSEC` (`/api/v1`).
//!
//! A PATCH of the record sets changes several in one transaction. It knows no condition.

use serde_json::json;

use super::presentation::{read, written};
use super::{ApiError, ApiRequest, ApiZone, Row, bare, json, json_request, relative};
use crate::plan::SetChange;

fn token(zone: &ApiZone<'_>) -> Result<(&'static str, String), ApiError> {
    Ok(("Authorization", format!("Token {}", zone.token()?)))
}

pub(super) fn looks(zone: &ApiZone<'_>, names: &[String]) -> Result<Vec<ApiRequest>, ApiError> {
    let token = token(zone)?;
    let looks =
        names.iter().map(|name| format!("/api/v1/domains/{}/rrsets/?subname={}", zone.zone, relative(name, zone.zone)));
    Ok(looks.map(|target| json_request("GET", target, token.clone(), String::new())).collect())
}

pub(super) fn rows(body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let answer = json(body)?;
    let sets = answer.as_array().ok_or(ApiError::Malformed("it is no list of sets"))?;
    let mut rows = vec![];
    for set in sets {
        let (Some(name), Some(record_type)) = (set["name"].as_str(), set["type"].as_str()) else {
            return Err(ApiError::Malformed("a set without name or type"));
        };
        let ttl = set["ttl"].as_u64().and_then(|ttl| u32::try_from(ttl).ok()).ok_or(ApiError::Malformed("no ttl"))?;
        for content in set["records"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str) {
            let data = read(record_type, content);
            rows.push(Row { name: bare(name), record_type: record_type.to_owned(), ttl, data, id: String::new() });
        }
    }
    Ok(rows)
}

pub(super) fn changes(zone: &ApiZone<'_>, changes: &[SetChange]) -> Result<Vec<ApiRequest>, ApiError> {
    let mut sets = vec![];
    for SetChange { name, record_type, ttl, data } in changes {
        let records = data.iter().map(written).collect::<Result<Vec<_>, _>>()?;
        // A set without records is one that is to go.
        sets.push(json!({ "subname": relative(name, zone.zone), "type": record_type.as_str(), "ttl": ttl, "records": records }));
    }
    let target = format!("/api/v1/domains/{}/rrsets/", zone.zone);
    Ok(vec![json_request("PATCH", target, token(zone)?, json!(sets).to_string())])
}
