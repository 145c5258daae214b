//! Inputs of the controller.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::action::ActionResult;
use crate::observers::PeerEvent;
use crate::watch::{Change, Source, WatchEvent};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::{AgentReport, Login, ObjectKey, ProbeReport};
use mail_failover_resolve::{CaKey, ReadProblem};

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
    /// A round of a probe is over.
    Report(Box<ProbeReport>),
    /// An agent reports deliveries of real mail.
    AgentReport(Box<AgentReport>),
    /// A peer reports its verdicts, or does not count any more.
    Observer(PeerEvent),
    /// A CA's certificates were read.
    Ca(CaKey, Result<Arc<[u8]>, ReadProblem>),
    /// A login was read from the Secret of this name.
    Login(ObjectKey, Result<Login, ReadProblem>),
    /// This replica became the leader, or is no longer.
    Leading(bool),
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
        }
    }
}
