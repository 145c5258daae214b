//! Addresses of a destination that may be connected to.

use std::net::SocketAddr;

use mail_failover_core::model::Destination;
use mail_failover_runtime::dial_guard::{DialGuard, DialOrigin, DialRefusal, DialRule};

/// Addresses of a destination, after the guard has seen them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Addresses that may be connected to, in the order given.
    pub addresses: Vec<SocketAddr>,
    /// Refusal of each of the others.
    pub refusals: Vec<DialRefusal>,
}

/// Sorts out the addresses of a destination that nothing of ours connects to, or leads others to.
pub fn admit(guard: &DialGuard, destination: &Destination, addresses: &[SocketAddr]) -> Admitted {
    let origin = match destination {
        Destination::Host(_) => DialOrigin::Spec,
        Destination::Service(_) => DialOrigin::Cluster,
    };
    let mut admitted = Admitted::default();
    for address in addresses {
        match guard.check(*address, origin) {
            Ok(()) => admitted.addresses.push(*address),
            Err(refusal) => admitted.refusals.push(refusal),
        }
    }
    admitted
}

impl Admitted {
    /// The first refusal as a sentence for people, if no address is left.
    pub fn refusal(&self) -> Option<String> {
        let refusal = self.refusals.first().filter(|_| self.addresses.is_empty())?;
        let remedy = match refusal.rule() {
            DialRule::Denied => "; a server in this cluster is a `service` backend",
            DialRule::Loopback
            | DialRule::LinkLocal
            | DialRule::Metadata
            | DialRule::Unspecified
            | DialRule::Multicast
            | DialRule::Reserved
            | DialRule::Port => "",
        };
        Some(format!("{refusal}{remedy}"))
    }
}
