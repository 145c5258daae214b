//! What an application sees when the first provider fails, under everybody's defaults.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mail_failover_e2e::bench::{Arguments, load};
use mail_failover_e2e::mail::server::{Action, Ending, Fault, SessionStage};
use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::contenders::{Contender, Demands, Kind, Providers};

/// Messages a second.
const PACE: u32 = 40;
/// The time before the fault.
const BEFORE: Duration = Duration::from_secs(2);
/// Time that a message may take beyond health. Health's part is the median of the same round before the fault.
const FAST: Duration = Duration::from_millis(50);
/// One stage of the relay (`--stage-timeout`), for which the first messages may wait when a provider falls silent.
const STAGE: Duration = Duration::from_secs(5);

/// Messages whose final dot may be under way at the moment of the fault, since they take a fraction of the pace.
const UNDER_WAY: usize = 1;

/// The goal of our relay under a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// The provider answers: no message waits, and none is refused.
    Fast,
    /// The provider falls silent: the first messages wait for one stage at most, later ones for nothing, and none is
    /// refused.
    OneStage,
    /// The provider has the final dot and does not answer. Messages may be told of the doubt, and none is refused for
    /// another reason.
    Ambiguous,
}

impl Goal {
    /// The verdict, as a cell of the table.
    fn verdict(self, seen: &Seen) -> Verdict {
        let is_in_time = match self {
            Self::Fast => seen.late == 0 && seen.in_doubt <= UNDER_WAY,
            Self::OneStage => seen.most_over <= STAGE + FAST && seen.later == 0 && seen.in_doubt <= UNDER_WAY,
            Self::Ambiguous => true,
        };
        let is_met = is_in_time && seen.failed == 0;
        match (is_met, self) {
            (false, _) => Verdict::Missed,
            (true, Self::Ambiguous) => Verdict::Ambiguous,
            (true, Self::Fast | Self::OneStage) => Verdict::Met,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    /// SMTP leaves the fate of some messages open, so that times say little.
    Ambiguous,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "NOT met",
            Self::Ambiguous => "ambiguous",
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
    faults.push(("silent".to_owned(), Fault::Silent, Goal::OneStage));
    faults.push(("no packet comes back".to_owned(), Fault::Blackhole, Goal::OneStage));
    for stage in HANGS {
        let goal = match stage {
            // What fits into the buffers of the kernel is sent, and the end of the content with it.
            SessionStage::Content | SessionStage::EndOfData => Goal::Ambiguous,
            SessionStage::Banner
            | SessionStage::Ehlo
            | SessionStage::StartTls
            | SessionStage::Handshake
            | SessionStage::Auth
            | SessionStage::Mail
            | SessionStage::Rcpt
            | SessionStage::Data => Goal::OneStage,
        };
        faults.push((format!("silent at {stage}"), Fault::At(stage, Action::Hang), goal));
    }
    faults.push(("accepted, then reset".to_owned(), Fault::AcceptWithoutReply(Ending::Reset), Goal::Ambiguous));
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

#[derive(Debug, Default)]
struct Seen {
    /// The median before the fault.
    healthy: Duration,
    /// The longest time of a message before the fault, beyond that median.
    over_before: Duration,
    /// Refused for another reason than doubt, or without an answer.
    failed: usize,
    /// Refused with the words that a provider may have accepted them.
    in_doubt: usize,
    /// The longest time of an accepted message that was under way at the fault or began after it, beyond health.
    most_over: Duration,
    /// Accepted messages that took longer than 50 ms beyond health.
    late: usize,
    /// Of these, those that began when the first ones had waited for their stage.
    later: usize,
    /// The time from the fault to the beginning of the last message that failed or was late.
    until: Duration,
    messages: usize,
}

/// A message of the application.
struct Attempt {
    begun: Instant,
    /// The time until it was accepted, or the refusal.
    result: Result<Duration>,
}

impl Attempt {
    fn is_under_way_after(&self, fault: Instant) -> bool {
        self.result.as_ref().ok().is_none_or(|took| self.begun + *took >= fault)
    }
}

impl Seen {
    /// Sums up the messages of a round.
    fn of(attempts: &[Attempt], fault: Instant) -> Result<Self> {
        let before = attempts.iter().filter(|attempt| !attempt.is_under_way_after(fault));
        let before = Summary::of(before.filter_map(|attempt| attempt.result.as_ref().ok().copied()));
        let before = before.context("nothing was sent before the fault")?;
        let healthy = before.p50;
        let over_before = before.max.saturating_sub(healthy);
        let mut seen = Self { healthy, over_before, messages: attempts.len(), ..Self::default() };
        let mut late_at = vec![];
        for attempt in attempts.iter().filter(|attempt| attempt.is_under_way_after(fault)) {
            let after = attempt.begun.saturating_duration_since(fault);
            match &attempt.result {
                Ok(took) => {
                    let over = took.saturating_sub(healthy);
                    seen.most_over = seen.most_over.max(over);
                    if over > FAST {
                        late_at.push(after);
                        seen.until = seen.until.max(after);
                    }
                }
                Err(refusal) => {
                    let is_in_doubt = refusal.to_string().contains("may have accepted the message");
                    seen.in_doubt += usize::from(is_in_doubt);
                    seen.failed += usize::from(!is_in_doubt);
                    seen.until = seen.until.max(after);
                }
            }
        }
        seen.late = late_at.len();
        // A session that was open before the fault may work for a while. The breaker opens after two have waited,
        // and the second one begins a pace after the first.
        let first = late_at.iter().min().copied().unwrap_or_default();
        let window = STAGE + (Duration::from_secs(1) / PACE) * 2 + FAST;
        seen.later = late_at.iter().filter(|at| **at > first + window).count();
        Ok(seen)
    }
}

/// Measures all contenders, and returns true if our relay meets the goals.
pub async fn measure(folder: &Path, arguments: Arguments) -> Result<bool> {
    // Longer than one stage, or nobody would see that later messages wait for nothing.
    let lasting = Duration::from_secs(if arguments.quick { 8 } else { 14 });
    println!(
        "\nA failover: {PACE} messages a second, each over a connection of its own, providers that demand TLS and a login; the first provider breaks \
         after {} and stays so for {}. Everybody's defaults.",
        human(BEFORE),
        human(lasting),
    );
    println!(
        "HEALTH: the median of the round before the fault; OVER: the slowest accepted message beyond that, BEFORE the fault and after it. LATE: more than {} beyond it; LATER: of these, \
         begun after the first ones had waited for {}. IN DOUBT: told by a 451 that a provider may have it.",
        human(FAST),
        human(STAGE)
    );
    println!(
        "Goals of the relay: none refused; if the fault answers none late; if it is silent none later, and OVER at most {}. A lost answer is ambiguous: \
         only other refusals count there.\n",
        human(STAGE + FAST)
    );
    let mut table = Table::new(&[
        ("FAULT", Align::Left),
        ("WAY", Align::Left),
        ("MESSAGES", Align::Right),
        ("HEALTH", Align::Right),
        ("OVER BEFORE", Align::Right),
        ("FAILED", Align::Right),
        ("IN DOUBT", Align::Right),
        ("OVER", Align::Right),
        ("LATE", Align::Right),
        ("LATER", Align::Right),
        ("UNTIL", Align::Right),
        ("GOAL", Align::Left),
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
            let verdict = (kind == Kind::Relay).then(|| goal.verdict(&seen));
            all_met &= verdict != Some(Verdict::Missed);
            println!("  {name}, {}: {} failed; load {}", kind.name(), seen.failed, load());
            table.row([
                name.clone(),
                kind.name().to_owned(),
                seen.messages.to_string(),
                human(seen.healthy),
                human(seen.over_before),
                seen.failed.to_string(),
                seen.in_doubt.to_string(),
                human(seen.most_over),
                seen.late.to_string(),
                seen.later.to_string(),
                human(seen.until),
                verdict.map_or("", Verdict::name).to_owned(),
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
            let begun = Instant::now();
            Attempt { begun, result: application.send_one(&format!("m{number}")).await }
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
    Seen::of(&all, broken)
}
