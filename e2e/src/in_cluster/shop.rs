//! A tenant's namespace: an application, Postfix with the agent by the example's manifests, and two
//! providers `a` and `b` that demand a login.
//!
//! It differs from the example in this: Services instead of hosts, without TLS; images, probes and
//! thresholds that suit a test; and ready-made volumes, since no provisioner runs here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mail_failover_api::{MailRouteStatus, TransitionStatus};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::command;
use crate::eventually::eventually;
use crate::fixture::{condition, route_status};
use crate::helm::{objects, repository};
use crate::mail::load::{Accepted, Account};
use crate::mail::record::{self, Entry};
use crate::mail::server::{Action, Fault, SessionStage};
use crate::operator::put;
use crate::test_env::TestEnv;

use super::images::{SHOP_POSTFIX, SMTP};

/// A time limit longer than pods take to come and go on a busy machine of two cores.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(2);
/// The number of Postfix pods in the example.
const POSTFIXES: usize = 2;
/// The user name for the providers' login.
pub const USER: &str = "shop";
/// The password for it. Trials search for it in everything that can be read.
pub const PASSWORD: &str = "kestrel-Quartz-71-lantern";
/// The folder of the login in a provider's pod.
pub const LOGIN: &str = "/login";
/// The folder of records in every pod that keeps one.
const RECORDS: &str = "/records";
/// The file beside the records that tells the application to stop.
const ENOUGH: &str = "enough";

/// A tenant's namespace, with everything in it.
pub struct Shop {
    /// Its environment.
    pub env: Arc<TestEnv>,
    records: PathBuf,
}

impl Shop {
    /// Creates the tenant, and returns when mail can be sent.
    ///
    /// # Errors
    /// When a pod does not become ready, or the route does not lead to `a`.
    pub async fn open(env: Arc<TestEnv>) -> Result<Self> {
        Self::open_with(env, |_| ()).await
    }

    /// Creates the tenant with the route's objects changed by `adapt`, and returns when mail can be sent.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub async fn open_with(env: Arc<TestEnv>, adapt: fn(&mut Value)) -> Result<Self> {
        let shop = Self::with_route(env, "examples/postfix-agent/route.yaml", adapt).await?;
        shop.apply(&shop.volumes()?).await?;
        shop.apply(&shop.example("examples/postfix-agent/rbac.yaml")?).await?;
        shop.apply(&shop.example("examples/postfix-agent/single-container.yaml")?).await?;
        let front = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "postfix" },
            "spec": { "selector": { "app": "postfix" }, "ports": [{ "name": "smtp", "port": 25 }] } });
        shop.apply(&[front]).await?;
        shop.wait_rolled_out("statefulset/postfix").await?;
        shop.wait_served().await?;
        Ok(shop)
    }

    /// Creates the tenant without Postfix: the providers and the route of `examples/relay`, for a relay that is still to be
    /// installed. Returns when the route leads to `a`.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub async fn for_relay(env: Arc<TestEnv>) -> Result<Self> {
        Self::with_route(env, "examples/relay/route.yaml", |_| ()).await
    }

    /// Creates the providers, with a login, and the route of this example with its objects changed by `adapt`.
    async fn with_route(env: Arc<TestEnv>, example: &str, adapt: fn(&mut Value)) -> Result<Self> {
        let shop = Self::empty(env)?;
        let login = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login" }, "type": "kubernetes.io/basic-auth",
            "stringData": { "username": USER, "password": PASSWORD } });
        shop.apply(&[login]).await?;
        shop.start_providers(&[&format!("--login-folder={LOGIN}")]).await?;
        let mut route = shop.example(example)?;
        route.iter_mut().for_each(adapt);
        shop.apply(&route).await?;
        shop.wait_active("a").await?;
        Ok(shop)
    }

    /// Creates the tenant without Postfix: providers that demand no login, and the quick start's
    /// route with the Service `mail`, to which applications send by themselves. Returns when the
    /// Service leads to `a`. Probes of its backends have this interval and timeout.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub async fn without_mta(env: Arc<TestEnv>, interval: &str, timeout: &str) -> Result<Self> {
        let shop = Self::empty(env)?;
        shop.start_providers(&[]).await?;
        let mut quickstart = shop.example("examples/quickstart.yaml")?;
        for object in &mut quickstart {
            // Times that suit a test.
            if object["kind"] == "FailoverPolicy" {
                let budget = json!({ "switches": 10, "per": "1s" });
                object["spec"]["hold"] = json!({ "cooldown": "0s", "minimumStay": "0s", "budget": budget });
                object["spec"]["failback"]["after"] = "1s".into();
            }
            if object["kind"] == "SendingBackend" {
                object["spec"]["probes"][0]["interval"] = interval.into();
                object["spec"]["probes"][0]["timeout"] = timeout.into();
            }
        }
        shop.apply(&quickstart).await?;
        shop.wait_active("a").await?;
        Ok(shop)
    }

    fn empty(env: Arc<TestEnv>) -> Result<Self> {
        let records = env.folder().join("records");
        std::fs::create_dir_all(&records)?;
        Ok(Self { env, records })
    }

    async fn start_providers(&self, arguments: &[&str]) -> Result<()> {
        for name in ["a", "b"] {
            self.apply(&self.provider(name, arguments)).await?;
        }
        for name in ["a", "b"] {
            self.wait_rolled_out(&format!("deployment/{name}")).await?;
        }
        Ok(())
    }

    /// Waits until kube-proxy leads to each Postfix, which takes a moment longer than the pod's
    /// readiness.
    async fn wait_served(&self) -> Result<()> {
        let pods = ["get", "pods", "--selector=app=postfix", "--output=jsonpath={.items[*].status.podIP}"];
        for address in self.env.kubectl(&pods).await?.split_whitespace() {
            let address = smtp(address)?;
            TcpStream::connect(address)
                .await
                .with_context(|| format!("{address} refuses connections, though its pod is ready"))?;
        }
        self.wait_listening("postfix").await
    }

    /// Waits until connections to the SMTP port of this Service are taken.
    ///
    /// # Errors
    /// When they are not.
    pub async fn wait_listening(&self, service: &str) -> Result<()> {
        let address = self.address_of(service).await?;
        eventually(WAIT_TIMEOUT, &format!("{address} to be listened on"), async || {
            TcpStream::connect(address).await?;
            Ok(Some(()))
        })
        .await
    }

    async fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.env.apply(&list.to_string()).await.map(drop)
    }

    /// A provider in a pod of its own, under a headless name: the address of the pod.
    fn provider(&self, name: &str, more: &[&str]) -> Vec<Value> {
        let labels = json!({ "provider": name });
        let name_argument = format!("--name={}", self.server_name(name));
        let record = format!("--record={RECORDS}/{name}.jsonl");
        let arguments = [&["serve", &name_argument, &record], more].concat();
        let pod = json!({
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "smtp", "image": SMTP, "imagePullPolicy": "Never", "args": arguments,
                "readinessProbe": { "tcpSocket": { "port": 8025 }, "periodSeconds": 1 },
                "volumeMounts": [{ "name": "records", "mountPath": RECORDS }, { "name": "login", "mountPath": LOGIN }],
            }],
            "volumes": [self.records_volume(), { "name": "login", "secret": { "secretName": "login", "optional": true } }],
        });
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "strategy": { "type": "Recreate" },
                "template": { "metadata": { "labels": labels }, "spec": pod } } });
        let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "clusterIP": "None", "selector": labels, "ports": [{ "name": "smtp", "port": 2525 }] } });
        vec![deployment, service]
    }

    /// The name of a provider's server, by which its process is found, too.
    fn server_name(&self, name: &str) -> String {
        format!("{name}.{}", self.env.namespace())
    }

    fn records_volume(&self) -> Value {
        json!({ "name": "records", "hostPath": { "path": self.records, "type": "Directory" } })
    }

    /// The objects of an example, in this namespace, with the hosts and images of the tests.
    fn example(&self, path: &str) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(repository(path))?;
        let namespace = self.env.namespace();
        // The example's providers are replaced by ours.
        let text = text
            .replace("relay-", "")
            .replace("ses-eu", "a")
            .replace("sendgrid-login", "login")
            .replace("ses-login", "login")
            .replace("name: sendgrid", "name: b")
            .replace("namespace: shop", &format!("namespace: {namespace}"))
            .replace("shop/orders-agent", &format!("{namespace}/orders-agent"));
        let mut objects = objects(&text)?;
        for object in &mut objects {
            adapt(object)?;
        }
        Ok(objects)
    }

    /// The volumes for the example's claims, as a provisioner would make them.
    fn volumes(&self) -> Result<Vec<Value>> {
        (0..POSTFIXES).map(|number| self.volume(number)).collect()
    }

    fn volume(&self, number: usize) -> Result<Value> {
        let namespace = self.env.namespace();
        let path = self.env.folder().join(format!("spool-{number}"));
        std::fs::create_dir_all(&path)?;
        Ok(
            json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": format!("{namespace}-{number}") },
            "spec": { "capacity": { "storage": "5Gi" }, "accessModes": ["ReadWriteOncePod"], "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": { "namespace": namespace, "name": format!("spool-postfix-{number}") }, "hostPath": { "path": path } } }),
        )
    }

    /// Waits until all pods of a Deployment or a `StatefulSet` are up to date and ready.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn wait_rolled_out(&self, what: &str) -> Result<()> {
        self.wait_rolled_out_in(self.env.namespace(), what).await
    }

    /// Waits until all pods of a workload in another namespace are up to date and ready.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn wait_rolled_out_in(&self, namespace: &str, what: &str) -> Result<()> {
        let limit = WAIT_TIMEOUT * 3;
        let timeout = format!("--timeout={}s", limit.as_secs().saturating_sub(10));
        self.env.kubectl_for(limit, &["--namespace", namespace, "rollout", "status", what, &timeout]).await.map(drop)
    }

    /// Waits until the route leads to this backend.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn wait_active(&self, backend: &str) -> Result<MailRouteStatus> {
        eventually(WAIT_TIMEOUT, &format!("mail of orders to leave by {backend}"), async || {
            let status = route_status(&self.env, "orders").await?;
            let there = status.active.first().is_some_and(|active| active.backend == backend)
                && condition(&status, "OutputsApplied").0 == "True"
                && status.pending_events.is_empty();
            if !there {
                bail!("active: {:?}, conditions: {:?}", status.active, status.conditions);
            }
            Ok(Some(status))
        })
        .await
    }

    /// The route's latest transitions in words, newest first.
    ///
    /// # Errors
    /// When the route cannot be read.
    pub async fn transitions(&self) -> Result<String> {
        let history = route_status(&self.env, "orders").await?.history;
        let lines = history.iter().map(|transition| {
            let TransitionStatus { from, to, reason, .. } = transition;
            format!("{} {from} -> {to}: {reason}", transition.decided_at.0)
        });
        Ok(lines.collect::<Vec<_>>().join("; "))
    }

    /// Starts the application's pod, which sends to the Postfix pods by their Service until [`Application::finish`].
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn start_application(&self, per_second: u32) -> Result<Application<'_>> {
        self.start_application_before("postfix", per_second, &[]).await
    }

    /// The same, to another Service of the namespace and with further arguments.
    ///
    /// # Errors
    /// As of [`Self::start_application`].
    pub async fn start_application_before(
        &self,
        service: &str,
        per_second: u32,
        more: &[&str],
    ) -> Result<Application<'_>> {
        let namespace = self.env.namespace();
        let mut arguments = vec![
            "send".to_owned(),
            format!("--server={service}.{namespace}.svc.cluster.local:25"),
            format!("--until={RECORDS}/{ENOUGH}"),
            format!("--per-second={per_second}"),
            format!("--record={RECORDS}/application.jsonl"),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        // The NetworkPolicy of the relay's chart asks for it.
        let labels = json!({ "mail-relay-client": "true" });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "application", "labels": labels }, "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "smtp", "image": SMTP, "imagePullPolicy": "Never", "args": arguments,
                "volumeMounts": [{ "name": "records", "mountPath": RECORDS }] }],
            "volumes": [self.records_volume()],
        } });
        self.apply(&[pod]).await?;
        Ok(self.application(per_second))
    }

    /// The application that was started with this rate.
    pub fn application(&self, per_second: u32) -> Application<'_> {
        Application { shop: self, per_second }
    }

    /// The record of a sender or provider until now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record(&self, of: &str) -> Result<Vec<Entry>> {
        Ok(record::read(&self.records.join(format!("{of}.jsonl")))?)
    }

    /// The address of the route's Service.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn service(&self) -> Result<SocketAddr> {
        self.address_of("mail").await
    }

    /// The SMTP port of a Service.
    async fn address_of(&self, service: &str) -> Result<SocketAddr> {
        smtp(&self.env.kubectl(&["get", "service", service, "--output=jsonpath={.spec.clusterIP}"]).await?)
    }

    /// Waits until this provider has stored `more` further messages.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_stored(&self, provider: &str, more: usize) -> Result<()> {
        let before = self.record(provider)?.len();
        eventually(WAIT_TIMEOUT, &format!("{more} messages more at {provider}"), async || {
            let now = self.record(provider)?.len();
            if now < before + more {
                bail!("{}", now - before);
            }
            Ok(Some(()))
        })
        .await
    }

    /// The number of messages queued in all Postfix pods.
    ///
    /// # Errors
    /// When a pod cannot be asked.
    pub async fn queued(&self) -> Result<usize> {
        let mut queued = 0;
        for number in 0..POSTFIXES {
            let printed = self.env.kubectl(&["exec", &format!("postfix-{number}"), "--", "postqueue", "-j"]).await?;
            queued += printed.lines().count();
        }
        Ok(queued)
    }

    /// The number of messages in the queues on the volumes, even if no Postfix runs on them.
    ///
    /// # Errors
    /// When a volume cannot be read.
    pub fn spooled(&self) -> Result<usize> {
        let mut spooled = 0;
        for number in 0..POSTFIXES {
            for queue in ["active", "deferred", "incoming"] {
                let folder = self.env.folder().join(format!("spool-{number}/{queue}"));
                spooled += files_below(&folder).with_context(|| folder.display().to_string())?;
            }
        }
        Ok(spooled)
    }

    /// Waits until all queues are empty.
    ///
    /// # Errors
    /// When something still is.
    pub async fn wait_drained(&self) -> Result<()> {
        eventually(WAIT_TIMEOUT, "the queues to be empty", async || match self.queued().await? {
            0 => Ok(Some(())),
            queued => bail!("{queued} messages are queued"),
        })
        .await
    }

    /// The account of every message in the application's record.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn account(&self) -> Result<Account> {
        let accepted: Vec<Accepted> = self.record("application")?.into_iter().map(Into::into).collect();
        let stored = record::copies([self.record("a")?, self.record("b")?].concat());
        Ok(Account::of(&accepted, &stored, &BTreeSet::new(), &BTreeSet::new()))
    }

    /// The address of a provider's pod.
    ///
    /// # Errors
    /// When there is none.
    pub async fn address(&self, provider: &str) -> Result<IpAddr> {
        let selector = format!("--selector=provider={provider}");
        let printed =
            self.env.kubectl(&["get", "pods", &selector, "--output=jsonpath={.items[0].status.podIP}"]).await?;
        printed.parse().with_context(|| format!("{provider}: {printed:?}"))
    }

    /// Breaks a provider.
    ///
    /// # Errors
    /// When that fails.
    pub async fn break_provider(&self, name: &str, outage: Outage) -> Result<()> {
        match outage {
            Outage::Killed => {
                self.env.kubectl(&["scale", &format!("deployment/{name}"), "--replicas=0"]).await?;
                let selector = format!("--selector=provider={name}");
                self.env.kubectl(&["delete", "pods", &selector, "--grace-period=0", "--force"]).await.map(drop)
            }
            Outage::Hung => self.signal(name, Signal::STOP),
            Outage::CutOff => self.cut(name, "--insert").await,
            Outage::RefusesLogins => {
                let refusal = Action::Reply(535, "5.7.8 Authentication credentials invalid".into());
                self.set_fault(name, &Fault::At(SessionStage::Auth, refusal)).await
            }
            Outage::Refuses => self.set_fault(name, &Fault::Refuse).await,
        }
    }

    /// Repairs what [`Self::break_provider`] broke.
    ///
    /// # Errors
    /// When that fails.
    pub async fn repair(&self, name: &str, outage: Outage) -> Result<()> {
        match outage {
            Outage::Killed => {
                self.env.kubectl(&["scale", &format!("deployment/{name}"), "--replicas=1"]).await.map(drop)
            }
            Outage::Hung => self.signal(name, Signal::CONT),
            Outage::CutOff => self.cut(name, "--delete").await,
            Outage::RefusesLogins | Outage::Refuses => self.set_fault(name, &Fault::None).await,
        }
    }

    async fn set_fault(&self, name: &str, fault: &Fault) -> Result<()> {
        self.door(name).await?.set_fault(fault).await
    }

    /// The control port of a provider, which works without the API server.
    ///
    /// # Errors
    /// When it has no pod.
    pub async fn door(&self, name: &str) -> Result<Door> {
        Ok(Door((self.address(name).await?, 8025).into()))
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        kill_process(process_with(&format!("--name={}", self.server_name(name)))?, signal)?;
        Ok(())
    }

    /// Drops every packet to a provider's SMTP port on the node, be the client a pod or a process
    /// of the node.
    async fn cut(&self, name: &str, action: &str) -> Result<()> {
        let address = self.address(name).await?.to_string();
        for chain in ["FORWARD", "INPUT", "OUTPUT"] {
            for direction in [
                ["--source", &address, "--protocol", "tcp", "--sport"],
                ["--destination", &address, "--protocol", "tcp", "--dport"],
            ] {
                let mut iptables = Command::new("iptables");
                iptables.args(["--wait", action, chain]).args(direction).args(["2525", "--jump", "DROP"]);
                command::output(&mut iptables, "iptables", "", Duration::from_secs(20)).await?;
            }
        }
        Ok(())
    }
}

/// The control port of a provider.
#[derive(Clone, Copy, Debug)]
pub struct Door(SocketAddr);

impl Door {
    /// Sets a fault of the provider, or removes it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn set_fault(self, fault: &Fault) -> Result<()> {
        put(self.0, "/fault", serde_json::to_string(fault)?).await.map(drop)
    }
}

/// A way in which a provider fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The pod is killed, and no other takes its place.
    Killed,
    /// The process is stopped: the kernel still accepts connections, and nothing answers.
    Hung,
    /// The node drops the packets of its SMTP port.
    CutOff,
    /// The provider accepts no login.
    RefusesLogins,
    /// The provider refuses connections.
    Refuses,
}

/// The application that runs in a pod.
pub struct Application<'a> {
    shop: &'a Shop,
    per_second: u32,
}

/// The totals that the application's pod printed at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationTotals {
    /// Messages that Postfix took.
    pub accepted: usize,
    /// Refusals; a refused message was offered again.
    pub refusals: usize,
    /// Messages of which it is unknown if Postfix took them.
    pub unknown: usize,
    /// The whole output of the pod.
    pub text: String,
}

impl ApplicationTotals {
    /// Parses `accepted N refusals N unknown N`; more may follow.
    fn parse(text: &str) -> Result<Self> {
        let line = text.lines().next().unwrap_or_default();
        let words: Vec<_> = line.split(' ').collect();
        let ["accepted", accepted, "refusals", refusals, "unknown", unknown] = words[..] else {
            bail!("the application's pod said {text}")
        };
        Ok(Self {
            accepted: accepted.parse()?,
            refusals: refusals.parse()?,
            unknown: unknown.parse()?,
            text: text.to_owned(),
        })
    }

    /// Returns true if every message was taken at once.
    pub fn is_smooth(&self) -> bool {
        self.refusals == 0 && self.unknown == 0
    }
}

impl Application<'_> {
    /// Tells the application to stop once this many messages are accepted, and waits until all that
    /// it began are accepted.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub async fn finish(self, at_least: usize) -> Result<ApplicationTotals> {
        let env = &self.shop.env;
        let due = Duration::from_secs(u64::try_from(at_least)? / u64::from(self.per_second.max(1)));
        eventually(due + WAIT_TIMEOUT * 2, &format!("{at_least} messages to be accepted"), async || {
            let accepted = self.shop.record("application")?.len();
            ensure!(accepted >= at_least, "{accepted}");
            Ok(Some(()))
        })
        .await?;
        std::fs::write(self.shop.records.join(ENOUGH), "")?;
        let begun = Instant::now();
        let phase = loop {
            let phase = env.kubectl(&["get", "pod", "application", "--output=jsonpath={.status.phase}"]).await?;
            if ["Succeeded", "Failed"].contains(&phase.as_str()) {
                break phase;
            }
            ensure!(begun.elapsed() < WAIT_TIMEOUT * 4, "the application's pod is {phase}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let said = env.kubectl(&["logs", "application"]).await?;
        ensure!(phase == "Succeeded", "the application's pod: {said}");
        ApplicationTotals::parse(said.trim())
    }
}

/// The SMTP port of an address.
fn smtp(address: &str) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse().with_context(|| address.to_owned())?, 25))
}

/// Adapts an object of an example to the tests: hosts become Services, images ours, and times those
/// of a test.
fn adapt(object: &mut Value) -> Result<()> {
    let kind = object["kind"].as_str().context("a kind")?.to_owned();
    match kind.as_str() {
        "SendingBackend" => {
            let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
            let asks_for_login = object["spec"]["smtp"]["auth"].is_object();
            object["spec"].as_object_mut().context("a spec")?.remove("smtp");
            object["spec"]["service"] = json!({ "name": name, "port": 2525 });
            if !asks_for_login {
                return Ok(());
            }
            object["spec"]["service"]["auth"] = json!({ "secretRef": { "name": "login" }, "allowPlaintext": true });
            object["spec"]["probes"] =
                json!([{ "name": "login", "interval": "500ms", "timeout": "1s", "smtp": { "depth": "Auth" } }]);
        }
        "FailoverPolicy" if object["metadata"]["name"] == "providers" => {
            let spec = &mut object["spec"];
            spec["failure"]["consecutive"] = 3.into();
            spec["recovery"] = json!({ "consecutive": 3 });
            spec["failure"]["deliveries"] = json!({ "consecutive": 3, "lasting": "0s" });
            let budget = json!({ "switches": 10, "per": "1s" });
            spec["hold"] = json!({ "cooldown": "0s", "minimumStay": "0s", "budget": budget });
            spec["failback"] = json!({ "after": "2s" });
        }
        "StatefulSet" => {
            let pod = &mut object["spec"]["template"]["spec"];
            pod["containers"][0]["image"] = SHOP_POSTFIX.into();
            pod["containers"][0]["imagePullPolicy"] = "Never".into();
            // Both backends use one Secret here.
            let volumes = pod["volumes"].as_array_mut().context("volumes")?;
            keep_first(volumes, "login");
            let mounts = pod["containers"][0]["volumeMounts"].as_array_mut().context("mounts")?;
            keep_first(mounts, "login");
        }
        _ => {}
    }
    Ok(())
}

fn keep_first(list: &mut Vec<Value>, name: &str) {
    let mut is_first = true;
    list.retain(|item| item["name"] != name || std::mem::take(&mut is_first));
}

/// The number of files in a folder and in its subfolders.
fn files_below(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A message that has just been delivered is gone.
        count += match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path())?,
            Ok(_) => 1,
            Err(_) => 0,
        };
    }
    Ok(count)
}

/// The process with this argument, in any pod.
///
/// # Errors
/// When there is none.
pub fn process_with(argument: &str) -> Result<Pid> {
    process_that_has("cmdline", argument)
}

/// The process with this variable (`NAME=value`) in its environment, in any pod. A container's has
/// the pod's name in `HOSTNAME`.
///
/// # Errors
/// When there is none.
pub fn process_with_variable(variable: &str) -> Result<Pid> {
    process_that_has("environ", variable)
}

/// The process with this word in a file of `/proc`, whose words end with zero bytes.
fn process_that_has(file: &str, wanted: &str) -> Result<Pid> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(words) = std::fs::read(entry.path().join(file)) else { continue };
        if words.split(|&byte| byte == 0).any(|word| word == wanted.as_bytes()) {
            return Pid::from_raw(id).context("a process id");
        }
    }
    bail!("no process has {wanted} in its {file}")
}
