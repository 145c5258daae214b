//! Trials of several backends that share the mail: by weight, and by the capacity of each.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff;
use mail_failover_api::{RouteState, StrategySpec, TransitionKind};
use mail_failover_e2e::assertions::{data, start_operator, wait_event};
use mail_failover_e2e::fixture::{condition, events};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

use super::fixture::{DecisionFixture, explains, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("ActiveActive shares mail by weight, and the share of a dead one goes to the others", by_weight)
            .listens(),
        trial("what exceeds a backend's limit goes to the next ones, and what fits nowhere is named", overflow)
            .listens(),
        trial("with ActiveActive what one cannot take goes to the others by weight", limited_weight).listens(),
        trial("a backend gets more with each day of its warm-up", warm_up).listens(),
    ]
}

async fn by_weight(env: Arc<TestEnv>) -> Result<()> {
    let backends = [("a", json!({})), ("b", json!({})), ("c", json!({}))];
    let weighted = json!([{ "name": "a" }, { "name": "b" }, { "name": "c", "weight": 50 }]);
    let shared = json!({ "strategy": "ActiveActive", "backends": weighted });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), shared).await?;
    let all = [("a", 40), ("b", 40), ("c", 20)];
    let _operator = start_operator(&env, &[]).await?;
    let status = fixture.active(&all).await?;
    ensure!(status.state == Some(RouteState::Preferred), "{status:?}");
    ensure!(status.strategy == Some(StrategySpec::ActiveActive) && status.history.is_empty(), "{status:?}");
    ensure!(status.message.as_ref().is_some_and(|text| text.contains("a (40 %)")), "{status:?}");
    fixture.leads_to(&["a", "b", "c"]).await?;
    fixture.column_is("STRATEGY", "ActiveActive").await?;

    fixture.server("b").crash().await?;
    let status = fixture.active(&[("a", 67), ("c", 33)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(condition(&status, "FailedOver") == ("True".into(), "ConnectionRefused".into()), "{status:?}");
    let last = status.last_transition.context("a transition")?;
    ensure!(last.kind == TransitionKind::Failover && last.from == "b" && last.to == "a", "{last:?}");
    fixture.leads_to(&["a", "c"]).await?;
    let told = wait_event(&env, "orders", "FailedOver").await?;
    ensure!(told.contains("b → a: ConnectionRefused"), "{told}");

    fixture.server("a").crash().await?;
    fixture.active(&[("c", 100)]).await?;
    fixture.leads_to(&["c"]).await?;
    ensure!(data(&env, "mail").await?["SENDING_BACKEND"] == "c");
    fixture.server("a").repair().await?;
    fixture.active(&[("a", 67), ("c", 33)]).await?;
    fixture.server("b").repair().await?;
    let status = fixture.active(&all).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    fixture.leads_to(&["a", "b", "c"]).await?;
    let told = events(&env, "orders").await?;
    ensure!(told == ["FailedOver", "FailedOver", "FailedBack", "FailedBack"], "{told:?}");
    Ok(())
}

fn a_second(messages: u32) -> Value {
    json!({ "limits": { "messagesPerSecond": messages } })
}

async fn overflow(env: Arc<TestEnv>) -> Result<()> {
    let backends = [("primary", a_second(30)), ("second", a_second(40)), ("third", json!({}))];
    let traffic = json!({ "traffic": { "peakPerSecond": 100 } });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), traffic).await?;
    let _operator = start_operator(&env, &[]).await?;
    let status = fixture.active(&[("primary", 30), ("second", 40), ("third", 30)]).await?;
    ensure!(status.state == Some(RouteState::Preferred) && status.unplaced_percent.is_none(), "{status:?}");
    let overflow: Vec<_> = status.active.iter().map(|active| active.overflow).collect();
    ensure!(overflow == [false, true, true], "{status:?}");
    explains(&status, "second carries the 40 % that do not fit elsewhere")?;
    fixture.leads_to(&["primary", "second", "third"]).await?;
    // The failure of a backend that only carries overflow is no transition.
    fixture.server("third").crash().await?;
    let status = fixture.active(&[("primary", 30), ("second", 40)]).await?;
    ensure!(status.unplaced_percent == Some(30) && status.history.is_empty(), "{status:?}");
    ensure!(status.state == Some(RouteState::Preferred), "{status:?}");
    explains(&status, "30 % of the mail have nowhere to go")?;
    fixture.server("primary").crash().await?;
    let status = fixture.active(&[("second", 40)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(status.unplaced_percent == Some(60) && !status.active[0].overflow, "{status:?}");
    fixture.leads_to(&["second"]).await?;
    // Without an estimate of the traffic, any backend can carry all of it.
    fixture.change_route(json!({ "traffic": null })).await?;
    let status = fixture.active(&[("second", 100)]).await?;
    ensure!(status.unplaced_percent.is_none(), "{status:?}");
    Ok(())
}

async fn limited_weight(env: Arc<TestEnv>) -> Result<()> {
    // A tenth of the day's messages, half of a second's: the smaller part counts.
    let limits = json!({ "limits": { "messagesPerDay": 100, "messagesPerSecond": 5 } });
    let backends = [("a", limits), ("b", json!({})), ("c", json!({}))];
    let weighted =
        json!([{ "name": "a", "weight": 100 }, { "name": "b", "weight": 100 }, { "name": "c", "weight": 50 }]);
    let shared = json!({ "strategy": "ActiveActive", "backends": weighted, "traffic": { "messagesPerDay": 1000, "peakPerSecond": 10 } });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), shared).await?;
    let _operator = start_operator(&env, &[]).await?;
    let status = fixture.active(&[("a", 10), ("b", 60), ("c", 30)]).await?;
    ensure!(status.active.iter().all(|active| !active.overflow), "{status:?}");
    fixture.server("b").crash().await?;
    fixture.active(&[("a", 10), ("c", 90)]).await?;
    fixture.leads_to(&["c"]).await?;
    fixture.change_backend("c", json!({ "limits": { "messagesPerDay": 500 } })).await?;
    let status = fixture.active(&[("a", 10), ("c", 50)]).await?;
    ensure!(status.unplaced_percent == Some(40), "{status:?}");
    Ok(())
}

async fn warm_up(env: Arc<TestEnv>) -> Result<()> {
    // The first day ends soon, but an operator has started by then, also on a busy machine.
    let second_day = jiff::Timestamp::now() + Duration::from_secs(30);
    let started_at = second_day - Duration::from_hours(24);
    let warming = json!({ "limits": { "warmUp": {
        "startedAt": jiff::Timestamp::from_second(started_at.as_second())?.to_string(), "schedule": [100, 500] } } });
    let backends = [("fresh", warming), ("old", json!({}))];
    let traffic = json!({ "traffic": { "messagesPerDay": 1000 } });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), traffic).await?;
    let _operator = start_operator(&env, &[]).await?;
    fixture.until("to be on the first day", |status| shares(status) == [("fresh", 10), ("old", 90)]).await?;
    // Only time ends it.
    let status = fixture.active(&[("fresh", 50), ("old", 50)]).await?;
    // Long before any other event would cause a reconcile.
    let late = jiff::Timestamp::now().duration_since(jiff::Timestamp::from_second(second_day.as_second())?);
    ensure!(!late.is_negative() && late.as_secs() < 20, "{late:?} late");
    ensure!(status.history.is_empty() && status.state == Some(RouteState::Preferred), "{status:?}");
    ensure!(status.active[1].overflow, "{status:?}");
    fixture.leads_to(&["fresh", "old"]).await?;
    // The warm-up ended yesterday.
    let long_ago = jiff::Timestamp::from_second((started_at - Duration::from_hours(48)).as_second())?.to_string();
    fixture.change_backend("fresh", json!({ "limits": { "warmUp": { "startedAt": long_ago } } })).await?;
    fixture.active(&[("fresh", 100)]).await?;
    fixture.leads_to(&["fresh"]).await
}
