//! `make e2e-matrix`: the primary breaks at every point of a session, in every way that makes sense
//! there, under load; with a real Postfix, the agent beside it, the operator and a real API server.
//! It prints a table. The exit code is 0 only if no message is lost or bounces in any cell, and
//! none arrives twice where SMTP can exclude that.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use mail_failover_e2e::bench::{load, machine};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT};
use mail_failover_e2e::mta::fault::Cell;
use mail_failover_e2e::mta::round::{self, Plan, RoundOutcome, run_round};
use mail_failover_e2e::mta::setup::{Demands, Mta, Providers, Setup, forget};
use mail_failover_e2e::postfix::{Postfix, PostfixTimeouts};
use mail_failover_e2e::standalone;
use mail_failover_e2e::test_env::TestEnv;

/// Break the primary everywhere, in every way.
#[derive(Clone, Debug, Parser)]
#[command(name = "matrix")]
struct MatrixArguments {
    /// Messages sent in each cell.
    #[arg(long, default_value_t = 2000)]
    messages: usize,
    /// Messages sent per second.
    #[arg(long, default_value_t = 200)]
    per_second: u32,
    /// Only cells whose name contains this: `end of data`, `hang`, `AUTH, 4xx`.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    let arguments = MatrixArguments::parse();
    standalone::run_with_postfix("the fault matrix", async |env| run_all(env, &arguments).await)
}

async fn run_all(env: Arc<TestEnv>, arguments: &MatrixArguments) -> Result<()> {
    install_crds(&env.client()).await?;
    println!("{}; load {}", machine(), load());
    println!(
        "Postfix {}, timeouts of 2 to 4 s where its defaults are minutes, deferred mail again after 30 s; {} messages in each cell, {} a \
         second, the break after a quarter of them",
        Postfix::version()?,
        arguments.messages,
        arguments.per_second
    );
    println!(
        "probes every 200 ms with a timeout of 500 ms, 3 failures; an agent's breaker opens after 3 failed deliveries in a row\n"
    );
    println!("Cells that make no sense:");
    for cell in Cell::all() {
        if let Err(reason) = cell.fault() {
            println!("  {cell}: {reason}");
        }
    }
    println!();

    let operator = env.start_operator("matrix", &QUICK_LEASE)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    let cells: Vec<_> = Cell::playable().filter(|cell| cell.to_string().contains(&arguments.only)).collect();
    ensure!(!cells.is_empty(), "no cell's name contains {:?}", arguments.only);
    let (count, mut table, mut bad) = (cells.len(), round::table(), 0);
    for (number, cell) in cells.into_iter().enumerate() {
        let begun = Instant::now();
        let verdict = match run_cell(&env, cell, number, arguments).await {
            Ok(outcome) => {
                let complaints = outcome.complaints();
                let verdict =
                    if complaints.is_empty() { "ok".to_owned() } else { format!("NOT OK: {}", complaints.join("; ")) };
                table.row(round::row(&outcome, &verdict));
                verdict
            }
            Err(error) => {
                let verdict = format!("NOT RUN: {error:#}");
                table.row([cell.point.to_string(), cell.kind.to_string(), verdict.clone()]);
                verdict
            }
        };
        bad += usize::from(verdict != "ok");
        println!("{:>2} of {count}  {cell}  ({:.0} s): {verdict}", number + 1, begun.elapsed().as_secs_f64());
    }
    println!(
        "\n{table}\nThe times count from the first attempt that met the fault. COUNTED: by the agent, as deliveries after which a message"
    );
    println!(
        "may be sent more than once. MAY BE: SMTP cannot exclude a second copy, since the primary has the message and has not acknowledged it."
    );
    ensure!(bad == 0, "{bad} of {count} cells failed");
    println!(
        "In {count} cells nothing was lost, nothing bounced, and nothing arrived twice where SMTP can exclude that."
    );
    Ok(())
}

async fn run_cell(env: &TestEnv, cell: Cell, number: usize, arguments: &MatrixArguments) -> Result<RoundOutcome> {
    let suffix = format!("-{number}");
    let demands = Demands { tls: cell.takes_tls(), login: cell.takes_login() };
    let providers = Providers::start(env, demands).await?;
    let mta = Mta::start(env, Setup::Agent, &providers, PostfixTimeouts::Lowered, &suffix).await?;
    let plan = Plan {
        cell,
        messages: arguments.messages,
        recipients: 1,
        per_second: arguments.per_second,
        break_after: arguments.messages / 4,
        within: Duration::from_mins(2),
    };
    let outcome = run_round(&mta, &providers, &plan).await;
    forget(env, &suffix).await?;
    outcome
}
