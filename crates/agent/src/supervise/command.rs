//! Command that the agent starts. Its output goes on to our own standard output and error unchanged, and line by line
//! to the reader of Postfix's log.
//!
//! Threads read and write with blocking calls, so that a slow reader of our output slows the command exactly as it
//! would without us.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Length at which lines are cut.
// Postfix cuts its own lines at 2 kB or so.
const MAX_LINE: usize = 16_384;
/// Limit for passing on the last output of the command.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Running command, with its outputs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Ends of the outputs that may still be open.
    ends: Vec<oneshot::Receiver<()>>,
}

impl Running {
    /// Starts the command.
    ///
    /// # Errors
    /// When there is no such program, or it may not be run.
    pub fn start(command: &[OsString], lines: &LineReader) -> io::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no command"));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Both are there, because both were asked for.
        let missing = io::ErrorKind::BrokenPipe;
        let output = child.stdout.take().ok_or(missing)?.into_owned_fd()?;
        let errors = child.stderr.take().ok_or(missing)?.into_owned_fd()?;
        Ok(Self { child, ends: vec![pass_on(output, io::stdout(), lines), pass_on(errors, io::stderr(), lines)] })
    }

    /// Waits for its end, and until its output is passed on. Safe to cancel.
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

    /// Process id, until it has been waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills the command's process.
    pub fn kill(&mut self) {
        // It may have ended just now.
        drop(self.child.start_kill());
    }
}

/// Takes each line, without its end. It must not wait for anything, or it holds the command up.
pub type LineReader = Arc<dyn Fn(&[u8]) + Send + Sync>;

fn pass_on(input: OwnedFd, mut output: impl Write + Send + 'static, lines: &LineReader) -> oneshot::Receiver<()> {
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
            // Mail goes on even if nobody reads our output any more.
            drop(output.write_all(&buffer[..read]).and_then(|()| output.flush()));
            splitter.split(&buffer[..read], &*lines);
        }
        drop(ended);
    });
    end
}

/// Splitter of bytes into lines.
#[derive(Debug, Default)]
struct Splitter(Vec<u8>);

impl Splitter {
    fn split(&mut self, bytes: &[u8], take: impl Fn(&[u8])) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = MAX_LINE - self.0.len();
            self.0.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                take(&self.0);
                self.0.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Returns a reader that keeps the lines.
    fn keeping() -> (LineReader, Arc<Mutex<Vec<String>>>) {
        let kept: Arc<Mutex<Vec<String>>> = Arc::default();
        let reader = {
            let kept = kept.clone();
            move |line: &[u8]| kept.lock().unwrap().push(String::from_utf8_lossy(line).into_owned())
        };
        (Arc::new(reader), kept)
    }

    #[test]
    fn lines_are_put_together_from_what_comes() {
        let (reader, kept) = keeping();
        let mut splitter = Splitter::default();
        for bytes in [&b"one\ntw"[..], b"o\n\nthree\n", &vec![b'x'; MAX_LINE + 9], b"yz\nnext \xff\n", b"unfinished"] {
            splitter.split(bytes, &*reader);
        }
        let kept = kept.lock().unwrap();
        assert_eq!(kept[..4], ["one", "two", "", "three"]);
        assert_eq!(kept[4..].iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 8]);
    }

    #[tokio::test]
    async fn what_a_command_prints_is_read_to_the_end() {
        let (reader, kept) = keeping();
        let command = ["/bin/sh", "-c", "echo one; echo two >&2; echo three; exit 3"].map(OsString::from);
        let mut running = Running::start(&command, &reader).unwrap();
        assert_eq!(running.ended().await.unwrap().code(), Some(3));
        assert_eq!(running.ended().await.unwrap().code(), Some(3), "it can be asked again");
        let mut kept = kept.lock().unwrap().clone();
        kept.sort();
        assert_eq!(kept, ["one", "three", "two"]);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let (reader, _) = keeping();
        assert!(Running::start(&[OsString::from("/nonexistent")], &reader).is_err());
        assert!(Running::start(&[], &reader).is_err());
    }
}
