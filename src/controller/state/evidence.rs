//! Evidence about backends: reports of probes, and the verdicts that statuses remember.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ControllerState;
use crate::controller::action::ResourceRef;
use crate::controller::backend::{ProbeChange, RoundNews, is_status_of_present_place};
use crate::controller::cached::Cached;
use crate::controller::references::Reference;
use mail_failover_core::engine::DELIVERIES;
use mail_failover_core::model::{ObjectKey, ProbeReport, Timestamp};
use mail_failover_resolve as resolve;

impl ControllerState {
    /// Restores the verdicts about a backend from status.
    /// Before the first observation it restores all of them; after it only the times since which equal verdicts stand.
    // ADR-0029: A new replica votes by status until its probes disagree.
    // So a soak continues, and a change of leaders writes nothing.
    pub(super) fn adopt_persisted(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(entry) = self.backends.get_mut(key) else { return };
        self.peers.mark(key);
        let object = entry.object.as_ref().and_then(Cached::readable);
        // A verdict about another host says nothing of this one.
        let status =
            object.filter(|object| is_status_of_present_place(object)).and_then(|object| object.status.clone());
        let users = self.references.users(&Reference::Backend(key.clone()));
        let cooldown = users.filter_map(|user| Some(self.routes.get(&user.key)?.cooldown())).max().unwrap_or_default();
        for probe in status.iter().flat_map(|status| &status.probes) {
            match resolve::persisted_probe(probe) {
                Some(judgement) if probe.name == DELIVERIES => {
                    let stage = resolve::persisted_stage(probe);
                    entry.evidence.adopt_deliveries(&judgement, stage, cooldown, now);
                }
                Some(judgement) => entry.evidence.adopt_probe(&probe.name, &judgement, now),
                None => {}
            }
        }
        if status.is_none() {
            return;
        }
        for user in self.references.users(&Reference::Backend(key.clone())) {
            let Some(route) = self.routes.get(&user.key) else { continue };
            let verdicts = route.status().map(|status| status.backends.as_slice()).unwrap_or_default();
            let of_backend = verdicts.iter().find(|verdict| *verdict.name == *key.name);
            if let Some(judgement) = of_backend.and_then(|of| resolve::persisted_verdict(of, status.as_ref())) {
                entry.evidence.adopt_verdict(route.thresholds(), &judgement, self.settings.lease_duration, now);
            }
        }
    }

    pub(super) fn handle_report(&mut self, now: Timestamp, report: &ProbeReport) {
        let key = &report.key.backend;
        let Some(entry) = self.backends.get_mut(key) else { return };
        let RoundNews { is_changed, began_to_fail } = entry.observe(report, now);
        self.mark_failing_neighbours(key);
        if began_to_fail {
            self.look_at_standbys(key);
        }
        if is_changed {
            self.peers.mark(key);
            self.requeue_users(&Reference::Backend(key.clone()));
            self.queue.add(ResourceRef::backend(key));
            return;
        }
        for user in self.references.users(&Reference::Backend(key.clone())) {
            if self.routes.get(&user.key).is_some_and(|route| route.awaits_answer) {
                self.queue.add(user.clone());
            }
        }
    }

    /// Looks at the backends that could take over from one that fails, so that they have answered by the time that they
    /// are needed.
    // ADR-0015: A standby must have answered since the failure began.
    fn look_at_standbys(&mut self, failing: &ObjectKey) {
        let mut standbys = BTreeSet::new();
        for user in self.references.users(&Reference::Backend(failing.clone())) {
            let Some(route) = self.routes.get(&user.key) else { continue };
            let members = route.usable.iter().flat_map(|usable| &usable.backends).map(|member| member.name.clone());
            standbys.extend(members.filter(|name| *name != failing.name));
        }
        self.look_at(failing, &standbys);
    }

    /// Looks at backends beside their interval. `beside` is an object of their namespace.
    pub(super) fn look_at<'a>(&mut self, beside: &ObjectKey, backends: impl IntoIterator<Item = &'a Arc<str>>) {
        for name in backends {
            let key = beside.sibling(name.clone());
            if let Some(entry) = self.backends.get(&key) {
                self.pending.probes.extend(entry.probe_keys(&key).map(ProbeChange::Look));
            }
        }
    }
}
