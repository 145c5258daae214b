//! Ways by which the records of the output `dns` are published, other than dynamic updates.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dns_output::SERVER;

/// A `DNSEndpoint` (`externaldns.k8s.io/v1alpha1`) that the operator writes, and external-dns publishes: its source `crd`,
/// with MX among its `--managed-record-types`. The chart grants the right with `dns.endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsEndpointSpec {
    /// Name of the object. It must not exist yet, or be this route's.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Labels of the object, for external-dns' `--label-filter`; at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the object, for external-dns' `--annotation-filter`; at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub annotations: BTreeMap<String, String>,

    /// `Keep`: the object, and with it the records, stays when the route or the output is deleted. `Remove`: the object
    /// goes with the route, and external-dns removes the records unless its policy is `upsert-only`. Default: Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<DnsOnDeleteSpec>,

    /// Servers that have to answer with the records before they count as changed: a name or an address, and a port unless it
    /// is 53; at most 16. Default: none; the records count once external-dns has taken the object over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 260), regex(pattern = SERVER))
    )]
    pub authorities: Vec<String>,
}

/// Fate of records when their route is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum DnsOnDeleteSpec {
    /// They stay.
    Keep,
    /// They go.
    Remove,
}
