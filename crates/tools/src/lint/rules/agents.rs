//! Rules about agents beside queueing MTAs.

use crate::lint::finding::ManifestFindings;
use crate::lint::set::{ObjectSet, UsableRoute};
use crate::manifests::Manifest;
use mail_failover_api as api;
use mail_failover_core::model::{Destination, LoginReference, ObjectKey, TlsMode};
use mail_failover_resolve::login_key;
use mail_failover_runtime::findings::{Rule, Severity};

use super::connections::is_public;
use super::listed;

pub(super) const NEXT_HOP_SHARED: Rule = Rule {
    code: "NextHopShared",
    severity: Severity::Warning,
    broken_when: "two backends of a route with an agent output have the same host and port, by which an MTA tells backends apart; a relay does not need that",
};
pub(super) const AUTH_UNUSED: Rule = Rule {
    code: "AuthUnused",
    severity: Severity::Warning,
    broken_when: "a backend has auth, no probe of it logs in, and no route that uses it has an agent output: nobody logs in",
};
pub(super) const SECRET_WITHOUT_LOGIN: Rule = Rule {
    code: "SecretWithoutLogin",
    severity: Severity::Error,
    broken_when: "the Secret that auth names is among the files and lacks the key username or password",
};
pub(super) const BREAKER_UNUSED: Rule = Rule {
    code: "BreakerUnused",
    severity: Severity::Warning,
    broken_when: "a policy has breaker or failure.deliveries, and no route that uses it has an agent output",
};
pub(super) const ALTERNATE_LEFT_OUT: Rule = Rule {
    code: "AlternateLeftOut",
    severity: Severity::Hint,
    broken_when: "a message that one backend does not take cannot go to another one of a route with an agent output within the same attempt: one of the two speaks TLS from the first byte, or the route does not say which domains it sends for",
};
pub(super) const SUBMISSION_WITHOUT_AUTH: Rule = Rule {
    code: "SubmissionWithoutAuth",
    severity: Severity::Hint,
    broken_when: "a route with an agent output reaches a provider outside at port 587 or 465, where servers ask for a login, without auth",
};
pub(super) const PASSWORD_READABLE: Rule = Rule {
    code: "PasswordReadable",
    severity: Severity::Warning,
    broken_when: "auth.allowPlaintext lets a password go to a host outside the cluster and its network without verified TLS",
};

pub(super) const CONNECTION_LIMIT_UNUSED: Rule = Rule {
    code: "ConnectionLimitUnused",
    severity: Severity::Warning,
    broken_when: "a backend limits connections or messagesPerConnection, and no route that uses it has an agent output: no relay keeps them",
};

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for view in set.views().filter(has_agents) {
        next_hops(&view, findings);
        submission(&view, findings);
        alternates(&view, findings);
    }
    auth(set, findings);
    connection_limits(set, findings);
    breaker(set, findings);
}

fn has_agents(view: &UsableRoute<'_>) -> bool {
    !view.route.agents.is_empty()
}

fn next_hops(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    for (index, placed) in view.backends.iter().enumerate() {
        let place = place(&placed.backend.destination);
        let same = view.backends[..index].iter().find(|earlier| self::place(&earlier.backend.destination) == place);
        if let Some(same) = same {
            let (host, port) = place;
            let message = format!(
                "{} and {} of route {} are both {host} at port {port}: its agents are told of one of them alone, and its relays of both",
                same.member.name, placed.member.name, view.key.name
            );
            let remedy =
                "give one of them another host name or take it out of the route, if an agent beside an MTA reads it";
            findings.add(&NEXT_HOP_SHARED, placed.manifest, "spec", message, remedy);
        }
    }
}

fn place(destination: &Destination) -> (String, u16) {
    match destination {
        Destination::Host(host) => (host.host.trim_end_matches('.').to_ascii_lowercase(), host.port),
        Destination::Service(service) => (service.dns_name.to_ascii_lowercase(), service.client_port),
    }
}

fn submission(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    for placed in &view.backends {
        let Destination::Host(host) = &placed.backend.destination else { continue };
        if placed.backend.secret.is_none() && matches!(host.port, 587 | 465) && is_public(&host.host) {
            let message =
                format!("servers ask for a login at port {}, and the agents know none for {}", host.port, host.host);
            let remedy = "name a Secret in smtp.auth.secretRef";
            findings.add(&SUBMISSION_WITHOUT_AUTH, placed.manifest, "spec.smtp", message, remedy);
        }
    }
}

fn alternates(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    if !view.route.alternates || view.in_service().count() < 2 {
        return;
    }
    let (implicit, others): (Vec<_>, Vec<_>) =
        view.in_service().partition(|placed| placed.backend.tls.mode == TlsMode::Implicit);
    for placed in implicit.iter().filter(|_| !others.is_empty()) {
        let (name, other) = (&placed.member.name, &others[0].member.name);
        let message = format!(
            "{name} speaks TLS from the first byte, and {other} does not: Postfix sets that for a whole list of next hops, so a message that one \
             of them does not take waits until the agent or the operator leaves it"
        );
        let remedy = "use tls.mode StartTLS and port 587, which most providers offer as well";
        findings.add(&ALTERNATE_LEFT_OUT, placed.manifest, "spec.smtp.tls.mode", message, remedy);
    }
    for placed in view.in_service().filter(|placed| !placed.backend.sender_domains.is_empty()) {
        if view.route.sender_domains.is_empty() {
            let (name, route) = (&placed.member.name, &view.key.name);
            let message = format!(
                "{name} may send for some domains only, and route {route} does not say for which it sends: an agent that routes by recipient \
                 sends no message there that another backend does not take"
            );
            let remedy =
                "name the domains in spec.senderDomains of the route, or run the agent's Postfix with --by sender";
            findings.add(&ALTERNATE_LEFT_OUT, placed.manifest, "spec.senderDomains", message, remedy);
        }
    }
}

/// Returns the `auth` of a backend and the path of its field.
fn auth_of(spec: &api::SendingBackendSpec) -> Option<(&'static str, &api::AuthSpec)> {
    let smtp = spec.smtp.as_ref().and_then(|smtp| smtp.auth.as_ref()).map(|auth| ("spec.smtp.auth", auth));
    smtp.or_else(|| Some(("spec.service.auth", spec.service.as_ref()?.auth.as_ref()?)))
}

fn connection_limits(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, entry) in &set.backends {
        let Some(limits) = &entry.spec.limits else { continue };
        let field = match (limits.connections, limits.messages_per_connection) {
            (Some(_), _) => "spec.limits.connections",
            (None, Some(_)) => "spec.limits.messagesPerConnection",
            (None, None) => continue,
        };
        let users = users_of(set, key);
        if !users.is_empty() && !users.iter().any(has_agents) {
            let names: Vec<_> = users.iter().map(|view| &view.key.name).collect();
            let message = format!(
                "relays keep it, and none of the routes that use the backend ({}) has an output `agent`, by which relays go",
                listed(&names)
            );
            let remedy = "add an output `agent` for `mail-failover relay`, or take the limit away";
            findings.add(&CONNECTION_LIMIT_UNUSED, entry.manifest, field, message, remedy);
        }
    }
}

/// The routes that use a backend.
fn users_of<'a>(set: &'a ObjectSet<'_>, key: &ObjectKey) -> Vec<UsableRoute<'a>> {
    set.views()
        .filter(|view| view.key.namespace == key.namespace)
        .filter(|view| view.backends.iter().any(|placed| *placed.member.name == *key.name))
        .collect()
}

fn auth(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, entry) in &set.backends {
        let Some((field, auth)) = auth_of(&entry.spec) else { continue };
        let users = users_of(set, key);
        let is_probed = login_key(key, &entry.spec).is_some();
        if !users.is_empty() && !users.iter().any(has_agents) && !is_probed {
            let names: Vec<_> = users.iter().map(|view| &view.key.name).collect();
            let message = format!(
                "agents and probes of depth Auth log in: none of the routes that use it ({}) has an agent, and no probe goes so far",
                listed(&names)
            );
            let remedy = "add a probe with smtp.depth Auth or an output `agent`, or take auth away";
            findings.add(&AUTH_UNUSED, entry.manifest, field, message, remedy);
        }
        if let Some(secret) = set.core("Secret", &key.sibling(auth.secret_ref.name.as_str())) {
            let username = auth.secret_ref.username_key.as_deref().unwrap_or(LoginReference::USERNAME_KEY);
            let password = auth.secret_ref.password_key.as_deref().unwrap_or(LoginReference::PASSWORD_KEY);
            for part in [username, password].into_iter().filter(|part| !has_key(secret, part)) {
                let message = format!("Secret {} has no key {part}", auth.secret_ref.name);
                let remedy = format!(
                    "give it the keys {username} and {password}, or name others by usernameKey and passwordKey"
                );
                findings.add(&SECRET_WITHOUT_LOGIN, entry.manifest, &format!("{field}.secretRef"), message, &remedy);
            }
        }
        let Some(backend) = &entry.model else { continue };
        if let (Destination::Host(host), TlsMode::None | TlsMode::Opportunistic, Some(true)) =
            (&backend.destination, backend.tls.mode, auth.allow_plaintext)
            && is_public(&host.host)
        {
            let message = format!("whoever sits between here and {} can read the password", host.host);
            let remedy = "use tls.mode StartTLS (port 587) or Implicit (port 465)";
            findings.add(&PASSWORD_READABLE, entry.manifest, &format!("{field}.allowPlaintext"), message, remedy);
        }
    }
}

fn has_key(secret: &Manifest, key: &str) -> bool {
    ["data", "stringData"].iter().any(|data| secret.value().pointer(&format!("/{data}/{key}")).is_some())
}

fn breaker(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, entry) in &set.policies {
        let has_deliveries = entry.spec.failure.as_ref().is_some_and(|failure| failure.deliveries.is_some());
        let field = match (&entry.spec.breaker, has_deliveries) {
            (Some(_), _) => "spec.breaker",
            (None, true) => "spec.failure.deliveries",
            (None, false) => continue,
        };
        let users: Vec<_> = set.users(key).collect();
        if !users.is_empty() && !users.iter().any(has_agents) {
            let names: Vec<_> = users.iter().map(|view| &view.key.name).collect();
            let message =
                format!("it is for agents, and none of the routes that use the policy ({}) has any", listed(&names));
            let remedy = "add an output `agent` to a route, or take it away";
            findings.add(&BREAKER_UNUSED, entry.manifest, field, message, remedy);
        }
    }
}
