//! Authentication of callers: the API server reviews a bearer token (`TokenReview`), and the result is kept for a short
//! time under the token's hash.
//!
//! A token is never stored or logged. The API server's answer about a bad token is not passed on either, because it may
//! quote the token.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::ReportMetrics;
use mail_failover_contract::report::AUDIENCE;
use mail_failover_runtime::kubernetes::describe;

/// Longest duration of a review, the wait for a place included.
const DEADLINE: Duration = Duration::from_secs(3);
/// Number of reviews under way at a time, so that a flood of bad tokens does not become a flood of API calls.
const REVIEWS: usize = 8;
/// Time that a good token is accepted without another review.
const BELIEVED_FOR: Duration = Duration::from_mins(1);
/// Time that a bad token is refused without another review.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Time without reviews after the API server did not answer.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(1);
/// Number of results that are kept. Beyond it, the result that would expire first is dropped.
const MAX_REMEMBERED: usize = 4096;
/// Longest token that is reviewed, in bytes; those of service accounts have about 1200.
const MAX_TOKEN: usize = 8192;
/// Key of the pod's name in the `extra` of a `TokenReview`.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Caller that a token has authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User name of the caller: `system:serviceaccount:<namespace>:<name>`.
    pub username: Arc<str>,
    /// Pod that the token is bound to; `None` for a token that was made by hand.
    pub pod: Option<Arc<str>>,
}

/// Reasons why a caller is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token is missing, malformed, expired, or for another audience.
    #[error("a bearer token of a service account for the audience {AUDIENCE} is needed")]
    Refused,
    /// The API server did not review the token.
    #[error("the token cannot be reviewed now; try again later")]
    Unavailable,
}

type Hash = [u8; 32];

#[derive(Debug)]
struct Remembered {
    result: Result<Caller, Denial>,
    until: Instant,
}

/// Reviewer of tokens, with the results that it keeps.
pub(super) struct Reviewer {
    api: Api<TokenReview>,
    remembered: Mutex<BTreeMap<Hash, Remembered>>,
    places: Semaphore,
    metrics: ReportMetrics,
}

impl Reviewer {
    pub(super) fn new(client: Client, metrics: ReportMetrics) -> Self {
        Self { api: Api::all(client), remembered: Mutex::default(), places: Semaphore::new(REVIEWS), metrics }
    }

    /// Returns the caller that shows this token.
    pub(super) async fn review(&self, token: &str) -> Result<Caller, Denial> {
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(is_token_letter) {
            return Err(Denial::Refused);
        }
        let hash = hash(token);
        if let Some(known) = self.lock().get(&hash).filter(|known| known.until > Instant::now()) {
            self.metrics.cache("hit");
            return known.result.clone();
        }
        self.metrics.cache("miss");
        let result = match timeout(DEADLINE, self.ask(token)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.metrics.review("timeout");
                Err(Denial::Unavailable)
            }
        };
        self.remember(hash, result.clone());
        result
    }

    async fn ask(&self, token: &str) -> Result<Caller, Denial> {
        let Ok(_place) = self.places.acquire().await else { return Err(Denial::Unavailable) };
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        match self.api.create(&PostParams::default(), &review).await {
            Ok(TokenReview { status, .. }) => {
                let status = status.unwrap_or_default();
                // An API server that knows of no audiences would name none.
                let is_for_us = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
                let caller = status.user.and_then(caller);
                let caller = caller.filter(|_| status.authenticated == Some(true) && is_for_us);
                self.metrics.review(if caller.is_some() { "authenticated" } else { "refused" });
                caller.ok_or(Denial::Refused)
            }
            Err(error) => {
                self.metrics.review("error");
                tracing::warn!(
                    error = describe(&error),
                    "a token of an agent cannot be reviewed; the operator's service account needs create on tokenreviews (authentication.k8s.io)"
                );
                Err(Denial::Unavailable)
            }
        }
    }

    fn remember(&self, hash: Hash, result: Result<Caller, Denial>) {
        let lasts = match &result {
            Ok(_) => BELIEVED_FOR,
            Err(Denial::Refused) => REFUSED_FOR,
            Err(Denial::Unavailable) => UNAVAILABLE_FOR,
        };
        let now = Instant::now();
        let mut remembered = self.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, known| known.until > now);
        }
        if remembered.len() >= MAX_REMEMBERED {
            let next = remembered.iter().min_by_key(|(_, known)| known.until).map(|(hash, _)| *hash);
            next.map(|next| remembered.remove(&next));
        }
        remembered.insert(hash, Remembered { result, until: now + lasts });
        self.metrics.cached_tokens.set(i64::try_from(remembered.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Hash, Remembered>> {
        // No user of the lock can leave the map half changed.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true for a byte of a bearer token (RFC 6750, b64token).
fn is_token_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn caller(user: UserInfo) -> Option<Caller> {
    let pod = user.extra.and_then(|extra| extra.get(POD_NAME)?.first().map(|name| name.as_str().into()));
    Some(Caller { username: user.username?.into(), pod })
}

fn hash(token: &str) -> Hash {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut hash = Hash::default();
    hash.copy_from_slice(digest.as_ref());
    hash
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
