//! Sources of documents: a `ConfigMap` through the API server, or a file. A source only sends events; the core
//! decides on their use.

#[allow(clippy::doc_markdown, reason = "its comments are the help of the command line")]
mod arguments;
mod config_map;
mod file;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mail_failover_contract::document::KEY;
use mail_failover_core::model::SharedError;
use tokio::sync::mpsc;

pub use arguments::SourceArguments;
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

/// A namespaced object: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectReference {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Error of a reference that lacks a part.
#[derive(Debug, thiserror::Error)]
#[error("give namespace and name, such as shop/orders-agent")]
pub struct IncompleteReference;

impl FromStr for ObjectReference {
    type Err = IncompleteReference;

    fn from_str(text: &str) -> Result<Self, IncompleteReference> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            Some(_) | None => Err(IncompleteReference),
        }
    }
}

/// Event of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Text of a document, not parsed.
    Document(String),
    /// The source is reached, and there is no document.
    Missing(NoDocument),
    /// The source is not reached.
    Unreachable(SourceError),
    /// The source is reached again. Nothing has changed meanwhile as far as it knows.
    ReachedAgain,
}

/// Reason why a source that is reached has no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDocument {
    /// The `ConfigMap` does not exist.
    #[error("there is no ConfigMap {0}")]
    NoConfigMap(String),
    /// The `ConfigMap` was deleted.
    #[error("it was deleted")]
    Deleted,
    /// The `ConfigMap` has no document under the key.
    #[error("it has no key {KEY}")]
    NoKey,
    /// The object is no `ConfigMap` that can be read.
    #[error(transparent)]
    Malformed(SharedError),
    /// The file does not exist.
    #[error("there is no such file")]
    NoFile,
    /// The file is no text.
    #[error("it is no UTF-8")]
    NotUtf8,
}

/// Reason why a source is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The watch failed.
    #[error("{text}")]
    Watch {
        /// Failure and remedy, for people.
        text: String,
        /// Error of the watch.
        #[source]
        cause: SharedError,
    },
    /// The file system does not answer.
    #[error("it has not been read within {} s", .0.as_secs())]
    Slow(Duration),
    /// The file may not be read.
    #[error("{cause}; the agent runs as uid {uid}, which must be able to read it")]
    Denied {
        /// User that the agent runs as.
        uid: u32,
        /// Error of the read.
        #[source]
        cause: SharedError,
    },
    /// The file cannot be read for another reason.
    #[error(transparent)]
    Io(SharedError),
}

/// Event, with its source.
pub type SourceMessage = (DocumentSource, SourceEvent);

/// Sends an event. Fails if the receiver is gone.
async fn tell(events: &mpsc::Sender<SourceMessage>, source: &DocumentSource, event: SourceEvent) -> Result<(), ()> {
    events.send((source.clone(), event)).await.map_err(|_closed| ())
}
