use std::collections::{BTreeMap, BTreeSet};

use super::step::Subject;
use mail_failover_core::model::ObjectKey;
use mail_failover_resolve::CaKey;

/// Something a subject's spec refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    Backend(ObjectKey),
    Policy(ObjectKey),
    Service(ObjectKey),
    Ca(CaKey),
    /// The Secret of that name, for probes that log in.
    Login(ObjectKey),
}

/// Who refers to what, both ways.
#[derive(Debug, Default)]
pub(super) struct References {
    of: BTreeMap<Subject, BTreeSet<Reference>>,
    users: BTreeMap<Reference, BTreeSet<Subject>>,
}

impl References {
    /// Replaces what `subject` refers to. Returns the references it has newly got or lost.
    pub(super) fn set(&mut self, subject: &Subject, references: BTreeSet<Reference>) -> Vec<Reference> {
        let before = self.of.remove(subject).unwrap_or_default();
        let changed: Vec<_> = before.symmetric_difference(&references).cloned().collect();
        for reference in &changed {
            let users = self.users.entry(reference.clone()).or_default();
            if references.contains(reference) {
                users.insert(subject.clone());
            } else {
                users.remove(subject);
            }
            if users.is_empty() {
                self.users.remove(reference);
            }
        }
        if !references.is_empty() {
            self.of.insert(subject.clone(), references);
        }
        changed
    }

    /// Who refers to it.
    pub(super) fn users<'a>(&'a self, reference: &Reference) -> impl Iterator<Item = &'a Subject> + use<'a> {
        self.users.get(reference).into_iter().flatten()
    }

    /// Whether anybody refers to it.
    pub(super) fn is_used(&self, reference: &Reference) -> bool {
        self.users.contains_key(reference)
    }
}
