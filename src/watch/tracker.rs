//! Tracker that turns the events of a watch into changes: new, different and deleted objects.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;

use kube::Resource;
use kube::runtime::watcher::Event;

use super::event::{Change, Identified, Unreadable, WatchEvent};
use super::kinds::{Watched, strip_metadata};
use mail_failover_core::model::{MissingIdentity, ObjectIdentity, ObjectKey, ResourceVersion, Uid};
use mail_failover_runtime::kubernetes::{Guarded, Invalid, identity, object_key};

/// Version of an object that was reported.
#[derive(Debug, PartialEq, Eq)]
struct ObjectVersion {
    uid: Uid,
    resource_version: ResourceVersion,
}

/// Keys and versions of one kind that were reported. No I/O, no clock.
#[derive(Debug)]
pub(super) struct Tracker<K> {
    known: HashMap<ObjectKey, ObjectVersion>,
    /// Keys that the list under way has brought so far.
    listed: Option<HashSet<ObjectKey>>,
    synced: bool,
    kind: PhantomData<fn() -> K>,
}

impl<K> Default for Tracker<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), listed: None, synced: false, kind: PhantomData }
    }
}

impl<K: Watched> Tracker<K> {
    /// Returns the number of objects.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Appends what an event means for the controller.
    ///
    /// # Errors
    /// [`MissingIdentity`] if the event shows an object without identity, which is left out.
    pub(super) fn handle(
        &mut self,
        event: Event<Guarded<K>>,
        out: &mut Vec<WatchEvent>,
    ) -> Result<(), MissingIdentity> {
        match event {
            // A list that broke off starts over.
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(object) => {
                let key = self.apply(object, out)?;
                if let Some(listed) = &mut self.listed {
                    listed.insert(key);
                }
            }
            Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    let vanished = self.known.extract_if(|key, _| !listed.contains(key));
                    out.extend(vanished.map(|(key, _)| K::event(Change::Deleted(key))));
                }
                if !std::mem::replace(&mut self.synced, true) {
                    out.push(WatchEvent::Synced(K::SOURCE));
                }
            }
            Event::Apply(object) => {
                self.apply(object, out)?;
            }
            Event::Delete(object) => {
                let key = object_key(object.meta())?;
                if self.known.remove(&key).is_some() {
                    out.push(K::event(Change::Deleted(key)));
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, object: Guarded<K>, out: &mut Vec<WatchEvent>) -> Result<ObjectKey, MissingIdentity> {
        let identity = identity(object.meta())?;
        let ObjectIdentity { key, uid, resource_version } = identity.clone();
        let version = ObjectVersion { uid, resource_version };
        match self.known.entry(key.clone()) {
            Entry::Occupied(known) if *known.get() == version => return Ok(key),
            Entry::Occupied(mut known) => {
                // Deleted and made anew while the watch was interrupted: nothing of the old one must live on.
                if known.get().uid != version.uid {
                    out.push(K::event(Change::Deleted(key.clone())));
                }
                known.insert(version);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(version);
            }
        }
        out.push(K::event(match object.0 {
            Ok(mut object) => {
                strip_metadata(object.meta_mut());
                object.strip();
                Change::Applied(Identified { identity, object: Box::new(object) })
            }
            Err(Invalid { metadata, status, error }) => {
                // Objects without a spec have no generation.
                let generation = metadata.generation.unwrap_or_default();
                Change::Unreadable(Unreadable { identity, generation, status, error })
            }
        }));
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    use super::super::tests::word;
    use super::*;

    fn object(name: &str, uid: &str, version: u32) -> Value {
        json!({"metadata": {"namespace": "mail", "name": name, "uid": uid, "resourceVersion": version.to_string()}})
    }

    fn guarded(object: Value) -> Guarded<ConfigMap> {
        serde_json::from_value(object).expect("metadata is well formed")
    }

    /// The changes that the tracker emits, one word per input.
    fn told(
        tracker: &mut Tracker<ConfigMap>,
        events: impl IntoIterator<Item = Event<Guarded<ConfigMap>>>,
    ) -> Vec<String> {
        let mut out = vec![];
        for event in events {
            tracker.handle(event, &mut out).expect("every object has an identity");
        }
        out.iter().map(word).collect()
    }

    #[test]
    fn changes_are_reported_once_and_in_order() {
        let listed = |name: &str, uid: &str, version| Event::InitApply(guarded(object(name, uid, version)));
        let applied = |name: &str, uid: &str, version| Event::Apply(guarded(object(name, uid, version)));
        let deleted = |name: &str, uid: &str, version| Event::Delete(guarded(object(name, uid, version)));
        let malformed = || Event::InitApply(guarded(json!({"metadata": object("bad", "4", 4)["metadata"], "data": 7})));
        let mut tracker = Tracker::default();
        for (what, events, want) in [
            (
                "a first list",
                vec![Event::Init, listed("a", "1", 1), listed("b", "2", 2), Event::InitDone],
                "a b synced",
            ),
            ("a change", vec![applied("a", "1", 3)], "a"),
            ("its echo", vec![applied("a", "1", 3)], ""),
            ("a deletion", vec![deleted("b", "2", 4)], "-b"),
            ("a deletion of what was not known", vec![deleted("c", "3", 4)], ""),
            ("a list without changes", vec![Event::Init, listed("a", "1", 3), Event::InitDone], ""),
            ("a list that breaks off", vec![Event::Init], ""),
            ("and starts over", vec![Event::Init, listed("b", "9", 5), Event::InitDone], "b -a"),
            ("another object of the same name", vec![Event::Init, listed("b", "10", 6), Event::InitDone], "-b b"),
            (
                "a malformed object among others",
                vec![Event::Init, malformed(), listed("b", "10", 7), Event::InitDone],
                "bad? b",
            ),
            ("its removal", vec![Event::Init, listed("b", "10", 7), Event::InitDone], "-bad"),
        ] {
            assert_eq!(told(&mut tracker, events).join(" "), want, "{what}");
        }
        assert_eq!(tracker.len(), 1);
    }

    #[test]
    fn an_object_without_a_version_is_left_out() {
        // A write that follows from it could not be conditional.
        let mut object = object("a", "1", 1);
        object["metadata"]["resourceVersion"] = json!("");
        let (mut tracker, mut out) = (Tracker::default(), vec![]);
        let error = tracker.handle(Event::Apply(guarded(object)), &mut out).expect_err("it has no version");
        assert_eq!(error, MissingIdentity("resourceVersion"));
        assert!(out.is_empty() && tracker.len() == 0, "{out:?}");
    }

    #[test]
    fn what_nobody_needs_is_dropped() {
        let mut object = object("a", "1", 1);
        object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
        object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}",
            "mailfailover.io/transition": "7", "mailfailover.io/made-up": "x", "mailfailover.io/request": "ä".repeat(5000)});
        object["metadata"]["labels"] =
            json!({"app.kubernetes.io/managed-by": "us", "app": "x", "mailfailover.io/made-up": "x"});
        object["metadata"]["ownerReferences"] = json!([
            {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "a"},
            {"apiVersion": "v1", "kind": "MailRoute", "name": "b", "uid": "b", "controller": true},
        ]);
        let mut out = vec![];
        Tracker::default().handle(Event::Apply(guarded(object)), &mut out).expect("it has an identity");
        let [WatchEvent::ConfigMap(Change::Applied(config_map))] = out.as_slice() else { panic!("{out:?}") };
        let metadata = &config_map.object.metadata;
        assert_eq!(metadata.managed_fields, None);
        let annotations: Vec<_> = metadata.annotations.iter().flatten().collect();
        assert_eq!(annotations.len(), 2, "{annotations:?}");
        assert_eq!(annotations[0].1.len(), 4100, "cut, and still too long to be a request");
        assert_eq!((annotations[1].0.as_str(), annotations[1].1.as_str()), ("mailfailover.io/transition", "7"));
        let kept = [("app.kubernetes.io/managed-by".to_owned(), "us".to_owned())];
        assert_eq!(metadata.labels, Some(kept.into()));
        let owners: Vec<_> = metadata.owner_references.iter().flatten().map(|owner| owner.name.as_str()).collect();
        assert_eq!(owners, ["b"]);
    }
}
