//! One session: the dialogue of RFC 5321, with faults.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::net::TcpStream;

use super::ServerState;
use super::command::{self, Command};
use super::faults::{Action, Extension, Fault, SessionStage};
use super::login::{self, Login};
use super::received::{MAX_KEPT_CONTENT, Received};
use super::wire::{Ended, InputLine, MAX_COMMAND, Wire};
use crate::mail::lock;

/// The limit of recipients. RFC 5321 section 4.5.3.1.8 demands at least this many.
const MAX_RECIPIENTS: usize = 100;
/// The number of invalid commands after which the session ends, since the client does not speak
/// SMTP.
const MAX_MISTAKES: u32 = 20;
/// The number of bytes of a message that are searched for its id.
const MAX_HEADERS: usize = 64 * 1024;
/// The beginning of a TLS record: [`Action::Slow`] at the handshake sends this and never completes
/// it.
const BEGUN_RECORD: [u8; 64] = {
    let mut bytes = [0; 64];
    bytes[0] = 0x16;
    bytes[1] = 0x03;
    bytes[2] = 0x03;
    bytes[3] = 0x3f;
    bytes
};

pub(super) struct Session {
    shared: Arc<ServerState>,
    wire: Wire,
    peer: SocketAddr,
    connection: u64,
    greeted: bool,
    user: Option<String>,
    transaction: Option<Transaction>,
    mistakes: u32,
}

struct Transaction {
    sender: String,
    recipients: Vec<String>,
}

impl Session {
    pub fn new(shared: Arc<ServerState>, stream: TcpStream, peer: SocketAddr, connection: u64) -> Self {
        let wire = Wire::new(stream, shared.idle_timeout);
        Self { shared, wire, peer, connection, greeted: false, user: None, transaction: None, mistakes: 0 }
    }

    /// Resets the connection (RST), as a crash does to a session with unread input.
    pub fn reset(&mut self) {
        self.wire.reset();
    }

    pub async fn run(&mut self) -> Result<(), Ended> {
        if self.shared.implicit_tls {
            self.handshake().await?;
        }
        let banner = format!("220 {} ESMTP ready\r\n", self.shared.name);
        if !self.answer(SessionStage::Banner, &banner).await? {
            return self.unwelcome().await;
        }
        loop {
            let Some(command) = self.command().await? else { continue };
            match command {
                Command::Ehlo(client) => self.ehlo(client.is_some()).await?,
                Command::Helo(client) => self.helo(client.is_some()).await?,
                Command::StartTls => self.start_tls().await?,
                Command::Auth(arguments) => self.auth(&arguments).await?,
                Command::Mail(arguments) => self.mail(&arguments).await?,
                Command::Rcpt(arguments) => self.rcpt(&arguments).await?,
                Command::Data => self.data().await?,
                Command::Rset => {
                    self.transaction = None;
                    self.say("250 2.0.0 Ok").await?;
                }
                Command::Noop => self.say("250 2.0.0 Ok").await?,
                Command::Vrfy => self.say("252 2.1.5 Send some mail, I will try").await?,
                Command::Quit => return self.quit().await,
                Command::Unknown => self.mistake("502 5.5.2 Command not recognized").await?,
            }
        }
    }

    /// Continues after a banner that refused: with nothing but QUIT (RFC 5321 section 3.1).
    async fn unwelcome(&mut self) -> Result<(), Ended> {
        loop {
            match self.command().await? {
                Some(Command::Quit) => return self.quit().await,
                Some(_) => self.mistake("503 5.5.1 No service here").await?,
                None => {}
            }
        }
    }

    async fn quit(&mut self) -> Result<(), Ended> {
        if self.fault() == Fault::Silent {
            return Err(self.wire.hang().await);
        }
        self.say("221 2.0.0 Bye").await?;
        Err(self.wire.close().await)
    }

    /// The next command; `None` if the input could not be one, and was answered.
    async fn command(&mut self) -> Result<Option<Command>, Ended> {
        match self.wire.line(MAX_COMMAND).await? {
            InputLine::Complete(line) => {
                let (verb, command) = command::parse(&line);
                self.shared.ledger.count(|counters| *counters.commands.entry(verb).or_default() += 1);
                Ok(Some(command))
            }
            InputLine::TooLong => {
                self.mistake("500 5.5.6 Line too long").await?;
                Ok(None)
            }
            InputLine::Eof => Err(Ended),
            InputLine::Idle => {
                self.say("421 4.4.2 Idle for too long").await?;
                Err(self.wire.close().await)
            }
        }
    }

    async fn ehlo(&mut self, named: bool) -> Result<(), Ended> {
        if !named {
            return self.say("501 5.5.4 EHLO needs a name").await;
        }
        let mut lines = vec![format!("{} at your service", self.shared.name)];
        lines.extend(["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"].map(ToOwned::to_owned));
        lines.push(format!("SIZE {}", self.shared.max_message_size));
        if self.offers_start_tls() {
            lines.push("STARTTLS".to_owned());
        }
        if self.offers_auth() {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
        let last = lines.len() - 1;
        let lines =
            lines.iter().enumerate().map(|(i, line)| format!("250{}{line}\r\n", if i == last { ' ' } else { '-' }));
        let reply: String = lines.collect();
        if self.answer(SessionStage::Ehlo, &reply).await? {
            self.greeted = true;
            self.transaction = None;
        }
        Ok(())
    }

    async fn helo(&mut self, named: bool) -> Result<(), Ended> {
        if !named {
            return self.say("501 5.5.4 HELO needs a name").await;
        }
        let reply = format!("250 {}\r\n", self.shared.name);
        if self.answer(SessionStage::Ehlo, &reply).await? {
            self.greeted = true;
            self.transaction = None;
        }
        Ok(())
    }

    fn offers_start_tls(&self) -> bool {
        !self.wire.is_encrypted()
            && self.fault() != Fault::NotOffered(Extension::StartTls)
            && self.shared.tls.borrow().is_some()
    }

    fn offers_auth(&self) -> bool {
        lock(&self.shared.logins).are_asked_for() && self.fault() != Fault::NotOffered(Extension::Auth)
    }

    async fn start_tls(&mut self) -> Result<(), Ended> {
        if self.wire.is_encrypted() {
            return self.say("503 5.5.1 TLS is already active").await;
        }
        if !self.offers_start_tls() {
            return self.mistake("502 5.5.1 STARTTLS is not offered").await;
        }
        if self.answer(SessionStage::StartTls, "220 2.0.0 Go ahead\r\n").await? {
            self.handshake().await?;
            // The state from before TLS is discarded (RFC 3207 section 4.2).
            self.greeted = false;
            self.user = None;
            self.transaction = None;
        }
        Ok(())
    }

    async fn handshake(&mut self) -> Result<(), Ended> {
        if let Some(action) = self.fault().at(SessionStage::Handshake) {
            self.struck();
            self.shared.ledger.count(|counters| counters.failed_handshakes += 1);
            self.wire.act(action, &BEGUN_RECORD).await?;
            return Err(self.wire.hang().await);
        }
        let Some(config) = self.shared.tls.borrow().clone() else { return Err(Ended) };
        let handshake = self.wire.handshake(config).await;
        let succeeded = handshake.is_ok();
        self.shared.ledger.count(|counters| {
            if succeeded {
                counters.handshakes += 1;
            } else {
                counters.failed_handshakes += 1;
            }
        });
        Ok(handshake?)
    }

    async fn auth(&mut self, arguments: &str) -> Result<(), Ended> {
        if !self.offers_auth() {
            return self.mistake("502 5.5.1 AUTH is not offered").await;
        }
        if self.user.is_some() || self.transaction.is_some() || !self.greeted {
            return self.say("503 5.5.1 Not now").await;
        }
        let mut login = match Login::begin(arguments) {
            Ok(login) => login,
            Err(reply) => return self.say(reply).await,
        };
        let user = loop {
            match login {
                Login::Ask(prompt, next) => {
                    self.say(prompt).await?;
                    match self.wire.line(MAX_COMMAND).await? {
                        InputLine::Complete(line) => match next.answer(&line) {
                            Ok(next) => login = next,
                            Err(reply) => return self.say(reply).await,
                        },
                        InputLine::TooLong => return self.say("500 5.5.6 Line too long").await,
                        InputLine::Eof | InputLine::Idle => return Err(Ended),
                    }
                }
                Login::Complete(credentials) => break self.accepted_user(credentials),
            }
        };
        let reply = if user.is_some() {
            "235 2.7.0 Authenticated\r\n"
        } else {
            "535 5.7.8 Authentication credentials invalid\r\n"
        };
        if self.answer(SessionStage::Auth, reply).await? {
            self.user = user;
        }
        Ok(())
    }

    fn accepted_user(&self, credentials: login::Credentials) -> Option<String> {
        lock(&self.shared.logins).accept(&credentials).then_some(credentials.user)
    }

    async fn mail(&mut self, arguments: &str) -> Result<(), Ended> {
        if self.connection <= self.shared.retired.load(Ordering::Relaxed) {
            self.wire.reset();
            return Err(Ended);
        }
        if !self.greeted {
            return self.say("503 5.5.1 Say EHLO first").await;
        }
        if self.transaction.is_some() {
            return self.say("503 5.5.1 A transaction is under way").await;
        }
        if lock(&self.shared.logins).are_required() && self.user.is_none() {
            return self.say("530 5.7.0 Authentication required").await;
        }
        let Some((sender, parameters)) = command::path(arguments, "FROM:") else {
            return self.say("501 5.1.7 Bad sender address syntax").await;
        };
        for parameter in parameters.split_ascii_whitespace() {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let too_large = value.parse::<usize>().is_ok_and(|size| size > self.shared.max_message_size);
            match name.to_ascii_uppercase().as_str() {
                "SIZE" if too_large => return self.say("552 5.3.4 Message too large").await,
                "SIZE" | "BODY" | "AUTH" => {}
                _ => return self.say("555 5.5.4 Parameter not recognized").await,
            }
        }
        if self.answer(SessionStage::Mail, "250 2.1.0 Ok\r\n").await? {
            self.transaction = Some(Transaction { sender: sender.to_owned(), recipients: vec![] });
        }
        Ok(())
    }

    async fn rcpt(&mut self, arguments: &str) -> Result<(), Ended> {
        let Some(transaction) = &self.transaction else {
            return self.say("503 5.5.1 Say MAIL first").await;
        };
        if transaction.recipients.len() >= MAX_RECIPIENTS {
            return self.say("452 4.5.3 Too many recipients").await;
        }
        let Some((recipient, _)) = command::path(arguments, "TO:").filter(|(recipient, _)| !recipient.is_empty())
        else {
            return self.say("501 5.1.3 Bad recipient address syntax").await;
        };
        if self.answer(SessionStage::Rcpt, "250 2.1.5 Ok\r\n").await?
            && let Some(transaction) = &mut self.transaction
        {
            transaction.recipients.push(recipient.to_owned());
        }
        Ok(())
    }

    async fn data(&mut self) -> Result<(), Ended> {
        if self.transaction.as_ref().is_none_or(|transaction| transaction.recipients.is_empty()) {
            return self.say("503 5.5.1 Say MAIL and RCPT first").await;
        }
        if !self.answer(SessionStage::Data, "354 End data with <CR><LF>.<CR><LF>\r\n").await? {
            return Ok(());
        }
        let content = self.content().await?;
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        // It was refused amid its content, and the client has been told.
        let Some(content) = content else { return Ok(()) };
        if content.size > self.shared.max_message_size {
            return self.say("552 5.3.4 Message too large").await;
        }
        let fault = self.fault();
        match fault.at(SessionStage::EndOfData) {
            None | Some(Action::Slow(_) | Action::Huge(_)) => {
                let id = content.id();
                let stored = self.shared.ledger.store(self.received(&id, transaction, content), &self.shared.name);
                if !stored {
                    return self.say("452 4.3.1 Insufficient system storage").await;
                }
                if let Fault::AcceptWithoutReply(ending) = fault {
                    self.struck();
                    self.wire.act(&ending.action(), b"").await?;
                    return Err(self.wire.close().await);
                }
                let reply = format!("250 2.0.0 Ok: queued by {} as {id}\r\n", self.shared.name);
                self.answer_to(&fault, SessionStage::EndOfData, &reply).await?;
            }
            Some(action) => {
                self.struck();
                self.wire.act(action, b"250 2.0.0 Ok\r\n").await?;
            }
        }
        Ok(())
    }

    /// Reads up to the final dot, with dots unstuffed (RFC 5321 section 4.5.2). Content that is too
    /// large is read and dropped. `None` if a fault has answered in the middle of it with something else than the usual
    /// reply: nothing of it is taken then.
    async fn content(&mut self) -> Result<Option<Content>, Ended> {
        let mut content = Content { size: 0, beginning: vec![] };
        let mut first = true;
        let mut is_refused = false;
        loop {
            let line = match self.wire.line(self.shared.max_message_size).await? {
                InputLine::Complete(line) => line,
                InputLine::TooLong => {
                    content.size = usize::MAX;
                    continue;
                }
                InputLine::Eof | InputLine::Idle => return Err(Ended),
            };
            if std::mem::take(&mut first)
                && let Some(action) = self.fault().at(SessionStage::Content)
            {
                self.struck();
                is_refused = !self.wire.act(action, b"250 2.0.0 Ok\r\n").await?;
            }
            if line == b"." {
                return Ok((!is_refused).then_some(content));
            }
            content.push(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    fn received(&self, id: &str, transaction: Transaction, mut content: Content) -> Received {
        content.beginning.truncate(MAX_KEPT_CONTENT);
        content.beginning.shrink_to_fit();
        Received {
            id: id.to_owned(),
            at: Instant::now(),
            connection: self.connection,
            peer: self.peer,
            sender: transaction.sender,
            recipients: transaction.recipients,
            user: self.user.clone(),
            encrypted: self.wire.is_encrypted(),
            size: content.size,
            content: content.beginning,
        }
    }

    fn fault(&self) -> Fault {
        self.shared.fault.borrow().clone()
    }

    /// Records that a fault affected this client.
    fn struck(&self) {
        lock(&self.shared.first_struck).get_or_insert_with(Instant::now);
    }

    /// Replies as usual, or acts by the current fault. Returns true if it was the usual reply.
    async fn answer(&mut self, stage: SessionStage, usual: &str) -> Result<bool, Ended> {
        let fault = self.fault();
        self.answer_to(&fault, stage, usual).await
    }

    async fn answer_to(&mut self, fault: &Fault, stage: SessionStage, usual: &str) -> Result<bool, Ended> {
        if let Some(action) = fault.at(stage) {
            self.struck();
            return self.wire.act(action, usual.as_bytes()).await;
        }
        self.wire.write(usual.as_bytes()).await?;
        Ok(true)
    }

    /// Sends a reply that belongs to no stage.
    async fn say(&mut self, reply: &str) -> Result<(), Ended> {
        if self.fault() == Fault::Silent {
            return Err(self.wire.hang().await);
        }
        Ok(self.wire.write(format!("{reply}\r\n").as_bytes()).await?)
    }

    async fn mistake(&mut self, reply: &str) -> Result<(), Ended> {
        self.mistakes += 1;
        if self.mistakes > MAX_MISTAKES {
            self.say("421 4.7.0 Too many errors").await?;
            return Err(self.wire.close().await);
        }
        self.say(reply).await
    }
}

struct Content {
    size: usize,
    beginning: Vec<u8>,
}

impl Content {
    fn push(&mut self, line: &[u8]) {
        self.size = self.size.saturating_add(line.len() + 2);
        let room = MAX_HEADERS.saturating_sub(self.beginning.len());
        self.beginning.extend(line.iter().chain(b"\r\n").take(room));
    }

    fn id(&self) -> String {
        let beginning = String::from_utf8_lossy(&self.beginning);
        let headers: Vec<_> = beginning.split("\r\n").take_while(|line| !line.is_empty()).collect();
        id_in(&headers, "X-Message-Id").or_else(|| id_in(&headers, "Message-ID")).unwrap_or_default()
    }
}

/// The value of a header without angle brackets.
fn id_in(headers: &[&str], wanted: &str) -> Option<String> {
    let mut values = headers.iter().filter_map(|line| line.split_once(':'));
    let (_, value) = values.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
    Some(value.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
}
