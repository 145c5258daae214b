//! The environment that a trial has to itself on a shared cluster.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use tempfile::TempDir;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::apiserver_proxy::ApiServerProxy;
use crate::clients::{HelmClient, Kubectl};
use crate::control_plane::{Binaries, Cluster, ControlPlane, Program};
use crate::node::{Node, evidence};
use crate::operator::{self, Operator};
use crate::process::tail;

/// The time limit of one kubectl command.
const KUBECTL: Duration = Duration::from_secs(30);
/// Lines of each operator's log that a failure shows.
const TAIL: usize = 30;

/// A Kubernetes namespace, addresses and a folder of a trial's own.
pub struct TestEnv {
    cluster: Arc<Cluster>,
    kubectl: Kubectl,
    helm: Option<PathBuf>,
    namespace: String,
    folder: TempDir,
    operator_logs: Mutex<Vec<PathBuf>>,
    /// Proxies, which live as long as the operators behind them.
    proxies: Mutex<Vec<Arc<ApiServerProxy>>>,
    turn: Turn,
}

/// The lock by which trials of a suite run beside others or alone.
#[derive(Default)]
pub(crate) struct Turn {
    /// The lock of the suite.
    pub lock: Arc<RwLock<()>>,
    /// The guard that is held as long as the trial lets others run beside it.
    pub shared: Mutex<Option<OwnedRwLockReadGuard<()>>>,
}

impl TestEnv {
    /// Makes an environment for the trial with this name.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub(crate) async fn create(cluster: Arc<Cluster>, binaries: &Binaries, trial: &str, turn: Turn) -> Result<Self> {
        let namespace = namespace_for(trial);
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        Api::<Namespace>::all(cluster.client())
            .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
            .await
            .with_context(|| format!("cannot make the namespace {namespace}"))?;
        Ok(Self { turn, ..Self::in_namespace(cluster, binaries, namespace)? })
    }

    /// Makes an environment in a namespace that exists, for a program that has the cluster to itself.
    ///
    /// # Errors
    /// When there is no room for its files, or no kubectl.
    pub(crate) fn in_namespace(cluster: Arc<Cluster>, binaries: &Binaries, namespace: String) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix(&format!("{namespace}-")).tempdir().context("no temporary folder")?;
        let cache = folder.path().join("kubectl");
        let kubectl = Kubectl::new(binaries.path(Program::Kubectl)?, cluster.kubeconfig(), &cache).within(&namespace);
        Ok(Self {
            cluster,
            kubectl,
            helm: binaries.path(Program::Helm).ok().map(Path::to_owned),
            namespace,
            folder,
            operator_logs: Mutex::default(),
            proxies: Mutex::default(),
            turn: Turn::default(),
        })
    }

    /// Takes the environment down. On a cluster that exists already nothing is left behind; on a
    /// node of our own its pods are removed for the next trial; on a control plane of our own the
    /// namespace stays, since nothing would delete it. Call [`Self::collect_evidence`] before.
    pub(crate) async fn teardown(&self, failed: bool) {
        match &*self.cluster {
            Cluster::Own(_) => {}
            Cluster::Existing { .. } if failed => eprintln!("the namespace {} is kept", self.namespace),
            Cluster::Node(_) | Cluster::Existing { .. } => {
                let api: Api<Namespace> = Api::all(self.cluster.client());
                match api.delete(&self.namespace, &DeleteParams::default()).await {
                    Ok(_) => {}
                    // A trial may have deleted it.
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => eprintln!("the namespace {} could not be deleted: {error}", self.namespace),
                }
            }
        }
    }

    /// Writes evidence of the cluster's state, if it runs pods, and returns the folder.
    pub(crate) async fn collect_evidence(&self) -> Option<PathBuf> {
        let is_own_node = match &*self.cluster {
            Cluster::Own(_) => return None,
            Cluster::Node(_) => true,
            Cluster::Existing { .. } => false,
        };
        let folder = self.folder.path().join("evidence");
        if let Err(error) = evidence::collect(&self.kubectl, is_own_node, &folder).await {
            eprintln!("the state of the cluster could not be collected: {error:#}");
        }
        Some(folder)
    }

    /// A description of the failure for the person who analyses it.
    pub(crate) fn describe_failure(&mut self) -> String {
        self.folder.disable_cleanup(true);
        let logs = self.operator_logs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("namespace {}, files in {}", self.namespace, self.folder.path().display());
        for log in logs.iter() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n--- the end of {} ---\n{}", log.display(), tail(log, TAIL));
        }
        text
    }

    /// Waits until the trials that run beside this one have ended or wait for the same; no other
    /// runs until the guard is dropped. Do before it what takes time and disturbs no other trial.
    pub async fn alone(&self) -> OwnedRwLockWriteGuard<()> {
        drop(self.turn.shared.lock().unwrap_or_else(PoisonError::into_inner).take());
        Arc::clone(&self.turn.lock).write_owned().await
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A client with every right.
    pub fn client(&self) -> Client {
        self.cluster.client()
    }

    /// A kubeconfig with every right.
    pub fn kubeconfig(&self) -> &Path {
        self.cluster.kubeconfig()
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A folder for the trial's files. It is kept if the trial fails.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The control plane, to stop, pause and restart the API server. The trial must declare
    /// [`Trial::stops_api_server`](crate::suite::Trial::stops_api_server) or `needs_control`.
    ///
    /// # Errors
    /// When the cluster is somebody else's.
    pub fn control(&self) -> Result<&ControlPlane> {
        self.cluster.control().context("the cluster is not ours to stop")
    }

    /// An IPv4 address that no other trial of this suite uses (until 500 were taken), with all its ports.
    pub fn ipv4(&self) -> IpAddr {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        // 198.51.100.1 to .250, then 203.0.113.1 to .250. 192.0.2.0/24 is left to tests with literal addresses.
        let number = TAKEN.fetch_add(1, Ordering::Relaxed) % 500;
        let host = u8::try_from(number % 250 + 1).unwrap_or(u8::MAX);
        let address = if number < 250 { Ipv4Addr::new(198, 51, 100, host) } else { Ipv4Addr::new(203, 0, 113, host) };
        address.into()
    }

    /// An IPv6 address that no other trial of this suite uses, with all its ports.
    pub fn ipv6(&self) -> IpAddr {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [number >> 16, number & 0xffff].map(|word| u16::try_from(word).unwrap_or(0));
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 1, high, low).into()
    }

    /// Opens a proxy to the API server that shows an operator this trial's namespace only.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn open_proxy(&self) -> Result<Arc<ApiServerProxy>> {
        let proxy = Arc::new(ApiServerProxy::open(self.kubeconfig(), &self.namespace, self.folder.path()).await?);
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&proxy));
        Ok(proxy)
    }

    /// Starts an operator for this trial's namespace alone, so that operators of different trials
    /// do not interfere.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_own_operator(&self, identity: &str, arguments: &[&str]) -> Result<Operator> {
        let proxy = self.open_proxy().await?;
        self.start_operator_behind(&proxy, identity, arguments)
    }

    /// Starts an operator behind a proxy.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_operator_behind(
        &self,
        proxy: &ApiServerProxy,
        identity: &str,
        arguments: &[&str],
    ) -> Result<Operator> {
        let mut options = self.operator_options(identity)?;
        proxy.kubeconfig().clone_into(&mut options.kubeconfig);
        options.arguments = arguments.iter().map(Into::into).collect();
        self.start_operator_with(&options)
    }

    /// Starts an operator with this identity, its Lease in the trial's namespace, and these further
    /// arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_operator(&self, identity: &str, arguments: &[&str]) -> Result<Operator> {
        let mut options = self.operator_options(identity)?;
        options.arguments = arguments.iter().map(Into::into).collect();
        self.start_operator_with(&options)
    }

    /// The options of [`Self::start_operator`], for changes.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn operator_options(&self, identity: &str) -> Result<operator::Options> {
        Ok(operator::Options {
            program: None,
            kubeconfig: self.kubeconfig().to_owned(),
            lease_namespace: self.namespace.clone(),
            identity: identity.to_owned(),
            listen: free_address()?,
            health: free_address()?,
            log: self.folder.path().join(format!("{identity}.log")),
            arguments: Vec::new(),
            environment: Vec::new(),
        })
    }

    /// Starts an operator. A failure of the trial shows its log.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_operator_with(&self, options: &operator::Options) -> Result<Operator> {
        let operator = Operator::start(options)?;
        let mut logs = self.operator_logs.lock().unwrap_or_else(PoisonError::into_inner);
        if !logs.contains(&options.log) {
            logs.push(options.log.clone());
        }
        Ok(operator)
    }

    /// The program kubectl, for scripts.
    pub fn kubectl_program(&self) -> &Path {
        self.kubectl.program()
    }

    /// Runs kubectl in the trial's namespace and returns what it prints.
    ///
    /// # Errors
    /// When it fails; the message is what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(arguments).await
    }

    /// Runs kubectl like [`Self::kubectl`], for a command that may take longer, such as `wait`.
    ///
    /// # Errors
    /// When it fails, or takes longer than `deadline`; the message is what it said.
    pub async fn kubectl_for(&self, deadline: Duration, arguments: &[&str]) -> Result<String> {
        self.kubectl.run_for(deadline, arguments, "").await
    }

    /// Applies YAML as a user would.
    ///
    /// # Errors
    /// When the API server refuses it; the message is what the user reads.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl.apply(yaml).await
    }

    /// Runs kubectl in the trial's namespace with this standard input.
    ///
    /// # Errors
    /// When it fails; the message is what it said.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.kubectl.run_for(KUBECTL, arguments, input).await
    }

    /// Helm in the trial's namespace. A suite with a node has it.
    ///
    /// # Errors
    /// When the suite has none.
    pub fn helm(&self) -> Result<HelmClient> {
        let program = self.helm.as_deref().context("the suite did not ask for a node, and has no helm")?;
        Ok(HelmClient::new(program, self.kubeconfig(), &self.namespace, &self.folder.path().join("helm")))
    }

    /// The node, if this program started one. The trial must declare
    /// [`Trial::needs_own_node`](crate::suite::Trial::needs_own_node).
    ///
    /// # Errors
    /// When the cluster is somebody else's, or has no node.
    pub fn node(&self) -> Result<&Node> {
        self.cluster.node().context("the cluster has no node of ours")
    }
}

/// A loopback address with a port that is free now and stays free until it is listened on: no port
/// is returned twice, and none is in the range that the kernel assigns by itself (32768 and up by
/// default).
pub(crate) fn free_address() -> Result<SocketAddr> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Suites that share a network begin at different ports.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let number = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + number)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port from {FIRST} on is free")
}

/// The trial's name as a DNS label (RFC 1123), with a suffix that no earlier run has used.
fn namespace_for(trial: &str) -> String {
    const LONGEST: usize = 50;
    let mut label = String::new();
    for letter in trial.chars() {
        if label.len() == LONGEST {
            break;
        }
        if letter.is_ascii_alphanumeric() {
            label.push(letter.to_ascii_lowercase());
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    let label = label.trim_end_matches('-');
    let unique: String = std::iter::repeat_with(|| char::from(fastrand::u8(b'a'..=b'z'))).take(6).collect();
    format!("{}-{unique}", if label.is_empty() { "trial" } else { label })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_out_twice() {
        let addresses: std::collections::BTreeSet<_> =
            (0..200).map(|_| free_address().expect("a free address")).collect();
        assert_eq!(addresses.len(), 200);
    }

    #[test]
    fn a_namespace_is_named_after_its_trial() {
        let cases = [
            ("A route fails over, and back", "a-route-fails-over-and-back"),
            ("…", "trial"),
            (&"x".repeat(80), &"x".repeat(50)),
        ];
        for (trial, expected) in cases {
            let name = namespace_for(trial);
            let (label, unique) = name.rsplit_once('-').expect("two parts");
            assert_eq!(label, expected, "{trial}");
            assert_eq!(unique.len(), 6);
            assert!(name.len() <= 63);
        }
    }
}
