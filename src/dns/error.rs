//! Failures of attempts to lead a zone.

use std::io;
use std::time::Duration;

use super::object::ForeignEndpoint;
use crate::dial::DialError;
use crate::leader::ClaimLost;
use mail_failover_core::model::DnsServer;
use mail_failover_dns::answer::AnswerError;
use mail_failover_dns::api::ApiError;
use mail_failover_dns::message::RequestError;
use mail_failover_dns::plan::Conflict;
use mail_failover_runtime::kubernetes::CallError;

/// Failure of an attempt. No text of it holds a key.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// This replica is not the leader any more.
    #[error(transparent)]
    NotLeader(#[from] ClaimLost),
    /// No server could be connected to; the last failure.
    #[error("{server}: {source}")]
    Unreachable {
        /// The server.
        server: DnsServer,
        /// Failure of the connection.
        // Boxed: it is large, and errors are moved about.
        source: Box<DialError>,
    },
    /// The connection ended before the answer.
    #[error("{server}: the connection ended before the answer: {source}")]
    Ended {
        /// The server.
        server: DnsServer,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A server answers, and not as it should.
    #[error("{server}: {source}")]
    Answer {
        /// The server.
        server: DnsServer,
        /// The refusal.
        source: AnswerError,
    },
    /// A message cannot be written.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Records are somebody else's, and left alone.
    #[error("{}", joined(.0))]
    Conflict(Vec<Conflict>),
    /// The cluster knows no `DNSEndpoint`.
    #[error(
        "the cluster knows no DNSEndpoint (externaldns.k8s.io/v1alpha1); install the definition of external-dns, or lead the records by rfc2136"
    )]
    NoDefinition,
    /// The operator has no right on the object.
    #[error("DNSEndpoint {name}: {source}; grant the right (dns.endpoints of the chart)")]
    Forbidden {
        /// Name of the object.
        name: String,
        /// The refusal.
        source: CallError,
    },
    /// The API server does not take the object, or does not answer.
    #[error("DNSEndpoint {name}: {source}")]
    Cluster {
        /// Name of the object.
        name: String,
        /// Failure of the call.
        source: CallError,
    },
    /// The object is somebody else's, and left alone.
    #[error(transparent)]
    Occupied(#[from] ForeignEndpoint),
    /// Somebody wrote the object between the look and the write.
    #[error("DNSEndpoint {0} has changed since it was read; it is looked at again")]
    Overtaken(String),
    /// The API could not be connected to.
    #[error("{url}: {source}")]
    ApiUnreachable {
        /// Place of the API.
        url: Box<str>,
        /// Failure of the connection.
        source: Box<DialError>,
    },
    /// The connection to the API failed, or ended before the answer.
    #[error("{url}: {what}")]
    ApiConnection {
        /// Place of the API.
        url: Box<str>,
        /// The failure.
        what: String,
    },
    /// The API answers, and not as it should.
    #[error("{url}: {source}")]
    Api {
        /// Place of the API.
        url: Box<str>,
        /// The refusal.
        source: ApiError,
    },
    /// Nobody knows the authorities.
    #[error("the servers of the zone are not known: {0}; name `authorities`")]
    NoAuthorities(Box<DialError>),
    /// No server did its part in time.
    #[error("no answer within {:.1} s from {server}", limit.as_secs_f64())]
    Timeout {
        /// The time limit.
        limit: Duration,
        /// The server, or all of them.
        server: String,
    },
}

impl DnsError {
    /// The label of this error in metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "not_leader",
            Self::Unreachable { source, .. } | Self::ApiUnreachable { source, .. } => match **source {
                DialError::Unresolved(..) => "unresolved",
                DialError::Refused(_) => "refused_destination",
                DialError::Connect { .. } => "unreachable",
            },
            Self::Ended { .. } | Self::ApiConnection { .. } => "ended",
            Self::Api { source, .. } => source.category(),
            Self::NoAuthorities(..) => "unresolved",
            Self::Answer { source, .. } => source.category(),
            Self::Request(_) => "request",
            Self::Conflict(_) | Self::Occupied(_) => "conflict",
            Self::NoDefinition => "no_definition",
            Self::Forbidden { .. } => "forbidden",
            Self::Cluster { .. } => "api_server",
            Self::Overtaken(_) => "overtaken",
            Self::Timeout { .. } => "timeout",
        }
    }

    /// Pause that the provider asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Api { source, .. } = self { source.retry_after().map(Duration::from_secs) } else { None }
    }

    /// Returns true if the next server may do better.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Ended { .. } | Self::Timeout { .. })
    }
}

fn joined(conflicts: &[Conflict]) -> String {
    conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
