//! Sources of documents: a `ConfigMap` through the API server, or a file. A source only tells its findings; the core
//! decides on their use.

mod config_map;
mod file;

use std::fmt;

use tokio::sync::mpsc;

pub use config_map::follow as follow_config_map;
pub use file::follow as follow_file;

/// Findings that wait to be taken. A source waits when there are more.
pub const QUEUE: usize = 16;

/// Place from which documents come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `ConfigMap`, as `namespace/name`.
    ConfigMap(String),
    /// Path of a file.
    File(String),
    /// Document that was saved before the start.
    Disk(String),
}

impl Source {
    /// A name for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ConfigMap(_) => "config_map",
            Self::File(_) => "file",
            Self::Disk(_) => "disk",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Disk(path) => write!(f, "last good document {path}"),
        }
    }
}

/// Finding of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Text of a document, not parsed.
    Document(String),
    /// The source is reached, and there is no document.
    Missing(String),
    /// The source is not reached.
    Unreachable(String),
    /// The source is reached again. Nothing has changed meanwhile as far as it knows.
    ReachedAgain,
}

/// Finding, with its source.
pub type Found = (Source, Finding);

/// Sends a finding. Fails if the receiver is gone.
async fn tell(findings: &mpsc::Sender<Found>, source: &Source, finding: Finding) -> Result<(), ()> {
    findings.send((source.clone(), finding)).await.map_err(|_closed| ())
}
