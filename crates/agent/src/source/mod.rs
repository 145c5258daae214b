//! Sources of documents: a `ConfigMap` through the API server, or a file. A source only sends events; the core
//! decides on their use.

mod config_map;
mod file;

use std::fmt;

use tokio::sync::mpsc;

pub use config_map::follow as follow_config_map;
pub use file::follow as follow_file;

/// Limit of the events that wait to be taken. A source waits when there are more.
pub const QUEUE: usize = 16;

/// Place from which documents come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentSource {
    /// `ConfigMap`, as `namespace/name`.
    ConfigMap(String),
    /// Path of a file.
    File(String),
    /// Document that was saved before the start.
    Disk(String),
}

impl DocumentSource {
    /// A name for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ConfigMap(_) => "config_map",
            Self::File(_) => "file",
            Self::Disk(_) => "disk",
        }
    }
}

impl fmt::Display for DocumentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Disk(path) => write!(f, "last good document {path}"),
        }
    }
}

/// Event of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Text of a document, not parsed.
    Document(String),
    /// The source is reached, and there is no document.
    Missing(String),
    /// The source is not reached.
    Unreachable(String),
    /// The source is reached again. Nothing has changed meanwhile as far as it knows.
    ReachedAgain,
}

/// Event, with its source.
pub type SourceMessage = (DocumentSource, SourceEvent);

/// Sends an event. Fails if the receiver is gone.
async fn tell(events: &mpsc::Sender<SourceMessage>, source: &DocumentSource, event: SourceEvent) -> Result<(), ()> {
    events.send((source.clone(), event)).await.map_err(|_closed| ())
}
