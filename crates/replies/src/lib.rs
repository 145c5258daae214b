//! Subject of an SMTP reply, and the consequences of it.
//!
//! The question *who is it about?* comes before *how bad is it?*. Rules are data (`rules/*.yaml`):
//! the first that applies decides, from the specific to the general; what no rule knows is decided
//! by its codes (RFC 5321 §4.2, RFC 3463). Pure: the same reply gives the same answer.
//!
//! Rules see the words of all lines of a reply, without mail addresses, hosts and what a server
//! quotes of another one: a stranger writes those.

#![warn(missing_docs)]

mod about;
mod expression;
mod quotes;
mod reply;
mod rulebook;
mod rules;
mod text;

use std::sync::LazyLock;

pub use about::{About, Consequences};
pub use reply::{Answered, EnhancedCode, NoReply, Reply, UnknownStage};
pub use rulebook::{DecidingRule, Reading, RuleProblem, Rulebook, doubts};
pub use rules::{Rule, RuleError, Rules};

/// The rules that are compiled in, in order of precedence.
const FILES: &[(&str, &str)] = &[
    ("microsoft", include_str!("../rules/microsoft.yaml")),
    ("google", include_str!("../rules/google.yaml")),
    ("zoho", include_str!("../rules/zoho.yaml")),
    ("ses", include_str!("../rules/ses.yaml")),
    ("mailgun", include_str!("../rules/mailgun.yaml")),
    ("brevo", include_str!("../rules/brevo.yaml")),
    ("sendgrid", include_str!("../rules/sendgrid.yaml")),
    ("postmark", include_str!("../rules/postmark.yaml")),
    ("mandrill", include_str!("../rules/mandrill.yaml")),
    ("mailjet", include_str!("../rules/mailjet.yaml")),
    ("sparkpost", include_str!("../rules/sparkpost.yaml")),
    ("cpanel", include_str!("../rules/cpanel.yaml")),
    ("qmail", include_str!("../rules/qmail.yaml")),
    ("yahoo", include_str!("../rules/yahoo.yaml")),
    ("netease", include_str!("../rules/netease.yaml")),
    ("tencent", include_str!("../rules/tencent.yaml")),
    ("destination", include_str!("../rules/destination.yaml")),
    ("content", include_str!("../rules/content.yaml")),
    ("mailbox", include_str!("../rules/mailbox.yaml")),
    ("account", include_str!("../rules/account.yaml")),
    ("allowance", include_str!("../rules/allowance.yaml")),
    ("stopped", include_str!("../rules/stopped.yaml")),
    ("identity", include_str!("../rules/identity.yaml")),
    ("login", include_str!("../rules/login.yaml")),
    ("hello", include_str!("../rules/hello.yaml")),
    ("rate", include_str!("../rules/rate.yaml")),
    ("address", include_str!("../rules/address.yaml")),
    ("service", include_str!("../rules/service.yaml")),
    ("rcpt", include_str!("../rules/rcpt.yaml")),
    ("recipient", include_str!("../rules/recipient.yaml")),
    ("message", include_str!("../rules/message.yaml")),
    ("quoted", include_str!("../rules/quoted.yaml")),
    ("hints", include_str!("../rules/hints.yaml")),
    ("codes", include_str!("../rules/codes.yaml")),
];

static RULES: LazyLock<Rules> = LazyLock::new(|| match Rules::read(FILES) {
    Ok(rules) => rules,
    // The tests read the same files.
    Err(error) => unreachable!("the rules that are compiled in: {error}"),
});

/// The rules that are compiled in.
pub fn rules() -> &'static Rules {
    &RULES
}

/// The subject of a refusal by the rules that are compiled in, and the rule that says so; no rule when none knows it.
///
/// `provider` limits the rules of providers to those of one of [`providers`]; without it all of them may decide.
pub fn subject(reply: &Reply<'_>, provider: Option<&str>) -> (About, Option<&'static Rule>) {
    match RULES.decide(reply, provider) {
        Some(rule) => (rule.about(), Some(rule)),
        None => (About::Unknown, None),
    }
}

/// Names of the providers and servers that have rules of their own.
pub fn providers() -> Vec<&'static str> {
    let mut names: Vec<_> = RULES.iter().filter_map(Rule::provider).collect();
    names.dedup();
    names
}

/// The provider that a host belongs to, as far as the names of its hosts tell.
pub fn provider_of(host: &str) -> Option<&'static str> {
    RULES.provider_of(host)
}

/// The text of a reply in which a user's own rules look for words.
pub fn plain_text(reply: &Reply<'_>) -> String {
    text::plain(reply.code, reply.text)
}

/// The text of a reply with this code, without mail addresses and without what it quotes of another server. It is read
/// as the reply itself.
pub fn without_addresses(code: u16, text: &str) -> String {
    text::without_addresses(code, text)
}
