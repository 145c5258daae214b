//! mail-failover-operator: moves outgoing mail to a standby when a sending backend fails.

pub mod clock;
pub mod leader;
pub mod model;
pub mod probe;
pub mod telemetry;
pub mod watch;
