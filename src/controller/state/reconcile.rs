//! Reconcile of one resource, and the beginning of what it finds to do.

use super::lane_queue::Urgency;
use super::{ControllerState, entry_age};
use crate::controller::action::{Action, ResourceKind, ResourceRef};
use crate::controller::backend::BackendContext;
use crate::controller::lane::{Lane, Slot};
use crate::controller::reconcile::{PlannedAction, Publishing, Reconciled};
use crate::controller::references::Reference;
use crate::controller::route::RouteContext;
use mail_failover_api::{FailoverPolicyStatus, Health, MailRouteStatus, SendingBackendStatus};
use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_resolve::time::timestamp;

/// The status that a resource has once its action is done.
#[derive(Debug)]
pub(super) enum PendingStatus {
    Policy(Box<FailoverPolicyStatus>),
    /// With the health before the write.
    // The watch event of our write can arrive before its response.
    Backend {
        before: Option<Health>,
        after: Box<SendingBackendStatus>,
    },
    /// With the status before the write.
    Route {
        before: Box<Option<MailRouteStatus>>,
        after: Box<MailRouteStatus>,
    },
}

impl ControllerState {
    pub(super) fn reconcile(&mut self, now: Timestamp, resource: &ResourceRef) {
        if let Some(until) = self.queue.paused_until(now, resource, Slot::Write) {
            self.queue.set_timer(resource, until);
            return;
        }
        if let Some((identity, unreadable)) = self.unreadable(resource) {
            return self.report_unreadable(now, resource, &identity, &unreadable);
        }
        match resource.kind {
            ResourceKind::Policy => self.reconcile_policy(now, resource),
            ResourceKind::Backend => self.reconcile_backend(now, resource),
            ResourceKind::Route => self.reconcile_route(now, resource),
        }
    }

    fn reconcile_policy(&mut self, now: Timestamp, resource: &ResourceRef) {
        if self.yields_in(&resource.key.namespace) {
            return;
        }
        let to_tell = self.to_tell(&resource.key);
        // Taken out of the map, so that it may change while the rest of the state is read.
        let Some(mut entry) = self.policies.remove(&resource.key) else { return };
        let mut next_timeout = None;
        if entry.notifies() {
            if !entry.is_confirmed {
                self.policies.insert(resource.key.clone(), entry);
                // The watch may lag behind what an earlier leader has told.
                let confirm = PlannedAction::new(Lane::Notifications, Action::Confirm);
                return self.begin_next(now, resource, confirm.into(), PendingStatus::Policy);
            }
            let grouped_at = self.queue_messages(now, &resource.key, &mut entry, &to_tell);
            let called_at = self.begin_notification_calls(now, resource, &mut entry, &to_tell);
            next_timeout = grouped_at.into_iter().chain(called_at).min();
        }
        let users = self.references.users(&Reference::Policy(resource.key.clone()));
        let reconciled = entry.reconcile(users, now).and_at(next_timeout);
        self.policies.insert(resource.key.clone(), entry);
        self.begin_next(now, resource, reconciled, PendingStatus::Policy);
    }

    fn reconcile_backend(&mut self, now: Timestamp, resource: &ResourceRef) {
        let is_another_to_write = self.yields_in(&resource.key.namespace);
        let Some(entry) = self.backends.get(&resource.key) else { return };
        let before = entry.health();
        let mut reconciled = entry.reconcile(&BackendContext {
            now,
            resource,
            instance: &self.settings.instance,
            publishing: self.publishing(now, resource),
        });
        if is_another_to_write {
            reconciled.action = None;
        }
        let is_idle = reconciled.action.is_none();
        self.begin_next(now, resource, reconciled, |after| PendingStatus::Backend { before, after });
        if let Some(until) = self.queue.paused_until(now, resource, Slot::Job) {
            self.queue.set_timer(resource, until);
        } else if is_idle && !self.queue.is_under_way(resource, Slot::Job) {
            match self.run_job(now, resource) {
                Some(action) => {
                    self.begin_or_wait(now, resource, Lane::Jobs, action, None);
                }
                None => self.queue.leave(resource, Slot::Job),
            }
        }
    }

    fn reconcile_route(&mut self, now: Timestamp, resource: &ResourceRef) {
        // Taken out of the map, so that it may change while the rest of the state is read.
        let Some(mut entry) = self.routes.remove(&resource.key) else { return };
        let age = entry_age(&entry);
        let before = Box::new(entry.status().cloned());
        let loops = self.loops(&resource.key, &entry);
        let bypassed_by_agents = self.bypassed_by_agents(now, &resource.key, &entry);
        let is_mail_stuck = self.is_mail_stuck(now, resource);
        let drill = self.drill_context(now, &resource.key, &entry);
        let yielded = self.yields_in(&resource.key.namespace);
        let installations = self.look_at_installations(now, &resource.key, &entry);
        if yielded && !self.yields_in(&resource.key.namespace) {
            self.requeue_namespace(&resource.key.namespace);
        }
        let (agents, senders) = self.senders(now, &resource.key, &entry);
        let has_only_relays = self.has_only_relays(now, &resource.key, &entry);
        let notifying = self.notifying_policy(&resource.key, &entry).and_then(|key| self.policies.get(&key));
        let is_taken = |id: &str| notifying.is_some_and(|policy| policy.has_taken(id));
        let reconciled = entry.reconcile(&RouteContext {
            now,
            drift: self.drift,
            resource,
            instance: &self.settings.instance,
            dns_owner: &self.settings.dns_owner,
            publishing: self.publishing(now, resource),
            backends: &self.backends,
            observed: &self.observed,
            guard: &self.settings.guard,
            is_storm: self.peers.is_storm(&resource.key.namespace, entry.thresholds()),
            operators: self.agents.operators(),
            agents,
            has_only_relays,
            senders: &senders,
            loops: &loops,
            bypassed_by_agents: &bypassed_by_agents,
            dependencies: &self.dependencies,
            is_mail_stuck,
            drill: &drill,
            installations: &installations,
            is_taken: notifying.is_some().then_some(&is_taken as &dyn Fn(&str) -> bool),
            rival: &|key| self.rival(&resource.key, &age, key),
            dns_rival: &|output| self.dns_rival(&resource.key, &age, output),
        });
        self.note_drill(resource, &entry);
        let standbys = entry.standbys_to_look_at(now, self.random.f64());
        self.look_at(&resource.key, &standbys);
        let reconciled = reconciled.and_at(entry.next_look());
        let calls = entry.webhooks_mut().take_planned();
        let dns_calls = entry.dns_mut().take_planned();
        self.routes.insert(resource.key.clone(), entry);
        self.begin_webhook_calls(resource, calls);
        self.begin_dns_calls(resource, dns_calls);
        self.begin_next(now, resource, reconciled, |after| PendingStatus::Route { before, after });
    }

    /// The Events of a resource that are being published.
    pub(super) fn publishing(&self, now: Timestamp, resource: &ResourceRef) -> Publishing {
        Publishing {
            is_under_way: self.queue.is_under_way(resource, Slot::Events),
            has_failed: self.queue.has_failed(resource, Slot::Events),
            paused_until: self.queue.paused_until(now, resource, Slot::Events),
        }
    }

    /// Begins what a reconcile found to do, as far as its lane has room, and sets the timer of the next one.
    fn begin_next<S>(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        reconciled: Reconciled<S>,
        status: impl FnOnce(Box<S>) -> PendingStatus,
    ) {
        let Reconciled { action, publication, next_timeout } = reconciled;
        if let Some(at) = next_timeout {
            self.queue.set_timer(resource, at);
        }
        let mut is_published_now = false;
        if let Some(publication) = publication {
            is_published_now = self.begin_or_wait(now, resource, Lane::Events, publication, None);
        } else {
            self.queue.leave(resource, Slot::Events);
        }
        // The rest of a route's status waits for its Events, so that one write says all; but not
        // for a second attempt, and not for their turn.
        let is_first_attempt = is_published_now && !self.queue.has_failed(resource, Slot::Events);
        match action.filter(|planned| !(is_first_attempt && planned.lane == Lane::RouteStatus)) {
            Some(planned) => {
                let has_failed = self.queue.has_failed(resource, Slot::Write);
                let lane = if has_failed { planned.lane.after_failure() } else { planned.lane };
                self.begin_or_wait(now, resource, lane, planned.action, planned.status.map(status));
            }
            None => self.queue.leave(resource, Slot::Write),
        }
    }

    /// Begins an action if its lane has room; lets the resource wait there otherwise. Returns true if it began.
    pub(super) fn begin_or_wait(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        lane: Lane,
        action: Action,
        status: Option<PendingStatus>,
    ) -> bool {
        if let Some((until, is_new)) = self.queue.put_off_until(now, resource, lane) {
            if is_new {
                self.metrics.put_off(lane);
            }
            self.queue.leave(resource, lane.slot());
            self.queue.set_timer(resource, until);
            return false;
        }
        if self.queue.has_room(now, resource, lane) {
            self.pending.actions.push(self.queue.begin(now, resource, lane, action, status));
            return true;
        }
        let urgency = self.urgency(now, resource, lane);
        if self.queue.wait(resource, lane, urgency) {
            self.metrics.limit_reached(lane);
        }
        false
    }

    /// Urgency of an action among those of its namespace.
    fn urgency(&self, now: Timestamp, resource: &ResourceRef, lane: Lane) -> Urgency {
        let moves_mail = matches!(lane, Lane::Outputs | Lane::Decision);
        let since = moves_mail.then(|| self.endangered_since(now, &resource.key)).flatten();
        since.map_or(Urgency::Usual, Urgency::Since)
    }

    /// The due routes whose mail is in danger, the oldest danger first.
    // In the order of their keys who is early in the alphabet would be saved first, each time.
    pub(super) fn endangered_routes(&self, now: Timestamp) -> Vec<ResourceRef> {
        let mut endangered = vec![];
        for resource in self.queue.due_routes() {
            if let Some(since) = self.endangered_since(now, &resource.key) {
                endangered.push((since, resource.clone()));
            }
        }
        endangered.sort();
        endangered.into_iter().map(|(_, resource)| resource).collect()
    }

    /// Time of the first evidence against a backend that a route's mail goes to; while a switch is not applied also of
    /// the evidence behind it. `None` without any.
    fn endangered_since(&self, now: Timestamp, route: &ObjectKey) -> Option<Timestamp> {
        let entry = self.routes.get(route)?;
        let status = entry.status()?;
        let switch = status.last_transition.as_ref().filter(|last| last.applied_at.is_none());
        let of_switch = switch.and_then(|last| last.first_evidence_at.as_ref()).map(timestamp);
        let of_active = status.active.iter().filter_map(|active| {
            let backend = self.backends.get(&route.sibling(active.backend.as_str()))?;
            backend.evidence.verdict(entry.thresholds(), now)?.first_failure_at
        });
        of_switch.into_iter().chain(of_active).min()
    }
}
