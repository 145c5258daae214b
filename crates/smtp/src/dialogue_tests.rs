use futures::{StreamExt, stream};

use super::super::testing::{
    Alert, Drip, Hang, Hear, OldTls, Pause, Reset, ServerStep, TestAuthority, Tls, authority_params,
    common_name_params, refusing, say, self_signed, server, server_at, server_params,
};
use super::super::tls::TlsSetups;
use super::*;
use EvidenceClass::{
    AccountPaused, AuthenticationRefused, CertificateInvalid, ConnectionLost, ConnectionRefused, NoAnswer, Ok,
    Permanent, ProbeBlocked, ProtocolError, QuotaExhausted, RecipientLevel, Reputation, Temporary, Throttled,
    TlsFailed,
};
use mail_failover_core::model::{Login, ReplyRule, ReplyRules, Timestamp, Tls as TlsModel, TrustAnchors};

const NAME: &str = "mx.example.com";
const TIMEOUT: Duration = Duration::from_millis(300);
/// Dialogues that run side by side in the longest tests: after a failure each waits for the end of its QUIT.
const AT_A_TIME: usize = 4;

fn plan(mode: TlsMode, depth: Depth, trust: TrustAnchors) -> DialoguePlan {
    // The setup lives on in the plan.
    let tls = TlsSetups::default().setup(&TlsModel { mode, server_name: NAME.into(), trust }).unwrap();
    let (envelope, login) = (Envelope::default(), ProbeLogin::None);
    let (ehlo_name, server_name) = (Some("probe.example.net".into()), NAME.into());
    DialoguePlan {
        ehlo_name,
        mode,
        tls,
        server_name,
        depth,
        envelope,
        login,
        postponed_login: None,
        timeout: TIMEOUT,
        rulebook: Arc::default(),
    }
}

async fn probe(plan: &DialoguePlan, address: SocketAddr) -> Outcome {
    let end = run_session(plan, address).await;
    if let Some(pending_quit) = end.pending_quit {
        pending_quit.send().await;
    }
    end.outcome
}

async fn plain(depth: Depth, steps: Vec<ServerStep>) -> Outcome {
    probe(&plan(TlsMode::None, depth, TrustAnchors::WellKnown), server(steps).await).await
}

fn check(outcome: &Outcome, class: EvidenceClass, message: &str) {
    assert_eq!((outcome.class, outcome.message.as_str()), (class, message));
    assert!(outcome.message.starts_with(outcome.stage.as_str()));
}

fn banner() -> ServerStep {
    say("220 mx.example.com ESMTP\r\n")
}

fn extensions() -> ServerStep {
    say("250-mx.example.com\r\n250-PIPELINING\r\n250-StartTLS\r\n250 SIZE 1000\r\n")
}

fn up_to_tls() -> Vec<ServerStep> {
    vec![banner(), Hear("EHLO probe.example.net"), extensions(), Hear("STARTTLS"), say("220 2.0.0 go\r\n")]
}

#[tokio::test]
async fn each_depth_ends_where_it_says() {
    let whole =
        || vec![banner(), Hear("EHLO probe.example.net\r\n"), extensions(), Hear("QUIT\r\n"), say("221 bye\r\n")];
    check(&plain(Depth::Connect, vec![Hang]).await, Ok, "Connect: connected");
    check(&plain(Depth::Banner, whole()).await, Ok, "Banner: 220 mx.example.com ESMTP");
    check(&plain(Depth::Ehlo, whole()).await, Ok, "EHLO: 250 mx.example.com");
    check(&plain(Depth::StartTls, whole()).await, Ok, "EHLO: 250 mx.example.com");
}

#[tokio::test]
async fn ipv6_is_spoken() {
    let address = server_at(std::net::Ipv6Addr::LOCALHOST.into(), vec![banner(), Hang]).await;
    let plan = plan(TlsMode::None, Depth::Banner, TrustAnchors::WellKnown);
    check(&probe(&plan, address).await, Ok, "Banner: 220 mx.example.com ESMTP");
}

#[tokio::test]
async fn what_goes_wrong_is_told_by_stage() {
    let after_banner = |mut rest: Vec<ServerStep>| {
        let mut steps = vec![banner(), Hear("EHLO ")];
        steps.append(&mut rest);
        steps
    };
    let cases: Vec<(Vec<ServerStep>, EvidenceClass, &str)> = vec![
        (vec![], ConnectionLost, "Banner: connection closed"),
        (vec![Reset], ConnectionLost, "Banner: connection reset"),
        (vec![Hang], NoAnswer, "Banner: no answer within 300ms"),
        (vec![say("421 4.3.2 shutting down\r\n")], Temporary, "Banner: 421 4.3.2 shutting down"),
        (
            vec![say("421 4.7.0 mx Error: too many connections from 192.0.2.7\r\n")],
            Throttled,
            "Banner: 421 4.7.0 mx Error: too many connections from 192.0.2.7",
        ),
        (vec![say("554 no SMTP service here\r\n")], Permanent, "Banner: 554 no SMTP service here"),
        (vec![say("554-mx\r\n554 poor reputation\r\n")], Reputation, "Banner: 554 mx poor reputation"),
        (vec![say("250 ok\r\n")], ProtocolError, "Banner: 250 ok"),
        (vec![say("SSH-2.0-OpenSSH_9.2\r\n")], ProtocolError, "Banner: not an SMTP greeting (21 octets)"),
        (vec![say([0_u8; 100])], ProtocolError, "Banner: not an SMTP greeting (100 octets)"),
        (
            vec![say("220-mx.example.com\r\n220-wait\x1b[2J\r\n220 half a li"), Hang],
            NoAnswer,
            "Banner: no answer within 300ms; greeting begun: 220-mx.example.com 220-wait?[2J 220 half a li",
        ),
        (
            vec![say("220 half a li")],
            ConnectionLost,
            "Banner: connection closed within a reply; greeting begun: 220 half a li",
        ),
        (vec![Drip(b"220 slow\r\n".to_vec(), Duration::from_secs(1))], NoAnswer, "Banner: no answer within 300ms"),
        (
            vec![say([b"220 ".as_slice(), &vec![b'x'; 1_000_000]].concat())],
            ProtocolError,
            "Banner: a reply line of more than 2048 octets",
        ),
        (vec![say("220-x\r\n".repeat(100_000))], ProtocolError, "Banner: a reply of more than 128 lines"),
        (after_banner(vec![]), ConnectionLost, "EHLO: connection closed"),
        (after_banner(vec![Reset]), ConnectionLost, "EHLO: connection reset"),
        (after_banner(vec![Hang]), NoAnswer, "EHLO: no answer within 300ms"),
        (after_banner(vec![say("421 4.3.0 closing\r\n")]), Temporary, "EHLO: 421 4.3.0 closing"),
        (after_banner(vec![say("554 5.7.1 go away\r\n")]), Permanent, "EHLO: 554 5.7.1 go away"),
        (after_banner(vec![say("garbage\r\n")]), ProtocolError, "EHLO: not an SMTP reply: garbage"),
        (
            after_banner(vec![say("250-half\r\n"), Hang]),
            NoAnswer,
            "EHLO: no answer within 300ms; reply begun: 250-half",
        ),
    ];
    for (steps, class, message) in cases {
        check(&plain(Depth::Ehlo, steps).await, class, message);
    }
}

#[tokio::test]
async fn a_refused_connection_is_told() {
    let outcome = probe(&plan(TlsMode::None, Depth::Connect, TrustAnchors::WellKnown), refusing().await).await;
    check(&outcome, ConnectionRefused, "Connect: connection refused");
}

#[tokio::test]
async fn a_server_without_extensions_is_greeted_with_helo_where_none_are_needed() {
    for refusal in ["500 what?\r\n", "502 5.5.2 Error: command not recognized\r\n"] {
        let steps = || vec![banner(), Hear("EHLO "), say(refusal), Hear("HELO probe.example.net"), say("250 hi\r\n")];
        check(&plain(Depth::Ehlo, steps()).await, Ok, "EHLO: 250 hi");
        let strict = plan(TlsMode::StartTls, Depth::StartTls, TrustAnchors::WellKnown);
        assert_eq!(probe(&strict, server(steps()).await).await.class, Permanent);
        let lax = plan(TlsMode::Opportunistic, Depth::StartTls, TrustAnchors::WellKnown);
        check(&probe(&lax, server(steps()).await).await, Ok, "EHLO: 250 hi");
    }
}

#[tokio::test]
async fn the_server_hears_quit_and_may_take_its_time_to_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mx\r\n").await.unwrap();
        let mut heard = String::new();
        while !heard.ends_with("QUIT\r\n") {
            heard.push(char::from(stream.read_u8().await.unwrap()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"221 bye\r\n").await.unwrap();
        // The peer closes in order: no reset.
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
        heard
    });
    let SessionEnd { outcome, pending_quit, .. } =
        run_session(&plan(TlsMode::None, Depth::Banner, TrustAnchors::WellKnown), address).await;
    assert!(outcome.elapsed < Duration::from_millis(100));
    pending_quit.unwrap().send().await;
    assert_eq!(heard.await.unwrap(), "QUIT\r\n");
}

#[tokio::test]
async fn starttls_goes_through_the_handshake_and_greets_again() {
    let authority = TestAuthority::new("ours");
    let trust = TrustAnchors::Pem(authority.pem.clone());
    let config = authority.server(NAME, (2020, 1, 1), (2090, 1, 1));
    let steps = |rest: Vec<ServerStep>| [up_to_tls(), vec![Tls(config.clone())], rest].concat();
    let not_after = Some(NotAfter { at: Timestamp::from_micros(3_786_912_000_000_000), issuer: None });
    let strict = plan(TlsMode::StartTls, Depth::StartTls, trust);
    let cases = [
        (vec![Hear("EHLO probe.example.net"), say("250 inside\r\n")], Ok, "EHLO after STARTTLS: 250 inside"),
        (
            vec![Hear("EHLO "), say("421 4.7.0 TLS upset us\r\n")],
            Temporary,
            "EHLO after STARTTLS: 421 4.7.0 TLS upset us",
        ),
        (vec![Hear("EHLO "), Hang], NoAnswer, "EHLO after STARTTLS: no answer within 300ms"),
        (vec![Hear("EHLO ")], ConnectionLost, "EHLO after STARTTLS: connection closed"),
    ];
    for (rest, class, message) in cases {
        let outcome = probe(&strict, server(steps(rest)).await).await;
        check(&outcome, class, message);
        assert_eq!(outcome.certificate_not_after, not_after);
    }
}

#[tokio::test]
async fn starttls_that_does_not_come_about_is_told() {
    let strict = plan(TlsMode::StartTls, Depth::StartTls, TrustAnchors::WellKnown);
    let lax = plan(TlsMode::Opportunistic, Depth::StartTls, TrustAnchors::WellKnown);
    let not_offered = || vec![banner(), Hear("EHLO "), say("250-mx\r\n250 SIZE\r\n"), Hear("QUIT"), say("221 bye\r\n")];
    check(&probe(&strict, server(not_offered()).await).await, TlsFailed, "STARTTLS: not offered");
    check(&probe(&lax, server(not_offered()).await).await, Ok, "EHLO: 250 mx");
    let asked = |reply: &str| vec![banner(), Hear("EHLO "), extensions(), Hear("STARTTLS\r\n"), say(reply), Hang];
    let cases = [
        (
            "454 4.7.0 TLS not available due to local problem\r\n",
            TlsFailed,
            "STARTTLS: 454 4.7.0 TLS not available due to local problem",
        ),
        (
            "502 5.5.1 Error: command not implemented\r\n",
            TlsFailed,
            "STARTTLS: 502 5.5.1 Error: command not implemented",
        ),
        ("421 4.3.2 shutting down\r\n", Temporary, "STARTTLS: 421 4.3.2 shutting down"),
        ("250 odd\r\n", ProtocolError, "STARTTLS: 250 odd"),
        ("220 go\r\n250-injected\r\n", ProtocolError, "STARTTLS: plain text after the go-ahead for TLS"),
        ("220 go\r\n", NoAnswer, "STARTTLS: no answer within 300ms"),
    ];
    let each = |(plan, (reply, class, message))| async move {
        check(&probe(plan, server(asked(reply)).await).await, class, message);
    };
    // Where TLS is opportunistic, a refused STARTTLS is no failure: mail servers go on without it.
    let with_both = cases.into_iter().enumerate().flat_map(|(at, case)| {
        let lax = (at >= 2).then_some((&lax, case));
        [Some((&strict, case)), lax].into_iter().flatten()
    });
    stream::iter(with_both).for_each_concurrent(AT_A_TIME, each).await;
    for (reply, _, message) in &cases[..2] {
        let refusal = message.trim_start_matches("STARTTLS: ");
        let outcome = probe(&lax, server(asked(reply)).await).await;
        check(&outcome, Ok, &format!("EHLO: 250 mx.example.com; without TLS: {refusal}"));
    }
    // Whether the end or the reset comes first is up to TCP.
    assert_eq!(probe(&strict, server(up_to_tls()).await).await.class, ConnectionLost);
    let garbage = [up_to_tls(), vec![say("garbage, no record\r\n"), Hang]].concat();
    // Together with the go-ahead it is an injection, alone no TLS; which of the two depends on how TCP cuts it.
    let outcome = probe(&strict, server(garbage).await).await;
    assert!(matches!(outcome.class, TlsFailed | ProtocolError), "{outcome:?}");
}

#[tokio::test]
async fn certificates_are_verified_and_what_is_wrong_is_named() {
    let (authority, stranger) = (TestAuthority::new("ours"), TestAuthority::new("another"));
    let trust = TrustAnchors::Pem(authority.pem.clone());
    let cases = [
        (authority.server(NAME, (2020, 1, 1), (2025, 11, 1)), "certificate expired on 2025-11-01"),
        (authority.server(NAME, (2088, 5, 1), (2090, 1, 1)), "certificate is not valid before 2088-05-01"),
        (
            authority.server("other.example.org", (2020, 1, 1), (2090, 1, 1)),
            "certificate is not for mx.example.com but for other.example.org",
        ),
        (
            stranger.server(NAME, (2020, 1, 1), (2090, 1, 1)),
            "certificate is not signed by a trusted authority but by \"another\", whose certificate the server does not present",
        ),
    ];
    for (config, what) in cases {
        let steps = [up_to_tls(), vec![Tls(config.clone()), Hear("EHLO "), say("250 in\r\n")]].concat();
        let outcome =
            probe(&plan(TlsMode::StartTls, Depth::StartTls, trust.clone()), server(steps.clone()).await).await;
        check(&outcome, CertificateInvalid, &format!("STARTTLS: {what}"));
        assert!(outcome.certificate_not_after.is_some());
        // Whoever it is, says Opportunistic; when its certificate expires is told all the same.
        let outcome = probe(&plan(TlsMode::Opportunistic, Depth::StartTls, trust.clone()), server(steps).await).await;
        check(&outcome, Ok, "EHLO after STARTTLS: 250 in");
        assert!(outcome.certificate_not_after.is_some());
        let steps = vec![Tls(config), banner()];
        let outcome = probe(&plan(TlsMode::Implicit, Depth::Banner, trust.clone()), server(steps).await).await;
        check(&outcome, CertificateInvalid, &format!("ImplicitTLS: {what}"));
    }
    let public = plan(TlsMode::StartTls, Depth::StartTls, TrustAnchors::WellKnown);
    let steps = [up_to_tls(), vec![Tls(authority.server(NAME, (2020, 1, 1), (2090, 1, 1)))]].concat();
    assert_eq!(probe(&public, server(steps).await).await.class, CertificateInvalid);
}

#[tokio::test]
async fn implicit_tls_comes_before_the_banner() {
    let authority = TestAuthority::new("ours");
    let config = authority.server(NAME, (2020, 1, 1), (2090, 1, 1));
    let at = |depth| plan(TlsMode::Implicit, depth, TrustAnchors::Pem(authority.pem.clone()));
    let whole = vec![Tls(config), banner(), Hear("EHLO "), extensions(), Hear("QUIT"), say("221 bye\r\n")];
    check(&probe(&at(Depth::Connect), server(whole.clone()).await).await, Ok, "Connect: connected");
    check(&probe(&at(Depth::Banner), server(whole.clone()).await).await, Ok, "Banner: 220 mx.example.com ESMTP");
    for depth in [Depth::Ehlo, Depth::StartTls] {
        let outcome = probe(&at(depth), server(whole.clone()).await).await;
        check(&outcome, Ok, "EHLO: 250 mx.example.com");
        assert!(outcome.certificate_not_after.is_some());
    }
    let cases = [
        (vec![Hang], NoAnswer, "ImplicitTLS: no answer within 300ms"),
        (vec![banner(), Hang], TlsFailed, "ImplicitTLS: the server does not answer in TLS"),
        (vec![Reset], ConnectionLost, "ImplicitTLS: connection reset during the handshake"),
    ];
    for (steps, class, message) in cases {
        check(&probe(&at(Depth::Ehlo), server(steps).await).await, class, message);
    }
}

#[tokio::test]
async fn an_impossible_server_name_is_an_invalid_certificate_unless_nobody_looks() {
    let authority = TestAuthority::new("ours");
    let config = authority.server(NAME, (2020, 1, 1), (2090, 1, 1));
    let steps = [up_to_tls(), vec![Tls(config), Hear("EHLO "), say("250 in\r\n")]].concat();
    for (mode, class) in [(TlsMode::StartTls, CertificateInvalid), (TlsMode::Opportunistic, Ok)] {
        let plan =
            DialoguePlan { server_name: "not a name".into(), ..plan(mode, Depth::StartTls, TrustAnchors::WellKnown) };
        let outcome = probe(&plan, server(steps.clone()).await).await;
        assert_eq!(outcome.class, class, "{outcome:?}");
    }
}

/// The suites of a server: TLS 1.0, RSA key exchange, and CBC with forward secrecy.
const OLD: [(u16, u16, &str); 3] = [
    (0x0301, 0xc014, "TLS 1.0"),
    (0x0303, 0x0035, "TLS 1.2 with RSA_WITH_AES_256_CBC_SHA"),
    (0x0303, 0xc028, "TLS 1.2 with ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
];

#[tokio::test]
async fn a_tls_that_probes_do_not_speak_blocks_them_and_is_named() {
    for (version, suite, name) in OLD {
        let old = OldTls { version, suite };
        let says = |stage: &str, depth: &str| {
            format!(
                "{stage}: the server speaks only {name}, which probes do not speak; probe to {depth}, or let it speak TLS 1.2 with ECDHE and AES-GCM"
            )
        };
        let steps = [up_to_tls(), vec![old.clone()]].concat();
        let strict = plan(TlsMode::StartTls, Depth::StartTls, TrustAnchors::WellKnown);
        check(&probe(&strict, server(steps).await).await, ProbeBlocked, &says("STARTTLS", "Ehlo"));
        let implicit = plan(TlsMode::Implicit, Depth::Ehlo, TrustAnchors::WellKnown);
        check(&probe(&implicit, server(vec![old]).await).await, ProbeBlocked, &says("ImplicitTLS", "Connect"));
    }
}

#[tokio::test]
async fn a_server_that_refuses_every_hello_has_failed_unless_it_asks_for_another_version() {
    let strict = plan(TlsMode::StartTls, Depth::StartTls, TrustAnchors::WellKnown);
    let refusing = |alert| server([up_to_tls(), vec![Alert(alert)]].concat());
    let outcome = probe(&strict, refusing(40).await).await;
    let message = "STARTTLS: the server refused the handshake: handshake failure (alert 40); and also one with every version and cipher";
    check(&outcome, TlsFailed, message);
    let outcome = probe(&strict, refusing(70).await).await;
    assert_eq!(outcome.class, ProbeBlocked);
    assert!(outcome.message.contains("speaks no TLS that probes speak"), "{}", outcome.message);
    // An alert that is no question of versions and ciphers.
    check(
        &probe(&strict, refusing(80).await).await,
        TlsFailed,
        "STARTTLS: the server refused the handshake: internal error (alert 80)",
    );
}

#[tokio::test]
async fn opportunistic_tls_that_does_not_come_about_is_done_without() {
    // The first connection ends with the handshake; on the next one nothing is said of TLS.
    let whole = [up_to_tls(), vec![OldTls { version: 0x0301, suite: 0x002f }]].concat();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let old = server(whole).await;
    let heard = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut to = TcpStream::connect(old).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut first, &mut to).await;
        drop((first, to));
        let (mut second, _) = listener.accept().await.unwrap();
        let mut heard = String::new();
        second.write_all(b"220 mx\r\n").await.unwrap();
        for reply in ["250-mx\r\n250 STARTTLS\r\n", "221 bye\r\n"] {
            while !heard.ends_with("\r\n") || heard.lines().count() < if reply.starts_with("250") { 1 } else { 2 } {
                heard.push(char::from(second.read_u8().await.unwrap()));
            }
            second.write_all(reply.as_bytes()).await.unwrap();
        }
        heard
    });
    let lax = plan(TlsMode::Opportunistic, Depth::StartTls, TrustAnchors::WellKnown);
    let message = "EHLO: 250 mx; without TLS: the server refused the handshake: protocol version (alert 70)";
    check(&probe(&lax, address).await, Ok, message);
    assert_eq!(heard.await.unwrap(), "EHLO probe.example.net\r\nQUIT\r\n");
}

#[tokio::test]
async fn a_certificate_that_is_configured_itself_is_trusted() {
    let days = ((2020, 1, 1), (2090, 1, 1));
    let at = |pem: &Arc<[u8]>| plan(TlsMode::Implicit, Depth::Banner, TrustAnchors::Pem(pem.clone()));
    let served = |config| server(vec![Tls(config), banner(), Hear("QUIT"), say("221 bye\r\n")]);
    // As `openssl req -x509` makes it, and one that says it is no authority's.
    for params in [authority_params(server_params(NAME, days.0, days.1)), server_params(NAME, days.0, days.1)] {
        let (config, pem) = self_signed(&params);
        check(&probe(&at(&pem), served(config.clone()).await).await, Ok, "Banner: 220 mx.example.com ESMTP");
        // Another one of the same names and validity.
        let (_, other) = self_signed(&params);
        let outcome = probe(&at(&other), served(config.clone()).await).await;
        assert_eq!(outcome.class, CertificateInvalid);
        assert!(!outcome.message.contains("CaUsed") && !outcome.message.contains("Other("), "{}", outcome.message);
        let public = plan(TlsMode::Implicit, Depth::Banner, TrustAnchors::WellKnown);
        assert_eq!(probe(&public, served(config).await).await.class, CertificateInvalid);
    }
    let name = "other.example.org";
    for (params, what) in [
        (server_params(name, days.0, days.1), "certificate is not for mx.example.com but for other.example.org"),
        (server_params(NAME, (2020, 1, 1), (2025, 11, 1)), "certificate expired on 2025-11-01"),
        (server_params(NAME, (2088, 5, 1), days.1), "certificate is not valid before 2088-05-01"),
        (
            common_name_params(NAME),
            "certificate names mx.example.com as its common name only, which clients no longer read (RFC 9525); issue it with subjectAltName DNS:mx.example.com",
        ),
    ] {
        let (config, pem) = self_signed(&authority_params(params));
        let outcome = probe(&at(&pem), served(config).await).await;
        check(&outcome, CertificateInvalid, &format!("ImplicitTLS: {what}"));
    }
}

#[tokio::test]
async fn a_common_name_alone_is_explained() {
    let authority = TestAuthority::new("ours");
    let at = plan(TlsMode::Implicit, Depth::Banner, TrustAnchors::Pem(authority.pem.clone()));
    for (name, what) in [
        (
            NAME,
            "certificate names mx.example.com as its common name only, which clients no longer read (RFC 9525); issue it with subjectAltName DNS:mx.example.com",
        ),
        ("mail", "certificate is not for mx.example.com but names mail, and that as its common name only"),
    ] {
        let config = authority.server_of(&common_name_params(name));
        let outcome = probe(&at, server(vec![Tls(config), banner()]).await).await;
        check(&outcome, CertificateInvalid, &format!("ImplicitTLS: {what}"));
    }
}

#[tokio::test]
async fn the_certificate_that_expires_first_is_named() {
    let (root, days) = (TestAuthority::new("ours"), ((2020, 1, 1), (2090, 1, 1)));
    let at = plan(TlsMode::Implicit, Depth::Banner, TrustAnchors::Pem(root.pem.clone()));
    let not_after = |outcome: &Outcome| {
        let NotAfter { at, issuer } = outcome.certificate_not_after.clone().unwrap();
        (super::super::message::date(at), issuer.map(|issuer| issuer.to_string()))
    };
    let served = |config| server(vec![Tls(config), banner(), Hear("QUIT"), say("221 bye\r\n")]);
    let expiring = root.intermediate("R3", (2020, 1, 1), (2050, 6, 1));
    let outcome = probe(&at, served(expiring.server(NAME, days.0, days.1)).await).await;
    check(&outcome, Ok, "Banner: 220 mx.example.com ESMTP");
    assert_eq!(not_after(&outcome), ("2050-06-01".to_owned(), Some("R3".to_owned())));
    let outcome = probe(&at, served(expiring.server(NAME, days.0, (2049, 1, 1))).await).await;
    assert_eq!(not_after(&outcome), ("2049-01-01".to_owned(), None));
    // An expired one beside a good one of the same issuer does no harm.
    let crossed = root.intermediate("R3", days.0, days.1).cross_signed(&root, (2020, 1, 1), (2025, 6, 1));
    let outcome = probe(&at, served(crossed.server(NAME, days.0, days.1)).await).await;
    check(&outcome, Ok, "Banner: 220 mx.example.com ESMTP");
    assert_eq!(not_after(&outcome), ("2090-01-01".to_owned(), None));
    // Alone it does.
    let expired = root.intermediate("R3", (2020, 1, 1), (2025, 6, 1));
    let outcome = probe(&at, served(expired.server(NAME, days.0, days.1)).await).await;
    check(&outcome, CertificateInvalid, "ImplicitTLS: intermediate certificate \"R3\" expired on 2025-06-01");
    assert_eq!(not_after(&outcome), ("2025-06-01".to_owned(), Some("R3".to_owned())));
    let missing = root.intermediate("R3", days.0, days.1).presenting_none();
    let outcome = probe(&at, served(missing.server(NAME, days.0, days.1)).await).await;
    let what = "ImplicitTLS: certificate is not signed by a trusted authority but by \"R3\", whose certificate the server does not present";
    check(&outcome, CertificateInvalid, what);
}

#[tokio::test]
async fn a_refused_name_in_ehlo_is_our_own_fault() {
    let remedy = "name a host that the server accepts in --ehlo-name (smtpProbes.ehloName of the chart)";
    let refusal = "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname";
    let steps = vec![banner(), Hear("EHLO "), say(format!("{refusal}\r\n")), Hang];
    check(&plain(Depth::Ehlo, steps).await, ProbeBlocked, &format!("EHLO: {refusal}; {remedy}"));
    let steps = logged_in(vec![Hear("MAIL "), say("250 ok\r\n"), Hear("RCPT "), say(format!("{refusal}\r\n")), Hang]);
    check(&probe(&deep(Depth::RcptTo), server(steps).await).await, ProbeBlocked, &format!("RCPT: {refusal}; {remedy}"));
    // That something spoke too early is no matter of a name.
    let outcome = plain(Depth::Ehlo, vec![say("554 SMTP synchronization error\r\n"), Hang]).await;
    let early = "Banner: 554 SMTP synchronization error; probes wait for the greeting and for each reply";
    assert!(outcome.class == ProbeBlocked && outcome.message.starts_with(early), "{outcome:?}");
    // The remedy is told however long the reply is.
    let steps = vec![banner(), Hear("EHLO "), say(format!("{refusal} {}\r\n", "x".repeat(500))), Hang];
    assert!(plain(Depth::Ehlo, steps).await.message.ends_with(remedy));
}

#[tokio::test]
async fn without_a_configured_name_ehlo_has_our_address() {
    let plan = DialoguePlan { ehlo_name: None, ..plan(TlsMode::None, Depth::Ehlo, TrustAnchors::WellKnown) };
    for (ip, hello) in [("127.0.0.1", "EHLO [127.0.0.1]\r\n"), ("::1", "EHLO [IPv6:::1]\r\n")] {
        let address = server_at(ip.parse().unwrap(), vec![banner(), Hear(hello), extensions(), Hang]).await;
        check(&probe(&plan, address).await, Ok, "EHLO: 250 mx.example.com");
    }
}

#[tokio::test]
async fn each_step_has_the_whole_timeout() {
    // Each answer takes more than half of it, as with a delayed greeting and a tarpit.
    let pause = || Pause(TIMEOUT * 2 / 3);
    let steps = vec![
        pause(),
        say("220-wait\r\n"),
        say("220 mx\r\n"),
        Hear("EHLO "),
        pause(),
        say("250-mx\r\n250 AUTH PLAIN\r\n"),
    ];
    let login = vec![Hear("AUTH "), pause(), say("535 5.7.3 no\r\n"), Hang];
    let outcome = probe(&deep(Depth::Auth), server([steps, login].concat()).await).await;
    check(&outcome, AuthenticationRefused, "AUTH: 535 5.7.3 no");
    assert!(outcome.elapsed > TIMEOUT);
}

#[tokio::test]
async fn a_connection_alone_is_enough_and_ends_politely() {
    let connect = plan(TlsMode::None, Depth::Connect, TrustAnchors::WellKnown);
    // Silent, closing, refusing and odd servers are all connected to.
    for steps in [vec![Hang], vec![], vec![say("554 no\r\n"), Hang], vec![say("SSH-2.0\r\n"), Hang], vec![Reset]] {
        check(&probe(&connect, server(steps).await).await, Ok, "Connect: connected");
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(b"220-mx\r\n220 ready\r\n").await.unwrap();
        let mut heard = vec![0; 6];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(b"221 bye\r\n").await.unwrap();
        // The peer closes in order: no reset.
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
        heard
    });
    let end = run_session(&connect, address).await;
    assert!(end.outcome.elapsed < Duration::from_millis(50), "the outcome waits for nothing");
    end.pending_quit.unwrap().send().await;
    assert_eq!(heard.await.unwrap(), b"QUIT\r\n");
}

#[tokio::test]
async fn a_postponed_login_ends_the_dialogue_before_it_and_hides_no_failure() {
    let why = "not tried for another 2m: log-ins were too many";
    let plan = DialoguePlan { postponed_login: Some(why.into()), ..deep(Depth::RcptTo) };
    let steps = offering("PLAIN", vec![Hear("QUIT\r\n"), say("221 bye\r\n")]);
    check(&probe(&plan, server(steps).await).await, Throttled, &format!("AUTH: {why}"));
    check(&probe(&plan, refusing().await).await, ConnectionRefused, "Connect: connection refused");
    // Too many log-ins is what the server says, by whatever code.
    for reply in
        ["454 4.7.0 Too many login attempts, please try again later", "421 4.7.0 Too many authentication attempts"]
    {
        let steps = offering("PLAIN", vec![Hear("AUTH "), say(format!("{reply}\r\n")), Hang]);
        check(&probe(&deep(Depth::Auth), server(steps).await).await, Throttled, &format!("AUTH: {reply}"));
    }
}

/// `\0shop\0hunter2`, `shop` and `hunter2`, as RFC 4954 sends them.
const PLAIN: &str = "AHNob3AAaHVudGVyMg==";

fn deep(depth: Depth) -> DialoguePlan {
    let envelope = Envelope { sender: Some("probe@shop.example".into()), recipient: Some("sink@inbox.example".into()) };
    let login = ProbeLogin::With(Login::new("shop", "hunter2"));
    DialoguePlan { envelope, login, ..plan(TlsMode::None, depth, TrustAnchors::WellKnown) }
}

/// A server that offers these mechanisms and goes on like this.
fn offering(mechanisms: &str, rest: Vec<ServerStep>) -> Vec<ServerStep> {
    let extensions = format!("250-mx.example.com\r\n250-AUTH {mechanisms}\r\n250 SIZE 1000\r\n");
    [vec![banner(), Hear("EHLO "), say(extensions)], rest].concat()
}

fn logged_in(rest: Vec<ServerStep>) -> Vec<ServerStep> {
    let login = vec![Hear("AUTH PLAIN AHNob3AAaHVudGVyMg==\r\n"), say("235 2.7.0 welcome\r\n")];
    offering("LOGIN PLAIN", [login, rest].concat())
}

#[tokio::test]
async fn deep_probes_log_in_name_their_addresses_and_take_everything_back() {
    let bye = || vec![Hear("RSET\r\n"), say("250 2.0.0 reset\r\n"), Hear("QUIT\r\n"), say("221 bye\r\n")];
    let mail = || vec![Hear("MAIL FROM:<probe@shop.example>\r\n"), say("250 2.1.0 sender\r\n")];
    let recipient = || vec![Hear("RCPT TO:<sink@inbox.example>\r\n"), say("250 2.1.5 recipient\r\n")];
    let quit = logged_in(vec![Hear("QUIT\r\n"), say("221 bye\r\n")]);
    check(&probe(&deep(Depth::Auth), server(quit).await).await, Ok, "AUTH: 235 2.7.0 welcome");
    let steps = logged_in([mail(), bye()].concat());
    check(&probe(&deep(Depth::MailFrom), server(steps).await).await, Ok, "MAIL: 250 2.1.0 sender");
    let steps = logged_in([mail(), recipient(), bye()].concat());
    check(&probe(&deep(Depth::RcptTo), server(steps).await).await, Ok, "RCPT: 250 2.1.5 recipient");
    // A relay that asks for no login.
    let steps = [vec![banner(), Hear("EHLO "), extensions()], mail(), bye()].concat();
    let open = DialoguePlan { login: ProbeLogin::None, ..deep(Depth::MailFrom) };
    check(&probe(&open, server(steps).await).await, Ok, "MAIL: 250 2.1.0 sender");
    // What is said to LOGIN comes in three lines.
    let lines = ["AUTH LOGIN\r\n", "c2hvcA==\r\n", "aHVudGVyMg==\r\n"];
    let steps = [lines[0], lines[1], lines[2]].map(Hear).into_iter().zip([
        "334 VXNlcm5hbWU6\r\n",
        "334 UGFzc3dvcmQ6\r\n",
        "235 in\r\n",
    ]);
    let steps = offering("LOGIN", steps.flat_map(|(hear, reply)| [hear, say(reply)]).collect());
    check(&probe(&deep(Depth::Auth), server(steps).await).await, Ok, "AUTH: 235 in");
}

#[tokio::test]
async fn rset_is_heard_before_quit_once_a_transaction_is_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![];
        stream.write_all(b"220 mx\r\n").await.unwrap();
        while heard.last().is_none_or(|line: &String| line != "QUIT\r\n") {
            let mut line = String::new();
            while !line.ends_with("\r\n") {
                line.push(char::from(stream.read_u8().await.unwrap()));
            }
            let reply: &[u8] = if line.starts_with("EHLO") {
                b"250-mx\r\n250 AUTH PLAIN\r\n"
            } else if line.starts_with("AUTH") {
                b"235 in\r\n"
            } else {
                b"250 ok\r\n"
            };
            stream.write_all(reply).await.unwrap();
            heard.push(line);
        }
        heard
    });
    assert_eq!(probe(&deep(Depth::RcptTo), address).await.class, Ok);
    let verbs: Vec<_> = heard.await.unwrap().iter().map(|line| line[..4].to_owned()).collect();
    assert_eq!(verbs, ["EHLO", "AUTH", "MAIL", "RCPT", "RSET", "QUIT"]);
}

#[tokio::test]
async fn every_reply_to_a_login_and_to_an_envelope_is_classified() {
    let auth = |reply: &str| offering("PLAIN", vec![Hear("AUTH PLAIN "), say(format!("{reply}\r\n")), Hang]);
    let mail = |reply: &str| logged_in(vec![Hear("MAIL "), say(format!("{reply}\r\n")), Hang]);
    let rcpt = |reply: &str| {
        logged_in(vec![Hear("MAIL "), say("250 ok\r\n"), Hear("RCPT "), say(format!("{reply}\r\n")), Hang])
    };
    let cases: Vec<(Vec<ServerStep>, EvidenceClass, String)> = [
        ("535 5.7.8 Authentication credentials invalid", AuthenticationRefused),
        ("534 5.7.9 Application-specific password required", AuthenticationRefused),
        ("535 Authentication failed: account disabled", AccountPaused),
        ("454 4.7.0 Temporary authentication failure", Temporary),
        ("454 Throttling failure: Maximum sending rate exceeded.", Throttled),
        ("451 Authentication failed: Maximum credits exceeded", QuotaExhausted),
        ("421 4.7.0 Try again later, closing connection.", Temporary),
        ("334 ", ProtocolError),
    ]
    .map(|(reply, class)| (auth(reply), class, format!("AUTH: {}", reply.trim_end())))
    .into_iter()
    .chain([
        (
            mail("530 5.7.0 Authentication required"),
            AuthenticationRefused,
            "MAIL: 530 5.7.0 Authentication required".into(),
        ),
        (
            mail("554 Message rejected: Sending paused for this account."),
            AccountPaused,
            "MAIL: 554 Message rejected: Sending paused for this account.".into(),
        ),
        (
            mail("454 Throttling failure: Daily message quota exceeded."),
            QuotaExhausted,
            "MAIL: 454 Throttling failure: Daily message quota exceeded.".into(),
        ),
        (rcpt("550 5.1.1 User unknown"), RecipientLevel, "RCPT: 550 5.1.1 User unknown".into()),
        (rcpt("450 4.2.0 Greylisted"), RecipientLevel, "RCPT: 450 4.2.0 Greylisted".into()),
        (rcpt("554 5.7.1 Relay access denied"), Permanent, "RCPT: 554 5.7.1 Relay access denied".into()),
        (rcpt("251 2.1.5 will forward"), Ok, "RCPT: 251 2.1.5 will forward".into()),
        (offering("PLAIN", vec![Hear("AUTH "), Hang]), NoAnswer, "AUTH: no answer within 300ms".into()),
        // It counts, and moves no route at once: nobody has refused the login.
        (vec![banner(), Hear("EHLO "), extensions(), Hang], Permanent, "AUTH: not offered".into()),
        (
            offering("XOAUTH2", vec![Hang]),
            ProbeBlocked,
            "AUTH: PLAIN or LOGIN is needed and the server offers XOAUTH2; probe no deeper than StartTLS".into(),
        ),
    ])
    .collect();
    let each = |(steps, class, message): (Vec<ServerStep>, EvidenceClass, String)| async move {
        check(&probe(&deep(Depth::RcptTo), server(steps).await).await, class, &message);
    };
    stream::iter(cases).for_each_concurrent(AT_A_TIME, each).await;
}

#[tokio::test]
async fn a_login_that_is_not_offered_after_tls_was_lost_is_a_failure_of_tls() {
    // The second connection, without TLS, comes as far as the extensions.
    let lax = |depth| {
        let login = deep(depth).login;
        DialoguePlan { login, ..plan(TlsMode::Opportunistic, depth, TrustAnchors::WellKnown) }
    };
    let steps = [up_to_tls(), vec![Alert(80)]].concat();
    let outcome = probe(&lax(Depth::Auth), server(steps).await).await;
    let message = "AUTH: not offered without TLS: the server refused the handshake: internal error (alert 80)";
    check(&outcome, TlsFailed, message);
    let (version, suite, name) = OLD[0];
    let steps = [up_to_tls(), vec![OldTls { version, suite }]].concat();
    let outcome = probe(&lax(Depth::Auth), server(steps).await).await;
    let message = format!(
        "AUTH: not offered without TLS: the server speaks only {name}, which probes do not speak; probe to Ehlo, or let it speak TLS 1.2 with ECDHE and AES-GCM"
    );
    check(&outcome, ProbeBlocked, &message);
}

#[tokio::test]
async fn a_certificate_that_is_signed_by_an_unknown_algorithm_blocks_the_probe() {
    let unknown = rustls::CertificateError::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: vec![1],
        supported_algorithms: vec![],
    };
    let foreign = rustls::CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
        signature_algorithm_id: vec![1],
        public_key_algorithm_id: vec![2],
    };
    let address = refusing().await;
    for (mode, depth) in [(TlsMode::StartTls, "Ehlo"), (TlsMode::Implicit, "Connect")] {
        let plan = plan(mode, Depth::StartTls, TrustAnchors::WellKnown);
        for error in [unknown.clone(), foreign.clone()] {
            let failure = TlsFailure::of(&io::Error::other(rustls::Error::InvalidCertificate(error)), None);
            // A mail server that cannot verify it does not deliver either, whoever lacks what.
            assert_eq!(failure.class, CertificateInvalid);
            let finding = explain_handshake(&plan, address, failure, None).await;
            assert_eq!(finding.class, ProbeBlocked);
            assert!(finding.what.contains("P-521"), "{}", finding.what);
            assert!(finding.addition.unwrap().starts_with(&format!("probe to {depth}, or")));
        }
        let wrong = rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
        let finding = explain_handshake(&plan, address, TlsFailure::of(&io::Error::other(wrong), None), None).await;
        assert_eq!(finding.class, CertificateInvalid);
    }
}

#[tokio::test]
async fn what_a_server_quotes_of_a_login_is_not_told() {
    for quoted in ["hunter2", PLAIN, "aHVudGVyMg==", "shop HUNTER2"] {
        let steps = offering("PLAIN", vec![Hear("AUTH "), say(format!("535 5.7.8 no such login: {quoted}\r\n")), Hang]);
        let outcome = probe(&deep(Depth::Auth), server(steps).await).await;
        assert_eq!(outcome.class, AuthenticationRefused);
        let told = outcome.message.to_ascii_lowercase();
        assert!(told.contains("[hidden]") && !told.contains("hunter2") && !told.contains("ahn"), "{told}");
    }
    assert!(!format!("{:?}", deep(Depth::Auth)).contains("hunter2"));
}

#[tokio::test]
async fn without_a_login_the_dialogue_ends_before_it_and_fails_only_by_what_comes_before() {
    let missing = ProbeLogin::Missing { reason: "SecretNotFound", message: "Secret relay does not exist".into() };
    let plan = DialoguePlan { login: missing, ..deep(Depth::RcptTo) };
    let steps = offering("PLAIN", vec![Hear("QUIT\r\n"), say("221 bye\r\n")]);
    check(&probe(&plan, server(steps).await).await, ProbeBlocked, "AUTH: Secret relay does not exist");
    check(&probe(&plan, refusing().await).await, ConnectionRefused, "Connect: connection refused");
}

#[tokio::test]
async fn a_login_goes_over_tls_where_there_is_any() {
    let authority = TestAuthority::new("ours");
    let config = authority.server(NAME, (2020, 1, 1), (2090, 1, 1));
    let trust = TrustAnchors::Pem(authority.pem.clone());
    let inside = vec![Hear("EHLO "), say("250-in\r\n250 AUTH PLAIN\r\n"), Hear("AUTH PLAIN "), say("235 ok\r\n")];
    let steps = [up_to_tls(), vec![Tls(config.clone())], inside.clone()].concat();
    for mode in [TlsMode::StartTls, TlsMode::Opportunistic] {
        let login = deep(Depth::Auth).login;
        let plan = DialoguePlan { login, ..plan(mode, Depth::Auth, trust.clone()) };
        check(&probe(&plan, server(steps.clone()).await).await, Ok, "AUTH: 235 ok");
    }
    let steps = [vec![Tls(config), banner()], inside].concat();
    let plan = DialoguePlan { login: deep(Depth::Auth).login, ..plan(TlsMode::Implicit, Depth::Auth, trust) };
    check(&probe(&plan, server(steps).await).await, Ok, "AUTH: 235 ok");
    // TLS that is required and not offered keeps the login in.
    let strict = DialoguePlan {
        login: deep(Depth::Auth).login,
        ..self::plan(TlsMode::StartTls, Depth::Auth, TrustAnchors::WellKnown)
    };
    let steps = offering("PLAIN", vec![Hear("QUIT"), say("221 bye\r\n")]);
    check(&probe(&strict, server(steps).await).await, TlsFailed, "STARTTLS: not offered");
}

#[tokio::test]
async fn a_dialogue_is_small_while_it_waits() {
    let plan = plan(TlsMode::StartTls, Depth::StartTls, TrustAnchors::WellKnown);
    let dialogue = run_session(&plan, "127.0.0.1:25".parse().unwrap());
    assert!(size_of_val(&dialogue) < 2048, "{} octets", size_of_val(&dialogue));
}

#[tokio::test]
async fn a_rule_of_the_user_decides_and_is_named_however_long_the_reply() {
    let rule = |name: &str, about: &str, words: &str| ReplyRule {
        name: name.into(),
        about: about.into(),
        stages: vec![],
        codes: vec![],
        enhanced_codes: vec![],
        words: vec![words.into()],
    };
    let rules = vec![rule("house-quota", "Quota", "letters of this week"), rule("mood", "Rate", "not now")];
    let (rulebook, problems) = Rulebook::new(&ReplyRules { rules, ..ReplyRules::default() });
    assert_eq!(problems, []);
    let ruled =
        DialoguePlan { rulebook: Arc::new(rulebook), ..plan(TlsMode::None, Depth::Ehlo, TrustAnchors::WellKnown) };
    let long = format!("554 5.7.1 no more letters of this week, {}", "you see ".repeat(100));
    for (reply, class, end) in [
        ("554 5.7.1 no more\r\n", Reputation, "554 5.7.1 no more"),
        ("554 5.7.1 no more letters\r\n", Reputation, "554 5.7.1 no more letters"),
        ("421 not now\r\n", Throttled, "421 not now (by spec.replies[mood])"),
        ("554-5.7.1 no more letters of\r\n554 5.7.1 this week\r\n", QuotaExhausted, "(by spec.replies[house-quota])"),
        (&format!("{long}\r\n"), QuotaExhausted, "... (by spec.replies[house-quota])"),
    ] {
        let outcome = probe(&ruled, server(vec![say(reply)]).await).await;
        assert_eq!(outcome.class, class, "{outcome:?}");
        assert!(outcome.message.starts_with("Banner: ") && outcome.message.ends_with(end), "{outcome:?}");
        assert!(outcome.message.len() <= MAX_MESSAGE, "{outcome:?}");
    }
}
