//! Parser of one line of Postfix's log: its header, and the delivery record in it. Pure and total: a line that is no
//! delivery record gives `None`.
//!
//! The timestamps of syslog (RFC 3164, RFC 5424), of ISO 8601 and of `maillog_file` are skipped: the time of reading
//! counts. Recipients choose parts of a line, and so do servers. A quoted address cannot pass for the fields after it,
//! and a line in which a second record follows the first is refused: where addresses are logged unquoted
//! (`info_log_address_format = internal`), one of the two is a recipient's invention.

use std::borrow::Cow;
use std::time::Duration;

use super::json;

/// Length at which lines are cut. Postfix itself cuts its own at 2,000 octets; JSON makes them longer.
pub const MAX_LINE: usize = 8192;
/// Length at which Postfix cuts what it logs, in octets (`MSG_SYSLOG_RECLEN` in `msg_syslog.c`).
const CUT_AT: usize = 2000;
/// Limit of the fields of a record; Postfix 3.11 logs nine.
const MAX_FIELDS: usize = 24;

/// One line without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// Last part of the program's name: `smtp`, `error`, `qmgr`, …
    pub program: Cow<'a, str>,
    /// Process that logged it, if the line says so.
    pub process: Option<u32>,
    /// Text after the header.
    pub message: Cow<'a, str>,
}

/// A delivery record: `QUEUEID: to=<…>, relay=…, delay=…, delays=a/b/c/d, dsn=…, status=… (…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Queue id of the message.
    pub queue_id: &'a str,
    /// Recipient, as it is written in the line.
    pub recipient: &'a str,
    /// Server, as `host[address]:port`, `none`, `local`, …
    pub relay: &'a str,
    /// Time since the message came in.
    pub age: Duration,
    /// Time from the beginning of connecting to the end: `c + d`.
    pub took: Duration,
    /// Result: `sent`, `deferred`, `bounced`, `expired`, `SOFTBOUNCE`, …
    pub status: &'a str,
    /// Text in the parentheses at the end.
    pub reason: &'a str,
    /// True if the line ends before its record does, or may do so.
    pub is_cut: bool,
}

impl<'a> LogLine<'a> {
    /// Splits a line with any of the headers. `None` if it has none that is known.
    pub fn parse(line: &'a str) -> Option<Self> {
        let line = bounded(line.trim_end());
        let written = after_engine(line.trim_start()).trim_start();
        if written.starts_with('{') {
            return json::parse(written);
        }
        rfc_5424(line).or_else(|| tagged(line))
    }

    pub(super) fn new(tag: &'a str, process: Option<u32>, message: &'a str) -> Self {
        Self { program: tag.rsplit('/').next().unwrap_or(tag).into(), process, message: message.into() }
    }

    pub(super) fn into_owned(self) -> LogLine<'static> {
        LogLine {
            program: self.program.into_owned().into(),
            process: self.process,
            message: self.message.into_owned().into(),
        }
    }

    /// Returns the queue id and the text after it.
    pub fn of_message(&self) -> Option<(&str, &str)> {
        let (queue_id, text) = self.message.split_once(": ")?;
        is_queue_id(queue_id).then_some((queue_id, text))
    }

    /// Returns the delivery record, if the line is one.
    pub fn record(&self) -> Option<LogRecord<'_>> {
        let (queue_id, fields) = self.of_message()?;
        let (recipient, fields) = address(fields.strip_prefix("to=<")?)?;
        let fields = match fields.strip_prefix("orig_to=<") {
            Some(original) => address(original)?.1,
            None => fields,
        };
        let fields = Fields::parse(fields)?;
        let Fields { relay, age, took, status, rest } = fields;
        // ADR-0076: A line with two delivery records is refused.
        if holds_record(rest) {
            return None;
        }
        let reason = rest.strip_prefix('(')?;
        let is_cut = !reason.ends_with(')') || self.message.len() >= CUT_AT;
        let reason = reason.strip_suffix(')').unwrap_or(reason);
        Some(LogRecord { queue_id, recipient, relay, age, took, status, reason, is_cut })
    }

    /// True if the line looks like a delivery record, whether it can be read or not.
    pub fn resembles_record(&self) -> bool {
        self.message.contains(": to=<") && self.message.contains(" status=")
    }
}

/// The fields of a record from `relay=` on.
struct Fields<'a> {
    relay: &'a str,
    age: Duration,
    took: Duration,
    status: &'a str,
    /// Text after the status and a blank.
    rest: &'a str,
}

impl<'a> Fields<'a> {
    /// Parses `relay=…, delay=…, delays=…, dsn=…, status=…` in this order, with any other `name=value` between them.
    fn parse(text: &'a str) -> Option<Self> {
        const KNOWN: [&str; 4] = ["relay", "delay", "delays", "dsn"];
        let mut values = [""; KNOWN.len()];
        let (mut found, mut text) = (0, text);
        for _ in 0..MAX_FIELDS {
            let (field, rest) = text.split_once(' ')?;
            let (name, value) = field.split_once('=')?;
            if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                return None;
            }
            if name == "status" && found == KNOWN.len() {
                let [relay, delay, delays, _dsn] = values;
                return Some(Self { relay, age: seconds(delay)?, took: took(delays)?, status: value, rest });
            }
            let value = value.strip_suffix(',')?;
            if KNOWN.get(found) == Some(&name) {
                values[found] = value;
                found += 1;
            } else if found == 0 {
                return None;
            }
            text = rest;
        }
        None
    }
}

/// True if another record follows an address in the text.
fn holds_record(text: &str) -> bool {
    const AFTER_ADDRESS: &str = ">, ";
    text.match_indices(AFTER_ADDRESS).any(|(at, _)| Fields::parse(&text[at + AFTER_ADDRESS.len()..]).is_some())
}

fn bounded(line: &str) -> &str {
    let mut end = line.len().min(MAX_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

fn is_queue_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Parses `a/b/c/d` and returns the time spent connecting and sending.
fn took(delays: &str) -> Option<Duration> {
    let mut delays = delays.split('/');
    let (connecting, sending) = (seconds(delays.nth(2)?)?, seconds(delays.next()?)?);
    connecting.checked_add(sending)
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Splits `address>, rest`.
fn address(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    if let Some(quoted) = text.strip_prefix('"') {
        let mut escaped = false;
        let closing = quoted.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        })?;
        from = closing + 1;
    }
    let end = from + text[from..].find(">, ")?;
    Some((&text[..end], &text[end + 3..]))
}

/// Parses `[<PRI>][1 ]TIME HOST APP PROCID MSGID SD MESSAGE` (RFC 5424 §6), which some templates write without the
/// beginning.
fn rfc_5424(line: &str) -> Option<LogLine<'_>> {
    let line = after_priority(line);
    let line = line.strip_prefix("1 ").unwrap_or(line);
    let mut parts = line.splitn(6, ' ');
    let (time, host, program) = (parts.next()?, parts.next()?, parts.next()?);
    let (process, _id, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let is_time = time == "-" || is_iso_time(time);
    let is_process = process == "-" || (!process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()));
    // `app: postfix/smtp 1 - - …` is what `app` says.
    if !is_time || !is_process || host.ends_with(':') || program.ends_with(':') {
        return None;
    }
    let message = after_structured_data(rest)?;
    let message = message.trim_start_matches('\u{feff}').trim_start();
    Some(LogLine::new(program, process.parse().ok(), message))
}

fn after_priority(line: &str) -> &str {
    match line.strip_prefix('<').and_then(|line| line.split_once('>')) {
        Some((priority, rest)) if !priority.is_empty() && priority.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        Some(_) | None => line,
    }
}

/// Skips `-` or `[id name="value" …][…]` with its escapes (RFC 5424 §6.3), and the blank after it.
fn after_structured_data(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('-') {
        return rest.strip_prefix(' ').or_else(|| rest.is_empty().then_some(""));
    }
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_u32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if depth > 0 => quoted = !quoted,
            b'[' if !quoted && depth == 0 => depth = 1,
            b']' if !quoted && depth == 1 => depth = 0,
            b' ' if depth == 0 && at > 0 => return Some(&text[at + 1..]),
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Parses `[<PRI>][TIME [HOST ]]PROGRAM[PID]: MESSAGE`, also after the prefix of a container engine.
// From the left: programs log what strangers chose, a header of Postfix among it.
fn tagged(line: &str) -> Option<LogLine<'_>> {
    let line = after_priority(after_engine(line));
    let (tag, message) = match after_time(line) {
        Some(rest) => leading_tag(rest).or_else(|| leading_tag(after_word(rest)?))?,
        None => leading_tag(line)?,
    };
    let (program, process) = match tag.strip_suffix(']').and_then(split_tag) {
        Some((program, process)) => (program, Some(process)),
        None => (tag, None),
    };
    Some(LogLine::new(program, process, message))
}

/// Splits `TAG: MESSAGE`.
fn leading_tag(text: &str) -> Option<(&str, &str)> {
    let (tag, message) = text.split_once(' ')?;
    let tag = tag.strip_suffix(':').filter(|tag| !tag.is_empty())?;
    Some((tag, message))
}

/// Skips `TIME stdout F `, which containerd and CRI-O write before each line of a container.
fn after_engine(line: &str) -> &str {
    let after_engine = || {
        let (time, rest) = line.split_once(' ')?;
        let rest = rest.strip_prefix("stdout ").or_else(|| rest.strip_prefix("stderr "))?;
        let rest = rest.strip_prefix("F ").or_else(|| rest.strip_prefix("P "))?;
        is_iso_time(time).then_some(rest)
    };
    after_engine().unwrap_or(line)
}

/// Skips `Nov  5 15:43:37 ` or `2026-11-05T15:43:37.1Z `. `None` without a time.
fn after_time(line: &str) -> Option<&str> {
    let (first, rest) = line.split_once(' ')?;
    if is_iso_time(first) {
        return Some(rest.trim_start());
    }
    let is_month = first.len() == 3 && first.bytes().all(|byte| byte.is_ascii_alphabetic());
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let (time, rest) = rest.split_once(' ')?;
    let is_time = time.contains(':') && time.starts_with(|first: char| first.is_ascii_digit());
    let is_day = day.len() <= 2 && day.bytes().all(|byte| byte.is_ascii_digit());
    (is_month && is_day && is_time && !time.ends_with(':')).then(|| rest.trim_start())
}

fn after_word(text: &str) -> Option<&str> {
    Some(text.split_once(' ')?.1.trim_start())
}

fn is_iso_time(text: &str) -> bool {
    text.contains('T') && text.starts_with(|first: char| first.is_ascii_digit())
}

/// Parses a tag without its last bracket, `PROGRAM[PID`.
pub(super) fn split_tag(tag: &str) -> Option<(&str, u32)> {
    let (program, process) = tag.rsplit_once('[')?;
    let is_process = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
    is_process.then_some(())?;
    Some((program, process.parse().ok()?))
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
