//! Drills: what the engine has to know of them beside the evidence. Outputs follow each decision at once, and nobody
//! reports deliveries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{EvidenceSource, Simulator};
use mail_failover_core::engine::{
    Agreement, BlockedDrill, Drill, DrillInputs, DrillObstacles, DrillTurns, TransitionTimes, WholeRound,
};
use mail_failover_core::model::{DrillMode, Timestamp, Vantage};

/// Drills of all routes.
#[derive(Debug, Default)]
pub(super) struct SimulatedDrills {
    /// Time from which on drills are run; `None` for never.
    pub(super) from: Option<Timestamp>,
    turns: DrillTurns,
    /// Failure domains of the backends of each route.
    domains: Vec<BTreeSet<Arc<str>>>,
}

/// Knowledge of drills for one decision about a route.
#[derive(Debug, Default)]
pub(super) struct DrillSights {
    obstacles: DrillObstacles,
    times: Vec<TransitionTimes>,
    rounds: Vec<WholeRound>,
    observers: Agreement,
}

impl DrillSights {
    pub(super) fn inputs(&self) -> DrillInputs<'_> {
        DrillInputs {
            elsewhere: &self.obstacles,
            times: &self.times,
            has_agents: false,
            blocked: BlockedDrill::default(),
            rounds: &self.rounds,
            observers: self.observers,
        }
    }
}

impl<S: EvidenceSource> Simulator<S> {
    /// Runs drills from a time on, those of schedules and those that are asked for.
    #[must_use]
    pub fn drilling_from(mut self, from: Timestamp) -> Self {
        let fleet = &self.fleet;
        let domains = fleet.routes.iter().map(|route| {
            let backends = route.backends.iter().map(|backend| &fleet.backends[*backend]);
            // One that names none is a domain of its own.
            let named = backends.map(|known| {
                known.backend.location.failure_domain.clone().unwrap_or_else(|| known.key.to_string().into())
            });
            named.collect()
        });
        self.drills = SimulatedDrills { from: Some(from), turns: DrillTurns::default(), domains: domains.collect() };
        self
    }

    fn is_drilling(&self) -> bool {
        self.drills.from.is_some_and(|from| from <= self.now)
    }

    /// Looks at what a decision about a route has to know of drills; `None` where none are run.
    pub(super) fn drill_sights(&self, route: usize) -> Option<DrillSights> {
        if !self.is_drilling() {
            return None;
        }
        let mut sights = DrillSights::default();
        if !self.drills.turns.is_empty() {
            let key = &self.fleet.routes[route].key;
            sights.obstacles = self.drills.turns.obstacles(key, &self.drills.domains[route]);
        }
        let memory = &self.routes[route].memory;
        if let Some(drill) = &memory.drill {
            let times = memory.history.iter().map(|transition| TransitionTimes {
                id: transition.id,
                applied_at: Some(transition.decided_at),
                first_delivery_at: None,
            });
            sights.times = times.collect();
            if let Some(standby) = self.backend_of(route, &drill.standby) {
                sights.rounds = self.whole_rounds(standby);
                let thresholds = self.fleet.routes[route].policy.thresholds;
                let verdict = self.evidence[0][standby].evidence.verdict(thresholds, self.now);
                sights.observers = verdict.map(|verdict| verdict.observers).unwrap_or_default();
            }
        }
        Some(sights)
    }

    fn backend_of(&self, route: usize, name: &Arc<str>) -> Option<usize> {
        let mut backends = self.fleet.routes[route].backends.iter();
        backends.find(|backend| self.fleet.backends[**backend].key.name == *name).copied()
    }

    /// Returns the latest round at its full depth of each probe of a backend, by the observer that decides.
    fn whole_rounds(&self, backend: usize) -> Vec<WholeRound> {
        let streams = self.streams.iter().filter(|one| one.stream.observer == 0 && one.stream.backend == backend);
        let rounds = streams.map(|one| {
            let probe = &self.fleet.backends[backend].backend.probes[one.stream.probe];
            WholeRound {
                probe: probe.name.clone(),
                // As the operator has it: the shift of rounds is a twentieth of the interval, and Jobs have no rounds.
                period: match probe.vantage {
                    Vantage::Operator => probe.interval + probe.interval / 10 + probe.timeout,
                    Vantage::Job => Duration::ZERO,
                },
                latest: one.whole.clone(),
            }
        });
        rounds.collect()
    }

    /// Takes note of the drill that a decision leaves under way.
    pub(super) fn note_drill(&mut self, route: usize) {
        if !self.is_drilling() {
            return;
        }
        let key = self.fleet.routes[route].key.clone();
        let Some(drill) = self.routes[route].memory.drill.clone() else { return self.drills.turns.set(&key, None) };
        let has_begun = !self.drills.turns.has(&key);
        self.drills.turns.set(&key, Some((&drill, self.drills.domains[route].clone())));
        if has_begun && drill.mode != DrillMode::Shadow {
            self.look_at_standby(route, &drill);
        }
    }

    /// Looks at the standby, so that it has answered by the time that it is needed.
    fn look_at_standby(&mut self, route: usize, drill: &Drill) {
        let Some(standby) = self.backend_of(route, &drill.standby) else { return };
        for index in 0..self.streams.len() {
            let stream = self.streams[index].stream;
            if stream.observer == 0 && stream.backend == standby {
                self.begin_look(index);
            }
        }
    }

    /// Returns true if any answer may let the drill of a route go on.
    pub(super) fn awaits_answer(&self, route: usize) -> bool {
        let drill = self.routes[route].memory.drill.as_ref();
        drill.is_some_and(|drill| drill.transition.is_none())
    }
}
