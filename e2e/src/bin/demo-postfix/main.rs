//! `make demo-postfix`: the demonstration of `make demo` with a real Postfix in the middle, and the
//! agent beside it.
//!
//! An application hands its mail to Postfix and notices nothing. The exit code is 0 only if there
//! was a failover, a failback, and every message that Postfix had accepted has arrived. It needs
//! real root and the package, and says what is missing otherwise. It leaves nothing running, also
//! after Ctrl-C.

mod status_watch;

use std::collections::HashMap;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use mail_failover_api::{Health, MailRouteStatus, TransitionKind, TransitionStatus};
use mail_failover_e2e::agent::{self, Agent};
use mail_failover_e2e::control_plane::namespace;
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT, backend_status, wait_active, wait_health};
use mail_failover_e2e::mail::load::{Account, Load, LoadOptions, Sent, Stored};
use mail_failover_e2e::mail::server::{Action, Fault, Options, SessionStage, SmtpServer};
use mail_failover_e2e::mail::statistics::human;
use mail_failover_e2e::mta::setup::with_agent;
use mail_failover_e2e::postfix::{self, Postfix};
use mail_failover_e2e::standalone;
use mail_failover_e2e::story::{Clock, Ink, Timeline, between, fold};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

use self::status_watch::StatusWatch;

/// Names in `examples/postfix-relays/route.yaml`.
const ROUTE: &str = "orders";
const CONFIG_MAP: &str = "orders-agent";
const PRIMARY: (&str, Ipv4Addr) = ("relay-a", Ipv4Addr::new(192, 0, 2, 11));
const STANDBY: (&str, Ipv4Addr) = ("relay-b", Ipv4Addr::new(192, 0, 2, 12));
/// The address at which Postfix takes mail.
const POSTFIX: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 25);
/// Messages sent per second.
const PACE: u32 = 50;
/// More messages than the demonstration has time for.
const ENOUGH: usize = 100_000;
/// The time during which mail flows before the break, during the outage and after the failback, so
/// that each can be seen.
const STRETCH: Duration = Duration::from_secs(2);

/// Watch a failover and a failback happen behind a real Postfix, on this machine.
#[derive(Debug, Parser)]
#[command(name = "demo-postfix")]
struct PostfixDemoArguments {
    /// The fault of the primary.
    #[arg(long, value_enum, default_value_t)]
    fault: PostfixDemoFault,
}

/// A way in which the primary fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PostfixDemoFault {
    /// The process is gone: connections are refused.
    #[default]
    Refuse,
    /// The server accepts connections and says nothing. A TCP check would not notice.
    Hang,
    /// The account is paused: the server refuses every message at its end with 554, which bounces
    /// elsewhere. No probe notices.
    Paused,
}

impl PostfixDemoFault {
    fn fault(self) -> Fault {
        match self {
            Self::Refuse => Fault::Refuse,
            Self::Hang => Fault::Silent,
            Self::Paused => Fault::At(
                SessionStage::EndOfData,
                Action::Reply(554, "Message rejected: Sending paused for this account.".into()),
            ),
        }
    }

    /// The longest time that a message may take from Postfix to a server. A generous bound: the first messages wait for
    /// a timeout of 10 s where nobody answers, and the others for a busy machine.
    fn longest_delay(self) -> Duration {
        match self {
            Self::Refuse | Self::Paused => Duration::from_secs(10),
            Self::Hang => Duration::from_mins(1),
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Refuse => "breaks: connections are refused",
            Self::Hang => "breaks: it accepts connections and says nothing any more",
            Self::Paused => "breaks: \"554 Message rejected: Sending paused for this account.\"",
        }
    }
}

fn main() -> ExitCode {
    let arguments = PostfixDemoArguments::parse();
    // The commands name files as a user in the repository does.
    if let Err(error) = env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")) {
        eprintln!("the demo failed: the repository's folder: {error}");
        return ExitCode::FAILURE;
    }
    standalone::run_with_postfix("the demo", async |env| run_round(env, arguments.fault).await)
}

async fn start_server((name, address): (&str, Ipv4Addr)) -> Result<SmtpServer> {
    Ok(SmtpServer::start(Options::new(name, SocketAddr::new(address.into(), 25))).await?)
}

async fn run_round(env: Arc<TestEnv>, kind: PostfixDemoFault) -> Result<()> {
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
    command(&env, "apply -f examples/postfix-relays/route.yaml").await?;
    command(&env, &format!("wait --for=condition=Ready mailroute/{ROUTE} --timeout=30s")).await?;
    wait_active(&env, ROUTE, PRIMARY.0).await?;
    command(&env, &format!("get mailroute/{ROUTE} configmap/{CONFIG_MAP}")).await?;
    println!();

    let postfix = start_postfix(&env).await?;
    println!("Postfix {} takes mail at {}.", Postfix::version()?, postfix.address());
    let agent = Agent::start(agent::Options::beside(&postfix, &env, CONFIG_MAP, "agent")?)?;
    println!(
        "{}",
        Ink::Command.on(&format!("$ mail-failover agent run --config-map {}/{CONFIG_MAP}", env.namespace()))
    );
    agent.wait_ready(WAIT_TIMEOUT).await?;
    println!("the agent is ready");
    println!();

    let clock = Clock::read();
    let mut options = LoadOptions::new(postfix.address(), ENOUGH, "app@shop.example");
    options.per_second = Some(PACE);
    let load = Load::start(options);
    load.wait_accepted(1, WAIT_TIMEOUT).await?;
    println!("An application sends {PACE} messages a second to Postfix.");
    sleep(STRETCH).await;

    let watch = StatusWatch::start(&agent);
    let broken = Instant::now();
    primary.set_fault(kind.fault()).await?;
    println!("{}", Ink::Bad.on(&format!("{} {}.", PRIMARY.0, kind.told())));
    let before = standby.received_count();
    standby.wait_for_received(before + 1, WAIT_TIMEOUT).await.context("no failover")?;
    println!("{}", Ink::Good.on(&format!("Mail leaves by {}.", STANDBY.0)));
    let failed_over = wait_active(&env, ROUTE, STANDBY.0).await.context("the operator has not followed")?;
    println!("The operator has made the same decision.");
    sleep(STRETCH).await;

    let repaired = Instant::now();
    primary.repair().await?;
    println!("{}", Ink::Good.on(&format!("{} is repaired.", PRIMARY.0)));
    wait_health(&env, PRIMARY.0, Health::Healthy, "Ok").await?;
    let recovered = backend_status(&env, PRIMARY.0).await?;
    println!("{} is healthy again; the policy waits before it trusts that.", PRIMARY.0);
    let before = primary.received_count();
    let failed_back = wait_active(&env, ROUTE, PRIMARY.0).await.context("no failback")?;
    primary.wait_for_received(before + 1, WAIT_TIMEOUT).await.context("no mail after the failback")?;
    println!("{}", Ink::Good.on(&format!("Mail leaves by {} again.", PRIMARY.0)));
    sleep(STRETCH).await;
    let sent = load.stop(WAIT_TIMEOUT).await?;
    let drained = postfix.drained(WAIT_TIMEOUT).await?;

    let mut timeline = Timeline::new(clock, broken);
    timeline.seen(broken, Some(Ink::Bad), format!("{} {}", PRIMARY.0, kind.told()));
    watch.report(&mut timeline).await?;
    let by_standby = standby.received().into_iter().map(|message| message.at).filter(|at| *at >= broken).min();
    let by_standby = by_standby.context("nothing left by the standby")?;
    timeline.seen(by_standby, Some(Ink::Good), format!("first mail by {}", STANDBY.0));
    tell_decision(&mut timeline, &failed_over, TransitionKind::Failover)?;
    timeline.seen(repaired, Some(Ink::Good), format!("{} is repaired", PRIMARY.0));
    let since = recovered.since.as_ref().context("a healthy backend says since when")?;
    timeline.reported(since, None, format!("recovery: {} is healthy", PRIMARY.0));
    let back = tell_decision(&mut timeline, &failed_back, TransitionKind::Failback)?;
    let back = clock.instant(back);
    let by_primary = primary.received().into_iter().map(|message| message.at).filter(|at| *at >= back).min();
    timeline.seen(
        by_primary.context("nothing left by the primary")?,
        Some(Ink::Good),
        format!("first mail by {} again", PRIMARY.0),
    );
    println!();
    println!("{}", Ink::Heading.on("Timeline (since the break; since the line above)"));
    print!("{timeline}");
    println!();

    let slowest = slowest(&sent, &Stored::by(&[&primary, &standby]))?;
    tell_clocks(clock, broken, by_standby, slowest, &failed_over)?;
    ensure!(drained, "{} messages are still in Postfix' queue", postfix.queued()?);
    let all_there = tell_account(&sent, &postfix, &primary, &standby);
    command(&env, "get sendingbackends,failoverpolicies,mailroutes").await?;
    println!();
    all_there?;
    ensure!(
        slowest <= kind.longest_delay(),
        "a message took {} from Postfix to a server, more than {}",
        human(slowest),
        human(kind.longest_delay())
    );
    agent.terminate(WAIT_TIMEOUT).await.context("the agent did not end when asked to")?;
    postfix.stop().await?;
    operator.terminate(WAIT_TIMEOUT).await.context("the operator did not end when asked to")?;
    println!(
        "{}",
        Ink::Good.on(
            "A failover and a failback behind Postfix, and no mail was lost. Everything started here is stopped again."
        )
    );
    if namespace::keep() {
        println!("E2E_KEEP is set: logs are kept.");
    }
    Ok(())
}

async fn start_postfix(env: &TestEnv) -> Result<Postfix> {
    let at = SocketAddr::new(POSTFIX.into(), 25);
    let options = with_agent(postfix::Options::new(at, env.folder().join("postfix.log")))?;
    println!("{}", Ink::Command.on("$ mail-failover agent postfix-config --format commands | sh"));
    Postfix::start(options).await
}

/// Runs kubectl, and shows what a user would see.
async fn command(env: &TestEnv, line: &str) -> Result<()> {
    println!("{}", Ink::Command.on(&format!("$ kubectl {line}")));
    let output = env.kubectl(&line.split(' ').collect::<Vec<_>>()).await?;
    let tables: Vec<_> = output.trim_end().split("\n\n").map(fold).collect();
    print!("{}", tables.join("\n"));
    Ok(())
}

/// Adds the operator's decision with its times to the timeline, and returns the time of the
/// decision.
fn tell_decision(timeline: &mut Timeline, status: &MailRouteStatus, kind: TransitionKind) -> Result<SystemTime> {
    let transition: &TransitionStatus = status.last_transition.as_ref().with_context(|| format!("no {kind:?}"))?;
    ensure!(transition.kind == kind, "a {kind:?} was expected, and there was a {:?}", transition.kind);
    let TransitionStatus { from, to, reason, decided_at, .. } = transition;
    timeline.reported(decided_at, None, format!("the operator decides: {kind:?} {from} → {to}: {reason}"));
    if let Some(applied) = &transition.applied_at {
        let took = human(between(decided_at, applied));
        timeline.reported(applied, None, format!("the operator has written the agents' ConfigMap, {took} later"));
    }
    Ok(SystemTime::from(decided_at.0))
}

/// Returns the longest time that an accepted message took until a server first had it.
fn slowest(sent: &Sent, stored: &[Stored]) -> Result<Duration> {
    let mut first: HashMap<&str, Instant> = HashMap::new();
    for Stored { recipient, at, .. } in stored {
        let known = first.entry(recipient).or_insert(*at);
        *known = (*known).min(*at);
    }
    let delays = sent.accepted.iter().flat_map(|message| {
        let arrivals = message.recipients.iter().filter_map(|recipient| first.get(recipient.as_str()));
        arrivals.map(|arrival| arrival.saturating_duration_since(message.at)).collect::<Vec<_>>()
    });
    delays.max().context("no message has arrived")
}

/// Shows the two clocks: of the messages, and of the route.
fn tell_clocks(
    clock: Clock,
    broken: Instant,
    by_standby: Instant,
    slowest: Duration,
    failed_over: &MailRouteStatus,
) -> Result<()> {
    let transition = failed_over.last_transition.as_ref().context("a failover is a transition")?;
    let decided = clock.instant(SystemTime::from(transition.decided_at.0));
    let after = |at: Instant| human(at.saturating_duration_since(broken));
    println!("{}", Ink::Heading.on("Two clocks"));
    println!(
        "  messages    by {} {} after the break; the slowest of all took {} from Postfix to a server",
        STANDBY.0,
        after(by_standby),
        human(slowest)
    );
    println!("  the route   by {} {} after the break: it moved when it was sure", STANDBY.0, after(decided));
    println!();
    Ok(())
}

/// Shows the delivery of the messages. Returns an error if one is lost.
fn tell_account(sent: &Sent, postfix: &Postfix, primary: &SmtpServer, standby: &SmtpServer) -> Result<()> {
    let log = postfix.log()?;
    let account = Account::of(
        &sent.accepted,
        &Stored::by(&[primary, standby]),
        &log.bounced(),
        &std::collections::BTreeSet::new(),
    );
    println!("{}", Ink::Heading.on("Messages"));
    println!("  accepted    {:>6}   by Postfix; {} were offered more than once", account.accepted, sent.refusals);
    println!("  delivered   {:>6}   {} deliveries were deferred and repeated", account.delivered, log.deferred());
    let verdict = if account.lost.is_empty() { Ink::Good } else { Ink::Bad };
    println!(
        "  lost        {}   {} of them bounced",
        verdict.on(&format!("{:>6}", account.lost.len())),
        account.bounced
    );
    println!("  twice       {:>6}", account.duplicated);
    for (server, count) in &account.by_server {
        println!("  {server:<10}  {count:>6}   received");
    }
    println!();
    ensure!(account.lost.is_empty(), "{} messages are lost, such as {:?}", account.lost.len(), account.lost.first());
    Ok(())
}
