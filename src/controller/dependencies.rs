//! Cache of the objects that specs refer to: Services with their endpoints, certificates of private CAs, logins of
//! probes, Secrets of outputs and of receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::secrets::{SecretContent, SecretKey, TypedSecret};
use crate::output::SERVICE_NAME_LABEL;
use crate::watch::Source;
use mail_failover_core::model::{Login, ObjectKey, ServicePort};
use mail_failover_resolve::{CaKey, LoginKey, Lookup, ReadProblem, ServiceProblem};

/// `spec.clusterIP` of a headless Service.
const HEADLESS: &str = "None";

/// Latest content of the objects that backends refer to.
#[derive(Debug)]
pub(super) struct DependencyCache {
    cluster_domain: String,
    services: BTreeMap<ObjectKey, CachedService>,
    /// Services by the addresses that they have in the cluster.
    by_address: BTreeMap<IpAddr, ObjectKey>,
    /// Slices by Service, then by name of the slice.
    slices: BTreeMap<ObjectKey, BTreeMap<String, CachedSlice>>,
    /// Namespaces of which Services or slices may not be read and have never been.
    unreadable: BTreeSet<(Arc<str>, Source)>,
    cas: BTreeMap<CaKey, Result<Arc<[u8]>, ReadProblem>>,
    logins: BTreeMap<LoginKey, Result<Login, ReadProblem>>,
    secrets: BTreeMap<SecretKey, Result<SecretContent, ReadProblem>>,
}

#[derive(Debug, PartialEq, Eq)]
struct CachedService {
    ports: Vec<CachedPort>,
    /// True if its DNS name stands for its endpoints, and not for an address of its own.
    is_headless: bool,
    /// True if its DNS name stands for another name.
    is_alias: bool,
    /// `spec.clusterIPs`.
    addresses: Vec<IpAddr>,
}

#[derive(Debug, PartialEq, Eq)]
struct CachedPort {
    name: Option<String>,
    number: u16,
    /// `targetPort`, if that is a number.
    target: Option<u16>,
}

impl CachedPort {
    fn is_meant_by(&self, port: &IntOrString) -> bool {
        match port {
            IntOrString::Int(number) => i32::from(self.number) == *number,
            IntOrString::String(name) => self.name.as_ref() == Some(name),
        }
    }
}

/// The ready endpoints of one slice, with its ports by name.
#[derive(Debug, PartialEq, Eq)]
struct CachedSlice {
    addresses: Vec<IpAddr>,
    ports: BTreeMap<Option<String>, u16>,
}

impl DependencyCache {
    pub(super) fn new(cluster_domain: &str) -> Self {
        Self {
            cluster_domain: cluster_domain.to_owned(),
            services: BTreeMap::new(),
            by_address: BTreeMap::new(),
            slices: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            cas: BTreeMap::new(),
            logins: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }

    fn dns_name(&self, key: &ObjectKey) -> Arc<str> {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.cluster_domain).into()
    }

    /// Notes that the objects of a source in a namespace may not be read, or may be. Returns true if that concerns backends
    /// and is news.
    pub(super) fn note_access(&mut self, source: Source, namespace: &Arc<str>, is_forbidden: bool) -> bool {
        match source {
            Source::Services | Source::EndpointSlices => {}
            Source::Backends | Source::Policies | Source::Routes | Source::ConfigMaps | Source::Jobs | Source::Pods => {
                return false;
            }
        }
        let key = (namespace.clone(), source);
        if is_forbidden { self.unreadable.insert(key) } else { self.unreadable.remove(&key) }
    }

    /// Returns true if the Services of a namespace, or their slices, may not be read and have never been.
    fn is_unreadable(&self, namespace: &Arc<str>) -> bool {
        let sources = [Source::Services, Source::EndpointSlices];
        sources.into_iter().any(|source| self.unreadable.contains(&(namespace.clone(), source)))
    }

    /// Caches a Service. Returns true if anything changed that a backend uses.
    pub(super) fn cache_service(&mut self, key: &ObjectKey, service: &Service) -> bool {
        let mut ports = vec![];
        for port in service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten())
            .filter(|port| is_tcp(port.protocol.as_deref()))
        {
            if let Ok(number) = u16::try_from(port.port) {
                let target = match &port.target_port {
                    Some(IntOrString::Int(target)) => u16::try_from(*target).ok(),
                    Some(IntOrString::String(_)) | None => None,
                };
                ports.push(CachedPort { name: port.name.clone(), number, target });
            }
        }
        let spec = service.spec.as_ref();
        let given = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
        let mut addresses: Vec<IpAddr> = given.filter_map(|address| address.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let cached = CachedService {
            addresses,
            ports,
            is_headless: spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some(HEADLESS),
            is_alias: spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName"),
        };
        let changed = self.services.get(key) != Some(&cached);
        if changed {
            self.forget_service(key);
            for address in &cached.addresses {
                self.by_address.insert(*address, key.clone());
            }
            self.services.insert(key.clone(), cached);
        }
        changed
    }

    pub(super) fn forget_service(&mut self, key: &ObjectKey) {
        let Some(gone) = self.services.remove(key) else { return };
        for address in gone.addresses {
            // Another Service may have been given it meanwhile.
            if self.by_address.get(&address) == Some(key) {
                self.by_address.remove(&address);
            }
        }
    }

    /// The Service that has this address in the cluster.
    pub(super) fn service_at(&self, address: IpAddr) -> Option<&ObjectKey> {
        self.by_address.get(&address)
    }

    /// Caches a slice. Returns its Service if the endpoints of that changed.
    pub(super) fn cache_slice(&mut self, key: &ObjectKey, slice: &EndpointSlice) -> Option<ObjectKey> {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL))?;
        let service = key.sibling(service.as_str());
        // Absent means unknown, which discovery.k8s.io/v1 tells consumers to take for ready.
        let ready = slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
        let addresses = ready.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok()).collect();
        let mut ports = BTreeMap::new();
        for port in slice.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref())) {
            if let Some(number) = port.port.and_then(|number| u16::try_from(number).ok()) {
                ports.insert(port.name.clone().filter(|name| !name.is_empty()), number);
            }
        }
        let slice = CachedSlice { addresses, ports };
        let slices = self.slices.entry(service.clone()).or_default();
        if slices.get(&*key.name) == Some(&slice) {
            return None;
        }
        slices.insert(key.name.to_string(), slice);
        Some(service)
    }

    /// Drops a slice. Returns its Service, if the slice was cached.
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

    pub(super) fn cache_ca(&mut self, key: CaKey, answer: Result<Arc<[u8]>, ReadProblem>) {
        self.cas.insert(key, answer);
    }

    pub(super) fn forget_ca(&mut self, key: &CaKey) {
        self.cas.remove(key);
    }

    pub(super) fn cache_login(&mut self, key: LoginKey, answer: Result<Login, ReadProblem>) {
        self.logins.insert(key, answer);
    }

    pub(super) fn forget_login(&mut self, key: &LoginKey) {
        self.logins.remove(key);
    }

    pub(super) fn cache_secret(&mut self, key: SecretKey, answer: Result<SecretContent, ReadProblem>) {
        self.secrets.insert(key, answer);
    }

    pub(super) fn forget_secret(&mut self, key: &SecretKey) {
        self.secrets.remove(key);
    }

    /// The content of a Secret; the message of an error says what is wrong with it.
    pub(super) fn secret<S: TypedSecret>(&self, key: &ObjectKey) -> Result<S, ReadProblem> {
        match self.secrets.get(&SecretKey::of::<S>(key.clone())) {
            Some(Ok(content)) => S::of(content).cloned().ok_or(ReadProblem::Pending),
            Some(Err(problem)) => Err(problem.clone()),
            None => Err(ReadProblem::Pending),
        }
    }

    /// The certificates that a webhook, a receiver or an API is trusted by.
    pub(super) fn webhook_ca(&self, key: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        self.ca(key)
    }
}

/// The same cache, in which every Service exists and has no endpoint: what is known of one that is gone or cannot be read.
#[derive(Debug)]
pub(super) struct WithoutEndpoints<'a>(pub(super) &'a DependencyCache);

impl Lookup for WithoutEndpoints<'_> {
    fn ca(&self, key: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        self.0.ca(key)
    }

    fn login(&self, key: &LoginKey) -> Result<Login, ReadProblem> {
        self.0.login(key)
    }

    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        let number = match port {
            IntOrString::Int(number) => u16::try_from(*number).unwrap_or_default(),
            // Nothing is written or probed by it.
            IntOrString::String(_) => 0,
        };
        Ok(ServicePort { dns_name: self.0.dns_name(key), port: number, client_port: number, endpoints: vec![] })
    }
}

impl Lookup for DependencyCache {
    fn ca(&self, key: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        self.cas.get(key).cloned().unwrap_or(Err(ReadProblem::Pending))
    }

    fn login(&self, key: &LoginKey) -> Result<Login, ReadProblem> {
        self.logins.get(key).cloned().unwrap_or(Err(ReadProblem::Pending))
    }

    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        // A Service that nobody may look at is not known to be gone, nor to be without endpoints.
        if self.is_unreadable(&key.namespace) {
            return Err(ServiceProblem::Unreadable);
        }
        let service = self.services.get(key).ok_or(ServiceProblem::NotFound)?;
        if service.is_alias {
            return Err(ServiceProblem::ExternalName);
        }
        let port = service.ports.iter().find(|candidate| candidate.is_meant_by(port));
        let port = port.ok_or(ServiceProblem::PortNotFound)?;
        let mut endpoints = vec![];
        for slice in self.slices.get(key).into_iter().flat_map(BTreeMap::values) {
            let name = port.name.clone().filter(|name| !name.is_empty());
            if let Some(number) = slice.ports.get(&name) {
                endpoints.extend(slice.addresses.iter().map(|address| SocketAddr::new(*address, *number)));
            }
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        Ok(ServicePort {
            dns_name: self.dns_name(key),
            port: port.number,
            client_port: if service.is_headless { port_of(&endpoints, port) } else { port.number },
            endpoints,
        })
    }
}

/// The port that the endpoints of a headless Service listen on: of several the most frequent. Without any, the one that
/// the Service names.
fn port_of(endpoints: &[SocketAddr], port: &CachedPort) -> u16 {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for endpoint in endpoints {
        *counts.entry(endpoint.port()).or_default() += 1;
    }
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map_or_else(|| port.target.unwrap_or(port.number), |(port, _)| port)
}

/// Returns true if a port speaks TCP, which is Kubernetes' default.
fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(json: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json).unwrap()
    }

    fn endpoints(dependencies: &DependencyCache, port: &IntOrString) -> Result<Vec<String>, ServiceProblem> {
        let service = dependencies.service(&ObjectKey::new("shop", "relay"), port)?;
        Ok(service.endpoints.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_service_is_followed_to_its_ready_endpoints_by_the_port_it_is_meant_by() {
        let mut dependencies = DependencyCache::new("cluster.local");
        let key = ObjectKey::new("shop", "relay");
        assert_eq!(endpoints(&dependencies, &IntOrString::Int(25)), Err(ServiceProblem::NotFound));
        let service =
            json!({"spec": {"ports": [{"name": "smtp", "port": 25}, {"name": "dns", "port": 53, "protocol": "UDP"}]}});
        assert!(dependencies.cache_service(&key, &serde_json::from_value(service).unwrap()));
        let ready = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "relay"}}, "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["192.0.2.2"], "conditions": {"ready": true}},
                {"addresses": ["192.0.2.1"]},
                {"addresses": ["192.0.2.3"], "conditions": {"ready": false}}],
            "ports": [{"name": "smtp", "port": 2525}]});
        let slice_key = ObjectKey::new("shop", "relay-abc");
        assert_eq!(dependencies.cache_slice(&slice_key, &slice(ready.clone())), Some(key.clone()));
        assert_eq!(dependencies.cache_slice(&slice_key, &slice(ready)), None);
        let both = Ok(vec!["192.0.2.1:2525".to_owned(), "192.0.2.2:2525".to_owned()]);
        assert_eq!(endpoints(&dependencies, &IntOrString::Int(25)), both);
        assert_eq!(endpoints(&dependencies, &IntOrString::String("smtp".to_owned())), both);
        assert_eq!(endpoints(&dependencies, &IntOrString::Int(53)), Err(ServiceProblem::PortNotFound));
        assert_eq!(dependencies.forget_slice(&slice_key), Some(key));
        assert_eq!(endpoints(&dependencies, &IntOrString::Int(25)), Ok(vec![]));
    }

    #[test]
    fn a_service_is_found_by_the_addresses_that_it_has_now() {
        let mut dependencies = DependencyCache::new("cluster.local");
        let (relay, other) = (ObjectKey::new("shop", "relay"), ObjectKey::new("shop", "other"));
        let with = |addresses: &[&str]| {
            let spec = json!({"clusterIP": addresses.first(), "clusterIPs": addresses, "ports": [{"port": 25}]});
            serde_json::from_value::<Service>(json!({ "spec": spec })).unwrap()
        };
        let (four, six): (IpAddr, IpAddr) = ("10.96.0.9".parse().unwrap(), "fd00::9".parse().unwrap());
        assert!(dependencies.cache_service(&relay, &with(&["10.96.0.9", "fd00::9"])));
        assert_eq!((dependencies.service_at(four), dependencies.service_at(six)), (Some(&relay), Some(&relay)));
        assert!(dependencies.cache_service(&relay, &with(&["None"])));
        assert_eq!((dependencies.service_at(four), dependencies.service_at(six)), (None, None));
        dependencies.cache_service(&relay, &with(&["10.96.0.9"]));
        dependencies.cache_service(&other, &with(&["10.96.0.9"]));
        dependencies.forget_service(&relay);
        assert_eq!(dependencies.service_at(four), Some(&other), "it was given to another one");
    }

    #[test]
    fn what_may_not_be_read_is_not_known_to_be_gone() {
        let key = ObjectKey::new("shop", "relay");
        for source in [Source::Services, Source::EndpointSlices] {
            let mut dependencies = DependencyCache::new("cluster.local");
            let service = json!({"spec": {"ports": [{"name": "smtp", "port": 25}]}});
            dependencies.cache_service(&key, &serde_json::from_value(service).unwrap());
            assert!(dependencies.note_access(source, &key.namespace, true));
            assert!(!dependencies.note_access(source, &key.namespace, true), "no news");
            assert_eq!(endpoints(&dependencies, &IntOrString::Int(25)), Err(ServiceProblem::Unreadable), "{source:?}");
            let elsewhere = ObjectKey::new("billing", "relay");
            assert_eq!(dependencies.service(&elsewhere, &IntOrString::Int(25)), Err(ServiceProblem::NotFound));
            assert!(dependencies.note_access(source, &key.namespace, false));
            assert_eq!(endpoints(&dependencies, &IntOrString::Int(25)), Ok(vec![]));
        }
        let mut dependencies = DependencyCache::new("cluster.local");
        assert!(!dependencies.note_access(Source::Routes, &key.namespace, true), "no backend needs them");
        assert_eq!(endpoints(&dependencies, &IntOrString::Int(25)), Err(ServiceProblem::NotFound));
    }

    fn slice_of(addresses: &[&str], port: u16) -> EndpointSlice {
        let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        let labels = json!({"kubernetes.io/service-name": "relay"});
        let ports = json!([{"name": "smtp", "port": port}]);
        slice(json!({"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}))
    }

    #[test]
    fn clients_of_a_headless_service_connect_to_the_port_of_its_endpoints() {
        let key = ObjectKey::new("shop", "relay");
        for (cluster_ip, target, two_at, one_at, expected) in [
            ("None", json!(2525), None, None, 2525),
            ("None", json!("smtp"), None, None, 25),
            ("None", json!("smtp"), Some(2525), None, 2525),
            ("None", json!("smtp"), Some(2525), Some(26), 2525),
            ("10.96.0.9", json!(2525), Some(2525), None, 25),
        ] {
            let mut dependencies = DependencyCache::new("cluster.local");
            let port = json!({"name": "smtp", "port": 25, "targetPort": target});
            let service = json!({"spec": {"clusterIP": cluster_ip, "ports": [port]}});
            dependencies.cache_service(&key, &serde_json::from_value(service).unwrap());
            for (name, addresses, at) in
                [("a", ["192.0.2.1", "192.0.2.2"].as_slice(), two_at), ("b", &["192.0.2.3"], one_at)]
            {
                if let Some(at) = at {
                    dependencies.cache_slice(&key.sibling(name), &slice_of(addresses, at));
                }
            }
            let service = dependencies.service(&key, &IntOrString::Int(25)).unwrap();
            assert_eq!(
                (service.port, service.client_port),
                (25, expected),
                "{cluster_ip} {target} {two_at:?} {one_at:?}"
            );
        }
    }

    #[test]
    fn a_service_that_is_an_alias_is_no_service_of_ours() {
        let mut dependencies = DependencyCache::new("cluster.local");
        let service =
            json!({"spec": {"type": "ExternalName", "externalName": "smtp.example", "ports": [{"port": 25}]}});
        let key = ObjectKey::new("shop", "relay");
        dependencies.cache_service(&key, &serde_json::from_value(service).unwrap());
        assert_eq!(dependencies.service(&key, &IntOrString::Int(25)), Err(ServiceProblem::ExternalName));
        let presumed = WithoutEndpoints(&dependencies).service(&key, &IntOrString::Int(25)).unwrap();
        assert_eq!((presumed.port, presumed.endpoints), (25, vec![]));
    }
}
