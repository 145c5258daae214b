//! Failures of a connection to a backend, and what a transaction is told of them.

use std::io;

use mail_failover_contract::routing::NextHop;
use mail_failover_core::model::{EvidenceClass, Stage};
use mail_failover_replies::Rulebook;
use mail_failover_runtime::dial_guard::DialRefusal;
use mail_failover_smtp::classify::session_class;
use mail_failover_smtp::client::SessionError;
use mail_failover_smtp::connect::classify_io;
use mail_failover_smtp::dialogue::answered;
use mail_failover_smtp::login::without;
use mail_failover_smtp::message::printable;
use mail_failover_smtp::reply::Reply;

use super::connection::Target;
use super::resolver::LookUpError;
use crate::core::transaction::OperationFailure;

/// Reason for which there is no connection to a backend.
pub struct ConnectFailure {
    /// What a transaction is told.
    pub failure: OperationFailure,
    /// The mistake in the host of the backend, if it is one.
    pub wrong_host: Option<WrongHost>,
}

/// Mistake in the host of a backend: whatever its server says, no message can go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongHost {
    /// The server is a relay of this route: the backend leads back to where messages come from.
    LeadsBack,
    /// The host has no address but those that nothing of ours connects to.
    Refused,
}

impl ConnectFailure {
    /// The failure of a backend whose addresses are all refused.
    pub(super) fn of_guard(refusal: &DialRefusal) -> Self {
        let failure = OperationFailure {
            class: EvidenceClass::Inconclusive,
            stage: Stage::Connect,
            refusal: None,
            summary: printable(&refusal.to_string()).into(),
            is_own: true,
        };
        Self { failure, wrong_host: Some(WrongHost::Refused) }
    }
}

impl From<OperationFailure> for ConnectFailure {
    fn from(failure: OperationFailure) -> Self {
        Self { failure, wrong_host: None }
    }
}

/// Failure of a step, before it is told in words.
pub(super) enum Failure {
    Session(SessionError),
    /// The server is a relay of this route.
    LeadsBack,
    Handshake {
        class: EvidenceClass,
        what: String,
    },
    Io {
        class: EvidenceClass,
        what: String,
    },
}

// ADR-0201: A relay knows the relays of its own route.
fn leads_back(target: &Target) -> String {
    let NextHop { host, port } = &target.next_hop;
    format!("{host} at port {port} is a relay of this route; give the backend the host of a provider")
}

pub(super) fn look_up_failure(next_hop: &NextHop, error: &LookUpError) -> OperationFailure {
    let class = match error {
        LookUpError::NoAnswer => EvidenceClass::Inconclusive,
        LookUpError::Refused(_) | LookUpError::None => EvidenceClass::Unresolvable,
    };
    OperationFailure {
        class,
        stage: Stage::Resolve,
        refusal: None,
        summary: printable(&format!("{} cannot be looked up: {error}", next_hop.host)).into(),
        is_own: false,
    }
}

impl Failure {
    /// The failure of a connection that was to be made.
    pub(super) fn of_connecting(self, stage: Stage, target: &Target, rulebook: &Rulebook) -> ConnectFailure {
        let wrong_host = matches!(self, Self::LeadsBack).then_some(WrongHost::LeadsBack);
        ConnectFailure { failure: self.told(stage, stage.as_str(), target, rulebook), wrong_host }
    }

    /// The failure with the stage that the session has reached, and the step at which it failed.
    pub(super) fn told(self, stage: Stage, step: &str, target: &Target, rulebook: &Rulebook) -> OperationFailure {
        let (class, what, refusal) = match self {
            Self::Handshake { class, what } | Self::Io { class, what } => (class, what, None),
            Self::LeadsBack => (EvidenceClass::Inconclusive, leads_back(target), None),
            Self::Session(SessionError::Refused(reply)) => {
                let reading = rulebook.read(&mail_failover_replies::Reply {
                    stage: Some(answered(stage)),
                    code: reply.code,
                    enhanced: reply.enhanced(),
                    text: &reply.text,
                });
                (reading.class, reply.line(), Some(hidden(target, reply)))
            }
            Self::Session(error) => (session_class(&error), error.to_string(), None),
        };
        let what = target.login.as_deref().map_or(what.clone(), |login| without(login, &what));
        let summary = printable(&format!("{step}: {what}")).into();
        // A server without a mechanism of ours, and our own lateness, say nothing about it.
        let is_own = matches!(class, EvidenceClass::Inconclusive | EvidenceClass::ProbeBlocked);
        OperationFailure { class, stage, refusal, summary, is_own }
    }
}

/// The reply without any part of the login.
pub(super) fn hidden(target: &Target, reply: Reply) -> Reply {
    match target.login.as_deref() {
        Some(login) => Reply { text: without(login, &reply.text), ..reply },
        None => reply,
    }
}

pub(super) fn io_failure(error: &io::Error) -> Failure {
    let (class, what) = classify_io(error);
    Failure::Io { class, what }
}
