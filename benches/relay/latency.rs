//! The time of a message in health, as the application sees it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mail_failover_e2e::bench::Arguments;
use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};

use crate::application::Application;
use crate::contenders::{Contender, Demands, Kind, Providers};
use crate::yes_or_no;

/// Messages that each contender gets in its turn.
const TURN: usize = 20;
/// Time that our relay may add to HAProxy's median.
const OVER_HAPROXY: Duration = Duration::from_micros(500);

/// Connections of the application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// One for each message, as most libraries have it.
    Each,
    /// One for all messages.
    Kept,
}

struct Row {
    contender: Contender,
    application: Application,
    took: Vec<Duration>,
}

/// Measures all contenders in turns, and returns true if the goals are met.
pub async fn measure(folder: &Path, arguments: Arguments) -> Result<bool> {
    let mut met =
        round(folder, arguments, Demands::Nothing, Habit::Each, "no TLS, a connection for each message").await?;
    met &= round(folder, arguments, Demands::Nothing, Habit::Kept, "no TLS, one connection for all messages").await?;
    let name = "providers demand STARTTLS and a login, a connection for each message";
    met &= round(folder, arguments, Demands::TlsAndLogin, Habit::Each, name).await?;
    Ok(met)
}

async fn round(folder: &Path, arguments: Arguments, demands: Demands, habit: Habit, name: &str) -> Result<bool> {
    let messages = if arguments.quick { 200 } else { 3000 };
    println!("\nLatency, {name}; {messages} messages each, one after the other, the contenders in turns:\n");
    let providers = Providers::start(demands).await?;
    let mut rows = vec![];
    for kind in Kind::available(arguments) {
        let contender = Contender::start(kind, &providers, folder, &[]).await?;
        let application = contender.application(&providers)?;
        rows.push(Row { contender, application, took: vec![] });
    }
    // A first turn that is not measured, since it starts processes and fills pools.
    for row in &mut rows {
        turn(row, habit).await?;
        row.took.clear();
    }
    for _ in 0..messages / TURN {
        for row in &mut rows {
            turn(row, habit).await.with_context(|| row.contender.kind.name())?;
        }
    }
    let mut table = Table::new(&[
        ("WAY", Align::Left),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("ADDED P50", Align::Right),
        ("ADDED P99", Align::Right),
    ]);
    let all: Vec<_> =
        rows.iter().filter_map(|row| Some((row.contender.kind, Summary::of(row.took.iter().copied())?))).collect();
    let of = |kind: Kind| all.iter().find(|(known, _)| *known == kind).map(|(_, summary)| *summary);
    let straight = of(Kind::Straight).context("the way straight")?;
    for (kind, summary) in &all {
        let added = [added(summary.p50, straight.p50), added(summary.p99, straight.p99)];
        let [p50, p99] = if *kind == Kind::Straight { [String::new(), String::new()] } else { added };
        table.row([kind.name().to_owned(), human(summary.p50), human(summary.p99), p50, p99]);
    }
    print!("{table}");
    let relay = of(Kind::Relay).context("the relay")?;
    Ok(match (demands, of(Kind::HaProxy)) {
        (Demands::TlsAndLogin, _) => {
            let met = relay.p50 < straight.p50;
            println!("  goal: faster than straight, by the pool: {}", yes_or_no(met));
            met
        }
        (Demands::Nothing, Some(haproxy)) => {
            let met = relay.p50 <= haproxy.p50 + OVER_HAPROXY;
            let over = added(relay.p50, haproxy.p50);
            println!("  goal: at most {} over HAProxy at p50: {over}, {}", human(OVER_HAPROXY), yes_or_no(met));
            met
        }
        (Demands::Nothing, None) => true,
    })
}

async fn turn(row: &mut Row, habit: Habit) -> Result<()> {
    match habit {
        Habit::Each => {
            for number in 0..TURN {
                row.took.push(row.application.send_one(&format!("m{number}")).await?);
            }
        }
        Habit::Kept => {
            let mut session = row.application.open().await?;
            for number in 0..TURN {
                let begun = Instant::now();
                session.send(&format!("m{number}")).await?;
                row.took.push(begun.elapsed());
            }
            session.quit().await;
        }
    }
    Ok(())
}

fn added(time: Duration, to: Duration) -> String {
    match time.checked_sub(to) {
        Some(more) => format!("+{}", human(more)),
        None => format!("-{}", human(to.saturating_sub(time))),
    }
}
