//! Records led by the HTTP API of a DNS provider: the requests that look at a zone and change it, and the meaning of the
//! answers.
//!
//! Each provider has a file. What they share is the row: one record as an API lists it.

mod azure;
mod by_record;
mod cloudflare;
mod desec;
mod digital_ocean;
mod google;
mod hetzner;
mod ovh;
mod power_dns;
mod presentation;
mod route53;
mod secret;
mod token;

use std::fmt;

use hickory_proto::rr::Record;

use super::plan::{ObservedSet, SetChange};
use super::record::{NoDnsName, wire_data, wire_name};
use mail_failover_core::model::{DnsData, DnsOutput, DnsRecordSet, DnsRecordType, DnsService};
pub use secret::{DnsApiSecret, DnsApiSecretError, SECRET_TYPE};
pub use token::{AccessToken, TokenKey};

use crate::mark::mark_name;

/// A request of an API. Its headers and its body hold credentials, so that no printable form shows them.
// ADR-0176: The APIs of DNS providers are spoken by requests of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiRequest {
    /// Scheme, host and port of another place than the API's; that of the API if `None`.
    pub origin: Option<String>,
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
    /// The provider is at work on an earlier change.
    #[error("it is still carrying out another change (423); it is tried again")]
    Locked,
    /// The provider has taken a change, and failed to carry it out.
    #[error("it has taken the change, and then failed to carry it out; it is tried again")]
    NotCarriedOut,
    /// A request that takes a token was to be made without one.
    #[error("no token was asked for before the request")]
    NoToken,
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
            Self::Locked | Self::NotCarriedOut | Self::Records(_) | Self::Status(_) | Self::Malformed(_) => "answer",
            Self::NoToken | Self::NotAscii(_) | Self::Name(_) => "request",
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
pub struct SeenRows {
    rows: Vec<Row>,
    tags: Vec<SetTag>,
}

/// The version of a record set, where the API has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetTag {
    /// Owner's name, in lower case, without a dot at the end.
    name: String,
    record_type: String,
    /// Entity tag (RFC 9110 §8.8.3), as it was given.
    tag: String,
}

/// What the answer to a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// What it was asked for.
    Part,
    /// The whole zone, so that no further look is needed.
    Whole,
    /// Places at which the rest is to be looked at.
    More(Vec<ApiRequest>),
}

/// A zone at a provider, with the credentials to change it.
#[derive(Clone, Copy, Debug)]
pub struct ApiZone<'a> {
    service: &'a DnsService,
    zone: &'a str,
    secret: &'a DnsApiSecret,
    /// Unix time of the request, in seconds.
    now: u64,
    /// Token that the provider has given for the credentials.
    access: Option<&'a AccessToken>,
}

impl<'a> ApiZone<'a> {
    /// The zone of an output. `now` is the Unix time in seconds, which some requests are signed with.
    pub fn new(service: &'a DnsService, output: &'a DnsOutput, secret: &'a DnsApiSecret, now: u64) -> Self {
        Self { service, zone: &output.zone, secret, now, access: None }
    }

    /// The key by which a token for these credentials is known; `None` if the provider gives none.
    ///
    /// # Errors
    /// [`ApiError::NoCredential`].
    pub fn token_key(&self) -> Result<Option<TokenKey>, ApiError> {
        if let DnsService::Google { .. } = self.service {
            return google::token_key(self).map(Some);
        }
        if let DnsService::Azure { cloud, tenant, .. } = self.service {
            return azure::token_key(self, *cloud, tenant).map(Some);
        }
        Ok(None)
    }

    /// The request for a token; `None` if the provider gives none.
    ///
    /// # Errors
    /// [`ApiError::NoCredential`].
    pub fn token_request(&self) -> Result<Option<ApiRequest>, ApiError> {
        if let DnsService::Google { .. } = self.service {
            return google::token_request(self).map(Some);
        }
        if let DnsService::Azure { cloud, tenant, .. } = self.service {
            return azure::token_request(self, *cloud, tenant).map(Some);
        }
        Ok(None)
    }

    /// Reads the answer to the request for a token.
    ///
    /// # Errors
    /// The answer is a refusal, or cannot be read.
    pub fn token_given(&self, answer: &ApiAnswer) -> Result<AccessToken, ApiError> {
        token::given(answer, self.now)
    }

    /// The same zone, with a token for its requests.
    #[must_use]
    pub fn with_token(self, token: &'a AccessToken) -> Self {
        Self { access: Some(token), ..self }
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
            DnsService::Hetzner => hetzner::looks(self, &names),
            DnsService::Google { project, zone, .. } => google::looks(self, project, zone, &names),
            DnsService::Azure { subscription, resource_group, .. } => {
                azure::looks(self, subscription, resource_group, sets)
            }
            DnsService::Ovh(_) => ovh::looks(self, &names),
        }
    }

    /// Reads the answer to a look.
    ///
    /// # Errors
    /// The answer is a refusal, or cannot be read.
    pub fn see(&self, answer: &ApiAnswer, seen: &mut SeenRows) -> Result<Sight, ApiError> {
        let is_without_set = match self.service {
            DnsService::DeSec => true,
            DnsService::Azure { .. } => azure::is_without_set(&answer.body),
            DnsService::PowerDns { .. }
            | DnsService::Route53 { .. }
            | DnsService::Cloudflare { .. }
            | DnsService::DigitalOcean
            | DnsService::Hetzner
            | DnsService::Google { .. }
            | DnsService::Ovh(_) => false,
        };
        if answer.status == 404 && is_without_set {
            return Ok(Sight::Part);
        }
        self.accepted(answer)?;
        let mut sight = Sight::Part;
        let rows = match self.service {
            DnsService::PowerDns { .. } => {
                let (rows, is_whole) = power_dns::rows(&answer.body)?;
                sight = if is_whole { Sight::Whole } else { Sight::Part };
                rows
            }
            DnsService::Route53 { .. } => route53::rows(&answer.body)?,
            DnsService::Cloudflare { .. } => cloudflare::rows(&answer.body)?,
            DnsService::DigitalOcean => digital_ocean::rows(self.zone, &answer.body)?,
            DnsService::DeSec => desec::rows(&answer.body)?,
            DnsService::Hetzner => hetzner::rows(self.zone, &answer.body)?,
            DnsService::Google { .. } => google::rows(&answer.body)?,
            DnsService::Azure { .. } => {
                let (tag, rows) = azure::rows(self.zone, &answer.body)?;
                seen.tags.push(tag);
                rows
            }
            DnsService::Ovh(_) => match ovh::seen(self, &answer.body)? {
                ovh::Seen::Places(places) => {
                    sight = Sight::More(places);
                    vec![]
                }
                ovh::Seen::Record(row) => vec![row],
            },
        };
        seen.rows.extend(rows);
        Ok(sight)
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
            DnsService::Hetzner => hetzner::changes(self, changes, seen),
            DnsService::Google { project, zone, .. } => google::changes(self, project, zone, changes, seen),
            DnsService::Azure { subscription, resource_group, .. } => {
                azure::changes(self, subscription, resource_group, changes, seen)
            }
            DnsService::Ovh(_) => ovh::changes(self, changes, seen),
        }
    }

    /// Reads the answer to a change, or to the request that this has returned before. Returns the request that asks once
    /// more if the change is not carried out yet.
    ///
    /// # Errors
    /// The change was refused.
    pub fn changed(&self, answer: &ApiAnswer) -> Result<Option<ApiRequest>, ApiError> {
        match (self.service, answer.status) {
            (DnsService::Route53 { .. }, 400) => Err(route53::refusal(&answer.body)),
            (
                DnsService::Cloudflare { .. }
                | DnsService::DigitalOcean
                | DnsService::Hetzner
                | DnsService::Google { .. }
                | DnsService::Ovh(_),
                404 | 409,
            ) => Err(ApiError::Overtaken),
            (DnsService::Hetzner, 200..=299) => hetzner::still_running(self, &answer.body),
            _ => self.accepted(answer).map(|()| None),
        }
    }

    /// The request that has the provider serve the records that it has; `None` if it does so by itself.
    ///
    /// # Errors
    /// [`ApiError::NoCredential`].
    pub fn publication(&self) -> Result<Option<ApiRequest>, ApiError> {
        if let DnsService::Ovh(_) = self.service { ovh::refresh(self).map(Some) } else { Ok(None) }
    }

    /// Checks that an answer is one of success.
    fn accepted(&self, answer: &ApiAnswer) -> Result<(), ApiError> {
        let ApiAnswer { status, retry_after, ref body } = *answer;
        match (self.service, status) {
            (_, 200..=299) => Ok(()),
            (DnsService::Google { .. }, 403) if google::is_over_quota(body) => {
                Err(ApiError::Throttled { status, retry_after })
            }
            (DnsService::Ovh(_), 400) if ovh::is_about_signature(body) => Err(ApiError::Credentials(status)),
            (_, 401 | 403) => Err(ApiError::Credentials(status)),
            (_, 404) => Err(ApiError::NoZone),
            (_, 409 | 412) => Err(ApiError::Overtaken),
            (_, 423) => Err(ApiError::Locked),
            (_, 429 | 503) => Err(ApiError::Throttled { status, retry_after }),
            (_, 400 | 422) => Err(ApiError::Records(status)),
            (_, status) => Err(ApiError::Status(status)),
        }
    }

    fn token(&self) -> Result<&str, ApiError> {
        self.secret.token().ok_or(ApiError::NoCredential(secret::KEY_TOKEN))
    }

    /// The header with the token that the provider has given.
    fn access_header(&self) -> Result<(&'static str, String), ApiError> {
        self.access.map(|token| bearer(token.as_str())).ok_or(ApiError::NoToken)
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
        self.rows.iter().filter(move |row| row.name == name && row.record_type == record_type.as_str())
    }

    /// The version of a record set; `None` if it was not there.
    fn tag(&self, name: &str, record_type: DnsRecordType) -> Option<&str> {
        let mut tags = self.tags.iter().filter(|one| one.name == name && one.record_type == record_type.as_str());
        tags.next().map(|one| one.tag.as_str())
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
    ApiRequest { origin: None, method, target, headers, body }
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

/// The name below the zone, `@` for its apex, as several APIs have it.
fn relative_or_at<'a>(name: &'a str, zone: &str) -> &'a str {
    Some(relative(name, zone)).filter(|name| !name.is_empty()).unwrap_or("@")
}

/// The whole of a name below a zone; `@`, or nothing, is its apex.
fn whole(relative: &str, zone: &str) -> String {
    if matches!(relative, "" | "@") { zone.to_owned() } else { format!("{}.{zone}", bare(relative)) }
}

/// A TTL of JSON.
fn ttl(value: &serde_json::Value) -> Option<u32> {
    value.as_u64().and_then(|ttl| u32::try_from(ttl).ok())
}

/// A name in lower case, without a dot at the end.
fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
