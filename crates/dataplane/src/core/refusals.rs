//! Messages that backends refuse by a 5xx and that are kept, and what they teach. Pure; bounded memory.
//!
//! A 5xx that nobody knows to be about the message is made temporary, so that another backend can take the message. The
//! filter that Postfix asks sees the text of the reply, and nothing of the message. The log names the message, so this
//! module follows each from the log: which backends have refused it, with what words, and what those backends did with
//! other mail in the meantime.
// ADR-0074: What a message has met decides how its refusal is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::model::{KeptMail, Timestamp};
use mail_failover_replies::About;

use super::log_event::{Delivery, Disposition, MessageRefusal};
use crate::answers::LearntRefusals;

/// Limit of the messages that are followed. Further ones wait as well, unread, until there is room.
const MAX_MESSAGES: usize = 4096;
/// Time after which a message that is refused no more is forgotten.
// Postfix tries each again within `maximal_backoff_time`, 4,000 s by default.
const FOLLOWED: Duration = Duration::from_hours(6);
/// Time within which refusals of one message are one attempt.
const TOGETHER: Duration = Duration::from_millis(500);
/// Attempts at one backend after which the message is offered to another one, whatever the first does with other mail.
const ATTEMPTS: u32 = 2;
/// Time after which a message that its backend alone refuses is refused for itself, though no other backend was tried.
// By sender, a message cannot be led elsewhere without the sender's other mail.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(1);
/// Failures in a row after which a backend's refusals say nothing about single messages.
const UNSTEADY: u32 = 3;

/// A message, for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MessageKey {
    message: u64,
    recipient: u64,
}

impl MessageKey {
    /// Returns the keys of all recipients of a message.
    fn all_of(message: u64) -> RangeInclusive<Self> {
        Self { message, recipient: 0 }..=Self { message, recipient: u64::MAX }
    }
}

/// State of one kept message.
#[derive(Clone, Debug)]
struct KeptMessage {
    arrived_at: Timestamp,
    first_refused_at: Timestamp,
    last_refused_at: Timestamp,
    about: About,
    /// Refusals by each backend, the latest last.
    by: Vec<RefusedBy>,
    is_given_up: bool,
}

/// Refusals of one message by one backend.
#[derive(Clone, Debug)]
struct RefusedBy {
    backend: Arc<str>,
    text: u64,
    about: About,
    attempts: u32,
    at: Timestamp,
    /// True if the backend has carried another message since the first refusal.
    carried_other: bool,
}

/// State of a backend, as far as it decides how its refusals are read.
#[derive(Clone, Debug)]
pub(super) struct BackendState {
    /// Name of the backend.
    pub(super) name: Arc<str>,
    /// True if mail may leave by it.
    pub(super) is_usable: bool,
    /// Failures since its last success.
    pub(super) failures: u32,
}

impl RefusedBy {
    /// True if the refusal is about this message, as far as this state of the backend tells: it carries other mail.
    fn is_of_message(&self, state: &BackendState) -> bool {
        self.carried_other && state.is_steady()
    }

    /// True if the backend may take the message when something of ours is mended: that waits, whatever others say.
    fn waits(&self, state: &BackendState) -> bool {
        // A backend that carries other mail does not mind our address.
        let is_outlived = self.about == About::Address && self.is_of_message(state);
        self.about.consequences().waits && !is_outlived
    }
}

impl BackendState {
    fn is_steady(&self) -> bool {
        self.failures < UNSTEADY
    }
}

/// True if a backend's refusals are read otherwise after this change of its failures in a row.
pub(super) fn is_turn(before: u32, after: u32) -> bool {
    (before < UNSTEADY) != (after < UNSTEADY)
}

/// Summary of the kept messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptView {
    /// Number, and the oldest.
    pub mail: KeptMail,
    /// Number by the subject of the latest refusal.
    pub by_about: BTreeMap<About, u64>,
}

/// All messages that are followed.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kept: BTreeMap<MessageKey, KeptMessage>,
    /// Messages of each backend after whose refusal it has not carried another one yet.
    alone: BTreeSet<(Arc<str>, MessageKey)>,
    /// Refusals that met the limit of the messages, since the start.
    unfollowed: u64,
}

impl Refusals {
    /// Takes a delivery of a backend into account. Returns true if anything may be read otherwise now.
    pub(super) fn handle(&mut self, now: Timestamp, backend: &Arc<str>, delivery: &Delivery) -> bool {
        let key = MessageKey { message: delivery.message, recipient: delivery.recipient };
        match (delivery.disposition, &delivery.refusal) {
            (Disposition::Sent, _) => {
                let is_gone = self.forget(key);
                self.carried(backend, key.message) || is_gone
            }
            (Disposition::Bounced, _) => self.forget(key),
            (Disposition::Deferred | Disposition::PassedOn, Some(refusal)) => {
                self.refused(now, backend, key, delivery, *refusal)
            }
            (Disposition::Deferred | Disposition::PassedOn, None) => false,
        }
    }

    /// True if this backend has refused this message before, for any recipient.
    pub(super) fn is_repeated(&self, backend: &Arc<str>, delivery: &Delivery) -> bool {
        let mut known = self.kept.range(MessageKey::all_of(delivery.message));
        delivery.refusal.is_some() && known.any(|(_, kept)| kept.has_met(backend))
    }

    /// Forgets a message that has left the queue. Returns true if it was known.
    pub(super) fn gone(&mut self, message: u64) -> bool {
        let keys: Vec<_> = self.kept.range(MessageKey::all_of(message)).map(|(key, _)| *key).collect();
        keys.iter().filter(|key| self.forget(**key)).count() > 0
    }

    fn forget(&mut self, key: MessageKey) -> bool {
        let Some(known) = self.kept.remove(&key) else { return false };
        for RefusedBy { backend, .. } in known.by {
            self.alone.remove(&(backend, key));
        }
        true
    }

    fn carried(&mut self, backend: &Arc<str>, message: u64) -> bool {
        let mut is_news = false;
        let first = (backend.clone(), MessageKey { message: 0, recipient: 0 });
        let others = self.alone.range(first..).take_while(|(name, _)| name == backend);
        let others: Vec<_> = others.filter(|(_, key)| key.message != message).cloned().collect();
        for other in others {
            self.alone.remove(&other);
            let refused = self.kept.get_mut(&other.1).and_then(|kept| kept.of(backend));
            if let Some(refused) = refused {
                refused.carried_other = true;
                is_news = true;
            }
        }
        is_news
    }

    /// Forgets the message that has been kept longest of those that were given up. Returns false if there is none: each
    /// has its hour. Whatever is settled by then leaves the queue at its next attempt, so that one waits for another
    /// reason.
    fn make_room(&mut self) -> bool {
        let given_up = self.kept.iter().filter(|(_, kept)| kept.is_given_up);
        let oldest = given_up.min_by_key(|(_, kept)| kept.first_refused_at).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.forget(key))
    }

    fn refused(
        &mut self,
        now: Timestamp,
        backend: &Arc<str>,
        key: MessageKey,
        delivery: &Delivery,
        MessageRefusal { about, text }: MessageRefusal,
    ) -> bool {
        if self.kept.len() >= MAX_MESSAGES && !self.kept.contains_key(&key) {
            self.unfollowed = self.unfollowed.saturating_add(1);
            if !self.make_room() {
                return false;
            }
        }
        let kept = self.kept.entry(key).or_insert_with(|| KeptMessage {
            arrived_at: now - delivery.age,
            first_refused_at: now,
            last_refused_at: now,
            about,
            by: vec![],
            is_given_up: false,
        });
        (kept.last_refused_at, kept.about) = (now, about);
        if let Some(refused) = kept.of(backend) {
            refused.attempts += u32::from(now - delivery.took > refused.at + TOGETHER);
            (refused.at, refused.text, refused.about) = (now, text, about);
        } else {
            let name = backend.clone();
            kept.by.push(RefusedBy { backend: name.clone(), text, about, attempts: 1, at: now, carried_other: false });
            self.alone.insert((name, key));
        }
        true
    }

    /// Forgets what is refused no more, and gives up what was refused for too long. Returns true if anything may be
    /// read otherwise now.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) -> bool {
        let lapsed: Vec<_> =
            self.kept.iter().filter(|(_, kept)| kept.lapses_at() <= now).map(|(key, _)| *key).collect();
        let mut is_news = !lapsed.is_empty();
        for key in lapsed {
            self.forget(key);
        }
        for kept in self.kept.values_mut().filter(|kept| !kept.is_given_up && kept.given_up_at() <= now) {
            kept.is_given_up = true;
            is_news = true;
        }
        is_news
    }

    /// Returns the time at which the next message lapses or is given up.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        let kept = self.kept.values();
        kept.map(|kept| if kept.is_given_up { kept.lapses_at() } else { kept.given_up_at().min(kept.lapses_at()) })
            .min()
    }

    /// Returns the readings that follow, with the backends in this state.
    pub(super) fn learnt(&self, backends: &[BackendState]) -> LearntRefusals {
        let mut learnt = LearntRefusals::default();
        for (key, kept) in &self.kept {
            let is_left = |backend: &BackendState| backend.is_usable && !kept.has_met(&backend.name);
            let another_is_left = backends.iter().any(is_left);
            let met = kept.by.iter().filter_map(|refused| {
                let state = backends.iter().find(|state| state.name == refused.backend)?;
                Some((refused, state))
            });
            let met: Vec<_> = met.collect();
            let is_carried_by_one = met.iter().any(|(refused, state)| state.is_usable && refused.is_of_message(state));
            let is_refused_by_all = !another_is_left && !met.iter().any(|(refused, state)| refused.waits(state));
            for (refused, state) in met {
                let is_of_message = refused.is_of_message(state);
                let is_avoided = if another_is_left {
                    is_of_message || refused.attempts >= ATTEMPTS
                } else {
                    // ADR-0074: The word of a backend that carries other mail is the last one.
                    is_refused_by_all && is_carried_by_one && !is_of_message
                };
                if is_avoided {
                    learnt.avoided.entry(key.recipient).or_default().insert(refused.backend.clone());
                }
                let reading = (refused.backend.clone(), refused.text);
                let is_settled = if is_of_message {
                    !another_is_left || kept.is_given_up
                } else {
                    // One that fails beside one that works may refuse everything.
                    is_refused_by_all && kept.is_given_up && (state.is_steady() || !is_carried_by_one)
                };
                if is_settled {
                    learnt.settled.insert(reading.clone());
                }
                if is_of_message {
                    learnt.of_messages.insert(reading);
                }
            }
        }
        learnt
    }

    /// Number of refusals, since the start, of messages for which there was no room: each of them, or the one that made
    /// room for it, is followed no more.
    pub(super) fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    /// Returns a summary; `None` if nothing is kept.
    pub(super) fn view(&self) -> Option<KeptView> {
        let oldest = self.kept.values().min_by_key(|kept| kept.arrived_at)?;
        let mut by_about = BTreeMap::new();
        for kept in self.kept.values() {
            *by_about.entry(kept.about).or_default() += 1;
        }
        let backend = oldest.by.iter().max_by_key(|refused| refused.at).map(|refused| refused.backend.clone());
        let mail = KeptMail {
            messages: self.kept.len() as u64,
            oldest_at: oldest.arrived_at,
            about: oldest.about.as_str().into(),
            backend: backend.unwrap_or_default(),
        };
        Some(KeptView { mail, by_about })
    }
}

impl KeptMessage {
    fn of(&mut self, backend: &Arc<str>) -> Option<&mut RefusedBy> {
        self.by.iter_mut().find(|refused| refused.backend == *backend)
    }

    fn has_met(&self, backend: &Arc<str>) -> bool {
        self.by.iter().any(|refused| refused.backend == *backend)
    }

    fn lapses_at(&self) -> Timestamp {
        self.last_refused_at + FOLLOWED
    }

    fn given_up_at(&self) -> Timestamp {
        self.first_refused_at + GIVEN_UP_AFTER
    }
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;
