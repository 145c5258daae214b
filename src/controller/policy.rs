//! One `FailoverPolicy`: what it means, and who uses it.

use super::backoff::Retry;
use super::known::{Known, note, unreadable_rejection};
use super::status::{Conditions, patch};
use super::step::{Step, Subject};
use mail_failover_api::{FailoverPolicy, FailoverPolicyStatus};
use mail_failover_core::model::{Policy, Timestamp};
use mail_failover_resolve::{self as resolve, Rejection};

/// The API's bound on `status.routes`.
const MAX_ROUTES: usize = 100;

/// Everything known about one policy.
#[derive(Debug, Default)]
pub(super) struct PolicyEntry {
    /// `None` once it is deleted.
    pub(super) object: Option<Known<FailoverPolicy>>,
    resolved: Option<Result<Policy, Rejection>>,
    pub(super) backoff: Retry,
}

impl PolicyEntry {
    /// Takes note of a version of it. Returns whether it says anything new.
    pub(super) fn take(&mut self, known: Known<FailoverPolicy>) -> bool {
        if !note(&mut self.object, known) {
            return false;
        }
        // Once for all routes that use it: a window's schedule takes a while to parse.
        self.resolved = self.object.as_ref().map(|known| match known {
            Known::Readable(object) => resolve::policy(&object.spec),
            Known::Unreadable(unreadable) => Err(unreadable_rejection(unreadable)),
        });
        true
    }

    /// What it says, if it can be used; `None` once it is deleted.
    pub(super) fn policy(&self) -> Option<&Result<Policy, Rejection>> {
        self.resolved.as_ref()
    }

    /// A status was written: what is known is now this.
    pub(super) fn status_written(&mut self, resource_version: &str, status: FailoverPolicyStatus) {
        if let Some(object) = self.object.as_mut().and_then(|known| known.superseded_by(resource_version)) {
            object.status = Some(status);
        }
    }

    /// The next missing step, with the status that it leads to.
    pub(super) fn next_step<'a>(
        &self,
        routes: impl Iterator<Item = &'a Subject>,
        now: Timestamp,
    ) -> Option<(Step, Option<FailoverPolicyStatus>)> {
        let object = self.object.as_ref()?.readable()?;
        let before = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let mut conditions = Conditions::new(&before.conditions, generation, now);
        match &self.resolved {
            Some(Err(rejection)) => {
                conditions.set("Ready", Some(false), rejection.reason, &rejection.message);
                conditions.set_stalled(std::slice::from_ref(rejection));
            }
            Some(Ok(_)) | None => conditions.set("Ready", Some(true), "Accepted", "accepted"),
        }
        let mut routes: Vec<_> = routes.map(|route| route.key.name.to_string()).collect();
        routes.sort();
        let status = FailoverPolicyStatus {
            observed_generation: Some(generation),
            route_count: Some(i32::try_from(routes.len()).unwrap_or(i32::MAX)),
            routes: routes.into_iter().take(MAX_ROUTES).collect(),
            conditions: conditions.build(),
        };
        let patch = patch(&before, &status)?;
        let resource_version = object.metadata.resource_version.clone().unwrap_or_default();
        Some((Step::WriteStatus { resource_version, patch }, Some(status)))
    }
}
