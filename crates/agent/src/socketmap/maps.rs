//! Maps: the requests of Postfix, and their answers. Pure: everything is in a [`SocketmapView`], and credentials are
//! only named.
//!
//! | map | for | key | answer |
//! |---|---|---|---|
//! | `transport` | `transport_maps` | recipient | the transport and next hop of the backend, and of its alternates |
//! | `sender-transport` | `sender_dependent_default_transport_maps` | sender | the same, among those that may send for its domain |
//! | `sasl` | `smtp_sasl_password_maps` | next hop | `username:password` |
//! | `tls-policy` | `smtp_tls_policy_maps` | next hop | the TLS policy |
//! | `delivery-status` | `smtp_delivery_status_filter` | `D.S.N text` | the same as a temporary failure, when another backend could take the mail, or the refusal is about our account |
//! | `reply-filter` | `smtp_reply_filter`, of 5xx only | a line of a reply | a temporary line, if another backend may take the message within the attempt |
//! | `intake` | `smtpd_end_of_data_restrictions` | any | `DUNNO`, or the refusal of the message |

use std::fmt::Write as _;
use std::sync::Arc;

use mail_failover_contract::routing::{RouteBackend, Routing, TlsPolicy, Verification};

use super::reply::MapReply;
use crate::authorities::AuthorityFiles;
use crate::domains::LocalDomains;
use crate::shield::{ReplyLines, passed_on};
use crate::supervise::Intake;
use mail_failover_core::model::LoginReference;
use mail_failover_dataplane::answers::{Answers, sends_for, sends_for_any};

/// Service of master.cf that speaks TLS from the first byte, which `smtp` cannot; `agent postfix-config` prints it.
pub const IMPLICIT_TLS_TRANSPORT: &str = "mail-failover-smtps";
/// Limit of the backends of earlier documents that are kept. Their mail may still be on its way.
const MAX_RETIRED: usize = 100;

/// Everything from which answers are made. It is replaced as a whole, so that no answer mixes two decisions.
#[derive(Clone, Debug, Default)]
pub struct SocketmapView {
    /// Shares of the backends; `None` before the first document.
    pub answers: Option<Arc<Answers>>,
    /// Reason for having no document yet, in words.
    pub waiting_for: String,
    /// Backends of earlier documents.
    // Postfix may be about to send a message to a backend that was just removed. That message must meet the login and
    // the TLS that it was meant for. It must neither go out in clear text nor bounce because no login is found.
    pub retired: Vec<RouteBackend>,
    /// Certificate file of each private authority, or the error of writing it, by PEM text.
    pub authorities: AuthorityFiles,
}

impl SocketmapView {
    /// The view after this one.
    #[must_use]
    pub fn next(&self, answers: Arc<Answers>, authorities: AuthorityFiles) -> Self {
        let before = self.answers.iter().flat_map(|answers| &answers.routing.backends);
        let mut retired: Vec<RouteBackend> = vec![];
        for backend in before.chain(&self.retired) {
            let mut known = answers.routing.backends.iter().chain(&retired);
            if known.all(|other| other.next_hop != backend.next_hop) {
                retired.push(backend.clone());
            }
        }
        retired.truncate(MAX_RETIRED);
        Self { answers: Some(answers), waiting_for: String::new(), retired, authorities }
    }

    /// The backends of which Postfix may ask.
    pub fn backends(&self) -> impl Iterator<Item = &RouteBackend> {
        self.answers.iter().flat_map(|answers| &answers.routing.backends).chain(&self.retired)
    }

    /// The backend at a next hop in Postfix's notation.
    pub fn backend_at(&self, next_hop: &str) -> Option<&RouteBackend> {
        // Most requests are about none of ours; this avoids formatting every next hop.
        if !next_hop.starts_with('[') {
            return None;
        }
        self.backends().find(|backend| backend.next_hop.to_string().eq_ignore_ascii_case(next_hop))
    }
}

/// The maps there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Map {
    /// Backend by the recipient of a message.
    Transport,
    /// Backend by the sender of a message.
    SenderTransport,
    /// Login at a backend.
    Sasl,
    /// TLS policy of a backend.
    TlsPolicy,
    /// Delivery status: the shield.
    DeliveryStatus,
    /// Line of a reply.
    ReplyFilter,
    /// Intake of new mail.
    Intake,
}

impl Map {
    /// All maps, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Transport,
        Self::SenderTransport,
        Self::Sasl,
        Self::TlsPolicy,
        Self::DeliveryStatus,
        Self::ReplyFilter,
        Self::Intake,
    ];

    /// Name in requests, in main.cf and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::SenderTransport => "sender-transport",
            Self::Sasl => "sasl",
            Self::TlsPolicy => "tls-policy",
            Self::DeliveryStatus => "delivery-status",
            Self::ReplyFilter => "reply-filter",
            Self::Intake => "intake",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|map| map.as_str() == name)
    }
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapAnswer {
    /// Complete answer, without a login.
    Reply(MapReply),
    /// The login in this Secret.
    Login(LoginReference),
}

impl From<MapReply> for MapAnswer {
    fn from(reply: MapReply) -> Self {
        Self::Reply(reply)
    }
}

/// Turns the delivery status `D.S.N text` of a permanent failure into another, or leaves it. The backends are those of
/// earlier documents.
pub type Shield = fn(&Answers, &[RouteBackend], &str) -> Option<String>;

/// Parts that do not change while the agent runs.
#[derive(Clone, Debug)]
pub struct MapSettings {
    /// Domains whose mail Postfix delivers by its own rules.
    pub local_domains: LocalDomains,
    /// The delivery status filter.
    pub shield: Shield,
    /// State of accepting new mail.
    pub intake: Intake,
}

/// Answers a request. Returns the map that is asked as well, if there is such a map. `spent` are the backends that take
/// nothing at present that another one does not take. `lines` are those of the connection that the request came by.
pub fn answer(
    view: &SocketmapView,
    settings: &MapSettings,
    spent: &[Arc<str>],
    lines: &mut ReplyLines,
    request: &[u8],
) -> (Option<Map>, MapAnswer) {
    // Where smtputf8_enable is off, an address may have any byte in it. Its mail is routed all the same: an error of the
    // map would keep it in the queue for days.
    let text = String::from_utf8_lossy(request);
    let Some((name, key)) = text.split_once(' ') else {
        return (None, permanent("a request is the name of a map, a blank and a key"));
    };
    let Some(map) = Map::named(name) else {
        let names = Map::ALL.map(Map::as_str).join(", ");
        return (None, permanent(&format!("there is no such map; the maps are {names}")));
    };
    // Mail that Postfix delivers by its own rules waits for no document, neither to be routed nor to be accepted.
    if map == Map::Intake {
        return (Some(map), intake(settings));
    }
    if map == Map::Transport && !is_routed(settings, key) {
        return (Some(map), MapReply::NotFound.into());
    }
    let Some(answers) = &view.answers else {
        if map == Map::ReplyFilter {
            return (Some(map), MapReply::NotFound.into());
        }
        return (Some(map), temporary(format!("mail-failover agent: {}", view.waiting_for)));
    };
    let answer = match map {
        Map::Transport | Map::SenderTransport if answers.routing.is_withdrawn => withdrawn(&answers.routing),
        Map::Transport => transport(&until_spent(answers.ways_for_recipient(key), spent), &answers.routing),
        Map::SenderTransport => sender_transport(answers, spent, key),
        Map::Sasl => match view.backend_at(key).map(|backend| &backend.secret) {
            Some(Some(secret)) => MapAnswer::Login(secret.clone()),
            Some(None) | None => MapReply::NotFound.into(),
        },
        Map::TlsPolicy => view.backend_at(key).map_or(MapReply::NotFound, |backend| tls_policy(view, backend)).into(),
        Map::Intake => intake(settings),
        Map::ReplyFilter => {
            let replaced = lines.take(key).and_then(|whole| passed_on(key, &whole, answers));
            replaced.map_or(MapReply::NotFound, MapReply::Found).into()
        }
        Map::DeliveryStatus => {
            let replaced = (settings.shield)(answers, &view.retired, key);
            // ADR-0170: The static table, which knows less, has no say about what the agent leaves as it is.
            let unchanged = || key.starts_with('5').then(|| key.to_owned());
            replaced.or_else(unchanged).map_or(MapReply::NotFound, MapReply::Found).into()
        }
    };
    (Some(map), answer)
}

/// Returns true if a backend could take mail for this recipient.
fn is_routed(settings: &MapSettings, recipient: &str) -> bool {
    // `*` is asked once at the start and kept for 30 s. An answer to it would outlive a switch.
    match recipient.rsplit_once('@') {
        Some((local_part, domain)) => {
            !local_part.is_empty() && !domain.is_empty() && !settings.local_domains.contain(domain)
        }
        None => false,
    }
}

/// Leaves out those of the backends after the first that are spent.
fn until_spent<'a>(mut ways: Vec<&'a RouteBackend>, spent: &[Arc<str>]) -> Vec<&'a RouteBackend> {
    let first = ways.first().map(|first| first.name.clone());
    ways.retain(|backend| Some(&backend.name) == first.as_ref() || !spent.contains(&backend.name));
    ways
}

/// Answers with a list of next hops, which Postfix tries in turn within one attempt (transport(5)).
fn transport(ways: &[&RouteBackend], routing: &Routing) -> MapAnswer {
    let Some((first, alternates)) = ways.split_first() else {
        return temporary(format!("mail-failover agent: no backend of {} has a share at present", routing.route));
    };
    let transport = if first.tls.is_implicit() { IMPLICIT_TLS_TRANSPORT } else { "smtp" };
    let mut answer = format!("{transport}:{}", first.next_hop);
    for alternate in alternates {
        // Writing to a String cannot fail.
        let _ = write!(answer, ", {}", alternate.next_hop);
    }
    MapReply::Found(answer).into()
}

fn sender_transport(answers: &Answers, spent: &[Arc<str>], sender: &str) -> MapAnswer {
    let ways = until_spent(answers.ways_for_sender(sender), spent);
    let route = &answers.routing.route;
    if ways.is_empty() && !may_ever_leave(&answers.routing, sender) {
        // error(8) returns the message with these words. No switch would let it leave.
        return MapReply::Found(format!("error:5.7.1 no backend of {route} may send for this domain")).into();
    }
    if ways.is_empty() && answers.percents.iter().any(|percent| *percent > 0) {
        return temporary(format!("mail-failover agent: no backend of {route} with a share may send for this domain"));
    }
    transport(&ways, &answers.routing)
}

/// Returns true if a backend of the document, with a share or without, may send for the domain of this sender.
fn may_ever_leave(routing: &Routing, sender: &str) -> bool {
    // Postfix knows no domain of a bounce, and any backend may send one.
    let Some((_, domain)) = sender.rsplit_once('@') else { return true };
    let domain = domain.to_ascii_lowercase();
    routing.backends.iter().any(|backend| sends_for_any(backend) || sends_for(backend, &domain))
}

/// Answers with Postfix's own way to defer (error(8)): mail is accepted and waits in the queue, with these words.
// A temporary error of the map would make smtpd refuse new mail.
// ADR-0100: A document can say that nobody may carry the mail.
fn withdrawn(routing: &Routing) -> MapAnswer {
    MapReply::Found(format!("retry:4.7.1 nobody may carry the mail of {} at present", routing.route)).into()
}

/// Answers as `smtp_tls_policy_maps` in postconf(5) has it.
fn tls_policy(view: &SocketmapView, backend: &RouteBackend) -> MapReply {
    let Verification { server_name, ca } = match &backend.tls {
        TlsPolicy::None => return MapReply::Found("none".to_owned()),
        TlsPolicy::Opportunistic => return MapReply::Found("may".to_owned()),
        TlsPolicy::StartTls(verification) | TlsPolicy::Implicit(verification) => verification,
    };
    let Some(ca) = ca else { return MapReply::Found(format!("secure match={server_name}")) };
    match view.authorities.get(ca) {
        Some(Ok(file)) => MapReply::Found(format!("secure match={server_name} tafile={}", file.display())),
        // An answer without the authority would verify in another way than the one that was asked for.
        Some(Err(error)) => {
            MapReply::Temporary(format!("mail-failover agent: the authority of {}: {error}", backend.name))
        }
        None => {
            MapReply::Temporary(format!("mail-failover agent: the authority of {} is not written yet", backend.name))
        }
    }
}

/// Answers with an action of access(5).
fn intake(settings: &MapSettings) -> MapAnswer {
    MapReply::Found(settings.intake.action().to_owned()).into()
}

fn temporary(reason: String) -> MapAnswer {
    MapReply::Temporary(reason).into()
}

fn permanent(reason: &str) -> MapAnswer {
    MapReply::Permanent(reason.to_owned()).into()
}

#[cfg(test)]
#[path = "maps_tests.rs"]
mod tests;
