use super::super::testing::backend;
use super::*;

#[test]
fn endpoints_come_as_near_to_the_shares_as_their_numbers_allow() {
    for (targets, expected) in [
        (&[(100, 5)][..], &[5][..]),
        // One address each: the number of backends that an even split comes closest with.
        (&[(10, 1), (90, 1)], &[0, 1]),
        (&[(50, 1), (50, 1)], &[1, 1]),
        (&[(30, 1), (70, 1)], &[1, 1]),
        (&[(80, 1), (20, 1)], &[1, 0]),
        (&[(50, 1), (30, 1), (20, 1)], &[1, 1, 1]),
        (&[(0, 1), (100, 1)], &[0, 1]),
        // A provider with eight addresses beside a relay with one.
        (&[(50, 8), (50, 1)], &[1, 1]),
        (&[(50, 8), (50, 8)], &[8, 8]),
        (&[(70, 8), (30, 1)], &[2, 1]),
        (&[(90, 8), (10, 1)], &[8, 1]),
        (&[(70, 8), (30, 8)], &[7, 3]),
        // One of them has no address, of this family at least: the others have all.
        (&[(50, 8), (50, 0)], &[8, 0]),
        (&[(60, 0), (20, 4), (20, 4)], &[0, 4, 4]),
        (&[(50, 0), (50, 0)], &[0, 0]),
        (&[], &[]),
        // Mail that no backend takes is not withheld.
        (&[(30, 2), (30, 2)], &[2, 2]),
    ] {
        assert_eq!(nearest_counts(targets), expected, "{targets:?}");
    }
}

fn target<'a>(
    name: &'a str,
    percent: u8,
    backend: &'a mail_failover_core::model::Backend,
    addresses: &[(&str, bool)],
) -> Target<'a> {
    let addresses = addresses.iter().map(|(address, works)| (address.parse().unwrap(), *works)).collect();
    Target { percent, transition: 0, name, backend, addresses: Some(addresses), is_place_known: true }
}

fn ready(part: &ServicePart<'_, '_>) -> Vec<String> {
    part.endpoints.iter().filter(|(_, is_ready)| *is_ready).map(|(address, _)| address.to_string()).collect()
}

#[test]
fn each_family_is_split_by_itself_and_the_shares_are_those_of_ipv4() {
    let backend = backend();
    let many = [("192.0.2.2:25", true), ("192.0.2.1:25", true), ("192.0.2.3:25", true), ("[2001:db8::1]:25", true)];
    let targets = [target("a", 50, &backend, &many), target("b", 50, &backend, &[("198.51.100.1:25", true)])];
    let split = service_split(&targets);
    assert_eq!(ready(&split.parts[0]), ["192.0.2.1:25", "[2001:db8::1]:25"]);
    assert_eq!(ready(&split.parts[1]), ["198.51.100.1:25"]);
    assert_eq!(split.percents(), [("a".to_owned(), 50), ("b".to_owned(), 50)]);
}

#[test]
fn an_address_that_fails_is_no_part_of_the_split_unless_all_fail() {
    let backend = backend();
    let half = [("192.0.2.1:25", false), ("192.0.2.2:25", true)];
    let none = [("198.51.100.1:25", false), ("198.51.100.2:25", false)];
    let targets = [target("a", 50, &backend, &half), target("b", 50, &backend, &none)];
    let split = service_split(&targets);
    assert_eq!(ready(&split.parts[0]), ["192.0.2.2:25"]);
    assert_eq!(split.parts[0].endpoints.len(), 2, "the failing one is there, and not ready");
    assert_eq!(ready(&split.parts[1]), ["198.51.100.1:25"]);
    let all_fail = [target("b", 100, &backend, &none)];
    assert_eq!(ready(&service_split(&all_fail).parts[0]).len(), 2);
}

#[test]
fn the_shares_are_what_the_numbers_of_endpoints_make_of_them() {
    let backend = backend();
    let eight: Vec<_> = (1..=8).map(|last| format!("192.0.2.{last}:25")).collect();
    let eight: Vec<_> = eight.iter().map(|address| (address.as_str(), true)).collect();
    let targets = [target("a", 70, &backend, &eight), target("b", 30, &backend, &[("198.51.100.1:25", true)])];
    assert_eq!(service_split(&targets).percents(), [("a".to_owned(), 67), ("b".to_owned(), 33)]);
    let nowhere = [target("a", 100, &backend, &[])];
    assert_eq!(service_split(&nowhere).percents(), []);
}

#[test]
fn the_endpoints_of_a_drilled_backend_leave_unless_nothing_would_be_left() {
    let backend = backend();
    let drill = |names: &[&str]| Drill {
        id: "d1".to_owned(),
        backends: names.iter().map(|name| (*name).to_owned()).collect(),
        for_seconds: 60,
    };
    let first = target("first", 70, &backend, &[("192.0.2.1:25", true)]);
    let second = target("second", 30, &backend, &[("192.0.2.2:25", true)]);
    let unknown = Target { addresses: None, ..target("unknown", 30, &backend, &[]) };
    for (targets, drill, expected) in [
        (vec![first.clone(), second.clone()], Some(drill(&["first"])), &["second"][..]),
        (vec![first.clone(), second.clone()], None, &["first", "second"]),
        (vec![first.clone(), second.clone()], Some(drill(&["first", "second"])), &["first", "second"]),
        (vec![first.clone()], Some(drill(&["first"])), &["first"]),
        (vec![first.clone(), unknown], Some(drill(&["first"])), &["first", "unknown"]),
        (vec![first.clone()], Some(drill(&["other"])), &["first"]),
    ] {
        let left = targets_of_services(&targets, drill.as_ref());
        assert_eq!(left.iter().map(|target| target.name).collect::<Vec<_>>(), expected);
    }
}
