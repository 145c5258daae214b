//! The service behind `up`: a process outside that waits, and one inside that runs the node.

use std::process::ExitCode;

use anyhow::{Result, bail};
use mail_failover_e2e::control_plane::Binaries;
use mail_failover_e2e::control_plane::namespace::{self, Entered, Isolation};
use mail_failover_e2e::node::Node;
use tokio::runtime::Runtime;

use crate::state::{ClusterState, Ready};

/// Runs the node until the process outside is told to end.
pub fn serve() -> ExitCode {
    match try_serve() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_serve() -> Result<ExitCode> {
    let state = ClusterState::open()?;
    // Held by the process outside as long as it lives.
    let mut claim = None;
    match namespace::enter(Isolation::Node, || {
        claim = Some(state.claim()?);
        Ok(())
    })? {
        Entered::Finished(code) => return Ok(code),
        Entered::Forbidden(why) => bail!("{why}"),
        Entered::Inside => {}
    }
    let binaries = Binaries::locate(&Node::programs())?;
    Runtime::new()?.block_on(async {
        let node = Node::start(&binaries, false).await?;
        state.tell_ready(&Ready { kubeconfig: node.control_plane().kubeconfig().to_owned() })?;
        // The process outside ends this one.
        std::future::pending::<Result<ExitCode>>().await
    })
}
