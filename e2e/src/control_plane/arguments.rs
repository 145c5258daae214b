//! The command lines of a control plane's programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Options;
use super::audit;
use super::certificates::{ClusterAuthority, TokenKeys};
use super::namespace::{NODE_ADDRESS, SERVICE_RANGE};

/// The address by which a cluster without nodes would know the API server; no process connects to
/// it.
const NOBODYS: &str = "192.0.2.1";
/// The addresses of pods.
pub(crate) const POD_RANGE: &str = "10.244.0.0/16";

pub(super) fn etcd(data: &Path, url: &str, peer_port: u16) -> Vec<String> {
    let peer = format!("http://127.0.0.1:{peer_port}");
    vec![
        flag("data-dir", data),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data need not survive a crash of the machine.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(super) fn api_server(
    authority: &ClusterAuthority,
    token_keys: &TokenKeys,
    etcd_url: &str,
    port: u16,
    options: Options,
) -> Result<Vec<String>> {
    let advertised = if options.node { NODE_ADDRESS.to_string() } else { NOBODYS.to_owned() };
    let server = authority
        .server("kube-apiserver", &["127.0.0.1", "localhost", &advertised, "10.96.0.1", "kubernetes.default.svc"])?;
    let ca = authority.certificate();
    let mut arguments = vec![
        format!("--etcd-servers={etcd_url}"),
        format!("--secure-port={port}"),
        format!("--advertise-address={advertised}"),
        format!("--service-cluster-ip-range={}", service_ranges(options)),
        "--anonymous-auth=false".to_owned(),
        flag("client-ca-file", &ca),
        flag("tls-cert-file", &server.certificate),
        flag("tls-private-key-file", &server.key),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        flag("service-account-key-file", &token_keys.public),
        flag("service-account-signing-key-file", &token_keys.private),
    ];
    if options.node {
        let kubelet_client = authority.client("kube-apiserver-kubelet-client", &["system:masters"])?;
        arguments.extend([
            "--bind-address=0.0.0.0".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            flag("kubelet-certificate-authority", &ca),
            flag("kubelet-client-certificate", &kubelet_client.certificate),
            flag("kubelet-client-key", &kubelet_client.key),
            // Else `logs` and `exec` wait until the node's name is not found.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]);
    } else {
        arguments.extend([
            "--bind-address=127.0.0.1".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ]);
    }
    if !options.controller_manager {
        // No controller creates the service accounts that this plugin demands of every Pod.
        arguments.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    Ok(arguments)
}

/// Flags that keep an audit log.
pub(super) fn audit(policy: &Path, log: &Path) -> Result<[String; 3]> {
    fs::write(policy, audit::POLICY).with_context(|| policy.display().to_string())?;
    // Blocking: every answered request is in the log.
    Ok([flag("audit-policy-file", policy), flag("audit-log-path", log), "--audit-log-mode=blocking".to_owned()])
}

pub(super) fn controller_manager(
    folder: &Path,
    authority: &ClusterAuthority,
    kubeconfig: &Path,
    token_keys: &TokenKeys,
    port: u16,
    options: Options,
) -> Vec<String> {
    let mut arguments = vec![
        flag("kubeconfig", kubeconfig),
        flag("service-account-private-key-file", &token_keys.private),
        flag("root-ca-file", &authority.certificate()),
        "--use-service-account-credentials".to_owned(),
        // Each of its forty controllers gets an identity at the start, which at the default rate takes five seconds.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        // It is the only one, and need not wait for its predecessor's lease.
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--service-cluster-ip-range={}", service_ranges(options)),
        // The folder for the certificate that it makes for its metrics.
        flag("cert-dir", &folder.join("kube-controller-manager")),
    ];
    if options.node {
        arguments.extend(["--allocate-node-cidrs".to_owned(), format!("--cluster-cidr={POD_RANGE}")]);
    }
    arguments
}

/// The addresses of Services. They are of both families, so that IPv6 slices are real; a node's
/// pods and their Services have IPv4 alone.
fn service_ranges(options: Options) -> String {
    if options.node { SERVICE_RANGE.to_owned() } else { format!("{SERVICE_RANGE},fd00:10:96::/112") }
}

pub(crate) fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
