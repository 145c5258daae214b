//! Backends that a drill leaves out of the lists of ways, and the count of the attempts that met that. Pure.
// ADR-0165: A drill leaves its backend out of the lists, and ends by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Backends that a drill refuses now.
#[derive(Debug)]
pub struct RefusedBackends {
    drill: Arc<str>,
    names: Vec<Arc<str>>,
    attempts: AtomicU64,
}

impl RefusedBackends {
    /// Creates those of the drill of this id, which no attempt has met.
    pub fn new(drill: Arc<str>, names: Vec<Arc<str>>) -> Self {
        Self { drill, names, attempts: AtomicU64::new(0) }
    }

    /// The names of the backends.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// True if the backend of this name is refused.
    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|refused| **refused == *name)
    }

    /// Notes an attempt that would have tried one of them.
    pub fn note(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of these attempts.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }
}

// The count is no part of what is refused.
impl PartialEq for RefusedBackends {
    fn eq(&self, other: &Self) -> bool {
        (&self.drill, &self.names) == (&other.drill, &other.names)
    }
}

impl Eq for RefusedBackends {}
