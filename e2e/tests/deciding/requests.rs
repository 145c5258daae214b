//! What a person asks of a route in the annotation is answered once, and done or refused with a remedy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use mail_failover_api::{Health, MailRoute, RequestOutcome, RouteState, TransitionKind};
use mail_failover_e2e::scene::events;
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{api, change, notes};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::play::{Play, REQUEST, held_by, held_until, is_settled, later, shares, stands};

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

async fn switch(stage: Arc<Stage>) -> Result<()> {
    // Nothing that a policy holds holds what a person asks.
    let hold = json!({ "hold": { "cooldown": "1h", "minimumStay": "1h" } });
    let play = Play::of_two(stage.clone(), hold).await?;
    let operator = play.begin("primary").await?;
    let before = api::<MailRoute>(&stage).get("orders").await?;
    // As a person would.
    let text = r#"{"id":"2026-11-24-1","action":"Switch","to":"standby","reason":"maintenance"}"#;
    stage.kubectl(&["annotate", "mailroute", "orders", &format!("{REQUEST}={text}")]).await?;
    let answer = play.answer("orders", "2026-11-24-1").await?;
    ensure!(answer.outcome == RequestOutcome::Done && answer.action == "Switch", "{answer:?}");
    ensure!(answer.message == "mail goes to standby until a Failback is requested", "{answer:?}");
    let status = play.active(&[("standby", 100)]).await?;
    let switch = status.switch.as_ref().context("a switch")?;
    ensure!(switch.to == "standby" && switch.until.is_none() && !switch.forced, "{switch:?}");
    stands(&status, RouteState::FailedOver, "Requested")?;
    ensure!(held_by(&status) == Some("Switched") && held_until(&status).is_none(), "{status:?}");
    play.leads_to(&["standby"]).await?;
    play.column_is("ACTIVE", "standby").await?;
    let told = notes(&stage, "orders", "RequestDone").await?;
    ensure!(told.len() == 1 && told[0].1 == format!("Switch (2026-11-24-1): {}", answer.message), "{told:?}");

    // A new operator knows that it is done.
    let operator = play.restart(operator).await?;
    let traffic = play.change_route(json!({ "traffic": { "peakPerSecond": 1 } })).await?;
    play.until("to be looked at again", |status| status.observed_generation == traffic.metadata.generation).await?;
    let status = play.active(&[("standby", 100)]).await?;
    ensure!(status.request.as_ref() == Some(&answer) && status.history.len() == 1, "{status:?}");

    // The same id is not answered again, whatever it asks for now.
    let again = json!({
        "metadata": { "annotations": { REQUEST: json!({ "id": "2026-11-24-1", "action": "Failback" }).to_string() } },
        "spec": { "traffic": { "peakPerSecond": 2 } },
    });
    let changed = change::<MailRoute>(&stage, "orders", &again).await?;
    play.until("to be looked at again", |status| status.observed_generation == changed.metadata.generation).await?;
    let status = play.active(&[("standby", 100)]).await?;
    ensure!(status.request.as_ref() == Some(&answer) && status.history.len() == 1, "{status:?}");
    ensure!(notes(&stage, "orders", "RequestDone").await?.len() == 1);

    play.granted(json!({ "id": "2", "action": "Failback" })).await?;
    let status = play.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Requested")?;
    ensure!(status.switch.is_none(), "{status:?}");
    ensure!(events(&stage, "orders").await?.iter().filter(|reason| *reason == "RequestDone").count() == 2);
    // Two changes of the spec were ours.
    let after = api::<MailRoute>(&stage).get("orders").await?;
    ensure!(after.metadata.generation == before.metadata.generation.map(|generation| generation + 2));
    drop(operator);
    Ok(())
}

async fn force(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), json!({})).await?;
    let _operator = play.begin("primary").await?;
    play.server("standby").crash().await?;
    play.judged("standby", Health::Unhealthy).await?;
    let says = ["standby is Unhealthy (ConnectionRefused)", "\"force\": true"];
    let answer = play.refused(json!({ "id": "1", "action": "Switch", "to": "standby" }), &says).await?;
    let told = notes(&stage, "orders", "RequestRefused").await?;
    ensure!(told.len() == 1 && told[0].1 == format!("Switch (1): {}", answer.message), "{told:?}");
    let status = play.status().await?;
    ensure!(shares(&status) == [("primary", 100)] && status.switch.is_none(), "{status:?}");

    play.granted(json!({ "id": "2", "action": "Switch", "to": "standby", "force": true })).await?;
    let status = play.active(&[("standby", 100)]).await?;
    ensure!(status.switch.as_ref().is_some_and(|switch| switch.forced), "{status:?}");
    play.leads_to(&["standby"]).await?;
    // No condition to wait for: what is shown is that it is not left, though everything else would be at once.
    sleep(Duration::from_secs(2)).await;
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "Requested")?;
    ensure!(status.history.len() == 1 && held_by(&status) == Some("Switched"), "{status:?}");
    ensure!(status.backends[1].health == Health::Unhealthy, "{status:?}");
    play.granted(json!({ "id": "3", "action": "Failback" })).await?;
    play.active(&[("primary", 100)]).await.map(drop)
}

async fn death(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), json!({ "hold": { "cooldown": "1h", "minimumStay": "1h" } })).await?;
    let _operator = play.begin("primary").await?;
    play.granted(json!({ "id": "1", "action": "Switch", "to": "standby", "for": "1h" })).await?;
    play.active(&[("standby", 100)]).await?;
    play.server("standby").crash().await?;
    let status = play.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "ConnectionRefused")?;
    ensure!(status.switch.is_none(), "{status:?}");
    play.leads_to(&["primary"]).await
}

async fn impossible(stage: Arc<Stage>) -> Result<()> {
    let location = |jurisdiction: &str| json!({ "location": { "jurisdiction": jurisdiction } });
    let other_domain =
        json!({ "location": { "jurisdiction": "EU" }, "senderDomains": [{ "domain": "other.example" }] });
    let backends =
        [("primary", location("EU")), ("abroad", location("US")), ("other", other_domain), ("standby", location("EU"))];
    let limits = json!({ "residency": { "jurisdictions": ["EU"] }, "senderDomains": ["shop.example"] });
    let play = Play::set(stage.clone(), &backends, json!({}), limits).await?;
    let _operator = play.begin("primary").await?;
    let switch = |id: &str, to: &str, force: bool| json!({ "id": id, "action": "Switch", "to": to, "force": force });
    let cases = [
        (switch("1", "abroad", false), vec!["spec.residency", "no request overrides that"]),
        (switch("2", "abroad", true), vec!["spec.residency", "no request overrides that"]),
        (switch("3", "other", true), vec!["spec.senderDomains", "no request overrides that"]),
        (switch("4", "nobody", true), vec!["nobody is not a backend of this route", "primary, abroad, other, standby"]),
        (json!({ "id": "5", "action": "Failback" }), vec!["already leaves by primary"]),
    ];
    let count = cases.len();
    for (request, says) in cases {
        play.refused(request, &says).await?;
    }
    ensure!(notes(&stage, "orders", "RequestRefused").await?.len() == count);
    let status = play.active(&[("primary", 100)]).await?;
    ensure!(status.history.is_empty() && status.switch.is_none(), "{status:?}");
    play.granted(switch("6", "standby", false)).await?;
    play.active(&[("standby", 100)]).await.map(drop)
}

async fn for_a_time(stage: Arc<Stage>) -> Result<()> {
    const TIME: Duration = Duration::from_secs(4);
    let play = Play::of_two(stage.clone(), json!({})).await?;
    let _operator = play.begin("primary").await?;
    let answer = play.granted(json!({ "id": "1", "action": "Switch", "to": "standby", "for": "4s" })).await?;
    let status = play.until("to switch", |status| status.switch.is_some()).await?;
    let until = later(&answer.at, TIME);
    ensure!(status.switch.as_ref().is_some_and(|switch| switch.until.as_ref() == Some(&until)), "{status:?}");
    ensure!(held_by(&status) == Some("Switched") && held_until(&status).as_ref() == Some(&until), "{status:?}");
    let status = play.until("to return", |status| shares(status) == [("primary", 100)] && is_settled(status)).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    let last = status.last_transition.as_ref().context("a transition")?;
    ensure!(last.kind == TransitionKind::Failback && last.decided_at >= until, "{status:?}");
    ensure!(status.switch.is_none(), "{status:?}");

    let answer = play.granted(json!({ "id": "2", "action": "Pause", "for": "4s" })).await?;
    let until = later(&answer.at, TIME);
    let status = play.until("to pause", |status| status.pause.is_some()).await?;
    let pause = status.pause.as_ref().context("a pause")?;
    ensure!(pause.since == answer.at && pause.until.as_ref() == Some(&until), "{status:?}");
    ensure!(status.state == Some(RouteState::Paused) && held_until(&status).as_ref() == Some(&until), "{status:?}");
    play.server("primary").crash().await?;
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(status.last_transition.as_ref().is_some_and(|last| last.decided_at >= until), "{status:?}");
    ensure!(status.pause.is_none(), "{status:?}");
    Ok(())
}

async fn failback(stage: Arc<Stage>) -> Result<()> {
    let play =
        Play::of_two(stage.clone(), json!({ "hold": { "cooldown": "1h" }, "failback": { "after": "2h" } })).await?;
    let _operator = play.begin("primary").await?;
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    let says = ["primary is Unhealthy", "request a Switch to it with \"force\": true"];
    play.refused(json!({ "id": "1", "action": "Failback" }), &says).await?;
    play.server("primary").repair().await?;
    play.held("Soak").await?;
    play.granted(json!({ "id": "2", "action": "Failback" })).await?;
    let status = play.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Requested")?;
    ensure!(status.last_transition.is_some_and(|last| last.kind == TransitionKind::Failback));
    play.leads_to(&["primary"]).await?;
    let told = events(&stage, "orders").await?;
    let at = |reason: &str| told.iter().filter(|told| *told == reason).count();
    ensure!((at("RequestRefused"), at("RequestDone"), at("FailedOver"), at("FailedBack")) == (1, 1, 1, 1), "{told:?}");
    Ok(())
}

async fn pause(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), json!({})).await?;
    let _operator = play.begin("primary").await?;
    play.refused(json!({ "id": "0", "action": "Resume" }), &["the route is not paused"]).await?;
    let answer = play.granted(json!({ "id": "1", "action": "Pause" })).await?;
    ensure!(answer.message == "nothing moves until a Resume is requested", "{answer:?}");
    play.server("primary").crash().await?;
    let status = play.judged("primary", Health::Unhealthy).await?;
    // A moment in which everything else would have moved.
    sleep(Duration::from_secs(1)).await;
    let still = play.active(&[("primary", 100)]).await?;
    ensure!(still.state == Some(RouteState::Paused) && held_by(&still) == Some("Paused"), "{still:?}");
    ensure!(still.history.is_empty() && still.pause == status.pause && still.pause.is_some(), "{still:?}");
    play.column_is("STATE", "Paused").await?;
    play.column_is("ACTIVE", "primary").await?;
    play.leads_to(&["primary"]).await?;
    play.granted(json!({ "id": "2", "action": "Resume" })).await?;
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
    ensure!(status.pause.is_none(), "{status:?}");
    play.leads_to(&["standby"]).await?;
    play.column_is("STATE", "FailedOver").await
}

async fn approval(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), json!({ "failback": { "mode": "Manual" } })).await?;
    let _operator = play.begin("primary").await?;
    let approve = |id: &str| json!({ "id": id, "action": "ApproveFailback" });
    play.refused(approve("1"), &["there is nothing to approve"]).await?;
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    play.server("primary").repair().await?;
    play.held("ManualFailback").await?;
    play.granted(approve("2")).await?;
    let status = play.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    ensure!(status.approved_at.is_none(), "it is used up: {status:?}");

    // Given in advance it lasts until the return, and for that one only.
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    let answer = play.granted(approve("3")).await?;
    let status = play.until("to be approved", |status| status.approved_at.is_some()).await?;
    ensure!(status.approved_at.as_ref() == Some(&answer.at) && shares(&status) == [("standby", 100)], "{status:?}");
    play.server("primary").repair().await?;
    play.active(&[("primary", 100)]).await?;
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    play.server("primary").repair().await?;
    play.held("ManualFailback").await?;
    play.change_policy(json!({ "failback": { "mode": "Automatic" } })).await?;
    play.active(&[("primary", 100)]).await.map(drop)
}

async fn malformed(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), json!({})).await?;
    let _operator = play.begin("primary").await?;
    let cases: [(Value, &str, &str); 5] = [
        (json!({ "id": "1", "action": "Switch" }), "1", "a Switch needs \"to\""),
        (json!({ "id": "2", "action": "Drill" }), "2", "use Switch, Failback, Pause, Resume or ApproveFailback"),
        (json!({ "id": "3", "action": "Pause", "for": "-1h" }), "3", "\"for\" must not be negative"),
        (json!({ "id": "", "action": "Pause" }), "", "\"id\" must have 1 to 64 bytes"),
        (json!("not an object"), "\"not an object\"", "write it like {\"id\":"),
    ];
    for (number, (text, id, says)) in cases.iter().enumerate() {
        play.write_request("orders", &text.to_string()).await?;
        let answer = play.answer("orders", id).await?;
        ensure!(answer.outcome == RequestOutcome::Refused && answer.action == "Malformed", "{answer:?}");
        ensure!(answer.message.contains(says), "{answer:?}");
        let told = notes(&stage, "orders", "RequestRefused").await?;
        ensure!(told.len() == number + 1 && told.iter().any(|(_, note)| note.contains(says)), "{told:?}");
    }
    play.write_request("orders", "{").await?;
    ensure!(play.answer("orders", "{").await?.message.contains("cannot be read"));
    let status = play.active(&[("primary", 100)]).await?;
    ensure!(status.history.is_empty() && status.pause.is_none() && status.switch.is_none(), "{status:?}");
    let route = api::<MailRoute>(&stage).get("orders").await?;
    ensure!(route.metadata.generation == Some(1) && route.annotations()[REQUEST] == "{", "{route:?}");
    Ok(())
}
