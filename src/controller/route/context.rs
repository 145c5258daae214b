//! Everything beside its own entry that the reconcile of a route depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::drills::DrillContext;
use crate::controller::action::ResourceRef;
use crate::controller::backend::BackendEntry;
use crate::controller::dependencies::DependencyCache;
use crate::controller::reconcile::Publishing;
use crate::output::{Observed, OutputKey, Senders};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::model::{Backend, ClockDrift, DnsOutput, ObjectKey, Timestamp};
use mail_failover_runtime::dial_guard::DialGuard;

/// Everything beside its own entry that the reconcile of a route depends on.
pub(in crate::controller) struct RouteContext<'a> {
    pub(in crate::controller) now: Timestamp,
    /// Lead of the wall clock.
    pub(in crate::controller) drift: ClockDrift,
    pub(in crate::controller) resource: &'a ResourceRef,
    pub(in crate::controller) instance: &'a str,
    /// Name of this operator in the marks of DNS records.
    pub(in crate::controller) dns_owner: &'a Arc<str>,
    pub(in crate::controller) publishing: Publishing,
    pub(in crate::controller) backends: &'a BTreeMap<ObjectKey, BackendEntry>,
    pub(in crate::controller) observed: &'a Observed,
    /// Guard on the addresses that endpoints are made of.
    pub(in crate::controller) guard: &'a DialGuard,
    /// True if the failures that the route meets are rather those of our own network.
    pub(in crate::controller) is_storm: bool,
    /// Addresses to which agents report.
    pub(in crate::controller) operators: &'a [OperatorEndpoint],
    /// Number of the route's agents among which limits are divided.
    pub(in crate::controller) agents: u32,
    /// Agents of other routes that may send to each backend with limits.
    pub(in crate::controller) senders: &'a BTreeMap<Arc<str>, Senders>,
    /// Backends of the route that lead back to it.
    pub(in crate::controller) loops: &'a BTreeSet<Arc<str>>,
    /// Backends for which messages try others first at all agents of the route, if it has no outputs but theirs.
    pub(in crate::controller) bypassed_by_agents: &'a BTreeSet<Arc<str>>,
    /// Objects that specs refer to.
    pub(in crate::controller) dependencies: &'a DependencyCache,
    /// True if mail has waited for long beside an agent of the route, and none has left there meanwhile.
    pub(in crate::controller) is_mail_stuck: bool,
    /// Knowledge of drills outside the route.
    pub(in crate::controller) drill: &'a DrillContext,
    /// Looks up if a message in a policy's status tells a notification of the route; `None` if nobody is to be told.
    pub(in crate::controller) is_taken: Option<&'a dyn Fn(&str) -> bool>,
    /// Looks up another route that has the better right to an output.
    pub(in crate::controller) rival: &'a dyn Fn(&OutputKey) -> Option<ObjectKey>,
    /// Looks up another route that has the better right to records that external-dns publishes.
    pub(in crate::controller) dns_rival: &'a dyn Fn(&DnsOutput) -> Option<Claimed>,
}

impl<'a> RouteContext<'a> {
    pub(super) fn backend(&self, name: &Arc<str>) -> Option<&'a BackendEntry> {
        self.backends.get(&self.resource.key.sibling(name.clone()))
    }

    pub(super) fn usable_backend(&self, name: &Arc<str>) -> Option<(&'a BackendEntry, &'a Backend)> {
        let entry = self.backend(name)?;
        Some((entry, entry.usable.as_deref()?))
    }
}

/// Records that another route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) struct Claimed {
    /// Name and type of the records.
    pub(in crate::controller) set: String,
    /// The route with the better right to them.
    pub(in crate::controller) rival: ObjectKey,
}
