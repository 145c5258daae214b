//! Mail that is held on a backend that cannot deliver: the words for people, with the command that lifts the hold.

use std::fmt;

use mail_failover_core::engine::{CONFIRMATION_GRACE, HeldCarrier, Hold, HoldReason};
use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_resolve::request::Remedy;

/// Mail that goes to a backend that cannot deliver, though another one might.
#[derive(Debug)]
pub(super) struct HeldMail<'a> {
    pub(super) route: &'a ObjectKey,
    pub(super) carrier: HeldCarrier<'a>,
    pub(super) hold: Option<Hold>,
    /// Time since which that hold has been in force.
    pub(super) held_since: Option<Timestamp>,
    /// True if people have been told that mail is held.
    pub(super) is_told: bool,
}

impl HeldMail<'_> {
    /// Returns the time at which people are told; `None` if that has no delay.
    // ADR-0208: To await a confirmation is momentary for a minute.
    pub(super) fn told_at(hold: Option<Hold>, held_since: Option<Timestamp>) -> Option<Timestamp> {
        hold.filter(|hold| hold.reason == HoldReason::AwaitingConfirmation)?;
        Some(held_since? + CONFIRMATION_GRACE)
    }

    /// Returns true if it most likely ends by itself within a probe's interval or two, as in most failovers.
    pub(super) fn is_momentary(&self, now: Timestamp) -> bool {
        !self.is_told && Self::told_at(self.hold, self.held_since).is_some_and(|told_at| now < told_at)
    }

    /// The request that lifts the hold; `None` if there is none.
    fn remedy(&self) -> Option<Remedy<'_>> {
        if self.hold.is_some_and(|hold| hold.reason == HoldReason::Paused) {
            return Some(Remedy::Resume);
        }
        self.carrier.to.map(|to| Remedy::Switch { to, is_forced: !self.carrier.is_to_alive })
    }
}

impl fmt::Display for HeldMail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, carrier: HeldCarrier { backend, class, .. }, hold, .. } = self;
        match class {
            Some(class) => write!(f, "{backend} cannot send mail ({}), and mail stays there", class.as_str())?,
            None => write!(f, "{backend} is no longer in spec.backends (RemovedFromRoute), and mail stays there")?,
        }
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
    use std::sync::Arc;

    use super::*;
    use mail_failover_core::model::EvidenceClass;

    #[test]
    fn held_mail_is_told_with_the_hold_and_the_command_that_lifts_it() {
        let route = ObjectKey::new("shop", "orders");
        let backend: Arc<str> = "ses".into();
        let standby: Arc<str> = "sendgrid".into();
        let held = |reason, until, class, to, is_to_alive| {
            let carrier = HeldCarrier { backend: &backend, class, to, is_to_alive };
            let hold = Some(Hold { reason, until });
            HeldMail { route: &route, carrier, hold, held_since: None, is_told: false }.to_string()
        };
        let silent = Some(EvidenceClass::NoAnswer);
        let annotate = "to lift it: kubectl -n shop annotate --overwrite mailroute orders mailfailover.io/request=";
        let until = Some(Timestamp::from_micros(1_800_000_000_000_000));
        assert_eq!(
            held(HoldReason::SwitchBudget, until, silent, Some(&standby), true),
            format!(
                "ses cannot send mail (NoAnswer), and mail stays there: SwitchBudget, the budget of transitions is spent, \
                 until 2027-01-15T08:00:00Z; {annotate}\'{{\"id\":\"\'$(date +%s)\'\",\"action\":\"Switch\",\"to\":\"sendgrid\"}}\'"
            )
        );
        let paused = held(HoldReason::Paused, None, None, Some(&standby), true);
        assert!(paused.starts_with("ses is no longer in spec.backends (RemovedFromRoute), and mail stays"), "{paused}");
        assert!(paused.ends_with("\",\"action\":\"Resume\"}\'"), "{paused}");
        let storm = held(HoldReason::StormBrake, None, silent, Some(&standby), false);
        assert!(storm.ends_with("\"to\":\"sendgrid\",\"force\":true}\'"), "{storm}");
        assert!(!held(HoldReason::StormBrake, None, silent, None, false).contains("kubectl"));
    }

    #[test]
    fn only_the_wait_for_a_standby_is_momentary_and_only_for_a_minute() {
        let route = ObjectKey::new("shop", "orders");
        let backend: Arc<str> = "ses".into();
        let since = Timestamp::from_micros(0);
        let is_momentary = |reason, seconds, is_told| {
            let carrier =
                HeldCarrier { backend: &backend, class: Some(EvidenceClass::NoAnswer), to: None, is_to_alive: false };
            let hold = Some(Hold { reason, until: None });
            let held = HeldMail { route: &route, carrier, hold, held_since: Some(since), is_told };
            held.is_momentary(since + std::time::Duration::from_secs(seconds))
        };
        assert!(is_momentary(HoldReason::AwaitingConfirmation, 59, false));
        assert!(!is_momentary(HoldReason::AwaitingConfirmation, 60, false));
        assert!(!is_momentary(HoldReason::AwaitingConfirmation, 59, true), "what is told is not taken back");
        assert!(!is_momentary(HoldReason::StormBrake, 1, false));
    }
}
