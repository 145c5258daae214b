//! Trials of operators that are limited to namespaces.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::assertions::metric_sum;
use mail_failover_e2e::control_plane::Call;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::helm::{Helm, objects};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::service_account;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

use super::shop::{TenantShop, make_namespace, start_as};

const ACCOUNT: &str = "mail-failover-operator";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("two installations with a namespace each, and rights there only, look after their own mail", two)
            .needs_control()
            .listens()
            .alone(),
        trial(
            "a namespace in which an operator has no rights is named, and keeps no route of another from failing over",
            forbidden,
        )
        .needs_control()
        .listens()
        .alone(),
    ]
}

/// An installation by the chart: its own namespace, and the one that it watches.
struct Installation {
    own: String,
    operator: Operator,
}

impl Installation {
    async fn start(env: &TestEnv, own: &str, watched: &[&str], mut values: Value) -> Result<Self> {
        values["namespaces"] = json!(watched);
        values["crds"] = json!({ "enabled": false });
        values["fullnameOverride"] = ACCOUNT.into();
        let mut rendered = objects(&Helm::locate()?.template("mail", own, &values)?)?;
        // Only this trial starts the operator.
        rendered.retain(|object| object["kind"] != "Deployment");
        apply(&env.client(), &rendered, Mode::Keep).await?;
        let namespaces = watched.join(",");
        let mut arguments = vec!["--namespaces", &namespaces];
        if values["probeJobs"]["enabled"] == true {
            arguments.extend(["--probe-image", "registry.example/mail-failover:test"]);
        }
        let operator = start_as(env, (own, ACCOUNT), own, &arguments).await?;
        Ok(Self { own: own.to_owned(), operator })
    }

    /// Grants the rights of the chart with these namespaces.
    async fn grant(env: &TestEnv, own: &str, watched: &[&str]) -> Result<()> {
        let values = json!({ "namespaces": watched, "crds": { "enabled": false }, "fullnameOverride": ACCOUNT });
        let mut rendered = objects(&Helm::locate()?.template("mail", own, &values)?)?;
        rendered.retain(|object| object["kind"].as_str().is_some_and(|kind| kind.starts_with("Role")));
        apply(&env.client(), &rendered, Mode::Keep).await
    }

    fn calls(&self, env: &TestEnv) -> Result<Vec<Call>> {
        env.control()?.calls_of(&service_account::user(&self.own, ACCOUNT))
    }

    async fn routes(&self) -> Result<f64> {
        let metrics = self.operator.metrics().await?;
        Ok(metric_sum(&metrics, "mail_failover_watch_objects", |labels| labels.contains("MailRoute")))
    }
}

async fn two(env: Arc<TestEnv>) -> Result<()> {
    let [ops_a, ops_b, shop_a, shop_b, nobodys] =
        ["o", "p", "a", "b", "n"].map(|end| format!("{}-{end}", env.namespace()));
    for namespace in [&ops_a, &ops_b, &shop_a, &shop_b, &nobodys] {
        make_namespace(&env, namespace, &[]).await?;
    }
    let (a, b) = (TenantShop::open(&env, &shop_a).await?, TenantShop::open(&env, &shop_b).await?);
    let unattended = TenantShop::open(&env, &nobodys).await?;
    let [authority, login] = ["relay-ca", "login"]
        .map(|name| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": shop_a } }));
    let relay = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend",
        "metadata": { "name": "relay", "namespace": shop_a },
        "spec": { "smtp": { "host": "192.0.2.9", "port": 25, "tls": { "mode": "StartTLS", "caRef": { "secret": "relay-ca" } } } } });
    apply(&env.client(), &[authority, login, relay], Mode::Keep).await?;
    let probes = json!([{ "name": "zone-b", "smtp": {}, "job": {} }]);
    let remotes = [&shop_a, &shop_b, &nobodys].map(|namespace| {
        json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": { "name": "remote", "namespace": namespace },
            "spec": { "smtp": { "host": "192.0.2.9", "port": 25 }, "probes": probes } })
    });
    apply(&env.client(), &remotes, Mode::Keep).await?;
    let mut route = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute",
        "metadata": { "name": "orders", "namespace": shop_a } });
    route["spec"] = json!({ "policyRef": { "name": "fast" }, "backends": [{ "name": "primary" }, { "name": "standby" }, { "name": "relay" }],
        "outputs": [{ "service": { "name": "mail", "ports": [{ "name": "smtp", "port": 25 }] } }] });
    apply(&env.client(), &[route], Mode::Keep).await?;

    let first =
        Installation::start(&env, &ops_a, &[&shop_a], json!({ "rbac": { "secretNames": ["relay-ca"] } })).await?;
    let values = json!({ "reports": { "enabled": false }, "probeJobs": { "enabled": true } });
    let second = Installation::start(&env, &ops_b, &[&shop_b], values).await?;
    for (installation, shop) in [(&first, &a), (&second, &b)] {
        installation.operator.wait_ready(WAIT_TIMEOUT).await?;
        shop.wait_active(&env, "primary").await?;
    }
    a.primary.crash().await?;
    a.wait_active(&env, "standby").await?;
    b.primary.crash().await?;
    b.wait_active(&env, "standby").await?;
    ensure!(unattended.status(&env).await?.is_none_or(|status| status.active.is_empty()), "no operator watches it");
    ensure!((first.routes().await?, second.routes().await?) == (1.0, 1.0), "each sees its own route only");

    eventually(WAIT_TIMEOUT, "the Job of a probe", async || {
        let jobs = Api::<Job>::all(env.client()).list(&ListParams::default()).await?.items;
        let mut namespaces: Vec<_> = jobs.iter().filter_map(ResourceExt::namespace).collect();
        // Those of other trials are still there: nothing collects them here.
        namespaces.retain(|namespace| [&shop_a, &shop_b, &nobodys].contains(&namespace));
        ensure!(namespaces.iter().all(|namespace| *namespace == shop_b), "Jobs in {namespaces:?}");
        Ok((!namespaces.is_empty()).then_some(()))
    })
    .await?;

    for (installation, shop) in [(&first, &shop_a), (&second, &shop_b)] {
        let calls = installation.calls(&env)?;
        let (refused, elsewhere): (Vec<_>, Vec<_>) = (
            calls.iter().filter(|call| !call.is_allowed).collect(),
            calls.iter().filter(|call| ![&installation.own, shop].contains(&&call.namespace)).collect(),
        );
        ensure!(refused.is_empty() && elsewhere.is_empty(), "{refused:?} {elsewhere:?}");
        let leases_elsewhere =
            calls.iter().any(|call| (call.right.resource == "leases") != (call.namespace == installation.own));
        ensure!(!leases_elsewhere, "Leases and nothing else belong into {}", installation.own);
    }
    let secrets: BTreeSet<_> =
        first.calls(&env)?.into_iter().filter(|call| call.right.resource == "secrets").map(|call| call.name).collect();
    ensure!(secrets == BTreeSet::from(["relay-ca".to_owned()]), "{secrets:?}");
    for installation in [&first, &second] {
        installation.operator.terminate(Duration::from_secs(10)).await?;
    }
    may_nothing_else(&env, &ops_a, &shop_a, &shop_b).await
}

/// Checks the requests that the operator of `own`, which watches `shop`, must not be able to make,
/// with its token.
async fn may_nothing_else(env: &TestEnv, own: &str, shop: &str, other: &str) -> Result<()> {
    let path = env.folder().join("forbidden.kubeconfig");
    service_account::write_kubeconfig(env, own, ACCOUNT, &path).await?;
    let client = service_account::client(&path).await?;
    let mail = "apis/mailfailover.io/v1alpha1";
    let rbac = "apis/rbac.authorization.k8s.io/v1";
    let forbidden = [
        ("GET", format!("api/v1/namespaces/{shop}/secrets/login")),
        ("GET", format!("api/v1/namespaces/{shop}/secrets")),
        ("PATCH", format!("api/v1/namespaces/{shop}/secrets/relay-ca")),
        ("DELETE", format!("api/v1/namespaces/{shop}/secrets/relay-ca")),
        ("GET", format!("api/v1/namespaces/{own}/secrets/relay-ca")),
        ("GET", format!("api/v1/namespaces/{other}/secrets/relay-ca")),
        ("GET", "api/v1/secrets".to_owned()),
        ("GET", format!("api/v1/namespaces/{other}/configmaps")),
        ("GET", "api/v1/configmaps".to_owned()),
        ("GET", "api/v1/services".to_owned()),
        ("POST", format!("api/v1/namespaces/{other}/services")),
        ("DELETE", format!("api/v1/namespaces/{other}/services/mail")),
        ("GET", format!("apis/discovery.k8s.io/v1/namespaces/{other}/endpointslices")),
        ("GET", format!("{mail}/mailroutes")),
        ("GET", format!("{mail}/namespaces/{other}/mailroutes/orders")),
        ("PATCH", format!("{mail}/namespaces/{other}/mailroutes/orders/status")),
        ("PATCH", format!("{mail}/namespaces/{shop}/mailroutes/orders")),
        ("PUT", format!("{mail}/namespaces/{shop}/mailroutes/orders/status")),
        ("DELETE", format!("{mail}/namespaces/{shop}/mailroutes/orders")),
        ("POST", format!("{mail}/namespaces/{shop}/sendingbackends")),
        ("GET", format!("apis/events.k8s.io/v1/namespaces/{shop}/events")),
        ("GET", format!("apis/coordination.k8s.io/v1/namespaces/{shop}/leases")),
        ("GET", "apis/coordination.k8s.io/v1/namespaces/kube-system/leases".to_owned()),
        ("GET", format!("api/v1/namespaces/{shop}/pods")),
        ("POST", format!("api/v1/namespaces/{shop}/pods")),
        ("POST", format!("api/v1/namespaces/{shop}/pods/postfix-0/exec?command=sh")),
        ("GET", format!("api/v1/namespaces/{own}/pods")),
        ("POST", format!("api/v1/namespaces/{shop}/serviceaccounts/default/token")),
        ("POST", format!("api/v1/namespaces/{own}/serviceaccounts/{ACCOUNT}/token")),
        ("PATCH", format!("apis/apps/v1/namespaces/{own}/deployments/{ACCOUNT}")),
        ("POST", format!("apis/batch/v1/namespaces/{shop}/jobs")),
        ("GET", "api/v1/nodes".to_owned()),
        ("GET", "api/v1/namespaces".to_owned()),
        ("DELETE", format!("api/v1/namespaces/{shop}")),
        ("POST", format!("{rbac}/namespaces/{shop}/rolebindings")),
        ("PATCH", format!("{rbac}/namespaces/{own}/roles/{ACCOUNT}-leases")),
        ("POST", format!("{rbac}/clusterrolebindings")),
        ("GET", "apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned()),
        ("DELETE", "apis/apiextensions.k8s.io/v1/customresourcedefinitions/mailroutes.mailfailover.io".to_owned()),
        ("POST", "apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned()),
        ("POST", "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations".to_owned()),
    ];
    for (method, path) in &forbidden {
        ensure!(is_forbidden(&client, method, path, None).await?, "{method} {path} is allowed");
    }
    let own_route = format!("{mail}/namespaces/{shop}/mailroutes/orders");
    ensure!(!is_forbidden(&client, "GET", &own_route, None).await?, "{own_route} is refused");
    ensure!(is_forbidden(&client, "GET", &own_route, Some("admin")).await?, "it may be somebody else");
    eprintln!("{} things are forbidden to the operator", forbidden.len() + 1);
    Ok(())
}

async fn is_forbidden(client: &Client, method: &str, path: &str, somebody: Option<&str>) -> Result<bool> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let mut request = hyper::Request::builder().method(method).uri(format!("/{path}")).header("content-type", kind);
    if let Some(user) = somebody {
        request = request.header("impersonate-user", user);
    }
    let body = if method == "GET" { vec![] } else { b"{}".to_vec() };
    match client.request_text(request.body(body)?).await {
        Ok(_) => Ok(false),
        Err(kube::Error::Api(status)) => Ok(status.code == 403),
        Err(error) => Err(error).with_context(|| format!("{method} {path}")),
    }
}

async fn forbidden(env: Arc<TestEnv>) -> Result<()> {
    let [own, open, shut] = ["o", "a", "s"].map(|end| format!("{}-{end}", env.namespace()));
    for namespace in [&own, &open, &shut] {
        make_namespace(&env, namespace, &[]).await?;
    }
    let shop = TenantShop::open(&env, &open).await?;
    let installation = Installation::start(&env, &own, &[&open], json!({})).await?;
    installation.operator.wait_ready(WAIT_TIMEOUT).await?;
    shop.wait_active(&env, "primary").await?;
    installation.operator.terminate(Duration::from_secs(10)).await?;

    let both = format!("{open},{shut}");
    let operator = start_as(&env, (&own, ACCOUNT), "both", &["--namespaces", &both]).await?;
    let error = operator.wait_ready(Duration::from_secs(3)).await.expect_err("it may not look into one of them");
    let said = format!("{error:#}");
    ensure!(said.contains(&format!("MailRoute in {shut}: ")) && said.contains("403"), "{said}");
    ensure!(said.contains("grant list and watch") && !said.contains(&format!("MailRoute in {open}: ")), "{said}");
    // After a grace period the namespace counts as empty.
    operator.wait_ready(WAIT_TIMEOUT).await?;
    shop.primary.crash().await?;
    shop.wait_active(&env, "standby").await?;
    ensure!(forbidden_kinds(&operator, &shut).await? > 0.0 && forbidden_kinds(&operator, &open).await? == 0.0);
    // Granted by an upgrade of the release; nothing has to be restarted.
    Installation::grant(&env, &own, &[&open, &shut]).await?;
    eventually(WAIT_TIMEOUT, "every kind to be read", async || {
        Ok((forbidden_kinds(&operator, &shut).await? == 0.0).then_some(()))
    })
    .await
}

async fn forbidden_kinds(operator: &Operator, namespace: &str) -> Result<f64> {
    let label = format!("namespace=\"{namespace}\"");
    Ok(metric_sum(&operator.metrics().await?, "mail_failover_watch_forbidden", |labels| labels.contains(&label)))
}
