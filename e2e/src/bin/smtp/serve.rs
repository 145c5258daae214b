//! A provider with a control port, by which a trial breaks and repairs it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use clap::Args;
use mail_failover_e2e::mail::server::{Fault, Logins, Options, SmtpServer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const IDLE: Duration = Duration::from_mins(15);

#[derive(Args)]
pub struct Serve {
    /// The name in its greeting.
    #[arg(long)]
    name: String,
    /// The address at which it takes mail.
    #[arg(long, default_value = "0.0.0.0:2525")]
    listen: SocketAddr,
    /// The address at which it takes a fault, as JSON by `PUT /fault`.
    #[arg(long, default_value = "0.0.0.0:8025")]
    control: SocketAddr,
    /// A folder with the files `username` and `password`, as a mounted Secret, for the login that
    /// clients need. Without it everybody may send.
    #[arg(long)]
    login_folder: Option<PathBuf>,
    /// The file that stored messages are recorded in.
    #[arg(long)]
    record: PathBuf,
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Serves until SIGTERM.
pub async fn serve(options: Serve) -> Result<()> {
    let mut server = Options::new(&options.name, options.listen);
    server.record = Some(options.record);
    // Trials check the fate of a session that waits; on a busy machine it waits for minutes.
    server.idle_timeout = IDLE;
    if let Some(folder) = &options.login_folder {
        let login = (read(&folder.join("username"))?, read(&folder.join("password"))?);
        server = server.logins(Logins::Only(vec![login]));
    }
    let server = Arc::new(SmtpServer::start(server).await?);
    let control = TcpListener::bind(options.control).await.with_context(|| options.control.to_string())?;
    let router = Router::new().route("/fault", put(set_fault)).with_state(server);
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(control, router) => served.context("the control port"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Sets a fault. Connections that are kept for reuse end, so that the fault is met at once.
async fn set_fault(State(server): State<Arc<SmtpServer>>, body: String) -> Result<(), (StatusCode, String)> {
    let fault: Fault = serde_json::from_str(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    server.set_fault(fault).await.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    server.retire_sessions();
    Ok(())
}
