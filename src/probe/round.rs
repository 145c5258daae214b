//! One round of one probe: look-up, a dialogue with every address at once, and the verdict over all of them.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::admission::{Admitted, admit};
use super::idle::{IdleTerms, SessionOver};
use super::metrics::Metrics;
use super::places::{DialoguePlaces, PlaceRequest};
use super::resolve::{KnownAddresses, Resolver, StartError};
use super::runner::{RoundTerms, Runner};
use super::{ProbeTarget, Settings};
use mail_failover_core::engine::depth_of_look;
use mail_failover_core::model::{
    AddressOutcome, DelayCause, Depth, Destination, Effect, EvidenceClass, Outcome, ProbeDelay, ProbeLogin,
    ProbeReport, Resolution, SmtpHost, Stage, TlsMode,
};
use mail_failover_replies::Rulebook;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_smtp::dialogue::{DialoguePlan, PendingQuit, SessionEnd, run_session};
use mail_failover_smtp::message::{MAX_MESSAGE, bounded, message};
use mail_failover_smtp::tls::{TlsSetupError, TlsSetups};

/// Most addresses that a round tries. If there are more, each round tries the next ones.
pub const MAX_ADDRESSES: usize = 16;
/// Bounds on the time that a dialogue waits for its turn: the probe's interval, but not less and not more than these.
// Beyond it the round says so, instead of nothing at all.
const PATIENCE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_mins(1);
/// Shortest wait for which a round counts as late, beside half its interval.
const LATE: Duration = Duration::from_secs(1);

/// A target with everything that stays the same from round to round.
#[derive(Debug)]
pub struct PreparedTarget {
    pub target: ProbeTarget,
    /// Number of the target, for its place on the floor.
    number: u64,
    /// Turn to ask for a place.
    // One dialogue of a target asks at a time, so that no more wait than there are targets.
    turn: tokio::sync::Mutex<()>,
    /// An error if there can be no dialogue.
    plan: Result<DialoguePlan, TlsSetupError>,
}

/// Runner of rounds over the network.
pub struct Rounds {
    resolver: Resolver,
    setups: TlsSetups,
    places: DialoguePlaces,
    numbers: AtomicU64,
    ehlo_name: Option<Arc<str>>,
    guard: DialGuard,
    clock: Clock,
    metrics: Metrics,
}

impl Rounds {
    /// Creates the runner.
    ///
    /// # Errors
    /// DNS is not configured, or the name for EHLO cannot be sent.
    pub fn new(settings: &Settings, clock: Clock, metrics: Metrics) -> Result<Self, StartError> {
        if let Some(name) = settings.ehlo_name.as_deref()
            && (name.is_empty() || name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(StartError::EhloName(name.to_owned()));
        }
        Ok(Self {
            resolver: Resolver::new(settings, metrics.clone())?,
            setups: TlsSetups::default(),
            places: DialoguePlaces::new(settings.concurrency.max(1), metrics.clone()),
            numbers: AtomicU64::new(0),
            ehlo_name: settings.ehlo_name.as_deref().map(Into::into),
            guard: settings.guard.clone(),
            clock,
            metrics,
        })
    }

    /// Waits until every connection has been closed.
    pub async fn wait_for_quits(&self) {
        self.places.wait_until_empty().await;
    }

    async fn addresses(&self, target: &ProbeTarget, known: &Mutex<KnownAddresses>) -> (Resolution, Vec<SocketAddr>) {
        match &target.destination {
            Destination::Service(service) => (Resolution::NotNeeded, service.endpoints.clone()),
            Destination::Host(SmtpHost { host, port }) => {
                if let Ok(address) = host.parse::<IpAddr>() {
                    return (Resolution::NotNeeded, vec![SocketAddr::new(address, *port)]);
                }
                let mut now = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let resolution = self.resolver.resolve(host, *port, &mut now, target.timeout).await;
                let addresses = match resolution {
                    // Whoever is told the name does not come as far.
                    Resolution::NameSilent(_) => vec![],
                    Resolution::NotNeeded
                    | Resolution::Addresses(_)
                    | Resolution::Negative(_)
                    | Resolution::Unanswered(_) => now.addresses(*port),
                };
                *known.lock().unwrap_or_else(PoisonError::into_inner) = now;
                (resolution, addresses)
            }
        }
    }

    /// Sorts out the addresses that no dialogue is begun with.
    fn admit(&self, destination: &Destination, addresses: &[SocketAddr]) -> Admitted {
        let admitted = admit(&self.guard, destination, addresses);
        for refusal in &admitted.refusals {
            self.metrics.refused_destination(refusal.rule());
        }
        admitted
    }

    async fn dialogue(
        &self,
        prepared: &PreparedTarget,
        plan: &DialoguePlan,
        terms: &RoundTerms,
        address: SocketAddr,
    ) -> Dialogue {
        let request = PlaceRequest {
            namespaces: terms.namespaces.clone(),
            probe: prepared.number,
            is_used: terms.is_used,
            address,
            logs_in: logs_in(plan),
        };
        let began = Instant::now();
        let until = began + terms.interval.clamp(*PATIENCE.start(), *PATIENCE.end());
        // The place comes first: waiting for our own bound must not count as the backend's silence.
        let entered = match timeout_at(until, prepared.turn.lock()).await {
            Ok(_turn) => self.places.enter(&request, until).await.map_err(Some),
            Err(_) => Err(None),
        };
        let (place, cause) = match entered {
            Ok(entered) => entered,
            Err(cause) => {
                let why = cause.map_or("the dialogues before it had no turn", DelayCause::explanation);
                let what = format!("not tried for {:.0?}: {why}", began.elapsed());
                let outcome = outcome(EvidenceClass::Inconclusive, Stage::Connect, &what);
                let delay = cause.map(|cause| ProbeDelay { cause, waited: began.elapsed() });
                return Dialogue { at: AddressOutcome { address, outcome }, is_starved: false, delay };
            }
        };
        let delay = cause.map(|cause| ProbeDelay { cause, waited: began.elapsed() });
        let gauge = DialogueGauge::new(&self.metrics);
        let SessionEnd { outcome, pending_quit, is_starved } = run_session(plan, address).await;
        if is_starved {
            self.metrics.starved_dialogues.inc();
        }
        if let Some(pending_quit) = pending_quit {
            // The outcome does not wait for QUIT, the socket's place does.
            tokio::spawn(async move {
                pending_quit.send().await;
                drop((place, gauge));
            });
        }
        Dialogue { at: AddressOutcome { address, outcome }, is_starved, delay }
    }
}

impl Rounds {
    /// Opens a session that is to be idle: to EHLO, and in TLS only if the server speaks nothing else.
    async fn open_idle(
        &self,
        plan: &DialoguePlan,
        request: &PlaceRequest,
        until: Instant,
    ) -> Result<PendingQuit, SessionOver> {
        let _place = self.places.enter(request, until).await.map_err(|_| SessionOver::NoPlace)?;
        let SessionEnd { outcome, pending_quit, is_starved: _ } = run_session(plan, request.address).await;
        let session = pending_quit.ok_or(SessionOver::NotOpened)?;
        if outcome.class == EvidenceClass::Ok {
            return Ok(session);
        }
        session.send().await;
        Err(SessionOver::NotOpened)
    }
}

/// A dialogue of a round that is over.
struct Dialogue {
    at: AddressOutcome,
    /// True if this process looked at a deadline too late.
    is_starved: bool,
    /// Wait for its turn.
    delay: Option<ProbeDelay>,
}

impl Runner for Rounds {
    type Prepared = PreparedTarget;

    fn prepare(&self, target: ProbeTarget) -> PreparedTarget {
        let plan = self.setups.setup(&target.tls).map(|tls| DialoguePlan {
            ehlo_name: self.ehlo_name.clone(),
            mode: target.tls.mode,
            tls,
            server_name: target.tls.server_name.clone(),
            depth: target.depth,
            envelope: target.envelope.clone(),
            login: target.login.clone(),
            postponed_login: None,
            timeout: target.timeout,
            // What cannot work was refused when the spec was read.
            rulebook: Arc::new(Rulebook::new(&target.replies).0),
        });
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        PreparedTarget { target, number, turn: tokio::sync::Mutex::default(), plan }
    }

    fn target(prepared: &PreparedTarget) -> &ProbeTarget {
        &prepared.target
    }

    async fn run(&self, prepared: &PreparedTarget, terms: RoundTerms, known: &Mutex<KnownAddresses>) -> ProbeReport {
        let sequence = terms.sequence;
        let started_at = self.clock.now();
        let started = Instant::now();
        let target = &prepared.target;
        let (resolution, all) = self.addresses(target, known).await;
        let admitted = self.admit(&target.destination, &all);
        let all = &admitted.addresses;
        let dialogues = match &prepared.plan {
            Ok(plan) => {
                let postponed = terms.postponed_login.clone();
                let without_login =
                    postponed.map(|why| Box::new(DialoguePlan { postponed_login: Some(why), ..plan.clone() }));
                let shallow = terms.is_look.then(|| Box::new(look(plan)));
                let plan = shallow.as_deref().or(without_login.as_deref()).unwrap_or(plan);
                let chosen = in_turn(all, sequence);
                self.metrics.skipped_addresses.inc_by((all.len() - chosen.len()) as u64);
                match chosen.as_slice() {
                    [address] => vec![self.dialogue(prepared, plan, &terms, *address).await],
                    chosen => {
                        join_all(chosen.iter().map(|address| self.dialogue(prepared, plan, &terms, *address))).await
                    }
                }
            }
            Err(_) => vec![],
        };
        let delay = delay(&dialogues, terms.interval);
        if let Some(delay) = delay {
            self.metrics.late_round(delay.cause);
        }
        let addresses = without_blame(dialogues);
        let outcome = match &prepared.plan {
            Ok(_) => match admitted.refusal() {
                Some(refusal) => outcome(EvidenceClass::ProbeBlocked, Stage::Connect, &refusal),
                None => verdict(&target.destination, &resolution, &addresses),
            },
            Err(error) => outcome(EvidenceClass::Inconclusive, handshake_stage(target.tls.mode), &error.to_string()),
        };
        self.metrics.round(outcome.class, started.elapsed());
        ProbeReport {
            key: target.key.clone(),
            revision: target.revision,
            sequence,
            started_at,
            finished_at: self.clock.now(),
            resolution,
            addresses,
            outcome,
            delay,
            is_extra: false,
        }
    }

    async fn idle_session(
        &self,
        prepared: &PreparedTarget,
        terms: &IdleTerms,
        address: SocketAddr,
        close: &CancellationToken,
    ) -> SessionOver {
        let target = &prepared.target;
        let Ok(plan) = &prepared.plan else { return SessionOver::NotOpened };
        if self.admit(&target.destination, &[address]).addresses.is_empty() {
            return SessionOver::NotOpened;
        }
        // A look that began before may have found one that has left since.
        if matches!(&target.destination, Destination::Service(service) if !service.endpoints.contains(&address)) {
            return SessionOver::NotOpened;
        }
        let (namespaces, is_used) = (terms.namespaces.clone(), terms.is_used);
        let request = PlaceRequest { namespaces, probe: prepared.number, is_used, address, logs_in: false };
        let Some(_place) = self.places.keep_idle(&request) else {
            self.metrics.idle_session_refusals.inc();
            return SessionOver::NoPlace;
        };
        let plan = DialoguePlan { depth: Depth::Ehlo, login: ProbeLogin::None, postponed_login: None, ..plan.clone() };
        let until = Instant::now() + terms.interval.clamp(*PATIENCE.start(), *PATIENCE.end());
        let opened = close.run_until_cancelled(self.open_idle(&plan, &request, until)).await;
        let session = match opened {
            None => return SessionOver::Closed,
            Some(Err(over)) => {
                self.metrics.idle_session_failures.inc();
                return over;
            }
            Some(Ok(session)) => session,
        };
        let _gauge = IdleGauge::new(&self.metrics);
        match session.idle(close.cancelled()).await {
            Some(end) => SessionOver::ByServer(end),
            None => SessionOver::Closed,
        }
    }
}

struct IdleGauge(Metrics);

impl IdleGauge {
    fn new(metrics: &Metrics) -> Self {
        metrics.idle_sessions.inc();
        Self(metrics.clone())
    }
}

impl Drop for IdleGauge {
    fn drop(&mut self) {
        self.0.idle_sessions.dec();
    }
}

struct DialogueGauge(Metrics);

impl DialogueGauge {
    fn new(metrics: &Metrics) -> Self {
        metrics.dialogues.inc();
        Self(metrics.clone())
    }
}

impl Drop for DialogueGauge {
    fn drop(&mut self) {
        self.0.dialogues.dec();
    }
}

/// The plan of a look beside those at the interval.
// ADR-0112: Nothing from AUTH on is tried faster than the interval.
fn look(plan: &DialoguePlan) -> DialoguePlan {
    DialoguePlan { depth: depth_of_look(plan.depth, plan.mode), ..plan.clone() }
}

/// Returns true if a dialogue gets as far as a log-in.
fn logs_in(plan: &DialoguePlan) -> bool {
    let has_login = match plan.login {
        ProbeLogin::With(_) => true,
        ProbeLogin::None | ProbeLogin::Missing { .. } => false,
    };
    has_login && plan.depth >= Depth::Auth && plan.postponed_login.is_none()
}

/// The longest wait of a round's dialogues for their turn, if it makes the round late.
fn delay(dialogues: &[Dialogue], interval: Duration) -> Option<ProbeDelay> {
    let longest = dialogues.iter().filter_map(|dialogue| dialogue.delay).max_by_key(|delay| delay.waited)?;
    (longest.waited >= LATE.max(interval / 2)).then_some(longest)
}

fn handshake_stage(mode: TlsMode) -> Stage {
    match mode {
        TlsMode::Implicit => Stage::ImplicitTls,
        TlsMode::None | TlsMode::Opportunistic | TlsMode::StartTls => Stage::StartTls,
    }
}

/// The addresses that this round tries, sorted: all of them, or a window that moves on with every round.
fn in_turn(all: &[SocketAddr], sequence: u64) -> Vec<SocketAddr> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() > MAX_ADDRESSES {
        let rounds = usize::try_from(sequence.saturating_sub(1) % sorted.len() as u64).unwrap_or(0);
        let start = rounds * MAX_ADDRESSES % sorted.len();
        sorted.rotate_left(start);
        sorted.truncate(MAX_ADDRESSES);
        sorted.sort_unstable();
    }
    sorted
}

/// The outcomes of a round's dialogues. If this process looked at a deadline too late in one of
/// them, silence in another one may be of the same origin.
fn without_blame(dialogues: Vec<Dialogue>) -> Vec<AddressOutcome> {
    let starved = dialogues.iter().find(|dialogue| dialogue.is_starved).map(|dialogue| dialogue.at.outcome.clone());
    let mut addresses: Vec<_> = dialogues.into_iter().map(|dialogue| dialogue.at).collect();
    if let Some(starved) = starved {
        for at in addresses.iter_mut().filter(|at| at.outcome.class == EvidenceClass::NoAnswer) {
            let what = format!("{}; in another dialogue of this round {}", at.outcome.message, starved.message);
            at.outcome.class = EvidenceClass::Inconclusive;
            at.outcome.message = bounded(&what, MAX_MESSAGE);
        }
    }
    addresses
}

/// The verdict of a round over its addresses, in this order:
///
/// 1. success, if any address succeeded,
/// 2. a neutral class, if an address is alive and only asks for less,
/// 3. the failure that came furthest in the dialogue; of equals the first by class, then by address,
/// 4. `Inconclusive`, if no address could be tried from here.
fn verdict(destination: &Destination, resolution: &Resolution, addresses: &[AddressOutcome]) -> Outcome {
    outcome_over(addresses).unwrap_or_else(|| without_addresses(destination, resolution))
}

/// The outcome of a round over these addresses; `None` without any.
pub fn outcome_over(addresses: &[AddressOutcome]) -> Option<Outcome> {
    let telling = addresses.iter().min_by_key(|at| rank(at))?;
    let mut outcome = telling.outcome.clone();
    outcome.certificate_not_after = addresses.iter().filter_map(|at| at.outcome.certificate_not_after.clone()).min();
    if addresses.len() > 1 && outcome.class != EvidenceClass::Ok {
        let place = format!(" (at {}, the most telling of {} addresses)", telling.address, addresses.len());
        outcome.message = bounded(&outcome.message, MAX_MESSAGE - place.len()) + &place;
    }
    Some(outcome)
}

/// Order of the addresses of a round, the one that decides the verdict first.
fn rank(at: &AddressOutcome) -> (u8, Reverse<Stage>, EvidenceClass, SocketAddr) {
    let AddressOutcome { address, outcome } = at;
    let effect = match (outcome.class.effect(), outcome.class) {
        (Effect::Success, _) => 0,
        (Effect::Neutral, EvidenceClass::Inconclusive) => 3,
        (Effect::Neutral, _) => 1,
        (Effect::Failure, _) => 2,
    };
    // A server that answers 554 tells more than a neighbour that refuses connections.
    (effect, Reverse(outcome.stage), outcome.class, *address)
}

fn without_addresses(destination: &Destination, resolution: &Resolution) -> Outcome {
    match (destination, resolution) {
        (Destination::Service(service), _) => {
            outcome(EvidenceClass::NoEndpoints, Stage::Resolve, &format!("{} has no ready endpoint", service.dns_name))
        }
        (Destination::Host(_), Resolution::Negative(why) | Resolution::NameSilent(why)) => {
            outcome(EvidenceClass::Unresolvable, Stage::Resolve, why)
        }
        (Destination::Host(_), Resolution::Unanswered(why)) => {
            outcome(EvidenceClass::Inconclusive, Stage::Resolve, why)
        }
        (Destination::Host(_), Resolution::NotNeeded | Resolution::Addresses(_)) => {
            outcome(EvidenceClass::Inconclusive, Stage::Resolve, "nothing to try")
        }
    }
}

fn outcome(class: EvidenceClass, stage: Stage, what: &str) -> Outcome {
    Outcome { class, stage, message: message(stage, what), certificate_not_after: None, elapsed: Duration::ZERO }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
