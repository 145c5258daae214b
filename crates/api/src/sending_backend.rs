use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DOMAIN, MAILBOX, PLACE, PendingEvent};

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
    #[schemars(schema_with = "super::service_port_schema")]
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

/// A Secret of the same namespace, of type `kubernetes.io/basic-auth` or any other with the keys `username` and `password`. It is
/// mounted where the agent runs. The operator reads it, by name, only if a probe of this backend has depth `Auth`, `MailFrom` or `RcptTo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
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
#[x_kube(validation = Rule::new("has(self.configMap) != has(self.secret)").message("exactly one of tls.caRef.configMap and tls.caRef.secret must be set"))]
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

/// Observation of one aspect of the backend.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.interval) || (duration(self.interval) >= duration('100ms') && duration(self.interval) <= duration('24h'))").message("spec.probes[].interval must be between 100ms and 24h"),
    validation = Rule::new("!has(self.timeout) || (duration(self.timeout) >= duration('50ms') && duration(self.timeout) <= duration('5m'))").message("spec.probes[].timeout must be between 50ms and 5m"),
    validation = Rule::new("!has(self.job) || !has(self.interval) || duration(self.interval) >= duration('30s')").message("spec.probes[].interval must be at least 30s with job: each round starts a pod"),
    validation = Rule::new("!has(self.timeout) || duration(self.timeout).getMilliseconds() <= duration(has(self.interval) ? self.interval : '10s').getMilliseconds() * 10").message("spec.probes[].timeout must be at most ten times the interval: no more rounds of one probe may overlap")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeSpec {
    /// Name, unique within the backend.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Time from the start of a round to the start of the next; every probe is shifted by up to 5 % so that they do
    /// not march in step. Providers count connections: intervals below a second are for relays of one's own. Default:
    /// 10s. From 100ms to 24h. For depths from `Auth` on, unless the backend is a Service: at least 30s, which is then
    /// the default; and the replicas of the operator share the rounds, so that together they log in once in each
    /// interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub interval: Option<Duration>,

    /// Limit for each wait for the server: its greeting, a TLS handshake, each reply (RFC 5321 section 4.5.3.2); the
    /// stage that ran out of it is named. The TCP connection has 5s at most. The whole dialogue with one address has six
    /// times the limit and 55s at most, but never less than the limit. Ordinary servers delay their greeting by 6s, and
    /// refusals by 5s. If a dialogue outlasts the interval, rounds overlap. Default: 10s, or ten times the interval if
    /// that is less. From 50ms to 5m, and at most ten times the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub timeout: Option<Duration>,

    /// The SMTP dialogue (RFC 5321).
    pub smtp: SmtpProbe,

    /// Makes each round in a Kubernetes Job in the backend's namespace instead of in the operator: from another zone, under another network policy
    /// or service account, with a login that the operator need not read. Its verdict stands beside the other probes' under its own name.
    /// `interval` is then at least 30s, and 1m by default. The operator must have been started with `--probe-image`. Default: in the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<ProbeJobSpec>,
}

/// Placement and service account of a probe's pod. The pod is restricted (Pod Security Standards), has no access to
/// the API server, and mounts the Secret of `auth` and the certificates of `tls.caRef`, nothing else. Network policies
/// can select it by the labels `mailfailover.io/probe` and `mailfailover.io/sending-backend`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeJobSpec {
    /// Service account of the pod; its token is not mounted. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,

    /// Labels of the nodes that the pod may run on: `topology.kubernetes.io/zone: b`. Default: any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Taints of nodes that the pod tolerates. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub tolerations: Option<Vec<Toleration>>,
}

/// An SMTP dialogue that ends before any mail is sent.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.depth) || !(self.depth in ['MailFrom', 'RcptTo']) || has(self.from)").message("spec.probes[].smtp.from is needed for depth MailFrom and RcptTo: the address that MAIL FROM names"),
    validation = Rule::new("!has(self.depth) || self.depth != 'RcptTo' || has(self.to)").message("spec.probes[].smtp.to is needed for depth RcptTo: the address that RCPT TO names"),
    validation = Rule::new("!has(self.from) || (has(self.depth) && self.depth in ['MailFrom', 'RcptTo'])").message("spec.probes[].smtp.from has an effect for depth MailFrom and RcptTo only"),
    validation = Rule::new("!has(self.to) || (has(self.depth) && self.depth == 'RcptTo')").message("spec.probes[].smtp.to has an effect for depth RcptTo only"),
    validation = Rule::new("(!has(self.from) || self.from.indexOf('@') <= 64) && (!has(self.to) || self.to.indexOf('@') <= 64)").message("spec.probes[].smtp.from and to must have at most 64 characters before the @ (RFC 5321)")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SmtpProbe {
    /// Last step of the dialogue; each depth includes those before it. `Connect`: the TCP connection (the greeting is
    /// read before QUIT, and counts neither way). `Banner`: the 220 greeting. `Ehlo`: EHLO. `StartTLS`: the TLS handshake with the certificate's name and expiry verified, and
    /// EHLO again. `Auth`: logging in with `auth` (PLAIN or LOGIN). `MailFrom`: logging in if there is `auth`, and
    /// MAIL FROM. `RcptTo`: RCPT TO as well; a refusal of the recipient counts neither way. RSET and QUIT follow: no
    /// mail is sent. Default: `StartTLS`, or `Ehlo` where `tls.mode` is None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<ProbeDepth>,

    /// Sender in MAIL FROM, one that the provider lets this account send as: `probe@shop.example`. For depth
    /// `MailFrom` and `RcptTo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254), regex(pattern = MAILBOX))]
    pub from: Option<String>,

    /// Recipient in RCPT TO, one that exists: `probe@inbox.example`. Nothing is sent there. For depth `RcptTo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254), regex(pattern = MAILBOX))]
    pub to: Option<String>,
}

/// Last step of a probe's dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum ProbeDepth {
    /// The TCP connection alone.
    Connect,
    /// The SMTP 220 greeting.
    Banner,
    /// EHLO and its reply.
    Ehlo,
    /// The TLS handshake and EHLO again.
    #[serde(rename = "StartTLS")]
    StartTls,
    /// AUTH and its exchange.
    Auth,
    /// MAIL FROM and its reply.
    MailFrom,
    /// RCPT TO and its reply.
    RcptTo,
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
    /// Messages a second. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages_per_second: Option<i32>,

    /// Messages a day. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub messages_per_day: Option<i32>,

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
    #[schemars(schema_with = "super::time_schema")]
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

/// Provider or server with rules of its own about its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum ProviderSpec {
    /// Microsoft 365 and Exchange.
    Microsoft,
    /// Gmail and Google Workspace.
    Google,
    /// Zoho Mail and ZeptoMail.
    Zoho,
    /// Amazon SES.
    #[serde(rename = "SES")]
    Ses,
    /// Mailgun.
    Mailgun,
    /// Brevo.
    Brevo,
    /// cPanel's Exim.
    #[serde(rename = "cPanel")]
    Cpanel,
    /// qmail.
    #[serde(rename = "qmail")]
    Qmail,
    /// Yahoo.
    Yahoo,
    /// NetEase: 163, 126, yeah.net.
    NetEase,
    /// Tencent: QQ and Exmail.
    Tencent,
}

impl ProviderSpec {
    /// Every provider.
    pub const ALL: [Self; 11] = [
        Self::Microsoft,
        Self::Google,
        Self::Zoho,
        Self::Ses,
        Self::Mailgun,
        Self::Brevo,
        Self::Cpanel,
        Self::Qmail,
        Self::Yahoo,
        Self::NetEase,
        Self::Tencent,
    ];

    /// Name in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Microsoft => "Microsoft",
            Self::Google => "Google",
            Self::Zoho => "Zoho",
            Self::Ses => "SES",
            Self::Mailgun => "Mailgun",
            Self::Brevo => "Brevo",
            Self::Cpanel => "cPanel",
            Self::Qmail => "qmail",
            Self::Yahoo => "Yahoo",
            Self::NetEase => "NetEase",
            Self::Tencent => "Tencent",
        }
    }
}

/// A rule about replies: every condition that it has must hold.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.codes) || has(self.enhancedCodes) || has(self.words)").message("spec.replies[] needs codes, enhancedCodes or words: without any of them it would decide every reply"),
    validation = Rule::new("!has(self.stages) || !(self.about in ['Recipient', 'Message', 'Destination']) || self.stages.all(s, s in ['MAIL', 'RCPT', 'DATA'])").message("spec.replies[].stages must be among MAIL, RCPT and DATA for about Recipient, Message and Destination: before MAIL there is neither"),
    validation = Rule::new("!has(self.words) || self.words.all(w, !''.matches(w))").message("spec.replies[].words must not match the empty text: the rule would decide every reply")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplyRuleSpec {
    /// Name, unique within the backend. Where the rule has decided, messages call it `spec.replies[name]`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Subject of the reply, from which all follows (docs/replies.md has the table). About us: `Account`, `Login`,
    /// `Quota` (the allowance of a day or month), `Identity` (SPF, DKIM, DMARC, an unverified sender), `Address` (block
    /// lists, reputation, PTR), `Rate` (we are too fast), `OurSide` (our name in EHLO). About the server: `Service`,
    /// `Tls`. About the mail, so that nothing is held against the backend: `Recipient`, `Message`, `Destination` (the
    /// policy of the recipient's domain).
    pub about: ReplySubject,

    /// Commands whose replies are meant: CONN (the greeting), HELO, STARTTLS, AUTH, MAIL, RCPT, DATA (DATA and the end
    /// of the message). Default: any, also where a log does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub stages: Option<Vec<ReplyStageSpec>>,

    /// Codes (RFC 5321), of which one must be the reply's: `550`, `5xx`, `450-452`. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 7), regex(pattern = "^[45]([0-9][0-9](-[45][0-9][0-9])?|xx)$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub codes: Option<Vec<String>>,

    /// Enhanced codes (RFC 3463), of which one must be the reply's: `5.7.1`, `x.7.*`, or `none` for a reply without
    /// one. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 9), regex(pattern = r"^([45x]\.([0-9]{1,3}|\*)\.([0-9]{1,3}|\*)|none)$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub enhanced_codes: Option<Vec<String>>,

    /// Regular expressions, of which one must be found in the reply's text: `sending limit of [0-9]+`. In the syntax of
    /// the Rust crate regex, which takes linear time: no look-around, no back-references. The text is in lower case,
    /// all its lines joined by one blank, without codes, accents and what the server quotes of another one. Mail
    /// addresses are read as `addr`, hosts as `host`, IP addresses as `ip`, URLs as `weblink`. Default: any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(max = 200)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub words: Option<Vec<String>>,
}

/// Subject of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum ReplySubject {
    /// Our account: paused, suspended, not yet activated.
    Account,
    /// Our login.
    Login,
    /// Our allowance.
    Quota,
    /// Our sender identity.
    Identity,
    /// Our address or host.
    Address,
    /// Our rate.
    Rate,
    /// The service itself.
    Service,
    /// Encryption.
    Tls,
    /// One recipient or its mailbox.
    Recipient,
    /// One message.
    Message,
    /// The policy of the recipient or its domain.
    Destination,
    /// Our own side.
    OurSide,
}

impl ReplySubject {
    /// Name in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Login => "Login",
            Self::Quota => "Quota",
            Self::Identity => "Identity",
            Self::Address => "Address",
            Self::Rate => "Rate",
            Self::Service => "Service",
            Self::Tls => "Tls",
            Self::Recipient => "Recipient",
            Self::Message => "Message",
            Self::Destination => "Destination",
            Self::OurSide => "OurSide",
        }
    }
}

/// Command that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum ReplyStageSpec {
    /// The connection: the greeting.
    #[serde(rename = "CONN")]
    Connection,
    /// EHLO or HELO.
    #[serde(rename = "HELO")]
    Hello,
    /// STARTTLS.
    #[serde(rename = "STARTTLS")]
    StartTls,
    /// AUTH and its exchange.
    #[serde(rename = "AUTH")]
    Auth,
    /// MAIL FROM.
    #[serde(rename = "MAIL")]
    Mail,
    /// RCPT TO.
    #[serde(rename = "RCPT")]
    Recipient,
    /// DATA and the end of the message.
    #[serde(rename = "DATA")]
    Data,
}

impl ReplyStageSpec {
    /// Name in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "CONN",
            Self::Hello => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
        }
    }
}

/// State of a backend as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendingBackendStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `SMTP`: a host or address. `Service`: an MTA in this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<BackendType>,

    /// Address of the backend: the host or the Service, with the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub host: Option<String>,

    /// Verdict: Healthy, Degraded (mail leaves slowly), Unhealthy, or Unknown while there is not enough evidence.
    /// Judged with the thresholds of the routes that use this backend (the documented defaults if none does); where
    /// their verdicts differ, the worst is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,

    /// Start of the present `health`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,

    /// Reason, as one word of a closed set: Ok, ConnectionRefused, NoAnswer, CertificateInvalid, …; ServiceNotFound,
    /// CANotFound and the like while the spec cannot be put into force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,

    /// Evidence that turned `health`, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// First expiry among the certificates that the backend presents, its own and those of issuers, as far as they are
    /// needed; of several addresses and probes, the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub certificate_not_after: Option<MicroTime>,

    /// Name of the certificate that expires then, if it is an issuer's (an intermediate one) and not the backend's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub certificate_issuer: Option<String>,

    /// Verdict of each probe. `deliveries` is the verdict of the routes' agents about real mail, present once that has
    /// failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub probes: Vec<ProbeStatus>,

    /// Events that are decided but not published yet; empty when nothing is outstanding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending_events: Vec<PendingEvent>,

    /// `Ready`: accepted, references resolved, being observed; a dead backend is Ready, so that an outage fails no deployment.
    /// `Healthy`: mail can leave this way. `Stalled`: present and True only while the spec cannot be used as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Kind of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum BackendType {
    /// A host or address.
    #[serde(rename = "SMTP")]
    Smtp,
    /// An MTA in this cluster.
    Service,
}

/// The verdict about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum Health {
    /// Mail can leave this way.
    Healthy,
    /// Mail can leave this way, slower than the policy allows.
    Degraded,
    /// Mail cannot leave this way.
    Unhealthy,
    /// There is not enough evidence.
    Unknown,
}

/// The verdict of one probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeStatus {
    /// Name of the probe in `spec.probes[].name`.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Verdict of the probe.
    pub health: Health,
    /// Start of the verdict.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
    /// Reason, of the same closed set as `status.reason`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Evidence that turned the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
