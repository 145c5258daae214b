//! Evidence about the backend in Postfix's words about a failed delivery. Pure.
//!
//! The rules of the probes classify replies. Only Postfix's own words are known here (smtp(8): `smtp_proto.c`,
//! `smtp_connect.c`, `smtp_addr.c`, `smtp_trouble.c`, `smtp_sasl_glue.c`).

use mail_failover_core::model::EvidenceClass;
use mail_failover_replies::{Answered, EnhancedCode, Reply, Rulebook, without_addresses};

use crate::core::log_event::LoggedRefusal;

/// The reply that a text quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// Command that the reply answers.
    pub answered: Answered,
    /// SMTP code of the reply.
    pub code: u16,
    /// Text of the reply; several lines are joined to one.
    pub text: &'a str,
}

impl<'a> Quoted<'a> {
    /// Finds the reply within `host … said: 554 … (in reply to …)` and the like.
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

    /// The reply as rules see it.
    pub fn as_reply(&self) -> Reply<'a> {
        let enhanced = EnhancedCode::at_start_of(self.text);
        Reply { stage: Some(self.answered), code: self.code, enhanced, text: self.text }
    }

    /// Class of the evidence that it is.
    pub fn class(&self) -> EvidenceClass {
        Rulebook::default().read(&self.as_reply()).class
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

/// Postfix's own words, each with its class. The first match counts.
const WORDS: &[(&str, EvidenceClass)] = &[
    ("lost connection with ", EvidenceClass::ConnectionLost),
    ("conversation with ", EvidenceClass::NoAnswer),
    ("Connection timed out", EvidenceClass::NoAnswer),
    ("Connection refused", EvidenceClass::ConnectionRefused),
    ("No route to host", EvidenceClass::ConnectionRefused),
    ("Network is unreachable", EvidenceClass::Inconclusive),
    ("Cannot assign requested address", EvidenceClass::Inconclusive),
    ("Connection reset", EvidenceClass::ConnectionLost),
    ("connect to ", EvidenceClass::ConnectionRefused),
    ("Host not found, try again", EvidenceClass::Inconclusive),
    ("Host or domain name not found", EvidenceClass::Unresolvable),
    ("Server certificate not ", EvidenceClass::CertificateInvalid),
    ("Cannot start TLS", EvidenceClass::TlsFailed),
    ("TLS is required, but", EvidenceClass::TlsFailed),
    ("SASL authentication failed", EvidenceClass::AuthenticationRefused),
    ("local data error", EvidenceClass::Inconclusive),
    ("exceeds size limit", EvidenceClass::RecipientLevel),
    ("SMTPUTF8 is required", EvidenceClass::RecipientLevel),
];

/// Finds the refusal in a text about a failed delivery.
pub fn refusal(reason: &str) -> Option<LoggedRefusal> {
    let Quoted { answered, code, text } = Quoted::within(reason)?;
    Some(LoggedRefusal { answered: Some(answered), code, text: without_addresses(text).into() })
}

/// Classifies a text about a failed delivery. `None` if it says nothing about the backend.
pub fn class(reason: &str) -> Option<EvidenceClass> {
    if let Some(quoted) = Quoted::within(reason) {
        return Some(quoted.class());
    }
    WORDS.iter().find(|(words, _)| reason.contains(words)).map(|(_, class)| *class)
}
