//! HTTP route `/status`, beside the routes that every process of ours serves.

use std::time::Duration;

use axum::Router;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::status::Status;

/// Limit of the requests that wait. The deadline of their connection turns more of them away.
pub const QUEUE: usize = 16;
/// Limit for the answer of the loop.
// The loop turns within milliseconds; `/livez` tells of one that does not.
const DEADLINE: Duration = Duration::from_secs(2);

/// Sender of requests for the status.
pub type Questions = mpsc::Sender<oneshot::Sender<Status>>;

/// Returns the route of `/status`.
pub fn router(questions: Questions) -> Router {
    Router::new().route("/status", get(status)).with_state(questions)
}

async fn status(extract::State(questions): extract::State<Questions>) -> Response {
    let ask = async {
        let (answer, status) = oneshot::channel();
        questions.send(answer).await.ok()?;
        status.await.ok()
    };
    match timeout(DEADLINE, ask).await.ok().flatten().map(|status| serde_json::to_string_pretty(&status)) {
        Some(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Some(Err(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the status cannot be written: {error}\n")).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the agent's loop does not answer; see /livez\n").into_response(),
    }
}
