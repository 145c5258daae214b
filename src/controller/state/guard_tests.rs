//! Outputs and the guard on addresses: what a Service may lead to, and what is said otherwise.

use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::json;

use super::testing::*;
use super::{ControllerState, Settings};
use crate::controller::input::Input;
use crate::controller::metrics::Metrics;
use crate::observers::PeerEvent;
use mail_failover_core::model::{EvidenceClass, Timestamp};
use mail_failover_runtime::dial_guard::DialGuard;

fn denying(networks: &[&str]) -> ControllerState {
    let guard = DialGuard {
        deny_destinations: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..DialGuard::default()
    };
    let settings = Settings {
        instance: "test".to_owned(),
        installation: "ops/operator".into(),
        cluster_domain: "cluster.local".to_owned(),
        lease_duration: Duration::from_secs(15),
        guard,
        reports: None,
        jobs: None,
        dns_owner: "test".into(),
        default_notifications: None,
    };
    let mut state = ControllerState::new(settings, Metrics::new(&mut Registry::default()));
    state.handle(Timestamp::default(), Input::Leading(true));
    state.handle(Timestamp::default(), Input::Observer(PeerEvent::Listed));
    state
}

fn message(env: &TestEnv) -> String {
    let conditions = env.store.route("orders").conditions;
    conditions.into_iter().find(|condition| condition.type_ == "OutputsApplied").unwrap().message
}

/// The process begins again with these networks denied, and with what is stored.
fn restart_denying(env: &mut TestEnv, networks: &[&str]) {
    env.state = denying(networks);
    env.seen.clear();
    env.targets.clear();
    env.sync();
}

#[test]
fn no_service_leads_to_an_address_that_probes_may_not_connect_to() {
    for (host, port, told) in [
        ("168.63.129.16", 25, "168.63.129.16 is a metadata service of a cloud"),
        ("64:ff9b::a9fe:a9fe", 25, "64:ff9b::a9fe:a9fe leads to 169.254.169.254"),
        ("10.96.0.9", 25, "10.96.0.9 is in 10.96.0.0/12, which --deny-destinations names"),
        ("192.0.2.9", 6379, "192.0.2.9:6379 has none of the allowed ports"),
    ] {
        let mut objects = quickstart();
        objects[1].1["spec"]["smtp"] = json!({"host": host, "port": port});
        let mut env = TestEnv::new();
        env.state = denying(&["10.96.0.0/12"]);
        for (kind, object) in objects {
            env.store.create(kind, object);
        }
        env.sync();
        env.run(10.0);
        assert_eq!(env.active(), "primary", "its probes are answered here, whatever the guard says");
        assert!(env.store.leads_to("mail-ipv4").is_empty() && env.store.leads_to("mail-ipv6").is_empty());
        assert_eq!(env.condition("OutputsApplied"), ("False".to_owned(), "DestinationRefused".to_owned()));
        assert!(message(&env).contains(told), "{}", message(&env));
        assert!(message(&env).starts_with("spec.backends[].name: no endpoint can be made of primary"));
        let reported = env.store.events().into_iter().filter(|reason| reason == "OutputRefused").count();
        assert_eq!(reported, 1);
        // The next one may be led to.
        env.answer("primary", EvidenceClass::ConnectionRefused);
        env.run(30.0);
        assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
        assert_eq!(env.condition("OutputsApplied").0, "True");
    }
}

#[test]
fn endpoints_that_are_denied_later_are_taken_away() {
    let mut env = TestEnv::with(&quickstart());
    env.run(10.0);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
    restart_denying(&mut env, &["192.0.2.1"]);
    env.run(10.0);
    assert!(env.store.leads_to("mail-ipv4").is_empty());
    assert_eq!(env.condition("OutputsApplied"), ("False".to_owned(), "DestinationRefused".to_owned()));
    let writes = env.store.writes;
    env.run(60.0);
    assert_eq!(env.store.writes, writes, "and then nothing changes any more");
}

#[test]
fn a_name_that_stands_for_refused_addresses_for_a_while_leaves_a_service_as_it_is() {
    let mut env = TestEnv::with(&quickstart());
    env.run(10.0);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
    env.edit("SendingBackend", "primary", |object| object["spec"]["smtp"]["host"] = json!("168.63.129.16"));
    env.run(10.0);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
    assert_eq!(env.condition("OutputsApplied"), ("False".to_owned(), "DestinationRefused".to_owned()));
}
