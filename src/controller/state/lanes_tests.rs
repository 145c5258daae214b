//! Writes that take time, or hang: decisive ones wait for nobody else's.

use std::time::Duration;

use serde_json::{Value, json};

use super::Effects;
use super::testing::*;
use crate::controller::action::{Action, ActionError, ActionRequest, ActionResult, ResourceKind};
use crate::controller::input::Input;
use mail_failover_core::model::{EvidenceClass, Timestamp};

const STEP: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(5);

/// Time that an action takes; `None` if it hangs until its deadline and fails.
type Latency = fn(&ActionRequest) -> Option<Duration>;

/// An environment in which actions take time.
struct SlowEnv {
    env: TestEnv,
    latency: Latency,
    under_way: Vec<(Timestamp, ActionRequest)>,
}

impl SlowEnv {
    fn with(objects: &[(&'static str, Value)], latency: Latency) -> Self {
        let mut env = TestEnv::with(objects);
        env.run(0.5);
        Self { env, latency, under_way: vec![] }
    }

    /// Runs until something is so. Returns the seconds that it took; `None` if it was not so in time.
    fn run_until(&mut self, seconds: f64, is_so: impl Fn(&TestEnv) -> bool) -> Option<f64> {
        let began = self.env.now;
        while self.env.now < began + Duration::from_secs_f64(seconds) {
            self.env.now = self.env.now + STEP;
            self.env.probe();
            self.finish_actions();
            self.env.state.handle_timeout(self.env.now);
            let Effects { actions, probes, .. } = self.env.state.poll(self.env.now);
            self.env.set_probes(probes);
            for request in actions {
                let ends_at = self.env.now + (self.latency)(&request).unwrap_or(DEADLINE);
                self.under_way.push((ends_at, request));
            }
            if is_so(&self.env) {
                return Some(self.env.now.since(began).as_secs_f64());
            }
        }
        None
    }

    fn run(&mut self, seconds: f64) {
        self.run_until(seconds, |_| false);
    }

    fn finish_actions(&mut self) {
        let now = self.env.now;
        let (ended, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= now);
        self.under_way = rest;
        for (_, request) in ended {
            let result = match (self.latency)(&request) {
                Some(_) => self.env.store.carry_out(request).unwrap(),
                None => timed_out(request),
            };
            self.env.state.handle(now, Input::Result(Box::new(result)));
        }
    }
}

fn timed_out(ActionRequest { id, resource, action }: ActionRequest) -> ActionResult {
    let timeout = ActionError::Timeout(DEADLINE);
    let error = match action {
        Action::WriteOutputs { .. } => ActionError::OutputsIncomplete { written: vec![], cause: Box::new(timeout) },
        Action::Confirm | Action::WriteStatus { .. } | Action::PublishEvents(_) | Action::RunJob { .. } => timeout,
    };
    ActionResult { id, resource, outcome: Err(error) }
}

fn in_namespace(namespace: &str, (kind, mut object): (&'static str, Value)) -> (&'static str, Value) {
    object["metadata"]["namespace"] = json!(namespace);
    (kind, object)
}

fn route_to(name: &str, policy: &str, backends: &[&str]) -> (&'static str, Value) {
    let backends: Vec<_> = backends.iter().map(|name| json!({"name": name})).collect();
    let spec = json!({"policyRef": {"name": policy}, "backends": backends, "outputs": [{"configMap": {"name": name, "format": "Env"}}]});
    let metadata = json!({"name": name});
    let object =
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute", "metadata": metadata, "spec": spec});
    ("MailRoute", object)
}

/// So many routes in `shop` by one provider, and the route `zz` in a namespace of its own, by another.
fn crowd(routes: usize) -> Vec<(&'static str, Value)> {
    let mut objects =
        vec![policy(), backend("primary", "192.0.2.1"), backend("standby", "192.0.2.2"), backend("third", "192.0.2.3")];
    for number in 0..routes {
        objects.push(route_to(&format!("r{number:04}"), "fast", &["primary", "standby", "third"]));
    }
    let mut own_policy = policy();
    own_policy.1["metadata"]["name"] = json!("fast-too");
    for own in [
        own_policy,
        backend("zz-primary", "192.0.2.4"),
        backend("zz-standby", "192.0.2.5"),
        route_to("zz", "fast-too", &["zz-primary", "zz-standby"]),
    ] {
        objects.push(in_namespace("zz", own));
    }
    objects
}

fn host_of<'a>(env: &'a TestEnv, route: &str) -> Option<&'a str> {
    env.store.objects.get(&("ConfigMap", route.to_owned()))?["data"]["SMTP_HOST"].as_str()
}

fn on_host(env: &TestEnv, host: &str) -> usize {
    let of_crowd = env.store.objects.iter().filter(|((kind, name), _)| *kind == "ConfigMap" && name.starts_with('r'));
    of_crowd.filter(|(_, object)| object["data"]["SMTP_HOST"] == host).count()
}

#[expect(clippy::unnecessary_wraps, reason = "it is a Latency")]
fn prompt(_: &ActionRequest) -> Option<Duration> {
    Some(STEP)
}

fn events_hang(request: &ActionRequest) -> Option<Duration> {
    (!matches!(request.action, Action::PublishEvents(_))).then_some(STEP)
}

fn outputs_of_shop_hang(request: &ActionRequest) -> Option<Duration> {
    let is_output = matches!(request.action, Action::WriteOutputs { .. });
    (!(is_output && &*request.resource.key.namespace == "shop")).then_some(STEP)
}

#[expect(clippy::unnecessary_wraps, reason = "it is a Latency")]
fn slow(_: &ActionRequest) -> Option<Duration> {
    Some(Duration::from_millis(500))
}

/// Seconds from the death of the crowd's provider until the mail of all its routes goes by the next one.
fn seconds_to_leave(routes: usize, latency: Latency) -> Option<f64> {
    let mut slow_env = SlowEnv::with(&crowd(routes), latency);
    slow_env.run(3.0);
    slow_env.env.answer("primary", EvidenceClass::ConnectionRefused);
    slow_env.run_until(60.0, |env| on_host(env, "192.0.2.2") == routes)
}

/// Seconds from the death of zz's provider until its mail goes by the next one, a while after that of the crowd's.
fn seconds_of_zz(routes: usize, latency: Latency, seconds_between: f64) -> Option<f64> {
    let mut slow_env = SlowEnv::with(&crowd(routes), latency);
    slow_env.run(3.0);
    slow_env.env.answer("primary", EvidenceClass::ConnectionRefused);
    slow_env.run(seconds_between);
    slow_env.env.answer("zz-primary", EvidenceClass::ConnectionRefused);
    slow_env.run_until(60.0, |env| host_of(env, "zz") == Some("192.0.2.5"))
}

#[test]
fn a_dead_provider_is_bypassed_by_all_its_routes_as_fast_while_events_cannot_be_stored() {
    let without = seconds_to_leave(400, prompt).unwrap();
    let with = seconds_to_leave(400, events_hang).unwrap();
    assert!(with <= without * 1.5, "{with} s while Events hang, {without} s otherwise");
}

#[test]
fn a_second_outage_is_left_while_the_events_of_the_first_one_hang() {
    let mut slow_env = SlowEnv::with(&crowd(120), events_hang);
    slow_env.run(3.0);
    slow_env.env.answer("primary", EvidenceClass::ConnectionRefused);
    slow_env.run(30.0);
    slow_env.env.answer("standby", EvidenceClass::ConnectionRefused);
    let took = slow_env.run_until(60.0, |env| on_host(env, "192.0.2.3") == 120).unwrap();
    assert!(took <= 5.0, "{took}");
}

#[test]
fn statuses_say_what_is_so_while_events_cannot_be_stored() {
    let mut slow_env = SlowEnv::with(&crowd(100), events_hang);
    slow_env.run(3.0);
    slow_env.env.answer("primary", EvidenceClass::ConnectionRefused);
    let left_at = slow_env.run_until(60.0, |env| on_host(env, "192.0.2.2") == 100).unwrap();
    slow_env.run(7.0);
    for number in 0..100 {
        let status = slow_env.env.store.route(&format!("r{number:04}"));
        let last = status.last_transition.unwrap();
        let took = last.applied_at.unwrap().0.duration_since(last.decided_at.0).as_secs_f64();
        assert!(took <= left_at, "{took}: an output was written before {left_at} s");
        assert!(
            status.conditions.iter().any(|condition| condition.type_ == "OutputsApplied" && condition.status == "True")
        );
        assert!(!status.pending_events.is_empty(), "its Events are not forgotten");
    }
    let primary = &slow_env.env.store.objects[&("SendingBackend", "primary".to_owned())];
    assert_eq!(primary["status"]["health"], "Unhealthy");
    // The store is back.
    slow_env.latency = prompt;
    slow_env.run(30.0);
    assert_eq!(slow_env.env.store.events().iter().filter(|reason| *reason == "FailedOver").count(), 100);
    assert!((0..100).all(|number| slow_env.env.store.route(&format!("r{number:04}")).pending_events.is_empty()));
}

#[test]
fn outputs_of_one_namespace_that_hang_delay_no_route_of_another() {
    let alone = seconds_of_zz(0, prompt, 20.0).unwrap();
    for seconds_between in [0.0, 1.0, 20.0] {
        let beside = seconds_of_zz(100, outputs_of_shop_hang, seconds_between).unwrap();
        let alone_then = seconds_of_zz(0, prompt, seconds_between).unwrap();
        assert!(beside <= alone_then, "{beside} s, {seconds_between} s after the others; alone {alone} s");
    }
}

#[test]
fn outputs_that_hang_keep_a_neighbour_in_their_namespace_waiting_for_their_first_attempts_alone() {
    fn outputs_of_crowd_hang(request: &ActionRequest) -> Option<Duration> {
        let is_output = matches!(request.action, Action::WriteOutputs { .. });
        (!(is_output && request.resource.key.name.starts_with('r'))).then_some(STEP)
    }
    let mut objects = crowd(100);
    objects.extend([backend("near-primary", "192.0.2.6"), route_to("near", "fast", &["near-primary", "standby"])]);
    let mut slow_env = SlowEnv::with(&objects, outputs_of_crowd_hang);
    slow_env.run(3.0);
    slow_env.env.answer("primary", EvidenceClass::ConnectionRefused);
    slow_env.run(30.0);
    slow_env.env.answer("near-primary", EvidenceClass::ConnectionRefused);
    let took = slow_env.run_until(60.0, |env| host_of(env, "near") == Some("192.0.2.2")).unwrap();
    assert!(took <= 4.0, "{took}");
}

#[test]
fn decisive_writes_come_before_all_others_when_every_call_is_slow() {
    let alone = seconds_of_zz(0, slow, 0.0).unwrap();
    let beside = seconds_of_zz(500, slow, 0.0).unwrap();
    assert!(beside <= alone, "a route of another namespace: {beside} s beside 500 that switch, {alone} s alone");
    // 500 routes with two decisive writes each: 32 at a time of one namespace in each of the two lanes, 3 s to detect.
    let all = seconds_to_leave(500, slow).unwrap();
    assert!(all <= 3.0 + 500.0 / 32.0 * 0.5 + 2.0, "{all} s until the last of 500 has left");
    let mut slow_env = SlowEnv::with(&crowd(500), slow);
    slow_env.run(3.0);
    slow_env.env.answer("primary", EvidenceClass::ConnectionRefused);
    slow_env.run(5.0);
    assert!(on_host(&slow_env.env, "192.0.2.2") > 0, "the first have left before the last have decided");
}

#[test]
fn a_new_leader_reads_only_the_route_whose_provider_has_died() {
    let mut env = TestEnv::with(&crowd(100));
    env.run(5.0);
    env.state.handle(env.now, Input::Leading(false));
    env.answer("zz-primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    env.state.handle(env.now, Input::Leading(true));
    let effects = env.state.poll(env.now);
    env.set_probes(effects.probes);
    let of_routes = effects.actions.iter().filter(|request| request.resource.kind == ResourceKind::Route);
    let of_routes: Vec<_> = of_routes.map(|request| (&*request.resource.key.name, request.action.as_str())).collect();
    assert_eq!(of_routes, [("zz", "Confirm")]);
    for request in effects.actions {
        let result = env.store.carry_out(request).unwrap();
        env.state.handle(env.now, Input::Result(Box::new(result)));
    }
    env.settle();
    assert_eq!((host_of(&env, "zz"), on_host(&env, "192.0.2.1")), (Some("192.0.2.5"), 100));
}

#[test]
fn the_oldest_evidence_comes_first_whatever_the_names() {
    let mut objects = crowd(100);
    objects.extend([backend("near-primary", "192.0.2.6"), route_to("z-near", "fast", &["near-primary", "standby"])]);
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    env.state.handle(env.now, Input::Leading(false));
    env.answer("near-primary", EvidenceClass::ConnectionRefused);
    env.run(2.0);
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    env.state.handle(env.now, Input::Leading(true));
    let mut began = vec![];
    // Who waits for a place is read before the first of them decides.
    for _ in 0..3 {
        let effects = env.state.poll(env.now);
        env.set_probes(effects.probes);
        let of_routes = effects.actions.iter().filter(|request| request.resource.kind == ResourceKind::Route);
        began.extend(of_routes.map(|request| (request.resource.key.name.to_string(), request.action.as_str())));
        for request in effects.actions {
            let result = env.store.carry_out(request).unwrap();
            env.state.handle(env.now, Input::Result(Box::new(result)));
        }
    }
    // One namespace has half of the places, 32 of 64.
    assert_eq!(began[0], ("z-near".to_owned(), "Confirm"));
    assert_eq!(began[1], ("r0000".to_owned(), "Confirm"), "of equals the first by name");
    let decided = began[32..].iter().find(|(_, action)| *action == "WriteStatus");
    assert_eq!(decided.map(|(name, _)| name.as_str()), Some("z-near"), "{began:?}");
}

#[test]
fn no_lane_exceeds_its_bound() {
    let mut slow_env = SlowEnv::with(&crowd(300), slow);
    slow_env.run(3.0);
    slow_env.env.answer("primary", EvidenceClass::ConnectionRefused);
    for _ in 0..400 {
        slow_env.run(0.05);
        let mut counts = std::collections::BTreeMap::new();
        for (_, request) in &slow_env.under_way {
            let is_route = request.resource.kind == ResourceKind::Route;
            *counts.entry((is_route, request.action.as_str())).or_insert(0) += 1;
        }
        assert!(counts.get(&(true, "WriteOutputs")).is_none_or(|count| *count <= 64), "{counts:?}");
        assert!(counts.get(&(true, "PublishEvents")).is_none_or(|count| *count <= 16), "{counts:?}");
        // Decisions, their second attempts, and the rest of status.
        assert!(counts.get(&(true, "WriteStatus")).is_none_or(|count| *count <= 64 + 32 + 16), "{counts:?}");
    }
}
