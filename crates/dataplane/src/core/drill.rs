//! Drills that documents order: backends that are refused although they work. Pure; bounded memory.
//!
//! A drill begins when its id is first seen, and ends once: when its time is over, when the document drops it, or when
//! every other way out fails for real. It is remembered over restarts, so that no id begins again.
// ADR-0165: A drill leaves its backend out of the lists, and ends by itself.

use std::collections::VecDeque;
use std::sync::Arc;

use mail_failover_contract::routing::RouteDrill;
use mail_failover_core::model::{DrillState, DrilledMail, Timestamp};
use serde::{Deserialize, Serialize};

use crate::refused::RefusedBackends;

/// Number of the latest drills whose ids are remembered.
const REMEMBERED: usize = 16;

/// A drill as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedDrill {
    /// Id of the drill.
    pub id: String,
    /// Time at which the id was first seen, in microseconds since the Unix epoch.
    pub since: i64,
    /// Name of the [`DrillState`] that it ended with. Absent if it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

impl SavedDrill {
    fn end(&self) -> Option<DrillState> {
        // After a downgrade it may be an end of a newer agent.
        self.end.as_ref().map(|end| DrillState::from_name(end).unwrap_or(DrillState::Over))
    }
}

/// View of the latest drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillView {
    /// State and counts of the drill.
    pub mail: DrilledMail,
    /// Names of the backends that it refuses.
    pub backends: Vec<Arc<str>>,
    /// Time at which it ends whatever happens.
    pub ends_at: Timestamp,
}

impl DrillView {
    /// True if the drill refuses the backend of this name now.
    pub fn refuses(&self, name: &str) -> bool {
        self.mail.state == DrillState::Refusing && self.backends.iter().any(|backend| **backend == *name)
    }
}

/// Other ways out for mail than the refused backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherWays {
    /// There is none, or none of the refused backends is known.
    None,
    /// Each of them fails.
    Failing,
    /// Mail can leave by one of them.
    Open,
}

/// The latest drill.
#[derive(Debug)]
struct Drill {
    began_at: Timestamp,
    ends_at: Timestamp,
    state: DrillState,
    backends: Arc<RefusedBackends>,
    id: Arc<str>,
    carried: u64,
    let_through: u64,
    first_delivery_at: Option<Timestamp>,
}

impl Drill {
    fn has_ended(&self) -> bool {
        match self.state {
            DrillState::Refusing | DrillState::Idle => false,
            DrillState::Lifted | DrillState::Over => true,
        }
    }

    fn saved(&self) -> SavedDrill {
        SavedDrill {
            id: self.id.to_string(),
            since: self.began_at.as_micros(),
            end: self.has_ended().then(|| self.state.as_str().to_owned()),
        }
    }
}

/// The latest drill and the ids of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Drills {
    latest: Option<Drill>,
    /// Drills before the latest, the oldest first, and those of an earlier process.
    earlier: VecDeque<SavedDrill>,
    is_unsaved: bool,
    is_news: bool,
}

impl Drills {
    /// Goes on where the agent's last process ended.
    pub(super) fn restored(saved: &[SavedDrill]) -> Self {
        Self { earlier: saved.iter().cloned().collect(), ..Self::default() }
    }

    /// Takes what the document orders: `None` ends the drill under way.
    pub(super) fn ordered(&mut self, now: Timestamp, order: Option<&RouteDrill>) {
        let Some(RouteDrill { id, backends, lasts }) = order else { return self.end(DrillState::Over) };
        if let Some(latest) = self.latest.as_mut().filter(|latest| latest.id == *id) {
            // It may be shortened. Nothing makes it longer than it was when it began.
            latest.ends_at = latest.ends_at.min(latest.began_at + *lasts);
            if latest.backends.names() != &backends[..] {
                latest.backends = Arc::new(RefusedBackends::new(id.clone(), backends.clone()));
            }
            return self.handle_timeout(now);
        }
        if let Some(latest) = self.latest.take() {
            let end = latest.saved().end.unwrap_or_else(|| DrillState::Over.as_str().to_owned());
            self.remember(SavedDrill { end: Some(end), ..latest.saved() });
        }
        let known = self.earlier.iter().position(|saved| saved.id == **id).and_then(|at| self.earlier.remove(at));
        let (began_at, end) = match &known {
            // A clock that has gone back: nobody knows for how long it has lasted.
            Some(saved) if saved.since > now.as_micros() => (now, Some(saved.end().unwrap_or(DrillState::Over))),
            Some(saved) => (Timestamp::from_micros(saved.since), saved.end()),
            None => (now, None),
        };
        self.is_unsaved = true;
        self.is_news = true;
        self.latest = Some(Drill {
            began_at,
            ends_at: began_at + *lasts,
            state: end.unwrap_or(DrillState::Idle),
            backends: Arc::new(RefusedBackends::new(id.clone(), backends.clone())),
            id: id.clone(),
            carried: 0,
            let_through: 0,
            first_delivery_at: None,
        });
        self.handle_timeout(now);
    }

    fn remember(&mut self, drill: SavedDrill) {
        self.earlier.push_back(drill);
        if self.earlier.len() > REMEMBERED {
            self.earlier.pop_front();
        }
    }

    /// Ends a drill whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.latest.as_ref().is_some_and(|latest| latest.ends_at <= now) {
            self.end(DrillState::Over);
        }
    }

    /// Returns the time at which the drill under way ends.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.latest.as_ref().filter(|latest| !latest.has_ended()).map(|latest| latest.ends_at)
    }

    /// Draws the conclusion from the other ways out.
    pub(super) fn consider(&mut self, others: OtherWays) {
        let Some(latest) = self.latest.as_mut().filter(|latest| !latest.has_ended()) else { return };
        let state = match others {
            OtherWays::None => DrillState::Idle,
            OtherWays::Open => DrillState::Refusing,
            OtherWays::Failing => return self.lift(),
        };
        self.is_news |= std::mem::replace(&mut latest.state, state) != state;
    }

    /// Ends the drill under way because another way out fails for real.
    pub(super) fn lift(&mut self) {
        self.end(DrillState::Lifted);
    }

    fn end(&mut self, state: DrillState) {
        if let Some(latest) = self.latest.as_mut().filter(|latest| !latest.has_ended()) {
            latest.state = state;
            (self.is_unsaved, self.is_news) = (true, true);
        }
    }

    /// Counts a message that a backend took, by an attempt that began at this time.
    pub(super) fn sent(&mut self, now: Timestamp, began_at: Timestamp, backend: &str) {
        let is_refusing = |drill: &&mut Drill| drill.state == DrillState::Refusing && began_at >= drill.began_at;
        let Some(latest) = self.latest.as_mut().filter(is_refusing) else { return };
        if latest.backends.contains(backend) {
            latest.let_through = latest.let_through.saturating_add(1);
            return;
        }
        latest.carried = latest.carried.saturating_add(1);
        self.is_news |= latest.first_delivery_at.is_none();
        latest.first_delivery_at.get_or_insert(now);
    }

    /// The beginning of the drill that refuses backends now, and these.
    pub(super) fn refusing(&self) -> Option<(Timestamp, &Arc<RefusedBackends>)> {
        let latest = self.latest.as_ref().filter(|latest| latest.state == DrillState::Refusing)?;
        Some((latest.began_at, &latest.backends))
    }

    /// The beginning of the drill under way, and the backends that it is to refuse.
    pub(super) fn under_way(&self) -> Option<(Timestamp, &RefusedBackends)> {
        let latest = self.latest.as_ref().filter(|latest| !latest.has_ended())?;
        Some((latest.began_at, &latest.backends))
    }

    /// The state of the latest drill.
    pub(super) fn state(&self) -> Option<DrillState> {
        self.latest.as_ref().map(|latest| latest.state)
    }

    /// Returns true if the operator is to be told at once.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Returns true if what is saved is no longer so. It counts as saved then.
    pub(super) fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.is_unsaved)
    }

    /// The drills as they are saved.
    pub(super) fn saved(&self) -> Vec<SavedDrill> {
        self.earlier.iter().cloned().chain(self.latest.as_ref().map(Drill::saved)).collect()
    }

    /// Returns a view of the latest drill.
    pub(super) fn view(&self) -> Option<DrillView> {
        let latest = self.latest.as_ref()?;
        let mail = DrilledMail {
            id: latest.id.clone(),
            state: latest.state,
            refused: latest.backends.attempts(),
            carried: latest.carried,
            let_through: latest.let_through,
            began_at: latest.began_at,
            first_delivery_after: latest.first_delivery_at.map(|at| at.since(latest.began_at)),
        };
        Some(DrillView { mail, backends: latest.backends.names().to_vec(), ends_at: latest.ends_at })
    }
}
