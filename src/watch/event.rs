//! Changes of objects, as the watches report them.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::ObjectKey;

/// A report of a watch.
#[derive(Debug)]
pub enum WatchEvent {
    /// A `SendingBackend` changed.
    Backend(Change<SendingBackend>),
    /// A `FailoverPolicy` changed.
    Policy(Change<FailoverPolicy>),
    /// A `MailRoute` changed.
    Route(Change<MailRoute>),
    /// A Service changed.
    Service(Change<Service>),
    /// An `EndpointSlice` changed.
    EndpointSlice(Change<EndpointSlice>),
    /// A `ConfigMap` of ours changed.
    ConfigMap(Change<ConfigMap>),
    /// A Job of a probe changed.
    Job(Change<Job>),
    /// A pod of such a Job changed.
    Pod(Change<Pod>),
    /// A watch has listed everything there is, for the first time.
    Synced(Source),
}

/// A change of an object.
#[derive(Debug)]
pub enum Change<K> {
    /// It is new or changed.
    Applied(Box<K>),
    /// It is new or changed and cannot be read: written by a newer version, perhaps.
    Unreadable(Unreadable),
    /// It is gone.
    Deleted(ObjectKey),
}

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which.
    pub key: ObjectKey,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its `metadata.resourceVersion`.
    pub resource_version: String,
    /// Why, with the path of the field.
    pub error: String,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `SendingBackends`.
    Backends,
    /// `FailoverPolicies`.
    Policies,
    /// `MailRoutes`.
    Routes,
    /// Services.
    Services,
    /// `EndpointSlices`.
    EndpointSlices,
    /// `ConfigMaps` of ours.
    ConfigMaps,
    /// Jobs of probes.
    Jobs,
    /// Pods of such Jobs.
    Pods,
}

impl Source {
    /// Those that decisions wait for.
    pub const ESSENTIAL: [Self; 6] =
        [Self::Backends, Self::Policies, Self::Routes, Self::Services, Self::EndpointSlices, Self::ConfigMaps];

    /// Those that only probe Jobs need: what is not granted there must hold up no failover.
    pub const OF_JOBS: [Self; 2] = [Self::Jobs, Self::Pods];

    /// The watched kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backends => "SendingBackend",
            Self::Policies => "FailoverPolicy",
            Self::Routes => "MailRoute",
            Self::Services => "Service",
            Self::EndpointSlices => "EndpointSlice",
            Self::ConfigMaps => "ConfigMap",
            Self::Jobs => "Job",
            Self::Pods => "Pod",
        }
    }
}
