//! Executor of switches: reload, flush, and further flushes for the messages that were on their way meanwhile.
//!
//! The order was measured. A flush without a reload tries the last resolved message on the old way again (a cache of 30
//! s in the queue manager). A reload alone leaves the deferred messages where they are. A flush skips the messages that
//! are being delivered. They come back into the queue when their attempt ends; behind a host that hangs that is minutes
//! later. So the queue is looked at again, ever more rarely, and flushed whenever it holds anything.
//!
//! A Postfix that does not run, or not yet, is waited for. A Postfix that may not be sent signals is only flushed: its
//! last answer goes the old way for the 30 s of that cache, so a switch there is done with the flush after that.
//!
//! The mark of the last switch is saved on disk. An agent that was killed between any two steps repeats them when it
//! starts.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use mail_failover_runtime::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{MtaError, Postfix};
use crate::metrics::MtaMetrics;
use mail_failover_dataplane::core::{Cause, SwitchOrder, SwitchProgress};

/// Number of switches that are carried out at once within [`WINDOW`].
const BURST: u32 = 3;
/// Time to which [`BURST`] applies.
// Each switch makes Postfix start its processes anew.
const WINDOW: Duration = Duration::from_secs(15);
/// Pause between two looks for a Postfix that does not run, or not yet.
const RELOAD_RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
/// Age of Postfix's last answer when it is forgotten without a reload (30 s in `resolve_clnt.c`, in whole seconds).
const FORGOTTEN: Duration = Duration::from_secs(31);
/// Times of the flushes, after the reload. The second is for a queue manager that was told just before it ended for the
/// reload. Later ones are for messages whose attempt hung: as long as Postfix's longest usual timeout
/// (`smtp_helo_timeout`, 300 s).
// ADR-0058: A switch flushes the queue up to ten times.
const FLUSHES: [Duration; 10] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    FORGOTTEN,
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_secs(210),
    Duration::from_secs(310),
];
/// Times of the flushes after a start that has nothing to switch. Messages go on being deferred for a moment: Postfix's
/// processes connect to the socket anew.
const FLUSHES_AFTER_ABSENCE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10)];
/// Number of flushes after a reload with which a switch is done. If the agent is killed after them, no message goes the
/// old way.
const ENOUGH: usize = 2;

/// Work on an MTA, as the executor needs it.
pub trait Mta {
    /// Reloads the MTA; see [`Postfix::reload`].
    fn reload(&self) -> impl Future<Output = Result<(), MtaError>> + Send;
    /// Flushes the queue; see [`Postfix::flush`].
    fn flush(&self) -> impl Future<Output = Result<(), MtaError>> + Send;
    /// Counts the waiting messages; see [`Postfix::queued`].
    fn queued(&self) -> impl Future<Output = Option<u64>> + Send;
}

impl Mta for Postfix {
    async fn reload(&self) -> Result<(), MtaError> {
        Postfix::reload(self).await.map(drop)
    }

    async fn flush(&self) -> Result<(), MtaError> {
        Postfix::flush(self).await.map(drop)
    }

    async fn queued(&self) -> Option<u64> {
        Postfix::queued(self).await
    }
}

/// Problem that is logged once, however often it comes up.
#[derive(Debug, Default)]
struct Trouble(Option<&'static str>);

impl Trouble {
    fn tell(&mut self, error: &MtaError, consequence: &'static str) {
        if self.0.replace(consequence) != Some(consequence) {
            tracing::warn!(%error, "{consequence}");
        }
    }

    fn over(&mut self, news: &str) {
        if self.0.take().is_some() {
            tracing::info!("{news}");
        }
    }
}

/// Carries out orders until their sender is gone.
#[derive(Debug)]
pub struct Executor<M> {
    mta: M,
    done: PathBuf,
    orders: watch::Receiver<Option<SwitchOrder>>,
    throttled: watch::Receiver<bool>,
    reports: mpsc::Sender<SwitchProgress>,
    metrics: MtaMetrics,
    reload_trouble: Trouble,
    flush_trouble: Trouble,
}

impl<M: Mta> Executor<M> {
    /// Creates an executor of the latest of these orders. The sender of an order never waits, and an order that was
    /// overtaken is never carried out. The executor reports when a switch is done, and again for each later flush,
    /// until the queue is empty. While a backend of the messages is `throttled`, a switch that is done flushes no more.
    /// `done` is the file for the mark of the last switch that was done.
    pub fn new(
        mta: M,
        done: PathBuf,
        orders: watch::Receiver<Option<SwitchOrder>>,
        throttled: watch::Receiver<bool>,
        reports: mpsc::Sender<SwitchProgress>,
        metrics: MtaMetrics,
    ) -> Self {
        Self {
            mta,
            done,
            orders,
            throttled,
            reports,
            metrics,
            reload_trouble: Trouble::default(),
            flush_trouble: Trouble::default(),
        }
    }

    /// Runs until the sender of the orders is gone.
    pub async fn run(mut self) {
        let mut began: VecDeque<Instant> = VecDeque::new();
        let mut carried_out = 0;
        while let Some(first) = newer(&mut self.orders, carried_out).await {
            let arrived = Instant::now();
            if began.len() >= BURST as usize
                && let Some(earliest) = began.pop_front().map(|earlier| earlier + WINDOW).filter(|at| *at > arrived)
            {
                self.metrics.delayed.inc();
                sleep_until(earliest).await;
            }
            let order = newer(&mut self.orders, carried_out).await.unwrap_or(first);
            self.metrics.superseded.inc_by(order.number - carried_out - 1);
            carried_out = order.number;
            if order.cause == Cause::Start && fs::read_to_string(&self.done).is_ok_and(|done| done == order.mark) {
                self.report(SwitchProgress { done_before: true, ..SwitchProgress::begun(order.number) }).await;
                self.flush_after_absence(&order).await;
            } else {
                began.push_back(Instant::now());
                self.carry_out(&order, arrived).await;
            }
        }
    }

    /// Carries out one order, until it is done or a later one comes, whose reload and flush do the rest.
    async fn carry_out(&mut self, order: &SwitchOrder, arrived: Instant) {
        let mut report = SwitchProgress::begun(order.number);
        report.queued_before = self.mta.queued().await;
        let Some(reloaded) = self.reloaded(order, &mut report).await else { return };
        let told = Instant::now();
        let (mut flushed, mut remembered) = (0, false);
        for after in FLUSHES {
            if self.overtaken(order, told + after).await {
                return;
            }
            if remembered {
                report.queued_after = self.mta.queued().await;
                self.report(report.clone()).await;
                // Not the end: a count can miss a message that moves from folder to folder, and one that hangs is yet
                // to come back.
                if report.queued_after == Some(0) {
                    continue;
                }
                // Whoever asks for less mail must not be offered again at once what it has not taken.
                if *self.throttled.borrow() {
                    self.metrics.spared_flushes.inc();
                    continue;
                }
            }
            match self.mta.flush().await {
                Ok(()) => {
                    self.flush_trouble.over("Postfix's queue is flushed again");
                    flushed += 1;
                }
                Err(error) => {
                    report.trouble("flush", &error);
                    self.flush_trouble.tell(
                        &error,
                        "Postfix's queue cannot be flushed; it is tried again, and else mail waits as long as it did",
                    );
                    continue;
                }
            }
            if flushed == 1 {
                report.took = arrived.elapsed();
                self.metrics.switched(order.cause.as_str(), report.took.as_secs_f64());
                self.report(report.clone()).await;
            }
            let is_done = flushed >= ENOUGH && (reloaded || after >= FORGOTTEN);
            if is_done && !remembered {
                remembered = true;
                if let Err(error) = self.remember(&order.mark) {
                    report.trouble(&self.done.display().to_string(), &error);
                    tracing::warn!(path = %self.done.display(), %error, "that a switch is done cannot be kept; it is done again at the next start");
                }
            }
        }
        report.queued_after = self.mta.queued().await;
        self.report(report).await;
    }

    /// Flushes what was deferred because nobody answered while the agent was away, until a later order comes. It waits
    /// for `minimal_backoff_time` otherwise.
    async fn flush_after_absence(&mut self, order: &SwitchOrder) {
        let began = Instant::now();
        for after in FLUSHES_AFTER_ABSENCE {
            if self.overtaken(order, began + after).await {
                return;
            }
            if self.mta.queued().await == Some(0) {
                continue;
            }
            if let Err(error) = self.mta.flush().await {
                self.flush_trouble.tell(&error, "what was deferred while the agent was away waits as long as it did");
            }
        }
    }

    /// Reloads as soon as Postfix runs. Returns true if it was reloaded, and `None` if a later order has come
    /// meanwhile.
    async fn reloaded(&mut self, order: &SwitchOrder, report: &mut SwitchProgress) -> Option<bool> {
        let mut retry = RELOAD_RETRY;
        loop {
            let error = match self.mta.reload().await {
                Ok(()) => {
                    self.reload_trouble.over("Postfix runs and is reloaded");
                    return Some(true);
                }
                Err(error) => error,
            };
            let is_news = report.trouble("reload", &error);
            if !matches!(error, MtaError::NotRunning(_)) {
                self.reload_trouble
                    .tell(&error, "Postfix is not reloaded: what it asked last goes the old way for up to 30 s");
                return Some(false);
            }
            self.reload_trouble.tell(&error, "mail goes another way as soon as Postfix runs");
            if is_news {
                self.report(report.clone()).await;
            }
            if self.overtaken(order, Instant::now() + retry.after_failure()).await {
                return None;
            }
        }
    }

    /// Waits until then, or until a later order comes. Returns true in the second case.
    async fn overtaken(&mut self, order: &SwitchOrder, until: Instant) -> bool {
        tokio::select! {
            () = sleep_until(until) => false,
            _ = newer(&mut self.orders, order.number) => true,
        }
    }

    async fn report(&self, report: SwitchProgress) {
        // Fails only if the receiver is gone, at the end of the process.
        let _ = self.reports.send(report).await;
    }

    /// Saves a mark in one step: a half-written mark would be none.
    fn remember(&self, mark: &str) -> io::Result<()> {
        let new = self.done.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(mark.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.done)
    }
}

/// Waits for an order after this number and returns the latest. `None` if there will be none.
async fn newer(orders: &mut watch::Receiver<Option<SwitchOrder>>, number: u64) -> Option<SwitchOrder> {
    let latest = orders.wait_for(|order| order.as_ref().is_some_and(|order| order.number > number)).await;
    latest.ok().and_then(|order| order.clone())
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
