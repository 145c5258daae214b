//! Trials of places: the backends that mail may use, for whom, and the preferred ones.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mail_failover_api::{MailRouteStatus, RouteState};
use mail_failover_e2e::assertions::wait_event;
use mail_failover_e2e::fixture::condition;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

use super::fixture::{DecisionFixture, explains, held_by, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("mail goes to its jurisdictions and to no other, not even when nobody there can deliver", residency)
            .listens(),
        trial("a backend that may not send for all domains of a route gets none of its mail", sender_domains).listens(),
        trial("a backend that a changed route must not use any more is left at once", excluded).listens(),
        trial("backends of preferred regions come before the order of the list", regions).listens(),
    ]
}

fn at(region: &str, jurisdiction: &str) -> Value {
    json!({ "location": { "region": region, "jurisdiction": jurisdiction } })
}

fn reasons(status: &MailRouteStatus) -> Vec<(&str, &str)> {
    status.backends.iter().map(|backend| (backend.name.as_str(), backend.reason.as_str())).collect()
}

async fn residency(env: Arc<TestEnv>) -> Result<()> {
    let backends = [("abroad", at("us-east-1", "US")), ("nowhere", json!({})), ("home", at("eu-west-1", "EU"))];
    let residency = json!({ "residency": { "jurisdictions": ["CH", "EU"] } });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), residency).await?;
    let _operator = fixture.begin("home").await?;
    let status = fixture.until("to judge all", |status| status.healthy_backends.as_deref() == Some("3/3")).await?;
    ensure!(status.state == Some(RouteState::Preferred), "{status:?}");
    ensure!(condition(&status, "FailedOver").0 == "False", "{status:?}");
    ensure!(condition(&status, "Redundant").0 == "False", "{status:?}");
    ensure!(reasons(&status) == [("abroad", "Residency"), ("nowhere", "Residency"), ("home", "Ok")], "{status:?}");
    for name in ["abroad", "nowhere"] {
        explains(&status, &format!("{name} is outside the jurisdictions of the route"))?;
    }
    fixture.server("home").crash().await?;
    let status = fixture.until("to have nobody", |status| status.state == Some(RouteState::NoneHealthy)).await?;
    ensure!(held_by(&status) == Some("NoneHealthy") && shares(&status) == [("home", 100)], "{status:?}");
    wait_event(&env, "orders", "NoneHealthy").await?;
    fixture.leads_to(&["home"]).await?;
    fixture.column_is("STATE", "NoneHealthy").await?;
    // Once another backend is in the jurisdiction, it gets the mail.
    fixture.change_backend("nowhere", json!({ "location": { "jurisdiction": "CH" } })).await?;
    let status = fixture.active(&[("nowhere", 100)]).await?;
    stands(&status, RouteState::Preferred, "ConnectionRefused")?;
    fixture.leads_to(&["nowhere"]).await
}

/// The fields of a backend that may send for these domains.
fn of_domains(domains: &[&str]) -> Value {
    let domains: Vec<_> = domains.iter().map(|domain| json!({ "domain": domain })).collect();
    json!({ "senderDomains": domains })
}

async fn sender_domains(env: Arc<TestEnv>) -> Result<()> {
    let backends = [
        ("one", of_domains(&["shop.example"])),
        ("both", of_domains(&["News.Example", "shop.example", "other.example"])),
        ("any", json!({})),
    ];
    let asked = json!({ "senderDomains": ["SHOP.example", "news.example"] });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), asked).await?;
    let _operator = fixture.begin("both").await?;
    let status = fixture.until("to judge all", |status| status.healthy_backends.as_deref() == Some("3/3")).await?;
    ensure!(reasons(&status) == [("one", "SenderDomain"), ("both", "Ok"), ("any", "Ok")], "{status:?}");
    ensure!(status.state == Some(RouteState::Preferred), "{status:?}");
    explains(&status, "one may not send for all domains of the route")?;
    fixture.server("both").crash().await?;
    fixture.active(&[("any", 100)]).await?;
    fixture.leads_to(&["any"]).await?;
    // With the first domain alone the first backend may carry it, and is preferred.
    fixture.change_route(json!({ "senderDomains": ["shop.example"] })).await?;
    let status = fixture.active(&[("one", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")
}

async fn excluded(env: Arc<TestEnv>) -> Result<()> {
    let backends = [("abroad", at("us-east-1", "US")), ("home", at("eu-west-1", "EU"))];
    let hold = json!({ "hold": { "cooldown": "1h", "minimumStay": "1h" } });
    let fixture = DecisionFixture::create(env.clone(), &backends, hold, json!({})).await?;
    let _operator = fixture.begin("abroad").await?;
    fixture.change_route(json!({ "residency": { "jurisdictions": ["EU"] } })).await?;
    let status = fixture.active(&[("home", 100)]).await?;
    stands(&status, RouteState::Preferred, "Excluded")?;
    ensure!(reasons(&status)[0] == ("abroad", "Residency"), "{status:?}");
    fixture.leads_to(&["home"]).await?;
    let told = wait_event(&env, "orders", "FailedOver").await?;
    ensure!(told.contains("abroad → home: Excluded"), "{told}");
    Ok(())
}

async fn regions(env: Arc<TestEnv>) -> Result<()> {
    let backends = [
        ("us", at("us-east-1", "US")),
        ("ireland", at("eu-west-1", "EU")),
        ("frankfurt", at("eu-central-1", "EU")),
        ("dublin", at("eu-west-1", "EU")),
    ];
    let preferred = json!({ "preferredRegions": ["eu-central-1", "eu-west-1"] });
    let fixture = DecisionFixture::create(env.clone(), &backends, json!({}), preferred).await?;
    let _operator = fixture.begin("frankfurt").await?;
    let status = fixture.until("to judge all", |status| status.healthy_backends.as_deref() == Some("4/4")).await?;
    ensure!(status.state == Some(RouteState::Preferred), "{status:?}");
    ensure!(condition(&status, "FailedOver").0 == "False", "{status:?}");
    let order: Vec<_> = reasons(&status).into_iter().map(|(name, _)| name).collect();
    ensure!(order == ["frankfurt", "ireland", "dublin", "us"], "most preferred first: {status:?}");
    for (dies, next) in [("frankfurt", "ireland"), ("ireland", "dublin"), ("dublin", "us")] {
        fixture.server(dies).crash().await?;
        let status = fixture.active(&[(next, 100)]).await?;
        stands(&status, RouteState::FailedOver, "ConnectionRefused")?;
        ensure!(condition(&status, "FailedOver").0 == "True", "{status:?}");
        fixture.leads_to(&[next]).await?;
    }
    fixture.server("dublin").repair().await?;
    fixture.active(&[("dublin", 100)]).await?;
    fixture.server("frankfurt").repair().await?;
    let status = fixture.active(&[("frankfurt", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")?;
    // Without the field the order of the list counts again.
    fixture.change_route(json!({ "preferredRegions": null })).await?;
    fixture.active(&[("us", 100)]).await.map(drop)
}
