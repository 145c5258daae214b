//! The API.
use mail_failover_e2e::suite::{Options, run, trial};
use std::process::ExitCode;
fn main() -> ExitCode {
    run(
        "api",
        Options::default(),
        vec![trial("the custom resources are served", async |stage| {
            println!("{}", stage.kubectl(&["get", "mailfailover"]).await?);
            Ok(())
        })],
    )
}
