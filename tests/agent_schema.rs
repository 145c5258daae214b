//! The committed schema of the agents' document is the one that the code means.

use std::fs;
use std::path::Path;

use mail_failover_operator::agent::document::{KEY, schema_json};

#[test]
fn the_committed_schema_is_what_the_code_generates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/agent.schema.json");
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == schema_json(),
        "schemas/agent.schema.json, for {KEY}, differs from the code; run `make schemas` and commit the result"
    );
}
