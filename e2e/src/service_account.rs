//! Service accounts as pods have them: their names, their tokens, and a kubeconfig with the rights
//! of a token only.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::test_env::TestEnv;

/// The user name of a service account at the API server.
pub fn user(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// Creates a service account.
///
/// # Errors
/// When the API server refuses it.
pub async fn make(env: &TestEnv, namespace: &str, account: &str) -> Result<()> {
    let metadata = ObjectMeta { name: Some(account.to_owned()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    Api::<ServiceAccount>::namespaced(env.client(), namespace).create(&PostParams::default(), &account).await?;
    Ok(())
}

/// Requests a token as the kubelet does. Without an audience it is for the API server.
///
/// # Errors
/// When the API server refuses it: there is no such account, say.
pub async fn token(env: &TestEnv, namespace: &str, account: &str, audience: &str) -> Result<String> {
    let audiences = Some(audience.to_owned()).filter(|audience| !audience.is_empty()).into_iter().collect();
    let spec = TokenRequestSpec { audiences, ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts = Api::<ServiceAccount>::namespaced(env.client(), namespace);
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
    let answer = answer.with_context(|| format!("a token for {namespace}/{account}"))?;
    Ok(answer.status.context("a token")?.token)
}

/// Writes a kubeconfig with what a pod has: the server, its authority, and the token of the service
/// account.
///
/// # Errors
/// When there is no token, or the file cannot be written.
pub async fn write_kubeconfig(env: &TestEnv, namespace: &str, account: &str, path: &Path) -> Result<()> {
    let all_rights: Value = serde_json::to_value(Kubeconfig::read_from(env.kubeconfig())?)?;
    let mut cluster = all_rights["clusters"][0].clone();
    cluster["name"] = "c".into();
    let user = user(namespace, account);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": [cluster],
        "users": [{ "name": user, "user": { "token": token(env, namespace, account, "").await? } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": user } }],
        "current-context": "c",
    });
    // JSON is YAML.
    fs::write(path, serde_json::to_vec(&kubeconfig)?).with_context(|| path.display().to_string())
}

/// A client by a kubeconfig's current context.
///
/// # Errors
/// When it cannot be read, or is none.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)?)
}
