//! Notifications of people: receivers in a `FailoverPolicy`, what waits for them in `status`, and what a route has told.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CaReference, MAILBOX};

/// People and systems that are told what happens to the routes of a policy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.receivers.all(r, self.receivers.exists_one(s, s.name == r.name))").message("spec.notifications.receivers[].name must be unique"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationsSpec {
    /// Receivers; 1 to 16. What happens to several routes within seconds, for the same reason, is one message.
    #[schemars(length(min = 1, max = 16))]
    pub receivers: Vec<ReceiverSpec>,

    /// Address of your own page on what to do: `https://wiki.example/mail`. Messages link to it, with the occasion in
    /// lower case as the fragment: `#failover`. Default: no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 1024), regex(pattern = r#"^https://[!"$-~]+$"#))]
    pub runbook_url: Option<String>,
}

/// A receiver of notifications.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!(self.type in ['Webhook', 'Alertmanager']) || has(self.url)").message("spec.notifications.receivers[].url must be set for Webhook and Alertmanager"),
    validation = Rule::new("!(self.type in ['Slack', 'Teams', 'Discord', 'GoogleChat', 'Mail']) || !has(self.url)").message("spec.notifications.receivers[].url has no effect for this type: Slack, Teams, Discord and GoogleChat have it in their Secret, under the key url"),
    validation = Rule::new("!has(self.url) || self.type == 'Alertmanager' || self.url.startsWith('https://')").message("spec.notifications.receivers[].url must begin with https://; only Alertmanager may be http://"),
    validation = Rule::new("!has(self.url) || !self.url.startsWith('http://') || (!has(self.secretRef) && !has(self.caRef))").message("spec.notifications.receivers[].secretRef and caRef have no effect with http://, which sends no secret: use https://"),
    validation = Rule::new("self.type in ['Alertmanager', 'Mail'] || has(self.secretRef)").message("spec.notifications.receivers[].secretRef must be set for this type"),
    validation = Rule::new("self.type != 'Mail' || (!has(self.secretRef) && !has(self.caRef))").message("spec.notifications.receivers[].secretRef and caRef have no effect for Mail: the SendingBackend has them"),
    validation = Rule::new("(self.type == 'Mail') == has(self.mail)").message("spec.notifications.receivers[].mail must be set for Mail, and for no other type"),
    validation = Rule::new("(self.type == 'Telegram') == has(self.chat)").message("spec.notifications.receivers[].chat must be set for Telegram, and for no other type")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiverSpec {
    /// Name, unique within the policy, by which `status.notifications` knows the receiver.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Kind of the receiver, which says how a message is written. `Webhook`: a CloudEvent 1.0, signed as Standard
    /// Webhooks has it. `Slack`: an incoming webhook of Slack, or of what is compatible with it. `Teams`: a workflow of
    /// Microsoft Teams that takes an adaptive card. `PagerDuty`: Events API v2. `Opsgenie`: its Alert API, or one that
    /// is compatible with it. `Alertmanager`: its API v2; it is told again while something lasts. `Discord` and
    /// `GoogleChat`: a webhook of a channel. `Telegram`: a bot. `Mail`: mail through a SendingBackend that can deliver.
    pub r#type: ReceiverTypeSpec,

    /// Place of the receiver. `Webhook`: the whole URL. `Alertmanager`: its address without `/api/v2/alerts`, with
    /// `http://` or `https://`. `PagerDuty`, `Opsgenie` and `Telegram`: another one than that of the provider, without
    /// a path. It stands in the open. Its addresses and ports meet the same rules as those of webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 8, max = 2048),
        regex(
            pattern = r#"^https?://([A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!"$-~]*)?$"#
        )
    )]
    pub url: Option<String>,

    /// The Secret with what the receiver asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NotificationSecretReference>,

    /// Authorities that may have signed the receiver's certificate. Default: the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaReference>,

    /// Chat of a Telegram bot: its number, or `@` and the name of a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^(-?[0-9]{1,20}|@[A-Za-z0-9_]{5,32})$"))]
    pub chat: Option<String>,

    /// Sender, recipients and ways of a mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailReceiverSpec>,

    /// Occasions on which the receiver is told; 1 to 16. One that knows the end of something (`PagerDuty`, `Opsgenie`,
    /// `Alertmanager`) is told the end of each in any case. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub occasions: Option<Vec<OccasionSpec>>,

    /// Least severity of which the receiver is told. `Critical`: NoneHealthy and NotDelivering. `Warning`: Failover,
    /// StandbyLost, ApprovalWanted, ObjectiveMissed, OperatorTrouble and DrillFailed. `Info`: Failback, Recovery and
    /// DrillPassed. Default: Info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<SeveritySpec>,
}

/// Kind of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum ReceiverTypeSpec {
    /// A CloudEvent 1.0, signed as Standard Webhooks has it.
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams.
    Teams,
    /// Events API v2 of PagerDuty.
    PagerDuty,
    /// Alert API of Opsgenie.
    Opsgenie,
    /// API v2 of Alertmanager.
    Alertmanager,
    /// A webhook of Discord.
    Discord,
    /// A webhook of Google Chat.
    GoogleChat,
    /// A bot of Telegram.
    Telegram,
    /// Mail through a SendingBackend.
    Mail,
}

/// Occasion of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum OccasionSpec {
    /// Mail has left a backend.
    Failover,
    /// Mail has returned to a more preferred backend.
    Failback,
    /// What was told before is over.
    Recovery,
    /// No backend can deliver.
    NoneHealthy,
    /// Mail stays with a backend that cannot deliver, or that has refused messages for long.
    NotDelivering,
    /// No other backend could take over.
    StandbyLost,
    /// A person has to approve the return.
    ApprovalWanted,
    /// An objective of the policy is missed.
    ObjectiveMissed,
    /// The operator cannot do its work: an object is missing or refused, or an output cannot be written.
    OperatorTrouble,
    /// A drill has passed.
    DrillPassed,
    /// A drill has failed, or was aborted.
    DrillFailed,
}

/// Severity of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum SeveritySpec {
    /// Nothing has to be done.
    Info,
    /// Somebody has to look at it.
    Warning,
    /// Mail is not delivered.
    Critical,
}

/// A Secret of the same namespace, of type `mailfailover.io/notification`. Its keys: `signing-secret` for Webhook
/// (`whsec_` and 24 to 64 random bytes in base64; during a rotation `previous-signing-secret`, too), `url` for Slack,
/// Teams, Discord and GoogleChat, `routing-key` for PagerDuty, `api-key` for Opsgenie, `bot-token` for Telegram, and
/// `token` for an Alertmanager that asks for a bearer token. The operator reads it by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationSecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// Sender, recipients and ways of a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailReceiverSpec {
    /// Address of the sender, which the backends must be allowed to send for.
    #[schemars(length(min = 3, max = 254), regex(pattern = MAILBOX))]
    pub from: String,

    /// Addresses of the recipients; 1 to 8.
    #[schemars(length(min = 1, max = 8), inner(length(min = 3, max = 254), regex(pattern = MAILBOX)))]
    pub to: Vec<String>,

    /// SendingBackends of the policy's namespace, most preferred first; 1 to 8. A message leaves by the first one that is Healthy
    /// and not suspended; without one it waits. A login that one asks for is read from its `auth.secretRef`.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 253)))]
    pub backends: Vec<String>,
}

/// Notifications of a policy: what each receiver was told, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationsStatus {
    /// Receivers in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub receivers: Vec<ReceiverStatus>,

    /// Messages that some receiver has not taken yet, the oldest first; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub queue: Vec<QueuedNotification>,

    /// Number of messages that were given up before each receiver had taken them: the queue was full, they were a day
    /// old, or a receiver refused them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub dropped: Option<i64>,

    /// The answer to the latest request for a test message, in the annotation `mailfailover.io/test-notification`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestNotificationStatus>,
}

/// State of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverStatus {
    /// Name of the receiver.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Id of the message that it has taken last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub delivered: Option<String>,
    /// Time at which it has taken that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub delivered_at: Option<MicroTime>,
    /// Start of the calls that fail, and reason of the latest failure; absent while none fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<super::OutputFailure>,
}

/// A message that some receiver has not taken yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuedNotification {
    /// Id of the message, the same in each attempt.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Id of what it begins or ends, the same from beginning to end; absent if it does neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub incident: Option<String>,
    /// Occasion: Failover, Failback, Recovery, NoneHealthy, NotDelivering, StandbyLost, ApprovalWanted, ObjectiveMissed,
    /// OperatorTrouble, DrillPassed, DrillFailed, or Test.
    #[schemars(length(max = 32))]
    pub occasion: String,
    /// Occasion of the message that began what it begins or ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub about: Option<String>,
    /// Backend that what it begins or ends is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backend: Option<String>,
    /// Present and true if it ends something.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolved: bool,
    /// Time of the first decision that it tells.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub at: MicroTime,
    /// Start of the first evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,
    /// The backend that was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub from: Option<String>,
    /// The backends that mail goes to since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 253)))]
    pub to: Vec<String>,
    /// Reason for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub why: String,
    /// Longest time that mail of a route has waited, in seconds, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub waited_seconds: Option<i64>,
    /// Routes that it is about, as `namespace/name`, sorted; the first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 512)))]
    pub routes: Vec<String>,
    /// Number of all routes that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub route_count: Option<i32>,
    /// Ids in `status.pendingNotifications` of the routes that it tells, until the routes have dropped them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250), inner(length(max = 16)))]
    pub members: Vec<String>,
    /// Names of the receivers that have not taken it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub waiting: Vec<String>,
}

/// The answer to a request for a test message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestNotificationStatus {
    /// The id in the annotation. A request of the same id is not carried out again.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Time of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub at: Option<MicroTime>,
    /// Result of each receiver that has one by now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub results: Vec<TestResultStatus>,
}

/// Result of a test message at one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestResultStatus {
    /// Name of the receiver.
    #[schemars(length(max = 63))]
    pub receiver: String,
    /// True if it has taken the message.
    pub accepted: bool,
    /// Reason for which it has not, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A notification of a route that is decided, and that no message of a policy tells yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingNotification {
    /// Id, unique among all routes.
    #[schemars(length(min = 1, max = 16))]
    pub id: String,
    /// Occasion, as the spec of a FailoverPolicy names it.
    #[schemars(length(max = 32))]
    pub occasion: String,
    /// Occasion of the notification that began what it begins or ends; absent if it does neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub about: Option<String>,
    /// Backend that what it begins or ends is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backend: Option<String>,
    /// Present and true if it ends something.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolved: bool,
    /// Time from which on it is told.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub at: MicroTime,
    /// Start of the first evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,
    /// The backend that was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub from: Option<String>,
    /// The backend that mail goes to since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub to: Option<String>,
    /// Reason for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub why: String,
}

/// Something about a route that was told, and that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OngoingNotification {
    /// Occasion, as the spec of a FailoverPolicy names it.
    #[schemars(length(max = 32))]
    pub occasion: String,
    /// Backend that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backend: Option<String>,
    /// Time since which it lasts.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
}
