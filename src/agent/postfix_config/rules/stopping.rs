//! What the agent needs to see deliveries and to end without leaving mail behind.

use super::super::finding::Findings;
use super::Subject;
use crate::lint::{Rule, Severity};

pub(super) static LOG_UNREADABLE: Rule = Rule {
    code: "LogUnreadable",
    severity: Severity::Warning,
    broken_when: "the agent does not see what becomes of deliveries",
};
pub(super) static INTAKE_NOT_ASKED: Rule = Rule {
    code: "IntakeNotAsked",
    severity: Severity::Warning,
    broken_when: "the agent cannot stop new mail while it empties the queue at its end",
};

pub(super) fn check(subject: Subject<'_>, findings: &mut Findings) {
    log(subject, findings);
    intake(subject, findings);
}

fn log(subject: Subject<'_>, findings: &mut Findings) {
    let (parameter, wanted) = ("maillog_file", subject.setup.maillog_file.display().to_string());
    let is = subject.configuration.value(parameter);
    if is != wanted {
        let is = if is.is_empty() { "Postfix logs to syslog".to_owned() } else { format!("Postfix logs to {is}") };
        let message = format!(
            "{is}: the agent reads {wanted}, and neither leaves a dead backend by itself nor reports what mail met"
        );
        findings.add(
            &LOG_UNREADABLE,
            parameter,
            message,
            format!("{parameter} = {wanted}; or name to the agent, and here by --maillog-file, what it can read"),
        );
    } else if subject.configuration.services().is_some()
        && subject.configuration.service("postlog", "unix-dgram").is_none()
    {
        let message = "master.cf has no such service, without which Postfix does not start with maillog_file";
        findings.add(&LOG_UNREADABLE, "postlog/unix-dgram", message, "postlog unix-dgram n - n - 1 postlogd");
    }
}

fn intake(subject: Subject<'_>, findings: &mut Findings) {
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
