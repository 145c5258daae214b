//! Command line of `mail-failover run`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::watch::Namespace;
use mail_failover_core::model::ObjectKey;
use mail_failover_runtime::dial_guard::{CallPorts, DialGuard};
use mail_failover_runtime::telemetry::LogFormat;
use mail_failover_runtime::values::duration;

/// Arguments of the operator.
#[derive(Debug, Args)]
pub struct OperatorArguments {
    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Address of /metrics.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub listen_address: SocketAddr,

    /// Address of /livez and /readyz: a listener of its own, so that nobody who occupies the other
    /// ports has the process ended.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8081")]
    pub health_listen_address: SocketAddr,

    /// Address of the HTTPS server that takes reports of agents beside MTAs about real mail.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    pub report_listen_address: SocketAddr,

    /// Address at which agents reach that server: the pod's, with a port if it is another one.
    /// Without it no agent is told of this replica.
    #[arg(long, env = "POD_IP", value_name = "ADDRESS[:PORT]")]
    pub report_advertise_address: Option<Advertised>,

    /// Take no reports of agents.
    #[arg(long, conflicts_with = "report_listen_address")]
    pub without_reports: bool,

    /// Look at these namespaces only, comma-separated; the whole cluster by default. A Role in each is enough then.
    #[arg(long, value_name = "NAMESPACE,…", value_delimiter = ',')]
    // ADR-0060: Namespaces are named, not selected by label.
    pub namespaces: Vec<Namespace>,

    /// Namespace of the Lease by which replicas elect a leader; the pod's own in a cluster.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "default")]
    pub lease_namespace: String,

    /// Name of the Lease.
    #[arg(long, value_name = "NAME", default_value = "mail-failover-operator")]
    pub lease_name: String,

    /// Name of this replica in the Lease and in Events, unique to the process; the host's name and
    /// a random part by default.
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,

    /// Time without a renewal after which another replica takes over.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,

    /// Time without a renewal after which the leader stops acting; shorter than the lease.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub lease_renew_deadline: Duration,

    /// Time between two renewals of the leader, and between two looks of the others.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub lease_retry_period: Duration,

    /// SMTP dialogues under way at a time, over all backends; more wait.
    #[arg(long, value_name = "COUNT", default_value_t = 8192, value_parser = clap::value_parser!(u16).range(1..))]
    pub probe_concurrency: u16,

    /// Name of the probes in EHLO; by default the host's name, or the literal of its address
    /// ([192.0.2.7]) if that name has no dot.
    #[arg(long, value_name = "NAME")]
    pub ehlo_name: Option<String>,

    /// DNS server that probes ask, repeatable; those of /etc/resolv.conf by default.
    #[arg(long = "dns-server", value_name = "ADDRESS:PORT")]
    pub dns_servers: Vec<SocketAddr>,

    /// Name of this operator in the marks of DNS records that follow routes. Operators that update the same zones need
    /// different ones.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = dns_owner)]
    pub dns_owner: String,

    /// Addresses that backends may lead to.
    #[command(flatten)]
    pub dial_guard: DialGuard,

    /// Ports of webhooks and DNS servers.
    #[command(flatten)]
    pub call_ports: CallPorts,

    /// Image of probes with `job`: this program's own. Without it there are no such Jobs, and no
    /// rights on them are needed.
    #[arg(long, env = "PROBE_IMAGE", value_name = "IMAGE")]
    pub probe_image: Option<String>,

    /// Jobs of probes under way at a time, over all backends; more wait.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_probe_jobs: u16,

    /// Policy whose receivers of notifications are told of every route whose own policy has none.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub default_notifications: Option<PolicyName>,

    /// The cluster's DNS domain, in names of in-cluster backends that rendered configuration holds.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// Format of the log's lines.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// A level (error, warn, info, debug, trace) or a list of directives such as
    /// `info,mail_failover_operator::leader=debug`.
    #[arg(long, env = "MAIL_FAILOVER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// A name that can stand in the mark of a DNS record, between commas.
fn dns_owner(text: &str) -> Result<String, InvalidOwner> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = (1..=63).contains(&text.len()) && text.bytes().all(is_allowed);
    is_name.then(|| text.to_owned()).ok_or(InvalidOwner)
}

/// Error for a text that cannot name an operator in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use 1 to 63 letters, digits, hyphens, underscores and dots")]
pub struct InvalidOwner;

/// Address at which others reach this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// IP address without the port.
    pub address: IpAddr,
    /// Port, if it is not the one that the server listens on.
    pub port: Option<u16>,
}

/// Error for a text that is no advertised address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use an IP address, with a port or without: 10.0.0.7, 10.0.0.7:8443, [2001:db8::7]:8443")]
pub struct InvalidAddress;

impl FromStr for Advertised {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Ok(Self { address: at.ip(), port: Some(at.port()) });
        }
        text.parse().map(|address| Self { address, port: None }).map_err(|_| InvalidAddress)
    }
}

/// Namespace and name of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyName(pub ObjectKey);

/// Error for a text that names no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use the namespace and the name of a FailoverPolicy: mail-system/default")]
pub struct InvalidPolicyName;

impl FromStr for PolicyName {
    type Err = InvalidPolicyName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').ok_or(InvalidPolicyName)?;
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        if is_name(namespace) && is_name(name) {
            Ok(Self(ObjectKey::new(namespace, name)))
        } else {
            Err(InvalidPolicyName)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_named_by_its_namespace_and_name() {
        let parsed = |text: &str| text.parse::<PolicyName>().map(|policy| policy.0);
        assert_eq!(parsed("mail-system/default"), Ok(ObjectKey::new("mail-system", "default")));
        for wrong in ["default", "/default", "mail-system/", "a/b/c", "a/b c"] {
            assert!(parsed(wrong).unwrap_err().to_string().contains("mail-system/default"), "{wrong}");
        }
    }

    #[test]
    fn an_advertised_address_has_a_port_or_not() {
        let parsed = |text: &str| text.parse().map(|Advertised { address, port }| (address.to_string(), port));
        assert_eq!(parsed("10.0.0.7"), Ok(("10.0.0.7".to_owned(), None)));
        assert_eq!(parsed("10.0.0.7:443"), Ok(("10.0.0.7".to_owned(), Some(443))));
        assert_eq!(parsed("2001:db8::7"), Ok(("2001:db8::7".to_owned(), None)));
        assert_eq!(parsed("[2001:db8::7]:443"), Ok(("2001:db8::7".to_owned(), Some(443))));
        assert_eq!(
            (dns_owner("eu-1"), dns_owner("a,b"), dns_owner("")),
            (Ok("eu-1".to_owned()), Err(InvalidOwner), Err(InvalidOwner))
        );
        assert!(parsed("pod.example").unwrap_err().to_string().contains("10.0.0.7:8443"));
    }
}
