//! Rules about connections to backends: TLS, ports, probes.

use std::net::IpAddr;
use std::time::Duration;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::ObjectSet;
use crate::manifests::Manifest;
use mail_failover_core::model::{Backend, Depth, Destination, SmtpHost, TlsMode};
use mail_failover_runtime::findings::{Rule, Severity};

use super::{listed, span};

pub(super) const PROBES_TOO_FAST: Rule = Rule {
    code: "ProbesTooFast",
    severity: Severity::Warning,
    broken_when: "a provider outside is probed more often than once a second: providers count connections",
};
pub(super) const TLS_NOT_VERIFIED: Rule = Rule {
    code: "TLSNotVerified",
    severity: Severity::Warning,
    broken_when: "mail to a host outside the cluster and its network goes without TLS, or without looking at the certificate",
};
pub(super) const TLS_MODE_AGAINST_PORT: Rule = Rule {
    code: "TLSModeAgainstPort",
    severity: Severity::Warning,
    broken_when: "port 465 is used without implicit TLS, or 25 or 587 with it (RFC 8314)",
};
pub(super) const PORT_25: Rule = Rule {
    code: "Port25",
    severity: Severity::Hint,
    broken_when: "a provider outside is reached at port 25, which most clouds and access providers block",
};
pub(super) const TIMEOUT_BELOW_DELAYS: Rule = Rule {
    code: "TimeoutBelowDelays",
    severity: Severity::Hint,
    broken_when: "a probe that waits for the greeting of a provider outside gives up before 10s: ordinary servers delay a greeting by 6s and a refusal by 5s",
};
pub(super) const SHALLOW_PROBES: Rule = Rule {
    code: "ShallowProbes",
    severity: Severity::Hint,
    broken_when: "TLS is verified, and no probe gets that far: an expired certificate stays unseen",
};

pub(super) const LOOPBACK_HOST: Rule = Rule {
    code: "LoopbackHost",
    severity: Severity::Warning,
    broken_when: "the host of a backend is localhost: each pod reaches itself there, and the operator connects to no such address unless it is allowed by name",
};

const FAST: Duration = Duration::from_secs(1);
/// Longer than Postfix's postscreen delays a greeting (6 s), and Exchange a refusal (5 s), on a slow network.
const PATIENT: Duration = Duration::from_secs(10);
/// Names without a host on the internet (RFC 6761, RFC 6762, RFC 8375, and those of Kubernetes).
const PRIVATE_NAMES: [&str; 9] =
    ["svc", "local", "localhost", "internal", "lan", "home.arpa", "test", "invalid", "intranet"];

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for entry in set.backends.values() {
        let Some(backend) = &entry.model else { continue };
        if let Destination::Host(host) = &backend.destination {
            port(host, backend, entry.manifest, findings);
            loopback(host, entry.manifest, findings);
            if is_public(&host.host) {
                probes(host, backend, entry.manifest, findings);
                tls(host, backend, entry.manifest, findings);
            }
        }
        depth(backend, entry.manifest, findings);
    }
}

fn loopback(host: &SmtpHost, manifest: &Manifest, findings: &mut ManifestFindings) {
    let name = host.host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        let message =
            format!("{} is another machine for the operator, for an agent and for each application", host.host);
        let remedy = "name the server as others reach it, or use `service` for one in this cluster";
        findings.add(&LOOPBACK_HOST, manifest, "spec.smtp.host", message, remedy);
    }
}

fn probes(host: &SmtpHost, backend: &Backend, manifest: &Manifest, findings: &mut ManifestFindings) {
    for (index, probe) in backend.probes.iter().enumerate().filter(|(_, probe)| probe.interval < FAST) {
        let message = format!(
            "every {} each replica connects to {}, which is {} times a day",
            span(probe.interval),
            host.host,
            86_400_000 / probe.interval.as_millis().max(1)
        );
        let remedy = "use 10s, or 1s at the least";
        findings.add(&PROBES_TOO_FAST, manifest, &format!("spec.probes[{index}].interval"), message, remedy);
    }
    for (index, probe) in backend.probes.iter().enumerate() {
        if probe.depth < Depth::Banner || probe.timeout >= PATIENT {
            continue;
        }
        let delayed = if probe.depth < Depth::Auth { "greeting" } else { "greeting or a refused log-in" };
        let message = format!(
            "{} gives up after {}: a server that delays its {delayed}, as many do, seems not to answer",
            probe.name,
            span(probe.timeout)
        );
        let remedy = "leave timeout out, or set it to 10s or more";
        let field = format!("spec.probes[{index}].timeout");
        findings.add(&TIMEOUT_BELOW_DELAYS, manifest, &field, message, remedy);
    }
}

fn tls(host: &SmtpHost, backend: &Backend, manifest: &Manifest, findings: &mut ManifestFindings) {
    let message = match backend.tls.mode {
        TlsMode::None => format!("mail and credentials go to {} as plain text", host.host),
        TlsMode::Opportunistic => {
            format!("whoever sits between can pose as {} or take TLS out: nothing is verified", host.host)
        }
        TlsMode::StartTls | TlsMode::Implicit => return,
    };
    let remedy = "use tls.mode StartTLS (port 587) or Implicit (port 465)";
    let field =
        if manifest.value().pointer("/spec/smtp/tls").is_some() { "spec.smtp.tls.mode" } else { "spec.smtp.tls" };
    findings.add(&TLS_NOT_VERIFIED, manifest, field, message, remedy);
}

fn port(host: &SmtpHost, backend: &Backend, manifest: &Manifest, findings: &mut ManifestFindings) {
    let is_implicit = backend.tls.mode == TlsMode::Implicit;
    match host.port {
        465 if !is_implicit => {
            let message = "on port 465 servers speak TLS from the first byte: without it they stay silent";
            let remedy = "use tls.mode Implicit, or port 587";
            findings.add(&TLS_MODE_AGAINST_PORT, manifest, "spec.smtp.port", message, remedy);
        }
        port @ (25 | 587) if is_implicit => {
            let message = format!("on port {port} servers greet in plain text: implicit TLS does not get an answer");
            let remedy = "use tls.mode StartTLS, or port 465";
            findings.add(&TLS_MODE_AGAINST_PORT, manifest, "spec.smtp.port", message, remedy);
        }
        25 if is_public(&host.host) => {
            let message =
                format!("most clouds block connections to port 25; if yours does, {} never answers", host.host);
            findings.add(&PORT_25, manifest, "spec.smtp.port", message, "use port 587 or 465 for submission");
        }
        _ => {}
    }
}

fn depth(backend: &Backend, manifest: &Manifest, findings: &mut ManifestFindings) {
    // With implicit TLS there is a handshake before the banner.
    let needed = match backend.tls.mode {
        TlsMode::StartTls => Depth::StartTls,
        TlsMode::Implicit => Depth::Banner,
        TlsMode::None | TlsMode::Opportunistic => return,
    };
    if backend.probes.iter().all(|probe| probe.depth < needed) {
        let names: Vec<_> = backend.probes.iter().map(|probe| &probe.name).collect();
        let message =
            format!("{} ends before the certificate is seen: mail may be refused where probes succeed", listed(&names));
        let remedy = "leave smtp.depth out of one probe, or set it to StartTLS";
        findings.add(&SHALLOW_PROBES, manifest, "spec.probes", message, remedy);
    }
}

/// Returns true if a host is outside the cluster and its network, as far as its name or address tells.
pub(super) fn is_public(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0b1100_0000 == 64;
            !(ip.is_private() || ip.is_documentation() || ip.is_loopback() || ip.is_link_local() || is_shared)
        }
        Ok(IpAddr::V6(ip)) => {
            let is_documentation = ip.segments()[..2] == [0x2001, 0x0db8];
            !(ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || is_documentation)
        }
        Err(_) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            host.contains('.')
                && !PRIVATE_NAMES.iter().any(|name| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_outside_is_told_by_name_and_address() {
        for host in ["smtp.sendgrid.net", "relay.example", "203.0.114.9", "2a00:1450::1"] {
            assert!(is_public(host), "{host}");
        }
        let near =
            ["relay", "relay.shop.svc", "relay.shop.svc.cluster.local", "mta.corp.internal", "10.1.2.3", "192.0.2.1"];
        for host in near.into_iter().chain(["100.64.0.1", "fd00::1", "2001:db8::1"]) {
            assert!(!is_public(host), "{host}");
        }
    }
}
