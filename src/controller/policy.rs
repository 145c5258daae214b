//! One `FailoverPolicy`: its meaning, and the routes that use it.

use super::action::ResourceRef;
use super::cached::{Cached, cache};
use super::lane::Lane;
use super::reconcile::Reconciled;
use super::status::Conditions;
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{FailoverPolicy, FailoverPolicyStatus};
use mail_failover_core::model::{Policy, ResourceVersion, Timestamp};
use mail_failover_resolve::{self as resolve, Rejection};

/// The API's bound on `status.routes`.
const MAX_ROUTES: usize = 100;

/// State of one policy.
#[derive(Debug, Default)]
pub(super) struct PolicyEntry {
    /// `None` once it is deleted.
    pub(super) object: Option<Cached<FailoverPolicy>>,
    resolved: Option<Result<Policy, Rejection>>,
}

impl PolicyEntry {
    /// Caches a version of the policy. Returns true unless a newer one is cached already.
    pub(super) fn cache(&mut self, object: Cached<FailoverPolicy>) -> bool {
        if !cache(&mut self.object, object) {
            return false;
        }
        // Once for all routes that use it: a window's schedule takes a while to parse.
        self.resolved = self
            .object
            .as_ref()
            .map(|cached| cached.readable_or_rejected().and_then(|object| resolve::policy(&object.spec)));
        true
    }

    /// The meaning of the policy, or its defect; `None` once it is deleted.
    pub(super) fn policy(&self) -> Option<&Result<Policy, Rejection>> {
        self.resolved.as_ref()
    }

    /// Takes over a status that was written.
    pub(super) fn status_written(&mut self, resource_version: &ResourceVersion, status: FailoverPolicyStatus) {
        if let Some(object) = self.object.as_mut().and_then(|cached| cached.superseded_by(resource_version)) {
            object.status = Some(status);
        }
    }

    /// The write of its status, if that has changed.
    pub(super) fn reconcile<'a>(
        &self,
        routes: impl Iterator<Item = &'a ResourceRef>,
        now: Timestamp,
    ) -> Reconciled<FailoverPolicyStatus> {
        let Some(cached) = &self.object else { return Reconciled::idle() };
        let Some(object) = cached.readable() else { return Reconciled::idle() };
        let before = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let mut conditions = Conditions::new(&before.conditions, generation, now);
        match &self.resolved {
            Some(Err(rejection)) => {
                conditions.set(condition::READY, Some(false), rejection.reason, &rejection.message);
                conditions.set_stalled(std::slice::from_ref(rejection));
            }
            Some(Ok(_)) | None => conditions.set(condition::READY, Some(true), reason::ACCEPTED, "accepted"),
        }
        let mut routes: Vec<_> = routes.map(|route| route.key.name.to_string()).collect();
        routes.sort();
        let status = FailoverPolicyStatus {
            observed_generation: Some(generation),
            route_count: Some(i32::try_from(routes.len()).unwrap_or(i32::MAX)),
            routes: routes.into_iter().take(MAX_ROUTES).collect(),
            effective: self.resolved.as_ref().and_then(|resolved| resolved.as_ref().ok()).map(resolve::effective),
            conditions: conditions.build(),
        };
        cached.status_write(Lane::BackendStatus, &before, status).into()
    }
}
