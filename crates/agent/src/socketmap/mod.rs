//! Server of the socketmap that Postfix asks (`socketmap_table(5)`).
//!
//! | module | is | pure |
//! |---|---|---|
//! | `netstring` | frames | yes |
//! | `reply` | replies on the wire | yes |
//! | `maps` | requests and answers | yes |
//! | `responder` | the answers of one moment, and logins | no |
//! | `server` | sockets, bounds and deadlines | no |
//!
//! Architecture invariants: an answer comes from memory (a login is looked up on disk for a bounded time, then taken
//! from memory). A malformed request ends its connection and nothing else. No answer is logged.

mod maps;
mod metrics;
pub mod netstring;
mod reply;
mod responder;
mod server;

pub use super::domains::LocalDomains;
pub use maps::{IMPLICIT_TLS_TRANSPORT, Map, MapAnswer, MapSettings, Shield, SocketmapView, answer};
pub use metrics::SocketmapMetrics;
pub use reply::MapReply;
pub use responder::Responder;
pub use server::{BindError, ListenSettings, SocketmapServer};
