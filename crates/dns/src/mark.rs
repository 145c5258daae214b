//! The mark of ownership beside each record set, as external-dns has it: a TXT record that says whose the set is.

use std::fmt;
use std::sync::Arc;

use mail_failover_core::model::{DnsRecordType, ObjectKey};

/// Beginning of the name of a mark, before the type of the records that it is for.
// A label of its own below the records' name: beside them it would leave the zone at its apex, and a CNAME allows nothing
// beside it.
pub const MARK_PREFIX: &str = "_mail-failover-";
/// Value of `heritage` in a mark.
const HERITAGE: &str = "mail-failover";

/// Returns true if the name is one of a mark.
pub(crate) fn is_mark(name: &str) -> bool {
    name.starts_with(MARK_PREFIX)
}

/// Owner of record sets: a route of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the operator among those that update the same zones.
    pub operator: Arc<str>,
    /// The route.
    pub route: ObjectKey,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailRoute {} of the operator {}", self.route, self.operator)
    }
}

/// Mark of a record set.
///
/// Its number grows with each write, so that an update that was made for an earlier state of the zone fails.
// ADR-0140: The zone itself says whose a record is, and which write was the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The owner.
    pub owner: Owner,
    /// Number of the write that it came with.
    pub sequence: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner: Owner { operator, route }, sequence } = self;
        write!(
            f,
            "heritage={HERITAGE},{HERITAGE}/owner={operator},{HERITAGE}/resource=mailroute/{}/{},{HERITAGE}/sequence={sequence}",
            route.namespace, route.name
        )
    }
}

impl Mark {
    /// Reads the text of a mark; `None` if it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut heritage, mut operator, mut route, mut sequence) = (None, None, None, None);
        for pair in text.trim_matches('"').split(',') {
            let (key, value) = pair.split_once('=')?;
            match key.strip_prefix(HERITAGE).and_then(|key| key.strip_prefix('/')) {
                None if key == "heritage" => heritage = Some(value),
                Some("owner") => operator = Some(value),
                Some("resource") => route = route_of(value),
                Some("sequence") => sequence = value.parse().ok(),
                // A later version may say more.
                _ => {}
            }
        }
        (heritage == Some(HERITAGE))
            .then_some(Self { owner: Owner { operator: operator?.into(), route: route? }, sequence: sequence? })
    }
}

fn route_of(resource: &str) -> Option<ObjectKey> {
    let (kind, rest) = resource.split_once('/')?;
    let (namespace, name) = rest.split_once('/')?;
    let is_route = kind == "mailroute" && !namespace.is_empty() && !name.is_empty();
    is_route.then(|| ObjectKey::new(namespace, name))
}

/// Name of the mark of a record set.
pub fn mark_name(name: &str, record_type: DnsRecordType) -> String {
    format!("{MARK_PREFIX}{}.{name}", record_type.as_str().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let owner = Owner { operator: "eu".into(), route: ObjectKey::new("shop", "orders") };
        Mark { owner, sequence: 7 }
    }

    #[test]
    fn a_mark_names_heritage_owner_and_resource_as_external_dns_does() {
        let text = "heritage=mail-failover,mail-failover/owner=eu,mail-failover/resource=mailroute/shop/orders,mail-failover/sequence=7";
        assert_eq!(mark().to_string(), text);
        assert_eq!(Mark::parse(text), Some(mark()));
        assert_eq!(Mark::parse(&format!("\"{text}\"")), Some(mark()), "quoted, as some servers keep it");
        assert_eq!(Mark::parse(&format!("{text},mail-failover/more=1")), Some(mark()));
    }

    #[test]
    fn what_others_write_is_no_mark() {
        for text in [
            "",
            "v=spf1 -all",
            "heritage=external-dns,external-dns/owner=eu,external-dns/resource=ingress/shop/web",
            "heritage=mail-failover,mail-failover/owner=eu,mail-failover/resource=mailroute/shop/orders",
            "heritage=mail-failover,mail-failover/owner=eu,mail-failover/resource=mailroute/shop,mail-failover/sequence=7",
            "heritage=mail-failover,mail-failover/owner=eu,mail-failover/resource=mailroute/shop/orders,mail-failover/sequence=-1",
        ] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_mark_stands_below_the_name_that_it_is_for() {
        assert_eq!(mark_name("shop.example", DnsRecordType::Mx), "_mail-failover-mx.shop.example");
        assert_eq!(mark_name("a.shop.example", DnsRecordType::Aaaa), "_mail-failover-aaaa.a.shop.example");
    }
}
