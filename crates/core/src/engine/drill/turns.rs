//! Turns of the drills of all routes: never two that move mail at once in one failure domain, and a bound on all.
// ADR-0161: Drills of one failure domain take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Drill, DrillRefused};
use crate::model::{DrillMode, ObjectKey, Timestamp};

/// Most drills at once that move mail.
// Each writes outputs and reads them again; a schedule that ten thousand routes share must not look like an outage of
// everything.
pub const MAX_DRILLS_AT_ONCE: usize = 10;
/// Most drills at once in shadow.
// Each writes a status at its begin and at its end, and is over after a round of probes that are made anyway.
// ADR-0191: A drill in shadow waits for no failure domain.
pub const MAX_SHADOW_DRILLS_AT_ONCE: usize = 100;

/// Obstacles that drills of other routes are to one of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrillObstacles {
    /// Obstacle to a drill that moves mail.
    pub moving: Option<DrillRefused>,
    /// Obstacle to a drill in shadow.
    pub shadow: Option<DrillRefused>,
}

impl DrillObstacles {
    /// None: no other route has a drill.
    pub const NONE: Self = Self { moving: None, shadow: None };

    /// Returns the obstacle to a drill of this mode.
    pub fn to(&self, mode: DrillMode) -> Option<&DrillRefused> {
        match mode {
            DrillMode::Observed | DrillMode::Blocked => self.moving.as_ref(),
            DrillMode::Shadow => self.shadow.as_ref(),
        }
    }
}

/// Drills that are under way.
#[derive(Clone, Debug, Default)]
pub struct DrillTurns {
    begun: BTreeMap<ObjectKey, BegunDrill>,
}

/// Drill of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BegunDrill {
    at: Timestamp,
    mode: DrillMode,
    domains: BTreeSet<Arc<str>>,
}

impl DrillTurns {
    /// Notes the drill of a route with the failure domains of its backends, or that it has none.
    pub fn set(&mut self, route: &ObjectKey, drill: Option<(&Drill, BTreeSet<Arc<str>>)>) {
        match drill {
            Some((drill, domains)) => {
                let begun = BegunDrill { at: drill.started_at, mode: drill.mode, domains };
                self.begun.insert(route.clone(), begun);
            }
            None => {
                self.begun.remove(route);
            }
        }
    }

    /// Returns true if no drill is under way.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Returns true if a route has a drill under way.
    pub fn has(&self, route: &ObjectKey) -> bool {
        self.begun.contains_key(route)
    }

    /// Returns the obstacles that other drills are to one of a route with these failure domains. A drill that runs
    /// yields to an earlier one only.
    pub fn obstacles(&self, route: &ObjectKey, domains: &BTreeSet<Arc<str>>) -> DrillObstacles {
        let own = self.begun.get(route);
        let shadows = self.begun.values().filter(|begun| begun.mode == DrillMode::Shadow).count();
        let moving = self.begun.len() - shadows;
        let is_full = own.is_none() && moving >= MAX_DRILLS_AT_ONCE;
        let is_full_of_shadows = own.is_none() && shadows >= MAX_SHADOW_DRILLS_AT_ONCE;
        DrillObstacles {
            moving: self.busy(route, domains).or_else(|| is_full.then_some(DrillRefused::TooMany(moving))),
            shadow: is_full_of_shadows.then_some(DrillRefused::TooMany(shadows)),
        }
    }

    /// Returns the drill of another route that moves mail in one of these failure domains.
    fn busy(&self, route: &ObjectKey, domains: &BTreeSet<Arc<str>>) -> Option<DrillRefused> {
        let own = self.begun.get(route).map(|own| (own.at, route));
        let others = self.begun.iter().filter(|(other, begun)| *other != route && begun.mode != DrillMode::Shadow);
        let mut earlier = others.filter(|(other, begun)| own.is_none_or(|own| (begun.at, *other) < own));
        earlier.find_map(|(other, begun)| {
            let domain = begun.domains.intersection(domains).next()?;
            Some(DrillRefused::DomainBusy { route: other.to_string().into(), domain: domain.clone() })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{DrillTimes, DrillTrigger};

    fn key(number: usize) -> ObjectKey {
        ObjectKey::new("shop", format!("r{number}"))
    }

    fn named(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn drill(at: i64, mode: DrillMode) -> Drill {
        Drill {
            id: "d".into(),
            mode,
            trigger: DrillTrigger::Schedule,
            backend: "a".into(),
            standby: "b".into(),
            started_at: Timestamp::from_micros(at),
            until: Timestamp::from_micros(at + 1),
            shares: vec![],
            since: Timestamp::default(),
            transition: None,
            times: DrillTimes::default(),
            ending: None,
        }
    }

    fn begin(turns: &mut DrillTurns, number: usize, at: i64, mode: DrillMode, domains: &BTreeSet<Arc<str>>) {
        turns.set(&key(number), Some((&drill(at, mode), domains.clone())));
    }

    const MODES: [DrillMode; 3] = [DrillMode::Observed, DrillMode::Blocked, DrillMode::Shadow];

    proptest! {
        /// Whoever begins when nothing stands in the way, and ends when it likes: no two that move mail share a domain.
        #[test]
        fn two_drills_of_one_failure_domain_never_overlap(
            steps in prop::collection::vec(
                (0_usize..12, prop::collection::btree_set(0_u8..6, 1..3), 0_usize..3, any::<bool>()), 1..60)
        ) {
            let mut turns = DrillTurns::default();
            for (now, (route, domains, mode, ends)) in steps.into_iter().enumerate() {
                let domains: BTreeSet<Arc<str>> = domains.into_iter().map(|domain| domain.to_string().into()).collect();
                let key = key(route);
                if let Some(begun) = turns.begun.get(&key).cloned() {
                    let obstacles = turns.obstacles(&key, &begun.domains);
                    prop_assert_eq!(obstacles.to(begun.mode), None, "the first one yields to nobody");
                    if ends {
                        turns.set(&key, None);
                    }
                } else if turns.obstacles(&key, &domains).to(MODES[mode]).is_none() {
                    begin(&mut turns, route, i64::try_from(now).unwrap(), MODES[mode], &domains);
                }
                let moving: Vec<_> = turns.begun.values().filter(|begun| begun.mode != DrillMode::Shadow).collect();
                let all: Vec<_> = moving.iter().flat_map(|begun| &begun.domains).collect();
                let distinct: BTreeSet<_> = all.iter().collect();
                prop_assert_eq!(all.len(), distinct.len(), "{:?}", &turns);
                prop_assert!(moving.len() <= MAX_DRILLS_AT_ONCE);
            }
        }
    }

    #[test]
    fn of_two_that_overlap_after_a_change_of_leaders_the_later_one_yields() {
        let domains = named(&["aws"]);
        let mut turns = DrillTurns::default();
        begin(&mut turns, 1, 2, DrillMode::Observed, &domains);
        begin(&mut turns, 2, 1, DrillMode::Observed, &domains);
        let later = turns.obstacles(&key(1), &domains);
        assert!(
            matches!(later.to(DrillMode::Observed), Some(DrillRefused::DomainBusy { route, .. }) if &**route == "shop/r2")
        );
        assert_eq!(turns.obstacles(&key(2), &domains), DrillObstacles::NONE);
    }

    #[test]
    fn a_drill_in_shadow_waits_for_no_failure_domain_and_takes_nobodys_place() {
        let domains = named(&["aws"]);
        let mut turns = DrillTurns::default();
        begin(&mut turns, 0, 1, DrillMode::Blocked, &domains);
        for number in 1..MAX_SHADOW_DRILLS_AT_ONCE {
            assert_eq!(turns.obstacles(&key(number), &domains).to(DrillMode::Shadow), None);
            begin(&mut turns, number, 1, DrillMode::Shadow, &domains);
        }
        let of_another = named(&["gcp"]);
        assert_eq!(turns.obstacles(&key(500), &of_another), DrillObstacles::NONE, "99 in shadow, and one that moves");
        begin(&mut turns, 500, 1, DrillMode::Shadow, &of_another);
        let full = turns.obstacles(&key(501), &named(&["azure"]));
        assert_eq!(full.to(DrillMode::Shadow), Some(&DrillRefused::TooMany(MAX_SHADOW_DRILLS_AT_ONCE)));
        assert_eq!(full.to(DrillMode::Observed), None);
    }

    #[test]
    fn the_number_at_once_is_bounded() {
        let mut turns = DrillTurns::default();
        for number in 0..MAX_DRILLS_AT_ONCE {
            let domain = named(&[&number.to_string()]);
            assert_eq!(turns.obstacles(&key(number), &domain), DrillObstacles::NONE);
            begin(&mut turns, number, 1, DrillMode::Observed, &domain);
        }
        let full = turns.obstacles(&key(99), &named(&["99"]));
        assert_eq!(full.to(DrillMode::Blocked), Some(&DrillRefused::TooMany(MAX_DRILLS_AT_ONCE)));
        assert_eq!(full.to(DrillMode::Shadow), None);
        assert_eq!(turns.obstacles(&key(0), &named(&["0"])), DrillObstacles::NONE, "one that runs goes on");
    }
}
