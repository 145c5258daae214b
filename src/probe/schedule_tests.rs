use std::net::SocketAddr;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::super::idle::SessionOver;
use super::*;
use mail_failover_core::engine::ConfirmationRule;
use mail_failover_core::model::{
    AddressOutcome, Depth, Destination, EvidenceClass, Login, ObjectKey, Outcome, ProbeLogin, Resolution, ServicePort,
    SmtpHost, Stage, Thresholds, Timestamp, Tls, TlsMode, TrustAnchors,
};
use mail_failover_smtp::dialogue::IdleEnd;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Start {
    key: ProbeKey,
    revision: u64,
    sequence: u64,
    at: Instant,
    logs_in: bool,
    is_look: bool,
}

/// An idle session that is open until the test ends it, or the prober closes it.
struct FakeSession {
    address: SocketAddr,
    namespaces: Vec<Arc<str>>,
    end: oneshot::Sender<IdleEnd>,
}

/// Notes when rounds start; each lasts as long as the test says.
struct Fake {
    starts: UnboundedSender<Start>,
    sessions: UnboundedSender<FakeSession>,
    lasts: Duration,
    /// Class and stage of the first rounds.
    first_answers: Mutex<Vec<(EvidenceClass, Stage)>>,
    /// Class and stage of every other round that logs in.
    answer: (EvidenceClass, Stage),
}

impl Runner for Fake {
    type Prepared = ProbeTarget;

    fn prepare(&self, target: ProbeTarget) -> ProbeTarget {
        target
    }

    fn target(prepared: &ProbeTarget) -> &ProbeTarget {
        prepared
    }

    async fn run(&self, target: &ProbeTarget, terms: RoundTerms, _: &Mutex<KnownAddresses>) -> ProbeReport {
        let sequence = terms.sequence;
        let (key, revision) = (target.key.clone(), target.revision);
        let logs_in = terms.postponed_login.is_none();
        let is_look = terms.is_look;
        self.starts.send(Start { key, revision, sequence, at: Instant::now(), logs_in, is_look }).unwrap();
        let answer = self.first_answers.lock().unwrap().pop().unwrap_or(self.answer);
        sleep(self.lasts).await;
        let (class, stage) = if logs_in { answer } else { (EvidenceClass::Throttled, Stage::Auth) };
        let outcome =
            Outcome { class, stage, message: String::new(), certificate_not_after: None, elapsed: self.lasts };
        let endpoints = match &target.destination {
            Destination::Service(service) => service.endpoints.as_slice(),
            Destination::Host(_) => &[],
        };
        ProbeReport {
            key: target.key.clone(),
            revision: target.revision,
            sequence,
            started_at: Timestamp::default(),
            finished_at: Timestamp::default(),
            resolution: Resolution::NotNeeded,
            addresses: endpoints
                .iter()
                .map(|address| AddressOutcome { address: *address, outcome: outcome.clone() })
                .collect(),
            outcome,
            delay: None,
            is_extra: false,
        }
    }

    async fn idle_session(
        &self,
        _: &ProbeTarget,
        terms: &IdleTerms,
        address: SocketAddr,
        close: &CancellationToken,
    ) -> SessionOver {
        let (end, ended) = oneshot::channel();
        self.sessions.send(FakeSession { address, namespaces: terms.namespaces.to_vec(), end }).unwrap();
        tokio::select! {
            Ok(end) = ended => SessionOver::ByServer(end),
            () = close.cancelled() => SessionOver::Closed,
        }
    }
}

struct RunningProber {
    prober: Prober,
    starts: UnboundedReceiver<Start>,
    sessions: UnboundedReceiver<FakeSession>,
    reports: Receiver<ProbeReport>,
    registry: Registry,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn start(lasts: Duration, queue: usize) -> RunningProber {
    start_answering((EvidenceClass::Ok, Stage::Connect), lasts, queue)
}

fn start_answering(answer: (EvidenceClass, Stage), lasts: Duration, queue: usize) -> RunningProber {
    start_answering_first(vec![], answer, lasts, queue)
}

/// Starts a prober whose first rounds have other answers, the last one of these first.
fn start_answering_first(
    first_answers: Vec<(EvidenceClass, Stage)>,
    answer: (EvidenceClass, Stage),
    lasts: Duration,
    queue: usize,
) -> RunningProber {
    let first_answers = Mutex::new(first_answers);
    let mut registry = Registry::default();
    let (starts, started) = mpsc::unbounded_channel();
    let (sessions, opened) = mpsc::unbounded_channel();
    let (reports, reported) = mpsc::channel(queue);
    let shutdown = CancellationToken::new();
    let metrics = Metrics::new(&mut registry);
    let runner = Fake { starts, sessions, lasts, first_answers, answer };
    let (prober, task) = Prober::start_with(runner, metrics, reports, shutdown.clone());
    RunningProber { prober, starts: started, sessions: opened, reports: reported, registry, shutdown, task }
}

impl RunningProber {
    fn started(&mut self) -> Vec<Start> {
        std::iter::from_fn(|| self.starts.try_recv().ok()).collect()
    }

    /// Sessions that were opened since the last call.
    fn opened(&mut self) -> Vec<FakeSession> {
        std::iter::from_fn(|| self.sessions.try_recv().ok()).collect()
    }

    fn reported(&mut self) -> Vec<ProbeReport> {
        std::iter::from_fn(|| self.reports.try_recv().ok()).collect()
    }

    fn metric(&self, name: &str) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let name = format!("mail_failover_probe_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn key(number: usize) -> ProbeKey {
    ProbeKey { backend: ObjectKey::new("shop", format!("backend-{number}")), probe: "smtp".into() }
}

fn target(number: usize, revision: u64, interval: Duration) -> ProbeTarget {
    let endpoints: Vec<SocketAddr> = vec![];
    ProbeTarget {
        key: key(number),
        revision,
        destination: Destination::Service(ServicePort {
            dns_name: format!("{number}.shop.svc").into(),
            port: 25,
            client_port: 25,
            endpoints,
        }),
        tls: Tls { mode: TlsMode::None, server_name: "a.shop.svc".into(), trust: TrustAnchors::WellKnown },
        interval,
        // Another revision is another probe.
        timeout: interval / 2 + Duration::from_micros(revision),
        depth: Depth::Ehlo,
        envelope: mail_failover_core::model::Envelope::default(),
        login: mail_failover_core::model::ProbeLogin::None,
        replies: mail_failover_core::model::ReplyRules::default(),
        is_used: false,
        confirmation: ConfirmationRule::default(),
        idle_session: false,
    }
}

/// A probe of a host that many objects name.
fn shared(namespace: &str, name: &str, interval: Duration) -> ProbeTarget {
    ProbeTarget {
        key: ProbeKey { backend: ObjectKey::new(namespace, name), probe: "smtp".into() },
        destination: Destination::Host(SmtpHost { host: "smtp.provider.example".into(), port: 587 }),
        timeout: 5 * SECOND,
        ..target(0, 1, interval)
    }
}

fn gaps(starts: &[Start]) -> Vec<Duration> {
    starts.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_targets_start_once_an_interval_each_and_drift_apart() {
    const TARGETS: u16 = 10_000;
    const ROUNDS: u16 = 12;
    let interval = 10 * SECOND;
    let mut running = start(Duration::from_millis(20), TARGETS.into());
    let began = Instant::now();
    for number in 0..TARGETS {
        running.prober.set(target(number.into(), 1, interval));
    }
    let mut by_key: HashMap<ProbeKey, Vec<Start>> = HashMap::new();
    let until = sleep(interval * ROUNDS.into());
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => break,
            Some(start) = running.starts.recv() => by_key.entry(start.key.clone()).or_default().push(start),
            Some(_) = running.reports.recv() => {}
        }
    }
    assert_eq!(by_key.len(), usize::from(TARGETS));
    let mut last_cycle = [0_u16; 10];
    for starts in by_key.values() {
        // Promptly, but not all at once: within a tenth of the interval.
        assert!(starts[0].at - began <= interval / 10 + Duration::from_millis(2));
        for gap in gaps(starts) {
            assert!(gap >= interval * 95 / 100 && gap <= interval * 105 / 100, "{gap:?}");
        }
        assert!(starts.len() >= usize::from(ROUNDS) - 1);
        assert!(starts.iter().map(|start| start.sequence).eq(1..=starts.len() as u64));
        let last = starts.last().unwrap().at - began;
        last_cycle[usize::try_from(last.as_secs() % 10).unwrap()] += 1;
    }
    // After two minutes they no longer come in one tenth of the interval.
    assert!(last_cycle.iter().all(|starts| *starts < TARGETS / 3), "{last_cycle:?}");
    assert_eq!(running.metric("targets"), TARGETS.to_string());
    assert_eq!(running.metric("skipped_rounds_total"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_few_targets_start_at_once() {
    let mut running = start(Duration::ZERO, 10);
    let began = Instant::now();
    for number in 0..5 {
        running.prober.set(target(number, 1, 10 * SECOND));
    }
    sleep(Duration::from_millis(10)).await;
    let starts = running.started();
    assert_eq!(starts.len(), 5);
    assert!(starts.iter().all(|start| start.at - began <= Duration::from_millis(5)));
}

#[tokio::test(start_paused = true)]
async fn a_changed_target_starts_at_once_but_not_twice_an_interval_too_often() {
    let mut running = start(Duration::ZERO, 1000);
    running.prober.set(target(0, 1, 10 * SECOND));
    sleep(6 * SECOND).await;
    assert_eq!(running.started().len(), 1);
    running.prober.set(target(0, 2, 10 * SECOND));
    sleep(Duration::from_millis(60)).await;
    let starts = running.started();
    assert_eq!((starts.len(), starts[0].revision, starts[0].sequence), (1, 2, 1));
    // A rolling update: a change every second.
    for revision in 3..103 {
        running.prober.set(target(0, revision, 10 * SECOND));
        sleep(SECOND).await;
    }
    let starts = running.started();
    assert!((18..=21).contains(&starts.len()), "{}", starts.len());
    assert!(gaps(&starts).iter().all(|gap| *gap >= 5 * SECOND));
    // The same revision again changes nothing.
    sleep(10 * SECOND).await;
    running.started();
    running.prober.set(target(0, 102, 10 * SECOND));
    sleep(Duration::from_millis(60)).await;
    assert!(running.started().len() <= 1);
}

#[tokio::test(start_paused = true)]
async fn rounds_go_on_while_endpoints_change_and_the_next_ones_have_the_new() {
    for seconds_between in 1..5 {
        let mut running = start(5 * SECOND, 1000);
        for change in 0..60 {
            let mut target = target(0, 1, 5 * SECOND);
            let Destination::Service(service) = &mut target.destination else { panic!("a Service") };
            service.endpoints = vec![([192, 0, 2, change], 25).into()];
            running.prober.set(target);
            sleep(seconds_between * SECOND).await;
        }
        sleep(6 * SECOND).await;
        let starts = running.started();
        let mut reported = 0;
        while running.reports.try_recv().is_ok() {
            reported += 1;
        }
        assert!(starts.len() >= 10 && reported + 2 >= starts.len(), "{} began, {reported} reported", starts.len());
        assert!(gaps(&starts).iter().all(|gap| *gap >= 5 * SECOND / 2), "{:?}", gaps(&starts));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_changes_before_its_first_round_is_not_put_off() {
    let mut running = start(Duration::ZERO, 10);
    for revision in 1..50 {
        running.prober.set(target(0, revision, 10 * SECOND));
        tokio::task::yield_now().await;
    }
    sleep(Duration::from_millis(60)).await;
    let starts = running.started();
    assert!(!starts.is_empty());
    assert_eq!(starts[0].sequence, 1);
}

#[tokio::test(start_paused = true)]
async fn reports_of_what_is_changed_or_removed_meanwhile_are_dropped() {
    let mut running = start(3 * SECOND, 10);
    running.prober.set(target(0, 1, 4 * SECOND));
    running.prober.set(target(1, 1, 4 * SECOND));
    sleep(SECOND).await;
    running.prober.set(target(0, 2, 4 * SECOND));
    running.prober.remove(&key(1));
    sleep(6 * SECOND).await;
    let report = running.reports.try_recv().unwrap();
    assert_eq!((report.key, report.revision, report.sequence), (key(0), 2, 2));
    assert!(running.reports.try_recv().is_err());
    assert_eq!(running.metric("cancelled_rounds_total"), "2");
    assert_eq!(running.metric("targets"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_comes_back_goes_on_counting() {
    let mut running = start(Duration::ZERO, 100);
    running.prober.set(target(0, 1, SECOND));
    sleep(5 * SECOND).await;
    let last = running.reported().last().unwrap().sequence;
    assert!(last >= 4);
    running.prober.remove(&key(0));
    sleep(SECOND).await;
    running.prober.set(target(0, 2, SECOND));
    sleep(SECOND).await;
    assert_eq!(running.reported()[0].sequence, last + 1);
}

#[tokio::test(start_paused = true)]
async fn rounds_overlap_ten_at_most_and_the_others_are_counted() {
    let mut running = start(30 * SECOND, 100);
    running.prober.set(target(0, 1, SECOND));
    sleep(25 * SECOND).await;
    let starts = running.started();
    assert!(starts.iter().map(|start| start.sequence).eq(1..=10));
    assert!(running.metric("skipped_rounds_total").parse::<u32>().unwrap() >= 13);
    sleep(10 * SECOND).await;
    assert!(running.started().len() > 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_rounds_wait_and_loses_nothing() {
    let mut running = start(Duration::ZERO, 1);
    running.prober.set(target(0, 1, SECOND));
    sleep(5 * SECOND).await;
    assert!(running.metric("report_waits_total").parse::<u32>().unwrap() >= 2);
    let mut seen = vec![];
    while let Ok(report) = running.reports.try_recv() {
        seen.push(report.sequence);
        tokio::task::yield_now().await;
    }
    assert!(seen.len() >= 3 && seen.iter().copied().eq(1..=seen.len() as u64), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_nothing_starts_and_nothing_is_reported() {
    let mut running = start(2 * SECOND, 10);
    running.prober.set(target(0, 1, SECOND));
    sleep(SECOND).await;
    running.shutdown.cancel();
    running.task.await.unwrap();
    running.prober.set(target(1, 1, SECOND));
    sleep(10 * SECOND).await;
    assert!(running.reports.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn while_log_ins_are_too_many_rounds_go_on_and_few_of_them_log_in() {
    let too_many = (EvidenceClass::Throttled, Stage::Auth);
    let mut running = start_answering(too_many, Duration::ZERO, 10_000);
    let auth = |revision| ProbeTarget { depth: Depth::Auth, ..target(0, revision, 30 * SECOND) };
    running.prober.set(auth(1));
    sleep(Duration::from_hours(1)).await;
    let starts = running.started();
    assert!((110..130).contains(&starts.len()), "{}", starts.len());
    let logins: Vec<_> = starts.iter().filter(|start| start.logs_in).cloned().collect();
    // After 1, 2, 4, 8 … minutes.
    assert!((6..=7).contains(&logins.len()), "{logins:?}");
    let gaps = gaps(&logins);
    // Each ends with the first round after its time: 60 to 92 s, 120 to 152 s, and so on.
    assert!(gaps.windows(2).all(|pair| pair[1] > pair[0] * 5 / 4), "{gaps:?}");
    assert_eq!(running.metric("postponed_logins_total"), (starts.len() - logins.len()).to_string());
    // An address more changes nothing of it; another login is another matter.
    running.prober.set(auth(2));
    sleep(SECOND).await;
    assert!(running.started().iter().all(|start| !start.logs_in));
    let login = mail_failover_core::model::ProbeLogin::With(mail_failover_core::model::Login::new("shop", "new"));
    running.prober.set(ProbeTarget { login, ..auth(3) });
    sleep(30 * SECOND).await;
    assert!(running.started()[0].logs_in);
    let report = std::iter::from_fn(|| running.reports.try_recv().ok()).next().unwrap();
    assert!(report.outcome.message.ends_with("the next log-in is in 60s"), "{}", report.outcome.message);
}

/// A probe of a Service at one endpoint that logs in.
fn logging_in(revision: u64, endpoint: u8) -> ProbeTarget {
    let mut target = target(0, revision, 10 * SECOND);
    let Destination::Service(service) = &mut target.destination else { panic!("a Service") };
    service.endpoints = vec![([192, 0, 2, endpoint], 25).into()];
    ProbeTarget { depth: Depth::Auth, login: ProbeLogin::With(Login::new("shop", "secret")), ..target }
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_endpoints_keep_changing_logs_in_no_faster_than_its_interval() {
    for seconds_between in 1..8_u8 {
        let refused = (EvidenceClass::AuthenticationRefused, Stage::Auth);
        let mut running = start_answering(refused, Duration::from_millis(10), 1000);
        for change in 0..120 / seconds_between {
            running.prober.set(logging_in(1, change));
            sleep(SECOND * u32::from(seconds_between)).await;
        }
        let starts = running.started();
        let rounds: Vec<_> = starts.iter().filter(|start| !start.is_look).cloned().collect();
        assert!(gaps(&rounds).iter().all(|gap| *gap >= 10 * SECOND * 95 / 100), "{:?}", gaps(&rounds));
        assert!(gaps(&rounds).iter().all(|gap| *gap <= 11 * SECOND), "{:?}", gaps(&rounds));
        // Whether the new endpoints answer is seen meanwhile.
        assert!(starts.iter().filter(|start| start.is_look).count() >= 6, "every {seconds_between} s: {starts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_probe_of_the_same_login_waits_for_an_interval_after_the_last_one() {
    let mut running = start_answering((EvidenceClass::Ok, Stage::Auth), Duration::from_millis(10), 1000);
    running.prober.set(logging_in(1, 1));
    sleep(6 * SECOND).await;
    running.prober.set(logging_in(2, 1));
    sleep(SECOND).await;
    assert_eq!(running.started().iter().map(|start| start.is_look).collect::<Vec<_>>(), [false, true]);
    sleep(5 * SECOND).await;
    assert_eq!(running.started().iter().map(|start| start.is_look).collect::<Vec<_>>(), [false]);
}

#[tokio::test(start_paused = true)]
async fn a_round_that_came_to_no_log_in_keeps_none_back() {
    let answer = (EvidenceClass::Ok, Stage::Auth);
    let mut running = start_answering_first(vec![REFUSED], answer, Duration::from_millis(10), 1000);
    running.prober.set(logging_in(1, 1));
    sleep(6 * SECOND).await;
    running.prober.set(logging_in(1, 2));
    sleep(SECOND).await;
    assert_eq!(running.started().iter().map(|start| start.is_look).collect::<Vec<_>>(), [false, false]);
}

#[tokio::test(start_paused = true)]
async fn identical_probes_of_many_objects_are_made_once_and_heard_by_all() {
    let mut running = start(Duration::from_millis(50), 100_000);
    for number in 0..2000 {
        let namespace = format!("tenant-{}", number % 100);
        running.prober.set(shared(&namespace, &format!("backend-{number}"), 10 * SECOND));
    }
    sleep(100 * SECOND).await;
    // Ten times in 100 s, and once at the start.
    let starts = running.started();
    assert!((10..=11).contains(&starts.len()), "{}", starts.len());
    let mut heard: HashMap<ProbeKey, Vec<u64>> = HashMap::new();
    for report in running.reported() {
        heard.entry(report.key).or_default().push(report.sequence);
    }
    assert_eq!(heard.len(), 2000);
    for sequences in heard.values() {
        assert!(sequences.len() >= 10 && sequences.iter().copied().eq(1..=sequences.len() as u64), "{sequences:?}");
    }
    assert_eq!((running.metric("targets"), running.metric("distinct_targets")), ("2000".to_owned(), "1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn each_object_hears_of_a_shared_probe_at_its_own_interval() {
    for others in [vec![7], vec![30], vec![7, 9, 30], vec![1, 2, 3, 4]] {
        let mut running = start(Duration::ZERO, 10_000);
        let all: Vec<u64> = others.into_iter().chain([10]).collect();
        for seconds in &all {
            running.prober.set(shared("shop", &format!("every-{seconds}"), Duration::from_secs(*seconds)));
        }
        let mut times: HashMap<ProbeKey, Vec<Instant>> = HashMap::new();
        let until = sleep(600 * SECOND);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => break,
                Some(report) = running.reports.recv() => {
                    if !report.is_extra {
                        times.entry(report.key).or_default().push(Instant::now());
                    }
                }
            }
        }
        assert_eq!(times.len(), all.len());
        for (key, times) in times {
            let seconds: u64 = key.backend.name.strip_prefix("every-").unwrap().parse().unwrap();
            let interval = Duration::from_secs(seconds);
            for pair in times.windows(2) {
                let gap = pair[1] - pair[0];
                assert!(gap >= interval * 94 / 100 && gap <= interval * 112 / 100, "{seconds}: {gap:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_is_shared_within_its_namespace_only() {
    let mut running = start(Duration::ZERO, 10_000);
    let login = ProbeLogin::With(Login::new("shop", "secret"));
    for (namespace, name) in [("shop", "a"), ("shop", "b"), ("shop", "c"), ("evil", "d")] {
        let login = login.clone();
        running.prober.set(ProbeTarget { login, depth: Depth::Auth, ..shared(namespace, name, 30 * SECOND) });
    }
    sleep(20 * SECOND).await;
    assert_eq!(running.started().len(), 2);
    assert_eq!(running.metric("distinct_targets"), "2");
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_a_shared_probe_hears_of_the_latest_round_at_once() {
    let mut running = start(Duration::from_millis(10), 100);
    running.prober.set(shared("shop", "a", 30 * SECOND));
    sleep(20 * SECOND).await;
    assert_eq!((running.started().len(), running.reported().len()), (1, 1));
    running.prober.set(shared("shop", "b", 30 * SECOND));
    sleep(SECOND).await;
    let reports = running.reported();
    assert_eq!((running.started().len(), reports.len()), (0, 1));
    assert_eq!((&*reports[0].key.backend.name, reports[0].sequence), ("b", 1));
    // Too old for an interval of 5 s, which begins at once.
    running.prober.set(shared("shop", "c", 5 * SECOND));
    sleep(SECOND).await;
    // The others hear of it as well.
    assert_eq!((running.started().len(), running.reported().len()), (1, 3));
    sleep(30 * SECOND).await;
    assert!((5..=7).contains(&running.started().len()));
}

#[tokio::test(start_paused = true)]
async fn a_round_goes_on_while_anybody_asks_for_it_and_ends_with_the_last_one() {
    let mut running = start(5 * SECOND, 100);
    for name in ["a", "b"] {
        running.prober.set(shared("shop", name, 30 * SECOND));
    }
    let key = |name| shared("shop", name, SECOND).key;
    sleep(3 * SECOND).await;
    running.prober.remove(&key("a"));
    sleep(5 * SECOND).await;
    let reports = running.reported();
    assert_eq!(reports.iter().map(|report| &*report.key.backend.name).collect::<Vec<_>>(), ["b"]);
    sleep(26 * SECOND).await;
    assert_eq!(running.started().len(), 2);
    running.prober.remove(&key("b"));
    sleep(60 * SECOND).await;
    assert_eq!((running.started().len(), running.reported().len()), (0, 0));
    assert_eq!(running.metric("cancelled_rounds_total"), "1");
}

#[tokio::test(start_paused = true)]
async fn first_rounds_of_many_probes_at_one_place_are_spread_over_the_interval() {
    let mut running = start(Duration::ZERO, 10_000);
    let began = Instant::now();
    for number in 0..1000_u64 {
        let timeout = SECOND + Duration::from_micros(number);
        running.prober.set(ProbeTarget { timeout, ..shared("shop", &format!("backend-{number}"), 30 * SECOND) });
    }
    sleep(30 * SECOND).await;
    let mut in_second = [0; 31];
    for start in running.started() {
        in_second[usize::try_from((start.at - began).as_secs()).unwrap()] += 1;
    }
    assert!(in_second.iter().all(|starts| *starts < 120), "{in_second:?}");
}

/// A probe whose failures are confirmed at once: so many, over so many seconds.
fn confirmed(failure: u32, lasting: u64) -> ProbeTarget {
    let thresholds = Thresholds { failure, lasting: Some(Duration::from_secs(lasting)), ..Thresholds::default() };
    ProbeTarget { confirmation: ConfirmationRule::of([&thresholds], 10 * SECOND), ..shared("shop", "a", 10 * SECOND) }
}

const REFUSED: (EvidenceClass, Stage) = (EvidenceClass::ConnectionRefused, Stage::Connect);

#[tokio::test(start_paused = true)]
async fn after_a_first_failure_the_next_looks_come_at_once_and_one_when_it_has_lasted() {
    let mut running = start_answering(REFUSED, Duration::from_millis(10), 1000);
    running.prober.set(confirmed(4, 15));
    sleep(60 * SECOND).await;
    let starts = running.started();
    let first = starts[0].at;
    let looks: Vec<_> = starts.iter().filter(|start| start.is_look).map(|start| start.at - first).collect();
    assert_eq!(looks.len(), 3, "{looks:?}");
    assert!(looks[0] < Duration::from_millis(20) && looks[1] < Duration::from_millis(250), "{looks:?}");
    assert!(looks[2] >= 15 * SECOND && looks[2] < 16 * SECOND, "{looks:?}");
    // Beside them the rounds go on at the interval.
    let rounds: Vec<_> = starts.iter().filter(|start| !start.is_look).cloned().collect();
    assert!(gaps(&rounds).iter().all(|gap| *gap >= 9 * SECOND && *gap <= 11 * SECOND), "{:?}", gaps(&rounds));
    let reports = running.reported();
    assert!(reports.iter().map(|report| report.sequence).is_sorted());
    assert_eq!(reports.iter().filter(|report| report.is_extra).count(), 3);
    assert_eq!(running.metric("looks_total"), "3");
}

#[tokio::test(start_paused = true)]
async fn looks_of_a_silent_server_begin_before_its_timeout_and_overlap() {
    let mut running = start_answering((EvidenceClass::NoAnswer, Stage::Banner), 5 * SECOND, 1000);
    running.prober.set(confirmed(3, 0));
    sleep(9 * SECOND).await;
    let starts = running.started();
    let looks: Vec<_> = starts.iter().filter(|start| start.is_look).map(|start| start.at - starts[0].at).collect();
    let expected = [1250, 1450].map(Duration::from_millis);
    assert!(
        looks.len() == 2 && looks.iter().zip(expected).all(|(look, at)| *look >= at && *look < at + SECOND / 10),
        "{looks:?}"
    );
    // 5 s for the first, and 1.45 s more for the two others together.
    assert_eq!(running.reported().len(), 3);
    // What is known to be silent is probed at its interval.
    sleep(50 * SECOND).await;
    assert!(running.started().iter().all(|start| !start.is_look));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_takes_its_time_is_not_suspect() {
    let mut running = start(2 * SECOND, 1000);
    running.prober.set(confirmed(3, 0));
    sleep(10 * SECOND).await;
    running.started();
    sleep(60 * SECOND).await;
    let starts = running.started();
    assert!((5..=7).contains(&starts.len()) && starts.iter().all(|start| !start.is_look), "{starts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_the_looks_and_brings_no_round_early() {
    let ok = (EvidenceClass::Ok, Stage::Ehlo);
    let mut running = start_answering_first(vec![REFUSED], ok, Duration::from_millis(10), 1000);
    running.prober.set(confirmed(4, 0));
    sleep(60 * SECOND).await;
    let starts = running.started();
    assert_eq!(starts.iter().filter(|start| start.is_look).count(), 1);
    let rounds: Vec<_> = starts.iter().filter(|start| !start.is_look).cloned().collect();
    assert!(gaps(&rounds).iter().all(|gap| *gap >= 9 * SECOND), "{:?}", gaps(&rounds));
}

#[tokio::test(start_paused = true)]
async fn the_last_of_the_rounds_that_fail_at_the_login_waits_until_the_failure_has_lasted() {
    for _ in 0..10 {
        let mut running = start_answering((EvidenceClass::Temporary, Stage::Auth), Duration::from_millis(10), 1000);
        running.prober.set(confirmed(6, 50));
        sleep(60 * SECOND).await;
        let starts = running.started();
        assert!(starts.iter().all(|start| !start.is_look));
        let lasted = starts[5].at - starts[0].at;
        assert!(lasted >= 50 * SECOND && lasted < 53 * SECOND, "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_the_login_begins_no_looks() {
    let refused = (EvidenceClass::AuthenticationRefused, Stage::Auth);
    for answer in [refused, (EvidenceClass::Throttled, Stage::Banner), (EvidenceClass::Ok, Stage::Ehlo)] {
        let mut running = start_answering(answer, Duration::ZERO, 1000);
        running.prober.set(confirmed(3, 0));
        sleep(61 * SECOND).await;
        assert!(running.started().iter().all(|start| !start.is_look), "{answer:?}");
        assert_eq!(running.metric("looks_total"), "0");
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_asked_for_comes_at_once_and_once_in_an_interval() {
    let mut running = start(Duration::from_millis(10), 1000);
    running.prober.set(confirmed(3, 50));
    sleep(2 * SECOND).await;
    running.started();
    for _ in 0..5 {
        running.prober.look(confirmed(3, 50).key);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(running.started().iter().filter(|start| start.is_look).count(), 1);
    sleep(10 * SECOND).await;
    running.prober.look(confirmed(3, 50).key);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(running.started().iter().filter(|start| start.is_look).count(), 1);
    assert!(running.reported().iter().any(|report| report.is_extra));
}

#[tokio::test(start_paused = true)]
async fn a_rare_probe_may_be_looked_at_more_often_than_its_interval() {
    let mut running = start(Duration::from_millis(10), 1000);
    let rare = shared("shop", "rare", 900 * SECOND);
    running.prober.set(rare.clone());
    sleep(2 * SECOND).await;
    running.started();
    for _ in 0..60 {
        running.prober.look(rare.key.clone());
        sleep(SECOND).await;
    }
    assert_eq!(running.started().iter().filter(|start| start.is_look).count(), 6);
}

#[tokio::test(start_paused = true)]
async fn everybody_hears_of_rounds_that_others_ask_for_as_extra_ones() {
    let mut running = start(Duration::ZERO, 1000);
    running.prober.set(confirmed(3, 50));
    running.prober.set(shared("shop", "every-second", SECOND));
    sleep(30 * SECOND).await;
    let reports = running.reported();
    let of = |name: &'static str| reports.iter().filter(move |report| *report.key.backend.name == *name);
    assert!(of("a").count() >= 28 && of("a").filter(|report| !report.is_extra).count() <= 4);
    assert!(of("every-second").count() >= 28 && of("every-second").all(|report| !report.is_extra));
}

/// A relay of one's own with these endpoints, whose failures are confirmed at once.
fn relay(endpoints: &[u8]) -> ProbeTarget {
    let endpoints = endpoints.iter().map(|last| ([192, 0, 2, *last], 25).into()).collect();
    let destination =
        Destination::Service(ServicePort { dns_name: "relay.shop.svc".into(), port: 25, client_port: 25, endpoints });
    ProbeTarget { destination, idle_session: true, ..confirmed(3, 0) }
}

const ANSWERS: (EvidenceClass, Stage) = (EvidenceClass::Ok, Stage::Ehlo);

#[tokio::test(start_paused = true)]
async fn the_end_of_an_idle_session_starts_the_looks_that_confirm_a_failure() {
    let mut running = start_answering_first(vec![ANSWERS], REFUSED, Duration::from_millis(1), 1000);
    running.prober.set(relay(&[1]));
    sleep(2 * SECOND).await;
    let [session] = <[FakeSession; 1]>::try_from(running.opened()).ok().expect("one session");
    assert_eq!((running.started().len(), running.reported().len()), (1, 1));
    let ended = Instant::now();
    session.end.send(IdleEnd::Reset).unwrap();
    sleep(SECOND).await;
    let looks = running.started();
    let times: Vec<_> = looks.iter().map(|look| look.at - ended).collect();
    assert!(looks.len() == 3 && looks.iter().all(|look| look.is_look), "{looks:?}");
    assert!(times[0] < Duration::from_millis(10) && times[2] < Duration::from_millis(300), "{times:?}");
    let reports = running.reported();
    assert!(reports.len() == 3 && reports.iter().all(|report| report.outcome.class.effect() == Effect::Failure));
    assert!(running.opened().is_empty());
    assert_eq!(running.metric("looks_total"), "3");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_idle_session_of_a_server_that_answers_is_one_look_and_no_failure() {
    for end in [IdleEnd::Closed, IdleEnd::Reset, IdleEnd::ServiceNotAvailable, IdleEnd::OutOfTurn, IdleEnd::Broken] {
        let mut running = start_answering(ANSWERS, Duration::from_millis(1), 1000);
        running.prober.set(relay(&[1, 2]));
        sleep(2 * SECOND).await;
        let sessions = running.opened();
        assert_eq!(sessions.len(), 2);
        assert_eq!(running.started().len(), 1);
        for session in sessions.into_iter().filter(|session| session.address.ip().to_string() == "192.0.2.1") {
            session.end.send(end).unwrap();
        }
        sleep(5 * SECOND).await;
        let looks = running.started();
        assert!(looks.len() == 1 && looks[0].is_look, "{end:?}: {looks:?}");
        assert!(running.reported().iter().all(|report| report.outcome.class == EvidenceClass::Ok));
        // It was short, so the next one waits.
        assert!(running.opened().is_empty(), "{end:?}");
        sleep(2 * 60 * SECOND).await;
        assert_eq!(running.opened().len(), 1, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_asked_for_in_the_name_of_every_namespace_that_watches_its_address() {
    let mut running = start_answering(ANSWERS, Duration::from_millis(1), 1000);
    // The first target, which its session is opened for.
    let of_others = ProbeTarget { key: shared("evil", "a", SECOND).key, timeout: 4 * SECOND, ..relay(&[1]) };
    running.prober.set(of_others);
    sleep(2 * SECOND).await;
    running.prober.set(relay(&[1]));
    sleep(15 * SECOND).await;
    let [session] = <[FakeSession; 1]>::try_from(running.opened()).ok().expect("one session");
    session.end.send(IdleEnd::Closed).unwrap();
    sleep(2 * 60 * SECOND).await;
    let [session] = <[FakeSession; 1]>::try_from(running.opened()).ok().expect("one session");
    assert_eq!(session.namespaces.iter().map(|namespace| &**namespace).collect::<Vec<_>>(), ["evil", "shop"]);
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_leave_a_service_and_targets_that_go_take_their_sessions_along() {
    let mut running = start_answering(ANSWERS, Duration::from_millis(1), 1000);
    running.prober.set(relay(&[1, 2]));
    sleep(2 * SECOND).await;
    let sessions = running.opened();
    running.prober.set(relay(&[2]));
    sleep(Duration::from_millis(10)).await;
    for session in &sessions {
        let is_gone = session.address.ip().to_string() == "192.0.2.1";
        assert_eq!(session.end.is_closed(), is_gone, "{}", session.address);
    }
    running.prober.remove(&relay(&[2]).key);
    sleep(Duration::from_millis(10)).await;
    assert!(sessions.len() == 2 && sessions.iter().all(|session| session.end.is_closed()));
    assert_eq!(running.metric("looks_total"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_target_has_idle_sessions_for_as_long_as_anybody_wants_them() {
    let mut running = start_answering(ANSWERS, Duration::from_millis(1), 1000);
    let without = ProbeTarget { idle_session: false, ..relay(&[1]) };
    running.prober.set(without.clone());
    sleep(30 * SECOND).await;
    assert!(running.opened().is_empty());
    running.prober.set(relay(&[1]));
    sleep(15 * SECOND).await;
    let [session] = <[FakeSession; 1]>::try_from(running.opened()).ok().expect("one session");
    running.prober.set(without);
    sleep(Duration::from_millis(10)).await;
    assert!(session.end.is_closed());
    sleep(30 * SECOND).await;
    assert!(running.opened().is_empty());
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_are_closed_at_the_end() {
    let mut running = start_answering(ANSWERS, Duration::from_millis(1), 1000);
    running.prober.set(relay(&[1]));
    sleep(2 * SECOND).await;
    let sessions = running.opened();
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert!(sessions.len() == 1 && sessions[0].end.is_closed());
}
