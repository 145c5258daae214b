//! Rules on configurations that defeat failover. One pure function per rule or group of rules, over the parsed
//! configuration. Each file holds one group.

mod credentials;
mod local;
mod reach;
mod routing;
mod shield;
mod stopping;
mod tables;
mod timing;

use mail_failover_contract::routing::Routing;
use mail_failover_runtime::findings::Rule;

use super::configuration::Configuration;
use super::finding::{ConfigFinding, ConfigFindings};
use super::wanted::{Section, Setup, parameters};
use crate::domains::{DomainTable, LocalDomains, source_of};

/// Configuration under check, and the wanted setup.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// Configuration of the Postfix under check.
    pub configuration: &'a Configuration,
    /// Setup that the configuration should have.
    pub setup: &'a Setup,
    /// Domains that the agent leaves to Postfix, as `agent run` has them.
    pub local_domains: &'a LocalDomains,
    /// Files from which the agent reads such domains.
    pub domain_tables: &'a [DomainTable],
    /// Document that the agent follows, if it is checked, too.
    pub document: Option<&'a Routing>,
}

impl CheckContext<'_> {
    /// Returns true if mail to a domain is left to Postfix's own rules; of `.example.com`, to the domains below.
    fn is_local(&self, domain: &str) -> bool {
        self.local_domains.contain(domain)
    }

    /// Returns true if the agent reads the domains of this table. Of a table that it cannot read, any file may be a copy.
    fn is_read(&self, table: &str, with_subdomains: bool) -> bool {
        let mut files = self.domain_tables.iter().filter(|file| file.with_subdomains || !with_subdomains);
        match source_of(table) {
            Ok(source) => files.any(|table| table.file == source),
            Err(_) => files.next().is_some(),
        }
    }

    /// Returns the value that a wanted parameter should have.
    fn wanted(&self, name: &str) -> String {
        let sections = parameters(self.setup).into_iter();
        let mut wanted = sections.flat_map(|Section { parameters, .. }| parameters);
        wanted.find(|parameter| parameter.name == name).map_or_else(String::new, |parameter| parameter.value)
    }
}

/// All rules, grouped by subject.
pub const RULES: [&Rule; 59] = [
    &routing::ROUTING_NOT_ASKED,
    &routing::ROUTING_NOT_FIRST,
    &routing::CATCH_ALL_FIRST,
    &routing::CATCH_ALL_AFTER,
    &routing::TRANSPORTS_BYPASSED,
    &routing::TRANSPORTS_UNSEEN,
    &routing::SENDER_ROUTES_BYPASSED,
    &routing::OVERRIDDEN_BY_TRANSPORT,
    &routing::FALLBACK_RELAY,
    &routing::NEXT_HOP_LIST,
    &routing::ROUTE_WITHOUT_FAILOVER,
    &routing::NEEDS_RELOAD,
    &routing::TRANSPORT_DEFERRED,
    &routing::CONTENT_FILTER,
    &routing::ALTERNATE_LEFT_OUT,
    &local::LOCAL_MAIL_ROUTED_OUT,
    &local::LOCALHOST_ROUTED_OUT,
    &timing::GREETING_TIMEOUT_LONG,
    &timing::GREETING_TIMEOUT_SHORT,
    &timing::STAGE_TIMEOUT_LONG,
    &timing::FINAL_TIMEOUT_SHORT,
    &timing::BACKOFF_LONG,
    &timing::QUEUE_LIFETIME_SHORT,
    &timing::CONNECTIONS_KEPT_LONG,
    &timing::CONNECTIONS_CACHED,
    &timing::MANY_ADDRESSES,
    &timing::OVERRIDDEN_BY_SERVICE,
    &shield::SHIELD_MISSING,
    &shield::SOFT_BOUNCE,
    &shield::REPLIES_REWRITTEN,
    &shield::REPLY_FILTER_MISSING,
    &shield::REPLY_FILTER_TOO_NEW,
    &shield::GREETING_BOUNCES,
    &shield::LOGIN_BOUNCES,
    &credentials::LOGIN_OFF,
    &credentials::PASSWORDS_NOT_ASKED,
    &credentials::PASSWORDS_NOT_FIRST,
    &credentials::PLAINTEXT_FORBIDDEN,
    &credentials::PLAINTEXT_EXPOSED,
    &credentials::TLS_NOT_ASKED,
    &credentials::TLS_NOT_FIRST,
    &credentials::TLS_FROM_FIRST_BYTE_EVERYWHERE,
    &credentials::IMPLICIT_TLS_MISSING,
    &credentials::NO_PUBLIC_AUTHORITIES,
    &credentials::AUTHORITIES_MISSING,
    &reach::SOCKET_OUTSIDE_CHROOT,
    &reach::SOCKETMAP_NOT_LOCAL,
    &reach::SOCKETMAP_OVER_TCP,
    &reach::THROUGH_PROXYMAP,
    &reach::NO_SOCKETMAP,
    &reach::TOO_OLD,
    &reach::HOST_LOOKUP_NATIVE,
    &reach::IPV6_WITHOUT_ADDRESS,
    &stopping::LOG_UNREADABLE,
    &stopping::LOG_FORBIDDEN,
    &stopping::LOG_FORGEABLE,
    &stopping::LOG_IS_PIPE,
    &stopping::POSTLOG_MISSING,
    &stopping::INTAKE_NOT_ASKED,
];

/// Checks a configuration. Returns the findings, the worst first.
pub fn check(subject: CheckContext<'_>) -> Vec<ConfigFinding> {
    let mut findings = ConfigFindings::default();
    routing::check(subject, &mut findings);
    local::check(subject, &mut findings);
    timing::check(subject, &mut findings);
    shield::check(subject, &mut findings);
    credentials::check(subject, &mut findings);
    reach::check(subject, &mut findings);
    stopping::check(subject, &mut findings);
    findings.sorted()
}
