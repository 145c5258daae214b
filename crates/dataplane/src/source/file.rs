//! Source that looks at one file four times a second.
//!
//! inotify is not used: a mounted `ConfigMap` is a link to a link that is replaced, an editor renames, and on network
//! and some overlay file systems inotify says nothing. One `stat` each 250 ms costs nothing and knows no such cases,
//! and the kubelet itself takes up to a minute to bring a `ConfigMap`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::document::MAX_BYTES;
use mail_failover_core::model::SharedError;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{DocumentSource, NoDocument, SourceError, SourceEvent, SourceMessage, tell};

const PAUSE: Duration = Duration::from_millis(250);
/// Number of further reads after a change.
// A second change within the file system's clock tick leaves no other trace.
const READS_AFTER_CHANGE: u32 = 8;
/// A file system that answers later than this is told of.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// Follows the file and sends its events, until the receiver is gone.
pub async fn follow(path: PathBuf, events: mpsc::Sender<SourceMessage>) {
    let source = DocumentSource::File(path.display().to_string());
    let path: Arc<Path> = path.into();
    let mut eye = FileTracker::default();
    let mut told: Option<SourceEvent> = None;
    loop {
        let looked_at = path.clone();
        let mut look = tokio::task::spawn_blocking(move || {
            let event = eye.look(&looked_at);
            (eye, event)
        });
        let looked = match timeout(LOOK_DEADLINE, &mut look).await {
            Ok(looked) => looked,
            Err(_elapsed) => {
                // The look goes on. A second one would hang as well, and hold another thread.
                let slow = SourceEvent::Unreachable(SourceError::Slow(LOOK_DEADLINE));
                if tell(&events, &source, slow.clone()).await.is_err() {
                    return;
                }
                told = Some(slow);
                look.await
            }
        };
        let Ok((returned, event)) = looked else { return };
        eye = returned;
        let event = match event {
            None if matches!(told, Some(SourceEvent::Unreachable(_))) => Some(SourceEvent::ReachedAgain),
            event => event,
        };
        if let Some(event) = event.filter(|event| told.as_ref() != Some(event)) {
            told = Some(event.clone());
            if tell(&events, &source, event).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = events.closed() => return,
        }
    }
}

/// Attributes that tell one state of a file from another without reading it.
type Fingerprint = (u64, u64, u64, (i64, i64), (i64, i64));

#[derive(Debug, Default)]
struct FileTracker {
    seen: Option<Fingerprint>,
    reads_left: u32,
}

impl FileTracker {
    /// Looks at the file. Returns `None` if it is as before. Blocks.
    fn look(&mut self, path: &Path) -> Option<SourceEvent> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return Some(self.failed(error)),
        };
        let fingerprint = (
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            (metadata.mtime(), metadata.mtime_nsec()),
            (metadata.ctime(), metadata.ctime_nsec()),
        );
        if self.seen != Some(fingerprint) {
            self.seen = Some(fingerprint);
            self.reads_left = READS_AFTER_CHANGE;
        } else if self.reads_left == 0 {
            return None;
        } else {
            self.reads_left -= 1;
        }
        Some(match read(path) {
            Ok(text) => SourceEvent::Document(text),
            Err(error) => self.failed(error),
        })
    }

    fn failed(&mut self, error: io::Error) -> SourceEvent {
        self.seen = None;
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound {
            SourceEvent::Missing(NoDocument::NoFile)
        } else if kind == io::ErrorKind::InvalidData {
            SourceEvent::Missing(NoDocument::NotUtf8)
        } else if kind == io::ErrorKind::PermissionDenied {
            let uid = rustix::process::geteuid().as_raw();
            SourceEvent::Unreachable(SourceError::Denied { uid, cause: SharedError::new(error) })
        } else {
            SourceEvent::Unreachable(SourceError::Io(SharedError::new(error)))
        }
    }
}

/// Reads the file.
// A little more than a document may have is read, so that one that is too long is refused as such.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = vec![];
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    // A character may be cut at the bound. The file is too long then, whatever else is wrong with it.
    if bytes.len() > MAX_BYTES {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::Folder;

    struct Follower {
        events: mpsc::Receiver<SourceMessage>,
    }

    impl Follower {
        fn of(path: PathBuf) -> Self {
            let (sender, events) = mpsc::channel(super::super::QUEUE);
            tokio::spawn(follow(path, sender));
            Self { events }
        }

        async fn next(&mut self) -> SourceEvent {
            timeout(Duration::from_secs(10), self.events.recv()).await.expect("in time").expect("it follows").1
        }
    }

    fn document(text: &str) -> SourceEvent {
        SourceEvent::Document(text.to_owned())
    }

    #[tokio::test]
    async fn a_plain_file_is_followed_however_it_is_written() {
        let folder = Folder::new();
        let path = folder.path().join("agent.json");
        let mut follower = Follower::of(path.clone());
        assert_eq!(follower.next().await, SourceEvent::Missing(NoDocument::NoFile));
        fs::write(&path, "one").unwrap();
        assert_eq!(follower.next().await, document("one"));
        fs::write(&path, "two").unwrap();
        assert_eq!(follower.next().await, document("two"), "in place, and no longer than before");
        fs::write(folder.path().join("new"), "three").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(follower.next().await, document("three"), "by a rename");
        fs::remove_file(&path).unwrap();
        assert_eq!(follower.next().await, SourceEvent::Missing(NoDocument::NoFile));
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(follower.next().await, SourceEvent::Missing(NoDocument::NotUtf8));
    }

    #[tokio::test]
    async fn a_mounted_config_map_is_followed() {
        let folder = Folder::new();
        let mount = |version: &str| {
            let here = folder.path();
            fs::create_dir(here.join(version)).unwrap();
            fs::write(here.join(version).join("agent.json"), version).unwrap();
            symlink(version, here.join("..data_tmp")).unwrap();
            fs::rename(here.join("..data_tmp"), here.join("..data")).unwrap();
        };
        mount("..1");
        let path = folder.path().join("agent.json");
        symlink("..data/agent.json", &path).unwrap();
        let mut follower = Follower::of(path);
        assert_eq!(follower.next().await, document("..1"));
        mount("..2");
        fs::remove_dir_all(folder.path().join("..1")).unwrap();
        assert_eq!(follower.next().await, document("..2"));
    }

    #[test]
    fn a_file_at_rest_is_not_read_over_and_over() {
        let folder = Folder::new();
        let path = folder.path().join("agent.json");
        fs::write(&path, "one").unwrap();
        let mut eye = FileTracker::default();
        let reads = (0..100).filter(|_| eye.look(&path).is_some()).count();
        assert_eq!(reads, 1 + READS_AFTER_CHANGE as usize);
    }

    #[test]
    fn too_long_a_file_is_not_read_to_its_end() {
        let folder = Folder::new();
        let path = folder.path().join("agent.json");
        fs::write(&path, "é".repeat(MAX_BYTES)).unwrap();
        let Some(SourceEvent::Document(text)) = FileTracker::default().look(&path) else { panic!() };
        assert!(text.len() > MAX_BYTES && text.len() < MAX_BYTES + 8, "{}", text.len());
    }
}
