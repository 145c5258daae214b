//! Connections of a small HTTP server, with or without TLS: their number and their duration are bounded.
//!
//! A connection serves one request, and one deadline covers all of it, so that no client keeps a place for longer. The
//! caller says what is served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time that a client has to send the head of its request.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// Longest duration of a connection, TLS handshake included.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after the kernel refused a connection, most likely because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Server that listens already and serves nothing yet.
pub struct Listener {
    /// Name of the server in logs.
    name: &'static str,
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: usize,
    /// Connections that had to wait because too many were open.
    pub delayed: Counter,
    /// Connections that were closed at their deadline.
    pub cut: Counter,
}

impl Listener {
    /// Listens on an address and serves this many connections at a time. More connections wait in the kernel's queue
    /// until one ends, at most [`CONNECTION_DEADLINE`].
    pub async fn bind(name: &'static str, address: SocketAddr, connections: usize) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self { name, tcp, tls: None, connections, delayed: Counter::default(), cut: Counter::default() })
    }

    /// Speaks TLS from the first byte.
    #[must_use]
    pub fn with_tls(self, config: Arc<rustls::ServerConfig>) -> Self {
        Self { tls: Some(config.into()), ..self }
    }

    /// Returns the address that the server listens on, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `shutdown`, then waits for the connections under way.
    pub async fn serve(self, app: Router, shutdown: CancellationToken) {
        let under_way = TaskTracker::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.accept(&app, &under_way) => {}
        }
        under_way.close();
        under_way.wait().await;
    }

    /// Accepts connections for ever, each as a task of its own.
    async fn accept(&self, app: &Router, under_way: &TaskTracker) {
        let permits = Arc::new(Semaphore::new(self.connections));
        loop {
            if permits.available_permits() == 0 {
                self.delayed.inc();
            }
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            match self.tcp.accept().await {
                Ok((stream, _peer)) => {
                    let (name, app, tls, cut) = (self.name, app.clone(), self.tls.clone(), self.cut.clone());
                    under_way.spawn(async move {
                        let serving = serve_connection(name, stream, tls, app);
                        if tokio::time::timeout(CONNECTION_DEADLINE, serving).await.unwrap_or(true) {
                            cut.inc();
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the {} server", self.name);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Serves one connection. Returns true if the client used up its time for the head of its request.
async fn serve_connection(name: &'static str, stream: TcpStream, tls: Option<TlsAcceptor>, app: Router) -> bool {
    let Some(tls) = tls else { return serve_one(name, stream, app).await };
    match tls.accept(stream).await {
        Ok(stream) => serve_one(name, stream, app).await,
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake with the {name} server failed");
            false
        }
    }
}

/// Serves one request. Returns true if the client used up its time for the head of the request.
async fn serve_one(name: &'static str, stream: impl AsyncRead + AsyncWrite + Unpin, app: Router) -> bool {
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await;
    served.is_err_and(|error| {
        tracing::debug!(%error, "a connection to the {name} server failed");
        error.is_timeout()
    })
}
