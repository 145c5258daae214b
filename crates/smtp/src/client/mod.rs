//! SMTP client as a state machine without I/O (RFC 5321, RFC 3207, RFC 4954), in the manner of quinn-proto.
//!
//! A driver owns the connection and the clock. It feeds [`ClientInput`]s, carries out the [`ClientAction`]s of
//! [`SmtpClient::poll`] until there are none, and then waits for the peer, but not beyond [`SmtpClient::next_timeout`]:
//!
//! ```text
//! connected, bytes, TLS established, end of stream ─▶ handle ─▶ poll ─▶ send, start TLS, finished
//! next_timeout has passed ─▶ handle_timeout ─┘
//! ```
//!
//! A session goes from the connection to its [`Goal`] and ends there with the last reply, or earlier with a
//! [`SessionError`]. After that [`SmtpClient::command`] goes on with a peer that waits for a command, and
//! [`SmtpClient::quit`] sends QUIT to it. This module never judges the meaning of a reply, and never sends a command
//! before the reply to the previous one.

mod commands;
mod error;
mod plan;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::login::Mechanism;
use super::reply::{Reply, ReplyError, ReplyReader};
use error::whole_millis;
pub use error::{BegunReply, SessionError, lateness};
use mail_failover_core::model::{Stage, TlsMode};
pub use plan::{Goal, SessionPlan, SessionTimeouts, address_literal};

/// Bound on RSET, QUIT and their replies together.
pub const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Octets of a reply's code.
const CODE: usize = 3;

/// Event that the driver feeds into a session.
#[derive(Clone, Copy, Debug)]
pub enum ClientInput<'a> {
    /// The TCP connection is there.
    Connected {
        /// Our own address on the connection.
        local: IpAddr,
    },
    /// The TLS handshake after [`ClientAction::StartTls`] is complete.
    TlsEstablished,
    /// The peer has sent bytes: inside TLS after the handshake, in plain text before.
    Received(&'a [u8]),
    /// The peer has closed its side of the connection.
    EndOfStream,
}

/// Work for the driver. Not printable, because the bytes can contain a login.
pub enum ClientAction {
    /// Send these bytes to the peer.
    Send(Vec<u8>),
    /// Do a TLS handshake on the connection.
    StartTls,
    /// The session has ended with the reply to its last command (`None` for [`Goal::Connection`]), or with an error.
    Finished(Result<Option<Reply>, SessionError>),
}

/// Event that a session waits for.
#[derive(Clone, Copy)]
enum ClientState {
    Connecting,
    TlsHandshake,
    Reply(Awaited),
    /// Nothing: the session has ended before the greeting. QUIT is owed after that.
    // A client that speaks first is taken for a spammer.
    Ungreeted,
    /// Nothing: the session has ended, and the peer waits for a command.
    Idle,
    /// Nothing: the session has ended, and the peer expects no command.
    Closed,
}

/// Reply that a session waits for.
#[derive(Clone, Copy)]
enum Awaited {
    Greeting,
    /// The greeting after the end of a session whose goal was the connection.
    LateGreeting,
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Mail,
    Recipient,
    /// The reply to a command after the end of the session.
    Further,
    Reset,
    Quit,
}

/// An SMTP session from the client's side.
pub struct SmtpClient {
    plan: SessionPlan,
    state: ClientState,
    stage: Stage,
    /// Our name in EHLO, once it is known.
    ehlo_name: Arc<str>,
    /// Answer to EHLO while STARTTLS is asked for.
    hello: Option<Reply>,
    /// Latest answer to EHLO, or the first line of one to HELO.
    extensions: Option<Reply>,
    /// Reply that refused STARTTLS, where the session went on without it.
    refused_tls: Option<Reply>,
    /// Lines of AUTH that are still to be sent.
    auth_lines: std::vec::IntoIter<String>,
    /// True while a mail transaction is open.
    in_transaction: bool,
    reader: ReplyReader,
    session_deadline: Option<Instant>,
    /// Deadline of the present step by itself.
    step_deadline: Option<Instant>,
    /// Bound that the deadline of the present step comes from.
    step_bound: Duration,
    /// Bytes that the driver has not taken yet.
    unsent: Vec<u8>,
    /// Action that comes after the unsent bytes.
    next_action: Option<ClientAction>,
}

impl SmtpClient {
    /// Creates a session whose driver opens the connection now.
    pub fn new(now: Instant, plan: SessionPlan) -> Self {
        Self {
            state: ClientState::Connecting,
            stage: Stage::Connect,
            ehlo_name: Arc::default(),
            hello: None,
            extensions: None,
            refused_tls: None,
            auth_lines: vec![].into_iter(),
            in_transaction: false,
            reader: ReplyReader::default(),
            session_deadline: now.checked_add(plan.timeouts.session),
            step_deadline: now.checked_add(plan.timeouts.connection),
            step_bound: plan.timeouts.connection,
            unsent: vec![],
            next_action: None,
            plan,
        }
    }

    /// The stage that the session is in, or in which it ended.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The reply that refused STARTTLS, if the session went on without TLS.
    pub fn refused_tls(&self) -> Option<&Reply> {
        self.refused_tls.as_ref()
    }

    /// Returns true if the session has ended and the peer waits for a command, or will after its
    /// greeting: QUIT is owed.
    pub fn owes_quit(&self) -> bool {
        matches!(self.state, ClientState::Idle | ClientState::Ungreeted)
    }

    /// Handles an event. An ended session ignores it.
    pub fn handle(&mut self, now: Instant, input: ClientInput<'_>) {
        if let ClientState::Ungreeted | ClientState::Idle | ClientState::Closed = self.state {
            return;
        }
        let result = match (input, self.state) {
            (ClientInput::Connected { local }, ClientState::Connecting) => {
                self.handle_connected(now, local);
                Ok(())
            }
            (ClientInput::TlsEstablished, ClientState::TlsHandshake) => {
                self.handle_tls_established(now);
                Ok(())
            }
            // Out of turn, by a mistake of the driver.
            (ClientInput::Connected { .. } | ClientInput::TlsEstablished, _) => Ok(()),
            (ClientInput::Received(bytes), _) => self.handle_received(now, bytes),
            (ClientInput::EndOfStream, _) => {
                Err(self.begun().map_or(SessionError::Closed, SessionError::ClosedWithinReply))
            }
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    /// Ends a session whose deadline has passed. Does nothing before that.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(deadline) = self.next_timeout().filter(|deadline| *deadline <= now) else { return };
        let is_step = self.step_deadline == Some(deadline);
        let bound = if is_step { self.step_bound } else { self.plan.timeouts.session };
        self.fail(match lateness(bound, deadline, now) {
            Some(late) => SessionError::Starved { bound, late: whole_millis(late) },
            None => SessionError::Timeout { bound, begun: self.begun() },
        });
    }

    /// The part of a reply that has come.
    fn begun(&self) -> Option<BegunReply> {
        let ClientState::Reply(awaited) = self.state else { return None };
        let is_greeting = matches!(awaited, Awaited::Greeting);
        let kind = if is_greeting { "greeting" } else { "reply" };
        // A server quotes the login that it refuses. A piece of it would not be recognised as one.
        let is_whole = self.stage < Stage::Auth;
        let text = self.reader.begun(is_whole)?;
        // Before a whole code nobody knows if this is SMTP.
        (!is_greeting || text.len() > CODE).then_some(BegunReply { kind, text })
    }

    /// The deadline of the present step. `None` if the session has ended, or if its timeouts are beyond any `Instant`.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            ClientState::Connecting | ClientState::TlsHandshake | ClientState::Reply(_) => {
                self.session_deadline.into_iter().chain(self.step_deadline).min()
            }
            ClientState::Ungreeted | ClientState::Idle | ClientState::Closed => None,
        }
    }

    /// The next action. `None` if the next event must be waited for.
    pub fn poll(&mut self) -> Option<ClientAction> {
        if self.unsent.is_empty() {
            return self.next_action.take();
        }
        Some(ClientAction::Send(std::mem::take(&mut self.unsent)))
    }

    /// Sends QUIT to a peer that waits for a command, after its greeting where that has not come,
    /// and RSET before it if a mail transaction is open.
    pub fn quit(&mut self, now: Instant) {
        match self.state {
            ClientState::Ungreeted => {
                self.session_deadline = None;
                self.wait(now, ClientState::Reply(Awaited::LateGreeting));
            }
            ClientState::Idle => {
                self.session_deadline = now.checked_add(QUIT_TIMEOUT);
                if self.in_transaction {
                    self.send(now, Awaited::Reset, "RSET\r\n");
                } else {
                    self.send(now, Awaited::Quit, "QUIT\r\n");
                }
            }
            ClientState::Connecting | ClientState::TlsHandshake | ClientState::Reply(_) | ClientState::Closed => {}
        }
    }

    fn handle_connected(&mut self, now: Instant, local: IpAddr) {
        self.ehlo_name = self.plan.ehlo_name.clone().unwrap_or_else(|| address_literal(local).into());
        if let Goal::Connection = self.plan.goal {
            // With implicit TLS the peer waits for a handshake, and there is nothing to say.
            let is_greeted = self.plan.tls != TlsMode::Implicit;
            self.state = if is_greeted { ClientState::Ungreeted } else { ClientState::Closed };
            self.next_action = Some(ClientAction::Finished(Ok(None)));
        } else if self.plan.tls == TlsMode::Implicit {
            self.stage = Stage::ImplicitTls;
            self.start_tls(now);
        } else {
            self.await_greeting(now);
        }
    }

    fn handle_tls_established(&mut self, now: Instant) {
        if self.stage == Stage::ImplicitTls {
            self.await_greeting(now);
        } else {
            self.stage = Stage::EhloAfterStartTls;
            self.send_ehlo(now);
        }
    }

    fn handle_received(&mut self, now: Instant, bytes: &[u8]) -> Result<(), SessionError> {
        self.reader.push(bytes);
        while let ClientState::Reply(awaited) = self.state {
            let reply = match (self.reader.next_reply(), awaited) {
                (Err(ReplyError::NoCode(_)), Awaited::Greeting) => {
                    return Err(SessionError::NotSmtp { octets: self.reader.octets() });
                }
                (reply, _) => reply?,
            };
            let Some(reply) = reply else { break };
            self.handle_reply(now, awaited, reply)?;
        }
        // Plain text after the go-ahead for TLS would be taken for something said inside TLS (CVE-2011-0411).
        if matches!(self.state, ClientState::TlsHandshake) && self.reader.has_leftover() {
            return Err(SessionError::PlainTextBeforeTls);
        }
        Ok(())
    }

    fn handle_reply(&mut self, now: Instant, awaited: Awaited, reply: Reply) -> Result<(), SessionError> {
        match awaited {
            Awaited::Greeting => {
                let greeting = expect(reply, 220)?;
                if let Goal::Greeting = self.plan.goal {
                    self.finish(greeting);
                } else {
                    self.stage = Stage::Ehlo;
                    self.send_ehlo(now);
                }
            }
            // Whatever it is: the session has ended. After 421 the peer closes.
            Awaited::LateGreeting if reply.code == 421 => {
                self.state = ClientState::Closed;
                self.next_action = Some(ClientAction::Finished(Ok(Some(reply))));
            }
            Awaited::LateGreeting => {
                self.session_deadline = now.checked_add(QUIT_TIMEOUT);
                self.send(now, Awaited::Quit, "QUIT\r\n");
            }
            // RFC 5321 §3.2: a server that knows no extensions is greeted with HELO.
            Awaited::Ehlo if matches!(reply.code, 500 | 502) && self.can_do_without_extensions() => {
                self.send(now, Awaited::Helo, &format!("HELO {}\r\n", self.ehlo_name));
            }
            Awaited::Ehlo | Awaited::Helo => {
                let reply = expect(reply, 250)?;
                let is_helo = matches!(awaited, Awaited::Helo);
                let lines = reply.text.lines().take(if is_helo { 1 } else { usize::MAX });
                let text = lines.collect::<Vec<_>>().join("\n");
                self.extensions = Some(Reply { code: reply.code, text });
                self.handle_extensions(now, reply)?;
            }
            Awaited::StartTls => self.handle_starttls_reply(now, reply)?,
            Awaited::Auth => self.handle_auth_reply(now, reply)?,
            Awaited::Mail => self.handle_sender_accepted(now, expect(reply, 250)?),
            // 251: the server will forward the message (RFC 5321 §4.3.2).
            Awaited::Recipient if reply.code == 251 => self.finish(reply),
            Awaited::Recipient => self.finish(expect(reply, 250)?),
            Awaited::Further => self.handle_further(reply),
            // The session has ended: no reply can change it.
            Awaited::Reset => self.send(now, Awaited::Quit, "QUIT\r\n"),
            Awaited::Quit => {
                self.state = ClientState::Closed;
                self.next_action = Some(ClientAction::Finished(Ok(Some(reply))));
            }
        }
        Ok(())
    }

    /// Goes on after an accepted EHLO or HELO: with STARTTLS, AUTH or MAIL, or to the end of the session.
    fn handle_extensions(&mut self, now: Instant, hello: Reply) -> Result<(), SessionError> {
        if self.stage == Stage::Ehlo && !matches!(self.plan.goal, Goal::Ehlo) {
            let is_offered = hello.offers("STARTTLS");
            let is_wanted = match self.plan.tls {
                TlsMode::None | TlsMode::Implicit => false,
                TlsMode::Opportunistic => is_offered,
                TlsMode::StartTls => true,
            };
            if is_wanted {
                self.stage = Stage::StartTls;
                if !is_offered {
                    return Err(SessionError::StartTlsNotOffered);
                }
                self.send(now, Awaited::StartTls, "STARTTLS\r\n");
                self.hello = Some(hello);
                return Ok(());
            }
        }
        self.go_on(now, hello)
    }

    fn handle_starttls_reply(&mut self, now: Instant, reply: Reply) -> Result<(), SessionError> {
        let hello = self.hello.take();
        // After 421 the peer closes.
        let is_refusal = matches!(reply.code, 400..=599) && reply.code != 421;
        match hello {
            Some(hello) if is_refusal && self.plan.tls == TlsMode::Opportunistic => {
                self.refused_tls = Some(reply);
                self.stage = Stage::Ehlo;
                self.go_on(now, hello)
            }
            Some(_) | None => {
                expect(reply, 220)?;
                self.start_tls(now);
                Ok(())
            }
        }
    }

    /// Goes on after the last EHLO or HELO: with AUTH or MAIL, or to the end of the session.
    fn go_on(&mut self, now: Instant, hello: Reply) -> Result<(), SessionError> {
        match &self.plan.goal {
            Goal::Connection | Goal::Greeting | Goal::Ehlo | Goal::Ready => self.finish(hello),
            Goal::Login(login) | Goal::Transaction { login: Some(login), .. } => {
                self.stage = Stage::Auth;
                self.auth_lines = Mechanism::choose(&hello)?.lines(login).into_iter();
                self.send_auth_line(now);
            }
            Goal::Transaction { login: None, sender, .. } => {
                let sender = sender.clone();
                self.send_mail(now, &sender);
            }
        }
        Ok(())
    }

    fn handle_auth_reply(&mut self, now: Instant, reply: Reply) -> Result<(), SessionError> {
        if !self.auth_lines.as_slice().is_empty() {
            expect(reply, 334)?;
            self.send_auth_line(now);
            return Ok(());
        }
        let reply = expect(reply, 235)?;
        if let Goal::Transaction { sender, .. } = &self.plan.goal {
            let sender = sender.clone();
            self.send_mail(now, &sender);
        } else {
            self.finish(reply);
        }
        Ok(())
    }

    fn handle_sender_accepted(&mut self, now: Instant, reply: Reply) {
        self.in_transaction = true;
        if let Goal::Transaction { recipient: Some(recipient), .. } = &self.plan.goal {
            self.stage = Stage::Recipient;
            let command = format!("RCPT TO:<{recipient}>\r\n");
            self.send(now, Awaited::Recipient, &command);
        } else {
            self.finish(reply);
        }
    }

    /// True if the session can go on after HELO instead of EHLO.
    fn can_do_without_extensions(&self) -> bool {
        let needs_none = match self.plan.tls {
            TlsMode::None | TlsMode::Opportunistic => true,
            TlsMode::StartTls | TlsMode::Implicit => false,
        };
        needs_none && self.stage == Stage::Ehlo
    }

    fn await_greeting(&mut self, now: Instant) {
        self.stage = Stage::Banner;
        self.wait(now, ClientState::Reply(Awaited::Greeting));
    }

    fn start_tls(&mut self, now: Instant) {
        self.next_action = Some(ClientAction::StartTls);
        self.wait(now, ClientState::TlsHandshake);
    }

    fn send_ehlo(&mut self, now: Instant) {
        let command = format!("EHLO {}\r\n", self.ehlo_name);
        self.send(now, Awaited::Ehlo, &command);
    }

    fn send_auth_line(&mut self, now: Instant) {
        if let Some(line) = self.auth_lines.next() {
            self.send(now, Awaited::Auth, &line);
        }
    }

    fn send_mail(&mut self, now: Instant, sender: &str) {
        self.stage = Stage::Mail;
        self.send(now, Awaited::Mail, &format!("MAIL FROM:<{sender}>\r\n"));
    }

    fn send(&mut self, now: Instant, awaited: Awaited, line: &str) {
        self.unsent.extend_from_slice(line.as_bytes());
        self.wait(now, ClientState::Reply(awaited));
    }

    fn wait(&mut self, now: Instant, state: ClientState) {
        self.state = state;
        self.step_bound = self.plan.timeouts.step;
        self.step_deadline = now.checked_add(self.step_bound);
    }

    fn finish(&mut self, reply: Reply) {
        self.state = ClientState::Idle;
        self.next_action = Some(ClientAction::Finished(Ok(Some(reply))));
    }

    fn fail(&mut self, error: SessionError) {
        self.state = if error.leaves_peer_waiting() { ClientState::Idle } else { ClientState::Closed };
        self.next_action = Some(ClientAction::Finished(Err(error)));
    }
}

/// Returns the reply if it has the code that lets the session go on.
fn expect(reply: Reply, code: u16) -> Result<Reply, SessionError> {
    if reply.code == code { Ok(reply) } else { Err(SessionError::Refused(reply)) }
}
