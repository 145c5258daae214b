//! What replies and faults do to the rounds of a probe: how far a probe comes, and what it finds there.
//!
//! What a reply means is the prober's classifier's to say.

use super::scenario::{Answers, Event, Fault, Span, Stage};
use super::script::{Effect, Step};
use mail_failover_core::model::{Backend, Depth, Destination, EvidenceClass, Probe, TlsMode};
use mail_failover_smtp::classify::{Answered, classify};
use mail_failover_smtp::reply::EnhancedCode;

/// The field, and what is wrong with it.
pub(super) type Wrong = (&'static str, String);

/// How far a dialogue has come when this is answered.
pub(super) fn step(stage: Stage) -> Step {
    match stage {
        Stage::Banner => Step::Banner,
        Stage::Ehlo => Step::Ehlo,
        Stage::StartTls => Step::StartTls,
        Stage::Auth => Step::Auth,
        Stage::Mail => Step::Mail,
        Stage::Rcpt => Step::Rcpt,
        Stage::Data => Step::Data,
    }
}

/// What a reply says, by the prober's own classifier.
pub(super) fn reply(answers: &Answers) -> Result<(EvidenceClass, String), Wrong> {
    let wrong = || ("answers.reply", format!("`{}` is no reply; write `454 4.7.0 …`", answers.reply));
    let (code, text) = answers.reply.split_once([' ', '-']).unwrap_or((answers.reply.as_str(), ""));
    let code: u16 = code.parse().ok().filter(|code| (200..600).contains(code)).ok_or_else(wrong)?;
    let answered = match answers.stage {
        Stage::Banner => Answered::Connection,
        Stage::Ehlo => Answered::Hello,
        Stage::StartTls => Answered::StartTls,
        Stage::Auth => Answered::Auth,
        Stage::Mail => Answered::Mail,
        Stage::Rcpt => Answered::Recipient,
        Stage::Data => Answered::Data,
    };
    let class = classify(answered, code, EnhancedCode::at_start_of(text), text);
    if class == EvidenceClass::Ok {
        return Err(("answers.reply", "is a success: nothing would happen".to_owned()));
    }
    Ok((class, format!("{}: {}", step(answers.stage).as_str(), answers.reply)))
}

/// How far a probe comes where nothing is in its way.
fn last_step(backend: &Backend, probe: &Probe) -> Step {
    match (probe.depth, backend.tls.mode) {
        (Depth::Connect, _) => Step::Connect,
        (Depth::Banner, _) => Step::Banner,
        (Depth::Ehlo, _) | (Depth::StartTls, TlsMode::None | TlsMode::Implicit) => Step::Ehlo,
        (Depth::StartTls, TlsMode::Opportunistic | TlsMode::StartTls) => Step::StartTls,
        (Depth::Auth, _) => Step::Auth,
        (Depth::MailFrom, _) => Step::Mail,
        (Depth::RcptTo, _) => Step::Rcpt,
    }
}

/// What an event does to a round of a probe.
pub(super) fn effect(event: &Event, backend: &Backend, probe: &Probe) -> Result<Option<Effect>, Wrong> {
    let mode = backend.tls.mode;
    let first_answer = if mode == TlsMode::Implicit { Step::ImplicitTls } else { Step::Banner };
    let handshake = match mode {
        TlsMode::None => None,
        TlsMode::Implicit => Some(Step::ImplicitTls),
        TlsMode::Opportunistic | TlsMode::StartTls => Some(Step::StartTls),
    };
    let verifies = matches!(mode, TlsMode::Implicit | TlsMode::StartTls);
    let silence = format!("no answer within {:?}", probe.timeout);
    let (step, class, hangs, what) = match (&event.answers, event.fault, event.latency) {
        (Some(answers), ..) => {
            let (class, message) = reply(answers)?;
            let knows_helo = answers.stage == Stage::Ehlo && matches!(mode, TlsMode::None | TlsMode::Opportunistic);
            if knows_helo && matches!(answers.reply.get(..3), Some("500" | "502")) {
                // HELO will do.
                return Ok(None);
            }
            let what = message.split_once(": ").map_or(String::new(), |(_, what)| what.to_owned());
            (Some(self::step(answers.stage)), class, false, what)
        }
        (_, Some(fault), _) => match fault {
            Fault::Refused => {
                (Some(Step::Connect), EvidenceClass::ConnectionRefused, false, "connection refused".to_owned())
            }
            Fault::NoAnswer => (Some(Step::Connect), EvidenceClass::NoAnswer, true, silence),
            Fault::NoBanner => (Some(first_answer), EvidenceClass::NoAnswer, true, silence),
            Fault::Reset => (Some(first_answer), EvidenceClass::ConnectionLost, false, "connection reset".to_owned()),
            Fault::Garbage if mode == TlsMode::Implicit => {
                (Some(first_answer), EvidenceClass::TlsFailed, false, "what comes is no TLS".to_owned())
            }
            Fault::Garbage => (Some(first_answer), EvidenceClass::ProtocolError, false, "this is no SMTP".to_owned()),
            Fault::TlsFailed => (handshake, EvidenceClass::TlsFailed, false, "the handshake failed".to_owned()),
            Fault::CertificateExpired => (
                handshake.filter(|_| verifies),
                EvidenceClass::CertificateInvalid,
                false,
                "the certificate has expired".to_owned(),
            ),
            Fault::Unresolvable => match &backend.destination {
                Destination::Host(host) if host.host.parse::<std::net::IpAddr>().is_err() => {
                    (Some(Step::Resolve), EvidenceClass::Unresolvable, false, format!("{} does not exist", host.host))
                }
                Destination::Host(_) | Destination::Service(_) => {
                    return Err(("fault", "only a host name is looked up; this backend has none".to_owned()));
                }
            },
            Fault::ResolverSilent => return Ok(None),
            Fault::NoEndpoints => match &backend.destination {
                Destination::Service(service) => (
                    Some(Step::Resolve),
                    EvidenceClass::NoEndpoints,
                    false,
                    format!("{} has no ready endpoint", service.dns_name),
                ),
                Destination::Host(_) => return Err(("fault", "only a Service has endpoints".to_owned())),
            },
            Fault::OwnFailure => {
                (Some(Step::Connect), EvidenceClass::Inconclusive, false, "no socket to look with".to_owned())
            }
        },
        (_, _, Some(Span(latency))) => return Ok(Some(Effect::Slow(latency))),
        (None, None, None) => return Ok(None),
    };
    Ok(step.filter(|step| *step <= last_step(backend, probe)).map(|step| Effect::Ends {
        step,
        class,
        hangs,
        message: format!("{}: {what}", step.as_str()).into(),
    }))
}
