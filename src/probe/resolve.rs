//! Resolution of a host name to its addresses, anew in each round.
//!
//! Answers are cached for their TTL, within bounds. A negative answer and no answer are kept apart: only the first is
//! evidence about the backend. Names are absolute: the search list of resolv.conf(5) would complete them by those of
//! the operator's own namespace. This module never uses an address that the last answer no longer contains, unless DNS
//! is silent.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Settings;
use super::metrics::{LookupResult, Metrics};
use super::silence::{LatestAnswers, NameSilence};
use mail_failover_core::model::Resolution;
use mail_failover_smtp::message::bounded;

/// Deadline of a whole look-up while last known addresses can serve. RFC 8767 §5 serves stale
/// answers after 1.8 s.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);
/// Deadline of a whole look-up without last known addresses: the time that resolv.conf(5) gives one server.
pub const FIRST_LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline of one question to one server. A second try fits into [`LOOKUP_DEADLINE`].
const QUESTION_DEADLINE: Duration = Duration::from_millis(900);
/// Shortest time in the cache, so that a record with TTL 0 is asked for once a second at most.
const MIN_TTL: Duration = Duration::from_secs(1);
/// Longest time in the cache: a change of addresses is seen after that, however long its TTL.
const MAX_TTL: Duration = Duration::from_mins(5);
/// Longest time of a negative answer in the cache: a new name is seen after that.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Cached answers: A and AAAA of ten thousand hosts.
const CACHE_SIZE: u64 = 20_000;
/// Most look-ups under way. A question over UDP holds a socket.
const MAX_LOOKUPS: usize = 512;
/// Most addresses of one host. A DNS answer can contain thousands.
const MAX_RESOLVED: usize = 128;

/// Error at the start of the prober.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The DNS configuration cannot be used.
    #[error("DNS resolver: {0}")]
    Resolver(#[from] NetError),
    /// The name for EHLO would break the command.
    #[error("the name for EHLO must be printable ASCII without spaces, not {0:?}")]
    EhloName(String),
}

pub struct Resolver {
    dns: TokioResolver,
    permits: Semaphore,
    latest: Mutex<LatestAnswers>,
    metrics: Metrics,
}

/// Result of the last answered look-up of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownAddresses {
    addresses: Vec<IpAddr>,
    silence: NameSilence,
}

impl KnownAddresses {
    /// The last answered addresses, with a port.
    pub fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        self.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
    }
}

/// The answer to a DNS question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DnsAnswer {
    /// Addresses, and the end of their TTL.
    Addresses(Vec<IpAddr>, Instant),
    /// An authoritative negative answer.
    None(String),
    Unanswered(String),
}

impl Resolver {
    /// Creates a resolver.
    ///
    /// # Errors
    /// `/etc/resolv.conf` is needed, and cannot be read or names no server.
    pub fn new(settings: &Settings, metrics: Metrics) -> Result<Self, StartError> {
        Ok(Self::with_client(dns_client(&settings.dns_servers)?, metrics))
    }

    #[cfg(test)]
    fn with_config(config: ResolverConfig, options: ResolverOpts, metrics: Metrics) -> Result<Self, StartError> {
        Ok(Self::with_client(client(config, options)?, metrics))
    }

    fn with_client(dns: TokioResolver, metrics: Metrics) -> Self {
        Self { dns, permits: Semaphore::new(MAX_LOOKUPS), latest: Mutex::default(), metrics }
    }

    /// Looks a host up. An address is its own answer.
    ///
    /// As long as there are last known addresses, a silent DNS delays a round by no more than `dialogue_timeout` and
    /// [`LOOKUP_DEADLINE`].
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        known: &mut KnownAddresses,
        dialogue_timeout: Duration,
    ) -> Resolution {
        if host.parse::<IpAddr>().is_ok() {
            return Resolution::NotNeeded;
        }
        let deadline = match known.addresses.as_slice() {
            [] => FIRST_LOOKUP_DEADLINE,
            [..] => dialogue_timeout.min(LOOKUP_DEADLINE),
        };
        let (resolution, result) = self.look_up(host, port, known, deadline).await;
        self.metrics.lookup(result);
        resolution
    }

    async fn look_up(
        &self,
        host: &str,
        port: u16,
        known: &mut KnownAddresses,
        deadline: Duration,
    ) -> (Resolution, LookupResult) {
        let Some(name) = absolute(host) else {
            return (Resolution::Negative(format!("{host} is no DNS name")), LookupResult::Negative);
        };
        let permit = self.permits.try_acquire();
        if permit.is_err() && !known.addresses.is_empty() {
            return (Resolution::Unanswered("too many look-ups under way".to_owned()), LookupResult::Skipped);
        }
        let search = async {
            let _permit = match permit {
                Ok(permit) => Some(permit),
                Err(_) => self.permits.acquire().await.ok(),
            };
            let (v4, v6) =
                tokio::join!(self.ask(name.clone(), RecordType::A), self.ask(name.clone(), RecordType::AAAA));
            combine(v4, v6, &known.addresses)
        };
        let answer = timeout(deadline, search)
            .await
            .unwrap_or_else(|_| DnsAnswer::Unanswered(format!("{host}: no answer from DNS within {deadline:?}")));
        match answer {
            DnsAnswer::Addresses(addresses, usable_until) => {
                let is_fresh = known.silence.end(usable_until);
                if is_fresh {
                    self.latest.lock().unwrap_or_else(PoisonError::into_inner).note(host, now());
                }
                *known = KnownAddresses { addresses, silence: known.silence.clone() };
                (Resolution::Addresses(known.addresses(port)), LookupResult::Addresses)
            }
            DnsAnswer::None(why) => {
                *known = KnownAddresses::default();
                let hint = if is_short(host) { "; search domains are not used, write the whole name" } else { "" };
                (Resolution::Negative(bounded(&why, 150) + hint), LookupResult::Negative)
            }
            DnsAnswer::Unanswered(why) => {
                let other = self.latest.lock().unwrap_or_else(PoisonError::into_inner).other_than(host);
                let resolution = match known.silence.lasts(now(), other) {
                    Some(lasting) => Resolution::NameSilent(format!(
                        "no answer for {} from DNS for {} s, while it answers for other names",
                        bounded(host, 100),
                        lasting.as_secs()
                    )),
                    None => Resolution::Unanswered(bounded(&why, 200)),
                };
                (resolution, LookupResult::Unanswered)
            }
        }
    }

    async fn ask(&self, name: Name, family: RecordType) -> DnsAnswer {
        let result = self.dns.lookup(name.clone(), family).await;
        answer(&name, result)
    }
}

/// A client of these DNS servers, or of those of `/etc/resolv.conf` with its options, with a cache of its own.
///
/// # Errors
/// `/etc/resolv.conf` is needed, and cannot be read or names no server.
pub fn dns_client(servers: &[SocketAddr]) -> Result<TokioResolver, StartError> {
    let (config, options) = if servers.is_empty() {
        read_system_conf()?
    } else {
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            config
        });
        (ResolverConfig::from_name_servers(servers.collect()), ResolverOpts::default())
    };
    client(config, options)
}

fn client(config: ResolverConfig, options: ResolverOpts) -> Result<TokioResolver, StartError> {
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    let options = builder.options_mut();
    options.timeout = options.timeout.min(QUESTION_DEADLINE);
    options.cache_size = CACHE_SIZE;
    (options.positive_min_ttl, options.positive_max_ttl) = (Some(MIN_TTL), Some(MAX_TTL));
    (options.negative_min_ttl, options.negative_max_ttl) = (Some(MIN_TTL), Some(MAX_NEGATIVE_TTL));
    Ok(builder.build()?)
}

/// The name to ask for. `None` if the host is no DNS name.
// ADR-0106: Names of backends are absolute.
// hickory's own joint look-up of both families is not used either: it returns the error of A.
pub fn absolute(host: &str) -> Option<Name> {
    let mut name = Name::from_str_relaxed(host).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Returns true for a host that a search list would complete in a pod: one label, or the name of a Service without the
/// cluster's domain.
fn is_short(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    !host.contains('.') || host.to_ascii_lowercase().ends_with(".svc")
}

/// Combines the answers of both address families. If one family is not answered, its last known addresses stay.
fn combine(v4: DnsAnswer, v6: DnsAnswer, known: &[IpAddr]) -> DnsAnswer {
    let mut addresses = Vec::new();
    let mut usable_until: Option<Instant> = None;
    let mut silent = None;
    let mut none = None;
    for (answer, is_v6) in [(v4, false), (v6, true)] {
        match answer {
            DnsAnswer::Addresses(answered, until) => {
                addresses.extend(answered);
                usable_until = Some(usable_until.map_or(until, |earlier| earlier.max(until)));
            }
            DnsAnswer::None(why) => none = none.or(Some(why)),
            DnsAnswer::Unanswered(why) if silent.is_some() => return DnsAnswer::Unanswered(why),
            DnsAnswer::Unanswered(why) => {
                addresses.extend(known.iter().filter(|address| address.is_ipv6() == is_v6));
                silent = Some(why);
            }
        }
    }
    if addresses.is_empty() {
        let none = none.unwrap_or_default();
        return silent.map_or(DnsAnswer::None(none), DnsAnswer::Unanswered);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_RESOLVED);
    DnsAnswer::Addresses(addresses, usable_until.unwrap_or_else(now))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn answer(name: &Name, result: Result<Lookup, NetError>) -> DnsAnswer {
    match result {
        Ok(lookup) => {
            let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
            // Filtering resolvers answer 0.0.0.0 for what they block; connecting there reaches ourselves.
            let usable: Vec<_> =
                addresses.filter(|address| !address.is_unspecified() && !address.is_multicast()).collect();
            if usable.is_empty() {
                DnsAnswer::None(format!("{name} has no address"))
            } else {
                DnsAnswer::Addresses(usable, lookup.valid_until())
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.response_code == ResponseCode::NXDomain => {
            DnsAnswer::None(format!("{name} does not exist"))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.response_code == ResponseCode::NoError => {
            DnsAnswer::None(format!("{name} has no address"))
        }
        Err(error) => DnsAnswer::Unanswered(format!("{name}: {error}")),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
