//! A receiver of notifications over HTTPS that keeps what it is told, and answers as it is asked to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::mail::certificates::Identity;

/// Behaviour of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverMode {
    /// It takes what it is told, and says so.
    Accept,
    /// It takes what it is told, and the connection ends before the answer.
    Lose,
    /// It takes nothing: 503.
    Broken,
}

/// One call of a receiver.
#[derive(Clone, Debug)]
pub struct ReceivedNotification {
    /// Time of the call.
    pub at: Instant,
    /// Path of the request, with its query.
    pub path: String,
    /// Headers of the request, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body of the request as it came.
    pub text: String,
    /// Body of the request.
    pub body: Value,
    /// Behaviour that it met.
    pub mode: ReceiverMode,
}

#[derive(Debug)]
struct ReceiverState {
    mode: ReceiverMode,
    received: Vec<ReceivedNotification>,
}

/// A running receiver. It stops when dropped.
pub struct NotificationReceiver {
    state: Arc<Mutex<ReceiverState>>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for NotificationReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl NotificationReceiver {
    /// Starts a receiver that accepts each call.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(address: SocketAddr, identity: &Identity) -> Result<Self> {
        let state = Arc::new(Mutex::new(ReceiverState { mode: ReceiverMode::Accept, received: vec![] }));
        let tls = TlsAcceptor::from(identity.server_config()?);
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let shared = state.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, shared) = (tls.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    // A lost answer is an error.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { state, address, serving })
    }

    /// Sets what it does with the calls that follow.
    pub fn set_mode(&self, mode: ReceiverMode) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).mode = mode;
    }

    /// The calls so far, in their order.
    pub fn received(&self) -> Vec<ReceivedNotification> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).received.clone()
    }

    /// The calls so far at a path, in their order.
    pub fn at(&self, path: &str) -> Vec<ReceivedNotification> {
        self.received().into_iter().filter(|one| one.path.starts_with(path)).collect()
    }

    /// Its address as a URL without a path.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

async fn answer(state: Arc<Mutex<ReceiverState>>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>> {
    let at = Instant::now();
    let path = request.uri().to_string();
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let headers = headers.collect();
    let bytes = request.into_body().collect().await?.to_bytes();
    let text = String::from_utf8(bytes.to_vec())?;
    let body = serde_json::from_str(&text)?;
    let mode = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = state.mode;
        state.received.push(ReceivedNotification { at, path, headers, text, body, mode });
        mode
    };
    let status = match mode {
        ReceiverMode::Accept => StatusCode::ACCEPTED,
        ReceiverMode::Broken => StatusCode::SERVICE_UNAVAILABLE,
        ReceiverMode::Lose => anyhow::bail!("the answer is lost"),
    };
    Ok(Response::builder().status(status).body(Empty::new())?)
}
