//! What agents tell of real mail, and where they are told to report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{World, subject};
use crate::controller::references::Reference;
use crate::controller::step::SubjectKind;
use crate::reports::{self, RouteAgents};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::engine::OPINION_HOLDS;
use mail_failover_core::model::{
    Agent, AgentReport, BackendDeliveries, DeliveryVerdict, ObjectKey, SwitchedMail, Timestamp,
};

/// An agent that has not reported for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// More agents of one route have no say: an MTA has some dozens of pods at most.
const MAX_AGENTS_OF_A_ROUTE: usize = 256;
/// The document's bound.
const MAX_OPERATORS: usize = 16;

/// All that concerns agents.
#[derive(Debug, Default)]
pub(super) struct Agents {
    known: BTreeMap<Agent, Known>,
    /// Where the replicas take reports, by the names of their observers' Leases; our own has no name.
    endpoints: BTreeMap<Option<Arc<str>>, OperatorEndpoint>,
    /// The same as documents have it.
    operators: Vec<OperatorEndpoint>,
}

/// What an agent said last.
#[derive(Debug)]
struct Known {
    process: Arc<str>,
    sequence: u64,
    heard_at: Timestamp,
    backends: BTreeMap<Arc<str>, BackendDeliveries>,
    last_switch: Option<SwitchedMail>,
}

impl Agents {
    pub(super) fn new(own: Option<OperatorEndpoint>) -> Self {
        let mut agents = Self::default();
        agents.set_endpoint(None, own);
        agents
    }

    /// Where agents report. In an order that is the same for every replica, so that a change of leaders rewrites no document.
    pub(super) fn operators(&self) -> &[OperatorEndpoint] {
        &self.operators
    }

    /// Returns whether the list has changed.
    fn set_endpoint(&mut self, observer: Option<Arc<str>>, endpoint: Option<OperatorEndpoint>) -> bool {
        match endpoint {
            Some(endpoint) => self.endpoints.insert(observer, endpoint),
            None => self.endpoints.remove(&observer),
        };
        let sorted: BTreeSet<_> =
            self.endpoints.values().map(|endpoint| (&endpoint.address, &endpoint.certificate_sha256)).collect();
        let operators = sorted.into_iter().take(MAX_OPERATORS).map(|(address, certificate_sha256)| OperatorEndpoint {
            address: address.clone(),
            certificate_sha256: certificate_sha256.clone(),
        });
        let operators: Vec<_> = operators.collect();
        let is_changed = operators != self.operators;
        self.operators = operators;
        is_changed
    }

    /// Whether a report counts: no later one was here first, and there is room for the agent.
    fn has_room_for(&mut self, now: Timestamp, report: &AgentReport) -> bool {
        let AgentReport { agent, process, sequence, .. } = report;
        if let Some(known) = self.known.get(agent) {
            return known.process != *process || known.sequence < *sequence;
        }
        self.known.retain(|_, known| now.since(known.heard_at) < FORGOTTEN_AFTER);
        let of_the_route = self.known.keys().filter(|known| known.route == agent.route).count();
        of_the_route < MAX_AGENTS_OF_A_ROUTE
    }

    /// Takes note of a report. Returns what the agent had said before.
    fn note(&mut self, now: Timestamp, report: &AgentReport) -> Option<Known> {
        let AgentReport { agent, route_uid: _, process, sequence, backends, last_switch } = report;
        if !self.known.contains_key(agent) {
            tracing::info!(route = %agent.route, agent = &*agent.name, "an agent reports what mail meets");
        }
        let known = Known {
            process: process.clone(),
            sequence: *sequence,
            heard_at: now,
            backends: backends.clone(),
            last_switch: last_switch.clone(),
        };
        self.known.insert(agent.clone(), known)
    }

    /// Agents that have a say now.
    fn present(&self, now: Timestamp) -> usize {
        self.known.values().filter(|known| now.since(known.heard_at) < OPINION_HOLDS).count()
    }

    pub(super) fn forget_route(&mut self, route: &ObjectKey) {
        self.known.retain(|agent, _| agent.route != *route);
    }
}

impl World {
    /// A replica takes reports there, or nowhere any more.
    pub(super) fn take_endpoint(&mut self, observer: Arc<str>, endpoint: Option<OperatorEndpoint>) {
        if self.agents.set_endpoint(Some(observer), endpoint) {
            let with_agents = self.routes.iter().filter(|(_, entry)| entry.has_agents());
            self.agenda.extend(with_agents.map(|(key, _)| subject(SubjectKind::Route, key)));
        }
    }

    /// Says who may report on a route from now on.
    pub(super) fn admit_agents(&mut self, key: &ObjectKey) {
        let entry = self.routes.get(key);
        let accounts = entry.map(super::RouteEntry::agents_accounts).unwrap_or_default();
        let uid = entry.and_then(|entry| Some(entry.object.as_ref()?.uid().to_owned()));
        let agents = uid.filter(|_| !accounts.is_empty()).map(|uid| RouteAgents { uid, service_accounts: accounts });
        self.pending.admissions.push(reports::AgentsChange { route: key.clone(), agents });
    }

    pub(super) fn take_agent_report(&mut self, now: Timestamp, report: &AgentReport) {
        let key = &report.agent.route;
        let is_same = |uid: &str| uid == report.route_uid;
        let Some(entry) = self.routes.get_mut(key) else { return };
        if !entry.object.as_ref().is_some_and(|object| is_same(object.uid())) {
            return;
        }
        if !self.agents.has_room_for(now, report) {
            return;
        }
        let before = self.agents.note(now, report);
        self.metrics.agents.set(i64::try_from(self.agents.present(now)).unwrap_or(i64::MAX));
        let cooldown = entry.cooldown();
        let members: Vec<_> =
            entry.usable.iter().flat_map(|route| &route.backends).map(|member| member.name.clone()).collect();
        if let Some(switched) = &report.last_switch {
            if before.as_ref().and_then(|known| known.last_switch.as_ref()) != Some(switched) {
                log_switch(report, switched);
            }
            if entry.note_first_delivery(switched) {
                self.agenda.add(subject(SubjectKind::Route, key));
            }
        }
        for name in members {
            let said = report.backends.get(&name);
            let earlier = before.as_ref().filter(|known| known.process == report.process);
            let earlier = earlier.and_then(|known| known.backends.get(&name));
            if let Some(said) = said {
                self.metrics.deliveries(key, &name, earlier, said);
                log_left(report, &name, earlier, said);
            }
            let word = said.map_or(DeliveryVerdict::Silent, |said| said.word.clone());
            let backend = key.sibling(name);
            let Some(entry) = self.backends.get_mut(&backend) else { continue };
            let is_turned = entry.evidence.hear_agent(&report.agent, word, cooldown, now);
            // For its timer, too: when the agent's word ceases to count.
            self.others.mark(&backend);
            if is_turned {
                self.touch_users(&Reference::Backend(backend.clone()));
                self.agenda.add(subject(SubjectKind::Backend, &backend));
            }
        }
    }
}

fn log_switch(report: &AgentReport, switched: &SwitchedMail) {
    let Agent { route, name } = &report.agent;
    let SwitchedMail { transition, queue_before, queue_after, possible_duplicates, .. } = switched;
    let first_delivery_after = switched.first_delivery_after.map(|after| format!("{after:?}"));
    tracing::info!(
        %route, agent = &**name, transition, queue_before, queue_after, first_delivery_after, possible_duplicates,
        "an agent has moved its queue"
    );
}

fn log_left(report: &AgentReport, backend: &str, earlier: Option<&BackendDeliveries>, said: &BackendDeliveries) {
    if earlier.is_some_and(|earlier| earlier.is_left) != said.is_left {
        let Agent { route, name } = &report.agent;
        if said.is_left {
            tracing::warn!(%route, agent = &**name, backend, "an agent has left a backend by itself");
        } else {
            tracing::info!(%route, agent = &**name, backend, "an agent keeps away from a backend no more");
        }
    }
}
