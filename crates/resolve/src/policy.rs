use std::time::Duration;

use super::{Rejection, duration, number, span};
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_core::model::{
    Breaker, Budget, CronWindow, DeliveryThresholds, EvidenceClass, Failback, FailbackMode, FailureWindow, HoldPolicy,
    LatencyLimit, Objectives, Policy, RampStep, Share, Thresholds, WhenNoneHealthy, WindowError,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(168);
const DEFAULT_TIME_ZONE: &str = "UTC";

/// A policy from its spec; every absent field has its documented default.
///
/// # Errors
/// [`Rejection`] for a failback window that can never be open, which no schema can tell, and for what the schema should
/// have refused (an old schema may still be installed).
pub fn policy(spec: &api::FailoverPolicySpec) -> Result<Policy, Rejection> {
    let api::FailoverPolicySpec {
        failure,
        recovery,
        hold,
        when_none_healthy,
        failback,
        objectives,
        breaker,
        // A defect there must not change where mail goes.
        notifications: _,
        drills,
    } = spec;
    let default = Policy::default();
    Ok(Policy {
        thresholds: thresholds(failure.as_ref(), recovery.as_ref(), default.thresholds)?,
        hold: match hold {
            None => default.hold,
            Some(hold) => self::hold(hold, &default.hold)?,
        },
        when_none_healthy: match when_none_healthy {
            None => default.when_none_healthy,
            Some(api::WhenNoneHealthySpec::Hold) => WhenNoneHealthy::Hold,
            Some(api::WhenNoneHealthySpec::Preferred) => WhenNoneHealthy::Preferred,
        },
        failback: match failback {
            None => default.failback,
            Some(failback) => self::failback(failback, &default.failback)?,
        },
        objectives: objectives.as_ref().map(self::objectives).transpose()?.unwrap_or(default.objectives),
        deliveries: match failure.as_ref().and_then(|failure| failure.deliveries.as_ref()) {
            None => default.deliveries,
            Some(deliveries) => self::deliveries(deliveries)?,
        },
        breaker: breaker.as_ref().map(self::breaker).transpose()?.unwrap_or_default(),
        drills: drills.as_ref().map(super::drills::drills).transpose()?.unwrap_or_default(),
    })
}

fn objectives(spec: &api::ObjectivesSpec) -> Result<Objectives, Rejection> {
    let api::ObjectivesSpec { recovery_time, delivery_time, success_percent, availability, window } = spec;
    Ok(Objectives {
        recovery_time: recovery_time
            .map(|given| span("spec.objectives.recoveryTime", given, SECOND..=DAY))
            .transpose()?,
        delivery_time: delivery_time
            .map(|given| span("spec.objectives.deliveryTime", given, SECOND..=DAY))
            .transpose()?,
        success: match success_percent {
            None => None,
            Some(given) => {
                let percent: u32 = number("spec.objectives.successPercent", *given, 1..=99)?;
                Some(Share::from_parts_per_million(percent * 10_000))
            }
        },
        availability: availability.as_deref().map(self::availability).transpose()?,
        window: match window {
            None => Objectives::NONE.window,
            Some(given) => span("spec.objectives.window", *given, HOUR..=Duration::from_hours(2160))?,
        },
    })
}

/// Reads a percentage with at most four decimals.
fn availability(given: &str) -> Result<Share, Rejection> {
    let (whole, decimals) = given.split_once('.').unwrap_or((given, ""));
    let digits = format!("{whole}{decimals:0<4}");
    let parts =
        digits.parse::<u32>().ok().filter(|_| decimals.len() <= 4 && (50..100).contains(&whole.parse().unwrap_or(0)));
    parts.map(Share::from_parts_per_million).ok_or_else(|| {
        let message = format!("`{given}` is no percentage from 50 to below 100; write it like 99.9");
        Rejection::new(reason::INVALID_SPEC, "spec.objectives.availability", &message)
    })
}

fn deliveries(
    api::FailedDeliveriesSpec { consecutive, lasting }: &api::FailedDeliveriesSpec,
) -> Result<DeliveryThresholds, Rejection> {
    let default = DeliveryThresholds::default();
    Ok(DeliveryThresholds {
        consecutive: match consecutive {
            None => default.consecutive,
            Some(given) => number("spec.failure.deliveries.consecutive", *given, 1..=1000)?,
        },
        lasting: match lasting {
            None => default.lasting,
            Some(given) => span("spec.failure.deliveries.lasting", *given, Duration::ZERO..=HOUR)?,
        },
    })
}

fn breaker(
    api::BreakerSpec { consecutive, first_pause, longest_pause }: &api::BreakerSpec,
) -> Result<Breaker, Rejection> {
    let default = Breaker::default();
    let breaker = Breaker {
        consecutive: match consecutive {
            None => default.consecutive,
            Some(given) => number("spec.breaker.consecutive", *given, 1..=1000)?,
        },
        first_pause: match first_pause {
            None => default.first_pause,
            Some(given) => span("spec.breaker.firstPause", *given, SECOND..=Duration::from_mins(10))?,
        },
        longest_pause: match longest_pause {
            None => default.longest_pause,
            Some(given) => span("spec.breaker.longestPause", *given, SECOND..=HOUR)?,
        },
    };
    if breaker.first_pause > breaker.longest_pause {
        let Breaker { first_pause, longest_pause, .. } = breaker;
        return Err(Rejection::new(
            reason::INVALID_SPEC,
            "spec.breaker.firstPause",
            &format!("{first_pause:?} exceeds spec.breaker.longestPause, {longest_pause:?}"),
        ));
    }
    Ok(breaker)
}

fn thresholds(
    failure: Option<&api::FailureSpec>,
    recovery: Option<&api::RecoverySpec>,
    mut thresholds: Thresholds,
) -> Result<Thresholds, Rejection> {
    if let Some(api::FailureSpec { consecutive, lasting, window, latency, immediately, deliveries: _ }) = failure {
        if let Some(consecutive) = consecutive {
            thresholds.failure = number("spec.failure.consecutive", *consecutive, 1..=1000)?;
        }
        if let Some(lasting) = lasting {
            thresholds.lasting = Some(span("spec.failure.lasting", *lasting, Duration::ZERO..=HOUR)?);
        }
        thresholds.window = window.as_ref().map(failure_window).transpose()?;
        thresholds.latency = latency.as_ref().map(latency_limit).transpose()?;
        if let Some(immediately) = immediately {
            thresholds.immediate = immediately.iter().copied().map(class).collect();
        }
    }
    if let Some(api::RecoverySpec { consecutive, stable_for }) = recovery {
        if let Some(consecutive) = consecutive {
            thresholds.recovery = number("spec.recovery.consecutive", *consecutive, 1..=1000)?;
        }
        thresholds.stable_for = stable_for.map_or(thresholds.stable_for, duration);
    }
    Ok(thresholds)
}

fn failure_window(spec: &api::FailureWindowSpec) -> Result<FailureWindow, Rejection> {
    let api::FailureWindowSpec { duration, minimum_samples, failure_percent } = spec;
    Ok(FailureWindow {
        duration: span("spec.failure.window.duration", *duration, SECOND..=DAY)?,
        minimum_samples: number("spec.failure.window.minimumSamples", *minimum_samples, 1..=10_000)?,
        failure_percent: number("spec.failure.window.failurePercent", *failure_percent, 1..=100)?,
    })
}

fn latency_limit(api::LatencySpec { percentile, above, r#for }: &api::LatencySpec) -> Result<LatencyLimit, Rejection> {
    Ok(LatencyLimit {
        percentile: number("spec.failure.latency.percentile", *percentile, 1..=99)?,
        above: span("spec.failure.latency.above", *above, Duration::from_nanos(1)..=Duration::from_mins(5))?,
        held_for: span("spec.failure.latency.for", *r#for, SECOND..=DAY)?,
    })
}

fn class(failure: api::ImmediateFailure) -> EvidenceClass {
    match failure {
        api::ImmediateFailure::AuthenticationRefused => EvidenceClass::AuthenticationRefused,
        api::ImmediateFailure::AccountPaused => EvidenceClass::AccountPaused,
        api::ImmediateFailure::QuotaExhausted => EvidenceClass::QuotaExhausted,
        api::ImmediateFailure::Reputation => EvidenceClass::Reputation,
        api::ImmediateFailure::Permanent => EvidenceClass::Permanent,
        api::ImmediateFailure::CertificateInvalid => EvidenceClass::CertificateInvalid,
        api::ImmediateFailure::Unresolvable => EvidenceClass::Unresolvable,
    }
}

fn hold(
    api::HoldSpec { cooldown, minimum_stay, budget }: &api::HoldSpec,
    default: &HoldPolicy,
) -> Result<HoldPolicy, Rejection> {
    Ok(HoldPolicy {
        cooldown: cooldown.map_or(default.cooldown, duration),
        minimum_stay: minimum_stay.map_or(default.minimum_stay, duration),
        budget: match budget {
            None => default.budget,
            Some(api::BudgetSpec { switches, per }) => Budget {
                switches: number("spec.hold.budget.switches", *switches, 1..=10)?,
                per: span("spec.hold.budget.per", *per, SECOND..=WEEK)?,
            },
        },
    })
}

fn failback(spec: &api::FailbackSpec, default: &Failback) -> Result<Failback, Rejection> {
    let api::FailbackSpec { mode, after, windows, ramp } = spec;
    Ok(Failback {
        mode: match mode {
            None => default.mode,
            Some(api::FailbackModeSpec::Automatic) => FailbackMode::Automatic,
            Some(api::FailbackModeSpec::Manual) => FailbackMode::Manual,
        },
        after: after.map_or(default.after, duration),
        windows: windows.iter().enumerate().map(failback_window).collect::<Result<_, _>>()?,
        ramp: self::ramp(ramp)?,
    })
}

fn failback_window((index, spec): (usize, &api::FailbackWindowSpec)) -> Result<CronWindow, Rejection> {
    let api::FailbackWindowSpec { schedule, time_zone, duration } = spec;
    let field = format!("spec.failback.windows[{index}]");
    let duration = span(&format!("{field}.duration"), *duration, Duration::from_mins(1)..=WEEK)?;
    let time_zone = time_zone.as_deref().unwrap_or(DEFAULT_TIME_ZONE);
    CronWindow::new(schedule, time_zone, duration).map_err(|error| {
        let (field, message) = match &error {
            WindowError::Schedule(_) => (
                format!("{field}.schedule"),
                format!("`{schedule}` is no crontab of five fields: {error}; see crontab(5)"),
            ),
            WindowError::TimeZone(_) => (
                format!("{field}.timeZone"),
                format!("the IANA time zone database has no `{time_zone}`; use a name such as Europe/Berlin"),
            ),
            WindowError::NeverOpens => (
                format!("{field}.schedule"),
                format!("`{schedule}` names a day that never comes; correct the day or the month"),
            ),
        };
        Rejection::new(reason::INVALID_SPEC, &field, &message)
    })
}

fn ramp(spec: &[api::RampStepSpec]) -> Result<Vec<RampStep>, Rejection> {
    let mut steps: Vec<RampStep> = Vec::with_capacity(spec.len());
    for (index, api::RampStepSpec { percent, r#for }) in spec.iter().enumerate() {
        let field = format!("spec.failback.ramp[{index}]");
        let percent = number(&format!("{field}.percent"), *percent, 1..=99)?;
        if steps.last().is_some_and(|earlier| earlier.percent >= percent) {
            let message = format!("{percent} is no more than in the step before; percentages increase");
            return Err(Rejection::new(reason::INVALID_SPEC, &format!("{field}.percent"), &message));
        }
        steps.push(RampStep { percent, duration: span(&format!("{field}.for"), *r#for, SECOND..=WEEK)? });
    }
    Ok(steps)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
