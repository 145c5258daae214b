use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Health, Judgement, Observation};
use crate::model::{EvidenceClass, ProbeReport, Thresholds, Timestamp};

/// The verdict about a backend, over all its probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The worst of its probes': Unhealthy before Unknown before Healthy.
    pub health: Health,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub class: EvidenceClass,
    /// What was seen, for people.
    pub message: String,
    /// When the first observation of the run of failures was begun; `None` unless Unhealthy.
    pub first_failure_at: Option<Timestamp>,
    /// c
    pub confirmed_at: Option<Timestamp>,
    /// t
    pub is_throttled: bool,
    /// f
    pub failures: u32,
}

/// What is known of one backend, judged once for each set of thresholds in use.
///
/// Routes with equal thresholds share a judgement; ten thousand backends under one policy keep one each.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    judged: BTreeMap<Thresholds, Judged>,
}

#[derive(Clone, Debug, Default)]
struct Judged {
    probes: BTreeMap<Arc<str>, Judgement>,
    /// Kept only for backends with several addresses, to leave out of a Service those that fail while others work.
    addresses: BTreeMap<(Arc<str>, SocketAddr), Judgement>,
}

impl Evidence {
    /// Says which thresholds and probes are in use. Thresholds and probes that are new start from the verdict that stood before;
    /// those no longer in use are forgotten. Returns whether anything changed.
    pub fn track(&mut self, thresholds: &BTreeSet<Thresholds>, probes: &[Arc<str>], now: Timestamp) -> bool {
        let unchanged = self.judged.keys().eq(thresholds.iter())
            && self.judged.values().all(|judged| {
                judged.probes.len() == probes.len() && probes.iter().all(|probe| judged.probes.contains_key(probe))
            });
        if unchanged {
            return false;
        }
        let before = self.judged.values().next().cloned();
        self.judged.retain(|key, _| thresholds.contains(key));
        for key in thresholds {
            let judged = self.judged.entry(*key).or_default();
            judged.probes.retain(|probe, _| probes.contains(probe));
            judged.addresses.retain(|(probe, _), _| probes.contains(probe));
            for probe in probes {
                judged.probes.entry(probe.clone()).or_insert_with(|| {
                    let earlier = before.as_ref().and_then(|before| before.probes.get(probe));
                    earlier.map_or_else(|| Judgement::unknown(now), Judgement::carried_over)
                });
            }
        }
        true
    }

    /// Takes over what an earlier leader wrote down about a probe.
    pub fn adopt_probe(&mut self, probe: &str, earlier: &Judgement) {
        for judged in self.judged.values_mut() {
            if let Some(judgement) = judged.probes.get_mut(probe) {
                judgement.adopt(earlier);
            }
        }
    }

    /// Takes over the verdict that an earlier leader wrote down for a route with these thresholds, unless what is known of the probes says
    /// the same already.
    pub fn adopt_verdict(&mut self, thresholds: Thresholds, earlier: &Judgement) {
        let Some(judged) = self.judged.get_mut(&thresholds) else { return };
        if judged.verdict().is_some_and(|verdict| (verdict.health, verdict.since) == (earlier.health, earlier.since)) {
            return;
        }
        for judgement in judged.probes.values_mut() {
            judgement.adopt(earlier);
        }
    }

    /// Forgets everything: the backend is another host now.
    pub fn reset(&mut self, now: Timestamp) {
        for judged in self.judged.values_mut() {
            judged.addresses.clear();
            for judgement in judged.probes.values_mut() {
                *judgement = Judgement::unknown(now);
            }
        }
    }

    /// Takes a round into account. Returns whether any verdict changed.
    pub fn observe(&mut self, report: &ProbeReport) -> bool {
        let mut changed = false;
        for (thresholds, judged) in &mut self.judged {
            let Some(judgement) = judged.probes.get_mut(&report.key.probe) else { continue };
            let (class, message) = (report.outcome.class, report.outcome.message.as_str());
            changed |= judgement.observe(*thresholds, observation(report, class, message));
            changed |= judged.observe_addresses(*thresholds, report);
        }
        changed
    }

    /// Whether every probe has been heard of since this process began.
    pub fn is_observed(&self) -> bool {
        self.judged.values().all(|judged| judged.probes.values().all(Judgement::is_observed))
    }

    /// The verdict under these thresholds; `None` when they are not tracked.
    pub fn verdict(&self, thresholds: Thresholds) -> Option<Verdict> {
        self.judged.get(&thresholds).and_then(Judged::verdict)
    }

    /// The worst verdict under any thresholds in use.
    pub fn worst(&self) -> Option<(Verdict, &BTreeMap<Arc<str>, Judgement>)> {
        self.judged
            .values()
            .filter_map(|judged| judged.verdict().map(|verdict| (verdict, &judged.probes)))
            .max_by_key(|(verdict, _)| severity(verdict.health))
    }

    /// Whether an address is known to fail although it is one of several.
    pub fn is_failing_address(&self, thresholds: Thresholds, address: SocketAddr) -> bool {
        self.judged.get(&thresholds).is_some_and(|judged| {
            judged.addresses.iter().any(|((_, at), judgement)| *at == address && judgement.health == Health::Unhealthy)
        })
    }
}

impl Judged {
    fn observe_addresses(&mut self, thresholds: Thresholds, report: &ProbeReport) -> bool {
        let probe = &report.key.probe;
        let present = |address: &SocketAddr| report.addresses.iter().any(|outcome| outcome.address == *address);
        self.addresses.retain(|(of, address), _| of != probe || present(address));
        if report.addresses.len() < 2 {
            return false;
        }
        let mut changed = false;
        for at in &report.addresses {
            let judgement = self
                .addresses
                .entry((probe.clone(), at.address))
                .or_insert_with(|| Judgement::unknown(report.started_at));
            changed |= judgement.observe(thresholds, observation(report, at.outcome.class, ""));
        }
        changed
    }

    fn verdict(&self) -> Option<Verdict> {
        let worst = severity(self.probes.values().map(|judgement| judgement.health).max_by_key(|h| severity(*h))?);
        let of_worst = self.probes.values().filter(|judgement| severity(judgement.health) == worst);
        // The first to fail tells since when the backend has failed; the last to recover since when it is whole.
        let telling = match of_worst.clone().next()?.health {
            Health::Unhealthy => of_worst.min_by_key(|judgement| judgement.since)?,
            Health::Healthy | Health::Degraded | Health::Unknown => of_worst.max_by_key(|judgement| judgement.since)?,
        };
        Some(Verdict {
            health: telling.health,
            since: telling.since,
            class: telling.class,
            message: telling.message.clone(),
            first_failure_at: telling.first_failure_at,
            confirmed_at: None,
            is_throttled: false,
            failures: 0,
        })
    }
}

fn severity(health: Health) -> u8 {
    match health {
        Health::Healthy | Health::Degraded => 0,
        Health::Unknown => 1,
        Health::Unhealthy => 2,
    }
}

fn observation<'a>(report: &ProbeReport, class: EvidenceClass, message: &'a str) -> Observation<'a> {
    Observation {
        sequence: report.sequence,
        started_at: report.started_at,
        finished_at: report.finished_at,
        class,
        message,
    }
}
