//! Connections of a small HTTP server, with or without TLS: their number and their duration are bounded.
//!
//! A connection serves one request, and one deadline covers all of it, so that no client keeps a place for longer. When
//! all places are taken, a connection whose request is not whole yet gives way to a new one (ADR-0090). The caller says
//! what is served.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

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
            places.freed.notified().await;
            if let Some(place) = places.take(peer) {
                return place;
            }
        }
    }
}

/// Places of a server's connections.
struct Places {
    limit: usize,
    open: Mutex<OpenConnections>,
    /// Told of each place that becomes free.
    freed: Notify,
    gave_way: Counter,
}

#[derive(Default)]
struct OpenConnections {
    /// Connections by number; a greater number is younger.
    connections: BTreeMap<u64, OpenConnection>,
    /// Number of the next connection. None comes twice: a connection that gave way ends later.
    next: u64,
}

/// Connection that holds a place.
struct OpenConnection {
    peer: IpAddr,
    /// Token that ends the connection; `None` once its request is whole.
    gives_way: Option<CancellationToken>,
}

impl OpenConnections {
    /// Returns the oldest connection without a whole request, of the client that has the most of them.
    // One client that opens connections faster than others send their requests then closes only its own.
    fn gives_way_first(&self) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        let waiting = self.connections.iter().filter(|(_, connection)| connection.gives_way.is_some());
        for (_, connection) in waiting.clone() {
            *counts.entry(connection.peer).or_default() += 1;
        }
        // The last of the greatest, and so the oldest.
        waiting.rev().max_by_key(|(_, connection)| counts[&connection.peer]).map(|(number, _)| *number)
    }
}

impl Places {
    fn new(limit: usize, gave_way: Counter) -> Self {
        Self { limit, open: Mutex::default(), freed: Notify::new(), gave_way }
    }

    /// Takes a place, if need be from a connection whose request is not whole. `None` if there is no such connection.
    fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        if open.connections.len() >= self.limit {
            let first = open.gives_way_first()?;
            if let Some(token) = open.connections.remove(&first).and_then(|connection| connection.gives_way) {
                token.cancel();
            }
            self.gave_way.inc();
        }
        let number = open.next;
        open.next += 1;
        let gives_way = CancellationToken::new();
        open.connections.insert(number, OpenConnection { peer, gives_way: Some(gives_way.clone()) });
        Some(Place { places: self.clone(), number, gives_way })
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        // No user of the lock can leave it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Place of one connection, free again when dropped.
struct Place {
    places: Arc<Places>,
    number: u64,
    gives_way: CancellationToken,
}

impl Place {
    /// Keeps the place until the connection ends: its request is whole.
    fn keep(&self) {
        if let Some(connection) = self.places.lock().connections.get_mut(&self.number) {
            connection.gives_way = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().connections.remove(&self.number);
        self.places.freed.notify_one();
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
        let gives_way = self.place.gives_way.clone();
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn places(limit: usize) -> Arc<Places> {
        Arc::new(Places::new(limit, Counter::default()))
    }

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    #[test]
    fn the_oldest_connection_without_a_whole_request_gives_way() {
        let places = places(3);
        let open: Vec<_> = (0..3).map(|_| places.take(peer(1)).unwrap()).collect();
        open[0].keep();
        let newest = places.take(peer(2)).unwrap();
        assert_eq!(open.iter().map(|place| place.gives_way.is_cancelled()).collect::<Vec<_>>(), [false, true, false]);
        assert!(!newest.gives_way.is_cancelled());
        assert_eq!(places.gave_way.get(), 1);
        // The one that gave way says so late; its place is taken by then.
        open[1].keep();
        drop(open);
        assert_eq!(places.lock().connections.len(), 1);
    }

    #[test]
    fn a_connection_that_gave_way_takes_no_place_with_it_when_it_ends() {
        let places = places(1);
        let old = places.take(peer(1)).unwrap();
        let new = places.take(peer(1)).unwrap();
        drop(old);
        assert_eq!(places.lock().connections.len(), 1);
        drop(new);
        assert_eq!(places.lock().connections.len(), 0);
    }

    #[test]
    fn whole_requests_give_way_to_nobody() {
        let places = places(2);
        let (one, two) = (places.take(peer(1)).unwrap(), places.take(peer(1)).unwrap());
        one.keep();
        two.keep();
        assert!(places.take(peer(2)).is_none());
        drop(one);
        assert!(places.take(peer(2)).is_some() && places.gave_way.get() == 0);
    }

    #[test]
    fn a_client_with_many_connections_closes_its_own() {
        let places = places(8);
        let lone = places.take(peer(1)).unwrap();
        let mut many = vec![];
        for _ in 0..1000 {
            many.push(places.take(peer(2)).unwrap());
        }
        assert!(!lone.gives_way.is_cancelled());
        assert_eq!(many.iter().filter(|place| !place.gives_way.is_cancelled()).count(), 7);
        assert!(many.iter().rev().take(7).all(|place| !place.gives_way.is_cancelled()), "the oldest of them go");
    }
}
