//! Connections to hosts that somebody else names: the look-up of the name, the guard on each address, TCP.
//!
//! Architecture invariant: no address is connected to that was not checked after its name was looked up for this
//! connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::probe::{StartError, absolute, dns_client};
use mail_failover_runtime::dial_guard::{DialGuard, DialOrigin, DialRefusal};
use mail_failover_smtp::message::bounded;

/// Most addresses of a host that are tried for one connection.
const MAX_ADDRESSES: usize = 4;

/// Failure of a connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or DNS does not answer.
    #[error("{0} cannot be resolved: {1}")]
    Unresolved(String, String),
    /// Every address is one that nothing of ours connects to.
    #[error(transparent)]
    Refused(#[from] DialRefusal),
    /// No connection could be made.
    #[error("{address}: {source}")]
    Connect {
        /// The address that was tried last.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// The addresses of a host, as the guard judges them.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Those that may be connected to; empty only if all are refused.
    pub(crate) admitted: Vec<SocketAddr>,
    /// Those that may not.
    pub(crate) refused: Vec<DialRefusal>,
}

impl Judged {
    /// The addresses to connect to.
    ///
    /// # Errors
    /// [`DialError::Refused`] if there is none but refused ones.
    pub(crate) fn usable(self) -> Result<Vec<SocketAddr>, DialError> {
        match (self.admitted.is_empty(), self.refused.into_iter().last()) {
            (true, Some(refusal)) => Err(refusal.into()),
            (_, _) => Ok(self.admitted),
        }
    }
}

/// Resolver and guard.
pub(crate) struct Dialer {
    dns: TokioResolver,
    guard: DialGuard,
}

impl Dialer {
    /// A dialer that asks these DNS servers, those of `/etc/resolv.conf` if there are none.
    ///
    /// # Errors
    /// DNS is not configured.
    pub(crate) fn new(dns_servers: &[SocketAddr], guard: DialGuard) -> Result<Self, StartError> {
        Ok(Self { dns: dns_client(dns_servers)?, guard })
    }

    /// The addresses of a host, looked up and checked anew for each connection.
    ///
    /// # Errors
    /// [`DialError::Unresolved`] if there is none.
    pub(crate) async fn judge(&self, host: &str, port: u16) -> Result<Judged, DialError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(host).await?,
        };
        let (mut admitted, mut refused) = (vec![], vec![]);
        for address in addresses {
            let address = SocketAddr::new(address, port);
            match self.guard.check(address, DialOrigin::Spec) {
                Ok(()) => admitted.push(address),
                Err(refusal) => refused.push(refusal),
            }
        }
        Ok(Judged { admitted, refused })
    }

    /// The hosts of a zone's NS records.
    ///
    /// # Errors
    /// [`DialError::Unresolved`] if there is none.
    pub(crate) async fn name_servers(&self, zone: &str) -> Result<Vec<String>, DialError> {
        let name = absolute(zone).ok_or_else(|| unresolved(zone, "it is no DNS name"))?;
        let answer = self.dns.lookup(name, RecordType::NS).await;
        let answer = answer.map_err(|error| unresolved(zone, &error.to_string()))?;
        let mut hosts = vec![];
        for record in answer.answers() {
            if let RData::NS(host) = &record.data {
                hosts.push(host.0.to_ascii().trim_end_matches('.').to_ascii_lowercase());
            }
        }
        if hosts.is_empty() { Err(unresolved(zone, "it has no NS records")) } else { Ok(hosts) }
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, DialError> {
        let name = absolute(host).ok_or_else(|| unresolved(host, "it is no DNS name"))?;
        let (v4, v6) =
            tokio::join!(self.dns.lookup(name.clone(), RecordType::A), self.dns.lookup(name, RecordType::AAAA));
        let mut addresses = vec![];
        let mut error = None;
        for answer in [v4, v6] {
            match answer {
                Ok(lookup) => addresses.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr())),
                Err(failed) => error = error.or(Some(failed)),
            }
        }
        if addresses.is_empty() {
            let why = error.map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
            return Err(unresolved(host, &why));
        }
        Ok(addresses)
    }
}

fn unresolved(host: &str, why: &str) -> DialError {
    DialError::Unresolved(bounded(host, 100), bounded(why, 150))
}

/// A connection to the first address that answers, each within `limit`.
///
/// # Errors
/// The failure at the address that was tried last.
pub(crate) async fn connect(host: &str, addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, DialError> {
    let mut failed = unresolved(host, "it has no address");
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let connected = timeout(limit, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                // Without it the second part of a small request waits for the acknowledgement of the first.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => failed = DialError::Connect { address: *address, source },
        }
    }
    Err(failed)
}
