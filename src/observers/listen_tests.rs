use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::super::report::tests::{key, verdicts};
use super::super::{BackendVerdicts, Namespaces};
use super::*;
use mail_failover_core::engine::Health;

const LASTS: Duration = Duration::from_secs(15);
/// A moment before a Lease lapses.
const JUST_BEFORE: Duration = Duration::from_millis(14_999);

fn settings() -> Settings {
    Settings {
        namespace: "ops".to_owned(),
        lease_name: "mail".to_owned(),
        identity: "a".to_owned(),
        lease_duration: LASTS,
        reports: None,
    }
}

fn lease(identity: &str, version: u32, report: &str) -> Guarded<Lease> {
    let name = name::of_observer("mail", identity);
    let object = json!({
        "metadata": {"namespace": "ops", "name": name, "uid": identity, "resourceVersion": version.to_string(),
            "annotations": {REPORT_ANNOTATION: report}},
        "spec": {"holderIdentity": identity, "leaseDurationSeconds": 15},
    });
    serde_json::from_value(object).expect("a lease")
}

fn changed(identity: &str, version: u32, report: &str) -> Event<Guarded<Lease>> {
    Event::Apply(lease(identity, version, report))
}

fn told(is_complete: bool, names: &[&str]) -> String {
    let reported: BackendVerdicts = names.iter().map(|name| (key(name), verdicts("3/3", Health::Unhealthy))).collect();
    ObserverReport::of(is_complete.then(Namespaces::new).as_ref(), &reported, None).0
}

struct Heard {
    tracker: PeerTracker,
    start: Instant,
    registry: Registry,
}

impl Heard {
    fn new() -> Self {
        let (mut registry, start) = (Registry::default(), Instant::now());
        let tracker = PeerTracker::new(start, &settings(), Metrics::new(&mut registry));
        Self { tracker, start, registry }
    }

    /// Reports the events that follow, one word each: `listed`, `b(ses)` or `-b`.
    fn take(&mut self, after: Duration, event: Event<Guarded<Lease>>) -> String {
        self.tracker.handle(self.start + after, event);
        words(&self.tracker.poll().events)
    }

    /// Reports the events once time has passed, and the Leases that should be deleted.
    fn wake(&mut self, after: Duration) -> (String, Vec<Arc<str>>) {
        self.tracker.handle_timeout(self.start + after);
        let PeerActions { events, garbage } = self.tracker.poll();
        (words(&events), garbage.into_iter().map(|(name, _)| name).collect())
    }

    fn count(&self, state: &str) -> u32 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("metrics are encodable");
        let prefix = format!("mail_failover_observers{{state=\"{state}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok()).expect("it is counted")
    }
}

fn words(peer_events: &[PeerEvent]) -> String {
    let word = |hearing: &PeerEvent| match hearing {
        PeerEvent::Listed => "listed".to_owned(),
        PeerEvent::Report { observer, reported, identity: _, known_up_to: _, silent: _ } => {
            let names: Vec<_> = reported.keys().map(|key| key.name.to_string()).collect();
            format!("{observer}({})", names.join(","))
        }
        PeerEvent::TakesReports { observer, endpoint } => {
            let address = endpoint.as_ref().map_or("nowhere", |endpoint| &endpoint.address);
            format!("{observer} at {address}")
        }
        PeerEvent::Lost { observer } => format!("-{observer}"),
    };
    peer_events.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_what_is_new_is_said_and_only_of_those_that_count() {
    let mut heard = Heard::new();
    let second = Duration::from_secs(1);
    let (nothing, ses) = (told(true, &[]), told(true, &["ses"]));
    let truncated = r#"{"complete":true,"truncated":true}"#;
    for (what, event, said, state) in [
        ("a list begins", Event::Init, "", ""),
        ("one who has not seen everything yet", Event::InitApply(lease("b", 1, &told(false, &[]))), "", "incomplete"),
        ("it ends", Event::InitDone, "listed", "incomplete"),
        ("our own", changed("a", 2, &ses), "", "incomplete"),
        ("it has seen everything", changed("b", 3, &nothing), "b()", "heard"),
        ("it lives", changed("b", 4, &nothing), "", "heard"),
        ("it sees one fail", changed("b", 5, &ses), "b(ses)", "heard"),
        ("it sees too much fail", changed("b", 6, truncated), "-b", "truncated"),
        ("still", changed("b", 7, truncated), "", "truncated"),
        ("not any more", changed("b", 8, &nothing), "b()", "heard"),
        ("nonsense", changed("b", 9, "{"), "-b", "malformed"),
        ("no report", changed("b", 10, ""), "", "malformed"),
        ("it began anew", changed("b", 11, &told(false, &[])), "", "incomplete"),
        ("and has seen everything", changed("b", 12, &ses), "b(ses)", "heard"),
        ("the same in a new list", Event::Init, "", "heard"),
        ("the same in a new list", Event::InitApply(lease("b", 12, &ses)), "", "heard"),
        ("the list ends", Event::InitDone, "", "heard"),
        ("a list without it", Event::Init, "", "heard"),
        ("it ends", Event::InitDone, "-b", ""),
        ("it is back", changed("b", 13, &nothing), "b()", "heard"),
        ("it is deleted", Event::Delete(lease("b", 13, &nothing)), "-b", ""),
    ] {
        assert_eq!(heard.take(second, event), said, "{what}");
        for known in PeerStatus::ALL {
            let expected = u32::from(known.as_str() == state);
            assert_eq!(heard.count(known.as_str()), expected, "{what}: {known:?}");
        }
    }
}

#[test]
fn who_is_silent_does_not_count_until_it_speaks_again_though_it_says_the_same() {
    let mut heard = Heard::new();
    let ses = told(true, &["ses"]);
    heard.take(Duration::ZERO, Event::Init);
    heard.take(Duration::ZERO, Event::InitDone);
    assert_eq!(heard.take(Duration::ZERO, changed("b", 1, &ses)), "b(ses)");
    assert_eq!(heard.tracker.next_timeout(), Some(heard.start + LASTS));
    assert_eq!(heard.wake(JUST_BEFORE).0, "");
    assert_eq!(heard.wake(LASTS).0, "-b");
    assert_eq!(heard.count("silent"), 1);
    assert_eq!(heard.wake(2 * LASTS).0, "", "it is said once");
    assert_eq!(heard.take(3 * LASTS, changed("b", 2, &ses)), "b(ses)");
    assert_eq!(heard.count("silent"), 0);
    assert_eq!(heard.wake(4 * LASTS).0, "-b");
    assert_eq!(heard.take(5 * LASTS, Event::Delete(lease("b", 2, &ses))), "", "it did not count");
}

#[test]
fn what_the_dead_left_is_garbage_if_it_is_named_like_an_observer() {
    let mut heard = Heard::new();
    let foreign: Value =
        json!({"metadata": {"namespace": "ops", "name": "payroll", "uid": "u", "resourceVersion": "1"}});
    heard.take(Duration::ZERO, Event::Apply(serde_json::from_value(foreign).expect("a lease")));
    heard.take(Duration::ZERO, changed("b", 1, &told(true, &[])));
    assert_eq!(heard.wake(9 * LASTS + JUST_BEFORE).1, Vec::<Arc<str>>::new());
    assert_eq!(heard.wake(10 * LASTS).1, [Arc::from("mail-observer-b")]);
}

#[test]
fn nobody_speaks_with_another_ones_voice() {
    let mut heard = Heard::new();
    let mut stolen = lease("b", 1, &told(true, &[]));
    if let Ok(stolen) = &mut stolen.0 {
        stolen.metadata.name = Some("mail-observer-b2".to_owned());
    }
    assert_eq!(heard.take(Duration::ZERO, Event::Apply(stolen)), "");
    assert_eq!(heard.count("malformed"), 1);
    assert_eq!(heard.take(Duration::ZERO, changed("b", 2, &told(true, &[]))), "b()");
}

#[test]
fn who_cannot_list_the_others_waits_for_a_lease_duration_and_goes_on_without_them() {
    let mut heard = Heard::new();
    assert_eq!(heard.wake(JUST_BEFORE).0, "");
    assert_eq!(heard.wake(LASTS).0, "listed");
    assert_eq!(heard.wake(2 * LASTS).0, "", "it is said once");
    heard.take(2 * LASTS, Event::Init);
    assert_eq!(heard.take(2 * LASTS, Event::InitApply(lease("b", 1, &told(true, &[])))), "b()");
    assert_eq!(heard.take(2 * LASTS, Event::InitDone), "");
}

#[test]
fn more_observers_than_are_kept_are_ignored() {
    let mut heard = Heard::new();
    for number in 0..super::super::liveness::MAX_OBSERVERS + 2 {
        heard.take(Duration::ZERO, changed(&format!("o{number}"), 1, &told(true, &[])));
    }
    assert_eq!(heard.count("heard"), 64);
    assert_eq!(heard.tracker.reports.len(), 64);
}

#[test]
fn where_reports_are_taken_holds_as_long_as_there_is_the_lease() {
    let mut heard = Heard::new();
    let taking = |version, address: Option<&str>| {
        let mut lease = lease("b", version, "");
        if let (Ok(lease), Some(address)) = (&mut lease.0, address) {
            let endpoint = json!({"address": address, "certificateSha256": "0a".repeat(32)});
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(ENDPOINT_ANNOTATION.to_owned(), endpoint.to_string());
        }
        lease
    };
    let at = |address| Some(address).filter(|address: &&str| !address.is_empty());
    heard.take(Duration::ZERO, Event::Init);
    // It does not count, for it says nothing of backends.
    assert_eq!(heard.take(Duration::ZERO, Event::InitApply(taking(1, at("192.0.2.1:8443")))), "b at 192.0.2.1:8443");
    assert_eq!(heard.take(Duration::ZERO, Event::InitDone), "listed");
    assert_eq!(heard.take(LASTS / 2, Event::Apply(taking(2, at("192.0.2.1:8443")))), "", "a renewal is no news");
    assert_eq!(heard.wake(9 * LASTS).0, "", "nor is its silence");
    assert_eq!(heard.take(9 * LASTS, Event::Apply(taking(3, at("192.0.2.9:8443")))), "b at 192.0.2.9:8443");
    assert_eq!(heard.take(9 * LASTS, Event::Apply(taking(4, at("localhost:8443")))), "b at nowhere");
    assert_eq!(heard.take(9 * LASTS, Event::Apply(taking(5, at("192.0.2.9:8443")))), "b at 192.0.2.9:8443");
    assert_eq!(heard.take(9 * LASTS, Event::Delete(taking(5, None))), "b at nowhere");
    assert_eq!(heard.take(9 * LASTS, Event::Apply(taking(6, at("192.0.2.9:8443")))), "b at 192.0.2.9:8443");
    heard.take(9 * LASTS, Event::Init);
    assert_eq!(heard.take(9 * LASTS, Event::InitDone), "b at nowhere", "it has vanished");
}
