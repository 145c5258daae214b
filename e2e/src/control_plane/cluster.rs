use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{Binaries, ControlPlane, Options};
use crate::environment;
use crate::node::Node;

/// Names the kubeconfig of a cluster to use instead of a control plane of our own.
pub const EXISTING: &str = "E2E_KUBECONFIG";

/// What tests run against.
pub enum Cluster {
    /// A control plane that we started and may stop.
    Own(Box<ControlPlane>),
    /// The same with a node that runs pods.
    Node(Box<Node>),
    /// A cluster of somebody else.
    Existing {
        /// How to reach it.
        kubeconfig: PathBuf,
        /// A client of it.
        client: Client,
    },
}

impl Cluster {
    /// The kubeconfig in `E2E_KUBECONFIG`, if there is one.
    pub fn existing() -> Option<PathBuf> {
        environment::path(EXISTING)
    }

    /// Connects to the cluster in `E2E_KUBECONFIG`, or else starts a control plane, with a node if `options` say so.
    ///
    /// # Errors
    /// When the cluster does not answer, or what is started does not become ready.
    pub async fn obtain(binaries: &Binaries, options: Options) -> Result<Self> {
        let Some(kubeconfig) = Self::existing() else {
            if options.node {
                return Ok(Self::Node(Box::new(Node::start(binaries, options.audit).await?)));
            }
            return Ok(Self::Own(Box::new(ControlPlane::start(binaries, options).await?)));
        };
        let client = client(&kubeconfig).await.with_context(|| format!("{EXISTING}={}", kubeconfig.display()))?;
        if let Err(error) = client.apiserver_version().await {
            bail!("the cluster of {EXISTING}={} does not answer: {error}", kubeconfig.display());
        }
        Ok(Self::Existing { kubeconfig, client })
    }

    /// A kubeconfig with every right.
    pub fn kubeconfig(&self) -> &Path {
        match self {
            Self::Own(control_plane) => control_plane.kubeconfig(),
            Self::Node(node) => node.control_plane().kubeconfig(),
            Self::Existing { kubeconfig, client: _ } => kubeconfig,
        }
    }

    /// A client with every right.
    pub fn client(&self) -> Client {
        match self {
            Self::Own(control_plane) => control_plane.client(),
            Self::Node(node) => node.control_plane().client(),
            Self::Existing { kubeconfig: _, client } => client.clone(),
        }
    }

    /// The power to stop, pause and restart the API server; nobody has it over a cluster of somebody else.
    pub fn control(&self) -> Option<&ControlPlane> {
        match self {
            Self::Own(control_plane) => Some(control_plane),
            Self::Node(node) => Some(node.control_plane()),
            Self::Existing { .. } => None,
        }
    }

    /// The node of our own, if there is one.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::Own(_) | Self::Existing { .. } => None,
        }
    }
}

/// A client as a kubeconfig's current context says.
pub(super) async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
