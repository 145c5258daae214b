//! The state against a small API server in memory and backends that do as they are told, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Resource, ResourceExt};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::{ControllerState, Effects, ReadChange, Settings};
use crate::controller::action::{
    Action, ActionError, ActionOutcome, ActionRequest, ActionResult, ResourceRef, WriteOutcome,
};
use crate::controller::backend::ProbeChange;
use crate::controller::input::Input;
use crate::controller::metrics::Metrics;
use crate::dns::DnsCall;
use crate::notification::NotificationCall;
use crate::observers::{LocalReport, PeerEvent};
use crate::output::{DesiredOutput, ObservedOutput, Output, OutputKind, Write, route_uid};
use crate::probe::ProbeTarget;
use crate::reports::Directory;
use crate::watch::{Change, Identified, Source, Unreadable, WatchEvent};
use crate::webhook::WebhookCall;
use mail_failover_api::{FailoverPolicy, MailRoute, MailRouteStatus, SendingBackend};
use mail_failover_core::model::{
    AddressOutcome, Destination, EvidenceClass, NotAfter, ObjectKey, Outcome, ProbeDelay, ProbeKey, ProbeLogin,
    ProbeReport, Resolution, ResourceVersion, SharedError, Timestamp,
};
use mail_failover_resolve::LoginKey;
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_runtime::kubernetes::identity;

pub(super) const TICK: Duration = Duration::from_millis(100);

/// Kind and name of an object. Names are unique over all namespaces; without another one, an object is in `shop`.
pub(super) type Id = (&'static str, String);

/// The stored objects, as JSON. Every write increases the version.
#[derive(Default)]
pub(super) struct Store {
    pub(super) objects: BTreeMap<Id, Value>,
    pub(super) version: u64,
    pub(super) writes: usize,
    pub(super) log: Vec<String>,
    /// The writing process dies at this write.
    pub(super) dies_at: Option<(usize, Death)>,
    pub(super) writer_is_dead: bool,
    /// The answer to a Job, if it is refused.
    pub(super) refuses_jobs: Option<String>,
    pub(super) created_jobs: usize,
    /// The time, as the API server writes it.
    pub(super) time: String,
}

impl Store {
    /// Counts a write; `None` when the writer is dead before it.
    pub(super) fn begin_write(&mut self, what: String) -> Option<()> {
        let (at, death) = self.dies_at.unwrap_or((usize::MAX, Death::BeforeWrite));
        if self.writer_is_dead || (self.writes, Death::BeforeWrite) == (at, death) {
            self.writer_is_dead = true;
            return None;
        }
        self.writer_is_dead = (self.writes, Death::AfterWrite) == (at, death);
        self.writes += 1;
        self.log.push(what);
        Some(())
    }

    pub(super) fn put(&mut self, kind: &'static str, name: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        // The server gives an identity to whatever it keeps.
        if object["metadata"]["uid"].is_null() {
            let known = self.objects.get(&(kind, name.to_owned())).map(|there| there["metadata"]["uid"].clone());
            object["metadata"]["uid"] = known.unwrap_or_else(|| json!(format!("uid-{}", self.version)));
        }
        self.objects.insert((kind, name.to_owned()), object);
    }

    pub(super) fn create(&mut self, kind: &'static str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.version += 1;
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!("shop");
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        object["metadata"]["generation"] = json!(1);
        self.put(kind, &name, object);
    }

    pub(super) fn get<K: serde::de::DeserializeOwned>(&self, kind: &'static str, name: &str) -> Option<K> {
        self.objects.get(&(kind, name.to_owned())).map(|object| serde_json::from_value(object.clone()).unwrap())
    }

    pub(super) fn route(&self, name: &str) -> MailRouteStatus {
        self.get::<MailRoute>("MailRoute", name).unwrap().status.unwrap_or_default()
    }

    /// The addresses in the slices of a Service.
    pub(super) fn leads_to(&self, slice: &str) -> Vec<String> {
        let Some(slice) = self.get::<EndpointSlice>("EndpointSlice", slice) else { return vec![] };
        slice.endpoints.into_iter().flat_map(|endpoint| endpoint.addresses).collect()
    }

    pub(super) fn events(&self) -> Vec<String> {
        let events = self.objects.iter().filter(|((kind, _), _)| *kind == "Event");
        let mut events: Vec<_> = events
            .map(|(_, event)| (event["eventTime"].to_string(), event["reason"].as_str().unwrap().to_owned()))
            .collect();
        events.sort();
        events.into_iter().map(|(_, reason)| reason).collect()
    }

    /// Does as the API server and the applier would; `None` when the writer did not live to hear of it.
    pub(super) fn carry_out(&mut self, request: ActionRequest) -> Option<ActionResult> {
        let ActionRequest { id, resource, action } = request;
        let kind = resource.kind.as_str();
        let name = resource.key.name.to_string();
        let outcome = match action {
            Action::Confirm => Ok(ActionOutcome::Fresh(Box::new(self.fresh(&resource)))),
            Action::WriteStatus { resource_version, patch } => match self.objects.get(&(kind, name.clone())).cloned() {
                None => Err(ActionError::Gone),
                Some(object) if object["metadata"]["resourceVersion"] != json!(resource_version.as_str()) => {
                    Ok(ActionOutcome::Fresh(Box::new(self.fresh(&resource))))
                }
                Some(mut object) => {
                    merge(&mut object, &patch);
                    self.begin_write(format!("status {kind} {name}"))?;
                    self.put(kind, &name, object);
                    let resource_version = ResourceVersion::parse(Some(&self.version.to_string())).unwrap();
                    Ok(ActionOutcome::StatusWritten { resource_version })
                }
            },
            Action::WriteOutputs { owner, writes } => {
                let written = writes.into_iter().map(|write| Some((write.key(), self.write(owner.as_str(), write)?)));
                Ok(ActionOutcome::OutputsWritten(written.collect::<Option<_>>()?))
            }
            Action::RunJob { probe, replaces, job } => {
                let of_job = ("Job", job.name_any());
                if let Some(message) = self.refuses_jobs.clone() {
                    return Some(ActionResult {
                        id,
                        resource,
                        outcome: Ok(ActionOutcome::JobRefused { probe, message }),
                    });
                }
                let there = self.objects.get(&of_job).map(|there| there["metadata"]["uid"].clone());
                assert_eq!(
                    there,
                    replaces.map(|uid| Value::from(uid.as_str())),
                    "only what is known to be over is replaced"
                );
                self.begin_write(format!("job {}", of_job.1))?;
                self.created_jobs += 1;
                self.version += 1;
                let mut job = serde_json::to_value(*job).unwrap();
                job["metadata"]["uid"] = json!(format!("uid-{}", self.version));
                job["metadata"]["creationTimestamp"] = json!(self.time.clone());
                self.put("Job", &of_job.1, job);
                Ok(ActionOutcome::JobObserved(Identified::new(Box::new(self.get("Job", &of_job.1).unwrap())).unwrap()))
            }
            Action::PublishEvents(events) => {
                for event in events {
                    let id = ("Event", event.name_any());
                    assert!(!self.objects.contains_key(&id) || self.objects[&id]["reason"] == json!(event.reason));
                    self.begin_write(format!("event {}", event.reason.clone().unwrap()))?;
                    let event = serde_json::to_value(&event).unwrap();
                    self.objects.entry(id).or_insert(event);
                }
                Ok(ActionOutcome::EventsPublished)
            }
        };
        (!self.writer_is_dead).then_some(ActionResult { id, resource, outcome })
    }

    pub(super) fn write(&mut self, owner_uid: &str, write: Write) -> Option<WriteOutcome> {
        let (kind, key) = write.key();
        let id = (kind.as_str(), key.name.to_string());
        self.begin_write(format!("write {} {}", id.0, id.1))?;
        Some(match write {
            Write::Create(DesiredOutput { output, .. }) | Write::Apply(DesiredOutput { output, .. }, _) => {
                if let Some(there) = self.objects.get(&id) {
                    let there = parse(kind, there.clone());
                    if route_uid(there.output.metadata()) != Some(owner_uid) {
                        let message = format!("{} exists", id.1);
                        return Some(WriteOutcome::Refused { reason: "OutputConflict", message });
                    }
                }
                let object = match output {
                    Output::Service(object) => serde_json::to_value(*object),
                    Output::EndpointSlice(object) => serde_json::to_value(*object),
                    Output::ConfigMap(object) => serde_json::to_value(*object),
                };
                self.put(id.0, &id.1, object.unwrap());
                WriteOutcome::Observed(parse(kind, self.objects[&id].clone()))
            }
            Write::ClearSelector(..) => {
                self.objects.get_mut(&id).unwrap()["spec"]["selector"] = Value::Null;
                WriteOutcome::Observed(parse(kind, self.objects[&id].clone()))
            }
            Write::ReplacePorts { ports, .. } => {
                self.objects.get_mut(&id).unwrap()["spec"]["ports"] = serde_json::to_value(ports).unwrap();
                WriteOutcome::Observed(parse(kind, self.objects[&id].clone()))
            }
            Write::Delete(..) => {
                self.objects.remove(&id);
                WriteOutcome::Gone
            }
        })
    }

    pub(super) fn fresh(&self, resource: &ResourceRef) -> WatchEvent {
        let object = self.objects.get(&(resource.kind.as_str(), resource.key.name.to_string())).cloned();
        watch_event(resource.kind.as_str(), &resource.key, object)
    }
}

fn key_of(object: &Value) -> ObjectKey {
    let text = |field: &str| object["metadata"][field].as_str().unwrap();
    ObjectKey::new(text("namespace"), text("name"))
}

pub(super) fn parse(kind: OutputKind, object: Value) -> ObservedOutput {
    let output = match kind {
        OutputKind::Service => Output::Service(serde_json::from_value(object).unwrap()),
        OutputKind::EndpointSlice => Output::EndpointSlice(serde_json::from_value(object).unwrap()),
        OutputKind::ConfigMap => Output::ConfigMap(serde_json::from_value(object).unwrap()),
    };
    ObservedOutput { identity: identity(output.metadata()).unwrap(), output }
}

/// JSON merge patch (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

pub(super) fn change<K: Resource + serde::de::DeserializeOwned>(key: &ObjectKey, object: Option<Value>) -> Change<K> {
    let key = key.clone();
    let Some(object) = object else { return Change::Deleted(key) };
    match serde_json::from_value(object.clone()) {
        Ok(typed) => Change::Applied(Identified::new(Box::new(typed)).unwrap()),
        Err(error) => Change::Unreadable(Unreadable {
            identity: identity(&serde_json::from_value(object["metadata"].clone()).unwrap()).unwrap(),
            generation: object["metadata"]["generation"].as_i64().unwrap_or_default(),
            status: object["status"].clone(),
            error: SharedError::new(error),
        }),
    }
}

pub(super) fn input(kind: &str, key: &ObjectKey, object: Option<Value>) -> Input {
    watch_event(kind, key, object).into()
}

fn watch_event(kind: &str, key: &ObjectKey, object: Option<Value>) -> WatchEvent {
    match kind {
        "SendingBackend" => WatchEvent::Backend(change::<SendingBackend>(key, object)),
        "FailoverPolicy" => WatchEvent::Policy(change::<FailoverPolicy>(key, object)),
        "MailRoute" => WatchEvent::Route(change::<MailRoute>(key, object)),
        "Service" => WatchEvent::Service(change::<Service>(key, object)),
        "EndpointSlice" => WatchEvent::EndpointSlice(change::<EndpointSlice>(key, object)),
        "Job" => WatchEvent::Job(change::<k8s_openapi::api::batch::v1::Job>(key, object)),
        "Pod" => WatchEvent::Pod(change::<k8s_openapi::api::core::v1::Pod>(key, object)),
        "ConfigMap" => WatchEvent::ConfigMap(change::<ConfigMap>(key, object)),
        other => panic!("{other} is not watched"),
    }
}

/// The operator, its API server and its backends.
pub(super) struct TestEnv {
    pub(super) now: Timestamp,
    pub(super) state: ControllerState,
    pub(super) store: Store,
    /// The part of the store that the state has seen.
    pub(super) seen: BTreeMap<Id, Value>,
    /// Kind of the objects that the operator may not read.
    pub(super) hidden: Option<&'static str>,
    pub(super) targets: BTreeMap<ProbeKey, (ProbeTarget, Timestamp, u64)>,
    /// The answer of each backend.
    pub(super) answers: BTreeMap<String, EvidenceClass>,
    /// First expiry among the certificates that every backend presents.
    pub(super) not_after: Option<NotAfter>,
    /// Wait of every round for its turn.
    pub(super) delay: Option<ProbeDelay>,
    pub(super) deaths: usize,
    /// The report to the other replicas.
    pub(super) board: LocalReport,
    /// The agents that may report.
    pub(super) directory: Directory,
    /// The watch shows what a write has changed before the write is answered.
    pub(super) is_echo_first: bool,
    /// The logins that were requested and released.
    pub(super) logins: Vec<ReadChange<LoginKey>>,
    /// The calls of webhooks that have begun.
    pub(super) webhook_calls: Vec<WebhookCall>,
    /// The attempts to lead zones that have begun.
    pub(super) dns_calls: Vec<DnsCall>,
    /// The calls of receivers that have begun.
    pub(super) notification_calls: Vec<NotificationCall>,
    /// The policy that the installation names for all.
    pub(super) default_notifications: Option<ObjectKey>,
    /// Name in the election of a replica that is fitter to lead.
    pub(super) successor: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Death {
    BeforeWrite,
    AfterWrite,
}

pub(super) fn state() -> ControllerState {
    state_with(&mut Registry::default())
}

pub(super) fn state_with(registry: &mut Registry) -> ControllerState {
    state_of(registry, None)
}

pub(super) fn state_of(registry: &mut Registry, default_notifications: Option<ObjectKey>) -> ControllerState {
    state_of_installation("ops/operator", registry, default_notifications)
}

/// A leader of the installation of this name.
pub(super) fn state_of_installation(
    name: &str,
    registry: &mut Registry,
    default_notifications: Option<ObjectKey>,
) -> ControllerState {
    let settings = Settings {
        instance: "test".to_owned(),
        installation: name.into(),
        cluster_domain: "cluster.local".to_owned(),
        lease_duration: Duration::from_secs(15),
        guard: DialGuard::default(),
        reports: None,
        jobs: None,
        dns_owner: "test".into(),
        default_notifications,
    };
    let mut state = ControllerState::new(settings, Metrics::new(registry));
    state.handle(Timestamp::default(), Input::Leading(true));
    state.handle(Timestamp::default(), Input::Observer(PeerEvent::Listed));
    state
}

impl TestEnv {
    pub(super) fn new() -> Self {
        Self {
            now: Timestamp::from_micros(1_000_000_000),
            state: state(),
            store: Store::default(),
            seen: BTreeMap::new(),
            hidden: None,
            targets: BTreeMap::new(),
            answers: BTreeMap::new(),
            not_after: None,
            delay: None,
            deaths: 0,
            board: LocalReport::default(),
            directory: Directory::default(),
            is_echo_first: false,
            logins: vec![],
            webhook_calls: vec![],
            dns_calls: vec![],
            notification_calls: vec![],
            default_notifications: None,
            successor: None,
        }
    }

    pub(super) fn new_state(&self) -> ControllerState {
        state_of(&mut Registry::default(), self.default_notifications.clone())
    }

    pub(super) fn with(objects: &[(&'static str, Value)]) -> Self {
        let mut env = Self::new();
        for (kind, object) in objects {
            env.store.create(kind, object.clone());
        }
        env.sync();
        env
    }

    pub(super) fn sync(&mut self) {
        self.watch();
        for source in Source::ESSENTIAL {
            self.state.handle(self.now, Input::Synced(source));
        }
    }

    /// Shows the state what changed in the store.
    pub(super) fn watch(&mut self) {
        let watched = |(id, _): &(&Id, &Value)| id.0 != "Event" && Some(id.0) != self.hidden;
        let current: BTreeMap<_, _> =
            self.store.objects.iter().filter(watched).map(|(id, object)| (id.clone(), object.clone())).collect();
        for (id, object) in &current {
            if self.seen.get(id) != Some(object) {
                self.state.handle(self.now, input(id.0, &key_of(object), Some(object.clone())));
            }
        }
        for (id, object) in self.seen.iter().filter(|(id, _)| !current.contains_key(*id)) {
            self.state.handle(self.now, input(id.0, &key_of(object), None));
        }
        self.seen = current;
    }

    pub(super) fn edit(&mut self, kind: &'static str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.store.objects[&(kind, name.to_owned())].clone();
        edit(&mut object);
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
        self.store.put(kind, name, object);
    }

    pub(super) fn delete(&mut self, kind: &'static str, name: &str) {
        self.store.objects.remove(&(kind, name.to_owned()));
    }

    pub(super) fn answer(&mut self, backend: &str, class: EvidenceClass) {
        self.answers.insert(backend.to_owned(), class);
    }

    /// The process is gone; another one begins with what is stored.
    pub(super) fn restart(&mut self) {
        self.state = self.new_state();
        self.board = LocalReport::default();
        self.directory = Directory::default();
        self.store.dies_at = None;
        self.store.writer_is_dead = false;
        self.seen.clear();
        self.targets.clear();
        self.deaths += 1;
        self.sync();
    }

    pub(super) fn run(&mut self, seconds: f64) {
        self.run_by(TICK, seconds);
    }

    /// Runs in steps of this length.
    pub(super) fn run_by(&mut self, tick: Duration, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.now = self.now + tick;
            self.store.time = jiff::Timestamp::from_microsecond(self.now.as_micros()).unwrap().to_string();
            self.watch();
            self.probe();
            self.settle();
        }
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            self.state.handle_timeout(self.now);
            let Effects {
                actions,
                probes,
                cas: _,
                logins,
                secrets: _,
                notification_calls,
                webhook_calls,
                dns_calls,
                report_changes,
                awaited,
                known_up_to,
                successor,
                admissions,
            } = self.state.poll(self.now);
            self.successor = successor;
            self.board.note(report_changes, awaited, known_up_to);
            self.directory.note(admissions);
            self.set_probes(probes);
            self.logins.extend(logins);
            self.webhook_calls.extend(webhook_calls);
            self.dns_calls.extend(dns_calls);
            self.notification_calls.extend(notification_calls);
            if actions.is_empty() {
                return;
            }
            for request in actions {
                let Some(result) = self.store.carry_out(request) else { return self.restart() };
                if self.is_echo_first {
                    self.watch();
                }
                self.state.handle(self.now, Input::Result(Box::new(result)));
            }
        }
        panic!("the state does not come to rest: {:?}", self.store.log);
    }

    pub(super) fn set_probes(&mut self, changes: Vec<ProbeChange>) {
        for change in changes {
            match change {
                ProbeChange::Set(target) => {
                    let before = self.targets.get(&target.key);
                    let sequence = before.map_or(0, |(_, _, sequence)| *sequence);
                    // That a route uses it makes no other probe of it.
                    let (is_used, confirmation) = (target.is_used, target.confirmation.clone());
                    let known =
                        before.map(|(known, due, _)| (ProbeTarget { is_used, confirmation, ..known.clone() }, *due));
                    let due = known.filter(|(known, _)| *known == *target).map_or(self.now, |(_, due)| due);
                    self.targets.insert(target.key.clone(), (*target, due, sequence));
                }
                ProbeChange::Remove(key) => {
                    self.targets.remove(&key);
                }
                ProbeChange::Look(key) => {
                    if let Some((_, due, _)) = self.targets.get_mut(&key) {
                        *due = self.now;
                    }
                }
            }
        }
    }

    pub(super) fn probe(&mut self) {
        let mut reports = vec![];
        for (key, (target, due, sequence)) in &mut self.targets {
            if *due > self.now {
                continue;
            }
            *due = self.now + target.interval;
            *sequence += 1;
            let answer = self.answers.get(&*key.backend.name).copied().unwrap_or(EvidenceClass::Ok);
            let class = match target.login {
                ProbeLogin::Missing { .. } if target.depth.is_counted() => EvidenceClass::ProbeBlocked,
                ProbeLogin::None | ProbeLogin::With(_) | ProbeLogin::Missing { .. } => answer,
            };
            let has_no_endpoints =
                matches!(&target.destination, Destination::Service(service) if service.endpoints.is_empty());
            let class = if has_no_endpoints { EvidenceClass::NoEndpoints } else { class };
            let outcome = Outcome {
                class,
                stage: mail_failover_core::model::Stage::Ehlo,
                message: format!("EHLO: {}", class.as_str()),
                certificate_not_after: self.not_after.clone(),
                elapsed: Duration::from_millis(1),
            };
            let addresses = match &target.destination {
                Destination::Service(service) => service.endpoints.clone(),
                Destination::Host(host) => format!("{}:{}", host.host, host.port).parse().into_iter().collect(),
            };
            reports.push(ProbeReport {
                key: key.clone(),
                revision: target.revision,
                sequence: *sequence,
                started_at: self.now,
                finished_at: self.now,
                resolution: Resolution::NotNeeded,
                addresses: addresses
                    .into_iter()
                    .map(|address| AddressOutcome { address, outcome: outcome.clone() })
                    .collect(),
                outcome,
                delay: self.delay,
                is_extra: false,
            });
        }
        for report in reports {
            self.state.handle(self.now, Input::Report(Box::new(report)));
        }
    }

    pub(super) fn active(&self) -> String {
        self.store.route("orders").active.first().map(|active| active.backend.clone()).unwrap_or_default()
    }

    pub(super) fn condition(&self, type_: &str) -> (String, String) {
        let status = self.store.route("orders");
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == type_);
        condition.map(|condition| (condition.status, condition.reason)).unwrap_or_default()
    }
}

pub(super) fn backend(name: &str, address: &str) -> (&'static str, Value) {
    let spec = json!({"smtp": {"host": address, "port": 25}, "probes": [{"name": "smtp", "interval": "1s", "timeout": "500ms", "smtp": {}}]});
    (
        "SendingBackend",
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": {"name": name}, "spec": spec}),
    )
}

pub(super) fn policy() -> (&'static str, Value) {
    let spec = json!({
        "failure": {"consecutive": 3}, "recovery": {"consecutive": 3},
        "hold": {"cooldown": "20s", "minimumStay": "5s"}, "failback": {"after": "30s"}});
    (
        "FailoverPolicy",
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "FailoverPolicy", "metadata": {"name": "fast"}, "spec": spec}),
    )
}

pub(super) fn route() -> (&'static str, Value) {
    let spec = json!({
        "policyRef": {"name": "fast"}, "backends": [{"name": "primary"}, {"name": "standby"}],
        "outputs": [{"service": {"name": "mail", "ports": [{"name": "smtp", "port": 25}]}}, {"configMap": {"name": "mail", "format": "Env"}}]});
    (
        "MailRoute",
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute", "metadata": {"name": "orders"}, "spec": spec}),
    )
}

pub(super) fn quickstart() -> Vec<(&'static str, Value)> {
    vec![policy(), backend("primary", "192.0.2.1"), backend("standby", "192.0.2.2"), route()]
}
