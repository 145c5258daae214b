//! Requests of a process to its machine at the start.

/// Raises the soft limit of open files to the hard one.
// A dialogue holds a socket, and the usual soft limit of 1024 would make probes of thousands of silent backends
// inconclusive. The hard limit is what the machine's owner allows.
pub fn raise_limit_of_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays as it is");
    }
}

/// Returns the machine's name, or ours when it has none.
pub fn hostname() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(read.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "mail-failover".to_owned())
}
