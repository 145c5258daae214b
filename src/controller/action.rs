//! Actions that the controller wants carried out, and their results.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use crate::leader::ClaimLost;
use crate::output::{ObservedOutput, OutputKey, Write};
use crate::watch::{Identified, WatchEvent};
use mail_failover_core::model::{MissingIdentity, ObjectKey, ResourceVersion, Uid};
use mail_failover_runtime::kubernetes::{category, describe};

/// A custom resource that has a status to write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceRef {
    /// Kind of the resource. Resources are reconciled in the order of their kinds, referents before the routes that
    /// refer to them.
    pub kind: ResourceKind,
    /// Namespace and name of the resource.
    pub key: ObjectKey,
}

impl ResourceRef {
    pub(super) fn policy(key: &ObjectKey) -> Self {
        Self { kind: ResourceKind::Policy, key: key.clone() }
    }

    pub(super) fn backend(key: &ObjectKey) -> Self {
        Self { kind: ResourceKind::Backend, key: key.clone() }
    }

    pub(super) fn route(key: &ObjectKey) -> Self {
        Self { kind: ResourceKind::Route, key: key.clone() }
    }
}

/// The kinds of custom resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// A `FailoverPolicy` of any namespace.
    Policy,
    /// A `SendingBackend` of any namespace.
    Backend,
    /// A `MailRoute` of any namespace.
    Route,
}

impl ResourceKind {
    /// Name of the kind in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "FailoverPolicy",
            Self::Backend => "SendingBackend",
            Self::Route => "MailRoute",
        }
    }
}

/// One action on behalf of one resource.
#[derive(Clone, Debug)]
pub enum Action {
    /// Reads the resource afresh.
    // A new leader's watch may lag behind its predecessor's last write, and nothing is written on such a base.
    Confirm,
    /// Merges a patch into the status, on the condition that the object is still this version.
    WriteStatus {
        /// The version that the patch was computed from.
        resource_version: ResourceVersion,
        /// The JSON merge patch `{"status": …}` (RFC 7386).
        patch: Value,
    },
    /// Writes outputs in the given order, up to the first error.
    WriteOutputs {
        /// The `metadata.uid` of the route that owns them.
        owner: Uid,
        /// The writes, in their order.
        writes: Vec<Write>,
    },
    /// Creates the Job of a probe, in place of the one before.
    RunJob {
        /// Name of the probe.
        probe: Arc<str>,
        /// The `metadata.uid` of the Job before, which is over.
        replaces: Option<Uid>,
        /// The Job to create.
        job: Box<Job>,
    },
    /// Publishes Events; one that exists already was published before.
    PublishEvents(Vec<Event>),
}

impl Action {
    /// The name in metric labels and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Confirm => "Confirm",
            Self::WriteStatus { .. } => "WriteStatus",
            Self::WriteOutputs { .. } => "WriteOutputs",
            Self::RunJob { .. } => "RunJob",
            Self::PublishEvents(_) => "PublishEvents",
        }
    }
}

/// An action to be carried out.
#[derive(Clone, Debug)]
pub struct ActionRequest {
    /// Number that the [`ActionResult`] repeats.
    // A result of an earlier term must not be taken for one of a later term.
    pub id: u64,
    /// Resource on whose behalf it is carried out.
    pub resource: ResourceRef,
    /// The action to carry out.
    pub action: Action,
}

/// The end of an action.
#[derive(Debug)]
pub struct ActionResult {
    /// Number of the [`ActionRequest`].
    pub id: u64,
    /// Resource on whose behalf it was carried out.
    pub resource: ResourceRef,
    /// Outcome of the action.
    pub outcome: Result<ActionOutcome, ActionError>,
}

/// Outcome of an action that did not fail.
#[derive(Debug)]
pub enum ActionOutcome {
    /// The resource as it is now: for [`Action::Confirm`], and when another writer was faster.
    Fresh(Box<WatchEvent>),
    /// The status is written, and the object has this version now.
    StatusWritten {
        /// The new `metadata.resourceVersion`.
        resource_version: ResourceVersion,
    },
    /// Every output was written or refused, in the order of the writes.
    OutputsWritten(Vec<(OutputKey, WriteOutcome)>),
    /// The Job of a probe as it is now: created, or found.
    JobObserved(Identified<Job>),
    /// The API server does not accept the Job of a probe.
    JobRefused {
        /// Name of the probe.
        probe: Arc<str>,
        /// The API server's reason, for people.
        message: String,
    },
    /// The Events are published.
    EventsPublished,
}

/// Outcome of the write of one output.
#[derive(Clone, Debug)]
pub enum WriteOutcome {
    /// The object as it is now: written, or found changed by another writer.
    Observed(ObservedOutput),
    /// The object does not exist (any more).
    Gone,
    /// The object belongs to another owner, or the API server does not accept it.
    Refused {
        /// One CamelCase word, for a condition.
        reason: &'static str,
        /// Cause and remedy, for people.
        message: String,
    },
}

/// Failure of an action. The work is computed again from what is persisted; the same action is never repeated blindly.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// This replica is not the leader any more.
    #[error(transparent)]
    NotLeader(#[from] ClaimLost),
    /// The resource does not exist any more.
    #[error("the object is gone")]
    Gone,
    /// The API server did not answer in time.
    #[error("the API server did not answer within {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The API server refused, or could not be reached.
    #[error("{}", message(.0))]
    Api(#[source] Box<kube::Error>),
    /// The API server showed an object without identity.
    // No later write could be conditional on it.
    #[error("the API server's answer cannot be used: {0}")]
    Identity(#[from] MissingIdentity),
    /// An object cannot be written as JSON.
    #[error("the object cannot be written as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
    /// Some outputs were written, and then one failed.
    #[error("{cause}")]
    OutputsIncomplete {
        /// Outcomes of the writes before the one that failed.
        written: Vec<(OutputKey, WriteOutcome)>,
        /// Failure of the first write that failed.
        #[source]
        cause: Box<ActionError>,
    },
}

impl ActionError {
    pub(super) fn api(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }

    /// The label of this error in metrics and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "not_leader",
            Self::Gone => "gone",
            Self::Timeout(_) => "timeout",
            Self::Api(error) => category(error),
            Self::Identity(_) | Self::Serialize(_) => "malformed",
            Self::OutputsIncomplete { cause, .. } => cause.category(),
        }
    }

    /// Returns true if a retry cannot help until something changes that the controller is told of.
    pub fn is_permanent(&self) -> bool {
        match self {
            // A new term, or the watch's deletion, puts the resource into the work queue again.
            Self::NotLeader(_) | Self::Gone => true,
            // ADR-0067: Refused writes are retried with backoff.
            // A missing right or an old schema is mended without any change of the object, so that only a retry can
            // tell.
            Self::Timeout(_) | Self::Api(_) | Self::Identity(_) | Self::Serialize(_) => false,
            Self::OutputsIncomplete { cause, .. } => cause.is_permanent(),
        }
    }
}

/// The API server's own words; without an answer, the cause in one line.
pub(super) fn message(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error { status.message.clone() } else { describe(error) }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use kube::core::Status;

    use super::*;

    fn answered(code: u16) -> ActionError {
        ActionError::api(kube::Error::Api(Box::new(Status { code, message: "no".to_owned(), ..Status::default() })))
    }

    #[test]
    fn an_error_has_a_category_and_keeps_its_cause() {
        for (error, category, is_permanent) in [
            (ActionError::NotLeader(ClaimLost), "not_leader", true),
            (ActionError::Gone, "gone", true),
            (ActionError::Timeout(Duration::from_secs(5)), "timeout", false),
            (answered(403), "forbidden", false),
            (answered(422), "invalid", false),
            (answered(503), "server", false),
        ] {
            let (message, has_source) = (error.to_string(), error.source().is_some());
            assert_eq!((error.category(), error.is_permanent()), (category, is_permanent), "{message}");
            let incomplete = ActionError::OutputsIncomplete { written: vec![], cause: Box::new(error) };
            assert_eq!((incomplete.category(), incomplete.is_permanent()), (category, is_permanent), "{message}");
            assert_eq!(incomplete.to_string(), message);
            assert!(incomplete.source().is_some_and(|cause| cause.source().is_some() == has_source));
        }
        assert_eq!(answered(503).to_string(), "no");
        assert_eq!(ActionError::NotLeader(ClaimLost).to_string(), "the leader's claim is lost");
    }
}
