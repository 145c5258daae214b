//! A return in steps.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::{MailRouteStatus, RouteState, TransitionKind};
use mail_failover_e2e::scene::events;
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{data, start_operator};
use serde_json::{Value, json};

use super::play::{Play, held_by, held_until, is_settled, later, shares, stands};

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

/// Whether this step is in force, with everything written that it entails.
fn is_at(status: &MailRouteStatus, step: i32) -> bool {
    status.ramp.as_ref().is_some_and(|ramp| ramp.step == step) && is_settled(status)
}

async fn steps(stage: Arc<Stage>) -> Result<()> {
    const STEP: Duration = Duration::from_secs(5);
    let play = Play::of_two(stage.clone(), ramp(&[(10, "5s"), (50, "5s")])).await?;
    let _operator = play.begin("primary").await?;
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    play.server("primary").repair().await?;

    let first = play.until("to begin to return", |status| is_at(status, 0)).await?;
    ensure!(shares(&first) == [("primary", 10), ("standby", 90)], "{first:?}");
    stands(&first, RouteState::FailingBack, "Recovered")?;
    play.column_is("STATE", "FailingBack").await?;
    let ramp = first.ramp.as_ref().context("a ramp")?;
    let last = first.last_transition.as_ref().context("a transition")?;
    ensure!(ramp.to == ["primary"] && ramp.since == last.decided_at, "{first:?}");
    ensure!(last.kind == TransitionKind::Failback, "{first:?}");
    let ends_at = later(&ramp.since, STEP);
    ensure!(held_by(&first) == Some("Ramp") && held_until(&first).as_ref() == Some(&ends_at), "{first:?}");
    play.leads_to(&["standby"]).await?;

    let second = play.until("to return further", |status| is_at(status, 1)).await?;
    ensure!(shares(&second) == [("primary", 50), ("standby", 50)], "{second:?}");
    let since = second.ramp.as_ref().context("a ramp")?.since.clone();
    ensure!(since >= ends_at, "{second:?}");
    play.leads_to(&["primary", "standby"]).await?;
    ensure!(second.history.len() == 2, "a step is no transition: {second:?}");

    let status = play.active(&[("primary", 100)]).await?;
    ensure!(status.state == Some(RouteState::Preferred) && status.ramp.is_none(), "{status:?}");
    ensure!(status.history.len() == 2 && held_by(&status).is_none(), "{status:?}");
    play.leads_to(&["primary"]).await?;
    ensure!(events(&stage, "orders").await? == ["FailedOver", "FailedBack"]);
    Ok(())
}

async fn fails(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), ramp(&[(50, "1h")])).await?;
    let _operator = play.begin("primary").await?;
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    play.server("primary").repair().await?;
    play.active(&[("primary", 50), ("standby", 50)]).await?;
    play.leads_to(&["primary", "standby"]).await?;
    play.server("primary").crash().await?;
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(status.ramp.is_none() && status.history.len() == 3, "{status:?}");
    play.leads_to(&["standby"]).await?;
    ensure!(data(&stage, "mail").await?["SENDING_BACKEND"] == "standby");
    ensure!(events(&stage, "orders").await? == ["FailedOver", "FailedBack", "FailedOver"]);
    Ok(())
}

async fn old_side_fails(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), ramp(&[(10, "1h")])).await?;
    let _operator = play.begin("primary").await?;
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    play.server("primary").repair().await?;
    play.active(&[("primary", 10), ("standby", 90)]).await?;
    play.server("standby").crash().await?;
    let status = play.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    ensure!(status.ramp.is_none(), "{status:?}");
    play.leads_to(&["primary"]).await
}

async fn shared(stage: Arc<Stage>) -> Result<()> {
    let backends = [("a", json!({})), ("b", json!({}))];
    let play = Play::set(stage.clone(), &backends, ramp(&[(10, "4s")]), json!({ "strategy": "ActiveActive" })).await?;
    let _operator = start_operator(&stage, &[]).await?;
    play.active(&[("a", 50), ("b", 50)]).await?;
    play.server("a").crash().await?;
    play.active(&[("b", 100)]).await?;
    play.server("a").repair().await?;
    let status = play.until("to take a back", |status| is_at(status, 0)).await?;
    ensure!(shares(&status) == [("a", 10), ("b", 90)], "{status:?}");
    stands(&status, RouteState::FailingBack, "Recovered")?;
    play.leads_to(&["b"]).await?;
    let status = play.active(&[("a", 50), ("b", 50)]).await?;
    ensure!(status.state == Some(RouteState::Preferred) && status.ramp.is_none(), "{status:?}");
    play.leads_to(&["a", "b"]).await
}
