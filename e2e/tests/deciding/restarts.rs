//! Trials of restarts: a new operator continues, since every timer follows from status.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mail_failover_api::{Health, RouteState};
use mail_failover_e2e::assertions::notes;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use super::fixture::{DecisionFixture, held_by, held_until, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a ramp goes on after a restart of the operator, step and timer", ramp).listens(),
        trial("a Pause outlasts a restart of the operator, and ends when it should", pause).listens(),
        trial("a Switch outlasts a restart of the operator, and ends when it should", switch).listens(),
        trial("a restart neither shortens nor lengthens a cooldown, a soak or a budget", holds).listens(),
    ]
}

async fn ramp(env: Arc<TestEnv>) -> Result<()> {
    let steps = json!([{ "percent": 30, "for": "10s" }, { "percent": 60, "for": "4s" }]);
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "failback": { "ramp": steps } })).await?;
    let operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    let before = fixture.active(&[("primary", 30), ("standby", 70)]).await?;
    let until = held_until(&before).context("an end of the step")?;
    let _operator = fixture.restart(operator).await?;
    let traffic = fixture.change_route(json!({ "traffic": { "peakPerSecond": 1 } })).await?;
    let after = fixture
        .until("to be looked at again", |status| status.observed_generation == traffic.metadata.generation)
        .await?;
    if after.ramp.as_ref().is_some_and(|ramp| ramp.step == 0) {
        ensure!(after.ramp == before.ramp && held_until(&after).as_ref() == Some(&until), "{after:?}");
        ensure!(shares(&after) == shares(&before) && after.state == Some(RouteState::FailingBack), "{after:?}");
    }
    let second = fixture.until("to take the next step", |status| {
        status.ramp.as_ref().is_some_and(|ramp| ramp.step == 1 && ramp.since >= until)
    });
    let second = second.await?;
    ensure!(shares(&second) == [("primary", 60), ("standby", 40)], "{second:?}");
    let status = fixture.active(&[("primary", 100)]).await?;
    ensure!(status.history == before.history, "no transition of its own: {status:?}");
    ensure!(notes(&env, "orders", "FailedBack").await?.len() == 1);
    Ok(())
}

async fn pause(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({})).await?;
    let operator = fixture.begin("primary").await?;
    fixture.granted(json!({ "id": "1", "action": "Pause", "for": "12s" })).await?;
    fixture.server("primary").crash().await?;
    let before = fixture.judged("primary", Health::Unhealthy).await?;
    let pause = before.pause.clone().context("a pause")?;
    let until = pause.until.clone().context("an end")?;
    let _operator = fixture.restart(operator).await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    let last = status.last_transition.as_ref().context("a transition")?;
    ensure!(last.decided_at >= until && status.history.len() == 1, "{until:?}: {status:?}");
    ensure!(status.request == before.request, "{status:?}");
    ensure!(notes(&env, "orders", "RequestDone").await?.len() == 1);
    Ok(())
}

async fn switch(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({})).await?;
    let operator = fixture.begin("primary").await?;
    fixture.granted(json!({ "id": "1", "action": "Switch", "to": "standby", "for": "12s" })).await?;
    let before = fixture.active(&[("standby", 100)]).await?;
    let until = before.switch.as_ref().and_then(|switch| switch.until.clone()).context("an end")?;
    let _operator = fixture.restart(operator).await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    let last = status.last_transition.as_ref().context("a transition")?;
    ensure!(last.decided_at >= until && status.history.len() == 2, "{until:?}: {status:?}");
    ensure!(notes(&env, "orders", "RequestDone").await?.len() == 1);
    Ok(())
}

async fn holds(env: Arc<TestEnv>) -> Result<()> {
    let hold = json!({ "hold": { "cooldown": "1h", "budget": { "switches": 1, "per": "2h" } }, "failback": { "after": "3h" } });
    let fixture = DecisionFixture::of_two(env.clone(), hold).await?;
    let mut operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    let changes = [
        ("Soak", json!({ "failback": { "after": "0s" } })),
        ("SwitchBudget", json!({ "hold": { "budget": { "switches": 10 } } })),
        ("Cooldown", json!({ "hold": { "cooldown": "0s" } })),
    ];
    for (reason, shorter) in changes {
        let before = fixture.held(reason).await?;
        operator = fixture.restart(operator).await?;
        let peak = before.observed_generation.unwrap_or_default();
        let changed = fixture.change_route(json!({ "traffic": { "peakPerSecond": peak } })).await?;
        let after =
            fixture.until("to be looked at again", |status| status.observed_generation == changed.metadata.generation);
        let after = after.await?;
        ensure!(
            after.waiting_for == before.waiting_for && held_by(&after) == Some(reason),
            "{before:?} became {after:?}"
        );
        fixture.change_policy(shorter).await?;
    }
    fixture.active(&[("primary", 100)]).await.map(drop)
}
