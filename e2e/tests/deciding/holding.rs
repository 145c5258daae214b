//! Trials of holds: a policy holds a route for its reason, until its time, and no longer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use mail_failover_api::{Health, RouteState};
use mail_failover_e2e::assertions::{wait_condition, wait_event};
use mail_failover_e2e::fixture::condition;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use super::fixture::{DecisionFixture, explains, held_by, held_until, later, policy, route, shares, stands};

const HOUR: Duration = Duration::from_hours(1);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the cooldown holds a return, until its end, and no failover", cooldown).listens(),
        trial("the minimum stay holds a return, from the first backend on, and no failover", minimum_stay).listens(),
        trial("the soak of a backend that fails again is twice as long", soak).listens(),
        trial("a spent budget holds a return, and a failover for the cooldown only", budget).listens(),
        trial("a return waits for a failback window, and begins in an open one", windows).listens(),
        trial("a route says whether its latest failover met the objective", objective).listens(),
    ]
}

async fn cooldown(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "hold": { "cooldown": "1h" } })).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    let decided_at = status.last_transition.context("a transition")?.decided_at;
    fixture.server("primary").repair().await?;
    let status = fixture.held("Cooldown").await?;
    ensure!(held_until(&status) == Some(later(&decided_at, HOUR)), "{status:?}");
    ensure!(status.state == Some(RouteState::FailedOver) && shares(&status) == [("standby", 100)], "{status:?}");
    explains(&status, "held by Cooldown until")?;
    // A dead backend is left nevertheless.
    fixture.server("standby").crash().await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "ConnectionRefused")?;
    Ok(())
}

async fn minimum_stay(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "hold": { "minimumStay": "1h" } })).await?;
    fixture.server("primary").crash().await?;
    // The first decision is no transition, but `minimumStay` counts from it.
    let _operator = fixture.begin("standby").await?;
    fixture.server("primary").repair().await?;
    let status = fixture.held("MinimumStay").await?;
    ensure!(status.history.is_empty(), "{status:?}");
    ensure!(held_until(&status) == status.since.as_ref().map(|since| later(since, HOUR)), "{status:?}");
    fixture.server("standby").crash().await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "ConnectionRefused")?;
    // A change of the policy shortens it, so it is over at once.
    fixture.server("standby").repair().await?;
    fixture.judged("standby", Health::Healthy).await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    fixture.held("MinimumStay").await?;
    fixture.change_policy(json!({ "hold": { "minimumStay": "1s" } })).await?;
    fixture.active(&[("primary", 100)]).await.map(drop)
}

async fn soak(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "failback": { "after": "1h" } })).await?;
    let _operator = fixture.begin("primary").await?;
    for times in 1..=2 {
        fixture.server("primary").crash().await?;
        fixture.active(&[("standby", 100)]).await?;
        fixture.server("primary").repair().await?;
        let status = fixture.held("Soak").await?;
        let since = status.backends[0].since.as_ref().context("since when")?;
        ensure!(held_until(&status) == Some(later(since, HOUR * times)), "{times}: {status:?}");
        fixture.granted(json!({ "id": times.to_string(), "action": "Failback" })).await?;
        fixture.active(&[("primary", 100)]).await?;
    }
    Ok(())
}

async fn budget(env: Arc<TestEnv>) -> Result<()> {
    const COOLDOWN: Duration = Duration::from_secs(6);
    let hold = json!({ "hold": { "cooldown": "6s", "budget": { "switches": 2, "per": "1h" } } });
    let fixture = DecisionFixture::of_two(env.clone(), hold).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    let returned = fixture.active(&[("primary", 100)]).await?.last_transition.context("a transition")?;
    // Two transitions have spent the budget; a dead backend is left as the last resort.
    fixture.server("primary").crash().await?;
    let status = fixture.held("SwitchBudget").await?;
    let until = later(&returned.decided_at, COOLDOWN);
    ensure!(held_until(&status).as_ref() == Some(&until), "{status:?}");
    ensure!(shares(&status) == [("primary", 100)], "{status:?}");
    let status = fixture.active(&[("standby", 100)]).await?;
    let last = status.last_transition.context("a transition")?;
    ensure!(last.id == 3 && last.decided_at >= until, "{last:?}");
    // Nothing forces the return: it waits until the older of two transitions is an hour ago.
    fixture.server("primary").repair().await?;
    let status = fixture.held("SwitchBudget").await?;
    ensure!(held_until(&status) == Some(later(&returned.decided_at, HOUR)), "{status:?}");
    ensure!(status.state == Some(RouteState::FailedOver), "{status:?}");
    // A change of the policy raises the budget.
    fixture.change_policy(json!({ "hold": { "budget": { "switches": 10 } } })).await?;
    fixture.active(&[("primary", 100)]).await.map(drop)
}

async fn windows(env: Arc<TestEnv>) -> Result<()> {
    // The next opening: in more than an hour, at the full hour of UTC, which in Kolkata is half past, five hours later.
    let opening = jiff::Timestamp::now() + HOUR * 2;
    let hour = opening.as_second().div_euclid(3600);
    let opening = MicroTime(jiff::Timestamp::from_second(hour * 3600)?);
    let schedule = format!("30 {} * * *", (hour + 5).rem_euclid(24));
    let window = json!({ "schedule": schedule, "timeZone": "Asia/Kolkata", "duration": "1m" });
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "failback": { "windows": [window] } })).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    let status = fixture.held("FailbackWindow").await?;
    ensure!(held_until(&status).as_ref() == Some(&opening), "not {opening:?}: {status:?}");
    ensure!(status.state == Some(RouteState::FailedOver), "{status:?}");
    ensure!(status.message.as_ref().is_some_and(|text| text.contains("no failback window is open")), "{status:?}");
    // Open from every minute on for a minute.
    let always = json!({ "schedule": "* * * * *", "duration": "1m" });
    fixture.change_policy(json!({ "failback": { "windows": [window, always] } })).await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")
}

async fn objective(env: Arc<TestEnv>) -> Result<()> {
    // Fifteen failures in a row, five a second, take longer than a second.
    let slow = json!({ "failure": { "consecutive": 15 }, "objectives": { "recoveryTime": "1s" } });
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "objectives": { "recoveryTime": "1h" } })).await?;
    let backends = ["primary", "standby"];
    let manifests = [policy("slow", slow), route("missing", "slow", &backends, "missing", json!({}))];
    env.apply(&manifests.concat()).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.route_active("missing", &[("primary", 100)]).await?;
    for route in ["orders", "missing"] {
        wait_condition(&env, route, "RecoveryTimeMet", "Unknown", "NoFailover").await?;
    }
    fixture.server("primary").crash().await?;
    let met = wait_condition(&env, "orders", "RecoveryTimeMet", "True", "WithinObjective").await?;
    ensure!(met.contains("of 3600.000 s"), "{met}");
    let missed = wait_condition(&env, "missing", "RecoveryTimeMet", "False", "ObjectiveMissed").await?;
    ensure!(missed.contains("of 1.000 s"), "{missed}");
    // A return has no objective, and a policy without an objective has no condition.
    fixture.server("primary").repair().await?;
    fixture.route_active("missing", &[("primary", 100)]).await?;
    wait_condition(&env, "missing", "RecoveryTimeMet", "False", "ObjectiveMissed").await?;
    fixture.change_policy(json!({ "objectives": null })).await?;
    fixture.until("to have no objective", |status| condition(status, "RecoveryTimeMet").0.is_empty()).await?;
    wait_event(&env, "missing", "FailedBack").await?;
    let status = fixture.status().await?;
    ensure!(held_by(&status).is_none(), "{status:?}");
    Ok(())
}
