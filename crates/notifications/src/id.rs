//! Ids that follow from what they name, so that the same thing has the same id after a restart.

use std::fmt::Write as _;

use mail_failover_core::model::{ObjectKey, Occasion, Timestamp, Uid};
use ring::digest::{Context, SHA256};

/// Prefix of the ids that leave the cluster.
const PREFIX: &str = "mf";
/// Bytes of a digest that an id holds.
const DIGEST_BYTES: usize = 8;

/// The id of one notification of one route.
pub fn of_route(
    uid: &Uid,
    occasion: Occasion,
    about: Option<Occasion>,
    backend: Option<&str>,
    at: Timestamp,
) -> String {
    let at = at.as_micros().to_string();
    let about = about.map_or("", Occasion::as_str);
    digest(&[uid.as_str(), occasion.as_str(), about, backend.unwrap_or_default(), &at])
}

/// The id of a message that tells these notifications, in any order.
// ADR-0145: Routes say what is to be told, and a policy's status holds the messages.
pub fn of_message<'a>(members: impl IntoIterator<Item = &'a str>) -> String {
    let mut members: Vec<_> = members.into_iter().collect();
    members.sort_unstable();
    format!("{PREFIX}-{}", digest(&members))
}

/// The id of what begins and ends for the routes of a policy, the same each time that it begins.
// ADR-0147: What begins and ends has one key, each time that it begins.
pub fn of_incident(policy: &ObjectKey, about: Occasion, backend: Option<&str>) -> String {
    format!("{PREFIX}-{}", digest(&[&policy.namespace, &policy.name, about.as_str(), backend.unwrap_or_default()]))
}

/// The id of a test message.
pub fn of_test(policy: &ObjectKey, request: &str) -> String {
    format!("{PREFIX}-{}", digest(&[&policy.namespace, &policy.name, Occasion::Test.as_str(), request]))
}

fn digest(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // With its length, so that no two lists of parts run together.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let mut text = String::with_capacity(2 * DIGEST_BYTES);
    for byte in &digest.as_ref()[..DIGEST_BYTES] {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_what_it_names_in_any_order() {
        assert_eq!(of_message(["a", "b"]), of_message(["b", "a"]));
        assert_ne!(of_message(["a", "b"]), of_message(["ab"]));
        let policy = ObjectKey::new("shop", "default");
        let incident = of_incident(&policy, Occasion::Failover, Some("ses"));
        assert_eq!(incident, of_incident(&policy, Occasion::Failover, Some("ses")));
        assert_ne!(incident, of_incident(&policy, Occasion::NoneHealthy, Some("ses")));
        assert_ne!(incident, of_incident(&policy, Occasion::Failover, None));
        let uid = Uid::parse(Some("u-1")).unwrap();
        let at = Timestamp::from_micros(7);
        let one = of_route(&uid, Occasion::Failover, Some(Occasion::Failover), Some("ses"), at);
        assert_eq!(one.len(), 16);
        assert_ne!(
            one,
            of_route(&uid, Occasion::Failover, Some(Occasion::Failover), Some("ses"), Timestamp::from_micros(8))
        );
    }
}
