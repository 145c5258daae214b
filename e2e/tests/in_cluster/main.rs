//! Trials of mail through a real cluster, as users have it: the chart installed by Helm, the
//! examples applied, an application's pod that sends, Postfix with the agent, and providers that
//! break.

mod control_plane;
mod crd_upgrade;
mod drills;
mod flow;
mod least_privilege;
mod outages;
mod relay;
mod replicas;
mod rollouts;
mod secrecy;
mod service_output;
mod try_it;
mod vantage;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::in_cluster::images;
use mail_failover_e2e::node::images::{Recipe, operator, python};
use mail_failover_e2e::suite::{self, Options, Trial};

/// The images that mail needs.
const IMAGES: &[fn() -> Recipe] = &[operator, images::shop_postfix, images::smtp];
/// The images that mail needs, and that of the tutorial.
const ALL_IMAGES: &[fn() -> Recipe] = &[operator, images::shop_postfix, images::smtp, python];

fn main() -> ExitCode {
    let only = std::env::var("E2E_PART").ok();
    let parts: Vec<_> =
        PARTS.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)).collect();
    if parts.is_empty() {
        eprintln!("the suite in_cluster has no part {}", only.unwrap_or_default());
        return ExitCode::FAILURE;
    }
    let options = Options {
        node: true,
        // The operator comes in the image.
        operator: true,
        audit: true,
        // The definitions come with the chart.
        crds: false,
        images: if parts.iter().any(|(name, _)| *name == "tenants") { ALL_IMAGES } else { IMAGES },
        // Each trial has pods of its own, which load the machine more than the trial.
        parallel: 2,
        deadline: Duration::from_mins(15),
        ..Options::default()
    };
    suite::run("in_cluster", options, parts.into_iter().flat_map(|(_, trials)| trials()).collect())
}

/// A part of the suite: its name and its trials. `E2E_PART` names one, so that each may have a
/// cluster of its own at the same time; without it, all run one after another on one cluster.
type Part = (&'static str, fn() -> Vec<Trial>);
const PARTS: [Part; 4] =
    [("tenants", tenants), ("leader", control_plane::trials), ("upgrades", upgrades), ("vantage", vantage)];

/// Trials that need one namespace of the cluster each, and run side by side.
fn tenants() -> Vec<Trial> {
    let trials = [
        outages::trials(),
        drills::trials(),
        relay::trials(),
        rollouts::of_postfix(),
        service_output::trials(),
        secrecy::trials(),
        try_it::trials(),
        least_privilege::trials(),
    ];
    trials.into_iter().flatten().collect()
}

/// Trials that change the operator or its definitions for all tenants, and run one after another.
fn upgrades() -> Vec<Trial> {
    [rollouts::of_operator(), crd_upgrade::trials()].into_iter().flatten().map(Trial::alone).collect()
}

/// Trials under enforced `NetworkPolicies`, which slow every new connection. They run last.
fn vantage() -> Vec<Trial> {
    vantage::trials().into_iter().map(Trial::alone).collect()
}
