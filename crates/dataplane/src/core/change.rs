//! Changes for the MTA, and the reports about them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{NextHop, RouteBackend, TlsPolicy, Verification};
use mail_failover_core::model::{DrillState, EvidenceClass, Timestamp};

use crate::answers::Answers;
use crate::stable_hash::StableHash;

/// Order to make the MTA notice that its answers have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchOrder {
    /// Sequence number. A later order replaces an earlier one that was not carried out yet.
    pub number: u64,
    /// Reason for the switch.
    pub cause: Cause,
    /// Time of the decision.
    pub at: Timestamp,
    /// Text that is equal for equal answers, whatever decision they come from. It is saved on disk once a switch is
    /// done. After a start, an order with the saved mark need not be carried out.
    pub mark: String,
    /// Backends that carry mail now and did not before.
    pub gained: Vec<Arc<str>>,
    /// Backends that carried mail before and do not now.
    pub lost: Vec<Arc<str>>,
}

impl SwitchOrder {
    /// Returns the operator's transition that it carries out, given the one in force. `None` for one of the agent's own.
    pub fn transition(&self, in_force: i64) -> Option<i64> {
        match self.cause {
            Cause::Operator | Cause::Start => Some(in_force),
            Cause::Opened { .. } | Cause::Drill { .. } => None,
        }
    }
}

/// Reason why mail goes another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent has started.
    Start,
    /// The operator has decided.
    Operator,
    /// A backend has gone to the end of the lists, and what the MTA holds for it is taken up again.
    Opened {
        /// Name of the backend.
        backend: Arc<str>,
        /// Class of the failures.
        class: EvidenceClass,
    },
    /// A drill has begun or ended.
    Drill {
        /// Its state now.
        state: DrillState,
    },
}

impl Cause {
    /// A name for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Operator => "Operator",
            Self::Opened { .. } => "Opened",
            Self::Drill { .. } => "Drill",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("the agent has started"),
            Self::Operator => f.write_str("the operator has decided"),
            Self::Opened { backend, class } => {
                write!(f, "messages try {backend} last: {}", class.as_str())
            }
            Self::Drill { state: DrillState::Refusing } => f.write_str("a drill refuses backends"),
            Self::Drill { state: DrillState::Idle } => {
                f.write_str("a drill refuses nothing, because no other backend may carry the mail")
            }
            Self::Drill { state: DrillState::Lifted } => {
                f.write_str("a drill is lifted, because every other backend fails for real")
            }
            Self::Drill { state: DrillState::Over } => f.write_str("a drill is over"),
        }
    }
}

/// Progress of a switch so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchProgress {
    /// Number of the order.
    pub number: u64,
    /// True if nothing was done, because the same switch was done before the agent started again.
    pub done_before: bool,
    /// Time from the order's arrival until the MTA was reloaded and told to flush.
    pub took: Duration,
    /// Messages in the queue before; `None` if they could not be counted.
    pub queued_before: Option<u64>,
    /// Messages in the queue when the executor last counted.
    pub queued_after: Option<u64>,
    /// Steps that did not work, each with its error. Each of them has a fallback that did, or is tried again.
    pub troubles: Vec<String>,
}

/// Limit of the troubles that are kept of one switch. The first ones tell most.
const MAX_TROUBLES: usize = 5;

impl SwitchProgress {
    /// Starts the report of a switch.
    pub fn begun(number: u64) -> Self {
        Self {
            number,
            done_before: false,
            took: Duration::ZERO,
            queued_before: None,
            queued_after: None,
            troubles: vec![],
        }
    }

    /// Notes a step that did not work, once. Returns true if that is news.
    pub fn trouble(&mut self, step: &str, error: &dyn fmt::Display) -> bool {
        let trouble = format!("{step}: {error}");
        let is_news = self.troubles.len() < MAX_TROUBLES && !self.troubles.contains(&trouble);
        if is_news {
            self.troubles.push(trouble);
        }
        is_news
    }
}

/// Part of an answer that the MTA sees of one backend.
#[derive(PartialEq, Eq)]
struct VisibleBackend<'a> {
    backend: &'a RouteBackend,
    percent: u8,
}

fn visible(answers: &Answers) -> Vec<VisibleBackend<'_>> {
    let mut visible = vec![];
    for (backend, percent) in answers.routing.backends.iter().zip(&answers.percents) {
        if *percent > 0 {
            visible.push(VisibleBackend { backend, percent: *percent });
        }
    }
    visible
}

/// Returns true if the MTA sees any difference in the shares. A change in which backends are standbys is none, and
/// neither is a drill.
pub(super) fn differs(before: &Answers, after: &Answers) -> bool {
    shares_mark(before) != shares_mark(after)
}

/// Returns a text that is equal for equal shares of equal backends.
fn shares_mark(answers: &Answers) -> String {
    use fmt::Write;
    let mut mark = answers.routing.route_uid.to_string();
    if answers.routing.is_withdrawn {
        mark.push_str(" withdrawn");
    }
    let mut hash = StableHash::default();
    for VisibleBackend { backend, percent } in visible(answers) {
        // The rules about replies are the agent's own business.
        let RouteBackend {
            name,
            percent: _,
            standby: _,
            alternate: _,
            trial: _,
            interval: _,
            messages_per_day: _,
            connections: _,
            messages_per_connection: _,
            next_hop,
            tls,
            secret,
            sender_domains,
            rulebook: _,
        } = backend;
        // Writing to a String cannot fail.
        let _ = write!(mark, " {name}={next_hop}={percent}");
        hash = hash_of_tls(hash, tls).optional(secret.as_ref().map(ToString::to_string).as_deref());
        hash = sender_domains.iter().fold(hash, |hash, domain| hash.part(domain.as_bytes())).part(b"");
    }
    let _ = write!(mark, " {:016x}", hash.finish());
    mark
}

/// Returns [`SwitchOrder::mark`] of these answers.
pub(super) fn mark(answers: &Answers) -> String {
    use fmt::Write;
    let mut mark = shares_mark(answers);
    for name in answers.refused.iter().flat_map(|refused| refused.names()) {
        // Writing to a String cannot fail.
        let _ = write!(mark, " refused={name}");
    }
    mark
}

fn hash_of_tls(hash: StableHash, tls: &TlsPolicy) -> StableHash {
    let (mode, verification) = match tls {
        TlsPolicy::None => ("none", None),
        TlsPolicy::Opportunistic => ("opportunistic", None),
        TlsPolicy::StartTls(verification) => ("starttls", Some(verification)),
        TlsPolicy::Implicit(verification) => ("implicit", Some(verification)),
    };
    let hash = hash.part(mode.as_bytes());
    match verification {
        Some(Verification { server_name, ca }) => hash.part(server_name.as_bytes()).optional(ca.as_deref()),
        None => hash,
    }
}

/// Returns the names of backends that carry mail after and did not before.
pub(super) fn gained(before: Option<&Answers>, after: &Answers) -> Vec<Arc<str>> {
    let mut gained = vec![];
    for VisibleBackend { backend, .. } in visible(after) {
        if !before.is_some_and(|before| carries(before, &backend.next_hop)) {
            gained.push(backend.name.clone());
        }
    }
    gained
}

fn carries(answers: &Answers, next_hop: &NextHop) -> bool {
    visible(answers).iter().any(|visible| visible.backend.next_hop == *next_hop)
}
