//! Rules about references: names that lead nowhere, and objects that nothing names.

use crate::lint::finding::ManifestFindings;
use crate::lint::set::ObjectSet;
use crate::manifests::Manifest;
use mail_failover_resolve::request::REQUEST_ANNOTATION;
use mail_failover_resolve::{TEST_ANNOTATION, ca_key};
use mail_failover_runtime::findings::{Rule, Severity};

pub(super) const MISSING_POLICY: Rule = Rule {
    code: "MissingPolicy",
    severity: Severity::Warning,
    broken_when: "a route names a FailoverPolicy that the files do not hold",
};
pub(super) const MISSING_BACKEND: Rule = Rule {
    code: "MissingBackend",
    severity: Severity::Warning,
    broken_when: "a route names a SendingBackend that the files do not hold",
};
pub(super) const MISSING_SERVICE: Rule = Rule {
    code: "MissingService",
    severity: Severity::Hint,
    broken_when: "a backend names a Service that the files do not hold",
};
pub(super) const MISSING_CA: Rule = Rule {
    code: "MissingCA",
    severity: Severity::Hint,
    broken_when: "a backend names a ConfigMap or Secret for its CA that the files do not hold",
};
pub(super) const UNUSED_BACKEND: Rule =
    Rule { code: "UnusedBackend", severity: Severity::Hint, broken_when: "no route of the files uses a backend" };
pub(super) const UNUSED_POLICY: Rule =
    Rule { code: "UnusedPolicy", severity: Severity::Hint, broken_when: "no route of the files uses a policy" };
pub(super) const UNKNOWN_REGION: Rule = Rule {
    code: "UnknownRegion",
    severity: Severity::Warning,
    broken_when: "preferredRegions names a region in which no backend of the route is",
};
pub(super) const REQUEST_IN_MANIFEST: Rule = Rule {
    code: "RequestInManifest",
    severity: Severity::Warning,
    broken_when: "a route carries a request in its annotation: whoever applies the file again undoes a later one",
};

pub(super) const UNKNOWN_ANNOTATION: Rule = Rule {
    code: "UnknownAnnotation",
    severity: Severity::Warning,
    broken_when: "an object has an annotation that looks like one of the operator's, and is none for this kind: nobody reads it",
};

/// Annotations that people write, and the kind that each belongs to.
const ANNOTATIONS: [(&str, &str); 2] = [("MailRoute", REQUEST_ANNOTATION), ("FailoverPolicy", TEST_ANNOTATION)];

const ELSEWHERE: &str = "add it, correct the name, or name the file that holds it, too";

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    missing_from_routes(set, findings);
    missing_from_backends(set, findings);
    unused(set, findings);
    unknown_regions(set, findings);
    requests(set, findings);
    let backends = set.backends.values().map(|entry| entry.manifest);
    let policies = set.policies.values().map(|entry| entry.manifest);
    let routes = set.routes.values().map(|entry| entry.manifest);
    for manifest in backends.chain(policies).chain(routes) {
        annotations(manifest, findings);
    }
}

fn annotations(manifest: &Manifest, findings: &mut ManifestFindings) {
    let annotations = manifest.value().pointer("/metadata/annotations").and_then(serde_json::Value::as_object);
    for name in annotations.into_iter().flat_map(|annotations| annotations.keys()) {
        let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let is_known = ANNOTATIONS.iter().any(|(kind, known)| *kind == manifest.kind() && known == name);
        if is_known || !letters.starts_with("mailfailover") {
            continue;
        }
        let own = ANNOTATIONS.iter().find(|(kind, _)| *kind == manifest.kind());
        let remedy = match own {
            Some((_, known)) => format!("write {known}, or take it out"),
            None => format!("take it out; {REQUEST_ANNOTATION} belongs to a MailRoute"),
        };
        let message = format!("a {} has no annotation of this name", manifest.kind());
        findings.add(&UNKNOWN_ANNOTATION, manifest, &format!("metadata.annotations.{name}"), message, remedy);
    }
}

fn missing_from_routes(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, route) in &set.routes {
        if let Some(reference) = &route.spec.policy_ref
            && !set.names("FailoverPolicy", &key.sibling(reference.name.as_str()))
        {
            let message =
                format!("FailoverPolicy {} of namespace {} is not in these files", reference.name, key.namespace);
            findings.add(&MISSING_POLICY, route.manifest, "spec.policyRef.name", message, ELSEWHERE);
        }
        for (index, reference) in route.spec.backends.iter().enumerate() {
            if !set.names("SendingBackend", &key.sibling(reference.name.as_str())) {
                let message =
                    format!("SendingBackend {} of namespace {} is not in these files", reference.name, key.namespace);
                let field = format!("spec.backends[{index}].name");
                findings.add(&MISSING_BACKEND, route.manifest, &field, message, ELSEWHERE);
            }
        }
    }
}

fn missing_from_backends(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for (key, backend) in &set.backends {
        if let Some(service) = &backend.spec.service
            && set.core("Service", &key.sibling(service.name.as_str())).is_none()
        {
            let message = format!("Service {} of namespace {} is not in these files", service.name, key.namespace);
            findings.add(&MISSING_SERVICE, backend.manifest, "spec.service.name", message, ELSEWHERE);
        }
        if let Some(ca) = ca_key(key, &backend.spec)
            && set.core(ca.kind.as_str(), &ca.object).is_none()
        {
            let place = if backend.spec.smtp.is_some() { "spec.smtp" } else { "spec.service" };
            let message =
                format!("{} {} of namespace {} is not in these files", ca.kind.as_str(), ca.object.name, key.namespace);
            findings.add(&MISSING_CA, backend.manifest, &format!("{place}.tls.caRef"), message, ELSEWHERE);
        }
    }
}

/// Checks for unused backends and policies. Files without a route say nothing about use.
fn unused(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    if set.routes.is_empty() {
        return;
    }
    for (key, backend) in &set.backends {
        if set.routes.iter().all(|(route, entry)| {
            route.namespace != key.namespace || entry.spec.backends.iter().all(|one| *one.name != *key.name)
        }) {
            let message = "no route of these files sends mail here; it is probed all the same";
            findings.add(
                &UNUSED_BACKEND,
                backend.manifest,
                "",
                message,
                "add it to a route's spec.backends, or remove it",
            );
        }
    }
    // One with receivers may be the one that the installation names for all routes.
    for (key, policy) in set.policies.iter().filter(|(_, policy)| policy.spec.notifications.is_none()) {
        if set.routes.iter().all(|(route, entry)| {
            let name = entry.spec.policy_ref.as_ref().map(|reference| reference.name.as_str());
            route.namespace != key.namespace || name != Some(&*key.name)
        }) {
            let message = "no route of these files uses it";
            findings.add(
                &UNUSED_POLICY,
                policy.manifest,
                "",
                message,
                "name it in a route's spec.policyRef, or remove it",
            );
        }
    }
}

fn unknown_regions(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for view in set.views().filter(|view| view.is_complete) {
        for (index, region) in view.route.preferred_regions.iter().enumerate() {
            if !view.backends.iter().any(|placed| placed.backend.location.region.as_ref() == Some(region)) {
                let message = format!("none of the route's {} backends is in region {region}", view.backends.len());
                let remedy = "correct it, or set location.region of a backend";
                findings.add(
                    &UNKNOWN_REGION,
                    view.manifest,
                    &format!("spec.preferredRegions[{index}]"),
                    message,
                    remedy,
                );
            }
        }
    }
}

fn requests(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for route in set.routes.values() {
        let annotations = route.manifest.value().pointer("/metadata/annotations");
        // A dump of a cluster holds what people have asked for, and a status.
        if annotations.is_some_and(|annotations| annotations.get(REQUEST_ANNOTATION).is_some())
            && route.manifest.value().get("status").is_none()
        {
            let message = "a request is for a running system: applying this file again would take back a later one";
            let remedy = "take it out, and use kubectl annotate when the time comes";
            let field = format!("metadata.annotations.{REQUEST_ANNOTATION}");
            findings.add(&REQUEST_IN_MANIFEST, route.manifest, &field, message, remedy);
        }
    }
}
