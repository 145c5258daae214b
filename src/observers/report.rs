//! Report of one replica to the others: rendering, parsing, bounds. No I/O, no clock.
//!
//! A report names the backends of which not every verdict is Healthy, and for each of them all its verdicts, one for
//! each set of thresholds that judges it. Silence about a backend means Healthy under all thresholds, if the writer
//! knows the backend: the report says up to which resourceVersion it has seen backends appear. Silence about some
//! thresholds of a named backend means that the writer does not judge by them: it is another version of the
//! operator, or the policy has just been changed. A backend that is named without any verdict is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::{Deserialize, Serialize};

use mail_failover_core::engine::{Health, ObserverVerdict};
use mail_failover_core::model::text::visible;
use mail_failover_core::model::{EvidenceClass, ObjectKey, ResourceVersion};
use mail_failover_resolve::text::truncated;
use mail_failover_resolve::time::{micro_time, timestamp};

/// Most verdicts in a report.
// A replica that sees so much fail is suspect.
// ADR-0026: A report of over a thousand verdicts does not count.
pub const MAX_VERDICTS: usize = 1000;
/// Longest report, in bytes.
// An object's annotations may have 256 KiB together.
pub const MAX_BYTES: usize = 200_000;

/// Longest description of a verdict, in bytes.
const MAX_WORDS: usize = 200;

/// The verdicts of one replica about one backend, by thresholds as `model::Thresholds` displays them.
pub type Verdicts = BTreeMap<Arc<str>, ObserverVerdict>;

/// Verdicts about each backend of which not every verdict is Healthy.
pub type BackendVerdicts = BTreeMap<ObjectKey, Verdicts>;

/// Report of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ObserverReport {
    /// The replica has not yet observed every backend once.
    Incomplete,
    /// The replica has more verdicts than fit.
    Truncated,
    /// Every backend that it does not see healthy.
    Complete {
        /// The verdicts about each of them.
        reported: BackendVerdicts,
        /// Highest `resourceVersion` of the backends that it knows; `None` from a version that does not say it.
        known_up_to: Option<ResourceVersion>,
    },
}

/// Verdict of an observer about one backend under some thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The backend is healthy.
    Healthy,
    /// The observer does not judge by these thresholds, or has not observed the backend.
    Abstains,
    /// This verdict, which may be Unknown.
    As(ObserverVerdict),
}

/// Returns the verdict of a complete report about a backend under some thresholds.
// ADR-0025: A report names only backends that are not healthy.
pub fn seen(reported: &BackendVerdicts, backend: &ObjectKey, thresholds: &str) -> Seen {
    match reported.get(backend) {
        None => Seen::Healthy,
        Some(verdicts) => verdicts.get(thresholds).cloned().map_or(Seen::Abstains, Seen::As),
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReportDocument {
    /// False until every backend was observed once.
    // Only then silence about one means Healthy.
    complete: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    /// Highest `resourceVersion` of the backends that the writer knows.
    // Silence about a later one says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_up_to: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    backends: BTreeMap<String, BTreeMap<String, ReportedVerdict>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportedVerdict {
    health: String,
    since: MicroTime,
    class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_failure_at: Option<MicroTime>,
    /// Backends of the same routes that have answered since.
    // A report without them, of an older version, confirms nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    confirms: Vec<String>,
    /// What the writer has seen, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
}

impl ObserverReport {
    /// Renders a report as text. Returns its extent, too.
    pub(super) fn of(
        is_complete: bool,
        reported: &BackendVerdicts,
        known_up_to: Option<&ResourceVersion>,
    ) -> (String, Extent) {
        let verdicts = reported.values().map(|verdicts| verdicts.len().max(1)).sum::<usize>();
        let known_up_to = known_up_to.map(ToString::to_string);
        let whole = ReportDocument { complete: true, truncated: false, known_up_to, backends: BTreeMap::new() };
        let (document, mut extent) = if !is_complete {
            (ReportDocument::default(), Extent::Incomplete)
        } else if verdicts > MAX_VERDICTS {
            (ReportDocument { truncated: true, known_up_to: None, ..whole }, Extent::Truncated)
        } else {
            let backends = reported.iter().map(|(key, verdicts)| (key.to_string(), entries(verdicts, true)));
            (ReportDocument { backends: backends.collect(), ..whole }, Extent::Complete { verdicts })
        };
        let mut text = json(&document);
        if text.len() > MAX_BYTES {
            // Votes before words.
            let backends = reported.iter().map(|(key, verdicts)| (key.to_string(), entries(verdicts, false)));
            text = json(&ReportDocument { backends: backends.collect(), ..document });
        }
        if text.len() > MAX_BYTES {
            text = json(&ReportDocument { complete: true, truncated: true, ..ReportDocument::default() });
            extent = Extent::Truncated;
        }
        (text, extent)
    }

    /// Parses another replica's report. Unknown fields are ignored, and a verdict with an unknown name is Unknown.
    ///
    /// # Errors
    /// [`ReportError`] if the text is no report.
    // The writer may be another version of the operator.
    pub(super) fn parse(text: &str) -> Result<Self, ReportError> {
        if text.len() > MAX_BYTES {
            return Err(ReportError::TooLong(text.len()));
        }
        let ReportDocument { complete, truncated, known_up_to, backends } = serde_json::from_str(text)?;
        if truncated {
            return Ok(Self::Truncated);
        }
        if !complete {
            return Ok(Self::Incomplete);
        }
        let verdicts = backends.values().map(|verdicts| verdicts.len().max(1)).sum::<usize>();
        if verdicts > MAX_VERDICTS {
            return Err(ReportError::TooManyVerdicts(verdicts));
        }
        let mut reported = BackendVerdicts::new();
        for (key, entries) in backends {
            let parts = key.split_once('/');
            match parts.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/')) {
                Some((namespace, name)) => {
                    reported.insert(ObjectKey::new(namespace, name), entries.into_iter().map(verdict).collect());
                }
                None => return Err(ReportError::Key(key)),
            }
        }
        Ok(Self::Complete { reported, known_up_to: ResourceVersion::parse(known_up_to.as_deref()).ok() })
    }
}

/// Report that does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error("its Lease is not named after its holder")]
    ForeignLease,
    #[error("it has {0} bytes; {max} are allowed", max = MAX_BYTES)]
    TooLong(usize),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("it has {0} verdicts; {max} are allowed", max = MAX_VERDICTS)]
    TooManyVerdicts(usize),
    #[error("{0:?} is not the namespace and the name of a backend")]
    Key(String),
}

/// Extent of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Incomplete,
    Truncated,
    Complete { verdicts: usize },
}

fn json(document: &ReportDocument) -> String {
    // Maps with text keys, texts and flags always fit into JSON. An empty report would not count.
    serde_json::to_string(document).unwrap_or_default()
}

fn entries(verdicts: &Verdicts, has_words: bool) -> BTreeMap<String, ReportedVerdict> {
    verdicts.iter().map(|(thresholds, verdict)| (thresholds.to_string(), entry(verdict, has_words))).collect()
}

fn entry(verdict: &ObserverVerdict, has_words: bool) -> ReportedVerdict {
    ReportedVerdict {
        health: verdict.health.as_str().to_owned(),
        since: micro_time(verdict.since),
        class: verdict.class.as_str().to_owned(),
        first_failure_at: verdict.first_failure_at.map(micro_time),
        confirms: verdict.confirms.iter().map(ToString::to_string).collect(),
        message: if has_words { truncated(&verdict.message, MAX_WORDS) } else { String::new() },
    }
}

fn verdict((thresholds, entry): (String, ReportedVerdict)) -> (Arc<str>, ObserverVerdict) {
    let ReportedVerdict { health, since, class, first_failure_at, confirms, message } = entry;
    let verdict = ObserverVerdict {
        health: ALL_HEALTH.into_iter().find(|known| known.as_str() == health).unwrap_or(Health::Unknown),
        since: timestamp(&since),
        class: EvidenceClass::from_name(&class).unwrap_or(EvidenceClass::Inconclusive),
        first_failure_at: first_failure_at.as_ref().map(timestamp),
        confirms: confirms.into_iter().map(Arc::from).collect(),
        message: truncated(&visible(&message), MAX_WORDS).into(),
    };
    (thresholds.into(), verdict)
}

const ALL_HEALTH: [Health; 4] = [Health::Healthy, Health::Degraded, Health::Unknown, Health::Unhealthy];

#[cfg(test)]
#[path = "report_tests.rs"]
pub(super) mod tests;
