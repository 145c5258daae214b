use clap::Parser;

use super::*;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    guard: DialGuard,
}

fn guard(arguments: &[&str]) -> DialGuard {
    CommandLine::parse_from(["test"].iter().chain(arguments)).guard
}

fn refused(guard: &DialGuard, address: &str) -> Option<DialRule> {
    let address = SocketAddr::new(address.parse().unwrap(), 25);
    guard.check(address, DialOrigin::Spec).err().map(|refusal| refusal.rule())
}

#[test]
fn some_addresses_are_never_connected_to_in_whatever_form() {
    use DialRule::{LinkLocal, Loopback, Metadata, Multicast, Reserved, Unspecified};
    let cases = [
        ("127.0.0.1", Loopback),
        ("127.255.255.254", Loopback),
        ("::1", Loopback),
        ("::ffff:127.0.0.1", Loopback),
        ("::127.0.0.1", Loopback),
        ("::ffff:0:127.0.0.1", Loopback),
        ("64:ff9b::7f00:1", Loopback),
        ("64:ff9b:1::7f00:1", Loopback),
        // With prefixes of 48, 56 and 64 bits.
        ("64:ff9b:1:7f00:0:100::", Loopback),
        ("64:ff9b:1:a9fe:a9:fe00:c000:201", LinkLocal),
        ("64:ff9b:1:12a9:fe:a9fe::", LinkLocal),
        ("64:ff9b:1:1234:a9:fea9:fe00:0", LinkLocal),
        ("64:ff9b:1::", Unspecified),
        ("64:ff9b:1::e000:1", Multicast),
        ("2002:7f00:1::1", Loopback),
        // Teredo: 127.0.0.1 with its bits inverted.
        ("2001:0:c000:221::80ff:fffe", Loopback),
        ("2001:0:7f00:1::", Loopback),
        ("169.254.169.254", LinkLocal),
        ("169.254.170.2", LinkLocal),
        ("::ffff:169.254.169.254", LinkLocal),
        ("64:ff9b::a9fe:a9fe", LinkLocal),
        ("2002:a9fe:a9fe::1", LinkLocal),
        ("fe80::1", LinkLocal),
        ("febf::1", LinkLocal),
        ("fd00:ec2::254", Metadata),
        ("fd20:ce::254", Metadata),
        ("fd00:42::42", Metadata),
        ("100.100.100.200", Metadata),
        ("192.0.0.192", Metadata),
        ("168.63.129.16", Metadata),
        ("0.0.0.0", Unspecified),
        ("0.1.2.3", Unspecified),
        ("::", Unspecified),
        ("64:ff9b::", Unspecified),
        ("224.0.0.1", Multicast),
        ("239.255.255.250", Multicast),
        ("ff02::1", Multicast),
        ("240.0.0.1", Reserved),
        ("255.255.255.255", Reserved),
        ("64:ff9b::ffff:ffff", Reserved),
    ];
    let guard = guard(&[]);
    for (address, rule) in cases {
        assert_eq!(refused(&guard, address), Some(rule), "{address}");
        let at = SocketAddr::new(address.parse().unwrap(), 25);
        assert!(guard.check(at, DialOrigin::Cluster).is_err(), "an endpoint {address}");
    }
}

#[test]
fn the_rest_of_the_internet_and_private_networks_are_open() {
    let open = [
        "192.0.2.7",
        "198.51.100.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "223.255.255.255",
        "::ffff:192.0.2.7",
        "64:ff9b::c000:207",
        // 192.0.2.7 with prefixes of 48, 96 and again 96 bits.
        "64:ff9b:1:c000:2:700::",
        "64:ff9b:1::c000:207",
        "64:ff9b:1:fffe::c000:207",
        "2002:c000:207::1",
        "2001:0:c000:221::3fff:fdf8",
        "2001:db8::1",
        "2a01:111::1",
        "fd00:1::1",
        "fec0::1",
    ];
    for address in open {
        assert_eq!(refused(&guard(&[]), address), None, "{address}");
    }
}

#[test]
fn networks_are_denied_and_allowed_again_by_flags() {
    let guard = guard(&["--deny-destinations=10.0.0.0/8,fd12::/16", "--allow-destinations=10.1.2.3,127.0.0.0/8"]);
    for (address, rule) in [
        ("10.96.0.9", Some(DialRule::Denied)),
        ("::ffff:10.96.0.9", Some(DialRule::Denied)),
        ("64:ff9b::a60:9", Some(DialRule::Denied)),
        ("fd12::1", Some(DialRule::Denied)),
        ("10.1.2.3", None),
        ("::ffff:10.1.2.3", None),
        ("127.0.0.1", None),
        ("::1", Some(DialRule::Loopback)),
        ("192.0.2.7", None),
    ] {
        assert_eq!(refused(&guard, address), rule, "{address}");
    }
    // An endpoint of a Service is in one of these networks, as it should be.
    assert_eq!(guard.check("10.96.0.9:6379".parse().unwrap(), DialOrigin::Cluster), Ok(()));
}

#[test]
fn only_a_network_that_names_it_opens_what_is_never_connected_to() {
    for (allowed, address, rule) in [
        ("0.0.0.0/0", "127.0.0.1", Some(DialRule::Loopback)),
        ("::/0", "::1", Some(DialRule::Loopback)),
        ("168.0.0.0/5", "169.254.169.254", Some(DialRule::LinkLocal)),
        ("127.0.0.0/8", "127.0.0.1", None),
        ("127.0.0.1", "127.0.0.1", None),
        ("127.0.0.1", "127.0.0.2", Some(DialRule::Loopback)),
        ("169.254.10.0/24", "169.254.169.254", Some(DialRule::LinkLocal)),
    ] {
        assert_eq!(refused(&guard(&["--allow-destinations", allowed]), address), rule, "{address} by {allowed}");
    }
}

#[test]
fn a_host_is_connected_to_at_ports_of_mail_only() {
    let at = |guard: &DialGuard, port, origin| guard.check(SocketAddr::from(([192, 0, 2, 7], port)), origin).is_ok();
    let usual = guard(&[]);
    assert_eq!(usual, DialGuard::default());
    for port in [25, 465, 587, 2525] {
        assert!(at(&usual, port, DialOrigin::Spec), "{port}");
    }
    for port in [22, 80, 443, 6379, 6443, 8080, 10_250] {
        assert!(!at(&usual, port, DialOrigin::Spec), "{port}");
        assert!(at(&usual, port, DialOrigin::Cluster), "{port} of a Service");
    }
    let others = guard(&["--allow-ports=25,1000-2000"]);
    let open = [24, 25, 587, 999, 1000, 1025, 2000, 2001].map(|port| at(&others, port, DialOrigin::Spec));
    assert_eq!(open, [false, true, false, false, true, true, true, false]);
}

#[test]
fn calls_that_are_no_mail_have_ports_of_their_own_and_the_same_addresses() {
    let guard = guard(&["--deny-destinations=192.0.2.0/28"]);
    let (webhooks, dns) = (guard.for_webhooks(&CallPorts::default()), guard.for_dns(&CallPorts::default()));
    let said = |guard: &DialGuard, address: &str| {
        guard.check(address.parse().unwrap(), DialOrigin::Spec).err().map(|refusal| refusal.to_string())
    };
    assert_eq!((said(&webhooks, "192.0.2.70:443"), said(&dns, "192.0.2.70:53")), (None, None));
    assert!(said(&webhooks, "192.0.2.70:25").unwrap().contains("--allow-webhook-ports"));
    assert!(said(&dns, "192.0.2.70:25").unwrap().contains("--allow-dns-ports"));
    for refused in [said(&webhooks, "192.0.2.7:443"), said(&dns, "192.0.2.7:53")] {
        assert!(refused.unwrap().contains("--deny-destinations"));
    }
}

#[test]
fn a_refusal_names_address_rule_and_remedy() {
    let guard = guard(&["--deny-destinations=10.96.0.0/12"]);
    let said = |address: &str| guard.check(address.parse().unwrap(), DialOrigin::Spec).unwrap_err().to_string();
    assert_eq!(
        said("127.0.0.1:25"),
        "127.0.0.1 is a loopback address (127.0.0.0/8), which is never connected to; name another host, or have it \
         allowed (--allow-destinations)"
    );
    assert!(said("[64:ff9b::7f00:1]:25").starts_with("64:ff9b::7f00:1 leads to 127.0.0.1, a loopback address"));
    assert!(said("[::ffff:127.0.0.1]:25").starts_with("::ffff:127.0.0.1 is a loopback address"));
    assert_eq!(
        said("10.96.0.9:25"),
        "10.96.0.9 is in 10.96.0.0/12, which --deny-destinations names; name another host, or have it allowed \
         (--allow-destinations)"
    );
    assert_eq!(
        said("192.0.2.7:22"),
        "192.0.2.7:22 has none of the allowed ports (25,465,587,588,2465,2525,2587); name another port, or have it \
         allowed (--allow-ports)"
    );
}

#[test]
fn flags_are_handed_on_to_another_command_line() {
    assert_eq!(guard(&[]).arguments(), Vec::<String>::new());
    let given =
        guard(&["--deny-destinations=10.0.0.0/8,fd00::/8", "--allow-destinations=127.0.0.1", "--allow-ports=1-9"]);
    let handed: Vec<_> = given.arguments();
    assert_eq!(guard(&handed.iter().map(String::as_str).collect::<Vec<_>>()), given);
    let of_service = given.of_service(2525);
    assert_eq!(of_service.arguments(), ["--allow-destinations=127.0.0.1/32", "--allow-ports=2525"]);
}

#[test]
fn what_is_no_network_or_port_is_told_with_an_example() {
    let error = |arguments: &[&str]| {
        CommandLine::try_parse_from(["test"].iter().chain(arguments)).err().map(|error| error.to_string())
    };
    assert!(error(&["--deny-destinations=10.0.0.0/33"]).unwrap().contains("10.0.0.0/8"));
    assert!(error(&["--allow-destinations=example.com"]).unwrap().contains("10.0.0.0/8"));
    for wrong in ["0", "9-1", "65536", "smtp", ""] {
        assert!(error(&[&format!("--allow-ports={wrong}")]).unwrap().contains("1024-65535"), "{wrong}");
    }
}
