//! One attempt to send one message: the client's side of RFC 5321, as an application's library speaks it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// The limit of a reply, in bytes.
const MAX_REPLY: usize = 64 * 1024;
/// The time limit of the answer to QUIT; an application does not wait long for it.
const QUIT_TIMEOUT: Duration = Duration::from_millis(200);

/// The step that an attempt waited for when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Connect,
    Banner,
    Ehlo,
    /// STARTTLS and the handshake.
    StartTls,
    Mail,
    Rcpt,
    Data,
    /// The reply to the final dot.
    EndOfData,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::EndOfData => "end of data",
        })
    }
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server took responsibility for the message.
    Accepted {
        /// The server's reply.
        reply: String,
    },
    /// A server refused.
    Refused {
        /// The refused step.
        step: Step,
        /// The server's reply.
        reply: String,
    },
    /// No complete reply came in time.
    Unanswered {
        /// The unanswered step.
        step: Step,
    },
    /// The connection could not be made, or broke, or the bytes were no SMTP.
    Broken {
        /// The step that failed.
        step: Step,
        error: String,
    },
    /// The Service has no ready endpoint: kube-proxy refuses the connection.
    NoEndpoint,
}

impl Outcome {
    /// Returns true if a server took responsibility for the message.
    pub fn is_accepted(&self) -> bool {
        match self {
            Self::Accepted { .. } => true,
            Self::Refused { .. } | Self::Unanswered { .. } | Self::Broken { .. } | Self::NoEndpoint => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { reply } => write!(f, "accepted: {reply}"),
            Self::Refused { step, reply } => write!(f, "refused at {step}: {reply}"),
            Self::Unanswered { step } => write!(f, "no answer at {step}"),
            Self::Broken { step, error } => write!(f, "{step}: {error}"),
            Self::NoEndpoint => f.write_str("no endpoint"),
        }
    }
}

/// Settings of a client that requires STARTTLS and verifies the server.
#[derive(Clone)]
pub struct ClientTls {
    /// The client's configuration, with the authorities that it trusts.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate must contain.
    pub server_name: ServerName<'static>,
}

/// A message, and the limits of an attempt.
pub(super) struct Message<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub content: &'a str,
    pub tls: Option<&'a ClientTls>,
    pub connect_timeout: Duration,
    pub timeout: Duration,
}

/// A connection that has accepted a message, and that is still to be ended with QUIT.
pub(super) struct PendingQuit(Box<dyn Stream>);

impl PendingQuit {
    pub async fn say(mut self) {
        let quit = async {
            self.0.write_all(b"QUIT\r\n").await?;
            self.0.flush().await?;
            self.0.read(&mut [0; 512]).await
        };
        // The message is accepted, so errors no longer matter.
        let _ = timeout(QUIT_TIMEOUT, quit).await;
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes one attempt, which never takes longer than the message's timeout.
pub(super) async fn send(message: &Message<'_>, server: SocketAddr) -> (Outcome, Option<PendingQuit>) {
    let deadline = Instant::now() + message.timeout;
    let mut step = Step::Connect;
    let connect = timeout_at(deadline.min(Instant::now() + message.connect_timeout), TcpStream::connect(server));
    let stream = match connect.await {
        Err(_) => return (Outcome::Unanswered { step }, None),
        Ok(Err(error)) => return (Outcome::Broken { step, error: error.to_string() }, None),
        Ok(Ok(stream)) => stream,
    };
    let _ = stream.set_nodelay(true);
    let mut client = Client { stream: Box::new(stream), input: vec![] };
    match timeout_at(deadline, client.dialogue(message, &mut step)).await {
        Err(_) => (Outcome::Unanswered { step }, None),
        Ok(Ok(reply)) => (Outcome::Accepted { reply }, Some(PendingQuit(client.stream))),
        Ok(Err(Failure::Refused(reply))) => (Outcome::Refused { step, reply }, None),
        Ok(Err(Failure::Broken(error))) => (Outcome::Broken { step, error: error.to_string() }, None),
    }
}

enum Failure {
    Refused(String),
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

struct Client {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
}

impl Client {
    async fn dialogue(&mut self, message: &Message<'_>, step: &mut Step) -> Result<String, Failure> {
        *step = Step::Banner;
        self.expect(b'2').await?;
        *step = Step::Ehlo;
        self.command("EHLO sender.test\r\n", b'2').await?;
        if let Some(tls) = message.tls {
            *step = Step::StartTls;
            self.command("STARTTLS\r\n", b'2').await?;
            self.input.clear();
            let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
            let secured = TlsConnector::from(tls.config.clone()).connect(tls.server_name.clone(), plain).await?;
            self.stream = Box::new(secured);
            *step = Step::Ehlo;
            self.command("EHLO sender.test\r\n", b'2').await?;
        }
        *step = Step::Mail;
        self.command(&format!("MAIL FROM:<{}>\r\n", message.from), b'2').await?;
        *step = Step::Rcpt;
        self.command(&format!("RCPT TO:<{}>\r\n", message.to), b'2').await?;
        *step = Step::Data;
        self.command("DATA\r\n", b'3').await?;
        *step = Step::EndOfData;
        self.command(&format!("{}.\r\n", stuffed(message.content)), b'2').await
    }

    async fn command(&mut self, command: &str, class: u8) -> Result<String, Failure> {
        self.stream.write_all(command.as_bytes()).await?;
        self.stream.flush().await?;
        self.expect(class).await
    }

    /// Waits for a reply of this class (RFC 5321 section 4.2.1), and returns its last line.
    async fn expect(&mut self, class: u8) -> Result<String, Failure> {
        let mut read = 0;
        loop {
            while let Some(at) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..at + 2).collect();
                let line = &line[..at];
                let code = line.get(..3).filter(|code| code.iter().all(u8::is_ascii_digit));
                let Some((code, separator)) = code.zip(line.get(3).or(Some(&b' '))) else {
                    return Err(invalid("not an SMTP reply").into());
                };
                match separator {
                    b'-' => {}
                    b' ' if code[0] == class => return Ok(String::from_utf8_lossy(line).into_owned()),
                    b' ' => return Err(Failure::Refused(String::from_utf8_lossy(line).into_owned())),
                    _ => return Err(invalid("not an SMTP reply").into()),
                }
            }
            if read > MAX_REPLY {
                return Err(invalid("reply too long").into());
            }
            let mut chunk = [0; 4096];
            let n = self.stream.read(&mut chunk).await?;
            if n == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed").into());
            }
            read += n;
            self.input.extend_from_slice(&chunk[..n]);
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The content with dots stuffed (RFC 5321 section 4.5.2).
fn stuffed(content: &str) -> String {
    content
        .split_inclusive("\r\n")
        .map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() })
        .collect()
}
