use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Health, Judgement};
use crate::model::{Agent, Effect, EvidenceClass, FailingDeliveries, Timestamp, Word};

/// An agent that has not reported for so long has no opinion any more; it reports every 10 s.
pub const OPINION_HOLDS: Duration = Duration::from_secs(30);

/// The name under which what real deliveries meet stands beside the probes. No probe may have it.
pub const DELIVERIES: &str = "deliveries";

/// What the agents beside MTAs say of one backend, and what follows from it: one more verdict beside its probes'.
///
/// Unhealthy while more than half of those with an opinion say Failing. It ends when more than half say Passing, or when no delivery
/// has failed for so long that the words have lapsed: mail that has moved away meets nothing any more. Before the first Failing there is no verdict,
/// so agents alone make no backend Healthy.
///
/// Its memory is bounded by the number of agents; [`Self::settle`] drops those that have fallen silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    words: BTreeMap<Agent, Heard>,
    /// Boxed, because most backends carry no mail that an agent sees.
    verdict: Option<Box<Standing>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    /// `None` when it says Passing.
    failing: Option<Failing>,
    holds_until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failing {
    deliveries: FailingDeliveries,
    /// From then on it says nothing any more, unless further deliveries fail.
    lapses_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    judgement: Judgement,
    /// When it ends by itself, if it is Unhealthy.
    lapses_at: Timestamp,
}

impl Deliveries {
    /// Notes what an agent says now; that deliveries fail counts for `cooldown` after the latest failure, and 30 s at least. A failure
    /// that says nothing about the backend (a recipient's, a throttle) is no word.
    pub fn hear(&mut self, agent: &Agent, word: Word, cooldown: Duration, now: Timestamp) {
        let failing = match word {
            Word::Failing(deliveries) if deliveries.class.effect() == Effect::Failure => {
                Some(Failing { lapses_at: lapses_at(deliveries.last_failure_at.min(now), cooldown), deliveries })
            }
            Word::Passing => None,
            Word::Failing(_) | Word::Silent => {
                self.words.remove(agent);
                return self.settle(now);
            }
        };
        self.words.insert(agent.clone(), Heard { failing, holds_until: now + OPINION_HOLDS });
        self.settle(now);
    }

    /// Takes over what an earlier leader wrote down: a verdict that would still hold, while no agent has been heard; since when and why, once
    /// it is the same verdict. When the latest delivery failed is not written down: not before the verdict turned.
    pub fn adopt(&mut self, earlier: &Judgement, cooldown: Duration, now: Timestamp) {
        let lapses_at = lapses_at(earlier.since, cooldown);
        match self.verdict.as_deref_mut() {
            Some(Standing { judgement, .. }) if judgement.health == earlier.health => {
                judgement.since = earlier.since;
                judgement.class = earlier.class;
                judgement.message.clone_from(&earlier.message);
            }
            None if self.words.is_empty() && (earlier.health != Health::Unhealthy || lapses_at > now) => {
                self.verdict = Some(Box::new(Standing { judgement: earlier.carried_over(), lapses_at }));
            }
            Some(_) | None => {}
        }
    }

    /// Brings the verdict up to date: to be called at [`Self::next_change_at`].
    pub fn settle(&mut self, now: Timestamp) {
        self.words.retain(|_, heard| heard.holds_until > now);
        let opinions: Vec<_> = self.opinions(now).collect();
        let (voters, failing) = (opinions.len(), opinions.into_iter().flatten().collect::<Vec<_>>());
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
                    self.verdict = Some(Box::new(Standing { judgement, lapses_at }));
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

    /// The verdict; `None` as long as no majority has said Failing.
    pub fn judgement(&self) -> Option<&Judgement> {
        self.verdict.as_ref().map(|standing| &standing.judgement)
    }

    /// When the verdict may change although nobody says anything.
    pub fn next_change_at(&self, now: Timestamp) -> Option<Timestamp> {
        let words = self.words.values().map(|heard| heard.holds_until);
        let lapses = self.words.values().filter_map(|heard| Some(heard.failing.as_ref()?.lapses_at));
        let standing = self.verdict.iter().filter(|standing| standing.judgement.health == Health::Unhealthy);
        words.chain(lapses).chain(standing.map(|standing| standing.lapses_at)).filter(|at| *at > now).min()
    }

    /// What each agent with an opinion says: the failure, or `None` for Passing.
    fn opinions(&self, now: Timestamp) -> impl Iterator<Item = Option<&Failing>> {
        let holds = move |heard: &&Heard| heard.failing.as_ref().is_none_or(|failing| failing.lapses_at > now);
        self.words.values().filter(holds).map(|heard| heard.failing.as_ref())
    }
}

/// When a failure ceases to count.
fn lapses_at(failed_at: Timestamp, cooldown: Duration) -> Timestamp {
    failed_at + cooldown.max(OPINION_HOLDS)
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
