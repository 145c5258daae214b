//! `make demo-relay`: an application that knows one host name sends through an outage of every kind, and sees none.
//!
//! Two providers with TLS and a login, a real API server, the operator, and `mail-failover relay` between them and the
//! application. One provider breaks in one way after the other. The exit code is 0 only if the application was never
//! refused a message, and each of its messages is at one provider exactly once. It leaves nothing running, also after
//! Ctrl-C.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Action, Fault, Logins, Options, SessionStage, SmtpServer};
use mail_failover_e2e::mail::statistics::human;
use mail_failover_e2e::process::Process;
use mail_failover_e2e::standalone;
use mail_failover_e2e::story::Ink;
use mail_failover_e2e::story::relay::{self, FIRST, PACE, RELAY, SECOND, object};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

/// The name in the providers' certificates.
const SERVER_NAME: &str = "smtp.provider.example";
const LOGIN: (&str, &str) = ("shop", "hunter2");
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
    // The route stays where it is: what is shown is the relay's own.
    let policy = json!({"failure": {"consecutive": 20},
        "breaker": {"consecutive": 3, "firstPause": "1s", "longestPause": "2s"}});
    let operator = relay::start_operator(&env, &backends(&first, &second, &authority), &policy).await?;
    let relay = start_relay(&env).await?;
    println!(
        "The relay is ready. The application's settings are SMTP_HOST={} and SMTP_PORT={}.\n",
        RELAY.ip(),
        RELAY.port()
    );

    let load = relay::start_application(DURING, WITHIN).await?;
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
    relay::finish(load, &relay, &operator, [&first, &second], "mail_failover_relay_replays_total").await?;
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

fn backends(first: &SmtpServer, second: &SmtpServer, authority: &Authority) -> Vec<Value> {
    let backend = |server: &SmtpServer| {
        let tls = json!({"mode": "StartTLS", "serverName": SERVER_NAME, "caRef": {"configMap": "provider-ca"}});
        let smtp = json!({"host": server.address().ip().to_string(), "port": server.address().port(), "tls": tls,
            "auth": {"secretRef": {"name": "login"}}});
        let probe = json!({"name": "smtp", "interval": "10s", "timeout": "5s", "smtp": {}});
        object("SendingBackend", server.name(), &json!({"smtp": smtp, "probes": [probe]}))
    };
    let ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "provider-ca"}, "data": {"ca.crt": authority.pem()}});
    vec![ca, backend(first), backend(second)]
}

async fn start_relay(env: &TestEnv) -> Result<Process> {
    let credentials = env.folder().join("credentials");
    let login = credentials.join("login");
    fs::create_dir_all(&login)?;
    fs::write(login.join("username"), LOGIN.0)?;
    fs::write(login.join("password"), LOGIN.1)?;
    relay::start_relay(env, |command| {
        command.arg("--credentials-directory").arg(credentials);
    })
    .await
}
