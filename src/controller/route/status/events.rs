//! Events that a status lists as pending, with their notes.

use super::{OutputsState, StatusBuilder, kept_note};
use crate::controller::events::{self, EventReason};
use crate::controller::route::LongKept;
use crate::controller::route::drills;
use crate::controller::route::installations::{self, rivals};
use crate::controller::route::progress::ProgressState;
use crate::controller::status::{condition_message, is_true, joined};
use mail_failover_api::conditions::condition;
use mail_failover_api::{MailRouteStatus, PendingEvent, RouteState};
use mail_failover_core::engine::{HoldReason, Notice, Transition, TransitionKind, TransitionReason};
use mail_failover_resolve::request::Remedy;

impl StatusBuilder<'_> {
    /// The Events still to be published: those pending before, and those of this status.
    pub(super) fn pending_events(&self, status: &MailRouteStatus) -> Vec<PendingEvent> {
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
        // The hold may change, and another one begin: nobody has to hear of that again.
        if let Some(held) = self.held().filter(|held| !held.is_momentary(self.now) && !held.is_told) {
            let note = held.to_string();
            events::push(
                &mut pending,
                self.event(EventReason::HeldOnDeadBackend, Some(&**held.carrier.backend), &note),
            );
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
        if !self.problems.is_empty() && !self.are_defects_reported(&defects) {
            events::push(&mut pending, self.event(EventReason::ConfigurationRejected, None, &defects));
        }
        if let OutputsState::Refused(rejections) = self.outputs {
            let refused = joined(rejections);
            if !self.is_reported(condition::OUTPUTS_APPLIED, &refused) {
                events::push(&mut pending, self.event(EventReason::OutputRefused, None, &refused));
            }
        }
        if let Some(ProgressState::Failing(rejections)) = &self.webhooks_state
            && !self.was_failing(condition::WEBHOOKS_APPLIED)
        {
            events::push(&mut pending, self.event(EventReason::WebhookFailing, None, &joined(rejections)));
        }
        if let Some((ProgressState::Failing(rejections), _)) = &self.dns_state
            && !self.was_failing(condition::DNS_APPLIED)
        {
            events::push(&mut pending, self.event(EventReason::DnsFailing, None, &joined(rejections)));
        }
        if let Some(LongKept::Messages { about, backend }) = self.kept
            && !is_true(&self.before.conditions, condition::MAIL_KEPT)
        {
            let note = kept_note(about, backend);
            events::push(&mut pending, self.event(EventReason::MailKept, Some(&**backend), &note));
        }
        let rivals = rivals(&status.installations);
        if !rivals.is_empty() && !is_true(&self.before.conditions, condition::INSTALLATION_CONFLICT) {
            let note = installations::words(&rivals, &self.resource.key);
            events::push(&mut pending, self.event(EventReason::InstallationConflict, None, &note));
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

    /// Returns true if a condition was False before.
    fn was_failing(&self, type_: &str) -> bool {
        self.before.conditions.iter().any(|one| one.type_ == type_ && one.status == "False")
    }

    /// Returns true if `Ready` has told these defects, alone or behind a hold.
    fn are_defects_reported(&self, defects: &str) -> bool {
        let existing = &self.before.conditions;
        let is_unready = !is_true(existing, condition::READY);
        let told = condition_message(existing, condition::READY);
        is_unready && (told == defects || told.ends_with(&self.defects_beside_a_hold()))
    }

    /// Returns true if a condition that is not True has this message already.
    fn is_reported(&self, type_: &str, message: &str) -> bool {
        let existing = &self.before.conditions;
        !is_true(existing, type_) && condition_message(existing, type_) == message
    }

    /// `ses-eu → sendgrid: AuthenticationRefused (AUTH: 535 5.7.8 …), decided 1.234 s after the first evidence`.
    pub(super) fn transition_note(&self, transition: &Transition) -> String {
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
}
