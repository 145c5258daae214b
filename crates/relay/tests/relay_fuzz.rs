//! Mutated sessions of applications, with backends that answer at random: no panic, no growth, no message that nobody
//! has, and none that two have. `RELAY_FUZZ_SESSIONS` sets their number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mail_failover_core::model::{EvidenceClass, Stage};
use mail_failover_relay::core::capabilities::Capabilities;
use mail_failover_relay::core::session::{Session, SessionAction, SessionInput, SessionSettings};
use mail_failover_relay::core::transaction::{
    Ambiguity, Operation, OperationFailure, OperationResult, TransactionBounds, Way,
};
use mail_failover_smtp::reply::Reply;

/// Sessions in a run of everyday.
const SESSIONS: u64 = 20_000;
/// Octets by which the process may grow after a tenth of the sessions.
const MAX_GROWTH: u64 = 8 * 1024 * 1024;

/// Lines that sessions are made of, and then spoilt.
const LINES: [&str; 30] = [
    "EHLO shop.example\r\n",
    "HELO shop.example\r\n",
    "MAIL FROM:<a@shop.example>\r\n",
    "MAIL FROM:<> SIZE=100 BODY=8BITMIME\r\n",
    "MAIL FROM:<a@shop.example> RET=HDRS ENVID=x\r\n",
    "MAIL FROM:<a@shop.example> SMTPUTF8\r\n",
    "RCPT TO:<b@example.net>\r\n",
    "RCPT TO:<c@example.net> NOTIFY=NEVER\r\n",
    "RCPT TO:<\"d e\"@example.net>\r\n",
    "DATA\r\n",
    "Subject: x\r\n\r\n",
    "hello\r\n",
    "..dot\r\n",
    ".\r\n",
    "\r\n.\r\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "RSET\r\n",
    "NOOP\r\n",
    "VRFY b\r\n",
    "STARTTLS\r\n",
    "AUTH PLAIN AHNob3AAaHVudGVyMg==\r\n",
    "AUTH LOGIN\r\n",
    "c2hvcA==\r\n",
    "aHVudGVyMg==\r\n",
    "*\r\n",
    "BDAT 5 LAST\r\n",
    "GET / HTTP/1.1\r\n",
    "QUIT\r\n",
];

fn settings() -> Arc<SessionSettings> {
    Arc::new(SessionSettings {
        hostname: "relay.example".into(),
        has_certificate: true,
        requires_tls: false,
        has_logins: true,
        login_without_tls: true,
        max_message: 10_000,
        max_recipients: 4,
        bounds: TransactionBounds {
            total: Duration::from_secs(25),
            stage: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            ambiguity: Ambiguity::Refuse,
        },
    })
}

/// A session's bytes: lines that make sense, in an order that may not, some of them spoilt.
fn script(random: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![];
    if random.bool() {
        bytes.extend_from_slice(
            b"EHLO shop.example\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nx\r\n.\r\n",
        );
    }
    for _ in 0..random.usize(1..25) {
        bytes.extend_from_slice(LINES[random.usize(..LINES.len())].as_bytes());
    }
    for _ in 0..random.usize(..4) {
        let at = random.usize(..bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, *random.choice([b'\r', b'\n', 0, b'.', b' ', 0xff].iter()).unwrap()),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let length = random.usize(..40);
                let piece: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
                drop(bytes.splice(at..at, piece));
            }
        }
        if bytes.is_empty() {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Backends of one session.
#[derive(Default)]
struct Backends {
    /// Messages that were taken in the present transaction.
    taken: u32,
    /// True if one was taken or may have been, and that was not said.
    is_ambiguous: bool,
}

impl Backends {
    fn perform(&mut self, operation: &Operation, random: &mut Rng) -> OperationResult {
        let is_end = *operation == Operation::End;
        let dice = random.u8(..100);
        if dice < 10 {
            // Sometimes it has taken the message, and nobody knows.
            if is_end {
                self.taken += u32::from(random.bool());
                self.is_ambiguous = true;
            }
            let class = *random.choice([EvidenceClass::ConnectionLost, EvidenceClass::NoAnswer].iter()).unwrap();
            let summary = "broken".into();
            return OperationResult::Failed(OperationFailure {
                class,
                stage: Stage::Connect,
                refusal: None,
                summary,
                is_own: random.bool(),
            });
        }
        let refusal = |code: u16, text: &str| OperationResult::Reply(Reply { code, text: text.to_owned() });
        match operation {
            Operation::Connect { .. } => {
                let able = random.bool();
                let capabilities = Capabilities {
                    size: Some(5000),
                    eight_bit: able,
                    utf8: able,
                    notifications: able,
                    enhanced_codes: true,
                };
                OperationResult::Ready { capabilities, is_reused: random.bool() }
            }
            _ if dice < 14 => refusal(550, "5.1.1 no such user"),
            _ if dice < 18 => refusal(554, "Message rejected: Sending paused for this account"),
            _ if dice < 20 => refusal(421, "4.3.2 bye"),
            Operation::Content => OperationResult::Sent,
            Operation::Command(line) if line == "DATA" => refusal(354, "go"),
            Operation::Command(_) => refusal(250, "2.1.0 ok"),
            Operation::End => {
                self.taken += 1;
                refusal(250, "2.0.0 queued")
            }
        }
    }
}

/// Runs one session. Returns the number of accepted messages.
fn run(bytes: &[u8], random: &mut Rng) -> u32 {
    let now = Instant::now();
    let mut session = Session::new(settings(), random.bool(), false);
    let mut backends = Backends::default();
    let (mut output, mut stored, mut accepted, mut turns) = (vec![], 0, 0, 0);
    let mut pieces = bytes.chunks(random.usize(1..=bytes.len()));
    loop {
        turns += 1;
        assert!(turns < 100_000, "it ends");
        let Some(action) = session.poll(now) else {
            if random.u8(..8) == 0 {
                session.handle(now, SessionInput::ConnectionWanted);
                continue;
            }
            let Some(piece) = pieces.next() else {
                session.hang_up(now);
                break;
            };
            session.handle(now, SessionInput::Received(piece));
            continue;
        };
        match action {
            SessionAction::Send(bytes) => output.extend(bytes),
            SessionAction::StartTls => session.handle(now, SessionInput::TlsEstablished),
            SessionAction::CheckLogin(_) => session.handle(now, SessionInput::LoginChecked(random.bool())),
            SessionAction::Plan { .. } => {
                backends = Backends::default();
                let way = |number| Way {
                    backend: format!("b{number}").into(),
                    rulebook: Arc::default(),
                    after_refusal: number == 2,
                };
                session.handle(now, SessionInput::Planned(Ok((0..random.u8(..4)).map(way).collect())));
            }
            SessionAction::Perform { operation, .. } => {
                let result = backends.perform(&operation, random);
                session.handle(now, SessionInput::Performed(result));
            }
            SessionAction::BeginContent => stored = 0,
            SessionAction::Store(part) => stored += part.len(),
            SessionAction::EndContent => session.handle(now, SessionInput::ContentKept(Ok(200))),
            SessionAction::Ended(end) => {
                let is_accepted = end.answer.is_some_and(|answer| answer.code < 300);
                accepted += u32::from(is_accepted);
                if is_accepted {
                    assert_eq!(backends.taken, 1, "an accepted message is at one backend");
                } else {
                    assert!(backends.taken <= u32::from(backends.is_ambiguous), "a refused one is at none");
                }
                backends = Backends::default();
            }
            SessionAction::Close => break,
            SessionAction::Release { .. }
            | SessionAction::Evidence(_)
            | SessionAction::DropContent
            | SessionAction::Rejected(_) => {}
        }
        assert!(stored <= 10_000, "no message beyond its bound is kept");
    }
    // Every line is a reply.
    let text = String::from_utf8(output).expect("replies are text");
    for line in text.split_terminator("\r\n") {
        let is_reply =
            line.len() >= 4 && line[..3].bytes().all(|byte| byte.is_ascii_digit()) && matches!(&line[3..4], " " | "-");
        assert!(is_reply && !line.contains(['\r', '\n']), "{line:?}");
    }
    accepted
}

#[test]
fn no_session_panics_grows_or_loses_a_message() {
    let count = std::env::var("RELAY_FUZZ_SESSIONS").map_or(SESSIONS, |count| count.parse().expect("a number"));
    let mut accepted = 0;
    let mut early = None;
    for seed in 0..count {
        if seed == count / 10 {
            early = resident();
        }
        let mut random = Rng::with_seed(seed);
        let bytes = script(&mut random);
        let session = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes, &mut random)));
        let count = session.unwrap_or_else(|_| panic!("session {seed}: {:?}", String::from_utf8_lossy(&bytes)));
        accepted += u64::from(count);
    }
    // Of a million it is 4.9 in a hundred.
    assert!(accepted > count / 25, "{accepted} of {count} sessions got a message through");
    // A kilobyte of every hundredth session would be more than this in a million of them.
    let grown = resident().zip(early).map(|(now, early)| now.saturating_sub(early));
    assert!(grown.is_none_or(|grown| grown < MAX_GROWTH), "grown by {grown:?} octets");
}

/// Octets of this process in memory; `None` where the system does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
