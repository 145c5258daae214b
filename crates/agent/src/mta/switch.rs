//! Carries out switches: reload, flush, and flush again what was on its way meanwhile.
//!
//! The order was measured: a flush without a reload tries the last resolved message on the old way again (a cache of 30 s in the queue
//! manager), and a reload alone leaves what was deferred where it is. Messages that were being delivered during the first flush are
//! skipped by it; they come back into the queue when their attempt ends, which behind a host that hangs is minutes later. So the queue is
//! looked at again, ever more rarely, and flushed whenever it holds anything.
//!
//! A Postfix that does not run, or not yet, is waited for. One that may not be sent signals is only flushed: what it had asked just before
//! goes the old way for the 30 s of that cache, and so a switch there is done with the flush after that.
//!
//! What was done last is kept on disk, so that an agent that was killed between any two steps does them again when it starts.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{MtaError, Postfix};
use crate::core::{Cause, SwitchOrder, SwitchReport};
use crate::metrics::MtaMetrics;
use mail_failover_runtime::backoff::Backoff;

/// No more than so many switches …
const BURST: u32 = 3;
/// … in this time: each makes Postfix start its processes anew.
const WINDOW: Duration = Duration::from_secs(15);
/// Between looks for a Postfix that does not run, or not yet.
const ABSENCE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
/// What Postfix asked last before the switch it has forgotten after so long, without a reload (30 s in `resolve_clnt.c`, in whole seconds).
const FORGOTTEN: Duration = Duration::from_secs(31);
/// When the queue is flushed, after the reload. The second one is for a queue manager that was told just before it ended for the reload;
/// later ones are for messages whose attempt hung: as long as Postfix's longest usual timeout (`smtp_helo_timeout`, 300 s).
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
/// With so many of them after a reload a switch is done: whoever kills the agent now has lost no message to the old way.
const ENOUGH: usize = 2;

/// What is done to an MTA.
pub trait Mta {
    /// See [`Postfix::reload`].
    fn reload(&self) -> impl Future<Output = Result<(), MtaError>> + Send;
    /// See [`Postfix::flush`].
    fn flush(&self) -> impl Future<Output = Result<(), MtaError>> + Send;
    /// See [`Postfix::queued`].
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

/// Something that does not work, said once however often it is tried.
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
    reports: mpsc::Sender<SwitchReport>,
    metrics: MtaMetrics,
    reload_trouble: Trouble,
    flush_trouble: Trouble,
}

impl<M: Mta> Executor<M> {
    /// An executor of the latest of these orders: who orders never waits, and what was overtaken is never carried out. It reports when a
    /// switch is done, and again for each later flush, until the queue is empty. `done` is the file for the mark of the last switch that
    /// was done.
    pub fn new(
        mta: M,
        done: PathBuf,
        orders: watch::Receiver<Option<SwitchOrder>>,
        reports: mpsc::Sender<SwitchReport>,
        metrics: MtaMetrics,
    ) -> Self {
        Self {
            mta,
            done,
            orders,
            reports,
            metrics,
            reload_trouble: Trouble::default(),
            flush_trouble: Trouble::default(),
        }
    }

    /// Runs.
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
                self.report(SwitchReport { done_before: true, ..SwitchReport::begun(order.number) }).await;
            } else {
                began.push_back(Instant::now());
                self.carry_out(&order, arrived).await;
            }
        }
    }

    /// Carries one out, until it is done or a later one comes, whose reload and flush do what is missing.
    async fn carry_out(&mut self, order: &SwitchOrder, arrived: Instant) {
        let mut report = SwitchReport::begun(order.number);
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
                // Not the end: a count can miss a message that moves from folder to folder, and one that hangs is yet to come back.
                if report.queued_after == Some(0) {
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

    /// Reloads, as soon as Postfix runs. Whether it was; nothing when a later order has come meanwhile.
    async fn reloaded(&mut self, order: &SwitchOrder, report: &mut SwitchReport) -> Option<bool> {
        let mut absence = ABSENCE;
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
            if self.overtaken(order, Instant::now() + absence.after_failure()).await {
                return None;
            }
        }
    }

    /// Waits until then, or until a later order comes.
    async fn overtaken(&mut self, order: &SwitchOrder, until: Instant) -> bool {
        tokio::select! {
            () = sleep_until(until) => false,
            _ = newer(&mut self.orders, order.number) => true,
        }
    }

    async fn report(&self, report: SwitchReport) {
        // Who asked is gone: nobody to tell.
        let _ = self.reports.send(report).await;
    }

    /// Atomically: a half-written mark would be none.
    fn remember(&self, mark: &str) -> io::Result<()> {
        let new = self.done.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(mark.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.done)
    }
}

/// The latest order, as soon as it is later than that; nothing when there will be none.
async fn newer(orders: &mut watch::Receiver<Option<SwitchOrder>>, number: u64) -> Option<SwitchOrder> {
    let latest = orders.wait_for(|order| order.as_ref().is_some_and(|order| order.number > number)).await;
    latest.ok().and_then(|order| order.clone())
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
