//! A tenant whose application sends through `mail-failover relay`, installed by its chart, to the providers `a` and `b`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::shop::{LOGIN, Shop, USER};
use crate::eventually::eventually;
use crate::helm::RELAY_CHART;
use crate::mail::certificates::Authority;
use crate::node::images::OPERATOR;
use crate::test_env::TestEnv;

/// The name of the relay's objects.
pub const RELAY: &str = "mail-relay";
/// The relay's Deployment.
pub const RELAY_DEPLOYMENT: &str = "deployment/mail-relay";
/// The time limit of a Helm command, longer than Helm's own.
const DEADLINE: Duration = Duration::from_mins(4);
/// The Secret with the relay's certificate.
const CERTIFICATE: &str = "mail-relay-tls";

/// A tenant with a relay of two replicas.
pub struct RelayShop {
    /// The providers, the route and the application.
    pub shop: Shop,
    authority: Authority,
}

impl RelayShop {
    /// Creates the tenant, and returns when mail can be sent.
    ///
    /// # Errors
    /// When a pod does not become ready, or the route does not lead to `a`.
    pub async fn open(env: Arc<TestEnv>, password: &str) -> Result<Self> {
        let relay = Self { shop: Shop::empty(env)?, authority: Authority::new()? };
        relay.set_login(password).await?;
        relay.renew_certificate().await?;
        relay.shop.start_providers(&[&format!("--login-folder={LOGIN}")]).await?;
        let route = relay.shop.example("examples/relay/route.yaml")?;
        relay.shop.apply(&route).await?;
        relay.shop.wait_active("a").await?;
        relay.helm(&["install", RELAY, RELAY_CHART], &[]).await?;
        relay.shop.wait_rolled_out(RELAY_DEPLOYMENT).await?;
        Ok(relay)
    }

    /// Installs or upgrades the relay with the trial's values and these.
    ///
    /// # Errors
    /// When Helm says so.
    pub async fn helm(&self, command: &[&str], values: &[&str]) -> Result<String> {
        let (repository, tag) = OPERATOR.rsplit_once(':').context("the image has a tag")?;
        let fixed = [
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            "image.pullPolicy=Never".to_owned(),
            format!("fullnameOverride={RELAY}"),
            "configMap=orders-agent".to_owned(),
            "loginSecrets={login}".to_owned(),
            // The pods of the node.
            "clients.networks={10.244.0.0/16}".to_owned(),
            format!("tls.secretName={CERTIFICATE}"),
        ];
        let mut arguments = command.to_vec();
        arguments.extend(["--namespace", self.shop.env.namespace(), "--wait", "--timeout=3m"]);
        for value in fixed.iter().map(String::as_str).chain(values.iter().copied()) {
            arguments.extend(["--set", value]);
        }
        self.shop.env.helm()?.run(DEADLINE, &arguments).await.context("the relay's chart")
    }

    /// Puts this password into the Secret with the providers' login.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn set_login(&self, password: &str) -> Result<()> {
        self.set_secret("login", "kubernetes.io/basic-auth", &json!({ "username": USER, "password": password })).await
    }

    /// Puts a new certificate into the Secret of the relay's, as cert-manager does.
    ///
    /// # Errors
    /// As of [`Self::set_login`].
    pub async fn renew_certificate(&self) -> Result<()> {
        let (certificate, key) = self.authority.issue_pem(&[RELAY])?;
        self.set_secret(CERTIFICATE, "kubernetes.io/tls", &json!({ "tls.crt": certificate, "tls.key": key })).await
    }

    async fn set_secret(&self, name: &str, type_: &str, data: &Value) -> Result<()> {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": type_, "stringData": data });
        self.shop.apply(&[secret]).await
    }

    /// The names of the relay's pods, and their addresses.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self) -> Result<Vec<(String, IpAddr)>> {
        let selector = format!("--selector=app.kubernetes.io/instance={RELAY}");
        let template = "--output=jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}";
        let printed = self.shop.env.kubectl(&["get", "pods", &selector, template]).await?;
        let pods = printed.lines().filter_map(|line| line.split_once(' '));
        pods.map(|(name, address)| Ok((name.to_owned(), address.parse().context(address.to_owned())?))).collect()
    }

    /// The certificate that each of the relay's pods serves.
    ///
    /// # Errors
    /// When one does not.
    pub async fn served(&self) -> Result<Vec<CertificateDer<'static>>> {
        let config = self.authority.client_config()?;
        let mut served = vec![];
        for (pod, address) in self.pods().await? {
            let stream = TcpStream::connect(SocketAddr::new(address, 2465)).await.context(pod)?;
            let tls = TlsConnector::from(config.clone()).connect(ServerName::try_from(RELAY)?, stream).await?;
            let chain = tls.get_ref().1.peer_certificates().context("a certificate")?;
            served.push(chain.first().context("a certificate")?.clone().into_owned());
        }
        Ok(served)
    }

    /// Waits until none of the relay's pods serves one of these certificates.
    ///
    /// # Errors
    /// When one still does.
    pub async fn wait_renewed(&self, before: &[CertificateDer<'static>], within: Duration) -> Result<()> {
        eventually(within, "the certificate to be renewed", async || {
            let served = self.served().await?;
            ensure!(!served.is_empty() && served.iter().all(|one| !before.contains(one)), "it is the old one");
            Ok(Some(()))
        })
        .await
    }
}
