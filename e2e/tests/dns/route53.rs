//! A zone that is led by the API of Route 53, as moto imitates it. A BIND publishes what moto has accepted.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_api::MailRoute;
use mail_failover_core::model::{DnsOutput, DnsService, ObjectKey};
use mail_failover_dns::api::{ApiAnswer, ApiRequest, ApiZone, DnsApiSecret, SECRET_TYPE, SeenRows};
use mail_failover_dns::mark::Owner;
use mail_failover_dns::plan::{Plan, plan};
use mail_failover_e2e::assertions::{api, metric_sum};
use mail_failover_e2e::dns_looks::now;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{condition, route_status};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::moto::Moto;
use mail_failover_e2e::name_server::{BindOptions, NameServer};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

use crate::arena::{Arena, BOUNCE, dns_status, wait_dns};
use crate::exchanger;

/// An access key of nobody.
const KEYS: [(&str, &str); 2] = [("access-key-id", "AKIAIOSFODNN7EXAMPLE"), ("secret-access-key", "example")];

fn secret_of_aws() -> Result<DnsApiSecret> {
    let data = KEYS.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into();
    Ok(DnsApiSecret::parse(Some(SECRET_TYPE), &data)?)
}

async fn looks_in_place(operator: &Operator) -> Result<f64> {
    let metrics = operator.metrics().await?;
    Ok(metric_sum(&metrics, "mail_failover_dns_attempts_total", |labels| labels.contains("in_place")))
}

/// A moto, spoken to by curl.
struct Peer<'a> {
    moto: &'a Moto,
    trust: &'a Path,
}

impl Peer<'_> {
    fn service(&self) -> DnsService {
        DnsService::Route53 { zone_id: self.moto.zone_id().into(), url: Some(self.moto.url().into()) }
    }

    fn asked(&self, request: &ApiRequest) -> Result<ApiAnswer> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--write-out", "\n%{http_code}", "--request", request.method]);
        command.arg("--cacert").arg(self.trust);
        for (name, value) in &request.headers {
            command.args(["--header", &format!("{name}: {value}")]);
        }
        if !request.body.is_empty() {
            command.args(["--data-binary", &request.body]);
        }
        let output = command.arg(format!("{}{}", self.moto.url(), request.target)).output()?;
        ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let (body, status) = text.rsplit_once('\n').context("a status")?;
        Ok(ApiAnswer { status: status.parse()?, retry_after: None, body: body.as_bytes().to_vec() })
    }

    /// The change that a leader would make now to lead the zone to a backend.
    async fn change_made_now(&self, env: &TestEnv, backend: &str) -> Result<(ApiRequest, DnsOutput)> {
        let spec = api::<MailRoute>(env).get("orders").await?.spec;
        let route = mail_failover_resolve::route(&spec).map_err(|rejection| anyhow::anyhow!(rejection.message))?;
        let output = route.dns.into_iter().next().context("a DNS output")?;
        let owner = Owner { operator: "default".into(), route: ObjectKey::new(env.namespace(), "orders") };
        let (service, secret) = (self.service(), secret_of_aws()?);
        let zone = ApiZone::new(&service, &output, &secret, now());
        let sets = output.sets_of(backend).context("a backend")?;
        let mut seen = SeenRows::default();
        for look in zone.looks(sets)? {
            zone.see(&self.asked(&look)?, &mut seen)?;
        }
        let Plan::Write(update) = plan(&output, backend, &owner, &seen.observed(sets)?)? else {
            anyhow::bail!("no change is needed")
        };
        let change = zone.changes(update.changes(), &seen)?.into_iter().next().context("a change")?;
        Ok((change, output))
    }
}

pub async fn moto(env: Arc<TestEnv>) -> Result<()> {
    let publisher = NameServer::bind(&env, "publisher", env.ipv4(), &BindOptions::default()).await?;
    let authority = Authority::new()?;
    let address = SocketAddr::new(env.ipv4(), 443);
    let identity = authority.issue(&[&address.ip().to_string()], Validity::Valid)?;
    let moto = Moto::start(&env, address, &identity, &publisher).await?;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "aws" },
        "type": SECRET_TYPE, "stringData": BTreeMap::from(KEYS) });
    env.apply(&secret.to_string()).await?;
    let provider = json!({ "route53": { "zoneId": moto.zone_id(), "url": moto.url() }, "secretRef": { "name": "aws" },
        "caRef": { "configMap": "moto-ca" }, "authorities": [publisher.address().to_string()] });
    let arena = Arena::create(&env, &[&publisher], json!({ "rfc2136": null, "api": provider })).await?;
    let operator = arena.start_operator("a", &[]).await?;

    // The certificates are missing, and told of as such.
    wait_dns(&env, "the missing ConfigMap to be named", |output| {
        output.failure.as_ref().is_some_and(|failure| {
            failure.message.starts_with("api.caRef: key ca.crt of ConfigMap moto-ca does not exist")
        })
    })
    .await?;
    let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "moto-ca" },
        "data": { "ca.crt": authority.pem() } });
    env.apply(&config_map.to_string()).await?;

    // There and back.
    for backend in ["primary", "standby", "primary", "standby", "primary"] {
        arena.move_to(backend).await?;
        ensure!(publisher.dig(BOUNCE, "MX")? == exchanger(backend), "{:?}", publisher.dig(BOUNCE, "MX")?);
    }
    let mark = publisher.dig(&format!("_mail-failover-mx.{BOUNCE}"), "TXT")?.join("");
    ensure!(mark.contains("heritage=mail-failover") && mark.contains("sequence=5"), "{mark}");

    // A change of an old leader that arrives late is refused, though the MX are what it has seen.
    let trust = env.folder().join("moto-ca.pem");
    fs::write(&trust, authority.pem())?;
    let peer = Peer { moto: &moto, trust: &trust };
    let (late, output) = peer.change_made_now(&env, "standby").await?;
    arena.move_to("standby").await?;
    arena.move_to("primary").await?;
    let answer = peer.asked(&late)?;
    let (service, secret) = (peer.service(), secret_of_aws()?);
    let refused = ApiZone::new(&service, &output, &secret, now()).changed(&answer);
    // Route 53 says InvalidChangeBatch, moto InvalidInput.
    ensure!(refused.is_err() && answer.status == 400, "{refused:?}: {}", String::from_utf8_lossy(&answer.body));
    ensure!(publisher.dig(BOUNCE, "MX")? == exchanger("primary"), "{:?}", publisher.dig(BOUNCE, "MX")?);

    // Nothing is written while nothing happens.
    let updates = metric_sum(&operator.metrics().await?, "mail_failover_dns_updates_total", |_| true);
    let before = looks_in_place(&operator).await?;
    eventually(Duration::from_secs(150), "two more looks at records in place", async || {
        Ok((looks_in_place(&operator).await? >= before + 2.0).then_some(()))
    })
    .await?;
    let after = metric_sum(&operator.metrics().await?, "mail_failover_dns_updates_total", |_| true);
    ensure!(updates.to_bits() == after.to_bits(), "{updates} and {after} writes");

    // A zone that moto does not have.
    arena.edit(json!({ "api": { "route53": { "zoneId": "Z000000000000" } } })).await?;
    let output = wait_dns(&env, "the missing zone to be named", |output| {
        output.failure.as_ref().is_some_and(|failure| failure.message.contains("has no such zone"))
    })
    .await?;
    println!("{}", output.failure.context("a failure")?.message);
    arena.edit(json!({ "api": { "route53": { "zoneId": moto.zone_id() } } })).await?;
    arena.wait_led("primary").await?;
    let message = eventually(Duration::from_secs(75), "the all-clear", async || {
        let status = route_status(&env, "orders").await?;
        let message = status.conditions.iter().find(|one| one.type_ == "DnsApplied").map(|one| one.message.clone());
        Ok(message.filter(|_| condition(&status, "DnsApplied").0 == "True"))
    })
    .await?;
    ensure!(message.contains("stay in the zone"), "what happens to the records is told before: {message}");
    ensure!(dns_status(&env).await?.destination.as_deref() == Some(moto.url().as_str()));
    Ok(())
}
