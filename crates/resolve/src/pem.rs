//! Whether a text is what it should be: PEM certificates (RFC 7468).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error, PemObject};
use x509_parser::parse_x509_certificate;

/// An object of Kubernetes holds no more.
const LARGEST: usize = 1024 * 1024;
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// The certificates in a text, as PEM again, and nothing else: a private key that lies beside them goes no further.
///
/// # Errors
/// What is wrong, as a phrase for people which quotes nothing of the text.
pub fn certificates(text: &[u8]) -> Result<Vec<u8>, String> {
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
    // The parser may be more generous about those lines than this.
    check(&kept)?;
    Ok(kept)
}

/// How many certificates these are.
fn check(text: &[u8]) -> Result<usize, String> {
    if text.len() > LARGEST {
        return Err(format!("it has {} bytes, and {LARGEST} are the most", text.len()));
    }
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(text) {
        let position = count + 1;
        // The errors of the parser quote the line.
        let certificate = certificate.map_err(|error| match error {
            Error::MissingSectionEnd { .. } => format!("section {position} has no END line"),
            Error::IllegalSectionStart { .. } => format!("section {position} has a malformed BEGIN line"),
            Error::Base64Decode(_) => format!("section {position} is not base64"),
            Error::SectionTooLarge => format!("section {position} is too large"),
            Error::Io(_) | Error::NoItemsFound | _ => format!("section {position} is no PEM"),
        })?;
        match parse_x509_certificate(&certificate) {
            Ok(([], _)) => {}
            Ok((_, _)) => return Err(format!("certificate {position} has something behind its end")),
            Err(_) => return Err(format!("certificate {position} is no X.509 certificate")),
        }
        count = position;
    }
    if count == 0 {
        return Err("there is no BEGIN CERTIFICATE line in it".to_owned());
    }
    Ok(count)
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
            (" ".repeat(LARGEST + 1), "it has 1048577 bytes, and 1048576 are the most"),
        ] {
            assert_eq!(certificates(text.as_bytes()), Err(want.to_owned()), "{text:.80}");
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
