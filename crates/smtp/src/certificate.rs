//! The certificates that a server presents: which of them expires first, and the reason for which one is refused, in
//! words.
//!
//! Pure: time is an argument.

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::message::{bounded, date};
use mail_failover_core::model::{NotAfter, Timestamp};

/// Most characters of a name that the server presents.
const MAX_NAME: usize = 60;
/// Most certificates from a server's own to the one that an authority has signed. Real chains have up to four.
const MAX_PATH: usize = 8;

/// The certificates that a server presented: its own, and those that lead to an authority, in any order.
pub(super) struct PresentedChain<'a> {
    own: X509Certificate<'a>,
    /// Those that can be parsed.
    intermediates: Vec<X509Certificate<'a>>,
}

impl<'a> PresentedChain<'a> {
    /// The chain, unless the server's own certificate cannot be parsed.
    pub(super) fn parse(own: &'a CertificateDer<'_>, intermediates: &'a [CertificateDer<'_>]) -> Option<Self> {
        let intermediates = intermediates.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1));
        Some(Self { own: X509Certificate::from_der(own).ok()?.1, intermediates: intermediates.collect() })
    }

    /// The earliest expiry on the way from the server's own certificate to an authority. Of several ways, the one that
    /// lasts longest: an expired certificate beside a good one does no harm. `anchors` are the subjects of the
    /// authorities, without the header of the encoding.
    pub(super) fn not_after(&self, anchors: &[Vec<u8>]) -> NotAfter {
        let mut lasting: Vec<NotAfter> = self.intermediates.iter().map(intermediate_not_after).collect();
        let mut own = server_not_after(&self.own);
        for _ in 0..MAX_PATH {
            let next = self.intermediates.iter();
            let next = next.map(|one| self.lasting(one, intermediate_not_after(one), &lasting, anchors)).collect();
            own = self.lasting(&self.own, server_not_after(&self.own), &lasting, anchors);
            lasting = next;
        }
        own
    }

    /// The earlier expiry of a certificate and of its best issuer among the presented ones.
    fn lasting(
        &self,
        certificate: &X509Certificate<'_>,
        own: NotAfter,
        lasting: &[NotAfter],
        anchors: &[Vec<u8>],
    ) -> NotAfter {
        if is_signed_by_itself(certificate) || anchors.iter().any(|anchor| is_named(certificate.issuer(), anchor)) {
            return own;
        }
        let issuers = self.intermediates.iter().zip(lasting);
        let issuers = issuers.filter(|(issuer, _)| issuer.subject().as_raw() == certificate.issuer().as_raw());
        match issuers.map(|(_, lasting)| lasting).max() {
            Some(issuer) => own.min(issuer.clone()),
            None => own,
        }
    }

    /// The reason for which the chain is refused, in words.
    #[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
    pub(super) fn describe(&self, error: &CertificateError) -> String {
        match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("{} expired on {}", self.expired(*not_after), day(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                let is_own = self.own.validity().not_before.timestamp() == seconds(*not_before);
                let mut others = self.intermediates.iter();
                let other = others.find(|one| one.validity().not_before.timestamp() == seconds(*not_before));
                let which = other.filter(|_| !is_own).map_or_else(|| "certificate".to_owned(), intermediate);
                format!("{which} is not valid before {}", day(*not_before))
            }
            CertificateError::UnknownIssuer => self.describe_unknown_issuer(),
            CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
                let expected = expected.to_str();
                match common_name(self.own.subject()) {
                    Some(name) if name.eq_ignore_ascii_case(&expected) => format!(
                        "certificate names {name} as its common name only, which clients no longer read (RFC 9525); \
                         issue it with subjectAltName {}:{name}",
                        if expected.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" }
                    ),
                    Some(name) => {
                        format!("certificate is not for {expected} but names {name}, and that as its common name only")
                    }
                    None => format!("certificate is not for {expected} but for no name"),
                }
            }
            _ => describe(error),
        }
    }

    /// Name of the certificate that expired at that time.
    fn expired(&self, not_after: UnixTime) -> String {
        if self.own.validity().not_after.timestamp() == seconds(not_after) {
            return "certificate".to_owned();
        }
        let mut others = self.intermediates.iter();
        let other = others.find(|one| one.validity().not_after.timestamp() == seconds(not_after));
        other.map_or_else(|| "certificate".to_owned(), intermediate)
    }

    fn describe_unknown_issuer(&self) -> String {
        let unknown = "certificate is not signed by a trusted authority";
        if is_signed_by_itself(&self.own) {
            return format!("{unknown} but by itself; name this certificate in tls.caRef to trust it");
        }
        // The last one that is presented: what it is signed by, is missing.
        let mut last = &self.own;
        for _ in 0..MAX_PATH {
            let mut issuers = self.intermediates.iter();
            match issuers.find(|issuer| issuer.subject().as_raw() == last.issuer().as_raw()) {
                Some(issuer) if is_signed_by_itself(issuer) => {
                    return format!(
                        "{unknown} but by {}; name that in tls.caRef to trust it",
                        quoted(issuer.subject())
                    );
                }
                Some(issuer) => last = issuer,
                None => break,
            }
        }
        format!("{unknown} but by {}, whose certificate the server does not present", quoted(last.issuer()))
    }
}

/// The reason for which a certificate is refused, in words, as far as the error alone tells it.
#[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
pub(super) fn describe(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("certificate expired on {}", day(*not_after)),
        CertificateError::NotValidYet => "certificate is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate is not valid before {}", day(*not_before))
        }
        CertificateError::UnknownIssuer => "certificate is not signed by a trusted authority".to_owned(),
        CertificateError::NotValidForName => "certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| presented_name(name)).collect();
            let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("certificate is not for {} but for {}", expected.to_str(), bounded(&presented, 120))
        }
        CertificateError::Revoked => "certificate was revoked".to_owned(),
        CertificateError::BadEncoding => "certificate cannot be parsed".to_owned(),
        CertificateError::BadSignature => "certificate carries a wrong signature".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not meant for servers: its extended key usage lacks serverAuth".to_owned()
        }
        CertificateError::UnhandledCriticalExtension => {
            "certificate has a critical extension that probes do not know".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate is signed by an algorithm that probes do not know, such as SHA-1 or ECDSA with P-521"
                .to_owned()
        }
        CertificateError::Other(other) => other.0.downcast_ref().map_or_else(unknown_refusal, path_error),
        _ => unknown_refusal(),
    }
}

/// The reason of webpki for which it finds no way to an authority.
#[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
fn path_error(error: &webpki::Error) -> String {
    let words = match error {
        webpki::Error::CaUsedAsEndEntity => {
            return "the server presents the certificate of an authority (CA:TRUE) as its own; name exactly this \
                    certificate in tls.caRef, or issue one without CA:TRUE"
                .to_owned();
        }
        webpki::Error::EndEntityUsedAsCa => "it is signed by one that is no authority's (CA:FALSE)",
        webpki::Error::PathLenConstraintViolated => "an authority above it may not have others below it (pathlen)",
        webpki::Error::NameConstraintViolation => "an authority above it may not sign this name",
        webpki::Error::UnsupportedCertVersion => "it is of X.509 version 1, and 3 is needed; issue it anew",
        webpki::Error::UnsupportedCriticalExtension => "it has a critical extension that probes do not know",
        webpki::Error::EmptyEkuExtension => "its extended key usage is empty",
        webpki::Error::SignatureAlgorithmMismatch => "it names two different algorithms for its signature",
        webpki::Error::InvalidSerialNumber => "its serial number is malformed",
        webpki::Error::MalformedExtensions | webpki::Error::ExtensionValueInvalid => "an extension of it is malformed",
        webpki::Error::MalformedDnsIdentifier => "a name in it is no DNS name",
        webpki::Error::MaximumPathDepthExceeded
        | webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumSignatureChecksExceeded
        | webpki::Error::MaximumNameConstraintComparisonsExceeded => {
            "the certificates presented with it lead too many ways to an authority"
        }
        _ => return unknown_refusal(),
    };
    format!("certificate is refused: {words}")
}

fn unknown_refusal() -> String {
    "certificate is refused by the rules for certificates of servers (RFC 5280)".to_owned()
}

/// The name within webpki's debug format: `DnsName("mx.example.com")`.
fn presented_name(shown: &str) -> &str {
    shown.split('"').nth(1).unwrap_or(shown)
}

fn server_not_after(certificate: &X509Certificate<'_>) -> NotAfter {
    NotAfter { at: timestamp(certificate.validity().not_after.timestamp()), issuer: None }
}

fn intermediate_not_after(certificate: &X509Certificate<'_>) -> NotAfter {
    NotAfter { issuer: Some(name(certificate.subject()).into()), ..server_not_after(certificate) }
}

fn is_signed_by_itself(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// Returns true if a name is encoded as `value` after a header of up to four octets.
fn is_named(name: &X509Name<'_>, value: &[u8]) -> bool {
    let raw = name.as_raw();
    !value.is_empty() && raw.ends_with(value) && matches!(raw.len() - value.len(), 2..=4)
}

fn intermediate(certificate: &X509Certificate<'_>) -> String {
    format!("intermediate certificate {}", quoted(certificate.subject()))
}

fn quoted(subject: &X509Name<'_>) -> String {
    format!("\"{}\"", name(subject))
}

/// The common name, or all of the name.
fn name(subject: &X509Name<'_>) -> String {
    bounded(&common_name(subject).map_or_else(|| subject.to_string(), str::to_owned), MAX_NAME)
}

fn common_name<'n>(subject: &'n X509Name<'_>) -> Option<&'n str> {
    subject.iter_common_name().next()?.as_str().ok()
}

fn day(at: UnixTime) -> String {
    date(timestamp(seconds(at)))
}

fn seconds(at: UnixTime) -> i64 {
    i64::try_from(at.as_secs()).unwrap_or(i64::MAX)
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[test]
    fn every_reason_is_told_in_words() {
        let reasons = [
            webpki::Error::CaUsedAsEndEntity,
            webpki::Error::EndEntityUsedAsCa,
            webpki::Error::PathLenConstraintViolated,
            webpki::Error::NameConstraintViolation,
            webpki::Error::UnsupportedCertVersion,
            webpki::Error::MaximumPathDepthExceeded,
            webpki::Error::MalformedExtensions,
            webpki::Error::CertDistrusted,
        ];
        let errors = reasons.into_iter().map(|reason| CertificateError::Other(OtherError(Arc::new(reason))));
        let others = [
            CertificateError::UnhandledCriticalExtension,
            CertificateError::ApplicationVerificationFailure,
            CertificateError::InvalidOcspResponse,
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: vec![1],
                supported_algorithms: vec![],
            },
        ];
        for error in errors.chain(others) {
            let told = describe(&error);
            assert!(told.contains("certificate"), "{told}");
            // Not the name of a variant.
            let is_word = |word: &str| word.chars().skip(1).all(|letter| !letter.is_ascii_uppercase());
            let odd = told.split([' ', '(', ')', ':', ';', ',']).find(|word| {
                !is_word(word) && word.chars().any(|letter| letter.is_ascii_lowercase()) && !word.contains('.')
            });
            assert!(odd.is_none_or(|word| matches!(word, "caRef" | "serverAuth")), "{told}: {odd:?}");
        }
    }
}
