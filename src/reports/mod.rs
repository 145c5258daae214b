//! What agents tell the operator of real mail: who may send a report, and the server that takes it.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `directory` | which service account may report on which route | yes |
//! | `rate` | how often one agent may report | yes |
//! | `certificate` | the certificate that a replica shows; agents pin its fingerprint | no: it draws a key |
//! | `token` | who shows a bearer token, by `TokenReview` | no |
//! | `server` | HTTPS, and the order in which a report is checked | no |
//!
//! Every replica takes reports and judges by them, because each may lead next; its observer's Lease says where (`crate::observers`).
//! This module never decides what a report means for a backend (`engine` does), writes nothing to the API server but `TokenReviews`, which it does not
//! keep, and lets no token, mail address or queue id into logs, metrics or answers.

mod certificate;
mod directory;
mod metrics;
mod rate;
mod server;
mod token;

pub use certificate::{Certificate, CertificateError};
pub use directory::{Change, Directory, Rejection, RouteAgents};
pub use metrics::Metrics;
pub use server::{Connections, Server};
pub use token::{Caller, Denial};

use mail_failover_contract::report;
use mail_failover_core::model::{
    Agent, AgentReport, BackendDeliveries, DeliveryVerdict, FailingDeliveries, SwitchedMail, Timestamp,
};

/// A report as it counts from now on: ages are times.
pub fn received(agent: Agent, report: report::Report, now: Timestamp) -> AgentReport {
    let report::Report { api_version: _, route, agent: _, process, sequence, backends, last_switch } = report;
    let run = |failure: report::FailureReport| FailingDeliveries {
        class: failure.class(),
        message: failure.message(),
        first_failure_at: now - report::age(failure.first_milliseconds.max(failure.last_milliseconds)),
        last_failure_at: now - report::age(failure.last_milliseconds),
    };
    let backend = |backend: report::BackendReport| {
        let report::BackendReport { name, word, failure, left, deliveries } = backend;
        let report::DeliveryCounts { sent, deferred, bounced, possible_duplicates } = deliveries;
        let deliveries = BackendDeliveries {
            word: match (word, failure) {
                (report::Word::Failing, Some(failure)) => DeliveryVerdict::Failing(run(failure)),
                (report::Word::Passing, _) => DeliveryVerdict::Passing,
                (report::Word::Failing, None) | (report::Word::Silent, _) => DeliveryVerdict::Silent,
            },
            is_left: left,
            sent,
            deferred,
            bounced,
            possible_duplicates,
        };
        (name.into(), deliveries)
    };
    AgentReport {
        agent,
        route_uid: route.uid,
        process: process.into(),
        sequence,
        backends: backends.into_iter().map(backend).collect(),
        last_switch: last_switch.map(|switch| SwitchedMail {
            transition: switch.transition,
            queue_before: switch.queue_before,
            queue_after: switch.queue_after,
            first_delivery_at: switch.first_delivery.map(|first| now - report::age(first.age_milliseconds)),
            first_delivery_after: switch.first_delivery.map(|first| report::age(first.after_milliseconds)),
            possible_duplicates: switch.possible_duplicates,
        }),
    }
}
