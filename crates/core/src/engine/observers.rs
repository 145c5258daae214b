use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Health, Judgement, SharedRun, Verdict};
use crate::model::{EvidenceClass, Timestamp};

/// Observer of backends: a replica of the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Observer {
    /// The process that decides.
    Own,
    /// Another replica or vantage point, by its name.
    Other(Arc<str>),
}

/// Verdict of one observer about a backend under some thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverVerdict {
    /// The verdict; Unknown if the observer has none.
    pub health: Health,
    /// Start of the verdict, by the observer's clock.
    pub since: Timestamp,
    /// Evidence that the verdict rests on.
    pub class: EvidenceClass,
    /// Start of the run of failures, by the observer's clock; `None` unless Unhealthy.
    pub first_failure_at: Option<Timestamp>,
    /// Backends of the same routes that the observer has seen answer since this run of failures began, by its own
    /// clock; sorted. Empty unless Unhealthy.
    // Not the times of the answers: those would change with every observation, and be compared with another clock.
    pub confirms: Arc<[Arc<str>]>,
    /// Results of late at probes that the replicas share out, while there is anything to tell; sorted by probe.
    pub runs: Arc<[SharedRun]>,
    /// Description of the evidence, for people; empty if the verdict is Healthy or Unknown.
    pub message: Arc<str>,
}

/// Number of observers that a verdict rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Those that have a verdict and are not suspect.
    pub voters: u32,
    /// Those of them that say Unhealthy.
    pub unhealthy: u32,
}

impl Agreement {
    fn disagreement(self) -> Arc<str> {
        format!("{} of {} observers see it fail", self.unhealthy, self.voters).into()
    }

    pub(super) fn of_one(health: Health) -> Self {
        match health {
            Health::Healthy | Health::Degraded => Self { voters: 1, unhealthy: 0 },
            Health::Unhealthy => Self { voters: 1, unhealthy: 1 },
            Health::Unknown => Self::default(),
        }
    }
}

/// Observers whose votes do not count for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspicion {
    own_since: Option<Timestamp>,
    others: BTreeSet<Arc<str>>,
}

impl Suspicion {
    /// The other observers whose votes do not count.
    pub(super) fn others(&self) -> &BTreeSet<Arc<str>> {
        &self.others
    }

    pub(super) fn of(suspects: &BTreeSet<Observer>, before: &Self, now: Timestamp) -> Self {
        let mut suspicion = Self::default();
        for suspect in suspects {
            match suspect {
                Observer::Own => suspicion.own_since = Some(before.own_since.unwrap_or(now)),
                Observer::Other(name) => {
                    suspicion.others.insert(name.clone());
                }
            }
        }
        suspicion
    }
}

/// Observers of one backend under the same thresholds, and the verdict that their votes last gave.
#[derive(Clone, Debug, Default)]
pub(super) struct ObserverVotes {
    // Boxed: a node of the map has room for eleven.
    others: BTreeMap<Arc<str>, Box<PeerVerdict>>,
    /// The verdict that stands while votes are equal; `None` as long as our own was the only one.
    // Boxed: most have none, and there are many of these.
    standing: Option<Box<StandingVerdict>>,
    /// Failure that an earlier leader has persisted; `None` once the standing verdict is another one.
    // Boxed: rare, and there are many of these.
    adopted: Option<Box<AdoptedFailure>>,
}

/// Shortest time after which a persisted failure ends by what other replicas reported before the takeover, if our own
/// vote does not count.
const MIN_HEARD_FOR: Duration = Duration::from_mins(1);

/// The same time in durations of the Lease, where that is longer.
// A replica that died is heard for the Lease of its own at most: whoever is heard for longer is alive.
const HEARD_FOR_LEASES: u32 = 4;

/// Unhealthy verdict of an earlier leader.
#[derive(Clone, Debug)]
struct AdoptedFailure {
    /// Time at which this process took it over.
    at: Timestamp,
    /// Time at which votes of others alone may end it.
    lapses_at: Timestamp,
    class: EvidenceClass,
    message: Arc<str>,
    first_failure_at: Option<Timestamp>,
}

/// Verdict of this process, and how recent it is.
pub(super) struct OwnVote {
    pub(super) verdict: ObserverVerdict,
    /// Earliest of the latest successes of the probes that it rests on; `None` if one of them has had none since its
    /// latest failure.
    pub(super) answered_at: Option<Timestamp>,
    /// Time at which the votes are counted.
    pub(super) counted_at: Timestamp,
}

/// Verdict of another observer.
#[derive(Clone, Debug)]
struct PeerVerdict {
    verdict: ObserverVerdict,
    /// Time at which its present run of failures was first reported here; meaningless unless Unhealthy.
    received_at: Timestamp,
    /// Time at which this verdict came, apart from its runs.
    changed_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct StandingVerdict {
    health: Health,
    since: Timestamp,
    /// True if another observer had a part in it.
    // A verdict of ours alone follows our judgement. Of a shared one more is known: it has not stood for longer than
    // this.
    is_shared: bool,
}

/// An observer's vote; our own has no name.
#[derive(Clone, Copy)]
struct Vote<'a> {
    observer: Option<&'a Arc<str>>,
    verdict: &'a ObserverVerdict,
    /// Start of its run of failures by our clock, `None` unless Unhealthy: for another observer the time at which it
    /// was first reported.
    failing_since: Option<Timestamp>,
    /// Time since which the verdict is known: of our own, that of the latest answer; of another observer's, that at which it
    /// came.
    came_at: Option<Timestamp>,
}

impl ObserverVotes {
    /// Returns true if the observer's last verdict is equal to this one.
    pub(super) fn has_recorded(&self, observer: &str, verdict: &ObserverVerdict) -> bool {
        self.others.get(observer).is_some_and(|peer| peer.verdict == *verdict)
    }

    /// Takes another observer's verdict.
    pub(super) fn record(&mut self, observer: &Arc<str>, verdict: ObserverVerdict, now: Timestamp) {
        let before = self.others.get(observer).filter(|peer| {
            let earlier = &peer.verdict;
            earlier.health == Health::Unhealthy && earlier.first_failure_at == verdict.first_failure_at
        });
        // ADR-0081: No decision compares another machine's clock.
        let received_at = before.map_or(now, |peer| peer.received_at);
        // A further result at a probe that is shared out is no new verdict.
        let same = self.others.get(observer).filter(|peer| peer.verdict.is_same_but_for_runs(&verdict));
        let changed_at = same.map_or(now, |peer| peer.changed_at);
        self.others.insert(observer.clone(), Box::new(PeerVerdict { verdict, received_at, changed_at }));
    }

    /// Forgets another observer's verdict. Returns true if it had one.
    pub(super) fn forget(&mut self, observer: &str) -> bool {
        self.others.remove(observer).is_some()
    }

    /// Returns the time at which the other observers' verdicts may end a persisted failure.
    pub(super) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        self.adopted.as_deref().map(|failure| failure.lapses_at).filter(|at| *at > now)
    }

    /// Returns true if no other observer votes, nor had a part in the standing verdict.
    pub(super) fn is_alone(&self) -> bool {
        self.others.is_empty() && self.standing.is_none()
    }

    /// Restores an earlier leader's verdict. One of failure stands until an observer sees an answer that is newer.
    // ADR-0104: A failure ends by a fresh answer.
    pub(super) fn adopt(&mut self, earlier: &Judgement, own: Health, lease: Duration, now: Timestamp) {
        let is_contradicted = earlier.health == Health::Unhealthy && matches!(own, Health::Healthy | Health::Degraded);
        if earlier.health == Health::Unknown || (self.others.is_empty() && !is_contradicted) {
            return;
        }
        let standing = StandingVerdict { health: earlier.health, since: earlier.since.min(now), is_shared: true };
        self.standing = Some(Box::new(standing));
        self.adopted = (earlier.health == Health::Unhealthy).then(|| {
            Box::new(AdoptedFailure {
                at: now,
                lapses_at: now + MIN_HEARD_FOR.max(lease * HEARD_FOR_LEASES),
                class: earlier.class,
                message: earlier.message.clone(),
                first_failure_at: earlier.first_failure_at.map(|at| at.min(now)),
            })
        });
    }

    /// Makes the present result of the votes the standing verdict.
    // Called before and after anything changes that the votes rest on.
    pub(super) fn settle(&mut self, own: &OwnVote, suspicion: &Suspicion, now: Timestamp) {
        let verdict = self.count(own, suspicion, now).map(|count| count.verdict);
        if let Some(verdict) = verdict {
            self.standing = Some(Box::new(verdict));
        }
        if self.standing.as_deref().is_none_or(|standing| standing.health != Health::Unhealthy) {
            self.adopted = None;
        }
    }

    /// Drops the standing verdict once no other observer is left and none had a part in it.
    pub(super) fn leave_alone(&mut self) {
        if self.others.is_empty() && self.standing.as_deref().is_some_and(|standing| !standing.is_shared) {
            self.standing = None;
        }
    }

    /// Returns the verdict of all observers; `ours` is `own` as a vote. `now` bounds times of other clocks, and is the
    /// start of the verdict if only the voters changed.
    // ADR-0013: Observers vote, and a tie keeps the verdict.
    pub(super) fn merged(&self, own: Verdict, ours: &OwnVote, suspicion: &Suspicion, now: Timestamp) -> Verdict {
        if self.is_alone() && suspicion.own_since.is_none() {
            return own;
        }
        let Some(count) = self.count(ours, suspicion, now) else {
            return without_voters(own, suspicion);
        };
        let VoteCount { verdict, observers, decisive, first_failure_at, first_evidence_at, confirms, adopted } = count;
        let (class, message) = match adopted {
            Some(adopted) => (adopted.class, adopted.message.clone()),
            None => reason(verdict.health, decisive, &own, observers),
        };
        Verdict {
            health: verdict.health,
            since: verdict.since,
            class,
            message,
            first_failure_at,
            first_evidence_at,
            observers,
            confirmed_standbys: confirms.into_iter().cloned().collect(),
            ..own
        }
    }

    fn is_failing(&self) -> bool {
        self.standing.as_deref().is_some_and(|standing| standing.health == Health::Unhealthy)
    }

    /// Counts the votes: a quorum is more than half of the observers that have a verdict and are not suspect. The
    /// standing verdict decides a tie.
    fn count<'a>(&'a self, own: &'a OwnVote, suspicion: &Suspicion, now: Timestamp) -> Option<VoteCount<'a>> {
        let OwnVote { verdict: own, answered_at, counted_at } = own;
        let our_vote =
            Vote { observer: None, verdict: own, failing_since: own.first_failure_at, came_at: *answered_at };
        let our_vote = Some(our_vote).filter(|_| suspicion.own_since.is_none());
        let peers = self.others.iter().filter(|(name, _)| !suspicion.others.contains(*name));
        let peers = peers.map(|(name, peer)| Vote {
            observer: Some(name),
            verdict: &peer.verdict,
            failing_since: (peer.verdict.health == Health::Unhealthy).then_some(peer.received_at),
            came_at: Some(peer.changed_at),
        });
        let votes = our_vote.into_iter().chain(peers).filter(|vote| vote.verdict.health != Health::Unknown);
        let (mut voters, mut unhealthy, mut degraded) = (0_u32, 0_u32, 0_u32);
        for vote in votes.clone() {
            voters += 1;
            unhealthy += u32::from(vote.verdict.health == Health::Unhealthy);
            degraded += u32::from(vote.verdict.health == Health::Degraded);
        }
        if voters == 0 {
            return None;
        }
        let health = match (unhealthy * 2).cmp(&voters) {
            Ordering::Greater => Health::Unhealthy,
            Ordering::Equal if degraded == 0 || self.is_failing() => {
                self.standing.as_deref().map_or(Health::Unknown, |standing| standing.health)
            }
            // What nobody sees well is not well.
            Ordering::Less | Ordering::Equal if unhealthy + degraded == voters || degraded * 2 > voters => {
                Health::Degraded
            }
            Ordering::Less | Ordering::Equal => Health::Healthy,
        };
        let has_own = votes.clone().any(|vote| vote.observer.is_none());
        let lapsed_at = self.adopted.as_deref().map(|failure| failure.lapses_at);
        let lapsed_at = lapsed_at.filter(|at| !has_own && at <= counted_at);
        let adopted = self.adopted.as_deref().filter(|_| lapsed_at.is_none());
        let adopted = adopted.filter(|adopted| adopted.stands_against(health, votes.clone()));
        let health = adopted.map_or(health, |_| Health::Unhealthy);
        let agreeing = votes.clone().filter(|vote| vote.agrees_with(health));
        let is_own = voters == 1 && votes.clone().all(|vote| vote.observer.is_none());
        let since = match self.standing.as_deref() {
            None | Some(StandingVerdict { is_shared: false, .. }) if is_own => own.since,
            Some(standing) if standing.health == health && is_own => standing.since.max(own.since),
            Some(standing) if standing.health == health => standing.since,
            // Votes older than the verdict until now cannot have ended it: the voters changed.
            Some(standing) => Some(quorum_reached_at(agreeing.clone(), voters, now))
                .filter(|reached| *reached > standing.since)
                .unwrap_or(lapsed_at.unwrap_or(now)),
            None => quorum_reached_at(agreeing.clone(), voters, now),
        };
        let is_shared = !(is_own && since == own.since);
        Some(VoteCount {
            verdict: StandingVerdict { health, since, is_shared },
            observers: Agreement { voters, unhealthy },
            decisive: agreeing
                .clone()
                .filter(|vote| vote.verdict.health == health)
                .min_by_key(|vote| (vote.observer.is_some(), vote.verdict.since)),
            first_evidence_at: agreeing.clone().filter_map(|vote| vote.verdict.first_failure_at).min(),
            first_failure_at: agreeing
                .clone()
                .filter_map(|vote| Some((vote.observer.is_some(), vote.failing_since?)))
                .min()
                .map(|(_, since)| since)
                .or_else(|| adopted?.first_failure_at),
            adopted,
            confirms: agreeing.flat_map(|vote| vote.verdict.confirms.iter()).collect(),
        })
    }
}

impl AdoptedFailure {
    /// Returns true if nothing that is newer than the failure speaks against it.
    // A process that had no processor keeps its verdict, and a dead peer its last report.
    fn stands_against<'a>(&self, health: Health, mut votes: impl Iterator<Item = Vote<'a>>) -> bool {
        let is_better = matches!(health, Health::Healthy | Health::Degraded);
        let is_fresh = |vote: Vote<'_>| vote.agrees_with(health) && vote.came_at.is_some_and(|at| at >= self.at);
        is_better && !votes.any(is_fresh)
    }
}

impl Vote<'_> {
    fn agrees_with(&self, health: Health) -> bool {
        match health {
            Health::Unhealthy | Health::Degraded => self.verdict.health == health,
            Health::Healthy => self.verdict.health != Health::Unhealthy,
            Health::Unknown => true,
        }
    }

    /// Returns the start of the verdict by our own clock: of another observer's the time at which it was heard.
    // ADR-0081: No decision compares another machine's clock. By one that is minutes behind, a soak would be served the
    // moment that it begins.
    fn stands_since(&self) -> Timestamp {
        match self.observer {
            None => self.verdict.since,
            Some(_) => self.failing_since.or(self.came_at).unwrap_or(self.verdict.since),
        }
    }
}

/// Returns the time at which more than half of `voters` agreed; `now` at the latest.
fn quorum_reached_at<'a>(agreeing: impl Iterator<Item = Vote<'a>>, voters: u32, now: Timestamp) -> Timestamp {
    let mut times: Vec<_> = agreeing.map(|vote| vote.stands_since()).collect();
    times.sort_unstable();
    let majority = usize::try_from(voters / 2).unwrap_or(usize::MAX);
    times.get(majority).or(times.last()).copied().unwrap_or(now).min(now)
}

/// Result of counting votes.
struct VoteCount<'a> {
    verdict: StandingVerdict,
    observers: Agreement,
    /// The vote that gives class and message: our own if it agrees with the verdict, otherwise the earliest that does.
    decisive: Option<Vote<'a>>,
    /// Start of the failure by our own clock: of our own run if we see it fail, otherwise the
    /// earliest that was reported.
    first_failure_at: Option<Timestamp>,
    /// Earliest start of the failure that an observer tells.
    first_evidence_at: Option<Timestamp>,
    /// Backends that another observer who sees this one fail has seen answer since.
    confirms: BTreeSet<&'a Arc<str>>,
    /// The earlier leader's verdict, if the votes are too old to end it.
    adopted: Option<&'a AdoptedFailure>,
}

fn reason(
    health: Health,
    decisive: Option<Vote<'_>>,
    own: &Verdict,
    observers: Agreement,
) -> (EvidenceClass, Arc<str>) {
    match (health, decisive) {
        (_, Some(Vote { observer: None, .. })) => (own.class, own.message.clone()),
        (Health::Degraded | Health::Unhealthy, Some(Vote { observer: Some(name), verdict, .. })) => {
            let words = if verdict.message.is_empty() { String::new() } else { format!(": {}", verdict.message) };
            (verdict.class, format!("seen by {name}{words}").into())
        }
        (Health::Healthy, _) if observers.unhealthy > 0 => (EvidenceClass::Ok, observers.disagreement()),
        (Health::Healthy, _) => (EvidenceClass::Ok, Arc::default()),
        (Health::Unknown | Health::Degraded | Health::Unhealthy, _) => {
            (EvidenceClass::Inconclusive, observers.disagreement())
        }
    }
}

fn without_voters(own: Verdict, suspicion: &Suspicion) -> Verdict {
    match suspicion.own_since {
        Some(since) if own.health != Health::Unknown => Verdict {
            health: Health::Unknown,
            since,
            class: EvidenceClass::Inconclusive,
            message: "what this replica sees does not count: its own network is suspect, or it lags".into(),
            first_failure_at: None,
            first_evidence_at: None,
            observers: Agreement::default(),
            ..own
        },
        Some(_) | None => own,
    }
}
