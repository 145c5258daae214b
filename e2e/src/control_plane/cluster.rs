use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{Binaries, ControlPlane, Options};
use crate::environment;
use crate::node::Node;

/// The variable that names the kubeconfig of a cluster to use instead of a control plane of our
/// own.
pub const EXISTING: &str = "E2E_KUBECONFIG";

/// A cluster that tests run against.
pub enum Cluster {
    /// A control plane that this program started and may stop.
    Own(Box<ControlPlane>),
    /// A control plane that this program started, with a node that runs pods.
    Node(Box<Node>),
    /// A cluster that exists already.
    Existing {
        /// Its kubeconfig.
        kubeconfig: PathBuf,
        client: Client,
    },
}

impl Cluster {
    /// The kubeconfig in `E2E_KUBECONFIG`, if it is set.
    pub fn existing() -> Option<PathBuf> {
        environment::path(EXISTING)
    }

    /// Connects to the cluster in `E2E_KUBECONFIG`, or else starts a control plane, with a node if
    /// `options` demand one.
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

    /// The control plane, to stop, pause and restart the API server; `None` for a cluster that
    /// exists already.
    pub fn control(&self) -> Option<&ControlPlane> {
        match self {
            Self::Own(control_plane) => Some(control_plane),
            Self::Node(node) => Some(node.control_plane()),
            Self::Existing { .. } => None,
        }
    }

    /// The node, if this program started one.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::Own(_) | Self::Existing { .. } => None,
        }
    }
}

/// A client by a kubeconfig's current context.
pub(super) async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
