//! The status of a `MailRoute`: decisions that are persisted, and texts for people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::dns::{DnsState, KIND as DNS};
use super::drills::{self, DRILL};
use super::held::HeldMail;
use super::notices::Notices;
use super::objectives::{self, Measurement};
use super::webhooks::{KIND as WEBHOOK, WebhooksState};
use crate::controller::action::ResourceRef;
use crate::controller::backend::{BackendEntry, api_health};
use crate::controller::events::{self, EventReason};
use crate::controller::route::{KEPT_FOR_LONG, LongKept};
use crate::controller::status::{Conditions, condition_message, is_true, joined};
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{self as api, ActiveBackend, MailRouteStatus, OutputStatus, PendingEvent, RouteState};
use mail_failover_core::engine::{
    Candidate, Decision, Eligibility, Exclusion, Health, HoldReason, Notice, State, Transition, TransitionKind,
    TransitionReason,
};
use mail_failover_core::model::{ClockDrift, ObjectKey, Policy, Strategy, Thresholds, Timestamp, Uid};
use mail_failover_resolve::Rejection;
use mail_failover_resolve::request::Remedy;
use mail_failover_resolve::route_memory::{memory, remember};
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::{micro_time, timestamp};

/// The API's bound on the number of reasons in `status.explanation`.
const MAX_REASONS: usize = 32;
/// The API's bound on one reason in `status.explanation`, in bytes.
const MAX_REASON: usize = 512;

/// State of the outputs, compared with the decision.
#[derive(Debug)]
pub(super) enum OutputsState {
    /// Every output leads where the decision says.
    Complete,
    /// Writes are under way, or the addresses are not known yet: no condition changes.
    Waiting,
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
    pub(super) webhooks_state: Option<WebhooksState>,
    /// The DNS records' entries of `status.outputs`; `None` if they stay as they were.
    pub(super) dns: Option<Vec<OutputStatus>>,
    /// State of the DNS records; `None` without any.
    pub(super) dns_state: Option<DnsState>,
    /// Backends for which messages try others first at all agents of the route, if it has no outputs but theirs.
    pub(super) bypassed_by_agents: &'a BTreeSet<Arc<str>>,
    /// True if mail has waited for long beside an agent, and none has left there meanwhile.
    pub(super) is_mail_stuck: bool,
    pub(super) uid: &'a Uid,
    /// Looks up if a message in a policy's status tells a notification of the route; `None` if nobody is to be told.
    pub(super) is_taken: Option<&'a dyn Fn(&str) -> bool>,
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

    fn conditions(&self, status: &MailRouteStatus) -> Vec<Condition> {
        let mut conditions = Conditions::new(&self.before.conditions, self.generation, self.now);
        self.set_outputs_applied(&mut conditions, status);
        self.set_ready(&mut conditions, status);
        self.set_failed_over(&mut conditions, status);
        self.set_redundant(&mut conditions, status);
        self.set_recovery_time_met(&mut conditions, status);
        objectives::set_condition(&mut conditions, status.objectives.as_ref());
        self.set_mail_kept(&mut conditions);
        self.set_webhooks_applied(&mut conditions);
        self.set_dns_applied(&mut conditions);
        if self.problems.iter().any(Rejection::is_of_spec) {
            conditions.set_stalled(&self.problems);
        }
        conditions.build()
    }

    fn set_outputs_applied(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let (applied, reason, message) = self.outputs_applied(status);
        conditions.set(condition::OUTPUTS_APPLIED, applied, reason, &message);
    }

    /// Status, reason and message of `OutputsApplied`.
    fn outputs_applied(&self, status: &MailRouteStatus) -> (Option<bool>, &'static str, String) {
        match self.outputs {
            OutputsState::Complete => {
                let carriers: Vec<_> = status.active.iter().map(|active| active.backend.as_str()).collect();
                if carriers.is_empty() {
                    return (Some(true), reason::APPLIED, "no output leads to any backend".to_owned());
                }
                (Some(true), reason::APPLIED, format!("every output leads to {}", carriers.join(", ")))
            }
            OutputsState::Refused(rejections) => {
                let reason = rejections.first().map_or(reason::REFUSED, |rejection| rejection.reason);
                (Some(false), reason, joined(rejections))
            }
            OutputsState::Failing(error) => (Some(false), reason::WRITE_FAILED, error.clone()),
            OutputsState::Unanswered(rejections) => {
                let reason = rejections.first().map_or(reason::WEBHOOK_FAILING, |rejection| rejection.reason);
                (Some(false), reason, joined(rejections))
            }
            OutputsState::Waiting if is_true(&self.before.conditions, condition::OUTPUTS_APPLIED) => {
                let message = condition_message(&self.before.conditions, condition::OUTPUTS_APPLIED);
                (Some(true), reason::APPLIED, message.to_owned())
            }
            OutputsState::Waiting => (None, reason::WAITING, "not written yet".to_owned()),
        }
    }

    fn set_ready(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let sentence = self.sentence();
        let (is_ready, reason, message) = if let Some(problem) = self.problems.first() {
            (false, problem.reason, joined(&self.problems))
        } else if status.state == Some(RouteState::NoneHealthy) {
            (false, reason::NONE_HEALTHY, sentence)
        } else if self.held().is_some() {
            (false, reason::HELD_ON_DEAD_BACKEND, sentence)
        } else if status.active.is_empty() {
            (
                false,
                status.waiting_for.as_ref().map_or(reason::AWAITING_EVIDENCE, |hold| hold.reason.as_str()),
                sentence,
            )
        } else {
            match self.outputs_applied(status) {
                (Some(true), _, _) if self.is_mail_stuck => (false, reason::MAIL_WAITS, MAIL_WAITS.to_owned()),
                (Some(true), _, _) => (true, reason::DELIVERING, sentence),
                (Some(false), reason, message) => (false, reason, message),
                (None, _, _) => (false, reason::OUTPUTS_WAITING, "the outputs are not written yet".to_owned()),
            }
        };
        conditions.set(condition::READY, Some(is_ready), reason, &message);
    }

    fn set_failed_over(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let active = status.active.first().map(|active| active.backend.as_str());
        match (active, self.decision.map(|decision| decision.is_preferred)) {
            (Some(_), Some(_)) if self.decision.is_some_and(|decision| decision.memory.leading_drill().is_some()) => {
                conditions.set(condition::FAILED_OVER, Some(false), reason::DRILL, &self.sentence());
            }
            (Some(_), Some(true)) => {
                conditions.set(condition::FAILED_OVER, Some(false), reason::PREFERRED, &self.sentence());
            }
            (Some(active), Some(false)) => {
                let last = status.last_transition.as_ref().filter(|last| last.to == active);
                let reason = last.map_or(reason::PREFERRED_NOT_HEALTHY, |last| last.reason.as_str());
                conditions.set(condition::FAILED_OVER, Some(true), reason, &self.sentence());
            }
            // Without a decision nothing new is said.
            (Some(_), None) if !condition_message(&self.before.conditions, condition::FAILED_OVER).is_empty() => {
                conditions.keep(condition::FAILED_OVER);
            }
            (_, _) => {
                let message = "no backend is chosen yet";
                conditions.set(condition::FAILED_OVER, None, reason::AWAITING_EVIDENCE, message);
            }
        }
    }

    fn set_redundant(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let active = status.active.first().map(|active| active.backend.as_str());
        let standby = self.candidates.iter().find(|candidate| {
            Some(&*candidate.name) != active
                && candidate.eligibility == Eligibility::InService
                && candidate.health == Health::Healthy
        });
        let (reason, message) = match standby {
            Some(standby) => (reason::STANDBY_HEALTHY, format!("{} could take over", standby.name)),
            None => (reason::NO_STANDBY, "no other backend could take over".to_owned()),
        };
        conditions.set(condition::REDUNDANT, Some(standby.is_some()), reason, &message);
    }

    /// Compares the latest failover that evidence led to with the policy's `objectives.recoveryTime`.
    fn set_recovery_time_met(&self, conditions: &mut Conditions<'_>, status: &MailRouteStatus) {
        let Some(objective) = self.recovery_time else { return };
        let Some(took) = status.history.iter().find_map(time_of_failover) else {
            return conditions.set(condition::RECOVERY_TIME_MET, None, reason::NO_FAILOVER, "no failover is on record");
        };
        let is_met = took <= objective;
        let reason = if is_met { reason::WITHIN_OBJECTIVE } else { reason::OBJECTIVE_MISSED };
        let message =
            format!("the latest failover took {:.3} s of {:.3} s", took.as_secs_f64(), objective.as_secs_f64());
        conditions.set(condition::RECOVERY_TIME_MET, Some(is_met), reason, &message);
    }

    fn set_mail_kept(&self, conditions: &mut Conditions<'_>) {
        match self.kept {
            Some(LongKept::Messages { about, backend }) => {
                conditions.set(condition::MAIL_KEPT, Some(true), about, &kept_note(about, backend));
            }
            Some(LongKept::Nothing) if is_true(&self.before.conditions, condition::MAIL_KEPT) => {
                let message = "no message waits for long because a backend refuses it";
                conditions.set(condition::MAIL_KEPT, Some(false), reason::NOTHING_KEPT, message);
            }
            // A route whose mail was never kept has no such condition. Agents report every few seconds; until then what
            // is persisted stays.
            Some(LongKept::Nothing) | None => conditions.keep(condition::MAIL_KEPT),
        }
    }

    fn set_webhooks_applied(&self, conditions: &mut Conditions<'_>) {
        match &self.webhooks_state {
            Some(WebhooksState::Applied) => {
                let message = "every receiver has accepted where the route leads";
                conditions.set(condition::WEBHOOKS_APPLIED, Some(true), reason::APPLIED, message);
            }
            Some(WebhooksState::Pending(names)) => {
                let message = format!("not accepted yet: {}", names.join(", "));
                conditions.set(condition::WEBHOOKS_APPLIED, None, reason::WEBHOOK_PENDING, &message);
            }
            Some(WebhooksState::Failing(rejections)) => {
                let reason = rejections.first().map_or(reason::WEBHOOK_FAILING, |rejection| rejection.reason);
                conditions.set(condition::WEBHOOKS_APPLIED, Some(false), reason, &joined(rejections));
            }
            None if self.decision.is_none() => conditions.keep(condition::WEBHOOKS_APPLIED),
            None => {}
        }
    }

    fn set_dns_applied(&self, conditions: &mut Conditions<'_>) {
        match &self.dns_state {
            Some(DnsState::Applied { ttl, is_seen }) => {
                let ttl = ttl.as_secs_f64();
                let longer =
                    self.recovery_time.map(|objective| objective.as_secs_f64()).filter(|objective| *objective < ttl);
                let longer = longer.map_or_else(String::new, |objective| {
                    format!(", which is longer than objectives.recoveryTime ({objective} s): set a shorter ttl")
                });
                let seen = if *is_seen {
                    "every authority answers with the records of the active backend"
                } else {
                    "external-dns has the records of the active backend; name authorities to have it seen that it publishes them"
                };
                let message =
                    format!("{seen}; after a failover caches may keep the records before for {ttl} s{longer}");
                conditions.set(condition::DNS_APPLIED, Some(true), reason::APPLIED, &message);
            }
            Some(DnsState::Pending(names)) => {
                let message = format!("not seen at every authority yet: {}", names.join(", "));
                conditions.set(condition::DNS_APPLIED, None, reason::DNS_PENDING, &message);
            }
            Some(DnsState::Failing(rejections)) => {
                let reason = rejections.first().map_or(reason::DNS_FAILING, |rejection| rejection.reason);
                conditions.set(condition::DNS_APPLIED, Some(false), reason, &joined(rejections));
            }
            None if self.decision.is_none() => conditions.keep(condition::DNS_APPLIED),
            None => {}
        }
    }

    /// The Events still to be published: those pending before, and those of this status.
    fn pending_events(&self, status: &MailRouteStatus) -> Vec<PendingEvent> {
        let before = self.before.pending_events.iter();
        let mut pending: Vec<_> = before.filter(|event| !self.published.contains(&event.name)).cloned().collect();
        // What has not been told yet needs no all-clear.
        let is_taken_back = status.state != Some(RouteState::NoneHealthy)
            && events::take_back(&mut pending, EventReason::NoneHealthy, self.now);
        for announcement in self.decision.iter().flat_map(|decision| &decision.notices) {
            if is_taken_back && *announcement == Notice::Recovered {
                continue;
            }
            if let Some((reason, backend, note)) = self.announced(*announcement, status) {
                let is_first = matches!(self.before.state, None | Some(RouteState::Unknown));
                let at = if *announcement == Notice::NoneHealthy && is_first { self.first_alarm_at } else { self.now };
                events::push(&mut pending, events::pending(self.resource, reason, at, backend.as_deref(), &note));
            }
        }
        if let Some(held) = self.held().filter(|held| !held.is_momentary()) {
            // The hold may change, and another one begin: nobody has to hear of that again.
            let waited_for = self.before.waiting_for.as_ref().map(|hold| hold.reason.as_str());
            let was_told = self.before.state == Some(RouteState::Holding)
                && waited_for != Some(HoldReason::AwaitingConfirmation.as_str());
            if !was_told {
                let note = held.to_string();
                events::push(&mut pending, self.event(EventReason::HeldOnDeadBackend, Some(held.backend), &note));
            }
        }
        let waits_for = status.waiting_for.as_ref().map(|hold| hold.reason.as_str());
        let waited_for = self.before.waiting_for.as_ref().map(|hold| hold.reason.as_str());
        if waits_for == Some(HoldReason::ManualFailback.as_str()) && waited_for != waits_for {
            let note = format!(
                "a more preferred backend has recovered, and a person has to approve the return: {}",
                Remedy::ApproveFailback.command(&self.resource.key)
            );
            events::push(&mut pending, self.event(EventReason::ApprovalWanted, None, &note));
        }
        if let Some(note) = self.lost_standby(status) {
            events::push(&mut pending, self.event(EventReason::StandbyLost, None, &note));
        }
        let defects = joined(&self.problems);
        if !self.problems.is_empty() && !self.is_reported(condition::READY, &defects) {
            events::push(&mut pending, self.event(EventReason::ConfigurationRejected, None, &defects));
        }
        if let OutputsState::Refused(rejections) = self.outputs {
            let refused = joined(rejections);
            if !self.is_reported(condition::OUTPUTS_APPLIED, &refused) {
                events::push(&mut pending, self.event(EventReason::OutputRefused, None, &refused));
            }
        }
        if let Some(WebhooksState::Failing(rejections)) = &self.webhooks_state {
            let was_failing = self
                .before
                .conditions
                .iter()
                .any(|one| one.type_ == condition::WEBHOOKS_APPLIED && one.status == "False");
            if !was_failing {
                events::push(&mut pending, self.event(EventReason::WebhookFailing, None, &joined(rejections)));
            }
        }
        if let Some(DnsState::Failing(rejections)) = &self.dns_state {
            let conditions = &self.before.conditions;
            let was_failing = conditions.iter().any(|one| one.type_ == condition::DNS_APPLIED && one.status == "False");
            if !was_failing {
                events::push(&mut pending, self.event(EventReason::DnsFailing, None, &joined(rejections)));
            }
        }
        if let Some(LongKept::Messages { about, backend }) = self.kept
            && !is_true(&self.before.conditions, condition::MAIL_KEPT)
        {
            let note = kept_note(about, backend);
            events::push(&mut pending, self.event(EventReason::MailKept, Some(&**backend), &note));
        }
        pending
    }

    /// Note for people when the last standby of a route is lost; `None` otherwise.
    // A failover takes the standby, and its own Event says so.
    fn lost_standby(&self, status: &MailRouteStatus) -> Option<String> {
        let was_redundant = is_true(&self.before.conditions, condition::REDUNDANT);
        let is_lost = was_redundant && !is_true(&status.conditions, condition::REDUNDANT);
        let has_moved = self.before.last_transition.as_ref().map(|last| last.id)
            != status.last_transition.as_ref().map(|last| last.id);
        // Before the first choice any healthy backend is one that could take over.
        let is_first = self.before.active.is_empty();
        if !is_lost || is_first || has_moved || status.state == Some(RouteState::NoneHealthy) {
            return None;
        }
        let active = status.active.first()?;
        let others = self.candidates.iter().filter(|candidate| *candidate.name != *active.backend);
        let others: Vec<_> = others
            .map(|other| format!("{} is {} ({})", other.name, other.health.as_str(), other.class.as_str()))
            .collect();
        let others = if others.is_empty() { "it has no other backend".to_owned() } else { others.join(", ") };
        Some(format!("mail leaves by {}, and no other backend could take over: {others}", active.backend))
    }

    fn event(&self, reason: EventReason, backend: Option<&str>, note: &str) -> PendingEvent {
        events::pending(self.resource, reason, self.now, backend, note)
    }

    /// Reason, backend and note of the Event for an announcement of the decision.
    fn announced(
        &self,
        announcement: Notice,
        status: &MailRouteStatus,
    ) -> Option<(EventReason, Option<String>, String)> {
        let decision = self.decision?;
        Some(match announcement {
            Notice::Moved => {
                let transition = decision.transition.as_ref()?;
                let reason = match transition.kind {
                    TransitionKind::Failover => EventReason::FailedOver,
                    TransitionKind::Failback => EventReason::FailedBack,
                };
                (reason, Some(transition.to.to_string()), self.transition_note(transition))
            }
            Notice::RequestAnswered => {
                let answer = decision.memory.request.as_ref()?;
                let reason = if answer.is_done { EventReason::RequestDone } else { EventReason::RequestRefused };
                let why = answer.reason.as_ref().map_or_else(String::new, |why| format!(" (reason given: {why})"));
                let by = answer.asked_by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
                (reason, None, format!("{} ({}{by}): {}{why}", answer.action, answer.id, answer.message))
            }
            Notice::DrillBegan => {
                let drill = decision.memory.drill.as_ref()?;
                let note = format!(
                    "a drill ({}) of {} with the standby {} begins, and is over by {} at the latest: nothing has failed",
                    drill.mode.as_str(),
                    drill.backend,
                    drill.standby,
                    drill.until
                );
                (EventReason::DrillBegan, Some(drill.backend.to_string()), note)
            }
            Notice::DrillEnded => {
                let result = drills::latest(status)?;
                (drills::event_of(result), result.backend.clone(), drills::line(result))
            }
            Notice::NoneHealthy => (EventReason::NoneHealthy, None, self.sentence()),
            Notice::Recovered => {
                let by = status.active.first().map_or("", |active| active.backend.as_str());
                (EventReason::Recovered, None, format!("mail can leave again, by {by}"))
            }
        })
    }

    /// Returns true if a condition that is not True has this message already.
    fn is_reported(&self, type_: &str, message: &str) -> bool {
        let existing = &self.before.conditions;
        !is_true(existing, type_) && condition_message(existing, type_) == message
    }

    /// `ses-eu → sendgrid: AuthenticationRefused (AUTH: 535 5.7.8 …), decided 1.234 s after the first evidence`.
    fn transition_note(&self, transition: &Transition) -> String {
        let left = self.backends.get(&self.resource.key.sibling(transition.from.clone()));
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

    /// A summary for people: the first defect of the configuration; without one, the summary of the decision.
    fn sentence(&self) -> String {
        match (self.problems.first(), self.held(), self.decision) {
            (Some(problem), _, _) => problem.message.clone(),
            (None, Some(held), _) => held.to_string(),
            (None, None, Some(decision)) => format!("{}{}", decision.explanation.summary(), self.diversion()),
            (None, None, None) => self.before.message.clone().unwrap_or_default(),
        }
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

    /// The backend that cannot deliver and keeps mail all the same; `None` if there is none, or if
    /// another one could not deliver either.
    fn held(&self) -> Option<HeldMail<'_>> {
        let decision = self.decision.filter(|decision| decision.memory.state != State::NoneHealthy)?;
        let shares = decision.memory.shares.iter().filter(|share| share.percent > 0);
        let mut carriers = shares.filter_map(|share| self.candidates.iter().find(|one| one.name == share.backend));
        let dead = carriers.find(|carrier| {
            let is_in_list = matches!(carrier.eligibility, Eligibility::InService | Eligibility::Suspended);
            carrier.is_dead() && is_in_list && !self.bypassed_by_agents.contains(&carrier.name)
        })?;
        let mut others = self.candidates.iter().filter(|other| other.name != dead.name);
        let standby = others.clone().find(|other| other.is_eligible());
        let any = others.find(|other| other.eligibility == Eligibility::InService);
        Some(HeldMail {
            route: &self.resource.key,
            backend: &dead.name,
            class: dead.unseen_failure.map_or(dead.class, |unseen| unseen.class),
            hold: decision.hold,
            to: standby.or(any).map(|other| &*other.name),
            is_to_alive: standby.is_some(),
        })
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

/// Text of `Ready` while mail is stuck.
// Without a count and an age: the status must not change with each report.
const MAIL_WAITS: &str = "mail has waited beside Postfix for more than 5 min, and none has left there meanwhile; \
                          `mail-failover agent status` and `mailq` there tell why";

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
