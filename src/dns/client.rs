//! The client that leads zones: by dynamic updates (RFC 2136), by the API of a provider, or by
//! an object that external-dns follows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hickory_resolver::proto::rr::RecordType;
use kube::Client;
use tokio::time::{Instant, sleep, timeout};

use super::api::{ApiAccess, ApiClient};
use super::connection::Connection;
use super::endpoint;
use super::metrics::Metrics;
use super::tokens::Tokens;
use super::{DnsAccess, DnsCall, DnsError, DnsRequest, DnsResult};
use crate::dial::{Dialer, connect};
use crate::leader::{ClaimLost, Leadership};
use crate::probe::StartError;
use mail_failover_core::model::{DNS_PORT, DnsOutput, DnsRecordSet, DnsServer, DnsUpdates};
use mail_failover_dns::mark::mark_name;
use mail_failover_dns::message::{Answer, Request, RequestError};
use mail_failover_dns::plan::{ObservedSet, Plan, name_beside, plan, shows, told};
use mail_failover_dns::record::{name_text, wire_type};
use mail_failover_dns::tsig::TsigKey;
use mail_failover_runtime::clock::unix_seconds;
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_runtime::random;
use mail_failover_smtp::message::bounded;
use mail_failover_smtp::tls::TlsSetups;

/// Time limit of one connection, so that a second address or server has a chance within the attempt's.
const CONNECT: Duration = Duration::from_secs(2);
/// Time for which the authorities are asked again after the first look at them.
// Longer would hold up a newer decision for the same records. A secondary that takes longer is looked at by the next
// attempt.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);
/// First pause between two looks at one authority; each is twice the one before.
const FIRST_LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between two looks at one authority.
const LONGEST_LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Most authorities that are looked at.
const MAX_AUTHORITIES: usize = 16;

/// Outcome of an attempt: the provider has the records.
#[derive(Debug, PartialEq, Eq)]
pub struct Led {
    /// True if anything was written.
    pub is_changed: bool,
    /// Who does not have the records yet, each with what it says instead: authorities, or external-dns. Empty when
    /// everybody has them.
    pub late: Vec<String>,
    /// Number of the authorities.
    pub authorities: usize,
}

/// Makes attempts under the leader's claim. Cheap to clone.
#[derive(Clone)]
pub struct DnsClient(Arc<Shared>);

struct Shared {
    dialer: Dialer,
    /// That of APIs, whose ports are those of webhooks.
    api_dialer: Dialer,
    tls: TlsSetups,
    tokens: Tokens,
    cluster: Client,
    leadership: Leadership,
    metrics: Metrics,
}

/// Settings of a [`DnsClient`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// DNS servers that resolve servers' names; those of `/etc/resolv.conf` if empty.
    pub dns_servers: Vec<SocketAddr>,
    /// Rules about the addresses of DNS servers.
    pub guard: DialGuard,
    /// Rules about the addresses of providers' APIs.
    pub api_guard: DialGuard,
}

impl std::fmt::Debug for DnsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DnsClient")
    }
}

impl DnsClient {
    /// A client that writes objects for external-dns to this cluster.
    ///
    /// # Errors
    /// DNS is not configured.
    pub fn new(
        settings: Settings,
        cluster: Client,
        leadership: Leadership,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let Settings { dns_servers, guard, api_guard } = settings;
        let (dialer, api_dialer) = (Dialer::new(&dns_servers, guard)?, Dialer::new(&dns_servers, api_guard)?);
        let (tls, tokens) = (TlsSetups::default(), Tokens::default());
        Ok(Self(Arc::new(Shared { dialer, api_dialer, tls, tokens, cluster, leadership, metrics })))
    }

    /// Makes an attempt. Counts and logs its result.
    pub async fn carry_out(&self, call: DnsCall) -> DnsResult {
        let DnsCall { number, route, request } = call;
        let output = request.output.name.clone();
        let began = Instant::now();
        // Boxed: large, and there may be many.
        let outcome = Box::pin(self.0.lead_under_claim(&request)).await;
        let took = began.elapsed();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let backend = &*request.backend;
        let result = match &outcome {
            Err(error) => error.category(),
            Ok(led) if !led.late.is_empty() => "late",
            Ok(led) if led.is_changed => "changed",
            Ok(_) => "in_place",
        };
        self.0.metrics.attempted(result);
        match &outcome {
            Ok(led) if !led.late.is_empty() => {
                let late = led.late.join("; ");
                tracing::warn!(%route, output = &*output, backend, millis, late, "authorities do not show DNS records yet");
            }
            Ok(led) if led.is_changed => {
                self.0.metrics.changed(took);
                let authorities = led.authorities;
                tracing::info!(%route, output = &*output, backend, millis, authorities, "DNS records were changed");
            }
            Ok(_) => tracing::debug!(%route, output = &*output, backend, millis, "DNS records are in place"),
            Err(error) => {
                tracing::warn!(%route, output = &*output, backend, millis, category = result, %error, "DNS records could not be led");
            }
        }
        DnsResult { number, route, output, outcome }
    }
}

impl Shared {
    async fn lead_under_claim(&self, request: &DnsRequest) -> Result<Led, DnsError> {
        let claim = self.leadership.claim().ok_or(ClaimLost)?;
        claim.guard(self.lead(request)).await?
    }

    async fn lead(&self, request: &DnsRequest) -> Result<Led, DnsError> {
        let output = &*request.output;
        let deadline = Instant::now() + output.timeout;
        let (is_changed, authorities) = match &request.access {
            DnsAccess::Updates(updates, key) => {
                self.change_at_first_that_serves(request, updates, key, deadline).await?
            }
            DnsAccess::Endpoint(object, route) => {
                let leading = endpoint::lead(&self.cluster, request, object, route);
                let led = timeout(output.timeout, leading).await;
                let endpoint::LedEndpoint { is_changed, untaken } = led.unwrap_or_else(|_elapsed| {
                    Err(DnsError::Timeout { limit: output.timeout, server: "the API server".to_owned() })
                })?;
                if is_changed {
                    self.metrics.updated();
                }
                if let Some(untaken) = untaken {
                    return Ok(Led { is_changed, late: vec![untaken], authorities: output.authorities.len() });
                }
                (is_changed, output.authorities.clone())
            }
            DnsAccess::Api(api, secret, trust) => {
                let led =
                    timeout(output.timeout, self.api_client().lead(request, ApiAccess { api, secret, trust })).await;
                let is_changed = led.unwrap_or_else(|_elapsed| {
                    Err(DnsError::Timeout { limit: output.timeout, server: api.service.url().to_owned() })
                })?;
                (is_changed, self.authorities(output).await?)
            }
        };
        let shown_by = (Instant::now() + SHOWN_WITHIN).min(deadline.max(Instant::now() + FIRST_LOOK_PAUSE));
        let sets = output.sets_of(&request.backend).unwrap_or_default();
        let looks = authorities.iter().map(|server| self.until_shown(server, output, sets, shown_by));
        let late: Vec<_> = join_all(looks).await.into_iter().flatten().collect();
        if let DnsAccess::Api(api, secret, trust) = &request.access
            && !late.is_empty()
            && !is_changed
        {
            // Whoever wrote the records may have stopped before their publication.
            let client = self.api_client();
            let published = client.publish(request, ApiAccess { api, secret, trust });
            timeout(output.timeout, published).await.unwrap_or(Ok(()))?;
        }
        Ok(Led { is_changed, late, authorities: authorities.len() })
    }

    fn api_client(&self) -> ApiClient<'_> {
        ApiClient { dialer: &self.api_dialer, tls: &self.tls, tokens: &self.tokens, metrics: &self.metrics }
    }

    /// The servers that have to answer with the records of a zone at a provider.
    async fn authorities(&self, output: &DnsOutput) -> Result<Vec<DnsServer>, DnsError> {
        if !output.authorities.is_empty() {
            return Ok(output.authorities.clone());
        }
        let hosts = self.dialer.name_servers(&output.zone).await;
        let hosts = hosts.map_err(|error| DnsError::NoAuthorities(Box::new(error)))?;
        let hosts = hosts.into_iter().take(MAX_AUTHORITIES);
        Ok(hosts.map(|host| DnsServer { host: host.into(), port: DNS_PORT }).collect())
    }

    /// Leads the zone at the first server that answers and does not refuse. Returns true if it was changed, and the
    /// authorities to look at.
    async fn change_at_first_that_serves(
        &self,
        request: &DnsRequest,
        DnsUpdates { servers, secret: _ }: &DnsUpdates,
        key: &TsigKey,
        deadline: Instant,
    ) -> Result<(bool, Vec<DnsServer>), DnsError> {
        let names = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut failed = DnsError::Timeout { limit: request.output.timeout, server: names };
        for (index, server) in servers.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(servers.len() - index).unwrap_or(1);
            let changed = timeout(share, self.change(server, request, key)).await;
            match changed.unwrap_or_else(|_elapsed| Err(DnsError::Timeout { limit: share, server: server.to_string() }))
            {
                Err(error) if error.is_of_this_server() => failed = failed.or(error),
                done => return done,
            }
        }
        Err(failed)
    }

    async fn change(
        &self,
        server: &DnsServer,
        request: &DnsRequest,
        key: &TsigKey,
    ) -> Result<(bool, Vec<DnsServer>), DnsError> {
        let DnsRequest { output, backend, owner, access: _ } = request;
        let mut connection = self.connected(server).await?;
        let sets = output.sets_of(backend).unwrap_or_default();
        let mut questions = vec![];
        for set in sets {
            questions.push((set.name.to_string(), wire_type(set.record_type)));
            questions.push((mark_name(&set.name, set.record_type), RecordType::TXT));
        }
        questions.push((output.zone.to_string(), RecordType::NS));
        let answers = asked(&mut connection, server, &questions, Some(key)).await?;
        let mut observed = vec![];
        for (set, pair) in sets.iter().zip(answers.chunks(2)) {
            let [records, marks] = pair else { continue };
            observed.push(ObservedSet {
                marks: marks.records(&mark_name(&set.name, set.record_type), RecordType::TXT),
                ..seen(set, records)
            });
        }
        let authorities = match output.authorities.as_slice() {
            [] => answers.last().map(|answer| name_servers(answer, output)).unwrap_or_default(),
            named => named.to_vec(),
        };
        let mut planned = plan(output, backend, owner, &observed).map_err(RequestError::from)?;
        // Without an answer the conflict stands.
        if matches!(planned, Plan::Conflict(_))
            && let Ok(wild) = wildcards(&mut connection, server, output, sets, key).await
        {
            let seen = observed.into_iter().zip(&wild).map(|(seen, beside)| seen.without_wildcards(beside));
            let seen: Vec<_> = seen.collect();
            planned = plan(output, backend, owner, &seen).map_err(RequestError::from)?;
        }
        match planned {
            Plan::InPlace => Ok((false, authorities)),
            Plan::Conflict(conflicts) => Err(DnsError::Conflict(conflicts)),
            Plan::Write(update) => {
                let update = Request::update(ids(), &output.zone, &update, key, now())?;
                let answers = connection.ask(vec![update]).await;
                let answers = answers.map_err(|source| DnsError::Ended { server: server.clone(), source })?;
                for answer in answers {
                    answer.map_err(|source| DnsError::Answer { server: server.clone(), source })?;
                }
                self.metrics.updated();
                Ok((true, authorities))
            }
        }
    }

    async fn connected(&self, server: &DnsServer) -> Result<Connection, DnsError> {
        let unreachable = |source| DnsError::Unreachable { server: server.clone(), source: Box::new(source) };
        let judged = self.dialer.judge(&server.host, server.port).await.map_err(unreachable)?;
        for refusal in &judged.refused {
            self.metrics.refused_destination(refusal.rule());
        }
        let addresses = judged.usable().map_err(unreachable)?;
        connect(&server.host, &addresses, CONNECT).await.map(Connection::new).map_err(unreachable)
    }

    /// Looks at an authority until it shows the record sets, or time is over. Returns what it says instead.
    async fn until_shown(
        &self,
        server: &DnsServer,
        output: &DnsOutput,
        sets: &[DnsRecordSet],
        until: Instant,
    ) -> Option<String> {
        let mut pause = FIRST_LOOK_PAUSE;
        let mut said = format!("{server} does not answer");
        let mut connection = None;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            let looked = timeout(left, async {
                let open = match &mut connection {
                    Some(open) => open,
                    closed => closed.insert(self.connected(server).await?),
                };
                look(open, server, output, sets).await
            });
            match looked.await {
                Ok(Ok(None)) => return None,
                Ok(Ok(Some(instead))) => said = instead,
                Ok(Err(error)) => {
                    said = error.to_string();
                    connection = None;
                }
                Err(_elapsed) => break,
            }
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(LONGEST_LOOK_PAUSE);
        }
        Some(bounded(&said, 300))
    }
}

/// Looks at the record sets at an authority once. Returns what it says instead of them.
async fn look(
    connection: &mut Connection,
    server: &DnsServer,
    output: &DnsOutput,
    sets: &[DnsRecordSet],
) -> Result<Option<String>, DnsError> {
    let questions: Vec<_> = sets.iter().map(|set| (set.name.to_string(), wire_type(set.record_type))).collect();
    let answers = asked(connection, server, &questions, None).await?;
    for (set, answer) in sets.iter().zip(&answers) {
        let seen = seen(set, answer);
        if !shows(set, output.ttl, &seen) {
            let instead = match &seen.alias {
                Some(target) => format!("an alias of {target}"),
                None => told(&seen.records),
            };
            let record_type = set.record_type.as_str();
            return Ok(Some(format!("{server} still says {instead} for {} {record_type}", set.name)));
        }
    }
    Ok(None)
}

/// Asks for records, all at once.
async fn asked(
    connection: &mut Connection,
    server: &DnsServer,
    questions: &[(String, RecordType)],
    key: Option<&TsigKey>,
) -> Result<Vec<Answer>, DnsError> {
    let (first, now) = (ids(), now());
    let mut requests = vec![];
    for (name, record_type) in questions {
        let id = first.wrapping_add(u16::try_from(requests.len()).unwrap_or_default());
        requests.push(Request::question(id, name, *record_type, key, now)?);
    }
    let answers = connection.ask(requests).await;
    let answers = answers.map_err(|source| DnsError::Ended { server: server.clone(), source })?;
    let answers: Result<_, _> = answers.into_iter().collect();
    answers.map_err(|source| DnsError::Answer { server: server.clone(), source })
}

/// Asks for the same types beside each record set and beside its mark, at names that nobody uses: what is there was put
/// there by wildcards.
async fn wildcards(
    connection: &mut Connection,
    server: &DnsServer,
    output: &DnsOutput,
    sets: &[DnsRecordSet],
    key: &TsigKey,
) -> Result<Vec<ObservedSet>, DnsError> {
    let label = format!("mail-failover-{:016x}", random::bits());
    let (mut names, mut questions) = (vec![], vec![]);
    for set in sets {
        let own = name_beside(&set.name, &output.zone, &label);
        let mark = name_beside(&mark_name(&set.name, set.record_type), &output.zone, &label);
        questions.extend(own.iter().map(|name| (name.clone(), wire_type(set.record_type))));
        questions.extend(mark.iter().map(|name| (name.clone(), RecordType::TXT)));
        names.push((own, mark));
    }
    let mut answers = asked(connection, server, &questions, Some(key)).await?.into_iter();
    let mut wild = vec![];
    for (set, (own, mark)) in sets.iter().zip(names) {
        let mut beside = ObservedSet::default();
        if let Some(name) = own
            && let Some(answer) = answers.next()
        {
            beside = seen(&DnsRecordSet { name: name.into(), ..set.clone() }, &answer);
        }
        if let Some(name) = mark
            && let Some(answer) = answers.next()
        {
            beside.marks = answer.records(&name, RecordType::TXT);
        }
        wild.push(beside);
    }
    Ok(wild)
}

/// A record set in an answer, without its mark.
fn seen(set: &DnsRecordSet, answer: &Answer) -> ObservedSet {
    let record_type = wire_type(set.record_type);
    let alias = answer.alias(&set.name).filter(|_| record_type != RecordType::CNAME);
    ObservedSet {
        records: answer.records(&set.name, record_type),
        marks: vec![],
        alias: alias.map(|target| name_text(&target)),
    }
}

/// The servers that the zone names.
fn name_servers(answer: &Answer, output: &DnsOutput) -> Vec<DnsServer> {
    let hosts = answer.name_servers(&output.zone).into_iter().take(MAX_AUTHORITIES);
    hosts.map(|host| DnsServer { host: host.into(), port: DNS_PORT }).collect()
}

/// An id for a message, from which others count on.
// Over TCP nobody guesses it; it tells answers apart.
fn ids() -> u16 {
    u16::try_from(random::bits() >> 48).unwrap_or_default()
}

fn now() -> u64 {
    u64::try_from(unix_seconds()).unwrap_or_default()
}
