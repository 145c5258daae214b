//! Driver of each connection of an application.

mod carrying;
mod client;
mod content;

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_dataplane::pacing::Paces;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::places::Place;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

pub(crate) use self::carrying::target;
use self::carrying::{Carrier, lost, own_failure};
pub(crate) use self::client::ClientStream;
use self::client::{Ahead, ClientEnd, read};
use self::content::Content;
use crate::accounts::Accounts;
use crate::awaited::AwaitedAnswers;
use crate::backend::{Learnt, Pool};
use crate::buffer::{BufferError, Buffers};
use crate::core::answer::Answer;
use crate::core::choice::Rotation;
use crate::core::route_mark::RouteMark;
use crate::core::session::{Session, SessionAction, SessionInput, SessionSettings, SubmittedLogin, TransactionEnd};
use crate::core::transaction::{Operation, OperationResult, Way};
use crate::driver::EvidenceOf;
use crate::metrics::{BackendMetrics, ServerMetrics};

/// Bound on the TLS handshake of an application.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Time for an application to take what is sent to it.
const SEND: Duration = Duration::from_secs(30);
/// Pause after a wrong login.
const WRONG_LOGIN: Duration = Duration::from_secs(1);
/// Time for the last octets to an application that has closed its side.
const FAREWELL: Duration = Duration::from_secs(1);
/// Octets that are read at once.
const READ: usize = 4096;
const READ_CONTENT: usize = 64 * 1024;

/// Bounds on waiting for applications.
#[derive(Clone, Copy, Debug)]
pub struct ClientBounds {
    /// Time for a command (RFC 5321 §4.5.3.2.7).
    pub command: Duration,
    /// Pause within the content of a message.
    pub pause: Duration,
    /// The whole content of a message.
    pub content: Duration,
}

/// Parts that all connections share.
pub struct Relay {
    /// Settings of sessions.
    pub settings: Arc<SessionSettings>,
    /// Bounds on waiting for applications.
    pub client_bounds: ClientBounds,
    /// Answers in force; `None` before the first document.
    pub answers: watch::Receiver<Option<Arc<Answers>>>,
    /// Turns of the backends.
    pub rotation: Mutex<Rotation>,
    /// Connections to backends.
    pub pool: Pool,
    /// Turns of messages at backends with a limit of messages a second.
    pub paces: Paces,
    /// Extensions of backends.
    pub learnt: Arc<Learnt>,
    /// Final answers that backends owe.
    pub awaited: AwaitedAnswers,
    /// Room for content.
    pub buffers: Buffers,
    /// Logins at backends.
    pub credentials: Credentials,
    /// Logins of applications.
    pub accounts: Option<watch::Receiver<Arc<Accounts>>>,
    /// Certificate, if there is one.
    pub certificate: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// Clients that may send without a login.
    pub networks: Vec<IpNet>,
    /// Load balancers, which name the real client by the PROXY protocol.
    pub proxies: Vec<IpNet>,
    /// Results for breakers and reports.
    pub evidence: mpsc::Sender<EvidenceOf>,
    /// Metrics of backends.
    pub backend_metrics: BackendMetrics,
    /// Metrics of applications.
    pub server_metrics: ServerMetrics,
    /// Source of the time.
    pub clock: Clock,
    /// True if the access log names senders and recipients.
    pub logs_addresses: bool,
    /// Number of the next message.
    pub messages: AtomicU64,
}

/// The TLS handshake with an application; `None` if it fails.
pub(crate) async fn shake_hands(relay: &Relay, stream: TcpStream) -> Option<Box<TlsStream<TcpStream>>> {
    let config = relay.certificate.as_ref()?.borrow().clone();
    match timeout(HANDSHAKE, Box::pin(TlsAcceptor::from(config).accept(stream))).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake with an application failed");
            None
        }
        Err(_elapsed) => {
            relay.server_metrics.timed_out.inc();
            None
        }
    }
}

/// Driver of one connection.
struct Application {
    relay: Arc<Relay>,
    /// `None` while it is handed to the handshake, and after that has failed.
    stream: Option<ClientStream>,
    session: Session,
    place: Place,
    peer: IpAddr,
    /// Time of the application's latest octets.
    heard_at: Instant,
    /// End of what it sends, if that was seen while the relay worked for it.
    end: Option<ClientEnd>,
    content: Option<Content>,
    /// Answers by which the present message goes.
    answers: Option<Arc<Answers>>,
    ways: Vec<Way>,
    backend: Option<Carrier>,
    /// Time for which the application was silent while it had the present connection to a backend.
    silence: Duration,
    attempts: u32,
    /// Number of the present message.
    number: u64,
    /// Id of the present message, in the `Received` line and the access log.
    message: String,
}

/// Drives a connection of an application at this address until its end.
pub(crate) async fn drive(
    relay: Arc<Relay>,
    stream: ClientStream,
    session: Session,
    (peer, place): (IpAddr, Place),
    endings: Endings,
) {
    let application = Application {
        relay,
        stream: Some(stream),
        session,
        place,
        peer,
        heard_at: Instant::now(),
        end: None,
        content: None,
        answers: None,
        ways: vec![],
        backend: None,
        silence: Duration::ZERO,
        attempts: 0,
        number: 0,
        message: String::new(),
    };
    application.run(&endings).await;
}

/// Tokens that tell connections of the relay's end.
#[derive(Clone, Debug, Default)]
pub struct Endings {
    /// Transactions go on, and nothing new begins.
    pub drain: CancellationToken,
    /// Applications that are silent now lose their transactions, too.
    pub last: CancellationToken,
}

/// The connection is over.
struct Gone;

impl Relay {
    /// Waits until another message waits for a connection of this backend, and the application has been silent for long
    /// enough to give it. For ever without a backend.
    async fn wanted(self: Arc<Self>, backend: Option<Arc<str>>, silence: Duration) {
        let Some(backend) = backend else { return std::future::pending().await };
        // A part of the time for which the other message waits, and longer than the pauses of a sound application.
        tokio::time::sleep((self.settings.bounds.stage / 4).saturating_sub(silence)).await;
        self.pool.wanted(&backend).await;
    }
}

impl Application {
    async fn run(mut self, endings: &Endings) {
        if self.work(endings).await.is_err() {
            self.session.hang_up(Instant::now());
            // What is left to note: the end of a transaction.
            while let Some(action) = self.session.poll(Instant::now()) {
                if let SessionAction::Release { is_in_step } = action {
                    self.release(is_in_step);
                } else if let SessionAction::Ended(end) = action {
                    self.ended(&end);
                }
            }
        }
    }

    async fn work(&mut self, endings: &Endings) -> Result<(), Gone> {
        let mut is_drained = false;
        let mut begun_content: Option<Instant> = None;
        let mut waits_since = Instant::now();
        loop {
            while let Some(action) = self.session.poll(Instant::now()) {
                waits_since = Instant::now();
                if action == SessionAction::Close {
                    self.close().await;
                    return Ok(());
                }
                self.act(action).await?;
            }
            if !self.session.awaits_client() {
                continue;
            }
            let is_in_content = self.session.is_in_content();
            begun_content = if is_in_content { begun_content.or(Some(Instant::now())) } else { None };
            let bounds = self.relay.client_bounds;
            let deadline = match begun_content {
                Some(begun) => (begun + bounds.content).min(Instant::now() + bounds.pause),
                None => waits_since + bounds.command,
            };
            if !self.session.is_in_transaction() {
                self.offer();
            }
            let mut buffer = vec![];
            self.place.release();
            let gives_way = self.place.gives_way().clone();
            let size = if is_in_content { READ_CONTENT } else { READ };
            let wanted = self
                .relay
                .clone()
                .wanted(self.backend.as_ref().map(|carrier| carrier.way.backend.clone()), self.silence);
            let silent_since = Instant::now();
            let Some(stream) = &mut self.stream else { return Err(Gone) };
            let received = tokio::select! {
                biased;
                () = gives_way.cancelled() => {
                    self.session.close_with(Instant::now(), "4.3.2 too many connections; this one was idle");
                    continue;
                }
                () = endings.last.cancelled() => {
                    self.session.close_with(Instant::now(), "4.3.2 the relay is shutting down; try again");
                    continue;
                }
                () = endings.drain.cancelled(), if !is_drained => {
                    is_drained = true;
                    self.session.handle(Instant::now(), SessionInput::Drain);
                    continue;
                }
                received = timeout_at(deadline.into(), read(stream, &mut buffer, size)) => received,
                () = wanted => {
                    self.relay.backend_metrics.yielded();
                    self.silence = Duration::ZERO;
                    self.session.handle(Instant::now(), SessionInput::ConnectionWanted);
                    continue;
                }
            };
            self.silence += silent_since.elapsed();
            self.place.keep();
            match received {
                Ok(Ok(0)) => {
                    // It has its answers, and may still read.
                    drop(timeout(FAREWELL, self.close()).await);
                    return Err(Gone);
                }
                Ok(Err(_)) => return Err(Gone),
                Ok(Ok(_)) => {
                    self.heard_at = Instant::now();
                    self.session.handle(self.heard_at, SessionInput::Received(&buffer));
                }
                Err(_elapsed) => {
                    self.relay.server_metrics.timed_out.inc();
                    self.session.close_with(Instant::now(), "4.4.2 you were silent for too long");
                }
            }
        }
    }

    /// The TLS handshake, for which the place is not kept: who takes none gives way to others.
    async fn start_tls(&mut self) -> Result<(), Gone> {
        let Some(Either::Left(stream)) = self.stream.take() else { return Err(Gone) };
        self.place.release();
        let gives_way = self.place.gives_way().clone();
        let stream = tokio::select! {
            () = gives_way.cancelled() => None,
            stream = shake_hands(&self.relay, stream) => stream,
        };
        self.stream = Some(Either::Right(stream.ok_or(Gone)?));
        self.place.keep();
        self.session.handle(Instant::now(), SessionInput::TlsEstablished);
        Ok(())
    }

    fn offer(&mut self) {
        let answers = self.relay.answers.borrow();
        let offered = answers.as_deref().map(|answers| self.relay.learnt.common(answers)).unwrap_or_default();
        self.session.offer(offered, answers.as_deref().map(|answers| RouteMark::of(&answers.routing)));
    }

    async fn act(&mut self, action: SessionAction) -> Result<(), Gone> {
        match action {
            SessionAction::Send(bytes) => self.send(&bytes).await?,
            SessionAction::StartTls => self.start_tls().await?,
            SessionAction::CheckLogin(SubmittedLogin(login)) => {
                let is_right = self.relay.accounts.as_ref().is_some_and(|accounts| accounts.borrow().knows(&login));
                if !is_right {
                    // Guesses take time, and no place that somebody else could use.
                    self.place.release();
                    tokio::time::sleep(WRONG_LOGIN).await;
                }
                self.session.handle(Instant::now(), SessionInput::LoginChecked(is_right));
            }
            SessionAction::Plan { domain } => {
                let planned = self.plan(domain.as_deref());
                self.session.handle(Instant::now(), SessionInput::Planned(planned));
            }
            SessionAction::Perform { operation, deadline } => {
                let result = Box::pin(self.work_for(operation, deadline)).await?;
                self.session.handle(Instant::now(), SessionInput::Performed(result));
            }
            SessionAction::Release { is_in_step } => self.release(is_in_step),
            SessionAction::Evidence(evidence) => self.tell(evidence),
            SessionAction::BeginContent => self.begin_content().await,
            SessionAction::Store(part) => self.store(&part).await,
            SessionAction::EndContent => {
                let kept = match &self.content {
                    Some(Content { error: None, trace, .. }) => Ok(*trace),
                    Some(Content { error: Some(_), .. }) => Err(BufferError::answer()),
                    None => Err(Answer::own(451, "4.3.0 the content is lost")),
                };
                self.session.handle(Instant::now(), SessionInput::ContentKept(kept));
            }
            SessionAction::DropContent => self.content = None,
            SessionAction::Ended(end) => self.ended(&end),
            SessionAction::Rejected(rejection) => {
                self.relay.server_metrics.rejected(rejection);
                tracing::debug!(client = %self.peer, reason = rejection.as_str(), "refused");
            }
            SessionAction::Close => {}
        }
        Ok(())
    }

    /// Works on the connection to a backend. What the application sends meanwhile is kept.
    async fn work_for(&mut self, operation: Operation, deadline: Instant) -> Result<OperationResult, Gone> {
        let mut stream = self.stream.take().ok_or(Gone)?;
        let mut ahead = Ahead::new(self.session.waiting(), self.heard_at, self.end);
        let takes_on = matches!(operation, Operation::Connect { .. } | Operation::End);
        if takes_on {
            ahead.look(&mut stream).await;
        }
        if takes_on && ahead.end == Some(ClientEnd::Left) {
            // ADR-0200: Who closes its side later has left, and takes its message along.
            self.backend = None;
            return Err(Gone);
        }
        let result = tokio::select! {
            biased;
            result = self.perform(operation, deadline) => result,
            never = ahead.listen(&mut stream) => match never {},
        };
        self.stream = Some(stream);
        // Without room nobody has looked for its end.
        self.heard_at = if ahead.is_full() { Instant::now() } else { ahead.heard_at };
        self.end = ahead.end;
        if !ahead.octets.is_empty() {
            self.session.handle(Instant::now(), SessionInput::Received(&ahead.octets));
        }
        Ok(result)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let stream = self.stream.as_mut().ok_or(Gone)?;
        let sent = timeout(SEND, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_elapsed) => {
                self.relay.server_metrics.timed_out.inc();
                Err(Gone)
            }
        }
    }

    async fn close(&mut self) {
        if let Some(stream) = &mut self.stream {
            let _ = timeout(SEND, stream.shutdown()).await;
        }
    }

    fn ended(&self, end: &TransactionEnd) {
        let TransactionEnd { backend, answer, sender, recipients, size, since, attempts } = end;
        if let Some(answers) = &self.answers {
            answers.message_ended(self.number);
        }
        let took = since.elapsed();
        self.relay.server_metrics.ended(answer.as_ref().map(|answer| answer.code), took);
        let (sender, recipients_named) =
            if self.relay.logs_addresses { (sender.as_str(), recipients.join(" ")) } else { ("", String::new()) };
        tracing::info!(
            target: "mail_failover_relay::access",
            id = self.message,
            client = %self.peer,
            user = self.session.user().unwrap_or_default(),
            tls = self.session.is_encrypted(),
            backend = backend.as_deref().unwrap_or_default(),
            code = answer.as_ref().map_or(0, |answer| answer.code),
            recipients = recipients.len(),
            size,
            attempts,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            sender,
            to = recipients_named,
            "transaction"
        );
    }
}
