//! Sources of a route and of the objects that it refers to: a cluster, or files.

use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use prometheus_client::registry::Registry;

use super::Snapshot;
use crate::manifests::{self, ManifestError, Objects};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::ObjectKey;
use mail_failover_runtime::kubernetes::{self, ConfigError, Purpose, describe};

/// Number of backends that are read at a time.
const CONCURRENT: usize = 8;
/// Number of other routes that an error names at most when a route is not found.
const NAMED: u32 = 50;

/// Errors of reading a route.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such object.
    #[error("there is no {kind} {name}{place}; {others}")]
    NotFound {
        /// Kind of the missing object.
        kind: String,
        /// Name of the missing object.
        name: String,
        /// Namespace that was searched, as a part of the sentence; empty for all.
        place: String,
        /// Sentence that names the objects that exist instead.
        others: String,
    },
    /// Several namespaces have an object of this name.
    #[error("{kind} {name} is there in namespaces {namespaces}; choose one with --namespace")]
    Ambiguous {
        /// Kind of the ambiguous object.
        kind: String,
        /// Name of the ambiguous object.
        name: String,
        /// Namespaces that have an object of this name.
        namespaces: String,
    },
    /// Some files cannot be read.
    #[error("{}", manifests::lines(.0))]
    Files(Vec<ManifestError>),
    /// No way to reach an API server.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API server did not return an object.
    #[error("{what} cannot be read: {}", describe(.source))]
    Api {
        /// Kind, namespace and name of the requested object.
        what: String,
        /// Error of the API server, or of the connection to it.
        source: Box<kube::Error>,
    },
    /// The operating system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads a route from manifests, such as `kubectl get mailroutes,sendingbackends,failoverpolicies -o yaml` prints them.
pub(super) fn from_files(name: &str, namespace: Option<&str>, files: &[PathBuf]) -> Result<Snapshot, SnapshotError> {
    let manifests = manifests::read(files).map_err(SnapshotError::Files)?.manifests;
    let Objects { backends, policies, routes } = Objects::of(&manifests).map_err(SnapshotError::Files)?;
    let found: Vec<_> = routes
        .iter()
        .filter(|route| route.name_any() == name)
        .filter(|route| namespace.is_none_or(|wanted| route.namespace().as_deref() == Some(wanted)))
        .collect();
    let route = match found[..] {
        [route] => route.clone(),
        [] => {
            let place = namespace.map(|namespace| format!(" of namespace {namespace}")).unwrap_or_default();
            let names: Vec<_> = routes.iter().map(|route| key(route).to_string()).collect();
            return Err(not_found("MailRoute", name, format!("{place} in these files"), &names));
        }
        _ => {
            let namespaces: Vec<_> = found.iter().filter_map(|route| route.namespace()).collect();
            let (kind, name, namespaces) = ("MailRoute".to_owned(), name.to_owned(), namespaces.join(", "));
            return Err(SnapshotError::Ambiguous { kind, name, namespaces });
        }
    };
    let home = route.namespace();
    let policy = policies
        .into_iter()
        .find(|policy| policy.namespace() == home && Some(policy.name_any()) == policy_name(&route));
    let backends = backends.into_iter().filter(|backend| backend.namespace() == home);
    let backends = backends.map(|backend| (backend.name_any(), backend)).collect();
    Ok(Snapshot { key: key(&route), route, policy, backends })
}

/// Reads a route from a cluster, each object by its name. No right to list is needed, except to name the other routes
/// in an error.
pub(super) fn from_cluster(
    name: &str,
    namespace: Option<&str>,
    kubeconfig: Option<&Path>,
) -> Result<Snapshot, SnapshotError> {
    // Before anything speaks TLS: with two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(read(name, namespace, kubeconfig))
}

async fn read(name: &str, namespace: Option<&str>, kubeconfig: Option<&Path>) -> Result<Snapshot, SnapshotError> {
    let config = kubernetes::config(kubeconfig).await?;
    let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
    let metrics = kubernetes::Metrics::new(&mut Registry::default());
    let client =
        kubernetes::client(config, Purpose::Call, &metrics).map_err(|error| failed("the API server", error))?;

    let routes: Api<MailRoute> = Api::namespaced(client.clone(), &namespace);
    let Some(route) = routes.get_opt(name).await.map_err(|error| failed(&format!("MailRoute {name}"), error))? else {
        let listed = routes.list_metadata(&ListParams::default().limit(NAMED)).await;
        let names: Vec<_> =
            listed.map(|list| list.items.iter().map(ResourceExt::name_any).collect()).unwrap_or_default();
        return Err(not_found("MailRoute", name, format!(" in namespace {namespace}"), &names));
    };
    let policy = match policy_name(&route) {
        None => None,
        Some(name) => {
            let policies: Api<FailoverPolicy> = Api::namespaced(client.clone(), &namespace);
            policies.get_opt(&name).await.map_err(|error| failed(&format!("FailoverPolicy {name}"), error))?
        }
    };
    let names: Vec<_> = route.spec.backends.iter().map(|backend| backend.name.clone()).collect();
    let backends = stream::iter(names)
        .map(|name| backend(client.clone(), namespace.clone(), name))
        .buffer_unordered(CONCURRENT)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    Ok(Snapshot { key: ObjectKey::new(namespace, name), route, policy, backends })
}

async fn backend(
    client: Client,
    namespace: String,
    name: String,
) -> Result<Option<(String, SendingBackend)>, SnapshotError> {
    let backends: Api<SendingBackend> = Api::namespaced(client, &namespace);
    let found = backends.get_opt(&name).await.map_err(|error| failed(&format!("SendingBackend {name}"), error))?;
    Ok(found.map(|backend| (name, backend)))
}

/// Object of one kind, with the routes that may use it.
#[derive(Clone, Debug)]
pub struct UsedObject<K> {
    /// Namespace and name of the object.
    pub key: ObjectKey,
    /// The object itself.
    pub object: K,
    /// Routes of its namespace; `None` if they may not be listed.
    pub routes: Option<Vec<MailRoute>>,
}

/// Kind that `explain` reads by name, beside routes.
pub(super) trait Explained:
    kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
    + serde::de::DeserializeOwned
    + Clone
    + std::fmt::Debug
{
    /// Takes the objects of this kind out of those of files.
    fn of(objects: &Objects) -> &[Self];
}

impl Explained for SendingBackend {
    fn of(objects: &Objects) -> &[Self] {
        &objects.backends
    }
}

impl Explained for FailoverPolicy {
    fn of(objects: &Objects) -> &[Self] {
        &objects.policies
    }
}

/// Reads an object and the routes of its namespace, from files if there are any, else from a cluster.
pub(super) fn used<K: Explained>(
    name: &str,
    namespace: Option<&str>,
    kubeconfig: Option<&Path>,
    files: &[PathBuf],
) -> Result<UsedObject<K>, SnapshotError> {
    let kind = K::kind(&()).into_owned();
    if !files.is_empty() {
        let manifests = manifests::read(files).map_err(SnapshotError::Files)?.manifests;
        let objects = Objects::of(&manifests).map_err(SnapshotError::Files)?;
        let found = K::of(&objects).iter().filter(|object| object.name_any() == name);
        let found: Vec<_> = found
            .filter(|object| namespace.is_none_or(|wanted| object.namespace().as_deref() == Some(wanted)))
            .collect();
        let [object] = found[..] else {
            let names: Vec<_> = K::of(&objects).iter().map(|object| key(object).to_string()).collect();
            return Err(if found.is_empty() {
                not_found(&kind, name, " in these files".to_owned(), &names)
            } else {
                let namespaces: Vec<_> = found.iter().filter_map(|object| object.namespace()).collect();
                SnapshotError::Ambiguous { kind, name: name.to_owned(), namespaces: namespaces.join(", ") }
            });
        };
        let home = object.namespace();
        let routes = objects.routes.iter().filter(|route| route.namespace() == home).cloned().collect();
        return Ok(UsedObject { key: key(object), object: object.clone(), routes: Some(routes) });
    }
    // Before anything speaks TLS: with two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(read_used(name, namespace, kubeconfig))
}

async fn read_used<K: Explained>(
    name: &str,
    namespace: Option<&str>,
    kubeconfig: Option<&Path>,
) -> Result<UsedObject<K>, SnapshotError> {
    let kind = K::kind(&()).into_owned();
    let config = kubernetes::config(kubeconfig).await?;
    let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
    let metrics = kubernetes::Metrics::new(&mut Registry::default());
    let client =
        kubernetes::client(config, Purpose::Call, &metrics).map_err(|error| failed("the API server", error))?;
    let objects: Api<K> = Api::namespaced(client.clone(), &namespace);
    let Some(object) = objects.get_opt(name).await.map_err(|error| failed(&format!("{kind} {name}"), error))? else {
        let listed = objects.list_metadata(&ListParams::default().limit(NAMED)).await;
        let names: Vec<_> =
            listed.map(|list| list.items.iter().map(ResourceExt::name_any).collect()).unwrap_or_default();
        return Err(not_found(&kind, name, format!(" in namespace {namespace}"), &names));
    };
    let routes: Api<MailRoute> = Api::namespaced(client, &namespace);
    let routes = routes.list(&ListParams::default()).await.ok().map(|list| list.items);
    Ok(UsedObject { key: ObjectKey::new(namespace, name), object, routes })
}

fn policy_name(route: &MailRoute) -> Option<String> {
    route.spec.policy_ref.as_ref().map(|reference| reference.name.clone())
}

fn key(object: &impl ResourceExt) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn failed(what: &str, error: kube::Error) -> SnapshotError {
    SnapshotError::Api { what: what.to_owned(), source: Box::new(error) }
}

fn not_found(kind: &str, name: &str, place: String, names: &[String]) -> SnapshotError {
    let others =
        if names.is_empty() { "there is none at all".to_owned() } else { format!("there is {}", names.join(", ")) };
    SnapshotError::NotFound { kind: kind.to_owned(), name: name.to_owned(), place, others }
}
