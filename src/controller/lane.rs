//! Lanes: classes of actions, each with a bound of its own.

/// A class of actions, the most urgent first. Actions of one lane never wait for a place in another.
// ADR-0085: Each class of writes has a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lane {
    /// Outputs of routes: with them mail moves.
    Outputs,
    /// Reading a route before a new leader's first write for it, and the status write that persists a decision.
    Decision,
    /// Either of the two again, after a failure.
    // What hangs or is refused must not keep the first attempts of others waiting.
    Retry,
    /// The rest of a route's status.
    RouteStatus,
    /// Statuses of policies that have receivers of notifications: nobody is told before.
    Notifications,
    /// Statuses of backends and policies.
    BackendStatus,
    /// Publication of Events.
    Events,
    /// Creation of Jobs.
    Jobs,
}

/// Place of a resource for one action at a time.
// Events and Jobs touch neither the resource's status nor its outputs, so they need not wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// Reads, and writes of status and outputs.
    Write,
    Events,
    Job,
}

impl Lane {
    pub(super) const ALL: [Self; 8] = [
        Self::Outputs,
        Self::Decision,
        Self::Retry,
        Self::RouteStatus,
        Self::Notifications,
        Self::BackendStatus,
        Self::Events,
        Self::Jobs,
    ];

    /// Bound on the actions under way in this lane, over all namespaces.
    pub(super) fn bound(self) -> usize {
        match self {
            Self::Outputs | Self::Decision => 64,
            Self::Retry => 32,
            Self::RouteStatus | Self::BackendStatus | Self::Events => 16,
            Self::Notifications | Self::Jobs => 8,
        }
    }

    pub(super) fn slot(self) -> Slot {
        match self {
            Self::Outputs
            | Self::Decision
            | Self::Retry
            | Self::RouteStatus
            | Self::Notifications
            | Self::BackendStatus => Slot::Write,
            Self::Events => Slot::Events,
            Self::Jobs => Slot::Job,
        }
    }

    /// The lane of the same action after its latest attempt has failed.
    pub(super) fn after_failure(self) -> Self {
        match self {
            Self::Outputs | Self::Decision => Self::Retry,
            Self::Retry | Self::RouteStatus | Self::Notifications | Self::BackendStatus | Self::Events | Self::Jobs => {
                self
            }
        }
    }

    /// The label in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Outputs => "outputs",
            Self::Decision => "decision",
            Self::Retry => "retry",
            Self::RouteStatus => "route_status",
            Self::Notifications => "notifications",
            Self::BackendStatus => "backend_status",
            Self::Events => "events",
            Self::Jobs => "jobs",
        }
    }
}

impl Slot {
    pub(super) const ALL: [Self; 3] = [Self::Write, Self::Events, Self::Job];
}
