//! Reading SMTP replies from a peer that may be anything: bounded in bytes and lines, tolerant where servers are known
//! to be sloppy.
//!
//! A parser of our own: smtp-proto's `ResponseReceiver` keeps enhanced codes in bytes (Microsoft 365 answers
//! `4.7.652`), has one bound for all lines together, and does not say what it objects to. This module never judges what
//! a reply means.

use std::io;
use std::ops::RangeInclusive;

use tokio::io::{AsyncRead, AsyncReadExt};

/// RFC 5321 §4.5.3.1.5 allows 512 octets, line end included; servers exceed it, so four times as much is taken.
const MAX_LINE: usize = 2048;
/// Of one reply.
const MAX_REPLY: usize = 16 * 1024;
/// Of one reply; the longest EHLO answers in the field have about twenty.
const MAX_LINES: usize = 128;
/// Enough for nearly every reply, so that a dialogue allocates once.
const FIRST_READ: usize = 512;
/// RFC 5321 §4.2.1: the first digit of a reply that a client may meet.
const FIRST_DIGIT: RangeInclusive<u8> = b'2'..=b'5';

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// The code at the start of a reply's text, if there is one: `4.7.0 Try again`.
    pub fn at_start_of(text: &str) -> Option<Self> {
        let mut parts = text.split([' ', '\t', '\r', '\n']).next()?.split('.');
        let part = |part: &str| {
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        };
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let code = Self(class, part(parts.next()?)?, part(parts.next()?)?);
        parts.next().is_none().then_some(code)
    }
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599; of the last line, as Postfix takes it, where lines differ against RFC 5321 §4.2.1.
    pub code: u16,
    /// Its lines without codes and line ends, joined by `\n`.
    pub text: String,
}

impl Reply {
    /// The enhanced status code of its first line.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        EnhancedCode::at_start_of(&self.text)
    }

    /// Whether an EHLO answer offers an extension (RFC 5321 §4.1.1.1: keywords begin on the second line, in any case).
    pub fn offers(&self, keyword: &str) -> bool {
        let keywords = self.text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next());
        keywords.into_iter().any(|offered| offered.eq_ignore_ascii_case(keyword))
    }

    /// The words after an extension's keyword in an EHLO answer, of all lines that have it; `None` where there is none.
    /// `AUTH=LOGIN` is how AUTH was announced before RFC 2554.
    pub fn parameters(&self, keyword: &str) -> Option<Vec<&str>> {
        let mut found = None;
        for line in self.text.lines().skip(1) {
            let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            if words.next().is_some_and(|offered| offered.eq_ignore_ascii_case(keyword)) {
                found.get_or_insert_with(Vec::new).extend(words);
            }
        }
        found
    }

    /// Code and text on one line, as received; not yet fit for people.
    pub fn line(&self) -> String {
        format!("{} {}", self.code, self.text.replace('\n', " "))
    }
}

/// Why there was no reply.
#[derive(Debug)]
pub enum ReplyError {
    /// The peer closed the connection; whether within a reply.
    Closed {
        /// Some bytes of a reply had come.
        within_reply: bool,
    },
    /// Reading failed.
    Io(io::Error),
    /// Bytes that are no reply, or too many of them.
    Malformed(String),
}

/// Cuts a byte stream into replies. Holds what was read beyond the last one.
#[derive(Debug, Default)]
pub struct ReplyReader {
    buffer: Vec<u8>,
    /// Of the reply being read: its lines so far.
    lines: usize,
    /// Of the reply being read: where its current line begins.
    line_start: usize,
    /// Up to where the current line was searched for its end.
    searched: usize,
    text: Vec<u8>,
}

impl ReplyReader {
    /// Whether bytes were read that belong to no reply asked for.
    pub fn has_leftover(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next reply.
    ///
    /// # Errors
    /// When the peer closes, reading fails, or what comes is no reply. Never waits for an end that is beyond the
    /// bounds.
    pub async fn read<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> Result<Reply, ReplyError> {
        loop {
            if let Some(reply) = self.parse()? {
                return Ok(reply);
            }
            self.buffer.reserve(FIRST_READ);
            match (&mut *stream).take(MAX_LINE as u64).read_buf(&mut self.buffer).await {
                Ok(0) => return Err(ReplyError::Closed { within_reply: !self.buffer.is_empty() }),
                Ok(_) => {}
                Err(error) => return Err(ReplyError::Io(error)),
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let end = unsearched.iter().position(|byte| *byte == b'\n').map(|at| self.searched + at);
            let line = self.buffer.get(self.line_start..end.unwrap_or(self.buffer.len())).unwrap_or_default();
            if line.len() > MAX_LINE {
                return Err(malformed(format!("a reply line of more than {MAX_LINE} octets")));
            }
            // What cannot become a reply is refused before its line ends: it may never end.
            let (code, is_last) = parse_code(line)?;
            let Some(end) = end else {
                self.searched = self.buffer.len();
                return Ok(None);
            };
            let Some(code) = code else {
                return Err(malformed(format!("not an SMTP reply: {}", String::from_utf8_lossy(line))));
            };
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
                return Err(malformed(format!("a reply of more than {MAX_LINES} lines")));
            }
            if self.line_start > MAX_REPLY {
                return Err(malformed(format!("a reply of more than {MAX_REPLY} octets")));
            }
        }
    }
}

/// The code of a line, once it has come, and whether the line ends its reply.
fn parse_code(line: &[u8]) -> Result<(Option<u16>, bool), ReplyError> {
    let refused = || malformed(format!("not an SMTP reply: {}", String::from_utf8_lossy(line)));
    let mut code = 0;
    for (at, byte) in line.iter().take(3).enumerate() {
        if !byte.is_ascii_digit() || (at == 0 && !FIRST_DIGIT.contains(byte)) {
            return Err(refused());
        }
        code = code * 10 + u16::from(byte - b'0');
    }
    let is_last = match line.get(3) {
        // A bare code is a whole line (RFC 5321 §4.2: clients should accept it without the space).
        None | Some(b' ' | b'\r' | b'\t') => true,
        Some(b'-') => false,
        Some(_) => return Err(refused()),
    };
    Ok(((line.len() >= 3).then_some(code), is_last))
}

fn malformed(what: String) -> ReplyError {
    ReplyError::Malformed(what)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use proptest::prelude::*;
    use tokio::io::ReadBuf;

    use super::*;

    /// Gives its bytes in pieces, then ends.
    struct Pieces<'a> {
        bytes: &'a [u8],
        size: usize,
        read: usize,
    }

    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let piece = self.bytes.len().min(self.size).min(buf.remaining());
            let (now, later) = self.bytes.split_at(piece);
            buf.put_slice(now);
            self.bytes = later;
            self.read += piece;
            Poll::Ready(Ok(()))
        }
    }

    fn read(bytes: &[u8], size: usize) -> (Result<Reply, String>, usize, bool) {
        let mut stream = Pieces { bytes, size, read: 0 };
        let mut reader = ReplyReader::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reply = runtime.block_on(reader.read(&mut stream));
        let reply = reply.map_err(|error| match error {
            ReplyError::Closed { within_reply } => format!("closed {within_reply}"),
            ReplyError::Io(error) => error.to_string(),
            ReplyError::Malformed(what) => what,
        });
        (reply, stream.read, reader.has_leftover())
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
    fn enhanced_codes_are_those_of_rfc_3463() {
        let cases = [
            ("4.7.0 Try again", Some(EnhancedCode(4, 7, 0))),
            ("4.7.652 The mail server has exceeded", Some(EnhancedCode(4, 7, 652))),
            ("2.0.0\nmore", Some(EnhancedCode(2, 0, 0))),
            ("5.1.1", Some(EnhancedCode(5, 1, 1))),
            ("3.1.1 no such class", None),
            ("5.1", None),
            ("5.1.1.1 four", None),
            ("5.1.1000 long", None),
            ("5..1 empty", None),
            ("192.0.2.7 is an address", None),
            ("mx.example.com", None),
            ("", None),
        ];
        for (text, code) in cases {
            assert_eq!(EnhancedCode::at_start_of(text), code, "{text}");
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
