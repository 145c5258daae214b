//! The part of an observed `ConfigMap` that is kept in memory.
//!
//! Whoever may write `ConfigMaps` in a namespace can give any number of them our label and a megabyte each. Of values
//! that are longer than usual ones a digest is kept, by which one that somebody has changed is still told apart, with
//! what is read of a document for agents.

use k8s_openapi::api::core::v1::ConfigMap;
use ring::digest::{SHA256, digest};

use mail_failover_contract::document::KEY;

/// Keys of all values that are written.
const KEYS: [&str; 9] = [
    KEY,
    "transport",
    "tls_policy",
    "relayhost",
    "SENDING_BACKEND",
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_TLS",
    "SMTP_TLS_SERVER_NAME",
];
/// Longest document for agents that is kept as it is, in bytes.
// Those of a few backends have less.
const LONGEST_DOCUMENT: usize = 16 * 1024;
/// Longest other value that is kept as it is, in bytes.
// The longest names a host twice.
const LONGEST_VALUE: usize = 1024;
/// Beginning of what is kept of a longer value.
const MARK: &str = "{\"digest\":";

/// Drops what nothing reads of a `ConfigMap`, and keeps digests of long values. It may be done once only.
pub fn strip_config_map(config_map: &mut ConfigMap) {
    config_map.binary_data = None;
    let Some(data) = &mut config_map.data else { return };
    data.retain(|key, _| KEYS.contains(&key.as_str()));
    for (key, value) in data {
        // A digest that somebody has written is not one that was made here.
        if is_long(key, value) || value.starts_with(MARK) {
            *value = digested(value);
        }
    }
}

/// Returns true if this is what is kept of a value.
pub(super) fn is_kept_of(key: &str, value: &str, kept: &str) -> bool {
    kept == value || (is_long(key, value) && kept == digested(value))
}

fn is_long(key: &str, value: &str) -> bool {
    value.len() > if key == KEY { LONGEST_DOCUMENT } else { LONGEST_VALUE }
}

/// The digest of a value, as a document with the fields that are read of one.
fn digested(value: &str) -> String {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Told {
        agents: Option<u32>,
        accounts: Vec<serde::de::IgnoredAny>,
    }
    let Told { agents, accounts } = serde_json::from_str(value).unwrap_or_default();
    let agents = agents.map_or_else(|| "null".to_owned(), |agents| agents.to_string());
    let accounts = if accounts.is_empty() { "" } else { "{}" };
    let digest = digest(&SHA256, value.as_bytes());
    format!("{MARK}\"{digest:?}\",\"agents\":{agents},\"accounts\":[{accounts}]}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(key: &str, value: &str) -> Option<String> {
        let data = [(key.to_owned(), value.to_owned())].into();
        let mut config_map = ConfigMap { data: Some(data), ..ConfigMap::default() };
        strip_config_map(&mut config_map);
        config_map.data?.remove(key)
    }

    fn document(length: usize) -> String {
        let noise = "x".repeat(length);
        format!(r#"{{"apiVersion":"v1","agents":3,"accounts":[{{"name":"a"}},{{"name":"b"}}],"noise":"{noise}"}}"#)
    }

    #[test]
    fn what_is_short_is_kept_as_it_is_and_what_nobody_reads_is_dropped() {
        for key in KEYS {
            assert_eq!(stripped(key, "value").as_deref(), Some("value"), "{key}");
        }
        assert_eq!(stripped("noise", "value"), None);
        let short = document(1000);
        assert_eq!(stripped(KEY, &short).as_deref(), Some(short.as_str()));
    }

    #[test]
    fn of_what_is_long_a_digest_is_kept_with_what_is_read_of_a_document() {
        for (key, value) in [(KEY, document(250_000)), ("transport", "x".repeat(250_000))] {
            let kept = stripped(key, &value).unwrap();
            assert!(kept.len() < 200, "{kept}");
            assert!(is_kept_of(key, &value, &kept));
            assert!(!is_kept_of(key, &format!("{value} "), &kept), "another value has another digest");
        }
        let kept: serde_json::Value = serde_json::from_str(&stripped(KEY, &document(250_000)).unwrap()).unwrap();
        assert_eq!((kept["agents"].as_u64(), kept["accounts"].as_array().map(Vec::len)), (Some(3), Some(1)));
    }

    #[test]
    fn a_digest_that_somebody_writes_does_not_pass_for_the_document() {
        let ours = document(250_000);
        let forged = stripped(KEY, &ours).unwrap();
        assert!(!is_kept_of(KEY, &ours, &stripped(KEY, &forged).unwrap()));
    }
}
