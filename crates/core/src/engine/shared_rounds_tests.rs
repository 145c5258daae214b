//! Replicas that take turns at a probe, one every 30 s, and hear of each other at once.

use std::collections::BTreeSet;

use super::*;
use crate::engine::{Evidence, Observer};
use crate::model::{
    Depth, Envelope, EvidenceClass, EvidenceClasses, ObjectKey, Outcome, ProbeKey, Resolution, Stage, Vantage,
};

const APART: u64 = 30;

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(second)
}

fn thresholds(failure: u32, recovery: u32) -> Thresholds {
    Thresholds { failure, recovery, immediate: EvidenceClasses::NONE, ..Thresholds::default() }
}

struct Replicas {
    thresholds: Thresholds,
    evidence: Vec<Evidence>,
    sequence: u64,
    now: u64,
    suspect: Option<usize>,
}

impl Replicas {
    /// Replicas that have seen the backend well for a turn.
    fn new(count: u32, thresholds: Thresholds) -> Self {
        let probe = Probe {
            name: "login".into(),
            interval: Duration::from_secs(APART) * count,
            timeout: Duration::from_secs(5),
            depth: Depth::Auth,
            envelope: Envelope::default(),
            vantage: Vantage::Operator,
            idle_session: false,
            sharers: count,
        };
        let tracked = || {
            let mut evidence = Evidence::default();
            assert!(evidence.track(&[thresholds].into(), std::slice::from_ref(&probe), at(0)));
            assert!(!evidence.track(&[thresholds].into(), std::slice::from_ref(&probe), at(0)));
            evidence
        };
        let evidence: Vec<_> = (0..count).map(|_| tracked()).collect();
        let mut replicas = Self { thresholds, evidence, sequence: 0, now: 1000, suspect: None };
        for replica in 0..replicas.evidence.len() {
            replicas.round(replica, true);
        }
        replicas.tell();
        assert_eq!(replicas.health(), vec![Health::Healthy; replicas.evidence.len()]);
        replicas
    }

    fn name(replica: usize) -> Arc<str> {
        format!("replica-{replica}").into()
    }

    /// Has one replica make a round; the next one is due afterwards.
    fn round(&mut self, replica: usize, is_success: bool) {
        self.sequence += 1;
        let class = if is_success { EvidenceClass::Ok } else { EvidenceClass::Temporary };
        let report = ProbeReport {
            key: ProbeKey { backend: ObjectKey::new("shop", "ses"), probe: "login".into() },
            revision: 1,
            sequence: self.sequence,
            started_at: at(self.now),
            finished_at: at(self.now),
            resolution: Resolution::NotNeeded,
            addresses: vec![],
            outcome: Outcome {
                class,
                stage: Stage::Auth,
                message: "AUTH: 454 4.7.0 Temporary authentication failure".to_owned(),
                certificate_not_after: None,
                elapsed: Duration::ZERO,
            },
            delay: None,
            is_extra: false,
        };
        self.evidence[replica].observe(&report, at(self.now));
        self.tell();
        self.now += APART;
    }

    /// Has all hear of each other until nobody has news.
    fn tell(&mut self) {
        for _ in 0..20 {
            let told: Vec<_> = self.evidence.iter().map(|one| one.own_verdict(self.thresholds, at(self.now))).collect();
            let mut is_news = false;
            for (from, verdict) in told.into_iter().enumerate() {
                for (to, evidence) in self.evidence.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                    let verdict = verdict.clone().unwrap();
                    is_news |= evidence.record_peer(&Self::name(from), self.thresholds, verdict, at(self.now));
                    if let Some(suspect) = self.suspect.filter(|suspect| *suspect != to) {
                        evidence.suspect(&BTreeSet::from([Observer::Other(Self::name(suspect))]), at(self.now));
                    }
                }
            }
            if !is_news {
                return;
            }
        }
        panic!("the replicas never come to an end");
    }

    /// Makes so many rounds in turns. Returns the number after which every replica first said this.
    fn rounds_until(
        &mut self,
        health: Health,
        most: usize,
        mut is_success: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let count = self.evidence.len();
        for number in 0..most {
            let replica = number % count;
            self.round(replica, is_success(replica));
            if self.health() == vec![health; count] {
                return Some(number + 1);
            }
        }
        None
    }

    fn health(&self) -> Vec<Health> {
        self.evidence.iter().map(|one| one.verdict(self.thresholds, at(self.now)).unwrap().health).collect()
    }

    fn own(&self, replica: usize) -> ObserverVerdict {
        self.evidence[replica].own_verdict(self.thresholds, at(self.now)).unwrap()
    }
}

#[test]
fn a_failure_is_seen_after_as_many_log_ins_as_by_one_replica() {
    for count in 1..=6 {
        for failure in [2, 3, 6] {
            let mut replicas = Replicas::new(count, thresholds(failure, 10));
            let seen = replicas.rounds_until(Health::Unhealthy, 100, |_| false).unwrap();
            // A verdict takes most of the replicas in any case.
            let expected = failure.max(count / 2 + 1);
            assert_eq!(seen, expected as usize, "{count} replicas, {failure} failures");
            let verdict = replicas.evidence[0].verdict(replicas.thresholds, at(replicas.now)).unwrap();
            assert_eq!(verdict.class, EvidenceClass::Temporary);
            assert!(verdict.message.contains("454"), "{}", verdict.message);
        }
    }
}

#[test]
fn a_recovery_takes_as_many_log_ins_as_of_one_replica() {
    for count in 1..=5 {
        for recovery in [5, 10] {
            let mut replicas = Replicas::new(count, thresholds(6, recovery));
            replicas.rounds_until(Health::Unhealthy, 100, |_| false).unwrap();
            // Whose turn it is then.
            replicas.rounds_until(Health::Unknown, count as usize * 4, |_| false);
            let seen = replicas.rounds_until(Health::Healthy, 100, |_| true).unwrap();
            assert_eq!(seen, recovery as usize, "{count} replicas, {recovery} successes");
            // Afterwards there is nothing more to tell.
            replicas.rounds_until(Health::Unknown, count as usize * 4, |_| true);
            for replica in 0..count as usize {
                assert!(replicas.own(replica).runs.is_empty(), "{count} {replica}");
            }
        }
    }
}

#[test]
fn one_replica_that_is_cut_off_decides_nothing_for_the_others() {
    for count in [2, 3, 5] {
        let mut replicas = Replicas::new(count, thresholds(3, 10));
        assert_eq!(replicas.rounds_until(Health::Unhealthy, 100, |replica| replica != 0), None);
        assert_eq!(replicas.own(0).health, Health::Unhealthy, "by failures of its own");
        // A failure of another one does not begin where the first one's did.
        let mut is_first = true;
        let seen = replicas.rounds_until(Health::Unhealthy, 100, |replica| {
            replica != 0 && !(replica == 1 && std::mem::take(&mut is_first))
        });
        assert_eq!(seen, None, "{count}");
    }
    // It takes as many failures of its own as ever.
    let mut replicas = Replicas::new(3, thresholds(3, 10));
    for (turn, expected) in [(0, Health::Healthy), (1, Health::Healthy), (2, Health::Unhealthy)] {
        replicas.rounds_until(Health::Unknown, 3, |replica| replica != 0);
        assert_eq!(replicas.own(0).health, expected, "{turn}");
    }
}

#[test]
fn a_success_in_between_ends_the_run_of_all() {
    let mut replicas = Replicas::new(3, thresholds(3, 10));
    for (replica, is_success) in [(0, false), (1, true), (2, false), (0, false), (1, true), (2, false)] {
        replicas.round(replica, is_success);
        assert_eq!(replicas.health(), [Health::Healthy; 3]);
    }
}

#[test]
fn whoever_is_not_believed_counts_for_nothing() {
    let mut replicas = Replicas::new(2, thresholds(6, 10));
    replicas.suspect = Some(1);
    replicas.tell();
    for turn in 1..6 {
        replicas.rounds_until(Health::Unknown, 2, |_| false);
        assert_eq!(replicas.own(0).health, Health::Healthy, "{turn}");
    }
    replicas.rounds_until(Health::Unknown, 2, |_| false);
    assert_eq!(replicas.own(0).health, Health::Unhealthy, "as many as it takes alone");
}

#[test]
fn an_answer_to_another_replica_counts_for_a_last_resort() {
    let mut replicas = Replicas::new(3, thresholds(6, 100));
    replicas.rounds_until(Health::Unhealthy, 100, |_| false).unwrap();
    replicas.rounds_until(Health::Unknown, 12, |_| true);
    let answered_at =
        |replicas: &Replicas| replicas.evidence[0].verdict(replicas.thresholds, at(replicas.now)).unwrap().answered_at;
    assert_eq!(answered_at(&replicas), Some(at(replicas.now - APART)), "the latest of all");
    replicas.round(1, false);
    assert_eq!(answered_at(&replicas), Some(at(1540)), "our own, once somebody sees it fail");
}
