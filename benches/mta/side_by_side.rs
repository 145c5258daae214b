//! The same break under the same load, for each contender.

use std::time::Duration;

use anyhow::{Context, Result};
use mail_failover_e2e::bench::{Arguments, load};
use mail_failover_e2e::mail::statistics::{Align, Table, human};
use mail_failover_e2e::mta::fault::{Cell, FaultKind, Point};
use mail_failover_e2e::mta::round::{Plan, RoundOutcome, run_round};
use mail_failover_e2e::mta::setup::{Demands, INTERVAL, Mta, Providers, Setup, THRESHOLD, TIMEOUT, forget};
use mail_failover_e2e::postfix::PostfixTimeouts;
use mail_failover_e2e::test_env::TestEnv;

use crate::yes_or_no;

/// The faults, and their names.
const CASES: [(&str, Cell); 5] = [
    ("connection refused", Cell { point: Point::Connect, kind: FaultKind::Refuse }),
    ("hang, no banner", Cell { point: Point::Banner, kind: FaultKind::Hang }),
    ("AUTH refused", Cell { point: Point::Auth, kind: FaultKind::AccountRefused }),
    ("account paused, at the end of data", Cell { point: Point::EndOfData, kind: FaultKind::AccountRefused }),
    ("slow, a byte per 700 ms of the banner", Cell { point: Point::Banner, kind: FaultKind::Slow }),
];

/// A means that leads mail, and Postfix's timeouts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Contender {
    name: &'static str,
    setup: Setup,
    timeouts: PostfixTimeouts,
}

const CONTENDERS: [Contender; 5] = [
    Contender { name: "list of relays", setup: Setup::List, timeouts: PostfixTimeouts::Lowered },
    Contender { name: "HAProxy smtpchk, backup", setup: Setup::Proxy, timeouts: PostfixTimeouts::Lowered },
    Contender { name: "agent", setup: Setup::Agent, timeouts: PostfixTimeouts::Lowered },
    Contender { name: "list, Postfix' defaults", setup: Setup::List, timeouts: PostfixTimeouts::Defaults },
    Contender { name: "agent, Postfix' defaults", setup: Setup::Agent, timeouts: PostfixTimeouts::Defaults },
];

/// Runs all cases, and returns true if the agent has met every goal.
pub async fn measure(env: &TestEnv, arguments: Arguments, with_haproxy: bool) -> Result<bool> {
    let (messages, per_second) = if arguments.quick { (300, 100) } else { (1000, 100) };
    println!(
        "\nSide by side: {messages} messages, {per_second} a second, the break after a fifth of them; probes and HAProxy's checks every {} with \
         a timeout of {}, {THRESHOLD} failures; an agent's breaker opens after {THRESHOLD} failed deliveries in a row.",
        INTERVAL.0, TIMEOUT.0
    );
    println!(
        "Timeouts of Postfix are lowered to 2 to 4 s, and deferred mail is tried again after 30 s, unless its defaults are named.\n"
    );
    let mut columns = vec![("FAULT", Align::Left), ("WAY", Align::Left)];
    columns.extend(
        ["NEW MAIL BY STANDBY", "GOAL", "MET", "OLD QUEUE DRAINED", "LOST", "BOUNCED", "TWICE", "STILL QUEUED"]
            .map(|name| (name, Align::Right)),
    );
    let mut table = Table::new(&columns);
    let mut all_met = true;
    let mut rows = Vec::new();
    let all = CASES.into_iter().enumerate().flat_map(|(at, case)| CONTENDERS.map(|contender| (at, case, contender)));
    let mut rounds: Vec<_> = all.collect();
    // Contenders that take minutes per case run last.
    rounds.sort_by_key(|(_, _, contender)| contender.timeouts == PostfixTimeouts::Defaults);
    for (number, (at, (name, cell), contender)) in rounds.into_iter().enumerate() {
        let Contender { setup, timeouts, .. } = contender;
        let skipped = (setup == Setup::Proxy && !with_haproxy) || (arguments.no_peer && setup != Setup::Agent);
        if skipped || (arguments.quick && timeouts == PostfixTimeouts::Defaults) {
            continue;
        }
        let suffix = format!("-side-{number}");
        let within = match timeouts {
            PostfixTimeouts::Lowered => Duration::from_secs(100),
            // The greeting may take 300 s, and the next attempt 300 more.
            PostfixTimeouts::Defaults => Duration::from_secs(700),
        };
        let plan = Plan { cell, messages, recipients: 1, per_second, break_after: messages / 5, within };
        let outcome = one(env, contender, &plan, &suffix).await;
        let outcome = outcome.with_context(|| format!("{name}, {}", contender.name))?;
        let goal = (setup == Setup::Agent).then(|| goal(cell));
        let met = goal.map(|goal| is_met(&outcome, goal));
        all_met &= met.unwrap_or(true);
        println!("  {name}, {}: {}; load {}", contender.name, time(outcome.first_by_standby), load());
        rows.push((at, row(name, contender.name, &outcome, goal, met)));
    }
    rows.sort_by_key(|(at, _)| *at);
    for (_, row) in rows {
        table.row(row);
    }
    println!("\n{table}");
    println!(
        "From the first attempt that met the fault (for a refused connection: from the break). LOST: neither delivered nor queued;"
    );
    println!("BOUNCED: of the lost, those whose sender was told.");
    Ok(all_met)
}

async fn one(env: &TestEnv, contender: Contender, plan: &Plan, suffix: &str) -> Result<RoundOutcome> {
    let demands = Demands { tls: plan.cell.takes_tls(), login: plan.cell.takes_login() };
    let providers = Providers::start(env, demands).await?;
    let mta = Mta::start(env, contender.setup, &providers, contender.timeouts, suffix).await?;
    let outcome = run_round(&mta, &providers, plan).await;
    if contender.setup == Setup::Agent {
        forget(env, suffix).await?;
    }
    outcome
}

/// The goal for new mail by the standby: a second where the fault answers; otherwise the time that
/// the probes need, and 300 ms.
fn goal(cell: Cell) -> Duration {
    if cell.takes_default_timeouts() {
        INTERVAL.1 * THRESHOLD + TIMEOUT.1 + Duration::from_millis(300)
    } else {
        Duration::from_secs(1)
    }
}

fn is_met(outcome: &RoundOutcome, goal: Duration) -> bool {
    outcome.first_by_standby.is_some_and(|first| first <= goal) && outcome.complaints().is_empty()
}

fn row(fault: &str, setup: &str, outcome: &RoundOutcome, goal: Option<Duration>, met: Option<bool>) -> Vec<String> {
    let account = &outcome.account;
    vec![
        fault.to_owned(),
        setup.to_owned(),
        time(outcome.first_by_standby),
        goal.map_or_else(String::new, human),
        met.map_or("", yes_or_no).to_owned(),
        time(outcome.old_delivered),
        account.lost.len().to_string(),
        account.bounced.to_string(),
        account.duplicated.to_string(),
        account.queued.to_string(),
    ]
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), human)
}
