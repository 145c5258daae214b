//! A queueing mail server between applications and two providers, of which the preferred one breaks.
//!
//! * [`fault`] is the matrix of all faults at all points of a session, with the reasons why some cells
//!   make no sense.
//! * [`setup`] puts Postfix in front: with a list of relays, with HAProxy, or with our agent and the whole
//!   operator.
//! * [`round`] breaks the primary under load and keeps the account.

pub mod fault;
pub mod round;
pub mod setup;
