//! The output `webhook` of a route.

use std::time::Duration;

use super::{CaKey, CaKind, DEFAULT_CA_KEY, Rejection, span};
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_core::model::{CaSource, Member, ObjectKey, WebhookMethod, WebhookOutput};
use mail_failover_webhook::template;

/// The content type of a body that says none.
const DEFAULT_CONTENT_TYPE: &str = "application/json";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A webhook of a route with these backends from its spec, its templates checked for each of them.
pub(super) fn webhook(spec: &api::WebhookOutputSpec, members: &[Member]) -> Result<WebhookOutput, Rejection> {
    let api::WebhookOutputSpec { name, url, method, secret_ref, ca_ref, headers, body, content_type, timeout, r#await } =
        spec;
    if !url.starts_with("https://") {
        return Err(Rejection::new(reason::INVALID_SPEC, &field(name, "url"), "it must begin with https://"));
    }
    let backends: Vec<_> = members.iter().map(|member| &*member.name).collect();
    if let Some(body) = body {
        let content_type = content_type.as_deref().unwrap_or(DEFAULT_CONTENT_TYPE);
        let field = field(name, "body");
        template::check_body(body, content_type)
            .map_err(|error| Rejection::new(reason::INVALID_SPEC, &field, &error.to_string()))?;
        template::check_body_for(body, content_type, &backends)
            .map_err(|error| Rejection::new(reason::INVALID_SPEC, &field, &error.to_string()))?;
    }
    for api::WebhookHeaderSpec { name: header, value } in headers {
        let field = field(name, &format!("headers[{header}].value"));
        template::check_header(value)
            .map_err(|error| Rejection::new(reason::INVALID_SPEC, &field, &error.to_string()))?;
        template::check_header_for(value, &backends)
            .map_err(|error| Rejection::new(reason::INVALID_SPEC, &field, &error.to_string()))?;
    }
    let timeout = timeout.map(|given| span(&field(name, "timeout"), given, SHORTEST_TIMEOUT..=LONGEST_TIMEOUT));
    Ok(WebhookOutput {
        name: name.as_str().into(),
        url: url.as_str().into(),
        method: match method {
            None | Some(api::WebhookMethodSpec::Post) => WebhookMethod::Post,
            Some(api::WebhookMethodSpec::Put) => WebhookMethod::Put,
            Some(api::WebhookMethodSpec::Patch) => WebhookMethod::Patch,
        },
        secret: secret_ref.name.as_str().into(),
        ca: ca_ref.as_ref().and_then(ca),
        headers: headers.iter().map(|header| (header.name.as_str().into(), header.value.as_str().into())).collect(),
        content_type: body.as_ref().map(|_| content_type.as_deref().unwrap_or(DEFAULT_CONTENT_TYPE).into()),
        body: body.as_deref().map(Into::into),
        timeout: timeout.transpose()?.unwrap_or(DEFAULT_TIMEOUT),
        is_awaited: r#await.unwrap_or(false),
    })
}

/// A field of the webhook of this name.
fn field(name: &str, field: &str) -> String {
    format!("spec.outputs[].webhook.{field} ({name})")
}

pub(super) fn ca(api::CaReference { config_map, secret, key }: &api::CaReference) -> Option<CaSource> {
    let (is_secret, name) = match (config_map, secret) {
        (Some(name), _) => (false, name),
        (None, Some(name)) => (true, name),
        (None, None) => return None,
    };
    let key = key.as_deref().unwrap_or(DEFAULT_CA_KEY).into();
    Some(CaSource { is_secret, name: name.as_str().into(), key })
}

/// Place of the certificates that a webhook of a route in this namespace trusts, if it names any.
pub fn webhook_ca_key(route: &ObjectKey, output: &WebhookOutput) -> Option<CaKey> {
    output.ca.as_ref().map(|source| ca_place(route, source))
}

/// Place of certificates beside an object that names them.
pub(super) fn ca_place(beside: &ObjectKey, CaSource { is_secret, name, key }: &CaSource) -> CaKey {
    let kind = if *is_secret { CaKind::Secret } else { CaKind::ConfigMap };
    CaKey { object: beside.sibling(name.clone()), kind, data_key: key.clone() }
}

/// Scheme, host and port of a URL; what follows may be a secret.
pub fn webhook_destination(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> api::WebhookOutputSpec {
        serde_json::from_value(json).unwrap()
    }

    fn members() -> Vec<Member> {
        ["ses", "relay"].map(|name| Member { name: name.into(), weight: 100 }).into()
    }

    #[test]
    fn a_webhook_has_defaults_and_its_templates_are_checked() {
        let least = serde_json::json!({"name": "a", "url": "https://a.example/x", "secretRef": {"name": "s"}});
        let output = webhook(&spec(least.clone()), &members()).unwrap();
        assert_eq!((output.method, output.timeout, output.is_awaited), (WebhookMethod::Post, DEFAULT_TIMEOUT, false));
        assert_eq!((output.body, output.content_type, output.ca), (None, None, None));
        for (key, value, wrong) in [
            (
                "url",
                serde_json::json!("http://a.example/"),
                "spec.outputs[].webhook.url (a): it must begin with https://",
            ),
            ("body", serde_json::json!("{{ nobody }}"), "spec.outputs[].webhook.body (a): nobody is unknown"),
            (
                "headers",
                serde_json::json!([{"name": "X-A", "value": "{{"}]),
                "spec.outputs[].webhook.headers[X-A].value (a): line 1",
            ),
            (
                "body",
                serde_json::json!(r#"{"to": {{ {"ses": 1}[backend] }}}"#),
                "spec.outputs[].webhook.body (a): for backend relay: line 1",
            ),
            (
                "headers",
                serde_json::json!([{"name": "X-A", "value": r#"{{ {"relay": 1}[backend] }}"#}]),
                "spec.outputs[].webhook.headers[X-A].value (a): for backend ses: line 1",
            ),
            ("timeout", serde_json::json!("31s"), "spec.outputs[].webhook.timeout (a): 31s is not between"),
        ] {
            let mut json = least.clone();
            json[key] = value;
            let rejection = webhook(&spec(json), &members()).unwrap_err();
            assert_eq!(rejection.reason, reason::INVALID_SPEC);
            assert!(rejection.message.starts_with(wrong), "{}", rejection.message);
        }
        let mut json = least;
        json["body"] = "{{ active }}".into();
        assert_eq!(webhook(&spec(json), &members()).unwrap().content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn of_a_url_only_scheme_host_and_port_are_told() {
        for (url, told) in [
            ("https://a.example/token/x?y", "https://a.example"),
            ("https://a.example:8443/x", "https://a.example:8443"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ] {
            assert_eq!(webhook_destination(url), told);
        }
    }
}
