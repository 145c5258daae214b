//! That the harness tells the truth: what Postfix does without us, told by the same account.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::mail::load::{Load, LoadOptions};
use mail_failover_e2e::mail::server::{Options as ServerOptions, SmtpServer};
use mail_failover_e2e::mta::fault::{Cell, Kind, Point};
use mail_failover_e2e::mta::round::{Plan, play};
use mail_failover_e2e::mta::way::{Demands, Mta, Providers, Way};
use mail_failover_e2e::postfix::{Options, Patience, Postfix};
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};

const PATIENCE: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("Postfix passes mail on, in a chroot as Debian does it", async |stage| passes_on(&stage, true).await)
            .listens(),
        trial("Postfix passes mail on, outside of a chroot", async |stage| passes_on(&stage, false).await).listens(),
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

async fn passes_on(stage: &Stage, chroot: bool) -> Result<()> {
    let server = SmtpServer::start(ServerOptions::new("relay", SocketAddr::new(stage.ipv4(), 25))).await?;
    let at = SocketAddr::new(stage.ipv4(), 25);
    let options = Options { chroot, ..Options::new(at, stage.folder().join("postfix.log")) };
    let relay = format!("[{}]:25", server.address().ip());
    let postfix = Postfix::start(options.with("relayhost", relay)).await?;
    let mut load = LoadOptions::new(postfix.address(), 50, "app@shop.example");
    load.recipients = 2;
    let sent = Load::start(load).finish(PATIENCE).await?;
    ensure!(sent.refusals == 0, "{:?}", sent.last_refusal);
    ensure!(postfix.drained(PATIENCE).await?, "{} messages are still queued", postfix.queued()?);
    let recipients: usize = server.received().iter().map(|message| message.recipients.len()).sum();
    ensure!(recipients == 100, "{recipients} recipients");
    postfix.stop().await
}

async fn keeps_what_it_accepted(stage: Arc<Stage>) -> Result<()> {
    let server = SmtpServer::start(ServerOptions::new("relay", SocketAddr::new(stage.ipv4(), 25))).await?;
    server.crash().await?;
    let at = SocketAddr::new(stage.ipv4(), 25);
    let relay = format!("[{}]:25", server.address().ip());
    let options = Options::new(at, stage.folder().join("postfix.log")).with("relayhost", relay);
    let postfix = Postfix::start(options).await?;
    Load::start(LoadOptions::new(postfix.address(), 20, "app@shop.example")).finish(PATIENCE).await?;
    postfix.kill();
    ensure!(postfix.queued()? == 20, "{} queued", postfix.queued()?);
    postfix.start_again().await?;
    // A listing misses what is moved from one queue to another at that moment.
    eventually(PATIENCE, "all to be queued", async || {
        let queued = postfix.queue()?;
        ensure!(queued.len() == 20, "{queued:?}");
        Ok(Some(()))
    })
    .await?;
    server.repair().await?;
    // A flush passes over what is being tried at that moment.
    eventually(PATIENCE, "all mail to arrive", async || {
        postfix.flush()?;
        let arrived = postfix.drained(Duration::from_millis(500)).await?;
        Ok(arrived.then_some(()))
    })
    .await?;
    ensure!(server.received_count() == 20, "{} arrived", server.received_count());
    Ok(())
}

/// A short load, broken in the middle.
fn plan(point: Point, kind: Kind) -> Plan {
    let cell = Cell { point, kind };
    Plan { cell, messages: 100, recipients: 1, per_second: 100, break_after: 30, within: Duration::from_secs(90) }
}

async fn bounces_by_list(stage: Arc<Stage>) -> Result<()> {
    let providers = Providers::start(&stage, Demands::default()).await?;
    let mta = Mta::start(&stage, Way::List, &providers, Patience::Lowered, "").await?;
    let outcome = play(&mta, &providers, &plan(Point::EndOfData, Kind::AccountRefused)).await?;
    let account = &outcome.account;
    ensure!(account.bounced >= 60 && account.lost.len() == account.bounced, "{outcome:?}");
    ensure!(outcome.bounces == account.bounced, "{outcome:?}");
    ensure!(account.delivered + account.bounced == 100, "{outcome:?}");
    Ok(())
}

async fn bounces_by_haproxy(stage: Arc<Stage>) -> Result<()> {
    let providers = Providers::start(&stage, Demands::default()).await?;
    let mta = Mta::start(&stage, Way::Proxy, &providers, Patience::Lowered, "").await?;
    let outcome = play(&mta, &providers, &plan(Point::EndOfData, Kind::AccountRefused)).await?;
    ensure!(outcome.account.bounced >= 60 && outcome.first_by_standby.is_none(), "{outcome:?}");
    Ok(())
}

async fn passes_refusal_by_list(stage: Arc<Stage>) -> Result<()> {
    let providers = Providers::start(&stage, Demands::default()).await?;
    let mta = Mta::start(&stage, Way::List, &providers, Patience::Lowered, "").await?;
    let outcome = play(&mta, &providers, &plan(Point::Connect, Kind::Refuse)).await?;
    let account = &outcome.account;
    ensure!(account.delivered == 100 && account.lost.is_empty() && account.duplicated == 0, "{outcome:?}");
    ensure!(outcome.first_by_standby.is_some_and(|first| first < Duration::from_secs(5)), "{outcome:?}");
    Ok(())
}

async fn tls_and_login(stage: Arc<Stage>) -> Result<()> {
    let providers = Providers::start(&stage, Demands { tls: true, login: true }).await?;
    let mta = Mta::start(&stage, Way::List, &providers, Patience::Lowered, "").await?;
    let outcome = play(&mta, &providers, &plan(Point::Auth, Kind::AccountRefused)).await?;
    ensure!(outcome.account.delivered == 100, "{outcome:?}");
    let received = [providers.primary.received(), providers.standby.received()].concat();
    ensure!(received.iter().all(|message| message.encrypted && message.user.as_deref() == Some("app")), "{received:?}");
    Ok(())
}
