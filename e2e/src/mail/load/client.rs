//! A connection that sends message after message, with as few round trips as PIPELINING (RFC 2920) allows.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LoadMessage;

/// The limit of a reply's line, in bytes.
const MAX_LINE: u64 = 4096;
/// The time limit of the answer to QUIT.
const QUIT: Duration = Duration::from_secs(1);

/// A message that was not taken, or that may have been taken without a reply.
#[derive(Debug)]
pub(super) struct LoadFailure {
    /// The server's reply, or the error of the connection.
    pub reason: String,
    /// True if the content was sent and no reply came.
    pub may_have_been_taken: bool,
}

impl LoadFailure {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_have_been_taken: false }
    }
}

/// An open session, after EHLO.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub async fn open(server: SocketAddr) -> Result<Self, LoadFailure> {
        let stream = TcpStream::connect(server).await.map_err(|error| LoadFailure::new(error.to_string()))?;
        // Small writes are sent at once.
        let _ = stream.set_nodelay(true);
        let mut connection = Self(BufReader::new(stream));
        connection.expect("2").await?;
        connection.write("EHLO load.test\r\n").await?;
        connection.expect("2").await?;
        Ok(connection)
    }

    /// Sends a message, and returns the reply to the final dot if it is 2yz. `taking` is set while
    /// the server has the content and has not replied.
    pub async fn send(&mut self, from: &str, message: &LoadMessage, taking: &mut bool) -> Result<String, LoadFailure> {
        let mut commands = format!("MAIL FROM:<{from}>\r\n");
        for recipient in &message.recipients {
            // Writing to a String cannot fail.
            let _ = write!(commands, "RCPT TO:<{recipient}>\r\n");
        }
        commands.push_str("DATA\r\n");
        self.write(&commands).await?;
        for _ in 0..=message.recipients.len() {
            self.expect("2").await?;
        }
        self.expect("3").await?;
        self.write(&message.content).await?;
        *taking = true;
        self.write(".\r\n").await.map_err(unknown)?;
        let (reply, is_expected) = self.reply("2").await.map_err(unknown)?;
        *taking = false;
        if is_expected { Ok(reply) } else { Err(LoadFailure::new(reply)) }
    }

    pub async fn quit(mut self) {
        // All messages are taken, so errors no longer matter.
        let _ = timeout(QUIT, async {
            self.write("QUIT\r\n").await?;
            self.expect("2").await
        })
        .await;
    }

    async fn write(&mut self, text: &str) -> Result<(), LoadFailure> {
        self.0.get_mut().write_all(text.as_bytes()).await.map_err(|error| LoadFailure::new(error.to_string()))
    }

    async fn expect(&mut self, class: &str) -> Result<(), LoadFailure> {
        let (reply, is_expected) = self.reply(class).await?;
        if is_expected { Ok(()) } else { Err(LoadFailure::new(reply)) }
    }

    /// The last line of a reply (RFC 5321 section 4.2.1), and true if it is of this class.
    async fn reply(&mut self, class: &str) -> Result<(String, bool), LoadFailure> {
        loop {
            let mut line = String::new();
            let read = (&mut self.0).take(MAX_LINE).read_line(&mut line).await;
            match read {
                Ok(0) => return Err(LoadFailure::new("the connection was closed")),
                Ok(_) if line.as_bytes().get(3) == Some(&b'-') => {}
                Ok(_) => {
                    let is_expected = line.starts_with(class);
                    return Ok((line.trim_end().to_owned(), is_expected));
                }
                Err(error) => return Err(LoadFailure::new(error.to_string())),
            }
        }
    }
}

fn unknown(failure: LoadFailure) -> LoadFailure {
    LoadFailure { may_have_been_taken: true, ..failure }
}
