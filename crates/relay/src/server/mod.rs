//! Driver of each connection of an application.

mod content;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mail_failover_contract::routing::RouteBackend;
use mail_failover_core::model::{EvidenceClass, Stage};
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::credentials::Credentials;
use mail_failover_dataplane::pacing::Paces;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::places::Place;
use mail_failover_runtime::random;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use self::content::Content;
use crate::accounts::Accounts;
use crate::at_once::at_once;
use crate::backend::{CheckedOut, Learnt, Pool, Target};
use crate::buffer::{BufferError, Buffers};
use crate::core::answer::Answer;
use crate::core::choice::{self, Rotation};
use crate::core::session::{Session, SessionAction, SessionInput, SessionSettings, SubmittedLogin, TransactionEnd};
use crate::core::transaction::{Evidence, Operation, OperationFailure, OperationResult, Way};
use crate::driver::EvidenceOf;
use crate::metrics::{BackendMetrics, ServerMetrics};

/// Bound on the TLS handshake of an application.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Time for an application to take what is sent to it.
const SEND: Duration = Duration::from_secs(30);
/// Pause after a wrong login.
const WRONG_LOGIN: Duration = Duration::from_secs(1);
/// Octets that are read at once.
const READ: usize = 4096;
const READ_CONTENT: usize = 64 * 1024;
/// Octets that an application may send ahead while the relay works for it.
const AHEAD: usize = 64 * 1024;

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

/// A connection of an application.
pub(crate) type ClientStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

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

/// Connection to the backend that carries the message now.
struct Carrier {
    checked_out: CheckedOut,
    way: Way,
}

/// Driver of one connection.
struct Application {
    relay: Arc<Relay>,
    /// `None` while it is handed to the handshake, and after that has failed.
    stream: Option<ClientStream>,
    session: Session,
    place: Place,
    peer: IpAddr,
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
            self.session.offer(self.offered());
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
                Ok(Ok(0) | Err(_)) => return Err(Gone),
                Ok(Ok(_)) => self.session.handle(Instant::now(), SessionInput::Received(&buffer)),
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

    fn offered(&self) -> crate::core::capabilities::Capabilities {
        let answers = self.relay.answers.borrow();
        answers.as_deref().map(|answers| self.relay.learnt.common(answers)).unwrap_or_default()
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
                if matches!(operation, Operation::Connect { .. } | Operation::End) && self.is_client_gone().await {
                    // ADR-0132: An application that leaves takes its message along.
                    self.backend = None;
                    return Err(Gone);
                }
                let result = Box::pin(self.perform(operation, deadline)).await;
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

    /// True if the application has closed its side. What it has sent ahead is taken note of.
    async fn is_client_gone(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        let mut buffer = vec![];
        // What the kernel has is only seen after a turn of the runtime's reactor.
        tokio::task::yield_now().await;
        match at_once(read(stream, &mut buffer, AHEAD)).await {
            Some(Ok(0) | Err(_)) => true,
            Some(Ok(_)) => {
                self.session.handle(Instant::now(), SessionInput::Received(&buffer));
                false
            }
            None => false,
        }
    }

    fn plan(&mut self, domain: Option<&str>) -> Result<Vec<Way>, Answer> {
        let answers = self.relay.answers.borrow().clone();
        let Some(answers) = answers else { return Err(Answer::own(451, "4.3.0 the relay has no document yet")) };
        let number = self.relay.messages.fetch_add(1, Ordering::Relaxed);
        self.number = number;
        self.message = random::word(12);
        self.attempts = 0;
        // No user of the lock can leave the turns half changed.
        let mut rotation = self.relay.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        self.ways = choice::ways(&answers, &mut rotation, domain, number);
        drop(rotation);
        if self.ways.is_empty() {
            let text = match domain {
                _ if answers.routing.is_withdrawn => "4.3.2 nobody may carry the mail of this route now".to_owned(),
                Some(domain) => {
                    let without_share = choice::without_share(&answers, domain);
                    match without_share.as_slice() {
                        [] => format!("4.7.1 no backend of this route may send for {domain}"),
                        names => format!(
                            "4.7.1 no backend that mail goes to now may send for {domain}; {} may, without a share of it",
                            names.join(", ")
                        ),
                    }
                }
                None => "4.3.2 no backend may carry the mail of this route now".to_owned(),
            };
            return Err(Answer::own(451, text));
        }
        self.answers = Some(answers);
        Ok(self.ways.clone())
    }

    async fn perform(&mut self, operation: Operation, deadline: Instant) -> OperationResult {
        let begun = Instant::now();
        let (stage, result) = match operation {
            Operation::Connect { way, is_fresh, is_again } => {
                return self.connect(way, (is_fresh, is_again), deadline).await;
            }
            Operation::Command(line) => {
                let Some(carrier) = &mut self.backend else { return lost() };
                let reply = carrier.checked_out.connection.command(&line, deadline, &carrier.way.rulebook).await;
                ("command", reply.map(OperationResult::Reply))
            }
            Operation::Content => ("content", self.carry(deadline).await),
            Operation::End => {
                let Some(carrier) = &mut self.backend else { return lost() };
                let reply = carrier.checked_out.connection.end(deadline, &carrier.way.rulebook).await;
                ("end", reply.map(OperationResult::Reply))
            }
        };
        if let Some(carrier) = &self.backend {
            self.relay.backend_metrics.took(&carrier.way.backend, stage, begun.elapsed());
        }
        result.unwrap_or_else(OperationResult::Failed)
    }

    async fn connect(&mut self, way: usize, (is_fresh, is_again): (bool, bool), deadline: Instant) -> OperationResult {
        self.backend = None;
        self.silence = Duration::ZERO;
        let Some(way) = self.ways.get(way).cloned() else { return lost() };
        if !is_again {
            self.attempts += 1;
            if self.attempts > 1 {
                self.relay.backend_metrics.replayed(&way.backend);
            }
        }
        let Some(backend) = self.route_backend(&way.backend) else { return lost() };
        let target = match target(&self.relay.credentials, &backend).await {
            Ok(target) => target,
            Err(failure) => return OperationResult::Failed(failure),
        };
        if !is_again && let Some(failure) = self.await_turn(&backend, deadline).await {
            return OperationResult::Failed(failure);
        }
        match self.relay.pool.check_out(&backend, &target, is_fresh, deadline).await {
            Ok(checked_out) => {
                let capabilities = checked_out.connection.capabilities();
                let is_reused = checked_out.is_reused;
                self.backend = Some(Carrier { checked_out, way });
                OperationResult::Ready { capabilities, is_reused }
            }
            Err(failure) => OperationResult::Failed(failure),
        }
    }

    /// Waits for the message's turn at a backend with a limit of messages a second. `Some` if it is too far away.
    // ADR-0126: The pace of a backend is kept where a session begins.
    async fn await_turn(&self, backend: &RouteBackend, deadline: Instant) -> Option<OperationFailure> {
        let interval = backend.interval?;
        let now = Instant::now();
        // The rest of the time is for the connection.
        let longest = deadline.saturating_duration_since(now) / 2;
        let Some(wait) = self.relay.paces.take(&backend.name, interval, longest, now) else {
            self.relay.backend_metrics.out_of_turn(&backend.name);
            return Some(own_failure(
                Stage::Connect,
                "more messages wait for it than limits.messagesPerSecond lets through",
            ));
        };
        if wait.is_zero() {
            return None;
        }
        self.relay.backend_metrics.paced(&backend.name);
        let has_come = self.relay.paces.wait(wait).await;
        (!has_come).then(|| own_failure(Stage::Connect, "the relay ends"))
    }

    fn route_backend(&self, name: &str) -> Option<RouteBackend> {
        let answers = self.answers.as_ref()?;
        answers.routing.backends.iter().find(|backend| *backend.name == *name).cloned()
    }

    fn release(&mut self, is_in_step: bool) {
        if let Some(Carrier { checked_out, .. }) = self.backend.take() {
            self.relay.pool.give_back(checked_out, is_in_step);
        }
    }

    fn tell(&self, evidence: Evidence) {
        let Some(way) = self.ways.get(evidence.way) else { return };
        self.relay.backend_metrics.evidence(&way.backend, &evidence);
        let Some(backend) = self.route_backend(&way.backend) else { return };
        if evidence.class != EvidenceClass::Ok {
            tracing::info!(id = self.message, backend = %way.backend, class = evidence.class.as_str(), summary = %evidence.summary, "a backend has not taken a message");
        }
        let told = EvidenceOf {
            backend: backend.name.clone(),
            next_hop: backend.next_hop,
            // A number, and nothing of the message.
            message: self.number,
            at: self.relay.clock.now(),
            took: evidence.since.elapsed(),
            evidence,
        };
        if self.relay.evidence.try_send(told).is_err() {
            self.relay.backend_metrics.lost();
        }
    }

    fn ended(&self, end: &TransactionEnd) {
        let TransactionEnd { backend, answer, sender, recipients, size, since, attempts } = end;
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

async fn read(stream: &mut ClientStream, buffer: &mut Vec<u8>, size: usize) -> io::Result<usize> {
    // Room is made only when there is something to read: ten thousand idle connections keep no buffers.
    stream_readable(stream).await?;
    buffer.reserve(size);
    stream.read_buf(buffer).await
}

/// Waits until the connection has something to say. Inside TLS that may have been received already.
async fn stream_readable(stream: &ClientStream) -> io::Result<()> {
    match stream {
        Either::Left(tcp) => tcp.readable().await,
        Either::Right(_) => Ok(()),
    }
}

/// The server and the login of a backend.
pub async fn target(credentials: &Credentials, backend: &RouteBackend) -> Result<Target, OperationFailure> {
    let login = match &backend.secret {
        Some(secret) => {
            let login = credentials.login(secret).await;
            // Applications are told this, and no path of ours. The log has it.
            Some(login.map_err(|_| own_failure(Stage::Auth, "its login cannot be read; the relay's log says why"))?)
        }
        None => None,
    };
    Ok(Target { next_hop: backend.next_hop.clone(), tls: backend.tls.clone(), login })
}

fn own_failure(stage: Stage, what: &str) -> OperationFailure {
    OperationFailure { class: EvidenceClass::Inconclusive, stage, refusal: None, summary: what.into(), is_own: true }
}

/// The connection is not there any more, by a mistake of ours.
fn lost() -> OperationResult {
    OperationResult::Failed(own_failure(Stage::Connect, "the connection is lost"))
}
