//! Rules on the log and on the end: the agent sees deliveries, and ends without leaving mail behind.

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::finding::ConfigFindings;
use super::CheckContext;

pub(super) static LOG_UNREADABLE: Rule = Rule {
    code: "LogUnreadable",
    severity: Severity::Warning,
    broken_when: "the agent does not see what becomes of deliveries",
};
pub(super) static LOG_FORBIDDEN: Rule = Rule {
    code: "LogForbidden",
    severity: Severity::Error,
    broken_when: "Postfix does not start, because it may not log where it is told to",
};
pub(super) static LOG_FORGEABLE: Rule = Rule {
    code: "LogForgeable",
    severity: Severity::Error,
    broken_when: "addresses are logged without quotes, so that a recipient can pass for a delivery",
};
pub(super) static LOG_IS_PIPE: Rule = Rule {
    code: "LogIsPipe",
    severity: Severity::Error,
    broken_when: "Postfix logs to a named pipe, and does not start while nobody reads it",
};
pub(super) static POSTLOG_MISSING: Rule = Rule {
    code: "PostlogMissing",
    severity: Severity::Error,
    broken_when: "Postfix does not start, because it has no service to write maillog_file",
};
pub(super) static INTAKE_NOT_ASKED: Rule = Rule {
    code: "IntakeNotAsked",
    severity: Severity::Warning,
    broken_when: "the agent cannot stop new mail while it empties the queue at its end",
};

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    log(subject, findings);
    intake(subject, findings);
}

fn log(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let (parameter, wanted) = ("maillog_file", subject.setup.maillog_file());
    let is = subject.configuration.value(parameter);
    let mut prefixes = subject.configuration.list("maillog_file_prefixes").into_iter();
    if !is.is_empty() && !prefixes.any(|prefix| is.starts_with(prefix)) {
        let message = format!("{is} begins with nothing that maillog_file_prefixes allows, and Postfix does not start");
        let remedy = format!("maillog_file_prefixes = {}, {is}", subject.configuration.value("maillog_file_prefixes"));
        findings.add(&LOG_FORBIDDEN, parameter, message, remedy);
    }
    if is != wanted {
        let (is, wanted) = (place_of_log(is), place_of_log(&wanted));
        let message = format!(
            "Postfix logs to {is} and not to {wanted}: an agent that reads that neither leaves a dead backend by itself nor reports what mail met"
        );
        findings.add(
            &LOG_UNREADABLE,
            parameter,
            message,
            format!("what `agent postfix-config --maillog-file {wanted}` prints; or say here --maillog-file {is}, and have the agent read that"),
        );
    }
    if !is.is_empty()
        && subject.configuration.services().is_some()
        && subject.configuration.service("postlog", "unix-dgram").is_none()
    {
        let message = "master.cf has no such service, without which Postfix does not start with maillog_file";
        findings.add(&POSTLOG_MISSING, "postlog/unix-dgram", message, "postlog unix-dgram n - n - 1 postlogd");
    }
    if subject.configuration.machine().is_some_and(|machine| machine.log_is_pipe) {
        let message = format!("{is} is a named pipe: `postfix start` hangs until an agent reads it");
        findings.add(&LOG_IS_PIPE, parameter, message, "log to a file, which the agent follows through rotation");
    }
    let parameter = "info_log_address_format";
    if subject.configuration.value(parameter) == "internal" {
        let message = "a recipient whose address holds the words of a delivery record passes for one, and makes the agent leave a backend";
        findings.add(&LOG_FORGEABLE, parameter, message, format!("{parameter} = external, Postfix's default"));
    }
}

fn place_of_log(file: &str) -> &str {
    if file.is_empty() { "syslog" } else { file }
}

fn intake(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "smtpd_end_of_data_restrictions";
    let (restrictions, ours) = (subject.configuration.list(parameter), subject.setup.map("intake"));
    let asked = restrictions.windows(2).any(|pair| pair == ["check_client_access", ours.as_str()]);
    if !asked {
        let message = "mail that comes in while the agent empties the queue at its end may be left behind with the pod";
        findings.add(
            &INTAKE_NOT_ASKED,
            parameter,
            message,
            format!("{parameter} = {}, before what is there", subject.setup.intake()),
        );
    }
}
