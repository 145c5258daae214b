use super::super::testing::{Authority, Drip, Hang, Hear, Reset, Step, Tls, refusing, say, server, server_at};
use super::super::tls::TlsSetups;
use super::*;
use crate::model::{Tls as TlsModel, TrustAnchors};
use EvidenceClass::{
    CertificateInvalid, ConnectionLost, ConnectionRefused, NoAnswer, Ok, Permanent, ProtocolError, Reputation,
    Temporary, Throttled, TlsFailed,
};

const NAME: &str = "mx.example.com";
const PATIENCE: Duration = Duration::from_millis(300);

fn plan(mode: TlsMode, depth: Depth, trust: TrustAnchors) -> Plan {
    // The setup lives on in the plan.
    let tls = TlsSetups::default().setup(&TlsModel { mode, server_name: NAME.into(), trust }).unwrap();
    Plan { mode, tls, server_name: NAME.into(), depth, timeout: PATIENCE }
}

async fn probe(plan: &Plan, address: SocketAddr) -> Outcome {
    let (outcome, farewell) = hold(plan, address, "probe.example.net").await;
    if let Some(farewell) = farewell {
        farewell.say().await;
    }
    outcome
}

async fn plain(depth: Depth, steps: Vec<Step>) -> Outcome {
    probe(&plan(TlsMode::None, depth, TrustAnchors::WellKnown), server(steps).await).await
}

fn check(outcome: &Outcome, class: EvidenceClass, message: &str) {
    assert_eq!((outcome.class, outcome.message.as_str()), (class, message));
    assert!(outcome.message.starts_with(outcome.stage.as_str()));
}

fn banner() -> Step {
    say("220 mx.example.com ESMTP\r\n")
}

fn extensions() -> Step {
    say("250-mx.example.com\r\n250-PIPELINING\r\n250-StartTLS\r\n250 SIZE 1000\r\n")
}

fn up_to_tls() -> Vec<Step> {
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
    let after_banner = |mut rest: Vec<Step>| {
        let mut steps = vec![banner(), Hear("EHLO ")];
        steps.append(&mut rest);
        steps
    };
    let nuls = format!("Banner: not an SMTP reply: {}", "?".repeat(100));
    let cases: Vec<(Vec<Step>, EvidenceClass, &str)> = vec![
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
        (vec![say("SSH-2.0-OpenSSH_9.2\r\n")], ProtocolError, "Banner: not an SMTP reply: SSH-2.0-OpenSSH_9.2"),
        (vec![say([0_u8; 100])], ProtocolError, &nuls),
        (vec![say("220 half a li"), Hang], NoAnswer, "Banner: no answer within 300ms"),
        (vec![say("220 half a li")], ConnectionLost, "Banner: connection closed within a reply"),
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
        (after_banner(vec![say("250-half\r\n"), Hang]), NoAnswer, "EHLO: no answer within 300ms"),
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
    let (outcome, farewell) = hold(&plan(TlsMode::None, Depth::Banner, TrustAnchors::WellKnown), address, "p").await;
    assert!(outcome.elapsed < Duration::from_millis(100));
    farewell.unwrap().say().await;
    assert_eq!(heard.await.unwrap(), "QUIT\r\n");
}

#[tokio::test]
async fn starttls_goes_through_the_handshake_and_greets_again() {
    let authority = Authority::new("ours");
    let trust = TrustAnchors::Pem(authority.pem.clone());
    let config = authority.server(NAME, (2020, 1, 1), (2090, 1, 1));
    let steps = |rest: Vec<Step>| [up_to_tls(), vec![Tls(config.clone())], rest].concat();
    let not_after = Some(Timestamp::from_micros(3_786_912_000_000_000));
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
    for (reply, class, message) in cases {
        for plan in [&strict, &lax] {
            check(&probe(plan, server(asked(reply)).await).await, class, message);
        }
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
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let trust = TrustAnchors::Pem(authority.pem.clone());
    let cases = [
        (authority.server(NAME, (2020, 1, 1), (2025, 11, 1)), "certificate expired on 2025-11-01"),
        (authority.server(NAME, (2088, 5, 1), (2090, 1, 1)), "certificate is not valid before 2088-05-01"),
        (
            authority.server("other.example.org", (2020, 1, 1), (2090, 1, 1)),
            "certificate is not for mx.example.com but for other.example.org",
        ),
        (stranger.server(NAME, (2020, 1, 1), (2090, 1, 1)), "certificate is not signed by a trusted authority"),
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
    let authority = Authority::new("ours");
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
    let authority = Authority::new("ours");
    let config = authority.server(NAME, (2020, 1, 1), (2090, 1, 1));
    let steps = [up_to_tls(), vec![Tls(config), Hear("EHLO "), say("250 in\r\n")]].concat();
    for (mode, class) in [(TlsMode::StartTls, CertificateInvalid), (TlsMode::Opportunistic, Ok)] {
        let plan = Plan { server_name: "not a name".into(), ..plan(mode, Depth::StartTls, TrustAnchors::WellKnown) };
        let outcome = probe(&plan, server(steps.clone()).await).await;
        assert_eq!(outcome.class, class, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_dialogue_is_small_while_it_waits() {
    let plan = plan(TlsMode::StartTls, Depth::StartTls, TrustAnchors::WellKnown);
    let dialogue = hold(&plan, "127.0.0.1:25".parse().unwrap(), "p");
    assert!(size_of_val(&dialogue) < 2048, "{} octets", size_of_val(&dialogue));
}
