//! Many backends at one provider, each with an address of its own, a standby for all, and a route for each.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::PostParams;
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_e2e::control_plane::binaries::on_path;
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::test_env::TestEnv;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The addresses of all servers. They lead to this machine once a route is added.
pub const RANGE: &str = "10.48.0.0/12";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 48, 0, 1);
const STANDBY_AT: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
/// The provider listens at all addresses, so the standby has another port.
const PORT: u16 = 2525;
/// The name of the standby's backend.
pub const STANDBY: &str = "standby";
/// Objects created at a time.
const CONCURRENT: usize = 32;

/// The servers.
pub struct Fleet {
    pub provider: SmtpServer,
    pub standby: SmtpServer,
}

impl Fleet {
    /// Starts the servers, and creates the objects.
    pub async fn create(env: &TestEnv, size: usize) -> Result<Self> {
        let ip = on_path("ip").context("`ip` is not installed; it comes with iproute2")?;
        let output =
            Command::new(ip).args(["route", "add", "local", RANGE, "dev", "lo"]).output().context("ip route")?;
        if !output.status.success() {
            bail!("ip route add local {RANGE}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut options = Options::new("provider", (Ipv4Addr::UNSPECIFIED, PORT).into());
        options.max_sessions = 16_384;
        let provider = SmtpServer::start(options).await?;
        let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(STANDBY_AT.into(), 25))).await?;

        let policy = json!({ "failure": { "consecutive": 3 }, "recovery": { "consecutive": 3 } });
        create_all::<FailoverPolicy>(env, vec![object("FailoverPolicy", "fast", &policy)]).await?;
        let mut backends = vec![backend(STANDBY, standby.address())];
        let mut routes = vec![];
        for number in 0..size {
            // The alphabet is not the order of creation.
            let name = format!("backend-{:04}", number * 7 % size);
            backends.push(backend(&name, address(number)?));
            let output = name.replace("backend", "route");
            let spec = json!({
                "policyRef": { "name": "fast" },
                "backends": [{ "name": name }, { "name": STANDBY }],
                "outputs": [
                    { "service": { "name": output, "ports": [{ "name": "smtp", "port": 25 }] } },
                    { "configMap": { "name": output, "format": "Env" } },
                ],
            });
            routes.push(object("MailRoute", &output, &spec));
        }
        create_all::<SendingBackend>(env, backends).await?;
        create_all::<MailRoute>(env, routes).await?;
        Ok(Self { provider, standby })
    }
}

/// The address of a backend.
pub fn address(number: usize) -> Result<SocketAddr> {
    let bits = FIRST.to_bits() + u32::try_from(number)?;
    Ok(SocketAddr::new(Ipv4Addr::from_bits(bits).into(), PORT))
}

fn backend(name: &str, at: SocketAddr) -> Value {
    let probes = json!([{ "name": "smtp", "interval": "1s", "timeout": "500ms", "smtp": {} }]);
    object("SendingBackend", name, &json!({ "smtp": { "host": at.ip(), "port": at.port() }, "probes": probes }))
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

async fn create_all<K>(env: &TestEnv, objects: Vec<Value>) -> Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(env.client(), env.namespace());
    stream::iter(objects)
        .map(async |object| {
            let object: K = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await
        .context("cannot create the objects")
}
