//! A route with any number of servers, a policy that decides within seconds, and requests about the
//! route.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use mail_failover_api::{
    FailoverPolicy, Health, MailRoute, MailRouteStatus, RequestOutcome, RequestStatus, RouteState, SendingBackend,
};
use mail_failover_e2e::assertions::{change, manifest, start_operator, wait_leads_to, wait_route};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{WAIT_TIMEOUT, condition, route_status};
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

/// The annotation of a request.
pub const REQUEST: &str = "mailfailover.io/request";

/// The route `orders` over servers of these names, most preferred first; its Service and its `ConfigMap` are `mail`.
pub struct DecisionFixture {
    pub env: Arc<TestEnv>,
    servers: BTreeMap<&'static str, SmtpServer>,
}

impl DecisionFixture {
    /// Starts the servers and applies the manifests. The arguments are the differences from the
    /// usual backends, policy and route.
    pub async fn create(
        env: Arc<TestEnv>,
        backends: &[(&'static str, Value)],
        policy_differs: Value,
        route_differs: Value,
    ) -> Result<Self> {
        let mut servers = BTreeMap::new();
        let mut manifests = vec![policy("fast", policy_differs)];
        for (name, differs) in backends {
            let server = SmtpServer::start(Options::new(name, SocketAddr::new(env.ipv4(), 25))).await?;
            let usual = json!({
                "smtp": { "host": server.address().ip(), "port": server.address().port() },
                "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "1s", "smtp": {} }],
            });
            manifests.push(manifest("SendingBackend", name, &differing(usual, differs.clone())));
            servers.insert(*name, server);
        }
        let names: Vec<_> = backends.iter().map(|(name, _)| *name).collect();
        manifests.push(route("orders", "fast", &names, "mail", route_differs));
        env.apply(&manifests.concat()).await?;
        Ok(Self { env, servers })
    }

    /// Creates a fixture with the usual primary and standby.
    pub async fn of_two(env: Arc<TestEnv>, policy_differs: Value) -> Result<Self> {
        Self::create(env, &[("primary", json!({})), ("standby", json!({}))], policy_differs, json!({})).await
    }

    /// Starts an operator and waits until mail leaves by this backend.
    pub async fn begin(&self, lead: &str) -> Result<Operator> {
        let operator = start_operator(&self.env, &[]).await?;
        self.active(&[(lead, 100)]).await?;
        Ok(operator)
    }

    pub fn server(&self, name: &str) -> &SmtpServer {
        &self.servers[name]
    }

    /// Waits until the mail is shared like this, in this order, and every output and Event agrees.
    pub async fn active(&self, shares: &[(&str, i32)]) -> Result<MailRouteStatus> {
        self.route_active("orders", shares).await
    }

    pub async fn route_active(&self, route: &str, shares: &[(&str, i32)]) -> Result<MailRouteStatus> {
        self.route(route, &format!("to be shared like {shares:?}"), |status| {
            self::shares(status) == shares && is_settled(status)
        })
        .await
    }

    /// Waits until the status of the route satisfies a condition.
    pub async fn until(&self, what: &str, accept: impl Fn(&MailRouteStatus) -> bool) -> Result<MailRouteStatus> {
        self.route("orders", what, accept).await
    }

    pub async fn route(
        &self,
        route: &str,
        what: &str,
        accept: impl Fn(&MailRouteStatus) -> bool,
    ) -> Result<MailRouteStatus> {
        wait_route(&self.env, route, what, accept).await
    }

    /// Waits until the route is held for this reason.
    pub async fn held(&self, reason: &str) -> Result<MailRouteStatus> {
        self.until(&format!("to be held by {reason}"), |status| held_by(status) == Some(reason)).await
    }

    /// Waits until the route's policy judges a backend as this health.
    pub async fn judged(&self, backend: &str, health: Health) -> Result<MailRouteStatus> {
        self.until(&format!("to judge {backend} {health:?}"), |status| {
            status.backends.iter().any(|known| known.name == backend && known.health == health)
        })
        .await
    }

    /// Waits until the Service leads to these servers.
    pub async fn leads_to(&self, names: &[&str]) -> Result<()> {
        let addresses: Vec<_> = names.iter().map(|name| self.server(name).address().ip().to_string()).collect();
        wait_leads_to(&self.env, "mail", &addresses).await
    }

    pub async fn status(&self) -> Result<MailRouteStatus> {
        route_status(&self.env, "orders").await
    }

    pub async fn change_policy(&self, spec: Value) -> Result<FailoverPolicy> {
        change(&self.env, "fast", &json!({ "spec": spec })).await
    }

    pub async fn change_route(&self, spec: Value) -> Result<MailRoute> {
        change(&self.env, "orders", &json!({ "spec": spec })).await
    }

    pub async fn change_backend(&self, name: &str, spec: Value) -> Result<SendingBackend> {
        change(&self.env, name, &json!({ "spec": spec })).await
    }

    /// Writes a request about the route, with any text.
    pub async fn write_request(&self, route: &str, text: &str) -> Result<MailRoute> {
        change(&self.env, route, &json!({ "metadata": { "annotations": { REQUEST: text } } })).await
    }

    /// Writes a request about the route and waits for the answer.
    pub async fn ask(&self, request: Value) -> Result<RequestStatus> {
        let id = request["id"].as_str().context("an id")?.to_owned();
        self.write_request("orders", &request.to_string()).await?;
        self.answer("orders", &id).await
    }

    /// Writes a request and checks that it is granted.
    pub async fn granted(&self, request: Value) -> Result<RequestStatus> {
        let answer = self.ask(request).await?;
        ensure!(answer.outcome == RequestOutcome::Done, "{answer:?}");
        Ok(answer)
    }

    /// Writes a request and checks that it is refused, in words that contain all of these.
    pub async fn refused(&self, request: Value, says: &[&str]) -> Result<RequestStatus> {
        let answer = self.ask(request).await?;
        ensure!(answer.outcome == RequestOutcome::Refused, "{answer:?}");
        for words in says {
            ensure!(answer.message.contains(words), "{words} in {answer:?}");
        }
        Ok(answer)
    }

    /// Waits until the request with this id is answered and its Event is published.
    pub async fn answer(&self, route: &str, id: &str) -> Result<RequestStatus> {
        let what = format!("to answer {id}");
        let answered = self.route(route, &what, |status| {
            status.request.as_ref().is_some_and(|request| request.id == id) && status.pending_events.is_empty()
        });
        answered.await?.request.context("an answer")
    }

    /// Kills the operator, as a node's death would, and starts another one.
    pub async fn restart(&self, operator: Operator) -> Result<Operator> {
        operator.kill();
        drop(operator);
        start_operator(&self.env, &[]).await
    }

    /// The cell of this column in kubectl's output about the route.
    pub async fn column(&self, name: &str) -> Result<String> {
        let text = self.env.kubectl(&["get", "mailroute", "orders"]).await?;
        let (header, line) = text.split_once('\n').with_context(|| text.clone())?;
        let at = header.find(name).with_context(|| format!("no column {name}:\n{text}"))?;
        Ok(line.get(at..).unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Waits until kubectl prints this cell in a column about the route.
    pub async fn column_is(&self, name: &str, cell: &str) -> Result<()> {
        eventually(WAIT_TIMEOUT, &format!("kubectl to print {cell} in the column {name}"), async || {
            let seen = self.column(name).await?;
            if seen == cell { Ok(Some(())) } else { bail!("{seen}") }
        })
        .await
    }
}

/// A policy that decides within a second, with these differences.
pub fn policy(name: &str, differs: Value) -> String {
    let usual = json!({
        "failure": { "consecutive": 3 },
        "recovery": { "consecutive": 3 },
        "hold": { "cooldown": "0s", "minimumStay": "0s", "budget": { "switches": 10, "per": "1s" } },
        "failback": { "after": "1s" },
    });
    manifest("FailoverPolicy", name, &differing(usual, differs))
}

/// A route of these backends to a Service and a `ConfigMap`, with these differences.
pub fn route(name: &str, policy: &str, backends: &[&str], output: &str, differs: Value) -> String {
    let backends: Vec<_> = backends.iter().map(|backend| json!({ "name": backend })).collect();
    let usual = json!({
        "policyRef": { "name": policy },
        "backends": backends,
        "outputs": [
            { "service": { "name": output, "ports": [{ "name": "smtp", "port": 25 }] } },
            { "configMap": { "name": output, "format": "Env" } },
        ],
    });
    manifest("MailRoute", name, &differing(usual, differs))
}

/// Merges two values by RFC 7396, without its nulls.
fn differing(mut usual: Value, differs: Value) -> Value {
    match (&mut usual, differs) {
        (Value::Object(usual), Value::Object(differs)) => {
            for (key, value) in differs {
                let known = usual.remove(&key).unwrap_or_else(|| json!({}));
                usual.insert(key, differing(known, value));
            }
        }
        (_, differs) => return differs,
    }
    usual
}

/// The shares of the backends, in percent.
pub fn shares(status: &MailRouteStatus) -> Vec<(&str, i32)> {
    status.active.iter().map(|active| (active.backend.as_str(), active.percent)).collect()
}

/// Returns true if everything that was decided is written.
pub fn is_settled(status: &MailRouteStatus) -> bool {
    condition(status, "OutputsApplied").0 == "True"
        && status.pending_events.is_empty()
        && status.last_transition.as_ref().is_none_or(|last| last.applied_at.is_some())
}

/// The reason of the route's hold.
pub fn held_by(status: &MailRouteStatus) -> Option<&str> {
    status.waiting_for.as_ref().map(|hold| hold.reason.as_str())
}

/// The time at which the hold ends by itself.
pub fn held_until(status: &MailRouteStatus) -> Option<MicroTime> {
    status.waiting_for.as_ref()?.until.clone()
}

/// The time that is this much later.
pub fn later(at: &MicroTime, by: Duration) -> MicroTime {
    MicroTime(at.0 + by)
}

/// Checks the route's state, and the reason of its latest transition.
pub fn stands(status: &MailRouteStatus, state: RouteState, reason: &str) -> Result<()> {
    let last = status.last_transition.as_ref().map(|last| last.reason.as_str());
    ensure!(status.state == Some(state) && last == Some(reason), "not {state:?} for {reason}: {status:?}");
    Ok(())
}

/// Checks that one sentence of the explanation contains these words.
pub fn explains(status: &MailRouteStatus, words: &str) -> Result<()> {
    ensure!(status.explanation.iter().any(|reason| reason.contains(words)), "{words}: {:#?}", status.explanation);
    Ok(())
}
