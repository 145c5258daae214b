//! Rules about `spec.replies`.

use std::sync::Arc;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::ObjectSet;
use crate::manifests::Manifest;
use mail_failover_core::model::ReplyRule;
use mail_failover_runtime::findings::{Rule, Severity};

pub(super) const INVALID_REPLY_RULE: Rule = Rule {
    code: "InvalidReplyRule",
    severity: Severity::Error,
    broken_when: "a rule of spec.replies cannot work: the operator goes on without it, and the condition Ready would be False",
};
pub(super) const REPLY_RULE_NEVER_DECIDES: Rule = Rule {
    code: "ReplyRuleNeverDecides",
    severity: Severity::Warning,
    broken_when: "an earlier rule of spec.replies has no condition that a later one has not: the later one never decides",
};

pub(super) const REPLY_RULE_VAGUE: Rule = Rule {
    code: "ReplyRuleVague",
    severity: Severity::Hint,
    broken_when: "a rule of spec.replies may decide more replies than it names",
};

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    for entry in set.backends.values() {
        let Some(backend) = &entry.model else { continue };
        for rejected in &backend.replies.rejected {
            let (path, why) = rejected.split_once(": ").unwrap_or((rejected, ""));
            let field = field(entry.manifest, path);
            findings.add(
                &INVALID_REPLY_RULE,
                entry.manifest,
                &field,
                why.to_owned(),
                "mail-failover classify --backend-file tries it",
            );
        }
        for doubt in backend.replies.rules.iter().flat_map(mail_failover_replies::doubts) {
            let field = field(entry.manifest, &format!("spec.{}", doubt.field));
            let remedy = "mail-failover classify --backend-file tries it";
            findings.add(&REPLY_RULE_VAGUE, entry.manifest, &field, doubt.problem, remedy);
        }
        for (index, later) in backend.replies.rules.iter().enumerate() {
            let earlier = backend.replies.rules[..index].iter().find(|earlier| covers(earlier, later));
            if let Some(earlier) = earlier {
                let message = format!("{} comes before it, and decides all that it would", earlier.name);
                let field = field(entry.manifest, &format!("spec.replies[{}]", later.name));
                findings.add(
                    &REPLY_RULE_NEVER_DECIDES,
                    entry.manifest,
                    &field,
                    message,
                    "put it first, or take it out",
                );
            }
        }
    }
}

/// Returns true if the earlier rule certainly applies wherever the later one does.
fn covers(earlier: &ReplyRule, later: &ReplyRule) -> bool {
    covers_list(&earlier.stages, &later.stages)
        && covers_list(&earlier.codes, &later.codes)
        && covers_list(&earlier.enhanced_codes, &later.enhanced_codes)
        && covers_list(&earlier.words, &later.words)
}

/// Returns true if one list allows all that another does; an empty one allows anything.
fn covers_list(earlier: &[Arc<str>], later: &[Arc<str>]) -> bool {
    earlier.is_empty() || (!later.is_empty() && later.iter().all(|item| earlier.contains(item)))
}

/// Turns the name of a rule in a path into its index, by which the lines of a manifest are found.
fn field(manifest: &Manifest, path: &str) -> String {
    let Some((name, rest)) = path.strip_prefix("spec.replies[").and_then(|rest| rest.split_once(']')) else {
        return path.to_owned();
    };
    let rules = manifest.value().pointer("/spec/replies").and_then(serde_json::Value::as_array);
    let index = rules.and_then(|rules| rules.iter().position(|rule| rule["name"] == name));
    index.map_or_else(|| path.to_owned(), |index| format!("spec.replies[{index}]{rest}"))
}
