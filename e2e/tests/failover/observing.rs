//! Trials of every failure of a backend: it is noticed, named, and left. Certificates of private
//! authorities are followed.

use std::borrow::Cow;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use mail_failover_api::Health;
use mail_failover_e2e::assertions::{change, manifest, notes, start_operator, wait_event};
use mail_failover_e2e::fixture::{
    PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT, policy, route, wait_active, wait_health,
};
use mail_failover_e2e::mail::certificates::{Authority, Identity, Validity};
use mail_failover_e2e::mail::server::{Action, Extension, Fault, Options, SessionStage, SmtpServer};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

const NAME: &str = "relay.provider.example";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("no text log tells what a Secret holds", async |env| no_secret_in_logs(env, "text").await).listens(),
        trial("no JSON log tells what a Secret holds", async |env| no_secret_in_logs(env, "json").await).listens(),
        trial("a rotated authority in a ConfigMap or Secret is taken up without a restart", rotation).listens(),
        trial("each way in which a backend fails is named and left, and each recovery returned to", faults).listens(),
        trial("each failure of TLS is named and left, with STARTTLS", start_tls).listens(),
        trial("each failure of TLS is named and left, with implicit TLS", implicit_tls).listens(),
    ]
}

/// Breaks the primary in each of these ways. The route leaves it for the given reason, and returns.
async fn leave_and_return(env: &TestEnv, primary: &SmtpServer, faults: &[(Fault, &str)]) -> Result<()> {
    for (number, (fault, reason)) in faults.iter().enumerate() {
        primary.set_fault(fault.clone()).await?;
        let status = wait_active(env, "orders", "standby").await.with_context(|| fault.to_string())?;
        let last = status.last_transition.context("a transition")?;
        ensure!(last.reason == *reason, "{fault}: {last:?}");
        ensure!(last.first_evidence_at.is_some_and(|at| at.0 <= last.decided_at.0), "{fault}");
        wait_health(env, "primary", Health::Unhealthy, reason).await?;
        primary.repair().await?;
        wait_active(env, "orders", "primary").await.with_context(|| format!("after {fault}"))?;
        for told in ["FailedOver", "FailedBack"] {
            let notes = notes(env, "orders", told).await?;
            ensure!(notes.len() == number + 1, "after {fault}: {notes:?}");
        }
    }
    Ok(())
}

async fn faults(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let _operator = fixture.start_operator("a").await?;
    leave_and_return(
        &env,
        &fixture.primary,
        &[
            (Fault::Refuse, "ConnectionRefused"),
            (Fault::Blackhole, "NoAnswer"),
            (Fault::At(SessionStage::Banner, Action::Reset), "ConnectionLost"),
            (Fault::At(SessionStage::Banner, Action::Close), "ConnectionLost"),
            (Fault::Silent, "NoAnswer"),
            (Fault::At(SessionStage::Ehlo, Action::Hang), "NoAnswer"),
            (Fault::reply(SessionStage::Banner, 421, "4.3.2 shutting down"), "Temporary"),
            (Fault::reply(SessionStage::Banner, 554, "5.3.2 no service"), "Permanent"),
            (Fault::At(SessionStage::Banner, Action::Garbage), "ProtocolError"),
        ],
    )
    .await
}

/// The manifest of a backend with this `tls`, if any.
fn tls_backend(server: &SmtpServer, tls: Option<Value>) -> String {
    let mut smtp = json!({ "host": server.address().ip(), "port": server.address().port() });
    if let Some(tls) = tls {
        smtp["tls"] = tls;
    }
    let probes = json!([{ "name": "smtp", "interval": "200ms", "timeout": "1s", "smtp": {} }]);
    manifest("SendingBackend", server.name(), &json!({ "smtp": smtp, "probes": probes }))
}

/// Creates a server with TLS by this identity, one without as its standby, and a route over both.
async fn tls_fixture(env: &TestEnv, identity: Identity, mode: &str, ca_ref: Value) -> Result<(SmtpServer, SmtpServer)> {
    let options = if mode == "Implicit" {
        Options::new("primary", SocketAddr::new(env.ipv4(), 465)).implicit_tls(identity)
    } else {
        Options::new("primary", SocketAddr::new(env.ipv4(), 587)).start_tls(identity)
    };
    let primary = SmtpServer::start(options).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    let tls = json!({ "mode": mode, "serverName": NAME, "caRef": ca_ref });
    let manifests = [
        policy(&PolicyTimings::with_failback()),
        tls_backend(&primary, Some(tls)),
        tls_backend(&standby, None),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    Ok((primary, standby))
}

async fn set_config_map(env: &TestEnv, authority: &Authority) -> Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "authority" },
        "data": { "ca.crt": authority.pem() } });
    env.apply(&object.to_string()).await.map(drop)
}

/// A Secret with the certificates beside a key, as cert-manager writes it.
fn secret(pem: &str, key: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "authority" },
        "data": { "bundle.pem": STANDARD.encode(pem), "tls.key": STANDARD.encode(key) } })
}

/// Checks that a certificate that cannot be trusted has the effect of a dead server.
async fn bad_certificates(env: &TestEnv, authority: &Authority, primary: &SmtpServer) -> Result<()> {
    let bad = [
        ("expired", authority.issue(&[NAME], Validity::Expired)?),
        ("for another name", authority.issue(&["other.example"], Validity::Valid)?),
        ("of an unknown authority", Authority::new()?.issue(&[NAME], Validity::Valid)?),
    ];
    for (number, (what, identity)) in bad.iter().enumerate() {
        primary.set_certificate(identity)?;
        let status = wait_active(env, "orders", "standby").await.with_context(|| (*what).to_owned())?;
        let last = status.last_transition.context("a transition")?;
        ensure!(last.reason == "CertificateInvalid", "{what}: {last:?}");
        primary.set_certificate(&authority.issue(&[NAME], Validity::Valid)?)?;
        wait_active(env, "orders", "primary").await.with_context(|| format!("after {what}"))?;
        ensure!(notes(env, "primary", "BackendUnhealthy").await?.len() == number + 1, "{what}");
    }
    Ok(())
}

async fn start_tls(env: Arc<TestEnv>) -> Result<()> {
    let authority = Authority::new()?;
    set_config_map(&env, &authority).await?;
    let identity = authority.issue(&[NAME], Validity::Valid)?;
    let ca_ref = json!({ "configMap": "authority" });
    let (primary, _standby) = tls_fixture(&env, identity, "StartTLS", ca_ref).await?;
    let _operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "primary").await?;
    let status = mail_failover_e2e::fixture::backend_status(&env, "primary").await?;
    ensure!(status.certificate_not_after.is_some(), "{status:?}");
    bad_certificates(&env, &authority, &primary).await?;
    let faults = [
        (Fault::NotOffered(Extension::StartTls), "TlsFailed"),
        (Fault::At(SessionStage::StartTls, Action::Reply(454, Cow::Borrowed("4.7.0 TLS not available"))), "TlsFailed"),
        // Nothing may follow the reply to STARTTLS in the clear (CVE-2011-0411).
        (Fault::At(SessionStage::Handshake, Action::Garbage), "ProtocolError"),
        (Fault::At(SessionStage::Handshake, Action::Close), "ConnectionLost"),
        (Fault::At(SessionStage::Handshake, Action::Hang), "NoAnswer"),
    ];
    for (fault, reason) in faults {
        primary.set_fault(fault.clone()).await?;
        let status = wait_active(&env, "orders", "standby").await.with_context(|| fault.to_string())?;
        let last = status.last_transition.context("a transition")?;
        // The network decides if garbage comes with the reply, or right after it.
        let is_late_garbage = reason == "ProtocolError" && last.reason == "TlsFailed";
        ensure!(last.reason == reason || is_late_garbage, "{fault}: {last:?}");
        primary.repair().await?;
        wait_active(&env, "orders", "primary").await.with_context(|| format!("after {fault}"))?;
    }
    Ok(())
}

async fn implicit_tls(env: Arc<TestEnv>) -> Result<()> {
    let authority = Authority::new()?;
    env.apply(&secret(&authority.pem(), "").to_string()).await?;
    let identity = authority.issue(&[NAME], Validity::Valid)?;
    let ca_ref = json!({ "secret": "authority", "key": "bundle.pem" });
    let (primary, _standby) = tls_fixture(&env, identity, "Implicit", ca_ref).await?;
    let _operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "primary").await?;
    bad_certificates(&env, &authority, &primary).await?;
    primary.set_fault(Fault::At(SessionStage::Handshake, Action::Garbage)).await?;
    let status = wait_active(&env, "orders", "standby").await?;
    ensure!(status.last_transition.is_some_and(|last| last.reason == "TlsFailed"));
    Ok(())
}

async fn rotation(env: Arc<TestEnv>) -> Result<()> {
    let old = Authority::new()?;
    set_config_map(&env, &old).await?;
    env.apply(&secret(&old.pem(), "").to_string()).await?;
    let by_map = old.issue(&[NAME], Validity::Valid)?;
    let (primary, _standby) = tls_fixture(&env, by_map, "StartTLS", json!({ "configMap": "authority" })).await?;
    let at = SocketAddr::new(env.ipv4(), 587);
    let other = SmtpServer::start(Options::new("other", at).start_tls(old.issue(&[NAME], Validity::Valid)?)).await?;
    let tls =
        json!({ "mode": "StartTLS", "serverName": NAME, "caRef": { "secret": "authority", "key": "bundle.pem" } });
    let spec = json!({ "smtp": { "host": at.ip(), "port": at.port(), "tls": tls },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "1s", "smtp": {} }] });
    env.apply(&(manifest("SendingBackend", "other", &spec) + &route("second", &["other"], "second"))).await?;
    let operator = start_operator(&env, &[]).await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    wait_health(&env, "other", Health::Healthy, "Ok").await?;
    // The servers are first, as they often are.
    let new = Authority::new()?;
    primary.set_certificate(&new.issue(&[NAME], Validity::Valid)?)?;
    other.set_certificate(&new.issue(&[NAME], Validity::Valid)?)?;
    wait_health(&env, "primary", Health::Unhealthy, "CertificateInvalid").await?;
    wait_health(&env, "other", Health::Unhealthy, "CertificateInvalid").await?;
    let both = old.pem() + &new.pem();
    change::<ConfigMap>(&env, "authority", &json!({ "data": { "ca.crt": both } })).await?;
    change::<Secret>(&env, "authority", &json!({ "data": { "bundle.pem": STANDARD.encode(&both) } })).await?;
    // They are read again every half a minute.
    for backend in ["primary", "other"] {
        if wait_health(&env, backend, Health::Healthy, "Ok").await.is_err() {
            wait_health(&env, backend, Health::Healthy, "Ok").await?;
        }
    }
    ensure!(operator.ended().is_none());
    wait_active(&env, "orders", "primary").await.map(drop)
}

async fn no_secret_in_logs(env: Arc<TestEnv>, format: &str) -> Result<()> {
    const MARK: &str = "c2VjcmV0LW1hcms";
    let authority = Authority::new()?;
    let key = format!("-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----\n");
    env.apply(&secret(&authority.pem(), &key).to_string()).await?;
    let ca_ref = json!({ "secret": "authority", "key": "bundle.pem" });
    let identity = authority.issue(&[NAME], Validity::Valid)?;
    let (primary, _standby) = tls_fixture(&env, identity, "StartTLS", ca_ref).await?;
    let operator = talkative(&env, format).await?;
    wait_active(&env, "orders", "primary").await?;
    primary.set_certificate(&Authority::new()?.issue(&[NAME], Validity::Valid)?)?;
    wait_active(&env, "orders", "standby").await?;
    primary.set_certificate(&authority.issue(&[NAME], Validity::Valid)?)?;
    wait_active(&env, "orders", "primary").await?;
    // Malformed but secret content, and a key in the place of a certificate.
    for bundle in [key.as_str(), MARK] {
        let broken = json!({ "data": { "bundle.pem": STANDARD.encode(bundle) } });
        change::<Secret>(&env, "authority", &broken).await?;
        let ready =
            mail_failover_e2e::assertions::wait_backend_condition(&env, "primary", "Ready", "False", "CAMalformed");
        tokio::time::timeout(WAIT_TIMEOUT * 2, ready).await.context("CAMalformed")??;
        wait_event(&env, "primary", "ConfigurationRejected").await?;
        let repaired = json!({ "data": { "bundle.pem": STANDARD.encode(authority.pem()) } });
        change::<Secret>(&env, "authority", &repaired).await?;
        mail_failover_e2e::assertions::wait_backend_condition(&env, "primary", "Ready", "True", "Observed").await?;
    }
    let log = fs::read_to_string(operator.log())?;
    ensure!(log.lines().count() > 10, "the log is too short to tell anything: {log}");
    let first_line = log.lines().next().unwrap_or_default();
    ensure!(serde_json::from_str::<Value>(first_line).is_ok() == (format == "json"), "{first_line}");
    let metrics = operator.metrics().await?;
    let told = env.kubectl(&["get", "sendingbackends,mailroutes,events", "-o", "yaml"]).await?;
    let pem = authority.pem();
    let middle = pem.lines().nth(2).context("a PEM text has lines")?;
    let encoded = STANDARD.encode(&key);
    for (what, text) in [("log", &log), ("metrics", &metrics), ("status or Events", &told)] {
        for secret in [MARK, middle, &encoded[..40]] {
            ensure!(!text.contains(secret), "the {format} {what} tells what a Secret holds: {secret}");
        }
    }
    Ok(())
}

async fn talkative(env: &TestEnv, format: &str) -> Result<Operator> {
    let arguments =
        [&mail_failover_e2e::fixture::QUICK_LEASE[..], &["--log-format", format, "--log", "info,mail_failover=trace"]];
    let operator = env.start_own_operator(format, &arguments.concat()).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    Ok(operator)
}
