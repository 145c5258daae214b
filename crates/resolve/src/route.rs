use std::collections::BTreeSet;
use std::sync::Arc;

use super::{MAX_PER_DAY, MAX_PER_SECOND, Rejection, dns, domains, number, port_number, texts, webhook};
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_core::model::{
    AgentOutput, ConfigMapFormat, ConfigMapOutput, Member, Route, ServiceOutput, ServiceOutputPort, Strategy, Traffic,
};

const DEFAULT_WEIGHT: i32 = 100;
const DEFAULT_ALTERNATES: bool = true;
/// The service account under which Kubernetes runs a pod that names none.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// A route from its spec.
///
/// # Errors
/// [`Rejection`] for what the schema should have refused (an old schema may still be installed).
pub fn route(spec: &api::MailRouteSpec) -> Result<Route, Rejection> {
    let api::MailRouteSpec {
        policy_ref: _,
        strategy,
        backends,
        traffic,
        residency,
        preferred_regions,
        sender_domains,
        messages,
        outputs,
    } = spec;
    let mut names = BTreeSet::new();
    if let Some(twice) = backends.iter().find(|backend| !names.insert(backend.name.as_str())) {
        return Err(Rejection::new(
            reason::INVALID_SPEC,
            "spec.backends[].name",
            &format!("{} is not unique", twice.name),
        ));
    }
    if backends.is_empty() {
        return Err(Rejection::new(reason::INVALID_SPEC, "spec.backends", "at least one backend is needed"));
    }
    let mut route = Route {
        strategy: match strategy {
            None | Some(api::StrategySpec::ActivePassive) => Strategy::ActivePassive,
            Some(api::StrategySpec::ActiveActive) => Strategy::ActiveActive,
        },
        backends: backends.iter().map(member).collect::<Result<_, _>>()?,
        traffic: traffic.as_ref().map(self::traffic).transpose()?.unwrap_or_default(),
        jurisdictions: residency.as_ref().map(jurisdictions).transpose()?.unwrap_or_default(),
        preferred_regions: texts(preferred_regions),
        sender_domains: domains(sender_domains.iter().flatten().map(String::as_str)),
        alternates: messages.as_ref().and_then(|messages| messages.alternates).unwrap_or(DEFAULT_ALTERNATES),
        services: vec![],
        config_maps: vec![],
        agents: vec![],
        webhooks: vec![],
        dns: vec![],
    };
    for api::OutputSpec { service, config_map, agent, webhook, dns } in outputs {
        if let Some(api::ServiceOutputSpec { name, ports }) = service {
            let ports = ports.iter().map(|api::ServiceOutputPortSpec { name, port }| {
                Ok(ServiceOutputPort {
                    name: name.as_str().into(),
                    port: port_number(*port, "spec.outputs[].service.ports[].port")?,
                })
            });
            let ports = ports.collect::<Result<_, Rejection>>()?;
            route.services.push(ServiceOutput { name: name.as_str().into(), ports });
        }
        if let Some(api::ConfigMapOutputSpec { name, format }) = config_map {
            let format = match format {
                api::ConfigMapFormatSpec::Postfix => ConfigMapFormat::Postfix,
                api::ConfigMapFormatSpec::Env => ConfigMapFormat::Env,
            };
            route.config_maps.push(ConfigMapOutput { name: name.as_str().into(), format });
        }
        if let Some(api::AgentOutputSpec { config_map, service_account_name }) = agent {
            let service_account = service_account_name.as_deref().unwrap_or(DEFAULT_SERVICE_ACCOUNT).into();
            route.agents.push(AgentOutput { config_map: config_map.as_str().into(), service_account });
        }
        if let Some(spec) = webhook {
            if route.webhooks.iter().any(|known| *known.name == *spec.name) {
                let message = format!("{} is not unique", spec.name);
                return Err(Rejection::new(reason::INVALID_SPEC, "spec.outputs[].webhook.name", &message));
            }
            route.webhooks.push(webhook::webhook(spec, &route.backends)?);
        }
        if let Some(spec) = dns {
            route.dns.push(dns::dns(spec, &route.backends)?);
        }
    }
    dns::check_disjoint(&route.dns)?;
    Ok(route)
}

fn member(api::BackendReference { name, weight }: &api::BackendReference) -> Result<Member, Rejection> {
    let weight = weight.unwrap_or(DEFAULT_WEIGHT);
    Ok(Member { name: name.as_str().into(), weight: number("spec.backends[].weight", weight, 1..=1000)? })
}

fn traffic(spec: &api::TrafficSpec) -> Result<Traffic, Rejection> {
    let api::TrafficSpec { messages_per_day, peak_per_second } = spec;
    Ok(Traffic {
        messages_per_day: messages_per_day
            .map(|given| number("spec.traffic.messagesPerDay", given, 1..=MAX_PER_DAY))
            .transpose()?,
        peak_per_second: peak_per_second
            .map(|given| number("spec.traffic.peakPerSecond", given, 1..=MAX_PER_SECOND))
            .transpose()?,
    })
}

/// The jurisdictions of a residency, at least one: an empty list would allow any, the opposite of what was asked for.
fn jurisdictions(api::ResidencySpec { jurisdictions }: &api::ResidencySpec) -> Result<Vec<Arc<str>>, Rejection> {
    if jurisdictions.is_empty() {
        let message = "at least one is needed; leave spec.residency out if any will do";
        return Err(Rejection::new(reason::INVALID_SPEC, "spec.residency.jurisdictions", message));
    }
    Ok(texts(jurisdictions))
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
