//! One dialogue of a probe with one address: the driver of a [`SmtpClient`] over tokio and rustls, and its
//! classification.
//!
//! The dialogue sends no mail, and credentials only where the depth asks for them. A peer that waits for a command at
//! its end gets QUIT (RFC 5321 §4.1.1.10) after the outcome is known, and RSET before that if a transaction is open.
//! Everything that a server quotes of a login is taken out of the message.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::classify::Answered;
use super::client::{
    ClientAction, ClientInput, Goal, QUIT_TIMEOUT, SessionError, SessionPlan, SessionTimeouts, SmtpClient,
};
use super::connect::{classify_connect, classify_io};
use super::login::{NoMechanism, without};
use super::message::{MAX_MESSAGE, bounded, message};
use super::reply::Reply;
use super::tls::{TlsFailure, TlsSetup};
use mail_failover_core::model::{Depth, Envelope, EvidenceClass, Outcome, ProbeLogin, Stage, Timestamp, TlsMode};
use mail_failover_replies::Rulebook;

/// Octets that are read at once: enough for nearly every reply.
const READ: usize = 512;

/// Settings of a dialogue.
#[derive(Clone, Debug)]
pub struct DialoguePlan {
    /// Our name in EHLO: a domain or an address literal (RFC 5321 §4.1.1.1).
    pub ehlo_name: Arc<str>,
    /// TLS before the greeting, by STARTTLS, or not at all.
    pub mode: TlsMode,
    /// TLS configuration, present unless `mode` is None.
    pub tls: Option<Arc<TlsSetup>>,
    /// Name for SNI and for the certificate.
    pub server_name: Arc<str>,
    /// Last stage of the dialogue.
    pub depth: Depth,
    /// Addresses for MAIL FROM and RCPT TO.
    pub envelope: Envelope,
    /// Login for depths from `Auth` on.
    pub login: ProbeLogin,
    /// Deadline of the whole dialogue.
    pub timeout: Duration,
    /// Rules for the backend's replies.
    pub rulebook: Arc<Rulebook>,
}

/// Reason for which a dialogue ends before its depth, although nothing is wrong with the backend.
struct BlockedStage {
    /// The stage that cannot be reached.
    stage: Stage,
    message: String,
}

impl DialoguePlan {
    /// The plan of the session, as deep as the present settings allow.
    fn session(&self) -> (SessionPlan, Option<BlockedStage>) {
        let (goal, blocked) = self.goal();
        let timeouts = SessionTimeouts { session: self.timeout, step: self.timeout };
        (SessionPlan { ehlo_name: self.ehlo_name.clone(), tls: self.mode, goal, timeouts }, blocked)
    }

    fn goal(&self) -> (Goal, Option<BlockedStage>) {
        match self.depth {
            Depth::Connect => (Goal::Connection, None),
            Depth::Banner => (Goal::Greeting, None),
            Depth::Ehlo => (Goal::Ehlo, None),
            Depth::StartTls => (Goal::Ready, None),
            Depth::Auth | Depth::MailFrom | Depth::RcptTo => self.deep_goal(),
        }
    }

    fn deep_goal(&self) -> (Goal, Option<BlockedStage>) {
        let login = match &self.login {
            ProbeLogin::With(login) => Some(login.clone()),
            ProbeLogin::None => None,
            ProbeLogin::Missing { message, .. } => {
                return (Goal::Ready, Some(BlockedStage { stage: Stage::Auth, message: (**message).to_owned() }));
            }
        };
        if self.depth == Depth::Auth {
            return match login {
                Some(login) => (Goal::Login(login), None),
                None => (Goal::Ready, Some(unspecified(Stage::Auth, "auth"))),
            };
        }
        let Some(sender) = self.envelope.sender.clone() else {
            return (login.map_or(Goal::Ready, Goal::Login), Some(unspecified(Stage::Mail, "smtp.from")));
        };
        let recipient = self.envelope.recipient.clone().filter(|_| self.depth == Depth::RcptTo);
        let is_incomplete = self.depth == Depth::RcptTo && recipient.is_none();
        let blocked = is_incomplete.then(|| unspecified(Stage::Recipient, "smtp.to"));
        (Goal::Transaction { login, sender, recipient }, blocked)
    }
}

/// The schema requires the field at this depth.
fn unspecified(stage: Stage, field: &str) -> BlockedStage {
    BlockedStage { stage, message: format!("{field} is not given; name it, or probe less deep") }
}

/// Class of a dialogue and its description, without the stage.
struct Classified {
    class: EvidenceClass,
    what: String,
}

impl Classified {
    fn new(class: EvidenceClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into() }
    }

    /// Describes a session that reached its goal.
    fn success(stage: Stage, reply: Option<&Reply>) -> Self {
        let what = match (reply, stage) {
            (None, _) => "connected".to_owned(),
            (Some(reply), Stage::Ehlo | Stage::EhloAfterStartTls) => reply.first_line(),
            (Some(reply), _) => reply.line(),
        };
        Self::new(EvidenceClass::Ok, what)
    }

    /// Classifies and describes a session that did not.
    fn failure(stage: Stage, error: &SessionError, rulebook: &Rulebook) -> Self {
        let class = match error {
            SessionError::Timeout(_) => EvidenceClass::NoAnswer,
            SessionError::Closed | SessionError::ClosedWithinReply => EvidenceClass::ConnectionLost,
            SessionError::Malformed(_) | SessionError::PlainTextBeforeTls => EvidenceClass::ProtocolError,
            SessionError::StartTlsNotOffered => EvidenceClass::TlsFailed,
            SessionError::NoMechanism(NoMechanism::NotOffered) => EvidenceClass::AuthenticationRefused,
            SessionError::NoMechanism(NoMechanism::Unknown(_)) => {
                return Self::new(EvidenceClass::ProbeBlocked, format!("{error}; probe no deeper than StartTLS"));
            }
            SessionError::Refused(reply) => return Self::refusal(stage, reply, error, rulebook),
        };
        Self::new(class, error.to_string())
    }

    /// Classifies a reply that does not let the session go on, and names the user's rule if one has decided.
    fn refusal(stage: Stage, reply: &Reply, error: &SessionError, rulebook: &Rulebook) -> Self {
        let reading = rulebook.read(&mail_failover_replies::Reply {
            stage: Some(answered(stage)),
            code: reply.code,
            enhanced: reply.enhanced(),
            text: &reply.text,
        });
        // Another 2yz or a 3yz than this command can have is no answer to it.
        let class = if reading.class == EvidenceClass::Ok { EvidenceClass::ProtocolError } else { reading.class };
        match reading.rule.and_then(mail_failover_replies::DecidingRule::own_id) {
            // The id must not fall to the bound of the message.
            Some(id) => Self::new(class, format!("{} (by {id})", bounded(&error.to_string(), MAX_MESSAGE - 110))),
            None => Self::new(class, error.to_string()),
        }
    }
}

/// The command that a reply at this stage answers.
fn answered(stage: Stage) -> Answered {
    match stage {
        Stage::Resolve | Stage::Connect | Stage::ImplicitTls | Stage::Banner => Answered::Connection,
        Stage::Ehlo | Stage::EhloAfterStartTls => Answered::Hello,
        Stage::StartTls => Answered::StartTls,
        Stage::Auth => Answered::Auth,
        Stage::Mail => Answered::Mail,
        Stage::Recipient => Answered::Recipient,
    }
}

/// Runs the dialogue. Returns its outcome, and the connection if QUIT is owed.
pub async fn run_session(plan: &DialoguePlan, address: SocketAddr) -> (Outcome, Option<PendingQuit>) {
    let started = Instant::now();
    let (session_plan, blocked) = plan.session();
    let mut connection = SmtpConnection {
        client: SmtpClient::new(started.into_std(), session_plan),
        tls: plan.tls.clone(),
        server_name: plan.server_name.clone(),
        stream: None,
        certificate_not_after: None,
        buffer: vec![],
        rulebook: plan.rulebook.clone(),
    };
    let result = match connection.connect(address).await {
        Ok(()) => connection.run().await,
        Err(finding) => Err(finding),
    };
    let elapsed = started.elapsed();
    let reached = connection.client.stage();
    let (stage, finding) = match (result, blocked) {
        (Ok(_), Some(blocked)) => (blocked.stage, Classified::new(EvidenceClass::ProbeBlocked, blocked.message)),
        (Ok(reply), None) => (reached, Classified::success(reached, reply.as_ref())),
        (Err(finding), _) => (reached, finding),
    };
    let what = match &plan.login {
        ProbeLogin::With(login) => without(login, &finding.what),
        ProbeLogin::None | ProbeLogin::Missing { .. } => finding.what,
    };
    let outcome = Outcome {
        class: finding.class,
        stage,
        message: message(stage, &what),
        certificate_not_after: connection.certificate_not_after,
        elapsed,
    };
    let owes_quit = connection.client.owes_quit();
    (outcome, owes_quit.then_some(PendingQuit(connection)))
}

/// A connection on which QUIT is still owed, and RSET if a transaction is open.
pub struct PendingQuit(SmtpConnection);

impl PendingQuit {
    /// Sends them, waits for the replies no longer than [`QUIT_TIMEOUT`], and closes the connection.
    pub async fn send(self) {
        let Self(mut connection) = self;
        connection.client.quit(Instant::now().into_std());
        // No error matters: the outcome is known.
        if connection.run().await.is_ok()
            && let Some(stream) = &mut connection.stream
        {
            let _ = timeout(QUIT_TIMEOUT, stream.shutdown()).await;
        }
    }
}

type SmtpStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Driver of a session over a connection.
struct SmtpConnection {
    client: SmtpClient,
    tls: Option<Arc<TlsSetup>>,
    server_name: Arc<str>,
    /// `None` before the connection, while it is handed to the handshake, and for good if that fails.
    stream: Option<SmtpStream>,
    certificate_not_after: Option<Timestamp>,
    buffer: Vec<u8>,
    rulebook: Arc<Rulebook>,
}

impl SmtpConnection {
    async fn connect(&mut self, address: SocketAddr) -> Result<(), Classified> {
        let connected = in_time(self.client.next_timeout(), TcpStream::connect(address)).await;
        let now = Instant::now().into_std();
        match connected {
            Some(Ok(stream)) => {
                // Commands are single small writes: waiting to fill a packet would only add latency. Without it the
                // dialogue works as well.
                let _ = stream.set_nodelay(true);
                self.stream = Some(Either::Left(stream));
                self.client.handle(now, ClientInput::Connected);
            }
            Some(Err(error)) => {
                let (class, what) = classify_connect(&error, address);
                return Err(Classified::new(class, what));
            }
            None => self.client.handle_timeout(now),
        }
        Ok(())
    }

    /// Carries out the client's actions until it has finished. Returns the last reply, if there is one.
    async fn run(&mut self) -> Result<Option<Reply>, Classified> {
        loop {
            match self.client.poll() {
                Some(ClientAction::Send(bytes)) => self.send(&bytes).await?,
                // Boxed: the handshake's state is large and short-lived, and would enlarge every probe's future.
                Some(ClientAction::StartTls) => Box::pin(self.shake_hands()).await?,
                Some(ClientAction::Finished(result)) => {
                    return result.map_err(|error| Classified::failure(self.client.stage(), &error, &self.rulebook));
                }
                None => self.receive().await?,
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Classified> {
        let Some(stream) = &mut self.stream else { return Err(closed()) };
        let sent = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        let Some(result) = in_time(self.client.next_timeout(), sent).await else {
            self.client.handle_timeout(Instant::now().into_std());
            return Ok(());
        };
        result.map_err(|error| broken(&error))
    }

    async fn receive(&mut self) -> Result<(), Classified> {
        let Some(stream) = &mut self.stream else { return Err(closed()) };
        self.buffer.clear();
        self.buffer.reserve(READ);
        let received = in_time(self.client.next_timeout(), stream.read_buf(&mut self.buffer)).await;
        let now = Instant::now().into_std();
        match received {
            Some(Ok(0)) => self.client.handle(now, ClientInput::EndOfStream),
            Some(Ok(_)) => self.client.handle(now, ClientInput::Received(&self.buffer)),
            Some(Err(error)) => return Err(broken(&error)),
            None => self.client.handle_timeout(now),
        }
        Ok(())
    }

    async fn shake_hands(&mut self) -> Result<(), Classified> {
        let (Some(setup), Some(Either::Left(stream))) = (&self.tls, self.stream.take()) else {
            return Err(Classified::new(EvidenceClass::Inconclusive, "TLS is not set up"));
        };
        let handshake = in_time(self.client.next_timeout(), setup.handshake(stream, &self.server_name)).await;
        let now = Instant::now().into_std();
        let Some((result, not_after)) = handshake else {
            self.client.handle_timeout(now);
            return Ok(());
        };
        self.certificate_not_after = not_after;
        let stream = result.map_err(|TlsFailure { class, what }| Classified::new(class, what))?;
        self.stream = Some(Either::Right(stream));
        self.client.handle(now, ClientInput::TlsEstablished);
        Ok(())
    }
}

/// Awaits I/O, but not beyond the deadline.
async fn in_time<T>(deadline: Option<std::time::Instant>, io: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), io).await.ok(),
        None => Some(io.await),
    }
}

fn closed() -> Classified {
    Classified::new(EvidenceClass::ConnectionLost, "connection closed")
}

fn broken(error: &io::Error) -> Classified {
    let (class, what) = classify_io(error);
    Classified::new(class, what)
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
