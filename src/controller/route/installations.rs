//! Notice that another installation of the operator looks after the same route.
//!
//! Each installation signs the statuses that it writes, and a route that somebody else has signed it signs once. One
//! that moves into a namespace after another has left it finds the name of that one and hears no more of it. One that
//! is alive answers: its name replaces ours.

use std::sync::Arc;
use std::time::Duration;

use mail_failover_api::MailRouteStatus;
use mail_failover_core::model::Timestamp;

/// Time for which another installation is told of after its latest sign.
// It writes when something changes only. When both let it lapse, the first one that does meets the other's answer.
const TOLD_FOR: Duration = Duration::from_hours(1);

/// Signs of installations on one route.
#[derive(Debug, Default)]
pub(super) struct Installations {
    /// Name in the status when it was looked at last.
    last: Option<Arc<str>>,
    /// True if our name has stood there.
    has_signed: bool,
    /// Another installation, and the time at which its name replaced ours.
    other: Option<(Arc<str>, Timestamp)>,
}

impl Installations {
    /// Looks at the name in the status. `ours` is that of this installation.
    pub(super) fn look(&mut self, now: Timestamp, ours: &Arc<str>, written: Option<&str>) {
        let written: Option<Arc<str>> = written.map(Into::into);
        match &written {
            Some(name) if name == ours => self.has_signed = true,
            Some(other) if self.last.as_ref() == Some(ours) => self.other = Some((other.clone(), now)),
            Some(_) | None => {}
        }
        self.last = written;
        if self.next_timeout().is_some_and(|at| at <= now) {
            self.other = None;
        }
    }

    /// The name of another installation that looks after the route.
    pub(super) fn other(&self) -> Option<&Arc<str>> {
        self.other.as_ref().map(|(name, _)| name)
    }

    /// Returns the time at which it is not told of any more.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.other.as_ref().map(|(_, at)| *at + TOLD_FOR)
    }

    /// Signs a status that differs from the one before, and one that we have never signed.
    // Two installations that agree on everything else must not write in turn for ever.
    pub(super) fn sign(&self, before: &MailRouteStatus, status: &mut MailRouteStatus, ours: &Arc<str>) {
        status.operator.clone_from(&before.operator);
        if !self.has_signed || *status != *before {
            status.operator = Some(ours.to_string());
        }
    }
}

/// Returns the message of the condition. Both installations write the same one.
pub(super) fn message(ours: &str, other: &str) -> String {
    let mut names = [ours, other];
    names.sort_unstable();
    format!(
        "two installations of the operator look after this route, {} and {} (namespace and Lease): uninstall one, or give each its own namespaces by --namespaces",
        names[0], names[1]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    /// An installation, and a status that it may write: the name in it, and what else there is in it.
    struct Installation {
        name: Arc<str>,
        signs: Installations,
    }

    impl Installation {
        fn new(name: &str) -> Self {
            Self { name: name.into(), signs: Installations::default() }
        }

        /// Looks at the status and writes what it wants of it. Returns true if that was a write.
        fn reconcile(&mut self, now: Timestamp, status: &mut MailRouteStatus) -> bool {
            self.signs.look(now, &self.name, status.operator.as_deref());
            let mut wanted = MailRouteStatus {
                message: self.signs.other().map(|other| message(&self.name, other)),
                ..MailRouteStatus::default()
            };
            self.signs.sign(status, &mut wanted, &self.name);
            let is_write = wanted != *status;
            *status = wanted;
            is_write
        }
    }

    #[test]
    fn two_that_are_alive_notice_each_other_and_come_to_rest() {
        let (mut a, mut b) = (Installation::new("mail/a"), Installation::new("mail/b"));
        let mut status = MailRouteStatus::default();
        assert!(a.reconcile(at(0), &mut status));
        assert!(!a.reconcile(at(1), &mut status));
        let mut writes = 0;
        for second in 10..20 {
            writes += u32::from(b.reconcile(at(second), &mut status));
            writes += u32::from(a.reconcile(at(second), &mut status));
        }
        assert_eq!((writes, a.signs.other().is_some(), b.signs.other().is_some()), (2, true, true));
        assert_eq!(status.message.as_deref(), Some(message("mail/b", "mail/a").as_str()), "both say the same");
        // For hours they go on, with a few writes each.
        writes = 0;
        for minute in 1..=600 {
            for installation in [&mut a, &mut b] {
                writes += u32::from(installation.reconcile(at(20 + minute * 60), &mut status));
            }
        }
        assert!(writes <= 60, "{writes} writes in ten hours");
        assert!(status.message.is_some());
    }

    #[test]
    fn one_that_moves_in_after_another_has_left_says_nothing_and_one_that_leaves_is_forgotten() {
        let (mut a, mut b) = (Installation::new("mail/a"), Installation::new("mail/b"));
        let mut status = MailRouteStatus::default();
        a.reconcile(at(0), &mut status);
        assert!(b.reconcile(at(10), &mut status), "it signs");
        for second in 11..30 {
            assert!(!b.reconcile(at(second), &mut status));
        }
        assert_eq!((b.signs.other(), status.message.as_deref()), (None, None));
        // Its successor, another process, has the same name.
        assert!(!Installation::new("mail/b").reconcile(at(31), &mut status));
        a.reconcile(at(40), &mut status);
        b.reconcile(at(41), &mut status);
        assert!(status.message.is_some());
        for minute in 1..=70 {
            b.reconcile(at(41 + minute * 60), &mut status);
        }
        assert_eq!((b.signs.other(), status.message.as_deref()), (None, None), "a is gone");
    }
}
