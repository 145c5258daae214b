//! Trials of forbidden requests by the operator and the agent, with the tokens that their pods
//! hold.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hyper::{Method, Request};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use mail_failover_e2e::in_cluster::installation::{NAMESPACE, RELEASE, ensure_installed};
use mail_failover_e2e::in_cluster::shop::{Shop, process_with};
use mail_failover_e2e::service_account::user;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::time::timeout;

/// The paths of a pod's token. `/run` is tried first: in an image where `/var/run` is a link, that
/// path would lead out of the pod.
const TOKENS: [&str; 2] =
    ["run/secrets/kubernetes.io/serviceaccount/token", "var/run/secrets/kubernetes.io/serviceaccount/token"];
const QUESTION: Duration = Duration::from_secs(20);

/// Requests that neither may make. `SHOP` is the tenant's namespace.
const FORBIDDEN: &[(&str, &str)] = &[
    // Secrets of others, and those of the tenant that no backend names.
    ("GET", "/api/v1/secrets"),
    ("GET", "/api/v1/namespaces/kube-system/secrets"),
    ("GET", "/api/v1/namespaces/SHOP/secrets"),
    ("GET", "/api/v1/namespaces/SHOP/secrets?watch=true"),
    ("GET", "/api/v1/namespaces/SHOP/secrets/payroll"),
    ("GET", "/api/v1/namespaces/mail-failover/secrets/sh.helm.release.v1.mail-failover-operator.v1"),
    ("POST", "/api/v1/namespaces/SHOP/secrets"),
    ("PATCH", "/api/v1/namespaces/SHOP/secrets/login"),
    ("DELETE", "/api/v1/namespaces/SHOP/secrets/login"),
    // Into pods, and out of them.
    ("POST", "/api/v1/namespaces/SHOP/pods/postfix-0/exec?command=id&stdout=true"),
    ("POST", "/api/v1/namespaces/SHOP/pods/postfix-0/attach?stdout=true"),
    ("POST", "/api/v1/namespaces/SHOP/pods/postfix-0/portforward?ports=25"),
    ("GET", "/api/v1/namespaces/SHOP/pods/postfix-0/proxy/"),
    ("GET", "/api/v1/namespaces/SHOP/pods/postfix-0/log"),
    ("PATCH", "/api/v1/namespaces/SHOP/pods/postfix-0/ephemeralcontainers"),
    ("POST", "/api/v1/namespaces/SHOP/pods"),
    ("PATCH", "/api/v1/namespaces/SHOP/pods/postfix-0"),
    ("DELETE", "/api/v1/namespaces/SHOP/pods/postfix-0"),
    ("POST", "/api/v1/namespaces/SHOP/pods/postfix-0/eviction"),
    // Objects that create pods, the operator's own included.
    ("PATCH", "/apis/apps/v1/namespaces/mail-failover/deployments/mail-failover-operator"),
    ("PATCH", "/apis/apps/v1/namespaces/SHOP/statefulsets/postfix"),
    ("PATCH", "/apis/apps/v1/namespaces/SHOP/deployments/a/scale"),
    ("POST", "/apis/apps/v1/namespaces/kube-system/daemonsets"),
    ("POST", "/apis/batch/v1/namespaces/SHOP/jobs"),
    ("POST", "/apis/batch/v1/namespaces/SHOP/cronjobs"),
    // Nodes and volumes.
    ("GET", "/api/v1/nodes"),
    ("PATCH", "/api/v1/nodes/node"),
    ("GET", "/api/v1/nodes/node/proxy/pods"),
    ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node"),
    ("POST", "/api/v1/persistentvolumes"),
    ("DELETE", "/api/v1/namespaces/SHOP/persistentvolumeclaims/spool-postfix-0"),
    ("POST", "/api/v1/namespaces"),
    ("DELETE", "/api/v1/namespaces/SHOP"),
    // Further rights for themselves.
    ("POST", "/api/v1/namespaces/SHOP/serviceaccounts"),
    ("POST", "/api/v1/namespaces/kube-system/serviceaccounts/default/token"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/mail-failover:mail-failover-operator"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/SHOP/roles"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/SHOP/rolebindings"),
    ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
    ("PATCH", "/apis/certificates.k8s.io/v1/certificatesigningrequests/any/approval"),
    // Configuration of the API server, and identities.
    ("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"),
    ("POST", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"),
    ("POST", "/apis/apiregistration.k8s.io/v1/apiservices"),
    ("PATCH", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/mailroutes.mailfailover.io"),
    ("GET", "/metrics"),
    ("GET", "/debug/pprof/heap"),
    // Objects that people decide about, and policies that protect them.
    ("POST", "/apis/mailfailover.io/v1alpha1/namespaces/SHOP/sendingbackends"),
    ("PATCH", "/apis/mailfailover.io/v1alpha1/namespaces/SHOP/mailroutes/orders"),
    ("DELETE", "/apis/mailfailover.io/v1alpha1/namespaces/SHOP/mailroutes/orders"),
    ("PATCH", "/apis/mailfailover.io/v1alpha1/namespaces/SHOP/failoverpolicies/providers"),
    ("DELETE", "/apis/networking.k8s.io/v1/namespaces/SHOP/networkpolicies/any"),
    ("DELETE", "/apis/policy/v1/namespaces/mail-failover/poddisruptionbudgets/mail-failover-operator"),
    ("DELETE", "/apis/events.k8s.io/v1/namespaces/SHOP/events"),
    ("GET", "/apis/coordination.k8s.io/v1/leases"),
];

/// Requests that the operator needs, and the agent does not.
const FORBIDDEN_TO_AGENT: &[(&str, &str)] = &[
    ("GET", "/api/v1/namespaces/SHOP/secrets/login"),
    ("GET", "/api/v1/configmaps"),
    ("GET", "/api/v1/namespaces/SHOP/configmaps"),
    ("GET", "/api/v1/namespaces/SHOP/configmaps/kube-root-ca.crt"),
    ("GET", "/api/v1/namespaces/kube-system/configmaps/coredns"),
    ("PATCH", "/api/v1/namespaces/SHOP/configmaps/orders-agent"),
    ("DELETE", "/api/v1/namespaces/SHOP/configmaps/orders-agent"),
    ("GET", "/api/v1/namespaces/SHOP/services"),
    ("GET", "/api/v1/namespaces/SHOP/pods"),
    ("GET", "/apis/discovery.k8s.io/v1/namespaces/SHOP/endpointslices"),
    ("GET", "/apis/mailfailover.io/v1alpha1/namespaces/SHOP/mailroutes"),
    ("GET", "/apis/mailfailover.io/v1alpha1/namespaces/SHOP/sendingbackends"),
    ("PATCH", "/apis/mailfailover.io/v1alpha1/namespaces/SHOP/mailroutes/orders/status"),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
    ("POST", "/apis/events.k8s.io/v1/namespaces/SHOP/events"),
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/mail-failover/leases"),
];

/// Requests that must be allowed. They prove that a refused request is refused for lack of a right.
const ALLOWED_TO_OPERATOR: &[(&str, &str)] = &[
    ("GET", "/apis/mailfailover.io/v1alpha1/mailroutes"),
    ("GET", "/api/v1/namespaces/SHOP/secrets/login"),
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/mail-failover/leases"),
    ("DELETE", "/api/v1/namespaces/SHOP/configmaps/orders-agent"),
];
const ALLOWED_TO_AGENT: &[(&str, &str)] =
    &[("GET", "/api/v1/namespaces/SHOP/configmaps?fieldSelector=metadata.name%3Dorders-agent")];

pub fn trials() -> Vec<Trial> {
    vec![trial("the operator and the agent are refused whatever they have no business with", refusals).needs_own_node()]
}

async fn refusals(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let shop = Shop::open(env.clone()).await?;
    let namespace = env.namespace();
    let payroll =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "payroll" }, "stringData": { "a": "b" } });
    env.apply(&payroll.to_string()).await?;
    let both: Vec<_> = FORBIDDEN.iter().chain(FORBIDDEN_TO_AGENT).copied().collect();
    for (user, argument, forbidden, allowed) in [
        (user(NAMESPACE, RELEASE), format!("--lease-name={RELEASE}"), FORBIDDEN, ALLOWED_TO_OPERATOR),
        (user(namespace, "postfix"), format!("--config-map={namespace}/orders-agent"), &both, ALLOWED_TO_AGENT),
    ] {
        let client = as_pod(&env, &argument).await?;
        let who = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let question = request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &who)?;
        let who: Value = serde_json::from_str(&client.request_text(question).await?)?;
        ensure!(who["status"]["userInfo"]["username"] == user, "{who}");
        let mut answers = BTreeMap::new();
        for (method, path) in forbidden {
            let path = path.replace("SHOP", namespace);
            let answer = ask(&client, request(method, &path, &json!({}))?).await?;
            answers.insert(format!("{method} {path}"), answer);
        }
        for (header, whom) in [
            ("Impersonate-User", "system:admin"),
            ("Impersonate-User", "system:serviceaccount:kube-system:default"),
            ("Impersonate-Group", "system:masters"),
        ] {
            let mut request = request("GET", "/api/v1/namespaces/kube-system/secrets", &Value::Null)?;
            if header == "Impersonate-Group" {
                request.headers_mut().insert("Impersonate-User", user.parse()?);
            }
            request.headers_mut().insert(header, whom.parse()?);
            answers.insert(format!("{header}: {whom}"), ask(&client, request).await?);
        }
        let refused = answers.values().filter(|answer| **answer == Answer::Forbidden).count();
        let others: Vec<_> = answers.iter().filter(|(_, answer)| **answer != Answer::Forbidden).collect();
        ensure!(others.is_empty(), "{user} is not refused: {others:#?}");
        ensure!(refused >= 30, "{refused}");
        eprintln!("{user}: {refused} refused");
        for (method, path) in allowed {
            let path = path.replace("SHOP", namespace);
            let answer = ask(&client, request(method, &path, &json!({}))?).await?;
            ensure!(matches!(answer, Answer::Allowed), "{user}: {method} {path}: {answer:?}");
        }
    }
    // No request has changed anything.
    shop.wait_active("a").await.map(drop)
}

/// A client with the token of the pod of this process.
async fn as_pod(env: &TestEnv, argument: &str) -> Result<Client> {
    let process = process_with(argument)?.as_raw_nonzero();
    let root = std::path::PathBuf::from(format!("/proc/{process}/root"));
    let token = TOKENS.iter().find_map(|path| fs::read_to_string(root.join(path)).ok());
    let token = token.with_context(|| format!("the process with {argument} has no token"))?;
    let mut kubeconfig = Kubeconfig::read_from(env.kubeconfig())?;
    let only =
        json!({ "name": kubeconfig.auth_infos.first().context("a user")?.name, "user": { "token": token.trim() } });
    kubeconfig.auth_infos = vec![serde_json::from_value(only)?];
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A request as a dry run, so that it changes nothing even if it is allowed.
fn request(method: &str, path: &str, body: &Value) -> Result<Request<Vec<u8>>> {
    let method: Method = method.parse()?;
    let is_read = method == Method::GET;
    let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let uri = match (is_read, path.contains('?')) {
        (true, _) => path.to_owned(),
        (false, true) => format!("{path}&dryRun=All"),
        (false, false) => format!("{path}?dryRun=All"),
    };
    let body = if is_read { Vec::new() } else { serde_json::to_vec(body)? };
    Ok(Request::builder().method(method).uri(uri).header("Content-Type", content).body(body)?)
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Allowed,
    Forbidden,
    Other(String),
}

async fn ask(client: &Client, request: Request<Vec<u8>>) -> Result<Answer> {
    let what = format!("{} {}", request.method(), request.uri());
    match timeout(QUESTION, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(Answer::Allowed),
        // As opposed to a quota or admission, which answers 403, too, authorization says so.
        Ok(Err(kube::Error::Api(status))) if status.code == 403 && status.message.contains("cannot") => {
            Ok(Answer::Forbidden)
        }
        Ok(Err(kube::Error::Api(status))) => Ok(Answer::Other(format!("{} {}", status.code, status.message))),
        Ok(Err(error)) => bail!("{what}: {error}"),
        Err(_) => bail!("{what}: no answer within {QUESTION:?}"),
    }
}
