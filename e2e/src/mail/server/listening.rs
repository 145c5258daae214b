//! The listening side of an address: open, refused, or unanswered, and back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::faults::Listening;

const BACKLOG: u32 = 1024;
/// Out of file descriptors, say: accepting goes on when there are some again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const FILLER_TIMEOUT: Duration = Duration::from_secs(1);

/// An address that belongs to us for as long as this lives, whether somebody listens there or not.
pub(super) struct Port {
    address: SocketAddr,
    /// Bound and never listening: it keeps everybody else, clients with their ephemeral ports too, from taking the port
    /// while nobody listens, and the kernel refuses connections to it.
    _reservation: TcpSocket,
    state: State,
}

enum State {
    Open(JoinHandle<()>),
    Refused,
    /// A listener whose accept queue is full, so that the kernel drops every further SYN.
    Unanswered {
        _listener: TcpListener,
        _filler: TcpStream,
    },
}

impl Port {
    pub fn reserve(address: SocketAddr) -> io::Result<Self> {
        let reservation = bind(address)?;
        Ok(Self { address: reservation.local_addr()?, _reservation: reservation, state: State::Refused })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When this returns, it is so. `accepted` must not take long.
    pub async fn set<F>(&mut self, listening: Listening, accepted: F) -> io::Result<()>
    where
        F: Fn(TcpStream, SocketAddr) + Send + 'static,
    {
        self.refuse().await;
        match listening {
            Listening::Refused => {}
            Listening::Open => {
                let listener = bind(self.address)?.listen(BACKLOG)?;
                self.state = State::Open(tokio::spawn(accept(listener, accepted)));
            }
            Listening::Unanswered => {
                // A backlog of 0 leaves room for one connection (Linux: the queue is full when it is longer than the backlog).
                let listener = bind(self.address)?.listen(0)?;
                let filler = timeout(FILLER_TIMEOUT, TcpStream::connect(self.address)).await??;
                self.state = State::Unanswered { _listener: listener, _filler: filler };
            }
        }
        Ok(())
    }

    async fn refuse(&mut self) {
        if let State::Open(task) = std::mem::replace(&mut self.state, State::Refused) {
            task.abort();
            // The listener is closed when its task is gone; connections it did not accept are reset by the kernel.
            let _ = task.await;
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let State::Open(task) = &self.state {
            task.abort();
        }
    }
}

/// With `SO_REUSEADDR`: neither the reservation nor sessions of before stand in the way of listening again.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, accepted: impl Fn(TcpStream, SocketAddr)) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => accepted(stream, peer),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}
