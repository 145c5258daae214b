//! Tests of backends that real mail has condemned at a stage, and of what acquits them, in virtual time.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::deliveries_tests::{env, failing, primary, say, verdict};
use super::testing::*;
use mail_failover_api::Health;
use mail_failover_contract::routing::parse;
use mail_failover_core::model::{DeliveryStage, DeliveryVerdict, EvidenceClass, FailingDeliveries};

/// Backends of the agents' document that single messages may try though they carry no mail.
fn on_trial(env: &TestEnv) -> Vec<String> {
    let config_map: ConfigMap = env.store.get("ConfigMap", "orders-agent").unwrap();
    let routing = parse(&config_map.data.unwrap()["agent.json"]).unwrap();
    let tried = routing.backends.iter().filter(|backend| backend.trial);
    tried.map(|backend| backend.name.to_string()).collect()
}

/// An account that is paused: the refusal came at the end of the data.
fn paused(env: &TestEnv) -> DeliveryVerdict {
    let DeliveryVerdict::Failing(failing) = failing(env, EvidenceClass::AccountPaused) else {
        unreachable!("that is what it makes")
    };
    DeliveryVerdict::Failing(FailingDeliveries { stage: Some(DeliveryStage::Data), ..failing })
}

/// A route that was failed over for it, long after every cooldown and soak.
fn condemned() -> TestEnv {
    let mut env = env();
    let word = paused(&env);
    say(&mut env, "a", 1, word);
    env.settle();
    assert_eq!(env.active(), "standby");
    say(&mut env, "a", 2, DeliveryVerdict::Silent);
    env.run(300.0);
    env
}

#[test]
fn probes_that_find_nothing_wrong_acquit_no_account_that_real_mail_found_paused() {
    let mut env = condemned();
    assert_eq!((env.active(), verdict(&env, "smtp")), ("standby".to_owned(), Some(Health::Healthy)));
    let deliveries = primary(&env).probes.into_iter().find(|of| of.name == "deliveries").unwrap();
    let condemned = deliveries.condemned.unwrap();
    assert_eq!((condemned.stage.as_str(), condemned.reason.as_str()), ("DATA", "AccountPaused"));
    assert_eq!(on_trial(&env), ["primary"], "one message at a time may try it");
    // A new process goes on where this one stopped.
    env.restart();
    env.run(120.0);
    assert_eq!((env.active(), verdict(&env, "deliveries")), ("standby".to_owned(), Some(Health::Unhealthy)));
    assert_eq!(on_trial(&env), ["primary"]);
    let writes = env.store.writes;
    env.run(120.0);
    assert_eq!(env.store.writes, writes, "quiet when nothing happens: {:?}", &env.store.log[writes..]);
}

#[test]
fn a_message_that_is_taken_acquits_it_and_the_soak_starts_there() {
    let mut env = condemned();
    say(&mut env, "a", 3, DeliveryVerdict::Passing);
    env.settle();
    assert_eq!((primary(&env).health, env.active()), (Some(Health::Healthy), "standby".to_owned()));
    assert_eq!(on_trial(&env), Vec::<String>::new());
    env.run(25.0);
    assert_eq!(env.active(), "standby", "a soak of 30 s");
    env.run(10.0);
    assert_eq!(env.active(), "primary");
}

#[test]
fn a_persons_failback_acquits_it_once() {
    let mut env = condemned();
    let ask = json!({"mailfailover.io/request": r#"{"id": "1", "action": "Failback"}"#});
    env.edit("MailRoute", "orders", |object| object["metadata"]["annotations"] = ask);
    env.run(2.0);
    assert_eq!((env.active(), primary(&env).health), ("primary".to_owned(), Some(Health::Healthy)));
    // The account is still paused, and the request is answered.
    env.run(60.0);
    let word = paused(&env);
    say(&mut env, "a", 4, word);
    env.run(60.0);
    assert_eq!((env.active(), primary(&env).health), ("standby".to_owned(), Some(Health::Unhealthy)));
}

#[test]
fn a_pause_keeps_messages_from_trying() {
    let mut env = condemned();
    let ask = json!({"mailfailover.io/request": r#"{"id": "1", "action": "Pause"}"#});
    env.edit("MailRoute", "orders", |object| object["metadata"]["annotations"] = ask);
    env.run(5.0);
    assert_eq!(on_trial(&env), Vec::<String>::new());
}

#[test]
fn a_person_is_asked_once_when_no_agent_has_been_heard_for_a_day() {
    let mut env = condemned();
    let told = |env: &TestEnv| env.store.events().into_iter().filter(|reason| reason == "TrialWanted").count();
    env.run_by(Duration::from_mins(1), 86_000.0);
    assert_eq!((told(&env), env.active()), (0, "standby".to_owned()));
    env.run_by(Duration::from_mins(1), 3600.0);
    assert_eq!((told(&env), env.active()), (1, "standby".to_owned()));
    env.restart();
    env.run_by(Duration::from_mins(1), 2.0 * 86_400.0);
    assert_eq!(told(&env), 1, "under the same name");
}
