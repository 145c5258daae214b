//! `smtp`: the provider and the application of the suites that run inside a cluster, each in a pod
//! of its own.
//!
//! It delivers no mail, and leaves nothing behind but the record that it is told to keep.

mod serve;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser};
use mail_failover_e2e::mail::load::{Load, LoadOptions};
use mail_failover_e2e::mail::record::Record;
use tokio::time::sleep;

use self::serve::Serve;

/// More messages than any trial sends.
const NO_END: usize = usize::MAX / 2;
/// The interval at which an application checks if it is told to stop.
const LOOK: Duration = Duration::from_millis(200);

/// A provider that fails on demand, and an application that sends.
#[derive(Parser)]
enum Role {
    /// Run a provider.
    Serve(Serve),
    /// Run an application: send messages until told to stop, and until all are accepted.
    Send(Send),
}

#[derive(Args)]
struct Send {
    /// The server that takes the mail, `host:port`.
    #[arg(long)]
    server: String,
    /// Send until this file exists.
    #[arg(long)]
    until: PathBuf,
    /// Messages sent per second.
    #[arg(long)]
    per_second: u32,
    /// Number of connections.
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Make a connection for each message.
    #[arg(long)]
    connection_each: bool,
    /// The file that accepted messages are recorded in.
    #[arg(long)]
    record: PathBuf,
    /// Seconds after that file appears by which all messages must be accepted.
    #[arg(long, default_value_t = 400)]
    drain_seconds: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Role::parse() {
        Role::Serve(options) => serve::serve(options).await,
        Role::Send(options) => send(options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smtp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Sends, and prints the outcome: `accepted N refusals N unknown N`, and the server's last refusal.
async fn send(options: Send) -> Result<()> {
    let server = tokio::net::lookup_host(&options.server).await.with_context(|| options.server.clone())?.next();
    let server = server.with_context(|| format!("{} has no address", options.server))?;
    let record = Arc::new(Record::open(&options.record)?);
    let load = LoadOptions {
        per_second: Some(options.per_second),
        connections: options.connections,
        is_connection_each: options.connection_each,
        record: Some(record),
        ..LoadOptions::new(server, NO_END, "app@shop.example")
    };
    let load = Load::start(load);
    while !options.until.exists() {
        sleep(LOOK).await;
    }
    let sent = load.stop(Duration::from_secs(options.drain_seconds)).await?;
    println!("accepted {} refusals {} unknown {}", sent.accepted.len(), sent.refusals, sent.unknown);
    if let Some(refusal) = sent.last_refusal {
        println!("the last refusal: {refusal}");
    }
    ensure!(sent.unrecorded.is_none(), "not recorded: {:?}", sent.unrecorded);
    Ok(())
}
