//! Verdicts that an earlier leader wrote down in `status`.

use super::time::timestamp;
use mail_failover_api::{self as api, SendingBackendStatus};
use mail_failover_core::engine::{Health, Judgement, UnseenFailure};
use mail_failover_core::model::EvidenceClass;

fn engine_health(health: api::Health) -> Health {
    match health {
        api::Health::Healthy => Health::Healthy,
        api::Health::Degraded => Health::Degraded,
        api::Health::Unhealthy => Health::Unhealthy,
        api::Health::Unknown => Health::Unknown,
    }
}

/// The judgement of a probe that an earlier leader wrote down.
pub fn persisted_probe(probe: &api::ProbeStatus) -> Option<Judgement> {
    let class = EvidenceClass::from_name(&probe.reason)?;
    let message = probe.message.clone().unwrap_or_default();
    if let Some(failure) = probe.last_failure.as_ref().filter(|_| class == EvidenceClass::ProbeBlocked) {
        let of_failure = EvidenceClass::from_name(&failure.reason)?;
        let earlier = Judgement::restored(Health::Unhealthy, timestamp(&failure.since), of_failure, "");
        return Some(earlier.blocked_since(timestamp(&probe.since), message));
    }
    Some(Judgement::restored(engine_health(probe.health), timestamp(&probe.since), class, message))
}

/// The failure that was last seen of a backend, by what an earlier leader wrote down.
pub fn persisted_unseen_failure(backend: &SendingBackendStatus) -> Option<UnseenFailure> {
    let failures = backend.probes.iter().filter_map(|probe| probe.last_failure.as_ref());
    let known = failures.filter_map(|failure| {
        let class = EvidenceClass::from_name(&failure.reason)?;
        Some(UnseenFailure { since: timestamp(&failure.since), class })
    });
    known.min_by_key(|failure| failure.since)
}

/// The verdict that an earlier leader wrote down in a route's status. A route says `Suspended` where the backend's own
/// status says why.
pub fn persisted_verdict(
    verdict: &api::RouteBackendStatus,
    backend: Option<&SendingBackendStatus>,
) -> Option<Judgement> {
    let since = timestamp(verdict.since.as_ref()?);
    let own = backend.and_then(|status| EvidenceClass::from_name(status.reason.as_deref()?));
    let class = EvidenceClass::from_name(&verdict.reason).or(own)?;
    let message = backend.filter(|_| own == Some(class)).and_then(|status| status.message.clone());
    Some(Judgement::restored(engine_health(verdict.health), since, class, message.unwrap_or_default()))
}
