//! Watch on the MTA's queue: how many messages wait, and since when.

use std::time::Duration;

use mail_failover_core::model::{QueuedMail, Timestamp};
use mail_failover_runtime::clock::Clock;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::mta::{self, Postfix};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(30);
/// Largest number of messages that are listed for their age.
// A hundred thousand take showq(8) seconds. So many are told by their number.
const LISTED: u64 = 20_000;

/// Looks at the queue now and then, and tells what waits there; `None` while it cannot be looked at. It ends with the
/// process.
pub async fn watch_queue(postfix: Postfix, clock: Clock, told: watch::Sender<Option<QueuedMail>>) {
    let mut pause = interval(PAUSE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        let before = *told.borrow();
        let queued = look(&postfix, before, clock.now(), LISTED).await;
        let age = queued.and_then(|queued| queued.oldest_at).map_or(0, |at| clock.now().since(at).as_secs());
        postfix.metrics.oldest_queued.set(i64::try_from(age).unwrap_or(i64::MAX));
        told.send_replace(queued);
    }
}

/// Looks at the queue, and lists so many messages of it at most.
async fn look(postfix: &Postfix, before: Option<QueuedMail>, now: Timestamp, listed: u64) -> Option<QueuedMail> {
    let messages = postfix.depth().await.ok()?.waiting;
    if messages == 0 {
        return Some(QueuedMail { messages, oldest_at: None });
    }
    let known = before.and_then(|before| before.oldest_at);
    // Of too many, the first few are listed once: the queue is as old as they are, at least.
    if messages > listed && known.is_some() {
        return Some(QueuedMail { messages, oldest_at: known });
    }
    let oldest_at = match mta::oldest(&postfix.queue_directory, listed).await {
        // None waits any more.
        Ok(None) if messages <= listed => None,
        Ok(oldest) => oldest.and_then(timestamp).or(Some(now)),
        // Since it was seen first, at least.
        Err(_) => known.or(Some(now)),
    };
    Some(QueuedMail { messages, oldest_at })
}

/// Converts seconds since the Unix epoch.
fn timestamp(seconds: u64) -> Option<Timestamp> {
    Some(Timestamp::from_micros(i64::try_from(seconds).ok()?.checked_mul(1_000_000)?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use mail_failover_dataplane::testing::Folder;
    use prometheus_client::registry::Registry;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixListener;

    use super::*;
    use crate::metrics::MtaMetrics;

    /// A queue with this number of messages.
    fn queue(messages: usize) -> (Folder, Postfix) {
        let folder = Folder::new();
        let deferred = folder.path().join("deferred/A");
        fs::create_dir_all(&deferred).unwrap();
        for number in 0..messages {
            let file = deferred.join(number.to_string());
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let postfix = Postfix {
            config_directory: folder.path().to_owned(),
            queue_directory: folder.path().to_owned(),
            metrics: MtaMetrics::new(&mut Registry::default()),
        };
        (folder, postfix)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[tokio::test]
    async fn a_queue_that_cannot_be_listed_is_as_old_as_its_first_sight() {
        let (_folder, postfix) = queue(3);
        for listed in [2, 3] {
            let first = look(&postfix, None, at(1_000), listed).await.unwrap();
            assert_eq!((first.messages, first.oldest_at), (3, Some(at(1_000))));
            let later = look(&postfix, Some(first), at(2_000), listed).await.unwrap();
            assert_eq!(later.oldest_at, Some(at(1_000)), "it has aged");
        }
        let (_folder, empty) = queue(0);
        let looked = look(&empty, None, at(1_000), 2).await.unwrap();
        assert_eq!((looked.messages, looked.oldest_at), (0, None));
    }

    #[tokio::test]
    async fn of_more_messages_than_are_listed_the_first_few_tell_the_age() {
        let (folder, postfix) = queue(3);
        fs::create_dir(folder.path().join("public")).unwrap();
        let showq = UnixListener::bind(folder.path().join("public/showq")).unwrap();
        let listing = tokio::spawn(async move {
            let (mut stream, _) = showq.accept().await.unwrap();
            for time in [300, 200, 100] {
                let message = format!("queue_name deferred queue_id A time {time}  ").replace(' ', "\0");
                stream.write_all(message.as_bytes()).await.unwrap();
            }
            // It is not at its end: there are more.
            stream
        });
        let looked = look(&postfix, None, at(1_000), 2).await.unwrap();
        let oldest = looked.oldest_at.unwrap();
        assert!(oldest == at(200) || oldest == at(100), "{oldest:?}");
        drop(listing);
    }
}
