//! The meaning of an answer that is a refusal, and what to do about it.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::tsig::TsigError;

use super::tsig::FUDGE;

/// Request that an answer is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Name and type that were asked for, or are to be changed.
    pub what: String,
    /// True for an update.
    pub is_update: bool,
    /// Name of the key that signed it.
    pub key: Option<String>,
}

/// Refusal of a server, or an answer that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The answer cannot be read, or is to another question.
    #[error("its answer cannot be used: {0}")]
    Malformed(String),
    /// The answer is not signed by the key that signed the question.
    #[error("its answer is not signed as the question was: {0}; is it another server, or one that does not know TSIG?")]
    Unsigned(String),
    /// The server does not know the key.
    #[error(
        "it does not know the TSIG key {0} (BADKEY); add the key to the server, or correct `name` and `algorithm` of the Secret"
    )]
    BadKey(String),
    /// The key of this name is another one at the server.
    #[error("its TSIG key {0} is not ours (BADSIG); copy the server's secret into the Secret")]
    BadSignature(String),
    /// The clocks differ.
    #[error("the clocks differ by more than {FUDGE} s{} (BADTIME); set them right by NTP", ahead(*.0))]
    BadTime(Option<i64>),
    /// The server has another objection to the signature.
    #[error("it refuses the TSIG signature (TSIG error {0})")]
    OtherTsig(u16),
    /// The key may not do this, or the server has no such zone (RFC 2136 §2.2, RFC 8945 §5.2).
    #[error(
        "it has no such zone, or the key is unknown or may not do this (NOTAUTH); check `zone`, the key's name, and what the server lets it do"
    )]
    NotAuthorized,
    /// The server's policy forbids it.
    #[error(
        "it refuses {0} (REFUSED); let the key {1} {2} there: docs/dns.md has the lines for BIND, Knot and PowerDNS"
    )]
    Refused(String, String, &'static str),
    /// The name lies outside the zone.
    #[error("{0} is not in the zone (NOTZONE); a zone may be cut below `zone`")]
    NotInZone(String),
    /// The server takes no updates.
    #[error("it does not take updates (NOTIMP); turn them on, or name the zone's primary server")]
    NotImplemented,
    /// The zone has changed between the look at it and the update.
    #[error("the zone has changed since it was looked at ({0}); nothing was written")]
    Overtaken(&'static str),
    /// The server has no authority for the name.
    #[error("it is not authoritative for {0}; name a server of the zone")]
    NotAuthoritative(String),
    /// Another code.
    #[error("it answers {0} to {1}")]
    Code(String, String),
}

impl AnswerError {
    /// The label of this error in metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::NotAuthoritative(_) | Self::Code(..) | Self::NotImplemented => "answer",
            Self::Unsigned(_) | Self::BadKey(_) | Self::BadSignature(_) | Self::BadTime(_) | Self::OtherTsig(_) => {
                "tsig"
            }
            Self::NotAuthorized | Self::Refused(..) | Self::NotInZone(_) => "refused",
            Self::Overtaken(_) => "overtaken",
        }
    }
}

fn ahead(seconds: Option<i64>) -> String {
    match seconds {
        None => String::new(),
        Some(seconds) if seconds >= 0 => format!(", ours is {seconds} s ahead"),
        Some(seconds) => format!(", ours is {} s behind", seconds.unsigned_abs()),
    }
}

/// Codes of an update whose conditions do not hold (RFC 2136 §2.2).
const OVERTAKEN: [(ResponseCode, &str); 4] = [
    (ResponseCode::NXRRSet, "NXRRSET"),
    (ResponseCode::YXRRSet, "YXRRSET"),
    (ResponseCode::YXDomain, "YXDOMAIN"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
];

/// The refusal in an answer, if it is one.
pub(crate) fn refusal(message: &Message, asked: &Asked) -> Option<AnswerError> {
    let key = asked.key.clone().unwrap_or_default();
    if let Some(tsig) = message.signature.as_deref().map(|record| &record.data)
        && let Some(error) = tsig.error
    {
        match error {
            TsigError::BadKey => return Some(AnswerError::BadKey(key)),
            TsigError::BadSig => return Some(AnswerError::BadSignature(key)),
            TsigError::BadTime => return Some(AnswerError::BadTime(seconds_ahead(tsig))),
            TsigError::BadTrunc => return Some(AnswerError::OtherTsig(error.into())),
            TsigError::Unknown(0) => {}
            TsigError::Unknown(code) => return Some(AnswerError::OtherTsig(code)),
        }
    }
    let (what, code) = (asked.what.clone(), message.response_code);
    if asked.is_update {
        let overtaken = OVERTAKEN.iter().find(|(overtaken, _)| *overtaken == code);
        if let Some((_, name)) = overtaken {
            return Some(AnswerError::Overtaken(name));
        }
    } else if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return (!message.authoritative).then_some(AnswerError::NotAuthoritative(what));
    }
    if code == ResponseCode::NoError {
        None
    } else if code == ResponseCode::NotAuth {
        Some(AnswerError::NotAuthorized)
    } else if code == ResponseCode::Refused {
        let may = if asked.is_update { "update it" } else { "read it" };
        Some(AnswerError::Refused(what, key, may))
    } else if code == ResponseCode::NotZone {
        Some(AnswerError::NotInZone(what))
    } else if code == ResponseCode::NotImp && asked.is_update {
        Some(AnswerError::NotImplemented)
    } else {
        Some(AnswerError::Code(code.to_string(), what))
    }
}

/// Seconds by which our clock is ahead of the server's, which a refusal for the time tells (RFC 8945 §5.2.3).
fn seconds_ahead(tsig: &TSIG) -> Option<i64> {
    let server = tsig.other.first_chunk::<6>()?;
    let server = server.iter().fold(0_i64, |time, byte| (time << 8) | i64::from(*byte));
    Some(i64::try_from(tsig.time).ok()? - server)
}
