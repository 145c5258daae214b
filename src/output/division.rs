//! Division of a backend's limits among the agents that may send there. Pure.
//!
//! Nobody asks an agent before it sends, and agents do not know each other. So each has a part of its own, and the parts
//! of all of them never add up to more than the limit. Every agent of a route has the same part, whatever it sends.
// ADR-0126: The pace of a backend is kept where a session begins.

use mail_failover_contract::document;
use mail_failover_core::model::{Limits, Timestamp};

/// Part of a limit for agents of routes that lead to the backend, while those of other routes may send there, too.
const MOST: Part = Part { numerator: 9, denominator: 10 };
/// Part of a limit for those of the other routes meanwhile.
const REST: Part = Part { numerator: 1, denominator: 10 };
const WHOLE: Part = Part { numerator: 1, denominator: 1 };
/// A second, in milliseconds.
const SECOND: u64 = 1000;

struct Part {
    numerator: u32,
    denominator: u32,
}

/// Agents that may send to a backend, over all routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// Agents of routes that lead to it.
    pub carrying: u32,
    /// Agents of routes of which single messages go there when another backend does not take them.
    pub spilling: u32,
}

/// Part of a backend's limits that each agent of a route has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentPart {
    /// Rate of the agent; `None` for any.
    pub rate: Option<document::Rate>,
    /// Messages of the agent within 24 hours; `None` for any number.
    pub messages_per_day: Option<u64>,
    /// Connections of a relay at a time; `None` for its own bound.
    pub connections: Option<u32>,
}

impl AgentPart {
    /// Computes the part of each agent of a route that is among these senders. The route `carries` if it leads to the
    /// backend. `now` is the time by the wall clock, whose days a warm-up follows.
    pub fn of(limits: &Limits, senders: Senders, carries: bool, now: Timestamp) -> Self {
        let (Part { numerator, denominator }, agents) = part(senders, carries);
        let among = u64::from(denominator) * u64::from(agents);
        let warming = limits.warm_up.as_ref().and_then(|warm_up| warm_up.at(now)).map(|(allowed, _)| allowed);
        let a_day = [limits.messages_per_day, warming].into_iter().flatten().min();
        // A fraction, so that nothing is lost: 14 a second for three agents are 14 in 3 s, not 4 and 4 and 4.
        let rate = limits.messages_per_second.map(|limit| document::Rate {
            messages: limit.saturating_mul(numerator),
            per_milliseconds: SECOND * among,
        });
        let messages_per_day = a_day.map(|limit| (u64::from(limit) * u64::from(numerator) / among).max(1));
        // Nobody sends without a connection, so that each has one, and more senders than connections exceed the limit.
        let connections = limits.connections.map(|limit| {
            let part = u64::from(limit) * u64::from(numerator) / among;
            u32::try_from(part).unwrap_or(u32::MAX).max(1)
        });
        Self { rate, messages_per_day, connections }
    }
}

/// Returns the part of a limit that a route's kind of senders has, and the number of agents that it is for.
fn part(senders: Senders, carries: bool) -> (Part, u32) {
    let Senders { carrying, spilling } = senders;
    let (own, others) = if carries { (carrying, spilling) } else { (spilling, carrying) };
    let part = match (carries, others) {
        (_, 0) => WHOLE,
        (true, _) => MOST,
        (false, _) => REST,
    };
    (part, own.max(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mail_failover_core::model::WarmUp;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000)
    }

    /// Messages a second, in thousandths.
    fn thousandths(part: AgentPart) -> u64 {
        let document::Rate { messages, per_milliseconds } = part.rate.unwrap();
        u64::from(messages) * 1_000_000 / per_milliseconds
    }

    #[test]
    fn the_parts_of_all_agents_never_add_up_to_more_than_the_limit() {
        let limits = Limits { messages_per_second: Some(14), messages_per_day: Some(1000), ..Limits::default() };
        for (carrying, spilling) in [(1, 0), (0, 1), (3, 0), (0, 7), (2, 5), (1, 1), (250, 250)] {
            let senders = Senders { carrying, spilling };
            let (most, least) =
                (AgentPart::of(&limits, senders, true, now()), AgentPart::of(&limits, senders, false, now()));
            let mut rates = 0;
            let mut days = 0;
            for (number, part) in [(carrying, most), (spilling, least)] {
                if number > 0 {
                    rates += u64::from(number) * thousandths(part);
                    days += u64::from(number) * part.messages_per_day.unwrap();
                }
            }
            assert!((13_000..=14_000).contains(&rates), "{senders:?}: {rates}");
            assert!((500..=1000).contains(&days), "{senders:?}: {days}");
        }
    }

    #[test]
    fn connections_are_divided_too_and_each_has_one() {
        let limits = Limits { connections: Some(20), ..Limits::default() };
        let connections = |carrying, spilling, carries| {
            AgentPart::of(&limits, Senders { carrying, spilling }, carries, now()).connections
        };
        assert_eq!([connections(2, 0, true), connections(3, 0, true)], [Some(10), Some(6)]);
        assert_eq!([connections(2, 4, true), connections(2, 4, false)], [Some(9), Some(1)]);
        assert_eq!(connections(50, 0, true), Some(1));
        let unlimited = AgentPart::of(&Limits::default(), Senders { carrying: 2, spilling: 0 }, true, now());
        assert_eq!(unlimited.connections, None);
    }

    #[test]
    fn a_route_that_leads_there_has_most_and_the_others_a_tenth() {
        let limits = Limits { messages_per_second: Some(20), ..Limits::default() };
        let part = |senders, carries| thousandths(AgentPart::of(&limits, senders, carries, now()));
        assert_eq!(part(Senders { carrying: 2, spilling: 4 }, true), 9_000);
        assert_eq!(part(Senders { carrying: 2, spilling: 4 }, false), 500);
        assert_eq!(part(Senders { carrying: 2, spilling: 0 }, true), 10_000);
        assert_eq!(part(Senders { carrying: 0, spilling: 4 }, false), 5_000, "nobody needs more");
    }

    #[test]
    fn a_warm_up_limits_its_days_and_without_limits_there_are_none() {
        let warm_up = WarmUp { started_at: now(), schedule: vec![200, 500] };
        let limits = Limits { messages_per_day: Some(400), warm_up: Some(warm_up), ..Limits::default() };
        let senders = Senders { carrying: 0, spilling: 2 };
        for (days, each) in [(0, 100), (1, 200), (2, 200)] {
            let at = now() + Duration::from_hours(24) * days;
            let part = AgentPart::of(&limits, senders, false, at);
            assert_eq!(part, AgentPart { messages_per_day: Some(each), ..AgentPart::default() }, "day {days}");
        }
        assert_eq!(AgentPart::of(&Limits::default(), senders, true, now()), AgentPart::default());
    }
}
