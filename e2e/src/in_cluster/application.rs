//! The application that runs in a pod, and what it was told.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::shop::{Shop, WAIT_TIMEOUT};
use crate::eventually::eventually;

/// The application that runs in a pod.
pub struct Application<'a> {
    pub(super) shop: &'a Shop,
    pub(super) per_second: u32,
}

/// The totals that the application's pod printed at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationTotals {
    /// Messages that Postfix took.
    pub accepted: usize,
    /// Refusals; a refused message was offered again.
    pub refusals: usize,
    /// Messages of which it is unknown if Postfix took them.
    pub unknown: usize,
    /// The whole output of the pod.
    pub text: String,
}

impl ApplicationTotals {
    /// Parses `accepted N refusals N unknown N`; more may follow.
    fn parse(text: &str) -> Result<Self> {
        let line = text.lines().next().unwrap_or_default();
        let words: Vec<_> = line.split(' ').collect();
        let ["accepted", accepted, "refusals", refusals, "unknown", unknown] = words[..] else {
            bail!("the application's pod said {text}")
        };
        Ok(Self {
            accepted: accepted.parse()?,
            refusals: refusals.parse()?,
            unknown: unknown.parse()?,
            text: text.to_owned(),
        })
    }

    /// Returns true if every message was taken at once.
    pub fn is_smooth(&self) -> bool {
        self.refusals == 0 && self.unknown == 0
    }
}

impl Application<'_> {
    /// Tells the application to stop once this many messages are accepted, and waits until all that
    /// it began are accepted.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub async fn finish(self, at_least: usize) -> Result<ApplicationTotals> {
        let env = &self.shop.env;
        let due = Duration::from_secs(u64::try_from(at_least)? / u64::from(self.per_second.max(1)));
        eventually(due + WAIT_TIMEOUT * 2, &format!("{at_least} messages to be accepted"), async || {
            let accepted = self.shop.record("application")?.len();
            ensure!(accepted >= at_least, "{accepted}");
            Ok(Some(()))
        })
        .await?;
        std::fs::write(self.shop.enough(), "")?;
        let begun = Instant::now();
        let phase = loop {
            let phase = env.kubectl(&["get", "pod", "application", "--output=jsonpath={.status.phase}"]).await?;
            if ["Succeeded", "Failed"].contains(&phase.as_str()) {
                break phase;
            }
            ensure!(begun.elapsed() < WAIT_TIMEOUT * 4, "the application's pod is {phase}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let said = env.kubectl(&["logs", "application"]).await?;
        ensure!(phase == "Succeeded", "the application's pod: {said}");
        ApplicationTotals::parse(said.trim())
    }
}
