//! Records of a server: messages, connections, commands.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::watch;

use crate::mail::lock;
use crate::mail::record::{Entry, Record};

/// The limit of stored messages. Beyond it the server refuses (452) instead of forgetting some.
pub const MAX_MESSAGES: usize = 1_000_000;
/// The number of bytes of a message that are kept.
pub const MAX_KEPT_CONTENT: usize = 1024;

/// A stored message: the server took responsibility for it, even if the client did not learn that.
#[derive(Clone, Debug)]
pub struct Received {
    /// The `X-Message-Id`, else the `Message-ID` without brackets, else empty.
    pub id: String,
    /// The time of storage.
    pub at: Instant,
    /// The number of the connection, counted from 1.
    pub connection: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The envelope sender; empty for a bounce.
    pub sender: String,
    pub recipients: Vec<String>,
    /// The authenticated user.
    pub user: Option<String>,
    /// True if it came through TLS.
    pub encrypted: bool,
    /// The size in bytes, dots unstuffed.
    pub size: usize,
    /// The first [`MAX_KEPT_CONTENT`] bytes, dots unstuffed.
    pub content: Vec<u8>,
}

/// Counters of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub connections: u64,
    /// Connections turned away because of too many sessions.
    pub turned_away: u64,
    /// Sessions that are open now.
    pub open: u64,
    /// The most sessions open at a time.
    pub most_open: u64,
    /// TLS handshakes that succeeded.
    pub handshakes: u64,
    /// TLS handshakes that failed, on either side.
    pub failed_handshakes: u64,
    /// Commands by verb; an unknown verb counts as `?`.
    pub commands: BTreeMap<&'static str, u64>,
}

/// The record that all sessions of a server write.
pub(super) struct Ledger {
    state: Mutex<LedgerState>,
    stored: watch::Sender<usize>,
    record: Option<Record>,
}

#[derive(Default)]
struct LedgerState {
    received: Vec<Received>,
    counters: Counters,
}

impl Ledger {
    pub fn new(record: Option<Record>) -> Self {
        Self { state: Mutex::default(), stored: watch::Sender::new(0), record }
    }

    /// Stores a message. Returns false if there is no room left.
    pub fn store(&self, message: Received, by: &str) -> bool {
        let mut state = lock(&self.state);
        if state.received.len() >= MAX_MESSAGES {
            return false;
        }
        if let Some(record) = &self.record
            && record.write(&Entry::now(&message.id, &message.recipients, by)).is_err()
        {
            return false;
        }
        state.received.push(message);
        self.stored.send_replace(state.received.len());
        true
    }

    pub fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut lock(&self.state).counters);
    }

    pub fn counters(&self) -> Counters {
        lock(&self.state).counters.clone()
    }

    pub fn received(&self) -> Vec<Received> {
        lock(&self.state).received.clone()
    }

    pub fn received_by_id(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for message in &lock(&self.state).received {
            *counts.entry(message.id.clone()).or_default() += 1;
        }
        counts
    }

    pub fn forget(&self) {
        let mut state = lock(&self.state);
        state.received.clear();
        self.stored.send_replace(0);
    }

    /// The number of stored messages, now and as it changes.
    pub fn stored(&self) -> watch::Receiver<usize> {
        self.stored.subscribe()
    }
}
