//! Application of objects of any kind, unchanged: what Helm or kustomize made.

use anyhow::{Context, Result, anyhow};
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client};
use serde_json::Value;

use crate::control_plane::said;

/// The effect of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The API server keeps the objects.
    Keep,
    /// The API server validates the objects and keeps nothing (`--dry-run=server`).
    DryRun,
}

/// Applies objects one after another, by server-side apply. An unknown field is an error.
///
/// # Errors
/// When the API server refuses one, or does not know its kind; the message names it.
pub async fn apply(client: &Client, objects: &[Value], mode: Mode) -> Result<()> {
    for object in objects {
        let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
        let TypeMeta { api_version, kind } = serde_json::from_value(object.clone()).with_context(|| what.clone())?;
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        let kind = GroupVersionKind::gvk(group, version, &kind);
        let (resource, capabilities) = pinned_kind(client, &kind).await.with_context(|| what.clone())?;
        let api: Api<DynamicObject> = match (capabilities.scope, object["metadata"]["namespace"].as_str()) {
            (Scope::Namespaced, namespace) => {
                Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), &resource)
            }
            (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        };
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            dry_run: mode == Mode::DryRun,
            ..PatchParams::apply("mail-failover-e2e").force()
        };
        let name = object["metadata"]["name"].as_str().with_context(|| format!("{what} has no name"))?;
        let applied = api.patch(name, &params, &Patch::Apply(object)).await;
        applied.map_err(|error| anyhow!("the API server refuses {what}: {}", said(&error)))?;
    }
    Ok(())
}
