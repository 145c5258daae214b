use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;

/// State of a drill at an agent or a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrillState {
    /// Backends are refused.
    Refusing,
    /// Nothing is refused at present: no other backend may carry the mail, or none of the named ones is known.
    Idle,
    /// Nothing is refused any more: every other way out failed for real, and the refused backends are used again.
    Lifted,
    /// Nothing is refused any more: its time is over, or the document has dropped it.
    Over,
}

impl DrillState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Refusing, Self::Idle, Self::Lifted, Self::Over];

    /// Name in reports, status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refusing => "Refusing",
            Self::Idle => "Idle",
            Self::Lifted => "Lifted",
            Self::Over => "Over",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Drill as one agent or relay carries it out. Nothing of it is evidence about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrilledMail {
    /// Id of the drill, as in the document.
    pub id: Arc<str>,
    /// State of the drill there.
    pub state: DrillState,
    /// Attempts that were refused: messages of a relay, or answers to an MTA, that left a refused backend out.
    pub refused: u64,
    /// Messages that other backends took while it refused.
    pub carried: u64,
    /// Messages that went to a refused backend all the same, because nothing else was left for them.
    pub let_through: u64,
    /// Time at which the id was first seen.
    pub began_at: Timestamp,
    /// Time from then to the first message that another backend took; `None` before it.
    pub first_delivery_after: Option<Duration>,
}
