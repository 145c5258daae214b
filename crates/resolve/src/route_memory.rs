//! The memory of a route, to and from `status`: the two directions side by side, so that nothing is lost between them.

use super::drills::{drills_status, remembered};
use super::text::{MAX_MESSAGE, truncated};
use super::time::{micro_time, timestamp};
use mail_failover_api as api;
use mail_failover_api::{
    ActiveBackend, MailRouteStatus, PauseStatus, RampStatus, RequestOutcome, RequestStatus, RouteState, SwitchStatus,
    TransitionStatus,
};
use mail_failover_core::engine::{
    HoldReason, Memory, Pause, Ramp, RequestAnswer, Share, State, Switch, Transition, TransitionKind, TransitionReason,
};

/// The memory of earlier decisions in a status.
pub fn memory(status: &MailRouteStatus) -> Memory {
    let (drill, drills) = remembered(status.drills.as_ref());
    Memory {
        shares: status.active.iter().map(share).collect(),
        since: status.since.as_ref().map(timestamp).unwrap_or_default(),
        state: status.state.map_or(State::Unknown, engine_state),
        held_by: status.waiting_for.as_ref().and_then(|hold| HoldReason::from_name(&hold.reason)),
        held_since: status.waiting_for.as_ref().and_then(|hold| hold.since.as_ref()).map(timestamp),
        held_until: status.waiting_for.as_ref().and_then(|hold| hold.until.as_ref()).map(timestamp),
        history: status.history.iter().map(transition).collect(),
        ramp: status.ramp.as_ref().map(|RampStatus { to, step, since }| Ramp {
            to: to.iter().map(|name| name.as_str().into()).collect(),
            step: usize::try_from(*step).unwrap_or(0),
            since: timestamp(since),
        }),
        switch: status.switch.as_ref().map(|SwitchStatus { to, until, forced }| Switch {
            to: to.as_str().into(),
            is_forced: *forced,
            until: until.as_ref().map(timestamp),
        }),
        pause: status.pause.as_ref().map(|PauseStatus { since, until }| Pause {
            since: timestamp(since),
            until: until.as_ref().map(timestamp),
        }),
        approved_at: status.approved_at.as_ref().map(timestamp),
        request: status.request.as_ref().map(
            |RequestStatus { id, action, outcome, message, reason, digest, asked_by, at }| RequestAnswer {
                id: id.as_str().into(),
                action: action.as_str().into(),
                is_done: *outcome == RequestOutcome::Done,
                message: message.clone(),
                reason: reason.as_deref().map(Into::into),
                digest: digest.as_deref().unwrap_or_default().into(),
                asked_by: asked_by.as_deref().map(Into::into),
                at: timestamp(at),
            },
        ),
        answered: status.earlier_request_ids.iter().map(|id| id.as_str().into()).collect(),
        drill,
        drills,
    }
}

/// Writes the memory of a route into a status. Keeps the later times of transitions that `before` has already.
pub fn remember(memory: &Memory, before: &MailRouteStatus, status: &mut MailRouteStatus) {
    // The caller writes the hold.
    let Memory {
        shares,
        since,
        state,
        held_by: _,
        held_since: _,
        held_until: _,
        history,
        ramp,
        switch,
        pause,
        approved_at,
        request,
        answered,
        drill: _,
        drills: _,
    } = memory;
    status.drills = drills_status(memory);
    status.active = shares.iter().map(active_backend).collect();
    status.since = memory.lead().is_some().then(|| micro_time(*since));
    status.state = Some(api_state(*state));
    status.history = history.iter().map(|transition| transition_status(transition, before)).collect();
    status.last_transition = status.history.first().cloned();
    status.ramp = ramp.as_ref().map(|Ramp { to, step, since }| RampStatus {
        to: to.iter().map(ToString::to_string).collect(),
        step: i32::try_from(*step).unwrap_or(i32::MAX),
        since: micro_time(*since),
    });
    status.switch = switch.as_ref().map(|Switch { to, is_forced, until }| SwitchStatus {
        to: to.to_string(),
        until: until.map(micro_time),
        forced: *is_forced,
    });
    status.pause = pause
        .as_ref()
        .map(|Pause { since, until }| PauseStatus { since: micro_time(*since), until: until.map(micro_time) });
    status.approved_at = approved_at.map(micro_time);
    status.earlier_request_ids = answered.iter().map(ToString::to_string).collect();
    status.request =
        request.as_ref().map(|RequestAnswer { id, action, is_done, message, reason, digest, asked_by, at }| {
            RequestStatus {
                id: id.to_string(),
                action: action.to_string(),
                outcome: if *is_done { RequestOutcome::Done } else { RequestOutcome::Refused },
                message: truncated(message, MAX_MESSAGE),
                reason: reason.as_deref().map(str::to_owned),
                digest: Some(digest.to_string()).filter(|digest| !digest.is_empty()),
                asked_by: asked_by.as_deref().map(str::to_owned),
                at: micro_time(*at),
            }
        });
}

pub(super) fn share(active: &ActiveBackend) -> Share {
    Share {
        backend: active.backend.as_str().into(),
        percent: u8::try_from(active.percent).unwrap_or(100).min(100),
        is_overflow: active.overflow,
    }
}

pub(super) fn active_backend(share: &Share) -> ActiveBackend {
    ActiveBackend { backend: share.backend.to_string(), percent: i32::from(share.percent), overflow: share.is_overflow }
}

fn transition(status: &TransitionStatus) -> Transition {
    Transition {
        id: status.id,
        kind: match status.kind {
            api::TransitionKind::Failover => TransitionKind::Failover,
            api::TransitionKind::Failback => TransitionKind::Failback,
        },
        from: status.from.as_str().into(),
        to: status.to.as_str().into(),
        reason: TransitionReason::from_name(&status.reason),
        first_evidence_at: status.first_evidence_at.as_ref().map(timestamp),
        decided_at: timestamp(&status.decided_at),
    }
}

fn transition_status(transition: &Transition, before: &MailRouteStatus) -> TransitionStatus {
    let known = before.history.iter().find(|known| known.id == transition.id);
    TransitionStatus {
        id: transition.id,
        kind: match transition.kind {
            TransitionKind::Failover => api::TransitionKind::Failover,
            TransitionKind::Failback => api::TransitionKind::Failback,
        },
        from: transition.from.to_string(),
        to: transition.to.to_string(),
        // A reason of a newer version stays as that has written it.
        reason: known.map_or_else(|| transition.reason.as_str().to_owned(), |known| known.reason.clone()),
        first_evidence_at: transition.first_evidence_at.map(micro_time),
        decided_at: micro_time(transition.decided_at),
        applied_at: known.and_then(|known| known.applied_at.clone()),
        first_delivery_at: known.and_then(|known| known.first_delivery_at.clone()),
    }
}

fn api_state(state: State) -> RouteState {
    match state {
        State::Preferred => RouteState::Preferred,
        State::FailedOver => RouteState::FailedOver,
        State::FailingBack => RouteState::FailingBack,
        State::Holding => RouteState::Holding,
        State::Paused => RouteState::Paused,
        State::NoneHealthy => RouteState::NoneHealthy,
        State::Unknown => RouteState::Unknown,
    }
}

fn engine_state(state: RouteState) -> State {
    match state {
        RouteState::Preferred => State::Preferred,
        RouteState::FailedOver => State::FailedOver,
        RouteState::FailingBack => State::FailingBack,
        RouteState::Holding => State::Holding,
        RouteState::Paused => State::Paused,
        RouteState::NoneHealthy => State::NoneHealthy,
        RouteState::Unknown => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use mail_failover_api::WaitingForStatus;
    use mail_failover_core::engine::histories::{any_history, play};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// After every decision of a random history: a successor that reads the status remembers the same, and so,
        /// `decide` being a function of it, has the same future.
        #[test]
        fn nothing_is_lost_between_a_decision_and_its_status(history in any_history()) {
            let mut status = MailRouteStatus::default();
            play(history, |decision| {
                let before = std::mem::take(&mut status);
                remember(&decision.memory, &before, &mut status);
                status.waiting_for = decision.hold.map(|hold| WaitingForStatus {
                    reason: hold.reason.as_str().to_owned(),
                    since: decision.memory.held_since.map(micro_time),
                    until: hold.until.map(micro_time),
                });
                let text = serde_json::to_string(&status).unwrap();
                status = serde_json::from_str(&text).unwrap();
                let mut expected = decision.memory.clone();
                if expected.shares.is_empty() {
                    expected.since = mail_failover_core::model::Timestamp::default();
                }
                assert_eq!(memory(&status), expected);
                memory(&status)
            });
        }
    }
}
