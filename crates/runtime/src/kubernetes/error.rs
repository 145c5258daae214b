//! Errors of API calls: their descriptions and categories.

use std::error::Error as _;
use std::time::Duration;

/// Failed call of the API server.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The API server refused, or could not be reached.
    #[error("{}", describe(.0))]
    Api(#[source] Box<kube::Error>),
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl CallError {
    /// Returns the label in metrics and logs; see [`category`].
    pub fn category(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Api(error) => category(error),
        }
    }

    /// Returns true if the API server will refuse until a right is granted.
    pub fn is_denied(&self) -> bool {
        self.category() == "forbidden"
    }
}

/// Returns the HTTP status of an answer; `None` if there was no answer.
pub fn status_code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}

/// Returns the category of a failed call, as a label of metrics: `forbidden`, `not_found`, `conflict`, `throttled`,
/// `invalid`, `server`, or `unreachable` if there was no answer.
pub fn category(error: &kube::Error) -> &'static str {
    match status_code(error) {
        Some(401 | 403) => "forbidden",
        Some(404) => "not_found",
        Some(409) => "conflict",
        Some(429) => "throttled",
        Some(400..=499) => "invalid",
        Some(_) => "server",
        None => "unreachable",
    }
}

/// Describes an error of an API call in one line for people.
///
/// A value that could not be deserialised is not quoted: it may be a Secret.
// kube's own text holds a dump of the status object and hides the cause of a failed connection.
pub fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        let (code, message) = (status.code, status.message.trim());
        // Reasons are single words; kube puts a sentence there when the answer was no Status object.
        let kind = match status.reason.as_str() {
            "" => code.to_string(),
            reason if reason.contains(' ') => code.to_string(),
            reason => format!("{code} {reason}"),
        };
        return if message.is_empty() { kind } else { format!("{message} ({kind})") };
    }
    if let kube::Error::SerdeError(_) = error {
        return "the API server's answer is not the object that was asked for".to_owned();
    }
    // The outermost text is kube's name for the layer, the innermost is what happened.
    let mut source = error.source();
    let mut message = source.map_or_else(|| error.to_string(), ToString::to_string);
    while let Some(deeper) = source.and_then(|source| source.source()) {
        let text = deeper.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = Some(deeper);
    }
    message
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_answer_is_given_as_the_api_server_worded_it() {
        let forbidden = "leases.coordination.k8s.io \"x\" is forbidden";
        for (code, reason, message, want) in [
            (403, "Forbidden", forbidden, "leases.coordination.k8s.io \"x\" is forbidden (403 Forbidden)"),
            (404, "Failed to parse error data", "404 page not found\n", "404 page not found (404)"),
            (409, "Conflict", "", "409 Conflict"),
            (502, "", "", "502"),
        ] {
            let status = Status::failure(message, reason).with_code(code);
            assert_eq!(describe(&kube::Error::Api(Box::new(status))), want);
        }
    }

    #[test]
    fn a_call_keeps_its_cause_and_has_a_category() {
        for (code, category, is_denied) in [
            (401, "forbidden", true),
            (403, "forbidden", true),
            (404, "not_found", false),
            (409, "conflict", false),
            (422, "invalid", false),
            (429, "throttled", false),
            (503, "server", false),
        ] {
            let error = CallError::from(kube::Error::Api(Box::new(Status::failure("no", "").with_code(code))));
            assert_eq!((error.category(), error.is_denied()), (category, is_denied), "{code}");
            assert!(error.source().is_some_and(<dyn std::error::Error>::is::<Box<kube::Error>>), "{code}");
        }
        let silent = CallError::Timeout(Duration::from_secs(5));
        assert_eq!((silent.category(), silent.to_string()), ("timeout", "no answer within 5s".to_owned()));
        let unreachable = CallError::from(kube::Error::ReadEvents(std::io::Error::other("connection refused")));
        assert_eq!(unreachable.category(), "unreachable");
    }

    #[test]
    fn what_cannot_be_deserialised_is_not_quoted() {
        let error = serde_json::from_str::<u8>("\"hunter2\"").expect_err("no number");
        assert!(error.to_string().contains("hunter2"), "the premise: serde quotes: {error}");
        assert!(!describe(&kube::Error::SerdeError(error)).contains("hunter2"));
    }

    #[test]
    fn the_innermost_cause_is_told() {
        let inner = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = kube::Error::ReadEvents(std::io::Error::other(inner));
        assert!(describe(&error).contains("connection refused"));
    }
}
