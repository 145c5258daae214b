//! A route fails over and back, and every output, status and Event says so.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::mail::sender::{Sender, SenderOptions};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::scene::{PATIENCE, Scene, Tempo, condition, events, leads_to};
use mail_failover_e2e::suite::{self, Options, trial};

fn main() -> ExitCode {
    let options = Options { operator: true, ..Options::default() };
    let trials = vec![
        trial("a sending client survives the death of the primary and its return", async |stage| {
            let scene = Scene::set(stage.clone(), &Tempo::with_failback()).await?;
            let _operator = scene.start_operator("a").await?;
            let endpoints = ServiceEndpoints::follow(stage.client(), stage.namespace(), "mail", "smtp");
            let sender = Sender::start(SenderOptions::new(Duration::from_millis(20), endpoints.receiver()));
            sender.wait_for("a first message", PATIENCE, |totals| totals.accepted > 20).await?;
            let broken = Instant::now();
            scene.primary.set_fault(Fault::Refuse).await?;
            let failover = sender.wait_for_failover(broken, PATIENCE).await?;
            println!("the client was without a way out for {:?}", failover.took());
            let status = scene.wait_active("standby").await?;
            ensure!(condition(&status, "Ready").0 == "True", "{status:?}");
            ensure!(condition(&status, "FailedOver") == ("True".into(), "ConnectionRefused".into()), "{status:?}");
            ensure!(leads_to(&stage, "mail").await? == [scene.standby.address().ip().to_string()]);
            scene.primary.repair().await?;
            scene.wait_active("primary").await?;
            let journal = sender.stop(PATIENCE).await;
            let delivery = journal.delivery(&[&scene.primary, &scene.standby]);
            ensure!(journal.totals().lost == 0, "{:?}", journal.totals());
            println!("{:?}\n{delivery:?}", journal.totals());
            let told = events(&stage, "orders").await?;
            ensure!(told == ["FailedOver", "FailedBack"], "{told:?}");
            println!("{}", stage.kubectl(&["get", "mailroutes,sendingbackends,failoverpolicies"]).await?);
            println!("{}", stage.kubectl(&["get", "mailroutes,sendingbackends,failoverpolicies", "-o", "yaml"]).await?);
            println!("{}", stage.kubectl(&["get", "events.v1.events.k8s.io"]).await?);
            ensure!(failover.took() < Duration::from_secs(3));
            Ok::<(), anyhow::Error>(())
        })
        .listens(),
    ];
    suite::run("failover", options, trials)
}
