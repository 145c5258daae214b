//! The command: reads replies, judges each, and writes the verdicts in order.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

use mail_failover_agent::log::quoted_reply;
use mail_failover_core::model::text::visible_json;
use mail_failover_replies::{NoReply, UnknownStage};

use super::arguments::stage;
use super::verdict::Verdict;
use super::{ClassifyArguments, Format};

/// No more of a line is read: replies are shorter, and a file without line ends must not fill the memory.
const MAX_LINE: usize = 64 * 1024;

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
    /// The reply on the command line is none.
    #[error(transparent)]
    NoReply(#[from] UnusableLine),
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
    /// Stage and reply are not told apart.
    #[error("no tab: a line is STAGE<TAB>REPLY")]
    NoTab,
}

/// Runs the command; returns true if every line was a reply.
///
/// # Errors
/// When replies cannot be read or verdicts not be written.
pub fn run(arguments: &ClassifyArguments, out: &mut impl Write) -> Result<bool, ClassifyError> {
    if let [stage, reply] = arguments.reply.as_slice() {
        return match judge(stage, reply, arguments) {
            Ok(verdict) => {
                out.write_all(verdict.as_bytes())?;
                Ok(true)
            }
            Err(problem) => Err(problem.into()),
        };
    }
    match arguments.file.as_ref().filter(|file| file.as_os_str() != "-") {
        None => judge_lines(io::stdin().lock(), arguments, out),
        Some(file) => {
            let unreadable = |source| ClassifyError::Unreadable { file: file.clone(), source };
            let lines = File::open(file).map(BufReader::new).map_err(unreadable)?;
            judge_lines(lines, arguments, out)
        }
    }
}

fn judge_lines(
    mut lines: impl BufRead,
    arguments: &ClassifyArguments,
    out: &mut impl Write,
) -> Result<bool, ClassifyError> {
    let mut all_are_replies = true;
    let (mut bytes, mut number) = (Vec::new(), 0_usize);
    loop {
        bytes.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        if io::Read::take(&mut lines, limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(all_are_replies);
        }
        number += 1;
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\r', '\n']);
        if line.trim().is_empty() {
            continue;
        }
        let judged = if arguments.postfix_log {
            let Some((stage, reply)) = quoted_reply(line) else { continue };
            judge(stage.as_str(), &reply, arguments)
        } else {
            match line.split_once('\t') {
                Some((stage, reply)) => judge(stage, reply, arguments),
                None => Err(UnusableLine::NoTab),
            }
        };
        match judged {
            Ok(verdict) => out.write_all(verdict.as_bytes())?,
            Err(problem) => {
                all_are_replies = false;
                out.write_all(complaint(number, &problem, arguments.output).as_bytes())?;
            }
        }
    }
}

/// A verdict in the form that is asked for, or the reason why there is none.
fn judge(stage_name: &str, reply: &str, arguments: &ClassifyArguments) -> Result<String, UnusableLine> {
    let verdict = Verdict::of(Some(stage(stage_name)?), reply, arguments.provider.as_deref())?;
    Ok(match arguments.output {
        Format::Text => verdict.text(),
        Format::Json => json_line(&verdict),
    })
}

fn json_line(value: &impl serde::Serialize) -> String {
    // Strings and booleans under names: this cannot fail.
    visible_json(&serde_json::to_string(value).unwrap_or_default()).into_owned() + "\n"
}

/// Stands in the place of a line that is no reply, so that the output keeps the order of the input.
fn complaint(number: usize, problem: &UnusableLine, format: Format) -> String {
    match format {
        Format::Text => format!("line {number}: {problem}\n"),
        Format::Json => json_line(&serde_json::json!({ "line": number, "error": problem.to_string() })),
    }
}
