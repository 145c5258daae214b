//! What the controller wants done, and what came of it.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use super::input::Input;
use crate::output::{Output, OutputKey, Write};
use mail_failover_core::model::ObjectKey;

/// A custom resource that has a status to write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Its kind; in this order subjects are evaluated, so that what a route refers to is looked at before the route.
    pub kind: SubjectKind,
    /// Its namespace and name.
    pub key: ObjectKey,
}

/// The kinds of custom resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// `FailoverPolicy`.
    Policy,
    /// `SendingBackend`.
    Backend,
    /// `MailRoute`.
    Route,
}

impl SubjectKind {
    /// The Kubernetes kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "FailoverPolicy",
            Self::Backend => "SendingBackend",
            Self::Route => "MailRoute",
        }
    }
}

/// One step for one subject.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read the subject afresh: a new leader's watch may lag behind its predecessor's last write.
    Confirm,
    /// Merge this into the status, on the condition that the object is still this version.
    WriteStatus {
        /// The version.
        resource_version: String,
        /// `{"status": …}`.
        patch: Value,
    },
    /// Write these outputs, in this order.
    WriteOutputs {
        /// The uid of the route that owns them.
        owner_uid: String,
        /// The writes.
        writes: Vec<Write>,
    },
    /// Create the Job of a probe, in place of the one before.
    RunJob {
        /// Of which probe.
        probe: Arc<str>,
        /// The uid of the one before, which is over.
        replaces: Option<String>,
        /// The Job.
        job: Box<Job>,
    },
    /// Publish these Events; one that exists already has been published before.
    PublishEvents(Vec<Event>),
}

impl Step {
    /// The name used in metric labels and logs.
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

/// A step to be carried out.
#[derive(Clone, Debug)]
pub struct Task {
    /// Told in [`Done`], so that the answer to a step of an earlier term is not taken for that of a later one.
    pub id: u64,
    /// Whose.
    pub subject: Subject,
    /// What.
    pub step: Step,
}

/// A step is over.
#[derive(Debug)]
pub struct Done {
    /// Of the task.
    pub id: u64,
    /// Whose.
    pub subject: Subject,
    /// What came of it.
    pub result: Result<StepResult, StepError>,
}

/// What came of a step.
#[derive(Debug)]
pub enum StepResult {
    /// The subject as it is now: for [`Step::Confirm`], and when somebody else had written before us.
    Fresh(Box<Input>),
    /// The status is written; the object has this version and generation now.
    StatusWritten {
        /// `metadata.resourceVersion`.
        resource_version: String,
    },
    /// What became of each output, up to the first error.
    OutputsWritten {
        /// In the order of the writes.
        outcomes: Vec<(OutputKey, WriteOutcome)>,
        /// Why the rest was not written.
        error: Option<StepError>,
    },
    /// The Job of a probe as it is now: created, or found.
    JobObserved(Box<Job>),
    /// The API server does not take the Job of a probe.
    JobRefused {
        /// Of which probe.
        probe: Arc<str>,
        /// Why, for people.
        message: String,
    },
    /// The Events are published.
    EventsPublished,
}

/// What became of one output.
#[derive(Clone, Debug)]
pub enum WriteOutcome {
    /// It is now as given: written, or found changed by somebody else.
    Observed(Output),
    /// It does not exist (any more).
    Gone,
    /// It belongs to somebody else, or the API server does not accept it.
    Refused {
        /// One CamelCase word.
        reason: &'static str,
        /// What and why, for people.
        message: String,
    },
}

/// Why a step failed. Whatever was not done is worked out again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// This replica is not the leader any more.
    #[error("the leader's claim is lost")]
    ClaimLost,
    /// The subject does not exist any more.
    #[error("the object is gone")]
    Gone,
    /// The API server refused or did not answer.
    #[error("{0}")]
    Api(String),
}
