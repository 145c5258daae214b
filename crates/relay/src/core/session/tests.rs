use std::time::Duration;

use super::super::transaction::{Ambiguity, Operation};
use super::*;
use mail_failover_smtp::reply::Reply;

fn settings() -> SessionSettings {
    SessionSettings {
        hostname: "relay.example".into(),
        has_certificate: true,
        requires_tls: false,
        has_logins: true,
        login_without_tls: false,
        max_message: 1000,
        max_recipients: 2,
        bounds: TransactionBounds {
            total: Duration::from_secs(25),
            stage: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            ambiguity: Ambiguity::Refuse,
        },
    }
}

/// A session with a backend that takes everything.
struct Dialogue {
    session: Session,
    said: String,
    commands: Vec<String>,
    stored: Vec<u8>,
    messages: Vec<Vec<u8>>,
    ends: Vec<TransactionEnd>,
    rejections: Vec<Rejection>,
    capabilities: Capabilities,
    connections: usize,
    releases: usize,
    is_full: bool,
    is_closed: bool,
}

impl Dialogue {
    fn with(settings: SessionSettings, is_allowed: bool) -> Self {
        let mut dialogue = Self {
            session: Session::new(Arc::new(settings), is_allowed, false),
            said: String::new(),
            commands: vec![],
            stored: vec![],
            messages: vec![],
            ends: vec![],
            rejections: vec![],
            capabilities: Capabilities::default(),
            connections: 0,
            releases: 0,
            is_full: false,
            is_closed: false,
        };
        dialogue.work();
        dialogue
    }

    fn new() -> Self {
        Self::with(settings(), true)
    }

    /// Lets the application say this. Returns what it hears.
    fn say(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.said.clear();
        self.session.handle(Instant::now(), SessionInput::Received(bytes.as_ref()));
        self.work();
        self.said.clone()
    }

    /// The codes that the application hears.
    fn codes(&mut self, bytes: impl AsRef<[u8]>) -> Vec<String> {
        let heard = self.say(bytes);
        let last_lines = heard.split_terminator("\r\n").filter(|line| line.as_bytes()[3] == b' ');
        last_lines.map(|line| line[..3].to_owned()).collect()
    }

    fn work(&mut self) {
        let now = Instant::now();
        while let Some(action) = self.session.poll(now) {
            match action {
                SessionAction::Send(bytes) => self.said.push_str(&String::from_utf8(bytes).unwrap()),
                SessionAction::StartTls => self.session.handle(now, SessionInput::TlsEstablished),
                SessionAction::CheckLogin(SubmittedLogin(login)) => {
                    let is_right = (login.username(), login.password()) == ("shop", "hunter2");
                    self.session.handle(now, SessionInput::LoginChecked(is_right));
                }
                SessionAction::Plan { domain } => {
                    let way = Way { backend: "b".into(), rulebook: Arc::default(), after_refusal: false };
                    let planned = match domain.as_deref() {
                        Some("unplanned.example") => Err(Answer::own(451, "4.7.1 nobody")),
                        Some(_) | None => Ok(vec![way]),
                    };
                    self.session.handle(now, SessionInput::Planned(planned));
                }
                SessionAction::Perform { operation, .. } => {
                    let result = self.perform(operation);
                    self.session.handle(now, SessionInput::Performed(result));
                }
                SessionAction::BeginContent => self.stored.clear(),
                SessionAction::Store(part) => self.stored.extend(part),
                SessionAction::EndContent => {
                    let kept = if self.is_full { Err(Answer::own(452, "4.3.1 no room")) } else { Ok(100) };
                    self.session.handle(now, SessionInput::ContentKept(kept));
                }
                SessionAction::Ended(end) => self.ends.push(end),
                SessionAction::Rejected(rejection) => self.rejections.push(rejection),
                SessionAction::Close => self.is_closed = true,
                SessionAction::Release { .. } => self.releases += 1,
                SessionAction::Evidence(_) | SessionAction::DropContent => {}
            }
        }
    }

    fn perform(&mut self, operation: Operation) -> OperationResult {
        let reply = |code: u16, text: &str| OperationResult::Reply(Reply { code, text: text.to_owned() });
        match operation {
            Operation::Connect { .. } => {
                self.connections += 1;
                OperationResult::Ready { capabilities: self.capabilities, is_reused: false }
            }
            Operation::Command(line) if line == "DATA" => reply(354, "go"),
            Operation::Command(line) => {
                self.commands.push(line.clone());
                if line.contains("nobody") { reply(550, "5.1.1 no such user") } else { reply(250, "2.1.0 fine by me") }
            }
            Operation::Content => OperationResult::Sent,
            Operation::End => {
                self.messages.push(std::mem::take(&mut self.stored));
                reply(250, "2.0.0 queued as 4711")
            }
        }
    }
}

#[test]
fn a_message_gets_the_backends_own_answers() {
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.said, "220 relay.example ESMTP mail-failover relay\r\n");
    let hello = dialogue.say("EHLO shop.example\r\n");
    assert_eq!(hello, "250-relay.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE 1000\r\n250 STARTTLS\r\n");
    assert_eq!(dialogue.say("MAIL FROM:<a@shop.example>\r\n"), "250 2.1.0 fine by me\r\n");
    assert_eq!(dialogue.say("RCPT TO:<nobody@example.net>\r\n"), "550 5.1.1 no such user\r\n");
    assert_eq!(dialogue.say("RCPT TO:<b@example.net>\r\n"), "250 2.1.0 fine by me\r\n");
    assert_eq!(dialogue.codes("DATA\r\n"), ["354"]);
    assert_eq!(dialogue.say("Subject: x\r\n\r\n..hello\r\n.\r\n"), "250 2.0.0 queued as 4711\r\n");
    assert_eq!(dialogue.messages, [b"Subject: x\r\n\r\n..hello\r\n"]);
    let end = &dialogue.ends[0];
    assert_eq!((end.backend.as_deref(), end.size), (Some("b"), 23));
    assert_eq!(end.recipients, ["<b@example.net>"]);
    assert_eq!(dialogue.codes("QUIT\r\n"), ["221"]);
    assert!(dialogue.is_closed);
}

#[test]
fn pipelined_commands_are_answered_in_their_order() {
    let whole = "EHLO s\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<nobody@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nx\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@x.example>\r\nDATA\r\n.\r\nQUIT\r\n";
    let expected = ["250", "250", "550", "250", "354", "250", "250", "250", "354", "250", "221"];
    assert_eq!(Dialogue::new().codes(whole), expected);
    for size in [1, 2, 7] {
        let mut dialogue = Dialogue::new();
        let codes: Vec<_> = whole.as_bytes().chunks(size).flat_map(|piece| dialogue.codes(piece)).collect();
        assert_eq!((codes, dialogue.messages.len()), (expected.map(str::to_owned).to_vec(), 2), "{size}");
    }
}

#[test]
fn commands_come_in_their_order() {
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.codes("MAIL FROM:<a@s.example>\r\nRCPT TO:<b@s.example>\r\nDATA\r\n"), ["503", "503", "503"]);
    assert_eq!(
        dialogue.codes("EHLO s\r\nDATA\r\nMAIL FROM:<a@s.example>\r\nMAIL FROM:<a@s.example>\r\nDATA\r\n"),
        ["250", "503", "250", "503", "554"]
    );
    assert_eq!(
        dialogue.codes("RCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nRCPT TO:<c@x.example>\r\n"),
        ["250", "250", "452"]
    );
    assert_eq!(
        dialogue.codes("RSET\r\nDATA\r\nMAIL FROM:<a@unplanned.example>\r\nMAIL FROM:<a@s.example>\r\n"),
        ["250", "503", "451", "250"]
    );
    assert_eq!(
        dialogue.codes("MAIL FROM:<a@s.example> SIZE=1001\r\nEHLO s\r\nMAIL FROM:<a@s.example> SIZE=1001\r\n"),
        ["503", "250", "552"]
    );
    let aborted = dialogue.ends.iter().filter(|end| end.answer.is_none()).count();
    assert_eq!(aborted, 2, "by RSET and by EHLO");
}

#[test]
fn smuggled_mail_is_refused_and_no_command_of_it_is_heard() {
    let begin = "EHLO s\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n";
    for end in ["\n.\r\n", "\r\n.\n", "\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"] {
        let mut dialogue = Dialogue::new();
        let smuggled =
            format!("{begin}hello{end}MAIL FROM:<evil@s.example>\r\nRCPT TO:<c@x.example>\r\nDATA\r\nevil\r\n.\r\n");
        let codes = dialogue.codes(smuggled);
        assert_eq!(codes, ["250", "250", "250", "354", "550"], "{end:?}");
        assert_eq!((dialogue.messages.len(), dialogue.commands.len()), (0, 2), "{end:?}");
        assert!(matches!(dialogue.rejections[..], [Rejection::Content(_)]));
        assert_eq!(dialogue.codes("NOOP\r\n"), ["250"]);
    }
    for line in ["NOOP\n", "NOOP\rNOOP\r\n", "NO\0OP\r\n", "\n"] {
        let mut dialogue = Dialogue::new();
        assert_eq!(dialogue.codes(format!("{line}NOOP\r\n")), ["421"], "{line:?}");
        assert!(dialogue.is_closed && dialogue.rejections == [Rejection::LineEnd], "{line:?}");
    }
}

#[test]
fn nothing_that_was_said_before_tls_counts_inside_it() {
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO s\r\n");
    assert_eq!(dialogue.codes("STARTTLS\r\nRSET\r\n"), ["421"]);
    assert!(dialogue.is_closed && dialogue.rejections == [Rejection::StartTls]);
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO s\r\n");
    assert_eq!(dialogue.codes("STARTTLS\r\n"), ["220"]);
    assert_eq!(dialogue.codes("MAIL FROM:<a@s.example>\r\n"), ["503"]);
    let hello = dialogue.say("EHLO s\r\n");
    assert!(hello.contains("AUTH PLAIN LOGIN") && !hello.contains("STARTTLS"), "{hello}");
    assert_eq!(dialogue.codes("STARTTLS\r\n"), ["503"]);
}

#[test]
fn who_is_not_allowed_logs_in_first() {
    let mut dialogue = Dialogue::with(settings(), false);
    assert_eq!(
        dialogue.codes("EHLO s\r\nMAIL FROM:<a@s.example>\r\nAUTH PLAIN AHNob3AAaHVudGVyMg==\r\n"),
        ["250", "530", "538"]
    );
    dialogue.say("STARTTLS\r\n");
    dialogue.say("EHLO s\r\n");
    assert_eq!(dialogue.codes("AUTH PLAIN AHNob3AAd3Jvbmc=\r\n"), ["535"]);
    assert_eq!(dialogue.codes("AUTH CRAM-MD5\r\nAUTH PLAIN !\r\nAUTH LOGIN\r\n*\r\n"), ["504", "501", "334", "501"]);
    assert_eq!(dialogue.codes("AUTH LOGIN\r\nc2hvcA==\r\naHVudGVyMg==\r\n"), ["334", "334", "235"]);
    assert_eq!(dialogue.session.user(), Some("shop"));
    assert_eq!(dialogue.codes("AUTH LOGIN\r\nMAIL FROM:<a@s.example>\r\n"), ["503", "250"]);
    let mut dialogue = Dialogue::with(settings(), false);
    dialogue.say("EHLO s\r\n");
    dialogue.say("STARTTLS\r\n");
    dialogue.say("EHLO s\r\n");
    assert_eq!(
        dialogue
            .codes("AUTH PLAIN\r\nAHNob3AAd3Jvbmc=\r\nAUTH PLAIN AHNob3AAd3Jvbmc=\r\nAUTH PLAIN AHNob3AAd3Jvbmc=\r\n"),
        ["334", "535", "535", "421"]
    );
    assert!(dialogue.is_closed);
    // Without logins there is nothing to wait for.
    let dialogue = Dialogue::with(SessionSettings { has_logins: false, ..settings() }, false);
    assert!(dialogue.is_closed && dialogue.said.starts_with("554 "), "{}", dialogue.said);
}

#[test]
fn no_mail_without_tls_where_it_is_required() {
    let mut dialogue = Dialogue::with(SessionSettings { requires_tls: true, ..settings() }, true);
    assert_eq!(dialogue.codes("EHLO s\r\nMAIL FROM:<a@s.example>\r\n"), ["250", "530"]);
    dialogue.say("STARTTLS\r\n");
    assert_eq!(dialogue.codes("EHLO s\r\nMAIL FROM:<a@s.example>\r\n"), ["250", "250"]);
}

#[test]
fn what_finds_no_room_or_is_too_large_gets_its_code_and_the_session_goes_on() {
    let begin = "MAIL FROM:<a@s.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n";
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO s\r\n");
    dialogue.is_full = true;
    assert_eq!(dialogue.codes(format!("{begin}x\r\n.\r\n")), ["250", "250", "354", "452"]);
    dialogue.is_full = false;
    let large = format!("{begin}{}.\r\n", "0123456789\r\n".repeat(100));
    assert_eq!(dialogue.codes(large), ["250", "250", "354", "552"]);
    assert_eq!(dialogue.codes(format!("{begin}x\r\n.\r\n")), ["250", "250", "354", "250"]);
    assert_eq!(dialogue.messages.len(), 1);
}

#[test]
fn lines_errors_and_idle_commands_have_bounds() {
    let closes = |bytes: &str| {
        let mut dialogue = Dialogue::new();
        let codes = dialogue.codes(bytes);
        assert_eq!(codes.last().map(String::as_str), Some("421"), "{bytes:.40}");
        assert!(dialogue.is_closed, "{bytes:.40}");
        dialogue.rejections[0]
    };
    assert_eq!(closes(&"x".repeat(3000)), Rejection::LineTooLong);
    assert_eq!(closes(&"FOO\r\n".repeat(30)), Rejection::Protocol);
    assert_eq!(closes(&"NOOP\r\n".repeat(300)), Rejection::Protocol);
    assert_eq!(closes("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Rejection::Protocol);
}

#[test]
fn a_relay_that_ends_finishes_transactions_and_begins_none() {
    let mut idle = Dialogue::new();
    idle.session.handle(Instant::now(), SessionInput::Drain);
    idle.work();
    assert!(idle.is_closed && idle.said.contains("421 4.3.2 "), "{}", idle.said);
    let mut busy = Dialogue::new();
    busy.say("EHLO s\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@x.example>\r\n");
    busy.session.handle(Instant::now(), SessionInput::Drain);
    busy.work();
    assert!(!busy.is_closed);
    assert_eq!(busy.codes("DATA\r\nx\r\n.\r\nMAIL FROM:<a@s.example>\r\n"), ["354", "250", "421"]);
    assert!(busy.is_closed && busy.messages.len() == 1);
}

#[test]
fn bdat_is_taken_in_chunks_and_passed_on_as_data() {
    let mut dialogue = Dialogue::new();
    assert!(dialogue.say("EHLO shop.example\r\n").contains("250-CHUNKING\r\n"));
    dialogue.say("MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    assert_eq!(dialogue.codes("BDAT 14\r\na: b\r\n\r\n.dot\r\nBDAT 3 LAST\r\nend"), ["250", "250"]);
    assert_eq!(dialogue.messages, [b"a: b\r\n\r\n..dot\r\nend\r\n".to_vec()]);
    // A second one, whose octets come one by one, and an empty last chunk.
    dialogue.say("MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    let mut codes = vec![];
    for byte in b"BDAT 6\r\n.\r\nx\r\nBDAT 0 LAST\r\n" {
        codes.extend(dialogue.codes([*byte]));
    }
    assert_eq!(codes, ["250", "250"]);
    assert_eq!(dialogue.messages[1], b"..\r\nx\r\n");
}

#[test]
fn the_octets_of_a_chunk_that_is_refused_are_no_commands() {
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO shop.example\r\n");
    assert_eq!(dialogue.codes("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"), ["503", "250"]);
    dialogue.say("MAIL FROM:<a@shop.example>\r\n");
    assert_eq!(dialogue.codes("BDAT 6\r\nQUIT\r\nNOOP\r\n"), ["554", "250"]);
    dialogue.say("RCPT TO:<b@example.net>\r\n");
    let mut malformed = Dialogue::new();
    malformed.say("EHLO shop.example\r\n");
    assert_eq!(malformed.codes("BDAT x LAST\r\nMAIL FROM:<a@shop.example>\r\n"), ["501", "421"]);
    assert!(malformed.is_closed);
    // A fault ends the transaction at the end of its chunk.
    assert_eq!(dialogue.codes("BDAT 3\r\na\nbBDAT 2 LAST\r\n\r\n"), ["550", "503"]);
    assert_eq!(dialogue.rejections, [Rejection::Content(ContentFault::BareLineFeed)]);
    assert_eq!(dialogue.messages, Vec::<Vec<u8>>::new());
}

#[test]
fn nothing_but_chunks_comes_between_chunks_and_rset_forgets_them() {
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO shop.example\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    assert_eq!(dialogue.codes("BDAT 3\r\nx\r\n"), ["250"]);
    assert_eq!(
        dialogue.codes("RCPT TO:<c@example.net>\r\nDATA\r\nMAIL FROM:<>\r\nNOOP\r\n"),
        ["503", "503", "503", "250"]
    );
    assert_eq!(dialogue.codes("RSET\r\nBDAT 3 LAST\r\ny\r\n"), ["250", "503"]);
    assert_eq!(dialogue.messages, Vec::<Vec<u8>>::new());
    // The bound on a message holds over all its chunks.
    dialogue.say("MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    let line = format!("{}\r\n", "x".repeat(598));
    assert_eq!(dialogue.codes(format!("BDAT 600\r\n{line}BDAT 600 LAST\r\n{line}")), ["250", "552"]);
}

#[test]
fn recipients_are_no_idle_commands() {
    let mut dialogue = Dialogue::with(SessionSettings { max_recipients: 1000, ..settings() }, true);
    dialogue.say("EHLO shop.example\r\nMAIL FROM:<a@shop.example>\r\n");
    for number in 0..500 {
        assert_eq!(dialogue.codes(format!("RCPT TO:<b{number}@example.net>\r\n")), ["250"], "{number}");
    }
    assert_eq!(dialogue.codes("DATA\r\nx\r\n.\r\n"), ["354", "250"]);
    for number in 0..500 {
        if dialogue.codes("NOOP\r\n") == ["421"] {
            assert!(number > 100, "{number}");
            return;
        }
    }
    panic!("idle commands have a bound");
}

#[test]
fn refused_recipients_are_no_idle_commands_either() {
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO shop.example\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    for number in 0..500 {
        assert_eq!(dialogue.codes(format!("RCPT TO:<nobody{number}@example.net>\r\n")), ["550"], "{number}");
    }
    // Nor are those beyond the bound on recipients.
    dialogue.say("RCPT TO:<c@example.net>\r\n");
    for number in 0..500 {
        assert_eq!(dialogue.codes(format!("RCPT TO:<d{number}@example.net>\r\n")), ["452"], "{number}");
    }
    assert_eq!(dialogue.codes("DATA\r\nx\r\n.\r\n"), ["354", "250"]);
    // They have a bound all the same.
    dialogue.say("MAIL FROM:<a@shop.example>\r\n");
    let closed = (0..20_000).find(|_| dialogue.codes("RCPT TO:<nobody@example.net>\r\n") == ["421"]);
    assert!(closed.is_some_and(|number| number > 5000), "{closed:?}");
}

#[test]
fn small_chunks_of_a_message_are_no_idle_commands_and_empty_ones_are() {
    let mut dialogue = Dialogue::with(SessionSettings { max_message: 10_000, ..settings() }, true);
    dialogue.say("EHLO shop.example\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    for number in 0..1000 {
        assert_eq!(dialogue.codes("BDAT 3\r\nx\r\n"), ["250"], "{number}");
    }
    assert_eq!(dialogue.codes("BDAT 0 LAST\r\n"), ["250"]);
    assert_eq!(dialogue.messages[0].len(), 3000);
    dialogue.say("MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    assert!((0..500).any(|_| dialogue.codes("BDAT 0\r\n") == ["421"]));
    // Those that are refused are idle, too.
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO shop.example\r\n");
    assert!((0..500).any(|_| dialogue.codes("BDAT 3\r\nx\r\n") == ["421"]));
}

#[test]
fn an_accepted_message_makes_good_for_errors_before_it() {
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO shop.example\r\n");
    for _ in 0..10 {
        assert_eq!(dialogue.codes("FOO\r\n".repeat(15)).last().map(String::as_str), Some("500"));
        dialogue.say("MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
        assert_eq!(dialogue.codes("DATA\r\nx\r\n.\r\n"), ["354", "250"]);
    }
    // One that is begun and not sent does not.
    for number in 0..10 {
        dialogue.say("MAIL FROM:<a@shop.example>\r\nRSET\r\n");
        if dialogue.codes("FOO\r\n".repeat(15)).last().map(String::as_str) == Some("421") {
            assert_eq!(number, 1);
            return;
        }
    }
    panic!("errors have a bound");
}

#[test]
fn a_nul_in_content_is_refused_and_the_session_goes_on() {
    let mut dialogue = Dialogue::new();
    dialogue.say("EHLO shop.example\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\n");
    assert_eq!(dialogue.codes("DATA\r\nx\r\n.\0\r\nMAIL FROM:<e@x.example>\r\n.\r\nNOOP\r\n"), ["354", "550", "250"]);
    assert_eq!(dialogue.rejections, [Rejection::Content(ContentFault::Nul)]);
    assert!(dialogue.messages.is_empty());
}

#[test]
fn a_message_of_the_offered_size_has_room_for_our_line_at_the_backend() {
    let limited = |size| {
        let mut dialogue = Dialogue::with(SessionSettings { max_message: 10_000, ..settings() }, true);
        dialogue.capabilities = Capabilities { size: Some(size), ..Capabilities::default() };
        dialogue.session.offer(dialogue.capabilities, None);
        let hello = dialogue.say("EHLO shop.example\r\n");
        (dialogue, hello)
    };
    let (mut dialogue, hello) = limited(5000);
    assert!(hello.contains("250-SIZE 4000\r\n"), "{hello}");
    assert_eq!(dialogue.codes("MAIL FROM:<a@shop.example> SIZE=4001\r\n"), ["552"]);
    assert_eq!(dialogue.codes("MAIL FROM:<a@shop.example> SIZE=99999999999999999999\r\n"), ["552"]);
    assert_eq!(dialogue.codes("MAIL FROM:<a@shop.example> SIZE=4000\r\nRCPT TO:<b@example.net>\r\n"), ["250", "250"]);
    assert_eq!(dialogue.commands[0], "MAIL FROM:<a@shop.example> SIZE=5000");
    let content = "0123456\r\n".repeat(444);
    assert_eq!(dialogue.codes(format!("DATA\r\n{content}.\r\n")), ["354", "250"]);
    // Our own bound is one on what the application sends.
    assert!(limited(0).1.contains("250-SIZE 10000\r\n") && limited(11_000).1.contains("250-SIZE 10000\r\n"));
    assert!(limited(500).1.contains("250-SIZE 1\r\n"), "0 would be no limit");
}

#[test]
fn a_silent_application_gives_its_backends_connection_to_others_and_loses_nothing() {
    let mut dialogue = Dialogue::new();
    let want = |dialogue: &mut Dialogue| {
        let before = dialogue.releases;
        dialogue.session.handle(Instant::now(), SessionInput::ConnectionWanted);
        dialogue.work();
        dialogue.releases - before
    };
    dialogue.say("EHLO shop.example\r\n");
    assert_eq!(want(&mut dialogue), 0, "there is none");
    dialogue.say("MAIL FROM:<a@shop.example>\r\n");
    assert_eq!((want(&mut dialogue), want(&mut dialogue)), (1, 0));
    assert_eq!(dialogue.say("RCPT TO:<b@example.net>\r\n"), "250 2.1.0 fine by me\r\n");
    assert_eq!(dialogue.connections, 2);
    assert_eq!(want(&mut dialogue), 1);
    assert_eq!(dialogue.codes("DATA\r\nhel"), ["354"]);
    assert_eq!((want(&mut dialogue), dialogue.connections), (0, 2), "none is needed for that");
    assert_eq!(dialogue.codes("lo\r\n.\r\n"), ["250"]);
    assert_eq!((dialogue.connections, &dialogue.messages[..]), (3, &[b"hello\r\n".to_vec()][..]));
    let mail = ["MAIL FROM:<a@shop.example>", "RCPT TO:<b@example.net>"];
    assert_eq!(dialogue.commands, [&mail[..1], &mail, &mail].concat());
    assert_eq!(dialogue.ends[0].attempts, 1, "it is one backend all the time");
    // In the middle of the content, too.
    dialogue.say("MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nx");
    assert_eq!(want(&mut dialogue), 1);
    assert_eq!(dialogue.codes("\r\n.\r\n"), ["250"]);
    // Of one that is given up nothing is left to give back.
    dialogue.say("MAIL FROM:<a@shop.example>\r\n");
    assert_eq!(want(&mut dialogue), 1);
    let before = dialogue.releases;
    assert_eq!((dialogue.codes("RSET\r\n"), dialogue.releases), (vec!["250".to_owned()], before));
}
