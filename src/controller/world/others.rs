//! What this replica tells the others, what they say, and who of all observers is to be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{World, subject};
use crate::controller::backend::BackendEntry;
use crate::controller::references::Reference;
use crate::controller::step::SubjectKind;
use crate::controller::timers::KeyedTimers;
use crate::observers::report::{Seen, seen};
use crate::observers::{Change, Hearing, Sightings, Verdicts};
use mail_failover_core::engine::{Fleet, Health, Observer, Sighting};
use mail_failover_core::model::{Backend, EvidenceClass, ObjectKey, Thresholds, Timestamp};

/// All that concerns observers: this replica, as the others see it, and the others.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Whether everyone who was there at the start has been heard, or cannot be.
    pub(super) is_listed: bool,
    /// Whether every backend has been observed once since the start.
    pub(super) is_complete: bool,
    voices: BTreeMap<Arc<str>, Voice>,
    fleet: Fleet,
    is_fleet_changed: bool,
    suspects: BTreeSet<Observer>,
    is_storm: bool,
    /// Backends of which some observer, this one included, may see something else now.
    due: BTreeSet<ObjectKey>,
    /// When a verdict of ours changes by time alone.
    timers: KeyedTimers<ObjectKey>,
    unobserved: BTreeSet<ObjectKey>,
    /// What the others were told, or will be as soon as it can be written.
    told: BTreeMap<ObjectKey, Verdicts>,
}

/// What another observer says.
#[derive(Debug)]
struct Voice {
    sightings: Arc<Sightings>,
    /// Since when it is heard: for at least so long it sees healthy what it does not name.
    since: Timestamp,
    /// When it ceased to name a backend.
    recovered: BTreeMap<ObjectKey, Timestamp>,
}

impl Voice {
    fn says(&self, backend: &ObjectKey, thresholds: &str) -> Sighting {
        let silence = |health, class| {
            let since = self.recovered.get(backend).copied().unwrap_or(self.since);
            Sighting { health, since, class, first_failure_at: None }
        };
        match seen(&self.sightings, backend, thresholds) {
            Seen::As(sighting) => sighting,
            Seen::Healthy => silence(Health::Healthy, EvidenceClass::Ok),
            Seen::Abstains => silence(Health::Unknown, EvidenceClass::Inconclusive),
        }
    }

    /// Takes in what it says now. Returns the backends of which it says something else than before, of those that exist.
    fn turn(
        &mut self,
        sightings: Arc<Sightings>,
        now: Timestamp,
        exists: impl Fn(&ObjectKey) -> bool,
    ) -> Vec<ObjectKey> {
        let before = std::mem::replace(&mut self.sightings, sightings);
        let ceased = before.keys().filter(|key| !self.sightings.contains_key(*key));
        let mut changed: Vec<_> = ceased.filter(|key| exists(key)).cloned().collect();
        self.recovered.extend(changed.iter().map(|key| (key.clone(), now)));
        for (key, verdicts) in self.sightings.iter() {
            self.recovered.remove(key);
            if before.get(key) != Some(verdicts) && exists(key) {
                changed.push(key.clone());
            }
        }
        changed
    }
}

impl Others {
    /// How many replicas share what providers count: this one and those whose evidence counts.
    pub(super) fn replicas(&self) -> u32 {
        u32::try_from(self.voices.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Somebody may see something else of this backend now.
    pub(super) fn mark(&mut self, backend: &ObjectKey) {
        self.due.insert(backend.clone());
    }

    /// Whether everything fails at once for everyone who is believed: then it is rather our own network.
    pub(super) fn is_storm(&self) -> bool {
        self.is_storm
    }

    /// When something changes by time alone.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.timers.next_timeout()
    }

    fn wake(&mut self, now: Timestamp) {
        while let Some(key) = self.timers.pop(now) {
            self.due.insert(key);
        }
    }

    /// A timer that is set earlier stays: when it ends, this is asked again. So evidence that puts the change off moves no timer.
    fn set_timer(&mut self, key: &ObjectKey, at: Option<Timestamp>) {
        match at {
            Some(at) => self.timers.set(key, at),
            None => self.timers.clear(key),
        }
    }

    /// Nobody needs to know of this backend any more.
    fn forget(&mut self, key: &ObjectKey) -> Option<Change> {
        self.set_timer(key, None);
        self.unobserved.remove(key);
        self.is_fleet_changed |= !self.fleet.leave_out(key).is_empty();
        for voice in self.voices.values_mut() {
            voice.recovered.remove(key);
        }
        self.tell(key, None)
    }

    /// What the others have to be told that they do not know yet.
    fn tell(&mut self, key: &ObjectKey, verdicts: Option<Verdicts>) -> Option<Change> {
        if self.told.get(key) == verdicts.as_ref() {
            return None;
        }
        match &verdicts {
            Some(verdicts) => self.told.insert(key.clone(), verdicts.clone()),
            None => self.told.remove(key),
        };
        Some(Change { backend: key.clone(), verdicts })
    }

    /// Notes who sees this backend fail. One out of service says nothing about anybody's network.
    fn note_in_fleet(
        &mut self,
        key: &ObjectKey,
        entry: &BackendEntry,
        thresholds: &[(Thresholds, String)],
        now: Timestamp,
    ) {
        let usable = entry.usable.as_deref().filter(|usable| entry.object.is_some() && !usable.suspended);
        let Some(usable) = usable else {
            self.is_fleet_changed |= !self.fleet.leave_out(key).is_empty();
            return;
        };
        let domain = usable.location.failure_domain.as_ref();
        let worst = |healths: &mut dyn Iterator<Item = Health>| healths.max().unwrap_or(Health::Unknown);
        let own = thresholds.iter().filter_map(|(of, _)| Some(entry.evidence.sighting(*of, now)?.health));
        self.is_fleet_changed |= self.fleet.note(key, domain, &Observer::Own, worst(&mut { own }));
        for (observer, voice) in &self.voices {
            let says = thresholds.iter().map(|(_, text)| voice.says(key, text).health);
            let observer = Observer::Other(observer.clone());
            self.is_fleet_changed |= self.fleet.note(key, domain, &observer, worst(&mut { says }));
        }
    }
}

impl World {
    pub(super) fn take_hearing(&mut self, now: Timestamp, hearing: Hearing) {
        match hearing {
            Hearing::Listed => self.others.is_listed = true,
            Hearing::TakesReports { observer, endpoint } => self.take_endpoint(observer, endpoint),
            Hearing::Heard { observer, sightings } => {
                if let Some(voice) = self.others.voices.get_mut(&observer) {
                    let changed = voice.turn(sightings, now, |key| self.backends.contains_key(key));
                    self.others.due.extend(changed);
                } else {
                    tracing::info!(observer = &*observer, "another replica's evidence counts");
                    let voice = Voice { sightings, since: now, recovered: BTreeMap::new() };
                    self.others.voices.insert(observer, voice);
                    self.others.due.extend(self.backends.keys().cloned());
                    self.share_out_probes(now);
                }
            }
            Hearing::Lost { observer } => {
                if self.others.voices.remove(&observer).is_some() {
                    tracing::info!(observer = &*observer, "another replica's evidence does not count any more");
                    for entry in self.backends.values_mut() {
                        entry.evidence.forget_observer(&observer, now);
                    }
                    self.others.is_fleet_changed |= self.others.fleet.forget_observer(&Observer::Other(observer));
                    self.touch_all_verdicts();
                    self.share_out_probes(now);
                }
            }
        }
    }

    /// There are more replicas, or fewer: what providers count is shared out anew.
    fn share_out_probes(&mut self, now: Timestamp) {
        let shared = |entry: &BackendEntry| entry.usable.as_deref().is_some_and(Backend::is_shared_out);
        let backends: Vec<_> =
            self.backends.iter().filter(|(_, entry)| shared(entry)).map(|(key, _)| key.clone()).collect();
        for key in backends {
            self.refresh_backend(now, &key);
        }
    }

    /// Brings everything up to date that rests on who sees what.
    pub(super) fn weigh_observers(&mut self, now: Timestamp) {
        self.others.wake(now);
        while let Some(key) = self.others.due.pop_first() {
            self.weigh(now, &key);
        }
        if std::mem::take(&mut self.others.is_fleet_changed) {
            self.judge_observers(now);
        }
        self.others.is_complete |= self.others.unobserved.is_empty();
        self.pending.is_complete = self.others.is_complete;
    }

    fn weigh(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(entry) = self.backends.get_mut(key) else {
            self.pending.sightings.extend(self.others.forget(key));
            return;
        };
        let thresholds: Vec<_> = entry.evidence.thresholds().map(|of| (of, of.to_string())).collect();
        let verdicts = |entry: &BackendEntry| {
            thresholds.iter().map(|(of, _)| entry.evidence.verdict(*of, now)).collect::<Vec<_>>()
        };
        let before = verdicts(entry);
        entry.evidence.settle_deliveries(now);
        entry.evidence.suspect(&self.others.suspects, now);
        for (observer, voice) in &self.others.voices {
            for (of, text) in &thresholds {
                entry.evidence.hear(observer, *of, voice.says(key, text), now);
            }
        }
        let mut is_turned = verdicts(entry) != before;
        if entry.is_awaited() {
            self.others.unobserved.insert(key.clone());
        } else {
            self.others.unobserved.remove(key);
        }
        self.others.set_timer(key, entry.evidence.next_change_at(now));
        self.others.note_in_fleet(key, entry, &thresholds, now);
        if let Some(change) = self.others.tell(key, entry.own_sightings(&thresholds, now)) {
            // What has changed by time alone is news here, too.
            is_turned = true;
            self.pending.sightings.push(change);
        }
        if is_turned {
            self.touch_users(&Reference::Backend(key.clone()));
            self.agenda.add(subject(SubjectKind::Backend, key));
        }
    }

    fn judge_observers(&mut self, now: Timestamp) {
        let suspects = self.others.fleet.suspects();
        if suspects != self.others.suspects {
            if suspects.is_empty() {
                tracing::info!("every observer is believed again");
            } else {
                let names = suspects.iter().map(|suspect| match suspect {
                    Observer::Own => "this replica",
                    Observer::Other(name) => name,
                });
                let suspects = names.collect::<Vec<_>>().join(", ");
                tracing::warn!(suspects, "who sees everything fail that others see work is not believed");
            }
            for entry in self.backends.values_mut() {
                entry.evidence.suspect(&suspects, now);
            }
            self.metrics.suspects.set(i64::try_from(suspects.len()).unwrap_or(i64::MAX));
            self.others.suspects = suspects;
            self.touch_all_verdicts();
        }
        let is_storm = self.others.fleet.is_storm();
        if std::mem::replace(&mut self.others.is_storm, is_storm) != is_storm {
            if is_storm {
                tracing::warn!("every failure domain fails at once for every observer");
            } else {
                tracing::info!("not everything fails any more");
            }
            self.metrics.storm.set(i64::from(is_storm));
            self.agenda.extend(self.routes.keys().map(|key| subject(SubjectKind::Route, key)));
        }
    }

    fn touch_all_verdicts(&mut self) {
        self.agenda.extend(self.routes.keys().map(|key| subject(SubjectKind::Route, key)));
        self.agenda.extend(self.backends.keys().map(|key| subject(SubjectKind::Backend, key)));
    }
}
