//! Trials with Kubernetes' own controllers: the objects of a deleted route are collected, and a
//! route that waited for them takes over.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DeleteParams;
use mail_failover_api::MailRoute;
use mail_failover_e2e::assertions::{api, change, wait_condition, wait_gone, wait_leads_to, wait_object};
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, route, wait_active};
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

fn main() -> ExitCode {
    let options =
        Options { operator: true, controller_manager: true, deadline: Duration::from_mins(5), ..Options::default() };
    let trials = vec![
        trial("the outputs of a deleted route are collected", collected).listens(),
        trial("a route that waited for a target has it once the older one is deleted", inherited).listens(),
        trial("a selector that leads elsewhere is taken away before other controllers' slices stay", selector)
            .listens(),
    ];
    suite::run("garbage", options, trials)
}

async fn collected(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    api::<MailRoute>(&env).delete("orders", &DeleteParams::default()).await?;
    wait_gone::<Service>(&env, "mail").await?;
    wait_gone::<EndpointSlice>(&env, "mail-ipv4").await?;
    wait_gone::<ConfigMap>(&env, "mail").await
}

async fn inherited(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    env.apply(&route("newer", &["standby", "primary"], "mail")).await?;
    wait_condition(&env, "newer", "OutputsApplied", "False", "OutputClaimed").await?;
    api::<MailRoute>(&env).delete("orders", &DeleteParams::default()).await?;
    wait_condition(&env, "newer", "OutputsApplied", "True", "Applied").await?;
    wait_active(&env, "newer", "standby").await?;
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await
}

async fn selector(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    let primary = fixture.primary.address().ip().to_string();
    change::<Service>(&env, "mail", &json!({ "spec": { "selector": { "app": "mta" } } })).await?;
    wait_object(&env, "mail", "to have no selector", |service: &Service| {
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_none_or(std::collections::BTreeMap::is_empty)
    })
    .await?;
    // Clients are led to the primary only, before and after.
    tokio::time::timeout(Duration::from_secs(30), wait_leads_to(&env, "mail", &[primary])).await??;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await
}
