//! The numbers of endpoints by which a Service, which spreads evenly over them, comes closest to the shares of a route.

use std::net::SocketAddr;

use super::Target;
use super::service::is_routable;
use mail_failover_contract::document::Drill;

/// Most endpoints of a backend and family.
// The API server takes at most 1000 in a slice; kube-proxy is spared beyond 100.
const MAX_ENDPOINTS: usize = 100;

/// An endpoint, with true if it is ready.
type Endpoint = (SocketAddr, bool);

/// Endpoints of a Service, and the parts of the mail that follow from their numbers.
#[derive(Clone, Debug)]
pub struct ServiceSplit<'t, 'a> {
    /// The backends that get endpoints, in the order of the targets.
    pub(super) parts: Vec<ServicePart<'t, 'a>>,
    /// True if the addresses of every backend that should have endpoints are known.
    pub(super) is_known: bool,
}

/// Endpoints of one backend.
#[derive(Clone, Debug)]
pub(super) struct ServicePart<'t, 'a> {
    pub(super) target: &'t Target<'a>,
    /// Endpoints, sorted.
    pub(super) endpoints: Vec<Endpoint>,
}

impl ServiceSplit<'_, '_> {
    /// The share of each backend in percent, by the numbers of ready endpoints: IPv4 ones, if there are any.
    // A client connects by one family. Which one is the Service's first is the cluster's business; it is IPv4 in most.
    pub fn percents(&self) -> Vec<(String, u8)> {
        for is_ipv4 in [true, false] {
            let counts: Vec<_> = self.parts.iter().map(|part| part.ready(is_ipv4)).collect();
            let total: usize = counts.iter().sum();
            if total > 0 {
                let names = self.parts.iter().map(|part| part.target.name.to_owned());
                return names.zip(largest_remainder(&counts, 100)).filter(|(_, percent)| *percent > 0).collect();
            }
        }
        vec![]
    }
}

impl ServicePart<'_, '_> {
    fn ready(&self, is_ipv4: bool) -> usize {
        self.endpoints.iter().filter(|(address, is_ready)| *is_ready && address.is_ipv4() == is_ipv4).count()
    }
}

/// Selects the endpoints of a Service that leads to these targets. A target whose addresses are not known has none.
// ADR-0089: A Service gets as many endpoints of a backend as its share asks for.
pub fn service_split<'t, 'a>(targets: &'t [Target<'a>]) -> ServiceSplit<'t, 'a> {
    let candidates: Vec<_> = targets.iter().map(candidates).collect();
    let mut parts: Vec<_> = targets.iter().map(|target| ServicePart { target, endpoints: vec![] }).collect();
    let mut is_known = true;
    for is_ipv4 in [true, false] {
        let mut of_family = vec![];
        for (target, candidates) in targets.iter().zip(&candidates) {
            let addresses = candidates.iter().filter(|(address, _)| address.is_ipv4() == is_ipv4);
            let (ready, failing): (Vec<Endpoint>, Vec<Endpoint>) =
                addresses.copied().partition(|(_, is_ready)| *is_ready);
            // As many as can be needed stand for those that are not known yet.
            let available = if target.addresses.is_some() { ready.len() } else { MAX_ENDPOINTS };
            of_family.push((available.min(MAX_ENDPOINTS), ready, failing));
        }
        let wanted: Vec<_> =
            targets.iter().zip(&of_family).map(|(target, (available, ..))| (target.percent, *available)).collect();
        for ((part, count), (_, ready, failing)) in parts.iter_mut().zip(nearest_counts(&wanted)).zip(of_family) {
            if count > 0 {
                is_known &= part.target.addresses.is_some();
                let room = MAX_ENDPOINTS - count;
                part.endpoints.extend(ready.into_iter().take(count));
                part.endpoints.extend(failing.into_iter().take(room));
            }
        }
    }
    parts.retain(|part| !part.endpoints.is_empty());
    for part in &mut parts {
        part.endpoints.sort_unstable();
    }
    ServiceSplit { parts, is_known }
}

/// Returns the targets that Services lead to during a drill: without the backends that it refuses, unless none would be
/// left that has endpoints.
// No client shall find an empty Service because of a drill: then the endpoints leave with the decision.
// ADR-0165: A drill leaves its backend out of the lists, and ends by itself.
pub fn targets_of_services<'a>(targets: &[Target<'a>], drill: Option<&Drill>) -> Vec<Target<'a>> {
    let Some(drill) = drill else { return targets.to_vec() };
    let (refused, left): (Vec<_>, Vec<_>) =
        targets.iter().cloned().partition(|target| drill.backends.iter().any(|name| name == target.name));
    let has_endpoints = left.iter().any(|target| target.percent > 0 && !candidates(target).is_empty());
    if refused.is_empty() || has_endpoints { left } else { targets.to_vec() }
}

/// The addresses of a target that may be endpoints.
fn candidates(target: &Target<'_>) -> Vec<Endpoint> {
    let known = target.addresses.iter().flatten();
    let mut routable: Vec<_> = known.filter(|(address, _)| is_routable(address.ip())).copied().collect();
    routable.sort_unstable();
    // When no address works, each is as good as any other: an empty Service would only hide the reason.
    let any_works = target.addresses.iter().flatten().any(|(_, works)| *works);
    for (_, is_ready) in &mut routable {
        *is_ready |= !any_works;
    }
    routable
}

/// The number of endpoints of each target by which an even spread differs least from their shares. Of equals the most
/// endpoints. A target is a share in percent, and the number of endpoints that it has.
fn nearest_counts(targets: &[(u8, usize)]) -> Vec<usize> {
    let shares: Vec<usize> =
        targets.iter().map(|(percent, available)| if *available > 0 { usize::from(*percent) } else { 0 }).collect();
    let sum: usize = shares.iter().sum();
    let most: usize = targets.iter().map(|(_, available)| available).sum();
    let mut nearest = vec![0; targets.len()];
    // As a fraction: numerator and denominator.
    let mut least: Option<(usize, usize)> = None;
    for total in 1..=most.min(MAX_ENDPOINTS * 2) {
        if sum == 0 {
            break;
        }
        let even = largest_remainder(&shares, total);
        let counts: Vec<_> =
            even.into_iter().zip(targets).map(|(count, (_, available))| usize::from(count).min(*available)).collect();
        let reached: usize = counts.iter().sum();
        if reached == 0 {
            continue;
        }
        let distance: usize =
            counts.iter().zip(&shares).map(|(count, share)| (count * sum).abs_diff(share * reached)).sum();
        let scale = reached * sum;
        let is_nearer = least
            .is_none_or(|(distance_of_least, scale_of_least)| distance * scale_of_least <= distance_of_least * scale);
        let has_no_fewer = reached >= nearest.iter().sum();
        let is_equal = least.is_some_and(|(of_least, scale_of_least)| distance * scale_of_least == of_least * scale);
        if is_nearer && (!is_equal || has_no_fewer) {
            least = Some((distance, scale));
            nearest = counts;
        }
    }
    nearest
}

/// Splits a total by weight into whole numbers, by largest remainder; of equals the first.
fn largest_remainder(weights: &[usize], total: usize) -> Vec<u8> {
    let sum: usize = weights.iter().sum::<usize>().max(1);
    let mut parts: Vec<_> = weights.iter().map(|weight| weight * total / sum).collect();
    let mut left = total.saturating_sub(parts.iter().sum());
    let mut by_remainder: Vec<_> = (0..weights.len()).filter(|index| weights[*index] > 0).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(weights[*index] * total % sum));
    for index in by_remainder {
        if left > 0 {
            parts[index] += 1;
            left -= 1;
        }
    }
    parts.into_iter().map(|part| u8::try_from(part).unwrap_or(u8::MAX)).collect()
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
