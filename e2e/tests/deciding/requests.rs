//! Trials of requests by annotation: each is answered once, and carried out or refused with a
//! remedy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use mail_failover_api::{Health, MailRoute, MailRouteStatus, RequestOutcome, RouteState, TransitionKind};
use mail_failover_e2e::assertions::{api, change, notes};
use mail_failover_e2e::fixture::events;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fixture::{DecisionFixture, REQUEST, held_by, held_until, is_settled, later, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a requested Switch moves mail, says so, and is done once, by its id", switch).listens(),
        trial("a Switch to an Unhealthy backend is refused with the remedy, which works", force).listens(),
        trial("a Switch ends when its backend dies, unless it was forced", death).listens(),
        trial("no request, forced or not, leads mail where the route must not send it", impossible).listens(),
        trial("what is requested for a time ends by itself and not earlier", for_a_time).listens(),
        trial("a requested Failback waits for no hold, but for health", failback).listens(),
        trial("a Pause keeps mail on a dead backend, and a Resume moves it", pause).listens(),
        trial("an ApproveFailback lets a Manual failback begin", approval).listens(),
        trial("an annotation that cannot be read is answered with what is wrong, and moves nothing", malformed)
            .listens(),
    ]
}

async fn switch(env: Arc<TestEnv>) -> Result<()> {
    // A policy's holds do not apply to a person's request.
    let hold = json!({ "hold": { "cooldown": "1h", "minimumStay": "1h" } });
    let fixture = DecisionFixture::of_two(env.clone(), hold).await?;
    let operator = fixture.begin("primary").await?;
    let before = api::<MailRoute>(&env).get("orders").await?;
    // As a person would.
    let text = r#"{"id":"2026-11-24-1","action":"Switch","to":"standby","reason":"maintenance"}"#;
    env.kubectl(&["annotate", "mailroute", "orders", &format!("{REQUEST}={text}")]).await?;
    let answer = fixture.answer("orders", "2026-11-24-1").await?;
    ensure!(answer.outcome == RequestOutcome::Done && answer.action == "Switch", "{answer:?}");
    ensure!(answer.message == "mail goes to standby until a Failback is requested", "{answer:?}");
    let status = fixture.active(&[("standby", 100)]).await?;
    let switch = status.switch.as_ref().context("a switch")?;
    ensure!(switch.to == "standby" && switch.until.is_none() && !switch.forced, "{switch:?}");
    stands(&status, RouteState::FailedOver, "Requested")?;
    ensure!(held_by(&status) == Some("Switched") && held_until(&status).is_none(), "{status:?}");
    fixture.leads_to(&["standby"]).await?;
    fixture.column_is("ACTIVE", "standby").await?;
    let told = notes(&env, "orders", "RequestDone").await?;
    ensure!(
        told.len() == 1
            && told[0].1
                == format!(
                    "Switch (2026-11-24-1, by kubectl-annotate): {} (reason given: maintenance)",
                    answer.message
                ),
        "{told:?}"
    );

    // A new operator knows that the request is done.
    let operator = fixture.restart(operator).await?;
    let traffic = fixture.change_route(json!({ "traffic": { "peakPerSecond": 1 } })).await?;
    fixture.until("to be looked at again", |status| status.observed_generation == traffic.metadata.generation).await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    ensure!(status.request.as_ref() == Some(&answer) && status.history.len() == 1, "{status:?}");

    // A request of another content with the same id is refused, and nothing is done.
    let again = json!({
        "metadata": { "annotations": { REQUEST: json!({ "id": "2026-11-24-1", "action": "Failback" }).to_string() } },
        "spec": { "traffic": { "peakPerSecond": 2 } },
    });
    let changed = change::<MailRoute>(&env, "orders", &again).await?;
    fixture.until("to be looked at again", |status| status.observed_generation == changed.metadata.generation).await?;
    let is_refused = |status: &MailRouteStatus| {
        status.request.as_ref().is_some_and(|request| request.outcome == RequestOutcome::Refused)
    };
    fixture.until("to refuse the second text of an id", is_refused).await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    ensure!(status.history.len() == 1, "{status:?}");
    ensure!(notes(&env, "orders", "RequestDone").await?.len() == 1);

    fixture.granted(json!({ "id": "2", "action": "Failback" })).await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Requested")?;
    ensure!(status.switch.is_none(), "{status:?}");
    ensure!(events(&env, "orders").await?.iter().filter(|reason| *reason == "RequestDone").count() == 2);
    // Two changes of the spec were ours.
    let after = api::<MailRoute>(&env).get("orders").await?;
    ensure!(after.metadata.generation == before.metadata.generation.map(|generation| generation + 2));
    drop(operator);
    Ok(())
}

async fn force(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({})).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("standby").crash().await?;
    fixture.judged("standby", Health::Unhealthy).await?;
    let says = ["standby is Unhealthy (ConnectionRefused)", "\"force\": true"];
    let answer = fixture.refused(json!({ "id": "1", "action": "Switch", "to": "standby" }), &says).await?;
    let told = notes(&env, "orders", "RequestRefused").await?;
    ensure!(told.len() == 1 && told[0].1 == format!("Switch (1, by somebody): {}", answer.message), "{told:?}");
    let status = fixture.status().await?;
    ensure!(shares(&status) == [("primary", 100)] && status.switch.is_none(), "{status:?}");

    fixture.granted(json!({ "id": "2", "action": "Switch", "to": "standby", "force": true })).await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    ensure!(status.switch.as_ref().is_some_and(|switch| switch.forced), "{status:?}");
    fixture.leads_to(&["standby"]).await?;
    // There is no condition to wait for: the trial shows that it is not left, though any other
    // backend would be at once.
    sleep(Duration::from_secs(2)).await;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::Holding, "Requested")?;
    ensure!(status.history.len() == 1 && held_by(&status) == Some("Switched"), "{status:?}");
    ensure!(status.backends[1].health == Health::Unhealthy, "{status:?}");
    fixture.granted(json!({ "id": "3", "action": "Failback" })).await?;
    fixture.active(&[("primary", 100)]).await.map(drop)
}

async fn death(env: Arc<TestEnv>) -> Result<()> {
    let fixture =
        DecisionFixture::of_two(env.clone(), json!({ "hold": { "cooldown": "1h", "minimumStay": "1h" } })).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.granted(json!({ "id": "1", "action": "Switch", "to": "standby", "for": "1h" })).await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("standby").crash().await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "ConnectionRefused")?;
    ensure!(status.switch.is_none(), "{status:?}");
    fixture.leads_to(&["primary"]).await
}

fn approve(id: &str) -> Value {
    json!({ "id": id, "action": "ApproveFailback" })
}

fn located_in(jurisdiction: &str) -> Value {
    json!({ "location": { "jurisdiction": jurisdiction } })
}

fn switch_to(id: &str, to: &str, force: bool) -> Value {
    json!({ "id": id, "action": "Switch", "to": to, "force": force })
}

async fn impossible(env: Arc<TestEnv>) -> Result<()> {
    let other_domain =
        json!({ "location": { "jurisdiction": "EU" }, "senderDomains": [{ "domain": "other.example" }] });
    let backends = [
        ("primary", located_in("EU")),
        ("abroad", located_in("US")),
        ("other", other_domain),
        ("standby", located_in("EU")),
    ];
    let limits = json!({ "residency": { "jurisdictions": ["EU"] }, "senderDomains": ["shop.example"] });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), limits).await?;
    let _operator = fixture.begin("primary").await?;
    let cases = [
        (switch_to("1", "abroad", false), vec!["spec.residency", "no request overrides that"]),
        (switch_to("2", "abroad", true), vec!["spec.residency", "no request overrides that"]),
        (switch_to("3", "other", true), vec!["spec.senderDomains", "no request overrides that"]),
        (
            switch_to("4", "nobody", true),
            vec!["nobody is not a backend of this route", "primary, abroad, other, standby"],
        ),
        (json!({ "id": "5", "action": "Failback" }), vec!["already leaves by primary"]),
    ];
    let count = cases.len();
    for (request, says) in cases {
        fixture.refused(request, &says).await?;
    }
    ensure!(notes(&env, "orders", "RequestRefused").await?.len() == count);
    let status = fixture.active(&[("primary", 100)]).await?;
    ensure!(status.history.is_empty() && status.switch.is_none(), "{status:?}");
    fixture.granted(switch_to("6", "standby", false)).await?;
    fixture.active(&[("standby", 100)]).await.map(drop)
}

async fn for_a_time(env: Arc<TestEnv>) -> Result<()> {
    const TIME: Duration = Duration::from_secs(4);
    let fixture = DecisionFixture::of_two(env.clone(), json!({})).await?;
    let _operator = fixture.begin("primary").await?;
    let answer = fixture.granted(json!({ "id": "1", "action": "Switch", "to": "standby", "for": "4s" })).await?;
    let status = fixture.until("to switch", |status| status.switch.is_some()).await?;
    let until = later(&answer.at, TIME);
    ensure!(status.switch.as_ref().is_some_and(|switch| switch.until.as_ref() == Some(&until)), "{status:?}");
    ensure!(held_by(&status) == Some("Switched") && held_until(&status).as_ref() == Some(&until), "{status:?}");
    let status =
        fixture.until("to return", |status| shares(status) == [("primary", 100)] && is_settled(status)).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    let last = status.last_transition.as_ref().context("a transition")?;
    ensure!(last.kind == TransitionKind::Failback && last.decided_at >= until, "{status:?}");
    ensure!(status.switch.is_none(), "{status:?}");

    let answer = fixture.granted(json!({ "id": "2", "action": "Pause", "for": "4s" })).await?;
    let until = later(&answer.at, TIME);
    let status = fixture.until("to pause", |status| status.pause.is_some()).await?;
    let pause = status.pause.as_ref().context("a pause")?;
    ensure!(pause.since == answer.at && pause.until.as_ref() == Some(&until), "{status:?}");
    ensure!(status.state == Some(RouteState::Paused) && held_until(&status).as_ref() == Some(&until), "{status:?}");
    fixture.server("primary").crash().await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(status.last_transition.as_ref().is_some_and(|last| last.decided_at >= until), "{status:?}");
    ensure!(status.pause.is_none(), "{status:?}");
    Ok(())
}

async fn failback(env: Arc<TestEnv>) -> Result<()> {
    let fixture =
        DecisionFixture::of_two(env.clone(), json!({ "hold": { "cooldown": "1h" }, "failback": { "after": "2h" } }))
            .await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    let says = ["primary is Unhealthy", "request a Switch to it with \"force\": true"];
    fixture.refused(json!({ "id": "1", "action": "Failback" }), &says).await?;
    fixture.server("primary").repair().await?;
    fixture.held("Soak").await?;
    fixture.granted(json!({ "id": "2", "action": "Failback" })).await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Requested")?;
    ensure!(status.last_transition.is_some_and(|last| last.kind == TransitionKind::Failback));
    fixture.leads_to(&["primary"]).await?;
    let told = events(&env, "orders").await?;
    for reason in ["RequestRefused", "RequestDone", "FailedOver", "FailedBack"] {
        ensure!(told.iter().filter(|told| *told == reason).count() == 1, "{reason}: {told:?}");
    }
    Ok(())
}

async fn pause(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({})).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.refused(json!({ "id": "0", "action": "Resume" }), &["the route is not paused"]).await?;
    let answer = fixture.granted(json!({ "id": "1", "action": "Pause" })).await?;
    ensure!(answer.message == "nothing moves until a Resume is requested", "{answer:?}");
    fixture.server("primary").crash().await?;
    let status = fixture.judged("primary", Health::Unhealthy).await?;
    // A time in which a route without a pause would have moved.
    sleep(Duration::from_secs(1)).await;
    let still = fixture.active(&[("primary", 100)]).await?;
    ensure!(still.state == Some(RouteState::Holding) && held_by(&still) == Some("Paused"), "{still:?}");
    ensure!(still.history.is_empty() && still.pause == status.pause && still.pause.is_some(), "{still:?}");
    fixture.column_is("STATE", "Holding").await?;
    fixture.column_is("ACTIVE", "primary").await?;
    fixture.leads_to(&["primary"]).await?;
    fixture.granted(json!({ "id": "2", "action": "Resume" })).await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(status.pause.is_none(), "{status:?}");
    fixture.leads_to(&["standby"]).await?;
    fixture.column_is("STATE", "FailedOver").await
}

async fn approval(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "failback": { "mode": "Manual" } })).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.refused(approve("1"), &["there is nothing to approve"]).await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    fixture.held("ManualFailback").await?;
    fixture.granted(approve("2")).await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    ensure!(status.approved_at.is_none(), "it is used up: {status:?}");

    // An approval is given for a recovery that is there.
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.refused(approve("3"), &["primary has not recovered yet"]).await?;
    fixture.server("primary").repair().await?;
    fixture.held("ManualFailback").await?;
    fixture.change_policy(json!({ "failback": { "mode": "Automatic" } })).await?;
    fixture.active(&[("primary", 100)]).await.map(drop)
}

async fn malformed(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({})).await?;
    let _operator = fixture.begin("primary").await?;
    let cases: [(Value, &str, &str); 5] = [
        (json!({ "id": "1", "action": "Switch" }), "1", "a Switch needs \"to\""),
        (json!({ "id": "2", "action": "Move" }), "2", "use Switch, Failback, Pause, Resume, ApproveFailback or Drill"),
        (json!({ "id": "3", "action": "Pause", "for": "-1h" }), "3", "\"for\" is \"-1h\", which is no duration"),
        (json!({ "id": "", "action": "Pause" }), "", "\"id\" must have 1 to 64 bytes"),
        (json!("not an object"), "\"not an object\"", "write it like {\"id\":"),
    ];
    for (number, (text, id, says)) in cases.iter().enumerate() {
        fixture.write_request("orders", &text.to_string()).await?;
        let answer = fixture.answer("orders", id).await?;
        ensure!(answer.outcome == RequestOutcome::Refused && answer.action == "Malformed", "{answer:?}");
        ensure!(answer.message.contains(says), "{answer:?}");
        let told = notes(&env, "orders", "RequestRefused").await?;
        ensure!(told.len() == number + 1 && told.iter().any(|(_, note)| note.contains(says)), "{told:?}");
    }
    fixture.write_request("orders", "{").await?;
    ensure!(fixture.answer("orders", "{").await?.message.contains("cannot be read"));
    let status = fixture.active(&[("primary", 100)]).await?;
    ensure!(status.history.is_empty() && status.pause.is_none() && status.switch.is_none(), "{status:?}");
    let route = api::<MailRoute>(&env).get("orders").await?;
    ensure!(route.metadata.generation == Some(1) && route.annotations()[REQUEST] == "{", "{route:?}");
    Ok(())
}
