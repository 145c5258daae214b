//! The Job of a probe: restricted, bounded, without access to the cluster, and with the backend's own login as its only
//! secret.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use ring::digest;

use super::arguments::{CA_FILE, CA_FOLDER, LOGIN_FOLDER, arguments, logs_in};
use crate::output::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::probe::FIRST_LOOKUP_DEADLINE;
use mail_failover_api as api;
use mail_failover_core::model::{Backend, LoginReference, ObjectKey, Probe};
use mail_failover_resolve::{CaKey, CaKind};
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_smtp::client::{QUIT_TIMEOUT, SessionTimeouts};

/// Label of Jobs and their pods: the probe's name. Network policies can select by it.
pub const PROBE_LABEL: &str = "mailfailover.io/probe";
/// Label of Jobs and their pods: the backend's name, cut where it is too long for a label.
pub const BACKEND_LABEL: &str = "mailfailover.io/sending-backend";
/// Annotation of Jobs: the backend's whole name.
pub const BACKEND_ANNOTATION: &str = "mailfailover.io/sending-backend";
/// Name of the container that leaves the result.
pub const CONTAINER: &str = "probe";
/// File for the result, which the kubelet reads.
pub const RESULT_FILE: &str = "/dev/termination-log";
/// Time for a pod to be scheduled, its image pulled and its volumes mounted.
pub const START_ALLOWANCE: Duration = Duration::from_mins(1);
/// Shortest time for which a finished Job is kept for people to look at. The operator deletes it earlier if the next
/// one is due.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// Id of a user and group without any rights, as in the operator's own image.
const USER: i64 = 65_532;

/// Everything that a Job is made of.
#[derive(Clone, Debug)]
pub struct JobParameters<'a> {
    /// The backend's namespace and name.
    pub key: &'a ObjectKey,
    /// The uid of the backend.
    pub uid: &'a str,
    /// The backend that the Job probes.
    pub backend: &'a Backend,
    /// The probe that the Job runs.
    pub probe: &'a Probe,
    /// Service account, node selector and tolerations.
    pub job: &'a api::ProbeJobSpec,
    /// Object with the authority's certificates.
    pub ca: Option<CaKey>,
    /// The operator's own image.
    pub image: &'a str,
    /// Our name in EHLO; the literal of the pod's address if absent.
    pub ehlo_name: Option<&'a str>,
    /// Guard on the addresses that the pod connects to.
    pub guard: &'a DialGuard,
}

/// The name of a probe's Job. It is fixed, so that a probe has one Job at a time, whichever replica creates it.
// ADR-0035: A probe's Job has one fixed name.
pub fn name(uid: &str, key: &ObjectKey, probe: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{uid}/{probe}").as_bytes());
    let hash = hash.as_ref().iter().take(5).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    // A Job's name is a label of its pods: 63 characters.
    format!("probe-{}-{}-{hash}", name_part(&key.name, 24), name_part(probe, 18))
}

/// The text without dots, cut to `max` characters.
fn name_part(text: &str, max: usize) -> String {
    let text: String = text.replace('.', "-").chars().take(max).collect();
    text.trim_end_matches('-').to_owned()
}

/// Builds the Job of a probe.
pub fn job(parameters: &JobParameters<'_>) -> Job {
    let JobParameters { key, uid, backend, probe, job, ca, image, ehlo_name, guard } = parameters;
    let labels = labels(key, &probe.name);
    let (mut volumes, mut mounts) = (vec![], vec![]);
    if let Some(secret) = backend.secret.as_ref().filter(|_| logs_in(backend, probe)) {
        let items = [
            to_path(&secret.username_key, LoginReference::USERNAME_KEY),
            to_path(&secret.password_key, LoginReference::PASSWORD_KEY),
        ];
        volumes.push(Volume {
            name: "login".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.secret.to_string()),
                items: Some(items.into()),
                default_mode: Some(0o440),
                // Otherwise the pod would hang without the Secret; now it starts, and the probe reports what is
                // missing.
                // ADR-0038: Probe Jobs mount Secret and CA as optional.
                optional: Some(true),
            }),
            ..Volume::default()
        });
        mounts.push(mount("login", LOGIN_FOLDER));
    }
    if let Some(ca) = ca {
        volumes.push(ca_volume(ca));
        mounts.push(mount("ca", CA_FOLDER));
    }
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some((*image).to_owned()),
        args: Some(arguments(backend, probe, ca.is_some(), *ehlo_name, guard)),
        termination_message_path: Some(RESULT_FILE.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&[("cpu", "10m"), ("memory", "16Mi")])),
            limits: Some(quantities(&[("memory", "64Mi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(job.service_account_name.clone().unwrap_or_else(|| "default".to_owned())),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: job.node_selector.clone(),
        tolerations: job.tolerations.clone(),
        termination_grace_period_seconds: Some(5),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    };
    Job {
        metadata: ObjectMeta {
            name: Some(name(uid, key, &probe.name)),
            namespace: Some(key.namespace.to_string()),
            labels: Some(labels.clone()),
            annotations: Some([(BACKEND_ANNOTATION.to_owned(), key.name.to_string())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: format!("{}/{}", api::GROUP, api::VERSION),
                kind: "SendingBackend".to_owned(),
                name: key.name.to_string(),
                uid: (*uid).to_owned(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: i64::try_from((longest_round(probe) + START_ALLOWANCE).as_secs()).ok(),
            backoff_limit: Some(0),
            ttl_seconds_after_finished: i32::try_from((probe.interval * 2).max(KEPT_FOR).as_secs()).ok(),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Longest time that a round of a probe takes, with its look-up and QUIT, rounded up to seconds.
fn longest_round(probe: &Probe) -> Duration {
    let round = FIRST_LOOKUP_DEADLINE + SessionTimeouts::of_probe(probe.timeout).session + QUIT_TIMEOUT;
    Duration::from_secs(round.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}

/// The arguments of a Job's container. They tell if a result belongs to the present spec.
pub fn arguments_of(job: &Job) -> Option<&Vec<String>> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.iter().find(|container| container.name == CONTAINER)?.args.as_ref()
}

fn labels(key: &ObjectKey, probe: &str) -> BTreeMap<String, String> {
    // A name consists of characters that a label may contain. Cut, it may end in one that must not come last.
    let backend: String = key.name.chars().take(63).collect();
    let backend = backend.trim_end_matches(['-', '.']).to_owned();
    [(MANAGED_BY_LABEL, MANAGED_BY.to_owned()), (PROBE_LABEL, probe.to_owned()), (BACKEND_LABEL, backend)]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

fn ca_volume(ca: &CaKey) -> Volume {
    let (name, items) = (ca.object.name.to_string(), Some(vec![to_path(&ca.data_key, CA_FILE)]));
    let mut volume = Volume { name: "ca".to_owned(), ..Volume::default() };
    match ca.kind {
        CaKind::ConfigMap => {
            volume.config_map =
                Some(ConfigMapVolumeSource { name, items, optional: Some(true), ..ConfigMapVolumeSource::default() });
        }
        CaKind::Secret => {
            let secret_name = Some(name);
            volume.secret =
                Some(SecretVolumeSource { secret_name, items, optional: Some(true), ..SecretVolumeSource::default() });
        }
    }
    volume
}

fn to_path(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), read_only: Some(true), ..VolumeMount::default() }
}

fn quantities(given: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    given.iter().map(|(name, quantity)| ((*name).to_owned(), Quantity((*quantity).to_owned()))).collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
