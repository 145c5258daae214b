//! `make demo-relay`: an application that knows one host name sends through an outage of every kind, and sees none.
//!
//! Two providers with TLS and a login, a real API server, the operator, and `mail-failover relay` between them and the
//! application. One provider breaks in one way after the other. The exit code is 0 only if the application was never
//! refused a message, and each of its messages is at one provider exactly once. It leaves nothing running, also after
//! Ctrl-C.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT, wait_active};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::load::{Account, Load, LoadOptions, Stored};
use mail_failover_e2e::mail::server::{Action, Fault, Logins, Options, SessionStage, SmtpServer};
use mail_failover_e2e::mail::statistics::human;
use mail_failover_e2e::operator;
use mail_failover_e2e::process::Process;
use mail_failover_e2e::standalone;
use mail_failover_e2e::story::Ink;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::sleep;

const ROUTE: &str = "orders";
const CONFIG_MAP: &str = "orders-agent";
const FIRST: (&str, Ipv4Addr) = ("ses-eu", Ipv4Addr::new(192, 0, 2, 11));
const SECOND: (&str, Ipv4Addr) = ("sendgrid", Ipv4Addr::new(192, 0, 2, 12));
/// The address at which the relay takes mail.
const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 25)), 2525);
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 25)), 8026);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 25)), 8028);
/// The name in the providers' certificates.
const SERVER_NAME: &str = "smtp.provider.example";
const LOGIN: (&str, &str) = ("shop", "hunter2");
/// Messages sent per second.
const PACE: u32 = 20;
/// More messages than the demonstration has time for.
const ENOUGH: usize = 100_000;
/// Messages that the other provider gets in each outage.
const DURING: usize = 25;
/// The time limit of each step.
const WITHIN: Duration = Duration::from_mins(1);

/// The outages, as people tell them.
fn outages() -> [(&'static str, Fault); 7] {
    [
        ("the process is gone: connections are refused", Fault::Refuse),
        ("connections are reset instead of a greeting", Fault::At(SessionStage::Banner, Action::Reset)),
        ("it accepts connections and says nothing", Fault::At(SessionStage::Banner, Action::Hang)),
        ("\"421 4.3.2 Service shutting down\"", Fault::reply(SessionStage::Mail, 421, "4.3.2 Service shutting down")),
        (
            "\"535 5.7.8 Authentication credentials invalid\"",
            Fault::reply(SessionStage::Auth, 535, "5.7.8 Authentication credentials invalid"),
        ),
        (
            "\"454 4.7.0 Daily message quota exceeded\"",
            Fault::reply(SessionStage::Rcpt, 454, "4.7.0 Throttling failure: Daily message quota exceeded"),
        ),
        (
            "\"554 Sending paused for this account\"",
            Fault::reply(SessionStage::EndOfData, 554, "Message rejected: Sending paused for this account"),
        ),
    ]
}

fn main() -> ExitCode {
    standalone::run("the demo", async |env| demonstrate(env).await)
}

async fn demonstrate(env: Arc<TestEnv>) -> Result<()> {
    let authority = Authority::new()?;
    let (first, second) = (provider(FIRST, &authority).await?, provider(SECOND, &authority).await?);
    println!(
        "Two providers, each with TLS and a login: {} at {} and {} at {}.",
        FIRST.0,
        first.address(),
        SECOND.0,
        second.address()
    );
    install_crds(&env.client()).await?;
    let operator = env.start_operator("demo", &QUICK_LEASE)?;
    println!("{}", Ink::Command.on("$ mail-failover run"));
    operator.wait_ready(WAIT_TIMEOUT).await?;
    env.apply(&manifests(&first, &second, &authority)).await?;
    wait_active(&env, ROUTE, FIRST.0).await?;
    let relay = start_relay(&env)?;
    println!(
        "{}",
        Ink::Command.on(&format!(
            "$ mail-failover relay run --config-map {}/{CONFIG_MAP} --smtp-address {RELAY}",
            env.namespace()
        ))
    );
    eventually(WAIT_TIMEOUT, "the relay to be ready", async || Ok(operator::get(HEALTH, "/readyz").await.ok()))
        .await
        .with_context(|| relay.log_tail(15))?;
    println!(
        "The relay is ready. The application's settings are SMTP_HOST={} and SMTP_PORT={}.\n",
        RELAY.ip(),
        RELAY.port()
    );

    let mut options = LoadOptions::new(RELAY, ENOUGH, "app@shop.example");
    options.per_second = Some(PACE);
    let load = Load::start(options);
    load.wait_accepted(DURING, WITHIN).await?;
    println!("It sends {PACE} messages a second.");
    for (told, fault) in outages() {
        let before = (load.sent().refusals, second.received_count());
        first.set_fault(fault).await?;
        // Connections of the pool end where their next message would begin.
        first.retire_sessions();
        let broken = Instant::now();
        println!("{}", Ink::Bad.on(&format!("{}: {told}", FIRST.0)));
        second.wait_for_received(before.1 + 1, WITHIN).await.context("no mail by the other provider")?;
        let took = human(broken.elapsed());
        second.wait_for_received(before.1 + DURING, WITHIN).await?;
        let refused = load.sent().refusals - before.0;
        let ink = if refused == 0 { Ink::Good } else { Ink::Bad };
        println!(
            "{}",
            ink.on(&format!(
                "  the next message leaves by {} after {took}; the application was refused {refused} messages",
                SECOND.0
            ))
        );
        let count = first.received_count();
        first.repair().await?;
        first.wait_for_received(count + DURING, WITHIN).await.context("no mail by the repaired provider")?;
    }
    sleep(Duration::from_millis(500)).await;
    let sent = load.stop(WITHIN).await?;
    let nothing = std::collections::BTreeSet::new();
    let account = Account::of(&sent.accepted, &Stored::by(&[&first, &second]), &nothing, &nothing);
    println!("\n{}", Ink::Heading.on("Messages"));
    println!("  accepted    {:>6}   each with the answer of a provider", account.accepted);
    println!("  refused     {:>6}   {}", sent.refusals, sent.last_refusal.unwrap_or_default());
    println!("  lost        {:>6}", account.lost.len());
    println!("  twice       {:>6}", account.duplicated);
    for (server, count) in &account.by_server {
        println!("  {server:<10}  {count:>6}   received");
    }
    let replays = "mail_failover_relay_replays_total";
    let metrics = operator::get(METRICS, "/metrics").await?;
    for line in metrics.lines().filter(|line| line.starts_with(replays)) {
        println!("  {line}");
    }
    ensure!(sent.refusals == 0, "the application was refused {} messages", sent.refusals);
    ensure!(account.lost.is_empty() && account.duplicated == 0, "{account:?}");
    relay.signal(rustix::process::Signal::TERM)?;
    ensure!(relay.wait(WAIT_TIMEOUT).await?.success(), "the relay did not end in order: {}", relay.log_tail(15));
    operator.terminate(WAIT_TIMEOUT).await?;
    println!("\n{}", Ink::Good.on("An outage of every kind, and the application has seen none of them. Everything started here is stopped again."));
    println!(
        "One kind is left out: a provider that takes a message and does not say so. Then the answer is a 451 (docs/relay.md)."
    );
    Ok(())
}

async fn provider((name, address): (&str, Ipv4Addr), authority: &Authority) -> Result<SmtpServer> {
    let identity = authority.issue(&[SERVER_NAME], Validity::Valid)?;
    let logins = Logins::Only(vec![(LOGIN.0.to_owned(), LOGIN.1.to_owned())]);
    let options = Options::new(name, SocketAddr::new(address.into(), 587)).start_tls(identity).logins(logins);
    Ok(SmtpServer::start(options).await?)
}

fn manifests(first: &SmtpServer, second: &SmtpServer, authority: &Authority) -> String {
    let kind = |kind: &str, name: &str, spec: serde_json::Value| json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let backend = |server: &SmtpServer| {
        let tls = json!({"mode": "StartTLS", "serverName": SERVER_NAME, "caRef": {"configMap": "provider-ca"}});
        let smtp = json!({"host": server.address().ip().to_string(), "port": server.address().port(), "tls": tls,
            "auth": {"secretRef": {"name": "login"}}});
        let probe = json!({"name": "smtp", "interval": "10s", "timeout": "5s", "smtp": {}});
        kind("SendingBackend", server.name(), json!({"smtp": smtp, "probes": [probe]}))
    };
    // The route stays where it is: what is shown is the relay's own.
    let policy = json!({"failure": {"consecutive": 20},
        "breaker": {"consecutive": 3, "firstPause": "1s", "longestPause": "2s"}});
    let route = json!({"policyRef": {"name": "quick"}, "backends": [{"name": FIRST.0}, {"name": SECOND.0}],
        "outputs": [{"agent": {"configMap": CONFIG_MAP}}]});
    let objects = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "provider-ca"}, "data": {"ca.crt": authority.pem()}}),
        backend(first),
        backend(second),
        kind("FailoverPolicy", "quick", policy),
        kind("MailRoute", ROUTE, route),
    ];
    objects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

fn start_relay(env: &TestEnv) -> Result<Process> {
    let folder = env.folder().join("relay");
    let login = folder.join("credentials/login");
    fs::create_dir_all(&login)?;
    fs::write(login.join("username"), LOGIN.0)?;
    fs::write(login.join("password"), LOGIN.1)?;
    let mut command = Command::new(operator::program()?);
    command
        .args(["relay", "run", "--allow-network", "192.0.2.0/24", "--hostname", "mail-relay.shop.example"])
        .args(["--config-map", &format!("{}/{CONFIG_MAP}", env.namespace()), "--smtp-address", &RELAY.to_string()])
        .args(["--listen-address", &METRICS.to_string(), "--health-listen-address", &HEALTH.to_string()])
        .arg("--kubeconfig")
        .arg(env.kubeconfig())
        .arg("--credentials-directory")
        .arg(folder.join("credentials"))
        .arg("--state-directory")
        .arg(folder.join("state"));
    Process::start("the relay", &mut command, &folder.join("relay.log"))
}
