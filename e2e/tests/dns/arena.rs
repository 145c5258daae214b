//! Two backends, a route whose MX follow them, and the Secrets that sign.

use std::sync::Arc;

use anyhow::Result;
use mail_failover_api::{MailRoute, OutputStatus};
use mail_failover_e2e::assertions::{api, change};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, route_status};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::name_server::{KEY, KEY_NAME, NameServer, ZONE};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

/// The domain whose MX follow the route.
pub const BOUNCE: &str = "bounce.shop.example";
/// Another key, in base64.
const OTHER_KEY: &str = "YW5vdGhlciBzaXh0ZWVuIGJ5dGVzLCBhbmQgc29tZSBtb3Jl";

pub struct Arena {
    pub fixture: TwoBackendFixture,
}

impl Arena {
    /// Applies the Secrets and a route with the Service `mail` and the zone, which these servers have. `more` changes
    /// fields of the output; without `authorities` the servers are them.
    ///
    /// # Errors
    /// When the API server refuses an object.
    pub async fn create(env: &Arc<TestEnv>, servers: &[&NameServer], more: Value) -> Result<Self> {
        let mut secrets = vec![];
        for (name, key_name, key) in
            [("tsig", KEY_NAME, KEY), ("other-name", "nobody", KEY), ("other-key", KEY_NAME, OTHER_KEY)]
        {
            let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
                "type": "mailfailover.io/tsig", "stringData": { "name": key_name, "secret": key } });
            secrets.push(format!("---\n{secret}\n"));
        }
        env.apply(&secrets.concat()).await?;
        let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
        let addresses: Vec<_> = servers.iter().map(|server| server.address().to_string()).collect();
        let mut output = json!({
            "zone": ZONE, "name": BOUNCE,
            "mx": [{ "backend": "primary", "host": "mx.primary.example" }, { "backend": "standby", "host": "mx.standby.example" }],
            "rfc2136": { "servers": addresses, "authorities": addresses, "tsigSecretRef": { "name": "tsig" } },
        });
        merge(&mut output, more);
        // Null takes a field out, as in a merge patch.
        if let Some(fields) = output.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        let service = json!({ "service": { "name": "mail", "ports": [{ "name": "smtp", "port": 25 }] } });
        let outputs = json!({ "spec": { "outputs": [service, { "dns": output }] } });
        change::<MailRoute>(env, "orders", &outputs).await?;
        Ok(Self { fixture })
    }

    /// Starts an operator that becomes the leader quickly.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_operator(&self, identity: &str, arguments: &[&str]) -> Result<Operator> {
        let arguments = [&QUICK_LEASE[..], arguments].concat();
        let operator = self.fixture.env.start_own_operator(identity, &arguments).await?;
        operator.wait_ready(WAIT_TIMEOUT).await?;
        Ok(operator)
    }

    /// Breaks or repairs the first backend, so that the mail goes to this one, and waits until the zone has followed.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn move_to(&self, backend: &str) -> Result<OutputStatus> {
        if backend == "primary" {
            self.fixture.primary.repair().await?;
        } else {
            self.fixture.primary.set_fault(Fault::Refuse).await?;
        }
        self.wait_led(backend).await
    }

    /// Waits until the status says that the zone leads to a backend.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn wait_led(&self, backend: &str) -> Result<OutputStatus> {
        wait_dns(&self.fixture.env, &format!("the zone to lead to {backend}"), |output| {
            output.applied.is_some()
                && output.applied == output.wanted
                && output.failure.is_none()
                && output.active.first().is_some_and(|active| active.backend == backend)
        })
        .await
    }

    /// Lets another Secret sign.
    ///
    /// # Errors
    /// When the API server refuses the route.
    pub async fn use_secret(&self, name: &str) -> Result<()> {
        self.edit(json!({ "rfc2136": { "tsigSecretRef": { "name": name } } })).await
    }

    /// Changes fields of the output.
    ///
    /// # Errors
    /// When the API server refuses the route.
    pub async fn edit(&self, more: Value) -> Result<()> {
        let env = &self.fixture.env;
        let mut outputs = serde_json::to_value(api::<MailRoute>(env).get("orders").await?.spec.outputs)?;
        merge(&mut outputs[1]["dns"], more);
        change::<MailRoute>(env, "orders", &json!({ "spec": { "outputs": outputs } })).await.map(drop)
    }
}

fn merge(target: &mut Value, more: Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, more) => *target = more,
    }
}

/// Waits until the route's DNS output is as it should be.
///
/// # Errors
/// When that does not happen.
pub async fn wait_dns(env: &TestEnv, what: &str, is_there: impl Fn(&OutputStatus) -> bool) -> Result<OutputStatus> {
    eventually(WAIT_TIMEOUT, what, async || {
        let output = dns_status(env).await?;
        if is_there(&output) { Ok(Some(output)) } else { anyhow::bail!("{output:?}") }
    })
    .await
}

/// The status of the route's DNS output.
///
/// # Errors
/// When there is none yet.
pub async fn dns_status(env: &TestEnv) -> Result<OutputStatus> {
    let outputs = route_status(env, "orders").await?.outputs;
    outputs
        .into_iter()
        .find(|output| output.kind == "DNS")
        .ok_or_else(|| anyhow::anyhow!("no DNS output in the status"))
}
