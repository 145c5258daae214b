//! Places for dialogues: the bound on all of them, and the bounds on those with one address.
//!
//! A dialogue has a place at its address first, for its log-in if it logs in, and then one among all. Whoever waits holds
//! nothing that others need but the address's own. A dialogue that is given up, or whose round is, gives back everything.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::metrics::Metrics;
use super::shares::{Asker, Grant, ShareInput, ShareLimits, ShareRate, Shares};
use mail_failover_core::model::DelayCause;

/// Bounds on the dialogues with one address, over all objects.
// ADR-0110: a relay of one's own that is probed ten times a second, by several objects, fits into it. For a provider it is
// what one client may do.
const AT_ADDRESS: ShareLimits =
    ShareLimits { places: 256, floor: 0, pace: Some(ShareRate { per_second: 50, burst: 100 }) };
/// Bounds on the log-ins at one address, over all objects.
// Two thousand accounts at one provider log in once in 100 s each.
const LOGINS_AT_ADDRESS: ShareLimits =
    ShareLimits { places: 256, floor: 0, pace: Some(ShareRate { per_second: 20, burst: 40 }) };
/// Idle sessions with all addresses.
// ADR-0180: Each costs a socket and a few kB. Relays of one's own are few.
const IDLE_SESSIONS: ShareLimits = ShareLimits { places: 768, floor: 256, pace: None };
/// Addresses that are remembered before those at rest are forgotten.
const REMEMBERED: usize = 1024;

/// Request for a place.
#[derive(Clone, Debug)]
pub(super) struct PlaceRequest {
    /// Namespaces that want the probe; at least one.
    pub namespaces: Arc<[Arc<str>]>,
    /// Number of the probe.
    pub probe: u64,
    /// True if a route uses one of the backends.
    pub is_used: bool,
    /// Address of the dialogue.
    pub address: SocketAddr,
    /// True if the dialogue logs in.
    pub logs_in: bool,
}

/// Everything that a dialogue holds while it is under way.
pub(super) struct DialoguePlace {
    _passes: (Option<Pass>, Pass, Pass),
}

/// Place of an idle session.
pub(super) struct IdlePlace {
    _pass: Pass,
}

/// All bounds.
pub(super) struct DialoguePlaces {
    all: Arc<Gate>,
    idle: Arc<Gate>,
    at_addresses: Mutex<HashMap<(SocketAddr, DelayCause), Arc<Gate>>>,
    metrics: Metrics,
}

impl DialoguePlaces {
    /// Bounds with so many places in all. A quarter of them is the floor of used backends.
    pub(super) fn new(concurrency: usize, metrics: Metrics) -> Self {
        let floor = concurrency / 4;
        let places = (concurrency - floor).max(1);
        Self {
            all: Gate::new(ShareLimits { places, floor, pace: None }),
            idle: Gate::new(IDLE_SESSIONS),
            at_addresses: Mutex::default(),
            metrics,
        }
    }

    /// Waits for a place, but no longer than until then. Returns with it the bound that was waited for last, if any.
    ///
    /// # Errors
    /// The bound that was waited for in vain.
    pub(super) async fn enter(
        &self,
        request: &PlaceRequest,
        until: Instant,
    ) -> Result<(DialoguePlace, Option<DelayCause>), DelayCause> {
        let mut waited_for = None;
        let login = if request.logs_in {
            let gate = self.at_address(request.address, DelayCause::LoginsAtAddress);
            Some(self.pass(&gate, request, DelayCause::LoginsAtAddress, until, &mut waited_for).await?)
        } else {
            None
        };
        let gate = self.at_address(request.address, DelayCause::DialoguesAtAddress);
        let address = self.pass(&gate, request, DelayCause::DialoguesAtAddress, until, &mut waited_for).await?;
        let all = self.pass(&self.all, request, DelayCause::Dialogues, until, &mut waited_for).await?;
        Ok((DialoguePlace { _passes: (login, address, all) }, waited_for))
    }

    /// A place for an idle session, if there is one. Nobody waits for it: a target without one is probed all the same.
    pub(super) fn keep_idle(&self, request: &PlaceRequest) -> Option<IdlePlace> {
        match self.idle.ask(request) {
            Asked::Granted(pass) => Some(IdlePlace { _pass: pass }),
            Asked::Waiting(_) => None,
        }
    }

    /// Waits until no dialogue is under way.
    pub(super) async fn wait_until_empty(&self) {
        loop {
            let emptied = self.all.emptied.notified();
            if self.all.lock().shares.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    async fn pass(
        &self,
        gate: &Arc<Gate>,
        request: &PlaceRequest,
        cause: DelayCause,
        until: Instant,
        waited_for: &mut Option<DelayCause>,
    ) -> Result<Pass, DelayCause> {
        let waiting = match gate.ask(request) {
            Asked::Granted(pass) => return Ok(pass),
            Asked::Waiting(waiting) => waiting,
        };
        let began = Instant::now();
        self.metrics.place_waits(cause);
        let pass = timeout_at(until, waiting).await;
        self.metrics.place_wait(began.elapsed());
        *waited_for = Some(cause);
        pass.ok().flatten().ok_or(cause)
    }

    fn at_address(&self, address: SocketAddr, cause: DelayCause) -> Arc<Gate> {
        let mut gates = self.at_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        // An address that was quiet for some seconds is as good as one that was never probed.
        if gates.len() >= REMEMBERED && gates.len() == gates.capacity() {
            let now = Instant::now();
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.lock().shares.is_rested(now));
        }
        let limits = if cause == DelayCause::LoginsAtAddress { LOGINS_AT_ADDRESS } else { AT_ADDRESS };
        gates.entry((address, cause)).or_insert_with(|| Gate::new(limits)).clone()
    }
}

/// One bound, with those who wait for it.
struct Gate {
    state: Mutex<GateState>,
    numbers: AtomicU64,
    emptied: Notify,
}

struct GateState {
    shares: Shares,
    waiters: HashMap<u64, oneshot::Sender<Pass>>,
    /// True if a task waits for the time of the next beginning.
    has_timer: bool,
}

/// A place of one bound. It is given back when this is dropped.
struct Pass {
    gate: Arc<Gate>,
    grant: Option<Grant>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            self.gate.handle(ShareInput::Released(grant));
        }
    }
}

/// Answer to a request.
enum Asked {
    Granted(Pass),
    Waiting(WaitingForPass),
}

/// A request that waits. It is withdrawn when this is dropped.
struct WaitingForPass {
    gate: Arc<Gate>,
    number: u64,
    granted: oneshot::Receiver<Pass>,
}

impl Future for WaitingForPass {
    type Output = Option<Pass>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.granted).poll(context).map(Result::ok)
    }
}

impl Drop for WaitingForPass {
    fn drop(&mut self) {
        self.gate.lock().waiters.remove(&self.number);
        self.gate.handle(ShareInput::Withdrawn(self.number));
    }
}

impl Gate {
    fn new(limits: ShareLimits) -> Arc<Self> {
        let shares = Shares::new(limits, Instant::now());
        Arc::new(Self {
            state: Mutex::new(GateState { shares, waiters: HashMap::new(), has_timer: false }),
            numbers: AtomicU64::new(0),
            emptied: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(self: &Arc<Self>, request: &PlaceRequest) -> Asked {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (granted, mut receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            // The namespace with the fewest: a probe that several want is nobody's burden.
            let namespaces = request.namespaces.iter();
            let Some(namespace) = namespaces.min_by_key(|namespace| state.shares.held_by(namespace)).cloned() else {
                return Asked::Waiting(WaitingForPass { gate: self.clone(), number, granted: receiver });
            };
            state.waiters.insert(number, granted);
            let asker = Asker { namespace, floor: request.is_used.then_some(request.probe) };
            state.shares.handle(Instant::now(), ShareInput::Asked(number, asker));
        }
        self.settle();
        match receiver.try_recv() {
            Ok(pass) => Asked::Granted(pass),
            Err(_) => Asked::Waiting(WaitingForPass { gate: self.clone(), number, granted: receiver }),
        }
    }

    fn handle(self: &Arc<Self>, input: ShareInput) {
        self.lock().shares.handle(Instant::now(), input);
        self.settle();
    }

    /// Tells those whose turn it is, and sees to it that somebody looks again when the next one's has come.
    fn settle(self: &Arc<Self>) {
        let mut told = vec![];
        {
            let mut state = self.lock();
            for (number, grant) in state.shares.poll() {
                let pass = Pass { gate: self.clone(), grant: Some(grant) };
                told.push((state.waiters.remove(&number), pass));
            }
            if let Some(at) = state.shares.next_timeout().filter(|_| !state.has_timer)
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                state.has_timer = true;
                let gate = self.clone();
                runtime.spawn(async move {
                    sleep_until(at).await;
                    {
                        let mut state = gate.lock();
                        state.has_timer = false;
                        state.shares.handle_timeout(Instant::now());
                    }
                    gate.settle();
                });
            }
            if state.shares.is_empty() {
                self.emptied.notify_waiters();
            }
        }
        for (waiter, pass) in told {
            // Without the lock: a waiter that is gone meanwhile gives the place back.
            if let Some(waiter) = waiter {
                drop(waiter.send(pass));
            }
        }
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
