//! Rules about outputs: conflicts over Services, `ConfigMaps` and ports.

use std::collections::{BTreeMap, BTreeSet};

use super::listed;
use crate::lint::finding::ManifestFindings;
use crate::lint::set::{ObjectSet, UsableBackend, UsableRoute};
use mail_failover_core::model::{ObjectKey, TlsMode};
use mail_failover_runtime::findings::{Rule, Severity};

pub(super) const OUTPUT_CLAIMED_TWICE: Rule = Rule {
    code: "OutputClaimedTwice",
    severity: Severity::Error,
    broken_when: "two routes of a namespace claim the same Service or ConfigMap",
};
pub(super) const OUTPUT_EXISTS: Rule = Rule {
    code: "OutputExists",
    severity: Severity::Error,
    broken_when: "a route's output is an object of the files: the operator never takes over what it did not make",
};
pub(super) const MAIL_LOOP: Rule = Rule {
    code: "MailLoop",
    severity: Severity::Error,
    broken_when: "a backend is the Service that a route leads to it: mail would go round",
};

pub(super) const SERVICE_MIXES_IDENTITIES: Rule = Rule {
    code: "ServiceMixesIdentities",
    severity: Severity::Warning,
    broken_when: "a route leads a Service to backends with different logins or names in their certificates: clients know one login and one name",
};

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    let mut claimed: BTreeMap<(&str, ObjectKey), ObjectKey> = BTreeMap::new();
    for view in set.views() {
        for (kind, field, key) in claims(&view) {
            if let Some(first) = claimed.get(&(kind, key.clone())) {
                let message = format!("{kind} {} is claimed by route {}, too", key.name, first.name);
                findings.add(&OUTPUT_CLAIMED_TWICE, view.manifest, &field, message, "choose another name");
            } else {
                claimed.insert((kind, key.clone()), view.key.clone());
            }
            if let Some(existing) = set.core(kind, &key).filter(|existing| !is_of(existing.value(), &view)) {
                let place = format!("{}:{}", existing.file(), existing.line("metadata.name"));
                let message = format!("{kind} {} of namespace {} is in {place}", key.name, key.namespace);
                let remedy = "choose another name, or remove that object";
                findings.add(&OUTPUT_EXISTS, view.manifest, &field, message, remedy);
            }
        }
    }
    loops(set, &claimed, findings);
    for view in set.views() {
        identities(&view, findings);
    }
}

fn identities(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    let Some(index) = view.spec.outputs.iter().position(|output| output.service.is_some()) else { return };
    let field = format!("spec.outputs[{index}].service");
    let remedy = "use the output `agent`, with the agent beside Postfix or with `mail-failover relay`: both know each backend's login and name";
    let logins: BTreeSet<_> = view.in_service().map(|placed| placed.backend.secret.as_ref()).collect();
    if logins.len() > 1 {
        let logins: Vec<_> =
            logins.iter().map(|login| login.map_or("none".to_owned(), |name| format!("Secret {name}"))).collect();
        let message =
            format!("its backends want different logins ({}), and a client behind a Service has one", listed(&logins));
        findings.add(&SERVICE_MIXES_IDENTITIES, view.manifest, &field, message, remedy);
    }
    let is_checked =
        |placed: &&UsableBackend<'_>| matches!(placed.backend.tls.mode, TlsMode::StartTls | TlsMode::Implicit);
    let names: BTreeSet<_> =
        view.in_service().filter(is_checked).map(|placed| &*placed.backend.tls.server_name).collect();
    if names.len() > 1 {
        let names: Vec<_> = names.into_iter().collect();
        let message = format!(
            "the certificates of its backends are for different names ({}), and a client behind a Service checks one",
            listed(&names)
        );
        findings.add(&SERVICE_MIXES_IDENTITIES, view.manifest, &field, message, remedy);
    }
}

/// Returns every object that a route wants to own, with the field that says so.
fn claims(view: &UsableRoute<'_>) -> Vec<(&'static str, String, ObjectKey)> {
    let outputs = view.spec.outputs.iter().enumerate();
    let claims = outputs.flat_map(|(index, output)| {
        let service = output.service.as_ref().map(|one| ("Service", "service.name", &one.name));
        let config_map = output.config_map.as_ref().map(|one| ("ConfigMap", "configMap.name", &one.name));
        let agent = output.agent.as_ref().map(|one| ("ConfigMap", "agent.configMap", &one.config_map));
        service.into_iter().chain(config_map).chain(agent).map(move |(kind, field, name)| {
            (kind, format!("spec.outputs[{index}].{field}"), view.key.sibling(name.as_str()))
        })
    });
    claims.collect()
}

/// Returns true if an existing object is an output of this route.
// A dump of a cluster holds the outputs themselves.
fn is_of(existing: &serde_json::Value, view: &UsableRoute<'_>) -> bool {
    let owners = existing.pointer("/metadata/ownerReferences").and_then(serde_json::Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner.get("kind").is_some_and(|kind| kind == "MailRoute")
            && owner.get("name").is_some_and(|name| name == &*view.key.name)
    })
}

fn loops(set: &ObjectSet<'_>, claimed: &BTreeMap<(&str, ObjectKey), ObjectKey>, findings: &mut ManifestFindings) {
    for view in set.views() {
        for placed in &view.backends {
            let service = placed.spec.service.as_ref().map(|service| view.key.sibling(service.name.as_str()));
            let Some(service) = service else { continue };
            if claimed.get(&("Service", service.clone())) == Some(view.key) {
                let message = format!(
                    "route {} leads its Service {} here, and here is that Service",
                    view.key.name, service.name
                );
                let remedy = "name the Service of the MTA itself";
                findings.add(&MAIL_LOOP, placed.manifest, "spec.service.name", message, remedy);
            }
        }
    }
}
