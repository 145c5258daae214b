//! Between the engine's time and Kubernetes'.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff;

use mail_failover_core::model::Timestamp;

/// A time with microseconds, as in status and Events.
pub fn micro_time(at: Timestamp) -> MicroTime {
    MicroTime(jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::MAX))
}

/// A time with whole seconds, as in conditions.
pub fn time(at: Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.as_micros().div_euclid(1_000_000)).unwrap_or(jiff::Timestamp::MAX))
}

/// A time in status as the engine has it.
pub fn timestamp(at: &MicroTime) -> Timestamp {
    Timestamp::from_micros(at.0.as_microsecond())
}
