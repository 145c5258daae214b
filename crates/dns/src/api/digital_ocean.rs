//! The API of `DigitalOcean` (`/v2`).
//!
//! Each record is changed by itself. New ones come before old ones go, and the mark comes last: whoever stops in between
//! leaves a zone that the next look puts right.

use serde_json::{Value, json};

use super::presentation::led;
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, bearer, json, json_request, relative};
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
    let ttl = record["ttl"].as_u64().and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or_default();
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
    let name = if name == "@" { zone.to_owned() } else { format!("{}.{zone}", name.to_ascii_lowercase()) };
    Ok(Row { name, record_type: record_type.to_owned(), ttl, data, id: id.to_string() })
}

/// A host as it is shown: `@` for the zone.
fn host(content: &str, zone: &str) -> String {
    if content == "@" { zone.to_owned() } else { content.to_owned() }
}

pub(super) fn changes(zone: &ApiZone<'_>, changes: &[SetChange], seen: &SeenRows) -> Result<Vec<ApiRequest>, ApiError> {
    let token = bearer(zone.token()?);
    let target = format!("/v2/domains/{}/records", zone.zone);
    let mut requests = vec![];
    for SetChange { name, record_type, ttl, data } in changes {
        let kept: Vec<_> = seen
            .of(name, *record_type)
            .filter(|row| row.ttl == *ttl && row.data.as_ref().is_some_and(|present| data.contains(present)))
            .collect();
        let gone = seen.of(name, *record_type).filter(|row| !kept.contains(row));
        let mut new = data.iter().filter(|one| !kept.iter().any(|row| row.data.as_ref() == Some(one)));
        // A name with a CNAME has nothing else, so that the one that is there is changed.
        if *record_type == DnsRecordType::Cname {
            for row in gone {
                requests.push(match new.next() {
                    Some(one) => {
                        let body = post(zone, name, *record_type, *ttl, one)?;
                        json_request("PUT", format!("{target}/{}", row.id), token.clone(), body)
                    }
                    None => json_request("DELETE", format!("{target}/{}", row.id), token.clone(), String::new()),
                });
            }
            for one in new {
                requests.push(json_request(
                    "POST",
                    target.clone(),
                    token.clone(),
                    post(zone, name, *record_type, *ttl, one)?,
                ));
            }
            continue;
        }
        for one in new {
            requests.push(json_request(
                "POST",
                target.clone(),
                token.clone(),
                post(zone, name, *record_type, *ttl, one)?,
            ));
        }
        for row in gone {
            requests.push(json_request("DELETE", format!("{target}/{}", row.id), token.clone(), String::new()));
        }
    }
    Ok(requests)
}

fn post(
    zone: &ApiZone<'_>,
    name: &str,
    record_type: DnsRecordType,
    ttl: u32,
    data: &DnsData,
) -> Result<String, ApiError> {
    let relative = Some(relative(name, zone.zone)).filter(|name| !name.is_empty()).unwrap_or("@");
    let mut record = json!({ "type": record_type.as_str(), "name": relative, "ttl": ttl });
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
