//! The bytes of a session: lines in, replies out, and the ways of not replying.

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

/// The limit of a command's line in bytes: more than RFC 5321's 512, for extensions (section
/// 4.5.3.1.4).
pub(super) const MAX_COMMAND: usize = 4096;
const READ_AHEAD: usize = 8192;
/// The bytes that an [`Action::EndlessLine`] sends at a time. With the pause it is enough to fill
/// any buffer, and not enough to fill this machine.
static ENDLESS_CHUNK: [u8; 16 * 1024] = [b'x'; 16 * 1024];
const ENDLESS_PAUSE: Duration = Duration::from_millis(10);
/// The time during which a client's remaining input is read after the server closed its side, so
/// that the client sees FIN and not RST.
const LINGER: Duration = Duration::from_secs(1);
/// The time after which a session that hangs ends, whatever the client does.
const MAX_HANG: Duration = Duration::from_mins(30);

/// The session is over.
#[derive(Debug)]
pub(super) struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// A line of input from a client.
pub(super) enum InputLine {
    /// The line without its CRLF.
    Complete(Vec<u8>),
    /// A line longer than allowed, which was skipped.
    TooLong,
    /// The end of the input.
    Eof,
    /// No line within the time limit.
    Idle,
}

enum WireStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The stream was consumed by a handshake that failed.
    Gone,
}

pub(super) struct Wire {
    stream: WireStream,
    input: Vec<u8>,
    idle: Duration,
}

impl Wire {
    /// A stream that waits for input at most for `idle`.
    pub fn new(stream: TcpStream, idle: Duration) -> Self {
        // Each write is sent at once; otherwise [`Action::Slow`] would not be slow.
        let _ = stream.set_nodelay(true);
        Self { stream: WireStream::Plain(stream), input: Vec::new(), idle }
    }

    pub fn is_encrypted(&self) -> bool {
        match self.stream {
            WireStream::Tls(_) => true,
            WireStream::Plain(_) | WireStream::Gone => false,
        }
    }

    /// The next line that ends with CRLF. A bare LF is content (otherwise messages could be
    /// smuggled).
    pub async fn line(&mut self, max: usize) -> io::Result<InputLine> {
        let mut searched = 0;
        let mut too_long = false;
        loop {
            if let Some(at) = self.input[searched..].windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.input.drain(..searched + at + 2).collect();
                line.truncate(line.len() - 2);
                return Ok(if too_long || line.len() > max { InputLine::TooLong } else { InputLine::Complete(line) });
            }
            if self.input.len() > max + 1 {
                too_long = true;
                self.input.drain(..self.input.len() - 1);
            }
            searched = self.input.len().saturating_sub(1);
            match timeout(self.idle, self.read()).await {
                Err(_) => return Ok(InputLine::Idle),
                Ok(Ok(0)) => return Ok(InputLine::Eof),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// Reads more input; returns 0 at its end.
    async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_AHEAD);
        match &mut self.stream {
            WireStream::Plain(stream) => stream.read_buf(&mut self.input).await,
            WireStream::Tls(stream) => stream.read_buf(&mut self.input).await,
            WireStream::Gone => Ok(0),
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = async {
            match &mut self.stream {
                WireStream::Plain(stream) => stream.write_all(bytes).await,
                WireStream::Tls(stream) => {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                }
                WireStream::Gone => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        timeout(self.idle, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Performs a TLS handshake. Input sent ahead of it in the clear is discarded (RFC 3207 section
    /// 6).
    pub async fn handshake(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        self.input.clear();
        let WireStream::Plain(stream) = std::mem::replace(&mut self.stream, WireStream::Gone) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let accepted = timeout(self.idle, TlsAcceptor::from(config).accept(stream)).await;
        let stream = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.stream = WireStream::Tls(Box::new(stream));
        Ok(())
    }

    /// Performs an action in place of, or with, the reply `usual`. Returns true if the usual reply
    /// was sent.
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

    /// Resets the connection (RST), in place of further replies.
    pub fn reset(&mut self) {
        let stream = match &self.stream {
            WireStream::Plain(stream) => stream,
            WireStream::Tls(stream) => stream.get_ref().0,
            WireStream::Gone => return,
        };
        let _ = stream.set_zero_linger();
        self.stream = WireStream::Gone;
    }

    /// Closes the connection (FIN). Further input is read, otherwise the kernel would answer it
    /// with RST.
    pub async fn close(&mut self) -> Ended {
        let _ = match &mut self.stream {
            WireStream::Plain(stream) => stream.shutdown().await,
            WireStream::Tls(stream) => stream.shutdown().await,
            WireStream::Gone => Ok(()),
        };
        let _ = timeout(LINGER, self.drain()).await;
        Ended
    }

    /// Says nothing until the client gives up.
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
