//! The writes that the tenant's flapping backends cause, as a watch shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use mail_failover_api::SendingBackend;
use tokio_util::task::AbortOnDropHandle;

use super::arena::Arena;

/// Name of the backends that turn with each look at them, up to their number.
pub const FLAPPING: &str = "flapping-";
/// Statuses and Events of one backend at once, as in docs/security.md. One more of each may follow in a minute.
const STATUSES_AT_ONCE: u64 = 60;
const EVENTS_AT_ONCE: u64 = 20;
/// Most Events that one publication of a backend tells.
const EVENTS_TOGETHER: u64 = 2;
/// Writes that are no statuses: those of kubectl.
const OF_TENANT: u64 = 2;
/// Writes of one backend without which nothing was tried.
const FLOOD: u64 = 20;

/// Changes of the flapping backends since the attack began. It stops counting when dropped.
pub struct Flood {
    began: Instant,
    changes: Arc<Mutex<BTreeMap<String, Changes>>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Changes {
    count: u64,
    version: String,
}

impl Flood {
    /// Counts the changes of the backends in the red team's namespace.
    pub fn follow(arena: &Arena) -> Self {
        let changes = Arc::<Mutex<BTreeMap<String, Changes>>>::default();
        let noted = changes.clone();
        let api: Api<SendingBackend> = Api::namespaced(arena.env.client(), &arena.evil);
        let task = tokio::spawn(async move {
            let objects = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            let mut objects = Box::pin(objects);
            while let Some(object) = objects.next().await {
                let Ok(backend) = object else { continue };
                let version = backend.resource_version().unwrap_or_default();
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let changes = noted.entry(backend.name_any()).or_default();
                // A list that begins anew shows each once more.
                if changes.version != version {
                    changes.count += 1;
                    changes.version = version;
                }
            }
        });
        Self { began: Instant::now(), changes, _task: AbortOnDropHandle::new(task) }
    }

    /// Fails if a backend that flaps was written, or told of, more often than the bounds allow.
    pub async fn is_bounded(&self, arena: &Arena) -> Result<()> {
        let minutes = self.began.elapsed().as_secs().div_ceil(60);
        let changes = self.changes_of_flapping();
        let most = changes.values().copied().max().unwrap_or_default();
        println!("{} backends flapped for {minutes} min: {most} writes of one at most", changes.len());
        ensure!(most >= FLOOD, "they have hardly flapped: {changes:?}");
        ensure!(most <= STATUSES_AT_ONCE + minutes + OF_TENANT, "too many statuses: {changes:?}");

        let events: Api<Event> = Api::namespaced(arena.env.client(), &arena.evil);
        let mut told = BTreeMap::<String, u64>::new();
        for event in events.list(&ListParams::default()).await?.items {
            let name = event.regarding.and_then(|regarding| regarding.name).unwrap_or_default();
            if name.starts_with(FLAPPING) {
                *told.entry(name).or_default() += 1;
            }
        }
        let most = told.values().copied().max().unwrap_or_default();
        println!("{most} Events about one of them at most");
        ensure!(most <= (EVENTS_AT_ONCE + minutes) * EVENTS_TOGETHER, "too many Events: {told:?}");
        Ok(())
    }

    fn changes_of_flapping(&self) -> BTreeMap<String, u64> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let flapping = changes.iter().filter(|(name, _)| name.starts_with(FLAPPING));
        flapping.map(|(name, changes)| (name.clone(), changes.count)).collect()
    }
}
