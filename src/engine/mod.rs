//! The decision core: from evidence to verdicts, from verdicts to decisions.
//!
//! Architecture invariant: this module does no I/O, reads no clock, draws no random number and imports neither kube, tokio nor
//! serde (`tests/architecture.rs` checks it). Time is an argument. The same inputs give the same decisions, so a new leader that
//! restores [`Memory`] from `status` goes on where the old one stopped.
//!
//! [`Evidence`] judges observations ([`Judgement`]) and merges what several observers say; [`Fleet`] tells whose own network has failed.
//! One thing there changes by time alone: [`Evidence::next_change_at`] is when a probe that stays silent goes stale, three intervals, its
//! timeout and 30 s after its last conclusive observation.
//!
//! Timers of decisions, all of them derived from persisted timestamps and returned as [`Decision::wake_at`]:
//!
//! | timer | starts | ends |
//! |---|---|---|
//! | cooldown | when a transition is decided | `hold.cooldown` later |
//! | minimum stay | when the route arrives at its active backend | `hold.minimumStay` later |
//! | soak | when a preferred backend becomes Healthy | `failback.after` later, or when it fails |

mod decision;
mod evidence;
mod fleet;
mod judgement;
mod latency;
mod observers;
mod verdict;
mod window;

pub use decision::{
    Announcement, Candidate, Decision, HoldReason, Memory, Standing, State, Transition, TransitionKind,
    TransitionReason, decide,
};
pub use evidence::Evidence;
pub use fleet::{Fleet, suspects};
pub use judgement::{Health, Judgement, News, Observation};
pub use observers::{Agreement, Observer, Sighting};
pub use verdict::Verdict;
