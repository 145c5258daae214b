use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SOA};
use hickory_resolver::proto::rr::{RData, Record};
use prometheus_client::registry::Registry;
use tokio::net::UdpSocket;

use super::*;
use crate::probe::silence::SILENCE_GRACE;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const OTHER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

/// The answer of a name server to a question.
#[derive(Clone, Debug)]
enum Does {
    Answer(Vec<IpAddr>),
    NxDomain,
    ServFail,
    Silence,
}

type Zone = Arc<Mutex<BTreeMap<(&'static str, RecordType), Does>>>;

/// A name server over UDP; what is not in its zone does not exist. Returns the questions it was asked, too.
async fn name_server(zone: &Zone) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let (zone, log) = (zone.clone(), asked.clone());
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let question = request.queries[0].clone();
            let name = question.name().to_string();
            log.lock().unwrap().push(format!("{name} {}", question.query_type()));
            let does = zone.lock().unwrap().get(&(name.as_str(), question.query_type())).cloned();
            let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
            reply.metadata.recursion_desired = true;
            reply.metadata.recursion_available = true;
            reply.add_query(question.clone());
            let answers = match does.unwrap_or(Does::NxDomain) {
                Does::Silence => continue,
                Does::Answer(answers) => answers,
                Does::NxDomain => {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                    vec![]
                }
                Does::ServFail => {
                    reply.metadata.response_code = ResponseCode::ServFail;
                    vec![]
                }
            };
            if answers.is_empty() && reply.metadata.response_code != ResponseCode::ServFail {
                let root = Name::root();
                let soa = SOA::new(root.clone(), root.clone(), 1, 60, 60, 60, 60);
                reply.add_authority(Record::from_rdata(root, 60, RData::SOA(soa)));
            }
            for answer in answers {
                let data = match answer {
                    IpAddr::V4(address) => RData::A(A(address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(address)),
                };
                reply.add_answer(Record::from_rdata(question.name().clone(), 1, data));
            }
            socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    (address, asked)
}

fn zone(entries: &[(&'static str, RecordType, Does)]) -> Zone {
    Arc::new(Mutex::new(entries.iter().map(|(name, family, does)| ((*name, *family), does.clone())).collect()))
}

fn resolver(server: SocketAddr, search: &[&str], ndots: usize) -> Resolver {
    let mut config = NameServerConfig::udp(server.ip());
    config.connections.iter_mut().for_each(|connection| connection.port = server.port());
    let search = search.iter().map(|name| Name::from_ascii(name).unwrap()).collect();
    let config = ResolverConfig::from_parts(None, search, vec![config]);
    let mut options = ResolverOpts::default();
    options.ndots = ndots;
    Resolver::with_config(config, options, Metrics::new(&mut Registry::default())).unwrap()
}

fn at(addresses: &[IpAddr]) -> Resolution {
    Resolution::Addresses(addresses.iter().map(|address| SocketAddr::new(*address, 25)).collect())
}

async fn look_up(resolver: &Resolver, host: &str, known: &mut KnownAddresses) -> Resolution {
    resolver.resolve(host, 25, known, Duration::from_secs(1)).await
}

#[tokio::test]
async fn both_families_are_asked_and_addresses_come_sorted_without_duplicates() {
    let zone = zone(&[
        ("mx.example.com.", RecordType::A, Does::Answer(vec![OTHER_V4, V4, V4])),
        ("mx.example.com.", RecordType::AAAA, Does::Answer(vec![V6])),
    ]);
    let (server, _) = name_server(&zone).await;
    let resolution = look_up(&resolver(server, &[], 1), "mx.example.com", &mut KnownAddresses::default()).await;
    assert_eq!(resolution, at(&[V4, OTHER_V4, V6]));
}

#[tokio::test]
async fn only_an_authoritative_no_is_negative() {
    let zone = zone(&[
        ("nodata.example.", RecordType::A, Does::Answer(vec![])),
        ("nodata.example.", RecordType::AAAA, Does::Answer(vec![])),
        ("broken.example.", RecordType::A, Does::ServFail),
        ("broken.example.", RecordType::AAAA, Does::ServFail),
        ("half.example.", RecordType::A, Does::Answer(vec![])),
        ("half.example.", RecordType::AAAA, Does::ServFail),
        ("silent.example.", RecordType::A, Does::Silence),
        ("silent.example.", RecordType::AAAA, Does::Silence),
        ("blocked.example.", RecordType::A, Does::Answer(vec![Ipv4Addr::UNSPECIFIED.into()])),
    ]);
    let (server, _) = name_server(&zone).await;
    let resolver = resolver(server, &[], 1);
    let negative = |why: &str| Resolution::Negative(why.to_owned());
    let cases = [
        ("nodata.example", negative("nodata.example. has no address")),
        ("missing.example", negative("missing.example. does not exist")),
        ("blocked.example", negative("blocked.example. has no address")),
        ("two..dots", negative("two..dots is no DNS name")),
    ];
    for (host, resolution) in cases {
        assert_eq!(look_up(&resolver, host, &mut KnownAddresses::default()).await, resolution);
    }
    for host in ["broken.example", "half.example", "silent.example"] {
        let resolution = look_up(&resolver, host, &mut KnownAddresses::default()).await;
        assert!(matches!(resolution, Resolution::Unanswered(_)), "{host}: {resolution:?}");
    }
}

#[tokio::test]
async fn an_address_is_not_looked_up() {
    let (server, asked) = name_server(&zone(&[])).await;
    let resolver = resolver(server, &[], 1);
    for host in ["192.0.2.7", "2001:db8::7"] {
        assert_eq!(look_up(&resolver, host, &mut KnownAddresses::default()).await, Resolution::NotNeeded);
    }
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn names_are_absolute_whatever_the_search_list_says() {
    let zone = zone(&[
        ("relay.shop.svc.cluster.local.", RecordType::A, Does::Answer(vec![V4])),
        ("relay.shop.svc.cluster.local.", RecordType::AAAA, Does::Answer(vec![])),
    ]);
    let (server, asked) = name_server(&zone).await;
    let pod = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"];
    for host in ["relay.shop.svc.cluster.local", "relay.shop.svc.cluster.local."] {
        let resolution = look_up(&resolver(server, &pod, 5), host, &mut KnownAddresses::default()).await;
        assert_eq!(resolution, at(&[V4]), "{host}");
    }
    for host in ["relay", "relay.shop", "relay.shop.svc"] {
        asked.lock().unwrap().clear();
        let resolution = look_up(&resolver(server, &pod, 5), host, &mut KnownAddresses::default()).await;
        let Resolution::Negative(why) = resolution else { panic!("{resolution:?}") };
        let is_told = why.ends_with("; search domains are not used, write the whole name");
        assert_eq!(is_told, host != "relay.shop", "{why}");
        let mut asked = asked.lock().unwrap().clone();
        asked.sort();
        assert_eq!(asked, [format!("{host}. A"), format!("{host}. AAAA")]);
    }
}

#[tokio::test]
async fn last_known_addresses_stay_while_nobody_answers_and_go_with_a_no() {
    let name = "mx.example.com.";
    let zone = zone(&[(name, RecordType::A, Does::Answer(vec![V4])), (name, RecordType::AAAA, Does::Answer(vec![V6]))]);
    let (server, _) = name_server(&zone).await;
    let set = |v4: Does, v6: Does| {
        zone.lock().unwrap().insert((name, RecordType::A), v4);
        zone.lock().unwrap().insert((name, RecordType::AAAA), v6);
    };
    // Each with an empty cache.
    let fresh = || resolver(server, &[], 1);
    let mut known = KnownAddresses::default();
    assert_eq!(look_up(&fresh(), "mx.example.com", &mut known).await, at(&[V4, V6]));
    set(Does::ServFail, Does::ServFail);
    assert!(matches!(look_up(&fresh(), "mx.example.com", &mut known).await, Resolution::Unanswered(_)));
    assert_eq!(known.addresses, [V4, V6]);
    // One family is silent: its last addresses stay, the other's are replaced.
    set(Does::Answer(vec![OTHER_V4]), Does::ServFail);
    assert_eq!(look_up(&fresh(), "mx.example.com", &mut known).await, at(&[OTHER_V4, V6]));
    set(Does::NxDomain, Does::NxDomain);
    assert!(matches!(look_up(&fresh(), "mx.example.com", &mut known).await, Resolution::Negative(_)));
    assert_eq!(known, KnownAddresses::default());
}

#[tokio::test]
async fn silence_for_one_name_while_another_is_answered_is_told_after_the_grace() {
    let answer = |name| (name, RecordType::A, Does::Answer(vec![V4]));
    let zone = zone(&[answer("mx.example."), answer("other.example.")]);
    let (server, _) = name_server(&zone).await;
    let fresh = || resolver(server, &[], 1);
    let (mut known, mut other) = (KnownAddresses::default(), KnownAddresses::default());
    look_up(&fresh(), "mx.example", &mut known).await;
    look_up(&fresh(), "other.example", &mut other).await;
    for family in [RecordType::A, RecordType::AAAA] {
        zone.lock().unwrap().insert(("mx.example.", family), Does::ServFail);
    }
    let resolver = fresh();
    let silent = look_up(&resolver, "mx.example", &mut known).await;
    assert!(matches!(silent, Resolution::Unanswered(_)), "{silent:?}");
    look_up(&resolver, "other.example", &mut other).await;
    // As if it had begun before the grace.
    known.silence = NameSilence::default();
    let long_ago = now().checked_sub(SILENCE_GRACE * 2).unwrap();
    assert_eq!(known.silence.lasts(long_ago, None), None);
    let silent = look_up(&resolver, "mx.example", &mut known).await;
    assert!(matches!(&silent, Resolution::NameSilent(why) if why.contains("mx.example")), "{silent:?}");
    assert_eq!(known.addresses, [V4], "they stay known");
}

#[tokio::test]
async fn a_name_that_comes_into_being_is_seen_within_seconds() {
    let zone = zone(&[]);
    let (server, _) = name_server(&zone).await;
    let resolver = resolver(server, &[], 1);
    let mut known = KnownAddresses::default();
    assert!(matches!(look_up(&resolver, "new.example", &mut known).await, Resolution::Negative(_)));
    zone.lock().unwrap().insert(("new.example.", RecordType::A), Does::Answer(vec![V4]));
    // The zone lets "no" be kept for a minute; we keep it for five seconds.
    tokio::time::sleep(MAX_NEGATIVE_TTL + Duration::from_millis(100)).await;
    assert_eq!(look_up(&resolver, "new.example", &mut known).await, at(&[V4]));
}

#[test]
fn a_host_with_thousands_of_addresses_is_cut() {
    let many = (0..60_000_u32).map(|number| IpAddr::V4(number.into())).collect();
    let many = DnsAnswer::Addresses(many, now());
    let DnsAnswer::Addresses(addresses, _) = combine(many, DnsAnswer::None(String::new()), &[]) else {
        panic!("there are addresses");
    };
    assert_eq!(addresses.len(), MAX_RESOLVED);
}

#[tokio::test]
async fn a_silent_name_server_holds_up_a_round_only_briefly() {
    let name = "mx.example.com.";
    let zone = zone(&[(name, RecordType::A, Does::Answer(vec![V4]))]);
    let (server, _) = name_server(&zone).await;
    let mut known = KnownAddresses::default();
    assert_eq!(look_up(&resolver(server, &[], 1), "mx.example.com", &mut known).await, at(&[V4]));
    zone.lock().unwrap().insert((name, RecordType::A), Does::Silence);
    zone.lock().unwrap().insert((name, RecordType::AAAA), Does::Silence);
    let fresh = resolver(server, &[], 1);
    let began = std::time::Instant::now();
    let resolution = fresh.resolve("mx.example.com", 25, &mut known, Duration::from_millis(200)).await;
    assert_eq!(resolution, Resolution::Unanswered("mx.example.com: no answer from DNS within 200ms".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(known.addresses, [V4]);
}
