//! Descriptions of errors of API calls.

use std::error::Error as _;

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
