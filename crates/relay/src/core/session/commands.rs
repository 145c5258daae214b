//! Command lines, and the commands that are not about a message or a login.

use std::time::Instant;

use super::super::answer::Answer;
use super::super::command::{Command, CommandError, MAX_COMMAND, parse};
use super::super::route_mark::RouteMark;
use super::super::trace::MAX_TRACE;
use super::super::transaction::Transaction;
use super::{FOREIGN_VERBS, MAX_ERRORS, MAX_IDLE_COMMANDS, Rejection, Session, SessionAction, State};

impl Session {
    pub(super) fn take_command(&mut self, now: Instant) -> bool {
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
        if *error == CommandError::Chunk {
            // What follows is content, and would be read as commands.
            self.say(code, &text);
            self.reject(now, Rejection::Protocol, "4.5.2 nobody knows how many octets follow");
            return;
        }
        self.say(code, &text);
    }

    pub(super) fn out_of_order(&mut self, now: Instant, text: &str) {
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
            Command::Chunk { octets, is_last } => self.chunk(now, octets, is_last),
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
        let mut lines = vec![self.settings.hostname.to_string(), "PIPELINING".to_owned(), "CHUNKING".to_owned()];
        let limit = match self.offered.size {
            Some(0) | None => self.settings.max_message,
            // A backend gets our Received line besides. 0 would stand for no limit.
            Some(limit) => limit.saturating_sub(MAX_TRACE).max(1).min(self.settings.max_message),
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
        // ADR-0201: A relay knows the relays of its own route.
        lines.extend(self.route.map(RouteMark::line));
        Answer { code: 250, text: lines.join("\n") }
    }

    pub(super) fn offers_login(&self) -> bool {
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
}
