//! What follows a route outside the cluster: two zones, and a receiver of webhooks.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use mail_failover_e2e::dns_looks::shown_everywhere;
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::name_server::{API_KEY, API_PORT, BindOptions, KEY, KEY_NAME, NameServer, ZONE};
use mail_failover_e2e::notification_receiver::NotificationReceiver;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::afar::Afar;

/// The domain whose MX follow the route.
const BOUNCE: &str = "bounce.shop.example";
/// `whsec_` and 32 bytes.
const SIGNING_SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// Time that a piece takes to the API that is farther away, or back.
const ONE_WAY: Duration = Duration::from_millis(10);
/// The time in which everything follows.
const PATIENCE: Duration = Duration::from_secs(30);

/// What follows a route.
pub enum Follower {
    Updates(NameServer),
    Api(NameServer),
    /// An API behind a proxy.
    ApiAfar(NameServer, Afar),
    Webhook(NotificationReceiver),
}

/// Starts all of them, and applies the Secrets for them.
///
/// # Errors
/// When one does not start, or the API server refuses a Secret.
pub async fn all(env: &TestEnv) -> Result<Vec<Follower>> {
    let authority = Authority::new()?;
    let address = SocketAddr::new(env.ipv4(), 443);
    let identity = authority.issue(&[&address.ip().to_string()], Validity::Valid)?;
    let mut objects = vec![];
    for (name, kind, data) in [
        ("tsig", "tsig", json!({ "name": KEY_NAME, "secret": KEY })),
        ("pdns", "dns-api", json!({ "token": API_KEY })),
        ("receiver", "webhook", json!({ "signing-secret": SIGNING_SECRET })),
    ] {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "type": format!("mailfailover.io/{kind}"), "stringData": data });
        objects.push(format!("---\n{secret}\n"));
    }
    let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "receiver-ca" },
        "data": { "ca.crt": authority.pem() } });
    objects.push(format!("---\n{config_map}\n"));
    env.apply(&objects.concat()).await?;
    let far = NameServer::power_dns(env, "far", env.ipv4()).await?;
    let way =
        Afar::start(SocketAddr::new(env.ipv4(), API_PORT), SocketAddr::new(far.address().ip(), API_PORT), ONE_WAY);
    let way = way.await?;
    Ok(vec![
        Follower::Updates(NameServer::bind(env, "bind", env.ipv4(), &BindOptions::default()).await?),
        Follower::Api(NameServer::power_dns(env, "pdns", env.ipv4()).await?),
        Follower::ApiAfar(far, way),
        Follower::Webhook(NotificationReceiver::start(address, &identity).await?),
    ])
}

impl Follower {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Updates(_) => "the authority, by RFC 2136 (BIND)",
            Self::Api(_) => "the authority, by an API (PowerDNS)",
            Self::ApiAfar(..) => "the authority, by an API 20 ms away",
            Self::Webhook(_) => "the receiver of a webhook",
        }
    }

    /// The bound on the 99th percentile. For an API it is 100 ms and a round trip.
    pub fn goal(&self) -> Duration {
        match self {
            Self::Updates(_) => Duration::from_millis(300),
            Self::Api(_) => Duration::from_millis(100),
            Self::ApiAfar(..) => Duration::from_millis(100) + 2 * ONE_WAY,
            Self::Webhook(_) => Duration::from_millis(50),
        }
    }

    /// The output of a route that leads it.
    pub fn output(&self) -> Value {
        let mut dns = json!({
            "zone": ZONE, "name": BOUNCE,
            "mx": [{ "backend": "primary", "host": "mx.primary.example" }, { "backend": "standby", "host": "mx.standby.example" }],
        });
        match self {
            Self::Updates(server) => {
                let servers = [server.address().to_string()];
                dns["rfc2136"] =
                    json!({ "servers": servers, "authorities": servers, "tsigSecretRef": { "name": "tsig" } });
                json!({ "dns": dns })
            }
            Self::Api(server) | Self::ApiAfar(server, _) => {
                let place = if let Self::ApiAfar(_, way) = self { way.address().ip() } else { server.address().ip() };
                let url = format!("http://{place}:{API_PORT}");
                dns["api"] = json!({ "powerDns": { "url": url }, "secretRef": { "name": "pdns" },
                    "authorities": [server.address().to_string()] });
                json!({ "dns": dns })
            }
            Self::Webhook(receiver) => json!({ "webhook": {
                "name": "receiver", "url": format!("{}/moved", receiver.url()), "secretRef": { "name": "receiver" },
                "caRef": { "configMap": "receiver-ca" },
            } }),
        }
    }

    /// The time at which it has followed to a backend, after a request at this time.
    ///
    /// # Errors
    /// When that takes half a minute.
    pub async fn followed(&self, backend: &str, asked: SystemTime) -> Result<SystemTime> {
        match self {
            Self::Updates(server) | Self::Api(server) | Self::ApiAfar(server, _) => {
                shown_everywhere(&[server.address()], BOUNCE, &format!("10 mx.{backend}.example")).await
            }
            Self::Webhook(receiver) => called(receiver, backend, asked).await,
        }
    }
}

/// The time at which a receiver was told of a backend.
async fn called(receiver: &NotificationReceiver, backend: &str, asked: SystemTime) -> Result<SystemTime> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        for call in receiver.received().iter().rev() {
            let at = SystemTime::now() - call.at.elapsed();
            if at >= asked && call.body["data"]["backend"] == backend {
                return Ok(at);
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
    bail!("the receiver was not told of {backend}")
}
