//! What is known of a route, and what the engine makes of it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::ExplainError;
use mail_failover_api::{
    FailoverPolicy, MailRoute, MailRouteStatus, RouteBackendStatus, SendingBackend, SendingBackendStatus,
};
use mail_failover_core::engine::{
    Agreement, Candidate, Decision, Health, HoldReason, NextChange, Reason, Situation, Verdict, decide,
};
use mail_failover_core::model::{Backend, EvidenceClass, Member, ObjectKey, Policy, Route, Timestamp};
use mail_failover_resolve::persisted_verdict;
use mail_failover_resolve::route_memory::memory;
use mail_failover_resolve::{self as resolve, Presumed, Rejection, Unresolved};
use mail_failover_resolve::{request, time};

/// What was read.
#[derive(Clone, Debug)]
pub struct Given {
    /// Namespace and name of the route.
    pub key: ObjectKey,
    /// The route.
    pub route: MailRoute,
    /// The policy that it names, if there is one.
    pub policy: Option<FailoverPolicy>,
    /// Backends of its namespace by name, those that there are.
    pub backends: BTreeMap<String, SendingBackend>,
}

/// Why mail of a route goes where it goes.
#[derive(Clone, Debug)]
pub struct Account {
    /// Namespace and name of the route.
    pub key: ObjectKey,
    /// As of when.
    pub at: Timestamp,
    /// What the operator has written down; empty before its first look.
    pub status: MailRouteStatus,
    /// What the engine makes of it now.
    pub decision: Decision,
    /// What is known of each backend beyond the verdict, most preferred first.
    pub evidence: Vec<Evidence>,
    /// What should be borne in mind with all this.
    pub notes: Vec<String>,
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Name of the backend.
    pub backend: String,
    /// The verdict.
    pub health: Health,
    /// Why, as the route's status has it.
    pub reason: String,
    /// What was seen.
    pub message: Option<String>,
    /// When the certificate that it serves expires.
    pub certificate_not_after: Option<Timestamp>,
}

impl Account {
    /// What follows from what was read, at a time.
    ///
    /// # Errors
    /// [`ExplainError::Route`] for a route that cannot be used as it is written.
    pub fn of(given: &Given, at: Timestamp) -> Result<Self, ExplainError> {
        let route = resolve::route(&given.route.spec)
            .map_err(|rejection| ExplainError::Route(given.key.to_string(), rejection.message))?;
        let status = given.route.status.clone().unwrap_or_default();
        let mut notes = staleness(given, &status);
        let policy = match policy(given) {
            Ok(policy) => Some(policy),
            Err(problem) => {
                notes.push(format!("{problem}; the operator goes on with the last good version, if it has seen one"));
                None
            }
        };
        let missing = route.backends.iter().filter(|member| !given.backends.contains_key(&*member.name));
        notes.extend(missing.map(|member| {
            format!("SendingBackend {} was not found in namespace {}", member.name, given.key.namespace)
        }));
        let hold = status.waiting_for.as_ref().and_then(|hold| HoldReason::from_name(&hold.reason));
        let candidates: Vec<_> =
            route.backends.iter().map(|member| candidate(given, &route, &status, member, hold, at)).collect();
        let decision = decide(
            &Situation {
                now: at,
                policy: policy.as_ref(),
                strategy: route.strategy,
                preferred_regions: &route.preferred_regions,
                candidates: &candidates,
                // What the whole fleet does stands in no status but this one.
                is_storm: hold == Some(HoldReason::StormBrake),
                request: request::of(&given.route).as_ref(),
            },
            &memory(&status),
        );
        if let Some(transition) = &decision.transition
            && is_observed(&status)
        {
            notes.push(format!(
                "mail is about to move from {} to {} ({}): that is what follows from this status now, and the operator has not \
                 written it down yet",
                transition.from,
                transition.to,
                transition.reason.as_str()
            ));
        }
        notes.extend(status.conditions.iter().filter_map(complaint));
        let evidence = candidates.iter().map(|candidate| evidence(given, &status, candidate)).collect();
        Ok(Self { key: given.key.clone(), at, status, decision, evidence, notes })
    }

    /// Whether the operator has looked at the route at all.
    pub fn is_observed(&self) -> bool {
        is_observed(&self.status)
    }

    /// As JSON; times are RFC 3339.
    pub fn json(&self) -> Value {
        let status = &self.status;
        let decision = &self.decision;
        json!({
            "route": { "namespace": &*self.key.namespace, "name": &*self.key.name },
            "at": self.at.to_string(),
            "isObserved": self.is_observed(),
            "state": status.state,
            "since": status.since,
            "active": status.active,
            "unplacedPercent": decision.unplaced,
            "hold": decision.hold.map(|hold| json!({
                "reason": hold.reason.as_str(),
                "until": hold.until.map(|until| until.to_string()),
                "meaning": hold.reason.meaning(),
            })),
            "backends": self.evidence.iter().map(|evidence| json!({
                "name": evidence.backend,
                "health": evidence.health.as_str(),
                "reason": evidence.reason,
                "message": evidence.message,
                "certificateNotAfter": evidence.certificate_not_after.map(|at| at.to_string()),
            })).collect::<Vec<_>>(),
            "reasons": self.reasons(),
            "prospects": self.prospects(),
            "history": status.history,
            "request": status.request,
            "notes": self.notes,
        })
    }

    /// The chain of reasons in words, each verdict with what was seen.
    pub fn reasons(&self) -> Vec<String> {
        let told = |reason: &Reason| {
            let seen = match reason {
                Reason::Known { backend, .. } => self.evidence.iter().find(|evidence| *evidence.backend == **backend),
                Reason::Requested(_)
                | Reason::Moves(_)
                | Reason::Moved(_)
                | Reason::Stays { .. }
                | Reason::Held(_)
                | Reason::NoneHealthy
                | Reason::Carries(_)
                | Reason::Unplaced(_) => None,
            };
            match seen.and_then(|evidence| evidence.message.as_ref()) {
                Some(message) => format!("{reason}: {message}"),
                None => reason.to_string(),
            }
        };
        self.decision.explanation.reasons.iter().map(told).collect()
    }

    /// What would have to happen, in words.
    pub fn prospects(&self) -> Vec<String> {
        let told = |prospect: &NextChange| match prospect {
            // How many failures there are so far stands in no status.
            NextChange::Fails { backend, failures, so_far: _, to } => {
                let then = to.as_ref().map_or("mail has nowhere to go".to_owned(), |to| format!("mail goes to {to}"));
                format!("{backend} turns Unhealthy ({failures} failures in a row): {then}")
            }
            NextChange::Recovers { .. }
            | NextChange::Ends(_)
            | NextChange::Asks { .. }
            | NextChange::Changes { .. } => prospect.to_string(),
        };
        let awaited = self.decision.hold.and_then(|hold| match hold.reason {
            HoldReason::AwaitingConfirmation => Some("a standby answers a probe again: mail goes there"),
            HoldReason::StormBrake => Some("a backend of any failure domain answers again: the storm is over"),
            HoldReason::Cooldown
            | HoldReason::MinimumStay
            | HoldReason::SwitchBudget
            | HoldReason::Soak
            | HoldReason::FailbackWindow
            | HoldReason::Ramp
            | HoldReason::ManualFailback
            | HoldReason::Switched
            | HoldReason::Paused
            | HoldReason::NoneHealthy
            | HoldReason::AwaitingEvidence
            | HoldReason::ConfigurationRejected => None,
        });
        let explained = self.decision.explanation.next_changes.iter().map(told);
        awaited.map(str::to_owned).into_iter().chain(explained).collect()
    }
}

fn is_observed(status: &MailRouteStatus) -> bool {
    status.observed_generation.is_some_and(|generation| generation >= 0)
}

fn staleness(given: &Given, status: &MailRouteStatus) -> Vec<String> {
    let generation = given.route.metadata.generation;
    match status.observed_generation {
        Some(observed) if observed >= 0 => match generation.filter(|generation| *generation > observed) {
            Some(generation) => vec![format!(
                "the status is behind: it speaks of generation {observed} of the route, and there is generation {generation}"
            )],
            None => vec![],
        },
        Some(_) | None => vec![
            "the operator has not looked at this route yet; if that lasts, see whether it runs and which namespaces it watches"
                .to_owned(),
        ],
    }
}

fn policy(given: &Given) -> Result<Policy, String> {
    let name = given.route.spec.policy_ref.as_ref().map(|reference| &reference.name);
    match (name, &given.policy) {
        (None, _) => Ok(Policy::default()),
        (Some(name), None) => Err(format!("FailoverPolicy {name} does not exist in namespace {}", given.key.namespace)),
        (Some(name), Some(policy)) => resolve::policy(&policy.spec)
            .map_err(|Rejection { message, .. }| format!("FailoverPolicy {name} cannot be used: {message}")),
    }
}

/// A backend as the operator has judged it.
fn candidate(
    given: &Given,
    route: &Route,
    status: &MailRouteStatus,
    member: &Member,
    hold: Option<HoldReason>,
    at: Timestamp,
) -> Candidate {
    let written = status.backends.iter().find(|one| *one.name == *member.name);
    let object = given.backends.get(&*member.name);
    let verdict = written.and_then(|written| verdict(written, object.and_then(|one| one.status.as_ref()), hold));
    let backend = object.filter(|_| !written.is_some_and(is_unusable)).and_then(|object| usable(given, member, object));
    Candidate::new(member, backend.as_ref(), verdict.as_ref(), route, None, at)
}

/// Whether the operator says that it cannot use the object: the reason then is neither evidence nor a person's will.
fn is_unusable(written: &RouteBackendStatus) -> bool {
    let is_known = ["Suspended", "Residency", "SenderDomain"].contains(&written.reason.as_str());
    !is_known && EvidenceClass::from_name(&written.reason).is_none()
}

fn usable(given: &Given, member: &Member, object: &SendingBackend) -> Option<Backend> {
    // What it refers to is the operator's matter: were it missing, the status would say so.
    let resolved: Result<Backend, Unresolved> =
        resolve::backend(&given.key.sibling(member.name.clone()), &object.spec, &Presumed);
    resolved.ok()
}

fn verdict(
    written: &RouteBackendStatus,
    backend: Option<&SendingBackendStatus>,
    hold: Option<HoldReason>,
) -> Option<Verdict> {
    let judgement = persisted_verdict(written, backend)?;
    let is_unhealthy = judgement.health == Health::Unhealthy;
    Some(Verdict {
        health: judgement.health,
        since: judgement.since,
        class: judgement.class,
        message: judgement.message.clone(),
        // Whether a standby has answered since the failure began stands in the status as a hold, or not at all.
        first_failure_at: Some(judgement.since)
            .filter(|_| is_unhealthy && hold == Some(HoldReason::AwaitingConfirmation)),
        confirmed_at: None,
        is_throttled: judgement.class == EvidenceClass::Throttled,
        failures: 0,
        observers: Agreement { voters: 1, unhealthy: u32::from(is_unhealthy) },
    })
}

fn evidence(given: &Given, status: &MailRouteStatus, candidate: &Candidate) -> Evidence {
    let written = status.backends.iter().find(|one| *one.name == *candidate.name);
    let own = given.backends.get(&*candidate.name).and_then(|object| object.status.as_ref());
    let reason = match (written, given.backends.contains_key(&*candidate.name)) {
        (Some(written), _) => written.reason.clone(),
        (None, true) => candidate.class.as_str().to_owned(),
        (None, false) => "BackendNotFound".to_owned(),
    };
    // The message is about the backend's own verdict, which several routes share.
    let is_same = own.and_then(|own| own.reason.as_deref()) == Some(reason.as_str());
    Evidence {
        backend: candidate.name.to_string(),
        health: candidate.health,
        message: own.filter(|_| is_same).and_then(|own| own.message.clone()).filter(|message| !message.is_empty()),
        certificate_not_after: own.and_then(|own| own.certificate_not_after.as_ref()).map(time::timestamp),
        reason,
    }
}

/// A condition that says what is wrong with more than the backends.
fn complaint(condition: &Condition) -> Option<String> {
    let is_wrong = match condition.type_.as_str() {
        "OutputsApplied" | "RecoveryTimeMet" => condition.status == "False",
        "Stalled" => condition.status == "True",
        _ => false,
    };
    is_wrong
        .then(|| format!("{} is {} ({}): {}", condition.type_, condition.status, condition.reason, condition.message))
}
