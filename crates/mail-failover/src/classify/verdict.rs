//! One verdict, and its two forms.

use std::fmt::Write;

use mail_failover_core::model::EvidenceClass;
use mail_failover_dataplane::reading::{Sender, is_deferred, of_delivery};
use mail_failover_replies::{Answered, Consequences, DecidingRule, NoReply, Reading, Reply, Rulebook, plain_text};
use serde::Serialize;

/// The verdict about one reply, as JSON has it.
#[derive(Debug, Serialize)]
pub(super) struct Verdict<'a> {
    stage: Option<&'static str>,
    reply: &'a str,
    about: &'static str,
    class: &'static str,
    counts: bool,
    immediate: bool,
    defer: bool,
    rule: Option<&'a str>,
    source: Option<&'a str>,
    /// The text in which rules of the user look for words; only for people, and where there are such rules.
    #[serde(skip)]
    read_as: Option<String>,
}

impl<'a> Verdict<'a> {
    /// Judges a reply; `text` is what is shown of it.
    pub(super) fn of(stage: Option<Answered>, text: &'a str, rulebook: &'a Rulebook) -> Result<Self, NoReply> {
        let reply = Reply::parse(stage, text)?;
        Ok(Self::from_reading(&reply, text, rulebook.read(&reply), rulebook))
    }

    /// Judges a reply to a delivery of a message of this sender, as the agent does.
    pub(super) fn of_delivery(
        stage: Option<Answered>,
        text: &'a str,
        sender: Sender,
        rulebook: &'a Rulebook,
    ) -> Result<Self, NoReply> {
        let reply = Reply::parse(stage, text)?;
        Ok(Self::from_reading(&reply, text, of_delivery(rulebook, &reply, sender), rulebook))
    }

    fn from_reading(reply: &Reply<'_>, text: &'a str, reading: Reading<'a>, rulebook: &'a Rulebook) -> Self {
        let is_refusal = reply.code >= 400;
        let Consequences { counts, immediate, .. } = reading.about.consequences();
        let has_own_rules = !rulebook.source().rules.is_empty();
        // A delivery may be refused for its sender alone.
        let counts = counts && reading.class != EvidenceClass::RecipientLevel;
        Self {
            stage: reply.stage.map(Answered::as_str),
            reply: text,
            about: reading.about.as_str(),
            class: reading.class.as_str(),
            counts: is_refusal && counts,
            immediate: is_refusal && immediate,
            // As the shield decides, which lets only what is surely the message's bounce.
            defer: is_deferred(rulebook, reply),
            rule: reading.rule.map(DecidingRule::id),
            source: reading.rule.map(DecidingRule::source),
            read_as: has_own_rules.then(|| plain_text(reply)),
        }
    }

    /// The verdict for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} {}\n", self.stage.unwrap_or("(stage not known)"), self.reply);
        let decided = match (self.rule, self.source) {
            (Some(rule), Some(source)) => format!("rule {rule}, after {source}"),
            _ if self.class == "Ok" => "no refusal".to_owned(),
            _ => "no rule knows it; its code decides".to_owned(),
        };
        let counts = if self.counts { "counts against the backend" } else { "does not count against the backend" };
        let immediate = if self.immediate { "; a policy may leave at once" } else { "" };
        let defer = if self.defer { "; kept while another backend can carry the message" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  about {} ({}): {counts}{immediate}{defer}", self.about, self.class);
        let _ = writeln!(text, "  {decided}");
        if let Some(read_as) = &self.read_as {
            let _ = writeln!(text, "  spec.replies[].words look in: {read_as}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use mail_failover_replies::About;

    use super::*;

    #[test]
    fn a_success_counts_for_nothing() {
        let rulebook = Rulebook::default();
        let verdict = Verdict::of(Some(Answered::Data), "250 2.0.0 queued", &rulebook).unwrap();
        assert_eq!((verdict.about, verdict.class), (About::Unknown.as_str(), "Ok"));
        assert!(!verdict.counts && !verdict.immediate && !verdict.defer && verdict.rule.is_none());
    }
}
