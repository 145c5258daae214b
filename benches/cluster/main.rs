//! Figures of the operator inside a real cluster: failovers as seen by a client of the route's
//! Service and by the recipients of Postfix, the price of 500 routes, a pod's cold start, and the
//! time until another replica leads.
//!
//! It runs in the environment of the suite `in_cluster`, with the operator installed by Helm. Peers
//! in the same run: HAProxy with the same checks where a client fails over, and a pod that does
//! nothing where one starts.

mod failovers;
mod replicas;
mod size;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::environment;
use mail_failover_e2e::in_cluster::images;
use mail_failover_e2e::node::images::operator;
use mail_failover_e2e::suite::{self, Options, Trial, trial};

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("the bench of the cluster measures nothing: it is for `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let options = Options {
        node: true,
        crds: false,
        images: &[operator, images::shop_postfix, images::smtp],
        parallel: failovers::TENANTS,
        deadline: Duration::from_mins(40),
        ..Options::default()
    };
    let mut trials = vec![
        trial("failovers through kube-proxy", failovers::through_kube_proxy).alone(),
        trial("a pod's start and another leader", replicas::measure).alone(),
        trial("500 routes", size::measure).alone(),
    ];
    trials.extend((1..=failovers::TENANTS).map(|tenant| {
        trial(format!("failovers through Postfix and the agent, tenant {tenant}"), failovers::through_postfix)
    }));
    let trials = trials.into_iter().map(Trial::needs_own_node).collect();
    suite::run("bench-cluster", options, trials)
}

/// The number of rounds: `quick` if `BENCH_QUICK=1`.
fn rounds(full: usize, quick: usize) -> usize {
    if environment::is_set("BENCH_QUICK") { quick } else { full }
}
