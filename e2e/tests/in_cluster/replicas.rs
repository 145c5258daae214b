//! The operator's pods, and the leader among them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use mail_failover_e2e::assertions::metric_sum;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::in_cluster::installation::{NAMESPACE, RELEASE};
use mail_failover_e2e::in_cluster::shop::WAIT_TIMEOUT;
use mail_failover_e2e::operator::get;
use mail_failover_e2e::test_env::TestEnv;

/// A pod of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub pod: String,
    pub uid: String,
    pub address: IpAddr,
    pub restarts: i32,
}

impl Replica {
    /// Reads its `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        get(self.server(), "/metrics").await
    }

    /// Returns true if its metrics say that it leads.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn leads(&self) -> Result<bool> {
        Ok(metric_sum(&self.metrics().await?, "mail_failover_leader", str::is_empty) > 0.5)
    }

    /// Address at which it answers the kubelet.
    pub fn health(&self) -> SocketAddr {
        (self.address, 8081).into()
    }

    /// Address of its HTTP server.
    fn server(&self) -> SocketAddr {
        (self.address, 8080).into()
    }
}

/// All running pods.
///
/// # Errors
/// When the API server does not answer.
pub async fn replicas(env: &TestEnv) -> Result<Vec<Replica>> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let pods = Api::<Pod>::namespaced(env.client(), NAMESPACE).list(&selector).await?.items;
    Ok(pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter_map(replica).collect())
}

fn replica(pod: &Pod) -> Option<Replica> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    Some(Replica {
        pod: pod.name_any(),
        uid: pod.uid()?,
        address: status.pod_ip.as_ref()?.parse().ok()?,
        restarts: containers.map(|container| container.restart_count).sum(),
    })
}

/// The leader by its Lease.
///
/// # Errors
/// When nobody does, or a pod that is gone.
pub async fn leader(env: &TestEnv) -> Result<Replica> {
    let lease = Api::<Lease>::namespaced(env.client(), NAMESPACE).get(RELEASE).await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
    let holder = holder.context("no replica leads")?;
    // Each process has a name of its own: the pod's name with a suffix.
    let found = replicas(env).await?.into_iter().find(|replica| holder.starts_with(&replica.pod));
    found.with_context(|| format!("{holder} leads, which is no pod"))
}

/// Waits until another replica leads by its own metrics.
///
/// # Errors
/// When that does not happen.
pub async fn wait_led_by_another(env: &TestEnv, before: &Replica) -> Result<Replica> {
    eventually(WAIT_TIMEOUT, "another replica to lead", async || {
        let now = leader(env).await?;
        ensure!(now.uid != before.uid, "{} still leads", before.pod);
        ensure!(now.leads().await?, "{} does not know yet that it leads", now.pod);
        Ok(Some(now))
    })
    .await
}
