//! Scope of the watches: the whole cluster, or some namespaces only.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// Name of a namespace: a label of RFC 1123, as the API server demands it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// Longest name in bytes (RFC 1123).
    const LONGEST: usize = 63;

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Error for a text that is no name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not the name of a namespace; use 1 to 63 lower-case letters, digits and hyphens, a letter or digit first and last, and a comma \
     between names: shop,billing"
)]
pub struct InvalidNamespace;

impl FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if is_name { Ok(Self(text.to_owned())) } else { Err(InvalidNamespace) }
    }
}

/// Namespaces in which objects are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchScope {
    /// All namespaces, by one watch per kind; needs a `ClusterRole`.
    Cluster,
    /// These namespaces only, by one watch per kind and namespace. A Role in each is enough; a namespace that does not
    /// exist yet is waited for.
    Namespaces(BTreeSet<Namespace>),
}

impl WatchScope {
    /// Makes a scope of these namespaces, or of the cluster when there are none.
    pub fn of(namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        let namespaces: BTreeSet<_> = namespaces.into_iter().collect();
        if namespaces.is_empty() { Self::Cluster } else { Self::Namespaces(namespaces) }
    }

    /// Returns the parts of the scope, one per watch of a kind.
    pub(super) fn parts(&self) -> Vec<ScopePart> {
        match self {
            Self::Cluster => vec![ScopePart(None)],
            Self::Namespaces(namespaces) => {
                namespaces.iter().cloned().map(|namespace| ScopePart(Some(namespace))).collect()
            }
        }
    }
}

impl fmt::Display for WatchScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the whole cluster"),
            Self::Namespaces(namespaces) => {
                let names: Vec<_> = namespaces.iter().map(Namespace::as_str).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

/// Part of the scope that one watch covers: a namespace, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScopePart(Option<Namespace>);

impl ScopePart {
    /// Returns the namespace, if the part is one.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.0.as_ref().map(Namespace::as_str)
    }

    /// Names a watch for people: the kind, and the namespace.
    pub(super) fn describe(&self, kind: &str) -> String {
        match &self.0 {
            None => kind.to_owned(),
            Some(namespace) => format!("{kind} in {namespace}"),
        }
    }

    /// Returns the API for the kind in this part.
    pub(super) fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.0 {
            None => Api::all(client),
            Some(namespace) => Api::namespaced(client, &namespace.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_label() {
        let longest = "a".repeat(63);
        for name in ["a", "0", "shop", "shop-eu-1", &longest] {
            assert_eq!(name.parse::<Namespace>().map(|namespace| namespace.to_string()), Ok(name.to_owned()));
        }
        let too_long = "a".repeat(64);
        for text in ["", " ", "-a", "a-", "Shop", "a.b", "a b", "*", "ä", &too_long] {
            assert_eq!(text.parse::<Namespace>(), Err(InvalidNamespace), "{text:?}");
        }
    }

    #[test]
    fn a_namespace_that_is_named_twice_is_watched_once() {
        let namespace = |name: &str| name.parse::<Namespace>().unwrap();
        let scope = WatchScope::of([namespace("shop"), namespace("billing"), namespace("shop")]);
        assert_eq!(scope.to_string(), "billing,shop");
        let parts = scope.parts();
        let described: Vec<_> = parts.iter().map(|part| part.describe("Service")).collect();
        assert_eq!(described, ["Service in billing", "Service in shop"]);
    }

    #[test]
    fn without_namespaces_the_cluster_is_watched() {
        let scope = WatchScope::of([]);
        assert_eq!((&scope, scope.to_string().as_str()), (&WatchScope::Cluster, "the whole cluster"));
        assert_eq!(scope.parts(), [ScopePart(None)]);
        assert_eq!(ScopePart(None).describe("Service"), "Service");
    }
}
