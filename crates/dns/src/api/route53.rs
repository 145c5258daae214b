//! The API of Amazon Route 53 (`2013-04-01`), signed by Signature Version 4.
//!
//! A batch of changes is one transaction, and the deletion of a record set fails unless it is exactly as it is said to be.
//! So each set is deleted as it was seen and created anew: a late write of an old leader is refused, as it is by the
//! conditions of RFC 2136.

use std::fmt::Write as _;

use ring::{digest, hmac};
use roxmltree::{Document, Node};

use super::presentation::{read, written};
use super::secret::{AccessKey, KEY_ACCESS_ID};
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, bare};
use crate::plan::SetChange;

const VERSION: &str = "2013-04-01";
/// Region that Route 53, which has none, is signed for.
const REGION: &str = "us-east-1";
const SERVICE: &str = "route53";
/// Record sets in one answer: those of one name.
const PER_NAME: usize = 20;

pub(super) fn looks(zone: &ApiZone<'_>, zone_id: &str, names: &[String]) -> Result<Vec<ApiRequest>, ApiError> {
    let mut looks = vec![];
    for name in names {
        // In the order of their names, as they are signed.
        let query = format!("maxitems={PER_NAME}&name={name}.");
        looks.push(signed(zone, "GET", &format!("/{VERSION}/hostedzone/{zone_id}/rrset"), &query, String::new())?);
    }
    Ok(looks)
}

pub(super) fn rows(body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::Malformed("it is no UTF-8"))?;
    let document = Document::parse(text).map_err(|_| ApiError::Malformed("it is no XML"))?;
    let mut rows = vec![];
    for set in document.descendants().filter(|node| node.has_tag_name_of("ResourceRecordSet")) {
        let name = set.text_of("Name").ok_or(ApiError::Malformed("a set without name"))?;
        let record_type = set.text_of("Type").ok_or(ApiError::Malformed("a set without type"))?;
        // An alias of AWS has neither TTL nor records. A set of several with one name is told apart by its identifier.
        let is_ordinary = set.text_of("SetIdentifier").is_none();
        let ttl = set.text_of("TTL").and_then(|ttl| ttl.parse().ok());
        let values: Vec<_> = set.descendants().filter(|node| node.has_tag_name_of("Value")).collect();
        if values.is_empty() || !is_ordinary || ttl.is_none() {
            rows.push(row(name, record_type, 0, None));
        }
        for value in values.iter().filter(|_| is_ordinary) {
            let data = value.text().and_then(|text| read(record_type, text));
            rows.push(row(name, record_type, ttl.unwrap_or_default(), data));
        }
    }
    Ok(rows)
}

fn row(name: &str, record_type: &str, ttl: u32, data: Option<mail_failover_core::model::DnsData>) -> Row {
    // Underscores and stars come as octal escapes.
    let name = bare(&name.replace("\\052", "*").replace("\\137", "_"));
    Row { name, record_type: record_type.to_owned(), ttl, data, id: String::new() }
}

/// The two things that are asked of a node.
trait NamedNode<'a> {
    fn has_tag_name_of(&self, name: &str) -> bool;
    fn text_of(&self, name: &str) -> Option<&'a str>;
}

impl<'a> NamedNode<'a> for Node<'a, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.tag_name().name() == name
    }

    fn text_of(&self, name: &str) -> Option<&'a str> {
        self.children().find(|child| child.has_tag_name_of(name))?.text()
    }
}

pub(super) fn changes(
    zone: &ApiZone<'_>,
    zone_id: &str,
    changes: &[SetChange],
    seen: &SeenRows,
) -> Result<Vec<ApiRequest>, ApiError> {
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/{VERSION}/\"><ChangeBatch><Changes>"
    );
    for change in changes {
        let SetChange { name, record_type, ttl, data } = change;
        let present: Vec<_> = seen.of(name, *record_type).collect();
        if let Some(first) = present.first() {
            let present = present.iter().map(|row| row.data.as_ref());
            let present: Option<Vec<_>> = present.collect();
            let present = present.ok_or(ApiError::Malformed("a record of a name that is led"))?;
            let values = present.into_iter().map(written).collect::<Result<Vec<_>, _>>()?;
            set(&mut body, "DELETE", name, record_type.as_str(), first.ttl, &values);
        }
        if !data.is_empty() {
            let values = data.iter().map(written).collect::<Result<Vec<_>, _>>()?;
            set(&mut body, "CREATE", name, record_type.as_str(), *ttl, &values);
        }
    }
    body.push_str("</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>");
    Ok(vec![signed(zone, "POST", &format!("/{VERSION}/hostedzone/{zone_id}/rrset/"), "", body)?])
}

fn set(body: &mut String, action: &str, name: &str, record_type: &str, ttl: u32, values: &[String]) {
    // Writing to a String cannot fail.
    let _ = write!(
        body,
        "<Change><Action>{action}</Action><ResourceRecordSet><Name>{name}.</Name><Type>{record_type}</Type><TTL>{ttl}</TTL><ResourceRecords>"
    );
    for value in values {
        let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = write!(body, "<ResourceRecord><Value>{value}</Value></ResourceRecord>");
    }
    body.push_str("</ResourceRecords></ResourceRecordSet></Change>");
}

/// The meaning of a refused change: a batch that does not fit what is there has met another change.
pub(super) fn refusal(body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    let is_overtaken = text.contains("InvalidChangeBatch")
        && (text.contains("not found") || text.contains("already exists") || text.contains("do not match"));
    if is_overtaken { ApiError::Overtaken } else { ApiError::Records(400) }
}

/// A request with its signature (AWS Signature Version 4).
fn signed(
    zone: &ApiZone<'_>,
    method: &'static str,
    path: &str,
    query: &str,
    body: String,
) -> Result<ApiRequest, ApiError> {
    let AccessKey { id, secret, session } = zone.secret.access().ok_or(ApiError::NoCredential(KEY_ACCESS_ID))?;
    let time = amz_time(zone.now);
    let day = time.split('T').next().unwrap_or_default();
    let host = authority(zone.service.url());
    let mut headers = vec![("host", host.to_owned()), ("x-amz-date", time.clone())];
    if let Some(session) = session {
        headers.push(("x-amz-security-token", session.clone()));
    }
    let mut canonical = format!("{method}\n{path}\n{query}\n");
    for (name, value) in &headers {
        // Writing to a String cannot fail.
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let _ = write!(canonical, "\n{names}\n{}", sha256(body.as_bytes()));
    let scope = format!("{day}/{REGION}/{SERVICE}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, REGION, SERVICE, "aws4_request"] {
        key = hmac_sha256(&key, part);
    }
    let signature = hex(&hmac_sha256(&key, &to_sign));
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    // The client sets `Host` by itself.
    headers.retain(|(name, _)| *name != "host");
    headers.push(("authorization", authorization));
    if !body.is_empty() {
        headers.push(("content-type", "application/xml".to_owned()));
    }
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    Ok(ApiRequest { origin: None, method, target, headers, body })
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// The time as AWS writes it: `20261130T110000Z`.
fn amz_time(now: u64) -> String {
    let seconds = i64::try_from(now).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
