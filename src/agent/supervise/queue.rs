//! What waits in Postfix's queue, and a push to send it. Internal interfaces of Postfix (tested with 3.7): the sockets of showq(8) and
//! qmgr(8), for which the group `postdrop` is enough.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A hundred thousand messages are listed in a few seconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// Flush dead sites, all time stamps, scan the deferred queue: what `postqueue -f` sends. And the incoming queue, where what a reload
/// interrupted waits.
const FLUSH: &[u8] = b"FADI";

/// Messages in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Of which Postfix will send each by itself.
    pub waiting: u64,
    /// That a person has put on hold: they leave when a person says so.
    pub held: u64,
}

/// Counts what showq(8) lists.
///
/// # Errors
/// When Postfix does not run, when this process is not in the group `postdrop`, or when the list does not end in time.
pub async fn depth(queue_directory: &Path) -> io::Result<Depth> {
    within(async {
        let mut socket = UnixStream::connect(queue_directory.join("public/showq")).await?;
        let mut listing = Listing::default();
        let mut buffer = vec![0; 65_536];
        loop {
            match socket.read(&mut buffer).await? {
                0 => return listing.finished(),
                read => listing.read(&buffer[..read]),
            }
        }
    })
    .await
}

/// Asks qmgr(8) to try everything now, also what is known as dead.
///
/// # Errors
/// When Postfix does not run, or when this process is not in the group `postdrop`.
pub async fn flush(queue_directory: &Path) -> io::Result<()> {
    within(async {
        let mut socket = UnixStream::connect(queue_directory.join("public/qmgr")).await?;
        socket.write_all(FLUSH).await
    })
    .await
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(DEADLINE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A list of showq(8) as it comes in: names and values, each ended by a NUL, and an empty name at the end of each message.
#[derive(Debug, Default)]
struct Listing {
    depth: Depth,
    word: Vec<u8>,
    name: Option<Vec<u8>>,
    /// The last word was the empty name.
    at_end: bool,
}

impl Listing {
    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == 0 {
                let word = std::mem::take(&mut self.word);
                self.word(word);
            } else {
                self.word.push(*byte);
            }
        }
    }

    fn word(&mut self, word: Vec<u8>) {
        self.at_end = false;
        match self.name.take() {
            None if word.is_empty() => self.at_end = true,
            None => self.name = Some(word),
            Some(name) if name == b"queue_name" => match word.as_slice() {
                b"hold" => self.depth.held += 1,
                _ => self.depth.waiting += 1,
            },
            Some(_) => {}
        }
    }

    fn finished(self) -> io::Result<Depth> {
        if self.at_end { Ok(self.depth) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Counts what lies in the queue directory while Postfix does not run; needs the rights of root or `postfix`.
///
/// # Errors
/// When a folder cannot be read.
pub fn depth_on_disk(queue_directory: &Path) -> io::Result<Depth> {
    let count = |queue: &str| messages_in(queue_directory.join(queue));
    let waiting = ["maildrop", "incoming", "active", "deferred"].into_iter().map(count).sum::<io::Result<u64>>()?;
    Ok(Depth { waiting, held: count("hold")? })
}

fn messages_in(queue: PathBuf) -> io::Result<u64> {
    let mut count = 0;
    let mut folders = vec![queue];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.permissions().mode() & 0o100 != 0 {
                // Postfix marks a message as complete by this bit; a client was not told that it has what is not.
                count += 1;
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> io::Result<Depth> {
        let mut listing = Listing::default();
        for bytes in text.replace(' ', "\0").as_bytes().chunks(3) {
            listing.read(bytes);
        }
        listing.finished()
    }

    #[test]
    fn messages_are_counted_and_recipients_are_not() {
        let header = "protocol mail_queue_list_protocol  ";
        let message = |queue: &str| {
            format!("queue_name {queue} queue_id ABC sender a@b recipient queue_name reason x recipient c@d reason   ")
        };
        assert_eq!(listed(" ").unwrap(), Depth::default(), "an empty queue, before 3.7");
        assert_eq!(listed(&format!("{header} ")).unwrap(), Depth::default());
        let three = format!("{header}{}{}{} ", message("active"), message("hold"), message("deferred"));
        assert_eq!(listed(&three).unwrap(), Depth { waiting: 2, held: 1 });
    }

    #[test]
    fn a_list_that_is_cut_off_is_no_empty_queue() {
        for text in ["", "queue_name ", "queue_name active queue_id", "queue_name active queue_id ABC "] {
            assert!(listed(text).is_err(), "{text}");
        }
    }
}
