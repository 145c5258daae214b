//! Many backends with what the engine keeps of each, and routes of three of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::engine::{
    Candidate, Evidence, Health, Memory, News, ObserverVerdict, Situation, Transition, TransitionKind,
    TransitionReason, decide,
};
use mail_failover_core::model::{
    AddressOutcome, Backend, ClockDrift, Depth, Destination, EvidenceClass, FailureWindow, LatencyLimit, Limits,
    Location, Member, ObjectKey, Outcome, Policy, Probe, ProbeKey, ProbeReport, Resolution, Route, SmtpHost, Stage,
    Strategy, Timestamp, Tls, TlsMode, Traffic, TrustAnchors,
};

/// The numbers of backends.
pub const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// The number of backends of a route.
const MEMBERS: usize = 3;
/// The length of the longest message of an outcome.
const LONGEST_MESSAGE: usize = 256;
/// The number of transitions that a route remembers.
const HISTORY: i64 = 10;

/// The properties of a backend that its memory depends on.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub name: &'static str,
    /// The number of different thresholds of the policies in use, with a window and a limit of
    /// latency each.
    pub windows: usize,
    pub other_observers: usize,
    pub addresses: usize,
    /// True if the latest result was a failure with the longest message.
    pub fails: bool,
    /// The limit of bytes of a backend, as stated in docs/benchmarks.md.
    pub at_most: usize,
}

const PLAIN: Kind =
    Kind { name: "default policy", windows: 0, other_observers: 0, addresses: 1, fails: false, at_most: 4_600 };

/// The kinds whose memory is measured.
pub const KINDS: [Kind; 5] = [
    PLAIN,
    Kind { name: "failing, longest message", fails: true, at_most: 4_900, ..PLAIN },
    Kind { name: "two other replicas", other_observers: 2, at_most: 5_200, ..PLAIN },
    Kind { name: "window and latency", windows: 1, at_most: 4_900, ..PLAIN },
    Kind {
        name: "all of it, four addresses",
        windows: 1,
        other_observers: 2,
        addresses: 4,
        fails: true,
        at_most: 8_600,
    },
];

/// The backends and routes of a size.
pub struct ScaleFixture {
    policy: Policy,
    backend: Backend,
    reports: [ProbeReport; 2],
    now: Timestamp,
    sequence: u64,
    pub evidence: Vec<Evidence>,
    routes: Vec<(Route, Memory)>,
}

impl ScaleFixture {
    /// A fixture with this many backends, each observed once.
    pub fn of(size: usize, kind: Kind) -> Self {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut policy = Policy::default();
        if kind.windows > 0 {
            policy.thresholds.window =
                Some(FailureWindow { duration: Duration::from_mins(5), minimum_samples: 20, failure_percent: 50 });
            policy.thresholds.latency =
                Some(LatencyLimit { percentile: 95, above: Duration::from_secs(2), held_for: Duration::from_mins(5) });
        }
        let backend = backend();
        let others: Vec<Arc<str>> = (0..kind.other_observers).map(|other| format!("replica-{other}").into()).collect();
        let thresholds = BTreeSet::from([policy.thresholds]);
        let evidence = (0..size).map(|_| {
            let mut evidence = Evidence::default();
            evidence.track(&thresholds, &backend.probes, now);
            for other in &others {
                evidence.record_peer(other, policy.thresholds, peer_verdict(now), now);
            }
            evidence
        });
        let reports =
            [EvidenceClass::Ok, EvidenceClass::NoAnswer].map(|class| report(class, kind.addresses, &backend, now));
        let mut scale = Self {
            evidence: evidence.collect(),
            routes: (0..size / MEMBERS).map(|number| (route(number), Memory::default())).collect(),
            policy,
            backend,
            reports,
            now,
            sequence: 0,
        };
        scale.pass_round();
        for number in 0..size {
            scale.observe(number, true);
            if kind.fails {
                (0..scale.policy.thresholds.failure).for_each(|_| {
                    scale.sequence += 1;
                    scale.observe(number, false);
                });
            }
        }
        for number in 0..scale.routes.len() {
            let memory = scale.decide(number, false);
            scale.routes[number].1 = memory;
        }
        scale
    }

    pub fn routes(&self) -> usize {
        self.routes.len()
    }

    /// Moves the time by an interval.
    pub fn pass_round(&mut self) {
        self.now = self.now + Duration::from_secs(10);
        self.sequence += 1;
    }

    /// Observes a result of a backend's probe. Returns true if it needs a decision.
    pub fn observe(&mut self, number: usize, is_success: bool) -> bool {
        let report = &mut self.reports[usize::from(!is_success)];
        report.sequence = self.sequence;
        report.started_at = self.now - Duration::from_millis(20);
        report.finished_at = self.now;
        let news = self.evidence[number].observe(report, self.now);
        news == News::Turned
    }

    /// Decides about a route: verdicts, candidates, decision. With `is_dead`, its first backend has
    /// just been found Unhealthy.
    pub fn decide(&self, number: usize, is_dead: bool) -> Memory {
        let (route, memory) = &self.routes[number];
        let candidate = |place: usize| {
            let verdict = self.evidence[number * MEMBERS + place].verdict(self.policy.thresholds, self.now);
            let member = &route.backends[place];
            let mut candidate = Candidate::new(member, Some(&self.backend), verdict.as_ref(), route, None, self.now);
            if is_dead && place == 0 {
                candidate.health = Health::Unhealthy;
                candidate.class = EvidenceClass::NoAnswer;
                candidate.first_failure_at = candidate.confirmed_at;
            }
            candidate
        };
        let candidates: [Candidate; MEMBERS] = std::array::from_fn(candidate);
        let situation = Situation {
            now: self.now,
            drift: ClockDrift::default(),
            policy: &self.policy,
            strategy: route.strategy,
            preferred_regions: &route.preferred_regions,
            candidates: &candidates,
            is_storm: false,
            request: None,
            drill: None,
        };
        decide(&situation, memory).memory
    }
}

/// The memory of a route that has moved as often as it remembers.
pub fn travelled_memory(scale: &ScaleFixture, number: usize) -> Memory {
    let mut memory = scale.routes[number].1.clone();
    memory.history = (0..HISTORY)
        .map(|id| Transition {
            id,
            kind: TransitionKind::Failover,
            from: "backend-a".into(),
            to: "backend-b".into(),
            reason: TransitionReason::Failed(EvidenceClass::NoAnswer),
            first_evidence_at: Some(scale.now),
            decided_at: scale.now,
        })
        .collect();
    memory
}

fn peer_verdict(now: Timestamp) -> ObserverVerdict {
    ObserverVerdict {
        health: Health::Healthy,
        since: now,
        class: EvidenceClass::Ok,
        first_failure_at: None,
        confirms: [].into(),
        runs: [].into(),
        message: Arc::default(),
    }
}

fn backend() -> Backend {
    Backend {
        destination: Destination::Host(SmtpHost { host: "192.0.2.11".into(), port: 587 }),
        tls: Tls { mode: TlsMode::StartTls, server_name: "mx.example".into(), trust: TrustAnchors::WellKnown },
        secret: None,
        login: mail_failover_core::model::ProbeLogin::None,
        suspended: false,
        probes: vec![Probe {
            name: "smtp".into(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            depth: Depth::StartTls,
            envelope: mail_failover_core::model::Envelope::default(),
            vantage: mail_failover_core::model::Vantage::Operator,
            idle_session: false,
            sharers: 1,
        }],
        location: Location::default(),
        limits: Limits::default(),
        sender_domains: vec![],
        replies: mail_failover_core::model::ReplyRules::default(),
    }
}

fn route(number: usize) -> Route {
    let names = (0..MEMBERS).map(|place| format!("backend-{}", number * MEMBERS + place).into());
    Route {
        strategy: Strategy::ActivePassive,
        backends: names.map(|name| Member { name, weight: 1 }).collect(),
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

fn report(class: EvidenceClass, addresses: usize, backend: &Backend, now: Timestamp) -> ProbeReport {
    let is_success = class == EvidenceClass::Ok;
    let outcome = Outcome {
        class,
        stage: Stage::EhloAfterStartTls,
        message: if is_success { String::new() } else { "x".repeat(LONGEST_MESSAGE) },
        certificate_not_after: None,
        elapsed: Duration::from_millis(20),
    };
    let address = |number: u16| SocketAddr::from(([192, 0, 2, 11], 587 + number));
    let at = |number| AddressOutcome { address: address(number), outcome: outcome.clone() };
    ProbeReport {
        key: ProbeKey { backend: ObjectKey::new("shop", "backend"), probe: backend.probes[0].name.clone() },
        revision: 1,
        sequence: 0,
        started_at: now,
        finished_at: now,
        resolution: Resolution::NotNeeded,
        addresses: (0..u16::try_from(addresses).unwrap_or(0)).map(at).collect(),
        outcome,
        delay: None,
        is_extra: false,
    }
}
