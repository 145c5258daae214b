//! A DNS server with answers that a test sets, over UDP and TCP, for resolvers that are told to ask
//! it.
//!
//! It answers from memory, for every name, and never asks another server.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::SOA;
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::{Context, Error, Result, lock};

/// The number of tries with another port if the one that is free for UDP is taken for TCP.
const PORT_ATTEMPTS: usize = 16;
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
const TCP_BUFFER: usize = 64;
const DEFAULT_TTL: Duration = Duration::from_secs(1);

/// A running server. It stops when dropped.
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    server: Server<Handler>,
}

impl DnsServer {
    /// Starts a server that answers NXDOMAIN to everything. It listens when this returns. Port 0
    /// means any port.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        let (udp, tcp) = bind(address).await.context(|| format!("binding {address} for DNS"))?;
        let address = udp.local_addr().context(|| format!("binding {address} for DNS"))?;
        let zone = Arc::new(Mutex::new(Zone::default()));
        let mut server = Server::new(Handler { zone: zone.clone() });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_TIMEOUT, TCP_BUFFER);
        Ok(Self { address, zone, server })
    }

    /// The address at which it listens, with UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives `name` these addresses. With none, the name exists without addresses.
    pub fn set(&self, name: &str, addresses: Vec<IpAddr>) -> Result<()> {
        self.answer(name, DnsAnswer::Addresses(addresses))
    }

    /// Makes `name` not exist, like any name that was never set.
    pub fn set_nxdomain(&self, name: &str) -> Result<()> {
        self.answer(name, DnsAnswer::NoSuchName)
    }

    /// Makes the server answer SERVFAIL for `name`.
    pub fn set_servfail(&self, name: &str) -> Result<()> {
        self.answer(name, DnsAnswer::Failure)
    }

    /// Makes the server ignore all questions, or answer again.
    pub fn set_silent(&self, silent: bool) {
        lock(&self.zone).silent = silent;
    }

    /// Sets the time to live of later answers, negative ones too. It is a second at first.
    pub fn set_ttl(&self, ttl: Duration) {
        lock(&self.zone).ttl = ttl;
    }

    /// The number of questions about `name` so far, answered or not.
    pub fn queries(&self, name: &str) -> Result<u64> {
        Ok(lock(&self.zone).queries.get(&lower(name)?).copied().unwrap_or(0))
    }

    fn answer(&self, name: &str, answer: DnsAnswer) -> Result<()> {
        lock(&self.zone).answers.insert(lower(name)?, answer);
        Ok(())
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.server.shutdown_token().cancel();
    }
}

/// A name fully qualified and in lower case, as DNS compares names.
fn lower(name: &str) -> Result<LowerName> {
    let mut parsed = Name::from_str(name).map_err(|error| Error::Name(format!("{name}: {error}")))?;
    parsed.set_fqdn(true);
    Ok(LowerName::from(&parsed))
}

async fn bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(_) if address.port() == 0 && attempt < PORT_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

struct Zone {
    answers: HashMap<LowerName, DnsAnswer>,
    queries: HashMap<LowerName, u64>,
    ttl: Duration,
    silent: bool,
}

impl Default for Zone {
    fn default() -> Self {
        Self { answers: HashMap::new(), queries: HashMap::new(), ttl: DEFAULT_TTL, silent: false }
    }
}

#[derive(Clone)]
enum DnsAnswer {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    Failure,
}

struct Handler {
    zone: Arc<Mutex<Zone>>,
}

/// A response without the parts that hickory adds.
struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    soa: Vec<Record>,
}

impl Zone {
    /// The reply to a question; `None` if the server is silent.
    fn reply(&mut self, name: &LowerName, record_type: RecordType) -> Option<Reply> {
        *self.queries.entry(name.clone()).or_default() += 1;
        if self.silent {
            return None;
        }
        let ttl = u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX);
        let mut reply = Reply { code: ResponseCode::NoError, answers: vec![], soa: vec![] };
        match self.answers.get(name).unwrap_or(&DnsAnswer::NoSuchName) {
            DnsAnswer::Addresses(addresses) => {
                let data = addresses.iter().map(|address| match address {
                    IpAddr::V4(v4) => RData::A((*v4).into()),
                    IpAddr::V6(v6) => RData::AAAA((*v6).into()),
                });
                let data = data.filter(|data| record_type == RecordType::ANY || record_type == data.record_type());
                reply.answers = data.map(|data| Record::from_rdata(name.into(), ttl, data)).collect();
            }
            DnsAnswer::NoSuchName => reply.code = ResponseCode::NXDomain,
            DnsAnswer::Failure => reply.code = ResponseCode::ServFail,
        }
        if reply.answers.is_empty() && reply.code != ResponseCode::ServFail {
            // The time to live of a negative answer (RFC 2308 section 3).
            let seconds = i32::try_from(ttl).unwrap_or(i32::MAX);
            let soa = SOA::new(Name::root(), Name::root(), 1, seconds, seconds, seconds, ttl);
            reply.soa = vec![Record::from_rdata(Name::root(), ttl, RData::SOA(soa))];
        }
        Some(reply)
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let reply = match request.request_info() {
            Ok(info) => lock(&self.zone).reply(info.query.name(), info.query.query_type()),
            Err(_) => Some(Reply { code: ResponseCode::FormErr, answers: vec![], soa: vec![] }),
        };
        if let Some(reply) = reply {
            metadata.response_code = reply.code;
            let edns = request.edns.as_ref().map(|asked| {
                let mut edns = Edns::new();
                edns.set_max_payload(asked.max_payload().max(512)).set_version(0);
                edns
            });
            let mut builder = MessageResponseBuilder::from_message_request(request);
            if let Some(edns) = &edns {
                builder.edns(edns);
            }
            let response = builder.build(metadata, &reply.answers, [], &reply.soa, []);
            if let Err(error) = handle.send_response(response).await {
                tracing::debug!(%error, "answering a DNS question");
            }
        }
        ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
    }
}
