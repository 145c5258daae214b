//! The identity of objects, parsed once where they enter the process.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use mail_failover_core::model::{MissingIdentity, ObjectIdentity, ObjectKey, ResourceVersion, Uid};

/// The identity of a namespaced object that the API server showed.
///
/// # Errors
/// [`MissingIdentity`] names the first field that is absent or empty; the API server sets all of them.
pub fn identity(metadata: &ObjectMeta) -> Result<ObjectIdentity, MissingIdentity> {
    Ok(ObjectIdentity {
        key: object_key(metadata)?,
        uid: Uid::parse(metadata.uid.as_deref())?,
        resource_version: ResourceVersion::parse(metadata.resource_version.as_deref())?,
    })
}

/// Namespace and name of a namespaced object.
///
/// # Errors
/// [`MissingIdentity`] if either is absent or empty.
pub fn object_key(metadata: &ObjectMeta) -> Result<ObjectKey, MissingIdentity> {
    let namespace = metadata.namespace.as_deref().filter(|text| !text.is_empty());
    let name = metadata.name.as_deref().filter(|text| !text.is_empty());
    Ok(ObjectKey::new(namespace.ok_or(MissingIdentity("namespace"))?, name.ok_or(MissingIdentity("name"))?))
}
