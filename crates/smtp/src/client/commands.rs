//! Commands after the end of a session, for a driver that sends mail and keeps the connection for more of it.

use std::time::{Duration, Instant};

use super::{Awaited, ClientAction, ClientState, SessionError, SmtpClient};
use crate::reply::Reply;

impl SmtpClient {
    /// The answer to the latest EHLO, which names the extensions. Of an answer to HELO the first line only. `None`
    /// before it.
    pub fn extensions(&self) -> Option<&Reply> {
        self.extensions.as_ref()
    }

    /// Sends one more command, without its line end, and waits no longer than `bound` for the reply. The reply, whatever
    /// its code, comes as [`ClientAction::Finished`]. A peer that does not wait for a command gets none.
    pub fn command(&mut self, now: Instant, command: &str, bound: Duration) {
        if self.may_go_on() {
            self.unsent.extend_from_slice(command.as_bytes());
            self.unsent.extend_from_slice(b"\r\n");
            self.await_further(now, bound);
        }
    }

    /// Waits no longer than `bound` for the reply to what the driver has sent by itself: the content of a message. It
    /// comes as [`ClientAction::Finished`].
    pub fn await_reply(&mut self, now: Instant, bound: Duration) {
        if self.may_go_on() {
            self.await_further(now, bound);
        }
    }

    /// True if the peer waits for a command, and has said nothing that no command has asked for.
    pub fn is_in_step(&self) -> bool {
        matches!(self.state, ClientState::Idle) && !self.reader.has_leftover()
    }

    /// Returns true if another command may be sent. Otherwise the session has failed, or fails now.
    fn may_go_on(&mut self) -> bool {
        if self.is_in_step() {
            return true;
        }
        if matches!(self.state, ClientState::Idle) {
            // Its next reply would be taken for the answer to something else, a refusal for an acceptance.
            self.fail(SessionError::OutOfTurn);
        } else {
            self.next_action = Some(ClientAction::Finished(Err(SessionError::Closed)));
        }
        false
    }

    fn await_further(&mut self, now: Instant, bound: Duration) {
        // The bound on a session is one up to its goal.
        self.session_deadline = None;
        self.wait(now, ClientState::Reply(Awaited::Further));
        self.step_bound = bound;
        self.step_deadline = now.checked_add(bound);
    }

    pub(super) fn handle_further(&mut self, reply: Reply) {
        let closes = reply.code == 421;
        self.finish(reply);
        if closes {
            // RFC 5321 §4.2.3: the peer closes the connection.
            self.state = ClientState::Closed;
        }
    }
}
