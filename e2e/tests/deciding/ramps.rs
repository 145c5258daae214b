//! Trials of a return in steps.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::{MailRouteStatus, RouteState, TransitionKind};
use mail_failover_e2e::assertions::{data, start_operator};
use mail_failover_e2e::fixture::events;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

use super::fixture::{DecisionFixture, held_by, held_until, is_settled, later, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("mail returns in the steps of the ramp, and the Service follows as closely as it can", steps).listens(),
        trial("a failure in a ramp falls back at once", fails).listens(),
        trial("a ramp whose old side dies is over", old_side_fails).listens(),
        trial("with ActiveActive the share of a backend that returns grows in steps", shared).listens(),
    ]
}

fn ramp(steps: &[(u32, &str)]) -> Value {
    let steps: Vec<_> = steps.iter().map(|(percent, length)| json!({ "percent": percent, "for": length })).collect();
    json!({ "failback": { "ramp": steps } })
}

/// Returns true if this step is in force, with all of its outputs written.
fn is_at(status: &MailRouteStatus, step: i32) -> bool {
    status.ramp.as_ref().is_some_and(|ramp| ramp.step == step) && is_settled(status)
}

async fn steps(env: Arc<TestEnv>) -> Result<()> {
    // Long enough for all checks of a step, also on a busy machine.
    const STEP: Duration = Duration::from_secs(15);
    let fixture = DecisionFixture::of_two(env.clone(), ramp(&[(10, "15s"), (50, "15s")])).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;

    let first = fixture.until("to begin to return", |status| is_at(status, 0)).await?;
    ensure!(shares(&first) == [("primary", 10), ("standby", 90)], "{first:?}");
    stands(&first, RouteState::FailingBack, "Recovered")?;
    fixture.column_is("STATE", "FailingBack").await?;
    let ramp = first.ramp.as_ref().context("a ramp")?;
    let last = first.last_transition.as_ref().context("a transition")?;
    ensure!(ramp.to == ["primary"] && ramp.since == last.decided_at, "{first:?}");
    ensure!(last.kind == TransitionKind::Failback, "{first:?}");
    let ends_at = later(&ramp.since, STEP);
    ensure!(held_by(&first) == Some("Ramp") && held_until(&first).as_ref() == Some(&ends_at), "{first:?}");
    fixture.leads_to(&["standby"]).await?;

    let second = fixture.until("to return further", |status| is_at(status, 1)).await?;
    ensure!(shares(&second) == [("primary", 50), ("standby", 50)], "{second:?}");
    let since = second.ramp.as_ref().context("a ramp")?.since.clone();
    ensure!(since >= ends_at, "{second:?}");
    fixture.leads_to(&["primary", "standby"]).await?;
    ensure!(second.history.len() == 2, "a step is no transition: {second:?}");

    let status = fixture.active(&[("primary", 100)]).await?;
    ensure!(status.state == Some(RouteState::Preferred) && status.ramp.is_none(), "{status:?}");
    ensure!(status.history.len() == 2 && held_by(&status).is_none(), "{status:?}");
    fixture.leads_to(&["primary"]).await?;
    ensure!(events(&env, "orders").await? == ["FailedOver", "FailedBack"]);
    Ok(())
}

async fn fails(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), ramp(&[(50, "1h")])).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    fixture.active(&[("primary", 50), ("standby", 50)]).await?;
    fixture.leads_to(&["primary", "standby"]).await?;
    fixture.server("primary").crash().await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(status.ramp.is_none() && status.history.len() == 3, "{status:?}");
    fixture.leads_to(&["standby"]).await?;
    ensure!(data(&env, "mail").await?["SENDING_BACKEND"] == "standby");
    ensure!(events(&env, "orders").await? == ["FailedOver", "FailedBack", "FailedOver"]);
    Ok(())
}

async fn old_side_fails(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), ramp(&[(10, "1h")])).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    fixture.active(&[("primary", 10), ("standby", 90)]).await?;
    fixture.server("standby").crash().await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    ensure!(status.ramp.is_none(), "{status:?}");
    fixture.leads_to(&["primary"]).await
}

async fn shared(env: Arc<TestEnv>) -> Result<()> {
    let backends = [("a", json!({})), ("b", json!({}))];
    let fixture =
        DecisionFixture::create(env.clone(), &backends, ramp(&[(10, "15s")]), json!({ "strategy": "ActiveActive" }))
            .await?;
    let _operator = start_operator(&env, &[]).await?;
    fixture.active(&[("a", 50), ("b", 50)]).await?;
    fixture.server("a").crash().await?;
    fixture.active(&[("b", 100)]).await?;
    fixture.server("a").repair().await?;
    let status = fixture.until("to take a back", |status| is_at(status, 0)).await?;
    ensure!(shares(&status) == [("a", 10), ("b", 90)], "{status:?}");
    stands(&status, RouteState::FailingBack, "Recovered")?;
    fixture.leads_to(&["b"]).await?;
    let status = fixture.active(&[("a", 50), ("b", 50)]).await?;
    ensure!(status.state == Some(RouteState::Preferred) && status.ramp.is_none(), "{status:?}");
    fixture.leads_to(&["a", "b"]).await
}
