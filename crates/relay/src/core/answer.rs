//! Answers to the application: those of backends as they are, and our own.

use std::fmt::Write as _;

use mail_failover_smtp::reply::Reply;

/// Most octets of a line of our own, its code and line end included (RFC 5321 §4.5.3.1.5).
const MAX_LINE: usize = 512;

/// One reply to the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Reply code from 200 to 599.
    pub code: u16,
    /// The lines without codes and line ends, joined by `\n`.
    pub text: String,
}

impl Answer {
    /// An answer of our own. The text begins with an enhanced code (RFC 3463) and is cut to one line.
    pub fn own(code: u16, text: impl Into<String>) -> Self {
        let text: String = text.into();
        let mut line: String = text.chars().map(printable).collect();
        if line.len() > MAX_LINE - 6 {
            let end = (0..=MAX_LINE - 9).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(end);
            line.push_str("...");
        }
        Self { code, text: line }
    }

    /// The answer of a backend, code and lines as they came.
    pub fn of(reply: &Reply) -> Self {
        // A carriage return or an escape sequence within a line would be another line, or move a cursor.
        let lines = reply.text.split('\n').map(|line| line.chars().map(printable).collect::<String>());
        Self { code: reply.code, text: lines.collect::<Vec<_>>().join("\n") }
    }

    /// True for 2yz and 3yz.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Appends the reply as it is sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            let mut text = String::with_capacity(line.len() + 6);
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{mark}{line}\r\n", self.code);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn printable(letter: char) -> char {
    if letter.is_control() { ' ' } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(answer: &Answer) -> String {
        let mut out = vec![];
        answer.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_backends_answer_is_passed_on_as_it_is() {
        let reply = Reply { code: 550, text: "5.1.1 no such user\n5.1.1 really".to_owned() };
        assert_eq!(encoded(&Answer::of(&reply)), "550-5.1.1 no such user\r\n550 5.1.1 really\r\n");
        let bare = Reply { code: 250, text: String::new() };
        assert_eq!(encoded(&Answer::of(&bare)), "250 \r\n");
    }

    #[test]
    fn no_text_of_a_backend_is_a_reply_of_its_own() {
        let reply = Reply { code: 550, text: "no\r250 yes\x1b[2J".to_owned() };
        assert_eq!(encoded(&Answer::of(&reply)), "550 no 250 yes [2J\r\n");
    }

    #[test]
    fn our_own_answers_are_one_line_within_the_bound() {
        let answer = Answer::own(451, format!("4.4.1 {}\r\nx", "é".repeat(600)));
        let line = encoded(&answer);
        assert!(line.len() <= MAX_LINE && line.ends_with("...\r\n") && line.matches("\r\n").count() == 1, "{line}");
    }
}
