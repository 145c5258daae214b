//! Time from a decision of the operator until what follows the route outside the cluster has changed: a zone of a BIND by
//! dynamic updates (RFC 2136), one of a PowerDNS by its API, and the receiver of a webhook.
//!
//! Each move is a `Switch` that a person requests. Its decision is the `decidedAt` of the transition. The operator runs as
//! in production; servers, receiver and operator are on this machine, so that a round trip takes next to nothing. One API is
//! farther away, by a proxy.

mod afar;
mod followers;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use mail_failover_api::{MailRoute, MailRouteStatus};
use mail_failover_e2e::assertions::change;
use mail_failover_e2e::bench::{self, Arguments, load, machine};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, route_status};
use mail_failover_e2e::mail::statistics::{human, percentile};
use mail_failover_e2e::name_server::{API_PORT, HOW_TO_INSTALL, is_installed};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use self::followers::Follower;

/// Moves that are measured, and those of a quick run.
const MOVES: [usize; 2] = [100, 6];

fn main() -> ExitCode {
    bench::run("the bench of actuation", measure)
}

async fn measure(env: Arc<TestEnv>, arguments: Arguments) -> Result<()> {
    ensure!(is_installed(), "{HOW_TO_INSTALL}");
    println!("{}; load {}", machine(), load());
    install_crds(&env.client()).await?;
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let followers = followers::all(&env).await?;
    let mut options = env.operator_options("bench")?;
    let ports = format!("--allow-webhook-ports=443,{API_PORT}");
    options.arguments = QUICK_LEASE.iter().copied().chain([&*ports]).map(Into::into).collect();
    let operator = env.start_operator_with(&options)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    fixture.wait_active("primary").await?;
    let mut request = 0;
    println!("{:<46}{:>5}  {:>9}  {:>9}  {:>9}  goal (p99)", "from a decision to", "N", "p50", "p99", "max");
    for follower in &followers {
        let outputs = json!({ "spec": { "outputs": [follower.output()] } });
        change::<MailRoute>(&env, "orders", &outputs).await?;
        let mut took = vec![];
        // The first two open what is opened once.
        for turn in 0..MOVES[usize::from(arguments.quick)] + 2 {
            request += 1;
            let one = moved(&env, follower, request).await?;
            if turn >= 2 {
                took.push(one);
            }
        }
        print_row(follower, took)?;
    }
    println!("load {}", load());
    operator.terminate(Duration::from_secs(30)).await?;
    Ok(())
}

/// Lets a person request a move. Returns the time from its decision until the follower has followed.
async fn moved(env: &TestEnv, follower: &Follower, request: usize) -> Result<Duration> {
    let to = if request.is_multiple_of(2) { "primary" } else { "standby" };
    wait(env, "the output to be led", |status| {
        status.outputs.iter().any(|output| output.applied.is_some() && output.applied == output.wanted)
            && status.last_transition.as_ref().is_none_or(|last| last.to != to)
    })
    .await?;
    let text = json!({ "id": request.to_string(), "action": "Switch", "to": to, "for": "1h" });
    let asked = SystemTime::now();
    let annotation = json!({ "metadata": { "annotations": { "mailfailover.io/request": text.to_string() } } });
    let (followed, changed) =
        tokio::join!(follower.followed(to, asked), change::<MailRoute>(env, "orders", &annotation));
    changed?;
    let status =
        wait(env, "the transition", |status| status.last_transition.as_ref().is_some_and(|last| last.to == to)).await?;
    let decided = SystemTime::from(status.last_transition.context("a transition")?.decided_at.0);
    let followed = followed?;
    ensure!(followed >= decided, "{to} was there before it was decided");
    Ok(followed.duration_since(decided)?)
}

async fn wait(env: &TestEnv, what: &str, is_there: impl Fn(&MailRouteStatus) -> bool) -> Result<MailRouteStatus> {
    eventually(WAIT_TIMEOUT, what, async || {
        let status = route_status(env, "orders").await?;
        Ok(is_there(&status).then_some(status))
    })
    .await
}

fn print_row(follower: &Follower, mut took: Vec<Duration>) -> Result<()> {
    took.sort_unstable();
    let at = |percent| percentile(&took, percent).context("a measured move");
    let (p50, p99, max) = (at(50)?, at(99)?, at(100)?);
    let goal = follower.goal();
    let met = if p99 <= goal { "met" } else { "NOT met" };
    let [p50, p99, max] = [p50, p99, max].map(human);
    println!("{:<46}{:>5}  {p50:>9}  {p99:>9}  {max:>9}  {}: {met}", follower.name(), took.len(), human(goal));
    Ok(())
}
