//! Messages in Postfix's queue.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A message in the queue, as `postqueue -j` prints it (postqueue(1)).
#[derive(Clone, Debug, Deserialize)]
pub struct Queued {
    /// The queue: `incoming`, `active`, `deferred` or `hold`.
    pub queue_name: String,
    /// The queue id.
    pub queue_id: String,
    /// The recipients to whom it is not delivered yet.
    pub recipients: Vec<QueuedRecipient>,
}

/// A recipient to whom a message is not delivered yet.
#[derive(Clone, Debug, Deserialize)]
pub struct QueuedRecipient {
    pub address: String,
    /// The reason why the last attempt failed.
    #[serde(default)]
    pub delay_reason: Option<String>,
}

/// Parses one JSON object a line.
pub(super) fn parse(text: &str) -> Result<Vec<Queued>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("postqueue -j says {line}"))).collect()
}

/// The number of files: one for each message, in folders by its first letters where
/// `hash_queue_names` demands that.
pub(super) fn count(queue_directory: &Path) -> Result<usize> {
    let folders = ["maildrop", "incoming", "active", "deferred", "hold"];
    folders.iter().map(|folder| count_files(&queue_directory.join(folder))).sum()
}

fn count_files(folder: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        // A missing file was delivered or moved. A message that moves between two folders is seen by the next count.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files += count_files(&entry.path())?,
            Ok(_) => files += 1,
            Err(_) => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipient_of_every_message_is_told() {
        let text = concat!(
            r#"{"queue_name": "deferred", "queue_id": "4F1", "arrival_time": 1, "message_size": 2, "forced_expire": false, "sender": "a@x.test", "recipients": [{"address": "b@x.test", "delay_reason": "connect to 192.0.2.1[192.0.2.1]:25: Connection refused"}, {"address": "c@x.test"}]}"#,
            "\n",
            r#"{"queue_name": "active", "queue_id": "4F2", "arrival_time": 1, "message_size": 2, "forced_expire": false, "sender": "", "recipients": [{"address": "d@x.test"}]}"#,
            "\n"
        );
        let queued = parse(text).expect("read");
        let addresses: Vec<_> =
            queued.iter().flat_map(|message| &message.recipients).map(|to| to.address.as_str()).collect();
        assert_eq!(addresses, ["b@x.test", "c@x.test", "d@x.test"]);
        assert_eq!(queued[1].queue_name, "active");
        assert!(parse("").expect("empty").is_empty());
    }
}
