use std::sync::Arc;

/// One stream of mail, checked. Strategy: active-passive, the order of `backends` is the preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Names of `SendingBackends` in the route's namespace, most preferred first; 1 to 100, unique.
    pub backends: Vec<Arc<str>>,
    /// Services to own, names unique.
    pub services: Vec<ServiceOutput>,
    /// `ConfigMaps` to own, names unique.
    pub config_maps: Vec<ConfigMapOutput>,
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

/// Who reads a rendered `ConfigMap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigMapFormat {
    /// Postfix: `transport`, `tls_policy` and `relayhost`.
    Postfix,
    /// Environment variables: `SMTP_HOST`, `SMTP_PORT`, `SMTP_TLS`, `SMTP_TLS_SERVER_NAME`.
    Env,
}
