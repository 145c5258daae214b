//! Rules on routing: Postfix asks the agent, and nothing else sends mail somewhere.

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::arguments::RoutingKey;
use super::super::finding::ConfigFindings;
use super::super::wanted::IMPLICIT_TLS_SERVICE;
use super::CheckContext;
use super::local::some_of;
use super::tables::Table;
use crate::domains::source_of;

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
pub(super) static TRANSPORTS_BYPASSED: Rule = Rule {
    code: "TransportsBypassed",
    severity: Severity::Error,
    broken_when: "a table beside the agent's has entries that never count, such as those for a whole domain",
};
pub(super) static TRANSPORTS_UNSEEN: Rule = Rule {
    code: "TransportsUnseen",
    severity: Severity::Warning,
    broken_when: "a table beside the agent's, into which the check cannot look, counts for few addresses or none",
};
pub(super) static SENDER_ROUTES_BYPASSED: Rule = Rule {
    code: "SenderRoutesBypassed",
    severity: Severity::Error,
    broken_when: "routes by sender never count, because the agent's answer has precedence",
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

pub(super) static ALTERNATE_LEFT_OUT: Rule = Rule {
    code: "AlternateLeftOut",
    severity: Severity::Hint,
    broken_when: "backends with and without TLS from the first byte cannot be in one list of next hops",
};

/// Parameters that name routing tables.
const ROUTING_TABLES: [&str; 3] =
    ["transport_maps", "sender_dependent_default_transport_maps", "sender_dependent_relayhost_maps"];

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    asked(subject, findings);
    bypassed_senders(subject, findings);
    apart(subject, findings);
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
    } else {
        let counting: Vec<&str> = before.iter().copied().filter(|table| counts_for_addresses(subject, table)).collect();
        if !counting.is_empty() {
            let message = format!("what {} answers for a whole address does not fail over", counting.join(", "));
            let remedy = "nothing, if that is meant; remove the entries that shall fail over otherwise";
            findings.add(&ROUTING_NOT_FIRST, parameter, message, remedy);
        }
    }
    for (tables, is_before) in [(before, true), (after, false)] {
        for table in tables {
            bypassed(subject, parameter, table, is_before, findings);
        }
    }
    if let Some(table) = catch_all(after) {
        let message = format!("{table} answers for each domain of --local-domain, for which the agent gives no answer");
        findings.add(&CATCH_ALL_AFTER, parameter, message, format!("remove {table}"));
    }
}

/// Returns true if a table may answer for whole addresses, which Postfix asks all tables for before it asks one for a
/// domain (`transport.c`).
fn counts_for_addresses(subject: CheckContext<'_>, table: &str) -> bool {
    let Some(keys) = subject.configuration.keys(table) else { return true };
    keys.iter().any(|key| key.contains('@') && !key.starts_with('@'))
}

/// Finds the entries of another table that never count, since the agent answers for each address that is not local.
fn bypassed(subject: CheckContext<'_>, parameter: &str, text: &str, is_before: bool, findings: &mut ConfigFindings) {
    let table = Table::parse(text);
    if table.is_some_and(|table| table.answers_everything() || (is_before && table.has_patterns())) {
        return;
    }
    let by = subject.setup.by;
    let remedy = match by {
        RoutingKey::Recipient => format!(
            "name each domain whose mail shall not leave by a backend: --local-domain DOMAIN, or all of them by --local-domains-from {}, here \
             and in `agent run`; the table answers for these",
            if source_of(text).is_ok() { text } else { "FILE" }
        ),
        RoutingKey::Sender => {
            "remove it: the agent leads each sender to the backends whose senderDomains fit".to_owned()
        }
    };
    let why = "Postfix asks each table for the whole address before it asks one for the domain, and the agent answers for every address";
    if let Some(keys) = subject.configuration.keys(text) {
        let dead = keys.iter().filter(|key| never_counts(subject, key, is_before));
        let dead: Vec<_> = dead.map(String::as_str).collect();
        if !dead.is_empty() {
            let message = format!("{} in {text} never count: {why}", some_of(&dead));
            findings.add(&TRANSPORTS_BYPASSED, parameter, message, remedy);
        }
        return;
    }
    // The agent leaves all domains of such a table to Postfix.
    if by == RoutingKey::Recipient && subject.is_read(text, false) {
        return;
    }
    if source_of(text).is_ok() {
        let message = format!("entries for a domain in {text} never count: {why}");
        findings.add(&TRANSPORTS_BYPASSED, parameter, message, remedy);
    } else {
        let message = format!("{text} counts at most for what the agent leaves to Postfix: {why}");
        findings.add(&TRANSPORTS_UNSEEN, parameter, message, remedy);
    }
}

/// Returns true if the entry of a table before or after the agent's is never asked for, or not before the agent has
/// answered.
fn never_counts(subject: CheckContext<'_>, key: &str, is_before: bool) -> bool {
    let (local_part, domain) = key.rsplit_once('@').unwrap_or(("", key));
    let is_address = !local_part.is_empty();
    match subject.setup.by {
        // `*` answers where nothing else does.
        RoutingKey::Recipient => key != "*" && !(is_address && is_before) && !subject.is_local(domain),
        RoutingKey::Sender => !(is_address && is_before),
    }
}

/// Finds routes by sender that the agent's answer, which has precedence, makes void.
fn bypassed_senders(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let (by, _) = asked_by(subject);
    let bypassed: &[&str] = match subject.setup.by {
        RoutingKey::Recipient => &["sender_dependent_default_transport_maps", "sender_dependent_relayhost_maps"],
        RoutingKey::Sender => &["sender_dependent_relayhost_maps"],
    };
    for parameter in bypassed {
        let value = subject.configuration.value(parameter);
        if !value.is_empty() {
            let message =
                format!("{value} never counts for mail that leaves: {by}, by which the agent is asked, has precedence");
            let remedy = match subject.setup.by {
                RoutingKey::Recipient => format!(
                    "{parameter} =; for backends by sender give them senderDomains and route by sender: --by sender"
                ),
                RoutingKey::Sender => format!("{parameter} =; senderDomains of the backends say who sends by which"),
            };
            findings.add(&SENDER_ROUTES_BYPASSED, *parameter, message, remedy);
        }
    }
}

/// Finds backends of the document that one list cannot have together.
fn apart(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let Some(document) = subject.document else { return };
    let used = document.backends.iter().filter(|backend| backend.percent > 0 || backend.standby || backend.alternate);
    let (implicit, others): (Vec<_>, Vec<_>) = used.partition(|backend| backend.tls.is_implicit());
    let has_alternate = implicit.iter().chain(&others).any(|backend| backend.alternate);
    if implicit.is_empty() || others.is_empty() || !has_alternate {
        return;
    }
    let [implicit, others] = [implicit, others]
        .map(|backends| backends.iter().map(|backend| backend.name.to_string()).collect::<Vec<_>>().join(", "));
    let message = format!(
        "TLS from the first byte holds for a whole list of next hops: a message that {implicit} does not take does not go on to {others} \
         within the attempt, nor the other way round"
    );
    findings.add(&ALTERNATE_LEFT_OUT, "--config-file", message, "use STARTTLS, port 587 as a rule, for all of them");
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
