//! The server's side of a connection with an application (RFC 5321, RFC 3207, RFC 4954), without I/O.
//!
//! A driver feeds [`SessionInput`]s and carries out the [`SessionAction`]s of [`Session::poll`] until there are none.
//! Commands are taken one after the other, so replies to pipelined ones keep their order (RFC 2920). While an action
//! waits for its result nothing more is read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_failover_core::model::Login;

use super::answer::Answer;
use super::capabilities::Capabilities;
use super::command::{Command, CommandError, MAX_AUTH_LINE, MAX_COMMAND, MailCommand, RecipientCommand, parse};
use super::content::{ContentFault, ContentReader};
use super::transaction::{
    Evidence, Operation, OperationResult, Transaction, TransactionAction, TransactionBounds, TransactionInput, Way,
};

/// Most commands that the server does not understand or refuses for their form.
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
    /// The result of an action.
    Waiting,
    /// The end: the rest is sent, and the connection closed.
    Closing,
    Closed,
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
}

impl Session {
    /// Begins a session with a client that may send without a login if it `is_allowed`. With implicit TLS it
    /// `is_encrypted` from the beginning.
    pub fn new(settings: Arc<SessionSettings>, is_allowed: bool, is_encrypted: bool) -> Self {
        let mut session = Self {
            settings,
            offered: Capabilities::default(),
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

    /// Sets what EHLO offers from now on.
    pub fn offer(&mut self, offered: Capabilities) {
        self.offered = offered;
    }

    /// True while a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// True while the content of a message is read.
    pub fn is_in_content(&self) -> bool {
        matches!(self.state, State::Content)
    }

    /// True if the session waits for bytes of the application, and not for anything of ours.
    pub fn awaits_client(&self) -> bool {
        matches!(self.state, State::Command | State::AuthResponse(_) | State::Content)
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

    fn take_command(&mut self, now: Instant) -> bool {
        if self.is_draining && self.transaction.is_none() && self.unread().is_empty() {
            self.close_with(now, "4.3.2 the relay is shutting down; try again");
            return true;
        }
        if FOREIGN_VERBS.iter().any(|verb| self.unread().starts_with(verb)) {
            self.reject(now, Rejection::Protocol, "4.7.0 this is SMTP");
            return true;
        }
        let Some(line) = self.take_line(now, MAX_COMMAND) else { return matches!(self.state, State::Closing) };
        if self.is_draining && self.transaction.is_none() {
            self.close_with(now, "4.3.2 the relay is shutting down; try again");
            return true;
        }
        self.idle_commands += 1;
        if self.idle_commands > MAX_IDLE_COMMANDS {
            self.reject(now, Rejection::Protocol, "4.7.0 too many commands without a message");
            return true;
        }
        let has_utf8 = self.transaction.as_ref().is_some_and(Transaction::uses_utf8);
        match parse(&line, has_utf8) {
            Ok(command) => self.command(now, command),
            Err(error) => self.mistake(now, &error),
        }
        true
    }

    fn mistake(&mut self, now: Instant, error: &CommandError) {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            self.reject(now, Rejection::Protocol, "4.7.0 too many errors");
            return;
        }
        let (code, text) = error.reply();
        self.say(code, &text);
    }

    fn out_of_order(&mut self, now: Instant, text: &str) {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            self.reject(now, Rejection::Protocol, "4.7.0 too many errors");
        } else {
            self.say(503, text);
        }
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Ehlo(name) => {
                self.end_transaction(now, None);
                self.hello = Some((true, name));
                let answer = self.extensions();
                self.tell(&answer);
            }
            Command::Helo(name) => {
                self.end_transaction(now, None);
                self.hello = Some((false, name));
                let hostname = self.settings.hostname.clone();
                self.say(250, &hostname);
            }
            Command::StartTls => self.start_tls(now),
            Command::Auth { mechanism, initial } => self.auth(now, &mechanism, initial),
            Command::Mail(mail) => self.mail(now, mail),
            Command::Recipient(recipient) => self.recipient(now, recipient),
            Command::Data => self.data(now),
            Command::Reset => {
                self.end_transaction(now, None);
                self.say(250, "2.0.0 ok");
            }
            Command::Noop => self.say(250, "2.0.0 ok"),
            // RFC 5321 §7.3: nothing is told of who exists.
            Command::Verify => self.say(252, "2.1.5 send it, and see"),
            Command::Help => self.say(214, "2.0.0 see RFC 5321"),
            Command::Quit => {
                self.end_transaction(now, None);
                self.say(221, "2.0.0 bye");
                self.state = State::Closing;
            }
        }
    }

    fn extensions(&self) -> Answer {
        let mut lines = vec![self.settings.hostname.to_string(), "PIPELINING".to_owned()];
        let limit = match self.offered.size {
            Some(0) | None => self.settings.max_message,
            Some(limit) => limit.min(self.settings.max_message),
        };
        lines.push(format!("SIZE {limit}"));
        let optional = [
            (self.offered.eight_bit, "8BITMIME"),
            (self.offered.utf8, "SMTPUTF8"),
            (self.offered.notifications, "DSN"),
            (self.offered.enhanced_codes, "ENHANCEDSTATUSCODES"),
            (self.settings.has_certificate && !self.is_encrypted, "STARTTLS"),
            (self.offers_login(), "AUTH PLAIN LOGIN"),
        ];
        lines.extend(optional.iter().filter(|(is_offered, _)| *is_offered).map(|(_, line)| (*line).to_owned()));
        Answer { code: 250, text: lines.join("\n") }
    }

    fn offers_login(&self) -> bool {
        self.settings.has_logins && (self.is_encrypted || self.settings.login_without_tls)
    }

    fn start_tls(&mut self, now: Instant) {
        if self.is_encrypted || !self.settings.has_certificate {
            self.out_of_order(now, "5.5.1 there is no STARTTLS now");
        } else if !self.unread().is_empty() {
            // What was sent in the clear would be taken for something said inside TLS (CVE-2011-0411).
            self.reject(now, Rejection::StartTls, "4.5.1 nothing may follow STARTTLS before the handshake");
        } else {
            self.end_transaction(now, None);
            self.say(220, "2.0.0 go ahead");
            self.actions.push_back(SessionAction::StartTls);
            self.state = State::Waiting;
        }
    }

    fn auth(&mut self, now: Instant, mechanism: &str, initial: Option<String>) {
        if !self.offers_login() {
            let text =
                if self.settings.has_logins { "5.7.11 a login needs TLS" } else { "5.5.1 there are no logins here" };
            self.errors += 1;
            self.say(if self.settings.has_logins { 538 } else { 502 }, text);
        } else if self.hello.is_none() || self.user.is_some() || self.transaction.is_some() {
            self.out_of_order(now, "5.5.1 AUTH comes once, after EHLO and before MAIL");
        } else {
            match (mechanism, initial) {
                ("PLAIN", Some(initial)) => self.plain(now, initial.as_bytes()),
                ("PLAIN", None) => self.challenge("", AuthStep::Plain),
                ("LOGIN", Some(initial)) => self.username(now, initial.as_bytes()),
                ("LOGIN", None) => self.challenge("VXNlcm5hbWU6", AuthStep::Username),
                (_, _) => self.say(504, "5.5.4 use PLAIN or LOGIN"),
            }
        }
    }

    fn challenge(&mut self, text: &str, step: AuthStep) {
        self.say(334, text);
        self.state = State::AuthResponse(step);
    }

    fn take_auth_response(&mut self, now: Instant) -> bool {
        let Some(line) = self.take_line(now, MAX_AUTH_LINE) else { return matches!(self.state, State::Closing) };
        let State::AuthResponse(step) = std::mem::replace(&mut self.state, State::Command) else { return false };
        if line == b"*" {
            self.say(501, "5.7.0 the login was cancelled");
            return true;
        }
        match step {
            AuthStep::Plain => self.plain(now, &line),
            AuthStep::Username => self.username(now, &line),
            AuthStep::Password(username) => match decoded(&line) {
                Some(password) => self.check(username, password),
                None => self.malformed_login(now),
            },
        }
        true
    }

    fn plain(&mut self, now: Instant, response: &[u8]) {
        // authorization identity, NUL, user name, NUL, password (RFC 4616 §2)
        let decoded = decoded(response);
        let mut parts = decoded.iter().flat_map(|text| text.split('\0'));
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(identity), Some(username), Some(password), None) if identity.is_empty() || identity == username => {
                self.check(username.to_owned(), password.to_owned());
            }
            _ => self.malformed_login(now),
        }
    }

    fn username(&mut self, now: Instant, response: &[u8]) {
        match decoded(response) {
            Some(username) => self.challenge("UGFzc3dvcmQ6", AuthStep::Password(username)),
            None => self.malformed_login(now),
        }
    }

    fn malformed_login(&mut self, now: Instant) {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            self.reject(now, Rejection::Protocol, "4.7.0 too many errors");
        } else {
            self.say(501, "5.5.2 the login is malformed");
        }
    }

    fn check(&mut self, username: String, password: String) {
        self.state = State::Waiting;
        self.user = Some(username.clone());
        self.actions.push_back(SessionAction::CheckLogin(SubmittedLogin(Login::new(username, password))));
    }

    fn login_checked(&mut self, is_right: bool) {
        self.state = State::Command;
        if is_right {
            self.say(235, "2.7.0 logged in");
            return;
        }
        self.user = None;
        self.logins += 1;
        self.actions.push_back(SessionAction::Rejected(Rejection::Login));
        if self.logins >= MAX_LOGINS {
            self.say(421, "4.7.0 too many wrong logins");
            self.state = State::Closing;
        } else {
            self.say(535, "5.7.8 the login is wrong");
        }
    }

    fn mail(&mut self, now: Instant, mail: MailCommand) {
        if self.hello.is_none() {
            self.out_of_order(now, "5.5.1 EHLO comes first");
        } else if self.transaction.is_some() {
            self.out_of_order(now, "5.5.1 a message is begun already");
        } else if self.settings.requires_tls && !self.is_encrypted {
            self.say(530, "5.7.0 STARTTLS comes first");
        } else if !self.is_allowed && self.user.is_none() {
            self.actions.push_back(SessionAction::Rejected(Rejection::Client));
            self.say(530, "5.7.0 a login is needed");
        } else if mail.needs.size.is_some_and(|size| size > self.settings.max_message) {
            let (code, text) = ContentFault::TooLarge.refusal();
            self.actions.push_back(SessionAction::Rejected(Rejection::Content(ContentFault::TooLarge)));
            self.say(code, text);
        } else {
            let domain = mail.domain();
            self.mail = Some(mail);
            self.begun_at = Some(now);
            self.state = State::Waiting;
            self.actions.push_back(SessionAction::Plan { domain });
        }
    }

    fn planned(&mut self, now: Instant, planned: Result<Vec<Way>, Answer>) {
        self.state = State::Command;
        let Some(mail) = self.mail.clone() else { return };
        match planned {
            Ok(ways) if !ways.is_empty() => {
                self.attempts = 0;
                self.transaction = Some(Transaction::new(now, self.settings.bounds, ways, mail));
                self.take_transaction_actions(now);
            }
            Ok(_) => self.unplanned(now, Answer::own(451, "4.4.1 no backend may carry the mail now")),
            Err(answer) => self.unplanned(now, answer),
        }
    }

    fn unplanned(&mut self, now: Instant, answer: Answer) {
        self.tell(&answer);
        self.end_transaction(now, Some(answer));
    }

    fn recipient(&mut self, now: Instant, recipient: RecipientCommand) {
        let Some(transaction) = &mut self.transaction else {
            self.out_of_order(now, "5.5.1 MAIL comes first");
            return;
        };
        if transaction.recipients() >= self.settings.max_recipients {
            self.say(452, "4.5.3 too many recipients; send the rest in another message");
            return;
        }
        self.pending_recipient = Some(recipient.path.clone());
        transaction.handle(now, TransactionInput::Recipient(recipient));
        self.take_transaction_actions(now);
    }

    fn data(&mut self, now: Instant) {
        let Some(transaction) = &self.transaction else {
            self.out_of_order(now, "5.5.1 MAIL comes first");
            return;
        };
        let answer = transaction.answer_to_data();
        self.tell(&answer);
        if answer.code == 354 {
            self.content = Some(ContentReader::new(self.settings.max_message));
            self.actions.push_back(SessionAction::BeginContent);
            self.state = State::Content;
        } else if answer.code != 554 {
            self.end_transaction(now, Some(answer));
        }
    }

    fn take_content(&mut self, now: Instant) -> bool {
        let Some(reader) = &mut self.content else { return false };
        let unread = self.input.get(self.used..).unwrap_or_default();
        if unread.is_empty() {
            return false;
        }
        let mut part = vec![];
        let (taken, is_end) = reader.read(unread, &mut part);
        self.used += taken;
        let fault = reader.fault();
        if !part.is_empty() && fault.is_none() {
            self.actions.push_back(SessionAction::Store(part));
        }
        if is_end {
            match fault {
                None => {
                    self.state = State::Waiting;
                    self.actions.push_back(SessionAction::EndContent);
                }
                Some(fault) => {
                    self.actions.push_back(SessionAction::Rejected(Rejection::Content(fault)));
                    let (code, text) = fault.refusal();
                    self.refuse_content(now, Answer::own(code, text));
                }
            }
        }
        true
    }

    fn refuse_content(&mut self, now: Instant, answer: Answer) {
        self.tell(&answer);
        self.state = State::Command;
        self.end_transaction(now, Some(answer));
    }

    /// Hands on what the transaction wants, and answers the application.
    fn take_transaction_actions(&mut self, now: Instant) {
        let Some(transaction) = &mut self.transaction else { return };
        let actions = transaction.poll();
        let (is_busy, is_over) = (transaction.is_busy(), transaction.is_over());
        self.state = if is_busy { State::Waiting } else { State::Command };
        for action in actions {
            match action {
                TransactionAction::Perform { operation, deadline } => {
                    self.attempts += u32::from(matches!(operation, Operation::Connect { is_fresh: false, .. }));
                    self.actions.push_back(SessionAction::Perform { operation, deadline });
                }
                TransactionAction::Release { is_in_step } => {
                    self.actions.push_back(SessionAction::Release { is_in_step });
                }
                TransactionAction::Evidence(evidence) => self.actions.push_back(SessionAction::Evidence(evidence)),
                TransactionAction::Answer(answer) => {
                    let recipient = self.pending_recipient.take().filter(|_| answer.code < 300);
                    self.recipients.extend(recipient);
                    self.tell(&answer);
                    if is_over {
                        self.end_transaction(now, Some(answer));
                    }
                }
            }
        }
    }

    /// Ends the transaction, if there is one: with its final answer, or without.
    fn end_transaction(&mut self, now: Instant, answer: Option<Answer>) {
        let backend = self.transaction.as_ref().and_then(|transaction| transaction.backend().cloned());
        let mut size = 0;
        if let Some(mut transaction) = self.transaction.take() {
            if !transaction.is_over() {
                transaction.abort();
            }
            for action in transaction.poll() {
                if let TransactionAction::Release { is_in_step } = action {
                    self.actions.push_back(SessionAction::Release { is_in_step });
                }
            }
        }
        if let Some(content) = self.content.take() {
            size = content.size();
            self.actions.push_back(SessionAction::DropContent);
        }
        let recipients = std::mem::take(&mut self.recipients);
        self.pending_recipient = None;
        let Some(mail) = self.mail.take() else { return };
        self.idle_commands = 0;
        let since = self.begun_at.take().unwrap_or(now);
        let attempts = self.attempts;
        self.actions.push_back(SessionAction::Ended(TransactionEnd {
            backend,
            answer,
            sender: mail.path,
            recipients,
            size,
            since,
            attempts,
        }));
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

fn decoded(response: &[u8]) -> Option<String> {
    if response == b"=" {
        return Some(String::new());
    }
    String::from_utf8(STANDARD.decode(response).ok()?).ok()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
