//! Trials of a sample of the fault matrix: every point of a session once, and every fault once.
//! `make e2e-matrix` runs all cells, with more mail.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT};
use mail_failover_e2e::mta::fault::{Cell, FaultKind, Point};
use mail_failover_e2e::mta::round::{Plan, run_round};
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, Setup};
use mail_failover_e2e::postfix::PostfixTimeouts;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

const SAMPLE: [Cell; 10] = [
    Cell { point: Point::Connect, kind: FaultKind::Refuse },
    Cell { point: Point::Banner, kind: FaultKind::Hang },
    Cell { point: Point::Ehlo, kind: FaultKind::Garbage },
    Cell { point: Point::StartTls, kind: FaultKind::Temporary },
    Cell { point: Point::Auth, kind: FaultKind::AccountRefused },
    Cell { point: Point::Mail, kind: FaultKind::Reset },
    Cell { point: Point::Rcpt, kind: FaultKind::Temporary },
    Cell { point: Point::Data, kind: FaultKind::Slow },
    Cell { point: Point::EndOfData, kind: FaultKind::AccountRefused },
    Cell { point: Point::AfterAccepting, kind: FaultKind::Reset },
];

pub fn trials() -> Vec<Trial> {
    SAMPLE.into_iter().map(of_cell).collect()
}

fn of_cell(cell: Cell) -> Trial {
    let sentence = format!("no mail is lost or bounced when the primary breaks ({cell})");
    trial(sentence, async move |env| cell_is_survived(env, cell).await).listens()
}

async fn cell_is_survived(env: Arc<TestEnv>, cell: Cell) -> Result<()> {
    let demands = Demands { tls: cell.takes_tls(), login: cell.takes_login() };
    let providers = Providers::start(&env, demands).await?;
    let operator = env.start_own_operator("operator", &QUICK_LEASE).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    let mta = Mta::start(&env, Setup::Agent, &providers, PostfixTimeouts::Lowered, "").await?;
    let plan =
        Plan { cell, messages: 200, recipients: 2, per_second: 100, break_after: 50, within: Duration::from_secs(90) };
    let outcome = run_round(&mta, &providers, &plan).await?;
    ensure!(outcome.complaints().is_empty(), "{}\n{outcome:?}", outcome.complaints().join("; "));
    Ok(())
}
