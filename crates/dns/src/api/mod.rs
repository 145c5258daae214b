//! Records led by the HTTP API of a DNS provider: the requests that look at a zone and change it, and the meaning of the
//! answers.
//!
//! Each provider has a file. What they share is the row: one record as an API lists it.

mod cloudflare;
mod desec;
mod digital_ocean;
mod power_dns;
mod presentation;
mod route53;
mod secret;

use std::fmt;

use hickory_proto::rr::Record;

use super::plan::{ObservedSet, SetChange};
use super::record::{NoDnsName, wire_data, wire_name};
use mail_failover_core::model::{DnsData, DnsOutput, DnsRecordSet, DnsRecordType, DnsService};
pub use secret::{DnsApiSecret, DnsApiSecretError, SECRET_TYPE};

use crate::mark::mark_name;

/// A request of an API. Its headers and its body hold credentials, so that no printable form shows them.
// ADR-0176: The APIs of DNS providers are spoken by requests of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiRequest {
    /// Method (RFC 9110 §9).
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Headers beside `Host` and `User-Agent`.
    pub headers: Vec<(&'static str, String)>,
    /// Body; empty for none.
    pub body: String,
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "ApiRequest({} {path})", self.method)
    }
}

/// The answer to a request.
#[derive(Clone, Debug, Default)]
pub struct ApiAnswer {
    /// Status (RFC 9110 §15).
    pub status: u16,
    /// Pause that the server asks for, in seconds.
    pub retry_after: Option<u64>,
    /// Body.
    pub body: Vec<u8>,
}

/// Failure of an API. No text of it holds a credential, or a part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The Secret lacks a key that this provider needs.
    #[error("the Secret has no key {0}, which this provider needs")]
    NoCredential(&'static str),
    /// The credentials are not accepted.
    #[error("it does not accept the credentials ({0}); correct the Secret, or grant them the right to change the zone")]
    Credentials(u16),
    /// There is no such zone.
    #[error("it has no such zone, or the credentials do not reach it (404); check `zone` and the zone's id")]
    NoZone,
    /// The zone has changed between the look at it and the change.
    #[error("the zone has changed since it was looked at; nothing was written")]
    Overtaken,
    /// The provider wants fewer requests.
    #[error("it wants fewer requests ({status})")]
    Throttled {
        /// Status of the answer.
        status: u16,
        /// Pause that it asks for, in seconds.
        retry_after: Option<u64>,
    },
    /// The records are not accepted.
    #[error(
        "it does not accept the records ({0}); check `ttl`, for which providers have lower bounds, and the records' data"
    )]
    Records(u16),
    /// Another status.
    #[error("it answered {0}")]
    Status(u16),
    /// The answer cannot be read.
    #[error("its answer cannot be read: {0}")]
    Malformed(&'static str),
    /// A text cannot be written.
    #[error("{0} holds letters that are not ASCII, which APIs write in ways of their own")]
    NotAscii(String),
    /// A name cannot be written.
    #[error(transparent)]
    Name(#[from] NoDnsName),
}

impl ApiError {
    /// The label of this error in metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NoCredential(_) | Self::Credentials(_) | Self::NoZone => "refused",
            Self::Overtaken => "overtaken",
            Self::Throttled { .. } => "throttled",
            Self::Records(_) | Self::Status(_) | Self::Malformed(_) => "answer",
            Self::NotAscii(_) | Self::Name(_) => "request",
        }
    }

    /// Pause that the provider asks for, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        if let Self::Throttled { retry_after, .. } = self { *retry_after } else { None }
    }
}

/// One record as an API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Owner's name, in lower case, without a dot at the end.
    name: String,
    /// Type as in zone files; any type.
    record_type: String,
    ttl: u32,
    /// The data; `None` for a type that is never led, or data that cannot be read.
    data: Option<DnsData>,
    /// Id of the record, where the API has one.
    id: String,
}

/// Rows that were seen in a zone.
#[derive(Clone, Debug, Default)]
pub struct SeenRows(Vec<Row>);

/// A zone at a provider, with the credentials to change it.
#[derive(Clone, Copy, Debug)]
pub struct ApiZone<'a> {
    service: &'a DnsService,
    zone: &'a str,
    secret: &'a DnsApiSecret,
    /// Unix time of the request, in seconds.
    now: u64,
}

impl<'a> ApiZone<'a> {
    /// The zone of an output. `now` is the Unix time in seconds, which some requests are signed with.
    pub fn new(service: &'a DnsService, output: &'a DnsOutput, secret: &'a DnsApiSecret, now: u64) -> Self {
        Self { service, zone: &output.zone, secret, now }
    }

    /// The requests that look at record sets and their marks.
    ///
    /// # Errors
    /// [`ApiError::NoCredential`].
    pub fn looks(&self, sets: &[DnsRecordSet]) -> Result<Vec<ApiRequest>, ApiError> {
        let mut names: Vec<String> = vec![];
        for set in sets {
            names.extend([set.name.to_string(), mark_name(&set.name, set.record_type)]);
        }
        names.sort();
        names.dedup();
        match self.service {
            DnsService::PowerDns { url, server } => power_dns::looks(self, url, server, &names),
            DnsService::Route53 { zone_id, .. } => route53::looks(self, zone_id, &names),
            DnsService::Cloudflare { zone_id } => cloudflare::looks(self, zone_id, &names),
            DnsService::DigitalOcean => digital_ocean::looks(self, &names),
            DnsService::DeSec => desec::looks(self, &names),
        }
    }

    /// Reads the answer to a look. Returns true if it has shown the whole zone, so that no further look is needed.
    ///
    /// # Errors
    /// The answer is a refusal, or cannot be read.
    pub fn see(&self, answer: &ApiAnswer, rows: &mut SeenRows) -> Result<bool, ApiError> {
        if answer.status == 404 && matches!(self.service, DnsService::DeSec) {
            // A name without records.
            return Ok(false);
        }
        accepted(answer)?;
        let (seen, is_whole) = match self.service {
            DnsService::PowerDns { .. } => power_dns::rows(&answer.body)?,
            DnsService::Route53 { .. } => (route53::rows(&answer.body)?, false),
            DnsService::Cloudflare { .. } => (cloudflare::rows(&answer.body)?, false),
            DnsService::DigitalOcean => (digital_ocean::rows(self.zone, &answer.body)?, false),
            DnsService::DeSec => (desec::rows(&answer.body)?, false),
        };
        rows.0.extend(seen);
        Ok(is_whole)
    }

    /// The requests that change record sets, in their order, each once the one before was accepted.
    ///
    /// # Errors
    /// A record cannot be written.
    pub fn changes(&self, changes: &[SetChange], seen: &SeenRows) -> Result<Vec<ApiRequest>, ApiError> {
        match self.service {
            DnsService::PowerDns { url, server } => power_dns::changes(self, url, server, changes),
            DnsService::Route53 { zone_id, .. } => route53::changes(self, zone_id, changes, seen),
            DnsService::Cloudflare { zone_id } => cloudflare::changes(self, zone_id, changes, seen),
            DnsService::DigitalOcean => digital_ocean::changes(self, changes, seen),
            DnsService::DeSec => desec::changes(self, changes),
        }
    }

    /// Reads the answer to a change.
    ///
    /// # Errors
    /// The change was refused.
    pub fn changed(&self, answer: &ApiAnswer) -> Result<(), ApiError> {
        match (self.service, answer.status) {
            (DnsService::Route53 { .. }, 400) => Err(route53::refusal(&answer.body)),
            (DnsService::Cloudflare { .. } | DnsService::DigitalOcean, 404 | 409) => Err(ApiError::Overtaken),
            _ => accepted(answer),
        }
    }

    fn token(&self) -> Result<&str, ApiError> {
        self.secret.token().ok_or(ApiError::NoCredential(secret::KEY_TOKEN))
    }
}

impl SeenRows {
    /// The record sets as they were seen, with their marks.
    ///
    /// # Errors
    /// A record that stands where one of these does cannot be read.
    pub fn observed(&self, sets: &[DnsRecordSet]) -> Result<Vec<ObservedSet>, ApiError> {
        let mut observed = vec![];
        for set in sets {
            let alias = self.of(&set.name, DnsRecordType::Cname).next();
            let alias = alias.filter(|_| set.record_type != DnsRecordType::Cname);
            observed.push(ObservedSet {
                records: self.records(&set.name, set.record_type)?,
                marks: self.records(&mark_name(&set.name, set.record_type), DnsRecordType::Txt)?,
                alias: alias.and_then(|row| Some(row.data.as_ref()?.to_string())),
            });
        }
        Ok(observed)
    }

    fn of<'a>(&'a self, name: &'a str, record_type: DnsRecordType) -> impl Iterator<Item = &'a Row> {
        self.0.iter().filter(move |row| row.name == name && row.record_type == record_type.as_str())
    }

    fn records(&self, name: &str, record_type: DnsRecordType) -> Result<Vec<Record>, ApiError> {
        let mut records = vec![];
        for row in self.of(name, record_type) {
            let data = row.data.as_ref().ok_or(ApiError::Malformed("a record of a name that is led"))?;
            records.push(Record::from_rdata(wire_name(name)?, row.ttl, wire_data(data)?));
        }
        Ok(records)
    }
}

/// Checks that an answer is one of success.
fn accepted(answer: &ApiAnswer) -> Result<(), ApiError> {
    match answer.status {
        200..=299 => Ok(()),
        401 | 403 => Err(ApiError::Credentials(answer.status)),
        404 => Err(ApiError::NoZone),
        409 | 412 => Err(ApiError::Overtaken),
        429 | 503 => Err(ApiError::Throttled { status: answer.status, retry_after: answer.retry_after }),
        400 | 422 => Err(ApiError::Records(answer.status)),
        status => Err(ApiError::Status(status)),
    }
}

fn json_request(
    method: &'static str,
    target: String,
    authorization: (&'static str, String),
    body: String,
) -> ApiRequest {
    let mut headers = vec![authorization, ("Accept", "application/json".to_owned())];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json".to_owned()));
    }
    ApiRequest { method, target, headers, body }
}

fn bearer(token: &str) -> (&'static str, String) {
    ("Authorization", format!("Bearer {token}"))
}

fn json(body: &[u8]) -> Result<serde_json::Value, ApiError> {
    serde_json::from_slice(body).map_err(|_| ApiError::Malformed("it is no JSON"))
}

/// The name below the zone; empty for its apex.
fn relative<'a>(name: &'a str, zone: &str) -> &'a str {
    name.strip_suffix(zone).map_or(name, |rest| rest.trim_end_matches('.'))
}

/// A name in lower case, without a dot at the end.
fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
