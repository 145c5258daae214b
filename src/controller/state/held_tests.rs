//! Mail that stays with a backend that cannot deliver, or that has left the list: what people are told, and what ends it.

use serde_json::json;

use super::testing::*;
use mail_failover_api::RouteState;
use mail_failover_core::model::EvidenceClass;

fn ask(env: &mut TestEnv, request: &serde_json::Value) {
    env.edit("MailRoute", "orders", |object| {
        object["metadata"]["annotations"] = json!({"mailfailover.io/request": request.to_string()});
    });
    env.run(1.0);
}

/// Number of Events that say that mail is held.
fn told(env: &TestEnv) -> usize {
    env.store.events().iter().filter(|reason| *reason == "HeldOnDeadBackend").count()
}

#[test]
fn a_standby_that_is_awaited_for_longer_than_a_minute_is_told_once_and_looked_at_until_it_answers() {
    for is_restarted in [false, true] {
        let mut objects = quickstart();
        objects[2].1["spec"]["probes"][0]["interval"] = json!("15m");
        let mut env = TestEnv::with(&objects);
        env.run(20.0);
        env.answer("primary", EvidenceClass::NoAnswer);
        env.answer("standby", EvidenceClass::NoAnswer);
        env.run(20.0);
        let momentary = ("False".to_owned(), "AwaitingConfirmation".to_owned());
        assert_eq!((env.condition("Ready"), told(&env)), (momentary, 0), "most failovers pass through it");
        let status = env.store.route("orders");
        assert_eq!((status.state, env.active()), (Some(RouteState::Holding), "primary".to_owned()));
        let since = status.waiting_for.unwrap().since.unwrap();
        if is_restarted {
            env.restart();
        }
        env.run(60.0);
        let lasting = ("False".to_owned(), "HeldOnDeadBackend".to_owned());
        assert_eq!((env.condition("Ready"), told(&env)), (lasting.clone(), 1), "restarted: {is_restarted}");
        let status = env.store.route("orders");
        assert_eq!(status.waiting_for.unwrap().since, Some(since), "the same hold goes on");
        let message = status.message.unwrap();
        assert!(message.contains("AwaitingConfirmation") && message.contains("\"to\":\"standby\""), "{message}");
        let writes = env.store.writes;
        env.run(60.0);
        assert_eq!((env.condition("Ready"), told(&env)), (lasting, 1));
        assert_eq!(env.store.writes, writes, "{:?}", &env.store.log[writes..]);
        env.answer("standby", EvidenceClass::Ok);
        // Much sooner than at its interval.
        env.run(250.0);
        assert_eq!((env.active(), env.condition("Ready").0), ("standby".to_owned(), "True".to_owned()));
    }
}

#[test]
fn a_route_is_not_ready_while_a_pause_keeps_mail_on_a_backend_that_has_left_the_list() {
    for is_restarted in [false, true] {
        let mut env = TestEnv::with(&quickstart());
        env.run(5.0);
        ask(&mut env, &json!({"id": "1", "action": "Pause"}));
        assert_eq!(env.condition("Ready").0, "True");
        env.edit("MailRoute", "orders", |object| object["spec"]["backends"] = json!([{"name": "standby"}]));
        env.run(5.0);
        if is_restarted {
            env.restart();
            env.run(5.0);
        }
        let held = ("False".to_owned(), "HeldOnDeadBackend".to_owned());
        assert_eq!((env.active(), env.condition("Ready"), told(&env)), ("primary".to_owned(), held, 1));
        let status = env.store.route("orders");
        assert_eq!(status.state, Some(RouteState::Holding));
        let message = status.message.unwrap();
        assert!(message.contains("primary is no longer in spec.backends"), "{message}");
        assert!(message.contains("\"action\":\"Resume\""), "{message}");
        ask(&mut env, &json!({"id": "2", "action": "Resume"}));
        env.run(5.0);
        assert_eq!((env.active(), env.condition("Ready").0), ("standby".to_owned(), "True".to_owned()));
    }
}

#[test]
fn a_forced_switch_ends_when_its_backend_leaves_the_list() {
    for is_restarted in [false, true] {
        let mut env = TestEnv::with(&quickstart());
        env.run(5.0);
        ask(&mut env, &json!({"id": "1", "action": "Switch", "to": "standby", "force": true}));
        env.answer("standby", EvidenceClass::NoAnswer);
        env.run(20.0);
        assert_eq!((env.active(), env.condition("Ready").0), ("standby".to_owned(), "False".to_owned()));
        env.edit("MailRoute", "orders", |object| object["spec"]["backends"] = json!([{"name": "primary"}]));
        if is_restarted {
            env.restart();
        }
        env.run(5.0);
        let status = env.store.route("orders");
        assert_eq!((env.active(), status.switch.is_none()), ("primary".to_owned(), true), "restarted: {is_restarted}");
        assert_eq!(env.condition("Ready").0, "True");
    }
}
