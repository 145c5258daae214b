//! The API of Google Cloud DNS (`/dns/v1`), with tokens for a service account (RFC 7523).
//!
//! A change has deletions and additions, in one transaction. A deletion fails unless it is exactly what is there, and an
//! addition fails if there is something. So a late write of an old leader is refused.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::presentation::{read, written};
use super::secret::{DnsApiSecretError, KEY_SERVICE_ACCOUNT};
use super::token::{TokenKey, request};
use super::{ApiError, ApiRequest, ApiZone, Row, SeenRows, bare, json, json_request, ttl};
use crate::plan::SetChange;
use mail_failover_core::model::DnsRecordType;

/// What a token is for: to read and write record sets.
const SCOPE: &str = "https://www.googleapis.com/auth/ndev.clouddns.readwrite";
/// Time for which a token is asked, in seconds: the longest that there is.
const LIFE: u64 = 3600;
/// Way to ask for a token (RFC 7523 §2.1).
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Longest key file, in bytes.
const LONGEST: usize = 16 * 1024;

/// The key file of a service account. Its Debug shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ServiceAccount {
    email: String,
    key_id: String,
    /// The private key (PKCS #8).
    key: Vec<u8>,
    /// Place where tokens are given: scheme, host and port.
    token_origin: String,
    /// Path of that place.
    token_path: String,
}

impl ServiceAccount {
    /// Reads a key file as Google makes it.
    ///
    /// # Errors
    /// [`DnsApiSecretError::ServiceAccount`] says what is wrong, and quotes nothing of it.
    pub(super) fn parse(file: &[u8]) -> Result<Self, DnsApiSecretError> {
        let wrong = DnsApiSecretError::ServiceAccount;
        if file.len() > LONGEST {
            return Err(wrong("it is longer than 16 KiB"));
        }
        let file: Value = serde_json::from_slice(file).map_err(|_| wrong("it is no JSON"))?;
        if file["type"] != "service_account" {
            return Err(wrong("its type is not service_account"));
        }
        let email = file["client_email"].as_str().ok_or(wrong("it has no client_email"))?;
        let key_id = file["private_key_id"].as_str().ok_or(wrong("it has no private_key_id"))?;
        let key = file["private_key"].as_str().ok_or(wrong("it has no private_key"))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes());
        let key = key.map_err(|_| wrong("its private_key is no PEM of PKCS #8"))?.secret_pkcs8_der().to_vec();
        RsaKeyPair::from_pkcs8(&key).map_err(|_| wrong("its private_key is no usable RSA key"))?;
        let place = file["token_uri"].as_str().and_then(|uri| uri.strip_prefix("https://"));
        let place = place.ok_or(wrong("its token_uri does not begin with https://"))?;
        let is_place = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
        let (host, path) = place.split_once('/').filter(|_| is_place).ok_or(wrong("its token_uri is no place"))?;
        Ok(Self {
            email: email.to_owned(),
            key_id: key_id.to_owned(),
            key,
            token_origin: format!("https://{host}"),
            token_path: format!("/{path}"),
        })
    }

    fn token_uri(&self) -> String {
        format!("{}{}", self.token_origin, self.token_path)
    }

    /// The assertion that a token is asked with: a JWT (RFC 7519), signed by RS256 (RFC 7518 §3.3).
    fn assertion(&self, now: u64) -> Result<String, ApiError> {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.key_id });
        let claims =
            json!({ "iss": self.email, "scope": SCOPE, "aud": self.token_uri(), "iat": now, "exp": now + LIFE });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.signature(&signed)?;
        Ok(format!("{signed}.{signature}"))
    }

    fn signature(&self, text: &str) -> Result<String, ApiError> {
        let unusable = ApiError::NoCredential(KEY_SERVICE_ACCOUNT);
        let key = RsaKeyPair::from_pkcs8(&self.key).map_err(|_| unusable.clone())?;
        let mut signature = vec![0; key.public().modulus_len()];
        // This padding takes no random numbers; the parameter is there for another one.
        let signing = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signing.map_err(|_| unusable)?;
        Ok(URL_SAFE_NO_PAD.encode(signature))
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccount(hidden)")
    }
}

fn account<'a>(zone: &ApiZone<'a>) -> Result<&'a ServiceAccount, ApiError> {
    zone.secret.service_account().ok_or(ApiError::NoCredential(KEY_SERVICE_ACCOUNT))
}

pub(super) fn token_key(zone: &ApiZone<'_>) -> Result<TokenKey, ApiError> {
    let account = account(zone)?;
    let ServiceAccount { email, key_id, key, token_origin, token_path } = account;
    let parts: [&[u8]; 6] =
        [b"google", email.as_bytes(), key_id.as_bytes(), key, token_origin.as_bytes(), token_path.as_bytes()];
    Ok(TokenKey::of(&parts))
}

pub(super) fn token_request(zone: &ApiZone<'_>) -> Result<ApiRequest, ApiError> {
    let account = account(zone)?;
    let assertion = account.assertion(zone.now)?;
    let form = [("grant_type", GRANT), ("assertion", &*assertion)];
    Ok(request(account.token_origin.clone(), account.token_path.clone(), &form))
}

pub(super) fn looks(
    zone: &ApiZone<'_>,
    project: &str,
    managed_zone: &str,
    names: &[String],
) -> Result<Vec<ApiRequest>, ApiError> {
    let access = zone.access_header()?;
    let sets = format!("/dns/v1/projects/{project}/managedZones/{managed_zone}/rrsets");
    let looks = names.iter().map(|name| format!("{sets}?name={name}."));
    Ok(looks.map(|target| json_request("GET", target, access.clone(), String::new())).collect())
}

pub(super) fn rows(body: &[u8]) -> Result<Vec<Row>, ApiError> {
    let answer = json(body)?;
    let Some(sets) = answer.get("rrsets") else { return Ok(vec![]) };
    let sets = sets.as_array().ok_or(ApiError::Malformed("its rrsets are no list"))?;
    let mut rows = vec![];
    for set in sets {
        let (Some(name), Some(record_type)) = (set["name"].as_str(), set["type"].as_str()) else {
            return Err(ApiError::Malformed("a set without name or type"));
        };
        let row = |ttl, data, id| Row { name: bare(name), record_type: record_type.to_owned(), ttl, data, id };
        let records: Vec<_> = set["rrdatas"].as_array().into_iter().flatten().collect();
        if records.is_empty() {
            // Google chooses its records by a routing policy.
            rows.push(row(0, None, String::new()));
        }
        let ttl = ttl(&set["ttl"]).unwrap_or_default();
        for record in records {
            let text = record.as_str().ok_or(ApiError::Malformed("a record that is no text"))?;
            rows.push(row(ttl, read(record_type, text), text.to_owned()));
        }
    }
    Ok(rows)
}

pub(super) fn changes(
    zone: &ApiZone<'_>,
    project: &str,
    managed_zone: &str,
    changes: &[SetChange],
    seen: &SeenRows,
) -> Result<Vec<ApiRequest>, ApiError> {
    let (mut deletions, mut additions) = (vec![], vec![]);
    for SetChange { name, record_type, ttl, data } in changes {
        let present: Vec<_> = seen.of(name, *record_type).collect();
        if let Some(first) = present.first() {
            // As it was read, to the letter.
            let records: Vec<_> = present.iter().map(|row| row.id.clone()).collect();
            deletions.push(set(name, *record_type, first.ttl, &records));
        }
        if !data.is_empty() {
            let records: Vec<_> = data.iter().map(written).collect::<Result<_, _>>()?;
            additions.push(set(name, *record_type, *ttl, &records));
        }
    }
    let target = format!("/dns/v1/projects/{project}/managedZones/{managed_zone}/changes");
    let body = json!({ "additions": additions, "deletions": deletions }).to_string();
    Ok(vec![json_request("POST", target, zone.access_header()?, body)])
}

fn set(name: &str, record_type: DnsRecordType, ttl: u32, records: &[String]) -> Value {
    json!({ "name": format!("{name}."), "type": record_type.as_str(), "ttl": ttl, "rrdatas": records })
}

/// Returns true if a refusal (403) is one of a quota, and not one of the credentials.
pub(super) fn is_over_quota(body: &[u8]) -> bool {
    let Ok(answer) = json(body) else { return false };
    let mut errors = answer["error"]["errors"].as_array().into_iter().flatten();
    errors.any(|error| {
        matches!(error["reason"].as_str(), Some("rateLimitExceeded" | "userRateLimitExceeded" | "quotaExceeded"))
    })
}

#[cfg(test)]
#[path = "google_tests.rs"]
mod tests;
