//! Two installations of the operator over one namespace, in virtual time: both say so, neither takes back what the other
//! one says, and one that is gone is forgotten.

use prometheus_client::registry::Registry;
use serde_json::json;

use super::testing::*;
use mail_failover_core::model::EvidenceClass;

const OURS: &str = "ops/operator";
const THEIRS: &str = "mail/second";

/// Two operators over one store: who has its turn holds it.
struct Both {
    first: TestEnv,
    second: TestEnv,
}

impl Both {
    /// The quickstart, which the first one has led for ten seconds.
    fn new() -> Self {
        let mut first = TestEnv::with(&quickstart());
        first.run(10.0);
        let mut second = TestEnv::new();
        second.now = first.now;
        second.state = state_of_installation(THEIRS, &mut Registry::default(), None);
        Self { first, second }
    }

    /// The second one begins.
    fn begin_second(&mut self) {
        self.pass_on();
        self.second.sync();
        self.second.settle();
        self.pass_on();
    }

    fn pass_on(&mut self) {
        std::mem::swap(&mut self.first.store, &mut self.second.store);
    }

    /// Both run, in turns of a tenth of a second.
    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds * 10 {
            self.first.run(0.1);
            self.pass_on();
            self.second.run(0.1);
            self.pass_on();
        }
    }

    fn conflict(&self) -> Option<String> {
        let conditions = self.first.store.route("orders").conditions;
        conditions
            .into_iter()
            .find(|one| one.type_ == "InstallationConflict" && one.status == "True")
            .map(|one| one.message)
    }

    fn listed(&self) -> Vec<String> {
        self.first.store.route("orders").installations.into_iter().map(|one| one.name).collect()
    }

    /// Number of writes to statuses and outputs in so many seconds.
    fn writes(&mut self, seconds: u32) -> Vec<String> {
        let before = self.first.store.log.len();
        self.run(seconds);
        self.first.store.log[before..].to_vec()
    }
}

#[test]
fn one_installation_stands_in_the_status_and_writes_nothing_more() {
    let mut both = Both::new();
    assert_eq!((both.listed(), both.conflict()), (vec![OURS.to_owned()], None));
    let writes = both.first.store.writes;
    both.first.run(3600.0);
    assert_eq!(both.first.store.writes, writes, "{:?}", both.first.store.log);
}

#[test]
fn two_installations_say_so_and_write_no_more_than_their_signs_of_life() {
    let mut both = Both::new();
    both.begin_second();
    both.run(5);
    let message = both.conflict().expect("a condition");
    assert!(message.contains(&format!("{OURS} and {THEIRS}")) && message.contains("namespace shop"), "{message}");
    assert_eq!(both.listed(), [OURS, THEIRS]);
    let told = both.first.store.events().iter().filter(|reason| *reason == "InstallationConflict").count();
    assert_eq!(told, 1, "one Event, whoever publishes it");
    // A sign of life each half minute, of each.
    let writes = both.writes(600);
    assert!(writes.iter().all(|write| write == "status MailRoute orders"), "{writes:?}");
    assert!((30..=42).contains(&writes.len()), "{}: {writes:?}", writes.len());
    assert!(both.conflict().is_some());
}

#[test]
fn mail_moves_whoever_decides_and_the_two_come_to_rest() {
    let mut both = Both::new();
    both.begin_second();
    both.run(5);
    for env in [&mut both.first, &mut both.second] {
        env.answer("primary", EvidenceClass::NoAnswer);
    }
    both.run(10);
    assert_eq!(both.first.active(), "standby");
    assert_eq!(both.first.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
    assert_eq!(both.first.store.route("orders").history.len(), 1);
    let writes = both.writes(120);
    assert!(writes.len() <= 10, "{writes:?}");
    assert!(both.conflict().is_some());
}

#[test]
fn two_that_see_otherwise_take_nothing_back_from_each_other() {
    for is_first_cut_off in [false, true] {
        let mut both = Both::new();
        both.begin_second();
        both.run(5);
        let cut_off = if is_first_cut_off { &mut both.first } else { &mut both.second };
        for backend in ["primary", "standby"] {
            cut_off.answer(backend, EvidenceClass::NoAnswer);
        }
        both.run(120);
        let writes = both.writes(120);
        assert!(writes.len() <= 12, "{is_first_cut_off}: {writes:?}");
        // The first of the list is believed.
        let is_cut_off_told = both.first.condition("Ready").0 == "False";
        assert_eq!(is_cut_off_told, is_first_cut_off, "{:?}", both.first.condition("Ready"));
    }
}

#[test]
fn an_installation_that_is_gone_is_forgotten() {
    let mut both = Both::new();
    both.begin_second();
    both.run(30);
    assert!(both.conflict().is_some());
    // The second one is uninstalled.
    both.first.run(100.0);
    assert_eq!((both.listed(), both.conflict()), (vec![OURS.to_owned()], None));
    let writes = both.first.store.writes;
    both.first.run(600.0);
    assert_eq!(both.first.store.writes, writes, "{:?}", both.first.store.log);
}

#[test]
fn an_installation_that_has_moved_says_nothing_of_itself() {
    let mut both = Both::new();
    // The first one is gone, and never answers.
    both.begin_second();
    both.pass_on();
    let mut has_conflict = false;
    for _ in 0..100 {
        both.second.run(1.0);
        let conditions = both.second.store.route("orders").conditions;
        has_conflict |= conditions.iter().any(|one| one.type_ == "InstallationConflict");
    }
    assert!(!has_conflict);
    let listed: Vec<_> = both.second.store.route("orders").installations.into_iter().map(|one| one.name).collect();
    assert_eq!(listed, [THEIRS]);
}

#[test]
fn the_one_that_came_second_writes_what_people_read_once_the_first_is_gone() {
    let mut both = Both::new();
    both.begin_second();
    both.run(30);
    both.pass_on();
    both.second.edit("FailoverPolicy", "fast", |object| object["spec"]["failure"]["consecutive"] = json!(5));
    let observed = |env: &TestEnv| {
        env.store.objects[&("FailoverPolicy", "fast".to_owned())]["status"]["observedGeneration"].clone()
    };
    both.second.run(10.0);
    assert_eq!(observed(&both.second), json!(1), "the first one is to write that");
    both.second.run(100.0);
    assert_eq!(observed(&both.second), json!(2));
}
