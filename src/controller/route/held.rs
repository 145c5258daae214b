//! Mail that is held on a backend that cannot deliver: the words for people, with the command that lifts the hold.

use std::fmt;

use mail_failover_core::engine::{Hold, HoldReason};
use mail_failover_core::model::{EvidenceClass, ObjectKey};
use mail_failover_resolve::request::Remedy;

/// Mail that goes to a backend that cannot deliver, though another one might.
#[derive(Debug)]
pub(super) struct HeldMail<'a> {
    pub(super) route: &'a ObjectKey,
    pub(super) backend: &'a str,
    pub(super) class: EvidenceClass,
    pub(super) hold: Option<Hold>,
    /// The backend to switch to: one that can deliver, if there is one.
    pub(super) to: Option<&'a str>,
    pub(super) is_to_alive: bool,
}

impl HeldMail<'_> {
    /// Returns true if it ends by itself within a probe's interval or two, as in most failovers.
    pub(super) fn is_momentary(&self) -> bool {
        self.hold.is_some_and(|hold| hold.reason == HoldReason::AwaitingConfirmation)
    }

    /// The request that lifts the hold; `None` if there is none.
    fn remedy(&self) -> Option<Remedy<'_>> {
        if self.hold.is_some_and(|hold| hold.reason == HoldReason::Paused) {
            return Some(Remedy::Resume);
        }
        self.to.map(|to| Remedy::Switch { to, is_forced: !self.is_to_alive })
    }
}

impl fmt::Display for HeldMail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, backend, class, hold, .. } = self;
        write!(f, "{backend} cannot send mail ({}), and mail stays there", class.as_str())?;
        if let Some(Hold { reason, until }) = hold {
            write!(f, ": {}, {}", reason.as_str(), reason.meaning())?;
            if let Some(until) = until {
                write!(f, ", until {until}")?;
            }
        }
        let Some(remedy) = self.remedy() else { return Ok(()) };
        write!(f, "; to lift it: {}", remedy.command(route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_core::model::Timestamp;

    #[test]
    fn held_mail_is_told_with_the_hold_and_the_command_that_lifts_it() {
        let route = ObjectKey::new("shop", "orders");
        let held = |reason, until, to, is_to_alive| {
            let hold = Some(Hold { reason, until });
            let class = EvidenceClass::NoAnswer;
            HeldMail { route: &route, backend: "ses", class, hold, to, is_to_alive }.to_string()
        };
        let annotate = "to lift it: kubectl -n shop annotate --overwrite mailroute orders mailfailover.io/request=";
        let until = Some(Timestamp::from_micros(1_800_000_000_000_000));
        assert_eq!(
            held(HoldReason::SwitchBudget, until, Some("sendgrid"), true),
            format!(
                "ses cannot send mail (NoAnswer), and mail stays there: SwitchBudget, the budget of transitions is spent, \
                 until 2027-01-15T08:00:00Z; {annotate}\'{{\"id\":\"\'$(date +%s)\'\",\"action\":\"Switch\",\"to\":\"sendgrid\"}}\'"
            )
        );
        let paused = held(HoldReason::Paused, None, Some("sendgrid"), true);
        assert!(paused.ends_with("\",\"action\":\"Resume\"}\'"), "{paused}");
        let storm = held(HoldReason::StormBrake, None, Some("sendgrid"), false);
        assert!(storm.ends_with("\"to\":\"sendgrid\",\"force\":true}\'"), "{storm}");
        assert!(!held(HoldReason::StormBrake, None, None, false).contains("kubectl"));
    }
}
