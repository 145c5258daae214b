//! Rules on timeouts and pauses: a dead backend must not hold mail for long.

use std::time::Duration;

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::finding::ConfigFindings;
use super::super::wanted::{IMPLICIT_TLS_SERVICE, Section, parameters};
use super::CheckContext;

pub(super) static GREETING_TIMEOUT_LONG: Rule = Rule {
    code: "GreetingTimeoutLong",
    severity: Severity::Error,
    broken_when: "a server that accepts connections and stays silent holds each delivery for minutes",
};
pub(super) static GREETING_TIMEOUT_SHORT: Rule = Rule {
    code: "GreetingTimeoutShort",
    severity: Severity::Warning,
    broken_when: "a server that delays its greeting, or a refusal, is taken for a dead one",
};
pub(super) static STAGE_TIMEOUT_LONG: Rule = Rule {
    code: "StageTimeoutLong",
    severity: Severity::Warning,
    broken_when: "a server that hangs at some other stage does",
};
pub(super) static FINAL_TIMEOUT_SHORT: Rule = Rule {
    code: "FinalTimeoutShort",
    severity: Severity::Warning,
    broken_when: "Postfix gives up so early on messages that were sent whole that they are delivered twice",
};
pub(super) static BACKOFF_LONG: Rule = Rule {
    code: "BackoffLong",
    severity: Severity::Warning,
    broken_when: "a next hop that failed, or a deferred message, is not tried again for minutes",
};
pub(super) static QUEUE_LIFETIME_SHORT: Rule = Rule {
    code: "QueueLifetimeShort",
    severity: Severity::Warning,
    broken_when: "mail bounces within an outage that could end",
};
pub(super) static CONNECTIONS_KEPT_LONG: Rule = Rule {
    code: "ConnectionsKeptLong",
    severity: Severity::Hint,
    broken_when: "connections outlive the password or TLS policy with which they were opened",
};
pub(super) static CONNECTIONS_CACHED: Rule = Rule {
    code: "ConnectionsCached",
    severity: Severity::Warning,
    broken_when: "messages of a burst that a backend refuses after their data are not offered to the next backend",
};
pub(super) static MANY_ADDRESSES: Rule = Rule {
    code: "ManyAddresses",
    severity: Severity::Warning,
    broken_when: "a backend with many addresses that are silent costs the timeout of each before the next backend is tried",
};
pub(super) static OVERRIDDEN_BY_SERVICE: Rule = Rule {
    code: "OverriddenByService",
    severity: Severity::Warning,
    broken_when: "master.cf overrides a parameter that failover needs",
};

/// Limit of `smtp_helo_timeout`.
// With a longer one, a hung server costs more than the probes of the operator need to see it.
const GREETING: Duration = Duration::from_secs(30);
/// Least `smtp_helo_timeout`.
// postscreen(8) delays its greeting by 6 s for clients that it does not know, and Exchange each refusal by 5 s.
const GREETING_AT_LEAST: Duration = Duration::from_secs(10);
/// Stages after the greeting, with the longest useful time of each in seconds.
const STAGES: [(&str, u64, &str); 5] = [
    ("smtp_connect_timeout", 15, "a host that is gone"),
    ("smtp_starttls_timeout", 30, "a server that hangs in the TLS handshake"),
    ("smtp_mail_timeout", 60, "a server that hangs after MAIL or AUTH"),
    ("smtp_rcpt_timeout", 60, "a server that hangs after RCPT"),
    ("smtp_data_init_timeout", 60, "a server that hangs after DATA"),
];
/// Least `smtp_data_done_timeout`.
// RFC 5321, 4.5.3.2.6, wants ten minutes; a server that has not answered by half of them will not.
const FINAL: Duration = Duration::from_mins(5);
/// Limit for the pauses that Postfix makes by itself between two flushes of ours.
const BACKOFF: Duration = Duration::from_mins(2);
/// An outage over a night and a morning.
const LIFETIME: Duration = Duration::from_hours(12);
/// Limit of the addresses of a backend that a message tries.
// One of each family: a host without IPv6 must not lose its only IPv4 address.
const MOST_ADDRESSES: u32 = 2;
/// Default of Postfix for reusing a connection.
const REUSE: Duration = Duration::from_mins(5);

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    greeting(subject, findings);
    stages(subject, findings);
    last_reply(subject, findings);
    backoff(subject, findings);
    lifetime(subject, findings);
    connections(subject, findings);
    next_backend(subject, findings);
    services(subject, findings);
}

/// Returns a parameter's time if it is above a bound. In none of these parameters 0 means no limit.
fn above(subject: CheckContext<'_>, parameter: &str, bound: Duration) -> Option<Duration> {
    subject.configuration.duration(parameter).filter(|value| *value > bound)
}

fn greeting(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "smtp_helo_timeout";
    if let Some(timeout) = above(subject, parameter, GREETING) {
        let message = format!(
            "a server that accepts connections and stays silent holds each delivery for {timeout:?}, and the agent learns of it no earlier; \
             with 20 deliveries at a time the queue stands still"
        );
        findings.add(
            &GREETING_TIMEOUT_LONG,
            parameter,
            message,
            format!("{parameter} = {}", subject.wanted(parameter)),
        );
    }
    if let Some(timeout) = subject.configuration.duration(parameter).filter(|timeout| *timeout < GREETING_AT_LEAST) {
        let message = format!(
            "a server that delays its greeting by more than {timeout:?} is taken for a dead one: postscreen(8) takes 6s for clients that it does not know, and Exchange 5s for each refusal"
        );
        findings.add(
            &GREETING_TIMEOUT_SHORT,
            parameter,
            message,
            format!("{parameter} = {}", subject.wanted(parameter)),
        );
    }
}

fn stages(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    for (parameter, seconds, who) in STAGES {
        if parameter == "smtp_starttls_timeout" && !subject.setup.tls {
            continue;
        }
        if let Some(timeout) = above(subject, parameter, Duration::from_secs(seconds)) {
            let message = format!("{who} holds each delivery for {timeout:?}, and the agent learns of it no earlier");
            findings.add(
                &STAGE_TIMEOUT_LONG,
                parameter,
                message,
                format!("{parameter} = {}", subject.wanted(parameter)),
            );
        }
    }
}

fn last_reply(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "smtp_data_done_timeout";
    if let Some(timeout) = subject.configuration.duration(parameter).filter(|timeout| *timeout < FINAL) {
        let message = format!(
            "a server that takes a message and needs more than {timeout:?} to say so has it, and another gets it as well"
        );
        findings.add(
            &FINAL_TIMEOUT_SHORT,
            parameter,
            message,
            format!("{parameter} = 600s, as RFC 5321, 4.5.3.2.6, has it"),
        );
    }
}

fn backoff(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    for (parameter, what) in [
        ("minimal_backoff_time", "a next hop that failed, and each message that was deferred, is left alone"),
        ("queue_run_delay", "the deferred queue is not looked at"),
    ] {
        if let Some(time) = above(subject, parameter, BACKOFF) {
            let message =
                format!("{what} for {time:?}, unless the agent flushes; when the only backend recovers, nobody does");
            findings.add(&BACKOFF_LONG, parameter, message, format!("{parameter} = {}", subject.wanted(parameter)));
        }
    }
}

fn lifetime(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "maximal_queue_lifetime";
    if let Some(lifetime) = subject.configuration.duration(parameter).filter(|lifetime| *lifetime < LIFETIME) {
        let message = format!("when no backend can deliver for {lifetime:?}, what is queued bounces");
        findings.add(&QUEUE_LIFETIME_SHORT, parameter, message, format!("{parameter} = 5d, Postfix's default"));
    }
}

fn connections(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "smtp_connection_reuse_time_limit";
    if let Some(limit) = above(subject, parameter, REUSE) {
        let message = format!(
            "a connection is used for up to {limit:?}, with the password and TLS policy with which it was opened"
        );
        findings.add(&CONNECTIONS_KEPT_LONG, parameter, message, format!("{parameter} = 300s, Postfix's default"));
    }
    let parameter = "smtp_connection_cache_destinations";
    let destinations = subject.configuration.value(parameter);
    if !destinations.is_empty() {
        let message = format!(
            "connections to {destinations} are kept while there is no mail for them, and the first message after a pause meets one that \
             may have died"
        );
        let remedy = format!("{parameter} =");
        findings.add(&CONNECTIONS_KEPT_LONG, parameter, message, remedy);
    }
}

/// Checks what keeps a message from the next backend of its list.
fn next_backend(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "smtp_connection_cache_on_demand";
    if subject.configuration.is_on(parameter) {
        let message = "with cached connections, messages of a burst that a backend refuses after their data are deferred (`server unavailable or \
                       unable to receive mail`) and wait, though the next backend of their list would take them";
        findings.add(&CONNECTIONS_CACHED, parameter, message, format!("{parameter} = no"));
    }
    let parameter = "smtp_mx_address_limit";
    let limit = subject.configuration.value(parameter);
    if limit.parse::<u32>().is_ok_and(|limit| limit == 0 || limit > MOST_ADDRESSES) {
        let addresses = if limit == "0" { "all addresses".to_owned() } else { format!("up to {limit} addresses") };
        let message = format!(
            "a message waits for the timeout of {addresses} of a silent backend before the next backend is tried"
        );
        findings.add(&MANY_ADDRESSES, parameter, message, format!("{parameter} = {MOST_ADDRESSES}"));
    }
}

/// Checks the parameters of smtp(8) that the two services override.
fn services(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    for name in ["smtp", IMPLICIT_TLS_SERVICE] {
        let Some(service) = subject.configuration.service(name, "unix") else { continue };
        let wanted = parameters(subject.setup).into_iter().flat_map(|Section { parameters, .. }| parameters);
        let of_the_client = wanted.filter(|parameter| parameter.name.starts_with("smtp_"));
        let avoided = ["smtp_fallback_relay", "smtp_reply_filter", "soft_bounce"].map(|name| (name, String::new()));
        for (parameter, wanted) in of_the_client.map(|parameter| (parameter.name, parameter.value)).chain(avoided) {
            let Some(value) = service.overrides.get(parameter).filter(|value| **value != wanted) else { continue };
            let message = format!("-o {parameter}={value} has the last word for mail to backends");
            findings.add(
                &OVERRIDDEN_BY_SERVICE,
                format!("{name}/unix"),
                message,
                format!("remove -o {parameter}={value}"),
            );
        }
    }
}
