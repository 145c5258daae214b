//! The output `webhook` of a `MailRoute`.

use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CaReference;

/// A receiver outside that is called with each decision of a route.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.timeout) || (duration(self.timeout) >= duration('100ms') && duration(self.timeout) <= duration('30s'))").message("spec.outputs[].webhook.timeout must be between 100ms and 30s"),
    validation = Rule::new("!has(self.contentType) || has(self.body)").message("spec.outputs[].webhook.contentType has an effect with body only: without one the body is a CloudEvent"),
    validation = Rule::new("!has(self.headers) || self.headers.all(h, self.headers.exists_one(g, g.name.lowerAscii() == h.name.lowerAscii()))").message("spec.outputs[].webhook.headers[].name must be unique, in any case")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookOutputSpec {
    /// Name, unique within the route, by which `status.outputs` and the receiver know it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Place of the receiver: `https://`, a host, a port unless it is 443, and a path. Its certificate is verified, its
    /// addresses meet the same rules as those that probes connect to, and redirects are not followed. It stands in the
    /// open: credentials belong into `headers`, from the Secret.
    #[schemars(
        length(min = 9, max = 2048),
        regex(
            pattern = r#"^https://([A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!"$-~]*)?$"#
        )
    )]
    pub url: String,

    /// Method of the request: POST, PUT or PATCH. Default: POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<WebhookMethodSpec>,

    /// The Secret that signs each call.
    pub secret_ref: WebhookSecretReference,

    /// Authorities that may have signed the receiver's certificate. Default: the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaReference>,

    /// Further headers; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<WebhookHeaderSpec>,

    /// Template of the body, in Jinja's language with `{{ … }}`, `{% if %}` and `{% for %}`. Names: `id`, `sequence`,
    /// `type`, `time`, `namespace`, `route`, `output`, `backend` (with the largest share), `active` (`backend`,
    /// `percent`) and `transition` (`id`, `kind`, `from`, `to`, `reason`, `decidedAt`). Filters: `upper`, `lower`,
    /// `urlencode`, `tojson`. With a content type of JSON values are quoted by themselves. Default: a CloudEvent 1.0
    /// (`application/cloudevents+json`) with all of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub body: Option<String>,

    /// Content type of `body`. Default: `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 128),
        regex(pattern = r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(; ?[A-Za-z0-9_.+-]+=[A-Za-z0-9_.+-]+)*$")
    )]
    pub content_type: Option<String>,

    /// Time limit of a call, from the look-up of the name to the answer. Default: 10s. From 100ms to 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub timeout: Option<Duration>,

    /// True if a decision counts as applied (`appliedAt`, `OutputsApplied`) only once the receiver has answered by 2xx.
    /// Meant for a receiver without which the mail does not move. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#await: Option<bool>,
}

/// Method of a webhook's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum WebhookMethodSpec {
    /// POST (RFC 9110).
    #[serde(rename = "POST")]
    Post,
    /// PUT (RFC 9110).
    #[serde(rename = "PUT")]
    Put,
    /// PATCH (RFC 5789).
    #[serde(rename = "PATCH")]
    Patch,
}

/// A Secret of the same namespace, of type `mailfailover.io/webhook`. Its key `signing-secret` holds `whsec_` and 24 to
/// 64 random bytes in base64 (Standard Webhooks). During a rotation `previous-signing-secret` holds the one before, and
/// each call has both signatures. Other keys are values for `headers`. The operator reads it by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// A header of a webhook's request.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!(self.name.lowerAscii() in ['host', 'connection', 'content-length', 'content-type', 'expect', 'te', 'trailer', 'transfer-encoding', 'upgrade']) && !self.name.lowerAscii().startsWith('webhook-') && !self.name.lowerAscii().startsWith('proxy-')").message("spec.outputs[].webhook.headers[].name must not be one that the operator sets: Host, Content-Type (see contentType), Content-Length, webhook-…, or one of the connection"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookHeaderSpec {
    /// Name of the header.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9!#$%&'+.^_`|~-]+$"))]
    pub name: String,

    /// Template of the value, as `body`; beside its names there is `secret`, with the keys of the Secret:
    /// `Bearer {{ secret.token }}`, or `{{ secret["api-token"] }}` for a key that is no word.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}
