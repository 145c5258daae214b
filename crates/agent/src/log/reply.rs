//! Evidence about the backend in Postfix's words about a failed delivery. Pure.
//!
//! The rules of the probes classify replies. Only Postfix's own words are known here (smtp(8): `smtp_proto.c`,
//! `smtp_connect.c`, `smtp_addr.c`, `smtp_trouble.c`, `smtp_sasl_glue.c`).

use mail_failover_core::model::EvidenceClass;
use mail_failover_replies::{About, Answered, EnhancedCode, Reply, Rulebook, without_addresses};
use mail_failover_smtp::errno;

use mail_failover_dataplane::core::log_event::LoggedReply;
use mail_failover_dataplane::reading::{self, Sender};

use mail_failover_dataplane::stable_hash::StableHash;

/// Words of a reply that its fingerprint holds.
const FINGERPRINT_WORDS: usize = 64;

/// Postfix's words before a greeting by 4yz or 5yz.
const GREETING_REFUSES: &str = " refused to talk to me: ";
/// Postfix's words before a refusal of STARTTLS.
const STARTTLS_REFUSES: &str = " refused to start TLS: ";
/// Words after which Postfix quotes a reply.
const VERBS: [&str; 3] = [" said: ", GREETING_REFUSES, STARTTLS_REFUSES];

/// The reply that a text quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// Command that the reply answers. `None` if the text does not end with it.
    pub answered: Option<Answered>,
    /// SMTP code of the reply.
    pub code: u16,
    /// Text of the reply; several lines are joined to one, and it begins with `-` then.
    pub text: &'a str,
}

impl<'a> Quoted<'a> {
    /// Finds the reply within `host … said: 554 … (in reply to …)` and the like.
    pub fn within(reason: &'a str) -> Option<Self> {
        // The first of them is Postfix's; the server may say any of them.
        let (at, verb) = VERBS.iter().filter_map(|verb| Some((reason.find(verb)?, *verb))).min()?;
        let (before, reply) = (&reason[..at], &reason[at + verb.len()..]);
        let (answered, reply) = match verb {
            GREETING_REFUSES => (Some(Answered::Connection), reply),
            STARTTLS_REFUSES => (Some(Answered::StartTls), reply),
            _ => match before_command(reply) {
                Some((reply, answered)) => (Some(answered), reply),
                None if before.starts_with("SASL ") => (Some(Answered::Auth), reply),
                None => (None, reply),
            },
        };
        let code = reply.get(..3)?.parse().ok().filter(|code| (200..600).contains(code))?;
        // The `-` of a reply of several lines stays: it tells that the codes in it are its own.
        let text = reply.get(3..).unwrap_or_default();
        Some(Self { answered, code, text: text.strip_prefix(' ').unwrap_or(text) })
    }

    /// The reply as rules see it.
    pub fn as_reply(&self) -> Reply<'a> {
        let enhanced = EnhancedCode::of_text(self.text);
        Reply { stage: self.answered, code: self.code, enhanced, text: self.text }
    }

    /// Subject of the reply by the general rules.
    pub fn about(&self) -> About {
        reading::of_delivery(&Rulebook::default(), &self.as_reply(), Sender::Other).about
    }

    /// Hash of its codes and words, without those that differ from one message to the next: identifiers, addresses,
    /// times.
    pub fn fingerprint(&self) -> u64 {
        let code = format!("{} {:?}", self.code, EnhancedCode::of_text(self.text));
        let words = self.text.split_ascii_whitespace().filter(|word| is_of_the_server(word)).take(FINGERPRINT_WORDS);
        words.fold(StableHash::default().part(code.as_bytes()), |hash, word| hash.part(word.as_bytes())).finish()
    }

    /// Class of the evidence that it is, about a message of this sender, by the general rules.
    pub fn class(&self, sender: Sender) -> EvidenceClass {
        reading::of_delivery(&Rulebook::default(), &self.as_reply(), sender).class
    }
}

fn is_of_the_server(word: &str) -> bool {
    !word.contains(['@', '<', '[', '"']) && !word.bytes().any(|byte| byte.is_ascii_digit())
}

/// Splits `REPLY (in reply to COMMAND command)`, which ends a reason: the server may have written it, too.
fn before_command(reply: &str) -> Option<(&str, Answered)> {
    let (text, command) = reply.rsplit_once(" (in reply to ")?;
    Some((text, answered(command.strip_suffix(" command)")?)?))
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
    // A resolver's trouble is ours.
    ("Host not found, try again", EvidenceClass::Inconclusive),
    ("Malformed or unexpected name server reply", EvidenceClass::Inconclusive),
    ("Host or domain name not found", EvidenceClass::Unresolvable),
    // Files, keys and plugins of this Postfix.
    ("our TLS engine is unavailable", EvidenceClass::Inconclusive),
    ("client TLS configuration problem", EvidenceClass::Inconclusive),
    ("TLSA lookup error", EvidenceClass::Inconclusive),
    ("cannot authenticate to server", EvidenceClass::Inconclusive),
    ("no mechanism available", EvidenceClass::Inconclusive),
    ("offered no compatible authentication mechanisms", EvidenceClass::Inconclusive),
    ("Server certificate not ", EvidenceClass::CertificateInvalid),
    ("Cannot start TLS", EvidenceClass::TlsFailed),
    ("TLS is required, but", EvidenceClass::TlsFailed),
    ("SSL_connect error to ", EvidenceClass::TlsFailed),
    ("certificate verification failed for ", EvidenceClass::CertificateInvalid),
    ("SASL authentication failed", EvidenceClass::AuthenticationRefused),
    ("local data error", EvidenceClass::Inconclusive),
    ("exceeds size limit", EvidenceClass::RecipientLevel),
    ("SMTPUTF8 is required", EvidenceClass::RecipientLevel),
];

/// Finds the reply in a text about a failed delivery of a message of this sender.
pub fn logged(reason: &str, sender: Sender) -> Option<LoggedReply> {
    let Quoted { answered, code, text } = Quoted::within(reason)?;
    Some(LoggedReply { answered, code, text: without_addresses(code, text).into(), sender })
}

/// Classifies a text about a failed delivery of a message of this sender, by the general rules.
/// `None` if it says nothing about the backend.
pub fn class(reason: &str, sender: Sender) -> Option<EvidenceClass> {
    if let Some(quoted) = Quoted::within(reason) {
        return Some(quoted.class(sender));
    }
    if let Some(attempt) = reason.strip_prefix("connect to ") {
        // `host[address]:port: words`
        let words = attempt.split_once("]:")?.1.split_once(": ")?.1;
        return Some(errno::class_of_connect(words));
    }
    if let Some((_, words)) = lookup(reason) {
        return Some(errno::class_of_lookup(words));
    }
    WORDS.iter().find(|(words, _)| reason.contains(words)).map(|(_, class)| *class)
}

/// Splits `unable to look up host HOST: words`, of a Postfix that asks the system (`smtp_host_lookup = native`).
pub fn lookup(reason: &str) -> Option<(&str, &str)> {
    reason.strip_prefix("unable to look up host ")?.split_once(": ")
}

/// Returns the host whose name has no address, in the words of either lookup.
pub fn unresolved(reason: &str) -> Option<&str> {
    if class(reason, Sender::Other)? != EvidenceClass::Unresolvable {
        return None;
    }
    match lookup(reason) {
        Some((host, _)) => Some(host),
        None => Some(reason.split_once("Name service error for name=")?.1.split(' ').next()?),
    }
}

/// Returns the host that an attempt was made at, and the port if the text names it: `connect to HOST[ADDRESS]:PORT: …`,
/// `host HOST[ADDRESS] said: …` and the like.
pub fn attempted(reason: &str) -> Option<(&str, Option<u16>)> {
    const BEFORE: [&str; 8] = [
        "connect to ",
        "host ",
        "conversation with ",
        "lost connection with ",
        "SASL authentication failed; server ",
        "TLS is required, but was not offered by host ",
        // Of a handshake. The line with the message's queue id names no host.
        "SSL_connect error to ",
        "certificate verification failed for ",
    ];
    let rest = BEFORE.iter().find_map(|words| reason.strip_prefix(words))?;
    let (host, rest) = rest.split_once('[')?;
    if host.is_empty() || host.contains(' ') {
        return None;
    }
    let after_address = rest.split_once(']').map_or("", |(_, rest)| rest);
    let port = after_address.strip_prefix(':').and_then(|rest| rest.split_once(':')?.0.parse().ok());
    Some((host, port))
}
