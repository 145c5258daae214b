//! A selector-less Service and the `EndpointSlices` that lead it to the active backend.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::split::ServicePart;
use super::{Owner, SERVICE_NAME_LABEL, SLICE_MANAGED_BY_LABEL, metadata};
use mail_failover_core::model::ServiceOutput;

/// Controller of our slices, as other controllers read it.
const SLICE_MANAGED_BY: &str = "mailfailover.io";

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

/// Renders one slice per address family and port, with its name; `index` tells the backends of one Service apart.
// All endpoints of a slice share its ports.
pub(super) fn endpoint_slices(
    owner: &Owner,
    output: &ServiceOutput,
    part: &ServicePart<'_, '_>,
    index: usize,
) -> Vec<(String, EndpointSlice)> {
    let mut groups: BTreeMap<(bool, u16), Vec<(SocketAddr, bool)>> = BTreeMap::new();
    for (address, is_ready) in &part.endpoints {
        groups.entry((address.is_ipv6(), address.port())).or_default().push((*address, *is_ready));
    }
    let mut slices: Vec<(String, EndpointSlice)> = vec![];
    for ((is_ipv6, port), endpoints) in groups {
        let (family, address_type) = if is_ipv6 { ("ipv6", "IPv6") } else { ("ipv4", "IPv4") };
        let is_first = slices.last().is_none_or(|(_, earlier)| earlier.address_type != address_type);
        let mut name = format!("{}-{family}", output.name);
        if index > 0 {
            name = format!("{name}-{index}");
        }
        if !is_first {
            name = format!("{name}-p{port}");
        }
        let labels = [(SERVICE_NAME_LABEL, &*output.name), (SLICE_MANAGED_BY_LABEL, SLICE_MANAGED_BY)];
        let slice = EndpointSlice {
            metadata: metadata(owner, name.clone(), &labels, Some(part.target.into())),
            address_type: address_type.to_owned(),
            endpoints: endpoints.into_iter().map(endpoint).collect(),
            ports: Some(output.ports.iter().map(|output| endpoint_port(&output.name, port)).collect()),
        };
        slices.push((name, slice));
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
    use super::*;
    use crate::output::split::service_split;
    use crate::output::{Target, testing};
    use mail_failover_core::model::{ObjectKey, ServiceOutputPort, Uid};

    fn slices(addresses: &[(&str, bool)]) -> Vec<EndpointSlice> {
        let owner = Owner { key: ObjectKey::new("shop", "orders"), uid: Uid::parse(Some("u")).unwrap() };
        let output =
            ServiceOutput { name: "mail".into(), ports: vec![ServiceOutputPort { name: "smtp".into(), port: 25 }] };
        let backend = testing::backend();
        let addresses: Vec<_> = addresses.iter().map(|(address, works)| (address.parse().unwrap(), *works)).collect();
        let (transition, percent, is_place_known) = (1, 100, true);
        let targets = [Target {
            percent,
            transition,
            name: "relay",
            backend: &backend,
            addresses: Some(addresses),
            is_place_known,
        }];
        let split = service_split(&targets);
        let slices = split.parts.iter().flat_map(|part| endpoint_slices(&owner, &output, part, 0));
        slices.map(|(_, slice)| slice).collect()
    }

    fn ready(slice: &EndpointSlice) -> Vec<(&str, bool)> {
        slice
            .endpoints
            .iter()
            .map(|e| (e.addresses[0].as_str(), e.conditions.as_ref().unwrap().ready.unwrap()))
            .collect()
    }

    fn port(slice: &EndpointSlice) -> Option<i32> {
        slice.ports.as_ref().unwrap()[0].port
    }

    #[test]
    fn each_family_has_its_slice_with_the_backends_port() {
        let slices = slices(&[("192.0.2.1:587", true), ("[2001:db8::1]:587", true)]);
        assert_eq!(slices.iter().map(|s| s.address_type.as_str()).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
        assert_eq!(port(&slices[0]), Some(587));
        assert_eq!(ready(&slices[1]), [("2001:db8::1", true)]);
    }

    #[test]
    fn endpoints_of_different_ports_are_in_different_slices() {
        let slices = slices(&[("10.0.0.1:25", true), ("10.0.0.77:2525", true), ("[2001:db8::1]:2525", true)]);
        let said: Vec<_> = slices
            .iter()
            .map(|slice| (slice.metadata.name.clone().unwrap(), port(slice).unwrap(), ready(slice)[0].0))
            .collect();
        let expected =
            [("mail-ipv4", 25, "10.0.0.1"), ("mail-ipv4-p2525", 2525, "10.0.0.77"), ("mail-ipv6", 2525, "2001:db8::1")];
        assert_eq!(said, expected.map(|(name, port, address)| (name.to_owned(), port, address)));
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
