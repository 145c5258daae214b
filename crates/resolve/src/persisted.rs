//! Verdicts that an earlier leader wrote down in `status`.

use super::time::timestamp;
use mail_failover_api::{self as api, SendingBackendStatus};
use mail_failover_core::engine::{Health, Judgement, UnseenFailure};
use mail_failover_core::model::{DeliveryStage, EvidenceClass};

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
    // A probe that cannot be made hides what it had seen.
    if let Some(condemned) = probe.condemned.as_ref().filter(|_| class == EvidenceClass::ProbeBlocked) {
        let behind = EvidenceClass::from_name(&condemned.reason)?;
        let earlier = Judgement::restored(Health::Unhealthy, timestamp(&condemned.since), behind, "");
        return Some(earlier.blocked_since(timestamp(&probe.since), message));
    }
    Some(Judgement::restored(engine_health(probe.health), timestamp(&probe.since), class, message))
}

/// The failure that was last seen of a backend, by what an earlier leader wrote down.
pub fn persisted_unseen_failure(backend: &SendingBackendStatus) -> Option<UnseenFailure> {
    let blocked = backend.probes.iter().filter(|probe| probe.reason == EvidenceClass::ProbeBlocked.as_str());
    let failures = blocked.filter_map(|probe| probe.condemned.as_ref());
    let known = failures.filter_map(|failure| {
        let class = EvidenceClass::from_name(&failure.reason)?;
        Some(UnseenFailure { since: timestamp(&failure.since), class })
    });
    known.min_by_key(|failure| failure.since)
}

/// The stage that has condemned a backend, as an earlier leader wrote it down beside the verdict of deliveries.
pub fn persisted_stage(probe: &api::ProbeStatus) -> Option<DeliveryStage> {
    DeliveryStage::from_name(&probe.condemned.as_ref()?.stage)
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
