//! The `Received` line that each server adds (RFC 5321 §4.4).

use std::net::IpAddr;

use mail_failover_smtp::client::address_literal;

/// Most octets of the line, its end included.
pub const MAX_TRACE: u64 = 1000;

/// Facts of a `Received` line.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// Name that the application gives itself.
    pub client_name: &'a str,
    /// Address of the application.
    pub client: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// True if the application has said EHLO.
    pub is_extended: bool,
    /// True inside TLS.
    pub is_encrypted: bool,
    /// True if the application has logged in.
    pub is_authenticated: bool,
    /// True if the message uses SMTPUTF8.
    pub is_utf8: bool,
    /// Number of the message, for the logs.
    pub id: &'a str,
    /// Date and time as RFC 5322 §3.3 has it.
    pub date: &'a str,
}

impl Trace<'_> {
    /// The line, folded, with its end.
    pub fn line(&self) -> String {
        let Self { hostname, id, date, .. } = self;
        let name: String = self.client_name.chars().filter(|letter| is_name_letter(*letter)).take(255).collect();
        let name = if name.is_empty() { "unknown" } else { &name };
        let client = address_literal(self.client);
        let with = self.protocol();
        format!(
            "Received: from {name} ({client})\r\n\tby {hostname} (mail-failover relay) with {with} id {id};\r\n\t{date}\r\n"
        )
    }

    /// Name of the protocol in IANA's registry of mail transmission types (RFC 3848, RFC 6531 §4.3).
    fn protocol(&self) -> String {
        if !self.is_extended {
            return "SMTP".to_owned();
        }
        let mut name = if self.is_utf8 { "UTF8SMTP" } else { "ESMTP" }.to_owned();
        if self.is_encrypted {
            name.push('S');
        }
        if self.is_authenticated {
            name.push('A');
        }
        name
    }
}

/// True for letters of a domain or an address literal: nothing else may break out of the line.
fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | '[' | ']' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_stays_within_its_bound() {
        let (client_name, hostname) = ("x".repeat(2000), "y".repeat(253));
        let trace = Trace {
            client_name: &client_name,
            client: "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap(),
            hostname: &hostname,
            is_extended: true,
            is_encrypted: true,
            is_authenticated: true,
            is_utf8: true,
            id: "k3j2k3j2k3j2",
            date: "Mon, 30 Nov 2026 04:27:00 +0000",
        };
        assert!(trace.line().len() as u64 <= MAX_TRACE, "{}", trace.line().len());
    }

    #[test]
    fn the_line_says_who_by_whom_and_how() {
        let trace = Trace {
            client_name: "shop-0)\r\nx: (",
            client: "192.0.2.7".parse().unwrap(),
            hostname: "relay.shop.example",
            is_extended: true,
            is_encrypted: true,
            is_authenticated: true,
            is_utf8: false,
            id: "k3j2",
            date: "Mon, 30 Nov 2026 04:27:00 +0000",
        };
        assert_eq!(
            trace.line(),
            "Received: from shop-0x: ([192.0.2.7])\r\n\tby relay.shop.example (mail-failover relay) with ESMTPSA id k3j2;\r\n\tMon, 30 Nov 2026 04:27:00 +0000\r\n"
        );
        for (is_extended, is_encrypted, is_utf8, protocol) in
            [(false, true, false, "SMTP"), (true, false, false, "ESMTP"), (true, true, true, "UTF8SMTPS")]
        {
            let trace = Trace { is_extended, is_encrypted, is_utf8, is_authenticated: false, ..trace };
            assert!(trace.line().contains(&format!(" with {protocol} id ")), "{}", trace.line());
        }
    }
}
