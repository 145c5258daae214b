//! Tests of the name server with a resolver of their own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use mail_failover_e2e::mail::dns::DnsServer;

use crate::{V4, V6};

fn resolver(server: SocketAddr) -> TokioResolver {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let name_server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    let config = ResolverConfig::from_parts(None, vec![], vec![name_server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().timeout = Duration::from_millis(300);
    builder.options_mut().attempts = 1;
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    builder.build().expect("a resolver")
}

fn addresses(lookup: &Lookup) -> BTreeSet<IpAddr> {
    lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// The addresses of a name, or the error.
async fn lookup(resolver: &TokioResolver, name: &str) -> Result<BTreeSet<IpAddr>, NetError> {
    match (resolver.ipv4_lookup(name).await, resolver.ipv6_lookup(name).await) {
        (Err(error), Err(_)) => Err(error),
        (v4, v6) => Ok(v4.iter().chain(v6.iter()).flat_map(addresses).collect()),
    }
}

fn ips(text: &[&str]) -> Vec<IpAddr> {
    text.iter().map(|ip| ip.parse().expect("an address")).collect()
}

#[tokio::test]
async fn a_name_has_the_addresses_it_was_given_as_long_as_it_has_them() {
    for address in [V4, V6] {
        let server = DnsServer::start(address).await.expect("a server");
        server.set_ttl(Duration::ZERO);
        let resolver = resolver(server.address());
        for addresses in [ips(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]), ips(&["192.0.2.3"]), ips(&["2001:db8::2"])] {
            server.set("Relay.Test", addresses.clone()).expect("a name");
            let found = lookup(&resolver, "relay.test.").await.expect("addresses");
            assert_eq!(found, addresses.into_iter().collect());
        }
        assert!(server.queries("relay.test").expect("a name") >= 6);
        assert_eq!(server.queries("other.test").expect("a name"), 0);
    }
}

#[tokio::test]
async fn a_name_can_be_unknown_failing_or_empty() {
    let server = DnsServer::start(V4).await.expect("a server");
    server.set_ttl(Duration::ZERO);
    let resolver = resolver(server.address());
    let no_such_name = lookup(&resolver, "never.set.").await.expect_err("no such name");
    server.set("relay.test", vec![]).expect("a name");
    let empty = lookup(&resolver, "relay.test.").await.expect_err("no address");
    server.set_servfail("relay.test").expect("a name");
    let failure = lookup(&resolver, "relay.test.").await.expect_err("a failure");
    server.set_nxdomain("relay.test").expect("a name");
    let gone = lookup(&resolver, "relay.test.").await.expect_err("no such name");
    assert!(no_such_name.is_nx_domain() && gone.is_nx_domain(), "{no_such_name:?}, {gone:?}");
    assert!(empty.is_no_records_found() && !empty.is_nx_domain(), "{empty:?}");
    assert!(!failure.is_no_records_found() && failure.to_string().contains("Server Failure"), "{failure:?}");
    server.set("relay.test", ips(&["192.0.2.1"])).expect("a name");
    assert!(lookup(&resolver, "relay.test.").await.is_ok());
}

#[tokio::test]
async fn a_silent_server_is_asked_and_does_not_answer() {
    let server = DnsServer::start(V4).await.expect("a server");
    server.set("relay.test", ips(&["192.0.2.1"])).expect("a name");
    server.set_silent(true);
    let resolver = resolver(server.address());
    let error = resolver.lookup_ip("relay.test.").await.map_err(|error| error.to_string()).expect_err("no answer");
    assert!(error.contains("timed out"), "{error}");
    assert!(server.queries("relay.test").expect("a name") > 0);
    server.set_silent(false);
    assert!(resolver.lookup_ip("relay.test.").await.is_ok());
}

#[tokio::test]
async fn an_answer_may_be_remembered_for_its_ttl() {
    let server = DnsServer::start(V4).await.expect("a server");
    server.set_ttl(Duration::from_mins(1));
    server.set("relay.test", ips(&["192.0.2.1"])).expect("a name");
    let resolver = resolver(server.address());
    let first = resolver.ipv4_lookup("relay.test.").await.expect("an address");
    assert_eq!(first.answers().iter().map(|record| record.ttl).collect::<Vec<_>>(), [60]);
    server.set("relay.test", ips(&["192.0.2.2"])).expect("a name");
    let second = resolver.ipv4_lookup("relay.test.").await.expect("an address");
    assert_eq!(second.answers()[0].data.ip_addr(), Some(ips(&["192.0.2.1"])[0]));
    assert_eq!(server.queries("relay.test").expect("a name"), 1);
}

#[tokio::test]
async fn more_addresses_than_a_datagram_holds_come_over_tcp() {
    let server = DnsServer::start(V4).await.expect("a server");
    let many: Vec<_> = (0..200).map(|n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))).collect();
    server.set("relay.test", many.clone()).expect("a name");
    let resolver = resolver(server.address());
    let found = resolver.ipv4_lookup("relay.test.").await.expect("addresses");
    let found: BTreeSet<_> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
    assert_eq!(found, many.into_iter().collect());
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let server = DnsServer::start(V4).await.expect("a server");
    assert!(server.set(&"x".repeat(64), vec![]).is_err());
}
