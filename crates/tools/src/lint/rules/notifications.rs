//! Rules about notifications.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::listed;
use crate::lint::finding::ManifestFindings;
use crate::lint::set::ObjectSet;
use crate::manifests::Manifest;
use mail_failover_core::model::{Occasion, Receiver, ReceiverKind};
use mail_failover_notifications::secret::{NotificationSecret, NotificationSecretError};
use mail_failover_resolve as resolve;
use mail_failover_runtime::findings::{Rule, Severity};

pub(super) const SECRET_NOT_FOR_RECEIVER: Rule = Rule {
    code: "SecretNotForReceiver",
    severity: Severity::Error,
    broken_when: "the Secret that a receiver of notifications names is among the files, and has another type than mailfailover.io/notification or not the key that the receiver needs",
};
pub(super) const RECEIVER_BACKEND_MISSING: Rule = Rule {
    code: "ReceiverBackendMissing",
    severity: Severity::Warning,
    broken_when: "a receiver of type Mail names a SendingBackend that the files do not hold",
};
pub(super) const NOBODY_HEARS_OF_OUTAGES: Rule = Rule {
    code: "NobodyHearsOfOutages",
    severity: Severity::Warning,
    broken_when: "a policy has receivers of notifications, and none of them is told when no backend can deliver by a way that is not mail",
};
pub(super) const OCCASION_NEVER_TOLD: Rule = Rule {
    code: "OccasionNeverTold",
    severity: Severity::Warning,
    broken_when: "a receiver of notifications names an occasion that it is never told of: one below its minimum, or at PagerDuty, Opsgenie and Alertmanager one that begins nothing that ends",
};

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, policy) in &set.policies {
        // A defect of the receivers is reported with the object.
        let Ok(notifications) = resolve::notifications(policy.spec.notifications.as_ref()) else { continue };
        for (index, receiver) in notifications.receivers.iter().enumerate() {
            let field = format!("spec.notifications.receivers[{index}]");
            if let Some(name) = &receiver.secret
                && let Some(manifest) = set.core("Secret", &key.sibling(name.clone()))
                && let Err(error) = secret(manifest).and_then(|secret| secret.check(&receiver.kind))
            {
                let (field, message) = (format!("{field}.secretRef.name"), format!("Secret {name}: {error}"));
                let remedy =
                    "make a Secret of the type mailfailover.io/notification with the key of this type of receiver";
                findings.add(&SECRET_NOT_FOR_RECEIVER, policy.manifest, &field, message, remedy);
            }
            let mut specs = policy.spec.notifications.iter().flat_map(|spec| &spec.receivers);
            if specs.nth(index).is_some_and(|spec| spec.occasions.is_some()) {
                let idle = receiver.occasions.iter().filter(|occasion| is_never_told(receiver, **occasion));
                let idle: Vec<_> = idle.map(|occasion| occasion.as_str()).collect();
                if !idle.is_empty() {
                    let message = format!("receiver {} is never told of {}", receiver.name, listed(&idle));
                    let remedy = if receiver.kind.knows_resolving() {
                        "take it from the list, or lower minimum; of drills tell a chat, a webhook or people by mail, or use the alert MailFailoverDrillFailed"
                    } else {
                        "take it from the list, or lower minimum"
                    };
                    let field = format!("{field}.occasions");
                    findings.add(&OCCASION_NEVER_TOLD, policy.manifest, &field, message, remedy);
                }
            }
            let ReceiverKind::Mail { backends, .. } = &receiver.kind else { continue };
            for backend in backends.iter().filter(|name| !set.names("SendingBackend", &key.sibling((*name).clone()))) {
                let message = format!("SendingBackend {backend} of namespace {} is not in these files", key.namespace);
                let remedy = "correct the name, or make sure that it exists in the cluster";
                let field = format!("{field}.mail.backends");
                findings.add(&RECEIVER_BACKEND_MISSING, policy.manifest, &field, message, remedy);
            }
        }
        if !notifications.receivers.is_empty() && !notifications.receivers.iter().any(hears_of_outages) {
            let message = "while no backend can deliver, mail reaches nobody, and no other receiver is told of it";
            let remedy = "add a receiver of another type than Mail, with NoneHealthy among its occasions";
            let field = "spec.notifications.receivers";
            findings.add(&NOBODY_HEARS_OF_OUTAGES, policy.manifest, field, message.to_owned(), remedy);
        }
    }
}

fn hears_of_outages(receiver: &Receiver) -> bool {
    let is_mail = matches!(receiver.kind, ReceiverKind::Mail { .. });
    !is_mail && receiver.wants(Occasion::NoneHealthy, Some(Occasion::NoneHealthy))
}

fn is_never_told(receiver: &Receiver, occasion: Occasion) -> bool {
    if !receiver.kind.knows_resolving() {
        return !receiver.wants(occasion, None);
    }
    if matches!(occasion, Occasion::Failback | Occasion::Recovery) {
        // Told as the end of what has begun, named or not.
        return !receiver.occasions.iter().any(|begun| begins(receiver, *begun));
    }
    !begins(receiver, occasion)
}

fn begins(receiver: &Receiver, occasion: Occasion) -> bool {
    occasion.lasts() && receiver.wants(occasion, Some(occasion))
}

/// The Secret as the operator would read it. What is no base64 counts as empty.
fn secret(manifest: &Manifest) -> Result<NotificationSecret, NotificationSecretError> {
    let mut data = BTreeMap::new();
    for (key, value) in texts(manifest, "data") {
        data.insert(key, STANDARD.decode(value).unwrap_or_default());
    }
    for (key, value) in texts(manifest, "stringData") {
        data.insert(key, value.as_bytes().to_vec());
    }
    NotificationSecret::parse(manifest.value().get("type").and_then(Value::as_str), data)
}

fn texts<'a>(manifest: &'a Manifest, field: &str) -> Vec<(String, &'a str)> {
    let pairs = manifest.value().get(field).and_then(Value::as_object);
    pairs.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?))).collect()
}
