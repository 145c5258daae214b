use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::model::{EvidenceClass, Timestamp};

/// One stream of evidence: a probe of a backend, as one observer makes it. Positions in the lists of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Who looks; 0 is the one that decides.
    pub observer: usize,
    /// At which backend.
    pub backend: usize,
    /// By which of its probes.
    pub probe: usize,
}

/// What a round of a probe finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says about the backend.
    pub class: EvidenceClass,
    /// How long the round takes; its result is known no sooner.
    pub elapsed: Duration,
    /// One line for people.
    pub message: Arc<str>,
}

/// Where the evidence of a simulated world comes from.
pub trait Source {
    /// What the round finds that begins at `at`. Asked once for each round that is not skipped, in the order of time; the same question
    /// has the same answer whatever was asked before, so that rounds can be skipped.
    fn answer(&mut self, stream: Stream, round: u64, at: Timestamp) -> Answer;

    /// Until then every stream's answers stay exactly what they are at `at`, when an answer was asked for last. `at` itself promises nothing.
    fn constant_until(&self, at: Timestamp) -> Timestamp;
}
