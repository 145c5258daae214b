use serde_json::{Value, json};

use super::*;

/// A route with these fields beside what it must have.
fn parsed(fields: &Value) -> Result<Route, Rejection> {
    let mut spec = json!({"backends": [{"name": "a"}], "outputs": [{"configMap": {"name": "c", "format": "Env"}}]});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    route(&serde_json::from_value(spec).unwrap())
}

fn names(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}

#[test]
fn what_a_route_leaves_out_restricts_nothing() {
    let route = parsed(&json!({})).unwrap();
    assert_eq!(route.strategy, Strategy::ActivePassive);
    assert_eq!(route.backends, [Member { name: "a".into(), weight: 100 }]);
    assert_eq!(route.traffic, Traffic::default());
    assert!(route.jurisdictions.is_empty() && route.preferred_regions.is_empty() && route.sender_domains.is_empty());
}

#[test]
fn what_a_route_says_is_taken_at_its_word() {
    let fields = json!({
        "strategy": "ActiveActive",
        "backends": [{"name": "b", "weight": 1000}, {"name": "a"}],
        "traffic": {"messagesPerDay": 20000, "peakPerSecond": 5},
        "residency": {"jurisdictions": ["EU", "CH"]},
        "preferredRegions": ["eu-west-1", "EU-west-2"],
    });
    let route = parsed(&fields).unwrap();
    assert_eq!(route.strategy, Strategy::ActiveActive);
    assert_eq!(route.backends, [Member { name: "b".into(), weight: 1000 }, Member { name: "a".into(), weight: 100 }]);
    assert_eq!(route.traffic, Traffic { messages_per_day: Some(20_000), peak_per_second: Some(5) });
    assert_eq!(route.jurisdictions, names(&["EU", "CH"]));
    assert_eq!(route.preferred_regions, names(&["eu-west-1", "EU-west-2"]));
}

#[test]
fn messages_have_alternates_unless_the_route_says_no() {
    for (messages, expected) in
        [(json!({}), true), (json!({"alternates": true}), true), (json!({"alternates": false}), false)]
    {
        assert_eq!(parsed(&json!({"messages": messages})).unwrap().alternates, expected, "{messages}");
    }
    assert!(parsed(&json!({})).unwrap().alternates);
}

#[test]
fn agents_report_as_the_default_service_account_unless_another_is_named() {
    let outputs = json!([{"agent": {"configMap": "x"}}, {"agent": {"configMap": "y", "serviceAccountName": "mta"}}]);
    let agents = parsed(&json!({"outputs": outputs})).unwrap().agents;
    let agent = |name: &str, account: &str| AgentOutput { config_map: name.into(), service_account: account.into() };
    assert_eq!(agents, [agent("x", "default"), agent("y", "mta")]);
}

#[test]
fn sender_domains_are_compared_regardless_of_case_and_counted_once() {
    let route = parsed(&json!({"senderDomains": ["Shop.Example", "news.example", "shop.EXAMPLE"]})).unwrap();
    assert_eq!(route.sender_domains, names(&["shop.example", "news.example"]));
}

#[test]
fn what_an_old_schema_lets_pass_is_rejected_all_the_same() {
    let rejected = [
        (json!({"backends": []}), "spec.backends: at least one backend is needed"),
        (json!({"backends": [{"name": "a"}, {"name": "a"}]}), "spec.backends[].name: a is not unique"),
        (json!({"backends": [{"name": "a", "weight": 0}]}), "spec.backends[].weight: 0 is not between 1 and 1000"),
        (json!({"traffic": {"messagesPerDay": 0}}), "spec.traffic.messagesPerDay: 0 is not between 1 and 1000000000"),
        (json!({"traffic": {"peakPerSecond": -1}}), "spec.traffic.peakPerSecond: -1 is not between 1 and 1000000"),
        (
            json!({"residency": {"jurisdictions": []}}),
            "spec.residency.jurisdictions: at least one is needed; leave spec.residency out if any will do",
        ),
    ];
    for (fields, expected) in rejected {
        assert_eq!(parsed(&fields), Err(Rejection { reason: "InvalidSpec", message: expected.to_owned() }), "{fields}");
    }
}
