//! What an SMTP reply is about, and what follows from it.
//!
//! The question *who is it about?* comes before *how bad is it?*. Rules are data (`rules/*.yaml`): the first that applies decides, from the
//! specific to the general; what no rule knows is decided by its codes (RFC 5321 §4.2, RFC 3463). Pure: the same reply gives the same answer.
//!
//! Rules see the words of all lines of a reply, without mail addresses, hosts and what a server quotes of another one: a stranger writes those.

mod about;
mod reply;
mod rules;
mod text;

use std::sync::LazyLock;

pub use about::{About, Consequences};
pub use reply::{Enhanced, NoReply, Reply, Stage, UnknownStage};
pub use rules::{Rule, RuleError, Rules};

/// The rules that are compiled in, in order of precedence.
const FILES: &[(&str, &str)] = &[
    ("providers", include_str!("../rules/providers.yaml")),
    ("destination", include_str!("../rules/destination.yaml")),
    ("account", include_str!("../rules/account.yaml")),
    ("identity", include_str!("../rules/identity.yaml")),
    ("login", include_str!("../rules/login.yaml")),
    ("mailbox", include_str!("../rules/mailbox.yaml")),
    ("rate", include_str!("../rules/rate.yaml")),
    ("address", include_str!("../rules/address.yaml")),
    ("service", include_str!("../rules/service.yaml")),
    ("recipient", include_str!("../rules/recipient.yaml")),
    ("message", include_str!("../rules/message.yaml")),
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

/// What a reply is about, and the rule that says so; `None` when no rule knows it.
pub fn subject(reply: &Reply<'_>) -> (About, Option<&'static Rule>) {
    match RULES.decide(reply) {
        Some(rule) => (rule.about(), Some(rule)),
        None => (About::Unknown, None),
    }
}
