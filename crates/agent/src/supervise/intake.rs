//! Switch by which the agent lets Postfix accept or refuse new mail.
//!
//! `smtpd_end_of_data_restrictions = check_client_access …:intake` asks once for each message, at the one point after
//! which it is accepted. So the answer is a barrier: a message that was not accepted before it changed is the client's
//! still. Mail that a local program hands in by sendmail(1) is not asked about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// State of the intake: open until it is closed. Cheap to clone. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Intake(Arc<AtomicBool>);

impl Intake {
    /// Refuses new mail from now on.
    pub fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns true if new mail is refused.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Returns the answer to the map `intake` for any key, an action of access(5).
    // `DUNNO` rather than not found: after that Postfix would ask again for each parent of a client's name and network.
    pub fn action(&self) -> &'static str {
        if self.is_closed() {
            "421 4.3.2 This server is going down, try again: another takes your mail"
        } else {
            "DUNNO"
        }
    }
}
