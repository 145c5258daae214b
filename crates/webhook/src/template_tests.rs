use std::time::{Duration, Instant};

use super::super::secret::{SECRET_TYPE, signing_secret_text};
use super::*;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn secret() -> WebhookSecret {
    let data = [("signing-secret", signing_secret_text(&[7; 24])), ("api-token", "s3cret".to_owned())];
    let data = data.map(|(key, value)| (key.to_owned(), value.into_bytes()));
    WebhookSecret::parse(Some(SECRET_TYPE), data.into()).unwrap()
}

fn body(template: &str) -> Result<String, TemplateError> {
    check_body(template, JSON)?;
    render_body(template, JSON, &WebhookEvent::sample()).map(|body| String::from_utf8(body).unwrap())
}

#[test]
fn values_are_quoted_as_json_by_themselves() {
    for (template, rendered) in [
        (r#"{"to": {{ backend }}, "n": {{ transition.id }}}"#, r#"{"to": "second", "n": 1}"#),
        (r"{{ active }}", r#"[{"backend":"second","percent":100}]"#),
        (r#"{"on": {% if transition.kind == "Failover" %}true{% else %}false{% endif %}}"#, r#"{"on": true}"#),
        (
            r"[{% for share in active %}{{ share.backend }}{% if not loop.last %},{% endif %}{% endfor %}]",
            r#"["second"]"#,
        ),
        (r#"{"id": {{ {"first": 7, "second": 8}[backend] }}}"#, r#"{"id": 8}"#),
        (r#"{"text": {{ "mail goes to " ~ backend }}}"#, r#"{"text": "mail goes to second"}"#),
    ] {
        let compact = body(template).unwrap();
        let (left, right): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&compact).unwrap(), serde_json::from_str(rendered).unwrap());
        assert_eq!(left, right, "{template}");
    }
    let mut hostile = WebhookEvent::sample();
    hostile.backend = Some("a\", \"admin\": \"b".to_owned());
    let rendered = render_body(r#"{"to": {{ backend }}}"#, JSON, &hostile).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&rendered).unwrap();
    assert_eq!(json, serde_json::json!({"to": "a\", \"admin\": \"b"}));
}

#[test]
fn another_content_type_is_rendered_as_it_is_and_can_be_escaped() {
    let rendered = render_body("to={{ backend }}&at={{ time | urlencode }}", FORM, &WebhookEvent::sample()).unwrap();
    assert_eq!(String::from_utf8(rendered).unwrap(), "to=second&at=2026-01-01T00%3A00%3A00Z");
    assert!(is_json("application/vnd.api+json; charset=utf-8") && is_json("Application/JSON") && !is_json(FORM));
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    for (template, reason) in [
        ("{{ backend", "line 1: syntax error"),
        ("{\n\"a\": {{ 1 + }}}", "line 2: syntax error"),
        ("{% if x %}1{% endif %}", "x is unknown; there are id, sequence, type"),
        (
            "{% if transition.kind == 'Failback' %}{{ transition.too }}{% endif %}",
            "transition.too is unknown; there are id, kind",
        ),
        ("{{ secret.token }}", "secret.token is unknown"),
        ("{{ backend | shout }}", "line 1: unknown filter"),
        ("{% set a = 1 %}{{ a }}", "{% set %} is not supported"),
        ("{%- with a = 1 %}{{ a }}{% endwith %}", "{% with %} is not supported"),
        ("{% raw %}{% endraw %}", "{% raw %} is not supported"),
        ("{% filter upper %}a{% endfilter %}", "{% filter %} is not supported"),
        ("{{ 'a' * 3 }}", "* cannot be used"),
        ("{{ backend.x }}", "backend.x is unknown"),
        ("{\"a\": \"{{ backend }}\"}", "it does not render JSON"),
        ("hello", "it does not render JSON"),
    ] {
        let error = check_body(template, JSON).expect_err(template).to_string();
        assert!(error.contains(reason), "{template}: {error}");
    }
    assert_eq!(check_body(&"x".repeat(MAX_TEMPLATE + 1), FORM), Err(TemplateError::TooLong));
}

#[test]
fn no_template_takes_long_or_much() {
    let sizes =
        format!("{}{{{{ backend }}}}{}", "{% for a in 'aaaaaaaaaaaaaaaaaaaa' %}".repeat(6), "{% endfor %}".repeat(6));
    let long = format!("{{% for a in '{}' %}}{}{{% endfor %}}", "a".repeat(200), "x".repeat(1000));
    let escapes = format!("{{{{ '\"'{} }}}}", "|tojson|upper".repeat(500));
    let encodings = format!("{{{{ '{}'{} }}}}", "%".repeat(3000), "|urlencode".repeat(400));
    let began = Instant::now();
    assert_eq!(check_body(&sizes, FORM), Err(TemplateError::Fuel));
    assert_eq!(check_body(&long, FORM), Err(TemplateError::Output(MAX_BODY)));
    for template in [escapes, encodings] {
        assert!(matches!(check_body(&template, FORM), Err(TemplateError::Render { .. })), "{template:.40}");
    }
    let nested = format!("{{{{ {}1{} }}}}", "[".repeat(4000), "]".repeat(4000));
    assert!(check_body(&nested, FORM).is_err());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_choice_by_the_name_of_a_backend_is_checked_when_it_is_made() {
    let chosen = |name: &str| format!("{{{{ {{\"{name}\": 1}}[backend] }}}}");
    assert_eq!(check_body(&chosen("ses-eu"), JSON), Ok(()), "no backend of the dry run has this name");
    assert_eq!(check_header(&chosen("ses-eu")), Ok(()), "nor in a header");
    assert_eq!(render_body(&chosen("second"), JSON, &WebhookEvent::sample()).as_deref(), Ok(&b"1"[..]));
    let unknown = render_body(&chosen("ses-eu"), JSON, &WebhookEvent::sample());
    assert!(matches!(unknown, Err(TemplateError::Undefined { line: 1, .. })), "{unknown:?}");
}

#[test]
fn a_template_that_fails_for_one_of_the_backends_is_refused_with_its_name() {
    let backends = ["ses-eu", "relay", "sendgrid"];
    for template in [
        r#"{"to": {{ {"ses-eu": 1, "sendgrid": 2}[backend] }}, "why": {{ transition.reason ~ id }}}"#,
        r#"{"to": {{ {"ses-eu": 1, "sendgrid": 2}[transition.to] }}}"#,
        r#"{"to": {% if backend == "relay" %}none{% else %}{{ backend }}{% endif %}}"#,
    ] {
        let refused = check_body_for(template, JSON, &backends).expect_err(template).to_string();
        assert!(refused.starts_with("for backend relay: "), "{template}: {refused}");
        assert_eq!(check_body_for(template, JSON, &["ses-eu", "sendgrid"]), Ok(()), "{template}");
    }
    let refused = check_header_for("{{ {\"relay\": 1}[backend] }}", &backends).unwrap_err();
    assert_eq!(refused.backend, "ses-eu");
}

#[test]
fn what_only_an_event_can_tell_is_no_defect_for_a_backend() {
    for template in [
        // Of all alike: the first event tells.
        r#"{{ {"other": 1}[backend] }}"#,
        r#"{{ {"Requested": 1}[transition.reason] }} {{ backend }}"#,
        // Only in some events that lead there.
        r#"{% if transition.kind == "Failover" %}{{ {"relay": 1}[backend] }}{% else %}0{% endif %}"#,
        r#"{{ {"ses-eu": {"relay": 1}, "relay": {"ses-eu": 1}}[transition.from][backend] }}"#,
        r#"{% if backend == "relay" %}{{ active[1].backend }}{% endif %}"#,
    ] {
        assert_eq!(check_body_for(template, FORM, &["ses-eu", "relay"]), Ok(()), "{template}");
        assert_eq!(check_header_for(template, &["ses-eu", "relay"]), Ok(()), "{template}");
    }
    let from_secret = "{{ {\"relay\": secret.relay}[backend] }}";
    assert_eq!(check_header_for(from_secret, &["ses-eu", "relay"]), Ok(()));
    assert_eq!(check_body_for("{{ {\"relay\": 1}[backend] }}", FORM, &[]), Ok(()));
}

#[test]
fn a_header_may_hold_a_value_of_the_secret() {
    let event = WebhookEvent::sample();
    for (template, value) in [
        ("Bearer {{ secret[\"api-token\"] }}", Ok("Bearer s3cret")),
        ("{{ backend | upper }}", Ok("SECOND")),
        ("v1", Ok("v1")),
        ("a\r\nX-Admin: 1", Err(TemplateError::Header)),
    ] {
        assert_eq!(render_header(template, &event, &secret()).as_deref(), value.as_deref(), "{template}");
    }
    let missing = render_header("{{ secret.other }}", &event, &secret()).unwrap_err();
    assert!(matches!(missing, TemplateError::Undefined { .. }) && !missing.to_string().contains("s3cret"), "{missing}");
    assert_eq!(check_header("{{ secret.other }}"), Ok(()), "known only when it is sent");
    assert_eq!(check_header("a\nb"), Err(TemplateError::Header));
    assert!(matches!(check_header("{{ nobody }}"), Err(TemplateError::UnknownName(..))));
}

#[test]
fn data_of_a_dns_record_is_rendered_for_a_backend_and_knows_no_other_name() {
    let target = "{{ {\"ses-eu\": \"a.example\", \"relay\": \"b.example\"}[backend] }}";
    assert_eq!(render_record(target, "relay").as_deref(), Ok("b.example"));
    assert!(matches!(render_record(target, "other"), Err(TemplateError::Undefined { .. })));
    assert_eq!(render_record(" v=spf1 -all\n", "relay").as_deref(), Ok("v=spf1 -all"));
    assert_eq!(render_record("{% if backend == \"a\" %}1{% endif %}", "b").as_deref(), Ok(""));
    for unknown in ["{{ active }}", "{{ backend.name }}", "{{ secret }}"] {
        assert!(matches!(render_record(unknown, "a"), Err(TemplateError::UnknownName(..))), "{unknown}");
    }
    assert_eq!(render_record(&"a".repeat(MAX_RECORD + 1), "a"), Err(TemplateError::Output(MAX_RECORD)));
}
