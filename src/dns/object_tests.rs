use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::dns::DnsAccess;
use mail_failover_core::model::{DnsBackendRecords, DnsOutput, DnsProvider, DnsRecordType, ObjectKey};

fn object(goes_with_route: bool) -> DnsEndpointObject {
    DnsEndpointObject {
        name: "bounce".into(),
        labels: [("team".to_owned(), "mail".to_owned())].into(),
        annotations: BTreeMap::new(),
        goes_with_route,
    }
}

fn uid() -> Uid {
    Uid::parse(Some("route-uid")).unwrap()
}

fn set(name: &str, record_type: DnsRecordType, data: &[&str]) -> DnsRecordSet {
    let data = data.iter().map(|text| DnsData::parse(record_type, text).unwrap()).collect();
    DnsRecordSet { name: name.into(), record_type, data }
}

fn request(route: &str, object: &DnsEndpointObject) -> DnsRequest {
    let sets = vec![
        set("bounce.shop.example", DnsRecordType::Mx, &["10 mx.ses.example", "20 mx.other.example"]),
        set("bounce.shop.example", DnsRecordType::Txt, &["v=spf1 -all"]),
        set("em.shop.example", DnsRecordType::Cname, &[]),
    ];
    let output = DnsOutput {
        zone: "shop.example".into(),
        name: "bounce.shop.example".into(),
        backends: vec![DnsBackendRecords { backend: "ses".into(), sets }],
        ttl: 60,
        provider: DnsProvider::ExternalDns(object.clone()),
        authorities: vec![],
        timeout: Duration::from_secs(5),
        is_awaited: false,
    };
    DnsRequest {
        output: Arc::new(output),
        backend: "ses".into(),
        owner: Owner { operator: "eu".into(), route: ObjectKey::new("shop", route) },
        access: DnsAccess::Endpoint(object.clone(), uid()),
    }
}

fn observed(json: &Value) -> DynamicObject {
    serde_json::from_value(json.clone()).unwrap()
}

#[test]
fn records_are_written_as_external_dns_reads_them() {
    let object = object(false);
    let wanted = wanted(&request("orders", &object), &object, &uid());
    let endpoints = json!([
        { "dnsName": "bounce.shop.example", "recordType": "MX", "recordTTL": 60,
          "targets": ["10 mx.ses.example", "20 mx.other.example"] },
        { "dnsName": "bounce.shop.example", "recordType": "TXT", "recordTTL": 60, "targets": ["v=spf1 -all"] },
    ]);
    assert_eq!(wanted["spec"]["endpoints"], endpoints);
    assert_eq!(wanted["metadata"]["labels"]["team"], "mail");
    assert_eq!(wanted["metadata"]["annotations"]["mailfailover.io/sending-backend"], "ses");
    assert_eq!(wanted["metadata"].get("ownerReferences"), None, "the records outlive the route");
}

#[test]
fn an_object_that_is_as_it_should_be_is_left_alone_and_any_difference_is_put_right() {
    let object = object(true);
    let request = request("orders", &object);
    let wanted = wanted(&request, &object, &uid());
    assert_eq!(plan(&request, &wanted, &observed(&wanted)), Ok(EndpointPlan::InPlace));
    let mut more = wanted.clone();
    more["metadata"]["labels"]["theirs"] = "kept".into();
    assert_eq!(plan(&request, &wanted, &observed(&more)), Ok(EndpointPlan::InPlace), "what others add is theirs");
    for (pointer, value) in [
        ("/spec/endpoints/0/targets", json!(["10 mx.elsewhere.example"])),
        ("/spec/endpoints/0/recordTTL", json!(300)),
        ("/spec", json!({})),
        ("/metadata/labels/team", json!("other")),
        ("/metadata/ownerReferences", json!([])),
    ] {
        let mut present = wanted.clone();
        *present.pointer_mut(pointer).unwrap() = value;
        assert_eq!(plan(&request, &wanted, &observed(&present)), Ok(EndpointPlan::Apply), "{pointer}");
    }
    assert_eq!(plan(&request, &wanted, &observed(&claim(&request, &object))), Ok(EndpointPlan::Apply));
}

#[test]
fn the_object_of_another_route_and_that_of_nobody_are_left_alone() {
    let object = object(false);
    let (mine, other) = (request("orders", &object), request("news", &object));
    let wanted = wanted(&mine, &object, &uid());
    let error = plan(&mine, &wanted, &observed(&claim(&other, &object))).unwrap_err();
    assert!(error.to_string().contains("belongs to MailRoute news of the operator eu"), "{error}");
    let mut foreign = claim(&mine, &object);
    foreign["metadata"]["labels"] = json!({});
    let error = plan(&mine, &wanted, &observed(&foreign)).unwrap_err();
    assert_eq!(error, ForeignEndpoint::Unknown("bounce".to_owned()));
}

#[test]
fn an_object_is_handed_over_by_the_annotations_that_the_conflict_names() {
    let object = object(false);
    let (former, next) = (request("orders", &object), request("shop-orders", &object));
    let mut present = wanted(&former, &object, &uid());
    let wanted = wanted(&next, &object, &uid());
    let told = plan(&next, &wanted, &observed(&present)).unwrap_err().to_string();
    let command = "kubectl -n shop annotate --overwrite dnsendpoint bounce ";
    let (_, annotations) = told.split_once(command).unwrap();
    for annotation in annotations.split(' ') {
        let (key, value) = annotation.split_once('=').unwrap();
        present["metadata"]["annotations"][key] = value.into();
    }
    assert_eq!(plan(&next, &wanted, &observed(&present)), Ok(EndpointPlan::InPlace), "the records stay as they are");
    assert!(plan(&former, &wanted, &observed(&present)).is_err(), "the former route leads it no more");
}

#[test]
fn external_dns_has_taken_an_object_over_once_it_has_seen_its_generation() {
    let mut present = claim(&request("orders", &object(false)), &object(false));
    present["metadata"]["generation"] = 2.into();
    assert!(untaken(&observed(&present)).is_some_and(|text| text.contains("observedGeneration 0 of 2")));
    present["status"] = json!({ "observedGeneration": 1 });
    assert!(untaken(&observed(&present)).is_some());
    present["status"]["observedGeneration"] = 2.into();
    assert_eq!(untaken(&observed(&present)), None);
}
