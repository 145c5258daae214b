//! The API of `DigitalOcean` (`/v2`). Each record is changed by itself.

use serde_json::{Value, json};

use super::by_record::{RecordChange, in_order, record_changes};
use super::presentation::led;
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, bearer, json, json_request, relative_or_at, ttl, whole};
use crate::plan::SetChange;
use mail_failover_core::model::{DnsData, DnsRecordType};

pub(super) fn looks(zone: &ApiZone<'_>, names: &[String]) -> Result<Vec<ApiRequest>, ApiError> {
    let token = bearer(zone.token()?);
    let looks = names.iter().map(|name| format!("/v2/domains/{}/records?name={name}&per_page=200", zone.zone));
    Ok(looks.map(|target| json_request("GET", target, token.clone(), String::new())).collect())
}

pub(super) fn rows(zone: &str, body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let answer = json(body)?;
    let records = answer["domain_records"].as_array().ok_or(ApiError::Malformed("it has no domain_records"))?;
    records.iter().map(|record| row(zone, record)).collect()
}

fn row(zone: &str, record: &Value) -> Result<Row, ApiError> {
    let (Some(id), Some(name), Some(record_type)) =
        (record["id"].as_u64(), record["name"].as_str(), record["type"].as_str())
    else {
        return Err(ApiError::Malformed("a record without id, name or type"));
    };
    let content = record["data"].as_str().unwrap_or_default();
    let ttl = ttl(&record["ttl"]).unwrap_or_default();
    let data = match led(record_type) {
        Some(DnsRecordType::Mx) => {
            let text = format!("{} {}", record["priority"].as_u64().unwrap_or_default(), host(content, zone));
            DnsData::parse(DnsRecordType::Mx, &text).ok()
        }
        Some(DnsRecordType::Txt) => Some(DnsData::Txt(content.into())),
        Some(DnsRecordType::Cname) => DnsData::parse(DnsRecordType::Cname, &host(content, zone)).ok(),
        Some(other) => DnsData::parse(other, content).ok(),
        None => None,
    };
    Ok(Row { name: whole(name, zone), record_type: record_type.to_owned(), ttl, data, id: id.to_string() })
}

/// A host as it is shown: `@` for the zone.
fn host(content: &str, zone: &str) -> String {
    if content == "@" { zone.to_owned() } else { content.to_owned() }
}

pub(super) fn changes(zone: &ApiZone<'_>, changes: &[SetChange], seen: &SeenRows) -> Result<Vec<ApiRequest>, ApiError> {
    let token = bearer(zone.token()?);
    let target = format!("/v2/domains/{}/records", zone.zone);
    let mut requests = vec![];
    for change in in_order(changes, seen) {
        for one in record_changes(change, seen) {
            let (method, target, body) = match one {
                RecordChange::Create(data) => ("POST", target.clone(), post(zone, change, data)?),
                RecordChange::Replace(row, data) => ("PUT", format!("{target}/{}", row.id), post(zone, change, data)?),
                RecordChange::Delete(row) => ("DELETE", format!("{target}/{}", row.id), String::new()),
            };
            requests.push(json_request(method, target, token.clone(), body));
        }
    }
    Ok(requests)
}

fn post(zone: &ApiZone<'_>, change: &SetChange, data: &DnsData) -> Result<String, ApiError> {
    let SetChange { name, record_type, ttl, data: _ } = change;
    let mut record = json!({ "type": record_type.as_str(), "name": relative_or_at(name, zone.zone), "ttl": ttl });
    match data {
        DnsData::Mx(preference, host) => {
            record["data"] = format!("{host}.").into();
            record["priority"] = (*preference).into();
        }
        DnsData::Cname(target) => record["data"] = format!("{target}.").into(),
        DnsData::Txt(text) if !text.is_ascii() => return Err(ApiError::NotAscii(text.to_string())),
        DnsData::Txt(text) => record["data"] = (**text).into(),
        DnsData::A(_) | DnsData::Aaaa(_) => record["data"] = data.to_string().into(),
    }
    Ok(record.to_string())
}
