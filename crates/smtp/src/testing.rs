//! Scripted servers on loopback for the prober's tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A step of a script.
#[derive(Clone)]
pub enum ServerStep {
    /// Send these bytes at once.
    Say(Vec<u8>),
    /// Send these bytes one at a time, so long apart.
    Drip(Vec<u8>, Duration),
    /// Read a line that must start like this.
    Hear(&'static str),
    /// Do nothing for longer than any test waits.
    Hang,
    /// Close with a reset.
    Reset,
    /// Complete a TLS handshake.
    Tls(Arc<ServerConfig>),
}

pub fn say(text: impl AsRef<[u8]>) -> ServerStep {
    ServerStep::Say(text.as_ref().to_vec())
}

pub use ServerStep::{Drip, Hang, Hear, Reset, Tls};

/// Starts a server that runs the script for every connection. Returns its address.
pub async fn server(steps: Vec<ServerStep>) -> SocketAddr {
    server_at(Ipv4Addr::LOCALHOST.into(), steps).await
}

pub async fn server_at(ip: IpAddr, steps: Vec<ServerStep>) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, steps.clone()));
        }
    });
    address
}

/// An address on which nothing listens.
pub async fn refusing() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

async fn play(mut stream: TcpStream, steps: Vec<ServerStep>) {
    for (at, step) in steps.iter().enumerate() {
        match step {
            Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Tls(config) => {
                let rest = steps[at + 1..].to_vec();
                if let Ok(mut stream) = TlsAcceptor::from(config.clone()).accept(stream).await {
                    for step in &rest {
                        if !act(&mut stream, step).await {
                            return;
                        }
                    }
                    let _ = stream.shutdown().await;
                }
                return;
            }
            ServerStep::Say(_) | Drip(..) | Hear(_) | Hang => {
                if !act(&mut stream, step).await {
                    return;
                }
            }
        }
    }
}

async fn act<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, step: &ServerStep) -> bool {
    match step {
        ServerStep::Say(bytes) => stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok(),
        Drip(bytes, pause) => {
            for byte in bytes {
                if stream.write_all(&[*byte]).await.is_err() {
                    return false;
                }
                tokio::time::sleep(*pause).await;
            }
            true
        }
        Hear(start) => {
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                match stream.read_u8().await {
                    Ok(byte) => line.push(byte),
                    Err(_) => return false,
                }
            }
            line.starts_with(start.as_bytes())
        }
        Hang => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            false
        }
        Reset | Tls(_) => false,
    }
}

/// A private certificate authority.
pub struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: Arc<[u8]>,
}

impl TestAuthority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes().into();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Configuration of a server whose certificate is for this name, valid from and until these days.
    pub fn server(&self, name: &str, from: (i32, u8, u8), until: (i32, u8, u8)) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = KeyPair::generate().unwrap();
        let certificate: CertificateDer<'static> = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
    }
}
