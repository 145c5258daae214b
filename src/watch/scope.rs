//! Where the operator looks: in the whole cluster, or in some namespaces only.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// The name of a namespace: a label of RFC 1123, as the API server demands it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// Longest name.
    const LONGEST: usize = 63;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What cannot be the name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not the name of a namespace; use 1 to 63 lower-case letters, digits and hyphens, a letter or digit first and last, and a comma \
     between names: shop,billing"
)]
pub struct InvalidNamespace;

impl FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends_well = [bytes.first(), bytes.last()].iter().all(|end| end.is_some_and(|&byte| is_alphanumeric(byte)));
        let is_name = ends_well
            && bytes.len() <= Self::LONGEST
            && bytes.iter().all(|&byte| is_alphanumeric(byte) || byte == b'-');
        if is_name { Ok(Self(text.to_owned())) } else { Err(InvalidNamespace) }
    }
}

/// Where objects are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace there is and will be, by one watch per kind. Takes a `ClusterRole`.
    Cluster,
    /// In these only, by one watch per kind and namespace. A Role in each is enough; one that does not exist yet is waited for.
    Namespaces(BTreeSet<Namespace>),
}

impl Scope {
    /// These, or the cluster when there are none.
    pub fn of(namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        let namespaces: BTreeSet<_> = namespaces.into_iter().collect();
        if namespaces.is_empty() { Self::Cluster } else { Self::Namespaces(namespaces) }
    }

    /// What one watch of a kind looks at.
    pub(super) fn parts(&self) -> Vec<Part> {
        match self {
            Self::Cluster => vec![Part(None)],
            Self::Namespaces(namespaces) => namespaces.iter().cloned().map(|namespace| Part(Some(namespace))).collect(),
        }
    }
}

impl fmt::Display for Scope {
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

/// What one watch looks at: a namespace, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part(Option<Namespace>);

impl Part {
    /// The namespace, if it is one.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.0.as_ref().map(Namespace::as_str)
    }

    /// What people read: the kind, and where it is looked for.
    pub(super) fn describe(&self, kind: &str) -> String {
        match &self.0 {
            None => kind.to_owned(),
            Some(namespace) => format!("{kind} in {namespace}"),
        }
    }

    /// The API that it watches.
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
        let scope = Scope::of([namespace("shop"), namespace("billing"), namespace("shop")]);
        assert_eq!(scope.to_string(), "billing,shop");
        let parts = scope.parts();
        let described: Vec<_> = parts.iter().map(|part| part.describe("Service")).collect();
        assert_eq!(described, ["Service in billing", "Service in shop"]);
    }

    #[test]
    fn without_namespaces_the_cluster_is_watched() {
        let scope = Scope::of([]);
        assert_eq!((&scope, scope.to_string().as_str()), (&Scope::Cluster, "the whole cluster"));
        assert_eq!(scope.parts(), [Part(None)]);
        assert_eq!(Part(None).describe("Service"), "Service");
    }
}
