use std::future::{pending, ready};

use super::super::testing::{Hang, Hear, Pause, Reset, ServerStep, TestAuthority, Tls, say, server};
use super::super::tls::TlsSetups;
use super::*;
use mail_failover_core::model::{Tls as TlsModel, TrustAnchors};

const NAME: &str = "mx.example.com";
const A_WHILE: Duration = Duration::from_millis(50);
/// Bound on what takes milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// The plan of an idle session: to EHLO, and in TLS with implicit TLS only.
fn plan(mode: TlsMode, trust: TrustAnchors) -> DialoguePlan {
    DialoguePlan {
        ehlo_name: Some("probe.example.net".into()),
        mode,
        tls: TlsSetups::default().setup(&TlsModel { mode, server_name: NAME.into(), trust }).unwrap(),
        server_name: NAME.into(),
        depth: Depth::Ehlo,
        envelope: Envelope::default(),
        login: ProbeLogin::None,
        postponed_login: None,
        timeout: SOON,
        rulebook: Arc::default(),
    }
}

async fn open(plan: &DialoguePlan, steps: Vec<ServerStep>) -> PendingQuit {
    let end = run_session(plan, server(steps).await).await;
    assert_eq!(end.outcome.class, EvidenceClass::Ok, "{}", end.outcome.message);
    end.pending_quit.expect("a server that waits for a command")
}

fn up_to_ehlo() -> Vec<ServerStep> {
    vec![
        say("220 mx.example.com ESMTP\r\n"),
        Hear("EHLO probe.example.net"),
        say("250-mx.example.com\r\n250 STARTTLS\r\n"),
    ]
}

#[tokio::test]
async fn the_end_of_an_idle_session_is_told_by_its_kind() {
    let idle = "421 4.4.2 mx Error: timeout exceeded\r\n";
    for (rest, expected) in [
        (vec![], IdleEnd::Closed),
        (vec![Reset], IdleEnd::Reset),
        (vec![say(idle)], IdleEnd::ServiceNotAvailable),
        (vec![say(idle), Hang], IdleEnd::ServiceNotAvailable),
        (vec![say("250 what?\r\n"), Hang], IdleEnd::OutOfTurn),
    ] {
        let steps = [up_to_ehlo(), vec![Pause(A_WHILE)], rest].concat();
        let session = open(&plan(TlsMode::StartTls, TrustAnchors::WellKnown), steps).await;
        let end = timeout(SOON, session.idle(pending())).await.expect("the server has ended it");
        assert_eq!(end, Some(expected));
    }
}

#[tokio::test]
async fn an_idle_session_with_implicit_tls_is_in_tls() {
    let authority = TestAuthority::new("ours");
    let config = authority.server(NAME, (2020, 1, 1), (2090, 1, 1));
    let steps = [vec![Tls(config)], up_to_ehlo(), vec![Pause(A_WHILE), say("421 4.3.2 shutting down\r\n")]].concat();
    let trust = TrustAnchors::Pem(authority.pem.clone());
    let session = open(&plan(TlsMode::Implicit, trust), steps).await;
    let end = timeout(SOON, session.idle(pending())).await.expect("the server has ended it");
    assert_eq!(end, Some(IdleEnd::ServiceNotAvailable));
}

#[tokio::test]
async fn quit_ends_an_idle_session_that_nobody_wants_any_more() {
    let (heard, hears) = tokio::sync::oneshot::channel();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mx ESMTP\r\n").await.unwrap();
        let mut commands = vec![];
        while stream.read_buf(&mut commands).await.is_ok_and(|octets| octets > 0) {
            let is_quit = commands.ends_with(b"QUIT\r\n");
            stream.write_all(if is_quit { b"221 bye\r\n" } else { b"250 mx\r\n" }).await.unwrap();
            if is_quit {
                break;
            }
        }
        heard.send(String::from_utf8(commands).unwrap()).unwrap();
    });
    let end = run_session(&plan(TlsMode::None, TrustAnchors::WellKnown), address).await;
    let session = end.pending_quit.expect("a server that waits for a command");
    assert_eq!(timeout(SOON, session.idle(ready(()))).await.expect("QUIT is answered"), None);
    assert_eq!(hears.await.unwrap(), "EHLO probe.example.net\r\nQUIT\r\n");
}
