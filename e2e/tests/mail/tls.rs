//! Tests of certificates: each is as good or bad as it was made.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mail_failover_e2e::mail::certificates::{Authority, Identity, Validity};
use mail_failover_e2e::mail::sender::{Outcome, Sender, SenderOptions, Step, fixed};
use mail_failover_e2e::mail::server::{Action, Extension, Fault, Options, SessionStage, SmtpServer};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::V4;
use crate::raw::{Raw, Seen};

const NAME: &str = "relay.test";

/// The banner, or the reason why there is none.
async fn banner(server: &SmtpServer, config: &Arc<ClientConfig>, start_tls: bool) -> Result<String, io::Error> {
    let mut raw = Raw::connect(server.address()).await;
    if start_tls {
        assert!(matches!(raw.reply().await, Seen::Line(line) if line.starts_with("220")));
        raw.exchange("EHLO test", "250").await;
        raw.exchange("STARTTLS", "220").await;
    }
    let name = ServerName::try_from(NAME).expect("a name");
    let mut stream = TlsConnector::from(config.clone()).connect(name, raw.into_stream()).await?;
    if start_tls {
        stream.write_all(b"EHLO test\r\n").await?;
    }
    let mut line = vec![0; 16];
    let n = stream.read(&mut line).await?;
    Ok(String::from_utf8_lossy(&line[..n]).into_owned())
}

fn certificate_error(error: &io::Error) -> Option<&CertificateError> {
    let Error::InvalidCertificate(error) = error.get_ref()?.downcast_ref::<Error>()? else { return None };
    Some(error)
}

fn day(days: u64) -> SystemTime {
    SystemTime::now() + Duration::from_hours(24 * days)
}

type Expected = fn(&CertificateError) -> bool;

fn issue(authority: &Authority, names: &[&str], validity: Validity) -> Identity {
    authority.issue(names, validity).expect("an identity")
}

#[tokio::test]
async fn certificates_are_what_they_were_made_to_be_and_can_be_swapped() {
    let authority = Authority::new().expect("an authority");
    let other = Authority::new().expect("an authority");
    let trusting = authority.client_config().expect("a configuration");
    let valid = issue(&authority, &["other.test", NAME], Validity::Valid);
    let cases: [(&str, Identity, Option<Expected>); 6] = [
        ("for two weeks", issue(&authority, &[NAME], Validity::Between(day(0), day(14))), None),
        (
            "expired",
            issue(&authority, &[NAME], Validity::Expired),
            Some(|error| matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. })),
        ),
        (
            "not valid yet",
            issue(&authority, &[NAME], Validity::NotYetValid),
            Some(|error| matches!(error, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })),
        ),
        (
            "for another name",
            issue(&authority, &["other.test", "192.0.2.1"], Validity::Valid),
            Some(|error| {
                matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
            }),
        ),
        (
            "of another authority",
            issue(&other, &[NAME], Validity::Valid),
            Some(|error| matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature)),
        ),
        ("valid again", valid.clone(), None),
    ];
    for implicit in [false, true] {
        let options = Options::new("s", V4);
        let options = if implicit { options.implicit_tls(valid.clone()) } else { options.start_tls(valid.clone()) };
        let server = SmtpServer::start(options).await.expect("a server");
        let expected_banner = if implicit { "220 s ESMTP read" } else { "250-s at your se" };
        assert_eq!(banner(&server, &trusting, !implicit).await.expect("a banner"), expected_banner);
        for (name, identity, expected) in &cases {
            server.set_certificate(identity).expect("a certificate");
            match (banner(&server, &trusting, !implicit).await, expected) {
                (Ok(banner), None) => assert_eq!(banner, expected_banner, "{name}"),
                (Err(error), Some(expected)) => {
                    assert!(certificate_error(&error).is_some_and(expected), "{name}: {error}");
                }
                (seen, _) => panic!("{name}: {seen:?}"),
            }
        }
        // The server learns of a refused certificate a moment after the client has refused it.
        let counted = async {
            while server.counters().failed_handshakes < 4 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), counted).await.expect("four failed handshakes");
        assert_eq!((server.counters().handshakes, server.counters().failed_handshakes), (3, 4), "implicit: {implicit}");
    }
}

#[tokio::test]
async fn an_authority_is_told_apart_by_its_pem() {
    let [one, other] = [Authority::new(), Authority::new()].map(|authority| authority.expect("an authority").pem());
    assert!(one.starts_with("-----BEGIN CERTIFICATE-----") && one != other);
}

#[tokio::test]
async fn implicit_tls_can_break_before_the_banner() {
    let authority = Authority::new().expect("an authority");
    let identity = authority.issue(&[NAME], Validity::Valid).expect("an identity");
    let server = SmtpServer::start(Options::new("s", V4).implicit_tls(identity)).await.expect("a server");
    let cases = [
        (Fault::At(SessionStage::Handshake, Action::Close), Seen::Closed),
        (Fault::At(SessionStage::Handshake, Action::Reset), Seen::Reset),
        (Fault::At(SessionStage::Handshake, Action::Hang), Seen::Silence),
        (Fault::reply(SessionStage::Handshake, 554, "5.7.0 No"), Seen::line("554 5.7.0 No")),
    ];
    for (fault, expected) in cases {
        server.set_fault(fault.clone()).await.expect("a fault");
        assert_eq!(Raw::connect(server.address()).await.reply().await, expected, "{fault}");
    }
}

#[tokio::test]
async fn a_sender_that_requires_tls_fails_where_tls_fails() {
    let authority = Authority::new().expect("an authority");
    let valid = authority.issue(&[NAME], Validity::Valid).expect("an identity");
    let expired = authority.issue(&[NAME], Validity::Expired).expect("an identity");
    let server = SmtpServer::start(Options::new("s", V4).start_tls(valid.clone())).await.expect("a server");
    // Handshakes cost time, so there are few of them.
    let options = SenderOptions::new(Duration::from_millis(50), fixed(vec![server.address()]));
    let options = SenderOptions { retry_after: Duration::from_millis(100), max_concurrent: 8, ..options };
    let config = authority.client_config().expect("a configuration");
    let sender = Sender::start(options.start_tls(config, NAME).expect("a name"));
    let within = Duration::from_secs(10);
    sender.wait_for("five accepted", within, |totals| totals.accepted >= 5).await.expect("five accepted");
    assert!(server.received().iter().all(|message| message.encrypted));

    let faults = [
        (Fault::None, Some(&expired)),
        (Fault::At(SessionStage::Handshake, Action::Garbage), None),
        (Fault::reply(SessionStage::StartTls, 454, "4.7.0 TLS not available"), None),
        (Fault::NotOffered(Extension::StartTls), None),
        (Fault::At(SessionStage::Handshake, Action::Hang), None),
    ];
    for (fault, certificate) in faults {
        server.set_certificate(certificate.unwrap_or(&valid)).expect("a certificate");
        server.set_fault(fault.clone()).await.expect("a fault");
        let broken = std::time::Instant::now();
        sender
            .wait_for("a failure", within, |_| sender.first_failed_attempt_after(broken).is_some())
            .await
            .expect("one");
        server.set_certificate(&valid).expect("a certificate");
        server.repair().await.expect("a repair");
        let failover = sender.wait_for_failover(broken, within).await.expect("a recovery");
        let step = match failover.first_failed.outcome {
            Outcome::Refused { step, .. } | Outcome::Unanswered { step } | Outcome::Broken { step, .. } => step,
            outcome @ (Outcome::Accepted { .. } | Outcome::NoEndpoint) => panic!("{fault}: {outcome}"),
        };
        assert_eq!(step, Step::StartTls, "{fault}");
    }
    let journal = sender.stop(within).await;
    assert_eq!((journal.totals().lost, journal.delivery(&[&server]).delivered), (0, journal.totals().sent));
}
