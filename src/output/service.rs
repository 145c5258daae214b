//! A selector-less Service and the `EndpointSlices` that lead it to the active backend.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Owner, SERVICE_NAME_LABEL, SLICE_MANAGED_BY_LABEL, Target, metadata};
use mail_failover_core::model::ServiceOutput;

/// Controller of our slices, as other controllers read it.
const SLICE_MANAGED_BY: &str = "mailfailover.io";
/// Most endpoints of a slice.
// The API server takes at most 1000; kube-proxy is spared beyond 100.
const MAX_ENDPOINTS: usize = 100;

pub(super) fn service(owner: &Owner, output: &ServiceOutput) -> Service {
    let ports = output.ports.iter().map(|port| ServicePort {
        name: Some(port.name.to_string()),
        port: i32::from(port.port),
        // Without a selector the slices' own ports count; the API server fills this in, so we say it to see no drift.
        target_port: Some(IntOrString::Int(i32::from(port.port))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    });
    Service {
        metadata: metadata(owner, output.name.to_string(), &[], None),
        spec: Some(ServiceSpec {
            ports: Some(ports.collect()),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Renders one slice per address family that has addresses; `index` tells the targets of one Service apart.
pub(super) fn endpoint_slices(
    owner: &Owner,
    output: &ServiceOutput,
    target: &Target<'_>,
    index: usize,
    addresses: &[(SocketAddr, bool)],
) -> Vec<EndpointSlice> {
    // When no address works, each is as good as any other: an empty Service would only hide the reason.
    let any_works = addresses.iter().any(|(_, works)| *works);
    let (mut v4, mut v6) = (vec![], vec![]);
    for (address, works) in addresses.iter().filter(|(address, _)| is_routable(address.ip())) {
        let family = if address.is_ipv4() { &mut v4 } else { &mut v6 };
        family.push((*address, *works || !any_works));
    }
    let mut slices = vec![];
    for (name, address_type, members) in [("ipv4", "IPv4", v4), ("ipv6", "IPv6", v6)] {
        let Some((first, _)) = members.first() else { continue };
        let port = first.port();
        let name =
            if index == 0 { format!("{}-{name}", output.name) } else { format!("{}-{name}-{index}", output.name) };
        let labels = [(SERVICE_NAME_LABEL, &*output.name), (SLICE_MANAGED_BY_LABEL, SLICE_MANAGED_BY)];
        slices.push(EndpointSlice {
            metadata: metadata(owner, name, &labels, Some(target)),
            address_type: address_type.to_owned(),
            endpoints: members.into_iter().take(MAX_ENDPOINTS).map(endpoint).collect(),
            ports: Some(output.ports.iter().map(|output| endpoint_port(&output.name, port)).collect()),
        });
    }
    slices
}

fn endpoint((address, is_ready): (SocketAddr, bool)) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip().to_string()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        ..Endpoint::default()
    }
}

fn endpoint_port(name: &str, port: u16) -> EndpointPort {
    EndpointPort {
        name: Some(name.to_owned()),
        port: Some(i32::from(port)),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    }
}

/// Returns true if the API server accepts the address as an endpoint.
pub(crate) fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use mail_failover_core::model::{
        Backend, Depth, Destination, ObjectKey, Probe, ServiceOutputPort, SmtpHost, Tls, TlsMode, TrustAnchors,
    };

    fn slices(addresses: &[(&str, bool)]) -> Vec<EndpointSlice> {
        let owner = Owner { key: ObjectKey::new("shop", "orders"), uid: "u".to_owned() };
        let output =
            ServiceOutput { name: "mail".into(), ports: vec![ServiceOutputPort { name: "smtp".into(), port: 25 }] };
        let host: Arc<str> = "relay.example".into();
        let backend = Backend {
            destination: Destination::Host(SmtpHost { host: host.clone(), port: 587 }),
            tls: Tls { mode: TlsMode::None, server_name: host, trust: TrustAnchors::WellKnown },
            secret: None,
            login: mail_failover_core::model::ProbeLogin::None,
            suspended: false,
            probes: vec![Probe {
                name: "smtp".into(),
                interval: Duration::ZERO,
                timeout: Duration::ZERO,
                depth: Depth::Ehlo,
                envelope: mail_failover_core::model::Envelope::default(),
                vantage: mail_failover_core::model::Vantage::Operator,
            }],
            location: mail_failover_core::model::Location::default(),
            limits: mail_failover_core::model::Limits::default(),
            sender_domains: vec![],
            replies: mail_failover_core::model::ReplyRules::default(),
        };
        let addresses: Vec<_> = addresses.iter().map(|(address, works)| (address.parse().unwrap(), *works)).collect();
        let target = Target {
            percent: 100,
            transition: 0,
            name: "relay",
            backend: &backend,
            addresses: Some(addresses.clone()),
        };
        endpoint_slices(&owner, &output, &target, 0, &addresses)
    }

    fn ready(slice: &EndpointSlice) -> Vec<(&str, bool)> {
        slice
            .endpoints
            .iter()
            .map(|e| (e.addresses[0].as_str(), e.conditions.as_ref().unwrap().ready.unwrap()))
            .collect()
    }

    #[test]
    fn each_family_has_its_slice_with_the_backends_port() {
        let slices = slices(&[("192.0.2.1:587", true), ("[2001:db8::1]:587", true)]);
        assert_eq!(slices.iter().map(|s| s.address_type.as_str()).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(587));
        assert_eq!(ready(&slices[1]), [("2001:db8::1", true)]);
    }

    #[test]
    fn a_failing_address_is_not_ready_unless_all_fail() {
        assert_eq!(
            ready(&slices(&[("192.0.2.1:587", true), ("192.0.2.2:587", false)])[0]),
            [("192.0.2.1", true), ("192.0.2.2", false)]
        );
        assert_eq!(
            ready(&slices(&[("192.0.2.1:587", false), ("192.0.2.2:587", false)])[0]),
            [("192.0.2.1", true), ("192.0.2.2", true)]
        );
    }

    #[test]
    fn addresses_that_the_api_server_refuses_are_left_out() {
        assert_eq!(slices(&[("127.0.0.1:25", true), ("[fe80::1]:25", true), ("169.254.0.1:25", true)]), vec![]);
    }
}
