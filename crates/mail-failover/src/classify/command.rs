//! The command: reads replies, judges each, and writes the verdicts in order.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use mail_failover_agent::log::{LogReader, LoggedLine};
use mail_failover_core::model::ReplyRules;
use mail_failover_core::model::text::visible_json;
use mail_failover_replies::{Answered, NoReply, Reply, Rulebook, UnknownStage};

use super::backend::{self, BackendFileError};
use super::verdict::Verdict;
use super::{ClassifyArguments, Format};

/// No more of a line is read: replies are shorter, and a file without line ends must not fill the memory.
const MAX_LINE: usize = 64 * 1024;
/// Character with which some editors begin a file.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Name of the standard input on the command line.
const STANDARD_INPUT: &str = "-";

/// A failure of the command as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// The file cannot be read.
    #[error("{file}: {source}", file = .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The lines cannot be read to their end.
    #[error("the replies cannot be read: {0}")]
    UnreadableLines(#[source] io::Error),
    /// The path is that of a folder.
    #[error("{file} is a directory; name a file with one reply a line, or - for the standard input", file = .0.display())]
    Directory(PathBuf),
    /// The command that the reply answers is missing on the command line.
    #[error(
        "STAGE is missing before the reply, and there is no such file; name the command that was answered: mail-failover classify RCPT '{0}'"
    )]
    NoStage(String),
    /// The reply is missing on the command line.
    #[error(
        "the reply to {0} is missing, and there is no such file; for example: mail-failover classify {0} '550 5.1.1 user unknown'"
    )]
    NoReplyTo(String),
    /// The reply on the command line is none.
    #[error(transparent)]
    NoReply(#[from] UnusableLine),
    /// A reply on the command line is no line of a log.
    #[error("--postfix-log reads lines of a log, from a file or the standard input; leave STAGE REPLY out")]
    ReplyAndLog,
    /// The manifest gives no rules.
    #[error(transparent)]
    Backend(#[from] BackendFileError),
    /// The verdicts cannot be written.
    #[error("the verdicts cannot be written: {0}")]
    Unwritable(#[from] io::Error),
}

/// A line, or the words of the command line, that hold no reply.
#[derive(Debug, thiserror::Error)]
pub enum UnusableLine {
    /// The stage is none.
    #[error(transparent)]
    Stage(#[from] UnknownStage),
    /// The reply is none.
    #[error(transparent)]
    Reply(#[from] NoReply),
    /// The line begins with its reply.
    #[error("no STAGE before the reply: a line is STAGE<TAB>REPLY, as in RCPT<TAB>550 5.1.1 user unknown")]
    NoStage,
    /// Stage and reply are not told apart.
    #[error("no tab: a line is STAGE<TAB>REPLY")]
    NoTab,
    /// A line of a log in no form that is known.
    #[error("no line of a log in a form that is known (docs/postfix.md names the forms)")]
    UnknownLine,
    /// A delivery record that is not understood.
    #[error("a delivery record in a form that is not known; this Postfix may be newer than this program")]
    UnreadRecord,
    /// A delivery record that is not whole.
    #[error("Postfix has cut this record off; the agent does not count it")]
    CutRecord,
}

/// Runs the command; returns true if every line was a reply.
///
/// # Errors
/// When replies cannot be read or verdicts not be written.
pub fn run(arguments: &ClassifyArguments, out: &mut impl Write) -> Result<bool, ClassifyError> {
    let rules = match &arguments.backend_file {
        Some(file) => backend::rules(file, arguments.backend.as_deref())?,
        None => ReplyRules { provider: arguments.provider.clone(), ..ReplyRules::default() },
    };
    // Whatever cannot work was refused above.
    let (rulebook, _) = Rulebook::new(&rules);
    let judge = Judge { rulebook, format: arguments.output };
    let file = match arguments.reply.as_slice() {
        [_, _] if arguments.postfix_log => return Err(ClassifyError::ReplyAndLog),
        [stage, reply] => {
            out.write_all(judge.verdict(stage, reply)?.as_bytes())?;
            return Ok(true);
        }
        [file, ..] => {
            refuse_half_a_reply(file)?;
            Some(Path::new(file))
        }
        [] => arguments.file.as_deref(),
    };
    match file.filter(|file| *file != Path::new(STANDARD_INPUT)) {
        None => judge.lines(io::stdin().lock(), arguments.postfix_log, out),
        Some(file) if file.is_dir() => Err(ClassifyError::Directory(file.to_owned())),
        Some(file) => {
            let unreadable = |source| ClassifyError::Unreadable { file: file.to_owned(), source };
            let lines = File::open(file).map(BufReader::new).map_err(unreadable)?;
            let judged = judge.lines(lines, arguments.postfix_log, out);
            judged.map_err(
                |error| {
                    if let ClassifyError::UnreadableLines(source) = error { unreadable(source) } else { error }
                },
            )
        }
    }
}

/// Refuses a reply without its stage, or a stage without its reply, where a file is named.
fn refuse_half_a_reply(file: &str) -> Result<(), ClassifyError> {
    if file == STANDARD_INPUT || Path::new(file).exists() {
        return Ok(());
    }
    if Reply::parse(None, file).is_ok() {
        return Err(ClassifyError::NoStage(file.to_owned()));
    }
    if file.parse::<Answered>().is_ok() {
        return Err(ClassifyError::NoReplyTo(file.to_owned()));
    }
    Ok(())
}

/// Rules, and the form of what follows from them.
pub(super) struct Judge {
    pub(super) rulebook: Rulebook,
    pub(super) format: Format,
}

impl Judge {
    /// Writes one verdict for each line. Returns true if every line held a reply.
    pub(super) fn lines(
        &self,
        mut lines: impl BufRead,
        is_log: bool,
        out: &mut impl Write,
    ) -> Result<bool, ClassifyError> {
        let mut all_are_replies = true;
        let (mut bytes, mut number, mut log) = (Vec::new(), 0_usize, LogReader::default());
        while read_line(&mut lines, &mut bytes).map_err(ClassifyError::UnreadableLines)? {
            number += 1;
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end_matches(['\r', '\n']);
            let line = if number == 1 { line.trim_start_matches(BYTE_ORDER_MARK) } else { line };
            let judged = if is_log {
                self.logged(&mut log, line)
            } else {
                match line.split_once('\t') {
                    Some((stage, reply)) => self.verdict(stage, reply).map(Some),
                    None if Reply::parse(None, line).is_ok() => Err(UnusableLine::NoStage),
                    None => Err(UnusableLine::NoTab),
                }
            };
            let text = match judged {
                Ok(Some(verdict)) => verdict,
                Ok(None) => continue,
                Err(problem) => {
                    all_are_replies = false;
                    self.complaint(number, &problem)
                }
            };
            match out.write_all(text.as_bytes()) {
                // Who reads has seen enough, as `head` has.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(all_are_replies),
                written => written?,
            }
        }
        Ok(all_are_replies)
    }

    /// A verdict in the form that is asked for, or the reason why there is none.
    fn verdict(&self, stage: &str, reply: &str) -> Result<String, UnusableLine> {
        Ok(self.written(&Verdict::of(Some(stage.trim().parse()?), reply, &self.rulebook)?))
    }

    /// The verdict about a line of a log, as the agent reads it; `None` if it tells of no reply.
    fn logged(&self, log: &mut LogReader, line: &str) -> Result<Option<String>, UnusableLine> {
        match log.reply_in(line) {
            LoggedLine::Reply { answered, reply, sender } => {
                Ok(Some(self.written(&Verdict::of_delivery(answered, &reply, sender, &self.rulebook)?)))
            }
            LoggedLine::Other => Ok(None),
            LoggedLine::Cut => Err(UnusableLine::CutRecord),
            LoggedLine::UnreadRecord => Err(UnusableLine::UnreadRecord),
            LoggedLine::Unknown => Err(UnusableLine::UnknownLine),
        }
    }

    fn written(&self, verdict: &Verdict<'_>) -> String {
        match self.format {
            Format::Text => verdict.text(),
            Format::Json => json_line(verdict),
        }
    }

    /// Stands in the place of a line that is no reply, so that the output keeps the order of the input.
    fn complaint(&self, number: usize, problem: &UnusableLine) -> String {
        match self.format {
            Format::Text => format!("line {number}: {problem}\n"),
            Format::Json => json_line(&serde_json::json!({ "line": number, "error": problem.to_string() })),
        }
    }
}

/// Reads a line, of which no more than [`MAX_LINE`] is kept. Returns false at the end.
fn read_line(lines: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    if io::Read::take(&mut *lines, limit).read_until(b'\n', bytes)? == 0 {
        return Ok(false);
    }
    if bytes.len() == MAX_LINE && bytes.last() != Some(&b'\n') {
        lines.skip_until(b'\n')?;
    }
    Ok(true)
}

fn json_line(value: &impl serde::Serialize) -> String {
    // Strings and booleans under names: this cannot fail.
    visible_json(&serde_json::to_string(value).unwrap_or_default()).into_owned() + "\n"
}
