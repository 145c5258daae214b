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

    /// Returns true if the next server may do better: this one cannot be reached, or refuses where another may not.
    pub(super) fn is_of_this_server(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Unreachable { .. } | Self::Ended { .. } | Self::Timeout { .. })
    }

    /// The failure to tell of after this one and that of the next server: the first refusal, or else the latest.
    // A refusal says what to do.
    pub(super) fn or(self, later: Self) -> Self {
        if self.is_refusal() { self } else { later }
    }

    fn is_refusal(&self) -> bool {
        // Every server of a zone would find the change made in between, or the name outside.
        let Self::Answer { source, .. } = self else { return false };
        !matches!(source, AnswerError::Overtaken(_) | AnswerError::NotInZone(_))
    }
}

fn joined(conflicts: &[Conflict]) -> String {
    conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str) -> DnsServer {
        DnsServer { host: host.into(), port: 53 }
    }

    fn answered(host: &str, source: AnswerError) -> DnsError {
        DnsError::Answer { server: server(host), source }
    }

    fn ended(host: &str) -> DnsError {
        DnsError::Ended { server: server(host), source: io::ErrorKind::UnexpectedEof.into() }
    }

    #[test]
    fn a_server_that_refuses_is_no_reason_not_to_ask_the_next_and_a_condition_that_fails_is() {
        for refusal in [
            AnswerError::Code("Server Failure".to_owned(), "bounce.shop.example MX".to_owned()),
            AnswerError::NotImplemented,
            AnswerError::Refused("bounce.shop.example MX".to_owned(), "key".to_owned(), "update it"),
            AnswerError::NotAuthorized,
            AnswerError::NotAuthoritative("bounce.shop.example MX".to_owned()),
            AnswerError::BadKey("key".to_owned()),
        ] {
            let error = answered("ns1", refusal);
            assert!(error.is_of_this_server(), "{error}");
        }
        assert!(ended("ns1").is_of_this_server());
        for final_one in [AnswerError::Overtaken("NXRRSET"), AnswerError::NotInZone("a.example".to_owned())] {
            let error = answered("ns1", final_one);
            assert!(!error.is_of_this_server(), "{error}");
        }
        assert!(!DnsError::Conflict(vec![]).is_of_this_server());
    }

    #[test]
    fn of_several_servers_that_fail_the_first_refusal_is_told() {
        let told = ended("ns1").or(answered("ns2", AnswerError::NotImplemented)).or(ended("ns3"));
        let told = told.or(answered("ns4", AnswerError::NotAuthorized)).to_string();
        assert!(told.starts_with("ns2:53: it does not take updates"), "{told}");
        let told = ended("ns1").or(ended("ns2")).to_string();
        assert!(told.starts_with("ns2:53: the connection ended"), "{told}");
    }
}
