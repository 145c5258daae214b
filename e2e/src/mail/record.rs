//! Records of messages that programs in other containers took and sent, in files that outlive them:
//! a line of JSON for each message.
//!
//! A line is with the kernel before the message is acknowledged, so a killed process has taken
//! nothing that its file does not show. A record never reads what it writes, and never changes a
//! line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::load::{Accepted, Stored};
use super::{Context, Result, lock};

/// A message that was taken, as recorded by a server that stored it or by a client whose message
/// was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The `X-Message-Id`.
    pub id: String,
    pub recipients: Vec<String>,
    /// The name of the recorder.
    pub by: String,
    /// The time, since 1970.
    pub at: Duration,
}

impl Entry {
    /// An entry for a message that was taken now.
    pub fn now(id: &str, recipients: &[String], by: &str) -> Self {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { id: id.to_owned(), recipients: recipients.to_vec(), by: by.to_owned(), at }
    }

    fn instant(&self) -> Instant {
        let ago = (SystemTime::UNIX_EPOCH + self.at).elapsed().unwrap_or_default();
        let now = Instant::now();
        now.checked_sub(ago).unwrap_or(now)
    }
}

impl From<Entry> for Accepted {
    fn from(entry: Entry) -> Self {
        let at = entry.instant();
        Self { id: entry.id, recipients: entry.recipients, reply: String::new(), at }
    }
}

/// A file that entries are appended to.
#[derive(Debug)]
pub struct Record(Mutex<File>);

impl Record {
    /// Opens a file for appending, and creates it if it does not exist.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(Mutex::new(file.context(|| path.display().to_string())?)))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When it cannot.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        lock(&self.0).write_all(&line)
    }
}

/// Reads all entries of a record; none if nothing was written yet. A last line that is still being
/// written is left out.
///
/// # Errors
/// When it cannot be read, or is no record.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.context(|| path.display().to_string())?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entries = whole.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from));
    entries.collect::<io::Result<_>>().context(|| path.display().to_string())
}

/// The copies that servers have stored, one for each recipient, bounces excluded.
pub fn copies(entries: Vec<Entry>) -> Vec<Stored> {
    entries
        .into_iter()
        .flat_map(|entry| {
            let (at, by) = (entry.instant(), entry.by);
            entry.recipients.into_iter().map(move |recipient| Stored { recipient, server: by.clone(), at })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_but_for_a_line_that_is_not_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        assert_eq!(read(&path).expect("nothing yet"), []);
        let entries = ["1", "2"].map(|id| Entry::now(id, &[format!("{id}@shop.example")], "a"));
        for entry in &entries {
            // Opened anew, as by a server that is started again.
            Record::open(&path).expect("opened").write(entry).expect("written");
        }
        let mut file = OpenOptions::new().append(true).open(&path).expect("opened");
        file.write_all(b"{\"id\":\"3").expect("written");
        assert_eq!(read(&path).expect("read"), entries);
    }
}
