//! The memory of connections that say nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mail_failover_e2e::bench::{Arguments, Usage};
use mail_failover_e2e::mail::statistics::{Align, Table};
use tokio::time::sleep;

use crate::application::{Application, ApplicationSession};
use crate::contenders::{Contender, Demands, Kind, Providers};
use crate::yes_or_no;

/// The bound on one connection's memory in bytes, TLS included.
const BOUND: u64 = 30_000;
/// Connections at a time for which the others are measured: HAProxy has two for each, and each of
/// Postfix is a process.
const OF_OTHERS: usize = 1000;

/// Connections from one address. The kernel keeps the ports of ended ones for a minute, and has 28,232 for each pair of
/// addresses: those of the rounds before would be missing.
const FROM_ONE_ADDRESS: usize = 2000;

/// Measures, and returns true if the goal is met.
pub async fn measure(folder: &Path, arguments: Arguments) -> Result<bool> {
    let connections = if arguments.quick { 1000 } else { 10_000 };
    println!("\nMemory of connections after EHLO that say nothing:\n");
    let mut table = Table::new(&[
        ("WAY", Align::Left),
        ("CONNECTIONS", Align::Right),
        ("EACH", Align::Right),
        ("GOAL", Align::Left),
    ]);
    let mut all_met = true;
    for is_encrypted in [false, true] {
        let each = one(Kind::Relay, connections, is_encrypted, folder).await?;
        let met = each <= BOUND;
        all_met &= met;
        let name = format!("{}{}", Kind::Relay.name(), if is_encrypted { ", STARTTLS" } else { "" });
        table.row([name, connections.to_string(), kilobytes(each), format!("30 kB: {}", yes_or_no(met))]);
    }
    for kind in [Kind::HaProxy, Kind::SmtpRelay] {
        if Kind::available(arguments).contains(&kind) {
            let each = one(kind, OF_OTHERS, false, folder).await?;
            table.row([kind.name().to_owned(), OF_OTHERS.to_string(), kilobytes(each), String::new()]);
        }
    }
    print!("{table}");
    Ok(all_met)
}

async fn one(kind: Kind, connections: usize, is_encrypted: bool, folder: &Path) -> Result<u64> {
    let providers = Providers::start(Demands::Nothing).await?;
    let contender = Contender::start(kind, &providers, folder, &["--max-connections", "20000"]).await?;
    let process = contender.process()?.context("a process")?;
    let application = if is_encrypted {
        Application::encrypted(contender.address, &providers.authority)?
    } else {
        Application::plain(contender.address)
    };
    // The first ones pay for what all share.
    let mut open: Vec<ApplicationSession> = vec![];
    for _ in 0..100 {
        open.push(application.open().await?);
    }
    sleep(Duration::from_secs(1)).await;
    let before = Usage::of(process)?.resident;
    for number in 0..connections {
        let application = Application { from: Some(source(number)?), ..application.clone() };
        open.push(application.open().await.with_context(|| format!("connection {number}"))?);
    }
    sleep(Duration::from_secs(2)).await;
    let after = Usage::of(process)?.resident;
    Ok(after.saturating_sub(before) / u64::try_from(connections)?)
}

/// The address from which this connection comes.
fn source(number: usize) -> Result<IpAddr> {
    let host = u8::try_from(101 + number / FROM_ONE_ADDRESS)?;
    Ok(Ipv4Addr::new(192, 0, 2, host).into())
}

fn kilobytes(bytes: u64) -> String {
    format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100)
}
