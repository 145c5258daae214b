//! One `FailoverPolicy`: its meaning, the routes that use it, and the queue of its notifications.

mod notifications;

use super::action::ResourceRef;
use super::cached::{Cached, cache};
use super::lane::Lane;
use super::reconcile::Reconciled;
use super::status::Conditions;
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{FailoverPolicy, FailoverPolicyStatus, NotificationsStatus};
use mail_failover_core::model::{Notifications, Policy, ResourceVersion, Timestamp};
use mail_failover_notifications::delivery::{Deliveries, DeliveryState};
use mail_failover_notifications::group::Groups;
use mail_failover_resolve::{self as resolve, Rejection};
pub(super) use notifications::{MailWay, NotificationContext, content_of};

/// The API's bound on `status.routes`.
const MAX_ROUTES: usize = 100;

/// State of one policy.
#[derive(Debug, Default)]
pub(super) struct PolicyEntry {
    /// `None` once it is deleted.
    pub(super) object: Option<Cached<FailoverPolicy>>,
    resolved: Option<Result<Policy, Rejection>>,
    /// Last good version of its receivers.
    pub(super) notifications: Notifications,
    /// Defect of its receivers; everything else of it is in force.
    notifications_problem: Option<Rejection>,
    /// True once it was read afresh since this replica became the leader.
    pub(super) is_confirmed: bool,
    /// The queue of messages; `None` until it is restored from the status.
    pub(super) deliveries: Option<Deliveries>,
    /// Notifications of routes that are no message yet.
    pub(super) groups: Groups,
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
        let readable = self.object.as_ref().and_then(Cached::readable);
        if let Some(resolved) = readable.map(|object| resolve::notifications(object.spec.notifications.as_ref())) {
            self.notifications_problem = resolved.as_ref().err().cloned();
            self.notifications = resolved.unwrap_or_else(|_| std::mem::take(&mut self.notifications));
        }
        true
    }

    /// Returns true if it has receivers of notifications.
    pub(super) fn notifies(&self) -> bool {
        self.object.is_some() && !self.notifications.receivers.is_empty()
    }

    /// The status of its notifications, as far as is persisted.
    pub(super) fn persisted(&self) -> Option<&NotificationsStatus> {
        self.object.as_ref()?.readable()?.status.as_ref()?.notifications.as_ref()
    }

    /// Returns true if a message in its status tells a notification of a route.
    pub(super) fn has_taken(&self, id: &str) -> bool {
        let mut queue = self.persisted().into_iter().flat_map(|persisted| &persisted.queue);
        queue.any(|message| message.members.iter().any(|member| member == id))
    }

    /// Forgets what this process remembers of notifications: another leader may have gone on.
    pub(super) fn forget_notifications(&mut self) {
        self.is_confirmed = false;
        self.deliveries = None;
        self.groups.clear();
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
            Some(Ok(_)) | None => match &self.notifications_problem {
                Some(problem) => {
                    conditions.set(condition::READY, Some(false), problem.reason, &problem.message);
                    conditions.set_stalled(std::slice::from_ref(problem));
                }
                None => conditions.set(condition::READY, Some(true), reason::ACCEPTED, "accepted"),
            },
        }
        if let Some(deliveries) = self.deliveries.as_ref().filter(|_| self.notifies()) {
            set_notifications_delivered(&mut conditions, &deliveries.state(now));
        }
        let mut routes: Vec<_> = routes.map(|route| route.key.name.to_string()).collect();
        routes.sort();
        let status = FailoverPolicyStatus {
            observed_generation: Some(generation),
            route_count: Some(i32::try_from(routes.len()).unwrap_or(i32::MAX)),
            routes: routes.into_iter().take(MAX_ROUTES).collect(),
            notifications: self.notifications_status(),
            effective: self.resolved.as_ref().and_then(|resolved| resolved.as_ref().ok()).map(resolve::effective),
            conditions: conditions.build(),
        };
        let lane = if self.notifies() { Lane::Notifications } else { Lane::BackendStatus };
        cached.status_write(lane, &before, status).into()
    }

    fn notifications_status(&self) -> Option<NotificationsStatus> {
        let deliveries = self.deliveries.as_ref().filter(|_| self.notifies())?;
        Some(deliveries.status(&self.notifications.receivers))
    }
}

fn set_notifications_delivered(conditions: &mut Conditions<'_>, state: &DeliveryState) {
    let type_ = condition::NOTIFICATIONS_DELIVERED;
    match state {
        DeliveryState::Delivered => {
            conditions.set(type_, Some(true), reason::DELIVERED, "each receiver has taken what it was to be told");
        }
        DeliveryState::Pending(names) => {
            let message = format!("not taken yet: {}", names.join(", "));
            conditions.set(type_, None, reason::NOTIFICATION_PENDING, &message);
        }
        DeliveryState::Failing(failures) => {
            let messages: Vec<_> = failures.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            conditions.set(type_, Some(false), reason::NOTIFICATION_FAILING, &messages.join("; "));
        }
    }
}

/// Id of the test message that a person asks for in the annotation of a policy.
pub(super) fn test_request(entry: &PolicyEntry) -> Option<String> {
    resolve::test_request(entry.object.as_ref()?.readable()?)
}
