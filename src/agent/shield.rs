//! Until branch `traffic` is merged.

use super::answers::Answers;

/// Leaves everything as it is.
pub fn delivery_status(_answers: &Answers, _status: &str) -> Option<String> {
    None
}
