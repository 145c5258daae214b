//! The listening side of an address: open, refused, or unanswered, and back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::faults::Listening;

const BACKLOG: u32 = 1024;
/// The pause after a failed accept, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// The time limit of a connection that fills the queue. Over loopback, a later one does not come.
const FILLER_TIMEOUT: Duration = Duration::from_millis(200);

/// An address that is reserved for as long as this lives, listening or not.
pub(super) struct Port {
    address: SocketAddr,
    /// A socket that is bound and never listens. It keeps others, clients with ephemeral ports
    /// included, from taking the port while nobody listens, and the kernel refuses connections to
    /// it.
    _reservation: TcpSocket,
    state: PortState,
}

enum PortState {
    Open {
        listener: Arc<TcpListener>,
        task: JoinHandle<()>,
    },
    Refused,
    /// A listener whose accept queue is full, so that the kernel drops every further SYN.
    Unanswered {
        _listener: Arc<TcpListener>,
        _filler: Option<TcpStream>,
    },
}

impl Port {
    pub fn reserve(address: SocketAddr) -> io::Result<Self> {
        let reservation = bind(address)?;
        Ok(Self { address: reservation.local_addr()?, _reservation: reservation, state: PortState::Refused })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the state, which holds when this returns. `accepted` must not take long.
    pub async fn set<F>(&mut self, listening: Listening, accepted: F) -> io::Result<()>
    where
        F: Fn(TcpStream, SocketAddr) + Send + 'static,
    {
        // The listener keeps listening while it becomes a black hole, so no connection is refused in between.
        let listener = self.stop().await;
        match listening {
            Listening::Refused => {}
            Listening::Open => {
                drop(listener);
                let listener = Arc::new(bind(self.address)?.listen(BACKLOG)?);
                let task = tokio::spawn(accept(listener.clone(), accepted));
                self.state = PortState::Open { listener, task };
            }
            Listening::Unanswered => {
                let listener = match listener {
                    Some(listener) => listener,
                    None => Arc::new(bind(self.address)?.listen(0)?),
                };
                // A backlog of 0 leaves room for one connection (Linux: the queue is full when it is longer than the
                // backlog).
                SockRef::from(&*listener).listen(0)?;
                let filler = match timeout(FILLER_TIMEOUT, TcpStream::connect(self.address)).await {
                    Ok(connected) => Some(connected?),
                    // A client's connection has filled it.
                    Err(_) => None,
                };
                self.state = PortState::Unanswered { _listener: listener, _filler: filler };
            }
        }
        Ok(())
    }

    /// Stops accepting. The kernel resets connections that were not accepted when the listener is
    /// dropped.
    pub async fn stop(&mut self) -> Option<Arc<TcpListener>> {
        match std::mem::replace(&mut self.state, PortState::Refused) {
            PortState::Open { listener, task } => {
                task.abort();
                // Once the task has ended, no other owner of the listener is left.
                let _ = task.await;
                Some(listener)
            }
            PortState::Refused | PortState::Unanswered { .. } => None,
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let PortState::Open { task, .. } = &self.state {
            task.abort();
        }
    }
}

/// Binds a socket with `SO_REUSEADDR`: neither the reservation nor earlier sessions prevent
/// listening again.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: Arc<TcpListener>, accepted: impl Fn(TcpStream, SocketAddr)) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => accepted(stream, peer),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}
