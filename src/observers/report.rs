//! Report of one replica to the others: rendering, parsing, bounds. No I/O, no clock.
//!
//! A report names the backends of which not every verdict is Healthy, and for each of them all its verdicts, one for
//! each set of thresholds that judges it. Silence about a backend means Healthy under all thresholds, if the writer
//! knows the backend: the report says up to which resourceVersion it has seen backends appear. Silence about some
//! thresholds of a named backend means that the writer does not judge by them: it is another version of the
//! operator, or the policy has just been changed. A backend that is named without any verdict is unknown.
//!
//! About some namespaces a report says nothing at all, and names them: those that are not observed yet, and those with
//! more verdicts than there is room for. The writer abstains there, and votes everywhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::{Deserialize, Serialize};

use mail_failover_core::engine::{Health, ObserverVerdict, SharedRun};
use mail_failover_core::model::text::visible;
use mail_failover_core::model::{EvidenceClass, ObjectKey, ResourceVersion};
use mail_failover_resolve::text::truncated;
use mail_failover_resolve::time::{micro_time, timestamp};

/// Most verdicts in a report. Namespaces share them: those with the fewest come first.
// ADR-0108: A report has room for each namespace.
pub const MAX_VERDICTS: usize = 1000;
/// Longest report, in bytes.
// An object's annotations may have 256 KiB together.
pub const MAX_BYTES: usize = 200_000;

/// Longest description of a verdict, in bytes.
// A report of a thousand verdicts must have room for them.
const MAX_WORDS: usize = 60;

/// The verdicts of one replica about one backend, by thresholds as `model::Thresholds` displays them.
pub type Verdicts = BTreeMap<Arc<str>, ObserverVerdict>;

/// Verdicts about each backend of which not every verdict is Healthy.
pub type BackendVerdicts = BTreeMap<ObjectKey, Verdicts>;

/// Namespaces of which nothing is said.
pub type Namespaces = BTreeSet<Arc<str>>;

/// Report of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ObserverReport {
    /// The replica has not yet observed every backend once, and says of no namespace that it has.
    Incomplete,
    /// The replica has more verdicts than fit, and says of no namespace that these are all.
    Truncated,
    /// Every backend that it does not see healthy, of the namespaces that it says anything about.
    Complete {
        /// The verdicts about each of them.
        reported: BackendVerdicts,
        /// Highest `resourceVersion` of the backends that it knows; `None` from a version that does not say it.
        known_up_to: Option<ResourceVersion>,
        /// Namespaces of which it says nothing.
        silent: Namespaces,
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
    /// Namespaces of which the report says nothing. With any, it is not `complete` or it is `truncated`.
    // An earlier version of the reader, which would take silence for health, then leaves the whole report out.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    silent: Namespaces,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    backends: ReportedBackends,
}

type ReportedBackends = BTreeMap<String, BTreeMap<String, ReportedVerdict>>;

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
    /// Results in a row at probes that the replicas share out.
    // A report without them, of an older version, tells of its verdict alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<ReportedRun>,
    /// Summary of the writer's evidence, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportedRun {
    probe: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    failing: bool,
    count: u32,
    /// True if it contradicts what the writer has heard of another replica.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    contradicts: bool,
}

impl ObserverReport {
    /// Renders a report as text. Returns its extent, too. `awaited` are the namespaces in which a backend has not been
    /// observed yet; `None` if that is not known.
    pub(super) fn of(
        awaited: Option<&Namespaces>,
        reported: &BackendVerdicts,
        known_up_to: Option<&ResourceVersion>,
    ) -> (String, Extent) {
        let Some(awaited) = awaited else {
            return (json(&ReportDocument::default()), Extent::Incomplete);
        };
        let Some(Selection { told, verdicts, crowded }) = Selection::of(awaited, reported) else {
            // There is not even room for the names of the namespaces.
            let (complete, truncated) = (awaited.is_empty(), awaited.is_empty());
            let extent = if truncated { Extent::Truncated } else { Extent::Incomplete };
            return (json(&ReportDocument { complete, truncated, ..ReportDocument::default() }), extent);
        };
        let extent = Extent::Complete { verdicts, awaited: awaited.len(), crowded: crowded.len() };
        let document = ReportDocument {
            complete: awaited.is_empty(),
            truncated: !crowded.is_empty(),
            known_up_to: known_up_to.map(ToString::to_string),
            silent: awaited.union(&crowded).cloned().collect(),
            backends: told,
        };
        (json(&document), extent)
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
        let ReportDocument { complete, truncated, known_up_to, silent, backends } = serde_json::from_str(text)?;
        if silent.is_empty() && truncated {
            return Ok(Self::Truncated);
        }
        if silent.is_empty() && !complete {
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
        Ok(Self::Complete { reported, known_up_to: ResourceVersion::parse(known_up_to.as_deref()).ok(), silent })
    }
}

/// Verdicts that a report has room for.
struct Selection {
    told: ReportedBackends,
    verdicts: usize,
    /// Namespaces that there is no room for.
    crowded: Namespaces,
}

impl Selection {
    /// Fills a report with whole namespaces, those with the shortest verdicts first. `None` if there is no room for the
    /// names of the others.
    fn of(awaited: &Namespaces, reported: &BackendVerdicts) -> Option<Self> {
        let mut by_namespace: BTreeMap<&Arc<str>, NamespacePart> = BTreeMap::new();
        for (key, verdicts) in reported.iter().filter(|(key, _)| !awaited.contains(&key.namespace)) {
            let part = by_namespace.entry(&key.namespace).or_default();
            part.add(key.to_string(), entries(verdicts));
        }
        let mut room = MAX_BYTES - HEAD;
        for name in awaited.iter().chain(by_namespace.keys().copied()) {
            room = room.checked_sub(name.len() + EXTRA)?;
        }
        let mut parts: Vec<_> = by_namespace.into_iter().collect();
        // Sorting is stable: of equals the first by name.
        parts.sort_by_key(|(_, part)| part.bytes);
        let mut selection = Self { told: BTreeMap::new(), verdicts: 0, crowded: Namespaces::new() };
        for (name, part) in parts {
            let has_room =
                |part: &NamespacePart| part.bytes <= room && selection.verdicts + part.verdicts <= MAX_VERDICTS;
            let part = if has_room(&part) { part } else { part.without_healthy() };
            let is_told = has_room(&part);
            let NamespacePart { bytes, verdicts, backends } = part;
            if is_told {
                room -= bytes;
                selection.verdicts += verdicts;
                selection.told.extend(backends);
            } else {
                selection.crowded.insert(name.clone());
            }
        }
        Some(selection)
    }
}

/// Verdicts about the backends of one namespace.
#[derive(Default)]
struct NamespacePart {
    bytes: usize,
    verdicts: usize,
    backends: Vec<(String, BTreeMap<String, ReportedVerdict>)>,
}

impl NamespacePart {
    fn add(&mut self, name: String, entries: BTreeMap<String, ReportedVerdict>) {
        self.bytes += name.len() + EXTRA + serde_json::to_string(&entries).map_or(0, |text| text.len());
        self.verdicts += entries.len().max(1);
        self.backends.push((name, entries));
    }

    /// The part without backends that are named for their runs only: silence says that they are Healthy.
    // A vote is worth more than a count.
    fn without_healthy(self) -> Self {
        let mut rest = Self::default();
        for (name, entries) in self.backends {
            if entries.is_empty() || entries.values().any(|entry| entry.health != Health::Healthy.as_str()) {
                rest.add(name, entries);
            }
        }
        rest
    }
}

/// Octets of a report beside its lists.
const HEAD: usize = 200;
/// Octets beside a name in a list: quotation marks, colon and comma.
const EXTRA: usize = 4;

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
    Complete {
        verdicts: usize,
        /// Namespaces that are not observed yet.
        awaited: usize,
        /// Namespaces that there was no room for.
        crowded: usize,
    },
}

fn json(document: &ReportDocument) -> String {
    // Maps with text keys, texts and flags always fit into JSON. An empty report would not count.
    serde_json::to_string(document).unwrap_or_default()
}

fn entries(verdicts: &Verdicts) -> BTreeMap<String, ReportedVerdict> {
    verdicts.iter().map(|(thresholds, verdict)| (thresholds.to_string(), entry(verdict))).collect()
}

fn entry(verdict: &ObserverVerdict) -> ReportedVerdict {
    ReportedVerdict {
        health: verdict.health.as_str().to_owned(),
        since: micro_time(verdict.since),
        class: verdict.class.as_str().to_owned(),
        first_failure_at: verdict.first_failure_at.map(micro_time),
        confirms: verdict.confirms.iter().map(ToString::to_string).collect(),
        runs: verdict.runs.iter().map(run).collect(),
        message: truncated(&verdict.message, MAX_WORDS),
    }
}

fn run(SharedRun { probe, is_failing, count, contradicts }: &SharedRun) -> ReportedRun {
    ReportedRun { probe: probe.to_string(), failing: *is_failing, count: *count, contradicts: *contradicts }
}

fn shared_run(ReportedRun { probe, failing, count, contradicts }: ReportedRun) -> SharedRun {
    SharedRun { probe: probe.into(), is_failing: failing, count, contradicts }
}

fn verdict((thresholds, entry): (String, ReportedVerdict)) -> (Arc<str>, ObserverVerdict) {
    let ReportedVerdict { health, since, class, first_failure_at, confirms, runs, message } = entry;
    let verdict = ObserverVerdict {
        health: ALL_HEALTH.into_iter().find(|known| known.as_str() == health).unwrap_or(Health::Unknown),
        since: timestamp(&since),
        class: EvidenceClass::from_name(&class).unwrap_or(EvidenceClass::Inconclusive),
        first_failure_at: first_failure_at.as_ref().map(timestamp),
        confirms: confirms.into_iter().map(Arc::from).collect(),
        runs: runs.into_iter().map(shared_run).collect(),
        message: truncated(&visible(&message), MAX_WORDS).into(),
    };
    (thresholds.into(), verdict)
}

const ALL_HEALTH: [Health; 4] = [Health::Healthy, Health::Degraded, Health::Unknown, Health::Unhealthy];

#[cfg(test)]
#[path = "report_tests.rs"]
pub(super) mod tests;
