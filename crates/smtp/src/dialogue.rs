//! One dialogue of a probe with one address: the driver of a [`SmtpClient`] over tokio and rustls, and its
//! classification.
//!
//! The dialogue sends no mail, and credentials only where the depth asks for them. A peer that waits for a command at
//! its end gets QUIT (RFC 5321 §4.1.1.10) after the outcome is known, and RSET before that if a transaction is open.
//! Everything that a server quotes of a login is taken out of the message.
//!
//! What is our own doing is not called the backend's failure: a refused EHLO name, a TLS that rustls does not speak, a
//! look at the clock that came too late.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::classify::{Answered, probe_class, session_class};
use super::client::{
    ClientAction, ClientInput, Goal, QUIT_TIMEOUT, SessionError, SessionPlan, SessionTimeouts, SmtpClient,
};
use super::connect::{classify_connect, classify_io};
use super::login::{NoMechanism, without};
use super::message::{MAX_MESSAGE, bounded, message};
use super::reply::Reply;
use super::tls::{Mismatch, NOTHING_IN_COMMON, TlsFailure, TlsSetup};
use super::wide_hello::HelloAnswer;
use mail_failover_core::model::{Depth, Envelope, EvidenceClass, NotAfter, Outcome, ProbeLogin, Stage, TlsMode};
use mail_failover_replies::{DecidingRule, Rulebook};

/// Octets that are read at once: enough for nearly every reply.
const READ: usize = 512;
/// Octets that are read of what ends an idle session.
const IDLE_READ: usize = 64;

/// Settings of a dialogue.
#[derive(Clone, Debug)]
pub struct DialoguePlan {
    /// Our name in EHLO: a domain or an address literal (RFC 5321 §4.1.1.1). If absent, the literal of our address.
    pub ehlo_name: Option<Arc<str>>,
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
    /// Reason for which the dialogue ends before its log-in, because the server called log-ins too many.
    pub postponed_login: Option<Arc<str>>,
    /// Bound on each wait for the server; the bounds of connection and dialogue follow from it
    /// ([`SessionTimeouts::of_probe`]).
    pub timeout: Duration,
    /// Rules for the backend's replies.
    pub rulebook: Arc<Rulebook>,
}

/// Reason for which a dialogue ends before its depth, although nothing is wrong with the backend.
struct BlockedStage {
    /// The stage that cannot be reached.
    stage: Stage,
    /// `ProbeBlocked` or `Throttled`.
    class: EvidenceClass,
    message: String,
}

impl BlockedStage {
    fn new(stage: Stage, message: impl Into<String>) -> Self {
        Self { stage, class: EvidenceClass::ProbeBlocked, message: message.into() }
    }
}

impl DialoguePlan {
    /// The plan of the session, as deep as the present settings allow.
    fn session(&self) -> (SessionPlan, Option<BlockedStage>) {
        let (goal, blocked) = self.goal();
        let timeouts = SessionTimeouts::of_probe(self.timeout);
        (SessionPlan { ehlo_name: self.ehlo_name.clone(), tls: self.mode, goal, timeouts }, blocked)
    }

    /// The plan of a second session within the time that is left of the dialogue.
    fn second_session(&self, tls: TlsMode, deadline: Option<Instant>) -> SessionPlan {
        let (plan, _) = self.session();
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        let SessionTimeouts { session, connection, step } = plan.timeouts;
        let timeouts =
            SessionTimeouts { session: session.min(left), connection: connection.min(left), step: step.min(left) };
        SessionPlan { tls, timeouts, ..plan }
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
            ProbeLogin::With(login) => match &self.postponed_login {
                None => Some(login.clone()),
                Some(why) => {
                    let blocked = BlockedStage::new(Stage::Auth, &**why);
                    return (Goal::Ready, Some(BlockedStage { class: EvidenceClass::Throttled, ..blocked }));
                }
            },
            ProbeLogin::None => None,
            ProbeLogin::Missing { message, .. } => {
                return (Goal::Ready, Some(BlockedStage::new(Stage::Auth, &**message)));
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
    BlockedStage::new(stage, format!("{field} is not given; name it, or probe less deep"))
}

/// Class of a dialogue and its description, without the stage.
struct Classified {
    class: EvidenceClass,
    what: String,
    /// Remedy or further circumstance, which is told even if `what` is too long for a message.
    addition: Option<String>,
}

impl Classified {
    fn new(class: EvidenceClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), addition: None }
    }

    fn and(self, addition: impl Into<String>) -> Self {
        Self { addition: Some(addition.into()), ..self }
    }

    /// The message for people, without any part of the login.
    fn message(&self, stage: Stage, login: &ProbeLogin) -> String {
        let what = match login {
            ProbeLogin::With(login) => without(login, &self.what),
            ProbeLogin::None | ProbeLogin::Missing { .. } => self.what.clone(),
        };
        match &self.addition {
            None => message(stage, &what),
            Some(addition) => {
                let addition = bounded(&format!("; {addition}"), MAX_MESSAGE / 2);
                bounded(&message(stage, &what), MAX_MESSAGE - addition.len()) + &addition
            }
        }
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
        match (error, session_class(error)) {
            (SessionError::Refused(reply), _) => Self::refusal(stage, reply, rulebook),
            (SessionError::NoMechanism(NoMechanism::Unknown(_)), class) => {
                Self::new(class, format!("{error}; probe no deeper than StartTLS"))
            }
            (_, class) => Self::new(class, error.to_string()),
        }
    }

    /// Classifies and describes a reply that does not let the session go on, and names the user's rule if one has
    /// decided.
    fn refusal(stage: Stage, reply: &Reply, rulebook: &Rulebook) -> Self {
        let reading = rulebook.read(&mail_failover_replies::Reply {
            stage: Some(answered(stage)),
            code: reply.code,
            enhanced: reply.enhanced(),
            text: &reply.text,
        });
        let class = probe_class(&reading);
        // Another 2yz or a 3yz than this command can have is no answer to it.
        let class = if class == EvidenceClass::Ok { EvidenceClass::ProtocolError } else { class };
        let is_out_of_turn = reading.rule.is_some_and(|rule| rule.id() == OUT_OF_TURN);
        match reading.rule.and_then(DecidingRule::own_id) {
            // The id must not fall to the bound of the message.
            Some(id) => Self::new(class, format!("{} (by {id})", bounded(&reply.line(), MAX_MESSAGE - 110))),
            None if is_out_of_turn => Self::new(class, reply.line()).and(OUT_OF_TURN_REMEDY),
            None if class == EvidenceClass::ProbeBlocked => Self::new(class, reply.line()).and(EHLO_REMEDY),
            None => Self::new(class, reply.line()),
        }
    }
}

/// The one rule about our own side that is not about our name in EHLO.
const OUT_OF_TURN: &str = "hello/out-of-turn";
/// Remedy for a server to which we speak too early.
const OUT_OF_TURN_REMEDY: &str =
    "probes wait for the greeting and for each reply; look for what else speaks on the way to the server";
/// Remedy for a server that does not accept our name in EHLO.
const EHLO_REMEDY: &str = "name a host that the server accepts in --ehlo-name (smtpProbes.ehloName of the chart)";

/// The command that a reply at this stage answers.
pub fn answered(stage: Stage) -> Answered {
    match stage {
        Stage::Resolve | Stage::Connect | Stage::ImplicitTls | Stage::Banner => Answered::Connection,
        Stage::Ehlo | Stage::EhloAfterStartTls => Answered::Hello,
        Stage::StartTls => Answered::StartTls,
        Stage::Auth => Answered::Auth,
        Stage::Mail => Answered::Mail,
        Stage::Recipient => Answered::Recipient,
    }
}

/// A dialogue that is over.
pub struct SessionEnd {
    /// Result of the dialogue.
    pub outcome: Outcome,
    /// The connection if QUIT is owed.
    pub pending_quit: Option<PendingQuit>,
    /// True if this process looked at a deadline so late that the result says nothing about the server.
    pub is_starved: bool,
}

/// End of a session before its goal.
enum Interruption {
    /// The client ended the session.
    Session(SessionError),
    /// The handshake failed.
    Handshake(TlsFailure),
    /// The connection could not be made, or broke.
    Connection(Classified),
}

/// Runs the dialogue.
pub async fn run_session(plan: &DialoguePlan, address: SocketAddr) -> SessionEnd {
    let started = Instant::now();
    let (session_plan, blocked) = plan.session();
    let deadline = started.checked_add(session_plan.timeouts.session);
    let mut connection = SmtpConnection::new(plan, session_plan);
    let mut result = connection.dialogue(address).await;
    let mut lost_tls = None;
    let mut not_after = connection.certificate_not_after.take();
    if let (Err(Interruption::Handshake(failure)), TlsMode::Opportunistic) = (&result, plan.mode) {
        // Boxed, as whatever is seldom: it would enlarge every probe's future.
        lost_tls = Some(failure.clone());
        connection = SmtpConnection::new(plan, plan.second_session(TlsMode::None, deadline));
        result = Box::pin(connection.dialogue(address)).await;
        not_after = connection.certificate_not_after.take().or(not_after);
    }
    let elapsed = started.elapsed();
    let reached = connection.client.stage();
    let is_starved = matches!(result, Err(Interruption::Session(SessionError::Starved { .. })));
    let (stage, finding) = match (result, blocked) {
        (Ok(_), Some(blocked)) => (blocked.stage, Classified::new(blocked.class, blocked.message)),
        (Ok(reply), None) => {
            (reached, connection.success(reply.as_ref(), lost_tls.map(|TlsFailure { what, .. }| what)))
        }
        (Err(Interruption::Session(error)), _) => {
            match lost_tls.filter(|_| is_auth_not_offered(&error)) {
                Some(failure) => {
                    // Not kept while the server is asked: it would enlarge every probe's future.
                    drop(error);
                    (reached, Box::pin(explain_lost_tls(plan, address, failure, deadline)).await)
                }
                None => (reached, Classified::failure(reached, &error, &plan.rulebook)),
            }
        }
        (Err(Interruption::Connection(finding)), _) => (reached, finding),
        (Err(Interruption::Handshake(failure)), _) => {
            (reached, Box::pin(explain_handshake(plan, address, failure, deadline)).await)
        }
    };
    let outcome = Outcome {
        class: finding.class,
        stage,
        message: finding.message(stage, &plan.login),
        certificate_not_after: not_after,
        elapsed,
    };
    let pending_quit = connection.client.owes_quit().then_some(PendingQuit(connection));
    SessionEnd { outcome, pending_quit, is_starved }
}

fn is_auth_not_offered(error: &SessionError) -> bool {
    matches!(error, SessionError::NoMechanism(NoMechanism::NotOffered))
}

/// Classifies and describes a session that could not log in after it had lost TLS.
// Many servers offer AUTH inside TLS only: what has failed is TLS.
async fn explain_lost_tls(
    plan: &DialoguePlan,
    address: SocketAddr,
    failure: TlsFailure,
    deadline: Option<Instant>,
) -> Classified {
    let explained = explain_handshake(plan, address, failure, deadline).await;
    Classified { what: format!("{} without TLS: {}", NoMechanism::NotOffered, explained.what), ..explained }
}

/// Classifies and describes a failed handshake. If the server may speak a TLS that rustls does not, it is asked on a
/// connection of its own.
// ADR-0079: A TLS that probes do not speak blocks the probe.
async fn explain_handshake(
    plan: &DialoguePlan,
    address: SocketAddr,
    failure: TlsFailure,
    deadline: Option<Instant>,
) -> Classified {
    let TlsFailure { class, what, mismatch } = failure;
    let depth = if plan.mode == TlsMode::Implicit { "Connect" } else { "Ehlo" };
    if mismatch == Mismatch::Signature {
        let remedy = format!("probe to {depth}, or have it signed by RSA, or by ECDSA with P-256 or P-384");
        return Classified::new(EvidenceClass::ProbeBlocked, what).and(remedy);
    }
    let (Mismatch::Possible | Mismatch::Likely | Mismatch::Certain, Some(setup)) = (mismatch, &plan.tls) else {
        return Classified::new(class, what);
    };
    let answer = ask_what_is_spoken(plan, setup, address, deadline).await;
    let choice = answer.and_then(|answer| setup.explain_choice(answer));
    let remedy = format!("probe to {depth}, or let it speak TLS 1.2 with ECDHE and AES-GCM");
    match (mismatch, choice, answer) {
        (_, Some(choice), _) => Classified::new(EvidenceClass::ProbeBlocked, choice).and(remedy),
        // Nobody can speak TLS with it: no probe and no mail server.
        (Mismatch::Likely, None, Some(HelloAnswer::Refused)) => {
            Classified::new(class, what).and("and also one with every version and cipher")
        }
        (Mismatch::Likely | Mismatch::Certain, None, _) => {
            let what = if what == NOTHING_IN_COMMON { what } else { format!("{NOTHING_IN_COMMON}: {what}") };
            Classified::new(EvidenceClass::ProbeBlocked, what).and(remedy)
        }
        (Mismatch::No | Mismatch::Possible | Mismatch::Signature, None, _) => Classified::new(class, what),
    }
}

/// Goes up to the handshake again, and asks what the server speaks.
async fn ask_what_is_spoken(
    plan: &DialoguePlan,
    setup: &TlsSetup,
    address: SocketAddr,
    deadline: Option<Instant>,
) -> Option<HelloAnswer> {
    let session = SessionPlan { goal: Goal::Ready, ..plan.second_session(plan.mode, deadline) };
    let bound = session.timeouts.step;
    let mut connection = SmtpConnection::new(plan, session);
    connection.connect(address).await.ok()?;
    loop {
        match connection.client.poll() {
            Some(ClientAction::Send(bytes)) => connection.send(&bytes).await.ok()?,
            Some(ClientAction::StartTls) => break,
            Some(ClientAction::Finished(_)) => return None,
            None => connection.receive().await.ok()?,
        }
    }
    let Some(Either::Left(stream)) = connection.stream.take() else { return None };
    setup.ask_what_is_spoken(stream, &plan.server_name, bound).await
}

/// A connection on which QUIT is still owed, and RSET if a transaction is open.
pub struct PendingQuit(SmtpConnection);

impl PendingQuit {
    /// Sends them, waits for the replies no longer than [`QUIT_TIMEOUT`], and closes the
    /// connection. A greeting that has not come is waited for before that, no longer than the
    /// dialogue's timeout.
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

/// End of an idle session that its client has not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleEnd {
    /// The server has closed the connection.
    Closed,
    /// The connection was reset.
    Reset,
    /// The server has said 421, perhaps since the session was idle for too long (RFC 5321 §3.8 and §4.5.3.2.7).
    ServiceNotAvailable,
    /// The server has said anything else, although nothing was asked.
    OutOfTurn,
    /// The connection broke in another way.
    Broken,
}

impl IdleEnd {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Reset => "Reset",
            Self::ServiceNotAvailable => "ServiceNotAvailable",
            Self::OutOfTurn => "OutOfTurn",
            Self::Broken => "Broken",
        }
    }

    fn of(read: &io::Result<usize>, heard: &[u8]) -> Self {
        match read {
            Ok(0) => Self::Closed,
            Ok(_) if heard.starts_with(b"421") => Self::ServiceNotAvailable,
            Ok(_) => Self::OutOfTurn,
            // A peer that ends TLS without saying so has closed all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Self::Reset
            }
            Err(_) => Self::Broken,
        }
    }
}

impl PendingQuit {
    /// Keeps the session open and says nothing, until the server ends it or `close` is over. Then QUIT is sent.
    /// Returns the end that the server has made; `None` after `close`.
    pub async fn idle(mut self, close: impl Future<Output = ()>) -> Option<IdleEnd> {
        let buffer = &mut self.0.buffer;
        buffer.clear();
        buffer.shrink_to(IDLE_READ);
        buffer.reserve(IDLE_READ);
        let Some(stream) = &mut self.0.stream else { return Some(IdleEnd::Broken) };
        let read = tokio::select! {
            read = stream.read_buf(buffer) => Some(read),
            () = close => None,
        };
        if let Some(read) = read {
            return Some(IdleEnd::of(&read, &self.0.buffer));
        }
        self.send().await;
        None
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
    certificate_not_after: Option<NotAfter>,
    buffer: Vec<u8>,
}

impl SmtpConnection {
    fn new(plan: &DialoguePlan, session: SessionPlan) -> Self {
        Self {
            client: SmtpClient::new(Instant::now().into_std(), session),
            tls: plan.tls.clone(),
            server_name: plan.server_name.clone(),
            stream: None,
            certificate_not_after: None,
            buffer: vec![],
        }
    }

    /// Describes a session that reached its goal, perhaps without the TLS that was tried.
    fn success(&self, reply: Option<&Reply>, without_tls: Option<String>) -> Classified {
        let finding = Classified::success(self.client.stage(), reply);
        match without_tls.or_else(|| self.client.refused_tls().map(Reply::line)) {
            Some(why) => finding.and(format!("without TLS: {why}")),
            None => finding,
        }
    }

    async fn dialogue(&mut self, address: SocketAddr) -> Result<Option<Reply>, Interruption> {
        self.connect(address).await?;
        self.run().await
    }

    async fn connect(&mut self, address: SocketAddr) -> Result<(), Interruption> {
        let connected = in_time(self.client.next_timeout(), TcpStream::connect(address)).await;
        let now = Instant::now().into_std();
        match connected {
            Some(Ok(stream)) => {
                let local = stream.local_addr().map_err(|error| broken(&error))?.ip();
                // Commands are single small writes: waiting to fill a packet would only add latency. Without it the
                // dialogue works as well.
                let _ = stream.set_nodelay(true);
                self.stream = Some(Either::Left(stream));
                self.client.handle(now, ClientInput::Connected { local });
            }
            Some(Err(error)) => {
                let (class, what) = classify_connect(&error, address);
                return Err(Interruption::Connection(Classified::new(class, what)));
            }
            None => self.client.handle_timeout(now),
        }
        Ok(())
    }

    /// Carries out the client's actions until it has finished. Returns the last reply, if there is one.
    async fn run(&mut self) -> Result<Option<Reply>, Interruption> {
        loop {
            match self.client.poll() {
                Some(ClientAction::Send(bytes)) => self.send(&bytes).await?,
                // Boxed: the handshake's state is large and short-lived, and would enlarge every probe's future.
                Some(ClientAction::StartTls) => Box::pin(self.shake_hands()).await?,
                Some(ClientAction::Finished(result)) => return result.map_err(Interruption::Session),
                None => self.receive().await?,
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Interruption> {
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

    async fn receive(&mut self) -> Result<(), Interruption> {
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

    async fn shake_hands(&mut self) -> Result<(), Interruption> {
        let (Some(setup), Some(Either::Left(stream))) = (&self.tls, self.stream.take()) else {
            let finding = Classified::new(EvidenceClass::Inconclusive, "TLS is not set up");
            return Err(Interruption::Connection(finding));
        };
        let handshake = in_time(self.client.next_timeout(), setup.handshake(stream, &self.server_name)).await;
        let now = Instant::now().into_std();
        let Some((result, not_after)) = handshake else {
            self.client.handle_timeout(now);
            return Ok(());
        };
        self.certificate_not_after = not_after;
        self.stream = Some(Either::Right(result.map_err(Interruption::Handshake)?));
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

fn closed() -> Interruption {
    Interruption::Connection(Classified::new(EvidenceClass::ConnectionLost, "connection closed"))
}

fn broken(error: &io::Error) -> Interruption {
    let (class, what) = classify_io(error);
    Interruption::Connection(Classified::new(class, what))
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "dialogue_idle_tests.rs"]
mod idle_tests;
