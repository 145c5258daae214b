//! Objects, and the moments at which a watch brought them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

/// The objects of a kind that a watch brought since it began. It stops when dropped.
pub struct Seen<K> {
    found: Arc<Mutex<Found>>,
    _task: AbortOnDropHandle<()>,
    kind: PhantomData<K>,
}

#[derive(Debug, Default)]
struct Found {
    first: BTreeMap<String, SystemTime>,
    /// The time of each change.
    times: Vec<SystemTime>,
}

impl<K> Seen<K> {
    /// Follows a kind. Objects count when `accept` takes them first.
    pub fn follow(api: Api<K>, accept: impl Fn(&K) -> bool + Send + 'static) -> Self
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let found = Arc::<Mutex<Found>>::default();
        let noted = found.clone();
        let task = tokio::spawn(async move {
            let objects = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            let mut objects = Box::pin(objects);
            while let Some(object) = objects.next().await {
                if let Ok(object) = object
                    && accept(&object)
                {
                    let at = SystemTime::now();
                    let mut found = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    found.first.entry(object.name_any()).or_insert(at);
                    found.times.push(at);
                }
            }
        });
        Self { found, _task: AbortOnDropHandle::new(task), kind: PhantomData }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The objects with the time at which each counted first.
    pub fn all(&self) -> Vec<(String, SystemTime)> {
        self.found().first.iter().map(|(name, at)| (name.clone(), *at)).collect()
    }

    /// The time of each change of an object that counts.
    pub fn all_times(&self) -> Vec<SystemTime> {
        self.found().times.clone()
    }
}
