//! Extensions that backends offer, those that all of them have in common, and those that a message needs.

use mail_failover_smtp::reply::Reply;

/// Extensions of one server, as its answer to EHLO names them. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// SIZE (RFC 1870): `Some` if it is offered. 0 stands for no limit.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub utf8: bool,
    /// DSN (RFC 3461).
    pub notifications: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_codes: bool,
}

impl Capabilities {
    /// The extensions in an answer to EHLO.
    pub fn of(hello: &Reply) -> Self {
        let size = hello.parameters("SIZE").map(|words| words.first().and_then(|word| word.parse().ok()).unwrap_or(0));
        Self {
            size,
            eight_bit: hello.offers("8BITMIME"),
            utf8: hello.offers("SMTPUTF8"),
            notifications: hello.offers("DSN"),
            enhanced_codes: hello.offers("ENHANCEDSTATUSCODES"),
        }
    }

    /// The extensions that all of these servers have, with the smallest limit that one of them names. None for no server.
    pub fn common(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().reduce(Self::and).unwrap_or_default()
    }

    fn and(self, other: Self) -> Self {
        let size = match (self.size, other.size) {
            // Who names no limit may have one, and the others' hold all the same.
            (Some(0) | None, limit) | (limit, Some(0) | None) => limit,
            (Some(one), Some(other)) => Some(one.min(other)),
        };
        Self {
            size,
            eight_bit: self.eight_bit && other.eight_bit,
            utf8: self.utf8 && other.utf8,
            notifications: self.notifications && other.notifications,
            enhanced_codes: self.enhanced_codes && other.enhanced_codes,
        }
    }

    /// The first need that a server with these extensions does not fulfil.
    pub fn lack(&self, needs: &Needs) -> Option<Lack> {
        if needs.utf8 && !self.utf8 {
            Some(Lack::Utf8)
        } else if needs.eight_bit && !self.eight_bit {
            Some(Lack::EightBit)
        } else if needs.notifications && !self.notifications {
            Some(Lack::Notifications)
        } else if matches!((needs.size, self.size), (Some(size), Some(limit)) if limit > 0 && size > limit) {
            Some(Lack::Size)
        } else {
            None
        }
    }
}

/// Extensions that a message needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Octets of the message, as declared or as counted.
    pub size: Option<u64>,
    /// True for `BODY=8BITMIME`.
    pub eight_bit: bool,
    /// True for `SMTPUTF8`.
    pub utf8: bool,
    /// True for `RET`, `ENVID`, `NOTIFY` or `ORCPT`.
    pub notifications: bool,
}

/// Need that a server does not fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The message is larger than the server takes.
    Size,
    /// The server has no 8BITMIME.
    EightBit,
    /// The server has no SMTPUTF8.
    Utf8,
    /// The server has no DSN.
    Notifications,
}

impl Lack {
    /// The refusal of a message that no backend can carry.
    // Nothing is converted: a signature (DKIM) would break.
    pub fn refusal(self) -> (u16, &'static str) {
        match self {
            Self::Size => (552, "5.3.4 the message is larger than any backend takes"),
            Self::EightBit => (554, "5.6.3 no backend takes BODY=8BITMIME"),
            Self::Utf8 => (553, "5.6.7 no backend takes SMTPUTF8"),
            Self::Notifications => (555, "5.5.4 no backend takes RET, ENVID, NOTIFY or ORCPT (DSN)"),
        }
    }

    /// A name for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "SIZE",
            Self::EightBit => "8BITMIME",
            Self::Utf8 => "SMTPUTF8",
            Self::Notifications => "DSN",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offering(lines: &str) -> Capabilities {
        Capabilities::of(&Reply { code: 250, text: format!("mx.example\n{lines}") })
    }

    #[test]
    fn what_all_servers_have_is_offered_with_the_smallest_size() {
        let one = offering("SIZE 1000\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES");
        let other = offering("size 500\n8bitmime\nCHUNKING");
        let unlimited = offering("SIZE\n8BITMIME\nSMTPUTF8");
        let common = Capabilities::common([one, other]);
        assert_eq!(common, Capabilities { size: Some(500), eight_bit: true, ..Capabilities::default() });
        assert_eq!(Capabilities::common([one, unlimited]).size, Some(1000));
        assert_eq!(Capabilities::common([unlimited, unlimited]).size, Some(0));
        assert_eq!(Capabilities::common([]), Capabilities::default());
        // A server without extensions, or that was never seen, offers nothing, and the other one's limit holds.
        let limited = Capabilities { size: Some(1000), ..Capabilities::default() };
        assert_eq!(Capabilities::common([one, offering("PIPELINING")]), limited);
        assert_eq!(Capabilities::common([Capabilities::default(), one]), limited);
        assert_eq!(Capabilities::common([unlimited, Capabilities::default(), one]), limited);
    }

    #[test]
    fn a_server_that_lacks_what_a_message_uses_is_not_for_it() {
        let plain = Needs::default();
        let large = Needs { size: Some(1001), ..plain };
        let server = offering("SIZE 1000\n8BITMIME");
        assert_eq!(server.lack(&plain), None);
        assert_eq!(server.lack(&large), Some(Lack::Size));
        assert_eq!(server.lack(&Needs { eight_bit: true, ..plain }), None);
        assert_eq!(server.lack(&Needs { utf8: true, ..plain }), Some(Lack::Utf8));
        assert_eq!(server.lack(&Needs { notifications: true, ..plain }), Some(Lack::Notifications));
        // Without SIZE, or without a number, there is no limit that is known.
        assert_eq!(offering("8BITMIME").lack(&large), None);
        assert_eq!(offering("SIZE 0").lack(&large), None);
        assert_eq!(Capabilities::default().lack(&Needs { eight_bit: true, ..plain }), Some(Lack::EightBit));
    }
}
