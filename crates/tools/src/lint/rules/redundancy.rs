//! Rules about redundancy: a standby exists and fails independently.

use std::collections::BTreeSet;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::{ObjectSet, UsableRoute};
use mail_failover_core::engine::{Eligibility, Exclusion};
use mail_failover_core::model::Destination;
use mail_failover_runtime::findings::{Rule, Severity};

use super::listed;

pub(super) const SINGLE_BACKEND: Rule = Rule {
    code: "SingleBackend",
    severity: Severity::Warning,
    broken_when: "a route has one backend: when it fails, mail waits",
};
pub(super) const NO_STANDBY: Rule = Rule {
    code: "NoStandby",
    severity: Severity::Warning,
    broken_when: "of a route's backends only one may be used: residency, senderDomains or suspension leave no standby",
};
pub(super) const NOBODY_IN_SERVICE: Rule = Rule {
    code: "NobodyInService",
    severity: Severity::Error,
    broken_when: "residency, senderDomains and suspension leave a route no backend at all",
};
pub(super) const SENDER_DOMAIN_NOT_COVERED: Rule = Rule {
    code: "SenderDomainNotCovered",
    severity: Severity::Warning,
    broken_when: "a backend may not send for all senderDomains of its route, so that no mail of the route ever goes there",
};
pub(super) const ONE_FAILURE_DOMAIN: Rule = Rule {
    code: "OneFailureDomain",
    severity: Severity::Warning,
    broken_when: "all backends of a route are in one failure domain: the standby fails together with the active one",
};
pub(super) const SAME_DESTINATION: Rule = Rule {
    code: "SameDestination",
    severity: Severity::Warning,
    broken_when: "two backends of a route are the same host",
};

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for view in set.views() {
        single_backend(&view, findings);
        standby(&view, findings);
        sender_domains(&view, findings);
        failure_domains(&view, findings);
        destinations(&view, findings);
    }
}

fn single_backend(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    if let [only] = &view.route.backends[..] {
        let message = format!("{} is the only backend: when it fails, mail has nowhere to go", only.name);
        findings.add(
            &SINGLE_BACKEND,
            view.manifest,
            "spec.backends",
            message,
            "add a second one, run by somebody else",
        );
    }
}

fn standby(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    if view.route.backends.len() < 2 || !view.is_complete {
        return;
    }
    let out = [
        ("outside spec.residency", view.names(Eligibility::Excluded(Exclusion::Residency))),
        (
            "not allowed to send for all of spec.senderDomains",
            view.names(Eligibility::Excluded(Exclusion::SenderDomain)),
        ),
        ("suspended", view.names(Eligibility::Suspended)),
    ];
    let why = out.iter().filter(|(_, names)| !names.is_empty());
    let why: Vec<_> = why.map(|(why, names)| format!("{} {why}", listed(names))).collect();
    let left = view.names(Eligibility::InService);
    let remedy = "add a backend that may carry this mail, or resume one";
    let field = match (&out[0].1[..], &out[1].1[..]) {
        ([], []) => "spec.backends",
        ([], _) => "spec.senderDomains",
        (_, _) => "spec.residency",
    };
    match left[..] {
        [] => {
            let message = format!("no mail can leave: {}", why.join("; "));
            findings.add(&NOBODY_IN_SERVICE, view.manifest, field, message, remedy);
        }
        [one] => {
            let message = format!("nobody can stand in for {one}: {}", why.join("; "));
            findings.add(&NO_STANDBY, view.manifest, field, message, remedy);
        }
        _ => {}
    }
}

fn sender_domains(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    for placed in &view.backends {
        let allowed = &placed.backend.sender_domains;
        let missing: Vec<_> = view.route.sender_domains.iter().filter(|domain| !allowed.contains(domain)).collect();
        if !allowed.is_empty() && !missing.is_empty() {
            let message = format!(
                "{} of route {} may not be sent from here: the route never uses this backend",
                listed(&missing),
                view.key.name
            );
            let remedy = "register the domain with the provider and list it here, or take the backend out of the route";
            findings.add(&SENDER_DOMAIN_NOT_COVERED, placed.manifest, "spec.senderDomains", message, remedy);
        }
    }
}

fn failure_domains(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    let domains: Option<BTreeSet<_>> =
        view.in_service().map(|placed| placed.backend.location.failure_domain.as_ref()).collect();
    let (Some(domains), true) = (domains, view.is_complete && view.in_service().count() > 1) else { return };
    if let (Some(only), 1) = (domains.first(), domains.len()) {
        let message = format!("all {} backends are in failure domain {only}", view.in_service().count());
        let remedy = "add a backend of another provider, or correct location.failureDomain";
        findings.add(&ONE_FAILURE_DOMAIN, view.manifest, "spec.backends", message, remedy);
    }
}

fn destinations(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    for (index, placed) in view.backends.iter().enumerate() {
        let same = view.backends[..index]
            .iter()
            .find(|earlier| place(&earlier.backend.destination) == place(&placed.backend.destination));
        if let Some(same) = same {
            let (message, remedy) = (
                format!(
                    "{} and {} of route {} lead to the same server, {}",
                    same.member.name,
                    placed.member.name,
                    view.key.name,
                    place(&placed.backend.destination)
                ),
                "a backend cannot stand in for itself: use another server, or take one of them out of the route",
            );
            findings.add(&SAME_DESTINATION, placed.manifest, "spec", message, remedy);
        }
    }
}

/// Returns the host of a destination without its port, because ports 25 and 587 of a host fail together.
fn place(destination: &Destination) -> String {
    match destination {
        Destination::Host(host) => host.host.trim_end_matches('.').to_ascii_lowercase(),
        Destination::Service(service) => service.dns_name.to_ascii_lowercase(),
    }
}
