//! Rules on access: Postfix's processes reach the agent, and nobody else does.

use std::net::IpAddr;

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::finding::ConfigFindings;
use super::super::wanted::Endpoint;
use super::CheckContext;
use super::tables::Table;

pub(super) static SOCKET_OUTSIDE_CHROOT: Rule = Rule {
    code: "SocketOutsideChroot",
    severity: Severity::Error,
    broken_when: "chrooted processes of Postfix cannot reach the agent's socket by its path",
};
pub(super) static SOCKETMAP_NOT_LOCAL: Rule = Rule {
    code: "SocketmapNotLocal",
    severity: Severity::Error,
    broken_when: "a socketmap is asked over a network, without authentication and TLS",
};
pub(super) static SOCKETMAP_OVER_TCP: Rule = Rule {
    code: "SocketmapOverTcp",
    severity: Severity::Hint,
    broken_when: "whoever shares the host or the pod can ask the agent for passwords",
};
pub(super) static THROUGH_PROXYMAP: Rule =
    Rule { code: "ThroughProxymap", severity: Severity::Error, broken_when: "the agent is asked through proxymap(8)" };
pub(super) static NO_SOCKETMAP: Rule =
    Rule { code: "NoSocketmap", severity: Severity::Error, broken_when: "this Postfix was built without socketmap" };
pub(super) static TOO_OLD: Rule =
    Rule { code: "TooOld", severity: Severity::Error, broken_when: "this Postfix is older than 3.5" };
pub(super) static HOST_LOOKUP_NATIVE: Rule = Rule {
    code: "HostLookupNative",
    severity: Severity::Hint,
    broken_when: "the names of backends are asked of the system and not of DNS",
};
pub(super) static IPV6_WITHOUT_ADDRESS: Rule = Rule {
    code: "Ipv6WithoutAddress",
    severity: Severity::Hint,
    broken_when: "Postfix tries IPv6 addresses of backends from a machine that has none of its own",
};

/// Parameters that may name a table of the agent's.
const PARAMETERS: [&str; 6] = [
    "transport_maps",
    "sender_dependent_default_transport_maps",
    "smtp_sasl_password_maps",
    "smtp_tls_policy_maps",
    "smtp_delivery_status_filter",
    "smtpd_end_of_data_restrictions",
];

/// Programs that ask the agent.
const ASKING: [&str; 3] = ["smtp", "smtpd", "trivial-rewrite"];

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    chroot(subject, findings);
    tables(subject, findings);
    this_postfix(subject, findings);
    lookup(subject, findings);
    families(subject, findings);
}

fn lookup(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let is_native = subject.configuration.list("smtp_host_lookup").contains(&"native");
    let parameter = if is_native { "smtp_host_lookup" } else { "disable_dns_lookups" };
    if is_native || subject.configuration.is_on(parameter) {
        let message = "a backend whose name the system does not know (/etc/hosts, nsswitch.conf) bounces mail while the agent is down, and a chrooted smtp(8) reads the copies in its queue directory";
        let remedy = if is_native { "smtp_host_lookup = dns, Postfix's default" } else { "disable_dns_lookups = no" };
        findings.add(&HOST_LOOKUP_NATIVE, parameter, message, remedy);
    }
}

fn families(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "inet_protocols";
    let has_ipv6 = subject.configuration.list(parameter).iter().any(|family| matches!(*family, "all" | "ipv6"));
    if has_ipv6 && subject.configuration.machine().is_some_and(|machine| !machine.has_global_ipv6) {
        let message = "this machine has no global IPv6 address: for a backend with addresses of both families every second attempt is lost";
        findings.add(
            &IPV6_WITHOUT_ADDRESS,
            parameter,
            message,
            format!("{parameter} = ipv4, if Postfix runs where this check does"),
        );
    }
}

fn chroot(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let Endpoint::Socket(path) = &subject.setup.endpoint else { return };
    if path.is_relative() {
        return;
    }
    let asking = subject.configuration.chrooted().filter(|service| ASKING.contains(&service.command.as_str()));
    let services: Vec<String> = asking.map(|service| format!("{}/{}", service.name, service.kind)).collect();
    if services.is_empty() {
        return;
    }
    let message =
        format!("{} run in the queue directory as their root and have no {}", services.join(", "), path.display());
    let remedy =
        "put the socket into the queue directory and name it relative to that: --socket mail-failover/socketmap";
    findings.add(&SOCKET_OUTSIDE_CHROOT, "master.cf", message, remedy);
}

fn tables(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    for parameter in PARAMETERS {
        for text in subject.configuration.list(parameter) {
            let Some(table) = Table::parse(text).filter(|table| table.kind == "socketmap") else { continue };
            if table.proxied {
                let message = format!(
                    "{text}: proxymap(8) asks one question after the other for all, and refuses tables that proxy_read_maps does not name"
                );
                findings.add(
                    &THROUGH_PROXYMAP,
                    parameter,
                    message,
                    format!("{}: the agent answers any process itself", text.trim_start_matches("proxy:")),
                );
            }
            let Some(host) = table.name.strip_prefix("inet:").and_then(host) else { continue };
            if is_loopback(host) {
                let message = format!("{text}: every process on this host or in this pod can ask for passwords there");
                findings.add(&SOCKETMAP_OVER_TCP, parameter, message, "use the unix socket where Postfix can reach it");
            } else {
                let message = format!(
                    "{text}: when {host} is gone, Postfix refuses all new mail (451), and when it hangs, each message takes 200s; answers are \
                     neither authenticated nor encrypted"
                );
                findings.add(
                    &SOCKETMAP_NOT_LOCAL,
                    parameter,
                    message,
                    "run the agent beside Postfix: it answers from memory when all else is down",
                );
            }
        }
    }
}

/// Returns the host of `host:port:name`, without brackets.
fn host(endpoint: &str) -> Option<&str> {
    match endpoint.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => endpoint.split(':').next(),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn this_postfix(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    if subject.configuration.has_table_type("socketmap") == Some(false) {
        let message = "`postconf -m` does not list socketmap, by which the agent is asked";
        findings.add(
            &NO_SOCKETMAP,
            "postconf -m",
            message,
            "install a Postfix with it; Debian, Ubuntu, Alpine, Fedora and RHEL have it",
        );
    }
    let version = subject.configuration.value("mail_version");
    // Without postconf the version is not known.
    if subject.configuration.version().is_some_and(|number| number < (3, 5)) {
        let message = format!(
            "Postfix {version} logs addresses without quotes (before 3.5), so that a recipient can pass for a delivery and make the agent leave a backend"
        );
        findings.add(
            &TOO_OLD,
            "mail_version",
            message,
            "upgrade Postfix; the agent is tested with 3.7 and knows the log of 3.5 to 3.11",
        );
    }
}
