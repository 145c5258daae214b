use mail_failover_core::model::Login;
use proptest::prelude::*;

use super::*;
use crate::login::NoMechanism;

/// `\0shop\0hunter2`, as RFC 4616 has it.
const LOGIN: &str = "AHNob3AAaHVudGVyMg==";
const SESSION: Duration = Duration::from_mins(1);
const STEP: Duration = Duration::from_secs(20);
const CONNECTION: Duration = Duration::from_secs(5);
const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn plan(tls: TlsMode, goal: Goal) -> SessionPlan {
    SessionPlan {
        ehlo_name: Some("us.example".into()),
        tls,
        goal,
        timeouts: SessionTimeouts { session: SESSION, connection: CONNECTION, step: STEP },
    }
}

fn login() -> Login {
    Login::new("shop", "hunter2")
}

fn transaction() -> Goal {
    Goal::Transaction { login: Some(login()), sender: "a@us.example".into(), recipient: Some("b@them.example".into()) }
}

/// A session whose I/O is a transcript.
struct Transcript {
    client: SmtpClient,
    now: Instant,
    /// Lines that were sent, `<TLS>` for a handshake.
    sent: String,
    end: Option<Result<Option<Reply>, SessionError>>,
}

impl Transcript {
    fn new(plan: SessionPlan) -> Self {
        let now = Instant::now();
        let mut session = Self { client: SmtpClient::new(now, plan), now, sent: String::new(), end: None };
        session.handle(ClientInput::Connected { local: LOCAL });
        session
    }

    fn handle(&mut self, input: ClientInput<'_>) {
        self.client.handle(self.now, input);
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(action) = self.client.poll() {
            match action {
                ClientAction::Send(bytes) => self.sent += std::str::from_utf8(&bytes).unwrap(),
                ClientAction::StartTls => self.sent += "<TLS>\r\n",
                ClientAction::Finished(result) => assert!(self.end.replace(result).is_none(), "finished twice"),
            }
        }
    }

    /// Feeds what a server says; `<TLS>` stands for a handshake that succeeds.
    fn hear(&mut self, script: &[&str]) {
        for line in script {
            match *line {
                "<TLS>" => self.handle(ClientInput::TlsEstablished),
                line => self.handle(ClientInput::Received(line.as_bytes())),
            }
        }
    }

    fn quit(&mut self) {
        self.end = None;
        self.client.quit(self.now);
        self.poll();
    }

    fn time_passes(&mut self, duration: Duration) {
        self.now += duration;
        self.client.handle_timeout(self.now);
        self.poll();
    }

    /// The code of the reply with which the session reached its goal.
    fn code(&self) -> Option<u16> {
        match &self.end {
            Some(Ok(Some(reply))) => Some(reply.code),
            Some(Ok(None) | Err(_)) | None => None,
        }
    }

    fn error(&self) -> &SessionError {
        self.end.as_ref().expect("the session has not ended").as_ref().unwrap_err()
    }
}

fn run(plan: SessionPlan, script: &[&str]) -> Transcript {
    let mut session = Transcript::new(plan);
    session.hear(script);
    session
}

/// A whole session with STARTTLS, AUTH PLAIN, MAIL and RCPT, with the stage in which each line is waited for.
const SCRIPT: [(Stage, &str); 8] = [
    (Stage::Banner, "220 mx ESMTP\r\n"),
    (Stage::Ehlo, "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n"),
    (Stage::StartTls, "220 2.0.0 go\r\n"),
    (Stage::StartTls, "<TLS>"),
    (Stage::EhloAfterStartTls, "250-mx\r\n250 AUTH PLAIN LOGIN\r\n"),
    (Stage::Auth, "235 2.7.0 welcome\r\n"),
    (Stage::Mail, "250 2.1.0 sender\r\n"),
    (Stage::Recipient, "250 2.1.5 recipient\r\n"),
];

/// The session up to each stage that waits for a reply.
fn at_each_stage() -> impl Iterator<Item = (Stage, Transcript)> {
    SCRIPT.into_iter().enumerate().filter(|(_, (_, line))| *line != "<TLS>").map(|(at, (stage, _))| {
        let script: Vec<_> = SCRIPT[..at].iter().map(|(_, line)| *line).collect();
        let session = run(plan(TlsMode::StartTls, transaction()), &script);
        assert_eq!(session.client.stage(), stage);
        (stage, session)
    })
}

#[test]
fn a_session_goes_as_far_as_its_goal_and_no_further() {
    let greeting = "220 mx\r\n";
    let hello = "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n";
    let (ehlo, starttls, auth) = ("EHLO us.example\r\n", "STARTTLS\r\n<TLS>\r\n", format!("AUTH PLAIN {LOGIN}\r\n"));
    let (mail, rcpt) = ("MAIL FROM:<a@us.example>\r\n", "RCPT TO:<b@them.example>\r\n");
    let everything = [greeting, hello, "220 go\r\n", "<TLS>", hello, "235 in\r\n", "250 mail\r\n", "250 rcpt\r\n"];
    let sender: Arc<str> = "a@us.example".into();
    let cases = [
        (Goal::Connection, None, String::new()),
        (Goal::Greeting, Some(220), String::new()),
        (Goal::Ehlo, Some(250), ehlo.to_owned()),
        (Goal::Ready, Some(250), [ehlo, starttls, ehlo].concat()),
        (Goal::Login(login()), Some(235), [ehlo, starttls, ehlo, &auth].concat()),
        (
            Goal::Transaction { login: Some(login()), sender: sender.clone(), recipient: None },
            Some(250),
            [ehlo, starttls, ehlo, &auth, mail].concat(),
        ),
        (transaction(), Some(250), [ehlo, starttls, ehlo, &auth, mail, rcpt].concat()),
    ];
    for (goal, code, sent) in cases {
        let session = run(plan(TlsMode::StartTls, goal), &everything);
        assert_eq!((session.code(), session.sent), (code, sent));
        assert!(session.end.unwrap().is_ok());
        assert_eq!(session.client.next_timeout(), None);
    }
    // A relay that asks for no login, and no TLS.
    let goal = Goal::Transaction { login: None, sender, recipient: None };
    let session = run(plan(TlsMode::None, goal), &[greeting, hello, "250 mail\r\n"]);
    assert_eq!((session.code(), session.sent), (Some(250), [ehlo, mail].concat()));
}

#[test]
fn tls_comes_before_the_greeting_or_after_ehlo_or_not_at_all() {
    let with = "250-mx\r\n250 StartTLS\r\n";
    let without = "250 mx\r\n";
    let ehlo = "EHLO us.example\r\n";
    let upgrade = "EHLO us.example\r\nSTARTTLS\r\n<TLS>\r\nEHLO us.example\r\n";
    let cases = [
        (TlsMode::None, vec!["220 mx\r\n", with], ehlo, Stage::Ehlo),
        (TlsMode::Opportunistic, vec!["220 mx\r\n", without], ehlo, Stage::Ehlo),
        (
            TlsMode::Opportunistic,
            vec!["220 mx\r\n", with, "220 go\r\n", "<TLS>", without],
            upgrade,
            Stage::EhloAfterStartTls,
        ),
        (
            TlsMode::StartTls,
            vec!["220 mx\r\n", with, "220 go\r\n", "<TLS>", without],
            upgrade,
            Stage::EhloAfterStartTls,
        ),
        (TlsMode::Implicit, vec!["<TLS>", "220 mx\r\n", with], "<TLS>\r\nEHLO us.example\r\n", Stage::Ehlo),
    ];
    for (mode, script, sent, stage) in cases {
        let session = run(plan(mode, Goal::Ready), &script);
        assert_eq!((session.code(), &*session.sent, session.client.stage()), (Some(250), sent, stage), "{mode:?}");
    }
    // The goal is EHLO: its STARTTLS is not used.
    let session = run(plan(TlsMode::StartTls, Goal::Ehlo), &["220 mx\r\n", without]);
    assert_eq!((session.code(), &*session.sent), (Some(250), ehlo));
}

#[test]
fn required_tls_that_is_not_offered_keeps_the_login_in() {
    let mut session = run(plan(TlsMode::StartTls, transaction()), &["220 mx\r\n", "250-mx\r\n250 AUTH PLAIN\r\n"]);
    assert_eq!((session.error(), session.client.stage()), (&SessionError::StartTlsNotOffered, Stage::StartTls));
    assert_eq!(session.sent, "EHLO us.example\r\n");
    session.quit();
    assert_eq!(session.sent, "EHLO us.example\r\nQUIT\r\n");
}

#[test]
fn extensions_offered_before_tls_are_forgotten() {
    let offers = "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n";
    let session =
        run(plan(TlsMode::StartTls, transaction()), &["220 mx\r\n", offers, "220 go\r\n", "<TLS>", "250 mx\r\n"]);
    assert_eq!(session.error(), &SessionError::NoMechanism(NoMechanism::NotOffered));
    // Nor does a second STARTTLS follow.
    let session = run(plan(TlsMode::StartTls, Goal::Ready), &["220 mx\r\n", offers, "220 go\r\n", "<TLS>", offers]);
    assert_eq!((session.code(), session.sent.matches("STARTTLS").count()), (Some(250), 1));
}

#[test]
fn each_stage_ends_with_each_kind_of_reply_that_does_not_let_it_go_on() {
    for reply in [
        "421 4.3.2 closing\r\n",
        "454 4.7.0 later\r\n",
        "554-5.7.1 no\r\n554 5.7.1 never\r\n",
        "299 odd\r\n",
        "354 odd\r\n",
    ] {
        for (stage, mut session) in at_each_stage() {
            session.hear(&[reply]);
            let SessionError::Refused(refusal) = session.error() else { panic!("{stage:?}: {:?}", session.end) };
            assert_eq!(refusal.code.to_string(), reply[..3]);
            assert_eq!(session.client.stage(), stage);
            assert!(session.client.owes_quit(), "{stage:?}");
        }
    }
    let text = run(plan(TlsMode::None, Goal::Greeting), &["554-5.7.1 no\r\n554 5.7.1 never\r\n"]).error().to_string();
    assert_eq!(text, "554 5.7.1 no 5.7.1 never");
}

#[test]
fn each_stage_ends_with_bytes_that_are_no_reply() {
    let (long, many) = (format!("250 {}", "x".repeat(3000)), "250-x\r\n".repeat(200));
    let cases = [
        ("SSH-2.0-OpenSSH_9.2\r\n", "not an SMTP reply: SSH-2.0-OpenSSH_9.2"),
        ("\0\0\0\0", "not an SMTP reply: \0\0\0\0"),
        ("25", ""),
        (long.as_str(), "a reply line of more than 2048 octets"),
        (many.as_str(), "a reply of more than 128 lines"),
    ];
    for (bytes, message) in cases {
        for (stage, mut session) in at_each_stage() {
            session.hear(&[bytes]);
            if message.is_empty() {
                assert_eq!(session.end, None, "{stage:?}: more is to come");
                continue;
            }
            // What somebody says who does not speak SMTP is not repeated.
            let unquoted = format!("not an SMTP greeting ({} octets)", bytes.len());
            let is_foreign = stage == Stage::Banner && message.starts_with("not an SMTP reply");
            let message = if is_foreign { unquoted.as_str() } else { message };
            assert_eq!((session.error().to_string().as_str(), session.client.stage()), (message, stage));
            assert!(!session.client.owes_quit(), "{stage:?}");
        }
    }
}

#[test]
fn each_stage_ends_with_the_end_of_the_stream() {
    for (stage, mut session) in at_each_stage() {
        session.handle(ClientInput::EndOfStream);
        assert_eq!((session.error(), session.client.stage()), (&SessionError::Closed, stage));
    }
    for (stage, mut session) in at_each_stage() {
        session.hear(&["250-half\r\n"]);
        session.handle(ClientInput::EndOfStream);
        let begun = if stage == Stage::Banner { "greeting" } else { "reply" };
        let told = format!("connection closed within a reply; {begun} begun: 250-half");
        assert_eq!((session.error().to_string(), session.client.stage()), (told, stage));
        session.quit();
        assert_eq!(session.end, None, "there is nobody to say it to");
    }
}

#[test]
fn each_stage_ends_at_its_deadline() {
    for (stage, mut session) in at_each_stage() {
        assert_eq!(session.client.next_timeout(), Some(session.now + STEP));
        session.time_passes(Duration::from_millis(19_999));
        // A part of a reply is no progress.
        session.hear(&["250-half\r\n"]);
        assert_eq!(
            (&session.end, session.client.next_timeout()),
            (&None, Some(session.now + Duration::from_millis(1)))
        );
        session.time_passes(Duration::from_millis(1));
        let begun = if stage == Stage::Banner { "greeting" } else { "reply" };
        let told = format!("no answer within 20s; {begun} begun: 250-half");
        assert_eq!((session.error().to_string(), session.client.stage()), (told, stage));
        assert!(!session.client.owes_quit() && session.client.next_timeout().is_none());
    }
    // The connection and the handshake have one, too.
    let now = Instant::now();
    let mut client = SmtpClient::new(now, plan(TlsMode::Implicit, Goal::Ready));
    assert_eq!(client.next_timeout(), Some(now + CONNECTION));
    client.handle(now + Duration::from_secs(4), ClientInput::Connected { local: LOCAL });
    assert_eq!(client.next_timeout(), Some(now + Duration::from_secs(4) + STEP));
    let mut client = SmtpClient::new(now, plan(TlsMode::None, Goal::Ready));
    client.handle_timeout(now + CONNECTION);
    let Some(ClientAction::Finished(Err(error))) = client.poll() else { panic!("it waits on") };
    assert_eq!(error, SessionError::Timeout { bound: CONNECTION, begun: None });
}

#[test]
fn the_session_has_a_deadline_however_quick_its_steps_are() {
    let mut session = Transcript::new(plan(TlsMode::StartTls, transaction()));
    for (_, line) in &SCRIPT[..3] {
        session.time_passes(Duration::from_secs(19));
        session.hear(&[line]);
    }
    session.time_passes(Duration::from_secs(3));
    assert_eq!(session.error(), &SessionError::Timeout { bound: SESSION, begun: None });
    assert_eq!(session.client.stage(), Stage::StartTls);
    // SessionTimeouts beyond the range of `Instant` are none.
    let timeouts = SessionTimeouts { session: Duration::MAX, connection: Duration::MAX, step: Duration::MAX };
    let session = Transcript::new(SessionPlan { timeouts, ..plan(TlsMode::None, Goal::Ehlo) });
    assert_eq!(session.client.next_timeout(), None);
}

#[test]
fn replies_count_however_they_are_cut() {
    let whole = run(plan(TlsMode::StartTls, transaction()), &SCRIPT.map(|(_, line)| line)).sent;
    for size in [1, 2, 3, 7] {
        let mut session = Transcript::new(plan(TlsMode::StartTls, transaction()));
        for (_, line) in SCRIPT {
            if line == "<TLS>" {
                session.handle(ClientInput::TlsEstablished);
                continue;
            }
            for piece in line.as_bytes().chunks(size) {
                session.handle(ClientInput::Received(piece));
            }
        }
        assert_eq!((session.code(), &session.sent), (Some(250), &whole), "by {size}");
    }
}

#[test]
fn a_reply_that_comes_before_its_command_is_taken_as_the_answer() {
    let ahead = "220 mx\r\n250 hello\r\n";
    let session = run(plan(TlsMode::None, Goal::Ready), &[ahead]);
    assert_eq!((session.code(), &*session.sent), (Some(250), "EHLO us.example\r\n"));
    let session = run(plan(TlsMode::None, Goal::Ready), &["220 mx\r\ngarbage\r\n"]);
    assert_eq!(
        (session.error().to_string().as_str(), &*session.sent),
        ("not an SMTP reply: garbage", "EHLO us.example\r\n")
    );
    // After the goal nobody reads it, and it does not keep QUIT from being sent.
    let mut session = run(plan(TlsMode::None, Goal::Greeting), &["220 mx\r\ngarbage\r\n"]);
    assert_eq!(session.code(), Some(220));
    session.quit();
    assert_eq!(session.sent, "QUIT\r\n");
}

#[test]
fn plain_text_after_the_go_ahead_for_tls_is_refused() {
    let before = ["220 mx\r\n", "250-mx\r\n250 STARTTLS\r\n"];
    for mode in [TlsMode::StartTls, TlsMode::Opportunistic] {
        for injected in
            [vec!["220 go\r\n250-injected\r\n"], vec!["220 go\r\n2"], vec!["220 go\r\n", "250 AUTH PLAIN\r\n"]]
        {
            let mut session = run(plan(mode, transaction()), &before);
            session.hear(&injected);
            assert_eq!((session.error(), session.client.stage()), (&SessionError::PlainTextBeforeTls, Stage::StartTls));
            assert!(!session.client.owes_quit());
            // The handshake that may have begun changes nothing.
            session.handle(ClientInput::TlsEstablished);
            assert!(!session.sent.contains("AUTH") && session.sent.ends_with("\r\n"));
        }
        // In one piece, not even a handshake begins.
        let session = run(plan(mode, transaction()), &[before[0], before[1], "220 go\r\n250 mx\r\n"]);
        assert!(!session.sent.contains("<TLS>"));
    }
}

#[test]
fn a_server_without_extensions_is_greeted_with_helo_where_none_are_needed() {
    for refusal in ["500 what?\r\n", "502 5.5.2 no\r\n"] {
        for mode in [TlsMode::None, TlsMode::Opportunistic] {
            let session = run(plan(mode, Goal::Ready), &["220 mx\r\n", refusal, "250 hi\r\n"]);
            assert_eq!((session.code(), &*session.sent), (Some(250), "EHLO us.example\r\nHELO us.example\r\n"));
            // HELO offers no AUTH.
            let session = run(plan(mode, transaction()), &["220 mx\r\n", refusal, "250 hi\r\n"]);
            assert_eq!(session.error(), &SessionError::NoMechanism(NoMechanism::NotOffered));
            // It is tried once.
            let session = run(plan(mode, Goal::Ready), &["220 mx\r\n", refusal, refusal]);
            assert!(matches!(session.error(), SessionError::Refused(_)));
        }
        let session = run(plan(TlsMode::StartTls, Goal::Ready), &["220 mx\r\n", refusal]);
        assert!(matches!(session.error(), SessionError::Refused(_)));
        let session = run(plan(TlsMode::Implicit, Goal::Ready), &["<TLS>", "220 mx\r\n", refusal]);
        assert!(matches!(session.error(), SessionError::Refused(_)));
        // Inside STARTTLS a server that has just offered extensions has no excuse.
        let script = ["220 mx\r\n", "250-mx\r\n250 STARTTLS\r\n", "220 go\r\n", "<TLS>", refusal];
        let session = run(plan(TlsMode::Opportunistic, Goal::Ready), &script);
        assert!(matches!(session.error(), SessionError::Refused(_)));
    }
}

#[test]
fn a_login_is_sent_by_the_mechanism_that_the_server_offers() {
    let offering = |mechanisms: &str, rest: &[&str]| {
        let hello = format!("250-mx\r\n250 AUTH {mechanisms}\r\n");
        run(plan(TlsMode::None, Goal::Login(login())), &[&["220 mx\r\n", hello.as_str()][..], rest].concat())
    };
    let session = offering("LOGIN PLAIN", &["235 in\r\n"]);
    assert_eq!((session.code(), session.sent), (Some(235), format!("EHLO us.example\r\nAUTH PLAIN {LOGIN}\r\n")));
    let lines = "EHLO us.example\r\nAUTH LOGIN\r\nc2hvcA==\r\naHVudGVyMg==\r\n";
    let session = offering("LOGIN", &["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n", "235 in\r\n"]);
    assert_eq!((session.code(), &*session.sent), (Some(235), lines));
    // No further line follows another reply than 334, and no success another one than 235.
    for (replies, sent) in [
        (vec!["235 early\r\n"], "AUTH LOGIN\r\n"),
        (vec!["334 \r\n", "535 no such user\r\n"], "c2hvcA==\r\n"),
        (vec!["334 \r\n", "334 \r\n", "334 more?\r\n"], "aHVudGVyMg==\r\n"),
    ] {
        let session = offering("LOGIN", &replies);
        assert!(
            matches!(session.error(), SessionError::Refused(_)) && session.sent.ends_with(sent),
            "{}",
            session.sent
        );
    }
    let session = offering("XOAUTH2", &[]);
    assert_eq!(session.error(), &SessionError::NoMechanism(NoMechanism::Unknown("XOAUTH2".to_owned())));
    assert!(session.client.owes_quit() && session.sent == "EHLO us.example\r\n");
}

#[test]
fn a_recipient_to_whom_the_message_would_be_forwarded_is_accepted() {
    let (_, mut session) = at_each_stage().last().unwrap();
    session.hear(&["251 2.1.5 will forward\r\n"]);
    assert_eq!(session.code(), Some(251));
}

#[test]
fn quit_follows_the_end_and_rset_comes_before_it_in_a_transaction() {
    let script = SCRIPT.map(|(_, line)| line);
    for (count, rset) in [(6, false), (7, true), (8, true)] {
        let goal = match count {
            6 => Goal::Login(login()),
            7 => Goal::Transaction { login: Some(login()), sender: "a@us.example".into(), recipient: None },
            _ => transaction(),
        };
        let mut session = run(plan(TlsMode::StartTls, goal), &script[..count]);
        session.sent.clear();
        session.quit();
        assert_eq!(session.sent, if rset { "RSET\r\n" } else { "QUIT\r\n" });
        if rset {
            // Whatever the reply is.
            session.hear(&["500 what?\r\n"]);
            assert_eq!(session.sent, "RSET\r\nQUIT\r\n");
        }
        session.hear(&["221-so\r\n", "221 long\r\n"]);
        assert_eq!((session.code(), session.client.owes_quit()), (Some(221), false));
    }
    // A refused recipient leaves the transaction open.
    let (_, mut session) = at_each_stage().last().unwrap();
    session.hear(&["550 5.1.1 unknown\r\n"]);
    session.quit();
    assert!(session.sent.ends_with("RSET\r\n"));
    // The peer has a second, the session's deadlines notwithstanding.
    session.time_passes(QUIT_TIMEOUT / 2);
    session.hear(&["250 ok\r\n"]);
    session.time_passes(QUIT_TIMEOUT / 2);
    assert!(matches!(session.error(), SessionError::Timeout { .. }));
}

#[test]
fn after_the_connection_alone_the_greeting_is_read_and_quit_said() {
    for greeting in ["220-mx\r\n220 ready\r\n", "554 5.7.1 not you\r\n", "250 odd\r\n"] {
        let mut session = Transcript::new(plan(TlsMode::StartTls, Goal::Connection));
        assert_eq!((&session.end, session.client.next_timeout()), (&Some(Ok(None)), None));
        assert!(session.client.owes_quit());
        session.quit();
        assert_eq!((session.sent.as_str(), session.client.next_timeout()), ("", Some(session.now + STEP)));
        session.time_passes(Duration::from_secs(6));
        session.hear(&[greeting]);
        assert_eq!(session.client.next_timeout(), Some(session.now + QUIT_TIMEOUT));
        session.hear(&["221 bye\r\n"]);
        assert_eq!((session.sent.as_str(), session.code()), ("QUIT\r\n", Some(221)));
    }
    // Nothing is said to a server that does not greet, or closes.
    for script in [vec![], vec!["421 4.3.2 closing\r\n"], vec!["garbage\r\n"]] {
        let mut session = Transcript::new(plan(TlsMode::None, Goal::Connection));
        session.quit();
        session.hear(&script);
        session.time_passes(STEP);
        assert_eq!((session.sent.as_str(), session.client.next_timeout()), ("", None));
        assert!(session.end.is_some());
    }
    // With implicit TLS the server waits for a handshake.
    assert!(!Transcript::new(plan(TlsMode::Implicit, Goal::Connection)).client.owes_quit());
}

#[test]
fn without_a_name_ehlo_has_the_literal_of_our_address() {
    for (local, name) in
        [("192.0.2.7", "[192.0.2.7]"), ("2001:db8::7", "[IPv6:2001:db8::7]"), ("::ffff:192.0.2.7", "[192.0.2.7]")]
    {
        let now = Instant::now();
        let plan = SessionPlan { ehlo_name: None, ..plan(TlsMode::None, Goal::Ready) };
        let mut session = Transcript { client: SmtpClient::new(now, plan), now, sent: String::new(), end: None };
        session.handle(ClientInput::Connected { local: local.parse().unwrap() });
        session.hear(&["220 mx\r\n", "502 what?\r\n"]);
        assert_eq!(session.sent, format!("EHLO {name}\r\nHELO {name}\r\n"));
    }
}

#[test]
fn a_refused_starttls_is_done_without_where_tls_is_opportunistic() {
    let before = ["220 mx\r\n", "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"];
    for refusal in ["454 4.7.0 TLS not available\r\n", "502 5.5.1 what?\r\n"] {
        let session = run(plan(TlsMode::Opportunistic, Goal::Ready), &[before[0], before[1], refusal]);
        assert_eq!((session.code(), session.client.stage()), (Some(250), Stage::Ehlo));
        assert_eq!(session.client.refused_tls().unwrap().line(), refusal.trim_end());
        // It goes on with what was offered before.
        let session = run(plan(TlsMode::Opportunistic, Goal::Login(login())), &[before[0], before[1], refusal]);
        assert!(session.sent.ends_with(&format!("STARTTLS\r\nAUTH PLAIN {LOGIN}\r\n")), "{}", session.sent);
        let session = run(plan(TlsMode::StartTls, Goal::Login(login())), &[before[0], before[1], refusal]);
        assert!(matches!(session.error(), SessionError::Refused(_)) && !session.sent.contains("AUTH"));
    }
    for odd in ["421 4.3.2 closing\r\n", "250 odd\r\n"] {
        let session = run(plan(TlsMode::Opportunistic, Goal::Ready), &[before[0], before[1], odd]);
        assert!(matches!(session.error(), SessionError::Refused(_)));
    }
}

#[test]
fn the_bounds_of_a_session_follow_from_a_probes_timeout() {
    let seconds = Duration::from_secs;
    for (timeout, session, connection) in [
        (seconds(10), seconds(55), seconds(5)),
        (seconds(5), seconds(30), seconds(5)),
        (Duration::from_millis(500), seconds(3), Duration::from_millis(500)),
        (seconds(30), seconds(55), seconds(5)),
        (seconds(300), seconds(300), seconds(5)),
    ] {
        let bounds = SessionTimeouts { session, connection, step: timeout };
        assert_eq!(SessionTimeouts::of_probe(timeout), bounds);
    }
}

#[test]
fn a_deadline_that_is_noticed_too_late_says_nothing_about_the_peer() {
    let deadline = Instant::now();
    for (bound, late, is_too_late) in [
        (10_000, 0, false),
        (10_000, 2500, false),
        (10_000, 2501, true),
        (300, 75, false),
        (300, 76, true),
        // Timers are not exact.
        (50, 20, false),
        (50, 21, true),
    ] {
        let late = Duration::from_millis(late);
        let told = lateness(Duration::from_millis(bound), deadline, deadline + late);
        assert_eq!(told, is_too_late.then_some(late), "{bound}");
    }
    assert_eq!(lateness(STEP, deadline, deadline.checked_sub(STEP).unwrap_or(deadline)), None);
    for (stage, mut session) in at_each_stage() {
        session.time_passes(STEP + STEP / 4 + Duration::from_millis(1));
        let late = Duration::from_millis(5001);
        assert_eq!((session.error(), session.client.stage()), (&SessionError::Starved { bound: STEP, late }, stage));
    }
}

#[test]
fn a_piece_of_a_reply_that_may_quote_the_login_is_not_told() {
    for (stage, mut session) in at_each_stage() {
        session.hear(&["535-5.7.8 no\r\n", "535 5.7.8 hunt"]);
        session.time_passes(STEP);
        let told = session.error().to_string();
        assert!(told.contains("begun: 535-5.7.8 no 535"), "{told}");
        assert_eq!(told.contains("hunt"), stage < Stage::Auth, "{told}");
    }
}

#[test]
fn quit_is_not_said_to_a_peer_that_does_not_wait_for_it() {
    let mut sessions = vec![
        Transcript::new(plan(TlsMode::Implicit, Goal::Connection)),
        Transcript::new(plan(TlsMode::None, Goal::Greeting)),
        run(plan(TlsMode::None, Goal::Greeting), &["garbage\r\n"]),
        run(plan(TlsMode::StartTls, Goal::Ready), &["220 mx\r\n", "250-mx\r\n250 STARTTLS\r\n", "220 go\r\nmore\r\n"]),
    ];
    for session in &mut sessions {
        let sent = session.sent.clone();
        session.quit();
        assert_eq!(session.sent, sent);
    }
}

proptest! {
    #[test]
    fn no_bytes_bring_a_session_out_of_step(
        pieces in prop::collection::vec(
            prop_oneof![
                4 => "(220|221|235|250|251|334|354|421|454|500|502|535|550)[ -][A-Z0-9 =]{0,12}\r\n",
                2 => Just("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n".to_owned()),
                2 => Just("<TLS>".to_owned()),
                1 => ".{0,20}",
            ],
            0..30,
        ),
        mode in prop::sample::select(vec![TlsMode::None, TlsMode::Opportunistic, TlsMode::StartTls, TlsMode::Implicit]),
    ) {
        let mut session = Transcript::new(plan(mode, transaction()));
        for piece in &pieces {
            session.hear(&[piece]);
            prop_assert!(session.sent.matches("<TLS>").count() <= 1);
        }
        let sent: Vec<_> = session.sent.lines().collect();
        // At most: EHLO, HELO, STARTTLS, TLS, EHLO, three lines of AUTH, MAIL, RCPT.
        prop_assert!(sent.len() <= 10, "{sent:?}");
        if let TlsMode::StartTls | TlsMode::Implicit = mode {
            let tls = sent.iter().position(|line| *line == "<TLS>");
            let auth = sent.iter().position(|line| line.starts_with("AUTH"));
            prop_assert!(auth.is_none() || tls < auth, "{sent:?}");
            prop_assert!(auth.is_none() || tls.is_some());
        }
        session.quit();
        prop_assert!(session.client.next_timeout().is_some() || session.client.poll().is_none());
    }
}
