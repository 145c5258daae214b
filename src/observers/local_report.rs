//! Verdicts of this replica that the other replicas are told. No I/O, no clock.

use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::report::{BackendVerdicts, Extent, Namespaces, ObserverReport, Verdicts};
use mail_failover_core::model::{ObjectKey, ResourceVersion};

/// Verdicts of this replica about one backend from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendChange {
    /// The backend they are about.
    pub backend: ObjectKey,
    /// Every verdict about the backend if one of them is not Healthy; empty if nothing is known; `None` if it is
    /// healthy or gone.
    pub verdicts: Option<Verdicts>,
}

/// Verdicts of this replica, collected for the publisher. Cheap to clone, never waits. Its size is bounded by the
/// number of backends.
#[derive(Clone, Debug, Default)]
pub struct LocalReport(Arc<SharedReport>);

#[derive(Debug, Default)]
struct SharedReport {
    local_report: Mutex<ReportState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct ReportState {
    reported: BackendVerdicts,
    /// Namespaces in which a backend has not been observed yet; `None` if that is not known.
    awaited: Option<Namespaces>,
    /// Highest `resourceVersion` of the backends that this replica knows.
    known_up_to: Option<ResourceVersion>,
    /// Increases with every change.
    version: u64,
}

impl LocalReport {
    /// Takes the changes since the last call. `awaited` are the namespaces in which a backend has not been observed yet
    /// (`None` if that is not known), and `known_up_to` is the highest `resourceVersion` of the backends that are known.
    pub fn note(
        &self,
        changes: impl IntoIterator<Item = BackendChange>,
        awaited: Option<Namespaces>,
        known_up_to: Option<ResourceVersion>,
    ) {
        let mut local_report = self.lock();
        // No news by itself: a new backend is named until it is observed, and any other version waits for the renewal.
        local_report.known_up_to = known_up_to;
        let mut changed = local_report.awaited != awaited;
        local_report.awaited = awaited;
        for BackendChange { backend, verdicts } in changes {
            changed |= match (local_report.reported.entry(backend), verdicts) {
                (Entry::Vacant(_), None) => false,
                (Entry::Occupied(known), Some(verdicts)) if *known.get() == verdicts => false,
                (Entry::Occupied(known), None) => {
                    known.remove();
                    true
                }
                (entry, Some(verdicts)) => {
                    entry.insert_entry(verdicts);
                    true
                }
            };
        }
        if changed {
            local_report.version += 1;
            drop(local_report);
            self.0.changed.notify_one();
        }
    }

    /// Waits for a change after the last wait began.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The number of changes so far.
    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Returns the report as text with its extent, and the version it is of.
    pub(crate) fn report(&self) -> (String, Extent, u64) {
        let local_report = self.lock();
        let ReportState { reported, awaited, known_up_to, version: _ } = &*local_report;
        let (text, extent) = ObserverReport::of(awaited.as_ref(), reported, known_up_to.as_ref());
        (text, extent, local_report.version)
    }

    fn lock(&self) -> MutexGuard<'_, ReportState> {
        // No user of the lock can leave the report half changed.
        self.0.local_report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{key, verdicts};
    use super::*;
    use mail_failover_core::engine::Health;

    #[test]
    fn only_what_changes_something_is_news() {
        let local_report = LocalReport::default();
        let unhealthy = || Some(verdicts("3/3", Health::Unhealthy));
        for (what, verdicts, is_complete, is_news) in [
            ("a healthy backend", None, false, false),
            ("one that is not observed", Some(Verdicts::new()), false, true),
            ("the same", Some(Verdicts::new()), false, false),
            ("one that fails", unhealthy(), false, true),
            ("the same", unhealthy(), false, false),
            ("everything is observed", unhealthy(), true, true),
            ("it recovers", None, true, true),
            ("the same", None, true, false),
        ] {
            let before = local_report.version();
            let awaited = is_complete.then(Namespaces::new);
            local_report.note([BackendChange { backend: key("ses"), verdicts }], awaited, None);
            assert_eq!(local_report.version() != before, is_news, "{what}");
        }
        assert_eq!(local_report.report().1, Extent::Complete { verdicts: 0, awaited: 0, crowded: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_before_the_wait_is_not_missed() {
        let local_report = LocalReport::default();
        local_report.note([], Some(Namespaces::new()), None);
        tokio::time::timeout(std::time::Duration::from_secs(1), local_report.changed()).await.expect("it has changed");
        let again = tokio::time::timeout(std::time::Duration::from_secs(1), local_report.changed()).await;
        assert!(again.is_err(), "nothing has changed since");
    }
}
