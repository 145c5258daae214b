//! Replies of a map (`socketmap_table(5)`).

use mail_failover_core::model::text::visible;

use super::netstring::{MAX_REPLY, encode};

/// Reply of a map. [`Self::Found`] may hold a password: nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub enum MapReply {
    /// Value of the key: `OK data`.
    Found(String),
    /// No value for the key: `NOTFOUND `. Postfix goes on without it.
    NotFound,
    /// Temporary error: `TEMP reason`. Postfix keeps the message, logs the reason and asks again later.
    Temporary(String),
    /// Permanent error: `PERM reason`. The request is wrong.
    Permanent(String),
}

impl MapReply {
    /// A name for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::NotFound => "not_found",
            Self::Temporary(_) => "temporary",
            Self::Permanent(_) => "permanent",
        }
    }

    /// Appends the reply as a netstring.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = match self {
            Self::Found(data) => format!("OK {data}"),
            // With the blank: Postfix wants one after every status.
            Self::NotFound => "NOTFOUND ".to_owned(),
            Self::Temporary(reason) => format!("TEMP {}", in_one_line(reason)),
            Self::Permanent(reason) => format!("PERM {}", in_one_line(reason)),
        };
        if text.len() > MAX_REPLY {
            return Self::Temporary("the answer is too long for Postfix".to_owned()).encode(out);
        }
        encode(text.as_bytes(), out);
    }
}

impl std::fmt::Debug for MapReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes the text one line in which each character shows itself, and limits its length, for a log.
fn in_one_line(text: &str) -> String {
    visible(text).chars().take(1_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_look_as_postfix_wants_them() {
        for (reply, wire) in [
            (MapReply::Found("smtp:[a.example]:25".to_owned()), "22:OK smtp:[a.example]:25,"),
            (MapReply::NotFound, "9:NOTFOUND ,"),
            (MapReply::Temporary("wait\na bit".to_owned()), "15:TEMP wait a bit,"),
            (MapReply::Permanent("no".to_owned()), "7:PERM no,"),
        ] {
            let mut out = vec![];
            reply.encode(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wire);
        }
    }

    #[test]
    fn too_long_an_answer_is_none() {
        let mut out = vec![];
        MapReply::Found("x".repeat(MAX_REPLY)).encode(&mut out);
        assert!(String::from_utf8(out).unwrap().contains("TEMP the answer is too long"));
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", MapReply::Found("user:hunter2".to_owned())).contains("hunter2"));
    }
}
