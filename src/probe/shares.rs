//! Shares of a bound on dialogues: who may begin one next.
//!
//! Pure: time is an argument. Requests wait by namespace, and namespaces take turns. No namespace takes more places than
//! it leaves free, so that whoever comes later finds some (ADR-0111). A part of the places is a floor: it is kept for
//! probes of backends that a route uses, one place each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Limits that are shared out.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShareLimits {
    /// Most dialogues under way, the floor not included.
    pub places: usize,
    /// Further places for probes of backends that a route uses.
    pub floor: usize,
    /// Most dialogues that begin in a time; any number if `None`.
    pub pace: Option<ShareRate>,
}

/// Most beginnings in a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShareRate {
    /// Beginnings in a second, in the long run.
    pub per_second: u32,
    /// Beginnings at once after a rest.
    pub burst: u32,
}

/// Subscriber that asks for a place.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// Namespace that the place is counted for.
    pub namespace: Arc<str>,
    /// Number of the probe if a route uses its backend.
    pub floor: Option<u64>,
}

/// A place that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    namespace: Arc<str>,
    /// Number of the probe if the place is one of the floor.
    floor: Option<u64>,
}

/// Event that the shares are told of.
#[derive(Clone, Debug)]
pub(super) enum ShareInput {
    /// A place is asked for, under a number of its own.
    Asked(u64, Asker),
    /// A request is withdrawn.
    Withdrawn(u64),
    /// A dialogue is over.
    Released(Grant),
}

/// Places taken by one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    shared: usize,
    floor: usize,
}

/// Order in which requests of one namespace are served: those of used backends first, then by age.
type Rank = (bool, u64);

/// Shares of one bound.
#[derive(Debug)]
pub(super) struct Shares {
    limits: ShareLimits,
    taken: Taken,
    by_namespace: HashMap<Arc<str>, Taken>,
    /// Probes that hold a place of the floor.
    on_floor: HashSet<u64>,
    waiting: BTreeMap<Arc<str>, BTreeMap<Rank, Asker>>,
    /// Rank and namespace of each request that waits.
    ranks: HashMap<u64, (Arc<str>, Rank)>,
    /// Namespace that was served last.
    last: Option<Arc<str>>,
    tokens: f64,
    refilled_at: Instant,
    granted: Vec<(u64, Grant)>,
}

impl Shares {
    pub(super) fn new(limits: ShareLimits, now: Instant) -> Self {
        Self {
            limits,
            taken: Taken::default(),
            by_namespace: HashMap::new(),
            on_floor: HashSet::new(),
            waiting: BTreeMap::new(),
            ranks: HashMap::new(),
            last: None,
            tokens: limits.pace.map_or(0.0, |pace| f64::from(pace.burst)),
            refilled_at: now,
            granted: vec![],
        }
    }

    /// Takes an event into account.
    pub(super) fn handle(&mut self, now: Instant, input: ShareInput) {
        match input {
            ShareInput::Asked(number, asker) => {
                let rank = (asker.floor.is_none(), number);
                self.ranks.insert(number, (asker.namespace.clone(), rank));
                self.waiting.entry(asker.namespace.clone()).or_default().insert(rank, asker);
            }
            ShareInput::Withdrawn(number) => drop(self.take_waiting(number)),
            ShareInput::Released(grant) => self.release(&grant),
        }
        self.handle_timeout(now);
    }

    /// Gives places to those whose time has come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.refill(now);
        while self.has_token()
            && let Some((number, grant)) = self.next()
        {
            self.take_waiting(number);
            if self.limits.pace.is_some() {
                self.tokens -= 1.0;
            }
            self.last = Some(grant.namespace.clone());
            self.take(&grant);
            self.granted.push((number, grant));
        }
    }

    /// Time of the next beginning that the pace allows, if anybody waits for it.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let pace = self.limits.pace.filter(|_| !self.waiting.is_empty() && !self.has_token())?;
        let missing = Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / f64::from(pace.per_second));
        Some(self.refilled_at + missing + Duration::from_millis(1))
    }

    /// The requests that were granted since the last call.
    pub(super) fn poll(&mut self) -> Vec<(u64, Grant)> {
        std::mem::take(&mut self.granted)
    }

    /// Returns true if nobody holds a place or waits for one.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == Taken::default() && self.waiting.is_empty()
    }

    /// Returns true if it is as good as new.
    pub(super) fn is_rested(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.is_empty() && self.limits.pace.is_none_or(|pace| self.tokens >= f64::from(pace.burst))
    }

    /// Number of places that a namespace holds.
    pub(super) fn held_by(&self, namespace: &str) -> usize {
        self.by_namespace.get(namespace).map_or(0, |taken| taken.shared + taken.floor)
    }

    fn refill(&mut self, now: Instant) {
        if let Some(pace) = self.limits.pace {
            let rested = now.saturating_duration_since(self.refilled_at).as_secs_f64();
            self.tokens = (rested.mul_add(f64::from(pace.per_second), self.tokens)).min(f64::from(pace.burst));
            self.refilled_at = self.refilled_at.max(now);
        }
    }

    fn has_token(&self) -> bool {
        self.limits.pace.is_none() || self.tokens >= 1.0
    }

    /// The request that is served next: of the namespace after the one that was served last, the first that may.
    fn next(&self) -> Option<(u64, Grant)> {
        let after = match &self.last {
            Some(last) => (Bound::Excluded(last.clone()), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let mut in_turn = self.waiting.range::<Arc<str>, _>(after).chain(self.waiting.iter());
        in_turn.find_map(|(namespace, requests)| self.first_of(namespace, requests))
    }

    fn first_of(&self, namespace: &Arc<str>, requests: &BTreeMap<Rank, Asker>) -> Option<(u64, Grant)> {
        let held = self.by_namespace.get(namespace).copied().unwrap_or_default();
        if held.shared < self.limits.places - self.taken.shared {
            let ((_, number), _) = requests.first_key_value()?;
            return Some((*number, Grant { namespace: namespace.clone(), floor: None }));
        }
        if held.floor >= self.limits.floor - self.taken.floor {
            return None;
        }
        // Those without a claim on the floor come last.
        let mut claims = requests.iter().map_while(|((_, number), asker)| Some((*number, asker.floor?)));
        let (number, probe) = claims.find(|(_, probe)| !self.on_floor.contains(probe))?;
        Some((number, Grant { namespace: namespace.clone(), floor: Some(probe) }))
    }

    fn take_waiting(&mut self, number: u64) -> Option<Asker> {
        let (namespace, rank) = self.ranks.remove(&number)?;
        let requests = self.waiting.get_mut(&namespace)?;
        let asker = requests.remove(&rank);
        if requests.is_empty() {
            self.waiting.remove(&namespace);
        }
        asker
    }

    fn take(&mut self, grant: &Grant) {
        let held = self.by_namespace.entry(grant.namespace.clone()).or_default();
        if let Some(probe) = grant.floor {
            held.floor += 1;
            self.taken.floor += 1;
            self.on_floor.insert(probe);
        } else {
            held.shared += 1;
            self.taken.shared += 1;
        }
    }

    fn release(&mut self, grant: &Grant) {
        let Some(held) = self.by_namespace.get_mut(&grant.namespace) else { return };
        if let Some(probe) = grant.floor {
            held.floor -= 1;
            self.taken.floor -= 1;
            self.on_floor.remove(&probe);
        } else {
            held.shared -= 1;
            self.taken.shared -= 1;
        }
        if *held == Taken::default() {
            self.by_namespace.remove(&grant.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: ShareLimits = ShareLimits { places: 64, floor: 16, pace: None };

    /// Asks for so many places for one namespace, each by another probe.
    fn ask(shares: &mut Shares, namespace: &str, numbers: std::ops::Range<u64>, is_used: bool) -> Vec<Grant> {
        let now = Instant::now();
        for number in numbers {
            let asker = Asker { namespace: namespace.into(), floor: is_used.then_some(number) };
            shares.handle(now, ShareInput::Asked(number, asker));
        }
        shares.poll().into_iter().map(|(_, grant)| grant).collect()
    }

    fn release(shares: &mut Shares, grant: Grant) -> Vec<(u64, Grant)> {
        shares.handle(Instant::now(), ShareInput::Released(grant));
        shares.poll()
    }

    #[test]
    fn a_namespace_takes_no_more_places_than_it_leaves_free() {
        let mut shares = Shares::new(PLACES, Instant::now());
        assert_eq!(ask(&mut shares, "evil", 0..1000, false).len(), 32);
        assert_eq!(ask(&mut shares, "evil-2", 1000..2000, false).len(), 16);
        assert_eq!(ask(&mut shares, "shop", 2000..2010, false).len(), 8);
        assert_eq!(shares.held_by("evil"), 32);
    }

    #[test]
    fn each_probe_of_a_used_backend_finds_one_place_on_the_floor() {
        let mut shares = Shares::new(PLACES, Instant::now());
        for (at, namespace) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
            let first = at as u64 * 1000;
            ask(&mut shares, namespace, first..first + 1000, false);
        }
        // Without a route it waits; with one it does not, and not a second time.
        assert!(ask(&mut shares, "shop", 10_000..10_001, false).is_empty());
        let granted = ask(&mut shares, "shop", 10_001..10_002, true);
        assert_eq!(granted, [Grant { namespace: "shop".into(), floor: Some(10_001) }]);
        shares
            .handle(Instant::now(), ShareInput::Asked(10_003, Asker { namespace: "shop".into(), floor: Some(10_001) }));
        assert!(shares.poll().is_empty());
        let after = release(&mut shares, granted[0].clone());
        assert_eq!(after.len(), 1);
        assert_eq!(after[0].0, 10_003, "its next dialogue follows");
    }

    #[test]
    fn the_floor_is_shared_out_as_well() {
        let mut shares = Shares::new(ShareLimits { places: 1, floor: 16, pace: None }, Instant::now());
        // A place of all, and then half of the floor.
        assert_eq!(ask(&mut shares, "evil", 0..1000, true).len(), 9);
        assert_eq!(ask(&mut shares, "shop", 1000..1002, true).len(), 2);
    }

    #[test]
    fn namespaces_take_turns_and_the_oldest_request_of_each_comes_first() {
        let mut shares = Shares::new(ShareLimits { places: 1, floor: 0, pace: None }, Instant::now());
        let first = ask(&mut shares, "a", 0..10, false);
        assert_eq!(first.len(), 1);
        assert!(ask(&mut shares, "b", 10..20, false).is_empty());
        let mut served = vec![];
        let mut grant = first[0].clone();
        for _ in 0..6 {
            let (number, next) = release(&mut shares, grant).remove(0);
            served.push(number);
            grant = next;
        }
        assert_eq!(served, [10, 1, 11, 2, 12, 3]);
    }

    #[test]
    fn what_is_withdrawn_takes_no_place() {
        let mut shares = Shares::new(ShareLimits { places: 2, floor: 0, pace: None }, Instant::now());
        let grant = ask(&mut shares, "a", 0..4, false).remove(0);
        for number in [1, 2] {
            shares.handle(Instant::now(), ShareInput::Withdrawn(number));
        }
        let (number, grant) = release(&mut shares, grant).remove(0);
        assert_eq!(number, 3);
        assert!(release(&mut shares, grant).is_empty() && shares.is_empty());
    }

    #[test]
    fn a_pace_holds_over_all_namespaces_and_goes_round_them() {
        let start = Instant::now();
        let limits = ShareLimits { places: 1000, floor: 0, pace: Some(ShareRate { per_second: 10, burst: 20 }) };
        let mut shares = Shares::new(limits, start);
        for number in 0..500 {
            let asker = Asker { namespace: "evil".into(), floor: None };
            shares.handle(start, ShareInput::Asked(number, asker));
        }
        let mut granted = shares.poll().len();
        assert_eq!(granted, 20);
        shares.handle(start, ShareInput::Asked(500, Asker { namespace: "shop".into(), floor: None }));
        let mut shop_at = None;
        while let Some(at) = shares.next_timeout().filter(|at| *at < start + Duration::from_secs(10)) {
            shares.handle_timeout(at);
            let served = shares.poll();
            granted += served.len();
            if served.iter().any(|(number, _)| *number == 500) {
                shop_at = Some(at - start);
            }
        }
        assert!((110..=121).contains(&granted), "{granted}");
        assert!(shop_at.is_some_and(|at| at < Duration::from_millis(250)), "{shop_at:?}");
    }
}
