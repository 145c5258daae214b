//! Changes of custom resources, and their effect on the resources that refer to them.

use std::collections::BTreeSet;

use super::{ControllerState, cached};
use crate::controller::action::ResourceRef;
use crate::controller::cached::cache;
use crate::controller::policy::PolicyEntry;
use crate::controller::references::Reference;
use crate::controller::route::RouteEntry;
use crate::controller::secrets::SecretKey;
use crate::watch::Change;
use mail_failover_api::conditions::reason;
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::{DnsProvider, ObjectKey, Policy, Thresholds, Timestamp};
use mail_failover_dns::api::DnsApiSecret;
use mail_failover_dns::tsig::TsigKey;
use mail_failover_resolve::{Rejection, ca_key, dns_ca_key, login_key, webhook_ca_key};
use mail_failover_webhook::secret::WebhookSecret;

impl ControllerState {
    pub(super) fn handle_backend(&mut self, now: Timestamp, change: Change<SendingBackend>) {
        let (key, object) = cached(change);
        let Some(object) = object else { return self.backend_deleted(&key) };
        let is_synced = self.is_synced();
        let version = &object.identity().resource_version;
        self.peers.note_version(version);
        let entry = self.backends.entry(key.clone()).or_default();
        if is_synced && entry.object.is_none() {
            entry.appeared_at = Some(version.clone());
            self.peers.appeared(now, &key);
        }
        if let Some(object) = object.readable()
            && let Some(status) = &object.status
        {
            self.metrics.show_backend(&key, status, object.spec.suspended.unwrap_or(false));
        }
        if cache(&mut entry.object, object) && is_synced {
            self.refresh_backend(now, &key);
        }
    }

    fn backend_deleted(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.backends.get_mut(key) {
            entry.object = None;
            self.peers.mark(key);
        }
        self.metrics.forget_backend(key);
        self.forget_refusals_of(key);
        self.set_references(&ResourceRef::backend(key), BTreeSet::new());
        self.requeue_users(&Reference::Backend(key.clone()));
        self.forget_work(&ResourceRef::backend(key));
        self.drop_unneeded_backend(key);
    }

    /// Forgets what is to be done for a resource that is gone.
    fn forget_work(&mut self, resource: &ResourceRef) {
        self.queue.forget(resource);
        self.webhook_calls.leave(resource);
        self.dns_calls.leave(resource);
        self.notification_calls.leave(resource);
        self.reported.remove(resource);
    }

    /// Forgets a deleted backend, unless the mail of a route goes there.
    pub(super) fn drop_unneeded_backend(&mut self, key: &ObjectKey) {
        if self.backends.get(key).is_none_or(|entry| entry.object.is_some()) {
            return;
        }
        let mut users = self.references.users(&Reference::Backend(key.clone()));
        let carries_mail = users.any(|user| self.routes.get(&user.key).is_some_and(|route| route.carries(&key.name)));
        if !carries_mail && let Some(entry) = self.backends.remove(key) {
            self.peers.mark(key);
            self.pending.probes.extend(entry.all_probes_gone(key));
        }
    }

    /// Interprets a backend again: its spec or an object that it refers to has changed.
    pub(super) fn refresh_backend(&mut self, now: Timestamp, key: &ObjectKey) {
        let resource = ResourceRef::backend(key);
        let spec = self.backends.get(key).and_then(|entry| Some(entry.object.as_ref()?.readable()?.spec.clone()));
        if let Some(spec) = spec {
            let ca = ca_key(key, &spec).map(Reference::Ca);
            let service = spec.service.as_ref().map(|service| Reference::Service(key.sibling(service.name.as_str())));
            let login = login_key(key, &spec).map(Reference::Login);
            self.set_references(&resource, ca.into_iter().chain(service).chain(login).collect());
        }
        if let Some(entry) = self.backends.get_mut(key) {
            entry.resolve(key, &self.dependencies, self.peers.replicas(), now);
        }
        self.track(now, key);
        if let Some(entry) = self.backends.get_mut(key) {
            self.pending.probes.extend(entry.probe_changes(key));
        }
        self.handle_ends_of_jobs(now, key);
        self.peers.mark(key);
        self.requeue_users(&Reference::Backend(key.clone()));
        self.refresh_mailing_policies(key);
        self.queue.add(resource);
    }

    /// Judges a backend by the thresholds of the routes that use it; by the defaults when none does.
    fn track(&mut self, now: Timestamp, key: &ObjectKey) {
        let users = self.references.users(&Reference::Backend(key.clone()));
        let mut thresholds: BTreeSet<_> =
            users.filter_map(|user| self.routes.get(&user.key)).map(RouteEntry::thresholds).collect();
        let is_used = !thresholds.is_empty();
        if !is_used {
            thresholds.insert(Thresholds::default());
        }
        let Some(entry) = self.backends.get_mut(key) else { return };
        let is_changed = entry.set_used(is_used);
        let is_tracked_anew = entry.track(&thresholds, now);
        if is_changed || is_tracked_anew {
            entry.tell_targets_again();
            self.pending.probes.extend(entry.probe_changes(key));
        }
        if is_tracked_anew {
            self.peers.mark(key);
            self.queue.add(ResourceRef::backend(key));
        }
    }

    pub(super) fn handle_policy(&mut self, now: Timestamp, change: Change<FailoverPolicy>) {
        let (key, object) = cached(change);
        let resource = ResourceRef::policy(&key);
        match object {
            None => {
                self.policies.remove(&key);
                self.metrics.forget_policy(&key);
                self.metrics.notifications.forget_policy(&key);
                self.set_references(&resource, BTreeSet::new());
                self.forget_work(&resource);
            }
            Some(object) => {
                if let Some(status) = object.readable().and_then(|object| object.status.as_ref()) {
                    self.metrics.notifications.show_policy(&key, status);
                    self.metrics.show_policy(&key, status);
                }
                let entry = self.policies.entry(key.clone()).or_default();
                if !entry.cache(object) {
                    return;
                }
            }
        }
        if self.is_synced() {
            self.refresh_receivers(&key);
            self.note_default_notifications();
            if self.settings.default_notifications.as_ref() == Some(&key) {
                self.queue.extend(self.routes.keys().map(ResourceRef::route));
            }
            self.requeue_routes_told_by(&key);
            for user in self.users(&Reference::Policy(key)) {
                self.refresh_policy_of(now, &user.key);
            }
        }
    }

    pub(super) fn handle_route(&mut self, now: Timestamp, change: Change<MailRoute>) {
        let (key, object) = cached(change);
        let Some(object) = object else { return self.route_deleted(now, &key) };
        let uid = object.uid().clone();
        if self.routes.get(&key).and_then(|entry| entry.object.as_ref()).is_some_and(|cached| *cached.uid() != uid) {
            // Deleted and created again between two events: another route of the same name.
            self.route_deleted(now, &key);
        }
        let entry = self.routes.entry(key.clone()).or_default();
        let left = entry.active();
        if !cache(&mut entry.object, object) {
            return;
        }
        if let Some(status) = entry.status() {
            self.metrics.show_route(&key, status);
        }
        let has_moved = entry.active() != left;
        self.adopt_drill(&key);
        self.routes_by_uid.insert(uid, key.clone());
        self.note_notifications(&key);
        // The move was decided by this replica or by the leader.
        for left in left {
            self.drop_unneeded_backend(&key.sibling(left));
        }
        if self.is_synced() {
            self.refresh_route(now, &key);
            if has_moved {
                self.divide_anew(&key);
            }
        }
    }

    fn route_deleted(&mut self, now: Timestamp, key: &ObjectKey) {
        let resource = ResourceRef::route(key);
        let mut backends = vec![];
        if let Some(entry) = self.routes.remove(key) {
            backends.extend(entry.usable.iter().flat_map(|route| &route.backends).map(|member| member.name.clone()));
            self.set_owned_keys(key, &entry.owned_keys(key), &[]);
            self.claim_dns(key);
            let staying = entry.staying_records();
            if self.is_leading && !staying.is_empty() {
                let records = staying.join(", ");
                tracing::info!(route = %key, records, "the route was deleted, and its DNS records stay");
            }
            if let Some(cached) = &entry.object {
                self.routes_by_uid.remove(cached.uid());
            }
        }
        self.forget_work(&resource);
        self.note_notifications(key);
        self.agents.forget_route(key);
        self.forget_drill(key);
        self.forget_installations(key);
        self.admit_agents(key);
        self.metrics.forget_route(key, backends.into_iter());
        for reference in self.set_references(&resource, BTreeSet::new()) {
            self.route_reference_changed(now, &reference);
        }
    }

    /// Interprets a route again.
    pub(super) fn refresh_route(&mut self, now: Timestamp, key: &ObjectKey) {
        let resource = ResourceRef::route(key);
        let Some(entry) = self.routes.get_mut(key) else { return };
        let owned_before = entry.owned_keys(key);
        entry.resolve();
        let owned = entry.owned_keys(key);
        // An unreadable route keeps its last good version, and with it what that refers to.
        let references = entry.usable.as_ref().map(|route| {
            let backends = route.backends.iter().map(|member| Reference::Backend(key.sibling(member.name.clone())));
            let policy = entry.policy_name().map(|name| Reference::Policy(key.sibling(name)));
            let signing = route.webhooks.iter().map(|output| key.sibling(output.secret.clone()));
            let signing = signing.map(SecretKey::of::<WebhookSecret>);
            let publishing = route.dns.iter().filter_map(|output| match &output.provider {
                DnsProvider::Rfc2136(updates) => Some(SecretKey::of::<TsigKey>(key.sibling(updates.secret.clone()))),
                DnsProvider::Api(api) => Some(SecretKey::of::<DnsApiSecret>(key.sibling(api.secret.clone()))),
                DnsProvider::ExternalDns(_) => None,
            });
            let secrets = signing.chain(publishing).map(Reference::Secret);
            let called = route.webhooks.iter().filter_map(|output| webhook_ca_key(key, output));
            let cas = called.chain(route.dns.iter().filter_map(|output| dns_ca_key(key, output))).map(Reference::Ca);
            backends.chain(policy).chain(secrets).chain(cas).collect::<BTreeSet<_>>()
        });
        self.set_owned_keys(key, &owned_before, &owned);
        self.claim_dns(key);
        self.admit_agents(key);
        let changed = references.map(|references| self.set_references(&resource, references)).unwrap_or_default();
        self.refresh_policy_of(now, key);
        for reference in changed {
            self.route_reference_changed(now, &reference);
        }
        self.acquit_for_request(now, key);
        self.queue.add(resource);
    }

    /// Trusts the backends of a route again of which a person has just asked a return, whatever real mail has met there.
    // Every replica does so when it sees the request: their votes count.
    // ADR-0119: Acquit at the depth of the accusation.
    fn acquit_for_request(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(entry) = self.routes.get(key) else { return };
        let members: Vec<_> = entry.members_asked_for().into_iter().map(|name| key.sibling(name)).collect();
        for backend in members {
            let is_acquitted = self.backends.get_mut(&backend).is_some_and(|entry| entry.evidence.acquit(now));
            if is_acquitted {
                self.peers.mark(&backend);
                self.requeue_users(&Reference::Backend(backend.clone()));
                self.queue.add(ResourceRef::backend(&backend));
            }
        }
    }

    /// Handles a reference of a route that is new or gone.
    fn route_reference_changed(&mut self, now: Timestamp, reference: &Reference) {
        match reference {
            Reference::Backend(key) => {
                self.track(now, key);
                self.drop_unneeded_backend(key);
            }
            Reference::Policy(key) => {
                self.queue.add(ResourceRef::policy(key));
            }
            Reference::Service(_) | Reference::Ca(_) | Reference::Login(_) | Reference::Secret(_) => {}
        }
    }

    pub(super) fn refresh_policy_of(&mut self, now: Timestamp, route: &ObjectKey) {
        let Some(entry) = self.routes.get(route) else { return };
        let before = entry.thresholds();
        let policy = match entry.policy_name() {
            None => Ok(Policy::default()),
            Some(name) => self.policy(&route.sibling(name)),
        };
        let Some(entry) = self.routes.get_mut(route) else { return };
        entry.adopt_policy(policy);
        let names = entry.usable.as_ref().map(|usable| usable.backends.clone()).unwrap_or_default();
        if entry.thresholds() != before {
            for name in names {
                self.track(now, &route.sibling(name.name.clone()));
            }
        }
        self.queue.add(ResourceRef::route(route));
    }

    fn policy(&self, key: &ObjectKey) -> Result<Policy, Rejection> {
        let field = "spec.policyRef.name";
        let Some(policy) = self.policies.get(key).and_then(PolicyEntry::policy) else {
            let message = format!(
                "FailoverPolicy {} does not exist in namespace {}; create it or take the reference away; until then the documented defaults are in force",
                key.name, key.namespace
            );
            return Err(Rejection::new(reason::POLICY_NOT_FOUND, field, &message));
        };
        policy.clone().map_err(|_| {
            let message = format!(
                "FailoverPolicy {} cannot be used; see its conditions; until then its last good version stays in force, or without one the documented defaults with a Manual failback",
                key.name
            );
            Rejection::new(reason::POLICY_REJECTED, field, &message)
        })
    }
}
