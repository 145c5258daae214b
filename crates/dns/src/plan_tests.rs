use std::time::Duration;

use super::*;
use mail_failover_core::model::{DnsBackendRecords, DnsProvider, DnsUpdates, ObjectKey};

const NAME: &str = "bounce.shop.example";

fn leading_to(backend: &str) -> DnsBackendRecords {
    let (mx, alias) = (format!("mx.{backend}.example").into(), format!("{backend}.example").into());
    let sets = vec![
        DnsRecordSet { name: NAME.into(), record_type: DnsRecordType::Mx, data: vec![DnsData::Mx(10, mx)] },
        DnsRecordSet {
            name: "em.shop.example".into(),
            record_type: DnsRecordType::Cname,
            data: vec![DnsData::Cname(alias)],
        },
    ];
    DnsBackendRecords { backend: backend.into(), sets }
}

fn output() -> DnsOutput {
    DnsOutput {
        zone: "shop.example".into(),
        name: NAME.into(),
        backends: vec![leading_to("a"), leading_to("b")],
        ttl: 60,
        provider: DnsProvider::Rfc2136(DnsUpdates { servers: vec![], secret: "tsig".into() }),
        authorities: vec![],
        timeout: Duration::from_secs(5),
        is_awaited: false,
    }
}

fn owner() -> Owner {
    Owner { operator: "eu".into(), route: ObjectKey::new("shop", "orders") }
}

fn records(name: &str, ttl: u32, data: &[DnsData]) -> Vec<Record> {
    data.iter().map(|data| Record::from_rdata(wire_name(name).unwrap(), ttl, wire_data(data).unwrap())).collect()
}

fn mark_at(name: &str, owner: Owner, sequence: u64) -> Vec<Record> {
    records(name, 60, &[DnsData::Txt(Mark { owner, sequence }.to_string().into())])
}

fn marked(owner: Owner, sequence: u64) -> Vec<Record> {
    mark_at("_mail-failover-mx.bounce.shop.example", owner, sequence)
}

/// The zone as it leads to a backend after so many writes.
fn led_to(backend: &str, sequence: u64) -> Vec<ObservedSet> {
    let output = output();
    let sets = output.sets_of(backend).unwrap();
    let seen = sets.iter().map(|set| ObservedSet {
        records: records(&set.name, 60, &set.data),
        marks: mark_at(&mark_name(&set.name, set.record_type), owner(), sequence),
        alias: None,
    });
    seen.collect()
}

fn written(plan: Plan) -> Update {
    let Plan::Write(update) = plan else { panic!("{plan:?}") };
    update
}

fn conflict(plan: &Plan) -> String {
    let Plan::Conflict(conflicts) = plan else { panic!("{plan:?}") };
    conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Records as people read them: name, class, type, data.
fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(line).collect()
}

fn line(record: &Record) -> String {
    let data = data(record).map(|data| data.to_string()).unwrap_or_default();
    let name = super::super::record::name_text(&record.name);
    format!("{name} {} {} {} {data}", record.ttl, record.dns_class, record.record_type()).trim_end().to_owned()
}

#[test]
fn a_zone_that_leads_where_it_should_is_not_written() {
    assert!(matches!(plan(&output(), "a", &owner(), &led_to("a", 3)).unwrap(), Plan::InPlace));
}

#[test]
fn records_are_swapped_on_condition_of_what_was_seen_with_the_next_number() {
    let update = written(plan(&output(), "b", &owner(), &led_to("a", 3)).unwrap());
    let mark = |sequence: u64| Mark { owner: owner(), sequence };
    assert_eq!(
        lines(&update.prerequisites),
        [
            "bounce.shop.example 0 IN MX 10 mx.a.example".to_owned(),
            format!("_mail-failover-mx.bounce.shop.example 0 IN TXT \"{}\"", mark(3)),
            "em.shop.example 0 IN CNAME a.example".to_owned(),
            format!("_mail-failover-cname.em.shop.example 0 IN TXT \"{}\"", mark(3)),
        ]
    );
    assert_eq!(
        lines(&update.updates),
        [
            "bounce.shop.example 0 ANY MX".to_owned(),
            "bounce.shop.example 60 IN MX 10 mx.b.example".to_owned(),
            "_mail-failover-mx.bounce.shop.example 0 ANY TXT".to_owned(),
            format!("_mail-failover-mx.bounce.shop.example 60 IN TXT \"{}\"", mark(4)),
            "em.shop.example 0 ANY CNAME".to_owned(),
            "em.shop.example 60 IN CNAME b.example".to_owned(),
            "_mail-failover-cname.em.shop.example 0 ANY TXT".to_owned(),
            format!("_mail-failover-cname.em.shop.example 60 IN TXT \"{}\"", mark(4)),
        ]
    );
}

#[test]
fn what_is_not_there_is_made_only_if_it_is_still_not_there() {
    let update = written(plan(&output(), "a", &owner(), &[ObservedSet::default(), ObservedSet::default()]).unwrap());
    assert_eq!(
        lines(&update.prerequisites),
        [
            "bounce.shop.example 0 NONE MX",
            "_mail-failover-mx.bounce.shop.example 0 NONE TXT",
            // Nothing at all at the name of an alias.
            "em.shop.example 0 NONE ANY",
            "_mail-failover-cname.em.shop.example 0 NONE TXT",
        ]
    );
    assert_eq!(update.updates.len(), 4);
}

#[test]
fn what_somebody_has_changed_or_deleted_is_put_right() {
    let mut changed = led_to("a", 3);
    changed[0].records = records(NAME, 60, &[DnsData::Mx(10, "mx.elsewhere.example".into())]);
    let mut longer = led_to("a", 3);
    longer[0].records = records(NAME, 3600, &[DnsData::Mx(10, "mx.a.example".into())]);
    let mut deleted = led_to("a", 3);
    deleted[0].records = vec![];
    for seen in [changed, longer, deleted] {
        let update = written(plan(&output(), "a", &owner(), &seen).unwrap());
        assert!(lines(&update.updates).contains(&"bounce.shop.example 60 IN MX 10 mx.a.example".to_owned()));
        assert!(!lines(&update.updates).iter().any(|line| line.starts_with("em.shop.example")), "{update:?}");
    }
}

#[test]
fn records_of_others_are_left_alone_and_the_owner_is_named() {
    let other = Owner { operator: "eu".into(), route: ObjectKey::new("mail", "newsletter") };
    let mut theirs = led_to("a", 3);
    theirs[0].marks = marked(other, 9);
    let told = conflict(&plan(&output(), "a", &owner(), &theirs).unwrap());
    assert!(told.contains("belongs to MailRoute mail/newsletter of the operator eu"), "{told}");
    let elsewhere = Owner { operator: "us".into(), route: ObjectKey::new("shop", "orders") };
    theirs[0].marks = marked(elsewhere, 9);
    assert!(conflict(&plan(&output(), "a", &owner(), &theirs).unwrap()).contains("of the operator us"));
    let mut unmarked = led_to("a", 3);
    unmarked[0].marks = vec![];
    unmarked[0].records = records(NAME, 60, &[DnsData::Mx(10, "mx.elsewhere.example".into())]);
    let told = conflict(&plan(&output(), "a", &owner(), &unmarked).unwrap());
    assert!(told.contains("bounce.shop.example MX exists (10 mx.elsewhere.example)"), "{told}");
    let mut text = led_to("a", 3);
    text[0].marks = records("_mail-failover-mx.bounce.shop.example", 60, &[DnsData::Txt("hello".into())]);
    assert!(conflict(&plan(&output(), "a", &owner(), &text).unwrap()).contains("holds something else (hello)"));
    let mut alias = led_to("a", 3);
    alias[0].alias = Some("cdn.example".to_owned());
    assert!(conflict(&plan(&output(), "a", &owner(), &alias).unwrap()).contains("is an alias of cdn.example"));
}

#[test]
fn an_attempt_that_stopped_halfway_is_taken_up_again() {
    let mut seen = led_to("a", 7);
    // Where records change one by one, both numbers stand there for a while.
    let older = marked(owner(), 6);
    seen[0].marks.splice(0..0, older);
    let update = written(plan(&output(), "a", &owner(), &seen).unwrap());
    let mark = update.changes().iter().find(|one| one.record_type == DnsRecordType::Txt).unwrap();
    assert!(mark.data[0].to_string().contains("sequence=8"), "{mark:?}");
    seen[0].marks.extend(marked(Owner { operator: "us".into(), ..owner() }, 9));
    let told = conflict(&plan(&output(), "a", &owner(), &seen).unwrap());
    assert!(told.contains("of the operator us"), "{told}");
}

#[test]
fn records_that_say_already_what_would_be_written_for_a_backend_are_taken_over() {
    // The zone has led to the other backend since before there was an operator, with a long TTL.
    let mut before = led_to("b", 0);
    for seen in &mut before {
        seen.marks = vec![];
        seen.records.iter_mut().for_each(|record| record.ttl = 3600);
    }
    let update = written(plan(&output(), "a", &owner(), &before).unwrap());
    assert!(lines(&update.prerequisites).contains(&"bounce.shop.example 0 IN MX 10 mx.b.example".to_owned()));
    assert!(lines(&update.updates).contains(&"bounce.shop.example 60 IN MX 10 mx.a.example".to_owned()));
}

#[test]
fn records_are_summed_up_in_one_line() {
    assert_eq!(summary(&output(), "a"), "MX 10 mx.a.example; em.shop.example CNAME a.example; TTL 60");
    assert_eq!(told(&led_to("a", 1)[0].records), "10 mx.a.example");
    assert_eq!(told([]), "nothing");
}

#[test]
fn what_a_wildcard_puts_there_is_nobodys_and_required_to_be_absent() {
    let wild = |name: &str| records(name, 300, &[DnsData::Txt("v=spf1 -all".into())]);
    let mark = "_mail-failover-mx.bounce.shop.example";
    let mx = [DnsData::Mx(5, "mx.parking.example".into())];
    let parked =
        ObservedSet { records: records(NAME, 300, &mx), marks: wild(mark), alias: Some("parking.example".to_owned()) };
    let beside = ObservedSet {
        records: records("none.shop.example", 299, &mx),
        marks: wild("none.bounce.shop.example"),
        alias: Some("parking.example".to_owned()),
    };
    let refused = plan(&output(), "a", &owner(), &[parked.clone(), ObservedSet::default()]).unwrap();
    assert!(conflict(&refused).contains("is an alias of parking.example"));
    let seen = [parked.without_wildcards(&beside), ObservedSet::default()];
    let update = written(plan(&output(), "a", &owner(), &seen).unwrap());
    assert_eq!(
        lines(&update.prerequisites)[..2],
        ["bounce.shop.example 0 NONE MX", "_mail-failover-mx.bounce.shop.example 0 NONE TXT"]
    );
    // Beside a wildcard there may be what somebody has written.
    let theirs = ObservedSet { marks: records(mark, 60, &[DnsData::Txt("theirs".into())]), ..ObservedSet::default() };
    let seen = [theirs.without_wildcards(&beside), ObservedSet::default()];
    let refused = conflict(&plan(&output(), "a", &owner(), &seen).unwrap());
    assert!(refused.contains("holds something else (theirs)"), "{refused}");
}

#[test]
fn the_name_beside_has_the_same_parent_and_the_zone_has_none() {
    for (name, beside) in [
        ("bounce.shop.example", Some("none.shop.example")),
        ("_mail-failover-mx.shop.example", Some("none.shop.example")),
        ("shop.example", None),
    ] {
        assert_eq!(name_beside(name, "shop.example", "none").as_deref(), beside, "{name}");
    }
}
