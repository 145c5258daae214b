//! Explanation of a route: its objects, and the engine's decision about them. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::{ExplainError, messages};
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{
    FailoverPolicy, MailRoute, MailRouteStatus, RouteBackendStatus, SendingBackend, SendingBackendStatus,
};
use mail_failover_core::engine::{
    Agreement, Candidate, Decision, Eligibility, Health, HoldReason, NextChange, Reason, Situation, Verdict, decide,
};
use mail_failover_core::model::{Backend, ClockDrift, EvidenceClass, Member, ObjectKey, Policy, Route, Timestamp};
use mail_failover_resolve::request::Remedy;
use mail_failover_resolve::route_memory::memory;
use mail_failover_resolve::{self as resolve, Presumed, Rejection, Unresolved};
use mail_failover_resolve::{persisted_unseen_failure, persisted_verdict};
use mail_failover_resolve::{request, time};

/// Objects of a route as they were read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Namespace and name of the route.
    pub key: ObjectKey,
    /// Route that is explained.
    pub route: MailRoute,
    /// Policy that the route names, if it was found.
    pub policy: Option<FailoverPolicy>,
    /// Backends of the route's namespace by name, as far as they were found.
    pub backends: BTreeMap<String, SendingBackend>,
}

/// Explanation of where the mail of a route goes.
#[derive(Clone, Debug)]
pub struct RouteExplanation {
    /// Namespace and name of the route.
    pub key: ObjectKey,
    /// Time for which the explanation is made.
    pub at: Timestamp,
    /// Status as the operator has written it; empty before the operator has seen the route.
    pub status: MailRouteStatus,
    /// Decision that follows from this status now.
    pub decision: Decision,
    /// Evidence about each backend, most preferred first.
    pub evidence: Vec<BackendEvidence>,
    /// Ways of messages that their backend does not take.
    pub messages: Vec<String>,
    /// Notes that limit what the explanation is worth, such as a stale status.
    pub notes: Vec<String>,
    /// Shell command that lifts the hold, if there is a hold that a person may lift.
    pub remedy: Option<String>,
}

/// Evidence behind a verdict about one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendEvidence {
    /// Name of the backend.
    pub backend: String,
    /// Health of the backend in the decision.
    pub health: Health,
    /// Reason of the verdict, as the route's status has it.
    pub reason: String,
    /// Message of the latest observation, if the status of the backend has one for this reason.
    pub message: Option<String>,
    /// Expiry of the certificate that the backend serves.
    pub certificate_not_after: Option<Timestamp>,
    /// Name of the certificate that expires then, if it is an issuer's.
    pub certificate_issuer: Option<String>,
}

impl RouteExplanation {
    /// Explains the objects as of a time.
    ///
    /// # Errors
    /// [`ExplainError::Route`] for a route that cannot be used as it is written.
    pub fn of(snapshot: &Snapshot, at: Timestamp) -> Result<Self, ExplainError> {
        let route = resolve::route(&snapshot.route.spec)
            .map_err(|rejection| ExplainError::Route(snapshot.key.to_string(), rejection.message))?;
        let status = snapshot.route.status.clone().unwrap_or_default();
        let mut notes = staleness(snapshot, &status);
        let policy = match policy(snapshot) {
            Ok(policy) => policy,
            Err(error) => {
                notes.push(format!(
                    "{error}; the operator goes on with the last good version, or with the defaults if it has seen none"
                ));
                Policy::default()
            }
        };
        let missing = route.backends.iter().filter(|member| !snapshot.backends.contains_key(&*member.name));
        notes.extend(missing.map(|member| {
            format!("SendingBackend {} was not found in namespace {}", member.name, snapshot.key.namespace)
        }));
        let hold = status.waiting_for.as_ref().and_then(|hold| HoldReason::from_name(&hold.reason));
        let candidates: Vec<_> =
            route.backends.iter().map(|member| candidate(snapshot, &route, &status, member, hold, at)).collect();
        let decision = decide(
            &Situation {
                now: at,
                drift: ClockDrift::default(),
                policy: &policy,
                strategy: route.strategy,
                preferred_regions: &route.preferred_regions,
                candidates: &candidates,
                // What the whole fleet does stands in no status but this one.
                is_storm: hold == Some(HoldReason::StormBrake),
                request: request::of(&snapshot.route).as_ref(),
                // What outputs and agents have done since stands in no status.
                drill: None,
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
        notes.extend(untold(snapshot));
        let evidence = candidates.iter().map(|candidate| evidence(snapshot, &status, candidate)).collect();
        let mut backends = BTreeMap::new();
        for member in &route.backends {
            let usable = snapshot.backends.get(&*member.name).and_then(|object| usable(snapshot, member, object));
            backends.extend(usable.map(|backend| (member.name.clone(), backend)));
        }
        let messages = messages::ways(&route, &decision, &candidates, &backends, &status.diverted);
        let remedy = remedy(&decision, &candidates).map(|remedy| remedy.command(&snapshot.key));
        Ok(Self { key: snapshot.key.clone(), at, status, decision, evidence, messages, notes, remedy })
    }

    /// Returns true if the operator has seen the route at least once.
    pub fn is_observed(&self) -> bool {
        is_observed(&self.status)
    }

    /// Returns the explanation as JSON; times are RFC 3339.
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
            "diverted": status.diverted,
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
                "certificateIssuer": evidence.certificate_issuer,
            })).collect::<Vec<_>>(),
            "reasons": self.reasons(),
            "prospects": self.prospects(),
            "remedy": self.remedy,
            "messages": self.messages,
            "history": status.history,
            "objectives": status.objectives,
            "drills": status.drills,
            "request": status.request,
            "notes": self.notes,
        })
    }

    /// Returns the chain of reasons in words, each verdict with the message of its observation.
    pub fn reasons(&self) -> Vec<String> {
        self.decision.explanation.reasons.iter().map(|reason| self.reason(reason)).collect()
    }

    fn reason(&self, reason: &Reason) -> String {
        let evidence = match reason {
            Reason::Known { backend, .. } => self.evidence.iter().find(|evidence| *evidence.backend == **backend),
            Reason::Requested(_)
            | Reason::Moves(_)
            | Reason::Moved(_)
            | Reason::Stays { .. }
            | Reason::Held(_)
            | Reason::NoneHealthy
            | Reason::Carries(_)
            | Reason::Unplaced(_)
            | Reason::Drilled { .. } => None,
        };
        match evidence.and_then(|evidence| evidence.message.as_ref()) {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_string(),
        }
    }

    /// Returns in words the events that would change the decision.
    pub fn prospects(&self) -> Vec<String> {
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
            | HoldReason::ConfigurationRejected
            | HoldReason::Withdrawn => None,
        });
        let explained = self.decision.explanation.next_changes.iter().map(prospect);
        awaited.map(str::to_owned).into_iter().chain(explained).collect()
    }
}

/// Returns the request that lifts the hold of a decision, if one can.
fn remedy<'a>(decision: &Decision, candidates: &'a [Candidate]) -> Option<Remedy<'a>> {
    let hold = decision.hold?;
    let lead = decision.memory.shares.first().map(|share| &share.backend);
    let mut others = candidates.iter().filter(|candidate| Some(&candidate.name) != lead);
    let is_lead_sound = candidates.iter().any(|one| Some(&one.name) == lead && one.health == Health::Healthy);
    let standby = others.clone().find(|other| other.is_eligible());
    let to = standby.or_else(|| others.find(|other| other.eligibility == Eligibility::InService));
    let switch = to.map(|to| Remedy::Switch { to: &to.name, is_forced: standby.is_none() });
    match hold.reason {
        HoldReason::Paused => Some(Remedy::Resume),
        HoldReason::Switched | HoldReason::Soak | HoldReason::FailbackWindow | HoldReason::Ramp => {
            Some(Remedy::Failback)
        }
        HoldReason::ManualFailback => Some(Remedy::ApproveFailback),
        HoldReason::Cooldown | HoldReason::MinimumStay | HoldReason::SwitchBudget if is_lead_sound => {
            Some(Remedy::Failback)
        }
        HoldReason::Cooldown
        | HoldReason::MinimumStay
        | HoldReason::SwitchBudget
        | HoldReason::StormBrake
        | HoldReason::AwaitingConfirmation
        | HoldReason::ConfigurationRejected => switch,
        HoldReason::AwaitingEvidence => switch.filter(|_| standby.is_some()),
        // Nobody else can deliver, or may.
        HoldReason::NoneHealthy | HoldReason::Withdrawn => None,
    }
}

fn prospect(prospect: &NextChange) -> String {
    match prospect {
        // No status holds the number of failures so far.
        NextChange::Fails { backend, failures, so_far: _, to } => {
            let then = to.as_ref().map_or("mail has nowhere to go".to_owned(), |to| format!("mail goes to {to}"));
            format!("{backend} turns Unhealthy ({failures} failures in a row): {then}")
        }
        NextChange::Recovers { .. } | NextChange::Ends(_) | NextChange::Asks { .. } | NextChange::Changes { .. } => {
            prospect.to_string()
        }
    }
}

fn is_observed(status: &MailRouteStatus) -> bool {
    status.observed_generation.is_some_and(|generation| generation >= 0)
}

fn staleness(snapshot: &Snapshot, status: &MailRouteStatus) -> Vec<String> {
    let generation = snapshot.route.metadata.generation;
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

/// Errors of the policy that a route names.
#[derive(Debug, thiserror::Error)]
enum PolicyError {
    #[error("FailoverPolicy {name} does not exist in namespace {namespace}")]
    Missing { name: String, namespace: Arc<str> },
    #[error("FailoverPolicy {name} cannot be used: {message}")]
    Rejected { name: String, message: String },
}

fn policy(snapshot: &Snapshot) -> Result<Policy, PolicyError> {
    let Some(name) = snapshot.route.spec.policy_ref.as_ref().map(|reference| reference.name.clone()) else {
        return Ok(Policy::default());
    };
    match &snapshot.policy {
        None => Err(PolicyError::Missing { name, namespace: snapshot.key.namespace.clone() }),
        Some(policy) => {
            resolve::policy(&policy.spec).map_err(|Rejection { message, .. }| PolicyError::Rejected { name, message })
        }
    }
}

/// Builds the engine's candidate from the verdict that the operator has written down.
fn candidate(
    snapshot: &Snapshot,
    route: &Route,
    status: &MailRouteStatus,
    member: &Member,
    hold: Option<HoldReason>,
    at: Timestamp,
) -> Candidate {
    let written = status.backends.iter().find(|one| *one.name == *member.name);
    let object = snapshot.backends.get(&*member.name);
    let verdict = written.and_then(|written| verdict(written, object.and_then(|one| one.status.as_ref()), hold, at));
    let backend =
        object.filter(|_| !written.is_some_and(is_unusable)).and_then(|object| usable(snapshot, member, object));
    Candidate::new(member, backend.as_ref(), verdict.as_ref(), route, None, at)
}

/// Returns true if the operator says that it cannot use the object. Its reason is then neither a class of evidence nor
/// a person's decision.
fn is_unusable(written: &RouteBackendStatus) -> bool {
    let is_known = [reason::SUSPENDED, reason::RESIDENCY, reason::SENDER_DOMAIN].contains(&written.reason.as_str());
    !is_known && EvidenceClass::from_name(&written.reason).is_none()
}

fn usable(snapshot: &Snapshot, member: &Member, object: &SendingBackend) -> Option<Backend> {
    // What it refers to is the operator's matter: were it missing, the status would say so.
    let resolved: Result<Backend, Unresolved> =
        resolve::backend(&snapshot.key.sibling(member.name.clone()), &object.spec, &Presumed);
    resolved.ok()
}

fn verdict(
    written: &RouteBackendStatus,
    backend: Option<&SendingBackendStatus>,
    hold: Option<HoldReason>,
    at: Timestamp,
) -> Option<Verdict> {
    let Some(judgement) = persisted_verdict(written, backend) else { return unseen(backend?, at) };
    let is_unhealthy = judgement.health == Health::Unhealthy;
    let can_deliver = matches!(judgement.health, Health::Healthy | Health::Degraded);
    Some(Verdict {
        health: judgement.health,
        since: judgement.since,
        class: judgement.class,
        message: judgement.message.clone(),
        first_failure_at: judgement.first_failure_at,
        first_evidence_at: judgement.first_failure_at,
        // Whether a standby has answered since the failure began stands in the status as a hold, or not at all.
        confirmed_at: Some(at).filter(|_| can_deliver && hold != Some(HoldReason::AwaitingConfirmation)),
        confirmed_standbys: vec![],
        answered_at: None,
        is_recovering: false,
        unseen_failure: None,
        is_throttled: judgement.class == EvidenceClass::Throttled,
        failures: 0,
        observers: Agreement { voters: 1, unhealthy: u32::from(is_unhealthy) },
    })
}

/// Returns the verdict about a backend that nobody can look at, if it failed before.
fn unseen(backend: &SendingBackendStatus, at: Timestamp) -> Option<Verdict> {
    let unseen_failure = Some(persisted_unseen_failure(backend)?);
    Some(Verdict {
        health: Health::Unknown,
        since: at,
        class: EvidenceClass::ProbeBlocked,
        message: backend.message.clone().unwrap_or_default().into(),
        first_failure_at: None,
        first_evidence_at: None,
        confirmed_at: None,
        confirmed_standbys: vec![],
        answered_at: None,
        is_recovering: false,
        unseen_failure,
        is_throttled: false,
        failures: 0,
        observers: Agreement::default(),
    })
}

fn evidence(snapshot: &Snapshot, status: &MailRouteStatus, candidate: &Candidate) -> BackendEvidence {
    let written = status.backends.iter().find(|one| *one.name == *candidate.name);
    let own = snapshot.backends.get(&*candidate.name).and_then(|object| object.status.as_ref());
    let reason = match (written, snapshot.backends.contains_key(&*candidate.name)) {
        (Some(written), _) => written.reason.clone(),
        (None, true) => candidate.class.as_str().to_owned(),
        (None, false) => reason::BACKEND_NOT_FOUND.to_owned(),
    };
    // The message is about the backend's own verdict, which several routes share.
    let is_same = own.and_then(|own| own.reason.as_deref()) == Some(reason.as_str());
    BackendEvidence {
        backend: candidate.name.to_string(),
        health: candidate.health,
        message: own.filter(|_| is_same).and_then(|own| own.message.clone()).filter(|message| !message.is_empty()),
        certificate_not_after: own.and_then(|own| own.certificate_not_after.as_ref()).map(time::timestamp),
        certificate_issuer: own.and_then(|own| own.certificate_issuer.clone()),
        reason,
    }
}

/// Reason for which nobody hears of the route.
fn untold(snapshot: &Snapshot) -> Option<String> {
    let conditions = &snapshot.policy.as_ref()?.status.as_ref()?.conditions;
    let delivered = conditions.iter().find(|one| one.type_ == condition::NOTIFICATIONS_DELIVERED)?;
    let name = snapshot.route.spec.policy_ref.as_ref()?.name.as_str();
    (delivered.status == "False").then(|| format!("FailoverPolicy {name} does not reach people: {}", delivered.message))
}

/// Returns the text of a condition that reports a problem beyond the backends.
fn complaint(condition: &Condition) -> Option<String> {
    let is_wrong = match condition.type_.as_str() {
        condition::OUTPUTS_APPLIED
        | condition::OBJECTIVES_MET
        | condition::RECOVERY_TIME_MET
        | condition::WEBHOOKS_APPLIED
        | condition::DNS_APPLIED => condition.status == "False",
        condition::STALLED | condition::MAIL_KEPT | condition::INSTALLATION_CONFLICT => condition.status == "True",
        _ => false,
    };
    is_wrong
        .then(|| format!("{} is {} ({}): {}", condition.type_, condition.status, condition.reason, condition.message))
}
