//! The server's side of a connection with an application (RFC 5321, RFC 3207, RFC 4954), without I/O.
//!
//! A driver feeds [`SessionInput`]s and carries out the [`SessionAction`]s of [`Session::poll`] until there are none.
//! Commands are taken one after the other, so replies to pipelined ones keep their order (RFC 2920). While an action
//! waits for its result nothing more is read.

mod auth;
mod commands;
mod message;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use mail_failover_core::model::Login;

use super::answer::Answer;
use super::capabilities::Capabilities;
use super::command::MailCommand;
use super::content::{ContentFault, ContentReader};
use super::route_mark::RouteMark;
use super::transaction::{Evidence, Operation, OperationResult, Transaction, TransactionBounds, TransactionInput, Way};

/// Most commands that the server does not understand or refuses for their form, since the last accepted message.
const MAX_ERRORS: u32 = 20;
/// Most refused logins.
const MAX_LOGINS: u32 = 3;
/// Most commands without a message between them.
const MAX_IDLE_COMMANDS: u32 = 200;
/// First words of other protocols, which a browser could be made to speak to us.
const FOREIGN_VERBS: [&[u8]; 5] = [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"CONNECT "];

/// Settings of all sessions.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Our name.
    pub hostname: Arc<str>,
    /// True if there is a certificate for STARTTLS.
    pub has_certificate: bool,
    /// True if no mail is taken without TLS.
    pub requires_tls: bool,
    /// True if applications can log in.
    pub has_logins: bool,
    /// True if they may do so without TLS.
    pub login_without_tls: bool,
    /// Most octets of a message.
    pub max_message: u64,
    /// Most recipients of a message.
    pub max_recipients: usize,
    /// Bounds of a transaction.
    pub bounds: TransactionBounds,
}

/// Event of a session.
#[derive(Debug)]
pub enum SessionInput<'a> {
    /// The application has sent bytes.
    Received(&'a [u8]),
    /// The handshake after [`SessionAction::StartTls`] is complete.
    TlsEstablished,
    /// The ways of the message after [`SessionAction::Plan`], or the reason why there is none.
    Planned(Result<Vec<Way>, Answer>),
    /// The login after [`SessionAction::CheckLogin`] is right, or is not.
    LoginChecked(bool),
    /// The operation is over.
    Performed(OperationResult),
    /// The content up to [`SessionAction::EndContent`] is kept, with a header of ours of so many octets, or it could not
    /// be kept.
    ContentKept(Result<u64, Answer>),
    /// Another message waits for the backend's connection, which this one has while its application is silent.
    ConnectionWanted,
    /// The server ends: nothing new begins.
    Drain,
}

/// Work for the driver.
#[derive(Debug, PartialEq)]
pub enum SessionAction {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Do a TLS handshake.
    StartTls,
    /// Check this login.
    CheckLogin(SubmittedLogin),
    /// Choose the ways of a message from a sender of this domain.
    Plan {
        /// Domain in lower case; `None` for the null sender.
        domain: Option<String>,
    },
    /// Work on a connection to a backend.
    Perform {
        /// The work.
        operation: Operation,
        /// Time at which it has failed.
        deadline: Instant,
    },
    /// Give that connection back.
    Release {
        /// True if the server waits for a command.
        is_in_step: bool,
    },
    /// Tell breakers, metrics and reports.
    Evidence(Evidence),
    /// Make room for the content of a message.
    BeginContent,
    /// Keep this part of it, dot-stuffed.
    Store(Vec<u8>),
    /// The content is whole: say if it is kept.
    EndContent,
    /// Forget the content.
    DropContent,
    /// Note the end of a transaction.
    Ended(TransactionEnd),
    /// Note that something was refused before any backend.
    Rejected(Rejection),
    /// Close the connection.
    Close,
}

/// A login as an application has sent it. Not printable.
#[derive(PartialEq, Eq)]
pub struct SubmittedLogin(pub Login);

impl std::fmt::Debug for SubmittedLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SubmittedLogin")
    }
}

/// Reason for which something was refused before any backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The client may not send.
    Client,
    /// A login is wrong.
    Login,
    /// A line ends with something else than CRLF.
    LineEnd,
    /// A line is too long.
    LineTooLong,
    /// Bytes follow STARTTLS.
    StartTls,
    /// Another protocol, or too many commands that are none.
    Protocol,
    /// A load balancer does not say whose connection it passes on.
    ProxyHeader,
    /// The form of a message.
    Content(ContentFault),
}

impl Rejection {
    /// A name for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Login => "login",
            Self::LineEnd => "line_end",
            Self::LineTooLong => "line_too_long",
            Self::StartTls => "bytes_after_starttls",
            Self::Protocol => "protocol",
            Self::ProxyHeader => "proxy_header",
            Self::Content(fault) => fault.as_str(),
        }
    }
}

/// End of a transaction, for the access log.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionEnd {
    /// Backend that gave the last answer; `None` if none was asked.
    pub backend: Option<Arc<str>>,
    /// Answer to the application; `None` if it has left or reset.
    pub answer: Option<Answer>,
    /// Path of the sender.
    pub sender: String,
    /// Paths of recipients that were accepted.
    pub recipients: Vec<String>,
    /// Octets of the content.
    pub size: u64,
    /// Time of MAIL.
    pub since: Instant,
    /// Number of backends that were tried.
    pub attempts: u32,
}

/// State of the dialogue.
#[derive(Debug)]
enum State {
    Command,
    /// The response to 334 of this mechanism. For LOGIN with the user name, once it is known.
    AuthResponse(AuthStep),
    Content,
    /// The octets that follow BDAT.
    Chunk(Chunk),
    /// The result of an action.
    Waiting,
    /// The end: the rest is sent, and the connection closed.
    Closing,
    Closed,
}

/// Octets of content that have been announced.
#[derive(Debug)]
struct Chunk {
    octets: u64,
    left: u64,
    is_last: bool,
    /// Answer that they get whatever they are.
    refusal: Option<Answer>,
}

#[derive(Debug)]
enum AuthStep {
    Plain,
    Username,
    Password(String),
}

/// A session; the module describes it.
#[derive(Debug)]
pub struct Session {
    settings: Arc<SessionSettings>,
    offered: Capabilities,
    route: Option<RouteMark>,
    state: State,
    is_encrypted: bool,
    is_allowed: bool,
    is_draining: bool,
    hello: Option<(bool, String)>,
    user: Option<String>,
    input: Vec<u8>,
    /// Octets of `input` that are used up.
    used: usize,
    output: Vec<u8>,
    actions: VecDeque<SessionAction>,
    transaction: Option<Transaction>,
    mail: Option<MailCommand>,
    begun_at: Option<Instant>,
    recipients: Vec<String>,
    pending_recipient: Option<String>,
    content: Option<ContentReader>,
    attempts: u32,
    errors: u32,
    logins: u32,
    idle_commands: u32,
    /// Recipients of the present message that were refused.
    refused: u32,
}

impl Session {
    /// Begins a session with a client that may send without a login if it `is_allowed`. With implicit TLS it
    /// `is_encrypted` from the beginning.
    pub fn new(settings: Arc<SessionSettings>, is_allowed: bool, is_encrypted: bool) -> Self {
        let mut session = Self {
            settings,
            offered: Capabilities::default(),
            route: None,
            state: State::Command,
            is_encrypted,
            is_allowed,
            is_draining: false,
            hello: None,
            user: None,
            input: vec![],
            used: 0,
            output: vec![],
            actions: VecDeque::new(),
            transaction: None,
            mail: None,
            begun_at: None,
            recipients: vec![],
            pending_recipient: None,
            content: None,
            attempts: 0,
            errors: 0,
            logins: 0,
            idle_commands: 0,
            refused: 0,
        };
        if is_allowed || session.settings.has_logins {
            let greeting = format!("{} ESMTP mail-failover relay", session.settings.hostname);
            session.say(220, &greeting);
        } else {
            // RFC 5321 §3.1: no service here.
            session.say(554, "5.7.1 this client may not send mail here");
            session.actions.push_back(SessionAction::Rejected(Rejection::Client));
            session.state = State::Closing;
        }
        session
    }

    /// Sets what EHLO offers from now on, and the route that it names.
    pub fn offer(&mut self, offered: Capabilities, route: Option<RouteMark>) {
        self.offered = offered;
        self.route = route;
    }

    /// True while a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// True while the content of a message is read.
    pub fn is_in_content(&self) -> bool {
        matches!(self.state, State::Content | State::Chunk(_))
    }

    /// True if the session waits for bytes of the application, and not for anything of ours.
    pub fn awaits_client(&self) -> bool {
        matches!(self.state, State::Command | State::AuthResponse(_) | State::Content | State::Chunk(_))
    }

    /// Octets of the application that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.unread().len()
    }

    /// Name of the user that has logged in.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Name that the application gives itself, and true if it knows extensions (EHLO).
    pub fn client_name(&self) -> Option<(&str, bool)> {
        self.hello.as_ref().map(|(is_extended, name)| (name.as_str(), *is_extended))
    }

    /// True if the present message uses SMTPUTF8.
    pub fn uses_utf8(&self) -> bool {
        self.transaction.as_ref().is_some_and(Transaction::uses_utf8)
    }

    /// True inside TLS.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Ends the session because the application is gone.
    pub fn hang_up(&mut self, now: Instant) {
        self.end_transaction(now, None);
        self.state = State::Closed;
    }

    /// Ends the session with this answer: the application was silent for too long, or has to give its place.
    pub fn close_with(&mut self, now: Instant, text: &str) {
        self.say(421, text);
        self.end_transaction(now, None);
        self.state = State::Closing;
    }

    /// Takes an event.
    pub fn handle(&mut self, now: Instant, input: SessionInput<'_>) {
        match input {
            SessionInput::Received(bytes) => {
                if !matches!(self.state, State::Closing | State::Closed) {
                    self.input.extend_from_slice(bytes);
                }
            }
            SessionInput::TlsEstablished => {
                self.is_encrypted = true;
                self.state = State::Command;
                // RFC 3207 §4.2: what was known before is forgotten.
                self.hello = None;
                self.user = None;
            }
            SessionInput::Planned(planned) => self.planned(now, planned),
            SessionInput::LoginChecked(is_right) => self.login_checked(is_right),
            SessionInput::Performed(result) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.handle(now, TransactionInput::Done(result));
                }
                self.take_transaction_actions(now);
            }
            SessionInput::ContentKept(Ok(trace)) => {
                let size = self.content.as_ref().map_or(0, ContentReader::size) + trace;
                if let Some(transaction) = &mut self.transaction {
                    transaction.handle(now, TransactionInput::Content(size));
                }
                self.take_transaction_actions(now);
            }
            SessionInput::ContentKept(Err(answer)) => self.refuse_content(now, answer),
            SessionInput::ConnectionWanted => self.yield_connection(),
            SessionInput::Drain => {
                self.is_draining = true;
            }
        }
    }

    /// The next action. `None` if an event must be waited for.
    pub fn poll(&mut self, now: Instant) -> Option<SessionAction> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                if self.output.is_empty() || !waits(&action) {
                    return Some(action);
                }
                self.actions.push_front(action);
                return self.flush();
            }
            let has_advanced = match self.state {
                State::Command => self.take_command(now),
                State::AuthResponse(_) => self.take_auth_response(now),
                State::Content => self.take_content(now),
                State::Chunk(_) => self.take_chunk(now),
                State::Closing if self.output.is_empty() => {
                    self.state = State::Closed;
                    return Some(SessionAction::Close);
                }
                State::Waiting | State::Closing | State::Closed => false,
            };
            if !has_advanced {
                self.forget_used_input();
                return self.flush();
            }
        }
    }

    fn flush(&mut self) -> Option<SessionAction> {
        (!self.output.is_empty()).then(|| SessionAction::Send(std::mem::take(&mut self.output)))
    }

    fn unread(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    fn forget_used_input(&mut self) {
        if self.used >= self.input.len() {
            // Ten thousand idle connections keep no buffers.
            self.input = vec![];
        } else {
            self.input.drain(..self.used);
        }
        self.used = 0;
    }

    fn say(&mut self, code: u16, text: &str) {
        Answer::own(code, text).encode(&mut self.output);
    }

    fn tell(&mut self, answer: &Answer) {
        answer.encode(&mut self.output);
    }

    fn reject(&mut self, now: Instant, rejection: Rejection, text: &str) {
        self.actions.push_back(SessionAction::Rejected(rejection));
        self.close_with(now, text);
    }

    /// Takes the next line without its end. `None` if it has not come whole, or ends the session.
    fn take_line(&mut self, now: Instant, limit: usize) -> Option<Vec<u8>> {
        let unread = self.unread();
        let end = unread.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(unread.len()) >= limit {
            self.reject(now, Rejection::LineTooLong, "4.5.2 the line is too long");
            return None;
        }
        let line = unread.get(..end?).unwrap_or_default();
        let line = match line.strip_suffix(b"\r") {
            Some(line) if !line.iter().any(|byte| matches!(byte, b'\r' | 0)) => line.to_vec(),
            // Another server would see other commands in it.
            Some(_) | None => {
                self.reject(now, Rejection::LineEnd, "4.5.2 a bare CR or LF, or a NUL; end each line with CRLF");
                return None;
            }
        };
        self.used += line.len() + 2;
        Some(line)
    }
}

/// True for actions before which the application must see its replies: they take long, or nothing follows.
fn waits(action: &SessionAction) -> bool {
    match action {
        SessionAction::StartTls
        | SessionAction::CheckLogin(_)
        | SessionAction::Plan { .. }
        | SessionAction::Perform { .. }
        | SessionAction::Close => true,
        SessionAction::Send(_)
        | SessionAction::Release { .. }
        | SessionAction::Evidence(_)
        | SessionAction::BeginContent
        | SessionAction::Store(_)
        | SessionAction::EndContent
        | SessionAction::DropContent
        | SessionAction::Ended(_)
        | SessionAction::Rejected(_) => false,
    }
}

#[cfg(test)]
mod tests;
