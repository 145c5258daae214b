//! The outputs of a route: the writes that lead them where a decision says, and the obstacles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::drills::refused;
use super::status::OutputsState;
use super::{Decided, RouteContext, RouteEntry};
use crate::controller::action::{Action, WriteOutcome};
use crate::controller::lane::Lane;
use crate::controller::reconcile::PlannedAction;
use crate::controller::retry::{Retry, WriteBudget};
use crate::output::{
    self, AgentPart, DocumentInputs, DocumentMember, Obstacle, OutputKey, OutputKind, Owner, Target, Write, desired,
    service_split, targets_of_services, writes,
};
use mail_failover_api::conditions::reason;
use mail_failover_api::{MailRouteStatus, OutputShare, OutputStatus};
use mail_failover_contract::document::{self, OperatorEndpoint};
use mail_failover_core::engine::{Memory, Transition};
use mail_failover_core::model::{Destination, ObjectKey, Policy, Route, Timestamp, Uid};
use mail_failover_resolve::Rejection;
use mail_failover_runtime::dial_guard::DialRefusal;

/// Pause before a refused output is tried again.
// The object in the way may be gone, and not every such object is watched.
const REFUSAL_RETRY: Duration = Duration::from_secs(30);

/// Time after a transition for which its outputs may wait for the place of a backend before that is told.
// A name that resolves does so within a round or two of the probes.
const PLACES_GRACE: Duration = Duration::from_secs(10);

/// Summary for the agents of a route whose mail nobody may carry.
const WITHDRAWN: &str = "Withdrawn: nobody may carry the mail";

/// The part of its agents' document that changes without a decision.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LastReported {
    /// Names of standbys, each with true if it is an alternate.
    standbys: Vec<(Arc<str>, bool)>,
    /// Names of backends that single messages may try though they carry no mail.
    trials: Vec<Arc<str>>,
    operators: Vec<OperatorEndpoint>,
    /// Part of the limits of each backend that an agent has.
    parts: Vec<AgentPart>,
    /// Backends that a drill refuses.
    drill: Option<document::Drill>,
}

/// An output that is left alone for a while.
#[derive(Debug)]
pub(super) struct RefusedOutput {
    rejection: Rejection,
    until: Timestamp,
}

/// Difference between the outputs as they are and as they should be.
pub(super) struct OutputsPlan {
    /// Writes to make now.
    pub(super) writes: Vec<Write>,
    pub(super) state: OutputsState,
    /// The share of each backend in percent, as a Service output has it.
    pub(super) split: Vec<(String, u8)>,
    /// Time at which more writes may be possible.
    pub(super) next_timeout: Option<Timestamp>,
}

impl RouteEntry {
    /// Every object that it wants to own.
    pub(in crate::controller) fn owned_keys(&self, key: &ObjectKey) -> Vec<OutputKey> {
        self.usable.iter().flat_map(|route| output::owned_keys(route, key)).collect()
    }

    /// Ends the pause of a refused output.
    // An object that was in the way has changed.
    pub(in crate::controller) fn forget_refusal(&mut self, key: &OutputKey) {
        self.refused.remove(key);
    }

    /// Takes note of the outcomes of writes.
    pub(in crate::controller) fn outputs_written(&mut self, outcomes: &[(OutputKey, WriteOutcome)], now: Timestamp) {
        for (key, outcome) in outcomes {
            match outcome {
                WriteOutcome::Observed(_) | WriteOutcome::Gone => {
                    self.refused.remove(key);
                }
                WriteOutcome::Refused { reason, message } => {
                    let rejection = match &self.usable {
                        Some(route) => Rejection::new(reason, output::field(route, key), message),
                        None => Rejection { reason, message: message.clone() },
                    };
                    self.refused.insert(key.clone(), RefusedOutput { rejection, until: now + REFUSAL_RETRY });
                }
            }
        }
    }

    /// The pauses after failed writes of outputs.
    // They are not those of the whole route: its status must go on to say what fails.
    pub(in crate::controller) fn output_retry(&mut self) -> &mut Retry {
        &mut self.output_retry
    }

    /// Compares the outputs with a decision.
    pub(super) fn compare_outputs(
        &mut self,
        cx: &RouteContext<'_>,
        uid: &Uid,
        route: &Route,
        decided: &Decided,
    ) -> OutputsPlan {
        let members = document_members(cx, route, decided);
        let drill = refused(&decided.decision.memory);
        if self.last_reported.drill != drill {
            // What a drill takes from an output, another controller has not reverted.
            self.last_reported.drill.clone_from(&drill);
            self.budget = None;
        }
        if !route.agents.is_empty() {
            let parts = members.iter().map(|member| member.part).collect();
            self.note_reported(cx, route, decided, parts);
        }
        let owner = owner(cx, uid);
        let (targets, refused_places) = self.targets(cx, &owner, &decided.decision.memory);
        let default_policy = Policy::default();
        let inputs = DocumentInputs {
            members,
            sender_domains: &route.sender_domains,
            summary: decided.decision.memory.last_transition().map(Transition::summary).unwrap_or_default(),
            policy: self.policy.as_ref().unwrap_or(&default_policy),
            operators: cx.operators,
            agents: cx.agents,
            has_only_relays: cx.has_only_relays,
            drill: drill.clone(),
            now: cx.drift.wall(cx.now),
        };
        let is_withdrawn = decided.decision.is_withdrawn();
        let mut desired = if is_withdrawn {
            let transition = decided.decision.memory.last_transition().map_or(0, |last| last.id);
            output::withdrawn(&owner, route, transition, &DocumentInputs { summary: WITHDRAWN.to_owned(), ..inputs })
        } else {
            desired(&owner, route, &targets, &inputs)
        };
        // What is not known of one that carries mail stays as it is.
        desired.endpoints_known &= targets.len() == decided.decision.memory.shares.len();
        let are_endpoints_known = desired.endpoints_known || route.services.is_empty();
        let is_target_known = (is_withdrawn || !targets.is_empty()) && are_endpoints_known && desired.places_known;
        let split = service_split(&targets_of_services(&targets, drill.as_ref())).percents();

        let mut in_the_way = BTreeMap::new();
        for key in &desired.owned_keys {
            if let Some(rival) = (cx.rival)(key) {
                in_the_way.insert(key.clone(), claimed(route, key, &rival));
            }
        }
        let mut rejections: Vec<_> = in_the_way.values().cloned().chain(refused_places).collect();
        for Obstacle { reason, field, message } in &desired.obstacles {
            rejections.push(Rejection::new(reason, field, message));
        }
        for (key, refused) in self.refused.iter().filter(|(_, refused)| refused.until > cx.now) {
            if !in_the_way.contains_key(key) {
                rejections.push(refused.rejection.clone());
                in_the_way.insert(key.clone(), refused.rejection.clone());
            }
        }
        let mut writes = writes(&owner, desired, cx.observed, |key| in_the_way.contains_key(key));
        if self.readable().is_some_and(|object| object.metadata.deletion_timestamp.is_some()) {
            // The garbage collector takes away what a route under deletion owns: to create it anew would be a race.
            writes.retain(|write| !matches!(write, Write::Create(_)));
        }
        if self.yields(cx) {
            // Where it leads is right; the rest (addresses of replicas, parts of limits) follows from what each sees.
            // ADR-0190: Installations stand in the status of what they lead.
            let transition = decided.decision.memory.last_transition().map_or(0, |last| last.id);
            writes.retain(|write| cx.observed.transition_of(&write.key()) != Some(transition));
        }
        if writes.is_empty() {
            let mut plan = self.without_writes(rejections, is_target_known);
            if matches!(plan.state, OutputsState::Waiting) {
                self.await_places(cx, route, &decided.decision.memory, &mut plan);
            }
            return OutputsPlan { split, ..plan };
        }
        OutputsPlan { split, ..self.within_budget(writes, cx.now) }
    }

    /// Refills the write budget if agents have to be told anything new.
    // A change in what we tell agents is not another controller reverting our output.
    fn note_reported(&mut self, cx: &RouteContext<'_>, route: &Route, decided: &Decided, parts: Vec<AgentPart>) {
        let Decided { decision, candidates, .. } = decided;
        let standbys = candidates.iter().filter(|candidate| decision.is_standby(candidate));
        let standbys =
            standbys.map(|candidate| (candidate.name.clone(), decision.is_alternate(candidate, route))).collect();
        let trials =
            candidates.iter().filter(|candidate| decision.may_be_tried(candidate, route)).filter(|candidate| {
                let entry = cx.backend(&candidate.name);
                entry.is_some_and(|entry| entry.evidence.awaits_trial(self.thresholds(), cx.now))
            });
        let trials = trials.map(|candidate| candidate.name.clone()).collect();
        let reported = LastReported {
            standbys,
            trials,
            operators: cx.operators.to_vec(),
            parts,
            drill: self.last_reported.drill.clone(),
        };
        if self.last_reported != reported {
            self.last_reported = reported;
            self.budget = None;
        }
    }

    /// The backends that outputs lead to, with their addresses; none while the one that leads is not known. Beside them
    /// the backends of whose addresses none may be an endpoint.
    fn targets<'a>(
        &self,
        cx: &RouteContext<'a>,
        owner: &Owner,
        memory: &'a Memory,
    ) -> (Vec<Target<'a>>, Vec<Rejection>) {
        let transition = memory.last_transition().map_or(0, |last| last.id);
        let has_services = self.usable.as_ref().is_some_and(|route| !route.services.is_empty());
        let (mut targets, mut rejections, mut refused) = (vec![], vec![], vec![]);
        for (index, share) in memory.shares.iter().enumerate() {
            if let Some((entry, backend)) = cx.usable_backend(&share.backend) {
                let known = entry.addresses(cx.guard);
                if let Some((admitted, refusal)) = known.as_ref().and_then(|known| Some((known, known.refusal()?)))
                    && has_services
                {
                    let message = format!("no endpoint can be made of {}: {refusal}", share.backend);
                    rejections.push(Rejection::new(reason::DESTINATION_REFUSED, "spec.backends[].name", &message));
                    let addresses = admitted.refusals.iter().map(DialRefusal::address).collect::<Vec<_>>();
                    refused.push((targets.len(), addresses));
                }
                targets.push(Target {
                    percent: share.percent,
                    transition,
                    name: &share.backend,
                    backend,
                    addresses: known.map(|known| entry.working(&known.addresses, self.thresholds())),
                    is_place_known: entry.is_place_known(),
                });
            } else if index == 0 {
                return (vec![], vec![]);
            }
        }
        // A Service goes on leading where it does while a name stands for such addresses alone: a name service that lies for
        // an hour stops no mail. It does not lead there itself, though, and another backend takes the share.
        let has_others = targets.iter().any(|target| target.addresses.iter().flatten().next().is_some());
        for (index, addresses) in refused {
            if !has_others && !cx.observed.leads_to(owner, &addresses) {
                targets[index].addresses = None;
            }
        }
        (targets, rejections)
    }

    fn without_writes(&self, rejections: Vec<Rejection>, is_target_known: bool) -> OutputsPlan {
        let (state, next_timeout) = if !rejections.is_empty() {
            (OutputsState::Refused(rejections), self.refused.values().map(|refused| refused.until).min())
        } else if is_target_known {
            (OutputsState::Complete, None)
        } else {
            (OutputsState::Waiting, None)
        };
        OutputsPlan { writes: vec![], state, split: vec![], next_timeout }
    }

    /// Tells that the places of backends are not known, once the outputs have waited for them since the latest transition
    /// for too long.
    // What is applied stays so: a name service that is silent later changes no output.
    fn await_places(&self, cx: &RouteContext<'_>, route: &Route, memory: &Memory, plan: &mut OutputsPlan) {
        let Some(last) = memory.last_transition() else { return };
        let known = self.status().and_then(|status| status.history.first());
        let is_persisted = known.is_some_and(|known| known.id == last.id && known.applied_at.is_some());
        if is_persisted || self.applied.is_some_and(|(applied, _)| applied == last.id) {
            return;
        }
        let told_at = last.decided_at + PLACES_GRACE;
        if told_at > cx.now {
            plan.next_timeout = plan.next_timeout.into_iter().chain([told_at]).min();
            return;
        }
        let unknown = unknown_places(cx, route, memory);
        if !unknown.is_empty() {
            plan.state = OutputsState::AddressesUnknown(unknown);
        }
    }

    pub(super) fn output_action(&self, uid: &Uid, outputs: &OutputsPlan) -> Option<PlannedAction<MailRouteStatus>> {
        let OutputsPlan { writes, state: _, split: _, next_timeout: _ } = outputs;
        let has_failed = self.output_retry.error().is_some();
        let lane = if has_failed { Lane::Outputs.after_failure() } else { Lane::Outputs };
        let action = Action::WriteOutputs { owner: uid.clone(), writes: writes.clone() };
        (!writes.is_empty()).then_some(PlannedAction::new(lane, action))
    }

    /// The writes, unless the latest one failed or another controller reverts them.
    fn within_budget(&mut self, writes: Vec<Write>, now: Timestamp) -> OutputsPlan {
        if let Some(until) = self.output_retry.until(now) {
            let error = self.output_retry.error().unwrap_or("unknown").to_owned();
            let state = OutputsState::Failing(error);
            return OutputsPlan { writes: vec![], state, split: vec![], next_timeout: Some(until) };
        }
        let budget = self.budget.get_or_insert_with(|| WriteBudget::full(now));
        match budget.take(now) {
            Ok(()) => OutputsPlan { writes, state: OutputsState::Waiting, split: vec![], next_timeout: None },
            Err(until) => {
                let state = OutputsState::Failing("somebody else keeps changing the outputs back".to_owned());
                OutputsPlan { writes: vec![], state, split: vec![], next_timeout: Some(until) }
            }
        }
    }
}

/// The backends with a share of whose place too little is known to lead an output there.
fn unknown_places(cx: &RouteContext<'_>, route: &Route, memory: &Memory) -> Vec<Rejection> {
    let mut unknown = vec![];
    for share in &memory.shares {
        let why = match cx.usable_backend(&share.backend) {
            None => "it cannot be used".to_owned(),
            Some((entry, _)) if !entry.is_place_known() => "its Service, or the port of that, is not known".to_owned(),
            Some((entry, backend)) if !route.services.is_empty() && entry.addresses(cx.guard).is_none() => {
                match &backend.destination {
                    Destination::Host(host) => format!("the leader has no address of {}", host.host),
                    Destination::Service(_) => "its endpoints are not known".to_owned(),
                }
            }
            Some(_) => continue,
        };
        let message = format!("not every output leads to {}, and mail stays where it went: {why}", share.backend);
        unknown.push(Rejection::new(reason::ADDRESSES_UNKNOWN, "spec.backends[].name", &message));
    }
    unknown
}

/// The backends that each output leads to, once it is written.
pub(super) fn output_status(route: &Route, memory: &Memory, split: &[(String, u8)]) -> Vec<OutputStatus> {
    let shares: Vec<_> = memory.shares.iter().map(|share| (share.backend.to_string(), share.percent)).collect();
    // The first of equals.
    let largest = shares.iter().rev().max_by_key(|(_, percent)| *percent);
    let largest: Vec<_> = largest.map(|(backend, _)| (backend.clone(), 100)).into_iter().collect();
    let mut outputs = vec![];
    for output in &route.services {
        outputs.push(leading(OutputKind::Service, &output.name, split));
    }
    for output in &route.config_maps {
        outputs.push(leading(OutputKind::ConfigMap, &output.name, &largest));
    }
    for output in &route.agents {
        outputs.push(leading(OutputKind::ConfigMap, &output.config_map, &shares));
    }
    outputs
}

fn leading(kind: OutputKind, name: &str, shares: &[(String, u8)]) -> OutputStatus {
    let shares = shares.iter().filter(|(_, percent)| *percent > 0);
    let active =
        shares.map(|(backend, percent)| OutputShare { backend: backend.clone(), percent: i32::from(*percent) });
    OutputStatus {
        kind: kind.as_str().to_owned(),
        name: name.to_owned(),
        active: active.collect(),
        ..OutputStatus::default()
    }
}

/// The backends as its agents' document has them.
fn document_members<'a>(cx: &RouteContext<'a>, route: &Route, decided: &'a Decided) -> Vec<DocumentMember<'a>> {
    let mut members = vec![];
    for candidate in &decided.candidates {
        if let Some((entry, backend)) = cx.usable_backend(&candidate.name)
            && entry.is_place_known()
        {
            let is_standby = decided.decision.is_standby(candidate);
            let is_alternate = decided.decision.is_alternate(candidate, route);
            let awaits_trial = entry.evidence.awaits_trial(decided.thresholds, cx.now);
            let is_trial = awaits_trial && decided.decision.may_be_tried(candidate, route);
            let carries = decided.decision.memory.shares.iter().any(|share| share.backend == candidate.name);
            let mut senders = cx.senders.get(&candidate.name).copied().unwrap_or_default();
            *(if carries { &mut senders.carrying } else { &mut senders.spilling }) += cx.agents;
            let part = AgentPart::of(&backend.limits, senders, carries, cx.drift.wall(cx.now));
            let name = &*candidate.name;
            members.push(DocumentMember { name, backend, is_standby, is_alternate, is_trial, part });
        }
    }
    members
}

pub(super) fn owner(cx: &RouteContext<'_>, uid: &Uid) -> Owner {
    Owner { key: cx.resource.key.clone(), uid: uid.clone() }
}

fn claimed(route: &Route, key: &OutputKey, rival: &ObjectKey) -> Rejection {
    let (kind, name) = (key.0.as_str(), &key.1.name);
    let message = format!("{kind} {name} belongs to MailRoute {}, which had it first; choose another name", rival.name);
    Rejection::new(reason::OUTPUT_CLAIMED, output::field(route, key), &message)
}
