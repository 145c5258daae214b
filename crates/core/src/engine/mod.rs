//! The decision core: from evidence to verdicts, from verdicts to decisions.
//!
//! Architecture invariant: this module does no I/O, reads no clock, draws no random number and imports neither kube,
//! tokio nor serde (`tests/architecture/` checks it). Time is an argument. The same inputs give the same decisions,
//! so a new leader that restores [`Memory`] from `status` goes on where the old one stopped.
//!
//! Every timer stands in [`TIMERS`]; each is derived from persisted timestamps and returned as
//! [`Decision::next_timeout`] or [`Evidence::next_timeout`].

mod acquittal;
mod answer_time;
mod candidate;
mod confirmation;
mod decision;
mod deliveries;
mod departure;
#[cfg(test)]
mod docs_tests;
mod drill;
mod evidence;
mod explanation;
mod failback;
mod fleet;
mod held;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::missing_panics_doc, clippy::return_self_not_must_use, missing_docs, reason = "for tests")]
pub mod histories;
mod holds;
mod judgement;
mod latency;
mod memory;
mod objectives;
mod observers;
mod placement;
#[cfg(test)]
mod promises_tests;
mod requests;
mod shared_rounds;
mod standby_looks;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::missing_panics_doc, clippy::return_self_not_must_use, missing_docs, reason = "for tests")]
pub mod testing;
mod verdict;
mod window;

pub use answer_time::AnswerTime;
pub use candidate::{Candidate, Capacity, Eligibility, Exclusion};
pub use confirmation::{Confirmation, ConfirmationRule, Look, depth_of_look};
pub use decision::{Decision, Notice, Situation, decide};
pub use deliveries::{DELIVERIES, Deliveries, REPORT_HOLDS};
pub use drill::{
    BlockedDrill, Drill, DrillEnding, DrillInputs, DrillLog, DrillObstacles, DrillOutcome, DrillRecord, DrillRefused,
    DrillTimes, DrillTrigger, DrillTurns, DrillWait, LONGEST_DRILL, MAX_DRILLS, MAX_DRILLS_AT_ONCE,
    MAX_SHADOW_DRILLS_AT_ONCE, TransitionTimes, WholeRound,
};
pub use evidence::Evidence;
pub use explanation::{Explanation, NextChange, Reason};
pub use fleet::{FailureDomains, ThresholdsOfNamespace, suspects};
pub use held::HeldCarrier;
pub use holds::{CONFIRMATION_GRACE, Hold, HoldReason, TIMERS, Timer};
pub use judgement::{Blocked, Health, Judgement, News, Observation, THROTTLED_ONLY};
pub use memory::{
    MAX_ANSWERED, MAX_DRILL_TRANSITIONS, MAX_HISTORY, Memory, Pause, Ramp, Request, RequestAction, RequestAnswer,
    Share, State, Switch, Transition, TransitionKind, TransitionReason,
};
pub use objectives::{
    Assessment, Attempts, FailoverTimes, MAX_PARTS, Measure, Objective, ObjectiveRecord, ObjectiveState, RecordPart,
    assess,
};
pub use observers::{Agreement, Observer, ObserverVerdict};
pub use shared_rounds::SharedRun;
pub use standby_looks::StandbyLooks;
pub use verdict::{UnseenFailure, Verdict};
