//! Connection of an application: what is read of it, also while the relay works for it, and its end.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// A connection of an application.
pub(crate) type ClientStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Octets that are read at once while the relay works for the application.
const READ: usize = 4096;
/// Octets that an application may send ahead.
const AHEAD: usize = 64 * 1024;
/// Time after its latest octets within which the end of an application's side is no loss of patience.
const HALF_CLOSE: Duration = Duration::from_secs(1);

/// End of what an application sends, seen while the relay works for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientEnd {
    /// It has closed its side together with its latest octets: it has said everything, and waits for the answers.
    // ADR-0200: Who closes its side at once wants its answers.
    Waits,
    /// It has waited in vain, or the connection is broken.
    Left,
}

/// Octets that come from an application while the relay works for it.
pub(super) struct Ahead {
    pub(super) octets: Vec<u8>,
    room: usize,
    /// Time of the latest octets.
    pub(super) heard_at: Instant,
    pub(super) end: Option<ClientEnd>,
}

impl Ahead {
    /// Room for what the application sends from now on, while so many octets of it wait already.
    pub(super) fn new(waiting: usize, heard_at: Instant, end: Option<ClientEnd>) -> Self {
        Self { octets: vec![], room: AHEAD.saturating_sub(waiting), heard_at, end }
    }

    /// Returns true if there was no room to look for more.
    pub(super) fn is_full(&self) -> bool {
        self.octets.len() >= self.room
    }

    /// Reads until there is no more room, or until the application's end. It never returns: the work beside it ends.
    pub(super) async fn listen(&mut self, stream: &mut ClientStream) -> Infallible {
        while self.end.is_none() && !self.is_full() {
            self.end = match read(stream, &mut self.octets, READ).await {
                Ok(0) if self.heard_at.elapsed() < HALF_CLOSE => Some(ClientEnd::Waits),
                Ok(0) | Err(_) => Some(ClientEnd::Left),
                Ok(_) => {
                    self.heard_at = Instant::now();
                    None
                }
            };
        }
        std::future::pending().await
    }

    /// Takes what has come already.
    pub(super) async fn look(&mut self, stream: &mut ClientStream) {
        tokio::select! {
            biased;
            never = self.listen(stream) => match never {},
            () = std::future::ready(()) => {}
        }
    }
}

/// Reads what an application sends. Nothing is lost if this is dropped.
pub(super) async fn read(stream: &mut ClientStream, buffer: &mut Vec<u8>, size: usize) -> io::Result<usize> {
    // Room is made only when there is something to read: ten thousand idle connections keep no buffers.
    readable(stream).await?;
    buffer.reserve(size);
    stream.read_buf(buffer).await
}

/// Waits until the connection has something to say. Inside TLS that may have been received already.
async fn readable(stream: &mut ClientStream) -> io::Result<()> {
    match stream {
        Either::Left(tcp) => tcp.readable().await,
        Either::Right(tls) => {
            let (tcp, session) = tls.get_mut();
            match session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => tcp.readable().await,
                // The read tells what is wrong.
                Ok(_) | Err(_) => Ok(()),
            }
        }
    }
}
