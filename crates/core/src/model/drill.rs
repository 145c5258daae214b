//! Rules for drills.

use std::time::Duration;

use super::CronWindow;

/// Rules by which a route rehearses a failover; every default is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drills {
    /// Time in which one drill for each opening begins by itself; `None` if only a person asks for drills.
    pub window: Option<CronWindow>,
    /// Mode of a drill that names none.
    pub mode: DrillMode,
    /// Time for which mail stays with the standby.
    pub stay: Duration,
    /// Longest duration of a drill, from its start until the mail returns.
    pub longest: Duration,
    /// Limit on drills in a time.
    pub budget: DrillBudget,
}

impl Default for Drills {
    /// The documented default: on request, in shadow, at most 3 a day.
    fn default() -> Self {
        Self {
            window: None,
            mode: DrillMode::Shadow,
            stay: Duration::from_mins(1),
            longest: Duration::from_mins(10),
            budget: DrillBudget { drills: 3, per: Duration::from_hours(24) },
        }
    }
}

/// Limit on the drills of one route in a time. Those that were skipped do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrillBudget {
    /// Number of drills, 1 to 5.
    // `status.drills.history` keeps no more of those that have begun.
    pub drills: u8,
    /// Time in which drills count.
    pub per: Duration,
}

/// Mode of a drill: the part of a failure that is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
pub enum DrillMode {
    /// The failure is put into the route's evidence, and mail moves.
    Observed,
    /// Beside that, agents and relays refuse the backend, and its endpoints leave.
    Blocked,
    /// The standby is probed to the depth of its probes, and nothing moves.
    Shadow,
}

impl DrillMode {
    /// Returns the CamelCase name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
