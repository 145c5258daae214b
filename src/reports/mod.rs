//! Reports of agents to the operator about real mail: the right to send them, and the server that takes them.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `directory` | which service account may report on which route | yes |
//! | `rate` | how often one agent may report, and how many tokens are reviewed | yes |
//! | `claims` | what a token says of itself, before it is reviewed | yes |
//! | `certificate` | the certificate that a replica shows; agents pin its fingerprint | no: it draws a key |
//! | `token` | who shows a bearer token, by `TokenReview` | no |
//! | `server` | HTTPS, and the order in which a report is checked | no |
//!
//! Every replica takes reports and judges by them, because each may lead next. The Lease of its observer names its
//! address (`crate::observers`). This module does not decide what a report means for a backend (`engine` does). It
//! creates only `TokenReviews`, which the API server does not keep, and lets no token, mail address or queue id into
//! logs, metrics or answers.

mod certificate;
mod claims;
mod directory;
mod metrics;
mod rate;
mod server;
mod token;

pub use certificate::{CertificateError, ServerCertificate};
pub use directory::{AgentsChange, Directory, NotPermitted, RouteAgents};
pub use metrics::ReportMetrics;
pub use server::{ReportConnections, ReportServer};
pub use token::{Caller, Denial};

use mail_failover_contract::report;
use mail_failover_core::model::{
    Agent, AgentReport, BackendDeliveries, DeliveryVerdict, DrilledMail, FailingDeliveries, KeptMail, QueuedMail,
    SwitchedMail, ThrottledDeliveries, Timestamp,
};
use std::sync::Arc;
use std::time::Duration;

/// Limit of the age of a message, beyond Postfix's `maximal_queue_lifetime`.
const MAX_QUEUE_LIFETIME: Duration = Duration::from_hours(24 * 100);

/// Converts a received report; ages become absolute timestamps.
pub fn received(agent: Agent, report: report::DeliveryReport, now: Timestamp) -> AgentReport {
    let report::DeliveryReport {
        api_version: _,
        route,
        agent: _,
        process,
        sequence,
        tells_accounts_apart,
        backends,
        last_switch,
        kept,
        queue,
        drill,
    } = report;
    AgentReport {
        agent,
        route_uid: route.uid,
        process: process.into(),
        sequence,
        tells_accounts_apart,
        backends: backends.into_iter().map(|backend| deliveries(backend, now)).collect(),
        last_switch: last_switch.map(|switch| SwitchedMail {
            transition: switch.transition,
            queue_before: switch.queue_before,
            queue_after: switch.queue_after,
            first_delivery_at: switch.first_delivery.map(|first| now - report::age(first.age_milliseconds)),
            first_delivery_after: switch.first_delivery.map(|first| report::age(first.after_milliseconds)),
            possible_duplicates: switch.possible_duplicates,
        }),
        kept: kept.map(|kept| KeptMail {
            messages: kept.messages,
            // Mail may be older than the other ages that a report holds: five days by default.
            oldest_at: now - Duration::from_millis(kept.oldest_milliseconds).min(MAX_QUEUE_LIFETIME),
            about: kept.about.into(),
            backend: kept.backend.into(),
        }),
        queue: queue.map(|queue| QueuedMail {
            messages: queue.messages,
            oldest_at: queue
                .oldest_milliseconds
                .map(|oldest| now - Duration::from_millis(oldest).min(MAX_QUEUE_LIFETIME)),
        }),
        drill: drill.map(|drill| drilled(&drill, now)),
    }
}

fn drilled(drill: &report::DrillReport, now: Timestamp) -> DrilledMail {
    DrilledMail {
        id: drill.id.as_str().into(),
        state: drill.state(),
        refused: drill.refused,
        carried: drill.carried,
        let_through: drill.let_through,
        began_at: now - report::age(drill.begun_milliseconds),
        first_delivery_after: drill.first_delivery_milliseconds.map(report::age),
    }
}

fn deliveries(backend: report::BackendReport, now: Timestamp) -> (Arc<str>, BackendDeliveries) {
    let report::BackendReport { name, verdict, failure, throttling, bypassed, deliveries } = backend;
    let report::DeliveryCounts { sent, deferred, bounced, possible_duplicates, diverted } = deliveries;
    let deliveries = BackendDeliveries {
        verdict: match (verdict, failure, throttling) {
            (report::ReportedVerdict::Failing, Some(failure), _) => DeliveryVerdict::Failing(failing(&failure, now)),
            (report::ReportedVerdict::Passing | report::ReportedVerdict::Silent, _, Some(throttling)) => {
                DeliveryVerdict::Throttled(throttled(&throttling, now))
            }
            (report::ReportedVerdict::Passing, _, None) => DeliveryVerdict::Passing,
            (report::ReportedVerdict::Failing, None, _) | (report::ReportedVerdict::Silent, _, None) => {
                DeliveryVerdict::Silent
            }
        },
        is_bypassed: bypassed,
        sent,
        deferred,
        bounced,
        possible_duplicates,
        diverted,
    };
    (name.into(), deliveries)
}

fn throttled(throttling: &report::ThrottlingReport, now: Timestamp) -> ThrottledDeliveries {
    let report::ThrottlingReport { message, first_milliseconds, last_milliseconds } = throttling;
    ThrottledDeliveries {
        message: message.as_str().into(),
        first_at: now - report::age(*first_milliseconds.max(last_milliseconds)),
        last_at: now - report::age(*last_milliseconds),
    }
}

fn failing(failure: &report::FailureReport, now: Timestamp) -> FailingDeliveries {
    FailingDeliveries {
        class: failure.class(),
        message: failure.message(),
        first_failure_at: now - report::age(failure.first_milliseconds.max(failure.last_milliseconds)),
        last_failure_at: now - report::age(failure.last_milliseconds),
        stage: failure.stage(),
    }
}
