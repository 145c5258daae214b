//! One reply as a rule sees it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The command that a reply answers (RFC 5321 §4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
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

impl Stage {
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

impl FromStr for Stage {
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

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl Enhanced {
    /// The code at the start of a text, followed by a blank or the end; `#5.7.1` counts, too.
    pub fn at_start_of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(['#', '(', ' ', '-']);
        let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let after = text[end..].chars().next();
        if after.is_some_and(|letter| letter.is_ascii_alphanumeric()) {
            return None;
        }
        text[..end].trim_end_matches('.').parse().ok()
    }
}

impl FromStr for Enhanced {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let (Some(class), Some(subject), Some(detail), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return Err(()),
        };
        Ok(Self(class, subject.parse().map_err(|_| ())?, detail.parse().map_err(|_| ())?))
    }
}

/// One reply of a server to one command.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    /// The command that it answers, if that is known.
    pub stage: Option<Stage>,
    /// Code of three digits (RFC 5321 §4.2).
    pub code: u16,
    /// Enhanced code, if there is one (RFC 3463).
    pub enhanced: Option<Enhanced>,
    /// Text of all lines, without the code.
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
    pub fn parse(stage: Option<Stage>, text: &'a str) -> Result<Self, NoReply> {
        let text = text.trim();
        let code = text.get(..3).and_then(|code| code.parse().ok()).ok_or(NoReply)?;
        let rest = &text[3..];
        let is_separated = rest.is_empty() || rest.starts_with([' ', '-', '\t', '\u{a0}', ':', '#', '.']);
        if !(200..=599).contains(&code) || !is_separated {
            return Err(NoReply);
        }
        let rest = rest.trim_start_matches([' ', '-', '\t']);
        Ok(Self { stage, code, enhanced: Enhanced::at_start_of(rest), text: rest })
    }
}
