//! Pool of connections to backends, bounded for each of them.
//!
//! A connection is used for one message after the other, with RSET between them. What comes back is reset at once, so
//! that the next message finds it ready. Idle ones are looked at: a server may close them, or say 421.
//!
//! A message that finds all of them in use waits. Who holds one and does not need it now is told so by [`Pool::wanted`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mail_failover_contract::routing::RouteBackend;
use mail_failover_core::model::{EvidenceClass, Stage};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::connection::{BackendConnection, Connector, Target, TlsMemory};
use super::failure::{ConnectFailure, WrongHost};
use super::learnt::Learnt;
use crate::core::transaction::OperationFailure;
use crate::metrics::BackendMetrics;

/// Bounds of the connections to each backend.
#[derive(Clone, Copy, Debug)]
pub struct PoolBounds {
    /// Number of connections at a time, idle ones included.
    pub connections: usize,
    /// Messages over one connection.
    pub messages: u32,
    /// Time for which one is kept without a message.
    pub idle: Duration,
}

/// Bound on RSET and its reply.
const RESET: Duration = Duration::from_secs(5);
/// Pause between two looks at the idle connections.
const LOOK: Duration = Duration::from_secs(1);

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    bounds: PoolBounds,
    slots: Mutex<BTreeMap<Arc<str>, Slot>>,
    learnt: Arc<Learnt>,
    metrics: BackendMetrics,
}

/// Connections of one backend.
struct Slot {
    /// Server and login in force. Connections to another one are closed when they come back.
    target: Target,
    /// Number of connections at a time, the smaller one of ours and of the backend's limit.
    limit: usize,
    places: Arc<Semaphore>,
    queue: Arc<Queue>,
    /// Places that are to go as soon as they are free, because the limit has become smaller.
    surplus: usize,
    /// Messages over one connection.
    messages: u32,
    /// TLS sessions with that server by that login.
    tls: Arc<TlsMemory>,
    idle: Vec<Idle>,
    /// The mistake in the host that the log has.
    wrong_host: Option<WrongHost>,
}

/// Messages that wait for a connection of one backend.
#[derive(Default)]
struct Queue {
    /// Number of the messages.
    waiting: watch::Sender<usize>,
    /// Told of each connection that has come back and may be used again.
    returned: Notify,
}

/// Counts as one that waits until dropped.
struct Waiting<'a>(&'a Queue);

impl<'a> Waiting<'a> {
    fn begin(queue: &'a Queue) -> Self {
        queue.waiting.send_modify(|waiting| *waiting += 1);
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

struct Idle {
    connection: BackendConnection,
    place: OwnedSemaphorePermit,
    messages: u32,
    since: Instant,
}

/// A connection that carries a message.
pub struct CheckedOut {
    /// The connection.
    pub connection: BackendConnection,
    /// True if it was used before.
    pub is_reused: bool,
    backend: Arc<str>,
    place: OwnedSemaphorePermit,
    messages: u32,
}

/// Result of a look for a connection.
enum Found {
    Connection(Box<CheckedOut>),
    /// A place for a connection that is to be made.
    Place(OwnedSemaphorePermit),
}

impl Slot {
    fn set_limit(&mut self, limit: usize) {
        if limit > self.limit {
            let more = limit - self.limit;
            let kept = more.min(self.surplus);
            self.surplus -= kept;
            self.places.add_permits(more - kept);
        } else {
            self.surplus += self.limit - limit;
        }
        self.limit = limit;
        self.remove_surplus();
    }

    fn remove_surplus(&mut self) {
        self.surplus -= self.places.forget_permits(self.surplus);
    }
}

impl Pool {
    /// A pool without connections.
    pub fn new(connector: Connector, bounds: PoolBounds, learnt: Arc<Learnt>, metrics: BackendMetrics) -> Self {
        Self(Arc::new(Shared { connector, bounds, slots: Mutex::default(), learnt, metrics }))
    }

    /// Takes an idle connection, or makes one, before the deadline. It is none that was used before if it must be fresh.
    pub async fn check_out(
        &self,
        of: &RouteBackend,
        target: &Target,
        is_fresh: bool,
        deadline: Instant,
    ) -> Result<CheckedOut, OperationFailure> {
        let (backend, rulebook) = (&of.name, &*of.rulebook);
        let (places, tls, queue) = self.places(of, target);
        let place = match self.connection_or_place(of, &places, is_fresh) {
            Some(found) => found,
            None => self.wait(of, &places, &queue, is_fresh, deadline).await?,
        };
        let place = match place {
            Found::Connection(checked_out) => return Ok(*checked_out),
            Found::Place(place) => place,
        };
        let begun = Instant::now();
        match self.0.connector.connect(target, &tls, rulebook, deadline).await {
            Ok(connection) => {
                self.0.metrics.connected(backend, begun.elapsed(), connection.is_resumed());
                self.0.learnt.seen(backend, connection.capabilities());
                self.set_wrong_host(backend, None);
                Ok(CheckedOut { connection, is_reused: false, backend: backend.clone(), place, messages: 0 })
            }
            Err(ConnectFailure { failure, wrong_host }) => {
                self.0.metrics.connect_failed(backend, wrong_host == Some(WrongHost::Refused));
                if !failure.is_own || wrong_host.is_some() {
                    self.0.learnt.failed(backend);
                }
                if let Some(wrong_host) = wrong_host {
                    let what = match wrong_host {
                        WrongHost::LeadsBack => {
                            self.0.metrics.led_back(backend);
                            "a backend leads back to the relay"
                        }
                        WrongHost::Refused => "a backend leads to where nothing is connected to",
                    };
                    if self.set_wrong_host(backend, Some(wrong_host)) != Some(wrong_host) {
                        tracing::warn!(%backend, summary = %failure.summary, "{what}");
                    }
                }
                Err(failure)
            }
        }
    }

    /// Takes an idle connection to this server by this login, if there is one.
    pub fn reuse(&self, of: &RouteBackend, target: &Target) -> Option<CheckedOut> {
        // Connections to another server or by another login are closed.
        drop(self.places(of, target));
        self.idle_connection(&of.name)
    }

    fn idle_connection(&self, backend: &Arc<str>) -> Option<CheckedOut> {
        while let Some(mut idle) = self.take_idle(backend) {
            if idle.connection.is_alive() {
                let Idle { connection, place, messages, .. } = idle;
                self.0.metrics.reused(backend);
                return Some(CheckedOut { connection, is_reused: true, backend: backend.clone(), place, messages });
            }
            self.0.metrics.closed_by_server(backend);
        }
        None
    }

    /// An idle connection, unless it must be fresh, or else a place for one. `None` if all are in use.
    fn connection_or_place(&self, of: &RouteBackend, places: &Arc<Semaphore>, is_fresh: bool) -> Option<Found> {
        let backend = &of.name;
        if !is_fresh && let Some(checked_out) = self.idle_connection(backend) {
            return Some(Found::Connection(Box::new(checked_out)));
        }
        places.clone().try_acquire_owned().ok().or_else(|| self.make_room(backend)).map(Found::Place)
    }

    /// Waits until a connection comes back, or one may be made.
    async fn wait(
        &self,
        of: &RouteBackend,
        places: &Arc<Semaphore>,
        queue: &Queue,
        is_fresh: bool,
        deadline: Instant,
    ) -> Result<Found, OperationFailure> {
        self.0.metrics.waited(&of.name);
        let _waiting = Waiting::begin(queue);
        loop {
            let mut returned = std::pin::pin!(queue.returned.notified());
            // From here on nothing that comes back is missed.
            returned.as_mut().enable();
            if let Some(found) = self.connection_or_place(of, places, is_fresh) {
                return Ok(found);
            }
            tokio::select! {
                () = returned => {}
                Ok(place) = places.clone().acquire_owned() => return Ok(Found::Place(place)),
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.0.metrics.full(&of.name);
                    return Err(OperationFailure {
                        class: EvidenceClass::Inconclusive,
                        stage: Stage::Connect,
                        refusal: None,
                        summary: format!("this relay has all its {} connections to it in use", self.limit(of)).into(),
                        is_own: true,
                    });
                }
            }
        }
    }

    /// Waits until a message waits for a connection of this backend.
    pub async fn wanted(&self, backend: &str) {
        let queue = self.slots().get(backend).map(|slot| slot.queue.clone());
        let Some(queue) = queue else { return std::future::pending().await };
        // The sender is held here, so this cannot fail.
        drop(queue.waiting.subscribe().wait_for(|waiting| *waiting > 0).await);
    }

    /// Takes a connection back. It is used again if the server `is_in_step` and accepts RSET.
    pub fn give_back(&self, checked_out: CheckedOut, is_in_step: bool) {
        let CheckedOut { mut connection, backend, place, messages, .. } = checked_out;
        if !is_in_step {
            return;
        }
        let pool = self.clone();
        let messages = messages + 1;
        tokio::spawn(async move {
            if !pool.is_wanted(&backend, connection.target(), messages) {
                connection.quit().await;
                drop(place);
            } else if connection.reset(RESET).await {
                pool.keep(&backend, Idle { connection, place, messages, since: Instant::now() });
            }
        });
    }

    /// Looks at idle connections until `end`: closes those that are old, and forgets those that their servers have
    /// closed.
    pub async fn look_after_idle(self, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let mut old = vec![];
            {
                let mut slots = self.slots();
                for (backend, slot) in slots.iter_mut() {
                    let (mut kept, idle) = (vec![], std::mem::take(&mut slot.idle));
                    for mut idle in idle {
                        if !idle.connection.is_alive() {
                            self.0.metrics.closed_by_server(backend);
                        } else if idle.since.elapsed() >= self.0.bounds.idle {
                            old.push(idle);
                        } else {
                            kept.push(idle);
                        }
                    }
                    slot.idle = kept;
                    slot.remove_surplus();
                    let closed = slot.idle.len().min(slot.surplus);
                    old.extend(slot.idle.drain(..closed));
                    let open = (slot.limit + slot.surplus).saturating_sub(slot.places.available_permits());
                    self.0.metrics.connections(backend, open, slot.idle.len());
                }
            }
            for Idle { connection, place, .. } in old {
                tokio::spawn(async move {
                    connection.quit().await;
                    drop(place);
                });
            }
        }
    }

    /// Forgets backends that are gone, and their idle connections.
    pub fn keep_those_of(&self, names: &[Arc<str>]) {
        let mut gone = vec![];
        self.slots().retain(|name, slot| {
            let is_kept = names.contains(name);
            if !is_kept {
                gone.append(&mut slot.idle);
            }
            is_kept
        });
        for Idle { connection, place, .. } in gone {
            tokio::spawn(async move {
                connection.quit().await;
                drop(place);
            });
        }
    }

    /// Closes idle connections, at the end.
    pub async fn close(&self) {
        let slots = std::mem::take(&mut *self.slots());
        let mut farewells = tokio::task::JoinSet::new();
        for idle in slots.into_values().flat_map(|slot| slot.idle) {
            farewells.spawn(idle.connection.quit());
        }
        farewells.join_all().await;
    }

    /// The places of a backend, its TLS sessions and those who wait. Idle connections to another server or by another
    /// login are closed.
    fn places(&self, of: &RouteBackend, target: &Target) -> (Arc<Semaphore>, Arc<TlsMemory>, Arc<Queue>) {
        let limit = self.limit(of);
        let mut slots = self.slots();
        let slot = slots.entry(of.name.clone()).or_insert_with(|| Slot {
            target: target.clone(),
            limit,
            places: Arc::new(Semaphore::new(limit)),
            queue: Arc::default(),
            surplus: 0,
            messages: self.0.bounds.messages,
            tls: Arc::default(),
            idle: vec![],
            wrong_host: None,
        });
        slot.set_limit(limit);
        slot.messages = of.messages_per_connection.unwrap_or(u32::MAX).min(self.0.bounds.messages);
        if slot.target != *target {
            slot.target = target.clone();
            slot.tls = Arc::default();
            for Idle { connection, place, .. } in std::mem::take(&mut slot.idle) {
                tokio::spawn(async move {
                    connection.quit().await;
                    drop(place);
                });
            }
        }
        (slot.places.clone(), slot.tls.clone(), slot.queue.clone())
    }

    /// The connection that was used last: the others may grow old.
    fn take_idle(&self, backend: &str) -> Option<Idle> {
        self.slots().get_mut(backend)?.idle.pop()
    }

    /// The place of the oldest idle connection, which is closed.
    fn make_room(&self, backend: &str) -> Option<OwnedSemaphorePermit> {
        let mut slots = self.slots();
        let idle = &mut slots.get_mut(backend)?.idle;
        if idle.is_empty() {
            return None;
        }
        let Idle { connection, place, .. } = idle.remove(0);
        tokio::spawn(connection.quit());
        Some(place)
    }

    /// Connections to this backend at a time.
    fn limit(&self, of: &RouteBackend) -> usize {
        let own = self.0.bounds.connections;
        of.connections.map_or(own, |limit| own.min(usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    /// True if a connection that has carried so many messages may carry another one.
    fn is_wanted(&self, backend: &str, target: &Target, messages: u32) -> bool {
        self.slots().get(backend).is_some_and(|slot| slot.target == *target && messages < slot.messages)
    }

    /// Notes the mistake in this backend's host. Returns what was noted before.
    fn set_wrong_host(&self, backend: &str, wrong_host: Option<WrongHost>) -> Option<WrongHost> {
        let mut slots = self.slots();
        slots.get_mut(backend).and_then(|slot| std::mem::replace(&mut slot.wrong_host, wrong_host))
    }

    fn keep(&self, backend: &str, idle: Idle) {
        if let Some(slot) = self.slots().get_mut(backend)
            && slot.target == *idle.connection.target()
        {
            slot.idle.push(idle);
            slot.queue.returned.notify_one();
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Slot>> {
        // No user of the lock can leave it half changed.
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
