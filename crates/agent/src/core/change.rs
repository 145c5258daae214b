//! What changes for the MTA, and how it went.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::answers::Answers;
use mail_failover_contract::routing::{Backend, NextHop};
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Make the MTA notice that its answers have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchOrder {
    /// Grows by one with each; a later one makes an earlier one that was not carried out yet superfluous.
    pub number: u64,
    /// Why.
    pub cause: Cause,
    /// When it was decided.
    pub at: Timestamp,
    /// Equal for equal ways out, whatever decision they come from. Kept on disk once a switch is done: after a start, an order with the
    /// mark that is kept needs not be carried out.
    pub mark: String,
    /// Backends that carry mail now and did not before.
    pub gained: Vec<Arc<str>>,
    /// Backends that carried mail before and do not now.
    pub lost: Vec<Arc<str>>,
}

impl SwitchOrder {
    /// The operator's transition that it carries out, given the one in force; none for a move of the agent's own.
    pub fn transition(&self, in_force: i64) -> Option<i64> {
        match self.cause {
            Cause::Operator | Cause::Start => Some(in_force),
            Cause::Left { .. } | Cause::Returned { .. } => None,
        }
    }
}

/// Why mail goes another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent has started.
    Start,
    /// The operator has decided.
    Operator,
    /// The agent has left a backend by itself.
    Left {
        /// Which.
        backend: Arc<str>,
        /// For what.
        class: EvidenceClass,
    },
    /// The agent has returned to a backend that it had left, as the operator still wants mail to go there.
    Returned {
        /// Which.
        backend: Arc<str>,
    },
}

impl Cause {
    /// A name for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Operator => "Operator",
            Self::Left { .. } => "Left",
            Self::Returned { .. } => "Returned",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("the agent has started"),
            Self::Operator => f.write_str("the operator has decided"),
            Self::Left { backend, class } => write!(f, "the agent has left {backend}: {}", class.as_str()),
            Self::Returned { backend } => write!(f, "the agent has returned to {backend}"),
        }
    }
}

/// How a switch went, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchReport {
    /// The order's.
    pub number: u64,
    /// Nothing was done, because the same switch was done before the agent started again.
    pub done_before: bool,
    /// From the order's arrival until the MTA was reloaded and told to flush.
    pub took: Duration,
    /// Messages in the queue before; `None` when they could not be counted.
    pub queued_before: Option<u64>,
    /// Messages in the queue when the executor last counted.
    pub queued_after: Option<u64>,
    /// What did not work, in words: each of them has a fallback that did, or is tried again.
    pub troubles: Vec<String>,
}

/// Troubles of one switch that are kept: the first, which tell most.
const MAX_TROUBLES: usize = 5;

impl SwitchReport {
    /// Of a switch that begins.
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

    /// Notes what did not work, once; whether that is news.
    pub fn trouble(&mut self, step: &str, error: &dyn fmt::Display) -> bool {
        let trouble = format!("{step}: {error}");
        let is_news = self.troubles.len() < MAX_TROUBLES && !self.troubles.contains(&trouble);
        if is_news {
            self.troubles.push(trouble);
        }
        is_news
    }
}

/// What the MTA sees of one backend.
#[derive(PartialEq, Eq)]
struct Way<'a> {
    backend: &'a Backend,
    percent: u8,
}

fn ways(answers: &Answers) -> Vec<Way<'_>> {
    let ways = answers.routing.backends.iter().zip(&answers.percents);
    ways.filter(|(_, percent)| **percent > 0).map(|(backend, percent)| Way { backend, percent: *percent }).collect()
}

/// Whether the MTA sees any difference. What the operator thinks of standbys is none.
pub(super) fn differs(before: &Answers, after: &Answers) -> bool {
    mark(before) != mark(after)
}

/// See [`SwitchOrder::mark`].
pub(super) fn mark(answers: &Answers) -> String {
    use fmt::Write;
    let mut mark = answers.routing.route_uid.to_string();
    let mut hasher = DefaultHasher::new();
    for Way { backend, percent } in ways(answers) {
        let Backend { name, percent: _, standby: _, next_hop, tls, secret, sender_domains } = backend;
        let _ = write!(mark, " {name}={next_hop}={percent}");
        format!("{tls:?}").hash(&mut hasher);
        (secret, sender_domains).hash(&mut hasher);
    }
    let _ = write!(mark, " {:016x}", hasher.finish());
    mark
}

/// The names of backends that carry mail after and did not before.
pub(super) fn gained(before: Option<&Answers>, after: &Answers) -> Vec<Arc<str>> {
    let carried = |next_hop: &NextHop| {
        before.is_some_and(|before| ways(before).iter().any(|way| way.backend.next_hop == *next_hop))
    };
    ways(after).iter().filter(|way| !carried(&way.backend.next_hop)).map(|way| way.backend.name.clone()).collect()
}
