//! Directory of the agents that may report on each route, as the controller knows them. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use super::token::Caller;
use mail_failover_contract::document::RouteReference;
use mail_failover_core::model::ObjectKey;

/// Agents of a route, as its outputs name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAgents {
    /// `metadata.uid` of the route.
    pub uid: String,
    /// Names of the service accounts that the agents run under.
    pub service_accounts: BTreeSet<Arc<str>>,
}

/// Change of the agents of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsChange {
    /// Route whose agents change.
    pub route: ObjectKey,
    /// Agents from now on; `None` when the route is gone or has none.
    pub agents: Option<RouteAgents>,
}

/// Routes with agents. Cheap to clone; its size is bounded by the number of routes.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<BTreeMap<ObjectKey, RouteAgents>>>);

/// Reasons why a caller may not report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// The caller's service account is not one of the route's agents.
    #[error("only {expected} may report on MailRoute {route}, not {caller}")]
    Foreign {
        /// User that the token belongs to.
        caller: String,
        /// Route as the report names it.
        route: ObjectKey,
        /// Service accounts that may report.
        expected: String,
    },
    /// There is no such route, or it has no agents.
    #[error("MailRoute {route} (uid {uid}) does not exist or has no output of the kind agent")]
    Unknown {
        /// Route as the report names it.
        route: ObjectKey,
        /// UID of the route, as the report has it.
        uid: String,
    },
}

impl Directory {
    /// Applies changes to the directory.
    pub fn note(&self, changes: impl IntoIterator<Item = AgentsChange>) {
        let mut changes = changes.into_iter().peekable();
        if changes.peek().is_none() {
            return;
        }
        // No user of the lock can leave the map half changed.
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for AgentsChange { route, agents } in changes {
            match agents {
                Some(agents) => routes.insert(route, agents),
                None => routes.remove(&route),
            };
        }
    }

    /// Returns the route if the caller may report on it. A caller of another namespace does not learn what exists in
    /// this one.
    ///
    /// # Errors
    /// [`NotPermitted`], which says who is expected.
    pub fn admit(&self, caller: &Caller, reference: &RouteReference) -> Result<ObjectKey, NotPermitted> {
        let RouteReference { namespace, name, uid } = reference;
        let route = ObjectKey::new(namespace.as_str(), name.as_str());
        let prefix = format!("system:serviceaccount:{namespace}:");
        let Some(account) = caller.username.strip_prefix(prefix.as_str()) else {
            let expected = format!("{prefix}NAME, where NAME is spec.outputs[].agent.serviceAccountName of that route");
            return Err(NotPermitted::Foreign { caller: caller.username.to_string(), route, expected });
        };
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(agents) = routes.get(&route).filter(|agents| agents.uid == *uid) else {
            return Err(NotPermitted::Unknown { route, uid: uid.clone() });
        };
        if agents.service_accounts.contains(account) {
            return Ok(route);
        }
        let names = agents.service_accounts.iter().map(|name| format!("{prefix}{name}"));
        let expected = format!("{} (spec.outputs[].agent.serviceAccountName)", names.collect::<Vec<_>>().join(" or "));
        Err(NotPermitted::Foreign { caller: caller.username.to_string(), route, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(username: &str) -> Caller {
        Caller { username: username.into(), pod: None }
    }

    fn reference(uid: &str) -> RouteReference {
        RouteReference { namespace: "shop".to_owned(), name: "orders".to_owned(), uid: uid.to_owned() }
    }

    fn directory() -> Directory {
        let directory = Directory::default();
        let agents = RouteAgents { uid: "u".to_owned(), service_accounts: ["postfix".into()].into() };
        directory.note([AgentsChange { route: ObjectKey::new("shop", "orders"), agents: Some(agents) }]);
        directory
    }

    #[test]
    fn only_the_service_account_that_the_route_names_may_report() {
        let admit = |username| directory().admit(&caller(username), &reference("u")).map_err(|error| error.to_string());
        assert_eq!(admit("system:serviceaccount:shop:postfix"), Ok(ObjectKey::new("shop", "orders")));
        for username in ["system:serviceaccount:other:postfix", "postfix", "system:serviceaccount:shop2:postfix"] {
            let error = admit(username).unwrap_err();
            assert!(error.starts_with("only system:serviceaccount:shop:NAME, where"), "{error}");
        }
        let error = admit("system:serviceaccount:shop:default").unwrap_err();
        assert!(error.starts_with("only system:serviceaccount:shop:postfix (spec."), "{error}");
    }

    #[test]
    fn a_route_that_is_gone_or_was_made_anew_is_unknown() {
        let directory = directory();
        let postfix = caller("system:serviceaccount:shop:postfix");
        let unknown =
            |uid: &str| matches!(directory.admit(&postfix, &reference(uid)), Err(NotPermitted::Unknown { .. }));
        assert!(unknown("v") && !unknown("u"));
        directory.note([AgentsChange { route: ObjectKey::new("shop", "orders"), agents: None }]);
        assert!(unknown("u"));
    }
}
