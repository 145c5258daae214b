//! Explanation of a backend: what is seen of it, who uses it, and the commands that would change something. Pure.

use serde_json::{Value, json};

use super::source::UsedObject;
use super::text::{ago, section};
use mail_failover_api::{Health, MailRoute, ProbeStatus, SendingBackend, SendingBackendStatus};
use mail_failover_core::engine::DELIVERIES;
use mail_failover_core::model::text::visible;
use mail_failover_core::model::{EvidenceClass, LoginReference, ObjectKey, Timestamp};
use mail_failover_resolve::request::Remedy;
use mail_failover_resolve::time::timestamp;

/// Explanation of a backend.
#[derive(Clone, Debug)]
pub struct BackendExplanation {
    key: ObjectKey,
    at: Timestamp,
    status: SendingBackendStatus,
    is_suspended: bool,
    headline: String,
    notes: Vec<String>,
    probes: Vec<String>,
    users: Vec<String>,
    commands: Vec<String>,
}

impl BackendExplanation {
    /// Explains the objects as of a time.
    pub(super) fn of(used: &UsedObject<SendingBackend>, at: Timestamp) -> Self {
        let UsedObject { key, object, routes } = used;
        let status = object.status.clone().unwrap_or_default();
        let is_suspended = object.spec.suspended.unwrap_or(false);
        let users: Vec<_> = routes.iter().flatten().filter(|route| has(route, &key.name)).collect();
        Self {
            key: key.clone(),
            at,
            is_suspended,
            headline: headline(&status, is_suspended, at),
            notes: notes(object, &status, routes.is_some(), users.is_empty()),
            probes: status.probes.iter().map(|probe| probe_line(probe, at)).collect(),
            users: users.iter().map(|route| user_line(route, &key.name)).collect(),
            commands: commands(key, object, &status, &users),
            status,
        }
    }

    /// Renders the explanation as text with a final newline.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "SendingBackend {}, as of {}\n\n{}\n",
            visible(&self.key.to_string()),
            self.at,
            visible(&self.headline)
        );
        section(&mut text, "Note", &self.notes);
        section(&mut text, "What is seen", &self.probes);
        section(&mut text, "Who uses it", &self.users);
        section(&mut text, "To change it", &self.commands);
        text
    }

    /// Returns the explanation as JSON; times are RFC 3339.
    pub(super) fn json(&self) -> Value {
        json!({
            "backend": { "namespace": &*self.key.namespace, "name": &*self.key.name },
            "at": self.at.to_string(),
            "health": self.status.health,
            "reason": self.status.reason,
            "message": self.status.message,
            "since": self.status.since,
            "isSuspended": self.is_suspended,
            "certificateNotAfter": self.status.certificate_not_after,
            "probes": self.status.probes,
            "users": self.users,
            "notes": self.notes,
            "commands": self.commands,
        })
    }
}

fn has(route: &MailRoute, backend: &str) -> bool {
    route.spec.backends.iter().any(|member| member.name == backend)
}

fn headline(status: &SendingBackendStatus, is_suspended: bool, at: Timestamp) -> String {
    let since = status.since.as_ref().map(timestamp);
    let since = since.map_or_else(String::new, |since| format!(" since {since} ({})", ago(since, at)));
    let reason = status.reason.as_deref().unwrap_or("not observed");
    let health = match status.health {
        Some(Health::Healthy) => "Healthy",
        Some(Health::Degraded) => "Degraded",
        Some(Health::Unhealthy) => "Unhealthy",
        Some(Health::Unknown) | None => "Unknown",
    };
    let message = status.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
    let suspended = if is_suspended { " It is suspended: no new mail goes there." } else { "" };
    format!("{health} ({reason}){since}{message}.{suspended}")
}

fn notes(
    object: &SendingBackend,
    status: &SendingBackendStatus,
    are_routes_known: bool,
    is_unused: bool,
) -> Vec<String> {
    let mut notes = vec![];
    let observed = status.observed_generation.unwrap_or(-1);
    if observed < 0 {
        notes.push(
            "the operator has not looked at this backend yet; if that lasts, see whether it runs and which namespaces it watches"
                .to_owned(),
        );
    } else if object.metadata.generation.is_some_and(|generation| generation > observed) {
        notes.push("the status is behind the spec".to_owned());
    }
    let wrong = status.conditions.iter().filter(|one| one.type_ == "Ready" && one.status != "True");
    notes.extend(wrong.map(|one| format!("Ready is {} ({}): {}", one.status, one.reason, one.message)));
    if let Some(at) = &status.certificate_not_after {
        let issuer = status.certificate_issuer.as_ref();
        let issuer = issuer.map_or_else(String::new, |issuer| format!(" (intermediate certificate {issuer})"));
        notes.push(format!("its certificate expires at {}{issuer}", timestamp(at)));
    }
    match (are_routes_known, is_unused) {
        (false, _) => notes.push("the routes of the namespace may not be listed: who uses it is not known".to_owned()),
        (true, true) => notes.push("no route of the namespace uses it".to_owned()),
        (true, false) => {}
    }
    notes
}

fn probe_line(probe: &ProbeStatus, at: Timestamp) -> String {
    let since = timestamp(&probe.since);
    let name = if probe.name == DELIVERIES { "real mail".to_owned() } else { format!("probe {}", probe.name) };
    let message = probe.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
    format!("{name}: {:?} ({}) since {since} ({}){message}", probe.health, probe.reason, ago(since, at))
}

fn user_line(route: &MailRoute, backend: &str) -> String {
    let name = route.metadata.name.as_deref().unwrap_or_default();
    let status = route.status.as_ref();
    let active = status.into_iter().flat_map(|status| &status.active).find(|active| active.backend == backend);
    if let Some(active) = active {
        return format!("route {name}: carries {} % of its mail", active.percent);
    }
    let judged = status.into_iter().flat_map(|status| &status.backends).find(|one| one.name == backend);
    let judged = judged.map_or("not judged yet".to_owned(), |one| format!("{:?}, {}", one.health, one.reason));
    format!("route {name}: carries none of its mail ({judged})")
}

/// Shell commands, each with what it does.
fn commands(
    key: &ObjectKey,
    object: &SendingBackend,
    status: &SendingBackendStatus,
    users: &[&MailRoute],
) -> Vec<String> {
    let ObjectKey { namespace, name } = key;
    let mut commands = vec![];
    let reason = status.reason.as_deref().unwrap_or_default();
    let auth = object.spec.smtp.as_ref().and_then(|smtp| smtp.auth.as_ref());
    if let Some(auth) = auth.filter(|_| reason == EvidenceClass::AuthenticationRefused.as_str()) {
        commands.push(format!(
            "renew the login: kubectl -n {namespace} create secret generic {} --type kubernetes.io/basic-auth \
             --from-literal={}=USER --from-literal={}=PASSWORD --dry-run=client -o yaml | kubectl apply -f -",
            auth.secret_ref.name,
            auth.secret_ref.username_key.as_deref().unwrap_or(LoginReference::USERNAME_KEY),
            auth.secret_ref.password_key.as_deref().unwrap_or(LoginReference::PASSWORD_KEY),
        ));
    }
    if let Some(smtp) = object.spec.smtp.as_ref().filter(|_| reason == EvidenceClass::CertificateInvalid.as_str()) {
        let starttls = if smtp.port == 465 { "" } else { " -starttls smtp" };
        commands.push(format!(
            "see the certificate: openssl s_client{starttls} -connect {}:{} -showcerts",
            smtp.host, smtp.port
        ));
    }
    for route in users {
        let carries = route.status.iter().flat_map(|status| &status.active).any(|active| active.backend == **name);
        let backends = route.status.iter().flat_map(|status| &status.backends);
        let standby = backends.filter(|one| one.name != **name).find(|one| one.health == Health::Healthy);
        let route = key.sibling(route.metadata.name.as_deref().unwrap_or_default());
        if let (true, Some(standby)) = (carries, standby) {
            let switch = Remedy::Switch { to: &standby.name, is_forced: false };
            commands.push(format!("move route {} away now: {}", route.name, switch.command(&route)));
        }
        let is_accused =
            status.probes.iter().any(|probe| probe.name == DELIVERIES && probe.health == Health::Unhealthy);
        if is_accused && !carries {
            let command = Remedy::Failback.command(&route);
            commands.push(format!("trust it again although real mail has failed there: {command}"));
        }
    }
    let (what, suspended) = if object.spec.suspended.unwrap_or(false) {
        ("take it back into service", false)
    } else {
        ("take it out of service, without an alarm", true)
    };
    commands.push(format!(
        "{what}: kubectl -n {namespace} patch sendingbackend {name} --type merge -p '{{\"spec\":{{\"suspended\":{suspended}}}}}'"
    ));
    commands
}
