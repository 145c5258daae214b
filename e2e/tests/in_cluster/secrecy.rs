//! Trials of secrecy: credentials are in Secrets and nowhere else. Everything that can be read is
//! searched for their bytes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use mail_failover_e2e::assertions::api;
use mail_failover_e2e::in_cluster::installation::ensure_installed;
use mail_failover_e2e::in_cluster::shop::{Outage, PASSWORD, Shop, USER};
use mail_failover_e2e::operator::get;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::Value;

use super::replicas::replicas;

const PER_SECOND: u32 = 15;
const MEANWHILE: usize = 20;
/// The time limit of reading all objects of the cluster on a busy machine.
const READ_ALL: Duration = Duration::from_mins(2);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("after mail, a failover and a refused login the credentials stand in no object but Secrets, no log and no metric", nowhere)
            .needs_own_node(),
    ]
}

async fn nowhere(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let shop = Shop::open(env.clone()).await?;
    let application = shop.start_application(PER_SECOND).await?;
    for outage in [Outage::RefusesLogins, Outage::Killed] {
        shop.wait_stored("a", MEANWHILE).await?;
        shop.break_provider("a", outage).await?;
        let status = shop.wait_active("b").await?;
        let reason = status.last_transition.map(|last| last.reason).unwrap_or_default();
        ensure!(outage != Outage::RefusesLogins || reason == "AuthenticationRefused", "{reason}");
        shop.wait_stored("b", MEANWHILE).await?;
        shop.repair("a", outage).await?;
        shop.wait_active("a").await?;
    }
    let said = application.finish(0).await?;
    ensure!(said.accepted >= 4 * MEANWHILE, "{said:?}");
    shop.wait_drained().await?;

    let mut search = Search::new();
    // Checks that the search finds the credentials in a Secret.
    let secret = env.kubectl(&["get", "secret", "login", "--output=json"]).await?;
    ensure!(search.found_in(&secret), "the search does not find the login in its own Secret");
    search.read_objects(&env).await?;
    search.read_logs(&env.node()?.folder().join("pods"))?;
    search.read_metrics(&env).await?;
    search.read_agents(&env).await?;
    eprintln!("searched {} texts of {} bytes", search.texts, search.bytes);
    ensure!(search.found.is_empty(), "the credentials are in {:#?}", search.found);
    Ok(())
}

/// A search for texts, and the places of its matches.
struct Search {
    needles: Vec<String>,
    found: Vec<String>,
    texts: usize,
    bytes: usize,
}

impl Search {
    fn new() -> Self {
        let mut needles = vec![PASSWORD.to_owned()];
        // Base64 of anything that holds the password, as AUTH PLAIN (RFC 4616) and Secrets do: it depends on how many
        // bytes come before.
        for before in 0..3 {
            let whole = STANDARD.encode([&vec![b'.'; before][..], PASSWORD.as_bytes()].concat());
            let first = if before == 0 { 0 } else { before + 1 };
            let last = (before + PASSWORD.len()) / 3 * 4;
            needles.push(whole[first..last].to_owned());
        }
        let plain = STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
        debug_assert!(needles.iter().any(|needle| plain.contains(needle)), "{plain}");
        Self { needles, found: Vec::new(), texts: 0, bytes: 0 }
    }

    fn found_in(&self, text: &str) -> bool {
        self.needles.iter().any(|needle| text.contains(needle.as_str()))
    }

    fn read(&mut self, what: impl FnOnce() -> String, text: &str) {
        (self.texts, self.bytes) = (self.texts + 1, self.bytes + text.len());
        if self.found_in(text) {
            self.found.push(what());
        }
    }

    /// Searches every object of every kind that can be listed, Events included.
    async fn read_objects(&mut self, env: &TestEnv) -> Result<()> {
        let kinds = env.kubectl(&["api-resources", "--verbs=list", "--output=name"]).await?;
        let kinds: Vec<_> =
            kinds.lines().map(str::trim).filter(|kind| !kind.is_empty() && *kind != "secrets").collect();
        let joined = kinds.join(",");
        let arguments = ["get", &joined, "--all-namespaces", "--show-managed-fields", "--output=json"];
        let list: Value = serde_json::from_str(&env.kubectl_for(READ_ALL, &arguments).await?)?;
        let objects = list["items"].as_array().context("objects")?;
        for kind in ["MailRoute", "SendingBackend", "ConfigMap", "Pod", "Event", "Lease", "StatefulSet"] {
            ensure!(objects.iter().any(|object| object["kind"] == kind), "no {kind} was read");
        }
        for object in objects {
            let (kind, metadata) = (&object["kind"], &object["metadata"]);
            self.read(|| format!("{kind} {}/{}", metadata["namespace"], metadata["name"]), &object.to_string());
        }
        Ok(())
    }

    /// Searches the output of all containers, those that ended before included.
    fn read_logs(&mut self, folder: &Path) -> Result<()> {
        let before = self.texts;
        self.read_folder(folder)?;
        ensure!(self.texts > before + 5, "{} logs", self.texts - before);
        Ok(())
    }

    fn read_folder(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                self.read_folder(&path)?;
            } else if let Ok(log) = fs::read(&path) {
                // A log that was rotated meanwhile is read under its new name.
                self.read(|| path.display().to_string(), &String::from_utf8_lossy(&log));
            }
        }
        Ok(())
    }

    async fn read_metrics(&mut self, env: &TestEnv) -> Result<()> {
        let replicas = replicas(env).await?;
        ensure!(replicas.len() == 2, "{replicas:?}");
        for replica in replicas {
            self.read(|| format!("metrics of {}", replica.pod), &replica.metrics().await?);
        }
        Ok(())
    }

    /// Searches the metrics and the status of the agents.
    async fn read_agents(&mut self, env: &TestEnv) -> Result<()> {
        let pods = api::<Pod>(env).list(&ListParams::default().labels("app=postfix")).await?.items;
        ensure!(pods.len() == 2, "{} pods with an agent", pods.len());
        for pod in pods {
            let name = pod.name_any();
            let address = pod.status.and_then(|status| status.pod_ip).context("an address")?;
            let metrics = get((address.parse::<std::net::IpAddr>()?, 8026).into(), "/metrics").await?;
            ensure!(metrics.contains("mail_failover_agent"), "{metrics}");
            self.read(|| format!("metrics of {name}"), &metrics);
            for output in ["text", "json"] {
                let arguments = ["exec", &name, "--", "mail-failover", "agent", "status", "--output", output];
                let said = env.kubectl(&arguments).await?;
                ensure!(said.contains("orders"), "{said}");
                self.read(|| format!("status of the agent in {name}, as {output}"), &said);
            }
        }
        Ok(())
    }
}
