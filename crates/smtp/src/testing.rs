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
    /// Do nothing for so long.
    Pause(Duration),
    /// Read a TLS client hello. Choose this version and cipher suite if it offers them, else send an alert and close.
    OldTls { version: u16, suite: u16 },
    /// Read a TLS client hello, send an alert and close.
    Alert(u8),
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

pub use ServerStep::{Alert, Drip, Hang, Hear, OldTls, Pause, Reset, Tls};

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
            ServerStep::Say(_) | Drip(..) | Hear(_) | Pause(_) | OldTls { .. } | Alert(_) | Hang => {
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
        Pause(pause) => {
            tokio::time::sleep(*pause).await;
            true
        }
        OldTls { version, suite } => {
            let Some(hello) = client_hello(stream).await else { return false };
            let answer = answer_of_old_tls(&hello, *version, *suite);
            stream.write_all(&answer).await.is_ok()
        }
        Alert(alert) => client_hello(stream).await.is_some() && stream.write_all(&alert_record(*alert)).await.is_ok(),
        Hang => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            false
        }
        Reset | Tls(_) => false,
    }
}

/// The content of a client hello's record.
async fn client_hello<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await.ok()?;
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut hello).await.ok()?;
    Some(hello)
}

fn alert_record(alert: u8) -> Vec<u8> {
    vec![21, 3, 1, 0, 2, 2, alert]
}

fn answer_of_old_tls(hello: &[u8], version: u16, suite: u16) -> Vec<u8> {
    // type, length, version, random; then session id, suites, compression, extensions (RFC 8446 §4.1.2)
    let session = usize::from(hello[38]);
    let rest = &hello[39 + session..];
    let (suites, rest) = rest[2..].split_at(usize::from(u16::from_be_bytes([rest[0], rest[1]])));
    let mut extensions = &rest[3 + usize::from(rest[0])..];
    let mut is_version_offered = false;
    while extensions.len() >= 4 {
        let (kind, length) = (&extensions[..2], usize::from(u16::from_be_bytes([extensions[2], extensions[3]])));
        let value = &extensions[4..4 + length];
        is_version_offered |= kind == [0, 43] && value[1..].chunks(2).any(|offered| offered == version.to_be_bytes());
        extensions = &extensions[4 + length..];
    }
    if !is_version_offered {
        return alert_record(70);
    }
    if !suites.chunks(2).any(|offered| offered == suite.to_be_bytes()) {
        return alert_record(40);
    }
    let body = [&version.to_be_bytes()[..], &[7; 32], &[0], &suite.to_be_bytes(), &[0]].concat();
    let message = [&[2, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    [&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()][..], &message].concat()
}

/// A private certificate authority.
pub struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: Arc<[u8]>,
    /// Certificates that a server presents: the authority's own and those above it.
    chain: Vec<CertificateDer<'static>>,
    name: String,
}

/// A day as year, month and day.
pub type Day = (i32, u8, u8);

/// Parameters of a certificate for this name, valid from and until these days.
pub fn server_params(name: &str, from: Day, until: Day) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    params
}

/// Parameters of a certificate that has this name as its common name only.
pub fn common_name_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Parameters of an authority's certificate.
pub fn authority_params(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Parameters of the certificate of an authority with this name, valid from and until these days.
fn issuer_params(name: &str, from: Day, until: Day) -> CertificateParams {
    let mut params = authority_params(common_name_params(name));
    params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    params
}

/// Configuration of a server whose certificate is signed by itself, and that certificate as PEM.
pub fn self_signed(params: &CertificateParams) -> (Arc<ServerConfig>, Arc<[u8]>) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (server_config(vec![certificate.der().clone()], &key), certificate.pem().into_bytes().into())
}

fn server_config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

impl TestAuthority {
    pub fn new(name: &str) -> Self {
        let params = authority_params(common_name_params(name));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes().into();
        Self { issuer: Issuer::new(params, key), pem, chain: vec![], name: name.to_owned() }
    }

    /// An authority that this one has signed, valid from and until these days.
    pub fn intermediate(&self, name: &str, from: Day, until: Day) -> Self {
        let params = issuer_params(name, from, until);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pem = certificate.pem().into_bytes().into();
        let chain = [vec![certificate.der().clone()], self.chain.clone()].concat();
        Self { issuer: Issuer::new(params, key), pem, chain, name: name.to_owned() }
    }

    /// This authority, whose servers also present the certificate that another one has issued for
    /// the same name and key, valid from and until these days.
    pub fn cross_signed(mut self, by: &Self, from: Day, until: Day) -> Self {
        let params = issuer_params(&self.name, from, until);
        let certificate = params.signed_by(self.issuer.key(), &by.issuer).unwrap();
        self.chain.insert(0, certificate.der().clone());
        self
    }

    /// The same authority, whose servers present their own certificate alone.
    pub fn presenting_none(self) -> Self {
        Self { chain: vec![], ..self }
    }

    /// Configuration of a server whose certificate is for this name, valid from and until these days.
    pub fn server(&self, name: &str, from: Day, until: Day) -> Arc<ServerConfig> {
        self.server_of(&server_params(name, from, until))
    }

    /// Configuration of a server with a certificate of these parameters.
    pub fn server_of(&self, params: &CertificateParams) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        server_config([vec![own], self.chain.clone()].concat(), &key)
    }
}
