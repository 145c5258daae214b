//! Notifications of routes that are one message: the same thing, about the same backend, within seconds.
//!
//! A group is in memory only. It is a message once that stands in the policy's status, and until then its notifications
//! stand in the statuses of their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mail_failover_api::{PendingNotification, QueuedNotification};
use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::micro_time;

use super::id;

/// Time without a further notification after which a group is a message.
// A provider takes its routes with it within a second or two.
const QUIET: Duration = Duration::from_secs(2);
/// Longest time from the first notification of a group to its message.
const LONGEST: Duration = Duration::from_secs(10);
/// The API's bound on the members of a message.
const MAX_MEMBERS: usize = 250;
/// The API's bound on the routes that a message names.
pub(crate) const MAX_ROUTES: usize = 20;
/// The API's bound on the backends that mail goes to.
pub(crate) const MAX_TO: usize = 8;
/// Different reasons that a message names.
const MAX_REASONS: usize = 3;

/// Common part of the notifications of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    occasion: String,
    about: Option<String>,
    backend: Option<String>,
    from: Option<String>,
    resolved: bool,
}

#[derive(Debug)]
struct Group {
    first: Timestamp,
    last: Timestamp,
    members: BTreeMap<String, (ObjectKey, PendingNotification)>,
}

/// Groups of a policy that are no message yet.
#[derive(Debug, Default)]
pub struct Groups(BTreeMap<GroupKey, Group>);

impl Groups {
    /// Adds a notification of a route. One that is in its group already changes nothing, and one beyond the bound of a
    /// message waits in its route for the next group.
    pub fn add(&mut self, now: Timestamp, route: &ObjectKey, pending: &PendingNotification) {
        let PendingNotification { id, occasion, about, backend, resolved, from, .. } = pending;
        let key = GroupKey {
            occasion: occasion.clone(),
            about: about.clone(),
            backend: backend.clone(),
            from: from.clone(),
            resolved: *resolved,
        };
        let group = self.0.entry(key).or_insert_with(|| Group { first: now, last: now, members: BTreeMap::new() });
        if !group.members.contains_key(id) && group.members.len() < MAX_MEMBERS {
            group.members.insert(id.clone(), (route.clone(), pending.clone()));
            group.last = now;
        }
    }

    /// Keeps the notifications that still stand in the statuses of their routes.
    pub fn retain(&mut self, is_pending: impl Fn(&str) -> bool) {
        for group in self.0.values_mut() {
            group.members.retain(|id, _| is_pending(id));
        }
        self.0.retain(|_, group| !group.members.is_empty());
    }

    /// Forgets all groups.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Time at which the next group is a message.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.0.values().map(Group::closes_at).min()
    }

    /// Takes the oldest group out that is a message now. `waited` is the time that mail of a route has waited at its
    /// latest transition.
    pub fn close(
        &mut self,
        now: Timestamp,
        policy: &ObjectKey,
        waited: impl Fn(&ObjectKey) -> Option<Duration>,
    ) -> Option<QueuedNotification> {
        let due = self.0.iter().filter(|(_, group)| group.closes_at() <= now);
        let oldest = due.min_by_key(|(_, group)| group.first)?.0.clone();
        let group = self.0.remove(&oldest)?;
        let members: Vec<_> = group.members.into_iter().collect();
        message(&oldest, policy, &members, waited)
    }
}

impl Group {
    fn closes_at(&self) -> Timestamp {
        if self.members.len() >= MAX_MEMBERS {
            return self.last;
        }
        (self.last + QUIET).min(self.first + LONGEST)
    }
}

fn message(
    GroupKey { occasion, about, backend, from, resolved }: &GroupKey,
    policy: &ObjectKey,
    members: &[(String, (ObjectKey, PendingNotification))],
    waited: impl Fn(&ObjectKey) -> Option<Duration>,
) -> Option<QueuedNotification> {
    let told = || members.iter().map(|(_, (_, pending))| pending);
    let routes: BTreeSet<_> = members.iter().map(|(_, (route, _))| route).collect();
    let to: BTreeSet<_> = told().filter_map(|pending| pending.to.clone()).collect();
    let subject = about.as_deref().and_then(|about| about.parse().ok());
    let longest = routes.iter().filter_map(|route| waited(route)).max().filter(|_| occasion == "Failover");
    Some(QueuedNotification {
        id: id::of_message(members.iter().map(|(id, _)| id.as_str())),
        incident: subject.map(|subject| id::of_incident(policy, subject, backend.as_deref())),
        occasion: occasion.clone(),
        about: about.clone(),
        backend: backend.clone(),
        resolved: *resolved,
        at: told().map(|pending| pending.at.clone()).min()?,
        since: told().filter_map(|pending| pending.since.clone()).min(),
        from: from.clone(),
        to: to.into_iter().take(MAX_TO).collect(),
        why: joined(told().map(|pending| pending.why.as_str())),
        waited_seconds: longest.map(|longest| i64::try_from(longest.as_secs()).unwrap_or(i64::MAX)),
        routes: routes.iter().take(MAX_ROUTES).map(ToString::to_string).collect(),
        route_count: i32::try_from(routes.len()).ok(),
        members: members.iter().map(|(id, _)| id.clone()).collect(),
        waiting: vec![],
    })
}

/// Different reasons in one text; beyond some they are counted.
pub(crate) fn joined<'a>(told: impl Iterator<Item = &'a str>) -> String {
    let mut reasons = vec![];
    for reason in told.filter(|reason| !reason.is_empty()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let others = reasons.len().saturating_sub(MAX_REASONS);
    reasons.truncate(MAX_REASONS);
    let mut why = reasons.join("; ");
    if others > 0 {
        why = format!("{why}; and {others} more");
    }
    truncated(&why, MAX_MESSAGE)
}

/// A test message.
pub fn test_message(now: Timestamp, policy: &ObjectKey, request: &str) -> QueuedNotification {
    QueuedNotification {
        id: id::of_test(policy, request),
        incident: None,
        occasion: mail_failover_core::model::Occasion::Test.as_str().to_owned(),
        about: None,
        backend: None,
        resolved: false,
        at: micro_time(now),
        since: None,
        from: None,
        to: vec![],
        why: truncated(&format!("the request {request}"), MAX_MESSAGE),
        waited_seconds: None,
        routes: vec![],
        route_count: None,
        members: vec![],
        waiting: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000 + millis * 1000)
    }

    fn pending(id: &str, from: &str, to: &str) -> PendingNotification {
        PendingNotification {
            id: id.to_owned(),
            occasion: "Failover".to_owned(),
            about: Some("Failover".to_owned()),
            backend: Some(from.to_owned()),
            resolved: false,
            at: micro_time(at(0)),
            since: None,
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            why: format!("{from} → {to}: NoAnswer"),
        }
    }

    fn policy() -> ObjectKey {
        ObjectKey::new("shop", "default")
    }

    fn route(number: usize) -> ObjectKey {
        ObjectKey::new("shop", format!("r{number:04}"))
    }

    #[test]
    fn a_hundred_routes_that_a_provider_takes_with_it_are_one_message() {
        let mut groups = Groups::default();
        for number in 0..100 {
            let id = format!("{number:04}");
            groups.add(at(i64::try_from(number).unwrap() * 15), &route(number), &pending(&id, "ses", "sendgrid"));
        }
        groups.add(at(1000), &route(500), &pending("other", "mailgun", "sendgrid"));
        assert_eq!(groups.close(at(2900), &policy(), |_| None), None);
        assert_eq!(groups.next_timeout(), Some(at(3000)));
        let waited = |_: &ObjectKey| Some(Duration::from_secs(42));
        let messages = [0, 1].map(|_| groups.close(at(3600), &policy(), waited).unwrap());
        let told: Vec<_> = messages.iter().map(|one| (one.route_count, one.members.len(), one.routes.len())).collect();
        assert_eq!(told, [(Some(100), 100, 20), (Some(1), 1, 1)]);
        assert_eq!((messages[0].from.as_deref(), messages[0].waited_seconds), (Some("ses"), Some(42)));
        assert_ne!(messages[0].incident, messages[1].incident);
        assert_eq!((groups.next_timeout(), messages[0].why.as_str()), (None, "ses → sendgrid: NoAnswer"));
    }

    #[test]
    fn a_trickle_does_not_keep_a_message_back_for_ever() {
        let mut groups = Groups::default();
        for second in 0..10 {
            groups.add(
                at(second * 1000),
                &route(usize::try_from(second).unwrap()),
                &pending(&second.to_string(), "a", "b"),
            );
        }
        assert_eq!(groups.next_timeout(), Some(at(10_000)));
        assert_eq!(groups.close(at(10_000), &policy(), |_| None).unwrap().members.len(), 10);
    }

    /// Id of the message that tells these notifications, which come in this order from a time on.
    fn id_of(order: &[usize], from: i64) -> String {
        let mut groups = Groups::default();
        for number in order {
            groups.add(at(from), &route(*number), &pending(&number.to_string(), "a", "b"));
            groups.add(at(from + 1), &route(*number), &pending(&number.to_string(), "a", "b"));
        }
        groups.close(at(from + 5000), &policy(), |_| None).unwrap().id
    }

    #[test]
    fn the_same_members_are_the_same_message_whenever_and_in_whatever_order_they_come() {
        assert_eq!(id_of(&[1, 2, 3], 0), id_of(&[3, 1, 2], 60_000));
        assert_ne!(id_of(&[1, 2, 3], 0), id_of(&[1, 2], 0));
    }

    #[test]
    fn what_routes_have_dropped_is_told_by_nobody() {
        let mut groups = Groups::default();
        groups.add(at(0), &route(1), &pending("1", "a", "b"));
        groups.add(at(0), &route(2), &pending("2", "a", "b"));
        groups.retain(|id| id == "2");
        assert_eq!(groups.close(at(9000), &policy(), |_| None).unwrap().members, ["2"]);
        groups.add(at(0), &route(1), &pending("1", "a", "b"));
        groups.retain(|_| false);
        assert_eq!(groups.next_timeout(), None);
    }

    #[test]
    fn a_thousand_routes_are_messages_within_the_bounds_of_the_schema() {
        let all: Vec<_> = (0..1000).collect();
        let (mut told, mut groups) = (vec![], Groups::default());
        for round in 0..4 {
            for number in all.iter().filter(|number| !told.contains(*number)).copied().collect::<Vec<_>>() {
                let mut one = pending(&number.to_string(), "a", &format!("to-{number}"));
                one.why = "x".repeat(500) + &number.to_string();
                groups.add(at(round), &route(number), &one);
            }
            let message = groups.close(at(round), &policy(), |_| None).unwrap();
            assert_eq!((message.members.len(), message.to.len(), message.routes.len()), (250, 8, 20));
            assert!(message.why.len() <= 1024);
            told.extend(message.members.iter().map(|id| id.parse::<usize>().unwrap()));
        }
        assert_eq!(told.len(), 1000);
    }
}
