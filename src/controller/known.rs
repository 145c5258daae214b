//! What is known of a custom resource: itself, or that it cannot be read.

use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::status::Conditions;
use super::step::Step;
use crate::watch::Unreadable;
use mail_failover_core::model::Timestamp;
use mail_failover_resolve::Rejection;
use mail_failover_runtime::kubernetes::version_number;

/// A custom resource as it was seen last.
#[derive(Debug)]
pub(super) enum Known<K> {
    Readable(Box<K>),
    Unreadable(Unreadable),
}

impl<K: Resource> Known<K> {
    pub(super) fn readable(&self) -> Option<&K> {
        match self {
            Self::Readable(object) => Some(object),
            Self::Unreadable(_) => None,
        }
    }

    pub(super) fn uid(&self) -> &str {
        match self {
            Self::Readable(object) => object.meta().uid.as_deref().unwrap_or_default(),
            Self::Unreadable(unreadable) => &unreadable.uid,
        }
    }

    pub(super) fn resource_version(&self) -> String {
        match self {
            Self::Readable(object) => object.resource_version().unwrap_or_default(),
            Self::Unreadable(unreadable) => unreadable.resource_version.clone(),
        }
    }

    /// The object, to be given what a write of this version has made of it; `None` when a newer version is known already.
    pub(super) fn superseded_by(&mut self, resource_version: &str) -> Option<&mut K> {
        let (known, written) = (version_number(&self.resource_version()), version_number(resource_version));
        match self {
            Self::Readable(object) if known <= written => {
                object.meta_mut().resource_version = Some(resource_version.to_owned());
                Some(object)
            }
            Self::Readable(_) | Self::Unreadable(_) => None,
        }
    }

    /// Whether `other` is an older version of the same object: the echo of a write may arrive after its answer.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.uid() == other.uid()
            && version_number(&self.resource_version()) > version_number(&other.resource_version())
    }
}

/// Reads a change of an object into what is known of it. Returns whether it says anything new.
pub(super) fn note<K: Resource>(known: &mut Option<Known<K>>, newer: Known<K>) -> bool {
    let stale = known.as_ref().is_some_and(|known| known.is_newer_than(&newer));
    if !stale {
        *known = Some(newer);
    }
    !stale
}

/// The status of an object that cannot be read, for people and for `kubectl wait`; the rest of it stays.
pub(super) fn unreadable_status(unreadable: &Unreadable, now: Timestamp) -> Step {
    let rejection = unreadable_rejection(unreadable);
    let mut conditions = Conditions::new(&[], unreadable.generation, now);
    conditions.set("Ready", Some(false), rejection.reason, &rejection.message);
    conditions.set_stalled(std::slice::from_ref(&rejection));
    let conditions = serde_json::to_value(conditions.build()).unwrap_or(Value::Null);
    Step::WriteStatus {
        resource_version: unreadable.resource_version.clone(),
        patch: json!({ "status": { "observedGeneration": unreadable.generation, "conditions": conditions } }),
    }
}

/// What people are told about an object that cannot be read.
pub(super) fn unreadable_rejection(unreadable: &Unreadable) -> Rejection {
    Rejection {
        reason: "Unreadable",
        message: format!(
            "this version of the operator cannot read the object: {}; upgrade the operator or change the field; until then the last good decision stays in force",
            unreadable.error
        ),
    }
}
