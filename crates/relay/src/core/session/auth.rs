//! Logins of applications (RFC 4954): PLAIN and LOGIN.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_failover_core::model::Login;

use super::super::command::MAX_AUTH_LINE;
use super::{AuthStep, MAX_ERRORS, MAX_LOGINS, Rejection, Session, SessionAction, State, SubmittedLogin};

impl Session {
    pub(super) fn auth(&mut self, now: Instant, mechanism: &str, initial: Option<String>) {
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

    pub(super) fn take_auth_response(&mut self, now: Instant) -> bool {
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

    pub(super) fn login_checked(&mut self, is_right: bool) {
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
}

fn decoded(response: &[u8]) -> Option<String> {
    if response == b"=" {
        return Some(String::new());
    }
    String::from_utf8(STANDARD.decode(response).ok()?).ok()
}
