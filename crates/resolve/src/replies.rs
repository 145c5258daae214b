use std::sync::Arc;

use mail_failover_api as api;
use mail_failover_core::model::{ReplyRule, ReplyRules};
use mail_failover_replies::{Rulebook, provider_of};

/// The reading of a backend's replies: the provider that is named, or the one that the host tells, and the user's
/// rules.
///
/// Rules that cannot work are listed and left out. The schema cannot see all of them, and an old schema may still be
/// installed.
pub fn reply_rules(
    provider: Option<api::ProviderSpec>,
    rules: &[api::ReplyRuleSpec],
    host: Option<&str>,
) -> ReplyRules {
    let provider = provider.map(api::ProviderSpec::as_str).or_else(|| provider_of(host?));
    let given = ReplyRules {
        provider: provider.map(Arc::from),
        rules: rules.iter().map(reply_rule).collect(),
        rejected: vec![],
    };
    let (rulebook, problems) = Rulebook::new(&given);
    let rejected = problems.iter().map(|problem| format!("spec.{problem}").into()).collect();
    ReplyRules { rejected, ..rulebook.source().clone() }
}

fn reply_rule(
    api::ReplyRuleSpec { name, about, stages, codes, enhanced_codes, words }: &api::ReplyRuleSpec,
) -> ReplyRule {
    let texts = |given: &Option<Vec<String>>| super::texts(given.as_deref().unwrap_or_default());
    ReplyRule {
        name: name.as_str().into(),
        about: about.as_str().into(),
        stages: stages.iter().flatten().map(|stage| stage.as_str().into()).collect(),
        codes: texts(codes),
        enhanced_codes: texts(enhanced_codes),
        words: texts(words),
    }
}

#[cfg(test)]
mod tests {
    use mail_failover_core::model::EvidenceClasses;
    use mail_failover_replies::{About, Answered};
    use serde_json::{Value, json};

    use super::*;

    fn rules(provider: Option<api::ProviderSpec>, given: &Value, host: &str) -> ReplyRules {
        let given: Vec<api::ReplyRuleSpec> = serde_json::from_value(given.clone()).unwrap();
        reply_rules(provider, &given, Some(host))
    }

    #[test]
    fn the_provider_is_the_one_named_then_the_one_that_the_host_tells() {
        let provider = |named, host| rules(named, &json!([]), host).provider;
        assert_eq!(provider(None, "email-smtp.eu-west-1.amazonaws.com").as_deref(), Some("SES"));
        assert_eq!(provider(None, "Shop-Example.mail.protection.outlook.com").as_deref(), Some("Microsoft"));
        assert_eq!(provider(None, "smtp.relay.example"), None);
        assert_eq!(provider(Some(api::ProviderSpec::Cpanel), "smtp.gmail.com").as_deref(), Some("cPanel"));
    }

    #[test]
    fn every_provider_of_the_schema_has_rules_and_every_provider_with_rules_is_in_the_schema() {
        let mut of_schema: Vec<_> = api::ProviderSpec::ALL.into_iter().map(api::ProviderSpec::as_str).collect();
        let mut of_rules = mail_failover_replies::providers();
        of_schema.sort_unstable();
        of_rules.sort_unstable();
        assert_eq!(of_schema, of_rules);
        for provider in api::ProviderSpec::ALL {
            assert_eq!(serde_json::to_value(provider).unwrap(), json!(provider.as_str()));
        }
    }

    /// The names of an enum's variants in a spec, as serde lists them for a name that is none.
    fn names<T: serde::de::DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
        let error = serde_json::from_value::<T>(json!("?")).unwrap_err().to_string();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn subjects_and_stages_of_the_schema_are_those_of_the_rules() {
        let mut subjects = names::<About>();
        subjects.retain(|name| name != About::Unknown.as_str());
        assert_eq!(names::<api::ReplySubject>(), subjects);
        assert_eq!(names::<api::ReplyStageSpec>(), names::<Answered>());
        assert_eq!((subjects.len(), names::<Answered>().len()), (12, 7));
        for name in subjects {
            let subject: api::ReplySubject = serde_json::from_value(json!(name)).unwrap();
            assert_eq!(subject.as_str(), name);
        }
        for name in names::<Answered>() {
            let stage: api::ReplyStageSpec = serde_json::from_value(json!(name)).unwrap();
            assert_eq!(stage.as_str(), name);
        }
    }

    #[test]
    fn failure_immediately_names_by_default_what_moves_at_once_and_may_name_all_that_counts() {
        let may_name = names::<api::ImmediateFailure>();
        let default = EvidenceClasses::OF_THE_ACCOUNT;
        for about in About::ALL {
            let class = about.class(Some(Answered::Data), 550);
            let consequences = about.consequences();
            assert_eq!(may_name.iter().any(|name| *name == class.as_str()), consequences.counts, "{about}");
            assert_eq!(default.contains(class), consequences.immediate, "{about}");
        }
    }

    #[test]
    fn a_rule_that_cannot_work_is_left_out_and_named_with_its_field() {
        let given = json!([
            {"name": "spent", "about": "Quota", "stages": ["RCPT", "DATA"], "codes": ["5xx"], "enhancedCodes": ["x.7.*"], "words": ["spent"]},
            {"name": "open", "about": "Quota", "words": ["(spent"]},
            {"name": "early", "about": "Message", "stages": ["AUTH"], "words": ["spent"]},
            {"name": "gone", "about": "OurSide", "words": ["gone"]},
        ]);
        let rules = rules(None, &given, "mx.example");
        let names: Vec<_> = rules.rules.iter().map(|rule| &*rule.name).collect();
        assert_eq!(names, ["spent", "gone"]);
        assert_eq!(rules.rejected.len(), 2);
        assert!(rules.rejected[0].starts_with("spec.replies[open].words[0]: it is no regular expression"), "{rules:?}");
        assert!(rules.rejected[1].starts_with("spec.replies[early].stages[0]: AUTH comes before MAIL"), "{rules:?}");
    }
}
