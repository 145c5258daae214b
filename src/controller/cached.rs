//! Custom resources as the API server showed them last: readable, or not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use serde_json::{Value, json};

use super::action::Action;
use super::lane::Lane;
use super::reconcile::PlannedAction;
use super::status::Conditions;
use crate::watch::{Identified, Unreadable};
use mail_failover_api::conditions::{condition, reason};
use mail_failover_core::model::{ObjectIdentity, ResourceVersion, SharedError, Timestamp, Uid};
use mail_failover_resolve::Rejection;

/// A custom resource as it was seen last, with the identity that its writes are conditional on.
#[derive(Debug)]
pub(super) struct Cached<K> {
    identity: ObjectIdentity,
    content: Content<K>,
}

#[derive(Debug)]
enum Content<K> {
    Readable(Box<K>),
    Unreadable(UnreadableContent),
}

/// Defect of an object that this version cannot read.
#[derive(Clone, Debug)]
pub(super) struct UnreadableContent {
    pub(super) generation: i64,
    /// The cause, with the path of the field.
    error: SharedError,
    status: UnreadableStatus,
}

/// The part of an unreadable object's status that says that it is unreadable.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UnreadableStatus {
    observed_generation: Option<i64>,
    conditions: Vec<Condition>,
}

impl<K> Cached<K> {
    pub(super) fn readable_from(Identified { identity, object }: Identified<K>) -> Self {
        Self { identity, content: Content::Readable(object) }
    }

    pub(super) fn unreadable_from(unreadable: Unreadable) -> Self {
        let Unreadable { identity, generation, status, error } = unreadable;
        // What is no status of ours is written anew.
        let status = UnreadableStatus::deserialize(status).unwrap_or_default();
        Self { identity, content: Content::Unreadable(UnreadableContent { generation, error, status }) }
    }

    pub(super) fn identity(&self) -> &ObjectIdentity {
        &self.identity
    }

    pub(super) fn uid(&self) -> &Uid {
        &self.identity.uid
    }

    pub(super) fn readable(&self) -> Option<&K> {
        match &self.content {
            Content::Readable(object) => Some(object),
            Content::Unreadable(_) => None,
        }
    }

    /// The spec's part of it, or the rejection of the whole object.
    pub(super) fn readable_or_rejected(&self) -> Result<&K, Rejection> {
        match &self.content {
            Content::Readable(object) => Ok(object),
            Content::Unreadable(unreadable) => Err(unreadable.rejection()),
        }
    }

    pub(super) fn unreadable(&self) -> Option<&UnreadableContent> {
        match &self.content {
            Content::Readable(_) => None,
            Content::Unreadable(unreadable) => Some(unreadable),
        }
    }

    /// The object, to be given the content of a write that has made this version of it; `None` if a newer version is
    /// cached already.
    pub(super) fn superseded_by(&mut self, written: &ResourceVersion) -> Option<&mut K> {
        match &mut self.content {
            Content::Readable(object) if !self.identity.resource_version.is_newer_than(written) => {
                self.identity.resource_version = written.clone();
                Some(object)
            }
            Content::Readable(_) | Content::Unreadable(_) => None,
        }
    }

    /// The write that turns one status into another; `None` if it would change nothing.
    pub(super) fn status_write<S: serde::Serialize>(&self, lane: Lane, from: &S, to: S) -> Option<PlannedAction<S>> {
        let patch = super::status::patch(from, &to)?;
        let resource_version = self.identity.resource_version.clone();
        Some(PlannedAction {
            lane,
            action: Action::WriteStatus { resource_version, patch },
            status: Some(Box::new(to)),
        })
    }

    /// Returns true if `other` is an older version of the same object.
    // The watch event of a write may arrive after its response.
    fn is_newer_than(&self, other: &Self) -> bool {
        self.uid() == other.uid() && self.identity.resource_version.is_newer_than(&other.identity.resource_version)
    }
}

/// Puts an object into its place in the cache. Returns true unless a newer version of it is cached already.
pub(super) fn cache<K>(place: &mut Option<Cached<K>>, object: Cached<K>) -> bool {
    let is_stale = place.as_ref().is_some_and(|cached| cached.is_newer_than(&object));
    if !is_stale {
        *place = Some(object);
    }
    !is_stale
}

impl UnreadableContent {
    /// The rejection of the object, for people.
    pub(super) fn rejection(&self) -> Rejection {
        Rejection {
            reason: reason::UNREADABLE,
            message: format!(
                "this version of the operator cannot read the object: {}; upgrade the operator or change the field; until then the last good decision stays in force",
                self.error
            ),
        }
    }

    /// The write of the rejection into the status, for people and for `kubectl wait`; the rest of the status stays.
    /// `None` if the status says so already.
    pub(super) fn status_write(&self, identity: &ObjectIdentity, now: Timestamp) -> Option<Action> {
        let rejection = self.rejection();
        let mut conditions = Conditions::new(&self.status.conditions, self.generation, now);
        conditions.set(condition::READY, Some(false), rejection.reason, &rejection.message);
        conditions.set_stalled(std::slice::from_ref(&rejection));
        let conditions = conditions.build();
        if conditions == self.status.conditions && self.status.observed_generation == Some(self.generation) {
            return None;
        }
        let conditions = serde_json::to_value(conditions).unwrap_or(Value::Null);
        Some(Action::WriteStatus {
            resource_version: identity.resource_version.clone(),
            patch: json!({ "status": { "observedGeneration": self.generation, "conditions": conditions } }),
        })
    }
}
