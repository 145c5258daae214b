//! Rules about webhooks.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::ObjectSet;
use crate::manifests::Manifest;
use mail_failover_runtime::findings::{Rule, Severity};
use mail_failover_webhook::secret::{SecretError, WebhookSecret};

pub(super) const SECRET_NOT_FOR_WEBHOOK: Rule = Rule {
    code: "SecretNotForWebhook",
    severity: Severity::Error,
    broken_when: "the Secret that a webhook names is among the files, and has another type than mailfailover.io/webhook or no usable signing-secret",
};
pub(super) const NO_WEBHOOK_AWAITED: Rule = Rule {
    code: "NoWebhookAwaited",
    severity: Severity::Hint,
    broken_when: "every output of a route is a webhook, and none is awaited: the route counts as applied before anything was led",
};

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for view in set.views() {
        let webhooks: Vec<_> = view.spec.outputs.iter().map(|output| output.webhook.as_ref()).collect();
        for (index, webhook) in webhooks.iter().enumerate() {
            let Some(webhook) = webhook else { continue };
            let key = view.key.sibling(webhook.secret_ref.name.as_str());
            let Some(Err(error)) = set.core("Secret", &key).map(secret) else { continue };
            let field = format!("spec.outputs[{index}].webhook.secretRef.name");
            let message = format!("Secret {}: {error}", key.name);
            let remedy = "make a Secret of the type mailfailover.io/webhook with the key signing-secret";
            findings.add(&SECRET_NOT_FOR_WEBHOOK, view.manifest, &field, message, remedy);
        }
        let is_any_awaited = webhooks.iter().flatten().any(|webhook| webhook.r#await == Some(true));
        if webhooks.iter().all(Option::is_some) && !is_any_awaited {
            let message = "nobody waits for an answer: the route is Ready, and a failover is over, before a receiver has heard of it";
            let remedy = "set await: true for the receiver that moves the mail";
            findings.add(&NO_WEBHOOK_AWAITED, view.manifest, "spec.outputs", message.to_owned(), remedy);
        }
    }
}

/// The Secret as the operator would read it. What is no base64 counts as empty.
fn secret(manifest: &Manifest) -> Result<WebhookSecret, SecretError> {
    let mut data = BTreeMap::new();
    for (key, value) in texts(manifest, "data") {
        data.insert(key, STANDARD.decode(value).unwrap_or_default());
    }
    for (key, value) in texts(manifest, "stringData") {
        data.insert(key, value.as_bytes().to_vec());
    }
    WebhookSecret::parse(manifest.value().get("type").and_then(Value::as_str), data)
}

fn texts<'a>(manifest: &'a Manifest, field: &str) -> Vec<(String, &'a str)> {
    let pairs = manifest.value().get(field).and_then(Value::as_object);
    pairs.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?))).collect()
}
