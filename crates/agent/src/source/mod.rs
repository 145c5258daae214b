//! Where documents come from: a `ConfigMap` through the API server, or a file. Either only tells what it finds; whether that is used is
//! decided elsewhere.

mod config_map;
mod file;

use std::fmt;

use tokio::sync::mpsc;

pub use config_map::follow as follow_config_map;
pub use file::follow as follow_file;

/// What waits to be heard; a source waits in its turn when there is more.
pub const QUEUE: usize = 16;

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `ConfigMap namespace/name`.
    ConfigMap(String),
    /// A file's path.
    File(String),
    /// What was kept from before the start.
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

/// What a source has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A document, unread.
    Document(String),
    /// The source is reached, and there is no document.
    Missing(String),
    /// The source is not reached.
    Unreachable(String),
    /// It is reached again, and nothing has changed meanwhile as far as it knows.
    ReachedAgain,
}

/// Who has found what.
pub type Found = (Source, Finding);

/// Tells it, unless nobody listens any more.
async fn tell(findings: &mpsc::Sender<Found>, source: &Source, finding: Finding) -> Result<(), ()> {
    findings.send((source.clone(), finding)).await.map_err(|_closed| ())
}
