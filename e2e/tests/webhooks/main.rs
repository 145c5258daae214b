//! Trials of the output `webhook` with a receiver in Python, which verifies by the reference library of Standard
//! Webhooks and counts ids.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use mail_failover_api::{MailRoute, OutputStatus};
use mail_failover_e2e::assertions::{api, change, start_operator, wait_leads_to};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, condition, events, route_status,
};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;
use mail_failover_e2e::webhook_receiver::{ReceivedCall, WebhookReceiver};
use serde_json::{Value, json};

/// `whsec_` and 32 bytes, and another one.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const NEW_SECRET: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";

fn main() -> ExitCode {
    let options =
        Options { operator: true, webhooks: true, parallel: 3, deadline: Duration::from_mins(5), ..Options::default() };
    let trials = vec![
        trial("every move is accepted exactly once by its id, through killed operators and lost answers", exactly_once),
        trial("a receiver that asks for patience, fails and hangs is told of, and is led on when it is back", patience),
        trial("a dead receiver costs the Service output nothing", dead_receiver),
        trial("during a rotation both secrets sign, and a receiver with either one accepts", rotation),
        trial(
            "a template that cannot compile is refused with field and reason, and the last good version stays",
            templates,
        ),
    ];
    suite::run("webhooks", options, trials.into_iter().map(|one| one.listens().needs_webhook_receiver()).collect())
}

/// Two backends, a receiver with a certificate of an authority of its own, and what the operator needs for it.
struct Arena {
    fixture: TwoBackendFixture,
    receiver: WebhookReceiver,
}

impl Arena {
    async fn create(env: &Arc<TestEnv>, webhook: Value) -> Result<Self> {
        let authority = Authority::new()?;
        let address = SocketAddr::new(env.ipv4(), 443);
        let identity = authority.issue(&[&address.ip().to_string()], Validity::Valid)?;
        let receiver = WebhookReceiver::start(env, "receiver", address, &identity, SECRET).await?;
        let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "receiver-ca" },
            "data": { "ca.crt": authority.pem() } });
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "receiver" },
            "type": "mailfailover.io/webhook", "stringData": { "signing-secret": SECRET } });
        env.apply(&format!("---\n{config_map}\n---\n{secret}\n")).await?;
        let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
        let mut output = json!({ "name": "receiver", "url": receiver.url(), "secretRef": { "name": "receiver" },
            "caRef": { "configMap": "receiver-ca" }, "timeout": "2s" });
        merge(&mut output, webhook);
        let service = json!({ "service": { "name": "mail", "ports": [{ "name": "smtp", "port": 25 }] } });
        let outputs = json!({ "spec": { "outputs": [service, { "webhook": output }] } });
        change::<MailRoute>(env, "orders", &outputs).await?;
        Ok(Self { fixture, receiver })
    }

    /// Waits until the receiver has accepted an event that leads to a backend, and the status says so.
    async fn wait_told(&self, backend: &str) -> Result<OutputStatus> {
        wait_webhook(&self.fixture.env, &format!("the receiver to be told of {backend}"), |output| {
            output.applied.is_some()
                && output.applied == output.wanted
                && output.active.first().is_some_and(|active| active.backend == backend)
        })
        .await
    }
}

fn merge(target: &mut Value, more: Value) {
    if let (Value::Object(target), Value::Object(more)) = (target, more) {
        target.extend(more);
    }
}

async fn wait_webhook(env: &TestEnv, what: &str, is_there: impl Fn(&OutputStatus) -> bool) -> Result<OutputStatus> {
    eventually(WAIT_TIMEOUT, what, async || {
        let outputs = route_status(env, "orders").await?.outputs;
        Ok(outputs.into_iter().find(|output| output.kind == "Webhook").filter(|output| is_there(output)))
    })
    .await
}

fn taken(calls: &[ReceivedCall]) -> Vec<(u64, String)> {
    let taken = calls.iter().filter(|call| call.outcome == "taken");
    taken.map(|call| (call.sequence, call.backend.clone().unwrap_or_default())).collect()
}

/// Durations in milliseconds, sorted, for people.
fn millis(durations: &[Duration]) -> String {
    let mut millis: Vec<_> = durations.iter().map(Duration::as_millis).collect();
    millis.sort_unstable();
    format!("{millis:?} ms")
}

async fn exactly_once(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, json!({ "await": true })).await?;
    let mut operator = arena.fixture.start_operator("a").await?;
    arena.wait_told("primary").await?;
    let mut expected = vec!["primary"];
    for round in 0..6 {
        // The operator dies while answers are lost: nobody has written down that the receiver has taken the event over.
        arena.receiver.set_mode("lose")?;
        let (fault, backend) = if round % 2 == 0 { (true, "standby") } else { (false, "primary") };
        if fault {
            arena.fixture.primary.set_fault(Fault::Refuse).await?;
        } else {
            arena.fixture.primary.repair().await?;
        }
        expected.push(backend);
        eventually(WAIT_TIMEOUT, "the receiver to take the event over", async || {
            Ok((taken(&arena.receiver.received()?).len() == expected.len()).then_some(()))
        })
        .await?;
        operator.kill();
        drop(operator);
        arena.receiver.set_mode("accept")?;
        operator = arena.fixture.env.start_own_operator(&format!("b{round}"), &QUICK_LEASE).await?;
        operator.wait_ready(WAIT_TIMEOUT).await?;
        arena.wait_told(backend).await?;
    }
    let calls = arena.receiver.received()?;
    let told = taken(&calls);
    ensure!(told.iter().map(|(_, backend)| backend.as_str()).collect::<Vec<_>>() == expected, "{told:?}");
    ensure!(told.is_sorted_by(|a, b| a.0 < b.0), "the numbers grow: {told:?}");
    ensure!(calls.iter().all(|call| call.outcome != "unverified"), "{calls:?}");
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *ids.entry(&call.id).or_default() += 1;
    }
    ensure!(ids.len() == expected.len(), "an id for each event, and none more: {ids:?}");
    let again = calls.iter().filter(|call| call.outcome == "again").count();
    ensure!(again >= 6, "each lost answer was asked for again: {again}");
    println!("{} events, {} calls, {again} of them again under the same id", ids.len(), calls.len());
    Ok(())
}

async fn patience(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, json!({})).await?;
    let _operator = arena.fixture.start_operator("a").await?;
    arena.wait_told("primary").await?;
    arena.receiver.set_mode("busy")?;
    arena.fixture.primary.set_fault(Fault::Refuse).await?;
    wait_webhook(&env, "the receiver's wish to be noted", |output| {
        output.failure.as_ref().is_some_and(|failure| failure.not_before.is_some())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(7)).await;
    let busy: Vec<_> = arena.receiver.received()?.into_iter().filter(|call| call.outcome == "busy").collect();
    ensure!(busy.windows(2).all(|pair| pair[1].at - pair[0].at >= 1.9), "2 s were asked for: {busy:?}");
    arena.receiver.set_mode("hang")?;
    eventually(WAIT_TIMEOUT, "the failure to be told", async || {
        let status = route_status(&env, "orders").await?;
        Ok((condition(&status, "WebhooksApplied") == ("False".into(), "WebhookFailing".into())).then_some(()))
    })
    .await?;
    let status = route_status(&env, "orders").await?;
    ensure!(condition(&status, "Ready").0 == "True" && condition(&status, "OutputsApplied").0 == "True", "{status:?}");
    eventually(WAIT_TIMEOUT, "the Event", async || {
        Ok(events(&env, "orders").await?.contains(&"WebhookFailing".to_owned()).then_some(()))
    })
    .await?;
    arena.receiver.set_mode("accept")?;
    arena.wait_told("standby").await?;
    let status = eventually(WAIT_TIMEOUT, "the all-clear", async || {
        let status = route_status(&env, "orders").await?;
        Ok((condition(&status, "WebhooksApplied").0 == "True").then_some(status))
    })
    .await?;
    ensure!(status.outputs.iter().all(|output| output.failure.is_none()), "{status:?}");
    Ok(())
}

/// Time from the decision of each of some failovers until the Service leads elsewhere, as the status has it.
async fn actuations(env: &Arc<TestEnv>, arena: &Arena) -> Result<Vec<Duration>> {
    let mut took = vec![];
    for _ in 0..4 {
        for (backend, fault) in [("standby", true), ("primary", false)] {
            if fault {
                arena.fixture.primary.set_fault(Fault::Refuse).await?;
            } else {
                arena.fixture.primary.repair().await?;
            }
            let last = arena.fixture.wait_active(backend).await?.last_transition.context("a transition")?;
            let applied = last.applied_at.context("applied")?;
            took.push(Duration::try_from(applied.0.duration_since(last.decided_at.0))?);
        }
    }
    let address = arena.fixture.primary.address().ip().to_string();
    wait_leads_to(env, "mail", &[address]).await?;
    Ok(took)
}

async fn dead_receiver(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, json!({ "timeout": "30s" })).await?;
    let _operator = arena.fixture.start_operator("a").await?;
    arena.wait_told("primary").await?;
    let before = arena.receiver.received()?.len();
    let alive = actuations(&env, &arena).await?;
    arena.wait_told("primary").await?;
    let told = arena.receiver.received()?;
    ensure!(told.len() > before, "it is called");
    let decided = route_status(&env, "orders").await?.history;
    arena.receiver.set_mode("hang")?;
    let dead = actuations(&env, &arena).await?;
    println!("from decision to Service: receiver alive {}, dead {}", millis(&alive), millis(&dead));
    let slowest = |all: &[Duration]| all.iter().max().copied().unwrap_or_default();
    ensure!(
        slowest(&dead) < slowest(&alive) * 3 + Duration::from_secs(2),
        "the Service must not wait for the receiver: alive {}, dead {}",
        millis(&alive),
        millis(&dead)
    );
    let mut delays = vec![];
    for transition in &decided {
        let at = transition.decided_at.0.as_duration().as_secs_f64();
        let call = told.iter().find(|call| call.outcome == "taken" && call.at >= at - 0.001);
        if let Some(call) = call.filter(|call| call.backend.as_deref() == Some(transition.to.as_str())) {
            delays.push(Duration::from_secs_f64((call.at - at).max(0.0)));
        }
    }
    println!("from decision to the receiver: {}", millis(&delays));
    Ok(())
}

async fn rotation(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, json!({})).await?;
    let _operator = arena.fixture.start_operator("a").await?;
    arena.wait_told("primary").await?;
    let rotated = json!({ "stringData": { "signing-secret": NEW_SECRET, "previous-signing-secret": SECRET } });
    change::<Secret>(&env, "receiver", &rotated).await?;
    let rotated = Instant::now();
    // Calls until the operator has read the Secret again, at most 36 s later.
    eventually(WAIT_TIMEOUT, "a call with two signatures", async || {
        let name = format!("receiver/{}", rotated.elapsed().as_secs());
        let path = format!("{}?{}", arena.receiver.url(), name.len());
        let status = route_status(&env, "orders").await?;
        let output = status.outputs.iter().find(|output| output.kind == "Webhook").context("a webhook")?;
        if output.applied == output.wanted {
            let mut outputs = serde_json::to_value(api::<MailRoute>(&env).get("orders").await?.spec.outputs)?;
            outputs[1]["webhook"]["url"] = json!(format!("{path}{}", rotated.elapsed().as_millis()));
            change::<MailRoute>(&env, "orders", &json!({ "spec": { "outputs": outputs } })).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(arena.receiver.received()?.iter().any(|call| call.signatures == 2).then_some(()))
    })
    .await?;
    let calls = arena.receiver.received()?;
    ensure!(calls.iter().all(|call| call.outcome == "taken"), "the receiver knows the previous secret: {calls:?}");
    println!("two signatures {:.0?} after the rotation", rotated.elapsed());
    Ok(())
}

async fn templates(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, json!({})).await?;
    let _operator = start_operator(&env, &[]).await?;
    arena.wait_told("primary").await?;
    let mut outputs = serde_json::to_value(api::<MailRoute>(&env).get("orders").await?.spec.outputs)?;
    outputs[1]["webhook"]["body"] = json!("{\"to\": {{ backendd }}}");
    change::<MailRoute>(&env, "orders", &json!({ "spec": { "outputs": outputs } })).await?;
    let status = eventually(WAIT_TIMEOUT, "the template to be refused", async || {
        let status = route_status(&env, "orders").await?;
        Ok((condition(&status, "Ready") == ("False".into(), "InvalidSpec".into())).then_some(status))
    })
    .await?;
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").context("Ready")?;
    ensure!(ready.message.contains("spec.outputs[].webhook.body (receiver): backendd is unknown"), "{}", ready.message);
    // The last good version still leads, and tells.
    arena.fixture.primary.set_fault(Fault::Refuse).await?;
    arena.wait_told("standby").await.map(drop)
}
