//! Rules on mail that Postfix delivers by itself, and that a routing table for everything would send out.

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::arguments::RoutingKey;
use super::super::finding::ConfigFindings;
use super::CheckContext;
use super::tables::Table;

pub(super) static LOCAL_MAIL_ROUTED_OUT: Rule = Rule {
    code: "LocalMailRoutedOut",
    severity: Severity::Error,
    broken_when: "mail for a domain that Postfix delivers itself would leave by a backend",
};
pub(super) static LOCALHOST_ROUTED_OUT: Rule = Rule {
    code: "LocalhostRoutedOut",
    severity: Severity::Warning,
    broken_when: "mail for this machine (cron, root, postmaster) would leave by a backend",
};

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    // sender_dependent_default_transport_maps is asked only for mail that is not local.
    if subject.setup.by == RoutingKey::Sender {
        return;
    }
    let hostname = subject.configuration.value("myhostname");
    for parameter in ["mydestination", "virtual_mailbox_domains", "relay_domains"] {
        for entry in subject.configuration.list(parameter) {
            if subject.is_local(entry) {
                continue;
            }
            let is_this_machine = parameter == "mydestination" && (entry.starts_with("localhost") || entry == hostname);
            let rule = if is_this_machine { &LOCALHOST_ROUTED_OUT } else { &LOCAL_MAIL_ROUTED_OUT };
            if Table::parse(entry).is_some() || entry.starts_with('/') {
                let message =
                    format!("the domains in {entry} are Postfix's own, but transport_maps is asked before that counts");
                let remedy = "name each to the agent: --local-domain DOMAIN, here and in `agent run`";
                findings.add(rule, parameter, message, remedy);
            } else {
                let message = format!(
                    "{entry} is Postfix's own, but transport_maps is asked before that counts: mail for it would leave"
                );
                let remedy = format!("--local-domain {entry}, here and in `agent run`; or remove it from {parameter}");
                findings.add(rule, parameter, message, remedy);
            }
        }
    }
}
