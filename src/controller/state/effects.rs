//! Effects of the controller state on the rest of the process.

use std::sync::Arc;

use crate::controller::action::ActionRequest;
use crate::controller::backend::ProbeChange;
use crate::controller::secrets::SecretKey;
use crate::dns::DnsCall;
use crate::notification::NotificationCall;
use crate::observers;
use crate::reports;
use crate::webhook::WebhookCall;
use mail_failover_core::model::ResourceVersion;
use mail_failover_resolve::{CaKey, LoginKey};

/// Effects on the rest of the process.
#[derive(Debug, Default)]
pub struct Effects {
    /// Actions to carry out; each is answered with `Input::Result`.
    pub actions: Vec<ActionRequest>,
    /// Probes to make or to end.
    pub probes: Vec<ProbeChange>,
    /// Certificates to read or not to read any more.
    pub cas: Vec<ReadChange<CaKey>>,
    /// Logins to read or not to read any more.
    pub logins: Vec<ReadChange<LoginKey>>,
    /// Secrets of outputs and receivers to read or not to read any more.
    pub secrets: Vec<ReadChange<SecretKey>>,
    /// Receivers to tell; each call is answered with `Input::Notification`.
    pub notification_calls: Vec<NotificationCall>,
    /// Webhooks to call; each call is answered with `Input::Webhook`.
    pub webhook_calls: Vec<WebhookCall>,
    /// Attempts to lead zones; each is answered with `Input::Dns`.
    pub dns_calls: Vec<DnsCall>,
    /// Changes of this replica's verdicts, for its peers.
    pub report_changes: Vec<observers::BackendChange>,
    /// Namespaces in which this replica has not observed every backend once since its start; `None` before it knows
    /// all backends.
    // Its peers do not count on its verdicts there.
    pub awaited: Option<observers::Namespaces>,
    /// Highest `resourceVersion` of the backends that this replica knows.
    // Its silence about a later one says nothing to its peers.
    pub known_up_to: Option<ResourceVersion>,
    /// Name in the election of a replica that is fitter to lead, while there is one.
    pub successor: Option<Arc<str>>,
    /// Changes of the service accounts that may report on a route.
    pub admissions: Vec<reports::AgentsChange>,
}

/// A change of the objects that are read by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadChange<K> {
    /// Reads an object, and keeps it fresh.
    Use(K),
    /// Ends reading an object.
    Drop(K),
}
