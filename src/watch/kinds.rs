//! Watched kinds, and the parts of their objects that are kept.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::event::{Change, Source, WatchEvent};
use crate::output::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::probe_job::manifest::PROBE_LABEL;
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};

/// Annotation in which `kubectl apply` keeps the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Kind that is watched.
pub(super) trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// Source that the kind stands for in inputs and metrics.
    const SOURCE: Source;

    /// Returns the label selector of the watch, if it has one.
    fn selector() -> Option<String> {
        None
    }

    /// Drops the parts of an object that nothing reads.
    fn strip(&mut self) {}

    /// Wraps a change as an event.
    fn event(change: Change<Self>) -> WatchEvent;
}

/// Drops the metadata that nothing reads. Managed fields are often larger than the object.
pub(super) fn strip_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
}

impl Watched for SendingBackend {
    const SOURCE: Source = Source::Backends;

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::Backend(change)
    }
}

impl Watched for FailoverPolicy {
    const SOURCE: Source = Source::Policies;

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::Policy(change)
    }
}

impl Watched for MailRoute {
    const SOURCE: Source = Source::Routes;

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::Route(change)
    }
}

impl Watched for Service {
    const SOURCE: Source = Source::Services;

    fn strip(&mut self) {
        self.status = None;
    }

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::Service(change)
    }
}

impl Watched for EndpointSlice {
    const SOURCE: Source = Source::EndpointSlices;

    fn strip(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.deprecated_topology = None;
            endpoint.hints = None;
            endpoint.node_name = None;
            endpoint.target_ref = None;
            endpoint.zone = None;
        }
    }

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::EndpointSlice(change)
    }
}

impl Watched for ConfigMap {
    const SOURCE: Source = Source::ConfigMaps;

    fn selector() -> Option<String> {
        Some(format!("{MANAGED_BY_LABEL}={MANAGED_BY}"))
    }

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::ConfigMap(change)
    }
}

/// Returns the label selector of the Jobs of probes and their pods.
fn of_probes() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{PROBE_LABEL}")
}

impl Watched for Job {
    const SOURCE: Source = Source::Jobs;

    fn selector() -> Option<String> {
        Some(of_probes())
    }

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::Job(change)
    }
}

impl Watched for Pod {
    const SOURCE: Source = Source::Pods;

    fn selector() -> Option<String> {
        Some(of_probes())
    }

    fn strip(&mut self) {
        self.spec = None;
    }

    fn event(change: Change<Self>) -> WatchEvent {
        WatchEvent::Pod(change)
    }
}
