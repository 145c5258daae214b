//! A client that knows no SMTP: it sends what it is told, and returns what it sees.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A time limit long enough for anything that comes over loopback.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which the absence of input counts as silence.
const SILENCE: Duration = Duration::from_millis(150);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A line, without its CRLF.
    Line(String),
    /// The connection was closed (FIN).
    Closed,
    /// The connection was reset (RST).
    Reset,
    /// No input, and the connection is open.
    Silence,
}

impl Seen {
    pub fn line(text: &str) -> Self {
        Self::Line(text.to_owned())
    }
}

pub struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
    reads: usize,
}

impl Raw {
    pub async fn connect(server: SocketAddr) -> Self {
        let stream =
            timeout(WAIT_TIMEOUT, TcpStream::connect(server)).await.expect("no timeout").expect("a connection");
        Self { stream, input: vec![], reads: 0 }
    }

    pub async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("somebody to talk to");
    }

    /// The last line of a reply, or what came instead.
    pub async fn reply(&mut self) -> Seen {
        loop {
            match self.see(SILENCE).await {
                Seen::Line(line) if line.as_bytes().get(3) == Some(&b'-') => {}
                seen @ (Seen::Line(_) | Seen::Closed | Seen::Reset | Seen::Silence) => return seen,
            }
        }
    }

    /// The lines of a reply.
    pub async fn lines(&mut self) -> Vec<String> {
        let mut lines = vec![];
        loop {
            let Seen::Line(line) = self.see(WAIT_TIMEOUT).await else { return lines };
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// Sends a command. The reply must have this code.
    pub async fn exchange(&mut self, command: &str, code: &str) {
        self.say(&format!("{command}\r\n")).await;
        let seen = self.reply().await;
        assert!(
            matches!(&seen, Seen::Line(line) if line.starts_with(code)),
            "{command}: {code} expected, {seen:?} seen"
        );
    }

    /// The next line, or what comes instead within `limit`.
    pub async fn see(&mut self, limit: Duration) -> Seen {
        loop {
            if let Some(at) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..at + 2).collect();
                return Seen::Line(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.reads += 1;
            match timeout(limit, self.stream.read_buf(&mut self.input)).await {
                Err(_) => return Seen::Silence,
                Ok(Ok(0)) => return Seen::Closed,
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => return Seen::Reset,
                Ok(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// At least `count` bytes, if they come before silence.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            match timeout(SILENCE, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => break,
            }
        }
        std::mem::take(&mut self.input)
    }

    /// The number of reads.
    pub fn reads(&self) -> usize {
        self.reads
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
