//! Command `mail-failover agent status`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use mail_failover_core::model::text::visible_lines;
use mail_failover_runtime::terminal::{TerminalWriter, TextForm};

use super::{Status, text};
use crate::arguments::{StatusArguments, StatusFormat};

/// Limit for the whole answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// A hundred backends with everything that can be said about them have less.
const MAX_BYTES: usize = 1 << 20;

/// The exit code of an agent that is ready.
const READY: u8 = 0;
const NOT_READY: u8 = 1;
const UNREACHABLE: u8 = 2;

/// Asks an agent and prints its status. Returns the exit code.
pub fn print(arguments: &StatusArguments, out: &mut impl Write, errors: &mut impl Write) -> u8 {
    let StatusArguments { address, output } = arguments;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(errors, &format!("cannot start: {error}")),
    };
    let answer = runtime.block_on(async { timeout(DEADLINE, ask(*address)).await });
    let body = match answer.unwrap_or(Err(AskError::Deadline)) {
        Ok(body) => body,
        Err(error) => {
            let remedy = "is `mail-failover agent run` running, and is this its --listen-address? See --address";
            return failed(errors, &format!("the agent at {address} cannot be asked: {error}; {remedy}"));
        }
    };
    let status: Status = match serde_json::from_slice(&body) {
        Ok(status) => status,
        Err(error) => {
            return failed(errors, &format!("what answers at {address} is no agent of this version: {error}"));
        }
    };
    let printed = match output {
        StatusFormat::Text => out.write_all(visible_lines(&text(&status)).as_bytes()),
        StatusFormat::Json => {
            writeln!(TerminalWriter::of(TextForm::Json, &mut *out), "{}", String::from_utf8_lossy(&body))
        }
    };
    if printed.is_err() {
        return UNREACHABLE;
    }
    if status.ready {
        return READY;
    }
    let why = status.waiting_for.unwrap_or_default();
    let _ = writeln!(errors, "mail-failover: the agent at {address} is not ready: {}", visible_lines(&why));
    NOT_READY
}

fn failed(errors: &mut impl Write, error: &str) -> u8 {
    let _ = writeln!(errors, "mail-failover: {error}");
    UNREACHABLE
}

/// Error of a request for the status.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Connect(#[from] io::Error),
    #[error(transparent)]
    Request(#[from] axum::http::Error),
    #[error(transparent)]
    Exchange(#[from] hyper::Error),
    #[error(transparent)]
    Body(#[from] axum::Error),
    #[error("{status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

async fn ask(address: SocketAddr) -> Result<Vec<u8>, AskError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/status").header(header::HOST, address.to_string()).body(Body::empty())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = to_bytes(Body::new(response.into_body()), MAX_BYTES).await?;
    connection.abort();
    if status == StatusCode::OK {
        return Ok(body.into());
    }
    Err(AskError::Refused { status, text: String::from_utf8_lossy(&body).trim().to_owned() })
}
