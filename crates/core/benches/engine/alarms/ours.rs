//! The engine and the operator's work around it for one route: reports between observers, suspicion
//! of observers, and the times of decisions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::engine::{
    Candidate, Evidence, FailureDomains, Health, Memory, News, Observer, ObserverVerdict, Situation, Transition, decide,
};
use mail_failover_core::model::{
    Backend, ClockDrift, Depth, Destination, Effect, EvidenceClass, Limits, Location, Member, ObjectKey, Outcome,
    Probe as ProbeSpec, ProbeKey, ProbeReport, Resolution, Route, SmtpHost, Stage, Strategy, Thresholds, Timestamp,
    Tls, TlsMode, Traffic, TrustAnchors,
};

use super::probes::Probe;
use super::profile::Profile;
use super::timestamp;

/// A route with a primary (0) and a standby (1) in two failure domains, and the evidence of one or
/// two observers. The first decides.
pub struct Ours {
    profile: Profile,
    thresholds: Thresholds,
    route: Route,
    keys: [ObjectKey; 2],
    backends: [Backend; 2],
    /// The evidence by observer, then by backend.
    evidence: Vec<[Evidence; 2]>,
    /// A report for each backend, filled in anew each time.
    reports: [ProbeReport; 2],
    latest: Vec<[Latest; 2]>,
    stale_at: Vec<[i64; 2]>,
    other: Arc<str>,
    fleet: FailureDomains,
    suspects: BTreeSet<Observer>,
    memory: Memory,
    wake_at: Option<Timestamp>,
}

/// The newest results of a probe.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    sequence: u64,
    class: Option<EvidenceClass>,
    /// The number of latest results in a row of that class.
    run: u32,
    health: Option<Health>,
}

/// The effects of an observation.
#[derive(Debug, Default)]
pub struct Consequence {
    pub transition: Option<Transition>,
    /// The backends of which the other observer has something to tell.
    pub is_to_be_told: [bool; 2],
}

impl Ours {
    pub fn new(profile: &Profile, observers: usize) -> Self {
        let name = |backend: usize| -> Arc<str> { ["a", "b"][backend].into() };
        let keys = [0, 1].map(|backend| ObjectKey::new("shop", name(backend)));
        let probe = ProbeSpec {
            name: "smtp".into(),
            interval: profile.interval,
            timeout: profile.timeout,
            depth: Depth::StartTls,
            envelope: mail_failover_core::model::Envelope::default(),
            vantage: mail_failover_core::model::Vantage::Operator,
            idle_session: false,
            sharers: 1,
        };
        let backends = [0, 1].map(|backend| self::backend(&name(backend), &probe));
        let thresholds = profile.policy.thresholds;
        let reports = keys.clone().map(|key| report(key, &probe.name));
        let tracked = || {
            let mut evidence = Evidence::default();
            evidence.track(&BTreeSet::from([thresholds]), std::slice::from_ref(&probe), timestamp(0));
            evidence
        };
        Self {
            profile: profile.clone(),
            thresholds,
            route: route([0, 1].map(name)),
            keys,
            backends,
            evidence: (0..observers).map(|_| [tracked(), tracked()]).collect(),
            reports,
            latest: vec![[Latest::default(); 2]; observers],
            stale_at: vec![[i64::MAX; 2]; observers],
            other: "replica-1".into(),
            fleet: FailureDomains::default(),
            suspects: BTreeSet::new(),
            memory: Memory::default(),
            wake_at: None,
        }
    }

    /// The backend that the mail goes to; 0 is the primary.
    pub fn leads_to(&self) -> Option<usize> {
        self.memory.lead().and_then(|lead| self.keys.iter().position(|key| key.name == *lead))
    }

    /// The next time at which something may change by time alone.
    pub fn wakes_at(&self) -> i64 {
        let stale_at = self.stale_at.iter().flatten().copied().min().unwrap_or(i64::MAX);
        self.wake_at.map_or(i64::MAX, Timestamp::as_micros).min(stale_at)
    }

    /// Returns true if further results of this class change nothing: a success of what is Healthy
    /// and succeeded last, or a failure of what is Unhealthy, by as many failures of this class as
    /// would make it the cause. Such a result only renews the times at which the backend was last
    /// seen alive, confirmed or dead, and continues the count.
    pub fn is_settled(&self, observer: usize, backend: usize, class: EvidenceClass) -> bool {
        let latest = &self.latest[observer][backend];
        latest.class == Some(class)
            && match class.effect() {
                Effect::Success => {
                    let is_known = latest.health == Some(Health::Healthy) && !self.awaits_confirmation();
                    is_known && self.confirms(observer, 1 - backend)
                }
                Effect::Failure => latest.health == Some(Health::Unhealthy) && latest.run > self.thresholds.failure,
                Effect::Neutral => false,
            }
    }

    fn awaits_confirmation(&self) -> bool {
        self.memory.awaits_answer()
    }

    /// Whether an observer that sees a backend fail has seen the other one answer since.
    fn confirms(&self, observer: usize, failing: usize) -> bool {
        let now = timestamp(0);
        let verdict = self.evidence[observer][failing].own_verdict(self.thresholds, now);
        let since = verdict.and_then(|verdict| verdict.first_failure_at);
        since.is_none_or(|since| self.evidence[observer][1 - failing].has_answered_since(since))
    }

    pub fn observe(&mut self, observer: usize, backend: usize, probe: &Probe) -> Consequence {
        let did_confirm = self.confirms(observer, 1 - backend);
        let now = timestamp(probe.finish);
        let report = &mut self.reports[backend];
        report.sequence = probe.sequence;
        report.started_at = timestamp(probe.start);
        report.finished_at = now;
        report.is_extra = probe.is_look;
        report.outcome.class = probe.class;
        report.outcome.elapsed = Duration::from_micros((probe.finish - probe.start).unsigned_abs());
        let evidence = &mut self.evidence[observer][backend];
        let news = evidence.observe(report, now);
        let latest = &mut self.latest[observer][backend];
        if probe.sequence > latest.sequence {
            let run = if latest.class == Some(probe.class) { latest.run + 1 } else { 1 };
            let health = match news {
                News::Turned => evidence.own_verdict(self.thresholds, now).map(|verdict| verdict.health),
                News::Answered | News::Doubted | News::Nothing => latest.health,
            };
            *latest = Latest { sequence: probe.sequence, class: Some(probe.class), run, health };
            // Only where nothing is learnt can evidence get stale: conclusive results come every interval.
            let may_get_stale = probe.class == EvidenceClass::Inconclusive;
            let stale_at = evidence.next_timeout(now).filter(|_| may_get_stale);
            self.stale_at[observer][backend] = stale_at.map_or(i64::MAX, Timestamp::as_micros);
        }
        let awaits = self.awaits_confirmation();
        let mut consequence = Consequence::default();
        match (observer, news) {
            (0, News::Turned) => consequence.transition = self.turned(now),
            (0, News::Answered) if awaits => consequence.transition = self.decide(now),
            (0, News::Answered | News::Doubted | News::Nothing) => {}
            (_, news) => {
                consequence.is_to_be_told[backend] = news == News::Turned;
                consequence.is_to_be_told[1 - backend] = did_confirm != self.confirms(observer, 1 - backend);
            }
        }
        consequence
    }

    /// The observer's verdict about a backend now.
    pub fn own_verdict(&self, observer: usize, backend: usize, at: i64) -> Option<ObserverVerdict> {
        let mut verdict = self.evidence[observer][backend].own_verdict(self.thresholds, timestamp(at))?;
        if let Some(since) = verdict.first_failure_at
            && self.evidence[observer][1 - backend].has_answered_since(since)
        {
            verdict.confirms = [self.keys[1 - backend].name.clone()].into();
        }
        Some(verdict)
    }

    /// Takes a report of the other observer.
    pub fn record_peer(&mut self, backend: usize, verdict: ObserverVerdict, at: i64) -> Option<Transition> {
        let now = timestamp(at);
        let domain = self.backends[backend].location.failure_domain.clone();
        let observer = Observer::Other(self.other.clone());
        let verdicts = [(self.thresholds, &verdict)];
        let is_noted = self.fleet.note(&self.keys[backend], domain.as_ref(), &observer, verdicts);
        let is_news = self.evidence[0][backend].record_peer(&self.other, self.thresholds, verdict, now);
        if is_news || is_noted { self.turned(now) } else { None }
    }

    /// Handles a timer. The returned backends are those that the other observer must report, since
    /// their evidence got stale.
    pub fn wake(&mut self, at: i64) -> (Option<Transition>, [bool; 2]) {
        let mut is_to_be_told = [false; 2];
        for (observer, stale_at) in self.stale_at.iter_mut().enumerate() {
            for (backend, stale_at) in stale_at.iter_mut().enumerate().filter(|(_, stale_at)| **stale_at <= at) {
                *stale_at = i64::MAX;
                self.latest[observer][backend].health = Some(Health::Unknown);
                is_to_be_told[backend] |= observer > 0;
            }
        }
        (self.turned(timestamp(at)), is_to_be_told)
    }

    /// Decides again, since an observer's verdict may have changed.
    fn turned(&mut self, now: Timestamp) -> Option<Transition> {
        for backend in 0..2 {
            let own = self.evidence[0][backend].own_verdict(self.thresholds, now);
            let verdicts = own.iter().map(|verdict| (self.thresholds, verdict));
            let domain = self.backends[backend].location.failure_domain.as_ref();
            self.fleet.note(&self.keys[backend], domain, &Observer::Own, verdicts);
        }
        let suspects = self.fleet.suspects();
        if suspects != self.suspects {
            for evidence in &mut self.evidence[0] {
                evidence.suspect(&suspects, now);
            }
            self.suspects = suspects;
        }
        self.decide(now)
    }

    fn decide(&mut self, now: Timestamp) -> Option<Transition> {
        let candidates = [0, 1].map(|backend| {
            let verdict = self.evidence[0][backend].verdict(self.thresholds, now);
            let member = &self.route.backends[backend];
            Candidate::new(member, Some(&self.backends[backend]), verdict.as_ref(), &self.route, None, now)
        });
        let situation = Situation {
            now,
            drift: ClockDrift::default(),
            policy: &self.profile.policy,
            strategy: self.route.strategy,
            preferred_regions: &[],
            candidates: &candidates,
            is_storm: self.fleet.is_storm(&self.keys[0].namespace, &self.thresholds),
            request: None,
            drill: None,
        };
        let decision = decide(&situation, &self.memory);
        self.memory = decision.memory;
        self.wake_at = decision.next_timeout;
        decision.transition
    }
}

fn backend(name: &Arc<str>, probe: &ProbeSpec) -> Backend {
    Backend {
        destination: Destination::Host(SmtpHost { host: "192.0.2.11".into(), port: 587 }),
        tls: Tls { mode: TlsMode::StartTls, server_name: name.clone(), trust: TrustAnchors::WellKnown },
        secret: None,
        login: mail_failover_core::model::ProbeLogin::None,
        suspended: false,
        probes: vec![probe.clone()],
        location: Location { failure_domain: Some(name.clone()), ..Location::default() },
        limits: Limits::default(),
        sender_domains: vec![],
        replies: mail_failover_core::model::ReplyRules::default(),
    }
}

fn route(names: [Arc<str>; 2]) -> Route {
    Route {
        strategy: Strategy::ActivePassive,
        backends: names.map(|name| Member { name, weight: 1 }).into(),
        traffic: Traffic::default(),
        jurisdictions: vec![],
        preferred_regions: vec![],
        sender_domains: vec![],
        services: vec![],
        config_maps: vec![],
        alternates: true,
        agents: vec![],
        webhooks: vec![],
        dns: vec![],
    }
}

fn report(backend: ObjectKey, probe: &Arc<str>) -> ProbeReport {
    ProbeReport {
        key: ProbeKey { backend, probe: probe.clone() },
        revision: 1,
        sequence: 0,
        started_at: timestamp(0),
        finished_at: timestamp(0),
        resolution: Resolution::NotNeeded,
        addresses: vec![],
        outcome: Outcome {
            class: EvidenceClass::Ok,
            stage: Stage::EhloAfterStartTls,
            message: String::new(),
            certificate_not_after: None,
            elapsed: Duration::ZERO,
        },
        delay: None,
        is_extra: false,
    }
}
