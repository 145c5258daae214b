//! Who a caller is: its bearer token, reviewed by the API server (`TokenReview`) and remembered for a short while by its hash.
//!
//! A token is never stored, logged or told; what the API server says of a bad one is not passed on either, because it may quote it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Metrics;
use mail_failover_contract::report::AUDIENCE;
use mail_failover_runtime::kubernetes::describe;

/// No review takes longer, waiting for a place included.
const DEADLINE: Duration = Duration::from_secs(3);
/// So many reviews may be under way: a flood of bad tokens must not become one of API calls.
const REVIEWS: usize = 8;
/// How long a good token is believed without asking again.
const BELIEVED_FOR: Duration = Duration::from_mins(1);
/// How long a bad one is refused without asking.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long nobody asks again after the API server did not answer.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(1);
/// So many tokens are remembered; of more the one that is forgotten next gives way.
const MAX_REMEMBERED: usize = 4096;
/// The longest token that is looked at; those of service accounts have about 1200 bytes.
const MAX_TOKEN: usize = 8192;
/// Where the API server says to which pod a token is bound.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user: `system:serviceaccount:<namespace>:<name>`.
    pub username: Arc<str>,
    /// The pod that its token is bound to; none for a token that was made by hand.
    pub pod: Option<Arc<str>>,
}

/// Why a caller is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token is missing, malformed, expired, or for another audience.
    #[error("a bearer token of a service account for the audience {AUDIENCE} is needed")]
    Refused,
    /// It could not be reviewed.
    #[error("the token cannot be reviewed now; try again later")]
    Unavailable,
}

type Hash = [u8; 32];

#[derive(Debug)]
struct Remembered {
    result: Result<Caller, Denial>,
    until: Instant,
}

/// Reviews tokens.
pub(super) struct Reviewer {
    api: Api<TokenReview>,
    remembered: Mutex<BTreeMap<Hash, Remembered>>,
    places: Semaphore,
    metrics: Metrics,
}

impl Reviewer {
    pub(super) fn new(client: Client, metrics: Metrics) -> Self {
        Self { api: Api::all(client), remembered: Mutex::default(), places: Semaphore::new(REVIEWS), metrics }
    }

    /// Who shows this token.
    pub(super) async fn review(&self, token: &str) -> Result<Caller, Denial> {
        let is_token_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
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
