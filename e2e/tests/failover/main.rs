//! Trials of failover and failback of a route, seen in every output, status and Event.

mod agents;
mod explaining;
mod idle_sessions;
mod logins;
mod observing;
mod outputs;
mod ownership;
mod policies;
mod telling;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT, condition, events, leads_to};
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::mail::sender::{Sender, SenderOptions};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;

fn main() -> ExitCode {
    let options = Options { operator: true, parallel: 6, deadline: Duration::from_mins(4), ..Options::default() };
    // Trials that wait for half a minute start first, so that they do not end last.
    let mut trials = observing::trials();
    trials.extend(idle_sessions::trials());
    trials.extend(logins::trials());
    trials.extend(ownership::trials());
    trials.extend(outputs::trials());
    trials.extend(agents::trials());
    trials.extend(policies::trials());
    trials.extend(telling::trials());
    trials.extend(explaining::trials());
    trials.push(trial("a sending client survives the death of the primary and its return", there_and_back).listens());
    suite::run("failover", options, trials)
}

async fn there_and_back(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let _operator = fixture.start_operator("a").await?;
    let endpoints = ServiceEndpoints::follow(env.client(), env.namespace(), "mail", "smtp");
    let sender = Sender::start(SenderOptions::new(Duration::from_millis(20), endpoints.receiver()));
    sender.wait_for("a first message", WAIT_TIMEOUT, |totals| totals.accepted > 20).await?;
    let broken = Instant::now();
    fixture.primary.set_fault(Fault::Refuse).await?;
    let failover = sender.wait_for_failover(broken, WAIT_TIMEOUT).await?;
    let status = fixture.wait_active("standby").await?;
    ensure!(condition(&status, "Ready").0 == "True", "{status:?}");
    ensure!(condition(&status, "FailedOver") == ("True".into(), "ConnectionRefused".into()), "{status:?}");
    ensure!(leads_to(&env, "mail").await? == [fixture.standby.address().ip().to_string()]);
    fixture.primary.repair().await?;
    fixture.wait_active("primary").await?;
    let journal = sender.stop(WAIT_TIMEOUT).await;
    let delivery = journal.delivery(&[&fixture.primary, &fixture.standby]);
    ensure!(journal.totals().lost == 0, "{:?}; {delivery:?}", journal.totals());
    let told = events(&env, "orders").await?;
    ensure!(told == ["FailedOver", "FailedBack"], "{told:?}");
    ensure!(failover.took() < Duration::from_secs(5), "the client could not send for {:?}", failover.took());
    Ok(())
}
