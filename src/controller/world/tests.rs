//! The world against a small API server in memory and backends that do as they are told, in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::{Effects, Settings, World};
use crate::api::{FailoverPolicy, MailRoute, MailRouteStatus, RouteState, SendingBackend};
use crate::controller::backend::ProbeChange;
use crate::controller::input::{Change, Input, Source, Unreadable};
use crate::controller::metrics::Metrics;
use crate::controller::step::{Done, Step, StepError, StepResult, Subject, SubjectKind, Task, WriteOutcome};
use crate::model::{
    AddressOutcome, Destination, EvidenceClass, ObjectKey, Outcome, ProbeKey, ProbeReport, Resolution, Timestamp,
};
use crate::output::{Output, OutputKind, Write, route_uid};
use crate::probe::Target;

const TICK: Duration = Duration::from_millis(100);

/// Kind and name of an object in the namespace `shop`.
type Id = (&'static str, String);

/// What is stored, as JSON; every write increases the version.
#[derive(Default)]
struct Store {
    objects: BTreeMap<Id, Value>,
    version: u64,
    writes: usize,
    log: Vec<String>,
    /// The writing process dies at this write.
    dies_at: Option<(usize, Death)>,
    writer_is_dead: bool,
}

impl Store {
    /// Counts a write; `None` when the writer is dead before it.
    fn begin_write(&mut self, what: String) -> Option<()> {
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

    fn put(&mut self, kind: &'static str, name: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert((kind, name.to_owned()), object);
    }

    fn create(&mut self, kind: &'static str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.version += 1;
        object["metadata"]["namespace"] = json!("shop");
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        object["metadata"]["generation"] = json!(1);
        self.put(kind, &name, object);
    }

    fn get<K: serde::de::DeserializeOwned>(&self, kind: &'static str, name: &str) -> Option<K> {
        self.objects.get(&(kind, name.to_owned())).map(|object| serde_json::from_value(object.clone()).unwrap())
    }

    fn route(&self, name: &str) -> MailRouteStatus {
        self.get::<MailRoute>("MailRoute", name).unwrap().status.unwrap_or_default()
    }

    /// Where the slices of a Service lead.
    fn leads_to(&self, slice: &str) -> Vec<String> {
        let Some(slice) = self.get::<EndpointSlice>("EndpointSlice", slice) else { return vec![] };
        slice.endpoints.into_iter().flat_map(|endpoint| endpoint.addresses).collect()
    }

    fn events(&self) -> Vec<String> {
        let events = self.objects.iter().filter(|((kind, _), _)| *kind == "Event");
        let mut events: Vec<_> = events
            .map(|(_, event)| (event["eventTime"].to_string(), event["reason"].as_str().unwrap().to_owned()))
            .collect();
        events.sort();
        events.into_iter().map(|(_, reason)| reason).collect()
    }

    /// Does as the API server and the applier would; `None` when the writer did not live to hear of it.
    fn carry_out(&mut self, task: Task) -> Option<Done> {
        let Task { id, subject, step } = task;
        let kind = subject.kind.as_str();
        let name = subject.key.name.to_string();
        let result = match step {
            Step::Confirm => Ok(StepResult::Fresh(Box::new(self.fresh(&subject)))),
            Step::WriteStatus { resource_version, patch } => match self.objects.get(&(kind, name.clone())).cloned() {
                None => Err(StepError::Gone),
                Some(object) if object["metadata"]["resourceVersion"] != json!(resource_version) => {
                    Ok(StepResult::Fresh(Box::new(self.fresh(&subject))))
                }
                Some(mut object) => {
                    merge(&mut object, &patch);
                    self.begin_write(format!("status {kind} {name}"))?;
                    self.put(kind, &name, object);
                    Ok(StepResult::StatusWritten { resource_version: self.version.to_string() })
                }
            },
            Step::WriteOutputs { owner_uid, writes } => {
                let outcomes = writes.into_iter().map(|write| Some((write.key(), self.write(&owner_uid, write)?)));
                Ok(StepResult::OutputsWritten { outcomes: outcomes.collect::<Option<_>>()?, error: None })
            }
            Step::PublishEvents(events) => {
                for event in events {
                    let id = ("Event", event.name_any());
                    assert!(!self.objects.contains_key(&id) || self.objects[&id]["reason"] == json!(event.reason));
                    self.begin_write(format!("event {}", event.reason.clone().unwrap()))?;
                    let event = serde_json::to_value(&event).unwrap();
                    self.objects.entry(id).or_insert(event);
                }
                Ok(StepResult::EventsPublished)
            }
        };
        (!self.writer_is_dead).then_some(Done { id, subject, result })
    }

    fn write(&mut self, owner_uid: &str, write: Write) -> Option<WriteOutcome> {
        let (kind, key) = write.key();
        let id = (kind.as_str(), key.name.to_string());
        self.begin_write(format!("write {} {}", id.0, id.1))?;
        Some(match write {
            Write::Create(output) | Write::Apply(output) => {
                if let Some(there) = self.objects.get(&id) {
                    let there = parse(kind, there.clone());
                    if route_uid(there.metadata()) != Some(owner_uid) {
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
            Write::ReplacePorts(_, ports) => {
                self.objects.get_mut(&id).unwrap()["spec"]["ports"] = serde_json::to_value(ports).unwrap();
                WriteOutcome::Observed(parse(kind, self.objects[&id].clone()))
            }
            Write::Delete(..) => {
                self.objects.remove(&id);
                WriteOutcome::Gone
            }
        })
    }

    fn fresh(&self, subject: &Subject) -> Input {
        let object = self.objects.get(&(subject.kind.as_str(), subject.key.name.to_string())).cloned();
        input(subject.kind.as_str(), &subject.key.name, object)
    }
}

fn parse(kind: OutputKind, object: Value) -> Output {
    match kind {
        OutputKind::Service => Output::Service(serde_json::from_value(object).unwrap()),
        OutputKind::EndpointSlice => Output::EndpointSlice(serde_json::from_value(object).unwrap()),
        OutputKind::ConfigMap => Output::ConfigMap(serde_json::from_value(object).unwrap()),
    }
}

/// JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
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

fn change<K: serde::de::DeserializeOwned>(name: &str, object: Option<Value>) -> Change<K> {
    let key = ObjectKey::new("shop", name);
    let Some(object) = object else { return Change::Deleted(key) };
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    match serde_json::from_value(object.clone()) {
        Ok(typed) => Change::Applied(Box::new(typed)),
        Err(error) => Change::Unreadable(Unreadable {
            key,
            uid: text("uid"),
            generation: object["metadata"]["generation"].as_i64().unwrap_or_default(),
            resource_version: text("resourceVersion"),
            error: error.to_string(),
        }),
    }
}

fn input(kind: &str, name: &str, object: Option<Value>) -> Input {
    match kind {
        "SendingBackend" => Input::Backend(change::<SendingBackend>(name, object)),
        "FailoverPolicy" => Input::Policy(change::<FailoverPolicy>(name, object)),
        "MailRoute" => Input::Route(change::<MailRoute>(name, object)),
        "Service" => Input::Service(change::<Service>(name, object)),
        "EndpointSlice" => Input::EndpointSlice(change::<EndpointSlice>(name, object)),
        "ConfigMap" => Input::ConfigMap(change::<ConfigMap>(name, object)),
        other => panic!("{other} is not watched"),
    }
}

/// The operator, its API server and its backends.
struct Stage {
    now: Timestamp,
    world: World,
    store: Store,
    /// What the world has seen of the store.
    seen: BTreeMap<Id, Value>,
    targets: BTreeMap<ProbeKey, (Target, Timestamp, u64)>,
    /// What each backend answers.
    answers: BTreeMap<String, EvidenceClass>,
    deaths: usize,
    /// The watch shows what a write has changed before the write is answered.
    is_echo_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    BeforeWrite,
    AfterWrite,
}

fn world() -> World {
    world_with(&mut Registry::default())
}

fn world_with(registry: &mut Registry) -> World {
    let settings = Settings { instance: "test".to_owned(), cluster_domain: "cluster.local".to_owned() };
    let mut world = World::new(settings, Metrics::new(registry));
    world.take(Timestamp::default(), Input::Leading(true));
    world
}

impl Stage {
    fn new() -> Self {
        Self {
            now: Timestamp::from_micros(1_000_000_000),
            world: world(),
            store: Store::default(),
            seen: BTreeMap::new(),
            targets: BTreeMap::new(),
            answers: BTreeMap::new(),
            deaths: 0,
            is_echo_first: false,
        }
    }

    fn with(objects: &[(&'static str, Value)]) -> Self {
        let mut stage = Self::new();
        for (kind, object) in objects {
            stage.store.create(kind, object.clone());
        }
        stage.sync();
        stage
    }

    fn sync(&mut self) {
        self.watch();
        for source in Source::ALL {
            self.world.take(self.now, Input::Synced(source));
        }
    }

    /// Shows the world what changed in the store.
    fn watch(&mut self) {
        let watched = |(kind, _): &(&Id, &Value)| kind.0 != "Event";
        let current: BTreeMap<_, _> =
            self.store.objects.iter().filter(watched).map(|(id, object)| (id.clone(), object.clone())).collect();
        for (id, object) in &current {
            if self.seen.get(id) != Some(object) {
                self.world.take(self.now, input(id.0, &id.1, Some(object.clone())));
            }
        }
        for id in self.seen.keys().filter(|id| !current.contains_key(*id)) {
            self.world.take(self.now, input(id.0, &id.1, None));
        }
        self.seen = current;
    }

    fn edit(&mut self, kind: &'static str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.store.objects[&(kind, name.to_owned())].clone();
        edit(&mut object);
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
        self.store.put(kind, name, object);
    }

    fn delete(&mut self, kind: &'static str, name: &str) {
        self.store.objects.remove(&(kind, name.to_owned()));
    }

    fn answer(&mut self, backend: &str, class: EvidenceClass) {
        self.answers.insert(backend.to_owned(), class);
    }

    /// The process is gone; another one begins with what is stored.
    fn restart(&mut self) {
        self.world = world();
        self.store.dies_at = None;
        self.store.writer_is_dead = false;
        self.seen.clear();
        self.targets.clear();
        self.deaths += 1;
        self.sync();
    }

    fn run(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.now = self.now + TICK;
            self.watch();
            self.probe();
            self.settle();
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let Effects { steps, probes, cas: _ } = self.world.settle(self.now);
            self.set_probes(probes);
            if steps.is_empty() {
                return;
            }
            for task in steps {
                let Some(done) = self.store.carry_out(task) else { return self.restart() };
                if self.is_echo_first {
                    self.watch();
                }
                self.world.take(self.now, Input::Done(Box::new(done)));
            }
        }
        panic!("the world does not come to rest: {:?}", self.store.log);
    }

    fn set_probes(&mut self, changes: Vec<ProbeChange>) {
        for change in changes {
            match change {
                ProbeChange::Set(target) => {
                    let sequence = self.targets.get(&target.key).map_or(0, |(_, _, sequence)| *sequence);
                    self.targets.insert(target.key.clone(), (*target, self.now, sequence));
                }
                ProbeChange::Remove(key) => {
                    self.targets.remove(&key);
                }
            }
        }
    }

    fn probe(&mut self) {
        let mut reports = vec![];
        for (key, (target, due, sequence)) in &mut self.targets {
            if *due > self.now {
                continue;
            }
            *due = self.now + target.interval;
            *sequence += 1;
            let class = self.answers.get(&*key.backend.name).copied().unwrap_or(EvidenceClass::Ok);
            let outcome = Outcome {
                class,
                stage: crate::model::Stage::Ehlo,
                message: format!("EHLO: {}", class.as_str()),
                certificate_not_after: None,
                elapsed: Duration::from_millis(1),
            };
            let addresses = match &target.destination {
                Destination::Service(service) => service.endpoints.clone(),
                Destination::Host(host) => vec![format!("{}:{}", host.host, host.port).parse().unwrap()],
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
            });
        }
        for report in reports {
            self.world.take(self.now, Input::Report(Box::new(report)));
        }
    }

    fn active(&self) -> String {
        self.store.route("orders").active.first().map(|active| active.backend.clone()).unwrap_or_default()
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let status = self.store.route("orders");
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == type_);
        condition.map(|condition| (condition.status, condition.reason)).unwrap_or_default()
    }
}

fn backend(name: &str, address: &str) -> (&'static str, Value) {
    let spec = json!({"smtp": {"host": address, "port": 25}, "probes": [{"name": "smtp", "interval": "1s", "timeout": "500ms", "smtp": {}}]});
    (
        "SendingBackend",
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": {"name": name}, "spec": spec}),
    )
}

fn policy() -> (&'static str, Value) {
    let spec = json!({
        "failure": {"consecutive": 3}, "recovery": {"consecutive": 3},
        "hold": {"cooldown": "20s", "minimumStay": "5s"}, "failback": {"after": "30s"}});
    (
        "FailoverPolicy",
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "FailoverPolicy", "metadata": {"name": "fast"}, "spec": spec}),
    )
}

fn route() -> (&'static str, Value) {
    let spec = json!({
        "policyRef": {"name": "fast"}, "backends": [{"name": "primary"}, {"name": "standby"}],
        "outputs": [{"service": {"name": "mail", "ports": [{"name": "smtp", "port": 25}]}}, {"configMap": {"name": "mail", "format": "Env"}}]});
    (
        "MailRoute",
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute", "metadata": {"name": "orders"}, "spec": spec}),
    )
}

fn quickstart() -> Vec<(&'static str, Value)> {
    vec![policy(), backend("primary", "192.0.2.1"), backend("standby", "192.0.2.2"), route()]
}

#[test]
fn a_dead_primary_is_left_and_returned_to_when_it_has_soaked() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("primary".to_owned(), vec!["192.0.2.1".to_owned()])
    );
    assert_eq!(stage.condition("Ready"), ("True".to_owned(), "Delivering".to_owned()));
    stage.answer("primary", EvidenceClass::ConnectionRefused);
    stage.run(4.0);
    let status = stage.store.route("orders");
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("standby".to_owned(), vec!["192.0.2.2".to_owned()])
    );
    assert_eq!(status.state, Some(RouteState::FailedOver));
    assert_eq!(status.healthy_backends.as_deref(), Some("1/2"));
    assert!(status.last_transition.unwrap().applied_at.is_some());
    assert_eq!(stage.condition("Ready").0, "True");
    assert_eq!(stage.condition("FailedOver"), ("True".to_owned(), "ConnectionRefused".to_owned()));
    assert_eq!(stage.condition("Redundant").0, "False");
    let config_map: ConfigMap = stage.store.get("ConfigMap", "mail").unwrap();
    assert_eq!(config_map.data.unwrap()["SMTP_HOST"], "192.0.2.2");
    stage.answer("primary", EvidenceClass::Ok);
    stage.run(15.0);
    assert_eq!(stage.active(), "standby");
    assert_eq!(stage.store.route("orders").hold.unwrap().reason, "Soak");
    stage.run(25.0);
    assert_eq!(stage.active(), "primary");
    assert_eq!(stage.store.events(), ["BackendUnhealthy", "FailedOver", "BackendRecovered", "FailedBack"]);
    assert_eq!(stage.store.route("orders").pending_events, vec![]);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut stage = Stage::with(&quickstart());
    stage.run(10.0);
    let writes = stage.store.writes;
    stage.run(600.0);
    assert_eq!(stage.store.writes, writes, "{:?}", stage.store.log);
}

/// However often the process dies at whichever write of a switch, the switch is made once, told once, and told after it was made.
#[test]
fn a_death_at_any_write_neither_loses_nor_doubles_a_switch() {
    let undisturbed = |stage: &mut Stage| {
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(20.0);
    };
    let mut stage = Stage::with(&quickstart());
    undisturbed(&mut stage);
    let writes = stage.store.writes;
    assert!(writes >= 10, "{:?}", stage.store.log);
    for at in 0..writes {
        for death in [Death::BeforeWrite, Death::AfterWrite] {
            let mut stage = Stage::with(&quickstart());
            stage.store.dies_at = Some((at, death));
            undisturbed(&mut stage);
            let log = stage.store.log.join("\n");
            assert_eq!(stage.deaths, 1, "{death:?} at {at}\n{log}");
            let status = stage.store.route("orders");
            assert_eq!((stage.active(), status.history.len()), ("standby".to_owned(), 1), "{death:?} at {at}\n{log}");
            assert_eq!(stage.store.leads_to("mail-ipv4"), ["192.0.2.2"], "{death:?} at {at}\n{log}");
            let switch = stage.store.log.iter().rposition(|line| line == "write EndpointSlice mail-ipv4").unwrap();
            let told = stage.store.log.iter().position(|line| line == "event FailedOver").unwrap();
            assert!(switch < told, "{death:?} at {at}\n{log}");
            let mut events = stage.store.events();
            events.sort();
            assert_eq!(events, ["BackendUnhealthy", "FailedOver"], "{death:?} at {at}\n{log}");
            assert!(status.last_transition.unwrap().applied_at.is_some() && status.pending_events.is_empty());
        }
    }
}

#[test]
fn a_new_leader_goes_on_with_cooldown_and_soak_where_the_old_one_stopped() {
    let mut undisturbed = Stage::with(&quickstart());
    let mut restarted = Stage::with(&quickstart());
    for stage in [&mut undisturbed, &mut restarted] {
        stage.run(10.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::Ok);
        stage.run(10.0);
    }
    for _ in 0..5 {
        restarted.restart();
        restarted.run(4.0);
    }
    undisturbed.run(20.0);
    for stage in [&mut undisturbed, &mut restarted] {
        stage.run(30.0);
        assert_eq!(stage.active(), "primary");
    }
    let decided_at = |stage: &Stage| stage.store.route("orders").last_transition.unwrap().decided_at;
    assert_eq!(decided_at(&undisturbed), decided_at(&restarted));
}

#[test]
fn nothing_is_decided_before_everything_is_listed_and_probed() {
    let mut stage = Stage::new();
    for (kind, object) in quickstart() {
        stage.store.create(kind, object);
    }
    stage.watch();
    for source in Source::ALL.into_iter().skip(1) {
        stage.world.take(stage.now, Input::Synced(source));
    }
    stage.settle();
    assert_eq!((stage.store.writes, stage.targets.len()), (0, 0));
    stage.world.take(stage.now, Input::Synced(Source::ALL[0]));
    stage.settle();
    assert_eq!(stage.targets.len(), 2);
    assert!(stage.store.log.iter().all(|line| line.contains("FailoverPolicy")), "{:?}", stage.store.log);
    stage.run(0.2);
    assert_eq!(stage.active(), "primary");
}

#[test]
fn a_policy_or_backend_that_vanishes_or_turns_unreadable_leaves_the_last_good_decision() {
    for what in [("FailoverPolicy", "fast"), ("SendingBackend", "standby"), ("MailRoute", "orders")] {
        for is_deleted in [true, false] {
            if what.0 == "MailRoute" && is_deleted {
                continue;
            }
            let mut stage = Stage::with(&quickstart());
            stage.run(5.0);
            stage.answer("primary", EvidenceClass::NoAnswer);
            stage.run(5.0);
            let since = stage.store.route("orders").since;
            if is_deleted {
                stage.delete(what.0, what.1);
            } else {
                stage.edit(what.0, what.1, |object| match what.0 {
                    "FailoverPolicy" => object["spec"]["failback"] = json!({"mode": "Psychic"}),
                    "MailRoute" => object["spec"]["strategy"] = json!("Telepathy"),
                    _ => object["spec"]["smtp"]["tls"] = json!({"mode": "Quantum"}),
                });
            }
            stage.run(60.0);
            assert_eq!(stage.store.leads_to("mail-ipv4"), ["192.0.2.2"], "{what:?} deleted: {is_deleted}");
            let raw = &stage.store.objects[&("MailRoute", "orders".to_owned())];
            assert_eq!(
                raw["status"]["since"],
                serde_json::to_value(since.unwrap()).unwrap(),
                "{what:?} deleted: {is_deleted}"
            );
            if is_deleted {
                assert_eq!(stage.condition("Ready").0, "False", "{what:?}");
            } else {
                let changed = &stage.store.objects[&(what.0, what.1.to_owned())];
                let conditions = changed["status"]["conditions"].as_array().unwrap();
                assert!(
                    conditions.iter().any(|c| c["type"] == "Stalled" && c["status"] == "True"),
                    "{what:?} {changed}"
                );
                assert!(stage.store.events().contains(&"ConfigurationRejected".to_owned()), "{what:?}");
            }
            let writes = stage.store.writes;
            stage.run(60.0);
            assert_eq!(stage.store.writes, writes, "{what:?} deleted: {is_deleted}: {:?}", stage.store.log);
        }
    }
}

#[test]
fn a_deleted_backend_that_carries_the_mail_is_still_left_when_it_dies() {
    for is_echo_first in [false, true] {
        let mut stage = Stage::with(&quickstart());
        stage.is_echo_first = is_echo_first;
        stage.run(5.0);
        stage.delete("SendingBackend", "primary");
        stage.run(5.0);
        assert_eq!((stage.active(), stage.condition("Ready").1), ("primary".to_owned(), "BackendNotFound".to_owned()));
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(5.0);
        assert_eq!(stage.active(), "standby");
        stage.run(5.0);
        assert_eq!(stage.targets.len(), 1, "the deleted backend is probed no more (echo first: {is_echo_first})");
    }
}

#[test]
fn a_transition_is_counted_once_whether_or_not_the_echo_of_its_write_overtakes_the_answer() {
    for is_echo_first in [false, true] {
        let mut registry = Registry::default();
        let mut stage = Stage::new();
        stage.world = world_with(&mut registry);
        stage.is_echo_first = is_echo_first;
        for (kind, object) in &quickstart() {
            stage.store.create(kind, object.clone());
        }
        stage.sync();
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(5.0);
        assert_eq!(stage.active(), "standby");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (metric, labels) in [
            ("mail_failover_route_transitions_total", "kind=\"Failover\",reason=\"NoAnswer\"} 1"),
            ("mail_failover_route_actuation_duration_seconds_count", " 1"),
        ] {
            let line = text.lines().find(|line| line.starts_with(metric)).unwrap_or_default();
            assert!(line.ends_with(labels), "{metric}: {line:?} (echo first: {is_echo_first})");
        }
    }
}

#[test]
fn an_output_that_somebody_else_has_is_left_alone_and_said_so() {
    let mut objects = quickstart();
    objects.insert(
        0,
        (
            "Service",
            json!({"metadata": {"name": "mail"}, "spec": {"ports": [{"port": 25}], "selector": {"app": "mine"}}}),
        ),
    );
    let mut stage = Stage::with(&objects);
    stage.run(10.0);
    let service: Service = stage.store.get("Service", "mail").unwrap();
    assert_eq!(service.spec.unwrap().selector.unwrap()["app"], "mine");
    assert_eq!(stage.condition("OutputsApplied"), ("False".to_owned(), "OutputConflict".to_owned()));
    assert_eq!(stage.condition("Ready").0, "False");
    assert_eq!(stage.store.events(), ["OutputRefused"]);
    assert!(stage.store.get::<ConfigMap>("ConfigMap", "mail").is_some(), "the other output is written all the same");
    stage.delete("Service", "mail");
    stage.run(40.0);
    assert_eq!(stage.condition("Ready").0, "True");
    assert_eq!(stage.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
}

#[test]
fn of_two_routes_that_claim_one_target_the_older_keeps_it() {
    let mut objects = quickstart();
    let (kind, mut newer) = route();
    newer["metadata"]["name"] = json!("aaa-newer");
    newer["metadata"]["creationTimestamp"] = json!("2026-11-02T00:00:00Z");
    objects[3].1["metadata"]["creationTimestamp"] = json!("2026-11-01T00:00:00Z");
    objects.push((kind, newer));
    let mut stage = Stage::with(&objects);
    stage.run(10.0);
    assert_eq!(stage.condition("Ready").0, "True");
    let newer = stage.store.route("aaa-newer");
    let applied = newer.conditions.iter().find(|condition| condition.type_ == "OutputsApplied").unwrap();
    assert_eq!((applied.status.as_str(), applied.reason.as_str()), ("False", "OutputClaimed"));
    assert!(applied.message.contains("MailRoute orders"), "{}", applied.message);
    let owner = stage.store.get::<Service>("Service", "mail").unwrap();
    let orders: MailRoute = stage.store.get("MailRoute", "orders").unwrap();
    assert_eq!(owner.owner_references()[0].uid, orders.metadata.uid.unwrap());
    stage.delete("MailRoute", "orders");
    for id in [("Service", "mail"), ("EndpointSlice", "mail-ipv4"), ("ConfigMap", "mail")] {
        stage.delete(id.0, id.1);
    }
    stage.run(10.0);
    assert_eq!(
        stage.store.leads_to("mail-ipv4"),
        ["192.0.2.1"],
        "the garbage collector has passed, and the newer takes over"
    );
}

#[test]
fn drift_is_repaired_without_a_fight_that_hammers_the_api_server() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    stage.edit("ConfigMap", "mail", |object| object["data"]["SMTP_HOST"] = json!("198.51.100.66"));
    stage.run(1.0);
    let repaired: ConfigMap = stage.store.get("ConfigMap", "mail").unwrap();
    assert_eq!(repaired.data.unwrap()["SMTP_HOST"], "192.0.2.1");
    let before = stage.store.log.len();
    for _ in 0..600 {
        stage.edit("ConfigMap", "mail", |object| object["data"]["SMTP_HOST"] = json!("198.51.100.66"));
        stage.run(0.1);
    }
    let writes = stage.store.log[before..].iter().filter(|line| line.starts_with("write ConfigMap")).count();
    assert!((55..=80).contains(&writes), "{writes} writes in a minute");
}

#[test]
fn a_backend_behind_a_service_follows_its_ready_endpoints() {
    let service = json!({"metadata": {"name": "relay"}, "spec": {"ports": [{"name": "smtp", "port": 25}]}});
    let slice = |ready: bool| {
        json!({"metadata": {"name": "relay-1", "labels": {"kubernetes.io/service-name": "relay"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["203.0.113.7"], "conditions": {"ready": ready}}], "ports": [{"name": "smtp", "port": 2525}]})
    };
    let (kind, mut primary) = backend("primary", "192.0.2.1");
    primary["spec"]["smtp"] = Value::Null;
    primary["spec"]["service"] = json!({"name": "relay", "port": "smtp"});
    let objects = [policy(), (kind, primary), backend("standby", "192.0.2.2"), route(), ("Service", service)];
    let mut stage = Stage::with(&objects);
    stage.answer("primary", EvidenceClass::NoEndpoints);
    stage.run(5.0);
    assert_eq!(stage.active(), "standby");
    stage.store.create("EndpointSlice", slice(true));
    stage.answer("primary", EvidenceClass::Ok);
    stage.run(60.0);
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("primary".to_owned(), vec!["203.0.113.7".to_owned()])
    );
}

#[test]
fn what_an_earlier_term_left_under_way_is_not_taken_for_an_answer_in_a_later_one() {
    let mut stage = Stage::with(&quickstart());
    let effects = stage.world.settle(stage.now);
    stage.set_probes(effects.probes);
    stage.world.take(stage.now, Input::Leading(false));
    stage.world.take(stage.now, Input::Leading(true));
    for task in effects.steps {
        let is_route = task.subject.kind == SubjectKind::Route;
        assert_eq!(matches!(task.step, Step::Confirm), is_route, "a route is read afresh before anything else");
        let done = Done { result: Err(StepError::ClaimLost), id: task.id, subject: task.subject };
        stage.world.take(stage.now, Input::Done(Box::new(done)));
    }
    stage.run(5.0);
    assert_eq!(stage.active(), "primary");
}

#[test]
fn a_standby_that_takes_over_rewrites_nothing_that_is_still_true() {
    let (mut leader, mut standby) = (Stage::with(&quickstart()), Stage::with(&quickstart()));
    standby.world.take(standby.now, Input::Leading(false));
    // It probes on its own and sees everything a little later.
    standby.now = standby.now + Duration::from_millis(37);
    for stage in [&mut leader, &mut standby] {
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(10.0);
    }
    assert_eq!(standby.store.writes, 0, "a standby writes nothing");
    standby.store = leader.store;
    let writes = standby.store.writes;
    standby.run(1.0);
    standby.world.take(standby.now, Input::Leading(true));
    standby.run(10.0);
    assert_eq!(standby.store.writes, writes, "{:?}", &standby.store.log[writes..]);
}

/// Somebody's finalizer holds a deleted route back: its mail still flows and still fails over, but what the garbage collector has taken away
/// is not made anew.
#[test]
fn a_half_deleted_route_still_fails_over_and_makes_nothing_anew() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    stage.edit("MailRoute", "orders", |object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
        object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    });
    stage.delete("ConfigMap", "mail");
    stage.answer("primary", EvidenceClass::NoAnswer);
    stage.run(10.0);
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("standby".to_owned(), vec!["192.0.2.2".to_owned()])
    );
    assert!(stage.store.get::<ConfigMap>("ConfigMap", "mail").is_none());
    stage.delete("MailRoute", "orders");
    let writes = stage.store.writes;
    stage.run(10.0);
    let after: Vec<_> = stage.store.log[writes..].iter().filter(|line| !line.starts_with("status")).collect();
    assert_eq!(after, Vec::<&String>::new(), "nothing is left to do for a route that is gone");
}
