//! The only place that writes to the API server.
//!
//! Every write is made under the leader's claim, which is checked right before it, with a deadline no later than the claim's; and on a
//! condition (the version that was seen, that the object does not exist, a fixed name), so that even a write that was on its way while
//! the claim was lost cannot undo what the next leader did. This module never decides anything.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, Status};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::input::Input;
use super::metrics::Metrics;
use super::step::{Done, Step, StepError, StepResult, Subject, SubjectKind, Task, WriteOutcome};
use crate::leader::Leadership;
use crate::output::{FIELD_MANAGER, Output, OutputKey, OutputKind, Write, route_uid};
use crate::watch::{Change, Unreadable};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::ObjectKey;
use mail_failover_runtime::kubernetes::describe;

/// No call takes longer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The field manager of statuses.
const STATUS_MANAGER: &str = "mail-failover-status";

/// Carries out steps.
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

    /// Carries out a step.
    pub async fn carry_out(&self, task: Task) -> Done {
        let Task { id, subject, step } = task;
        let (name, began) = (step.as_str(), Instant::now());
        // Large and short-lived: it must not widen the set of steps.
        let result = Box::pin(self.result(&subject, step)).await;
        let outcome = match &result {
            Ok(StepResult::Fresh(_)) if name != "Confirm" => "conflict",
            Ok(StepResult::OutputsWritten { error: Some(_), .. }) | Err(_) => "error",
            Ok(_) => "ok",
        };
        let took = began.elapsed();
        self.metrics.step_done(subject.kind, name, outcome, took);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(StepResult::OutputsWritten { error: Some(error), .. }) | Err(error) => {
                tracing::warn!(kind = subject.kind.as_str(), key = %subject.key, step = name, %error, millis, "step failed");
            }
            Ok(_) => {
                tracing::debug!(kind = subject.kind.as_str(), key = %subject.key, step = name, outcome, millis, "step done");
            }
        }
        Done { id, subject, result }
    }

    async fn result(&self, subject: &Subject, step: Step) -> Result<StepResult, StepError> {
        match step {
            Step::Confirm => self.fresh(subject).await,
            Step::WriteStatus { resource_version, patch } => self.write_status(subject, &resource_version, patch).await,
            Step::WriteOutputs { owner_uid, writes } => {
                let mut outcomes = vec![];
                for write in writes {
                    let key = write.key();
                    match self.write_output(&owner_uid, write).await {
                        Ok(outcome) => outcomes.push((key, outcome)),
                        Err(error) => return Ok(StepResult::OutputsWritten { outcomes, error: Some(error) }),
                    }
                }
                Ok(StepResult::OutputsWritten { outcomes, error: None })
            }
            Step::RunJob { probe, replaces, job } => self.run_job(probe, replaces, *job).await,
            Step::PublishEvents(events) => {
                for event in events {
                    self.publish(event).await?;
                }
                Ok(StepResult::EventsPublished)
            }
        }
    }

    /// A call that changes something: under the claim, and over before the claim is.
    async fn write<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<kube::Result<T>, StepError> {
        let claim = self.leadership.claim().ok_or(StepError::ClaimLost)?;
        claim.guard(within(DEADLINE, call)).await.map_err(|_| StepError::ClaimLost)?
    }

    async fn fresh(&self, subject: &Subject) -> Result<StepResult, StepError> {
        let input = match subject.kind {
            SubjectKind::Policy => Input::Policy(self.read::<FailoverPolicy>(&subject.key).await?),
            SubjectKind::Backend => Input::Backend(self.read::<SendingBackend>(&subject.key).await?),
            SubjectKind::Route => Input::Route(self.read::<MailRoute>(&subject.key).await?),
        };
        Ok(StepResult::Fresh(Box::new(input)))
    }

    async fn read<K>(&self, key: &ObjectKey) -> Result<Change<K>, StepError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let resource = kube::api::ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.0.clone(), &key.namespace, &resource);
        let object = match within(DEADLINE, api.get_opt(&key.name)).await? {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(Change::Deleted(key.clone())),
            Err(error) => return Err(api_error(&error)),
        };
        let unreadable = |error: &dyn std::fmt::Display| Unreadable {
            key: key.clone(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            error: error.to_string(),
        };
        let parsed = serde_json::to_value(&object).and_then(serde_json::from_value::<K>);
        Ok(match parsed {
            Ok(mut typed) => {
                typed.meta_mut().managed_fields = None;
                Change::Applied(Box::new(typed))
            }
            Err(error) => Change::Unreadable(unreadable(&error)),
        })
    }

    async fn write_status(&self, subject: &Subject, version: &str, mut patch: Value) -> Result<StepResult, StepError> {
        if let Value::Object(patch) = &mut patch {
            patch.insert("metadata".to_owned(), json!({ "resourceVersion": version }));
        }
        let resource = match subject.kind {
            SubjectKind::Policy => kube::api::ApiResource::erase::<FailoverPolicy>(&()),
            SubjectKind::Backend => kube::api::ApiResource::erase::<SendingBackend>(&()),
            SubjectKind::Route => kube::api::ApiResource::erase::<MailRoute>(&()),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.0.clone(), &subject.key.namespace, &resource);
        let params = PatchParams { field_manager: Some(STATUS_MANAGER.to_owned()), ..PatchParams::default() };
        match self.write(api.patch_status(&subject.key.name, &params, &Patch::Merge(patch))).await? {
            Ok(object) => {
                Ok(StepResult::StatusWritten { resource_version: object.resource_version().unwrap_or_default() })
            }
            Err(error) if code(&error) == Some(409) => self.fresh(subject).await,
            Err(error) if code(&error) == Some(404) => Err(StepError::Gone),
            Err(error) => Err(api_error(&error)),
        }
    }

    async fn write_output(&self, owner_uid: &str, write: Write) -> Result<WriteOutcome, StepError> {
        let key = write.key();
        match (key.0, write) {
            (OutputKind::Service, Write::Create(Output::Service(object))) => {
                self.create(owner_uid, &key, *object, wrap_service).await
            }
            (OutputKind::Service, Write::Apply(Output::Service(object))) => {
                self.apply(&key, *object, wrap_service).await
            }
            (OutputKind::EndpointSlice, Write::Create(Output::EndpointSlice(object))) => {
                self.create(owner_uid, &key, *object, wrap_slice).await
            }
            (OutputKind::EndpointSlice, Write::Apply(Output::EndpointSlice(object))) => {
                self.apply(&key, *object, wrap_slice).await
            }
            (OutputKind::ConfigMap, Write::Create(Output::ConfigMap(object))) => {
                self.create(owner_uid, &key, *object, wrap_config_map).await
            }
            (OutputKind::ConfigMap, Write::Apply(Output::ConfigMap(object))) => {
                self.apply(&key, *object, wrap_config_map).await
            }
            (OutputKind::Service, Write::ClearSelector(_, version)) => {
                let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "selector": null } });
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                let api = self.api::<Service>(&key);
                let written = self.write(api.patch(&key.1.name, &params, &Patch::Merge(patch))).await?;
                self.outcome(&key, &api, written, wrap_service).await
            }
            (OutputKind::Service, Write::ReplacePorts(mut service, ports)) => {
                let version = service.metadata.resource_version.take();
                let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "ports": ports } });
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                let api = self.api::<Service>(&key);
                match self.write(api.patch(&key.1.name, &params, &Patch::Merge(patch))).await? {
                    Ok(replaced) => {
                        service.metadata.resource_version = replaced.metadata.resource_version;
                        self.apply(&key, *service, wrap_service).await
                    }
                    error @ Err(_) => self.outcome(&key, &api, error, wrap_service).await,
                }
            }
            (OutputKind::Service, Write::Delete(_, metadata)) => {
                self.delete::<Service>(&key, &metadata, wrap_service).await
            }
            (OutputKind::EndpointSlice, Write::Delete(_, metadata)) => {
                self.delete::<EndpointSlice>(&key, &metadata, wrap_slice).await
            }
            (OutputKind::ConfigMap, Write::Delete(_, metadata)) => {
                self.delete::<ConfigMap>(&key, &metadata, wrap_config_map).await
            }
            (OutputKind::Service | OutputKind::EndpointSlice | OutputKind::ConfigMap, _) => {
                Err(StepError::Api(format!("{} {} cannot be written that way", key.0.as_str(), key.1)))
            }
        }
    }

    fn api<K>(&self, key: &OutputKey) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.0.clone(), &key.1.namespace)
    }

    /// Creates by POST, which server-side apply cannot express: it must fail when the object exists already.
    async fn create<K>(
        &self,
        owner_uid: &str,
        key: &OutputKey,
        object: K,
        wrap: fn(K) -> Output,
    ) -> Result<WriteOutcome, StepError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>(key);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.write(api.create(&params, &object)).await? {
            Err(error) if code(&error) == Some(409) => match self.get(&api, key).await? {
                Some(there) if route_uid(there.meta()) == Some(owner_uid) => Ok(WriteOutcome::Observed(wrap(there))),
                Some(there) => Ok(already_there(key, &there)),
                None => Ok(WriteOutcome::Gone),
            },
            Ok(created) => {
                let created = self.own_by_apply(&api, created).await?;
                Ok(WriteOutcome::Observed(wrap(created)))
            }
            written @ Err(_) => self.outcome(key, &api, written, wrap).await,
        }
    }

    /// Makes the fields that POST (or another update of ours) set those of our server-side apply, as client-go's csaupgrade does: else
    /// a field that a later apply leaves out would stay behind, owned by the POST. Where there is an apply of ours already it gives
    /// way, and has to be repeated.
    async fn own_by_apply<K>(&self, api: &Api<K>, object: K) -> Result<K, StepError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let Some(updated) = managed_by_us(&object, "Update") else { return Ok(object) };
        let entry = |index: usize| format!("/metadata/managedFields/{index}");
        let mut patch = vec![
            json!({ "op": "test", "path": "/metadata/resourceVersion", "value": object.resource_version() }),
            json!({ "op": "replace", "path": format!("{}/operation", entry(updated)), "value": "Apply" }),
        ];
        if let Some(applied) = managed_by_us(&object, "Apply") {
            patch.push(json!({ "op": "remove", "path": entry(applied) }));
        }
        let Ok(patch) = serde_json::from_value(Value::Array(patch)) else { return Ok(object) };
        let params = PatchParams::default();
        let name = object.name_any();
        // Should it fail, the object is as desired all the same, and the next apply makes up for it.
        match self.write(api.patch(&name, &params, &Patch::Json::<()>(patch))).await? {
            Ok(owned) => Ok(owned),
            Err(error) => {
                tracing::warn!(name, %error, "the fields of an output could not be handed to server-side apply");
                Ok(object)
            }
        }
    }

    async fn apply<K>(&self, key: &OutputKey, mut object: K, wrap: fn(K) -> Output) -> Result<WriteOutcome, StepError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>(key);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let mut written = self.write(api.patch(&key.1.name, &params, &Patch::Apply(&typed(&object)?))).await?;
        // An operator that died right after a POST left its fields with that.
        if let Ok(there) = &written
            && managed_by_us(there, "Update").is_some()
        {
            let owned = self.own_by_apply(&api, there.clone()).await?;
            object.meta_mut().resource_version = owned.resource_version();
            written = self.write(api.patch(&key.1.name, &params, &Patch::Apply(&typed(&object)?))).await?;
        }
        self.outcome(key, &api, written, wrap).await
    }

    async fn delete<K>(
        &self,
        key: &OutputKey,
        metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        wrap: fn(K) -> Output,
    ) -> Result<WriteOutcome, StepError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>(key);
        let preconditions =
            Preconditions { resource_version: metadata.resource_version.clone(), uid: metadata.uid.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.write(api.delete(&key.1.name, &params)).await? {
            Ok(_) => Ok(WriteOutcome::Gone),
            Err(error) => self.outcome(key, &api, Err(error), wrap).await,
        }
    }

    /// What became of a write to an object that was ours.
    async fn outcome<K>(
        &self,
        key: &OutputKey,
        api: &Api<K>,
        written: kube::Result<K>,
        wrap: fn(K) -> Output,
    ) -> Result<WriteOutcome, StepError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        match written {
            Ok(object) => Ok(WriteOutcome::Observed(wrap(object))),
            Err(error) => match code(&error) {
                // Somebody else wrote meanwhile: it is looked at again as it is now.
                Some(409) => Ok(self
                    .get(api, key)
                    .await?
                    .map_or(WriteOutcome::Gone, |there| WriteOutcome::Observed(wrap(there)))),
                Some(404) => Ok(WriteOutcome::Gone),
                Some(400 | 403 | 422) => Ok(WriteOutcome::Refused {
                    reason: "OutputInvalid",
                    message: format!("{} {}: the API server refuses it: {}", key.0.as_str(), key.1.name, text(&error)),
                }),
                Some(_) | None => Err(api_error(&error)),
            },
        }
    }

    async fn get<K>(&self, api: &Api<K>, key: &OutputKey) -> Result<Option<K>, StepError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        within(DEADLINE, api.get_opt(&key.1.name)).await?.map_err(|error| api_error(&error))
    }

    /// Creates a probe's Job under its fixed name, by which there is one at a time; the one before, which is over, makes room for it.
    async fn run_job(&self, probe: Arc<str>, replaces: Option<String>, job: Job) -> Result<StepResult, StepError> {
        let name = job.name_any();
        let api: Api<Job> =
            Api::namespaced(self.client.0.clone(), job.metadata.namespace.as_deref().unwrap_or_default());
        if let Some(uid) = replaces {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match self.write(api.delete(&name, &params)).await? {
                Ok(_) => {}
                // Gone, or another one by now: creating meets that.
                Err(error) if matches!(code(&error), Some(404 | 409)) => {}
                Err(error) => return job_refused(probe, &error),
            }
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.write(api.create(&params, &job)).await? {
            Ok(created) => Ok(StepResult::JobObserved(Box::new(created))),
            Err(error) if code(&error) == Some(409) => {
                let there = within(DEADLINE, api.get_opt(&name)).await?.map_err(|error| api_error(&error))?;
                let owner = |job: &Job| job.owner_references().first().map(|owner| owner.uid.clone());
                match there {
                    Some(there) if owner(&there) == owner(&job) => Ok(StepResult::JobObserved(Box::new(there))),
                    Some(_) => {
                        let message = format!("Job {name} exists and is somebody else's; delete it");
                        Ok(StepResult::JobRefused { probe, message })
                    }
                    None => Err(api_error(&error)),
                }
            }
            Err(error) => job_refused(probe, &error),
        }
    }

    /// Publishes an Event under its fixed name; one that exists has been published before. One that the API server will never take
    /// (the namespace is on its way out) is given up.
    async fn publish(&self, event: Event) -> Result<(), StepError> {
        let api: Api<Event> =
            Api::namespaced(self.client.0.clone(), event.metadata.namespace.as_deref().unwrap_or_default());
        match self.write(api.create(&PostParams::default(), &event)).await? {
            Ok(_) => Ok(()),
            Err(error) => match code(&error) {
                Some(409) => Ok(()),
                Some(400 | 403 | 404 | 422) => {
                    tracing::warn!(event = event.metadata.name, %error, "an Event is given up");
                    Ok(())
                }
                Some(_) | None => Err(api_error(&error)),
            },
        }
    }
}

/// Quota and admission answer 403, a manifest that is not accepted 422; both may change, and are asked again at the next interval.
fn job_refused(probe: Arc<str>, error: &kube::Error) -> Result<StepResult, StepError> {
    match code(error) {
        Some(400 | 403 | 404 | 422) => Ok(StepResult::JobRefused { probe, message: text(error) }),
        Some(_) | None => Err(api_error(error)),
    }
}

/// Where our entry of this operation is among an object's managed fields.
fn managed_by_us<K: Resource>(object: &K, operation: &str) -> Option<usize> {
    let is_ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some(operation)
            && entry.subresource.is_none()
    };
    object.meta().managed_fields.iter().flatten().position(is_ours)
}

fn wrap_service(service: Service) -> Output {
    Output::Service(Box::new(service))
}

fn wrap_slice(slice: EndpointSlice) -> Output {
    Output::EndpointSlice(Box::new(slice))
}

fn wrap_config_map(config_map: ConfigMap) -> Output {
    Output::ConfigMap(Box::new(config_map))
}

/// Server-side apply wants `apiVersion` and `kind`, which k8s-openapi's types write by themselves.
fn typed<K: Serialize>(object: &K) -> Result<Value, StepError> {
    serde_json::to_value(object).map_err(|error| StepError::Api(error.to_string()))
}

fn already_there<K: Resource>(key: &OutputKey, there: &K) -> WriteOutcome {
    let (kind, name) = (key.0.as_str(), &key.1.name);
    let owner = there.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let whose =
        owner.map_or_else(|| "nobody's that we know".to_owned(), |owner| format!("{} {}'s", owner.kind, owner.name));
    WriteOutcome::Refused {
        reason: "OutputConflict",
        message: format!("{kind} {name} exists and is {whose}; it is left as it is: delete it or choose another name"),
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = T>) -> Result<T, StepError> {
    let late = |_| StepError::Api(format!("the API server did not answer within {:.1} s", deadline.as_secs_f64()));
    tokio::time::timeout(deadline, call).await.map_err(late)
}

fn status(error: &kube::Error) -> Option<&Status> {
    if let kube::Error::Api(status) = error { Some(status) } else { None }
}

fn code(error: &kube::Error) -> Option<u16> {
    status(error).map(|status| status.code)
}

fn text(error: &kube::Error) -> String {
    status(error).map_or_else(|| describe(error), |status| status.message.clone())
}

fn api_error(error: &kube::Error) -> StepError {
    StepError::Api(text(error))
}
