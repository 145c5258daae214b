//! Rules on mail that Postfix delivers by itself, and that a routing table for everything would send out.

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::arguments::RoutingKey;
use super::super::finding::ConfigFindings;
use super::CheckContext;
use super::tables::Table;
use crate::domains::{is_domain, source_of};

pub(super) static LOCAL_MAIL_ROUTED_OUT: Rule = Rule {
    code: "LocalMailRoutedOut",
    severity: Severity::Error,
    broken_when: "mail for a domain that Postfix delivers itself would leave by a backend",
};
pub(super) static LOCALHOST_ROUTED_OUT: Rule = Rule {
    code: "LocalhostRoutedOut",
    severity: Severity::Error,
    broken_when: "mail for this machine (cron, root, postmaster) would leave by a backend",
};

/// Parameters that name domains which Postfix delivers itself or relays by a rule of its own.
const PARAMETERS: [&str; 3] = ["mydestination", "virtual_mailbox_domains", "relay_domains"];

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    // sender_dependent_default_transport_maps is asked only for mail that is not local.
    if subject.setup.by == RoutingKey::Sender {
        return;
    }
    for parameter in PARAMETERS {
        let entries = DomainEntries { subject, parameter, with_subdomains: has_subdomains(subject, parameter) };
        // `!` leaves a domain out again.
        for entry in subject.configuration.list(parameter).into_iter().filter(|entry| !entry.starts_with('!')) {
            if Table::parse(entry).is_some() || entry.starts_with('/') {
                entries.check_table(entry, findings);
            } else {
                entries.check_domain(entry, findings);
            }
        }
    }
}

/// Returns true if each domain of this parameter stands for the domains below it as well.
fn has_subdomains(subject: CheckContext<'_>, parameter: &str) -> bool {
    let configuration = subject.configuration;
    // Before compatibility_level 2 this machine's own names were relay domains by default, which nobody has chosen.
    parameter == "relay_domains"
        && configuration.value(parameter) != configuration.value("mydestination")
        && configuration.list("parent_domain_matches_subdomains").contains(&parameter)
}

/// Entries of one parameter.
#[derive(Clone, Copy)]
struct DomainEntries<'a> {
    subject: CheckContext<'a>,
    parameter: &'static str,
    with_subdomains: bool,
}

impl DomainEntries<'_> {
    /// Returns what a domain stands for and is not local: itself, the domains below it, or both.
    fn missing(&self, domain: &str) -> Vec<String> {
        let mut wanted = vec![domain.to_owned()];
        if self.with_subdomains && !domain.starts_with(['.', '[']) {
            wanted.push(format!(".{domain}"));
        }
        wanted.retain(|domain| !self.subject.is_local(domain));
        wanted
    }

    fn check_domain(&self, entry: &str, findings: &mut ConfigFindings) {
        let Self { subject, parameter, .. } = *self;
        let missing = self.missing(entry);
        if missing.is_empty() {
            return;
        }
        let hostname = subject.configuration.value("myhostname");
        let is_this_machine = parameter == "mydestination" && (entry.starts_with("localhost") || entry == hostname);
        let rule = if is_this_machine { &LOCALHOST_ROUTED_OUT } else { &LOCAL_MAIL_ROUTED_OUT };
        let what = if missing.iter().any(|missing| missing == entry) {
            format!("{entry} is")
        } else {
            format!("each domain below {entry} (parent_domain_matches_subdomains) is")
        };
        let message =
            format!("{what} Postfix's own, but transport_maps is asked before that counts: mail for it would leave");
        let flags: Vec<_> = missing.iter().map(|missing| format!("--local-domain {missing}")).collect();
        let remedy = format!("{}, here and in `agent run`; or remove it from {parameter}", flags.join(" "));
        findings.add(rule, parameter, message, remedy);
    }

    fn check_table(&self, entry: &str, findings: &mut ConfigFindings) {
        let Self { subject, parameter, with_subdomains } = *self;
        if subject.is_read(entry, with_subdomains) {
            return;
        }
        let domains = match subject.configuration.keys(entry) {
            None => format!("the domains in {entry}"),
            Some(keys) => {
                let missing = keys.iter().filter(|key| is_domain(key) && !self.missing(key).is_empty());
                let missing: Vec<_> = missing.map(String::as_str).collect();
                if missing.is_empty() {
                    return;
                }
                format!("{} in {entry}", some_of(&missing))
            }
        };
        let message = format!("{domains} are Postfix's own, but transport_maps is asked before that counts");
        let flag = if with_subdomains { "--relay-domains-from" } else { "--local-domains-from" };
        let remedy = if source_of(entry).is_ok() {
            format!("{flag} {entry}, here and in `agent run`")
        } else {
            format!(
                "write these domains into a file, one a line, whenever they change, and name it: {flag} FILE, here and in `agent run`; or route \
                 by sender (--by sender), which leaves mail to them alone"
            )
        };
        findings.add(&LOCAL_MAIL_ROUTED_OUT, parameter, message, remedy);
    }
}

/// Names the first few of many.
pub(super) fn some_of(names: &[&str]) -> String {
    const NAMED: usize = 3;
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
