//! Everything beside its own entry that the reconcile of a route depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::drills::DrillContext;
use super::installations::InstallationContext;
use crate::controller::action::ResourceRef;
use crate::controller::backend::BackendEntry;
use crate::controller::dependencies::DependencyCache;
use crate::controller::reconcile::Publishing;
use crate::controller::secrets::TypedSecret;
use crate::output::{Observed, OutputKey, Senders};
use mail_failover_api::conditions::reason;
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::model::{Backend, ClockDrift, DnsOutput, ObjectKey, Timestamp, TrustAnchors};
use mail_failover_resolve::{CaKey, ReadProblem, Rejection};
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
    /// True if only relays read the route's documents.
    pub(in crate::controller) has_only_relays: bool,
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
    /// Knowledge of other installations that lead the route.
    pub(in crate::controller) installations: &'a InstallationContext,
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

    /// The content of a Secret beside the route, which `field` names; `None` while it has not been read yet.
    pub(super) fn secret<S: TypedSecret>(&self, name: &Arc<str>, field: &str) -> Result<Option<S>, Rejection> {
        let problem = match self.dependencies.secret(&self.resource.key.sibling(name.clone())) {
            Ok(secret) => return Ok(Some(secret)),
            Err(problem) => problem,
        };
        let reason = match problem {
            ReadProblem::Pending => return Ok(None),
            ReadProblem::NotFound => reason::SECRET_NOT_FOUND,
            ReadProblem::Malformed(_) => reason::SECRET_MALFORMED,
            ReadProblem::Unreadable(_) => reason::SECRET_UNREADABLE,
        };
        Err(Rejection::new(reason, field, &format!("Secret {name}: {}", self.with_remedy(&problem))))
    }

    /// The authorities that an output trusts: those of `ca`, which `field` names, or the public ones. `None` while they
    /// have not been read yet.
    pub(super) fn trust(&self, ca: Option<CaKey>, field: &str) -> Result<Option<TrustAnchors>, Rejection> {
        let Some(ca) = ca else { return Ok(Some(TrustAnchors::WellKnown)) };
        let problem = match self.dependencies.webhook_ca(&ca) {
            Ok(pem) => return Ok(Some(TrustAnchors::Pem(pem))),
            Err(problem) => problem,
        };
        let reason = match problem {
            ReadProblem::Pending => return Ok(None),
            ReadProblem::NotFound => reason::CA_NOT_FOUND,
            ReadProblem::Malformed(_) => reason::CA_MALFORMED,
            ReadProblem::Unreadable(_) => reason::CA_UNREADABLE,
        };
        let problem = self.with_remedy(&problem);
        let message = format!("key {} of {} {}: {problem}", ca.data_key, ca.kind.as_str(), ca.object.name);
        Err(Rejection::new(reason, field, &message))
    }

    fn with_remedy(&self, problem: &ReadProblem) -> String {
        match problem {
            ReadProblem::NotFound => format!("{problem}; create it in namespace {}", self.resource.key.namespace),
            // They say what is wrong with it.
            ReadProblem::Pending | ReadProblem::Malformed(_) | ReadProblem::Unreadable(_) => problem.to_string(),
        }
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
