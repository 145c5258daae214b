//! Publishers of the records of an output `dns`.

use super::dns::invalid;
use super::webhook::{ca, ca_place};
use super::{CaKey, Rejection};
use mail_failover_api as api;
use mail_failover_core::model::{
    AzureCloud, DnsApi, DnsEndpointObject, DnsOutput, DnsProvider, DnsServer, DnsService, DnsUpdates, ObjectKey,
    OvhEndpoint,
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
    let services = services(spec);
    let [service] = &services[..] else {
        let message = "exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh must be set";
        return Err(invalid(name, "api", message));
    };
    let has_scheme = service.url().starts_with("https://")
        || matches!(service, DnsService::PowerDns { url, .. } if url.starts_with("http://"));
    if !has_scheme {
        return Err(invalid(
            name,
            "api",
            "the url must begin with https://, that of a PowerDNS with http:// or https://",
        ));
    }
    let api::DnsApiSpec { secret_ref, ca_ref, authorities, .. } = spec;
    let api =
        DnsApi { service: service.clone(), secret: secret_ref.name.as_str().into(), ca: ca_ref.as_ref().and_then(ca) };
    Ok((DnsProvider::Api(api), parsed_servers(authorities, name, "api.authorities")?))
}

/// The providers that are set.
fn services(spec: &api::DnsApiSpec) -> Vec<DnsService> {
    let api::DnsApiSpec {
        power_dns,
        route53,
        cloudflare,
        digital_ocean,
        de_sec,
        hetzner,
        google,
        azure,
        ovh,
        secret_ref: _,
        ca_ref: _,
        authorities: _,
    } = spec;
    let mut services = vec![];
    services.extend(power_dns.as_ref().map(|api::PowerDnsSpec { url, server }| DnsService::PowerDns {
        url: url.as_str().into(),
        server: server.as_deref().unwrap_or(DEFAULT_SERVER).into(),
    }));
    services.extend(route53.as_ref().map(|api::Route53Spec { zone_id, url }| DnsService::Route53 {
        zone_id: zone_id.as_str().into(),
        url: url.as_deref().map(Into::into),
    }));
    services.extend(
        cloudflare
            .as_ref()
            .map(|api::CloudflareSpec { zone_id }| DnsService::Cloudflare { zone_id: zone_id.as_str().into() }),
    );
    services.extend(digital_ocean.as_ref().map(|api::DigitalOceanSpec {}| DnsService::DigitalOcean));
    services.extend(de_sec.as_ref().map(|api::DeSecSpec {}| DnsService::DeSec));
    services.extend(hetzner.as_ref().map(|api::HetznerSpec {}| DnsService::Hetzner));
    services.extend(google.as_ref().map(|api::GoogleDnsSpec { project, managed_zone, url }| DnsService::Google {
        project: project.as_str().into(),
        zone: managed_zone.as_str().into(),
        url: url.as_deref().map(Into::into),
    }));
    services.extend(azure.as_ref().map(|api::AzureDnsSpec { tenant_id, subscription_id, resource_group, cloud }| {
        DnsService::Azure {
            cloud: azure_cloud(*cloud),
            tenant: tenant_id.as_str().into(),
            subscription: subscription_id.as_str().into(),
            resource_group: resource_group.as_str().into(),
        }
    }));
    services.extend(ovh.as_ref().map(|api::OvhSpec { endpoint }| DnsService::Ovh(ovh_endpoint(*endpoint))));
    services
}

fn azure_cloud(cloud: Option<api::AzureCloudSpec>) -> AzureCloud {
    match cloud {
        None | Some(api::AzureCloudSpec::Public) => AzureCloud::Public,
        Some(api::AzureCloudSpec::UsGovernment) => AzureCloud::UsGovernment,
        Some(api::AzureCloudSpec::China) => AzureCloud::China,
    }
}

fn ovh_endpoint(endpoint: Option<api::OvhEndpointSpec>) -> OvhEndpoint {
    match endpoint {
        None | Some(api::OvhEndpointSpec::Eu) => OvhEndpoint::Eu,
        Some(api::OvhEndpointSpec::Ca) => OvhEndpoint::Ca,
        Some(api::OvhEndpointSpec::Us) => OvhEndpoint::Us,
    }
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
