//! Attempts to lead a zone: the look at what is there, an update on a condition, and the look at every authority; or the
//! same by the API of a provider, or with an object that external-dns follows.
//!
//! Architecture invariants: this module never decides when, or where to; it holds no queue. Each attempt is made under the
//! leader's claim, has one deadline over all of it, and meets the guard on addresses after each name was resolved. No key
//! leaves it but in signatures.

mod api;
mod client;
mod connection;
mod endpoint;
mod error;
mod metrics;
mod object;
mod tokens;

use std::sync::Arc;

use mail_failover_core::model::{DnsApi, DnsEndpointObject, DnsOutput, DnsUpdates, ObjectKey, TrustAnchors, Uid};
use mail_failover_dns::api::DnsApiSecret;
use mail_failover_dns::mark::Owner;
use mail_failover_dns::tsig::TsigKey;

pub use client::{DnsClient, Led, Settings};
pub use error::DnsError;
pub use metrics::Metrics;

/// One attempt to lead the zone of one output.
#[derive(Clone, Debug)]
pub struct DnsCall {
    /// Number that the [`DnsResult`] repeats.
    pub number: u64,
    /// The route.
    pub route: ObjectKey,
    /// The records that are wanted.
    pub request: DnsRequest,
}

/// Records that are wanted in a zone.
#[derive(Clone, Debug)]
pub struct DnsRequest {
    /// The output.
    pub output: Arc<DnsOutput>,
    /// Name of the backend that it leads to.
    pub backend: Arc<str>,
    /// Owner that the marks in the zone name.
    pub owner: Owner,
    /// Publisher of the records, with what is needed to make it do so.
    pub access: DnsAccess,
}

/// Publisher of records, with the credentials for it. No printable form holds one.
#[derive(Clone, Debug)]
pub enum DnsAccess {
    /// Servers that take dynamic updates, and the key that signs.
    Updates(DnsUpdates, TsigKey),
    /// An object that external-dns follows, and the `metadata.uid` of the route.
    Endpoint(DnsEndpointObject, Uid),
    /// The API of a provider, the credentials, and the authorities that may have signed its certificate.
    Api(Box<DnsApi>, Box<DnsApiSecret>, TrustAnchors),
}

/// The end of an attempt.
#[derive(Debug)]
pub struct DnsResult {
    /// Number of the [`DnsCall`].
    pub number: u64,
    /// The route.
    pub route: ObjectKey,
    /// Name of the output.
    pub output: Arc<str>,
    /// Outcome of the attempt.
    pub outcome: Result<Led, DnsError>,
}
