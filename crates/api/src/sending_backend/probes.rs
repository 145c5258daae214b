use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::MAILBOX;

/// Observation of one aspect of the backend.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.interval) || (duration(self.interval) >= duration('100ms') && duration(self.interval) <= duration('24h'))").message("spec.probes[].interval must be between 100ms and 24h"),
    validation = Rule::new("!has(self.timeout) || (duration(self.timeout) >= duration('50ms') && duration(self.timeout) <= duration('5m'))").message("spec.probes[].timeout must be between 50ms and 5m"),
    validation = Rule::new("!has(self.timeout) || has(self.job) || duration(self.timeout) <= duration('60s')").message("spec.probes[].timeout must be at most 60s without job: a dialogue that hangs holds a place among those of all namespaces"),
    validation = Rule::new("!has(self.job) || !has(self.interval) || duration(self.interval) >= duration('30s')").message("spec.probes[].interval must be at least 30s with job: each round starts a pod"),
    validation = Rule::new("!has(self.job) || !has(self.smtp.idleSession) || !self.smtp.idleSession").message("spec.probes[].smtp.idleSession has no effect with job: the pod ends with its round"),
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
    #[schemars(schema_with = "crate::duration_schema")]
    pub interval: Option<Duration>,

    /// Limit for each wait for the server: its greeting, a TLS handshake, each reply (RFC 5321 section 4.5.3.2); the
    /// stage that ran out of it is named. The TCP connection has 5s at most. The whole dialogue with one address has six
    /// times the limit and 55s at most, but never less than the limit. Ordinary servers delay their greeting by 6s, and
    /// refusals by 5s. If a dialogue outlasts the interval, rounds overlap. Default: 10s, or ten times the interval if
    /// that is less. From 50ms to 60s, with `job` to 5m, and at most ten times the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::duration_schema")]
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
    validation = Rule::new("(!has(self.from) || self.from.indexOf('@') <= 64) && (!has(self.to) || self.to.indexOf('@') <= 64)").message("spec.probes[].smtp.from and to must have at most 64 characters before the @ (RFC 5321)"),
    validation = Rule::new("!has(self.idleSession) || !self.idleSession || !has(self.depth) || !(self.depth in ['Connect', 'Banner'])").message("spec.probes[].smtp.idleSession needs a depth of Ehlo or deeper: the session is idle after EHLO")
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

    /// True if the operator keeps one idle session with each address that answers, in each replica: greeting and EHLO, and
    /// then silence. Its end (the connection closed or reset, or a 421 reply) starts a look within milliseconds, so that a
    /// relay that is killed is found before the next round. It is no failure by itself. The session is renewed within
    /// 4 minutes, before servers usually close one (RFC 5321 section 4.5.3.2.7), and takes one place at the server. For relays
    /// of one's own: providers count connections. Default: true for `service` at depth `Ehlo` or deeper without `job`, else
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_session: Option<bool>,
}

/// Last step of a probe's dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::without_description)]
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
