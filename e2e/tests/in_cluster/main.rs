//! Mail through a real cluster, as users have it: the chart installed by Helm, the examples applied, an application's pod that sends, Postfix
//! with the agent, and providers that break.

mod images;
mod installation;
mod outages;
mod rollouts;
mod service_output;
mod shop;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::node::images::operator;
use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options = Options {
        node: true,
        audit: true,
        // They come with the chart.
        crds: false,
        images: &[operator, images::shop_postfix, images::smtp],
        parallel: 1,
        deadline: Duration::from_mins(15),
        ..Options::default()
    };
    suite::run(
        "in_cluster",
        options,
        [outages::trials(), service_output::trials(), rollouts::trials()].into_iter().flatten().collect(),
    )
}
