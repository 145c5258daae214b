//! Content of a message as it comes: its end, its bounds, and the forms by which mail is smuggled.
//!
//! Lines end with CRLF and with nothing else (RFC 5321 §2.3.8), and only CRLF, dot, CRLF ends the content. A bare CR or
//! LF makes the whole message refused: servers that read it as a line end would see other messages in it than we do
//! (CVE-2023-51764, CVE-2023-51765, CVE-2023-51766). The content stays dot-stuffed, as it is passed on; that of BDAT
//! (RFC 3030), which has no end of its own, becomes so.

/// Most octets of a line, without its end. RFC 5321 §4.5.3.1.6 allows 998, and applications exceed it.
pub const MAX_LINE: usize = 64 * 1024;
/// Most octets of the header section.
pub const MAX_HEADER: u64 = 512 * 1024;
/// Number of `Received` lines at which a message goes in a circle (RFC 5321 §6.3).
pub const MAX_HOPS: u32 = 100;

const RECEIVED: &[u8] = b"received:";

/// Reason why a message is refused for its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFault {
    /// A line feed without a carriage return before it.
    BareLineFeed,
    /// A carriage return without a line feed after it.
    BareCarriageReturn,
    /// A NUL, which no message holds without BINARYMIME (RFC 5321 §4.1.1.4, RFC 3030).
    Nul,
    /// A line of more than [`MAX_LINE`] octets.
    LineTooLong,
    /// A header section of more than [`MAX_HEADER`] octets.
    HeaderTooLarge,
    /// [`MAX_HOPS`] `Received` lines.
    Loop,
    /// More octets than are taken.
    TooLarge,
}

impl ContentFault {
    /// The refusal.
    pub fn refusal(self) -> (u16, &'static str) {
        match self {
            Self::BareLineFeed => (550, "5.6.0 a bare LF in the message; end each line with CRLF"),
            Self::BareCarriageReturn => (550, "5.6.0 a bare CR in the message; end each line with CRLF"),
            Self::Nul => (550, "5.6.0 a NUL in the message; encode what is no text"),
            Self::LineTooLong => (550, "5.6.0 a line of more than 65536 octets"),
            Self::HeaderTooLarge => (552, "5.3.4 a header section of more than 512 KiB"),
            Self::Loop => (554, "5.4.6 too many hops: the message goes in a circle"),
            Self::TooLarge => (552, "5.3.4 the message is too large"),
        }
    }

    /// A name for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare_lf",
            Self::BareCarriageReturn => "bare_cr",
            Self::Nul => "nul",
            Self::LineTooLong => "line_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::Loop => "loop",
            Self::TooLarge => "too_large",
        }
    }
}

/// Place within the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// After CRLF, or at the beginning.
    LineStart,
    /// After a dot that begins a line. It has not been passed on.
    Dot,
    /// After that dot and a CR. Neither has been passed on.
    DotReturn,
    /// Within a line.
    Line,
    /// After a CR, which has not been passed on.
    Return,
}

/// Reader of one message's content.
#[derive(Clone, Debug)]
pub struct ContentReader {
    place: Place,
    fault: Option<ContentFault>,
    /// Octets so far, dots included.
    size: u64,
    limit: u64,
    /// Octets of the present line.
    line: usize,
    /// True before the empty line.
    is_in_header: bool,
    /// Octets of the present line that are the beginning of [`RECEIVED`]; `None` once one is not.
    matched: Option<usize>,
    hops: u32,
}

impl ContentReader {
    /// A reader that takes so many octets.
    pub fn new(limit: u64) -> Self {
        Self {
            place: Place::LineStart,
            fault: None,
            size: 0,
            limit,
            line: 0,
            is_in_header: true,
            matched: Some(0),
            hops: 0,
        }
    }

    /// Octets of the content so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The reason why the message is refused, if there is one.
    pub fn fault(&self) -> Option<ContentFault> {
        self.fault
    }

    /// Reads on. Appends what is to be passed on, which is nothing after a fault. Returns the number of octets that were
    /// taken, and true at the end of the content.
    pub fn read(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> (usize, bool) {
        content.reserve(bytes.len());
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let run = self.take_run(bytes.get(at..).unwrap_or_default(), content);
            if run > 0 {
                at += run;
                continue;
            }
            at += 1;
            if self.take(*byte, content) {
                return (at, true);
            }
        }
        (bytes.len(), false)
    }

    // ADR-0156: A message in chunks is passed on by DATA.
    /// Reads a part of content that came by BDAT. Appends it with a dot before each line that begins with one.
    pub fn read_chunk(&mut self, bytes: &[u8], content: &mut Vec<u8>) {
        content.reserve(bytes.len());
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let run = self.take_run(bytes.get(at..).unwrap_or_default(), content);
            if run > 0 {
                at += run;
                continue;
            }
            at += 1;
            self.look_for_nul(*byte);
            if (self.place, *byte) == (Place::LineStart, b'.') {
                self.emit(b"..", content);
                self.place = Place::Line;
                self.matched = None;
            } else {
                self.take_within(*byte, content);
            }
        }
    }

    /// Ends content that came by BDAT. A last line without an end gets one: DATA knows no other lines.
    pub fn finish(&mut self, content: &mut Vec<u8>) {
        match self.place {
            Place::LineStart => {}
            Place::Return | Place::DotReturn => self.fail(ContentFault::BareCarriageReturn),
            Place::Line | Place::Dot => {
                self.emit(b"\r\n", content);
                self.end_line();
            }
        }
    }

    /// Takes the octets before the next one that ends a line or is refused, if they only belong to the present line.
    /// Returns their number.
    // One after the other they would cost more than everything else that is done for a message.
    fn take_run(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> usize {
        if self.place != Place::Line || (self.is_in_header && self.matched.is_some()) {
            return 0;
        }
        let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)).unwrap_or(bytes.len());
        self.emit(bytes.get(..end).unwrap_or_default(), content);
        end
    }

    /// Takes an octet. Returns true if it ends the content.
    fn take(&mut self, byte: u8, content: &mut Vec<u8>) -> bool {
        self.look_for_nul(byte);
        match (self.place, byte) {
            (Place::LineStart, b'.') => self.place = Place::Dot,
            (Place::Dot, b'\r') => self.place = Place::DotReturn,
            (Place::DotReturn, b'\n') => return true,
            _ => self.take_within(byte, content),
        }
        false
    }

    // Servers drop it, cut the line there, or see another end of the message: `<CRLF>.<NUL><CRLF>`.
    fn look_for_nul(&mut self, byte: u8) {
        if byte == 0 {
            self.fail(ContentFault::Nul);
        }
    }

    fn take_within(&mut self, byte: u8, content: &mut Vec<u8>) {
        match (self.place, byte) {
            (Place::LineStart | Place::Line, b'\r') => self.place = Place::Return,
            (Place::Return, b'\n') => {
                self.emit(b"\r\n", content);
                self.end_line();
            }
            (Place::Return | Place::DotReturn, _) => {
                self.fail(ContentFault::BareCarriageReturn);
                self.place = if byte == b'\r' { Place::Return } else { Place::Line };
            }
            (Place::LineStart | Place::Line | Place::Dot, b'\n') => {
                self.fail(ContentFault::BareLineFeed);
                // No line begins here: `<LF>.<CRLF>` ends nothing.
                self.place = Place::Line;
            }
            (Place::Dot, _) => {
                self.emit(&[b'.', byte], content);
                self.place = Place::Line;
                self.matched = None;
            }
            (Place::LineStart | Place::Line, _) => {
                self.emit(&[byte], content);
                self.place = Place::Line;
                if self.is_in_header {
                    self.look_at_header(byte);
                }
            }
        }
    }

    fn emit(&mut self, bytes: &[u8], content: &mut Vec<u8>) {
        self.size += bytes.len() as u64;
        self.line += bytes.len();
        if self.size > self.limit {
            self.fail(ContentFault::TooLarge);
        } else if self.line > MAX_LINE + 2 {
            self.fail(ContentFault::LineTooLong);
        }
        if self.fault.is_none() {
            content.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        if self.line == 2 {
            self.is_in_header = false;
        }
        if self.is_in_header && self.size > MAX_HEADER {
            self.fail(ContentFault::HeaderTooLarge);
        }
        self.line = 0;
        self.matched = Some(0);
        self.place = Place::LineStart;
    }

    fn look_at_header(&mut self, byte: u8) {
        let Some(matched) = self.matched else { return };
        if RECEIVED.get(matched).is_none_or(|wanted| !wanted.eq_ignore_ascii_case(&byte)) {
            self.matched = None;
            return;
        }
        self.matched = Some(matched + 1);
        if matched + 1 == RECEIVED.len() {
            self.hops += 1;
            if self.hops >= MAX_HOPS {
                self.fail(ContentFault::Loop);
            }
        }
    }

    fn fail(&mut self, fault: ContentFault) {
        self.fault.get_or_insert(fault);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the bytes in pieces of this size. Returns what is passed on, the fault, and what follows the end.
    fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<ContentFault>, Option<Vec<u8>>) {
        let mut reader = ContentReader::new(1_000_000);
        let (mut content, mut at) = (vec![], 0);
        while at < bytes.len() {
            let (taken, is_end) = reader.read(&bytes[at..bytes.len().min(at + piece)], &mut content);
            at += taken;
            if is_end {
                return (content, reader.fault(), Some(bytes[at..].to_vec()));
            }
        }
        (content, reader.fault(), None)
    }

    #[test]
    fn content_is_passed_on_as_it_came_and_ends_at_its_dot() {
        for (given, passed_on, rest) in [
            (&b"a: b\r\n\r\nhello\r\n.\r\nQUIT\r\n"[..], &b"a: b\r\n\r\nhello\r\n"[..], &b"QUIT\r\n"[..]),
            (b".\r\n", b"", b""),
            (b"..\r\n...\r\n.x\r\n.\r\n", b"..\r\n...\r\n.x\r\n", b""),
            (b"x.\r\n.\r\n.\r\n", b"x.\r\n", b".\r\n"),
        ] {
            for piece in 1..given.len() {
                let (content, fault, end) = read(given, piece);
                assert_eq!((content.as_slice(), fault, end.as_deref()), (passed_on, None, Some(rest)), "{piece}");
            }
        }
    }

    #[test]
    fn what_servers_disagree_about_is_refused_and_ends_nothing() {
        use ContentFault::{BareCarriageReturn, BareLineFeed};
        for (smuggled, fault) in [
            (&b"a\n.\r\nMAIL FROM:<x@example.net>\r\n"[..], BareLineFeed),
            (b"a\n.\nMAIL FROM:<x@example.net>\r\n", BareLineFeed),
            (b"a\r\n.\nMAIL FROM:<x@example.net>\r\n", BareLineFeed),
            (b"a\r.\r\nMAIL FROM:<x@example.net>\r\n", BareCarriageReturn),
            (b"a\r\n.\rMAIL FROM:<x@example.net>\r\n", BareCarriageReturn),
            (b"a\r.\rMAIL FROM:<x@example.net>\r\n", BareCarriageReturn),
            (b"a\r\r\n.\r\r\nMAIL FROM:<x@example.net>\r\n", BareCarriageReturn),
            (b"\n.\r\n", BareLineFeed),
            (b"\n", BareLineFeed),
        ] {
            let whole = [smuggled, b"\r\n.\r\nNOOP\r\n"].concat();
            for piece in [1, 2, 3, whole.len()] {
                let (_, found, end) = read(&whole, piece);
                let shown = String::from_utf8_lossy(smuggled);
                assert_eq!((found, end.as_deref()), (Some(fault), Some(&b"NOOP\r\n"[..])), "{shown:?}");
            }
        }
    }

    #[test]
    fn a_nul_is_refused_wherever_it_stands() {
        for given in [
            &b"a\0b\r\n"[..],
            b"\0\r\n",
            b"x\r\n.\0\r\n",
            b"x\r\n\0.\r\n",
            b"x\r\0\n.\r\n",
            b"x\r\n.\r\0\n",
            b"a: \0\r\n",
        ] {
            let whole = [given, b"\r\n.\r\nNOOP\r\n"].concat();
            for piece in [1, 2, whole.len()] {
                let (content, fault, end) = read(&whole, piece);
                let shown = String::from_utf8_lossy(given);
                assert!(fault == Some(ContentFault::Nul) || shown.contains("\r\0"), "{shown:?}: {fault:?}");
                assert!(fault.is_some() && !content.contains(&0), "{shown:?}");
                assert_eq!(end.as_deref(), Some(&b"NOOP\r\n"[..]), "{shown:?}");
            }
            assert!(chunked(given, 2).1.is_some());
        }
        assert_eq!(chunked(b"a\0\r\n", 1).1, Some(ContentFault::Nul));
    }

    #[test]
    fn a_message_that_went_through_a_hundred_servers_goes_in_a_circle() {
        let header = |hops: usize| {
            [b"RECEIVED: by us\r\n".repeat(hops), b"Received-SPF: x\r\n\r\nReceived: in the body\r\n.\r\n".to_vec()]
                .concat()
        };
        assert_eq!(read(&header(99), 7).1, None);
        assert_eq!(read(&header(100), 7).1, Some(ContentFault::Loop));
    }

    #[test]
    fn lines_headers_and_messages_have_bounds() {
        let line = |octets: usize| [b"\r\n".to_vec(), vec![b'x'; octets], b"\r\n.\r\n".to_vec()].concat();
        assert_eq!(read(&line(MAX_LINE), 4096).1, None);
        assert_eq!(read(&line(MAX_LINE + 1), 4096).1, Some(ContentFault::LineTooLong));
        let header = [b"a: b\r\n".repeat(90_000), b"\r\n.\r\n".to_vec()].concat();
        assert_eq!(read(&header, 4096).1, Some(ContentFault::HeaderTooLarge));
        let mut reader = ContentReader::new(8);
        let mut content = vec![];
        assert_eq!(reader.read(b"123456\r\n7\r\n.\r\n", &mut content), (14, true));
        assert_eq!((reader.fault(), content.as_slice()), (Some(ContentFault::TooLarge), &b"123456\r\n"[..]));
    }

    /// Content that came by BDAT in pieces of this size, and its fault.
    fn chunked(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<ContentFault>) {
        let (mut reader, mut content) = (ContentReader::new(1_000_000), vec![]);
        for part in bytes.chunks(piece) {
            reader.read_chunk(part, &mut content);
        }
        reader.finish(&mut content);
        (content, reader.fault())
    }

    #[test]
    fn content_of_bdat_becomes_dot_stuffed_lines() {
        use ContentFault::{BareCarriageReturn, BareLineFeed};
        for (given, expected) in [
            (&b"a: b\r\n\r\nhello\r\n"[..], Ok(&b"a: b\r\n\r\nhello\r\n"[..])),
            (b".\r\n..\r\n.x", Ok(b"..\r\n...\r\n..x\r\n")),
            (b"x\r\n.\r\nMAIL FROM:<x@example.net>\r\n", Ok(b"x\r\n..\r\nMAIL FROM:<x@example.net>\r\n")),
            (b"", Ok(b"")),
            (b"no end", Ok(b"no end\r\n")),
            (b"a\nb\r\n", Err(BareLineFeed)),
            (b"a\rb\r\n", Err(BareCarriageReturn)),
            (b"a\r", Err(BareCarriageReturn)),
        ] {
            for piece in [1, 2, 3, 100] {
                let (content, fault) = chunked(given, piece);
                let shown = String::from_utf8_lossy(given);
                match expected {
                    Ok(expected) => assert_eq!((content.as_slice(), fault), (expected, None), "{shown:?}"),
                    Err(expected) => assert_eq!(fault, Some(expected), "{shown:?}"),
                }
            }
        }
    }

    /// The end as a regular expression would find it, and nothing cleverer.
    fn end_of(bytes: &[u8]) -> Option<usize> {
        if bytes.starts_with(b".\r\n") {
            return Some(3);
        }
        bytes.windows(5).position(|window| window == b"\r\n.\r\n").map(|at| at + 5)
    }

    proptest! {
        #[test]
        fn no_content_of_bdat_ends_the_data_that_it_becomes(bytes in prop::collection::vec(prop::sample::select(b"\r\n.ax".to_vec()), 0..60), piece in 1..9_usize) {
            let (content, fault) = chunked(&bytes, piece);
            if fault.is_none() {
                prop_assert_eq!(end_of(&content), None);
                // A reader of DATA finds the same, up to the end of the last line.
                let (again, fault, _) = read(&[content.as_slice(), b".\r\n"].concat(), piece);
                prop_assert_eq!((again.as_slice(), fault), (content.as_slice(), None));
                let unstuffed: Vec<_> = String::from_utf8(content).unwrap().split("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line).to_owned()).collect();
                let sent = String::from_utf8(bytes).unwrap();
                let (taken, sent) = (unstuffed.join("\r\n"), sent);
                prop_assert_eq!(taken.trim_end_matches("\r\n"), sent.trim_end_matches("\r\n"));
            }
        }

        #[test]
        fn only_crlf_dot_crlf_ends_content(bytes in prop::collection::vec(prop::sample::select(b"\r\n.ax".to_vec()), 0..60), piece in 1..9_usize) {
            let (content, fault, end) = read(&bytes, piece);
            let expected = end_of(&bytes);
            prop_assert_eq!(end.map(|rest| bytes.len() - rest.len()), expected);
            if let (None, Some(end)) = (fault, expected) {
                prop_assert_eq!(content.as_slice(), &bytes[..end - 3]);
                // What is passed on has no other end in it.
                prop_assert_eq!(end_of(&content), None);
                let lines = String::from_utf8(content).unwrap();
                prop_assert!(!lines.replace("\r\n", "").contains(['\r', '\n']));
            }
        }
    }
}
