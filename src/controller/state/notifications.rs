//! Notifications: from what routes have to tell to messages in the statuses of policies, and from there to calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ControllerState;
use crate::controller::action::ResourceRef;
use crate::controller::backend::BackendEntry;
use crate::controller::policy::{MailWay, NotificationContext, PolicyEntry, content_of, test_request};
use crate::controller::references::Reference;
use crate::controller::route::{Retold, RouteEntry};
use crate::controller::secrets::SecretKey;
use crate::notification::{NotificationCall, NotificationResult};
use mail_failover_api::{Health, MailRouteStatus, PendingNotification};
use mail_failover_core::model::{ObjectKey, Occasion, Receiver, ReceiverKind, Timestamp};
use mail_failover_notifications::delivery::{Deliveries, PlannedDelivery};
use mail_failover_notifications::format::OngoingAlert;
use mail_failover_notifications::group::test_message;
use mail_failover_notifications::secret::NotificationSecret;
use mail_failover_resolve::time::timestamp;
use mail_failover_resolve::{LoginKey, Lookup, receiver_ca_key};

/// Bound on the calls under way, over all namespaces.
pub(super) const MAX_CALLS: usize = 32;

/// Pending notifications and ongoing alerts of the routes of a policy.
#[derive(Debug, Default)]
pub(super) struct ToTell {
    /// Outstanding notifications of routes, with true for one that was read afresh.
    pending: Vec<(ObjectKey, bool, Vec<PendingNotification>)>,
    ongoing: Vec<OngoingAlert>,
    /// Ongoing alerts of any route, told or not.
    lasting: BTreeSet<(String, Option<String>)>,
    /// Time that mail of each of these routes has waited at its latest transition.
    waited: BTreeMap<ObjectKey, Duration>,
}

impl ControllerState {
    /// The policy whose receivers are told of a route: its own, or the one that the installation names for all.
    pub(super) fn notifying_policy(&self, route: &ObjectKey, entry: &RouteEntry) -> Option<ObjectKey> {
        let own = entry.policy_name().map(|name| route.sibling(name));
        let default = self.settings.default_notifications.clone();
        let notifies = |key: &ObjectKey| self.policies.get(key).is_some_and(PolicyEntry::notifies);
        own.filter(notifies).or(default.filter(notifies))
    }

    /// Says if the policy that the installation names for all cannot be used: then nobody hears of routes without
    /// receivers of their own.
    // There is no object that could have a condition.
    pub(super) fn note_default_notifications(&self) {
        let Some(key) = self.settings.default_notifications.as_ref().filter(|_| self.is_synced()) else { return };
        let policy = self.policies.get(key);
        let is_unusable = !policy.is_some_and(PolicyEntry::notifies);
        if !self.metrics.notifications.set_default_unusable(is_unusable) {
            return;
        }
        let ObjectKey { namespace, name } = key;
        if !is_unusable {
            tracing::info!(%namespace, %name, "the policy of --default-notifications has receivers again");
        } else if policy.is_some() {
            tracing::warn!(%namespace, %name, "the policy of --default-notifications has no receivers: nobody is told of routes without their own; give it spec.notifications");
        } else {
            tracing::warn!(%namespace, %name, "the policy of --default-notifications does not exist: nobody is told of routes without their own; create it, or name another one");
        }
    }

    /// Takes note of what a route has to tell now.
    pub(super) fn note_notifications(&mut self, route: &ObjectKey) {
        let entry = self.routes.get(route);
        let has_pending = entry.and_then(RouteEntry::status).is_some_and(|one| !one.pending_notifications.is_empty());
        let is_news = if has_pending {
            self.routes_to_tell.insert(route.clone());
            true
        } else {
            self.routes_to_tell.remove(route)
        };
        if is_news && let Some(policy) = entry.and_then(|entry| self.notifying_policy(route, entry)) {
            self.queue.add(ResourceRef::policy(&policy));
        }
    }

    /// Reconciles the routes that may drop what a policy's messages tell now.
    pub(super) fn requeue_routes_told_by(&mut self, policy: &ObjectKey) {
        for route in &self.routes_to_tell {
            let Some(entry) = self.routes.get(route) else { continue };
            if self.notifying_policy(route, entry).as_ref() == Some(policy) {
                self.queue.add(ResourceRef::route(route));
            }
        }
    }

    /// Reconciles the policies that send mail by a backend.
    pub(super) fn refresh_mailing_policies(&mut self, backend: &ObjectKey) {
        let of_namespace = self.policies.iter().filter(|(key, _)| key.namespace == backend.namespace);
        let mailing = of_namespace.filter(|(_, entry)| mails_by(entry, &backend.name));
        for key in mailing.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.refresh_receivers(&key);
        }
    }

    /// Reads what the receivers of a policy need.
    pub(super) fn refresh_receivers(&mut self, key: &ObjectKey) {
        let resource = ResourceRef::policy(key);
        let mut references = BTreeSet::new();
        for receiver in self.policies.get(key).iter().flat_map(|entry| &entry.notifications.receivers) {
            let secret = receiver.secret.as_ref().map(|name| key.sibling(name.clone()));
            let secret = secret.map(|name| Reference::Secret(SecretKey::of::<NotificationSecret>(name)));
            references.extend(secret.into_iter().chain(receiver_ca_key(key, receiver).map(Reference::Ca)));
            let ReceiverKind::Mail { backends, .. } = &receiver.kind else { continue };
            for backend in backends {
                let usable = self.backends.get(&key.sibling(backend.clone())).and_then(|entry| entry.usable.as_deref());
                let login = usable.and_then(|usable| usable.secret.clone());
                references.extend(login.map(|login| Reference::Login(LoginKey::beside(key, &login))));
            }
        }
        self.set_references(&resource, references);
        self.queue.add(resource);
    }

    /// The pending notifications of the routes of a policy, and their ongoing alerts, if a receiver can be told of those.
    pub(super) fn to_tell(&self, policy: &ObjectKey) -> ToTell {
        let mut to_tell = ToTell::default();
        for key in &self.routes_to_tell {
            let Some(entry) = self.routes.get(key) else { continue };
            let Some(status) = entry.status() else { continue };
            if self.notifying_policy(key, entry).as_ref() != Some(policy) {
                continue;
            }
            to_tell.waited.extend(waited(status).map(|waited| (key.clone(), waited)));
            to_tell.pending.push((key.clone(), entry.is_confirmed, status.pending_notifications.clone()));
        }
        let receivers = self.policies.get(policy).map(|entry| entry.notifications.receivers.as_slice());
        let mut receivers = receivers.unwrap_or_default().iter();
        if receivers.any(|receiver| receiver.kind.knows_resolving()) {
            self.add_ongoing(policy, &mut to_tell);
        }
        to_tell
    }

    /// Adds what lasts for the routes of a policy.
    fn add_ongoing(&self, policy: &ObjectKey, to_tell: &mut ToTell) {
        let mut alerts: BTreeMap<(Occasion, Option<String>), OngoingAlert> = BTreeMap::new();
        for (key, entry) in &self.routes {
            let Some(status) = entry.status().filter(|status| !status.ongoing.is_empty()) else { continue };
            if self.notifying_policy(key, entry).as_ref() != Some(policy) {
                continue;
            }
            for one in &status.ongoing {
                to_tell.lasting.insert((one.occasion.clone(), one.backend.clone()));
                // It is told when it was not over by then.
                let is_untold = status.pending_notifications.iter().any(|pending| {
                    pending.about.as_ref() == Some(&one.occasion) && pending.backend == one.backend && !pending.resolved
                });
                let Ok(about) = one.occasion.parse::<Occasion>() else { continue };
                if is_untold {
                    continue;
                }
                let since = timestamp(&one.since);
                let Retold { why, to } = Retold::of(status, one, |name, reason| self.words(&key.sibling(name), reason));
                let alert = alerts
                    .entry((about, one.backend.clone()))
                    .or_insert_with(|| OngoingAlert::new(about, one.backend.clone(), since));
                alert.add(key, since, why, to);
            }
        }
        to_tell.ongoing = alerts.into_values().collect();
    }

    /// What a backend answers, by its status, while it fails for a reason.
    fn words(&self, backend: &ObjectKey, reason: &str) -> Option<String> {
        let status = self.backends.get(backend)?.object.as_ref()?.readable()?.status.as_ref()?;
        let is_reason = status.reason.as_deref() == Some(reason);
        status.message.clone().filter(|message| is_reason && !message.is_empty())
    }

    /// Makes messages of what routes have to tell. Returns the time at which more may be one.
    pub(super) fn queue_messages(
        &self,
        now: Timestamp,
        policy: &ObjectKey,
        entry: &mut PolicyEntry,
        to_tell: &ToTell,
    ) -> Option<Timestamp> {
        let restored = entry.deliveries.take().unwrap_or_else(|| Deliveries::restored(entry.persisted()));
        let test = test_request(entry);
        let receivers = entry.notifications.receivers.clone();
        let (groups, deliveries) = (&mut entry.groups, entry.deliveries.insert(restored));
        let mut next_timeout: Option<Timestamp> = None;
        let pending = || to_tell.pending.iter().flat_map(|(_, _, pending)| pending);
        let ids: BTreeSet<_> = pending().map(|one| one.id.as_str()).collect();
        self.metrics.notifications.dropped(deliveries.tidy(now, &receivers, |member| ids.contains(member)));
        groups.retain(|id| ids.contains(id));
        for (route, is_confirmed, pending) in &to_tell.pending {
            for one in pending.iter().filter(|one| *is_confirmed && !deliveries.tells(&one.id)) {
                let at = timestamp(&one.at);
                if at <= now {
                    groups.add(now, route, one);
                } else {
                    next_timeout = next_timeout.into_iter().chain([at]).min();
                }
            }
        }
        while groups.next_timeout().is_some_and(|at| at <= now) {
            self.metrics.notifications.dropped(deliveries.make_room());
            if deliveries.is_full() {
                // Room is made when routes drop what is told.
                return next_timeout;
            }
            if let Some(mut message) = groups.close(now, policy, |route| to_tell.waited.get(route).copied()) {
                let subject = message.about.clone().map(|about| (about, message.backend.clone()));
                // It ends with the last route that has it.
                if message.resolved && subject.is_some_and(|subject| to_tell.lasting.contains(&subject)) {
                    message.incident = None;
                }
                deliveries.push(message, &receivers);
            }
        }
        if let Some(test) = test {
            deliveries.test(now, &test, test_message(now, policy, &test), &receivers);
        }
        next_timeout.into_iter().chain(groups.next_timeout()).min()
    }

    /// Begins the calls of a policy as far as there are places. Returns the time at which more may be possible.
    pub(super) fn begin_notification_calls(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        entry: &mut PolicyEntry,
        to_tell: &ToTell,
    ) -> Option<Timestamp> {
        let persisted = entry.persisted().cloned();
        let receivers = entry.notifications.receivers.clone();
        let deliveries = entry.deliveries.as_mut()?;
        let lasts = |receiver: &Receiver| to_tell.ongoing.iter().any(|one| one.is_wanted_by(receiver));
        let (planned, mut next_timeout) = deliveries.plan(now, &receivers, persisted.as_ref(), lasts);
        let mut waits = false;
        for planned in planned {
            let Some(receiver) = receivers.iter().find(|receiver| receiver.name == planned.receiver) else { continue };
            let cx = NotificationContext {
                now,
                policy: &resource.key,
                notifications: &entry.notifications,
                dependencies: &self.dependencies,
                ongoing: &to_tell.ongoing,
                way: &|backends| self.way(&resource.key, backends),
            };
            let content = match content_of(&cx, receiver, planned.message.as_ref()) {
                Ok(Some(content)) => content,
                // The answer to its read comes here again.
                Ok(None) => continue,
                Err(rejection) => {
                    let random = self.random.f64();
                    deliveries.not_begun(now, random, &planned, &rejection.message);
                    next_timeout = next_timeout.into_iter().chain([now + Duration::from_secs(1)]).min();
                    continue;
                }
            };
            let Some(number) = self.notification_calls.begin(resource) else {
                self.notification_calls.wait(resource);
                waits = true;
                break;
            };
            deliveries.begun(number, &planned);
            let kind = receiver.kind.as_str();
            let PlannedDelivery { receiver, message, is_repeated } = planned;
            if is_repeated {
                self.metrics.notifications.repeated(kind);
            }
            let id = message.map_or_else(|| "ongoing".to_owned(), |message| message.id);
            let policy = resource.key.clone();
            self.pending.notification_calls.push(NotificationCall { number, policy, receiver, kind, id, content });
        }
        if !waits {
            self.notification_calls.leave(resource);
        }
        next_timeout
    }

    /// The first of some backends beside a policy that can deliver.
    fn way(&self, policy: &ObjectKey, backends: &[Arc<str>]) -> Option<MailWay> {
        let mut entries =
            backends.iter().filter_map(|name| Some((name, self.backends.get(&policy.sibling(name.clone()))?)));
        let (name, usable) = entries.find_map(|(name, entry)| Some((name, in_service(entry)?)))?;
        let login = usable.secret.as_ref().map(|secret| self.dependencies.login(&LoginKey::beside(policy, secret)));
        Some(MailWay { backend: name.clone(), destination: usable.destination.clone(), tls: usable.tls.clone(), login })
    }

    /// Takes the end of a call into account.
    pub(super) fn handle_notification_result(&mut self, now: Timestamp, result: &NotificationResult) {
        let NotificationResult { number, policy: _, receiver, outcome } = result;
        let Some((policy, next)) = self.notification_calls.end(*number) else { return };
        self.queue.extend(next);
        let random = self.random.f64();
        if let Some(deliveries) = self.policies.get_mut(&policy.key).and_then(|entry| entry.deliveries.as_mut()) {
            self.metrics.notifications.dropped(deliveries.ended(now, random, *number, receiver, outcome));
        }
        self.queue.add(policy);
    }
}

fn mails_by(entry: &PolicyEntry, backend: &Arc<str>) -> bool {
    let mut receivers = entry.notifications.receivers.iter();
    receivers
        .any(|receiver| matches!(&receiver.kind, ReceiverKind::Mail { backends, .. } if backends.contains(backend)))
}

/// A backend that is Healthy and not suspended.
fn in_service(entry: &BackendEntry) -> Option<&mail_failover_core::model::Backend> {
    let usable = entry.usable.as_deref().filter(|usable| !usable.suspended)?;
    (entry.health() == Some(Health::Healthy)).then_some(usable)
}

/// Time from the first evidence of the latest transition until mail left again, as far as is known.
fn waited(status: &MailRouteStatus) -> Option<Duration> {
    let last = status.last_transition.as_ref()?;
    let over = last.first_delivery_at.as_ref().or(last.applied_at.as_ref())?;
    Some(timestamp(over).since(timestamp(last.first_evidence_at.as_ref()?)))
}
