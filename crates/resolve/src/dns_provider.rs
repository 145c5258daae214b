//! Who publishes the records of an output `dns`.

use super::Rejection;
use super::dns::invalid;
use mail_failover_api as api;
use mail_failover_core::model::{DnsEndpointObject, DnsProvider, DnsServer, DnsUpdates};

/// Prefix of keys that the operator keeps for itself.
const OWN_KEYS: &str = "mailfailover.io/";
/// Key of a label that says who manages an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The provider of the output of this name, and the servers that have to answer with the records.
pub(super) fn provider(spec: &api::DnsOutputSpec, name: &str) -> Result<(DnsProvider, Vec<DnsServer>), Rejection> {
    match (&spec.rfc2136, &spec.dns_endpoint) {
        (Some(updates), None) => rfc2136(updates, name),
        (None, Some(endpoint)) => external_dns(endpoint, name),
        (None, None) | (Some(_), Some(_)) => {
            Err(invalid(name, "rfc2136", "exactly one of rfc2136 and dnsEndpoint must be set"))
        }
    }
}

fn rfc2136(spec: &api::Rfc2136Spec, name: &str) -> Result<(DnsProvider, Vec<DnsServer>), Rejection> {
    let api::Rfc2136Spec { servers, tsig_secret_ref, authorities } = spec;
    if servers.is_empty() {
        return Err(invalid(name, "rfc2136.servers", "at least one is needed"));
    }
    let servers = parsed_servers(servers, name, "rfc2136.servers")?;
    let updates = DnsUpdates { servers, secret: tsig_secret_ref.name.as_str().into() };
    Ok((DnsProvider::Rfc2136(updates), parsed_servers(authorities, name, "rfc2136.authorities")?))
}

fn external_dns(spec: &api::DnsEndpointSpec, name: &str) -> Result<(DnsProvider, Vec<DnsServer>), Rejection> {
    let api::DnsEndpointSpec { name: object, labels, annotations, on_delete, authorities } = spec;
    for (which, keys) in [("labels", labels), ("annotations", annotations)] {
        if let Some(key) = keys.keys().find(|key| key.starts_with(OWN_KEYS) || *key == MANAGED_BY) {
            let message = format!("{key} is the operator's own");
            return Err(invalid(name, &format!("dnsEndpoint.{which}"), &message));
        }
    }
    let object = DnsEndpointObject {
        name: object.as_str().into(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        goes_with_route: *on_delete == Some(api::DnsOnDeleteSpec::Remove),
    };
    Ok((DnsProvider::ExternalDns(object), parsed_servers(authorities, name, "dnsEndpoint.authorities")?))
}

fn parsed_servers(servers: &[String], output: &str, which: &str) -> Result<Vec<DnsServer>, Rejection> {
    let mut parsed = vec![];
    for server in servers {
        let server = server.parse().map_err(|error| invalid(output, which, &format!("{server}: {error}")))?;
        if !parsed.contains(&server) {
            parsed.push(server);
        }
    }
    Ok(parsed)
}
