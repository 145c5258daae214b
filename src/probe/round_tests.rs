use std::net::Ipv4Addr;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::Prober;
use super::*;
use EvidenceClass::{
    CertificateInvalid, ConnectionRefused, Inconclusive, NoAnswer, NoEndpoints, Ok, Permanent, ProbeBlocked, Temporary,
    Throttled, Unresolvable,
};
use mail_failover_core::engine::ConfirmationRule;
use mail_failover_core::model::{Depth, NotAfter, ObjectKey, ProbeKey, ServicePort, Timestamp, Tls, TrustAnchors};
use mail_failover_smtp::dialogue::IdleEnd;
use mail_failover_smtp::testing::{Hang, Hear, Pause, ServerStep, refusing, say, server};

fn service(endpoints: Vec<SocketAddr>) -> Destination {
    Destination::Service(ServicePort {
        dns_name: "relay.shop.svc.cluster.local".into(),
        port: 25,
        client_port: 25,
        endpoints,
    })
}

fn host(host: &str, port: u16) -> Destination {
    Destination::Host(SmtpHost { host: host.into(), port })
}

fn target(destination: Destination) -> ProbeTarget {
    ProbeTarget {
        key: ProbeKey { backend: ObjectKey::new("shop", "a"), probe: "smtp".into() },
        revision: 7,
        destination,
        tls: Tls { mode: TlsMode::None, server_name: "a".into(), trust: TrustAnchors::WellKnown },
        interval: Duration::from_millis(200),
        timeout: Duration::from_millis(300),
        depth: Depth::Banner,
        envelope: mail_failover_core::model::Envelope::default(),
        login: mail_failover_core::model::ProbeLogin::None,
        replies: mail_failover_core::model::ReplyRules::default(),
        is_used: false,
        confirmation: ConfirmationRule::default(),
        idle_session: false,
    }
}

fn settings() -> Settings {
    // Nobody is asked: addresses only, or nobody answers.
    Settings {
        dns_servers: vec!["127.0.0.1:9".parse().unwrap()],
        concurrency: 4,
        ehlo_name: Some("probe.example.net".to_owned()),
        guard: DialGuard {
            allow_destinations: vec!["127.0.0.0/8".parse().unwrap()],
            allow_ports: vec!["1-65535".parse().unwrap()],
            ..DialGuard::default()
        },
    }
}

async fn guarded(guard: DialGuard, target: ProbeTarget) -> (ProbeReport, String) {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let rounds = Rounds::new(&Settings { guard, ..settings() }, Clock::system(), metrics).unwrap();
    let prepared = rounds.prepare(target);
    let report = rounds.run(&prepared, terms(1), &Mutex::default()).await;
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    (report, text)
}

async fn round(target: ProbeTarget) -> (ProbeReport, String) {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let rounds = Rounds::new(&settings(), Clock::system(), metrics).unwrap();
    let prepared = rounds.prepare(target);
    let report = rounds.run(&prepared, terms(3), &Mutex::default()).await;
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    (report, text)
}

fn terms(sequence: u64) -> RoundTerms {
    RoundTerms {
        sequence,
        postponed_login: None,
        namespaces: ["shop".into()].into(),
        is_used: false,
        interval: Duration::from_millis(200),
        is_look: false,
    }
}

async fn banner(text: &str) -> SocketAddr {
    server(vec![say(text), Hear("QUIT"), say("221 bye\r\n")]).await
}

#[tokio::test]
async fn all_addresses_are_tried_and_one_that_works_is_enough() {
    let addresses = vec![refusing().await, banner("220 mx\r\n").await, server(vec![Hang]).await];
    let (report, metrics) = round(target(service(addresses.clone()))).await;
    assert_eq!((report.outcome.class, report.outcome.message.as_str()), (Ok, "Banner: 220 mx"));
    let mut classes: Vec<_> = report.addresses.iter().map(|at| (at.address, at.outcome.class)).collect();
    let mut expected = vec![(addresses[0], ConnectionRefused), (addresses[1], Ok), (addresses[2], NoAnswer)];
    classes.sort();
    expected.sort();
    assert_eq!(classes, expected);
    assert_eq!((report.revision, report.sequence, report.resolution), (7, 3, Resolution::NotNeeded));
    assert!(report.finished_at.since(report.started_at) >= Duration::from_millis(300));
    assert!(metrics.contains("mail_failover_probe_rounds_total{class=\"Ok\"} 1"), "{metrics}");
}

#[tokio::test]
async fn without_an_address_the_reason_is_told() {
    let (report, _) = round(target(service(vec![]))).await;
    assert_eq!(report.outcome.class, NoEndpoints);
    assert_eq!(report.outcome.message, "Resolve: relay.shop.svc.cluster.local has no ready endpoint");
    // Nothing listens there: our resolver's failure is not the backend's.
    let (report, metrics) = round(target(host("mx.example.com", 25))).await;
    assert_eq!((report.outcome.class, report.outcome.stage), (Inconclusive, Stage::Resolve));
    assert!(matches!(report.resolution, Resolution::Unanswered(_)));
    assert!(metrics.contains("mail_failover_probe_lookups_total{result=\"unanswered\"} 1"), "{metrics}");
    let (report, _) = round(target(host("not a name..", 25))).await;
    assert_eq!((report.outcome.class, report.addresses.len()), (Unresolvable, 0));
}

#[tokio::test]
async fn a_host_given_by_address_is_tried_there() {
    let address = banner("421 4.3.2 shutting down\r\n").await;
    let (report, _) = round(target(host("127.0.0.1", address.port()))).await;
    assert_eq!((report.outcome.class, report.addresses[0].address), (Temporary, address));
    assert_eq!(report.outcome.message, "Banner: 421 4.3.2 shutting down");
}

/// A listener that counts its connections.
async fn counting() -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::<std::sync::atomic::AtomicUsize>::default();
    let counted = count.clone();
    tokio::spawn(async move {
        while let std::result::Result::Ok((_stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    (address, count)
}

#[tokio::test]
async fn nothing_is_connected_to_that_the_guard_refuses() {
    let (address, connections) = counting().await;
    let every_port = DialGuard { allow_ports: vec!["1-65535".parse().unwrap()], ..DialGuard::default() };
    for destination in [host("127.0.0.1", address.port()), host("localhost", address.port()), service(vec![address])] {
        let (report, metrics) = guarded(every_port.clone(), target(destination.clone())).await;
        assert_eq!((report.outcome.class, report.outcome.stage), (ProbeBlocked, Stage::Connect), "{report:?}");
        let told =
            "Connect: 127.0.0.1 is a loopback address (127.0.0.0/8), which is never connected to; name another host";
        let told_too = report
            .outcome
            .message
            .starts_with(&told.replace("127.0.0.1 is", "::1 is").replace("127.0.0.0/8", "::1/128"));
        assert!(report.outcome.message.starts_with(told) || told_too, "{}", report.outcome.message);
        assert!(metrics.contains("mail_failover_probe_refused_destinations_total{rule=\"loopback\"}"), "{metrics}");
        assert!(report.addresses.is_empty());
    }
    let denying = DialGuard { deny_destinations: vec!["127.0.0.0/8".parse().unwrap()], ..settings().guard };
    let denying = DialGuard { allow_destinations: vec![], ..denying };
    let (report, _) = guarded(denying, target(host("127.0.0.1", address.port()))).await;
    assert_eq!(report.outcome.class, ProbeBlocked);
    let (report, _) =
        guarded(DialGuard { allow_ports: vec![], ..settings().guard }, target(host("127.0.0.1", address.port()))).await;
    assert!(report.outcome.message.contains("has none of the allowed ports"), "{}", report.outcome.message);
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 0, "nobody was connected to");
}

#[tokio::test]
async fn an_address_that_is_refused_says_nothing_about_the_others() {
    let refused: SocketAddr = "169.254.169.254:25".parse().unwrap();
    let (works, fails) = (banner("220 mx\r\n").await, refusing().await);
    for (endpoint, class) in [(works, Ok), (fails, ConnectionRefused)] {
        let (report, _) = round(target(service(vec![refused, endpoint]))).await;
        assert_eq!(report.outcome.class, class);
        assert_eq!(report.addresses.iter().map(|at| at.address).collect::<Vec<_>>(), [endpoint]);
    }
}

#[tokio::test]
async fn waiting_for_a_permit_is_not_the_backends_silence() {
    // Sixteen dialogues of 200 ms each, two at a time, with a timeout of a second.
    let addresses =
        futures::future::join_all((0..16).map(|_| {
            server(vec![mail_failover_smtp::testing::Drip(b"220 mx\r\n".to_vec(), Duration::from_millis(25))])
        }))
        .await;
    let timeout = Duration::from_secs(1);
    let (report, metrics) = round(ProbeTarget { timeout, ..target(service(addresses)) }).await;
    assert!(report.addresses.iter().all(|at| at.outcome.class == Ok), "{report:?}");
    assert!(report.addresses.iter().all(|at| at.outcome.elapsed < timeout));
    assert!(metrics.contains("mail_failover_probe_place_waits_total{cause=\"Dialogues\"}"), "{metrics}");
    let delay = report.delay.unwrap();
    assert!(delay.cause == DelayCause::Dialogues && delay.waited < Duration::from_secs(5), "{delay:?}");
}

/// A prompt server in a thread of its own. The threads of the prober get the processor only now and then.
#[tokio::test]
async fn too_little_processor_time_of_our_own_is_not_the_backends_silence() {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut out = stream.try_clone().unwrap();
                let _ = out.write_all(b"220 mx\r\n");
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = out.write_all(if line.starts_with("QUIT") { b"221 bye\r\n" } else { b"250 mx\r\n" });
                }
            });
        }
    });
    for depth in [Depth::Connect, Depth::Banner, Depth::Ehlo] {
        let rounds = Rounds::new(&settings(), Clock::system(), Metrics::new(&mut Registry::default())).unwrap();
        let prepared = rounds.prepare(ProbeTarget { depth, ..target(service(vec![address])) });
        let known = Mutex::default();
        for sequence in 1..=4 {
            let round = rounds.run(&prepared, terms(sequence), &known);
            // Whatever else this process has to do takes the thread for longer than the timeout between any two polls.
            let other = async {
                loop {
                    std::thread::sleep(Duration::from_millis(350));
                    tokio::task::yield_now().await;
                }
            };
            let report = tokio::select! { report = round => report, () = other => unreachable!() };
            assert!(matches!(report.outcome.class, Ok | Inconclusive), "{depth:?}: {:?}", report.outcome);
        }
    }
}

#[tokio::test]
async fn a_deadline_that_was_noticed_too_late_makes_the_round_inconclusive() {
    let mut registry = Registry::default();
    let rounds = Rounds::new(&settings(), Clock::system(), Metrics::new(&mut registry)).unwrap();
    let silent = server(vec![Hang]).await;
    let prepared = rounds.prepare(ProbeTarget { depth: Depth::Ehlo, ..target(service(vec![silent])) });
    let known = Mutex::default();
    let round = rounds.run(&prepared, terms(1), &known);
    let blocking = async {
        // The dialogue waits for the greeting by now, and its deadline passes unseen.
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::thread::sleep(Duration::from_millis(600));
        std::future::pending::<()>().await;
    };
    let report = tokio::select! { report = round => report, () = blocking => unreachable!() };
    assert_eq!((report.outcome.class, report.outcome.stage), (Inconclusive, Stage::Banner), "{:?}", report.outcome);
    assert!(report.outcome.message.contains("late at a deadline of 300ms"), "{}", report.outcome.message);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    assert!(text.contains("mail_failover_probe_starved_dialogues_total 1"), "{text}");
}

#[tokio::test]
async fn a_look_beside_the_interval_does_not_log_in() {
    let script =
        vec![say("220 mx\r\n"), Hear("EHLO"), say("250-mx\r\n250 AUTH PLAIN\r\n"), Hear("QUIT"), say("221 bye\r\n")];
    let address = server(script).await;
    let login = ProbeLogin::With(mail_failover_core::model::Login::new("shop", "secret"));
    let target = ProbeTarget { depth: Depth::Auth, login, ..target(service(vec![address])) };
    let rounds = Rounds::new(&settings(), Clock::system(), Metrics::new(&mut Registry::default())).unwrap();
    let prepared = rounds.prepare(target);
    let report = rounds.run(&prepared, RoundTerms { is_look: true, ..terms(1) }, &Mutex::default()).await;
    assert_eq!((report.outcome.class, report.outcome.stage), (Ok, Stage::Ehlo), "{:?}", report.outcome);
}

#[test]
fn silence_beside_a_deadline_that_was_noticed_too_late_is_no_evidence() {
    let dialogue = |at: AddressOutcome, is_starved| Dialogue { at, is_starved, delay: None };
    let (silent, starved) = (at(1, NoAnswer, Stage::Banner), at(2, Inconclusive, Stage::Banner));
    let answered = at(3, Permanent, Stage::Ehlo);
    let judged = without_blame(vec![
        dialogue(silent.clone(), false),
        dialogue(starved, true),
        dialogue(answered.clone(), false),
    ]);
    let classes: Vec<_> = judged.iter().map(|at| at.outcome.class).collect();
    assert_eq!(classes, [Inconclusive, Inconclusive, Permanent], "an answer is one all the same");
    let judged = without_blame(vec![dialogue(silent.clone(), false), dialogue(answered.clone(), false)]);
    assert_eq!(judged, [silent, answered]);
}

#[tokio::test]
async fn an_unusable_authority_is_no_evidence() {
    let mut target = target(service(vec![refusing().await]));
    target.tls = Tls { mode: TlsMode::StartTls, trust: TrustAnchors::Pem(b"nothing".as_slice().into()), ..target.tls };
    let (report, _) = round(target).await;
    assert_eq!((report.outcome.class, report.outcome.stage), (Inconclusive, Stage::StartTls));
}

#[tokio::test]
async fn the_prober_reports_from_start_to_shutdown() {
    let address = banner("220 mx\r\n").await;
    let (reports, mut reported) = mpsc::channel(10);
    let shutdown = CancellationToken::new();
    let metrics = Metrics::new(&mut Registry::default());
    let (prober, task) = Prober::start(&settings(), Clock::system(), metrics, reports, shutdown.clone()).unwrap();
    prober.set(target(host("127.0.0.1", address.port())));
    for sequence in 1..=3 {
        let report = reported.recv().await.unwrap();
        assert_eq!((report.sequence, report.outcome.class), (sequence, Ok));
    }
    shutdown.cancel();
    task.await.unwrap();
}

/// Probes of another namespace, all of them at servers that accept connections and say nothing.
fn tarpits(endpoints: &[SocketAddr]) -> Vec<ProbeTarget> {
    let mut tarpits = vec![];
    for backend in 0..12 {
        for probe in 0..8_u64 {
            tarpits.push(ProbeTarget {
                key: ProbeKey {
                    backend: ObjectKey::new("evil", format!("tarpit-{backend}")),
                    probe: format!("p{probe}").into(),
                },
                interval: Duration::from_millis(100),
                timeout: Duration::from_secs(30) + Duration::from_millis(backend * 8 + probe),
                ..target(service(endpoints.to_vec()))
            });
        }
    }
    tarpits
}

/// Successful rounds of the victim that end within so long.
async fn rounds_within(limit: Duration, reported: &mut mpsc::Receiver<ProbeReport>) -> usize {
    let mut rounds = 0;
    let until = tokio::time::sleep(limit);
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return rounds,
            Some(report) = reported.recv() => {
                rounds += usize::from(&*report.key.backend.namespace == "shop" && report.outcome.class == Ok);
            }
        }
    }
}

fn dialogues(registry: &Registry) -> usize {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("mail_failover_probe_dialogues "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn tarpits_of_another_namespace_neither_delay_a_probe_nor_outlive_their_objects() {
    let relay = server(vec![say("220 mx\r\n"), Hear("QUIT"), say("221 bye\r\n")]).await;
    let mut endpoints = vec![];
    for _ in 0..16 {
        endpoints.push(server(vec![Hang]).await);
    }
    for is_used in [false, true] {
        let mut registry = Registry::default();
        let (reports, mut reported) = mpsc::channel(1000);
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new(&mut registry);
        let settings = Settings { concurrency: 64, ..settings() };
        let (prober, task) = Prober::start(&settings, Clock::system(), metrics, reports, shutdown.clone()).unwrap();
        let tarpits = tarpits(&endpoints);
        for tarpit in &tarpits {
            // With a route that names all of them, they take their part of the floor as well.
            prober.set(ProbeTarget { is_used, ..tarpit.clone() });
        }
        rounds_within(Duration::from_secs(1), &mut reported).await;
        assert!(dialogues(&registry) >= 24, "they take what they get");
        prober.set(target(host("127.0.0.1", relay.port())));
        // Fifteen of them when alone.
        let rounds = rounds_within(Duration::from_secs(3), &mut reported).await;
        assert!(rounds >= 10, "{rounds} rounds");
        for tarpit in &tarpits {
            prober.remove(&tarpit.key);
        }
        // At once, and not after their timeout of 30 s.
        for _ in 0..10 {
            rounds_within(Duration::from_secs(1), &mut reported).await;
            if dialogues(&registry) <= 1 {
                break;
            }
        }
        assert!(dialogues(&registry) <= 2, "{} dialogues", dialogues(&registry));
        shutdown.cancel();
        task.await.unwrap();
    }
}

#[test]
fn a_host_name_without_a_dot_is_no_name_for_ehlo() {
    use super::super::ehlo_name;
    assert_eq!(ehlo_name(None, "operator-7d9c"), None);
    assert_eq!(ehlo_name(None, "mx.example.com").as_deref(), Some("mx.example.com"));
    assert_eq!(ehlo_name(Some("short"), "mx.example.com").as_deref(), Some("short"), "what is configured is sent");
}

#[test]
fn a_name_that_would_break_ehlo_is_refused() {
    for name in ["", "two words", "line\r\nQUIT", "bücher.example"] {
        let settings = Settings { ehlo_name: Some(name.to_owned()), ..settings() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let result = Rounds::new(&settings, Clock::system(), Metrics::new(&mut Registry::default()));
        assert!(matches!(result, Err(StartError::EhloName(refused)) if refused == name));
    }
}

fn at(last: u8, class: EvidenceClass, stage: Stage) -> AddressOutcome {
    let address = (Ipv4Addr::new(192, 0, 2, last), 25).into();
    AddressOutcome { address, outcome: outcome(class, stage, class.as_str()) }
}

#[test]
fn the_verdict_is_the_most_telling_outcome() {
    use Stage::{Banner, Connect, Ehlo, StartTls};
    let cases: Vec<(Vec<AddressOutcome>, EvidenceClass, &str)> = vec![
        (vec![at(1, Permanent, Ehlo)], Permanent, "EHLO: Permanent"),
        (vec![at(1, ConnectionRefused, Connect), at(2, Ok, Banner)], Ok, "Banner: Ok"),
        // Alive and asking for less: neither way.
        (
            vec![at(1, ConnectionRefused, Connect), at(2, Throttled, Banner)],
            Throttled,
            "Banner: Throttled (at 192.0.2.2:25, the most telling of 2 addresses)",
        ),
        // The furthest.
        (
            vec![at(1, ConnectionRefused, Connect), at(2, CertificateInvalid, StartTls), at(3, Temporary, Banner)],
            CertificateInvalid,
            "STARTTLS: CertificateInvalid (at 192.0.2.2:25, the most telling of 3 addresses)",
        ),
        // Of equals the first by class, then by address.
        (
            vec![
                at(2, NoAnswer, Connect),
                at(3, ConnectionRefused, Connect),
                at(1, NoAnswer, Connect),
                at(4, ConnectionRefused, Connect),
            ],
            ConnectionRefused,
            "Connect: ConnectionRefused (at 192.0.2.3:25, the most telling of 4 addresses)",
        ),
        // What we could not try from here masks nothing.
        (
            vec![at(1, Inconclusive, Connect), at(2, ConnectionRefused, Connect)],
            ConnectionRefused,
            "Connect: ConnectionRefused (at 192.0.2.2:25, the most telling of 2 addresses)",
        ),
        (vec![at(1, Inconclusive, Connect), at(2, Ok, Connect)], Ok, "Connect: Ok"),
        (vec![at(1, Inconclusive, Connect)], Inconclusive, "Connect: Inconclusive"),
    ];
    for (mut addresses, class, message) in cases {
        for _ in 0..addresses.len() {
            addresses.rotate_left(1);
            let outcome = verdict(&host("mx", 25), &Resolution::NotNeeded, &addresses);
            assert_eq!((outcome.class, outcome.message.as_str()), (class, message));
        }
    }
}

fn not_after(micros: i64) -> NotAfter {
    NotAfter { at: Timestamp::from_micros(micros), issuer: Some(format!("R{micros}").into()) }
}

#[test]
fn silence_of_dns_for_this_name_alone_is_evidence_and_silence_for_all_is_none() {
    let cases = [
        (Resolution::NameSilent("no answer".to_owned()), EvidenceClass::Unresolvable),
        (Resolution::Negative("no such name".to_owned()), EvidenceClass::Unresolvable),
        (Resolution::Unanswered("timeout".to_owned()), EvidenceClass::Inconclusive),
    ];
    for (resolution, class) in cases {
        assert_eq!(verdict(&host("mx", 25), &resolution, &[]).class, class, "{resolution:?}");
    }
}

#[test]
fn the_earliest_expiry_of_all_addresses_is_told() {
    let mut addresses = vec![at(1, Ok, Stage::Ehlo), at(2, Ok, Stage::Ehlo), at(3, Ok, Stage::Ehlo)];
    for (at, micros) in addresses.iter_mut().zip([Some(30), Some(10), None]) {
        at.outcome.certificate_not_after = micros.map(not_after);
    }
    let outcome = verdict(&host("mx", 25), &Resolution::NotNeeded, &addresses);
    assert_eq!(outcome.certificate_not_after, Some(not_after(10)));
}

#[test]
fn messages_keep_their_bound_with_the_address_added() {
    let mut addresses = vec![at(1, Permanent, Stage::Ehlo), at(2, Permanent, Stage::Ehlo)];
    addresses[0].outcome.message = "x".repeat(MAX_MESSAGE);
    let outcome = verdict(&host("mx", 25), &Resolution::NotNeeded, &addresses);
    assert!(
        outcome.message.len() <= MAX_MESSAGE && outcome.message.ends_with("of 2 addresses)"),
        "{}",
        outcome.message
    );
}

#[test]
fn every_address_has_its_turn() {
    let few: Vec<SocketAddr> = (0..16_u8).rev().map(|last| (Ipv4Addr::new(192, 0, 2, last), 25).into()).collect();
    let chosen = in_turn(&few, 1);
    assert!(chosen.len() == 16 && chosen.is_sorted());
    for count in [17_u8, 40, 100, 255] {
        let many: Vec<SocketAddr> = (0..count).map(|last| (Ipv4Addr::new(192, 0, 2, last), 25).into()).collect();
        let rounds = u64::from(count).div_ceil(MAX_ADDRESSES as u64);
        let mut tried: Vec<_> = (1..=rounds).flat_map(|sequence| in_turn(&many, sequence)).collect();
        tried.sort_unstable();
        tried.dedup();
        assert_eq!(tried, many);
    }
}

#[tokio::test]
async fn a_round_is_small_while_it_waits() {
    let rounds = Rounds::new(&settings(), Clock::system(), Metrics::new(&mut Registry::default())).unwrap();
    let prepared = rounds.prepare(target(service(vec![])));
    let known = Mutex::default();
    let round = rounds.run(&prepared, terms(1), &known);
    assert!(size_of_val(&round) < 4096, "{} octets", size_of_val(&round));
}

fn idle_terms() -> IdleTerms {
    IdleTerms { namespaces: ["shop".into()].into(), is_used: true, interval: Duration::from_millis(200) }
}

/// A server up to EHLO, and then this.
async fn up_to_ehlo(rest: Vec<ServerStep>) -> SocketAddr {
    let steps = vec![say("220 mx ESMTP\r\n"), Hear("EHLO probe.example.net"), say("250 mx\r\n")];
    server([steps, rest].concat()).await
}

/// An idle session with an address, and the metrics after it.
async fn idle(settings: &Settings, address: SocketAddr, close: &CancellationToken) -> (SessionOver, String) {
    let mut registry = Registry::default();
    let rounds = Rounds::new(settings, Clock::system(), Metrics::new(&mut registry)).unwrap();
    let prepared = rounds.prepare(ProbeTarget { depth: Depth::Auth, ..target(service(vec![address])) });
    let over = rounds.idle_session(&prepared, &idle_terms(), address, close).await;
    rounds.wait_for_quits().await;
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    (over, text)
}

#[tokio::test]
async fn an_idle_session_ends_with_its_server_or_with_quit() {
    let open = CancellationToken::new();
    let address = up_to_ehlo(vec![Pause(Duration::from_millis(50))]).await;
    let (over, metrics) = idle(&settings(), address, &open).await;
    assert_eq!(over, SessionOver::ByServer(IdleEnd::Closed));
    assert!(metrics.contains("mail_failover_probe_idle_sessions 0\n"), "{metrics}");
    let closed = CancellationToken::new();
    let closing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        closed.cancel();
    };
    let address = up_to_ehlo(vec![Hear("QUIT"), say("221 bye\r\n"), Hang]).await;
    let settings = settings();
    let ((over, _), ()) = tokio::join!(idle(&settings, address, &closed), closing);
    assert_eq!(over, SessionOver::Closed);
}

#[tokio::test]
async fn no_idle_session_is_opened_where_nothing_connects_to_or_nobody_answers() {
    let open = CancellationToken::new();
    let address = up_to_ehlo(vec![Hang]).await;
    let guarded = Settings { guard: DialGuard::default(), ..settings() };
    assert_eq!(idle(&guarded, address, &open).await.0, SessionOver::NotOpened);
    let full = server(vec![say("421 4.7.0 too many connections\r\n")]).await;
    for address in [refusing().await, full, server(vec![Hang]).await] {
        let (over, metrics) = idle(&settings(), address, &open).await;
        assert_eq!(over, SessionOver::NotOpened);
        assert!(metrics.contains("mail_failover_probe_idle_session_failures_total 1\n"), "{metrics}");
    }
}
