//! Tests of the mail fixtures: each fault as seen on the wire with a raw socket, each number of the
//! sender's account compared with what servers stored. All of it on loopback.

mod dialogue;
mod dns;
mod endpoints;
mod faults;
mod raw;
mod sender;
mod tls;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mail_failover_e2e::mail::server::{Options, SmtpServer};

const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

async fn server(name: &str) -> SmtpServer {
    SmtpServer::start(Options::new(name, V4)).await.expect("a server")
}
