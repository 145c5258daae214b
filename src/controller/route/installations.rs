//! Installations of the operator that lead one route. Each stands in the route's status.
// ADR-0190: Installations stand in the status of what they lead.

use std::collections::BTreeSet;
use std::sync::Arc;

use mail_failover_api::InstallationStatus;
use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_resolve::time::micro_time;

/// Most installations that a status lists.
const MAX_LISTED: usize = 8;

/// Knowledge of other installations beside what the route's status lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct InstallationContext {
    /// Name of this installation.
    pub(in crate::controller) own: Arc<str>,
    /// Listed installations that have given no sign of life for long.
    pub(in crate::controller) silent: BTreeSet<String>,
    /// True if this installation is to give a sign of life in the status of this route.
    pub(in crate::controller) is_due: bool,
    /// Time at which one of the two may change by time alone.
    pub(in crate::controller) next: Option<Timestamp>,
}

/// The installations that a status is to list, from those that it lists.
pub(super) fn listed(
    before: &[InstallationStatus],
    context: &InstallationContext,
    now: Timestamp,
) -> Vec<InstallationStatus> {
    let is_own = |one: &InstallationStatus| *one.name == *context.own;
    let kept = before.iter().filter(|one| is_own(one) || !context.silent.contains(&one.name));
    let mut listed: Vec<_> = kept.cloned().collect();
    let is_alone = listed.iter().all(is_own);
    // One that is alone gives no signs of life, so that nothing is written while nothing happens.
    let sign = (!is_alone).then(|| micro_time(now));
    if let Some(own) = listed.iter_mut().find(|one| is_own(one)) {
        if is_alone || own.renewed_at.is_none() || context.is_due {
            own.renewed_at = sign;
        }
    } else if listed.len() < MAX_LISTED {
        listed.push(InstallationStatus { name: context.own.to_string(), renewed_at: sign });
    }
    listed
}

/// The installations that lead a route at the same time, the first of which came first; empty if there is one at most.
// Both follow from the status alone. So every installation says the same, and none takes back what another one says.
pub(in crate::controller) fn rivals(listed: &[InstallationStatus]) -> Vec<&str> {
    // One that has never answered another one may be gone for long.
    let alive: Vec<_> = listed.iter().filter(|one| one.renewed_at.is_some()).map(|one| one.name.as_str()).collect();
    if alive.len() > 1 { alive } else { vec![] }
}

/// Returns true if another installation is to write what mail does not wait for.
pub(in crate::controller) fn yields(listed: &[InstallationStatus], own: &str) -> bool {
    rivals(listed).first().is_some_and(|first| *first != own)
}

/// Text of the condition and of the Event about them.
// Without a time: it must be the same in every installation.
pub(super) fn words(rivals: &[&str], route: &ObjectKey) -> String {
    format!(
        "the installations {} of the operator all lead this route: leave namespace {} to one of them (the chart's value `namespaces` or \
         the flag --namespaces of the others), or uninstall the others; {} goes on to write this status meanwhile",
        rivals.join(" and "),
        route.namespace,
        rivals.first().copied().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn named(name: &str, renewed_at: Option<i64>) -> InstallationStatus {
        InstallationStatus { name: name.to_owned(), renewed_at: renewed_at.map(|seconds| micro_time(at(seconds))) }
    }

    fn seen_by(own: &str, silent: &[&str], is_due: bool) -> InstallationContext {
        let silent = silent.iter().map(|name| (*name).to_owned()).collect();
        InstallationContext { own: own.into(), silent, is_due, next: None }
    }

    #[test]
    fn one_that_is_alone_is_written_once_and_never_renewed() {
        let first = listed(&[], &seen_by("a/a", &[], false), at(1));
        assert_eq!(first, [named("a/a", None)]);
        for (seconds, is_due) in [(2, false), (3600, true)] {
            assert_eq!(listed(&first, &seen_by("a/a", &[], is_due), at(seconds)), first);
        }
        assert_eq!((rivals(&first), yields(&first, "a/a")), (vec![], false));
    }

    #[test]
    fn a_second_one_is_told_of_once_the_first_has_answered() {
        let both = listed(&[named("a/a", None)], &seen_by("b/b", &[], false), at(5));
        assert_eq!(both, [named("a/a", None), named("b/b", Some(5))]);
        assert_eq!(rivals(&both), Vec::<&str>::new(), "the first one may be gone for long");
        let answered = listed(&both, &seen_by("a/a", &[], false), at(6));
        assert_eq!(answered, [named("a/a", Some(6)), named("b/b", Some(5))]);
        assert_eq!(rivals(&answered), ["a/a", "b/b"]);
        // Each sees the same in it, and writes nothing until a sign of life is due.
        for own in ["a/a", "b/b"] {
            assert_eq!(listed(&answered, &seen_by(own, &[], false), at(9)), answered);
            assert_eq!(yields(&answered, own), own == "b/b");
        }
        let renewed = listed(&answered, &seen_by("b/b", &[], true), at(35));
        assert_eq!(renewed, [named("a/a", Some(6)), named("b/b", Some(35))]);
    }

    #[test]
    fn one_that_is_silent_is_forgotten_and_the_other_one_is_alone_again() {
        let both = [named("a/a", Some(6)), named("b/b", Some(5))];
        let left = listed(&both, &seen_by("b/b", &["a/a"], true), at(100));
        assert_eq!((left.as_slice(), rivals(&left)), (&[named("b/b", None)][..], vec![]));
        // Nobody takes itself for silent.
        assert_eq!(listed(&both, &seen_by("b/b", &["b/b"], false), at(100)), both);
    }

    #[test]
    fn a_status_lists_no_more_than_the_definition_allows() {
        let full: Vec<_> = (0..MAX_LISTED).map(|number| named(&format!("n/{number}"), Some(1))).collect();
        assert_eq!(listed(&full, &seen_by("a/a", &[], false), at(2)), full);
    }

    #[test]
    fn the_words_name_both_and_the_remedy() {
        let words = words(&["mail/one", "ops/two"], &ObjectKey::new("shop", "orders"));
        for part in ["mail/one and ops/two", "namespace shop", "`namespaces`", "--namespaces"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
