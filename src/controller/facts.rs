//! What is known of things that specs refer to: Services with their endpoints, certificates of private CAs, logins of probes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::output::SERVICE_NAME_LABEL;
use mail_failover_core::model::{Login, ObjectKey, ServicePort};
use mail_failover_resolve::{CaKey, Lookup, ReadProblem, ServiceProblem};

/// Answers to what backends refer to.
#[derive(Debug)]
pub(super) struct Facts {
    cluster_domain: String,
    services: BTreeMap<ObjectKey, Vec<Port>>,
    /// By Service, then by name of the slice.
    slices: BTreeMap<ObjectKey, BTreeMap<String, Slice>>,
    cas: BTreeMap<CaKey, Result<Arc<[u8]>, ReadProblem>>,
    logins: BTreeMap<ObjectKey, Result<Login, ReadProblem>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Port {
    name: Option<String>,
    number: u16,
}

/// The ready endpoints of one slice, by name of the port.
#[derive(Debug, PartialEq, Eq)]
struct Slice {
    addresses: Vec<IpAddr>,
    ports: BTreeMap<Option<String>, u16>,
}

impl Facts {
    pub(super) fn new(cluster_domain: &str) -> Self {
        Self {
            cluster_domain: cluster_domain.to_owned(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            cas: BTreeMap::new(),
            logins: BTreeMap::new(),
        }
    }

    /// Takes note of a Service. Returns whether anything changed that a backend could care about.
    pub(super) fn note_service(&mut self, key: &ObjectKey, service: &Service) -> bool {
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
        let tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        let ports: Vec<_> = tcp
            .filter_map(|port| Some(Port { name: port.name.clone(), number: u16::try_from(port.port).ok()? }))
            .collect();
        let changed = self.services.get(key) != Some(&ports);
        self.services.insert(key.clone(), ports);
        changed
    }

    pub(super) fn forget_service(&mut self, key: &ObjectKey) {
        self.services.remove(key);
    }

    /// Takes note of a slice. Returns the Service concerned, if its endpoints changed.
    pub(super) fn note_slice(&mut self, key: &ObjectKey, slice: &EndpointSlice) -> Option<ObjectKey> {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL))?;
        let service = key.sibling(service.as_str());
        // Absent means unknown, which discovery.k8s.io/v1 tells consumers to take for ready.
        let ready = slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
        let addresses = ready.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok()).collect();
        let ports = slice.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        let named = ports.filter_map(|port| {
            let name = port.name.clone().filter(|name| !name.is_empty());
            Some((name, u16::try_from(port.port?).ok()?))
        });
        let slice = Slice { addresses, ports: named.collect() };
        let slices = self.slices.entry(service.clone()).or_default();
        if slices.get(&*key.name) == Some(&slice) {
            return None;
        }
        slices.insert(key.name.to_string(), slice);
        Some(service)
    }

    /// Returns the Service concerned, if it is known.
    pub(super) fn forget_slice(&mut self, key: &ObjectKey) -> Option<ObjectKey> {
        let of_namespace = self.slices.iter_mut().filter(|(service, _)| service.namespace == key.namespace);
        let mut with_it = of_namespace.filter(|(_, slices)| slices.contains_key(&*key.name));
        let (service, slices) = with_it.next()?;
        slices.remove(&*key.name);
        let (service, is_empty) = (service.clone(), slices.is_empty());
        if is_empty {
            self.slices.remove(&service);
        }
        Some(service)
    }

    pub(super) fn note_ca(&mut self, key: CaKey, answer: Result<Arc<[u8]>, ReadProblem>) {
        self.cas.insert(key, answer);
    }

    pub(super) fn forget_ca(&mut self, key: &CaKey) {
        self.cas.remove(key);
    }

    pub(super) fn note_login(&mut self, key: ObjectKey, answer: Result<Login, ReadProblem>) {
        self.logins.insert(key, answer);
    }

    pub(super) fn forget_login(&mut self, key: &ObjectKey) {
        self.logins.remove(key);
    }
}

impl Lookup for Facts {
    fn ca(&self, key: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        self.cas.get(key).cloned().unwrap_or(Err(ReadProblem::Pending))
    }

    fn login(&self, key: &ObjectKey) -> Result<Login, ReadProblem> {
        self.logins.get(key).cloned().unwrap_or(Err(ReadProblem::Pending))
    }

    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        let ports = self.services.get(key).ok_or(ServiceProblem::NotFound)?;
        let is_meant = |candidate: &&Port| match port {
            IntOrString::Int(number) => i32::from(candidate.number) == *number,
            IntOrString::String(name) => candidate.name.as_ref() == Some(name),
        };
        let port = ports.iter().find(is_meant).ok_or(ServiceProblem::PortNotFound)?;
        let slices = self.slices.get(key).into_iter().flat_map(BTreeMap::values);
        let of_slice = |slice: &Slice| {
            let number = slice.ports.get(&port.name.clone().filter(|name| !name.is_empty())).copied();
            let addresses = number
                .map(|number| slice.addresses.iter().map(move |address| SocketAddr::new(*address, number)).collect());
            addresses.unwrap_or_else(Vec::new)
        };
        let mut endpoints: Vec<_> = slices.flat_map(of_slice).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        Ok(ServicePort {
            dns_name: format!("{}.{}.svc.{}", key.name, key.namespace, self.cluster_domain).into(),
            port: port.number,
            endpoints,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(json: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json).unwrap()
    }

    fn endpoints(facts: &Facts, port: &IntOrString) -> Result<Vec<String>, ServiceProblem> {
        let service = facts.service(&ObjectKey::new("shop", "relay"), port)?;
        Ok(service.endpoints.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_service_is_followed_to_its_ready_endpoints_by_the_port_it_is_meant_by() {
        let mut facts = Facts::new("cluster.local");
        let key = ObjectKey::new("shop", "relay");
        assert_eq!(endpoints(&facts, &IntOrString::Int(25)), Err(ServiceProblem::NotFound));
        let service =
            json!({"spec": {"ports": [{"name": "smtp", "port": 25}, {"name": "dns", "port": 53, "protocol": "UDP"}]}});
        assert!(facts.note_service(&key, &serde_json::from_value(service).unwrap()));
        let ready = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "relay"}}, "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["192.0.2.2"], "conditions": {"ready": true}},
                {"addresses": ["192.0.2.1"]},
                {"addresses": ["192.0.2.3"], "conditions": {"ready": false}}],
            "ports": [{"name": "smtp", "port": 2525}]});
        let slice_key = ObjectKey::new("shop", "relay-abc");
        assert_eq!(facts.note_slice(&slice_key, &slice(ready.clone())), Some(key.clone()));
        assert_eq!(facts.note_slice(&slice_key, &slice(ready)), None);
        let both = Ok(vec!["192.0.2.1:2525".to_owned(), "192.0.2.2:2525".to_owned()]);
        assert_eq!(endpoints(&facts, &IntOrString::Int(25)), both);
        assert_eq!(endpoints(&facts, &IntOrString::String("smtp".to_owned())), both);
        assert_eq!(endpoints(&facts, &IntOrString::Int(53)), Err(ServiceProblem::PortNotFound));
        assert_eq!(facts.forget_slice(&slice_key), Some(key));
        assert_eq!(endpoints(&facts, &IntOrString::Int(25)), Ok(vec![]));
    }
}
