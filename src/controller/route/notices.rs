//! Notifications of one route: what has begun and what has ended between two of its statuses.
//!
//! They stand in the status that they tell of, so that a crash neither loses nor doubles one. A message of the policy
//! takes them over, and the route drops them once that message stands in the policy's status.

use std::time::Duration;

use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{
    MailRouteStatus, OngoingNotification, PendingNotification, RouteState, TransitionKind, TransitionStatus,
};
use mail_failover_core::engine::HoldReason;
use mail_failover_core::model::{Occasion, Timestamp, Uid};
use mail_failover_notifications::id;
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::{micro_time, timestamp};

use super::drills::{self, DRILL};
use crate::controller::status::{condition_message, is_true};

/// The API's bound on `status.pendingNotifications`.
const MAX_PENDING: usize = 16;
/// The API's bound on `status.ongoing`.
const MAX_ONGOING: usize = 8;
/// Time for which a standby is lost, or the operator has trouble, before anybody is told.
// A backend that is added has no evidence yet, and objects that are applied one after another come together.
const DELAY: Duration = Duration::from_mins(1);

/// Everything that notifications of a route follow from.
pub(super) struct Notices<'a> {
    pub(super) uid: &'a Uid,
    pub(super) now: Timestamp,
    /// Time at which it may be told that the route has never worked.
    pub(super) first_alarm_at: Timestamp,
    pub(super) before: &'a MailRouteStatus,
    pub(super) after: &'a MailRouteStatus,
    /// Description of the transition that was just decided, for people.
    pub(super) transition_note: Option<String>,
    /// Looks up if a message in the policy's status tells the notification of an id.
    pub(super) is_taken: &'a dyn Fn(&str) -> bool,
}

/// Something that lasts.
struct Lasting {
    occasion: Occasion,
    backend: Option<String>,
    why: String,
}

impl Notices<'_> {
    /// The notifications that are outstanding, and what lasts.
    pub(super) fn build(&self) -> (Vec<PendingNotification>, Vec<OngoingNotification>) {
        let before = self.before.pending_notifications.iter();
        let mut pending: Vec<_> = before.filter(|one| !(self.is_taken)(&one.id)).cloned().collect();
        let lasting = lasting(self.before, self.after);
        let is_lasting = |one: &OngoingNotification| lasting.iter().any(|lasting| lasting.is(one));
        let (mut ongoing, ended): (Vec<_>, Vec<_>) = self.before.ongoing.iter().cloned().partition(is_lasting);
        let moved = self.moved();
        for one in ended {
            self.end(&mut pending, &one, moved);
        }
        if let Some(moved) = moved {
            self.announce_move(&mut pending, &lasting, moved);
        }
        for lasting in lasting {
            if ongoing.iter().any(|one| lasting.is(one)) {
                continue;
            }
            let is_told = moved.is_some_and(|moved| moved.kind == TransitionKind::Failover);
            if !(lasting.occasion == Occasion::Failover && is_told) {
                self.begin(&mut pending, &lasting);
            }
            let since = moved.and_then(|moved| moved.first_evidence_at.clone());
            ongoing.push(OngoingNotification {
                occasion: lasting.occasion.as_str().to_owned(),
                since: since.filter(|_| lasting.occasion == Occasion::Failover).unwrap_or_else(|| micro_time(self.now)),
                backend: lasting.backend,
            });
        }
        self.tell_drill(&mut pending);
        ongoing.truncate(MAX_ONGOING);
        let excess = pending.len().saturating_sub(MAX_PENDING);
        pending.drain(..excess);
        (pending, ongoing)
    }

    /// The transition that this status is the first to tell.
    fn moved(&self) -> Option<&TransitionStatus> {
        let latest = real(self.after)?;
        let known = real(self.before).map_or(0, |known| known.id);
        (latest.id > known).then_some(latest)
    }

    fn begin(&self, pending: &mut Vec<PendingNotification>, lasting: &Lasting) {
        let is_first = matches!(self.before.state, None | Some(RouteState::Unknown));
        let is_delayed = matches!(lasting.occasion, Occasion::StandbyLost | Occasion::OperatorTrouble);
        let mut at = self.now;
        if is_delayed {
            at = at + DELAY;
        }
        if is_first {
            at = at.max(self.first_alarm_at);
        }
        pending.push(PendingNotification {
            why: lasting.why.clone(),
            ..self.notification(lasting.occasion, Some(lasting.occasion), lasting.backend.as_deref(), at)
        });
    }

    /// Tells the end of something, unless its beginning has not been told yet.
    fn end(
        &self,
        pending: &mut Vec<PendingNotification>,
        ended: &OngoingNotification,
        moved: Option<&TransitionStatus>,
    ) {
        let Ok(about) = ended.occasion.parse::<Occasion>() else { return };
        let count = pending.len();
        pending.retain(|one| {
            let is_beginning = one.about.as_ref() == Some(&ended.occasion) && one.backend == ended.backend;
            !(is_beginning && timestamp(&one.at) > self.now)
        });
        let is_failback = moved.is_some_and(|moved| moved.kind == TransitionKind::Failback);
        if pending.len() < count || (about == Occasion::Failover && is_failback) {
            return;
        }
        let occasion = if about == Occasion::Failover { Occasion::Failback } else { Occasion::Recovery };
        pending.push(PendingNotification {
            resolved: true,
            since: Some(ended.since.clone()),
            ..self.notification(occasion, Some(about), ended.backend.as_deref(), self.now)
        });
    }

    /// Tells a move. It begins or ends what is told of failovers, if that begins or ends with it.
    fn announce_move(&self, pending: &mut Vec<PendingNotification>, lasting: &[Lasting], moved: &TransitionStatus) {
        let failover = Occasion::Failover.as_str();
        let lasts = lasting.iter().find(|one| one.occasion == Occasion::Failover);
        let lasted = self.before.ongoing.iter().find(|one| one.occasion == failover);
        let (occasion, about, backend) = match moved.kind {
            TransitionKind::Failover => {
                (Occasion::Failover, lasts.map(|_| Occasion::Failover), lasts.and_then(|lasts| lasts.backend.clone()))
            }
            TransitionKind::Failback => {
                let ended = lasted.filter(|lasted| !lasts.is_some_and(|lasts| lasts.is(lasted)));
                (Occasion::Failback, ended.map(|_| Occasion::Failover), ended.and_then(|ended| ended.backend.clone()))
            }
        };
        let note = self.transition_note.clone().unwrap_or_else(|| moved.reason.clone());
        pending.push(PendingNotification {
            resolved: moved.kind == TransitionKind::Failback && about.is_some(),
            since: moved.first_evidence_at.clone(),
            from: Some(moved.from.clone()),
            to: Some(moved.to.clone()),
            why: truncated(&note, MAX_MESSAGE),
            ..self.notification(occasion, about, backend.as_deref(), self.now)
        });
    }

    /// Tells the result of a drill. One that could not begin is told by nobody but its Event.
    fn tell_drill(&self, pending: &mut Vec<PendingNotification>) {
        let Some(ended) = drills::ended(self.before, self.after) else { return };
        let occasion = match ended.outcome.as_str() {
            "Passed" => Occasion::DrillPassed,
            "Skipped" => return,
            _ => Occasion::DrillFailed,
        };
        pending.push(PendingNotification {
            since: Some(ended.started_at.clone()),
            from: ended.backend.clone(),
            to: ended.standby.clone(),
            why: truncated(&format!("{}, {}", ended.outcome, drills::line(ended)), MAX_MESSAGE),
            ..self.notification(occasion, None, ended.backend.as_deref(), self.now)
        });
    }

    fn notification(
        &self,
        occasion: Occasion,
        about: Option<Occasion>,
        backend: Option<&str>,
        at: Timestamp,
    ) -> PendingNotification {
        PendingNotification {
            id: id::of_route(self.uid, occasion, about, backend, at),
            occasion: occasion.as_str().to_owned(),
            about: about.map(|about| about.as_str().to_owned()),
            backend: backend.map(str::to_owned),
            resolved: false,
            at: micro_time(at),
            since: None,
            from: None,
            to: None,
            why: String::new(),
        }
    }
}

/// Part of the text of something that lasts, to be told again.
pub(in crate::controller) struct Retold {
    /// Reason for people.
    pub(in crate::controller) why: String,
    /// The backends that mail goes to since.
    pub(in crate::controller) to: Vec<String>,
}

impl Retold {
    /// What a status says now of something that was told. `words` looks up what a backend that fails answers, by its
    /// name and the reason.
    // `status.ongoing` does not keep the words of the message that began it.
    pub(in crate::controller) fn of(
        status: &MailRouteStatus,
        told: &OngoingNotification,
        words: impl Fn(&str, &str) -> Option<String>,
    ) -> Self {
        let lasting = lasting(status, status).into_iter().find(|lasting| lasting.is(told));
        let why = lasting.map(|lasting| lasting.why).unwrap_or_default();
        if told.occasion != Occasion::Failover.as_str() {
            return Self { why, to: vec![] };
        }
        let carriers = status.active.iter().map(|active| active.backend.clone());
        let to: Vec<_> = carriers.filter(|carrier| told.backend.as_ref() != Some(carrier)).collect();
        // An edit of a spec is a failover without a transition, and after a partial return the sentence says what is so.
        let moved = real(status).filter(|last| {
            last.kind == TransitionKind::Failover
                && to.contains(&last.to)
                && timestamp(&last.decided_at) >= timestamp(&told.since)
        });
        let Some(TransitionStatus { from, to: carrier, reason, .. }) = moved else { return Self { why, to } };
        let seen = words(from, reason).map(|words| format!(" ({words})")).unwrap_or_default();
        Self { why: truncated(&format!("{from} → {carrier}: {reason}{seen}"), MAX_MESSAGE), to }
    }
}

impl Lasting {
    fn is(&self, told: &OngoingNotification) -> bool {
        told.occasion == self.occasion.as_str() && told.backend == self.backend
    }
}

/// Everything that lasts after a status.
fn lasting(before: &MailRouteStatus, after: &MailRouteStatus) -> Vec<Lasting> {
    let mut lasting = vec![];
    let mut add = |occasion, backend, why: &str| lasting.push(Lasting { occasion, backend, why: why.to_owned() });
    let message = after.message.as_deref().unwrap_or_default();
    if after.state == Some(RouteState::NoneHealthy) {
        add(Occasion::NoneHealthy, None, message);
    }
    let waits_for = after.waiting_for.as_ref().map(|hold| hold.reason.as_str());
    let (ready_reason, ready_message) = unmet(after, condition::READY).unwrap_or_default();
    if [reason::HELD_ON_DEAD_BACKEND, reason::MAIL_WAITS].contains(&ready_reason) {
        let backend = after.active.first().map(|active| active.backend.clone());
        add(Occasion::NotDelivering, backend, ready_message);
    }
    if is_true(&after.conditions, condition::MAIL_KEPT) {
        add(Occasion::NotDelivering, None, condition_message(&after.conditions, condition::MAIL_KEPT));
    }
    let is_failed_over = is_true(&after.conditions, condition::FAILED_OVER);
    if is_failed_over {
        let why = condition_message(&after.conditions, condition::FAILED_OVER);
        add(Occasion::Failover, preferred(after), why);
    }
    if is_standby_lost(before, after, is_failed_over) {
        add(Occasion::StandbyLost, None, condition_message(&after.conditions, condition::REDUNDANT));
    }
    if waits_for == Some(HoldReason::ManualFailback.as_str()) {
        add(Occasion::ApprovalWanted, None, message);
    }
    if let Some((_, why)) = unmet(after, condition::OBJECTIVES_MET) {
        add(Occasion::ObjectiveMissed, None, why);
    }
    if let Some(why) = trouble(after) {
        add(Occasion::OperatorTrouble, None, why);
    }
    lasting
}

/// The backend that is preferred to all others.
fn preferred(status: &MailRouteStatus) -> Option<String> {
    status.backends.first().map(|backend| backend.name.clone())
}

/// Returns true if a route that leaves by its preferred backend has lost its standby, until it has one again.
// A failover and the loss of all backends say themselves what is left.
fn is_standby_lost(before: &MailRouteStatus, after: &MailRouteStatus, is_failed_over: bool) -> bool {
    let was_told = before.ongoing.iter().any(|one| one.occasion == Occasion::StandbyLost.as_str());
    let begins = !is_failed_over && after.state == Some(RouteState::Preferred);
    let is_lost = unmet(after, condition::REDUNDANT).is_some() && after.backends.len() > 1;
    is_lost && (was_told || begins)
}

/// The latest transition that no drill has made.
fn real(status: &MailRouteStatus) -> Option<&TransitionStatus> {
    status.history.iter().find(|transition| transition.reason != DRILL)
}

/// Reason and message of a condition that is False.
fn unmet<'a>(status: &'a MailRouteStatus, type_: &str) -> Option<(&'a str, &'a str)> {
    let found = status.conditions.iter().find(|one| one.type_ == type_ && one.status == "False")?;
    Some((found.reason.as_str(), found.message.as_str()))
}

/// Defect that keeps the operator from its work.
fn trouble(status: &MailRouteStatus) -> Option<&str> {
    let defects = [
        reason::INVALID_SPEC,
        reason::UNREADABLE,
        reason::POLICY_NOT_FOUND,
        reason::POLICY_REJECTED,
        reason::BACKEND_NOT_FOUND,
        reason::MAIL_LOOP,
    ];
    let defect = unmet(status, condition::READY).filter(|(reason, _)| defects.contains(reason));
    let unwritten = unmet(status, condition::OUTPUTS_APPLIED);
    let unheard = unmet(status, condition::WEBHOOKS_APPLIED);
    let unpublished = unmet(status, condition::DNS_APPLIED);
    let found = defect.or(unwritten).or(unheard).or(unpublished).map(|(_, message)| message);
    let is_contested = is_true(&status.conditions, condition::INSTALLATION_CONFLICT);
    found.or_else(|| is_contested.then(|| condition_message(&status.conditions, condition::INSTALLATION_CONFLICT)))
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
