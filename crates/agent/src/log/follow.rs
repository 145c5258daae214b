//! Sources of log lines: a file that is rotated, a pipe, a syslog socket, the output of a child.
//!
//! Bounded everywhere: a line beyond [`MAX_LINE`] is cut. When the receiver is too slow, events are dropped and
//! counted. A file waits instead. The content of a file from before the start is never read: it would be old news told
//! as new.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail_failover_core::model::Timestamp;
use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::clock::Clock;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{UnixDatagram, unix::pipe};
use tokio::sync::mpsc;

use super::line::MAX_LINE;
use super::reader::LogReader;
use crate::metrics::LogMetrics;
use mail_failover_dataplane::core::log_event::LogEvent;

/// Limit of the events that wait to be taken.
pub const QUEUE: usize = 4096;
/// Pause between two looks at a file: a stat and a read.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// State of reading the log. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    problem: Arc<Mutex<Option<String>>>,
    reader: Arc<Mutex<LogReader>>,
}

impl Reading {
    /// Reading that this problem prevents.
    pub fn hindered(problem: &str) -> Self {
        Self { problem: Arc::new(Mutex::new(Some(problem.to_owned()))), ..Self::default() }
    }

    /// Returns the error that keeps the log from being read.
    pub fn problem(&self) -> Option<String> {
        // It is replaced as a whole.
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how often Postfix was told the way of a message, since the start.
    pub fn note_ways(&self, now: Timestamp, ways: u64) {
        self.reader().note_ways(now, ways);
    }

    /// Returns the reason why what is read seems not to be understood; `None` if nothing can be read.
    pub fn doubt(&self, now: Timestamp) -> Option<String> {
        if self.problem().is_some() { None } else { self.reader().doubt(now) }
    }

    fn reader(&self) -> MutexGuard<'_, LogReader> {
        // A line that makes the reader panic leaves nothing half done that a later one could not stand.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the state, and logs it once when it changes.
    fn note(&self, path: &Path, problem: Option<String>) {
        let before =
            std::mem::replace(&mut *self.problem.lock().unwrap_or_else(PoisonError::into_inner), problem.clone());
        match problem {
            Some(problem) if before.as_ref() != Some(&problem) => {
                tracing::warn!(path = %path.display(), problem, "the mail log cannot be read; it is tried on");
            }
            None if before.is_some() => tracing::info!(path = %path.display(), "the mail log is read"),
            Some(_) | None => {}
        }
    }
}

/// Takes lines and sends the events in them.
#[derive(Clone, Debug)]
pub struct Sink {
    sender: mpsc::Sender<LogEvent>,
    metrics: LogMetrics,
    reading: Reading,
    clock: Clock,
}

impl Sink {
    /// Creates a sink, and the receiver of its events.
    pub fn new(metrics: LogMetrics, clock: Clock) -> (Self, mpsc::Receiver<LogEvent>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { sender, metrics, reading: Reading::default(), clock }, receiver)
    }

    /// Returns the state of reading the log.
    pub fn reading(&self) -> Reading {
        self.reading.clone()
    }

    /// Takes a line without waiting.
    pub fn take(&self, line: &[u8]) {
        for event in self.events(line) {
            if self.sender.try_send(event).is_err() {
                self.metrics.lost.inc();
            }
        }
    }

    fn events(&self, line: &[u8]) -> Vec<LogEvent> {
        self.metrics.lines.inc();
        self.reading.reader().read(self.clock.now(), &String::from_utf8_lossy(line))
    }

    /// Takes a line, and waits until there is room for its events.
    async fn take_patiently(&self, line: &[u8]) {
        for event in self.events(line) {
            if self.sender.send(event).await.is_err() {
                self.metrics.lost.inc();
            }
        }
    }
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
struct LineBuffer {
    partial: Vec<u8>,
    /// The rest of a line that was too long is passed over.
    cut: bool,
}

impl LineBuffer {
    /// Adds bytes and returns the lines that they complete.
    fn add(&mut self, bytes: &[u8], metrics: &LogMetrics) -> Vec<Vec<u8>> {
        let mut lines = vec![];
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = MAX_LINE - self.partial.len();
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() > room && !self.cut {
                self.cut = true;
                metrics.cut.inc();
            }
            if ends {
                lines.push(std::mem::take(&mut self.partial));
                self.cut = false;
            }
        }
        lines
    }
}

/// Reads a stream to its end: the output of a child.
///
/// # Errors
/// When reading fails.
pub async fn stream(mut stream: impl AsyncRead + Unpin, sink: &Sink) -> io::Result<()> {
    let mut lines = LineBuffer::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        for line in lines.add(&chunk[..read], &sink.metrics) {
            sink.take(&line);
        }
    }
}

/// Reads a named pipe; writers may come and go.
///
/// # Errors
/// When it cannot be opened or read.
pub async fn named_pipe(path: &Path, sink: &Sink) -> io::Result<()> {
    // Opened for writing as well, so that it does not end when a writer goes.
    stream(pipe::OpenOptions::new().read_write(true).open_receiver(path)?, sink).await
}

/// Takes syslog datagrams at a unix socket, which anyone on the machine may write to, as with `/dev/log`.
///
/// # Errors
/// When the socket cannot be made: something else than a socket has its name, or the folder is not there.
pub async fn syslog_socket(path: &Path, sink: &Sink) -> io::Result<()> {
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    let mut datagram = vec![0; 2 * MAX_LINE];
    loop {
        let read = socket.recv(&mut datagram).await?;
        if read > MAX_LINE {
            sink.metrics.cut.inc();
        }
        sink.take(&datagram[..read.min(MAX_LINE)]);
    }
}

/// Follows a file from its present end. A file that appears later, or takes its place, is read from the beginning.
/// Never ends.
pub async fn file(path: PathBuf, sink: Sink) {
    let mut followed = Followed::at_the_end_of(&path);
    let mut lines = LineBuffer::default();
    let mut backoff = Backoff::new(LOOK, Duration::from_secs(5));
    loop {
        let reading = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || {
                let read = followed.read(&path);
                (followed, read)
            })
            .await
        };
        let Ok((again, read)) = reading else { return };
        followed = again;
        sink.reading.note(
            &path,
            match &read {
                Ok(_) if followed.open.is_none() => Some("there is no such file".to_owned()),
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            },
        );
        let pause = if let Ok(Chunk { bytes, begins_anew }) = read {
            backoff.reset();
            if begins_anew {
                lines = LineBuffer::default();
                sink.metrics.reopened.inc();
            }
            for line in lines.add(&bytes, &sink.metrics) {
                sink.take_patiently(&line).await;
            }
            if bytes.is_empty() { LOOK } else { Duration::ZERO }
        } else {
            sink.metrics.failures.inc();
            backoff.after_failure()
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// A file and how far it was read.
#[derive(Debug, Default)]
struct Followed {
    open: Option<(File, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    bytes: Vec<u8>,
    /// True if the bytes are the first of another file, or of the same file, truncated.
    begins_anew: bool,
}

impl Followed {
    // ADR-0056: The agent starts at the end of the mail log.
    fn at_the_end_of(path: &Path) -> Self {
        let open = File::open(path).and_then(|mut file| {
            let end = file.seek(SeekFrom::End(0))?;
            Ok((file, end))
        });
        Self { open: open.ok() }
    }

    fn read(&mut self, path: &Path) -> io::Result<Chunk> {
        if let Some((file, offset)) = &mut self.open {
            let mut bytes = vec![];
            if file.metadata()?.len() < *offset {
                file.seek(SeekFrom::Start(0))?;
                *offset = 0;
                file.take(CHUNK as u64).read_to_end(&mut bytes)?;
                *offset += bytes.len() as u64;
                return Ok(Chunk { bytes, begins_anew: true });
            }
            file.take(CHUNK as u64).read_to_end(&mut bytes)?;
            *offset += bytes.len() as u64;
            // The old file is read to its end before the new one is opened.
            if !bytes.is_empty() {
                return Ok(Chunk { bytes, begins_anew: false });
            }
            let known = file.metadata()?;
            let is_same = match path.metadata() {
                Ok(found) => (found.dev(), found.ino()) == (known.dev(), known.ino()),
                Err(_) => true,
            };
            if is_same {
                return Ok(Chunk { bytes, begins_anew: false });
            }
        }
        match File::open(path) {
            Ok(file) => {
                self.open = Some((file, 0));
                let Chunk { bytes, .. } = self.read(path)?;
                Ok(Chunk { bytes, begins_anew: true })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Chunk { bytes: vec![], begins_anew: false }),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
