//! Rules on logins and TLS: Postfix speaks to each backend with that backend's own.

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::finding::ConfigFindings;
use super::super::wanted::IMPLICIT_TLS_SERVICE;
use super::CheckContext;

pub(super) static LOGIN_OFF: Rule = Rule {
    code: "LoginOff",
    severity: Severity::Error,
    broken_when: "Postfix never logs in, though backends ask for it",
};
pub(super) static PASSWORDS_NOT_ASKED: Rule = Rule {
    code: "PasswordsNotAsked",
    severity: Severity::Error,
    broken_when: "Postfix does not ask the agent for passwords",
};
pub(super) static PASSWORDS_NOT_FIRST: Rule = Rule {
    code: "PasswordsNotFirst",
    severity: Severity::Warning,
    broken_when: "another table may know a password before the agent is asked",
};
pub(super) static PLAINTEXT_FORBIDDEN: Rule = Rule {
    code: "PlaintextForbidden",
    severity: Severity::Error,
    broken_when: "PLAIN and LOGIN, all that most providers offer, are forbidden where a backend asks for them",
};
pub(super) static PLAINTEXT_EXPOSED: Rule =
    Rule { code: "PlaintextExposed", severity: Severity::Warning, broken_when: "passwords may be sent without TLS" };
pub(super) static TLS_NOT_ASKED: Rule = Rule {
    code: "TlsNotAsked",
    severity: Severity::Error,
    broken_when: "Postfix does not ask the agent how TLS is spoken with a backend",
};
pub(super) static TLS_NOT_FIRST: Rule = Rule {
    code: "TlsNotFirst",
    severity: Severity::Warning,
    broken_when: "another table may know a TLS policy before the agent is asked",
};
pub(super) static TLS_FROM_FIRST_BYTE_EVERYWHERE: Rule = Rule {
    code: "TlsFromFirstByteEverywhere",
    severity: Severity::Error,
    broken_when: "every backend is spoken to in TLS from the first byte, also those that expect STARTTLS or none",
};
pub(super) static IMPLICIT_TLS_MISSING: Rule = Rule {
    code: "ImplicitTlsMissing",
    severity: Severity::Warning,
    broken_when: "mail to a backend that speaks TLS from the first byte would wait, because no service can send it",
};
pub(super) static NO_PUBLIC_AUTHORITIES: Rule = Rule {
    code: "NoPublicAuthorities",
    severity: Severity::Warning,
    broken_when: "no public authority is trusted, so that no public certificate can be verified",
};

pub(super) static AUTHORITIES_MISSING: Rule = Rule {
    code: "AuthoritiesMissing",
    severity: Severity::Error,
    broken_when: "the file with the public authorities is not there, so that Postfix speaks no TLS at all",
};

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    if subject.setup.sasl {
        sasl(subject, findings);
    }
    if subject.setup.tls {
        tls(subject, findings);
    }
}

fn sasl(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let configuration = subject.configuration;
    if !configuration.is_on("smtp_sasl_auth_enable") {
        let message = "Postfix logs in nowhere; backends that ask for it refuse all mail (530 or 550)";
        findings.add(&LOGIN_OFF, "smtp_sasl_auth_enable", message, "smtp_sasl_auth_enable = yes; or --without-sasl");
    }
    let (parameter, ours) = ("smtp_sasl_password_maps", subject.setup.map("sasl"));
    position(subject, parameter, &ours, (&PASSWORDS_NOT_ASKED, &PASSWORDS_NOT_FIRST), findings);
    let parameter = "smtp_sasl_tls_security_options";
    if configuration.list(parameter).contains(&"noplaintext") {
        let message = "PLAIN and LOGIN are forbidden within TLS too, and most providers offer nothing else: `no mechanism available`, and mail is deferred";
        findings.add(&PLAINTEXT_FORBIDDEN, parameter, message, format!("{parameter} = noanonymous"));
    }
    let parameter = "smtp_sasl_security_options";
    let is_forbidden = configuration.list(parameter).contains(&"noplaintext");
    if is_forbidden && subject.setup.plaintext_logins {
        let message = "PLAIN and LOGIN are forbidden without TLS, and a backend with auth.allowPlaintext has nothing else: `no mechanism available`, and mail is deferred";
        findings.add(&PLAINTEXT_FORBIDDEN, parameter, message, format!("{parameter} = noanonymous"));
    }
    if !is_forbidden && !subject.setup.plaintext_logins {
        let message = "a server that is taken for a backend and offers no TLS is told the password";
        findings.add(
            &PLAINTEXT_EXPOSED,
            parameter,
            message,
            format!("{parameter} = noplaintext, noanonymous, Postfix's default; or --plaintext-logins, if a backend has auth.allowPlaintext"),
        );
    }
}

fn tls(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let configuration = subject.configuration;
    let (parameter, ours) = ("smtp_tls_policy_maps", subject.setup.map("tls-policy"));
    position(subject, parameter, &ours, (&TLS_NOT_ASKED, &TLS_NOT_FIRST), findings);
    let parameter = "smtp_tls_wrappermode";
    if configuration.is_on(parameter) {
        let message = "every connection begins with TLS, and backends that expect STARTTLS or none cannot be spoken to";
        let remedy = format!(
            "{parameter} = no; the service {IMPLICIT_TLS_SERVICE} of master.cf sets it for those backends that want it"
        );
        findings.add(&TLS_FROM_FIRST_BYTE_EVERYWHERE, parameter, message, remedy);
    }
    let service = configuration.service(IMPLICIT_TLS_SERVICE, "unix");
    let wrapper_mode = service.and_then(|service| service.overrides.get("smtp_tls_wrappermode"));
    if configuration.services().is_some() && wrapper_mode.is_none_or(|value| value != "yes") {
        let message = "there is no such service with smtp_tls_wrappermode=yes; mail for a backend whose tls.mode is Implicit is deferred (`mail transport unavailable`)";
        findings.add(
            &IMPLICIT_TLS_MISSING,
            format!("{IMPLICIT_TLS_SERVICE}/unix"),
            message,
            "the lines for master.cf that `agent postfix-config` prints",
        );
    }
    if configuration.machine().is_some_and(|machine| machine.is_ca_file_missing) {
        let message = format!(
            "there is no {}: mail for a backend with TLS is deferred (`our TLS engine is unavailable`)",
            configuration.value("smtp_tls_CAfile")
        );
        let remedy = "--ca-file: /etc/ssl/certs/ca-certificates.crt on Debian, Ubuntu and Alpine, /etc/pki/tls/certs/ca-bundle.crt on RHEL and Fedora, /etc/ssl/ca-bundle.pem on SUSE";
        findings.add(&AUTHORITIES_MISSING, "smtp_tls_CAfile", message, remedy);
    }
    if configuration.value("smtp_tls_CAfile").is_empty()
        && configuration.value("smtp_tls_CApath").is_empty()
        && !configuration.is_on("tls_append_default_CA")
    {
        let message = "no public authority is trusted: mail for a backend without a caRef is deferred (`Server certificate not trusted`)";
        let remedy = format!("smtp_tls_CAfile = {}", subject.setup.ca_file.display());
        findings.add(&NO_PUBLIC_AUTHORITIES, "smtp_tls_CAfile", message, remedy);
    }
}

/// Checks that a map of ours is asked, and first.
fn position(
    subject: CheckContext<'_>,
    parameter: &str,
    ours: &str,
    (not_asked, not_first): (&'static Rule, &'static Rule),
    findings: &mut ConfigFindings,
) {
    let tables = subject.configuration.list(parameter);
    match tables.iter().position(|table| *table == ours) {
        None => {
            let is = if tables.is_empty() { "it is empty".to_owned() } else { format!("it is {}", tables.join(", ")) };
            let message = format!("{is}: for a backend that Postfix is moved to it has nothing of that backend's");
            findings.add(not_asked, parameter, message, format!("{parameter} = {ours}"));
        }
        Some(0) => {}
        Some(at) => {
            let message =
                format!("what {} answers is used for a backend, whatever the operator says", tables[..at].join(", "));
            findings.add(not_first, parameter, message, format!("put {ours} first"));
        }
    }
}
