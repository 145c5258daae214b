//! The delay of each message, from Postfix's acceptance to the provider's, in a run with an outage in its
//! middle: default policy and probes, the agent's lines as they are printed by default, and
//! Postfix's own time limits but for those lines.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mail_failover_e2e::bench::{Arguments, load};
use mail_failover_e2e::mail::load::{Account, Load, LoadOptions, Stored};
use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};
use mail_failover_e2e::mta::fault::{Cell, FaultKind, Point};
use mail_failover_e2e::mta::round::is_before_a_message;
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, SENDER, STANDBY, Setup, forget};
use mail_failover_e2e::postfix::PostfixTimeouts;
use mail_failover_e2e::test_env::TestEnv;

use crate::verdict;

/// Time that a message may take beyond health. Health's part is the p99 of the same run before the outage.
const OVER_HEALTH: Duration = Duration::from_millis(50);
/// The time in which messages are to be with a provider, and the percentage of all that are to be.
const SOON: (Duration, usize) = (Duration::from_secs(5), 98);
/// `smtp_connect_timeout` of the agent's lines.
const CONNECT: Duration = Duration::from_secs(5);
/// The time after which the agent sees that sessions have begun and nothing is heard of them. It is
/// shorter than Postfix's time limits for a greeting and for MAIL.
const STALL: Duration = Duration::from_secs(10);
/// The time in which the breaker opens after that, and Postfix has what it held for the backend again.
const FREED: Duration = Duration::from_secs(1);
/// The time limit from the last message on.
const WITHIN: Duration = Duration::from_secs(700);
/// Messages of a first load that is not measured, since it starts Postfix's processes.
const FIRST: usize = 100;

/// The faults, their names, and the time for which the first messages wait if the provider does not answer.
const CASES: [(&str, Cell, Option<Duration>); 8] = [
    ("connection refused", Cell { point: Point::Connect, kind: FaultKind::Refuse }, None),
    ("reset instead of a greeting", Cell { point: Point::Banner, kind: FaultKind::Reset }, None),
    ("421 at the greeting", Cell { point: Point::Banner, kind: FaultKind::Temporary }, None),
    ("4xx at MAIL", Cell { point: Point::Mail, kind: FaultKind::Temporary }, None),
    ("account paused, 5xx at DATA", Cell { point: Point::Data, kind: FaultKind::AccountRefused }, None),
    ("no answer to a connection", Cell { point: Point::Connect, kind: FaultKind::Hang }, Some(CONNECT)),
    ("hang, no greeting", Cell { point: Point::Banner, kind: FaultKind::Hang }, Some(STALL)),
    ("hang at MAIL, after EHLO", Cell { point: Point::Mail, kind: FaultKind::Hang }, Some(STALL)),
];

const CONTENDERS: [(&str, Setup); 2] = [("agent", Setup::AgentByDefault), ("list of relays", Setup::List)];

/// The load of a run.
#[derive(Clone, Copy)]
struct Run {
    messages: usize,
    per_second: u32,
}

/// A message that Postfix has taken.
struct Delivery {
    accepted: Instant,
    /// The time until a provider had it; until the end of the run if none had.
    delay: Duration,
}

struct Outcome {
    /// Messages that were with a provider before the outage.
    health: Summary,
    /// Messages that were taken or under way during the outage.
    outage: Option<Summary>,
    /// Of these, those that were taken when the first ones had waited.
    later: Option<Summary>,
    /// Messages that were taken after the repair.
    after: Option<Summary>,
    /// Messages that were with a provider soon.
    soon: usize,
    account: Account,
}

/// Runs all cases, and returns true if the agent has met every goal.
pub async fn measure(env: &TestEnv, arguments: Arguments) -> Result<bool> {
    let run =
        if arguments.quick { Run { messages: 300, per_second: 10 } } else { Run { messages: 2000, per_second: 25 } };
    println!(
        "\nThe delay of each message under the default policy and Postfix's default time limits, but for those of the agent's lines: {} messages, {} a \
         second, the provider is broken from the first quarter of them to the last.",
        run.messages, run.per_second
    );
    println!(
        "OUTAGE: messages taken while it was broken. LATER: of these, those taken after the first ones had waited: {} for a connection, {} otherwise, and \
         {} to free them. AFTER: messages taken after the repair.",
        human(CONNECT),
        human(STALL),
        human(FREED)
    );
    println!(
        "Goals of the agent: p99 at most {} over HEALTH's, of OUTAGE if the fault answers and of LATER if not; {} % of all messages within {} if it answers \
         or is at EHLO or before; none lost, bounced, twice or left in the queue.\n",
        human(OVER_HEALTH),
        SOON.1,
        human(SOON.0)
    );
    let mut columns = vec![("FAULT", Align::Left), ("WAY", Align::Left)];
    columns.extend(
        [
            "HEALTH P50",
            "HEALTH P99",
            "OUTAGE P99",
            "LATER P99",
            "AFTER P99",
            "SLOWEST",
            "WITHIN 5 s",
            "LOST",
            "BOUNCED",
            "TWICE",
            "STILL QUEUED",
        ]
        .map(|name| (name, Align::Right)),
    );
    columns.push(("GOAL", Align::Left));
    let mut table = Table::new(&columns);
    let mut all_met = true;
    for (number, (name, cell, first)) in CASES.into_iter().enumerate() {
        for (way, setup) in CONTENDERS {
            // A list of relays hangs for Postfix's own 300 s, which the table side by side shows.
            if setup == Setup::List && (arguments.no_peer || first.is_some()) {
                continue;
            }
            let suffix = format!("-default-{number}");
            let outcome = one(env, setup, run, cell, first, &suffix).await;
            let outcome = outcome.with_context(|| format!("{name}, {way}"))?;
            let met = (setup == Setup::AgentByDefault).then(|| is_met(&outcome, cell, first));
            all_met &= met.unwrap_or(true);
            println!("  {name}, {way}: p99 in the outage {}; load {}", p99(outcome.outage), load());
            table.row(row(name, way, &outcome, first, met));
        }
    }
    println!("\n{table}");
    Ok(all_met)
}

async fn one(
    env: &TestEnv,
    setup: Setup,
    run: Run,
    cell: Cell,
    first: Option<Duration>,
    suffix: &str,
) -> Result<Outcome> {
    // The list's files need names of their own.
    let suffix = if setup == Setup::List { format!("{suffix}-list") } else { suffix.to_owned() };
    let providers = Providers::start(env, Demands::default()).await?;
    let mta = Mta::start(env, setup, &providers, PostfixTimeouts::Defaults, &suffix).await?;
    let outcome = with_outage(&mta, &providers, run, cell, first).await;
    if setup == Setup::AgentByDefault {
        forget(env, &suffix).await?;
    }
    outcome
}

async fn with_outage(
    mta: &Mta,
    providers: &Providers,
    run: Run,
    cell: Cell,
    first: Option<Duration>,
) -> Result<Outcome> {
    let Run { messages, per_second } = run;
    let fault = cell.fault().map_err(anyhow::Error::msg)?;
    Load::start(LoadOptions::new(mta.postfix.address(), FIRST, SENDER)).finish(WITHIN).await?;
    providers.primary.wait_for_received(FIRST, WITHIN).await?;

    let mut options = LoadOptions::new(mta.postfix.address(), messages, SENDER);
    options.per_second = Some(per_second);
    let load = Load::start(options);
    load.wait_accepted(messages / 4, WITHIN).await.context("before the outage")?;
    let broken = Instant::now();
    providers.primary.set_fault(fault).await?;
    if is_before_a_message(cell.point) {
        // Otherwise sessions that Postfix keeps for reuse would continue unaffected.
        providers.primary.retire_sessions();
    }
    load.wait_accepted(messages * 3 / 4, WITHIN).await.context("in the outage")?;
    let repaired = Instant::now();
    providers.primary.repair().await?;
    let sent = load.finish(WITHIN).await.context("after the outage")?;
    mta.postfix.drained(WITHIN).await?;

    let ended = Instant::now();
    let stored = Stored::by(&[&providers.primary, &providers.standby]);
    let queue = mta.postfix.queue()?;
    let queued: BTreeSet<_> = queue.into_iter().flat_map(|message| message.recipients).map(|to| to.address).collect();
    let account = Account::of(&sent.accepted, &stored, &mta.postfix.log()?.bounced(), &queued);
    let mut first_copy: HashMap<&str, Instant> = HashMap::new();
    for copy in &stored {
        first_copy.entry(&copy.recipient).and_modify(|at| *at = copy.at.min(*at)).or_insert(copy.at);
    }
    let mut deliveries = Vec::new();
    for message in &sent.accepted {
        for to in &message.recipients {
            let at = first_copy.get(to.as_str()).copied().unwrap_or(ended);
            // A provider may have it before the client has read Postfix's reply.
            deliveries.push(Delivery { accepted: message.at, delay: at.saturating_duration_since(message.at) });
        }
    }

    let (before, rest): (Vec<_>, Vec<_>) =
        deliveries.iter().partition(|delivery| delivery.accepted + delivery.delay < broken);
    let (outage, after): (Vec<_>, Vec<_>) = rest.into_iter().partition(|delivery| delivery.accepted < repaired);
    let freed = broken + first.unwrap_or_default() + FREED;
    let later = outage.iter().filter(|delivery| delivery.accepted >= freed);
    Ok(Outcome {
        health: Summary::of(before.iter().map(|delivery| delivery.delay)).context("nothing before the outage")?,
        later: Summary::of(later.map(|delivery| delivery.delay)),
        outage: Summary::of(outage.iter().map(|delivery| delivery.delay)),
        after: Summary::of(after.iter().map(|delivery| delivery.delay)),
        soon: deliveries.iter().filter(|delivery| delivery.delay <= SOON.0).count(),
        account,
    })
}

fn is_met(outcome: &Outcome, cell: Cell, first: Option<Duration>) -> bool {
    let Outcome { health, outage, later, account, .. } = outcome;
    let judged = if first.is_some() { later } else { outage };
    let is_quick = judged.is_some_and(|summary| summary.p99 <= health.p99 + OVER_HEALTH);
    let is_soon = outcome.soon * 100 >= account.accepted * SOON.1;
    let must_be_soon = first.is_none() || cell.point <= Point::Ehlo;
    let is_whole = account.lost.is_empty() && account.bounced == 0 && account.queued == 0 && account.duplicated == 0;
    is_quick && (is_soon || !must_be_soon) && is_whole && account.by_server.contains_key(STANDBY)
}

fn row(fault: &str, way: &str, outcome: &Outcome, first: Option<Duration>, met: Option<bool>) -> Vec<String> {
    let Outcome { health, outage, later, after, account, .. } = outcome;
    let slowest = [Some(*health), *outage, *after].into_iter().flatten().map(|summary| summary.max).max();
    let thousandths = outcome.soon * 1000 / account.accepted.max(1);
    vec![
        fault.to_owned(),
        way.to_owned(),
        human(health.p50),
        human(health.p99),
        p99(*outage),
        p99(later.filter(|_| first.is_some())),
        p99(*after),
        human(slowest.unwrap_or_default()),
        format!("{}.{} %", thousandths / 10, thousandths % 10),
        account.lost.len().to_string(),
        account.bounced.to_string(),
        account.duplicated.to_string(),
        account.queued.to_string(),
        met.map_or("", verdict).to_owned(),
    ]
}

fn p99(summary: Option<Summary>) -> String {
    summary.map_or_else(|| "-".to_owned(), |summary| human(summary.p99))
}
