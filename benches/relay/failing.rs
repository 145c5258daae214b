//! What an application sees when the first provider fails, under everybody's defaults.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mail_failover_e2e::bench::{Arguments, load};
use mail_failover_e2e::mail::server::{Action, Fault, SessionStage};
use mail_failover_e2e::mail::statistics::{Align, Table, human};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::contenders::{Contender, Demands, Kind, Providers};
use crate::yes_or_no;

/// Messages a second.
const PACE: u32 = 40;
/// The time before the fault.
const BEFORE: Duration = Duration::from_secs(2);
/// Time beyond the median that a message may take when a fault answers.
const FAST: Duration = Duration::from_millis(50);
/// The same when it does not: one stage of the relay, and some.
const SILENT: Duration = Duration::from_millis(5_500);

/// The faults, their names, and true where the provider does not answer.
fn faults() -> [(&'static str, Fault, bool); 7] {
    [
        ("connection refused", Fault::Refuse, false),
        ("reset instead of a greeting", Fault::At(SessionStage::Banner, Action::Reset), false),
        ("421 at the greeting", Fault::reply(SessionStage::Banner, 421, "4.3.2 Service shutting down"), false),
        ("login refused", Fault::reply(SessionStage::Auth, 535, "5.7.8 Authentication credentials invalid"), false),
        (
            "quota at RCPT",
            Fault::reply(SessionStage::Rcpt, 454, "4.7.0 Throttling failure: Daily message quota exceeded"),
            false,
        ),
        (
            "account paused at the end of data",
            Fault::reply(SessionStage::EndOfData, 554, "Message rejected: Sending paused for this account"),
            false,
        ),
        ("silent", Fault::Silent, true),
    ]
}

struct Seen {
    /// Refused, or without an answer.
    failed: usize,
    /// The longest time of an accepted message that began after the fault.
    slowest: Duration,
    /// Messages that took longer than 50 ms more than the median before the fault.
    late: usize,
    /// The time from the fault to the beginning of the last message that failed or was late.
    until: Duration,
    messages: usize,
}

/// Measures all contenders, and returns true if our relay meets the goals.
pub async fn measure(folder: &Path, arguments: Arguments) -> Result<bool> {
    let lasting = Duration::from_secs(if arguments.quick { 4 } else { 14 });
    println!(
        "\nA failover: {PACE} messages a second, each over a connection of its own, providers that demand TLS and a login; the first provider breaks \
         after {} and stays so for {}. Everybody's defaults. LATE: more than {} over the median before.\n",
        human(BEFORE),
        human(lasting),
        human(FAST)
    );
    let mut table = Table::new(&[
        ("FAULT", Align::Left),
        ("WAY", Align::Left),
        ("MESSAGES", Align::Right),
        ("FAILED", Align::Right),
        ("LATE", Align::Right),
        ("SLOWEST", Align::Right),
        ("UNTIL", Align::Right),
        ("MET", Align::Right),
    ]);
    let mut all_met = true;
    for (name, fault, is_silent) in faults() {
        for kind in Kind::available(arguments) {
            // Postfix takes everything into its queue, which `make bench-mta` measures.
            if kind == Kind::Postfix || kind == Kind::Straight {
                continue;
            }
            let seen = one(kind, &fault, lasting, folder).await.with_context(|| format!("{name}, {}", kind.name()))?;
            let bound = if is_silent { SILENT } else { FAST * 4 };
            let met = (kind == Kind::Relay).then(|| seen.failed == 0 && seen.slowest <= bound);
            all_met &= met.unwrap_or(true);
            println!("  {name}, {}: {} failed; load {}", kind.name(), seen.failed, load());
            table.row([
                name.to_owned(),
                kind.name().to_owned(),
                seen.messages.to_string(),
                seen.failed.to_string(),
                seen.late.to_string(),
                human(seen.slowest),
                human(seen.until),
                met.map_or("", yes_or_no).to_owned(),
            ]);
        }
    }
    println!("\n{table}");
    Ok(all_met)
}

async fn one(kind: Kind, fault: &Fault, lasting: Duration, folder: &Path) -> Result<Seen> {
    let providers = Providers::start(Demands::TlsAndLogin).await?;
    let contender = Contender::start(kind, &providers, folder, &[]).await?;
    let application = contender.application(&providers)?;
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let messages = usize::try_from((BEFORE + lasting).as_millis())? * usize::try_from(PACE)? / 1000;
    let (mut broken, mut next) = (None, begun);
    for number in 0..messages {
        sleep_until(next.into()).await;
        next += Duration::from_secs(1) / PACE;
        if broken.is_none() && begun.elapsed() >= BEFORE {
            broken = Some(Instant::now());
            providers.first.set_fault(fault.clone()).await?;
            // A provider that is gone takes its connections along.
            if *fault == Fault::Refuse {
                providers.first.cut_sessions();
            }
        }
        let application = application.clone();
        running.spawn(async move {
            let at = Instant::now();
            (at, application.send_one(&format!("m{number}")).await.ok())
        });
    }
    let broken = broken.context("no fault")?;
    let mut all = vec![];
    while let Some(sent) = running.join_next().await {
        all.push(sent?);
    }
    // So that the relay of the next round finds its port free.
    drop(contender);
    sleep(Duration::from_millis(200)).await;
    let mut healthy: Vec<_> = all.iter().filter(|(at, _)| *at < broken).filter_map(|(_, took)| *took).collect();
    healthy.sort_unstable();
    let median = healthy.get(healthy.len() / 2).copied().context("nothing was sent before the fault")?;
    let mut seen = Seen { failed: 0, slowest: Duration::ZERO, late: 0, until: Duration::ZERO, messages };
    for (at, took) in all.iter().filter(|(at, took)| took.is_none_or(|took| *at + took >= broken)) {
        let is_late = took.is_none_or(|took| took > median + FAST);
        seen.failed += usize::from(took.is_none());
        seen.late += usize::from(took.is_some() && is_late);
        seen.slowest = seen.slowest.max(took.unwrap_or_default());
        if is_late {
            seen.until = seen.until.max(at.saturating_duration_since(broken));
        }
    }
    Ok(seen)
}
