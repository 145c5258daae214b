//! One `FailoverPolicy`: what it means, and who uses it.

use super::backoff::Backoff;
use super::known::Known;
use super::resolve;
use super::status::{Conditions, patch};
use super::step::{Step, Subject};
use crate::api::{FailoverPolicy, FailoverPolicyStatus};
use crate::model::{Policy, Timestamp};

/// The API's bound on `status.routes`.
const MAX_ROUTES: usize = 100;

/// Everything known about one policy.
#[derive(Debug, Default)]
pub(super) struct PolicyEntry {
    /// `None` once it is deleted.
    pub(super) object: Option<Known<FailoverPolicy>>,
    pub(super) backoff: Backoff,
}

impl PolicyEntry {
    /// What it says, if it can be read.
    pub(super) fn policy(&self) -> Option<Policy> {
        Some(resolve::policy(&self.object.as_ref()?.readable()?.spec))
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
        conditions.set("Ready", Some(true), "Accepted", "accepted");
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
