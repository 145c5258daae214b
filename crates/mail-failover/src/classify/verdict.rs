//! One verdict, and its two forms.

use std::fmt::Write;

use mail_failover_replies::{NoReply, Reply, Rule, Stage, subject};
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
    rule: Option<&'static str>,
    source: Option<&'static str>,
}

impl<'a> Verdict<'a> {
    /// Judges a reply; `text` is what is shown of it.
    pub(super) fn of(stage: Option<Stage>, text: &'a str, provider: Option<&str>) -> Result<Self, NoReply> {
        let reply = Reply::parse(stage, text)?;
        if reply.code < 400 {
            return Ok(Self {
                stage: stage.map(Stage::as_str),
                reply: text,
                about: "Unknown",
                class: "Ok",
                counts: false,
                immediate: false,
                defer: false,
                rule: None,
                source: None,
            });
        }
        let (about, rule) = subject(&reply, provider);
        let consequences = about.consequences();
        Ok(Self {
            stage: stage.map(Stage::as_str),
            reply: text,
            about: about.as_str(),
            class: about.class(stage, reply.code).as_str(),
            counts: consequences.counts,
            immediate: consequences.immediate,
            defer: consequences.deferred && reply.code >= 500,
            rule: rule.map(Rule::id),
            source: rule.map(Rule::source),
        })
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
        text
    }
}
