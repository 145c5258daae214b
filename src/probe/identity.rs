//! Identity of a probe: everything that its outcome depends on.

use std::sync::Arc;
use std::time::Duration;

use super::ProbeTarget;
use mail_failover_core::model::{Depth, Destination, Envelope, ProbeLogin, ReplyRules, Tls};

/// Everything that the outcome of a probe depends on. Probes with equal identities are one probe (ADR-0110).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProbeIdentity {
    pub(super) place: ProbedPlace,
    tls: Tls,
    timeout: Duration,
    depth: Depth,
    envelope: Envelope,
    login: ProbeLogin,
    replies: ReplyRules,
    /// Namespace of the Secret; `None` without a login.
    // Two tenants who know the same login must not learn of each other: neither by a login that is made for one of them
    // only, nor by a refusal that slows down both.
    namespace: Option<Arc<str>>,
}

/// Host or Service that is probed. Endpoints do not belong to it: they change while the Service is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ProbedPlace {
    Host(Arc<str>, u16),
    /// By DNS name, which holds the namespace.
    Service(Arc<str>, u16),
}

impl ProbeIdentity {
    pub(super) fn of(target: &ProbeTarget) -> Self {
        let ProbeTarget {
            key,
            revision: _,
            destination,
            tls,
            interval: _,
            timeout,
            depth,
            envelope,
            login,
            replies,
            is_used: _,
            confirmation: _,
            // Who wants one hears sooner, and of the same.
            idle_session: _,
        } = target;
        Self {
            place: ProbedPlace::of(destination),
            tls: tls.clone(),
            timeout: *timeout,
            depth: *depth,
            envelope: envelope.clone(),
            login: login.clone(),
            replies: replies.clone(),
            namespace: match login {
                ProbeLogin::None => None,
                ProbeLogin::With(_) | ProbeLogin::Missing { .. } => Some(key.backend.namespace.clone()),
            },
        }
    }

    /// Returns true if both log in with the same login at the same place.
    pub(super) fn shares_login_with(&self, other: &Self) -> bool {
        self.place == other.place && self.login == other.login && self.namespace == other.namespace
    }
}

impl ProbedPlace {
    fn of(destination: &Destination) -> Self {
        match destination {
            Destination::Host(host) => Self::Host(host.host.clone(), host.port),
            Destination::Service(service) => Self::Service(service.dns_name.clone(), service.port),
        }
    }
}
