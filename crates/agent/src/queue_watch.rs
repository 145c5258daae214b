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
        let queued = look(&postfix, before).await;
        let age = queued.and_then(|queued| queued.oldest_at).map_or(0, |at| clock.now().since(at).as_secs());
        postfix.metrics.oldest_queued.set(i64::try_from(age).unwrap_or(i64::MAX));
        told.send_replace(queued);
    }
}

async fn look(postfix: &Postfix, before: Option<QueuedMail>) -> Option<QueuedMail> {
    let messages = postfix.depth().await.ok()?.waiting;
    let oldest_at = match messages {
        0 => None,
        1..=LISTED => match mta::oldest(&postfix.queue_directory).await {
            Ok(oldest) => oldest.and_then(|at| Some(Timestamp::from_micros(i64::try_from(at).ok()? * 1_000_000))),
            Err(_) => before.and_then(|before| before.oldest_at),
        },
        _ => before.and_then(|before| before.oldest_at),
    };
    Some(QueuedMail { messages, oldest_at })
}
