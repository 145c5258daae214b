//! Idle sessions: which address has one, when it is renewed, and which of their ends asks for a look.
//!
//! Pure: time is an argument, and so is the randomness of each input. An address has one session at most, over all targets. It
//! is opened once a look has been answered there, and closed when the next one is not. Its end says nothing about the
//! server: it asks for a look, whose result counts by the policy. A server that ends its sessions although it answers is
//! held less and less often.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::probe::MAX_ADDRESSES;
use mail_failover_runtime::backoff::Backoff;
use mail_failover_smtp::dialogue::IdleEnd;

/// Longest life of a session.
// ADR-0180: Servers close an idle session after 5 minutes (RFC 5321 §4.5.3.2.7, `smtpd_timeout` of Postfix).
const LONGEST_LIFE: Duration = Duration::from_mins(4);
/// Life below which a session was of no use: the next one waits. Above it a server's 421 shortens the life of the next.
const SHORTEST_LIFE: Duration = Duration::from_secs(30);
/// Part of the interval after which a look that has not come is overdue.
// The shift of rounds is a twentieth of it; a look takes its time, too.
const OVERDUE: u32 = 4;
/// Part of its life that a session may be renewed early by, so that sessions that began together do not end together.
const EARLY: f64 = 0.2;
/// Pauses before the next session, after one that ended within [`SHORTEST_LIFE`] although the server answers, that could
/// not be opened, or that stood in the way of a dialogue. Half of each is random.
const PAUSES: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));
/// Looks that one target may have for the ends of its sessions before one in an interval is the most.
const LOOKS_AT_ONCE: u32 = 3;
/// Shortest interval that looks are bounded by.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);
/// Time in which the ends of several sessions of one target ask for one look more, after the look for the first.
const GATHERING: Duration = Duration::from_millis(100);

/// What a look has found at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::probe) enum AddressFinding {
    /// The server answers.
    Answers,
    /// The server takes the connection and no session: it may have too few places.
    TurnsAway,
    /// Anything else has failed.
    Fails,
}

/// End of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::probe) enum SessionOver {
    /// It never came to be idle.
    NotOpened,
    /// There was no place for it: no server was asked.
    NoPlace,
    /// The server has ended it.
    ByServer(IdleEnd),
    /// It was closed as it was to be.
    Closed,
}

/// Event that the sessions are told of.
#[derive(Clone, Debug)]
pub(super) enum IdleInput {
    /// A look of a target has found this at an address.
    Found { target: u64, interval: Duration, began: Instant, address: SocketAddr, finding: AddressFinding },
    /// The addresses of a target's Service are these now.
    Endpoints { target: u64, addresses: BTreeSet<SocketAddr> },
    /// Nobody asks for a target's sessions any more.
    Gone { target: u64 },
    /// A session is over.
    Over { number: u64, how: SessionOver },
}

/// Work for the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// Opens a session for a target.
    Open { number: u64, target: u64, address: SocketAddr },
    /// Closes a session with QUIT.
    Close { number: u64 },
    /// Looks at a target now.
    Look { target: u64 },
    /// Notes an end for which there was no look: its target has had too many.
    LeaveOut,
}

/// Everything that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum IdleTimer {
    Renew(u64),
    Look(u64),
}

/// All idle sessions.
#[derive(Debug, Default)]
pub(super) struct IdleSessions {
    targets: HashMap<u64, WatchedTarget>,
    addresses: HashMap<SocketAddr, WatchedAddress>,
    /// Address of each session that is not over.
    numbers: HashMap<u64, SocketAddr>,
    /// Number of the latest session.
    latest: u64,
    timers: BTreeSet<(Instant, IdleTimer)>,
    actions: VecDeque<IdleAction>,
}

#[derive(Debug)]
struct WatchedTarget {
    interval: Duration,
    addresses: BTreeSet<SocketAddr>,
    looked_at: Option<Instant>,
    /// Time of a look that waits for further ends.
    look_due: Option<Instant>,
    /// Time at which the looks so far would have come, had they come once in an interval.
    paid_until: Option<Instant>,
}

#[derive(Debug)]
struct WatchedAddress {
    watchers: BTreeMap<u64, Watch>,
    session: SessionState,
    /// Life of its next session.
    life: Duration,
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// The newest finding of one target at an address.
#[derive(Clone, Copy, Debug)]
struct Watch {
    began: Instant,
    is_answered: bool,
}

#[derive(Clone, Copy, Debug)]
enum SessionState {
    None,
    Open {
        number: u64,
        opener: u64,
        since: Instant,
        renew_at: Instant,
        /// True if a look has been answered since it was opened.
        is_confirmed: bool,
    },
    Closing {
        /// True if another one follows.
        is_renewed: bool,
    },
    /// The server has ended it, and no look has said why.
    Ended {
        at: Instant,
        lived: Duration,
        end: IdleEnd,
    },
}

impl WatchedAddress {
    fn new() -> Self {
        Self {
            watchers: BTreeMap::new(),
            session: SessionState::None,
            life: LONGEST_LIFE,
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            not_before: None,
        }
    }

    fn is_answered(&self) -> bool {
        self.watchers.values().any(|watch| watch.is_answered)
    }

    /// The target that the next session is opened for.
    fn next_opener(&self) -> Option<u64> {
        self.watchers.iter().find(|(_, watch)| watch.is_answered).map(|(target, _)| *target)
    }

    fn pause(&mut self, now: Instant, random: f64) {
        self.not_before = Some(now + self.backoff.after_failure_with(random));
    }

    /// Waits for a place: always as long, since no server is asked. Whoever watches the address later, and has places
    /// left, must not wait for what others were refused.
    fn await_place(&mut self, now: Instant, random: f64) {
        self.not_before = Some(now + PAUSES.0.mul_f64(f64::midpoint(1.0, random)));
    }

    /// Takes into account that the server answers, although it has ended a session.
    fn learn(&mut self, now: Instant, random: f64, lived: Duration, end: IdleEnd) {
        if lived < SHORTEST_LIFE {
            self.pause(now, random);
        } else if end == IdleEnd::ServiceNotAvailable {
            self.life = self.life.min(lived * 3 / 4);
        }
    }
}

impl WatchedTarget {
    /// Returns true if a look may begin now, and counts it.
    fn may_look(&mut self, now: Instant) -> bool {
        let period = self.interval.max(SHORTEST_INTERVAL);
        let paid_until = self.paid_until.map_or(now, |until| until.max(now));
        let may_look = paid_until <= now + period * (LOOKS_AT_ONCE - 1);
        if may_look {
            self.paid_until = Some(paid_until + period);
            self.looked_at = Some(now);
        }
        may_look
    }
}

impl IdleSessions {
    /// Takes an event into account. `random` is at least 0 and less than 1.
    pub(super) fn handle(&mut self, now: Instant, random: f64, input: IdleInput) {
        match input {
            IdleInput::Found { target, interval, began, address, finding } => {
                let watched = self.targets.entry(target).or_insert_with(|| WatchedTarget {
                    interval,
                    addresses: BTreeSet::new(),
                    looked_at: None,
                    look_due: None,
                    paid_until: None,
                });
                watched.interval = interval;
                self.found(now, random, (target, began), address, finding);
            }
            IdleInput::Endpoints { target, addresses } => {
                let Some(watched) = self.targets.get(&target) else { return };
                let gone: Vec<_> = watched.addresses.difference(&addresses).copied().collect();
                for address in gone {
                    self.leave(target, address);
                }
            }
            IdleInput::Gone { target } => {
                let Some(watched) = self.targets.get(&target) else { return };
                for address in watched.addresses.clone() {
                    self.leave(target, address);
                }
                if let Some(due) = self.targets.remove(&target).and_then(|watched| watched.look_due) {
                    self.timers.remove(&(due, IdleTimer::Look(target)));
                }
            }
            IdleInput::Over { number, how } => self.over(now, random, number, how),
        }
    }

    /// Renews the sessions whose time has come, and makes the looks that waited.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, timer));
            match timer {
                IdleTimer::Renew(number) => self.renew(now, number),
                IdleTimer::Look(target) => {
                    if let Some(watched) = self.targets.get_mut(&target) {
                        watched.look_due = None;
                        let may_look = watched.may_look(now);
                        self.actions.push_back(if may_look {
                            IdleAction::Look { target }
                        } else {
                            IdleAction::LeaveOut
                        });
                    }
                }
            }
        }
    }

    /// Time at which [`Self::handle_timeout`] has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The targets whose looks are answered at an address: its session is for all of them.
    pub(super) fn watchers(&self, address: SocketAddr) -> impl Iterator<Item = u64> {
        let watches = self.addresses.get(&address).into_iter().flat_map(|at| &at.watchers);
        watches.filter(|(_, watch)| watch.is_answered).map(|(target, _)| *target)
    }

    /// The next action; `None` if the next event must be waited for.
    pub(super) fn poll(&mut self) -> Option<IdleAction> {
        self.actions.pop_front()
    }

    fn found(
        &mut self,
        now: Instant,
        random: f64,
        (target, began): (u64, Instant),
        address: SocketAddr,
        finding: AddressFinding,
    ) {
        let is_answered = finding == AddressFinding::Answers;
        let is_known = self.addresses.get(&address).is_some_and(|known| known.watchers.contains_key(&target));
        if !is_known && (!is_answered || !self.make_room(target)) {
            return;
        }
        if let Some(watched) = self.targets.get_mut(&target) {
            watched.addresses.insert(address);
        }
        let at = self.addresses.entry(address).or_insert_with(WatchedAddress::new);
        let watch = at.watchers.entry(target).or_insert(Watch { began, is_answered });
        if began < watch.began {
            return;
        }
        *watch = Watch { began, is_answered };
        let is_wanted = at.is_answered();
        match &mut at.session {
            // What began before the end says nothing about it.
            SessionState::Ended { at: ended_at, .. } if began < *ended_at => {}
            SessionState::Ended { lived, end, .. } => {
                let (lived, end) = (*lived, *end);
                at.session = SessionState::None;
                if is_answered {
                    at.learn(now, random, lived, end);
                } else {
                    // The end was a true word.
                    at.backoff.reset();
                    at.not_before = None;
                }
            }
            SessionState::Open { opener, is_confirmed, number, .. } => {
                *is_confirmed |= is_answered;
                let number = *number;
                if !is_wanted || (!is_answered && (*opener == target || finding == AddressFinding::TurnsAway)) {
                    if finding == AddressFinding::TurnsAway {
                        at.pause(now, random);
                    }
                    self.close(number, false);
                }
            }
            SessionState::None | SessionState::Closing { .. } => {}
        }
        self.open(now, random, address);
    }

    /// Makes room for one more address of a target. Returns false if each of its addresses is in use.
    fn make_room(&mut self, target: u64) -> bool {
        let Some(watched) = self.targets.get(&target) else { return false };
        if watched.addresses.len() < MAX_ADDRESSES {
            return true;
        }
        let mut known = watched.addresses.iter().copied();
        let Some(idle) = known.find(|address| !self.is_answered_for(target, *address)) else { return false };
        self.leave(target, idle);
        true
    }

    fn is_answered_for(&self, target: u64, address: SocketAddr) -> bool {
        self.addresses.get(&address).and_then(|at| at.watchers.get(&target)).is_some_and(|watch| watch.is_answered)
    }

    /// Opens a session with an address that answers, unless it has one or has to wait.
    fn open(&mut self, now: Instant, random: f64, address: SocketAddr) {
        let Some(at) = self.addresses.get_mut(&address) else { return };
        let SessionState::None = at.session else { return };
        let Some(opener) = at.next_opener().filter(|_| at.not_before.is_none_or(|not_before| now >= not_before)) else {
            return;
        };
        self.latest += 1;
        let number = self.latest;
        let renew_at = now + at.life.mul_f64(1.0 - EARLY * random);
        at.not_before = None;
        at.session = SessionState::Open { number, opener, since: now, renew_at, is_confirmed: false };
        self.numbers.insert(number, address);
        self.timers.insert((renew_at, IdleTimer::Renew(number)));
        self.actions.push_back(IdleAction::Open { number, target: opener, address });
    }

    /// Closes a session that is open. Another one follows if it is renewed.
    fn close(&mut self, number: u64, is_renewed: bool) {
        let Some(at) = self.numbers.get(&number).and_then(|address| self.addresses.get_mut(address)) else { return };
        if let SessionState::Open { renew_at, .. } = at.session {
            self.timers.remove(&(renew_at, IdleTimer::Renew(number)));
            at.session = SessionState::Closing { is_renewed };
            self.actions.push_back(IdleAction::Close { number });
        }
    }

    fn renew(&mut self, now: Instant, number: u64) {
        let Some(at) = self.numbers.get(&number).and_then(|address| self.addresses.get_mut(address)) else { return };
        let SessionState::Open { is_confirmed, .. } = at.session else { return };
        at.backoff.reset();
        if !is_confirmed {
            // Of whom the next look is overdue nobody knows if the address is still his: the next one that is answered
            // there opens another session. An interval may well be longer than a session's life.
            for (target, watch) in &mut at.watchers {
                let interval = self.targets.get(target).map_or(Duration::ZERO, |watched| watched.interval);
                watch.is_answered &= now < watch.began + interval + interval / OVERDUE;
            }
        }
        let is_renewed = at.is_answered();
        self.close(number, is_renewed);
    }

    /// Takes note that a target has nothing to do with an address any more.
    fn leave(&mut self, target: u64, address: SocketAddr) {
        if let Some(watched) = self.targets.get_mut(&target) {
            watched.addresses.remove(&address);
        }
        let Some(at) = self.addresses.get_mut(&address) else { return };
        at.watchers.remove(&target);
        if let SessionState::Open { number, opener, .. } = at.session
            && (opener == target || !at.is_answered())
        {
            let is_renewed = at.is_answered();
            self.close(number, is_renewed);
        }
        self.forget(address);
    }

    /// Forgets an address that nobody watches and that has no session.
    fn forget(&mut self, address: SocketAddr) {
        let is_needed = self.addresses.get(&address).is_some_and(|at| match at.session {
            SessionState::Open { .. } | SessionState::Closing { .. } => true,
            SessionState::None | SessionState::Ended { .. } => !at.watchers.is_empty(),
        });
        if !is_needed {
            self.addresses.remove(&address);
        }
    }

    fn over(&mut self, now: Instant, random: f64, number: u64, how: SessionOver) {
        let Some(address) = self.numbers.remove(&number) else { return };
        let Some(at) = self.addresses.get_mut(&address) else { return };
        match (at.session, how) {
            (SessionState::Open { since, renew_at, .. }, SessionOver::ByServer(end)) => {
                self.timers.remove(&(renew_at, IdleTimer::Renew(number)));
                at.session = SessionState::Ended { at: now, lived: now - since, end };
                let watchers: Vec<_> =
                    at.watchers.iter().filter(|(_, watch)| watch.is_answered).map(|(target, _)| *target).collect();
                for target in watchers {
                    self.ask_for_look(now, target);
                }
            }
            (SessionState::Open { renew_at, .. }, SessionOver::NotOpened | SessionOver::Closed) => {
                self.timers.remove(&(renew_at, IdleTimer::Renew(number)));
                at.session = SessionState::None;
                at.pause(now, random);
            }
            (SessionState::Open { renew_at, .. }, SessionOver::NoPlace) => {
                self.timers.remove(&(renew_at, IdleTimer::Renew(number)));
                at.session = SessionState::None;
                at.await_place(now, random);
            }
            (SessionState::Closing { is_renewed }, _) => {
                at.session = SessionState::None;
                if is_renewed {
                    self.open(now, random, address);
                }
            }
            (SessionState::None | SessionState::Ended { .. }, _) => {}
        }
        self.forget(address);
    }

    /// Looks at a target, at once or with the ends that follow within a moment.
    fn ask_for_look(&mut self, now: Instant, target: u64) {
        let Some(watched) = self.targets.get_mut(&target) else { return };
        if watched.look_due.is_some() {
            return;
        }
        if let Some(due) = watched.looked_at.map(|at| at + GATHERING).filter(|due| *due > now) {
            watched.look_due = Some(due);
            self.timers.insert((due, IdleTimer::Look(target)));
        } else {
            let may_look = watched.may_look(now);
            self.actions.push_back(if may_look { IdleAction::Look { target } } else { IdleAction::LeaveOut });
        }
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
