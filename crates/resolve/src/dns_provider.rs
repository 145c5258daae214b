//! Who publishes the records of an output `dns`.

use super::dns::invalid;
use super::webhook::{ca, ca_place};
use super::{CaKey, Rejection};
use mail_failover_api as api;
use mail_failover_core::model::{
    DnsApi, DnsEndpointObject, DnsOutput, DnsProvider, DnsServer, DnsService, DnsUpdates, ObjectKey,
};

/// Id of the server within the API of a `PowerDNS`.
const DEFAULT_SERVER: &str = "localhost";
/// Prefix of keys that the operator keeps for itself.
const OWN_KEYS: &str = "mailfailover.io/";
/// Key of a label that says who manages an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The provider of the output of this name, and the servers that have to answer with the records.
pub(super) fn provider(spec: &api::DnsOutputSpec, name: &str) -> Result<(DnsProvider, Vec<DnsServer>), Rejection> {
    match (&spec.rfc2136, &spec.dns_endpoint, &spec.api) {
        (Some(updates), None, None) => rfc2136(updates, name),
        (None, Some(endpoint), None) => external_dns(endpoint, name),
        (None, None, Some(api)) => self::api(api, name),
        _ => Err(invalid(name, "rfc2136", "exactly one of rfc2136, dnsEndpoint and api must be set")),
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

fn api(spec: &api::DnsApiSpec, name: &str) -> Result<(DnsProvider, Vec<DnsServer>), Rejection> {
    let api::DnsApiSpec { power_dns, route53, cloudflare, digital_ocean, de_sec, secret_ref, ca_ref, authorities } =
        spec;
    let service = match (power_dns, route53, cloudflare, digital_ocean, de_sec) {
        (Some(api::PowerDnsSpec { url, server }), None, None, None, None) => DnsService::PowerDns {
            url: url.as_str().into(),
            server: server.as_deref().unwrap_or(DEFAULT_SERVER).into(),
        },
        (None, Some(api::Route53Spec { zone_id, url }), None, None, None) => {
            DnsService::Route53 { zone_id: zone_id.as_str().into(), url: url.as_deref().map(Into::into) }
        }
        (None, None, Some(api::CloudflareSpec { zone_id }), None, None) => {
            DnsService::Cloudflare { zone_id: zone_id.as_str().into() }
        }
        (None, None, None, Some(api::DigitalOceanSpec {}), None) => DnsService::DigitalOcean,
        (None, None, None, None, Some(api::DeSecSpec {})) => DnsService::DeSec,
        _ => {
            let message = "exactly one of powerDns, route53, cloudflare, digitalOcean and deSec must be set";
            return Err(invalid(name, "api", message));
        }
    };
    let has_scheme = service.url().starts_with("https://")
        || matches!(&service, DnsService::PowerDns { url, .. } if url.starts_with("http://"));
    if !has_scheme {
        return Err(invalid(
            name,
            "api",
            "the url must begin with https://, that of a PowerDNS with http:// or https://",
        ));
    }
    let api = DnsApi { service, secret: secret_ref.name.as_str().into(), ca: ca_ref.as_ref().and_then(ca) };
    Ok((DnsProvider::Api(api), parsed_servers(authorities, name, "api.authorities")?))
}

/// Place of the certificates that the API of an output's provider is trusted by, if it names any.
pub fn dns_ca_key(route: &ObjectKey, output: &DnsOutput) -> Option<CaKey> {
    if let DnsProvider::Api(api) = &output.provider {
        api.ca.as_ref().map(|source| ca_place(route, source))
    } else {
        None
    }
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
