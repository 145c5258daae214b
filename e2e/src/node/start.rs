use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use super::images::{self, Image};
use super::runtime::Runtime;
use super::{kube_proxy, kubelet, name_server, network_policies, reaper};
use crate::clients::Kubectl;
use crate::control_plane::component::Component;
use crate::control_plane::namespace;
use crate::control_plane::{self, Binaries, ControlPlane, Program, arguments};
use crate::eventually::eventually;
use crate::operator;

/// The name of the node's object.
pub const NAME: &str = "node";
const START: Duration = Duration::from_secs(90);
/// The ports on which the kubelet and kube-proxy report their health, in the network of our own.
const KUBELET_HEALTH: u16 = 10248;
const KUBE_PROXY_HEALTH: u16 = 10256;

/// A node and its control plane. Dropping it ends its programs; containers end with the process namespace.
pub struct Node {
    // Dropped in this order: first the programs that would start others again.
    kubelet: Component,
    kube_proxy: Component,
    network_policies: OnceCell<Component>,
    _scheduler: Component,
    runtime: Runtime,
    reaper: JoinHandle<()>,
    control_plane: ControlPlane,
    binaries: Binaries,
    folder: PathBuf,
    took: Duration,
}

/// Prints on standard error how far a start has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    begun: Instant,
}

impl Progress {
    fn say(self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }
}

impl Node {
    /// The parts of its control plane.
    const CONTROL_PLANE: control_plane::Options =
        control_plane::Options { controller_manager: true, audit: false, events_store: false, node: true };

    /// The programs that a node needs.
    pub fn programs() -> Vec<Program> {
        let mut programs = Self::CONTROL_PLANE.programs();
        programs.extend([
            Program::KubeScheduler,
            Program::Kubelet,
            Program::KubeProxy,
            Program::KubeNetworkPolicies,
            Program::Containerd,
            Program::ContainerdShim,
            Program::Ctr,
            Program::CoreDns,
            Program::Helm,
        ]);
        programs
    }

    /// Prepares the parts of a start that may need a network: programs and images. Call it outside
    /// of the namespaces.
    ///
    /// # Errors
    /// When something cannot be built.
    pub fn prepare() -> Result<()> {
        Binaries::locate(&Self::programs())?;
        images::build(&images::toolbox())?;
        images::build(&images::coredns())?;
        Ok(())
    }

    /// Starts a node and waits until it is Ready and resolves names. Prints the progress on
    /// standard error.
    ///
    /// Call it inside [`Isolation::Node`](namespace::Isolation::Node), after [`Self::prepare`]
    /// outside. With `audit`, see [`ControlPlane::calls_of`].
    ///
    /// # Errors
    /// When a program ends or is not ready in time; the end of its log is in the message.
    pub async fn start(binaries: &Binaries, audit: bool) -> Result<Self> {
        let progress = Progress { begun: Instant::now() };
        // Beside the control plane's; kept after a failure.
        let folder = tempfile::Builder::new().prefix("node-").tempdir().context("no temporary folder")?.keep();
        let data = namespace::disposable_folder()?;
        let runtime = async {
            let runtime = Runtime::start(binaries, &folder, &data).await?;
            progress.say("containerd ready");
            for recipe in [images::toolbox(), images::coredns()] {
                runtime.load(&images::build(&recipe)?.archive).await?;
                progress.say(&format!("image {} loaded", recipe.name));
            }
            anyhow::Ok(runtime)
        };
        let options = control_plane::Options { audit, ..Self::CONTROL_PLANE };
        let control_plane = async {
            let control_plane = ControlPlane::start(binaries, options).await?;
            progress.say("etcd, kube-apiserver, kube-controller-manager ready");
            anyhow::Ok(control_plane)
        };
        let (runtime, control_plane) = tokio::try_join!(runtime, control_plane)?;

        let pod_logs = folder.join("pods");
        fs::create_dir_all(&pod_logs)?;
        let kubelet = kubelet::component(binaries, &control_plane, &folder, &data, &pod_logs)?;
        let kube_proxy = kube_proxy::component(binaries, &control_plane, &folder)?;
        let scheduler = scheduler(binaries, &control_plane, &folder)?;
        for component in [&kubelet, &kube_proxy, &scheduler] {
            component.start()?;
        }
        let mut node = Self {
            kubelet,
            kube_proxy,
            network_policies: OnceCell::new(),
            _scheduler: scheduler,
            runtime,
            reaper: reaper::start(),
            control_plane,
            binaries: binaries.clone(),
            folder,
            took: Duration::ZERO,
        };
        if let Err(error) = node.become_ready(progress).await {
            node.keep_folder();
            return Err(error.context(format!("no node; its logs: {}", node.folder.display())));
        }
        node.took = progress.begun.elapsed();
        Ok(node)
    }

    async fn become_ready(&self, progress: Progress) -> Result<()> {
        self.kubectl()?.apply(&name_server::objects().to_string()).await.context("CoreDNS")?;
        let proxy = self.kube_proxy.ready(START, async || healthy(KUBE_PROXY_HEALTH).await);
        let kubelet = self.kubelet.ready(START, async || healthy(KUBELET_HEALTH).await);
        tokio::try_join!(proxy, kubelet)?;
        progress.say("kubelet and kube-proxy healthy");
        let nodes: Api<NodeObject> = Api::all(self.control_plane.client());
        eventually(START, "the node to be Ready", async || {
            let conditions = nodes.get(NAME).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready").context("no condition")?;
            if ready.status == "True" { Ok(Some(())) } else { bail!("{:?}", ready.message) }
        })
        .await?;
        progress.say("node Ready");
        let deployments: Api<Deployment> = Api::namespaced(self.control_plane.client(), name_server::NAMESPACE);
        eventually(START, "CoreDNS to be available", async || {
            let status = deployments.get(name_server::NAME).await?.status.unwrap_or_default();
            if status.available_replicas == Some(1) { Ok(Some(())) } else { bail!("{:?}", status.conditions) }
        })
        .await?;
        progress.say("CoreDNS ready");
        Ok(())
    }

    /// Loads images, so that pods find them.
    ///
    /// # Errors
    /// When containerd refuses one.
    pub async fn load_images(&self, images: &[Image]) -> Result<()> {
        // One after another, so that common layers are unpacked once.
        for image in images {
            let took = self.runtime.load(&image.archive).await.with_context(|| image.name.to_owned())?;
            eprintln!("image {} loaded in {:.1} s", image.name, took.as_secs_f64());
        }
        Ok(())
    }

    /// The control plane, to be stopped, paused and started.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Enforces `NetworkPolicies` from now on. The start does not do so: the first packet of every
    /// connection of a pod then passes through a program, which would distort measurements.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn enforce_network_policies(&self) -> Result<()> {
        let started = self.network_policies.get_or_try_init(async || {
            network_policies::start(&self.binaries, &self.control_plane, &self.kubectl()?, &self.folder).await
        });
        started.await.map(drop)
    }

    /// kubectl with every right.
    ///
    /// # Errors
    /// Never, for a node that was started.
    pub fn kubectl(&self) -> Result<Kubectl> {
        let program = self.binaries.path(Program::Kubectl)?;
        Ok(Kubectl::new(program, self.control_plane.kubeconfig(), &self.folder.join("kubectl")))
    }

    /// The folder of the logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The duration of the start.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Keeps the logs when this is dropped, for the analysis of a failed test.
    pub fn keep_folder(&mut self) {
        self.control_plane.keep_folder();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.reaper.abort();
    }
}

fn scheduler(binaries: &Binaries, control_plane: &ControlPlane, folder: &Path) -> Result<Component> {
    let kubeconfig = control_plane.kubeconfig_for("system:kube-scheduler", &[])?;
    let arguments = vec![
        arguments::flag("kubeconfig", &kubeconfig),
        // There is only one.
        "--leader-elect=false".to_owned(),
        // No client asks for its metrics.
        "--secure-port=0".to_owned(),
    ];
    Ok(Component::new("kube-scheduler", binaries.path(Program::KubeScheduler)?, arguments, folder))
}

async fn healthy(port: u16) -> Result<()> {
    operator::get((Ipv4Addr::LOCALHOST, port).into(), "/healthz").await.map(drop)
}
