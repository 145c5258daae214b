//! Mark of a relay's route, by which a relay sees that a backend leads back to a relay of its own route.
//!
//! A relay names the mark of its route in its answer to EHLO, in a line of its own. RFC 5321 §2.2.2 leaves keywords that
//! begin with X to such uses. A host name would not do: a relay and a mail server on one machine have the same one.

use mail_failover_contract::routing::Routing;
use mail_failover_dataplane::stable_hash::StableHash;
use mail_failover_smtp::reply::Reply;

const KEYWORD: &str = "X-MAIL-FAILOVER-ROUTE";

/// Hash of a route's name and UID. All relays of the route have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMark(u64);

impl RouteMark {
    /// The mark of the route of this document.
    pub fn of(routing: &Routing) -> Self {
        Self(StableHash::default().part(routing.route.as_bytes()).part(routing.route_uid.as_bytes()).finish())
    }

    /// The line of the answer to EHLO.
    pub fn line(self) -> String {
        format!("{KEYWORD} {:016x}", self.0)
    }

    /// True if an answer to EHLO is that of a relay of this route.
    pub fn is_in(self, hello: &Reply) -> bool {
        let marks = hello.parameters(KEYWORD).unwrap_or_default();
        marks.iter().any(|mark| u64::from_str_radix(mark, 16) == Ok(self.0))
    }
}

#[cfg(test)]
mod tests {
    use mail_failover_contract::routing::parse;
    use serde_json::json;

    use super::*;

    fn mark(name: &str, uid: &str) -> RouteMark {
        let document = json!({
            "apiVersion": "agent.mailfailover.io/v1alpha1",
            "route": {"namespace": "shop", "name": name, "uid": uid}, "decision": {"transition": 1},
            "backends": [{"name": "a", "percent": 100, "standby": true, "host": "a.example", "port": 25, "tls": {"mode": "None"}}],
        });
        RouteMark::of(&parse(&document.to_string()).unwrap())
    }

    #[test]
    fn only_a_relay_of_the_same_route_is_known_by_it() {
        let own = mark("orders", "u1");
        let hello = |line: &str| Reply { code: 250, text: format!("relay.example\nPIPELINING\n{line}\nDSN") };
        assert!(own.is_in(&hello(&own.line())));
        assert!(own.is_in(&hello(&own.line().to_ascii_lowercase())));
        // Of the same name in another cluster, and of another name.
        assert!(!own.is_in(&hello(&mark("orders", "u2").line())));
        assert!(!own.is_in(&hello(&mark("news", "u1").line())));
        assert!(!own.is_in(&hello(KEYWORD)) && !own.is_in(&hello("SIZE 1000")));
    }
}
