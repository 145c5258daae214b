//! Reports of agents about real mail, and the addresses to which agents report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{ControllerState, RouteEntry};
use crate::controller::action::ResourceRef;
use crate::controller::references::Reference;
use crate::controller::route::{KEPT_FOR_LONG, KeptTotal, LongKept};
use crate::controller::status::is_true;
use crate::output::{Output, OutputKind, Senders};
use crate::reports::{self, RouteAgents};
use mail_failover_api::conditions::condition;
use mail_failover_contract::document::{KEY, OperatorEndpoint};
use mail_failover_core::engine::{BlockedDrill, REPORT_HOLDS};
use mail_failover_core::model::{
    Agent, AgentReport, BackendDeliveries, DeliveryVerdict, DrillState, DrilledMail, KeptMail, Limits, ObjectKey,
    QueuedMail, SwitchedMail, Timestamp,
};

/// Time without a report after which an agent is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// Bound on the agents of one route whose reports count.
// An MTA has some dozens of pods at most.
const MAX_AGENTS_OF_A_ROUTE: usize = 256;
/// Age of the oldest message in a queue from which mail is stuck, if none has left for as long.
// Postfix's first further attempts come within it, and a switch does.
const STUCK_AFTER: Duration = Duration::from_mins(5);
/// Time from the first report of a route's agents until all of them have been heard.
// Each reports every 10 s.
const ALL_HEARD_AFTER: Duration = Duration::from_mins(1);
/// The bound of the agents' document on its operators.
const MAX_OPERATORS: usize = 16;

/// State of all agents.
#[derive(Debug, Default)]
pub(super) struct Agents {
    latest: BTreeMap<Agent, HeardAgent>,
    /// Addresses of the replicas for reports, by the names of their observers' Leases; our own has no name.
    endpoints: BTreeMap<Option<Arc<str>>, OperatorEndpoint>,
    /// The same addresses as documents have them.
    operators: Vec<OperatorEndpoint>,
    /// Times at which this process first heard an agent of each route.
    first_heard: BTreeMap<ObjectKey, Timestamp>,
    /// Numbers of agents by which limits were divided last.
    divided_by: BTreeMap<ObjectKey, u32>,
    /// Routes of which mail was stuck when they were last reconciled.
    stuck: BTreeSet<ObjectKey>,
    /// Routes whose documents only relays read, as they were last reconciled.
    of_relays: BTreeSet<ObjectKey>,
}

/// Latest report of an agent.
#[derive(Debug)]
struct HeardAgent {
    process: Arc<str>,
    sequence: u64,
    /// True for a relay.
    tells_accounts_apart: bool,
    received_at: Timestamp,
    backends: BTreeMap<Arc<str>, BackendDeliveries>,
    last_switch: Option<SwitchedMail>,
    kept: Option<KeptMail>,
    queue: Option<QueuedMail>,
    drill: Option<DrilledMail>,
    /// Time of the latest report of a further message that a backend has taken; that of the first report before one.
    left_at: Timestamp,
}

impl HeardAgent {
    fn sent(&self) -> u64 {
        self.backends.values().map(|backend| backend.sent).fold(0, u64::saturating_add)
    }

    /// True if mail has waited for long, and none has left meanwhile.
    fn is_stuck(&self, now: Timestamp) -> bool {
        let oldest_at = self.queue.and_then(|queue| queue.oldest_at);
        let waits = oldest_at.is_some_and(|at| now.since(at) >= STUCK_AFTER);
        waits && now.since(self.left_at) >= STUCK_AFTER && now.since(self.received_at) < REPORT_HOLDS
    }
}

impl Agents {
    pub(super) fn new(own: Option<OperatorEndpoint>) -> Self {
        let mut agents = Self::default();
        agents.set_endpoint(None, own);
        agents
    }

    /// Addresses to which agents report, in an order that is the same for every replica.
    // A change of leaders must rewrite no document.
    pub(super) fn operators(&self) -> &[OperatorEndpoint] {
        &self.operators
    }

    /// Replaces the address of a replica. Returns true if the list has changed.
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

    /// Returns true if a report counts: no later one was here first, and there is room for the agent.
    fn has_room_for(&mut self, now: Timestamp, report: &AgentReport) -> bool {
        let AgentReport { agent, process, sequence, .. } = report;
        if let Some(known) = self.latest.get(agent) {
            return known.process != *process || known.sequence < *sequence;
        }
        self.latest.retain(|_, known| now.since(known.received_at) < FORGOTTEN_AFTER);
        let of_the_route = self.latest.keys().filter(|known| known.route == agent.route).count();
        of_the_route < MAX_AGENTS_OF_A_ROUTE
    }

    /// Keeps a report. Returns the agent's report before it.
    fn note(&mut self, now: Timestamp, report: &AgentReport) -> Option<HeardAgent> {
        let AgentReport {
            agent,
            route_uid: _,
            process,
            sequence,
            tells_accounts_apart,
            backends,
            last_switch,
            kept,
            queue,
            drill,
        } = report;
        if !self.latest.contains_key(agent) {
            tracing::info!(route = %agent.route, agent = &*agent.name, "an agent reports what mail meets");
        }
        let mut heard = HeardAgent {
            left_at: now,
            process: process.clone(),
            sequence: *sequence,
            tells_accounts_apart: *tells_accounts_apart,
            received_at: now,
            backends: backends.clone(),
            last_switch: last_switch.clone(),
            kept: kept.clone(),
            queue: *queue,
            drill: drill.clone(),
        };
        if let Some(before) = self.latest.get(agent).filter(|before| before.sent() == heard.sent()) {
            heard.left_at = before.left_at;
        }
        self.first_heard.entry(agent.route.clone()).or_insert(now);
        self.latest.insert(agent.clone(), heard)
    }

    /// Number of the agents of a route among which limits are divided, at least 1; `documented` is the number in the
    /// document that they have.
    // A process that has just started has heard none or few: parts that are too large would be in force meanwhile.
    fn number(&self, now: Timestamp, route: &ObjectKey, documented: impl Fn() -> Option<u32>) -> u32 {
        let known = self.latest.iter().filter(|(agent, _)| agent.route == *route);
        let heard = known.filter(|(_, known)| now.since(known.received_at) < FORGOTTEN_AFTER).count();
        let heard = u32::try_from(heard).unwrap_or(u32::MAX).max(1);
        let first_heard = self.first_heard.get(route);
        let are_all_heard = first_heard.is_some_and(|at| now.since(*at) >= ALL_HEARD_AFTER);
        if are_all_heard { heard } else { documented().map_or(heard, |documented| documented.max(heard)) }
    }

    /// The backends for which messages try others first at every agent of a route that has reported lately.
    fn bypassed_by_all(&self, now: Timestamp, route: &ObjectKey) -> BTreeSet<Arc<str>> {
        let of_route = self.latest.iter().filter(|(agent, _)| agent.route == *route).map(|(_, known)| known);
        let present = of_route.filter(|known| now.since(known.received_at) < REPORT_HOLDS);
        let bypassed = present.map(|known| {
            let bypassed = known.backends.iter().filter(|(_, reported)| reported.is_bypassed);
            bypassed.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        });
        bypassed.reduce(|all, one| &all & &one).unwrap_or_default()
    }

    /// Number of the agents whose verdict counts now.
    fn present(&self, now: Timestamp) -> usize {
        self.latest.values().filter(|known| now.since(known.received_at) < REPORT_HOLDS).count()
    }

    /// Returns what waits beside the agents of a route: the sum, and the oldest.
    fn kept(&self, now: Timestamp, route: &ObjectKey) -> (KeptTotal, LongKept) {
        let known = self.latest.iter().filter(|(agent, _)| agent.route == *route);
        let known = known.filter(|(_, known)| now.since(known.received_at) < FORGOTTEN_AFTER);
        let kept: Vec<_> = known.filter_map(|(_, known)| known.kept.as_ref()).collect();
        let Some(oldest) = kept.iter().min_by_key(|kept| kept.oldest_at) else {
            return (KeptTotal::default(), LongKept::Nothing);
        };
        let messages = kept.iter().map(|kept| kept.messages).fold(0, u64::saturating_add);
        let total = KeptTotal { messages, oldest: now.since(oldest.oldest_at) };
        let long = if total.oldest < KEPT_FOR_LONG {
            LongKept::Nothing
        } else {
            LongKept::Messages { about: oldest.about.clone(), backend: oldest.backend.clone() }
        };
        (total, long)
    }

    /// Returns what waits in the queues beside the agents of a route: the number, and the age of the oldest.
    fn queued(&self, now: Timestamp, route: &ObjectKey) -> (u64, Duration) {
        let known = self.latest.iter().filter(|(agent, _)| agent.route == *route);
        let known = known.filter(|(_, known)| now.since(known.received_at) < FORGOTTEN_AFTER);
        let queues: Vec<_> = known.filter_map(|(_, known)| known.queue).collect();
        let messages = queues.iter().map(|queue| queue.messages).fold(0, u64::saturating_add);
        let oldest = queues.iter().filter_map(|queue| queue.oldest_at).min();
        (messages, oldest.map_or(Duration::ZERO, |at| now.since(at)))
    }

    /// Returns what the agents of a route have done for a drill, as far as they have reported lately.
    pub(super) fn drilled(&self, now: Timestamp, route: &ObjectKey, id: &str) -> BlockedDrill {
        let known = self.latest.iter().filter(|(agent, _)| agent.route == *route);
        let known = known.filter(|(_, known)| now.since(known.received_at) < FORGOTTEN_AFTER);
        let reported = known.filter_map(|(_, known)| known.drill.as_ref()).filter(|drill| *drill.id == *id);
        reported.fold(BlockedDrill::default(), |sum, drill| {
            let out_at = drill.first_delivery_after.map(|after| drill.began_at + after);
            BlockedDrill {
                carried: sum.carried.saturating_add(drill.carried),
                let_through: sum.let_through.saturating_add(drill.let_through),
                first_delivery_at: [sum.first_delivery_at, out_at].into_iter().flatten().min(),
                is_lifted: sum.is_lifted || drill.state == DrillState::Lifted,
            }
        })
    }

    /// Returns true if all that have reported on a route lately tell accounts apart: they are relays. `None` if nobody
    /// has.
    fn are_relays(&self, now: Timestamp, route: &ObjectKey) -> Option<bool> {
        let known = self.latest.iter().filter(|(agent, _)| agent.route == *route);
        let heard = known.filter(|(_, known)| now.since(known.received_at) < FORGOTTEN_AFTER);
        heard.map(|(_, known)| known.tells_accounts_apart).reduce(|all, one| all && one)
    }

    /// Returns true if an agent of a route has reported lately.
    pub(super) fn has_heard(&self, now: Timestamp, route: &ObjectKey) -> bool {
        let mut known = self.latest.iter().filter(|(agent, _)| agent.route == *route);
        known.any(|(_, known)| now.since(known.received_at) < REPORT_HOLDS)
    }

    /// Returns true if mail of a route is stuck beside an agent.
    fn is_stuck(&self, now: Timestamp, route: &ObjectKey) -> bool {
        self.latest.iter().any(|(agent, known)| agent.route == *route && known.is_stuck(now))
    }

    pub(super) fn forget_route(&mut self, route: &ObjectKey) {
        self.latest.retain(|agent, _| agent.route != *route);
        self.first_heard.remove(route);
        self.divided_by.remove(route);
        self.stuck.remove(route);
        self.of_relays.remove(route);
    }
}

impl ControllerState {
    /// Takes over the address at which a replica takes reports; `None` if it takes none any more.
    pub(super) fn handle_endpoint(&mut self, observer: Arc<str>, endpoint: Option<OperatorEndpoint>) {
        if self.agents.set_endpoint(Some(observer), endpoint) {
            let with_agents = self.routes.iter().filter(|(_, entry)| entry.has_agents());
            self.queue.extend(with_agents.map(|(key, _)| ResourceRef::route(key)));
        }
    }

    /// The backends for which messages try others first at all agents of a route, if the route has no outputs but theirs.
    pub(super) fn bypassed_by_agents(&self, now: Timestamp, key: &ObjectKey, entry: &RouteEntry) -> BTreeSet<Arc<str>> {
        if entry.has_only_agents() { self.agents.bypassed_by_all(now, key) } else { BTreeSet::new() }
    }

    /// Returns the number of a route's agents among which limits are divided, and the agents of other routes that may send
    /// to each of its backends with limits.
    // ADR-0126: The pace of a backend is kept where a session begins.
    pub(super) fn senders(
        &self,
        now: Timestamp,
        key: &ObjectKey,
        entry: &RouteEntry,
    ) -> (u32, BTreeMap<Arc<str>, Senders>) {
        let mut senders = BTreeMap::new();
        if !entry.has_agents() {
            return (1, senders);
        }
        for name in self.limited_members(key, entry) {
            let mut of_others = Senders::default();
            for user in self.references.users(&Reference::Backend(key.sibling(name.clone()))) {
                // The route itself is not in the map while it is reconciled.
                let Some(other) = self.routes.get(&user.key).filter(|_| user.key != *key) else { continue };
                let spills = other.usable.as_ref().is_some_and(|route| route.alternates);
                if !other.has_agents() {
                    continue;
                }
                if other.carries(&name) {
                    of_others.carrying += self.number_of_agents(now, &user.key, other);
                } else if spills {
                    of_others.spilling += self.number_of_agents(now, &user.key, other);
                }
            }
            senders.insert(name, of_others);
        }
        (self.number_of_agents(now, key, entry), senders)
    }

    /// Returns true if only relays read the documents of a route, which tell backends of one host and port apart. While
    /// nobody has been heard yet, it is as it was when the documents were written.
    // A process that has just started would tell of an obstacle for some seconds.
    pub(super) fn has_only_relays(&mut self, now: Timestamp, key: &ObjectKey, entry: &RouteEntry) -> bool {
        let has_only_relays = self.agents.are_relays(now, key).unwrap_or_else(|| {
            let conditions = entry.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let has_heard = self.agents.first_heard.contains_key(key);
            !has_heard
                && is_true(conditions, condition::OUTPUTS_APPLIED)
                && self.documents(key, entry).any(has_accounts)
        });
        if has_only_relays {
            self.agents.of_relays.insert(key.clone());
        } else {
            self.agents.of_relays.remove(key);
        }
        has_only_relays
    }

    /// Returns the documents of a route as they were seen last.
    fn documents<'a>(&'a self, key: &'a ObjectKey, entry: &'a RouteEntry) -> impl Iterator<Item = &'a Output> {
        let documents = entry.usable.iter().flat_map(|route| &route.agents);
        documents.filter_map(move |output| {
            let key = (OutputKind::ConfigMap, key.sibling(output.config_map.clone()));
            Some(&self.observed.get(&key)?.output)
        })
    }

    fn limited_members(&self, key: &ObjectKey, entry: &RouteEntry) -> Vec<Arc<str>> {
        let members = entry.usable.iter().flat_map(|route| &route.backends).map(|member| &member.name);
        let limited = members.filter(|name| {
            let backend = self.backends.get(&key.sibling((*name).clone())).and_then(|backend| backend.usable.as_ref());
            backend.is_some_and(|backend| backend.limits != Limits::default())
        });
        limited.cloned().collect()
    }

    fn number_of_agents(&self, now: Timestamp, key: &ObjectKey, entry: &RouteEntry) -> u32 {
        self.agents.number(now, key, || self.documents(key, entry).filter_map(documented_agents).max())
    }

    /// Divides limits anew, among the agents of every route that may send to the same backends.
    pub(super) fn divide_anew(&mut self, key: &ObjectKey) {
        let Some(entry) = self.routes.get(key).filter(|entry| entry.has_agents()) else { return };
        for name in self.limited_members(key, entry) {
            self.requeue_users(&Reference::Backend(key.sibling(name)));
        }
    }

    /// Divides limits anew if the number of a route's agents has changed.
    fn note_number_of_agents(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(entry) = self.routes.get(key) else { return };
        let number = self.number_of_agents(now, key, entry);
        if self.agents.divided_by.insert(key.clone(), number) != Some(number) {
            self.divide_anew(key);
        }
    }

    /// Announces the service accounts that may report on a route from now on.
    pub(super) fn admit_agents(&mut self, key: &ObjectKey) {
        let entry = self.routes.get(key);
        let accounts = entry.map(super::RouteEntry::agents_accounts).unwrap_or_default();
        let uid = entry.and_then(|entry| Some(entry.object.as_ref()?.uid().to_string()));
        let agents = uid.filter(|_| !accounts.is_empty()).map(|uid| RouteAgents { uid, service_accounts: accounts });
        self.pending.admissions.push(reports::AgentsChange { route: key.clone(), agents });
    }

    pub(super) fn handle_agent_report(&mut self, now: Timestamp, report: &AgentReport) {
        let key = &report.agent.route;
        let Some(entry) = self.routes.get_mut(key) else { return };
        if entry.object.as_ref().is_none_or(|object| object.uid().as_str() != report.route_uid) {
            return;
        }
        if !self.agents.has_room_for(now, report) {
            return;
        }
        let before = self.agents.note(now, report);
        if self.agents.are_relays(now, key).is_some_and(|are| are != self.agents.of_relays.contains(key)) {
            self.queue.add(ResourceRef::route(key));
        }
        self.metrics.agents.set(i64::try_from(self.agents.present(now)).unwrap_or(i64::MAX));
        let cooldown = entry.cooldown();
        let members: Vec<_> =
            entry.usable.iter().flat_map(|route| &route.backends).map(|member| member.name.clone()).collect();
        if let Some(switched) = &report.last_switch {
            if before.as_ref().and_then(|before| before.last_switch.as_ref()) != Some(switched) {
                log_switch(report, switched);
            }
            if entry.note_first_delivery(switched) {
                self.queue.add(ResourceRef::route(key));
            }
        }
        let is_of_drill = entry.drill().is_some()
            && before.as_ref().and_then(|before| before.drill.as_ref()) != report.drill.as_ref();
        if is_of_drill {
            self.queue.add(ResourceRef::route(key));
        }
        let (total, long) = self.agents.kept(now, key);
        self.metrics.kept(key, total);
        let (messages, oldest) = self.agents.queued(now, key);
        self.metrics.queued(key, messages, oldest);
        let is_bypassed = |name: &Arc<str>| report.backends.get(name).is_some_and(|reported| reported.is_bypassed);
        let was_bypassed =
            |name: &Arc<str>| before.as_ref().and_then(|b| b.backends.get(name)).is_some_and(|b| b.is_bypassed);
        if entry.note_kept(long) || members.iter().any(|name| is_bypassed(name) != was_bypassed(name)) {
            self.queue.add(ResourceRef::route(key));
        }
        // Counters of another process of the same agent begin anew.
        let before = before.filter(|before| before.process == report.process);
        for name in members {
            let earlier = before.as_ref().and_then(|before| before.backends.get(&name));
            // A process that was heard before has counted nothing of a backend that it did not name.
            let nothing = before.as_ref().map(|_| BackendDeliveries::none());
            let baseline = earlier.or(nothing.as_ref());
            let reported = report.backends.get(&name);
            if let Some(reported) = reported {
                self.metrics.deliveries(key, &name, earlier, reported);
                let entry = self.routes.get_mut(key);
                if entry.is_some_and(|entry| entry.count_deliveries(now, baseline, reported)) {
                    self.queue.add(ResourceRef::route(key));
                }
                log_bypassed(report, &name, earlier, reported);
            }
            let verdict = reported.map_or(DeliveryVerdict::Silent, |reported| reported.verdict.clone());
            self.handle_agent_verdict(now, &key.sibling(name), &report.agent, verdict, cooldown);
        }
        if self.agents.is_stuck(now, key) != self.agents.stuck.contains(key) {
            self.queue.add(ResourceRef::route(key));
        }
        self.note_number_of_agents(now, key);
    }

    /// Returns true if mail of a route is stuck beside an agent, and looks again when that agent's report has lapsed.
    pub(super) fn is_mail_stuck(&mut self, now: Timestamp, route: &ResourceRef) -> bool {
        let is_stuck = self.agents.is_stuck(now, &route.key);
        if is_stuck {
            self.agents.stuck.insert(route.key.clone());
            self.queue.set_timer(route, now + REPORT_HOLDS);
        } else {
            self.agents.stuck.remove(&route.key);
        }
        is_stuck
    }

    fn handle_agent_verdict(
        &mut self,
        now: Timestamp,
        backend: &ObjectKey,
        agent: &Agent,
        verdict: DeliveryVerdict,
        cooldown: Duration,
    ) {
        let Some(entry) = self.backends.get_mut(backend) else { return };
        let is_turned = entry.evidence.record_agent(agent, verdict, cooldown, now);
        // Also for its timer, at which the agent's verdict ceases to count.
        self.peers.mark(backend);
        if is_turned {
            self.requeue_users(&Reference::Backend(backend.clone()));
            self.queue.add(ResourceRef::backend(backend));
        }
    }
}

/// Returns the number of agents in a document for them.
fn documented_agents(output: &Output) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        agents: Option<u32>,
    }
    let Output::ConfigMap(document) = output else { return None };
    let numbered: Numbered = serde_json::from_str(document.data.as_ref()?.get(KEY)?).ok()?;
    numbered.agents
}

/// Returns true if a document for agents tells of backends that share a host and port.
fn has_accounts(output: &Output) -> bool {
    #[derive(serde::Deserialize)]
    struct Shared {
        accounts: Vec<serde::de::IgnoredAny>,
    }
    let Output::ConfigMap(document) = output else { return false };
    let text = document.data.as_ref().and_then(|data| data.get(KEY));
    text.is_some_and(|text| serde_json::from_str::<Shared>(text).is_ok_and(|shared| !shared.accounts.is_empty()))
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

fn log_bypassed(
    report: &AgentReport,
    backend: &str,
    earlier: Option<&BackendDeliveries>,
    reported: &BackendDeliveries,
) {
    if earlier.is_some_and(|earlier| earlier.is_bypassed) != reported.is_bypassed {
        let Agent { route, name } = &report.agent;
        if reported.is_bypassed {
            tracing::warn!(%route, agent = &**name, backend, "messages at an agent try other backends than this one first: its breaker is open");
        } else {
            tracing::info!(%route, agent = &**name, backend, "messages at an agent try this backend first again: its breaker is closed");
        }
    }
}
