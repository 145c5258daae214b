//! Trials of names that do not resolve and servers that abuse their clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::Health;
use mail_failover_e2e::assertions::{manifest, start_operator, wait_leads_to};
use mail_failover_e2e::eventually::eventually_is;
use mail_failover_e2e::fixture::{
    PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT, backend, events, policy, route, route_status, wait_active,
    wait_health,
};
use mail_failover_e2e::mail::dns::DnsServer;
use mail_failover_e2e::mail::server::{Action, Fault, Options, SessionStage, SmtpServer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

const HOST: &str = "relay.provider.example";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a name that does not exist is left, one that nobody answers for is not", names).listens(),
        trial("a name that never resolved is Unresolvable, and a backend once it does", late_name).listens(),
        trial("a server that floods or trickles is named for it, and holds up no other probe", abuse).listens(),
    ]
}

async fn named(env: &TestEnv) -> Result<(SmtpServer, SmtpServer, DnsServer)> {
    let primary = SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 25))).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    let names = DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?;
    let spec = json!({ "smtp": { "host": HOST, "port": 25 },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "500ms", "smtp": {} }] });
    let manifests = [
        policy(&PolicyTimings::with_failback()),
        manifest("SendingBackend", "primary", &spec),
        backend("standby", standby.address(), &PolicyTimings::default()),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    Ok((primary, standby, names))
}

async fn names(env: Arc<TestEnv>) -> Result<()> {
    let (primary, _standby, names) = named(&env).await?;
    let there = vec![primary.address().ip()];
    names.set(HOST, there.clone())?;
    let _operator = start_operator(&env, &["--dns-server", &names.address().to_string()]).await?;
    wait_active(&env, "orders", "primary").await?;

    // A failure of our own name server is no evidence: the last known addresses are still probed.
    for trouble in ["SERVFAIL", "silence"] {
        let (asked, probed) = (names.queries(HOST)?, primary.counters().connections);
        if trouble == "SERVFAIL" {
            names.set_servfail(HOST)?;
        } else {
            names.set_silent(true);
        }
        eventually_is(
            WAIT_TIMEOUT,
            &format!("questions and probes during {trouble}"),
            async || Ok((names.queries(HOST)? - asked, primary.counters().connections - probed)),
            // Three failures would have sufficed for a failover.
            |(asked, probed)| *asked >= 6 && *probed >= 6,
        )
        .await?;
        names.set_silent(false);
        names.set(HOST, there.clone())?;
        ensure!(events(&env, "orders").await?.is_empty(), "{trouble}: {:?}", events(&env, "orders").await?);
        ensure!(route_status(&env, "orders").await?.active[0].backend == "primary", "{trouble}");
    }

    for gone in ["NXDOMAIN", "no address"] {
        if gone == "NXDOMAIN" {
            names.set_nxdomain(HOST)?;
        } else {
            names.set(HOST, vec![])?;
        }
        let status = wait_active(&env, "orders", "standby").await.with_context(|| gone.to_owned())?;
        ensure!(status.last_transition.is_some_and(|last| last.reason == "Unresolvable"), "{gone}");
        wait_health(&env, "primary", Health::Unhealthy, "Unresolvable").await?;
        names.set(HOST, there.clone())?;
        wait_active(&env, "orders", "primary").await.with_context(|| format!("after {gone}"))?;
    }
    Ok(())
}

async fn late_name(env: Arc<TestEnv>) -> Result<()> {
    let (primary, standby, names) = named(&env).await?;
    let _operator = start_operator(&env, &["--dns-server", &names.address().to_string()]).await?;
    wait_health(&env, "primary", Health::Unhealthy, "Unresolvable").await?;
    // The first decision is no transition.
    let status = wait_active(&env, "orders", "standby").await?;
    let told = events(&env, "orders").await?;
    ensure!(status.last_transition.is_none() && told.is_empty(), "{told:?}: {status:?}");
    wait_leads_to(&env, "mail", &[standby.address().ip().to_string()]).await?;
    names.set(HOST, vec![primary.address().ip()])?;
    wait_active(&env, "orders", "primary").await?;
    wait_leads_to(&env, "mail", &[primary.address().ip().to_string()]).await
}

async fn abuse(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let operator = fixture.start_operator("a").await?;
    let faults = [
        (Fault::At(SessionStage::Banner, Action::Huge(1024 * 1024)), "ProtocolError"),
        (Fault::At(SessionStage::Ehlo, Action::Huge(1024 * 1024)), "ProtocolError"),
        (Fault::At(SessionStage::Banner, Action::EndlessLine), "ProtocolError"),
        (Fault::At(SessionStage::Ehlo, Action::EndlessLine), "ProtocolError"),
        (Fault::At(SessionStage::Banner, Action::Slow(Duration::from_secs(1))), "NoAnswer"),
        (Fault::At(SessionStage::Ehlo, Action::Slow(Duration::from_secs(1))), "NoAnswer"),
    ];
    for (fault, reason) in faults {
        fixture.primary.set_fault(fault.clone()).await?;
        let status = fixture.wait_active("standby").await.with_context(|| fault.to_string())?;
        let last = status.last_transition.context("a transition")?;
        ensure!(last.reason == reason, "{fault}: {last:?}");
        let (abusive, other) = (fixture.primary.counters().connections, fixture.standby.counters().connections);
        eventually_is(
            WAIT_TIMEOUT,
            &format!("thirty more rounds of both probes in spite of {fault}"),
            async || Ok((fixture.primary.counters(), fixture.standby.counters().connections)),
            |(primary, standby)| primary.connections >= abusive + 30 && *standby >= other + 30,
        )
        .await?;
        // A round is over after its timeout: dialogues do not pile up. One that trickles learns at its second byte,
        // after 2 s and ten more rounds, that the client has gone.
        let open = fixture.primary.counters().open;
        ensure!(open <= 15, "{fault}: {open} dialogues are open");
        fixture.primary.repair().await?;
        fixture.wait_active("primary").await.with_context(|| format!("after {fault}"))?;
        ensure!(events(&env, "standby").await?.is_empty(), "{fault}: the standby suffered");
    }
    ensure!(operator.ended().is_none());
    Ok(())
}
