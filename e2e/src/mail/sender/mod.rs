//! An application that sends mail at a constant rate, and records everything.
//!
//! It makes a connection per message, has a time limit for each attempt, and repeats a failed
//! message soon after, through the endpoints of that moment. Applications with a mail library do
//! the same. It is the worst case for a failover, since no queue hides it. It connects to those
//! endpoints only.

mod client;
mod journal;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use client::{ClientTls, Outcome, Step};
pub use journal::{Attempt, Delivery, Failover, Journal, MAX_ATTEMPTS, MAX_MESSAGES, Totals};

use super::{Error, Result, lock};

/// The placeholder for the message's id in a recipient pattern.
pub const ID: &str = "{id}";

/// Settings of a sender.
#[derive(Clone)]
pub struct SenderOptions {
    /// The interval between messages.
    pub interval: Duration,
    pub from: String,
    /// The envelope recipient. [`ID`] in it makes each message's recipient unique; otherwise an
    /// MTA's cache would decide what is measured.
    pub to: String,
    /// The endpoints that kube-proxy would lead a connection to now: each attempt picks one at
    /// random, as kube-proxy does.
    pub endpoints: watch::Receiver<Vec<SocketAddr>>,
    /// The time limit of the TCP connection.
    pub connect_timeout: Duration,
    /// The time limit of an attempt as a whole, up to the reply to the final dot.
    pub attempt_timeout: Duration,
    /// The time from a failed attempt to the next of the same message, plus or minus half. It does
    /// not grow: an application that keeps its user waiting does not back off.
    /// [`max_concurrent`](Self::max_concurrent) bounds the resulting load.
    pub retry_after: Duration,
    /// The time after which a message that is not accepted is given up. Without it, messages are
    /// given up only at the end.
    pub give_up_after: Option<Duration>,
    /// The limit of messages in progress at a time. While it is reached, no further ones are made,
    /// and those are counted. In an outage each of them tries again every
    /// [`retry_after`](Self::retry_after): too many would measure the machine and not the failover.
    pub max_concurrent: usize,
    /// STARTTLS required and verified; without it, no TLS.
    pub tls: Option<ClientTls>,
}

impl SenderOptions {
    /// Settings with a time limit of a second per attempt, and the next attempt after 20 ms.
    pub fn new(interval: Duration, endpoints: watch::Receiver<Vec<SocketAddr>>) -> Self {
        Self {
            interval,
            from: "app@shop.example".to_owned(),
            to: format!("customer+{ID}@mail.example"),
            endpoints,
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(1),
            retry_after: Duration::from_millis(20),
            give_up_after: None,
            max_concurrent: 128,
            tls: None,
        }
    }

    /// Requires STARTTLS: the certificate must contain `server_name` and be valid for `config`.
    pub fn start_tls(mut self, config: Arc<ClientConfig>, server_name: &str) -> Result<Self> {
        let server_name =
            ServerName::try_from(server_name.to_owned()).map_err(|_| Error::Name(server_name.to_owned()))?;
        self.tls = Some(ClientTls { config, server_name });
        Ok(self)
    }
}

/// Endpoints that do not change.
pub fn fixed(endpoints: Vec<SocketAddr>) -> watch::Receiver<Vec<SocketAddr>> {
    watch::channel(endpoints).1
}

struct SenderState {
    options: SenderOptions,
    journal: Mutex<Journal>,
    totals: watch::Sender<Totals>,
    /// Cancelled when no further attempts are allowed.
    ended: CancellationToken,
}

impl SenderState {
    fn note<T>(&self, note: impl FnOnce(&mut Journal) -> T) -> T {
        let mut journal = lock(&self.journal);
        let noted = note(&mut journal);
        self.totals.send_replace(journal.totals());
        noted
    }
}

/// A running sender. It stops when dropped; [`stop`](Self::stop) also waits for the messages in
/// progress.
pub struct Sender {
    shared: Arc<SenderState>,
    /// Cancelled when no further messages are wanted.
    paused: CancellationToken,
    driver: Option<JoinHandle<()>>,
}

impl Sender {
    /// Starts a sender; the first message is sent at once.
    pub fn start(options: SenderOptions) -> Self {
        let run = format!("{:08x}", fastrand::u32(..));
        let shared = Arc::new(SenderState {
            options,
            journal: Mutex::new(Journal::new(run)),
            totals: watch::Sender::new(Totals::default()),
            ended: CancellationToken::new(),
        });
        let paused = CancellationToken::new();
        let driver = tokio::spawn(drive(shared.clone(), paused.clone()));
        Self { shared, paused, driver: Some(driver) }
    }

    /// The journal so far.
    pub fn journal(&self) -> Journal {
        lock(&self.shared.journal).clone()
    }

    /// The numbers of messages of each kind, now.
    pub fn totals(&self) -> Totals {
        *self.shared.totals.borrow()
    }

    /// The failed attempt with the earliest start, see [`Journal::first_failed_attempt_after`].
    pub fn first_failed_attempt_after(&self, after: Instant) -> Option<Attempt> {
        lock(&self.shared.journal).first_failed_attempt_after(after).cloned()
    }

    /// The attempt that was accepted first, see [`Journal::first_accepted_after`].
    pub fn first_accepted_after(&self, after: Instant) -> Option<Attempt> {
        lock(&self.shared.journal).first_accepted_after(after).cloned()
    }

    /// The failover after a break at `after`, see [`Journal::failover_after`].
    pub fn failover_after(&self, after: Instant) -> Option<Failover> {
        lock(&self.shared.journal).failover_after(after)
    }

    /// Waits for the end of the failover after a break at `after`.
    pub async fn wait_for_failover(&self, after: Instant, within: Duration) -> Result<Failover> {
        let mut totals = self.shared.totals.subscribe();
        let wait = async {
            loop {
                totals.borrow_and_update();
                if let Some(failover) = self.failover_after(after) {
                    return failover;
                }
                // The sender of `totals` lives as long as we do.
                let _ = totals.changed().await;
            }
        };
        let waited = timeout(within, wait).await;
        waited.map_err(|_| self.timeout("a failed send followed by an accepted one", within))
    }

    /// Waits until `is_enough` returns true for the totals.
    pub async fn wait_for(
        &self,
        what: &str,
        within: Duration,
        is_enough: impl FnMut(&Totals) -> bool,
    ) -> Result<Totals> {
        let mut totals = self.shared.totals.subscribe();
        match timeout(within, totals.wait_for(is_enough)).await {
            Ok(Ok(totals)) => Ok(*totals),
            Ok(Err(_)) | Err(_) => Err(self.timeout(what, within)),
        }
    }

    fn timeout(&self, what: &str, within: Duration) -> Error {
        let last = lock(&self.shared.journal).attempts().next_back().map(|attempt| attempt.outcome.to_string());
        let seen = format!("{:?}; the last attempt: {}", self.totals(), last.as_deref().unwrap_or("none"));
        Error::Timeout { what: what.to_owned(), within, seen }
    }

    /// Makes no more messages, gives those in progress `grace` to be accepted, and counts the rest
    /// as lost.
    pub async fn stop(mut self, grace: Duration) -> Journal {
        self.paused.cancel();
        // The driver may just be making one more message, so wait for the driver itself.
        if let Some(mut driver) = self.driver.take()
            && timeout(grace, &mut driver).await.is_err()
        {
            self.shared.ended.cancel();
            let _ = driver.await;
        }
        self.shared.note(Journal::give_up_all);
        self.journal()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.paused.cancel();
        self.shared.ended.cancel();
    }
}

/// Makes messages until paused, and returns when the last of them has ended.
async fn drive(shared: Arc<SenderState>, paused: CancellationToken) {
    let concurrent = Arc::new(Semaphore::new(shared.options.max_concurrent));
    let mut due = interval(shared.options.interval);
    // No burst follows a stall of this machine: each failover is measured under the same load.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deliveries = JoinSet::new();
    while paused.run_until_cancelled(due.tick()).await.is_some() {
        while deliveries.try_join_next().is_some() {}
        let Ok(permit) = concurrent.clone().try_acquire_owned() else {
            shared.note(Journal::hold_back);
            continue;
        };
        let Some(message) = shared.note(Journal::begin) else { continue };
        let shared = shared.clone();
        deliveries.spawn(async move {
            let _permit = permit;
            deliver(&shared, message).await;
        });
    }
    while deliveries.join_next().await.is_some() {}
}

/// Delivers one message: until it is accepted or given up.
async fn deliver(shared: &SenderState, message: usize) {
    let attempts = attempts(shared, message);
    let limit = shared.options.give_up_after.unwrap_or(Duration::MAX);
    let delivered = shared.ended.run_until_cancelled(timeout(limit, attempts)).await;
    if !matches!(delivered, Some(Ok(()))) {
        shared.note(|journal| journal.give_up(message));
    }
}

/// Repeats attempts until one is accepted.
async fn attempts(shared: &SenderState, message: usize) {
    let options = &shared.options;
    let id = lock(&shared.journal).id(message);
    let to = options.to.replace(ID, &id);
    let content = format!(
        "From: <{}>\r\nTo: <{to}>\r\nSubject: Message {message}\r\nMessage-ID: <{id}@sender.test>\r\nX-Message-Id: {id}\r\n\r\n\
         This is message {message}.\r\n",
        options.from
    );
    let outgoing = client::Message {
        from: &options.from,
        to: &to,
        content: &content,
        tls: options.tls.as_ref(),
        connect_timeout: options.connect_timeout,
        timeout: options.attempt_timeout,
    };
    for number in 1.. {
        let endpoint = fastrand::choice(options.endpoints.borrow().iter().copied());
        let started = Instant::now();
        lock(&shared.journal).begin_attempt(message, started);
        let (outcome, farewell) = match endpoint {
            Some(endpoint) => client::send(&outgoing, endpoint).await,
            None => (Outcome::NoEndpoint, None),
        };
        let accepted = outcome.is_accepted();
        shared.note(|journal| {
            // The time is read while the journal is locked, so that attempts are recorded in order.
            let finished = Instant::now();
            journal.record(Attempt { message, number, endpoint, started, finished, outcome });
        });
        if accepted {
            if let Some(farewell) = farewell {
                farewell.say().await;
            }
            return;
        }
        sleep(options.retry_after.mul_f64(0.5 + fastrand::f64())).await;
    }
}
