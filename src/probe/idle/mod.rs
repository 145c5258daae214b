//! Idle SMTP sessions with relays of one's own: their end starts a look within milliseconds.
//!
//! ```text
//! rounds and looks ─▶ IdleNews ─▶ driver ─▶ sessions (pure) ─▶ open, close, look
//!                                   ▲──── end of a session ◀── Runner::idle_session
//! ```
//!
//! One task holds all of them: a session costs a socket and memory, and no task or timer of its own.

mod sessions;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::runner::Runner;
use mail_failover_core::model::{Effect, EvidenceClass, Outcome, ProbeReport, Stage};
use mail_failover_runtime::random;
use mail_failover_smtp::client::QUIT_TIMEOUT;

pub(super) use sessions::SessionOver;
use sessions::{AddressFinding, IdleAction, IdleInput, IdleSessions};

/// Terms of one session.
#[derive(Clone, Debug)]
pub struct IdleTerms {
    /// Namespaces that want it; at least one.
    pub namespaces: Arc<[Arc<str>]>,
    /// True if a route uses one of the backends that want it.
    pub is_used: bool,
    /// Interval of the probe.
    pub interval: Duration,
}

/// What the driver has not been told of yet: at most one entry per target.
pub(super) struct IdleNews<P> {
    pending: Mutex<HashMap<u64, TargetNews<P>>>,
    told: Notify,
}

struct TargetNews<P> {
    /// True if its sessions until now are to end.
    is_gone: bool,
    /// Target and terms of its next sessions.
    latest: Option<(Arc<P>, IdleTerms)>,
    /// Start and finding of the newest look at each address.
    found: BTreeMap<SocketAddr, (Instant, AddressFinding)>,
    /// Present addresses of its Service.
    endpoints: Option<BTreeSet<SocketAddr>>,
}

impl<P> Default for TargetNews<P> {
    fn default() -> Self {
        Self { is_gone: false, latest: None, found: BTreeMap::new(), endpoints: None }
    }
}

impl<P> Default for IdleNews<P> {
    fn default() -> Self {
        Self { pending: Mutex::default(), told: Notify::new() }
    }
}

impl<P> IdleNews<P> {
    /// Takes what a look of a target that began then has found.
    pub(super) fn found(
        &self,
        target: u64,
        (prepared, terms): (Arc<P>, IdleTerms),
        began: Instant,
        report: &ProbeReport,
    ) {
        self.tell(target, |news| {
            news.latest = Some((prepared, terms));
            for at in &report.addresses {
                let Some(finding) = finding(&at.outcome) else { continue };
                let newest = news.found.entry(at.address).or_insert((began, finding));
                if newest.0 <= began {
                    *newest = (began, finding);
                }
            }
        });
    }

    /// Takes the addresses that a target's Service has now.
    pub(super) fn endpoints(&self, target: u64, addresses: &[SocketAddr]) {
        self.tell(target, |news| news.endpoints = Some(addresses.iter().copied().collect()));
    }

    /// Ends the sessions of a target.
    pub(super) fn end(&self, target: u64) {
        self.tell(target, |news| *news = TargetNews { is_gone: true, ..TargetNews::default() });
    }

    fn tell(&self, target: u64, change: impl FnOnce(&mut TargetNews<P>)) {
        change(self.lock().entry(target).or_default());
        self.told.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TargetNews<P>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Targets that are to be looked at since a session of theirs has ended.
#[derive(Debug, Default)]
pub(super) struct EndedSessions {
    targets: Mutex<HashSet<u64>>,
    told: Notify,
}

impl EndedSessions {
    fn add(&self, target: u64) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(target);
        self.told.notify_one();
    }

    /// Waits for the next ones.
    pub(super) async fn next(&self) -> HashSet<u64> {
        self.told.notified().await;
        std::mem::take(&mut *self.targets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type UnderWay = Pin<Box<dyn Future<Output = (u64, SessionOver)> + Send>>;

/// Driver of all idle sessions.
pub(super) struct IdleDriver<R: Runner> {
    runner: Arc<R>,
    news: Arc<IdleNews<R::Prepared>>,
    ended: Arc<EndedSessions>,
    metrics: Metrics,
    sessions: IdleSessions,
    targets: HashMap<u64, (Arc<R::Prepared>, IdleTerms)>,
    under_way: FuturesUnordered<UnderWay>,
    /// The end of each session that is under way.
    closing: HashMap<u64, CancellationToken>,
}

impl<R: Runner> IdleDriver<R> {
    pub(super) fn new(
        runner: Arc<R>,
        news: Arc<IdleNews<R::Prepared>>,
        ended: Arc<EndedSessions>,
        metrics: Metrics,
    ) -> Self {
        Self {
            runner,
            news,
            ended,
            metrics,
            sessions: IdleSessions::default(),
            targets: HashMap::new(),
            under_way: FuturesUnordered::new(),
            closing: HashMap::new(),
        }
    }

    /// Runs until `shutdown`, and then closes what is open.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let next = self.sessions.next_timeout();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.news.told.notified() => self.take_news(),
                Some((number, how)) = self.under_way.next(), if !self.under_way.is_empty() => self.over(number, how),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.sessions.handle_timeout(Instant::now());
                }
            }
            self.act();
        }
        self.closing.values().for_each(CancellationToken::cancel);
        let all_closed = async { while self.under_way.next().await.is_some() {} };
        // Who does not answer to QUIT is left.
        let _ = timeout(QUIT_TIMEOUT, all_closed).await;
    }

    fn take_news(&mut self) {
        let pending = std::mem::take(&mut *self.news.lock());
        for (target, TargetNews { is_gone, latest, found, endpoints }) in pending {
            if is_gone {
                self.targets.remove(&target);
                self.handle(IdleInput::Gone { target });
            }
            if let Some(addresses) = endpoints {
                self.handle(IdleInput::Endpoints { target, addresses });
            }
            let Some((prepared, terms)) = latest else { continue };
            let interval = terms.interval;
            self.targets.insert(target, (prepared, terms));
            for (address, (began, finding)) in found {
                self.handle(IdleInput::Found { target, interval, began, address, finding });
            }
        }
    }

    fn over(&mut self, number: u64, how: SessionOver) {
        self.closing.remove(&number);
        if let SessionOver::ByServer(end) = how {
            self.metrics.idle_session_end(end);
        }
        self.handle(IdleInput::Over { number, how });
    }

    fn handle(&mut self, input: IdleInput) {
        self.sessions.handle(Instant::now(), random::unit(), input);
    }

    fn act(&mut self) {
        while let Some(action) = self.sessions.poll() {
            match action {
                IdleAction::Open { number, target, address } => self.open(number, target, address),
                IdleAction::Close { number } => {
                    if let Some(close) = self.closing.get(&number) {
                        close.cancel();
                    }
                }
                IdleAction::Look { target } => self.ended.add(target),
                IdleAction::LeaveOut => {
                    self.metrics.idle_looks_left_out.inc();
                }
            }
        }
    }

    fn open(&mut self, number: u64, target: u64, address: SocketAddr) {
        let Some((prepared, terms)) = self.targets.get(&target).cloned() else {
            return self.handle(IdleInput::Over { number, how: SessionOver::NotOpened });
        };
        let terms = self.for_all(&terms, address);
        let (runner, close) = (self.runner.clone(), CancellationToken::new());
        self.closing.insert(number, close.clone());
        self.under_way
            .push(Box::pin(async move { (number, runner.idle_session(&prepared, &terms, address, &close).await) }));
    }

    /// The terms of a session for all who watch its address.
    // It has a place if any of their namespaces has one left: otherwise whoever comes first, and has filled his share,
    // would keep the others from theirs.
    fn for_all(&self, opener: &IdleTerms, address: SocketAddr) -> IdleTerms {
        let mut namespaces: BTreeSet<Arc<str>> = opener.namespaces.iter().cloned().collect();
        let mut is_used = opener.is_used;
        for (_, terms) in self.sessions.watchers(address).filter_map(|target| self.targets.get(&target)) {
            namespaces.extend(terms.namespaces.iter().cloned());
            is_used |= terms.is_used;
        }
        IdleTerms { namespaces: namespaces.into_iter().collect(), is_used, interval: opener.interval }
    }
}

/// What an outcome says about sessions at its address; `None` if nothing.
fn finding(outcome: &Outcome) -> Option<AddressFinding> {
    if matches!(outcome.class, EvidenceClass::Inconclusive | EvidenceClass::ProbeBlocked) {
        return None;
    }
    match (outcome.class.effect(), outcome.stage) {
        (Effect::Success, _) => Some(AddressFinding::Answers),
        (Effect::Failure | Effect::Neutral, Stage::Banner) => Some(AddressFinding::TurnsAway),
        (Effect::Failure, _) => Some(AddressFinding::Fails),
        (Effect::Neutral, _) => None,
    }
}
