//! Commands, parsed as servers do: lenient with case and strict with addresses.

/// A command of a client.
pub(super) enum Command {
    Ehlo(Option<String>),
    Helo(Option<String>),
    StartTls,
    Auth(String),
    Mail(String),
    Rcpt(String),
    Data,
    Rset,
    Noop,
    Vrfy,
    Quit,
    Unknown,
}

fn not_empty(arguments: String) -> Option<String> {
    (!arguments.is_empty()).then_some(arguments)
}

/// The verb as it is counted, and the command.
pub(super) fn parse(line: &[u8]) -> (&'static str, Command) {
    let line = String::from_utf8_lossy(line);
    let (verb, arguments) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
    let arguments = arguments.trim().to_owned();
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => ("EHLO", Command::Ehlo(not_empty(arguments))),
        "HELO" => ("HELO", Command::Helo(not_empty(arguments))),
        "STARTTLS" => ("STARTTLS", Command::StartTls),
        "AUTH" => ("AUTH", Command::Auth(arguments)),
        "MAIL" => ("MAIL", Command::Mail(arguments)),
        "RCPT" => ("RCPT", Command::Rcpt(arguments)),
        "DATA" => ("DATA", Command::Data),
        "RSET" => ("RSET", Command::Rset),
        "NOOP" => ("NOOP", Command::Noop),
        "VRFY" => ("VRFY", Command::Vrfy),
        "QUIT" => ("QUIT", Command::Quit),
        _ => ("?", Command::Unknown),
    }
}

/// The address of `FROM:<address> parameters`, without brackets, and the parameters.
pub(super) fn path<'a>(arguments: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (given, rest) = arguments.split_at_checked(keyword.len())?;
    if !given.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest.trim_start().strip_prefix('<')?;
    let mut quoted = false;
    let end = rest.char_indices().find_map(|(i, c)| {
        quoted ^= c == '"';
        (c == '>' && !quoted).then_some(i)
    })?;
    let (address, parameters) = (&rest[..end], &rest[end + 1..]);
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return None;
    }
    let is_address =
        address.is_empty() || address.rsplit_once('@').is_some_and(|(l, d)| !l.is_empty() && !d.is_empty());
    is_address.then_some((address, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_in_brackets() {
        let cases = [
            ("FROM:<a@example.net>", Some(("a@example.net", ""))),
            ("from: <a@example.net> SIZE=7 BODY=8BITMIME", Some(("a@example.net", " SIZE=7 BODY=8BITMIME"))),
            ("FROM:<>", Some(("", ""))),
            (r#"FROM:<"a>b"@example.net>"#, Some((r#""a>b"@example.net"#, ""))),
            ("FROM:a@example.net", None),
            ("FROM:<a@example.net", None),
            ("FROM:<a@example.net>x", None),
            ("FROM:<a>", None),
            ("FROM:<@example.net>", None),
            ("TO:<a@example.net>", None),
            ("FRO", None),
            ("", None),
        ];
        for (arguments, expected) in cases {
            assert_eq!(path(arguments, "FROM:"), expected, "{arguments}");
        }
    }
}
