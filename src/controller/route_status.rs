//! The status of a `MailRoute`: what is persisted of decisions, and what people read.

use std::collections::{BTreeMap, BTreeSet};

use super::backend::{BackendEntry, api_health};
use super::events::{self, Telling};
use super::resolve::Rejection;
use super::status::{Conditions, MAX_MESSAGE, condition_message, is_true, joined};
use super::step::Subject;
use super::time::{micro_time, timestamp};
use crate::api::{self, MailRouteStatus, PendingEvent, RouteState, TransitionStatus};
use crate::engine::{
    Announcement, Candidate, Decision, Health, HoldReason, Memory, Standing, State, Transition, TransitionKind,
    TransitionReason,
};
use crate::model::{EvidenceClass, ObjectKey, Thresholds, Timestamp};

/// The API's bound on `status.history`.
const MAX_HISTORY: usize = 10;

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
            strategy: Some(api::Strategy::ActivePassive),
            active: memory
                .active
                .iter()
                .map(|name| api::ActiveBackend { backend: name.to_string(), percent: 100, overflow: false })
                .collect(),
            since: memory.active.is_some().then(|| micro_time(memory.since)),
            state: Some(api_state(memory.state)),
            message: None,
            healthy_backends: Some(healthy_backends(candidates)),
            hold: decision.and_then(|decision| decision.hold).map(|(reason, until)| api::HoldStatus {
                reason: reason.as_str().to_owned(),
                until: until.map(micro_time),
            }),
            backends: candidates.iter().map(|candidate| self.backend_status(candidate)).collect(),
            last_transition: self.before.last_transition.clone(),
            history: self.before.history.clone(),
            pending_events: vec![],
            conditions: vec![],
            ..MailRouteStatus::default()
        };
        self.record_transition(&mut status, decision.and_then(|decision| decision.transition.as_ref()), actuation);
        status.conditions = self.conditions(&status, actuation, candidates);
        status.pending_events = self.pending_events(decision, actuation, &status);
        status.message = Some(events::truncated(&self.sentence(&memory, &status), MAX_MESSAGE));
        status
    }

    fn record_transition(&self, status: &mut MailRouteStatus, transition: Option<&Transition>, actuation: &Actuation) {
        if let Some(transition) = transition {
            let transition = transition_status(transition);
            status.history.insert(0, transition.clone());
            status.history.truncate(MAX_HISTORY);
            status.last_transition = Some(transition);
        } else if matches!(actuation, Actuation::Complete)
            && let Some(last) = status.last_transition.as_mut().filter(|last| last.applied_at.is_none())
        {
            last.applied_at = Some(micro_time(self.now));
            if let Some(newest) = status.history.first_mut().filter(|newest| newest.id == last.id) {
                newest.applied_at.clone_from(&last.applied_at);
            }
        }
    }

    fn conditions(
        &self,
        status: &MailRouteStatus,
        actuation: &Actuation,
        candidates: &[Candidate],
    ) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
        let existing = &self.before.conditions;
        let active = status.active.first().map(|active| active.backend.as_str());
        let mut conditions = Conditions::new(existing, self.generation, self.now);

        let (outputs, outputs_reason, outputs_message) = match actuation {
            Actuation::Complete => {
                (Some(true), "Applied", format!("every output leads to {}", active.unwrap_or_default()))
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

        match (self.problems.first(), status.state, active) {
            (Some(problem), _, _) => conditions.set("Ready", Some(false), problem.reason, &joined(&self.problems)),
            (None, Some(RouteState::NoneHealthy), _) => {
                conditions.set("Ready", Some(false), "NoneHealthy", "no backend can deliver");
            }
            (None, _, None) => {
                let reason = status.hold.as_ref().map_or("AwaitingEvidence", |hold| hold.reason.as_str());
                conditions.set("Ready", Some(false), reason, &Self::no_choice_note(status));
            }
            (None, _, Some(active)) => match outputs {
                Some(true) => conditions.set("Ready", Some(true), "Delivering", &format!("mail leaves by {active}")),
                Some(false) => conditions.set("Ready", Some(false), outputs_reason, &outputs_message),
                None => conditions.set("Ready", Some(false), "OutputsWaiting", "the outputs are not written yet"),
            },
        }

        let preferred = candidates.first().map(|candidate| &*candidate.name);
        match (active, preferred) {
            (Some(active), Some(preferred)) if active == preferred => {
                conditions.set("FailedOver", Some(false), "Preferred", &format!("mail leaves by {active}"));
            }
            (Some(active), Some(preferred)) => {
                let reason = status.last_transition.as_ref().filter(|last| last.to == active);
                let reason = reason.map_or("PreferredNotHealthy", |last| last.reason.as_str());
                conditions.set(
                    "FailedOver",
                    Some(true),
                    reason,
                    &format!("mail leaves by {active} instead of {preferred}"),
                );
            }
            (_, _) => conditions.set("FailedOver", None, "AwaitingEvidence", "no backend is chosen yet"),
        }

        let standby = candidates.iter().find(|candidate| {
            Some(&*candidate.name) != active
                && candidate.standing == Standing::InService
                && candidate.health == Health::Healthy
        });
        match standby {
            Some(standby) => {
                conditions.set("Redundant", Some(true), "StandbyHealthy", &format!("{} could take over", standby.name));
            }
            None => conditions.set("Redundant", Some(false), "NoStandby", "no other backend could take over"),
        }
        if self.problems.iter().any(Rejection::is_of_spec) {
            conditions.set_stalled(&self.problems);
        }
        conditions.build()
    }

    fn pending_events(
        &self,
        decision: Option<&Decision>,
        actuation: &Actuation,
        status: &MailRouteStatus,
    ) -> Vec<PendingEvent> {
        let published = |event: &&PendingEvent| !self.published.contains(&event.name);
        let mut pending: Vec<_> = self.before.pending_events.iter().filter(published).cloned().collect();
        for announcement in decision.iter().flat_map(|decision| &decision.announcements) {
            let (telling, backend, note) = match announcement {
                Announcement::Moved => {
                    let Some(transition) = decision.and_then(|decision| decision.transition.as_ref()) else { continue };
                    let telling = match transition.kind {
                        TransitionKind::Failover => Telling::FailedOver,
                        TransitionKind::Failback => Telling::FailedBack,
                    };
                    (telling, Some(transition.to.clone()), self.transition_note(transition))
                }
                Announcement::NoneHealthy => (Telling::NoneHealthy, None, Self::none_healthy_note(status)),
                Announcement::Recovered => {
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
        let verdict = left.and_then(|entry| entry.evidence.verdict(self.thresholds));
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

    /// Why no backend is chosen yet.
    fn no_choice_note(status: &MailRouteStatus) -> String {
        match &status.hold {
            Some(hold) if hold.reason == HoldReason::NoneHealthy.as_str() => Self::none_healthy_note(status),
            Some(_) | None => "waiting for verdicts on the backends".to_owned(),
        }
    }

    fn none_healthy_note(status: &MailRouteStatus) -> String {
        let verdicts: Vec<_> =
            status.backends.iter().map(|backend| format!("{}: {}", backend.name, backend.reason)).collect();
        let stays = match status.active.first() {
            Some(active) => format!("mail stays with {}", active.backend),
            None => "mail has nowhere to go".to_owned(),
        };
        format!("no backend can deliver ({}); {stays}", verdicts.join(", "))
    }

    /// Where the mail goes and why not elsewhere.
    fn sentence(&self, memory: &Memory, status: &MailRouteStatus) -> String {
        if let Some(problem) = self.problems.first() {
            return problem.message.clone();
        }
        let hold = status.hold.as_ref().map(|hold| hold.reason.as_str());
        let Some(active) = &memory.active else { return Self::no_choice_note(status) };
        let by_hold = match hold {
            Some("Cooldown" | "MinimumStay" | "Soak") => ", a more preferred backend is healthy and waits",
            Some("ManualFailback") => ", a more preferred backend is healthy and a person has to decide",
            Some(_) | None => "",
        };
        match memory.state {
            State::NoneHealthy => Self::none_healthy_note(status),
            State::Preferred => format!("mail leaves by {active}"),
            State::FailedOver => match &memory.last_transition {
                Some(last) if last.to == *active => {
                    format!("mail leaves by {active}, {} was left: {}{by_hold}", last.from, last.reason.as_str())
                }
                Some(_) | None => format!("mail leaves by {active}{by_hold}"),
            },
            State::Holding => match hold {
                Some(hold) if hold == HoldReason::NoneHealthy.as_str() => {
                    format!("mail leaves by {active} although it is suspended: nobody else is healthy")
                }
                Some(_) | None => {
                    format!("mail leaves by {active}; nothing moves while the configuration cannot be used")
                }
            },
            State::Unknown => "waiting for verdicts on the backends".to_owned(),
        }
    }

    fn backend_status(&self, candidate: &Candidate) -> api::RouteBackendStatus {
        let entry = self.backends.get(&self.subject.key.sibling(candidate.name.clone()));
        let is_missing = entry.is_none_or(|entry| entry.object.is_none());
        let rejection = entry.and_then(BackendEntry::rejection).filter(|_| candidate.standing == Standing::Unusable);
        let reason = match (candidate.standing, rejection) {
            (Standing::InService, _) if !is_missing => candidate.class.as_str(),
            (Standing::Suspended, _) => "Suspended",
            (_, _) if is_missing => "BackendNotFound",
            (_, Some(rejection)) => rejection.reason,
            (_, None) => candidate.class.as_str(),
        };
        api::RouteBackendStatus {
            name: candidate.name.to_string(),
            health: api_health(candidate.health),
            reason: reason.to_owned(),
            since: (candidate.health != Health::Unknown).then(|| micro_time(candidate.since)),
        }
    }
}

/// What a status remembers of earlier decisions.
pub(super) fn memory(status: &MailRouteStatus) -> Memory {
    Memory {
        active: status.active.first().map(|active| active.backend.as_str().into()),
        since: status.since.as_ref().map(timestamp).unwrap_or_default(),
        state: status.state.map_or(State::Unknown, engine_state),
        last_transition: status.last_transition.as_ref().map(|last| Transition {
            id: last.id,
            kind: match last.kind {
                api::TransitionKind::Failover => TransitionKind::Failover,
                api::TransitionKind::Failback => TransitionKind::Failback,
            },
            from: last.from.as_str().into(),
            to: last.to.as_str().into(),
            reason: transition_reason(&last.reason),
            first_evidence_at: last.first_evidence_at.as_ref().map(timestamp),
            decided_at: timestamp(&last.decided_at),
        }),
    }
}

/// The reason of that name; one that a newer version has written says no more than that the backend failed.
fn transition_reason(name: &str) -> TransitionReason {
    let others = [
        TransitionReason::Suspended,
        TransitionReason::RemovedFromRoute,
        TransitionReason::Recovered,
        TransitionReason::NoneHealthy,
    ];
    let other = others.into_iter().find(|reason| reason.as_str() == name);
    let class = || EvidenceClass::from_name(name).unwrap_or(EvidenceClass::Inconclusive);
    other.unwrap_or_else(|| TransitionReason::Failed(class()))
}

fn transition_status(transition: &Transition) -> TransitionStatus {
    TransitionStatus {
        id: transition.id,
        kind: match transition.kind {
            TransitionKind::Failover => api::TransitionKind::Failover,
            TransitionKind::Failback => api::TransitionKind::Failback,
        },
        from: transition.from.to_string(),
        to: transition.to.to_string(),
        reason: transition.reason.as_str().to_owned(),
        first_evidence_at: transition.first_evidence_at.map(micro_time),
        decided_at: micro_time(transition.decided_at),
        applied_at: None,
    }
}

fn healthy_backends(candidates: &[Candidate]) -> String {
    let healthy = candidates.iter().filter(|candidate| candidate.health == Health::Healthy).count();
    format!("{healthy}/{}", candidates.len())
}

fn api_state(state: State) -> RouteState {
    match state {
        State::Preferred => RouteState::Preferred,
        State::FailedOver => RouteState::FailedOver,
        State::Holding => RouteState::Holding,
        State::NoneHealthy => RouteState::NoneHealthy,
        State::Unknown => RouteState::Unknown,
    }
}

fn engine_state(state: RouteState) -> State {
    match state {
        RouteState::Preferred => State::Preferred,
        RouteState::FailedOver | RouteState::FailingBack => State::FailedOver,
        RouteState::Holding | RouteState::Paused => State::Holding,
        RouteState::NoneHealthy => State::NoneHealthy,
        RouteState::Unknown => State::Unknown,
    }
}
