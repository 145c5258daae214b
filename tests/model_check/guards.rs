//! The protections of the protocol, and the faults that they protect from.

/// The protections of the protocol. A test that removes one must see it fail.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// Writes of the lease are made on the condition of its resourceVersion.
    pub lease_versions: bool,
    /// True if writes of `status` are conditional, too.
    pub status_versions: bool,
    /// True if writes of outputs are conditional, too.
    pub output_versions: bool,
    /// An Event's name stands in `status` before it is published.
    pub event_names: bool,
    /// A new leader reads the route afresh.
    pub confirm: bool,
    /// The claim is looked at before each step.
    pub claim: bool,
    /// `status` is written before the output.
    pub status_first: bool,
    /// Outputs carry the id of the decision that they were written for: each is written anew for a new decision, and
    /// who sees a newer one than it knows reads its route afresh.
    pub outputs_name_their_decision: bool,
}

/// The bounds of how often each fault may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A process dies, and another is started in its place.
    pub crashes: u8,
    /// A process is told to end, and another is started in its place.
    pub leaves: u8,
    /// A leader finds that another replica is fitter to lead, until the storm is over.
    pub unfit: u8,
    /// A write is slow: it arrives after any number of other things, or never, or its answer does.
    pub slow: u8,
    /// A clock stands still for a tick (`CLOCK_MONOTONIC` does while a machine is suspended).
    pub stalls: u8,
    /// The primary dies or recovers.
    pub changes: u8,
}
