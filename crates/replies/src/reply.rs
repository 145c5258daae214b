//! One reply as a rule sees it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::quotes::quotation;
use crate::text::MAX_LENGTH;

/// The command that a reply answers (RFC 5321 §4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Answered {
    /// The connection: the greeting.
    #[serde(rename = "CONN")]
    Connection,
    /// EHLO or HELO.
    #[serde(rename = "HELO")]
    Hello,
    /// STARTTLS (RFC 3207).
    #[serde(rename = "STARTTLS")]
    StartTls,
    /// AUTH, or a line of its exchange (RFC 4954).
    #[serde(rename = "AUTH")]
    Auth,
    /// MAIL FROM.
    #[serde(rename = "MAIL")]
    Mail,
    /// RCPT TO.
    #[serde(rename = "RCPT")]
    Recipient,
    /// DATA, or the end of the message.
    #[serde(rename = "DATA")]
    Data,
}

impl Answered {
    /// True before MAIL, when there is no transaction (RFC 5321 §3.3).
    pub fn is_before_mail(self) -> bool {
        matches!(self, Self::Connection | Self::Hello | Self::StartTls | Self::Auth)
    }

    /// True before AUTH and MAIL, when neither a user nor a sender is known.
    pub(crate) fn is_before_login(self) -> bool {
        matches!(self, Self::Connection | Self::Hello | Self::StartTls)
    }

    /// Name in rules, output and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "CONN",
            Self::Hello => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
        }
    }
}

/// A stage that is no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no stage; use CONN, HELO, STARTTLS, AUTH, MAIL, RCPT or DATA")]
pub struct UnknownStage(String);

impl FromStr for Answered {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        match text.to_ascii_uppercase().as_str() {
            "CONN" | "CONNECT" | "BANNER" => Ok(Self::Connection),
            "HELO" | "EHLO" => Ok(Self::Hello),
            "STARTTLS" => Ok(Self::StartTls),
            "AUTH" => Ok(Self::Auth),
            "MAIL" => Ok(Self::Mail),
            "RCPT" => Ok(Self::Recipient),
            "DATA" | "BDAT" => Ok(Self::Data),
            _ => Err(UnknownStage(text.to_owned())),
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An enhanced code further back is a number that the text speaks of.
const MAX_WORDS_BEFORE_CODE: usize = 4;

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// The code of a reply's text: at its start (RFC 2034), after a few words of the server's own
    /// (`cuda_nsu 5.1.1 …`), or marked at its end as qmail does (`… (#5.1.1)`). What the server quotes is not read.
    pub fn of_text(text: &str) -> Option<Self> {
        let text = &text[..text.floor_char_boundary(MAX_LENGTH)];
        let at_start = Self::at_start_of(text);
        if at_start.is_some() {
            return at_start;
        }
        let own = quotation(&text.to_ascii_lowercase(), None).map_or(text, |end| &text[..end]);
        let after_words = own.split_whitespace().take(MAX_WORDS_BEFORE_CODE).skip(1).find_map(Self::parse);
        after_words.or_else(|| own.match_indices('#').find_map(|(at, _)| Self::at_start_of(&own[at..])))
    }

    /// The code at the start of a text, before anything but a letter or a digit. Servers also write `#5.7.1` and
    /// `(5.7.1)`.
    fn at_start_of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(['#', '(', ' ', '-']);
        let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        if text[end..].starts_with(|letter: char| letter.is_ascii_alphanumeric()) {
            return None;
        }
        Self::parse(text[..end].trim_end_matches('.'))
    }

    /// A code and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let code = Self(class, code_part(parts.next()?)?, code_part(parts.next()?)?);
        parts.next().is_none().then_some(code)
    }
}

/// A subject or detail: one to three digits.
fn code_part(text: &str) -> Option<u16> {
    let is_code = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_code { text.parse().ok() } else { None }
}

/// One reply of a server to one command.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    /// The command that it answers, if that is known.
    pub stage: Option<Answered>,
    /// Code of three digits (RFC 5321 §4.2).
    pub code: u16,
    /// Enhanced code, if there is one (RFC 3463).
    pub enhanced: Option<EnhancedCode>,
    /// Text of all lines, without the first code. It begins with `-` if further lines with their codes follow.
    pub text: &'a str,
}

/// Text that is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no SMTP reply: it must begin with a code of three digits between 200 and 599")]
pub struct NoReply;

impl<'a> Reply<'a> {
    /// Parses `550 5.1.1 no such user` or `550-5.1.1 …`.
    ///
    /// # Errors
    /// When the text does not begin with a reply code.
    pub fn parse(stage: Option<Answered>, text: &'a str) -> Result<Self, NoReply> {
        let text = text.trim();
        let code = text.get(..3).and_then(|code| code.parse().ok()).ok_or(NoReply)?;
        let rest = &text[3..];
        let is_separated = rest.is_empty() || rest.starts_with([' ', '-', '\t', '\u{a0}', ':', '#', '.']);
        if !(200..=599).contains(&code) || !is_separated {
            return Err(NoReply);
        }
        // Without the `-` a later code would be somebody else's.
        let rest = rest.trim_start_matches([' ', '\t']);
        Ok(Self { stage, code, enhanced: EnhancedCode::of_text(rest), text: rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_are_those_of_rfc_3463() {
        let cases = [
            ("4.7.0 Try again", Some(EnhancedCode(4, 7, 0))),
            ("4.7.652 The mail server has exceeded", Some(EnhancedCode(4, 7, 652))),
            ("2.0.0\nmore", Some(EnhancedCode(2, 0, 0))),
            ("5.1.1", Some(EnhancedCode(5, 1, 1))),
            ("#5.1.1 no mailbox", Some(EnhancedCode(5, 1, 1))),
            ("5.1.1: no mailbox", Some(EnhancedCode(5, 1, 1))),
            ("3.1.1 no such class", None),
            ("5.1", None),
            ("5.1.1.1 four", None),
            ("5.1.1000 long", None),
            ("5..1 empty", None),
            ("5.1.1x", None),
            ("192.0.2.7 is an address", None),
            ("mx.example.com", None),
            ("", None),
            ("cuda_nsu 5.1.1 no mailbox", Some(EnhancedCode(5, 1, 1))),
            ("sorry, no mailbox here by that name (#5.1.1 - chkusr)", Some(EnhancedCode(5, 1, 1))),
            ("sorry, no mailbox here by that name. (#5.1.1)", Some(EnhancedCode(5, 1, 1))),
            ("this server runs version 5.7.1", None),
            ("refused: host said: 5.1.1 #5.1.1", None),
            ("host mx: 550 5.7.1 refused", None),
            ("-sorry, no mailbox 550 here by that name. (#5.1.1)", Some(EnhancedCode(5, 1, 1))),
            ("550 5.1.1 its code twice", Some(EnhancedCode(5, 1, 1))),
        ];
        for (text, code) in cases {
            assert_eq!(EnhancedCode::of_text(text), code, "{text}");
        }
    }
}
