//! Task that saves the state for the next start. A disk that is full or hangs delays nobody: the state stays in memory,
//! the status says so, and the save is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail_failover_runtime::backoff::Backoff;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::driver_metrics::DriverMetrics;
use super::store::{StateRecord, StateStore};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// Limit for the last save, at the end.
const LAST_SAVE_DEADLINE: Duration = Duration::from_secs(3);

type Records = BTreeMap<StateRecord, Arc<str>>;

/// Takes the state to be saved: always the latest version of each record. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StateWriter {
    wanted: Arc<watch::Sender<Records>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl StateWriter {
    /// Saves into this store until `end`, and then once more if need be. Records that are on disk already are not saved
    /// again.
    pub fn start(
        store: StateStore,
        saved: Records,
        metrics: DriverMetrics,
        end: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (wanted, receiver) = watch::channel(saved.clone());
        let writer = Self { wanted: Arc::new(wanted), trouble: Arc::default() };
        let task = SaveTask { store, saved, metrics, trouble: writer.trouble.clone() };
        (writer, tokio::spawn(task.run(receiver, end)))
    }

    /// Saves this record soon, unless a later version overtakes it.
    pub fn keep(&self, record: StateRecord, content: &str) {
        self.wanted.send_if_modified(|wanted| {
            let is_new = wanted.get(&record).is_none_or(|known| **known != *content);
            if is_new {
                wanted.insert(record, content.into());
            }
            is_new
        });
    }

    /// Returns the error because of which not everything is saved.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct SaveTask {
    store: StateStore,
    saved: Records,
    metrics: DriverMetrics,
    trouble: Arc<Mutex<Option<String>>>,
}

impl SaveTask {
    async fn run(mut self, mut wanted: watch::Receiver<Records>, end: CancellationToken) {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        loop {
            let records = wanted.borrow_and_update().clone();
            let retry = if self.save(&records).await {
                backoff.reset();
                None
            } else {
                Some(backoff.after_failure())
            };
            let again = async {
                match retry {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = wanted.changed() => if changed.is_err() { break },
                () = end.cancelled() => break,
                () = again => {}
            }
        }
        let records = wanted.borrow().clone();
        drop(tokio::time::timeout(LAST_SAVE_DEADLINE, self.save(&records)).await);
    }

    /// Saves the records that have changed. Returns true if everything is saved.
    async fn save(&mut self, records: &Records) -> bool {
        let mut trouble = None;
        for (record, content) in records {
            if self.saved.get(record) == Some(content) {
                continue;
            }
            let (store, record, text) = (self.store.clone(), *record, content.clone());
            let saved = tokio::task::spawn_blocking(move || store.save(record, &text)).await;
            match saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                Ok(()) => {
                    self.saved.insert(record, content.clone());
                    self.metrics.saved(record, true);
                }
                Err(error) => {
                    self.metrics.saved(record, false);
                    trouble = Some(format!("{} cannot be written: {error}", self.store.path(record).display()));
                }
            }
        }
        let mut told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*told, &trouble) {
            (None, Some(trouble)) => tracing::warn!(trouble, "the state cannot be saved; it stays in memory"),
            (Some(_), None) => tracing::info!("the state is saved again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let is_saved = trouble.is_none();
        *told = trouble;
        is_saved
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::testing::Folder;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_fails_is_told_of_and_tried_again() {
        let folder = Folder::new();
        let store = StateStore::new(folder.path().join("state"));
        let (metrics, end) = (DriverMetrics::new(&mut Registry::default()), CancellationToken::new());
        fs::write(folder.path().join("state"), "no folder").unwrap();
        let (writer, task) = StateWriter::start(store.clone(), Records::new(), metrics, end.clone());
        writer.keep(StateRecord::Document, "one");
        let failed = async {
            while writer.trouble().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        failed.await;
        assert!(writer.trouble().unwrap().contains("state/document cannot be written"));
        fs::remove_file(folder.path().join("state")).unwrap();
        while writer.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(store.load(StateRecord::Document).unwrap().as_deref(), Some("one"));
        writer.keep(StateRecord::Document, "two");
        writer.keep(StateRecord::Memory, "{}");
        end.cancel();
        task.await.unwrap();
        assert_eq!(store.load(StateRecord::Document).unwrap().as_deref(), Some("two"), "the end waits for the disk");
        assert_eq!(store.load(StateRecord::Memory).unwrap().as_deref(), Some("{}"));
    }
}
