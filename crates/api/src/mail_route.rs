use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DOMAIN, DnsOutputSpec, MailRouteStatus, PLACE, WebhookOutputSpec};

/// One stream of mail: the backends it may leave by, in order of preference, and the outputs that lead it there.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mailfailover.io",
    version = "v1alpha1",
    kind = "MailRoute",
    plural = "mailroutes",
    namespaced,
    status = "MailRouteStatus",
    derive = "PartialEq",
    shortname = "mroute",
    category = "mailfailover",
    selectable = ".status.state",
    selectable = ".spec.policyRef.name",
    doc = "One stream of mail: the backends it may leave by, in order of preference, and the outputs that lead it there. The backend that carries the mail now stands in `status`, never in `spec`, so that no GitOps tool reverts an incident response.",
    printcolumn(name = "Strategy", type_ = "string", json_path = ".status.strategy"),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.activeSummary",
        description = "Backends that carry the mail now, with their shares"
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.healthyBackends",
        description = "Healthy backends, of all backends"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "Preferred, FailedOver, FailingBack, Holding, Paused, NoneHealthy or Unknown"
    ),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.since",
        description = "Time from which on they carry it"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Mail can leave"
    ),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.backends.all(b, self.backends.exists_one(c, c.name == b.name))").message("spec.backends[].name must be unique: a backend cannot stand in for itself"),
    validation = Rule::new("(has(self.strategy) && self.strategy == 'ActiveActive') || self.backends.all(b, !has(b.weight))").message("spec.backends[].weight has an effect with strategy ActiveActive only: with ActivePassive the order of the list is the preference"),
    validation = Rule::new("!has(self.preferredRegions) || self.preferredRegions.all(r, self.preferredRegions.exists_one(q, q == r))").message("spec.preferredRegions must be unique"),
    validation = Rule::new("self.outputs.all(o, !has(o.service) || self.outputs.exists_one(p, has(p.service) && p.service.name == o.service.name))").message("spec.outputs[].service.name must be unique"),
    validation = Rule::new("self.outputs.all(o, !has(o.configMap) || self.outputs.exists_one(p, has(p.configMap) && p.configMap.name == o.configMap.name))").message("spec.outputs[].configMap.name must be unique"),
    validation = Rule::new("self.outputs.all(o, !has(o.agent) || (self.outputs.exists_one(p, has(p.agent) && p.agent.configMap == o.agent.configMap) && !self.outputs.exists(p, has(p.configMap) && p.configMap.name == o.agent.configMap)))").message("spec.outputs[].agent.configMap must be unique, among spec.outputs[].configMap.name, too"),
    validation = Rule::new("self.outputs.all(o, !has(o.webhook) || self.outputs.exists_one(p, has(p.webhook) && p.webhook.name == o.webhook.name))").message("spec.outputs[].webhook.name must be unique"),
    validation = Rule::new("self.outputs.all(o, !has(o.dns) || self.outputs.exists_one(p, has(p.dns) && (has(p.dns.name) ? p.dns.name : p.dns.zone).lowerAscii() == (has(o.dns.name) ? o.dns.name : o.dns.zone).lowerAscii()))").message("spec.outputs[].dns.name must be unique; without one it is the zone"),
    validation = Rule::new("self.outputs.all(o, !has(o.dns) || !has(o.dns.mx) || self.backends.all(b, o.dns.mx.exists(m, m.backend == b.name)))").message("spec.outputs[].dns.mx must name a host for every backend of spec.backends"),
    validation = Rule::new("self.outputs.all(o, !has(o.dns) || !has(o.dns.mx) || o.dns.mx.all(m, self.backends.exists(b, b.name == m.backend)))").message("spec.outputs[].dns.mx[].backend must be one of spec.backends"),
    validation = Rule::new("!has(self.messages) || self.outputs.exists(o, has(o.agent))").message("spec.messages has an effect with an output agent only: add one to spec.outputs, or take spec.messages away")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailRouteSpec {
    /// The FailoverPolicy that decides when to switch. Default: the documented defaults of every field of a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<PolicyReference>,

    /// `ActivePassive`: all mail goes to one backend; the order of the list is the preference. `ActiveActive`: mail goes to every backend
    /// that can deliver, by `weight`; the parts of those that cannot go to the others, as far as their `limits` allow. Default: ActivePassive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategySpec>,

    /// SendingBackends of the same namespace, most preferred first; 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub backends: Vec<BackendReference>,

    /// Amount of mail of this route, from which the operator computes the part that fits within the `limits` of a
    /// backend. Default: unknown, all of it fits anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSpec>,

    /// Jurisdictions in which this mail may be handled. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<ResidencySpec>,

    /// Regions whose backends are preferred to all others, the best first, compared letter by letter with `location.region` of a
    /// SendingBackend. Within a region the order of `backends` counts. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63), regex(pattern = PLACE)))]
    pub preferred_regions: Vec<String>,

    /// Domains in the sender addresses of this mail, in any case; 1 to 64. A backend that has `senderDomains` carries it only if all of
    /// them are there. Default: unknown, and any backend may carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 253), regex(pattern = DOMAIN))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub sender_domains: Option<Vec<String>>,

    /// Way of each single message, where an agent stands beside the MTA (output `agent`). Default: every field's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessagesSpec>,

    /// Objects and DNS records that are rewritten, and receivers that are called, when the route switches; 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub outputs: Vec<OutputSpec>,
}

/// Way of each single message, where an agent stands beside the MTA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagesSpec {
    /// True if a message that its backend does not take goes to the next one within the same delivery attempt: to each
    /// that is Healthy, may send for all of `senderDomains` and takes the whole of `traffic` within its `limits`. Where
    /// the route leads does not change by that. Never while a Pause or a forced Switch is in force. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternates: Option<bool>,
}

/// A FailoverPolicy of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyReference {
    /// Name of the FailoverPolicy.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Way to spread mail over the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum StrategySpec {
    /// All mail goes to one backend.
    ActivePassive,
    /// Mail goes to all that can deliver.
    ActiveActive,
}

/// A SendingBackend of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendReference {
    /// Name of the SendingBackend.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Weight beside the weights of the others: of 100, 100 and 50 the last gets a fifth. With strategy ActiveActive
    /// only. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<i32>,
}

/// Amount of mail of a route. At least one of the fields must be set.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.messagesPerDay) || has(self.peakPerSecond)").message("at least one of spec.traffic.messagesPerDay and spec.traffic.peakPerSecond must be set"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficSpec {
    /// Messages on a busy day, measured against `limits.messagesPerDay` and `limits.warmUp` of a SendingBackend. Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub messages_per_day: Option<i32>,

    /// Messages in the busiest second, measured against `limits.messagesPerSecond` of a SendingBackend. Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub peak_per_second: Option<i32>,
}

/// Jurisdictions in which mail may be handled.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResidencySpec {
    /// Jurisdictions of the only backends that mail goes to, even when none of them can deliver: `EU`. Compared letter
    /// by letter with `location.jurisdiction` of a SendingBackend; a backend without one gets no mail. 1 to 32.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 63), regex(pattern = PLACE))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub jurisdictions: Vec<String>,
}

/// Object or DNS records that are rewritten, or receiver that is called, when the route switches. Exactly one of its fields must be set.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.service), has(self.configMap), has(self.agent), has(self.webhook), has(self.dns)].filter(is_set, is_set).size() == 1").message("exactly one of spec.outputs[].service, spec.outputs[].configMap, spec.outputs[].agent, spec.outputs[].webhook and spec.outputs[].dns must be set"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputSpec {
    /// A Service without selector that this route owns, whose EndpointSlices point at the active backend. For clients that
    /// connect for each message or pool briefly; a queueing MTA needs more than a moved endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceOutputSpec>,

    /// A ConfigMap that this route owns, with the active backend rendered for the program that reads it. Never holds credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapOutputSpec>,

    /// A ConfigMap that this route owns, for `mail-failover agent`, which stands beside a queueing MTA and moves its
    /// queue, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentOutputSpec>,

    /// A receiver outside that is called with each decision, over HTTPS and signed: a feature-flag service, a marketing
    /// platform, a CRM, or anything else that has to follow the mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookOutputSpec>,

    /// Records of a DNS zone that follow the mail: MX for replies, bounces and MTAs whose next hop is a domain. Not the way
    /// by which other domains' servers are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsOutputSpec>,
}

/// A ConfigMap for `mail-failover agent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentOutputSpec {
    /// Name of the ConfigMap. It must not exist yet, or be owned by this route. Its key `agent.json` lists every
    /// backend with its share, TLS and the name of its Secret, and says what an agent may do by itself (`breaker` of
    /// the FailoverPolicy). Never holds credentials.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub config_map: String,

    /// Name of the ServiceAccount in the same namespace under which the MTA's pod runs: only reports from there are taken. Default: default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
}

/// A Service that leads to the active backend.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.ports.all(p, self.ports.exists_one(q, q.name == p.name))").message("spec.outputs[].service.ports[].name must be unique"),
    validation = Rule::new("self.ports.all(p, self.ports.exists_one(q, q.port == p.port))").message("spec.outputs[].service.ports[].port must be unique")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceOutputSpec {
    /// Name of the Service. It must not exist yet, or be owned by this route.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Ports under which clients reach the Service. Each leads to the SMTP port of the active backend.
    #[schemars(length(min = 1, max = 8))]
    pub ports: Vec<ServiceOutputPortSpec>,
}

/// A port of a Service that leads to the active backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceOutputPortSpec {
    /// Name of the port.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// TCP port that clients connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A ConfigMap rendered for the program that reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapOutputSpec {
    /// Name of the ConfigMap. It must not exist yet, or be owned by this route.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// `Postfix`: keys `transport` and `tls_policy` (lookup tables) and `relayhost`. `Env`: keys `SMTP_HOST`, `SMTP_PORT`,
    /// `SMTP_TLS` (none, opportunistic, starttls, implicit), `SMTP_TLS_SERVER_NAME` and `SENDING_BACKEND`, for `envFrom`.
    pub format: ConfigMapFormatSpec,
}

/// Format of a rendered ConfigMap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigMapFormatSpec {
    /// Lookup tables of Postfix.
    Postfix,
    /// Environment variables for `envFrom`.
    Env,
}
