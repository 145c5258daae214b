//! The command line of `mail-failover probe`, and its arguments in a Job's manifest.

// The texts are for `--help`, which shows backticks as they are.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use mail_failover_contract::document::DocumentedReplyRule;
use mail_failover_core::model::{Backend, Depth, Destination, Probe, ReplyRules, TlsMode};
use mail_failover_replies::{RuleProblem, Rulebook, provider_of};
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_runtime::values::duration;

/// Mount path of the login's Secret.
pub(super) const LOGIN_FOLDER: &str = "/var/run/mail-failover/login";
/// Mount path of the authority's certificates.
pub(super) const CA_FOLDER: &str = "/var/run/mail-failover/ca";
/// File name of the authority's certificates within [`CA_FOLDER`].
pub(super) const CA_FILE: &str = "ca.crt";

/// One probe round at one backend.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ProbeArguments {
    /// DNS name or IP address.
    #[arg(long)]
    pub host: String,

    /// TCP port of the backend.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// TLS mode: None, Opportunistic, StartTLS or Implicit.
    #[arg(long, value_name = "MODE", default_value = "None", value_parser = tls_mode)]
    pub tls: TlsMode,

    /// The name that the certificate must carry; the host by default.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,

    /// PEM certificates of the authority that may have signed it; the public ones by default.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Last stage of the dialogue: Connect, Banner, Ehlo, StartTLS, Auth, MailFrom or RcptTo.
    #[arg(long, default_value = "Ehlo", value_parser = depth)]
    pub depth: Depth,

    /// Address for MAIL FROM.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,

    /// Address for RCPT TO.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,

    /// Folder with the files `username` and `password`, for depths from Auth on; no login by default.
    #[arg(long, value_name = "FOLDER")]
    pub login_folder: Option<PathBuf>,

    /// Provider whose own words replies are read by, besides the general rules; by default the one that the host tells,
    /// or else every provider.
    #[arg(long, value_name = "PROVIDER", value_parser = provider)]
    pub provider: Option<Arc<str>>,

    /// Rules of your own about replies, before all others: JSON of the form of spec.replies of a SendingBackend.
    #[arg(long, value_name = "JSON", value_parser = reply_rules)]
    pub reply_rules: Option<Arc<[DocumentedReplyRule]>>,

    /// Limit for each wait for the server; the connection has 5s at most, the whole dialogue six
    /// times the limit and 55s at most.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,

    /// Our name in EHLO; by default the host's name, or the literal of its address ([192.0.2.7]) if
    /// that name has no dot.
    #[arg(long, value_name = "NAME")]
    pub ehlo_name: Option<String>,

    /// Addresses that the backend may have.
    #[command(flatten)]
    pub guard: DialGuard,

    /// File for the result, one line of JSON, which is also printed.
    #[arg(long, value_name = "FILE")]
    pub result_file: Option<PathBuf>,
}

/// The arguments of a pod that runs this probe at this backend.
pub(super) fn arguments(
    backend: &Backend,
    probe: &Probe,
    has_ca: bool,
    ehlo_name: Option<&str>,
    guard: &DialGuard,
) -> Vec<String> {
    let (host, port, guard) = match &backend.destination {
        Destination::Host(host) => (&host.host, host.port, guard.clone()),
        // The pod sees a host, and its address is among those that are denied to specs.
        Destination::Service(service) => {
            (&service.dns_name, service.client_port, guard.of_service(service.client_port))
        }
    };
    let mut arguments = vec![
        "probe".to_owned(),
        format!("--host={host}"),
        format!("--port={port}"),
        format!("--tls={}", backend.tls.mode.as_str()),
        format!("--server-name={}", backend.tls.server_name),
    ];
    if has_ca {
        arguments.push(format!("--ca-file={CA_FOLDER}/{CA_FILE}"));
    }
    arguments.push(format!("--depth={}", probe.depth.as_str()));
    if let Some(sender) = &probe.envelope.sender {
        arguments.push(format!("--from={sender}"));
    }
    if let Some(recipient) = &probe.envelope.recipient {
        arguments.push(format!("--to={recipient}"));
    }
    if logs_in(backend, probe) {
        arguments.push(format!("--login-folder={LOGIN_FOLDER}"));
    }
    if let Some(provider) = backend.replies.provider.as_deref().filter(|named| provider_of(host) != Some(*named)) {
        arguments.push(format!("--provider={provider}"));
    }
    if !backend.replies.rules.is_empty() {
        arguments.push(format!("--reply-rules={}", json(&backend.replies)));
    }
    arguments.push(format!("--timeout={}ms", probe.timeout.as_millis()));
    if let Some(name) = ehlo_name {
        arguments.push(format!("--ehlo-name={name}"));
    }
    arguments.extend(guard.arguments());
    arguments.push(format!("--result-file={}", super::manifest::RESULT_FILE));
    arguments
}

/// Returns true if the pod needs the login.
pub(super) fn logs_in(backend: &Backend, probe: &Probe) -> bool {
    backend.secret.is_some() && probe.depth.is_counted()
}

/// The rules of a backend as JSON.
fn json(replies: &ReplyRules) -> String {
    let rules: Vec<_> = replies.rules.iter().map(DocumentedReplyRule::from).collect();
    // Lists of strings under names: this cannot fail. Kubernetes reads `$$` and `$(…)` in arguments, JSON's strings
    // have another
    // form for the character.
    serde_json::to_string(&rules).unwrap_or_default().replace('$', "\\u0024")
}

/// Error of rules on the command line.
#[derive(Debug, thiserror::Error)]
enum ReplyRulesError {
    #[error("it is no JSON of such rules: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Rule(#[from] RuleProblem),
}

fn reply_rules(text: &str) -> Result<Arc<[DocumentedReplyRule]>, ReplyRulesError> {
    let rules: Vec<DocumentedReplyRule> = serde_json::from_str(text)?;
    let given = ReplyRules { rules: rules.iter().cloned().map(Into::into).collect(), ..ReplyRules::default() };
    match Rulebook::new(&given).1.into_iter().next() {
        Some(problem) => Err(problem.into()),
        None => Ok(rules.into()),
    }
}

fn provider(name: &str) -> Result<Arc<str>, RuleProblem> {
    Rulebook::of_provider(name).map(|_| name.into())
}

/// Error of an argument that is none of the known words.
#[derive(Debug, thiserror::Error)]
#[error("use one of {known}")]
struct UnknownWord {
    known: String,
}

fn tls_mode(text: &str) -> Result<TlsMode, UnknownWord> {
    let modes = [TlsMode::None, TlsMode::Opportunistic, TlsMode::StartTls, TlsMode::Implicit];
    let found = modes.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| UnknownWord { known: modes.map(TlsMode::as_str).join(", ") })
}

fn depth(text: &str) -> Result<Depth, UnknownWord> {
    let found = Depth::ALL.iter().copied().find(|depth| depth.as_str() == text);
    found.ok_or_else(|| {
        let known: Vec<_> = Depth::ALL.iter().map(|depth| depth.as_str()).collect();
        UnknownWord { known: known.join(", ") }
    })
}
