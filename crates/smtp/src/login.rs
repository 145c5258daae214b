//! AUTH (RFC 4954): the choice of a mechanism, its command lines, and the removal of the login from texts for people.
//!
//! Pure. PLAIN (RFC 4616) comes before LOGIN: it is the standard and needs one exchange less. The mechanisms that hide
//! the password are of no use here: without TLS there is no login unless the user says so, and providers no longer
//! offer them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reply::Reply;
use mail_failover_core::model::Login;

/// Octets of a command line (RFC 5321 §4.5.3.1.4). A longer initial response is sent on a line of its own (RFC 4954
/// §4).
const MAX_COMMAND: usize = 512;
/// Replacement for every part of a login in a text for people.
// ADR-0041: Hide logins in servers' replies.
const HIDDEN: &str = "[hidden]";

/// A SASL mechanism that can be spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN, by RFC 4616.
    Plain,
    /// LOGIN, obsolete and widespread, by draft-murchison-sasl-login.
    Login,
}

/// The reason why no mechanism can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMechanism {
    /// The server does not offer AUTH.
    #[error("not offered")]
    NotOffered,
    /// The server offers only these mechanisms, and none of them can be spoken here.
    #[error("PLAIN or LOGIN is needed and the server offers {0}")]
    Unknown(String),
}

impl Mechanism {
    /// The mechanism for a server that answered EHLO like this.
    pub fn choose(hello: &Reply) -> Result<Self, NoMechanism> {
        let offered = hello.parameters("AUTH").ok_or(NoMechanism::NotOffered)?;
        // ADR-0040: Probes speak PLAIN, else LOGIN.
        for (mechanism, keyword) in [(Self::Plain, "PLAIN"), (Self::Login, "LOGIN")] {
            if offered.iter().any(|word| word.eq_ignore_ascii_case(keyword)) {
                return Ok(mechanism);
            }
        }
        Err(NoMechanism::Unknown(offered.join(" ")))
    }

    /// The command lines in order. Each but the first answers a 334.
    pub fn lines(self, login: &Login) -> Vec<String> {
        match self {
            Self::Plain => {
                let response = plain(login);
                let whole = format!("AUTH PLAIN {response}\r\n");
                if whole.len() <= MAX_COMMAND {
                    vec![whole]
                } else {
                    vec!["AUTH PLAIN\r\n".to_owned(), format!("{response}\r\n")]
                }
            }
            Self::Login => {
                let (username, password) = (STANDARD.encode(login.username()), STANDARD.encode(login.password()));
                vec!["AUTH LOGIN\r\n".to_owned(), format!("{username}\r\n"), format!("{password}\r\n")]
            }
        }
    }
}

fn plain(login: &Login) -> String {
    STANDARD.encode(format!("\0{}\0{}", login.username(), login.password()))
}

/// The text without any part of the login. Servers quote the login that they refuse and the line that they did not
/// understand.
pub fn without(login: &Login, text: &str) -> String {
    let (username, password) = (login.username(), login.password());
    let mut parts =
        [plain(login), STANDARD.encode(password), STANDARD.encode(username), password.to_owned(), username.to_owned()];
    // Longest first: a part may contain another one.
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.iter().filter(|part| !part.is_empty()).fold(text.to_owned(), |text, part| replaced(&text, part))
}

/// The text with every occurrence of a part hidden.
fn replaced(text: &str, part: &str) -> String {
    // In any case of ASCII letters: some servers write names in lower case.
    let (lower, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
    let mut kept = String::with_capacity(text.len());
    let mut end = 0;
    for (at, _) in lower.match_indices(&part) {
        kept.push_str(text.get(end..at).unwrap_or_default());
        kept.push_str(HIDDEN);
        end = at + part.len();
    }
    kept.push_str(text.get(end..).unwrap_or_default());
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(extensions: &str) -> Reply {
        Reply { code: 250, text: format!("mx.example\nPIPELINING\n{extensions}") }
    }

    #[test]
    fn the_mechanism_is_one_that_the_server_offers() {
        assert_eq!(Mechanism::choose(&hello("AUTH LOGIN PLAIN XOAUTH2")), Ok(Mechanism::Plain));
        assert_eq!(Mechanism::choose(&hello("auth login")), Ok(Mechanism::Login));
        // As servers wrote it before RFC 2554, beside the line of today.
        assert_eq!(Mechanism::choose(&hello("AUTH=LOGIN\nAUTH PLAIN")), Ok(Mechanism::Plain));
        assert_eq!(Mechanism::choose(&hello("SIZE 1000")), Err(NoMechanism::NotOffered));
        let unknown = Mechanism::choose(&hello("AUTH XOAUTH2 SCRAM-SHA-256"));
        assert_eq!(unknown, Err(NoMechanism::Unknown("XOAUTH2 SCRAM-SHA-256".to_owned())));
    }

    #[test]
    fn what_is_sent_is_as_the_standards_have_it() {
        // RFC 4954 §4.1 has this user.
        let login = Login::new("test", "1234");
        assert_eq!(Mechanism::Plain.lines(&login), ["AUTH PLAIN AHRlc3QAMTIzNA==\r\n"]);
        assert_eq!(Mechanism::Login.lines(&login), ["AUTH LOGIN\r\n", "dGVzdA==\r\n", "MTIzNA==\r\n"]);
        let long = Login::new("test", "x".repeat(500));
        let lines = Mechanism::Plain.lines(&long);
        assert_eq!((lines.len(), lines[0].as_str()), (2, "AUTH PLAIN\r\n"));
    }

    #[test]
    fn what_a_server_quotes_of_a_login_is_hidden() {
        let login = Login::new("Shop", "hunter2");
        for (said, shown) in [
            ("535 5.7.8 user shop: wrong password HUNTER2", "535 5.7.8 user [hidden]: wrong password [hidden]"),
            ("500 AUTH PLAIN AFNob3AAaHVudGVyMg== what?", "500 AUTH PLAIN [hidden] what?"),
            ("500 aHVudGVyMg== what?", "500 [hidden] what?"),
            ("535 5.7.8 no", "535 5.7.8 no"),
        ] {
            assert_eq!(without(&login, said), shown);
        }
        // The password contains the user name.
        assert_eq!(without(&Login::new("shop", "shop1234"), "shop1234 of shop"), "[hidden] of [hidden]");
    }

    proptest! {
        #[test]
        fn no_text_shows_a_password(user in "[a-z]{4,12}", password in "[ -~é]{4,20}", before in ".{0,40}", after in ".{0,40}") {
            prop_assume!(!HIDDEN.contains(&password.to_ascii_lowercase()) && !HIDDEN.contains(&user));
            let login = Login::new(user.as_str(), password.as_str());
            let shown = without(&login, &format!("{before}{password}{after} {} {}", plain(&login), STANDARD.encode(&password)));
            prop_assert!(!shown.contains(&plain(&login)));
            prop_assert!(!shown.contains(&password) || HIDDEN.contains(password.as_str()), "{}", shown);
        }
    }
}
