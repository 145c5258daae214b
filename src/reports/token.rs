//! Authentication of callers: the API server reviews a bearer token (`TokenReview`), and the result is kept for a short
//! time under the token's hash.
//!
//! A token that cannot be good, by its claims, is not reviewed. The rate of reviews is bounded, and
//! tokens that have been good in the last minutes have a share of their own, so that made-up tokens
//! keep no known agent out (ADR-0091).
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
use super::claims::Claims;
use super::rate::{RateLimit, TokenBucket};
use mail_failover_contract::report::AUDIENCE;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::kubernetes::describe;

/// Longest duration of a review, the wait for a place included.
const DEADLINE: Duration = Duration::from_secs(3);
/// Reviews of tokens that are not known: at a time, and in the long run. A flood of made-up tokens
/// becomes no flood of API calls; after a restart every agent is unknown once.
const STRANGERS: (usize, RateLimit) = (4, RateLimit { burst: 200.0, per_second: 50.0 });
/// Reviews of known tokens: at a time, and in the long run. Each is reviewed once in [`BELIEVED_FOR`].
const KNOWN: (usize, RateLimit) = (4, RateLimit { burst: 400.0, per_second: 100.0 });
/// Time since its last good review for which a token, or the pod that it is bound to, is known.
const KNOWN_FOR: Duration = Duration::from_mins(10);
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
    /// The API server did not review the token, or too many others wait for a review.
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
    clock: Clock,
    remembered: Mutex<BTreeMap<Hash, Remembered>>,
    /// Hashes of what identifies the known, by the time until which they are known.
    known: Mutex<BTreeMap<Hash, Instant>>,
    of_strangers: Lane,
    of_known: Lane,
    metrics: ReportMetrics,
}

/// Share of the reviews.
struct Lane {
    places: Semaphore,
    bucket: Mutex<TokenBucket>,
}

impl Lane {
    fn new((places, limit): (usize, RateLimit)) -> Self {
        Self { places: Semaphore::new(places), bucket: Mutex::new(TokenBucket::new(limit, Instant::now())) }
    }
}

impl Reviewer {
    pub(super) fn new(client: Client, clock: Clock, metrics: ReportMetrics) -> Self {
        Self {
            api: Api::all(client),
            clock,
            remembered: Mutex::default(),
            known: Mutex::default(),
            of_strangers: Lane::new(STRANGERS),
            of_known: Lane::new(KNOWN),
            metrics,
        }
    }

    /// Returns the caller that shows this token.
    pub(super) async fn review(&self, token: &str) -> Result<Caller, Denial> {
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(is_token_letter) {
            self.metrics.refused_by_claims("malformed");
            return Err(Denial::Refused);
        }
        let claims = Claims::of(token, self.clock.now()).map_err(|problem| {
            self.metrics.refused_by_claims(problem.as_str());
            Denial::Refused
        })?;
        let hash = hash(token);
        if let Some(known) = lock(&self.remembered).get(&hash).filter(|known| known.until > Instant::now()) {
            self.metrics.cache("hit");
            return known.result.clone();
        }
        self.metrics.cache("miss");
        let identity = claims.pod_uid().map_or(hash, |uid| self::hash(&format!("pod {uid}")));
        let now = Instant::now();
        let is_known = lock(&self.known).get(&identity).is_some_and(|until| *until > now);
        let lane = if is_known { &self.of_known } else { &self.of_strangers };
        if !lock(&lane.bucket).take(now) {
            self.metrics.review("limited");
            return Err(Denial::Unavailable);
        }
        let result = match timeout(DEADLINE, self.ask(lane, token)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.metrics.review("timeout");
                Err(Denial::Unavailable)
            }
        };
        if result.is_ok() {
            self.know(identity);
        }
        self.remember(hash, result.clone());
        result
    }

    /// Notes whose token was good. Only the API server's word leads here, so that nobody fills it with made-up tokens.
    fn know(&self, identity: Hash) {
        let now = Instant::now();
        let mut known = lock(&self.known);
        if known.len() >= MAX_REMEMBERED {
            known.retain(|_, until| *until > now);
        }
        if known.len() < MAX_REMEMBERED || known.contains_key(&identity) {
            known.insert(identity, now + KNOWN_FOR);
        }
        self.metrics.known_callers.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
    }

    async fn ask(&self, lane: &Lane, token: &str) -> Result<Caller, Denial> {
        let Ok(_place) = lane.places.acquire().await else { return Err(Denial::Unavailable) };
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
        let mut remembered = lock(&self.remembered);
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user of these locks can leave a value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
