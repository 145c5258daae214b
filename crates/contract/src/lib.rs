//! The contract between the operator and the agents beside mail servers. Pure.
//!
//! | module | is |
//! |---|---|
//! | `document` | the JSON document that the operator writes into one `ConfigMap` and agents read, with its schema |
//! | `routing` | a document, checked; the rule which document may replace which |
//! | `report` | the JSON that an agent POSTs to the operator's replicas |
//! | `certificate` | name and fingerprint of the certificate that a replica shows there |

#![warn(missing_docs)]

mod certificate;
#[allow(clippy::doc_markdown, reason = "its comments are the descriptions of a JSON schema")]
pub mod document;
pub mod report;
pub mod routing;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use certificate::{SERVER_NAME, fingerprint};
