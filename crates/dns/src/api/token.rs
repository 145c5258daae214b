//! Tokens that a provider gives for credentials, for an hour or so (OAuth 2.0, RFC 6749).

use std::fmt;

use ring::digest;

use super::{ApiAnswer, ApiError, ApiRequest, json};

/// Time before the end of a token from which on it is not used any more, in seconds.
// Longer than the pause between two looks, so that a look gets the next one, and a switch finds it.
const MARGIN: u64 = 120;
/// Longest token, in bytes.
const LONGEST: usize = 8192;
/// Longest time for which a token is used, in seconds.
const LONGEST_LIFE: u64 = 24 * 3600;

/// A token. Neither Debug nor Display shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    token: String,
    /// Unix time, in seconds.
    expires_at: u64,
}

impl AccessToken {
    /// Returns true if it may be used at this Unix time, in seconds.
    pub fn is_usable(&self, now: u64) -> bool {
        now + MARGIN < self.expires_at
    }

    /// Unix time at which it expires, in seconds.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    pub(super) fn as_str(&self) -> &str {
        &self.token
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(hidden)")
    }
}

/// Key by which the token for credentials is known: a digest of all that it is given for (SHA-256).
// Who does not know the credentials never meets a token for them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey(Vec<u8>);

impl TokenKey {
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        Self(context.finish().as_ref().to_vec())
    }
}

/// The request for a token (RFC 6749 §4).
pub(super) fn request(origin: String, target: String, form: &[(&str, &str)]) -> ApiRequest {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let headers = vec![
        ("Accept", "application/json".to_owned()),
        ("Content-Type", "application/x-www-form-urlencoded".to_owned()),
    ];
    ApiRequest { origin: Some(origin), method: "POST", target, headers, body }
}

/// Reads the answer to the request for a token (RFC 6749 §5).
pub(super) fn given(answer: &ApiAnswer, now: u64) -> Result<AccessToken, ApiError> {
    match answer.status {
        200..=299 => {}
        status @ (400 | 401 | 403) => return Err(ApiError::Credentials(status)),
        status @ (429 | 503) => return Err(ApiError::Throttled { status, retry_after: answer.retry_after }),
        status => return Err(ApiError::Status(status)),
    }
    let body = json(&answer.body)?;
    let token = body["access_token"].as_str().ok_or(ApiError::Malformed("it has no access_token"))?;
    if token.is_empty() || token.len() > LONGEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::Malformed("its access_token is none for a header"));
    }
    let life = body["expires_in"].as_u64().ok_or(ApiError::Malformed("it has no expires_in"))?;
    Ok(AccessToken { token: token.to_owned(), expires_at: now + life.min(LONGEST_LIFE) })
}
