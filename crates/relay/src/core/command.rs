//! Command lines of the application: their form, and what is passed on of MAIL and RCPT.
//!
//! `smtp-proto` parses each line. Paths and parameters are then passed on as they came, for a parsed address has lost
//! its quotes; what is not of the strict form of RFC 5321 §4.1.2 is refused here.

use std::fmt::Write as _;

use smtp_proto::Request;

use super::capabilities::Needs;

/// Most octets of a command line, its end included. RFC 5321 §4.5.3.1.4 has 512, and extensions lengthen it.
pub const MAX_COMMAND: usize = 2048;
/// Most octets of a line of AUTH (RFC 4954 §4).
pub const MAX_AUTH_LINE: usize = 12_288;
/// Most octets of a path, brackets included (RFC 5321 §4.5.3.1.3; RFC 6531 counts octets, too).
const MAX_PATH: usize = 1024;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO, with the name that the application gives itself.
    Ehlo(String),
    /// HELO, with that name.
    Helo(String),
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// Mechanism in upper case.
        mechanism: String,
        /// Initial response in Base64, if there is one.
        initial: Option<String>,
    },
    /// MAIL FROM.
    Mail(MailCommand),
    /// RCPT TO.
    Recipient(RecipientCommand),
    /// DATA.
    Data,
    /// BDAT (RFC 3030), which so many octets of content follow.
    Chunk {
        /// Number of the octets.
        octets: u64,
        /// True if the content ends with them.
        is_last: bool,
    },
    /// RSET.
    Reset,
    /// NOOP.
    Noop,
    /// VRFY.
    Verify,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
}

/// Sender of a message, with what MAIL says besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailCommand {
    /// Path with its brackets, as it came.
    pub path: String,
    /// Extensions that the message needs.
    pub needs: Needs,
    /// Parameters that are passed on, but for SIZE and BODY.
    parameters: Vec<String>,
    /// True for `BODY=7BIT`.
    is_seven_bit: bool,
}

impl MailCommand {
    /// Domain of the sender in lower case. `None` for the null sender (RFC 5321 §4.5.5).
    pub fn domain(&self) -> Option<String> {
        let address = self.path.trim_start_matches('<').trim_end_matches('>');
        address.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase())
    }

    /// True for the null sender.
    pub fn is_null(&self) -> bool {
        self.path == "<>"
    }

    /// The command for a server that offers these extensions.
    pub fn line(&self, offered: &super::capabilities::Capabilities) -> String {
        let mut line = format!("MAIL FROM:{}", self.path);
        if let (Some(size), Some(_)) = (self.needs.size, offered.size) {
            let _ = write!(line, " SIZE={size}");
        }
        if self.needs.eight_bit {
            line.push_str(" BODY=8BITMIME");
        } else if self.is_seven_bit && offered.eight_bit {
            line.push_str(" BODY=7BIT");
        }
        for parameter in &self.parameters {
            line.push(' ');
            line.push_str(parameter);
        }
        line
    }
}

/// Recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientCommand {
    /// Path with its brackets, as it came.
    pub path: String,
    /// True for `NOTIFY` or `ORCPT`.
    pub needs_notifications: bool,
    parameters: Vec<String>,
}

impl RecipientCommand {
    /// The command.
    pub fn line(&self) -> String {
        let mut line = format!("RCPT TO:{}", self.path);
        for parameter in &self.parameters {
            line.push(' ');
            line.push_str(parameter);
        }
        line
    }
}

/// Reason why a line is no command that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The verb is not known.
    Unknown,
    /// The verb is known and not served.
    NotServed,
    /// The arguments are not of the right form, which is named.
    Syntax(&'static str),
    /// Those of BDAT are not, so nobody knows how many octets of content follow.
    Chunk,
    /// A parameter of MAIL or RCPT is not served.
    Parameter(String),
    /// The address has letters that SMTPUTF8 is needed for, and MAIL does not ask for it.
    NeedsUtf8,
}

impl CommandError {
    /// The reply.
    pub fn reply(&self) -> (u16, String) {
        match self {
            Self::Unknown => (500, "5.5.2 no such command".to_owned()),
            Self::NotServed => (502, "5.5.1 this command is not served here".to_owned()),
            Self::Syntax(form) => (501, format!("5.5.4 the form is {form}")),
            Self::Chunk => (501, "5.5.4 the form is BDAT octets [LAST]".to_owned()),
            Self::Parameter(name) => (555, format!("5.5.4 the parameter {name} is not served here")),
            Self::NeedsUtf8 => (553, "5.6.7 this address needs SMTPUTF8".to_owned()),
        }
    }
}

const MAIL_FORM: &str = "MAIL FROM:<address> [parameters]";
const RCPT_FORM: &str = "RCPT TO:<address> [parameters]";

/// Parses a line without its end. It has no CR, LF or NUL. `has_utf8` is true within a message that uses SMTPUTF8.
///
/// # Errors
/// [`CommandError`], with the reply.
pub fn parse(line: &[u8], has_utf8: bool) -> Result<Command, CommandError> {
    let text = std::str::from_utf8(line).map_err(|_| CommandError::Syntax("a line in UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(CommandError::Syntax("a line without control characters"));
    }
    let terminated = [text.trim_end().as_bytes(), b"\r\n"].concat();
    let request = match Request::parse(&mut terminated.iter()) {
        Ok(request) => request,
        // The parser knows no address literals (RFC 5321 §4.1.3), and no size of twenty digits (RFC 1870 §3); our own
        // form is as strict.
        Err(smtp_proto::Error::InvalidSenderAddress | smtp_proto::Error::InvalidParameter { param: "SIZE" }) => {
            return mail(text).map(Command::Mail);
        }
        Err(smtp_proto::Error::InvalidRecipientAddress) => return recipient(text, has_utf8).map(Command::Recipient),
        Err(error) => return Err(unreadable(&error, text)),
    };
    match request {
        Request::Ehlo { host } => Ok(Command::Ehlo(host.into_owned())),
        Request::Helo { host } => Ok(Command::Helo(host.into_owned())),
        Request::StartTls => Ok(Command::StartTls),
        Request::Auth { initial_response, .. } => {
            let mechanism = text.split_ascii_whitespace().nth(1).unwrap_or_default().to_ascii_uppercase();
            let initial = Some(initial_response.into_owned()).filter(|initial| !initial.is_empty());
            Ok(Command::Auth { mechanism, initial })
        }
        Request::Mail { .. } => mail(text).map(Command::Mail),
        Request::Rcpt { .. } => recipient(text, has_utf8).map(Command::Recipient),
        Request::Data if text.trim().len() == 4 => Ok(Command::Data),
        Request::Data => Err(CommandError::Syntax("DATA")),
        Request::Rset => Ok(Command::Reset),
        Request::Noop { .. } => Ok(Command::Noop),
        Request::Vrfy { .. } => Ok(Command::Verify),
        Request::Help { .. } => Ok(Command::Help),
        Request::Quit => Ok(Command::Quit),
        Request::Bdat { chunk_size, is_last } => Ok(Command::Chunk { octets: chunk_size as u64, is_last }),
        Request::Lhlo { .. }
        | Request::Expn { .. }
        | Request::Etrn { .. }
        | Request::Atrn { .. }
        | Request::Burl { .. } => Err(CommandError::NotServed),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the parser's other errors are of the line's form")]
fn unreadable(error: &smtp_proto::Error, text: &str) -> CommandError {
    let verb = text.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
    match error {
        _ if verb == "BDAT" => CommandError::Chunk,
        smtp_proto::Error::UnknownCommand => CommandError::Unknown,
        smtp_proto::Error::UnsupportedParameter { param } => {
            let name = param.split('=').next().unwrap_or_default().chars().take(32).collect::<String>();
            CommandError::Parameter(name.to_ascii_uppercase())
        }
        smtp_proto::Error::SyntaxError { syntax } => CommandError::Syntax(syntax),
        _ if verb == "MAIL" => CommandError::Syntax(MAIL_FORM),
        _ if verb == "RCPT" => CommandError::Syntax(RCPT_FORM),
        _ => CommandError::Unknown,
    }
}

fn mail(text: &str) -> Result<MailCommand, CommandError> {
    let (path, parameters) = path_and_parameters(text, "MAIL", "FROM:").ok_or(CommandError::Syntax(MAIL_FORM))?;
    let mut command =
        MailCommand { path: path.to_owned(), needs: Needs::default(), parameters: vec![], is_seven_bit: false };
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter_parts(parameter).ok_or(CommandError::Syntax(MAIL_FORM))?;
        match (name.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(value)) => {
                command.needs.size = Some(octets(value).ok_or(CommandError::Syntax("SIZE=octets"))?);
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => command.needs.eight_bit = true,
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => command.is_seven_bit = true,
            ("SMTPUTF8", None) => {
                command.needs.utf8 = true;
                command.parameters.push("SMTPUTF8".to_owned());
            }
            ("RET" | "ENVID", Some(_)) => {
                command.needs.notifications = true;
                command.parameters.push(parameter.to_owned());
            }
            // Who submitted the message ends here, with the login (RFC 4954 §5).
            ("AUTH", Some(_)) => {}
            (name, _) => return Err(CommandError::Parameter(name.chars().take(32).collect())),
        }
    }
    if !path.is_ascii() && !command.needs.utf8 {
        return Err(CommandError::NeedsUtf8);
    }
    Ok(command)
}

/// The number of octets, of which there may be twenty digits (RFC 1870 §3). What is beyond any number is the largest.
fn octets(value: &str) -> Option<u64> {
    let is_number = (1..=20).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().unwrap_or(u64::MAX))
}

fn recipient(text: &str, has_utf8: bool) -> Result<RecipientCommand, CommandError> {
    let (path, parameters) = path_and_parameters(text, "RCPT", "TO:").ok_or(CommandError::Syntax(RCPT_FORM))?;
    if path == "<>" {
        return Err(CommandError::Syntax(RCPT_FORM));
    }
    if !path.is_ascii() && !has_utf8 {
        return Err(CommandError::NeedsUtf8);
    }
    let mut command = RecipientCommand { path: path.to_owned(), needs_notifications: false, parameters: vec![] };
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter_parts(parameter).ok_or(CommandError::Syntax(RCPT_FORM))?;
        match (name.to_ascii_uppercase().as_str(), value) {
            ("NOTIFY" | "ORCPT", Some(_)) => {
                command.needs_notifications = true;
                command.parameters.push(parameter.to_owned());
            }
            (name, _) => return Err(CommandError::Parameter(name.chars().take(32).collect())),
        }
    }
    Ok(command)
}

/// The path with its brackets, and what follows it. `None` if the line is not of the form.
fn path_and_parameters<'a>(text: &'a str, verb: &str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let rest = strip_prefix_ignoring_case(text.trim(), verb)?.trim_start();
    // Some applications put a blank after the colon.
    let rest = strip_prefix_ignoring_case(rest, keyword)?.trim_start();
    let end = end_of_path(rest)?;
    let (path, parameters) = rest.split_at(end);
    let is_separated = parameters.is_empty() || parameters.starts_with(' ');
    (is_separated && path.len() <= MAX_PATH && is_address(path)).then_some((path, parameters))
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Octets up to the bracket that ends the path.
fn end_of_path(text: &str) -> Option<usize> {
    if !text.starts_with('<') {
        return None;
    }
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '>' if !is_quoted => return Some(at + 1),
            '<' | ' ' if !is_quoted => return None,
            _ => {}
        }
    }
    None
}

/// True for `<>`, `<postmaster>` and `<local@domain>`. Source routes are not passed on (RFC 5321 appendix C).
fn is_address(path: &str) -> bool {
    let address = &path[1..path.len() - 1];
    if address.is_empty() || address.eq_ignore_ascii_case("postmaster") {
        return true;
    }
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let is_quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    let is_local = is_quoted || (!local.is_empty() && !local.contains(['@', '"', '\\', '(', ')', ',', ':', ';']));
    let is_literal = domain.starts_with('[') && domain.ends_with(']');
    let is_letter = |letter: char| letter.is_alphanumeric() || matches!(letter, '.' | '-' | '_') || !letter.is_ascii();
    let is_domain = !domain.is_empty() && domain.chars().all(is_letter);
    let is_literal = is_literal && domain[1..domain.len() - 1].bytes().all(is_literal_octet);
    is_local && (is_domain || is_literal)
}

fn is_literal_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b':' | b'-')
}

/// Name and value of a parameter of the form of RFC 5321 §4.1.2.
fn parameter_parts(parameter: &str) -> Option<(&str, Option<&str>)> {
    let (name, value) = match parameter.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (parameter, None),
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_value = value.is_none_or(|value| {
        // ORCPT may hold an address of SMTPUTF8 (RFC 6533 §3).
        !value.is_empty() && value.chars().all(|letter| !letter.is_ascii_control() && !matches!(letter, ' ' | '='))
    });
    (is_name && is_value).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::capabilities::Capabilities;
    use super::*;

    fn parsed(line: &str) -> Result<Command, CommandError> {
        parse(line.as_bytes(), false)
    }

    fn everything() -> Capabilities {
        Capabilities { size: Some(0), eight_bit: true, utf8: true, notifications: true, enhanced_codes: true }
    }

    fn passed_on(line: &str) -> String {
        match parse(line.as_bytes(), true) {
            Ok(Command::Mail(mail)) => mail.line(&everything()),
            Ok(Command::Recipient(recipient)) => recipient.line(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn mail_and_rcpt_are_passed_on_as_they_come() {
        for (line, expected) in [
            ("MAIL FROM:<a@example.net>", "MAIL FROM:<a@example.net>"),
            ("mail from: <A@Example.NET> size=7 body=8bitmime", "MAIL FROM:<A@Example.NET> SIZE=7 BODY=8BITMIME"),
            ("MAIL FROM:<> BODY=7BIT", "MAIL FROM:<> BODY=7BIT"),
            ("MAIL FROM:<\"a> b\"@example.net> RET=HDRS", "MAIL FROM:<\"a> b\"@example.net> RET=HDRS"),
            ("MAIL FROM:<ü@example.net> SMTPUTF8", "MAIL FROM:<ü@example.net> SMTPUTF8"),
            ("MAIL FROM:<a@example.net> AUTH=<>", "MAIL FROM:<a@example.net>"),
            ("RCPT TO:<a+b=c@[192.0.2.1]>", "RCPT TO:<a+b=c@[192.0.2.1]>"),
            ("RCPT TO:<postmaster>", "RCPT TO:<postmaster>"),
            (
                "rcpt to:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b.example",
                "RCPT TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b.example",
            ),
        ] {
            assert_eq!(passed_on(line), expected);
        }
    }

    #[test]
    fn a_server_without_an_extension_gets_none_of_its_parameters() {
        let Ok(Command::Mail(mail)) = parsed("MAIL FROM:<a@example.net> SIZE=7 BODY=7BIT") else { panic!() };
        assert_eq!(mail.line(&Capabilities::default()), "MAIL FROM:<a@example.net>");
        assert_eq!(mail.domain().as_deref(), Some("example.net"));
    }

    #[test]
    fn what_is_not_of_the_form_is_refused_with_the_reason() {
        for (line, code) in [
            ("FOO", 500),
            ("", 500),
            ("BDAT x", 501),
            ("EXPN staff", 502),
            ("DATA now", 501),
            ("EHLO", 501),
            ("MAIL FROM:a@example.net", 501),
            ("MAIL FROM:<a@example.net", 501),
            ("MAIL FROM:<a@example.net>x", 555),
            ("MAIL FROM:<a b@example.net>", 501),
            ("MAIL FROM:<@relay.example:a@example.net>", 501),
            ("MAIL FROM:<a@example.net> SIZE=x", 501),
            ("MAIL FROM:<a@example.net> BODY=BINARYMIME", 555),
            ("MAIL FROM:<a@example.net> MT-PRIORITY=3", 555),
            ("MAIL FROM:<ü@example.net>", 553),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<ü@example.net>", 553),
            ("RCPT TO:<a@example.net> NOTIFY=", 501),
            ("RCPT TO:<a@exa\tmple.net>", 501),
        ] {
            let error = parsed(line).unwrap_err();
            assert_eq!(error.reply().0, code, "{line}: {error:?}");
        }
    }

    #[test]
    fn a_size_has_twenty_digits_and_is_too_large_in_time() {
        for (line, size) in [
            ("MAIL FROM:<a@example.net> SIZE=99999999999999999999", Some(u64::MAX)),
            ("MAIL FROM:<a@example.net> SIZE=18446744073709551615", Some(u64::MAX)),
            ("MAIL FROM:<a@[192.0.2.1]> SIZE=00000000000000000007", Some(7)),
            ("MAIL FROM:<a@example.net> SIZE=999999999999999999999", None),
            ("MAIL FROM:<a@example.net> SIZE=-1", None),
            ("MAIL FROM:<a@example.net> SIZE=", None),
        ] {
            let found = match parsed(line) {
                Ok(Command::Mail(mail)) => mail.needs.size,
                other => {
                    assert_eq!(other.unwrap_err().reply().0, 501, "{line}");
                    None
                }
            };
            assert_eq!(found, size, "{line}");
        }
    }

    #[test]
    fn chunks_come_with_their_size() {
        assert_eq!(parsed("bdat 7 last"), Ok(Command::Chunk { octets: 7, is_last: true }));
        assert_eq!(parsed("BDAT 0"), Ok(Command::Chunk { octets: 0, is_last: false }));
    }

    #[test]
    fn logins_come_with_their_mechanism() {
        let auth = |mechanism: &str, initial: Option<&str>| Command::Auth {
            mechanism: mechanism.to_owned(),
            initial: initial.map(str::to_owned),
        };
        assert_eq!(parsed("AUTH plain AGEAYg=="), Ok(auth("PLAIN", Some("AGEAYg=="))));
        assert_eq!(parsed("AUTH LOGIN"), Ok(auth("LOGIN", None)));
        assert_eq!(parsed("AUTH PLAIN ="), Ok(auth("PLAIN", Some("="))));
    }

    proptest! {
        #[test]
        fn nothing_is_passed_on_that_could_be_another_command(
            line in prop_oneof![
                "MAIL FROM:<[a-z\"\\\\ <>@.ü=]{0,20}>( [A-Z=8]{0,12}){0,2}",
                "RCPT TO:<[a-z\"\\\\ <>@.ü=]{0,20}>( NOTIFY=[a-z,]{0,5}| ORCPT=.{0,6})?",
                ".{0,40}",
            ],
        ) {
            let line: String = line.chars().filter(|letter| !matches!(letter, '\r' | '\n' | '\0')).collect();
            let passed_on = match parse(line.as_bytes(), true) {
                Ok(Command::Mail(mail)) => mail.line(&everything()),
                Ok(Command::Recipient(recipient)) => recipient.line(),
                Ok(_) | Err(_) => return Ok(()),
            };
            prop_assert!(!passed_on.contains(char::is_control), "{passed_on:?}");
            // It is read again as the same.
            let again = match parse(passed_on.as_bytes(), true) {
                Ok(Command::Mail(mail)) => mail.line(&everything()),
                Ok(Command::Recipient(recipient)) => recipient.line(),
                other => panic!("{passed_on:?}: {other:?}"),
            };
            prop_assert_eq!(again, passed_on);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, true);
        }
    }
}
