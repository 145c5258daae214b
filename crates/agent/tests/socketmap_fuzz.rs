//! Fuzz test of the socketmap: for any input there is no panic, no growth, and every answer is one that Postfix
//! understands.
//!
//! Random bytes, and valid sessions with mutations that know what a netstring is, each in pieces as a network would cut
//! it. The same seeds each time; `SOCKETMAP_FUZZ_INPUTS` says how many inputs (a million in `make test-all`),
//! `SOCKETMAP_FUZZ_SEED` where to begin.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use mail_failover_agent::shield::ReplyLines;
use mail_failover_agent::socketmap::netstring::{Decoder, MAX_REPLY, MAX_REQUEST, encode};
use mail_failover_agent::socketmap::{LocalDomains, MapAnswer, MapSettings, SocketmapView, answer};
use mail_failover_agent::supervise::Intake;
use mail_failover_contract::routing::{RouteBackend, parse};
use mail_failover_dataplane::answers::Answers;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Number of inputs. It is enough to notice a defect of the decoder, in a second or two without optimization.
const INPUTS: u64 = 50_000;
/// Limit of the memory for one session's decoder, request and answer.
const MAX_GROWTH: usize = 512 * 1024;
const MAPS: [&str; 7] = ["transport", "sender-transport", "sasl", "tls-policy", "delivery-status", "relay", ""];
const KEYS: [&str; 14] = [
    "user@example.net",
    "USER+ext@Example.NET",
    "x@local.example",
    "*",
    "<>",
    "",
    "@",
    "a@b@c",
    "[a.example]:587",
    "[ipv6:2001:db8::1]:465",
    "a.example",
    "5.7.1 554 Message rejected: Sending paused for this account",
    "\"quoted @ local\"@example.net",
    "ünï@cödé.example",
];

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn view() -> SocketmapView {
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1},
        "backends": [
            {"name": "a", "percent": 60, "standby": true, "host": "a.example", "port": 587, "tls": {"mode": "StartTLS"}, "secret": "a"},
            {"name": "b", "percent": 40, "standby": true, "host": "2001:db8::1", "port": 465, "tls": {"mode": "Implicit", "serverName": "b.example"},
                "senderDomains": ["shop.example"]},
        ],
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
    });
    let routing = parse(&document.to_string()).expect("a valid document");
    SocketmapView::default().next(Arc::new(Answers::as_decided(Arc::new(routing))), BTreeMap::new())
}

/// A session of a few requests, as Postfix would send it.
fn session(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = vec![];
    for _ in 0..random.usize(1..6) {
        let map = MAPS[random.usize(..MAPS.len())];
        let key = KEYS[random.usize(..KEYS.len())];
        let mut request = format!("{map} {key}").into_bytes();
        if random.u8(..) < 4 {
            // About as long as is allowed.
            request.resize(random.usize(MAX_REQUEST - 2..MAX_REQUEST + 3), b'x');
        }
        encode(&request, &mut bytes);
    }
    bytes
}

/// Applies one mutation. Most of them break a netstring, some do not.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let at = random.usize(..bytes.len().max(1));
    let colon = bytes.iter().position(|byte| *byte == b':').unwrap_or_default();
    match random.u8(..12) {
        0 => bytes.truncate(at),
        1 if !bytes.is_empty() => bytes[at] ^= 1 << random.u8(..8),
        2 => bytes.insert(at.min(bytes.len()), random.u8(..)),
        3 if !bytes.is_empty() => drop(bytes.remove(at)),
        // A length that lies, a little or a lot.
        4 => drop(bytes.splice(..colon, random.u64(..200).to_string().into_bytes())),
        5 => drop(bytes.splice(..colon, random.u64(..).to_string().into_bytes())),
        6 => drop(bytes.splice(..colon, "9".repeat(random.usize(..64)).into_bytes())),
        7 => drop(bytes.splice(..0, "0".repeat(random.usize(..4)).into_bytes())),
        8 => bytes.iter_mut().filter(|byte| **byte == b',').for_each(|byte| *byte = b';'),
        9 => bytes.iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = b'\0'),
        10 => {
            let twin = bytes.clone();
            drop(bytes.splice(at.min(bytes.len())..at.min(bytes.len()), twin));
        }
        _ => bytes.extend_from_slice(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    }
}

fn input(random: &mut fastrand::Rng) -> Vec<u8> {
    if random.u8(..) < 64 {
        let length = random.usize(..300);
        return (0..length).map(|_| random.u8(..)).collect();
    }
    let mut bytes = session(random);
    for _ in 0..random.usize(..4) {
        mutate(&mut bytes, random);
    }
    bytes
}

/// Returns true if the reply is one netstring that Postfix understands.
fn is_understood(reply: &[u8]) -> bool {
    let Some(colon) = reply.iter().position(|byte| *byte == b':') else { return false };
    let (length, rest) = (std::str::from_utf8(&reply[..colon]).unwrap(), &reply[colon + 1..]);
    let Some((b',', text)) = rest.split_last() else { return false };
    let status = text.split(|byte| *byte == b' ').next().unwrap();
    let is_known = [&b"OK"[..], b"NOTFOUND", b"TEMP", b"PERM"].contains(&status);
    length.parse() == Ok(text.len()) && text.len() <= MAX_REPLY && is_known && text.contains(&b' ')
}

/// Serves a session. Returns the number of understood requests, and true if the session ended as malformed.
fn serve(bytes: &[u8], view: &SocketmapView, fixed: &MapSettings, random: &mut fastrand::Rng) -> (usize, bool) {
    let (mut decoder, mut reply, mut answered) = (Decoder::default(), vec![], 0);
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut piece;
        (piece, rest) = rest.split_at(random.usize(1..=rest.len().min(4_096)));
        while !piece.is_empty() {
            piece = &piece[decoder.push(piece)..];
            loop {
                match decoder.take() {
                    Ok(None) => break,
                    Err(_malformed) => return (answered, true),
                    Ok(Some(request)) => {
                        assert!(request.len() <= MAX_REQUEST);
                        answered += 1;
                        if let (_, MapAnswer::Reply(answer)) =
                            answer(view, fixed, &[], &mut ReplyLines::default(), request)
                        {
                            reply.clear();
                            answer.encode(&mut reply);
                            assert!(is_understood(&reply), "{}", String::from_utf8_lossy(&reply));
                        }
                    }
                }
            }
        }
    }
    (answered, false)
}

#[test]
fn nothing_that_arrives_makes_it_panic_or_grow() {
    let (inputs, seed) = (number("SOCKETMAP_FUZZ_INPUTS", INPUTS), number("SOCKETMAP_FUZZ_SEED", 0));
    let view = view();
    let shield =
        |_: &Answers, _: &[RouteBackend], status: &str| status.strip_prefix("5.").map(|rest| format!("4.{rest}"));
    let fixed = MapSettings {
        local_domains: LocalDomains::new(&["local.example".to_owned()]),
        shield,
        intake: Intake::default(),
    };
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let (mut answered, mut malformed) = (0, 0);
    for number in 0..inputs {
        // A seed of its own for each, so that the one that fails can be looked at alone.
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        let bytes = input(&mut random);
        let served =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(&bytes, &view, &fixed, &mut random)));
        let Ok((requests, refused)) = served else {
            panic!("look at it with SOCKETMAP_FUZZ_SEED={} SOCKETMAP_FUZZ_INPUTS=1", seed.wrapping_add(number))
        };
        answered += requests;
        malformed += u64::from(refused);
    }
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let left = ALLOCATOR.current_usage().saturating_sub(before);
    println!(
        "{inputs} inputs: {answered} requests answered, {malformed} sessions malformed, at most {peak} bytes held, {left} left"
    );
    assert!(peak <= MAX_GROWTH, "{peak} bytes at once");
    assert!(left <= 16 * 1024, "{left} bytes are left behind");
    if inputs >= 1_000 {
        assert!(answered > 0 && malformed > inputs / 100 && malformed < inputs, "the inputs are of both kinds");
    }
}
