//! What a message costs the processor: messages for each second of it that the processes of a
//! contender use.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mail_failover_e2e::bench::{Arguments, cpu_with_children};
use mail_failover_e2e::mail::server::SmtpServer;
use mail_failover_e2e::mail::statistics::{Align, Table};
use tokio::task::JoinSet;

use crate::application::Application;
use crate::contenders::{Contender, Demands, Kind, Providers};
use crate::yes_or_no;

/// Connections of applications at a time.
const CONNECTIONS: usize = 10;
/// The time limit of a delivery by Postfix.
const WITHIN: Duration = Duration::from_mins(5);
/// Multiple of Postfix's messages that our relay is to carry.
const OVER_POSTFIX: f64 = 5.0;
/// The share of HAProxy's messages that it is to carry without TLS.
const OF_HAPROXY: f64 = 0.5;

/// Measures all contenders, and returns true if the goals are met.
pub async fn measure(folder: &Path, arguments: Arguments) -> Result<bool> {
    let messages = if arguments.quick { 500 } else { 5000 };
    println!(
        "\nThe processor: messages for each second of it, {messages} messages over {CONNECTIONS} connections at a time; Postfix until the last is \
         delivered:\n"
    );
    let mut table = Table::new(&[
        ("WAY", Align::Left),
        ("NO TLS, 1 A CONNECTION", Align::Right),
        ("NO TLS, 100 A CONNECTION", Align::Right),
        ("TLS AND LOGIN, 1 A CONNECTION", Align::Right),
    ]);
    let mut all = vec![];
    for kind in Kind::available(arguments).into_iter().filter(|kind| *kind != Kind::Straight) {
        let mut rates = vec![];
        for (demands, batch) in [(Demands::Nothing, 1), (Demands::Nothing, 100), (Demands::TlsAndLogin, 1)] {
            rates.push(one(kind, demands, batch, messages, folder).await.with_context(|| kind.name())?);
        }
        table.row([vec![kind.name().to_owned()], rates.iter().map(|rate| format!("{rate:.0}")).collect()].concat());
        all.push((kind, rates));
    }
    print!("{table}");
    let of = |kind: Kind, at: usize| all.iter().find(|(known, _)| *known == kind).and_then(|(_, rates)| rates.get(at));
    let mut met = true;
    let relay = [0, 1, 2].map(|at| of(Kind::Relay, at).copied().unwrap_or_default());
    if let Some(postfix) = of(Kind::Postfix, 0) {
        let ratio = relay[0] / postfix;
        met &= ratio >= OVER_POSTFIX;
        println!("  goal: {OVER_POSTFIX} times Postfix: {ratio:.1}, {}", yes_or_no(ratio >= OVER_POSTFIX));
    }
    if let Some(haproxy) = of(Kind::HaProxy, 0) {
        let ratio = relay[0] / haproxy;
        met &= ratio >= OF_HAPROXY;
        println!("  goal: {OF_HAPROXY} times HAProxy, without TLS: {ratio:.2}, {}", yes_or_no(ratio >= OF_HAPROXY));
    }
    Ok(met)
}

async fn one(kind: Kind, demands: Demands, batch: usize, messages: usize, folder: &Path) -> Result<f64> {
    let providers = Providers::start(demands).await?;
    let contender = Contender::start(kind, &providers, folder, &[]).await?;
    let process = contender.process()?.context("a process")?;
    let application = contender.application(&providers)?;
    send(&application, 100, batch).await?;
    until_delivered(&providers.first, 100).await?;
    let before = cpu_with_children(process)?;
    send(&application, messages, batch).await?;
    until_delivered(&providers.first, 100 + messages).await?;
    let used = cpu_with_children(process)?.saturating_sub(before);
    let sent = f64::from(u32::try_from(messages)?);
    Ok(sent / used.as_secs_f64().max(0.01))
}

async fn until_delivered(server: &SmtpServer, messages: usize) -> Result<()> {
    Ok(server.wait_for_received(messages, WITHIN).await?)
}

async fn send(application: &Application, messages: usize, batch: usize) -> Result<()> {
    let mut senders = JoinSet::new();
    for sender in 0..CONNECTIONS {
        senders.spawn(send_some(application.clone(), sender, messages / CONNECTIONS, batch));
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(())
}

async fn send_some(application: Application, sender: usize, messages: usize, batch: usize) -> Result<()> {
    let mut sent = 0;
    while sent < messages {
        let mut session = application.open().await?;
        for _ in 0..batch.min(messages - sent) {
            session.send(&format!("s{sender}-{sent}")).await?;
            sent += 1;
        }
        session.quit().await;
    }
    Ok(())
}
