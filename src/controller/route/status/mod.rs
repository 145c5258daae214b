//! The status of a `MailRoute`: decisions that are persisted, and texts for people.

mod conditions;
mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::dns::{DnsFreshness, KIND as DNS};
use super::drills::{self, DRILL};
use super::held::HeldMail;
use super::installations::{self, InstallationContext};
use super::notices::Notices;
use super::objectives::{self, Measurement};
use super::progress::ProgressState;
use super::webhooks::KIND as WEBHOOK;
use crate::controller::action::ResourceRef;
use crate::controller::backend::{BackendEntry, api_health};
use crate::controller::route::{KEPT_FOR_LONG, LongKept};
use crate::controller::status::joined;
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{self as api, ActiveBackend, MailRouteStatus, OutputStatus, RouteState};
use mail_failover_core::engine::{Candidate, Decision, Eligibility, Exclusion, Health};
use mail_failover_core::model::{ClockDrift, ObjectKey, Policy, Strategy, Thresholds, Timestamp, Uid};
use mail_failover_resolve::Rejection;
use mail_failover_resolve::route_memory::{memory, remember};
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::{micro_time, timestamp};

/// The API's bound on the number of reasons in `status.explanation`.
const MAX_REASONS: usize = 32;
/// The API's bound on one reason in `status.explanation`, in bytes.
const MAX_REASON: usize = 512;
/// Bytes of a message that defects of the configuration have behind words about held mail.
const MAX_DEFECTS_BESIDE: usize = MAX_MESSAGE / 3;

/// State of the outputs, compared with the decision.
#[derive(Debug)]
pub(super) enum OutputsState {
    /// Every output leads where the decision says.
    Complete,
    /// Writes are under way, or the addresses are not known yet: no condition changes.
    Waiting,
    /// The latest transition is not applied, and the place of a backend that it leads to has not been known for seconds.
    AddressesUnknown(Vec<Rejection>),
    /// Outputs that others own, or that the API server does not accept.
    Refused(Vec<Rejection>),
    /// The API server does not answer as it should.
    Failing(String),
    /// Everything is written, and receivers of awaited webhooks or awaited DNS records have failed for a while.
    Unanswered(Vec<Rejection>),
}

/// Builder of a status from a decision and its effect.
pub(super) struct StatusBuilder<'a> {
    pub(super) resource: &'a ResourceRef,
    pub(super) generation: i64,
    /// Time at which it may be told that the route has never worked.
    pub(super) first_alarm_at: Timestamp,
    pub(super) now: Timestamp,
    pub(super) before: &'a MailRouteStatus,
    pub(super) published: &'a BTreeSet<String>,
    pub(super) problems: Vec<Rejection>,
    pub(super) thresholds: Thresholds,
    pub(super) strategy: Option<Strategy>,
    /// Objectives as measured now; `None` without any.
    pub(super) objectives: Option<&'a Measurement>,
    /// The policy in force.
    pub(super) policy: Option<&'a Policy>,
    /// Lead of the wall clock, by which drills are due.
    pub(super) drift: ClockDrift,
    /// The policy's objective for the time of a failover.
    pub(super) recovery_time: Option<Duration>,
    /// Transition that an agent has carried out, and the time of the first message on the new way.
    pub(super) first_delivery: Option<(i64, Timestamp)>,
    /// Mail that has waited for long beside an agent; `None` until an agent has reported.
    pub(super) kept: Option<&'a LongKept>,
    /// The latest transition that every output follows, and the time at which that was seen first.
    pub(super) applied: Option<(i64, Timestamp)>,
    pub(super) backends: &'a BTreeMap<ObjectKey, BackendEntry>,
    /// `None` while nothing can be decided.
    pub(super) decision: Option<&'a Decision>,
    pub(super) candidates: &'a [Candidate],
    pub(super) outputs: &'a OutputsState,
    /// Backends that each output leads to, once all are written.
    pub(super) output_status: Option<Vec<OutputStatus>>,
    /// The webhooks' entries of `status.outputs`; `None` if they stay as they were.
    pub(super) webhooks: Option<Vec<OutputStatus>>,
    /// State of the webhooks; `None` without any.
    pub(super) webhooks_state: Option<ProgressState>,
    /// The DNS records' entries of `status.outputs`; `None` if they stay as they were.
    pub(super) dns: Option<Vec<OutputStatus>>,
    /// State of the DNS records, and their freshness; `None` without any.
    pub(super) dns_state: Option<(ProgressState, DnsFreshness)>,
    /// Backends for which messages try others first at all agents of the route, if it has no outputs but theirs.
    pub(super) bypassed_by_agents: &'a BTreeSet<Arc<str>>,
    /// True if mail has waited for long beside an agent, and none has left there meanwhile.
    pub(super) is_mail_stuck: bool,
    pub(super) uid: &'a Uid,
    /// Looks up if a message in a policy's status tells a notification of the route; `None` if nobody is to be told.
    pub(super) is_taken: Option<&'a dyn Fn(&str) -> bool>,
    /// Knowledge of other installations that lead the route.
    pub(super) installations: &'a InstallationContext,
}

impl StatusBuilder<'_> {
    /// The status for the decision and what has become of it.
    pub(super) fn build(&self) -> MailRouteStatus {
        let memory = self.decision.map_or_else(|| memory(self.before), |decision| decision.memory.clone());
        let mut status = MailRouteStatus {
            observed_generation: Some(self.generation),
            strategy: self.strategy.map(api_strategy).or(self.before.strategy),
            healthy_backends: Some(healthy_backends(self.candidates)),
            waiting_for: self.decision.and_then(|decision| decision.hold).map(|hold| api::WaitingForStatus {
                reason: hold.reason.as_str().to_owned(),
                since: memory.held_since.map(micro_time),
                until: hold.until.map(micro_time),
            }),
            unplaced_percent: self
                .decision
                .map(|decision| i32::from(decision.unplaced))
                .filter(|unplaced| *unplaced > 0),
            explanation: self.decision.map_or_else(|| self.before.explanation.clone(), explanation),
            backends: self.candidates.iter().map(|candidate| self.backend_status(candidate)).collect(),
            ..MailRouteStatus::default()
        };
        remember(&memory, self.before, &mut status);
        drills::add_schedule(&mut status, self.policy, &memory, self.now, self.drift);
        status.diverted = self.diverted();
        status.active_summary = summary_of(&status.active, &status.diverted);
        status.outputs = self.outputs_status();
        status.installations = self.listed_installations();
        if self.held().is_some() {
            status.state = Some(RouteState::Holding);
        }
        self.note_applied(&mut status);
        status.objectives = objectives::coarse(self.objectives, self.before, &status);
        status.conditions = self.conditions(&status);
        status.pending_events = self.pending_events(&status);
        status.message = Some(truncated(&self.sentence(), MAX_MESSAGE));
        if let Some(is_taken) = self.is_taken {
            let transition = self.decision.and_then(|decision| decision.transition.as_ref());
            let notices = Notices {
                uid: self.uid,
                now: self.now,
                first_alarm_at: self.first_alarm_at,
                before: self.before,
                after: &status,
                transition_note: transition.map(|transition| self.transition_note(transition)),
                is_taken,
            };
            (status.pending_notifications, status.ongoing) = notices.build();
        }
        status
    }

    /// The status as another installation has written it, with our sign of life.
    pub(super) fn build_sign_of_life(&self) -> MailRouteStatus {
        let mut status = MailRouteStatus { installations: self.listed_installations(), ..self.before.clone() };
        status.conditions = self.conditions_of_another(&status);
        status
    }

    fn listed_installations(&self) -> Vec<api::InstallationStatus> {
        installations::listed(&self.before.installations, self.installations, self.now)
    }

    /// The entries of `status.outputs`: objects, then webhooks, then DNS records.
    fn outputs_status(&self) -> Vec<OutputStatus> {
        let (webhooks, others): (Vec<_>, Vec<_>) =
            self.before.outputs.iter().cloned().partition(|output| output.kind == WEBHOOK);
        let (dns, objects): (Vec<_>, Vec<_>) = others.into_iter().partition(|output| output.kind == DNS);
        let mut outputs = self.output_status.clone().unwrap_or(objects);
        outputs.extend(self.webhooks.clone().unwrap_or(webhooks));
        outputs.extend(self.dns.clone().unwrap_or(dns));
        outputs
    }

    /// Notes that the latest transition is applied once every output leads where it says, and the first delivery that
    /// an agent reports.
    fn note_applied(&self, status: &mut MailRouteStatus) {
        let is_just_decided = self.decision.is_some_and(|decision| decision.transition.is_some());
        if !is_just_decided
            && matches!(self.outputs, OutputsState::Complete)
            && let Some(last) = status.history.first_mut().filter(|last| last.applied_at.is_none())
        {
            // This write may have waited for its turn; the outputs have not.
            let seen_at = self.applied.filter(|(id, _)| *id == last.id).map(|(_, at)| at);
            last.applied_at = Some(micro_time(seen_at.unwrap_or(self.now)));
        }
        if let (Some((id, at)), Some(last)) = (self.first_delivery, status.history.first_mut())
            && last.id == id
            && last.first_delivery_at.is_none()
        {
            // The agent says how long ago it was, which cannot be before the decision that it follows.
            last.first_delivery_at = Some(micro_time(at.max(timestamp(&last.decided_at))));
        }
        status.last_transition = status.history.first().cloned();
    }

    /// A summary for people: mail that is held on a dead backend, with the defects of the configuration behind it; or the
    /// first of these; without any, the summary of the decision.
    fn sentence(&self) -> String {
        match (self.held(), self.problems.first(), self.decision) {
            (Some(held), None, _) => held.to_string(),
            (Some(held), Some(_), _) => {
                let room = MAX_MESSAGE - MAX_DEFECTS_BESIDE - "; ".len();
                format!("{}; {}", truncated(&held.to_string(), room), self.defects_beside_a_hold())
            }
            (None, Some(problem), _) => problem.message.clone(),
            (None, None, Some(decision)) => format!("{}{}", decision.explanation.summary(), self.diversion()),
            (None, None, None) => self.before.message.clone().unwrap_or_default(),
        }
    }

    /// The defects of the configuration, as far as a hold that is told before them leaves room.
    fn defects_beside_a_hold(&self) -> String {
        truncated(&joined(&self.problems), MAX_DEFECTS_BESIDE)
    }

    /// The backends that carry mail and that messages try last at every agent, with the time since when.
    fn diverted(&self) -> Vec<api::DivertedStatus> {
        let shares = self.decision.iter().flat_map(|decision| &decision.memory.shares);
        let bypassed = shares.filter(|share| share.percent > 0 && self.bypassed_by_agents.contains(&share.backend));
        let diverted = bypassed.map(|share| {
            let known = self.before.diverted.iter().find(|known| *known.backend == *share.backend);
            let since = known.map_or_else(|| micro_time(self.now), |known| known.since.clone());
            api::DivertedStatus { backend: share.backend.to_string(), since }
        });
        diverted.collect()
    }

    /// Words about messages that go another way than the route, as far as agents tell; empty otherwise.
    fn diversion(&self) -> String {
        let shares = self.decision.iter().flat_map(|decision| &decision.memory.shares);
        let mut bypassed = shares.filter(|share| share.percent > 0 && self.bypassed_by_agents.contains(&share.backend));
        bypassed.next().map_or_else(String::new, |share| {
            format!(
                "; messages try {} last and go to the alternates: its breaker is open at every agent",
                share.backend
            )
        })
    }

    /// The mail that stays with a backend that cannot deliver; `None` if none does.
    fn held(&self) -> Option<HeldMail<'_>> {
        let decision = self.decision?;
        let is_bypassed = |backend: &Arc<str>| self.bypassed_by_agents.contains(backend);
        let carrier = decision.held_carrier(self.candidates, is_bypassed)?;
        let ready = self.before.conditions.iter().find(|one| one.type_ == condition::READY);
        let was_momentary = ready.is_some_and(|ready| ready.reason == reason::AWAITING_CONFIRMATION);
        let is_told = self.before.state == Some(RouteState::Holding) && !was_momentary;
        let (hold, held_since) = (decision.hold, decision.memory.held_since);
        Some(HeldMail { route: &self.resource.key, carrier, hold, held_since, is_told })
    }

    fn backend_status(&self, candidate: &Candidate) -> api::RouteBackendStatus {
        let entry = self.backends.get(&self.resource.key.sibling(candidate.name.clone()));
        let is_missing = entry.is_none_or(|entry| entry.object.is_none());
        let rejection =
            entry.and_then(BackendEntry::rejection).filter(|_| candidate.eligibility == Eligibility::Unusable);
        let reason = match (candidate.eligibility, rejection) {
            (Eligibility::InService, _) if !is_missing => candidate.class.as_str(),
            (Eligibility::Suspended, _) => reason::SUSPENDED,
            (_, _) if is_missing => reason::BACKEND_NOT_FOUND,
            (Eligibility::Excluded(Exclusion::Residency), _) => reason::RESIDENCY,
            (Eligibility::Excluded(Exclusion::SenderDomain), _) => reason::SENDER_DOMAIN,
            (Eligibility::InService | Eligibility::Unusable, Some(rejection)) => rejection.reason,
            (Eligibility::InService | Eligibility::Unusable, None) => candidate.class.as_str(),
        };
        api::RouteBackendStatus {
            name: candidate.name.to_string(),
            health: api_health(candidate.health),
            reason: reason.to_owned(),
            since: (candidate.health != Health::Unknown).then(|| micro_time(candidate.since)),
        }
    }
}

// Without a count and an age: the status must not change with each report.
fn kept_note(about: &str, backend: &str) -> String {
    format!(
        "messages that {backend} refuses ({about}) have waited beside Postfix for more than {} min; `mail-failover agent status` there tells how many and how old",
        KEPT_FOR_LONG.as_secs() / 60
    )
}

/// The carriers in one line: `ses-eu`, or `ses-eu 70%, sendgrid 30%`; `None` without any. Those that messages try last
/// are marked.
fn summary_of(active: &[ActiveBackend], diverted: &[api::DivertedStatus]) -> Option<String> {
    let mut parts = vec![];
    for ActiveBackend { backend, percent, .. } in active {
        let share = if active.len() == 1 && *percent == 100 { String::new() } else { format!(" {percent}%") };
        let is_diverted = diverted.iter().any(|diverted| diverted.backend == *backend);
        parts.push(format!("{backend}{share}{}", if is_diverted { " (diverted)" } else { "" }));
    }
    (!parts.is_empty()).then(|| truncated(&parts.join(", "), MAX_MESSAGE))
}

/// Time from the first evidence of a failover until every output was written; `None` for any other transition.
pub(super) fn time_of_failover(transition: &api::TransitionStatus) -> Option<Duration> {
    if transition.kind != api::TransitionKind::Failover || transition.reason == DRILL {
        return None;
    }
    let began_at = timestamp(transition.first_evidence_at.as_ref()?);
    Some(timestamp(transition.applied_at.as_ref()?).since(began_at))
}

fn explanation(decision: &Decision) -> Vec<String> {
    let reasons = decision.explanation.reasons.iter().map(|reason| truncated(&reason.to_string(), MAX_REASON));
    // The decision itself stands at the end; of many backends the first ones' verdicts are left out.
    let reasons: Vec<_> = reasons.collect();
    reasons[reasons.len().saturating_sub(MAX_REASONS)..].to_vec()
}

fn api_strategy(strategy: Strategy) -> api::StrategySpec {
    match strategy {
        Strategy::ActivePassive => api::StrategySpec::ActivePassive,
        Strategy::ActiveActive => api::StrategySpec::ActiveActive,
    }
}

fn healthy_backends(candidates: &[Candidate]) -> String {
    let healthy = candidates.iter().filter(|candidate| candidate.health == Health::Healthy).count();
    format!("{healthy}/{}", candidates.len())
}
