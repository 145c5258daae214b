//! A mail (RFC 5322) that tells a message.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::fmt::rfc2822;

use super::ToldMessage;
use crate::message::MessageText;

/// Length of a line of base64 (RFC 2045 §6.8).
const BASE64_LINE: usize = 76;
/// Length from which on a line of a body is not sent as it is (RFC 5322 §2.1.1).
const LONGEST_LINE: usize = 900;

/// The mail, with CRLF at the end of each line and without the final dot. The same message has the same `Message-ID` in
/// each attempt.
pub fn mail<'a>(told: &ToldMessage<'_>, from: &str, to: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let text = told.text();
    let domain = from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let to = to.into_iter().map(|one| format!("<{one}>")).collect::<Vec<_>>().join(",\r\n ");
    let mut mail = String::new();
    // Writing to a String cannot fail.
    let _ = write!(mail, "From: Mail failover operator <{from}>\r\nTo: {to}\r\n");
    let _ = write!(mail, "Subject: {}\r\n", subject(&text));
    let _ = write!(mail, "Date: {}\r\nMessage-ID: <{}@{domain}>\r\n", date(told), told.message.id);
    if let Some(incident) = &told.message.incident {
        // What begins and what ends stand in one thread.
        let _ = write!(mail, "References: <{incident}@{domain}>\r\n");
    }
    // RFC 3834 §5: nobody's vacation program answers.
    mail.push_str("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n");
    let plain = text.plain();
    if plain.is_ascii() && plain.lines().all(|line| line.len() < LONGEST_LINE) {
        mail.push_str("Content-Transfer-Encoding: 7bit\r\n\r\n");
        for line in plain.lines() {
            mail.push_str(line);
            mail.push_str("\r\n");
        }
    } else {
        mail.push_str("Content-Transfer-Encoding: base64\r\n\r\n");
        let encoded = STANDARD.encode(plain.replace('\n', "\r\n"));
        for line in encoded.as_bytes().chunks(BASE64_LINE) {
            mail.push_str(&String::from_utf8_lossy(line));
            mail.push_str("\r\n");
        }
    }
    mail.into_bytes()
}

/// The title with its severity; what is no ASCII is replaced: only a name of a newer version could have it.
fn subject(text: &MessageText) -> String {
    let title: String = text.title.chars().map(|one| if (' '..='~').contains(&one) { one } else { '?' }).collect();
    format!("[mail failover, {}] {}", text.severity.as_str(), super::cut(&title, 700).replace('…', "..."))
}

/// The time of the message, not of the attempt: the same in each.
fn date(told: &ToldMessage<'_>) -> String {
    rfc2822::to_string(&told.message.at.0.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default()
}
