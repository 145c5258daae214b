//! One dialogue with one address, to a depth: Connect, Banner, EHLO, STARTTLS and EHLO again.
//!
//! The dialogue never goes beyond that, so it can send neither mail nor credentials. One deadline bounds it as a whole, and the stage
//! that ran out of it is named. A dialogue that got as far as a reply ends with QUIT (RFC 5321 §4.1.1.10), after its outcome is known.

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
use super::message::{duration, message};
use super::reply::{Reply, ReplyError, ReplyReader};
use super::tls::{TlsFailure, TlsSetup};
use crate::model::{Depth, EvidenceClass, Outcome, Stage, Timestamp, TlsMode};

/// For QUIT and its answer; RFC 5321 wants us to wait for it, the outcome does not.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// What a dialogue needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How TLS is spoken.
    pub mode: TlsMode,
    /// Present unless `mode` is None.
    pub tls: Option<Arc<TlsSetup>>,
    /// For SNI and the certificate.
    pub server_name: Arc<str>,
    /// How far to go.
    pub depth: Depth,
    /// For the whole dialogue.
    pub timeout: Duration,
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection on which QUIT is still owed.
#[derive(Debug)]
pub struct Farewell(Stream);

impl Farewell {
    /// Says goodbye, as long as it takes but not longer than a second.
    pub async fn say(mut self) {
        let goodbye = async {
            self.0.write_all(b"QUIT\r\n").await?;
            self.0.flush().await?;
            // Whatever comes, up to a replyful, until the server closes: so that our close answers nothing with a reset.
            let mut sink = [0; 128];
            for _ in 0..8 {
                if self.0.read(&mut sink).await? == 0 {
                    break;
                }
                if sink.contains(&b'\n') {
                    break;
                }
            }
            self.0.shutdown().await
        };
        // Neither an error nor the end of patience matters: the outcome is known.
        let _ = timeout(FAREWELL_DEADLINE, goodbye).await;
    }
}

/// How far a dialogue has come; outlives the attempt when the deadline ends it.
struct Progress {
    stage: Stage,
    certificate_not_after: Option<Timestamp>,
}

struct Failure {
    class: EvidenceClass,
    what: String,
    /// The peer is still in the dialogue.
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

/// Holds the dialogue; returns what it says, and the connection if QUIT is owed.
pub async fn hold(plan: &Plan, address: SocketAddr, ehlo_name: &str) -> (Outcome, Option<Farewell>) {
    let started = Instant::now();
    let mut progress = Progress { stage: Stage::Connect, certificate_not_after: None };
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
    let outcome = Outcome {
        class,
        stage: progress.stage,
        message: message(progress.stage, &what),
        certificate_not_after: progress.certificate_not_after,
        elapsed,
    };
    let stream = session.and_then(|session: Session| session.stream);
    (outcome, stream.filter(|_| polite).map(Farewell))
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
    let goes_on = match plan.mode {
        TlsMode::None | TlsMode::Implicit => false,
        TlsMode::Opportunistic => plan.depth == Depth::StartTls && hello.offers("STARTTLS"),
        TlsMode::StartTls => plan.depth == Depth::StartTls,
    };
    if !goes_on {
        return Ok(first_line(&hello));
    }

    progress.stage = Stage::StartTls;
    if !hello.offers("STARTTLS") {
        return Err(Failure { polite: true, ..Failure::new(EvidenceClass::TlsFailed, "not offered") });
    }
    let ready = session.ask("STARTTLS\r\n").await?;
    expect(&ready, Answered::StartTls, 220)?;
    // What comes in plain text after the go-ahead would be taken for something said inside TLS (CVE-2011-0411).
    if session.reader.has_leftover() {
        return Err(Failure::new(EvidenceClass::ProtocolError, "plain text after the go-ahead for TLS"));
    }
    session.shake_hands(plan, progress).await?;

    progress.stage = Stage::EhloAfterStartTls;
    let hello = session.ask(&format!("EHLO {ehlo_name}\r\n")).await?;
    expect(&hello, Answered::Hello, 250)?;
    Ok(first_line(&hello))
}

impl Session {
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
        // The handshake's state is large and short-lived: it must not widen every dialogue.
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
