use std::collections::BTreeSet;
use std::sync::Arc;

use super::CaSource;

/// Receivers of a policy, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// Receivers in the order of the spec, names unique.
    pub receivers: Vec<Receiver>,
    /// Address of the user's page on what to do.
    pub runbook_url: Option<Arc<str>>,
}

/// A receiver of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Name, unique within the policy.
    pub name: Arc<str>,
    /// Kind of the receiver, with its settings.
    pub kind: ReceiverKind,
    /// Name of the Secret with what it asks for, in the policy's namespace.
    pub secret: Option<Arc<str>>,
    /// Object with the authorities that may have signed its certificate; the well-known ones if `None`.
    pub ca: Option<CaSource>,
    /// Occasions on which it is told.
    pub occasions: BTreeSet<Occasion>,
    /// Least severity of which it is told.
    pub minimum: Severity,
}

/// Kind of a receiver, with its settings.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr)]
pub enum ReceiverKind {
    /// A signed `CloudEvent`.
    Webhook {
        /// Place of the receiver, `https://…`.
        url: Arc<str>,
    },
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams.
    Teams,
    /// Events API v2 of `PagerDuty`.
    PagerDuty {
        /// Address without a path.
        url: Arc<str>,
    },
    /// Alert API of Opsgenie.
    Opsgenie {
        /// Address without a path.
        url: Arc<str>,
    },
    /// API v2 of Alertmanager.
    Alertmanager {
        /// Address without `/api/v2/alerts`.
        url: Arc<str>,
    },
    /// A webhook of Discord.
    Discord,
    /// A webhook of Google Chat.
    GoogleChat,
    /// A bot of Telegram.
    Telegram {
        /// Address without a path.
        url: Arc<str>,
        /// Number or name of the chat.
        chat: Arc<str>,
    },
    /// Mail through a backend.
    Mail {
        /// Address of the sender.
        from: Arc<str>,
        /// Addresses of the recipients, at least one.
        to: Vec<Arc<str>>,
        /// Names of the backends, most preferred first, at least one.
        backends: Vec<Arc<str>>,
    },
}

impl ReceiverKind {
    /// The name in a spec and in metrics.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// Returns true if the receiver knows that something lasts, and ends.
    pub fn knows_resolving(&self) -> bool {
        matches!(self, Self::PagerDuty { .. } | Self::Opsgenie { .. } | Self::Alertmanager { .. })
    }
}

/// Occasion of a notification.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
pub enum Occasion {
    /// Mail has left a backend.
    Failover,
    /// Mail has returned to a more preferred backend.
    Failback,
    /// An alert that was told before is over.
    Recovery,
    /// No backend can deliver.
    NoneHealthy,
    /// Mail stays with a backend that cannot deliver, or that has refused messages for long.
    NotDelivering,
    /// No other backend could take over.
    StandbyLost,
    /// A person has to approve the return.
    ApprovalWanted,
    /// An objective of the policy is missed.
    ObjectiveMissed,
    /// The operator cannot do its work.
    OperatorTrouble,
    /// A drill has passed.
    DrillPassed,
    /// A drill has failed, or was aborted.
    DrillFailed,
    /// A person wants to see that messages arrive.
    Test,
}

impl Occasion {
    /// Occasions that a spec can name: all but [`Occasion::Test`].
    pub fn selectable() -> BTreeSet<Self> {
        let all = <Self as strum::VariantArray>::VARIANTS.iter().copied();
        all.filter(|occasion| *occasion != Self::Test).collect()
    }

    /// The name in a spec and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns true if it begins something that lasts, and whose end is told.
    pub fn lasts(self) -> bool {
        !matches!(self, Self::Failback | Self::Recovery | Self::DrillPassed | Self::DrillFailed | Self::Test)
    }

    /// Severity of a message on this occasion.
    pub fn severity(self) -> Severity {
        match self {
            Self::NoneHealthy | Self::NotDelivering => Severity::Critical,
            Self::Failover
            | Self::StandbyLost
            | Self::ApprovalWanted
            | Self::ObjectiveMissed
            | Self::OperatorTrouble
            | Self::DrillFailed => Severity::Warning,
            Self::Failback | Self::Recovery | Self::DrillPassed | Self::Test => Severity::Info,
        }
    }
}

/// Severity of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing has to be done.
    Info,
    /// Somebody has to look at it.
    Warning,
    /// Mail is not delivered.
    Critical,
}

impl Severity {
    /// The name in messages, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Receiver {
    /// Returns true if it is told of an occasion. `about` is the occasion of what the message begins or ends, if it does
    /// either.
    // One that knows resolving would show for ever what neither begins nor ends, and must hear of the end of all that it
    // was told of.
    pub fn wants(&self, occasion: Occasion, about: Option<Occasion>) -> bool {
        let decisive = if self.kind.knows_resolving() { about } else { Some(occasion) };
        let is_chosen = decisive.is_some_and(|one| self.occasions.contains(&one) && one.severity() >= self.minimum);
        occasion == Occasion::Test || is_chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(kind: ReceiverKind, occasions: &[Occasion], minimum: Severity) -> Receiver {
        let occasions = occasions.iter().copied().collect();
        Receiver { name: "a".into(), kind, secret: None, ca: None, occasions, minimum }
    }

    #[test]
    fn a_receiver_that_knows_resolving_hears_the_end_of_what_it_was_told() {
        let pager = ReceiverKind::PagerDuty { url: "https://events.pagerduty.com".into() };
        let pager = receiver(pager, &[Occasion::Failover], Severity::Warning);
        assert!(pager.wants(Occasion::Failover, Some(Occasion::Failover)));
        assert!(pager.wants(Occasion::Failback, Some(Occasion::Failover)));
        assert!(
            !pager.wants(Occasion::Failback, None) && !pager.wants(Occasion::Recovery, Some(Occasion::NoneHealthy))
        );
        let chat = receiver(ReceiverKind::Slack, &[Occasion::Failover], Severity::Info);
        assert!(!chat.wants(Occasion::Failback, Some(Occasion::Failover)));
        assert!(chat.wants(Occasion::Test, None));
    }

    #[test]
    fn a_minimum_leaves_out_what_is_less_severe() {
        let all = Occasion::selectable();
        assert_eq!(all.len(), 11);
        for (minimum, count) in [(Severity::Info, 11), (Severity::Warning, 8), (Severity::Critical, 2)] {
            let receiver = Receiver { occasions: all.clone(), ..receiver(ReceiverKind::Slack, &[], minimum) };
            assert_eq!(all.iter().filter(|occasion| receiver.wants(**occasion, None)).count(), count, "{minimum:?}");
        }
    }
}
