//! The status of a `MailRoute`: what is persisted of decisions, and what people read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::backend::{BackendEntry, api_health};
use super::events::{self, Telling};
use super::status::{Conditions, condition_message, is_true, joined};
use super::step::Subject;
use mail_failover_api::{self as api, MailRouteStatus, PendingEvent, RouteState};
use mail_failover_core::engine::{
    Candidate, Decision, Eligibility, Exclusion, Health, Notice, Transition, TransitionKind, TransitionReason,
};
use mail_failover_core::model::{ObjectKey, Strategy, Thresholds, Timestamp};
use mail_failover_resolve::Rejection;
use mail_failover_resolve::route_memory::{memory, remember};
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::{micro_time, timestamp};

/// The API's bounds on `status.explanation`: reasons, and bytes of each.
const MAX_REASONS: usize = 32;
const MAX_REASON: usize = 512;

/// How far the outputs lead where the decision says.
#[derive(Debug)]
pub(super) enum Actuation {
    /// All of them do.
    Complete,
    /// Writes are under way, or where to lead is not known yet: nothing new is said.
    Waiting,
    /// Somebody else has them, or the API server does not accept them.
    Refused(Vec<Rejection>),
    /// The API server does not answer as it should.
    Failing(String),
}

/// What a status is written with.
pub(super) struct Drafting<'a> {
    pub(super) subject: &'a Subject,
    pub(super) generation: i64,
    pub(super) now: Timestamp,
    pub(super) before: &'a MailRouteStatus,
    pub(super) published: &'a BTreeSet<String>,
    pub(super) problems: Vec<Rejection>,
    pub(super) thresholds: Thresholds,
    pub(super) strategy: Option<Strategy>,
    /// The policy's objective.
    pub(super) recovery_time: Option<Duration>,
    /// The transition that an agent has carried out, and when its first message was out.
    pub(super) first_delivery: Option<(i64, Timestamp)>,
    pub(super) backends: &'a BTreeMap<ObjectKey, BackendEntry>,
}

impl Drafting<'_> {
    /// The status for a decision and what has become of it.
    pub(super) fn status(
        &self,
        decision: Option<&Decision>,
        actuation: &Actuation,
        candidates: &[Candidate],
    ) -> MailRouteStatus {
        let memory = decision.map_or_else(|| memory(self.before), |decision| decision.memory.clone());
        let mut status = MailRouteStatus {
            observed_generation: Some(self.generation),
            strategy: self.strategy.map(api_strategy).or(self.before.strategy),
            healthy_backends: Some(healthy_backends(candidates)),
            waiting_for: decision.and_then(|decision| decision.hold).map(|hold| api::WaitingForStatus {
                reason: hold.reason.as_str().to_owned(),
                until: hold.until.map(micro_time),
            }),
            unplaced_percent: decision.map(|decision| i32::from(decision.unplaced)).filter(|unplaced| *unplaced > 0),
            explanation: decision.map_or_else(|| self.before.explanation.clone(), explanation),
            backends: candidates.iter().map(|candidate| self.backend_status(candidate)).collect(),
            ..MailRouteStatus::default()
        };
        remember(&memory, self.before, &mut status);
        self.note_applied(&mut status, decision.and_then(|decision| decision.transition.as_ref()), actuation);
        status.conditions = self.conditions(&status, decision, actuation, candidates);
        status.pending_events = self.pending_events(decision, actuation, &status);
        status.message = Some(truncated(&self.sentence(decision), MAX_MESSAGE));
        status
    }

    /// Once every output leads where the latest transition says, it is applied; and an agent says when the first message was out on the new way.
    fn note_applied(&self, status: &mut MailRouteStatus, decided_now: Option<&Transition>, actuation: &Actuation) {
        if decided_now.is_none()
            && matches!(actuation, Actuation::Complete)
            && let Some(last) = status.history.first_mut().filter(|last| last.applied_at.is_none())
        {
            last.applied_at = Some(micro_time(self.now));
        }
        if let (Some((id, at)), Some(last)) = (self.first_delivery, status.history.first_mut())
            && last.id == id
            && last.first_delivery_at.is_none()
        {
            // By the agent's account of how long ago it was, which cannot be before the decision that it follows.
            last.first_delivery_at = Some(micro_time(at.max(timestamp(&last.decided_at))));
        }
        status.last_transition = status.history.first().cloned();
    }

    fn conditions(
        &self,
        status: &MailRouteStatus,
        decision: Option<&Decision>,
        actuation: &Actuation,
        candidates: &[Candidate],
    ) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
        let existing = &self.before.conditions;
        let active = status.active.first().map(|active| active.backend.as_str());
        let mut conditions = Conditions::new(existing, self.generation, self.now);

        let (outputs, outputs_reason, outputs_message) = match actuation {
            Actuation::Complete => {
                let carriers: Vec<_> = status.active.iter().map(|active| active.backend.as_str()).collect();
                (Some(true), "Applied", format!("every output leads to {}", carriers.join(", ")))
            }
            Actuation::Refused(refusals) => {
                (Some(false), refusals.first().map_or("Refused", |r| r.reason), joined(refusals))
            }
            Actuation::Failing(error) => (Some(false), "WriteFailed", error.clone()),
            Actuation::Waiting if is_true(existing, "OutputsApplied") => {
                (Some(true), "Applied", condition_message(existing, "OutputsApplied").to_owned())
            }
            Actuation::Waiting => (None, "Waiting", "not written yet".to_owned()),
        };
        conditions.set("OutputsApplied", outputs, outputs_reason, &outputs_message);

        let sentence = self.sentence(decision);
        match (self.problems.first(), status.state, active) {
            (Some(problem), _, _) => conditions.set("Ready", Some(false), problem.reason, &joined(&self.problems)),
            (None, Some(RouteState::NoneHealthy), _) => {
                conditions.set("Ready", Some(false), "NoneHealthy", &sentence);
            }
            (None, _, None) => {
                let reason = status.waiting_for.as_ref().map_or("AwaitingEvidence", |hold| hold.reason.as_str());
                conditions.set("Ready", Some(false), reason, &sentence);
            }
            (None, _, Some(_)) => match outputs {
                Some(true) => conditions.set("Ready", Some(true), "Delivering", &sentence),
                Some(false) => conditions.set("Ready", Some(false), outputs_reason, &outputs_message),
                None => conditions.set("Ready", Some(false), "OutputsWaiting", "the outputs are not written yet"),
            },
        }

        match (active, decision.map(|decision| decision.is_preferred)) {
            (Some(_), Some(true)) => conditions.set("FailedOver", Some(false), "Preferred", &sentence),
            (Some(active), Some(false)) => {
                let reason = status.last_transition.as_ref().filter(|last| last.to == active);
                let reason = reason.map_or("PreferredNotHealthy", |last| last.reason.as_str());
                conditions.set("FailedOver", Some(true), reason, &sentence);
            }
            // Without a decision what was said stays.
            (Some(_), None) if !condition_message(existing, "FailedOver").is_empty() => {
                conditions.keep("FailedOver");
            }
            (_, _) => conditions.set("FailedOver", None, "AwaitingEvidence", "no backend is chosen yet"),
        }

        let standby = candidates.iter().find(|candidate| {
            Some(&*candidate.name) != active
                && candidate.eligibility == Eligibility::InService
                && candidate.health == Health::Healthy
        });
        match standby {
            Some(standby) => {
                conditions.set("Redundant", Some(true), "StandbyHealthy", &format!("{} could take over", standby.name));
            }
            None => conditions.set("Redundant", Some(false), "NoStandby", "no other backend could take over"),
        }
        self.judge_recovery_time(&mut conditions, status);
        if self.problems.iter().any(Rejection::is_of_spec) {
            conditions.set_stalled(&self.problems);
        }
        conditions.build()
    }

    /// Whether the latest failover that evidence led to was as quick as `objectives.recoveryTime` demands.
    fn judge_recovery_time(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let Some(objective) = self.recovery_time else { return };
        let took = status.history.iter().find_map(|transition| {
            let is_failover = transition.kind == api::TransitionKind::Failover;
            let began_at = timestamp(transition.first_evidence_at.as_ref().filter(|_| is_failover)?);
            Some(timestamp(transition.applied_at.as_ref()?).since(began_at))
        });
        match took {
            None => conditions.set("RecoveryTimeMet", None, "NoFailover", "no failover is on record"),
            Some(took) => {
                let is_met = took <= objective;
                let message =
                    format!("the latest failover took {:.3} s of {:.3} s", took.as_secs_f64(), objective.as_secs_f64());
                let reason = if is_met { "WithinObjective" } else { "ObjectiveMissed" };
                conditions.set("RecoveryTimeMet", Some(is_met), reason, &message);
            }
        }
    }

    fn pending_events(
        &self,
        decision: Option<&Decision>,
        actuation: &Actuation,
        status: &MailRouteStatus,
    ) -> Vec<PendingEvent> {
        let published = |event: &&PendingEvent| !self.published.contains(&event.name);
        let mut pending: Vec<_> = self.before.pending_events.iter().filter(published).cloned().collect();
        for notice in decision.iter().flat_map(|decision| &decision.notices) {
            let (telling, backend, note) = match notice {
                Notice::Moved => {
                    let Some(transition) = decision.and_then(|decision| decision.transition.as_ref()) else { continue };
                    let telling = match transition.kind {
                        TransitionKind::Failover => Telling::FailedOver,
                        TransitionKind::Failback => Telling::FailedBack,
                    };
                    (telling, Some(transition.to.clone()), self.transition_note(transition))
                }
                Notice::RequestAnswered => {
                    let Some(answer) = decision.and_then(|decision| decision.memory.request.as_ref()) else { continue };
                    let telling = if answer.is_done { Telling::RequestDone } else { Telling::RequestRefused };
                    (telling, None, format!("{} ({}): {}", answer.action, answer.id, answer.message))
                }
                Notice::NoneHealthy => (Telling::NoneHealthy, None, self.sentence(decision)),
                Notice::Recovered => {
                    let by = status.active.first().map_or("", |active| active.backend.as_str());
                    (Telling::Recovered, None, format!("mail can leave again, by {by}"))
                }
            };
            events::push(&mut pending, events::pending(self.subject, telling, self.now, backend.as_deref(), &note));
        }
        let told = |type_: &str, message: &str| {
            let existing = &self.before.conditions;
            !is_true(existing, type_) && condition_message(existing, type_) == message
        };
        let rejected = joined(&self.problems);
        if !self.problems.is_empty() && !told("Ready", &rejected) {
            let event = events::pending(self.subject, Telling::ConfigurationRejected, self.now, None, &rejected);
            events::push(&mut pending, event);
        }
        if let Actuation::Refused(refusals) = actuation
            && !told("OutputsApplied", &joined(refusals))
        {
            let event = events::pending(self.subject, Telling::OutputRefused, self.now, None, &joined(refusals));
            events::push(&mut pending, event);
        }
        pending
    }

    /// `ses-eu → sendgrid: AuthenticationRefused (AUTH: 535 5.7.8 …), decided 1.234 s after the first evidence`.
    fn transition_note(&self, transition: &Transition) -> String {
        let left = self.backends.get(&self.subject.key.sibling(transition.from.clone()));
        let verdict = left.and_then(|entry| entry.evidence.verdict(self.thresholds, self.now));
        let seen = match (transition.reason, verdict) {
            (TransitionReason::Failed(_), Some(verdict)) if !verdict.message.is_empty() => {
                format!(" ({})", verdict.message)
            }
            (_, _) => String::new(),
        };
        let after = match (transition.reason, transition.first_evidence_at) {
            (TransitionReason::Recovered, Some(at)) => {
                format!(", {:.0} s after it became healthy", transition.decided_at.since(at).as_secs_f64())
            }
            (_, Some(at)) => {
                format!(", decided {:.3} s after the first evidence", transition.decided_at.since(at).as_secs_f64())
            }
            (_, None) => String::new(),
        };
        format!("{} → {}: {}{seen}{after}", transition.from, transition.to, transition.reason.as_str())
    }

    /// Where the mail goes and why not elsewhere: what is wrong with the configuration, or else the summary of the decision.
    fn sentence(&self, decision: Option<&Decision>) -> String {
        match (self.problems.first(), decision) {
            (Some(problem), _) => problem.message.clone(),
            (None, Some(decision)) => decision.explanation.summary(),
            (None, None) => self.before.message.clone().unwrap_or_default(),
        }
    }

    fn backend_status(&self, candidate: &Candidate) -> api::RouteBackendStatus {
        let entry = self.backends.get(&self.subject.key.sibling(candidate.name.clone()));
        let is_missing = entry.is_none_or(|entry| entry.object.is_none());
        let rejection =
            entry.and_then(BackendEntry::rejection).filter(|_| candidate.eligibility == Eligibility::Unusable);
        let reason = match (candidate.eligibility, rejection) {
            (Eligibility::InService, _) if !is_missing => candidate.class.as_str(),
            (Eligibility::Suspended, _) => "Suspended",
            (_, _) if is_missing => "BackendNotFound",
            (Eligibility::Excluded(Exclusion::Residency), _) => "Residency",
            (Eligibility::Excluded(Exclusion::SenderDomain), _) => "SenderDomain",
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

fn explanation(decision: &Decision) -> Vec<String> {
    let reasons = decision.explanation.reasons.iter().map(|reason| truncated(&reason.to_string(), MAX_REASON));
    // What is decided stands at the end; of many backends the first ones' verdicts give way.
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
