//! Messages in Postfix's queue. The queue's folders are read where that is permitted. Otherwise the socket of showq(8)
//! is asked, an internal interface of Postfix (tested with 3.7), for which the group `postdrop` is enough.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Limit for a count.
// A hundred thousand messages are counted in some 100 ms, and listed in a few seconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// Folders of messages that wait to be sent.
const WAITING: [&str; 4] = ["maildrop", "incoming", "active", "deferred"];

/// Messages in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that Postfix will send by itself.
    pub waiting: u64,
    /// Messages that a person has put on hold. Only a person releases them.
    pub held: u64,
}

/// Counts the messages in the queue.
///
/// # Errors
/// When this process may not read the folders and is not in the group `postdrop`, when Postfix does not run and only it
/// could tell, or when there are too many to be counted in time.
pub async fn depth(queue_directory: &Path) -> io::Result<QueueDepth> {
    let directory = queue_directory.to_owned();
    let counted = tokio::task::spawn_blocking(move || depth_on_disk(&directory)).await.map_err(io::Error::other)?;
    match counted {
        // The folders are of Postfix's user; a neighbour may ask for a list.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => listed(queue_directory).await,
        counted => counted,
    }
}

async fn listed(queue_directory: &Path) -> io::Result<QueueDepth> {
    list(queue_directory, u64::MAX).await.map(|listing| listing.depth)
}

/// Returns the time at which the oldest message came in that waits to be sent, in seconds since the Unix epoch; `None`
/// if none waits. If there are more than `at_most`, it is the oldest of those that are listed first.
///
/// # Errors
/// When this process is not in the group `postdrop`, Postfix does not run, or there are too many messages to be listed
/// in time.
pub async fn oldest(queue_directory: &Path, at_most: u64) -> io::Result<Option<u64>> {
    list(queue_directory, at_most).await.map(|listing| listing.oldest)
}

/// Lists the messages in the queue, until more than `at_most` wait.
async fn list(queue_directory: &Path, at_most: u64) -> io::Result<Listing> {
    let list = async {
        let mut socket = UnixStream::connect(queue_directory.join("public/showq")).await?;
        let mut listing = Listing::default();
        let mut buffer = vec![0; 65_536];
        loop {
            match socket.read(&mut buffer).await? {
                0 => return listing.finished(),
                read => listing.read(&buffer[..read]),
            }
            // The one under way may lack its time.
            if listing.depth.waiting > at_most {
                return Ok(listing);
            }
        }
    };
    timeout(DEADLINE, list).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// List of showq(8) as it comes in: names and values, each ended by a NUL, and an empty name at the end of each
/// message.
#[derive(Debug, Default)]
struct Listing {
    depth: QueueDepth,
    /// Earliest arrival of a message that waits to be sent.
    oldest: Option<u64>,
    /// True if the message under way waits to be sent.
    is_waiting: bool,
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
            Some(name) if name == b"queue_name" => {
                self.is_waiting = word != b"hold";
                if self.is_waiting {
                    self.depth.waiting += 1;
                } else {
                    self.depth.held += 1;
                }
            }
            Some(name) if name == b"time" && self.is_waiting => {
                let at = std::str::from_utf8(&word).ok().and_then(|text| text.parse().ok());
                self.oldest = [self.oldest, at].into_iter().flatten().min();
            }
            Some(_) => {}
        }
    }

    fn finished(self) -> io::Result<Self> {
        if self.at_end { Ok(self) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Counts the messages in the queue directory, whether Postfix runs or not; needs the rights of root or `postfix`.
/// Names and modes are read, no message is opened.
///
/// # Errors
/// When a folder cannot be read, or when it takes too long.
pub fn depth_on_disk(queue_directory: &Path) -> io::Result<QueueDepth> {
    let deadline = Instant::now() + DEADLINE;
    let mut waiting = 0;
    for queue in WAITING {
        waiting += messages_in(queue_directory.join(queue), deadline)?;
    }
    Ok(QueueDepth { waiting, held: messages_in(queue_directory.join("hold"), deadline)? })
}

fn messages_in(queue: PathBuf, deadline: Instant) -> io::Result<u64> {
    let mut count = 0;
    let mut folders = vec![queue];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Postfix makes its folders when it starts.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Sent, or moved on to the next folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.permissions().mode() & 0o100 != 0 {
                // Postfix marks a complete message by this bit. An incomplete one is still the client's.
                count += 1;
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(text: &str) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for bytes in text.replace(' ', "\0").as_bytes().chunks(3) {
            listing.read(bytes);
        }
        listing.finished()
    }

    fn listed(text: &str) -> io::Result<QueueDepth> {
        listing(text).map(|listing| listing.depth)
    }

    #[test]
    fn messages_are_counted_and_recipients_are_not() {
        let header = "protocol mail_queue_list_protocol  ";
        let message = |queue: &str| {
            format!("queue_name {queue} queue_id ABC sender a@b recipient queue_name reason x recipient c@d reason   ")
        };
        assert_eq!(listed(" ").unwrap(), QueueDepth::default(), "an empty queue, before 3.7");
        assert_eq!(listed(&format!("{header} ")).unwrap(), QueueDepth::default());
        let three = format!("{header}{}{}{} ", message("active"), message("hold"), message("deferred"));
        assert_eq!(listed(&three).unwrap(), QueueDepth { waiting: 2, held: 1 });
    }

    #[test]
    fn the_oldest_message_is_the_one_that_came_first_and_is_not_on_hold() {
        let message = |queue: &str, at: u64| format!("queue_name {queue} queue_id ABC time {at} size 9 sender a@b  ");
        let three = format!("{}{}{} ", message("active", 30), message("hold", 10), message("deferred", 20));
        assert_eq!(listing(&three).unwrap().oldest, Some(20));
        assert_eq!(listing(" ").unwrap().oldest, None);
    }

    #[test]
    fn a_list_that_is_cut_off_is_no_empty_queue() {
        for text in ["", "queue_name ", "queue_name active queue_id", "queue_name active queue_id ABC "] {
            assert!(listed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_complete_or_on_hold_does_not_wait() {
        let folder = mail_failover_dataplane::testing::Folder::new();
        assert_eq!(depth_on_disk(folder.path()).unwrap(), QueueDepth::default(), "before Postfix has made its folders");
        for (queue, name, mode) in [
            ("deferred/A", "complete", 0o700),
            ("incoming", "complete", 0o700),
            ("incoming", "being written", 0o600),
            ("hold", "complete", 0o700),
        ] {
            let queue = folder.path().join(queue);
            std::fs::create_dir_all(&queue).unwrap();
            std::fs::write(queue.join(name), "").unwrap();
            std::fs::set_permissions(queue.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(depth_on_disk(folder.path()).unwrap(), QueueDepth { waiting: 2, held: 1 });
    }
}
