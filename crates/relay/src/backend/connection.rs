//! One connection to a backend: the driver of an `SmtpClient` that sends mail.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail_failover_contract::routing::{NextHop, TlsPolicy};
use mail_failover_core::model::{EvidenceClass, Login, Stage, Tls, TlsMode, TrustAnchors};
use mail_failover_replies::Rulebook;
use mail_failover_runtime::dial_guard::{DialGuard, DialOrigin, DialRefusal};
use mail_failover_smtp::client::{
    ClientAction, ClientInput, Goal, SessionError, SessionPlan, SessionTimeouts, SmtpClient,
};
use mail_failover_smtp::connect::{classify_connect, classify_io};
use mail_failover_smtp::reply::Reply;
use mail_failover_smtp::tls::{TlsSetup, TlsSetupError, TlsSetups};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::failure::{ConnectFailure, Failure, hidden, io_failure, look_up_failure};
use super::resolver::{LookUpError, Resolver};
use crate::at_once::at_once;
use crate::core::capabilities::Capabilities;
use crate::core::route_mark::RouteMark;
use crate::core::transaction::OperationFailure;

/// Octets that are read at once.
const READ: usize = 1024;
/// Wait for a reply to content that the server does not take any more.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bound on QUIT and its reply.
const FAREWELL: Duration = Duration::from_secs(1);

/// Everything that tells one server with its login from another.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port.
    pub next_hop: NextHop,
    /// Use of TLS.
    pub tls: TlsPolicy,
    /// Login, if the backend has one.
    pub login: Option<Arc<Login>>,
    /// Route whose messages are carried: none of its relays is a backend.
    pub route: RouteMark,
}

/// Maker of connections.
#[derive(Debug)]
pub struct Connector {
    /// Our name in EHLO.
    pub hostname: Arc<str>,
    /// Looks names up.
    pub resolver: Resolver,
    /// Judges each address, each time.
    pub guard: DialGuard,
    /// TLS of all backends.
    pub tls: TlsSetups,
}

/// TLS sessions with one server by one login: the next connection resumes one, and pays no full handshake.
// ADR-0155: TLS sessions with backends are resumed, for an hour.
#[derive(Debug, Default)]
pub struct TlsMemory(Mutex<Option<(Instant, Tls, Arc<TlsSetup>)>>);

/// Time after which the certificate is verified again.
const RESUMED_FOR: Duration = Duration::from_hours(1);

impl TlsMemory {
    fn setup(&self, setups: &TlsSetups, tls: &Tls) -> Result<Option<Arc<TlsSetup>>, TlsSetupError> {
        // It is replaced as a whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, of, setup)) = &*known
            && of == tls
            && since.elapsed() < RESUMED_FOR
        {
            return Ok(Some(setup.clone()));
        }
        let Some(setup) = setups.resuming(tls)? else { return Ok(None) };
        *known = Some((Instant::now(), tls.clone(), setup.clone()));
        Ok(Some(setup))
    }
}

type SmtpStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection whose session has come to its end: the server waits for commands.
pub struct BackendConnection {
    client: SmtpClient,
    /// `None` while it is handed to the handshake, and after that has failed.
    stream: Option<SmtpStream>,
    setup: Option<Arc<TlsSetup>>,
    server_name: Arc<str>,
    target: Target,
    capabilities: Capabilities,
    /// What is sent after the session, for messages.
    step: Option<&'static str>,
    buffer: Vec<u8>,
}

impl Connector {
    /// Connects, speaks TLS as the backend wants it, and logs in, all of it before the deadline.
    pub async fn connect(
        &self,
        target: &Target,
        memory: &TlsMemory,
        rulebook: &Rulebook,
        deadline: Instant,
    ) -> Result<BackendConnection, ConnectFailure> {
        let addresses = self.resolver.addresses(&target.next_hop, deadline).await;
        let addresses = addresses.map_err(|error| look_up_failure(&target.next_hop, &error))?;
        let addresses = admitted(&self.guard, addresses).map_err(|refusal| ConnectFailure::of_guard(&refusal))?;
        let mut failed = None;
        for (at, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            // Half of what is left, so that a host with a dead address is reached by the next one.
            let share = if at + 1 < addresses.len() { left / 2 } else { left };
            if left.is_zero() && failed.is_some() {
                break;
            }
            match self.connect_to(target, memory, *address, rulebook, Instant::now() + share).await {
                Ok(connection) => return Ok(connection),
                // It has answered: another address would say the same.
                Err(failed) if failed.failure.refusal.is_some() || failed.wrong_host.is_some() => return Err(failed),
                Err(failure) => failed = Some(failure),
            }
        }
        Err(failed.unwrap_or_else(|| look_up_failure(&target.next_hop, &LookUpError::None).into()))
    }

    async fn connect_to(
        &self,
        target: &Target,
        memory: &TlsMemory,
        address: SocketAddr,
        rulebook: &Rulebook,
        deadline: Instant,
    ) -> Result<BackendConnection, ConnectFailure> {
        let mode = match target.tls {
            TlsPolicy::None => TlsMode::None,
            TlsPolicy::Opportunistic => TlsMode::Opportunistic,
            TlsPolicy::StartTls(_) => TlsMode::StartTls,
            TlsPolicy::Implicit(_) => TlsMode::Implicit,
        };
        match self.session(target, memory, address, mode, deadline).await {
            Ok(connection) => Ok(connection),
            // Encryption without authentication is better than nothing, and nothing better than no mail (RFC 7435).
            Err((Failure::Handshake { .. }, _)) if mode == TlsMode::Opportunistic => {
                let second = self.session(target, memory, address, TlsMode::None, deadline).await;
                second.map_err(|(failure, stage)| failure.of_connecting(stage, target, rulebook))
            }
            Err((failure, stage)) => Err(failure.of_connecting(stage, target, rulebook)),
        }
    }

    async fn session(
        &self,
        target: &Target,
        memory: &TlsMemory,
        address: SocketAddr,
        mode: TlsMode,
        deadline: Instant,
    ) -> Result<BackendConnection, (Failure, Stage)> {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let plan = SessionPlan {
            ehlo_name: Some(self.hostname.clone()),
            tls: mode,
            goal: target.login.as_deref().map_or(Goal::Ready, |login| Goal::Login(login.clone())),
            timeouts: SessionTimeouts { session: left, connection: left, step: left },
        };
        let tls = tls_of(target, mode);
        let setup = memory.setup(&self.tls, &tls).map_err(|error| {
            let failure = Failure::Handshake { class: EvidenceClass::Inconclusive, what: error.to_string() };
            (failure, Stage::StartTls)
        })?;
        let mut connection = BackendConnection {
            client: SmtpClient::new(now, plan),
            stream: None,
            setup,
            server_name: tls.server_name,
            target: target.clone(),
            capabilities: Capabilities::default(),
            step: None,
            buffer: vec![],
        };
        // Boxed: the handshake's state would enlarge every application's future.
        let established = Box::pin(connection.establish(address)).await;
        // Whatever has failed after EHLO, a certificate of another name or a login, has this reason.
        let established = if connection.leads_back() { Err(Failure::LeadsBack) } else { established };
        match established {
            Ok(()) => Ok(connection),
            Err(failure) => {
                let stage = connection.client.stage();
                // Who is refused says so: the server waits for a command.
                if connection.client.owes_quit() {
                    tokio::spawn(connection.quit());
                }
                Err((failure, stage))
            }
        }
    }
}

/// The addresses that may be connected to.
///
/// # Errors
/// The refusal of one of them, if none is left.
// ADR-0105: Nothing of ours connects to where only our own place in the network leads. A document does not tell hosts
// from Services, which ports and networks of the operator do not bind.
fn admitted(guard: &DialGuard, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialRefusal> {
    let (mut admitted, mut refused) = (vec![], None);
    for address in addresses {
        match guard.check(address, DialOrigin::Cluster) {
            Ok(()) => admitted.push(address),
            Err(refusal) => refused = Some(refusal),
        }
    }
    match refused {
        Some(refusal) if admitted.is_empty() => Err(refusal),
        Some(_) | None => Ok(admitted),
    }
}

fn tls_of(target: &Target, mode: TlsMode) -> Tls {
    let (server_name, trust) = match &target.tls {
        TlsPolicy::None | TlsPolicy::Opportunistic => (target.next_hop.host.clone(), TrustAnchors::WellKnown),
        TlsPolicy::StartTls(verification) | TlsPolicy::Implicit(verification) => {
            let trust = match &verification.ca {
                Some(ca) => TrustAnchors::Pem(ca.as_bytes().into()),
                None => TrustAnchors::WellKnown,
            };
            (verification.server_name.clone(), trust)
        }
    };
    Tls { mode, server_name, trust }
}

impl BackendConnection {
    /// Extensions of the server.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The server and the login that it was made for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// True if the TLS session of an earlier connection was resumed; `None` without TLS.
    pub fn is_resumed(&self) -> Option<bool> {
        match self.stream.as_ref()? {
            Either::Left(_) => None,
            Either::Right(tls) => Some(tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)),
        }
    }

    /// True if the server is a relay of the route whose messages this connection is to carry.
    fn leads_back(&self) -> bool {
        self.client.extensions().is_some_and(|hello| self.target.route.is_in(hello))
    }

    /// True if the server still waits for a command: it has neither closed the connection nor said anything.
    pub fn is_alive(&mut self) -> bool {
        let Some(stream) = &self.stream else { return false };
        if !self.client.is_in_step() {
            return false;
        }
        let tcp = match stream {
            Either::Left(tcp) => tcp,
            Either::Right(tls) => tls.get_ref().0,
        };
        // Nothing may come: a FIN, an alert, a 421 or anything else ends it.
        let mut octet = [0];
        match tcp.try_read(&mut octet) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }

    /// Sends a command and returns its reply, without any part of the login.
    pub async fn command(
        &mut self,
        command: &str,
        deadline: Instant,
        rulebook: &Rulebook,
    ) -> Result<Reply, OperationFailure> {
        let now = Instant::now();
        self.step = Some(verb(command));
        self.client.command(now, command, deadline.saturating_duration_since(now));
        self.reply(rulebook).await
    }

    /// Sends a part of the content. No pause may be longer than `pause`. `Some` is a reply that the server gives instead
    /// of taking it.
    pub async fn content(
        &mut self,
        part: &[u8],
        pause: Duration,
        deadline: Instant,
        rulebook: &Rulebook,
    ) -> Result<Option<Reply>, OperationFailure> {
        self.step = Some("content");
        let Some(stream) = &mut self.stream else {
            return Err(self.told(Failure::Session(SessionError::Closed), rulebook));
        };
        let mut rest = part;
        while !rest.is_empty() {
            let until = deadline.min(Instant::now() + pause);
            match timeout_at(until.into(), stream.write(rest)).await {
                Ok(Ok(0)) => return self.last_words(&io::ErrorKind::WriteZero.into(), rulebook).await,
                Ok(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
                Ok(Err(error)) => return self.last_words(&error, rulebook).await,
                Err(_elapsed) => return Err(self.stalled(pause, deadline, rulebook)),
            }
        }
        Ok(None)
    }

    /// Hands everything to the network that was written.
    pub async fn flush(
        &mut self,
        pause: Duration,
        deadline: Instant,
        rulebook: &Rulebook,
    ) -> Result<Option<Reply>, OperationFailure> {
        let Some(stream) = &mut self.stream else {
            return Err(self.told(Failure::Session(SessionError::Closed), rulebook));
        };
        let until = deadline.min(Instant::now() + pause);
        match timeout_at(until.into(), stream.flush()).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(error)) => self.last_words(&error, rulebook).await,
            Err(_elapsed) => Err(self.stalled(pause, deadline, rulebook)),
        }
    }

    /// A reply that the server has given before the final dot. It is none to the whole message, and would be taken for
    /// that after the dot: an acceptance where a refusal follows.
    pub async fn early_reply(&mut self, rulebook: &Rulebook) -> Result<Option<Reply>, OperationFailure> {
        if !self.client.is_in_step() {
            return Err(self.told(Failure::Session(SessionError::OutOfTurn), rulebook));
        }
        // What the kernel has is only seen after a turn of the runtime's reactor.
        tokio::task::yield_now().await;
        let Some(stream) = &mut self.stream else {
            return Err(self.told(Failure::Session(SessionError::Closed), rulebook));
        };
        self.buffer.clear();
        self.buffer.reserve(READ);
        match at_once(stream.read_buf(&mut self.buffer)).await {
            None => Ok(None),
            Some(Ok(0)) => Err(self.told(Failure::Session(SessionError::Closed), rulebook)),
            Some(Err(error)) => Err(self.broken(&error, rulebook)),
            Some(Ok(_)) => {
                let now = Instant::now();
                self.client.await_reply(now, LAST_WORDS);
                self.client.handle(now, ClientInput::Received(&self.buffer));
                self.reply(rulebook).await.map(Some)
            }
        }
    }

    /// Ends the content and returns the reply. From here on the server may have accepted the message.
    pub async fn end(&mut self, deadline: Instant, rulebook: &Rulebook) -> Result<Reply, OperationFailure> {
        self.step = Some("end of data");
        let Some(stream) = &mut self.stream else {
            return Err(self.told(Failure::Session(SessionError::Closed), rulebook));
        };
        let begun = Instant::now();
        let sent = timeout_at(deadline.into(), async {
            stream.write_all(b".\r\n").await?;
            stream.flush().await
        });
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if let Ok(Some(reply)) = self.last_words(&error, rulebook).await {
                    return Ok(reply);
                }
                return Err(self.broken(&error, rulebook));
            }
            Err(_elapsed) => return Err(self.silent(begun.elapsed(), rulebook)),
        }
        let now = Instant::now();
        self.client.await_reply(now, deadline.saturating_duration_since(now));
        self.reply(rulebook).await
    }

    /// Sends RSET. Returns true if the server is ready for another message.
    pub async fn reset(&mut self, within: Duration) -> bool {
        let now = Instant::now();
        self.client.command(now, "RSET", within);
        let reply = self.run().await;
        matches!(reply, Ok(Some(reply)) if reply.code == 250) && self.is_alive()
    }

    /// Sends QUIT and closes the connection.
    pub async fn quit(mut self) {
        self.client.quit(Instant::now());
        // No error matters.
        let _ = timeout(FAREWELL * 2, async {
            if self.run().await.is_ok()
                && let Some(stream) = &mut self.stream
            {
                let _ = stream.shutdown().await;
            }
        })
        .await;
    }

    /// The reply of a server that does not take the content any more, if it has left one.
    async fn last_words(&mut self, error: &io::Error, rulebook: &Rulebook) -> Result<Option<Reply>, OperationFailure> {
        self.client.await_reply(Instant::now(), LAST_WORDS);
        match self.run().await {
            Ok(Some(reply)) => Ok(Some(hidden(&self.target, reply))),
            Ok(None) | Err(_) => Err(self.broken(error, rulebook)),
        }
    }

    fn broken(&self, error: &io::Error, rulebook: &Rulebook) -> OperationFailure {
        let (class, what) = classify_io(error);
        self.told(Failure::Io { class, what }, rulebook)
    }

    /// A server that takes no more of the content: for the length of a pause, or until all its time was spent.
    fn stalled(&self, pause: Duration, deadline: Instant, rulebook: &Rulebook) -> OperationFailure {
        if Instant::now() < deadline {
            return self.silent(pause, rulebook);
        }
        OperationFailure {
            class: EvidenceClass::NoAnswer,
            stage: self.client.stage(),
            refusal: None,
            summary: "content: --transaction-timeout leaves no more time for a message of this size".into(),
            // It may be our own link that is slow.
            is_own: true,
        }
    }

    fn silent(&self, bound: Duration, rulebook: &Rulebook) -> OperationFailure {
        self.told(Failure::Session(SessionError::Timeout { bound, begun: None }), rulebook)
    }

    fn told(&self, failure: Failure, rulebook: &Rulebook) -> OperationFailure {
        let stage = self.client.stage();
        failure.told(stage, self.step.unwrap_or(stage.as_str()), &self.target, rulebook)
    }

    async fn reply(&mut self, rulebook: &Rulebook) -> Result<Reply, OperationFailure> {
        match self.run().await {
            Ok(Some(reply)) => Ok(hidden(&self.target, reply)),
            Ok(None) => Err(self.told(Failure::Session(SessionError::Closed), rulebook)),
            Err(failure) => Err(self.told(failure, rulebook)),
        }
    }

    async fn establish(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let connected = in_time(self.client.next_timeout(), TcpStream::connect(address)).await;
        match connected {
            Some(Ok(stream)) => {
                let local = stream.local_addr().map_err(|error| io_failure(&error))?.ip();
                // Commands are single small writes.
                let _ = stream.set_nodelay(true);
                self.stream = Some(Either::Left(stream));
                self.client.handle(Instant::now(), ClientInput::Connected { local });
            }
            Some(Err(error)) => {
                let (class, what) = classify_connect(&error, address);
                return Err(Failure::Io { class, what });
            }
            None => self.client.handle_timeout(Instant::now()),
        }
        self.run().await?;
        self.capabilities = self.client.extensions().map(Capabilities::of).unwrap_or_default();
        Ok(())
    }

    /// Carries out the client's actions until it has finished.
    async fn run(&mut self) -> Result<Option<Reply>, Failure> {
        loop {
            match self.client.poll() {
                Some(ClientAction::Send(bytes)) => self.send(&bytes).await?,
                Some(ClientAction::StartTls) => Box::pin(self.shake_hands()).await?,
                Some(ClientAction::Finished(result)) => return result.map_err(Failure::Session),
                None => self.receive().await?,
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(stream) = &mut self.stream else { return Err(Failure::Session(SessionError::Closed)) };
        let sent = in_time(self.client.next_timeout(), async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        if let Some(result) = sent.await {
            return result.map_err(|error| io_failure(&error));
        }
        self.client.handle_timeout(Instant::now());
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        let Some(stream) = &mut self.stream else { return Err(Failure::Session(SessionError::Closed)) };
        self.buffer.clear();
        self.buffer.reserve(READ);
        let received = in_time(self.client.next_timeout(), stream.read_buf(&mut self.buffer)).await;
        let now = Instant::now();
        match received {
            Some(Ok(0)) => self.client.handle(now, ClientInput::EndOfStream),
            Some(Ok(_)) => self.client.handle(now, ClientInput::Received(&self.buffer)),
            Some(Err(error)) => return Err(io_failure(&error)),
            None => self.client.handle_timeout(now),
        }
        Ok(())
    }

    async fn shake_hands(&mut self) -> Result<(), Failure> {
        let (Some(setup), Some(Either::Left(stream))) = (&self.setup, self.stream.take()) else {
            let what = "TLS is not set up".to_owned();
            return Err(Failure::Handshake { class: EvidenceClass::Inconclusive, what });
        };
        let handshake = in_time(self.client.next_timeout(), setup.handshake(stream, &self.server_name)).await;
        let now = Instant::now();
        let Some((result, _)) = handshake else {
            self.client.handle_timeout(now);
            return Ok(());
        };
        let stream = result.map_err(|failure| Failure::Handshake { class: failure.class, what: failure.what })?;
        self.stream = Some(Either::Right(stream));
        self.client.handle(now, ClientInput::TlsEstablished);
        Ok(())
    }
}

/// The command's verb, for messages.
fn verb(command: &str) -> &'static str {
    ["MAIL", "RCPT", "DATA"].into_iter().find(|verb| command.starts_with(verb)).unwrap_or("command")
}

/// Awaits I/O, but not beyond the deadline.
async fn in_time<T>(deadline: Option<Instant>, io: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), io).await.ok(),
        None => Some(io.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nothing_connects_to_are_left_out_and_told_if_none_is_left() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let usual = DialGuard::default();
        // Services have any port, and addresses of the cluster.
        let open = addresses(&["192.0.2.7:25", "10.96.0.9:8025"]);
        assert_eq!(admitted(&usual, open.clone()), Ok(open));
        let mixed = addresses(&["127.0.0.1:25", "192.0.2.7:25", "169.254.169.254:25"]);
        assert_eq!(admitted(&usual, mixed), Ok(addresses(&["192.0.2.7:25"])));
        assert_eq!(admitted(&usual, vec![]), Ok(vec![]));
        for refused in ["127.0.0.1:25", "169.254.169.254:25", "[::1]:25", "[64:ff9b::a9fe:a9fe]:25"] {
            assert!(admitted(&usual, addresses(&[refused])).is_err(), "{refused}");
        }
        let allowing = DialGuard { allow_destinations: vec!["127.0.0.0/8".parse().unwrap()], ..DialGuard::default() };
        assert_eq!(admitted(&allowing, addresses(&["127.0.0.1:2525"])), Ok(addresses(&["127.0.0.1:2525"])));
    }
}
