//! The command that the agent starts: what it prints goes on to our own standard output and error as it is, and line by line to
//! whoever reads Postfix's log.
//!
//! Threads with blocking reads and writes, so that a slow reader of our output slows the command exactly as it would without us. A
//! slow reader of the lines does not: lines that it has no room for are dropped and counted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Postfix cuts its own lines at 2 kB or so; the rest of a longer one is not looked at.
const MAX_LINE: usize = 16_384;
/// What the command has printed before its end is waited for so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The command, running.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Of its outputs, those that may not be at their end yet.
    ends: Vec<oneshot::Receiver<()>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no such program, or it may not be run.
    pub fn start(command: &[OsString], lines: &Lines) -> io::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no command"));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pipe = |end: Option<io::Result<OwnedFd>>| end.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()));
        let output = pipe(child.stdout.take().map(tokio::process::ChildStdout::into_owned_fd))?;
        let errors = pipe(child.stderr.take().map(tokio::process::ChildStderr::into_owned_fd))?;
        Ok(Self { child, ends: vec![pass_on(output, io::stdout(), lines), pass_on(errors, io::stderr(), lines)] })
    }

    /// When it has ended, and what it printed is passed on. Safe to cancel.
    ///
    /// # Errors
    /// When its status cannot be had.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        while let Some(end) = self.ends.last_mut() {
            // Something that it left running may have inherited its output.
            drop(timeout(LAST_WORDS, end).await);
            self.ends.pop();
        }
        Ok(status)
    }

    /// Its process, until it has been waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it without asking.
    pub fn kill(&mut self) {
        // It may have ended just now.
        drop(self.child.start_kill());
    }
}

/// Where lines go.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Whoever reads the log.
    pub reader: mpsc::Sender<String>,
    /// Lines that it had no room for.
    pub dropped: Counter,
}

fn pass_on(input: OwnedFd, mut output: impl Write + Send + 'static, lines: &Lines) -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel::<()>();
    let lines = lines.clone();
    std::thread::spawn(move || {
        let mut input = File::from(input);
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; 65_536];
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            // Mail goes on when nobody reads our output any more.
            drop(output.write_all(&buffer[..read]).and_then(|()| output.flush()));
            for line in splitter.split(&buffer[..read]) {
                if lines.reader.try_send(line).is_err() {
                    lines.dropped.inc();
                }
            }
        }
        drop(ended);
    });
    end
}

/// Bytes, cut into lines.
#[derive(Debug, Default)]
struct Splitter(Vec<u8>);

impl Splitter {
    fn split(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = vec![];
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = MAX_LINE - self.0.len();
            self.0.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                lines.push(String::from_utf8_lossy(&self.0).into_owned());
                self.0.clear();
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_what_comes() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.split(b"one\ntw"), ["one"]);
        assert_eq!(splitter.split(b"o\n\nthree\n"), ["two", "", "three"]);
        assert_eq!(splitter.split(&[b'x'; MAX_LINE + 9]), Vec::<String>::new());
        assert_eq!(splitter.split(b"yz\nnext \xff\n").iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 8]);
    }

    #[tokio::test]
    async fn what_a_command_prints_is_read_to_the_end() {
        let (reader, mut lines) = mpsc::channel(8);
        let command = ["/bin/sh", "-c", "echo one; echo two >&2; printf three\\\\n; exit 3"].map(OsString::from);
        let mut running = Running::start(&command, &Lines { reader, dropped: Counter::default() }).unwrap();
        assert_eq!(running.ended().await.unwrap().code(), Some(3));
        let mut read: Vec<_> = std::iter::from_fn(|| lines.try_recv().ok()).collect();
        read.sort();
        assert_eq!(read, ["one", "three", "two"]);
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_loses_lines_and_not_the_command() {
        let (reader, lines) = mpsc::channel(5);
        let dropped = Counter::default();
        let command = ["/bin/sh", "-c", "seq 100"].map(OsString::from);
        let mut running = Running::start(&command, &Lines { reader, dropped: dropped.clone() }).unwrap();
        assert!(running.ended().await.unwrap().success());
        assert_eq!((lines.len(), dropped.get()), (5, 95));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let (reader, _lines) = mpsc::channel(1);
        let lines = Lines { reader, dropped: Counter::default() };
        assert!(Running::start(&[OsString::from("/nonexistent")], &lines).is_err());
        assert!(Running::start(&[], &lines).is_err());
    }
}
