//! HAProxy's rule, the peer, with `fall 3 rise 2` and a `backup` server, by its documentation of
//! `rise`, `fall`, `inter` and `backup`.

use std::time::Duration;

use super::profile::Profile;

pub const FALL: u32 = 3;
pub const RISE: u32 = 2;

/// A checked server. Its health counts up to `RISE + FALL - 1`; below `RISE` it is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    health: u32,
}

impl Server {
    const FULL: u32 = RISE + FALL - 1;

    /// A server that has passed all its checks.
    pub fn up() -> Self {
        Self { health: Self::FULL }
    }

    pub fn is_up(self) -> bool {
        self.health >= RISE
    }

    /// Returns true if another such check would change nothing.
    pub fn is_settled(self, passed: bool) -> bool {
        self.health == if passed { Self::FULL } else { 0 }
    }

    /// Counts a check. The count begins anew with a failure of a server that is down, a failure
    /// that brings it down, and a success of one that is up.
    pub fn check(&mut self, passed: bool) {
        self.health = match (self.is_up(), passed) {
            (true, true) => Self::FULL,
            (true, false) if self.health - 1 < RISE => 0,
            (true, false) => self.health - 1,
            (false, true) if self.health + 1 >= RISE => Self::FULL,
            (false, true) => self.health + 1,
            (false, false) => 0,
        };
    }
}

/// A load balancer on its own, with a primary and a backup.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// The primary, and the backup.
    pub servers: [Server; 2],
}

impl Balancer {
    pub fn new() -> Self {
        Self { servers: [Server::up(); 2] }
    }

    /// The server that connections go to: the primary whenever it is up.
    pub fn in_use(&self) -> Option<usize> {
        self.servers.iter().position(|server| server.is_up())
    }

    /// The time from the beginning of an outage within which it must be left. No check begins while
    /// one is waiting, so a silent server takes a timeout each time where that is longer than the
    /// interval.
    pub fn deadline(profile: &Profile) -> Duration {
        profile.interval.max(profile.timeout) * FALL + profile.timeout + Duration::from_secs(1) + profile.interval
    }
}
