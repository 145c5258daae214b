use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Health, Judgement};
use crate::model::{Agent, DeliveryVerdict, Effect, EvidenceClass, FailingDeliveries, Timestamp};

/// An agent's verdict lapses after this long without a report. Agents report every 10 s.
// ADR-0051: Agents' verdicts are not judged again.
pub const REPORT_HOLDS: Duration = Duration::from_secs(30);

/// Name of the verdict about real deliveries, beside the probes' names. No probe may have it.
pub const DELIVERIES: &str = "deliveries";

/// Verdict about one backend from real deliveries, as the agents beside MTAs report them. It counts like one more
/// probe.
///
/// It is Unhealthy while more than half of the agents with a verdict say Failing. It ends when more than half say
/// Passing, or when no delivery has failed for so long that the reports have lapsed: mail that has moved away meets no
/// failure any more. There is no verdict before the first Failing, so agents alone make no backend Healthy.
///
/// Memory is bounded by the number of agents; [`Self::handle_timeout`] drops agents that have fallen silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    verdicts: BTreeMap<Agent, AgentVerdict>,
    /// Verdict of the agents together.
    // Boxed: most backends carry no mail that an agent sees.
    verdict: Option<Box<DeliveriesVerdict>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentVerdict {
    /// The failure that the agent reports; `None` for Passing.
    failing: Option<Failing>,
    holds_until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failing {
    deliveries: FailingDeliveries,
    /// End of this failure's effect, unless further deliveries fail.
    lapses_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct DeliveriesVerdict {
    judgement: Judgement,
    /// End of an Unhealthy verdict without further failures.
    lapses_at: Timestamp,
}

impl Deliveries {
    /// Takes an agent's verdict. Failing deliveries count for `cooldown` after the latest failure, for 30 s at least.
    /// A failure that is not the backend's (a recipient's, a throttle) counts as Silent.
    pub fn record(&mut self, agent: &Agent, verdict: DeliveryVerdict, cooldown: Duration, now: Timestamp) {
        let failing = match verdict {
            DeliveryVerdict::Failing(deliveries) if deliveries.class.effect() == Effect::Failure => {
                Some(Failing { lapses_at: lapses_at(deliveries.last_failure_at.min(now), cooldown), deliveries })
            }
            DeliveryVerdict::Passing => None,
            DeliveryVerdict::Failing(_) | DeliveryVerdict::Silent => {
                self.verdicts.remove(agent);
                return self.handle_timeout(now);
            }
        };
        self.verdicts.insert(agent.clone(), AgentVerdict { failing, holds_until: now + REPORT_HOLDS });
        self.handle_timeout(now);
    }

    /// Restores the verdict that an earlier leader persisted. While no agent has reported: the whole verdict, unless
    /// it has lapsed. Afterwards: `since`, class and message, if the verdict is equal.
    // Status does not hold the time of the latest failure; the start of the verdict is its lower bound.
    pub fn adopt(&mut self, earlier: &Judgement, cooldown: Duration, now: Timestamp) {
        let lapses_at = lapses_at(earlier.since, cooldown);
        match self.verdict.as_deref_mut() {
            Some(DeliveriesVerdict { judgement, .. }) if judgement.health == earlier.health => {
                judgement.since = earlier.since;
                judgement.class = earlier.class;
                judgement.message.clone_from(&earlier.message);
            }
            None if self.verdicts.is_empty() && (earlier.health != Health::Unhealthy || lapses_at > now) => {
                self.verdict = Some(Box::new(DeliveriesVerdict { judgement: earlier.carried_over(), lapses_at }));
            }
            Some(_) | None => {}
        }
    }

    /// Brings the verdict up to date at [`Self::next_timeout`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.verdicts.retain(|_, agent| agent.holds_until > now);
        let voting: Vec<_> = self.voting(now).collect();
        let (voters, failing) = (voting.len(), voting.into_iter().flatten().collect::<Vec<_>>());
        let is_failing = failing.len() * 2 > voters;
        let is_passing = (voters - failing.len()) * 2 > voters;
        let failures = failing.iter().map(|failing| &failing.deliveries);
        let first = failures.min_by_key(|deliveries| deliveries.first_failure_at).cloned();
        let lapses_at = failing.iter().map(|failing| failing.lapses_at).max();
        if let (true, Some(first), Some(lapses_at)) = (is_failing, first, lapses_at) {
            match self.verdict.as_deref_mut() {
                Some(standing) if standing.judgement.health == Health::Unhealthy => {
                    standing.lapses_at = standing.lapses_at.max(lapses_at);
                }
                Some(_) | None => {
                    let message = format!("{DELIVERIES}: {}", first.message);
                    let mut judgement = Judgement::restored(Health::Unhealthy, now, first.class, message);
                    judgement.first_failure_at = Some(first.first_failure_at.min(now));
                    self.verdict = Some(Box::new(DeliveriesVerdict { judgement, lapses_at }));
                }
            }
        } else if let Some(standing) = &mut self.verdict
            && standing.judgement.health == Health::Unhealthy
        {
            let why = if is_passing {
                "deliveries succeed again"
            } else if standing.lapses_at <= now {
                "no delivery has failed for the policy's cooldown"
            } else {
                return;
            };
            standing.judgement = Judgement::restored(Health::Healthy, now, EvidenceClass::Ok, Arc::from(why));
        }
    }

    /// Returns the verdict; `None` until a majority has said Failing.
    pub fn judgement(&self) -> Option<&Judgement> {
        self.verdict.as_ref().map(|standing| &standing.judgement)
    }

    /// Returns the next time at which the verdict may change without a report.
    pub fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let verdicts = self.verdicts.values().map(|agent| agent.holds_until);
        let lapses = self.verdicts.values().filter_map(|agent| Some(agent.failing.as_ref()?.lapses_at));
        let standing = self.verdict.iter().filter(|standing| standing.judgement.health == Health::Unhealthy);
        verdicts.chain(lapses).chain(standing.map(|standing| standing.lapses_at)).filter(|at| *at > now).min()
    }

    /// Iterates over the verdicts of agents that have one: the failure, or `None` for Passing.
    fn voting(&self, now: Timestamp) -> impl Iterator<Item = Option<&Failing>> {
        let voting = self.verdicts.values().map(|agent| agent.failing.as_ref());
        voting.filter(move |failing| failing.is_none_or(|failing| failing.lapses_at > now))
    }
}

/// Returns the time at which a failure ceases to count.
// ADR-0052: A delivery verdict lasts a cooldown after the last failure.
fn lapses_at(failed_at: Timestamp, cooldown: Duration) -> Timestamp {
    failed_at + cooldown.max(REPORT_HOLDS)
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
