//! A tenant: two servers and a route over them, in a namespace; and an operator with the rights of
//! a service account.

use std::path::PathBuf;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use mail_failover_api::{MailRoute, MailRouteStatus};
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, QUICK_LEASE, WAIT_TIMEOUT, backend, policy, route};
use mail_failover_e2e::helm::{objects, repository};
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::service_account;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::Value;

/// Returns the objects of the plain manifests that README has people apply.
pub fn plain_manifests() -> Result<Vec<Value>> {
    let mut manifests = objects(&std::fs::read_to_string(repository("config/crds.yaml"))?)?;
    manifests.extend(objects(&std::fs::read_to_string(repository("config/operator.yaml"))?)?);
    Ok(manifests)
}

/// Creates a namespace.
pub async fn make_namespace(env: &TestEnv, name: &str, labels: &[(&str, &str)]) -> Result<()> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(env.client()).create(&PostParams::default(), &namespace).await?;
    Ok(())
}

/// The route `orders` over `primary` and `standby`, in a namespace.
pub struct TenantShop {
    pub namespace: String,
    pub primary: SmtpServer,
    _standby: SmtpServer,
}

impl TenantShop {
    pub async fn open(env: &TestEnv, namespace: &str) -> Result<Self> {
        let primary = SmtpServer::start(Options::new("primary", (env.ipv4(), 25).into())).await?;
        let standby = SmtpServer::start(Options::new("standby", (env.ipv4(), 25).into())).await?;
        let timings = PolicyTimings::default();
        let manifests = [
            policy(&timings),
            backend("primary", primary.address(), &timings),
            backend("standby", standby.address(), &timings),
            route("orders", &["primary", "standby"], "mail"),
        ];
        let mut manifests = objects(&manifests.concat())?;
        for manifest in &mut manifests {
            manifest["metadata"]["namespace"] = namespace.into();
        }
        apply(&env.client(), &manifests, Mode::Keep).await?;
        Ok(Self { namespace: namespace.to_owned(), primary, _standby: standby })
    }

    pub async fn status(&self, env: &TestEnv) -> Result<Option<MailRouteStatus>> {
        Ok(Api::<MailRoute>::namespaced(env.client(), &self.namespace).get("orders").await?.status)
    }

    pub async fn wait_active(&self, env: &TestEnv, backend: &str) -> Result<()> {
        eventually(WAIT_TIMEOUT, &format!("mail of {} to leave by {backend}", self.namespace), async || {
            let status = self.status(env).await?.unwrap_or_default();
            match status.active.first() {
                Some(active) if active.backend == backend && status.pending_events.is_empty() => Ok(Some(())),
                other => bail!("{other:?}"),
            }
        })
        .await
    }
}

/// Starts an operator as a pod of this service account would run it, its Leases in the account's
/// namespace.
pub async fn start_as(
    env: &TestEnv,
    (namespace, account): (&str, &str),
    identity: &str,
    arguments: &[&str],
) -> Result<Operator> {
    let kubeconfig: PathBuf = env.folder().join(format!("{namespace}-{identity}.kubeconfig"));
    service_account::write_kubeconfig(env, namespace, account, &kubeconfig).await?;
    let mut options = env.operator_options(identity)?;
    options.kubeconfig = kubeconfig;
    namespace.clone_into(&mut options.lease_namespace);
    options.arguments = [&QUICK_LEASE[..], arguments].concat().into_iter().map(Into::into).collect();
    env.start_operator_with(&options)
}
