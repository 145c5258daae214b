//! Rules on bounces: mail that a standby could deliver must not bounce, other mail must.

use mail_failover_runtime::findings::{Rule, Severity};

use super::super::finding::ConfigFindings;
use super::super::wanted::REFUSALS;
use super::CheckContext;

pub(super) static SHIELD_MISSING: Rule = Rule {
    code: "ShieldMissing",
    severity: Severity::Error,
    broken_when: "a 5xx about our own account bounces mail that a standby could deliver",
};
pub(super) static TABLE_BEFORE_AGENT: Rule = Rule {
    code: "TableBeforeAgent",
    severity: Severity::Hint,
    broken_when: "a refusal of a recipient that has words like those about an account waits for days",
};
pub(super) static SOFT_BOUNCE: Rule = Rule {
    code: "SoftBounce",
    severity: Severity::Warning,
    broken_when: "nothing bounces, so that nobody is told of a wrong address for days",
};
pub(super) static REPLIES_REWRITTEN: Rule = Rule {
    code: "RepliesRewritten",
    severity: Severity::Warning,
    broken_when: "replies of backends are rewritten before the agent sees them",
};
pub(super) static REPLY_FILTER_MISSING: Rule = Rule {
    code: "ReplyFilterMissing",
    severity: Severity::Warning,
    broken_when: "a 5xx ends the attempt, though another backend would take the message",
};
pub(super) static REPLY_FILTER_TOO_NEW: Rule = Rule {
    code: "ReplyFilterTooNew",
    severity: Severity::Error,
    broken_when: "this Postfix cannot read the table of smtp_reply_filter, and takes each reply for a failure",
};
pub(super) static GREETING_BOUNCES: Rule = Rule {
    code: "GreetingBounces",
    severity: Severity::Error,
    broken_when: "a backend that greets with 5xx bounces mail",
};
pub(super) static LOGIN_BOUNCES: Rule =
    Rule { code: "LoginBounces", severity: Severity::Error, broken_when: "a refused password bounces mail" };

pub(super) fn check(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let configuration = subject.configuration;
    tables(subject, findings);
    if configuration.is_on("soft_bounce") {
        let message = "no refusal bounces: the sender of a mistyped address hears of it when maximal_queue_lifetime is over, and the queue \
                       fills with such mail";
        findings.add(
            &SOFT_BOUNCE,
            "soft_bounce",
            message,
            "soft_bounce = no; what is about our account does not bounce anyway",
        );
    }
    replies(subject, findings);
    let parameter = "smtp_skip_5xx_greeting";
    if !configuration.is_on(parameter) {
        let message = "a backend that turns us away with 5xx in its greeting bounces every message";
        findings.add(&GREETING_BOUNCES, parameter, message, format!("{parameter} = yes, Postfix's default"));
    }
    let parameter = "smtp_sasl_auth_soft_bounce";
    if subject.setup.sasl && !configuration.is_on(parameter) {
        let message = "a backend that refuses our password bounces every message";
        findings.add(&LOGIN_BOUNCES, parameter, message, format!("{parameter} = yes, Postfix's default"));
    }
}

fn tables(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let parameter = "smtp_delivery_status_filter";
    let asked = subject.configuration.list(parameter);
    let is_filtered = has_our_reply_filter(subject);
    let [table, agent] = subject.setup.shield_with_table();
    if asked == [&*table, &*agent] {
        if is_filtered && subject.setup.reply_filter {
            let message =
                format!("{table}, which knows fewer rules than the agent, has the first word about each refusal");
            findings.add(&TABLE_BEFORE_AGENT, parameter, message, format!("{parameter} = {agent}"));
        }
        return;
    }
    // The agent answers for each refusal, so what stands after it is not asked.
    if !(is_filtered && asked.first() == Some(&&*agent)) {
        let remedy = if is_filtered { agent.clone() } else { format!("{table}, {agent}") };
        let message = what_bounces(&asked, &[table, agent]);
        findings.add(&SHIELD_MISSING, parameter, message, format!("{parameter} = {remedy}"));
    }
}

/// True if replies go through the agent's filter.
fn has_our_reply_filter(subject: CheckContext<'_>) -> bool {
    let filter = subject.configuration.value("smtp_reply_filter");
    // The dollar sign in it is written in more than one way.
    filter.starts_with("pipemap:")
        && filter.contains(REFUSALS)
        && filter.contains(&format!("{}}}", subject.setup.map("reply-filter")))
}

fn replies(subject: CheckContext<'_>, findings: &mut ConfigFindings) {
    let (parameter, configuration) = ("smtp_reply_filter", subject.configuration);
    let filter = configuration.value(parameter);
    let is_ours = has_our_reply_filter(subject);
    if !filter.is_empty() && !is_ours {
        let message =
            format!("{filter} changes replies before they are logged, and the agent judges a backend by the log");
        let remedy = if subject.setup.reply_filter { subject.setup.reply_filter() } else { String::new() };
        findings.add(&REPLIES_REWRITTEN, parameter, message, format!("{parameter} = {remedy}"));
    }
    if filter.is_empty() && subject.setup.reply_filter {
        let message = "a 5xx of a backend that is not about the recipient (a paused account, a block list) ends the attempt: the message waits until its next one";
        let remedy = format!("{parameter} = {}; or --without-reply-filter", subject.setup.reply_filter());
        findings.add(&REPLY_FILTER_MISSING, parameter, message, remedy);
    }
    let version = configuration.version();
    if let Some(version) = version.filter(|version| is_ours && *version < (3, 7)) {
        let message = format!(
            "Postfix {}.{} has no tables within main.cf (3.7): each lookup fails, also that of the final 250, and messages are sent twice",
            version.0, version.1
        );
        findings.add(&REPLY_FILTER_TOO_NEW, parameter, message, format!("{parameter} =, and --without-reply-filter"));
    }
}

fn what_bounces(asked: &[&str], [table, agent]: &[String; 2]) -> String {
    match asked {
        [] => "nothing is asked about the status of a delivery: a paused account, a spent quota or a revoked password bounces mail that a \
               standby could deliver"
            .to_owned(),
        [only] if only == agent => {
            format!("{table} is not asked: while the agent does not run, a paused account or a spent quota bounces mail")
        }
        [only] if only == table => format!(
            "{agent} is not asked: what only the agent can tell, such as a revoked permission, bounces mail that a standby could deliver"
        ),
        _ => format!(
            "{} are asked in this order about the status of a delivery; only the first answer counts, and after a table that fails none is \
             asked: a paused account, a spent quota or a revoked password bounces mail that a standby could deliver",
            asked.join(", ")
        ),
    }
}
