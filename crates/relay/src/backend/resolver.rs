//! Addresses of backends, by the system's resolver. A good answer is used again for a while, and beyond that while no
//! other one can be had.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail_failover_contract::routing::NextHop;
use tokio::net::lookup_host;
use tokio::time::timeout_at;

/// Time for which an answer is used without another question.
const FRESH: Duration = Duration::from_secs(20);
/// Longest wait for an answer. An older one is used then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 4;

/// Reason why a host has no address.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// The resolver did not answer in time.
    #[error("the name server does not answer")]
    NoAnswer,
    /// The resolver says that there is none.
    #[error("{0}")]
    Refused(#[source] std::io::Error),
    /// The name has no address.
    #[error("the name has no address")]
    None,
}

/// Looks names up. The cache has as many entries as there were backends in documents.
#[derive(Debug, Default)]
pub struct Resolver {
    known: Mutex<HashMap<NextHop, (Instant, Vec<SocketAddr>)>>,
}

impl Resolver {
    /// The addresses of a host, in the resolver's order.
    ///
    /// # Errors
    /// [`LookUpError`], if there is neither an answer nor an earlier one.
    pub async fn addresses(&self, next_hop: &NextHop, deadline: Instant) -> Result<Vec<SocketAddr>, LookUpError> {
        if let Ok(address) = next_hop.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, next_hop.port)]);
        }
        let now = Instant::now();
        let known = self.lock().get(next_hop).cloned();
        if let Some((at, addresses)) = &known
            && now.saturating_duration_since(*at) < FRESH
        {
            return Ok(addresses.clone());
        }
        // ADR-0106: Names of backends are absolute.
        let name = if next_hop.host.ends_with('.') || !next_hop.host.contains('.') {
            next_hop.host.to_string()
        } else {
            format!("{}.", next_hop.host)
        };
        let asked = timeout_at(deadline.min(now + PATIENCE).into(), lookup_host((name, next_hop.port))).await;
        let error = match asked {
            Ok(Ok(found)) => {
                let mut addresses: Vec<_> = found.collect();
                addresses.dedup();
                addresses.truncate(MAX_ADDRESSES);
                if addresses.is_empty() {
                    LookUpError::None
                } else {
                    self.lock().insert(next_hop.clone(), (now, addresses.clone()));
                    return Ok(addresses);
                }
            }
            Ok(Err(error)) => LookUpError::Refused(error),
            Err(_elapsed) => LookUpError::NoAnswer,
        };
        known.map(|(_, addresses)| addresses).ok_or(error)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<NextHop, (Instant, Vec<SocketAddr>)>> {
        // Entries are replaced as a whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_without_an_answer_keeps_its_last_address() {
        let resolver = Resolver::default();
        let deadline = Instant::now() + Duration::from_secs(10);
        let literal = NextHop { host: "192.0.2.7".into(), port: 25 };
        assert_eq!(resolver.addresses(&literal, deadline).await.unwrap(), ["192.0.2.7:25".parse().unwrap()]);
        // RFC 6761 §6.4: nobody may answer for it.
        let next_hop = NextHop { host: "relay.invalid".into(), port: 25 };
        assert!(resolver.addresses(&next_hop, deadline).await.is_err());
        let old = Instant::now().checked_sub(Duration::from_mins(10)).unwrap_or_else(Instant::now);
        let address = "192.0.2.8:25".parse().unwrap();
        resolver.lock().insert(next_hop.clone(), (old, vec![address]));
        assert_eq!(resolver.addresses(&next_hop, deadline).await.unwrap(), [address]);
    }
}
