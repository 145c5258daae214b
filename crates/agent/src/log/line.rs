//! Parser of one line of Postfix's log. Pure and total: a line that is no delivery record gives `None`.
//!
//! Both timestamps that syslog knows (RFC 3164, RFC 5424) and that of `maillog_file` are skipped: the time of reading
//! counts. Recipients choose parts of a line, and so do servers. A quoted address cannot pass for the fields after it:
//! the order of the fields is fixed (`log_adhoc(3)`), and only the reply, which comes last, may hold anything.

use std::time::Duration;

/// Length at which lines are cut. Postfix itself cuts its own at 2,000 octets.
pub const MAX_LINE: usize = 4096;

/// A delivery record: `QUEUEID: to=<…>, relay=…, delay=…, delays=a/b/c/d, dsn=…, status=… (…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Program that logged it: `smtp`, `error`, `qmgr`, …
    pub program: &'a str,
    /// Queue id of the message.
    pub queue_id: &'a str,
    /// Server, as `host[address]:port`, `none`, `local`, …
    pub relay: &'a str,
    /// Time from the beginning of connecting to the end: `c + d`.
    pub took: Duration,
    /// Result: `sent`, `deferred`, `bounced`, `expired`, `SOFTBOUNCE`, …
    pub status: &'a str,
    /// Text in the parentheses at the end.
    pub reason: &'a str,
}

/// Parses one line of the log.
pub fn parse(line: &str) -> Option<LogRecord<'_>> {
    let line = line.trim_end();
    let mut end = line.len().min(MAX_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let (program, message) = program_and_message(&line[..end])?;
    let (queue_id, fields) = message.split_once(": ")?;
    if queue_id.is_empty() || queue_id.len() > 32 || !queue_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let fields = after_address(fields.strip_prefix("to=<")?)?;
    let fields = match fields.strip_prefix("orig_to=<") {
        Some(address) => after_address(address)?,
        None => fields,
    };
    let (relay, fields) = fields.strip_prefix("relay=")?.split_once(", ")?;
    let fields = match fields.strip_prefix("conn_use=") {
        Some(uses) => uses.split_once(", ")?.1,
        None => fields,
    };
    let (_, fields) = fields.strip_prefix("delay=")?.split_once(", ")?;
    let (delays, fields) = fields.strip_prefix("delays=")?.split_once(", ")?;
    let (_, fields) = fields.strip_prefix("dsn=")?.split_once(", ")?;
    let (status, reason) = fields.strip_prefix("status=")?.split_once(' ')?;
    let reason = reason.strip_prefix('(')?;
    Some(LogRecord {
        program,
        queue_id,
        relay,
        took: took(delays)?,
        status,
        reason: reason.strip_suffix(')').unwrap_or(reason),
    })
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

/// Returns the text after `address>, `.
fn after_address(text: &str) -> Option<&str> {
    let mut rest = text;
    if let Some(quoted) = text.strip_prefix('"') {
        let mut escaped = false;
        let closing = quoted.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        })?;
        rest = &quoted[closing..];
    }
    rest.split_once(">, ").map(|(_, fields)| fields)
}

/// Splits a line with any of the headers into the last part of the program's name and the message.
fn program_and_message(line: &str) -> Option<(&str, &str)> {
    // RFC 5424: <PRI>1 TIME HOST APP PROCID MSGID SD MESSAGE; Postfix's own have no structured data.
    if let Some((priority, rest)) = line.strip_prefix('<').and_then(|line| line.split_once(">1 "))
        && priority.bytes().all(|byte| byte.is_ascii_digit())
    {
        let mut parts = rest.splitn(7, ' ');
        let (program, data) = (parts.nth(2)?, parts.nth(2)?);
        let message = parts.next()?;
        return (data == "-").then(|| (last_part(program), message.trim_start_matches('\u{feff}')));
    }
    let (header, message) = line.split_once("]: ")?;
    let (program, process) = header.rsplit_once('[')?;
    let program = program.rsplit([' ', '>']).next()?;
    let is_process = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
    is_process.then(|| (last_part(program), message))
}

fn last_part(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
