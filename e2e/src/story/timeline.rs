//! A timeline on one clock: instants of this process and the times in `status` side by side.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::ink::Ink;

/// A translation from instants to the wall clock that the operator writes. Both run on this
/// machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    wall: SystemTime,
}

impl Clock {
    /// Reads both clocks now.
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }

    fn wall(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.wall + later,
            None => self.wall - self.instant.duration_since(instant),
        }
    }

    /// The instant of a wall clock time, or that of the reading if the time is earlier.
    pub fn instant(self, wall: SystemTime) -> Instant {
        self.instant + wall.duration_since(self.wall).unwrap_or_default()
    }
}

struct TimelineEntry {
    at: SystemTime,
    ink: Option<Ink>,
    text: String,
}

/// Entries in the order of time, relative to a zero.
pub struct Timeline {
    clock: Clock,
    zero: SystemTime,
    entries: Vec<TimelineEntry>,
}

impl Timeline {
    /// A timeline without entries.
    pub fn new(clock: Clock, zero: Instant) -> Self {
        Self { clock, zero: clock.wall(zero), entries: Vec::new() }
    }

    /// Adds an observation of this process.
    pub fn seen(&mut self, at: Instant, ink: Option<Ink>, text: impl Into<String>) {
        let at = self.clock.wall(at);
        self.entries.push(TimelineEntry { at, ink, text: text.into() });
    }

    /// Adds an entry with a time from a status.
    pub fn reported(&mut self, at: &MicroTime, ink: Option<Ink>, text: impl Into<String>) {
        self.entries.push(TimelineEntry { at: SystemTime::from(at.0), ink, text: text.into() });
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<_> = self.entries.iter().collect();
        // A stable sort: entries of the same time keep their order.
        sorted.sort_by_key(|entry| entry.at);
        let mut before = None;
        for TimelineEntry { at, ink, text } in sorted {
            let since_zero = seconds(*at, self.zero);
            let step = before.replace(*at).map_or_else(String::new, |before| format!("{:+.3}", seconds(*at, before)));
            let text = ink.map_or_else(|| text.clone(), |ink| ink.on(text));
            // A difference may be -0.000, which is printed as 0.000.
            let shown = format!("{since_zero:.3}").replace("-0.000", "0.000");
            writeln!(f, "  {shown:>8} s  {}  {text}", Ink::Faint.on(&format!("{step:>8}")))?;
        }
        Ok(())
    }
}

fn seconds(at: SystemTime, since: SystemTime) -> f64 {
    let signed = at.duration_since(since).map(|later| later.as_secs_f64());
    signed.unwrap_or_else(|earlier| -earlier.duration().as_secs_f64())
}

/// The time between two times of a status; zero if the clock was set back in between.
pub fn between(from: &MicroTime, until: &MicroTime) -> Duration {
    SystemTime::from(until.0).duration_since(SystemTime::from(from.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_order_of_time_and_relative_to_zero() {
        let clock = Clock::read();
        let zero = clock.instant + Duration::from_secs(5);
        let mut timeline = Timeline::new(clock, zero);
        timeline.seen(zero + Duration::from_millis(1500), None, "later");
        timeline.seen(zero, None, "zero");
        timeline.seen(zero.checked_sub(Duration::from_millis(250)).expect("the machine is older"), None, "before");
        let text = timeline.to_string();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["-0.250", "s", "before"]);
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0.000", "s", "+0.250", "zero"]);
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["1.500", "s", "+1.500", "later"]);
    }
}
