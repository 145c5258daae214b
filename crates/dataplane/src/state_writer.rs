//! Task that saves the state for the next start. A disk that is full or hangs delays nobody: the state stays in memory,
//! the status says so, and the save is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::telemetry::metrics::register;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::store::{StateRecord, StateStore};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// Limit for the last save, at the end.
const LAST_SAVE_DEADLINE: Duration = Duration::from_secs(3);

/// Saved records, by their kind.
pub type Records = BTreeMap<StateRecord, Arc<str>>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Saved {
    record: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRecord {
    record: &'static str,
}

/// Metrics of the saved state. Clones share them.
#[derive(Clone, Debug)]
pub struct StateMetrics {
    saves: Family<Saved, Counter>,
    damaged: Family<OfRecord, Counter>,
}

impl StateMetrics {
    /// Registers the metrics in this registry, which has the prefix of the program.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            saves: register(registry, "state_saves", "Attempts to save what is kept for the next start"),
            damaged: register(registry, "state_damaged", "Records that could not be used at the start"),
        }
    }

    fn saved(&self, record: StateRecord, saved: bool) {
        let result = if saved { "saved" } else { "failed" };
        self.saves.get_or_create(&Saved { record: record.as_str(), result }).inc();
    }
}

/// Loads the saved records that are whole.
pub fn restore(store: &StateStore, metrics: &StateMetrics) -> Records {
    let mut saved = Records::new();
    for record in StateRecord::ALL {
        match store.load(record) {
            Ok(Some(content)) => drop(saved.insert(record, content.into())),
            Ok(None) => {}
            Err(damage) => {
                metrics.damaged.get_or_create(&OfRecord { record: record.as_str() }).inc();
                tracing::warn!(file = %store.path(record).display(), %damage, "what was kept is ignored");
            }
        }
    }
    saved
}

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
        metrics: StateMetrics,
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
    metrics: StateMetrics,
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

    use super::*;
    use crate::testing::Folder;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_fails_is_told_of_and_tried_again() {
        let folder = Folder::new();
        let store = StateStore::new(folder.path().join("state"));
        let (metrics, end) = (StateMetrics::new(&mut Registry::default()), CancellationToken::new());
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
