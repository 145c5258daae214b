//! Content of messages under way: in memory up to a bound, then in a file without a name. Nothing of it outlives its
//! message.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::answer::Answer;
use crate::metrics::ServerMetrics;

/// Octets that are written to a file at once, and read from it.
const CHUNK: usize = 128 * 1024;

/// Bounds of the content of messages.
#[derive(Clone, Debug)]
pub struct BufferBounds {
    /// Octets of one message in memory.
    pub message: u64,
    /// Octets of all messages in memory.
    pub memory: u64,
    /// Octets of all messages in files.
    pub disk: u64,
    /// Folder of the files.
    pub folder: PathBuf,
}

impl BufferBounds {
    /// Makes a file, as the content of a large message needs one. Blocks.
    ///
    /// # Errors
    /// [`BufferError::File`]
    pub fn check(&self) -> Result<(), BufferError> {
        drop(tempfile::tempfile_in(&self.folder)?);
        Ok(())
    }
}

/// Room for the content of messages. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Room>);

#[derive(Debug)]
struct Room {
    bounds: BufferBounds,
    memory: AtomicU64,
    disk: AtomicU64,
    metrics: ServerMetrics,
}

/// Reason why content is not kept.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// All messages together have too much in memory.
    #[error("the bound on memory is reached")]
    Memory,
    /// All messages together have too much in files.
    #[error("the bound on files is reached")]
    Disk,
    /// A file cannot be made, written or read.
    #[error("a file for the content cannot be used: {0}")]
    File(#[from] io::Error),
}

impl BufferError {
    /// The answer to the application (RFC 5321 §4.2.3).
    pub fn answer() -> Answer {
        Answer::own(452, "4.3.1 no room for the message now; try again")
    }

    /// A name for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::File(_) => "file",
        }
    }
}

impl Buffers {
    /// Room within these bounds.
    pub fn new(bounds: BufferBounds, metrics: ServerMetrics) -> Self {
        Self(Arc::new(Room { bounds, memory: AtomicU64::new(0), disk: AtomicU64::new(0), metrics }))
    }

    /// The content of a new message.
    pub fn message(&self) -> MessageBuffer {
        MessageBuffer { room: self.0.clone(), memory: vec![], held: 0, file: None, written: 0 }
    }
}

impl Room {
    fn take(&self, used: &AtomicU64, octets: u64, bound: u64) -> bool {
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let after = used.saturating_add(octets);
            (after <= bound).then_some(after)
        });
        self.show();
        taken.is_ok()
    }

    fn give_back(&self, used: &AtomicU64, octets: u64) {
        used.fetch_sub(octets, Ordering::Relaxed);
        self.show();
    }

    fn show(&self) {
        let shown = |used: &AtomicU64| i64::try_from(used.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.metrics.buffered_memory.set(shown(&self.memory));
        self.metrics.buffered_disk.set(shown(&self.disk));
    }
}

/// Content of one message.
#[derive(Debug)]
pub struct MessageBuffer {
    room: Arc<Room>,
    /// The whole content, or what has not been written to the file yet.
    memory: Vec<u8>,
    /// Octets of memory that are accounted for.
    held: u64,
    file: Option<Arc<File>>,
    /// Octets in the file.
    written: u64,
}

impl MessageBuffer {
    /// Octets of the content.
    pub fn len(&self) -> u64 {
        self.written + self.memory.len() as u64
    }

    /// Appends a part.
    ///
    /// # Errors
    /// When a bound is reached. What was kept before is of no use then.
    pub async fn append(&mut self, part: &[u8]) -> Result<(), BufferError> {
        let octets = part.len() as u64;
        if !self.room.take(&self.room.memory, octets, self.room.bounds.memory) {
            return Err(BufferError::Memory);
        }
        self.held += octets;
        self.memory.extend_from_slice(part);
        let bound = if self.file.is_some() { CHUNK as u64 } else { self.room.bounds.message };
        if self.memory.len() as u64 > bound { self.spill().await } else { Ok(()) }
    }

    /// Moves what is in memory to the file.
    async fn spill(&mut self) -> Result<(), BufferError> {
        let octets = self.memory.len() as u64;
        if !self.room.take(&self.room.disk, octets, self.room.bounds.disk) {
            return Err(BufferError::Disk);
        }
        // Accounted for from here on, whatever becomes of the file.
        self.written += octets;
        let (memory, file, folder) =
            (std::mem::take(&mut self.memory), self.file.clone(), self.room.bounds.folder.clone());
        let written = tokio::task::spawn_blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile_in(folder)?),
            };
            (&*file).write_all(&memory)?;
            Ok(file)
        });
        self.room.give_back(&self.room.memory, self.held);
        self.held = 0;
        self.file = Some(written.await.unwrap_or_else(|error| Err(io::Error::other(error)))?);
        Ok(())
    }

    /// The part of the content from this octet on. Empty at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn part(&self, from: u64) -> Result<Cow<'_, [u8]>, BufferError> {
        let Some(file) = self.file.clone().filter(|_| from < self.written) else {
            let start = usize::try_from(from - self.written).unwrap_or(usize::MAX);
            let rest = self.memory.get(start..).unwrap_or_default();
            return Ok(Cow::Borrowed(rest.get(..CHUNK.min(rest.len())).unwrap_or_default()));
        };
        let length = usize::try_from(self.written - from).unwrap_or(usize::MAX).min(CHUNK);
        let read = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; length];
            file.read_exact_at(&mut part, from)?;
            Ok(part)
        });
        Ok(Cow::Owned(read.await.unwrap_or_else(|error| Err(io::Error::other(error)))?))
    }
}

impl Drop for MessageBuffer {
    fn drop(&mut self) {
        self.room.give_back(&self.room.memory, self.held);
        self.room.give_back(&self.room.disk, self.written);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn buffers(message: u64, memory: u64, disk: u64) -> Buffers {
        let bounds = BufferBounds { message, memory, disk, folder: std::env::temp_dir() };
        Buffers::new(bounds, ServerMetrics::new(&mut Registry::default()))
    }

    async fn whole(buffer: &MessageBuffer) -> Vec<u8> {
        let mut content = vec![];
        loop {
            let part = buffer.part(content.len() as u64).await.unwrap();
            if part.is_empty() {
                return content;
            }
            content.extend_from_slice(&part);
        }
    }

    #[tokio::test]
    async fn content_is_read_as_it_was_written_as_often_as_it_takes() {
        let pattern: Vec<u8> = (0..700_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        for size in [0, 10, 1000, 1001, 200_000, 700_000] {
            let buffers = buffers(1000, 1_000_000, 1_000_000);
            let mut buffer = buffers.message();
            for part in pattern[..size].chunks(7001) {
                buffer.append(part).await.unwrap();
            }
            assert_eq!((buffer.len(), buffer.file.is_some()), (size as u64, size > 1000));
            for _ in 0..2 {
                assert!(whole(&buffer).await == pattern[..size], "{size}");
            }
            drop(buffer);
            assert_eq!((buffers.0.memory.load(Ordering::Relaxed), buffers.0.disk.load(Ordering::Relaxed)), (0, 0));
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_at_the_start() {
        let bounds = BufferBounds { message: 1, memory: 1, disk: 1, folder: std::env::temp_dir() };
        assert!(bounds.check().is_ok());
        let nowhere = BufferBounds { folder: "/nowhere/at/all".into(), ..bounds };
        assert!(matches!(nowhere.check(), Err(BufferError::File(_))));
    }

    #[tokio::test]
    async fn bounds_hold_over_all_messages_and_room_comes_back() {
        let buffers = buffers(100, 150, 300);
        let (mut one, mut two) = (buffers.message(), buffers.message());
        one.append(&[1; 90]).await.unwrap();
        assert!(matches!(two.append(&[2; 90]).await, Err(BufferError::Memory)));
        drop(one);
        two.append(&[2; 90]).await.unwrap();
        two.append(&[2; 50]).await.unwrap();
        assert_eq!(two.written, 140);
        two.append(&[2; 140]).await.unwrap();
        let mut three = buffers.message();
        assert!(three.append(&[3; 11]).await.is_err());
        drop(two);
        three.append(&[3; 150]).await.unwrap();
        drop(three);
        let mut four = buffers.message();
        four.append(&[4; 140]).await.unwrap();
        let mut five = buffers.message();
        five.append(&[5; 150]).await.unwrap();
        let mut six = buffers.message();
        assert!(matches!(six.append(&[6; 101]).await, Err(BufferError::Disk)), "files have a bound, too");
        assert_eq!(BufferError::answer().code, 452);
    }
}
