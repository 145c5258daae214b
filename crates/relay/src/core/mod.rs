//! Pure part of the relay: no I/O, no clock, no randomness.
//!
//! | module | is |
//! |---|---|
//! | `answer` | replies to the application: those of backends as they are, and our own |
//! | `command` | command lines, and what is passed on of MAIL and RCPT |
//! | `content` | the end of a message, its bounds, and what is refused for its form |
//! | `capabilities` | extensions of backends, and what a message needs of them |
//! | `judgement` | the meaning of a backend's reply for a message on its way |
//! | `transaction` | one message: which backend, replay, what the application is told |
//! | `session` | the server's side of a connection with an application |
//! | `choice` | the backends that a message tries, by the answers in force |
//! | `trace` | the `Received` line |
//! | `route_mark` | the mark by which a relay knows another one of its route |

pub mod answer;
pub mod capabilities;
pub mod choice;
pub mod command;
pub mod content;
pub mod judgement;
pub mod route_mark;
pub mod session;
pub mod trace;
pub mod transaction;
