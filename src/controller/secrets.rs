//! Secrets that specs name for outputs and receivers: of which type each has to be, and its content.
//!
//! Architecture invariant: what a Secret holds goes from here to the one request that it is for and nowhere else; nothing
//! that can be printed holds it.

use std::collections::BTreeMap;
use std::error::Error;

use mail_failover_core::model::{ObjectKey, SharedError};
use mail_failover_dns::api::DnsApiSecret;
use mail_failover_dns::tsig::TsigKey;
use mail_failover_notifications::secret::NotificationSecret;
use mail_failover_webhook::secret::WebhookSecret;

/// Purpose of a Secret, which its type has to fit.
// ADR-0136: A webhook's Secret has a type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretPurpose {
    /// It signs calls of webhooks.
    Webhook,
    /// It lets a receiver of notifications be told.
    Notification,
    /// It signs DNS updates.
    Tsig,
    /// It lets the API of a DNS provider be used.
    DnsApi,
}

/// A Secret that a spec names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretKey {
    /// Purpose that its type has to fit.
    pub purpose: SecretPurpose,
    /// Namespace and name of the Secret.
    pub object: ObjectKey,
}

/// Content of a Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretContent {
    /// Keys that sign webhooks.
    Webhook(WebhookSecret),
    /// Credentials of a receiver.
    Notification(NotificationSecret),
    /// A key that signs DNS updates.
    Tsig(TsigKey),
    /// Credentials of a DNS provider.
    DnsApi(Box<DnsApiSecret>),
}

/// Content of Secrets of one type.
pub(super) trait TypedSecret: Clone {
    /// Purpose of Secrets of this type.
    const PURPOSE: SecretPurpose;

    /// Takes the content of another purpose for none.
    fn of(content: &SecretContent) -> Option<&Self>;
}

impl SecretKey {
    /// A Secret whose content is of this type.
    pub(super) fn of<S: TypedSecret>(object: ObjectKey) -> Self {
        Self { purpose: S::PURPOSE, object }
    }
}

impl SecretPurpose {
    /// Takes the data of a Secret apart.
    ///
    /// # Errors
    /// The type or a key is wrong. The error quotes no value.
    pub(super) fn parse(
        self,
        type_: Option<&str>,
        data: BTreeMap<String, Vec<u8>>,
    ) -> Result<SecretContent, SharedError> {
        match self {
            Self::Webhook => WebhookSecret::parse(type_, data).map(SecretContent::Webhook).map_err(shared),
            Self::Notification => {
                NotificationSecret::parse(type_, data).map(SecretContent::Notification).map_err(shared)
            }
            Self::Tsig => TsigKey::parse(type_, &data).map(SecretContent::Tsig).map_err(shared),
            Self::DnsApi => {
                DnsApiSecret::parse(type_, &data).map(|secret| SecretContent::DnsApi(secret.into())).map_err(shared)
            }
        }
    }
}

fn shared(defect: impl Error + Send + Sync + 'static) -> SharedError {
    SharedError::new(defect)
}

impl TypedSecret for WebhookSecret {
    const PURPOSE: SecretPurpose = SecretPurpose::Webhook;

    fn of(content: &SecretContent) -> Option<&Self> {
        if let SecretContent::Webhook(secret) = content { Some(secret) } else { None }
    }
}

impl TypedSecret for NotificationSecret {
    const PURPOSE: SecretPurpose = SecretPurpose::Notification;

    fn of(content: &SecretContent) -> Option<&Self> {
        if let SecretContent::Notification(secret) = content { Some(secret) } else { None }
    }
}

impl TypedSecret for TsigKey {
    const PURPOSE: SecretPurpose = SecretPurpose::Tsig;

    fn of(content: &SecretContent) -> Option<&Self> {
        if let SecretContent::Tsig(key) = content { Some(key) } else { None }
    }
}

impl TypedSecret for DnsApiSecret {
    const PURPOSE: SecretPurpose = SecretPurpose::DnsApi;

    fn of(content: &SecretContent) -> Option<&Self> {
        if let SecretContent::DnsApi(secret) = content { Some(secret) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_of_the_type_that_its_purpose_has_and_no_other() {
        let data: BTreeMap<_, _> = [("token".to_owned(), b"hunter2".to_vec())].into();
        let content = SecretPurpose::DnsApi.parse(Some("mailfailover.io/dns-api"), data.clone()).unwrap();
        assert!(DnsApiSecret::of(&content).is_some() && TsigKey::of(&content).is_none());
        assert!(!format!("{content:?}").contains("hunter2"));
        for purpose in [SecretPurpose::Webhook, SecretPurpose::Notification, SecretPurpose::Tsig] {
            let error = purpose.parse(Some("mailfailover.io/dns-api"), data.clone()).unwrap_err();
            assert!(error.to_string().contains("its type is not mailfailover.io/"), "{error}");
        }
    }
}
