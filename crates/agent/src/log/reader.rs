//! Reader of the log's lines, with what it remembers from line to line. Pure; bounded memory.
//!
//! Postfix writes the failure of each address that it tries as a line of its own. The delivery record that follows has
//! the last one's only: on a host without IPv6 that of an address which nobody could have reached, and of a list of next
//! hops that of the last one, or none if that took the message. The lines before it tell what became of the others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mail_failover_core::model::{Effect, EvidenceClass, Timestamp};
use mail_failover_replies::Answered;

use super::delivery;
use super::line::{LogLine, LogRecord};
use super::reply;
use mail_failover_dataplane::core::log_event::LogEvent;
use mail_failover_dataplane::reading::{self, Sender};

/// Limit of the processes whose attempts are remembered. Postfix has 100 by default (`default_process_limit`).
const MAX_PROCESSES: usize = 256;
/// Time after which an attempt without a delivery record is forgotten.
// Longer than the 600 s that a server may take for its last reply (`smtp_data_done_timeout`).
const ATTEMPT_LASTS: Duration = Duration::from_mins(15);
/// Limit of the bounces that are remembered as such.
const MAX_BOUNCES: usize = 1024;
/// Lines in no form that is known, without one of Postfix between them, after which the format counts as unknown.
const UNKNOWN_LINES: u64 = 200;
/// Number of times that Postfix was told the way of a message, without a line of it, after which mail flows unseen.
// It asks twice for a message by SMTP.
const UNSEEN_WAYS: u64 = 6;
/// Programs of Postfix that write about mail, and the script that starts it.
const PROGRAMS: [&str; 19] = [
    "anvil",
    "bounce",
    "cleanup",
    "error",
    "lmtp",
    "local",
    "master",
    "pickup",
    "pipe",
    "postfix",
    "postfix-script",
    "postscreen",
    "postsuper",
    "qmgr",
    "smtp",
    "smtpd",
    "scache",
    "trivial-rewrite",
    "virtual",
];
/// Records in a row that cannot be read after which their form counts as unknown.
const UNREAD_RECORDS: u64 = 20;
/// Time within which a message that Postfix has begun to send has a delivery record, and one whose way it was told a
/// line.
const RECORD_WITHIN: Duration = Duration::from_mins(30);

/// Limit of the hosts of one delivery whose failures are remembered.
const MAX_HOSTS: usize = 8;

/// A failed attempt of a client at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) host: String,
    /// Port, if the line names it.
    pub(super) port: Option<u16>,
    at: Timestamp,
    pub(super) class: EvidenceClass,
    pub(super) reason: String,
}

/// Meaning of a line for a reader of replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedLine {
    /// A delivery that failed, and the reply to it.
    Reply {
        /// Command that the reply answers, if the line tells.
        answered: Option<Answered>,
        /// Reply, as the line has it.
        reply: String,
        /// Sender of the message.
        sender: Sender,
    },
    /// A line that tells of no reply.
    Other,
    /// A delivery record that was cut off, which counts for nothing.
    Cut,
    /// A delivery record in a form that is not known.
    UnreadRecord,
    /// A line in a form that is not known.
    Unknown,
}

/// Reader of the lines of one log.
#[derive(Debug, Default)]
pub struct LogReader {
    /// Worst attempt at each host, of each process since its last delivery record, in the order of the hosts.
    attempts: BTreeMap<u32, Vec<Attempt>>,
    /// Messages with the null sender, the latest last: hashes of their queue ids.
    bounces: VecDeque<u64>,
    /// Lines in no form that is known, since the last one of Postfix.
    unknown_lines: u64,
    /// True if a line of Postfix has come since the ways were last noted.
    is_heard: bool,
    /// Number of times that Postfix was told a way: now, and when a line of it had just come.
    ways: u64,
    ways_heard: u64,
    /// Time since which it has been told ways, without a line of it.
    unseen_since: Option<Timestamp>,
    /// Delivery records that could not be read, since the last one that could.
    unread_records: u64,
    /// Time since which a message has been on its way, without a delivery record of any.
    awaiting_record: Option<Timestamp>,
}

impl LogReader {
    /// Takes a line and returns the events in it.
    pub fn read(&mut self, now: Timestamp, line: &str) -> Vec<LogEvent> {
        let Some(line) = LogLine::parse(line) else {
            self.unknown_lines = self.unknown_lines.saturating_add(1);
            return vec![];
        };
        // Other programs may share the log: what they write says nothing about Postfix's lines.
        if PROGRAMS.contains(&&*line.program) {
            self.unknown_lines = 0;
            self.is_heard = true;
        }
        if let Some(record) = line.record() {
            (self.unread_records, self.awaiting_record) = (0, None);
            let earlier = line.process.and_then(|process| self.attempts.remove(&process));
            let mut earlier = earlier.unwrap_or_default();
            earlier.retain(|attempt| attempt.at + ATTEMPT_LASTS > now);
            return delivery::of_record(&line.program, &record, self.sender_of(&record), &earlier);
        }
        if line.resembles_record() {
            self.unread_records = self.unread_records.saturating_add(1);
            return vec![];
        }
        if delivery::is_of_client(&line.program) {
            self.remember(now, &line);
        }
        match line.of_message() {
            Some((queue_id, text)) => self.of_queue(now, &line.program, delivery::message(queue_id), text),
            None => vec![],
        }
    }

    /// Takes a line and returns the reply in it, which [`LogReader::read`] takes for evidence.
    pub fn reply_in(&mut self, line: &str) -> LoggedLine {
        let Some(line) = LogLine::parse(line) else { return LoggedLine::Unknown };
        let Some(record) = line.record() else {
            if line.resembles_record() {
                return LoggedLine::UnreadRecord;
            }
            return self.reply_of_attempt(&line);
        };
        if !delivery::is_of_client(&line.program) || record.status == "sent" {
            return LoggedLine::Other;
        }
        if record.is_cut {
            return LoggedLine::Cut;
        }
        let reason = reading::unmarked(record.reason);
        let sender = self.sender_of(&record);
        reply::Quoted::within(&reason).map_or(LoggedLine::Other, |quoted| logged(quoted, sender))
    }

    /// Returns the reply in a line about a host after which Postfix went on to the next one.
    fn reply_of_attempt(&mut self, line: &LogLine<'_>) -> LoggedLine {
        let Some((queue_id, text)) = line.of_message() else { return LoggedLine::Other };
        let message = delivery::message(queue_id);
        self.of_queue(Timestamp::default(), &line.program, message, text);
        let reason = reading::unmarked(text);
        if !delivery::is_of_client(&line.program) || reply::attempted(&reason).is_none() {
            return LoggedLine::Other;
        }
        let sender = if self.bounces.contains(&message) { Sender::Null } else { Sender::Other };
        reply::Quoted::within(&reason).map_or(LoggedLine::Other, |quoted| logged(quoted, sender))
    }

    fn sender_of(&self, record: &LogRecord<'_>) -> Sender {
        if self.bounces.contains(&delivery::message(record.queue_id)) { Sender::Null } else { Sender::Other }
    }

    /// Takes a line about the queue: of qmgr(8), or of postsuper(1).
    fn of_queue(&mut self, now: Timestamp, program: &str, message: u64, text: &str) -> Vec<LogEvent> {
        // A log whose programs end at the first slash says no more than `postfix`.
        let is_manager = matches!(program, "qmgr" | "postfix");
        if is_manager && text.ends_with("(queue active)") {
            self.awaiting_record.get_or_insert(now);
            if text.starts_with("from=<>,") && !self.bounces.contains(&message) {
                if self.bounces.len() >= MAX_BOUNCES {
                    self.bounces.pop_front();
                }
                self.bounces.push_back(message);
            }
        }
        let is_expired = is_manager && text.contains(", status=") && text.ends_with(", returned to sender");
        let is_removed = program == "postsuper" && text == "removed";
        if is_expired || is_removed { vec![LogEvent::Gone(message)] } else { vec![] }
    }

    /// Keeps the failure of one address: `connect to host[address]:port: …`, or `QUEUEID: host … said: …`.
    fn remember(&mut self, now: Timestamp, line: &LogLine<'_>) {
        let reason = reading::unmarked(line.of_message().map_or(&*line.message, |(_, reason)| reason));
        let reason = &*reason;
        let (Some(process), Some((host, port)), Some(class)) =
            (line.process, reply::attempted(reason), reply::class(reason, Sender::Other))
        else {
            return;
        };
        let attempt = Attempt { host: host.to_ascii_lowercase(), port, at: now, class, reason: reason.to_owned() };
        let attempts = self.attempts.entry(process).or_default();
        if let Some(known) = attempts.iter_mut().find(|known| known.host == attempt.host) {
            if !known.is_worse_than(&attempt, now) {
                *known = attempt;
            }
        } else if attempts.len() < MAX_HOSTS {
            attempts.push(attempt);
        }
        if self.attempts.len() > MAX_PROCESSES {
            let latest = |attempts: &[Attempt]| attempts.iter().map(|attempt| attempt.at).max();
            let oldest = self.attempts.iter().min_by_key(|(_, attempts)| latest(attempts)).map(|(process, _)| *process);
            oldest.and_then(|process| self.attempts.remove(&process));
        }
    }

    /// Notes how often Postfix was told the way of a message, since the start: mail flows.
    pub fn note_ways(&mut self, now: Timestamp, ways: u64) {
        if std::mem::take(&mut self.is_heard) {
            (self.ways_heard, self.unseen_since) = (ways, None);
        } else if ways > self.ways_heard {
            self.unseen_since.get_or_insert(now);
        }
        self.ways = ways;
    }

    /// Returns the reason why the log seems not to be understood, with the remedy.
    pub fn doubt(&self, now: Timestamp) -> Option<String> {
        let remedy = "have it written in the form of syslog, of RFC 5424, or as JSON with the program's name \
                      (docs/postfix.md names the forms)";
        if self.unknown_lines >= UNKNOWN_LINES {
            let lines = self.unknown_lines;
            return Some(format!("{lines} lines have no known form, and none of Postfix came between them; {remedy}"));
        }
        if self.unread_records >= UNREAD_RECORDS {
            let records = self.unread_records;
            return Some(format!(
                "the last {records} delivery records cannot be read; this Postfix may be newer than the agent: upgrade the agent"
            ));
        }
        let unseen = self.ways.saturating_sub(self.ways_heard);
        if let Some(since) = self.unseen_since.filter(|since| *since + RECORD_WITHIN <= now && unseen >= UNSEEN_WAYS) {
            let minutes = now.since(since).as_secs() / 60;
            return Some(format!(
                "Postfix has asked {unseen} times for a way within {minutes} min, and no line of it was understood; {remedy}"
            ));
        }
        let since = self.awaiting_record.filter(|since| *since + RECORD_WITHIN <= now)?;
        let minutes = now.since(since).as_secs() / 60;
        Some(format!(
            "Postfix has been sending messages for {minutes} min and no line says what became of one; do the lines of smtp(8) go to this log?"
        ))
    }
}

fn logged(quoted: reply::Quoted<'_>, sender: Sender) -> LoggedLine {
    let reply::Quoted { answered, code, text } = quoted;
    let separator = if text.starts_with('-') { "" } else { " " };
    LoggedLine::Reply { answered, reply: format!("{code}{separator}{text}"), sender }
}

impl Attempt {
    /// True if a record of this host that says nothing about the backend must not hide it.
    pub(super) fn explains(&self, host: &str, class: EvidenceClass) -> bool {
        self.host == host && self.class.effect() == Effect::Failure && class.effect() == Effect::Neutral
    }

    fn is_worse_than(&self, other: &Self, now: Timestamp) -> bool {
        self.host == other.host
            && self.at + ATTEMPT_LASTS > now
            && self.class.effect() == Effect::Failure
            && other.class.effect() != Effect::Failure
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
