//! Connections of a small HTTP server, with or without TLS: their number and their duration are bounded.
//!
//! A connection serves one request, and one deadline covers all of it, so that no client keeps a place for longer. When
//! all places are taken, a connection whose request is not whole yet gives way to a new one (ADR-0090). The caller says
//! what is served.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::places::{Place, Places};

/// Pause after the kernel refused a connection, most likely because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Bounds of the connections of one server.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionBounds {
    /// Number of connections at a time.
    pub connections: usize,
    /// Time that a client has for the TLS handshake, and then for the head of its request.
    pub head: Duration,
    /// Longest duration of a connection, TLS handshake included.
    pub whole: Duration,
}

/// Counters of the connections that met a bound.
#[derive(Clone, Debug, Default)]
struct ConnectionMetrics {
    gave_way: Counter,
    delayed: Counter,
    cut: Counter,
}

impl ConnectionMetrics {
    fn new(server: &str, registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "gave_way",
            format!("Connections to the {server} server without a whole request that were closed for a new one, because all places were taken"),
            metrics.gave_way.clone(),
        );
        registry.register(
            "delayed",
            format!("Connections to the {server} server that had to wait, because each place served a whole request"),
            metrics.delayed.clone(),
        );
        registry.register(
            "cut",
            format!("Connections to the {server} server that were closed at their deadline"),
            metrics.cut.clone(),
        );
        metrics
    }
}

/// Server that listens already and serves nothing yet.
pub struct Listener {
    /// Name of the server in logs.
    name: &'static str,
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    bounds: ConnectionBounds,
    metrics: ConnectionMetrics,
}

impl Listener {
    /// Listens on an address within these bounds, and registers counters of the connections: `gave_way`, `delayed` and
    /// `cut`.
    pub async fn bind(
        name: &'static str,
        address: SocketAddr,
        bounds: ConnectionBounds,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self { name, tcp, tls: None, bounds, metrics: ConnectionMetrics::new(name, registry) })
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
        let places = Arc::new(Places::new(self.bounds.connections, self.metrics.gave_way.clone()));
        loop {
            match self.tcp.accept().await {
                Ok((stream, peer)) => {
                    let connection = Connection {
                        server: self.name,
                        place: Arc::new(self.place(&places, peer.ip()).await),
                        app: app.clone(),
                        bounds: self.bounds,
                    };
                    under_way.spawn(connection.serve_within_bounds(stream, self.tls.clone(), self.metrics.cut.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the {} server", self.name);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Returns a place for a new connection. It waits for one only while each place serves a whole request.
    async fn place(&self, places: &Arc<Places>, peer: IpAddr) -> Place {
        if let Some(place) = places.take(peer) {
            return place;
        }
        self.metrics.delayed.inc();
        loop {
            places.freed().await;
            if let Some(place) = places.take(peer) {
                return place;
            }
        }
    }
}

/// One connection, from its acceptance to its end.
struct Connection {
    /// Name of the server in logs.
    server: &'static str,
    place: Arc<Place>,
    app: Router,
    bounds: ConnectionBounds,
}

impl Connection {
    async fn serve_within_bounds(self, stream: TcpStream, tls: Option<TlsAcceptor>, cut: Counter) {
        let gives_way = self.place.gives_way().clone();
        let whole = self.bounds.whole;
        tokio::select! {
            () = gives_way.cancelled() => {}
            served = timeout(whole, self.serve(stream, tls)) => {
                if served.unwrap_or(true) {
                    cut.inc();
                }
            }
        }
    }

    /// Serves the connection. Returns true if the client used up its time for the handshake or the head.
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) -> bool {
        let Some(tls) = tls else { return self.serve_one(stream).await };
        match timeout(self.bounds.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve_one(stream).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake with the {} server failed", self.server);
                false
            }
            Err(_elapsed) => true,
        }
    }

    /// Serves one request. Returns true if the client used up its time for the head of the request.
    async fn serve_one(self, stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
        let Self { server, place, app, bounds } = self;
        let served = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service_fn(|request| answer(request, app.clone(), place.clone())))
            .await;
        served.is_err_and(|error| {
            tracing::debug!(%error, "a connection to the {server} server failed");
            error.is_timeout()
        })
    }
}

async fn answer(request: Request<Incoming>, app: Router, place: Arc<Place>) -> Result<Response, Infallible> {
    if request.body().is_end_stream() {
        place.keep();
    }
    app.oneshot(request.map(|incoming| axum::body::Body::new(RequestBody { incoming, place }))).await
}

/// Body of a request, which keeps the place of its connection once it is whole.
struct RequestBody {
    incoming: Incoming,
    place: Arc<Place>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.incoming.is_end_stream() {
            self.place.keep();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
