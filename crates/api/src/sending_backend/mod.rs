mod probes;
mod replies;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DOMAIN, PLACE};
pub use probes::{ProbeDepth, ProbeJobSpec, ProbeSpec, SmtpProbe};
pub use replies::{ProviderSpec, ReplyRuleSpec, ReplyStageSpec, ReplySubject};
pub use status::{BackendType, CondemnedStatus, Health, ProbeStatus, SendingBackendStatus};

/// One way out for mail: an email service provider, an SMTP relay, or an MTA in this cluster.
///
/// The operator probes it from every replica and says in `status` whether mail can leave through it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mailfailover.io",
    version = "v1alpha1",
    kind = "SendingBackend",
    plural = "sendingbackends",
    namespaced,
    status = "SendingBackendStatus",
    derive = "PartialEq",
    shortname = "sbe",
    category = "mailfailover",
    selectable = ".status.health",
    selectable = ".status.reason",
    doc = "One way out for mail: an email service provider, an SMTP relay, or an MTA in this cluster. The operator probes it from every replica and says in `status` whether mail can leave through it.",
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".status.type",
        description = "SMTP (a host or address) or Service (an MTA in this cluster)"
    ),
    printcolumn(
        name = "Host",
        type_ = "string",
        json_path = ".status.host",
        description = "Host or Service, with the port"
    ),
    printcolumn(
        name = "Health",
        type_ = "string",
        json_path = ".status.health",
        description = "Healthy, Degraded, Unhealthy or Unknown"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "Reason of the health"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.since", description = "Start of the health"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Accepted and observed"
    ),
    printcolumn(
        name = "Suspended",
        type_ = "boolean",
        json_path = ".spec.suspended",
        description = "In planned maintenance"
    ),
    printcolumn(
        name = "Certificate",
        type_ = "string",
        json_path = ".status.certificateNotAfter",
        priority = 1,
        description = "Expiry of the served certificate"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1,
        description = "Evidence that turned the health"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("has(self.smtp) != has(self.service)").message("exactly one of spec.smtp and spec.service must be set"),
    validation = Rule::new("!has(self.probes) || self.probes.all(p, !has(p.smtp.depth) || p.smtp.depth != 'StartTLS' || (has(self.smtp) && (has(self.smtp.tls) ? self.smtp.tls.mode != 'None' : self.smtp.port in [25, 465, 587])) || (has(self.service) && (has(self.service.tls) ? self.service.tls.mode != 'None' : string(self.service.port).matches('[a-z]') || self.service.port in [25, 465, 587])))").message("spec.probes[].smtp.depth StartTLS needs a tls.mode other than None, which is the default of ports other than 25, 465 and 587: there is no TLS to probe"),
    validation = Rule::new("!has(self.probes) || self.probes.all(p, !has(p.smtp.depth) || p.smtp.depth != 'Auth' || (has(self.smtp) && has(self.smtp.auth)) || (has(self.service) && has(self.service.auth)))").message("spec.probes[].smtp.depth Auth needs auth.secretRef of smtp or service: there is nothing to log in with"),
    validation = Rule::new("!has(self.probes) || has(self.service) || self.probes.all(p, !has(p.smtp.depth) || !(p.smtp.depth in ['Auth', 'MailFrom', 'RcptTo']) || !has(p.interval) || duration(p.interval) >= duration('30s'))").message("spec.probes[].interval must be at least 30s for smtp.depth Auth, MailFrom and RcptTo, unless the backend is a Service: providers count log-ins"),
    validation = Rule::new("!has(self.probes) || self.probes.all(p, self.probes.exists_one(q, q.name == p.name))").message("spec.probes[].name must be unique"),
    validation = Rule::new("!has(self.probes) || self.probes.all(p, p.name != 'deliveries')").message("spec.probes[].name must not be deliveries: under that name status.probes tells what agents say of real mail")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendingBackendSpec {
    /// An SMTP server outside this cluster, or any address. Exactly one of `smtp` and `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpServer>,

    /// An MTA behind a Service in the same namespace; its ready endpoints are followed. Exactly one of `smtp` and `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceReference>,

    /// Probes that observe the backend. Every probe must succeed for the backend to be Healthy; one failing probe
    /// makes it Unhealthy. Default: one probe named `smtp` every 10s with a timeout of 10s, as deep as `tls` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub probes: Option<Vec<ProbeSpec>>,

    /// Place where the backend is run. Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationSpec>,

    /// Amount of mail that the backend takes. A route that gives its amount in `traffic` sends no more here. Default:
    /// any amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,

    /// Domains that the backend may send for; 1 to 64. A route whose `senderDomains` name another one sends nothing
    /// here. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["domain".into()]))]
    pub sender_domains: Option<Vec<SenderDomain>>,

    /// Provider whose own words the replies are read by, besides the general rules. Default: known from the host of
    /// `smtp` where it is one of the provider's documented ones, otherwise the words of every provider count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderSpec>,

    /// Rules of your own about replies of this backend, 1 to 32. The first that applies decides, before every rule of
    /// the operator. They hold for probes and for the agents' reading of real mail. `mail-failover classify
    /// --backend-file` tries them. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub replies: Option<Vec<ReplyRuleSpec>>,

    /// Planned maintenance: no new mail is sent here, and its failures raise no alarm. A route whose active backend is
    /// suspended moves at once to the next healthy one. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}

/// An SMTP server by host and port.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("isIP(self.host) || (!self.host.contains(':') && !self.host.matches('^[0-9.]+$'))").message("spec.smtp.host must be a DNS name or an IP address, without scheme, brackets or port"),
    validation = Rule::new("!isIP(self.host) || (!ip(self.host).isLoopback() && !ip(self.host).isUnspecified() && !ip(self.host).isLinkLocalUnicast() && !ip(self.host).isLinkLocalMulticast())").message("spec.smtp.host must not be a loopback, link-local or unspecified address: a Service cannot lead there"),
    validation = Rule::new("!has(self.auth) || (has(self.auth.allowPlaintext) && self.auth.allowPlaintext) || (has(self.tls) ? self.tls.mode in ['StartTLS', 'Implicit'] : self.port in [465, 587])").message("spec.smtp.auth needs tls.mode StartTLS or Implicit (the defaults of the ports 587 and 465), or whoever sits between reads the password; set auth.allowPlaintext to true if that is meant")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SmtpServer {
    /// DNS name or IP address, without scheme, brackets or port: `email-smtp.eu-west-1.amazonaws.com`, `192.0.2.7`, `2001:db8::7`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_:]([A-Za-z0-9_.:-]*[A-Za-z0-9_:])?$"))]
    pub host: String,

    /// TCP port: 25 for relays, 587 for submission, 465 for submission with implicit TLS.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// Use of TLS. Default, as mail clients have it: `Implicit` at port 465, `StartTLS` at port 587, `Opportunistic` at
    /// port 25, `None` at any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,

    /// Credentials to log in with: agents do for mail (output `agent` of a MailRoute), and probes do from depth `Auth`
    /// on. Default: no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
}

/// An MTA behind a Service of this cluster.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.auth) || (has(self.auth.allowPlaintext) && self.auth.allowPlaintext) || (has(self.tls) ? self.tls.mode in ['StartTLS', 'Implicit'] : string(self.port).matches('[a-z]') || self.port in [465, 587])").message("spec.service.auth needs tls.mode StartTLS or Implicit (the defaults of the ports 587 and 465), or whoever sits between reads the password; set auth.allowPlaintext to true if that is meant"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceReference {
    /// Name of the Service, in the same namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Port of the Service, by name or number.
    #[schemars(schema_with = "crate::service_port_schema")]
    pub port: IntOrString,

    /// Use of TLS. Default, as mail clients have it: `Implicit` at port 465, `StartTLS` at port 587, `Opportunistic` at
    /// port 25, `None` at any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,

    /// Credentials to log in with: agents do for mail (output `agent` of a MailRoute), and probes do from depth `Auth`
    /// on. Default: no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
}

/// Credentials to log in with (SMTP AUTH, RFC 4954).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthSpec {
    /// Secret that holds the credentials.
    pub secret_ref: SecretReference,

    /// True if the password may travel where others can read it: over a connection without TLS, or with TLS that is
    /// not verified. For relays in one's own network only. Postfix has to be told as well: `agent postfix-config
    /// --plaintext-logins`. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_plaintext: Option<bool>,
}

/// A Secret of the same namespace, of type `kubernetes.io/basic-auth` or any other with a key each for user name and password. It is
/// mounted where the agent runs. The operator reads it, by name, only if a probe of this backend has depth `Auth`, `MailFrom` or `RcptTo`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(has(self.usernameKey) ? self.usernameKey : 'username') != (has(self.passwordKey) ? self.passwordKey : 'password')").message("auth.secretRef.usernameKey and passwordKey must be two keys"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Key of the user name. Several backends may have their logins in one Secret. Default: `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-_A-Za-z0-9][-._A-Za-z0-9]*$"))]
    pub username_key: Option<String>,

    /// Key of the password. Default: `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-_A-Za-z0-9][-._A-Za-z0-9]*$"))]
    pub password_key: Option<String>,
}

/// Use of TLS with a backend.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.caRef) || self.mode in ['StartTLS', 'Implicit']").message("tls.caRef has an effect with mode StartTLS or Implicit only: None and Opportunistic verify nothing"),
    validation = Rule::new("!has(self.serverName) || self.mode != 'None'").message("tls.serverName has no effect with mode None")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsSpec {
    /// `None`: never. `Opportunistic`: STARTTLS when offered, the certificate is not verified. `StartTLS`: STARTTLS
    /// required and verified (RFC 3207). `Implicit`: TLS from the first byte, verified (RFC 8314, port 465).
    pub mode: TlsModeSpec,

    /// The name the certificate must carry. Default: the host, or `<service>.<namespace>.svc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_:]([A-Za-z0-9_.:-]*[A-Za-z0-9_:])?$"))]
    pub server_name: Option<String>,

    /// Certificates of a private authority. Default: the public authorities of Mozilla's programme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaReference>,
}

/// Requirement for TLS and its verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsModeSpec {
    /// TLS is never used.
    None,
    /// STARTTLS when offered, not verified.
    Opportunistic,
    /// STARTTLS required and verified.
    #[serde(rename = "StartTLS")]
    StartTls,
    /// TLS from the first byte, verified.
    Implicit,
}

/// PEM certificates in a ConfigMap or a Secret of the same namespace. Exactly one of `configMap` and `secret`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.configMap) != has(self.secret)").message("exactly one of caRef.configMap and caRef.secret must be set"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaReference {
    /// Name of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub config_map: Option<String>,

    /// Name of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret: Option<String>,

    /// Key of the PEM text. Default: `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// Place where a backend is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocationSpec {
    /// A region, by any name that `preferredRegions` of a MailRoute uses, too: `eu-west-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = PLACE))]
    pub region: Option<String>,

    /// Jurisdiction whose law applies, by any name that `residency.jurisdictions` of a MailRoute uses, too: `EU`. Mail
    /// of a route with `residency` never comes here while it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = PLACE))]
    pub jurisdiction: Option<String>,

    /// Name shared by backends that fail together: `aws`. When all fail at once, backends of one failure domain count
    /// as one. Default: a domain of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = PLACE))]
    pub failure_domain: Option<String>,
}

/// Amount of mail that a backend takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsSpec {
    /// Messages a second, from all agents beside Postfix together: each keeps a part. What applications send by a
    /// Service, a ConfigMap or a relay is not held back. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages_per_second: Option<i32>,

    /// Messages a day. Of a backend to which no route leads, each agent counts its part. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub messages_per_day: Option<i32>,

    /// Connections at a time. Each `mail-failover relay` of the route keeps its part: no less than one, so that more
    /// relays than this have one each. Postfix has a parameter of its own. Default: 20 from each relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub connections: Option<i32>,

    /// Messages over one connection, after which a `mail-failover relay` makes another one. Postfix has a parameter of
    /// its own. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages_per_connection: Option<i32>,

    /// Most messages on each of the first days: a new address earns its reputation slowly. Default: no warm-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUpSpec>,
}

/// Most messages on each of the first days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WarmUpSpec {
    /// Start of the first day (RFC 3339): `2026-11-01T00:00:00Z`. Each day is 24 hours; before it, the first day's
    /// number holds.
    #[schemars(schema_with = "crate::time_schema")]
    pub started_at: Time,

    /// Messages on the first day, the second, and so on; afterwards warm-up limits nothing. 1 to 90 days.
    #[schemars(length(min = 1, max = 90), inner(range(min = 1, max = 1_000_000_000)))]
    pub schedule: Vec<i32>,
}

/// A domain that a backend may send for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SenderDomain {
    /// The domain in sender addresses, in any case, without `@`; an internationalized one as A-labels: `shop.example`, `xn--bcher-kva.example`.
    #[schemars(length(min = 1, max = 253), regex(pattern = DOMAIN))]
    pub domain: String,
}
