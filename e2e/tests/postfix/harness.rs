//! Trials of the harness: the same account shows what Postfix does without the agent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::mail::load::{Load, LoadOptions};
use mail_failover_e2e::mail::server::{Options as ServerOptions, SmtpServer};
use mail_failover_e2e::mta::fault::{Cell, FaultKind, Point};
use mail_failover_e2e::mta::round::{Plan, run_round};
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, Setup};
use mail_failover_e2e::postfix::{Options, Postfix, PostfixTimeouts};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("Postfix passes mail on, in a chroot as Debian does it", async |env| passes_on(&env, true).await)
            .listens(),
        trial("Postfix passes mail on, outside of a chroot", async |env| passes_on(&env, false).await).listens(),
        trial("Postfix that is killed has what it had accepted", keeps_what_it_accepted).listens(),
        trial("the account of a list of relays shows a bounce for a paused account", bounces_by_list).listens(),
        trial("the account of a list of relays shows no loss for a refused connection", passes_refusal_by_list)
            .listens(),
        trial("the account of HAProxy's check shows that it sees no paused account", bounces_by_haproxy)
            .listens()
            .needs_haproxy(),
        trial("providers that ask for TLS and a login get both", tls_and_login).listens(),
    ]
}

async fn passes_on(env: &TestEnv, chroot: bool) -> Result<()> {
    let server = SmtpServer::start(ServerOptions::new("relay", SocketAddr::new(env.ipv4(), 25))).await?;
    let at = SocketAddr::new(env.ipv4(), 25);
    let options = Options { chroot, ..Options::new(at, env.folder().join("postfix.log")) };
    let relay = format!("[{}]:25", server.address().ip());
    let postfix = Postfix::start(options.with("relayhost", relay)).await?;
    let mut load = LoadOptions::new(postfix.address(), 50, "app@shop.example");
    load.recipients = 2;
    let sent = Load::start(load).finish(WAIT_TIMEOUT).await?;
    ensure!(sent.refusals == 0, "{:?}", sent.last_refusal);
    ensure!(postfix.drained(WAIT_TIMEOUT).await?, "{} messages are still queued", postfix.queued()?);
    let recipients: usize = server.received().iter().map(|message| message.recipients.len()).sum();
    ensure!(recipients == 100, "{recipients} recipients");
    postfix.stop().await
}

async fn keeps_what_it_accepted(env: Arc<TestEnv>) -> Result<()> {
    let server = SmtpServer::start(ServerOptions::new("relay", SocketAddr::new(env.ipv4(), 25))).await?;
    server.crash().await?;
    let at = SocketAddr::new(env.ipv4(), 25);
    let relay = format!("[{}]:25", server.address().ip());
    let options = Options::new(at, env.folder().join("postfix.log")).with("relayhost", relay);
    let postfix = Postfix::start(options).await?;
    Load::start(LoadOptions::new(postfix.address(), 20, "app@shop.example")).finish(WAIT_TIMEOUT).await?;
    postfix.kill();
    ensure!(postfix.queued()? == 20, "{} queued", postfix.queued()?);
    postfix.start_again().await?;
    // A listing misses messages that move from one queue to another at that moment.
    eventually(WAIT_TIMEOUT, "all to be queued", async || {
        let queued = postfix.queue()?;
        ensure!(queued.len() == 20, "{queued:?}");
        Ok(Some(()))
    })
    .await?;
    server.repair().await?;
    // A flush skips messages that are being tried at that moment.
    eventually(WAIT_TIMEOUT, "all mail to arrive", async || {
        postfix.flush()?;
        let arrived = postfix.drained(Duration::from_millis(500)).await?;
        Ok(arrived.then_some(()))
    })
    .await?;
    ensure!(server.received_count() == 20, "{} arrived", server.received_count());
    Ok(())
}

/// The plan of a short load that is broken in the middle.
fn plan(point: Point, kind: FaultKind) -> Plan {
    let cell = Cell { point, kind };
    Plan { cell, messages: 100, recipients: 1, per_second: 100, break_after: 30, within: Duration::from_secs(90) }
}

async fn bounces_by_list(env: Arc<TestEnv>) -> Result<()> {
    let providers = Providers::start(&env, Demands::default()).await?;
    let mta = Mta::start(&env, Setup::List, &providers, PostfixTimeouts::Lowered, "").await?;
    let outcome = run_round(&mta, &providers, &plan(Point::EndOfData, FaultKind::AccountRefused)).await?;
    let account = &outcome.account;
    ensure!(account.bounced >= 60 && account.lost.len() == account.bounced, "{outcome:?}");
    ensure!(outcome.bounces == account.bounced, "{outcome:?}");
    ensure!(account.delivered + account.bounced == 100, "{outcome:?}");
    Ok(())
}

async fn bounces_by_haproxy(env: Arc<TestEnv>) -> Result<()> {
    let providers = Providers::start(&env, Demands::default()).await?;
    let mta = Mta::start(&env, Setup::Proxy, &providers, PostfixTimeouts::Lowered, "").await?;
    let outcome = run_round(&mta, &providers, &plan(Point::EndOfData, FaultKind::AccountRefused)).await?;
    ensure!(outcome.account.bounced >= 60 && outcome.first_by_standby.is_none(), "{outcome:?}");
    Ok(())
}

async fn passes_refusal_by_list(env: Arc<TestEnv>) -> Result<()> {
    let providers = Providers::start(&env, Demands::default()).await?;
    let mta = Mta::start(&env, Setup::List, &providers, PostfixTimeouts::Lowered, "").await?;
    let outcome = run_round(&mta, &providers, &plan(Point::Connect, FaultKind::Refuse)).await?;
    let account = &outcome.account;
    ensure!(account.delivered == 100 && account.lost.is_empty() && account.duplicated == 0, "{outcome:?}");
    ensure!(outcome.first_by_standby.is_some_and(|first| first < Duration::from_secs(5)), "{outcome:?}");
    Ok(())
}

async fn tls_and_login(env: Arc<TestEnv>) -> Result<()> {
    let providers = Providers::start(&env, Demands { tls: true, login: true }).await?;
    let mta = Mta::start(&env, Setup::List, &providers, PostfixTimeouts::Lowered, "").await?;
    let outcome = run_round(&mta, &providers, &plan(Point::Auth, FaultKind::AccountRefused)).await?;
    ensure!(outcome.account.delivered == 100, "{outcome:?}");
    let received = [providers.primary.received(), providers.standby.received()].concat();
    ensure!(received.iter().all(|message| message.encrypted && message.user.as_deref() == Some("app")), "{received:?}");
    Ok(())
}
