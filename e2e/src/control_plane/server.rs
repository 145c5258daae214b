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
use super::certificates::{Authority, Identity, TokenKeys};
use super::cluster::client;
use super::component::Component;
use super::{Binaries, Program, namespace};

/// How long a program may take until it answers. A busy machine needs ten times what an idle one does.
const START: Duration = Duration::from_secs(90);
/// The address by which the cluster would know the API server; nothing in here connects to it.
const ADVERTISED: &str = "192.0.2.1";
/// Addresses of Services. Both families, so that IPv6 slices are real.
const SERVICE_ADDRESSES: &str = "10.96.0.0/16,fd00:10:96::/112";

/// What a control plane consists of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Also run kube-controller-manager: garbage collection, `EndpointSlices` of selector Services, Jobs, deletion of namespaces.
    pub controller_manager: bool,
    /// Keep an audit log of what service accounts ask for, see [`ControlPlane::calls_of`].
    pub audit: bool,
}

impl Options {
    /// The programs that it takes, kubectl included.
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
    _etcd: Component,
    port: u16,
    client: Client,
    kubeconfig: PathBuf,
    authority: Authority,
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
        let [etcd_port, peer_port, port, manager_port] = free_ports()?;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let authority = Authority::new(folder)?;
        let token_keys = TokenKeys::new(folder)?;
        let etcd_arguments = etcd_arguments(folder, &etcd_url, peer_port);
        let etcd = Component::new("etcd", binaries.path(Program::Etcd)?, etcd_arguments, folder);
        etcd.start()?;

        let mut arguments = api_server_arguments(&authority, &token_keys, &etcd_url, port, options)?;
        let audit_log = options.audit.then(|| folder.join("audit.log"));
        if let Some(log) = &audit_log {
            arguments.extend(audit_arguments(&folder.join("audit-policy.json"), log)?);
        }
        let api_server = Component::new("kube-apiserver", binaries.path(Program::KubeApiServer)?, arguments, folder);
        let kubeconfig = folder.join("admin.kubeconfig");
        write_kubeconfig(&kubeconfig, &authority, port, &authority.client("admin", &["system:masters"])?)?;
        let controller_manager = if options.controller_manager {
            let arguments = controller_manager_arguments(folder, &authority, &kubeconfig, &token_keys, manager_port);
            let program = binaries.path(Program::KubeControllerManager)?;
            Some(Component::new("kube-controller-manager", program, arguments, folder))
        } else {
            None
        };
        let client = client(&kubeconfig).await?;
        let control_plane = Self {
            controller_manager,
            api_server,
            _etcd: etcd,
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

    /// Its controllers are at work when the namespace `default` has its service account, without which no Pod may start. Before that,
    /// kube-controller-manager does not survive a stop of the API server.
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

    /// What a service account has asked of the API server until now, oldest first. The user is
    /// [`service_account::user`](crate::service_account::user).
    ///
    /// # Errors
    /// When no audit log is kept ([`Options::audit`]), or when it cannot be read.
    pub fn calls_of(&self, user: &str) -> Result<Vec<Call>> {
        audit::calls(self.audit_log.as_deref().context("the control plane keeps no audit log")?, user)
    }

    /// The TCP port of the API server, on 127.0.0.1; it stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How long the start took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Ends the API server at once (SIGKILL), as a power cut would. Connections are reset, new ones refused; the data stay.
    pub fn stop_api_server(&self) {
        self.api_server.stop();
    }

    /// Starts the API server at the same port with the same data, and waits until it is ready. One that runs is left alone.
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
            // As a kubelet would: one that was just starting ends when the API server goes.
            Some(controller_manager) => controller_manager.start(),
            None => Ok(()),
        }
    }

    /// Freezes the API server (SIGSTOP): connections stay open and nothing is answered.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause_api_server(&self) -> Result<()> {
        self.api_server.signal(Signal::STOP)
    }

    /// Thaws the API server (SIGCONT).
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume_api_server(&self) -> Result<()> {
        self.api_server.signal(Signal::CONT)
    }

    /// Where the logs are.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Keeps the folder when this is dropped: a test failed, and somebody will want the logs.
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

fn etcd_arguments(folder: &Path, url: &str, peer_port: u16) -> Vec<String> {
    let peer = format!("http://127.0.0.1:{peer_port}");
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // Nothing here outlives the machine.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_arguments(
    authority: &Authority,
    token_keys: &TokenKeys,
    etcd_url: &str,
    port: u16,
    options: Options,
) -> Result<Vec<String>> {
    let server = authority
        .server("kube-apiserver", &["127.0.0.1", "localhost", ADVERTISED, "10.96.0.1", "kubernetes.default.svc"])?;
    let ca = authority.certificate();
    let mut arguments = vec![
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--advertise-address={ADVERTISED}"),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--service-cluster-ip-range={SERVICE_ADDRESSES}"),
        "--authorization-mode=RBAC".to_owned(),
        "--anonymous-auth=false".to_owned(),
        flag("client-ca-file", &ca),
        flag("tls-cert-file", &server.certificate),
        flag("tls-private-key-file", &server.key),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        flag("service-account-key-file", &token_keys.public),
        flag("service-account-signing-key-file", &token_keys.private),
    ];
    if !options.controller_manager {
        // Nobody makes the service accounts that this plugin would demand of every Pod.
        arguments.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    Ok(arguments)
}

fn audit_arguments(policy: &Path, log: &Path) -> Result<[String; 3]> {
    fs::write(policy, audit::POLICY).with_context(|| policy.display().to_string())?;
    // Blocking: what was answered is in the log.
    Ok([flag("audit-policy-file", policy), flag("audit-log-path", log), "--audit-log-mode=blocking".to_owned()])
}

fn controller_manager_arguments(
    folder: &Path,
    authority: &Authority,
    kubeconfig: &Path,
    token_keys: &TokenKeys,
    port: u16,
) -> Vec<String> {
    vec![
        flag("kubeconfig", kubeconfig),
        flag("service-account-private-key-file", &token_keys.private),
        flag("root-ca-file", &authority.certificate()),
        "--use-service-account-credentials".to_owned(),
        // Each of its forty controllers gets an identity at the start, which at the default rate takes five seconds.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        // There is only one, and it need not wait for a lease of its predecessor.
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--service-cluster-ip-range={SERVICE_ADDRESSES}"),
        // Where it may write the certificate that it makes for its metrics.
        flag("cert-dir", &folder.join("kube-controller-manager")),
    ]
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn write_kubeconfig(path: &Path, authority: &Authority, port: u16, identity: &Identity) -> Result<()> {
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

/// Ports that nobody uses now. Held until all are known, so that they differ.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
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
