//! Signatures as Standard Webhooks 1.0 has them: HMAC-SHA256 over the id, the time and the body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::secret::WebhookSecret;

/// Header of the message's id, the same in each attempt.
pub const ID_HEADER: &str = "webhook-id";
/// Header of the attempt's time, in seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Header of the signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// Signs a body for an attempt at a time, in seconds since the Unix epoch. During a rotation there are two signatures,
/// and a receiver needs to know only one of the secrets.
pub fn signatures(secret: &WebhookSecret, id: &str, unix_seconds: i64, body: &[u8]) -> String {
    let mut content = format!("{id}.{unix_seconds}.").into_bytes();
    content.extend_from_slice(body);
    let signed = secret.keys().iter().map(|key| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
        format!("v1,{}", STANDARD.encode(hmac::sign(&key, &content)))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::secret::{SECRET_TYPE, signing_secret_text};
    use super::*;

    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn secret(pairs: &[(&str, &str)]) -> WebhookSecret {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        WebhookSecret::parse(Some(SECRET_TYPE), data.collect()).unwrap()
    }

    /// The vector of the reference libraries (standard-webhooks, `libraries/python/tests/test_webhooks.py`).
    #[test]
    fn the_reference_vector_is_signed_alike() {
        let secret = secret(&[("signing-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
        assert_eq!(
            signatures(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    /// RFC 4231 §4.2 has keys too short for a signing secret; the id, the time and the dots are part of what is signed.
    #[test]
    fn id_time_and_body_all_count() {
        let secret = secret(&[("signing-secret", &signing_secret_text(&[7; 24]))]);
        let all = [
            signatures(&secret, "a", 1, b"x"),
            signatures(&secret, "b", 1, b"x"),
            signatures(&secret, "a", 2, b"x"),
            signatures(&secret, "a", 1, b"y"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn during_a_rotation_both_secrets_sign_the_present_one_first() {
        let (present, before) = (signing_secret_text(&[1; 24]), signing_secret_text(&[2; 24]));
        let rotating = secret(&[("signing-secret", &present), ("previous-signing-secret", &before)]);
        let alone = |text: &str| signatures(&secret(&[("signing-secret", text)]), "a", 1, b"x");
        assert_eq!(signatures(&rotating, "a", 1, b"x"), format!("{} {}", alone(&present), alone(&before)));
    }
}
