//! Bounds of every watch, and the meaning of its failures.

use std::time::Duration;

use kube::runtime::watcher;

use super::{describe, status_code};

/// Duration of one watch request in seconds.
pub const WATCH_SECONDS: u32 = 45;
/// Objects per page of a list.
// A page is in memory as a whole, up to three times, before anything of it is dropped (ADR-0092). 25 objects of 250 kB
// are 6 MB. A list of ten thousand small objects takes a second longer than in pages of 500.
pub const PAGE: u32 = 25;
/// Wait after the first failure of a watch.
pub const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// Longest pause between two attempts.
// A longer one would cost seconds of staleness after each outage, and six watches per replica (and namespace) are no
// load.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// Time since the last failure after which a watch counts as recovered.
// A quiet watch gives no sign that it has begun again.
pub const RECOVERED_AFTER: Duration = Duration::from_secs(30);

/// Failure of a watch, in words and as a label.
pub struct WatchProblem {
    /// The failure as a label of metrics.
    pub label: &'static str,
    /// The failure for people, with the remedy.
    pub text: String,
    /// True if the watch cannot continue from its last version, so that everything must be listed anew.
    // kube's `watcher` lists anew only when it is told so in the middle of a watch. When the start of a watch is
    // refused, it would try the same version for ever.
    pub lists_anew: bool,
    /// True if the API server refused the list or the watch for want of a right (403).
    pub is_forbidden: bool,
}

impl WatchProblem {
    /// The meaning of an error of kube's `watcher`.
    pub fn of(error: &watcher::Error) -> Self {
        let (label, cause, code) = match error {
            watcher::Error::InitialListFailed(cause) => ("list", describe(cause), status_code(cause)),
            watcher::Error::WatchStartFailed(cause) => ("start", describe(cause), status_code(cause)),
            watcher::Error::WatchFailed(cause) => ("stream", describe(cause), status_code(cause)),
            watcher::Error::WatchError(status) => {
                // 410 Gone: the version to go on from is compacted away, and everything is listed anew. Common after an
                // outage.
                let label = if status.code == 410 { "gone" } else { "stream" };
                (label, describe(&kube::Error::Api(status.clone())), Some(status.code))
            }
            watcher::Error::NoResourceVersion => ("list", error.to_string(), None),
        };
        let remedy = match code {
            Some(403) => "; grant list and watch on it to the operator's service account",
            Some(404) => "; install the CustomResourceDefinitions of this version",
            Some(_) | None => "",
        };
        // 410: the version is compacted away. 504 of this kind: the server was restored from a backup and is behind.
        let too_new = code == Some(504) && cause.contains("Too large resource version");
        let lists_anew = matches!(error, watcher::Error::WatchStartFailed(_)) && (code == Some(410) || too_new);
        Self { label, text: format!("{cause}{remedy}"), lists_anew, is_forbidden: code == Some(403) }
    }
}
