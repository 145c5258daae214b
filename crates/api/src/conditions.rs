//! Words of the conditions in `status`: scripts and alerts match them, so they change like any other field of the API.
//!
//! Beside these, reasons come from the engine: classes of evidence, reasons to wait and reasons of transitions.

/// Types of conditions.
pub mod condition {
    /// The resource does what its spec asks for.
    pub const READY: &str = "Ready";
    /// The resource will not progress until its spec is changed (kstatus).
    pub const STALLED: &str = "Stalled";
    /// Every output of a route leads to the active backend.
    pub const OUTPUTS_APPLIED: &str = "OutputsApplied";
    /// The mail of a route goes to another backend than the preferred one.
    pub const FAILED_OVER: &str = "FailedOver";
    /// Another backend of a route could take over.
    pub const REDUNDANT: &str = "Redundant";
    /// The latest failover was as quick as the policy's objective demands.
    pub const RECOVERY_TIME_MET: &str = "RecoveryTimeMet";
    /// No objective of a route's policy is missed.
    pub const OBJECTIVES_MET: &str = "ObjectivesMet";
    /// Messages have waited for long beside an agent, because a backend refuses them.
    pub const MAIL_KEPT: &str = "MailKept";
    /// Several installations of the operator lead a route.
    pub const INSTALLATION_CONFLICT: &str = "InstallationConflict";
    /// Every receiver of a route's webhooks has accepted where the route leads.
    pub const WEBHOOKS_APPLIED: &str = "WebhooksApplied";
    /// Every authority answers with the DNS records of the active backend.
    pub const DNS_APPLIED: &str = "DnsApplied";
    /// Each receiver of a policy's notifications has taken what it was to be told.
    pub const NOTIFICATIONS_DELIVERED: &str = "NotificationsDelivered";
    /// Mail can leave by a backend.
    pub const HEALTHY: &str = "Healthy";
}

/// Reasons of conditions, each one CamelCase word.
pub mod reason {
    /// A policy can be used.
    pub const ACCEPTED: &str = "Accepted";
    /// A backend is accepted, and observed by every probe.
    pub const OBSERVED: &str = "Observed";
    /// Probes of a backend wait for their turn among all that probe, and their evidence is late.
    pub const PROBES_DELAYED: &str = "ProbesDelayed";
    /// Mail of a route can leave.
    pub const DELIVERING: &str = "Delivering";
    /// No backend of a route can deliver.
    pub const NONE_HEALTHY: &str = "NoneHealthy";
    /// Mail of a route goes to a backend that cannot deliver, and a hold keeps it there.
    pub const HELD_ON_DEAD_BACKEND: &str = "HeldOnDeadBackend";
    /// Mail of a route goes to a backend that cannot deliver, and for less than a minute the answer of a standby has been
    /// awaited.
    pub const AWAITING_CONFIRMATION: &str = "AwaitingConfirmation";
    /// Mail has waited for long beside an agent, and none has left there meanwhile.
    pub const MAIL_WAITS: &str = "MailWaits";
    /// No backend is chosen until there is evidence.
    pub const AWAITING_EVIDENCE: &str = "AwaitingEvidence";

    /// Every output leads to the active backend.
    pub const APPLIED: &str = "Applied";
    /// The outputs of a route are not written yet: reason of `OutputsApplied`.
    pub const WAITING: &str = "Waiting";
    /// The outputs of a route are not written yet: reason of `Ready`.
    pub const OUTPUTS_WAITING: &str = "OutputsWaiting";
    /// An output is refused without a more precise reason.
    pub const REFUSED: &str = "Refused";
    /// The API server does not answer a write as it should.
    pub const WRITE_FAILED: &str = "WriteFailed";
    /// Another route has the older right to an output.
    pub const OUTPUT_CLAIMED: &str = "OutputClaimed";
    /// An object of an output's name exists and has another owner.
    pub const OUTPUT_CONFLICT: &str = "OutputConflict";
    /// A backend has no address that an endpoint may be made of.
    pub const DESTINATION_REFUSED: &str = "DestinationRefused";
    /// No output leads to the active backend, because its place is not known to the leader.
    pub const ADDRESSES_UNKNOWN: &str = "AddressesUnknown";
    /// The API server refuses an output as it is.
    pub const OUTPUT_INVALID: &str = "OutputInvalid";
    /// Agents could not use the document that they would be given.
    pub const AGENT_DOCUMENT_UNUSABLE: &str = "AgentDocumentUnusable";
    /// Two backends of a route have one host and port, by which an MTA tells backends apart.
    pub const NEXT_HOP_SHARED: &str = "NextHopShared";

    /// Receivers of webhooks have not accepted the latest decision yet.
    pub const WEBHOOK_PENDING: &str = "WebhookPending";
    /// Calls of a webhook's receiver have failed for a while.
    pub const WEBHOOK_FAILING: &str = "WebhookFailing";
    /// Not every authority has been seen to answer with the latest DNS records.
    pub const DNS_PENDING: &str = "DnsPending";
    /// DNS records have not been written, or seen at every authority, for a while.
    pub const DNS_FAILING: &str = "DnsFailing";
    /// The cluster has no `DNSEndpoint`, or the operator has no right on it.
    pub const DNS_ENDPOINT_UNAVAILABLE: &str = "DnsEndpointUnavailable";
    /// DNS records of an output's name exist that are not the route's.
    pub const DNS_CONFLICT: &str = "DnsConflict";

    /// Each receiver has taken what it was to be told.
    pub const DELIVERED: &str = "Delivered";
    /// A receiver has not taken a message yet.
    pub const NOTIFICATION_PENDING: &str = "NotificationPending";
    /// A receiver has not taken messages for a while.
    pub const NOTIFICATION_FAILING: &str = "NotificationFailing";

    /// A drill leads the mail elsewhere, and nothing has failed.
    pub const DRILL: &str = "Drill";
    /// The preferred backend carries the mail.
    pub const PREFERRED: &str = "Preferred";
    /// The preferred backend is not healthy.
    pub const PREFERRED_NOT_HEALTHY: &str = "PreferredNotHealthy";
    /// A healthy backend could take over.
    pub const STANDBY_HEALTHY: &str = "StandbyHealthy";
    /// No other backend could take over.
    pub const NO_STANDBY: &str = "NoStandby";
    /// No failover is on record.
    pub const NO_FAILOVER: &str = "NoFailover";
    /// The latest failover met the objective.
    pub const WITHIN_OBJECTIVE: &str = "WithinObjective";
    /// An objective is met, with three quarters of what it allows used.
    pub const OBJECTIVE_AT_RISK: &str = "ObjectiveAtRisk";
    /// Nothing was measured yet that an objective is about.
    pub const NOT_MEASURED: &str = "NotMeasured";
    /// The latest failover took longer than the objective.
    pub const OBJECTIVE_MISSED: &str = "ObjectiveMissed";

    /// No message waits for long because a backend refuses it.
    pub const NOTHING_KEPT: &str = "NothingKept";

    /// Several installations of the operator lead a route.
    pub const SEVERAL_INSTALLATIONS: &str = "SeveralInstallations";

    /// A rule of `spec.replies` cannot work; everything else of the backend is in force.
    pub const INVALID_REPLY_RULE: &str = "InvalidReplyRule";
    /// A field of the spec has a value that cannot be used.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// This version of the operator cannot read the object.
    pub const UNREADABLE: &str = "Unreadable";
    /// The `FailoverPolicy` that a route names does not exist.
    pub const POLICY_NOT_FOUND: &str = "PolicyNotFound";
    /// The `FailoverPolicy` that a route names cannot be used.
    pub const POLICY_REJECTED: &str = "PolicyRejected";
    /// A `SendingBackend` that a route names does not exist.
    pub const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    /// A backend of a route leads back to the route.
    pub const MAIL_LOOP: &str = "MailLoop";
    /// The Service that a backend names does not exist.
    pub const SERVICE_NOT_FOUND: &str = "ServiceNotFound";
    /// The Service that a backend names has no such port.
    pub const SERVICE_PORT_NOT_FOUND: &str = "ServicePortNotFound";
    /// The Service that a backend names is an alias (`ExternalName`).
    pub const SERVICE_IS_EXTERNAL_NAME: &str = "ServiceIsExternalName";
    /// The Services or `EndpointSlices` of a backend's namespace cannot be read.
    pub const SERVICE_UNREADABLE: &str = "ServiceUnreadable";
    /// The certificates that a backend, a webhook or a DNS API names do not exist.
    pub const CA_NOT_FOUND: &str = "CANotFound";
    /// The certificates that a backend, a webhook or a DNS API names are no usable PEM.
    pub const CA_MALFORMED: &str = "CAMalformed";
    /// The certificates that a backend, a webhook or a DNS API names cannot be read.
    pub const CA_UNREADABLE: &str = "CAUnreadable";
    /// The Secret of a probe's login, of a webhook, or of DNS updates, does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The Secret of a probe's login, of a webhook, or of DNS updates, does not hold what it should.
    pub const SECRET_MALFORMED: &str = "SecretMalformed";
    /// The Secret of a probe's login, of a webhook, or of DNS updates, cannot be read.
    pub const SECRET_UNREADABLE: &str = "SecretUnreadable";

    /// A backend is out of service by `spec.suspended`.
    pub const SUSPENDED: &str = "Suspended";
    /// A backend is in a jurisdiction that the route excludes.
    pub const RESIDENCY: &str = "Residency";
    /// A backend may not send for the route's domains.
    pub const SENDER_DOMAIN: &str = "SenderDomain";
}
