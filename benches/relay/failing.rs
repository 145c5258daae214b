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
/// The same when it does not answer: one stage of the relay, and some.
const SILENT: Duration = Duration::from_millis(5_500);
/// Time for which messages wait for a place at a provider that leaves others without a final answer: the relay's wait for
/// such an answer, and some.
const OWED: Duration = Duration::from_secs(12);
/// Messages that try a provider again while the fault lasts: after 5 s, and after 10 more.
const TRIALS: usize = 2;
/// Messages that nobody can know to be delivered when a provider is silent at the end of data: as many as the relay has
/// connections to it, and those of trials.
const IN_DOUBT: usize = 25;

/// What our relay is to make of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// The provider answers, so that nobody waits.
    Fast,
    /// The first messages wait for one stage, and later ones for nothing, but for so many that try it again.
    OneStage(usize),
    /// The same, and the messages whose end the provider has are told of the doubt.
    Doubt,
}

impl Goal {
    fn is_met(self, seen: &Seen) -> bool {
        match self {
            Self::Fast => seen.failed == 0 && seen.slowest <= FAST * 4,
            Self::OneStage(trials) => seen.failed == 0 && seen.slowest <= SILENT && seen.late_after(SILENT) <= trials,
            Self::Doubt => seen.failed <= IN_DOUBT && seen.slowest <= SILENT && seen.late_after(OWED) == 0,
        }
    }
}

/// The faults and their names.
fn faults() -> Vec<(String, Fault, Goal)> {
    let answers = [
        ("connection refused", Fault::Refuse),
        ("reset instead of a greeting", Fault::At(SessionStage::Banner, Action::Reset)),
        ("421 at the greeting", Fault::reply(SessionStage::Banner, 421, "4.3.2 Service shutting down")),
        ("login refused", Fault::reply(SessionStage::Auth, 535, "5.7.8 Authentication credentials invalid")),
        (
            "quota at RCPT",
            Fault::reply(SessionStage::Rcpt, 454, "4.7.0 Throttling failure: Daily message quota exceeded"),
        ),
        (
            "account paused at the end of data",
            Fault::reply(SessionStage::EndOfData, 554, "Message rejected: Sending paused for this account"),
        ),
    ];
    let mut faults: Vec<_> = answers.map(|(name, fault)| (name.to_owned(), fault, Goal::Fast)).into();
    faults.push(("silent".to_owned(), Fault::Silent, Goal::OneStage(0)));
    faults.push(("no packet comes back".to_owned(), Fault::Blackhole, Goal::OneStage(0)));
    for stage in HANGS {
        let goal = match stage {
            // What fits into the buffers of the kernel is sent, and the end of the content with it.
            SessionStage::Content | SessionStage::EndOfData => Goal::Doubt,
            // ADR-0158: A trial begins with a session and not with a message.
            SessionStage::Mail | SessionStage::Rcpt | SessionStage::Data => Goal::OneStage(TRIALS),
            SessionStage::Banner
            | SessionStage::Ehlo
            | SessionStage::StartTls
            | SessionStage::Handshake
            | SessionStage::Auth => Goal::OneStage(0),
        };
        faults.push((format!("silent at {stage}"), Fault::At(stage, Action::Hang), goal));
    }
    faults
}

/// Stages at which a provider falls silent.
const HANGS: [SessionStage; 9] = [
    SessionStage::Ehlo,
    SessionStage::StartTls,
    SessionStage::Handshake,
    SessionStage::Auth,
    SessionStage::Mail,
    SessionStage::Rcpt,
    SessionStage::Data,
    SessionStage::Content,
    SessionStage::EndOfData,
];

struct Seen {
    /// Refused, or without an answer.
    failed: usize,
    /// The longest time of an accepted message that began after the fault.
    slowest: Duration,
    /// Messages that took longer than 50 ms more than the median before the fault.
    late: usize,
    /// The time from the fault to the beginning of the last message that failed or was late.
    until: Duration,
    /// The times from the fault to the beginning of each accepted message that was late, in order.
    late_at: Vec<Duration>,
    messages: usize,
}

impl Seen {
    /// The number of late messages that began so long after the first of them.
    // A session that was open before the fault may work for a while.
    fn late_after(&self, window: Duration) -> usize {
        let Some(first) = self.late_at.first() else { return 0 };
        self.late_at.iter().filter(|at| **at > *first + window).count()
    }
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
    for (name, fault, goal) in faults() {
        let is_for_all = !matches!(fault, Fault::Blackhole | Fault::At(_, Action::Hang));
        for kind in Kind::available(arguments) {
            // Postfix takes everything into its queue, which `make bench-mta` measures. Peers that wait for silence at
            // each stage would take an hour.
            if kind == Kind::Postfix || kind == Kind::Straight || (kind != Kind::Relay && !is_for_all) {
                continue;
            }
            let seen = one(kind, &fault, lasting, folder).await.with_context(|| format!("{name}, {}", kind.name()))?;
            let met = (kind == Kind::Relay).then(|| goal.is_met(&seen));
            all_met &= met.unwrap_or(true);
            println!("  {name}, {}: {} failed; load {}", kind.name(), seen.failed, load());
            table.row([
                name.clone(),
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
    let mut seen =
        Seen { failed: 0, slowest: Duration::ZERO, late: 0, until: Duration::ZERO, late_at: vec![], messages };
    for (at, took) in all.iter().filter(|(at, took)| took.is_none_or(|took| *at + took >= broken)) {
        let is_late = took.is_none_or(|took| took > median + FAST);
        seen.failed += usize::from(took.is_none());
        seen.late += usize::from(took.is_some() && is_late);
        seen.slowest = seen.slowest.max(took.unwrap_or_default());
        if is_late {
            let after = at.saturating_duration_since(broken);
            seen.until = seen.until.max(after);
            seen.late_at.extend(took.map(|_| after));
        }
    }
    seen.late_at.sort_unstable();
    Ok(seen)
}
