use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::ObjectKey;

/// Identity of a Kubernetes object as the API server showed it: enough to write on the condition
/// that nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectIdentity {
    /// Namespace and name of the object.
    pub key: ObjectKey,
    /// `metadata.uid`: another object of the same name has another one.
    pub uid: Uid,
    /// `metadata.resourceVersion`: changes with every write.
    pub resource_version: ResourceVersion,
}

/// The `metadata.uid` of an object; never empty. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(Arc<str>);

/// The `metadata.resourceVersion` of an object; never empty. Cheap to clone.
///
/// There is no empty or default one: the API server takes a write without a version as unconditional.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ResourceVersion(Arc<str>);

/// A field of `metadata` that the API server always sets is missing or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object has no metadata.{0}")]
pub struct MissingIdentity(pub &'static str);

impl Uid {
    /// Checks a `metadata.uid`.
    ///
    /// # Errors
    /// [`MissingIdentity`] if it is absent or empty.
    pub fn parse(text: Option<&str>) -> Result<Self, MissingIdentity> {
        present(text, "uid").map(Self)
    }

    /// The text as Kubernetes has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ResourceVersion {
    /// Checks a `metadata.resourceVersion`.
    ///
    /// # Errors
    /// [`MissingIdentity`] if it is absent or empty.
    pub fn parse(text: Option<&str>) -> Result<Self, MissingIdentity> {
        present(text, "resourceVersion").map(Self)
    }

    /// The text as Kubernetes has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if this version of an object is later than `other`, by the order of KEP-5504.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.number() > other.number()
    }

    /// KEP-5504 makes resource versions decimal numbers that may be compared; etcd has always made
    /// them so. Anything else is older than every number.
    fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

fn present(text: Option<&str>, field: &'static str) -> Result<Arc<str>, MissingIdentity> {
    text.filter(|text| !text.is_empty()).map(Arc::from).ok_or(MissingIdentity(field))
}

impl Borrow<str> for Uid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| ResourceVersion::parse(Some(text)).unwrap();
        assert!(version("10").is_newer_than(&version("9")));
        assert!(!version("9").is_newer_than(&version("9")));
        assert!(version("1").is_newer_than(&version("x")));
    }

    #[test]
    fn nothing_is_no_version() {
        for text in [None, Some("")] {
            assert_eq!(ResourceVersion::parse(text), Err(MissingIdentity("resourceVersion")));
            assert_eq!(Uid::parse(text), Err(MissingIdentity("uid")));
        }
    }
}
