//! Claims of a token, as whoever shows it wrote them. No I/O; time is an argument.
//!
//! They are read before the API server is asked, so that what cannot be good costs it nothing (ADR-0091). Nothing is
//! verified here: a token is good only if a `TokenReview` says so.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use mail_failover_contract::report::AUDIENCE;
use mail_failover_core::model::Timestamp;

/// Tolerated difference between our clock and that of the API server.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// Claims of a token of a service account (RFC 7519, KEP-1205).
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    aud: Audience,
    /// Expiry in seconds since the Unix epoch; a fraction is allowed (RFC 7519 §2).
    exp: f64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<BoundObjects>,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Objects that the token is bound to.
#[derive(Debug, Deserialize)]
struct BoundObjects {
    pod: Option<BoundPod>,
}

#[derive(Debug, Deserialize)]
struct BoundPod {
    uid: String,
}

/// Reasons to refuse a token by its claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimsProblem {
    /// The text is not a JSON Web Token with these claims.
    Malformed,
    /// The token is for somebody else.
    OtherAudience,
    /// The token was good once.
    Expired,
}

impl ClaimsProblem {
    /// Returns the label in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OtherAudience => "audience",
            Self::Expired => "expired",
        }
    }
}

impl Claims {
    /// Reads the claims of a token that may be good now.
    pub(super) fn of(token: &str, now: Timestamp) -> Result<Self, ClaimsProblem> {
        let mut parts = token.split('.');
        let (Some(_header), Some(payload), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ClaimsProblem::Malformed);
        };
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| ClaimsProblem::Malformed)?;
        let claims: Self = serde_json::from_slice(&payload).map_err(|_| ClaimsProblem::Malformed)?;
        if !claims.aud.is_ours() {
            return Err(ClaimsProblem::OtherAudience);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 have 31 bits")]
        let earliest = (now.as_micros() / 1_000_000 - CLOCK_SKEW_SECONDS) as f64;
        // So written, a number that is none is refused as well.
        if claims.exp >= earliest { Ok(claims) } else { Err(ClaimsProblem::Expired) }
    }

    /// UID of the pod that the token is bound to. It stays the same when the kubelet renews the token.
    pub(super) fn pod_uid(&self) -> Option<&str> {
        Some(self.kubernetes.as_ref()?.pod.as_ref()?.uid.as_str())
    }
}

impl Audience {
    fn is_ours(&self) -> bool {
        match self {
            Self::One(audience) => audience == AUDIENCE,
            Self::Several(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A token with these claims that nobody has signed.
    pub(in crate::reports) fn token(claims: &Value, signature: &str) -> String {
        format!("e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000 * 1_000_000);

    fn problem(claims: &Value) -> Option<ClaimsProblem> {
        Claims::of(&token(claims, "s"), NOW).err()
    }

    #[test]
    fn a_token_for_us_that_has_not_expired_may_be_good() {
        let pod = json!({"namespace": "shop", "pod": {"name": "postfix-0", "uid": "1-2-3"}});
        let bound = json!({"aud": [AUDIENCE, "other"], "exp": 1_800_000_000, "iss": "x", "kubernetes.io": pod});
        let claims = Claims::of(&token(&bound, "s"), NOW).unwrap();
        assert_eq!(claims.pod_uid(), Some("1-2-3"));
        let by_hand = Claims::of(&token(&json!({"aud": AUDIENCE, "exp": 1_800_000_000.5}), "s"), NOW).unwrap();
        assert_eq!(by_hand.pod_uid(), None);
    }

    #[test]
    fn what_cannot_be_good_says_why() {
        for (claims, wanted) in [
            (json!({"aud": ["vault"], "exp": 1_900_000_000}), ClaimsProblem::OtherAudience),
            (json!({"aud": [], "exp": 1_900_000_000}), ClaimsProblem::OtherAudience),
            (json!({"aud": [AUDIENCE], "exp": 1_799_999_939}), ClaimsProblem::Expired),
            (json!({"aud": [AUDIENCE], "exp": -1e300}), ClaimsProblem::Expired),
            (json!({"aud": [AUDIENCE]}), ClaimsProblem::Malformed),
            (json!({"exp": 1_900_000_000}), ClaimsProblem::Malformed),
            (json!({"aud": 7, "exp": 1_900_000_000}), ClaimsProblem::Malformed),
            (json!([]), ClaimsProblem::Malformed),
        ] {
            assert_eq!(problem(&claims), Some(wanted), "{claims}");
        }
        // A minute of difference between two clocks refuses nobody.
        assert_eq!(problem(&json!({"aud": [AUDIENCE], "exp": 1_799_999_940})), None);
        for text in ["", "aaaa.bbbb.cccc", "e30.e30", "e30.e30.x.y", "postfix"] {
            assert_eq!(Claims::of(text, NOW).err(), Some(ClaimsProblem::Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_token_is_too_strange(text in "[A-Za-z0-9._=-]{0,80}|e30\\.[A-Za-z0-9_-]{0,80}\\.x") {
            let _ = Claims::of(&text, NOW);
        }
    }
}
