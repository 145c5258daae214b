use proptest::prelude::*;

use super::*;
use crate::model::Timestamp;

fn verdict(health: Health, class: EvidenceClass) -> ObserverVerdict {
    let since = Timestamp::from_micros(0);
    ObserverVerdict {
        health,
        since,
        class,
        first_failure_at: None,
        confirms: [].into(),
        runs: [].into(),
        message: Arc::default(),
    }
}

/// `-` is unhealthy by silence, `a` by an answer, `e` a Service without endpoints, `+` healthy, `?` unknown.
fn seen(mark: char) -> ObserverVerdict {
    match mark {
        '+' => verdict(Health::Healthy, EvidenceClass::Ok),
        '-' => verdict(Health::Unhealthy, EvidenceClass::NoAnswer),
        'a' => verdict(Health::Unhealthy, EvidenceClass::AccountPaused),
        'e' => verdict(Health::Unhealthy, EvidenceClass::NoEndpoints),
        '?' => verdict(Health::Unknown, EvidenceClass::Stale),
        other => panic!("{other} means nothing"),
    }
}

fn thresholds(failure: u32) -> Thresholds {
    Thresholds { failure, ..Thresholds::default() }
}

/// Backends by name, each a domain of its own, as we see them under thresholds of so many failures.
fn note(fleet: &mut FailureDomains, namespace: &str, name: &str, marks: &[(u32, char)]) -> bool {
    note_by(fleet, namespace, name, &Observer::Own, marks)
}

fn note_by(
    fleet: &mut FailureDomains,
    namespace: &str,
    name: &str,
    observer: &Observer,
    marks: &[(u32, char)],
) -> bool {
    let verdicts: Vec<_> = marks.iter().map(|(failure, mark)| (thresholds(*failure), seen(*mark))).collect();
    let key = ObjectKey::new(namespace, name);
    fleet.note(&key, None, observer, verdicts.iter().map(|(of, verdict)| (*of, verdict)))
}

fn other(name: &str) -> Observer {
    Observer::Other(name.into())
}

#[test]
fn who_sees_everything_fail_that_others_see_work_is_suspect() {
    /// Observer, and for each domain whether something works; `?` for no verdict.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("one sees all fail, the other does not", &[("a", "--"), ("b", "-+")], &["a"]),
        ("all see all fail: a storm", &[("a", "--"), ("b", "--")], &[]),
        ("alone there is nobody to contradict", &[("a", "--")], &[]),
        ("it sees something work itself", &[("a", "-+"), ("b", "+-")], &[]),
        ("one domain is too few", &[("a", "-"), ("b", "+")], &[]),
        ("one domain of which it knows is too few", &[("a", "-?"), ("b", "++")], &[]),
        ("what works is nothing of which it knows", &[("a", "--?"), ("b", "--+")], &[]),
        ("two of three", &[("a", "--"), ("b", "+-"), ("c", "--")], &["a", "c"]),
    ];
    for (case, views, expected) in cases {
        let domains = |marks: &str| -> BTreeMap<usize, bool> {
            marks.chars().enumerate().filter(|(_, mark)| *mark != '?').map(|(n, mark)| (n, mark == '+')).collect()
        };
        let views = views.iter().map(|(observer, marks)| (other(observer), domains(marks))).collect();
        assert_eq!(suspects(&views), expected.iter().map(|name| other(name)).collect(), "{case}");
    }
}

#[test]
fn a_storm_is_every_domain_failing_for_everyone_that_counts() {
    let mut fleet = FailureDomains::default();
    let key = |name: &str| ObjectKey::new("shop", name);
    let aws = Some(Arc::<str>::from("aws"));
    let of = thresholds(6);
    let healthy = seen('+');
    let unhealthy = seen('-');
    for (backend, domain) in [("ses-eu", aws.as_ref()), ("ses-us", aws.as_ref()), ("relay", None)] {
        fleet.note(&key(backend), domain, &Observer::Own, [(of, &healthy)]);
    }
    for backend in ["ses-eu", "ses-us"] {
        assert!(fleet.note(&key(backend), aws.as_ref(), &Observer::Own, [(of, &unhealthy)]));
        assert!(!fleet.note(&key(backend), aws.as_ref(), &Observer::Own, [(of, &unhealthy)]));
        assert!(!fleet.is_storm("shop", &of));
    }
    fleet.note(&key("relay"), None, &Observer::Own, [(of, &unhealthy)]);
    assert!(fleet.is_storm("shop", &of));
    assert_eq!(fleet.storms(), [("shop".into(), of)].into());
    // Out of service it counts no more, and what is left is one domain.
    fleet.leave_out(&key("relay"));
    assert!(!fleet.is_storm("shop", &of));
    fleet.note(&key("ses-us"), None, &Observer::Own, [(of, &unhealthy)]);
    assert!(fleet.is_storm("shop", &of), "it is in a domain of its own now");
    // Another sees one of them work: then it is us.
    fleet.note(&key("ses-eu"), aws.as_ref(), &other("b"), [(of, &verdict(Health::Degraded, EvidenceClass::Slow))]);
    assert_eq!((fleet.is_storm("shop", &of), fleet.suspects()), (false, [Observer::Own].into()));
    assert!(fleet.forget_observer(&other("b")));
    assert_eq!((fleet.is_storm("shop", &of), fleet.suspects()), (true, BTreeSet::new()));
    fleet.note(&key("ses-eu"), aws.as_ref(), &Observer::Own, [(of, &seen('?'))]);
    assert!(!fleet.is_storm("shop", &of), "no verdict is no evidence");
}

#[test]
fn a_stricter_policy_makes_no_storm_of_anothers_outage() {
    let mut fleet = FailureDomains::default();
    note(&mut fleet, "shop", "ses", &[(1, '-'), (6, '-')]);
    note(&mut fleet, "shop", "sendgrid", &[(1, '-'), (6, '+')]);
    let (strict, default) = (thresholds(1), thresholds(6));
    assert_eq!((fleet.is_storm("shop", &strict), fleet.is_storm("shop", &default)), (true, false));
    assert_eq!(fleet.suspects(), BTreeSet::new(), "nor a suspect");
    // What these thresholds do not judge counts by the best verdict about it.
    note(&mut fleet, "shop", "mailgun", &[(3, '-'), (6, '+')]);
    assert!(!fleet.is_storm("shop", &strict));
    note(&mut fleet, "shop", "mailgun", &[(3, '-')]);
    assert!(fleet.is_storm("shop", &strict));
}

#[test]
fn a_failure_that_the_backends_answered_is_no_storm_and_makes_no_suspect() {
    let mut fleet = FailureDomains::default();
    let of = thresholds(6);
    for name in ["ses", "sendgrid"] {
        note(&mut fleet, "shop", name, &[(6, 'a')]);
        note_by(&mut fleet, "shop", name, &other("b"), &[(6, '+')]);
    }
    assert_eq!((fleet.is_storm("shop", &of), fleet.suspects()), (false, BTreeSet::new()));
    fleet.forget_observer(&other("b"));
    assert!(!fleet.is_storm("shop", &of));
    // A Service without endpoints says nothing of a network.
    note(&mut fleet, "shop", "ses", &[(6, 'e')]);
    note(&mut fleet, "shop", "sendgrid", &[(6, '-')]);
    assert!(!fleet.is_storm("shop", &of), "one domain");
    note(&mut fleet, "shop", "mailgun", &[(6, '-')]);
    assert!(fleet.is_storm("shop", &of));
}

#[test]
fn no_single_tenant_makes_or_hides_a_storm_of_another() {
    /// The own backends, those of other tenants, and true for a storm.
    type Case<'a> = (&'a str, &'a [&'a str], bool);
    let of = thresholds(6);
    let cases: &[Case<'_>] = &[
        ("--", &[], true),
        ("--", &["+"], true),
        ("--", &["+", "+"], false),
        ("--", &["+", "-"], true),
        ("--", &["+", "+", "-"], true),
        ("-+", &["-", "-", "-"], false),
        ("-", &["-"], false),
        ("-", &["-", "-"], true),
        ("-", &["-", "-", "+"], true),
        ("-", &["-", "+", "+"], false),
        ("??", &["-", "-"], false),
    ];
    for (own, others, is_storm) in cases {
        let mut fleet = FailureDomains::default();
        for (n, mark) in own.chars().enumerate() {
            note(&mut fleet, "shop", &format!("b{n}"), &[(6, mark)]);
        }
        for (n, mark) in others.iter().enumerate() {
            note(&mut fleet, &format!("tenant-{n}"), "relay", &[(6, mark.chars().next().unwrap())]);
        }
        assert_eq!(fleet.is_storm("shop", &of), *is_storm, "{own} among {others:?}");
    }
}

/// What is noted about a backend by an observer: domain, and a mark for each of two thresholds.
type Noted = (usize, [Option<usize>; 2]);

const NAMESPACES: [&str; 3] = ["shop", "bank", "club"];
const MARKS: [char; 5] = ['+', '-', 'a', 'e', '?'];

/// The same by a walk over all that is noted.
fn storm_by_the_book(noted: &BTreeMap<(usize, usize), Noted>, namespace: usize, of: usize) -> bool {
    let reach = |mark: Option<usize>| {
        let seen = seen(MARKS[mark?]);
        is_reached(seen.health, seen.class)
    };
    let looks_of =
        |namespace: usize| noted.iter().filter(move |((backend, _), _)| backend % NAMESPACES.len() == namespace);
    let best = |marks: &[Option<usize>; 2]| marks.iter().filter_map(|mark| reach(*mark)).max();
    let voice = |namespace: usize| looks_of(namespace).filter_map(|(_, (_, marks))| best(marks)).max();
    let own: Vec<bool> = looks_of(namespace).filter_map(|(_, (_, marks))| reach(marks[of]).or(best(marks))).collect();
    let domains: BTreeSet<_> = looks_of(namespace)
        .filter(|(_, (_, marks))| best(marks).is_some())
        .map(|((backend, _), (domain, _))| if *domain < 2 { (0, *backend) } else { (*domain, 0) })
        .collect();
    if own.is_empty() || own.contains(&true) {
        return false;
    }
    let others: Vec<bool> = (0..NAMESPACES.len()).filter(|other| *other != namespace).filter_map(voice).collect();
    let working = others.iter().filter(|works| **works).count();
    working * 2 <= others.len() + 1 && (domains.len() >= 2 || others.len() - working >= 2)
}

proptest! {
    /// Kept up to date change by change, a fleet says what is said about all of it at once.
    #[test]
    fn a_fleet_says_what_a_walk_over_all_backends_says(
        steps in prop::collection::vec(
            (0_usize..7, 0_usize..4, 0_usize..3, [prop::option::of(0_usize..5), prop::option::of(0_usize..5)], 0_usize..12),
            1..120,
        ),
    ) {
        let observers = [Observer::Own, Observer::Other("x".into()), Observer::Other("y".into())];
        let domains = [None, None, Some(Arc::<str>::from("aws")), Some("google".into())];
        let of = [thresholds(1), thresholds(6)];
        let mut fleet = FailureDomains::default();
        let mut noted: BTreeMap<(usize, usize), Noted> = BTreeMap::new();
        for (backend, domain, observer, marks, what) in steps {
            let key = ObjectKey::new(NAMESPACES[backend % NAMESPACES.len()], format!("b{backend}"));
            match what {
                0 => {
                    fleet.leave_out(&key);
                    noted.retain(|(of, _), _| *of != backend);
                }
                1 => {
                    fleet.forget_observer(&observers[observer]);
                    noted.retain(|(_, by), _| *by != observer);
                }
                _ => {
                    let verdicts: Vec<_> = marks.iter().zip(of)
                        .filter_map(|(mark, of)| Some((of, seen(MARKS[(*mark)?]))))
                        .collect();
                    let verdicts = verdicts.iter().map(|(of, verdict)| (*of, verdict));
                    fleet.note(&key, domains[domain].as_ref(), &observers[observer], verdicts);
                    for (_, (of, _)) in noted.iter_mut().filter(|((of, _), _)| *of == backend) {
                        *of = domain;
                    }
                    noted.insert((backend, observer), (domain, marks));
                }
            }
            let mut views: BTreeMap<Observer, BTreeMap<String, bool>> = BTreeMap::new();
            for ((backend, observer), (domain, marks)) in &noted {
                let looks = marks.iter().filter_map(|mark| Some(seen(MARKS[(*mark)?])));
                let Some(is_best) = looks.filter_map(|seen| is_reached(seen.health, seen.class)).max() else { continue };
                let domain = domains[*domain].as_ref().map_or_else(|| format!("alone {backend}"), |name| format!("named {name}"));
                *views.entry(observers[*observer].clone()).or_default().entry(domain).or_default() |= is_best;
            }
            prop_assert_eq!(fleet.suspects(), suspects(&views));
            for (number, namespace) in NAMESPACES.iter().enumerate() {
                for (at, thresholds) in of.iter().enumerate() {
                    let is_storm = fleet.is_storm(namespace, thresholds);
                    prop_assert_eq!(is_storm, storm_by_the_book(&noted, number, at), "{} {}", namespace, at);
                    let is_listed = fleet.storms().contains(&((*namespace).into(), *thresholds));
                    prop_assert!(is_storm || !is_listed);
                }
            }
        }
    }
}
