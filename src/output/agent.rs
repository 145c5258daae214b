//! A `ConfigMap` for agents: every backend of the route with its share, and what an agent may do by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;

use super::config_map::host_and_port;
use super::{AgentPart, Led, Owner, Senders, Target, metadata};
use mail_failover_contract::document::{self, API_VERSION, Document, KEY, OperatorEndpoint};
use mail_failover_contract::routing::{self, Refusal};
use mail_failover_core::model::{AgentOutput, Backend, Breaker, Policy, SharedError, Timestamp, TlsMode, TrustAnchors};

/// Content for the agents of a route beside the shares of its targets.
#[derive(Clone, Debug)]
pub struct DocumentInputs<'a> {
    /// Every known backend of the route, the most preferred first.
    pub members: Vec<DocumentMember<'a>>,
    /// Domains in the sender addresses of the route's mail; empty if they are not known.
    pub sender_domains: &'a [Arc<str>],
    /// Summary of the latest transition, for people; empty before the first.
    pub summary: String,
    /// The policy in force.
    pub policy: &'a Policy,
    /// Endpoints at which agents report.
    pub operators: &'a [OperatorEndpoint],
    /// Number of the agents among which limits are divided; at least 1.
    pub agents: u32,
    /// True if only relays read the document, which tell backends of one host and port apart.
    pub has_only_relays: bool,
    /// Drill that refuses backends now.
    pub drill: Option<document::Drill>,
    /// Time by the wall clock.
    pub now: Timestamp,
}

/// Backend that agents are told of.
#[derive(Clone, Debug)]
pub struct DocumentMember<'a> {
    /// Name of the `SendingBackend`.
    pub name: &'a str,
    /// Settings of the backend.
    pub backend: &'a Backend,
    /// True if mail may go there now without another decision.
    // ADR-0045: A standby is a backend that the operator would use now.
    pub is_standby: bool,
    /// True if a message that another backend does not take may go there within the same delivery attempt.
    pub is_alternate: bool,
    /// True if one message at a time may try it first although it carries no mail.
    pub is_trial: bool,
    /// Part of its limits that each agent of the route has.
    pub part: AgentPart,
}

/// Document as text, with the backends that it leaves out because they share a host and port with another.
#[derive(Debug, PartialEq)]
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) left_out: Vec<Sharing>,
}

/// Two backends with the same host and port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    pub(super) told: String,
    pub(super) left_out: String,
    /// Next hop in Postfix's notation.
    pub(super) next_hop: String,
}

pub(super) fn config_map(owner: &Owner, output: &AgentOutput, led: Led<'_>, text: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(owner, output.config_map.to_string(), &[], Some(led)),
        data: Some([(KEY.to_owned(), text.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// Renders the document for the agents of a route.
///
/// # Errors
/// [`Refusal`] if an agent could not use it: the text is read again as an agent does.
pub(super) fn render(owner: &Owner, targets: &[Target<'_>], inputs: &DocumentInputs<'_>) -> Result<Rendered, Refusal> {
    let all = backends(targets, inputs);
    let (backends, left_out) = distinct(all.clone());
    let accounts = if left_out.is_empty() { vec![] } else { all };
    let transition = targets.first().map_or(0, |target| target.transition);
    let text = document(owner, transition, Some(backends), accounts, inputs)?;
    Ok(Rendered { text, left_out })
}

/// Renders the document by which nobody may carry the mail.
///
/// # Errors
/// As [`render`].
// ADR-0100: A document can say that nobody may carry the mail.
pub(super) fn render_withdrawn(owner: &Owner, transition: i64, inputs: &DocumentInputs<'_>) -> Result<String, Refusal> {
    document(owner, transition, None, vec![], inputs)
}

/// Renders a document with these backends; one by which nobody may carry the mail if `None`.
fn document(
    owner: &Owner,
    transition: i64,
    backends: Option<Vec<document::Backend>>,
    accounts: Vec<document::Backend>,
    inputs: &DocumentInputs<'_>,
) -> Result<String, Refusal> {
    let is_divided = |backend: &document::Backend| {
        backend.rate.is_some() || backend.messages_per_day.is_some() || backend.connections.is_some()
    };
    let agents = backends.iter().flatten().any(is_divided).then_some(inputs.agents);
    let backends_are_known = backends.is_some();
    let document = Document {
        api_version: API_VERSION.to_owned(),
        route: document::RouteReference {
            namespace: owner.key.namespace.to_string(),
            name: owner.key.name.to_string(),
            uid: owner.uid.to_string(),
        },
        decision: document::Decision { transition, summary: inputs.summary.clone() },
        withdrawn: backends.is_none(),
        backends: backends.unwrap_or_else(|| vec![document::Backend::nowhere()]),
        accounts,
        breaker: Some(breaker(inputs.policy)),
        deliveries: Some(deliveries(inputs.policy)),
        reflex: Some(reflex(inputs.policy)),
        sender_domains: inputs.sender_domains.iter().map(ToString::to_string).collect(),
        operators: inputs.operators.to_vec(),
        agents,
        // By a document that leads nowhere nothing is left to be refused.
        drill: backends_are_known.then(|| inputs.drill.clone()).flatten(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(|error| Refusal::Unreadable(SharedError::new(error)))?;
    // ADR-0044: Check a document for agents before it is written.
    routing::parse(&text)?;
    routing::parse_accounts(&text)?;
    Ok(format!("{text}\n"))
}

/// Lists every backend with its share in whole percents of the placed mail.
// Mail that no backend takes is not withheld, as with every other output.
fn backends(targets: &[Target<'_>], inputs: &DocumentInputs<'_>) -> Vec<document::Backend> {
    let (mut members, mut shares) = (vec![], vec![]);
    for member in &inputs.members {
        let target = targets.iter().find(|target| target.name == member.name);
        members.push(member.clone());
        shares.push(target.map_or(0, |target| target.percent));
    }
    // A backend that has left the route may still carry its mail, until another can take over.
    for target in targets {
        if !inputs.members.iter().any(|member| member.name == target.name) {
            let (name, backend) = (target.name, target.backend);
            let part =
                AgentPart::of(&backend.limits, Senders { carrying: inputs.agents, spilling: 0 }, true, inputs.now);
            let (is_standby, is_alternate, is_trial) = (false, false, false);
            members.push(DocumentMember { name, backend, is_standby, is_alternate, is_trial, part });
            shares.push(target.percent);
        }
    }
    let percents = to_hundred(&shares);
    members.iter().zip(percents).map(|(member, percent)| backend(member, percent)).collect()
}

fn backend(member: &DocumentMember<'_>, percent: u8) -> document::Backend {
    let DocumentMember { name, backend, is_standby, is_alternate, is_trial, part } = member;
    let (host, port) = host_and_port(backend);
    let login = backend.secret.as_ref();
    document::Backend {
        name: (*name).to_owned(),
        percent,
        standby: *is_standby,
        alternate: *is_alternate,
        // One with a share is tried by its breaker.
        trial: *is_trial && percent == 0,
        rate: part.rate,
        messages_per_day: part.messages_per_day,
        connections: part.connections,
        messages_per_connection: backend.limits.messages_per_connection,
        host: host.to_owned(),
        port,
        tls: tls(backend),
        secret: login.map(|login| login.secret.to_string()),
        username_key: login.and_then(|login| login.own_username_key()).map(str::to_owned),
        password_key: login.and_then(|login| login.own_password_key()).map(str::to_owned),
        sender_domains: backend.sender_domains.iter().map(ToString::to_string).collect(),
        provider: backend.replies.provider.as_deref().map(str::to_owned),
        replies: backend.replies.rules.iter().map(Into::into).collect(),
    }
}

fn tls(backend: &Backend) -> document::Tls {
    let (mode, is_verified) = match backend.tls.mode {
        TlsMode::None => (document::TlsMode::None, false),
        TlsMode::Opportunistic => (document::TlsMode::Opportunistic, false),
        TlsMode::StartTls => (document::TlsMode::StartTls, true),
        TlsMode::Implicit => (document::TlsMode::Implicit, true),
    };
    document::Tls {
        mode,
        server_name: is_verified.then(|| backend.tls.server_name.to_string()),
        ca: match &backend.tls.trust {
            TrustAnchors::Pem(pem) if is_verified => Some(String::from_utf8_lossy(pem).into_owned()),
            TrustAnchors::Pem(_) | TrustAnchors::WellKnown => None,
        },
    }
}

fn breaker(policy: &Policy) -> document::Breaker {
    let Breaker { consecutive, first_pause, longest_pause } = policy.breaker;
    document::Breaker {
        consecutive,
        first_pause_milliseconds: milliseconds(first_pause),
        longest_pause_milliseconds: milliseconds(longest_pause),
    }
}

fn deliveries(policy: &Policy) -> document::Deliveries {
    document::Deliveries {
        consecutive: policy.deliveries.consecutive,
        lasting_milliseconds: milliseconds(policy.deliveries.lasting),
        immediately: policy.thresholds.immediate.iter().map(|class| class.as_str().to_owned()).collect(),
        cooldown_milliseconds: milliseconds(policy.hold.cooldown),
    }
}

/// Returns the rules for agents that know no breaker.
// ADR-0118: The breaker replaces the reflex.
fn reflex(policy: &Policy) -> document::Reflex {
    let document::Deliveries { consecutive, lasting_milliseconds, immediately, cooldown_milliseconds } =
        deliveries(policy);
    document::Reflex {
        consecutive,
        lasting_milliseconds,
        immediately,
        cooldown_milliseconds,
        switches: policy.hold.budget.switches.into(),
        per_milliseconds: milliseconds(policy.hold.budget.per),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps one of several backends with the same host and port, with the shares of all: the one that carries most, of
/// equals the more preferred.
// An MTA knows a backend by host and port, so they are one to it.
fn distinct(backends: Vec<document::Backend>) -> (Vec<document::Backend>, Vec<Sharing>) {
    let mut kept: BTreeMap<_, (String, u8, u8)> = BTreeMap::new();
    for backend in &backends {
        let (name, most, total) =
            kept.entry(host_key(backend)).or_insert_with(|| (backend.name.clone(), backend.percent, 0));
        if backend.percent > *most {
            (*name, *most) = (backend.name.clone(), backend.percent);
        }
        *total += backend.percent;
    }
    let (mut told, mut left_out) = (vec![], vec![]);
    for mut backend in backends {
        let Some((name, _, total)) = kept.get(&host_key(&backend)) else { continue };
        if backend.name == *name {
            backend.percent = *total;
            told.push(backend);
        } else {
            let next_hop = routing::NextHop { host: backend.host.as_str().into(), port: backend.port }.to_string();
            left_out.push(Sharing { told: name.clone(), left_out: backend.name, next_hop });
        }
    }
    (told, left_out)
}

fn host_key(backend: &document::Backend) -> (String, u16) {
    (backend.host.to_ascii_lowercase(), backend.port)
}

/// Scales shares to whole percents that add up to 100, by largest remainder; all to the first if the sum is 0.
fn to_hundred(shares: &[u8]) -> Vec<u8> {
    let total: u32 = shares.iter().map(|share| u32::from(*share)).sum();
    if total == 0 {
        return (0..shares.len()).map(|index| if index == 0 { 100 } else { 0 }).collect();
    }
    let exact: Vec<u32> = shares.iter().map(|share| u32::from(*share) * 100).collect();
    let mut percents: Vec<u8> = exact.iter().map(|share| u8::try_from(share / total).unwrap_or(100)).collect();
    let mut left = 100 - percents.iter().map(|percent| u32::from(*percent)).sum::<u32>();
    let mut by_remainder: Vec<_> = (0..shares.len()).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(exact[*index] % total));
    for index in by_remainder {
        if left > 0 {
            percents[index] += 1;
            left -= 1;
        }
    }
    percents
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
