use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Stream of evidence: one probe of a backend by one observer, as positions in the lists of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeStream {
    /// Observer that probes; 0 is the one that decides.
    pub observer: usize,
    /// Backend that is probed.
    pub backend: usize,
    /// Probe of the backend.
    pub probe: usize,
}

/// Result of a round of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundResult {
    /// Class of evidence about the backend.
    pub class: EvidenceClass,
    /// True if the round ended before any login.
    pub is_before_login: bool,
    /// Duration of the round; its result is known only then.
    pub elapsed: Duration,
    /// Message in one line, for people.
    pub message: Arc<str>,
}

/// Source of the evidence of a simulation.
pub trait EvidenceSource {
    /// Returns the result of the round that begins at `at`. It is called once for each round that is not skipped, in
    /// the order of time. The same question has the same answer whatever was asked before, so that rounds can be
    /// skipped.
    fn answer(&mut self, stream: ProbeStream, round: u64, at: Timestamp) -> RoundResult;

    /// Returns the time until which every stream's answers stay what they are at `at`, the time of the last call of
    /// `answer`. `at` itself promises nothing.
    fn constant_until(&self, at: Timestamp) -> Timestamp;
}
