//! The tests of what `benches/engine/` counts with.

#[expect(dead_code, reason = "what prints is not used here")]
#[path = "../benches/engine/alarms/mod.rs"]
mod alarms;
