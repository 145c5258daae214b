//! The output `dns` of a route.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::dns_provider::provider;
use super::{Rejection, number, span};
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_core::model::{
    DnsBackendRecords, DnsData, DnsOutput, DnsProvider, DnsRecordSet, DnsRecordType, Member, dns_name, is_in_zone,
};
use mail_failover_dns::mark::MARK_PREFIX;
use mail_failover_webhook::template::render_record;

/// Time for which caches may keep a record.
const DEFAULT_TTL: Duration = Duration::from_mins(1);
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_hours(24);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_PREFERENCE: i32 = 10;
/// The first preference, and the step to the next one, in the mode `Reorder`.
const STEP: u16 = 10;

type Name = Arc<str>;
type SetKey = (Name, DnsRecordType);

/// DNS records of a route with these backends, with the records of each.
pub(super) fn dns(spec: &api::DnsOutputSpec, members: &[Member]) -> Result<DnsOutput, Rejection> {
    let api::DnsOutputSpec {
        zone,
        name,
        mx,
        mode,
        records,
        ttl,
        rfc2136: _,
        dns_endpoint: _,
        api: _,
        timeout,
        r#await,
    } = spec;
    let zone_name = zone_name(zone)?;
    let name = match name {
        None => zone_name.clone(),
        Some(name) => owner(name, &zone_name, "name", name)?,
    };
    if mx.is_empty() && records.is_empty() {
        return Err(invalid(&name, "mx", "at least one of mx and records is needed"));
    }
    let mut backends: Vec<_> =
        members.iter().map(|member| DnsBackendRecords { backend: member.name.clone(), sets: vec![] }).collect();
    if !mx.is_empty() {
        let exchangers = exchangers(mx, members, &name)?;
        for records in &mut backends {
            let data = match mode {
                None | Some(api::DnsModeSpec::Swap) => own(&exchangers, &records.backend),
                Some(api::DnsModeSpec::Reorder) => reordered(&exchangers, members, &records.backend),
            };
            records.sets.push(DnsRecordSet { name: name.clone(), record_type: DnsRecordType::Mx, data });
        }
    }
    for record in records {
        add(&mut backends, record, &zone_name, &name)?;
    }
    if let Some(records) = backends.first() {
        check_aliases(&records.sets, &name)?;
    }
    let (provider, authorities) = provider(spec, &name)?;
    let ttl = match ttl {
        None => DEFAULT_TTL,
        Some(ttl) => span(&field(&name, "ttl"), *ttl, SHORTEST_TTL..=LONGEST_TTL)?,
    };
    let timeout = match timeout {
        None => DEFAULT_TIMEOUT,
        Some(timeout) => span(&field(&name, "timeout"), *timeout, SHORTEST_TIMEOUT..=LONGEST_TIMEOUT)?,
    };
    Ok(DnsOutput {
        backends,
        ttl: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
        provider,
        authorities,
        timeout,
        is_awaited: r#await.unwrap_or(false),
        zone: zone_name,
        name,
    })
}

/// Checks that no two outputs of a route lead the same records.
pub(super) fn check_disjoint(outputs: &[DnsOutput]) -> Result<(), Rejection> {
    let mut known: BTreeMap<SetKey, &str> = BTreeMap::new();
    let mut objects = BTreeSet::new();
    for output in outputs {
        if let DnsProvider::ExternalDns(object) = &output.provider
            && !objects.insert(&object.name)
        {
            let message = format!("{} is the object of another output, too", object.name);
            return Err(invalid(&output.name, "dnsEndpoint.name", &message));
        }
        for set in output.backends.first().iter().flat_map(|records| &records.sets) {
            if known.insert((set.name.clone(), set.record_type), &output.name).is_some() {
                let message = format!("{} {} is led by another output, too", set.name, set.record_type.as_str());
                return Err(invalid(&output.name, "records", &message));
            }
        }
    }
    Ok(())
}

/// A field of the output of this name.
fn field(name: &str, field: &str) -> String {
    format!("spec.outputs[].dns.{field} ({name})")
}

pub(super) fn invalid(name: &str, which: &str, message: &str) -> Rejection {
    Rejection::new(reason::INVALID_SPEC, &field(name, which), message)
}

fn zone_name(zone: &str) -> Result<Name, Rejection> {
    dns_name(zone).ok_or_else(|| invalid(zone, "zone", "it is no DNS name"))
}

fn owner(text: &str, zone: &str, which: &str, output: &str) -> Result<Name, Rejection> {
    let name = dns_name(text).ok_or_else(|| invalid(output, which, &format!("{text} is no DNS name")))?;
    if !is_in_zone(&name, zone) {
        return Err(invalid(output, which, &format!("{name} is neither the zone {zone} nor below it")));
    }
    if name.starts_with(MARK_PREFIX) {
        return Err(invalid(
            output,
            which,
            &format!("{name} begins as the names where the operator marks its records"),
        ));
    }
    Ok(name)
}

/// The exchangers of each backend, by preference.
fn exchangers(
    mx: &[api::DnsMxSpec],
    members: &[Member],
    output: &str,
) -> Result<BTreeMap<Name, Vec<(u16, Name)>>, Rejection> {
    let mut exchangers: BTreeMap<Name, Vec<(u16, Name)>> = BTreeMap::new();
    for api::DnsMxSpec { backend, host, preference } in mx {
        if !members.iter().any(|member| *member.name == **backend) {
            return Err(invalid(output, "mx[].backend", &format!("{backend} is none of spec.backends")));
        }
        let host = dns_name(host).ok_or_else(|| invalid(output, "mx[].host", &format!("{host} is no DNS name")))?;
        let which = field(output, "mx[].preference");
        let preference = number(&which, preference.unwrap_or(DEFAULT_PREFERENCE), 0..=65535)?;
        let hosts = exchangers.entry(backend.as_str().into()).or_default();
        if hosts.iter().any(|(_, known)| *known == host) {
            return Err(invalid(output, "mx[].host", &format!("{host} stands there twice for {backend}")));
        }
        hosts.push((preference, host));
    }
    for hosts in exchangers.values_mut() {
        hosts.sort();
    }
    if let Some(without) = members.iter().find(|member| !exchangers.contains_key(&member.name)) {
        let message = format!("backend {} has no host; name one for every backend of the route", without.name);
        return Err(invalid(output, "mx", &message));
    }
    Ok(exchangers)
}

/// The exchangers of one backend.
fn own(exchangers: &BTreeMap<Name, Vec<(u16, Name)>>, backend: &str) -> Vec<DnsData> {
    let hosts = exchangers.get(backend).into_iter().flatten();
    hosts.map(|(preference, host)| DnsData::Mx(*preference, host.clone())).collect()
}

/// The exchangers of every backend: those of one first, then the others' in the route's order. Hosts of one backend that
/// have one preference share it. A host of several backends stands where it comes first.
fn reordered(exchangers: &BTreeMap<Name, Vec<(u16, Name)>>, members: &[Member], first: &str) -> Vec<DnsData> {
    let others = members.iter().map(|member| &*member.name).filter(|name| *name != first);
    let mut data: Vec<(u16, Name)> = vec![];
    let mut preference = 0_u16;
    for backend in std::iter::once(first).chain(others) {
        let mut before = None;
        for (given, host) in exchangers.get(backend).into_iter().flatten() {
            if data.iter().any(|(_, known)| known == host) {
                continue;
            }
            if before != Some(*given) {
                preference = preference.saturating_add(STEP);
                before = Some(*given);
            }
            data.push((preference, host.clone()));
        }
    }
    data.into_iter().map(|(preference, host)| DnsData::Mx(preference, host)).collect()
}

/// Adds a record set to those of each backend.
fn add(
    backends: &mut [DnsBackendRecords],
    spec: &api::DnsRecordSpec,
    zone: &str,
    output: &str,
) -> Result<(), Rejection> {
    let api::DnsRecordSpec { name, r#type, values } = spec;
    let record_type = match r#type {
        api::DnsRecordTypeSpec::A => DnsRecordType::A,
        api::DnsRecordTypeSpec::Aaaa => DnsRecordType::Aaaa,
        api::DnsRecordTypeSpec::Cname => DnsRecordType::Cname,
        api::DnsRecordTypeSpec::Txt => DnsRecordType::Txt,
    };
    let which = format!("records[{name} {}].values", record_type.as_str());
    let name = owner(name, zone, "records[].name", output)?;
    for records in backends {
        let mut data = vec![];
        for value in values {
            let rendered = render_record(value, &records.backend)
                .map_err(|error| invalid(output, &which, &format!("for backend {}: {error}", records.backend)))?;
            if rendered.is_empty() {
                continue;
            }
            let parsed = DnsData::parse(record_type, &rendered).map_err(|error| {
                invalid(output, &which, &format!("{rendered:?}, for backend {}: {error}", records.backend))
            })?;
            data.push(parsed);
        }
        data.sort();
        data.dedup();
        if record_type == DnsRecordType::Cname && data.len() > 1 {
            let message = format!("for backend {} there is more than one, and a name has one CNAME", records.backend);
            return Err(invalid(output, &which, &message));
        }
        if records.sets.iter().any(|set| set.name == name && set.record_type == record_type) {
            return Err(invalid(output, "records[]", &format!("{name} {} stands there twice", record_type.as_str())));
        }
        records.sets.push(DnsRecordSet { name: name.clone(), record_type, data });
    }
    Ok(())
}

/// Checks that a name with a CNAME has nothing else (RFC 1034 §3.6.2).
fn check_aliases(sets: &[DnsRecordSet], output: &str) -> Result<(), Rejection> {
    for alias in sets.iter().filter(|set| set.record_type == DnsRecordType::Cname) {
        if sets.iter().any(|other| other.name == alias.name && other.record_type != DnsRecordType::Cname) {
            let message = format!("{} has a CNAME, and a name with a CNAME has nothing else", alias.name);
            return Err(invalid(output, "records[]", &message));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
