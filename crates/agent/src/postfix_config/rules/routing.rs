//! Rules on routing: Postfix asks the agent, and nothing else sends mail somewhere.

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::arguments::RoutingKey;
use super::super::finding::ConfigFindings;
use super::super::wanted::IMPLICIT_TLS_SERVICE;
use super::CheckContext;
use super::tables::Table;

pub(super) static ROUTING_NOT_ASKED: Rule = Rule {
    code: "RoutingNotAsked",
    severity: Severity::Error,
    broken_when: "Postfix does not ask the agent where mail goes",
};
pub(super) static ROUTING_NOT_FIRST: Rule = Rule {
    code: "RoutingNotFirst",
    severity: Severity::Warning,
    broken_when: "another table may answer before the agent is asked",
};
pub(super) static CATCH_ALL_FIRST: Rule = Rule {
    code: "CatchAllFirst",
    severity: Severity::Error,
    broken_when: "a table that answers everything stands before the agent's",
};
pub(super) static CATCH_ALL_AFTER: Rule = Rule {
    code: "CatchAllAfter",
    severity: Severity::Warning,
    broken_when: "a table that answers everything stands after the agent's, and so answers for local domains",
};
pub(super) static OVERRIDDEN_BY_TRANSPORT: Rule = Rule {
    code: "OverriddenByTransport",
    severity: Severity::Error,
    broken_when: "mail is routed by sender, and transport_maps, which has precedence, may answer",
};
pub(super) static FALLBACK_RELAY: Rule = Rule {
    code: "FallbackRelay",
    severity: Severity::Error,
    broken_when: "smtp_fallback_relay sends mail on by itself when a backend fails",
};
pub(super) static NEXT_HOP_LIST: Rule = Rule {
    code: "NextHopList",
    severity: Severity::Warning,
    broken_when: "a route names several next hops, which Postfix tries in turn without memory",
};
pub(super) static ROUTE_WITHOUT_FAILOVER: Rule = Rule {
    code: "RouteWithoutFailover",
    severity: Severity::Hint,
    broken_when: "a route of main.cf is in force only where the agent gives no answer",
};
pub(super) static NEEDS_RELOAD: Rule = Rule {
    code: "NeedsReload",
    severity: Severity::Warning,
    broken_when: "a routing table is of a type whose changes wait for a reload",
};
pub(super) static TRANSPORT_DEFERRED: Rule = Rule {
    code: "TransportDeferred",
    severity: Severity::Error,
    broken_when: "defer_transports keeps the mail of a transport that the agent uses",
};
pub(super) static CONTENT_FILTER: Rule = Rule {
    code: "ContentFilter",
    severity: Severity::Hint,
    broken_when: "a content filter takes mail before it is routed",
};

/// Parameters that name routing tables.
const ROUTING_TABLES: [&str; 3] =
    ["transport_maps", "sender_dependent_default_transport_maps", "sender_dependent_relayhost_maps"];

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    asked(subject, findings);
    overridden(subject, findings);
    fallback(subject, findings);
    other_routes(subject, findings);
    tables_that_need_a_reload(subject, findings);
    deferred(subject, findings);
    filtered(subject, findings);
}

/// Returns the parameter by which the agent is asked, and its map.
fn asked_by(subject: CheckContext<'_>) -> (&'static str, String) {
    match subject.setup.by {
        RoutingKey::Recipient => ("transport_maps", subject.setup.map("transport")),
        RoutingKey::Sender => ("sender_dependent_default_transport_maps", subject.setup.map("sender-transport")),
    }
}

fn asked(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let (parameter, ours) = asked_by(subject);
    let tables = subject.configuration.list(parameter);
    let Some(at) = tables.iter().position(|table| *table == ours) else {
        let is = subject.configuration.value(parameter);
        let is = if is.is_empty() { "it is empty".to_owned() } else { format!("it is {is}") };
        let message = format!("{is}: Postfix never asks the agent, and no switch reaches its mail");
        return findings.add(&ROUTING_NOT_ASKED, parameter, message, format!("{parameter} = {ours}"));
    };
    let (before, after) = (&tables[..at], &tables[at + 1..]);
    if let Some(table) = catch_all(before) {
        let message = format!(
            "{table} answers everything before the agent is asked; Postfix would keep its answer to `*` for 30s besides"
        );
        findings.add(&CATCH_ALL_FIRST, parameter, message, format!("put {ours} first"));
    } else if !before.is_empty() {
        let message = format!("what {} answers does not fail over", before.join(", "));
        findings.add(&ROUTING_NOT_FIRST, parameter, message, format!("put {ours} first, unless that is meant"));
    }
    if let Some(table) = catch_all(after) {
        let message = format!("{table} answers for each domain of --local-domain, for which the agent gives no answer");
        findings.add(&CATCH_ALL_AFTER, parameter, message, format!("remove {table}"));
    }
}

fn catch_all<'a>(tables: &[&'a str]) -> Option<&'a str> {
    let mut tables = tables.iter().copied();
    tables.find(|table| Table::parse(table).is_some_and(|table| table.answers_everything()))
}

fn overridden(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let tables = subject.configuration.value("transport_maps");
    if subject.setup.by == RoutingKey::Sender && !tables.is_empty() {
        let message = format!("{tables} is asked first; for what it answers the sender does not count");
        let remedy = "remove entries for mail that leaves, or route by recipient: --by recipient";
        findings.add(&OVERRIDDEN_BY_TRANSPORT, "transport_maps", message, remedy);
    }
}

fn fallback(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let relay = subject.configuration.value("smtp_fallback_relay");
    if !relay.is_empty() {
        let message = format!(
            "when a backend fails, Postfix sends to {relay} by itself: neither the operator's residency, limits and standbys nor the \
             agent's account of what was delivered apply there"
        );
        findings.add(&FALLBACK_RELAY, "smtp_fallback_relay", message, "smtp_fallback_relay =");
    }
}

fn other_routes(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    for (parameter, default) in [("relayhost", ""), ("default_transport", "smtp"), ("relay_transport", "relay")] {
        let value = subject.configuration.value(parameter);
        if value == default {
            continue;
        }
        let hops = subject.configuration.list(parameter);
        if hops.len() > 1 {
            let message = format!(
                "{value}: each message tries these in turn and waits for the timeouts of a dead one; a 5xx by the first bounces, and \
                 with cached connections a burst of 4xx after the data is deferred rather than passed on"
            );
            findings.add(&NEXT_HOP_LIST, parameter, message, format!("remove it: {parameter} = {default}"));
        } else {
            let message = format!("{value} gets what the agent gives no answer for, and that mail does not fail over");
            findings.add(
                &ROUTE_WITHOUT_FAILOVER,
                parameter,
                message,
                format!("nothing, if that is meant; {parameter} = {default} otherwise"),
            );
        }
    }
}

fn tables_that_need_a_reload(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    for parameter in ROUTING_TABLES {
        let tables = subject.configuration.list(parameter);
        for text in tables.iter().filter(|text| Table::parse(text).is_some_and(|table| table.needs_reload())) {
            let message = format!(
                "{text} is read when a process starts: Postfix does not see a change of it before it is reloaded"
            );
            let remedy = "use lmdb:, cdb: or hash:, which are seen within 10s, or reload after each change";
            findings.add(&NEEDS_RELOAD, parameter, message, remedy);
        }
    }
}

fn deferred(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let transports = subject.configuration.list("defer_transports");
    if let Some(transport) = transports.iter().find(|transport| [&"smtp", &IMPLICIT_TLS_SERVICE].contains(transport)) {
        let message =
            format!("mail for {transport}, through which the agent sends, stays queued until someone flushes it");
        findings.add(&TRANSPORT_DEFERRED, "defer_transports", message, format!("remove {transport}"));
    }
}

fn filtered(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let filter = subject.configuration.value("content_filter");
    if !filter.is_empty() {
        let message = format!("{filter} takes each message first, and no routing table is asked until it comes back");
        let remedy = "see to it that the service that takes mail back (-o content_filter=) asks the agent as well";
        findings.add(&CONTENT_FILTER, "content_filter", message, remedy);
    }
}
