//! AUTH PLAIN (RFC 4616) and AUTH LOGIN, and the check of credentials.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The clients that may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Logins {
    /// Everyone; AUTH is not offered.
    #[default]
    None,
    /// Everyone; AUTH is offered, and every login is accepted.
    Any,
    /// Clients that authenticate with one of these pairs of user and password.
    Only(Vec<(String, String)>),
}

pub(super) struct Credentials {
    pub user: String,
    password: String,
}

impl Logins {
    pub(super) fn are_asked_for(&self) -> bool {
        match self {
            Self::None => false,
            Self::Any | Self::Only(_) => true,
        }
    }

    pub(super) fn are_required(&self) -> bool {
        match self {
            Self::None | Self::Any => false,
            Self::Only(_) => true,
        }
    }

    pub(super) fn accept(&self, given: &Credentials) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::Only(known) => {
                known.iter().any(|(user, password)| *user == given.user && *password == given.password)
            }
        }
    }
}

/// A login in progress.
pub(super) enum Login {
    /// A challenge, and the step that its answer belongs to.
    Ask(&'static str, Next),
    /// All credentials are known.
    Complete(Credentials),
}

/// The meaning of the client's answer.
pub(super) enum Next {
    Plain,
    User,
    Password { user: String },
}

const SYNTAX: &str = "501 5.5.2 Cannot decode this";
const ASK_PLAIN: &str = "334 ";
/// The prompts `Username:` and `Password:` in base64.
const ASK_USER: &str = "334 VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "334 UGFzc3dvcmQ6";

impl Login {
    /// Begins a login by the arguments of AUTH. The error is the reply to invalid ones.
    pub fn begin(arguments: &str) -> Result<Self, &'static str> {
        let (mechanism, initial) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let (ask, next) = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => (ASK_PLAIN, Next::Plain),
            "LOGIN" => (ASK_USER, Next::User),
            _ => return Err("504 5.5.4 Mechanism not known"),
        };
        if initial.is_empty() { Ok(Self::Ask(ask, next)) } else { next.answer(initial.as_bytes()) }
    }
}

impl Next {
    pub fn answer(self, line: &[u8]) -> Result<Login, &'static str> {
        if line == b"*" {
            return Err("501 5.7.0 Cancelled");
        }
        let decoded = BASE64_STANDARD.decode(line).map_err(|_| SYNTAX)?;
        let text = String::from_utf8(decoded).map_err(|_| SYNTAX)?;
        match self {
            Self::Plain => {
                let mut parts = text.split('\0').skip(1);
                let (Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next()) else {
                    return Err(SYNTAX);
                };
                Ok(Login::Complete(Credentials { user: user.to_owned(), password: password.to_owned() }))
            }
            Self::User => Ok(Login::Ask(ASK_PASSWORD, Self::Password { user: text })),
            Self::Password { user } => Ok(Login::Complete(Credentials { user, password: text })),
        }
    }
}
