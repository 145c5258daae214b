use std::sync::Arc;
use std::time::Duration;

use super::DnsOutput;

/// Stream of mail with checked settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Way to spread the mail over the backends.
    pub strategy: Strategy,
    /// `SendingBackends` in the route's namespace, most preferred first; 1 to 100, names unique.
    pub backends: Vec<Member>,
    /// Amount of mail of the route.
    pub traffic: Traffic,
    /// Jurisdictions in which mail may be handled; any, when empty.
    pub jurisdictions: Vec<Arc<str>>,
    /// Regions whose backends are preferred to all others, the best first. The list's order decides within a region.
    pub preferred_regions: Vec<Arc<str>>,
    /// Domains that the route sends for, in lower case.
    pub sender_domains: Vec<Arc<str>>,
    /// True if a message that its backend does not take may go to another one within the same delivery attempt.
    pub alternates: bool,
    /// Services to own, names unique.
    pub services: Vec<ServiceOutput>,
    /// `ConfigMaps` to own, names unique.
    pub config_maps: Vec<ConfigMapOutput>,
    /// `ConfigMaps` for agents to own, names unique among these and `config_maps`.
    pub agents: Vec<AgentOutput>,
    /// Receivers to call, names unique.
    pub webhooks: Vec<WebhookOutput>,
    /// DNS records to lead, names unique.
    pub dns: Vec<DnsOutput>,
}

/// Way to spread mail over the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All mail goes to one backend, as far as it takes that much.
    ActivePassive,
    /// Mail goes to all that can deliver, by weight.
    ActiveActive,
}

/// A backend of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the `SendingBackend`.
    pub name: Arc<str>,
    /// Weight beside the other members' weights, at least 1. Counts with [`Strategy::ActiveActive`] only.
    pub weight: u32,
}

/// Amount of mail of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages on a busy day; at least 1.
    pub messages_per_day: Option<u32>,
    /// Messages in the busiest second; at least 1.
    pub peak_per_second: Option<u32>,
}

/// A selector-less Service whose `EndpointSlices` point at the active backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOutput {
    /// Name of the Service.
    pub name: Arc<str>,
    /// Ports of the Service, at least one. Every one leads to the active backend's SMTP port.
    pub ports: Vec<ServiceOutputPort>,
}

/// A port under which clients reach the active backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOutputPort {
    /// Name, unique within the Service.
    pub name: Arc<str>,
    /// TCP port of the Service.
    pub port: u16,
}

/// A `ConfigMap` with the active backend rendered for its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapOutput {
    /// Name of the `ConfigMap`.
    pub name: Arc<str>,
    /// Format of the content.
    pub format: ConfigMapFormat,
}

/// A `ConfigMap` for agents, which stand beside queueing MTAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOutput {
    /// Name of the `ConfigMap`.
    pub config_map: Arc<str>,
    /// Name of the service account, in the route's namespace, that may send reports.
    pub service_account: Arc<str>,
}

/// A receiver outside that is called with each decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookOutput {
    /// Name, unique within the route.
    pub name: Arc<str>,
    /// Place of the receiver, `https://…`.
    pub url: Arc<str>,
    /// Method of the request.
    pub method: WebhookMethod,
    /// Name of the Secret that signs, in the route's namespace.
    pub secret: Arc<str>,
    /// Object with the authorities that may have signed the receiver's certificate; the well-known ones if `None`.
    pub ca: Option<CaSource>,
    /// Further headers: name, and template of the value.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// Content type of `body`; that of JSON if `None`.
    pub content_type: Option<Arc<str>>,
    /// Template of the body; a `CloudEvent` if `None`.
    pub body: Option<Arc<str>>,
    /// Time limit of a call, from the look-up of the name to the answer.
    pub timeout: Duration,
    /// True if a decision counts as applied only once the receiver has accepted it.
    pub is_awaited: bool,
}

/// Method of a webhook's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub enum WebhookMethod {
    /// POST (RFC 9110 §9.3.3).
    Post,
    /// PUT (RFC 9110 §9.3.4).
    Put,
    /// PATCH (RFC 5789).
    Patch,
}

impl WebhookMethod {
    /// The name in a request.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Object in a route's namespace that holds certificates of authorities in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaSource {
    /// True if it is a Secret, false if it is a `ConfigMap`.
    pub is_secret: bool,
    /// Name of the object.
    pub name: Arc<str>,
    /// Key in its data.
    pub key: Arc<str>,
}

/// Format of a rendered `ConfigMap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigMapFormat {
    /// Postfix: `transport`, `tls_policy` and `relayhost`.
    Postfix,
    /// Environment variables: `SMTP_HOST`, `SMTP_PORT`, `SMTP_TLS`, `SMTP_TLS_SERVER_NAME`.
    Env,
}
