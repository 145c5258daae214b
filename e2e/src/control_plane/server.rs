use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::audit::{self, Call};
use super::certificates::{CertificateFiles, ClusterAuthority, TokenKeys};
use super::cluster::client;
use super::component::Component;
use super::{Binaries, Program, arguments, namespace};

/// The time limit of a program's start. A busy machine needs ten times as long as an idle one.
const START: Duration = Duration::from_secs(90);
/// The parts of a control plane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Also run kube-controller-manager: garbage collection, `EndpointSlices` of selector Services, Jobs, deletion of
    /// namespaces.
    pub controller_manager: bool,
    /// Keep an audit log of the requests of service accounts, see [`ControlPlane::calls_of`].
    pub audit: bool,
    /// Keep Events in an etcd of their own, as large clusters do, see
    /// [`ControlPlane::pause_events_store`].
    pub events_store: bool,
    /// Serve a node: at an address that its pods reach, with the authorizer and the credentials
    /// that a kubelet needs. It needs [`Isolation::Node`](namespace::Isolation::Node).
    pub node: bool,
}

impl Options {
    /// The programs that these parts need, kubectl included.
    pub fn programs(self) -> Vec<Program> {
        let mut programs = vec![Program::Etcd, Program::KubeApiServer, Program::Kubectl];
        if self.controller_manager {
            programs.push(Program::KubeControllerManager);
        }
        programs
    }
}

/// A running control plane. Dropping it ends its programs and removes its folder.
pub struct ControlPlane {
    // Dropped in this order: an API server whose etcd is gone first would hang for minutes.
    controller_manager: Option<Component>,
    api_server: Component,
    etcd: Component,
    /// The etcd of the Events, if they have one of their own.
    events_store: Option<Component>,
    port: u16,
    client: Client,
    kubeconfig: PathBuf,
    authority: ClusterAuthority,
    folder: Option<TempDir>,
    took: Duration,
    /// The audit log, if one is kept.
    audit_log: Option<PathBuf>,
}

impl ControlPlane {
    /// Starts a control plane and waits until it is ready.
    ///
    /// # Errors
    /// When a program is missing, ends, or is not ready in time; the end of its log is in the message.
    pub async fn start(binaries: &Binaries, options: Options) -> Result<Self> {
        let begun = Instant::now();
        let folder = tempfile::Builder::new().prefix("control-plane-").tempdir().context("no temporary folder")?;
        match Self::start_in(folder.path(), binaries, options).await {
            Ok(mut control_plane) => {
                control_plane.took = begun.elapsed();
                control_plane.folder = Some(folder);
                Ok(control_plane)
            }
            Err(error) => Err(error.context(format!("no control plane; its logs: {}", folder.keep().display()))),
        }
    }

    async fn start_in(folder: &Path, binaries: &Binaries, options: Options) -> Result<Self> {
        let [etcd_port, peer_port, port, manager_port, events_port, events_peer_port] = free_ports()?;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let authority = ClusterAuthority::new(folder)?;
        let token_keys = TokenKeys::new(folder)?;
        let etcd_arguments = arguments::etcd(&folder.join("etcd"), &etcd_url, peer_port);
        let etcd = Component::new("etcd", binaries.path(Program::Etcd)?, etcd_arguments, folder);
        etcd.start()?;

        let mut arguments = arguments::api_server(&authority, &token_keys, &etcd_url, port, options)?;
        let events_url = format!("http://127.0.0.1:{events_port}");
        let events_store = if options.events_store {
            let data = folder.join("etcd-events");
            let of_events = arguments::etcd(&data, &events_url, events_peer_port);
            let store = Component::new("etcd-events", binaries.path(Program::Etcd)?, of_events, folder);
            store.start()?;
            arguments.push(format!("--etcd-servers-overrides=/events#{events_url}"));
            Some(store)
        } else {
            None
        };
        let audit_log = options.audit.then(|| folder.join("audit.log"));
        if let Some(log) = &audit_log {
            arguments.extend(arguments::audit(&folder.join("audit-policy.json"), log)?);
        }
        let api_server = Component::new("kube-apiserver", binaries.path(Program::KubeApiServer)?, arguments, folder);
        let kubeconfig = folder.join("admin.kubeconfig");
        write_kubeconfig(&kubeconfig, &authority, port, &authority.client("admin", &["system:masters"])?)?;
        let controller_manager = if options.controller_manager {
            let arguments =
                arguments::controller_manager(folder, &authority, &kubeconfig, &token_keys, manager_port, options);
            let program = binaries.path(Program::KubeControllerManager)?;
            Some(Component::new("kube-controller-manager", program, arguments, folder))
        } else {
            None
        };
        let client = client(&kubeconfig).await?;
        let control_plane = Self {
            controller_manager,
            api_server,
            etcd,
            events_store,
            port,
            client,
            kubeconfig,
            authority,
            folder: None,
            took: Duration::ZERO,
            audit_log,
        };
        control_plane.start_api_server().await?;
        control_plane.await_controllers().await?;
        Ok(control_plane)
    }

    /// Waits until the namespace `default` has its service account: then the controllers work. No
    /// Pod may start without it.
    async fn await_controllers(&self) -> Result<()> {
        let Some(controller_manager) = &self.controller_manager else { return Ok(()) };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        controller_manager
            .ready(START, async || {
                accounts.get("default").await?;
                Ok(())
            })
            .await
    }

    /// A client with every right.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig with every right.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes a kubeconfig for a user in these groups, to see what RBAC allows them. A service account's user is
    /// `system:serviceaccount:<namespace>:<name>`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let path = self.kubeconfig.with_file_name(format!("{}.kubeconfig", user.replace([':', '/'], "-")));
        write_kubeconfig(&path, &self.authority, self.port, &self.authority.client(user, groups)?)?;
        Ok(path)
    }

    /// The requests of a service account until now, oldest first. The user is
    /// [`service_account::user`](crate::service_account::user).
    ///
    /// # Errors
    /// When no audit log is kept ([`Options::audit`]), or when it cannot be read.
    pub fn calls_of(&self, user: &str) -> Result<Vec<Call>> {
        audit::calls(self.audit_log.as_deref().context("the control plane keeps no audit log")?, user)
    }

    /// A server's certificate of this control plane's authority.
    pub(crate) fn server_identity(&self, name: &str, subjects: &[&str]) -> Result<CertificateFiles> {
        self.authority.server(name, subjects)
    }

    /// The file with the certificate of this control plane's authority.
    pub(crate) fn certificate_authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// The TCP port of the API server, on 127.0.0.1; it stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The duration of the start.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Ends the API server at once (SIGKILL), as a power cut would. Connections are reset, new ones
    /// refused; the data stay.
    ///
    /// kube-controller-manager ends with it. It runs without leader election here; in a cluster it
    /// would give up when it cannot renew its Lease for ten seconds, and start anew. If it outlived
    /// a long outage, it would take every node for lost and all pods for not ready.
    pub fn stop_api_server(&self) {
        self.api_server.stop();
        if let Some(controller_manager) = &self.controller_manager {
            controller_manager.stop();
        }
    }

    /// Starts the API server on the same port with the same data, and waits until it is ready. Does
    /// nothing if it runs.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; the end of its log is in the message.
    pub async fn start_api_server(&self) -> Result<()> {
        self.api_server.start()?;
        self.api_server
            .ready(START, async || {
                self.client.request_text(hyper::Request::get("/readyz").body(Vec::new())?).await?;
                Ok(())
            })
            .await?;
        match &self.controller_manager {
            Some(controller_manager) => controller_manager.start(),
            None => Ok(()),
        }
    }

    /// Freezes the API server (SIGSTOP): connections stay open and nothing is answered.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause_api_server(&self) -> Result<()> {
        self.api_server.pause()
    }

    /// Thaws the API server (SIGCONT).
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume_api_server(&self) -> Result<()> {
        self.api_server.signal(Signal::CONT)
    }

    /// Freezes etcd (SIGSTOP): the API server runs and can neither read nor write.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause_etcd(&self) -> Result<()> {
        self.etcd.pause()
    }

    /// Thaws etcd (SIGCONT).
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume_etcd(&self) -> Result<()> {
        self.etcd.signal(Signal::CONT)
    }

    /// Freezes the etcd of the Events (SIGSTOP): no Event is stored, and everything else is.
    ///
    /// # Errors
    /// When Events have no etcd of their own ([`Options::events_store`]), or when it is not running.
    pub fn pause_events_store(&self) -> Result<()> {
        self.events_store()?.pause()
    }

    /// Thaws the etcd of the Events (SIGCONT).
    ///
    /// # Errors
    /// As [`Self::pause_events_store`].
    pub fn resume_events_store(&self) -> Result<()> {
        self.events_store()?.signal(Signal::CONT)
    }

    fn events_store(&self) -> Result<&Component> {
        self.events_store.as_ref().context("the control plane keeps Events with everything else")
    }

    /// The folder of the logs.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Keeps the folder when this is dropped, for the logs of a failed test.
    pub fn keep_folder(&mut self) {
        if let Some(folder) = &mut self.folder {
            folder.disable_cleanup(true);
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if namespace::keep() || std::thread::panicking() {
            self.keep_folder();
            if let Some(folder) = self.folder() {
                eprintln!("The control plane's logs are kept in {}", folder.display());
            }
        }
    }
}

fn write_kubeconfig(path: &Path, authority: &ClusterAuthority, port: u16, identity: &CertificateFiles) -> Result<()> {
    // JSON is YAML.
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "e2e", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": authority.certificate(),
        }}],
        "users": [{ "name": "e2e", "user": {
            "client-certificate": identity.certificate,
            "client-key": identity.key,
        }}],
        "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "e2e" }}],
        "current-context": "e2e",
    });
    fs::write(path, serde_json::to_vec_pretty(&kubeconfig)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Ports that are free now. They are held until all are known, so that they differ.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_from_each_other() {
        let ports: [u16; 4] = free_ports().expect("ports");
        let mut unique = ports.to_vec();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ports.len(), "{ports:?}");
    }
}
