//! Checks of PEM certificates (RFC 7468).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error, PemObject};
use x509_parser::parse_x509_certificate;

/// Bound on a text, in bytes. Some sixty certificates fit: those of authorities of one's own. Every backend may bring
/// one, so they are the memory of whoever writes backends.
const LARGEST: usize = 100 * 1024;
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// Defect of a text, as a phrase for people that quotes nothing of it: a private key may lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The text has so many bytes, more than are read.
    #[error(
        "it has {0} bytes, and {LARGEST} are the most; leave in it only the authorities that sign for this backend"
    )]
    TooLarge(usize),
    /// The section of this number has no END line.
    #[error("section {0} has no END line")]
    NoEndLine(usize),
    /// The section of this number has a malformed BEGIN line.
    #[error("section {0} has a malformed BEGIN line")]
    BeginLine(usize),
    /// The section of this number is not base64.
    #[error("section {0} is not base64")]
    Base64(usize),
    /// The section of this number is too large.
    #[error("section {0} is too large")]
    SectionTooLarge(usize),
    /// The section of this number is no PEM.
    #[error("section {0} is no PEM")]
    NoPem(usize),
    /// The certificate of this number is followed by more data.
    #[error("certificate {0} has something behind its end")]
    TrailingData(usize),
    /// The section of this number is no X.509 certificate.
    #[error("certificate {0} is no X.509 certificate")]
    NoCertificate(usize),
    /// The text has no BEGIN CERTIFICATE line.
    #[error("there is no BEGIN CERTIFICATE line in it")]
    Empty,
}

/// The certificates in a text, as PEM again, and nothing else: a private key that lies beside them goes no further.
///
/// # Errors
/// [`PemError`] for the first section that is no certificate, or if there is none.
// ADR-0047: Certificates from Secrets go into the agents' ConfigMap.
pub fn certificates(text: &[u8]) -> Result<Vec<u8>, PemError> {
    check(text)?;
    let mut kept = vec![];
    let mut inside = false;
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii_end) {
        inside |= line == BEGIN;
        if inside && !line.is_empty() {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
        inside &= line != END;
    }
    // The parser may accept other BEGIN and END lines than these.
    check(&kept)?;
    Ok(kept)
}

/// Checks that a text holds certificates alone, and at least one.
fn check(text: &[u8]) -> Result<(), PemError> {
    if text.len() > LARGEST {
        return Err(PemError::TooLarge(text.len()));
    }
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(text) {
        count += 1;
        // The parser's errors quote the line, and are not kept.
        let certificate = certificate.map_err(|error| match error {
            Error::MissingSectionEnd { .. } => PemError::NoEndLine(count),
            Error::IllegalSectionStart { .. } => PemError::BeginLine(count),
            Error::Base64Decode(_) => PemError::Base64(count),
            Error::SectionTooLarge => PemError::SectionTooLarge(count),
            Error::Io(_) | Error::NoItemsFound | _ => PemError::NoPem(count),
        })?;
        match parse_x509_certificate(&certificate) {
            Ok(([], _)) => {}
            Ok((_, _)) => return Err(PemError::TrailingData(count)),
            Err(_) => return Err(PemError::NoCertificate(count)),
        }
    }
    if count == 0 { Err(PemError::Empty) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(["ca.test".to_owned()]).expect("a certificate").cert.pem()
    }

    fn key() -> String {
        rcgen::KeyPair::generate().expect("a key").serialize_pem()
    }

    #[test]
    fn certificates_are_kept_and_whatever_else_is_there_is_not() {
        let (one, key) = (certificate(), key());
        for (text, want) in [
            (one.clone(), 1),
            (format!("{one}{one}{one}"), 3),
            (format!("# Our own CA\n{one}\nissued in 2026\n{one}"), 2),
            (format!("{key}{one}{key}"), 1),
            (one.replace('\n', "\r\n"), 1),
            (one.replace('\n', "  \n"), 1),
            (one.trim_end().to_owned(), 1),
        ] {
            let kept = certificates(text.as_bytes()).map(String::from_utf8);
            assert_eq!(
                kept.map(|kept| kept.map(|kept| kept.replace("\n\n", "\n"))),
                Ok(Ok(one.repeat(want))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_quoting_it() {
        let one = certificate();
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        for (text, want) in [
            (String::new(), "there is no BEGIN CERTIFICATE line in it"),
            ("hunter2".to_owned(), "there is no BEGIN CERTIFICATE line in it"),
            (key(), "there is no BEGIN CERTIFICATE line in it"),
            (format!("{one}{begin}\nhunter2=\n"), "section 2 has no END line"),
            (format!("{begin}\n<hunter2>\n{end}\n"), "section 1 is not base64"),
            (format!("{begin}\naHVudGVyMg==\n{end}\n"), "certificate 1 is no X.509 certificate"),
            (format!("{one}{begin}\naHVudGVyMg==\n{end}\n"), "certificate 2 is no X.509 certificate"),
            ("-----BEGIN hunter2\n".to_owned(), "section 1 has a malformed BEGIN line"),
            (
                " ".repeat(LARGEST + 1),
                "it has 102401 bytes, and 102400 are the most; leave in it only the authorities that sign for this backend",
            ),
        ] {
            let told = certificates(text.as_bytes()).map_err(|error| error.to_string());
            assert_eq!(told, Err(want.to_owned()), "{text:.80}");
        }
    }

    #[test]
    fn binary_rubbish_is_malformed() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let rubbish: Vec<u8> = (0..random.usize(..500)).map(|_| random.u8(..)).collect();
            certificates(&rubbish).expect_err("no certificate");
        }
    }
}
