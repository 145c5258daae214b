//! The receivers of a policy's notifications.

use std::sync::Arc;

use kube::ResourceExt;

use super::text::truncated;
use super::webhook::{ca, ca_place};
use super::{CaKey, Rejection};
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_core::model::{Notifications, ObjectKey, Occasion, Receiver, ReceiverKind, Severity};

/// Name of the annotation of a policy in which a person asks for a test message, under an id of their own.
pub const TEST_ANNOTATION: &str = "mailfailover.io/test-notification";
/// The API's bound on `status.notifications.test.id`, in bytes.
const MAX_ID: usize = 64;
/// Addresses of the providers.
const PAGER_DUTY: &str = "https://events.pagerduty.com";
const OPSGENIE: &str = "https://api.opsgenie.com";
const TELEGRAM: &str = "https://api.telegram.org";

/// The notifications of a policy; none without receivers.
///
/// # Errors
/// [`Rejection`] for what the schema should have refused (an old schema may still be installed).
pub fn notifications(spec: Option<&api::NotificationsSpec>) -> Result<Notifications, Rejection> {
    let Some(api::NotificationsSpec { receivers, runbook_url }) = spec else { return Ok(Notifications::default()) };
    Ok(Notifications {
        receivers: receivers.iter().map(receiver).collect::<Result<_, _>>()?,
        runbook_url: runbook_url.as_deref().map(|url| url.trim_end_matches('#').into()),
    })
}

/// Id of the test message that a person asks for.
pub fn test_request(policy: &api::FailoverPolicy) -> Option<String> {
    let id = policy.annotations().get(TEST_ANNOTATION)?.trim();
    (!id.is_empty()).then(|| truncated(id, MAX_ID))
}

fn receiver(spec: &api::ReceiverSpec) -> Result<Receiver, Rejection> {
    let api::ReceiverSpec { name, r#type: _, url: _, secret_ref, ca_ref, chat: _, mail: _, occasions, minimum } = spec;
    let kind = kind(spec)?;
    let needs_secret = !matches!(kind, ReceiverKind::Alertmanager { .. } | ReceiverKind::Mail { .. });
    if needs_secret && secret_ref.is_none() {
        return Err(missing(spec, "secretRef"));
    }
    Ok(Receiver {
        name: name.as_str().into(),
        kind,
        secret: secret_ref.as_ref().map(|secret| secret.name.as_str().into()),
        ca: ca_ref.as_ref().and_then(ca),
        occasions: match occasions {
            None => Occasion::selectable(),
            Some(chosen) => chosen.iter().copied().map(occasion).collect(),
        },
        minimum: match minimum {
            None | Some(api::SeveritySpec::Info) => Severity::Info,
            Some(api::SeveritySpec::Warning) => Severity::Warning,
            Some(api::SeveritySpec::Critical) => Severity::Critical,
        },
    })
}

fn kind(spec: &api::ReceiverSpec) -> Result<ReceiverKind, Rejection> {
    let api::ReceiverSpec { name, r#type, url, chat, mail, .. } = spec;
    Ok(match r#type {
        api::ReceiverTypeSpec::Webhook => ReceiverKind::Webhook { url: https(spec, None)? },
        api::ReceiverTypeSpec::Slack => ReceiverKind::Slack,
        api::ReceiverTypeSpec::Teams => ReceiverKind::Teams,
        api::ReceiverTypeSpec::Discord => ReceiverKind::Discord,
        api::ReceiverTypeSpec::GoogleChat => ReceiverKind::GoogleChat,
        api::ReceiverTypeSpec::PagerDuty => ReceiverKind::PagerDuty { url: base(&https(spec, Some(PAGER_DUTY))?) },
        api::ReceiverTypeSpec::Opsgenie => ReceiverKind::Opsgenie { url: base(&https(spec, Some(OPSGENIE))?) },
        api::ReceiverTypeSpec::Telegram => ReceiverKind::Telegram {
            url: base(&https(spec, Some(TELEGRAM))?),
            chat: chat.as_deref().ok_or_else(|| missing(spec, "chat"))?.into(),
        },
        api::ReceiverTypeSpec::Alertmanager => {
            let url = url.as_deref().ok_or_else(|| missing(spec, "url"))?;
            if url.starts_with("http://") && spec.secret_ref.is_some() {
                let message = "it is not sent over http://; use https://, or take it away";
                return Err(Rejection::new(reason::INVALID_SPEC, &field(name, "secretRef"), message));
            }
            ReceiverKind::Alertmanager { url: base(url) }
        }
        api::ReceiverTypeSpec::Mail => {
            let api::MailReceiverSpec { from, to, backends } = mail.as_ref().ok_or_else(|| missing(spec, "mail"))?;
            ReceiverKind::Mail {
                from: from.as_str().into(),
                to: to.iter().map(|to| to.as_str().into()).collect(),
                backends: backends.iter().map(|backend| backend.as_str().into()).collect(),
            }
        }
    })
}

/// The rejection of a receiver without a field that its type needs.
fn missing(spec: &api::ReceiverSpec, field: &str) -> Rejection {
    let type_ = spec.r#type;
    let message = format!("it must be set for {type_:?}");
    Rejection::new(reason::INVALID_SPEC, &self::field(&spec.name, field), &message)
}

/// The URL of a receiver, or that of its provider.
fn https(spec: &api::ReceiverSpec, default: Option<&'static str>) -> Result<Arc<str>, Rejection> {
    match spec.url.as_deref().or(default) {
        Some(url) if url.starts_with("https://") => Ok(url.into()),
        Some(_) | None => {
            Err(Rejection::new(reason::INVALID_SPEC, &field(&spec.name, "url"), "it must begin with https://"))
        }
    }
}

fn base(url: &str) -> Arc<str> {
    url.trim_end_matches('/').into()
}

fn occasion(occasion: api::OccasionSpec) -> Occasion {
    match occasion {
        api::OccasionSpec::Failover => Occasion::Failover,
        api::OccasionSpec::Failback => Occasion::Failback,
        api::OccasionSpec::Recovery => Occasion::Recovery,
        api::OccasionSpec::NoneHealthy => Occasion::NoneHealthy,
        api::OccasionSpec::NotDelivering => Occasion::NotDelivering,
        api::OccasionSpec::StandbyLost => Occasion::StandbyLost,
        api::OccasionSpec::DrillPassed => Occasion::DrillPassed,
        api::OccasionSpec::DrillFailed => Occasion::DrillFailed,
        api::OccasionSpec::ApprovalWanted => Occasion::ApprovalWanted,
        api::OccasionSpec::ObjectiveMissed => Occasion::ObjectiveMissed,
        api::OccasionSpec::OperatorTrouble => Occasion::OperatorTrouble,
    }
}

/// A field of the receiver of this name.
fn field(name: &str, field: &str) -> String {
    format!("spec.notifications.receivers[].{field} ({name})")
}

/// Place of the certificates that a receiver of a policy in this namespace trusts, if it names any.
pub fn receiver_ca_key(policy: &ObjectKey, receiver: &Receiver) -> Option<CaKey> {
    receiver.ca.as_ref().map(|source| ca_place(policy, source))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolved(receiver: &Value) -> Result<Receiver, String> {
        let spec = serde_json::from_value(json!({"receivers": [receiver]})).unwrap();
        notifications(Some(&spec)).map(|mut all| all.receivers.remove(0)).map_err(|rejection| rejection.message)
    }

    #[test]
    fn a_receiver_has_the_providers_address_and_all_occasions_by_default() {
        let pager = resolved(&json!({"name": "a", "type": "PagerDuty", "secretRef": {"name": "s"}})).unwrap();
        assert_eq!(pager.kind, ReceiverKind::PagerDuty { url: PAGER_DUTY.into() });
        assert_eq!((pager.occasions.len(), pager.minimum), (11, Severity::Info));
        let eu = json!({"name": "a", "type": "Opsgenie", "secretRef": {"name": "s"}, "url": "https://api.eu.opsgenie.com/",
            "occasions": ["NoneHealthy"], "minimum": "Critical"});
        let eu = resolved(&eu).unwrap();
        assert_eq!(eu.kind, ReceiverKind::Opsgenie { url: "https://api.eu.opsgenie.com".into() });
        assert_eq!((eu.occasions, eu.minimum), ([Occasion::NoneHealthy].into(), Severity::Critical));
        assert_eq!(notifications(None).unwrap(), Notifications::default());
    }

    #[test]
    fn what_an_old_schema_lets_pass_is_refused_with_the_field() {
        for (receiver, message) in [
            (json!({"name": "a", "type": "Slack"}), "secretRef (a): it must be set for Slack"),
            (
                json!({"name": "a", "type": "Webhook", "secretRef": {"name": "s"}}),
                "url (a): it must begin with https://",
            ),
            (json!({"name": "a", "type": "Alertmanager"}), "url (a): it must be set for Alertmanager"),
            (
                json!({"name": "a", "type": "Alertmanager", "url": "http://am:9093", "secretRef": {"name": "s"}}),
                "secretRef (a): it is not sent over http://",
            ),
            (
                json!({"name": "a", "type": "Telegram", "secretRef": {"name": "s"}}),
                "chat (a): it must be set for Telegram",
            ),
            (json!({"name": "a", "type": "Mail"}), "mail (a): it must be set for Mail"),
        ] {
            let refused = resolved(&receiver).unwrap_err();
            assert!(refused.starts_with(&format!("spec.notifications.receivers[].{message}")), "{refused}");
        }
    }
}
