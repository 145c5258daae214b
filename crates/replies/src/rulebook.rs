//! The rules for one backend: the user's own, then those that are compiled in.

use std::ops::RangeInclusive;
use std::sync::Arc;

use mail_failover_core::model::{EvidenceClass, ReplyRule, ReplyRules};
use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::about::About;
use crate::reply::{Answered, Reply};
use crate::rules::{EnhancedPattern, Rule, code_range};
use crate::{RULES, expression, providers, text};

/// Most memory of the compiled words of one rule, in bytes.
// The time of a match grows with it, too: at most this times the length of the text (documentation of the crate
// `regex`).
const MAX_REGEX: usize = 128 * 1024;
/// Most groups within one another.
const MAX_NESTING: u32 = 32;
/// Codes of refusals (RFC 5321 §4.2.1).
const REFUSALS: RangeInclusive<u16> = 400..=599;

/// The rules for the replies of one backend. Cheap to make where the user has no rules.
#[derive(Clone, Debug, Default)]
pub struct Rulebook {
    source: ReplyRules,
    own: Vec<OwnRule>,
}

impl PartialEq for Rulebook {
    /// Compares the texts that they were made of.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Rulebook {}

/// A rule of the user, ready to be applied.
#[derive(Clone, Debug)]
struct OwnRule {
    id: Arc<str>,
    about: About,
    stages: Vec<Answered>,
    codes: Vec<RangeInclusive<u16>>,
    enhanced: Vec<EnhancedPattern>,
    words: Option<RegexSet>,
}

/// A rule of the user, or a provider, that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RuleProblem {
    /// Name of the rule; `None` for the provider.
    pub rule: Option<Arc<str>>,
    /// Path of the field within the object that has the rules: `replies[house-quota].words[0]`.
    pub field: String,
    /// The reason, and the remedy.
    pub problem: String,
}

/// Meaning of a reply: its subject, its class and the rule that decided.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Subject of the refusal; `Unknown` for a reply that refuses nothing.
    pub about: About,
    /// Class of the evidence that the reply is.
    pub class: EvidenceClass,
    /// Rule that decided, if one knows the reply.
    pub rule: Option<DecidingRule<'a>>,
}

/// A rule that has decided.
#[derive(Clone, Copy, Debug)]
pub enum DecidingRule<'a> {
    /// One that is compiled in.
    BuiltIn(&'static Rule),
    /// One of the user, by its id.
    Own(&'a str),
}

impl<'a> DecidingRule<'a> {
    /// Id of the rule: `login/refused`, or `spec.replies[house-quota]` for a rule of the user.
    pub fn id(self) -> &'a str {
        match self {
            Self::BuiltIn(rule) => rule.id(),
            Self::Own(id) => id,
        }
    }

    /// Document that the rule follows.
    pub fn source(self) -> &'a str {
        match self {
            Self::BuiltIn(rule) => rule.source(),
            Self::Own(_) => "the backend's own rules",
        }
    }

    /// Id of the rule if it is the user's.
    pub fn own_id(self) -> Option<&'a str> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Own(id) => Some(id),
        }
    }
}

impl Rulebook {
    /// Makes a rulebook. What cannot work is left out and listed; the rest holds.
    pub fn new(rules: &ReplyRules) -> (Self, Vec<RuleProblem>) {
        let mut problems = vec![];
        let provider = rules.provider.as_deref().and_then(|name| {
            let known = providers();
            let found = known.iter().find(|known| known.eq_ignore_ascii_case(name)).copied();
            if found.is_none() {
                let problem = format!("{name} has no rules of its own; use one of {}", known.join(", "));
                problems.push(RuleProblem { rule: None, field: "provider".to_owned(), problem });
            }
            found.map(Arc::from)
        });
        let mut book = Self { source: ReplyRules { provider, ..ReplyRules::default() }, own: vec![] };
        for rule in &rules.rules {
            let is_known = book.source.rules.iter().any(|earlier| earlier.name == rule.name);
            let compiled = if is_known {
                Err(problem(rule, "name", "another rule has it; choose another"))
            } else {
                OwnRule::compile(rule)
            };
            match compiled {
                Ok(own) => {
                    book.own.push(own);
                    book.source.rules.push(rule.clone());
                }
                Err(problem) => problems.push(problem),
            }
        }
        (book, problems)
    }

    /// The rules of this provider, and the general ones.
    ///
    /// # Errors
    /// [`RuleProblem`] if the provider has no rules of its own.
    pub fn of_provider(name: &str) -> Result<Self, RuleProblem> {
        let (book, mut problems) = Self::new(&ReplyRules { provider: Some(name.into()), ..ReplyRules::default() });
        problems.pop().map_or(Ok(book), Err)
    }

    /// Rules that are in force: those given, without the ones that cannot work.
    pub fn source(&self) -> &ReplyRules {
        &self.source
    }

    /// Reads a reply.
    pub fn read(&self, reply: &Reply<'_>) -> Reading<'_> {
        match reply.code {
            // 3yz (RFC 5321 §4.2.1) asks for more of what goes well.
            200..=399 => return Reading { about: About::Unknown, class: EvidenceClass::Ok, rule: None },
            400..=599 => {}
            _ => return Reading { about: About::Unknown, class: EvidenceClass::ProtocolError, rule: None },
        }
        // ADR-0071: A user's rules come before all others.
        let own = self.own_rule(reply).map(|own| (own.about, DecidingRule::Own(&own.id)));
        let decided = own.or_else(|| {
            let rule = RULES.decide(reply, self.source.provider.as_deref())?;
            Some((rule.about(), DecidingRule::BuiltIn(rule)))
        });
        let about = decided.map_or(About::Unknown, |(about, _)| about);
        Reading { about, class: about.class(reply.stage, reply.code), rule: decided.map(|(_, rule)| rule) }
    }

    fn own_rule(&self, reply: &Reply<'_>) -> Option<&OwnRule> {
        if self.own.is_empty() {
            return None;
        }
        let text = text::plain(reply.code, reply.text);
        self.own.iter().find(|rule| rule.applies(reply, &text))
    }
}

impl OwnRule {
    fn compile(rule: &ReplyRule) -> Result<Self, RuleProblem> {
        let ReplyRule { name, about, stages, codes, enhanced_codes, words } = rule;
        let about = About::ALL
            .into_iter()
            .find(|known| known.as_str() == &**about && *known != About::Unknown)
            .ok_or_else(|| problem(rule, "about", &format!("{about} is no subject; use one of {}", subjects())))?;
        if codes.is_empty() && enhanced_codes.is_empty() && words.is_empty() {
            return Err(problem(rule, "", "it decides every reply; give it codes, enhancedCodes or words"));
        }
        let stages = numbered(stages, |index, stage| {
            let answered: Answered =
                stage.parse().map_err(|error| problem(rule, &format!("stages[{index}]"), &format!("{error}")))?;
            if about.needs_a_transaction() && answered.is_before_mail() {
                let why = format!(
                    "{stage} comes before MAIL, when there is neither message nor recipient; leave it out for about {about}"
                );
                return Err(problem(rule, &format!("stages[{index}]"), &why));
            }
            Ok(answered)
        })?;
        let codes = numbered(codes, |index, code| {
            code_range(code).filter(is_of_refusals).ok_or_else(|| {
                let why = format!("{code} is no code of a refusal; use 550, 5xx or 450-452");
                problem(rule, &format!("codes[{index}]"), &why)
            })
        })?;
        let enhanced = numbered(enhanced_codes, |index, code| {
            let field = format!("enhancedCodes[{index}]");
            let pattern = EnhancedPattern::parse(code).ok_or_else(|| {
                problem(rule, &field, &format!("{code} is no enhanced code; use 5.7.1, x.7.* or none"))
            })?;
            if !codes.is_empty() && !codes.iter().any(|codes| pattern.can_come_with(codes)) {
                let why = format!("{code} comes with no code of codes; the first digits are the same (RFC 3463)");
                return Err(problem(rule, &field, &why));
            }
            Ok(pattern)
        })?;
        if words.is_empty() {
            check_breadth(rule, &codes, &enhanced)?;
        }
        for (index, word) in words.iter().enumerate() {
            check_word(rule, &format!("words[{index}]"), word, &codes)?;
        }
        let words = if words.is_empty() {
            None
        } else {
            let all = builder(words.iter().map(|word| text::folded(word))).build();
            Some(all.map_err(|error| problem(rule, "words", &regex_problem(&error)))?)
        };
        Ok(Self { id: format!("spec.replies[{name}]").into(), about, stages, codes, enhanced, words })
    }

    fn applies(&self, reply: &Reply<'_>, text: &str) -> bool {
        if self.about.needs_a_transaction() && reply.stage.is_some_and(Answered::is_before_mail) {
            return false;
        }
        (self.stages.is_empty() || reply.stage.is_some_and(|stage| self.stages.contains(&stage)))
            && (self.codes.is_empty() || self.codes.iter().any(|codes| codes.contains(&reply.code)))
            && (self.enhanced.is_empty() || self.enhanced.iter().any(|pattern| pattern.matches(reply.enhanced)))
            && self.words.as_ref().is_none_or(|words| words.is_match(text.as_bytes()))
    }
}

/// Things about a user's rule that works which its author may not have meant.
pub fn doubts(rule: &ReplyRule) -> Vec<RuleProblem> {
    let mut doubts = vec![];
    for (index, word) in rule.words.iter().enumerate() {
        if expression::bare_dot(word).is_some() {
            let why = "the . stands for any letter; write \\. for a full stop";
            doubts.push(problem(rule, &format!("words[{index}]"), why));
        }
    }
    let is_class = |code: &Arc<str>| matches!(&**code, "4xx" | "5xx" | "400-499" | "500-599");
    let is_class_of_enhanced = |code: &Arc<str>| matches!(&**code, "x.*.*" | "4.*.*" | "5.*.*" | "none");
    let is_wide = rule.codes.iter().any(is_class) || rule.codes.is_empty();
    let is_wide_enhanced = rule.enhanced_codes.iter().any(is_class_of_enhanced) || rule.enhanced_codes.is_empty();
    if rule.words.is_empty() && is_wide && is_wide_enhanced {
        let field = if rule.codes.is_empty() { "enhancedCodes" } else { "codes" };
        let why = "without words it decides every reply of such a code, those about recipients and messages too; add words, or codes";
        doubts.push(problem(rule, field, why));
    }
    doubts
}

/// Reads each item of a list, with its index.
fn numbered<T>(
    texts: &[Arc<str>],
    read: impl Fn(usize, &str) -> Result<T, RuleProblem>,
) -> Result<Vec<T>, RuleProblem> {
    texts.iter().enumerate().map(|(index, text)| read(index, text)).collect()
}

fn problem(rule: &ReplyRule, field: &str, problem: &str) -> RuleProblem {
    let dot = if field.is_empty() { "" } else { "." };
    let field = format!("replies[{}]{dot}{field}", rule.name);
    RuleProblem { rule: Some(rule.name.clone()), field, problem: problem.to_owned() }
}

fn subjects() -> String {
    let known: Vec<_> =
        About::ALL.iter().filter(|about| **about != About::Unknown).map(|about| about.as_str()).collect();
    known.join(", ")
}

/// Refuses a rule without words whose codes are those of every refusal.
fn check_breadth(
    rule: &ReplyRule,
    codes: &[RangeInclusive<u16>],
    enhanced: &[EnhancedPattern],
) -> Result<(), RuleProblem> {
    let has_code = |code: u16| codes.is_empty() || codes.iter().any(|codes| codes.contains(&code));
    let is_any_code = REFUSALS.clone().all(has_code);
    let is_any_enhanced = enhanced.is_empty() || EnhancedPattern::are_any_class(enhanced);
    if !is_any_code || !is_any_enhanced {
        return Ok(());
    }
    let field = if codes.is_empty() { "enhancedCodes" } else { "codes" };
    let why =
        "these are the codes of every refusal, so it would decide every reply; name those that are meant, or add words";
    Err(problem(rule, field, why))
}

fn is_of_refusals(codes: &RangeInclusive<u16>) -> bool {
    codes.start() <= codes.end() && REFUSALS.contains(codes.start()) && REFUSALS.contains(codes.end())
}

/// Checks one regular expression by itself, so that none can reach into the next.
fn check_word(rule: &ReplyRule, field: &str, word: &str, codes: &[RangeInclusive<u16>]) -> Result<(), RuleProblem> {
    let folded = text::folded(word);
    let set = builder([folded.clone()]).build().map_err(|error| problem(rule, field, &regex_problem(&error)))?;
    if set.is_match(b"") {
        return Err(problem(rule, field, "it matches the empty text, so every reply; name what must be there"));
    }
    if expression::is_found_everywhere(&folded, &set) {
        return Err(problem(rule, field, "it matches replies of any words; name those that must be there"));
    }
    if let Some((sample, read)) = expression::never_found(&folded, &set, codes) {
        let why = format!(
            "no reply can have it: {sample:?} is read as {read:?}; text is in lower case, a mail address is addr, a host \
             host, an IP address ip, a URL weblink, and codes and quoted replies are taken out"
        );
        return Err(problem(rule, field, &why));
    }
    Ok(())
}

// Bytes, because with `unicode(false)` a `.` takes any of them; then `\w` and `\d` are small.
fn builder(words: impl IntoIterator<Item = String>) -> RegexSetBuilder {
    let mut builder = RegexSetBuilder::new(words);
    builder
        .case_insensitive(true)
        .unicode(false)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .nest_limit(MAX_NESTING);
    builder
}

fn regex_problem(error: &regex::Error) -> String {
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        return format!("compiled it takes more than {} KiB; shorten it, or its repetitions", MAX_REGEX / 1024);
    }
    // The text has the pattern again, with a mark under the place; the last line says what is wrong.
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default();
    let why = last.trim().trim_start_matches("error: ");
    if why.starts_with("Unicode") || why.starts_with("invalid UTF-8") {
        return "Unicode is off, so that reading is fast: no \\p{…}, and no letter beyond ASCII between [ and ]; \
                write such letters one by one, or as (а|б)"
            .to_owned();
    }
    format!("it is no regular expression: {why}; see the syntax of the Rust crate regex")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, about: &str, words: &[&str]) -> ReplyRule {
        let words = words.iter().map(|word| Arc::from(*word)).collect();
        ReplyRule {
            name: name.into(),
            about: about.into(),
            stages: vec![],
            codes: vec![],
            enhanced_codes: vec![],
            words,
        }
    }

    fn book(rules: Vec<ReplyRule>) -> (Rulebook, Vec<RuleProblem>) {
        Rulebook::new(&ReplyRules { provider: None, rules, rejected: vec![] })
    }

    fn read(book: &Rulebook, stage: Answered, reply: &str) -> (About, EvidenceClass, Option<String>) {
        let reading = book.read(&Reply::parse(Some(stage), reply).unwrap());
        (reading.about, reading.class, reading.rule.map(|rule| rule.id().to_owned()))
    }

    #[test]
    fn a_rule_of_the_user_comes_before_all_others() {
        let reply = "550 5.1.1 House limit of 200 letters reached for <ann@example.org>";
        let (general, _, _) = read(&Rulebook::default(), Answered::Recipient, reply);
        assert_eq!(general, About::Recipient);
        let (book, problems) = book(vec![rule("house", "Quota", &["limit of [0-9]+ letters"])]);
        assert_eq!(problems, []);
        let own = Some("spec.replies[house]".to_owned());
        assert_eq!(read(&book, Answered::Recipient, reply), (About::Quota, EvidenceClass::QuotaExhausted, own));
        assert_eq!(read(&book, Answered::Recipient, "550 5.1.1 unknown").0, About::Recipient);
    }

    #[test]
    fn words_are_found_in_all_lines_in_any_case_without_accents_and_not_in_what_a_stranger_wrote() {
        let (book, problems) = book(vec![rule("house", "Account", &["konto (ist )?gesperrt", "dépassé"])]);
        assert_eq!(problems, []);
        for reply in ["554-5.7.1 Ihr KONTO ist 554 5.7.1 gesperrt", "450 quota depasse", "550 Quota DÉPASSÉ"] {
            assert_eq!(read(&book, Answered::Data, reply).0, About::Account, "{reply}");
        }
        for reply in [
            "550 5.1.1 <\"konto gesperrt\"@example.org>: user unknown",
            "450 unverified address: host said: 550 Konto gesperrt",
        ] {
            assert_ne!(read(&book, Answered::Recipient, reply).0, About::Account, "{reply}");
        }
    }

    #[test]
    fn honest_expressions_are_taken() {
        for word in [
            "limit of [0-9]+ letters",
            "(a|b|ab)*z{3}$",
            "^sending (is|was) paused\\.?",
            "addr .* over quota",
            "[0-9]+ of [0-9]+",
            "host (is )?closed",
            "\\bquota\\b",
            "err-1042",
            "(sales@example\\.org|no sales)",
            "Контингент исчерпан",
            "quota",
            "[0-9]{4} credits",
            "(Ж|ж)етон",
        ] {
            assert_eq!(book(vec![rule("a", "Quota", &[word])]).1, [], "{word}");
        }
    }

    #[test]
    fn case_does_not_matter_in_any_alphabet() {
        let (book, problems) = book(vec![rule("house", "Account", &["КОНТИНГЕНТ исчерпан", "ÜBERZOGEN"])]);
        assert_eq!(problems, []);
        for reply in ["550 Контингент ИСЧЕРПАН", "550 Konto überzogen"] {
            assert_eq!(read(&book, Answered::Data, reply).0, About::Account, "{reply}");
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let texts = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect::<Vec<Arc<str>>>();
        let narrow = ReplyRule {
            stages: texts(&["MAIL", "DATA"]),
            codes: texts(&["5xx", "450-452"]),
            enhanced_codes: texts(&["x.7.*", "none"]),
            ..rule("house", "Service", &["closed for today"])
        };
        let (book, problems) = book(vec![narrow]);
        assert_eq!(problems, []);
        let own = |stage, reply: &str| read(&book, stage, reply).2.is_some_and(|id| id.starts_with("spec."));
        assert!(own(Answered::Mail, "554 5.7.9 closed for today"));
        assert!(own(Answered::Data, "451 closed for today"));
        assert!(!own(Answered::Recipient, "554 5.7.9 closed for today"), "another stage");
        assert!(!own(Answered::Mail, "421 closed for today"), "another code");
        assert!(!own(Answered::Mail, "554 5.3.9 closed for today"), "another enhanced code");
        assert!(!own(Answered::Mail, "554 5.7.9 closed for good"), "other words");
    }

    #[test]
    fn a_rule_that_cannot_work_is_named_with_its_field_and_the_others_hold() {
        let texts = |text: &str| vec![Arc::from(text)];
        let plain = || rule("a", "Quota", &["x"]);
        let cases = [
            (
                rule("a", "Quota", &["fine", "(open"]),
                "replies[a].words[1]: it is no regular expression: unclosed group",
            ),
            (rule("a", "Quota", &["x|"]), "replies[a].words[0]: it matches the empty text"),
            (rule("a", "Quota", &["(x{100}){100}"]), "replies[a].words[0]: compiled it takes more than 128 KiB"),
            (rule("a", "Quota", &["x)|(y"]), "replies[a].words[0]: it is no regular expression"),
            (
                rule("a", "Quota", &["(a)\\1"]),
                "replies[a].words[0]: it is no regular expression: backreferences are not supported",
            ),
            (rule("a", "Quota", &["."]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &[".+"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &["fine", "[a-z]+ ?"]), "replies[a].words[1]: it matches replies of any words"),
            (rule("a", "Quota", &["\\w"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &["[^@]"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &[".{4}"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &[".{80,}"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &["[a-z]{3,}"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &["\\w+ \\w+"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &["quota|[a-z]+"]), "replies[a].words[0]: it matches replies of any words"),
            // One letter is in nearly every reply.
            (rule("a", "Quota", &["e"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &["(a|i|o)"]), "replies[a].words[0]: it matches replies of any words"),
            (rule("a", "Quota", &["\\p{Cyrillic}+"]), "replies[a].words[0]: Unicode is off"),
            (rule("a", "Quota", &["[а-я]+ исчерпан"]), "replies[a].words[0]: Unicode is off"),
            (
                ReplyRule { codes: texts("400-599"), ..rule("a", "Quota", &[]) },
                "replies[a].codes: these are the codes of every refusal",
            ),
            (
                ReplyRule { codes: vec!["4xx".into(), "5xx".into()], ..rule("a", "Quota", &[]) },
                "replies[a].codes: these are the codes of every refusal",
            ),
            (
                ReplyRule { enhanced_codes: vec!["x.*.*".into(), "none".into()], ..rule("a", "Quota", &[]) },
                "replies[a].enhancedCodes: these are the codes of every refusal",
            ),
            (
                ReplyRule { enhanced_codes: vec!["5.*.*".into(), "4.*.*".into()], ..rule("a", "Quota", &[]) },
                "replies[a].enhancedCodes: these are the codes of every refusal",
            ),
            (
                rule("a", "Quota", &["sales@example\\.org"]),
                "replies[a].words[0]: no reply can have it: \"sales@example.org\" is read as \"addr\"",
            ),
            (
                rule("a", "Quota", &["mx[0-9]+\\.example\\.org is full"]),
                "replies[a].words[0]: no reply can have it: \"mx0.example.org is full\" is read as \"host is full\"",
            ),
            (rule("a", "Quota", &["see https://help\\.example/"]), "replies[a].words[0]: no reply can have it"),
            (rule("a", "Quota", &["192\\.0\\.2\\.1"]), "replies[a].words[0]: no reply can have it"),
            (rule("a", "Quota", &["5\\.7\\.1 spent"]), "replies[a].words[0]: no reply can have it"),
            (rule("a", "Quota", &["(?-i)Quota Spent"]), "replies[a].words[0]: no reply can have it"),
            (rule("a", "Quota", &["said: 550 spent"]), "replies[a].words[0]: no reply can have it"),
            (rule("a", "Quota", &[]), "replies[a]: it decides every reply"),
            (rule("a", "Quotas", &["x"]), "replies[a].about: Quotas is no subject; use one of Account, Login,"),
            (rule("a", "Unknown", &["x"]), "replies[a].about: Unknown is no subject"),
            (ReplyRule { stages: texts("QUIT"), ..plain() }, "replies[a].stages[0]: \"QUIT\" is no stage"),
            (
                ReplyRule { stages: texts("AUTH"), ..rule("a", "Recipient", &["x"]) },
                "replies[a].stages[0]: AUTH comes before MAIL, when there is neither message nor recipient",
            ),
            (ReplyRule { codes: texts("250"), ..plain() }, "replies[a].codes[0]: 250 is no code of a refusal"),
            (ReplyRule { codes: texts("552-550"), ..plain() }, "replies[a].codes[0]: 552-550 is no code of a refusal"),
            (
                ReplyRule { enhanced_codes: texts("5.7"), ..plain() },
                "replies[a].enhancedCodes[0]: 5.7 is no enhanced code",
            ),
            (
                ReplyRule { codes: texts("4xx"), enhanced_codes: texts("5.7.1"), ..plain() },
                "replies[a].enhancedCodes[0]: 5.7.1 comes with no code of codes",
            ),
        ];
        for (wrong, expected) in cases {
            let (book, problems) = book(vec![wrong, rule("sound", "Quota", &["spent"])]);
            let [problem] = &problems[..] else { panic!("{expected}: {problems:?}") };
            assert!(problem.to_string().starts_with(expected), "{problem} is not {expected}");
            assert_eq!(
                read(&book, Answered::Data, "554 spent").2.as_deref(),
                Some("spec.replies[sound]"),
                "{expected}"
            );
        }
        let (_, problems) = book(vec![plain(), plain()]);
        assert_eq!(problems[0].to_string(), "replies[a].name: another rule has it; choose another");
    }

    #[test]
    fn what_a_rule_may_not_have_meant_is_doubted() {
        let texts = |text: &str| vec![Arc::from(text)];
        let without_words = || rule("a", "Service", &[]);
        for (doubtful, field) in [
            (rule("a", "Quota", &["spent", "quota spent. pay"]), "replies[a].words[1]"),
            (ReplyRule { codes: texts("5xx"), ..without_words() }, "replies[a].codes"),
            (ReplyRule { enhanced_codes: texts("5.*.*"), ..without_words() }, "replies[a].enhancedCodes"),
        ] {
            assert_eq!(book(vec![doubtful.clone()]).1, []);
            let found: Vec<_> = doubts(&doubtful).into_iter().map(|doubt| doubt.field).collect();
            assert_eq!(found, [field]);
        }
        for sure in [
            rule("a", "Quota", &["spent\\.", "quota.*spent", "quota .{1,9} spent", "quota[.,] spent"]),
            ReplyRule { codes: texts("554"), ..without_words() },
            ReplyRule { codes: texts("5xx"), enhanced_codes: texts("x.7.*"), ..without_words() },
            ReplyRule { codes: texts("5xx"), ..rule("a", "Quota", &["spent"]) },
        ] {
            assert_eq!(doubts(&sure), [], "{sure:?}");
        }
    }

    #[test]
    fn a_provider_limits_the_rules_of_providers_to_its_own() {
        let reply = "554 Message rejected: Email address is not verified.";
        let with = |provider: &str| read(&Rulebook::of_provider(provider).unwrap(), Answered::Data, reply).2;
        assert_eq!(with("ses").as_deref(), Some("ses/not-verified"));
        assert_ne!(with("Google").as_deref(), Some("ses/not-verified"));
        let unknown = Rulebook::of_provider("Acme").unwrap_err().to_string();
        assert!(unknown.starts_with("provider: Acme has no rules of its own; use one of "), "{unknown}");
    }

    #[test]
    fn the_largest_own_rules_take_time_in_proportion_to_the_text() {
        let words: Vec<_> = (0..8).map(|_| "(a|b|ab)*c".repeat(12)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (book, problems) = book((0..32).map(|number| rule(&format!("r{number}"), "Quota", &words)).collect());
        assert_eq!(problems, []);
        let text = format!("554 {}", "ab".repeat(100_000));
        let begun = std::time::Instant::now();
        assert_ne!(read(&book, Answered::Data, &text).0, About::Quota);
        // Generous: what backtracks takes for ever.
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}
