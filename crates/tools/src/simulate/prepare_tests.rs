use super::*;
use crate::manifests::{self, Objects};
use crate::simulate::{SimulationResult, TimelineChange, parse};
use mail_failover_core::model::EvidenceClass;

/// A backend that is verified by STARTTLS, one with TLS from the start, one without any, one by Opportunistic TLS
/// behind an address, and one in the cluster whose probe only connects; one route over all.
const FLEET: &str = "
apiVersion: mailfailover.io/v1alpha1
kind: SendingBackend
metadata: {name: starttls}
spec: {smtp: {host: mx.example, port: 587, tls: {mode: StartTLS}}}
---
apiVersion: mailfailover.io/v1alpha1
kind: SendingBackend
metadata: {name: implicit}
spec: {smtp: {host: mx2.example, port: 465, tls: {mode: Implicit}}}
---
apiVersion: mailfailover.io/v1alpha1
kind: SendingBackend
metadata: {name: plain}
spec: {smtp: {host: mx3.example, port: 25, tls: {mode: None}}}
---
apiVersion: mailfailover.io/v1alpha1
kind: SendingBackend
metadata: {name: opportunistic}
spec: {smtp: {host: 192.0.2.4, port: 25, tls: {mode: Opportunistic}}}
---
apiVersion: mailfailover.io/v1alpha1
kind: SendingBackend
metadata: {name: shallow}
spec: {service: {name: relay, port: 25}, probes: [{name: tcp, smtp: {depth: Connect}}]}
---
apiVersion: mailfailover.io/v1alpha1
kind: MailRoute
metadata: {name: orders}
spec:
  traffic: {messagesPerDay: 1000}
  backends: [{name: starttls}, {name: implicit}, {name: plain}, {name: opportunistic}, {name: shallow}]
  outputs: [{configMap: {name: mail, format: Env}}]
";

fn prepared(text: &str) -> Result<Simulation, Vec<String>> {
    let texts = |errors: Vec<ScenarioError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let manifests = manifests::parse("fleet.yaml", FLEET).unwrap();
    let fleet = SimulatedFleet::from_objects(&Objects::of(&manifests).unwrap()).unwrap();
    let scenario =
        parse("s.yaml", &format!("title: A test\nduration: 1h\n{text}")).map_err(|error| texts(vec![error]))?;
    prepare("s.yaml", scenario, fleet, Overrides::default()).map_err(texts)
}

fn with_event(event: &str) -> Result<Simulation, Vec<String>> {
    prepared(&format!("events:\n- {event}\n"))
}

/// The class for which a backend turned, if it did.
fn class_of(outcome: &SimulationResult, simulation: &Simulation, backend: &str) -> Option<EvidenceClass> {
    let backend = simulation.fleet.find_backend(backend).unwrap();
    outcome.timeline.entries.iter().rev().find_map(|entry| match &entry.what {
        TimelineChange::Verdict(change) if change.backend == backend => {
            Some(change.class).filter(|class| *class != EvidenceClass::Ok)
        }
        TimelineChange::Event { .. }
        | TimelineChange::Verdict(_)
        | TimelineChange::Route(_)
        | TimelineChange::Storm(_)
        | TimelineChange::Suspects(_) => None,
    })
}

#[test]
fn a_probe_sees_what_comes_as_far_as_it_does() {
    use EvidenceClass as C;
    let nobody = [None; 5];
    // starttls, implicit, plain, opportunistic, shallow.
    let cases: &[(&str, [Option<C>; 5])] = &[
        ("fault: Refused", [Some(C::ConnectionRefused); 5]),
        ("fault: NoAnswer", [Some(C::NoAnswer); 5]),
        ("fault: NoBanner", [Some(C::NoAnswer), Some(C::NoAnswer), Some(C::NoAnswer), Some(C::NoAnswer), None]),
        (
            "fault: Reset",
            [Some(C::ConnectionLost), Some(C::ConnectionLost), Some(C::ConnectionLost), Some(C::ConnectionLost), None],
        ),
        (
            "fault: Garbage",
            [Some(C::ProtocolError), Some(C::TlsFailed), Some(C::ProtocolError), Some(C::ProtocolError), None],
        ),
        ("fault: TlsFailed", [Some(C::TlsFailed), Some(C::TlsFailed), None, Some(C::TlsFailed), None]),
        ("fault: CertificateExpired", [Some(C::CertificateInvalid), Some(C::CertificateInvalid), None, None, None]),
        ("fault: ResolverSilent", nobody),
        ("fault: OwnFailure", [Some(C::Stale); 5]),
        ("latency: 4s", nobody),
        ("latency: 11s", [Some(C::NoAnswer); 5]),
        (
            "answers: {stage: Banner, reply: '554 5.7.1 blocked using example'}",
            [Some(C::Reputation), Some(C::Reputation), Some(C::Reputation), Some(C::Reputation), None],
        ),
        (
            "answers: {stage: EHLO, reply: '421 4.3.2 closing'}",
            [Some(C::Temporary), Some(C::Temporary), Some(C::Temporary), Some(C::Temporary), None],
        ),
        ("answers: {stage: EHLO, reply: '502 what?'}", [Some(C::Permanent), Some(C::Permanent), None, None, None]),
        (
            "answers: {stage: STARTTLS, reply: '454 TLS not available'}",
            [Some(C::TlsFailed), None, None, Some(C::TlsFailed), None],
        ),
        ("answers: {stage: AUTH, reply: '535 5.7.8 no'}", nobody),
        ("answers: {stage: DATA, reply: '554 no'}", nobody),
    ];
    for (event, expected) in cases {
        let simulation = with_event(&format!("{{at: 5m, all: true, {event}}}")).unwrap();
        let outcome = simulation.run(true);
        let names = ["starttls", "implicit", "plain", "opportunistic", "shallow"];
        assert_eq!(names.map(|name| class_of(&outcome, &simulation, name)), *expected, "{event}");
        let is_harmless = event.contains("ResolverSilent") || event.contains("latency");
        let is_blind = expected.contains(&None) && !is_harmless;
        assert_eq!(!simulation.warnings().is_empty(), is_blind, "{event}: {:?}", simulation.warnings());
    }
}

#[test]
fn what_only_some_backends_have_must_fit_them() {
    let run = |event: &str, name: &str| {
        let simulation = with_event(event).unwrap();
        class_of(&simulation.run(true), &simulation, name)
    };
    assert_eq!(run("{at: 5m, backend: plain, fault: Unresolvable}", "plain"), Some(EvidenceClass::Unresolvable));
    assert_eq!(run("{at: 5m, backend: shallow, fault: NoEndpoints}", "shallow"), Some(EvidenceClass::NoEndpoints));
    let wrong = |event: &str| with_event(event).unwrap_err().join("; ");
    assert!(wrong("{at: 5m, backend: opportunistic, fault: Unresolvable}").contains("only a host name is looked up"));
    assert!(wrong("{at: 5m, backend: plain, fault: NoEndpoints}").contains("only a Service has endpoints"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let cases = [
        ("{at: 5m, fault: Refused}", "exactly one of backend, failureDomain and `all: true`"),
        (
            "{at: 5m, backend: plain, all: true, fault: Refused}",
            "exactly one of backend, failureDomain and `all: true`",
        ),
        (
            "{at: 5m, backend: plian, fault: Refused}",
            "events[0].backend: there is no SendingBackend plian; there is implicit,",
        ),
        ("{at: 5m, failureDomain: aws, fault: Refused}", "no backend is in the failure domain aws"),
        ("{at: 5m, backend: plain}", "exactly one of answers, fault, latency, quotaLeft, suspended and request"),
        ("{at: 5m, backend: plain, fault: Refused, latency: 1s}", "exactly one of answers, fault, latency"),
        ("{at: 2h, backend: plain, fault: Refused}", "events[0].at: comes after the end"),
        ("{at: soon, backend: plain, fault: Refused}", "`soon` is no duration; write 500ms, 90s, 1h30m or 7d"),
        ("{at: 5m, backend: plain, fault: Rejected}", "Rejected"),
        ("{at: 5m, backend: plain, fault: Refused, procent: 4}", "procent"),
        ("{at: 5m, backend: plain, fault: Refused, percent: 0}", "percent: must be from 1 to 100"),
        (
            "{at: 5m, backend: plain, fault: Refused, observer: replica-7}",
            "replica-7 is none of the observers: replica-0",
        ),
        ("{at: 5m, backend: plain, suspended: true, percent: 50}", "observer and percent go with"),
        ("{at: 5m, backend: plain, fault: Refused, seenBy: Traffic}", "seenBy: goes with answers only"),
        ("{at: 5m, backend: plain, answers: {stage: EHLO, reply: no}}", "`no` is no reply"),
        ("{at: 5m, backend: plain, answers: {stage: EHLO, reply: 250 yes}}", "is a success"),
        ("{at: 5m, request: {route: order, id: a, action: Resume}}", "there is no MailRoute order; there is orders"),
        ("{at: 5m, request: {route: orders, id: a, action: Switch}}", "request.to: is missing"),
        ("{at: 5m, request: {route: orders, id: a, action: Resume, for: 5m}}", "request.for: does not go with Resume"),
        (
            "{at: 5m, request: {route: orders, id: a, action: Resume, mode: Shadow}}",
            "request.mode: does not go with Resume",
        ),
        ("{at: 5m, request: {route: orders, id: a, action: Drill, mode: Loud}}", "there is Observed, Blocked, Shadow"),
        ("{at: 5m, request: {route: orders, id: a, action: Drill, to: plain}}", "request.to: does not go with Drill"),
        ("{at: 5m, backend: plain, request: {route: orders, id: a, action: Resume}}", "a request is made of a route"),
    ];
    for (event, message) in cases {
        let errors = with_event(event).unwrap_err();
        assert!(errors.len() == 1 && errors[0].starts_with("s.yaml:4: "), "{event}: {errors:?}");
        assert!(errors[0].contains(message), "{event}: {errors:?}");
    }
}

#[test]
fn an_expectation_is_met_or_told_what_there_was() {
    let cases = [
        ("{at: 1h, route: orders, active: implicit}", true, "FailedOver"),
        ("{at: 9m, route: orders, active: implicit}", false, "Preferred, starttls 100 %, hold - since 0:00:00"),
        ("{at: 1h, route: orders, shares: {implicit: 100}, state: FailedOver, hold: None, transitions: 1}", true, ""),
        ("{at: 1h, route: orders, shares: {implicit: 50, plain: 50}}", false, "implicit 100 %"),
        ("{at: 1h, route: orders, transitions: 2}", false, "1 transitions"),
        ("{between: [0s, 10m], route: orders, active: starttls, transitions: 0}", true, ""),
        ("{between: [0s, 20m], route: orders, active: starttls}", false, "implicit 100 %"),
        ("{within: [10m, 12m], route: orders, active: implicit}", true, "since 0:10:5"),
        ("{within: [10m, 10m30s], route: orders, active: implicit}", false, "only later: "),
        ("{within: [20m, 30m], route: orders, active: implicit}", false, "it was so before: "),
        ("{within: [10m, 12m], backend: starttls, health: Unhealthy, class: ConnectionRefused}", true, ""),
        ("{at: 1h, backend: plain, health: Unhealthy}", false, "Healthy (Ok) since 0:00:00"),
    ];
    for (expectation, is_met, found) in cases {
        let text = format!("events:\n- {{at: 10m, backend: starttls, fault: Refused}}\nexpect:\n- {expectation}\n");
        let outcome = prepared(&text).unwrap().run(true);
        let checked = &outcome.checked[0];
        assert_eq!((checked.is_met, checked.line), (is_met, 6), "{expectation}: {checked:?}");
        assert!(checked.found.contains(found), "{expectation}: {checked:?}");
    }
}

#[test]
fn an_expectation_that_makes_no_sense_is_refused() {
    let cases = [
        ("{route: orders, active: plain}", "exactly one of at, between and within"),
        ("{at: 1h, active: plain}", "exactly one of route and backend"),
        ("{at: 1h, route: orders}", "nothing is expected"),
        ("{at: 1h, backend: plain}", "nothing is expected"),
        ("{at: 2h, route: orders, active: plain}", "2:00:00 is after the end"),
        ("{between: [30m, 20m], route: orders, active: plain}", "the first time is after the second"),
        ("{at: 1h, route: orders, active: ses}", "ses is not a backend of the route; it has starttls,"),
        ("{at: 1h, route: orders, state: Fine}", "Fine is no state; there is Preferred,"),
        ("{at: 1h, route: orders, hold: Fine}", "Fine is no hold; there is None, Cooldown,"),
        ("{at: 1h, backend: plain, health: Fine}", "Fine is no health; there is Healthy,"),
        ("{at: 1h, backend: plain, class: Fine}", "Fine is no class; there is Ok,"),
        ("{at: 1h, backend: plain, state: Preferred}", "are of a route"),
        ("{at: 1h, route: orders, health: Healthy}", "are of a backend"),
        ("{within: [0s, 1h], route: orders, transitions: 1}", "transitions are counted `at` a time"),
    ];
    for (expectation, message) in cases {
        let errors = prepared(&format!("expect:\n- {expectation}\n")).unwrap_err();
        assert!(errors.len() == 1 && errors[0].starts_with("s.yaml:4: expect[0]: "), "{expectation}: {errors:?}");
        assert!(errors[0].contains(message), "{expectation}: {errors:?}");
    }
}

#[test]
fn a_share_of_the_rounds_is_hit_and_the_summary_says_how_much_mail_was() {
    let simulation = with_event("{at: 10m, for: 40m, backend: starttls, fault: Refused, percent: 25}").unwrap();
    let outcome = simulation.run(true);
    let summary = &outcome.summaries[0];
    // A quarter of 40 minutes, all of it on that backend: six failures in a row are too rare.
    assert_eq!(summary.refused, Duration::from_mins(10));
    assert_eq!((summary.failovers, summary.failbacks), (0, 0));
    let whole = with_event("{at: 10m, for: 40m, backend: starttls, fault: Refused}").unwrap().run(true);
    let summary = &whole.summaries[0];
    assert!(summary.refused < Duration::from_secs(65) && summary.refused > Duration::from_secs(45), "{summary:?}");
    assert_eq!((summary.failovers, summary.failbacks), (1, 0));
    assert!(summary.slowest_failover.is_some_and(|slowest| slowest < Duration::from_mins(1)), "{summary:?}");
    let shares: f64 = summary.shares.values().sum();
    assert!((shares - 1.0).abs() < 1e-9, "{summary:?}");
}

#[test]
fn limits_suspension_and_requests_reach_the_engine_and_end() {
    let text = "events:
- {at: 10m, for: 5m, backend: starttls, suspended: true}
- {at: 20m, for: 5m, backend: starttls, quotaLeft: 300}
- {at: 30m, request: {route: orders, id: a, action: Pause, for: 5m}}
expect:
- {between: [10m, 15m], route: orders, active: implicit}
- {between: [20m, 25m], route: orders, shares: {starttls: 30, implicit: 70}}
- {between: [26m, 30m], route: orders, shares: {starttls: 100}}
- {between: [30m, 35m], route: orders, state: Paused, hold: Paused}
- {at: 36m, route: orders, active: starttls, state: Preferred}
";
    let outcome = prepared(text).unwrap().run(true);
    assert!(outcome.checked.iter().all(|checked| checked.is_met), "{:#?}", outcome.checked);
}

#[test]
fn a_backends_own_rules_say_what_its_replies_mean() {
    let ruled = |rules: &str| {
        let spec = "port: 25, tls: {mode: None}}}";
        assert!(FLEET.contains(spec));
        let fleet = FLEET.replace(spec, &format!("port: 25, tls: {{mode: None}}}}, replies: [{rules}]}}"));
        let fleet =
            SimulatedFleet::from_objects(&Objects::of(&manifests::parse("f", &fleet).unwrap()).unwrap()).unwrap();
        let event = "{at: 10m, for: 40m, all: true, answers: {stage: Banner, reply: '554 5.7.1 go away, albatross'}}";
        let scenario = parse("s.yaml", &format!("title: A test\nduration: 1h\nevents:\n- {event}\n")).unwrap();
        let simulation = prepare("s.yaml", scenario, fleet, Overrides::default()).unwrap();
        let outcome = simulation.run(true);
        (class_of(&outcome, &simulation, "plain"), class_of(&outcome, &simulation, "opportunistic"))
    };
    let reputation = Some(EvidenceClass::Reputation);
    assert_eq!(ruled("{name: other, about: Rate, words: [slow]}"), (reputation, reputation));
    assert_eq!(
        ruled("{name: spent, about: Quota, words: [albatross]}"),
        (Some(EvidenceClass::QuotaExhausted), reputation)
    );
}
