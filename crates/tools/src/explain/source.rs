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
    /// There is no such route.
    #[error("there is no MailRoute {name}{place}; {others}")]
    NotFound {
        /// Name of the missing route.
        name: String,
        /// Namespace that was searched, as a part of the sentence; empty for all.
        place: String,
        /// Sentence that names the routes that exist instead.
        others: String,
    },
    /// Several namespaces have a route of this name.
    #[error("MailRoute {name} is there in namespaces {namespaces}; choose one with --namespace")]
    Ambiguous {
        /// Name of the ambiguous route.
        name: String,
        /// Namespaces that have a route of this name.
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
    let manifests = manifests::read(files).map_err(SnapshotError::Files)?;
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
            return Err(not_found(name, format!("{place} in these files"), &names));
        }
        _ => {
            let namespaces: Vec<_> = found.iter().filter_map(|route| route.namespace()).collect();
            return Err(SnapshotError::Ambiguous { name: name.to_owned(), namespaces: namespaces.join(", ") });
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
        return Err(not_found(name, format!(" in namespace {namespace}"), &names));
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

fn policy_name(route: &MailRoute) -> Option<String> {
    route.spec.policy_ref.as_ref().map(|reference| reference.name.clone())
}

fn key(route: &MailRoute) -> ObjectKey {
    ObjectKey::new(route.namespace().unwrap_or_default(), route.name_any())
}

fn failed(what: &str, error: kube::Error) -> SnapshotError {
    SnapshotError::Api { what: what.to_owned(), source: Box::new(error) }
}

fn not_found(name: &str, place: String, names: &[String]) -> SnapshotError {
    let others =
        if names.is_empty() { "there is none at all".to_owned() } else { format!("there is {}", names.join(", ")) };
    SnapshotError::NotFound { name: name.to_owned(), place, others }
}
