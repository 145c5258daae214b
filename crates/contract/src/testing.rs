//! Example values for tests.

use serde_json::{Value, json};

use crate::document::API_VERSION;

/// A report about two backends, one of them failing.
pub fn example() -> Value {
    json!({
        "apiVersion": API_VERSION, "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "agent": "postfix-0", "process": "k3j2", "sequence": 7,
        "backends": [
            {"name": "ses-eu", "verdict": "Failing", "left": true,
             "failure": {"class": "AccountPaused", "message": "554 Sending paused", "firstMilliseconds": 300, "lastMilliseconds": 20},
             "deliveries": {"sent": 1, "deferred": 2, "bounced": 3, "possibleDuplicates": 4}},
            {"name": "sendgrid", "verdict": "Passing"},
        ],
        "lastSwitch": {"transition": 4, "queueBefore": 120, "queueAfter": 3, "firstDelivery": {"afterMilliseconds": 210, "ageMilliseconds": 5}},
    })
}

/// A token with the claims `{"aud":["mail-failover-operator"],"exp":4102444800}` (2100) and this in the place of its
/// signature, which nobody has signed.
pub fn token(signature: &str) -> String {
    format!("e30.eyJhdWQiOlsibWFpbC1mYWlsb3Zlci1vcGVyYXRvciJdLCJleHAiOjQxMDI0NDQ4MDB9.{signature}")
}
