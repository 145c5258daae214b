//! The API of Azure DNS (2018-05-01), with tokens for an application (OAuth 2.0, RFC 6749 §4.4).
//!
//! Each record set is changed by itself, on the condition that its entity tag is the one that was seen, or that there is
//! none. So a late write of an old leader is refused.

use serde_json::{Map, Value, json};

use super::presentation::led;
use super::secret::{ClientSecret, KEY_CLIENT_ID};
use super::token::{TokenKey, request};
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, SetTag, json, json_request, relative_or_at, ttl, whole};
use crate::mark::mark_name;
use crate::plan::SetChange;
use mail_failover_core::model::{AzureCloud, DnsData, DnsRecordSet, DnsRecordType};

const VERSION: &str = "2018-05-01";
/// Longest string in a TXT record, in bytes (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

fn client<'a>(zone: &ApiZone<'a>) -> Result<&'a ClientSecret, ApiError> {
    zone.secret.client().ok_or(ApiError::NoCredential(KEY_CLIENT_ID))
}

pub(super) fn token_key(zone: &ApiZone<'_>, cloud: AzureCloud, tenant: &str) -> Result<TokenKey, ApiError> {
    let ClientSecret { id, secret } = client(zone)?;
    let parts: [&[u8]; 5] =
        [b"azure", cloud.login_url().as_bytes(), tenant.as_bytes(), id.as_bytes(), secret.as_bytes()];
    Ok(TokenKey::of(&parts))
}

pub(super) fn token_request(zone: &ApiZone<'_>, cloud: AzureCloud, tenant: &str) -> Result<ApiRequest, ApiError> {
    let ClientSecret { id, secret } = client(zone)?;
    let scope = format!("{}/.default", cloud.url());
    let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret), ("scope", &*scope)];
    Ok(request(cloud.login_url().to_owned(), format!("/{tenant}/oauth2/v2.0/token"), &form))
}

/// Path and query of a record set.
fn place(
    zone: &ApiZone<'_>,
    subscription: &str,
    resource_group: &str,
    name: &str,
    record_type: DnsRecordType,
) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.Network/dnsZones/{}/{}/{}?api-version={VERSION}",
        zone.zone,
        record_type.as_str(),
        relative_or_at(name, zone.zone)
    )
}

pub(super) fn looks(
    zone: &ApiZone<'_>,
    subscription: &str,
    resource_group: &str,
    sets: &[DnsRecordSet],
) -> Result<Vec<ApiRequest>, ApiError> {
    let mut places = vec![];
    for set in sets {
        places.extend([
            (set.name.to_string(), set.record_type),
            (set.name.to_string(), DnsRecordType::Cname),
            (mark_name(&set.name, set.record_type), DnsRecordType::Txt),
        ]);
    }
    places.sort();
    places.dedup();
    let mut looks = vec![];
    for (name, record_type) in places {
        let target = place(zone, subscription, resource_group, &name, record_type);
        looks.push(json_request("GET", target, zone.access_header()?, String::new()));
    }
    Ok(looks)
}

/// Returns true if a 404 says that there is no such record set, and not that the zone is missing.
pub(super) fn is_without_set(body: &[u8]) -> bool {
    let Ok(answer) = json(body) else { return false };
    [&answer["code"], &answer["error"]["code"]].into_iter().any(|code| code == "NotFound")
}

/// The tag and the records of a set.
pub(super) fn rows(zone: &str, body: &[u8]) -> Result<(SetTag, Vec<Row>), ApiError> {
    let answer = json(body)?;
    let (Some(name), Some(kind), Some(tag)) =
        (answer["name"].as_str(), answer["type"].as_str(), answer["etag"].as_str())
    else {
        return Err(ApiError::Malformed("a set without name, type or etag"));
    };
    if tag.is_empty() || !tag.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::Malformed("an etag that is none for a header"));
    }
    let record_type = kind.rsplit('/').next().unwrap_or_default();
    let (name, record_type) = (whole(name, zone), record_type.to_owned());
    let properties = &answer["properties"];
    let ttl = ttl(&properties["TTL"]).ok_or(ApiError::Malformed("no TTL"))?;
    let mut found = vec![];
    // An alias of Azure has no records of its own.
    let is_alias = properties["targetResource"]["id"].is_string();
    match led(&record_type).filter(|_| !is_alias) {
        Some(DnsRecordType::Cname) => {
            found.extend(properties["CNAMERecord"]["cname"].as_str().map(|host| data(DnsRecordType::Cname, host)));
        }
        Some(led @ (DnsRecordType::A | DnsRecordType::Aaaa | DnsRecordType::Mx | DnsRecordType::Txt)) => {
            let records = properties[format!("{record_type}Records")].as_array();
            found.extend(records.into_iter().flatten().map(|record| record_data(led, record)));
        }
        None => found.push(None),
    }
    let row = |data| Row { name: name.clone(), record_type: record_type.clone(), ttl, data, id: String::new() };
    let rows = found.into_iter().map(row).collect();
    Ok((SetTag { name, record_type, tag: tag.to_owned() }, rows))
}

fn data(record_type: DnsRecordType, text: &str) -> Option<DnsData> {
    DnsData::parse(record_type, text).ok()
}

fn record_data(record_type: DnsRecordType, record: &Value) -> Option<DnsData> {
    match record_type {
        DnsRecordType::A => data(record_type, record["ipv4Address"].as_str()?),
        DnsRecordType::Aaaa => data(record_type, record["ipv6Address"].as_str()?),
        DnsRecordType::Cname => data(record_type, record["cname"].as_str()?),
        DnsRecordType::Mx => {
            let (preference, host) = (record["preference"].as_u64()?, record["exchange"].as_str()?);
            data(record_type, &format!("{preference} {host}"))
        }
        DnsRecordType::Txt => {
            let strings = record["value"].as_array()?.iter().filter_map(Value::as_str);
            Some(DnsData::Txt(strings.collect::<String>().into()))
        }
    }
}

pub(super) fn changes(
    zone: &ApiZone<'_>,
    subscription: &str,
    resource_group: &str,
    changes: &[SetChange],
    seen: &SeenRows,
) -> Result<Vec<ApiRequest>, ApiError> {
    let mut requests = vec![];
    for SetChange { name, record_type, ttl, data } in changes {
        let condition = match (seen.tag(name, *record_type), data.is_empty()) {
            (None, true) => continue,
            (None, false) => ("If-None-Match", "*".to_owned()),
            (Some(tag), _) => ("If-Match", tag.to_owned()),
        };
        let target = place(zone, subscription, resource_group, name, *record_type);
        let (method, body) = if data.is_empty() {
            ("DELETE", String::new())
        } else {
            ("PUT", json!({ "properties": properties(*record_type, *ttl, data)? }).to_string())
        };
        let mut request = json_request(method, target, zone.access_header()?, body);
        request.headers.push(condition);
        requests.push(request);
    }
    Ok(requests)
}

fn properties(record_type: DnsRecordType, ttl: u32, data: &[DnsData]) -> Result<Map<String, Value>, ApiError> {
    let mut properties = Map::from_iter([("TTL".to_owned(), ttl.into())]);
    let mut records = vec![];
    for one in data {
        records.push(match one {
            DnsData::A(address) => json!({ "ipv4Address": address.to_string() }),
            DnsData::Aaaa(address) => json!({ "ipv6Address": address.to_string() }),
            DnsData::Cname(target) => json!({ "cname": target }),
            DnsData::Mx(preference, host) => json!({ "preference": preference, "exchange": host }),
            DnsData::Txt(text) if !text.is_ascii() => return Err(ApiError::NotAscii(text.to_string())),
            DnsData::Txt(text) => {
                let strings: Vec<_> = text.as_bytes().chunks(MAX_STRING).map(String::from_utf8_lossy).collect();
                json!({ "value": strings })
            }
        });
    }
    if record_type == DnsRecordType::Cname {
        properties.insert("CNAMERecord".to_owned(), records.into_iter().next().unwrap_or_default());
    } else {
        properties.insert(format!("{}Records", record_type.as_str()), records.into());
    }
    Ok(properties)
}

#[cfg(test)]
#[path = "azure_tests.rs"]
mod tests;
