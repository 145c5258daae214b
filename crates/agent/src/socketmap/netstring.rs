//! Netstrings, `LENGTH:BYTES,`: the frames of a socketmap (`socketmap_table(5)`).
//!
//! Pure, and bounded whatever arrives: a [`Decoder`] never holds more than one request of [`MAX_REQUEST`] bytes.

/// Longest request that is taken. Newer versions of Postfix refuse to send longer ones.
pub const MAX_REQUEST: usize = 10_000;
/// Longest reply that Postfix takes.
pub const MAX_REPLY: usize = 100_000;
/// Number of digits in [`MAX_REQUEST`].
const MAX_DIGITS: usize = 5;
/// A whole frame of the longest request.
const MAX_FRAME: usize = MAX_DIGITS + 1 + MAX_REQUEST + 1;

/// Error of bytes that are no netstring. The bytes after them cannot be understood any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Text in the place of a length, such as `GET / HTTP/1.1` or `007:`.
    #[error("no length in decimal digits and a colon")]
    Length,
    /// Length above [`MAX_REQUEST`].
    #[error("more than {MAX_REQUEST} bytes")]
    TooLong,
    /// The comma is missing.
    #[error("no comma after so many bytes as announced")]
    End,
}

impl Malformed {
    /// A name for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::TooLong => "too_long",
            Self::End => "end",
        }
    }
}

/// Decoder that takes bytes as they arrive and gives out the strings in them.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Number of bytes at the beginning that have been given out.
    given: usize,
}

impl Decoder {
    /// Takes as many of the bytes as there is room for, and returns their number. It takes all of them, unless
    /// [`Self::take`] has a string or an error to return.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.buffer.drain(..self.given);
        self.given = 0;
        let count = bytes.len().min(MAX_FRAME.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(&bytes[..count]);
        count
    }

    /// Returns the next string, once it is complete.
    ///
    /// # Errors
    /// [`Malformed`], now and ever after: the place where the next string begins is unknown.
    pub fn take(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let rest = &self.buffer[self.given..];
        let Some((digits, length)) = length(rest)? else { return Ok(None) };
        let begin = digits + 1;
        match rest.get(begin + length) {
            None => Ok(None),
            Some(b',') => {
                let begin = self.given + begin;
                self.given = begin + length + 1;
                Ok(Some(&self.buffer[begin..begin + length]))
            }
            Some(_) => Err(Malformed::End),
        }
    }

    /// Returns true if a string has begun that is not complete.
    pub fn is_amid(&self) -> bool {
        self.given < self.buffer.len()
    }

    /// Returns the number of bytes for which it holds memory.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Returns the number of digits and their value. `None` if more bytes have to come.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' if number == 0 && at == 1 => return Err(Malformed::Length),
            b'0'..=b'9' => number = number * 10 + usize::from(byte - b'0'),
            b':' if at > 0 => return Ok(Some((at, number))),
            _ => return Err(Malformed::Length),
        }
        if number > MAX_REQUEST {
            return Err(Malformed::TooLong);
        }
    }
    Ok(None)
}

/// Appends these bytes as a netstring.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes bytes that arrive in pieces of this size.
    fn decoded(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Malformed>) {
        let (mut decoder, mut strings) = (Decoder::default(), vec![]);
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                piece = &piece[decoder.push(piece)..];
                loop {
                    match decoder.take() {
                        Ok(Some(string)) => strings.push(string.to_vec()),
                        Ok(None) => break,
                        Err(malformed) => return (strings, Some(malformed)),
                    }
                }
            }
        }
        (strings, None)
    }

    #[test]
    fn what_is_no_netstring_is_refused_as_soon_as_that_is_sure() {
        for (bytes, why) in [
            ("GET / HTTP/1.1", Malformed::Length),
            (":x,", Malformed::Length),
            ("-1:x,", Malformed::Length),
            (" 1:x,", Malformed::Length),
            ("01:x,", Malformed::Length),
            ("00:,", Malformed::Length),
            ("1x", Malformed::Length),
            ("10001", Malformed::TooLong),
            ("99999999999999999999999", Malformed::TooLong),
            ("1:xy", Malformed::End),
            ("0:x", Malformed::End),
        ] {
            for piece in [1, 2, 100] {
                assert_eq!(decoded(bytes.as_bytes(), piece), (vec![], Some(why)), "{bytes} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_may_become_a_netstring_is_waited_for() {
        for bytes in ["", "1", "10000", "3:", "3:ab", "3:abc", "0:"] {
            assert_eq!(decoded(bytes.as_bytes(), 1), (vec![], None), "{bytes}");
        }
        assert_eq!(decoded(b"0:,1:x,", 100), (vec![vec![], b"x".to_vec()], None));
    }

    proptest! {
        #[test]
        fn strings_come_out_as_they_went_in(
            strings in prop::collection::vec((0..=MAX_REQUEST, any::<u8>()), 0..5), piece in 1_usize..20_000
        ) {
            let strings: Vec<_> = strings.into_iter().map(|(length, byte)| vec![byte; length]).collect();
            let mut bytes = vec![];
            for string in &strings {
                encode(string, &mut bytes);
            }
            prop_assert_eq!(decoded(&bytes, piece), (strings, None));
        }

        #[test]
        fn the_size_of_the_pieces_does_not_matter(
            bytes in prop::collection::vec(prop_oneof![Just(b':'), Just(b','), b'0'..=b'3', any::<u8>()], 0..200), piece in 1_usize..50
        ) {
            prop_assert_eq!(decoded(&bytes, piece), decoded(&bytes, bytes.len().max(1)));
        }

        #[test]
        fn nothing_makes_it_grow(pieces in prop::collection::vec((0_usize..30_000, any::<u8>()), 0..10)) {
            let mut decoder = Decoder::default();
            for (length, byte) in pieces {
                decoder.push(&vec![byte; length]);
                let _ = decoder.take();
                prop_assert!(decoder.capacity() <= 2 * MAX_FRAME);
            }
        }
    }
}
