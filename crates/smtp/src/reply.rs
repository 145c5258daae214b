//! Parser of SMTP replies from any peer: bounded in octets and lines, tolerant where servers are known to be sloppy.
//!
//! Pure. This module never judges the meaning of a reply. It has a parser of its own because smtp-proto's
//! `ResponseReceiver` keeps enhanced codes in bytes (Microsoft 365 answers `4.7.652`), has one bound for all lines
//! together, and does not say what it objects to.

use std::ops::RangeInclusive;

pub use mail_failover_replies::EnhancedCode;

/// Most octets of a line. RFC 5321 §4.5.3.1.5 allows 512, line end included, and servers exceed it.
const MAX_LINE: usize = 2048;
/// Most octets of a reply.
const MAX_REPLY: usize = 16 * 1024;
/// Most lines of a reply. The longest EHLO answers in the field have about twenty.
const MAX_LINES: usize = 128;
/// First digit of a reply that a client may meet (RFC 5321 §4.2.1).
const FIRST_DIGIT: RangeInclusive<u8> = b'2'..=b'5';

/// A whole reply, of one or several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Reply code from 200 to 599. If lines differ against RFC 5321 §4.2.1, the last one counts, as for Postfix.
    pub code: u16,
    /// The lines without codes and line ends, joined by `\n`.
    pub text: String,
}

impl Reply {
    /// The enhanced status code of the first line.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        EnhancedCode::of_text(&self.text)
    }

    /// Returns true if an EHLO answer offers an extension.
    pub fn offers(&self, keyword: &str) -> bool {
        // Keywords begin on the second line, in any case (RFC 5321 §4.1.1.1).
        let mut keywords = self.text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next());
        keywords.any(|offered| offered.eq_ignore_ascii_case(keyword))
    }

    /// The words after an extension's keyword in an EHLO answer, of all lines that have it. `None` without such a line.
    pub fn parameters(&self, keyword: &str) -> Option<Vec<&str>> {
        let mut found = None;
        for line in self.text.lines().skip(1) {
            // `AUTH=LOGIN` is the form of AUTH before RFC 2554.
            let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            if words.next().is_some_and(|offered| offered.eq_ignore_ascii_case(keyword)) {
                found.get_or_insert_with(Vec::new).extend(words);
            }
        }
        found
    }

    /// Code and text on one line as received, still with characters that are not printable.
    pub fn line(&self) -> String {
        format!("{} {}", self.code, self.text.replace('\n', " "))
    }

    /// Code and first line. The further lines of an EHLO answer name its extensions.
    pub fn first_line(&self) -> String {
        format!("{} {}", self.code, self.text.lines().next().unwrap_or_default())
    }
}

/// Bytes that are no reply, or too many of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line without a reply code.
    #[error("not an SMTP reply: {0}")]
    NoCode(String),
    /// A line beyond the bound on octets.
    #[error("a reply line of more than {MAX_LINE} octets")]
    LineTooLong,
    /// A reply beyond the bound on lines.
    #[error("a reply of more than {MAX_LINES} lines")]
    TooManyLines,
    /// A reply beyond the bound on octets.
    #[error("a reply of more than {MAX_REPLY} octets")]
    TooLong,
}

/// Buffer that cuts a byte stream into replies, with the bytes beyond the last one.
#[derive(Default)]
pub struct ReplyReader {
    buffer: Vec<u8>,
    /// Number of lines of the present reply so far.
    lines: usize,
    /// Start of the present reply's last line.
    line_start: usize,
    /// End of the part of the last line that contains no line feed.
    searched: usize,
    /// Text of the present reply so far.
    text: Vec<u8>,
}

impl ReplyReader {
    /// Returns true if there are bytes that no reply contained.
    pub fn has_leftover(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The part of a reply that has come, its lines joined by blanks. Of a last line that has not come whole, only the
    /// code is told unless `is_whole`. `None` if nothing has come.
    pub fn begun(&self, is_whole: bool) -> Option<String> {
        let last = self.buffer.get(self.line_start..).unwrap_or_default();
        let last = if is_whole { last } else { last.get(..last.len().min(3)).unwrap_or_default() };
        let whole = self.buffer.get(..self.line_start).unwrap_or_default();
        let text = String::from_utf8_lossy(&[whole, last].concat()).replace(['\r', '\n'], " ").replace("  ", " ");
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Appends bytes that the peer sent.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next reply, or returns `None` if more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no reply, which is found before the end of a line or reply that may never come.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let end = unsearched.iter().position(|byte| *byte == b'\n').map(|at| self.searched + at);
            let line = self.buffer.get(self.line_start..end.unwrap_or(self.buffer.len())).unwrap_or_default();
            if line.len() > MAX_LINE {
                return Err(ReplyError::LineTooLong);
            }
            // A line that cannot become a reply is refused before its end: it may never end.
            let (code, is_last) = parse_code(line).ok_or_else(|| no_code(line))?;
            let Some(end) = end else {
                self.searched = self.buffer.len();
                return Ok(None);
            };
            let code = code.ok_or_else(|| no_code(line))?;
            let text = line.get(4..).unwrap_or_default();
            self.lines += 1;
            if self.lines > 1 {
                self.text.push(b'\n');
            }
            self.text.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
            self.line_start = end + 1;
            self.searched = self.line_start;
            if is_last {
                self.buffer.drain(..self.line_start);
                let reply = Reply { code, text: String::from_utf8_lossy(&self.text).into_owned() };
                (self.lines, self.line_start, self.searched) = (0, 0, 0);
                self.text.clear();
                return Ok(Some(reply));
            }
            if self.lines >= MAX_LINES {
                return Err(ReplyError::TooManyLines);
            }
            if self.line_start > MAX_REPLY {
                return Err(ReplyError::TooLong);
            }
        }
    }
}

/// The code of a line if it has come whole, and true if the line ends its reply. `None` if the line is no reply.
fn parse_code(line: &[u8]) -> Option<(Option<u16>, bool)> {
    let mut code = 0;
    for (at, byte) in line.iter().take(3).enumerate() {
        if !byte.is_ascii_digit() || (at == 0 && !FIRST_DIGIT.contains(byte)) {
            return None;
        }
        code = code * 10 + u16::from(byte - b'0');
    }
    let is_last = match line.get(3) {
        // A bare code is a whole line (RFC 5321 §4.2: clients should accept it without the space).
        None | Some(b' ' | b'\r' | b'\t') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    Some(((line.len() >= 3).then_some(code), is_last))
}

fn no_code(line: &[u8]) -> ReplyError {
    ReplyError::NoCode(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Octets that the driver reads at once.
    const READ: usize = 512;

    /// Reads one reply from bytes that come in pieces. Returns the number of octets that were taken, and true if some
    /// of them belong to no reply.
    fn read(bytes: &[u8], size: usize) -> (Result<Reply, String>, usize, bool) {
        let mut reader = ReplyReader::default();
        let mut taken = 0;
        for piece in bytes.chunks(size.min(READ)) {
            reader.push(piece);
            taken += piece.len();
            match reader.next_reply() {
                Ok(None) => {}
                Ok(Some(reply)) => return (Ok(reply), taken, reader.has_leftover()),
                Err(error) => return (Err(error.to_string()), taken, true),
            }
        }
        (Err(format!("closed {}", reader.has_leftover())), taken, reader.has_leftover())
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        let cases: &[(&[u8], u16, &str, bool)] = &[
            (b"220 mx.example.com ESMTP Postfix\r\n", 220, "mx.example.com ESMTP Postfix", false),
            (b"220 bare line feed\n", 220, "bare line feed", false),
            (b"220\r\n", 220, "", false),
            (b"220 \r\n", 220, "", false),
            (b"220-one\r\n220-two\r\n220 three\r\n", 220, "one\ntwo\nthree", false),
            (b"250-mx\r\n250\r\n", 250, "mx\n", false),
            (b"220-one\r\n554 two\r\n", 554, "one\ntwo", false),
            (b"220 ready\r\n250 injected\r\n", 220, "ready", true),
            (b"421 nul \0 within\r\n", 421, "nul \0 within", false),
            (b"421 caf\xe9\r\n", 421, "caf\u{fffd}", false),
        ];
        for (bytes, code, text, leftover) in cases {
            for size in [1, 2, 7, 4096] {
                let (reply, _, rest) = read(bytes, size);
                assert_eq!(reply, Ok(Reply { code: *code, text: (*text).to_owned() }), "{bytes:?} by {size}");
                if matches!(size, 1 | 4096) {
                    assert_eq!(rest, *leftover && size == 4096, "{bytes:?} by {size}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_early() {
        let endless = [b"220 ".as_slice(), &vec![b'x'; 1_000_000]].concat();
        let lines = b"220-x\r\n".repeat(1000);
        let long_lines = [b"220-".as_slice(), &[b'x'; 2000], b"\r\n"].concat().repeat(100);
        let many = "a reply of more than 128 lines";
        let cases: &[(&[u8], &str, usize)] = &[
            (&endless, "a reply line of more than 2048 octets", 8192),
            (&lines, many, 2048),
            (&long_lines, "a reply of more than 16384 octets", 20_000),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not an SMTP reply: S", 64),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not an SMTP reply: H", 64),
            (&[0; 1000], "not an SMTP reply: \0", 512),
            (b"\r\n220 late\r\n", "not an SMTP reply: ", 64),
            (b"22 short\r\n", "not an SMTP reply: 22 ", 64),
            (b"22\r\n", "not an SMTP reply: 22", 64),
            (b"220_odd\r\n", "not an SMTP reply: 220_", 64),
            (b"120 preliminary\r\n", "not an SMTP reply: 1", 64),
            (b"", "closed false", 0),
            (b"220 half", "closed true", 64),
            (b"220-half\r\n", "closed true", 64),
        ];
        for (bytes, error, at_most) in cases {
            for size in [1, 100_000] {
                let (reply, read, _) = read(bytes, size);
                let message = reply.unwrap_err();
                assert!(message.starts_with(error), "{message} for {error}");
                assert!(read <= *at_most, "{error}: {read} octets read");
            }
        }
    }

    #[test]
    fn an_extension_is_offered_on_a_line_after_the_first() {
        let reply = Reply { code: 250, text: "STARTTLS.example.com\nPIPELINING\nstarttls\nSIZE 1000".to_owned() };
        assert!(reply.offers("STARTTLS") && reply.offers("SIZE"));
        let reply = Reply { code: 250, text: "STARTTLS greets you\nXSTARTTLS\nAUTH STARTTLS".to_owned() };
        assert!(!reply.offers("STARTTLS"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_read_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..40_000), size in 1..3000_usize) {
            let (reply, read, _) = read(&bytes, size);
            prop_assert!(read <= MAX_REPLY + 2 * MAX_LINE + 4096);
            if let Ok(reply) = reply {
                prop_assert!((200..600).contains(&reply.code));
            }
        }

        #[test]
        fn every_reply_within_the_bounds_is_read_back(code in 200..600_u16, lines in prop::collection::vec("[ -~]{0,500}", 1..30)) {
            let (last, others) = lines.split_last().unwrap();
            let others = others.iter().fold(String::new(), |bytes, line| bytes + &format!("{code}-{line}\r\n"));
            let bytes = others + &format!("{code} {last}\r\n");
            let (reply, _, _) = read(bytes.as_bytes(), 100);
            prop_assert_eq!(reply, Ok(Reply { code, text: lines.join("\n") }));
        }
    }
}
