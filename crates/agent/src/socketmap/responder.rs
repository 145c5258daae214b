//! Responder: it joins the view of one moment with the logins.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::maps::{Answer, Fixed, View, answer};
use super::metrics::Metrics;
use super::reply::Reply;
use crate::credentials::{Credentials, in_a_password_map};

/// Answers requests from the latest view. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Responder {
    view: watch::Receiver<Arc<View>>,
    fixed: Arc<Fixed>,
    credentials: Credentials,
    metrics: Metrics,
}

impl Responder {
    /// Creates a responder that answers from the view at the time of the request.
    pub fn new(view: watch::Receiver<Arc<View>>, fixed: Fixed, credentials: Credentials, metrics: Metrics) -> Self {
        Self { view, fixed: Arc::new(fixed), credentials, metrics }
    }

    /// The answer to a request.
    pub async fn respond(&self, request: &[u8]) -> Reply {
        let asked = Instant::now();
        let view = self.view.borrow().clone();
        let (map, answer) = answer(&view, &self.fixed, request);
        let reply = match answer {
            Answer::Reply(reply) => reply,
            Answer::Login(secret) => match self.credentials.login(&secret).await {
                Ok(login) => Reply::Found(in_a_password_map(&login)),
                Err(missing) => Reply::Temporary(format!("mail-failover agent: {missing}")),
            },
        };
        self.metrics.answered(map, &reply, asked.elapsed());
        reply
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
