//! Watched kinds, and the parts of their objects that are kept.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::event::{Change, Source, WatchEvent};
use crate::output::{
    BACKEND_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, SLICE_MANAGED_BY_LABEL,
    TRANSITION_ANNOTATION, strip_config_map,
};
use crate::probe_job::manifest::{BACKEND_LABEL, PROBE_LABEL};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_resolve::TEST_ANNOTATION;
use mail_failover_resolve::request::{MAX_REQUEST, REQUEST_ANNOTATION};

/// Annotations that are read.
const ANNOTATIONS: [&str; 4] = [REQUEST_ANNOTATION, TEST_ANNOTATION, BACKEND_ANNOTATION, TRANSITION_ANNOTATION];
/// Labels that are read.
const LABELS: [&str; 5] = [MANAGED_BY_LABEL, SERVICE_NAME_LABEL, SLICE_MANAGED_BY_LABEL, PROBE_LABEL, BACKEND_LABEL];
/// Bytes of an annotation that are kept. One that is longer is cut, and refused for its length where it is read.
// A character has four bytes at most, so what is cut is still too long.
const LONGEST_ANNOTATION: usize = MAX_REQUEST + 4;

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

/// Drops the metadata that nothing reads, as far as [`Guarded`](mail_failover_runtime::kubernetes::Guarded) has not
/// skipped it: of our own annotations and labels those that we know, of owners the controller.
pub fn strip_metadata(metadata: &mut ObjectMeta) {
    keep(&mut metadata.annotations, &ANNOTATIONS);
    for value in metadata.annotations.iter_mut().flat_map(BTreeMap::values_mut) {
        if value.len() > LONGEST_ANNOTATION {
            *value = value[..value.floor_char_boundary(LONGEST_ANNOTATION)].to_owned();
        }
    }
    keep(&mut metadata.labels, &LABELS);
    if let Some(owners) = &mut metadata.owner_references {
        owners.retain(|owner| owner.controller == Some(true));
        owners.shrink_to_fit();
    }
}

fn keep(entries: &mut Option<BTreeMap<String, String>>, keys: &[&str]) {
    if let Some(present) = entries {
        present.retain(|key, _| keys.contains(&key.as_str()));
    }
    *entries = entries.take().filter(|entries| !entries.is_empty());
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
        if let Some(spec) = &mut self.spec {
            spec.external_ips = None;
            spec.load_balancer_source_ranges = None;
            // One entry is enough to know that there is a selector.
            let selector = spec.selector.take();
            spec.selector = selector.map(|selector| selector.into_iter().take(1).collect());
        }
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

    fn strip(&mut self) {
        strip_config_map(self);
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
