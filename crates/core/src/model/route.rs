use std::sync::Arc;

/// One stream of mail, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How mail is spread.
    pub strategy: Strategy,
    /// `SendingBackends` in the route's namespace, most preferred first; 1 to 100, names unique.
    pub backends: Vec<Member>,
    /// How much mail it is.
    pub traffic: Traffic,
    /// Jurisdictions in which mail may be handled; any, when empty.
    pub jurisdictions: Vec<Arc<str>>,
    /// Regions whose backends are preferred to all others, the best first; within a region the list's order counts.
    pub preferred_regions: Vec<Arc<str>>,
    /// Domains it sends for. Lower case.
    pub sender_domains: Vec<Arc<str>>,
    /// Services to own, names unique.
    pub services: Vec<ServiceOutput>,
    /// `ConfigMaps` to own, names unique.
    pub config_maps: Vec<ConfigMapOutput>,
    /// `ConfigMaps` for agents to own, names unique, among `config_maps`, too.
    pub agents: Vec<AgentOutput>,
}

/// How mail is spread over the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All mail goes to one backend, as far as it takes it.
    ActivePassive,
    /// Mail goes to all that can deliver, by weight.
    ActiveActive,
}

/// A backend of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the `SendingBackend`.
    pub name: Arc<str>,
    /// Its part of the mail beside the others' weights; at least 1. Counts with [`Strategy::ActiveActive`] only.
    pub weight: u32,
}

/// How much mail a route carries.
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
    /// At least one; every one leads to the active backend's SMTP port.
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
    /// For whom.
    pub format: ConfigMapFormat,
}

/// A `ConfigMap` for agents, which stand beside queueing MTAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOutput {
    /// Name of the `ConfigMap`.
    pub config_map: Arc<str>,
    /// The service account, in the route's namespace, from which reports are taken.
    pub service_account: Arc<str>,
}

/// Who reads a rendered `ConfigMap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigMapFormat {
    /// Postfix: `transport`, `tls_policy` and `relayhost`.
    Postfix,
    /// Environment variables: `SMTP_HOST`, `SMTP_PORT`, `SMTP_TLS`, `SMTP_TLS_SERVER_NAME`.
    Env,
}
