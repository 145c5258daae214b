//! Places of a server's connections, of which there is a limited number.
//!
//! When all are taken, a connection that waits for its client gives way to a new one (ADR-0090).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Places of a server's connections.
#[derive(Debug)]
pub struct Places {
    limit: usize,
    open: Mutex<OpenConnections>,
    /// Told of each place that becomes free.
    freed: Notify,
    gave_way: Counter,
}

#[derive(Debug, Default)]
struct OpenConnections {
    /// Connections by number; a greater number is younger.
    connections: BTreeMap<u64, OpenConnection>,
    /// Number of the next connection. None comes twice: a connection that gave way ends later.
    next: u64,
}

/// Connection that holds a place.
#[derive(Debug)]
struct OpenConnection {
    peer: IpAddr,
    /// Token that ends the connection; `None` while it may keep its place.
    gives_way: Option<CancellationToken>,
}

impl OpenConnections {
    /// Returns the oldest connection that may be ended, of the client that has the most of them.
    // One client that opens connections faster than others use theirs then closes only its own.
    fn gives_way_first(&self) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        let waiting = self.connections.iter().filter(|(_, connection)| connection.gives_way.is_some());
        for (_, connection) in waiting.clone() {
            *counts.entry(connection.peer).or_default() += 1;
        }
        // The last of the greatest, and so the oldest.
        waiting.rev().max_by_key(|(_, connection)| counts[&connection.peer]).map(|(number, _)| *number)
    }
}

impl Places {
    /// So many places, and a counter of the connections that are ended for others.
    pub fn new(limit: usize, gave_way: Counter) -> Self {
        Self { limit, open: Mutex::default(), freed: Notify::new(), gave_way }
    }

    /// Takes a place, if need be from a connection that does not keep its own. `None` if there is no such connection.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        if open.connections.len() >= self.limit {
            let first = open.gives_way_first()?;
            if let Some(token) = open.connections.remove(&first).and_then(|connection| connection.gives_way) {
                token.cancel();
            }
            self.gave_way.inc();
        }
        let number = open.next;
        open.next += 1;
        let gives_way = CancellationToken::new();
        open.connections.insert(number, OpenConnection { peer, gives_way: Some(gives_way.clone()) });
        Some(Place { places: self.clone(), number, gives_way })
    }

    /// Waits until a place becomes free.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        // No user of the lock can leave it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Place of one connection, free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    gives_way: CancellationToken,
}

impl Place {
    /// Token that is cancelled when the connection is to end for another one.
    pub fn gives_way(&self) -> &CancellationToken {
        &self.gives_way
    }

    /// Keeps the place: what the connection asked for is under way.
    pub fn keep(&self) {
        if let Some(connection) = self.places.lock().connections.get_mut(&self.number) {
            connection.gives_way = None;
        }
    }

    /// Lets the connection be ended for another one again.
    pub fn release(&self) {
        if let Some(connection) = self.places.lock().connections.get_mut(&self.number) {
            connection.gives_way = Some(self.gives_way.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().connections.remove(&self.number);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn places(limit: usize) -> Arc<Places> {
        Arc::new(Places::new(limit, Counter::default()))
    }

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    #[test]
    fn the_oldest_connection_without_a_whole_request_gives_way() {
        let places = places(3);
        let open: Vec<_> = (0..3).map(|_| places.take(peer(1)).unwrap()).collect();
        open[0].keep();
        let newest = places.take(peer(2)).unwrap();
        assert_eq!(open.iter().map(|place| place.gives_way.is_cancelled()).collect::<Vec<_>>(), [false, true, false]);
        assert!(!newest.gives_way.is_cancelled());
        assert_eq!(places.gave_way.get(), 1);
        // The one that gave way says so late; its place is taken by then.
        open[1].keep();
        drop(open);
        assert_eq!(places.lock().connections.len(), 1);
    }

    #[test]
    fn a_connection_that_gave_way_takes_no_place_with_it_when_it_ends() {
        let places = places(1);
        let old = places.take(peer(1)).unwrap();
        let new = places.take(peer(1)).unwrap();
        drop(old);
        assert_eq!(places.lock().connections.len(), 1);
        drop(new);
        assert_eq!(places.lock().connections.len(), 0);
    }

    #[test]
    fn whole_requests_give_way_to_nobody() {
        let places = places(2);
        let (one, two) = (places.take(peer(1)).unwrap(), places.take(peer(1)).unwrap());
        one.keep();
        two.keep();
        assert!(places.take(peer(2)).is_none());
        drop(one);
        assert!(places.take(peer(2)).is_some() && places.gave_way.get() == 0);
    }

    #[test]
    fn a_client_with_many_connections_closes_its_own() {
        let places = places(8);
        let lone = places.take(peer(1)).unwrap();
        let mut many = vec![];
        for _ in 0..1000 {
            many.push(places.take(peer(2)).unwrap());
        }
        assert!(!lone.gives_way.is_cancelled());
        assert_eq!(many.iter().filter(|place| !place.gives_way.is_cancelled()).count(), 7);
        assert!(many.iter().rev().take(7).all(|place| !place.gives_way.is_cancelled()), "the oldest of them go");
    }

    #[test]
    fn a_connection_that_has_got_its_answer_may_be_ended_again() {
        let places = places(1);
        let one = places.take(peer(1)).unwrap();
        one.keep();
        assert!(places.take(peer(2)).is_none());
        one.release();
        assert!(places.take(peer(2)).is_some() && one.gives_way.is_cancelled());
    }
}
