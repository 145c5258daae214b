//! Trials of drills: a failover is rehearsed, its result told, and everything is as before.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mail_failover_api::{DrillResultStatus, MailRouteStatus, RouteState};
use mail_failover_e2e::assertions::notes;
use mail_failover_e2e::fixture::{condition, events};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

use super::fixture::DecisionFixture;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a drill that is asked for moves mail, restores it, and tells each time", asked).listens(),
        trial("a drill is due by its schedule, and one that cannot begin says why", due).listens(),
        trial("a standby that fails in the middle of a drill ends it, and mail returns", aborted).listens(),
        trial("an operator that is killed in the middle of a drill leaves one that ends and restores", killed)
            .listens(),
    ]
}

fn drills(differs: &Value) -> Value {
    let mut spec = json!({ "stay": "3s", "longest": "1m", "budget": { "drills": 5, "per": "1s" } });
    for (name, value) in differs.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    json!({ "drills": spec, "objectives": { "recoveryTime": "30s" } })
}

fn latest(status: &MailRouteStatus) -> Option<&DrillResultStatus> {
    status.drills.as_ref()?.history.first()
}

fn is_moved(status: &MailRouteStatus) -> bool {
    status.active.first().is_some_and(|active| active.backend == "standby")
}

async fn asked(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), drills(&json!({}))).await?;
    let operator = fixture.begin("primary").await?;
    fixture.granted(json!({ "id": "1", "action": "Drill", "mode": "Observed", "reason": "before the sale" })).await?;
    let moved = fixture.until("to leave by the standby", is_moved).await?;
    ensure!(moved.state == Some(RouteState::FailedOver), "{moved:?}");
    let failed_over = condition(&moved, "FailedOver");
    ensure!(failed_over == ("False".to_owned(), "Drill".to_owned()), "{failed_over:?}");
    fixture.leads_to(&["standby"]).await?;
    let restored = fixture.until("to have a result", |status| latest(status).is_some()).await?;
    let result = latest(&restored).context("a result")?;
    ensure!(result.outcome == "Passed" && result.reason == "WithinObjective", "{result:?}");
    let times = &result.times;
    ensure!(times.detected_at.is_some() && times.decided_at.is_some() && times.applied_at.is_some(), "{result:?}");
    ensure!(result.restored_at.is_some() && result.message.contains("30 s demanded"), "{result:?}");
    let status = fixture.active(&[("primary", 100)]).await?;
    ensure!(status.state == Some(RouteState::Preferred), "{status:?}");
    fixture.leads_to(&["primary"]).await?;
    let told = notes(&env, "orders", "DrillPassed").await?;
    ensure!(told.len() == 1 && told[0].1.contains("WithinObjective"), "{told:?}");
    let all = events(&env, "orders").await?;
    ensure!(!all.iter().any(|reason| reason == "FailedOver" || reason == "FailedBack"), "{all:?}");

    // In shadow nothing moves.
    fixture.granted(json!({ "id": "2", "action": "Drill", "mode": "Shadow" })).await?;
    let shadow = fixture
        .until("to have a second result", |status| latest(status).is_some_and(|one| one.mode == "Shadow"))
        .await?;
    let result = latest(&shadow).context("a result")?;
    ensure!(result.outcome == "Passed" && result.reason == "StandbyAnswered", "{result:?}");
    ensure!(shadow.history.len() == 2, "{:?}", shadow.history);
    drop(operator);
    Ok(())
}

async fn due(env: Arc<TestEnv>) -> Result<()> {
    // Open at any time, so that the trial waits for no hour; the budget lets one begin.
    let schedule = json!({ "schedule": "0 * * * *", "within": "60m", "mode": "Observed", "longest": "20s" });
    let fixture = DecisionFixture::of_two(env.clone(), drills(&json!({}))).await?;
    let operator = fixture.begin("primary").await?;
    fixture.server("standby").crash().await?;
    fixture.judged("standby", mail_failover_api::Health::Unhealthy).await?;
    fixture.change_policy(drills(&schedule)).await?;
    let waits = fixture
        .until("to wait with its drill", |status| status.drills.as_ref().is_some_and(|drills| drills.waiting.is_some()))
        .await?;
    let drills = waits.drills.context("drills")?;
    let waiting = drills.waiting.context("a reason")?;
    ensure!(waiting.reason == "Unhealthy" && waiting.message.contains("standby"), "{waiting:?}");
    ensure!(drills.next.is_some() && drills.overdue_at.is_some(), "the next one is told");
    fixture.refused(json!({ "id": "1", "action": "Drill" }), &["standby is Unhealthy"]).await?;
    fixture.server("standby").repair().await?;
    let ended = fixture.until("to have a result", |status| latest(status).is_some()).await?;
    let result = latest(&ended).context("a result")?;
    ensure!(result.outcome == "Passed" && result.trigger == "Schedule", "{result:?}");
    fixture.active(&[("primary", 100)]).await?;
    drop(operator);
    Ok(())
}

async fn aborted(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), drills(&json!({ "stay": "50s" }))).await?;
    let operator = fixture.begin("primary").await?;
    fixture.granted(json!({ "id": "1", "action": "Drill", "mode": "Observed" })).await?;
    fixture.until("to leave by the standby", is_moved).await?;
    fixture.server("standby").crash().await?;
    let ended = fixture.until("to have a result", |status| latest(status).is_some()).await?;
    let result = latest(&ended).context("a result")?;
    ensure!(result.outcome == "Aborted" && result.reason == "Unhealthy", "{result:?}");
    fixture.active(&[("primary", 100)]).await?;
    fixture.leads_to(&["primary"]).await?;
    drop(operator);
    Ok(())
}

async fn killed(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), drills(&json!({ "stay": "15s" }))).await?;
    let operator = fixture.begin("primary").await?;
    fixture.granted(json!({ "id": "1", "action": "Drill", "mode": "Observed" })).await?;
    fixture.until("to leave by the standby", is_moved).await?;
    let operator = fixture.restart(operator).await?;
    let ended = fixture.until("to have a result", |status| latest(status).is_some()).await?;
    let result = latest(&ended).context("a result")?;
    ensure!(["Passed", "Aborted"].contains(&result.outcome.as_str()), "{result:?}");
    fixture.active(&[("primary", 100)]).await?;
    fixture.leads_to(&["primary"]).await?;
    drop(operator);
    Ok(())
}
