use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cronexpr::{Crontab, MakeTimestamp};
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::{SharedError, Timestamp};

/// Recurring time in which a failback or a drill may begin: opened by a cron schedule in a time zone, for a duration.
///
/// The schedule has the five fields of crontab(5), by the wall clock of the zone. A change to summer time that skips
/// an opening postpones it by as much as the clock is set forward. An opening that the change back repeats comes once,
/// the first time. The zone database is compiled in.
#[derive(Clone)]
pub struct CronWindow {
    schedule: Arc<str>,
    time_zone: Arc<str>,
    duration: Duration,
    crontab: Arc<Crontab>,
    zone: TimeZone,
}

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Largest step by which wall clocks are set forward.
const LARGEST_GAP: Duration = Duration::from_hours(3);

impl CronWindow {
    /// Creates a window; `duration` must be at least a minute.
    ///
    /// # Errors
    /// [`WindowError`] names the schedule or the time zone.
    pub fn new(schedule: &str, time_zone: &str, duration: Duration) -> Result<Self, WindowError> {
        // The schedule runs over bare wall-clock times, as if in UTC; the zone turns each into a
        // moment: cronexpr alone would lose an opening that falls into a change to summer time.
        let crontab = cronexpr::parse_crontab(&format!("{schedule} UTC"))
            .map_err(|error| WindowError::Schedule(SharedError::new(error)))?;
        // The database that is compiled in: a host's files would make the decision depend on the host.
        let zone = ZONES.get(time_zone).map_err(|error| WindowError::TimeZone(SharedError::new(error)))?;
        let window =
            Self { schedule: schedule.into(), time_zone: time_zone.into(), duration, crontab: Arc::new(crontab), zone };
        if window.next_opening(Timestamp::from_micros(0)).is_none() {
            return Err(WindowError::NeverOpens);
        }
        Ok(window)
    }

    /// Returns the end of the opening at `now`; `None` if it is closed. Openings that overlap count as one.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        // Looks back ever further, so that a schedule of every minute and one of every year are
        // both found in a few steps.
        let mut look_back = Duration::from_mins(2);
        loop {
            let mut latest = None;
            for opening in self.openings_after(now - look_back.min(self.duration + LARGEST_GAP)) {
                if opening > now {
                    break;
                }
                latest = Some(opening);
            }
            match latest.map(|opening| opening + self.duration) {
                Some(until) => return (until > now).then_some(until),
                None if look_back >= self.duration + LARGEST_GAP => return None,
                None => look_back *= 4,
            }
        }
    }

    /// Returns the begin and the end of the latest opening, if it lasts at `now`.
    pub fn opening(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        self.open_until(now).map(|until| (until - self.duration, until))
    }

    /// Returns the duration of each opening.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns the next opening after `now`.
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        self.openings_after(now).next()
    }

    fn openings_after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        // Starts early enough that an opening put off by a gap is not missed.
        let mut wall_clock = jiff::Timestamp::from_microsecond((after - LARGEST_GAP).as_micros())
            .ok()
            .map(|start| self.zone.to_datetime(start));
        std::iter::from_fn(move || {
            loop {
                let as_utc = TimeZone::UTC.to_timestamp(wall_clock?).ok()?;
                let next = self.crontab.find_next(MakeTimestamp(as_utc)).ok()?.datetime();
                wall_clock = Some(next);
                let opening = self.moment(next)?;
                if opening > after {
                    return Some(opening);
                }
            }
        })
    }

    /// Converts a wall-clock time by the "compatible" rule of jiff (RFC 5545 §3.3.5): later by the
    /// gap in a gap, the first one in a fold.
    fn moment(&self, wall_clock: DateTime) -> Option<Timestamp> {
        let at = self.zone.to_ambiguous_timestamp(wall_clock).compatible().ok()?;
        Some(Timestamp::from_micros(at.as_microsecond()))
    }
}

/// Defect of a window's settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The schedule is no crontab.
    // The parser's text draws the place below its first line.
    #[error("{}", .0.to_string().lines().next().unwrap_or_default())]
    Schedule(#[source] SharedError),
    /// The IANA time zone database has no such zone.
    #[error("the IANA time zone database has no such zone")]
    TimeZone(#[source] SharedError),
    /// The schedule names a day that never comes, such as 30 February.
    #[error("the schedule names a day that never comes")]
    NeverOpens,
}

impl PartialEq for CronWindow {
    fn eq(&self, other: &Self) -> bool {
        (&self.schedule, &self.time_zone, self.duration) == (&other.schedule, &other.time_zone, other.duration)
    }
}

impl Eq for CronWindow {}

impl fmt::Display for CronWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} for {:?}", self.schedule, self.time_zone, self.duration)
    }
}

impl fmt::Debug for CronWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn berlin(schedule: &str, hours: u64) -> CronWindow {
        CronWindow::new(schedule, "Europe/Berlin", Duration::from_hours(hours)).unwrap()
    }

    #[test]
    fn it_opens_by_the_wall_clock_of_its_zone() {
        let window = berlin("0 2 * * *", 2);
        assert_eq!(window.open_until(at("2026-07-01T00:30:00Z")), Some(at("2026-07-01T02:00:00Z")));
        assert_eq!(window.open_until(at("2026-12-01T00:30:00Z")), None);
        assert_eq!(window.open_until(at("2026-12-01T01:00:00Z")), Some(at("2026-12-01T03:00:00Z")));
        assert_eq!(window.open_until(at("2026-12-01T03:00:00Z")), None);
        assert_eq!(window.next_opening(at("2026-12-01T01:00:00Z")), Some(at("2026-12-02T01:00:00Z")));
        let opening = (at("2026-12-01T01:00:00Z"), at("2026-12-01T03:00:00Z"));
        assert_eq!(window.opening(at("2026-12-01T02:59:59Z")), Some(opening));
        assert_eq!(window.opening(at("2026-12-01T03:00:00Z")), None);
    }

    #[test]
    fn no_opening_is_lost_or_doubled_when_clocks_are_changed() {
        let window = berlin("30 2 * * *", 1);
        // 29 March 2026: 02:30 does not exist; the clock shows 03:30 as much later as it was set forward.
        assert_eq!(window.next_opening(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:30:00Z")));
        assert_eq!(window.open_until(at("2026-03-29T02:00:00Z")), Some(at("2026-03-29T02:30:00Z")));
        assert_eq!(window.next_opening(at("2026-03-29T01:30:00Z")), Some(at("2026-03-30T00:30:00Z")));
        // 25 October 2026: 02:30 comes twice.
        assert_eq!(window.next_opening(at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(window.next_opening(at("2026-10-25T00:30:00Z")), Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn it_may_be_open_always_or_seldom() {
        let now = at("2026-05-05T12:34:56Z");
        assert!(berlin("* * * * *", 1).open_until(now).is_some());
        assert_eq!(berlin("0 0 1 1 *", 1).open_until(now), None);
        assert_eq!(berlin("0 0 * * 1", 168).open_until(now), Some(at("2026-05-10T22:00:00Z")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |schedule, zone| CronWindow::new(schedule, zone, Duration::from_hours(1)).unwrap_err();
        assert!(matches!(error("61 * * * *", "UTC"), WindowError::Schedule(_)));
        assert!(matches!(error("0 2 * * * *", "UTC"), WindowError::Schedule(_)));
        assert!(matches!(error("0 2 * * *", "Europe/Atlantis"), WindowError::TimeZone(_)));
        assert_eq!(error("0 2 30 2 *", "UTC"), WindowError::NeverOpens);
    }
}
