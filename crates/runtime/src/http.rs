//! Connections of a small HTTP server: how many at a time, how long each may last, with or without TLS.
//!
//! One request per connection, and one deadline over all of it, so that nobody keeps a place for longer. What is served is the caller's.

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
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take to send the head of its request.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may last, TLS handshake included.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait after the kernel could not give out a connection: too many open files, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A server that listens already and serves nothing yet.
pub struct Listener {
    /// Whose, for logs.
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
    /// Listens on this address. So many connections are served at a time; more wait in the kernel's queue until one ends, at most
    /// [`CONNECTION_DEADLINE`].
    pub async fn bind(name: &'static str, address: SocketAddr, connections: usize) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self { name, tcp, tls: None, connections, delayed: Counter::default(), cut: Counter::default() })
    }

    /// Speaks TLS from the first byte.
    #[must_use]
    pub fn with_tls(self, config: Arc<rustls::ServerConfig>) -> Self {
        Self { tls: Some(config.into()), ..self }
    }

    /// The address it listens on; the port is the real one where 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `shutdown`, then lets what is under way come to its end.
    pub async fn serve(self, app: Router, shutdown: CancellationToken) {
        let Self { name, tcp, tls, connections, delayed, cut } = self;
        let permits = Arc::new(Semaphore::new(connections));
        let under_way = TaskTracker::new();
        let accept = async {
            loop {
                if permits.available_permits() == 0 {
                    delayed.inc();
                }
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                match tcp.accept().await {
                    Ok((stream, _peer)) => {
                        let (app, tls, cut) = (app.clone(), tls.clone(), cut.clone());
                        under_way.spawn(async move {
                            let serving = async {
                                match tls {
                                    None => serve_one(name, stream, app).await,
                                    Some(tls) => match tls.accept(stream).await {
                                        Ok(stream) => serve_one(name, stream, app).await,
                                        Err(error) => {
                                            tracing::debug!(%error, "a TLS handshake with the {name} server failed");
                                            false
                                        }
                                    },
                                }
                            };
                            if tokio::time::timeout(CONNECTION_DEADLINE, serving).await.unwrap_or(true) {
                                cut.inc();
                            }
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection to the {name} server");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept => {}
        }
        under_way.close();
        under_way.wait().await;
    }
}

/// Serves one request. Returns whether the client used up its time for the head of the request.
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
