//! The only place that writes to the API server.
//!
//! Every write is made under the leader's claim, which is checked right before it, with a deadline no later than the
//! claim's; and on a condition (the version that was seen, that the object does not exist, a fixed name), so that even
//! a write that was on its way while the claim was lost cannot undo what the next leader did. This module never decides
//! anything.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::action::{
    Action, ActionError, ActionOutcome, ActionRequest, ActionResult, ResourceKind, ResourceRef, WriteOutcome, message,
};
use super::metrics::Metrics;
use crate::leader::{ClaimLost, Leadership};
use crate::output::{
    DesiredOutput, FIELD_MANAGER, ObservedOutput, Output, OutputKey, OutputKind, Write, route_uid, strip_config_map,
};
use crate::watch::{Change, Identified, Unreadable, WatchEvent, strip_metadata};
use mail_failover_api::conditions::reason;
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::{ObjectIdentity, ObjectKey, ResourceVersion, Uid};
use mail_failover_runtime::kubernetes::{Guarded, Invalid, identity, status_code};

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Field manager of statuses.
const STATUS_MANAGER: &str = "mail-failover-status";

/// Carries out actions under the leader's claim.
#[derive(Clone, Debug)]
pub struct Applier {
    client: CallClient,
    leadership: Leadership,
    metrics: Metrics,
}

#[derive(Clone)]
struct CallClient(Client);

impl Debug for CallClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Applier {
    /// An applier that writes while this replica leads.
    pub fn new(client: Client, leadership: Leadership, metrics: Metrics) -> Self {
        Self { client: CallClient(client), leadership, metrics }
    }

    /// Carries out an action. Counts and logs its result.
    pub async fn carry_out(&self, request: ActionRequest) -> ActionResult {
        let ActionRequest { id, resource, action } = request;
        let (name, began) = (action.as_str(), Instant::now());
        // Boxed: large and short-lived; inlining it would enlarge every future in the set of actions.
        let outcome = Box::pin(self.outcome(&resource, action)).await;
        let took = began.elapsed();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let label = match &outcome {
            Ok(ActionOutcome::Fresh(_)) if name != "Confirm" => "conflict",
            Ok(_) => "ok",
            Err(_) => "error",
        };
        self.metrics.action_done(resource.kind, name, label, took);
        match &outcome {
            Ok(_) => {
                tracing::debug!(kind = resource.kind.as_str(), key = %resource.key, action = name, outcome = label, millis, "action done");
            }
            Err(error) => {
                let category = error.category();
                self.metrics.action_failed(resource.kind, name, category);
                tracing::warn!(kind = resource.kind.as_str(), key = %resource.key, action = name, category, %error, millis, "action failed");
            }
        }
        ActionResult { id, resource, outcome }
    }

    async fn outcome(&self, resource: &ResourceRef, action: Action) -> Result<ActionOutcome, ActionError> {
        match action {
            Action::Confirm => self.fresh(resource).await,
            Action::WriteStatus { resource_version, patch } => {
                self.write_status(resource, &resource_version, patch).await
            }
            Action::WriteOutputs { owner, writes } => self.write_outputs(&owner, writes).await,
            Action::RunJob { probe, replaces, job } => self.run_job(resource, probe, replaces, *job).await,
            Action::PublishEvents(events) => {
                for event in events {
                    self.publish(resource, event).await?;
                }
                Ok(ActionOutcome::EventsPublished)
            }
        }
    }

    /// Makes a call that changes something: under the claim, and over before the claim is.
    async fn write<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<kube::Result<T>, ActionError> {
        let claim = self.leadership.claim().ok_or(ClaimLost)?;
        claim.guard(within(DEADLINE, call)).await?
    }

    async fn fresh(&self, resource: &ResourceRef) -> Result<ActionOutcome, ActionError> {
        let event = match resource.kind {
            ResourceKind::Policy => WatchEvent::Policy(self.read::<FailoverPolicy>(&resource.key).await?),
            ResourceKind::Backend => WatchEvent::Backend(self.read::<SendingBackend>(&resource.key).await?),
            ResourceKind::Route => WatchEvent::Route(self.read::<MailRoute>(&resource.key).await?),
        };
        Ok(ActionOutcome::Fresh(Box::new(event)))
    }

    async fn read<K>(&self, key: &ObjectKey) -> Result<Change<K>, ActionError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let api: Api<Guarded<K>> = Api::namespaced(self.client.0.clone(), &key.namespace);
        let Some(Guarded(object)) = within(DEADLINE, api.get_opt(&key.name)).await?.map_err(ActionError::api)? else {
            return Ok(Change::Deleted(key.clone()));
        };
        match object {
            Ok(mut typed) => {
                strip_metadata(typed.meta_mut());
                Ok(Change::Applied(Identified::new(Box::new(typed))?))
            }
            Err(Invalid { metadata, status, error }) => {
                let generation = metadata.generation.unwrap_or_default();
                Ok(Change::Unreadable(Unreadable { identity: identity(&metadata)?, generation, status, error }))
            }
        }
    }

    async fn write_status(
        &self,
        resource: &ResourceRef,
        version: &ResourceVersion,
        mut patch: Value,
    ) -> Result<ActionOutcome, ActionError> {
        if let Value::Object(patch) = &mut patch {
            patch.insert("metadata".to_owned(), json!({ "resourceVersion": version.as_str() }));
        }
        let kind = match resource.kind {
            ResourceKind::Policy => ApiResource::erase::<FailoverPolicy>(&()),
            ResourceKind::Backend => ApiResource::erase::<SendingBackend>(&()),
            ResourceKind::Route => ApiResource::erase::<MailRoute>(&()),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.0.clone(), &resource.key.namespace, &kind);
        let params = PatchParams { field_manager: Some(STATUS_MANAGER.to_owned()), ..PatchParams::default() };
        match self.write(api.patch_status(&resource.key.name, &params, &Patch::Merge(patch))).await? {
            Ok(object) => {
                let resource_version = ResourceVersion::parse(object.metadata.resource_version.as_deref())?;
                Ok(ActionOutcome::StatusWritten { resource_version })
            }
            Err(error) if status_code(&error) == Some(409) => self.fresh(resource).await,
            Err(error) if status_code(&error) == Some(404) => Err(ActionError::Gone),
            Err(error) => Err(ActionError::api(error)),
        }
    }

    async fn write_outputs(&self, owner: &Uid, writes: Vec<Write>) -> Result<ActionOutcome, ActionError> {
        let mut written = vec![];
        for write in writes {
            let key = write.key();
            // Boxed: large, as each kind of object has calls of its own.
            match Box::pin(self.write_output(owner, &key, write)).await {
                Ok(outcome) => written.push((key, outcome)),
                Err(cause) => return Err(ActionError::OutputsIncomplete { written, cause: Box::new(cause) }),
            }
        }
        Ok(ActionOutcome::OutputsWritten(written))
    }

    async fn write_output(&self, owner: &Uid, key: &OutputKey, write: Write) -> Result<WriteOutcome, ActionError> {
        match write {
            Write::Create(DesiredOutput { key: _, output }) => match output {
                Output::Service(object) => self.create(owner, key, *object, wrap_service).await,
                Output::EndpointSlice(object) => self.create(owner, key, *object, wrap_slice).await,
                Output::ConfigMap(object) => self.create(owner, key, *object, wrap_config_map).await,
            },
            Write::Apply(DesiredOutput { key: _, output }, version) => match output {
                Output::Service(object) => self.apply(key, *object, &version, wrap_service).await,
                Output::EndpointSlice(object) => self.apply(key, *object, &version, wrap_slice).await,
                Output::ConfigMap(object) => self.apply(key, *object, &version, wrap_config_map).await,
            },
            Write::ClearSelector(_, version) => {
                let patch =
                    json!({ "metadata": { "resourceVersion": version.as_str() }, "spec": { "selector": null } });
                let api = self.api::<Service>(key);
                let written = self.write(api.patch(&key.1.name, &merge_params(), &Patch::Merge(patch))).await?;
                self.outcome_of(key, &api, written, wrap_service).await
            }
            Write::ReplacePorts { key: _, service, ports, version } => {
                let patch = json!({ "metadata": { "resourceVersion": version.as_str() }, "spec": { "ports": ports } });
                let api = self.api::<Service>(key);
                match self.write(api.patch(&key.1.name, &merge_params(), &Patch::Merge(patch))).await? {
                    Ok(replaced) => {
                        let version = identity(&replaced.metadata)?.resource_version;
                        self.apply(key, *service, &version, wrap_service).await
                    }
                    error @ Err(_) => self.outcome_of(key, &api, error, wrap_service).await,
                }
            }
            Write::Delete(_, seen) => match key.0 {
                OutputKind::Service => self.delete(key, &seen, wrap_service).await,
                OutputKind::EndpointSlice => self.delete(key, &seen, wrap_slice).await,
                OutputKind::ConfigMap => self.delete(key, &seen, wrap_config_map).await,
            },
        }
    }

    fn api<K>(&self, key: &OutputKey) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.0.clone(), &key.1.namespace)
    }

    /// Creates an object by POST.
    // It must fail if the object exists already, which server-side apply cannot express.
    async fn create<K>(
        &self,
        owner: &Uid,
        key: &OutputKey,
        object: K,
        wrap: fn(K) -> Output,
    ) -> Result<WriteOutcome, ActionError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>(key);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.write(api.create(&params, &object)).await? {
            Err(error) if status_code(&error) == Some(409) => match self.get(&api, key).await? {
                Some(there) if route_uid(there.meta()) == Some(owner.as_str()) => observed(there, wrap),
                Some(there) => Ok(already_there(key, &there)),
                None => Ok(WriteOutcome::Gone),
            },
            Ok(created) => {
                let created = self.own_by_apply(&api, created).await?;
                observed(created, wrap)
            }
            written @ Err(_) => self.outcome_of(key, &api, written, wrap).await,
        }
    }

    /// Hands the fields that a POST or an update of ours has set to our server-side apply, as client-go's csaupgrade
    /// does. An apply of ours that exists already is removed, and has to be repeated.
    // Otherwise a field that a later apply leaves out would stay, owned by the POST.
    async fn own_by_apply<K>(&self, api: &Api<K>, object: K) -> Result<K, ActionError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let Some(updated) = managed_by_us(&object, "Update") else { return Ok(object) };
        let version = identity(object.meta())?.resource_version;
        let mut patch = vec![
            json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version.as_str() }),
            json!({ "op": "replace", "path": format!("{}/operation", managed_field(updated)), "value": "Apply" }),
        ];
        if let Some(applied) = managed_by_us(&object, "Apply") {
            patch.push(json!({ "op": "remove", "path": managed_field(applied) }));
        }
        let Ok(patch) = serde_json::from_value(Value::Array(patch)) else { return Ok(object) };
        let params = PatchParams::default();
        let name = object.name_any();
        // If it fails, the object is as desired all the same, and the next apply hands the fields over.
        match self.write(api.patch(&name, &params, &Patch::Json::<()>(patch))).await? {
            Ok(owned) => Ok(owned),
            Err(error) => {
                tracing::warn!(name, %error, "the fields of an output could not be handed to server-side apply");
                Ok(object)
            }
        }
    }

    async fn apply<K>(
        &self,
        key: &OutputKey,
        mut object: K,
        version: &ResourceVersion,
        wrap: fn(K) -> Output,
    ) -> Result<WriteOutcome, ActionError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>(key);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        // Without a version the write would be unconditional.
        object.meta_mut().resource_version = Some(version.to_string());
        let mut written = self.write(api.patch(&key.1.name, &params, &Patch::Apply(&typed(&object)?))).await?;
        // An operator that died right after a POST left its fields with that.
        if let Ok(there) = &written
            && managed_by_us(there, "Update").is_some()
        {
            let owned = self.own_by_apply(&api, there.clone()).await?;
            let version = identity(owned.meta())?.resource_version;
            object.meta_mut().resource_version = Some(version.to_string());
            written = self.write(api.patch(&key.1.name, &params, &Patch::Apply(&typed(&object)?))).await?;
        }
        self.outcome_of(key, &api, written, wrap).await
    }

    async fn delete<K>(
        &self,
        key: &OutputKey,
        seen: &ObjectIdentity,
        wrap: fn(K) -> Output,
    ) -> Result<WriteOutcome, ActionError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>(key);
        let ObjectIdentity { key: _, uid, resource_version } = seen;
        let preconditions =
            Preconditions { resource_version: Some(resource_version.to_string()), uid: Some(uid.to_string()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.write(api.delete(&key.1.name, &params)).await? {
            Ok(_) => Ok(WriteOutcome::Gone),
            Err(error) => self.outcome_of(key, &api, Err(error), wrap).await,
        }
    }

    /// The outcome of a write to an object that was ours.
    async fn outcome_of<K>(
        &self,
        key: &OutputKey,
        api: &Api<K>,
        written: kube::Result<K>,
        wrap: fn(K) -> Output,
    ) -> Result<WriteOutcome, ActionError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        match written {
            Ok(object) => observed(object, wrap),
            Err(error) => match status_code(&error) {
                // Another writer was faster: the next reconcile starts from the object as it is now.
                Some(409) => match self.get(api, key).await? {
                    Some(there) => observed(there, wrap),
                    None => Ok(WriteOutcome::Gone),
                },
                Some(404) => Ok(WriteOutcome::Gone),
                Some(400 | 403 | 422) => Ok(WriteOutcome::Refused {
                    reason: reason::OUTPUT_INVALID,
                    message: format!(
                        "{} {}: the API server refuses it: {}",
                        key.0.as_str(),
                        key.1.name,
                        message(&error)
                    ),
                }),
                Some(_) | None => Err(ActionError::api(error)),
            },
        }
    }

    async fn get<K>(&self, api: &Api<K>, key: &OutputKey) -> Result<Option<K>, ActionError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        within(DEADLINE, api.get_opt(&key.1.name)).await?.map_err(ActionError::api)
    }

    /// Creates a probe's Job under its fixed name. The Job before, which is over, is deleted first.
    // By the name there is one Job at a time.
    async fn run_job(
        &self,
        resource: &ResourceRef,
        probe: Arc<str>,
        replaces: Option<Uid>,
        job: Job,
    ) -> Result<ActionOutcome, ActionError> {
        let name = job.name_any();
        let api: Api<Job> = Api::namespaced(self.client.0.clone(), &resource.key.namespace);
        if let Some(uid) = replaces {
            let preconditions = Preconditions { uid: Some(uid.to_string()), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match self.write(api.delete(&name, &params)).await? {
                Ok(_) => {}
                // Gone, or another Job by now: creating meets that.
                Err(error) if matches!(status_code(&error), Some(404 | 409)) => {}
                Err(error) => return job_refused(probe, error),
            }
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.write(api.create(&params, &job)).await? {
            Ok(created) => Ok(ActionOutcome::JobObserved(Identified::new(Box::new(created))?)),
            Err(error) if status_code(&error) == Some(409) => {
                match within(DEADLINE, api.get_opt(&name)).await?.map_err(ActionError::api)? {
                    Some(there) if owner_of(&there) == owner_of(&job) => {
                        Ok(ActionOutcome::JobObserved(Identified::new(Box::new(there))?))
                    }
                    Some(_) => {
                        let message = format!("Job {name} exists and is somebody else's; delete it");
                        Ok(ActionOutcome::JobRefused { probe, message })
                    }
                    None => Err(ActionError::api(error)),
                }
            }
            Err(error) => job_refused(probe, error),
        }
    }

    /// Publishes an Event under its fixed name; one that exists was published before.
    ///
    /// Gives up an Event that the API server will never take.
    // For one, because its namespace is being deleted.
    async fn publish(&self, resource: &ResourceRef, event: Event) -> Result<(), ActionError> {
        let api: Api<Event> = Api::namespaced(self.client.0.clone(), &resource.key.namespace);
        match self.write(api.create(&PostParams::default(), &event)).await? {
            Ok(_) => Ok(()),
            Err(error) => match status_code(&error) {
                Some(409) => Ok(()),
                Some(400 | 403 | 404 | 422) => {
                    tracing::warn!(event = event.metadata.name, %error, "an Event is given up");
                    Ok(())
                }
                Some(_) | None => Err(ActionError::api(error)),
            },
        }
    }
}

fn merge_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn managed_field(index: usize) -> String {
    format!("/metadata/managedFields/{index}")
}

fn owner_of(job: &Job) -> Option<&str> {
    job.owner_references().first().map(|owner| owner.uid.as_str())
}

/// The outcome of a Job that the API server does not take.
// Quota and admission answer 403, a manifest that is not accepted 422. Both may change, and are asked again at the next
// interval.
fn job_refused(probe: Arc<str>, error: kube::Error) -> Result<ActionOutcome, ActionError> {
    match status_code(&error) {
        Some(400 | 403 | 404 | 422) => Ok(ActionOutcome::JobRefused { probe, message: message(&error) }),
        Some(_) | None => Err(ActionError::api(error)),
    }
}

/// Index of our entry for an operation among an object's managed fields.
fn managed_by_us<K: Resource>(object: &K, operation: &str) -> Option<usize> {
    object.meta().managed_fields.iter().flatten().position(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some(operation)
            && entry.subresource.is_none()
    })
}

fn observed<K: Resource>(object: K, wrap: fn(K) -> Output) -> Result<WriteOutcome, ActionError> {
    Ok(WriteOutcome::Observed(ObservedOutput { identity: identity(object.meta())?, output: wrap(object) }))
}

fn wrap_service(service: Service) -> Output {
    Output::Service(Box::new(service))
}

fn wrap_slice(slice: EndpointSlice) -> Output {
    Output::EndpointSlice(Box::new(slice))
}

fn wrap_config_map(mut config_map: ConfigMap) -> Output {
    // As the watch does it.
    strip_config_map(&mut config_map);
    Output::ConfigMap(Box::new(config_map))
}

/// An object as JSON.
// Server-side apply needs `apiVersion` and `kind`, which k8s-openapi's types write by themselves.
fn typed<K: Serialize>(object: &K) -> Result<Value, ActionError> {
    Ok(serde_json::to_value(object)?)
}

fn already_there<K: Resource>(key: &OutputKey, there: &K) -> WriteOutcome {
    let (kind, name) = (key.0.as_str(), &key.1.name);
    let owner = there.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let whose = owner.map_or_else(
        || "has no owner that controls it".to_owned(),
        |owner| format!("belongs to {} {}", owner.kind, owner.name),
    );
    WriteOutcome::Refused {
        reason: reason::OUTPUT_CONFLICT,
        message: format!("{kind} {name} exists and {whose}; it is left as it is: delete it, or choose another name"),
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = T>) -> Result<T, ActionError> {
    tokio::time::timeout(deadline, call).await.map_err(|_elapsed| ActionError::Timeout(deadline))
}
