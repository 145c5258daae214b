use super::*;
use crate::rules as all_rules;

/// True if one list of conditions allows all that another does; an empty one allows anything.
fn allows<T: PartialEq>(earlier: &[T], later: &[T]) -> bool {
    earlier.is_empty() || (!later.is_empty() && later.iter().all(|item| earlier.contains(item)))
}

/// True if an earlier rule certainly applies where a later one does and one of these phrases is found.
fn hides(earlier: &Rule, later: &Rule) -> bool {
    let is_tried = earlier.provider.is_none() || earlier.provider == later.provider;
    let later_needs_mail = later.about.needs_a_transaction()
        || (!later.stages.is_empty() && !later.stages.iter().any(|stage| stage.is_before_mail()));
    is_tried
        && (!earlier.about.needs_a_transaction() || later_needs_mail)
        && earlier.names.is_empty()
        && (!earlier.quotes || later.quotes)
        && (earlier.written.with.is_empty() || earlier.written.with == later.written.with)
        && allows(&earlier.stages, &later.stages)
        && allows(&earlier.codes, &later.codes)
        && allows(&earlier.enhanced, &later.enhanced)
        && earlier
            .written
            .unless
            .iter()
            .all(|phrase| later.written.unless.iter().any(|own| is_found_with(&parts(own), &parts(phrase))))
}

#[test]
fn no_rule_and_no_phrase_is_hidden_by_an_earlier_rule() {
    let rules: Vec<_> = all_rules().iter().collect();
    let mut hidden = vec![];
    for (index, later) in rules.iter().enumerate() {
        for earlier in rules[..index].iter().filter(|earlier| hides(earlier, later)) {
            if earlier.written.words.is_empty() {
                hidden.push(format!("{} by {}", later.id, earlier.id));
            }
            for phrase in &later.written.words {
                if earlier.written.words.iter().any(|other| is_found_with(&parts(other), &parts(phrase))) {
                    hidden.push(format!("{phrase:?} of {} by {}", later.id, earlier.id));
                }
            }
        }
    }
    assert!(hidden.is_empty(), "{hidden:#?}");
}

/// Patterns of the automaton that a phrase asks for.
fn parts(phrase: &str) -> Vec<String> {
    phrase.split(" + ").map(automaton_pattern).collect()
}

/// True if a phrase is found wherever another one is.
fn is_found_with(phrase: &[String], other: &[String]) -> bool {
    phrase.iter().all(|part| other.iter().any(|other| other.contains(part)))
}

/// The first phrase of a list that says no more than another one of it, with that one.
fn idle(phrases: &[String]) -> Option<(&String, &String)> {
    let parts: Vec<_> = phrases.iter().map(|phrase| parts(phrase)).collect();
    let pairs = (0..parts.len()).flat_map(|one| (0..parts.len()).map(move |other| (one, other)));
    let found =
        pairs.filter(|(one, other)| one != other).find(|(one, other)| is_found_with(&parts[*other], &parts[*one]));
    found.map(|(one, other)| (&phrases[one], &phrases[other]))
}

// Here, and not where rules are read: it takes each pair of phrases, and every process reads them when it starts.
#[test]
fn no_phrase_says_no_more_than_another_one_of_its_list() {
    for rule in all_rules().iter() {
        let Written { words, with, unless, names } = &rule.written;
        for (field, phrases) in [("words", words), ("with", with), ("unless", unless), ("names", names)] {
            if let Some((phrase, other)) = idle(phrases) {
                panic!("{}: {field}: {phrase:?} says no more than {other:?}; take it out", rule.id);
            }
        }
    }
}

#[test]
fn a_phrase_that_says_no_more_than_another_one_is_found() {
    let is_idle = |phrases: &[&str]| idle(&phrases.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).is_some();
    assert!(!is_idle(&["quota spent", "account + closed"]));
    for phrases in [
        ["quota", "quota"],
        ["quota", "daily quota"],
        ["quota*", "quotas"],
        ["account + closed", "your account + closed"],
    ] {
        assert!(is_idle(&phrases), "{phrases:?}");
    }
}

#[test]
fn a_host_tells_its_provider() {
    let cases = [
        ("email-smtp.eu-west-1.amazonaws.com", Some("SES")),
        ("EMAIL-SMTP.eu-west-1.amazonaws.com.", Some("SES")),
        ("email-smtp.amazonaws.com", None),
        ("shop-example.mail.protection.outlook.com", Some("Microsoft")),
        ("mail.protection.outlook.com.example.org", None),
        ("aspmx.l.google.com", Some("Google")),
        ("alt1.aspmx.l.google.com", Some("Google")),
        ("smtp.zoho.eu", Some("Zoho")),
        ("smtp.example.org", None),
    ];
    for (host, provider) in cases {
        assert_eq!(all_rules().provider_of(host), provider, "{host}");
    }
}
