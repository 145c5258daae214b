//! An application that sends one message over a connection of its own, and says what it was told.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Patience of applications.
const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// A connection that speaks SMTP.
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.expect("sent");
    }

    /// The next reply, its lines joined by `\n`. Empty if the connection is closed.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read = timeout(WAIT_TIMEOUT, self.reader.read_line(&mut line)).await.expect("in time");
            if read.is_ok_and(|octets| octets == 0) || line.is_empty() {
                return reply;
            }
            reply.push_str(line.trim_end());
            if line.as_bytes().get(3) == Some(&b' ') {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// Sends a command and returns the reply.
    pub async fn command(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Greets, and begins a message of this id for these recipients. Returns the first reply that is no acceptance, or
    /// none.
    pub async fn begin(&mut self, recipients: &[&str]) -> Option<String> {
        let mut commands = vec!["MAIL FROM:<app@shop.example>".to_owned()];
        commands.extend(recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>")));
        commands.push("DATA".to_owned());
        for command in commands {
            let reply = self.command(&command).await;
            if !reply.starts_with('2') && !reply.starts_with('3') {
                return Some(reply);
            }
        }
        None
    }

    /// Sends the content of a message with this id, and returns the final reply.
    pub async fn content(&mut self, id: &str, lines: usize) -> String {
        let mut content = format!("X-Message-Id: {id}\r\nSubject: test\r\n\r\n");
        for _ in 0..lines {
            content.push_str("..a line that begins with a dot and is long enough for a message of some size\r\n");
        }
        content.push_str(".\r\n");
        self.send(content.as_bytes()).await;
        self.reply().await
    }
}

/// Sends one message over a connection of its own. Returns the last reply.
pub async fn send(address: SocketAddr, id: &str) -> String {
    let mut client = Client::connect(address).await;
    let greeting = client.reply().await;
    if !greeting.starts_with("220") {
        return greeting;
    }
    client.command("EHLO shop.example").await;
    if let Some(refusal) = client.begin(&["one@example.net", "two@example.net"]).await {
        return refusal;
    }
    let answer = client.content(id, 10).await;
    client.command("QUIT").await;
    answer
}
