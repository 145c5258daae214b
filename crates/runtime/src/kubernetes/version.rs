//! Versions of an object.

/// The number of a `resourceVersion`; `None` for what is none. Numbers they are by KEP-5504, and etcd has always made them.
pub fn version_number(resource_version: &str) -> Option<u64> {
    resource_version.parse().ok()
}
