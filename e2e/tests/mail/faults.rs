//! Tests of each fault, as seen on the wire.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Action, Ending, Extension, Fault, Logins, Options, SessionStage, SmtpServer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw::{Raw, Seen};
use crate::{V4, V6, server};

const LOGIN: &str = "AUTH PLAIN AHVzZXIAcGFzc3dvcmQ=";
const INTERVAL: Duration = Duration::from_millis(2);

async fn full_server() -> SmtpServer {
    let identity = Authority::new().and_then(|ca| ca.issue(&["localhost"], Validity::Valid)).expect("an identity");
    let options = Options::new("full", V4).start_tls(identity).logins(Logins::Any);
    SmtpServer::start(options).await.expect("a server")
}

/// The dialogue before a stage, as commands with the codes of their replies; and the command at the
/// stage.
fn script(stage: SessionStage) -> (Vec<(&'static str, &'static str)>, Option<&'static str>) {
    let ehlo = ("EHLO test", "250");
    let mail = ("MAIL FROM:<a@a.test>", "250");
    let rcpt = ("RCPT TO:<b@b.test>", "250");
    match stage {
        SessionStage::Banner => (vec![], None),
        SessionStage::Ehlo => (vec![], Some("EHLO test")),
        SessionStage::StartTls => (vec![ehlo], Some("STARTTLS")),
        SessionStage::Handshake => (vec![ehlo, ("STARTTLS", "220")], None),
        SessionStage::Auth => (vec![ehlo], Some(LOGIN)),
        SessionStage::Mail => (vec![ehlo], Some("MAIL FROM:<a@a.test>")),
        SessionStage::Rcpt => (vec![ehlo, mail], Some("RCPT TO:<b@b.test>")),
        SessionStage::Data => (vec![ehlo, mail, rcpt], Some("DATA")),
        SessionStage::Content => (vec![ehlo, mail, rcpt, ("DATA", "354")], Some("Subject: first line")),
        SessionStage::EndOfData => (vec![ehlo, mail, rcpt, ("DATA", "354")], Some("Subject: text\r\n\r\n.")),
    }
}

/// Runs a session up to a stage, with usual replies so far.
async fn until(server: &SmtpServer, stage: SessionStage) -> Raw {
    let mut raw = Raw::connect(server.address()).await;
    let (before, at) = script(stage);
    if stage != SessionStage::Banner {
        assert_eq!(raw.reply().await, Seen::line("220 full ESMTP ready"));
    }
    for (command, code) in before {
        raw.exchange(command, code).await;
    }
    if let Some(command) = at {
        raw.say(&format!("{command}\r\n")).await;
    }
    raw
}

/// The last line of what is usually said at a stage.
async fn usual(server: &SmtpServer, stage: SessionStage) -> String {
    server.repair().await.expect("a repair");
    until(server, stage).await.lines().await.pop().expect("a reply")
}

const REPLYING: [SessionStage; 8] = [
    SessionStage::Banner,
    SessionStage::Ehlo,
    SessionStage::StartTls,
    SessionStage::Auth,
    SessionStage::Mail,
    SessionStage::Rcpt,
    SessionStage::Data,
    SessionStage::EndOfData,
];

fn all_stages() -> impl Iterator<Item = SessionStage> {
    REPLYING.into_iter().chain([SessionStage::Handshake, SessionStage::Content])
}

#[tokio::test]
async fn at_every_stage_a_session_can_be_reset_closed_or_hang() {
    let server = full_server().await;
    for stage in all_stages() {
        for (action, expected) in
            [(Action::Reset, Seen::Reset), (Action::Close, Seen::Closed), (Action::Hang, Seen::Silence)]
        {
            server.set_fault(Fault::At(stage, action.clone())).await.expect("a fault");
            let mut raw = until(&server, stage).await;
            assert_eq!(raw.reply().await, expected, "{action} at {stage}");
        }
    }
    assert_eq!(server.received_count(), 0);
}

#[tokio::test]
async fn at_every_stage_any_reply_can_be_given_without_the_usual_effect() {
    let server = full_server().await;
    for stage in REPLYING {
        server.set_fault(Fault::reply(stage, 421, "4.3.2 Shutting down")).await.expect("a fault");
        let mut raw = until(&server, stage).await;
        assert_eq!(raw.reply().await, Seen::line("421 4.3.2 Shutting down"), "{stage}");
        assert_eq!(raw.reply().await, Seen::Closed, "after 421 at {stage}");

        server.set_fault(Fault::reply(stage, 554, "5.7.1 Account suspended")).await.expect("a fault");
        let mut raw = until(&server, stage).await;
        assert_eq!(raw.reply().await, Seen::line("554 5.7.1 Account suspended"), "{stage}");
        raw.exchange("NOOP", if stage == SessionStage::Banner { "503" } else { "250" }).await;
        let effect = match stage {
            SessionStage::Banner | SessionStage::Ehlo | SessionStage::Data => ("MAIL FROM:<a@a.test>", "503"),
            // Still in the clear, and not logged in.
            SessionStage::StartTls => ("STARTTLS", "554"),
            SessionStage::Auth => (LOGIN, "554"),
            SessionStage::Mail => ("RCPT TO:<b@b.test>", "503"),
            SessionStage::Rcpt => ("DATA", "503"),
            SessionStage::EndOfData | SessionStage::Handshake | SessionStage::Content => ("RSET", "250"),
        };
        raw.exchange(effect.0, effect.1).await;
        raw.exchange("QUIT", "221").await;
        assert_eq!(raw.reply().await, Seen::Closed, "after QUIT at {stage}");
    }
    assert_eq!(server.received_count(), 0);
}

#[tokio::test]
async fn a_slow_reply_is_the_usual_one_a_byte_at_a_time() {
    let server = full_server().await;
    for stage in REPLYING {
        let usual = usual(&server, stage).await;
        server.set_fault(Fault::At(stage, Action::Slow(INTERVAL))).await.expect("a fault");
        let mut raw = until(&server, stage).await;
        let started = Instant::now();
        assert_eq!(raw.lines().await.last(), Some(&usual), "{stage}");
        let length = u32::try_from(usual.len()).expect("a short reply");
        assert!(started.elapsed() >= INTERVAL * (length - 1), "{stage} took {:?}", started.elapsed());
        // Bytes that arrive together are read together. The number of reads depends on the
        // scheduler, but there are several.
        assert!(raw.reads() >= 4, "{stage} came in {} reads", raw.reads());
    }
    // A message with the usual reply was stored.
    assert_eq!(server.received_count(), 2);
}

#[tokio::test]
async fn a_huge_reply_is_well_formed_and_ends_as_usual() {
    let server = full_server().await;
    for stage in REPLYING {
        let usual = usual(&server, stage).await;
        server.set_fault(Fault::At(stage, Action::Huge(1_000_000))).await.expect("a fault");
        let lines = until(&server, stage).await.lines().await;
        assert!(lines.iter().map(|line| line.len() + 2).sum::<usize>() > 1_000_000, "{stage}");
        assert!(lines.iter().all(|line| line[..3] == usual[..3] && line.len() <= 510), "{stage}");
        assert_eq!(lines.last(), Some(&usual), "{stage}");
    }
}

#[tokio::test]
async fn an_endless_line_begins_like_a_reply_and_does_not_end() {
    let server = full_server().await;
    for stage in REPLYING {
        let usual = usual(&server, stage).await;
        server.set_fault(Fault::At(stage, Action::EndlessLine)).await.expect("a fault");
        let bytes = until(&server, stage).await.bytes(200_000).await;
        assert!(bytes.len() >= 200_000, "{stage}: {} bytes", bytes.len());
        assert_eq!(bytes[..3], usual.as_bytes()[..3], "{stage}");
        assert!(!bytes.contains(&b'\n'), "{stage}");
    }
}

#[tokio::test]
async fn garbage_is_neither_smtp_nor_tls() {
    let server = full_server().await;
    for stage in REPLYING.into_iter().chain([SessionStage::Handshake]) {
        server.set_fault(Fault::At(stage, Action::Garbage)).await.expect("a fault");
        let bytes = until(&server, stage).await.bytes(8).await;
        assert!(!bytes[0].is_ascii_digit() && bytes[0] != 0x16, "{stage}: {bytes:?}");
        assert!(std::str::from_utf8(&bytes).is_err(), "{stage}: {bytes:?}");
    }
}

#[tokio::test]
async fn a_slow_handshake_is_a_tls_record_that_never_completes() {
    let server = full_server().await;
    server.set_fault(Fault::At(SessionStage::Handshake, Action::Slow(INTERVAL))).await.expect("a fault");
    let mut raw = until(&server, SessionStage::Handshake).await;
    let bytes = raw.bytes(5).await;
    assert_eq!(bytes[..3], [0x16, 0x03, 0x03]);
    let announced = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
    assert!(bytes.len() + raw.bytes(announced).await.len() < announced);
}

#[tokio::test]
async fn a_reply_can_come_instead_of_a_handshake() {
    let server = full_server().await;
    server.set_fault(Fault::reply(SessionStage::Handshake, 454, "4.7.0 TLS not available")).await.expect("a fault");
    assert_eq!(until(&server, SessionStage::Handshake).await.reply().await, Seen::line("454 4.7.0 TLS not available"));
    assert_eq!(server.counters().failed_handshakes, 1);
}

#[tokio::test]
async fn refused_connections_leave_sessions_alone_and_a_crash_does_not() {
    let server = server("s").await;
    let mut raw = Raw::connect(server.address()).await;
    raw.exchange("EHLO test", "220").await;
    assert!(matches!(raw.reply().await, Seen::Line(_)));

    server.set_fault(Fault::Refuse).await.expect("a fault");
    let refused = TcpStream::connect(server.address()).await.map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    raw.exchange("NOOP", "250").await;

    server.crash().await.expect("a crash");
    assert_eq!(raw.reply().await, Seen::Reset);
    let refused = TcpStream::connect(server.address()).await.map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_repaired_server_listens_at_the_same_addresses_again_and_again() {
    let options = Options::new("both", V4).and_address(V6);
    let server = SmtpServer::start(options).await.expect("a server");
    let [v4, v6] = server.addresses() else { panic!("two addresses") };
    assert_eq!(v4.port(), v6.port());
    for round in 0..50 {
        for address in server.addresses() {
            // An earlier session, in any state, does not prevent it.
            let mut raw = Raw::connect(*address).await;
            assert_eq!(raw.reply().await, Seen::line("220 both ESMTP ready"), "round {round}");
        }
        match round % 3 {
            0 => server.crash().await,
            1 => server.set_fault(Fault::Refuse).await,
            _ => server.set_fault(Fault::Blackhole).await,
        }
        .expect("a fault");
        server.repair().await.expect("a repair");
    }
}

#[tokio::test]
async fn a_connection_into_a_black_hole_gets_no_answer_at_all() {
    let options = Options::new("s", V4).and_address(V6);
    let server = SmtpServer::start(options).await.expect("a server");
    server.set_fault(Fault::Blackhole).await.expect("a fault");
    for address in server.addresses() {
        for _ in 0..3 {
            let connected = timeout(Duration::from_millis(200), TcpStream::connect(*address)).await;
            assert!(connected.is_err(), "{connected:?}");
        }
    }
    server.repair().await.expect("a repair");
    assert_eq!(Raw::connect(server.address()).await.reply().await, Seen::line("220 s ESMTP ready"));
}

#[tokio::test]
async fn a_frozen_server_is_silent_in_new_and_in_established_sessions() {
    let server = server("s").await;
    let mut established = Raw::connect(server.address()).await;
    assert_eq!(established.reply().await, Seen::line("220 s ESMTP ready"));
    server.set_fault(Fault::Silent).await.expect("a fault");
    for command in ["NOOP\r\n", "EHLO test\r\n", "QUIT\r\n"] {
        established.say(command).await;
        assert_eq!(established.reply().await, Seen::Silence, "{command}");
    }
    assert_eq!(Raw::connect(server.address()).await.reply().await, Seen::Silence);
    // Sessions that hang still hang.
    server.repair().await.expect("a repair");
    assert_eq!(established.reply().await, Seen::Silence);
    server.cut_sessions();
    assert_eq!(established.reply().await, Seen::Reset);
}

#[tokio::test]
async fn a_fault_is_in_force_for_established_sessions_from_their_next_stage_on() {
    let server = full_server().await;
    let mut raw = Raw::connect(server.address()).await;
    raw.reply().await;
    raw.exchange("EHLO test", "250").await;
    server.set_fault(Fault::reply(SessionStage::Mail, 454, "4.7.0 Throttled")).await.expect("a fault");
    raw.exchange("MAIL FROM:<a@a.test>", "454").await;
    server.repair().await.expect("a repair");
    raw.exchange("MAIL FROM:<a@a.test>", "250").await;
}

#[tokio::test]
async fn extensions_can_be_taken_away() {
    let server = full_server().await;
    for (extension, keyword, command) in
        [(Extension::StartTls, "STARTTLS", "STARTTLS"), (Extension::Auth, "AUTH", LOGIN)]
    {
        for (fault, offered) in [(Fault::None, true), (Fault::NotOffered(extension), false)] {
            server.set_fault(fault).await.expect("a fault");
            let mut raw = Raw::connect(server.address()).await;
            raw.reply().await;
            raw.say("EHLO test\r\n").await;
            let lists = raw.lines().await.iter().any(|line| line[4..].starts_with(keyword));
            assert_eq!(lists, offered, "{keyword}");
            raw.exchange(command, if offered { "2" } else { "502" }).await;
        }
    }
}

#[tokio::test]
async fn a_message_can_be_stored_without_the_client_knowing() {
    let cases = [(Ending::Reset, Seen::Reset), (Ending::Close, Seen::Closed), (Ending::Hang, Seen::Silence)];
    for (ending, expected) in cases {
        let server = full_server().await;
        server.set_fault(Fault::AcceptWithoutReply(ending)).await.expect("a fault");
        let mut raw = until(&server, SessionStage::EndOfData).await;
        assert_eq!(raw.reply().await, expected, "{ending:?}");
        assert_eq!(server.received_count(), 1, "{ending:?}");
    }
}

#[test]
fn faults_have_names_for_tables() {
    let cases = [
        (Fault::None, "none"),
        (Fault::Refuse, "connection refused"),
        (Fault::Blackhole, "connection unanswered"),
        (Fault::Silent, "frozen"),
        (Fault::At(SessionStage::Banner, Action::Hang), "hang at banner"),
        (Fault::At(SessionStage::Ehlo, Action::Slow(Duration::from_secs(1))), "a byte per 1s at EHLO"),
        (Fault::At(SessionStage::Banner, Action::Reply(421, Cow::Borrowed("4.3.2 x"))), "421 at banner"),
        (Fault::NotOffered(Extension::StartTls), "STARTTLS not offered"),
        (Fault::AcceptWithoutReply(Ending::Reset), "accepted, then reset"),
    ];
    for (fault, name) in cases {
        assert_eq!(fault.to_string(), name);
    }
}
