//! Ports, and what comes before a session: a place, the real client behind a load balancer, and TLS from the first byte.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mail_failover_runtime::places::{Place, Places};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::session::{Rejection, Session};
use crate::proxy;
use crate::server::{ClientStream, Endings, Relay, drive, shake_hands};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Pause after the kernel refused a connection, most likely because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A port that listens.
pub struct SmtpListener {
    tcp: TcpListener,
    is_implicit: bool,
}

impl SmtpListener {
    /// Listens on an address. With `is_implicit`, TLS is spoken from the first byte.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn bind(address: SocketAddr, is_implicit: bool) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { tcp: socket.listen(BACKLOG)?, is_implicit })
    }

    /// The address that it listens on, with the real port where 0 was asked for.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts connections until `closing`, and drives each as a task of `under_way` that drains when told to.
    pub async fn serve(
        self,
        relay: Arc<Relay>,
        places: Arc<Places>,
        under_way: TaskTracker,
        closing: CancellationToken,
        endings: Endings,
    ) {
        loop {
            let accepted = tokio::select! {
                () = closing.cancelled() => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let peer = peer.ip().to_canonical();
                    let Some(place) = take_place(&relay, &places, peer, &stream) else { continue };
                    let accepted = Accepted { stream, peer, place, is_implicit: self.is_implicit };
                    under_way.spawn(serve_one(relay.clone(), places.clone(), accepted, endings.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection with a place.
struct Accepted {
    stream: TcpStream,
    peer: IpAddr,
    place: Place,
    is_implicit: bool,
}

fn take_place(relay: &Relay, places: &Arc<Places>, peer: IpAddr, stream: &TcpStream) -> Option<Place> {
    let place = places.take(peer);
    if place.is_some() {
        relay.server_metrics.accepted.inc();
    } else {
        relay.server_metrics.turned_away.inc();
        // As much as fits without waiting: a flood must not hold us up.
        let _ = stream.try_write(b"421 4.3.2 too many connections; try again\r\n");
    }
    place
}

async fn serve_one(relay: Arc<Relay>, places: Arc<Places>, accepted: Accepted, endings: Endings) {
    relay.server_metrics.connections.inc();
    let metrics = relay.server_metrics.clone();
    serve(relay, &places, accepted, endings).await;
    metrics.connections.dec();
}

async fn serve(relay: Arc<Relay>, places: &Arc<Places>, accepted: Accepted, endings: Endings) {
    let Accepted { mut stream, mut peer, mut place, is_implicit } = accepted;
    let _ = stream.set_nodelay(true);
    if contains(&relay.proxies, peer) {
        let gives_way = place.gives_way().clone();
        let named = tokio::select! {
            () = gives_way.cancelled() => return,
            named = proxy::client(&mut stream) => named,
        };
        match named {
            Ok(Some(client)) => {
                // From here on the place counts as the client's.
                drop(place);
                peer = client;
                let Some(taken) = take_place(&relay, places, peer, &stream) else { return };
                place = taken;
            }
            // The load balancer speaks for itself.
            Ok(None) => {}
            Err(error) => {
                relay.server_metrics.rejected(Rejection::ProxyHeader);
                tracing::debug!(proxy = %peer, %error, "a connection is closed");
                return;
            }
        }
    }
    let gives_way = place.gives_way().clone();
    let stream: Option<ClientStream> = if is_implicit {
        tokio::select! {
            () = gives_way.cancelled() => None,
            stream = shake_hands(&relay, stream) => stream.map(Either::Right),
        }
    } else {
        Some(Either::Left(stream))
    };
    let Some(stream) = stream else { return };
    let session = Session::new(relay.settings.clone(), contains(&relay.networks, peer), is_implicit);
    drive(relay, stream, session, (peer, place), endings).await;
}

fn contains(networks: &[ipnet::IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}
