//! A queueing mail server between applications and two providers, of which the preferred one breaks: what is played, by whom the mail is
//! led around the break, and what came of it.
//!
//! * [`fault`] is the matrix: where in a session times how, and why some cells make no sense.
//! * [`way`] puts Postfix in front: with a list of relays, with HAProxy, or with our agent and the whole operator behind it.
//! * [`round`] breaks the primary under load and keeps the account.

pub mod fault;
pub mod round;
pub mod setup;
