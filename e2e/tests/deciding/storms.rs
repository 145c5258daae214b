//! When everything fails at once, our own network is suspect.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::{Health, MailRouteStatus, RouteState};
use mail_failover_e2e::scene::events;
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use serde_json::json;

use super::play::{Play, explains, held_by, held_until, later, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("when every failure domain fails at once mail stays, whoever recovers first", storm).listens(),
        trial("what fails together is one failure domain, and its failure no storm", one_domain).listens(),
    ]
}

/// Everybody dies; the standby first, lest it be gone to.
async fn all_die(play: &Play) -> Result<MailRouteStatus> {
    for name in ["standby", "primary"] {
        play.server(name).crash().await?;
    }
    play.until("to have nobody", |status| status.state == Some(RouteState::NoneHealthy)).await
}

async fn storm(stage: Arc<Stage>) -> Result<()> {
    // However long a route stays anywhere.
    const AT_MOST: Duration = Duration::from_mins(1);
    let play = Play::of_two(stage.clone(), json!({ "hold": { "minimumStay": "1h" } })).await?;
    let _operator = play.begin("primary").await?;
    for first_to_recover in ["primary", "standby"] {
        all_die(&play).await?;
        let status = play.held("StormBrake").await?;
        ensure!(held_until(&status).is_none() && status.state == Some(RouteState::NoneHealthy), "{status:?}");
        ensure!(shares(&status) == [("primary", 100)], "{status:?}");
        explains(&status, "everything fails at once: our own network is suspect")?;
        play.column_is("STATE", "NoneHealthy").await?;
        play.leads_to(&["primary"]).await?;
        play.server(first_to_recover).repair().await?;
        if first_to_recover == "standby" {
            // The one in use gets its time to recover.
            let status = play.until("to settle", |status| held_until(status).is_some()).await?;
            let since = status.backends[1].since.as_ref().context("since when")?;
            ensure!(status.backends[1].health == Health::Healthy, "{status:?}");
            ensure!(held_by(&status) == Some("StormBrake"), "{status:?}");
            ensure!(held_until(&status) == Some(later(since, AT_MOST)), "{status:?}");
            ensure!(shares(&status) == [("primary", 100)], "{status:?}");
        }
        for name in ["primary", "standby"] {
            play.server(name).repair().await?;
        }
        play.until("to be whole again", |status| status.healthy_backends.as_deref() == Some("2/2")).await?;
        let status = play.active(&[("primary", 100)]).await?;
        ensure!(status.state == Some(RouteState::Preferred) && status.history.is_empty(), "{status:?}");
    }
    ensure!(events(&stage, "orders").await? == ["NoneHealthy", "Recovered", "NoneHealthy", "Recovered"]);
    // One that does not recover after the storm is left once it had its time.
    play.change_policy(json!({ "hold": { "minimumStay": "3s" } })).await?;
    all_die(&play).await?;
    play.held("StormBrake").await?;
    play.server("standby").repair().await?;
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    let since = status.backends[1].since.as_ref().context("since when")?;
    let last = status.last_transition.as_ref().context("a transition")?;
    ensure!(last.decided_at >= later(since, Duration::from_secs(3)), "{status:?}");
    play.leads_to(&["standby"]).await
}

async fn one_domain(stage: Arc<Stage>) -> Result<()> {
    let aws = json!({ "location": { "failureDomain": "aws" } });
    let backends = [("primary", aws.clone()), ("standby", aws)];
    let play = Play::set(stage.clone(), &backends, json!({ "hold": { "minimumStay": "1h" } }), json!({})).await?;
    let _operator = play.begin("primary").await?;
    all_die(&play).await?;
    let status = play.held("NoneHealthy").await?;
    ensure!(shares(&status) == [("primary", 100)] && status.history.is_empty(), "{status:?}");
    // Nothing keeps mail on a dead backend then.
    play.server("standby").repair().await?;
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")
}
