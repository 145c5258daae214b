//! The prober: probes every address of every backend at an interval, and reports the results.
//!
//! ```text
//! Prober::set ─▶ schedule ─▶ round ─▶ resolve ─▶ place ─▶ dialogue (per address) ─▶ classify ─▶ ProbeReport
//! ```
//!
//! Architecture invariants:
//!
//! - This module never decides: thresholds, verdicts and switches are the engine's. It never talks to Kubernetes.
//! - It never sends mail: a dialogue ends before DATA.
//! - It sends credentials only for depths from `Auth` on, over TLS or where the user has allowed plain text. No report,
//!   message or log line contains a part of them.
//! - A failure on our own side (no route, no socket, a silent DNS resolver, too little processor time) is reported as
//!   `Inconclusive`; a missing login, a refused name in EHLO, a TLS that we do not speak or an address that may not be
//!   connected to as `ProbeBlocked`; a refusal of
//!   too many log-ins as `Throttled`. None of them is ever reported as the backend's failure.
//! - Probes that are identical are made once, and all who asked hear of it ([`subscribers`]).
//! - A dialogue ends when nobody asks for it any more.
//! - The end of an idle session ([`idle`]) asks for a look. By itself it is never reported.
//! - No dialogue is begun with an address that [`admit`] has not admitted, in this round and after resolution.
//!
//! Bounds, each with a metric that shows when it is reached:
//!
//! | bound | beyond it | metric |
//! |---|---|---|
//! | [`Settings::concurrency`] dialogues under way, in fair shares ([`shares`]) | a dialogue waits before its timeout begins | `place_waits{cause="Dialogues"}` |
//! | dialogues with one address, under way and begun in a second | the same | `place_waits{cause="DialoguesAtAddress"}` |
//! | log-ins at one address, under way and begun in a second | the same | `place_waits{cause="LoginsAtAddress"}` |
//! | the interval (5 s to 60 s) as the longest wait for a place | the round is inconclusive | `late_rounds` |
//! | ten rounds of one probe under way | the round is skipped | `skipped_rounds` |
//! | [`MAX_ADDRESSES`] addresses in a round | later rounds try the others in turn | `skipped_addresses` |
//! | idle sessions, in fair shares | there is none, and the interval notices what it does | `idle_session_refusals` |
//! | looks after the ends of idle sessions: three at once, one in an interval | the interval brings one | `idle_looks_left_out` |
//! | look-ups under way | the last known addresses serve | `lookups{result="skipped"}` |
//! | the queue of reports | the round waits | `report_waits` |
//! | log-ins that the backend calls too many | rounds end before AUTH for a while ([`MAX_LOGIN_PAUSE`] at most) | `postponed_logins` |

mod admission;
mod identity;
mod idle;
mod login_pace;
mod metrics;
mod places;
mod resolve;
mod round;
mod runner;
mod schedule;
mod shares;
mod silence;
mod subscribers;
mod timing;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

pub use admission::{Admitted, admit};
pub use login_pace::MAX_LOGIN_PAUSE;
pub use mail_failover_smtp::message::printable;
pub use metrics::Metrics;
pub use resolve::{FIRST_LOOKUP_DEADLINE, StartError, absolute, dns_client};
pub use round::{MAX_ADDRESSES, outcome_over};
pub use schedule::Prober;

use prometheus_client::registry::Registry;
use round::Rounds;
use runner::{RoundTerms, Runner};

use mail_failover_core::engine::ConfirmationRule;
use mail_failover_core::model::{Depth, Destination, Envelope, ProbeKey, ProbeLogin, ProbeReport, ReplyRules, Tls};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::dial_guard::DialGuard;

/// A probe's destination and settings. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The probe and its backend.
    pub key: ProbeKey,
    /// Revision of the target, which reports carry. It changes when any other field does, apart from the endpoints of a
    /// Service.
    pub revision: u64,
    /// The backend's host or Service.
    pub destination: Destination,
    /// TLS mode, server name and trust anchors.
    pub tls: Tls,
    /// Time from the start of a round to the start of the next.
    pub interval: Duration,
    /// Limit for each wait for the server in a dialogue.
    pub timeout: Duration,
    /// Last stage of a dialogue.
    pub depth: Depth,
    /// Addresses for MAIL FROM and RCPT TO.
    pub envelope: Envelope,
    /// Login for depths from `Auth` on.
    pub login: ProbeLogin,
    /// Reading of the backend's replies.
    pub replies: ReplyRules,
    /// True if a route uses the backend: its probes then find a place when all others are taken.
    pub is_used: bool,
    /// Looks that follow a first failure.
    pub confirmation: ConfirmationRule,
    /// True if each address that answers keeps an idle session.
    pub idle_session: bool,
}

/// Runs one round at a target, outside any schedule. Returns after its connections are closed.
///
/// # Errors
/// DNS is not configured, or the name for EHLO cannot be sent.
pub async fn once(settings: &Settings, clock: Clock, target: ProbeTarget) -> Result<ProbeReport, StartError> {
    let rounds = Rounds::new(settings, clock, Metrics::new(&mut Registry::default()))?;
    let terms = RoundTerms {
        sequence: 1,
        postponed_login: None,
        namespaces: [target.key.backend.namespace.clone()].into(),
        is_used: target.is_used,
        interval: target.interval,
        is_look: false,
    };
    let prepared = rounds.prepare(target);
    let report = rounds.run(&prepared, terms, &Mutex::default()).await;
    rounds.wait_for_quits().await;
    Ok(report)
}

/// Settings of the whole prober.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most dialogues under way over all targets. Each holds a socket, and a hanging backend holds one until its
    /// timeout. No namespace has more of them than it leaves free, and a quarter is for backends that a route uses.
    pub concurrency: usize,
    /// DNS servers. If empty, those of `/etc/resolv.conf` with its options. `/etc/hosts` comes first in both cases.
    pub dns_servers: Vec<SocketAddr>,
    /// Our name in EHLO: a domain or an address literal (RFC 5321 §4.1.1.1). If absent, the literal of the address that
    /// each connection comes from.
    pub ehlo_name: Option<String>,
    /// Guard on the addresses that dialogues connect to.
    pub guard: DialGuard,
}

/// Our name in EHLO: the one that is configured, else the host's if it is a domain of several labels. Servers refuse a
/// bare host name, as a pod has it, and accept the literal of an address (RFC 5321 §4.1.4).
pub fn ehlo_name(configured: Option<&str>, hostname: &str) -> Option<String> {
    configured.or_else(|| hostname.contains('.').then_some(hostname)).map(str::to_owned)
}

impl Default for Settings {
    /// Settings for up to 10,000 backends. The process needs 8192 file descriptors for dialogues, and 2,000 for DNS.
    fn default() -> Self {
        // 10,000 backends every 10 s that cannot be connected to within 5 s hold 5,000 sockets on average, and more in
        // the first minutes, before their rounds have drifted apart. Dialogues beyond the bound wait, as those with
        // 10,000 backends that accept connections and say nothing for 10 s.
        Self { concurrency: 8192, dns_servers: vec![], ehlo_name: None, guard: DialGuard::default() }
    }
}
