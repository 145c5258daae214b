//! Whether Postfix accepts new mail, as far as the agent is asked.
//!
//! `smtpd_end_of_data_restrictions = check_client_access …:intake` asks once for each message, at the one point after which it is
//! accepted. So the answer is a barrier: what was not accepted before it changed is the client's still. Mail that a local program
//! hands in by sendmail(1) is not asked about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Open until it is closed. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Intake(Arc<AtomicBool>);

impl Intake {
    /// From now on new mail is refused.
    pub fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// The answer to the map `intake` for whatever key, an action of access(5). `DUNNO` rather than not found, or Postfix would ask
    /// again for each parent of a client's name and network.
    pub fn action(&self) -> &'static str {
        if self.is_closed() {
            "421 4.3.2 This server is going down, try again: another takes your mail"
        } else {
            "DUNNO"
        }
    }
}
