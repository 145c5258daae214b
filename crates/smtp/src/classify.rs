//! Classification of SMTP replies: from a reply to the [`EvidenceClass`] of the backend that sent it.
//!
//! Pure: the same reply gives the same class. The rules follow RFC 5321 (codes), RFC 3463 (enhanced codes), RFC 3207
//! and RFC 4954, and the texts of providers and servers where the codes alone would mislead. This module never decides
//! what follows from a class.

use super::reply::EnhancedCode;
use mail_failover_core::model::EvidenceClass;

/// The command that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// The connection itself: the greeting.
    Connection,
    /// EHLO or HELO, also after STARTTLS.
    Hello,
    /// STARTTLS, before the handshake.
    StartTls,
    /// AUTH, or a line of its exchange.
    Auth,
    /// MAIL FROM of a transaction.
    Mail,
    /// RCPT TO of a transaction.
    Recipient,
    /// DATA, or the end of the message.
    Data,
}

impl Answered {
    /// Returns true if a reply at this point can be about a recipient or a message rather than about the backend.
    fn concerns_a_message(self) -> bool {
        match self {
            Self::Connection | Self::Hello | Self::StartTls | Self::Auth => false,
            Self::Mail | Self::Recipient | Self::Data => true,
        }
    }
}

/// A rule about texts: the first that fits decides, before codes do.
struct TextRule {
    class: EvidenceClass,
    /// The rule applies to replies with these codes only.
    codes: std::ops::RangeInclusive<u16>,
    scope: RuleScope,
    /// Phrases in lower case, of which the text contains one. `…` stands for a few words without punctuation.
    says: &'static [&'static str],
}

/// Replies to which a rule applies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RuleScope {
    /// Every reply, whatever it answers.
    Any,
    /// Replies that can be about a recipient or a message.
    Messages,
    /// All replies except those whose enhanced code says that they are about a recipient's mailbox or a message.
    NoMailbox,
    /// As [`RuleScope::NoMailbox`], without the replies to RCPT: recipients have accounts, too.
    NoRecipient,
}

/// The rules in order of precedence. The more specific text comes first: SES announces an exhausted allowance as
/// throttling, and Gmail announces throttling as reputation.
const RULES: &[TextRule] = &[
    // A mailbox that is full or limited is the recipient's, whatever words it shares with our own allowance.
    TextRule {
        class: EvidenceClass::RecipientLevel,
        codes: 400..=599,
        scope: RuleScope::Messages,
        says: &[
            "mailbox full",
            "mailbox is full",
            "over quota",
            "overquota",
            "inbox is out of storage",
            "user unknown",
            "no such user",
            // Domino: 550 … User not listed in public Name & Address Book
            "not listed in",
            "mailbox unavailable",
            "greylist",
            "graylist",
            "recipient address suppressed",
            "recipient address was suppressed",
            // Gmail: 450 4.2.1 The user you are trying to contact is receiving mail too quickly.
            "you are trying to contact is receiving mail",
            // Gmail: 550 5.2.1 The email account that you tried to reach is disabled.
            "account that you tried to reach",
            // Yahoo, after DATA: 554 delivery error: dd … This account has been disabled or discontinued [#102]
            "account has been disabled or discontinued",
        ],
    },
    // Ours for certain: recipients do not send, and nobody calls theirs "yours".
    TextRule {
        class: EvidenceClass::AccountPaused,
        codes: 400..=599,
        scope: RuleScope::Any,
        says: &[
            // SES: 554 Message rejected: Sending paused for this account. …
            "sending paused",
            "sending is paused",
            "sending was paused",
            "sending has been paused",
            "sending is suspended",
            "sending was suspended",
            "sending has been suspended",
            "sending has been disabled",
            "your account…paused",
            "your account…suspended",
            "your account…disabled",
            "your account…deactivated",
            "your account…closed",
            "your account…terminated",
            "your account…under review",
            // Outlook.com: 554 5.2.0 … WASCL UserAction verdict is not None. Actual verdict is Suspend
            "verdict is suspend",
        ],
    },
    TextRule {
        class: EvidenceClass::AccountPaused,
        codes: 400..=599,
        scope: RuleScope::NoRecipient,
        says: &[
            // SendGrid: 535 Authentication failed: account disabled
            "account…paused",
            "account…suspended",
            "account…disabled",
            "account…deactivated",
            "account…closed",
            "account…terminated",
            "account…under review",
        ],
    },
    TextRule {
        class: EvidenceClass::QuotaExhausted,
        codes: 400..=599,
        scope: RuleScope::Any,
        says: &[
            // SES: 454 Throttling failure: Daily message quota exceeded.
            "daily message quota",
            // SendGrid: 451 Authentication failed: Maximum credits exceeded
            "credits exceeded",
            // Google Workspace relay: 550 5.7.1 Daily SMTP relay limit exceeded for customer; Gmail: 550 5.4.5 Daily
            // user sending limit exceeded
            "daily smtp relay",
            "daily user sending",
            "daily sending",
            "daily limit",
            "daily quota",
            "monthly limit",
            "monthly quota",
            "monthly sending",
            "24-hour sending limit",
            // Mailgun: 421 Domain … is not allowed to send: recipient limit exceeded, try again after …
            "is not allowed to send: recipient limit exceeded",
            // SparkPost: 420 Exceed Sending Limit (daily)
            "exceed sending limit",
            "sending quota exceeded",
            "sending limit exceeded",
            // Microsoft 365: 550 5.1.90 Your message can't be sent because you've reached your daily limit
            "reached your daily limit",
        ],
    },
    TextRule {
        class: EvidenceClass::Throttled,
        codes: 400..=499,
        scope: RuleScope::Any,
        says: &[
            // SES: 454 Throttling failure: Maximum sending rate exceeded.
            "throttl",
            "rate limit",
            "ratelimit",
            "rate-limit",
            "rate exceeded",
            "sending rate",
            "sending too fast",
            "too many connections",
            "too many concurrent",
            "too many simultaneous",
            "too many sessions",
            "too many messages",
            "too much mail",
            "connection limit",
            "connection rate",
            // Microsoft 365: 421 4.3.2 The maximum number of concurrent connections has exceeded a limit; 451 4.7.652
            "maximum number of concurrent",
            "maximum number of connections",
            "concurrent connections",
            "thread limit exceeded",
            "this hour",
            "hourly limit",
        ],
    },
    TextRule {
        class: EvidenceClass::Reputation,
        codes: 400..=599,
        // A mailbox can be blocked or listed, too.
        scope: RuleScope::NoMailbox,
        says: &[
            "reputation",
            "blocklist",
            "block list",
            "block-list",
            "blacklist",
            "black list",
            "denylist",
            "blocked using",
            "is blocked",
            "has been blocked",
            "was blocked",
            "been temporarily blocked",
            "is listed",
            "listed in",
            "listed by",
            "listed at",
            "listed on",
            "dnsbl",
            "spamhaus",
            "spamcop",
            "barracudacentral",
            // Microsoft 365: 550 5.7.606 Access denied, banned sending IP; 5.7.501 Access denied, spam abuse detected
            "banned sending ip",
            "spam abuse",
            "bad outbound sender",
        ],
    },
    TextRule {
        class: EvidenceClass::AuthenticationRefused,
        codes: 500..=599,
        scope: RuleScope::Any,
        says: &["unauthenticated", "not authenticated", "authentication required", "authentication is required"],
    },
    TextRule {
        class: EvidenceClass::RecipientLevel,
        codes: 400..=599,
        scope: RuleScope::Messages,
        says: &[
            "virus",
            "malware",
            "phish",
            "considered spam",
            "as spam",
            "spam message",
            "message content",
            "message size",
        ],
    },
];

/// Texts that put a reply into this class, whatever its code and whatever it answers. They are in lower case, with `…`
/// as in the rules.
pub fn unmistakable(class: EvidenceClass) -> impl Iterator<Item = &'static str> {
    RULES
        .iter()
        .filter(move |rule| rule.class == class && rule.scope == RuleScope::Any)
        .flat_map(|rule| rule.says)
        .copied()
}

/// Texts that make a reply one about a recipient or a message, whatever else it says.
pub fn about_recipients() -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(|rule| rule.class == EvidenceClass::RecipientLevel).flat_map(|rule| rule.says).copied()
}

/// Returns the class of a reply. `text` is the reply without its codes, of any length and in any case.
pub fn classify(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> EvidenceClass {
    match code {
        // 3yz (RFC 5321 §4.2.1) asks for more of what goes well.
        200..=399 => return EvidenceClass::Ok,
        400..=599 => {}
        _ => return EvidenceClass::ProtocolError,
    }
    let text = text.to_ascii_lowercase();
    let is_mailbox =
        enhanced.is_some() && answered.concerns_a_message() && is_about_recipient_or_message(answered, code, enhanced);
    // A full mailbox in answer to MAIL is ours: there is no recipient yet.
    if answered == Answered::Mail && matches!(enhanced, Some(EnhancedCode(4 | 5, 2, 2))) {
        return EvidenceClass::QuotaExhausted;
    }
    for rule in RULES {
        let applies = match rule.scope {
            RuleScope::Any => true,
            RuleScope::Messages => answered.concerns_a_message(),
            RuleScope::NoMailbox => !is_mailbox,
            RuleScope::NoRecipient => !is_mailbox && answered != Answered::Recipient,
        };
        if applies && rule.codes.contains(&code) && rule.says.iter().any(|phrase| says(&text, phrase)) {
            return rule.class;
        }
    }
    by_code(answered, code, enhanced, &text)
}

/// Most letters that a `…` stands for.
const MAX_GAP: usize = 32;

/// Returns true if the text contains the phrase.
fn says(text: &str, phrase: &str) -> bool {
    let Some((subject, predicate)) = phrase.split_once('…') else { return text.contains(phrase) };
    text.match_indices(subject).any(|(at, _)| {
        let rest = &text[at + subject.len()..];
        let words = rest.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b' ');
        let reach = words.take(MAX_GAP + predicate.len()).count();
        rest[..reach].contains(predicate)
    })
}

fn by_code(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> EvidenceClass {
    let general = if code < 500 { EvidenceClass::Temporary } else { EvidenceClass::Permanent };
    // 421 closes the connection at any point and is about the service as a whole (RFC 5321 §3.8).
    if code == 421 {
        return general;
    }
    match answered {
        Answered::Connection | Answered::Hello => match code {
            530 | 534 | 535 | 538 if !asks_for_tls(text) => EvidenceClass::AuthenticationRefused,
            _ => general,
        },
        // RFC 3207 §4: 454 TLS not available due to temporary reason, 501 syntax error; 502 and 503 are seen where it
        // is disabled.
        Answered::StartTls => EvidenceClass::TlsFailed,
        // RFC 4954 §6; a mechanism that is not known (504) or not allowed (538, 503) leaves us just as unauthenticated.
        Answered::Auth if code >= 500 || code == 432 => EvidenceClass::AuthenticationRefused,
        Answered::Auth => general,
        Answered::Mail | Answered::Recipient | Answered::Data => match (code, enhanced) {
            (530, _) if asks_for_tls(text) => EvidenceClass::Permanent,
            // 530 5.7.57 is Microsoft's "Client not authenticated"; 525 is Brevo's "Unauthorized IP address".
            (525 | 530 | 534 | 535 | 538, _) => EvidenceClass::AuthenticationRefused,
            // "Relay access denied", "relay not permitted": the backend does not carry our mail, whoever it is for.
            _ if text.contains("relay") => general,
            _ if is_about_recipient_or_message(answered, code, enhanced) => EvidenceClass::RecipientLevel,
            _ => general,
        },
    }
}

fn asks_for_tls(text: &str) -> bool {
    text.contains("starttls")
}

fn is_about_recipient_or_message(answered: Answered, code: u16, enhanced: Option<EnhancedCode>) -> bool {
    let about_recipient = answered != Answered::Mail;
    match enhanced {
        // The sender's address, not the recipient's (RFC 3463 §3.2).
        Some(EnhancedCode(_, 1, 7 | 8)) => false,
        // Addressing and mailbox.
        Some(EnhancedCode(_, 1 | 2, _)) => about_recipient,
        // Too many recipients, too big a message, content.
        Some(EnhancedCode(_, 5, 3) | EnhancedCode(_, 3, 4) | EnhancedCode(_, 6, _)) => true,
        Some(EnhancedCode(..)) => false,
        // Without an enhanced code only the mailbox replies of RFC 5321 §4.2.3 to RCPT are the recipient's for certain.
        None => answered == Answered::Recipient && matches!(code, 450 | 452 | 550 | 551 | 552 | 553),
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
