//! Sources of a report: objects and Events of a cluster or a dump, and Prometheus' answers.

use std::fmt::Debug;
use std::path::PathBuf;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;

use super::ReportArguments;
use super::event::ReportedEvent;
use super::prometheus::{self, PrometheusAnswers, PrometheusError};
use crate::manifests::{self, ManifestError, Objects};
use mail_failover_api::{MailRoute, SendingBackend};
use mail_failover_core::model::Timestamp;
use mail_failover_runtime::kubernetes::{self, ConfigError, Purpose, describe};

/// Objects of a page of a list.
const PAGE: u32 = 500;
/// Most pages of a list that are read.
const MAX_PAGES: usize = 200;

/// Known facts.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) routes: Vec<MailRoute>,
    pub(super) backends: Vec<SendingBackend>,
    pub(super) events: Vec<ReportedEvent>,
    /// Reason for which there are no Events; `None` if they were read.
    pub(super) events_missing: Option<String>,
    /// Prometheus' answers, or why there are none.
    pub(super) prometheus: Option<Result<PrometheusAnswers, PrometheusError>>,
}

/// Errors of reading what a report is made of.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Some files cannot be read.
    #[error("{}", manifests::lines(.0))]
    Files(Vec<ManifestError>),
    /// No way to reach an API server.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API server did not return a list.
    #[error("{what} cannot be listed: {}", describe(.source))]
    Api {
        /// Kind of the requested objects.
        what: &'static str,
        /// Error of the API server, or of the connection to it.
        source: Box<kube::Error>,
    },
    /// The operating system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Collects what the arguments name.
pub(super) fn collect(
    arguments: &ReportArguments,
    since: Timestamp,
    until: Timestamp,
) -> Result<Collected, CollectError> {
    // Before anything speaks TLS: with two providers linked and none chosen rustls panics at the first handshake.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut collected = if arguments.files.is_empty() {
        runtime.block_on(from_cluster(arguments))?
    } else {
        from_files(&arguments.files)?
    };
    if let Some(namespace) = &arguments.namespace {
        collected.routes.retain(|route| route.metadata.namespace.as_ref() == Some(namespace));
        collected.backends.retain(|backend| backend.metadata.namespace.as_ref() == Some(namespace));
        collected.events.retain(|event| *event.key.namespace == **namespace);
    }
    if let Some(address) = &arguments.prometheus {
        collected.prometheus = Some(runtime.block_on(prometheus::ask(address, until.since(since), until)));
    }
    collected
        .events
        .sort_by(|one, other| (one.at, &one.reason, &one.note).cmp(&(other.at, &other.reason, &other.note)));
    collected.events.dedup();
    Ok(collected)
}

fn from_files(files: &[PathBuf]) -> Result<Collected, CollectError> {
    let manifests = manifests::read(files).map_err(CollectError::Files)?.manifests;
    let Objects { backends, policies: _, routes } = Objects::of(&manifests).map_err(CollectError::Files)?;
    let events: Vec<_> = manifests.iter().filter(|manifest| manifest.kind() == "Event").collect();
    let events_missing =
        events.is_empty().then(|| "these files hold none (kubectl get events -o yaml prints them)".to_owned());
    let events = events.into_iter().filter_map(|manifest| ReportedEvent::of_dump(manifest.value())).collect();
    Ok(Collected { routes, backends, events, events_missing, prometheus: None })
}

async fn from_cluster(arguments: &ReportArguments) -> Result<Collected, CollectError> {
    let config = kubernetes::config(arguments.kubeconfig.as_deref()).await?;
    let metrics = kubernetes::Metrics::new(&mut Registry::default());
    let client = kubernetes::client(config, Purpose::Call, &metrics);
    let client = client.map_err(|error| failed("the API server", error))?;
    let namespace = arguments.namespace.as_deref();
    let routes = list(&client, namespace).await.map_err(|error| failed("MailRoutes", error))?;
    let backends = list(&client, namespace).await.map_err(|error| failed("SendingBackends", error))?;
    // Events are a source that may be missing; the page says so.
    let (events, events_missing) = match list::<Event>(&client, namespace).await {
        Ok(events) => (events.into_iter().filter_map(ReportedEvent::of).collect(), None),
        Err(error) => (vec![], Some(describe(&error))),
    };
    Ok(Collected { routes, backends, events, events_missing, prometheus: None })
}

async fn list<K>(client: &Client, namespace: Option<&str>) -> Result<Vec<K>, kube::Error>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (mut found, mut parameters) = (vec![], ListParams::default().limit(PAGE));
    for _ in 0..MAX_PAGES {
        let page = api.list(&parameters).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => break,
        }
    }
    Ok(found)
}

fn failed(what: &'static str, error: kube::Error) -> CollectError {
    CollectError::Api { what, source: Box::new(error) }
}
