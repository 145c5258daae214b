//! A route fails over and back, and every output, status and Event says so.

mod agents;
mod explaining;
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
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::mail::sender::{Sender, SenderOptions};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::scene::{PATIENCE, Scene, Tempo, condition, events, leads_to};
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{self, Options, trial};

fn main() -> ExitCode {
    let options = Options { operator: true, parallel: 6, deadline: Duration::from_mins(4), ..Options::default() };
    // Those that wait for half a minute first, so that they do not end alone.
    let mut trials = observing::trials();
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

async fn there_and_back(stage: Arc<Stage>) -> Result<()> {
    let scene = Scene::set(stage.clone(), &Tempo::with_failback()).await?;
    let _operator = scene.start_operator("a").await?;
    let endpoints = ServiceEndpoints::follow(stage.client(), stage.namespace(), "mail", "smtp");
    let sender = Sender::start(SenderOptions::new(Duration::from_millis(20), endpoints.receiver()));
    sender.wait_for("a first message", PATIENCE, |totals| totals.accepted > 20).await?;
    let broken = Instant::now();
    scene.primary.set_fault(Fault::Refuse).await?;
    let failover = sender.wait_for_failover(broken, PATIENCE).await?;
    let status = scene.wait_active("standby").await?;
    ensure!(condition(&status, "Ready").0 == "True", "{status:?}");
    ensure!(condition(&status, "FailedOver") == ("True".into(), "ConnectionRefused".into()), "{status:?}");
    ensure!(leads_to(&stage, "mail").await? == [scene.standby.address().ip().to_string()]);
    scene.primary.repair().await?;
    scene.wait_active("primary").await?;
    let journal = sender.stop(PATIENCE).await;
    let delivery = journal.delivery(&[&scene.primary, &scene.standby]);
    ensure!(journal.totals().lost == 0, "{:?}; {delivery:?}", journal.totals());
    let told = events(&stage, "orders").await?;
    ensure!(told == ["FailedOver", "FailedBack"], "{told:?}");
    ensure!(failover.took() < Duration::from_secs(5), "the client was without a way out for {:?}", failover.took());
    Ok(())
}
