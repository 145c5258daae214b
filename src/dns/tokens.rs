//! Tokens of providers that give one for credentials: each is asked for once, and used until shortly before its end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::metrics::Metrics;
use mail_failover_dns::api::{AccessToken, TokenKey};

/// Most tokens that are kept.
const MOST: usize = 1024;

/// Tokens by the credentials that they were given for.
// ADR-0185: In memory only: a successor asks for its own.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<BTreeMap<TokenKey, AccessToken>>);

impl Tokens {
    /// The token for credentials at this Unix time, in seconds; `None` if one is to be asked for.
    pub(super) fn get(&self, key: &TokenKey, now: u64) -> Option<AccessToken> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(key).filter(|token| token.is_usable(now)).cloned()
    }

    /// Keeps a token. At the bound the one that expires first gives way.
    pub(super) fn keep(&self, key: TokenKey, token: AccessToken, now: u64, metrics: &Metrics) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, token| token.is_usable(now));
        if tokens.len() >= MOST && !tokens.contains_key(&key) {
            let first = tokens.iter().min_by_key(|(_, token)| token.expires_at()).map(|(key, _)| key.clone());
            first.map(|key| tokens.remove(&key));
        }
        tokens.insert(key, token);
        metrics.tokens(tokens.len());
    }

    /// Forgets a token that was not accepted.
    pub(super) fn forget(&self, key: &TokenKey, metrics: &Metrics) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.remove(key);
        metrics.tokens(tokens.len());
    }
}
