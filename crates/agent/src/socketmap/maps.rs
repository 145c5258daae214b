//! The maps: which question gets which answer. Pure: everything is in a [`View`], and credentials are only named.
//!
//! | map | for | key | answer |
//! |---|---|---|---|
//! | `transport` | `transport_maps` | recipient | the backend's transport and next hop |
//! | `sender-transport` | `sender_dependent_default_transport_maps` | sender | the same, among those that may send for its domain |
//! | `sasl` | `smtp_sasl_password_maps` | next hop | `username:password` |
//! | `tls-policy` | `smtp_tls_policy_maps` | next hop | how TLS is spoken |
//! | `delivery-status` | `smtp_delivery_status_filter` | `D.S.N text` | the same as a temporary failure, when a standby could take the mail |
//! | `intake` | `smtpd_end_of_data_restrictions` | any | whether a message is accepted |

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::local::LocalDomains;
use super::reply::Reply;
use crate::answers::Answers;
use crate::supervise::Intake;
use mail_failover_contract::routing::{Backend, Routing, Tls, Verification};

/// The service of master.cf that speaks TLS from the first byte, which `smtp` cannot; `agent postfix-config` prints it.
pub const IMPLICIT_TLS_TRANSPORT: &str = "mail-failover-smtps";
/// Backends that were in an earlier document and whose mail may still be on its way.
const MAX_RETIRED: usize = 100;

/// What answers are made from: replaced as a whole, so that no answer mixes two decisions.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Where mail goes; nothing before the first document.
    pub answers: Option<Arc<Answers>>,
    /// What is waited for until then, in words.
    pub waiting_for: String,
    /// Backends of earlier documents. A message that Postfix was about to send there when they were removed must meet the login and
    /// the TLS that it was meant for, and neither go out in clear text nor bounce for want of a login.
    pub retired: Vec<Backend>,
    /// Where the certificates of private authorities lie, or why they do not; by their PEM text.
    pub authorities: BTreeMap<Arc<str>, Result<PathBuf, String>>,
}

impl View {
    /// The view after this one.
    #[must_use]
    pub fn next(&self, answers: Arc<Answers>, authorities: BTreeMap<Arc<str>, Result<PathBuf, String>>) -> Self {
        let before = self.answers.iter().flat_map(|answers| &answers.routing.backends);
        let mut retired: Vec<Backend> = vec![];
        for backend in before.chain(&self.retired) {
            let is_it = |other: &Backend| other.next_hop == backend.next_hop;
            if !answers.routing.backends.iter().any(is_it) && !retired.iter().any(is_it) {
                retired.push(backend.clone());
            }
        }
        retired.truncate(MAX_RETIRED);
        Self { answers: Some(answers), waiting_for: String::new(), retired, authorities }
    }

    /// The backends of which Postfix may ask.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.answers.iter().flat_map(|answers| &answers.routing.backends).chain(&self.retired)
    }

    fn backend_at(&self, next_hop: &str) -> Option<&Backend> {
        // Without formatting every next hop: most questions are about none of ours.
        if !next_hop.starts_with('[') {
            return None;
        }
        self.backends().find(|backend| backend.next_hop.to_string().eq_ignore_ascii_case(next_hop))
    }
}

/// The maps there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Map {
    /// See the table above, as for all of them.
    Transport,
    /// For mail that is sent by a domain.
    SenderTransport,
    /// Logins.
    Sasl,
    /// TLS.
    TlsPolicy,
    /// The shield.
    DeliveryStatus,
    /// Whether new mail is accepted.
    Intake,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Transport, Self::SenderTransport, Self::Sasl, Self::TlsPolicy, Self::DeliveryStatus, Self::Intake];

    /// Its name in requests, in main.cf and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::SenderTransport => "sender-transport",
            Self::Sasl => "sasl",
            Self::TlsPolicy => "tls-policy",
            Self::DeliveryStatus => "delivery-status",
            Self::Intake => "intake",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|map| map.as_str() == name)
    }
}

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Reply(Reply),
    /// The login in this Secret.
    Login(Arc<str>),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Turns the delivery status `D.S.N text` of a permanent failure into another, or leaves it.
pub type Shield = fn(&Answers, &str) -> Option<String>;

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Domains whose mail is none of ours.
    pub local_domains: LocalDomains,
    /// The delivery status filter.
    pub shield: Shield,
    /// Whether new mail is accepted.
    pub intake: Intake,
}

/// The map that is asked, if there is such a one, and its answer.
pub fn answer(view: &View, fixed: &Fixed, request: &[u8]) -> (Option<Map>, Answer) {
    let Some((name, key)) = std::str::from_utf8(request).ok().and_then(|request| request.split_once(' ')) else {
        return (None, permanent("a request is the name of a map, a blank and a key in UTF-8"));
    };
    let Some(map) = Map::named(name) else {
        let names = Map::ALL.map(Map::as_str).join(", ");
        return (None, permanent(&format!("there is no such map; the maps are {names}")));
    };
    // Mail that is none of ours does not wait for a document, neither to be routed nor to be accepted.
    if map == Map::Intake {
        return (Some(map), intake(fixed));
    }
    if map == Map::Transport && !is_routed(fixed, key) {
        return (Some(map), Reply::NotFound.into());
    }
    let Some(answers) = &view.answers else {
        return (Some(map), temporary(format!("mail-failover agent: {}", view.waiting_for)));
    };
    let answer = match map {
        Map::Transport => transport(answers.backend_for(key, |_| true), &answers.routing),
        Map::SenderTransport => sender_transport(answers, key),
        Map::Sasl => match view.backend_at(key).map(|backend| &backend.secret) {
            Some(Some(secret)) => Answer::Login(secret.clone()),
            Some(None) | None => Reply::NotFound.into(),
        },
        Map::TlsPolicy => view.backend_at(key).map_or(Reply::NotFound, |backend| tls_policy(view, backend)).into(),
        Map::Intake => intake(fixed),
        Map::DeliveryStatus => (fixed.shield)(answers, key).map_or(Reply::NotFound, Reply::Found).into(),
    };
    (Some(map), answer)
}

/// Whether it is a recipient that a backend could take mail for. `*`, which is asked once at the start and kept for 30 s, must not
/// have an answer, or that answer would outlive a switch.
fn is_routed(fixed: &Fixed, recipient: &str) -> bool {
    match recipient.rsplit_once('@') {
        Some((local_part, domain)) => {
            !local_part.is_empty() && !domain.is_empty() && !fixed.local_domains.contain(domain)
        }
        None => false,
    }
}

fn transport(backend: Option<&Backend>, routing: &Routing) -> Answer {
    let Some(Backend { next_hop, tls, .. }) = backend else {
        return temporary(format!("mail-failover agent: no backend of {} has a share at present", routing.route));
    };
    let transport = match tls {
        Tls::None | Tls::Opportunistic | Tls::StartTls(_) => "smtp",
        Tls::Implicit(_) => IMPLICIT_TLS_TRANSPORT,
    };
    Reply::Found(format!("{transport}:{next_hop}")).into()
}

fn sender_transport(answers: &Answers, sender: &str) -> Answer {
    let may_send_any = |backend: &Backend| backend.sender_domains.is_empty();
    let backend = match sender.rsplit_once('@') {
        Some((_, domain)) => {
            let domain = domain.to_ascii_lowercase();
            answers.backend_for(sender, |backend| {
                may_send_any(backend) || backend.sender_domains.iter().any(|allowed| **allowed == *domain)
            })
        }
        // The null sender of bounces (RFC 5321, 4.5.5) is of no domain: whoever may send anything goes first.
        None => answers.backend_for(sender, may_send_any).or_else(|| answers.backend_for(sender, |_| true)),
    };
    if backend.is_none() && answers.percents.iter().any(|percent| *percent > 0) {
        let route = &answers.routing.route;
        return temporary(format!("mail-failover agent: no backend of {route} with a share may send for this domain"));
    }
    transport(backend, &answers.routing)
}

/// See `smtp_tls_policy_maps` in postconf(5).
fn tls_policy(view: &View, backend: &Backend) -> Reply {
    let Verification { server_name, ca } = match &backend.tls {
        Tls::None => return Reply::Found("none".to_owned()),
        Tls::Opportunistic => return Reply::Found("may".to_owned()),
        Tls::StartTls(verification) | Tls::Implicit(verification) => verification,
    };
    let Some(ca) = ca else { return Reply::Found(format!("secure match={server_name}")) };
    match view.authorities.get(ca) {
        Some(Ok(file)) => Reply::Found(format!("secure match={server_name} tafile={}", file.display())),
        // Never without the authority: that would be another way to verify than the one that was asked for.
        Some(Err(error)) => {
            Reply::Temporary(format!("mail-failover agent: the authority of {}: {error}", backend.name))
        }
        None => Reply::Temporary(format!("mail-failover agent: the authority of {} is not written yet", backend.name)),
    }
}

/// See access(5).
fn intake(fixed: &Fixed) -> Answer {
    Reply::Found(fixed.intake.action().to_owned()).into()
}

fn temporary(reason: String) -> Answer {
    Reply::Temporary(reason).into()
}

fn permanent(reason: &str) -> Answer {
    Reply::Permanent(reason.to_owned()).into()
}

#[cfg(test)]
#[path = "maps_tests.rs"]
mod tests;
