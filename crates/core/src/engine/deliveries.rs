use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::acquittal::{Accusation, UNTRIED};
use super::{Health, Judgement, THROTTLED_ONLY};
use crate::model::{
    Agent, DeliveryStage, DeliveryVerdict, Effect, EvidenceClass, FailingDeliveries, Stage, ThrottledDeliveries,
    Timestamp,
};

/// An agent's verdict lapses after this long without a report. Agents report every 10 s.
// ADR-0051: Agents' verdicts are not judged again.
pub const REPORT_HOLDS: Duration = Duration::from_secs(30);

/// Name of the verdict about real deliveries, beside the probes' names. No probe may have it.
pub const DELIVERIES: &str = "deliveries";

/// Verdict about one backend from real deliveries, as the agents beside MTAs report them. It counts like one more
/// probe.
///
/// It is Unhealthy while more than half of the agents with a verdict say Failing, and Degraded while more than half say
/// Throttled. It ends when more than half say Passing, or when no delivery has met that for so long that the reports
/// have lapsed: mail that has moved away meets nothing any more. But what has failed at a stage is trusted again only
/// after a success there or beyond: of a message, of a probe that goes as far, or by a person's word. There is no verdict
/// before the first trouble, so agents alone make no backend Healthy.
///
/// Memory is bounded by the number of agents; [`Self::handle_timeout`] drops agents that have fallen silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    verdicts: BTreeMap<Agent, AgentVerdict>,
    /// Verdict of the agents together.
    // Boxed: most backends carry no mail that an agent sees.
    verdict: Option<Box<DeliveriesVerdict>>,
    /// Time of the latest delivery that an agent has told of.
    delivered_at: Option<Timestamp>,
    /// Time at which it was last trusted again: earlier failures are judged.
    acquitted_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentVerdict {
    /// The trouble that the agent reports; `None` for Passing.
    trouble: Option<Trouble>,
    holds_until: Timestamp,
}

/// Trouble that an agent's deliveries meet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    /// Unhealthy or Degraded.
    health: Health,
    class: EvidenceClass,
    message: Arc<str>,
    began_at: Timestamp,
    /// End of its effect, unless further deliveries meet it.
    lapses_at: Timestamp,
    /// Deepest stage of the failures, with the time of the latest.
    accusation: Option<(DeliveryStage, Timestamp)>,
}

impl Trouble {
    fn failing(deliveries: FailingDeliveries, cooldown: Duration, now: Timestamp) -> Self {
        let FailingDeliveries { class, message, first_failure_at, last_failure_at, stage } = deliveries;
        let last_failure_at = last_failure_at.min(now);
        let (began_at, lapses_at) = (first_failure_at.min(now), lapses_at(last_failure_at, cooldown));
        let accusation = stage.map(|stage| (stage, last_failure_at));
        Self { health: Health::Unhealthy, class, message, began_at, lapses_at, accusation }
    }

    // ADR-0084: Nothing but throttling for five minutes is Degraded.
    fn throttled(deliveries: &ThrottledDeliveries, cooldown: Duration, now: Timestamp) -> Self {
        let ThrottledDeliveries { message, first_at, last_at } = deliveries;
        Self {
            health: Health::Degraded,
            class: EvidenceClass::Throttled,
            message: format!("nothing but throttling for {THROTTLED_ONLY:?}: {message}").into(),
            began_at: (*first_at).min(now),
            lapses_at: lapses_at((*last_at).min(now), cooldown),
            accusation: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct DeliveriesVerdict {
    judgement: Judgement,
    /// End of a verdict that is not Healthy, without further trouble.
    lapses_at: Timestamp,
    /// Accusation that the verdict rests on, while it is Unhealthy; `None` if no agent has told the stage.
    accusation: Option<Accusation>,
}

impl DeliveriesVerdict {
    /// Ends an accusation with this word.
    fn acquit(&mut self, now: Timestamp, why: &str) {
        self.judgement = Judgement::restored(Health::Healthy, now, EvidenceClass::Ok, Arc::from(why));
        self.accusation = None;
    }
}

impl Deliveries {
    /// Takes an agent's verdict. Failing deliveries count for `cooldown` after the latest failure, for 30 s at least.
    /// A failure that is not the backend's (a recipient's, a throttle) counts as Silent.
    pub fn record(&mut self, agent: &Agent, verdict: DeliveryVerdict, cooldown: Duration, now: Timestamp) {
        let delivered_at = match &verdict {
            DeliveryVerdict::Failing(deliveries) => Some(deliveries.last_failure_at.min(now)),
            DeliveryVerdict::Throttled(deliveries) => Some(deliveries.last_at.min(now)),
            DeliveryVerdict::Passing => Some(now),
            // An agent that sends nothing there tries nothing.
            DeliveryVerdict::Silent => None,
        };
        self.delivered_at = self.delivered_at.max(delivered_at);
        let acquitted_at = self.acquitted_at;
        let is_judged = |at: Timestamp| acquitted_at.is_some_and(|acquitted| at <= acquitted);
        let trouble = match verdict {
            DeliveryVerdict::Failing(deliveries)
                if deliveries.class.effect() == Effect::Failure && !is_judged(deliveries.last_failure_at) =>
            {
                Some(Trouble::failing(deliveries, cooldown, now))
            }
            DeliveryVerdict::Throttled(deliveries) => Some(Trouble::throttled(&deliveries, cooldown, now)),
            DeliveryVerdict::Passing => None,
            DeliveryVerdict::Failing(_) | DeliveryVerdict::Silent => {
                self.verdicts.remove(agent);
                return self.handle_timeout(now);
            }
        };
        self.verdicts.insert(agent.clone(), AgentVerdict { trouble, holds_until: now + REPORT_HOLDS });
        self.handle_timeout(now);
    }

    /// Restores the verdict that an earlier leader persisted, with the stage that has condemned the backend. While no
    /// agent has reported: the whole verdict, unless it has lapsed. Afterwards: `since`, class and message, if the
    /// verdict is equal.
    // Status does not hold the time of the latest failure; the start of the verdict is its lower bound.
    pub fn adopt(&mut self, earlier: &Judgement, stage: Option<DeliveryStage>, cooldown: Duration, now: Timestamp) {
        let lapses_at = lapses_at(earlier.since, cooldown);
        let accusation = stage.filter(|_| earlier.health == Health::Unhealthy);
        let accusation = accusation.map(|stage| Accusation::new(stage, earlier.since.min(now)));
        // This process has been told of no delivery, which is no reason to call a person at once.
        self.delivered_at.get_or_insert(now);
        let is_in_force = earlier.health == Health::Healthy || accusation.is_some() || lapses_at > now;
        if earlier.health == Health::Healthy {
            self.acquitted_at = self.acquitted_at.max(Some(earlier.since));
        }
        match self.verdict.as_deref_mut() {
            Some(DeliveriesVerdict { judgement, .. }) if judgement.health == earlier.health => {
                judgement.since = earlier.since;
                judgement.class = earlier.class;
                judgement.message.clone_from(&earlier.message);
            }
            None if self.verdicts.is_empty() && is_in_force => {
                let judgement = earlier.carried_over();
                self.verdict = Some(Box::new(DeliveriesVerdict { judgement, lapses_at, accusation }));
            }
            Some(_) | None => {}
        }
    }

    /// Brings the verdict up to date at [`Self::next_timeout`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.verdicts.retain(|_, agent| agent.holds_until > now);
        let voting: Vec<_> = self.voting(now).collect();
        let [failing, throttled] = [Health::Unhealthy, Health::Degraded].map(|health| majority(&voting, health));
        let passing = voting.iter().filter(|trouble| trouble.is_none()).count();
        let is_passing = passing * 2 > voting.len();
        let standing = self.verdict.as_deref();
        // ADR-0119: Acquit at the depth of the accusation.
        let lasts = standing.is_some_and(|standing| {
            standing.lapses_at > now || standing.accusation.is_some_and(|accusation| accusation.stands())
        });
        let health = standing.map(|standing| standing.judgement.health);
        let trouble = failing.or(throttled);
        // Deliveries that fail no more, and are asked for less instead, do not succeed either.
        let stays = health == Some(Health::Unhealthy) || (health == Some(Health::Degraded) && trouble.is_none());
        match (health, trouble) {
            (_, Some(trouble)) if trouble.health == Health::Unhealthy => self.meet(&trouble, now),
            _ if stays && lasts && !is_passing => {}
            (_, Some(trouble)) => self.meet(&trouble, now),
            (Some(Health::Unhealthy | Health::Degraded), None) => {
                let why = if is_passing {
                    "deliveries succeed again"
                } else {
                    "no delivery has failed for the policy's cooldown"
                };
                if let Some(standing) = &mut self.verdict {
                    standing.acquit(now, why);
                }
            }
            (Some(Health::Healthy | Health::Unknown) | None, None) => {}
        }
    }

    /// Makes a trouble of the majority the verdict, or puts its end off.
    fn meet(&mut self, trouble: &Trouble, now: Timestamp) {
        let Trouble { health, class, message, began_at, lapses_at, accusation } = trouble;
        match self.verdict.as_deref_mut() {
            Some(standing) if standing.judgement.health == *health => {
                standing.lapses_at = standing.lapses_at.max(*lapses_at);
                match (&mut standing.accusation, accusation) {
                    (Some(known), Some((stage, failed_at))) => known.renew(*stage, *failed_at),
                    (known @ None, Some((stage, failed_at))) => *known = Some(Accusation::new(*stage, *failed_at)),
                    (_, None) => {}
                }
            }
            Some(_) | None => {
                let accusation = accusation.map(|(stage, failed_at)| Accusation::new(stage, failed_at));
                let message = format!("{DELIVERIES}: {message}");
                let mut judgement = Judgement::restored(*health, now, *class, message);
                judgement.first_failure_at = (*health == Health::Unhealthy).then_some(*began_at);
                self.verdict = Some(Box::new(DeliveriesVerdict { judgement, lapses_at: *lapses_at, accusation }));
            }
        }
    }

    /// Takes the success of a probe into account that came as far as `stage`.
    pub(super) fn probe_succeeded(&mut self, stage: Stage, started_at: Timestamp, now: Timestamp) {
        if let Some(accusation) = self.verdict.as_deref_mut().and_then(|standing| standing.accusation.as_mut()) {
            accusation.probe_succeeded(stage, started_at);
            self.handle_timeout(now);
        }
    }

    /// Ends the verdict that deliveries fail, by a person's word.
    pub(super) fn acquit(&mut self, now: Timestamp) {
        if let Some(standing) = self.verdict.as_deref_mut().filter(|standing| standing.accusation.is_some()) {
            standing.acquit(now, "a person has asked for it to be trusted again");
            self.acquitted_at = Some(now);
            self.verdicts.clear();
        }
    }

    /// Returns the stage at which a success is awaited; `None` if nothing is accused.
    pub(super) fn awaited_stage(&self) -> Option<DeliveryStage> {
        let standing = self.verdict.as_deref().filter(|standing| standing.judgement.health == Health::Unhealthy)?;
        standing.accusation.filter(Accusation::stands).map(|accusation| accusation.stage())
    }

    /// Returns the time since which a person is needed, because an accusation stands and no message has tried the backend
    /// for a day. It may lie in the future.
    // Agents that report may have no trial to give: no backend can follow in the same list, or the route wants none.
    pub(super) fn needs_person_at(&self) -> Option<Timestamp> {
        self.awaited_stage()?;
        Some(self.delivered_at? + UNTRIED)
    }

    /// Returns the verdict; `None` until a majority has said Failing.
    pub fn judgement(&self) -> Option<&Judgement> {
        self.verdict.as_ref().map(|standing| &standing.judgement)
    }

    /// Returns the next time at which the verdict may change without a report.
    pub fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let verdicts = self.verdicts.values().map(|agent| agent.holds_until);
        let lapses = self.verdicts.values().filter_map(|agent| Some(agent.trouble.as_ref()?.lapses_at));
        let standing = self.verdict.iter().filter(|standing| standing.judgement.health != Health::Healthy);
        let ends = standing.map(|standing| standing.lapses_at);
        verdicts.chain(lapses).chain(ends).chain(self.needs_person_at()).filter(|at| *at > now).min()
    }

    /// Iterates over the verdicts of agents that have one: the trouble, or `None` for Passing.
    fn voting(&self, now: Timestamp) -> impl Iterator<Item = Option<&Trouble>> {
        let voting = self.verdicts.values().map(|agent| agent.trouble.as_ref());
        voting.filter(move |trouble| trouble.is_none_or(|trouble| trouble.lapses_at > now))
    }
}

/// Returns the trouble of this kind that began first, until the latest time that any of its kind lasts; `None` if no
/// majority meets it.
fn majority(voting: &[Option<&Trouble>], health: Health) -> Option<Trouble> {
    let troubles = voting.iter().flatten().filter(|trouble| trouble.health == health);
    let first = troubles.clone().min_by_key(|trouble| trouble.began_at)?;
    let lapses_at = troubles.clone().map(|trouble| trouble.lapses_at).max()?;
    let accusations = troubles.clone().filter_map(|trouble| trouble.accusation);
    let accusation = accusations.reduce(|(stage, at), (other, then)| (stage.max(other), at.max(then)));
    (troubles.count() * 2 > voting.len()).then(|| Trouble { lapses_at, accusation, ..(*first).clone() })
}

/// Returns the time at which a failure ceases to count.
// ADR-0052: A delivery verdict lasts a cooldown after the last failure.
fn lapses_at(failed_at: Timestamp, cooldown: Duration) -> Timestamp {
    failed_at + cooldown.max(REPORT_HOLDS)
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
