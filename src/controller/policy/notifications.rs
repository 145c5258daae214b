//! Content for a receiver: the request or the mail of a message, with the Secret that it needs.

use std::sync::Arc;
use std::time::Duration;

use crate::controller::dependencies::DependencyCache;
use crate::notification::{CallContent, MailRequest};
use crate::webhook::WebhookRequest;
use mail_failover_api::QueuedNotification;
use mail_failover_api::conditions::reason;
use mail_failover_core::model::{
    Destination, Login, Notifications, ObjectKey, Receiver, ReceiverKind, Timestamp, Tls, TrustAnchors, WebhookMethod,
};
use mail_failover_notifications::format::{
    NotificationRequest, OngoingAlert, ToldMessage, mail, ongoing_alerts, ongoing_request, request,
};
use mail_failover_notifications::secret::NotificationSecret;
use mail_failover_resolve::{ReadProblem, Rejection, receiver_ca_key};

/// Time limit of a call, from the look-up of the name to the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that a call follows from, beside the message.
pub(in crate::controller) struct NotificationContext<'a> {
    pub(in crate::controller) now: Timestamp,
    pub(in crate::controller) policy: &'a ObjectKey,
    pub(in crate::controller) notifications: &'a Notifications,
    pub(in crate::controller) dependencies: &'a DependencyCache,
    /// Ongoing alerts, for receivers that are told again those that they want.
    pub(in crate::controller) ongoing: &'a [OngoingAlert],
    /// Looks up the first of some backends that can deliver.
    pub(in crate::controller) way: &'a dyn Fn(&[Arc<str>]) -> Option<MailWay>,
}

/// A backend that mail can leave by.
pub(in crate::controller) struct MailWay {
    pub(in crate::controller) backend: Arc<str>,
    pub(in crate::controller) destination: Destination,
    pub(in crate::controller) tls: Tls,
    /// The login, or what is wrong with it; `None` if the backend asks for none.
    pub(in crate::controller) login: Option<Result<Login, ReadProblem>>,
}

/// The content of a call: of a message, or of all that lasts. `None` while an object that it needs has not been read
/// yet.
pub(in crate::controller) fn content_of(
    cx: &NotificationContext<'_>,
    receiver: &Receiver,
    message: Option<&QueuedNotification>,
) -> Result<Option<CallContent>, Rejection> {
    let runbook_url = cx.notifications.runbook_url.as_deref();
    let told = message.map(|message| ToldMessage { message, policy: cx.policy, runbook_url, now: cx.now });
    if let (ReceiverKind::Mail { from, to, backends }, Some(told)) = (&receiver.kind, &told) {
        return mail_content(cx, receiver, told, (from, to, backends));
    }
    let secret = match secret_of(cx, receiver) {
        Ok(secret) => secret,
        Err(None) => return Ok(None),
        Err(Some(rejection)) => return Err(rejection),
    };
    let trust = match receiver_ca_key(cx.policy, receiver) {
        None => TrustAnchors::WellKnown,
        Some(ca) => match cx.dependencies.webhook_ca(&ca) {
            Ok(pem) => TrustAnchors::Pem(pem),
            Err(ReadProblem::Pending) => return Ok(None),
            Err(problem) => {
                let object = format!("key {} of {} {}", ca.data_key, ca.kind.as_str(), ca.object.name);
                return Err(unreadable(receiver, "caRef", &object, &problem));
            }
        },
    };
    let request = match (&told, &receiver.kind) {
        (Some(told), _) => request(receiver, secret.as_ref(), told).map_err(|error| {
            let object = receiver.secret.as_deref().unwrap_or_default();
            rejected(receiver, "secretRef", &format!("Secret {object}: {error}"))
        })?,
        (None, ReceiverKind::Alertmanager { url }) => {
            let wanted = cx.ongoing.iter().filter(|one| one.is_wanted_by(receiver));
            let alerts = ongoing_alerts(cx.policy, wanted, runbook_url, cx.now);
            Some(ongoing_request(url, secret.as_ref(), &alerts))
        }
        (None, _) => None,
    };
    Ok(request.map(|request| CallContent::Request(webhook_request(request, trust))))
}

fn webhook_request(request: NotificationRequest, trust: TrustAnchors) -> WebhookRequest {
    let NotificationRequest { url, content_type, headers, body, signer } = request;
    let headers = headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
    WebhookRequest {
        url: url.into(),
        method: WebhookMethod::Post,
        content_type: content_type.into(),
        headers,
        body,
        signer,
        trust,
        timeout: TIMEOUT,
    }
}

/// The Secret of a receiver that names one; the error is `None` while it has not been read yet.
fn secret_of(
    cx: &NotificationContext<'_>,
    receiver: &Receiver,
) -> Result<Option<NotificationSecret>, Option<Rejection>> {
    let Some(name) = &receiver.secret else { return Ok(None) };
    match cx.dependencies.secret(&cx.policy.sibling(name.clone())) {
        Ok(secret) => Ok(Some(secret)),
        Err(ReadProblem::Pending) => Err(None),
        Err(problem) => Err(Some(unreadable(receiver, "secretRef", &format!("Secret {name}"), &problem))),
    }
}

fn mail_content(
    cx: &NotificationContext<'_>,
    receiver: &Receiver,
    told: &ToldMessage<'_>,
    (from, to, backends): (&Arc<str>, &[Arc<str>], &[Arc<str>]),
) -> Result<Option<CallContent>, Rejection> {
    let Some(MailWay { backend, destination, tls, login }) = (cx.way)(backends) else {
        let message = format!("none of {} is Healthy and in service", backends.join(", "));
        return Err(rejected(receiver, "mail.backends", &message));
    };
    let login = match login {
        None => None,
        Some(Ok(login)) => Some(login),
        Some(Err(ReadProblem::Pending)) => return Ok(None),
        Some(Err(problem)) => {
            return Err(unreadable(receiver, "mail.backends", &format!("the login of {backend}"), &problem));
        }
    };
    let mail = mail(told, from, to.iter().map(|one| &**one));
    let request = MailRequest { backend, destination, tls, login, from: from.clone(), to: to.to_vec(), mail };
    Ok(Some(CallContent::Mail(Box::new(request))))
}

fn unreadable(receiver: &Receiver, field: &str, object: &str, problem: &ReadProblem) -> Rejection {
    rejected(receiver, field, &format!("{object}: {problem}"))
}

fn rejected(receiver: &Receiver, field: &str, message: &str) -> Rejection {
    let field = format!("spec.notifications.receivers[].{field} ({})", receiver.name);
    Rejection::new(reason::NOTIFICATION_FAILING, &field, message)
}
