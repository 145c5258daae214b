//! Effects of replies and faults on the rounds of a probe: the step that a probe reaches, and its result there.
//!
//! The prober's own classifier says what a reply means.

use super::scenario::{CommandReply, Event, ReplyStage, ScenarioDuration, ScenarioFault};
use super::script::{DialogueStep, RoundEffect, bound};
use mail_failover_core::model::{Backend, DeliveryStage, Depth, Destination, EvidenceClass, Probe, Stage, TlsMode};
use mail_failover_replies::{Answered, DecidingRule, EnhancedCode, Reply, Rulebook};
use mail_failover_smtp::classify::probe_class;

/// Error of an event.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct EventError {
    /// Field in question; empty for the event as a whole.
    pub(super) field: &'static str,
    message: String,
}

impl EventError {
    pub(super) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

/// Returns the stage of a delivery that gets a reply.
pub(super) fn delivery_stage(stage: ReplyStage) -> DeliveryStage {
    match stage {
        ReplyStage::Banner => DeliveryStage::Session(Stage::Banner),
        ReplyStage::Ehlo => DeliveryStage::Session(Stage::Ehlo),
        ReplyStage::StartTls => DeliveryStage::Session(Stage::StartTls),
        ReplyStage::Auth => DeliveryStage::Session(Stage::Auth),
        ReplyStage::Mail => DeliveryStage::Session(Stage::Mail),
        ReplyStage::Rcpt => DeliveryStage::Session(Stage::Recipient),
        ReplyStage::Data => DeliveryStage::Data,
    }
}

/// Returns the step of the dialogue at which this stage is answered.
pub(super) fn step(stage: ReplyStage) -> DialogueStep {
    match stage {
        ReplyStage::Banner => DialogueStep::Banner,
        ReplyStage::Ehlo => DialogueStep::Ehlo,
        ReplyStage::StartTls => DialogueStep::StartTls,
        ReplyStage::Auth => DialogueStep::Auth,
        ReplyStage::Mail => DialogueStep::Mail,
        ReplyStage::Rcpt => DialogueStep::Rcpt,
        ReplyStage::Data => DialogueStep::Data,
    }
}

/// A reply as its readers take it.
pub(super) struct ReadReply {
    /// Class for an agent that reads it in the log.
    pub(super) class: EvidenceClass,
    /// Class for a probe that meets it.
    probe_class: EvidenceClass,
    /// One line for people.
    pub(super) message: String,
}

/// Classifies a reply by the rules for this backend, as probes and agents do.
pub(super) fn reply(answers: &CommandReply, backend: &Backend) -> Result<ReadReply, EventError> {
    let (code, text) = answers.reply.split_once([' ', '-']).unwrap_or((answers.reply.as_str(), ""));
    let Some(code) = code.parse::<u16>().ok().filter(|code| (200..600).contains(code)) else {
        let message = format!("`{}` is no reply; write `454 4.7.0 …`", answers.reply);
        return Err(EventError::new("answers.reply", message));
    };
    let answered = match answers.stage {
        ReplyStage::Banner => Answered::Connection,
        ReplyStage::Ehlo => Answered::Hello,
        ReplyStage::StartTls => Answered::StartTls,
        ReplyStage::Auth => Answered::Auth,
        ReplyStage::Mail => Answered::Mail,
        ReplyStage::Rcpt => Answered::Recipient,
        ReplyStage::Data => Answered::Data,
    };
    let (rulebook, _) = Rulebook::new(&backend.replies);
    let reading = rulebook.read(&Reply { stage: Some(answered), code, enhanced: EnhancedCode::of_text(text), text });
    if reading.class == EvidenceClass::Ok {
        return Err(EventError::new("answers.reply", "is a success: nothing would happen"));
    }
    let own = reading.rule.and_then(DecidingRule::own_id);
    let by = own.map_or_else(String::new, |id| format!(" (by {id})"));
    let message = format!("{}: {}{by}", step(answers.stage).as_str(), answers.reply);
    Ok(ReadReply { class: reading.class, probe_class: probe_class(&reading), message })
}

/// Returns the last step of a probe that nothing stops.
fn last_step(backend: &Backend, probe: &Probe) -> DialogueStep {
    match (probe.depth, backend.tls.mode) {
        (Depth::Connect, _) => DialogueStep::Connect,
        (Depth::Banner, _) => DialogueStep::Banner,
        (Depth::Ehlo, _) | (Depth::StartTls, TlsMode::None | TlsMode::Implicit) => DialogueStep::Ehlo,
        (Depth::StartTls, TlsMode::Opportunistic | TlsMode::StartTls) => DialogueStep::StartTls,
        (Depth::Auth, _) => DialogueStep::Auth,
        (Depth::MailFrom, _) => DialogueStep::Mail,
        (Depth::RcptTo, _) => DialogueStep::Rcpt,
    }
}

fn silence(step: DialogueStep, probe: &Probe) -> String {
    format!("no answer within {:?}", bound(step, probe.timeout))
}

/// Returns the effect of an event on the rounds of a probe.
pub(super) fn effect(event: &Event, backend: &Backend, probe: &Probe) -> Result<Option<RoundEffect>, EventError> {
    let mode = backend.tls.mode;
    let first_answer = if mode == TlsMode::Implicit { DialogueStep::ImplicitTls } else { DialogueStep::Banner };
    let handshake = match mode {
        TlsMode::None => None,
        TlsMode::Implicit => Some(DialogueStep::ImplicitTls),
        TlsMode::Opportunistic | TlsMode::StartTls => Some(DialogueStep::StartTls),
    };
    let verifies = matches!(mode, TlsMode::Implicit | TlsMode::StartTls);
    let (step, class, hangs, what) = match (&event.answers, event.fault, event.latency) {
        (Some(answers), ..) => {
            let ReadReply { probe_class: class, message, .. } = reply(answers, backend)?;
            let knows_helo =
                answers.stage == ReplyStage::Ehlo && matches!(mode, TlsMode::None | TlsMode::Opportunistic);
            if knows_helo && matches!(answers.reply.get(..3), Some("500" | "502")) {
                // HELO will do.
                return Ok(None);
            }
            let what = message.split_once(": ").map_or(String::new(), |(_, what)| what.to_owned());
            (Some(self::step(answers.stage)), class, false, what)
        }
        (_, Some(fault), _) => match fault {
            ScenarioFault::Refused => {
                (Some(DialogueStep::Connect), EvidenceClass::ConnectionRefused, false, "connection refused".to_owned())
            }
            ScenarioFault::NoAnswer => {
                let silence = silence(DialogueStep::Connect, probe);
                (Some(DialogueStep::Connect), EvidenceClass::NoAnswer, true, silence)
            }
            ScenarioFault::NoBanner => {
                (Some(first_answer), EvidenceClass::NoAnswer, true, silence(first_answer, probe))
            }
            ScenarioFault::Reset => {
                (Some(first_answer), EvidenceClass::ConnectionLost, false, "connection reset".to_owned())
            }
            ScenarioFault::Garbage if mode == TlsMode::Implicit => {
                (Some(first_answer), EvidenceClass::TlsFailed, false, "what comes is no TLS".to_owned())
            }
            ScenarioFault::Garbage => {
                (Some(first_answer), EvidenceClass::ProtocolError, false, "this is no SMTP".to_owned())
            }
            ScenarioFault::TlsFailed => (handshake, EvidenceClass::TlsFailed, false, "the handshake failed".to_owned()),
            ScenarioFault::CertificateExpired => (
                handshake.filter(|_| verifies),
                EvidenceClass::CertificateInvalid,
                false,
                "the certificate has expired".to_owned(),
            ),
            ScenarioFault::Unresolvable => match &backend.destination {
                Destination::Host(host) if host.host.parse::<std::net::IpAddr>().is_err() => (
                    Some(DialogueStep::Resolve),
                    EvidenceClass::Unresolvable,
                    false,
                    format!("{} does not exist", host.host),
                ),
                Destination::Host(_) | Destination::Service(_) => {
                    return Err(EventError::new("fault", "only a host name is looked up; this backend has none"));
                }
            },
            ScenarioFault::ResolverSilent => return Ok(None),
            ScenarioFault::NoEndpoints => match &backend.destination {
                Destination::Service(service) => (
                    Some(DialogueStep::Resolve),
                    EvidenceClass::NoEndpoints,
                    false,
                    format!("{} has no ready endpoint", service.dns_name),
                ),
                Destination::Host(_) => {
                    return Err(EventError::new("fault", "only a Service has endpoints"));
                }
            },
            ScenarioFault::OwnFailure => {
                (Some(DialogueStep::Connect), EvidenceClass::Inconclusive, false, "no socket to look with".to_owned())
            }
        },
        (_, _, Some(ScenarioDuration(latency))) => return Ok(Some(RoundEffect::Slow(latency))),
        (None, None, None) => return Ok(None),
    };
    Ok(step.filter(|step| *step <= last_step(backend, probe)).map(|step| RoundEffect::Ends {
        step,
        class,
        hangs,
        message: format!("{}: {what}", step.as_str()).into(),
    }))
}
