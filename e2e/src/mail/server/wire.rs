//! The bytes of a session: lines in, replies out, and every way of not replying.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::faults::Action;

/// Beyond RFC 5321's 512, for extensions (section 4.5.3.1.4).
pub(super) const MAX_COMMAND: usize = 4096;
const READ_AHEAD: usize = 8192;
/// What an [`Action::EndlessLine`] sends at a time, and how often: enough to fill any buffer, not enough to fill this machine.
static ENDLESS_CHUNK: [u8; 16 * 1024] = [b'x'; 16 * 1024];
const ENDLESS_PAUSE: Duration = Duration::from_millis(10);
/// How long the rest of what a client sends is read after we closed our side, so that it sees FIN and not RST.
const LINGER: Duration = Duration::from_secs(1);
/// A session that hangs ends at last, whatever the client does.
const MAX_HANG: Duration = Duration::from_mins(30);

/// The session is over.
#[derive(Debug)]
pub(super) struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// A line a client sent.
pub(super) enum Line {
    /// Without its CRLF.
    Complete(Vec<u8>),
    /// It was longer than allowed, and is skipped.
    TooLong,
    /// Nothing more comes.
    Eof,
    /// Nothing came in time.
    Idle,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Handed to a handshake that did not succeed.
    Gone,
}

pub(super) struct Wire {
    stream: Stream,
    input: Vec<u8>,
    idle: Duration,
}

impl Wire {
    /// Nothing waits longer than `idle`.
    pub fn new(stream: TcpStream, idle: Duration) -> Self {
        // Each write is on the wire at once, or [`Action::Slow`] would not be.
        let _ = stream.set_nodelay(true);
        Self { stream: Stream::Plain(stream), input: Vec::new(), idle }
    }

    pub fn is_encrypted(&self) -> bool {
        match self.stream {
            Stream::Tls(_) => true,
            Stream::Plain(_) | Stream::Gone => false,
        }
    }

    /// The next line that ends with CRLF; a bare LF is content (or else messages could be smuggled).
    pub async fn line(&mut self, max: usize) -> io::Result<Line> {
        let mut searched = 0;
        let mut too_long = false;
        loop {
            if let Some(at) = self.input[searched..].windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.input.drain(..searched + at + 2).collect();
                line.truncate(line.len() - 2);
                return Ok(if too_long || line.len() > max { Line::TooLong } else { Line::Complete(line) });
            }
            if self.input.len() > max + 1 {
                too_long = true;
                self.input.drain(..self.input.len() - 1);
            }
            searched = self.input.len().saturating_sub(1);
            match timeout(self.idle, self.read()).await {
                Err(_) => return Ok(Line::Idle),
                Ok(Ok(0)) => return Ok(Line::Eof),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// More input; 0 when nothing more comes.
    async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_AHEAD);
        match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.input).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.input).await,
            Stream::Gone => Ok(0),
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = async {
            match &mut self.stream {
                Stream::Plain(stream) => stream.write_all(bytes).await,
                Stream::Tls(stream) => {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                }
                Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        timeout(self.idle, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// A TLS handshake; what was sent ahead of it in the clear is forgotten (RFC 3207 section 6).
    pub async fn handshake(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        self.input.clear();
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let accepted = timeout(self.idle, TlsAcceptor::from(config).accept(stream)).await;
        let stream = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    /// Does something else than to reply with `usual`, or that in an unusual way. True if it was the usual reply.
    pub async fn act(&mut self, action: &Action, usual: &[u8]) -> Result<bool, Ended> {
        match action {
            Action::Reset => {
                self.reset();
                Err(Ended)
            }
            Action::Close => Err(self.close().await),
            Action::Hang => Err(self.hang().await),
            Action::Slow(interval) => {
                for byte in usual {
                    sleep(*interval).await;
                    self.write(&[*byte]).await?;
                }
                Ok(true)
            }
            Action::Reply(code, text) => {
                self.write(format!("{code} {text}\r\n").as_bytes()).await?;
                if *code == 421 { Err(self.close().await) } else { Ok(false) }
            }
            Action::Garbage => {
                self.write(b"\x00\xff\xfe\x80garbage\x07\x1b[2J\xc3\x28\r\n").await?;
                Ok(false)
            }
            Action::EndlessLine => {
                self.write(&[code(usual), b" "].concat()).await?;
                let endless = async {
                    loop {
                        self.write(&ENDLESS_CHUNK).await?;
                        sleep(ENDLESS_PAUSE).await;
                    }
                };
                let ended: Result<io::Result<()>, _> = timeout(MAX_HANG, endless).await;
                drop(ended);
                Err(Ended)
            }
            Action::Huge(size) => {
                let line = [code(usual), b"-", &[b'x'; 72], b"\r\n"].concat();
                let mut bytes = line.repeat(size.div_ceil(line.len()));
                bytes.extend_from_slice(usual);
                self.write(&bytes).await?;
                Ok(true)
            }
        }
    }

    /// RST, in place of whatever was left to say.
    pub fn reset(&mut self) {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Gone => return,
        };
        let _ = stream.set_zero_linger();
        self.stream = Stream::Gone;
    }

    /// FIN, and nothing else: what the client still sends is read, or the kernel would answer it with RST.
    pub async fn close(&mut self) -> Ended {
        let _ = match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown().await,
            Stream::Tls(stream) => stream.shutdown().await,
            Stream::Gone => Ok(()),
        };
        let _ = timeout(LINGER, self.drain()).await;
        Ended
    }

    /// Nothing, until the client gives up.
    pub async fn hang(&mut self) -> Ended {
        let _ = timeout(MAX_HANG, self.drain()).await;
        Ended
    }

    async fn drain(&mut self) {
        self.input.clear();
        while let Ok(1..) = self.read().await {
            self.input.clear();
        }
    }
}

/// The code of a reply.
fn code(reply: &[u8]) -> &[u8] {
    reply.get(..3).unwrap_or(b"220")
}
