//! Trials of an upgrade of the resource definitions: those of the first release are replaced by the
//! present ones under objects in use. Nothing is lost, and mail flows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::MailRouteStatus;
use mail_failover_e2e::assertions::wait_route;
use mail_failover_e2e::helm::{CHART, objects, repository};
use mail_failover_e2e::in_cluster::installation::{RELEASE, ensure_installed, helm};
use mail_failover_e2e::in_cluster::shop::{Outage, Shop};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

/// The folder of the definitions as published, which never change.
const FIRST: &str = "e2e/fixtures/crds-0.1.0";
const PRESENT: &str = "crds";
const KINDS: &str = "mailroutes,sendingbackends,failoverpolicies";
const DEFINITIONS: [&str; 3] = [
    "customresourcedefinition/mailroutes.mailfailover.io",
    "customresourcedefinition/sendingbackends.mailfailover.io",
    "customresourcedefinition/failoverpolicies.mailfailover.io",
];
/// Manifests that people copy.
const EXAMPLES: [&str; 4] = [
    "examples/quickstart.yaml",
    "examples/deep-probes/account.yaml",
    "examples/postfix-agent/route.yaml",
    "examples/postfix-relays/route.yaml",
];
const PER_SECOND: u32 = 20;
const MEANWHILE: usize = 50;
const DEADLINE: Duration = Duration::from_mins(1);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("objects of the first release's definitions work on under the present ones, while mail flows", upgrade)
            .needs_own_node(),
    ]
}

async fn upgrade(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let first = repository(FIRST).display().to_string();
    // Exactly these definitions, without the chart's.
    env.kubectl_for(DEADLINE, &["replace", "--filename", &first]).await?;
    wait_established(&env).await?;
    let result = run_scenario(env.clone()).await;
    if result.is_err() {
        install_present(&env).await?;
    }
    result
}

async fn run_scenario(env: Arc<TestEnv>) -> Result<()> {
    let valid = valid_examples(&env).await?;
    ensure!(valid.len() >= 8, "{valid:?}");
    let shop = Shop::open_with(env.clone(), as_of_first_release).await?;
    let application = shop.start_application(PER_SECOND).await?;
    shop.wait_stored("a", MEANWHILE).await?;
    // A history to keep.
    shop.break_provider("a", Outage::Refuses).await?;
    shop.wait_active("b").await?;
    shop.repair("a", Outage::Refuses).await?;
    let known = shop.wait_active("a").await?;
    // The last write of a transition.
    wait_route(&env, "orders", "to know the first delivery after the return", |status| {
        status.last_transition.as_ref().is_some_and(|last| last.first_delivery_at.is_some())
    })
    .await?;
    let before = read(&env).await?;
    ensure!(before.len() == 4, "{:?}", before.keys());

    install_present(&env).await?;
    check_same(&before, &read(&env).await?).context("after the definitions were replaced")?;
    let still_valid = valid_examples(&env).await?;
    // An example may use what the first release did not know.
    ensure!(valid.iter().all(|name| still_valid.contains(name)), "valid before: {valid:?}; now: {still_valid:?}");
    // The chart accepts definitions that another manager has changed.
    helm(&env, &["upgrade", RELEASE, CHART], &[]).await?;
    check_same(&before, &read(&env).await?).context("after helm upgrade")?;

    shop.break_provider("a", Outage::Refuses).await?;
    let status = shop.wait_active("b").await?;
    let ids: Vec<_> = status.history.iter().map(|one| one.id).collect();
    ensure!(latest(&status) == latest(&known).map(|id| id + 1), "{ids:?}");
    ensure!(ids.len() == known.history.len() + 1, "{ids:?}");
    shop.wait_stored("b", MEANWHILE).await?;
    shop.repair("a", Outage::Refuses).await?;
    shop.wait_active("a").await?;
    let said = application.finish(0).await?;
    shop.wait_drained().await?;
    let account = shop.account()?;
    ensure!(said.is_smooth(), "{said:?}");
    ensure!(account.delivered == said.accepted && account.lost.is_empty(), "{account:?}");
    Ok(())
}

/// Leaves out of a policy what the first release does not know.
// Its `reflex` is gone: until the present definitions drop it, the operator says that it cannot read such a policy.
fn as_of_first_release(object: &mut Value) {
    if object["kind"] != "FailoverPolicy" {
        return;
    }
    let spec = &mut object["spec"];
    for (of, field) in [("", "breaker"), ("/failure", "deliveries")] {
        spec.pointer_mut(of).and_then(Value::as_object_mut).and_then(|fields| fields.remove(field));
    }
}

/// Installs the present definitions, as a user without Helm does.
async fn install_present(env: &TestEnv) -> Result<()> {
    let present = repository(PRESENT).display().to_string();
    env.kubectl_for(DEADLINE, &["apply", "--server-side", "--force-conflicts", "--filename", &present]).await?;
    wait_established(env).await
}

async fn wait_established(env: &TestEnv) -> Result<()> {
    let mut arguments = vec!["wait", "--for=condition=Established", "--timeout=50s"];
    arguments.extend(DEFINITIONS);
    env.kubectl_for(DEADLINE, &arguments).await.map(drop)
}

/// The id of the latest transition.
fn latest(status: &MailRouteStatus) -> Option<i64> {
    status.last_transition.as_ref().map(|last| last.id)
}

fn check_same(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Result<()> {
    ensure!(before.keys().eq(after.keys()), "{:?} before, {:?} after", before.keys(), after.keys());
    for (name, object) in before {
        ensure!(after[name] == *object, "{name} before: {object}\nafter: {}", after[name]);
    }
    Ok(())
}

/// The served content of each of the shop's objects, without the parts that change by themselves.
async fn read(env: &TestEnv) -> Result<BTreeMap<String, Value>> {
    let list: Value = serde_json::from_str(&env.kubectl(&["get", KINDS, "--output=json"]).await?)?;
    let kept = list["items"].as_array().context("items")?.iter().map(|object| {
        let status = &object["status"];
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        let kept = json!({
            "apiVersion": object["apiVersion"], "uid": object["metadata"]["uid"], "generation": object["metadata"]["generation"],
            "spec": object["spec"],
            "status": { "active": status["active"], "history": status["history"], "lastTransition": status["lastTransition"],
                "state": status["state"], "since": status["since"], "health": status["health"], "type": status["type"],
                "conditions": status["conditions"] },
        });
        (name, kept)
    });
    Ok(kept.collect())
}

/// The objects of the examples that the API server accepts.
async fn valid_examples(env: &TestEnv) -> Result<Vec<String>> {
    let mut valid = Vec::new();
    for path in EXAMPLES {
        let text = std::fs::read_to_string(repository(path)).context(path)?;
        for mut object in objects(&text)? {
            if !object["apiVersion"].as_str().is_some_and(|version| version.starts_with("mailfailover.io/")) {
                continue;
            }
            let name = format!("{path}: {} {}", object["kind"], object["metadata"]["name"]);
            object["metadata"]["namespace"] = env.namespace().into();
            let apply = [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--dry-run=server",
                "--validate=strict",
                "--filename=-",
            ];
            if env.kubectl_with_input(&apply, &object.to_string()).await.is_ok() {
                valid.push(name);
            }
        }
    }
    Ok(valid)
}
