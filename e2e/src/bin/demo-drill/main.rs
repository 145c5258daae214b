//! `make demo-drill`: the primary is refused although it works, and mail flows on.
//!
//! Two providers, a real API server, the operator, and `mail-failover relay` between them and an application that sends
//! all the time. Three drills: one that goes as it should, one whose operator dies in the middle, and one in which the
//! standby turns out to be broken. The exit code is 0 only if the application was never refused a message, each of its
//! messages is at one provider exactly once, and each drill ended as it must. It leaves nothing running, also after
//! Ctrl-C.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT, wait_active};
use mail_failover_e2e::mail::server::{Fault, Options, SmtpServer};
use mail_failover_e2e::mail::statistics::human;
use mail_failover_e2e::operator;
use mail_failover_e2e::standalone;
use mail_failover_e2e::story::Ink;
use mail_failover_e2e::story::relay::{self, FIRST, METRICS, PACE, ROUTE, SECOND, object};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Messages that a provider gets before the next step.
const MEANWHILE: usize = 25;
/// The time limit of each step.
const WITHIN: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    standalone::run("the demo", async |env| demonstrate(env).await)
}

async fn demonstrate(env: Arc<TestEnv>) -> Result<()> {
    let (first, second) = (provider(FIRST).await?, provider(SECOND).await?);
    println!("Two providers: {} at {} and {} at {}.", FIRST.0, first.address(), SECOND.0, second.address());
    let policy = json!({"failure": {"consecutive": 3}, "recovery": {"consecutive": 3},
        "hold": {"cooldown": "0s", "minimumStay": "0s", "budget": {"switches": 10, "per": "1s"}}, "failback": {"after": "1s"},
        "drills": {"mode": "Blocked", "stay": "5s", "budget": {"drills": 5, "per": "1m"}}});
    let operator = relay::start_operator(&env, &[backend(&first), backend(&second)], &policy).await?;
    let relay = relay::start_relay(&env, |_| ()).await?;
    let load = relay::start_application(MEANWHILE, WITHIN).await?;
    println!("The relay is ready, and the application sends {PACE} messages a second.\n");

    println!("{}", Ink::Heading.on("A drill"));
    let before = last_passed(&env).await?;
    let begun = begin(&env, "demo-1", "5m", &first, &second).await?;
    let at = passed_after(&env, before.as_deref()).await?;
    wait_active(&env, ROUTE, FIRST.0).await?;
    wait_refusing(false).await?;
    first.wait_for_received(first.received_count() + MEANWHILE, WITHIN).await?;
    println!("  over after {}, and mail leaves by {} again; passed at {at}", human(begun.elapsed()), FIRST.0);

    println!("{}", Ink::Heading.on("A drill whose operator dies"));
    let begun = begin(&env, "demo-2", "20s", &first, &second).await?;
    operator.kill();
    println!("{}", Ink::Bad.on("  the operator is gone, and nobody takes the drill away"));
    wait_refusing(false).await?;
    println!("  the relay has ended it by itself, {} after it began", human(begun.elapsed()));
    let operator = env.start_operator("demo-again", &QUICK_LEASE)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    wait_active(&env, ROUTE, FIRST.0).await?;
    wait_idle(&env).await?;

    println!("{}", Ink::Heading.on("A drill that finds a broken standby"));
    begin(&env, "demo-3", "5m", &first, &second).await?;
    let count = first.received_count();
    second.set_fault(Fault::Refuse).await?;
    second.retire_sessions();
    let broken = Instant::now();
    println!("{}", Ink::Bad.on(&format!("  {}: the process is gone: connections are refused", SECOND.0)));
    first.wait_for_received(count + 1, WITHIN).await.context("no mail by the refused provider")?;
    println!("  the next message leaves by {} after {}, drill or not", FIRST.0, human(broken.elapsed()));
    wait_refusing(false).await?;
    second.repair().await?;
    wait_active(&env, ROUTE, FIRST.0).await?;
    first.wait_for_received(first.received_count() + MEANWHILE, WITHIN).await?;
    let failed = latest(&env).await?;
    println!("  the operator says: {}", failed["message"].as_str().unwrap_or("nothing"));

    relay::finish(load, &relay, &operator, [&first, &second], "mail_failover_relay_drill").await?;
    println!(
        "\n{}",
        Ink::Good
            .on("Three drills, and the application has seen none of them. Everything started here is stopped again.")
    );
    Ok(())
}

/// Asks for a drill, and returns when mail leaves by the second provider and the first one gets none.
async fn begin(env: &TestEnv, id: &str, lasting: &str, first: &SmtpServer, second: &SmtpServer) -> Result<Instant> {
    let request = json!({"id": id, "action": "Drill", "mode": "Blocked", "for": lasting, "force": true}).to_string();
    let annotation = format!("mailfailover.io/request={request}");
    println!("{}", Ink::Command.on(&format!("$ kubectl annotate --overwrite mailroute {ROUTE} '{annotation}'")));
    env.kubectl(&["annotate", "--overwrite", "mailroute", ROUTE, &annotation]).await?;
    let asked = Instant::now();
    wait_refusing(true).await?;
    println!("  the relay refuses {} after {}, although it works", FIRST.0, human(asked.elapsed()));
    let begun = Instant::now();
    // What was on its way ends where it was going.
    sleep(Duration::from_millis(500)).await;
    let (none, some) = (first.received_count(), second.received_count());
    second.wait_for_received(some + MEANWHILE, WITHIN).await.context("no mail by the standby")?;
    let by_first = first.received_count() - none;
    ensure!(by_first == 0, "{} got {by_first} messages during the drill", FIRST.0);
    println!("  {MEANWHILE} messages have left by {}, and none by {}", SECOND.0, FIRST.0);
    Ok(begun)
}

/// Waits until the relay refuses the first provider, or does no longer.
async fn wait_refusing(is_refusing: bool) -> Result<()> {
    let line = format!("mail_failover_relay_drill_refusing{{backend=\"{}\"}} {}", FIRST.0, u8::from(is_refusing));
    eventually(WITHIN, &line, async || {
        let metrics = operator::get(METRICS, "/metrics").await?;
        Ok(metrics.lines().any(|have| have == line).then_some(()))
    })
    .await
}

async fn drills(env: &TestEnv) -> Result<Value> {
    let text = env.kubectl(&["get", "mailroute", ROUTE, "--output=json"]).await?;
    let route: Value = serde_json::from_str(&text)?;
    Ok(route["status"]["drills"].clone())
}

/// The latest drill that is over.
async fn latest(env: &TestEnv) -> Result<Value> {
    wait_idle(env).await?;
    Ok(drills(env).await?["history"][0].clone())
}

async fn last_passed(env: &TestEnv) -> Result<Option<String>> {
    Ok(drills(env).await?["passedAt"].as_str().map(str::to_owned))
}

async fn wait_idle(env: &TestEnv) -> Result<()> {
    eventually(WITHIN, "the drill to be over", async || Ok(drills(env).await?["running"].is_null().then_some(()))).await
}

/// Waits until a drill has passed after the one that passed at this time. Returns the time.
async fn passed_after(env: &TestEnv, before: Option<&str>) -> Result<String> {
    wait_idle(env).await?;
    let status = drills(env).await?;
    match status["passedAt"].as_str().filter(|at| Some(*at) != before) {
        Some(at) => Ok(at.to_owned()),
        None => bail!("the drill has not passed: {status}"),
    }
}

async fn provider((name, address): (&str, Ipv4Addr)) -> Result<SmtpServer> {
    Ok(SmtpServer::start(Options::new(name, SocketAddr::new(address.into(), 25))).await?)
}

fn backend(server: &SmtpServer) -> Value {
    let smtp =
        json!({"host": server.address().ip().to_string(), "port": server.address().port(), "tls": {"mode": "None"}});
    let probe = json!({"name": "smtp", "interval": "1s", "timeout": "900ms", "smtp": {}});
    object("SendingBackend", server.name(), &json!({"smtp": smtp, "probes": [probe]}))
}
