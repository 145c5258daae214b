//! One dialogue with one address, to a depth: Connect, Banner, EHLO, STARTTLS and EHLO again, AUTH, MAIL FROM, RCPT TO.
//!
//! The dialogue never goes beyond that, so it sends no mail; and credentials only where the depth asks for it. One
//! deadline bounds it as a whole, and the stage that ran out of it is named. A dialogue that got as far as a reply ends
//! with QUIT (RFC 5321 §4.1.1.10), after its outcome is known; one that began a transaction, with RSET before that.
//! What a server quotes of a login is taken out of what it says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::classify::{Answered, classify};
use super::connect::{classify_connect, classify_io};
use super::login::{Mechanism, NoMechanism, without};
use super::message::{duration, message};
use super::reply::{Reply, ReplyError, ReplyReader};
use super::tls::{TlsFailure, TlsSetup};
use mail_failover_core::model::{Depth, Envelope, EvidenceClass, Outcome, ProbeLogin, Stage, Timestamp, TlsMode};

/// Deadline of QUIT and its answer. RFC 5321 §4.1.1.10 lets a client wait for it; the outcome does not wait.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// Settings of a dialogue.
#[derive(Clone, Debug)]
pub struct Plan {
    pub mode: TlsMode,
    /// TLS configuration, present unless `mode` is None.
    pub tls: Option<Arc<TlsSetup>>,
    /// Name for SNI and for the certificate.
    pub server_name: Arc<str>,
    pub depth: Depth,
    /// Addresses for MAIL FROM and RCPT TO.
    pub envelope: Envelope,
    pub login: ProbeLogin,
    /// Deadline of the whole dialogue.
    pub timeout: Duration,
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection on which QUIT is still owed, and RSET if a transaction is open.
#[derive(Debug)]
pub struct Farewell {
    stream: Stream,
    in_transaction: bool,
}

impl Farewell {
    /// Sends QUIT, and RSET before it if a transaction is open. Takes no longer than a second.
    pub async fn say(mut self) {
        let goodbye = async {
            if self.in_transaction {
                self.ask(b"RSET\r\n").await?;
            }
            self.ask(b"QUIT\r\n").await?;
            self.stream.shutdown().await
        };
        // Neither an error nor the deadline matters: the outcome is known.
        let _ = timeout(FAREWELL_DEADLINE, goodbye).await;
    }

    async fn ask(&mut self, command: &[u8]) -> io::Result<()> {
        self.stream.write_all(command).await?;
        self.stream.flush().await?;
        // Reads an answer of bounded length, or until the server closes, so that our close sends no reset for unread bytes.
        let mut sink = [0; 128];
        for _ in 0..8 {
            let read = self.stream.read(&mut sink).await?;
            if sink.get(..read).is_none_or(|read| read.is_empty() || read.contains(&b'\n')) {
                break;
            }
        }
        Ok(())
    }
}

/// Progress of a dialogue. It outlives the attempt if the deadline ends it.
struct Progress {
    stage: Stage,
    certificate_not_after: Option<Timestamp>,
    /// True if MAIL was accepted.
    in_transaction: bool,
}

struct Failure {
    class: EvidenceClass,
    what: String,
    /// True if the peer is still in the dialogue.
    polite: bool,
}

impl Failure {
    fn new(class: EvidenceClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), polite: false }
    }

    fn reply(class: EvidenceClass, reply: &Reply) -> Self {
        Self { class, what: reply.line(), polite: true }
    }
}

/// Runs the dialogue. Returns its outcome, and the connection if QUIT is owed.
pub async fn hold(plan: &Plan, address: SocketAddr, ehlo_name: &str) -> (Outcome, Option<Farewell>) {
    let started = Instant::now();
    let mut progress = Progress { stage: Stage::Connect, certificate_not_after: None, in_transaction: false };
    let mut session = None;
    let attempt = attempt(plan, address, ehlo_name, &mut progress, &mut session);
    let result = timeout(plan.timeout, attempt).await.unwrap_or_else(|_| {
        Err(Failure::new(EvidenceClass::NoAnswer, format!("no answer within {}", duration(plan.timeout))))
    });
    let elapsed = started.elapsed();
    let (class, what, polite) = match result {
        Ok(what) => (EvidenceClass::Ok, what, progress.stage >= Stage::Banner),
        Err(failure) => (failure.class, failure.what, failure.polite),
    };
    let what = match &plan.login {
        ProbeLogin::With(login) => without(login, &what),
        ProbeLogin::None | ProbeLogin::Missing { .. } => what,
    };
    let outcome = Outcome {
        class,
        stage: progress.stage,
        message: message(progress.stage, &what),
        certificate_not_after: progress.certificate_not_after,
        elapsed,
    };
    let stream = session.and_then(|session: Session| session.stream);
    let in_transaction = progress.in_transaction;
    (outcome, stream.filter(|_| polite).map(|stream| Farewell { stream, in_transaction }))
}

/// A connection with what was read ahead of it.
struct Session {
    /// `None` while it is handed to the handshake, and for good when that fails.
    stream: Option<Stream>,
    reader: ReplyReader,
}

async fn attempt(
    plan: &Plan,
    address: SocketAddr,
    ehlo_name: &str,
    progress: &mut Progress,
    session: &mut Option<Session>,
) -> Result<String, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let (class, what) = classify_connect(&error, address);
        Failure::new(class, what)
    })?;
    // Commands are single small writes; waiting to fill a packet would only add latency. Failing to say so is harmless.
    let _ = stream.set_nodelay(true);
    let session = session.insert(Session { stream: Some(Either::Left(stream)), reader: ReplyReader::default() });
    if plan.depth == Depth::Connect {
        return Ok("connected".to_owned());
    }

    if plan.mode == TlsMode::Implicit {
        progress.stage = Stage::ImplicitTls;
        session.shake_hands(plan, progress).await?;
    }

    progress.stage = Stage::Banner;
    let banner = session.reply().await?;
    expect(&banner, Answered::Connection, 220)?;
    if plan.depth == Depth::Banner {
        return Ok(banner.line());
    }

    progress.stage = Stage::Ehlo;
    let hello = session.hello(plan, ehlo_name).await?;
    let is_upgraded = plan.depth >= Depth::StartTls
        && match plan.mode {
            TlsMode::None | TlsMode::Implicit => false,
            TlsMode::Opportunistic => hello.offers("STARTTLS"),
            TlsMode::StartTls => true,
        };
    let hello = if is_upgraded { session.upgrade(plan, ehlo_name, &hello, progress).await? } else { hello };
    if plan.depth < Depth::Auth {
        return Ok(first_line(&hello));
    }
    // Boxed: rare and large; inlining it would enlarge every probe's future.
    Box::pin(session.go_deeper(plan, &hello, progress)).await
}

impl Session {
    /// STARTTLS, the handshake and EHLO again. Returns the answer to that.
    async fn upgrade(
        &mut self,
        plan: &Plan,
        ehlo_name: &str,
        hello: &Reply,
        progress: &mut Progress,
    ) -> Result<Reply, Failure> {
        progress.stage = Stage::StartTls;
        if !hello.offers("STARTTLS") {
            return Err(Failure { polite: true, ..Failure::new(EvidenceClass::TlsFailed, "not offered") });
        }
        let ready = self.ask("STARTTLS\r\n").await?;
        expect(&ready, Answered::StartTls, 220)?;
        // What comes in plain text after the go-ahead would be taken for something said inside TLS (CVE-2011-0411).
        if self.reader.has_leftover() {
            return Err(Failure::new(EvidenceClass::ProtocolError, "plain text after the go-ahead for TLS"));
        }
        self.shake_hands(plan, progress).await?;

        progress.stage = Stage::EhloAfterStartTls;
        let hello = self.ask(&format!("EHLO {ehlo_name}\r\n")).await?;
        expect(&hello, Answered::Hello, 250)?;
        Ok(hello)
    }

    /// AUTH, MAIL FROM and RCPT TO, as deep as it is asked for.
    async fn go_deeper(&mut self, plan: &Plan, hello: &Reply, progress: &mut Progress) -> Result<String, Failure> {
        let welcome = self.log_in(plan, hello, progress).await?;
        if plan.depth == Depth::Auth {
            return Ok(welcome.unwrap_or_else(|| first_line(hello)));
        }

        progress.stage = Stage::Mail;
        let Some(sender) = &plan.envelope.sender else { return Err(unspecified("smtp.from")) };
        let reply = self.ask(&format!("MAIL FROM:<{sender}>\r\n")).await?;
        expect(&reply, Answered::Mail, 250)?;
        progress.in_transaction = true;
        if plan.depth == Depth::MailFrom {
            return Ok(reply.line());
        }

        progress.stage = Stage::Recipient;
        let Some(recipient) = &plan.envelope.recipient else { return Err(unspecified("smtp.to")) };
        let reply = self.ask(&format!("RCPT TO:<{recipient}>\r\n")).await?;
        // 251: it will be forwarded (RFC 5321 §4.3.2).
        if reply.code != 251 {
            expect(&reply, Answered::Recipient, 250)?;
        }
        Ok(reply.line())
    }

    /// AUTH, where the backend has a login. Returns what the server said to it.
    async fn log_in(&mut self, plan: &Plan, hello: &Reply, progress: &mut Progress) -> Result<Option<String>, Failure> {
        let login = match &plan.login {
            ProbeLogin::None if plan.depth == Depth::Auth => {
                progress.stage = Stage::Auth;
                return Err(unspecified("auth"));
            }
            ProbeLogin::None => return Ok(None),
            ProbeLogin::With(login) => login,
            ProbeLogin::Missing { message, .. } => {
                progress.stage = Stage::Auth;
                return Err(Failure { polite: true, ..Failure::new(EvidenceClass::ProbeBlocked, &**message) });
            }
        };
        progress.stage = Stage::Auth;
        let mechanism = Mechanism::choose(hello).map_err(|none| {
            let (class, what) = match none {
                NoMechanism::NotOffered => (EvidenceClass::AuthenticationRefused, "not offered".to_owned()),
                NoMechanism::Unknown(offered) => (
                    EvidenceClass::ProbeBlocked,
                    format!("PLAIN or LOGIN is needed and the server offers {offered}; probe no deeper than StartTLS"),
                ),
            };
            Failure { polite: true, ..Failure::new(class, what) }
        })?;
        let lines = mechanism.lines(login);
        let mut reply = None;
        for (at, line) in lines.iter().enumerate() {
            let answer = self.ask(line).await?;
            if at + 1 < lines.len() {
                expect(&answer, Answered::Auth, 334)?;
            } else {
                expect(&answer, Answered::Auth, 235)?;
            }
            reply = Some(answer);
        }
        Ok(reply.map(|reply| reply.line()))
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        let Self { stream: Some(stream), reader } = self else { return Err(lost()) };
        reader.read(stream).await.map_err(|error| match error {
            ReplyError::Closed { within_reply: false } => lost(),
            ReplyError::Closed { within_reply: true } => {
                Failure::new(EvidenceClass::ConnectionLost, "connection closed within a reply")
            }
            ReplyError::Malformed(what) => Failure::new(EvidenceClass::ProtocolError, what),
            ReplyError::Io(error) => broken(&error),
        })
    }

    async fn ask(&mut self, command: &str) -> Result<Reply, Failure> {
        let Some(stream) = &mut self.stream else { return Err(lost()) };
        let sent = async {
            stream.write_all(command.as_bytes()).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| broken(&error))?;
        self.reply().await
    }

    /// EHLO, or HELO where extensions are not needed and the server knows none (RFC 5321 §3.2).
    async fn hello(&mut self, plan: &Plan, name: &str) -> Result<Reply, Failure> {
        let reply = self.ask(&format!("EHLO {name}\r\n")).await?;
        let may_do_without = match plan.mode {
            TlsMode::None | TlsMode::Opportunistic => true,
            TlsMode::StartTls | TlsMode::Implicit => false,
        };
        if may_do_without && matches!(reply.code, 500 | 502) {
            let reply = self.ask(&format!("HELO {name}\r\n")).await?;
            expect(&reply, Answered::Hello, 250)?;
            return Ok(reply);
        }
        expect(&reply, Answered::Hello, 250)?;
        Ok(reply)
    }

    async fn shake_hands(&mut self, plan: &Plan, progress: &mut Progress) -> Result<(), Failure> {
        let (Some(setup), Some(Either::Left(stream))) = (&plan.tls, self.stream.take()) else {
            return Err(Failure::new(EvidenceClass::Inconclusive, "TLS is not set up"));
        };
        // Boxed: large and short-lived; inlining it would enlarge every probe's future.
        let (result, not_after) = Box::pin(setup.handshake(stream, &plan.server_name)).await;
        progress.certificate_not_after = not_after;
        let stream = result.map_err(|TlsFailure { class, what }| Failure::new(class, what))?;
        self.stream = Some(Either::Right(stream));
        Ok(())
    }
}

/// Takes the reply as failure unless it is the one that lets the dialogue go on.
fn expect(reply: &Reply, answered: Answered, code: u16) -> Result<(), Failure> {
    if reply.code == code {
        return Ok(());
    }
    let class = classify(answered, reply.code, reply.enhanced(), &reply.text);
    // Another 2yz or a 3yz than this command can have is no answer to it.
    let class = if class == EvidenceClass::Ok { EvidenceClass::ProtocolError } else { class };
    Err(Failure::reply(class, reply))
}

/// An EHLO answer names its extensions on further lines; they would hide the greeting.
fn first_line(reply: &Reply) -> String {
    format!("{} {}", reply.code, reply.text.lines().next().unwrap_or_default())
}

/// The schema does not let it come so far.
fn unspecified(field: &str) -> Failure {
    let what = format!("{field} is not given; name it, or probe less deep");
    Failure { polite: true, ..Failure::new(EvidenceClass::ProbeBlocked, what) }
}

fn lost() -> Failure {
    Failure::new(EvidenceClass::ConnectionLost, "connection closed")
}

fn broken(error: &io::Error) -> Failure {
    let (class, what) = classify_io(error);
    Failure::new(class, what)
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
