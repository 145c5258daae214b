//! Inputs of the controller.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::action::ActionResult;
use super::secrets::{SecretContent, SecretKey};
use crate::dns::DnsResult;
use crate::notification::NotificationResult;
use crate::observers::PeerEvent;
use crate::watch::{Access, Change, Source, WatchEvent};
use crate::webhook::WebhookResult;
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::{AgentReport, ClockDrift, Login, ProbeReport};
use mail_failover_resolve::{CaKey, LoginKey, ReadProblem};

/// Reason for which a replica's evidence does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The process had no processor for so long, a moment ago.
    Late(Duration),
    /// No watch of this resource has heard from the API server for so long: what is probed may be outdated.
    Outdated {
        /// The resource, with the namespace if the watch is limited to one.
        resource: String,
        /// Time since the last contact.
        silence: Duration,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(lag) => write!(f, "it had no processor for {lag:.1?}"),
            Self::Outdated { resource, silence } => {
                write!(f, "its watch of {resource} has been silent for {silence:.0?}")
            }
        }
    }
}

/// One event, with everything that the controller needs to know of it.
#[derive(Debug)]
pub enum Input {
    /// A `SendingBackend` changed or is gone.
    Backend(Change<SendingBackend>),
    /// A `FailoverPolicy` changed or is gone.
    Policy(Change<FailoverPolicy>),
    /// A `MailRoute` changed or is gone.
    Route(Change<MailRoute>),
    /// A Service changed or is gone.
    Service(Change<Service>),
    /// An `EndpointSlice` changed or is gone.
    EndpointSlice(Change<EndpointSlice>),
    /// A `ConfigMap` of ours changed.
    ConfigMap(Change<ConfigMap>),
    /// A Job of a probe changed.
    Job(Change<Job>),
    /// A pod of such a Job changed.
    Pod(Change<Pod>),
    /// A watch has listed everything there is, for the first time.
    Synced(Source),
    /// A source may not be read in a namespace and has never been, or is readable there now.
    Access(Access),
    /// A round of a probe is over.
    Report(Box<ProbeReport>),
    /// An agent reports deliveries of real mail.
    AgentReport(Box<AgentReport>),
    /// A peer reports its verdicts, or does not count any more.
    Observer(PeerEvent),
    /// A CA's certificates were read.
    Ca(CaKey, Result<Arc<[u8]>, ReadProblem>),
    /// A login was read from the Secret of this name.
    Login(LoginKey, Result<Login, ReadProblem>),
    /// A Secret of an output or of a receiver was read.
    Secret(SecretKey, Result<SecretContent, ReadProblem>),
    /// A call of a webhook has ended.
    Webhook(Box<WebhookResult>),
    /// An attempt to lead a zone has ended.
    Dns(Box<DnsResult>),
    /// A call of a receiver of notifications has ended.
    Notification(Box<NotificationResult>),
    /// This replica became the leader, or is no longer.
    Leading(bool),
    /// The wall clock has drifted from the one that decisions go by.
    Drift(ClockDrift),
    /// The evidence of this replica is not to be relied on, for this reason; `None` once it is again.
    Unfit(Option<Unfit>),
    /// An action has ended.
    Result(Box<ActionResult>),
}

impl From<WatchEvent> for Input {
    fn from(event: WatchEvent) -> Self {
        match event {
            WatchEvent::Backend(change) => Self::Backend(change),
            WatchEvent::Policy(change) => Self::Policy(change),
            WatchEvent::Route(change) => Self::Route(change),
            WatchEvent::Service(change) => Self::Service(change),
            WatchEvent::EndpointSlice(change) => Self::EndpointSlice(change),
            WatchEvent::ConfigMap(change) => Self::ConfigMap(change),
            WatchEvent::Job(change) => Self::Job(change),
            WatchEvent::Pod(change) => Self::Pod(change),
            WatchEvent::Synced(source) => Self::Synced(source),
            WatchEvent::Access(access) => Self::Access(access),
        }
    }
}
