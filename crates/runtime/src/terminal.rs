//! Output that a terminal shows as it is, whatever those have put into it who wrote the objects that it is about.
// ADR-0093: Show hidden characters as escapes.

use std::fmt::Write as _;
use std::io::{self, Write};

use mail_failover_core::model::text::{visible_json, visible_lines};

/// Sequences that logs use after the escape character (ECMA-48, SGR): plain, bold, dim, italic, and the colours of
/// levels.
// Whoever else writes one changes no more than a colour; none of them hides or moves anything.
const STYLES: [&str; 9] = ["[0m", "[1m", "[2m", "[3m", "[31m", "[32m", "[33m", "[34m", "[35m"];

/// Notation of hidden characters in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// Lines for people.
    Lines,
    /// Lines for people, with the styles of logs.
    StyledLines,
    /// JSON, whose strings alone can have hidden characters.
    Json,
}

/// Writer that shows hidden characters: see [`mail_failover_core::model::text`]. Ends of lines stay.
#[derive(Debug)]
pub struct TerminalWriter<W> {
    inner: W,
    form: TextForm,
}

impl<W: Write> TerminalWriter<W> {
    /// Makes a writer of lines for people.
    pub fn new(inner: W) -> Self {
        Self { inner, form: TextForm::Lines }
    }

    /// Makes a writer of text of this form.
    pub fn of(form: TextForm, inner: W) -> Self {
        Self { inner, form }
    }
}

impl<W: Write> Write for TerminalWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        match self.form {
            TextForm::Lines => self.inner.write_all(visible_lines(&text).as_bytes())?,
            TextForm::Json => self.inner.write_all(visible_json(&text).as_bytes())?,
            TextForm::StyledLines => self.inner.write_all(styled(&text).as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Returns the text with its styles, and everything else that is hidden as an escape.
fn styled(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut line = parts.next().map(visible_lines).unwrap_or_default().into_owned();
    for part in parts {
        if STYLES.iter().any(|style| part.starts_with(style)) {
            line.push('\x1b');
        } else {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", '\x1b'.escape_unicode());
        }
        line.push_str(&visible_lines(part));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_written_as_the_form_can_have_them() {
        let text = "\x1b[1m\"a\u{202e}b\x1b[2J\"\n";
        for (form, wanted) in [
            (TextForm::Lines, "\\u{1b}[1m\"a\\u{202e}b\\u{1b}[2J\"\n"),
            (TextForm::StyledLines, "\x1b[1m\"a\\u{202e}b\\u{1b}[2J\"\n"),
            (TextForm::Json, "\\u001b[1m\"a\\u202eb\\u001b[2J\"\n"),
        ] {
            let mut written = vec![];
            write!(TerminalWriter::of(form, &mut written), "{text}").unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), wanted, "{form:?}");
        }
    }
}
