//! Tests of the agents' schema: the committed one is the one of the code, and the operator's documents keep to it.

use std::fs;
use std::path::Path;

use mail_failover_contract::document::schema_json;
use serde_json::{Value, json};

/// The command `UPDATE_SCHEMAS=1 cargo test --test agent_schema` (`make schemas`) writes it anew.
#[test]
fn the_committed_schema_is_what_the_code_generates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/agent.schema.json");
    let generated = schema_json();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == generated,
        "schemas/agent.schema.json differs from the code; run `make schemas` and commit the result"
    );
}

fn document() -> Value {
    json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 0},
        "backends": [{"name": "a", "percent": 100, "standby": true, "host": "relay.example", "port": 587, "tls": {"mode": "StartTLS"}}],
        "breaker": {"consecutive": 3, "firstPauseMilliseconds": 1, "longestPauseMilliseconds": 1},
        "deliveries": {"consecutive": 10, "lastingMilliseconds": 50_000, "cooldownMilliseconds": 1},
        "drill": {"id": "drill-7", "backends": ["a"], "forSeconds": 600},
    })
}

#[test]
fn the_schema_tells_sound_documents_from_others() {
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema_json()).unwrap()).unwrap();
    assert!(schema.is_valid(&document()), "{:?}", schema.validate(&document()));
    // A newer operator's.
    let mut newer = document();
    newer["backends"][0]["dialect"] = json!("LMTP");
    assert!(schema.is_valid(&newer));
    for (pointer, value) in [
        ("/route", json!("orders")),
        ("/decision/transition", json!(-1)),
        ("/backends", json!([])),
        ("/backends/0/percent", json!(101)),
        ("/backends/0/port", json!(0)),
        ("/backends/0/port", json!(65536)),
        ("/backends/0/host", json!("")),
        ("/backends/0/tls/mode", json!("StartTls")),
        ("/backends/0/secret", json!(["a"])),
        ("/breaker/consecutive", json!(0)),
        ("/breaker/firstPauseMilliseconds", json!(0)),
        ("/deliveries/consecutive", json!(0)),
        ("/operators", json!(null)),
        ("/drill/id", json!("")),
        ("/drill/backends", json!([])),
        ("/drill/forSeconds", json!(0)),
    ] {
        let mut broken = document();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap()[key] = value;
        assert!(!schema.is_valid(&broken), "{broken}");
    }
}
