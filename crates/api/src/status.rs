use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An Event that is decided and written down, but not published yet.
///
/// It stands in `status` so that a crash between the write it reports and its publication neither loses nor doubles
/// it: its name is fixed here, and publishing it a second time finds it there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingEvent {
    /// Name of the Event.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Type of the Event: Normal or Warning.
    #[schemars(length(max = 16))]
    pub r#type: String,
    /// Reason as one CamelCase word.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Action of the operator as one CamelCase word.
    #[schemars(length(max = 128))]
    pub action: String,
    /// Description of the event, for people.
    #[schemars(length(max = 1024))]
    pub note: String,
    /// The SendingBackend concerned, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backend: Option<String>,
    /// Time of the decision.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub at: MicroTime,
}
