//! Silence of DNS for one name while it answers for others: evidence about the owner of that name.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time after the end of a name's TTL, or after its first look-up without an answer if that is later, from which its
/// silence counts.
// Long enough for a hiccup of a name server. Whoever is told the name has no use for it from the end of the TTL.
pub(super) const SILENCE_GRACE: Duration = Duration::from_mins(1);

/// Silence of DNS for the name of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NameSilence {
    /// End of the TTL of the last answer.
    usable_until: Option<Instant>,
    /// First look-up without an answer since then.
    since: Option<Instant>,
}

impl NameSilence {
    /// Notes an answer and the end of its TTL. Returns true if it is known not to come from a cache.
    pub(super) fn end(&mut self, usable_until: Instant) -> bool {
        let before = self.usable_until.replace(usable_until);
        self.since = None;
        before.is_some_and(|before| before < usable_until)
    }

    /// Notes a look-up without an answer. Returns the duration of the silence once it counts: the TTL and the grace are
    /// over, and another name has been answered since it began.
    pub(super) fn lasts(&mut self, now: Instant, other_answered_at: Option<Instant>) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let counts_from = self.usable_until.map_or(since, |until| until.max(since)) + SILENCE_GRACE;
        let is_alone = other_answered_at.is_some_and(|at| at > since);
        (is_alone && now >= counts_from).then(|| now - since)
    }
}

/// The latest answers of DNS that came from no cache, of two names.
#[derive(Debug, Default)]
pub(super) struct LatestAnswers([Option<(Arc<str>, Instant)>; 2]);

impl LatestAnswers {
    /// Notes an answer.
    pub(super) fn note(&mut self, host: &str, at: Instant) {
        let [first, second] = &mut self.0;
        match first {
            Some((latest, since)) if **latest == *host => *since = at,
            Some(_) | None => {
                *second = first.take();
                *first = Some((host.into(), at));
            }
        }
    }

    /// Returns the time of the latest answer for any other name.
    pub(super) fn other_than(&self, host: &str) -> Option<Instant> {
        self.0.iter().flatten().filter(|(name, _)| **name != *host).map(|(_, at)| *at).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_for_one_name_counts_a_minute_after_its_ttl_if_others_are_answered_since() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut silence = NameSilence::default();
        silence.end(at(300));
        assert_eq!(silence.lasts(at(100), Some(at(200))), None, "the TTL");
        assert_eq!(silence.lasts(at(359), Some(at(200))), None, "the grace");
        assert_eq!(silence.lasts(at(360), Some(at(100))), None, "nobody is answered since it began");
        assert_eq!(silence.lasts(at(360), None), None);
        assert_eq!(silence.lasts(at(360), Some(at(101))), Some(Duration::from_secs(260)));
        silence.end(at(400));
        assert_eq!(silence.lasts(at(470), Some(at(480))), None, "it begins anew");
        assert_eq!(silence.lasts(at(530), Some(at(480))), Some(Duration::from_mins(1)));
        let mut unknown = NameSilence::default();
        assert_eq!(unknown.lasts(at(0), Some(at(1))), None);
        assert!(unknown.lasts(at(60), Some(at(1))).is_some(), "after a restart nothing was ever answered");
    }

    #[test]
    fn an_answer_is_fresh_only_if_it_lasts_longer_than_the_one_before() {
        let start = Instant::now();
        let mut silence = NameSilence::default();
        let later = start + Duration::from_secs(1);
        assert_eq!([start, start, later].map(|until| silence.end(until)), [false, false, true]);
    }

    #[test]
    fn the_latest_answer_for_another_name_is_kept() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut latest = LatestAnswers::default();
        assert_eq!(latest.other_than("a"), None);
        for (host, second) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
            latest.note(host, at(second));
        }
        assert_eq!((latest.other_than("a"), latest.other_than("b")), (Some(at(2)), Some(at(4))));
        assert_eq!(latest.other_than("c"), Some(at(4)));
    }
}
