//! Holds: the reasons for which a route waits, and their ends.

use std::time::Duration;

use super::{Candidate, Memory, Transition, TransitionKind, TransitionReason};
use crate::model::{ClockDrift, EvidenceClass, Policy, Strategy, Timestamp};

/// Failures of a preferred backend within this time before its recovery lengthen the soak.
const FLAP_MEMORY: Duration = Duration::from_hours(24);
/// Least time before a return to a backend that was left and has not answered since, as far as this process knows.
const UNCONFIRMED_RECOVERY: Duration = Duration::from_mins(1);
/// Most doublings of the soak. The second failure brings the first one.
const MAX_DOUBLINGS: u32 = 3;
/// Time for which a first choice waits for a preferred backend of which nothing is known.
pub(super) const FIRST_CHOICE_GRACE: Duration = Duration::from_mins(1);
/// Time for which mail stays with a backend whose object is missing or cannot be used, although a standby is sound.
// Long enough for a restart, and for manifests that are applied anew one after another.
pub(super) const UNUSABLE_GRACE: Duration = Duration::from_mins(1);

/// Time for which a route awaits a confirmation as most failovers do, before it counts as held like any other.
// A standby answers within a probe's interval or two; the looks at it come sooner.
pub const CONFIRMATION_GRACE: Duration = Duration::from_mins(1);

/// Reason for which a route stays although it would move.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumString, strum::VariantArray,
)]
pub enum HoldReason {
    /// `hold.cooldown` after the latest transition.
    Cooldown,
    /// `hold.minimumStay` after arriving at a backend.
    MinimumStay,
    /// `hold.budget` allows no further transition.
    SwitchBudget,
    /// `failback.after`: the preferred backend has not been healthy for long enough.
    Soak,
    /// `failback.windows`: none is open.
    FailbackWindow,
    /// `failback.ramp`: a step of the return lasts.
    Ramp,
    /// `failback.mode: Manual`: a person decides.
    ManualFailback,
    /// A requested Switch is in force.
    Switched,
    /// A requested Pause is in force.
    Paused,
    /// No other backend can deliver.
    NoneHealthy,
    /// Every failure domain fails at once: our own network is suspect.
    StormBrake,
    /// No standby has answered since the active backend began to fail.
    AwaitingConfirmation,
    /// A first decision waits for verdicts.
    AwaitingEvidence,
    /// The active backend's object is missing or cannot be used: the last good decision stays, for a grace if a standby
    /// is sound.
    ConfigurationRejected,
    /// No backend may carry the mail, or none that may is known to deliver: outputs lead nowhere.
    Withdrawn,
}

impl HoldReason {
    /// Every reason, in the order of the documentation.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The CamelCase name used in status and metric labels.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Returns a description for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Cooldown => "too soon after the latest transition",
            Self::MinimumStay => "too soon after arriving at the backend in use",
            Self::SwitchBudget => "the budget of transitions is spent",
            Self::Soak => "a more preferred backend has not been healthy for long enough",
            Self::FailbackWindow => "no failback window is open",
            Self::Ramp => "the return goes in steps",
            Self::ManualFailback => "a person has to approve the return",
            Self::Switched => "a requested Switch is in force",
            Self::Paused => "a requested Pause is in force: nothing moves",
            Self::NoneHealthy => "no other backend can deliver",
            Self::StormBrake => "everything fails at once: our own network is suspect",
            Self::AwaitingConfirmation => "no standby has answered since the failure began",
            Self::AwaitingEvidence => "verdicts on the backends are missing",
            Self::ConfigurationRejected => "the configuration cannot be used as written",
            Self::Withdrawn => "no backend may carry the mail: outputs lead nowhere, and mail waits in queues",
        }
    }
}

/// Reason for which a route waits. Without an end it waits for evidence, a person or a change of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Reason for the wait.
    pub reason: HoldReason,
    /// Time at which the hold ends by itself.
    pub until: Option<Timestamp>,
}

impl Hold {
    pub(super) fn open(reason: HoldReason) -> Self {
        Self { reason, until: None }
    }

    pub(super) fn until(reason: HoldReason, until: Timestamp) -> Self {
        Self { reason, until: Some(until) }
    }
}

/// Row of the table of timers. Each timer is derived from what `status` persists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Name of the timer in the documentation.
    pub name: &'static str,
    /// The event that starts it.
    pub starts: &'static str,
    /// Event or time that ends it.
    pub ends: &'static str,
}

/// Table of all timers; docs/how-it-decides.md is generated from it.
pub const TIMERS: [Timer; 18] = [
    Timer { name: "cooldown", starts: "a transition is decided", ends: "`hold.cooldown` later" },
    Timer { name: "minimum stay", starts: "a backend begins to lead", ends: "`hold.minimumStay` later" },
    Timer {
        name: "switch budget",
        starts: "the transition that spends it is decided",
        ends: "`hold.budget.per` after the oldest of the `hold.budget.switches` latest transitions",
    },
    Timer {
        name: "last resort",
        starts: "a transition is decided while the budget is spent",
        ends: "the longer of `hold.cooldown` and `hold.minimumStay` later",
    },
    Timer {
        name: "soak",
        starts: "a preferred backend becomes Healthy; never before the move away from it",
        ends: "`failback.after` later, doubled for each failure but one in the 24 hours before, at most three times; or when it fails",
    },
    Timer {
        name: "failback window",
        starts: "every other hold on a return has ended",
        ends: "the next opening of `failback.windows`",
    },
    Timer {
        name: "ramp step",
        starts: "a return begins, or its step before ends",
        ends: "the step's `for` later, or when a backend fails",
    },
    Timer {
        name: "storm settling",
        starts: "the first backend recovers from a storm",
        ends: "`hold.minimumStay` later, after a minute at most",
    },
    Timer {
        name: "switch",
        starts: "a Switch is requested with `for`",
        ends: "so long later, or when its backend dies",
    },
    Timer { name: "pause", starts: "a Pause is requested with `for`", ends: "so long later, or at a Resume" },
    Timer {
        name: "first choice",
        starts: "a preferred backend becomes Unknown, or its evidence begins",
        ends: "60 s later, if another backend can deliver",
    },
    Timer {
        name: "unusable backend",
        starts: "the object of the backend in use is found missing or unusable while a standby is Healthy",
        ends: "60 s later",
    },
    Timer {
        name: "awaited confirmation",
        starts: "`AwaitingConfirmation` begins to hold the route",
        ends: "60 s later: then people are told, as of any other hold",
    },
    Timer {
        name: "throttled only",
        starts: "the first reply that asks for less after a success",
        ends: "at the first such reply 5 minutes later, or at a success",
    },
    Timer { name: "warm-up day", starts: "`limits.warmUp.startedAt` and every 24 hours", ends: "24 hours later" },
    Timer {
        name: "staleness",
        starts: "a probe's latest conclusive result",
        ends: "three intervals, one timeout and 30 s later",
    },
    Timer { name: "an agent's verdict", starts: "the agent reports", ends: "30 s later" },
    Timer {
        name: "deliveries",
        starts: "the latest delivery that an agent reports as failed",
        ends: "`hold.cooldown` later, after 30 s at least; or when most agents say that deliveries succeed",
    },
];

/// Returns the later of cooldown and minimum stay. Both keep only moves that nothing forces.
pub(super) fn comfort(policy: &Policy, memory: &Memory) -> Hold {
    let minimum_stay = memory.since + policy.hold.minimum_stay;
    let cooldown = memory.real_transitions().next().map(|last| last.decided_at + policy.hold.cooldown);
    match cooldown {
        Some(cooldown) if cooldown >= minimum_stay => Hold::until(HoldReason::Cooldown, cooldown),
        Some(_) | None => Hold::until(HoldReason::MinimumStay, minimum_stay),
    }
}

/// Returns the hold of a spent budget; `None` while the budget allows a move.
///
/// Last-resort rule: while the budget is spent, a dead backend may still be left, but no sooner after the latest
/// transition than cooldown and minimum stay allow. So mail is never kept on a dead backend for the rest of the hour,
/// and backends that die in turn do not drive a route round faster than the cooldown.
///
/// With `ActiveActive` only transitions count by which backends join: to take a dead member out of a pool is no
/// flapping.
pub(super) fn budget(
    policy: &Policy,
    strategy: Strategy,
    memory: &Memory,
    now: Timestamp,
    is_forced: bool,
) -> Option<Hold> {
    let limit = usize::from(policy.hold.budget.switches.max(1));
    let mut counted = memory.real_transitions().filter(|transition| match strategy {
        Strategy::ActivePassive => true,
        Strategy::ActiveActive => transition.kind == TransitionKind::Failback,
    });
    let oldest_counted = counted.nth(limit - 1)?;
    let mut until = oldest_counted.decided_at + policy.hold.budget.per;
    if is_forced && let Some(last) = memory.real_transitions().next() {
        until = until.min(last.decided_at + policy.hold.cooldown.max(policy.hold.minimum_stay));
    }
    // ADR-0018: A spent budget yields to one move a cooldown.
    (until > now).then(|| Hold::until(HoldReason::SwitchBudget, until))
}

/// Returns the time a recovered backend must have been Healthy; longer for one that fails again and again.
pub(super) fn soak(policy: &Policy, memory: &Memory, candidate: &Candidate) -> Duration {
    let failures = departures_by_failure(memory, candidate)
        .filter(|departure| candidate.since.since(departure.decided_at) <= FLAP_MEMORY);
    let failures = u32::try_from(failures.count()).unwrap_or(u32::MAX);
    policy.failback.after.saturating_mul(1 << failures.saturating_sub(1).min(MAX_DOUBLINGS))
}

/// Returns the moves away from this backend because it failed, the latest first.
fn departures_by_failure<'a>(memory: &'a Memory, candidate: &'a Candidate) -> impl Iterator<Item = &'a Transition> {
    memory.history.iter().filter(|transition| {
        let is_failure = match transition.reason {
            TransitionReason::Failed(class) => !matches!(class, EvidenceClass::Slow | EvidenceClass::Throttled),
            TransitionReason::Suspended
            | TransitionReason::Excluded
            | TransitionReason::Unusable
            | TransitionReason::RemovedFromRoute
            | TransitionReason::Recovered
            | TransitionReason::NoneHealthy
            | TransitionReason::Requested
            | TransitionReason::Drill => false,
        };
        is_failure
            && transition.from == candidate.name
            && match transition.kind {
                TransitionKind::Failover => true,
                TransitionKind::Failback => false,
            }
    })
}

/// Returns the end of the soak. It begins with the recovery, and never before the backend was left.
// ADR-0104: A failure ends by a fresh answer. A successor may not have seen the failure: its own verdict is then older
// than the move. Unless the backend has answered since, it waits for rounds of its own.
fn soaked_at(policy: &Policy, memory: &Memory, candidate: &Candidate, now: Timestamp) -> Timestamp {
    let soak = soak(policy, memory, candidate);
    let left_at = departures_by_failure(memory, candidate).next().map(|departure| departure.decided_at.min(now));
    let Some(left_at) = left_at.filter(|left_at| candidate.since < *left_at) else { return candidate.since + soak };
    let has_answered = candidate.confirmed_at.is_some_and(|at| at >= left_at);
    left_at + if has_answered { soak } else { soak.max(UNCONFIRMED_RECOVERY) }
}

/// Returns the hold that keeps a return to this backend, if any: the timed hold that ends last, a person's approval,
/// or a closed window.
pub(super) fn on_return(
    policy: &Policy,
    strategy: Strategy,
    memory: &Memory,
    candidate: &Candidate,
    now: Timestamp,
    drift: ClockDrift,
) -> Option<Hold> {
    let soak = Hold::until(HoldReason::Soak, soaked_at(policy, memory, candidate, now));
    let timed = [Some(soak), Some(comfort(policy, memory)), budget(policy, strategy, memory, now, false)];
    // The first of equal ends wins.
    let latest =
        timed.into_iter().flatten().reduce(|latest, hold| if hold.until > latest.until { hold } else { latest });
    if let Some(hold) = latest.filter(|hold| hold.until.is_some_and(|until| until > now)) {
        return Some(hold);
    }
    // An approval was given for one recovery and ends with it.
    let is_approved = memory.approved_at.is_some_and(|at| at >= candidate.since);
    if policy.failback.mode == crate::model::FailbackMode::Manual && !is_approved {
        return Some(Hold::open(HoldReason::ManualFailback));
    }
    let (windows, wall) = (&policy.failback.windows, drift.wall(now));
    if windows.is_empty() || windows.iter().any(|window| window.open_until(wall).is_some()) {
        return None;
    }
    let next = windows.iter().filter_map(|window| window.next_opening(wall)).min();
    Some(Hold { reason: HoldReason::FailbackWindow, until: next.map(|next| drift.at_wall(next)) })
}
