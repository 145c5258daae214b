//! Mail through a real cluster, as users have it: the chart installed by Helm, the examples applied, an application's pod that sends, Postfix
//! with the agent, and providers that break.

mod control_plane;
mod crd_upgrade;
mod least_privilege;
mod outages;
mod replicas;
mod rollouts;
mod secrecy;
mod service_output;
mod try_it;
mod vantage;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::in_cluster::images;
use mail_failover_e2e::node::images::{operator, python};
use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options = Options {
        node: true,
        // It is in the image.
        operator: true,
        audit: true,
        // They come with the chart.
        crds: false,
        images: &[operator, images::shop_postfix, images::smtp, python],
        parallel: 1,
        deadline: Duration::from_mins(15),
        ..Options::default()
    };
    let trials = [
        try_it::trials(),
        outages::trials(),
        service_output::trials(),
        rollouts::trials(),
        control_plane::trials(),
        least_privilege::trials(),
        secrecy::trials(),
        crd_upgrade::trials(),
        // From here on NetworkPolicies are enforced, which every new connection pays for.
        vantage::trials(),
    ];
    suite::run("in_cluster", options, trials.into_iter().flatten().collect())
}
