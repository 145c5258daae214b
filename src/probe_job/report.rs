//! The result of a probe in a pod: one line of JSON, the termination message of its container.
//!
//! The pod is a tenant's, and anybody who may create pods in that namespace can write any result. A result is therefore
//! bounded and checked, and counts for backends of its own namespace only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::printable;
use mail_failover_core::model::{EvidenceClass, NotAfter, Outcome, Stage, Timestamp};
use mail_failover_smtp::message::bounded;

/// Most bytes of a termination message that the kubelet keeps.
pub const MAX_BYTES: usize = 4096;
/// Version of the format. A change that an older operator would misread needs another one.
const VERSION: u32 = 1;
/// Most characters of an issuer's name.
const MAX_ISSUER: usize = 60;
/// Longest duration of a round: twice the schema's bound on `timeout`.
const LONGEST: Duration = Duration::from_mins(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultLine {
    version: u32,
    class: String,
    stage: String,
    message: String,
    elapsed_millis: u64,
    /// Microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_not_after: Option<i64>,
    /// Name of the certificate that expires then, unless it is the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_issuer: Option<String>,
}

/// The line for an outcome, of at most [`MAX_BYTES`] bytes.
pub fn line(outcome: &Outcome) -> String {
    let Outcome { class, stage, message, certificate_not_after, elapsed } = outcome;
    let written = ResultLine {
        version: VERSION,
        class: class.as_str().to_owned(),
        stage: stage.as_str().to_owned(),
        message: printable(message),
        elapsed_millis: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        certificate_not_after: certificate_not_after.as_ref().map(|not_after| not_after.at.as_micros()),
        certificate_issuer: certificate_not_after
            .as_ref()
            .and_then(|not_after| not_after.issuer.as_deref())
            .map(issuer),
    };
    // Text and numbers always become JSON.
    serde_json::to_string(&written).unwrap_or_default()
}

/// Error of a line that is no result. Quotes nothing of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// The line is empty.
    #[error("the pod left no result")]
    Empty,
    /// The line is longer than the kubelet keeps.
    #[error("the pod's result has more than {MAX_BYTES} bytes")]
    TooLong,
    /// The line has no version, or another one.
    #[error("the pod's result is of no known form; run operator and probe image of one version")]
    UnknownVersion,
    /// A field is missing, or has no valid value.
    #[error("the pod's result cannot be read")]
    Malformed,
}

/// Parses the outcome in a line.
///
/// # Errors
/// The line is no result.
pub fn outcome(line: &str) -> Result<Outcome, ResultError> {
    if line.trim().is_empty() {
        return Err(ResultError::Empty);
    }
    if line.len() > MAX_BYTES {
        return Err(ResultError::TooLong);
    }
    let version = serde_json::from_str::<serde_json::Value>(line).ok().and_then(|value| value.get("version")?.as_u64());
    if version != Some(VERSION.into()) {
        return Err(ResultError::UnknownVersion);
    }
    let ResultLine { version: _, class, stage, message, elapsed_millis, certificate_not_after, certificate_issuer } =
        serde_json::from_str(line).map_err(|_| ResultError::Malformed)?;
    let class = EvidenceClass::from_name(&class).filter(|class| class.is_of_one_round());
    Ok(Outcome {
        class: class.ok_or(ResultError::Malformed)?,
        stage: Stage::from_name(&stage).ok_or(ResultError::Malformed)?,
        message: printable(&message),
        certificate_not_after: certificate_not_after.map(|at| NotAfter {
            at: Timestamp::from_micros(at),
            issuer: certificate_issuer.as_deref().map(|name| issuer(name).into()),
        }),
        elapsed: Duration::from_millis(elapsed_millis).min(LONGEST),
    })
}

/// The name of an issuer as a line for people.
fn issuer(name: &str) -> String {
    bounded(name, MAX_ISSUER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        let classes = EvidenceClass::ALL.iter().copied().filter(|class| class.is_of_one_round()).collect::<Vec<_>>();
        let stages = prop::sample::select(Stage::ALL.to_vec());
        let not_after = prop::option::of((any::<i32>(), prop::option::of("[ -~]{1,80}")));
        (prop::sample::select(classes), stages, ".{0,300}", not_after, 0..600_000_u64).prop_map(
            |(class, stage, message, not_after, millis)| Outcome {
                class,
                stage,
                message: printable(&message),
                certificate_not_after: not_after.map(|(at, name)| NotAfter {
                    at: Timestamp::from_micros(at.into()),
                    issuer: name.map(|name| issuer(&name).into()),
                }),
                elapsed: Duration::from_millis(millis),
            },
        )
    }

    proptest! {
        #[test]
        fn every_outcome_comes_back_and_fits(outcome in any_outcome()) {
            let line = line(&outcome);
            prop_assert!(line.len() <= MAX_BYTES && !line.contains('\n'), "{line}");
            prop_assert_eq!(super::outcome(&line), Ok(outcome));
        }

        #[test]
        fn no_text_makes_an_outcome_that_is_none(text in ".{0,5000}") {
            prop_assert!(outcome(&text).is_err());
        }
    }

    #[test]
    fn what_a_tenant_writes_is_checked() {
        let with = |class: &str, message: &str| {
            format!(
                r#"{{"version":1,"class":"{class}","stage":"AUTH","message":"{message}","elapsedMillis":5,"more":1}}"#
            )
        };
        let read = outcome(&with("AuthenticationRefused", "AUTH: 535 \\u001b[2J")).unwrap();
        assert_eq!((read.class, read.message.as_str()), (EvidenceClass::AuthenticationRefused, "AUTH: 535 ?[2J"));
        // Verdicts of many rounds are the operator's own to reach.
        for class in ["Stale", "Slow", "Magic"] {
            assert_eq!(outcome(&with(class, "x")), Err(ResultError::Malformed), "{class}");
        }
        assert_eq!(outcome("").unwrap_err().to_string(), "the pod left no result");
        let long = with("Ok", &"x".repeat(MAX_BYTES));
        assert_eq!(outcome(&long).unwrap_err().to_string(), "the pod's result has more than 4096 bytes");
        for other in ["{\"version\":2}", "panic: it broke", "[]"] {
            assert!(outcome(other).unwrap_err().to_string().contains("of no known form"), "{other}");
        }
    }
}
