//! Rules about capacity: the limits of backends against the traffic of routes.

use std::collections::BTreeMap;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::{ObjectSet, UsableBackend, UsableRoute};
use mail_failover_core::model::{Limits, Strategy, Timestamp, Traffic};
use mail_failover_runtime::findings::{Rule, Severity};

use super::listed;

pub(super) const CAPACITY_SHORT: Rule = Rule {
    code: "CapacityShort",
    severity: Severity::Error,
    broken_when: "all backends of a route together cannot carry its traffic",
};
pub(super) const NO_SPARE_CAPACITY: Rule = Rule {
    code: "NoSpareCapacity",
    severity: Severity::Warning,
    broken_when: "without one of its backends a route's traffic exceeds the limits of the others (N-1), warm-up included",
};
pub(super) const WEIGHT_ABOVE_LIMIT: Rule = Rule {
    code: "WeightAboveLimit",
    severity: Severity::Warning,
    broken_when: "a backend's weight gives it more of a route's traffic than its limits allow",
};
pub(super) const WEIGHT_ABOVE_LIMIT_WITHOUT_ONE: Rule = Rule {
    code: "WeightAboveLimitWithoutOne",
    severity: Severity::Hint,
    broken_when: "without one of the others a backend's weight gives it more of a route's traffic than its limits allow",
};
pub(super) const SHARED_LIMITS: Rule = Rule {
    code: "SharedLimits",
    severity: Severity::Warning,
    broken_when: "several routes share a backend whose limits hold for each of them but not for all together",
};
pub(super) const LIMITS_WITHOUT_TRAFFIC: Rule = Rule {
    code: "LimitsWithoutTraffic",
    severity: Severity::Hint,
    broken_when: "a backend has limits, and a route that uses it does not say how much traffic it carries: they have no effect",
};

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for view in set.views() {
        together(set.at, &view, findings);
        weights(set.at, &view, findings);
        without_traffic(&view, findings);
    }
    shared(set, findings);
}

/// Kind of limit, and the traffic that a route wants of it.
struct Measure {
    field: &'static str,
    unit: &'static str,
    wanted: u64,
    of: fn(&Limits, Timestamp) -> Option<u64>,
}

fn measures(traffic: Traffic) -> impl Iterator<Item = Measure> {
    let day = traffic.messages_per_day.map(|wanted| Measure {
        field: "spec.traffic.messagesPerDay",
        unit: "messages a day",
        wanted: wanted.into(),
        of: a_day,
    });
    let second = traffic.peak_per_second.map(|wanted| Measure {
        field: "spec.traffic.peakPerSecond",
        unit: "messages a second",
        wanted: wanted.into(),
        of: |limits, _| limits.messages_per_second.map(u64::from),
    });
    day.into_iter().chain(second)
}

fn a_day(limits: &Limits, at: Timestamp) -> Option<u64> {
    let warming = limits.warm_up.as_ref().and_then(|warm_up| warm_up.at(at)).map(|(allowed, _)| allowed);
    [limits.messages_per_day, warming].into_iter().flatten().min().map(u64::from)
}

/// Returns the sum of the backends' limits; `None` when one of them has no limit.
fn total<'a>(backends: impl Iterator<Item = &'a UsableBackend<'a>>, measure: &Measure, at: Timestamp) -> Option<u64> {
    backends.map(|placed| (measure.of)(&placed.backend.limits, at)).sum()
}

fn together(at: Timestamp, view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    if !view.is_complete || view.in_service().next().is_none() {
        return;
    }
    for measure in measures(view.route.traffic) {
        let Measure { field, unit, wanted, .. } = measure;
        if let Some(all) = total(view.in_service(), &measure, at).filter(|all| *all < wanted) {
            let message = format!("the route carries {wanted} {unit}, and all its backends together take {all}");
            findings.add(
                &CAPACITY_SHORT,
                view.manifest,
                field,
                message,
                "add a backend, or raise limits with the provider",
            );
            continue;
        }
        // Who is alone is another rule's matter.
        let short: Vec<_> = view
            .in_service()
            .filter(|_| view.in_service().count() > 1)
            .filter_map(|gone| {
                let others = view.in_service().filter(|other| other.member.name != gone.member.name);
                let left = total(others, &measure, at).filter(|left| *left < wanted)?;
                Some(format!("{left} without {}", gone.member.name))
            })
            .collect();
        if !short.is_empty() {
            let warming: Vec<_> = view.in_service().filter_map(|placed| warming(placed, at)).collect();
            let warming = if warming.is_empty() { String::new() } else { format!(" ({})", listed(&warming)) };
            let message =
                format!("the route carries {wanted} {unit}, and what is left takes {}{warming}", listed(&short));
            let remedy = "raise limits with the provider, add a backend, or finish the warm-up before relying on it";
            findings.add(&NO_SPARE_CAPACITY, view.manifest, field, message, remedy);
        }
    }
}

fn warming(placed: &UsableBackend<'_>, at: Timestamp) -> Option<String> {
    let (allowed, until) = placed.backend.limits.warm_up.as_ref()?.at(at)?;
    Some(format!("{} warms up: {allowed} a day until {until}", placed.member.name))
}

/// Checks that weights can be kept. The operator moves what exceeds a limit to other backends, so the real shares then
/// differ from the weights.
fn weights(at: Timestamp, view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    if view.route.strategy != Strategy::ActiveActive {
        return;
    }
    let all: Vec<_> = view.in_service().collect();
    let total = all.iter().map(|one| u64::from(one.member.weight)).sum::<u64>().max(1);
    for measure in measures(view.route.traffic) {
        for placed in &all {
            let Some(limit) = (measure.of)(&placed.backend.limits, at) else { continue };
            let wanted = measure.wanted.saturating_mul(placed.member.weight.into());
            let index = view.route.backends.iter().position(|one| one.name == placed.member.name).unwrap_or(0);
            let field = format!("spec.backends[{index}].weight");
            let (name, weight, unit) = (&placed.member.name, placed.member.weight, measure.unit);
            let full = wanted / total;
            if full > limit {
                let message = format!(
                    "weight {weight} of {total} means {full} {unit} for {name}, which takes {limit}: others get the rest",
                );
                findings.add(
                    &WEIGHT_ABOVE_LIMIT,
                    view.manifest,
                    &field,
                    message,
                    "lower the weight, or raise the limit",
                );
                continue;
            }
            let others = all.iter().filter(|other| other.member.name != *name);
            let most = others.map(|gone| (wanted / (total - u64::from(gone.member.weight)), &gone.member.name)).max();
            if let Some((most, gone)) = most.filter(|(most, _)| *most > limit) {
                let message =
                    format!("without {gone} weight {weight} means {most} {unit} for {name}, which takes {limit}");
                let remedy = "even out the weights, or raise the limit";
                findings.add(&WEIGHT_ABOVE_LIMIT_WITHOUT_ONE, view.manifest, &field, message, remedy);
            }
        }
    }
}

fn without_traffic(view: &UsableRoute<'_>, findings: &mut ManifestFindings) {
    if view.route.traffic != Traffic::default() {
        return;
    }
    let limited = view.in_service().filter(|placed| placed.backend.limits.bound_messages());
    let names: Vec<_> = limited.map(|placed| &placed.member.name).collect();
    if !names.is_empty() {
        let message = format!(
            "the limits of {} have no effect here: the route does not say how much mail it has",
            listed(&names)
        );
        let remedy = "set spec.traffic.messagesPerDay or spec.traffic.peakPerSecond";
        findings.add(&LIMITS_WITHOUT_TRAFFIC, view.manifest, "spec", message, remedy);
    }
}

/// Checks backends that several routes share. The operator compares each route with a backend's limits by itself.
fn shared(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    let views: Vec<_> = set.views().collect();
    let mut users: BTreeMap<_, Vec<&UsableRoute<'_>>> = BTreeMap::new();
    for view in &views {
        for placed in view.in_service() {
            users.entry(view.key.sibling(placed.member.name.clone())).or_default().push(view);
        }
    }
    for (key, users) in users.iter().filter(|(_, users)| users.len() > 1) {
        let Some((manifest, backend)) =
            set.backends.get(key).and_then(|entry| Some((entry.manifest, entry.model.as_ref()?)))
        else {
            continue;
        };
        let sums = [
            (
                "spec.limits",
                "messages a day",
                a_day(&backend.limits, set.at),
                users.iter().filter_map(|view| view.route.traffic.messages_per_day).map(u64::from).sum::<u64>(),
            ),
            (
                "spec.limits.messagesPerSecond",
                "messages a second",
                backend.limits.messages_per_second.map(u64::from),
                users.iter().filter_map(|view| view.route.traffic.peak_per_second).map(u64::from).sum::<u64>(),
            ),
        ];
        for (field, unit, limit, wanted) in sums {
            if let Some(limit) = limit.filter(|limit| wanted > *limit) {
                let names: Vec<_> = users.iter().map(|view| &view.key.name).collect();
                let message = format!(
                    "routes {} may bring {wanted} {unit} together, and it takes {limit}: each route is measured by itself",
                    listed(&names)
                );
                let remedy = "give each route a backend of its own, or limits that leave room for the others";
                findings.add(&SHARED_LIMITS, manifest, field, message, remedy);
            }
        }
    }
}
