//! What Postfix's words about a failed delivery say about the backend. Pure.
//!
//! Replies are classified by the rules that the probes use; only what Postfix itself says is known here (smtp(8): `smtp_proto.c`,
//! `smtp_connect.c`, `smtp_addr.c`, `smtp_trouble.c`, `smtp_sasl_glue.c`).

use crate::model::EvidenceClass;
use crate::probe::classify::{Answered, classify};
use crate::probe::reply::EnhancedCode;

/// The reply that a text quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// What it answers.
    pub answered: Answered,
    /// Its code.
    pub code: u16,
    /// Its text, the lines of a longer reply on one.
    pub text: &'a str,
}

impl<'a> Quoted<'a> {
    /// The reply within `host … said: 554 … (in reply to …)` and the like.
    pub fn within(reason: &'a str) -> Option<Self> {
        let (answered, reply) = if let Some((before, reply)) = reason.split_once(" said: ") {
            match reply.rsplit_once(" (in reply to ") {
                Some((reply, command)) => (answered(command)?, reply),
                None if before.starts_with("SASL authentication failed") => (Answered::Auth, reply),
                // Cut off: a bounded line, a long reply.
                None => (Answered::Data, reply),
            }
        } else if let Some((_, reply)) = reason.split_once(" refused to talk to me: ") {
            (Answered::Connection, reply)
        } else {
            (Answered::StartTls, reason.split_once(" refused to start TLS: ")?.1)
        };
        let code = reply.get(..3)?.parse().ok().filter(|code| (200..600).contains(code))?;
        Some(Self { answered, code, text: reply.get(4..).unwrap_or_default() })
    }

    /// What it says about the backend.
    pub fn class(&self) -> EvidenceClass {
        classify(self.answered, self.code, EnhancedCode::at_start_of(self.text), self.text)
    }
}

fn answered(command: &str) -> Option<Answered> {
    const COMMANDS: [(&str, Answered); 7] = [
        ("EHLO", Answered::Hello),
        ("HELO", Answered::Hello),
        ("AUTH", Answered::Auth),
        ("MAIL FROM", Answered::Mail),
        ("RCPT TO", Answered::Recipient),
        ("DATA", Answered::Data),
        ("end of DATA", Answered::Data),
    ];
    let known = COMMANDS.iter().find(|(name, _)| command.starts_with(name));
    known.map(|(_, answered)| *answered)
}

/// What a text about a failed delivery says; nothing when it says nothing about the backend.
pub fn class(reason: &str) -> Option<EvidenceClass> {
    use EvidenceClass as Class;
    if let Some(quoted) = Quoted::within(reason) {
        return Some(quoted.class());
    }
    // In this order; the first that is found. Only texts of Postfix's own come here.
    const WORDS: &[(&str, EvidenceClass)] = &[
        ("lost connection with ", Class::ConnectionLost),
        ("conversation with ", Class::NoAnswer),
        ("Connection timed out", Class::NoAnswer),
        ("Connection refused", Class::ConnectionRefused),
        ("No route to host", Class::ConnectionRefused),
        ("Network is unreachable", Class::Inconclusive),
        ("Cannot assign requested address", Class::Inconclusive),
        ("Connection reset", Class::ConnectionLost),
        ("connect to ", Class::ConnectionRefused),
        ("Host not found, try again", Class::Inconclusive),
        ("Host or domain name not found", Class::Unresolvable),
        ("Server certificate not ", Class::CertificateInvalid),
        ("Cannot start TLS", Class::TlsFailed),
        ("TLS is required, but", Class::TlsFailed),
        ("SASL authentication failed", Class::AuthenticationRefused),
        ("local data error", Class::Inconclusive),
        ("exceeds size limit", Class::RecipientLevel),
        ("SMTPUTF8 is required", Class::RecipientLevel),
    ];
    WORDS.iter().find(|(words, _)| reason.contains(words)).map(|(_, class)| *class)
}
