//! The API of OVH (`/1.0`), signed with the secret of an application.
//!
//! Each record is changed by itself, and the name servers follow once the zone is refreshed. A look takes a request for the
//! ids of a name's records, and one for each of them.

use std::fmt::Write as _;

use ring::digest;
use serde_json::{Value, json};

use super::by_record::{RecordChange, in_order, record_changes};
use super::presentation::{read_below, written};
use super::secret::{KEY_APPLICATION, OvhKeys};
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, json, relative, ttl, whole};
use crate::plan::SetChange;
use mail_failover_core::model::DnsData;

/// Most records of a name that are looked at.
const MOST: usize = 64;

/// What an answer to a look has.
pub(super) enum Seen {
    /// Ids of records, as requests for them.
    Places(Vec<ApiRequest>),
    /// A record.
    Record(Row),
}

fn zone_path(zone: &ApiZone<'_>) -> String {
    format!("/1.0/domain/zone/{}", zone.zone)
}

pub(super) fn looks(zone: &ApiZone<'_>, names: &[String]) -> Result<Vec<ApiRequest>, ApiError> {
    let records = format!("{}/record", zone_path(zone));
    let looks = names.iter().map(|name| format!("{records}?subDomain={}", relative(name, zone.zone)));
    looks.map(|target| signed(zone, "GET", target, String::new())).collect()
}

pub(super) fn seen(zone: &ApiZone<'_>, body: &[u8]) -> Result<Seen, ApiError> {
    let answer = json(body)?;
    let Some(ids) = answer.as_array() else { return row(zone.zone, &answer).map(Seen::Record) };
    if ids.len() > MOST {
        return Err(ApiError::Malformed("a name has more than 64 records"));
    }
    let mut places = vec![];
    for id in ids {
        let id = id.as_u64().ok_or(ApiError::Malformed("an id that is no number"))?;
        places.push(signed(zone, "GET", format!("{}/record/{id}", zone_path(zone)), String::new())?);
    }
    Ok(Seen::Places(places))
}

fn row(zone: &str, record: &Value) -> Result<Row, ApiError> {
    let (Some(id), Some(record_type), Some(target)) =
        (record["id"].as_u64(), record["fieldType"].as_str(), record["target"].as_str())
    else {
        return Err(ApiError::Malformed("a record without id, fieldType or target"));
    };
    let name = whole(record["subDomain"].as_str().unwrap_or_default(), zone);
    // OVH's control panel gives these TXT records types of its own.
    let record_type = if matches!(record_type, "SPF" | "DKIM" | "DMARC") { "TXT" } else { record_type };
    let ttl = ttl(&record["ttl"]).unwrap_or_default();
    let data = read_below(record_type, target, zone);
    Ok(Row { name, record_type: record_type.to_owned(), ttl, data, id: id.to_string() })
}

pub(super) fn changes(zone: &ApiZone<'_>, changes: &[SetChange], seen: &SeenRows) -> Result<Vec<ApiRequest>, ApiError> {
    let records = format!("{}/record", zone_path(zone));
    let mut requests = vec![];
    for change in in_order(changes, seen) {
        for one in record_changes(change, seen) {
            let (method, target, body) = match one {
                RecordChange::Create(data) => {
                    let mut body = record(zone, change, data)?;
                    body["fieldType"] = change.record_type.as_str().into();
                    ("POST", records.clone(), body.to_string())
                }
                RecordChange::Replace(row, data) => {
                    ("PUT", format!("{records}/{}", row.id), record(zone, change, data)?.to_string())
                }
                RecordChange::Delete(row) => ("DELETE", format!("{records}/{}", row.id), String::new()),
            };
            requests.push(signed(zone, method, target, body)?);
        }
    }
    requests.push(refresh(zone)?);
    Ok(requests)
}

fn record(zone: &ApiZone<'_>, SetChange { name, ttl, .. }: &SetChange, data: &DnsData) -> Result<Value, ApiError> {
    Ok(json!({ "subDomain": relative(name, zone.zone), "ttl": ttl, "target": written(data)? }))
}

/// The request that has the name servers follow.
pub(super) fn refresh(zone: &ApiZone<'_>) -> Result<ApiRequest, ApiError> {
    signed(zone, "POST", format!("{}/refresh", zone_path(zone)), String::new())
}

/// Returns true if a refusal (400) is about the signature or the clock, and not about the records.
pub(super) fn is_about_signature(body: &[u8]) -> bool {
    let code = json(body).ok().and_then(|answer| answer["errorCode"].as_str().map(ToOwned::to_owned));
    matches!(code.as_deref(), Some("INVALID_SIGNATURE" | "QUERY_TIME_OUT"))
}

/// A request with its signature, as OVH has it: a digest (SHA-1) of secrets, method, URL, body and time.
fn signed(zone: &ApiZone<'_>, method: &'static str, target: String, body: String) -> Result<ApiRequest, ApiError> {
    let OvhKeys { application, secret, consumer } = zone.secret.ovh().ok_or(ApiError::NoCredential(KEY_APPLICATION))?;
    let time = zone.now.to_string();
    let text = format!("{secret}+{consumer}+{method}+{}{target}+{body}+{time}", zone.service.url());
    let mut signature = "$1$".to_owned();
    for byte in digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(signature, "{byte:02x}");
    }
    let mut headers = vec![
        ("Accept", "application/json".to_owned()),
        ("X-Ovh-Application", application.clone()),
        ("X-Ovh-Consumer", consumer.clone()),
        ("X-Ovh-Timestamp", time),
        ("X-Ovh-Signature", signature),
    ];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json".to_owned()));
    }
    Ok(ApiRequest { origin: None, method, target, headers, body })
}

#[cfg(test)]
#[path = "ovh_tests.rs"]
mod tests;
