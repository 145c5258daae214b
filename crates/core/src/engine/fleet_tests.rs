use proptest::prelude::*;

use super::*;

const HEALTHS: [Health; 4] = [Health::Healthy, Health::Degraded, Health::Unknown, Health::Unhealthy];

fn other(name: &str) -> Observer {
    Observer::Other(name.into())
}

#[test]
fn who_sees_everything_fail_that_others_see_work_is_suspect() {
    /// Observer, and for each domain whether something works; `?` for no opinion.
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
    for (backend, domain) in [("ses-eu", aws.as_ref()), ("ses-us", aws.as_ref()), ("relay", None)] {
        fleet.note(&key(backend), domain, &Observer::Own, Health::Healthy);
    }
    for backend in ["ses-eu", "ses-us"] {
        assert!(fleet.note(&key(backend), aws.as_ref(), &Observer::Own, Health::Unhealthy));
        assert!(!fleet.note(&key(backend), aws.as_ref(), &Observer::Own, Health::Unhealthy));
        assert!(!fleet.is_storm());
    }
    fleet.note(&key("relay"), None, &Observer::Own, Health::Unhealthy);
    assert!(fleet.is_storm());
    // Out of service it counts no more, and what is left is one domain.
    fleet.leave_out(&key("relay"));
    assert!(!fleet.is_storm());
    fleet.note(&key("ses-us"), None, &Observer::Own, Health::Unhealthy);
    assert!(fleet.is_storm(), "it is in a domain of its own now");
    // Another sees one of them work: then it is us.
    fleet.note(&key("ses-eu"), aws.as_ref(), &other("b"), Health::Degraded);
    assert_eq!((fleet.is_storm(), fleet.suspects()), (false, [Observer::Own].into()));
    assert!(fleet.forget_observer(&other("b")));
    assert_eq!((fleet.is_storm(), fleet.suspects()), (true, BTreeSet::new()));
    fleet.note(&key("ses-eu"), aws.as_ref(), &Observer::Own, Health::Unknown);
    assert!(!fleet.is_storm(), "no opinion is no evidence");
}

proptest! {
    /// Kept up to date change by change, a fleet says what is said about all of it at once.
    #[test]
    fn a_fleet_says_what_a_walk_over_all_backends_says(
        steps in prop::collection::vec((0_usize..6, 0_usize..4, 0_usize..3, 0_usize..4, 0_usize..12), 1..120),
    ) {
        let observers = [Observer::Own, Observer::Other("x".into()), Observer::Other("y".into())];
        let domains = [None, None, Some(Arc::<str>::from("aws")), Some("google".into())];
        let mut fleet = FailureDomains::default();
        let mut seen: BTreeMap<(usize, usize), Health> = BTreeMap::new();
        let mut placed: BTreeMap<usize, usize> = BTreeMap::new();
        for (backend, domain, observer, health, what) in steps {
            let key = ObjectKey::new("shop", format!("b{backend}"));
            match what {
                0 => {
                    fleet.leave_out(&key);
                    seen.retain(|(of, _), _| *of != backend);
                }
                1 => {
                    fleet.forget_observer(&observers[observer]);
                    seen.retain(|(_, by), _| *by != observer);
                }
                _ => {
                    fleet.note(&key, domains[domain].as_ref(), &observers[observer], HEALTHS[health]);
                    placed.insert(backend, domain);
                    seen.insert((backend, observer), HEALTHS[health]);
                }
            }
            let mut views: BTreeMap<Observer, BTreeMap<String, bool>> = BTreeMap::new();
            for ((backend, observer), health) in seen.iter().filter(|(_, health)| **health != Health::Unknown) {
                let domain = domains[placed[backend]].as_ref().map_or_else(|| format!("alone {backend}"), |name| format!("named {name}"));
                let works = views.entry(observers[*observer].clone()).or_default().entry(domain).or_default();
                *works |= *health != Health::Unhealthy;
            }
            let suspected = suspects(&views);
            prop_assert_eq!(fleet.suspects(), suspected.clone());
            let counting: Vec<_> = views.iter().filter(|(observer, _)| !suspected.contains(observer)).collect();
            let known: BTreeSet<_> = counting.iter().flat_map(|(_, view)| view.keys()).collect();
            let is_storm = known.len() >= 2 && !counting.iter().any(|(_, view)| view.values().any(|works| *works));
            prop_assert_eq!(fleet.is_storm(), is_storm);
        }
    }
}
