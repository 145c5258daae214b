//! Records that routes let external-dns publish: each name and type is led by one route.
//!
//! In a zone that is led by updates the marks of the zone say whose a record is. external-dns has marks of its own, which
//! know of no route.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Age, ControllerState, entry_age};
use crate::controller::action::ResourceRef;
use crate::controller::route::Claimed;
use mail_failover_core::model::{DnsOutput, DnsProvider, DnsRecordType, ObjectKey};

type SetKey = (Arc<str>, DnsRecordType);

/// Routes by the records that they let external-dns publish.
#[derive(Debug, Default)]
pub(super) struct DnsClaims(BTreeMap<SetKey, BTreeSet<ObjectKey>>);

impl DnsClaims {
    /// Replaces the claims of a route. Returns the other routes whose claims are touched.
    fn set(&mut self, route: &ObjectKey, claims: &BTreeSet<SetKey>) -> BTreeSet<ObjectKey> {
        let mut touched = BTreeSet::new();
        self.0.retain(|key, routes| {
            if !claims.contains(key) && routes.remove(route) {
                touched.extend(routes.iter().cloned());
            }
            !routes.is_empty()
        });
        for key in claims {
            let routes = self.0.entry(key.clone()).or_default();
            if routes.insert(route.clone()) {
                touched.extend(routes.iter().filter(|other| *other != route).cloned());
            }
        }
        touched
    }
}

impl ControllerState {
    /// Takes over what a route claims now, which is nothing once it is gone.
    pub(super) fn claim_dns(&mut self, route: &ObjectKey) {
        let usable = self.routes.get(route).and_then(|entry| entry.usable.as_ref());
        let outputs = usable.iter().flat_map(|usable| &usable.dns);
        let outputs = outputs.filter(|output| matches!(output.provider, DnsProvider::ExternalDns(_)));
        let claims = outputs.flat_map(set_keys).collect();
        let touched = self.dns_claims.set(route, &claims);
        self.queue.extend(touched.iter().map(ResourceRef::route));
    }

    /// An older route that claims records of this output, too.
    pub(super) fn dns_rival(&self, route: &ObjectKey, age: &Age, output: &DnsOutput) -> Option<Claimed> {
        set_keys(output).find_map(|key| {
            let others = self.dns_claims.0.get(&key)?.iter().filter(|other| *other != route);
            let aged = others.filter_map(|other| Some((entry_age(self.routes.get(other)?), other)));
            let (_, rival) = aged.filter(|(other, _)| other < age).min()?;
            let (name, record_type) = &key;
            Some(Claimed { set: format!("{name} {}", record_type.as_str()), rival: rival.clone() })
        })
    }
}

/// Names and types of an output's records, which are the same for every backend.
fn set_keys(output: &DnsOutput) -> impl Iterator<Item = SetKey> + '_ {
    let sets = output.backends.first().into_iter().flat_map(|records| &records.sets);
    sets.map(|set| (set.name.clone(), set.record_type))
}
