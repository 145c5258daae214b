//! Changes of objects, as the watches report them.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;

use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::{MissingIdentity, ObjectIdentity, ObjectKey, SharedError};
use mail_failover_runtime::kubernetes::identity;

/// Event that a watch reports.
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
    /// Every watch of a source has listed all objects for the first time, or may not.
    Synced(Source),
    /// The first list of a source in a namespace is forbidden, or has come after all.
    Access(Access),
}

/// Right to read the objects of a source in a namespace, as far as their first list tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Kind of the objects.
    pub source: Source,
    /// The namespace.
    pub namespace: Arc<str>,
    /// True if nothing of the source is known there, because the API server forbids it.
    pub is_forbidden: bool,
}

/// Change of an object.
#[derive(Debug)]
pub enum Change<K> {
    /// The object is new or changed.
    Applied(Identified<K>),
    /// The object is new or changed and cannot be read, perhaps because a newer version wrote it.
    Unreadable(Unreadable),
    /// The object does not exist any more.
    Deleted(ObjectKey),
}

/// Object with the identity that writes to it are conditional on.
#[derive(Clone, Debug)]
pub struct Identified<K> {
    /// Key, uid and version of the object.
    pub identity: ObjectIdentity,
    /// The object itself.
    pub object: Box<K>,
}

impl<K: Resource> Identified<K> {
    /// Parses the identity of an object that the API server showed.
    ///
    /// # Errors
    /// [`MissingIdentity`] names the field; the API server sets all of them.
    pub fn new(object: Box<K>) -> Result<Self, MissingIdentity> {
        Ok(Self { identity: identity(object.meta())?, object })
    }
}

/// Object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Key, uid and version of the object.
    pub identity: ObjectIdentity,
    /// `metadata.generation` of the object.
    pub generation: i64,
    /// `status` of the object; null if it has none.
    pub status: serde_json::Value,
    /// Error with the path of the field.
    pub error: SharedError,
}

/// Kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Objects of kind `SendingBackend`.
    Backends,
    /// Objects of kind `FailoverPolicy`.
    Policies,
    /// Objects of kind `MailRoute`.
    Routes,
    /// Services of all owners.
    Services,
    /// `EndpointSlices` of all owners.
    EndpointSlices,
    /// `ConfigMaps` that the operator manages.
    ConfigMaps,
    /// Jobs that run probes.
    Jobs,
    /// Pods of the Jobs that run probes.
    Pods,
}

impl Source {
    /// Sources that decisions wait for.
    pub const ESSENTIAL: [Self; 6] =
        [Self::Backends, Self::Policies, Self::Routes, Self::Services, Self::EndpointSlices, Self::ConfigMaps];

    /// Sources that only probe Jobs need.
    // A right that is missing here must hold up no failover.
    // ADR-0036: Every replica watches probe Jobs.
    pub const OF_JOBS: [Self; 2] = [Self::Jobs, Self::Pods];

    /// Returns the watched kind.
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
