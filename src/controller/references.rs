//! References of specs to other objects, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use super::action::ResourceRef;
use super::secrets::SecretKey;
use mail_failover_core::model::ObjectKey;
use mail_failover_resolve::{CaKey, LoginKey};

/// An object that the spec of a resource refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    Backend(ObjectKey),
    Policy(ObjectKey),
    Service(ObjectKey),
    Ca(CaKey),
    /// A Secret, for probes that log in.
    Login(LoginKey),
    /// A Secret, for an output or a receiver.
    Secret(SecretKey),
}

/// References by resource, and resources by reference.
#[derive(Debug, Default)]
pub(super) struct References {
    of: BTreeMap<ResourceRef, BTreeSet<Reference>>,
    users: BTreeMap<Reference, BTreeSet<ResourceRef>>,
}

impl References {
    /// Replaces the references of a resource. Returns those that are new and those that are gone.
    pub(super) fn set(&mut self, resource: &ResourceRef, references: BTreeSet<Reference>) -> Vec<Reference> {
        let before = self.of.remove(resource).unwrap_or_default();
        let changed: Vec<_> = before.symmetric_difference(&references).cloned().collect();
        for reference in &changed {
            let users = self.users.entry(reference.clone()).or_default();
            if references.contains(reference) {
                users.insert(resource.clone());
            } else {
                users.remove(resource);
            }
            if users.is_empty() {
                self.users.remove(reference);
            }
        }
        if !references.is_empty() {
            self.of.insert(resource.clone(), references);
        }
        changed
    }

    /// The resources that refer to an object.
    pub(super) fn users<'a>(&'a self, reference: &Reference) -> impl Iterator<Item = &'a ResourceRef> + use<'a> {
        self.users.get(reference).into_iter().flatten()
    }

    /// Returns true if any resource refers to an object.
    pub(super) fn is_used(&self, reference: &Reference) -> bool {
        self.users.contains_key(reference)
    }
}
