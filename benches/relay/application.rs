//! An application that sends messages one after the other, as a library for mail does: each over a
//! connection of its own, or many over one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mail_failover_e2e::mail::certificates::Authority;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::contenders::{LOGIN, SERVER_NAME};

/// The patience of an application.
const WAIT_TIMEOUT: Duration = Duration::from_secs(40);
/// The size of a message's body.
const BODY: usize = 2000;

/// Settings of an application.
#[derive(Clone)]
pub struct Application {
    /// The server that it knows.
    pub server: SocketAddr,
    /// TLS by STARTTLS, if it wants that.
    pub tls: Option<Arc<ClientConfig>>,
    /// True if it logs in.
    pub logs_in: bool,
    /// The address that it connects from; the kernel's choice without one. IPv4, as the server's is.
    pub from: Option<IpAddr>,
}

/// An open session, after EHLO and a login.
pub struct ApplicationSession {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    input: Vec<u8>,
}

impl Application {
    /// An application that knows this server, without TLS.
    pub fn plain(server: SocketAddr) -> Self {
        Self { server, tls: None, logs_in: false, from: None }
    }

    /// One that uses STARTTLS, without a login.
    ///
    /// # Errors
    /// The authority cannot be used.
    pub fn encrypted(server: SocketAddr, authority: &Authority) -> Result<Self> {
        Ok(Self { tls: Some(authority.client_config()?), ..Self::plain(server) })
    }

    /// Opens a session.
    ///
    /// # Errors
    /// The server refuses, or is silent for longer than an application waits.
    pub async fn open(&self) -> Result<ApplicationSession> {
        timeout(WAIT_TIMEOUT, self.begin()).await.context("no answer")?
    }

    async fn connect(&self) -> Result<TcpStream> {
        let Some(from) = self.from else { return Ok(TcpStream::connect(self.server).await?) };
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        Ok(socket.connect(self.server).await?)
    }

    async fn begin(&self) -> Result<ApplicationSession> {
        let stream = self.connect().await?;
        stream.set_nodelay(true)?;
        let mut session = ApplicationSession { stream: Either::Left(stream), input: vec![] };
        session.expect('2').await?;
        session.command("EHLO app.shop.example", '2').await?;
        let Some(config) = &self.tls else { return Ok(session) };
        session.command("STARTTLS", '2').await?;
        let Either::Left(stream) = session.stream else { bail!("TLS inside TLS") };
        let name = ServerName::try_from(SERVER_NAME)?;
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
        let mut session = ApplicationSession { stream: Either::Right(Box::new(stream)), input: vec![] };
        session.command("EHLO app.shop.example", '2').await?;
        if !self.logs_in {
            return Ok(session);
        }
        let login = BASE64_STANDARD.encode(format!("\0{}\0{}", LOGIN.0, LOGIN.1));
        session.command(&format!("AUTH PLAIN {login}"), '2').await?;
        Ok(session)
    }

    /// Sends one message over a connection of its own. Returns the time until its answer.
    ///
    /// # Errors
    /// The refusal, or the error of the connection.
    pub async fn send_one(&self, id: &str) -> Result<Duration> {
        let begun = Instant::now();
        let mut session = self.open().await?;
        session.send(id).await?;
        let took = begun.elapsed();
        session.quit().await;
        Ok(took)
    }
}

impl ApplicationSession {
    /// Sends a message, and waits for its answer.
    ///
    /// # Errors
    /// The refusal, or the error of the connection.
    pub async fn send(&mut self, id: &str) -> Result<()> {
        timeout(WAIT_TIMEOUT, self.transaction(id)).await.context("no answer")?
    }

    async fn transaction(&mut self, id: &str) -> Result<()> {
        self.command("MAIL FROM:<app@shop.example>", '2').await?;
        self.command("RCPT TO:<customer@mail.example>", '2').await?;
        self.command("DATA", '3').await?;
        let line = "This line is 64 bytes long, with its end, and so are the others.\r\n";
        let body = line.repeat(BODY / line.len());
        let content = format!(
            "From: <app@shop.example>\r\nTo: <customer@mail.example>\r\nSubject: Order\r\nMessage-ID: <{id}@shop.example>\r\n\
             X-Message-Id: {id}\r\n\r\n{body}.\r\n"
        );
        self.write(content.as_bytes()).await?;
        self.expect('2').await
    }

    /// Says QUIT, and waits for its answer.
    pub async fn quit(mut self) {
        // The message is taken, so errors no longer matter.
        let _ = timeout(Duration::from_secs(1), self.command("QUIT", '2')).await;
    }

    async fn command(&mut self, command: &str, class: char) -> Result<()> {
        self.write(format!("{command}\r\n").as_bytes()).await?;
        self.expect(class).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads a reply (RFC 5321 section 4.2.1), which is to be of this class.
    async fn expect(&mut self, class: char) -> Result<()> {
        loop {
            while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                self.input.drain(..end + 2);
                if line.as_bytes().get(3) != Some(&b'-') {
                    ensure!(line.starts_with(class), "{line}");
                    return Ok(());
                }
            }
            let mut bytes = [0; 2048];
            let count = self.stream.read(&mut bytes).await?;
            ensure!(count > 0, "the connection was closed");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }
}
