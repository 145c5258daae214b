//! The API of Cloudflare (`/client/v4`).
//!
//! A batch deletes and creates records in one transaction. A record that is gone by then makes it fail, so that a change
//! since the look is noticed where records were replaced.

use serde_json::{Value, json};

use super::presentation::{led, quoted, unquoted};
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, bare, bearer, json, json_request};
use crate::plan::SetChange;
use mail_failover_core::model::{DnsData, DnsRecordType};

pub(super) fn looks(zone: &ApiZone<'_>, zone_id: &str, names: &[String]) -> Result<Vec<ApiRequest>, ApiError> {
    let token = bearer(zone.token()?);
    let looks =
        names.iter().map(|name| format!("/client/v4/zones/{zone_id}/dns_records?name.exact={name}&per_page=100"));
    Ok(looks.map(|target| json_request("GET", target, token.clone(), String::new())).collect())
}

pub(super) fn rows(body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let answer = json(body)?;
    let records = answer["result"].as_array().ok_or(ApiError::Malformed("it has no result"))?;
    records.iter().map(row).collect()
}

fn row(record: &Value) -> Result<Row, ApiError> {
    let (Some(id), Some(name), Some(record_type)) =
        (record["id"].as_str(), record["name"].as_str(), record["type"].as_str())
    else {
        return Err(ApiError::Malformed("a record without id, name or type"));
    };
    let content = record["content"].as_str().unwrap_or_default();
    let ttl = record["ttl"].as_u64().and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or_default();
    let data = match led(record_type) {
        Some(DnsRecordType::Mx) => {
            let text = format!("{} {content}", record["priority"].as_u64().unwrap_or_default());
            DnsData::parse(DnsRecordType::Mx, &text).ok()
        }
        Some(DnsRecordType::Txt) => unquoted(content).map(|text| DnsData::Txt(text.into())),
        Some(other) => DnsData::parse(other, content).ok(),
        None => None,
    };
    Ok(Row { name: bare(name), record_type: record_type.to_owned(), ttl, data, id: id.to_owned() })
}

pub(super) fn changes(
    zone: &ApiZone<'_>,
    zone_id: &str,
    changes: &[SetChange],
    seen: &SeenRows,
) -> Result<Vec<ApiRequest>, ApiError> {
    let (mut deletes, mut posts) = (vec![], vec![]);
    for SetChange { name, record_type, ttl, data } in changes {
        deletes.extend(seen.of(name, *record_type).map(|row| json!({ "id": row.id })));
        for one in data {
            let mut post = json!({ "name": name, "type": record_type.as_str(), "ttl": ttl });
            match one {
                DnsData::Mx(preference, host) => {
                    post["content"] = (**host).into();
                    post["priority"] = (*preference).into();
                }
                DnsData::Txt(text) => post["content"] = quoted(text)?.into(),
                DnsData::A(_) | DnsData::Aaaa(_) | DnsData::Cname(_) => {
                    post["content"] = one.to_string().into();
                    // Its proxy takes no mail.
                    post["proxied"] = false.into();
                }
            }
            posts.push(post);
        }
    }
    let target = format!("/client/v4/zones/{zone_id}/dns_records/batch");
    let body = json!({ "deletes": deletes, "posts": posts }).to_string();
    Ok(vec![json_request("POST", target, bearer(zone.token()?), body)])
}
