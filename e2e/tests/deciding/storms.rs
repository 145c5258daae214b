//! Trials of storms: if everything fails at once, the operator suspects its own network.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::{Health, MailRouteStatus, RouteState};
use mail_failover_e2e::fixture::events;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use super::fixture::{DecisionFixture, explains, held_by, held_until, later, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("when every failure domain fails at once mail stays, whoever recovers first", storm).listens(),
        trial("what fails together is one failure domain, and its failure no storm", one_domain).listens(),
    ]
}

/// Crashes all servers, the standby first, so that mail does not move there.
async fn all_die(fixture: &DecisionFixture) -> Result<MailRouteStatus> {
    for name in ["standby", "primary"] {
        fixture.server(name).crash().await?;
    }
    fixture.until("to have nobody", |status| status.state == Some(RouteState::NoneHealthy)).await
}

async fn storm(env: Arc<TestEnv>) -> Result<()> {
    // The limit of the time to recover, however long `minimumStay` is.
    const AT_MOST: Duration = Duration::from_mins(1);
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "hold": { "minimumStay": "1h" } })).await?;
    let _operator = fixture.begin("primary").await?;
    for first_to_recover in ["primary", "standby"] {
        all_die(&fixture).await?;
        let status = fixture.held("StormBrake").await?;
        ensure!(held_until(&status).is_none() && status.state == Some(RouteState::NoneHealthy), "{status:?}");
        ensure!(shares(&status) == [("primary", 100)], "{status:?}");
        explains(&status, "everything fails at once: our own network is suspect")?;
        fixture.column_is("STATE", "NoneHealthy").await?;
        fixture.leads_to(&["primary"]).await?;
        fixture.server(first_to_recover).repair().await?;
        if first_to_recover == "standby" {
            // The active backend gets time to recover.
            let status = fixture.until("to settle", |status| held_until(status).is_some()).await?;
            let since = status.backends[1].since.as_ref().context("since when")?;
            ensure!(status.backends[1].health == Health::Healthy, "{status:?}");
            ensure!(held_by(&status) == Some("StormBrake"), "{status:?}");
            ensure!(held_until(&status) == Some(later(since, AT_MOST)), "{status:?}");
            ensure!(shares(&status) == [("primary", 100)], "{status:?}");
        }
        for name in ["primary", "standby"] {
            fixture.server(name).repair().await?;
        }
        fixture.until("to be whole again", |status| status.healthy_backends.as_deref() == Some("2/2")).await?;
        let status = fixture.active(&[("primary", 100)]).await?;
        ensure!(status.state == Some(RouteState::Preferred) && status.history.is_empty(), "{status:?}");
    }
    let mut told = events(&env, "orders").await?;
    // Told or not: one backend is seen to fail a moment before the other.
    told.retain(|reason| reason != "StandbyLost");
    ensure!(told == ["NoneHealthy", "Recovered", "NoneHealthy", "Recovered"], "{told:?}");
    // A backend that does not recover in that time after the storm is left.
    fixture.change_policy(json!({ "hold": { "minimumStay": "3s" } })).await?;
    all_die(&fixture).await?;
    fixture.held("StormBrake").await?;
    fixture.server("standby").repair().await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    let since = status.backends[1].since.as_ref().context("since when")?;
    let last = status.last_transition.as_ref().context("a transition")?;
    ensure!(last.decided_at >= later(since, Duration::from_secs(3)), "{status:?}");
    fixture.leads_to(&["standby"]).await
}

async fn one_domain(env: Arc<TestEnv>) -> Result<()> {
    let aws = json!({ "location": { "failureDomain": "aws" } });
    let backends = [("primary", aws.clone()), ("standby", aws)];
    let fixture =
        DecisionFixture::create(env.clone(), &backends, json!({ "hold": { "minimumStay": "1h" } }), json!({})).await?;
    let _operator = fixture.begin("primary").await?;
    all_die(&fixture).await?;
    let status = fixture.held("NoneHealthy").await?;
    ensure!(shares(&status) == [("primary", 100)] && status.history.is_empty(), "{status:?}");
    // Nothing keeps mail on a dead backend then.
    fixture.server("standby").repair().await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")
}
