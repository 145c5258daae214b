//! `make demo`: a failover and a failback that a sending client survives, from nothing, on this
//! machine.
//!
//! It starts a control plane, two SMTP servers and the operator, does what a user would do with
//! kubectl, and prints a timeline. The exit code is 0 only if there was a failover, a failback, and
//! no mail was lost. It leaves nothing running, also after Ctrl-C.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use mail_failover_api::{Health, MailRouteStatus, TransitionKind, TransitionStatus};
use mail_failover_e2e::control_plane::namespace;
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT, backend_status, wait_active, wait_health};
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::mail::sender::{Attempt, Journal, Sender, SenderOptions};
use mail_failover_e2e::mail::server::{Action, Fault, Options, SessionStage, SmtpServer};
use mail_failover_e2e::mail::statistics::human;
use mail_failover_e2e::standalone;
use mail_failover_e2e::story::{Clock, Ink, Timeline, between, fold};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

/// Names in `examples/quickstart.yaml`.
const ROUTE: &str = "orders";
const SERVICE: &str = "mail";
const PORT: &str = "smtp";
const PRIMARY: (&str, Ipv4Addr) = ("relay-a", Ipv4Addr::new(192, 0, 2, 11));
const STANDBY: (&str, Ipv4Addr) = ("relay-b", Ipv4Addr::new(192, 0, 2, 12));
/// The time between two messages.
const PACE: Duration = Duration::from_millis(20);
/// The time during which mail flows before the break, during the outage and after the failback, so
/// that each can be seen.
const STRETCH: Duration = Duration::from_secs(2);

/// Watch a failover and a failback happen, on this machine.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct DemoArguments {
    /// The fault of the primary.
    #[arg(long, value_enum, default_value_t)]
    fault: DemoFault,
}

/// A way in which the primary fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DemoFault {
    /// The process is gone: connections are refused.
    #[default]
    Refuse,
    /// The process is frozen: connections are accepted, nothing is said. A TCP check would not
    /// notice.
    Hang,
    /// The server answers every client with 421.
    Unavailable,
}

impl DemoFault {
    fn fault(self) -> Fault {
        match self {
            Self::Refuse => Fault::Refuse,
            Self::Hang => Fault::Silent,
            Self::Unavailable => {
                Fault::At(SessionStage::Banner, Action::Reply(421, "4.3.2 Service not available".into()))
            }
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Refuse => "breaks: connections are refused",
            Self::Hang => "breaks: it accepts connections and says nothing any more",
            Self::Unavailable => "breaks: it greets every client with 421",
        }
    }
}

fn main() -> ExitCode {
    let arguments = DemoArguments::parse();
    // The commands name files as a user in the repository does.
    if let Err(error) = env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")) {
        eprintln!("the demo failed: the repository's folder: {error}");
        return ExitCode::FAILURE;
    }
    standalone::run("the demo", async |env| run_scenario(env, arguments.fault).await)
}

async fn start_server((name, address): (&str, Ipv4Addr)) -> Result<SmtpServer> {
    Ok(SmtpServer::start(Options::new(name, SocketAddr::new(address.into(), 25))).await?)
}

async fn run_scenario(env: Arc<TestEnv>, kind: DemoFault) -> Result<()> {
    let (primary, standby) = (start_server(PRIMARY).await?, start_server(STANDBY).await?);
    println!(
        "Two SMTP servers listen: {} at {} and {} at {}.",
        PRIMARY.0,
        primary.address(),
        STANDBY.0,
        standby.address()
    );
    println!();

    command(&env, "apply -f crds/").await?;
    command(&env, "wait --for=condition=Established crds --all --timeout=30s").await?;
    let operator = env.start_operator("demo", &QUICK_LEASE)?;
    println!("{}", Ink::Command.on("$ mail-failover run"));
    operator.wait_ready(WAIT_TIMEOUT).await?;
    println!("the operator is ready");
    command(&env, "apply -f examples/quickstart.yaml").await?;
    command(&env, &format!("wait --for=condition=Ready mailroute/{ROUTE} --timeout=30s")).await?;
    wait_active(&env, ROUTE, PRIMARY.0).await?;
    command(&env, "get mailroutes,services,endpointslices").await?;
    println!();

    let clock = Clock::read();
    let endpoints = ServiceEndpoints::follow(env.client(), env.namespace(), SERVICE, PORT);
    let sender = Sender::start(SenderOptions::new(PACE, endpoints.receiver()));
    sender.wait_for("a first accepted message", WAIT_TIMEOUT, |totals| totals.accepted > 0).await?;
    println!("An application sends 50 messages a second to port 25 of the Service {SERVICE}.");
    sleep(STRETCH).await;

    let broken = Instant::now();
    primary.set_fault(kind.fault()).await?;
    println!("{}", Ink::Bad.on(&format!("{} {}.", PRIMARY.0, kind.told())));
    sender.wait_for_failover(broken, WAIT_TIMEOUT).await.context("no failover")?;
    let failed_over = wait_active(&env, ROUTE, STANDBY.0).await.context("no failover")?;
    println!("{}", Ink::Good.on(&format!("Mail leaves by {}.", STANDBY.0)));
    sleep(STRETCH).await;

    let repaired = Instant::now();
    primary.repair().await?;
    println!("{}", Ink::Good.on(&format!("{} is repaired.", PRIMARY.0)));
    wait_health(&env, PRIMARY.0, Health::Healthy, "Ok").await?;
    let recovered = backend_status(&env, PRIMARY.0).await?;
    println!("{} is healthy again; the policy waits before it trusts that.", PRIMARY.0);
    let failed_back = wait_active(&env, ROUTE, PRIMARY.0).await.context("no failback")?;
    println!("{}", Ink::Good.on(&format!("Mail leaves by {} again.", PRIMARY.0)));
    sleep(STRETCH).await;
    let journal = sender.stop(WAIT_TIMEOUT).await;

    let mut timeline = Timeline::new(clock, broken);
    timeline.seen(broken, Some(Ink::Bad), format!("{} {}", PRIMARY.0, kind.told()));
    let outage = tell_failover(&mut timeline, &journal, &failed_over, broken)?;
    timeline.seen(repaired, Some(Ink::Good), format!("{} is repaired", PRIMARY.0));
    let since = recovered.since.as_ref().context("a healthy backend says since when")?;
    timeline.reported(since, None, format!("recovery: {} is healthy, after five good probes in a row", PRIMARY.0));
    tell_failback(&mut timeline, &journal, &failed_back, primary.address(), clock)?;
    println!();
    println!("{}", Ink::Heading.on("Timeline (since the break; since the line above)"));
    print!("{timeline}");
    println!();

    let all_there = tell_delivery(&journal, outage, &primary, &standby);
    command(&env, "get sendingbackends,failoverpolicies,mailroutes").await?;
    println!();
    command(&env, "get events --sort-by=.metadata.creationTimestamp").await?;
    println!();
    all_there?;
    operator.terminate(WAIT_TIMEOUT).await.context("the operator did not end when asked to")?;
    println!(
        "{}",
        Ink::Good.on("A failover and a failback, and no mail was lost. Everything started here is stopped again.")
    );
    if namespace::keep() {
        println!("E2E_KEEP is set: logs are kept.");
    }
    Ok(())
}

/// Runs kubectl, and shows what a user would see.
async fn command(env: &TestEnv, line: &str) -> Result<()> {
    println!("{}", Ink::Command.on(&format!("$ kubectl {line}")));
    let output = env.kubectl(&line.split(' ').collect::<Vec<_>>()).await?;
    let tables: Vec<_> = output.trim_end().split("\n\n").map(fold).collect();
    print!("{}", tables.join("\n"));
    Ok(())
}

/// Adds the failover to the timeline, and returns the time during which the client could not send.
fn tell_failover(
    timeline: &mut Timeline,
    journal: &Journal,
    status: &MailRouteStatus,
    broken: Instant,
) -> Result<Duration> {
    let failover = journal.failover_after(broken).context("the client saw no failover")?;
    let outage = failover.took();
    timeline.seen(
        failover.first_failed.started,
        Some(Ink::Bad),
        format!("first failed send begins ({})", failover.first_failed.outcome),
    );
    timeline.seen(
        failover.first_accepted.finished,
        Some(Ink::Good),
        format!(
            "first mail accepted again, by {}: the client could not send for {}",
            server_of(&failover.first_accepted),
            human(outage)
        ),
    );
    let transition = transition(status, TransitionKind::Failover)?;
    ensure!(
        (transition.from.as_str(), transition.to.as_str()) == (PRIMARY.0, STANDBY.0),
        "the failover went from {} to {}",
        transition.from,
        transition.to
    );
    let evidence = transition.first_evidence_at.as_ref().context("a failover without evidence")?;
    timeline.reported(evidence, None, "evidence: start of the first probe that fails");
    let took = human(between(evidence, &transition.decided_at));
    timeline.reported(
        &transition.decided_at,
        None,
        format!(
            "detection and decision: {}, {} → {}, {took} after the first evidence",
            transition.reason, transition.from, transition.to
        ),
    );
    let applied = transition.applied_at.as_ref().context("the failover is not applied")?;
    let took = human(between(&transition.decided_at, applied));
    timeline.reported(
        applied,
        None,
        format!("write: Service and ConfigMap lead to {}, {took} after the decision", transition.to),
    );
    Ok(outage)
}

fn tell_failback(
    timeline: &mut Timeline,
    journal: &Journal,
    status: &MailRouteStatus,
    primary: SocketAddr,
    clock: Clock,
) -> Result<()> {
    let transition = transition(status, TransitionKind::Failback)?;
    timeline.reported(
        &transition.decided_at,
        None,
        format!("failback decided: {}, {} → {}", transition.reason, transition.from, transition.to),
    );
    let applied = transition.applied_at.as_ref().context("the failback is not applied")?;
    timeline.reported(applied, None, format!("write: Service and ConfigMap lead to {}", transition.to));
    let decided = clock.instant(SystemTime::from(transition.decided_at.0));
    let back = journal.attempts().find(|attempt| {
        attempt.outcome.is_accepted() && attempt.endpoint == Some(primary) && attempt.started >= decided
    });
    let back = back.with_context(|| format!("no mail left by {} after the failback", PRIMARY.0))?;
    timeline.seen(back.finished, Some(Ink::Good), format!("first mail accepted by {} again", PRIMARY.0));
    Ok(())
}

/// The latest transition, which must be of this kind.
fn transition(status: &MailRouteStatus, kind: TransitionKind) -> Result<&TransitionStatus> {
    let last = status.last_transition.as_ref().with_context(|| format!("no {kind:?}"))?;
    ensure!(last.kind == kind, "a {kind:?} was expected, and there was a {:?}", last.kind);
    Ok(last)
}

fn server_of(attempt: &Attempt) -> &'static str {
    match attempt.endpoint {
        Some(endpoint) if endpoint.ip() == PRIMARY.1 => PRIMARY.0,
        Some(endpoint) if endpoint.ip() == STANDBY.1 => STANDBY.0,
        Some(_) | None => "another server",
    }
}

/// Shows the delivery of the messages. Returns an error if one is lost.
fn tell_delivery(journal: &Journal, outage: Duration, primary: &SmtpServer, standby: &SmtpServer) -> Result<()> {
    let totals = journal.totals();
    let delivery = journal.delivery(&[primary, standby]);
    let lost = delivery.lost + delivery.lost_but_delivered + delivery.vanished.len();
    println!("{}", Ink::Heading.on("Messages"));
    println!(
        "  sent        {:>6}   of {} attempts, {} of them failed and were repeated",
        totals.sent, totals.attempts, totals.failed_attempts
    );
    println!("  accepted    {:>6}", totals.accepted);
    let verdict = if lost == 0 { Ink::Good } else { Ink::Bad };
    println!("  lost        {}", verdict.on(&format!("{lost:>6}")));
    println!("  duplicated  {:>6}", delivery.duplicated);
    for (server, count) in &delivery.messages {
        println!("  {server:<10}  {count:>6}   received");
    }
    println!("  The client could not send for {}.", human(outage));
    println!();
    if lost > 0 {
        bail!("{lost} messages are lost: {} given up, {} vanished", totals.lost, delivery.vanished.len());
    }
    ensure!(totals.outstanding() == 0, "{} messages are still in progress", totals.outstanding());
    Ok(())
}
