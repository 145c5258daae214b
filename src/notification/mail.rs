//! One mail through one backend: the driver of an `SmtpClient` that goes on to DATA.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::MailRequest;
use crate::leader::{ClaimLost, Leadership};
use crate::probe::{StartError, absolute, admit, dns_client};
use mail_failover_core::model::{Destination, Login, Tls, TlsMode};
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_smtp::client::{
    ClientAction, ClientInput, Goal, SessionError, SessionPlan, SessionTimeouts, SmtpClient,
};
use mail_failover_smtp::login::without;
use mail_failover_smtp::message::bounded;
use mail_failover_smtp::reply::Reply;
use mail_failover_smtp::tls::{TlsSetup, TlsSetupError, TlsSetups};

/// Time limit of a whole call.
const CALL: Duration = Duration::from_mins(1);
/// Time limit of each wait for the server.
const STEP: Duration = Duration::from_secs(20);
/// Most addresses of a backend that are tried in one call.
const MAX_ADDRESSES: usize = 4;
/// Time limit of QUIT and its reply.
const FAREWELL: Duration = Duration::from_secs(2);
/// Octets that are read at once.
const READ: usize = 1024;

/// Sends mails under the leader's claim.
pub(super) struct Mailer {
    dns: TokioResolver,
    ehlo_name: Option<Arc<str>>,
    guard: DialGuard,
    tls: TlsSetups,
    leadership: Leadership,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailer")
    }
}

/// Failure of a mail. No text of it holds a part of a login.
#[derive(Debug, thiserror::Error)]
pub(super) enum MailError {
    /// This replica is not the leader any more.
    #[error(transparent)]
    NotLeader(#[from] ClaimLost),
    /// The name has no address, or DNS does not answer.
    #[error("{0} cannot be resolved: {1}")]
    Unresolved(String, String),
    /// Every address is one that nothing of ours connects to.
    #[error("{0}")]
    Refused(String),
    /// No connection could be made.
    #[error("{address}: {source}")]
    Connect {
        /// The address that was tried last.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The authorities of the backend cannot be used.
    #[error("caRef: {0}")]
    Trust(#[from] TlsSetupError),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("{0}: {1}")]
    Broken(&'static str, io::Error),
    /// The session ended before the final dot.
    #[error("{0}: {1}")]
    Session(&'static str, String),
    /// The server has refused a command or the mail.
    #[error("{stage}: {line}")]
    Reply {
        /// The step that was refused.
        stage: &'static str,
        /// Code of the reply.
        code: u16,
        /// The reply, without any part of a login.
        line: String,
    },
    /// The session ended after the final dot: the mail may have been taken.
    #[error("after the final dot: {0}")]
    Doubtful(String),
    /// All took too long.
    #[error("no answer within {:.0} s", CALL.as_secs_f64())]
    Timeout,
}

impl MailError {
    /// The label of this error in metrics.
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "not_leader",
            Self::Unresolved(..) => "unresolved",
            Self::Refused(_) => "refused_destination",
            Self::Connect { .. } | Self::Broken(..) => "unreachable",
            Self::Trust(_) | Self::Tls(_) => "tls",
            Self::Session(..) | Self::Reply { .. } | Self::Doubtful(_) => "smtp",
            Self::Timeout => "timeout",
        }
    }

    /// Returns true if the server does not take this mail as it is.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Reply { stage: "RCPT" | "DATA", code: 500..=599, .. })
    }

    /// Returns true if the mail may have been taken all the same.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Doubtful(_) | Self::Timeout)
    }
}

type SmtpStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection under way.
struct MailSession {
    client: SmtpClient,
    /// `None` while it is handed to the handshake, and after that has failed.
    stream: Option<SmtpStream>,
    setup: Option<Arc<TlsSetup>>,
    server_name: Arc<str>,
    login: Option<Login>,
    buffer: Vec<u8>,
}

impl Mailer {
    pub(super) fn new(
        dns_servers: &[SocketAddr],
        ehlo_name: Option<String>,
        guard: DialGuard,
        leadership: Leadership,
    ) -> Result<Self, StartError> {
        let dns = dns_client(dns_servers)?;
        Ok(Self { dns, ehlo_name: ehlo_name.map(Into::into), guard, tls: TlsSetups::default(), leadership })
    }

    /// Sends a mail.
    pub(super) async fn send(&self, request: &MailRequest) -> Result<(), MailError> {
        let claim = self.leadership.claim().ok_or(ClaimLost)?;
        claim.guard(timeout(CALL, self.deliver(request))).await?.unwrap_or(Err(MailError::Timeout))
    }

    async fn deliver(&self, request: &MailRequest) -> Result<(), MailError> {
        let addresses = self.addresses(&request.destination).await?;
        let mut failed = None;
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            match self.session(request, address, request.tls.mode).await {
                // Encryption without authentication is better than nothing, and nothing better than no mail (RFC 7435).
                Err(MailError::Tls(_)) if request.tls.mode == TlsMode::Opportunistic => {
                    return self.session(request, address, TlsMode::None).await;
                }
                Err(error @ MailError::Connect { .. }) => failed = Some(error),
                result => return result,
            }
        }
        let host = destination_name(&request.destination);
        Err(failed.unwrap_or_else(|| MailError::Unresolved(host, "it has no address".to_owned())))
    }

    async fn session(&self, request: &MailRequest, address: SocketAddr, mode: TlsMode) -> Result<(), MailError> {
        let plan = SessionPlan {
            ehlo_name: self.ehlo_name.clone(),
            tls: mode,
            goal: Goal::Transaction {
                login: request.login.clone(),
                sender: request.from.clone(),
                recipient: request.to.first().cloned(),
            },
            timeouts: SessionTimeouts { session: CALL, connection: STEP, step: STEP },
        };
        let tls = Tls { mode, ..request.tls.clone() };
        let mut session = MailSession {
            client: SmtpClient::new(Instant::now(), plan),
            stream: None,
            setup: self.tls.setup(&tls)?,
            server_name: tls.server_name,
            login: request.login.clone(),
            buffer: vec![],
        };
        let result = session.carry(request, address).await;
        session.quit().await;
        result
    }

    /// The addresses of a backend that may be connected to, looked up and checked anew for each mail.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<SocketAddr>, MailError> {
        let addresses = match destination {
            Destination::Service(service) => service.endpoints.clone(),
            Destination::Host(host) => {
                let addresses = match host.host.parse::<IpAddr>() {
                    Ok(address) => vec![address],
                    Err(_) => self.look_up(&host.host).await?,
                };
                addresses.into_iter().map(|address| SocketAddr::new(address, host.port)).collect()
            }
        };
        let admitted = admit(&self.guard, destination, &addresses);
        match admitted.refusal() {
            Some(refusal) => Err(MailError::Refused(refusal)),
            None => Ok(admitted.addresses),
        }
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, MailError> {
        let unresolved = |why: &str| MailError::Unresolved(bounded(host, 100), bounded(why, 150));
        let name = absolute(host).ok_or_else(|| unresolved("it is no DNS name"))?;
        let (v4, v6) =
            tokio::join!(self.dns.lookup(name.clone(), RecordType::A), self.dns.lookup(name, RecordType::AAAA));
        let mut addresses = vec![];
        for answer in [v4, v6].into_iter().flatten() {
            addresses.extend(answer.answers().iter().filter_map(|record| record.data.ip_addr()));
        }
        if addresses.is_empty() { Err(unresolved("it has no address, or DNS is silent")) } else { Ok(addresses) }
    }
}

fn destination_name(destination: &Destination) -> String {
    match destination {
        Destination::Host(host) => host.host.to_string(),
        Destination::Service(service) => service.dns_name.to_string(),
    }
}

impl MailSession {
    async fn carry(&mut self, request: &MailRequest, address: SocketAddr) -> Result<(), MailError> {
        match timeout(STEP, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let local = stream.local_addr().map_err(|source| MailError::Connect { address, source })?.ip();
                // Commands are single small writes.
                let _ = stream.set_nodelay(true);
                self.stream = Some(Either::Left(stream));
                self.client.handle(Instant::now(), ClientInput::Connected { local });
            }
            Ok(Err(source)) => return Err(MailError::Connect { address, source }),
            Err(_elapsed) => return Err(MailError::Connect { address, source: io::ErrorKind::TimedOut.into() }),
        }
        // Up to the first recipient.
        self.run().await?;
        for recipient in request.to.iter().skip(1) {
            let reply = self.command(&format!("RCPT TO:<{recipient}>")).await?;
            self.expect("RCPT", &reply, |code| matches!(code, 250 | 251))?;
        }
        let reply = self.command("DATA").await?;
        self.expect("DATA", &reply, |code| code == 354)?;
        self.send(&stuffed(&request.mail)).await?;
        // From here on the server may have taken it.
        let sent = match self.send(b".\r\n").await {
            Ok(()) => {
                self.client.await_reply(Instant::now(), STEP);
                self.run().await
            }
            Err(error) => Err(error),
        };
        match sent {
            Ok(Some(reply)) => self.expect("DATA", &reply, |code| code == 250),
            Ok(None) => Err(MailError::Doubtful("no reply".to_owned())),
            Err(error) => Err(MailError::Doubtful(error.to_string())),
        }
    }

    async fn command(&mut self, command: &str) -> Result<Reply, MailError> {
        self.client.command(Instant::now(), command, STEP);
        self.run().await?.ok_or_else(|| MailError::Session(self.stage(), "no reply".to_owned()))
    }

    fn expect(&self, stage: &'static str, reply: &Reply, is_expected: impl Fn(u16) -> bool) -> Result<(), MailError> {
        if is_expected(reply.code) { Ok(()) } else { Err(self.refused(stage, reply)) }
    }

    fn refused(&self, stage: &'static str, reply: &Reply) -> MailError {
        MailError::Reply { stage, code: reply.code, line: self.hidden(&reply.line()) }
    }

    /// A text from the server without any part of the login.
    fn hidden(&self, text: &str) -> String {
        let text = self.login.as_ref().map_or_else(|| text.to_owned(), |login| without(login, text));
        bounded(&text, 250)
    }

    fn stage(&self) -> &'static str {
        self.client.stage().as_str()
    }

    /// Carries out the client's actions until it has finished.
    async fn run(&mut self) -> Result<Option<Reply>, MailError> {
        loop {
            match self.client.poll() {
                Some(ClientAction::Send(bytes)) => self.send(&bytes).await?,
                Some(ClientAction::StartTls) => self.shake_hands().await?,
                Some(ClientAction::Finished(Ok(reply))) => return Ok(reply),
                Some(ClientAction::Finished(Err(SessionError::Refused(reply)))) => {
                    let stage = self.stage();
                    // A refusal of the recipient is one of this mail; any other is one of us.
                    let stage =
                        if stage == mail_failover_core::model::Stage::Recipient.as_str() { "RCPT" } else { stage };
                    return Err(self.refused(stage, &reply));
                }
                Some(ClientAction::Finished(Err(error))) => {
                    return Err(MailError::Session(self.stage(), self.hidden(&error.to_string())));
                }
                None => self.receive().await?,
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), MailError> {
        let stage = self.stage();
        let Some(stream) = &mut self.stream else { return Err(MailError::Session(stage, "closed".to_owned())) };
        let sent = timeout(STEP, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        let sent = sent.await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        sent.map_err(|error| MailError::Broken(stage, error))
    }

    async fn receive(&mut self) -> Result<(), MailError> {
        let stage = self.stage();
        let Some(stream) = &mut self.stream else { return Err(MailError::Session(stage, "closed".to_owned())) };
        self.buffer.clear();
        self.buffer.reserve(READ);
        let deadline = self.client.next_timeout().unwrap_or_else(|| Instant::now() + STEP);
        let received = timeout_at(deadline.into(), stream.read_buf(&mut self.buffer)).await;
        let now = Instant::now();
        match received {
            Ok(Ok(0)) => self.client.handle(now, ClientInput::EndOfStream),
            Ok(Ok(_)) => self.client.handle(now, ClientInput::Received(&self.buffer)),
            Ok(Err(error)) => return Err(MailError::Broken(stage, error)),
            Err(_elapsed) => self.client.handle_timeout(now),
        }
        Ok(())
    }

    async fn shake_hands(&mut self) -> Result<(), MailError> {
        let (Some(setup), Some(Either::Left(stream))) = (&self.setup, self.stream.take()) else {
            return Err(MailError::Tls("it is not set up".to_owned()));
        };
        let handshake = timeout(STEP, setup.handshake(stream, &self.server_name)).await;
        let Ok((result, _)) = handshake else { return Err(MailError::Tls("no answer in time".to_owned())) };
        let stream = result.map_err(|failure| MailError::Tls(bounded(&failure.what, 200)))?;
        self.stream = Some(Either::Right(stream));
        self.client.handle(Instant::now(), ClientInput::TlsEstablished);
        Ok(())
    }

    /// Sends QUIT to a server that waits for a command. No error matters.
    async fn quit(mut self) {
        if self.client.owes_quit() {
            self.client.quit(Instant::now());
            let _ = timeout(FAREWELL, self.run()).await;
        }
    }
}

/// The mail with a dot more where a line begins with one (RFC 5321 §4.5.2).
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(mail.len() + 16);
    let mut is_at_start = true;
    for byte in mail {
        if is_at_start && *byte == b'.' {
            stuffed.push(b'.');
        }
        stuffed.push(*byte);
        is_at_start = *byte == b'\n';
    }
    stuffed
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
